//! Invariants of a pool, while no other thread uses it and no callback runs. Tests check them after every step, so the
//! check is quick: a few passes over the words and the zspages, and no hashing.

use super::Pool;
use crate::geometry;
use crate::size_class::ClassState;
use crate::units::{HandleIndex, Place, ZspageId};
use crate::word::{ObjectState, Word};

/// The sums over all zspages.
#[derive(Default)]
struct Sums {
    /// Slots taken.
    objects: u64,
    /// Pages charged for zspages in chunks that are not committed whole.
    pages: u64,
    /// Pages that count as warm.
    warm: u64,
}

impl Pool {
    /// Panics if an invariant is broken, and says which.
    pub(crate) fn check(&self) {
        let mut zspages = Vec::new();
        let mut sums = Sums::default();
        for class in &self.classes {
            let state = class.lock(&self.memory);
            let (first, before) = (zspages.len(), sums.objects);
            state.check(&self.memory, &mut zspages);
            let shelved = state.check_shelves(&self.memory, &self.shelves);
            for &id in &zspages[first..] {
                self.check_zspage(&state, id, &shelved, &mut sums);
            }
            assert_eq!(sums.objects - before, state.objects, "{:?}: slots taken, and objects counted", class.index());
        }
        let whole = self.memory.check(&zspages);
        self.check_words(sums.objects);
        let charge = &self.memory.charge;
        assert_eq!(charge.warm(), sums.warm, "pages that are warm");
        let (tables, fixed) = (self.memory.table_pages(), self.fixed_pages);
        let sum = tables + fixed + sums.pages + whole;
        let parts = format_args!("tables {tables}, fixed {fixed}, zspages {}, whole chunks {whole}", sums.pages);
        assert_eq!(charge.used(), sum, "pages charged are those in use: {parts}");
    }

    /// Returns how many bytes of a slot its tag takes.
    pub(crate) fn tag_bytes(&self) -> usize {
        self.tag_bytes
    }

    /// Returns how many pages of tables lie outside the memory.
    pub(crate) fn fixed_pages(&self) -> u64 {
        self.fixed_pages
    }

    /// Returns how many pages may be charged now.
    pub(crate) fn page_limit(&self) -> u64 {
        self.memory.charge.limit()
    }

    /// Checks a zspage against its class, and each of its objects against the word that its slot names.
    fn check_zspage(&self, state: &ClassState, id: ZspageId, shelved: &[HandleIndex], sums: &mut Sums) {
        let (zspage, slots) = (self.memory.zspage(id), *state.peek(&self.memory, id));
        let class = zspage.class();
        assert!(slots.end() <= class.slots, "{id:?} has slots taken that it has not");
        assert_eq!(slots.count as usize, slots.taken.count(), "{id:?} counts its slots wrongly");
        assert!(slots.end() <= slots.touched, "{id:?}: slot {} is taken, {} charged", slots.end(), slots.touched);
        assert!(slots.touched <= class.slots, "{id:?}: more slots are charged than it has");
        let mut from = 0;
        while let Some(slot) = slots.taken_from(from) {
            let (place, index) = (Place { zspage: id, slot }, zspage.handle_at(slot));
            assert!(index.0 < self.memory.word_count(), "{place:?} names {index:?}, which was never given out");
            let word = self.memory.word(index).peek();
            assert!(
                (word.state() != ObjectState::Free || shelved.contains(&index)) && word.place() == place,
                "{place:?} names {index:?}, which is {word:?}"
            );
            from = slot + 1;
        }
        let pages = class.pages_of_slots(slots.touched as usize) as u64;
        assert!(slots.warm == 0 || slots.count <= 1, "{id:?} is warm and in use");
        assert!(slots.warm == 0 || slots.warm as u64 == pages, "{id:?} has {pages} pages, {} are warm", slots.warm);
        sums.objects += slots.count as u64;
        sums.warm += slots.warm as u64;
        sums.pages += if self.memory.is_whole(id) { 0 } else { pages };
        assert!(!self.memory.is_whole(id) || slots.touched == class.slots, "{id:?} lies in a whole chunk");
    }

    /// Checks every word against the slot that it names. Every free word is on one free list, or retired.
    fn check_words(&self, objects: u64) {
        let mut listed = vec![false; self.memory.word_count() as usize];
        let mut shelved = 0;
        for class in &self.classes {
            let state = class.lock(&self.memory);
            state.each_free(&self.memory, |index| self.check_free(index, &mut listed));
            for index in state.check_shelves(&self.memory, &self.shelves) {
                self.check_free(index, &mut listed);
                shelved += 1;
            }
        }
        for stock in self.shelves.stocks() {
            stock.lock().iter().for_each(|index| self.check_free(index, &mut listed));
        }
        let returned = self.memory.returned_handles();
        for list in returned {
            self.memory.each_listed(list, |index| self.check_free(index, &mut listed));
        }
        let end = self.memory.handle_end();
        let mut live = 0;
        for (index, word) in self.memory.words() {
            let on_list = listed[index.0 as usize];
            match word.state() {
                ObjectState::Free if index.0 >= end => assert!(!on_list, "{index:?} went back, and is on a free list"),
                ObjectState::Free => {
                    assert!(on_list || self.is_retired(word), "{index:?} is free, and on no list: {word:?}")
                }
                ObjectState::Moving => panic!("{index:?} was left {word:?}"),
                ObjectState::Live | ObjectState::Dying => {
                    live += 1;
                    assert!(!on_list, "{index:?} is on a free list, and {word:?}");
                    assert!(
                        word.state() == ObjectState::Live || word.pins() > 0,
                        "{index:?} waits for nobody: {word:?}"
                    );
                    self.check_place(index, word);
                }
            }
        }
        assert_eq!(live + shelved, objects, "words in use or on shelves, and slots taken");
    }

    fn check_place(&self, index: HandleIndex, word: Word) {
        let Place { zspage, slot } = word.place();
        let record = self.memory.zspage(zspage);
        let class = record.owner().unwrap_or_else(|| panic!("{index:?} names a zspage that is not in use: {word:?}"));
        let state = self.classes[class.0 as usize].lock(&self.memory);
        assert!(slot < geometry::of(class).slots, "{index:?} names a slot past the last: {word:?}");
        assert!(state.peek(&self.memory, zspage).taken.is_set(slot as usize), "{index:?} names a free slot: {word:?}");
        assert_eq!(record.handle_at(slot), index, "the slot of {index:?} names another: {word:?}");
    }

    fn check_free(&self, index: HandleIndex, listed: &mut [bool]) {
        assert!(index.0 < self.memory.word_count(), "a free list names {index:?}, which was never given out");
        let word = self.memory.word(index).peek();
        assert!(word.state() == ObjectState::Free && word.pins() == 0, "{index:?} is on a free list, and {word:?}");
        assert!(!std::mem::replace(&mut listed[index.0 as usize], true), "{index:?} is on two free lists");
    }

    /// Returns whether a word is retired: a hardened pool uses no index again whose generation wrapped.
    fn is_retired(&self, word: Word) -> bool {
        self.hardened && word.generation() == 0
    }
}
