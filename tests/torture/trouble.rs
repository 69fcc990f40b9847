//! Conditions that keep pages from leaving memory: huge pages of memory files, pins, merged pages, and locked memory.

use crate::World;
use crate::memory::Memory;
use std::fs::{read_to_string, write};
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Which conditions there are. `ZSALLOC_TORTURE_WITHOUT` names those to leave out, separated by commas.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Pages of memory files are put together to huge pages, before they are added and later.
    pub huge: bool,
    /// Pipes refer to pages.
    pub pins: bool,
    /// Equal private pages are merged, where the test may turn that on.
    pub ksm: bool,
    /// More memory than the limit is locked from time to time.
    pub locked: bool,
}

impl Trouble {
    pub fn from_environment() -> Self {
        let without = std::env::var("ZSALLOC_TORTURE_WITHOUT").unwrap_or_default();
        let with = |name| !without.split(',').any(|word| word == name);
        Self { huge: with("huge"), pins: with("pins"), ksm: with("ksm"), locked: with("locked") }
    }
}

/// The system's settings before the test.
static SETTINGS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Makes the system merge equal pages quickly, and allow memory files to have huge pages, those of 64 KiB too.
pub fn change_settings(with: Trouble) {
    const MERGES: [(&str, &str); 3] = [("pages_to_scan", "2000"), ("sleep_millisecs", "20"), ("run", "1")];
    const HUGE: [(&str, &str); 2] = [("shmem_enabled", "advise"), ("hugepages-64kB/shmem_enabled", "advise")];
    let merges = MERGES.map(|(name, value)| (format!("/sys/kernel/mm/ksm/{name}"), value));
    let huge = HUGE.map(|(name, value)| (format!("/sys/kernel/mm/transparent_hugepage/{name}"), value));
    let mut settings = SETTINGS.lock().unwrap();
    for (path, value) in merges.into_iter().filter(|_| with.ksm).chain(huge.into_iter().filter(|_| with.huge)) {
        let before = read_to_string(&path).unwrap_or_default();
        // If there are several words, the one in brackets is the current value.
        let before = before.split_once('[').map_or(&*before, |(_, rest)| rest.split(']').next().unwrap());
        match write(&path, value) {
            Ok(()) => settings.push((path, before.trim().to_string())),
            Err(error) => eprintln!("NOT RUN: {path} can't be set to {value}: {error}"),
        }
    }
}

/// Restores the settings, at the end and before the test aborts.
pub fn restore_settings() {
    if let Ok(mut settings) = SETTINGS.try_lock() {
        settings.drain(..).rev().for_each(|(path, value)| _ = write(path, value));
    }
}

/// Locks and unlocks a region that is larger than the limit, until the world stops.
pub fn lock_and_unlock(world: &World) {
    const PAGES: usize = 2500;
    let Some(mut memory) = Memory::new(world, PAGES, false, true, 0x10c) else { return };
    while !world.stop.load(Relaxed) {
        // SAFETY: it changes none of the bytes.
        let locked = unsafe { libc::mlock2(memory.at(0).cast(), memory.bytes(), 1) } == 0;
        (0..PAGES).step_by(3).for_each(|page| memory.check(page, *memory.lock(page), false));
        std::thread::sleep(Duration::from_millis(300));
        (0..PAGES).for_each(|page| memory.check(page, *memory.lock(page), false));
        // SAFETY: as above.
        assert!(!locked || unsafe { libc::munlock(memory.at(0).cast(), memory.bytes()) } == 0);
        std::thread::sleep(Duration::from_millis(2500));
    }
    assert!(!memory.restore(world, false));
}
