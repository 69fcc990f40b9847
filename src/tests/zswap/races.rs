//! Eight threads that do everything at once, and verify every page. `ZSALLOC_RACE_SECONDS` makes it last.
//!
//! Each offset has an owner, the only one that stores it, so that it knows which versions may be found. Pages tell what
//! they are: offset, version, and bytes that follow from both.

use super::{PageBytes, memory_file};
use crate::{
    Area, AreaOptions, Claim, Codec, CompactBudget, Error, LoadFlags, PAGE_SIZE, Patience, Refusal, Zswap, ZswapOptions,
};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const THREADS: u64 = 8;
const PAGES: u64 = 2048;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end
    }
}

/// The page of an offset in a version: one of three kinds.
fn page(offset: u64, version: u64) -> PageBytes {
    let mut page = [0; PAGE_SIZE];
    let kind = (offset + version) % 8;
    if kind == 0 {
        // Of one word, which tells both.
        let word = (version << 24 | offset).to_le_bytes();
        page.as_chunks_mut::<8>().0.fill(word);
        return page;
    }
    let mut state = (offset << 32 | version).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (at, byte) in page.iter_mut().enumerate().skip(16) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = if kind == 1 || at % 16 == 0 { state as u8 } else { (at / 64) as u8 };
    }
    page[..8].copy_from_slice(&offset.to_le_bytes());
    page[8..16].copy_from_slice(&version.to_le_bytes());
    page
}

/// The version of a page that was found at an offset; it is that page to the last byte.
#[track_caller]
fn version_of(offset: u64, found: &PageBytes) -> u64 {
    let [first, second] = [0, 8].map(|at| u64::from_le_bytes(found[at..at + 8].try_into().unwrap()));
    let version = if first == second && first >> 24 != 0 { first >> 24 } else { second };
    assert!(*found == page(offset, version), "offset {offset} has another page, or a damaged one");
    version
}

/// What is known of the pages, by those who own them and those who write them back.
struct World {
    zswap: Zswap,
    area: Area,
    /// The version of each offset that was stored, or begun to be stored, last.
    newest: Vec<AtomicU64>,
    /// The version of each offset that was written back last.
    disk: Vec<AtomicU64>,
    /// Whether the library writes to its own file.
    own_file: bool,
    end: Instant,
}

impl World {
    /// A version was written to the disk of the embedder: it is not older than what was there.
    fn write(&self, offset: u64, found: &PageBytes) {
        let version = version_of(offset, found);
        let before = self.disk[offset as usize].swap(version, SeqCst);
        assert!(version >= before, "offset {offset}: version {version} came to disk after {before}");
        assert!(version <= self.newest[offset as usize].load(SeqCst));
    }

    fn check_loaded(&self, offset: u64, done: Result<(), Error>, found: &PageBytes) {
        match done {
            Ok(()) => assert!(version_of(offset, found) <= self.newest[offset as usize].load(SeqCst)),
            Err(Error::NotFound(_) | Error::Again(_) | Error::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What one thread does to the offsets that it owns.
struct Owner<'a> {
    world: &'a World,
    number: u64,
    random: Random,
    /// The version that each of its offsets has, at least, unless it was refused, removed or written back.
    versions: Vec<u64>,
}

impl Owner<'_> {
    fn offset(&mut self) -> u64 {
        self.random.below(PAGES / THREADS) * THREADS + self.number
    }

    fn store(&mut self) {
        let offset = self.offset();
        let own = (offset / THREADS) as usize;
        let version = self.world.newest[offset as usize].load(SeqCst) + 1;
        self.world.newest[offset as usize].store(version, SeqCst);
        match self.world.area.store(offset, &page(offset, version)) {
            Ok(()) => self.versions[own] = version,
            Err(Error::NoMemory(_)) => {
                self.versions[own] = 0;
                assert!(self.absent(offset), "a store that failed leaves no older copy");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn absent(&self, offset: u64) -> bool {
        let mut found = [0; PAGE_SIZE];
        matches!(self.world.area.load(offset, &mut found, LoadFlags::KEEP), Err(Error::NotFound(_)))
    }

    /// Its own page: the version that it stored, or that is on the disk.
    fn load(&mut self, flags: LoadFlags) {
        let offset = self.offset();
        let own = (offset / THREADS) as usize;
        let mut found = [0; PAGE_SIZE];
        match self.world.area.load(offset, &mut found, flags) {
            Ok(()) => assert_eq!(version_of(offset, &found), self.versions[own], "offset {offset}"),
            Err(Error::NotFound(_)) if self.versions[own] == 0 => {}
            Err(Error::NotFound(_)) => {
                assert!(!self.world.own_file, "offset {offset} is gone");
                assert_eq!(
                    self.world.disk[offset as usize].load(SeqCst),
                    self.versions[own],
                    "offset {offset} is lost"
                );
            }
            Err(Error::Busy(_)) => return,
            Err(error) => panic!("{error}"),
        }
        if flags.exclusive {
            self.versions[own] = 0;
        }
    }

    fn invalidate(&mut self) {
        let offset = self.offset();
        match self.world.area.invalidate(offset, 1, Patience::Wait) {
            Ok(()) => {
                self.versions[(offset / THREADS) as usize] = 0;
                assert!(self.absent(offset));
            }
            Err(Error::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Others' pages.
    fn look_around(&mut self) {
        let offsets: [u64; 8] = std::array::from_fn(|_| self.random.below(PAGES));
        let mut pages = [[0; PAGE_SIZE]; 8];
        let mut results = [Ok(()); 8];
        let all = self.world.area.load_scattered(&offsets, &mut pages, LoadFlags::KEEP, |at, done| results[at] = done);
        assert_eq!(all.is_ok(), results.iter().all(Result::is_ok));
        for at in 0..8 {
            self.world.check_loaded(offsets[at], results[at], &pages[at]);
        }
    }

    fn pull(&mut self) {
        let (mut claims, mut pages) = ([Claim::default(); 4], [[0; PAGE_SIZE]; 4]);
        let count = self.world.area.begin_writeback(&mut claims, &mut pages).unwrap();
        for (claim, page) in claims[..count].iter().zip(&pages).rev() {
            let refused = self.random.below(4) == 0;
            if !refused {
                self.world.write(claim.offset, page);
            }
            self.world.area.end_writeback(claim, if refused { Err(Refusal::Io) } else { Ok(()) }).unwrap();
        }
    }

    fn tend(&mut self) {
        let zswap = &self.world.zswap;
        match self.random.below(7) {
            0 => drop(zswap.compact(&CompactBudget { max_microseconds: 500, ..CompactBudget::default() }).unwrap()),
            1 => zswap.set_codec([Codec::Lz4, Codec::Zstd(1), Codec::Raw][self.random.below(3) as usize]).unwrap(),
            2 => match self.world.area.recompress(50, Codec::Zstd(3)) {
                Ok(_) | Err(Error::NoMemory(_)) => {}
                Err(error) => panic!("{error}"),
            },
            3 => zswap.set_limit((1 + self.random.below(4)) << 20).unwrap(),
            4 => {
                let snapshot = zswap.snapshot().unwrap();
                assert!(snapshot.zswap.counts.pages() <= PAGES, "{snapshot:?}");
                assert_eq!(snapshot.zswap.counts, snapshot.areas[0].counts);
            }
            5 => assert!(zswap.stats_json().unwrap().starts_with('{')),
            _ => match zswap.shrink(32) {
                Ok(_) | Err(Error::Again(_) | Error::NotFound(_)) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }

    fn run(mut self) {
        while Instant::now() < self.world.end {
            for _ in 0..64 {
                match self.random.below(100) {
                    0..40 => self.store(),
                    40..70 => self.load(LoadFlags::KEEP),
                    70..76 => self.load(LoadFlags::TAKE),
                    76..80 => self.invalidate(),
                    80..90 => self.look_around(),
                    // With its own file the library alone writes back.
                    90..95 if !self.world.own_file => self.pull(),
                    _ => self.tend(),
                }
            }
        }
        // Every page once more, at rest as far as this thread goes.
        for own in 0..PAGES / THREADS {
            self.random = Random(own + 1);
            let offset = own * THREADS + self.number;
            let mut found = [0; PAGE_SIZE];
            match self.world.area.load(offset, &mut found, LoadFlags::KEEP) {
                Ok(()) => assert_eq!(version_of(offset, &found), self.versions[own as usize]),
                Err(Error::NotFound(_)) if self.versions[own as usize] == 0 => {}
                Err(Error::NotFound(_)) if !self.world.own_file => {
                    assert_eq!(self.world.disk[offset as usize].load(SeqCst), self.versions[own as usize]);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn race(own_file: bool) {
    let seconds = std::env::var("ZSALLOC_RACE_SECONDS").map_or(1, |text| text.parse().expect("a number of seconds"));
    let options = ZswapOptions { max_bytes: 3 << 20, contexts: 3, ..ZswapOptions::default() };
    let zswap = Zswap::new("races", &options).unwrap();
    let area = zswap.add_area(PAGES, &AreaOptions::default()).unwrap();
    let zeros = || (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let world = Arc::new(World { zswap, area, newest: zeros(), disk: zeros(), own_file, end });
    let file = memory_file();
    if own_file {
        world.zswap.set_backing_file(Some((file.as_raw_fd(), PAGES * PAGE_SIZE as u64 / 2))).unwrap();
    } else {
        let weak = Arc::downgrade(&world);
        let turn = AtomicU64::new(0);
        let writeback = move |_: &Area, offset: u64, page: &PageBytes| {
            let refusals = [Refusal::Again, Refusal::Io, Refusal::Exists, Refusal::NoMemory];
            let turn = turn.fetch_add(1, SeqCst);
            if turn % 16 < 4 {
                return Err(refusals[turn as usize % 16]);
            }
            weak.upgrade().expect("while it runs").write(offset, page);
            Ok(())
        };
        world.zswap.set_writeback(Some(Arc::new(writeback))).unwrap();
    }
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let versions = vec![0; (PAGES / THREADS) as usize];
            let owner = Owner { world: &world, number, random: Random(number + 77), versions };
            scope.spawn(move || owner.run());
        }
    });
    world.area.remove().unwrap();
    let stats = world.zswap.stats().unwrap();
    println!("{:?}", stats.counts);
    assert_eq!((stats.used_bytes, stats.file_bytes, stats.claims), (0, 0, 0));
    assert_eq!(world.zswap.pool().stats().unwrap().objects, 0);
    assert_eq!(stats.counts.decode_failures + stats.counts.file_read_failures, 0);
    assert!(stats.counts.written_back > 0 && stats.counts.loads > 0);
}

#[test]
fn eight_threads_and_a_callback() {
    race(false);
}

#[test]
fn eight_threads_and_the_own_file() {
    race(true);
}
