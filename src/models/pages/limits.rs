//! A limit that is set while pages come and go: from then on it holds, whatever was counted in parts before.

use crate::zswap::limit::ByteLimit;
use loom::sync::Arc;
use loom::thread;

fn race(threads: &'static [fn(&ByteLimit) -> u64]) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.check(move || {
        let limit = Arc::new(ByteLimit::new(None, 90, 2).unwrap());
        assert!(limit.charge(1, 0));
        let run = |work: fn(&ByteLimit) -> u64| {
            let limit = limit.clone();
            thread::spawn(move || work(&limit))
        };
        let running: Vec<_> = threads[1..].iter().map(|&work| run(work)).collect();
        let held = threads[0](&limit) + running.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>();
        assert_eq!(limit.used(), held + 1, "what is charged is what is held");
    });
}

/// Sets a limit of 3, and charges as often as it can. Returns how many bytes it holds, which are within the limit.
fn limited(limit: &ByteLimit) -> u64 {
    limit.set(Some(3));
    let held = (0..4).filter(|_| limit.charge(1, 1)).count() as u64;
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
