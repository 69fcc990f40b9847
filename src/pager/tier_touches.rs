//! Touches of pages on tiers of the program's own, which a signal handler may not call: a lent thread serves them. The
//! thread that touches waits for it, and holds nothing meanwhile that the other one might need.

use super::core::Core;
use super::fault::{FEW_TRIES, FaultOutcome, Stop, Want};
use super::lent_count::LentThread;
use super::options::{Duty, FaultMode};
use super::store::WRITE_BACK;
use super::tier_requests::{RequestEnd, TakenRequest};
use crate::error::{Error, sentence};
use crate::sync::Wait;
use crate::units::PAGE;
use crate::zswap::TierAccess;

/// A request for room in the pool. All others are the address of a page, with [`WRITE`] if the touch is a write.
const MAKE_ROOM: u64 = 2;
const WRITE: u64 = 1;

/// Something came in between: the touch looks again. It is the answer of a thread that ends before it gives another.
const AGAIN: u32 = 0;
/// It is done.
const DONE: u32 = 1;
/// The stored copy of the page is damaged.
const LOST: u32 = 2;
/// The page's tier is away, or the system refuses a call.
const REFUSED: u32 = 3;

const NO_THREAD: Error = Error::Again(sentence(
    &"the page is on a tier that signal handlers may not call: lend a thread with the duty Tiers, which may",
));
const NOT_SERVED: Error =
    Error::Again(sentence(&"the page's tier can't be reached now, or the system refuses a call: try again later"));

impl Core {
    /// Has a lent thread serve a touch. The caller has no page claimed, and is in no region.
    #[cold]
    pub(super) fn ask_to_serve(&self, at: usize, write: bool) -> Result<(), Stop> {
        match self.ask_tier_thread((at & !(PAGE - 1)) as u64 | if write { WRITE } else { 0 }) {
            Some(DONE) => Ok(()),
            Some(LOST) => Err(Stop::Lost),
            Some(REFUSED) => Err(Stop::Away(NOT_SERVED)),
            Some(_) => Err(Stop::Again),
            None => Err(Stop::Away(NO_THREAD)),
        }
    }

    /// Makes room in a full pool on tiers of the program's own. Returns whether there is some now. `tiers`: those that
    /// this thread may use. The caller has no page claimed, and holds no lock.
    #[cold]
    pub(super) fn room_on_tiers(&self, tiers: TierAccess) -> bool {
        if self.mode != FaultMode::Sigbus || !self.upkeep.has_own_tiers() {
            // The store that found the pool full has tried all tiers.
            return false;
        }
        match tiers {
            TierAccess::All => self.make_room_on_tiers(),
            TierAccess::SignalSafe => self.ask_tier_thread(MAKE_ROOM) == Some(DONE),
        }
    }

    fn make_room_on_tiers(&self) -> bool {
        self.zswap.shrink_with(WRITE_BACK, TierAccess::All).is_ok_and(|written| written > 0)
    }

    /// Asks a lent thread for something, and waits for its answer. None: no thread is lent that calls tiers.
    fn ask_tier_thread(&self, request: u64) -> Option<u32> {
        let may_come = || self.lending.has_tier_threads();
        let mut wait = Wait::default();
        while may_come() {
            match self.lending.requests.ask(request, || self.lending.call_servers_for_tiers(), may_come) {
                RequestEnd::Answer(answer) => return Some(answer),
                RequestEnd::Withdrawn => break,
                RequestEnd::NoSlot => wait.a_moment(),
            }
        }
        None
    }

    /// Serves a request of a touch, if there is one. Returns whether there was.
    pub(super) fn serve_request(&self, lent: &LentThread<'_>) -> bool {
        let Some(mut taken) = lent.take_request() else { return false };
        // Others see to touches and events meanwhile.
        self.lending.aside(lent.duty().serves(), || self.answer(&mut taken));
        true
    }

    fn answer(&self, taken: &mut TakenRequest<'_>) {
        let request = taken.request();
        if request == MAKE_ROOM {
            return taken.answer(if self.make_room_on_tiers() { DONE } else { REFUSED });
        }
        let at = request as usize & !(PAGE - 1);
        let want = Want { write: request & WRITE != 0, hold: false, tiers: TierAccess::All };
        taken.answer(match self.serve_within(FEW_TRIES, at, want) {
            FaultOutcome::Done => DONE,
            // The event that tells the address may not have been read yet.
            FaultOutcome::Unknown => AGAIN,
            FaultOutcome::Failed(Error::Damaged(_)) => LOST,
            FaultOutcome::Failed(_) => REFUSED,
        });
    }

    /// Works as a thread that calls tiers until it is told to go.
    pub(super) fn work_for_tiers(&self, lent: &LentThread<'_>) {
        debug_assert!(lent.duty() == Duty::Tiers);
        while lent.stays() {
            let heard = self.lending.requests.listen();
            let served = self.serve_request(lent);
            if !self.write_ahead(Duty::Tiers) && !served && lent.stays() {
                self.lending.requests.sleep(heard);
            }
        }
    }
}
