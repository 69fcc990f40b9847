//! Calls that the system refuses for a while: touches wait or try again, and nothing is lost.

use super::look::{consistent, with_faults};
use super::{Memory, Running, evicting, limited};
use crate::os::{Call, injected::Faults};
use crate::pager::for_c::PagerForC;
use crate::pager::{Duty, FaultMode};
use crate::units::PAGE;
use std::sync::Arc;

const LIMIT: usize = 64;
const PAGES: usize = 3 * LIMIT;
const MODES: [FaultMode; 2] = [FaultMode::Sigbus, FaultMode::Threads];

/// A call that the system may refuse, and the error. "There is a page already" and "there is none to move" are not
/// among them: these have to be true, and have tests of their own.
type Refusal = (Call, &'static [i32]);

const FILLING: [Refusal; 3] = [
    (Call::CopyIn, &[libc::EAGAIN, libc::ENOMEM, libc::ENOENT, libc::ENOSPC, libc::ESRCH, libc::EFAULT]),
    (Call::ZeroIn, &[libc::EAGAIN, libc::ENOMEM, libc::ENOENT, libc::ESRCH, libc::EFAULT]),
    (Call::Protect, &[libc::EAGAIN, libc::ENOMEM, libc::ENOENT, libc::ESRCH]),
];
const RELEASE: Refusal = (Call::Release, &[libc::EAGAIN, libc::ENOMEM, libc::EINVAL, libc::EINTR]);
const MOVE: Refusal = (Call::Move, &[libc::EAGAIN, libc::EBUSY, libc::ENOMEM, libc::EINVAL, libc::ESRCH]);
const READ: Refusal = (Call::Read, &[libc::EFAULT, libc::ENOMEM, libc::ESRCH, libc::EINTR]);
const CONTINUE: Refusal = (Call::Continue, &[libc::EAGAIN, libc::ENOMEM, libc::ENOENT, libc::ESRCH, libc::EFAULT]);
/// The question whether the file still has a page that a hole was made for.
const LOOK: Refusal = (Call::Advise, &[libc::ENOSYS, libc::ENOMEM]);
const PUNCH: Refusal = (Call::Punch, &[libc::EINTR, libc::ENOMEM, libc::ENOSPC]);

fn value(page: usize, round: usize) -> u64 {
    (page + 1 + round * PAGES) as u64
}

/// A pager with the lent threads that its mode needs.
fn started(mode: FaultMode, in_place: bool) -> (Arc<Faults>, Running) {
    let options = evicting(in_place, limited(LIMIT, mode));
    let duties: &[Duty] = if mode == FaultMode::Threads { &[Duty::All, Duty::All] } else { &[] };
    with_faults(&options, duties)
}

/// Touches, rewrites, evicts, holds and discards pages. `refuse` is called before each.
fn churn(running: &Running, memory: &Memory, refuse: impl Fn()) {
    let mut rounds = vec![0; PAGES];
    let check =
        |page: usize, round: usize| memory.check(page, if round == usize::MAX { 0 } else { value(page, round) });
    for step in 0..PAGES {
        let page = step * 397 % PAGES;
        refuse();
        match step % 8 {
            0 => {
                rounds[page] += 1;
                memory.fill(page, value(page, rounds[page]));
            }
            1 => _ = running.pager.evict(16),
            // SAFETY: the bytes are not needed.
            2 if unsafe { running.pager.discard(memory.at(page), PAGE) }.is_ok() => {
                check(page, usize::MAX);
                memory.fill(page, value(page, rounds[page]));
            }
            3 if running.pager.begin_hold(memory.at(page), PAGE).is_ok() => {
                check(page, rounds[page]);
                running.pager.end_hold(memory.at(page), PAGE).unwrap();
            }
            _ => check(page, rounds[page]),
        }
    }
    for (page, round) in rounds.iter().enumerate() {
        check(page, *round);
        if *round > 0 {
            memory.fill(page, value(page, 0));
        }
    }
}

fn refused_for_a_while(memory: impl Fn() -> Memory, in_place: bool, also: &[Refusal]) {
    for mode in MODES {
        for &(call, errnos) in FILLING.iter().chain(also) {
            let memory = memory();
            let (faults, running) = started(mode, in_place);
            running.add(&memory);
            (0..PAGES).for_each(|page| memory.fill(page, value(page, 0)));
            for &errno in errnos {
                let seen = faults.seen(call);
                faults.say(call, errno, 0);
                churn(&running, &memory, || faults.fail(call, 1, 3));
                faults.heal(call);
                assert!(faults.seen(call) > seen + 3, "{call:?} in {mode:?}");
                consistent(&running);
            }
            churn(&running, &memory, || ());
            consistent(&running);
        }
    }
}

#[test]
fn refused_for_a_while_with_pages_that_move() {
    refused_for_a_while(|| Memory::new(PAGES), false, &[MOVE, RELEASE]);
}

#[test]
fn refused_for_a_while_in_place() {
    refused_for_a_while(|| Memory::new(PAGES), true, &[READ, RELEASE]);
}

#[test]
fn refused_for_a_while_in_a_memory_file() {
    refused_for_a_while(|| Memory::shared(PAGES), false, &[READ, PUNCH, CONTINUE, LOOK]);
}

/// An owner that gives pages back waits until a thread can read its event, and so do touches that come later.
#[test]
fn events_that_can_not_be_read_for_a_while() {
    for mode in MODES {
        for errno in [libc::EFAULT, libc::ENOMEM, libc::EIO] {
            let memory = Memory::new(PAGES);
            let (faults, running) = with_faults(&limited(LIMIT, mode), &[Duty::All]);
            running.add(&memory);
            (0..PAGES).for_each(|page| memory.fill(page, value(page, 0)));
            faults.say(Call::Events, errno, 0);
            for first in (0..PAGES).step_by(PAGES / 4) {
                faults.fail(Call::Events, 1, 12);
                assert_eq!(memory.advise(first, 8, libc::MADV_DONTNEED), 0);
                (first..first + 8).for_each(|page| memory.check(page, 0));
                (first + 8..first + PAGES / 4).for_each(|page| memory.check(page, value(page, 0)));
            }
            faults.heal(Call::Events);
            consistent(&running);
        }
    }
}
