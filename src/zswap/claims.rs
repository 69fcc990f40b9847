//! The claims for writeback that callers hold: begun by them and not ended yet.
//!
//! They are kept in a table of fixed size, so that a claim which a caller gives back can be checked: a claim that was
//! ended, or never made, is refused and harms nobody.

use super::patience::{IN_CALLBACK, OWN_CLAIM, in_callback};
use super::word::PageWord;
use crate::error::{Error, Result, sentence};
use crate::field::Field;
use crate::heap;
use crate::os;
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};

/// The most that [`crate::ZswapTuning::max_claims`] may be: how many [`crate::Claim`]s of a zswap are held at a time.
/// Their table is set aside when the zswap is created.
pub const MAX_CLAIMS: usize = 1 << 16;

/// A claim as numbers, for C. [`super::claiming::Claim`] is the guard that Rust programs have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RawClaim {
    /// Which page of the area.
    pub offset: u64,
    /// Which claim of the page it is. Only the library knows what the number means. 0 is that of no claim.
    pub ticket: u64,
    /// Bytes of the page's slot, for the caller: ending a claim does not read them.
    pub bytes: u64,
}

/// What the library remembers of a claim.
pub struct ClaimRecord {
    /// The number of the area. The table does not keep the area alive: an area that goes ends its claims.
    pub area: u64,
    pub offset: u64,
    /// The word as it was claimed.
    pub word: PageWord,
    /// The shard of the area in which the claim counts as a running call.
    pub shard: u32,
    /// Bytes of the page's slot.
    pub bytes: u32,
    /// The number of the thread that began the claim. That thread may have ended.
    pub thread: u64,
}

/// A ticket says which slot of the table the claim has, and which of the claims that had this slot it is.
const SLOT: Field = Field::first(16);
const GENERATION: Field = SLOT.then(48);
const _: () = assert!(Field::fill(&[SLOT, GENERATION], 64));
/// The last generation; 1 follows it. No claim has 0, so a `RawClaim::default()` is never valid.
const LAST_GENERATION: u64 = GENERATION.max();

const _: () = assert!(MAX_CLAIMS as u64 - 1 == SLOT.mask());

/// A slot of the table.
#[derive(Default)]
struct ClaimSlot {
    record: Option<ClaimRecord>,
    /// Generation of the claim that has the slot, or had it last.
    generation: u64,
    /// 1 + the next slot of the chain, or of the list of free slots; 0: none.
    next: u32,
}

// The documentation of `ZswapTuning::max_claims` says so.
const _: () = assert!(size_of::<ClaimSlot>() == 64);

/// How many chains the used slots are on. The page of a claim says on which, so that a page is looked for on one chain.
const CHAINS: usize = 4096;

/// How many slots are looked at for the claims of an area before the lock is let go for a moment.
const LOOKS: usize = 1024;

struct Table {
    /// As many slots as were ever used at once. There is room for all.
    slots: Vec<ClaimSlot>,
    /// 1 + the first free slot; 0: none.
    free: u32,
    most: usize,
    /// 1 + the first slot of each chain; 0: none.
    chains: Box<[u32]>,
    /// How many slots were looked at.
    #[cfg(test)]
    looked: u64,
}

impl Table {
    fn chain_of(area: u64, offset: u64) -> usize {
        let mixed = (offset ^ area.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - CHAINS.ilog2())) as usize
    }

    /// Returns the slots on a chain.
    fn on_chain(&self, chain: usize) -> impl Iterator<Item = u32> {
        let after = |slot: u32| slot.checked_sub(1);
        std::iter::successors(after(self.chains[chain]), move |&at| after(self.slots[at as usize].next))
    }
}

/// The claims of a zswap that callers hold.
pub struct Claims {
    table: Lock<Table>,
    held: AtomicU64,
}

const UNKNOWN: Error = Error::Stale(sentence(&"the claim was ended already, or was never made on this area"));

impl Claims {
    /// Makes a table for `most` claims.
    pub fn new(most: usize) -> Result<Self> {
        let table = Table {
            slots: heap::with_capacity(most)?,
            free: 0,
            most,
            chains: heap::slice(CHAINS, |_| Ok(0))?,
            #[cfg(test)]
            looked: 0,
        };
        Ok(Self { table: Lock::new(Rank::Claims, table), held: AtomicU64::new(0) })
    }

    /// Returns the bytes of memory that the table takes.
    pub fn bytes(&self) -> usize {
        let table = self.table.lock();
        size_of_val(&table.slots[..]) + size_of_val(&table.chains[..])
    }

    /// Returns how many claims are held.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Adds a claim to the table. Returns none if the table is full.
    pub fn add(&self, record: ClaimRecord) -> Option<RawClaim> {
        let mut table = self.table.lock();
        let at = match table.free {
            0 if table.slots.len() == table.most => return None,
            0 => {
                table.slots.push(ClaimSlot::default());
                table.slots.len() as u32 - 1
            }
            free => {
                table.free = table.slots[free as usize - 1].next;
                free - 1
            }
        };
        let chain = Table::chain_of(record.area, record.offset);
        let next = std::mem::replace(&mut table.chains[chain], at + 1);
        let slot = &mut table.slots[at as usize];
        slot.next = next;
        slot.generation = slot.generation % LAST_GENERATION + 1;
        let ticket = GENERATION.set(SLOT.set(0, u64::from(at)), slot.generation);
        let claim = RawClaim { offset: record.offset, ticket, bytes: record.bytes.into() };
        slot.record = Some(record);
        self.held.fetch_add(1, Relaxed);
        Some(claim)
    }

    /// Makes each slot as if it had had so many claims that `left` generations are left.
    #[cfg(test)]
    pub fn set_generations_left(&self, left: u64) {
        let mut table = self.table.lock();
        table.slots.iter_mut().for_each(|slot| slot.generation = LAST_GENERATION - left - 1);
    }

    /// Takes a claim out of the table. The caller ends it.
    pub fn take(&self, area: u64, claim: &RawClaim) -> Result<ClaimRecord> {
        let at = SLOT.get(claim.ticket) as u32;
        let mut table = self.table.lock();
        let slot = table.slots.get(at as usize).ok_or(UNKNOWN)?;
        let is_it = |record: &ClaimRecord| record.area == area && record.offset == claim.offset;
        if slot.generation != GENERATION.get(claim.ticket) || !slot.record.as_ref().is_some_and(is_it) {
            return Err(UNKNOWN);
        }
        self.take_out(&mut table, at).ok_or(UNKNOWN)
    }

    /// Takes the next claim of an area out of the table. No thread can end or begin claims of the area any more. The
    /// search begins at `from`, and moves it on: calls that begin with 0 find all claims of the area.
    pub fn take_next(&self, area: u64, from: &mut usize) -> Option<ClaimRecord> {
        while self.held() > 0 {
            let mut table = self.table.lock();
            let end = table.slots.len().min(*from + LOOKS);
            let of_area = |slot: &ClaimSlot| slot.record.as_ref().is_some_and(|record| record.area == area);
            let found = (*from..end).find(|&at| of_area(&table.slots[at]));
            #[cfg(test)]
            (table.looked += (found.map_or(end, |at| at + 1) - *from) as u64);
            match found {
                Some(at) => {
                    *from = at + 1;
                    return self.take_out(&mut table, at as u32);
                }
                None if end == table.slots.len() => return None,
                None => *from = end,
            }
        }
        None
    }

    /// Acts on the number of claims of an area that are held, while none comes or goes.
    pub fn while_held<R>(&self, area: u64, act: impl FnOnce(u64) -> R) -> R {
        let table = self.table.lock();
        let of_area = |slot: &&ClaimSlot| slot.record.as_ref().is_some_and(|record| record.area == area);
        act(table.slots.iter().filter(of_area).count() as u64)
    }

    fn take_out(&self, table: &mut Table, at: u32) -> Option<ClaimRecord> {
        let record = table.slots[at as usize].record.take()?;
        let chain = Table::chain_of(record.area, record.offset);
        let before = table.on_chain(chain).take_while(|&other| other != at).last();
        let (next, free) = (table.slots[at as usize].next, table.free);
        match before {
            Some(before) => table.slots[before as usize].next = next,
            None => table.chains[chain] = next,
        }
        table.slots[at as usize].next = free;
        table.free = at + 1;
        self.held.fetch_sub(1, Relaxed);
        Some(record)
    }

    /// Refuses a thread that must not wait for the writeback of a page: a thread in a callback, because another
    /// thread's callback may be waiting for the page of this one; and the thread that has to end the writeback.
    pub fn may_wait(&self, area: u64, offset: u64) -> Result<()> {
        if in_callback() {
            return Err(IN_CALLBACK);
        }
        if self.is_mine(area, offset) { Err(OWN_CLAIM) } else { Ok(()) }
    }

    /// Whether this thread began a claim of this page that is held.
    fn is_mine(&self, area: u64, offset: u64) -> bool {
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
            .flat_map(|at| &table.slots[at as usize].record)
            .any(|record| record.thread == me && record.offset == offset && record.area == area)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn record(area: u64, offset: u64) -> ClaimRecord {
        ClaimRecord { area, offset, word: PageWord::EMPTY, shard: 0, bytes: 0, thread: os::this_thread() }
    }

    #[test]
    fn a_page_that_waits_looks_at_a_few_of_many_claims() {
        let claims = Claims::new(MAX_CLAIMS).unwrap();
        (0..MAX_CLAIMS as u64).for_each(|offset| assert!(claims.add(record(offset % 3, offset)).is_some()));
        for offset in (0..MAX_CLAIMS as u64).step_by(64) {
            assert!(claims.is_mine(offset % 3, offset) && !claims.is_mine(offset % 3 + 1, offset));
        }
        let looked = claims.table.lock().looked / (2 * MAX_CLAIMS as u64 / 64);
        assert!(looked <= 64, "{looked} claims were looked at for each page");
    }

    #[test]
    fn an_area_that_goes_looks_at_each_slot_once() {
        let claims = Claims::new(MAX_CLAIMS).unwrap();
        (0..MAX_CLAIMS as u64).for_each(|offset| assert!(claims.add(record(offset / 7 % 2, offset)).is_some()));
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
        assert!(looked <= MAX_CLAIMS as u64, "{looked} slots were looked at for {found} claims");
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
                    let slot = table.slots.get(at as usize);
                    let record = slot.and_then(|slot| slot.record.as_ref());
                    record.is_some_and(|record| (record.area, record.offset) == (area, offset))
                });
                let taken = claims.take_out(&mut claims.table.lock(), at.unwrap()).unwrap();
                assert_eq!((taken.area, taken.offset), (area, offset));
            } else if claims.add(record(area, offset)).is_some() {
                held.insert((area, offset));
            }
        }
        assert_eq!(claims.held(), held.len() as u64);
        for (area, offset) in (0..4).flat_map(|area| (0..1024).map(move |offset| (area, offset))) {
            assert_eq!(claims.is_mine(area, offset), held.contains(&(area, offset)));
        }
    }
}
