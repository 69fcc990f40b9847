/*
 * zsalloc: a pool of small objects behind movable handles, and zswap, a swap layer in memory on it.
 *
 * The pool is the Linux kernel's zsmalloc for programs: memory for many objects of 1 to
 * ZS_MAX_ALLOC_SIZE bytes of all sizes, such as compressed pages. A program holds a handle, not an
 * address, and maps the object while it uses it. So the pool can move objects together when others
 * were freed (zs_compact) and give memory back to the system, and it can ask the program to let the
 * objects go that were longest unused (zs_set_evict, zs_shrink). Its functions begin with zs_.
 *
 * zswap is for who has pages and not objects: a hypervisor, a swap daemon, a cache of blocks. It
 * takes pages of 4096 bytes, compresses them into a pool of its own, and gives them back. Its
 * functions begin with zswap_; the section ZSWAP below tells how it works. Use one or the other:
 * neither needs the other's functions.
 *
 * A pager keeps memory of the program itself to a limit, through Linux's userfaultfd: what was not
 * used lately goes into a zswap, and comes back when it is touched. Its functions begin with
 * zspager_; the section PAGER below tells how it works. They are there in a library that was built
 * with the feature uffd (cargo build --release --features uffd): a program that is linked with one
 * defines ZSALLOC_UFFD before it includes this header.
 *
 * Example:
 *
 *     #include <stdio.h>
 *     #include <zsalloc.h>
 *
 *     int main(void)
 *     {
 *         struct zs_pool *pool;
 *         zs_handle_t handle;
 *         void *object;
 *         int result = zs_create_pool("example", NULL, &pool);
 *         if (result != 0) {
 *             fprintf(stderr, "no pool: %s\n", zs_strerror(result));
 *             return 1;
 *         }
 *         if (zs_malloc(pool, 6, &handle) == 0) {
 *             zs_obj_write(pool, handle, "hello", 6);
 *             if (zs_map_object(pool, handle, ZS_MM_RO, &object) == 0) {
 *                 puts((const char *)object);
 *                 zs_unmap_object(pool, handle);
 *             }
 *             zs_free(pool, handle);
 *         }
 *         return zs_destroy_pool(pool) == 0 ? 0 : 1;
 *     }
 *
 * Example:
 *
 *     #include <stdio.h>
 *     #include <zsalloc.h>
 *
 *     int main(void)
 *     {
 *         static char page[ZSWAP_PAGE_SIZE] = "hello", copy[ZSWAP_PAGE_SIZE];
 *         struct zswap *zswap;
 *         struct zswap_area *area;
 *         int result = zswap_create(NULL, &zswap);
 *         if (result == 0)
 *             result = zswap_add_area(zswap, 1000, NULL, &area);
 *         if (result == 0)
 *             result = zswap_store(area, 7, page);
 *         if (result == 0)
 *             result = zswap_load(area, 7, copy, 0);
 *         if (result != 0) {
 *             fprintf(stderr, "%s\n", zs_strerror(result));
 *             return 1;
 *         }
 *         puts(copy);
 *         return zswap_remove_area(area) == 0 && zswap_destroy(zswap) == 0 ? 0 : 1;
 *     }
 *
 * examples/store_pages.c in the sources has limits, a backing file and statistics too.
 *
 * Link with -lzsalloc. With the static library, libzsalloc.a, also with -lpthread -ldl -lm, which
 * recent C libraries have inside.
 *
 * RESULTS. A function that returns int returns 0, or a negative error number of errno.h; the
 * variable errno means nothing after it. zs_strerror() has a sentence for each number. Outputs come
 * last and are written only when the result is 0. No pointer may be NULL unless its function says
 * so: NULL is -EINVAL, not a crash. A load of a page is -EIO if the page is damaged or its file
 * can't be read. Every other function can return -EIO, and none should: a bug in zsalloc was
 * caught, and the reason was written to stderr. The pool that it happened in is best not used any
 * more.
 *
 * BYTES. What an object holds is undefined until it is written; it may be what a freed object held.
 * An object lies at a multiple of 16, and has at least the bytes that were asked for, and a few
 * more at times, as zs_lookup_class_size() tells. Nothing stops a program from writing past that,
 * into other objects. An address is good only while its object is mapped. A mapped object does not
 * move, and the memory around it can't be given back, so unmap what is not in use.
 *
 * HANDLES. A handle that is stale (its object was freed) or is of another pool is refused with
 * -EINVAL, and nothing happens to other objects. A handle has an index and a 16-bit count of that
 * index's uses: a stale handle is refused until its index was used again 65,536 times, and may name
 * another object then. In a pool with ZS_POOL_HARDENED an index whose count wrapped is never used
 * again, so that a stale handle is refused for ever. Pools are told apart by 16 bits of the handle
 * too: of 65,536 pools that a process creates one after the other, the first and the last take each
 * other's handles for their own.
 *
 * THREADS. Every function may be called from any thread at any time, except that nothing else may
 * run on a pool while zs_destroy_pool() does, on a zswap while zswap_destroy() does, on a pager
 * while zspager_destroy() does, or begin on an area while zswap_remove_area() runs. zs_free(),
 * zs_unmap_object(), and zs_map_object() with ZS_MM_RO never wait. The others wait for a short
 * critical section of another thread at most, or as their text says; zs_compact(), zs_shrink() and
 * their like take as long as their work. No function starts a thread or reads the environment, and
 * none but the pager's changes signals: see PAGER. A thread that pthread_cancel() cancels in a
 * function, in a callback that a function calls, or in the touch of a pager's region is cancelled
 * after that, at the next point where it can be. PTHREAD_CANCEL_ASYNCHRONOUS is not for threads
 * that call functions or touch regions.
 *
 * MEMORY. No function ends the program when malloc() fails. malloc() is called by what creates a
 * pool, a zswap or a pager, adds an area or a region, sets a backing file, prepares a fork of a
 * zswap, or prepares a codec that was not set before (zswap_set_codec, zswap_recompress), and these
 * are -ENOMEM then. All others call neither malloc() nor free(), among them those that a program
 * needs when its memory is short: what frees, invalidates, compacts, shrinks and writes back,
 * zswap_remove_area(), and the statistics, as JSON too. In a library that was loaded by dlopen()
 * the first call of a thread may allocate the thread's own variables, a few words, inside the C
 * library.
 *
 * JAILS. What a system lacks or forbids shows when something is created. From then on, until it is
 * destroyed, only these system calls are made (tests run everything under a filter of these lists,
 * c-tests/jail.c, and fail if a call is missing or not needed):
 * - a pool: futex, madvise, mprotect, munmap, process_madvise. The last not with ZS_POOL_NO_ADVICE.
 * - a pool in a memory file: close, mincore. Besides those of a pool, as all that follow.
 * - a pool in huge pages: close, fallocate.
 * - a fork that is prepared: getpid. For a zswap also those of an area.
 * - an area that is added, or a codec that is prepared: brk, mmap, munlock. A zswap needs those of a pool
 *   and these.
 * - a backing file: close, fstat, newfstatat, pread64, pwrite64. fstat() is one or the other.
 * - a pager: ioctl, read, rt_sigprocmask. Besides those of a zswap.
 * - threads that are lent: poll, pread64, pwrite64, write.
 * - a discard of pages that are held: getpid, process_vm_writev. With ZSPAGER_FAULT_THREADS neither.
 * - eviction in place: getpid, process_vm_readv. With ZSPAGER_FAULT_THREADS neither.
 * - either of them where the call is refused: pread64, pwrite64. Of /proc/self/mem.
 * - a region of a memory file: cachestat, close, fallocate, mincore, pread64, pwrite64. It is evicted in
 *   place.
 * To add a region may take more, such as reading /proc/self/maps: add it before the filter is set.
 *
 * CALLBACKS. The evict callback runs only inside zs_shrink(), the writeback callback only inside
 * zswap_shrink() and zswap_shrink_area(), in the thread that called these. They may call every
 * function, also on their own pool or area, but zs_destroy_pool() of it is refused with -EBUSY, and
 * so are zswap_remove_area() of the area and zswap_destroy() of the zswap. In a writeback callback
 * nothing waits for a writeback, since that could wait for this one: what would have to wait is
 * -EBUSY, and nothing has changed then; so it is with zswap_invalidate() of the very page that is
 * written. A store to that page does not wait, and is what is stored from then on. Do not shrink,
 * and call nothing that waits for a writeback, with a lock of your own held that the callback takes.
 *
 * ZSWAP. A zswap has areas, each with pages of its own offsets, as swap devices or guests have
 * them, and one pool. zswap_store() puts a page in, under a limit in bytes of slots, which is what
 * its compressed form costs. When the limit is met, stores are -ENOMEM until the usage has fallen a
 * little below it (zswap_options.accept_percent): then the program writes pages back, by
 * zswap_shrink(), which hands those that were not used lately to a callback (zswap_set_writeback)
 * or puts them on a file (zswap_set_backing_file); or by claiming them itself
 * (zswap_writeback_begin), or lets them go (zswap_invalidate). zswap never does it by itself. A
 * page that was written back by a callback or a claim is not here any more: its load is -ENOENT, and
 * the program reads it from where it wrote it. A page on the backing file is loaded as any other.
 *
 * zswap keeps three promises. A load returns the page as it was stored last, or fails: what is
 * stored has a check, with its area and offset in it. A store that fails leaves nothing at its
 * offset, so that an old copy can't be taken for the new page. And an old copy never reaches the
 * disk after a newer one: a page is not written back twice at a time, and when zswap_invalidate(), a
 * load with ZSWAP_LOAD_EXCLUSIVE, or a failed store returns, no writeback of the page that began
 * before is running. (Only a failed store in a callback, or of a page whose claim this thread
 * holds, does not wait for it.) Two threads that store, take or invalidate the same offset at the
 * same time get the outcome of one order or the other.
 *
 * PAGER. It takes Linux 5.11 or later with userfaultfd. Before Linux 6.6 a damaged page can't be
 * poisoned: a touch of it gets SIGBUS with ZSPAGER_FAULT_SIGBUS, and with ZSPAGER_FAULT_THREADS waits
 * for ever; its region is removed with ZSPAGER_DISCARD alone, and the page reads as zeros then.
 *
 * A pager (ZSALLOC_UFFD) has regions, ranges of the program's memory that zspager_add_region()
 * names, and a limit in bytes on what of them is in memory. Beyond it, pages that were not used
 * lately are moved to a staging range, which counts too; those that stay there are compressed, and
 * when the pool is full they go to the backing file. Whoever touches a page that is not in memory
 * waits until it is back, with the bytes that it had. Should a page be damaged, that gets SIGBUS.
 * Should the system refuse for a second to put a page in place, as it does when it has no memory, or
 * to read it from the backing file, that gets SIGBUS too with ZSPAGER_FAULT_SIGBUS, and may touch it
 * again; with ZSPAGER_FAULT_THREADS it goes on waiting. When no page can go, for the pool is full and nothing
 * can be written back, or the rest is held or pinned, pages come back above the limit, which
 * zspager_stats.over_limit counts: nothing is lost.
 *
 * All use of a region's memory goes through this one mapping: not through another mapping of the
 * same file, another process, or ptrace. A part of a region may be moved by mremap() and unmapped
 * by munmap(), but these wait until a lent thread (zspager_run()) has read of it: without one they
 * may wait for ever. Nothing of a region stays behind where it was: MREMAP_DONTUNMAP is not for
 * regions. madvise() with MADV_DONTNEED or MADV_REMOVE gives memory back and waits likewise. For a
 * memory file the two are the same: the file has zeros then, while without a pager MADV_DONTNEED
 * leaves it as it is. With ZSPAGER_EVICT_IN_PLACE, and before Linux 6.8, the pager is not told of
 * madvise(): private pages that are in memory read as zeros after it, and count until they are
 * evicted; but one that was evicted comes back with its old bytes, and so may one that was only read
 * since it came back. zspager_discard() always gives memory back, and needs no lent thread. MADV_FREE is not
 * for regions: what is used again after it would not be counted. Nothing else may be mapped, or moved, to addresses that a
 * region leaves by munmap() or mremap() at that moment: the system tells of both in any order.
 * Where regions are moved hold a lock of your own around all calls that map, move or unmap. Pages
 * that are locked (mlock) or pinned by the system stay in memory, and count; so do those that are
 * read-only (mprotect), but with ZSPAGER_EVICT_IN_PLACE. While they are more than the limit, touches go
 * above it at once: see zspager_stats.immovable_bytes. A region of private memory is taken out of KSM
 * when it is added (MADV_UNMERGEABLE). Do not call madvise() with MADV_MERGEABLE on it afterwards: a page
 * that the system merges loses the protection by which the pager notices writes, and a write to it may
 * be lost.
 *
 * With ZSPAGER_FAULT_SIGBUS the thread that touches a page brings it back itself, in a handler of
 * SIGBUS. Such a touch may be anywhere, also in a signal handler; but SIGBUS must not be blocked
 * then: the system kills the process. A system call that is given memory of a region is EFAULT, or
 * does a part of its work, if a page is not in memory, or if it writes to a page that was only read
 * since it came back, for such a page may be protected, or if a page of a memory file is in memory
 * and not mapped, as after the system has split or made a huge page: zspager_hold() the range before
 * it, and zspager_release() it after. The hold does not reach one case: where the memory file's pages
 * are put together to huge pages through another mapping (MADV_COLLAPSE, khugepaged), or the system
 * swaps them out, a held page is not mapped any more, and the system call is EFAULT. Hold the range
 * once more then.
 *
 * Mutexes, semaphores, condition variables, barriers and read-write locks make such system calls too,
 * for who waits for one waits in futex(). With ZSPAGER_FAULT_SIGBUS the page of one that lies in a
 * region may go just before, and then the wait is EFAULT: glibc ends the process ("The futex facility
 * returned an unexpected error code"). Keep what threads wait for out of regions, or hold its page for
 * as long as it is in use, or use ZSPAGER_FAULT_THREADS. It is the same with locks of C++ and Rust.
 *
 * A SIGBUS of anything but a region goes to the handler that was there
 * before, or does what it would have done. So install your own handlers before the first
 * zspager_create(), or let them call the one that sigaction() told was there: no later
 * zspager_create() takes their place. A handler from before is called with those signals blocked that
 * it was installed with, but on the stack that is in use, for SA_ONSTACK has no effect then.
 * AddressSanitizer's own handler may stay: it is called for what is not a region's. The handler stays in
 * place until the process ends, and so does the library: dlclose() does not unload it any more.
 *
 * The handler runs on the stack that is in use, as a handler of the program's may be on one of its own
 * (sigaltstack), and takes up to 12 KiB of it, 4 more where pages are stored with Zstandard, and 8 more where AMX is in use:
 * what the system saves of the
 * processor's state, and what it takes to evict another page. So a stack on which regions are touched,
 * a thread's or a handler's, should have 32 KiB more than the program needs itself; an alternate stack
 * of SIGSTKSZ bytes is too small, and nothing says so when it overflows. (A debug build of the library
 * takes 64 KiB.) And no stack that is in use may lie in a region.
 *
 * Where stacks are smaller use ZSPAGER_FAULT_THREADS: so do Go programs, whose goroutines begin with 2 to
 * 8 KiB and whose runtime wants every handler to have SA_ONSTACK, which this one does not have; and
 * programs whose fibers or coroutines touch regions on stacks without those 32 KiB.
 *
 * With ZSPAGER_FAULT_THREADS lent threads bring pages back, and the thread that touches one sleeps, in
 * system calls too, and so do the processors of a virtual machine. It needs rights: see there.
 *
 * What the Rust crate has beyond this is not in C: the memory of other processes that is filled from a
 * snapshot (Guest), with what tracks writes to it, and the process that outlives a pager (Guardian).
 *
 * In either mode hold what direct I/O, io_uring or a device writes, until it is done: a page that is
 * evicted in place, as those of memory files always are, loses what is written to it meanwhile.
 *
 * No function of the pager may be called by a signal handler, by a callback of a zswap (unless its text
 * says so), or by a thread that holds a lock which whoever touches a region might need. While one runs
 * the handlers of signals wait, but those of faults of the thread itself, and so does pthread_cancel();
 * so also throughout zspager_run(). Pointers that are passed to the library's functions, other than those
 * of regions, must not point into a region.
 *
 * Forked children get neither the regions nor the pager's pool, unless its memory was supplied: touching
 * a region there is SIGSEGV, and calls are -EPERM, but zspager_destroy(), which frees what the child has
 * of the pager, and zspager_stats(), zspager_latency_permille() and zspager_descriptor(), which tell of
 * it as it was at the fork.
 *
 * CORE DUMPS. A core dump has zeros for the pages of regions that are not in memory, and nothing of the
 * compressed ones: pool and staging range are left out of dumps. A debugger's dump of a running process
 * (gcore) may have zeros for the whole of a region that lacks one page. /proc/PID/mem is -EIO for pages
 * that are not in memory, and so is what a debugger shows. These ways give whole dumps:
 * - Before a dump that is planned, bring all pages in: zspager_set_resident_limit() with 0, then a read
 *   of a byte of each page; or zspager_remove_region(). There has to be memory for them.
 * - A handler of SIGSEGV or SIGABRT calls no function of the pager, but with ZSPAGER_FAULT_SIGBUS it may
 *   read regions, on an alternate stack that has room: it copies page by page to a buffer of its own,
 *   and writes that to a file. The limit holds meanwhile.
 * - With ZSPAGER_FAULT_THREADS another process reads all of a region by process_vm_readv(), as long as
 *   lent threads run.
 *
 * STACK. A call takes up to 24 KiB of the calling thread's stack, and what its callbacks take:
 * zswap_store() 5 KiB, zswap_load() 1, or 9 from a file, either with Zstandard 6, zswap_shrink() 16
 * with a callback and 3 with a file, compaction and zspager_add_region() 11, creation 6 to 21.
 * zswap_recompress() takes up to 40 KiB. For touches of regions see PAGER. The C test named stack
 * prints a table (cargo test --release --features uffd --test c_api stack -- --nocapture). A debug
 * build takes more.
 *
 * DESCRIPTORS. What the library keeps open is closed on exec, and forked children have it until they
 * destroy what it is of:
 * - a pool with ZS_BACKING_MEMFD or ZS_BACKING_HUGETLB: its memory file, which zs_pool_fd() tells; no
 *   other pool has any;
 * - a zswap: a duplicate of the backing file's, and what its pool has;
 * - a pager: two userfaultfds, of which zspager_descriptor() tells one, and an eventfd; /proc/self/mem, if
 *   it may be opened; a duplicate of the memory file's for each region with ZSPAGER_REGION_SHARED; and
 *   what its zswap has.
 * A program that closes descriptors wholesale (closefrom(), close_range()) does so before it creates any
 * of these, or in a child before exec. If the library's descriptor of a backing file is closed, pages on
 * it can't be loaded; without the userfaultfd pages that are not in memory read as zeros.
 *
 * SIGNAL HANDLERS. A handler may call zs_free(), zs_unmap_object(), zs_map_object() with ZS_MM_RO,
 * and the other functions whose text says so. No others: the thread that it interrupted may be
 * inside one of them.
 *
 * FORK. The child inherits an anonymous pool as it inherits any private memory: a copy of its own,
 * with the same handles. If another thread was inside a call on the pool during the fork, then the
 * child's copy is unusable: a call on it may wait for ever. So a program whose other threads use the
 * pool calls zs_fork_prepare() before fork(), and zs_fork_done() after it, in the parent and in the
 * child: then the child may call everything. For a zswap zswap_fork_prepare() and zswap_fork_done() do
 * that, for its areas and its pool as well. Otherwise create the pool, fork, and start threads after
 * that, or let the child leave the pool alone. A pool with ZS_BACKING_MEMFD or
 * ZS_BACKING_HUGETLB, or with ZS_POOL_DONTFORK, is never inherited. In the child calls on it are
 * refused with -EPERM, except for those that need none of its memory: zs_get_total_pages(),
 * zs_lookup_class_size(), zs_pool_fd(), and zs_destroy_pool(), which frees what the child has of
 * it. For a zswap all of this holds as for its pool; zswap_remove_area() and zswap_destroy() free
 * what the child has. Only one of parent and child may go on with a zswap that has a backing file,
 * for they share the file but not the table of what is where. Memory that the program supplied is
 * inherited as it was mapped. If parent and child share it (MAP_SHARED), the pool needs
 * ZS_POOL_DONTFORK.
 *
 * STRUCTS that are passed begin with their size, and may grow at their end in later versions. A
 * program compiled with an older header works with a newer library: fields that it does not have
 * are 0. One compiled with a newer header works with an older library if the fields that the
 * library does not know are 0, and gets -EINVAL otherwise. A field that is 0 means its default.
 *
 * PAGES are 4096 bytes here. Systems with other pages are not supported yet. A pool's limit holds
 * for all memory that it takes, its own tables included.
 */

#ifndef ZSALLOC_H
#define ZSALLOC_H

/* Generated from the comments and types in c-library/src: change them there. */

#include <stddef.h>
#include <stdint.h>

/** The parts of the version that this header belongs to. zs_version() tells that of the library. */
#define ZS_VERSION_MAJOR 0

/** See ZS_VERSION_MAJOR. */
#define ZS_VERSION_MINOR 1

/** See ZS_VERSION_MAJOR. */
#define ZS_VERSION_PATCH 0

/** The largest object, in bytes. */
#define ZS_MAX_ALLOC_SIZE 4112

/** The least that zs_pool_options.max_bytes may be, in bytes, unless it is 0. */
#define ZS_MIN_POOL_BYTES 1048576

/** For zs_map_object(): to read and write. */
#define ZS_MM_RW 0

/** For zs_map_object(): to read. Never waits. */
#define ZS_MM_RO 1

/** For zs_map_object(): to write. Bytes that are not written keep what they held. */
#define ZS_MM_WO 2

/** For zs_pool_options.backing: private anonymous memory. The default. */
#define ZS_BACKING_ANONYMOUS 0

/**
 * For zs_pool_options.backing: a memory file (memfd) that has the pool's name and whose
 * descriptor zs_pool_fd() tells.
 */
#define ZS_BACKING_MEMFD 1

/**
 * For zs_pool_options.backing: huge pages of 2 MiB from the system's own stock
 * (vm.nr_hugepages), taken one by one as the pool grows. Where the system has no hugetlbfs,
 * zs_create_pool() fails; where the stock is empty, zs_malloc() does: -ENOMEM.
 */
#define ZS_BACKING_HUGETLB 2

/** For zs_pool_options.backing: the memory that zs_pool_options.memory and memory_bytes name. */
#define ZS_BACKING_MEMORY 3

/**
 * For zs_pool_options.flags: never ask for huge pages. Without this flag and the next one, they
 * are asked for only for what an anonymous pool has beyond 4 GiB.
 */
#define ZS_POOL_HUGE_NEVER 1

/**
 * For zs_pool_options.flags: ask for huge pages from the start. Memory is then taken, counted
 * and given back 2 MiB at a time. Not for supplied memory.
 */
#define ZS_POOL_HUGE_ALWAYS 2

/**
 * For zs_pool_options.flags: forked children do not get the pool. Always so with
 * ZS_BACKING_MEMFD and _HUGETLB.
 */
#define ZS_POOL_DONTFORK 4

/**
 * For zs_pool_options.flags: refuse huge pages once, at the pool's creation, give no other advice,
 * and do not ask that the pool is left out of core dumps. Memory goes back by madvise() alone,
 * range by range, not by process_madvise(). For processes in jails that forbid such calls.
 */
#define ZS_POOL_NO_ADVICE 8

/**
 * For zs_pool_options.flags: overwrite the bytes of freed objects with zeros, and refuse stale
 * handles for ever.
 */
#define ZS_POOL_HARDENED 16

/**
 * For zs_pool_options.flags, with ZS_BACKING_MEMORY only: the supplied memory is private and
 * anonymous, and the pool may give pages of it back to the system (MADV_DONTNEED). Without this
 * flag the supplied memory stays with the process.
 */
#define ZS_POOL_RELEASABLE 32

/** The bytes of a page. */
#define ZSWAP_PAGE_SIZE 4096

/** The most pages that an area can have. */
#define ZSWAP_MAX_AREA_PAGES 274877906944

/** The most pages that one zswap_store_pages() stores. */
#define ZSWAP_MAX_BATCH 8192

/** The most contexts, and the largest zswap_options.contexts. */
#define ZSWAP_MAX_CONTEXTS 64

/** The most claims, and the largest zswap_options.max_claims. */
#define ZSWAP_MAX_CLAIMS 65536

/** A codec: LZ4, the fastest. The default. Its level is 0. */
#define ZSWAP_CODEC_LZ4 0

/**
 * A codec: Zstandard, whose level is 1 to 22, or 0 for its default, 3. About a third smaller than
 * LZ4, and several times slower.
 */
#define ZSWAP_CODEC_ZSTD 1

/** A codec: pages are stored as they are. Its level is 0. */
#define ZSWAP_CODEC_RAW 2

/**
 * For zswap_load() and its like: the page is removed from the area once it is loaded, in one step
 * with it: take it. Without this flag it stays stored.
 */
#define ZSWAP_LOAD_EXCLUSIVE 1

/**
 * For zswap_invalidate(), and for loads with ZSWAP_LOAD_EXCLUSIVE: -EAGAIN instead of waiting for
 * a writeback.
 */
#define ZSWAP_NOWAIT 2

/**
 * For zswap_area_options.flags: pages that do not compress are refused with -ENOSPC. Without this
 * flag they are stored as they are, so that what is written back is what was not used longest,
 * and not what compresses badly.
 */
#define ZSWAP_AREA_REFUSE_INCOMPRESSIBLE 1

/** For zswap_area_options.flags: pages of the area are never written back. */
#define ZSWAP_AREA_NO_WRITEBACK 2

#if defined(ZSALLOC_UFFD)
/**
 * For zspager_options.fault_mode: the thread that touches a page brings it back, in a handler of
 * SIGBUS. The default: the fastest, and needs no privileges.
 */
#define ZSPAGER_FAULT_SIGBUS 0

/**
 * For zspager_options.fault_mode: threads inside of zspager_run() bring pages back, while the
 * thread that touches one sleeps, in a system call as well. Needs CAP_SYS_PTRACE, or
 * vm.unprivileged_userfaultfd=1, or a /dev/userfaultfd that may be opened.
 */
#define ZSPAGER_FAULT_THREADS 1

/**
 * For zspager_options.flags: private pages are not moved to a staging range but evicted where they
 * are: protected, copied, and dropped, as all are before Linux 6.8. It is faster where several
 * threads run at once. But the pager is not told of madvise() then: only zspager_discard() gives
 * pages of a region back, and after madvise() an evicted page has its old bytes.
 *
 * It is the default before Linux 6.16 if there is swap (/proc/swaps) when the pager is created. There
 * UFFDIO_MOVE had bugs beside swap: a private page could be mixed up, or the kernel could crash.
 */
#define ZSPAGER_EVICT_IN_PLACE 1

/**
 * For zspager_options.flags: private pages are moved also where there is swap before Linux 6.16. The
 * bugs of UFFDIO_MOVE were mended in 6.16, and by the middle of 2025 in the stable series, which a
 * release's number does not tell: set this if your kernel has that. Where the system can't move
 * pages, it changes nothing. Not with ZSPAGER_EVICT_IN_PLACE.
 */
#define ZSPAGER_EVICT_BY_MOVING 4

/**
 * For zspager_region_options.flags: the region is a shared mapping of a memory file, and shared_fd
 * and shared_offset say of which part. Without this flag it is private anonymous memory.
 */
#define ZSPAGER_REGION_SHARED 1

/** For zspager_region_options.flags: the region's pages are never written to the backing file. */
#define ZSPAGER_REGION_NO_WRITEBACK 2

/**
 * For zspager_remove_region(): pages that are not in memory are lost, and read as zero. Without
 * this flag all of them are brought back.
 */
#define ZSPAGER_DISCARD 1

/** For zspager_run(): both of the others in turn. */
#define ZSPAGER_RUN_ALL 0

/**
 * For zspager_run(): read what owners do with the memory of regions, and with
 * ZSPAGER_FAULT_THREADS bring pages back.
 */
#define ZSPAGER_RUN_SERVE 1

/**
 * For zspager_run(): evict ahead, so that touches need not, write to the backing file when the pool
 * is full, and compact the pool when it is sparse. Without such a thread it is compacted only by
 * zspager_compact(), and when it has no memory for a page.
 */
#define ZSPAGER_RUN_EVICT 2
#endif

/** A pool of objects; what is in it is zsalloc's own. */
struct zs_pool;

#if defined(ZSALLOC_UFFD)
/** Memory that outgrows its limit; what is in it is zsalloc's own. */
struct zspager;
#endif

/** Areas whose pages are compressed into one pool; what is in it is zsalloc's own. */
struct zswap;

/** A fixed number of pages of a zswap; what is in it is zsalloc's own. */
struct zswap_area;

/**
 * How a pool is to be. Set everything to 0 first, then struct_size, then what is to differ from
 * the default.
 */
struct zs_pool_options {
    /** sizeof(struct zs_pool_options). */
    size_t struct_size;
    /**
     * Most bytes of memory the pool may have, its own tables included: at least
     * ZS_MIN_POOL_BYTES and at most about 800 GiB. 0: as much as the machine has memory, or
     * less if the process may not have so many addresses; with ZS_BACKING_MEMORY, all of that
     * memory.
     */
    uint64_t max_bytes;
    /** Where the memory comes from: one of ZS_BACKING_*. */
    uint32_t backing;
    /** ZS_POOL_*, or-ed. */
    uint32_t flags;
    /**
     * For ZS_BACKING_MEMORY, else NULL: memory that can be read and written, at a multiple of
     * 4096, that nobody else uses until the pool is destroyed.
     */
    void *memory;
    /**
     * For ZS_BACKING_MEMORY, else 0: the bytes of that memory, at least ZS_MIN_POOL_BYTES. The
     * larger, the better they are used: of 1 MiB half may be left over, of 16 MiB a twentieth.
     */
    uint64_t memory_bytes;
    /**
     * Where zs_create_pool() writes, should it fail, a sentence that says why, cut to fit and
     * ended with a NUL; or NULL.
     */
    char *message;
    /** The bytes that message has. */
    size_t message_size;
    /** For later; 0. */
    uint64_t reserved[4];
};

/**
 * What a pool has: see zs_pool_stats(). Each figure is right for its moment; they are read one
 * after the other while other threads go on. A page is 4096 bytes.
 */
struct zs_pool_stats {
    /** sizeof(struct zs_pool_stats), set by the caller. */
    size_t struct_size;
    /** Most bytes the pool may have. */
    uint64_t max_bytes;
    /** Objects that are allocated, and those freed while mapped until their last unmap. */
    uint64_t objects;
    /** Bytes that these objects take, each rounded up as zs_lookup_class_size() tells. */
    uint64_t object_bytes;
    /** Zspages: stretches of pages cut into objects of one size. */
    uint64_t zspages;
    /** Pages that the pool has from the system: what zs_get_total_pages() tells. */
    uint64_t total_pages;
    /** Those of them that hold the pool's own tables. */
    uint64_t metadata_pages;
    /** Those of them that are empty and kept, to be used again soon. */
    uint64_t warm_pages;
    /** Chunks of 2 MiB of addresses that are in use. */
    uint64_t chunks;
    /** Those of them whose memory is taken and given back 2 MiB at a time. */
    uint64_t whole_chunks;
    /** Pages that compaction gave back to the system since the pool was created. */
    uint64_t pages_compacted;
    /** Objects that compaction moved since then. */
    uint64_t objects_moved;
    /** Pages that zs_shrink() freed since then. */
    uint64_t pages_reclaimed;
};

/**
 * Names an object of one pool. Never 0, and not an address. Copy it, compare it, and keep it
 * where you like; its bits mean nothing to a program.
 */
typedef uint64_t zs_handle_t;

/** How much one zs_compact() may do. A field that is 0 is no bound. */
struct zs_compact_budget {
    /** sizeof(struct zs_compact_budget). */
    size_t struct_size;
    /** Bytes of objects moved, after which it stops. */
    uint64_t max_bytes_moved;
    /**
     * Microseconds, after which it stops: at the next object, or once the memory that it is
     * giving back is gone.
     */
    uint64_t max_microseconds;
};

/**
 * A callback for zs_set_evict(). zs_shrink() calls it, in its own thread and with no lock held,
 * with the context that was set and an object that is to go. Normally it frees the object,
 * forgets the handle, and returns 0. Any other value means that the object has to stay.
 *
 * Nobody had the object mapped when it was chosen, and it stays where it is until the callback
 * returns. Another thread may free it meanwhile: the callback's own zs_free() is -EINVAL then,
 * and no harm is done, for the handle is not given to a new object before the callback
 * returned. It must return: no longjmp, no C++ exception.
 */
typedef int (*zs_evict_fn)(void *context, struct zs_pool *pool, zs_handle_t handle);

/**
 * How a zswap is to be. Set everything to 0 first, then struct_size, then what is to differ from
 * the default.
 */
struct zswap_options {
    /** sizeof(struct zswap_options). */
    size_t struct_size;
    /**
     * The limit: most bytes of slots that the stored pages of all areas may take, which is what
     * they cost in the pool. 0: no limit but the pool's own. zswap_set_limit() changes it.
     */
    uint64_t max_bytes;
    /** For people, UTF-8, at most 249 bytes; a memory file shows it in /proc. NULL: "zswap". */
    const char *name;
    /**
     * Where the pool's memory comes from; NULL for the defaults. Its max_bytes is what addresses
     * are reserved for, and so the most that the limit can be raised to later; 0: as much as the
     * machine has memory. Its message is not used.
     */
    const struct zs_pool_options *pool;
    /** What pages are compressed with: one of ZSWAP_CODEC_*. zswap_set_codec() changes it. */
    uint32_t codec;
    /** The codec's level. */
    int32_t level;
    /**
     * Once a limit was met, stores are refused until usage fell to so many percent of it: 1 to
     * 100. 0: 90.
     */
    uint32_t accept_percent;
    /**
     * How many percent of max_bytes the pool's memory may have beyond it, for its tables and for
     * what lies between objects: at most 255. 0: 12.5.
     */
    uint32_t headroom_percent;
    /**
     * How many threads compress at the same time; more of them wait for each other. At most
     * ZSWAP_MAX_CONTEXTS. 0: as many as there are processors. A context takes 18 KiB, and what
     * Zstandard needs once that is used.
     */
    uint32_t contexts;
    /**
     * How many claims of zswap_writeback_begin() may be held at the same time: at most
     * ZSWAP_MAX_CLAIMS. 0: 1024.
     */
    uint32_t max_claims;
    /**
     * Where zswap_create() writes, should it fail, a sentence that says why, cut to fit and ended
     * with a NUL; or NULL.
     */
    char *message;
    /** The bytes that message has. */
    size_t message_size;
    /** For later; 0. */
    uint64_t reserved[4];
};

/**
 * How an area is to be. Set everything to 0 first, then struct_size, then what is to differ from
 * the default.
 */
struct zswap_area_options {
    /** sizeof(struct zswap_area_options). */
    size_t struct_size;
    /**
     * The area's own limit: most bytes of slots that its pages may take. 0: none of its own, so
     * that only the zswap's holds. zswap_area_set_limit() changes it.
     */
    uint64_t max_bytes;
    /** The program's own: zswap_area_context() returns it, also in callbacks. */
    void *context;
    /** ZSWAP_AREA_*, or-ed. */
    uint32_t flags;
    /** For later; 0. */
    uint32_t reserved[9];
};

/**
 * A callback for zswap_set_writeback(). zswap_shrink() and zswap_shrink_area() call it, in their
 * own thread and with no lock held, with the context that was set, the area (as zswap_add_area()
 * returned it), the offset of a page that is to leave memory, and its 4096 bytes, which lie at a
 * multiple of 4096 and are good until it returns. It writes them to where the program keeps the
 * page of that offset, and returns what became of it:
 *
 * 0: it is written. The page leaves the pool, unless it was loaded or replaced meanwhile.
 * -EEXIST: the program has the page in memory already, so it is in use. The page stays, gets a
 *     second chance, and the shrink goes on with the next area.
 * -ENOSPC: there is no room for it. The page stays, and the shrink goes on with the next area.
 * -EAGAIN, -ENOMEM, -EIO, or any other error number: not now, no memory to write with, the write
 *     failed, something else. The page stays. After 16 refusals the shrink goes on with the next
 *     area.
 *
 * A positive error number means what the negative one does. All are counted in struct
 * zswap_counts. No second writeback of the same page begins before the callback returned. It may
 * call every function, as CALLBACKS above says. It must return: no longjmp, no C++ exception.
 */
typedef int (*zswap_writeback_fn)(void *context,
                                  struct zswap_area *area,
                                  uint64_t offset,
                                  const void *page);

/**
 * A page that zswap_writeback_begin() claimed. Copy it where you like; give it to
 * zswap_writeback_end() once.
 */
struct zswap_claim {
    /** Which page of the area. */
    uint64_t offset;
    /** Which claim; it means nothing to a program. */
    uint64_t ticket;
};

/**
 * Counts of an area, or of all areas that a zswap ever had. The first four are pages that are here
 * now; all others only grow.
 */
struct zswap_counts {
    /** Pages in the pool that a codec made shorter. */
    uint64_t compressed_pages;
    /** Pages in the pool that did not compress, and are stored as they are. */
    uint64_t raw_pages;
    /** Pages that repeat one word, such as pages of zeros: they take no memory of the pool. */
    uint64_t filled_pages;
    /** Pages on the backing file of zswap_set_backing_file(). */
    uint64_t file_pages;
    /** Pages that were stored. */
    uint64_t stores;
    /** Pages that were loaded, those with ZSWAP_LOAD_EXCLUSIVE included. */
    uint64_t loads;
    /** Pages that were loaded with ZSWAP_LOAD_EXCLUSIVE, and so removed. */
    uint64_t takes;
    /** Pages that were loaded from the backing file. */
    uint64_t file_loads;
    /** Loads that were -ENOENT. */
    uint64_t absent_loads;
    /** Pages that zswap_invalidate() removed. */
    uint64_t invalidated;
    /** Pages that zswap_store_pages() stored; counted in stores as well. */
    uint64_t batch_stores;
    /** Calls of zswap_store_pages() that failed. */
    uint64_t batches_failed;
    /** Pages refused because of the zswap's limit. */
    uint64_t refused_limit;
    /** Pages refused because of the area's limit. */
    uint64_t refused_area_limit;
    /** Of these two, pages refused by an estimate, before they were compressed. */
    uint64_t refused_early;
    /** Pages refused because the pool had no memory, after it was compacted. */
    uint64_t refused_memory;
    /** Pages refused because of ZSWAP_AREA_REFUSE_INCOMPRESSIBLE. */
    uint64_t refused_incompressible;
    /** Older copies that were removed because the store of a newer one failed. */
    uint64_t removed_by_failure;
    /** Pages that were compressed. */
    uint64_t compressions;
    /** Of these, pages that were thrown away, because they or others of their batch were refused. */
    uint64_t compressions_wasted;
    /** Pages written back. */
    uint64_t written_back;
    /** Pages kept because they were loaded while they were written back. */
    uint64_t rescued;
    /** Pages that were replaced or removed while they were written back. */
    uint64_t overtaken;
    /** Writebacks that ended with -EEXIST. */
    uint64_t writeback_exists;
    /** Writebacks that ended with -EAGAIN. */
    uint64_t writeback_again;
    /** Writebacks that ended with -ENOMEM. */
    uint64_t writeback_no_memory;
    /** Writebacks that ended with -EIO. */
    uint64_t writeback_io;
    /** Writebacks that ended with -ENOSPC, and those that found the backing file full. */
    uint64_t writeback_no_space;
    /** Writebacks that ended with another error number. */
    uint64_t writeback_other;
    /** Pages found damaged: the check of what is stored was wrong. Their loads are -EIO. */
    uint64_t decode_failures;
    /** Loads from the backing file that failed: -EIO. */
    uint64_t file_read_failures;
    /** Pages that zswap_recompress() made smaller. */
    uint64_t recompressed;
    /** Pages that zswap_recompress() could not make smaller, and does not try again. */
    uint64_t recompress_useless;
    /**
     * Pages that came back from where they were written to: from the backing file, or as
     * zswap_area_refaulted() was told.
     */
    uint64_t refaults;
    /** For later counts; 0. */
    uint64_t reserved[14];
};

/** What a zswap has and did: see zswap_stats(). All at one moment, but for the memory of the pool. */
struct zswap_stats {
    /** sizeof(struct zswap_stats), set by the caller. */
    size_t struct_size;
    /** Areas. */
    uint64_t areas;
    /** Pages that they have room for. */
    uint64_t area_pages;
    /** The limit in bytes of slots; UINT64_MAX: none. */
    uint64_t max_bytes;
    /** Bytes of the slots of stored pages, and what running stores have reserved. */
    uint64_t used_bytes;
    /** Bytes of memory that the pool has from the system, its tables included. */
    uint64_t pool_bytes;
    /**
     * Bytes of memory that are not stored pages: the pool's tables (which pool_bytes has too), the
     * areas' indexes, contexts, claims, counts, the backing file's table.
     */
    uint64_t metadata_bytes;
    /** How often the limit was met. */
    uint64_t limit_hits;
    /** How often the pool had no memory for a page, and was compacted. */
    uint64_t capacity_hits;
    /** Claims of zswap_writeback_begin() that are held. */
    uint64_t claims;
    /** Bytes of the backing file that pages are on. */
    uint64_t file_bytes;
    /** Of all areas. What areas that were removed did is part of it; the pages they had are not. */
    struct zswap_counts counts;
};

/** What an area has and did: see zswap_area_stats(). All at one moment. */
struct zswap_area_stats {
    /** sizeof(struct zswap_area_stats), set by the caller. */
    size_t struct_size;
    /** What zswap_area_id() returns. */
    uint64_t area;
    /** Pages it has room for. */
    uint64_t area_pages;
    /** Its own limit in bytes of slots; UINT64_MAX: none. */
    uint64_t max_bytes;
    /** Bytes of the slots of its stored pages, and what running stores have reserved. */
    uint64_t used_bytes;
    /** Bytes of memory of its index and counts. */
    uint64_t metadata_bytes;
    /** How often its own limit was met. */
    uint64_t limit_hits;
    /** Its own. */
    struct zswap_counts counts;
};

#if defined(ZSALLOC_UFFD)
/**
 * How a pager is to be. Set everything to 0 first, then struct_size, then what is to differ from
 * the default.
 */
struct zspager_options {
    /** sizeof(struct zspager_options). */
    size_t struct_size;
    /**
     * The limit: most bytes of pages of all regions, and of the pager's staging range, that may be
     * in memory. Each thread that loads pages ahead may exceed it by up to 15 pages for a moment.
     * 0: no limit; less than 64 KiB: 64 KiB. zspager_set_resident_limit() changes it.
     */
    uint64_t resident_bytes;
    /**
     * Most bytes that may be held by zspager_hold() at the same time. 0: an eighth of
     * resident_bytes; it stays that when zspager_set_resident_limit() changes the limit.
     */
    uint64_t max_held_bytes;
    /** Who brings pages back: one of ZSPAGER_FAULT_*. */
    uint32_t fault_mode;
    /**
     * How many percent of resident_bytes the staging range may have, where pages wait, not
     * compressed yet, for being touched again: 1 to 90. 0: 10.
     */
    uint32_t staged_percent;
    /**
     * Most regions at the same time: at most 65536. 0: 1024. A region takes five or six of the
     * mappings that vm.max_map_count allows a process, its own included, and a pager some 20: with
     * the usual 65530 there is room for some 10,900 regions. Beyond it zspager_add_region() is
     * -ENOMEM.
     */
    uint32_t max_regions;
    /** ZSPAGER_EVICT_IN_PLACE or ZSPAGER_EVICT_BY_MOVING, or 0. */
    uint32_t flags;
    /**
     * The zswap that pages go to: its limit and its codec; NULL for the defaults. Its
     * accept_percent is 98 if it is 0. Its name and its message are not looked
     * at.
     */
    const struct zswap_options *zswap;
    /**
     * Where zspager_create() writes, should it fail, a sentence that says why, cut to fit and ended
     * with a NUL; or NULL.
     */
    char *message;
    /** The bytes that message has. */
    size_t message_size;
    /** For later; 0. */
    uint64_t reserved[4];
};

/**
 * How a region is to be. Set everything to 0 first, then struct_size, then what is to differ from
 * the default.
 */
struct zspager_region_options {
    /** sizeof(struct zspager_region_options). */
    size_t struct_size;
    /** Most bytes of slots that its pages may take in the zswap. 0: no limit of its own. */
    uint64_t max_stored_bytes;
    /** With ZSPAGER_REGION_SHARED, else 0: where in the memory file the range begins, in bytes. */
    uint64_t shared_offset;
    /**
     * With ZSPAGER_REGION_SHARED, else 0: the memory file, open for reading and writing. It is
     * duplicated: the caller may close it. While the region is there, pages that are not in memory
     * are holes in the file, and other mappings of it read zeros there. Removing the region without
     * ZSPAGER_DISCARD fills them; unmapping the range without that loses them.
     *
     * Do not call fallocate() with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE, or ftruncate(), on
     * the file for a part that is in a region. The system does not tell the pager of these: pages
     * that are not in memory come back with their old bytes. To give memory back, as a balloon does,
     * call zspager_discard().
     *
     * A page that is a part of a huge page leaves memory only if the system can split the huge page.
     * It can't while somebody has a pin on any part of it: then the page stays, stays charged, and
     * counts as pinned in the statistics.
     */
    int32_t shared_fd;
    /** ZSPAGER_REGION_*, or-ed. */
    uint32_t flags;
    /** For later; 0. */
    uint64_t reserved[4];
};

/**
 * What a pager has and did: see zspager_stats(). All up to table_bytes, lent_threads and
 * immovable_bytes are of now; all others only grow. Each figure is right for its moment, and two of
 * them need not be of the same one.
 */
struct zspager_stats {
    /** sizeof(struct zspager_stats), set by the caller. */
    size_t struct_size;
    /**
     * The limit: most bytes of pages of regions and the staging range, together; 2^63 - 4096 if there
     * is none.
     */
    uint64_t resident_limit_bytes;
    /** Bytes of such pages in memory. */
    uint64_t resident_bytes;
    /** Those of them that are in the staging range. */
    uint64_t staged_bytes;
    /** Bytes that are held. */
    uint64_t held_bytes;
    /** Bytes of addresses of all regions. */
    uint64_t region_bytes;
    /** Regions. */
    uint64_t regions;
    /** Bytes of memory of the pager's own tables, without zswap's. */
    uint64_t table_bytes;
    /**
     * Touches that were served, of whatever kind; pages that a hold or the removal of a region
     * asked for are among them.
     */
    uint64_t faults;
    /** Pages that were loaded from the zswap, or its file, because they were touched. */
    uint64_t loads;
    /** Pages that were loaded ahead of a touch. */
    uint64_t loads_ahead;
    /** Pages that were touched while they were staged, and moved back. */
    uint64_t rescues;
    /** Pages that were touched for the first time, or after their owner gave them back. */
    uint64_t zero_fills;
    /** Writes to pages that had kept their compressed copy. */
    uint64_t first_writes;
    /** Pages that were moved to the staging range. */
    uint64_t staged;
    /** Pages that were compressed. */
    uint64_t stored;
    /** Pages that were dropped, for their compressed copy was kept. */
    uint64_t dropped;
    /**
     * Touches and holds that had to make room themselves: lend a thread that evicts, by
     * ZSPAGER_RUN_EVICT or ZSPAGER_RUN_ALL, or give it more processor time.
     */
    uint64_t direct_reclaims;
    /**
     * Pages that were let in above the limit, for none could go: the pool was full and nothing
     * could be written back, or what is left is held, immovable, or being evicted by others. If the
     * former, raise the limit of the pool or add a backing file; where there is one, in the JSON of
     * zspager_stats_json() the zswap's writeback_no_space tells that it is full, and writeback_io
     * that it fails. Else hold less, or raise the limit.
     */
    uint64_t over_limit;
    /**
     * Pages that were picked to be evicted and stayed, for the system has them pinned or locked,
     * or refused. The same page counts each time.
     */
    uint64_t pinned;
    /**
     * Pages that the owner gave back, unmapped or discarded, and all pages of regions that were
     * removed.
     */
    uint64_t discarded;
    /** Pages whose compressed copy was damaged: whoever touches them gets SIGBUS. */
    uint64_t poisoned;
    /** Discards, moves and unmaps by owners that were noticed. */
    uint64_t events;
    /**
     * Attempts to put a page in place that did not succeed: the memory was changing, the system
     * refused, or the backing file could not be read. Some are usual. Many for few faults: the
     * system lacks memory, owners move and unmap all the time, or the file fails, which
     * file_read_failures of the zswap in the JSON counts.
     */
    uint64_t retries;
    /**
     * Touches that were given up after a second or so, and pages that a hold or the removal of a
     * region asked for: the system refused, the backing file could not be read, or the memory was
     * changing all the time. Nothing is lost. The touch got SIGBUS; with ZSPAGER_FAULT_THREADS it
     * is given up sooner, waits, is tried again, and counts again. Damaged pages are not among them.
     */
    uint64_t failed;
    /**
     * Threads that are inside of zspager_run(). With ZSPAGER_FAULT_THREADS and 0 of them touches
     * wait until one comes.
     */
    uint64_t lent_threads;
    /**
     * Bytes of pages in memory that could not leave when they were tried last: they are locked,
     * pinned, shared with another process, or a part of a huge page that can't be split. Some of
     * them are tried again every 10 ms in which a touch needs room, and all of them by
     * zspager_evict() and zspager_set_resident_limit(). While held_bytes and these are more than the
     * limit, touches go above it at once, and over_limit counts that.
     */
    uint64_t immovable_bytes;
};
#endif

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library: major << 16 | minor << 8 | patch.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
uint32_t zs_version(void);

/**
 * Creates a pool and stores it in *pool. It begins with some ten pages, and takes memory from the
 * system as it fills.
 *
 * name: for people, UTF-8, at most 249 bytes; a memory file shows it in /proc. It need not be
 *     unique.
 * options: NULL for the defaults.
 *
 * Errors:
 * -EINVAL: name or pool is NULL, the name is too long or not UTF-8, or an option is wrong or
 *     contradicts another.
 * -ENOMEM: the system gives no addresses (give a smaller max_bytes, or raise RLIMIT_AS), or no
 *     memory for the tables.
 * Others come from the system as they are, among them -EMFILE and -ENFILE (a memory file was one
 * too many), -ENOSYS and -EPERM (a jail forbids a system call), and -ENOSYS, -ENODEV or -EINVAL
 * (there are no huge pages).
 * If options.message is set, a sentence there says what it was, unless name or pool is NULL or
 * struct_size is wrong.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_create_pool(const char *name, const struct zs_pool_options *options, struct zs_pool **pool);

/**
 * Destroys a pool with all objects in it, and gives its memory back; supplied memory is the
 * caller's again. What the callback of zs_set_evict() was given as its context is not used any
 * more.
 *
 * No other call on the pool may be running, and none may come after it. In a forked child that did
 * not get the pool it frees what the child has of it.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EBUSY: an object is mapped. The pool stays as it was.
 *
 * Threads: one, when no other uses the pool. Evict callback: always -EBUSY.
 */
int zs_destroy_pool(struct zs_pool *pool);

/**
 * Makes this a moment to fork while other threads use the pool: takes all of its locks, so that the
 * child finds nothing half done, and keeps them until zs_fork_done(). Call that after fork(), in the
 * parent and in the child, by the thread that called this. Other threads' calls wait meanwhile,
 * except those that never wait. This thread makes no other call on the pool in between: it might
 * wait for itself. Where several pools are prepared at a time, do so in one order everywhere. The
 * pair may be called by handlers of pthread_atfork().
 *
 * After zs_fork_done() the child may call every function on the pool. Objects that other threads of
 * the parent had mapped are mapped in the child as well. What other threads were allocating, freeing
 * or offering to the evict callback at that moment stays taken in the child: a few objects, and
 * parts of the pool, for each such thread.
 *
 * For a pool that children do not get (see FORK) both do nothing and return 0, and the child's calls
 * are -EPERM as ever.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EAGAIN: a lock was not had within a second. A zs_compact() without a budget may take that long.
 * -EBUSY: this thread has called it already, without zs_fork_done().
 * -EPERM: this process is a forked child that did not get the pool.
 * If it fails, nothing has changed: a child that is forked nevertheless leaves the pool alone.
 *
 * Threads: any. Evict callback: allowed, but zs_fork_done() has to be called before it returns.
 */
int zs_fork_prepare(struct zs_pool *pool);

/**
 * Ends what zs_fork_prepare() began, after fork(), in the parent and in the child. It allocates
 * nothing and waits for nobody.
 *
 * Errors:
 * -EINVAL: pool is NULL, or this thread has not called zs_fork_prepare().
 *
 * Threads: the one that called zs_fork_prepare(). Evict callback: as zs_fork_prepare().
 */
int zs_fork_done(struct zs_pool *pool);

/**
 * Sets how many bytes of memory the pool may have, its tables included; 0: as many as it was
 * created for. Fewer than it has is allowed: an allocation that needs memory is -ENOMEM then,
 * until enough was freed. More than it was created for is allowed too; but it has only the
 * addresses that it reserved at its creation, a quarter and 64 MiB more than it was to have, and
 * once they are used up an allocation is -ENOMEM all the same.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_set_max_bytes(struct zs_pool *pool, uint64_t max_bytes);

/**
 * Stores in *pages how many pages of 4096 bytes the pool has from the system, its tables included.
 * One load; zs_pool_stats() tells more.
 *
 * Errors:
 * -EINVAL: pool or pages is NULL.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
int zs_get_total_pages(struct zs_pool *pool, uint64_t *pages);

/**
 * Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
 *
 * Errors:
 * -EINVAL: pool or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; takes some hundred short locks in turn. Evict callback: allowed.
 */
int zs_pool_stats(struct zs_pool *pool, struct zs_pool_stats *stats);

/**
 * Stores in *fd the descriptor of the pool's memory file, of a pool with ZS_BACKING_MEMFD or
 * _HUGETLB. It stays the pool's, which closes it when it is destroyed: duplicate it to keep it,
 * and do not close it.
 *
 * Errors:
 * -EINVAL: pool or fd is NULL.
 * -ENOENT: the pool is not in a memory file.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
int zs_pool_fd(struct zs_pool *pool, int *fd);

/**
 * Stores in *class_size how many bytes an object of `size` bytes really has: it may use them all.
 *
 * Errors:
 * -EINVAL: pool or class_size is NULL, or size is 0.
 * -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
int zs_lookup_class_size(struct zs_pool *pool, size_t size, size_t *class_size);

/**
 * Allocates an object of `size` bytes, 1 to ZS_MAX_ALLOC_SIZE, and stores its handle in *handle.
 * Its bytes are undefined until they are written.
 *
 * Errors, after which nothing has changed:
 * -EINVAL: pool or handle is NULL, or size is 0.
 * -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE.
 * -ENOMEM: the pool is at its limit, or the system gives no memory. Free, compact or shrink, then
 *     try again.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_malloc(struct zs_pool *pool, size_t size, zs_handle_t *handle);

/**
 * Allocates an object and maps it to read and write, in one: zs_malloc() and zs_map_object() with
 * nothing in between, so that zs_shrink() can't offer the object to the evict callback before it
 * is written. Stores the handle in *handle and the address of the object, a multiple of 16, in
 * *object. Ends with zs_unmap_object().
 *
 * Errors:
 * -EINVAL: pool, handle or object is NULL, or size is 0.
 * -ENOSPC, -ENOMEM, -EPERM: as zs_malloc().
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_malloc_mapped(struct zs_pool *pool, size_t size, zs_handle_t *handle, void **object);

/**
 * Frees an object. Its handle is stale from now on. An object that is mapped stays readable and
 * writable where it is until its last zs_unmap_object(), which is still allowed, releases it.
 *
 * Errors:
 * -EINVAL: pool is NULL, or the handle is 0, stale, freed already, or of another pool.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
 */
int zs_free(struct zs_pool *pool, zs_handle_t handle);

/**
 * Maps an object: stores its address, a multiple of 16, in *object, and keeps it there until
 * zs_unmap_object() was called as often as this. An object may be mapped by several at once, at
 * most 4,095 times, in any mixture of modes and for as long as they like; who writes while others
 * read or write has to agree with them. All of zs_lookup_class_size() bytes may be used.
 *
 * mode: ZS_MM_RW, ZS_MM_RO or ZS_MM_WO. Writing to an object that was mapped with ZS_MM_RO may be
 *     lost.
 *
 * Errors:
 * -EINVAL: pool or object is NULL, there is no such mode, or the handle is 0, stale, freed, or of
 *     another pool.
 * -EBUSY: the object is mapped 4,095 times already.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. ZS_MM_RO never waits; the others wait if zs_compact() is moving this very object,
 * for that one copy.
 * Evict callback: allowed. Signal handler: allowed with ZS_MM_RO.
 */
int zs_map_object(struct zs_pool *pool, zs_handle_t handle, uint32_t mode, void **object);

/**
 * Ends one mapping of an object; after the last one its address means nothing any more. Any thread
 * may end it. If the object was freed while it was mapped, the last unmap releases it.
 *
 * Errors:
 * -EINVAL: pool is NULL, or the object is not mapped, or the handle is 0, stale, or of another
 *     pool.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
 */
int zs_unmap_object(struct zs_pool *pool, zs_handle_t handle);

/**
 * Copies the first `size` bytes of an object into buffer.
 *
 * Errors:
 * -EINVAL: pool is NULL, buffer is NULL and size is not 0, size is more than the object has
 *     (zs_lookup_class_size() of what it was allocated with), or the handle is 0, stale, freed, or
 *     of another pool. Nothing was copied.
 * -EBUSY: the object is mapped 4,095 times already.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
 */
int zs_obj_read(struct zs_pool *pool, zs_handle_t handle, void *buffer, size_t size);

/**
 * Copies `size` bytes from buffer into the front of an object; the bytes after them stay. The
 * buffer may change meanwhile: then what the object gets is some mixture.
 *
 * Errors: as zs_obj_read().
 *
 * Threads: any; waits if zs_compact() is moving this very object, for that one copy. Evict
 * callback: allowed.
 */
int zs_obj_write(struct zs_pool *pool, zs_handle_t handle, const void *buffer, size_t size);

/**
 * Moves objects together and gives the memory that becomes free back to the system. Stores in
 * *pages_freed how many pages of 4096 bytes the system really got. Objects that are mapped stay
 * where they are, and nobody who maps to read waits. Takes no memory itself, so that it works when
 * there is none.
 *
 * budget: how much this call may do; NULL, or no bound in it, to run to the end and to give back
 *     also what the pool keeps empty to use it again soon. A call whose budget ran out goes on
 *     where it stopped the next time. While one call works on a pool another one returns 0 at
 *     once, with 0 pages.
 *
 * Errors:
 * -EINVAL: pool or pages_freed is NULL, or the budget's struct_size is wrong or has a field that
 *     is not known here.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_compact(struct zs_pool *pool, const struct zs_compact_budget *budget, uint64_t *pages_freed);

/**
 * Sets the callback that zs_shrink() offers objects to, and its context; with evict NULL there is
 * none. From the first callback on the pool notes which parts of it are used when, which costs
 * zs_malloc() and zs_map_object() a store at times. The pool never calls it by itself: when
 * zs_malloc() is -ENOMEM, call zs_shrink() and try again.
 *
 * A zs_shrink() that is running goes on with the callback and the context that it began with: keep
 * an old context until it returned.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_set_evict(struct zs_pool *pool, zs_evict_fn evict, void *context);

/**
 * Offers the objects of parts of the pool that were long unused to the evict callback, until
 * `pages` pages of 4096 bytes of the pool became free. Stores in *reclaimed how many did, which
 * can be more than asked, and also fewer: the callback refused, objects are mapped, or there are
 * no more. Objects that are mapped are not offered. The pages go back to the system at once; but
 * where memory is taken 2 MiB at a time the pool may use them again, and keeps them until all of
 * the 2 MiB are unused.
 *
 * A part is the up to 64 objects of about one size that lie together. For each part that goes, the
 * call looks at some 250 parts, spread over the pool, and takes the one that was longest unused of
 * those that it and the calls before looked at. So a pool of up to 200 parts gives the coldest one
 * first, a larger one about the coldest, and the call takes as long in a large pool as in a small
 * one.
 *
 * Errors:
 * -EINVAL: pool or reclaimed is NULL, or the pool has no callback.
 * -EAGAIN: nothing could go now.
 * -ENOENT: nothing is stored.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any, several at once. Evict callback: allowed.
 */
int zs_shrink(struct zs_pool *pool, uint64_t pages, uint64_t *reclaimed);

/**
 * Creates a zswap, without areas, and stores it in *zswap.
 *
 * options: NULL for the defaults.
 *
 * Errors:
 * -EINVAL: zswap is NULL, or an option is wrong or contradicts another.
 * -ENOMEM: the system gives no addresses (give a smaller pool->max_bytes, or raise RLIMIT_AS), or
 *     no memory for the tables.
 * Others come from the system, as those of zs_create_pool().
 * If options->message is set, a sentence there says what it was, unless zswap is NULL or
 * struct_size is wrong.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_create(const struct zswap_options *options, struct zswap **zswap);

/**
 * Destroys a zswap, and gives its memory back. The context of zswap_set_writeback() is not used
 * any more. Remove its areas first.
 *
 * No other call on the zswap may be running, and none may come after it. In a forked child that
 * did not get the pool it frees what the child has of it, whether areas are left or not.
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -EBUSY: it has areas. It stays as it was.
 *
 * Threads: one, when no other uses the zswap. Callbacks: -EBUSY in one of its own, since the page
 * is in an area.
 */
int zswap_destroy(struct zswap *zswap);

/**
 * Makes this a moment to fork while other threads use the zswap: waits until no call on it or on its
 * areas runs, and lets none begin before zswap_fork_done(). Call that after fork(), in the parent
 * and in the child, by the thread that called this. This thread makes no other call on the zswap or
 * its areas in between: it would wait for itself. Where several are prepared at a time, do so in one
 * order everywhere. The pair may be called by handlers of pthread_atfork().
 *
 * After zswap_fork_done() the child has a whole copy: all areas, with the pages that they had, and
 * it may call every function on them. Claims (zswap_writeback_begin()) that are held are the parent's:
 * in the child they have ended, and their pages are kept. With a backing file only one of the
 * processes may go on with the zswap: see FORK.
 *
 * For a zswap that children do not get (see FORK) both do nothing and return 0, and the child's
 * calls are -EPERM as ever.
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -EAGAIN: a call did not end within a second. It may be in a callback that takes so long, wait for
 *     a claim to end, or touch memory of its caller's whose fault another call would have to serve.
 * -EBUSY: this thread has called it already, without zswap_fork_done(); or it is in a callback,
 *     whose own call would have to end first.
 * -ENOMEM: there is no memory for the list of areas.
 * -EPERM: this process is a forked child that did not get the pool.
 * If it fails, nothing has changed: a child that is forked nevertheless leaves the zswap alone.
 *
 * Threads: any. Callbacks: -EBUSY.
 */
int zswap_fork_prepare(struct zswap *zswap);

/**
 * Ends what zswap_fork_prepare() began, after fork(), in the parent and in the child.
 *
 * Errors:
 * -EINVAL: zswap is NULL, or this thread has not called zswap_fork_prepare().
 *
 * Threads: the one that called zswap_fork_prepare(). Callbacks: not allowed.
 */
int zswap_fork_done(struct zswap *zswap);

/**
 * Adds an area of `pages` pages, which have the offsets 0 to pages - 1, and stores it in *area.
 * What a swap device or the memory of a guest is, is an area. It reserves 8 bytes of addresses a
 * page, and takes memory for them as it is used.
 *
 * options: NULL for the defaults.
 *
 * Errors:
 * -EINVAL: zswap or area is NULL, pages is 0 or more than ZSWAP_MAX_AREA_PAGES, or an option is
 *     wrong.
 * -ENOMEM: the system gives no addresses, or malloc() no memory.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_add_area(struct zswap *zswap,
                   uint64_t pages,
                   const struct zswap_area_options *options,
                   struct zswap_area **area);

/**
 * Removes an area with all its pages, those on the backing file included, and frees it: no other
 * call on it may begin at the same time or later. Calls on the zswap may: they pass the area by,
 * unless they are at it already, such as a zswap_shrink(), which is -EBUSY. It waits for nobody.
 *
 * In a forked child that did not get the pool it frees what the child has of the area.
 *
 * Errors:
 * -EINVAL: area is NULL.
 * -EBUSY: a call on the area is running, or a claim of zswap_writeback_begin() was not ended. The
 *     area stays as it was.
 *
 * Threads: one, when no other uses the area. Callbacks: allowed for other areas than the one whose
 * page it was called with; for that one -EBUSY.
 */
int zswap_remove_area(struct zswap_area *area);

/**
 * The context that the area was given in zswap_area_options.context. NULL for NULL.
 *
 * Threads: any. Callbacks: allowed. Signal handler: allowed.
 */
void *zswap_area_context(struct zswap_area *area);

/**
 * The number of the area, by which the statistics tell areas apart. A zswap gives none twice. 0
 * for NULL.
 *
 * Threads: any. Callbacks: allowed. Signal handler: allowed.
 */
uint64_t zswap_area_id(struct zswap_area *area);

/**
 * How many pages the area was added with. 0 for NULL.
 *
 * Threads: any. Callbacks: allowed. Signal handler: allowed.
 */
uint64_t zswap_area_pages(struct zswap_area *area);

/**
 * Sets the limit: how many bytes of slots the stored pages of all areas may take; 0: no limit but
 * the pool's own. The pool's memory may go some way beyond it, as zswap_options.headroom_percent
 * says. Less than is stored is allowed: stores are -ENOMEM then, until enough has gone. Nothing is
 * written back by this: call zswap_shrink().
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_set_limit(struct zswap *zswap, uint64_t max_bytes);

/**
 * Sets the area's own limit: how many bytes of slots its pages may take; 0: none of its own. Less
 * than they take is allowed, as for zswap_set_limit().
 *
 * Errors:
 * -EINVAL: area is NULL.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_area_set_limit(struct zswap_area *area, uint64_t max_bytes);

/**
 * Sets what pages are compressed with from now on. Those that are stored keep what they were
 * compressed with, and are loaded as before. Only the first use of a level of ZSWAP_CODEC_ZSTD
 * takes memory from malloc().
 *
 * codec, level: one of ZSWAP_CODEC_*, and its level.
 *
 * Errors:
 * -EINVAL: zswap is NULL, or there is no such codec or level.
 * -ENOMEM: there is no memory for what Zstandard needs.
 *
 * Threads: any; waits until each context was idle for a moment. Callbacks: allowed.
 */
int zswap_set_codec(struct zswap *zswap, uint32_t codec, int32_t level);

/**
 * Stores a page: 4096 bytes, at any address. What was stored at this offset is replaced. The page
 * is copied before anything else, so that it may change during the call: some mixture is stored
 * then. A page that repeats 4 bytes, such as a page of zeros, or 8 bytes that are a number of at
 * most 48 bits with its sign, such as an address, takes no memory of the pool.
 *
 * Errors, after which nothing is stored at this offset, nor what was there before:
 * -ENOMEM: a limit is met, or the system gives no memory. Shrink, then try again, or write the
 *     page to where it would be written back to.
 * -ENOSPC: the page does not compress, and the area has ZSWAP_AREA_REFUSE_INCOMPRESSIBLE.
 * Errors, after which nothing has changed:
 * -EINVAL: area or page is NULL, or the offset is past the end of the area.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. When it succeeds it waits for no writeback; when it fails with -ENOMEM or -ENOSPC,
 * it waits as zswap_invalidate() does, but not in a callback, nor for a claim of its own thread.
 * Callbacks: allowed.
 */
int zswap_store(struct zswap_area *area, uint64_t offset, const void *page);

/**
 * Stores `count` pages that lie one after the other, at the offsets from `offset` on: all of them
 * or none. A load that runs meanwhile sees each page as it was or as it will be. Room for all of
 * them is reserved before the first one is compressed.
 *
 * Errors, after which nothing is stored at these offsets, nor what was there before:
 * -ENOMEM, -ENOSPC: as zswap_store(). -ENOMEM also if there is probably no room for all of them.
 * Errors, after which nothing has changed:
 * -EINVAL: area is NULL, or pages is NULL and count is not 0, count is more than ZSWAP_MAX_BATCH,
 *     the offset is past the end of the area, even if count is 0, or the pages go past it.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; more at once than there are contexts wait for each other; otherwise as
 * zswap_store(). Callbacks: allowed.
 */
int zswap_store_pages(struct zswap_area *area, uint64_t offset, const void *pages, size_t count);

/**
 * Loads a page into the 4096 bytes at `page`, at any address. Nobody else may use these bytes
 * during the call.
 *
 * flags: 0, or ZSWAP_LOAD_EXCLUSIVE to take the page, and ZSWAP_NOWAIT with it. With
 *     ZSWAP_LOAD_EXCLUSIVE the bytes at `page` are the only copy from then on: use it only if the
 *     page lives there. When it returns, no writeback of the page is running any more, so that
 *     what the program writes to the page's place on disk from now on stays.
 *
 * Errors, after which a page that is here stays:
 * -EINVAL: area or page is NULL, there is no such flag, or the offset is past the end of the area.
 * -ENOENT: no page is stored at this offset.
 * -EIO: the stored page is damaged, or the backing file can't be read. The page is not served; it
 *     stays until it is replaced or invalidated.
 * -EBUSY, with ZSWAP_LOAD_EXCLUSIVE only: the page is being written back, and this is a callback,
 *     or the claim is this thread's own.
 * -EAGAIN, with ZSWAP_LOAD_EXCLUSIVE and ZSWAP_NOWAIT: the page is being written back.
 * -EPERM: this process is a forked child that did not get the pool.
 * The bytes at `page` are as they were after any of these, but with ZSWAP_LOAD_EXCLUSIVE after
 * -ENOENT, -EBUSY and -EAGAIN they may hold the page as it was. A page compressed with LZ4 that is
 * damaged so that its check is right all the same, once in some 2^32 times, is decoded into them:
 * -EIO is the result then if that fails, and the bytes are not as they were.
 *
 * Threads: any. Without ZSWAP_LOAD_EXCLUSIVE it never waits for a writeback; with it, it waits for
 * one of this very page that is running. Callbacks: allowed.
 */
int zswap_load(struct zswap_area *area, uint64_t offset, void *page, uint32_t flags);

/**
 * Loads `count` pages, from the offsets from `offset` on, into memory where they lie one after the
 * other. All of them are tried, each as zswap_load() does it; together they take less time.
 *
 * results: NULL, or `count` numbers, each of which is set to the result for its page: 0, or the
 *     error as zswap_load() has it.
 *
 * Errors, after which nothing was loaded and results is as it was:
 * -EINVAL: area is NULL, or pages is NULL and count is not 0, there is no such flag, the offset is
 *     past the end of the area, even if count is 0, or the pages go past it.
 * -EPERM: this process is a forked child that did not get the pool.
 * Otherwise the result is that of the first page that failed.
 *
 * Threads, callbacks: as zswap_load().
 */
int zswap_load_pages(struct zswap_area *area,
                     uint64_t offset,
                     void *pages,
                     size_t count,
                     uint32_t flags,
                     int32_t *results);

/**
 * Loads `count` pages, each from its own offset to its own address: those of offsets[i] to
 * pages[i]. As zswap_load_pages() otherwise. Neither array may change during the call, and no two
 * of the pages may overlap. An offset may occur twice, with ZSWAP_LOAD_EXCLUSIVE to be found once.
 *
 * Errors, after which nothing was loaded and results is as it was:
 * -EINVAL: area is NULL, or offsets or pages or one of pages[] is NULL and count is not 0, there
 *     is no such flag, or an offset is past the end of the area.
 * -EPERM: this process is a forked child that did not get the pool.
 * Otherwise the result is that of the first page that failed.
 *
 * Threads, callbacks: as zswap_load().
 */
int zswap_load_scattered(struct zswap_area *area,
                         const uint64_t *offsets,
                         void *const *pages,
                         size_t count,
                         uint32_t flags,
                         int32_t *results);

/**
 * Removes the pages at the `count` offsets from `offset` on; where none is stored, nothing is to
 * be done. Takes time in proportion to what is stored there. When it returns 0, no writeback of a
 * page of the range that began before is running any more, so that what the program writes to
 * their places on disk from now on stays, and a claim of such a page is without effect.
 *
 * flags: 0, or ZSWAP_NOWAIT.
 *
 * Errors, after which nothing has changed, or, should a writeback have begun just then, pages up
 * to its own are removed:
 * -EINVAL: area is NULL, there is no such flag, the offset is past the end of the area, even if
 *     count is 0, or the range goes past it.
 * -EBUSY: a page of the range is being written back, and this is a callback, or the claim is this
 *     thread's own.
 * -EAGAIN, with ZSWAP_NOWAIT: a page of the range is being written back.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; waits for writebacks of pages of the range that are running: for the callback to
 * return, for the claim to be ended. Those to the backing file it need not wait for. Callbacks:
 * allowed, and never waits there.
 */
int zswap_invalidate(struct zswap_area *area, uint64_t offset, uint64_t count, uint32_t flags);

/**
 * Stores in *offset the first offset from `from` on at which a page is stored, in the pool or on
 * the backing file. Offsets at which none is stored cost next to nothing.
 *
 * Errors:
 * -EINVAL: area or offset is NULL.
 * -ENOENT: there is none from there on.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_next_stored(struct zswap_area *area, uint64_t from, uint64_t *offset);

/**
 * Sets the callback that zswap_shrink() and zswap_shrink_area() write pages back with, and its
 * context; with writeback NULL there is none. It takes the place of a backing file.
 *
 * A shrink that is running goes on with the callback and the context that it began with: keep an
 * old context until it returned.
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -EBUSY: pages are on the backing file, or are being written to it.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_set_writeback(struct zswap *zswap, zswap_writeback_fn writeback, void *context);

/**
 * Lets the library itself write pages back, to the first `bytes` bytes of a regular file or a block
 * device, which are the library's from then on. A page goes to the lowest place of the file that is
 * free. A page on the file is loaded, replaced and removed as every other, and stays there until it
 * is replaced or removed, also when it is loaded. What is on the file means nothing without this
 * zswap: it is not kept from run to run. Takes the place of a callback. As with every write, one
 * past RLIMIT_FSIZE raises SIGXFSZ, which ends a program that does not ignore it.
 *
 * fd: the descriptor, opened with O_RDWR and without O_APPEND, which must not be set later either:
 *     all would be written to other places. It is duplicated: the caller may close it, but must
 *     not close the duplicate, as by closefrom(). Before it writes the library looks whether the
 *     duplicate still is a descriptor of this file, and writes nothing if it is not. -1, with
 *     bytes 0: no file any more.
 *
 * Errors:
 * -EINVAL: zswap is NULL, the descriptor is none, is opened otherwise, or is not one of a regular
 *     file or a block device, or bytes is less than 4096 or more than 16 TiB, or not 0 with -1.
 *     Whether the file can be written shows when a shrink tries it.
 * -EBUSY: pages are on the file that was set before, or are being written to it.
 * -EMFILE: the process may have no more descriptors.
 * -ENOMEM: there is no memory for its table, of some 8 bytes a page.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_set_backing_file(struct zswap *zswap, int32_t fd, uint64_t bytes);

/**
 * Writes back pages that were not used lately, of all areas in turn, until `pages` pages have left
 * the pool. Stores in *written how many did, which can be fewer than asked. Pages of areas with
 * ZSWAP_AREA_NO_WRITEBACK, and those that repeat one word, are left alone. The memory that becomes
 * free is the pool's to use again; zswap_compact() gives it to the system.
 *
 * A page counts as used when it is stored or loaded. The first time that a shrink comes by a used
 * page it takes the mark away, the second time it writes the page back.
 *
 * Errors:
 * -EINVAL: zswap or written is NULL, or there is neither a callback nor a backing file.
 * -EAGAIN: no page could go now: the callback refused, the file is full, or pages are in use.
 * -EIO: the library's descriptor of the backing file was closed, or is another file's now. Nothing
 *     was written.
 * -ENOENT: no page is in the pool.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any, several at once; takes as long as its work, and ends also if every page is
 * refused. Callbacks: allowed.
 */
int zswap_shrink(struct zswap *zswap, uint64_t pages, uint64_t *written);

/**
 * As zswap_shrink(), of one area.
 *
 * Errors:
 * -EINVAL: area or written is NULL, there is neither a callback nor a backing file, or the area
 *     has ZSWAP_AREA_NO_WRITEBACK.
 * -EAGAIN, -EIO, -ENOENT, -EPERM: as zswap_shrink(), of this area.
 *
 * Threads: as zswap_shrink(). Callbacks: allowed.
 */
int zswap_shrink_area(struct zswap_area *area, uint64_t pages, uint64_t *written);

/**
 * Stores in *pages how many pages are worth writing back under memory pressure, of all areas: the
 * sum of what zswap_area_reclaimable_pages() tells, and counted as its calls.
 *
 * Errors:
 * -EINVAL: zswap or pages is NULL.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_reclaimable_pages(struct zswap *zswap, uint64_t *pages);

/**
 * Stores in *pages how many pages of the area are worth writing back under memory pressure: those
 * in the pool, less one for each that lately had to come back from where it was written to, and
 * scaled by how small they are, since writing back a page that takes a quarter of its size frees a
 * quarter. Whoever feels the pressure asks this, and shrinks by a part of it. Pages that came back
 * are subtracted once: each call forgets those that it answered for.
 *
 * Errors:
 * -EINVAL: area or pages is NULL.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_area_reclaimable_pages(struct zswap_area *area, uint64_t *pages);

/**
 * Notes that `pages` pages of the area that were written back had to be read again from where they
 * went: zswap_area_reclaimable_pages() tells less for a while. Those on the backing file note
 * themselves.
 *
 * Errors:
 * -EINVAL: area is NULL.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_area_refaulted(struct zswap_area *area, uint64_t pages);

/**
 * Claims up to `max` pages of the area that were not used lately, as zswap_shrink() chooses them,
 * and copies them to `pages`, one after the other; stores in *count how many there are, which can
 * be fewer, and 0. The program writes each where it keeps pages, whenever and in whichever thread
 * it likes, such as by asynchronous I/O, and then ends its claim with zswap_writeback_end(). Needs
 * neither a callback nor a backing file.
 *
 * Until its claim is ended a page stays stored, can be loaded and replaced, and is not written back
 * a second time; whoever invalidates it waits, and the area can't be removed. Each page is written to
 * `pages` before it is claimed: where that memory is missing, as under a userfaultfd, the thread that
 * brings it may invalidate any page but those that this call has claimed before.
 *
 * claims, pages: room for `max` claims, and for `max` times 4096 bytes, at any address. Beyond
 *     *count they are undefined.
 *
 * Errors:
 * -EINVAL: area or count is NULL, or claims or pages is NULL and max is not 0, or the area has
 *     ZSWAP_AREA_NO_WRITEBACK.
 * -EBUSY: as many claims are held as zswap_options.max_claims allows: end some.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any, several at once. Callbacks: allowed.
 */
int zswap_writeback_begin(struct zswap_area *area,
                          size_t max,
                          struct zswap_claim *claims,
                          void *pages,
                          size_t *count);

/**
 * Ends a claim of zswap_writeback_begin().
 *
 * result: what became of the page, as a callback returns it. 0: it is written, and leaves the pool,
 *     unless it was loaded, replaced or removed meanwhile. Any error number: it stays, and the
 *     cause is counted.
 * gone: NULL, or set to 1 if the page left the pool by this, and to 0 if not. With result 0 and
 *     gone 0 the copy that was written is not needed; it may be older than what is stored.
 *
 * Errors:
 * -EINVAL: area or claim is NULL, or the claim was ended already, or is not one of this area.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any, also another than the one that began it. Callbacks: allowed.
 */
int zswap_writeback_end(struct zswap_area *area,
                        const struct zswap_claim *claim,
                        int32_t result,
                        int32_t *gone);

/**
 * Moves what is stored together and gives the memory that becomes free back to the system, as
 * zs_compact() does for a pool; and so with the parts of the areas' indexes that have no page any
 * more. Stores in *pages_freed how many pages of 4096 bytes the pool gave back. A store that finds
 * the pool full does a little of it by itself.
 *
 * budget: as for zs_compact(), for what is moved.
 *
 * Errors:
 * -EINVAL: zswap or pages_freed is NULL, or the budget's struct_size is wrong or has a field that
 *     is not known here.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_compact(struct zswap *zswap,
                  const struct zs_compact_budget *budget,
                  uint64_t *pages_freed);

/**
 * Looks at up to `pages` pages of the area that are in the pool, from where the last call ended,
 * once around the area at most. Those that were not used since the last time are compressed anew,
 * and replaced if that takes a smaller slot; others that it gains nothing for are marked, and not
 * tried again. Stores in *recompressed how many became smaller.
 *
 * codec, level: one of ZSWAP_CODEC_*, and its level: normally ZSWAP_CODEC_ZSTD.
 *
 * Errors:
 * -EINVAL: area or recompressed is NULL, or there is no such codec or level.
 * -ENOMEM: there is no memory for the codec's contexts.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; takes as long as its work. Callbacks: allowed.
 */
int zswap_recompress(struct zswap_area *area,
                     uint64_t pages,
                     uint32_t codec,
                     int32_t level,
                     uint64_t *recompressed);

/**
 * Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
 *
 * Errors:
 * -EINVAL: zswap or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; stops the counting of all areas for a moment. Callbacks: allowed.
 */
int zswap_stats(struct zswap *zswap, struct zswap_stats *stats);

/**
 * Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
 *
 * Errors:
 * -EINVAL: area or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any; stops the counting of the area for a moment. Callbacks: allowed.
 */
int zswap_area_stats(struct zswap_area *area, struct zswap_area_stats *stats);

/**
 * Fills *stats with what the zswap's pool has, as zs_pool_stats() does for a pool.
 *
 * Errors:
 * -EINVAL: zswap or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_pool_stats(struct zswap *zswap, struct zs_pool_stats *stats);

/**
 * Writes the statistics of the zswap and of each area, at one moment, to `buffer` as JSON, ended
 * with a NUL, and stores in *length how many bytes it has without the NUL. It is an object with
 * the members "version", a number that changes when a member changes its meaning; "zswap", an
 * object; and "areas", an array of objects. Those objects have as members the fields of struct
 * zswap_stats and struct zswap_area_stats without struct_size, those of counts directly among
 * them. Later versions can have more members.
 *
 * Errors:
 * -EINVAL: zswap or length is NULL, or buffer is NULL and size is not 0.
 * -ENOSPC: it does not fit into `size` bytes; with size 0 it never does. *length is set all the
 *     same, and buffer is an empty string. Come back with some more than *length + 1 bytes, for
 *     figures grow.
 * -EPERM: this process is a forked child that did not get the pool.
 *
 * Threads: any, one at a time: others that ask for statistics of the zswap, or compact it, wait. So
 * a thread that brings a missing page of `buffer`, as under a userfaultfd, must do neither. Stops
 * the counting of all areas for a moment. Callbacks: allowed.
 */
int zswap_stats_json(struct zswap *zswap, char *buffer, size_t size, size_t *length);

/**
 * What a result means, as an English sentence. Takes a result as it came or its positive number; 0
 * is success. Never NULL; the string is constant, and nobody frees it.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
const char *zs_strerror(int result);

#if defined(ZSALLOC_UFFD)
/**
 * Creates a pager, without regions, and stores it in *pager. With ZSPAGER_FAULT_SIGBUS the first
 * one of a process installs a handler of SIGBUS, which stays: see PAGER.
 *
 * name: for people, UTF-8, at most 249 bytes.
 * options: NULL for the defaults, which have no limit.
 *
 * Errors:
 * -EINVAL: name or pager is NULL, the name is too long or not UTF-8, or an option is wrong.
 * -EPERM: no right to userfaultfd: ZSPAGER_FAULT_THREADS needs more than ZSPAGER_FAULT_SIGBUS.
 * -ENOSYS: the system has no userfaultfd; or the dynamic linker does not keep the library loaded,
 *     whose handler of SIGBUS would go with it.
 * -ENOSPC: the process has 64 pagers with ZSPAGER_FAULT_SIGBUS already.
 * -ENOMEM: the system gives no addresses, or no memory for the tables.
 * Others come from the system, as those of zswap_create().
 * If options->message is set, a sentence there says what it was, unless name or pager is NULL or
 * struct_size is wrong.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_create(const char *name, const struct zspager_options *options, struct zspager **pager);

/**
 * Brings all pages of all regions back to memory, whatever the limit says, and destroys the pager:
 * the memory is as if there had been none.
 *
 * No other call on the pager may be running, and none may come after it. In a forked child it
 * closes the child's duplicates of the pager's descriptors and frees its copies of the tables,
 * but for what the handler of SIGBUS looks at, some 200 KiB; it does nothing to the parent.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -EBUSY: threads are lent to it: give them back with zspager_stop(), and wait until they returned
 *     from zspager_run(). It stays as it was.
 * -EAGAIN: the system refused to bring a page back, or a page can't be read from the backing file.
 *     The pager is still there, without the regions that it had brought back until then.
 * -EIO: a page's copy is damaged: the page is lost, and everything else was done.
 *
 * Threads: one, when no other uses the pager; others may use its regions meanwhile. Callbacks: not
 * allowed.
 */
int zspager_destroy(struct zspager *pager);

/**
 * Lends the calling thread to the pager: it returns after zspager_stop(). A lent thread must not
 * touch memory of a region, and it runs no signal handlers, but those of faults of its own. It is
 * not cancelled before it returned.
 *
 * With ZSPAGER_RUN_ALL or ZSPAGER_RUN_SERVE it reads what owners do with the memory of regions,
 * which wait for that, and with ZSPAGER_FAULT_THREADS it brings pages back. At least one such
 * thread should be there as long as there are regions; with ZSPAGER_FAULT_THREADS, without one who
 * touches a page that is not in memory sleeps until there is. With ZSPAGER_RUN_EVICT it evicts
 * ahead: one is enough.
 *
 * duty: one of ZSPAGER_RUN_*.
 *
 * Errors:
 * -EINVAL: pager is NULL, or there is no such duty.
 * -EPERM: this process is a forked child.
 *
 * Threads: any, several at once. Callbacks: not allowed.
 */
int zspager_run(struct zspager *pager, uint32_t duty);

/**
 * Gives all lent threads back, and those that are lent later at once, until zspager_resume(). It
 * does not wait for them, but none of them stays, even if that comes before they have returned.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_stop(struct zspager *pager);

/**
 * Lets threads be lent again, after zspager_stop(). A thread that calls zspager_run() while both
 * are called may be found to come after both, and stays: wait for your threads before this.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_resume(struct zspager *pager);

/**
 * Stores in *fd the userfaultfd of the regions: to be recognised in /proc/self/fdinfo, or to be kept
 * open by another process. It stays the pager's: do not read it or close it.
 *
 * It is not the only descriptor of a pager: DESCRIPTORS has the list. A program that closes
 * descriptors that it does not know has to do so before it creates pagers, or in a forked child:
 * without this one, pages that are not in memory read as zeros.
 *
 * Errors:
 * -EINVAL: pager or fd is NULL.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_descriptor(struct zspager *pager,
                       int *fd);

/**
 * Adds a region, and stores its number, which is never 0, in *region: `bytes` bytes of memory, in
 * use already or not, at `memory`. Huge pages are turned off for the range, and forked children do
 * not get it.
 *
 * Pages of the range that are in memory already are charged as they are found, 2 MiB at a time, and
 * what is above the limit then is evicted before the next 2 MiB are looked at. So the pager is at
 * most 2 MiB above its limit meanwhile, and not above it when this returns; unless pages can't
 * leave, as when the pool is full: those stay in memory above the limit, and go when they can.
 *
 * memory, bytes: whole pages of 4096 bytes, mapped readable and writable: best from mmap(), and
 *     used for nothing but the region. The mapping must not grow, neither by mremap() nor by
 *     itself (MAP_GROWSDOWN): nobody would serve what it grows by. Memory that the pager needs to
 *     bring a page back can't be in a region, because whoever brings it back would wait for
 *     itself. That is what malloc() uses or returned, stacks that are in use, and the memory of
 *     the pager and its pool. The heap (brk), mappings with MAP_GROWSDOWN, among them the main
 *     thread's stack, the stack of the calling thread, and most of the pager's own memory are
 *     refused. malloc()'s other arenas and other threads' stacks can't be told from other
 *     mappings: with them as a region the process hangs, and only SIGKILL ends it.
 * options: NULL for the defaults: private anonymous memory.
 *
 * While the region is there, do not change a memory file by fallocate() or ftruncate() where it is
 * in the region: pages that are not in memory would come back with their old bytes. See
 * zspager_region_options.shared_fd, and call zspager_discard() to give memory back.
 *
 * Errors:
 * -EINVAL: a pointer other than options is NULL, an option is wrong, the range is not whole pages
 *     or is in a region already, or it is not of the kind that the options say: not all mapped, not
 *     both readable and writable, or not private and anonymous; it is in the heap, in a mapping
 *     that grows, or has the caller's stack or memory of the pager; with ZSPAGER_REGION_SHARED,
 *     not a shared mapping of that file from that offset, or the file is no memory file of
 *     4096-byte pages, not open for both, sealed against writes, or too short.
 * -ENOSPC: there are as many regions, or parts that munmap() and mremap() made of them, as
 *     zspager_options.max_regions allows.
 * -EBADF: with ZSPAGER_REGION_SHARED, shared_fd is no descriptor.
 * -EBUSY: a part of the range is under another userfaultfd, such as another pager's.
 * -ENOMEM: there is no memory for the region's tables, or the process has as many mappings as
 *     vm.max_map_count allows.
 * -EPERM: this process is a forked child.
 * Others come from the system.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_add_region(struct zspager *pager,
                       void *memory,
                       size_t bytes,
                       const struct zspager_region_options *options,
                       uint64_t *region);

/**
 * Removes a region: its memory is the program's alone from then on. No other region of the pager
 * gets its number: a second removal is refused, whatever was added since. Forked children get it
 * again, whatever the program had advised before; huge pages stay turned off for it, until the
 * program advises them.
 *
 * flags: 0: all of its pages are brought back to memory, whatever the limit says. ZSPAGER_DISCARD:
 *     those that are not in memory are lost, and read as zero.
 *
 * Errors:
 * -EINVAL: pager is NULL, or there is no such flag.
 * -ENOENT: there is no such region: it was removed before, or never added.
 * -EIO: a page's copy is damaged: the region is removed nevertheless, and that page fails when it
 *     is touched.
 * -EAGAIN: the system refused, or a page can't be read from the backing file: the region is still
 *     there.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_remove_region(struct zspager *pager, uint64_t region, uint32_t flags);

/**
 * Brings the pages of a range to memory, and keeps them there until zspager_release(): for system
 * calls that read or write memory of regions, which are EFAULT with ZSPAGER_FAULT_SIGBUS if it is
 * not in memory. Holds of a page are counted. The pages that the range touches are held whole; with
 * 0 bytes it touches none.
 *
 * Errors:
 * -EINVAL: pager is NULL, or a part of the range is in no region.
 * -ENOSPC: more would be held than zspager_options.max_held_bytes, or a page of the range is held 33
 *     million times already.
 * -EIO: a page's copy is damaged, or it can't be read from the backing file.
 * -EAGAIN: the system refused for a second to put a page in place: it may have no memory.
 * -EPERM: this process is a forked child.
 * If it fails, nothing is held that was not before.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_hold(struct zspager *pager,
                 const void *memory,
                 size_t bytes);

/**
 * Ends a hold of the same range.
 *
 * Errors:
 * -EINVAL: pager is NULL, or a part of the range is in no region: it may have been unmapped since it
 *     was held. The hold of the other parts has ended.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_release(struct zspager *pager,
                    const void *memory,
                    size_t bytes);

/**
 * Gives the pages of a range back: they read as zero, and cost nothing. Pages that are held, or that
 * the system has pinned, stay in memory, and are zeros. It needs no lent thread, as madvise() does,
 * and is the only way with ZSPAGER_EVICT_IN_PLACE and before Linux 6.8. 0 bytes are no pages.
 *
 * Errors:
 * -EINVAL: pager is NULL, the range is not whole pages, or a part of it is in no region.
 * -EAGAIN: memory of the range was moved or unmapped all the time. A part may have been given
 *     back.
 * -EPERM: this process is a forked child.
 * Others come from the system.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_discard(struct zspager *pager,
                    void *memory,
                    size_t bytes);

/**
 * Sets the limit: how many bytes of pages of regions and the staging range may be in memory; 0: no
 * limit; less than 64 KiB: 64 KiB. Evicts what is above it before it returns.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -ENOMEM: the pool is full, and nothing can be written back. The limit holds from then on, and
 *     what is above it goes as soon as it can.
 * -EAGAIN: too much is held, or pinned by the system. The limit holds as with -ENOMEM.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_resident_limit(struct zspager *pager, uint64_t bytes);

/**
 * Sets how many bytes of slots the compressed pages may take, as zswap_set_limit(); 0: no limit but
 * the pool's own. Once it is met pages are written to the backing file; without one they stay in
 * memory, above the limit of resident pages if need be.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_pool_limit(struct zspager *pager, uint64_t bytes);

/**
 * Sets for how many pages that are in memory a compressed copy may be kept, in percent of the limit
 * on resident bytes, 0 to 100; 10 at first. A page that was only read since it came back is evicted
 * again without being compressed, if its copy was kept; the copy takes memory of the pool
 * meanwhile. Copies that are kept go when the pool is full, or their pages are written or evicted:
 * a lower percentage keeps no new ones, and drops none at once.
 *
 * Errors:
 * -EINVAL: pager is NULL, or percent is more than 100.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_kept_copies(struct zspager *pager, uint32_t percent);

/**
 * Sets what pages are compressed with from now on, as zswap_set_codec().
 *
 * codec, level: one of ZSWAP_CODEC_*, and its level.
 *
 * Errors:
 * -EINVAL: pager is NULL, or there is no such codec or level.
 * -ENOMEM: there is no memory for what Zstandard needs.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_codec(struct zspager *pager, uint32_t codec, int32_t level);

/**
 * Sets the file that compressed pages are written to when the pool is full, or none any more, as
 * zswap_set_backing_file().
 *
 * fd, bytes: as there: a regular file or a block device, opened with O_RDWR and without O_APPEND,
 *     and its first `bytes` bytes. -1 and 0: no file any more.
 *
 * Errors:
 * -EINVAL: pager is NULL, the descriptor is none, is opened otherwise, or is not one of a regular
 *     file or a block device, or bytes is less than 4096 or more than 16 TiB, or not 0 with -1.
 * -EBUSY: pages are on the file that was set before, or are being written to it.
 * -EMFILE: the process may have no more descriptors.
 * -ENOMEM: there is no memory for its table, of some 8 bytes a page.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_backing_file(struct zspager *pager, int32_t fd, uint64_t bytes);

/**
 * Writes compressed pages that were not used lately to the backing file, until `pages` pages have
 * left the pool. Stores in *written how many did, which can be fewer than asked.
 *
 * Errors:
 * -EINVAL: pager or written is NULL, or there is no backing file.
 * -EAGAIN: no page could go now: the file is full or fails, or pages are in use. In the JSON of
 *     zspager_stats_json() the zswap's writeback_no_space and writeback_io tell which.
 * -EIO: the library's descriptor of the backing file was closed, or is another file's now. Nothing
 *     was written.
 * -ENOENT: no page is in the pool.
 * -EPERM: this process is a forked child.
 *
 * Threads: any, several at once; takes as long as its work. Callbacks: not allowed.
 */
int zspager_write_back(struct zspager *pager, uint64_t pages, uint64_t *written);

/**
 * Moves what is in the pool together and gives the memory that becomes free back to the system, as
 * zswap_compact(). Stores in *pages_freed how many pages of 4096 bytes that were.
 *
 * budget: as for zs_compact().
 *
 * Errors:
 * -EINVAL: pager or pages_freed is NULL, or the budget's struct_size is wrong or has a field that
 *     is not known here.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_compact(struct zspager *pager,
                    const struct zs_compact_budget *budget,
                    uint64_t *pages_freed);

/**
 * Evicts `pages` pages now, of those that were not used lately, whatever the limit says. Stores in
 * *evicted how many went, which can be fewer or a few more than asked: 0, if none is in memory.
 *
 * Errors:
 * -EINVAL: pager or evicted is NULL.
 * -ENOMEM: none went, for the pool is full, and nothing can be written back.
 * -EAGAIN: none of those in memory could go now.
 * -EPERM: this process is a forked child.
 *
 * Threads: any; takes as long as its work. Callbacks: not allowed.
 */
int zspager_evict(struct zspager *pager, uint64_t pages, uint64_t *evicted);

/**
 * Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
 *
 * Errors:
 * -EINVAL: pager or stats is NULL, or struct_size is wrong.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_stats(struct zspager *pager, struct zspager_stats *stats);

/**
 * Stores in *nanoseconds a time that `permille` of 1000 touches did not take longer than to be
 * served: 500 is the median, 999 what one of 1000 exceeds. Every eighth touch is timed, since the
 * pager was created. It is right to a quarter. 0: none was timed. What the system does before and
 * after, the signal or the wake-up, is not in it.
 *
 * Errors:
 * -EINVAL: pager or nanoseconds is NULL, or permille is more than 1000.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_latency_permille(struct zspager *pager, uint32_t permille, uint64_t *nanoseconds);

/**
 * Writes the statistics of the pager and of its zswap to `buffer` as JSON, ended with a NUL, and
 * stores in *length how many bytes it has without the NUL. It is an object with the members
 * "version", a number that changes when a member changes its meaning; "pager", an object with the
 * fields of struct zspager_stats without struct_size, those that only grow inside of its member
 * "counts"; and "zswap", what zswap_stats_json() writes, with an area for each region. The pager's
 * member "latencies" has the member "buckets", an array of 128 counts of touches, of which every
 * eighth is timed. Bucket i begins at i nanoseconds up to 3, and at (4 + i % 4) << (i / 4 - 1) from
 * 4 on. Later versions can have more members.
 *
 * Errors:
 * -EINVAL: pager or length is NULL, or buffer is NULL and size is not 0.
 * -ENOSPC: it does not fit into `size` bytes; with size 0 it never does. *length is set all the
 *     same, and buffer is an empty string. Come back with some more than *length + 1 bytes, for
 *     figures grow.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_stats_json(struct zspager *pager, char *buffer, size_t size, size_t *length);
#endif

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ZSALLOC_H */
