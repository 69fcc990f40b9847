//! Which pages a workload touches, in which order, and how many misses a least-recently-used list would have.

use super::random::Random;

/// Flag of a touch that writes.
pub const WRITE: u32 = 1 << 31;
/// Percentage of touches that only read, in measurements that are not about it.
pub const READS: usize = 90;
/// Exponent of Zipf's law.
const SKEW: f64 = 0.99;
/// The mixed workload: this many touches by Zipf's law, then this many neighbours in order.
const MIXED: (usize, usize) = (12_288, 4096);

/// A pattern of touches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Touches few pages often and most seldom.
    Zipf,
    /// Touches all pages in order, again and again.
    Scan,
    /// Touches all pages with equal probability.
    Random,
    /// Alternates between Zipf and Scan.
    Mixed,
}

impl Workload {
    /// All workloads, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Zipf, Self::Scan, Self::Random, Self::Mixed];

    /// Returns the name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Scan => "scan",
            Self::Random => "random",
            Self::Mixed => "mixed",
        }
    }

    /// Returns how many touches give a steady number.
    pub fn touches(self, pages: usize) -> usize {
        pages
            * match self {
                Self::Zipf => 24,
                Self::Scan => 5,
                Self::Random => 6,
                Self::Mixed => 12,
            }
    }

    /// Returns the touches of one thread, of `threads` threads. `reads` percent of them only read.
    pub fn sequence(self, pages: usize, thread: usize, threads: usize, reads: usize) -> Vec<u32> {
        let mut random = Random::new(0x5eed + thread as u64);
        // Which pages are popular is the same for all threads.
        let mut places: Vec<u32> = (0..pages as u32).collect();
        Random::new(99).shuffle(&mut places);
        let shares = shares(pages);
        let zipf = move |random: &mut Random| {
            let at = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            places[shares.partition_point(|&share| share <= at).min(pages - 1)]
        };
        let mut next = pages * thread / threads;
        let mut in_order = move || {
            next = (next + 1) % pages;
            next as u32
        };
        (0..self.touches(pages) / threads)
            .map(|turn| {
                let page = match self {
                    Self::Zipf => zipf(&mut random),
                    Self::Scan => in_order(),
                    Self::Random => random.below(pages) as u32,
                    Self::Mixed if turn % (MIXED.0 + MIXED.1) < MIXED.0 => zipf(&mut random),
                    Self::Mixed => in_order(),
                };
                if random.below(100) < reads { page } else { page | WRITE }
            })
            .collect()
    }
}

/// Returns, for each rank, the share of touches that this rank and all before it get.
fn shares(pages: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=pages)
        .map(|rank| {
            sum += (rank as f64).powf(-SKEW);
            sum
        })
        .collect();
    sums.into_iter().map(|part| part / sum).collect()
}

/// Returns how many touches miss a least-recently-used list of `room` pages. The first `warm` touches of each thread do
/// not count. The threads run in step, after all pages were touched in order once.
pub fn lru_misses(sequences: &[Vec<u32>], warm: usize, pages: usize, room: usize) -> u64 {
    let mut lru = Lru::new(pages, room);
    (0..pages).for_each(|page| _ = lru.touch(page));
    let mut misses = 0;
    for turn in 0..sequences[0].len() {
        for sequence in sequences {
            let missed = lru.touch((sequence[turn] & !WRITE) as usize);
            misses += u64::from(missed && turn >= warm);
        }
    }
    misses
}

/// A doubly linked list of pages, whose head and tail are at the end of the table.
struct Lru {
    links: Vec<[u32; 2]>,
    is_in: Vec<bool>,
    room: usize,
    count: usize,
}

const NEWER: usize = 0;
const OLDER: usize = 1;

impl Lru {
    fn new(pages: usize, room: usize) -> Self {
        let ends = pages as u32;
        Self { links: vec![[ends; 2]; pages + 1], is_in: vec![false; pages], room, count: 0 }
    }

    fn unlink(&mut self, page: usize) {
        let [newer, older] = self.links[page];
        self.links[newer as usize][OLDER] = older;
        self.links[older as usize][NEWER] = newer;
    }

    /// Touches a page. Returns whether it was missing.
    fn touch(&mut self, page: usize) -> bool {
        let ends = self.is_in.len();
        let missed = !self.is_in[page];
        if !missed {
            self.unlink(page);
        } else if self.count == self.room {
            let oldest = self.links[ends][NEWER] as usize;
            self.unlink(oldest);
            self.is_in[oldest] = false;
        } else {
            self.count += 1;
        }
        self.is_in[page] = true;
        let newest = self.links[ends][OLDER];
        self.links[page] = [ends as u32, newest];
        self.links[newest as usize][NEWER] = page as u32;
        self.links[ends][OLDER] = page as u32;
        missed
    }
}
