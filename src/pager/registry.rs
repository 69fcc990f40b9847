//! The pagers of this process that serve touches in the thread that touches: the one handler of SIGBUS asks each.

use super::core::Core;
use super::removed;
use crate::error::{Error, Result};
use crate::heap::Counted;
use crate::os::errno;
use crate::os::sigbus::{Touch, serve_sigbus};
use crate::sync::{AtomicU64, Ordering::SeqCst, Wait};
use std::cell::Cell;
use std::sync::atomic::AtomicPtr;

/// Most such pagers of a process.
const PAGERS: usize = 64;

struct Entry {
    /// Handlers that are in the pager right now.
    users: AtomicU64,
    core: AtomicPtr<Core>,
}

static ENTRIES: [Entry; PAGERS] =
    [const { Entry { users: AtomicU64::new(0), core: AtomicPtr::new(std::ptr::null_mut()) } }; PAGERS];

const UNLOADABLE: &str = "dlclose could unload the code that handles SIGBUS, and the dynamic linker does not keep it: \
                          link the library with the program";

/// Lets touches be served by a pager.
pub fn register(core: &Counted<Core>) -> Result<()> {
    const FULL: Error = Error::NoSpace(&"a process has at most 64 pagers whose touches are served by SIGBUS");
    let pointer = (&raw const **core).cast_mut();
    let put = |entry: &Entry| entry.core.compare_exchange(std::ptr::null_mut(), pointer, SeqCst, SeqCst).is_ok();
    if !ENTRIES.iter().any(put) {
        return Err(FULL);
    }
    serve_sigbus(serve).map_err(|errno| {
        unregister(core);
        let step = if errno.0 == errno::ENOSYS { &UNLOADABLE } else { &"sigaction of SIGBUS" };
        Error::system(errno, step)
    })
}

/// Lets none be served by it any more, and waits for those that are.
pub fn unregister(core: &Counted<Core>) {
    let pointer = (&raw const **core).cast_mut();
    for entry in &ENTRIES {
        // In one order with what `serve` does: either that sees no pager, or this sees its user.
        if entry.core.compare_exchange(pointer, std::ptr::null_mut(), SeqCst, SeqCst).is_ok() {
            let mut wait = Wait::default();
            while entry.users.load(SeqCst) != 0 {
                wait.a_moment();
            }
        }
    }
}

/// What the handler of SIGBUS calls. The pager that has the address is asked first: others would read their events to
/// find out that they don't.
fn serve(touch: Touch) -> bool {
    // A handler of the program's that touches may have interrupted a call on another pool or zswap: who calls the pager
    // has such handlers wait.
    #[cfg(debug_assertions)]
    let _others = crate::sync::ranks::Interrupted::new();
    let refused = Cell::new(false);
    let asked = |core: &Core| {
        let served = core.serve_signal(touch);
        refused.set(refused.get() || served == Some(false));
        served == Some(true)
    };
    // In a forked child the table of extents may be as a writer of the parent had left it, half done for ever.
    let has = |core: &Core| !core.guard.in_child() && core.extents.find(touch.at).is_some();
    let served = any(|core| has(core) && asked(core)) || any(asked);
    served || !refused.get() && removed::lately(touch.at)
}

/// Whether something holds for one of the pagers.
fn any(holds: impl Fn(&Core) -> bool) -> bool {
    ENTRIES.iter().any(|entry| {
        if entry.core.load(SeqCst).is_null() {
            return false;
        }
        entry.users.fetch_add(1, SeqCst);
        // SAFETY: a pager that is registered is not dropped before `unregister` has seen its users leave.
        let held = unsafe { entry.core.load(SeqCst).as_ref() }.is_some_and(&holds);
        entry.users.fetch_sub(1, SeqCst);
        held
    })
}
