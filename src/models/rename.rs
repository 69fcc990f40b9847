//! Models of an object that gets another handle index: the product's pool, and the product's page word, which names the
//! object by its handle.

use super::{MOVES, Scene, WRITTEN, check, look, object, race_of, unmap};
use crate::pool::{MapMode, Pool};
use crate::sync::AtomicU64;
use crate::units::Place;
use crate::zswap::page::{Objects, PageCell};
use crate::zswap::word::{PageWord, WordKind};

/// A page whose entry is the object that moves.
struct Page {
    scene: Scene,
    word: AtomicU64,
}

/// An object that the model keeps pinned until this is dropped.
struct Pinned<'a> {
    pool: &'a Pool,
    handle: u64,
    place: Place,
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        unmap(self.pool, self.handle);
    }
}

/// The pool, as page words name its objects.
struct Named<'a>(&'a Pool);

impl Objects for Named<'_> {
    type Pinned<'a>
        = Pinned<'a>
    where
        Self: 'a;

    fn pin(&self, short_handle: u64) -> Option<Pinned<'_>> {
        let handle = self.0.long_handle(short_handle);
        let place = self.0.pin(handle, MapMode::Read).ok()?;
        Some(Pinned { pool: self.0, handle, place })
    }
}

impl Page {
    fn new() -> Self {
        let scene = Scene::new();
        let word = PageWord::stored(Pool::short_handle(scene.moves), false);
        Self { scene, word: AtomicU64::new(word.0) }
    }

    fn cell(&self) -> PageCell<'_> {
        PageCell(&self.word)
    }

    fn pool(&self) -> &Pool {
        &self.scene.pool
    }

    /// Loads the page, which has its first value, a newer one, or is gone.
    fn load(&self) {
        let named = Named(self.pool());
        let (_, pinned) = self.cell().find(&named);
        if let Some(pinned) = pinned {
            let value = look(self.pool(), pinned.place);
            assert!(value == MOVES || value == WRITTEN, "loaded {value:#x}");
        }
    }

    /// Renames the object, as compaction does, unless it is in use.
    fn rename(&self) {
        let pool = self.pool();
        let named = Named(pool);
        let (word, Some(pinned)) = self.cell().find(&named) else { return };
        let to = pool.memory.fetch_handle().unwrap();
        let replace = |handle| self.cell().rename(word, Pool::short_handle(handle));
        if !pool.rename(pinned.handle, to, replace).unwrap() {
            pool.memory.leave_handle(to);
        }
    }

    fn discard(&self, old: PageWord) {
        if let WordKind::Stored(handle) = old.kind() {
            assert!(self.scene.free(self.pool().long_handle(handle)), "freed once");
        }
    }

    fn invalidate(&self) {
        self.discard(self.cell().remove());
    }

    fn store(&self) {
        let new = PageWord::stored(Pool::short_handle(object(self.pool(), WRITTEN)), false);
        self.discard(self.cell().publish(new).unwrap());
    }

    fn take(&self) {
        loop {
            let named = Named(self.pool());
            let (seen, pinned) = self.cell().find(&named);
            if seen.kind() == WordKind::Empty {
                return;
            }
            let taken = self.cell().take(seen, true);
            drop(pinned);
            if let Ok(old) = taken {
                return self.discard(old);
            }
        }
    }

    /// Writes the page back, unless it was renamed meanwhile: then the claim fails.
    fn write_back(&self) {
        let named = Named(self.pool());
        let read = |_: PageWord, pinned: &Pinned<'_>| look(self.pool(), pinned.place) != 0;
        let Some((claimed, pinned)) = self.cell().find_and_claim(&named, 1, false, read) else { return };
        // The object stays as it was while the page is claimed, under the handle of the claim.
        assert!(matches!(look(self.pool(), pinned.place), MOVES | WRITTEN));
        // Nobody else uses or replaces the page, and no claimed page is renamed.
        assert!(self.cell().acknowledge(claimed, PageWord::EMPTY).is_ok());
        self.discard(claimed);
    }

    /// Checks that the page names its object, which has its bytes, and that the pool is whole.
    fn end(&self) {
        let word = self.cell().peek();
        assert!(!word.has_writeback());
        if let WordKind::Stored(handle) = word.kind() {
            let value = self.scene.read(self.pool().long_handle(handle)).expect("the page has its object");
            assert!(value == MOVES || value == WRITTEN);
        }
        check(self.pool());
    }
}

fn race(preemptions: Option<usize>, threads: &'static [fn(&Page)]) {
    race_of(preemptions, Page::new, threads, Page::end);
}

#[test]
fn load() {
    race(None, &[Page::rename, Page::load]);
}

#[test]
fn invalidate() {
    race(None, &[Page::rename, Page::invalidate]);
}

#[test]
fn take() {
    race(None, &[Page::rename, Page::take]);
}

#[test]
fn store() {
    race(Some(3), &[Page::rename, Page::store]);
}

#[test]
fn write_back() {
    race(None, &[Page::rename, Page::write_back]);
}

/// A reader may still have the object under its first handle when it is to get a third one.
#[test]
fn again() {
    race(Some(3), &[Page::load, |page| (0..2).for_each(|_| page.rename())]);
}

#[test]
fn again_and_invalidate() {
    race(Some(2), &[Page::load, Page::invalidate, |page| (0..2).for_each(|_| page.rename())]);
}

/// Compaction moves the object that is renamed.
#[test]
fn mover() {
    race(Some(3), &[Page::rename, |page| page.scene.move_source()]);
}

/// A reader has the object under its old handle while a mover finds its new one.
#[test]
fn load_and_mover() {
    race(Some(2), &[Page::load, |page| page.scene.move_source(), Page::rename]);
}

/// The page goes while a reader has its object under the old handle.
#[test]
fn load_and_invalidate() {
    race(Some(2), &[Page::load, Page::invalidate, Page::rename]);
}

#[test]
fn load_and_store() {
    race(Some(2), &[Page::load, Page::store, Page::rename]);
}
