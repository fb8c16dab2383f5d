use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tells many holders that what they do is no longer wanted; clones share one state.
///
/// It goes one way: once cancelled, always cancelled.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

type Action = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    cancelled: bool,
    next: u64,
    actions: BTreeMap<u64, Action>,
}

/// Keeps an action of [`Cancel::on_cancel`] registered; dropping it takes the action back.
#[must_use = "dropping it takes the action back"]
pub struct Registration {
    cancel: Cancel,
    id: Option<u64>,
}

impl Cancel {
    /// Makes one that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels: every registered action runs on this thread, once. Does nothing the second time.
    pub fn cancel(&self) {
        let actions = {
            let mut state = self.state();
            state.cancelled = true;
            std::mem::take(&mut state.actions)
        };
        for (_, action) in actions {
            action();
        }
    }

    /// Tells whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Registers what to do on cancelling: at once if that has happened already. The action must not block.
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) -> Registration {
        let mut state = self.state();
        if state.cancelled {
            drop(state);
            action();
            return Registration { cancel: self.clone(), id: None };
        }
        let id = state.next;
        state.next += 1;
        state.actions.insert(id, Box::new(action));
        Registration { cancel: self.clone(), id: Some(id) }
    }

    /// Makes one that is cancelled with this one, and can be cancelled alone.
    pub fn child(&self) -> Self {
        let child = Self::new();
        let weak = Arc::downgrade(&child.0);
        // The child lives as long as somebody holds it; the registration stays with the parent and finds nothing then.
        let registration = self.on_cancel(move || {
            if let Some(state) = weak.upgrade() {
                Self(state).cancel();
            }
        });
        std::mem::forget(registration.without_drop());
        child
    }

    /// Waits until it is cancelled.
    pub async fn cancelled(&self) {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let _registration = self.on_cancel(move || drop(sender));
        // The sender is dropped, never used: both outcomes mean the same.
        let _ = receiver.await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No action runs under the lock, so that a panic cannot leave the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    fn without_drop(mut self) -> Self {
        self.id = None;
        self
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let action = self.cancel.state().actions.remove(&id);
            // Dropped outside the lock: what it captured may have a registration too.
            drop(action);
        }
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn actions_run_once_and_can_be_taken_back() {
        let cancel = Cancel::new();
        let ran = Arc::new(AtomicUsize::new(0));
        let count = |by: usize| {
            let ran = Arc::clone(&ran);
            cancel.on_cancel(move || {
                ran.fetch_add(by, Ordering::SeqCst);
            })
        };
        let _kept = count(1);
        drop(count(10));
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        cancel.cancel();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        let _late = count(100);
        assert_eq!(ran.load(Ordering::SeqCst), 101);
    }

    #[test]
    fn children_follow_their_parent_and_not_the_other_way() {
        let parent = Cancel::new();
        let (one, two) = (parent.child(), parent.child());
        one.cancel();
        assert!(one.is_cancelled() && !parent.is_cancelled() && !two.is_cancelled());
        parent.cancel();
        assert!(two.is_cancelled());
        assert!(parent.child().is_cancelled());
    }

    #[test]
    fn waiting() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let cancel = Cancel::new();
        let other = cancel.clone();
        runtime.block_on(async {
            let waiter = tokio::spawn(async move { other.cancelled().await });
            tokio::task::yield_now().await;
            assert!(!waiter.is_finished());
            cancel.cancel();
            waiter.await.unwrap();
            cancel.cancelled().await;
        });
    }
}
