use super::Platform;

/// Tells which platforms of images run on one platform, and which of them fits best.
///
/// The list of what a processor can run, best first: `amd64` runs its lower levels and `386`; `arm/v7` runs `v6`
/// and `v5`; `arm64` runs the earlier minor versions and 32-bit `arm/v8` and below. Windows compares versions by
/// Microsoft's compatibility table. An image's `os.features` must all be wanted.
#[derive(Debug, Clone)]
pub struct PlatformMatcher {
    wanted: Vec<Platform>,
}

impl PlatformMatcher {
    /// Makes the list of what `platform` runs.
    pub fn new(platform: &Platform) -> Self {
        Self { wanted: list(&platform.normalized()).iter().map(Platform::normalized).collect() }
    }

    /// Makes a list that has `platform` alone: nothing that merely also runs there.
    pub fn strict(platform: &Platform) -> Self {
        Self { wanted: vec![platform.normalized()] }
    }

    /// Returns how well an image for `image` fits: 0 is best, `None` does not run.
    pub fn rank(&self, image: &Platform) -> Option<usize> {
        let image = image.normalized();
        self.wanted.iter().position(|wanted| fits(wanted, &image))
    }

    /// Returns the best of `images`; of equally good ones that with most features, then the first.
    pub fn best<'a, T>(
        &self,
        images: impl IntoIterator<Item = &'a T>,
        platform: impl Fn(&'a T) -> &'a Platform,
    ) -> Option<&'a T> {
        images
            .into_iter()
            .filter_map(|image| {
                let platform = platform(image);
                Some(((self.rank(platform)?, usize::MAX - platform.os_features.len()), image))
            })
            .min_by_key(|(score, _)| *score)
            .map(|(_, image)| image)
    }
}

fn fits(wanted: &Platform, image: &Platform) -> bool {
    wanted.os == image.os
        && wanted.architecture == image.architecture
        && wanted.variant == image.variant
        && (wanted.os != "windows" || windows_fits(&wanted.os_version, &image.os_version))
        && features_fit(wanted, image)
}

fn features_fit(wanted: &Platform, image: &Platform) -> bool {
    // Windows images name `win32k` although every host has it.
    let needs = |feature: &&String| !(image.os == "windows" && *feature == "win32k");
    image.os_features.iter().filter(needs).all(|feature| wanted.os_features.contains(feature))
}

fn list(platform: &Platform) -> Vec<Platform> {
    let with = |architecture: &str, variant: &str| Platform {
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
        ..platform.clone()
    };
    match platform.architecture.as_str() {
        "amd64" => {
            let mut out = vec![platform.clone()];
            out.extend(below(&platform.variant, 1).map(|level| with("amd64", &format!("v{level}"))));
            out.push(with("386", ""));
            out
        }
        "arm" => {
            let mut out = vec![platform.clone()];
            out.extend(below(&platform.variant, 5).map(|level| with("arm", &format!("v{level}"))));
            out
        }
        "arm64" => {
            let Some(steps) = arm64_steps(&platform.variant) else {
                return list(&with("arm", &platform.variant));
            };
            let mut out: Vec<_> = steps
                .into_iter()
                .map(|(major, minor)| match minor {
                    0 => with("arm64", &format!("v{major}")),
                    minor => with("arm64", &format!("v{major}.{minor}")),
                })
                .collect();
            out.extend(list(&with("arm", "v8")));
            out
        }
        _ => vec![platform.clone()],
    }
}

/// The levels under `variant` down to `lowest`, best first.
fn below(variant: &str, lowest: u32) -> impl Iterator<Item = u32> + use<> {
    let level = variant.strip_prefix('v').unwrap_or(variant).parse::<u32>().unwrap_or(0);
    // No processor has a hundred levels; a made-up variant must not make a list of millions.
    let level = if level > 100 { 0 } else { level };
    (lowest..level).rev()
}

/// The versions of the 64-bit Arm architecture that `variant` includes: v9.N includes v8.(N+5), up to v8.9.
fn arm64_steps(variant: &str) -> Option<Vec<(u32, u32)>> {
    let text = if variant.is_empty() { "v8" } else { variant };
    let (major, minor) = text.strip_prefix('v')?.split_once('.').unwrap_or((text.strip_prefix('v')?, "0"));
    let minor = minor.parse::<u32>().ok()?;
    let down = |major: u32, from: u32| (0..=from).rev().map(move |minor| (major, minor));
    match (major, minor) {
        ("8", 0..=9) => Some(down(8, minor).collect()),
        ("9", 0..=7) => Some(down(9, minor).chain(down(8, (minor + 5).min(9))).collect()),
        _ => None,
    }
}

/// Microsoft's rule for process isolation: before Server 2022 the build must be equal; since then a host runs
/// containers back to the previous long-term release.
fn windows_fits(host: &str, container: &str) -> bool {
    const LONG_TERM: [u16; 2] = [20348, 26100];
    let (Some(host), container) = (windows_version(host), windows_version(container)) else { return true };
    let Some(container) = container else { return false };
    if (host.0, host.1) != (container.0, container.1) {
        return false;
    }
    if host.2 < LONG_TERM[0] {
        return host.2 == container.2;
    }
    let oldest = LONG_TERM.into_iter().rev().find(|release| host.2 > *release).unwrap_or(LONG_TERM[0]);
    (oldest..=host.2).contains(&container.2)
}

fn windows_version(text: &str) -> Option<(u8, u8, u16)> {
    let mut parts = text.splitn(4, '.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
