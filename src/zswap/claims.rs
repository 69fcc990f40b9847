//! The claims for writeback that callers hold: what they began and have not ended.
//!
//! A table of fixed size, so that a claim that comes back can be checked: one that was ended, or never was, is refused
//! and harms nobody.

use super::area::AreaState;
use super::word::PageWord;
use crate::error::{Error, Result};
use crate::os;
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use std::sync::Arc;

/// Most claims that callers may hold: their table is set aside when a zswap is created.
pub const MAX_CLAIMS: usize = 1 << 16;

/// A page that the caller is writing back, to be given to [`crate::Area::end_writeback`] once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// Which page of the area.
    pub offset: u64,
    /// Which claim.
    pub ticket: u64,
}

/// What the library remembers of a claim.
pub struct Running {
    pub area: Arc<AreaState>,
    pub offset: u64,
    /// The word as it was claimed.
    pub word: PageWord,
    /// The part of the area's statistics where the claim counts as a running call.
    pub shard: usize,
    /// Who began it.
    pub thread: usize,
}

/// A place in the table.
#[derive(Default)]
struct Place {
    running: Option<Running>,
    /// How often the place was used.
    generation: u32,
    /// The next free place + 1.
    next_free: u32,
}

struct Table {
    places: Box<[Place]>,
    /// The first free place + 1; 0: none.
    free: u32,
    /// Places from here on were never used.
    fresh: u32,
}

/// The claims of a zswap that callers hold.
pub struct Claims {
    table: Lock<Table>,
    held: AtomicU64,
}

const UNKNOWN: Error = Error::Invalid(&"the claim was ended already, or was never made on this area");

impl Claims {
    /// Room for so many.
    pub fn new(most: usize) -> Self {
        let table = Table { places: (0..most).map(|_| Place::default()).collect(), free: 0, fresh: 0 };
        Self { table: Lock::new(Rank::Claims, table), held: AtomicU64::new(0) }
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.table.lock().places)
    }

    /// How many are held.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Keeps a claim; gives it back if there is no room for it.
    pub fn keep(&self, running: Running) -> std::result::Result<Claim, Running> {
        let mut table = self.table.lock();
        let at = match table.free {
            0 if table.fresh as usize == table.places.len() => return Err(running),
            0 => {
                table.fresh += 1;
                table.fresh - 1
            }
            free => {
                table.free = table.places[free as usize - 1].next_free;
                free - 1
            }
        };
        let place = &mut table.places[at as usize];
        place.generation = place.generation.wrapping_add(1);
        let claim = Claim { offset: running.offset, ticket: u64::from(place.generation) << 32 | u64::from(at) };
        place.running = Some(running);
        self.held.fetch_add(1, Relaxed);
        Ok(claim)
    }

    /// Takes a claim out: it is the caller's to end.
    pub fn take(&self, area: &AreaState, claim: &Claim) -> Result<Running> {
        let at = claim.ticket as u32;
        let mut table = self.table.lock();
        let first_free = table.free;
        let place = table.places.get_mut(at as usize).ok_or(UNKNOWN)?;
        let is_it = |running: &mut Running| running.area.id == area.id && running.offset == claim.offset;
        if place.generation != (claim.ticket >> 32) as u32 {
            return Err(UNKNOWN);
        }
        let running = place.running.take_if(is_it).ok_or(UNKNOWN)?;
        place.next_free = first_free;
        table.free = at + 1;
        self.held.fetch_sub(1, Relaxed);
        Ok(running)
    }

    /// Whether this thread began a claim of this page that is held.
    pub fn is_mine(&self, area: u64, offset: u64) -> bool {
        if self.held() == 0 {
            return false;
        }
        let me = os::this_thread();
        let table = self.table.lock();
        let used = &table.places[..table.fresh as usize];
        used.iter()
            .flat_map(|place| &place.running)
            .any(|running| running.thread == me && running.offset == offset && running.area.id == area)
    }
}
