//! A limit that is set while pages come and go: from then on it holds, whatever was counted in parts before. And room
//! that processors take ahead: the limit is never exceeded, and no page is refused that another processor has room for.

use crate::zswap::limit::ByteLimit;
use loom::sync::Arc;
use loom::thread;

/// Runs threads on a limit with two parts, on the first of which a byte is charged. Each returns how many bytes it
/// holds at its end.
fn race_within(max: Option<u64>, threads: &'static [fn(&ByteLimit) -> u64]) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let limit = Arc::new(ByteLimit::new(max, 90, 2).unwrap());
        assert!(limit.charge(1, 0));
        let run = |work: fn(&ByteLimit) -> u64| {
            let limit = limit.clone();
            thread::spawn(move || work(&limit))
        };
        let running: Vec<_> = threads[1..].iter().map(|&work| run(work)).collect();
        let held = threads[0](&limit) + running.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>();
        assert_eq!(limit.used(), held + 1, "what is charged is what is held");
        let within = limit.used() - limit.without_limit();
        assert!(
            max.is_some() || within == 0 || limit.max().is_none_or(|max| limit.used() <= max),
            "{within} were charged to a limit"
        );
        for part in [1, 0] {
            let (used, max) = (limit.used(), limit.max());
            assert_eq!(limit.charge(1, part), max.is_none_or(|max| used < max), "{used} of {max:?}");
        }
    });
}

fn race(threads: &'static [fn(&ByteLimit) -> u64]) {
    race_within(None, threads);
}

/// Sets a limit of 3, and charges as often as it can. Returns how many bytes it holds, which are within the limit.
fn limited(limit: &ByteLimit) -> u64 {
    limit.set(Some(3));
    let held = (0..3).filter(|_| limit.charge(1, 1)).count() as u64;
    assert!(held <= 2, "one byte was charged before the limit was set");
    held
}

/// A page that comes on a part, and goes when there is a limit, is never taken for room.
#[test]
fn a_page_that_comes_and_goes() {
    race(&[limited, |limit| {
        if limit.charge(1, 0) {
            limit.uncharge(1, 0);
        }
        0
    }]);
}

/// A page that stays is counted, whether it came before the limit or after.
#[test]
fn a_page_that_stays() {
    race(&[
        |limit| {
            limit.set(Some(3));
            u64::from(limit.charge(1, 1))
        },
        |limit| u64::from(limit.charge(1, 0)),
    ]);
}

/// A thread that sees the limit, and knows the one that set it by nothing else, sees what was counted before.
#[test]
fn a_limit_that_a_third_thread_set() {
    race(&[
        |limit| {
            limit.set(Some(2));
            0
        },
        |limit| u64::from(limit.charge(1, 0)),
        |limit| u64::from(limit.charge(1, 1)),
    ]);
}

/// A page that came on a part goes to the room of a processor, and is never taken for more room than it was.
#[test]
fn a_page_that_goes_to_the_room_of_a_processor() {
    race(&[limited, |limit| {
        if limit.charge(1, 1) {
            limit.uncharge(1, 1);
        }
        0
    }]);
}

/// What one processor has ahead is no reason to refuse another one, and no more is charged than the limit allows.
#[test]
fn room_of_another_processor() {
    race_within(
        Some(4),
        &[
            |limit| {
                limit.uncharge(1, 0);
                assert!(limit.charge(1, 0), "three bytes at most were charged");
                0
            },
            |limit| {
                assert!(limit.charge(2, 1) && limit.charge(1, 1), "one byte at most was charged");
                3
            },
        ],
    );
}

/// Two that want all there is: they get it, and no more.
#[test]
fn two_that_charge_all() {
    fn charge_all(limit: &ByteLimit, part: usize) -> u64 {
        let charged = (0..3).take_while(|_| limit.charge(1, part)).count() as u64;
        assert!(charged == 3 || limit.used() == 4, "a byte was refused although there was room");
        charged
    }
    race_within(Some(4), &[|limit| charge_all(limit, 0), |limit| charge_all(limit, 1)]);
}

/// A limit that is lowered holds from then on, whatever was taken ahead.
#[test]
fn a_limit_that_is_lowered() {
    race_within(
        Some(5),
        &[
            |limit| {
                limit.set(Some(2));
                0
            },
            |limit| (0..2).filter(|_| limit.charge(1, 1)).count() as u64,
        ],
    );
}

/// Room that a processor took ahead while the limit was lowered is not used later: only one page comes, so the room
/// would still wait at the end.
#[test]
fn room_that_is_taken_while_the_limit_is_lowered() {
    race_within(
        Some(5),
        &[
            |limit| {
                limit.set(Some(2));
                0
            },
            |limit| u64::from(limit.charge(1, 1)),
        ],
    );
}
