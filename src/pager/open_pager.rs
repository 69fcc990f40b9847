//! What a pager, its regions and its memory share, and what happens when the last of them goes.

use super::core::Core;
use super::options::Removal;
use super::sigbus_pagers;
use crate::error::{Error, Result};
use crate::heap::Counted;
use crate::os::blocked::Blocked;
use std::ops::Deref;

/// The parts of a pager, as its handles own them: the pager itself, its regions, its memory and its holds. Each has a
/// counted reference to this. Dropping the last one closes the pager. Lent threads have the parts alone, and end then.
pub struct OpenPager(Counted<Core>);

/// A call on a pager that this process may use. While it lives, the handlers of asynchronous signals wait.
pub struct PagerCall<'a> {
    core: &'a Core,
    _signals: Blocked,
}

impl Deref for PagerCall<'_> {
    type Target = Core;
    fn deref(&self) -> &Core {
        self.core
    }
}

impl Deref for OpenPager {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.0
    }
}

impl OpenPager {
    /// Makes the first reference to an open pager.
    pub fn new(core: Counted<Core>) -> Result<Counted<Self>> {
        Counted::new(Self(core))
    }

    /// The parts, for a lent thread, which does not keep the pager open.
    pub fn core(&self) -> &Counted<Core> {
        &self.0
    }

    /// Begins a call, unless this is a forked child.
    pub fn call(&self) -> Result<PagerCall<'_>> {
        self.check_usable()?;
        Ok(PagerCall { core: &self.0, _signals: Blocked::new() })
    }

    /// Checks that this process can use the pager: forked children can't.
    pub fn check_usable(&self) -> Result<()> {
        if self.0.guard.in_child() { Err(Error::Forked) } else { Ok(()) }
    }
}

impl Drop for OpenPager {
    fn drop(&mut self) {
        let Ok(core) = self.call() else {
            // A little of the pager is kept: signal handlers that ran in the parent count as inside here for ever.
            std::mem::forget(self.0.clone());
            // SAFETY: this is a child. Guards of lent threads may be left, which use no part that is closed here. What
            // is left of the pager is not dropped.
            unsafe { self.0.abandon() };
            return;
        };
        for place in 0..core.places.len() {
            // A damaged page stays poisoned. If the system refuses, pages would read as zeros once the descriptor is
            // closed. So it stays open, and touches of missing pages never go on.
            if let Err(Error::Again(_)) = core.remove_place(place, Removal::Restore) {
                std::mem::forget(self.0.clone());
                return;
            }
        }
        core.lending.stop();
        sigbus_pagers::unregister(&self.0);
    }
}
