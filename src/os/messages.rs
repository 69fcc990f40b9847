//! What a userfaultfd tells, and how it is read without waiting.

use super::userfault::Userfault;
use super::{Call, Errno, Result, last_errno};
use linux_raw_sys::general as raw;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

/// Something that happened to memory under a userfaultfd. Addresses and lengths are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A thread touched a page, and waits.
    Fault {
        /// What it touched.
        at: usize,
        /// To write.
        write: bool,
        /// What is in its way.
        why: Why,
    },
    /// The owner gives a range back: it reads as zero from now on. The owner waits until this was read.
    Remove {
        /// Where it begins.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// The owner moved a range, and waits until this was read.
    Remap {
        /// Where it was.
        from: usize,
        /// Where it is.
        to: usize,
        /// Its length.
        bytes: usize,
    },
    /// The owner unmapped a range, and waits until this was read.
    Unmap {
        /// Where it began.
        start: usize,
        /// Where it ended.
        end: usize,
    },
    /// The owner's process was forked. The child's descriptor is closed by whoever read this.
    Fork,
    /// One that this crate does not know.
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

/// An event of a later system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// An event of this number.
    Event(u8),
    /// A touch with a flag of this number: it waits for something else than [`Why`] has.
    Flag(u8),
}

/// The raw form of an event.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Message(raw::uffd_msg);

impl Message {
    /// Takes over the descriptor that came with it: that of a forked child's memory, which is nobody's business here.
    fn child(&self) -> Option<OwnedFd> {
        if u32::from(self.0.event) != raw::UFFD_EVENT_FORK {
            return None;
        }
        // SAFETY: the event says that this field holds, and the system has just made the descriptor for whoever
        // reads the message.
        Some(unsafe { OwnedFd::from_raw_fd(self.0.arg.fork.ufd as RawFd) })
    }

    /// Nothing yet.
    pub const NONE: Self = Self(raw::uffd_msg {
        event: 0,
        reserved1: 0,
        reserved2: 0,
        reserved3: 0,
        arg: raw::uffd_msg__bindgen_ty_1 {
            reserved: raw::uffd_msg__bindgen_ty_1__bindgen_ty_5 { reserved1: 0, reserved2: 0, reserved3: 0 },
        },
    });

    /// What it says.
    pub fn event(&self) -> Event {
        let arg = self.0.arg;
        // SAFETY: which field holds is what the event's number says; all of them are numbers.
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

    /// One of these bytes.
    #[cfg(any(test, fuzzing))]
    pub fn of_bytes(bytes: [u8; size_of::<Self>()]) -> Self {
        // SAFETY: it consists of numbers, and of unions of numbers.
        unsafe { std::mem::transmute(bytes) }
    }

    /// One as a later system may send it.
    #[cfg(test)]
    pub fn of(event: u8, at: u64, flags: u64) -> Self {
        let mut message = Self::NONE;
        message.0.event = event;
        message.0.arg.pagefault.address = at;
        message.0.arg.pagefault.flags = flags;
        message
    }
}

/// What the flags of a touch say.
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

/// Reads don't wait, for the descriptor's flags say so, and nobody else can change them.
pub const FLAG: u8 = 0;
/// Another process shares the descriptor's flags, and may let reads wait: each says itself that it does not.
pub const AT_ONCE: u8 = 1;
/// The same, but the system has no such reads for userfaultfds.
pub const LOOK_FIRST: u8 = 2;

impl Userfault {
    /// Reads what happened, without waiting. How many messages there were; 0: none. Descriptors that come with them are
    /// closed.
    pub fn read(&self, messages: &mut [Message]) -> Result<usize> {
        self.os.may(Call::Events)?;
        let done = match self.reads.load(Ordering::Relaxed) {
            FLAG => self.read_by_flag(messages),
            AT_ONCE => self.read_at_once(messages),
            _ => self.look_and_read(messages),
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

    fn read_by_flag(&self, messages: &mut [Message]) -> Result<usize> {
        // SAFETY: so many bytes can be written, and any are a message.
        let done = unsafe { libc::read(self.fd(), messages.as_mut_ptr().cast(), size_of_val(messages)) };
        usize::try_from(done).map_err(|_| last_errno())
    }

    /// By a call that does not wait whatever the flags say. Since Linux 6.10.
    fn read_at_once(&self, messages: &mut [Message]) -> Result<usize> {
        let mut span = libc::iovec { iov_base: messages.as_mut_ptr().cast(), iov_len: size_of_val(messages) };
        let done = self.os.may(Call::EventsAtOnce).and_then(|()| {
            let (nowhere, number): (libc::c_long, _) = (-1, libc::SYS_preadv2);
            // SAFETY: the span can be written, and any bytes are a message. The two numbers are no offset.
            let done =
                unsafe { libc::syscall(number, self.fd(), &raw mut span, 1, nowhere, nowhere, libc::RWF_NOWAIT) };
            usize::try_from(done).map_err(|_| last_errno())
        });
        match done {
            // It does not know such reads, or a jail forbids them.
            Err(Errno(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)) => {
                self.reads.store(LOOK_FIRST, Ordering::Relaxed);
                self.look_and_read(messages)
            }
            Err(errno) => {
                // Who polls is told when there is something next.
                self.set_flag()?;
                Err(errno)
            }
            done => done,
        }
    }

    /// By one that does not wait, unless the other process undoes it just before, and takes the message as well.
    #[cold]
    fn look_and_read(&self, messages: &mut [Message]) -> Result<usize> {
        self.set_flag()?;
        let mut polled = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry can be read and written.
        let ready = unsafe { libc::poll(&raw mut polled, 1, 0) };
        if ready > 0 && polled.revents & libc::POLLIN != 0 { self.read_by_flag(messages) } else { Ok(0) }
    }

    /// Sets the flag that reads don't wait, if it is not set. Without it polling fails as well.
    pub(super) fn set_flag(&self) -> Result<()> {
        // SAFETY: these calls take numbers only.
        let flags = unsafe { libc::fcntl(self.fd(), libc::F_GETFL) };
        if flags < 0 {
            return Err(last_errno());
        }
        if flags & libc::O_NONBLOCK != 0 {
            return Ok(());
        }
        // SAFETY: as above.
        super::checked(unsafe { libc::fcntl(self.fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
    }
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
