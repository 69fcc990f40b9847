//! The guardian: a process beside the pager's own, for when that one dies.

use crate::error::{Error, Result};
use crate::os::guardian::{Ask, Keeper, may_signal, process};
use crate::os::{Errno, errno};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What becomes of the clients when the process that serves their memory dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDeath {
    /// They are killed, with SIGKILL. One whose process was not named is treated as with [`OnDeath::Freeze`].
    #[default]
    Kill,
    /// Their threads wait when they touch a page that is not in memory, until somebody ends them.
    Freeze,
}

/// Names something that a [`Guardian`] watches. It is not used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct WatchId(u64);

/// A process that sees to it that no other process reads zeros for its pages when this one, which has them, dies.
///
/// When the last descriptor of a userfaultfd is closed, a page that is missing reads as zero from then on, and threads
/// that wait for one go on with zeros: nothing tells the program that its data is gone. The system closes all
/// descriptors of a process that dies. The guardian has duplicates, notices when this process is no more, however it
/// ended, and does then what [`OnDeath`] says. It ends when all its clients have ended.
///
/// It is forked from this process, so start it early, while there is little memory: what it gets a copy of it gives
/// back at once. It has a session of its own, and all signals blocked but SIGKILL and SIGSTOP. It is in the same
/// control group: a group that is killed as a whole, as by `memory.oom.group`, has the guardian killed as well, and if
/// both die at once nobody is left to hold the descriptors.
///
/// Dropping it lets go of all that is watched, without harm to anybody: put all pages back before, or end the clients.
/// In a forked child dropping it does nothing.
pub struct Guardian {
    keeper: Keeper,
    kills: bool,
    /// Held while something is asked.
    state: Mutex<State>,
}

struct State {
    /// The number that was given last.
    last: u64,
    /// The guardian was dismissed, and waited for.
    ended: bool,
}

impl Guardian {
    /// Starts the process. Needs Linux 5.9.
    ///
    /// # Errors
    /// [`Error::NoMemory`] or [`Error::System`] if the system refuses what it takes.
    pub fn start(on_death: OnDeath) -> Result<Self> {
        let kills = on_death == OnDeath::Kill;
        let keeper = Keeper::start(kills).map_err(|refused| match refused.0 {
            errno::ENOSYS => Error::System { errno: refused.0, step: &"starting a guardian, which needs Linux 5.9" },
            _ => Error::system(refused, &"starting a guardian"),
        })?;
        Ok(Self { keeper, kills, state: Mutex::new(State { last: 0, ended: false }) })
    }

    /// Watches a userfaultfd, of which the guardian gets a duplicate, for the process whose memory is under it. When
    /// this returns, this process may die.
    ///
    /// Name the client if it can be known, as by `SO_PEERCRED` of the socket that the descriptor came through. Another
    /// process may be given its number once it has ended: see that it has not closed the socket when this has returned,
    /// and forget it if it has. Without a name the client can't be killed, and after this process's death the guardian
    /// looks each second whether the memory is still there, instead of being told.
    ///
    /// Returns only once the guardian has answered: while somebody has stopped its process (`SIGSTOP`), this waits, and
    /// so do the other calls on the guardian.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such process. [`Error::System`] with `EPERM` if it may not be killed and
    /// should be. [`Error::NoSpace`] if 4096 are watched already, or the guardian may have no more descriptors.
    /// [`Error::Io`] if the guardian is no more. [`Error::Forked`] in a child.
    pub fn watch(&self, userfaultfd: BorrowedFd<'_>, client: Option<i32>) -> Result<WatchId> {
        const NONE: Error = Error::NotFound(&"there is no process with the client's number");
        let client = client.map(process).transpose().map_err(|refused| match refused.0 {
            errno::ESRCH => NONE,
            _ => Error::system(refused, &"pidfd_open of the client"),
        })?;
        if let Some(client) = client.as_ref().filter(|_| self.kills) {
            may_signal(client).map_err(|refused| Error::system(refused, &"the client may not be killed"))?;
        }
        let mut state = self.lock()?;
        // So many are never watched that these would be used up.
        let number = state.last.wrapping_add(1);
        match &client {
            Some(client) => self.ask(Ask::Watch, number, &[userfaultfd, client.as_fd()]),
            None => self.ask(Ask::Watch, number, &[userfaultfd]),
        }?;
        state.last = number;
        Ok(WatchId(number))
    }

    /// Watches it no more: the client has ended, or all its pages are in place and it needs nobody.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not watched: the guardian lets go by itself when a client that was named has ended.
    /// [`Error::Io`] if the guardian is no more. [`Error::Forked`] in a child.
    pub fn forget(&self, watched: WatchId) -> Result<()> {
        let _one = self.lock()?;
        self.ask(Ask::Forget, watched.0, &[])
    }

    /// The number of its process.
    pub fn pid(&self) -> i32 {
        self.keeper.pid()
    }

    /// Lets go of all that is watched without harm, and ends the guardian. Dropping it does the same.
    ///
    /// # Errors
    /// [`Error::Io`] if it was no more before. [`Error::Forked`] in a child.
    pub fn dismiss(self) -> Result<()> {
        self.end()
    }

    fn end(&self) -> Result<()> {
        let mut state = self.lock()?;
        if state.ended {
            return Ok(());
        }
        let asked = self.ask(Ask::Dismiss, 0, &[]);
        self.keeper.wait();
        state.ended = true;
        asked
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        if !self.keeper.is_own() {
            return Err(Error::Forked);
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, ask: Ask, number: u64, fds: &[BorrowedFd<'_>]) -> Result<()> {
        const GONE: Error = Error::Io(&"the guardian is no more: nobody guards the clients");
        const MOST: Error = Error::NoSpace(&"the guardian watches as many as it can");
        const DESCRIPTORS: Error = Error::NoSpace(&"the guardian may have no more descriptors: see RLIMIT_NOFILE");
        const UNKNOWN: Error = Error::NotFound(&"it is not watched");
        self.keeper.ask(ask, number, fds).map_err(|refused: Errno| match refused.0 {
            errno::ESRCH | errno::EPIPE | errno::ECONNRESET => GONE,
            errno::ENOSPC => MOST,
            errno::EMFILE => DESCRIPTORS,
            errno::ENOENT => UNKNOWN,
            _ => Error::system(refused, &"asking the guardian"),
        })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // If it is no more it guards nobody; a child has none.
        let _ = self.end();
    }
}
