//! Time that passes for a page: its age is of the version, and no writeback, store or load is mistaken because of it.

use super::orders::Start;
use super::{Numbers, Op, Scene, race};
use crate::zswap::page::KeptAs;
use crate::zswap::word::PageWord;
use loom::sync::Arc;
use loom::thread;

macro_rules! programs {
    ($($name:ident, $most:literal, $own_file:literal: $($thread:expr),*;)*) => {$(
        #[test]
        fn $name() {
            race(Some($most), Start::Stored, $own_file, &[$(&$thread),*]);
        }
    )*};
}

programs! {
    age_vs_load_and_take, 3, false: [Op::Age, Op::Age], [Op::Load, Op::Take];
    age_vs_store, 3, false: [Op::Age, Op::Age], [Op::Store(201)];
    age_vs_writeback, 3, false: [Op::Age, Op::Age], [Op::Written];
    age_vs_failed_writeback, 3, false: [Op::Age, Op::Age], [Op::Refused, Op::Written];
    age_writeback_store, 2, false: [Op::Age], [Op::Written], [Op::Store(201)];
    age_writeback_invalidate, 2, false: [Op::Age], [Op::Written], [Op::Invalidate];
    age_writeback_load, 2, false: [Op::Age], [Op::Written], [Op::Load];
    age_vs_writeback_to_an_extent, 3, true: [Op::Age, Op::Age], [Op::Written, Op::Clean];
}

/// The end of a writeback learns that the page was loaded meanwhile, also if time passed after the load.
#[test]
fn time_passes_by_a_page_that_is_being_written_back() {
    loom::model(|| {
        let scene = Arc::new(Scene::new([Start::Stored, Start::Empty], false, Numbers::Apart));
        let (claimed, pinned) = scene.page(0).find_and_claim(&scene.heap, 1, false, |_, _| true).expect("nobody else");
        let other = scene.clone();
        let time = thread::spawn(move || other.run(other.page(0), Op::Age));
        scene.run(scene.page(0), Op::Load);
        assert_eq!(scene.page(0).acknowledge(claimed, PageWord::EMPTY), Err(KeptAs::Rescued));
        drop(pinned);
        time.join().unwrap();
        scene.end();
    });
}

/// A page is as old as time passed for it since it was used: a store and a load begin anew.
#[test]
fn a_page_that_is_used_is_young() {
    loom::model(|| {
        let scene = Arc::new(Scene::new([Start::Stored, Start::Empty], false, Numbers::Apart));
        (0..4).for_each(|_| _ = scene.run(scene.page(0), Op::Age));
        assert_eq!(scene.page(0).peek().age(), 3);
        let other = scene.clone();
        let time = thread::spawn(move || other.run(other.page(0), Op::Age));
        scene.run(scene.page(0), Op::Load);
        time.join().unwrap();
        // Time passed before the load or after it.
        assert_eq!(scene.page(0).peek().age(), 0);
        let other = scene.clone();
        let time = thread::spawn(move || other.run(other.page(0), Op::Age));
        scene.run(scene.page(0), Op::Store(201));
        time.join().unwrap();
        assert_eq!(scene.page(0).peek().age(), 0);
    });
}
