//! What can be wrong with a Dockerfile, in the words that BuildKit uses.

use crate::position::{Lines, Span};

/// An error with its place. `Display` gives the text that BuildKit's frontend gives, prefix included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub problem: Problem,
    /// Lines at fault; line 0 stands for a place before the first line.
    pub lines: Lines,
    /// Bytes at fault, where they are known more precisely than by lines.
    pub span: Option<Span>,
    /// Whether the text starts with `dockerfile parse error on line N: `, as errors of single instructions do.
    pub prefixed: bool,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.prefixed {
            write!(f, "dockerfile parse error on line {}: ", self.lines.start)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for Error {}

/// What is wrong, without its place. Texts are BuildKit's, letter for letter, since tools match on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text has no instruction at all.
    #[error("file with no instructions")]
    Empty,
    /// A line has more bytes than BuildKit reads.
    #[error("dockerfile line greater than max allowed size of {max}")]
    LineTooLong {
        /// Largest length that is read, in bytes.
        max: usize,
    },
    /// A heredoc has no line with its terminator.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// A heredoc's word that means two things.
    #[error("internal lexing of heredoc produced inconsistent results: {0}")]
    HeredocWord(String),
    /// A word could not be split or expanded.
    #[error(transparent)]
    Word(#[from] crate::shell::WordError),
    /// `# escape=` with something else than a backslash or a backtick.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    /// The same parser directive twice.
    #[error("only one {0} parser directive can be used")]
    RepeatedDirective(&'static str),
    /// A JSON array with something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// `ENV` or `LABEL` in the old form without a value.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// A word of `ENV` or `LABEL` without an equals sign.
    #[error("Syntax error - can't find = in {0}. Must be of the form: name=value")]
    NoEquals(String),
    /// An instruction that does not exist.
    #[error("unknown instruction: {name}{hint}")]
    UnknownInstruction {
        /// As written.
        name: String,
        /// What may have been meant.
        hint: Suggestion,
    },
    /// A command before the first `FROM`.
    #[error("no build stage in current context")]
    NoStage,
    /// A flag that the instruction does not have.
    #[error("unknown flag: {name}{hint}")]
    UnknownFlag {
        /// As written, with its dashes.
        name: String,
        /// What may have been meant.
        hint: Suggestion,
    },
    /// A word among flags that is none.
    #[error("arg should start with -- : {0}")]
    NotAFlag(String),
    /// A flag twice.
    #[error("duplicate flag specified: {0}")]
    RepeatedFlag(String),
    /// A flag that needs a value.
    #[error("missing a value on flag: {0}")]
    FlagWithoutValue(String),
    /// A boolean flag with another value than `true` or `false`.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    FlagNotBoolean {
        /// As written, with its dashes.
        flag: String,
        /// Its value.
        value: String,
    },
    /// No argument where one is needed.
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    /// Not exactly one argument.
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    /// `COPY` or `ADD` without a destination.
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    /// A heredoc in a place that cannot take one.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// An empty name.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// `SHELL` without JSON.
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    /// A stage name that is not allowed.
    #[error("invalid name for build stage: {0}, name can't start with a number or contain symbols")]
    StageName(String),
    /// `FROM` with a wrong number of words.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChained,
    /// `ONBUILD` with an instruction that it does not take.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    /// `HEALTHCHECK NONE` with arguments.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// `HEALTHCHECK CMD` with nothing after.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    /// `HEALTHCHECK` with another word than `NONE` and `CMD`.
    #[error("Unknown type {0} in HEALTHCHECK (try CMD)")]
    HealthcheckType(String),
    /// An interval below one millisecond.
    #[error("Interval {0} cannot be less than 1ms")]
    IntervalTooShort(String),
    /// A duration that cannot be read; the text says why, in Go's words.
    #[error("time: {0}")]
    Duration(String),
    /// A number that cannot be read.
    #[error("strconv.ParseInt: parsing {value}: {reason}")]
    Number {
        /// What is wrong, in Go's words.
        reason: &'static str,
        /// The text, quoted.
        value: String,
    },
    /// `HEALTHCHECK --retries` below zero.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i64),
    /// An empty path in `VOLUME`.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `RUN --network` with an unknown value.
    #[error("invalid network mode {0}")]
    Network(String),
    /// `RUN --security` with an unknown value.
    #[error("security {0} is not valid")]
    Security(String),
    /// A `--mount` or `--device` that is no comma-separated list.
    #[error("failed to parse csv {what}: {reason}")]
    List {
        /// `mounts` or `devices`.
        what: &'static str,
        /// What is wrong, in Go's words.
        reason: String,
    },
    /// A field that needs `=`.
    #[error("invalid field '{0}' must be a key=value pair")]
    FieldWithoutValue(String),
    /// A field that the mount type does not take.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    FieldForType {
        /// The field's name.
        key: String,
        /// The mount's type.
        kind: &'static str,
    },
    /// A field that does not exist.
    #[error("unexpected key '{key}' in '{field}'{hint}")]
    UnknownField {
        /// The field's name, in lower case.
        key: String,
        /// The whole field.
        field: String,
        /// What may have been meant.
        hint: Suggestion,
    },
    /// A field whose value cannot be read.
    #[error("invalid value for {key}: {value}")]
    FieldValue {
        /// The field's name.
        key: String,
        /// Its value.
        value: String,
    },
    /// A number of a mount that cannot be read.
    #[error("invalid value {value} for {key}")]
    FieldNumber {
        /// The field's name.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A variable where none is expanded.
    #[error("'{0}' doesn't support variable expansion, define alias stage instead")]
    NoExpansion(String),
    /// A mount type that does not exist.
    #[error("unsupported mount type {value}{hint}")]
    MountType {
        /// As written, quoted.
        value: String,
        /// What may have been meant.
        hint: Suggestion,
    },
    /// A sharing mode that does not exist.
    #[error("unsupported sharing value {value}{hint}")]
    Sharing {
        /// As written, quoted.
        value: String,
        /// What may have been meant.
        hint: Suggestion,
    },
    /// `mode`, `uid` or `gid` for a mount that has no such thing.
    #[error("{field} not allowed for {kind} type mounts")]
    FileInfo {
        /// The field's name.
        field: &'static str,
        /// The mount's type, quoted.
        kind: String,
    },
    /// A secret mount with `from`.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret mount with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret mount without a name.
    #[error("invalid secret mount. one of source, target required")]
    SecretUnnamed,
    /// A secret mount with two names.
    #[error("both source and id can't be set")]
    SecretNamedTwice,
    /// `sharing` for a mount that is no cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingForType(&'static str),
    /// `RUN --device` with two names.
    #[error("device name already set to {0}")]
    DeviceNamedTwice(String),
}

/// What may have been meant: the nearest known name. Displays as ` (did you mean X?)`, or as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestion(pub Option<String>);

impl std::fmt::Display for Suggestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(name) => write!(f, " (did you mean {name}?)"),
            None => Ok(()),
        }
    }
}
