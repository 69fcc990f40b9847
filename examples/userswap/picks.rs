//! Which page is touched next.

use super::random::Random;

/// A pattern of touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Touches few pages often and many seldom: the k-th most used page in proportion to 1 / k^0.99. Ranks are in
    /// random order in memory.
    Zipf,
    /// Touches all pages in order, again and again. Each thread begins at a place of its own.
    Scan,
    /// Touches all pages with equal probability.
    Random,
}

impl Kind {
    /// All workloads, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Zipf, Self::Scan, Self::Random];

    /// Returns the name for the command line and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Scan => "scan",
            Self::Random => "random",
        }
    }
}

/// Exponent of Zipf's law.
const SKEW: f64 = 0.99;

/// What all threads of a workload share.
pub struct Picks {
    kind: Kind,
    pages: usize,
    /// The page of each rank, for Zipf.
    order: Vec<u32>,
    zipf: Zipf,
}

impl Picks {
    /// Prepares picks among `pages` pages.
    pub fn new(kind: Kind, pages: usize, seed: u64) -> Self {
        let mut order: Vec<u32> = if kind == Kind::Zipf { (0..pages as u32).collect() } else { Vec::new() };
        Random(seed).shuffle(&mut order);
        Self { kind, pages, order, zipf: Zipf::new(pages) }
    }

    /// Returns an endless sequence of pages for a thread.
    pub fn thread(&self, thread: usize, threads: usize, seed: u64) -> impl FnMut() -> usize + '_ {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(thread as u64 + 1));
        let mut next = self.pages * thread / threads;
        move || match self.kind {
            Kind::Zipf => self.order[self.zipf.rank(&mut random)] as usize,
            Kind::Random => random.below(self.pages),
            Kind::Scan => {
                let page = next;
                next = (next + 1) % self.pages;
                page
            }
        }
    }
}

/// Ranks with a Zipf distribution. Uses the area under x^-SKEW instead of the sum over ranks, with half of the first
/// rank's part to its left. That is exact enough for a workload, and needs no table.
struct Zipf {
    most: f64,
    ranks: usize,
}

impl Zipf {
    fn new(ranks: usize) -> Self {
        Self { most: area(ranks as f64 + 0.5), ranks }
    }

    fn rank(&self, random: &mut Random) -> usize {
        let least = area(0.5);
        let part = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let x = height(least + part * (self.most - least));
        (x.round() as usize).clamp(1, self.ranks) - 1
    }
}

/// Returns the area under x^-SKEW from 1 to `x`.
fn area(x: f64) -> f64 {
    (x.powf(1.0 - SKEW) - 1.0) / (1.0 - SKEW)
}

/// Returns the x up to which the area is `area`.
fn height(area: f64) -> f64 {
    (area * (1.0 - SKEW) + 1.0).powf(1.0 / (1.0 - SKEW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_is_skewed_as_it_should_be() {
        let picks = Picks::new(Kind::Zipf, 10_000, 3);
        let mut next = picks.thread(0, 1, 3);
        let mut seen = vec![0u32; 10_000];
        (0..1_000_000).for_each(|_| seen[next()] += 1);
        seen.sort_unstable_by(|one, other| other.cmp(one));
        let sum: f64 = (1..=10_000).map(|rank| f64::from(rank).powf(-SKEW)).sum();
        for rank in [1usize, 10, 100, 1000] {
            let ratio = f64::from(seen[rank - 1]) / (1e6 / sum * (rank as f64).powf(-SKEW));
            assert!((0.8..1.25).contains(&ratio), "rank {rank}: {ratio}");
        }
    }

    #[test]
    fn a_scan_meets_every_page() {
        let picks = Picks::new(Kind::Scan, 10, 3);
        let mut next = picks.thread(1, 2, 3);
        assert_eq!((0..10).map(|_| next()).collect::<Vec<_>>(), [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]);
        let picks = Picks::new(Kind::Random, 10, 3);
        let mut next = picks.thread(1, 2, 3);
        assert!((0..1000).all(|_| next() < 10));
    }
}
