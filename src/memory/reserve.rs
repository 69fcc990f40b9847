//! Reserving the memory of a pool, and preparing it for the first object.
use super::arena::Arena;
use super::charge::Charge;
use super::handle_supply::Handles;
use super::layout::Layout;
use super::tables::{Policy, PoolMemory};
use crate::error::{Error, Result, Sentence, not_given, sentence};
use crate::os::{Advice, Backed, Errno, Mapping, Os};
use crate::sync::{AtomicU32, Leftovers, Lock, Rank};
use crate::units::{CHUNK, PAGE};
use std::os::fd::{AsRawFd, OwnedFd};

/// Where the memory of a pool comes from.
pub enum Source<'a> {
    /// Private anonymous memory.
    Anonymous,
    /// A memory file of this name.
    File(&'a str),
    /// A memory file of huge pages from the system's pool. The tables are anonymous.
    HugeFile(&'a str),
    /// The caller's memory, for which the layout was made, and whether it may be given back like private anonymous
    /// memory.
    Lent(*mut u8, bool),
}

const NO_ADDRESSES: Sentence =
    not_given!("the system did not reserve addresses for the pool; a smaller max_bytes takes fewer");
const NO_FILE: Sentence = sentence(&"the system did not create a memory file for the pool");
const NO_HUGE: Sentence =
    sentence(&"the system has no huge-page files: it was built without hugetlbfs, or refuses them");
const NO_SEAL: Sentence = sentence(&"the system did not seal the size of the pool's memory file");
const NO_TABLES: Sentence = not_given!("the system did not commit the pool's tables");
const NO_ADVICE: Sentence = sentence(&"the system refused advice about the pool's memory");

impl Drop for PoolMemory {
    fn drop(&mut self) {
        let lent = matches!(self.kind, Backed::Lent | Backed::LentReleasable);
        if lent && self.policy.dont_fork {
            // The caller uses the memory after the pool. A refusal, as in a child that never got it, changes nothing.
            let _ = self.os.advise(self.arena_base, self.layout.arena_pages * PAGE, Advice::Fork);
        }
    }
}

impl PoolMemory {
    /// Reserves the memory, and commits the tables that are needed from the start.
    pub fn new(os: Os, source: &Source<'_>, layout: Layout, policy: Policy, limit_pages: u64) -> Result<Self> {
        let arena_bytes = layout.arena_pages * PAGE;
        let tables_end = layout.tables_end.next_multiple_of(CHUNK);
        let step = |text: Sentence| move |errno: Errno| Error::system(errno, text);
        let (mut file, mut huge_arena, mut kind) = (None, None, Backed::Anonymous);
        let tables = match source {
            Source::Anonymous => os.reserve(tables_end + arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?,
            Source::File(name) => {
                let fd = os.memory_file(name, tables_end + arena_bytes, false).map_err(step(NO_FILE))?;
                os.seal_size(&fd).map_err(step(NO_SEAL))?;
                let map = os.map_file(fd.as_raw_fd(), tables_end + arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?;
                (file, kind) = (Some(fd), Backed::File);
                map
            }
            Source::HugeFile(name) => {
                let fd = os.memory_file(name, arena_bytes, true).map_err(step(NO_HUGE))?;
                os.seal_size(&fd).map_err(step(NO_SEAL))?;
                let map = os.map_file(fd.as_raw_fd(), arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?;
                (file, kind, huge_arena) = (Some(fd), Backed::File, Some(map));
                os.reserve(tables_end, CHUNK).map_err(step(NO_ADDRESSES))?
            }
            Source::Lent(base, releasable) => {
                kind = if *releasable { Backed::LentReleasable } else { Backed::Lent };
                Mapping::lent(std::ptr::NonNull::new(*base).ok_or(Error::Invalid(sentence(&"memory is NULL")))?)
            }
        };
        let arena_at = if matches!(source, Source::Lent(..)) { layout.tables_end } else { tables_end };
        let arena_base = match &huge_arena {
            Some(map) => map.base().as_ptr(),
            // SAFETY: the tables' mapping was made long enough to hold the arena after them.
            None => unsafe { tables.base().as_ptr().add(arena_at) },
        };
        // SAFETY: both tables lie inside the tables' mapping.
        let (zspages, handle_words) = unsafe {
            (tables.base().as_ptr().add(layout.zspage_table), tables.base().as_ptr().add(layout.handle_table))
        };
        let mut memory = Self {
            os,
            layout,
            zspages: zspages.cast(),
            handle_words: handle_words.cast(),
            policy,
            kind,
            tables,
            huge_arena,
            arena_base,
            many: false,
            file,
            charge: Charge::new(limit_pages),
            arena: Lock::new(Rank::Arena, Arena::new(layout.arena_pages)),
            handles: Lock::new(Rank::Handles, Handles::EMPTY),
            limbo: Leftovers::default(),
            left_handles: Leftovers::default(),
            words: AtomicU32::new(0),
        };
        memory.prepare()?;
        // SAFETY: nothing was ever in the arena. A jail that forbids advice may not know this call, so it is not asked.
        memory.many = kind == Backed::Anonymous && policy.advise && unsafe { memory.os.can_release_many(arena_base) };
        Ok(memory)
    }

    /// Gives the advice, commits the first tables, and writes the super page.
    fn prepare(&self) -> Result<()> {
        let refused = |errno| Error::advice(errno, NO_ADVICE);
        let (base, arena_bytes) = (self.tables.base().as_ptr(), self.layout.arena_pages * PAGE);
        let lent = matches!(self.kind, Backed::Lent | Backed::LentReleasable);
        if !self.policy.advise && !lent && self.huge_arena.is_none() {
            // A system that makes huge pages of everything would add pages unasked, which nobody charged.
            let _ = self.os.advise(base, self.layout.tables_end, Advice::NotHuge);
            let _ = self.os.advise(self.arena_base, arena_bytes, Advice::NotHuge);
        }
        if self.policy.advise && self.huge_arena.is_none() {
            let small = self.policy.whole_from.saturating_mul(CHUNK).min(arena_bytes);
            // A system that never gives huge pages refuses advice about them. One that gives them unasked would take 2
            // MiB for the first page of a table that is touched, where 4 KiB were charged.
            let _ = self.os.advise(base, self.layout.tables_end, Advice::NotHuge);
            let _ = self.os.advise(self.arena_base, small, Advice::NotHuge);
            if small < arena_bytes {
                // SAFETY: `small` lies inside the arena.
                let _ = self.os.advise(unsafe { self.arena_base.add(small) }, arena_bytes - small, Advice::Huge);
            }
        }
        if self.policy.advise {
            self.os.advise(self.arena_base, arena_bytes, Advice::DontDump).map_err(refused)?;
        }
        if self.policy.dont_fork {
            self.os.advise(self.arena_base, arena_bytes, Advice::DontFork).map_err(refused)?;
            if !lent {
                self.os.advise(base, self.layout.tables_end, Advice::DontFork).map_err(refused)?;
            }
        }
        if let (Some(_), Some(file)) = (&self.huge_arena, &self.file) {
            self.check_huge(file)?;
        }
        self.commit_table(0, self.layout.zspage_table)?;
        self.charge.take(1)?;
        // SAFETY: the super page was just committed, is aligned, and nobody else knows it.
        unsafe {
            base.cast::<SuperPage>().write(SuperPage { magic: MAGIC, version: 1, page: PAGE, layout: self.layout })
        };
        Ok(())
    }

    /// Checks that the system has a huge page, so that a pool that needs them fails when it is created.
    fn check_huge(&self, file: &OwnedFd) -> Result<()> {
        const NONE: Error =
            Error::NoMemory(sentence(&"the system has no huge page of 2 MiB to give: raise vm.nr_hugepages"));
        self.os.allocate(file.as_raw_fd(), 0, CHUNK).map_err(|_| NONE)?;
        // If the system does not take the page back, the first object uses it.
        // SAFETY: nothing was ever in the arena.
        let _ = unsafe { self.os.release(self.arena_base, CHUNK, Backed::File) };
        Ok(())
    }

    /// Makes a part of the tables usable and zero.
    pub(super) fn commit_table(&self, at: usize, bytes: usize) -> Result<()> {
        // SAFETY: the tables' mapping is that long.
        let at = unsafe { self.tables.base().as_ptr().add(at) };
        if matches!(self.kind, Backed::Lent | Backed::LentReleasable) {
            // SAFETY: it is the caller's memory, which is usable already, and this part is not in use yet.
            unsafe { at.write_bytes(0, bytes) };
            return Ok(());
        }
        self.os.commit(at, bytes).map_err(|errno| Error::system(errno, NO_TABLES))
    }
}

/// The first page of the tables, which says what a memory file holds.
#[repr(C)]
struct SuperPage {
    magic: u64,
    version: u32,
    page: usize,
    layout: Layout,
}

const MAGIC: u64 = u64::from_le_bytes(*b"zsalloc\x01");
