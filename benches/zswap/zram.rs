//! The kernel's zram with LZ4 beside zswap: the same pages, in the same run.
//!
//! It has a device of its own, which is removed at the end, whatever happened.

use super::common::{self, give_up};
use super::pages::{Page, Pages};
use super::zswap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;
use zsalloc::{Area, LoadFlags, PAGE_SIZE, ZswapOptions};

const CONTROL: &str = "/sys/class/zram-control";
/// `O_DIRECT` of Linux on x86-64.
const DIRECT: i32 = 0o40000;
/// Pages of a turn.
const TURN: usize = 512;
/// What the kernel keeps for each page of a device, and for each object.
const SLOT: f64 = 16.0;
const HANDLE: f64 = 8.0;

/// A buffer that a device can be written from directly.
#[repr(align(4096))]
struct Aligned(Page);

/// A device of its own.
struct Device {
    number: u32,
    file: Option<File>,
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(self.file.take());
        // Until the last user has let go, which udev may be, the kernel says that it is busy.
        for _ in 0..50 {
            let _ = fs::write(self.path("reset"), "1");
            if fs::write(format!("{CONTROL}/hot_remove"), self.number.to_string()).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eprintln!("/dev/zram{} could not be removed", self.number);
    }
}

impl Device {
    fn new(bytes: usize) -> Result<Self, String> {
        if !fs::exists(CONTROL).unwrap_or(false) {
            let _ = Command::new("modprobe").arg("zram").status();
        }
        let number = fs::read_to_string(format!("{CONTROL}/hot_add"))
            .map_err(|error| format!("zram needs root and a kernel with zram: {CONTROL}/hot_add: {error}"))?;
        let number = number.trim().parse().map_err(|_| format!("{CONTROL}/hot_add said {number:?}"))?;
        let mut device = Self { number, file: None };
        device.set("comp_algorithm", "lz4")?;
        device.set("disksize", &bytes.to_string())?;
        let path = format!("/dev/zram{number}");
        let opened = OpenOptions::new().read(true).write(true).custom_flags(DIRECT).open(&path);
        device.file = Some(opened.map_err(|error| format!("{path}: {error}"))?);
        Ok(device)
    }

    fn path(&self, name: &str) -> PathBuf {
        format!("/sys/block/zram{}/{name}", self.number).into()
    }

    fn set(&self, name: &str, value: &str) -> Result<(), String> {
        fs::write(self.path(name), value).map_err(|error| format!("zram's {name} can't be {value}: {error}"))
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("open until it is dropped")
    }

    /// Bytes that its allocator has, and pages that repeat one word.
    fn memory(&self) -> (f64, f64) {
        let text = fs::read_to_string(self.path("mm_stat")).unwrap_or_default();
        let fields: Vec<f64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        (fields.get(2).copied().unwrap_or(f64::NAN), fields.get(5).copied().unwrap_or(0.0))
    }
}

/// Compares, and prints a table; says so where it can't.
pub fn compare(pages: &Pages) {
    let count = pages.pages.len() / TURN * TURN;
    let device = match Device::new(count * PAGE_SIZE) {
        Ok(device) => device,
        Err(sentence) if common::is_trial() => return println!("{sentence}"),
        Err(sentence) => give_up(&sentence),
    };
    let (zswap, area) = zswap(count, &ZswapOptions::default());
    let mut buffer = Box::new(Aligned([0; PAGE_SIZE]));
    let first = stores(pages, count, &area, &device, &mut buffer);
    let over = stores(pages, count, &area, &device, &mut buffer);
    let load = loads(pages, count, &area, &device, &mut buffer);
    println!("\n{:<46}{:>8}{:>12}{:>9}", "microseconds a page, one thread", "zswap", "zram", "ratio");
    let lines = [
        ("store, memory new from the system", first, "at most 0.75"),
        ("store over what is there", over, "at most 0.75"),
        ("load in random order", load, "at most 0.70"),
    ];
    for (name, [ours, theirs], target) in lines {
        let per_page = 1e6 / count as f64;
        let ratio = ours / theirs;
        println!("{name:<46}{:>8.2}{:>12.2}{ratio:>9.3}  {target}", ours * per_page, theirs * per_page);
    }
    let stats = zswap.stats().expect("statistics");
    let tables = (zswap.pool().stats().expect("statistics").metadata_pages * PAGE_SIZE as u64) as f64;
    let ours = stats.pool_bytes as f64 + stats.metadata_bytes as f64 - tables;
    let (used, same) = device.memory();
    let theirs = used + SLOT * count as f64 + HANDLE * (count as f64 - same);
    let held = (count * PAGE_SIZE) as f64;
    let [ours, theirs] = [held / ours, held / theirs];
    println!("{:<46}{ours:>8.3}{theirs:>12.3}{:>9.3}  at least 1", "pages held / all memory", ours / theirs);
}

/// Stores all pages, in turns. Seconds of ours, and of zram's.
fn stores(pages: &Pages, count: usize, area: &Area, device: &Device, buffer: &mut Aligned) -> [f64; 2] {
    let mut seconds = [0.0; 2];
    for from in (0..count).step_by(TURN) {
        let start = Instant::now();
        (from..from + TURN).for_each(|at| area.store(at as u64, &pages.pages[at]).expect("no limit"));
        seconds[0] += start.elapsed().as_secs_f64();
        let other = (from + count / 2 / TURN * TURN) % count;
        for at in other..other + TURN {
            // The buffer that direct I/O needs is not zram's to pay for.
            buffer.0 = pages.pages[at];
            let start = Instant::now();
            device.file().write_all_at(&buffer.0, (at * PAGE_SIZE) as u64).expect("zram takes the page");
            seconds[1] += start.elapsed().as_secs_f64();
        }
    }
    seconds
}

/// Loads all pages in random order, in turns.
fn loads(pages: &Pages, count: usize, area: &Area, device: &Device, buffer: &mut Aligned) -> [f64; 2] {
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
            device.file().read_exact_at(&mut buffer.0, (at * PAGE_SIZE) as u64).expect("zram has the page");
        }
        seconds[1] += start.elapsed().as_secs_f64();
        assert!(buffer.0 == pages.pages[order[other + TURN - 1]], "zram gives the page back");
    }
    seconds
}
