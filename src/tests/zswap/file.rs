//! The library's own file: no page is lost, whatever the device does.

use super::{PageBytes, Until, compressible, load, noise, take, with_area};
use crate::os::{Call, Os, errno, injected::Faults};
use crate::tests::shared::number;
use crate::zswap::word::{PageWord, WordKind};
use crate::{Area, AreaOptions, Codec, Counts, Error, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

fn file() -> File {
    File::from(Os::default().memory_file("backing", 0, false).unwrap())
}

fn set(zswap: &Zswap, file: &File, pages: u64) {
    zswap.set_backing_file(Some((file.as_fd(), pages * PAGE_SIZE as u64))).unwrap();
}

/// Makes a zswap with this file and pages, whose system calls can be made to fail.
fn with_faults(file: &File, file_pages: u64, pages: u64) -> (Arc<Faults>, Zswap, Area) {
    let faults = Arc::<Faults>::default();
    let zswap = Zswap::with_os(Os { faults: Some(faults.clone()) }, "test", &ZswapOptions::default()).unwrap();
    set(&zswap, file, file_pages);
    let area = zswap.add_area(10_000, &AreaOptions::default()).unwrap();
    (0..pages).for_each(|offset| area.store(offset, &page(offset)).unwrap());
    (faults, zswap, area)
}

fn page(offset: u64) -> PageBytes {
    if offset.is_multiple_of(3) { noise(offset) } else { compressible(offset) }
}

/// Checks that all pages are there, in the pool or on the file, and that each taken place has a page.
#[track_caller]
fn assert_all(zswap: &Zswap, area: &Area, pages: u64) {
    for offset in 0..pages {
        assert!(load(area, offset) == Ok(page(offset)), "page {offset}");
    }
    let stats = zswap.stats().unwrap();
    assert_eq!(stats.counts.pages(), pages);
    assert_eq!(stats.file_bytes > 0, stats.counts.file_pages > 0);
    assert_eq!(zswap.pool().stats().unwrap().objects, stats.counts.pool_pages());
    assert!((0..pages).all(|offset| !area.word_at(offset).has_writeback()));
}

/// Removes all pages, and checks that no place is taken any more.
fn end(zswap: &Zswap, area: &Area) {
    area.invalidate(0, area.pages(), Patience::Wait).unwrap();
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.file_bytes, stats.used_bytes, zswap.pool().stats().unwrap().objects), (0, 0, 0));
    zswap.set_backing_file(None).unwrap();
}

#[test]
fn every_write_may_fail() {
    let file = file();
    for n in 1..12 {
        for times in [1, 2, 0] {
            let (faults, zswap, area) = with_faults(&file, 300, 200);
            faults.fail(Call::Write, n, times);
            // Some places in between are taken, so that there are many writes.
            let mut shrunk = 0;
            for _ in 0..8 {
                shrunk += zswap.shrink(30).unwrap_or(0);
                area.invalidate(shrunk / 2, 1, Patience::Wait).unwrap();
                area.store(shrunk / 2, &page(shrunk / 2)).unwrap();
            }
            assert_all(&zswap, &area, 200);
            assert!(times != 0 || n > 8 || area.stats().unwrap().counts.writeback_no_memory > 0);
            faults.heal(Call::Write);
            zswap.shrink(1000).unwrap();
            zswap.shrink(1000).ok();
            assert_all(&zswap, &area, 200);
            assert_eq!(area.stats().unwrap().counts.file_pages, 200);
            end(&zswap, &area);
        }
    }
}

#[test]
fn a_read_that_fails_keeps_the_page() {
    let file = file();
    let (faults, zswap, area) = with_faults(&file, 300, 50);
    assert_eq!(zswap.shrink(50), Ok(50));
    // Ten pages that follow each other take two reads.
    for n in 1..3 {
        zswap.forget_reads();
        faults.fail(Call::Read, n, 0);
        let mut destination = [0x42; PAGE_SIZE];
        let flags = if n == 1 { LoadFlags::KEEP } else { LoadFlags::TAKE };
        if n == 1 {
            assert!(matches!(area.load(7, &mut destination, flags), Err(Error::Io(_))));
            assert!(destination == [0x42; PAGE_SIZE]);
        }
        let mut many = vec![[0x42; PAGE_SIZE]; 10];
        let mut results = Vec::new();
        let first = area.load_pages(10, &mut many, LoadFlags::KEEP, |_, result| results.push(result));
        assert!(matches!(first, Err(Error::Io(_))));
        let failed = |at: usize| results[at].is_err() && many[at] == [0x42; PAGE_SIZE];
        assert!((0..10).all(|at| failed(at) || many[at] == page(10 + at as u64)));
        faults.heal(Call::Read);
        assert_all(&zswap, &area, 50);
    }
    // A load retries a read that failed.
    zswap.forget_reads();
    faults.fail(Call::Read, 1, 2);
    assert!(load(&area, 7) == Ok(page(7)));
    assert!(area.stats().unwrap().counts.file_read_failures > 0);
    faults.heal(Call::Read);
    end(&zswap, &area);
}

/// A descriptor opened for appending writes every page to the end of the file, and the others can't be read or written
/// at a place.
#[test]
fn descriptors_that_keep_no_pages_are_refused() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let refused = |what: &str, fd: OwnedFd| {
        let set = zswap.set_backing_file(Some((fd.as_fd(), 1 << 20)));
        assert!(matches!(set, Err(Error::Invalid(_))), "{what}: {set:?}");
    };
    let folder = std::env::temp_dir().join(format!("zsalloc-descriptors-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("backing");
    let open = |options: &mut OpenOptions| options.create(true).open(&path).unwrap();
    let file = open(OpenOptions::new().read(true).write(true).truncate(true));
    refused("appending", open(OpenOptions::new().read(true).append(true)).into());
    refused("writing only", open(OpenOptions::new().write(true).truncate(false)).into());
    refused("reading only", File::open(&path).unwrap().into());
    refused("a folder", File::open(&folder).unwrap().into());
    let (reader, writer) = std::io::pipe().unwrap();
    refused("the end of a pipe that is read", reader.into());
    refused("the end of a pipe that is written", writer.into());
    let most = 16 << 40;
    let set = zswap.set_backing_file(Some((file.as_fd(), most + 1)));
    assert!(matches!(set, Err(Error::Invalid(_))), "{set:?}");
    // The table of the largest file may be more than the system grants.
    let set = zswap.set_backing_file(Some((file.as_fd(), most)));
    assert!(matches!(set, Ok(()) | Err(Error::NoMemory(_))), "{set:?}");
    zswap.set_backing_file(Some((file.as_fd(), 1 << 20))).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_full_file_is_written_to_again_when_places_come_free() {
    let file = file();
    let (_, zswap, area) = with_faults(&file, 64, 200);
    let mut written = 0;
    while let Ok(more) = zswap.shrink(1) {
        written += more;
    }
    assert!((50..200).contains(&written), "{written} pages have room");
    assert!(matches!(zswap.shrink(1), Err(Error::Again(_))));
    assert!(area.stats().unwrap().counts.writeback_no_space > 0);
    assert_all(&zswap, &area, 200);
    let on_file: Vec<_> = (0..200).filter(|&at| matches!(area.word_at(at).kind(), WordKind::Backed(_))).collect();
    // A page that is replaced, taken, invalidated, or replaced by a filled page gives its place back, once.
    area.store(on_file[0], &page(on_file[0])).unwrap();
    assert!(take(&area, on_file[1]) == Ok(page(on_file[1])));
    area.invalidate(on_file[2], 1, Patience::Wait).unwrap();
    area.store(on_file[3], &[1; PAGE_SIZE]).unwrap();
    assert_eq!(area.stats().unwrap().counts.file_pages, written - 4);
    [1, 2, 3].iter().for_each(|&at| area.store(on_file[at], &page(on_file[at])).unwrap());
    // Half of the pages leave room for others, whichever extents these are in.
    on_file[4..].iter().step_by(2).for_each(|&at| area.store(at, &page(at)).unwrap());
    assert!(zswap.shrink(1000).unwrap() > 0);
    assert_all(&zswap, &area, 200);
    assert!(matches!(zswap.set_backing_file(None), Err(Error::Busy(_))));
    end(&zswap, &area);
}

#[test]
fn a_file_that_refuses_every_write_keeps_no_page() {
    type Count = fn(&Counts) -> u64;
    let cases: [(i32, Count); 4] = [
        (errno::ENOSPC, |counts| counts.writeback_no_space),
        (errno::EIO, |counts| counts.writeback_io),
        (errno::EPERM, |counts| counts.writeback_io),
        (errno::EAGAIN, |counts| counts.writeback_again),
    ];
    for (refusal, count) in cases {
        let file = file();
        let (faults, zswap, area) = with_faults(&file, 300, 100);
        faults.say(Call::Write, refusal, 0);
        faults.fail(Call::Write, 1, 0);
        assert!(matches!(zswap.shrink(100), Err(Error::Again(_))), "{refusal}");
        assert!(count(&area.stats().unwrap().counts) > 0, "{refusal}");
        assert_all(&zswap, &area, 100);
        end(&zswap, &area);
    }
}

/// If a write ends in the middle of an entry, the pages before it are on the file and the others stay in the pool.
#[test]
fn pages_that_were_not_written_whole_stay_in_the_pool() {
    const CHILD: &str = "ZSALLOC_TEST_FILE_LIMIT";
    let Some(limit) = number(CHILD) else {
        // The limit is one of a process, so a child runs with each.
        for limit in [0, 1, 4096, 4097, 10 * 4096 - 1, 40 * 4096 + 2000] {
            let name = "tests::zswap::file::pages_that_were_not_written_whole_stay_in_the_pool";
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env(CHILD, limit.to_string())
                .output();
            let output = child.unwrap();
            assert!(output.status.success(), "{limit}: {}", String::from_utf8_lossy(&output.stdout));
        }
        return;
    };
    let limits = |bytes| libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call reads its argument, and changes a limit of this process alone.
    let set_limit = |bytes| assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limits(bytes)) }, 0);
    // SAFETY: the call changes this process alone. A file that is too long is an error after this, and no signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let file = file();
    let (_, zswap, area) = with_faults(&file, 300, 200);
    set_limit(limit);
    let mut gone = 0;
    while let Ok(more) = zswap.shrink(100) {
        gone += more;
    }
    set_limit(libc::RLIM_INFINITY);
    // The first page's entry ends in the second block.
    assert_eq!(gone > 0, limit > 2 * 4096, "pages whose entries were written whole: {gone}");
    assert!(file.metadata().unwrap().len() <= limit);
    assert!(area.stats().unwrap().counts.writeback_io > 0);
    assert_all(&zswap, &area, 200);
    (0..2).for_each(|_| _ = zswap.shrink(1000));
    assert_all(&zswap, &area, 200);
    assert_eq!(area.stats().unwrap().counts.file_pages, 200);
    end(&zswap, &area);
}

/// A word that names an earlier page of a place is refused, even when the generation of the place has come round.
#[test]
fn a_stale_place_is_refused_when_its_generation_comes_round() {
    let (zswap, area) = with_area(2, &ZswapOptions { codec: Codec::Raw, ..ZswapOptions::default() });
    let file = file();
    // Room for one extent of one page.
    set(&zswap, &file, 2);
    let cycle = |offset: u64, number: u64| {
        area.store(offset, &compressible(number)).unwrap();
        assert_eq!(area.shrink(1), Ok(1));
        assert!(matches!(area.word_at(offset).kind(), WordKind::Backed(_)));
    };
    cycle(0, 1);
    let stale = area.word_at(0);
    area.invalidate(0, 1, Patience::Wait).unwrap();
    let assert_refused = || {
        area.set_word_at(0, stale);
        assert!(matches!(load(&area, 0), Err(Error::Damaged(_) | Error::Io(_))));
        area.set_word_at(0, PageWord::EMPTY);
    };
    cycle(1, 0);
    assert_refused();
    let mut cycles = 1;
    while area.word_at(1).kind() != stale.kind() {
        // The page is replaced in the pool, which gives its place back, and is written again.
        cycle(1, cycles);
        assert!(cycles % 1000 != 0 || load(&area, 1) == Ok(compressible(cycles)));
        cycles += 1;
    }
    assert!(cycles > 65_000);
    assert!(load(&area, 1) == Ok(compressible(cycles - 1)));
    // The place and generation are the same: the seed of the check tells the pages apart.
    assert_refused();
    end(&zswap, &area);
}

/// Pages on the file are replaced and written again while other threads read them. Each page tells its offset and
/// version.
#[test]
fn readers_never_see_another_page_s_place() {
    const PAGES: u64 = 24;
    let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
    let file = file();
    set(&zswap, &file, PAGES / 2);
    let versions: [AtomicU64; PAGES as usize] = std::array::from_fn(|_| AtomicU64::new(0));
    let (stop, on_file) = (AtomicBool::new(false), AtomicU64::new(0));
    let make = |offset: u64, version: u64| compressible(offset << 32 | version);
    (0..PAGES).for_each(|offset| area.store(offset, &make(offset, 0)).unwrap());
    thread::scope(|threads| {
        for number in 0..3 {
            let (area, versions, stop, on_file) = (&area, &versions, &stop, &on_file);
            threads.spawn(move || {
                let mut at = number;
                while !stop.load(SeqCst) {
                    at = (at + 5) % PAGES;
                    let before = versions[at as usize].load(SeqCst);
                    on_file.fetch_add(u64::from(matches!(area.word_at(at).kind(), WordKind::Backed(_))), SeqCst);
                    let page = load(area, at).unwrap();
                    // The next version may be stored before it is noted.
                    let after = versions[at as usize].load(SeqCst) + 1;
                    assert!((before..=after).any(|version| page == make(at, version)), "another page, or an old one");
                }
            });
        }
        let _stopping = Until(&stop);
        for round in 1..if cfg!(debug_assertions) { 150 } else { 5000 } {
            for offset in 0..PAGES {
                area.store(offset, &make(offset, round)).unwrap();
                versions[offset as usize].store(round, SeqCst);
                if offset % 4 == 0 {
                    zswap.shrink(6).ok();
                }
            }
        }
    });
    assert!(on_file.load(SeqCst) > 0);
    assert_eq!(area.stats().unwrap().counts.file_read_failures, 0);
    end(&zswap, &area);
}

/// The caller holds claims while the library writes other pages to its file.
#[test]
fn callers_pull_pages_beside_writes_to_the_file() {
    let file = file();
    let (_, zswap, area) = with_faults(&file, 300, 20);
    let claims = super::claim_some(&area, 8);
    assert_eq!(claims.len(), 8);
    assert_eq!(zswap.shrink(100), Ok(12), "all that is not claimed");
    for (claim, _) in claims {
        let offset = claim.offset();
        assert!(matches!(area.invalidate(offset, 1, Patience::Wait), Err(Error::Busy(_))));
        assert_eq!(claim.written(), Ok(true));
        assert!(matches!(load(&area, offset), Err(Error::NotFound(_))));
        area.store(offset, &page(offset)).unwrap();
    }
    assert_all(&zswap, &area, 20);
    end(&zswap, &area);
}
