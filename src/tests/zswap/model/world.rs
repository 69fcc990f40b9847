//! The expected state: each area as ordered maps, the disk of the embedder, and what may be refused.

use super::pages;
use super::tiers::ModelTier;
use crate::plumbing::zswap::RawClaim;
use crate::tests::shared::Rng;
use crate::tests::shared::unless_zero;
use crate::zswap::word::WordKind;
use crate::{Area, AreaOptions, Claim, Codec, Counts, Error, Patience, Result, Zswap, ZswapOptions, ZswapTuning};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A page that is stored.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub page: usize,
    /// The number of the store that put it there.
    pub version: u64,
}

/// The writer of a page that is being written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Callback,
    /// A claim that this thread holds.
    Me,
    /// A claim of a thread that has ended.
    Other,
}

/// A writeback that runs.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub by: By,
    pub page: usize,
    pub version: u64,
    /// Whether the page was loaded meanwhile.
    pub loaded: bool,
    /// Whether `loaded` decides for certain: recompression clears the mark that a load leaves.
    pub sure: bool,
}

/// An area, and the pages that should be in it.
pub struct AreaModel {
    pub area: Area,
    pub options: AreaOptions,
    pub max: u64,
    /// Where its pages lie. The area may be far larger.
    pub windows: Vec<u64>,
    pub width: u64,
    pub held: BTreeMap<u64, Held>,
    pub running: BTreeMap<u64, Running>,
    /// The pages that were written back and are only on the disk.
    pub gone: BTreeMap<u64, usize>,
    /// The page that was last written to each place of the disk.
    pub disk: BTreeMap<u64, usize>,
    /// The expected counts.
    pub tally: Counts,
    /// Most bytes that the area may have: its limit, or what it had when the limit fell below that.
    pub ceiling: u64,
}

/// A claim that is held.
#[derive(Debug)]
pub struct HeldClaim {
    pub area: u64,
    pub offset: u64,
    pub claim: AnyClaim,
}

/// A claim as Rust programs or as C programs have it.
#[derive(Debug)]
pub enum AnyClaim {
    Guard(Claim),
    Raw(RawClaim),
}

/// Where pages are written back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackingKind {
    Nothing,
    Callback,
    /// A file of this many pages.
    File(u64),
    /// Several tiers.
    Tiers,
}

/// The options with which a zswap is created.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub max_bytes: u64,
    pub accept_percent: u8,
    pub contexts: usize,
    pub max_claims: usize,
    pub pool_bytes: u64,
    pub hardened: bool,
}

impl Shape {
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            max_bytes: draw_limit(rng),
            accept_percent: rng.pick(&[0, 0, 50, 95, 100]),
            contexts: rng.between(0, 3),
            max_claims: rng.pick(&[0, 0, 3]),
            pool_bytes: rng.pick(&[1 << 20, 2 << 20, 32 << 20, 32 << 20]),
            hardened: rng.chance(20),
        }
    }

    pub fn options(&self) -> ZswapOptions {
        let mut options = ZswapOptions {
            max_bytes: unless_zero(self.max_bytes),
            tuning: ZswapTuning {
                accept_percent: unless_zero(self.accept_percent),
                contexts: unless_zero(self.contexts),
                max_claims: unless_zero(self.max_claims),
                ..ZswapTuning::default()
            },
            ..ZswapOptions::default()
        };
        let pool = &mut options.tuning.pool;
        (pool.max_bytes, pool.hardened) = (Some(self.pool_bytes), self.hardened);
        options
    }
}

/// Draws a limit: none, or one that is met at times.
pub fn draw_limit(rng: &mut Rng) -> u64 {
    if rng.chance(40) { 0 } else { rng.between(PAGE_SLOT as usize, 900 << 10) as u64 }
}

/// The expected state of a zswap.
pub struct World {
    pub rng: Rng,
    pub zswap: Arc<Zswap>,
    pub shape: Shape,
    pub areas: Vec<AreaModel>,
    pub claims: Vec<HeldClaim>,
    pub codec: Codec,
    pub max: u64,
    pub ceiling: u64,
    pub backing: BackingKind,
    /// The tiers, if pages are written back to several.
    pub tiers: Vec<ModelTier>,
    /// Whether calls to the system may fail now.
    pub armed: bool,
    /// How many callbacks this thread is in.
    pub depth: u32,
    /// How many pages the callback has written, for each shrink that runs.
    pub went: Vec<u64>,
    /// Whether an assertion failed in a callback, where a panic is a refusal.
    pub failed: bool,
    pub next_version: u64,
}

/// Most bytes of a slot that a page takes.
const PAGE_SLOT: u64 = 4112;

impl AreaModel {
    pub fn new(area: Area, options: AreaOptions, windows: Vec<u64>, width: u64) -> Self {
        let max = options.max_bytes.unwrap_or(0);
        let map = BTreeMap::new;
        let (held, running, gone, disk) = (map(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let ceiling = if max == 0 { u64::MAX } else { max };
        Self { area, options, max, windows, width, held, running, gone, disk, tally: Counts::default(), ceiling }
    }

    pub fn draw_offset(&self, rng: &mut Rng) -> u64 {
        rng.pick(&self.windows) + rng.below(self.width as usize) as u64
    }

    /// Returns how a call is refused that would have to wait for the writeback of this page, or none if it need not
    /// wait. An inner none: it would wait for ever.
    pub fn refusal(&self, offset: u64, patience: Patience, in_callback: bool) -> Option<Option<Refused>> {
        let running = self.running.get(&offset)?;
        Some(match running.by {
            _ if in_callback => Some(Refused::Busy),
            By::Me | By::Callback => Some(Refused::Busy),
            By::Other if patience == Patience::NoWait => Some(Refused::Again),
            By::Other => None,
        })
    }

    /// Notes a page that was stored.
    pub fn put(&mut self, offset: u64, page: usize, version: u64) {
        self.held.insert(offset, Held { page, version });
        self.gone.remove(&offset);
    }

    /// Notes that a page has gone.
    pub fn drop_page(&mut self, offset: u64) -> bool {
        self.gone.remove(&offset);
        self.held.remove(&offset).is_some()
    }

    /// Whether an acknowledged writeback removes the page, or none if that is not certain.
    pub fn goes(&self, offset: u64) -> Option<bool> {
        let running = &self.running[&offset];
        match self.held.get(&offset) {
            Some(held) if held.version == running.version => running.sure.then_some(!running.loaded),
            _ => Some(false),
        }
    }

    /// Notes the end of a writeback whose page was written to the disk.
    pub fn end_written(&mut self, offset: u64, gone: bool) {
        let running = self.running.remove(&offset).expect("it runs");
        self.disk.insert(offset, running.page);
        if gone {
            self.held.remove(&offset);
            self.gone.insert(offset, running.page);
            self.tally.written_back += 1;
        } else if self.held.get(&offset).is_some_and(|held| held.version == running.version) {
            self.tally.rescued += 1;
        } else {
            self.tally.overtaken += 1;
        }
    }

    /// Whether the page is on a file or another tier, where a failure keeps it from being loaded.
    pub fn is_on_file(&self, offset: u64) -> bool {
        matches!(self.area.word_at(offset).kind(), WordKind::Backed(_))
    }
}

/// How a call that may not wait is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    Busy,
    Again,
}

impl Refused {
    #[track_caller]
    pub fn assert_is<T: std::fmt::Debug>(self, result: &Result<T>) {
        let right = match self {
            Self::Busy => matches!(result, Err(Error::Busy(_))),
            Self::Again => matches!(result, Err(Error::Again(_))),
        };
        assert!(right, "{self:?} was expected: {result:?}");
    }
}

impl World {
    pub fn in_callback(&self) -> bool {
        self.depth > 0
    }

    pub fn version(&mut self) -> u64 {
        self.next_version += 1;
        self.next_version
    }

    pub fn find(&self, area: u64) -> usize {
        self.areas.iter().position(|model| model.area.id() == area).expect("an area of the model")
    }

    /// Whether a store of `count` pages may be refused for lack of room.
    pub fn may_be_full(&self, at: usize, count: u64) -> bool {
        let model = &self.areas[at];
        // The pages that were there before may have gone since, with what they took.
        let need = (2 * count + 1) * PAGE_SLOT;
        let accept = if self.shape.accept_percent == 0 { 90 } else { u64::from(self.shape.accept_percent) };
        let meets = |max: u64, used: u64| max != 0 && used + need > max * accept / 100;
        let zswap = self.zswap.stats().expect("statistics are not refused");
        let pool = self.zswap.pool();
        self.armed
            || meets(self.max, zswap.used_bytes)
            || meets(model.max, model.area.stats().expect("an area that is there").used_bytes)
            || pool.total_pages() + 16 + 3 * count > pool.page_limit()
    }

    /// Whether the area can't take this page at all.
    pub fn is_refused_for_good(&self, at: usize, page: usize) -> bool {
        self.areas[at].options.refuse_incompressible && pages::is_raw(page, self.codec)
    }
}
