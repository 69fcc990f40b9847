//! Eviction: the clock hand picks pages that were not used lately, and they leave their places. Private pages move to
//! the staging range (`stage`), where the oldest are compressed (`compress`). All others are copied and dropped
//! (`in_place`).

use super::account::PATIENCE;
use super::core::Core;
use super::hand::{HandLane, Laps, Stretch};
use super::hand_turn::HandTurn;
use super::immovable::Effort;
use super::picks::{PICKS, PassedBy, Picks};
use super::staging::BLOCK;
use super::state::MAX_AGE;
use crate::parking::LongLocked;
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;
use crate::zswap::TierAccess;

/// Pages that are evicted in place at once, at least.
const FEW: usize = 16;
/// How often the hand goes around before it gives up: it has found pages of every age by then.
const LAPS: u32 = MAX_AGE + 2;
/// State words that are looked at with one lane, at most.
const LOOKS: usize = 4096;
/// An eviction gives up after this many rounds in a row that did nothing.
const IDLE: u32 = 3;

/// How an attempt to evict ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evicted {
    /// This many pages left memory.
    Pages(u64),
    /// No page could leave now, but some may in a moment: others have them claimed, or are reading events.
    Busy,
    /// No page can leave: all are held or immovable, or as many were tried as the effort allows.
    None,
    /// The pool is full, and nothing can be written back.
    Full,
}

impl Core {
    /// Evicts some pages: moves pages to the staging range while that is below its share, and compresses the oldest
    /// there.
    pub fn evict_some(&self, pages: u64, effort: &mut Effort) -> Evicted {
        let (mut gone, mut idle, mut busy) = (0, 0, false);
        while gone < pages && idle < IDLE && !effort.is_spent() {
            let turn = self.fill_up(pages - gone, effort);
            gone += turn.gone;
            if turn.full && gone == 0 && self.staging.pages() == 0 {
                return Evicted::Full;
            }
            let done = turn.gone + turn.staged + turn.marked;
            let drained = match self.drain(pages.saturating_sub(gone)) {
                Evicted::Pages(drained) => drained,
                Evicted::Full if gone > 0 => break,
                Evicted::Full => return Evicted::Full,
                Evicted::Busy => {
                    busy = true;
                    0
                }
                Evicted::None if done == 0 && !turn.busy => break,
                // What this turn staged is next.
                Evicted::None => 0,
            };
            gone += drained;
            busy |= turn.busy;
            idle = if done + drained > 0 { 0 } else { idle + 1 };
        }
        match gone {
            0 if busy && !effort.is_spent() => Evicted::Busy,
            0 => Evicted::None,
            _ => Evicted::Pages(gone),
        }
    }

    /// Evicts until at most `pages` pages are resident, or `most` left, as far as that can be. Waits for threads that
    /// are evicting, or that change the regions, but not for ever. The caller has no page claimed, and holds no lock.
    pub fn evict_to(&self, pages: u64, most: u64) -> Evicted {
        let (mut gone, mut fruitless, mut wait) = (0, 0, Wait::default());
        let mut effort = self.immovable.full_effort();
        loop {
            let above = self.account.resident().saturating_sub(pages);
            let above = above.min(most.saturating_sub(gone));
            let end = |gone: u64| if gone > 0 || above == 0 { Evicted::Pages(gone) } else { Evicted::None };
            if above == 0 || fruitless == PATIENCE {
                return end(gone);
            }
            match self.evict_some(above.min(BLOCK as u64), &mut effort) {
                Evicted::Pages(some) => (gone, fruitless, wait) = (gone + some, 0, Wait::default()),
                // This is no signal handler.
                Evicted::Full if self.room_on_tiers(TierAccess::All) => fruitless += 1,
                Evicted::Full if gone == 0 => return Evicted::Full,
                Evicted::Full => return Evicted::Pages(gone),
                Evicted::None => return end(gone),
                Evicted::Busy => {
                    fruitless += 1;
                    // Others may be waiting for an event that nobody has read.
                    self.read_events();
                    wait.a_moment();
                }
            }
        }
    }

    /// Stages pages while the staging range is below its share, or has none to drain. It stages twice as many as are
    /// drained at once, so that the range grows to its share step by step.
    fn fill_up(&self, wanted: u64, effort: &mut Effort) -> HandTurn {
        let mut turn = HandTurn::default();
        for _ in 0..2 {
            if turn.gone >= wanted || effort.is_spent() {
                break;
            }
            // If all that is in memory is staged or can't leave, the hand would go around for nothing.
            let stays = self.staging.pages() + self.holds.pages() + self.immovable.pages();
            let movable = self.account.resident() > stays || self.immovable.may_retry(effort);
            if movable && self.staging.pages() < self.staged_target() {
                turn.add(self.turn_hand(wanted, effort));
            }
        }
        turn
    }

    /// Moves the hand on to pages that were not used lately, and evicts them from their places.
    fn turn_hand(&self, wanted: u64, effort: &mut Effort) -> HandTurn {
        let _moving = match self.moves.then(|| self.turn_to_move()) {
            Some(None) => return HandTurn { busy: true, ..HandTurn::default() },
            turn => turn,
        };
        let mut laps = Laps::default();
        let mut passed = PassedBy::default();
        loop {
            let mut lane = self.hand.lane();
            let version = self.extents.version();
            let Some(stretch) = self.hand.take(&self.extents, &lane) else { break };
            laps.note(&stretch);
            if laps.done == LAPS {
                let _ = self.hand.give_back(&stretch, stretch.from);
                break;
            }
            let region = self.places[stretch.extent.region].enter();
            let Some(region) = region.filter(|region| !region.closing.load(Relaxed)) else {
                passed.claimed = true;
                self.hand.pass_by(&stretch);
                continue;
            };
            if region.is_full() {
                passed.full = true;
                self.hand.pass_by(&stretch);
                continue;
            }
            let stages = self.moves && region.is_private();
            let (most, room) = if stages { (BLOCK, BLOCK) } else { ((wanted as usize).clamp(FEW, PICKS), PICKS) };
            let mut picks = Picks::new(&region, stretch.extent, version);
            self.pick_some(&mut picks, stretch, (most, room), &mut lane, (&mut passed, effort));
            if !stages {
                self.protect_picked(&region, &mut picks);
            }
            drop(lane);
            match picks.count {
                0 => {}
                _ if stages => return self.stage(&stretch.extent, &mut picks, effort),
                _ => return self.evict_in_place(&region, &mut picks, effort),
            }
        }
        // The hand went all the way around.
        self.immovable.end_retries(effort);
        HandTurn { full: passed.full && !passed.claimed, busy: passed.claimed, ..HandTurn::default() }
    }

    /// Picks `most` pages of a stretch and of those behind it, or up to `room` if other threads have gone on. The
    /// caller has a lane, so the region is not removed meanwhile.
    fn pick_some(
        &self,
        picks: &mut Picks<'_>,
        mut stretch: Stretch,
        (most, room): (usize, usize),
        lane: &mut HandLane,
        (passed, effort): (&mut PassedBy, &mut Effort),
    ) {
        let mut looks = 0;
        loop {
            let at = picks.pick((&stretch, stretch.from), most, passed, (&self.immovable, effort));
            looks += (at - stretch.from) / PAGE;
            if at < stretch.end {
                if !self.hand.give_back(&stretch, at) {
                    // The rest is this thread's to look at, or it would be passed by.
                    picks.pick((&stretch, at), room, passed, (&self.immovable, effort));
                    lane.narrow();
                }
                return;
            }
            if picks.count == most || looks >= LOOKS {
                return;
            }
            lane.widen();
            match self.hand.take_next(&stretch, lane) {
                Some(next) => stretch = next,
                None => return,
            }
        }
    }

    /// Waits for the turn of this thread to move pages to the staging range. The system lets one thread at a time move
    /// pages of a mapping: others would wait inside the call, spinning. Returns none if enough pages wait there to be
    /// compressed meanwhile.
    fn turn_to_move(&self) -> Option<LongLocked<'_, ()>> {
        if let Some(turn) = self.moving.try_lock() {
            return Some(turn);
        }
        if self.staging.has_waiting() {
            return None;
        }
        let turn = self.moving.lock();
        (self.staging.pages() < self.staged_target()).then_some(turn)
    }
}
