//! A pool's memory file whose pages are put together to huge pages behind its back.

use super::shared::{assert_holds, file_pages, free, options, store};
use crate::os::Os;
use crate::tests::skip::skip;
use crate::units::{CHUNK, PAGE};
use crate::{Backing, CompactBudget, Pool};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const OBJECTS: u64 = 2000;
const SIZE: usize = 4000;

/// Puts the objects' part of the file together to huge pages, and refers to a page of each from a pipe. None: this
/// system makes none.
fn collapse_and_pin(pool: &Pool) -> Option<[OwnedFd; 2]> {
    let [tables, arena] = pool.memory.spans();
    let bytes = arena.end - tables.start;
    let map = Os::default().map_file(pool.fd().unwrap().as_raw_fd(), bytes, CHUNK).unwrap();
    Os::default().commit(map.base().as_ptr(), bytes).unwrap();
    let mut ends = [0; 2];
    // SAFETY: two numbers can be written.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    let mut made = 0;
    for at in (arena.start - tables.start..bytes).step_by(CHUNK) {
        let at: *mut libc::c_void = map.base().as_ptr().wrapping_add(at).cast();
        // SAFETY: what the memory holds does not change.
        if unsafe { libc::madvise(at, CHUNK, libc::MADV_COLLAPSE) } != 0 {
            // There is nothing in this chunk, if not.
            break;
        }
        made += 1;
        let span = libc::iovec { iov_base: at, iov_len: PAGE };
        // SAFETY: the page can be read, and the pipe has room for it.
        let pinned = unsafe { libc::vmsplice(ends[1], &raw const span, 1, libc::SPLICE_F_NONBLOCK) };
        assert_eq!(pinned, PAGE as isize);
    }
    // SAFETY: descriptors that were just made.
    let pins = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if made == 0 {
        let why = std::io::Error::last_os_error();
        skip("memory_that_the_system_keeps_stays_charged", format_args!("no huge pages of a memory file: {why}"));
        return None;
    }
    Some(pins)
}

#[test]
fn memory_that_the_system_keeps_stays_charged() {
    let pool = Pool::new("huge", &options(64 << 20, Backing::MemoryFile)).unwrap();
    let handles: Vec<u64> = (0..OBJECTS).map(|key| store(&pool, key, SIZE).unwrap()).collect();
    let Some(pins) = collapse_and_pin(&pool) else { return };
    handles.iter().skip(1).for_each(|&handle| free(&pool, handle).unwrap());
    pool.compact(&CompactBudget::default()).unwrap();
    let (kept, charged) = (file_pages(&pool).unwrap(), pool.total_pages());
    assert!(kept > OBJECTS / 2, "{kept} pages are in the file");
    // What the tables' huge pages have more than the tables is not the pool's.
    assert!(kept <= charged + (CHUNK / PAGE) as u64, "{kept} pages are in the file, and {charged} charged");
    assert_holds(&pool, handles[0], 0, SIZE);
    drop(pins);
    pool.compact(&CompactBudget::default()).unwrap();
    assert!(pool.total_pages() < charged / 2, "{} pages are charged", pool.total_pages());
    assert_holds(&pool, handles[0], 0, SIZE);
}
