//! What pages are compressed with, and the contexts that it takes.

use super::entry::HEADER;
use super::word::repeated_word;
use crate::error::{Error, Result};
use crate::sync::{AtomicU32, Lock, Locked, Ordering::Relaxed, Rank};
use crate::units::PAGE;
use crossbeam_utils::CachePadded;
use lz4_flex::block::CompressTable;
use zstd::zstd_safe::{CCtx, DCtx};

/// What new pages are compressed with. Stored pages keep what they were compressed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Codec {
    /// LZ4 block format: the fastest.
    #[default]
    Lz4,
    /// Zstandard with a level, 1 to 22; 0 is its default. About a third smaller than LZ4, at some five times the time
    /// (`cargo bench --bench zswap`).
    Zstd(i32),
    /// Pages are stored as they are.
    Raw,
}

/// How an entry is to be decoded: the codec's number in its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stored {
    /// As it came.
    Raw = 1,
    /// LZ4 block format.
    Lz4 = 2,
    /// A Zstandard frame.
    Zstd = 3,
}

impl Stored {
    /// From its number.
    pub fn from_bits(bits: u8) -> Option<Self> {
        [Self::Raw, Self::Lz4, Self::Zstd].into_iter().find(|stored| *stored as u8 == bits)
    }
}

/// Most bytes that a codec makes of a page: LZ4 of noise is the longest.
const MAX_PACKED: usize = 4608;
/// Most contexts of a zswap.
pub const MAX_CONTEXTS: usize = 64;
/// Pages whose mean the estimate follows, about.
const ESTIMATE_OVER: u32 = 32;

/// A page-aligned page: also for files that are read and written past the page cache.
#[repr(C, align(4096))]
pub struct AlignedPage(pub [u8; PAGE]);

/// What it takes to compress: one thread at a time.
pub struct Context {
    page: Box<AlignedPage>,
    /// Room for a header, then what a codec made.
    entry: Box<[u8; HEADER + MAX_PACKED]>,
    lz4: CompressTable,
    zstd: Option<Zstd>,
    /// Mean bytes of the slots of the pages that were compressed here lately, in sixteenths.
    mean: u32,
}

struct Zstd {
    compress: CCtx<'static>,
    decompress: DCtx<'static>,
}

const NO_CONTEXT: Error = Error::NoMemory(&"there is no memory for a Zstandard context");
const NOT_DECODED: Error = Error::Io(&"an entry whose check is right could not be decoded: this is a bug");

impl Context {
    fn new() -> Self {
        Self {
            page: Box::new(AlignedPage([0; PAGE])),
            entry: Box::new([0; HEADER + MAX_PACKED]),
            lz4: CompressTable::small(),
            zstd: None,
            mean: (PAGE / 3 * 16) as u32,
        }
    }

    /// Copies the caller's page, which others may be writing: from here on it holds still.
    ///
    /// # Safety
    /// A page can be read at `page`.
    #[inline]
    pub unsafe fn copy_in(&mut self, page: *const u8) {
        // SAFETY: the caller vouches for `page`; the copy is this context's own.
        unsafe { std::ptr::copy_nonoverlapping(page, self.page.0.as_mut_ptr(), PAGE) };
    }

    /// The word that the page repeats, if it repeats one.
    #[inline]
    pub fn repeats(&self) -> Option<u64> {
        repeated_word(&self.page.0)
    }

    /// Compresses the page into an entry without a header. How, and into how many bytes of it; none if it does not get
    /// shorter.
    #[inline]
    pub fn compress(&mut self, codec: Codec) -> Option<(Stored, usize)> {
        let room = &mut self.entry[HEADER..];
        let (stored, length) = match codec {
            Codec::Raw => return None,
            Codec::Lz4 => {
                let done = lz4_flex::block::compress_into_with_table(&self.page.0, room, &mut self.lz4);
                (Stored::Lz4, done.ok()?)
            }
            Codec::Zstd(level) => {
                let zstd = self.zstd.as_mut()?;
                (Stored::Zstd, zstd.compress.compress(room, &self.page.0, level).ok()?)
            }
        };
        (length < PAGE).then_some((stored, HEADER + length))
    }

    /// Makes the page, as it is, an entry without a header. How, and of how many bytes.
    pub fn keep_raw(&mut self) -> (Stored, usize) {
        self.entry[HEADER..HEADER + PAGE].copy_from_slice(&self.page.0);
        (Stored::Raw, HEADER + PAGE)
    }

    /// The first `bytes` bytes of the entry.
    #[inline]
    pub fn entry(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.entry[..bytes]
    }

    /// What the next page is expected to take, in bytes of slots.
    pub fn estimate(&self) -> u64 {
        u64::from(self.mean / 16)
    }

    /// Notes what a page took, in bytes of its slot.
    #[inline]
    pub fn note(&mut self, slot_bytes: usize) {
        let now = slot_bytes as u32 * 16;
        self.mean = (self.mean * (ESTIMATE_OVER - 1) + now) / ESTIMATE_OVER;
    }

    fn prepare_zstd(&mut self, level: i32) -> Result<()> {
        if self.zstd.is_none() {
            let compress = CCtx::try_create().ok_or(NO_CONTEXT)?;
            let decompress = DCtx::try_create().ok_or(NO_CONTEXT)?;
            self.zstd = Some(Zstd { compress, decompress });
        }
        // Its memory is allocated by the first page of a level: here, so that no later call has to.
        let zstd = self.zstd.as_mut().expect("made above");
        let sample: [u8; PAGE] = std::array::from_fn(|at| ((at * at) >> 3) as u8);
        zstd.compress.compress(&mut self.entry[..], &sample, level).map(drop).map_err(|_| NO_CONTEXT)
    }
}

/// Decodes an entry whose check is right into `page`.
#[inline]
pub fn decode(contexts: &Contexts, stored: Stored, payload: &[u8], page: &mut [u8; PAGE]) -> Result<()> {
    let decoded = match stored {
        Stored::Raw => {
            let whole: Option<&[u8; PAGE]> = payload.try_into().ok();
            whole.map(|whole| {
                *page = *whole;
                PAGE
            })
        }
        // The C decoder: 25 to 30 % less time than the Rust one, which encodes as fast.
        Stored::Lz4 => lz4::block::decompress_to_buffer(payload, Some(PAGE as i32), page).ok(),
        Stored::Zstd => {
            contexts.take().zstd.as_mut().and_then(|zstd| zstd.decompress.decompress(&mut page[..], payload).ok())
        }
    };
    if decoded == Some(PAGE) { Ok(()) } else { Err(NOT_DECODED) }
}

/// The contexts of a zswap: as many as were set aside when it was created, chosen by processor.
pub struct Contexts {
    contexts: Box<[CachePadded<Lock<Context>>]>,
    /// A bit for each level of Zstandard that they have memory for.
    levels: AtomicU32,
}

impl Contexts {
    /// So many.
    pub fn new(count: usize) -> Self {
        let contexts = (0..count).map(|_| CachePadded::new(Lock::new(Rank::Context, Context::new()))).collect();
        Self { contexts, levels: AtomicU32::new(0) }
    }

    /// A context: this processor's, or one that nobody has; if all are taken, this processor's after its holder.
    #[inline]
    pub fn take(&self) -> Locked<'_, Context> {
        let own = crate::os::current_cpu() % self.contexts.len();
        if let Some(context) = self.contexts[own].try_lock() {
            return context;
        }
        self.contexts.iter().find_map(|context| context.try_lock()).unwrap_or_else(|| self.contexts[own].lock())
    }

    /// Makes every context able to compress and decompress with `codec`.
    pub fn prepare(&self, codec: Codec) -> Result<()> {
        const LEVEL: Error = Error::Invalid(&"Zstandard levels are 1 to 22, and 0 for its default");
        match codec {
            Codec::Zstd(level) if !(0..=22).contains(&level) => Err(LEVEL),
            // Relaxed: each context's lock hands over what was prepared.
            Codec::Zstd(level) if self.levels.load(Relaxed) >> level & 1 == 1 => Ok(()),
            Codec::Zstd(level) => {
                self.contexts.iter().try_for_each(|context| context.lock().prepare_zstd(level))?;
                self.levels.fetch_or(1 << level, Relaxed);
                Ok(())
            }
            Codec::Lz4 | Codec::Raw => Ok(()),
        }
    }

    /// Bytes they take; Zstandard's are its library's, which says how many.
    pub fn bytes(&self) -> usize {
        const TABLE: usize = 8 << 10;
        let zstd = |context: &Context| context.zstd.as_ref().map_or(0, |z| z.compress.sizeof() + z.decompress.sizeof());
        let of = |context: &Context| size_of::<Context>() + PAGE + MAX_PACKED + TABLE + zstd(context);
        self.contexts.iter().map(|context| of(&context.lock())).sum()
    }
}
