//! Cleaning: what is left of mostly dead extents moves to new ones, so that a tier does not grow beyond what is live.
//! All extents of a tier that is being removed move to the others.
//!
//! The extents with the fewest live bytes a block come first. Their entries are claimed like pages that are written
//! back, and nobody waits for them: a page that is replaced meanwhile is a dead entry of the new extent.

use super::area_turn::AreaTurn;
use super::entry::{self, Seed};
use super::extents::buffers::Buffer;
use super::extents::cleaning::{Density, LOOKS, VICTIMS};
use super::extents::extent_table::PinnedExtent;
use super::extents::format::{self, Builder};
use super::extents::store::ExtentStore;
use super::extents::tier_list::TierList;
use super::shared::Shared;
use super::tier::{TierAccess, TierMask};
use super::word::{ExtentEntry, MAX_ENTRIES, PageWord, WordKind};
use crate::pool::{Allowance, CompactBudget};

/// Most areas whose entries are in one new extent.
const AREAS: usize = 4;

/// An entry on its way to a new extent.
struct Move {
    /// Index of its area among those of the new extent.
    area: usize,
    offset: u64,
    claimed: PageWord,
    from: ExtentEntry,
}

/// A new extent, and the entries that it will have.
struct NewExtent<'a, 'b> {
    shared: &'a Shared,
    /// The tier that is cleaned.
    from: &'a ExtentStore,
    to: Targets<'a>,
    buffer: &'b mut Buffer,
    count: usize,
    moves: [Option<Move>; MAX_ENTRIES],
    areas: [Option<AreaTurn<'a>>; AREAS],
}

/// The tiers that entries may be moved to.
#[derive(Clone, Copy)]
struct Targets<'a> {
    tiers: &'a TierList,
    access: TierAccess,
}

impl<'a> Targets<'a> {
    /// Returns the tiers for what a tier has, in the order in which they are tried: the tier itself, unless it is being
    /// removed, then those behind it, then those before it.
    fn of(self, from: &'a ExtentStore) -> impl Iterator<Item = &'a ExtentStore> {
        let all = || self.tiers.iter().map(|store| &**store);
        let is_from = |store: &&ExtentStore| store.tier == from.tier;
        let behind = all().skip_while(move |store| !is_from(store)).skip(1);
        let before = all().take_while(move |store| !is_from(store));
        let others = behind.chain(before).filter(move |store| self.access.includes(store.is_signal_safe()));
        std::iter::once(from).chain(others).filter(|store| !store.is_leaving())
    }
}

impl Shared {
    /// Removes the extents of a tier whose last page has gone, and moves entries if that is due before a shrink writes.
    pub(super) fn keep_dense(&self, store: &ExtentStore, tiers: &TierList, access: TierAccess) {
        store.end_dying();
        if let Some((density, mut left)) = store.cleaning_due() {
            self.clean(store, Targets { tiers, access }, density, &mut left);
        }
    }

    /// Makes all tiers as dense as a compaction leaves them, until `left` is spent.
    pub(super) fn clean_all(&self, tiers: &TierList, left: &mut Allowance) {
        for store in tiers.iter() {
            self.clean(store, Targets { tiers, access: TierAccess::All }, Density::OF_COMPACTION, left);
        }
    }

    /// Moves entries while the tier is sparse, until `left` is spent, and removes the extents whose last page has gone.
    /// Moves nothing while another thread cleans.
    fn clean(&self, store: &ExtentStore, to: Targets<'_>, density: Density, left: &mut Allowance) {
        store.end_dying();
        let Some(mut buffer) = store.cleaning_buffer() else { return };
        while !left.is_spent() && store.is_sparser_than(density) && store.is_worth_a_try() {
            if !self.clean_some(store, to, &mut buffer, left) {
                store.note_vain();
            }
        }
    }

    /// Moves what is on a tier that is being removed to the others, as far as these have room.
    pub(super) fn empty_tier(&self, store: &ExtentStore, tiers: &TierList) {
        store.end_dying();
        let Some(mut buffer) = store.cleaning_buffer() else { return };
        let to = Targets { tiers, access: TierAccess::All };
        let mut left = CompactBudget::default().begin();
        let mut rounds_in_vain = 0;
        // A round looks at a part of the slots.
        while store.pages() > 0 && rounds_in_vain <= store.slots().len() / LOOKS {
            let gained = self.clean_some(store, to, &mut buffer, &mut left);
            rounds_in_vain = if gained { 0 } else { rounds_in_vain + 1 };
        }
    }

    /// Moves the entries of some extents. Returns whether the tier has fewer blocks after that.
    #[inline(never)]
    fn clean_some(&self, store: &ExtentStore, to: Targets<'_>, from: &mut Buffer, left: &mut Allowance) -> bool {
        let (before, mut victims) = (store.live_blocks(), [None; VICTIMS]);
        let count = store.choose(&mut victims);
        let mut buffer = store.write_buffer();
        let mut target = NewExtent::new(self, store, to, &mut buffer);
        for victim in victims[..count].iter().flatten() {
            if left.is_spent() {
                break;
            }
            let Some(bytes) = target.empty(victim.first, from) else { break };
            left.spend(bytes);
        }
        target.write();
        drop(target);
        drop(buffer);
        store.end_dying();
        store.live_blocks() < before
    }
}

impl<'a, 'b> NewExtent<'a, 'b> {
    fn new(shared: &'a Shared, from: &'a ExtentStore, to: Targets<'a>, buffer: &'b mut Buffer) -> Self {
        let moves = [const { None }; MAX_ENTRIES];
        Self { shared, from, to, buffer, count: 0, moves, areas: [const { None }; AREAS] }
    }

    /// Takes the live entries of an extent over. Returns their bytes, or none if a new extent could not be written.
    fn empty(&mut self, first: ExtentEntry, from: &mut Buffer) -> Option<u64> {
        // Gone, or its slot is that of a newer one: there are others.
        let Some(pinned) = self.from.pin(first).filter(PinnedExtent::is_written) else { return Some(0) };
        let placed = pinned.placed();
        // What can't be read stays where it is: a load says so.
        let Some(bytes) = self.from.read_whole(placed, from) else { return Some(0) };
        let (bytes, id) = (&from.all()[..bytes], placed.number);
        let Some(count) = format::open(bytes, self.from.owner(), id) else { return Some(0) };
        let mut moved = 0;
        for (number, (of, entry)) in format::entries(bytes, count).enumerate() {
            let at = pinned.entry(number, first.generation);
            let seed = self.from.seed(Seed::new(of.area, of.offset), id, number);
            if entry::open(entry, seed).is_none() {
                continue;
            }
            moved += self.take_over(of, at, entry)?;
        }
        Some(moved)
    }

    /// Claims a page and takes its entry over, if its word still names the entry. Returns the bytes of the entry.
    fn take_over(&mut self, of: format::EntryOf, at: ExtentEntry, entry: &[u8]) -> Option<u64> {
        if !self.has_room() && !self.make_room() {
            return None;
        }
        let Some(area) = self.area(of.area) else { return Some(0) };
        if self.count > 0 && !self.goes_together(area) {
            // They may not be on the same tiers. The area's turn ended with the write.
            if !self.make_room() {
                return None;
            }
            return self.take_over(of, at, entry);
        }
        let turn = self.areas[area].as_ref().expect("it was found");
        let state = &turn.area().0;
        if of.offset >= state.index.pages() {
            return Some(0);
        }
        let page = state.page(of.offset);
        let seen = page.peek();
        if seen.kind() != WordKind::Backed(at) {
            return Some(0);
        }
        let Some(claimed) = page.claim_to_move(seen, self.shared.next_claim()) else { return Some(0) };
        self.builder().push(of.area, of.offset, entry);
        self.moves[self.count] = Some(Move { area, offset: of.offset, claimed, from: at });
        self.count += 1;
        Some(entry.len() as u64)
    }

    /// Returns the index of an area, a call on which runs until the new extent is written. None: it was removed.
    fn area(&mut self, id: u64) -> Option<usize> {
        let found = self.areas.iter().position(|turn| turn.as_ref().is_some_and(|turn| turn.area().id() == id));
        found.or_else(|| {
            let turn = AreaTurn::of(&self.shared.areas, id)?;
            let free = self.areas.iter().position(Option::is_none)?;
            self.areas[free] = Some(turn);
            Some(free)
        })
    }

    /// Whether an area may use the same tiers as the others of the new extent.
    fn goes_together(&self, area: usize) -> bool {
        let tiers = |turn: &AreaTurn<'_>| turn.area().0.tiers();
        let of_area = self.areas[area].as_ref().map(tiers);
        self.areas.iter().flatten().all(|turn| Some(tiers(turn)) == of_area)
    }

    fn has_room(&mut self) -> bool {
        self.builder().has_room() && !self.builder().fills_its_blocks() && self.areas.iter().any(Option::is_none)
    }

    fn builder(&mut self) -> Builder<'_> {
        Builder::resume(self.buffer.all(), self.count)
    }

    /// Writes the new extent. Returns whether to go on. If it can't be written, what a removed tier has of other areas
    /// may still find room: they may use other tiers.
    fn make_room(&mut self) -> bool {
        self.write() || self.from.is_leaving()
    }

    /// Writes the new extent, and lets the page words name its entries. Returns false if it can't be written: then all
    /// pages stay where they are.
    fn write(&mut self) -> bool {
        let count = std::mem::take(&mut self.count);
        let done = count == 0 || self.write_entries(count);
        // What was not moved.
        for moved in self.moves[..count].iter_mut().filter_map(Option::take) {
            let area = self.areas[moved.area].as_ref().expect("it is there until the extent is written");
            area.area().0.page(moved.offset).end(moved.claimed);
        }
        self.areas.iter_mut().for_each(|turn| *turn = None);
        done
    }

    fn write_entries(&mut self, count: usize) -> bool {
        // What was cut off for a tier that had room for a part is gone from the buffer.
        let mut left = count;
        let allowed = self.areas.iter().flatten().next().map_or(TierMask::ALL, |turn| turn.area().0.tiers());
        for store in self.to.of(self.from).filter(|store| allowed.has(store.tier) && store.is_there()) {
            let mut builder = Builder::resume(self.buffer.all(), left);
            let Some(room) = store.room_for(&mut builder, store.tier == self.from.tier) else { continue };
            let bytes = builder.bytes();
            left = builder.count();
            let put = store.put(room, &mut builder);
            let mut moved = 0;
            for number in 0..left {
                let at = put.entry(number);
                if put.has(number) && self.end_move(number, PageWord::backed(at)) {
                    moved += 1;
                } else {
                    store.drop_entry(at);
                }
            }
            self.from.note_buffer(self.buffer, bytes);
            self.from.counts.moved(moved);
            if put.error.is_none() || put.has(0) {
                return put.error.is_none() && left == count;
            }
        }
        false
    }

    /// Lets a page word name its new entry, and drops the old one. False if the page was replaced or removed.
    fn end_move(&mut self, number: usize, to: PageWord) -> bool {
        let Some(moved) = self.moves[number].take() else { return false };
        let area = self.areas[moved.area].as_ref().expect("it is there until the extent is written");
        let done = area.area().0.page(moved.offset).moved(moved.claimed, to);
        if done {
            area.count(|counts| counts.moved_on_file += 1);
            self.from.drop_entry(moved.from);
        }
        done
    }
}
