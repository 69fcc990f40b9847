//! The clock hand: a page that becomes held stays writable whatever a thread that picks pages does, and each address is
//! looked at by one thread on each way around.

use super::race;
use crate::pager::extents::{Extent, Extents};
use crate::pager::hand::Hand;
use crate::pager::page::StateWord;
use crate::pager::state::{PageKind, PageState};
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::units::PAGE;

const LANES: usize = 2;
const PAGES: usize = 4;

/// A page between picked ones, and whether the system has it protected from writes.
struct Held {
    hand: Hand,
    page: StateWord,
    protected: AtomicU32,
}

fn resident() -> Held {
    let scene = Held { hand: Hand::new(LANES).unwrap(), page: StateWord::default(), protected: AtomicU32::new(0) };
    scene.page.claim().set(PageState::resident(0));
    scene
}

/// Picks neighbours of the page, and protects what lies between unless the page is held.
fn protect_from(scene: &Held, lane: usize) {
    let lane = scene.hand.lane_from(lane);
    if scene.page.peek().kind() == PageKind::Resident(0) {
        // Relaxed: the system orders its own changes, and nothing else.
        scene.protected.store(1, Relaxed);
    }
    drop(lane);
}

fn hold(scene: &Held) {
    let mut claim = scene.page.claim();
    claim.set(claim.was().with_holds(1));
    drop(claim);
    scene.hand.wait_for_lanes();
    scene.protected.store(0, Relaxed);
}

#[test]
fn a_held_page_is_not_protected() {
    let writable = |scene: &Held| assert_eq!(scene.protected.load(Relaxed), 0);
    race(None, resident, &[|scene| protect_from(scene, 0), hold], writable);
    race(None, resident, &[|scene| protect_from(scene, 1), hold], writable);
    race(Some(2), resident, &[|scene| protect_from(scene, 0), |scene| protect_from(scene, 1), hold], writable);
}

/// An extent, and how often each of its pages was looked at.
struct Lap {
    hand: Hand,
    extents: Extents,
    looked: [AtomicU32; PAGES],
}

fn at_the_start() -> Lap {
    let extents = Extents::new(1).unwrap();
    extents.add(Extent { start: PAGE, end: (1 + PAGES) * PAGE, region: 0, first: 0 }).unwrap();
    Lap { hand: Hand::new(LANES).unwrap(), extents, looked: std::array::from_fn(|_| AtomicU32::new(0)) }
}

fn look(scene: &Lap, from: usize, end: usize) {
    (from..end).step_by(PAGE).for_each(|at| {
        scene.looked[at / PAGE - 1].fetch_add(1, Relaxed);
    });
}

/// A thread that takes two stretches, one behind the other.
fn two(scene: &Lap, lane: usize) {
    let lane = scene.hand.lane_from(lane);
    let first = scene.hand.take(&scene.extents, &lane).unwrap();
    look(scene, first.from, first.end);
    let next = scene.hand.take_next(&first, &lane).or_else(|| scene.hand.take(&scene.extents, &lane)).unwrap();
    look(scene, next.from, next.end);
}

#[test]
fn each_page_is_looked_at_once_on_a_way_around() {
    race(Some(3), at_the_start, &[|scene| two(scene, 0), |scene| two(scene, 1)], |scene| {
        scene.looked.iter().for_each(|looked| assert_eq!(looked.load(Relaxed), 1));
    });
}

/// A thread that has enough gives a stretch back, and another one looks there, unless that went on before.
#[test]
fn what_is_given_back_is_looked_at() {
    fn gives_back(scene: &Lap) {
        let lane = scene.hand.lane_from(0);
        let stretch = scene.hand.take(&scene.extents, &lane).unwrap();
        if !scene.hand.give_back(&stretch, stretch.from) {
            look(scene, stretch.from, stretch.end);
        }
    }
    race(Some(3), at_the_start, &[gives_back, |scene| two(scene, 1)], |scene| {
        let looked: u32 = scene.looked.iter().map(|looked| looked.load(Relaxed)).sum();
        assert!(matches!(looked, 2 | 3));
        let first = scene.looked[0].load(Relaxed);
        assert_eq!((first, looked), (1, looked), "the first page is looked at once");
    });
}
