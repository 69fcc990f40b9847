//! A forked child gets neither the regions nor the pager, and its parent goes on unharmed.

use crate::processes::{PAGE, end_of, in_child};
use crate::{BUS, Fixture, GOOD, PAGES, SEGV, Test, exit, options, touch};
use std::os::fd::AsFd;
use zsalloc::plumbing::PagerForC;
use zsalloc::{Codec, CompactBudget, Duty, Error, FaultMode, Pager, Region, RegionOptions};

/// The tests.
pub const TESTS: &[Test] = &[
    ("a child that touches a region", GOOD, || a_child_that_touches(FaultMode::Sigbus)),
    ("served by threads, a child that touches a region", GOOD, || a_child_that_touches(FaultMode::Threads)),
    ("a child that calls the pager", GOOD, || a_child_that_calls(FaultMode::Sigbus)),
    ("served by threads, a child that calls the pager", GOOD, || a_child_that_calls(FaultMode::Threads)),
    ("a child gets memory that was a region", GOOD, a_child_gets_a_removed_region),
    ("a child has a pager of its own", GOOD, a_child_has_its_own_pager),
    ("a child maps a file at a region's addresses", GOOD, a_child_maps_a_file_there),
    ("forks while pages come and go", GOOD, forks_while_pages_come_and_go),
];

/// Checks that the child does not get a page, whether it is in memory or not.
fn a_child_that_touches(mode: FaultMode) {
    let fixture = Fixture::new(mode);
    touch(&fixture.memory, 5);
    for page in [5, 6, PAGES - 1] {
        assert_eq!(end_of(|| exit(i32::from(touch(&fixture.memory, page) == 0))), SEGV);
        // SAFETY: a page of the test's own; the child ends here.
        let write = || unsafe { fixture.memory.at(page).write_volatile(1) };
        assert_eq!(end_of(write), SEGV);
    }
    let staging = fixture.pager.staging_range();
    // SAFETY: the value is not used; the child ends here.
    let read = || exit(i32::from(unsafe { (staging.start as *const u8).read_volatile() }));
    assert_eq!(end_of(read), SEGV);
    fixture.memory.check();
}

fn refused<T: std::fmt::Debug>(call: &str, result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Forked)), "{call}: {result:?}");
    assert_eq!(result.unwrap_err().errno(), libc::EPERM);
}

fn refuses_everything(pager: &Pager, region: &mut Region, at: *mut u8) {
    refused("set_resident_limit", pager.set_resident_limit(None));
    refused("evict", pager.evict(1));
    refused("set_pool_limit", pager.set_pool_limit(Some(1 << 20)));
    refused("set_codec", pager.set_codec(Codec::Zstd(3)));
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    refused("set_backing_file", pager.set_backing_file(Some((file.as_fd(), 1 << 20))));
    refused("write_back", pager.write_back(1));
    refused("compact", pager.compact(&CompactBudget::default()));
    // SAFETY: the call is refused, as this tests.
    refused("add_region", unsafe { pager.add_region(at, PAGE, &RegionOptions::default()) });
    refused("map", pager.map(PAGE));
    refused("remove", region.remove());
    // SAFETY: the call is refused, as this tests.
    refused("remove_discarding", unsafe { region.remove_discarding() });
    refused("hold", pager.hold(at, PAGE));
    refused("end_hold", pager.end_hold(at, PAGE));
    // SAFETY: the call is refused, as this tests.
    refused("discard", unsafe { pager.discard(at, PAGE) });
    refused("run", pager.run(Duty::All));
    refused("lend", pager.lend(Duty::All));
    refused("lend_own", pager.lend_own(Duty::All));
    refused("snapshot", pager.snapshot());
    refused("stats_json", pager.stats_json());
}

fn a_child_that_calls(mode: FaultMode) {
    let mut fixture = Some(Fixture::new(mode));
    let parts = fixture.as_ref().unwrap();
    let held = parts.pager.hold(parts.memory.at(3), PAGE).unwrap();
    let stats = |pager: &Pager| {
        let stats = pager.stats();
        (stats.resident_bytes, stats.held_bytes, stats.regions, stats.region_bytes)
    };
    let before = stats(&parts.pager);
    in_child(|| {
        let fixture = fixture.as_mut().unwrap();
        refuses_everything(&fixture.pager, &mut fixture.region, fixture.memory.at(0));
        // A child of a child as well.
        in_child(|| refuses_everything(&fixture.pager, &mut fixture.region, fixture.memory.at(0)));
    });
    if mode == FaultMode::Sigbus {
        // In the other mode a thread is lent, which the child does not have and could not wait for.
        let mut only = fixture.take();
        in_child(|| {
            let fixture = only.take().unwrap();
            // SAFETY: the fixture is forgotten, so the pager is dropped once. The fixture's own destructor would look
            // for memory that is not here; this tests the pager's.
            drop(unsafe { std::ptr::read(&raw const fixture.pager) });
            std::mem::forget(fixture);
        });
        fixture = only;
    }
    let fixture = fixture.unwrap();
    assert_eq!(stats(&fixture.pager), before, "nothing that the child did reached the parent");
    drop(held);
    fixture.memory.check();
    fixture.evict();
    fixture.memory.check();
}

fn a_child_gets_a_removed_region() {
    let mut fixture = Fixture::new(FaultMode::Sigbus);
    fixture.region.remove().unwrap();
    in_child(|| fixture.memory.check());
    let memory = (fixture.memory.at(0), fixture.memory.bytes());
    // SAFETY: the memory is used through these addresses alone, and nobody unmaps it.
    fixture.region = unsafe { fixture.pager.add_region(memory.0, memory.1, &RegionOptions::default()) }.unwrap();
    assert_eq!(end_of(|| exit(i32::from(touch(&fixture.memory, 0) == 0))), SEGV);
    fixture.evict();
}

fn a_child_has_its_own_pager() {
    let fixture = Fixture::new(FaultMode::Sigbus);
    in_child(|| {
        let own = Fixture::of(Pager::new("child", &options(FaultMode::Sigbus)).unwrap(), FaultMode::Sigbus);
        own.memory.check();
        own.evict();
        own.memory.check();
        refused("evict", fixture.pager.evict(1));
    });
    fixture.memory.check();
}

/// Maps a file that ends before its mapping. If the pager served that touch, it would change the parent's memory.
fn a_child_maps_a_file_there() {
    let fixture = Fixture::new(FaultMode::Sigbus);
    let end = end_of(|| {
        // SAFETY: the name is a C string. The mapping is new, and the call fails if the child has one there.
        let at = unsafe {
            let fd = libc::memfd_create(c"empty".as_ptr(), 0);
            let kind = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
            libc::mmap(fixture.memory.at(0).cast(), PAGE, libc::PROT_READ | libc::PROT_WRITE, kind, fd, 0)
        };
        assert_eq!(at, fixture.memory.at(0).cast());
        exit(i32::from(touch(&fixture.memory, 0) == 0));
    });
    fixture.memory.check();
    drop(fixture);
    assert_eq!(end, BUS);
}

fn forks_while_pages_come_and_go() {
    let fixture = Fixture::new(FaultMode::Sigbus);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..8).for_each(|_| fixture.memory.check()));
        while !reader.is_finished() {
            // SAFETY: the child ends at once, and takes no lock that the other thread may hold.
            let child = unsafe { libc::fork() };
            if child == 0 {
                exit(i32::from(touch(&fixture.memory, 0) == 0));
            }
            assert_eq!(crate::processes::wait_for(child), SEGV);
        }
    });
    fixture.memory.check();
}
