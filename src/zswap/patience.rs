//! Whether this thread may wait for a writeback to end.
//!
//! A callback must not wait: another thread's callback may be waiting for the page of this one. The holder of a claim
//! must not wait for that claim: no other thread would end it ([`super::claims::Claims::may_wait`]).

use crate::error::{Error, Result, sentence};
use std::cell::Cell;

/// Whether [`crate::Area::invalidate`], or a load that takes its page, waits for writebacks of these pages that are
/// running.
///
/// With either value the call does not wait in a writeback callback, nor for a claim of its own thread: it fails with
/// [`crate::Error::Busy`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Patience {
    /// The call waits until these writebacks have ended.
    #[default]
    Wait,
    /// The call fails with [`crate::Error::Again`] if such a writeback is running, and changes nothing.
    NoWait,
}

thread_local! {
    /// How many callbacks this thread is in, of any zswap. The first access may allocate, in a library loaded by
    /// dlopen. So what a pager calls from a signal handler never asks.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// How many calls of tiers this thread is in.
    static TIER_DEPTH: Cell<u32> = const { Cell::new(0) };
}

pub(super) const IN_CALLBACK: Error =
    Error::Busy(sentence(&"the page is being written back, and a callback can't wait for that"));
pub(super) const OWN_CLAIM: Error =
    Error::Busy(sentence(&"this thread holds the claim that it would wait for: end it first"));
pub(super) const NOT_NOW: Error =
    Error::Again(sentence(&"the page is being written back, and the caller does not wait"));

/// Marks this thread as being in a callback while it lives.
pub struct InCallback(());

impl InCallback {
    /// Enters a callback.
    pub fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }
}

impl Drop for InCallback {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Marks this thread as being in a call of a tier of the program's own while it lives. Such a call is a callback, too.
pub struct InTier(InCallback);

impl InTier {
    /// Enters a call of a tier.
    pub fn enter() -> Self {
        TIER_DEPTH.set(TIER_DEPTH.get() + 1);
        Self(InCallback::enter())
    }
}

impl Drop for InTier {
    fn drop(&mut self) {
        TIER_DEPTH.set(TIER_DEPTH.get() - 1);
    }
}

/// Refuses a call that uses tiers to a thread that is in a call of one: it would wait for itself. Never called in a
/// signal handler. Not inlined, as `in_callback`: there the variable would be looked up.
#[inline(never)]
pub fn check_not_in_tier() -> Result<()> {
    const IN_TIER: Error =
        Error::Busy(sentence(&"a tier's own functions can't use tiers: make the call when they have returned"));
    if TIER_DEPTH.get() == 0 { Ok(()) } else { Err(IN_TIER) }
}

/// Whether this thread is in a callback. Not inlined: the compiler would look up the variable before it knows whether
/// the caller asks.
#[inline(never)]
pub fn in_callback() -> bool {
    DEPTH.get() != 0
}
