//! Signals: blocking them while locks are held, and the handler of SIGBUS with the one before it.

use super::{Result, checked};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

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
/// would need a lock that the thread holds.
pub struct Blocked(libc::sigset_t);

impl Blocked {
    /// Blocks them.
    pub fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets live through the call, which writes the second; it can't fail with these arguments.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &all_but_faults(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set is what pthread_sigmask gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
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

/// The handler that was there before ours, written once before ours is installed.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>, AtomicBool);

// SAFETY: written under a lock before the flag is set, and only read from then on.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::uninit()), AtomicBool::new(false));
static SERVE: std::sync::OnceLock<Serve> = std::sync::OnceLock::new();
static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Installs the handler of SIGBUS, once for the process; it stays. Signals that `serve` does not know go to the handler
/// that was there before, as if there were none in between.
pub fn serve_sigbus(serve: Serve) -> Result<()> {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if is_ours() {
        return Ok(());
    }
    SERVE.get_or_init(|| serve);
    let mut ours: libc::sigaction = zeroed_action();
    ours.sa_sigaction = on_sigbus as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    ours.sa_mask = all_but_faults();
    if BEFORE.1.load(Ordering::Acquire) {
        // Somebody put theirs in our place since, and may call ours from there: who was before us stays so.
        // SAFETY: the action is a whole one.
        return checked(unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, std::ptr::null_mut()) });
    }
    // SAFETY: nobody reads it before the flag is set, and one thread at a time is here.
    checked(unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), BEFORE.0.get().cast()) })?;
    // Release pairs with the Acquire in `chain`.
    BEFORE.1.store(true, Ordering::Release);
    // SAFETY: the action is a whole one.
    checked(unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, std::ptr::null_mut()) })
}

fn zeroed_action() -> libc::sigaction {
    // SAFETY: all zeros are a valid action: the default.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn is_ours() -> bool {
    let mut now = zeroed_action();
    // SAFETY: the place lives through the call.
    let asked = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut now) };
    asked == 0 && now.sa_sigaction == on_sigbus as *const () as usize
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is this thread's.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: the system passes a siginfo, which has an address when a fault raised the signal.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let ours = code == libc::BUS_ADRERR
        // SAFETY: the system passes the thread's state.
        && SERVE.get().is_some_and(|serve| serve(Touch { at, write: unsafe { was_write(context) } }));
    if !ours {
        chain(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
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
    // Acquire pairs with the Release in `serve_sigbus`. Ours is installed after that, so the flag is set.
    if !BEFORE.1.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: the flag says that it was written, and it is not written again.
    let before = unsafe { (*BEFORE.0.get()).assume_init_ref() };
    match before.sa_sigaction {
        // A fault can't be ignored, and one that was sent is.
        libc::SIG_IGN if !is_fault(info) => {}
        libc::SIG_DFL | libc::SIG_IGN => die(signal, info),
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: the flag says that the number is a function of this kind.
            let handler: Full = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without the flag it is a function of this kind.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
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
