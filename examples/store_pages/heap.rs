//! Pages of this program's own heap: builds typical data of a program, and reads the memory it lies in.

use super::random::Random;
use super::{PAGE, Problem, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A table of records under string keys, as many programs have.
pub struct Heap {
    records: BTreeMap<String, Record>,
}

struct Record {
    title: String,
    tags: Vec<&'static str>,
    visits: Vec<u64>,
    note: Option<Box<str>>,
}

const WORDS: [&str; 24] = [
    "page",
    "of",
    "the",
    "memory",
    "a",
    "is",
    "compressed",
    "when",
    "nobody",
    "asked",
    "for",
    "it",
    "long",
    "enough",
    "and",
    "comes",
    "back",
    "as",
    "soon",
    "as",
    "somebody",
    "does",
    "again",
    "today",
];

impl Record {
    fn new(random: &mut Random, now: u64) -> Self {
        let visits = (0..random.below(12)).map(|_| now - random.next() % 10_000_000).collect();
        let tags = (0..random.below(5)).map(|_| WORDS[random.below(WORDS.len())]).collect();
        let note = (random.below(3) == 0).then(|| sentence(random, 24).into_boxed_str());
        Self { title: sentence(random, 6), tags, visits, note }
    }

    fn bytes(&self) -> usize {
        let note = self.note.as_ref().map_or(0, |note| note.len());
        size_of::<Self>() + self.title.len() + size_of_val(&*self.tags) + size_of_val(&*self.visits) + note
    }
}

fn sentence(random: &mut Random, most_words: usize) -> String {
    let words = (0..=random.below(most_words)).map(|_| WORDS[random.below(WORDS.len())]);
    words.collect::<Vec<_>>().join(" ")
}

impl Heap {
    /// Builds a heap of about `bytes` bytes or a little more.
    pub fn build(bytes: usize) -> Result<Self> {
        // A map aborts without memory. So check first that about as much as it will take is available.
        Vec::<u8>::new()
            .try_reserve_exact(bytes * 2)
            .map_err(|_| Problem::Refused(format!("out of memory: {bytes} bytes of heap to take pages of")))?;
        let mut random = Random(1);
        let mut records = BTreeMap::new();
        let mut built = 0;
        while built < bytes {
            let key = format!("user/{:08}/{}", random.below(100_000_000), WORDS[random.below(WORDS.len())]);
            let record = Record::new(&mut random, 1_767_225_600 + built as u64);
            built += key.len() + record.bytes();
            records.insert(key, record);
        }
        Ok(Self { records })
    }

    /// Returns the number of records.
    pub fn records(&self) -> usize {
        self.records.len()
    }
}

/// Copies pages of this process's private anonymous memory into `buffer`, from `filled` on, until it is full. Skips the
/// buffer itself, which is such memory too. Returns where the copy ended.
pub fn copy_own_memory(buffer: &mut [u8], mut filled: usize) -> io::Result<usize> {
    let start = buffer.as_ptr() as usize;
    let own = start / PAGE * PAGE..(start + buffer.len()).next_multiple_of(PAGE);
    let memory = File::open("/proc/self/mem")?;
    for range in fs::read_to_string("/proc/self/maps")?.lines().filter_map(anonymous) {
        for part in [range.start..range.end.min(own.start), range.start.max(own.end)..range.end] {
            let bytes = part.len().min(buffer.len() - filled);
            filled += read_at(&memory, part.start, &mut buffer[filled..filled + bytes]);
        }
    }
    Ok(filled)
}

/// Returns the addresses of a line of /proc/self/maps, if it describes heap memory: private, writable, and of no file.
fn anonymous(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, _offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let name = fields.next().unwrap_or("");
    let heap = name.is_empty() || name == "[heap]" || name.starts_with("[anon:");
    if permissions != "rw-p" || inode != "0" || !heap {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// Reads whole pages as far as they can be read. Returns how many bytes that were.
fn read_at(memory: &File, address: usize, pages: &mut [u8]) -> usize {
    let mut filled = 0;
    for page in pages.chunks_exact_mut(PAGE) {
        if memory.read_exact_at(page, (address + filled) as u64).is_err() {
            break;
        }
        filled += PAGE;
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_heap_hold_what_was_put_there() {
        let heap = Heap::build(4 << 20).unwrap();
        assert!(heap.records() > 1000);
        let mut pages = vec![0; 64 << 20];
        let end = copy_own_memory(&mut pages, PAGE).unwrap();
        assert!(end >= 4 << 20 && end.is_multiple_of(PAGE), "{end}");
        assert_eq!(pages[..PAGE], [0; PAGE]);
        assert!(pages.windows(9).any(|window| window == b"memory of"), "no sentence of the heap was found");
    }

    #[test]
    fn heap_lines_of_maps_are_recognised() {
        assert_eq!(anonymous("1000-3000 rw-p 00000000 00:00 0    [heap]"), Some(0x1000..0x3000));
        assert_eq!(anonymous("7f0000000000-7f0000001000 rw-p 00000000 00:00 0 "), Some(0x7f0000000000..0x7f0000001000));
        assert_eq!(anonymous("1000-3000 r--p 00000000 00:00 0"), None);
        assert_eq!(anonymous("1000-3000 rw-p 00000000 08:01 77 /usr/lib/libc.so"), None);
        assert_eq!(anonymous("1000-3000 rw-p 00000000 00:00 0 [stack]"), None);
        assert_eq!(anonymous("nonsense"), None);
    }
}
