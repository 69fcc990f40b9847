//! Makes each allocation fail in turn in those parts that only Rust programs reach: guests, lists of their written
//! pages, guardians, lent threads, regions and memory of a pager, callbacks that are closures, and names in snapshots.
//! No failure ends the process, and the same call succeeds once there is memory.

mod processes;
mod skip;

use processes::{Memory, PAGE, userfault};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::{FromRawFd, OwnedFd};
use zsalloc::{
    Area, AreaOptions, Duty, Error, Guardian, Guest, GuestFile, GuestOptions, GuestRange, OnDeath, Pager, PagerOptions,
    Pool, PoolOptions, Refusal, Verdict, Victim, Zswap, ZswapOptions,
};

/// The system's allocator, which fails for threads that ask for it.
struct Failing;

thread_local! {
    /// The first allocation that fails, and all after it; 0: none fails.
    static FROM: Cell<u64> = const { Cell::new(0) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn fails() -> bool {
    if FROM.get() == 0 {
        return false;
    }
    COUNT.set(COUNT.get() + 1);
    COUNT.get() >= FROM.get()
}

// SAFETY: every call that does not fail is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        if fails() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        if fails() { std::ptr::null_mut() } else { unsafe { System.realloc(at, layout, size) } }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs `act` with all allocations failing from number `from` on. Returns also how many it made.
fn failing<T>(from: u64, act: impl FnOnce() -> T) -> (T, u64) {
    COUNT.set(0);
    FROM.set(from);
    let result = act();
    FROM.set(0);
    (result, COUNT.get())
}

/// Makes the first allocation of `act` fail, then the second, and so on. Returns how many there were.
fn fail_each<P, T>(name: &str, prepare: impl Fn() -> P, act: impl Fn(P) -> Result<T, Error>) -> u64 {
    for from in 1.. {
        let prepared = prepare();
        let (result, count) = failing(from, || act(prepared));
        match result {
            Ok(_) if count < from => {
                println!("{name}: {} allocations, each of which failed", from - 1);
                return from - 1;
            }
            Ok(_) | Err(Error::NoMemory(_)) => {}
            Err(error) => panic!("{name}, from allocation {from} on: {error}"),
        }
    }
    unreachable!()
}

const PAGES: usize = 64;

/// Creates an area that has at each offset a page of that number.
fn area() -> (Zswap, Area) {
    let zswap = Zswap::new("snapshot", &ZswapOptions::default()).unwrap();
    let area = zswap.add_area(PAGES as u64, &AreaOptions::default()).unwrap();
    for page in 0..PAGES {
        area.store(page as u64, &[page as u8 + 1; PAGE]).unwrap();
    }
    (zswap, area)
}

/// Maps memory under a userfaultfd, with one range for each page, the last one first. None: the process may not use
/// userfaultfd.
fn guest_memory(file: Option<&OwnedFd>) -> Option<(Memory, OwnedFd, Vec<GuestRange>)> {
    let Ok(uffd) = userfault::open() else {
        skip::skip("failing_heap", "no right to userfaultfd here");
        return None;
    };
    let memory = Memory::new(PAGES, file);
    userfault::register_for_writes(&uffd, &memory);
    let page = PAGE as u64;
    let range =
        |at: usize| GuestRange { at: memory.at(at) as u64, bytes: page, offset: at as u64 * page, page_bytes: page };
    let ranges = (0..PAGES).rev().map(range).collect();
    Some((memory, uffd, ranges))
}

fn memory_file(bytes: usize) -> OwnedFd {
    // SAFETY: the name is a C string; the descriptor was just made.
    let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC)) };
    std::fs::File::from(file.try_clone().unwrap()).set_len(bytes as u64).unwrap();
    file
}

#[test]
fn creating_a_guest_survives_failed_allocations() {
    let (_zswap, area) = area();
    let Some((_memory, uffd, ranges)) = guest_memory(None) else { return };
    let options = GuestOptions::default();
    let made =
        fail_each("Guest::new", || uffd.try_clone().unwrap(), |fd| Guest::new(&area, fd, &ranges, &options).map(drop));
    assert!(made > 2 * PAGES as u64);
}

#[test]
fn creating_a_guest_with_a_file_survives_failed_allocations() {
    let (_zswap, area) = area();
    let (file, bitmap) = (memory_file(PAGES * PAGE), memory_file(PAGE));
    let Some((_memory, uffd, ranges)) = guest_memory(Some(&file)) else { return };
    let copies = || {
        let files = GuestFile { memory: file.try_clone().unwrap(), bitmap: Some(bitmap.try_clone().unwrap()) };
        (uffd.try_clone().unwrap(), files)
    };
    let options = GuestOptions::default();
    let make = |(fd, files)| Guest::with_file(&area, fd, files, &ranges, &options).map(drop);
    assert!(fail_each("Guest::with_file", copies, make) > 2 * PAGES as u64);
}

/// Serving allocates nothing. Listing written pages allocates only for the growth of the caller's list.
#[test]
fn guest_is_served_without_memory() {
    let (_zswap, area) = area();
    let Some((memory, uffd, ranges)) = guest_memory(None) else { return };
    let guest = Guest::new(&area, uffd, &ranges, &GuestOptions::default()).unwrap();
    let first = memory.at(0) as usize;
    let touches = std::thread::spawn(move || {
        for page in 0..PAGES {
            let at = (first + page * PAGE) as *mut u8;
            // SAFETY: the memory lives until the thread was joined.
            unsafe {
                assert_eq!(at.read_volatile(), page as u8 + 1);
                at.write_volatile(7);
            }
        }
    });
    while !touches.is_finished() {
        let (served, allocations) = failing(1, || guest.serve());
        served.unwrap();
        assert_eq!(allocations, 0);
        std::thread::yield_now();
    }
    touches.join().unwrap();
    let mut dirty = Vec::new();
    let (refused, _) = failing(1, || guest.take_dirty(&mut dirty));
    assert!(matches!(refused, Err(Error::NoMemory(_))) && dirty.is_empty(), "{refused:?}");
    guest.take_dirty(&mut dirty).unwrap();
    let bytes: u64 = dirty.iter().map(|range| range.bytes).sum();
    assert_eq!(bytes, (PAGES * PAGE) as u64, "{dirty:?}");
}

#[test]
fn starting_a_guardian_survives_failed_allocations() {
    if userfault::open().is_err() {
        return skip::skip("failing_heap", "no right to userfaultfd here");
    }
    let made = fail_each("Guardian::start", || (), |()| Guardian::start(OnDeath::Freeze)?.dismiss());
    assert!(made > 2);
}

#[test]
fn lending_to_a_pager_and_mapping_its_memory_survive_failed_allocations() {
    let pager = match Pager::new("heap", &PagerOptions::default()) {
        Ok(pager) => pager,
        Err(error) => return skip::skip("failing_heap", format_args!("no pager here: {error}")),
    };
    // The guards are dropped where allocations fail as well.
    let made = fail_each("Pager::lend", || (), |()| pager.lend(Duty::All).map(drop));
    assert!(made >= 2);
    assert_eq!(pager.stats().lent_threads, 0);
    let made = fail_each("Pager::map", || (), |()| pager.map(PAGES * PAGE).map(drop));
    assert!(made >= 2);
    let memory = pager.map(PAGES * PAGE).unwrap();
    let made = fail_each("PagedMemory::hold", || (), |()| memory.hold(..).map(drop));
    assert_eq!((made, pager.stats().held_bytes, pager.stats().regions), (0, 0, 1));
}

#[test]
fn setting_an_evict_callback_survives_failed_allocations() {
    let pool = Pool::new("callback", &PoolOptions::default()).unwrap();
    // One closure without a size, and one that has one.
    let made = fail_each("Pool::set_evict", || (), |()| pool.set_evict(|_| Verdict::Keep));
    assert!(made > 0);
    let large = [1; 1000];
    let keeps = move |_: Victim<'_>| if large[7] == 1 { Verdict::Keep } else { Verdict::Gone };
    assert!(fail_each("Pool::set_evict", || keeps, |keeps| pool.set_evict(keeps)) > made);
    let new = pool.malloc_mapped(100).unwrap();
    let handle = new.finish();
    assert!(matches!(pool.shrink(1), Err(Error::Again(_))));
    pool.free(handle).unwrap();
}

#[test]
fn a_zswap_with_names_and_a_callback_survives_failed_allocations() {
    let options = AreaOptions { name: "area".to_owned(), ..AreaOptions::default() };
    let state = [7; 64];
    let named = |()| {
        let zswap = Zswap::new("a name", &ZswapOptions::default())?;
        let area = zswap.add_area(PAGES as u64, &options)?;
        zswap.set_writeback(move |_, offset, _| if state[offset as usize] == 7 { Ok(()) } else { Err(Refusal::Io) })?;
        // A closure without a state takes less memory.
        zswap.set_writeback(|_, _, _| Ok(()))?;
        area.store(1, &std::array::from_fn(|at| (at % 251) as u8))?;
        let (claim, allocations) = failing(u64::MAX, || zswap.claim(&mut [0; PAGE]));
        assert_eq!(allocations, 0);
        assert!(claim?.is_some_and(|claim| claim.area().name() == "area" && format!("{claim:?}").contains("area")));
        let snapshot = zswap.snapshot()?;
        assert_eq!((&*snapshot.name, &*snapshot.areas[0].name), ("a name", "area"));
        zswap.stats_json().map(drop)
    };
    assert!(fail_each("a zswap with names", || (), named) > 10);
}
