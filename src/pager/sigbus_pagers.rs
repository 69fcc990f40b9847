//! The pagers of this process whose touches are served by the thread that touches. The one handler of SIGBUS asks each.

use super::core::Core;
use super::late_touches;
use super::removable::{Removable, Users};
use crate::error::{Error, Limit, Result, sentence};
use crate::heap::{self, Counted};
use crate::os::errno;
use crate::os::sigbus::{Touch, serve_sigbus};
use std::cell::Cell;

/// The most such pagers of a process.
const PAGERS: usize = 64;
// The sentence of `Limit::Pagers` says so.
const _: () = assert!(PAGERS == 64);

/// Each entry has the core of a pager while its touches are served here, which keeps it alive.
static ENTRIES: [Removable<Counted<Core>>; PAGERS] = [const { Removable::new() }; PAGERS];

/// Counts the threads that use each entry. Counts on the heap would never be freed, because entries stay for ever.
static USERS: [Users; PAGERS] = [const { Users::of_static() }; PAGERS];

const UNLOADABLE: &str = "dlclose could unload the code that handles SIGBUS, and the dynamic linker does not keep it: \
                          link the library with the program";

/// Lets the handler of SIGBUS ask a pager.
pub fn register(core: &Counted<Core>) -> Result<()> {
    const FULL: Error = Error::Limit(Limit::Pagers);
    let mut entry = heap::boxed(core.clone())?;
    for (place, users) in ENTRIES.iter().zip(&USERS) {
        place.count_in(users);
        let Err(back) = place.fill(entry, &mut None) else {
            return serve_sigbus(serve).map_err(|errno| {
                unregister(core);
                let step =
                    if errno.0 == errno::ENOSYS { sentence(&UNLOADABLE) } else { sentence(&"sigaction of SIGBUS") };
                Error::system(errno, step)
            });
        };
        entry = back;
    }
    Err(FULL)
}

/// Lets the handler of SIGBUS ask a pager no more, and waits for the threads that are in it.
pub fn unregister(core: &Counted<Core>) {
    let is_it = |other: &Counted<Core>| std::ptr::eq(&raw const **other, &raw const **core);
    // A pager takes itself away alone, and so no other pager comes to its place in between.
    let place = ENTRIES.iter().find(|place| !place.looks_empty() && place.enter().is_some_and(|other| is_it(&other)));
    if let Some(place) = place {
        drop(place.clear());
    }
}

/// Serves a touch: the function that the handler of SIGBUS calls. The pager that has the address is asked first. The
/// others would read their events to find out that they don't have it.
fn serve(touch: Touch) -> bool {
    // A handler of the program's that touches may have interrupted a call on another pool or zswap. Handlers wait only
    // while a call on a pager runs.
    #[cfg(debug_assertions)]
    let _others = crate::sync::ranks::SetAside::new();
    let refused = Cell::new(false);
    let asked = |core: &Core| {
        let served = core.serve_signal(touch);
        refused.set(refused.get() || served == Some(false));
        served == Some(true)
    };
    // In a forked child the table of extents may be as a thread of the parent had left it: half changed, for ever.
    let has = |core: &Core| !core.guard.in_child() && core.extents.find(touch.at).is_some();
    let served = any(|core| has(core) && asked(core)) || any(asked);
    served || !refused.get() && late_touches::was_removed(touch.at)
}

/// Whether something holds for one of the pagers.
fn any(holds: impl Fn(&Core) -> bool) -> bool {
    // A pager has its entry before a region of it can be touched, so a touch that finds the entry empty is not its own.
    ENTRIES.iter().any(|place| !place.looks_empty() && place.enter().is_some_and(|core| holds(&core)))
}
