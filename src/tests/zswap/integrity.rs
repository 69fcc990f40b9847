//! Damage is found before anything is decoded, and no page passes for another.

use super::{PageBytes, compressible, load, noise, take, with_area, with_disk};
use crate::os::Os;
use crate::zswap::extents::format;
use crate::zswap::word::WordKind;
use crate::{Area, AreaOptions, Codec, Error, Limit, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions, ZswapTuning};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

const BEFORE: u8 = 0x3c;

/// Checks that a load fails because of damage, in the pool or on the file, and leaves its destination and the page
/// alone.
#[track_caller]
fn assert_refused(area: &Area, offset: u64, flags: LoadFlags) {
    let mut page = [BEFORE; PAGE_SIZE];
    let word = area.word_at(offset);
    let result = area.load(offset, &mut page, flags);
    match word.kind() {
        WordKind::Backed(_) => assert!(matches!(result, Err(Error::Io(_))), "{result:?}"),
        _ => assert!(matches!(result, Err(Error::Damaged(_))), "{result:?}"),
    }
    assert!(page == [BEFORE; PAGE_SIZE], "the destination of a load that failed was written");
    assert!(area.word_at(offset).is_version_of(word), "the page went");
}

/// Returns the bytes of the entry in an object, as its header says.
fn entry_bytes(object: &[u8]) -> usize {
    object.len() - usize::from(object[4] & 63)
}

/// Returns the object of a page, to be damaged.
#[allow(clippy::mut_from_ref, reason = "the test alone knows of the object while it holds this")]
fn object(area: &Area, offset: u64) -> &mut [u8] {
    let (at, bytes) = area.object_of(offset).unwrap();
    // SAFETY: the test is one thread, which does not free, move or read the object while it uses the slice.
    unsafe { std::slice::from_raw_parts_mut(at, bytes) }
}

fn flip_every_bit(codec: Codec, page: &PageBytes) {
    let (zswap, area) = with_area(100, &ZswapOptions { codec, ..ZswapOptions::default() });
    area.store(7, page).unwrap();
    let slot = object(&area, 7);
    let entry = entry_bytes(slot);
    for bit in 0..slot.len() * 8 {
        slot[bit / 8] ^= 1 << (bit % 8);
        if bit < entry * 8 {
            assert_refused(&area, 7, LoadFlags::KEEP);
        } else if bit % 61 == 0 {
            assert!(load(&area, 7) == Ok(*page), "what lies behind the entry does not matter");
        }
        slot[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(area.stats().unwrap().counts.decode_failures, entry as u64 * 8);
    assert!(take(&area, 7) == Ok(*page));
    assert_eq!(zswap.pool().stats().unwrap().objects, 0);
}

#[test]
fn every_bit_of_an_lz4_object() {
    flip_every_bit(Codec::Lz4, &compressible(1));
}

#[test]
fn damage_to_any_bit_of_a_zstd_object_is_found() {
    flip_every_bit(Codec::Zstd(3), &compressible(2));
}

#[test]
fn damage_to_any_bit_of_a_raw_object_is_found() {
    flip_every_bit(Codec::Lz4, &noise(3));
}

#[test]
fn every_other_value_of_each_byte_of_the_header_is_refused() {
    let (_zswap, area) = with_area(100, &ZswapOptions::default());
    area.store(0, &compressible(4)).unwrap();
    for byte in &mut object(&area, 0)[..5] {
        let right = *byte;
        for wrong in (0..=255).filter(|&value| value != right) {
            *byte = wrong;
            assert_refused(&area, 0, LoadFlags::TAKE);
        }
        *byte = right;
    }
    assert!(load(&area, 0) == Ok(compressible(4)));
}

/// A damaged page is passed by: it is not written back, not recompressed, not claimed.
#[test]
fn damage_is_not_passed_on() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    let disk = with_disk(&zswap);
    area.store(3, &compressible(1)).unwrap();
    area.store(4, &compressible(2)).unwrap();
    object(&area, 3)[20] ^= 1;
    assert_eq!(area.recompress(10, Codec::Zstd(5)), Ok(0), "both were just stored");
    assert_eq!(area.recompress(10, Codec::Zstd(5)), Ok(1));
    assert_eq!(area.shrink(10), Ok(1));
    assert!(disk.lock().unwrap().keys().eq([&(area.id(), 4)]));
    let mut page = [BEFORE; PAGE_SIZE];
    assert!(area.claim(&mut page).unwrap().is_none() && zswap.claim(&mut page).unwrap().is_none());
    assert!(page == [BEFORE; PAGE_SIZE]);
    assert!(area.stats().unwrap().counts.decode_failures >= 3);
    assert!(matches!(area.shrink(1), Err(Error::Again(_))));
    object(&area, 3)[20] ^= 1;
    assert!(load(&area, 3) == Ok(compressible(1)), "the copy stayed");
    object(&area, 3)[20] ^= 1;
    area.store(3, &compressible(5)).unwrap();
    assert!(load(&area, 3) == Ok(compressible(5)), "a damaged page can be replaced");
    object(&area, 3)[20] ^= 1;
    area.invalidate(3, 1, Patience::Wait).unwrap();
    assert_eq!((area.stats().unwrap().used_bytes, zswap.pool().stats().unwrap().objects), (0, 0));
}

/// Exchanges two words, so that each names the page of the other.
fn exchange(one: (&Area, u64), other: (&Area, u64)) {
    let (first, second) = (one.0.word_at(one.1), other.0.word_at(other.1));
    one.0.set_word_at(one.1, second);
    other.0.set_word_at(other.1, first);
}

/// Checks that any two of these pages are refused when they are exchanged, and come back when exchanged again.
fn assert_told_apart(pages: &[(&Area, u64)]) {
    for (at, &one) in pages.iter().enumerate() {
        for &other in &pages[at + 1..] {
            let (first, second) = (load(one.0, one.1).unwrap(), load(other.0, other.1).unwrap());
            exchange(one, other);
            for (area, offset) in [one, other] {
                assert_refused(area, offset, LoadFlags::KEEP);
                assert_refused(area, offset, LoadFlags::TAKE);
            }
            exchange(one, other);
            assert!(load(one.0, one.1) == Ok(first) && load(other.0, other.1) == Ok(second));
        }
    }
}

/// Makes two areas with pages at offsets that are easily taken for each other. All pages hold the same bytes.
fn twins(zswap: &Zswap, one: &Area) -> (Area, Vec<u64>) {
    let offsets = vec![0, 1, 2, 511, 512, 1 << 16, 1 << 20, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 1 << 33];
    let other = zswap.add_area(one.pages(), &AreaOptions::default()).unwrap();
    for area in [one, &other] {
        offsets.iter().for_each(|&offset| area.store(offset, &compressible(9)).unwrap());
    }
    (other, offsets)
}

#[test]
fn exchanged_objects_are_told_apart() {
    let (zswap, one) = with_area(1 << 34, &ZswapOptions::default());
    let (other, offsets) = twins(&zswap, &one);
    let pages: Vec<_> = [&one, &other].iter().flat_map(|&area| offsets.iter().map(move |&at| (area, at))).collect();
    assert_told_apart(&pages);
}

fn file() -> File {
    File::from(Os::default().memory_file("backing", 0, false).unwrap())
}

#[test]
fn exchanged_file_pages_are_told_apart() {
    let (zswap, one) = with_area(1 << 34, &ZswapOptions::default());
    let file = file();
    zswap.set_backing_file(Some((file.as_fd(), 1 << 20))).unwrap();
    let (other, offsets) = twins(&zswap, &one);
    one.store(77, &compressible(9)).unwrap();
    assert_eq!(zswap.shrink(1000), Ok(2 * offsets.len() as u64 + 1));
    one.store(3, &compressible(9)).unwrap();
    let mut pages: Vec<_> = [&one, &other].iter().flat_map(|&area| offsets.iter().map(move |&at| (area, at))).collect();
    // One page in the pool, and one on the file.
    pages.push((&one, 3));
    assert_told_apart(&pages);
}

#[test]
fn damage_to_any_byte_of_a_page_on_the_file_is_found() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    let file = file();
    zswap.set_backing_file(Some((file.as_fd(), 16 * PAGE_SIZE as u64))).unwrap();
    area.store(0, &compressible(1)).unwrap();
    area.store(1, &noise(2)).unwrap();
    assert_eq!(zswap.shrink(2), Ok(2));
    let mut extent = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut extent, 0).unwrap();
    let entries: Vec<_> = format::entries(&extent, 2).map(|(_, entry)| entry.to_vec()).collect();
    let (mut place, mut bytes) = (format::FIRST_ENTRY as u64, 0);
    for (offset, page) in [compressible(1), noise(2)].iter().enumerate() {
        for (at, &byte) in entries[offset].iter().enumerate() {
            file.write_at(&[byte ^ 1 << (at % 8)], place).unwrap();
            zswap.forget_reads();
            let flags = if at % 2 == 0 { LoadFlags::KEEP } else { LoadFlags::TAKE };
            assert_refused(&area, offset as u64, flags);
            file.write_at(&[byte], place).unwrap();
            place += 1;
        }
        bytes += entries[offset].len() as u64;
        assert!(load(&area, offset as u64) == Ok(*page));
    }
    assert_eq!(area.stats().unwrap().counts.file_read_failures, bytes);
    file.set_len(PAGE_SIZE as u64 + 100).unwrap();
    zswap.forget_reads();
    assert!(matches!(load(&area, 1), Err(Error::Io(_))), "a file that ends too early can't be read");
    area.store(1, &noise(3)).unwrap();
    assert!(load(&area, 1) == Ok(noise(3)), "what can't be read can be replaced");
}

#[test]
fn destinations_never_show_other_pages() {
    let (_zswap, area) = with_area(100, &ZswapOptions::default());
    let mut page = noise(1);
    area.store(0, &page).unwrap();
    // An entry that is shorter than what its slot, its context and its destination held before.
    for (round, next) in [compressible(2), [0; PAGE_SIZE], [0x11; PAGE_SIZE], noise(4)].iter().enumerate() {
        area.invalidate(0, 1, Patience::Wait).unwrap();
        assert!(matches!(area.load(0, &mut page, LoadFlags::KEEP), Err(Error::NotFound(_))));
        assert!(round == 0 || page != *next, "an absent page leaves the destination alone");
        area.store(0, next).unwrap();
        area.load(0, &mut page, LoadFlags::KEEP).unwrap();
        assert!(page == *next);
    }
}

#[test]
fn memory_of_an_invalidated_page_is_usable_at_once() {
    let options = ZswapOptions {
        max_bytes: Some(10 * 4112),
        tuning: ZswapTuning { accept_percent: Some(100), ..ZswapTuning::default() },
        ..ZswapOptions::default()
    };
    let (zswap, area) = with_area(100, &options);
    (0..10).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    assert!(matches!(area.store(10, &noise(10)), Err(Error::Limit(Limit::Zswap))));
    let pages = zswap.pool().total_pages();
    for round in 0..1000 {
        let gone = round % 10;
        match round % 3 {
            0 => area.invalidate(gone, 1, Patience::NoWait).unwrap(),
            1 => assert!(take(&area, gone) == Ok(noise(gone + if round < 10 { 0 } else { round - gone - 10 }))),
            _ => area.store(gone, &[0; PAGE_SIZE]).unwrap(),
        }
        area.store(gone, &noise(round)).unwrap();
        assert_eq!(zswap.pool().total_pages(), pages);
    }
}
