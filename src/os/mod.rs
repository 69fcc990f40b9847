//! The one seam to the system: nothing else in this crate names `libc` or `memmap2`.
//!
//! Each pool, pager and guest has an [`Os`], and tests make its n-th call of a kind fail. Calls that no test has to
//! make fail, such as sigaction, mincore and futex, do not go through it. Addresses and lengths are whole pages
//! throughout. `Err` carries the positive errno.
//!
//! | file | what it knows |
//! |---|---|
//! | `errno`, `descriptor` | error numbers, and descriptors that the system has just made |
//! | `calls`, `injected`, `seam` | the kinds of calls; making the n-th of a kind fail; the [`Os`] |
//! | `cancel` | holding off `pthread_cancel` |
//! | `span` | ranges of memory, as the system takes several in one call |
//! | `mapping` | reserving addresses, mapping files, making addresses usable, advice |
//! | `memory_file`, `file` | files in memory; files of the caller's |
//! | `fork_guard` | telling a forked child from its parent |
//! | `release` | giving memory back, and what the system's answers prove |
//! | `machine`, `kernel` | memory and processors of the machine; the kernel's release, and whether it swaps |
//! | `thread` | numbers of processes and threads; waiting on a word |
//! | `thread_start` | starting a thread, and waiting for its end |
//! | `cache` | fetching memory into the processor's caches, and copying past them |
//! | `blocked`, `sigbus`, `loaded` | blocking signals; the handler of SIGBUS, whose code has to stay loaded |
//! | `maps`, `residency`, `own_memory` | mappings; which pages are in memory or swapped; reading memory that may go |
//! | `messages`, `ioctl`, `userfault`, `event_fd` | userfaultfds: events, calls, placing pages, waking pollers |
//! | `guardian` | the process that holds userfaultfds for when this one dies |

mod cache;
mod calls;
mod cancel;
mod descriptor;
pub mod errno;
mod fork_guard;
mod machine;
mod mapping;
mod memory_file;
mod release;
mod seam;
mod span;
mod thread;

pub mod file;
#[cfg(any(test, fuzzing))]
pub mod injected;

#[cfg(feature = "uffd")]
pub mod blocked;
#[cfg(feature = "uffd")]
pub mod event_fd;
#[cfg(feature = "uffd")]
pub mod guardian;
#[cfg(feature = "uffd")]
mod ioctl;
#[cfg(feature = "uffd")]
pub mod kernel;
#[cfg(feature = "uffd")]
mod loaded;
#[cfg(feature = "uffd")]
pub mod maps;
#[cfg(feature = "uffd")]
mod messages;
#[cfg(feature = "uffd")]
pub mod own_memory;
#[cfg(feature = "uffd")]
pub mod residency;
#[cfg(feature = "uffd")]
pub mod sigbus;
#[cfg(feature = "uffd")]
pub mod thread_start;
#[cfg(feature = "uffd")]
pub mod userfault;

pub use cache::{copy_past_caches, prefetch, prefetch_bytes, prefetch_bytes_to_write};
#[cfg(any(test, fuzzing))]
pub use calls::Call;
pub use cancel::Uncancelled;
pub use errno::Errno;
pub use file::{FileId, PageCache};
pub use fork_guard::ForkGuard;
pub use machine::{current_cpu, page_size, physical_memory, processors};
pub use mapping::{Advice, Mapping};
pub use release::Backed;
pub use seam::Os;
pub use span::Span;
#[cfg(not(loom))]
pub use thread::nap;
#[cfg(all(not(loom), feature = "uffd"))]
pub use thread::sleep;
#[cfg(any(not(loom), feature = "uffd"))]
pub use thread::wake;
pub use thread::{this_process, this_thread};
