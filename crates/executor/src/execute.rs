use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cooper_layer::{LayerId, TimeWindow};
use tokio::sync::Semaphore;

use crate::cancel::Cancel;
use crate::error::StepError;
use crate::step::Step;

/// What runs steps: here or elsewhere, bounded or choosing among others.
pub trait Executor: Send + Sync {
    /// Runs a step to its end.
    ///
    /// A process that ran and failed is no error here: [`Done::exit`] says so, and there are no outputs then. Dropping
    /// the future is the same as cancelling, except that nobody hears of the end.
    fn run<'a>(&'a self, step: &'a Step, io: Io, cancel: &'a Cancel) -> RunFuture<'a>;
}

/// What [`Executor::run`] gives back.
pub type RunFuture<'a> = Pin<Box<dyn Future<Output = Result<Done, StepError>> + Send + 'a>>;

/// Which of the two outputs of a process a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

type Callback = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// Where the output of a step goes, and what others know it by. Standard input is empty.
pub struct Io {
    pub(crate) output: Callback,
    pub(crate) name: Option<String>,
    pub(crate) held: Option<OwnedFd>,
}

impl Io {
    /// Calls `output` with each piece as it is read, at most 64 KiB, in the order in which it was seen. A call that
    /// takes its time slows the step down: nothing is dropped and nothing piles up here.
    pub fn new(output: impl FnMut(Stream, &[u8]) + Send + 'static) -> Self {
        Self { output: Box::new(output), name: None, held: None }
    }

    /// Names the run: its container and its control group are called `cooper-NAME`, so that [`groups::clear`] finds them
    /// when whoever runs it has died. The name must be one of its own on this machine, of letters and digits.
    ///
    /// [`groups::clear`]: crate::groups::clear
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Keeps a descriptor open until the last process of the step is gone, also when the builder dies first: a lock on it
    /// tells others. Processes of the step itself do not have it.
    pub fn holding(mut self, descriptor: OwnedFd) -> Self {
        self.held = Some(descriptor);
        self
    }

    /// Reads the output and throws it away.
    pub fn discard() -> Self {
        Self::new(|_, _| {})
    }
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Io")
    }
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// How the process ended.
    pub exit: Exit,
    /// What was written, one for each mount with `output`, in their order; empty if the process failed.
    pub outputs: Vec<Output>,
    /// What it cost.
    pub usage: Usage,
    /// When it ran, for the rule that times of this window mean "now".
    pub window: TimeWindow,
    /// Who ran it, for a person: `crun 1.8.1`.
    pub served_by: String,
}

/// What a step wrote to one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The place of the mount in [`Step::mounts`].
    pub mount: usize,
    /// The layer, to be put on top of the mount's own layers.
    pub layer: LayerId,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 and the number of the signal for a process that a signal ended.
    pub code: i32,
    /// The code counts as success.
    pub success: bool,
}

/// What a step cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// From start to end.
    pub wall: Duration,
    /// Processor time in user mode, the runtime's own included.
    pub user: Duration,
    /// Processor time in the kernel, likewise.
    pub system: Duration,
}

/// Runs at most so many steps of another executor at a time; the others wait, and may be cancelled meanwhile.
#[derive(Debug, Clone)]
pub struct Limited<E> {
    inner: E,
    slots: Arc<Semaphore>,
}

impl<E: Executor> Limited<E> {
    /// Limits `inner` to `slots` steps at a time, at least one.
    pub fn new(inner: E, slots: usize) -> Self {
        Self { inner, slots: Arc::new(Semaphore::new(slots.clamp(1, Semaphore::MAX_PERMITS))) }
    }
}

impl<E: Executor> Executor for Limited<E> {
    fn run<'a>(&'a self, step: &'a Step, io: Io, cancel: &'a Cancel) -> RunFuture<'a> {
        Box::pin(async move {
            let _slot = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(StepError::Cancelled),
                // The semaphore is never closed.
                slot = self.slots.acquire() => slot.map_err(|_| StepError::Cancelled)?,
            };
            self.inner.run(step, io, cancel).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cooper_layer::Timestamp;

    use super::*;

    #[derive(Default)]
    struct Counting {
        running: AtomicUsize,
        most: AtomicUsize,
    }

    impl Executor for Counting {
        fn run<'a>(&'a self, _: &'a Step, _: Io, _: &'a Cancel) -> RunFuture<'a> {
            Box::pin(async move {
                let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.running.fetch_sub(1, Ordering::SeqCst);
                Ok(Done {
                    exit: Exit { code: 0, success: true },
                    outputs: vec![],
                    usage: Usage::default(),
                    window: TimeWindow { start: Timestamp::EPOCH, end: Timestamp::EPOCH },
                    served_by: "test".into(),
                })
            })
        }
    }

    #[test]
    fn limit_holds_and_waiting_can_be_cancelled() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limited = Arc::new(Limited::new(Counting::default(), 2));
            let steps: Vec<_> = (0..7)
                .map(|_| {
                    let limited = Arc::clone(&limited);
                    tokio::spawn(async move {
                        limited.run(&Step::new(vec![], vec![]), Io::discard(), &Cancel::new()).await
                    })
                })
                .collect();
            for step in steps {
                step.await.unwrap().unwrap();
            }
            assert_eq!(limited.inner.most.load(Ordering::SeqCst), 2);

            let cancel = Cancel::new();
            cancel.cancel();
            let result = limited.run(&Step::new(vec![], vec![]), Io::discard(), &cancel).await;
            assert!(matches!(result, Err(StepError::Cancelled)));
        });
    }
}
