//! The solver's state and its one entry.

use crate::error::Misuse;
use crate::protocol::{Event, Request};

/// Decides what to do next. Generic over the caller's error `E`, which it only hands on.
#[derive(Debug)]
pub struct Solver<E> {
    error: std::marker::PhantomData<E>,
}

impl<E: Clone> Default for Solver<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Clone> Solver<E> {
    /// Makes an empty solver.
    pub fn new() -> Self {
        Self { error: std::marker::PhantomData }
    }

    /// Takes in one event and appends what is to be done to `requests`, in order.
    ///
    /// # Errors
    /// [`Misuse`] where the event contradicts earlier ones; nothing is changed and nothing appended then.
    pub fn handle(&mut self, event: Event<E>, requests: &mut Vec<Request<E>>) -> Result<(), Misuse> {
        let _ = (event, requests);
        Ok(())
    }
}
