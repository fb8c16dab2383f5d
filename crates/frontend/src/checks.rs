//! Build checks that look at the text alone, before anything is converted.

use std::collections::BTreeSet;

use cooper_dockerfile::instruction::Stage;
use cooper_dockerfile::shell::{Expansion, Lexer};
use cooper_dockerfile::{Lines, Node};
use cooper_oci::Platform;

use crate::env::EnvList;
use crate::error::LineRange;
use crate::gofmt::quote;
use crate::lint::{self, Linter};
use crate::reference;
use crate::suggest;

/// Checks single instructions in order, as far as they can be read: `failed` holds the lines of the one that cannot.
pub(crate) fn instructions(nodes: &[Node], failed: Option<Lines>, linter: &Linter) {
    for node in nodes {
        let linter = linter.for_comments(&node.comments);
        let lines = [LineRange::from(node.lines)];
        let bad = failed == Some(node.lines);
        match node.name().as_str() {
            "maintainer" => linter.report(
                &lint::MAINTAINER_DEPRECATED,
                &lines,
                "Maintainer instruction is deprecated in favor of using label".to_owned(),
            ),
            "from" => {
                check_from_casing(node, &lines, &linter);
                if let (false, Some(name)) = (bad, node.args.get(2)) {
                    check_description("FROM", &[&name.text.to_lowercase()], node, &lines, &linter);
                }
            }
            "arg" if !bad => {
                let names: Vec<&str> = node
                    .args
                    .iter()
                    .map(|word| word.text.split_once('=').map_or(word.text.as_str(), |(name, _)| name))
                    .collect();
                check_description("ARG", &names, node, &lines, &linter);
            }
            _ => {}
        }
        if bad {
            return;
        }
    }
}

fn check_from_casing(node: &Node, lines: &[LineRange], linter: &Linter) {
    if let [_, _, name] = node.args.as_slice()
        && name.text != name.text.to_lowercase()
    {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        linter.report(&lint::STAGE_NAME_CASING, lines, message);
    }
    if let [_, middle, _, ..] = node.args.as_slice() {
        check_as_casing(&node.keyword.text, &middle.text, lines, linter);
    }
}

fn check_as_casing(from: &str, middle: &str, lines: &[LineRange], linter: &Linter) {
    let fits = if from == from.to_lowercase() {
        middle == middle.to_lowercase()
    } else {
        from != from.to_uppercase() || middle == middle.to_uppercase()
    };
    if !fits {
        let message = format!("'{middle}' and '{from}' keywords' casing do not match");
        linter.report(&lint::FROM_AS_CASING, lines, message);
    }
}

fn check_description(what: &str, names: &[&str], node: &Node, lines: &[LineRange], linter: &Linter) {
    let (Some(comment), Some(first)) = (node.comments.last(), names.first()) else { return };
    let word = comment.split(' ').next().unwrap_or_default();
    if !names.contains(&word) {
        let example = if names.len() > 1 { "<arg_key>" } else { first };
        let message = format!("Comment for {what} should follow the format: `# {example} <description>`");
        linter.report(&lint::INVALID_DEFINITION_DESCRIPTION, lines, message);
    }
}

/// Stage names that are reserved or used twice.
pub(crate) fn stage_names(stages: &[Stage], linter: &Linter) {
    let mut seen = BTreeSet::new();
    for stage in stages.iter().filter(|stage| !stage.name.is_empty()) {
        let lines = [LineRange::from(stage.lines)];
        let name = quote(&stage.name);
        if matches!(stage.name.as_str(), "context" | "scratch") {
            let message = format!("Stage name should not use the same name as reserved stage {name}");
            linter.report(&lint::RESERVED_STAGE_NAME, &lines, message);
        }
        if !seen.insert(&stage.name) {
            let message = format!("Duplicate stage name {name}, stage names should be unique");
            linter.report(&lint::DUPLICATE_STAGE_NAME, &lines, message);
        }
    }
}

/// Keywords in another case than most of the file.
pub(crate) fn keyword_casing(stages: &[Stage], linter: &Linter) {
    let keywords = || {
        stages.iter().flat_map(|stage| {
            let commands = stage.commands.iter().map(|command| (&command.keyword, command.lines));
            std::iter::once((&stage.keyword, stage.lines)).chain(commands)
        })
    };
    let (mut lower, mut upper) = (0, 0);
    for (keyword, _) in keywords() {
        if *keyword == keyword.to_lowercase() {
            lower += 1;
        } else if *keyword == keyword.to_uppercase() {
            upper += 1;
        }
    }
    for (keyword, lines) in keywords() {
        let (right, casing) = if lower > upper {
            (keyword.to_lowercase(), "lowercase")
        } else {
            (keyword.to_uppercase(), "uppercase")
        };
        if right != *keyword {
            let message =
                format!("Command '{keyword}' should match the case of the command majority ({casing})");
            linter.report(&lint::CONSISTENT_INSTRUCTION_CASING, &[lines.into()], message);
        }
    }
}

/// Base images that are no image names where no build argument is given: `env` has the defaults.
pub(crate) fn default_bases(stages: &[Stage], lexer: &Lexer, env: &EnvList, linter: &Linter) {
    for stage in stages {
        let Ok(word) = lexer.process_word(&stage.base, env) else { return };
        if reference::parse(&word.text).is_err() {
            let message =
                format!("Default value for ARG {} results in empty or invalid base image name", stage.base);
            linter.report(&lint::INVALID_DEFAULT_ARG_IN_FROM, &[stage.lines.into()], message);
        }
    }
}

/// Variables of `FROM` that are not declared.
pub(crate) fn undeclared_in_from(
    unmatched: &BTreeSet<String>,
    env: &EnvList,
    declared: &BTreeSet<String>,
    lines: LineRange,
    linter: &Linter,
) {
    let known: Vec<&str> = declared
        .iter()
        .map(String::as_str)
        .chain(env.vars().keys().filter(|key| !declared.contains(*key)))
        .collect();
    for name in unmatched.iter().filter(|name| !known.contains(&name.as_str())) {
        let hint = match suggest::nearest(name, known.iter().copied()) {
            Some(near) => format!(" (did you mean {near}?)"),
            None => String::new(),
        };
        let message = format!("FROM argument '{name}' is not declared{hint}");
        linter.report(&lint::UNDEFINED_ARG_IN_FROM, &[lines], message);
    }
}

/// `FROM --platform` that says what holds anyway, or that cannot be changed from outside.
pub(crate) fn platform_flag(stage: &Stage, word: &Expansion, env: &EnvList, linter: &Linter) {
    let lines = [LineRange::from(stage.lines)];
    if word.matched.len() == 1 && word.unmatched.is_empty() && word.matched.contains("TARGETPLATFORM") {
        if word.text == env.lookup("TARGETPLATFORM").unwrap_or_default() {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                stage.platform
            );
            linter.report(&lint::REDUNDANT_TARGET_PLATFORM, &lines, message);
        }
        return;
    }
    if !word.matched.is_empty() || !word.unmatched.is_empty() {
        return;
    }
    let Ok(platform) = word.text.parse::<Platform>() else { return };
    if !stage.name.contains(&platform.os) && !stage.name.contains(&platform.architecture) {
        let message = format!("FROM --platform flag should not use constant value {}", quote(&word.text));
        linter.report(&lint::FROM_PLATFORM_FLAG_CONST_DISALLOWED, &lines, message);
    }
}
