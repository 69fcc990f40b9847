//! All protocols together: a thread looks up the address of a page and puts the page there, while an event takes
//! effect.

use super::{look, put, race};
use crate::pager::extents::{Extent, Extents};
use crate::pager::gate::Gate;
use crate::pager::page::StateWord;
use crate::pager::state::{PageKind, PageState};
use crate::sync::Cell;
use crate::units::PAGE;

const AT: usize = 8 * PAGE;
const REGION: usize = 1;

/// A region of one EMPTY page, and what is at its address.
struct Scene {
    extents: Extents,
    gate: Gate,
    page: StateWord,
    /// Whether a page of the region is mapped at the address.
    in_place: Cell<bool>,
    /// The region that the address belongs to, or another number.
    owner: Cell<usize>,
}

fn empty() -> Scene {
    let extents = Extents::new(1).unwrap();
    extents.add(Extent { start: AT, end: AT + PAGE, region: REGION, first: 0 }).unwrap();
    Scene {
        extents,
        gate: Gate::default(),
        page: StateWord::default(),
        in_place: Cell::new(false),
        owner: Cell::new(REGION),
    }
}

/// Serves a touch, once: maps a page of zeros.
fn touch(scene: &Scene) {
    let version = scene.extents.version();
    let Some(extent) = scene.extents.find(AT) else { return };
    let mut claim = scene.page.claim();
    let inside = scene.gate.enter_if(&scene.extents, version, (AT, AT + PAGE));
    if inside.is_some() && claim.was() == PageState::EMPTY {
        assert_eq!(look(&scene.owner), extent.region, "the address is somebody else's");
        put(&scene.in_place, true);
        claim.set(PageState::resident(0));
    }
}

/// Moves the page to the staging range, if it is resident.
fn evict(scene: &Scene) {
    let version = scene.extents.version();
    let Some(extent) = scene.extents.next(0) else { return };
    let seen = scene.page.peek();
    if seen.kind() != PageKind::Resident(0) {
        return;
    }
    let Some(mut claim) = scene.page.try_claim(seen) else { return };
    if let Some(_inside) = scene.gate.enter_if(&scene.extents, version, (AT, AT + PAGE)) {
        assert_eq!(look(&scene.owner), extent.region, "the address is somebody else's");
        assert!(look(&scene.in_place));
        put(&scene.in_place, false);
        claim.set(PageState::staged(3, seen));
    }
}

/// Reads a discard, and lets it take effect: the page goes from wherever it is.
fn discard(scene: &Scene) {
    let _closed = scene.gate.close();
    put(&scene.in_place, false);
    if scene.page.peek() != PageState::EMPTY {
        scene.page.claim().set(PageState::EMPTY);
    }
}

/// Unmaps the range: others map something there.
fn unmap(scene: &Scene) {
    let _closed = scene.gate.close();
    scene.extents.cut(AT, AT + PAGE);
    put(&scene.owner, 9);
    put(&scene.in_place, false);
    scene.page.claim().set(PageState::EMPTY);
}

/// Moves the range to other addresses: others map something where it was. The page is not touched.
fn move_away(scene: &Scene) {
    let _closed = scene.gate.close();
    scene.extents.cut(AT, AT + PAGE);
    scene.extents.add(Extent { start: 2 * AT, end: 2 * AT + PAGE, region: REGION, first: 0 }).unwrap();
    put(&scene.owner, 9);
}

/// A region whose page is stored.
fn stored() -> Scene {
    let scene = empty();
    scene.page.claim().set(PageState::stored(0, 0));
    scene
}

/// Serves a touch, once: brings the stored page back, or maps zeros.
fn touch_stored(scene: &Scene) {
    let version = scene.extents.version();
    let Some(extent) = scene.extents.find(AT) else { return };
    let mut claim = scene.page.claim();
    let inside = scene.gate.enter_if(&scene.extents, version, (AT, extent.end));
    if inside.is_some() {
        let old = claim.was().kind() == PageKind::Stored;
        assert!(!old || look(&scene.owner) == REGION, "what the owner gave back comes back");
        put(&scene.in_place, true);
        claim.set(PageState::resident(0));
    }
}

/// Reads a discard of many pages. This page is discarded with the gate open, and the range is shut until then.
fn discard_later(scene: &Scene) {
    let closed = scene.gate.close();
    let number = closed.shut(AT, AT + PAGE).unwrap();
    // The owner goes on. No old bytes may come back from here on.
    put(&scene.owner, 0);
    drop(closed);
    if scene.page.peek() != PageState::EMPTY {
        let mut claim = scene.page.claim();
        put(&scene.in_place, false);
        claim.set(PageState::EMPTY);
    }
    scene.gate.reopen(number);
}

/// Checks that the word says what is mapped.
fn check(scene: &Scene) {
    let resident = matches!(scene.page.peek().kind(), PageKind::Resident(_));
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
        assert_eq!(scene.page.peek(), PageState::EMPTY);
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
