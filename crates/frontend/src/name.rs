//! What a step is called in the output: `[linux/amd64 base 2/5] RUN make`.

use cooper_dockerfile::shell::{Env, Lexer};
use cooper_oci::Platform;

use crate::env::Vars;

/// The parts of a name that come from the stage.
pub(crate) struct Numbering<'a> {
    pub(crate) stage: &'a str,
    /// Counted steps of the stage; names are not decorated if it is 0.
    pub(crate) total: usize,
    /// Number of this step, from 1.
    pub(crate) index: usize,
    pub(crate) onbuild: bool,
    /// Whether names carry the platform.
    pub(crate) with_platform: bool,
}

/// The full name of a step.
pub(crate) fn full(
    text: &str,
    numbering: &Numbering<'_>,
    platform: Option<&Platform>,
    env: Vars<'_>,
) -> String {
    if numbering.total == 0 {
        return text.to_owned();
    }
    let mut out = "[".to_owned();
    if let (true, Some(platform)) = (numbering.with_platform, platform) {
        out.push_str(&platform.full());
        if let Some(target) = target_of(env) {
            out.push_str(&cross(platform, target));
        }
        out.push(' ');
    }
    if !numbering.stage.is_empty() {
        out.push_str(numbering.stage);
        out.push(' ');
    }
    let width = numbering.total.to_string().len();
    out.push_str(&format!("{:width$}/{}] ", numbering.index, numbering.total));
    if numbering.onbuild {
        out.push_str("ONBUILD ");
    }
    out.push_str(text);
    out
}

/// The first word in upper case.
pub(crate) fn uppercase(text: &str) -> String {
    match text.split_once(' ') {
        Some((first, rest)) => format!("{} {rest}", first.to_uppercase()),
        None => text.to_uppercase(),
    }
}

/// Expands variables where that is possible; the text as it stands otherwise.
pub(crate) fn expand(lexer: &Lexer, text: &str, env: &(impl Env + ?Sized)) -> String {
    lexer.process_word(text, env).map(|word| word.text).unwrap_or_else(|_| text.to_owned())
}

/// The platform that a step builds for, if variables say so: a compiler may run on another one.
fn target_of(env: Vars<'_>) -> Option<Platform> {
    let mut target = Platform::default();
    let mut any = false;
    for key in env.keys() {
        let value = env.lookup(key).unwrap_or_default();
        let slot = match key {
            "TARGETPLATFORM" => match value.parse::<Platform>() {
                Ok(platform) => return Some(platform),
                Err(_) => continue,
            },
            "TARGETOS" => &mut target.os,
            "TARGETARCH" => &mut target.architecture,
            "TARGETVARIANT" => &mut target.variant,
            _ => continue,
        };
        *slot = value.to_owned();
        any = true;
    }
    any.then_some(target)
}

/// `->arm64` where the target differs from the platform that the step runs on.
fn cross(base: &Platform, mut target: Platform) -> String {
    if target.os.is_empty() {
        target.os.clone_from(&base.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&base.architecture);
    }
    let target = target.normalized();
    if target.os != base.os {
        return format!("->{}", target.full());
    }
    if target.architecture == base.architecture {
        return String::new();
    }
    let variant = if target.variant.is_empty() { String::new() } else { format!("/{}", target.variant) };
    format!("->{}{variant}", target.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::EnvList;

    fn numbering(total: usize, index: usize) -> Numbering<'static> {
        Numbering { stage: "base", total, index, onbuild: false, with_platform: true }
    }

    #[test]
    fn names() {
        let linux = "linux/amd64".parse::<Platform>().unwrap();
        let mut env = EnvList::default();
        assert_eq!(
            full("RUN x", &numbering(12, 3), Some(&linux), env.vars()),
            "[linux/amd64 base  3/12] RUN x"
        );
        assert_eq!(full("RUN x", &numbering(0, 1), Some(&linux), env.vars()), "RUN x");
        assert_eq!(full("RUN x", &numbering(9, 1), None, env.vars()), "[base 1/9] RUN x");
        env.set("TARGETARCH", "arm64");
        assert_eq!(
            full("RUN x", &numbering(9, 1), Some(&linux), env.vars()),
            "[linux/amd64->arm64 base 1/9] RUN x"
        );
        env.set("TARGETPLATFORM", "windows/amd64");
        env.set("TARGETARCH", "arm64");
        assert_eq!(
            full("RUN x", &numbering(9, 1), Some(&linux), env.vars()),
            "[linux/amd64->windows/amd64 base 1/9] RUN x"
        );
        assert_eq!(uppercase("copy a b"), "COPY a b");
        assert_eq!(uppercase("run"), "RUN");
    }
}
