//! Signals: blocking them while locks are held, and the handler of SIGBUS with the one before it.

use super::loaded::keep_loaded;
use super::{Errno, Result, Uncancelled, checked};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};

/// Signals that a fault of the thread itself raises, which blocking would make deadly.
const OF_THE_THREAD_ITSELF: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

fn all_but_faults() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set, and sigdelset is given signals that exist.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        let mut set = set.assume_init();
        OF_THE_THREAD_ITSELF.iter().for_each(|&signal| _ = libc::sigdelset(&raw mut set, signal));
        set
    }
}

/// While this lives no signal handler of the program's runs in this thread, so that none can touch memory whose fault
/// would need a lock that the thread holds. Nor is the thread cancelled.
pub struct Blocked {
    before: libc::sigset_t,
    _whole: Uncancelled,
}

impl Blocked {
    /// Blocks them.
    pub fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets live through the call, which writes the second; it can't fail with these arguments.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &all_but_faults(), before.as_mut_ptr());
            Self { before: before.assume_init(), _whole: Uncancelled::new() }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set is what pthread_sigmask gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// What a touch is told to a handler as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The address.
    pub at: usize,
    /// Whether it was to write. Where the processor does not tell, it may have been.
    pub write: bool,
}

/// Serves a touch; false: it is not ours.
pub type Serve = fn(Touch) -> bool;

static SERVE: std::sync::OnceLock<Serve> = std::sync::OnceLock::new();
static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// What was done about the signal before ours was installed; null: it never was.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());
static DEFAULT: libc::sigaction = zeroed_action();

/// Installs the handler of SIGBUS, once for the process; it stays, and so does the object that has its code. Signals
/// that `serve` does not know go to the handler that was there before, as if there were none in between. A handler that
/// the program has put in its place since stays there: it calls ours, as the program was told.
///
/// `ENOSYS`: the object could be unloaded, and the handler would be code that is no more.
pub fn serve_sigbus(serve: Serve) -> Result<()> {
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
    // Never freed: a handler may be reading the one before. Twice only if the program took ours away.
    // Release pairs with the Acquire in `chain`.
    BEFORE.store(kept(now)?.as_ptr(), Release);
    let mut ours = zeroed_action();
    ours.sa_sigaction = on_sigbus as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    ours.sa_mask = all_but_faults();
    // SAFETY: the action is a whole one.
    checked(unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, std::ptr::null_mut()) })
}

/// The action in memory that stays. Like `Box::leak`, but for the lack of memory, which is an error.
fn kept(action: libc::sigaction) -> Result<NonNull<libc::sigaction>> {
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

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is this thread's.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: the system passes a siginfo, which has an address when a fault raised the signal.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // SAFETY: the system passes the thread's state.
    let ours = code == libc::BUS_ADRERR && served(Touch { at, write: unsafe { was_write(context) } });
    if !ours {
        chain(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

fn served(touch: Touch) -> bool {
    let _whole = Uncancelled::new();
    SERVE.get().is_some_and(|serve| serve(touch))
}

/// # Safety
/// `context` is what the system passed to a handler of this thread.
unsafe fn was_write(context: *const libc::c_void) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        /// The bit of a page fault's error code that says so.
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

/// Does what would have been done without our handler.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Acquire pairs with the Release in `serve_sigbus`. Ours is installed after that.
    // SAFETY: null, or an action that is never freed, nor changed.
    let Some(before) = (unsafe { BEFORE.load(Acquire).as_ref() }) else { return };
    match before.sa_sigaction {
        // A fault can't be ignored, and one that was sent is.
        libc::SIG_IGN if !is_fault(info) => {}
        libc::SIG_DFL | libc::SIG_IGN => die(signal, info),
        handler => {
            if before.sa_flags & libc::SA_RESETHAND != 0 {
                BEFORE.store((&raw const DEFAULT).cast_mut(), Release);
            }
            // SAFETY: the system passed the context. A handler that does not return does as without ours: the mask is
            // what it would be then.
            let ours = unsafe { mask_as_for(before, signal, context) };
            call(handler, before.sa_flags, (signal, info, context));
            // SAFETY: the set is what pthread_sigmask gave.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const ours, std::ptr::null_mut()) };
        }
    }
}

/// Calls a handler of the program's, whose flags say of what kind it is.
fn call(
    handler: libc::sighandler_t,
    flags: libc::c_int,
    (signal, info, context): (libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
) {
    if flags & libc::SA_SIGINFO != 0 {
        type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: the flag says that the number is a function of this kind.
        let handler: Full = unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without the flag it is a function of this kind.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}

/// Blocks the signals that would be blocked in a handler had the system called it: those that were when the signal
/// came, those that it was installed with, and the signal itself unless it was to come again. Returns what was blocked.
///
/// # Safety
/// `context` is what the system passed to a handler of this thread.
unsafe fn mask_as_for(action: &libc::sigaction, signal: libc::c_int, context: *const libc::c_void) -> libc::sigset_t {
    let mut wanted = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::uninit();
    // SAFETY: the caller vouches for the context. The system's set is of eight bytes; behind it the context has
    // something else. All zeros are a set, as any bits are.
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

fn is_fault(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the system passes a siginfo. Codes of faults are above 0, those of kill and the like are not.
    unsafe { (*info).si_code > 0 }
}

/// The default action: a fault is raised anew when this returns, and what was sent is sent again.
fn die(signal: libc::c_int, info: *const libc::siginfo_t) {
    let default = zeroed_action();
    // SAFETY: the action is a whole one; raising a signal touches no memory of ours. It is delivered once the handler
    // returns.
    unsafe {
        libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        if !is_fault(info) {
            libc::raise(signal);
        }
    }
}
