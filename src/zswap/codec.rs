//! The codecs, and the contexts that compressing and decoding take.

use super::entry::{HEADER, Stored};
#[cfg(not(feature = "zstd"))]
use super::without_zstd::{CCtx, DCtx};
#[cfg(feature = "zstd")]
use crate::error::not_given;
use crate::error::{Error, Result, sentence};
use crate::heap;
use crate::per_processor::{Lease, PerProcessor};
use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed, Rank};
use crate::units::PAGE;
use lz4_flex::block::CompressTable;
#[cfg(feature = "zstd")]
use zstd::zstd_safe::{CCtx, DCtx};

/// How pages are compressed when they are stored. Stored pages keep the codec that they were compressed with. A page
/// that does not compress is stored as it is, whatever the codec.
///
/// `Zstd` needs the feature `zstd`, which is on by default.
#[cfg_attr(not(feature = "zstd"), doc = "\n```compile_fail,E0599\nlet codec = zsalloc::Codec::Zstd(3);\n```")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Codec {
    /// LZ4 block format: the fastest.
    #[default]
    Lz4,
    /// Zstandard with a level, 1 to 22; 0 is its default. About a third smaller than LZ4, at some five times the time
    /// (`cargo bench --bench zswap`).
    #[cfg(feature = "zstd")]
    Zstd(i32),
    /// No codec: pages are stored as they are.
    Raw,
}

/// The codec of new pages, as one number.
#[derive(Default)]
pub struct CodecCell(AtomicU64);

impl CodecCell {
    /// Returns the codec.
    #[inline]
    pub fn get(&self) -> Codec {
        // Relaxed: the contexts were prepared for every codec that was ever set, each behind its lock.
        match self.0.load(Relaxed) {
            0 => Codec::Lz4,
            #[cfg(feature = "zstd")]
            level @ 2.. => Codec::Zstd(level as i32 - 2),
            _ => Codec::Raw,
        }
    }

    /// Changes the codec. The contexts are prepared for it.
    pub fn set(&self, codec: Codec) {
        let number = match codec {
            Codec::Lz4 => 0,
            Codec::Raw => 1,
            #[cfg(feature = "zstd")]
            Codec::Zstd(level) => level as u64 + 2,
        };
        self.0.store(number, Relaxed);
    }
}

/// The longest output of a codec for one page. LZ4's is the longest: it makes noise longer.
const MAX_PACKED: usize = 4608;
/// The most that [`crate::ZswapTuning::contexts`] may be: how many threads compress in a zswap at a time.
pub const MAX_CONTEXTS: usize = 64;
/// Fewest decoders of a zswap that has pages in Zstandard, some 96 KiB each. This many threads decode at once. A decode
/// takes 10 us at most, so hardly ever do more threads want to.
const DECODERS: usize = 8;
/// The estimate is a running mean over about this many pages.
const ESTIMATE_OVER: u32 = 32;

/// The memory that compressing takes, for one thread at a time. The thread that has it touches no memory of its caller:
/// a page of it may be missing, and the thread that brings the page may be waiting for this very context.
pub struct Context {
    /// Room for a header, then the output of a codec.
    entry: Box<[u8; HEADER + MAX_PACKED]>,
    /// In memory of its own: a context that moves on the stack of its creation takes little of it.
    lz4: Box<CompressTable>,
    zstd: Option<CCtx<'static>>,
    /// Mean bytes of the slots of the pages that this context compressed lately, in sixteenths.
    mean: u32,
}

/// The memory that decoding Zstandard takes. None until pages may be compressed with it.
type Decoder = Option<DCtx<'static>>;

#[cfg(feature = "zstd")]
const NO_CONTEXT: Error = Error::NoMemory(not_given!("malloc has no memory for a Zstandard context"));
const NOT_DECODED: Error =
    Error::Damaged(sentence(&"an entry whose check is right could not be decoded: this is a bug"));

impl Context {
    fn new() -> Result<Self> {
        Ok(Self {
            entry: heap::boxed([0; HEADER + MAX_PACKED])?,
            lz4: small_table()?,
            zstd: None,
            mean: (PAGE / 3 * 16) as u32,
        })
    }

    /// Compresses the page into an entry without a header. Returns how, and the bytes of the entry. None if the page
    /// does not get shorter.
    #[inline]
    pub fn compress(&mut self, codec: Codec, page: &[u8; PAGE]) -> Option<(Stored, usize)> {
        let room = &mut self.entry[HEADER..];
        let (stored, length) = match codec {
            Codec::Raw => return None,
            Codec::Lz4 => {
                let done = lz4_flex::block::compress_into_with_table(page, room, &mut self.lz4);
                (Stored::Lz4, done.ok()?)
            }
            #[cfg(feature = "zstd")]
            Codec::Zstd(level) => {
                let zstd = self.zstd.as_mut()?;
                (Stored::Zstd, zstd.compress(room, page, level).ok()?)
            }
        };
        (length < PAGE).then_some((stored, HEADER + length))
    }

    /// Makes an entry without a header of the page as it is. Returns how, and the bytes of the entry.
    pub fn keep_raw(&mut self, page: &[u8; PAGE]) -> (Stored, usize) {
        self.entry[HEADER..HEADER + PAGE].copy_from_slice(page);
        (Stored::Raw, HEADER + PAGE)
    }

    /// Returns the first `bytes` bytes of the entry.
    #[inline]
    pub fn entry(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.entry[..bytes]
    }

    /// Returns how many bytes of a slot the next page is expected to take.
    pub fn estimate(&self) -> u64 {
        u64::from(self.mean / 16)
    }

    /// Notes that a page took a slot of `slot_bytes` bytes.
    #[inline]
    pub fn note(&mut self, slot_bytes: usize) {
        let now = slot_bytes as u32 * 16;
        self.mean = (self.mean * (ESTIMATE_OVER - 1) + now) / ESTIMATE_OVER;
    }

    #[cfg(feature = "zstd")]
    fn prepare_zstd(&mut self, level: i32) -> Result<()> {
        if self.zstd.is_none() {
            self.zstd = Some(CCtx::try_create().ok_or(NO_CONTEXT)?);
        }
        // The first page of a level allocates the memory for that level. So that is done here, and not by a later call.
        let zstd = self.zstd.as_mut().expect("made above");
        let sample: [u8; PAGE] = std::array::from_fn(|at| ((at * at) >> 3) as u8);
        zstd.compress(&mut self.entry[..], &sample, level).map(drop).map_err(|_| NO_CONTEXT)
    }
}

/// Makes a table for pages. Not inlined: it is on the stack once, for the time of this call.
#[inline(never)]
fn small_table() -> Result<Box<CompressTable>> {
    heap::boxed(CompressTable::small())
}

/// Whose memory a page is decoded into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The library's, or a stack. Writing to it waits for no other thread.
    Own,
    /// The library's, in a signal handler, where no code of the program's own may be called.
    #[cfg_attr(not(feature = "uffd"), allow(dead_code))]
    InHandler,
    /// The caller's. It may be missing, and the thread that brings it may need this zswap. So it is written while
    /// nothing is held.
    Callers,
}

/// Decodes an entry whose check is right into `page`. If this fails, the page is as it was, unless the entry is in LZ4:
/// that is decoded right into the page, and damage that passes the check, once in 2^32 times, can make it fail midway.
#[inline]
pub fn decode(
    contexts: &Contexts,
    stored: Stored,
    payload: &[u8],
    page: &mut [u8; PAGE],
    target: Target,
) -> Result<()> {
    let decoded = match stored {
        Stored::Raw => {
            let whole: Option<&[u8; PAGE]> = payload.try_into().ok();
            whole.map(|whole| {
                *page = *whole;
                PAGE
            })
        }
        // The C decoder takes 25 to 30 % less time than the Rust one. (Encoding, both are equally fast.)
        #[cfg(not(feature = "lz4-c"))]
        Stored::Lz4 => lz4_flex::block::decompress_into(payload, page).ok(),
        #[cfg(feature = "lz4-c")]
        Stored::Lz4 => lz4::block::decompress_to_buffer(payload, Some(PAGE as i32), page).ok(),
        Stored::Zstd if target != Target::Callers => decode_zstd(contexts, payload, page),
        Stored::Zstd => decode_zstd_for_caller(contexts, payload, page),
    };
    if decoded == Some(PAGE) { Ok(()) } else { Err(NOT_DECODED) }
}

fn decode_zstd(contexts: &Contexts, payload: &[u8], page: &mut [u8; PAGE]) -> Option<usize> {
    contexts.decoders.take().as_mut().and_then(|zstd| zstd.decompress(&mut page[..], payload).ok())
}

/// Gives the decoder back before it touches the caller's page. Not inlined: other decodes do not need a page of stack.
#[inline(never)]
fn decode_zstd_for_caller(contexts: &Contexts, payload: &[u8], page: &mut [u8; PAGE]) -> Option<usize> {
    let mut own = [0; PAGE];
    let decoded = decode_zstd(contexts, payload, &mut own).filter(|bytes| *bytes == PAGE)?;
    *page = own;
    Some(decoded)
}

/// The contexts of a zswap, all set aside when it is created. Decoding has contexts of its own, which no store takes.
pub struct Contexts {
    contexts: PerProcessor<Context>,
    decoders: PerProcessor<Decoder>,
    /// A bit for each level of Zstandard that the contexts have memory for.
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    levels: AtomicU32,
}

impl Contexts {
    /// Sets aside `count` contexts to compress with, and as many to decode with, but at least [`DECODERS`].
    pub fn new(count: usize) -> Result<Self> {
        Ok(Self {
            contexts: PerProcessor::new(Rank::Context, count, Context::new)?,
            decoders: PerProcessor::new(Rank::Context, count.max(DECODERS), || Ok(None))?,
            levels: AtomicU32::new(0),
        })
    }

    /// Returns how many contexts there are to compress with.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.contexts.count()
    }

    /// Takes a context to compress with.
    #[inline]
    pub fn take(&self) -> Lease<'_, Context> {
        self.contexts.take()
    }

    /// Makes every context able to compress with `codec`, and every decoder able to decode what `codec` makes.
    pub fn prepare(&self, codec: Codec) -> Result<()> {
        #[cfg(feature = "zstd")]
        const LEVEL: Error = Error::Invalid(sentence(&"Zstandard levels are 1 to 22, and 0 for its default"));
        match codec {
            #[cfg(feature = "zstd")]
            Codec::Zstd(level) if !(0..=22).contains(&level) => Err(LEVEL),
            // Relaxed: the lock of each context hands over what was prepared.
            #[cfg(feature = "zstd")]
            Codec::Zstd(level) if self.levels.load(Relaxed) >> level & 1 == 1 => Ok(()),
            #[cfg(feature = "zstd")]
            Codec::Zstd(level) => {
                self.decoders.try_each(prepare_decoder)?;
                self.contexts.try_each(|context| context.prepare_zstd(level))?;
                self.levels.fetch_or(1 << level, Relaxed);
                Ok(())
            }
            Codec::Lz4 | Codec::Raw => Ok(()),
        }
    }

    /// Returns the bytes of memory that the contexts take. The Zstandard library says how many of them are its own.
    pub fn bytes(&self) -> usize {
        let zstd = |context: &Context| context.zstd.as_ref().map_or(0, CCtx::sizeof);
        let boxes = size_of::<CompressTable>() + HEADER + MAX_PACKED;
        let of = |context: &Context| size_of::<Context>() + boxes + zstd(context);
        let decoder = |decoder: &Decoder| size_of::<Decoder>() + decoder.as_ref().map_or(0, DCtx::sizeof);
        let mut bytes = 0;
        self.contexts.each(|context| bytes += of(context));
        self.decoders.each(|one| bytes += decoder(one));
        bytes
    }
}

#[cfg(feature = "zstd")]
fn prepare_decoder(decoder: &mut Decoder) -> Result<()> {
    if decoder.is_none() {
        *decoder = Some(DCtx::try_create().ok_or(NO_CONTEXT)?);
    }
    Ok(())
}

/// Returns the word that a page repeats, if it repeats one.
pub fn repeated_word(page: &[u8; PAGE]) -> Option<u64> {
    let word = |at: usize| u64::from_ne_bytes(page[at..at + 8].try_into().expect("8 bytes"));
    let first = word(0);
    // Most pages that do not repeat a word differ at their ends.
    if word(PAGE - 8) != first || word(8) != first {
        return None;
    }
    page.as_chunks::<8>().0.iter().all(|bytes| u64::from_ne_bytes(*bytes) == first).then_some(first)
}

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use super::*;

    /// An entry that can't be decoded leaves the caller's page alone, even if half of it can.
    #[test]
    fn a_page_stays_as_it_was_if_zstandard_fails() {
        let contexts = Contexts::new(1).unwrap();
        contexts.prepare(Codec::Zstd(1)).unwrap();
        let noisy: [u8; PAGE] = std::array::from_fn(|at| ((at * at) >> 3) as u8);
        let mut context = contexts.take();
        let (stored, bytes) = context.compress(Codec::Zstd(1), &noisy).unwrap();
        let payload = context.entry(bytes)[HEADER..].to_vec();
        drop(context);
        for length in [0, 1, payload.len() / 2, payload.len() - 1] {
            let mut page = [0x5a; PAGE];
            let decoded = decode(&contexts, stored, &payload[..length], &mut page, Target::Callers);
            assert!(decoded == Err(NOT_DECODED) && page == [0x5a; PAGE], "{length} bytes");
        }
    }
}
