//! The claims for writeback that callers hold: what they began and have not ended.
//!
//! A table of fixed size, so that a claim that comes back can be checked: one that was ended, or never was, is refused
//! and harms nobody.

use super::area::AreaState;
use super::word::PageWord;
use crate::error::{Error, Result};
use crate::heap;
use crate::os;
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use crate::word::Field;

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
    /// The number of its area, which the table does not keep alive: an area that goes ends its claims.
    pub area: u64,
    pub offset: u64,
    /// The word as it was claimed.
    pub word: PageWord,
    /// The part of the area's statistics where the claim counts as a running call.
    pub shard: usize,
    /// The number of the thread that began it, which may have ended since.
    pub thread: u64,
}

/// What a ticket says: which place of the table, and which of the claims that had it.
const PLACE: Field = Field::new(0, 16);
const GENERATION: Field = Field::new(16, 48);
/// After the last generation comes 1 again; no claim ever has 0, as a claim that was never begun.
const LAST_GENERATION: u64 = GENERATION.mask() >> 16;

const _: () = assert!(MAX_CLAIMS as u64 - 1 == PLACE.mask());

/// A place in the table.
#[derive(Default)]
struct Place {
    running: Option<Running>,
    /// Of the claim that has it, or had it last.
    generation: u64,
    /// The next free place + 1.
    next_free: u32,
}

struct Table {
    /// As many as were ever used at once; there is room for all.
    places: Vec<Place>,
    /// The first free place + 1; 0: none.
    free: u32,
    most: usize,
}

/// The claims of a zswap that callers hold.
pub struct Claims {
    table: Lock<Table>,
    held: AtomicU64,
}

const UNKNOWN: Error = Error::Invalid(&"the claim was ended already, or was never made on this area");

impl Claims {
    /// Room for so many.
    pub fn new(most: usize) -> Result<Self> {
        let table = Table { places: heap::with_capacity(most)?, free: 0, most };
        Ok(Self { table: Lock::new(Rank::Claims, table), held: AtomicU64::new(0) })
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.table.lock().places[..])
    }

    /// How many are held.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Keeps a claim; gives it back if there is no room for it.
    pub fn keep(&self, running: Running) -> std::result::Result<Claim, Running> {
        let mut table = self.table.lock();
        let at = match table.free {
            0 if table.places.len() == table.most => return Err(running),
            0 => {
                table.places.push(Place::default());
                table.places.len() as u32 - 1
            }
            free => {
                table.free = table.places[free as usize - 1].next_free;
                free - 1
            }
        };
        let place = &mut table.places[at as usize];
        place.generation = place.generation % LAST_GENERATION + 1;
        let ticket = GENERATION.set(PLACE.set(0, u64::from(at)), place.generation);
        let claim = Claim { offset: running.offset, ticket };
        place.running = Some(running);
        self.held.fetch_add(1, Relaxed);
        Ok(claim)
    }

    /// As if each place had had so many claims that the next one is the last but `left`.
    #[cfg(test)]
    pub fn set_generations_left(&self, left: u64) {
        let mut table = self.table.lock();
        table.places.iter_mut().for_each(|place| place.generation = LAST_GENERATION - left - 1);
    }

    /// Takes a claim out: it is the caller's to end.
    pub fn take(&self, area: &AreaState, claim: &Claim) -> Result<Running> {
        let at = PLACE.get(claim.ticket) as u32;
        let mut table = self.table.lock();
        let place = table.places.get(at as usize).ok_or(UNKNOWN)?;
        let is_it = |running: &Running| running.area == area.id && running.offset == claim.offset;
        if place.generation != GENERATION.get(claim.ticket) || !place.running.as_ref().is_some_and(is_it) {
            return Err(UNKNOWN);
        }
        self.take_out(&mut table, at).ok_or(UNKNOWN)
    }

    /// Takes any claim of an area out that nobody can end any more.
    pub fn take_any(&self, area: u64) -> Option<Running> {
        let mut table = self.table.lock();
        let of_area = |place: &Place| place.running.as_ref().is_some_and(|running| running.area == area);
        let at = table.places.iter().position(of_area)?;
        self.take_out(&mut table, at as u32)
    }

    fn take_out(&self, table: &mut Table, at: u32) -> Option<Running> {
        let next_free = table.free;
        let place = &mut table.places[at as usize];
        let running = place.running.take()?;
        place.next_free = next_free;
        table.free = at + 1;
        self.held.fetch_sub(1, Relaxed);
        Some(running)
    }

    /// Whether this thread began a claim of this page that is held.
    pub fn is_mine(&self, area: u64, offset: u64) -> bool {
        if self.held() == 0 {
            return false;
        }
        let me = os::this_thread();
        let table = self.table.lock();
        table
            .places
            .iter()
            .flat_map(|place| &place.running)
            .any(|running| running.thread == me && running.offset == offset && running.area == area)
    }
}
