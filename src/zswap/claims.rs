//! The claims for writeback that callers hold: what they began and have not ended.
//!
//! A table of fixed size, so that a claim that comes back can be checked: one that was ended, or never was, is refused
//! and harms nobody.

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
    /// The next free place + 1; while it is not free, the next place + 1 of its chain.
    next: u32,
}

/// Chains that the places which are not free are on, by their pages: a page is looked for in one of them.
const CHAINS: usize = 4096;

/// Places that are looked at for claims of an area before the lock is let go.
const LOOKS: usize = 1024;

struct Table {
    /// As many as were ever used at once; there is room for all.
    places: Vec<Place>,
    /// The first free place + 1; 0: none.
    free: u32,
    most: usize,
    /// The first place + 1 of each chain; 0: none.
    chains: Box<[u32]>,
    /// Places that were looked at.
    #[cfg(test)]
    looked: u64,
}

impl Table {
    fn chain_of(area: u64, offset: u64) -> usize {
        let mixed = (offset ^ area.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - CHAINS.ilog2())) as usize
    }

    /// The places on a chain.
    fn on_chain(&self, chain: usize) -> impl Iterator<Item = u32> {
        let after = |place: u32| place.checked_sub(1);
        std::iter::successors(after(self.chains[chain]), move |&at| after(self.places[at as usize].next))
    }
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
        let table = Table {
            places: heap::with_capacity(most)?,
            free: 0,
            most,
            chains: heap::slice(CHAINS, |_| Ok(0))?,
            #[cfg(test)]
            looked: 0,
        };
        Ok(Self { table: Lock::new(Rank::Claims, table), held: AtomicU64::new(0) })
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        let table = self.table.lock();
        size_of_val(&table.places[..]) + size_of_val(&table.chains[..])
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
                table.free = table.places[free as usize - 1].next;
                free - 1
            }
        };
        let chain = Table::chain_of(running.area, running.offset);
        let next = std::mem::replace(&mut table.chains[chain], at + 1);
        let place = &mut table.places[at as usize];
        place.next = next;
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
    pub fn take(&self, area: u64, claim: &Claim) -> Result<Running> {
        let at = PLACE.get(claim.ticket) as u32;
        let mut table = self.table.lock();
        let place = table.places.get(at as usize).ok_or(UNKNOWN)?;
        let is_it = |running: &Running| running.area == area && running.offset == claim.offset;
        if place.generation != GENERATION.get(claim.ticket) || !place.running.as_ref().is_some_and(is_it) {
            return Err(UNKNOWN);
        }
        self.take_out(&mut table, at).ok_or(UNKNOWN)
    }

    /// Takes a claim of an area out that nobody can end any more, and begin none of the area either. Looks from `from`
    /// on, and moves that on: all claims of the area are found by calls that begin with 0.
    pub fn take_next(&self, area: u64, from: &mut usize) -> Option<Running> {
        while self.held() > 0 {
            let mut table = self.table.lock();
            let end = table.places.len().min(*from + LOOKS);
            let of_area = |place: &Place| place.running.as_ref().is_some_and(|running| running.area == area);
            let found = (*from..end).find(|&at| of_area(&table.places[at]));
            #[cfg(test)]
            (table.looked += (found.map_or(end, |at| at + 1) - *from) as u64);
            match found {
                Some(at) => {
                    *from = at + 1;
                    return self.take_out(&mut table, at as u32);
                }
                None if end == table.places.len() => return None,
                None => *from = end,
            }
        }
        None
    }

    /// Acts while so many claims of an area are held, and none comes or goes.
    pub fn while_held<R>(&self, area: u64, act: impl FnOnce(u64) -> R) -> R {
        let table = self.table.lock();
        let of_area = |place: &&Place| place.running.as_ref().is_some_and(|running| running.area == area);
        act(table.places.iter().filter(of_area).count() as u64)
    }

    fn take_out(&self, table: &mut Table, at: u32) -> Option<Running> {
        let running = table.places[at as usize].running.take()?;
        let chain = Table::chain_of(running.area, running.offset);
        let before = table.on_chain(chain).take_while(|&other| other != at).last();
        let (next, free) = (table.places[at as usize].next, table.free);
        match before {
            Some(before) => table.places[before as usize].next = next,
            None => table.chains[chain] = next,
        }
        table.places[at as usize].next = free;
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
        #[cfg(test)]
        let mut table = table;
        #[cfg(test)]
        (table.looked += table.on_chain(Table::chain_of(area, offset)).count() as u64);
        table
            .on_chain(Table::chain_of(area, offset))
            .flat_map(|at| &table.places[at as usize].running)
            .any(|running| running.thread == me && running.offset == offset && running.area == area)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn running(area: u64, offset: u64) -> Running {
        Running { area, offset, word: PageWord::EMPTY, shard: 0, thread: os::this_thread() }
    }

    #[test]
    fn page_that_waits_looks_at_a_few_of_many_claims() {
        let claims = Claims::new(MAX_CLAIMS).unwrap();
        (0..MAX_CLAIMS as u64).for_each(|offset| assert!(claims.keep(running(offset % 3, offset)).is_ok()));
        for offset in (0..MAX_CLAIMS as u64).step_by(64) {
            assert!(claims.is_mine(offset % 3, offset) && !claims.is_mine(offset % 3 + 1, offset));
        }
        let looked = claims.table.lock().looked / (2 * MAX_CLAIMS as u64 / 64);
        assert!(looked <= 64, "{looked} claims were looked at for each page");
    }

    #[test]
    fn area_that_goes_looks_at_each_place_once() {
        let claims = Claims::new(MAX_CLAIMS).unwrap();
        (0..MAX_CLAIMS as u64).for_each(|offset| assert!(claims.keep(running(offset / 7 % 2, offset)).is_ok()));
        let (mut from, mut found) = (0, 0);
        while claims.take_next(1, &mut from).is_some() {
            found += 1;
        }
        let looked = claims.table.lock().looked;
        assert_eq!(claims.held() + found, MAX_CLAIMS as u64);
        assert!(
            (0..MAX_CLAIMS as u64)
                .step_by(33)
                .all(|offset| claims.is_mine(offset / 7 % 2, offset) == (offset / 7 % 2 == 0))
        );
        assert!(looked <= MAX_CLAIMS as u64, "{looked} places were looked at for {found} claims");
    }

    #[test]
    fn claims_are_found_and_taken_out_in_any_order() {
        let claims = Claims::new(3000).unwrap();
        let mut held = HashSet::new();
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let (area, offset) = (seed >> 62, seed >> 33 & 1023);
            if held.remove(&(area, offset)) {
                let at = (0..3000).find(|&at| {
                    let table = claims.table.lock();
                    let place = table.places.get(at as usize);
                    let running = place.and_then(|place| place.running.as_ref());
                    running.is_some_and(|running| (running.area, running.offset) == (area, offset))
                });
                let taken = claims.take_out(&mut claims.table.lock(), at.unwrap()).unwrap();
                assert_eq!((taken.area, taken.offset), (area, offset));
            } else if claims.keep(running(area, offset)).is_ok() {
                held.insert((area, offset));
            }
        }
        assert_eq!(claims.held(), held.len() as u64);
        for (area, offset) in (0..4).flat_map(|area| (0..1024).map(move |offset| (area, offset))) {
            assert_eq!(claims.is_mine(area, offset), held.contains(&(area, offset)));
        }
    }
}
