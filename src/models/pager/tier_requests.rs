//! Requests to threads that may call tiers: each is answered by the thread that served it, whoever sleeps when, and a
//! slot that is used again has nothing of the request before.

use super::{look, put, race};
use crate::pager::tier_requests::{RequestEnd, TierRequests};
use crate::sync::{AtomicU32, Cell, Ordering::Relaxed};

struct Scene {
    requests: TierRequests,
    /// What the asking thread did before, for each of two requests.
    asked: [Cell<u64>; 2],
    /// What the lent thread did for each.
    done: [Cell<u64>; 2],
    /// Requests that were served.
    served: AtomicU32,
    /// Requests that were withdrawn.
    withdrawn: AtomicU32,
}

fn quiet() -> Scene {
    let cells = || [Cell::new(0), Cell::new(0)];
    let zero = || AtomicU32::new(0);
    Scene { requests: TierRequests::default(), asked: cells(), done: cells(), served: zero(), withdrawn: zero() }
}

/// Asks for something, and waits for the answer.
fn ask(scene: &Scene, number: u64, waits: bool) {
    put(&scene.asked[number as usize], number + 1);
    loop {
        match scene.requests.ask(number, || (), || waits) {
            RequestEnd::Answer(answer) => {
                assert_eq!(u64::from(answer), number + 10);
                assert_eq!(look(&scene.done[number as usize]), number + 20);
                return;
            }
            RequestEnd::Withdrawn => {
                scene.withdrawn.fetch_add(1, Relaxed);
                return;
            }
            RequestEnd::NoSlot => loom::thread::yield_now(),
        }
    }
}

/// Serves a request, if there is one.
fn serve_one(scene: &Scene) -> bool {
    let Some(mut taken) = scene.requests.take() else { return false };
    let number = taken.request();
    assert_eq!(look(&scene.asked[number as usize]), number + 1);
    put(&scene.done[number as usize], number + 20);
    taken.answer(number as u32 + 10);
    scene.served.fetch_add(1, Relaxed);
    true
}

/// Serves until this many requests were served by all threads.
fn serve_until(scene: &Scene, served: u32) {
    loop {
        let heard = scene.requests.listen();
        if scene.served.load(Relaxed) >= served {
            return;
        }
        if !serve_one(scene) {
            scene.requests.sleep(heard);
        }
    }
}

fn ask_first(scene: &Scene) {
    ask(scene, 0, true);
}

fn ask_second(scene: &Scene) {
    ask(scene, 1, true);
}

/// A thread that goes to sleep hears of the request.
#[test]
fn a_request_is_answered() {
    race(None, quiet, &[ask_first, |scene| serve_until(scene, 1)], |scene| {
        assert_eq!(scene.served.load(Relaxed), 1);
    });
}

/// The slot is used again at once.
#[test]
fn two_requests_in_a_slot() {
    race(Some(2), quiet, &[ask_first, ask_second, |scene| serve_until(scene, 2)], |scene| {
        assert_eq!(scene.served.load(Relaxed), 2);
    });
}

/// Serves a request if there is one, and lets the other thread look whether all are served.
fn serve_and_ring(scene: &Scene) {
    serve_one(scene);
    scene.requests.ring();
}

/// A request is served once, though two threads look for it.
#[test]
fn a_request_is_served_once() {
    race(Some(2), quiet, &[ask_first, |scene| serve_until(scene, 1), serve_and_ring], |scene| {
        assert_eq!(scene.served.load(Relaxed), 1);
    });
}

/// A request is withdrawn or answered, and never both. The next one finds the slot free.
#[test]
fn a_request_that_is_withdrawn() {
    fn ask_twice(scene: &Scene) {
        (0..2).for_each(|number| ask(scene, number, false));
    }
    fn look_twice(scene: &Scene) {
        (0..2).for_each(|_| _ = serve_one(scene));
    }
    race(None, quiet, &[ask_twice, look_twice], |scene| {
        assert_eq!(scene.served.load(Relaxed) + scene.withdrawn.load(Relaxed), 2);
    });
}
