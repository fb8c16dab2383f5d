//! Which words of an instruction are expanded, in which order.

use super::mount;
use super::{Command, Instruction, Pair, Sources};
use crate::error::Problem;

/// Replaces one word: what the caller makes of its variables and quotes.
pub type Expander<'a, E> = dyn FnMut(&str) -> Result<String, E> + 'a;

impl Command {
    /// Whether [`Command::expand`] does anything: `CMD`, `ENTRYPOINT`, `EXPOSE`, `HEALTHCHECK`, `MAINTAINER`, `ONBUILD`
    /// and `SHELL` have no words that a single result replaces (`EXPOSE` splits words after expansion).
    pub fn expands(&self) -> bool {
        use Instruction as I;
        !matches!(
            self.instruction,
            I::Cmd(_)
                | I::Entrypoint(_)
                | I::Expose(_)
                | I::Healthcheck(_)
                | I::Maintainer(_)
                | I::Onbuild(_)
                | I::Shell(_)
        )
    }

    /// Replaces every word that takes variables by what `expander` makes of it.
    ///
    /// The order is BuildKit's, so that the first error and the set of used variables are the same. Not expanded are
    /// `--from`, `--exclude` and the text of `RUN`. For `RUN` the mounts are read again from
    /// [`Run::mount_flags`](super::Run::mount_flags), the values of their fields passing through `expander`; errors in
    /// them show only now.
    ///
    /// # Errors
    /// The first error of `expander`, or what is wrong with an expanded `--mount`.
    pub fn expand<E: From<Problem>>(&mut self, expander: &mut Expander<'_, E>) -> Result<(), E> {
        match &mut self.instruction {
            Instruction::Env(pairs) => expand_pairs(pairs, expander),
            Instruction::Label(label) if label.literal => Ok(()),
            Instruction::Label(label) => expand_pairs(&mut label.labels, expander),
            Instruction::Add(add) => {
                expand_words([&mut add.chown, &mut add.chmod, &mut add.checksum], expander)?;
                expand_sources(&mut add.sources, expander)
            }
            Instruction::Copy(copy) => {
                expand_words([&mut copy.chown, &mut copy.chmod], expander)?;
                expand_sources(&mut copy.sources, expander)
            }
            Instruction::Arg(args) => {
                for arg in args {
                    arg.key = expander(&arg.key)?;
                    if let Some(value) = &mut arg.value {
                        *value = expander(value)?;
                    }
                }
                Ok(())
            }
            Instruction::Run(run) => {
                let mounts = run.mount_flags.iter().map(|text| mount::parse(text, Some(&mut *expander)));
                run.mounts = mounts.collect::<Result<_, _>>()?;
                Ok(())
            }
            Instruction::Volume(words) => expand_words(words, expander),
            Instruction::StopSignal(word) | Instruction::User(word) | Instruction::Workdir(word) => {
                expand_words([word], expander)
            }
            Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Expose(_)
            | Instruction::Healthcheck(_)
            | Instruction::Maintainer(_)
            | Instruction::Onbuild(_)
            | Instruction::Shell(_) => Ok(()),
        }
    }

    /// Replaces the content of files given by unquoted heredocs of `ADD` and `COPY`.
    ///
    /// BuildKit expands these with quotes and escapes kept, so `expander` should keep them too.
    ///
    /// # Errors
    /// The first error of `expander`.
    pub fn expand_contents<E>(&mut self, expander: &mut Expander<'_, E>) -> Result<(), E> {
        let sources = match &mut self.instruction {
            Instruction::Add(add) => &mut add.sources,
            Instruction::Copy(copy) => &mut copy.sources,
            _ => return Ok(()),
        };
        expand_words(sources.contents.iter_mut().filter(|c| c.expand).map(|c| &mut c.data), expander)
    }
}

fn expand_words<'a, E>(
    words: impl IntoIterator<Item = &'a mut String>,
    expander: &mut Expander<'_, E>,
) -> Result<(), E> {
    for word in words {
        *word = expander(word)?;
    }
    Ok(())
}

fn expand_pairs<E>(pairs: &mut [Pair], expander: &mut Expander<'_, E>) -> Result<(), E> {
    for pair in pairs {
        expand_words([&mut pair.key, &mut pair.value], expander)?;
    }
    Ok(())
}

fn expand_sources<E>(sources: &mut Sources, expander: &mut Expander<'_, E>) -> Result<(), E> {
    expand_words(&mut sources.paths, expander)?;
    expand_words([&mut sources.dest], expander)
}
