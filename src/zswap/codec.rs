//! What pages are compressed with, and the contexts that it takes.

use super::entry::HEADER;
use crate::error::{Error, Result, not_given};
use crate::heap;
use crate::sync::{AtomicU32, Lock, Locked, Ordering::Relaxed, Rank};
use crate::units::PAGE;
use crossbeam_utils::CachePadded;
use lz4_flex::block::CompressTable;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
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
/// Fewest decoders of a zswap that has pages in Zstandard: some 96 KiB each. So many threads decode at once, and as a
/// decode takes no longer than 10 us, hardly ever more do.
const DECODERS: usize = 8;
/// Pages whose mean the estimate follows, about.
const ESTIMATE_OVER: u32 = 32;

/// What it takes to compress: one thread at a time. Its holder touches no memory of the caller's: that may be a page
/// whose fault another thread serves, and this thread's context may be what that one waits for.
pub struct Context {
    /// Room for a header, then what a codec made.
    entry: Box<[u8; HEADER + MAX_PACKED]>,
    lz4: CompressTable,
    zstd: Option<CCtx<'static>>,
    /// Mean bytes of the slots of the pages that were compressed here lately, in sixteenths.
    mean: u32,
}

/// What it takes to decode Zstandard: nothing, before any page was compressed with it.
type Decoder = Option<DCtx<'static>>;

const NO_CONTEXT: Error = Error::NoMemory(not_given!("malloc has no memory for a Zstandard context"));
const NOT_DECODED: Error = Error::Io(&"an entry whose check is right could not be decoded: this is a bug");

impl Context {
    fn new() -> Result<Self> {
        Ok(Self {
            entry: heap::boxed([0; HEADER + MAX_PACKED])?,
            lz4: CompressTable::small(),
            zstd: None,
            mean: (PAGE / 3 * 16) as u32,
        })
    }

    /// Compresses the page into an entry without a header. How, and into how many bytes of it; none if it does not get
    /// shorter.
    #[inline]
    pub fn compress(&mut self, codec: Codec, page: &[u8; PAGE]) -> Option<(Stored, usize)> {
        let room = &mut self.entry[HEADER..];
        let (stored, length) = match codec {
            Codec::Raw => return None,
            Codec::Lz4 => {
                let done = lz4_flex::block::compress_into_with_table(page, room, &mut self.lz4);
                (Stored::Lz4, done.ok()?)
            }
            Codec::Zstd(level) => {
                let zstd = self.zstd.as_mut()?;
                (Stored::Zstd, zstd.compress(room, page, level).ok()?)
            }
        };
        (length < PAGE).then_some((stored, HEADER + length))
    }

    /// Makes the page, as it is, an entry without a header. How, and of how many bytes.
    pub fn keep_raw(&mut self, page: &[u8; PAGE]) -> (Stored, usize) {
        self.entry[HEADER..HEADER + PAGE].copy_from_slice(page);
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
            self.zstd = Some(CCtx::try_create().ok_or(NO_CONTEXT)?);
        }
        // Its memory is allocated by the first page of a level: here, so that no later call has to.
        let zstd = self.zstd.as_mut().expect("made above");
        let sample: [u8; PAGE] = std::array::from_fn(|at| ((at * at) >> 3) as u8);
        zstd.compress(&mut self.entry[..], &sample, level).map(drop).map_err(|_| NO_CONTEXT)
    }
}

/// Whose memory a page is read into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The library's, or a stack: no other thread has to do anything for it to be written.
    Own,
    /// The caller's: it may be missing, and whoever brings it may need this zswap. It is written with nothing held.
    Callers,
}

/// Decodes an entry whose check is right into `page`. If this fails, the page is as it was, unless the entry is in LZ4,
/// which is decoded where the page is to be: damage passes the check once in 2^32 times, and can fail there.
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
        // The C decoder: 25 to 30 % less time than the Rust one, which encodes as fast.
        Stored::Lz4 => lz4::block::decompress_to_buffer(payload, Some(PAGE as i32), page).ok(),
        Stored::Zstd if target == Target::Own => decode_zstd(contexts, payload, page),
        Stored::Zstd => decode_zstd_for_caller(contexts, payload, page),
    };
    if decoded == Some(PAGE) { Ok(()) } else { Err(NOT_DECODED) }
}

fn decode_zstd(contexts: &Contexts, payload: &[u8], page: &mut [u8; PAGE]) -> Option<usize> {
    contexts.decoders.take().as_mut().and_then(|zstd| zstd.decompress(&mut page[..], payload).ok())
}

/// Gives the decoder back before it touches the caller's page. Not inlined: nobody else needs a page of the stack.
#[inline(never)]
fn decode_zstd_for_caller(contexts: &Contexts, payload: &[u8], page: &mut [u8; PAGE]) -> Option<usize> {
    let mut own = [0; PAGE];
    let decoded = decode_zstd(contexts, payload, &mut own).filter(|bytes| *bytes == PAGE)?;
    *page = own;
    Some(decoded)
}

/// Things that one thread at a time can have, as many as were set aside: chosen by processor.
///
/// A thread that finds all of them taken sleeps until one is given back. A thread that has slept in vain a few times
/// goes first: until it has one, threads that come anew wait behind it.
pub struct Shares<T> {
    shares: Box<[CachePadded<Lock<T>>]>,
    /// Threads that wait for one, and those of them that go first.
    waiting: AtomicU32,
    starving: AtomicU32,
    /// How many were given back to threads that waited; they sleep on this.
    returned: AtomicU32,
}

/// One of them. It goes back when it is dropped.
pub struct Share<'a, T> {
    shares: &'a Shares<T>,
    share: Option<Locked<'a, T>>,
}

impl<T> Shares<T> {
    /// How often a thread sleeps before it goes first.
    const IN_VAIN: u32 = 2;
    /// Nobody sleeps longer: a thread that was not woken, for it began to wait just after the last look, looks itself.
    const NAP: Duration = Duration::from_millis(1);

    fn new(rank: Rank, count: usize, make: impl Fn() -> Result<T>) -> Result<Self> {
        let shares = heap::slice(count, |_| Ok(CachePadded::new(Lock::new(rank, make()?))))?;
        Ok(Self { shares, waiting: AtomicU32::new(0), starving: AtomicU32::new(0), returned: AtomicU32::new(0) })
    }

    /// Takes this processor's, or one that nobody has; if all are taken, the next one that is given back.
    #[inline]
    pub fn take(&self) -> Share<'_, T> {
        let own = crate::os::current_cpu() % self.shares.len();
        self.shares[own].check_rank();
        // Relaxed: these numbers decide who sleeps and who is woken, and hand nothing over. The locks do.
        if self.starving.load(Relaxed) == 0
            && let Some(share) = self.shares[own].try_lock()
        {
            return Share { shares: self, share: Some(share) };
        }
        Share { shares: self, share: Some(self.wait_for_one()) }
    }

    /// Acts on each share in turn. The caller goes first at every share: threads that take the shares again and again
    /// do not keep it from any.
    fn each(&self, mut act: impl FnMut(&mut T)) {
        self.shares.iter().for_each(|share| act(&mut self.wait_for(share)));
    }

    /// Acts on each share in turn until that fails for one.
    fn try_each(&self, mut act: impl FnMut(&mut T) -> Result<()>) -> Result<()> {
        self.shares.iter().try_for_each(|share| act(&mut self.wait_for(share)))
    }

    /// Takes this very one.
    fn wait_for<'a>(&'a self, share: &'a Lock<T>) -> Share<'a, T> {
        share.check_rank();
        self.waiting.fetch_add(1, Relaxed);
        self.starving.fetch_add(1, Relaxed);
        let share = loop {
            let returned = self.returned.load(Relaxed);
            if let Some(share) = share.try_lock() {
                break share;
            }
            crate::os::nap(&self.returned, returned, Self::NAP);
        };
        self.starving.fetch_sub(1, Relaxed);
        self.waiting.fetch_sub(1, Relaxed);
        Share { shares: self, share: Some(share) }
    }

    fn try_any(&self) -> Option<Locked<'_, T>> {
        self.shares.iter().find_map(|share| share.try_lock())
    }

    #[cold]
    fn wait_for_one(&self) -> Locked<'_, T> {
        if self.starving.load(Relaxed) == 0
            && let Some(share) = self.try_any()
        {
            return share;
        }
        self.waiting.fetch_add(1, Relaxed);
        let mut slept = 0;
        let share = loop {
            let returned = self.returned.load(Relaxed);
            let is_first = slept > Self::IN_VAIN;
            if (is_first || self.starving.load(Relaxed) == 0)
                && let Some(share) = self.try_any()
            {
                self.starving.fetch_sub(u32::from(is_first), Relaxed);
                break share;
            }
            crate::os::nap(&self.returned, returned, Self::NAP);
            slept += 1;
            if slept == Self::IN_VAIN + 1 {
                self.starving.fetch_add(1, Relaxed);
            }
        };
        self.waiting.fetch_sub(1, Relaxed);
        share
    }
}

impl<T> Drop for Share<'_, T> {
    #[inline]
    fn drop(&mut self) {
        drop(self.share.take());
        if self.shares.waiting.load(Relaxed) > 0 {
            self.shares.returned.fetch_add(1, Relaxed);
            // Who goes first may sleep behind others.
            let threads = if self.shares.starving.load(Relaxed) > 0 { u32::MAX >> 1 } else { 1 };
            crate::os::wake(&self.shares.returned, threads);
        }
    }
}

impl<T> Deref for Share<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.share.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for Share<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.share.as_mut().expect("it is there until it is dropped")
    }
}

/// The contexts of a zswap: as many as were set aside when it was created. Decoding has its own, which no store can
/// have.
pub struct Contexts {
    contexts: Shares<Context>,
    decoders: Shares<Decoder>,
    /// A bit for each level of Zstandard that they have memory for.
    levels: AtomicU32,
}

impl Contexts {
    /// So many to compress with, and at least [`DECODERS`] to decode with.
    pub fn new(count: usize) -> Result<Self> {
        Ok(Self {
            contexts: Shares::new(Rank::Context, count, Context::new)?,
            decoders: Shares::new(Rank::Context, count.max(DECODERS), || Ok(None))?,
            levels: AtomicU32::new(0),
        })
    }

    /// One to compress with.
    #[inline]
    pub fn take(&self) -> Share<'_, Context> {
        self.contexts.take()
    }

    /// Makes every context able to compress with `codec`, and every decoder to decode what that makes.
    pub fn prepare(&self, codec: Codec) -> Result<()> {
        const LEVEL: Error = Error::Invalid(&"Zstandard levels are 1 to 22, and 0 for its default");
        match codec {
            Codec::Zstd(level) if !(0..=22).contains(&level) => Err(LEVEL),
            // Relaxed: each context's lock hands over what was prepared.
            Codec::Zstd(level) if self.levels.load(Relaxed) >> level & 1 == 1 => Ok(()),
            Codec::Zstd(level) => {
                self.decoders.try_each(prepare_decoder)?;
                self.contexts.try_each(|context| context.prepare_zstd(level))?;
                self.levels.fetch_or(1 << level, Relaxed);
                Ok(())
            }
            Codec::Lz4 | Codec::Raw => Ok(()),
        }
    }

    /// Bytes they take; Zstandard's are its library's, which says how many.
    pub fn bytes(&self) -> usize {
        let zstd = |context: &Context| context.zstd.as_ref().map_or(0, CCtx::sizeof);
        let of = |context: &Context| size_of::<Context>() + HEADER + MAX_PACKED + zstd(context);
        let decoder = |decoder: &Decoder| size_of::<Decoder>() + decoder.as_ref().map_or(0, DCtx::sizeof);
        let mut bytes = 0;
        self.contexts.each(|context| bytes += of(context));
        self.decoders.each(|one| bytes += decoder(one));
        bytes
    }
}

fn prepare_decoder(decoder: &mut Decoder) -> Result<()> {
    if decoder.is_none() {
        *decoder = Some(DCtx::try_create().ok_or(NO_CONTEXT)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::thread;

    /// What can't be decoded leaves the caller's page alone, also where half of it could be.
    #[test]
    fn page_stays_as_it_was_where_zstandard_fails() {
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

    /// Whoever wants each share in turn gets it beside a thread that gives it back and takes it at once.
    #[test]
    fn no_thread_is_kept_from_a_share_by_one_that_takes_it_again_and_again() {
        let shares = Shares::new(Rank::Context, 1, || Ok(0)).unwrap();
        for round in 0..20 {
            let held = AtomicBool::new(false);
            let mut times = 0;
            thread::scope(|threads| {
                threads.spawn(|| {
                    while !held.load(SeqCst) {
                        thread::yield_now();
                    }
                    shares.each(|share| *share += 1);
                });
                let mut share = shares.take();
                held.store(true, SeqCst);
                while shares.waiting.load(Relaxed) == 0 {
                    thread::yield_now();
                }
                while *share == round {
                    drop(share);
                    share = shares.take();
                    times += 1;
                }
            });
            // Each time it slept three times for a millisecond, while the other thread had no processor.
            assert!(times < 100, "it was had {times} times before");
        }
        assert_eq!(*shares.take(), 20);
    }
}
