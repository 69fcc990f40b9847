//! A process beside this one that holds descriptors for it, and what the two say to each other.
//!
//! It is forked from a process that may have many threads, so it calls nothing that could need a lock: system calls,
//! and nothing else. It has its own stack, and gives everything back that it got a copy of: else all that this process
//! writes from then on would have to be kept twice.

use super::guardian_child::{self as child, Client, Gap, Home};
use super::signals::Blocked;
use super::{Errno, ForkGuard, Os, Result, checked, last_errno};
use crate::units::PAGE;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{mem, ptr};

/// What is asked of a guardian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Ask {
    /// Hold these descriptors.
    Watch = 1,
    /// Let go of what has this number.
    Forget = 2,
    /// Let go of everything, and end.
    Dismiss = 3,
}

/// A question, or the answer to it, whose first word is an errno or 0.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Words(pub u64, pub u64);

/// The control message that brings descriptors.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Passed {
    pub header: libc::cmsghdr,
    /// The second may be missing.
    pub fds: [libc::c_int; 2],
}

impl Passed {
    /// So many descriptors, which are to be filled in.
    pub fn of(count: usize) -> Self {
        // SAFETY: a cmsghdr of zeros is valid, and some targets have padding in it.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + count * size_of::<libc::c_int>()) as _;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        Self { header, fds: [-1; 2] }
    }
}

/// The message that `words` and `passed` make, of which so many bytes count.
pub fn message(span: &mut libc::iovec, passed: &mut Passed, bytes: usize) -> libc::msghdr {
    // SAFETY: a msghdr of zeros is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = span;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(passed).cast();
    message.msg_controllen = bytes as _;
    message
}

/// Bytes of its stack.
const STACK: usize = 64 << 10;
/// Bytes that are read at once.
const AT_ONCE: usize = 4096;
/// What is kept on both sides of what the C library has for a thread.
const AROUND: usize = 32 << 10;

/// The process that holds descriptors.
pub struct Keeper {
    line: OwnedFd,
    /// Its process.
    child: libc::pid_t,
    /// Tells the process that started it from its children. Its number would not: once it has ended, one of theirs
    /// may be given that.
    guard: ForkGuard,
}

/// A mapping that is one process's to set up, and the other's to live in.
struct Room(*mut u8, usize);

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: the mapping is its owner's alone; the other process has its own copy.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

impl Room {
    fn new(bytes: usize) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the system chooses.
        let at = unsafe {
            libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK, -1, 0)
        };
        if at == libc::MAP_FAILED { Err(last_errno()) } else { Ok(Self(at.cast(), bytes)) }
    }

    fn range(&self) -> Range<usize> {
        self.0 as usize..self.0 as usize + self.1
    }
}

impl Keeper {
    /// Starts it. `kills`: it ends the clients when this process ends, and otherwise only holds their descriptors.
    pub fn start(kills: bool) -> Result<Self> {
        let (line, theirs) = pair()?;
        let guard = Os::default().fork_guard()?;
        // SAFETY: a call on numbers.
        let own = unsafe { libc::getpid() };
        let owner = process(own)?;
        // The list is read before the memory that it grows into is known: there is room for more.
        let most = images()?.0.len() + 8;
        let room = Room::new((size_of::<Home>() + most * size_of::<Gap>()).next_multiple_of(PAGE) + STACK)?;
        let gaps = gaps(room.range())?;
        if gaps.len() > most {
            return Err(Errno(libc::EAGAIN));
        }
        let home = room.0.cast::<Home>();
        // SAFETY: the room is new, large enough for the home and what follows it, and aligned to pages.
        unsafe {
            let list = home.add(1).cast::<Gap>();
            ptr::copy_nonoverlapping(gaps.as_ptr(), list, gaps.len());
            home.write(Home {
                line: theirs.as_raw_fd(),
                owner: owner.as_raw_fd(),
                kills,
                orphaned: false,
                gaps: (list, gaps.len()),
                clients: [Client::NONE; child::MOST],
                polled: [libc::pollfd { fd: -1, events: 0, revents: 0 }; child::MOST + 2],
            });
        }
        let child = {
            // None of this process's signal handlers runs there.
            let _signals = Blocked::new();
            // SAFETY: the new process has its own copy of the room, whose end is its stack. It sends no signal when it
            // ends, so that a program which waits for its children does not find it among them.
            unsafe { libc::clone(child::live, room.0.add(room.1).cast(), 0, home.cast()) }
        };
        if child < 0 {
            return Err(last_errno());
        }
        drop(theirs);
        let keeper = Self { line, child, guard };
        // It says so when it is ready. One that is not ends, and leaves nothing behind for the program to wait for.
        keeper.answer().inspect_err(|_| keeper.end())?;
        Ok(keeper)
    }

    /// Whether this is the process that started it, and no child of that.
    pub fn is_own(&self) -> bool {
        !self.guard.in_child()
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child
    }

    /// Asks something, and waits for the answer. One thread at a time.
    pub fn ask(&self, ask: Ask, number: u64, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut words = Words(ask as u64, number);
        let mut span = libc::iovec { iov_base: (&raw mut words).cast(), iov_len: size_of::<Words>() };
        let mut passed = Passed::of(fds.len());
        passed.fds.iter_mut().zip(fds).for_each(|(to, from)| *to = from.as_raw_fd());
        let bytes = if fds.is_empty() { 0 } else { size_of::<Passed>() - (2 - fds.len()) * size_of::<libc::c_int>() };
        // What counts is rounded up to words, as the system wants it, and that is the size of two.
        let mut message = message(&mut span, &mut passed, if bytes == 0 { 0 } else { size_of::<Passed>() });
        if bytes == 0 {
            message.msg_control = ptr::null_mut();
        }
        // SAFETY: the message and what it names live through the call.
        let sent = unsafe { libc::sendmsg(self.line.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(last_errno()) } else { self.answer() }
    }

    fn answer(&self) -> Result<()> {
        let mut words = Words::default();
        loop {
            // SAFETY: so many bytes can be written.
            let got = unsafe { libc::recv(self.line.as_raw_fd(), (&raw mut words).cast(), size_of::<Words>(), 0) };
            return match usize::try_from(got) {
                Ok(bytes) if bytes == size_of::<Words>() => match words.0 {
                    0 => Ok(()),
                    errno => Err(Errno(errno as i32)),
                },
                // It is no more.
                Ok(_) => Err(Errno(libc::ESRCH)),
                Err(_) if last_errno().0 == libc::EINTR => continue,
                Err(_) => Err(last_errno()),
            };
        }
    }

    /// Ends it, and waits until it has ended.
    fn end(&self) {
        // SAFETY: a call on numbers; nobody has waited for this child, so that its number is its own.
        unsafe { libc::kill(self.child, libc::SIGKILL) };
        self.wait();
    }

    /// Waits until it has ended.
    pub fn wait(&self) {
        loop {
            let mut status = 0;
            // SAFETY: a child of this process's own; the place lives through the call.
            let waited = unsafe { libc::waitpid(self.child, &raw mut status, libc::__WALL) };
            if waited >= 0 || last_errno().0 != libc::EINTR {
                return;
            }
        }
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: two numbers can be written.
    checked(unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr())
    })?;
    // SAFETY: descriptors that were just made, and are owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A descriptor of a process, which names that one even when its number is given to another.
pub fn process(pid: i32) -> Result<OwnedFd> {
    // SAFETY: a call on numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: a descriptor that was just made, and is owned by nobody else; such descriptors are closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Whether this process may send that one signals.
pub fn may_signal(process: &OwnedFd) -> Result<()> {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: a call on numbers; signal 0 is none.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), 0, none, 0) };
    checked(sent as libc::c_int)
}

/// Adds an element to a vector, or says that there is no memory, where `Vec::push` aborts.
fn push<T>(elements: &mut Vec<T>, element: T) -> Result<()> {
    elements.try_reserve(1).map_err(|_| Errno(libc::ENOMEM))?;
    elements.push(element);
    Ok(())
}

/// The mappings of program files, which the guardian runs in, in order; and where the last mapping ends.
fn images() -> Result<(Vec<Range<usize>>, usize)> {
    let refused = |error: std::io::Error| Errno(error.raw_os_error().unwrap_or(libc::EIO));
    let mut file = File::open("/proc/self/maps").map_err(refused)?;
    // std::fs::read aborts without memory.
    let (mut maps, mut length) = (Vec::<u8>::new(), 0);
    loop {
        maps.try_reserve(AT_ONCE).map_err(|_| Errno(libc::ENOMEM))?;
        maps.resize(length + AT_ONCE, 0);
        match file.read(&mut maps[length..]) {
            Ok(0) => return images_of(&maps[..length]),
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(refused(error)),
        }
        maps.truncate(length);
    }
}

/// The same from what that file says. The names of files in it may be any bytes.
pub(crate) fn images_of(maps: &[u8]) -> Result<(Vec<Range<usize>>, usize)> {
    let (mut kept, mut end) = (Vec::new(), 0);
    let mut programs = Vec::new();
    for line in maps.split(|&byte| byte == b'\n').filter_map(Line::of) {
        end = end.max(line.range.end);
        if line.runs && !programs.contains(&line.file) {
            push(&mut programs, line.file)?;
        }
    }
    for line in maps.split(|&byte| byte == b'\n').filter_map(Line::of) {
        if (line.runs || line.is_of_a_file) && programs.contains(&line.file) {
            push(&mut kept, line.range)?;
        }
    }
    Ok((kept, end))
}

/// A line of /proc/self/maps.
struct Line<'a> {
    range: Range<usize>,
    runs: bool,
    is_of_a_file: bool,
    /// Its device and inode.
    file: (Option<&'a [u8]>, Option<&'a [u8]>),
}

impl<'a> Line<'a> {
    /// None: it is none, or the one page that all processes have in common.
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let (from, to) = std::str::from_utf8(fields.next()?).ok()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let range = number(from)?..number(to)?;
        let (rights, device, inode) = (fields.next(), fields.nth(1), fields.next());
        let path = fields.next().unwrap_or_default();
        let runs = rights.is_some_and(|rights| rights.contains(&b'x'));
        let is_of_a_file = path.first() == Some(&b'/');
        (path != b"[vsyscall]").then_some(Self { range, runs, is_of_a_file, file: (device, inode) })
    }
}

/// All addresses but those that the guardian needs: its home, the programs' files, and what the C library has for the
/// thread that it was forked from, where errno is.
fn gaps(home: Range<usize>) -> Result<Vec<Gap>> {
    let (mut kept, end) = images()?;
    // SAFETY: the calls return addresses of this thread's own.
    let threads = unsafe { [libc::__errno_location() as usize, libc::pthread_self() as usize] };
    let around = |at: usize| (at - AROUND) & !(PAGE - 1)..(at + AROUND).next_multiple_of(PAGE);
    threads.into_iter().try_for_each(|at| push(&mut kept, around(at)))?;
    push(&mut kept, home)?;
    kept.sort_unstable_by_key(|range| range.start);
    let (mut gaps, mut at) = (Vec::new(), 0);
    for range in kept {
        if range.start > at {
            push(&mut gaps, Gap { at, bytes: range.start - at })?;
        }
        at = at.max(range.end);
    }
    if end > at {
        push(&mut gaps, Gap { at, bytes: end - at })?;
    }
    Ok(gaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    /// The names of files are bytes, of which the system replaces line feeds only.
    #[test]
    fn name_of_a_mapped_file_may_be_any_bytes() {
        let name = std::ffi::OsStr::from_bytes(b"zsalloc-guardian-\xff\xfe name\xf0");
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, [7; PAGE]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        // SAFETY: a new mapping at an address that the system chooses, and unmapped below.
        let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        std::fs::remove_file(&path).unwrap();
        assert_ne!(at, libc::MAP_FAILED);
        let images = images();
        // SAFETY: the mapping that was just made.
        unsafe { libc::munmap(at, PAGE) };
        let (kept, end) = images.unwrap();
        assert!(!kept.is_empty() && kept.iter().all(|range| range.end <= end));
        assert!(!kept.iter().any(|range| range.contains(&(at as usize))), "the file has no program");
    }
}
