//! A SIGBUS that is not the pager's goes to the handler that was there before, and a blocked one ends the process.

use crate::processes::{End, Memory, PAGE};
use crate::{BUS, Fixture, GOOD, Test, exit, options, touch};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use zsalloc::{FaultMode, Pager};

/// The exit codes of the tests' own handlers.
const FULL: i32 = 42;
const PLAIN: i32 = 43;

/// The tests.
pub const TESTS: &[Test] = &[
    ("a file's end: the handler with information that was there before", End::Code(FULL), || {
        handle_fully(full);
        beyond_the_end();
    }),
    ("a file's end: the plain handler that was there before", End::Code(PLAIN), || {
        handle(plain as *const () as usize, 0);
        beyond_the_end();
    }),
    ("a file's end: no handler", BUS, beyond_the_end),
    ("a file's end: ignored, which a fault can't be", BUS, || {
        handle(libc::SIG_IGN, 0);
        beyond_the_end();
    }),
    ("a file's end: a handler that lets the program go on", GOOD, a_handler_that_lets_it_go_on),
    ("a file's end: a handler that was there before for one signal", BUS, || {
        handle(longer as *const () as usize, libc::SA_SIGINFO | libc::SA_RESETHAND);
        let _fixture = Fixture::new(FaultMode::Sigbus);
        let (memory, file) = short_file();
        FILE.store(file.as_raw_fd(), SeqCst);
        assert_eq!(touch(&memory, 1), 0, "what the file has now");
        let (memory, _file) = short_file();
        exit_with_touch(&memory, 1);
    }),
    ("sent: the handler that was there before", End::Code(FULL), || {
        handle_fully(full);
        sent();
    }),
    ("sent: no handler", BUS, sent),
    ("sent: ignored", GOOD, || {
        handle(libc::SIG_IGN, 0);
        sent();
    }),
    ("a handler that the program installs later, and passes on", GOOD, a_later_handler_that_passes_on),
    ("a handler that the program installs later, and keeps", End::Code(FULL), || {
        let fixture = Fixture::new(FaultMode::Sigbus);
        handle_fully(full);
        AT.store(fixture.memory.at(9) as usize, SeqCst);
        exit_with_touch(&fixture.memory, 9);
    }),
    ("a handler that the program installs later stays when there are more pagers", GOOD, a_later_handler_stays),
    ("a pager after the program took the handler away", BUS, || {
        handle_fully(full);
        let _first = Pager::new("first", &options(FaultMode::Sigbus)).unwrap();
        handle(libc::SIG_DFL, 0);
        beyond_the_end();
    }),
    ("the mask of the handler that was there before", GOOD, || the_mask_in_a_handler(0)),
    ("the mask of the handler that was there before, which may come again", GOOD, || {
        the_mask_in_a_handler(libc::SA_NODEFER);
    }),
    ("a touch while SIGBUS is blocked", BUS, || a_blocked_touch(false)),
    ("a write while SIGBUS is blocked", BUS, || a_blocked_touch(true)),
    ("served by threads, a touch while SIGBUS is blocked", GOOD, || {
        let fixture = Fixture::new(FaultMode::Threads);
        block(libc::SIGBUS);
        fixture.memory.check();
    }),
    ("a touch in a handler of another signal", GOOD, a_touch_in_a_handler),
];

/// The address where a handler expects the fault. 0: the signal was sent.
static AT: AtomicUsize = AtomicUsize::new(0);

fn handle(handler: usize, flags: i32) {
    // SAFETY: an action of zeros is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the action is complete, and its handler has the type that its flags say.
    assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) }, 0);
}

type Full = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

fn handle_fully(handler: Full) {
    handle(handler as *const () as usize, libc::SA_SIGINFO);
}

extern "C" fn full(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system, or the handler that it called, passes both.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let expected = AT.load(SeqCst);
    let right = if expected == 0 { code <= 0 } else { code == libc::BUS_ADRERR && at == expected };
    exit(if right && signal == libc::SIGBUS && !context.is_null() { FULL } else { 1 });
}

extern "C" fn plain(signal: i32) {
    exit(if signal == libc::SIGBUS { PLAIN } else { 1 });
}

/// Maps two pages of a file that has one page.
fn short_file() -> (Memory, OwnedFd) {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"short".as_ptr(), 0) };
    // SAFETY: the descriptor is new, and nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the call takes numbers only.
    assert_eq!(unsafe { libc::ftruncate(fd, PAGE as libc::off_t) }, 0);
    (Memory::new(2, Some(&file)), file)
}

fn exit_with_touch(memory: &Memory, page: usize) -> ! {
    // Any value would be wrong: the touch must not return.
    exit(100 + i32::from(touch(memory, page) == 0))
}

fn beyond_the_end() {
    let fixture = Fixture::new(FaultMode::Sigbus);
    let (memory, _file) = short_file();
    // The pager's own touches are still served.
    fixture.memory.check();
    AT.store(memory.at(1) as usize, SeqCst);
    exit_with_touch(&memory, 1);
}

fn sent() {
    let fixture = Fixture::new(FaultMode::Sigbus);
    // SAFETY: sends a signal to this thread.
    unsafe { libc::raise(libc::SIGBUS) };
    fixture.memory.check();
}

/// The file that a handler lengthens.
static FILE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn longer(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the call takes numbers only.
    unsafe { libc::ftruncate(FILE.load(SeqCst), 2 * PAGE as libc::off_t) };
}

fn a_handler_that_lets_it_go_on() {
    handle_fully(longer);
    let fixture = Fixture::new(FaultMode::Sigbus);
    let (memory, file) = short_file();
    FILE.store(file.as_raw_fd(), SeqCst);
    assert_eq!(touch(&memory, 1), 0, "what the file has now");
    fixture.memory.check();
}

/// The handler before the program's, which is the pager's.
static BEFORE: AtomicUsize = AtomicUsize::new(0);
static PASSED_ON: AtomicUsize = AtomicUsize::new(0);

fn a_later_handler_that_passes_on() {
    extern "C" fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        PASSED_ON.fetch_add(1, SeqCst);
        // SAFETY: the pager's handler has this type.
        let before: Full = unsafe { std::mem::transmute(BEFORE.load(SeqCst)) };
        before(signal, info, context);
    }
    let fixture = Fixture::new(FaultMode::Sigbus);
    let before = action();
    assert!(before.sa_flags & libc::SA_SIGINFO != 0);
    BEFORE.store(before.sa_sigaction, SeqCst);
    handle_fully(pass_on);
    fixture.memory.check();
    assert!(PASSED_ON.load(SeqCst) > 0);
    // A pager that is created now works as well.
    let second = Fixture::of(Pager::new("second", &options(FaultMode::Sigbus)).unwrap(), FaultMode::Sigbus);
    second.memory.check();
    fixture.evict();
    fixture.memory.check();
}

fn a_later_handler_stays() {
    extern "C" fn longer_or_passed_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the system passes the information.
        if unsafe { (*info).si_addr() } as usize == AT.load(SeqCst) {
            PASSED_ON.fetch_add(1, SeqCst);
            // SAFETY: the call takes numbers only.
            unsafe { libc::ftruncate(FILE.load(SeqCst), 2 * PAGE as libc::off_t) };
            return;
        }
        // SAFETY: the pager's handler has this type.
        let before: Full = unsafe { std::mem::transmute(BEFORE.load(SeqCst)) };
        before(signal, info, context);
    }
    let fixture = Fixture::new(FaultMode::Sigbus);
    BEFORE.store(action().sa_sigaction, SeqCst);
    handle_fully(longer_or_passed_on);
    let second = Fixture::of(Pager::new("second", &options(FaultMode::Sigbus)).unwrap(), FaultMode::Sigbus);
    let (memory, file) = short_file();
    FILE.store(file.as_raw_fd(), SeqCst);
    AT.store(memory.at(1) as usize, SeqCst);
    assert_eq!((touch(&memory, 1), PASSED_ON.load(SeqCst)), (0, 1), "the program's handler came first");
    second.memory.check();
    fixture.memory.check();
}

/// Returns the action for SIGBUS.
fn action() -> libc::sigaction {
    // SAFETY: an action of zeros is valid, and is written over.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut action), 0);
        action
    }
}

fn is_blocked(signal: i32) -> bool {
    // SAFETY: the set is written by the call.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set), 0);
        libc::sigismember(&raw const set, signal) == 1
    }
}

/// A bit for each signal of [`ASKED`] that a handler found blocked.
static BLOCKED: AtomicUsize = AtomicUsize::new(0);

/// A signal that was blocked before, one of the handler's mask, one that nobody blocks, and the handler's own.
const ASKED: [i32; 4] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM, libc::SIGBUS];

/// Checks that a handler finds the mask that it would find without a pager, and that the interrupted code gets its mask
/// back.
fn the_mask_in_a_handler(flags: i32) {
    extern "C" fn note(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        let bits = ASKED.iter().enumerate().map(|(at, &signal)| usize::from(is_blocked(signal)) << at);
        BLOCKED.store(bits.sum(), SeqCst);
        // SAFETY: the call takes numbers only.
        unsafe { libc::ftruncate(FILE.load(SeqCst), 2 * PAGE as libc::off_t) };
    }
    // SAFETY: an action of zeros is valid, and the handler has the type that the flags say.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (note as *const () as usize, libc::SA_SIGINFO | flags);
        libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR2);
        assert_eq!(libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()), 0);
    }
    let fixture = Fixture::new(FaultMode::Sigbus);
    block(libc::SIGUSR1);
    let (memory, file) = short_file();
    FILE.store(file.as_raw_fd(), SeqCst);
    assert_eq!(touch(&memory, 1), 0, "what the file has now");
    let own = usize::from(flags & libc::SA_NODEFER == 0) << 3;
    assert_eq!(BLOCKED.load(SeqCst), 0b0011 | own);
    assert_eq!(ASKED.map(is_blocked), [true, false, false, false]);
    fixture.memory.check();
}

fn block(signal: i32) {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()), 0);
    }
}

fn a_blocked_touch(write: bool) {
    let fixture = Fixture::new(FaultMode::Sigbus);
    block(libc::SIGBUS);
    if write {
        // SAFETY: a page of the test's own, aligned.
        unsafe { fixture.memory.at(3).cast::<u64>().write_volatile(1) };
        exit(1);
    }
    exit_with_touch(&fixture.memory, 3);
}

/// The page that a handler reads next.
static NEXT: AtomicUsize = AtomicUsize::new(0);
static RIGHT: AtomicUsize = AtomicUsize::new(0);

/// Touches pages in a handler that also interrupts the pager's own work, whose locks the touch must not need.
fn a_touch_in_a_handler() {
    extern "C" fn read(_: i32) {
        let first = NEXT.load(SeqCst);
        // SAFETY: the test put the address of a page there, which is mapped.
        let seen = unsafe { (first as *const u64).read_volatile() };
        RIGHT.fetch_add(usize::from(seen == crate::processes::expected(7, 0)), SeqCst);
    }
    let fixture = Fixture::new(FaultMode::Sigbus);
    NEXT.store(fixture.memory.at(7) as usize, SeqCst);
    // SAFETY: an action of zeros is valid, and the handler is a plain one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (read as *const () as usize, libc::SA_RESTART);
        assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
        let often = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let timer = libc::itimerval { it_interval: often, it_value: often };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
    for _ in 0..5 {
        fixture.memory.check();
        let _ = fixture.pager.evict(PAGE as u64);
        drop(fixture.pager.hold(fixture.memory.at(1), 2 * PAGE));
    }
    // SAFETY: an itimerval of zeros stops the timer.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &std::mem::zeroed(), std::ptr::null_mut()) };
    assert!(RIGHT.load(SeqCst) > 0);
}
