//! The kernel's zram, with objects of any size: a page that LZ4 makes as large as the object, and zeros behind.

use crate::common::give_up;
use crate::common::peers::Peer;
use crate::common::random::Random;
use crate::common::zram::{Device, memory};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;
/// Bytes of the device: more than any measurement has objects for.
const DEVICE: usize = 16 << 30;

/// A device, and which of its pages are stored.
pub struct Zram {
    state: Mutex<State>,
    // Closed before the device is removed.
    file: File,
    device: Device,
}

struct State {
    /// A page for direct I/O.
    page: Box<Aligned>,
    noise: Box<[u8; PAGE]>,
    /// How many bytes of noise make a page of each compressed size.
    noise_of: Vec<usize>,
    free: Vec<usize>,
    /// How many places of the device were used so far.
    places: usize,
}

#[repr(align(4096))]
struct Aligned([u8; PAGE]);

/// Returns why zram can't be measured here, if it can't.
pub fn missing() -> Option<String> {
    Device::new(PAGE).err()
}

/// Finds, for each size, how many bytes of noise before zeros compress to at most that size.
fn noise_for_sizes(noise: &[u8; PAGE]) -> Vec<usize> {
    let mut found = vec![PAGE; PAGE + 1];
    let mut compressed = [0; lz4_flex::block::get_maximum_output_size(PAGE)];
    for bytes in (0..PAGE).rev() {
        let mut page = [0; PAGE];
        page[..bytes].copy_from_slice(&noise[..bytes]);
        let size = lz4_flex::block::compress_into(&page, &mut compressed).unwrap_or(PAGE).min(PAGE);
        found[..=size].fill(bytes);
        // A size that no page has takes the next larger page.
    }
    found
}

impl Zram {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer for Zram {
    const NAME: &'static str = "zram";

    fn new() -> Self {
        let device = Device::new(DEVICE).unwrap_or_else(|sentence| give_up(&sentence));
        let path = device.path();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path);
        let file = opened.unwrap_or_else(|error| give_up(&format!("{}: {error}", path.display())));
        let mut random = Random::new(11);
        let noise = Box::new(std::array::from_fn(|_| random.next() as u8));
        let state = State {
            page: Box::new(Aligned([0; PAGE])),
            noise_of: noise_for_sizes(&noise),
            noise,
            free: Vec::new(),
            places: 0,
        };
        Self { state: Mutex::new(state), file, device }
    }

    fn alloc(&self, size: usize) -> usize {
        let state = &mut *self.lock();
        let bytes = state.noise_of[size];
        let page = &mut state.page.0;
        page[..bytes].copy_from_slice(&state.noise[..bytes]);
        page[bytes..].fill(0);
        let place = state.free.pop().unwrap_or_else(|| {
            state.places += 1;
            state.places - 1
        });
        let written = self.file.write_all_at(page, (place * PAGE) as u64);
        written.unwrap_or_else(|error| give_up(&format!("zram takes no page: {error}")));
        place
    }

    fn free(&self, token: usize) {
        let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (at, bytes) = ((token * PAGE) as libc::off_t, PAGE as libc::off_t);
        // SAFETY: no pointers are passed, and the descriptor is this object's.
        let result = unsafe { libc::fallocate(self.file.as_raw_fd(), flags, at, bytes) };
        assert_eq!(result, 0, "zram discards a page");
        self.lock().free.push(token);
    }

    fn map(&self, _: usize) -> *mut u8 {
        unreachable!("only memory is measured")
    }

    fn unmap(&self, _: usize) {}

    fn alloc_with(&self, size: usize, _: impl FnOnce(*mut u8)) -> usize {
        self.alloc(size)
    }

    fn give_back(&self) {
        let setting = format!("/sys/block/zram{}/compact", self.device.number());
        std::fs::write(&setting, "1").unwrap_or_else(|error| give_up(&format!("{setting}: {error}")));
    }

    fn counted_memory(&self) -> Option<u64> {
        Some(memory(self.device.number(), self.lock().places) as u64)
    }
}
