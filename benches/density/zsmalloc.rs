//! A model of zsmalloc.

use super::lists::Lists;
use super::models::{Model, Numbers, PAGE};

/// zsmalloc: size classes 16 bytes apart, zspages of up to eight single pages, an object may lie across two of them.
/// Each object has its handle before its bytes. An object is placed in the fullest tenth of zspages with room.
/// Compaction moves objects from the emptiest tenth to the fullest one.
pub struct Zsmalloc {
    classes: Vec<Class>,
    /// The class of each size from 0 on, in steps of 16 bytes.
    class_of: Vec<usize>,
    zspages: Vec<Zspage>,
    numbers: Numbers,
    /// The zspage of each object, and where the zspage's list of objects has it.
    objects: Vec<(usize, usize)>,
    tokens: Numbers,
    pages: u64,
}

/// Bytes of the smallest and of the largest object, with its handle.
const SIZES: [usize; 2] = [32, PAGE];
const STEP: usize = 16;
/// Bytes of a handle before an object, and of the table of handles for each object.
const HANDLE: usize = 8;
/// Bytes of a zspage's record.
const RECORD: u64 = 64;
/// Most pages of a zspage.
const CHAIN: usize = 8;
/// The fullness groups: empty, up to 10 %, 20 % ... 90 %, 99 %, and full.
const GROUPS: usize = 12;
const FULL: usize = GROUPS - 1;

struct Class {
    pages: usize,
    /// Objects of a zspage.
    slots: usize,
    groups: Lists,
    /// Zspages and objects of the class.
    zspages: usize,
    used: usize,
}

#[derive(Default)]
struct Zspage {
    class: usize,
    group: usize,
    objects: Vec<usize>,
}

/// Returns how many pages a zspage of a class has: those that waste the fewest bytes, and the fewest of equals.
fn chain(size: usize) -> usize {
    if size.is_power_of_two() {
        return 1;
    }
    (1..=CHAIN).min_by_key(|pages| pages * PAGE % size).expect("at least one")
}

impl Zsmalloc {
    fn put(&mut self, id: usize, token: usize) {
        self.objects[token] = (id, self.zspages[id].objects.len());
        self.zspages[id].objects.push(token);
        self.relist(id);
    }

    fn take(&mut self, token: usize) -> usize {
        let (id, at) = self.objects[token];
        self.zspages[id].objects.swap_remove(at);
        if let Some(&moved) = self.zspages[id].objects.get(at) {
            self.objects[moved].1 = at;
        }
        id
    }

    /// Puts a zspage on the list of its group, if the group is another one now.
    fn relist(&mut self, id: usize) {
        let zspage = &mut self.zspages[id];
        let class = &mut self.classes[zspage.class];
        let group = match zspage.objects.len() {
            0 => 0,
            used if used == class.slots => FULL,
            used => used * 100 / class.slots / 10 + 1,
        };
        if group != std::mem::replace(&mut zspage.group, group) {
            class.groups.take(id);
            class.groups.put(group, id);
        }
    }

    fn give_back(&mut self, id: usize) {
        let class = &mut self.classes[self.zspages[id].class];
        class.groups.take(id);
        class.zspages -= 1;
        self.pages -= class.pages as u64;
        self.numbers.give_back(id);
    }

    fn new_zspage(&mut self, class: usize) -> usize {
        let id = self.numbers.take();
        if self.zspages.len() <= id {
            self.zspages.push(Zspage::default());
        }
        self.zspages[id] = Zspage { class, ..Zspage::default() };
        self.classes[class].zspages += 1;
        self.pages += self.classes[class].pages as u64;
        id
    }

    fn compact_class(&mut self, at: usize) {
        let mut target = None;
        loop {
            let class = &self.classes[at];
            // A zspage can go only if the others have as many free slots as it has slots.
            if class.zspages * class.slots - class.used < class.slots {
                return;
            }
            let to = target.take().or_else(|| (1..FULL).rev().find_map(|group| class.groups.first(group)));
            let Some(to) = to else { return };
            self.classes[at].groups.take(to);
            let from = (1..FULL).find_map(|group| self.classes[at].groups.first(group));
            let Some(from) = from else { return self.classes[at].groups.put(self.zspages[to].group, to) };
            while self.zspages[to].objects.len() < self.classes[at].slots
                && let Some(&token) = self.zspages[from].objects.last()
            {
                self.take(token);
                self.objects[token] = (to, self.zspages[to].objects.len());
                self.zspages[to].objects.push(token);
            }
            self.relist(from);
            if self.zspages[from].objects.is_empty() {
                self.give_back(from);
            }
            if self.zspages[to].objects.len() == self.classes[at].slots {
                self.zspages[to].group = FULL;
                self.classes[at].groups.put(FULL, to);
            } else {
                target = Some(to);
            }
        }
    }
}

impl Model for Zsmalloc {
    const NAME: &'static str = "zsmalloc";

    fn new() -> Self {
        let mut classes: Vec<Class> = Vec::new();
        let mut class_of = vec![0; SIZES[1] / STEP + 1];
        // From large to small: a size whose zspages would have as many pages and objects as the next larger class
        // shares it.
        for step in (SIZES[0] / STEP..SIZES[1] / STEP + 1).rev() {
            let size = step * STEP;
            let (pages, slots) = (chain(size), chain(size) * PAGE / size);
            if classes.last().is_none_or(|class| (class.pages, class.slots) != (pages, slots)) {
                classes.push(Class { pages, slots, groups: Lists::new(GROUPS), zspages: 0, used: 0 });
            }
            class_of[step] = classes.len() - 1;
        }
        Self {
            classes,
            class_of,
            zspages: Vec::new(),
            numbers: Numbers::default(),
            objects: Vec::new(),
            tokens: Numbers::default(),
            pages: 0,
        }
    }

    fn place(&mut self, size: usize) -> usize {
        let size = (size + HANDLE).clamp(SIZES[0], SIZES[1]);
        let class = self.class_of[size.div_ceil(STEP)];
        let found = (0..FULL).rev().find_map(|group| self.classes[class].groups.first(group));
        let id = found.unwrap_or_else(|| self.new_zspage(class));
        let token = self.tokens.take();
        if self.objects.len() <= token {
            self.objects.push((0, 0));
        }
        self.classes[class].used += 1;
        self.put(id, token);
        token
    }

    fn remove(&mut self, token: usize) {
        let id = self.take(token);
        self.tokens.give_back(token);
        self.classes[self.zspages[id].class].used -= 1;
        match self.zspages[id].objects.len() {
            0 => self.give_back(id),
            _ => self.relist(id),
        }
    }

    fn compact(&mut self) {
        (0..self.classes.len()).for_each(|class| self.compact_class(class));
    }

    fn bytes(&self) -> u64 {
        self.pages * PAGE as u64 + self.tokens.taken() * HANDLE as u64 + self.numbers.taken() * RECORD
    }
}
