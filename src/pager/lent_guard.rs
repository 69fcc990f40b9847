//! Lending threads to a pager: by a guard that gives the thread back when it is dropped.

use super::core::Core;
use super::lent_count::{Leave, Ticket};
use super::options::Duty;
use super::pager_calls::Pager;
use crate::error::{Error, Result, sentence};
use crate::heap::{self, Counted};
use crate::os::blocked::Blocked;
use crate::os::thread_start::ThreadStarted;
use std::fmt;

/// A thread that works for a pager, from [`Pager::lend`] or [`Pager::lend_own`]. Dropping it gives the thread back.
///
/// If [`Pager::lend`] started the thread, the drop waits for its end, which comes once it has finished what it has
/// begun: serving one touch, evicting some pages, or discarding the rest of a large range that was given back. The drop
/// must not be in a writeback callback, and the thread that drops must hold no lock that a writeback callback takes.
/// Other lent threads go on.
///
/// A thread that is lent ends by itself once its pager and all of the pager's [`Region`]s, [`PagedMemory`] and holds
/// are dropped. Forgetting the guard ([`std::mem::forget`]) leaves the thread lent until then. If that is the
/// thread of a [`LentWork`] in a [`std::thread::scope`], the scope waits as long: for ever if the pager is dropped only
/// after the scope.
///
/// In a forked child, where the thread does not exist, the drop does nothing.
///
/// [`Region`]: crate::Region
/// [`PagedMemory`]: crate::PagedMemory
#[must_use = "dropping it gives the thread back: keep it for as long as the thread should work"]
pub struct Lent {
    core: Counted<Core>,
    duty: Duty,
    leave: Counted<Leave>,
    thread: Option<ThreadStarted>,
}

/// The work of a thread that is lent to a pager: [`LentWork::run`] does it in the thread that calls it.
#[must_use = "call `run` in the thread that is to work for the pager"]
pub struct LentWork {
    core: Counted<Core>,
    duty: Duty,
    leave: Counted<Leave>,
    /// Whether the thread is promised, and is not counted as lent yet.
    promised: bool,
    /// There once the thread is counted, until it works.
    ticket: Option<Ticket>,
}

impl Pager {
    /// Starts a thread that works for the pager until the returned guard is dropped, which waits for its end.
    ///
    /// With [`Duty::All`] or [`Duty::Serve`] it reads the events of what owners do with their memory, which wait for
    /// that, and serves touches in [`FaultMode::Threads`](crate::FaultMode::Threads). It counts as lent before this
    /// returns. It blocks all signals but those of faults: the program's other threads take the rest. In addition to
    /// the system calls that a pager makes, starting it takes those of `pthread_create`.
    ///
    /// Bind the guard to a name, such as `_lent`: `let _ = pager.lend(..)?` gives the thread back at once, and compiles
    /// without a warning.
    ///
    /// # Errors
    /// [`Error::System`] if the system starts no thread, as with `EAGAIN` if the process may have no more.
    /// [`Error::NoMemory`] if malloc has no memory. [`Error::Forked`] in a child.
    ///
    /// # Examples
    /// A panic or a `?` gives the thread back as well, and nothing waits for ever:
    /// ```
    /// use zsalloc::{Duty, Pager, PagerOptions};
    ///
    /// # fn main() -> zsalloc::Result<()> {
    /// let pager = Pager::new("example", &PagerOptions::default())?;
    /// let lent = pager.lend(Duty::All)?;
    /// let mut memory = pager.map(1 << 20)?;
    /// memory.fill(1);
    /// drop(lent);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lend(&self, duty: Duty) -> Result<Lent> {
        const NO_THREAD: &str = "pthread_create of a lent thread: the process may have no more threads, or no memory \
                                 for a stack";
        let (mut lent, mut work) = self.lend_own(duty)?;
        // The thread begins, or this fails and drops the work.
        work.count();
        // The thread inherits that signals are blocked, so that it never runs a handler.
        let _signals = Blocked::new();
        let started = heap::boxed(move || work.run()).map(|work| self.0.os.start_thread(work))?;
        lent.thread = Some(started.map_err(|errno| Error::system(errno, sentence(&NO_THREAD)))?);
        Ok(lent)
    }

    /// Lends a thread of the program's own: [`LentWork::run`], called in that thread, works for the pager and returns
    /// once the [`Lent`] is dropped. Dropping the `Lent` does not wait for it.
    ///
    /// The thread counts as lent while it is in [`LentWork::run`]. A work that is never run lends nothing. In
    /// [`FaultMode::Threads`](crate::FaultMode::Threads), [`Pager::map`] and [`Pager::add_region`] wait up to 5 seconds
    /// for such a thread to begin if no other serves touches. So does [`Pager::add_tier`] in
    /// [`FaultMode::Sigbus`](crate::FaultMode::Sigbus) for one that calls tiers.
    ///
    /// In a [`std::thread::scope`], create the `Lent` inside of the scope's closure. Then it is dropped before the
    /// scope waits for the thread, also after a panic or a `?`. **A `Lent` that was made outside of the scope, or is
    /// forgotten, makes the scope wait for ever**, because nothing tells the thread to end:
    ///
    /// ```
    /// # use zsalloc::{Duty, Pager, PagerOptions};
    /// # fn main() -> zsalloc::Result<()> {
    /// # let pager = Pager::new("example", &PagerOptions::default())?;
    /// std::thread::scope(|threads| {
    ///     let (_lent, work) = pager.lend_own(Duty::All)?;
    ///     threads.spawn(|| work.run());
    ///     let mut memory = pager.map(1 << 20)?;
    ///     memory.fill(1);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// No thread works without a guard that ends it:
    ///
    /// ```compile_fail,E0599
    /// # use zsalloc::{Duty, Pager, PagerOptions};
    /// # let pager = Pager::new("example", &PagerOptions::default()).unwrap();
    /// std::thread::scope(|threads| {
    ///     threads.spawn(|| pager.run(Duty::All));
    ///     panic!("the scope would wait for the thread for ever");
    /// });
    /// ```
    ///
    /// # Errors
    /// [`Error::NoMemory`] if malloc has no memory. [`Error::Forked`] in a child.
    pub fn lend_own(&self, duty: Duty) -> Result<(Lent, LentWork)> {
        self.check_usable()?;
        let leave = Counted::new(Leave::default())?;
        let core = self.0.core().clone();
        core.lending.promise(duty);
        let work = LentWork { core: core.clone(), duty, leave: leave.clone(), promised: true, ticket: None };
        Ok((Lent { core, duty, leave, thread: None }, work))
    }
}

impl LentWork {
    /// Works for the pager until the [`Lent`] that came with this is dropped, or the pager is closed. Returns at once
    /// if that has happened, and in a forked child.
    ///
    /// The thread must not touch memory of a region, and is not cancelled.
    ///
    /// The thread blocks all signals meanwhile but those of faults. It runs no handlers of the program's, and
    /// SIGTERM and SIGINT do not end the process by it, also where their action is the default. **If this is the
    /// process's only thread, or all others block them too, only SIGKILL ends the process.** With [`Pager::lend`] the
    /// program's own threads go on to take the signals.
    pub fn run(mut self) {
        // The drop ends the promise.
        if self.core.guard.in_child() || self.leave.is_told() {
            return;
        }
        self.count();
        if let Some(ticket) = self.ticket.take() {
            let _signals = Blocked::new();
            self.core.work(&self.core.lending.at_work(ticket, &self.leave));
        }
    }

    /// Counts the thread as lent, if it is not.
    fn count(&mut self) {
        if self.ticket.is_none() {
            self.ticket = Some(self.core.lending.count(self.duty));
            self.end_promise();
        }
    }

    fn end_promise(&mut self) {
        if std::mem::take(&mut self.promised) {
            self.core.lending.end_promise(self.duty);
        }
    }
}

/// Whether this is a forked child. If so, a reference to the parts is kept for ever: a pager that was closed before the
/// fork leaves the last one to a guard, and dropping the parts would unmap what the child has at the addresses of the
/// staging range.
fn keep_in_child(core: &Counted<Core>) -> bool {
    let in_child = core.guard.in_child();
    if in_child {
        std::mem::forget(core.clone());
    }
    in_child
}

impl Drop for LentWork {
    fn drop(&mut self) {
        if keep_in_child(&self.core) {
            return;
        }
        if let Some(ticket) = self.ticket {
            self.core.lending.uncount(ticket);
        }
        self.end_promise();
        self.leave.went();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // In a child the thread does not exist, and the descriptor that wakes threads is the parent's as well.
        if keep_in_child(&self.core) {
            return;
        }
        self.core.lending.tell(&self.leave);
        if let Some(thread) = self.thread.take() {
            self.core.lending.wait_for(&self.leave);
            thread.join();
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lent").field("duty", &self.duty).finish_non_exhaustive()
    }
}

impl fmt::Debug for LentWork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LentWork").field("duty", &self.duty).finish_non_exhaustive()
    }
}
