//! Everything at once: some threads own pages and know what is in them, others read, write back, compact, recompress
//! and move limits. Every page tells its area, offset and version, and is compared to the last byte.
//!
//! `ZSALLOC_RACE_SECONDS=n` sets how long each test runs; `.ci/long` runs them for ten minutes.

use super::{PageBytes, Until, WATCHDOG};
use crate::os::Os;
use crate::tests::shared::{Rng, number, pattern};
use crate::{
    Area, AreaOptions, Codec, CompactBudget, Error, LoadFlags, PAGE_SIZE, Patience, Refusal, Zswap, ZswapOptions,
    ZswapTuning,
};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How many threads own pages.
const OWNERS: u64 = 8;
/// How many pages that follow each other have one owner.
const BLOCK: u64 = 32;
const BLOCKS: u64 = 32;
const PAGES: u64 = BLOCK * BLOCKS;
const AREAS: usize = 2;

/// Makes a version of a page: filled, compressible or noise in turn, and unlike any other.
fn make(area: usize, offset: u64, version: u64) -> PageBytes {
    let key = version << 11 | offset << 1 | area as u64;
    if version.is_multiple_of(4) {
        // This fits a page word, so the page is stored as a filled one.
        return std::array::from_fn(|at| (key & 0x7fff_ffff_ffff).to_ne_bytes()[at % 8]);
    }
    let mut page = [version as u8; PAGE_SIZE];
    let random = if version % 16 == 3 { PAGE_SIZE } else { 400 + (key % 7 * 300) as usize };
    page[..random].copy_from_slice(pattern(key, random));
    page[..8].copy_from_slice(&key.to_ne_bytes());
    page
}

/// Returns the version of a page. Panics if the bytes are not, to the last, those of a version of that page.
#[track_caller]
fn version_of(area: usize, offset: u64, page: &PageBytes) -> u64 {
    let version = u64::from_ne_bytes(page[..8].try_into().unwrap()) >> 11;
    assert!(*page == make(area, offset, version), "page {offset} of area {area} came back as something else");
    version
}

/// What the test knows of a page.
#[derive(Default)]
struct Truth {
    /// The newest version whose store has begun.
    begun: AtomicU64,
    /// The version that is on the embedder's disk.
    disk: Mutex<u64>,
}

impl Truth {
    /// Writes a version to the disk, and checks that it is no older than the one there.
    fn write(&self, version: u64) {
        let mut disk = self.disk.lock().unwrap();
        assert!(*disk <= version, "version {version} was written after version {}", *disk);
        assert!(version <= self.begun.load(SeqCst));
        *disk = version;
    }
}

type Truths = [Vec<Truth>; AREAS];

struct Scene {
    zswap: Zswap,
    areas: Vec<Area>,
    truths: Arc<Truths>,
    /// Whether pages leave for the embedder's disk. Otherwise they stay in the pool or on the library's file.
    leaves: bool,
    stop: AtomicBool,
    /// How many assertions failed in a callback, where a panic is a refusal.
    wrong: Arc<AtomicU64>,
}

impl Scene {
    fn new(options: &ZswapOptions, leaves: bool) -> Self {
        let zswap = Zswap::new("races", options).unwrap();
        let areas = (0..AREAS).map(|context| {
            let options = AreaOptions { context, ..AreaOptions::default() };
            zswap.add_area(PAGES, &options).unwrap()
        });
        let areas = areas.collect();
        let truths: Truths = std::array::from_fn(|_| (0..PAGES).map(|_| Truth::default()).collect());
        let (truths, wrong) = (Arc::new(truths), Arc::default());
        Self { zswap, areas, truths, leaves, stop: AtomicBool::new(false), wrong }
    }

    fn write_to_the_disk(&self) {
        let (truths, wrong, lots) = (self.truths.clone(), self.wrong.clone(), AtomicU64::new(0));
        let callback = move |area: &Area, offset: u64, page: &PageBytes| {
            wrong.fetch_add(1, SeqCst);
            let version = version_of(area.context(), offset, page);
            let lot = lots.fetch_add(1, SeqCst);
            if lot % 50 == 0 {
                thread::yield_now();
            }
            if lot % 9 != 0 {
                truths[area.context()][offset as usize].write(version);
            }
            wrong.fetch_sub(1, SeqCst);
            match lot % 9 {
                0 => Err([Refusal::Exists, Refusal::Again, Refusal::Io, Refusal::NoSpace][(lot / 9 % 4) as usize]),
                _ => Ok(()),
            }
        };
        self.zswap.set_writeback(callback).unwrap();
    }

    fn runs(&self) -> bool {
        !self.stop.load(SeqCst)
    }

    fn truth(&self, at: usize, offset: u64) -> &Truth {
        &self.truths[at][offset as usize]
    }

    /// Loads a page that another thread may own, and checks that it is of a version whose store has begun.
    fn read(&self, at: usize, offset: u64) {
        let mut page = [0; PAGE_SIZE];
        match self.areas[at].load(offset, &mut page, LoadFlags::KEEP) {
            Ok(()) => {
                let version = version_of(at, offset, &page);
                assert!(version <= self.truth(at, offset).begun.load(SeqCst), "a version that was never stored");
            }
            Err(error) => assert!(matches!(error, Error::NotFound(_)), "{error}"),
        }
    }
}

/// What a thread knows of the pages that it owns.
struct Owner<'a> {
    scene: &'a Scene,
    rng: Rng,
    number: u64,
    /// The newest version of each of its pages; 0: none, or the owner has written it to the disk itself.
    stored: [Vec<u64>; AREAS],
}

impl<'a> Owner<'a> {
    fn new(scene: &'a Scene, number: u64, seed: u64) -> Self {
        let stored = std::array::from_fn(|_| vec![0; PAGES as usize]);
        Self { scene, rng: Rng::new(seed ^ number << 40), number, stored }
    }

    /// Draws one of its pages, and how many more of them follow.
    fn draw(&mut self) -> (usize, u64, u64) {
        let block = self.rng.below((BLOCKS / OWNERS) as usize) as u64 * OWNERS + self.number;
        let within = self.rng.below(BLOCK as usize) as u64;
        (self.rng.below(AREAS), block * BLOCK + within, BLOCK - within)
    }

    fn begin(&mut self, at: usize, offset: u64) -> (u64, PageBytes) {
        let version = self.scene.truth(at, offset).begun.fetch_add(1, SeqCst) + 1;
        (version, make(at, offset, version))
    }

    /// Notes that a version was stored. If it could not be, the owner writes it to the disk itself.
    fn note(&mut self, at: usize, offset: u64, version: u64, stored: crate::Result<()>) {
        assert!(matches!(stored, Ok(()) | Err(Error::Limit(_))), "{stored:?}");
        if stored.is_ok() {
            self.stored[at][offset as usize] = version;
        } else {
            self.keep(at, offset, version);
        }
    }

    /// Writes a version to the disk. Nothing of the page is in zswap any more, so it stays there.
    fn keep(&mut self, at: usize, offset: u64, version: u64) {
        self.stored[at][offset as usize] = 0;
        self.scene.truth(at, offset).write(version);
    }

    fn step(&mut self) {
        let (at, offset, more) = self.draw();
        let area = &self.scene.areas[at];
        match self.rng.below(100) {
            0..40 => {
                let (version, page) = self.begin(at, offset);
                self.note(at, offset, version, area.store(offset, &page));
            }
            40..45 => {
                let count = more.min(self.rng.between(1, 12) as u64);
                let made: Vec<_> = (offset..offset + count).map(|offset| self.begin(at, offset)).collect();
                let pages: Vec<_> = made.iter().map(|(_, page)| *page).collect();
                let stored = area.store_pages(offset, &pages);
                (offset..).zip(&made).for_each(|(offset, (version, _))| self.note(at, offset, *version, stored));
            }
            45..65 => self.load(at, offset, LoadFlags::KEEP),
            65..75 => self.load(at, offset, LoadFlags::TAKE),
            75..80 => {
                let count = more.min(self.rng.between(1, 8) as u64);
                area.invalidate(offset, count, Patience::Wait).unwrap();
                for offset in offset..offset + count {
                    let version = self.scene.truth(at, offset).begun.load(SeqCst);
                    self.keep(at, offset, version);
                }
            }
            _ => {
                let other = self.rng.below(PAGES as usize) as u64;
                self.scene.read(at, other);
            }
        }
    }

    /// Loads a page of its own. The newest version is in zswap or, if it left, on the disk.
    fn load(&mut self, at: usize, offset: u64, flags: LoadFlags) {
        let (mut page, newest) = ([0; PAGE_SIZE], self.stored[at][offset as usize]);
        match self.scene.areas[at].load(offset, &mut page, flags) {
            Ok(()) => {
                assert_eq!(version_of(at, offset, &page), newest, "an old version");
                if flags.exclusive {
                    self.keep(at, offset, newest);
                }
            }
            Err(Error::NotFound(_)) => {
                assert!(newest == 0 || self.scene.leaves, "a page is gone");
                let truth = self.scene.truth(at, offset);
                let (disk, begun) = (*truth.disk.lock().unwrap(), truth.begun.load(SeqCst));
                assert_eq!(disk, begun, "the newest version is neither here nor on the disk");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn verify_all(&mut self) {
        for at in 0..AREAS {
            let blocks = (self.number..BLOCKS).step_by(OWNERS as usize);
            for offset in blocks.flat_map(|block| block * BLOCK..(block + 1) * BLOCK) {
                self.load(at, offset, LoadFlags::KEEP);
            }
        }
    }
}

/// Claims pages, writes them to the disk, and ends the claims in another order.
fn pull(scene: &Scene, rng: &mut Rng) {
    let any = rng.chance(30);
    let area = &scene.areas[rng.below(AREAS)];
    let mut claims = Vec::new();
    for _ in 0..rng.between(1, 8) {
        let mut page = [0; PAGE_SIZE];
        let claim = if any { scene.zswap.claim(&mut page) } else { area.claim(&mut page) };
        claims.extend(claim.unwrap().map(|claim| (claim, page)));
    }
    rng.shuffle(&mut claims);
    for (claim, page) in claims {
        let at = scene.areas.iter().position(|area| area.id() == claim.area().id()).unwrap();
        let version = version_of(at, claim.offset(), &page);
        match rng.below(10) {
            0 => claim.refuse(Refusal::Io),
            1 => drop(claim),
            _ => {
                scene.truth(at, claim.offset()).write(version);
                claim.written().unwrap();
            }
        }
    }
}

/// Disturbs the owners with shrinks, compaction, stronger codecs, limits that move, and statistics.
fn disturb(scene: &Scene, rng: &mut Rng) {
    let zswap = &scene.zswap;
    match rng.below(12) {
        0..4 => {
            let shrunk = zswap.shrink(rng.between(1, 64) as u64);
            assert!(matches!(shrunk, Ok(_) | Err(Error::Again(_) | Error::NotFound(_))), "{shrunk:?}");
        }
        4..6 if scene.leaves => pull(scene, rng),
        4..6 => {
            _ = zswap
                .compact(&CompactBudget { max_bytes_moved: None, max_time: Some(Duration::from_micros(200)) })
                .unwrap()
        }
        6 => _ = zswap.compact(&CompactBudget { max_bytes_moved: Some(100_000), max_time: None }).unwrap(),
        7 => {
            let recompressed = scene.areas[rng.below(AREAS)].recompress(20, Codec::Zstd(1));
            assert!(matches!(recompressed, Ok(_) | Err(Error::Limit(_))), "{recompressed:?}");
        }
        8 => zswap.set_limit(rng.pick(&[None, None, Some(1_000_000), Some(3_000_000)])).unwrap(),
        9 => scene.areas[rng.below(AREAS)].set_limit(rng.pick(&[None, None, None, Some(700_000)])).unwrap(),
        10 => zswap.set_codec(rng.pick(&[Codec::Lz4, Codec::Lz4, Codec::Raw, Codec::Zstd(1)])).unwrap(),
        _ => {
            let snapshot = zswap.snapshot().unwrap();
            assert!(snapshot.areas.iter().all(|area| area.stats.counts.pages() <= PAGES), "{snapshot:?}");
            let used: u64 = snapshot.areas.iter().map(|area| area.stats.used_bytes).sum();
            assert!(used <= 3 * PAGE_SIZE as u64 * PAGES * AREAS as u64, "{snapshot:?}");
        }
    }
}

fn run(scene: &Scene) {
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("ZSALLOC_MODEL_SEED").unwrap_or_else(clock);
    let seconds = Duration::from_secs(number("ZSALLOC_RACE_SECONDS").unwrap_or(1));
    let steps = AtomicU64::new(0);
    thread::scope(|threads| {
        for number in 0..OWNERS {
            let steps = &steps;
            threads.spawn(move || {
                let mut owner = Owner::new(scene, number, seed);
                let _stopping = Until(&scene.stop);
                while scene.runs() {
                    (0..64).for_each(|_| owner.step());
                    steps.fetch_add(64, SeqCst);
                }
                // Whether other threads still disturb or not, the page in zswap or on the disk is the newest.
                owner.verify_all();
            });
        }
        for number in 0..2 {
            threads.spawn(move || {
                let mut rng = Rng::new(seed ^ number);
                let _stopping = Until(&scene.stop);
                while scene.runs() {
                    disturb(scene, &mut rng);
                }
            });
        }
        let begun = Instant::now();
        let mut last = (0, begun);
        while begun.elapsed() < seconds && scene.runs() {
            thread::sleep(Duration::from_millis(10).min(seconds));
            if steps.load(SeqCst) != last.0 {
                last = (steps.load(SeqCst), Instant::now());
            }
            if last.1.elapsed() > WATCHDOG {
                eprintln!("nothing moves any more: a deadlock");
                std::process::abort();
            }
        }
        scene.stop.store(true, SeqCst);
    });
    assert_eq!(scene.wrong.load(SeqCst), 0, "an assertion failed in the callback");
    let counts = scene.zswap.stats().unwrap().counts;
    println!("races: {} steps, {counts:?}", steps.load(SeqCst));
    assert!(counts.written_back > 0 && counts.loads > 0 && counts.decode_failures == 0);
    assert_eq!((counts.file_read_failures, counts.writeback_other), (0, 0));
    scene.areas.iter().for_each(|area| area.invalidate(0, PAGES, Patience::NoWait).unwrap());
    let stats = scene.zswap.stats().unwrap();
    assert_eq!((stats.used_bytes, stats.counts.pages(), stats.file_bytes), (0, 0, 0));
    assert_eq!(scene.zswap.pool().stats().unwrap().objects, 0);
    scene.zswap.pool().check();
}

#[test]
fn races_with_a_disk() {
    let scene = Scene::new(
        &ZswapOptions {
            tuning: ZswapTuning { contexts: Some(2), ..ZswapTuning::default() },
            ..ZswapOptions::default()
        },
        true,
    );
    scene.write_to_the_disk();
    run(&scene);
}

#[test]
fn races_with_a_file() {
    let scene = Scene::new(&ZswapOptions { max_bytes: Some(2 << 20), ..ZswapOptions::default() }, false);
    let file = Os::default().memory_file("backing", 0, false).unwrap();
    scene.zswap.set_backing_file(Some((file.as_fd(), PAGES * PAGE_SIZE as u64))).unwrap();
    run(&scene);
}

/// Batches look ahead at objects that no thread has pinned, while these move or are freed with their zspages.
#[test]
fn batches_beside_compaction_and_frees() {
    const PAGES: u64 = 512;
    const ROUNDS: usize = 300;
    let zswap = Zswap::new(
        "batches",
        &ZswapOptions {
            tuning: ZswapTuning { contexts: Some(2), ..ZswapTuning::default() },
            ..ZswapOptions::default()
        },
    )
    .unwrap();
    let area = zswap.add_area(PAGES, &crate::AreaOptions::default()).unwrap();
    let page = |offset: u64| if offset.is_multiple_of(5) { super::noise(offset) } else { super::compressible(offset) };
    let pages: Vec<_> = (0..PAGES).map(page).collect();
    area.store_pages(0, &pages).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        for seed in 1..3 {
            let (area, pages, done) = (&area, &pages, &done);
            threads.spawn(move || {
                let (mut rng, mut loaded) = (Rng::new(seed), vec![[0; PAGE_SIZE]; 64]);
                while !done.load(SeqCst) {
                    let flags = if rng.chance(20) { LoadFlags::TAKE } else { LoadFlags::KEEP };
                    let first = rng.below(PAGES as usize - 64) as u64;
                    let offsets: Vec<u64> = match rng.chance(50) {
                        true => (first..first + 64).collect(),
                        false => (0..64).map(|_| rng.below(PAGES as usize) as u64).collect(),
                    };
                    let mut right = [false; 64];
                    let _ = area.load_scattered(&offsets, &mut loaded, flags, |at, result| {
                        assert!(matches!(result, Ok(()) | Err(Error::NotFound(_))), "{result:?}");
                        right[at] = result.is_ok();
                    });
                    for at in (0..64).filter(|&at| right[at]) {
                        assert!(loaded[at] == pages[offsets[at] as usize], "page {}", offsets[at]);
                    }
                    let _ = area.load_pages(first, &mut loaded, flags, |_, _| ());
                }
            });
        }
        threads.spawn(|| {
            while !done.load(SeqCst) {
                zswap.compact(&CompactBudget::default()).unwrap();
            }
        });
        let mut rng = Rng::new(9);
        for _ in 0..ROUNDS {
            let first = rng.below(PAGES as usize - 128) as u64;
            area.invalidate(first, 128, Patience::Wait).unwrap();
            let first = rng.below(PAGES as usize - 64);
            area.store_pages(first as u64, &pages[first..first + 64]).unwrap();
        }
        done.store(true, SeqCst);
    });
}
