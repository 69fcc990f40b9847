//! What the kernel costs by itself. Each thread makes the kernel let go of a page as often as memory of the pager's
//! size would have missed it, and then touches the page.

use super::common::random::Random;
use super::common::region::Region;
use super::common::sequences::WRITE;
use super::team::Worker;
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use zsalloc::PAGE_SIZE;

/// Operations per call of a worker.
const BATCH: usize = 64;
/// Pages that are tried to find out whether there is swap.
const TRIED: usize = 64;

/// How the kernel lets go of a page, and what the next touch finds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The kernel unmaps a page of a memory file: the touch finds it in the file.
    File,
    /// The kernel frees a page: the touch gets a page of zeros.
    New,
    /// The kernel swaps a page out: the touch brings it back.
    Swap,
}

/// Makes the kernel let go of a page.
fn let_go(region: &Region, page: usize, way: Way) {
    let advice = if way == Way::Swap { libc::MADV_PAGEOUT } else { libc::MADV_DONTNEED };
    assert!(page < region.pages());
    // SAFETY: the page is inside the mapping. It comes back with its bytes, or with zeros, which all are valid words.
    unsafe { libc::madvise(region.base().add(page * PAGE_SIZE).cast(), PAGE_SIZE, advice) };
}

/// Returns whether swap is on that takes pages of this region.
pub fn has_swap(region: &Region) -> bool {
    let tried = TRIED.min(region.pages());
    (0..tried).for_each(|page| let_go(region, page, Way::Swap));
    region.in_place()[..tried].iter().filter(|&&is_there| !is_there).count() > tried / 2
}

/// Returns the worker of a thread that touches pages in this order. A share of `misses` of the touches needs the
/// kernel.
pub fn worker<'a>(region: &'a Region, sequence: &'a [u32], misses: f64, way: Way) -> Worker<'a> {
    let mut touches = sequence.iter().cycle();
    let mut random = Random::new(u64::from(sequence[0]) + 1);
    let below = (misses * f64::from(1 << 20)) as usize;
    Box::new(move || {
        for &touch in touches.by_ref().take(BATCH) {
            let page = (touch & !WRITE) as usize;
            if random.below(1 << 20) < below {
                let_go(region, page, way);
            }
            let word = region.first(page);
            // Pages of a file are only read. A freed page reads as the shared page of zeros, so only a write gets a
            // new page.
            if way == Way::New || way == Way::Swap && touch & WRITE != 0 {
                word.fetch_add(1, Relaxed);
            } else {
                black_box(word.load(Relaxed));
            }
        }
        BATCH as u64
    })
}
