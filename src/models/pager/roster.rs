//! The roster: a touch is served whoever sleeps, a thread that is called sees what it was called for, and a thread that
//! is told to leave does so.

use super::{look, put, race};
use crate::pager::roster::{Post, Reached, Roster};
use crate::sync::{
    AtomicU32, Cell,
    Ordering::{Acquire, Relaxed, Release},
};

/// The roster, and what stands for the system.
struct Scene {
    roster: Roster,
    /// Touches that nobody has read. The sentry polls this.
    touches: AtomicU32,
    /// Touches that were served.
    served: AtomicU32,
    /// 1 once a thread left something for one that it calls.
    left: Cell<u32>,
    /// Threads that are told to leave when they look.
    told: AtomicU32,
    /// A bell for the sentry.
    bell: AtomicU32,
}

/// Two threads that serve are awake, and two touches wait.
fn two_touches() -> Scene {
    let scene = quiet();
    scene.touches.store(2, Relaxed);
    scene
}

fn quiet() -> Scene {
    let scene = one();
    scene.roster.begin();
    scene
}

/// One thread that serves is awake.
fn one() -> Scene {
    let zero = || AtomicU32::new(0);
    let roster = Roster::default();
    roster.begin();
    Scene { roster, touches: zero(), served: zero(), left: Cell::new(0), told: zero(), bell: zero() }
}

fn take(word: &AtomicU32) -> bool {
    word.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok()
}

/// Serves one touch, and leaves.
fn serve_one(scene: &Scene) {
    while !take(&scene.touches) {
        match scene.roster.lie_down() {
            Post::Sentry => {
                while scene.touches.load(Relaxed) == 0 {
                    loom::thread::yield_now();
                }
                scene.roster.rise();
            }
            Post::Bed => scene.roster.sleep(),
        }
    }
    scene.served.fetch_add(1, Relaxed);
    scene.roster.end();
}

/// The program touches two pages.
fn touch_twice(scene: &Scene) {
    scene.touches.fetch_add(1, Relaxed);
    scene.touches.fetch_add(1, Relaxed);
}

fn all_served(scene: &Scene) {
    assert_eq!(scene.served.load(Relaxed), 2);
    assert_eq!(scene.roster.awake_and_sentry(), (0, 0));
}

/// The thread that stays takes over when the sentry leaves.
#[test]
fn every_touch_is_served() {
    race(Some(3), quiet, &[touch_twice, serve_one, serve_one], all_served);
}

/// Does something else for a while, and then serves one touch.
fn step_aside_and_serve(scene: &Scene) {
    scene.roster.end();
    loom::thread::yield_now();
    scene.roster.begin();
    serve_one(scene);
}

/// A thread that does something else leaves the touches to one that it wakes if need be.
#[test]
fn touches_are_served_while_a_thread_does_something_else() {
    race(Some(3), two_touches, &[step_aside_and_serve, serve_one], all_served);
}

#[test]
fn touches_that_wait_are_served() {
    race(None, two_touches, &[serve_one, serve_one], all_served);
}

/// Goes to sleep until it is called, if another thread stays awake.
fn sleep_for_a_call(scene: &Scene) {
    if scene.roster.lie_down() == Post::Bed {
        scene.roster.sleep();
        assert_eq!(look(&scene.left), 1);
    } else {
        scene.roster.rise();
    }
    scene.roster.end();
}

/// Leaves something, and calls a thread if one sleeps.
fn leave_and_call(scene: &Scene) {
    put(&scene.left, 1);
    while scene.roster.call() == Reached::Nobody && scene.roster.awake_and_sentry().0 > 1 {
        loom::thread::yield_now();
    }
    scene.roster.end();
}

#[test]
fn a_thread_that_is_called_sees_what_for() {
    race(None, quiet, &[leave_and_call, sleep_for_a_call], |scene| {
        assert_eq!(scene.roster.awake_and_sentry(), (0, 0));
    });
}

/// Sleeps, unless it is told to leave after it lay down.
fn sleep_until_told(scene: &Scene) {
    loop {
        let post = scene.roster.lie_down();
        if scene.told.load(Relaxed) == 1 {
            scene.roster.stay_up(post);
            break;
        }
        match post {
            Post::Bed => scene.roster.sleep(),
            Post::Sentry => {
                while scene.bell.load(Acquire) == 0 {
                    loom::thread::yield_now();
                }
                scene.roster.rise();
            }
        }
        if scene.told.load(Relaxed) == 1 {
            break;
        }
    }
    scene.roster.end();
}

/// Tells all threads to leave.
fn tell_all(scene: &Scene) {
    scene.told.store(1, Relaxed);
    // System calls ring the bell and hear it, and they order what is before and after.
    scene.bell.store(1, Release);
    scene.roster.call_all();
}

/// Another thread stays awake, or there is none: the thread sleeps in either way.
#[test]
fn threads_that_are_told_to_leave_do_not_sleep_on() {
    race(None, quiet, &[tell_all, sleep_until_told], |scene| {
        assert_eq!(scene.roster.awake_and_sentry(), (1, 0));
    });
    race(None, one, &[tell_all, sleep_until_told], |scene| {
        assert_eq!(scene.roster.awake_and_sentry(), (0, 0));
    });
}

/// At most one thread looks for touches again and again.
#[test]
fn one_thread_looks_out() {
    fn look_out(scene: &Scene) {
        if scene.roster.look_out() {
            put(&scene.left, 1);
            scene.roster.end_look_out();
        }
        scene.roster.end();
    }
    race(None, quiet, &[look_out, look_out], |scene| assert_eq!(scene.roster.awake_and_sentry(), (0, 0)));
}
