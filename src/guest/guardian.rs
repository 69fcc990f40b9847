//! The guardian: a process beside this one that guards the memory of guests when this one dies.

use crate::error::{Error, Limit, Result, sentence};
use crate::os::guardian::{Ask, Keeper, may_signal, process};
use crate::os::{Errno, errno};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a [`Guardian`] does to its clients when the process that serves their memory dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDeath {
    /// Kills the clients, with SIGKILL. A client whose process was not named is frozen, as by [`OnDeath::Freeze`].
    #[default]
    Kill,
    /// Lets the clients' threads wait when they touch a page that is not in memory, until somebody ends them.
    Freeze,
}

/// Names a userfaultfd that a [`Guardian`] watches. No number is used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct WatchId(u64);

/// A process that keeps the clients of this one from reading zeros in place of their pages when this one dies.
///
/// When the last descriptor of a userfaultfd is closed, missing pages read as zero from then on, and threads that wait
/// for one go on with zeros: nothing tells the client that its data is gone. The system closes all descriptors of a
/// process that dies. The guardian has duplicates. It notices when this process ends, for whatever reason, and does
/// what [`OnDeath`] says. It ends when all its clients have ended.
///
/// The guardian is forked from this process and unmaps its copy of the memory at once, so start it early, while there
/// is little memory. It has a session of its own, and blocks all signals but SIGKILL and SIGSTOP. It is in the same
/// control group: if that group is killed as a whole, as by `memory.oom.group`, both die at once, and nobody is left to
/// hold the descriptors.
///
/// Its methods may be called from any thread, one at a time: others wait meanwhile. They are not for signal handlers.
///
/// Dropping it releases all clients, without harm to them. Put all their pages back before, or end the clients. In a
/// forked child, dropping it does nothing.
pub struct Guardian {
    keeper: Keeper,
    kills: bool,
    /// Locked from a question to its answer, which takes long if the guardian was stopped: so it is no ranked lock. No
    /// other lock is taken under it.
    asking: Mutex<Asking>,
}

/// The guardian from one question to the next.
struct Asking {
    /// The last number that was given to a watch.
    last: u64,
    /// Whether the guardian was dismissed, and waited for.
    ended: bool,
}

impl Guardian {
    /// Starts the guardian's process. Needs Linux 5.9.
    ///
    /// # Errors
    /// [`Error::NoMemory`] or [`Error::System`] if the system refuses a step.
    pub fn start(on_death: OnDeath) -> Result<Self> {
        let kills = on_death == OnDeath::Kill;
        let keeper = Keeper::start(kills).map_err(|refused| match refused.0 {
            errno::ENOSYS => {
                Error::System { errno: refused.0, step: sentence(&"starting a guardian: it needs Linux 5.9 or later") }
            }
            _ => Error::system(refused, sentence(&"starting a guardian")),
        })?;
        Ok(Self { keeper, kills, asking: Mutex::new(Asking { last: 0, ended: false }) })
    }

    /// Watches a userfaultfd for the client whose memory is registered with it. The guardian gets a duplicate. Once
    /// this has returned, this process may die.
    ///
    /// Name the client's process if you know it, as by `SO_PEERCRED` of the socket that the descriptor came through.
    /// Its number may go to another process once it has ended. So check afterwards that the client has not closed the
    /// socket, and forget the watch if it has. A client without a name can't be killed. After this process's death the
    /// guardian checks each second whether the memory of such a client is still there, because nothing tells it.
    ///
    /// Waits for the guardian's answer. While the guardian's process is stopped (`SIGSTOP`), this waits, and so do the
    /// other calls on the guardian.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such process. [`Error::System`] with `EPERM` if the client should be killed,
    /// but may not be. [`Error::Limit`] if 4096 userfaultfds are watched already. [`Error::System`] with `EMFILE` if
    /// the guardian can have no more descriptors: raise `RLIMIT_NOFILE` before you start it. [`Error::Io`] if the
    /// guardian has ended. [`Error::Forked`] in a child.
    pub fn watch(&self, userfaultfd: BorrowedFd<'_>, client: Option<i32>) -> Result<WatchId> {
        const NONE: Error =
            Error::NotFound(sentence(&"there is no process with the client's number: the client may have ended"));
        let client = client.map(process).transpose().map_err(|refused| match refused.0 {
            errno::ESRCH => NONE,
            _ => Error::system(refused, sentence(&"pidfd_open of the client")),
        })?;
        if let Some(client) = client.as_ref().filter(|_| self.kills) {
            may_signal(client).map_err(|refused| {
                Error::system(
                    refused,
                    sentence(&"the client may not be killed: run with its user, or use OnDeath::Freeze"),
                )
            })?;
        }
        let mut asking = self.lock()?;
        // 2^64 watches never happen.
        let number = asking.last.wrapping_add(1);
        match &client {
            Some(client) => self.ask(Ask::Watch, number, &[userfaultfd, client.as_fd()]),
            None => self.ask(Ask::Watch, number, &[userfaultfd]),
        }?;
        asking.last = number;
        Ok(WatchId(number))
    }

    /// Stops watching: the client has ended, or all its pages are in place and it needs no server.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not watched: the guardian itself forgets a named client that has ended.
    /// [`Error::Io`] if the guardian has ended. [`Error::Forked`] in a child.
    pub fn forget(&self, watched: WatchId) -> Result<()> {
        let _one = self.lock()?;
        self.ask(Ask::Forget, watched.0, &[])
    }

    /// Returns the number of the guardian's process.
    pub fn pid(&self) -> i32 {
        self.keeper.pid()
    }

    /// Releases all clients without harm to them, and ends the guardian. Dropping it does the same.
    ///
    /// # Errors
    /// [`Error::Io`] if the guardian had ended before. [`Error::Forked`] in a child.
    pub fn dismiss(self) -> Result<()> {
        self.end()
    }

    fn end(&self) -> Result<()> {
        let mut asking = self.lock()?;
        if asking.ended {
            return Ok(());
        }
        let asked = self.ask(Ask::Dismiss, 0, &[]);
        self.keeper.wait();
        asking.ended = true;
        asked
    }

    fn lock(&self) -> Result<MutexGuard<'_, Asking>> {
        if !self.keeper.is_own() {
            return Err(Error::Forked);
        }
        Ok(self.asking.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, ask: Ask, number: u64, fds: &[BorrowedFd<'_>]) -> Result<()> {
        const GONE: Error =
            Error::Io(sentence(&"the guardian has ended, and nobody guards the clients: start another one"));
        const MOST: Error = Error::Limit(Limit::Watched);
        const DESCRIPTORS: Error = Error::System {
            errno: errno::EMFILE,
            step: sentence(&"the guardian has as many descriptors as RLIMIT_NOFILE allowed when it was started"),
        };
        const UNKNOWN: Error = Error::NotFound(sentence(&"it is not watched"));
        self.keeper.ask(ask, number, fds).map_err(|refused: Errno| match refused.0 {
            errno::ESRCH | errno::EPIPE | errno::ECONNRESET => GONE,
            errno::ENOSPC => MOST,
            errno::EMFILE => DESCRIPTORS,
            errno::ENOENT => UNKNOWN,
            _ => Error::system(refused, sentence(&"asking the guardian")),
        })
    }
}

impl fmt::Debug for Guardian {
    /// Prints the number of its process, and what it does on death. Takes no lock.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_death = if self.kills { OnDeath::Kill } else { OnDeath::Freeze };
        formatter
            .debug_struct("Guardian")
            .field("pid", &self.pid())
            .field("on_death", &on_death)
            .finish_non_exhaustive()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // An error means that the guardian has ended already, or that this is a forked child, which has no guardian.
        let _ = self.end();
    }
}
