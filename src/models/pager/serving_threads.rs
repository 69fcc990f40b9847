//! Serving threads: a touch is served whichever thread sleeps, a thread that is unparked sees what it was unparked for,
//! and a thread that is told to leave does so.

use super::{look, put, race};
use crate::pager::serving_threads::{Found, ServingThreads, Sleep};
use crate::sync::{
    AtomicU32, Cell,
    Ordering::{Acquire, Relaxed, Release},
};

/// The threads, and what stands for the system.
struct Scene {
    threads: ServingThreads,
    /// Touches that nobody has read. The poller polls this.
    touches: AtomicU32,
    /// Touches that were served.
    served: AtomicU32,
    /// 1 once a thread left something for one that it unparks.
    left: Cell<u32>,
    /// Threads that are told to leave when they look.
    told: AtomicU32,
    /// The eventfd that the poller polls too: 1 once it is signalled.
    signalled: AtomicU32,
}

/// Two threads that serve are awake, and two touches wait.
fn two_touches() -> Scene {
    let scene = quiet();
    scene.touches.store(2, Relaxed);
    scene
}

fn quiet() -> Scene {
    let scene = one();
    scene.threads.begin();
    scene
}

/// One thread that serves is awake.
fn one() -> Scene {
    let zero = || AtomicU32::new(0);
    let threads = ServingThreads::default();
    threads.begin();
    Scene { threads, touches: zero(), served: zero(), left: Cell::new(0), told: zero(), signalled: zero() }
}

fn take(word: &AtomicU32) -> bool {
    word.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok()
}

/// Serves one touch, and leaves.
fn serve_one(scene: &Scene) {
    while !take(&scene.touches) {
        match scene.threads.begin_sleep() {
            Sleep::Poll => {
                while scene.touches.load(Relaxed) == 0 {
                    loom::thread::yield_now();
                }
                scene.threads.end_poll();
            }
            Sleep::Park => scene.threads.park(),
        }
    }
    scene.served.fetch_add(1, Relaxed);
    scene.threads.end();
}

/// The program touches two pages.
fn touch_twice(scene: &Scene) {
    scene.touches.fetch_add(1, Relaxed);
    scene.touches.fetch_add(1, Relaxed);
}

fn all_served(scene: &Scene) {
    assert_eq!(scene.served.load(Relaxed), 2);
    assert_eq!(scene.threads.awake_and_poller(), (0, 0));
}

/// A thread that is parked takes over when the poller leaves.
#[test]
fn every_touch_is_served() {
    race(Some(3), quiet, &[touch_twice, serve_one, serve_one], all_served);
}

/// Does something else for a while, and then serves one touch.
fn step_aside_and_serve(scene: &Scene) {
    scene.threads.end();
    loom::thread::yield_now();
    scene.threads.begin();
    serve_one(scene);
}

/// A thread that does something else leaves the touches to one that it unparks if need be.
#[test]
fn touches_are_served_while_a_thread_does_something_else() {
    race(Some(3), two_touches, &[step_aside_and_serve, serve_one], all_served);
}

#[test]
fn touches_that_wait_are_served() {
    race(None, two_touches, &[serve_one, serve_one], all_served);
}

/// Parks until it is unparked, if another thread stays awake.
fn sleep_until_unparked(scene: &Scene) {
    if scene.threads.begin_sleep() == Sleep::Park {
        scene.threads.park();
        assert_eq!(look(&scene.left), 1);
    } else {
        scene.threads.end_poll();
    }
    scene.threads.end();
}

/// Leaves something, and unparks a thread if one is parked.
fn leave_and_unpark(scene: &Scene) {
    put(&scene.left, 1);
    while scene.threads.unpark_one() == Found::AllAwake && scene.threads.awake_and_poller().0 > 1 {
        loom::thread::yield_now();
    }
    scene.threads.end();
}

#[test]
fn a_thread_that_is_unparked_sees_what_for() {
    race(None, quiet, &[leave_and_unpark, sleep_until_unparked], |scene| {
        assert_eq!(scene.threads.awake_and_poller(), (0, 0));
    });
}

/// Sleeps, unless it is told to leave after it began to sleep.
fn sleep_until_told(scene: &Scene) {
    loop {
        let sleep = scene.threads.begin_sleep();
        if scene.told.load(Relaxed) == 1 {
            scene.threads.cancel_sleep(sleep);
            break;
        }
        match sleep {
            Sleep::Park => scene.threads.park(),
            Sleep::Poll => {
                while scene.signalled.load(Acquire) == 0 {
                    loom::thread::yield_now();
                }
                scene.threads.end_poll();
            }
        }
        if scene.told.load(Relaxed) == 1 {
            break;
        }
    }
    scene.threads.end();
}

/// Tells all threads to leave.
fn tell_all(scene: &Scene) {
    scene.told.store(1, Relaxed);
    // System calls signal and poll the eventfd, and they order what is before and after.
    scene.signalled.store(1, Release);
    scene.threads.unpark_all();
}

/// Another thread stays awake, or there is none: the thread sleeps in either way.
#[test]
fn threads_that_are_told_to_leave_do_not_sleep_on() {
    race(None, quiet, &[tell_all, sleep_until_told], |scene| {
        assert_eq!(scene.threads.awake_and_poller(), (1, 0));
    });
    race(None, one, &[tell_all, sleep_until_told], |scene| {
        assert_eq!(scene.threads.awake_and_poller(), (0, 0));
    });
}

/// At most one thread spins.
#[test]
fn at_most_one_thread_spins() {
    fn spin(scene: &Scene) {
        if scene.threads.begin_spin() {
            put(&scene.left, 1);
            scene.threads.end_spin();
        }
        scene.threads.end();
    }
    race(None, quiet, &[spin, spin], |scene| assert_eq!(scene.threads.awake_and_poller(), (0, 0)));
}
