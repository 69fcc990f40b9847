//! How many zspages one call of the pool looks at does not grow with the pool.

use super::shared::{free, options, set_evict, store, unmap};
use crate::geometry::{self, class_of};
use crate::word::RawHandle;
use crate::{Backing, CompactBudget, Error, MapMode, Pool, Verdict};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Zspages of objects of this size are one page.
const SMALL: usize = 64;
/// More zspages than this in one call are too many.
const FEW: u64 = 1024;

fn slots(size: usize) -> usize {
    geometry::of(class_of(size)).slots as usize
}

fn pool() -> Pool {
    Pool::new("stops", &options(64 << 20, Backing::Anonymous)).unwrap()
}

/// Fills this many zspages with small objects, and returns one object of each.
fn fill(pool: &Pool, zspages: usize) -> Vec<u64> {
    let zspage = |_| {
        let first = store(pool, 0, SMALL).unwrap();
        (1..slots(SMALL)).for_each(|_| _ = store(pool, 0, SMALL).unwrap());
        first
    };
    (0..zspages).map(zspage).collect()
}

fn zspage_of(pool: &Pool, handle: u64) -> u32 {
    pool.memory.word(RawHandle::unpack(handle).index).peek().place().zspage.0
}

/// Sets a callback that frees each object and notes its zspage.
fn note_victims(pool: &Pool) -> Arc<Mutex<Vec<u32>>> {
    let victims = Arc::<Mutex<Vec<u32>>>::default();
    let noted = victims.clone();
    let evict = move |pool: &Pool, handle: u64| {
        let (zspage, mut noted) = (zspage_of(pool, handle), noted.lock().unwrap());
        if noted.last() != Some(&zspage) {
            noted.push(zspage);
        }
        free(pool, handle)
    };
    set_evict(pool, evict);
    victims
}

fn touch(pool: &Pool, handle: u64) {
    pool.map_raw(handle, MapMode::Read).unwrap();
    unmap(pool, handle).unwrap();
}

#[test]
fn shrink_of_one_page_looks_at_as_many_zspages_in_a_large_pool_as_in_a_small_one() {
    let most = |zspages| {
        let pool = pool();
        let victims = note_victims(&pool);
        fill(&pool, zspages);
        let looked = |_| {
            let before = pool.reclaim.looked();
            assert_eq!(pool.shrink(1).unwrap(), 1);
            pool.reclaim.looked() - before
        };
        let most = (0..40).map(looked).max().unwrap();
        assert_eq!(victims.lock().unwrap().len(), 40);
        pool.check();
        most
    };
    let (small, large) = (most(1000), most(6000));
    assert!(small <= FEW && large <= FEW, "{small} zspages were looked at of 1000, {large} of 6000");
}

#[test]
fn shrink_of_one_page_that_the_callback_refuses_is_bounded_as_well() {
    let pool = pool();
    pool.set_evict(|_| Verdict::Keep).unwrap();
    fill(&pool, 6000);
    assert!(pool.shrink(1).is_err());
    let looked = pool.reclaim.looked();
    assert!(looked <= 8 * FEW, "{looked} zspages were looked at for eight that were refused");
}

/// Every zspage of one half was used after those of the other half. None of them goes, wherever the halves lie.
#[test]
fn shrink_takes_the_unused_half_of_a_large_pool_first() {
    let halves: [fn(usize) -> bool; 4] = [|at| at < 2000, |at| at >= 2000, |at| at % 2 == 0, |at| at / 64 % 2 == 0];
    for is_used in halves {
        let pool = pool();
        let victims = note_victims(&pool);
        let firsts = fill(&pool, 4000);
        let used: Vec<_> = (0..4000).map(is_used).collect();
        let of_zspage: HashMap<_, _> = firsts.iter().map(|&first| zspage_of(&pool, first)).zip(used.clone()).collect();
        firsts.iter().zip(used).filter(|(_, used)| *used).for_each(|(&first, _)| touch(&pool, first));
        for pages in [1; 300].into_iter().chain([1000]) {
            assert_eq!(pool.shrink(pages).unwrap(), pages);
        }
        let wrong = victims.lock().unwrap().iter().filter(|zspage| of_zspage[zspage]).count();
        assert_eq!(wrong, 0, "{wrong} of 1300 zspages that went were in use");
    }
}

/// Most objects that leave a large pool, which was filled once, were put there first.
#[test]
fn shrink_of_a_large_pool_takes_about_the_oldest() {
    let pool = pool();
    let victims = note_victims(&pool);
    let firsts = fill(&pool, 4000);
    let age: HashMap<_, _> = firsts.iter().map(|&first| zspage_of(&pool, first)).zip(0..).collect();
    (0..400).for_each(|_| assert_eq!(pool.shrink(1).unwrap(), 1));
    let victims = victims.lock().unwrap();
    let old = victims.iter().filter(|zspage| age[zspage] < 800).count();
    assert!(old >= 360, "{old} of the 400 zspages that went are among the 800 oldest");
}

#[test]
fn shrink_finds_the_last_zspages_of_a_pool_that_was_large() {
    let pool = pool();
    let victims = note_victims(&pool);
    let firsts = fill(&pool, 6000);
    assert_eq!(pool.shrink(5990).unwrap(), 5990);
    assert_eq!(pool.stats().unwrap().zspages, 10);
    assert_eq!(pool.shrink(100).unwrap(), 10);
    assert!(matches!(pool.shrink(1), Err(Error::NotFound(_))));
    assert_eq!(victims.lock().unwrap().len(), firsts.len());
    pool.check();
}

/// At the limit, a class whose zspages are full, or have memory for their objects only, refuses at once.
#[test]
fn refused_malloc_does_not_look_at_zspages_that_have_no_room() {
    const SIZE: usize = 1000;
    let pool = pool();
    let mut handles: Vec<_> = (0..600 * slots(SIZE)).map(|key| store(&pool, key as u64, SIZE).unwrap()).collect();
    let looked = |what: &str| {
        pool.set_max_bytes(Some(4096)).unwrap();
        let of_class = &pool.classes[class_of(SIZE).0 as usize];
        let before = of_class.lock(&pool.memory).looked;
        while pool.malloc_raw(SIZE).is_ok() {}
        let first = of_class.lock(&pool.memory).looked;
        assert!(matches!(pool.malloc_raw(SIZE), Err(Error::Limit(_))));
        let looked = of_class.lock(&pool.memory).looked - first;
        println!("{what}: {looked} zspages, {} before", first - before);
        pool.set_max_bytes(None).unwrap();
        looked
    };
    assert_eq!(looked("all are full"), 0);
    // Half of each zspage goes, and compaction gives the ends back that have no objects any more; a mapped object in
    // each keeps it where it is.
    handles.chunks(slots(SIZE)).for_each(|zspage| {
        pool.map_raw(zspage[0], MapMode::Read).unwrap();
        zspage[slots(SIZE) / 2..].iter().for_each(|&handle| free(&pool, handle).unwrap());
    });
    handles = handles.chunks(slots(SIZE)).flat_map(|zspage| zspage[..slots(SIZE) / 2].to_vec()).collect();
    pool.compact(&CompactBudget::default()).unwrap();
    assert_eq!(looked("all have memory for their objects alone"), 0);
    // The next allocation gets a slot that was freed, wherever it lies.
    let (gone, _): (Vec<_>, Vec<_>) = handles.iter().enumerate().partition(|(at, _)| at % (slots(SIZE) / 2 * 3) == 5);
    pool.set_max_bytes(Some(4096)).unwrap();
    gone.iter().for_each(|(_, handle)| free(&pool, **handle).unwrap());
    for _ in &gone {
        store(&pool, 1, SIZE).unwrap();
    }
    pool.check();
}

/// Slots that were freed before the pool was at its limit are all used, however deep in their list their zspages lie.
#[test]
fn malloc_at_the_limit_uses_slots_that_were_freed_long_before() {
    const SIZE: usize = 1000;
    let pool = pool();
    let half = slots(SIZE) / 2;
    let handles: Vec<_> = (0..600 * slots(SIZE)).map(|key| store(&pool, key as u64, SIZE).unwrap()).collect();
    // All zspages lose half of their objects, and the rest stays where it is. The first 200 keep the memory of the
    // other half, because it lies in front of what stays; the last 400, which are first on the list, lose it.
    for (at, zspage) in handles.chunks(slots(SIZE)).enumerate() {
        let (front, back) = zspage.split_at(half);
        let (gone, kept) = if at < 200 { (front, back) } else { (back, front) };
        gone.iter().for_each(|&handle| free(&pool, handle).unwrap());
        kept.iter().for_each(|&handle| _ = pool.map_raw(handle, MapMode::Read).unwrap());
    }
    pool.compact(&CompactBudget::default()).unwrap();
    pool.set_max_bytes(Some(4096)).unwrap();
    let of_class = &pool.classes[class_of(SIZE).0 as usize];
    let looked = || of_class.lock(&pool.memory).looked;
    (0..200 * half).for_each(|key| _ = store(&pool, key as u64, SIZE).unwrap());
    println!("{} zspages were looked at for {} allocations", looked(), 200 * half);
    assert!(looked() <= 200 * half as u64 * 2 + 600, "{} zspages", looked());
    // From then on a slot that is freed is found at once, wherever it lies.
    let before = looked();
    for zspage in (0..200).rev().step_by(7) {
        let handle = handles[zspage * slots(SIZE) + half];
        unmap(&pool, handle).unwrap();
        free(&pool, handle).unwrap();
        store(&pool, 1, SIZE).unwrap();
    }
    assert!(looked() - before <= 29 * 8, "{} zspages for 29 allocations", looked() - before);
}

/// If only a zspage that a shrink has isolated has free slots with memory, refusals do not look at all other zspages.
#[test]
fn malloc_at_the_limit_looks_once_for_slots_that_are_out_of_reach() {
    const SIZE: usize = 1000;
    let pool = pool();
    let half = slots(SIZE) / 2;
    let handles: Vec<_> = (0..401 * slots(SIZE)).map(|key| store(&pool, key as u64, SIZE).unwrap()).collect();
    // 400 zspages have memory for their objects alone, which stay where they are; the last one is full.
    for zspage in handles[..400 * slots(SIZE)].chunks(slots(SIZE)) {
        zspage[half..].iter().for_each(|&handle| free(&pool, handle).unwrap());
        zspage[..half].iter().for_each(|&handle| _ = pool.map_raw(handle, MapMode::Read).unwrap());
    }
    pool.compact(&CompactBudget::default()).unwrap();
    pool.set_max_bytes(Some(4096)).unwrap();
    while pool.malloc_raw(SIZE).is_ok() {}
    let (of_class, last) = (&pool.classes[class_of(SIZE).0 as usize], handles[400 * slots(SIZE)]);
    let id = crate::units::ZspageId(zspage_of(&pool, last));
    assert!(of_class.lock(&pool.memory).isolate(&pool.memory, id));
    free(&pool, last).unwrap();
    let looked = || of_class.lock(&pool.memory).looked;
    let (before, in_front) = (looked(), 2 * 32);
    (0..100).for_each(|_| assert!(matches!(pool.malloc_raw(SIZE), Err(Error::Limit(_)))));
    let most = 100 * in_front + 401;
    assert!(looked() - before <= most, "{} zspages for 100 refusals", looked() - before);
    assert!(of_class.lock(&pool.memory).end_isolation(&pool.memory, id).is_none());
    pool.malloc_raw(SIZE).unwrap();
    pool.check();
}
