//! The blocks of its own file that the library writes to. It writes to no other file.

use super::{load, noise, with_area};
use crate::os::{Call, Os, errno, injected::Faults};
use crate::{Area, AreaOptions, Error, PAGE_SIZE, Patience, Zswap, ZswapOptions};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

const PAGE: u64 = PAGE_SIZE as u64;

fn file() -> File {
    File::from(Os::default().memory_file("backing", 0, false).unwrap())
}

fn stored(file: &File, places: u64, pages: u64) -> (Arc<Faults>, Zswap, Area) {
    let faults = Arc::<Faults>::default();
    let zswap = Zswap::with_os(Os { faults: Some(faults.clone()) }, "test", &ZswapOptions::default()).unwrap();
    zswap.set_backing_file(Some((file.as_fd(), places * PAGE))).unwrap();
    let area = zswap.add_area(100_000, &AreaOptions::default()).unwrap();
    (0..pages).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    (faults, zswap, area)
}

fn end(zswap: &Zswap, area: &Area) {
    area.invalidate(0, area.pages(), Patience::Wait).unwrap();
    assert_eq!(zswap.stats().unwrap().file_bytes, 0);
    zswap.set_backing_file(None).unwrap();
}

#[test]
fn the_file_is_never_longer_than_the_most_extents_on_it_at_once() {
    let file = file();
    let (_, zswap, area) = stored(&file, 100_000, 0);
    for round in 0..20 {
        (0..500).for_each(|offset| area.store(offset, &noise(round << 16 | offset)).unwrap());
        assert_eq!(zswap.shrink(500), Ok(500));
        assert!((0..500).all(|offset| load(&area, offset) == Ok(noise(round << 16 | offset))));
        area.invalidate(0, 500, Patience::Wait).unwrap();
        // 15 extents of 32 pages and one of 20.
        assert_eq!(file.metadata().unwrap().len(), (15 * 33 + 21) * PAGE, "round {round}");
    }
    end(&zswap, &area);
}

#[test]
fn blocks_are_taken_lowest_first_wherever_they_come_free() {
    let file = file();
    let (_, zswap, area) = stored(&file, 20_000, 10_000);
    assert_eq!(zswap.shrink(10_000), Ok(10_000));
    // Extents end scattered over the file and in no order. An extent has 32 pages that follow each other.
    let length = file.metadata().unwrap().len();
    let free: Vec<u64> = (0..40).map(|at| (at * 7919 + 13) % 311).collect();
    free.iter().for_each(|extent| area.invalidate(extent * 32, 32, Patience::Wait).unwrap());
    (20_000..21_000).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    assert_eq!(zswap.shrink(1000), Ok(1000));
    assert_eq!(file.metadata().unwrap().len(), length);
    assert!((20_000..21_000).all(|offset| load(&area, offset) == Ok(noise(offset))));
    assert!((0..10_000).all(|at| free.contains(&(at / 32)) || load(&area, at) == Ok(noise(at))));
    end(&zswap, &area);
}

/// The disk has no room for places beyond those that were written, but for the places that come free below them.
#[test]
fn a_full_disk_is_written_to_again_as_soon_as_a_lower_block_is_free() {
    let file = file();
    let (faults, zswap, area) = stored(&file, 10_000, 2000);
    assert_eq!(zswap.shrink(1000), Ok(1000));
    faults.say(Call::Write, errno::ENOSPC, 0);
    faults.fail(Call::Write, 1, 0);
    (0..10).for_each(|_| assert!(matches!(zswap.shrink(100), Err(Error::Again(_)))));
    assert!(area.stats().unwrap().counts.writeback_no_space >= 10);
    faults.heal(Call::Write);
    let length = file.metadata().unwrap().len();
    area.invalidate(0, 640, Patience::Wait).unwrap();
    assert_eq!(zswap.shrink(100), Ok(100));
    assert_eq!(zswap.shrink(400), Ok(400));
    assert_eq!(file.metadata().unwrap().len(), length, "the blocks that were free are taken first");
    assert!((640..2000).all(|offset| load(&area, offset) == Ok(noise(offset))));
    end(&zswap, &area);
}

#[test]
fn only_regular_files_and_block_devices_are_taken() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let refused = |what: &str, fd: OwnedFd| match zswap.set_backing_file(Some((fd.as_fd(), 1 << 20))) {
        Err(Error::Invalid(sentence)) => {
            assert!(sentence.contains("regular file") && sentence.contains("block device"), "{what}: {sentence}");
        }
        other => panic!("{what}: {other:?}"),
    };
    for device in ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"] {
        // A file that can't be opened for writing can't be a backing file either.
        if let Ok(open) = OpenOptions::new().read(true).write(true).open(device) {
            refused(device, open.into());
        }
    }
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    refused("a socket", socket.into());
    let (reader, writer) = std::io::pipe().unwrap();
    for end in [OwnedFd::from(reader), OwnedFd::from(writer)] {
        // An end of a pipe that is opened anew can be read and written.
        let path = format!("/proc/self/fd/{}", end.as_raw_fd());
        refused("a pipe", OpenOptions::new().read(true).write(true).open(path).unwrap().into());
    }
    assert!(zswap.shrink(1).is_err());
}

/// The program has closed the library's descriptor, and another file has got its number.
#[test]
fn a_descriptor_that_became_another_file_s_is_not_written_to() {
    let (file, victim) = (file(), file());
    let (_, zswap, area) = stored(&file, 1000, 200);
    assert_eq!(zswap.shrink(50), Ok(50));
    let own = zswap.backing_descriptor().unwrap();
    // SAFETY: the calls take numbers. The library's descriptor is replaced, and put back below.
    let (kept, replaced) = unsafe { (libc::dup(own), libc::dup2(victim.as_raw_fd(), own)) };
    assert!(kept >= 0 && replaced == own);
    for shrunk in [zswap.shrink(50), area.shrink(50)] {
        let Err(Error::Io(sentence)) = shrunk else { panic!("{shrunk:?}") };
        assert!(sentence.contains("another file"), "{sentence}");
    }
    assert_eq!(victim.metadata().unwrap().len(), 0);
    assert!(area.stats().unwrap().counts.writeback_io > 0);
    let on_file = (0..200).find(|&at| load(&area, at).is_err()).unwrap();
    let Err(Error::Io(sentence)) = load(&area, on_file) else { panic!("it is not read from another file") };
    assert!(sentence.contains("another file"), "{sentence}");
    assert_eq!(area.stats().unwrap().counts.pages(), 200, "nothing is lost");
    // SAFETY: the call takes numbers, and puts the library's descriptor back.
    assert!(unsafe { libc::dup2(kept, own) == own && libc::close(kept) == 0 });
    assert!((0..200).all(|offset| load(&area, offset) == Ok(noise(offset))));
    assert_eq!(zswap.shrink(50), Ok(50));
    end(&zswap, &area);
}

/// A descriptor that became another file's is not the library's to close either.
#[test]
fn a_descriptor_that_became_another_file_s_is_not_closed() {
    let (file, victim) = (file(), file());
    let (_, zswap, area) = stored(&file, 1000, 1);
    let own = zswap.backing_descriptor().unwrap();
    // SAFETY: the call takes numbers, and replaces the library's descriptor.
    assert_eq!(unsafe { libc::dup2(victim.as_raw_fd(), own) }, own);
    end(&zswap, &area);
    drop((zswap, area));
    // SAFETY: the call takes a number, which is this test's descriptor since the replacement.
    assert_eq!(unsafe { libc::close(own) }, 0, "it was closed already");
}

#[test]
fn blocks_near_the_last_one_are_all_taken_and_given_back() {
    for places in [1, 63, 64, 65, 127, 128, 4095, 4096, 4097] {
        let file = file();
        let (zswap, area) = with_area(10_000, &ZswapOptions::default());
        zswap.set_backing_file(Some((file.as_fd(), places * PAGE))).unwrap();
        let mut written_before = None;
        for _ in 0..2 {
            (0..places + 10).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
            let written = zswap.shrink(places + 10).unwrap_or(0);
            assert!(matches!(zswap.shrink(1), Err(Error::Again(_))));
            // A page that does not compress takes two blocks, and 33 blocks are set aside for cleaning.
            let left = places * PAGE - zswap.stats().unwrap().file_bytes;
            let set_aside = if places < 8 * 33 { 0 } else { 33 * PAGE };
            assert!(left <= PAGE + set_aside, "{left} bytes of {places} blocks are left");
            assert_eq!(written, written_before.replace(written).unwrap_or(written));
            assert!((0..places + 10).all(|offset| load(&area, offset) == Ok(noise(offset))));
            area.invalidate(0, places + 10, Patience::Wait).unwrap();
        }
        end(&zswap, &area);
    }
}
