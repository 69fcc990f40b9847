//! Target: the pool's C functions, called by up to three threads while system calls fail.

use super::faults::{Call, Faults, given};
use super::input::Input;
use crate::functions::*;
use crate::system::errno::{EAGAIN, EBUSY, EINVAL, ENOENT, ENOMEM, ENOSPC};
use crate::zs_pool;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};

const CALLS: [Call; 7] =
    [Call::Map, Call::Commit, Call::Advise, Call::Release, Call::MemoryFile, Call::Allocate, Call::ForkGuard];

/// An object that this thread owns.
struct Object {
    handle: u64,
    key: u8,
    size: usize,
    /// Its address while it is mapped.
    mapped: Option<*mut u8>,
}

/// The handles that the evict callback freed. With other threads it frees none, because they may own the objects.
#[derive(Default)]
struct FreedHandles(Mutex<Option<Vec<u64>>>);

/// What the threads share: the pool, the injected failures, and the evict callback's context.
#[derive(Clone, Copy)]
struct SharedPool<'a>(*mut zs_pool, &'a Faults, &'a FreedHandles);

// SAFETY: the functions may be called by any thread, as the header says.
unsafe impl Send for SharedPool<'_> {}

struct PoolThread<'a> {
    pool: *mut zs_pool,
    faults: &'a Faults,
    evicted: &'a FreedHandles,
    objects: Vec<Object>,
    /// Handles of objects that were freed while mapped.
    dying: Vec<u64>,
    stale: Vec<u64>,
    alone: bool,
    /// Whether the pool has tags.
    tagged: bool,
}

fn byte(key: u8, at: usize) -> u8 {
    key.wrapping_mul(31) ^ at as u8 ^ (at >> 8) as u8
}

fn content(key: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| byte(key, at)).collect()
}

#[track_caller]
fn one_of(result: c_int, errors: &[i32]) {
    assert!(result == 0 || errors.contains(&-result), "{result}");
}

unsafe extern "C" fn evict(context: *mut c_void, pool: *mut zs_pool, handle: u64) -> c_int {
    // SAFETY: the context lives as long as the pool.
    let evicted = unsafe { &*context.cast::<FreedHandles>() };
    match &mut *evicted.0.lock().unwrap() {
        // The callback refuses some objects.
        Some(handles) if !handle.is_multiple_of(3) => {
            // SAFETY: the pool is there for as long as the callback runs.
            assert_eq!(unsafe { zs_free(pool, handle) }, 0);
            handles.push(handle);
            0
        }
        _ => 1,
    }
}

impl PoolThread<'_> {
    /// Allocates an object, whose tag is its key in a pool with tags.
    fn allocate(&self, size: usize, key: u8, handle: &mut u64) -> c_int {
        if !self.tagged {
            // SAFETY: the pool is there, and so is what results go to, here and below.
            return unsafe { zs_malloc(self.pool, size, handle) };
        }
        let mut tag = 0;
        // SAFETY: as above.
        unsafe {
            if zs_malloc_tagged(self.pool, size, key.into(), handle).is_null() {
                return zs_last_errno();
            }
            assert_eq!(zs_get_tag(self.pool, *handle, &raw mut tag), 0);
            assert_eq!(tag, u64::from(key));
            zs_unmap_object(self.pool, *handle)
        }
    }

    fn malloc(&mut self, input: &mut Input<'_>) {
        let (size, key) = (usize::from(input.u16()) % 4200, input.u8());
        let mut handle = 0;
        let most = if self.tagged { ZS_MAX_TAGGED_SIZE } else { ZS_MAX_ALLOC_SIZE };
        match self.allocate(size, key, &mut handle) {
            0 => {
                let bytes = content(key, size);
                // SAFETY: the buffer has this many bytes.
                assert_eq!(unsafe { zs_obj_write(self.pool, handle, bytes.as_ptr().cast(), size) }, 0);
                self.objects.push(Object { handle, key, size, mapped: None });
            }
            error => {
                let expected = match size {
                    0 => -EINVAL,
                    size if size <= most => -ENOMEM,
                    _ => -ENOSPC,
                };
                assert_eq!(error, expected, "{size} bytes");
            }
        }
    }

    fn free(&mut self, at: usize) {
        if at >= self.objects.len() {
            return;
        }
        let object = self.objects.swap_remove(at);
        // SAFETY: as above.
        assert_eq!(unsafe { zs_free(self.pool, object.handle) }, 0);
        self.stale.push(object.handle);
        if object.mapped.is_some() {
            self.dying.push(object.handle);
        }
    }

    /// Maps an object that is not mapped. Checks, changes and unmaps one that is.
    fn map(&mut self, at: usize, key: u8) {
        let Some(object) = self.objects.get_mut(at) else { return };
        let Some(mapped) = object.mapped.take() else {
            // SAFETY: as above.
            let pointer = unsafe { zs_map_object(self.pool, object.handle, 0) };
            assert!(!pointer.is_null());
            object.mapped = Some(pointer.cast());
            return;
        };
        // SAFETY: it is mapped, and this thread's.
        let bytes = unsafe { std::slice::from_raw_parts_mut(mapped, object.size) };
        assert!(bytes.iter().enumerate().all(|(at, is)| *is == byte(object.key, at)));
        bytes.iter_mut().enumerate().for_each(|(at, is)| *is = byte(key, at));
        object.key = key;
        // SAFETY: as above.
        assert_eq!(unsafe { zs_unmap_object(self.pool, object.handle) }, 0);
    }

    fn read(&self, at: usize) {
        let Some(object) = self.objects.get(at) else { return };
        let mut bytes = vec![0; object.size];
        // SAFETY: the buffer has this many bytes.
        assert_eq!(unsafe { zs_obj_read(self.pool, object.handle, bytes.as_mut_ptr().cast(), object.size) }, 0);
        assert_eq!(bytes, content(object.key, object.size));
    }

    fn misuse(&self, input: &mut Input<'_>) {
        let (how, at, number) = (input.below(5), input.u8(), input.u64());
        let known =
            |handle: u64| self.objects.iter().any(|object| object.handle == handle) || self.dying.contains(&handle);
        let handle = match self.stale.get(usize::from(at) % self.stale.len().max(1)) {
            Some(stale) if number & 1 == 0 => *stale,
            _ if self.alone => number,
            _ => 0,
        };
        if known(handle) {
            return;
        }
        let mut buffer = [0_u8; 8];
        // SAFETY: the buffers have 8 bytes.
        let result = unsafe {
            match how {
                0 => zs_free(self.pool, handle),
                1 if zs_map_object(self.pool, handle, number as u32 % 4).is_null() => zs_last_errno(),
                1 => 0,
                2 => zs_unmap_object(self.pool, handle),
                3 => zs_obj_read(self.pool, handle, buffer.as_mut_ptr().cast(), 8),
                _ => zs_obj_write(self.pool, handle, buffer.as_ptr().cast(), 8),
            }
        };
        assert_eq!(result, -EINVAL, "{handle:x} was taken in {how}");
    }

    fn make_room(&mut self, input: &mut Input<'_>) {
        let (pages, mut done) = (u64::from(input.u8()), 0);
        let budget = zs_compact_budget { struct_size: 24, max_bytes_moved: pages << 10, max_microseconds: 0 };
        // SAFETY: as above.
        unsafe {
            if pages & 1 == 0 {
                one_of(zs_compact(self.pool, &raw const budget, &raw mut done), &[EAGAIN, EBUSY, ENOMEM]);
                return;
            }
            if self.alone {
                *self.evicted.0.lock().unwrap() = Some(Vec::new());
            }
            one_of(zs_shrink(self.pool, pages, &raw mut done), &[EAGAIN, ENOENT]);
        }
        for handle in self.evicted.0.lock().unwrap().take().unwrap_or_default() {
            let at = self.objects.iter().position(|object| object.handle == handle).expect("it was there");
            let object = self.objects.swap_remove(at);
            assert!(object.mapped.is_none(), "a mapped object was evicted");
            self.stale.push(object.handle);
        }
    }

    fn look(&self, input: &mut Input<'_>) {
        let mut stats = zs_pool_stats { struct_size: size_of::<zs_pool_stats>(), ..Default::default() };
        let (mut pages, mut fd, mut size) = (0, 0, 0);
        // SAFETY: as above.
        unsafe {
            assert_eq!(zs_pool_stats(self.pool, &raw mut stats), 0);
            assert_eq!(zs_get_total_pages(self.pool, &raw mut pages), 0);
            one_of(zs_pool_fd(self.pool, &raw mut fd), &[ENOENT]);
            one_of(zs_lookup_class_size(self.pool, usize::from(input.u16()), &raw mut size), &[EINVAL, ENOSPC]);
        }
        if self.alone {
            assert_eq!(stats.objects, (self.objects.len() + self.dying.len()) as u64);
            assert_eq!(pages, stats.total_pages);
        }
    }

    fn fail(&self, input: &mut Input<'_>) {
        let (call, n, times) = (CALLS[input.below(CALLS.len())], input.below(8), input.below(4));
        if n == 0 { self.faults.heal(call) } else { self.faults.fail(call, n as u64, times as u64) }
    }

    fn run(&mut self, mut input: Input<'_>) {
        while !input.has_ended() {
            let (step, count) = (input.below(12), self.objects.len());
            match step {
                0..=3 => self.malloc(&mut input),
                4 | 5 => self.free(input.below(count)),
                6 => self.map(input.below(count), input.u8()),
                7 => self.read(input.below(count)),
                8 => self.misuse(&mut input),
                9 => self.make_room(&mut input),
                10 if input.u8() & 1 == 0 => self.look(&mut input),
                10 => {
                    let max_bytes = u64::from(input.u16()) << 10;
                    // SAFETY: as above.
                    one_of(unsafe { zs_set_max_bytes(self.pool, max_bytes) }, &[EINVAL, ENOMEM, ENOSPC, EBUSY]);
                }
                _ => self.fail(&mut input),
            }
        }
    }

    /// Checks that no object was lost, and that all of them can be freed.
    fn end(&mut self) {
        (0..self.objects.len()).for_each(|at| match self.objects[at].mapped {
            Some(_) => self.map(at, 7),
            None => self.read(at),
        });
        // SAFETY: as above.
        self.dying.drain(..).for_each(|handle| assert_eq!(unsafe { zs_unmap_object(self.pool, handle) }, 0));
        while self.objects.len() > 3 {
            self.free(0);
        }
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (shape, flags, threads, failing) = (input.u8(), u32::from(input.u8()), input.below(3) + 1, input.u8());
    let faults = Arc::new(Faults::default());
    // SAFETY: zeros are options.
    let mut options: zs_pool_options = unsafe { std::mem::zeroed() };
    options.struct_size = size_of::<zs_pool_options>();
    options.max_bytes = (1 + u64::from(shape >> 4)) << 20;
    options.backing = u32::from(shape & 1);
    options.flags = flags & ZS_POOL_HARDENED;
    // SAFETY: as above.
    let mut tuning: zs_pool_tuning = unsafe { std::mem::zeroed() };
    tuning.struct_size = size_of::<zs_pool_tuning>();
    tuning.flags = flags & (ZS_POOL_DONTFORK | ZS_POOL_NO_ADVICE | ZS_POOL_HUGE_NEVER | ZS_POOL_TAGGED);
    let tagged = tuning.flags & ZS_POOL_TAGGED != 0;
    options.tuning = &raw const tuning;
    if failing < CALLS.len() as u8 * 4 {
        faults.fail(CALLS[usize::from(failing) / 4], u64::from(failing % 4) + 1, 1);
    }
    let mut pool = null_mut();
    // SAFETY: the name, the options and the place for the result live through the call.
    let created = given(&faults, || unsafe { zs_create_pool(c"fuzz".as_ptr(), &raw const options, &raw mut pool) });
    if created != 0 {
        return assert_eq!(created, -ENOMEM);
    }
    let evicted = FreedHandles::default();
    // SAFETY: the callback's context lives longer than the pool.
    assert_eq!(unsafe { zs_set_evict(pool, Some(evict), (&raw const evicted).cast_mut().cast()) }, 0);
    let shared = SharedPool(pool, &faults, &evicted);
    let thread = move |input: Input<'_>| {
        let SharedPool(pool, faults, evicted) = { shared };
        let (objects, dying, stale, alone) = (Vec::new(), Vec::new(), Vec::new(), threads == 1);
        let mut thread = PoolThread { pool, faults, evicted, objects, dying, stale, alone, tagged };
        thread.run(input);
        thread.end();
    };
    match threads {
        1 => thread(input),
        _ => std::thread::scope(|scope| {
            let running: Vec<_> = input.parts(threads).map(|part| scope.spawn(move || thread(part))).collect();
            // The end of the scope does not wait until the threads have completely ended.
            running.into_iter().for_each(|thread| thread.join().unwrap());
        }),
    }
    // SAFETY: nothing uses it any more.
    assert_eq!(unsafe { zs_destroy_pool(pool) }, 0);
}
