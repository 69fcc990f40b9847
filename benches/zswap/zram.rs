//! The kernel's zram with LZ4 beside zswap: the same pages, in the same run.

use super::common::pages::{Page, Pages};
use super::common::zram::{self, Device};
use super::common::{self, give_up};
use super::zswap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;
use zsalloc::{Area, LoadFlags, PAGE_SIZE, ZswapOptions};

/// `O_DIRECT` of Linux on x86-64.
const DIRECT: i32 = 0o40000;
/// Pages of a turn.
const TURN: usize = 512;
/// A buffer for direct I/O.
#[repr(align(4096))]
struct Aligned(Page);

/// Opens a device for direct I/O.
fn open(device: &Device) -> Result<File, String> {
    let path = device.path();
    let opened = OpenOptions::new().read(true).write(true).custom_flags(DIRECT).open(&path);
    opened.map_err(|error| format!("{}: {error}", path.display()))
}

/// Measures both sides, and prints a table, or a note if there is no zram.
pub fn compare(pages: &Pages) {
    let count = pages.pages.len() / TURN * TURN;
    let opened = Device::new(count * PAGE_SIZE).and_then(|device| open(&device).map(|file| (device, file)));
    // The file is closed before the device is dropped.
    let (device, file) = match opened {
        Ok(opened) => opened,
        Err(sentence) if common::is_trial() => return println!("{sentence}"),
        Err(sentence) => give_up(&sentence),
    };
    let (zswap, area) = zswap(count, &ZswapOptions::default());
    let mut buffer = Box::new(Aligned([0; PAGE_SIZE]));
    let first = stores(pages, count, &area, &file, &mut buffer);
    let over = stores(pages, count, &area, &file, &mut buffer);
    let load = loads(pages, count, &area, &file, &mut buffer);
    println!("\n{:<46}{:>8}{:>12}{:>9}", "microseconds per page, one thread", "zswap", "zram", "ratio");
    let lines = [
        ("store, memory new from the system", first, "at most 0.75"),
        ("replace a stored page", over, "at most 0.75"),
        ("load in random order", load, "at most 0.70"),
    ];
    for (name, [ours, theirs], target) in lines {
        let per_page = 1e6 / count as f64;
        let ratio = ours / theirs;
        println!("{name:<46}{:>8.2}{:>12.2}{ratio:>9.3}  {target}", ours * per_page, theirs * per_page);
    }
    let stats = zswap.stats().expect("statistics");
    let tables = (zswap.pool_stats().expect("statistics").metadata_pages * PAGE_SIZE as u64) as f64;
    let ours = stats.pool_bytes as f64 + stats.metadata_bytes as f64 - tables;
    let theirs = zram::memory(device.number(), count);
    let held = (count * PAGE_SIZE) as f64;
    let [ours, theirs] = [held / ours, held / theirs];
    println!("{:<46}{ours:>8.3}{theirs:>12.3}{:>9.3}  at least 1", "pages held / all memory", ours / theirs);
}

/// Stores all pages in turns. Returns the seconds of zswap and of zram.
fn stores(pages: &Pages, count: usize, area: &Area, device: &File, buffer: &mut Aligned) -> [f64; 2] {
    let mut seconds = [0.0; 2];
    for from in (0..count).step_by(TURN) {
        let start = Instant::now();
        (from..from + TURN).for_each(|at| area.store(at as u64, &pages.pages[at]).expect("no limit"));
        seconds[0] += start.elapsed().as_secs_f64();
        let other = (from + count / 2 / TURN * TURN) % count;
        for at in other..other + TURN {
            // The copy to the buffer for direct I/O is not measured.
            buffer.0 = pages.pages[at];
            let start = Instant::now();
            device.write_all_at(&buffer.0, (at * PAGE_SIZE) as u64).expect("zram takes the page");
            seconds[1] += start.elapsed().as_secs_f64();
        }
    }
    seconds
}

/// Loads all pages in random order, in turns. Returns the seconds of zswap and of zram.
fn loads(pages: &Pages, count: usize, area: &Area, device: &File, buffer: &mut Aligned) -> [f64; 2] {
    let order: Vec<usize> = pages.shuffled.iter().copied().filter(|&at| at < count).collect();
    let (mut page, mut seconds) = ([0; PAGE_SIZE], [0.0; 2]);
    for from in (0..count).step_by(TURN) {
        let start = Instant::now();
        for &at in &order[from..from + TURN] {
            area.load(at as u64, &mut page, LoadFlags::KEEP).expect("stored above");
        }
        seconds[0] += start.elapsed().as_secs_f64();
        let other = (from + count / 2 / TURN * TURN) % count;
        let start = Instant::now();
        for &at in &order[other..other + TURN] {
            device.read_exact_at(&mut buffer.0, (at * PAGE_SIZE) as u64).expect("zram has the page");
        }
        seconds[1] += start.elapsed().as_secs_f64();
        assert!(buffer.0 == pages.pages[order[other + TURN - 1]], "zram gives the page back");
    }
    seconds
}
