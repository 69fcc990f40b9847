//! Atomics, cells and locks, by the same names in the product and under loom.
//!
//! Most locks guard derived bookkeeping and are held for some ten nanoseconds. Compaction and shrinking hold one while
//! they look at more, and how much is bounded. A lock is taken by a compare-and-swap and let go by a plain store: a
//! thread that finds it taken spins for a moment, then naps on a futex, and looks again by itself. To look for sleepers
//! would take another locked instruction of some 5 ns (`cargo bench --bench ratios`).

#[cfg(not(loom))]
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(all(feature = "uffd", not(loom)))]
pub use std::sync::atomic::AtomicPtr;
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// The lock order: a thread that holds a lock takes only those below it. User callbacks run with none held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
// Only the pager uses the first ranks.
#[cfg_attr(any(not(feature = "uffd"), loom), allow(dead_code))]
pub enum Rank {
    /// The events of a pager, the touches that wait for it, and the right to change its table of extents.
    Inbox,
    /// The right to move pages to a staging range.
    Moving,
    /// A lane of the clock hand of a pager.
    Hand,
    /// The lists of blocks of a staging range.
    Staging,
    /// A buffer that a pager decodes pages to.
    Scratch,
    /// The fork of a zswap or a pool that a thread prepares.
    Fork,
    /// The walk over the areas of a zswap, or the cleaning of its extents: there is one of each at a time.
    Walk,
    /// A buffer that an extent is made in.
    Extent,
    /// The areas of a zswap.
    Areas,
    /// An area's part of a walk.
    Step,
    /// A lane of batches, and what it holds; a buffer that extents are read into.
    Lane,
    /// A codec's context.
    Context,
    /// The evict callback of a pool.
    Callback,
    /// The compaction of a pool: there is one at a time. Threads only try to take it, and wait for it before a fork.
    Compaction,
    /// The zspages of a pool that a shrink takes next.
    Victims,
    /// The lists, counts and free handles of one size class.
    Class,
    /// A processor's shelf for a size class.
    Shelf,
    /// The free handle indices of a processor.
    Stock,
    /// The supply of handle indices.
    Handles,
    /// Chunks and runs of pages.
    Arena,
    /// The free slots of extents, or the free blocks of the backing file.
    FileSlots,
    /// The claims for writeback that callers hold.
    Claims,
    /// A part of an area's statistics, and the page words that change with them.
    Shard,
    /// The room below a limit of a zswap that processors have taken ahead, while it is taken or goes back.
    Limit,
}

/// Debug builds keep a bit for each rank.
const _: () = assert!((Rank::Limit as u32) < u32::BITS);

/// Memory that a lock or a word of a protocol guards. Under loom, accesses that race are found.
#[derive(Default)]
pub struct Cell<T>(#[cfg(loom)] loom::cell::UnsafeCell<T>, #[cfg(not(loom))] std::cell::UnsafeCell<T>);

impl<T> Cell<T> {
    /// A cell with this value.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// Reads through a pointer that is valid while `read` runs. The caller vouches that nobody writes meanwhile.
    #[cfg(loom)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        self.0.with(read)
    }

    /// Writes through a pointer that is valid while `write` runs. The caller vouches that it alone uses the value.
    #[inline]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(loom)]
        return self.0.with_mut(write);
        #[cfg(not(loom))]
        write(self.0.get())
    }
}

/// A wait, which spins first and naps later.
#[derive(Default)]
pub struct Wait {
    rounds: u32,
}

impl Wait {
    /// How many rounds a wait spins, each twice as long as the one before: some 2 us in all, two copies of a page.
    const SPINS: u32 = 7;

    /// Waits for `word` to be other than `seen`, a little longer than the time before.
    #[cfg(not(loom))]
    #[cold]
    pub fn on(&mut self, word: &AtomicU32, seen: u32) {
        if self.rounds < Self::SPINS {
            for _ in 0..1 << self.rounds {
                std::hint::spin_loop();
            }
        } else {
            // A wait is long only if the other thread lost its processor, which takes 50 us to 1 ms.
            let naps = (self.rounds - Self::SPINS).min(4);
            crate::os::nap(word, seen, std::time::Duration::from_micros(50 << naps));
        }
        // Does not overflow: a wait for a writeback may take as long as its owner likes.
        self.rounds = self.rounds.saturating_add(1);
    }

    /// Waits for anything to change, a little longer than the time before.
    #[cfg(not(loom))]
    #[cold]
    pub fn a_moment(&mut self) {
        static NOTHING: AtomicU32 = AtomicU32::new(0);
        self.on(&NOTHING, 0);
    }

    /// Lets another thread run, because under loom nothing changes before that.
    #[cfg(loom)]
    pub fn a_moment(&mut self) {
        loom::thread::yield_now();
    }

    /// Lets another thread run, because under loom nothing changes before that.
    #[cfg(loom)]
    pub fn on(&mut self, _: &AtomicU32, _: u32) {
        loom::thread::yield_now();
    }
}

/// A lock without its value.
pub trait Raw: Default {
    /// Takes the lock if it is free. Returns whether it did.
    fn try_lock(&self) -> bool;
    /// Takes the lock. Waits while another thread has it.
    fn lock(&self);
    /// Lets the lock go. Only the holder may.
    fn unlock(&self);
}

/// A lock word: 0 is free, 1 is taken.
#[derive(Debug, Default)]
pub struct RawLock(AtomicU32);

impl Raw for RawLock {
    #[inline]
    fn try_lock(&self) -> bool {
        // Acquire pairs with the Release in `unlock`: this thread sees what the last holder did.
        self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    #[inline]
    fn unlock(&self) {
        // Release pairs with the Acquire in `try_lock`.
        self.0.store(0, Ordering::Release);
    }
}

impl RawLock {
    #[cold]
    fn lock_slow(&self) {
        let mut wait = Wait::default();
        loop {
            wait.on(&self.0, 1);
            if self.0.load(Ordering::Relaxed) == 0 && self.try_lock() {
                return;
            }
        }
    }
}

/// A lock-free stack of deferred work. A thread that must not wait for a lock pushes an index, and the next holder of
/// the lock takes all of them. The links lie where the owner says.
#[derive(Default)]
pub struct Leftovers {
    /// The index that was left last, plus 1; 0 for none.
    head: AtomicU32,
}

impl Leftovers {
    /// Returns whether an index may be there.
    #[inline]
    pub fn any(&self) -> bool {
        self.head.load(Ordering::Relaxed) != 0
    }

    /// Leaves `index`, which is this thread's alone. Calls `link` with what comes after it.
    #[cold]
    pub fn leave(&self, index: u32, link: impl Fn(u32)) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link(head);
            // Release pairs with the Acquire in `take`: who takes the index sees its link, and all that was done
            // before.
            match self.head.compare_exchange(head, index + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Forgets all indices, in a forked child whose parent had threads that were leaving some.
    #[cfg(not(loom))]
    pub fn forget(&self) {
        self.head.store(0, Ordering::Relaxed);
    }

    /// Takes all indices, the last one first. `each` gets an index, and returns what its link says.
    #[cold]
    pub fn take(&self, mut each: impl FnMut(u32) -> u32) {
        // Acquire pairs with the Release in `leave`. The same chain of exchanges released the indices below the last.
        let mut at = self.head.swap(0, Ordering::Acquire);
        while at != 0 {
            at = each(at - 1);
        }
    }
}

/// A value behind a lock that has a rank.
pub struct Lock<T, R = RawLock> {
    #[cfg(debug_assertions)]
    rank: Rank,
    #[cfg(loom)]
    inner: (loom::sync::Mutex<T>, std::marker::PhantomData<R>),
    #[cfg(not(loom))]
    raw: R,
    #[cfg(not(loom))]
    value: std::cell::UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time.
#[cfg(not(loom))]
unsafe impl<T: Send, R: Sync> Sync for Lock<T, R> {}
// SAFETY: owning the lock is owning the value.
#[cfg(not(loom))]
unsafe impl<T: Send, R: Send> Send for Lock<T, R> {}

/// The value of a lock that is held. Dropping it lets the lock go.
pub struct Locked<'a, T, R: Raw = RawLock> {
    #[cfg(debug_assertions)]
    _held: ranks::Held,
    #[cfg(loom)]
    inner: (loom::sync::MutexGuard<'a, T>, std::marker::PhantomData<R>),
    #[cfg(not(loom))]
    lock: &'a Lock<T, R>,
    /// Makes this `Sync` only for a `T` that is, as `&mut T` is. A lock is `Sync` for every `T` that is `Send`.
    #[cfg(not(loom))]
    _value: PhantomData<&'a mut T>,
}

#[cfg(not(loom))]
static_assertions::assert_impl_all!(Locked<'static, u8>: Sync);
#[cfg(not(loom))]
static_assertions::assert_not_impl_any!(Locked<'static, std::cell::Cell<u8>>: Sync);

impl<T> Lock<T> {
    /// A lock of this rank around `value`, for what is held for some ten nanoseconds.
    pub fn new(rank: Rank, value: T) -> Self {
        Self::of(rank, value)
    }
}

impl<T, R: Raw> Lock<T, R> {
    /// A lock of this rank and kind around `value`.
    pub fn of(rank: Rank, value: T) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = rank;
        Self {
            #[cfg(debug_assertions)]
            rank,
            #[cfg(loom)]
            inner: (loom::sync::Mutex::new(value), std::marker::PhantomData),
            #[cfg(not(loom))]
            raw: R::default(),
            #[cfg(not(loom))]
            value: std::cell::UnsafeCell::new(value),
        }
    }

    /// Takes the lock. Waits for its holder.
    #[inline]
    pub fn lock(&self) -> Locked<'_, T, R> {
        #[cfg(debug_assertions)]
        ranks::check(self.rank);
        self.lock_another()
    }

    /// Takes the lock as [`Lock::lock`] does, also while others of its rank are held. All threads that do this take
    /// those locks in the same order.
    #[inline]
    pub fn lock_another(&self) -> Locked<'_, T, R> {
        #[cfg(debug_assertions)]
        let held = ranks::Held::tried(self.rank);
        #[cfg(not(loom))]
        self.raw.lock();
        Locked {
            #[cfg(debug_assertions)]
            _held: held,
            #[cfg(loom)]
            inner: (self.inner.0.lock().unwrap(), std::marker::PhantomData),
            #[cfg(not(loom))]
            lock: self,
            #[cfg(not(loom))]
            _value: PhantomData,
        }
    }

    /// The lock without its value, for tests.
    #[cfg(all(test, not(loom), feature = "uffd"))]
    pub fn raw(&self) -> &R {
        &self.raw
    }

    /// Asserts in debug builds that this thread may wait for the lock. For callers that wait in a way of their own.
    #[cfg(not(loom))]
    #[inline]
    pub fn check_rank(&self) {
        #[cfg(debug_assertions)]
        ranks::check(self.rank);
    }

    /// Takes the lock if nobody has it. Its rank does not matter, because a thread that never waits can't deadlock.
    #[inline]
    pub fn try_lock(&self) -> Option<Locked<'_, T, R>> {
        #[cfg(loom)]
        let inner = (self.inner.0.try_lock().ok()?, std::marker::PhantomData);
        #[cfg(not(loom))]
        if !self.raw.try_lock() {
            return None;
        }
        Some(Locked {
            #[cfg(debug_assertions)]
            _held: ranks::Held::tried(self.rank),
            #[cfg(loom)]
            inner,
            #[cfg(not(loom))]
            lock: self,
            #[cfg(not(loom))]
            _value: PhantomData,
        })
    }
}

/// Keeping locks across a fork, so that the child finds nothing half done.
#[cfg(not(loom))]
impl<T> Lock<T> {
    /// Takes the lock, or gives up at `until`. Its rank does not matter, because the wait has an end.
    pub fn lock_until(&self, until: std::time::Instant) -> Option<Locked<'_, T>> {
        let mut wait = Wait::default();
        loop {
            if let Some(locked) = self.try_lock() {
                return Some(locked);
            }
            if std::time::Instant::now() >= until {
                return None;
            }
            wait.on(&self.raw.0, 1);
        }
    }

    /// Returns the value of a lock that is kept. The lock is let go with it.
    ///
    /// # Safety
    /// This thread, or the one that this process was forked from, called [`Locked::keep`], and nobody this since.
    pub unsafe fn resume(&self) -> Locked<'_, T> {
        Locked {
            #[cfg(debug_assertions)]
            _held: ranks::Held::tried(self.rank),
            lock: self,
            _value: PhantomData,
        }
    }
}

#[cfg(not(loom))]
impl<T> Locked<'_, T> {
    /// Leaves the lock taken, until [`Lock::resume`].
    pub fn keep(self) {
        let kept = std::mem::ManuallyDrop::new(self);
        // The rank does not count for locks that this thread takes meanwhile.
        // SAFETY: the field is read once, and the value that it is a part of is never used again.
        #[cfg(debug_assertions)]
        drop(unsafe { std::ptr::read(&raw const kept._held) });
        let _ = kept;
    }
}

impl<T, R: Raw> Deref for Locked<'_, T, R> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        #[cfg(loom)]
        return &self.inner.0;
        #[cfg(not(loom))]
        // SAFETY: the lock is held as long as this guard lives.
        unsafe {
            &*self.lock.value.get()
        }
    }
}

impl<T, R: Raw> DerefMut for Locked<'_, T, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        #[cfg(loom)]
        return &mut self.inner.0;
        #[cfg(not(loom))]
        // SAFETY: the lock is held as long as this guard lives, and the guard is borrowed alone.
        unsafe {
            &mut *self.lock.value.get()
        }
    }
}

#[cfg(not(loom))]
impl<T, R: Raw> Drop for Locked<'_, T, R> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock();
    }
}

/// The check of the lock order, in debug builds only.
#[cfg(debug_assertions)]
pub mod ranks {
    use super::Rank;
    use std::cell::Cell;

    thread_local! {
        /// A bit for each rank of a lock that this thread holds.
        static HELD: Cell<u32> = const { Cell::new(0) };
    }

    /// A rank that counts as held until this is dropped.
    pub struct Held(Rank);

    impl Held {
        pub(super) fn tried(rank: Rank) -> Self {
            HELD.set(HELD.get() | 1 << rank as u8);
            Self(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.set(HELD.get() & !(1 << self.0 as u8));
        }
    }

    /// The ranks of a thread that a signal interrupted, or that calls a tier. They do not count in the handler or the
    /// tier, which take other locks in an order of their own.
    #[cfg(not(loom))]
    pub struct SetAside(u32);

    #[cfg(not(loom))]
    impl SetAside {
        /// Sets aside the ranks of this thread, until this is dropped.
        pub fn new() -> Self {
            Self(HELD.replace(0))
        }
    }

    #[cfg(not(loom))]
    impl Drop for SetAside {
        fn drop(&mut self) {
            HELD.set(self.0);
        }
    }

    /// Asserts that this thread may wait for a lock of this rank.
    pub(super) fn check(rank: Rank) {
        let held = HELD.get();
        assert!(held >> rank as u8 == 0, "lock order: {rank:?} wanted, and {held:#b} held");
    }

    /// Asserts that this thread holds no lock, before a user's callback runs.
    pub fn assert_none() {
        assert_eq!(HELD.get(), 0, "a callback would run with a lock held");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn wait_goes_on_however_long_it_takes() {
        let mut wait = Wait { rounds: u32::MAX - 1 };
        (0..4).for_each(|_| wait.a_moment());
        assert_eq!(wait.rounds, u32::MAX);
    }
}
