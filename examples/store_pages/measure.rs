//! The round that pages make through a pool, with the clock and the memory read beside.
//!
//! Calls are timed many at a time, so that reading the clock does not show in them.

use super::random::Random;
use super::{PAGE, Problem, Result, memory};
use indicatif::ProgressBar;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use std::hint::black_box;
use std::time::{Duration, Instant};
use zsalloc::{CompactBudget, Error, Handle, NewObject, Pool, PoolOptions};

/// Pages that are compressed, then allocated, then written, and timed, together.
const BATCH: usize = 256;

/// Everything that was found out.
#[derive(Default)]
pub struct Report {
    /// Pages that repeat one word; not stored.
    pub same_filled: u64,
    /// Pages that LZ4 did not make smaller; stored as they are.
    pub raw: u64,
    /// Pages that were stored, the raw ones included.
    pub stored: u64,
    /// Bytes of them as they were stored.
    pub stored_bytes: u64,
    /// What there was after each step.
    pub steps: Vec<Step>,
    /// All allocations together.
    pub malloc: Duration,
    /// All objects written for the first time, which is when the system gives most of their memory.
    pub write: Duration,
    /// Every object mapped and unmapped once, in random order.
    pub map: Duration,
    /// All frees together.
    pub free: Duration,
    /// How many.
    pub freed: u64,
    /// Both compactions.
    pub compactions: Vec<Compaction>,
    /// Pages compared with what they were, and found equal.
    pub verified: u64,
}

/// What there was after a step.
pub struct Step {
    /// Which step.
    pub name: &'static str,
    /// Objects in the pool.
    pub objects: u64,
    /// Bytes that they were asked for with.
    pub live_bytes: u64,
    /// Bytes of memory of the pool, as it counts them itself.
    pub pool_bytes: u64,
    /// Those of them that hold its tables.
    pub table_bytes: u64,
    /// What the process's resident memory has grown by since before the pool was created, as the system counts it.
    pub growth_bytes: u64,
}

impl Step {
    /// The share of what the pool costs that is what it is for.
    pub fn density(&self) -> f64 {
        self.live_bytes as f64 / self.growth_bytes as f64
    }
}

/// One call of compact.
pub struct Compaction {
    /// Pages that the system got back.
    pub pages: u64,
    /// Objects that it moved for that.
    pub objects_moved: u64,
    /// How long it took.
    pub time: Duration,
}

/// A stored page.
#[derive(Default)]
struct Object {
    page: u32,
    bytes: u16,
    handle: Option<Handle>,
}

/// A page on its way into the pool.
struct Staged {
    page: u32,
    bytes: u16,
}

struct Round<'a> {
    pages: &'a [[u8; PAGE]],
    progress: &'a ProgressBar,
    random: Random,
    table: CompressTable,
    /// Room for each page of a batch as LZ4 leaves it.
    scratch: Vec<u8>,
    staged: Vec<Staged>,
    objects: Vec<Object>,
    live_bytes: u64,
    baseline: u64,
    report: Report,
}

/// Sends `pages` through a new pool. The pool comes back too, so that the caller says when its memory goes.
pub fn round(pages: &[[u8; PAGE]], options: &PoolOptions, progress: &ProgressBar) -> Result<(Report, Pool)> {
    let mut round = Round::new(pages, progress)?;
    let pool = Pool::new("store_pages", options).map_err(failed("the pool could not be created"))?;
    round.store(&pool)?;
    round.note("stored", &pool)?;
    round.random.shuffle(&mut round.objects);
    round.map_all(&pool)?;
    round.verify(&pool)?;
    let [half, tenth] = kept(round.objects.len());
    for (keep, freed) in [(half, "half freed"), (tenth, "tenth left")] {
        round.free_down_to(keep, &pool)?;
        round.note(freed, &pool)?;
        round.compact(&pool)?;
        round.note("compacted", &pool)?;
        round.verify(&pool)?;
    }
    Ok((round.report, pool))
}

/// How many of the objects are kept at first, and in the end.
fn kept(objects: usize) -> [usize; 2] {
    [objects.div_ceil(2), objects.div_ceil(10)]
}

/// What the progress bar counts: pages stored, and pages verified.
fn steps_of(pages: usize, objects: usize) -> u64 {
    (pages + objects + kept(objects).iter().sum::<usize>()) as u64
}

impl<'a> Round<'a> {
    /// Gets all the memory that the round will need and touches it, and then reads what the process has.
    fn new(pages: &'a [[u8; PAGE]], progress: &'a ProgressBar) -> Result<Self> {
        let mut objects = Vec::new();
        let no_memory = |_| Problem::Refused("out of memory for the table of the pages".to_owned());
        objects.try_reserve_exact(pages.len()).map_err(no_memory)?;
        objects.resize_with(pages.len(), Object::default);
        black_box(&mut objects).clear();
        progress.set_length(steps_of(pages.len(), pages.len()));
        let mut round = Self {
            pages,
            progress,
            random: Random(2),
            table: CompressTable::small(),
            scratch: vec![1; BATCH * get_maximum_output_size(PAGE)],
            staged: Vec::with_capacity(BATCH),
            objects,
            live_bytes: 0,
            baseline: 0,
            report: Report::default(),
        };
        round.report.steps.reserve(8);
        round.report.compactions.reserve(2);
        round.baseline = memory::resident()?;
        Ok(round)
    }

    fn store(&mut self, pool: &Pool) -> Result<()> {
        self.progress.set_message("storing");
        let mut created = Vec::with_capacity(BATCH);
        for first in (0..self.pages.len()).step_by(BATCH) {
            let last = self.pages.len().min(first + BATCH);
            self.compress(first..last);
            self.allocate(pool, &mut created)?;
            self.write(&mut created);
            self.progress.inc((last - first) as u64);
        }
        self.progress.set_length(steps_of(self.pages.len(), self.objects.len()));
        Ok(())
    }

    fn compress(&mut self, pages: std::ops::Range<usize>) {
        self.staged.clear();
        for page in pages {
            let bytes = &self.pages[page];
            if is_same_filled(bytes) {
                self.report.same_filled += 1;
                continue;
            }
            let room = slot_mut(&mut self.scratch, self.staged.len());
            let compressed = match compress_into_with_table(bytes, room, &mut self.table) {
                Ok(compressed) if compressed < PAGE => compressed,
                _ => {
                    room[..PAGE].copy_from_slice(bytes);
                    self.report.raw += 1;
                    PAGE
                }
            };
            self.staged.push(Staged { page: page as u32, bytes: compressed as u16 });
        }
    }

    fn allocate<'p>(&mut self, pool: &'p Pool, created: &mut Vec<NewObject<'p>>) -> Result<()> {
        let begin = Instant::now();
        for staged in &self.staged {
            created.push(pool.malloc_mapped(staged.bytes as usize).map_err(failed("a page could not be stored"))?);
        }
        self.report.malloc += begin.elapsed();
        Ok(())
    }

    fn write(&mut self, created: &mut Vec<NewObject<'_>>) {
        let begin = Instant::now();
        for (index, (staged, mut object)) in self.staged.iter().zip(created.drain(..)).enumerate() {
            let bytes = staged.bytes as usize;
            object[..bytes].copy_from_slice(&slot_mut(&mut self.scratch, index)[..bytes]);
            let handle = Some(object.finish());
            self.objects.push(Object { page: staged.page, bytes: staged.bytes, handle });
            self.live_bytes += bytes as u64;
        }
        self.report.write += begin.elapsed();
        self.report.stored = self.objects.len() as u64;
        self.report.stored_bytes = self.live_bytes;
    }

    fn map_all(&mut self, pool: &Pool) -> Result<()> {
        let begin = Instant::now();
        for handle in self.objects.iter().filter_map(|object| object.handle.as_ref()) {
            black_box(pool.map(handle).map_err(failed("a page could not be mapped"))?.as_ptr());
        }
        self.report.map += begin.elapsed();
        Ok(())
    }

    /// Decompresses every page that is stored, and compares it with what it was.
    fn verify(&mut self, pool: &Pool) -> Result<()> {
        self.progress.set_message("verifying");
        for batch in self.objects.chunks(BATCH) {
            for object in batch {
                let page = object.page as usize;
                if !comes_back(pool, object, &self.pages[page])? {
                    return Err(Problem::Damaged(format!("page {page} is not what was stored")));
                }
            }
            self.report.verified += batch.len() as u64;
            self.progress.inc(batch.len() as u64);
        }
        Ok(())
    }

    fn free_down_to(&mut self, keep: usize, pool: &Pool) -> Result<()> {
        let begin = Instant::now();
        for object in self.objects.drain(keep..) {
            self.live_bytes -= object.bytes as u64;
            self.report.freed += 1;
            if let Some(handle) = object.handle {
                pool.free(handle).map_err(failed("a page could not be freed"))?;
            }
        }
        self.report.free += begin.elapsed();
        Ok(())
    }

    fn compact(&mut self, pool: &Pool) -> Result<()> {
        self.progress.set_message("compacting");
        let moved_before = pool.stats().map_err(failed("the pool tells no figures"))?.objects_moved;
        let begin = Instant::now();
        let pages = pool.compact(&CompactBudget::default()).map_err(failed("the pool could not be compacted"))?;
        let time = begin.elapsed();
        let moved = pool.stats().map_err(failed("the pool tells no figures"))?.objects_moved;
        self.report.compactions.push(Compaction { pages, objects_moved: moved - moved_before, time });
        Ok(())
    }

    fn note(&mut self, name: &'static str, pool: &Pool) -> Result<()> {
        let stats = pool.stats().map_err(failed("the pool tells no figures"))?;
        self.report.steps.push(Step {
            name,
            objects: stats.objects,
            live_bytes: self.live_bytes,
            pool_bytes: stats.total_pages * PAGE as u64,
            table_bytes: stats.metadata_pages * PAGE as u64,
            growth_bytes: memory::resident()?.saturating_sub(self.baseline),
        });
        Ok(())
    }
}

/// The part of `scratch` that is the batch's page `index`.
fn slot_mut(scratch: &mut [u8], index: usize) -> &mut [u8] {
    let bytes = get_maximum_output_size(PAGE);
    &mut scratch[index * bytes..][..bytes]
}

/// Whether a page is one word of 8 bytes again and again.
fn is_same_filled(page: &[u8; PAGE]) -> bool {
    let (words, _) = page.as_chunks::<8>();
    words.iter().all(|word| *word == words[0])
}

/// Whether an object holds `page`, every byte of it.
fn comes_back(pool: &Pool, object: &Object, page: &[u8; PAGE]) -> Result<bool> {
    let Some(handle) = &object.handle else { return Ok(false) };
    let mapped = pool.map(handle).map_err(failed("a page could not be mapped"))?;
    let stored = &mapped[..object.bytes as usize];
    if stored.len() == PAGE {
        return Ok(stored == page);
    }
    let mut decompressed = [0; PAGE];
    let bytes = decompress_into(stored, &mut decompressed);
    Ok(bytes.is_ok_and(|bytes| bytes == PAGE) && decompressed == *page)
}

/// Says what an error of the pool means here: too little memory is the machine's or an option's, anything else a
/// defect.
fn failed(what: &'static str) -> impl Fn(Error) -> Problem {
    move |error| match error {
        Error::NoMemory(_) => Problem::Refused(format!("out of memory: {what}: {error}")),
        Error::Invalid(_) | Error::System { .. } if what.contains("created") => {
            Problem::Refused(format!("{what}: {error}"))
        }
        _ => Problem::Damaged(format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of all kinds: same-filled, well and badly compressed, raw.
    fn pages(count: usize) -> Vec<[u8; PAGE]> {
        let mut random = Random(3);
        let page = |kind: usize| {
            let mut page = [kind as u8; PAGE];
            page[..kind % 5 * 1024].fill_with(|| random.next() as u8);
            page
        };
        (0..count).map(page).collect()
    }

    #[test]
    fn a_round_counts_and_verifies_everything() {
        let pages = pages(1000);
        let (report, pool) = round(&pages, &PoolOptions::default(), &ProgressBar::hidden()).unwrap();
        assert_eq!((report.same_filled, report.raw, report.stored), (200, 200, 800));
        assert_eq!(report.verified, 800 + 400 + 80);
        assert_eq!(report.freed, 720);
        let names: Vec<_> = report.steps.iter().map(|step| step.name).collect();
        assert_eq!(names, ["stored", "half freed", "compacted", "tenth left", "compacted"]);
        assert_eq!(report.steps[0].live_bytes, report.stored_bytes);
        assert_eq!(report.steps[4].objects, 80);
        assert!(report.compactions[0].pages > 0 && report.steps[2].pool_bytes < report.steps[1].pool_bytes);
        assert_eq!(pool.stats().unwrap().objects, 80);
    }

    #[test]
    fn a_wrong_byte_is_noticed() {
        let pages = pages(64);
        let progress = ProgressBar::hidden();
        let mut round = Round::new(&pages, &progress).unwrap();
        let pool = Pool::new("damaged", &PoolOptions::default()).unwrap();
        round.store(&pool).unwrap();
        round.verify(&pool).unwrap();
        for index in 0..round.objects.len() {
            let last = round.objects[index].bytes as usize - 1;
            for byte in [0, last / 2, last] {
                flip(&pool, &mut round.objects[index], byte);
                assert!(matches!(round.verify(&pool), Err(Problem::Damaged(_))), "object {index}, byte {byte}");
                flip(&pool, &mut round.objects[index], byte);
            }
        }
        round.verify(&pool).unwrap();
    }

    fn flip(pool: &Pool, object: &mut Object, byte: usize) {
        pool.map_mut(object.handle.as_mut().unwrap()).unwrap()[byte] ^= 0x10;
    }

    #[test]
    fn a_full_pool_is_told_as_such() {
        let mut random = Random(4);
        let pages: Vec<[u8; PAGE]> = (0..512).map(|_| std::array::from_fn(|_| random.next() as u8)).collect();
        let options = PoolOptions { max_bytes: 1 << 20, ..PoolOptions::default() };
        let problem = round(&pages, &options, &ProgressBar::hidden()).err().unwrap();
        assert_eq!(problem.status(), 2);
        assert!(problem.to_string().contains("out of memory"), "{problem}");
    }

    #[test]
    fn pages_of_one_word_only_need_no_pool() {
        let pages = [[0; PAGE], [0x5a; PAGE]];
        let (report, _pool) = round(&pages, &PoolOptions::default(), &ProgressBar::hidden()).unwrap();
        assert_eq!((report.same_filled, report.stored, report.verified), (2, 0, 0));
    }
}
