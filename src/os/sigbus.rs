//! The handler of SIGBUS, which serves touches in the thread that touches, and calls the handler before it.

use super::blocked::all_but_faults;
use super::cancel::Uncancelled;
use super::errno::{Errno, OsResult, checked};
use super::loaded::keep_loaded;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};

/// A touch of a missing page, as the signal tells of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The address.
    pub at: usize,
    /// Whether it was a write. True if the processor does not tell.
    pub write: bool,
}

/// Serves a touch. Returns false for an address of somebody else's.
pub type Serve = fn(Touch) -> bool;

static SERVE: std::sync::OnceLock<Serve> = std::sync::OnceLock::new();
/// Held while the handler is installed. A leaf: no other lock is taken under it, and pagers are created rarely.
static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The action that was in force before our handler was installed; null: it was not installed yet.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());
static DEFAULT: libc::sigaction = zeroed_action();

/// Installs the handler of SIGBUS, once for the process. The handler stays, and so does the object that has its code.
/// Signals that `serve` does not know go to the handler before ours, as if the system had called it. If the program has
/// installed another handler since, that one stays: the program was told to call ours from it.
///
/// Fails with `ENOSYS` if the object could be unloaded, because the handler would then be gone with its code.
pub fn serve_sigbus(serve: Serve) -> OsResult<()> {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    SERVE.get_or_init(|| serve);
    let mut now = zeroed_action();
    // SAFETY: the place lives through the call.
    checked(unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut now) })?;
    let installed = !BEFORE.load(Acquire).is_null();
    if installed && !matches!(now.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        return Ok(());
    }
    keep_loaded(on_sigbus as *const () as *const libc::c_void)?;
    // Never freed, because a handler may be reading it. A second one is made only if the program took ours away.
    // Release pairs with the Acquire in `chain`.
    BEFORE.store(kept(now)?.as_ptr(), Release);
    let mut ours = zeroed_action();
    ours.sa_sigaction = on_sigbus as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    ours.sa_mask = all_but_faults();
    // SAFETY: the action is complete.
    checked(unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, std::ptr::null_mut()) })
}

/// Puts the action into memory that is never freed. Unlike `Box::leak`, a lack of memory is an error.
fn kept(action: libc::sigaction) -> OsResult<NonNull<libc::sigaction>> {
    // SAFETY: the layout is not of size zero.
    let at = unsafe { std::alloc::alloc(std::alloc::Layout::new::<libc::sigaction>()) }.cast();
    let at = NonNull::new(at).ok_or(Errno(libc::ENOMEM))?;
    // SAFETY: the memory is new, and has the layout of an action.
    unsafe { at.write(action) };
    Ok(at)
}

const fn zeroed_action() -> libc::sigaction {
    // SAFETY: all zeros are a valid action: the default.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Handles SIGBUS.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is this thread's.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: errno is this thread's.
    let before = unsafe { *errno };
    // SAFETY: the system passes a siginfo, which has an address when a fault raised the signal.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // SAFETY: the system passes the thread's state.
    let ours = code == libc::BUS_ADRERR && served(Touch { at, write: unsafe { was_write(context) } });
    if !ours {
        chain(signal, info, context);
    }
    // SAFETY: errno is this thread's.
    unsafe { *errno = before };
}

/// Serves a touch, if it is ours.
fn served(touch: Touch) -> bool {
    let _whole = Uncancelled::new();
    SERVE.get().is_some_and(|serve| serve(touch))
}

/// Whether the fault was a write.
///
/// # Safety
/// `context` is what the system passed to a handler of this thread.
unsafe fn was_write(context: *const libc::c_void) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        /// The bit for writes in the error code of a page fault.
        const WRITE: i64 = 2;
        // SAFETY: the caller vouches for the context.
        let state = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
        state.gregs[libc::REG_ERR as usize] & WRITE != 0
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = context;
        true
    }
}

/// Does what would happen without our handler.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Acquire pairs with the Release in `serve_sigbus`, which installs our handler after it.
    // SAFETY: null, or an action that is never freed, nor changed.
    let Some(before) = (unsafe { BEFORE.load(Acquire).as_ref() }) else { return };
    match before.sa_sigaction {
        // A fault can't be ignored, but a signal that was sent can.
        libc::SIG_IGN if !is_fault(info) => {}
        libc::SIG_DFL | libc::SIG_IGN => die(signal, info),
        handler => {
            if before.sa_flags & libc::SA_RESETHAND != 0 {
                BEFORE.store((&raw const DEFAULT).cast_mut(), Release);
            }
            // SAFETY: the system passed the context. A handler that does not return, but jumps, finds the mask that it
            // would find without ours.
            let ours = unsafe { mask_as_for(before, signal, context) };
            call(handler, before.sa_flags, (signal, info, context));
            // SAFETY: the set is what pthread_sigmask gave.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const ours, std::ptr::null_mut()) };
        }
    }
}

/// Calls a handler of the program's, whose flags tell its type.
fn call(
    handler: libc::sighandler_t,
    flags: libc::c_int,
    (signal, info, context): (libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
) {
    if flags & libc::SA_SIGINFO != 0 {
        type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: the flag says that the number is a function of this type.
        let handler: WithInfo = unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without the flag it is a function of this type.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}

/// Blocks the signals that the system would block when it calls a handler: those that were blocked when the signal
/// came, those of the handler's mask, and the signal itself, unless SA_NODEFER is set. Returns the mask before.
///
/// # Safety
/// `context` is what the system passed to a handler of this thread.
unsafe fn mask_as_for(action: &libc::sigaction, signal: libc::c_int, context: *const libc::c_void) -> libc::sigset_t {
    let mut wanted = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::uninit();
    // SAFETY: the caller vouches for the context. The system's set has eight bytes, and what lies behind it in the
    // context is something else. Any bits are a set, so all zeros are.
    unsafe {
        let interrupted = (&raw const (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>().read_unaligned();
        let asked = (&raw const action.sa_mask).cast::<u64>().read_unaligned();
        wanted.as_mut_ptr().cast::<u64>().write_unaligned(interrupted | asked);
        if action.sa_flags & libc::SA_NODEFER == 0 {
            libc::sigaddset(wanted.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, wanted.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

/// Whether a fault raised the signal, and not kill or the like.
fn is_fault(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the system passes a siginfo. The codes of faults are above 0, those of sent signals are not.
    unsafe { (*info).si_code > 0 }
}

/// Takes the default action: a fault occurs anew when the handler returns, and a signal that was sent is sent again.
fn die(signal: libc::c_int, info: *const libc::siginfo_t) {
    let default = zeroed_action();
    // SAFETY: the action is complete; raising a signal touches no memory of ours. The signal is delivered once the
    // handler returns.
    unsafe {
        libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        if !is_fault(info) {
            libc::raise(signal);
        }
    }
}
