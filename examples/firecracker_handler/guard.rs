//! Keeps microVMs from reading zeros when this process dies: a guardian process that has their userfaultfds too.

use super::Result;
use super::system;
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;
use zsalloc::{Guardian, Guest, OnDeath, WatchId};

/// A guardian, if there is one. Dropping this does not dismiss it: that happens only where it harms no microVM.
pub struct Guard(Option<(ManuallyDrop<Guardian>, OnDeath)>);

impl Guard {
    /// Starts a guardian, if there is something to do when this process dies.
    pub fn start(on_death: Option<OnDeath>) -> Result<Self> {
        let Some(on_death) = on_death else { return Ok(Self(None)) };
        let guardian = Guardian::start(on_death).map_err(|error| format!("no guardian: {error}"))?;
        Ok(Self(Some((ManuallyDrop::new(guardian), on_death))))
    }

    /// Makes the guardian watch a microVM.
    pub fn watch(&self, guest: &Guest, stream: &UnixStream) -> zsalloc::Result<Option<WatchId>> {
        let Some((guardian, on_death)) = &self.0 else { return Ok(None) };
        // To kill a microVM the guardian must know its process. Otherwise the memory alone tells when it has ended,
        // whichever process connected for it.
        let client = if *on_death == OnDeath::Kill { system::peer(stream) } else { None };
        guardian.watch(guest.fd(), client).map(Some)
    }

    /// Tells the guardian that a microVM has ended.
    pub fn forget(&self, watched: Option<WatchId>) {
        if let (Some((guardian, _)), Some(watched)) = (&self.0, watched) {
            // An error means that the guardian has noticed it already.
            let _ = guardian.forget(watched);
        }
    }

    /// Dismisses the guardian when no microVM is left.
    pub fn dismiss(&mut self) {
        drop(self.0.take().map(|(guardian, _)| ManuallyDrop::into_inner(guardian)));
    }
}
