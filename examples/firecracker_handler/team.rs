//! Threads that serve the page faults of all microVMs. They wait for all of them together, and the system wakes one of
//! them for each fault, so that several serve one microVM if that has much to do.

use super::{Result, system, warn};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zsalloc::Guest;

/// How long a thread waits before it looks for microVMs that were left to serve.
const LOOK: Duration = Duration::from_millis(50);
/// Time until a microVM that could not be served is tried again.
const SOON: Duration = Duration::from_millis(1);

/// A microVM that is served.
struct Member {
    number: u64,
    guest: Arc<Guest>,
    /// The system's last refusal, so that it is reported once.
    refused: Option<zsalloc::Error>,
}

/// What the threads share.
struct Shared {
    /// Wakes one thread for a microVM whose descriptor has something to read.
    ready: OwnedFd,
    members: Mutex<HashMap<RawFd, Member>>,
    /// MicroVMs to serve although their descriptors may have nothing to read.
    again: Mutex<Vec<RawFd>>,
}

/// The threads. They end with the process.
pub struct Team(Arc<Shared>);

impl Team {
    /// Starts the threads.
    pub fn start(threads: usize) -> Result<Self> {
        let ready = system::new_epoll().map_err(|error| format!("epoll_create1: {error}"))?;
        let shared = Arc::new(Shared { ready, members: Mutex::default(), again: Mutex::default() });
        for thread in 0..threads {
            let shared = shared.clone();
            let started = std::thread::Builder::new().name(format!("serve-{thread}")).spawn(move || shared.serve());
            started.map_err(|error| format!("a thread that serves: {error}"))?;
        }
        Ok(Self(shared))
    }

    /// Serves a microVM from now on.
    pub fn add(&self, number: u64, guest: &Arc<Guest>) -> Result<()> {
        let fd = guest.fd().as_raw_fd();
        let member = Member { number, guest: guest.clone(), refused: None };
        lock(&self.0.members).insert(fd, member);
        let added = system::epoll_add(&self.0.ready, guest.fd());
        added.map_err(|error| {
            lock(&self.0.members).remove(&fd);
            format!("epoll_ctl: {error}")
        })
    }

    /// Serves a microVM no more. Its descriptor may stay open for a moment, until no thread serves it.
    pub fn remove(&self, guest: &Guest) {
        system::epoll_remove(&self.0.ready, guest.fd());
        lock(&self.0.members).remove(&guest.fd().as_raw_fd());
    }

    /// Has a microVM served soon although its descriptor may have nothing to read.
    pub fn serve_soon(&self, guest: &Guest) {
        lock(&self.0.again).push(guest.fd().as_raw_fd());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Serves for ever: one turn of a microVM at a time, so that none of them waits long for another one.
    fn serve(&self) {
        let mut limit = LOOK;
        loop {
            let ready = system::epoll_wait(&self.ready, limit);
            let again = std::mem::take(&mut *lock(&self.again));
            limit = if again.is_empty() { LOOK } else { SOON };
            for fd in ready.into_iter().chain(again) {
                let guest = lock(&self.members).get(&fd).map(|member| member.guest.clone());
                let Some(guest) = guest else { continue };
                let served = guest.serve();
                if !matches!(&served, Ok(served) if !served.again) {
                    lock(&self.again).push(fd);
                    limit = if served.is_ok() { Duration::ZERO } else { SOON };
                }
                self.tell(fd, served.err());
            }
        }
    }

    /// Reports a refusal once.
    fn tell(&self, fd: RawFd, refused: Option<zsalloc::Error>) {
        if let Some(member) = lock(&self.members).get_mut(&fd)
            && std::mem::replace(&mut member.refused, refused) != refused
            && let Some(error) = refused
        {
            warn(&format!("microVM {}: {error}", member.number));
        }
    }
}
