//! The tests. Each of them forks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use zsalloc::plumbing::{MapMode, PoolCalls};
use zsalloc::{
    AreaOptions, Backing, Claim, CompactBudget, Error, LoadFlags, PAGE_SIZE, Pool, PoolOptions, PoolTuning, Refusal,
    Verdict, Victim, Zswap, ZswapOptions, ZswapTuning,
};

const SIZE: usize = 1500;
const OBJECTS: u8 = 200;

/// Runs all tests, one after another.
pub fn run() {
    let tests: [(&str, fn()); 9] = [
        ("a child has a pool of its own", a_child_has_a_pool_of_its_own),
        ("a pool that children do not get refuses them", || refuses_children(&private())),
        ("a pool in a memory file refuses children", || refuses_children(&in_a_file())),
        ("memory that a child mapped at the pool's address stays", memory_at_the_pools_address_stays),
        ("a child of a child is refused too, and can create pools", children_of_children),
        ("a process with few addresses gets a smaller pool", few_addresses),
        ("a process without addresses gets an error", no_addresses),
        ("a claim is the parent's", a_claim_is_the_parents),
        ("children of a process with threads have pools and zswaps", beside_threads),
    ];
    for (name, test) in tests {
        println!("fork: {name}");
        test();
    }
}

/// Runs `act` in a child, and panics if it failed there.
fn in_child(act: impl FnOnce()) {
    // SAFETY: this process has one thread, or has prepared for the fork, so the child has all that it needs.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        let failed = catch_unwind(AssertUnwindSafe(act)).is_err();
        // SAFETY: ends the child, with nothing run on the way out.
        unsafe { libc::_exit(i32::from(failed)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child, and writes how it ended.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0), "the child failed");
}

fn sized() -> PoolOptions {
    PoolOptions { max_bytes: Some(32 << 20), ..PoolOptions::default() }
}

fn private() -> PoolOptions {
    PoolOptions { tuning: PoolTuning { dont_fork: true, ..PoolTuning::default() }, ..sized() }
}

fn in_a_file() -> PoolOptions {
    PoolOptions { backing: Backing::MemoryFile, ..sized() }
}

fn free(pool: &Pool, handle: u64) -> Result<(), Error> {
    // SAFETY: there are raw handles only.
    unsafe { pool.free_raw(handle) }
}

fn evict(victim: Victim<'_>) -> Verdict {
    free(victim.pool(), victim.raw()).map_or(Verdict::Keep, |()| Verdict::Gone)
}

fn write(pool: &Pool, handle: u64, byte: u8) -> Result<(), Error> {
    // SAFETY: nothing borrows the object's bytes, and so many are copied.
    unsafe { pool.write_from(handle, [byte; SIZE].as_ptr(), SIZE) }
}

fn fill(pool: &Pool) -> Vec<u64> {
    let object = |byte| {
        let handle = pool.malloc_raw(SIZE).unwrap();
        write(pool, handle, byte).unwrap();
        handle
    };
    (0..OBJECTS).map(object).collect()
}

fn assert_holds(pool: &Pool, handle: u64, byte: u8) {
    let mut buffer = [0; SIZE];
    // SAFETY: no thread writes the object, and the buffer has room.
    unsafe { pool.read_to(handle, buffer.as_mut_ptr(), SIZE) }.unwrap();
    assert!(buffer.iter().all(|&other| other == byte), "the object of {byte}");
}

fn assert_all_hold(pool: &Pool, handles: &[u64]) {
    handles.iter().zip(0..).for_each(|(&handle, byte)| assert_holds(pool, handle, byte));
}

fn a_child_has_a_pool_of_its_own() {
    let pool = Pool::new("fork", &sized()).unwrap();
    let handles = fill(&pool);
    pool.map_raw(handles[0], MapMode::Read).unwrap();
    let before = pool.stats().unwrap();
    in_child(|| {
        assert_all_hold(&pool, &handles);
        handles.iter().step_by(2).for_each(|&handle| write(&pool, handle, 0xcc).unwrap());
        handles.iter().skip(1).step_by(2).for_each(|&handle| free(&pool, handle).unwrap());
        assert!(pool.compact(&CompactBudget::default()).unwrap() > 0);
        let more = fill(&pool);
        assert_all_hold(&pool, &more);
        handles.iter().step_by(2).for_each(|&handle| assert_holds(&pool, handle, 0xcc));
    });
    assert_eq!(pool.stats().unwrap(), before);
    assert_all_hold(&pool, &handles);
    pool.set_evict(evict).unwrap();
    assert!(pool.shrink(1000).unwrap() > 0);
    in_child(|| assert!(matches!(pool.check_unmapped(), Err(Error::Busy(_))), "the child has no mapping"));
}

fn refuses_children(options: &PoolOptions) {
    let pool = Pool::new("fork", options).unwrap();
    let handles = fill(&pool);
    let handle = handles[0];
    pool.map_raw(handle, MapMode::Read).unwrap();
    let mut kept = pool.malloc(SIZE).unwrap();
    let mapped = pool.map_mut(&mut kept).unwrap();
    let new = pool.malloc_mapped(SIZE).unwrap();
    in_child(|| {
        assert_eq!(pool.malloc_raw(SIZE), Err(Error::Forked));
        assert_eq!(pool.malloc_mapped_raw(SIZE), Err(Error::Forked));
        for mode in [MapMode::Read, MapMode::Write, MapMode::ReadWrite] {
            assert_eq!(pool.map_raw(handle, mode), Err(Error::Forked));
        }
        // SAFETY: the mapping belongs to the parent; the call is refused here, which is the point of the test.
        assert_eq!(unsafe { pool.unmap_raw(handle) }, Err(Error::Forked));
        assert_eq!(free(&pool, handle), Err(Error::Forked));
        assert_eq!(write(&pool, handle, 1), Err(Error::Forked));
        // SAFETY: as above.
        assert_eq!(unsafe { pool.read_to(handle, [0].as_mut_ptr(), 1) }, Err(Error::Forked));
        assert_eq!(pool.compact(&CompactBudget::default()), Err(Error::Forked));
        assert_eq!(pool.shrink(1), Err(Error::Forked));
        assert_eq!(pool.set_evict(evict), Err(Error::Forked));
        assert_eq!(pool.set_max_bytes(None), Err(Error::Forked));
        assert_eq!(pool.stats(), Err(Error::Forked));
        pool.total_pages();
        // Dropping the child's copies of guards touches nothing.
        drop(mapped);
        drop(new);
    });
    assert_all_hold(&pool, &handles);
    in_child(|| drop(pool));
}

/// A child may map other memory where its parent has the pool. Dropping the pool must not unmap that.
fn memory_at_the_pools_address_stays() {
    for options in [private(), in_a_file()] {
        let pool = Pool::new("fork", &options).unwrap();
        let handle = pool.malloc_raw(SIZE).unwrap();
        let place = pool.map_raw(handle, MapMode::Read).unwrap() as usize & !4095;
        in_child(|| {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: a new page, refused where anything lies already.
            let page = unsafe { libc::mmap(place as *mut _, 4096, rights, flags, -1, 0) };
            assert_eq!(page as usize, place, "the child does not have the pool's memory");
            let page = page.cast::<u64>();
            // SAFETY: the page was just mapped.
            unsafe { page.write(7) };
            pool.check_unmapped().unwrap();
            drop(pool);
            // SAFETY: it is still mapped, or this test ends here.
            assert_eq!(unsafe { page.read() }, 7);
        });
    }
}

fn children_of_children() {
    let pool = Pool::new("fork", &private()).unwrap();
    in_child(|| {
        let own = Pool::new("child", &private()).unwrap();
        let handles = fill(&own);
        in_child(|| {
            assert_eq!(pool.malloc_raw(SIZE), Err(Error::Forked));
            assert_eq!(own.malloc_raw(SIZE), Err(Error::Forked));
        });
        assert_all_hold(&own, &handles);
        assert_eq!(pool.malloc_raw(SIZE), Err(Error::Forked));
    });
    pool.malloc_raw(SIZE).unwrap();
}

/// A claim ends in the child, where its page is kept, and goes on in the parent.
fn a_claim_is_the_parents() {
    let page = std::array::from_fn(|at| (at % 251) as u8);
    for dont_fork in [false, true] {
        let pool = PoolOptions { tuning: PoolTuning { dont_fork, ..sized().tuning }, ..sized() };
        let options =
            ZswapOptions { tuning: ZswapTuning { pool, ..ZswapTuning::default() }, ..ZswapOptions::default() };
        let zswap = Zswap::new("fork", &options).unwrap();
        let area = zswap.add_area(100, &AreaOptions::default()).unwrap();
        (0..3).for_each(|offset| area.store(offset, &page).unwrap());
        let claim = |_| zswap.claim(&mut [0; PAGE_SIZE]).unwrap().unwrap();
        let mut claims: Vec<Claim> = (0..3).map(claim).collect();
        let forking = zswap.prepare_fork().unwrap();
        in_child(|| {
            drop(forking);
            let ended = claims.remove(0).written();
            claims.remove(0).refuse(Refusal::Io);
            claims.clear();
            if dont_fork {
                assert_eq!(ended, Err(Error::Forked));
            } else {
                assert!(matches!(ended, Err(Error::Stale(_))), "{ended:?}");
                area.load(1, &mut [0; PAGE_SIZE], LoadFlags::KEEP).unwrap();
                area.remove().unwrap();
            }
        });
        assert_eq!((claims.len(), zswap.stats().unwrap().claims), (3, 3));
        claims.into_iter().for_each(|claim| assert_eq!(claim.written(), Ok(true)));
        assert_eq!(area.usage().used_bytes, 0);
    }
}

/// Each child is forked while other threads make calls, and uses its copies.
fn beside_threads() {
    let options =
        ZswapOptions { tuning: ZswapTuning { pool: sized(), ..ZswapTuning::default() }, ..ZswapOptions::default() };
    let (pool, zswap) = (Pool::new("fork", &sized()).unwrap(), Zswap::new("fork", &options).unwrap());
    let area = zswap.add_area(100, &AreaOptions::default()).unwrap();
    let handles = fill(&pool);
    area.store(7, &[7; PAGE_SIZE]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let (pool, area, stop) = (&pool, &area, &stop);
            threads.spawn(move || {
                for round in 0.. {
                    let handle = pool.malloc_raw(SIZE).unwrap();
                    free(pool, handle).unwrap();
                    area.store(10 + round % 80, &[thread; PAGE_SIZE]).unwrap();
                    if stop.load(Relaxed) {
                        break;
                    }
                }
            });
        }
        for _ in 0..50 {
            let forking = (pool.prepare_fork().unwrap(), zswap.prepare_fork().unwrap());
            in_child(|| {
                drop(forking);
                assert_all_hold(&pool, &handles);
                assert_all_hold(&pool, &fill(&pool));
                let mut page = [0; PAGE_SIZE];
                area.load(7, &mut page, LoadFlags::TAKE).unwrap();
                assert_eq!(page, [7; PAGE_SIZE]);
                area.store(7, &[8; PAGE_SIZE]).unwrap();
                assert_eq!(zswap.stats().unwrap().areas, 1);
                area.remove().unwrap();
            });
        }
        stop.store(true, Relaxed);
    });
    assert_all_hold(&pool, &handles);
}

/// Limits this process to `bytes` bytes of addresses beyond its current ones.
fn limit_addresses(bytes: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let limit = pages * 4096 + bytes;
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: reads the limit, which lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

fn few_addresses() {
    let full = Pool::new("fork", &PoolOptions::default()).unwrap().stats().unwrap().max_bytes;
    in_child(|| {
        limit_addresses(600 << 20);
        let pool = Pool::new("fork", &PoolOptions::default()).unwrap();
        let max_bytes = pool.stats().unwrap().max_bytes;
        assert!((64 << 20..600 << 20).contains(&max_bytes) && max_bytes < full, "{max_bytes} bytes");
        let handles = fill(&pool);
        assert_all_hold(&pool, &handles);
        // Larger pools are refused, and the error names the cause.
        let large = PoolOptions { max_bytes: Some(8 << 30), ..PoolOptions::default() };
        for options in [large.clone(), PoolOptions { backing: Backing::MemoryFile, ..large }] {
            let Err(Error::NoMemory(text)) = Pool::new("fork", &options) else { panic!("it was not refused") };
            assert!(text.contains("max_bytes") && text.contains("RLIMIT_AS"), "{text}");
        }
        assert_all_hold(&pool, &handles);
    });
}

fn no_addresses() {
    in_child(|| {
        limit_addresses(16 << 20);
        for options in [PoolOptions::default(), sized()] {
            let Err(error) = Pool::new("fork", &options) else { panic!("it was not refused") };
            assert!(matches!(error, Error::NoMemory(text) if text.contains("RLIMIT_AS")), "{error}");
        }
    });
}
