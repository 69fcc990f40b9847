//! What keeps microVMs from reading zeros when this process dies: another process that has their userfaultfds too.

use super::Result;
use super::system;
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;
use zsalloc::{Guardian, Guest, OnDeath, WatchId};

/// A guardian, if there is one. It is dismissed only where that harms nobody, and so not when this is dropped.
pub struct Guard(Option<(ManuallyDrop<Guardian>, OnDeath)>);

impl Guard {
    /// Starts one, if there is something to be done on this process's death.
    pub fn start(on_death: Option<OnDeath>) -> Result<Self> {
        let Some(on_death) = on_death else { return Ok(Self(None)) };
        let guardian = Guardian::start(on_death).map_err(|error| format!("no guardian: {error}"))?;
        Ok(Self(Some((ManuallyDrop::new(guardian), on_death))))
    }

    /// Has it watch a microVM.
    pub fn watch(&self, guest: &Guest, stream: &UnixStream) -> zsalloc::Result<Option<WatchId>> {
        let Some((guardian, on_death)) = &self.0 else { return Ok(None) };
        // Who is to be killed has to be known. Else the memory alone tells when it has ended, whoever connected for it.
        let client = if *on_death == OnDeath::Kill { system::peer(stream) } else { None };
        guardian.watch(guest.fd(), client).map(Some)
    }

    /// A microVM has ended.
    pub fn forget(&self, watched: Option<WatchId>) {
        if let (Some((guardian, _)), Some(watched)) = (&self.0, watched) {
            // It may have seen that before.
            let _ = guardian.forget(watched);
        }
    }

    /// No microVM is left: nobody needs it any more.
    pub fn dismiss(&mut self) {
        drop(self.0.take().map(|(guardian, _)| ManuallyDrop::into_inner(guardian)));
    }
}
