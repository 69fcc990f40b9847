//! What was read from the userfaultfd and is not done: touches that wait, ranges that moved, large events. Its lock is
//! the lock of events: a thread that reads events, or changes the table of extents, holds it.

use super::backlog::{WORKS, Work};
use crate::error::Result;
use crate::heap;
use crate::parking::{LongLock, LongLocked};
use crate::sync::{AtomicU32, Ordering::Relaxed, Rank, Wait};

/// Touches that may wait to be served. The threads of further ones are woken, and touch again.
const WAITING: usize = 1024;
/// Moves whose unmapping may not have been told yet. As many owners may move something at once.
const MOVED: usize = 64;
/// How often a thread looks whether others still wait for the lock, while it gives way: some milliseconds at most.
pub const GIVES_WAY: u32 = 16;

/// A touch that waits to be served.
#[derive(Clone, Copy)]
pub struct PendingTouch {
    pub at: usize,
    pub write: bool,
}

/// Messages that were read and not acted upon yet.
pub struct Inbox {
    touches: Box<[PendingTouch]>,
    first: usize,
    count: usize,
    /// Ranges that were moved away: their starts and ends. The system tells the unmapping of each a little later, when
    /// other memory may be there.
    moved: [(usize, usize); MOVED],
    /// Where the next moved range is noted, in place of the oldest.
    next_move: usize,
    /// Large events with pages left.
    pub works: [Option<Work>; WORKS],
}

impl Inbox {
    fn new() -> Result<Self> {
        let touches = heap::slice(WAITING, |_| Ok(PendingTouch { at: 0, write: false }))?;
        let (moved, works) = ([(0, 0); MOVED], [None; WORKS]);
        Ok(Self { touches, first: 0, count: 0, moved, next_move: 0, works })
    }

    /// Returns how many touches wait to be served.
    pub fn touches(&self) -> usize {
        self.count
    }

    /// Lets a touch wait behind the others. Returns false if there is no room.
    pub fn push(&mut self, touch: PendingTouch) -> bool {
        if self.count == WAITING {
            return false;
        }
        self.touches[(self.first + self.count) % WAITING] = touch;
        self.count += 1;
        true
    }

    /// Takes the touch that waited longest.
    pub fn pop(&mut self) -> Option<PendingTouch> {
        if self.count == 0 {
            return None;
        }
        let touch = self.touches[self.first];
        self.first = (self.first + 1) % WAITING;
        self.count -= 1;
        Some(touch)
    }

    /// Notes that a range was moved away.
    pub fn note_moved(&mut self, start: usize, end: usize) {
        self.moved[self.next_move] = (start, end);
        self.next_move = (self.next_move + 1) % MOVED;
    }

    /// Forgets moves from a range that has new memory: an unmapping told from here on is of that memory. A move that
    /// left its range mapped tells no unmapping.
    pub fn forget_moved(&mut self, start: usize, end: usize) {
        self.moved.iter_mut().filter(|moved| moved.0 < end && start < moved.1).for_each(|moved| *moved = (0, 0));
    }

    /// Whether an unmapping is the one that goes with a move away from the range. Each move answers once.
    pub fn was_moved(&mut self, start: usize, end: usize) -> bool {
        let known = self.moved.iter_mut().find(|moved| **moved == (start, end));
        known.map(|moved| *moved = (0, 0)).is_some()
    }
}

/// The inbox behind its lock, with a count of the threads that wait for it.
pub struct EventLock {
    inbox: LongLock<Inbox>,
    /// Threads that wait for the lock. A thread that takes it again and again gives way to them.
    readers: AtomicU32,
    /// 1 while touches wait in the inbox, as a thread that had the lock noted last.
    waiting: AtomicU32,
    /// How often a thread that gave way found the lock free.
    #[cfg(test)]
    gave_way: AtomicU32,
}

impl EventLock {
    /// An empty inbox.
    pub fn new() -> Result<Self> {
        Ok(Self {
            inbox: LongLock::of(Rank::Inbox, Inbox::new()?),
            readers: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            #[cfg(test)]
            gave_way: AtomicU32::new(0),
        })
    }

    /// Takes the lock.
    pub fn lock(&self) -> LongLocked<'_, Inbox> {
        self.inbox.check_rank();
        self.inbox.try_lock().unwrap_or_else(|| {
            // Relaxed: it is a hint, for `give_way`.
            self.readers.fetch_add(1, Relaxed);
            let locked = self.inbox.lock();
            self.readers.fetch_sub(1, Relaxed);
            locked
        })
    }

    /// Notes whether touches wait, for [`EventLock::has_touches`]. Returns it. The caller has the lock.
    pub fn note_touches(&self, inbox: &Inbox) -> bool {
        // Relaxed: a thread that leaves touches to others wakes one afterwards, or looks again itself.
        self.waiting.store(u32::from(inbox.touches() > 0), Relaxed);
        inbox.touches() > 0
    }

    /// Whether touches wait in the inbox. A hint, which takes no lock.
    pub fn has_touches(&self) -> bool {
        self.waiting.load(Relaxed) != 0
    }

    /// Lets waiting threads have the lock, between two parts of long work for which this thread takes it again and
    /// again. A thread that was woken would find it taken a few times before it is handed over.
    pub fn give_way(&self) {
        let mut wait = Wait::default();
        for _ in 0..GIVES_WAY {
            if self.readers.load(Relaxed) == 0 {
                return;
            }
            #[cfg(test)]
            self.gave_way.fetch_add(u32::from(self.inbox.try_lock().is_some()), Relaxed);
            wait.a_moment();
        }
    }

    /// Threads that wait for the lock, for tests.
    #[cfg(test)]
    pub fn readers(&self) -> &AtomicU32 {
        &self.readers
    }

    /// How often a thread that gave way found the lock free, for tests.
    #[cfg(test)]
    pub fn gave_way(&self) -> u32 {
        self.gave_way.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PAGE;

    #[test]
    fn touches_keep_their_order_when_the_ring_wraps() {
        let mut inbox = Inbox::new().unwrap();
        let (mut pushed, mut popped) = (0, 0);
        for round in 0..5 {
            while inbox.push(PendingTouch { at: pushed, write: pushed % 2 == 0 }) {
                pushed += 1;
            }
            assert_eq!(pushed - popped, WAITING);
            for _ in 0..WAITING / 2 + round {
                let touch = inbox.pop().unwrap();
                assert_eq!((touch.at, touch.write), (popped, popped % 2 == 0));
                popped += 1;
            }
        }
        while inbox.pop().is_some() {
            popped += 1;
        }
        assert_eq!(popped, pushed);
    }

    #[test]
    fn latest_moves_are_known_when_the_ring_wraps() {
        let mut inbox = Inbox::new().unwrap();
        for last in 0..5 * MOVED {
            inbox.note_moved(last * PAGE, (last + 1) * PAGE);
            let oldest = last.saturating_sub(MOVED - 1);
            for at in oldest.saturating_sub(2)..=last + 1 {
                let known = inbox.moved.contains(&(at * PAGE, (at + 1) * PAGE));
                assert_eq!(known, (oldest..=last).contains(&at), "{at} of {last}");
            }
        }
        let last = 5 * MOVED - 1;
        assert!(inbox.was_moved(last * PAGE, (last + 1) * PAGE) && !inbox.was_moved(last * PAGE, (last + 1) * PAGE));
        inbox.forget_moved((last - 1) * PAGE, last * PAGE);
        assert!(!inbox.was_moved((last - 1) * PAGE, last * PAGE));
    }
}
