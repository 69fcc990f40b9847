//! Cleaning: what is left of mostly dead extents moves to new ones, so that the file does not grow beyond what is live.
//!
//! The extents with the fewest live bytes a block come first. Their entries are claimed like pages that are written
//! back, and nobody waits for them: a page that is replaced meanwhile is a dead entry of the new extent.

use super::area_turn::AreaTurn;
use super::entry::{self, Seed};
use super::extents::buffers::Buffer;
use super::extents::cleaning::{Density, VICTIMS};
use super::extents::format::{self, BLOCK, Builder};
use super::extents::store::ExtentStore;
use super::shared::Shared;
use super::word::{ExtentEntry, MAX_ENTRIES, PageWord, WordKind};
use crate::pool::Allowance;

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
    extents: &'a ExtentStore,
    buffer: &'b mut Buffer,
    count: usize,
    moves: [Option<Move>; MAX_ENTRIES],
    areas: [Option<AreaTurn<'a>>; AREAS],
}

impl Shared {
    /// Moves entries while the file is sparse, until `left` is spent, and gives back the room of the extents whose last
    /// page has gone. Moves nothing while another thread cleans.
    #[inline(never)]
    pub(super) fn clean(&self, extents: &ExtentStore, density: Density, left: &mut Allowance) {
        extents.end_dying();
        let Some(mut from) = extents.cleaning_buffer() else { return };
        while !left.is_spent() && extents.is_sparser_than(density) && extents.is_worth_a_try() {
            let (before, mut victims) = (extents.live_blocks(), [None; VICTIMS]);
            let count = extents.choose(&mut victims);
            let mut buffer = extents.write_buffer();
            let mut target = NewExtent::new(self, extents, &mut buffer);
            for victim in victims[..count].iter().flatten() {
                if left.is_spent() {
                    break;
                }
                let Some(bytes) = target.empty(victim.first, &mut from) else { break };
                left.spend(bytes);
            }
            target.write();
            drop(target);
            drop(buffer);
            extents.end_dying();
            if extents.live_blocks() >= before {
                extents.note_vain();
            }
        }
    }
}

impl<'a, 'b> NewExtent<'a, 'b> {
    fn new(shared: &'a Shared, extents: &'a ExtentStore, buffer: &'b mut Buffer) -> Self {
        let moves = [const { None }; MAX_ENTRIES];
        Self { shared, extents, buffer, count: 0, moves, areas: [const { None }; AREAS] }
    }

    /// Takes the live entries of an extent over. Returns their bytes, or none if a new extent could not be written.
    fn empty(&mut self, first: ExtentEntry, from: &mut Buffer) -> Option<u64> {
        // Gone, or its slot is that of a newer one: there are others.
        let Some(pinned) = self.extents.pin(first) else { return Some(0) };
        let (id, run) = (pinned.id(), pinned.run());
        let bytes = run.count * BLOCK;
        self.extents.note_buffer(from, bytes);
        let bytes = &mut from.all()[..bytes];
        // What can't be read stays where it is: a load says so.
        if self.extents.read_whole(run, bytes).is_err() {
            return Some(0);
        }
        let Some(count) = format::open(bytes, self.extents.number(), id) else { return Some(0) };
        let mut moved = 0;
        for (number, (of, entry)) in format::entries(bytes, count).enumerate() {
            let at = pinned.entry(number, first.generation);
            let seed = self.extents.seed(Seed::new(of.area, of.offset), id, number);
            if entry::open(entry, seed).is_none() {
                continue;
            }
            moved += self.take_over(of, at, entry)?;
        }
        Some(moved)
    }

    /// Claims a page and takes its entry over, if its word still names the entry. Returns the bytes of the entry.
    fn take_over(&mut self, of: format::EntryOf, at: ExtentEntry, entry: &[u8]) -> Option<u64> {
        if !self.has_room() && !self.write() {
            return None;
        }
        let Some(area) = self.area(of.area) else { return Some(0) };
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

    fn has_room(&mut self) -> bool {
        self.builder().has_room() && !self.builder().fills_its_blocks() && self.areas.iter().any(Option::is_none)
    }

    fn builder(&mut self) -> Builder<'_> {
        Builder::resume(self.buffer.all(), self.count)
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
        let extents = self.extents;
        let mut builder = Builder::resume(self.buffer.all(), count);
        let Some(room) = extents.room_for(&mut builder, true) else { return false };
        let (fits, bytes) = (builder.count(), builder.bytes());
        let put = extents.put(room, builder);
        for number in 0..fits {
            let at = put.entry(number);
            let moved = put.has(number) && self.end_move(number, PageWord::backed(at));
            if !moved {
                extents.drop_entry(at);
            }
        }
        extents.note_buffer(self.buffer, bytes);
        put.error.is_none() && fits == count
    }

    /// Lets a page word name its new entry, and drops the old one. False if the page was replaced or removed.
    fn end_move(&mut self, number: usize, to: PageWord) -> bool {
        let Some(moved) = self.moves[number].take() else { return false };
        let area = self.areas[moved.area].as_ref().expect("it is there until the extent is written");
        let done = area.area().0.page(moved.offset).moved(moved.claimed, to);
        if done {
            area.count(|counts| counts.moved_on_file += 1);
            self.extents.drop_entry(moved.from);
        }
        done
    }
}
