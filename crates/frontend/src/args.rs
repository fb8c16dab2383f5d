//! Arguments before the first stage: predefined ones, `ARG` lines, values from the command line.

use std::collections::{BTreeMap, BTreeSet};

use cooper_dockerfile::instruction::{ArgPair, Command, Instruction};
use cooper_dockerfile::shell::Lexer;
use cooper_oci::Platform;

use crate::env::{EnvBuilder, EnvList};
use crate::error::LineRange;
use crate::failure::{Step, Stop};
use crate::outline::Facts;

/// Arguments that configure the scan of an image and never become variables of steps.
pub(crate) const NOT_IN_ENV: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The platforms of one conversion.
#[derive(Clone, Debug)]
pub(crate) struct Platforms {
    /// Where steps run.
    pub(crate) build: Platform,
    /// What the result is for.
    pub(crate) target: Platform,
    /// Whether nobody asked for the target: it is the build platform, and a base image may decide otherwise.
    pub(crate) implicit: bool,
}

/// Variables that every Dockerfile may use before its first stage without declaring them.
pub(crate) fn predefined(platforms: &Platforms, given: &BTreeMap<String, String>, target: &str) -> EnvList {
    let (build, goal) = (&platforms.build, &platforms.target);
    let mut env = EnvList::default();
    for (key, value) in [
        // This one names no version of the operating system.
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", build.os_version.clone()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", build.variant.clone()),
        ("TARGETPLATFORM", goal.full()),
        ("TARGETOS", goal.os.clone()),
        ("TARGETOSVERSION", goal.os_version.clone()),
        ("TARGETARCH", goal.architecture.clone()),
        ("TARGETVARIANT", goal.variant.clone()),
        ("TARGETSTAGE", if target.is_empty() { "default".to_owned() } else { target.to_owned() }),
    ] {
        env.set(key, given.get(key).unwrap_or(&value));
    }
    env
}

/// What the `ARG`s before the first stage come to.
pub(crate) struct Globals {
    /// All variables that hold there.
    pub(crate) env: EnvList,
    /// Names of the `ARG`s, those without a value included.
    pub(crate) names: BTreeSet<String>,
    /// What an outline says of them.
    pub(crate) facts: Facts,
}

/// Adds the `ARG`s before the first stage.
pub(crate) fn declare(
    env: &EnvList,
    lexer: &Lexer,
    commands: &[Command],
    given: &BTreeMap<String, String>,
) -> Step<Globals> {
    if commands.is_empty() {
        return Ok(Globals { env: env.clone(), names: BTreeSet::new(), facts: Facts::default() });
    }
    let mut env = EnvBuilder::from(env);
    let mut names = BTreeSet::new();
    let mut facts = Facts::default();
    for command in commands {
        let Instruction::Arg(pairs) = &command.instruction else { continue };
        for pair in pairs {
            names.insert(pair.key.clone());
            let lines = [LineRange::from(command.lines)];
            let mut refers = BTreeSet::new();
            let value = match (given.get(&pair.key), &pair.value) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let word = lexer.process_word(default, &env);
                    let word = word.map_err(|error| Stop::from(error).at(&lines))?;
                    refers = word.matched;
                    Some(word.text)
                }
                (None, None) => None,
            };
            facts.declare(&ArgPair { value: value.clone(), ..pair.clone() }, &lines, refers);
            if let Some(value) = value {
                env.set(&pair.key, &value);
            }
        }
    }
    Ok(Globals { env: env.finish(), names, facts })
}

/// Proxies that were given as build arguments. They reach steps without being part of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    pub(crate) http: String,
    pub(crate) https: String,
    pub(crate) ftp: String,
    pub(crate) no: String,
    pub(crate) all: String,
}

impl Proxies {
    /// `None` if no proxy argument is given. Names count in any case; of several spellings the last by byte order wins.
    pub(crate) fn from_args(given: &BTreeMap<String, String>) -> Option<Proxies> {
        let mut proxies = Proxies::default();
        let mut any = false;
        for (key, value) in given {
            let slot = match key.to_lowercase().as_str() {
                "http_proxy" => &mut proxies.http,
                "https_proxy" => &mut proxies.https,
                "ftp_proxy" => &mut proxies.ftp,
                "no_proxy" => &mut proxies.no,
                "all_proxy" => &mut proxies.all,
                _ => continue,
            };
            *slot = value.clone();
            any = true;
        }
        any.then_some(proxies)
    }
}
