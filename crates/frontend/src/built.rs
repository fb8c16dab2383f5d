use std::sync::Arc;

use cooper_oci::{Digest, Platform};

use crate::error::{LineRange, SourceText};
use crate::request::Ask;

/// What a conversion comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// These questions have to be answered first, in any order and at the same time; then call again with all answers.
    Missing(Vec<Ask>),
    /// The build.
    Done(Box<Built>),
}

/// A converted Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// One result a requested platform, in the order in which they were asked for.
    pub platforms: Vec<BuiltPlatform>,
    /// Whether the result is to be an index: several platforms, or `multi-platform` was asked for.
    pub multi_platform: bool,
    /// Remarks of the build checks, those of the first platform only.
    pub warnings: Vec<Warning>,
    /// The Dockerfile.
    pub source: Arc<SourceText>,
}

/// The build of one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltPlatform {
    /// Platform of the result.
    pub platform: Platform,
    /// BuildKit's name for it in result keys: `linux/arm64`.
    pub id: String,
    /// Encoded `pb.Definition`; empty if the result is an untouched scratch.
    pub definition: Vec<u8>,
    /// Where all stages are asked for: further definitions, of the stages that nothing else is made from.
    pub others: Vec<Vec<u8>>,
    /// Image configuration (`containerimage.config`): everything but the layers and the times of history.
    pub image: Vec<u8>,
    /// Configuration of the base image of the target (`containerimage.base.config`).
    pub base_image: Option<Vec<u8>>,
    /// Value of SOURCE_DATE_EPOCH that holds for this build, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Every step of every used stage, in the order of dispatch. Equal steps are separate entries with the same vertex.
    pub steps: Vec<Step>,
    /// Names of the stages (`stage-N` where there is none) that the target does not need.
    pub unused_stages: Vec<UnusedStage>,
    /// Build arguments that were given and that no `ARG` declares.
    pub unknown_args: Vec<UnknownArg>,
}

/// What a line of the Dockerfile became in the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// LLB digest of the vertex that holds the result of the step.
    pub vertex: Digest,
    /// Name of its stage: as written, `stage-N` without a name.
    pub stage: String,
    /// Index of its stage in the Dockerfile, from 0.
    pub stage_index: usize,
    /// Lines of the instruction; those of `FROM` for an ONBUILD trigger of the base image.
    pub lines: LineRange,
    /// The instruction as one line.
    pub text: String,
    /// What BuildKit shows: `[base 2/3] RUN make`.
    pub name: String,
    /// Number of the step in its stage, from 1, and how many there are; `None` for steps that are not counted.
    pub ordinal: Option<(u32, u32)>,
    /// Whether it is an ONBUILD trigger of the base image.
    pub onbuild: bool,
}

/// A build argument that nothing declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownArg {
    /// Its name.
    pub name: String,
    /// A declared name that was probably meant.
    pub suggestion: Option<String>,
}

/// A stage that is not built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedStage {
    /// Its name: as written, `stage-N` without a name.
    pub name: String,
    /// Lines of its `FROM`.
    pub lines: LineRange,
}

/// A remark of a build check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Name of the rule: `StageNameCasing`.
    pub rule: &'static str,
    /// What is wrong here.
    pub message: String,
    /// What the rule asks for.
    pub description: &'static str,
    /// Page about the rule; empty if there is none.
    pub url: &'static str,
    /// Where, first line first.
    pub lines: Vec<LineRange>,
}
