//! The events of a userfaultfd, and reading them without waiting.

use super::calls::Call;
use super::errno::{Errno, OsResult, checked, last_errno};
use super::seam::Os;
use linux_raw_sys::general as raw;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// An event of memory under a userfaultfd. Addresses and lengths are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A thread touched a page, and waits.
    Fault {
        /// The address of the touch.
        at: usize,
        /// Whether the touch was a write.
        write: bool,
        /// Why the thread waits.
        why: Why,
    },
    /// The owner gives a range back, which reads as zero from now on. The owner waits until the event is read.
    Remove {
        /// The start of the range.
        start: usize,
        /// The end of the range.
        end: usize,
    },
    /// The owner moved a range. It waits until the event is read.
    Remap {
        /// The old address of the range.
        from: usize,
        /// The new address of the range.
        to: usize,
        /// The length of the range.
        bytes: usize,
    },
    /// The owner unmapped a range. It waits until the event is read.
    Unmap {
        /// The start of the range.
        start: usize,
        /// The end of the range.
        end: usize,
    },
    /// The owner's process was forked. [`Reader::read`] has closed the child's descriptor.
    Fork,
    /// An event that this crate does not know.
    Unknown(Unknown),
}

/// Why a thread that touches a page waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The page is missing.
    Missing,
    /// The page is there, and protected from writes.
    Protected,
    /// The page is in the memory file, and is not mapped where it was touched.
    Unmapped,
}

/// An event that this crate does not know, of a later kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// The number of the event.
    Event(u8),
    /// The number of a flag of a touch, which waits for a reason that [`Why`] does not have.
    Flag(u8),
}

/// An event as the system writes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Message(raw::uffd_msg);

// Slices of messages are passed to the system as arrays of uffd_msg, of which it writes whole ones of 32 bytes.
static_assertions::assert_eq_align!(Message, raw::uffd_msg);
static_assertions::const_assert_eq!(size_of::<Message>(), 32);

impl Message {
    /// Takes over the descriptor that came with the event of a fork: that of the child's memory, which is not served.
    fn child(&self) -> Option<OwnedFd> {
        if u32::from(self.0.event) != raw::UFFD_EVENT_FORK {
            return None;
        }
        // SAFETY: the number of the event says that this field is valid, and the system has just made the descriptor
        // for the reader of the message.
        Some(unsafe { OwnedFd::from_raw_fd(self.0.arg.fork.ufd as RawFd) })
    }

    /// A message that was not read yet.
    pub const NONE: Self = Self(raw::uffd_msg {
        event: 0,
        reserved1: 0,
        reserved2: 0,
        reserved3: 0,
        arg: raw::uffd_msg__bindgen_ty_1 {
            reserved: raw::uffd_msg__bindgen_ty_1__bindgen_ty_5 { reserved1: 0, reserved2: 0, reserved3: 0 },
        },
    });

    /// Decodes the message.
    pub fn event(&self) -> Event {
        let arg = self.0.arg;
        // SAFETY: the number of the event says which field is valid; all of them are numbers.
        unsafe {
            match u32::from(self.0.event) {
                raw::UFFD_EVENT_PAGEFAULT => touch(arg.pagefault.address as usize, arg.pagefault.flags),
                raw::UFFD_EVENT_FORK => Event::Fork,
                raw::UFFD_EVENT_REMOVE => {
                    Event::Remove { start: arg.remove.start as usize, end: arg.remove.end as usize }
                }
                raw::UFFD_EVENT_UNMAP => {
                    Event::Unmap { start: arg.remove.start as usize, end: arg.remove.end as usize }
                }
                raw::UFFD_EVENT_REMAP => Event::Remap {
                    from: arg.remap.from as usize,
                    to: arg.remap.to as usize,
                    bytes: arg.remap.len as usize,
                },
                _ => Event::Unknown(Unknown::Event(self.0.event)),
            }
        }
    }

    /// Makes a message of any bytes.
    #[cfg(any(test, fuzzing))]
    pub fn of_bytes(bytes: [u8; size_of::<Self>()]) -> Self {
        // SAFETY: a message consists of numbers, and of unions of numbers.
        unsafe { std::mem::transmute(bytes) }
    }

    /// Makes a message as a later kernel may send it.
    #[cfg(test)]
    pub fn of(event: u8, at: u64, flags: u64) -> Self {
        let mut message = Self::NONE;
        message.0.event = event;
        message.0.arg.pagefault.address = at;
        message.0.arg.pagefault.flags = flags;
        message
    }
}

/// Decodes a touch and its flags.
fn touch(at: usize, flags: u64) -> Event {
    let has = |flag: u32| flags & u64::from(flag) != 0;
    let known = raw::UFFD_PAGEFAULT_FLAG_WRITE | raw::UFFD_PAGEFAULT_FLAG_WP | raw::UFFD_PAGEFAULT_FLAG_MINOR;
    let unknown = flags & !u64::from(known);
    if unknown != 0 {
        return Event::Unknown(Unknown::Flag(unknown.trailing_zeros() as u8));
    }
    let why = match (has(raw::UFFD_PAGEFAULT_FLAG_WP), has(raw::UFFD_PAGEFAULT_FLAG_MINOR)) {
        (true, _) => Why::Protected,
        (false, true) => Why::Unmapped,
        (false, false) => Why::Missing,
    };
    Event::Fault { at, write: has(raw::UFFD_PAGEFAULT_FLAG_WRITE), why }
}

/// Reads the events of a userfaultfd, and never waits.
pub struct Reader {
    os: Os,
    mode: ReadMode,
}

/// How reads are kept from waiting.
enum ReadMode {
    /// By the flag of the descriptor, which nobody else can change.
    ByFlag,
    /// Another process shares the flag of the descriptor, and may clear it. So each read says itself that it does not
    /// wait, unless the system has no such reads for userfaultfds.
    EachRead {
        /// The system has none: ask whether there is something to read first.
        looks_first: AtomicBool,
    },
}

impl Reader {
    /// For a descriptor of this process alone, whose flag says that reads don't wait.
    pub(super) fn own(os: &Os) -> Self {
        Self { os: os.clone(), mode: ReadMode::ByFlag }
    }

    /// For a descriptor that another process shares.
    pub(super) fn shared(os: &Os) -> Self {
        Self { os: os.clone(), mode: ReadMode::EachRead { looks_first: AtomicBool::new(false) } }
    }

    /// Reads events. Returns how many messages were written, or 0 if there was no event. Closes the descriptors that
    /// come with the events of forks.
    pub(super) fn read(&self, fd: BorrowedFd<'_>, messages: &mut [Message]) -> OsResult<usize> {
        self.os.may(Call::Events)?;
        let done = match &self.mode {
            ReadMode::ByFlag => read_by_flag(fd, messages),
            // Relaxed: the flag only saves a call that the system would refuse again.
            ReadMode::EachRead { looks_first } if looks_first.load(Relaxed) => look_and_read(fd, messages),
            ReadMode::EachRead { looks_first } => self.read_at_once(fd, messages, looks_first),
        };
        match done {
            Ok(bytes) => {
                let count = bytes / size_of::<Message>();
                messages[..count].iter().for_each(|message| drop(message.child()));
                Ok(count)
            }
            Err(Errno(libc::EAGAIN | libc::EINTR)) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    /// Reads by a call that does not wait, whatever the flags say. Since Linux 6.10.
    fn read_at_once(&self, fd: BorrowedFd<'_>, messages: &mut [Message], looks_first: &AtomicBool) -> OsResult<usize> {
        let mut span = libc::iovec { iov_base: messages.as_mut_ptr().cast(), iov_len: size_of_val(messages) };
        let done = self.os.may(Call::EventsAtOnce).and_then(|()| {
            let (nowhere, number): (libc::c_long, _) = (-1, libc::SYS_preadv2);
            // SAFETY: the span can be written, and any bytes are a message. The offset of -1, in two halves, is none.
            let done =
                unsafe { libc::syscall(number, fd.as_raw_fd(), &raw mut span, 1, nowhere, nowhere, libc::RWF_NOWAIT) };
            usize::try_from(done).map_err(|_| last_errno())
        });
        match done {
            // The system has no such reads for userfaultfds, or a jail forbids them.
            Err(Errno(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)) => {
                looks_first.store(true, Relaxed);
                look_and_read(fd, messages)
            }
            Err(errno) => {
                // Polling works only with the flag.
                set_nonblocking(fd)?;
                Err(errno)
            }
            done => done,
        }
    }
}

fn read_by_flag(fd: BorrowedFd<'_>, messages: &mut [Message]) -> OsResult<usize> {
    // SAFETY: as many bytes as the messages have can be written, and any bytes are a message.
    let done = unsafe { libc::read(fd.as_raw_fd(), messages.as_mut_ptr().cast(), size_of_val(messages)) };
    usize::try_from(done).map_err(|_| last_errno())
}

/// Sets the flag and looks before it reads. It waits only if the other process clears the flag just before the read,
/// and takes the message as well.
#[cold]
fn look_and_read(fd: BorrowedFd<'_>, messages: &mut [Message]) -> OsResult<usize> {
    set_nonblocking(fd)?;
    let (ready, polled) = look(fd);
    if ready > 0 && polled & libc::POLLIN != 0 { read_by_flag(fd, messages) } else { Ok(0) }
}

/// Asks what there is to read, without waiting. Returns how many descriptors are ready, and for what.
fn look(fd: BorrowedFd<'_>) -> (i32, i16) {
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry can be read and written.
    let ready = unsafe { libc::poll(&raw mut polled, 1, 0) };
    (ready, polled.revents)
}

/// Whether there may be a message to read. A system that does not tell, as in a jail, may have one.
pub(super) fn has_messages(fd: BorrowedFd<'_>) -> bool {
    look(fd).0 != 0
}

/// Sets the flag that reads don't wait, if it is not set. Polling a userfaultfd fails without it.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> OsResult<()> {
    // SAFETY: these calls take numbers only.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(last_errno());
    }
    if flags & libc::O_NONBLOCK != 0 {
        return Ok(());
    }
    // SAFETY: as for the first call.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_is_taken_for_what_its_flags_say() {
        let fault = |write, why| Event::Fault { at: 0x5007, write, why };
        let of = |flags| Message::of(18, 0x5007, flags).event();
        assert_eq!([0, 1].map(of), [fault(false, Why::Missing), fault(true, Why::Missing)]);
        assert_eq!(
            [3, 4, 5].map(of),
            [fault(true, Why::Protected), fault(false, Why::Unmapped), fault(true, Why::Unmapped)]
        );
        assert_eq!([8, 1 << 63 | 1].map(of), [3, 63].map(|bit| Event::Unknown(Unknown::Flag(bit))));
    }

    #[test]
    fn an_event_is_known_by_its_number() {
        let of = |number| Message::of(number, 0, 0).event();
        assert_eq!(of(19), Event::Fork);
        assert_eq!([17, 23, 255].map(of), [17, 23, 255].map(|number| Event::Unknown(Unknown::Event(number))));
    }
}
