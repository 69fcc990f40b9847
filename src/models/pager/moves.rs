//! All of it together: a page is put in its place by a thread that looked its address up before, while an event takes
//! effect.

use super::{look, put, race};
use crate::pager::extents::{Extent, Extents};
use crate::pager::gate::Gate;
use crate::pager::page::Page;
use crate::pager::word::{Kind, State};
use crate::sync::Cell;
use crate::units::PAGE;

const AT: usize = 8 * PAGE;
const REGION: usize = 1;

/// A region of one page, which has nothing, and what is at its address.
struct Scene {
    extents: Extents,
    gate: Gate,
    page: Page,
    /// Whether the address has a page of the region's.
    in_place: Cell<bool>,
    /// Whose the address is.
    owner: Cell<usize>,
}

fn empty() -> Scene {
    let extents = Extents::new(1).unwrap();
    extents.add(Extent { start: AT, end: AT + PAGE, region: REGION, first: 0 }).unwrap();
    Scene {
        extents,
        gate: Gate::default(),
        page: Page::default(),
        in_place: Cell::new(false),
        owner: Cell::new(REGION),
    }
}

/// Serves a touch, once: a page of zeros comes to its place.
fn touch(scene: &Scene) {
    let version = scene.extents.version();
    let Some(extent) = scene.extents.find(AT) else { return };
    let mut claim = scene.page.claim();
    let inside = scene.gate.enter_if(&scene.extents, version, (AT, AT + PAGE));
    if inside.is_some() && claim.was() == State::EMPTY {
        assert_eq!(look(&scene.owner), extent.region, "the address is somebody else's");
        put(&scene.in_place, true);
        claim.set(State::resident(0));
    }
}

/// Moves the page away, if it is there.
fn evict(scene: &Scene) {
    let version = scene.extents.version();
    let Some(extent) = scene.extents.next(0) else { return };
    let seen = scene.page.peek();
    if seen.kind() != Kind::Resident(0) {
        return;
    }
    let Some(mut claim) = scene.page.try_claim(seen) else { return };
    if let Some(_inside) = scene.gate.enter_if(&scene.extents, version, (AT, AT + PAGE)) {
        assert_eq!(look(&scene.owner), extent.region, "the address is somebody else's");
        assert!(look(&scene.in_place));
        put(&scene.in_place, false);
        claim.set(State::staged(3, seen));
    }
}

/// A discard is read, and takes effect: the page goes from wherever it is.
fn discard(scene: &Scene) {
    let _closed = scene.gate.close();
    put(&scene.in_place, false);
    if scene.page.peek() != State::EMPTY {
        scene.page.claim().set(State::EMPTY);
    }
}

/// The owner unmaps the range, and others map something there.
fn unmap(scene: &Scene) {
    let _closed = scene.gate.close();
    scene.extents.cut(AT, AT + PAGE);
    put(&scene.owner, 9);
    put(&scene.in_place, false);
    scene.page.claim().set(State::EMPTY);
}

/// The owner moves the range to other addresses, and others map something where it was. No page is touched.
fn move_away(scene: &Scene) {
    let _closed = scene.gate.close();
    scene.extents.cut(AT, AT + PAGE);
    scene.extents.add(Extent { start: 2 * AT, end: 2 * AT + PAGE, region: REGION, first: 0 }).unwrap();
    put(&scene.owner, 9);
}

/// A page that is stored.
fn stored() -> Scene {
    let scene = empty();
    scene.page.claim().set(State::stored(0, 0));
    scene
}

/// Serves a touch, once: what is stored comes back, or the page reads as zero.
fn touch_stored(scene: &Scene) {
    let version = scene.extents.version();
    let Some(extent) = scene.extents.find(AT) else { return };
    let mut claim = scene.page.claim();
    let inside = scene.gate.enter_if(&scene.extents, version, (AT, extent.end));
    if inside.is_some() {
        let old = claim.was().kind() == Kind::Stored;
        assert!(!old || look(&scene.owner) == REGION, "what the owner gave back comes back");
        put(&scene.in_place, true);
        claim.set(State::resident(0));
    }
}

/// A discard of many pages is read. This page is seen to with the gate open, and the range is shut until then.
fn discard_later(scene: &Scene) {
    let closed = scene.gate.close();
    let number = closed.shut(AT, AT + PAGE).unwrap();
    // The owner goes on. Nothing that was there may come back.
    put(&scene.owner, 0);
    drop(closed);
    if scene.page.peek() != State::EMPTY {
        let mut claim = scene.page.claim();
        put(&scene.in_place, false);
        claim.set(State::EMPTY);
    }
    scene.gate.reopen(number);
}

/// The word says what is there.
fn check(scene: &Scene) {
    let resident = matches!(scene.page.peek().kind(), Kind::Resident(_));
    assert_eq!(look(&scene.in_place), resident);
}

#[test]
fn touched_while_a_discard_takes_effect() {
    race(Some(3), empty, &[discard, touch], check);
}

#[test]
fn touched_while_a_discard_takes_effect_later() {
    race(Some(3), stored, &[discard_later, touch_stored], check);
}

#[test]
fn touched_twice_while_a_discard_takes_effect_later() {
    race(Some(1), stored, &[discard_later, touch_stored, touch_stored], check);
}

#[test]
fn touched_while_it_is_unmapped() {
    race(Some(2), empty, &[unmap, touch], |scene| {
        check(scene);
        assert_eq!(scene.page.peek(), State::EMPTY);
    });
}

#[test]
fn touched_while_it_is_moved_away() {
    race(Some(3), empty, &[move_away, touch], check);
}

#[test]
fn touched_and_evicted_while_a_discard_takes_effect() {
    race(Some(2), empty, &[discard, touch, evict], check);
}
