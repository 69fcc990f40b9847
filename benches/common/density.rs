//! Measures how much memory objects cost, in a process of its own. All memory that this program needs itself is
//! allocated and touched before the measured allocator is used for the first time.

use super::kinds::{Kind, send_sizes, sizes_from_parent, this_program};
use super::memory::{self, Memory};
use super::peers::Peer;
use super::random::Random;
use super::{give_up, option};
use memmap2::MmapMut;
use std::io::Read;
use std::process::Stdio;

/// The states in which memory is measured.
pub const STATES: [&str; 7] = ["filled", "churned", "+compact", "half", "+compact", "tenth", "+compact"];

/// What a process measured of an allocator.
pub struct Found {
    /// Live bytes and memory in each state.
    pub states: [(f64, f64); STATES.len()],
    /// Share of the memory in huge pages when filled.
    pub huge: f64,
    /// Bytes of metadata for each object by the allocator's own count; 0 if it has none.
    pub metadata: f64,
}

impl Found {
    /// Returns live bytes over memory in each state.
    pub fn density(&self) -> [f64; STATES.len()] {
        self.states.map(|(live, memory)| live / memory)
    }
}

/// Runs this program again to measure, and returns what it found.
pub fn measure(kind: &Kind, live: u64, sizes: &[u16]) -> Found {
    let mut child = this_program(kind)
        .args(["--measure", kind.name, "--bytes", &live.to_string(), "--sizes", &sizes.len().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| give_up(&format!("the measuring process did not start: {error}")));
    send_sizes(&mut child.stdin.take().expect("piped"), sizes);
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("numbers");
    if !child.wait().is_ok_and(|status| status.success()) {
        give_up(&format!("measuring {} failed", kind.title));
    }
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let states = std::array::from_fn(|state| (numbers[2 * state], numbers[2 * state + 1]));
    Found { states, huge: numbers[2 * STATES.len()], metadata: numbers[2 * STATES.len() + 1] }
}

/// The table of live objects: fixed arrays outside every heap.
struct Objects {
    /// A token for each object.
    tokens: Array<usize>,
    /// Size of each object.
    sizes: Array<u16>,
    count: usize,
    /// Bytes of all objects.
    live: u64,
}

/// An array of numbers in a mapping of its own.
struct Array<T>(MmapMut, std::marker::PhantomData<T>);

impl<T: Copy + Default> Array<T> {
    /// Creates an array of `count` zeros that is already in memory.
    fn new(count: usize) -> Self {
        let bytes = (count * size_of::<T>()).max(1);
        let mut memory = MmapMut::map_anon(bytes).unwrap_or_else(|error| give_up(&error.to_string()));
        // SAFETY: the advice changes nothing that the memory holds. A kernel without huge pages refuses it, rightly.
        unsafe { libc::madvise(memory.as_mut_ptr().cast(), bytes, libc::MADV_NOHUGEPAGE) };
        memory.fill(0);
        Self(memory, std::marker::PhantomData)
    }

    fn all(&mut self) -> &mut [T] {
        // SAFETY: pages are aligned for every number, zeros are valid ones, and a borrow of this borrows the
        // memory.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() / size_of::<T>()) }
    }
}

/// Measures the allocator that the command line names, in a process that [`measure`] started.
pub fn run_in_child(kinds: &[Kind], name: &str) {
    let kind = kinds.iter().find(|kind| kind.name == name);
    let kind = kind.unwrap_or_else(|| give_up(&format!("{name} is not an allocator that can be measured")));
    (kind.run)();
}

fn number(name: &str) -> u64 {
    let number = option(name).and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| give_up(&format!("{name} needs a number")))
}

/// Measures one allocator. Prints live bytes and memory for each state, the share in huge pages, and the metadata by
/// the allocator's own count.
pub fn measure_here<P: Peer>(create: impl FnOnce() -> P) {
    let (bytes, size_count) = (number("--bytes"), number("--sizes") as usize);
    let mut sizes = Array::<u16>::new(size_count);
    let sizes = &mut sizes.all()[..size_count];
    sizes_from_parent(sizes);
    let mut objects = Objects::for_live(bytes, sizes);
    memory::bring_in_program();
    // Some allocators take a huge page when the program starts. It counts to them: this program itself uses none.
    let Memory { resident, huge } = memory::memory();
    let before = (resident - huge, memory::huge_pool().0);
    let peer = create();
    let grown = || -> (u64, u64) {
        if let Some(bytes) = peer.counted_memory() {
            return (bytes, 0);
        }
        let Memory { resident, huge } = memory::memory();
        let from_pool = memory::huge_pool().0.saturating_sub(before.1);
        let memory = resident.saturating_sub(before.0) + peer.memory_elsewhere() + from_pool;
        (memory, huge + from_pool)
    };
    let mut found = [(0, 0); STATES.len()];
    let mut random = Random::new(17);
    objects.fill(&peer, sizes, bytes, &mut random);
    let (memory, huge) = grown();
    found[0] = (objects.live, memory);
    let metadata = peer.metadata_bytes() as f64 / objects.count as f64;
    let whole = objects.count;
    let mut note = |state: usize, objects: &Objects| found[state] = (objects.live, grown().0);
    objects.churn(&peer, sizes, &mut random);
    note(1, &objects);
    for (state, left) in [(2, whole), (4, whole / 2), (6, whole / 10)] {
        if left < whole {
            objects.free_to(&peer, left, &mut random);
            note(state - 1, &objects);
        }
        peer.give_back();
        note(state, &objects);
    }
    found.iter().for_each(|(live, memory)| print!("{live} {memory} "));
    println!("{} {metadata}", huge as f64 / memory as f64);
}

impl Objects {
    /// Makes room for as many objects as `bytes` can hold, in any order of `sizes`.
    fn for_live(bytes: u64, sizes: &[u16]) -> Self {
        let mean = sizes.iter().map(|&size| size as u64).sum::<u64>() / sizes.len() as u64;
        // The mean of so large a random sample deviates by much less than this margin.
        let most = (bytes / mean.max(1)) as usize * 5 / 4 + 1000;
        Self { tokens: Array::new(most), sizes: Array::new(most), count: 0, live: 0 }
    }

    fn put<P: Peer>(&mut self, peer: &P, at: usize, size: u16) {
        // SAFETY: the object is `size` bytes long, and the caller's.
        let token = peer.alloc_with(size as usize, |object| unsafe { object.write_bytes(size as u8, size as usize) });
        self.tokens.all()[at] = token;
        self.sizes.all()[at] = size;
        self.live += size as u64;
    }

    fn fill<P: Peer>(&mut self, peer: &P, sizes: &[u16], bytes: u64, random: &mut Random) {
        while self.live < bytes {
            self.put(peer, self.count, sizes[random.below(sizes.len())]);
            self.count += 1;
        }
    }

    /// Replaces random objects by objects of other sizes, four times as many as there are.
    fn churn<P: Peer>(&mut self, peer: &P, sizes: &[u16], random: &mut Random) {
        for _ in 0..4 * self.count {
            let at = random.below(self.count);
            self.live -= self.sizes.all()[at] as u64;
            peer.free(self.tokens.all()[at]);
            self.put(peer, at, sizes[random.below(sizes.len())]);
        }
    }

    /// Frees random objects until `left` remain.
    fn free_to<P: Peer>(&mut self, peer: &P, left: usize, random: &mut Random) {
        while self.count > left {
            let (at, last) = (random.below(self.count), self.count - 1);
            let (tokens, sizes) = (self.tokens.all(), self.sizes.all());
            tokens.swap(at, last);
            sizes.swap(at, last);
            self.live -= sizes[last] as u64;
            peer.free(tokens[last]);
            self.count = last;
        }
    }
}
