//! Target: zswap's C functions, called by up to three threads while system calls fail.

use super::faults::{Call, Faults, given};
use super::input::Input;
use crate::functions::*;
use crate::system::errno::{EAGAIN, EBUSY, EINTR, EINVAL, EIO, ENOENT, ENOMEM, ENOSPC};
use crate::system::memory_file;
use crate::{zswap, zswap_area};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};
use zsalloc::PAGE_SIZE as PAGE;

const CALLS: [Call; 6] = [Call::Commit, Call::Advise, Call::Release, Call::Map, Call::Read, Call::Write];
const AREA_PAGES: u64 = 96;

const NO_CLAIM: zswap_claim = zswap_claim { area: std::ptr::null_mut(), offset: 0, ticket: 0, bytes: 0 };

/// The page that the writeback callback got last, for each offset.
#[derive(Default)]
struct WrittenPages(Mutex<HashMap<u64, Vec<u8>>>);

/// A tier of the program's own, which has no room for some extents and is away for others.
#[derive(Default)]
struct KeptExtents(Mutex<HashMap<(u64, u64), Vec<u8>>>);

/// What the threads share: the zswap and its area, the injected failures, and the pages that were written back.
#[derive(Clone, Copy)]
struct SharedZswap<'a> {
    zswap: *mut zswap,
    area: *mut zswap_area,
    faults: &'a Faults,
    disk: &'a WrittenPages,
    has_file: bool,
    threads: usize,
}

// SAFETY: the functions may be called by any thread, as the header says.
unsafe impl Send for SharedZswap<'_> {}

/// A thread owns the offsets whose remainder, divided by the number of threads, is its own number.
struct ZswapThread<'a> {
    shared: SharedZswap<'a>,
    own: usize,
    /// The key of the page stored at each offset.
    stored: HashMap<u64, u16>,
    /// Whether a system call may fail, or has failed.
    failing: bool,
}

/// Valid and invalid levels of Zstandard. High levels are left out: they would take most of a run and test nothing
/// more.
const LEVELS: [i32; 5] = [1, 3, 0, -1, 23];

/// Makes a page that repeats a word, one that compresses, or one that does not.
fn content(key: u16) -> [u8; PAGE] {
    let mut state = u64::from(key) | 1;
    let mut page = [(key >> 3) as u8; PAGE];
    let random = [0, PAGE / 8, PAGE / 2, PAGE][usize::from(key % 4)];
    for word in page[..random].as_chunks_mut::<8>().0 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *word = (state ^ state >> 29).to_ne_bytes();
    }
    page
}

#[track_caller]
fn one_of(result: c_int, errors: &[i32]) {
    assert!(result == 0 || errors.contains(&-result), "{result}");
}

unsafe extern "C" fn write(context: *mut c_void, area: *mut zswap_area, offset: u64, page: *const c_void) -> c_int {
    // SAFETY: the context lives as long as the zswap, and there is a page.
    let (disk, page) = unsafe { (&*context.cast::<WrittenPages>(), &*page.cast::<[u8; PAGE]>()) };
    // SAFETY: a call on the area runs.
    assert_eq!(unsafe { zswap_area_pages(area) }, AREA_PAGES);
    if offset.is_multiple_of(7) && page[PAGE - 1].is_multiple_of(2) {
        return -[EIO, ENOSPC, EAGAIN][offset as usize / 7 % 3];
    }
    disk.0.lock().unwrap().insert(offset, page.to_vec());
    0
}

impl ZswapThread<'_> {
    /// Returns an offset that this thread owns.
    fn offset(&self, input: &mut Input<'_>) -> u64 {
        let threads = self.shared.threads as u64;
        u64::from(input.u8()) % (AREA_PAGES / threads) * threads + self.own as u64
    }

    fn store(&mut self, input: &mut Input<'_>) {
        let (offset, key) = (self.offset(input), input.u16());
        let page = content(key);
        // SAFETY: the page is there, and the area.
        let result = unsafe { zswap_store(self.shared.area, offset, page.as_ptr().cast()) };
        one_of(result, &[ENOMEM, ENOSPC]);
        // A failed store removes the old page.
        if result == 0 {
            self.stored.insert(offset, key)
        } else {
            self.stored.remove(&offset)
        };
    }

    /// Stores neighbouring pages. These belong to different threads, so only a single thread does this.
    fn store_pages(&mut self, input: &mut Input<'_>) {
        if self.shared.threads > 1 {
            return self.store(input);
        }
        let (offset, count, key) = (self.offset(input), input.below(20), input.u16());
        let pages: Vec<_> = (0..count as u16).map(|at| content(key.wrapping_add(at))).collect();
        // SAFETY: the buffer has this many pages.
        let result = unsafe { zswap_store_pages(self.shared.area, offset, pages.as_ptr().cast(), count) };
        if offset + count as u64 > AREA_PAGES {
            return assert_eq!(result, -EINVAL);
        }
        one_of(result, &[ENOMEM, ENOSPC]);
        for at in 0..count as u64 {
            match result {
                0 => _ = self.stored.insert(offset + at, key.wrapping_add(at as u16)),
                _ => _ = self.stored.remove(&(offset + at)),
            }
        }
    }

    /// Checks the result of a load, and the page if it was loaded.
    fn check(&mut self, offset: u64, result: c_int, page: &[u8], exclusive: bool) {
        let Some(key) = self.stored.get(&offset).copied() else {
            return assert!(result == -ENOENT || self.failing && result == -EIO, "{result} for an absent page");
        };
        match -result {
            0 => {
                assert!(page == content(key), "the page at {offset} is another");
                if exclusive {
                    self.stored.remove(&offset);
                    self.shared.disk.0.lock().unwrap().remove(&offset);
                }
            }
            ENOENT => {
                let disk = self.shared.disk.0.lock().unwrap();
                let written = disk.get(&offset).is_some_and(|written| written[..] == content(key));
                assert!(written, "the page at {offset} is lost");
            }
            // The page stays.
            EIO => assert!(self.failing && self.shared.has_file, "the page at {offset} is damaged"),
            error => assert!(exclusive && [EAGAIN, EBUSY].contains(&error), "{error}"),
        }
    }

    fn load(&mut self, input: &mut Input<'_>) {
        let (offset, flags) = (self.offset(input), u32::from(input.u8() % 4));
        let mut page = [0xa5_u8; PAGE];
        // SAFETY: there is room for a page.
        let result = unsafe { zswap_load(self.shared.area, offset, page.as_mut_ptr().cast(), flags) };
        if result != 0 && flags & ZSWAP_LOAD_EXCLUSIVE == 0 {
            assert!(page.iter().all(|byte| *byte == 0xa5), "a load that failed wrote to the page");
        }
        self.check(offset, result, &page, flags & ZSWAP_LOAD_EXCLUSIVE != 0);
    }

    fn load_scattered(&mut self, input: &mut Input<'_>) {
        let (count, flags) = (input.below(12), u32::from(input.u8() & 1));
        let mut offsets: Vec<u64> = (0..count).map(|_| self.offset(input)).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let mut pages = vec![[0_u8; PAGE]; offsets.len()];
        let request = |(page, &offset): (&mut [u8; PAGE], &u64)| zswap_load_request {
            offset,
            page: page.as_mut_ptr().cast(),
            result: 1,
            reserved: 0,
        };
        let mut requests: Vec<_> = pages.iter_mut().zip(&offsets).map(request).collect();
        let area = self.shared.area;
        // SAFETY: the array has as many elements, and each has room for a page.
        let result = unsafe { zswap_load_scattered(area, requests.as_mut_ptr(), requests.len(), flags) };
        let first = requests.iter().map(|request| request.result).find(|result| *result != 0).unwrap_or(0);
        assert_eq!(result, first);
        for (request, page) in requests.iter().zip(&pages) {
            self.check(request.offset, request.result, page, flags & 1 != 0);
        }
    }

    fn invalidate(&mut self, input: &mut Input<'_>) {
        let (offset, flags) = (self.offset(input), u32::from(input.u8() & 1) << 1);
        let count = if self.shared.threads == 1 { 1 + u64::from(input.u8() % 8) } else { 1 };
        // SAFETY: the area is there.
        let result = unsafe { zswap_invalidate(self.shared.area, offset, count, flags) };
        match offset + count > AREA_PAGES {
            true => assert_eq!(result, -EINVAL),
            false => one_of(result, &[EAGAIN, EBUSY]),
        }
        if result == 0 {
            (offset..offset + count).for_each(|offset| _ = self.stored.remove(&offset));
        } else if result != -EINVAL {
            // The call does not report which pages are gone, so those that are left are no longer checked.
            for offset in offset..offset + count {
                // SAFETY: as above.
                unsafe { zswap_invalidate(self.shared.area, offset, 1, 0) };
                self.stored.remove(&offset);
            }
        }
    }

    fn shrink(&mut self, input: &mut Input<'_>) {
        let (pages, mut done) = (u64::from(input.u8()), 0_u64);
        let SharedZswap { zswap, area, .. } = self.shared;
        let (codec, level) = (u32::from(input.u8() % 4), LEVELS[input.below(LEVELS.len())]);
        // SAFETY: the zswap and its area are there.
        unsafe {
            match pages % 5 {
                0 => one_of(zswap_shrink(zswap, pages, &raw mut done), &[EINVAL, EAGAIN, ENOENT, EIO]),
                1 => one_of(zswap_shrink_area(area, pages, &raw mut done), &[EINVAL, EAGAIN, ENOENT, EIO]),
                2 => shrink_by(zswap, area, input),
                3 => assert_eq!(zswap_age(area), 0),
                _ => {
                    let result = zswap_recompress(area, pages, codec, level, &raw mut done);
                    one_of(result, &[EINVAL, ENOMEM, EAGAIN]);
                }
            }
        }
    }

    /// Claims pages and writes them back itself.
    fn write_back(&mut self, input: &mut Input<'_>) {
        let (max, how) = (input.below(40), input.u8());
        let (mut claims, mut pages) = (vec![NO_CLAIM; max], vec![[0_u8; PAGE]; max]);
        let mut count = 0;
        let (to, bytes, told) = (claims.as_mut_ptr(), pages.as_mut_ptr().cast(), &raw mut count);
        // SAFETY: the arrays have `max` elements.
        let result = unsafe {
            match how & 4 {
                0 => zswap_writeback_begin(self.shared.zswap, max, to, bytes, told),
                _ => zswap_writeback_begin_area(self.shared.area, max, to, bytes, told),
            }
        };
        one_of(result, &[EINVAL, EBUSY, EAGAIN, ENOENT]);
        if result != 0 {
            return;
        }
        for (claim, page) in claims[..count].iter().zip(&pages) {
            let outcome = if how & 3 == 0 { -EIO } else { 0 };
            if outcome == 0 {
                self.shared.disk.0.lock().unwrap().insert(claim.offset, page.to_vec());
            }
            let mut gone = 7;
            let told = std::ptr::NonNull::new(&raw mut gone);
            // SAFETY: a claim that was begun, and is ended once; then again, which is refused.
            unsafe {
                assert_eq!(zswap_writeback_end(claim, outcome, told), 0);
                assert_eq!(zswap_writeback_end(claim, outcome, told), -EINVAL);
            }
            assert!(gone == 1 || gone == 0);
        }
    }

    fn set(&mut self, input: &mut Input<'_>) {
        let (how, number) = (input.u8() % 8, input.u16());
        let SharedZswap { zswap, area, .. } = self.shared;
        let bytes = u64::from(number) << 6;
        let (mut offset, mut length) = (0_u64, 0_usize);
        let mut text = [0 as std::ffi::c_char; 256];
        // SAFETY: everything is there for the calls.
        unsafe {
            match how {
                0 => one_of(zswap_set_limit(zswap, bytes), &[EINVAL]),
                1 => one_of(zswap_area_set_limit(area, bytes), &[EINVAL]),
                2 => one_of(
                    zswap_set_codec(zswap, u32::from(number % 5), LEVELS[usize::from(number >> 3) % LEVELS.len()]),
                    &[EINVAL, ENOMEM],
                ),
                3 => one_of(zswap_area_refaulted(area, bytes), &[]),
                4 => one_of(zswap_reclaimable_pages(zswap, &raw mut offset), &[]),
                5 => {
                    let room = usize::from(number % 256);
                    one_of(zswap_stats_json(zswap, text.as_mut_ptr(), room, &raw mut length), &[ENOSPC]);
                }
                6 => {
                    let budget = zs_compact_budget { struct_size: 24, max_bytes_moved: bytes, max_microseconds: 0 };
                    one_of(zswap_compact(zswap, &raw const budget, &raw mut offset), &[EAGAIN, EBUSY, ENOMEM]);
                }
                _ => self.next(number),
            }
        }
    }

    /// Checks that the next stored page is one that was stored.
    fn next(&self, from: u16) {
        let mut offset = 0;
        // SAFETY: the area is there.
        let result = unsafe { zswap_next_stored(self.shared.area, u64::from(from), &raw mut offset) };
        one_of(result, &[ENOENT]);
        if self.shared.threads == 1 && result == 0 {
            assert!(offset >= u64::from(from) && self.stored.contains_key(&offset), "{offset} was reported as stored");
        }
    }

    fn fail(&mut self, input: &mut Input<'_>) {
        let (call, n, times) = (CALLS[input.below(CALLS.len())], input.below(8), input.below(4));
        self.failing = true;
        if matches!(call, Call::Read | Call::Write) {
            // The library repeats interrupted calls, so EINTR must end at some time.
            let errno = [EIO, if times == 0 { EIO } else { EINTR }, ENOSPC, ENOMEM][n % 4];
            self.shared.faults.say(call, errno, 0);
        }
        match n {
            0 => self.shared.faults.heal(call),
            _ => self.shared.faults.fail(call, n as u64, times as u64),
        }
    }

    fn run(&mut self, mut input: Input<'_>) {
        while !input.has_ended() {
            match input.below(14) {
                0..=3 => self.store(&mut input),
                4 => self.store_pages(&mut input),
                5 | 6 => self.load(&mut input),
                7 => self.load_scattered(&mut input),
                8 => self.invalidate(&mut input),
                9 | 10 => self.shrink(&mut input),
                11 => self.write_back(&mut input),
                12 => self.set(&mut input),
                _ => self.fail(&mut input),
            }
        }
    }

    /// Checks that every stored page is in the area or on disk.
    fn end(&mut self) {
        CALLS.iter().for_each(|&call| self.shared.faults.heal(call));
        let offsets: Vec<_> = self.stored.keys().copied().collect();
        for offset in offsets {
            let mut page = [0; PAGE];
            // SAFETY: there is room for a page.
            let result = unsafe { zswap_load(self.shared.area, offset, page.as_mut_ptr().cast(), 0) };
            self.check(offset, result, &page, false);
        }
    }
}

fn create(input: &mut Input<'_>, faults: &Arc<Faults>) -> Option<(*mut zswap, *mut zswap_area)> {
    let (shape, failing) = (input.u8(), input.u8());
    // SAFETY: zeros are options.
    let mut options: zswap_options = unsafe { std::mem::zeroed() };
    options.struct_size = size_of::<zswap_options>();
    options.max_bytes = (u64::from(shape & 7) << 16) + (1 << 18);
    options.codec = u32::from(shape >> 3) % 3;
    options.level = i32::from(options.codec == 1);
    // SAFETY: as above.
    let mut tuning: zswap_tuning = unsafe { std::mem::zeroed() };
    tuning.struct_size = size_of::<zswap_tuning>();
    tuning.contexts = 1 + u32::from(shape >> 7);
    tuning.max_claims = 16;
    options.tuning = &raw const tuning;
    if failing < CALLS.len() as u8 * 4 {
        faults.fail(CALLS[usize::from(failing) / 4], u64::from(failing % 4) + 1, 1);
    }
    // SAFETY: as above.
    let mut area_options: zswap_area_options = unsafe { std::mem::zeroed() };
    area_options.struct_size = size_of::<zswap_area_options>();
    area_options.flags = u32::from(shape >> 6) & ZSWAP_AREA_REFUSE_INCOMPRESSIBLE;
    let (mut zswap, mut area) = (null_mut(), null_mut());
    // SAFETY: the options and the places for the results live through the calls.
    let created = given(faults, || unsafe { zswap_create(&raw const options, &raw mut zswap) });
    if created != 0 {
        assert_eq!(created, -ENOMEM);
        return None;
    }
    // SAFETY: as above.
    let added = unsafe { zswap_add_area(zswap, AREA_PAGES, &raw const area_options, &raw mut area) };
    if added != 0 {
        assert_eq!(added, -ENOMEM);
        // SAFETY: it has no areas.
        assert_eq!(unsafe { zswap_destroy(zswap) }, 0);
        return None;
    }
    Some((zswap, area))
}

unsafe extern "C" fn put(context: *mut c_void, owner: u64, extent: u64, bytes: *const c_void, count: usize) -> c_int {
    // SAFETY: the context lives as long as the zswap, and the bytes are there.
    let (kept, bytes) =
        unsafe { (&*context.cast::<KeptExtents>(), std::slice::from_raw_parts(bytes.cast::<u8>(), count)) };
    match extent % 8 {
        3 => -ENOSPC,
        5 => -EAGAIN,
        _ => {
            let before = kept.0.lock().unwrap().insert((owner, extent), bytes.to_vec());
            assert!(before.is_none(), "a name is used twice");
            0
        }
    }
}

unsafe extern "C" fn get(
    context: *mut c_void,
    owner: u64,
    extent: u64,
    from: usize,
    bytes: *mut c_void,
    count: usize,
) -> c_int {
    // SAFETY: the context lives as long as the zswap, and there is room for the bytes.
    let (kept, room) =
        unsafe { (&*context.cast::<KeptExtents>(), std::slice::from_raw_parts_mut(bytes.cast::<u8>(), count)) };
    let kept = kept.0.lock().unwrap();
    room.copy_from_slice(&kept[&(owner, extent)][from..from + count]);
    0
}

unsafe extern "C" fn remove(context: *mut c_void, owner: u64, extent: u64) -> c_int {
    // SAFETY: the context lives as long as the zswap.
    let kept = unsafe { &*context.cast::<KeptExtents>() };
    match kept.0.lock().unwrap().remove(&(owner, extent)) {
        Some(_) => 0,
        None => ENOENT,
    }
}

/// Shrinks by options that may be wrong.
///
/// # Safety
/// The zswap and its area are there.
unsafe fn shrink_by(zswap: *mut zswap, area: *mut zswap_area, input: &mut Input<'_>) {
    let options = zswap_shrink_options {
        struct_size: size_of::<zswap_shrink_options>(),
        max_pages: input.u8().into(),
        max_bytes: u64::from(input.u8()) << 8,
        min_age: u32::from(input.u8() % 5),
        flags: u32::from(input.u8() % 3),
        reserved: [0; 4],
    };
    let mut done = zswap_shrunk { struct_size: size_of::<zswap_shrunk>(), pages: 0, bytes: 0 };
    // SAFETY: the caller vouches for the zswap and its area.
    let result = unsafe {
        match input.u8() % 2 {
            0 => zswap_shrink_by(zswap, &raw const options, &raw mut done),
            _ => zswap_shrink_area_by(area, &raw const options, &raw mut done),
        }
    };
    one_of(result, &[EINVAL, EAGAIN, ENOENT, EIO]);
    assert!(options.max_pages == 0 || done.pages <= options.max_pages);
    assert!(options.max_bytes == 0 || done.bytes <= options.max_bytes);
}

/// Adds a tier.
///
/// # Safety
/// The zswap is there, and the extents live longer than it.
unsafe fn add_tier(zswap: *mut zswap, kept: &KeptExtents) -> c_int {
    let ops = zswap_tier_ops {
        struct_size: size_of::<zswap_tier_ops>(),
        put: Some(put),
        get: Some(get),
        remove: Some(remove),
        room: None,
        reserved: [0; 4],
    };
    let (context, mut tier) = ((&raw const *kept).cast_mut().cast(), 7);
    // SAFETY: the caller vouches for the zswap and the context.
    unsafe { zswap_add_tier(zswap, &raw const ops, context, std::ptr::null(), &raw mut tier) }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (target, threads) = (input.u8(), input.below(3) + 1);
    let writeback = if target < 192 { target % 3 } else { 3 };
    let (faults, disk, kept) = (Arc::new(Faults::default()), WrittenPages::default(), KeptExtents::default());
    let Some((zswap, area)) = create(&mut input, &faults) else { return };
    CALLS.iter().for_each(|&call| faults.heal(call));
    let file = memory_file(c"fuzz", 64 * PAGE);
    // SAFETY: the callback's context, and the file, live longer than the zswap's use of them.
    let set = unsafe {
        match writeback {
            1 => zswap_set_writeback(zswap, Some(write), (&raw const disk).cast_mut().cast()),
            2 => zswap_set_backing_file(zswap, file.as_raw_fd(), 64 * PAGE as u64),
            3 => add_tier(zswap, &kept),
            _ => 0,
        }
    };
    assert_eq!(set, 0);
    let shared = SharedZswap { zswap, area, faults: &faults, disk: &disk, has_file: writeback == 2, threads };
    let thread = move |own, input: Input<'_>| {
        let mut thread = ZswapThread { shared: { shared }, own, stored: HashMap::new(), failing: threads > 1 };
        thread.run(input);
        thread.end();
    };
    match threads {
        1 => thread(0, input),
        _ => std::thread::scope(|scope| {
            let spawn = |(own, part)| scope.spawn(move || thread(own, part));
            let running: Vec<_> = input.parts(threads).enumerate().map(spawn).collect();
            // The end of the scope does not wait until the threads have completely ended.
            running.into_iter().for_each(|thread| thread.join().unwrap());
        }),
    }
    // SAFETY: nothing uses them any more.
    unsafe {
        assert_eq!(zswap_remove_area(area), 0);
        if writeback == 3 {
            assert_eq!(zswap_remove_tier(zswap, 0), 0);
        }
        assert_eq!(zswap_destroy(zswap), 0);
    }
    assert!(kept.0.lock().unwrap().is_empty(), "an extent is left on the tier");
}
