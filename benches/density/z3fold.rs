//! A model of z3fold.

use super::lists::Lists;
use super::models::{CHUNK, CHUNKS, Model, Numbers, PAGE};

/// z3fold: a header of two chunks, an object at the front of a page, one in the middle and one at the end. After a free
/// the middle object moves towards the other one, and an object that is alone on its page moves to another page.
pub struct Z3fold {
    pages: Vec<Trio>,
    numbers: Numbers,
    /// The pages with fewer than three objects, by how many chunks are free together.
    unbuddied: Lists,
    objects: Vec<Object>,
    tokens: Numbers,
    /// How many handles of each group are in use.
    groups: Vec<usize>,
    group_numbers: Numbers,
}

/// A page.
#[derive(Clone, Copy, Default)]
struct Trio {
    /// Chunks of the first, the middle and the last object.
    chunks: [usize; 3],
    /// The object in each place.
    objects: [usize; 3],
    /// Where the middle object begins, in chunks.
    middle_at: usize,
    /// How many of its objects were moved here from another page. Such a page is not emptied.
    foreign: usize,
    /// The group of handles that objects get that are placed on this page.
    group: Option<usize>,
}

#[derive(Clone, Copy, Default)]
struct Object {
    page: usize,
    /// The group of its handle; none if it has a page of its own.
    group: Option<usize>,
}

/// Chunks of the header.
const HEADER: usize = 2;
/// Chunks of an empty page.
const FREE: usize = CHUNKS - HEADER;
/// The middle object moves if that joins at least this many chunks.
const GAP: usize = 3;
/// Bytes of a group of handles.
const GROUP: u64 = 64;

impl Trio {
    /// Returns how many chunks are free together.
    fn free(&self) -> usize {
        let [first, middle, last] = self.chunks;
        if middle == 0 {
            return FREE - first - last;
        }
        let before = if first == 0 { self.middle_at - HEADER } else { 0 };
        let after = if last == 0 { CHUNKS - (self.middle_at + middle) } else { 0 };
        before.max(after)
    }

    /// Puts an object in the first place that has room.
    fn put(&mut self, chunks: usize, object: usize) {
        let [first, middle, last] = self.chunks;
        let place = match middle {
            0 if first == 0 => 0,
            0 if last == 0 => 2,
            0 => 1,
            _ if first == 0 && chunks <= self.middle_at - HEADER => 0,
            _ => 2,
        };
        if place == 1 {
            self.middle_at = first + HEADER;
        }
        (self.chunks[place], self.objects[place]) = (chunks, object);
    }

    /// Moves the middle object to where it leaves one large gap.
    fn join_gaps(&mut self) {
        let [first, middle, last] = self.chunks;
        match (first, middle, last) {
            (_, 0, _) => {}
            (0, _, 0) => (self.chunks, self.objects[0]) = ([middle, 0, 0], self.objects[1]),
            (1.., _, 0) if self.middle_at - (first + HEADER) >= GAP => self.middle_at = first + HEADER,
            (0, _, 1..) if CHUNKS - (last + self.middle_at + middle) >= GAP => {
                self.middle_at = CHUNKS - (last + middle);
            }
            _ => {}
        }
    }

    /// Returns the place of the only object.
    fn single(&self) -> Option<usize> {
        let mut there = (0..3).filter(|&place| self.chunks[place] != 0);
        there.next().filter(|_| there.next().is_none())
    }
}

impl Z3fold {
    fn list(&mut self, at: usize) {
        let page = &self.pages[at];
        if page.chunks.contains(&0) {
            self.unbuddied.put(page.free(), at);
        }
    }

    /// Takes a page off its list that has as few chunks free as possible, but enough.
    fn find(&mut self, chunks: usize) -> Option<usize> {
        let found = (chunks..FREE).find_map(|free| self.unbuddied.first(free))?;
        self.unbuddied.take(found);
        Some(found)
    }

    fn new_page(&mut self) -> usize {
        let page = self.numbers.take();
        if self.pages.len() <= page {
            self.pages.push(Trio::default());
        }
        self.pages[page] = Trio::default();
        page
    }

    fn new_object(&mut self, object: Object) -> usize {
        let token = self.tokens.take();
        if self.objects.len() <= token {
            self.objects.push(object);
        }
        self.objects[token] = object;
        token
    }

    /// Takes a handle of a page's group.
    fn take_handle(&mut self, page: usize) -> usize {
        let group = *self.pages[page].group.get_or_insert_with(|| self.group_numbers.take());
        self.groups.resize(self.groups.len().max(group + 1), 0);
        self.groups[group] += 1;
        group
    }

    /// Moves an object that is alone on its page to another page. Returns whether it did.
    fn move_single(&mut self, at: usize) -> bool {
        let page = self.pages[at];
        let Some(place) = page.single().filter(|_| page.foreign == 0) else { return false };
        let (chunks, object) = (page.chunks[place], page.objects[place]);
        let Some(to) = self.find(chunks) else { return false };
        self.pages[to].put(chunks, object);
        self.pages[to].foreign += 1;
        self.objects[object].page = to;
        self.list(to);
        true
    }
}

impl Model for Z3fold {
    const NAME: &'static str = "z3fold";

    fn new() -> Self {
        Self {
            pages: Vec::new(),
            numbers: Numbers::default(),
            unbuddied: Lists::new(CHUNKS),
            objects: Vec::new(),
            tokens: Numbers::default(),
            groups: Vec::new(),
            group_numbers: Numbers::default(),
        }
    }

    fn place(&mut self, size: usize) -> usize {
        if size > PAGE - (HEADER + 1) * CHUNK {
            let page = self.new_page();
            return self.new_object(Object { page, group: None });
        }
        let chunks = size.div_ceil(CHUNK);
        let page = self.find(chunks).unwrap_or_else(|| self.new_page());
        let group = Some(self.take_handle(page));
        let object = self.new_object(Object { page, group });
        self.pages[page].put(chunks, object);
        self.list(page);
        object
    }

    fn remove(&mut self, token: usize) {
        let Object { page: at, group } = self.objects[token];
        self.tokens.give_back(token);
        let Some(group) = group else { return self.numbers.give_back(at) };
        self.unbuddied.take(at);
        let page = &mut self.pages[at];
        page.foreign -= usize::from(page.group != Some(group));
        self.groups[group] -= 1;
        if self.groups[group] == 0 {
            self.group_numbers.give_back(group);
            page.group = page.group.filter(|&own| own != group);
        }
        let place = (0..3).find(|&place| page.chunks[place] != 0 && page.objects[place] == token);
        page.chunks[place.expect("the object is on its page")] = 0;
        if page.chunks == [0; 3] || self.move_single(at) {
            return self.numbers.give_back(at);
        }
        self.pages[at].join_gaps();
        self.list(at);
    }

    fn bytes(&self) -> u64 {
        self.numbers.taken() * PAGE as u64 + self.group_numbers.taken() * GROUP
    }
}
