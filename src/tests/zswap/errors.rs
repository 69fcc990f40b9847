//! What each failure of a zswap's calls is, so that programs can match it.

use super::{compressible, load, noise, take, with_area};
use crate::os::Os;
use crate::zswap::extents::format;
use crate::{AreaOptions, Error, Limit, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions};
use std::os::fd::AsFd;

#[test]
fn a_limit_says_which_it_is() {
    let zswap = Zswap::new("test", &ZswapOptions { max_bytes: Some(1 << 20), ..ZswapOptions::default() }).unwrap();
    let small = zswap.add_area(1000, &AreaOptions { max_bytes: Some(64 << 10), ..AreaOptions::default() }).unwrap();
    let large = zswap.add_area(1000, &AreaOptions::default()).unwrap();
    let fill = |area: &crate::Area| (0..1000).find_map(|offset| area.store(offset, &noise(offset)).err());
    assert_eq!((small.refused_by(), large.refused_by()), (None, None));
    assert_eq!(fill(&small), Some(Error::Limit(Limit::Area)));
    assert_eq!((small.refused_by(), large.refused_by()), (Some(Limit::Area), None));
    assert_eq!(fill(&large), Some(Error::Limit(Limit::Zswap)));
    assert_eq!((small.refused_by(), large.refused_by()), (Some(Limit::Zswap), Some(Limit::Zswap)));
    assert_eq!(large.store_pages(0, &[noise(1), noise(2)]), Err(Error::Limit(Limit::Zswap)));
    large.invalidate(0, 1000, Patience::Wait).unwrap();
    assert_eq!((small.refused_by(), large.refused_by()), (Some(Limit::Area), None));
    assert_eq!(small.store_pages(0, &[noise(1), noise(2)]), Err(Error::Limit(Limit::Area)));
}

/// The limit of the pool is met only where that of the zswap is far above it.
#[test]
fn the_pools_limit_says_so() {
    let mut options = ZswapOptions::default();
    options.tuning.pool.max_bytes = Some(1 << 20);
    let (_zswap, area) = with_area(1000, &options);
    let full = (0..1000).find_map(|offset| area.store(offset, &noise(offset)).err());
    assert!(matches!(full, Some(Error::Limit(Limit::Pool | Limit::Addresses | Limit::Tables))), "{full:?}");
    assert_eq!(area.refused_by(), None);
}

#[test]
fn an_area_that_was_removed_says_so_to_each_call() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    area.store(1, &compressible(1)).unwrap();
    let clone = area.clone();
    area.remove().unwrap();
    let mut page = [0; PAGE_SIZE];
    let removed = [
        clone.store(1, &page),
        clone.store_pages(1, &[page]),
        clone.load(1, &mut page, LoadFlags::KEEP),
        clone.invalidate(1, 1, Patience::Wait),
        clone.claim(&mut page).map(drop),
        clone.stats().map(drop),
        clone.set_limit(None),
        clone.note_refaults(1),
        clone.reclaimable_pages().map(drop),
        clone.remove(),
    ];
    assert_eq!(removed, [Err(Error::Removed); 10]);
    zswap.set_writeback(|_, _, _| Ok(())).unwrap();
    assert_eq!(clone.shrink(1), Err(Error::Removed));
    assert_eq!((clone.stored().next(), clone.usage().used_bytes, zswap.reclaimable_pages()), (None, 0, Ok(0)));
}

#[test]
fn offsets_past_the_end_and_missing_pages_say_so() {
    let (_zswap, area) = with_area(10, &ZswapOptions::default());
    let mut page = [0; PAGE_SIZE];
    let past_end = [
        area.store(10, &page),
        area.store_pages(9, &[page, page]),
        area.load(10, &mut page, LoadFlags::TAKE),
        area.invalidate(5, 6, Patience::Wait),
    ];
    assert!(past_end.iter().all(|refused| matches!(refused, Err(Error::OutOfRange(_)))), "{past_end:?}");
    assert!(matches!(load(&area, 9), Err(Error::NotFound(_))) && matches!(take(&area, 9), Err(Error::NotFound(_))));
}

#[test]
fn a_page_that_its_file_has_damaged_and_a_file_that_cannot_be_read_are_told_apart() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    let file = std::fs::File::from(Os::default().memory_file("backing", 0, false).unwrap());
    zswap.set_backing_file(Some((file.as_fd(), 1 << 20))).unwrap();
    area.store(1, &compressible(1)).unwrap();
    assert_eq!(area.shrink(1), Ok(1));
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", format::FIRST_ENTRY as u64 + 10).unwrap();
    let Err(Error::Io(damaged)) = load(&area, 1) else { panic!("the bytes are wrong") };
    file.set_len(0).unwrap();
    let Err(Error::Io(unreadable)) = load(&area, 1) else { panic!("there are no bytes") };
    assert_ne!(damaged.to_string(), unreadable.to_string());
}

#[test]
fn a_shrink_with_nowhere_to_write_to_says_what_to_do() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    for refused in [zswap.shrink(1), area.shrink(1)] {
        let Err(Error::Invalid(sentence)) = refused else { panic!("{refused:?}") };
        assert!(sentence.contains("set one") && sentence.contains("claim pages"), "{sentence}");
    }
}
