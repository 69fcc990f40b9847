//! What leaves memory: bytes and writes for each page, the memory that a page on the file costs, loads beside raw
//! reads, and what cleaning moves.
//!
//! The file is a new one in the folder that `ZSALLOC_FOLDER` names, or else in the system's folder for temporary files.
//! It is read and written past the page cache where the file system allows it. Writes are those that the system counts
//! for this process. `--mib` sets the size of the pages, 256 by default.

#[path = "common/mod.rs"]
mod common;

use common::pages::{self, Page};
use common::plain::Compressor;
use common::random::Random;
use lz4_flex::block::decompress_into;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::Instant;
use zsalloc::{Area, AreaOptions, CompactBudget, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions};

const ALL: CompactBudget = CompactBudget { max_bytes_moved: None, max_time: None };

/// A zswap with a file.
struct Scene {
    zswap: Zswap,
    area: Area,
    file: File,
}

fn or_give_up<T>(result: Result<T, impl std::fmt::Display>) -> T {
    result.unwrap_or_else(|error| common::give_up(&error.to_string()))
}

fn folder() -> std::path::PathBuf {
    std::env::var_os("ZSALLOC_FOLDER").map_or_else(std::env::temp_dir, Into::into)
}

/// Makes a file without a name.
fn new_file() -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE);
    or_give_up(options.open(folder()))
}

impl Scene {
    fn new(pages: usize) -> Self {
        let zswap = or_give_up(Zswap::new("bench", &ZswapOptions::default()));
        let file = new_file();
        or_give_up(zswap.set_backing_file(Some((file.as_fd(), (pages * PAGE_SIZE * 2) as u64))));
        let area = or_give_up(zswap.add_area(pages as u64, &AreaOptions::default()));
        Self { zswap, area, file }
    }

    fn store(&self, offset: usize, page: &Page) {
        or_give_up(self.area.store(offset as u64, page));
    }

    /// Shrinks by `at_once` pages until all pages are on the file.
    fn write_all(&self, at_once: u64) {
        while self.zswap.stats().is_ok_and(|stats| stats.counts.pool_pages() > 0) {
            // The first rounds of the clock hand may clear marks alone.
            let _ = self.zswap.shrink(at_once);
        }
    }

    fn load(&self, offset: usize, page: &mut Page) {
        or_give_up(self.area.load(offset as u64, page, LoadFlags::KEEP));
        black_box(page);
    }

    fn stats(&self) -> zsalloc::ZswapStats {
        or_give_up(self.zswap.stats())
    }

    fn moved(&self) -> u64 {
        self.stats().counts.moved_on_file
    }
}

/// Returns how many writes this process has made, and their bytes.
fn written() -> (u64, u64) {
    let text = or_give_up(std::fs::read_to_string("/proc/self/io"));
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    (value("syscw:").unwrap_or(0), value("wchar:").unwrap_or(0))
}

/// Tells what writing `pages` costs, by shrinks of `at_once` pages.
fn writes(pages: &[Page], at_once: u64, name: &str) {
    let scene = Scene::new(pages.len());
    pages.iter().enumerate().for_each(|(at, page)| scene.store(at, page));
    // The buffers come with the first extents, however many pages follow.
    std::thread::scope(|threads| {
        (0..8).for_each(|_| _ = threads.spawn(|| scene.zswap.shrink(at_once.min(64))));
    });
    let (first, before) = (scene.stats(), written());
    scene.write_all(at_once);
    let (after, stats) = (written(), scene.stats());
    let count = (stats.counts.file_pages - first.counts.file_pages) as f64;
    let (calls, bytes) = ((after.0 - before.0) as f64 / count, (after.1 - before.1) as f64 / count);
    let compressed = (stats.file_page_bytes - first.file_page_bytes) as f64 / count;
    let memory = (stats.metadata_bytes as f64 - first.metadata_bytes as f64) / count;
    println!(
        "{name:<28}{bytes:>9.0}{compressed:>12.0}{:>14.3}{:>14.1}{memory:>14.2}",
        (bytes - 64.0) / compressed,
        1.0 / calls
    );
}

/// Loads pages with a cold cache, beside raw reads of as many bytes that are decoded.
fn loads(pages: &[Page]) {
    let scene = Scene::new(pages.len());
    pages.iter().enumerate().for_each(|(at, page)| scene.store(at, page));
    scene.write_all(64);
    let mut page = [0; PAGE_SIZE];
    let raw = raw_file(pages);
    let mut random = Random::new(7);
    let offsets: Vec<usize> = (0..pages.len().min(8192)).map(|_| random.below(pages.len())).collect();
    let mut sums = [0.0; 3];
    // In turns, so that a disk that becomes slower does so for all.
    for part in offsets.chunks(256) {
        let started = Instant::now();
        part.iter().for_each(|&offset| scene.load(offset, &mut page));
        sums[0] += started.elapsed().as_secs_f64();
        let started = Instant::now();
        part.iter().for_each(|&offset| raw.load(offset, &mut page));
        sums[1] += started.elapsed().as_secs_f64();
        let started = Instant::now();
        let first = part[0] / 256 * 256;
        (first..(first + 256).min(pages.len())).for_each(|offset| scene.load(offset, &mut page));
        sums[2] += started.elapsed().as_secs_f64();
    }
    let each = sums.map(|sum| sum * 1e6 / offsets.len() as f64);
    println!(
        "\nload, microseconds: {:.1} at random, {:.1} in order; raw read and decoding {:.1}",
        each[0], each[2], each[1]
    );
    println!("at random over raw: {:.2}; at random over in order: {:.1}", each[0] / each[1], each[0] / each[2]);
}

/// Entries of pages in a file, one after the other, read past the page cache.
struct Raw {
    file: File,
    places: Vec<(usize, usize)>,
}

/// Room for the blocks of an entry, at a multiple of the page size.
#[repr(C, align(4096))]
struct Blocks([u8; 3 * PAGE_SIZE]);

fn raw_file(pages: &[Page]) -> Raw {
    let mut plain = Compressor::new();
    let packed: Vec<Vec<u8>> = pages.iter().map(|page| plain.compress(page).to_vec()).collect();
    let mut places = Vec::new();
    let mut end = 0;
    let file = new_file();
    for bytes in &packed {
        places.push((end, bytes.len()));
        or_give_up(file.write_all_at(bytes, end as u64));
        end += bytes.len();
    }
    or_give_up(file.set_len(((end / PAGE_SIZE + 4) * PAGE_SIZE) as u64));
    or_give_up(file.sync_all());
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    Raw { file: direct.unwrap_or(file), places }
}

impl Raw {
    fn load(&self, at: usize, page: &mut Page) {
        let mut blocks = Blocks([0; 3 * PAGE_SIZE]);
        let (from, length) = self.places[at];
        let (first, end) = (from / PAGE_SIZE * PAGE_SIZE, (from + length).next_multiple_of(PAGE_SIZE));
        or_give_up(self.file.read_exact_at(&mut blocks.0[..end - first], first as u64));
        or_give_up(decompress_into(&blocks.0[from - first..][..length], page));
        black_box(page);
    }
}

/// Replaces pages at random, and tells how many entries are moved for each new one.
fn replacement(pages: &[Page]) {
    let scene = Scene::new(pages.len());
    pages.iter().enumerate().for_each(|(at, page)| scene.store(at, page));
    scene.write_all(64);
    let mut random = Random::new(11);
    let mut replace = |rounds: usize| {
        for _ in 0..rounds * pages.len() / 64 {
            (0..64).for_each(|_| {
                let at = random.below(pages.len());
                scene.store(at, &pages[at]);
            });
            scene.write_all(64);
        }
    };
    // Until the file has the shape that it keeps.
    replace(if common::is_trial() { 1 } else { 3 });
    let (moved, before) = (scene.moved(), scene.stats().counts.written_back);
    replace(if common::is_trial() { 1 } else { 2 });
    let stats = scene.stats();
    let new = stats.counts.written_back - before;
    println!(
        "\nuniform replacement: {:.2} entries moved for each new one, at {:.3} live bytes a byte of blocks",
        (stats.counts.moved_on_file - moved) as f64 / new as f64,
        stats.file_page_bytes as f64 / stats.file_bytes as f64
    );
    let moved = scene.moved();
    (0..10).for_each(|_| _ = scene.zswap.compact(&ALL));
    let once = scene.moved();
    (0..10).for_each(|_| _ = scene.zswap.compact(&ALL));
    println!("compacting ten times moved {} entries, and ten times more {}", once - moved, scene.moved() - once);
}

/// Removes half of the pages at random, and then all.
fn removal(pages: &[Page]) {
    let scene = Scene::new(pages.len());
    pages.iter().enumerate().for_each(|(at, page)| scene.store(at, page));
    scene.write_all(64);
    let mut random = Random::new(13);
    for at in 0..pages.len() as u64 {
        if random.below(2) == 0 {
            or_give_up(scene.area.invalidate(at, 1, Patience::Wait));
        }
    }
    let before = scene.stats();
    or_give_up(scene.zswap.compact(&ALL));
    let after = scene.stats();
    println!(
        "half removed at random: {:.2} bytes of blocks a live byte, then {:.2}, by moving {:.2} of the pages left",
        before.file_bytes as f64 / before.file_page_bytes as f64,
        after.file_bytes as f64 / after.file_page_bytes as f64,
        (after.counts.moved_on_file - before.counts.moved_on_file) as f64 / after.counts.file_pages as f64
    );
    or_give_up(scene.area.invalidate(0, pages.len() as u64, Patience::Wait));
    or_give_up(scene.zswap.compact(&ALL));
    let left = or_give_up(scene.file.metadata()).blocks() * 512;
    println!("all removed: the file takes {:.2} MiB of the disk", left as f64 / (1 << 20) as f64);
}

fn main() {
    let mib = common::option("--mib").map_or(256, |text| text.parse().unwrap_or(256));
    let wanted = if common::is_trial() { 2048 } else { mib * 256 };
    let pages = pages::read(wanted).pages;
    let pages = &pages[..wanted];
    println!("{} pages of 4096 bytes\n", pages.len());
    println!(
        "{:<28}{:>9}{:>12}{:>14}{:>14}{:>14}",
        "bytes a page", "written", "compressed", "(w-64)/c", "pages/write", "memory"
    );
    writes(pages, 1 << 20, "full extents");
    writes(&pages[..pages.len() / 8], 16, "shrinks of 16 pages");
    writes(&pages[..pages.len() / 32], 1, "shrinks of one page");
    loads(pages);
    replacement(&pages[..pages.len() / 2]);
    removal(pages);
}
