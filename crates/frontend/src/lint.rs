//! BuildKit's build checks: the rules, which of them are on, and what they found.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::built::Warning;
use crate::error::LineRange;
use crate::gofmt;

/// One rule of BuildKit's ruleset; name, description and page are its public interface.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    name: &'static str,
    description: &'static str,
    page: &'static str,
    experimental: bool,
}

macro_rules! rules {
    ($($ident:ident $name:literal $page:literal $description:literal)*) => {
        $(pub(crate) const $ident: Rule =
            Rule { name: $name, description: $description, page: $page, experimental: false };)*
    };
}

rules! {
    STAGE_NAME_CASING "StageNameCasing" "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
        "Stage names should be lowercase"
    FROM_AS_CASING "FromAsCasing" "https://docs.docker.com/go/dockerfile/rule/from-as-casing/"
        "The 'as' keyword should match the case of the 'from' keyword"
    NO_EMPTY_CONTINUATION "NoEmptyContinuation" "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/"
        "Empty continuation lines will become errors in a future release"
    CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing"
        "https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/"
        "All commands within the Dockerfile should use the same casing (either upper or lower)"
    DUPLICATE_STAGE_NAME "DuplicateStageName" "https://docs.docker.com/go/dockerfile/rule/duplicate-stage-name/"
        "Stage names should be unique"
    RESERVED_STAGE_NAME "ReservedStageName" "https://docs.docker.com/go/dockerfile/rule/reserved-stage-name/"
        "Reserved words should not be used as stage names"
    JSON_ARGS_RECOMMENDED "JSONArgsRecommended" "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
    MAINTAINER_DEPRECATED "MaintainerDeprecated" "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/"
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
    UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/"
        "FROM command must use declared ARGs"
    WORKDIR_RELATIVE_PATH "WorkdirRelativePath" "https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/"
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes"
    UNDEFINED_VAR "UndefinedVar" "https://docs.docker.com/go/dockerfile/rule/undefined-var/"
        "Variables should be defined before their use"
    MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed"
        "https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/"
        "Multiple instructions of the same type should not be used in the same stage"
    LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/"
        "Legacy key/value format with whitespace separator should not be used"
    INVALID_BASE_IMAGE_PLATFORM "InvalidBaseImagePlatform" ""
        "Base image platform does not match expected target platform"
    REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform"
        "https://docs.docker.com/go/dockerfile/rule/redundant-target-platform/"
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
    SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv"
        "https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/"
        "Sensitive data should not be used in the ARG or ENV commands"
    INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom"
        "https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/"
        "Default value for global ARG results in an empty or invalid base image name"
    FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed"
        "https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/"
        "FROM --platform flag should not use a constant value"
    COPY_IGNORED_FILE "CopyIgnoredFile" "https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/"
        "Attempting to Copy file that is excluded by .dockerignore"
    EXPOSE_PROTO_CASING "ExposeProtoCasing" "https://docs.docker.com/go/dockerfile/rule/expose-proto-casing/"
        "Protocol in EXPOSE instruction should be lowercase"
    EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" "https://docs.docker.com/go/dockerfile/rule/expose-invalid-format/"
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release"
}

/// The only rule that has to be asked for.
pub(crate) const INVALID_DEFINITION_DESCRIPTION: Rule = Rule {
    name: "InvalidDefinitionDescription",
    description: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    page: "https://docs.docker.com/go/dockerfile/rule/invalid-definition-description/",
    experimental: true,
};

impl Rule {
    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

/// Options of the checks, as in `# check=skip=…;error=true`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    experimental: BTreeSet<String>,
    error: bool,
}

impl Config {
    /// Reads options such as `skip=JSONArgsRecommended,StageNameCasing;error=true`.
    pub(crate) fn parse(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(config);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("invalid check option {}", gofmt::quote(part)));
            };
            let names = || value.trim().split(',').map(|name| name.trim().to_owned()).collect();
            match key.trim() {
                "skip" if value.trim() == "all" => config.skip_all = true,
                "skip" => config.skip = names(),
                "experimental" if value.trim() == "all" => config.experimental_all = true,
                "experimental" => config.experimental = names(),
                "error" => {
                    let value = value.trim();
                    config.error = gofmt::parse_bool(value).ok_or_else(|| {
                        format!(
                            "failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax",
                            gofmt::quote(part),
                            gofmt::quote(value)
                        )
                    })?;
                }
                key => return Err(format!("invalid check option {}", gofmt::quote(key))),
            }
        }
        Ok(config)
    }

    fn merged(&self, other: &Config) -> Config {
        Config {
            skip_all: self.skip_all || other.skip_all,
            skip: self.skip.union(&other.skip).cloned().collect(),
            experimental_all: self.experimental_all || other.experimental_all,
            experimental: self.experimental.union(&other.experimental).cloned().collect(),
            error: self.error,
        }
    }
}

/// Collects what the checks find; clones share the findings and may have other rules switched off.
#[derive(Clone, Debug)]
pub(crate) struct Linter {
    config: Config,
    /// `None`: the findings were reported for another platform already.
    found: Option<Rc<RefCell<Vec<Warning>>>>,
}

impl Linter {
    pub(crate) fn new(config: Config, enabled: bool) -> Linter {
        Linter { config, found: enabled.then(Rc::default) }
    }

    /// The linter for one instruction: the comments above it may switch rules off with `# check=skip=RULE`.
    pub(crate) fn for_comments(&self, comments: &[String]) -> Linter {
        let Some(value) = comments.iter().find_map(|comment| check_directive(comment)) else {
            return self.clone();
        };
        // What follows the first space is a remark.
        let options = value.split(' ').next().unwrap_or_default();
        match Config::parse(options) {
            Ok(config) => Linter { config: self.config.merged(&config), found: self.found.clone() },
            Err(_) => self.clone(),
        }
    }

    /// Records a finding, unless its rule is switched off.
    pub(crate) fn report(&self, rule: &'static Rule, lines: &[LineRange], message: String) {
        let Some(found) = &self.found else { return };
        let on = if rule.experimental {
            self.config.experimental_all || self.config.experimental.contains(rule.name)
        } else {
            !self.config.skip_all && !self.config.skip.contains(rule.name)
        };
        if on {
            found.borrow_mut().push(Warning {
                rule: rule.name,
                message,
                description: rule.description,
                url: rule.page,
                lines: lines.to_vec(),
            });
        }
    }

    /// Fails if findings were asked to be errors and there are any.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let Some(found) = &self.found else { return Ok(()) };
        let found = found.borrow();
        if !self.config.error || found.is_empty() {
            return Ok(());
        }
        let mut rules: Vec<&str> = Vec::new();
        for warning in found.iter() {
            if !rules.contains(&warning.rule) {
                rules.push(warning.rule);
            }
        }
        Err(format!("lint violation found for rules: {}", rules.join(", ")))
    }

    /// Everything found so far.
    pub(crate) fn findings(&self) -> Vec<Warning> {
        self.found.as_ref().map(|found| found.borrow().clone()).unwrap_or_default()
    }
}

/// The value of a comment of the form `check = value`.
fn check_directive(comment: &str) -> Option<&str> {
    let (key, value) = comment.trim_start().split_once('=')?;
    let value = value.trim();
    (key.trim_end().eq_ignore_ascii_case("check") && !value.is_empty()).then_some(value)
}

/// Whether a name of an argument or variable sounds like a secret: one of its words, split at `_`, does, and none says
/// that it is harmless.
pub(crate) fn sounds_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    // `_` may not be matched twice: in `a_key_file` the patterns are tried one by one, so words are enough.
    let words = || name.split('_').map(str::to_lowercase);
    words().any(|word| SECRET.contains(&word.as_str()))
        && !words().any(|word| HARMLESS.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let config = Config::parse("skip=A, B;error=true").unwrap();
        assert!(config.error && config.skip.contains("B") && !config.skip_all);
        assert!(Config::parse(" ").unwrap() == Config::default());
        for (text, message) in [
            ("skip", "invalid check option \"skip\""),
            ("reason=x", "invalid check option \"reason\""),
            (
                "error=x",
                "failed to parse check option \"error=x\": strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(Config::parse(text).unwrap_err(), message);
        }
    }

    #[test]
    fn comments_switch_rules_off() {
        let linter = Linter::new(Config { error: true, ..Config::default() }, true);
        let quiet = linter.for_comments(&["a remark".into(), " check=skip=StageNameCasing because".into()]);
        quiet.report(&STAGE_NAME_CASING, &[], "x".into());
        assert!(linter.verdict().is_ok());
        quiet.report(&FROM_AS_CASING, &[], "y".into());
        linter.report(&INVALID_DEFINITION_DESCRIPTION, &[], "z".into());
        assert_eq!(linter.verdict().unwrap_err(), "lint violation found for rules: FromAsCasing");
        assert_eq!(linter.findings().len(), 1);
    }

    #[test]
    fn secrets() {
        for name in ["API_KEY", "token", "db_Password", "GITHUB_TOKEN", "_auth_"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["PUBLIC_KEY", "KEYBOARD", "TOKEN_FILE", "KEY_VERSION", "monkey", ""] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}
