//! Mistakes that tests plant in the solver to see that the trials find them. In a normal build there
//! is no way to plant one, and `Solver::has` is constantly false.

/// One planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Equal keys do not share a flight.
    NoDedupe,
    /// A flight that nobody waits for is not stopped.
    LostCancel,
    /// The key made of earlier inputs stays when they change.
    WrongKey,
    /// The nonce is left out of the flight's identity.
    NoNonce,
    /// A vertex is bound to what ran before the winner is known, then to the winner.
    DoubleBind,
    /// After a loss only what was found is unbound, what had run stays.
    UnbindHitsOnly,
    /// After a loss a vertex keeps its result whatever its new key.
    KeepAnyway,
    /// Binding an input does not wake the last of its readers.
    Asleep,
    /// A flight is stopped as soon as one of those who wait for it leaves.
    EagerStop,
    /// Results are never freed.
    Leak,
    /// A failure reaches only the first demand.
    FailOne,
    /// A key is taken though its question was about earlier inputs.
    VoidKey,
    /// What was lost is looked up as if nothing had happened.
    ForgetLoss,
    /// A demand that was done is not done again after a loss.
    DoneOnce,
}

#[cfg(test)]
impl Fault {
    pub(crate) const ALL: [Fault; 14] = [
        Fault::NoDedupe,
        Fault::LostCancel,
        Fault::WrongKey,
        Fault::NoNonce,
        Fault::DoubleBind,
        Fault::UnbindHitsOnly,
        Fault::KeepAnyway,
        Fault::Asleep,
        Fault::EagerStop,
        Fault::Leak,
        Fault::FailOne,
        Fault::VoidKey,
        Fault::ForgetLoss,
        Fault::DoneOnce,
    ];
}
