//! Claims of a page's state word: one thread at a time has the page, and sees what the thread before did to it.

use super::{look, put, race};
use crate::pager::page::StateWord;
use crate::pager::state::{PageKind, PageState};
use crate::sync::Cell;

/// A page, and how often its bytes were moved.
struct Scene {
    page: StateWord,
    moved: Cell<u32>,
}

/// Resident, with an age of 2.
const RESIDENT: PageState = PageState::resident(2);

fn resident() -> Scene {
    let scene = Scene { page: StateWord::default(), moved: Cell::new(0) };
    scene.page.claim().set(RESIDENT);
    scene
}

fn one_more(scene: &Scene) {
    put(&scene.moved, look(&scene.moved) + 1);
}

/// Stages the page if it is resident, and brings it back if it is staged.
fn touch_or_stage(scene: &Scene) {
    let mut claim = scene.page.claim();
    one_more(scene);
    let to = match claim.was().kind() {
        PageKind::Staged(_) => PageState::resident(1),
        _ => PageState::staged(look(&scene.moved), claim.was()),
    };
    claim.set(to);
    assert_eq!(claim.becomes(), to);
}

#[test]
fn claims_one_after_another() {
    race(None, resident, &[touch_or_stage, touch_or_stage], |scene| {
        assert_eq!((look(&scene.moved), scene.page.peek()), (2, PageState::resident(1)));
    });
}

#[test]
fn claims_of_three() {
    race(Some(1), resident, &[touch_or_stage, touch_or_stage, touch_or_stage], |scene| {
        assert_eq!((look(&scene.moved), scene.page.peek().kind()), (3, PageKind::Staged(3)));
    });
}

/// A thread that sleeps until the end of a claim is woken, also if another thread claims the page before it looks.
#[test]
fn claims_that_are_waited_for() {
    fn twice(scene: &Scene) {
        touch_or_stage(scene);
        touch_or_stage(scene);
    }
    fn only_looks(scene: &Scene) {
        let staged = scene.page.claim_if(|state| matches!(state.kind(), PageKind::Staged(_)));
        if let Some(claim) = staged {
            assert!(matches!(claim.was().kind(), PageKind::Staged(_)));
        }
    }
    race(None, resident, &[twice, touch_or_stage], |scene| assert_eq!(look(&scene.moved), 3));
    race(Some(2), resident, &[twice, touch_or_stage, only_looks], |scene| assert_eq!(look(&scene.moved), 3));
}

/// A claim that fails leaves the word as it is.
#[test]
fn claims_that_are_only_tried() {
    fn hand(scene: &Scene) {
        let seen = scene.page.peek();
        if seen.kind() == PageKind::Resident(0)
            && let Some(mut claim) = scene.page.try_claim(seen)
        {
            assert_eq!(claim.was(), seen);
            one_more(scene);
            claim.set(PageState::staged(7, claim.was()));
        }
    }
    race(Some(3), resident, &[hand, hand, hand], |scene| {
        assert_eq!((look(&scene.moved), scene.page.peek()), (1, PageState::staged(7, RESIDENT)));
    });
}

/// A claim that is dropped without a new state leaves the word as it was, and never overwrites another claim's.
#[test]
fn a_claim_that_is_dropped() {
    fn gives_up(scene: &Scene) {
        let claim = scene.page.claim();
        assert_eq!(claim.becomes(), claim.was());
        look(&scene.moved);
    }
    race(None, resident, &[gives_up, touch_or_stage], |scene| {
        assert_eq!((look(&scene.moved), scene.page.peek()), (1, PageState::staged(1, RESIDENT)));
    });
}

/// A thread that wants a page only if it still is in its slot waits for another thread's claim, and never gets a page
/// in another state.
#[test]
fn a_staged_page_is_compressed_or_touched() {
    fn staged() -> Scene {
        let scene = resident();
        scene.page.claim().set(PageState::staged(5, RESIDENT));
        scene
    }
    fn compress(scene: &Scene) {
        if let Some(mut claim) = scene.page.claim_if(|state| state.kind() == PageKind::Staged(5)) {
            assert_eq!(claim.was().kind(), PageKind::Staged(5));
            one_more(scene);
            claim.set(PageState::stored(claim.was().age(), 0));
        }
    }
    fn touch(scene: &Scene) {
        let mut claim = scene.page.claim();
        one_more(scene);
        claim.set(PageState::resident(1));
    }
    fn refused(scene: &Scene) {
        let claim = scene.page.claim();
        look(&scene.moved);
        drop(claim);
    }
    race(None, staged, &[compress, touch], |scene| {
        assert!(matches!(look(&scene.moved), 1 | 2));
        assert_eq!(scene.page.peek(), PageState::resident(1));
    });
    race(None, staged, &[compress, refused], |scene| {
        assert_eq!((look(&scene.moved), scene.page.peek()), (1, PageState::stored(2, 0)));
    });
}

/// The clock hand changes the age of pages that others claim. No claim is overwritten, and each claim sees what the one
/// before did.
#[test]
fn the_hand_passes_by() {
    fn hand(scene: &Scene) {
        for _ in 0..2 {
            let seen = scene.page.peek();
            if seen.kind() == PageKind::Resident(0) && seen.age() > 0 {
                scene.page.grow_older(seen);
            }
        }
    }
    race(None, resident, &[hand, touch_or_stage], |scene| {
        let staged = scene.page.peek();
        assert_eq!((look(&scene.moved), staged.kind()), (1, PageKind::Staged(1)));
    });
    race(
        Some(2),
        resident,
        &[
            hand,
            |scene| {
                let mut claim = scene.page.claim();
                one_more(scene);
                claim.set(RESIDENT);
            },
            |scene| {
                let claim = scene.page.claim();
                look(&scene.moved);
                drop(claim);
            },
        ],
        |scene| {
            assert_eq!((look(&scene.moved), scene.page.peek().kind()), (1, PageKind::Resident(0)));
        },
    );
}
