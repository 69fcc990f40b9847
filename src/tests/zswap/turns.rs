//! A shrink never has the last handle of an area, unless the owners dropped the area without removing it.

use super::{Until, WATCHDOG, compressible, with_area};
use crate::os::Os;
use crate::{Area, AreaOptions, Error, PAGE_SIZE, Refusal, ZswapOptions};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

#[test]
fn no_shrink_has_a_handle_of_an_area_that_was_removed() {
    let (zswap, other) = with_area(8, &ZswapOptions::default());
    let file = Os::default().memory_file("backing", 0, false).unwrap();
    zswap.set_backing_file(Some((file.as_fd(), 64 * PAGE_SIZE as u64))).unwrap();
    other.store(0, &compressible(1)).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        let _stopping = Until(&stop);
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(SeqCst) {
                    zswap.shrink(8).ok();
                }
            });
        }
        let begun = Instant::now();
        for number in 0..3000 {
            let area = zswap.add_area(8, &AreaOptions::default()).unwrap();
            area.store(0, &compressible(number)).unwrap();
            while let Err(error) = area.remove() {
                assert!(matches!(error, Error::Busy(_)) && begun.elapsed() < WATCHDOG, "{error}");
            }
            assert_eq!(area.0.strong_count(), 1, "a shrink would be the one to free the area");
        }
    });
    assert_eq!(zswap.area_count(), 1);
}

#[test]
fn an_area_that_is_dropped_in_a_shrink_goes_with_it() {
    let (zswap, area) = with_area(8, &ZswapOptions::default());
    area.store(0, &compressible(1)).unwrap();
    let owner = Mutex::new(Some(area));
    let callback = move |area: &Area, _: u64, _: &[u8; PAGE_SIZE]| {
        drop(owner.lock().unwrap().take());
        assert!(matches!(area.remove(), Err(Error::Busy(_))));
        Err(Refusal::Again)
    };
    zswap.set_writeback(callback).unwrap();
    assert!(matches!(zswap.shrink(1), Err(Error::Again(_) | Error::NotFound(_))));
    assert_eq!(zswap.area_count(), 0);
    assert_eq!(zswap.pool().stats().unwrap().objects, 0);
}
