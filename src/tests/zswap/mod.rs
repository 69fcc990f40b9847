//! Tests of zswap.

mod adding_tiers;
mod ages;
mod basics;
mod callbacks;
mod claiming;
mod errors;
mod extents;
#[cfg(feature = "uffd")]
mod faulting;
mod file;
mod handles;
mod integrity;
mod limits;
mod matrix;
mod model;
mod own_tier;
mod places;
mod races;
mod stats;
mod tiers;
mod turns;
mod wraps;

use crate::{Area, AreaOptions, Claim, LoadFlags, PAGE_SIZE, Refusal, Result, Zswap, ZswapOptions};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub type PageBytes = [u8; PAGE_SIZE];

/// Returns a page that LZ4 compresses to some 700 bytes, different for each number.
pub fn compressible(number: u64) -> PageBytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::array::from_fn(|at| {
        if at % 8 == 0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        if at % 64 < 8 { state as u8 } else { (number as u8).wrapping_add((at / 64) as u8) }
    })
}

/// Returns a page that no codec makes shorter, different for each number.
pub fn noise(number: u64) -> PageBytes {
    let mut state = number.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

/// Makes a zswap with one area of `pages` pages.
pub fn with_area(pages: u64, options: &ZswapOptions) -> (Zswap, Area) {
    let zswap = Zswap::new("test", options).unwrap();
    let area = zswap.add_area(pages, &AreaOptions::default()).unwrap();
    (zswap, area)
}

/// Loads a page, which stays stored.
pub fn load(area: &Area, offset: u64) -> Result<PageBytes> {
    let mut page = [0xee; PAGE_SIZE];
    area.load(offset, &mut page, LoadFlags::KEEP).map(|()| page)
}

/// Loads and removes a page.
pub fn take(area: &Area, offset: u64) -> Result<PageBytes> {
    let mut page = [0xee; PAGE_SIZE];
    area.load(offset, &mut page, LoadFlags::TAKE).map(|()| page)
}

/// Claims pages one by one, as many as can be claimed and at most `most`.
pub fn claim_some(area: &Area, most: usize) -> Vec<(Claim, PageBytes)> {
    let next = || {
        let mut page = [0; PAGE_SIZE];
        area.claim(&mut page).unwrap().map(|claim| (claim, page))
    };
    std::iter::from_fn(next).take(most).collect()
}

/// A callback that tells when it was entered, and waits for its result.
pub struct Slow {
    pub entered: Receiver<u64>,
    pub result: Sender<std::result::Result<(), Refusal>>,
    /// How many callbacks have returned.
    pub returned: Arc<AtomicU64>,
}

impl Slow {
    pub fn new(zswap: &Zswap) -> Self {
        let (enter, entered) = channel();
        let (result, told) = channel();
        let (enter, told) = (Mutex::new(enter), Mutex::new(told));
        let returned = Arc::<AtomicU64>::default();
        let returns = returned.clone();
        let callback = move |_: &Area, offset: u64, _: &PageBytes| {
            enter.lock().unwrap().send(offset).unwrap();
            let result = told.lock().unwrap().recv_timeout(WATCHDOG).expect("the callback is told to return");
            returns.fetch_add(1, SeqCst);
            result
        };
        zswap.set_writeback(callback).unwrap();
        Self { entered, result, returned }
    }

    /// Waits until the callback was entered. Returns its page.
    pub fn wait(&self) -> u64 {
        self.entered.recv_timeout(WATCHDOG).expect("the callback is called")
    }
}

/// How long anything may take before a test is said to hang.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// Tells other threads to stop when it is dropped, also in a panic, which would otherwise wait for them for ever.
pub struct Until<'a>(pub &'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Gives another thread time to do what it must not do.
pub fn linger() {
    std::thread::sleep(Duration::from_millis(20));
}

/// The pages that a callback wrote, by area and offset.
pub type Disk = Arc<Mutex<HashMap<(u64, u64), PageBytes>>>;

/// Sets a callback that writes to a [`Disk`], and returns that.
pub fn with_disk(zswap: &Zswap) -> Disk {
    let disk = Disk::default();
    let to = disk.clone();
    let callback = move |area: &Area, offset, page: &PageBytes| {
        to.lock().unwrap().insert((area.id(), offset), *page);
        Ok(())
    };
    zswap.set_writeback(callback).unwrap();
    disk
}

/// Runs `act`, which may hang, on a thread of its own, and aborts if it does.
pub fn watched(act: impl FnOnce() + Send + 'static) {
    let (done, finished) = channel();
    let thread = std::thread::spawn(move || {
        act();
        done.send(()).ok();
    });
    if finished.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
        eprintln!("the test hangs");
        std::process::abort();
    }
    thread.join().unwrap();
}
