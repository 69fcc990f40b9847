/*
 * zsalloc keeps memory compressed, as a library. It has three layers. Use the one that fits:
 *
 * - A pool holds many objects of 1 to ZS_MAX_ALLOC_SIZE bytes behind movable handles, as the Linux
 *   kernel's zsmalloc does. For programs that compress by themselves, or have small objects.
 * - A zswap takes pages of 4096 bytes, compresses them into a pool of its own, keeps to limits, and
 *   writes back pages that were not used lately: to files, or to places of the program's own, such as
 *   another machine (see TIERS). For hypervisors, swap daemons, caches of blocks.
 * - A pager keeps ranges of the program's own memory to a limit, through Linux's userfaultfd. It is
 *   declared only if the program defines ZSALLOC_UFFD before it includes this header.
 *
 * START HERE: the ten functions of each layer that most programs need.
 *
 *   zs_create_pool()          creates a pool
 *   zs_malloc()               allocates an object and returns its handle
 *   zs_obj_write()            copies bytes into an object
 *   zs_obj_read()             copies bytes out of an object
 *   zs_free()                 frees an object
 *   zs_compact()              moves objects together and gives memory back to the system
 *   zs_set_evict()            sets the callback that frees objects when there is no room ...
 *   zs_shrink()               ... which this offers those objects that were unused longest
 *   zs_last_error()           says why the last call of this thread that failed did so
 *   zs_destroy_pool()         destroys a pool
 *
 *   zswap_create()            creates a zswap
 *   zswap_add_area()          adds an area: a fixed number of pages, such as a guest's memory
 *   zswap_store()             stores a page
 *   zswap_load()              loads a page
 *   zswap_invalidate()        removes pages
 *   zswap_set_backing_file()  sets the file that pages are written back to
 *   zswap_shrink()            makes room: writes back pages that were not used lately
 *   zswap_usage()             says how full it is, and how much has to go
 *   zswap_remove_area()       removes an area with all its pages
 *   zswap_destroy()           destroys a zswap
 *
 *   zspager_create()          creates a pager, with a limit
 *   zspager_map()             maps memory under the pager
 *   zspager_run()             lends a thread to the pager, which evicts ahead ...
 *   zspager_stop()            ... until this makes it return
 *   zspager_hold()            keeps pages in memory during a system call that uses them ...
 *   zspager_release()         ... until this ends the hold
 *   zspager_set_backing_file() sets the file for pages that the pool has no room for
 *   zspager_stats()           reports what is in memory and what happened
 *   zspager_unmap()           unmaps it
 *   zspager_destroy()         destroys a pager
 *
 * Link with -lzsalloc. With the static library, libzsalloc.a, also link with -lpthread -ldl -lm,
 * which recent C libraries include. EXAMPLES, at the end, has two whole programs.
 *
 * Each function's comment says what it does, its errors, and where it may be called. These comments
 * at the end of the header, in this order, say what holds for many functions:
 *
 *   EXAMPLES         two whole programs              STRUCTS      sizes and versions
 *   RESULTS          errors, and their sentences     FORK         what children get
 *   BYTES, HANDLES   of objects of a pool            JAILS        the system calls that are made
 *   THREADS          what may run at the same time   DESCRIPTORS  those that the library opens
 *   CALLBACKS        what they may call              STACK        what calls take of it
 *   SIGNAL HANDLERS  what they may call              TOOLS        valgrind, sanitizers, gdb
 *   MEMORY           when malloc() has none          CORE DUMPS   of programs with a pager
 *   ZSWAP            limits and promises             PAGER        its rules for the program
 *   WRITEBACK        rules for programs that write pages back themselves
 *   TIERS            several files, and places of the program's own, for pages that leave memory
 */

#ifndef ZSALLOC_H
#define ZSALLOC_H

/* Generated from the comments and types in c-library/src: change them there. */

#include <stddef.h>
#include <stdint.h>

/** Major version of this header. zs_version() returns the version of the library. */
#define ZS_VERSION_MAJOR 0

/** Minor version of this header. */
#define ZS_VERSION_MINOR 1

/** Patch version of this header. */
#define ZS_VERSION_PATCH 0

/** Size of the largest object, in bytes. */
#define ZS_MAX_ALLOC_SIZE 4112

/** Size of the largest object in a pool with tags (ZS_POOL_TAGGED), in bytes. */
#define ZS_MAX_TAGGED_SIZE 4104

/** Smallest value of zs_pool_options.max_bytes other than 0, in bytes. */
#define ZS_MIN_POOL_BYTES 1048576

/** zs_map_object() mode: read and write. */
#define ZS_MM_RW 0

/** zs_map_object() mode: read only. Never waits. */
#define ZS_MM_RO 1

/** zs_map_object() mode: write only. Bytes that are not written keep their values. */
#define ZS_MM_WO 2

/** zs_pool_options.backing: private anonymous memory. The default. */
#define ZS_BACKING_ANONYMOUS 0

/**
 * zs_pool_options.backing: a memory file (memfd) named after the pool. zs_pool_fd() returns its
 * descriptor.
 */
#define ZS_BACKING_MEMFD 1

/**
 * zs_pool_options.backing: 2 MiB huge pages from the system's reserve (vm.nr_hugepages), taken one
 * by one as the pool grows. If the system has no hugetlbfs, zs_create_pool() fails. If the reserve
 * is empty, zs_malloc() fails with -ENOMEM.
 */
#define ZS_BACKING_HUGETLB 2

/**
 * zs_pool_options.backing: memory that the caller supplies in zs_pool_options.memory and
 * memory_bytes.
 */
#define ZS_BACKING_MEMORY 3

/**
 * zs_pool_tuning.flags: never request huge pages. With neither this flag nor ZS_POOL_HUGE_ALWAYS,
 * only an anonymous pool requests them, and only for its memory beyond 4 GiB.
 */
#define ZS_POOL_HUGE_NEVER 1

/**
 * zs_pool_tuning.flags: request huge pages from the start. The pool then takes, counts and gives
 * back memory 2 MiB at a time. Not for supplied memory.
 */
#define ZS_POOL_HUGE_ALWAYS 2

/**
 * zs_pool_tuning.flags: forked children do not get the pool. Always in effect with
 * ZS_BACKING_MEMFD and ZS_BACKING_HUGETLB.
 */
#define ZS_POOL_DONTFORK 4

/**
 * zs_pool_tuning.flags: for processes in jails that forbid such calls. The pool refuses huge pages
 * once, when it is created, gives the system no other advice, and does not ask to be left out of
 * core dumps. It gives memory back with madvise(), one range at a time, and never with
 * process_madvise().
 */
#define ZS_POOL_NO_ADVICE 8

/** zs_pool_options.flags: overwrite freed objects with zeros, and refuse stale handles for ever. */
#define ZS_POOL_HARDENED 16

/**
 * zs_pool_options.flags, with ZS_BACKING_MEMORY only: the supplied memory is private and anonymous,
 * and the pool may give pages of it back to the system (MADV_DONTNEED). Without this flag, supplied
 * memory stays with the process.
 */
#define ZS_POOL_RELEASABLE 32

/**
 * zs_pool_tuning.flags: each object keeps 8 bytes of the program's beside its own, which
 * zs_malloc_tagged() stores and zs_get_tag() returns. Each object takes 8 bytes more, and has at
 * most ZS_MAX_TAGGED_SIZE. Not for the pool of a zswap.
 */
#define ZS_POOL_TAGGED 64

/** Size of a page in bytes. */
#define ZSWAP_PAGE_SIZE 4096

/** Maximum number of pages of an area. */
#define ZSWAP_MAX_AREA_PAGES 274877906944

/** Maximum number of pages of one zswap_store_pages(). */
#define ZSWAP_MAX_BATCH 8192

/** Maximum of zswap_tuning.contexts. */
#define ZSWAP_MAX_CONTEXTS 64

/** Maximum of zswap_tuning.max_claims. */
#define ZSWAP_MAX_CLAIMS 65536

/** Codec LZ4: the fastest, and the default. Its level is 0. */
#define ZSWAP_CODEC_LZ4 0

/**
 * Codec Zstandard: pages are about a third smaller than with LZ4, and it is several times slower.
 * Its level is 1 to 22, or 0 for the default, 3.
 */
#define ZSWAP_CODEC_ZSTD 1

/** No codec: pages are stored as they are. Its level is 0. */
#define ZSWAP_CODEC_RAW 2

/**
 * Flag of zswap_load(), zswap_load_pages() and zswap_load_scattered(): loading a page also removes
 * it from the area, in one step. Without this flag the page stays stored.
 */
#define ZSWAP_LOAD_EXCLUSIVE 1

/**
 * Flag of zswap_invalidate(), and of loads with ZSWAP_LOAD_EXCLUSIVE: fail with -EAGAIN instead of
 * waiting for a writeback.
 */
#define ZSWAP_NOWAIT 2

/**
 * zswap_area_options.flags: refuse pages that do not compress, with -ENOSPC. Without this flag they
 * are stored uncompressed, so that writeback takes the pages unused longest and not those that
 * compress badly.
 */
#define ZSWAP_AREA_REFUSE_INCOMPRESSIBLE 1

/** zswap_area_options.flags: never write pages of the area back. */
#define ZSWAP_AREA_NO_WRITEBACK 2

/**
 * zswap_area_options.flags: a store that fails leaves the page that was stored before. Without this
 * flag it removes that page, so that an old copy can't be taken for the new page. Use it if the program
 * tells its own caller of the failure and has no other copy of the old page, as a disk does. A program
 * that writes pages back keeps the page's mark and place on the disk after such a failure: see
 * WRITEBACK.
 */
#define ZSWAP_AREA_KEEP_OLD 4

/** Maximum number of tiers that a zswap has at a time. Their numbers are below it. */
#define ZSWAP_MAX_TIERS 8

/** zswap_usage.refused_by: no limit refuses stores now. zs_last_limit(): no limit refused the call. */
#define ZSWAP_LIMIT_NONE 0

/** zswap_usage.refused_by and zs_last_limit(): the area's own limit was met, and refuses stores. */
#define ZSWAP_LIMIT_AREA 1

/**
 * zswap_usage.refused_by and zs_last_limit(): the zswap's limit was met, and refuses stores of all
 * areas.
 */
#define ZSWAP_LIMIT_ZSWAP 2

/**
 * zs_last_limit() only: the pool, of objects or of a zswap, has no room: its memory is at its own
 * limit, or its addresses or tables are used up. Free, compact or shrink before you try again.
 */
#define ZSWAP_LIMIT_POOL 3

/** Maximum of zswap_shrink_options.min_age, and the age of the pages that were longest unused. */
#define ZSWAP_MAX_AGE 3

/**
 * zswap_shrink_options.flags: pages that did not compress go first, because they make the most room.
 * Those that were used lately are not among them. The other pages follow, as far as more may go.
 */
#define ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST 1

#if defined(ZSALLOC_UFFD)
/**
 * zspager_options.fault_mode: the thread that touches a page brings it back itself, in a SIGBUS
 * handler. The default: the fastest, and it needs no privileges.
 */
#define ZSPAGER_FAULT_SIGBUS 0

/**
 * zspager_options.fault_mode: threads inside zspager_run() bring pages back, while the thread that
 * touches a page sleeps, inside system calls too. Needs CAP_SYS_PTRACE, or
 * vm.unprivileged_userfaultfd=1, or a /dev/userfaultfd that the process may open.
 */
#define ZSPAGER_FAULT_THREADS 1

/**
 * zspager_options.eviction: evict private pages where they are: protect, copy, compress, drop. This
 * is the default, because it is the faster way where two or more threads touch pages at random:
 * 1.15 times as many operations per second as with the kernel's swap, and 0.66 times by moving.
 * Each page that moves interrupts the other processors that run the process. With one thread and
 * no lent threads, moving is a little faster: 1.26 to 1.86 times the kernel's, and 1.21 to 1.71
 * times in place. docs/benchmarks.md has the table, and the command that prints it.
 * zspager_stats.eviction says which way a pager uses, and why.
 * But the pager does not learn of madvise() then: only zspager_discard() gives pages of a region
 * back, and after madvise() an evicted page has its old bytes. And bytes that direct I/O, io_uring
 * or a device writes to a page that is not held may be lost: hold it with zspager_hold().
 */
#define ZSPAGER_EVICT_IN_PLACE 0

/**
 * zspager_options.eviction: move private pages to a staging range. The pager learns of madvise(), if
 * a lent thread reads its events, and a page that the system has pinned stays in memory. Pages are
 * evicted in place nevertheless before Linux 6.8, which can't move them, and before 6.16 if there is
 * swap (/proc/swaps) when the pager is created: UFFDIO_MOVE had bugs there when swap was in use,
 * which could mix up a private page or crash the kernel.
 */
#define ZSPAGER_EVICT_MOVING 1

/**
 * zspager_options.eviction: as ZSPAGER_EVICT_MOVING, and also where there is swap before Linux 6.16.
 * The bugs were fixed in 6.16, and by the middle of 2025 in the stable series, which a release
 * number does not show: choose this if your kernel has the fixes.
 */
#define ZSPAGER_EVICT_MOVING_BESIDE_SWAP 2

/** zspager_stats.eviction: private pages are evicted where they are, as the options say. */
#define ZSPAGER_USES_IN_PLACE 0

/** zspager_stats.eviction: private pages are moved to the staging range, as the options say. */
#define ZSPAGER_USES_MOVING 1

/**
 * zspager_stats.eviction: private pages are evicted where they are, although the options say to move
 * them: this Linux can't move pages.
 */
#define ZSPAGER_USES_IN_PLACE_WITHOUT_MOVE 2

/**
 * zspager_stats.eviction: private pages are evicted where they are, although the options say to move
 * them: there is swap, and Linux is older than 6.16.
 */
#define ZSPAGER_USES_IN_PLACE_BESIDE_SWAP 3

/**
 * zspager_region_options.flags: the region is a shared mapping of a memory file, the part that
 * shared_fd and shared_offset name. Without this flag it is private anonymous memory.
 */
#define ZSPAGER_REGION_SHARED 1

/** zspager_region_options.flags: never write the region's pages to the backing file. */
#define ZSPAGER_REGION_NO_WRITEBACK 2

/**
 * zspager_region_options.flags: as long as the range is a region, nobody moves or unmaps a part of
 * it, and memory is given back by zspager_discard() alone, not by madvise(). Lent threads that
 * serve touches then wait neither for each other nor for a thread that evicts, which several of
 * them need to be faster than one. It takes effect while all regions of the pager have this flag.
 * If the promise is broken, a page that was given back may have its old bytes, and memory that was
 * mapped where a part of the region was unmapped may lose what is in it. Memory of zspager_map()
 * counts as if it had the flag, unless pages are evicted by moving.
 */
#define ZSPAGER_REGION_SETTLED 4

/**
 * Flag of zspager_remove_region(): pages that are not in memory are lost, and read as zeros.
 * Without this flag all pages are brought back.
 */
#define ZSPAGER_DISCARD 1

/** zspager_run() duty: all of the others, in turn. */
#define ZSPAGER_RUN_ALL 0

/**
 * zspager_run() duty: read what the program does with the memory of regions, and with
 * ZSPAGER_FAULT_THREADS bring pages back.
 */
#define ZSPAGER_RUN_SERVE 1

/**
 * zspager_run() duty: evict ahead, so that touches need not; write to the backing file when the
 * pool is full; and compact the pool when it is sparse. Without such a thread, touches that evict
 * compact a sparse pool, some 0.1 ms at a time.
 */
#define ZSPAGER_RUN_EVICT 2

/**
 * zspager_run() duty: call tiers of zspager_add_tier(): with ZSPAGER_FAULT_SIGBUS read pages from them
 * for touches, whose handlers may not, and write to them when the pool is full. A touch waits while the
 * thread reads from a tier: lend as many as the tier should serve at a time.
 */
#define ZSPAGER_RUN_TIERS 3
#endif

/** A pool of objects. Opaque. */
struct zs_pool;

#if defined(ZSALLOC_UFFD)
/** Keeps memory of the program to a limit. Opaque. */
struct zspager;
#endif

/** Areas whose pages are compressed into one pool. Opaque. */
struct zswap;

/** A fixed number of pages of a zswap. Opaque. */
struct zswap_area;

/**
 * The options of a pool that few programs set. Set the whole struct to 0, then struct_size, then
 * the fields that differ from the default.
 */
struct zs_pool_tuning {
    /** Set to sizeof(struct zs_pool_tuning). */
    size_t struct_size;
    /**
     * ZS_POOL_HUGE_NEVER, ZS_POOL_HUGE_ALWAYS, ZS_POOL_DONTFORK, ZS_POOL_NO_ADVICE and
     * ZS_POOL_TAGGED, combined with |.
     */
    uint32_t flags;
    /** Reserved for later versions: set to 0. */
    uint32_t reserved[9];
};

/**
 * Options for creating a pool. Set the whole struct to 0, then struct_size, then the fields that
 * differ from the default.
 */
struct zs_pool_options {
    /** Set to sizeof(struct zs_pool_options). */
    size_t struct_size;
    /**
     * Maximum memory of the pool in bytes, its own tables included: at least
     * ZS_MIN_POOL_BYTES, at most about 800 GiB. 0: as much as the machine has, or less if the
     * process may not have so many addresses; with ZS_BACKING_MEMORY, all of the supplied memory.
     */
    uint64_t max_bytes;
    /** Source of the memory: one of ZS_BACKING_*. */
    uint32_t backing;
    /** ZS_POOL_HARDENED and ZS_POOL_RELEASABLE, combined with |. */
    uint32_t flags;
    /**
     * With ZS_BACKING_MEMORY: readable and writable memory at a multiple of 4096, which nothing
     * else uses until the pool is destroyed. Otherwise NULL.
     */
    void *memory;
    /**
     * With ZS_BACKING_MEMORY: the size of that memory in bytes, at least ZS_MIN_POOL_BYTES. The
     * larger, the less is wasted: up to half of 1 MiB, up to a twentieth of 16 MiB. Otherwise 0.
     */
    uint64_t memory_bytes;
    /** What few programs set. NULL: the defaults. */
    const struct zs_pool_tuning *tuning;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[4];
};

/**
 * Statistics of a pool: see zs_pool_stats(). Each figure is right for its moment; they are read one
 * after another while other threads go on. A page is 4096 bytes.
 */
struct zs_pool_stats {
    /** sizeof(struct zs_pool_stats), set by the caller. */
    size_t struct_size;
    /** Maximum memory of the pool in bytes. */
    uint64_t max_bytes;
    /** Allocated objects, including those that were freed while mapped and are still mapped. */
    uint64_t objects;
    /** Bytes that these objects take, each rounded up as by zs_lookup_class_size(). */
    uint64_t object_bytes;
    /** Zspages: runs of pages that are cut into objects of one size. */
    uint64_t zspages;
    /** Pages that the pool has from the system, as zs_get_total_pages() returns. */
    uint64_t total_pages;
    /** Those of total_pages that hold the pool's own tables. */
    uint64_t metadata_pages;
    /** Those of total_pages that are empty and kept for reuse. */
    uint64_t warm_pages;
    /** Chunks of 2 MiB of addresses in use. */
    uint64_t chunks;
    /** Those of chunks whose memory is taken and given back 2 MiB at a time. */
    uint64_t whole_chunks;
    /** Pages that compaction gave back to the system since the pool was created. */
    uint64_t pages_compacted;
    /** Objects that compaction moved since the pool was created. */
    uint64_t objects_moved;
    /** Pages that zs_shrink() freed since the pool was created. */
    uint64_t pages_reclaimed;
};

/**
 * Names an object of one pool. Never 0, and not an address. Copy, compare and keep it as you like;
 * its bits carry no meaning for a program.
 */
typedef uint64_t zs_handle_t;

/** Limits for one call of zs_compact(). A field that is 0 sets no limit. */
struct zs_compact_budget {
    /** Set to sizeof(struct zs_compact_budget). */
    size_t struct_size;
    /** Stop after moving this many bytes of objects. */
    uint64_t max_bytes_moved;
    /**
     * Stop after this many microseconds: at the next object, or once the memory that is being given
     * back is gone.
     */
    uint64_t max_microseconds;
};

/**
 * Callback for zs_set_evict(). zs_shrink() calls it in its own thread, with no lock held. It gets
 * the context that was set and the handle of an object to evict. Normally it frees the object,
 * forgets the handle, and returns 0. Any other return value keeps the object. See zs_set_evict() for
 * how the callback finds out what it was offered.
 *
 * An object that is kept is offered again later, after others. So is one for which the callback
 * returns 0 without freeing it, which makes no room. If no page becomes free, zs_shrink() ends with
 * -EAGAIN, "none of the coldest objects could go now".
 *
 * No thread had the object mapped when it was chosen, and it does not move until the callback
 * returns. Another thread may free it in the meantime: then the callback's own zs_free() fails with
 * -EINVAL, without harm, because the handle is not reused before the callback returns. The callback
 * must return normally: no longjmp, no C++ exception.
 */
typedef int (*zs_evict_fn)(void *context, struct zs_pool *pool, zs_handle_t handle);

/**
 * The options of a zswap that few programs set, and those of its pool. Set the whole struct to 0,
 * then struct_size, then the fields that differ from the default.
 */
struct zswap_tuning {
    /** Set to sizeof(struct zswap_tuning). */
    size_t struct_size;
    /**
     * Once a limit was reached, stores are refused until usage has fallen to this percentage of
     * it: 1 to 100. It holds for the limit of each area too. 0: 90, and 98 in a pager.
     */
    uint32_t accept_percent;
    /**
     * How far the pool's memory may exceed zswap_options.max_bytes, in percent of it, for tables and gaps
     * between objects, beside 2 MiB that are always allowed: at most 255. 0: 12.5.
     */
    uint32_t headroom_percent;
    /**
     * How many threads can compress at the same time; others wait. At most ZSWAP_MAX_CONTEXTS.
     * 0: eight more than there are processors, because a thread that loses its processor keeps its
     * context. A context takes 18 KiB, and more once Zstandard is used.
     */
    uint32_t contexts;
    /**
     * How many claims of zswap_writeback_begin() can be held at the same time: at most
     * ZSWAP_MAX_CLAIMS. 0: 1024.
     */
    uint32_t max_claims;
    /**
     * Options of the zswap's pool. NULL: the defaults. Their max_bytes decides how many addresses
     * are reserved, and so how far the limit can be raised later; 0: as much as the machine has
     * memory.
     */
    const struct zs_pool_options *pool;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[4];
};

/**
 * Options for creating a zswap. Set the whole struct to 0, then struct_size, then the fields that
 * differ from the default.
 */
struct zswap_options {
    /** Set to sizeof(struct zswap_options). */
    size_t struct_size;
    /**
     * The limit: maximum bytes of slots that the stored pages of all areas take, which is what
     * they cost in the pool. At least 4112, which one page may take. 0: no limit but the pool's own,
     * and statistics show UINT64_MAX. zswap_set_limit() changes it.
     */
    uint64_t max_bytes;
    /**
     * A name for people, in UTF-8, at most 249 bytes. A memory file shows it in /proc. NULL:
     * "zswap".
     */
    const char *name;
    /** Codec of pages: one of ZSWAP_CODEC_*. zswap_set_codec() changes it. */
    uint32_t codec;
    /** Level of the codec. */
    int level;
    /** What few programs set. NULL: the defaults. */
    const struct zswap_tuning *tuning;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[4];
};

/**
 * Options for adding an area. Set the whole struct to 0, then struct_size, then the fields that
 * differ from the default.
 */
struct zswap_area_options {
    /** Set to sizeof(struct zswap_area_options). */
    size_t struct_size;
    /**
     * The area's own limit: maximum bytes of slots that its pages take, at least 4112. 0: only the
     * zswap's limit holds, and statistics show UINT64_MAX. zswap_area_set_limit() changes it.
     */
    uint64_t max_bytes;
    /**
     * A name for people, in UTF-8, at most 249 bytes, which zswap_stats_json() shows. The library
     * copies it. Several areas may have the same. NULL: none.
     */
    const char *name;
    /** A pointer of the program's, which zswap_area_context() returns, in callbacks too. */
    void *context;
    /** ZSWAP_AREA_* flags, combined with |. */
    uint32_t flags;
    /**
     * The tiers that the area's pages may go to: bit N stands for the tier with the number N, which
     * zswap_add_tier() returned. 0: all. zswap_area_set_tiers() changes it.
     */
    uint32_t tiers;
    /** Reserved for later versions: set to 0. */
    uint32_t reserved[6];
};

/** A page that zswap_load_scattered() is to load, and what became of it. */
struct zswap_load_request {
    /** Offset of the page in its area. */
    uint64_t offset;
    /** Where the page goes: 4096 bytes, at any address. */
    void *page;
    /** Set by the call to 0, or to an error of zswap_load(). */
    int result;
    /** Reserved for later versions: set to 0. */
    int reserved;
};

/**
 * Callback for zswap_set_writeback(). zswap_shrink(), zswap_shrink_area(), zswap_shrink_by() and
 * zswap_shrink_area_by() call it in their own thread, with no lock held. It gets the context that
 * was set, the area as zswap_add_area() returned it, the offset of a page that is to leave memory,
 * and the page: 4096 bytes at a multiple of 4096, valid until the callback returns. It writes them
 * to where the program keeps the page of that offset, and returns the outcome:
 *
 * 0: written. The page leaves the pool, unless it was loaded or replaced meanwhile.
 * -EEXIST: the program already has the page in memory, so it is in use. The page stays, gets a
 *     second chance, and the shrink goes on with the next area.
 * -ENOSPC: there is no room for the page. It stays, and the shrink goes on with the next area.
 * -EAGAIN, -ENOMEM, -EIO, or any other error number: not now, no memory to write with, the write
 *     failed, something else. The page stays. After 16 refusals the shrink goes on with the next
 *     area.
 *
 * A positive error number means the same as the negative one. All outcomes are counted in struct
 * zswap_counts. No second writeback of the same page begins before the callback has returned. The
 * callback may call every function, within the rules of CALLBACKS. It must return normally:
 * no longjmp, no C++ exception.
 */
typedef int (*zswap_writeback_fn)(void *context,
                                  struct zswap_area *area,
                                  uint64_t offset,
                                  const void *page);

/**
 * A page that zswap_writeback_begin() or zswap_writeback_begin_area() claimed. It may be copied. Pass
 * it to zswap_writeback_end() once, from any thread.
 *
 * A claim counts as that of the thread that began it, even if another ends it. zswap_invalidate() and
 * an exclusive load that would have to wait for a claim of their own thread fail with -EBUSY, also
 * with ZSWAP_NOWAIT; a store that fails does not wait for it.
 */
struct zswap_claim {
    /** The area of the page, as zswap_add_area() returned it. */
    struct zswap_area *area;
    /** Offset of the page in its area. */
    uint64_t offset;
    /** Identifies the claim; it carries no meaning for a program. */
    uint64_t ticket;
    /**
     * Bytes of slots that go if the page leaves the pool. A program that makes room claims pages until
     * the sum is zswap_usage.bytes_to_go. zswap_writeback_end() does not read this.
     */
    uint64_t bytes;
};

/**
 * Keeps the `count` bytes of an extent, 1 KiB to 132 KiB, which are valid until the function returns.
 * After 0 the tier may have the only copy of the extent's pages. After an error number the pages stay
 * where they are, and the extent is removed, because a part of the bytes may have arrived. See struct
 * zswap_tier_ops.
 */
typedef int (*zswap_tier_put_fn)(void *context,
                                 uint64_t owner,
                                 uint64_t extent,
                                 const void *bytes,
                                 size_t count);

/**
 * Copies `count` bytes of an extent, from byte `from` on, to `bytes`. The range is within the extent.
 * See struct zswap_tier_ops.
 */
typedef int (*zswap_tier_get_fn)(void *context,
                                 uint64_t owner,
                                 uint64_t extent,
                                 size_t from,
                                 void *bytes,
                                 size_t count);

/**
 * Forgets an extent, which no page needs any more. It is no failure if the extent is not there. After
 * an error number that means "away" the call is made again later; others end the matter. See struct
 * zswap_tier_ops.
 */
typedef int (*zswap_tier_remove_fn)(void *context, uint64_t owner, uint64_t extent);

/**
 * Returns how many more bytes the tier has room for, as far as it knows. It is not offered an extent
 * that has more. See struct zswap_tier_ops.
 */
typedef uint64_t (*zswap_tier_room_fn)(void *context);

/**
 * What a tier of the program's own does: functions for zswap_add_tier(), which copies the struct. The
 * section TIERS says when they are called, what they may do, and what an error number means. Each gets
 * the context of zswap_add_tier() first. An extent is named by two numbers: `owner` is the same for all
 * extents of the tier, and drawn at random when it was added; `extent` counts, and is never used again.
 * Set the whole struct to 0, then struct_size, then the functions.
 */
struct zswap_tier_ops {
    /** Set to sizeof(struct zswap_tier_ops). */
    size_t struct_size;
    /** Keeps an extent. */
    zswap_tier_put_fn put;
    /** Reads a part of an extent. */
    zswap_tier_get_fn get;
    /** Forgets an extent. */
    zswap_tier_remove_fn remove;
    /** Says how much room there is. NULL: no bound is known. */
    zswap_tier_room_fn room;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[4];
};

/**
 * Options for adding a tier of the program's own. Set the whole struct to 0, then struct_size, then
 * the fields that differ from the default.
 */
struct zswap_tier_options {
    /** Set to sizeof(struct zswap_tier_options). */
    size_t struct_size;
    /**
     * The most bytes that the tier's extents may have, in whole blocks of 4096 bytes for each: 4096 to
     * 16 TiB. 0: 1 TiB. The library reserves addresses for a table in proportion, and takes memory as
     * extents are put.
     */
    uint64_t max_bytes;
    /**
     * A name for people, in UTF-8, at most 249 bytes, which zswap_stats_json() shows. The library
     * copies it. Several tiers may have the same. NULL: none.
     */
    const char *name;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[4];
};

/**
 * What a tier has, and what happened on it since it was added: see zswap_tier_stats(). The figures are
 * read one after the other while other threads go on.
 */
struct zswap_tier_stats {
    /** sizeof(struct zswap_tier_stats), set by the caller. */
    size_t struct_size;
    /** The number of the tier. */
    uint32_t tier;
    /** 1: it is a file or a block device of the library's. 0: it is a tier of the program's own. */
    uint32_t is_file;
    /** The number that names its extents: the argument `owner` of its functions. */
    uint64_t owner;
    /** Pages on the tier now. */
    uint64_t pages;
    /** Bytes of these pages, compressed as they are there. */
    uint64_t page_bytes;
    /** Bytes of their extents, in whole blocks of 4096 bytes, dead pages included. */
    uint64_t bytes;
    /** The most bytes that the tier may have. */
    uint64_t max_bytes;
    /** Extents on the tier now. Those count that have no page any more and are to be removed. */
    uint64_t extents;
    /** Bytes of memory of the tier's tables and buffers. */
    uint64_t memory_bytes;
    /** Extents that were put. */
    uint64_t puts;
    /** Bytes of these extents. */
    uint64_t put_bytes;
    /** Pages that were loaded from the tier. zswap_tier_latency_permille() says how long that took. */
    uint64_t loads;
    /** Pages that were moved to another extent, so that mostly dead ones could be removed. */
    uint64_t moved;
    /** How often the tier had no room for an extent, or for all of its pages. */
    uint64_t full;
    /** How often the tier was away, or its file could not be read or written. */
    uint64_t away;
    /** How often a page was damaged, lost or that of another time. */
    uint64_t damaged;
};

/**
 * What zswap_shrink_by() and zswap_shrink_area_by() write back. Set the whole struct to 0, then
 * struct_size, then the fields that differ from the default.
 */
struct zswap_shrink_options {
    /** Set to sizeof(struct zswap_shrink_options). */
    size_t struct_size;
    /** How many pages may leave the pool. 0: no limit. */
    uint64_t max_pages;
    /**
     * How many bytes of slots may become free, as zswap_stats.used_bytes counts them. A page that
     * would take the sum beyond this stays. 0: no limit.
     */
    uint64_t max_bytes;
    /**
     * Only pages of this age and older, at most ZSWAP_MAX_AGE: see zswap_age(). 0: pages of all ages,
     * where pages that were used have a second chance as in zswap_shrink(). From 1 on, pages that were
     * used stay, and keep the mark that says so.
     */
    uint32_t min_age;
    /** ZSWAP_SHRINK_* flags, combined with |. */
    uint32_t flags;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[4];
};

/** What a shrink has done: see zswap_shrink_by(). */
struct zswap_shrunk {
    /** sizeof(struct zswap_shrunk), set by the caller. */
    size_t struct_size;
    /** Pages that left the pool. */
    uint64_t pages;
    /** Bytes of slots that became free in the pool. */
    uint64_t bytes;
};

/**
 * Counts of an area, or of all areas that a zswap ever had. The first four are pages that are
 * stored now; all others only grow.
 */
struct zswap_counts {
    /** Pages in the pool that a codec made smaller. */
    uint64_t compressed_pages;
    /** Pages in the pool that did not compress and are stored as they are. */
    uint64_t raw_pages;
    /** Pages that repeat one word, such as pages of zeros. They take no memory of the pool. */
    uint64_t filled_pages;
    /** Pages on tiers: on the backing file of zswap_set_backing_file(), and on those of zswap_add_tier(). */
    uint64_t file_pages;
    /** Pages stored. */
    uint64_t stores;
    /** Pages loaded, with and without ZSWAP_LOAD_EXCLUSIVE. */
    uint64_t loads;
    /** Pages loaded with ZSWAP_LOAD_EXCLUSIVE, and so removed. */
    uint64_t takes;
    /** Pages loaded from tiers. */
    uint64_t file_loads;
    /** Loads that failed with -ENOENT. */
    uint64_t absent_loads;
    /** Pages removed by zswap_invalidate(). */
    uint64_t invalidated;
    /** Pages stored by zswap_store_pages(); counted in stores as well. */
    uint64_t batch_stores;
    /** Calls of zswap_store_pages() that failed. */
    uint64_t batches_failed;
    /** Pages refused because of the zswap's limit. */
    uint64_t refused_limit;
    /** Pages refused because of the area's limit. */
    uint64_t refused_area_limit;
    /** Pages among these two that an estimate refused before they were compressed. */
    uint64_t refused_early;
    /** Pages refused because the pool had no memory, even after it was compacted. */
    uint64_t refused_memory;
    /** Pages refused because of ZSWAP_AREA_REFUSE_INCOMPRESSIBLE. */
    uint64_t refused_incompressible;
    /** Old copies removed because the store of a newer one failed. */
    uint64_t removed_by_failure;
    /** Pages compressed. */
    uint64_t compressions;
    /** Pages compressed in vain, because they or others of their batch were refused. */
    uint64_t compressions_wasted;
    /** Pages that were written back and left the pool. */
    uint64_t written_back;
    /** Pages kept because they were loaded while they were being written back. */
    uint64_t rescued;
    /** Pages replaced or removed while they were being written back. */
    uint64_t overtaken;
    /** Writebacks that ended with -EEXIST. */
    uint64_t writeback_exists;
    /** Writebacks that ended with -EAGAIN, and those to tiers that are away. */
    uint64_t writeback_again;
    /** Writebacks that ended with -ENOMEM. */
    uint64_t writeback_no_memory;
    /** Writebacks that ended with -EIO. */
    uint64_t writeback_io;
    /** Writebacks that ended with -ENOSPC, and those that found all tiers full. */
    uint64_t writeback_no_space;
    /** Writebacks that ended with another error number. */
    uint64_t writeback_other;
    /** Pages in the pool found damaged: their check did not match. Their loads fail with -EBADMSG. */
    uint64_t decode_failures;
    /** Loads from tiers that failed, with -EIO or -EAGAIN. */
    uint64_t file_read_failures;
    /** Pages that zswap_recompress() made smaller. */
    uint64_t recompressed;
    /** Pages that zswap_recompress() could not make smaller and will not try again. */
    uint64_t recompress_useless;
    /**
     * Pages that came back from where they were written to: from tiers, or as reported
     * by zswap_area_refaulted().
     */
    uint64_t refaults;
    /** Pages that were moved on a tier, so that it takes less room, or to another tier. */
    uint64_t moved_on_file;
    /** Reserved for later counts; 0. */
    uint64_t reserved[13];
};

/**
 * Statistics of a zswap: see zswap_stats(). All figures are of one moment, except the memory of the
 * pool.
 */
struct zswap_stats {
    /** sizeof(struct zswap_stats), set by the caller. */
    size_t struct_size;
    /** Number of areas. */
    uint64_t areas;
    /** Pages that all areas together have room for. */
    uint64_t area_pages;
    /** The limit in bytes of slots; UINT64_MAX: none. */
    uint64_t max_bytes;
    /** Bytes of slots that stored pages take, and that running stores have reserved. */
    uint64_t used_bytes;
    /** Bytes of memory that the pool has from the system, its tables included. */
    uint64_t pool_bytes;
    /**
     * Bytes of memory other than stored pages: the pool's tables (which pool_bytes includes too),
     * the areas' indexes, contexts, claims, counts, and the tables and buffers of tiers.
     */
    uint64_t metadata_bytes;
    /**
     * How often the limit refused a page or a batch: because it was met then, or because it had been met
     * and usage had not fallen far enough since.
     */
    uint64_t limit_hits;
    /** How often the pool had no memory for a page and was compacted. */
    uint64_t capacity_hits;
    /** Claims of zswap_writeback_begin() that have not ended. */
    uint64_t claims;
    /** Bytes of tiers that hold pages, in whole blocks of 4096 bytes. */
    uint64_t file_bytes;
    /** Counts of all areas. Events of removed areas are included; their pages are not. */
    struct zswap_counts counts;
    /**
     * Bytes of the pages on tiers, compressed as they are there. On each tier, the bytes grow to 1.3
     * times as many and a MiB before shrinks move pages together.
     */
    uint64_t file_page_bytes;
};

/**
 * How full a zswap or an area is: see zswap_usage() and zswap_area_usage(). Other threads may have
 * changed the figures by the time that they are used.
 *
 * Of an area, used_bytes and max_bytes are the area's own, but bytes_to_go is of the limit that
 * refused_by names, which may be the zswap's.
 */
struct zswap_usage {
    /** sizeof(struct zswap_usage), set by the caller. */
    size_t struct_size;
    /**
     * Bytes of slots that stored pages take, and that running stores have reserved: those of the area,
     * or of all areas.
     */
    uint64_t used_bytes;
    /**
     * The limit of the area, or of the zswap, in bytes of slots. UINT64_MAX: none. In options and in
     * zswap_set_limit() and zswap_area_set_limit(), 0 says that.
     */
    uint64_t max_bytes;
    /**
     * How many bytes of slots have to go before stores are accepted again. 0: they are accepted now,
     * except a page that takes more than there is left, and except while the pool has no memory, which
     * only a store finds out. Once a limit was met, it refuses stores until usage has fallen to
     * zswap_tuning.accept_percent of it; that percentage holds for the limits of areas too.
     */
    uint64_t bytes_to_go;
    /**
     * The limit that bytes_to_go is about: one of ZSWAP_LIMIT_*. If both refuse, it is the zswap's, as
     * for a store, which looks at that limit first.
     */
    uint32_t refused_by;
    /** Reserved for later versions; 0. */
    uint32_t reserved;
};

/** Statistics of an area: see zswap_area_stats(). All figures are of one moment. */
struct zswap_area_stats {
    /** sizeof(struct zswap_area_stats), set by the caller. */
    size_t struct_size;
    /** Number of the area, as zswap_area_id() returns it. */
    uint64_t area;
    /** Pages that the area has room for. */
    uint64_t area_pages;
    /** The area's own limit in bytes of slots; UINT64_MAX: none. */
    uint64_t max_bytes;
    /** Bytes of slots that its stored pages take, and that running stores have reserved. */
    uint64_t used_bytes;
    /** Bytes of memory of its index and counts. */
    uint64_t metadata_bytes;
    /** How often the area's own limit refused a page or a batch, as zswap_stats.limit_hits. */
    uint64_t limit_hits;
    /** Counts of this area. */
    struct zswap_counts counts;
};

#if defined(ZSALLOC_UFFD)
/**
 * The options of a pager that few programs set, and those of its zswap. Set the whole struct to 0,
 * then struct_size, then the fields that differ from the default.
 */
struct zspager_tuning {
    /** Set to sizeof(struct zspager_tuning). */
    size_t struct_size;
    /**
     * Maximum bytes that zspager_hold() may hold at the same time. At least a page of 4096 bytes. 0:
     * an eighth of zspager_options.resident_bytes. zspager_set_resident_limit() does not change it.
     */
    uint64_t max_held_bytes;
    /** The zswap that holds evicted pages, and its pool. NULL: the defaults. */
    const struct zswap_tuning *zswap;
    /**
     * Size of the staging range in percent of zspager_options.resident_bytes: 1 to 90. 0: 10. Pages wait there,
     * uncompressed, in case they are touched again.
     */
    uint32_t staged_percent;
    /**
     * Maximum number of regions at the same time: at most 65536. 0: 1024. A region takes five or
     * six of the mappings that vm.max_map_count allows a process, its own included, and a pager
     * about 20: with the usual 65530 there is room for about 10,900 regions. Beyond that,
     * zspager_add_region() fails with -ENOMEM.
     */
    uint32_t max_regions;
    /** Reserved for later versions: set to 0. */
    uint32_t reserved[8];
};

/**
 * Options for creating a pager. Set the whole struct to 0, then struct_size, then the fields that
 * differ from the default.
 */
struct zspager_options {
    /** Set to sizeof(struct zspager_options). */
    size_t struct_size;
    /**
     * The limit: maximum bytes of all regions and of the pager's staging range in memory. Each
     * thread that loads pages ahead may exceed it by up to 15 pages for a moment. At least
     * 64 KiB. 0: no limit. zspager_set_resident_limit() changes it.
     */
    uint64_t resident_bytes;
    /**
     * The limit of compressed pages: maximum bytes of slots that they take, on top of
     * resident_bytes. At least 4112, which one page may take. 0: no limit but the pool's own.
     * zspager_set_pool_limit() changes it.
     */
    uint64_t pool_bytes;
    /** How pages are brought back: one of ZSPAGER_FAULT_*. */
    uint32_t fault_mode;
    /** How private pages leave memory: one of ZSPAGER_EVICT_*. */
    uint32_t eviction;
    /** Codec of evicted pages: one of ZSWAP_CODEC_*. zspager_set_codec() changes it. */
    uint32_t codec;
    /** Level of the codec. */
    int level;
    /** What few programs set. NULL: the defaults. */
    const struct zspager_tuning *tuning;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[4];
};

/**
 * Options for adding a region. Set the whole struct to 0, then struct_size, then the fields that
 * differ from the default.
 */
struct zspager_region_options {
    /** Set to sizeof(struct zspager_region_options). */
    size_t struct_size;
    /**
     * Maximum bytes of slots that the region's pages may take in the zswap, at least 4112. 0: no
     * limit of its own.
     */
    uint64_t max_stored_bytes;
    /**
     * A name for people, in UTF-8, at most 249 bytes, which zspager_stats_json() shows. The library
     * copies it. Several regions may have the same. NULL: none.
     */
    const char *name;
    /**
     * With ZSPAGER_REGION_SHARED: the offset in the memory file where the range begins, in bytes.
     * Otherwise 0.
     */
    uint64_t shared_offset;
    /**
     * With ZSPAGER_REGION_SHARED: the memory file, open for reading and writing. Otherwise 0. The
     * library duplicates the descriptor: the caller may close it. While the region exists, pages
     * that are not in memory are holes in the file, and other mappings of the file read zeros
     * there. Removing the region without ZSPAGER_DISCARD fills the holes; unmapping the range
     * without that loses the pages.
     *
     * Do not call fallocate() with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE, or ftruncate(), on
     * a part of the file that is in a region. The system does not tell the pager of these calls:
     * pages that are not in memory come back with their old bytes. To give memory back, as a
     * balloon does, call zspager_discard().
     *
     * A page that is part of a huge page leaves memory only if the system can split the huge page.
     * It can't while any part of it is pinned: then the page stays, stays charged, and counts as
     * pinned in the statistics.
     */
    int shared_fd;
    /** ZSPAGER_REGION_* flags, combined with |. */
    uint32_t flags;
    /** Reserved for later versions: set to 0. */
    uint64_t reserved[3];
};

/**
 * Statistics of a pager: see zspager_stats(). The figures up to table_bytes, lent_threads,
 * immovable_bytes and eviction are current values; all others only grow. Each figure is right for its moment,
 * and two figures need not be of the same moment.
 *
 * How many pages are compressed, and how much memory their pool takes, is in the JSON of
 * zspager_stats_json() alone, in its member "zswap".
 */
struct zspager_stats {
    /** sizeof(struct zspager_stats), set by the caller. */
    size_t struct_size;
    /**
     * The limit: maximum bytes of regions and staging range in memory; UINT64_MAX if there is
     * none.
     */
    uint64_t resident_limit_bytes;
    /** Bytes of regions and staging range in memory. */
    uint64_t resident_bytes;
    /** Part of resident_bytes that is in the staging range. */
    uint64_t staged_bytes;
    /** Bytes held by zspager_hold(). */
    uint64_t held_bytes;
    /** Size of all regions in bytes of addresses. */
    uint64_t region_bytes;
    /** Number of regions. */
    uint64_t regions;
    /** Bytes of memory of the pager's own tables, without the zswap's. */
    uint64_t table_bytes;
    /**
     * Touches served, of every kind. Includes pages that a hold or the removal of a region brought
     * back.
     */
    uint64_t faults;
    /** Pages loaded from the zswap or its file because they were touched. */
    uint64_t loads;
    /** Pages loaded ahead of a touch. */
    uint64_t loads_ahead;
    /** Pages moved back from the staging range because they were touched. */
    uint64_t rescues;
    /**
     * Pages filled with zeros because they were touched for the first time, or after their owner
     * gave them back.
     */
    uint64_t zero_fills;
    /** First writes to pages whose compressed copy had been kept. */
    uint64_t first_writes;
    /** Pages moved to the staging range. */
    uint64_t staged;
    /** Pages compressed. */
    uint64_t stored;
    /** Pages dropped without compression because their compressed copy had been kept. */
    uint64_t dropped;
    /**
     * Touches and holds that had to make room themselves. If there are many, lend a thread that
     * evicts (ZSPAGER_RUN_EVICT or ZSPAGER_RUN_ALL), or give it more processor time.
     */
    uint64_t direct_reclaims;
    /**
     * Pages brought in above the limit because none could leave. Either the pool was full and
     * nothing could be written back: raise the pool's limit or add a backing file. (If there is
     * one, the zswap's writeback_no_space in the JSON of zspager_stats_json() tells that it is
     * full, and writeback_io that it fails.) Or the rest was held, immovable, or being evicted by
     * other threads: hold less, or raise the limit.
     */
    uint64_t over_limit;
    /**
     * Pages picked for eviction that stayed, because the system has them pinned or locked, or
     * refused. The same page counts each time.
     */
    uint64_t pinned;
    /** Pages that their owner gave back, unmapped or discarded, and all pages of removed regions. */
    uint64_t discarded;
    /** Pages whose compressed copy was damaged. A thread that touches one gets SIGBUS. */
    uint64_t poisoned;
    /** Discards, moves and unmaps by the program that the pager noticed. */
    uint64_t events;
    /**
     * Failed attempts to put a page in place: the memory was changing, the system refused, or the
     * backing file could not be read. A few are normal. Many compared with faults mean that the
     * system lacks memory, that the program moves and unmaps all the time, or that the file fails,
     * which the zswap's file_read_failures in the JSON counts.
     */
    uint64_t retries;
    /**
     * Touches given up after about a second, and pages that a hold or the removal of a region could
     * not bring back: the system refused, the backing file could not be read, or the memory kept
     * changing. Nothing is lost. The touch got SIGBUS; with ZSPAGER_FAULT_THREADS it is given up
     * sooner, waits, is tried again, and counts again. Damaged pages are not included.
     */
    uint64_t failed;
    /**
     * Threads inside zspager_run(). With ZSPAGER_FAULT_THREADS and none of them, touches wait until
     * there is one.
     */
    uint64_t lent_threads;
    /**
     * Bytes in memory that could not leave when last tried: pages that are locked, pinned, shared
     * with another process, or part of a huge page that can't be split. Some of them are tried
     * again every 10 ms in which a touch needs room; zspager_evict() and
     * zspager_set_resident_limit() try all of them. While held_bytes and these together exceed the
     * limit, touches go above it at once, and over_limit counts that.
     */
    uint64_t immovable_bytes;
    /** Pages that left memory from where they were, and not from the staging range. */
    uint64_t evicted_in_place;
    /** How the pager evicts private pages, and why so: one of ZSPAGER_USES_*. */
    uint64_t eviction;
};
#endif

#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/**
 * Returns the version of the library: major << 16 | minor << 8 | patch.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
uint32_t zs_version(void);

/**
 * Creates a pool and stores it in *pool. It begins with about ten pages, and takes memory from the
 * system as it fills.
 *
 * name: for people, in UTF-8, at most 249 bytes. A memory file shows it in /proc. It need not be
 *     unique.
 * options: NULL for the defaults.
 *
 * Errors:
 * -EINVAL: name or pool is NULL, the name is too long or not UTF-8, or an option is wrong or
 *     contradicts another.
 * -ENOMEM: the system gives no addresses (set a smaller max_bytes, or raise RLIMIT_AS), or no
 *     memory for the tables.
 * The system's own errors are returned as they are, among them -EMFILE and -ENFILE (no descriptor
 * for a memory file), -ENOSYS and -EPERM (a jail forbids a system call), and -ENOSYS, -ENODEV or
 * -EINVAL (the system has no huge pages).
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_create_pool(const char *name, const struct zs_pool_options *options, struct zs_pool **pool);

/**
 * Destroys a pool with all its objects and gives its memory back. Supplied memory is the caller's
 * again. The context of zs_set_evict() is not used after this.
 *
 * No other call on the pool may run at the same time or come later. In a forked child that has no
 * copy of the pool, this frees what the child has of it.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EBUSY: an object is mapped. Nothing has changed.
 *
 * Threads: one, while no other uses the pool. Evict callback: always -EBUSY.
 */
int zs_destroy_pool(struct zs_pool *pool);

/**
 * Prepares a fork() while other threads use the pool: takes all locks of the pool, so that the
 * child finds nothing half done, and keeps them until zs_fork_done(). The thread that prepared must
 * call zs_fork_done() after fork(), in the parent and in the child. In between it must make no
 * other call on the pool: it might wait for itself. Calls of other threads wait, except those that
 * never wait. To prepare several pools, always use the same order. Handlers of pthread_atfork() may
 * call the pair.
 *
 * After zs_fork_done() the child may call every function on the pool. Objects that other threads of
 * the parent had mapped are mapped in the child as well. What other threads were allocating,
 * freeing or offering to the evict callback at that moment stays allocated in the child: a few
 * objects, and parts of the pool, for each such thread.
 *
 * For a pool that children do not get (see FORK), both functions do nothing and return 0, and the
 * child's calls fail with -EPERM as always.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EAGAIN: a lock was not free within a second. A zs_compact() without a budget may hold one that
 *     long.
 * -EBUSY: this thread has already prepared a fork of this pool.
 * -EPERM: this process is a forked child that has no copy of the pool.
 * On failure nothing has changed. A child that is forked nevertheless must not use the pool.
 *
 * Threads: any. Evict callback: allowed, but it must call zs_fork_done() before it returns.
 */
int zs_fork_prepare(struct zs_pool *pool);

/**
 * Ends what zs_fork_prepare() began, after fork(), in the parent and in the child. Allocates
 * nothing and never waits.
 *
 * Errors:
 * -EINVAL: pool is NULL, or this thread has not called zs_fork_prepare().
 *
 * Threads: the one that called zs_fork_prepare(). Evict callback: allowed, if it called
 * zs_fork_prepare().
 */
int zs_fork_done(struct zs_pool *pool);

/**
 * Sets how many bytes of memory the pool may have, its tables included. 0: as many as it was
 * created for. A limit below what it has is allowed: allocations that need memory then fail with
 * -ENOMEM until enough was freed. A limit above what it was created for is allowed too, but the
 * pool has only the addresses it reserved at creation, a quarter and 64 MiB more than it was
 * created for: when they are used up, allocations fail with -ENOMEM all the same.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_set_max_bytes(struct zs_pool *pool, uint64_t max_bytes);

/**
 * Stores in *pages how many pages of 4096 bytes the pool has from the system, its tables included.
 * Costs one load from memory; zs_pool_stats() tells more.
 *
 * Errors:
 * -EINVAL: pool or pages is NULL.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
int zs_get_total_pages(struct zs_pool *pool, uint64_t *pages);

/**
 * Fills *stats. Set its struct_size first. Fields that this library does not know become 0.
 *
 * Errors:
 * -EINVAL: pool or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; takes a few hundred short locks, one after another. Evict callback: allowed.
 */
int zs_pool_stats(struct zs_pool *pool, struct zs_pool_stats *stats);

/**
 * Stores in *fd the descriptor of the pool's memory file (ZS_BACKING_MEMFD or ZS_BACKING_HUGETLB).
 * It stays the pool's, which closes it when it is destroyed. Do not close it; duplicate it to keep
 * it.
 *
 * Errors:
 * -EINVAL: pool or fd is NULL.
 * -ENOENT: the pool is not in a memory file.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
int zs_pool_fd(struct zs_pool *pool, int *fd);

/**
 * Stores in *class_size how many bytes an object allocated with `size` really has. All of them may
 * be used.
 *
 * Errors:
 * -EINVAL: pool or class_size is NULL, or size is 0.
 * -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE, or than ZS_MAX_TAGGED_SIZE in a pool with tags.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
int zs_lookup_class_size(struct zs_pool *pool, size_t size, size_t *class_size);

/**
 * Allocates an object of `size` bytes, 1 to ZS_MAX_ALLOC_SIZE, and stores its handle in *handle.
 * The object's bytes are undefined until they are written.
 *
 * An object of 500 bytes or more takes at most 6 % more memory than it has bytes, once there are
 * many, tables included. A smaller one takes more: 1 to 64 bytes take 77, 100 take 131, 200 take
 * 222, and 256 take 269. To keep small values, pack several into one object.
 *
 * Errors, after which nothing has changed:
 * -EINVAL: pool or handle is NULL, or size is 0.
 * -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE, or than ZS_MAX_TAGGED_SIZE in a pool with tags.
 * -ENOMEM: the pool is at its limit, or the system has no memory. Free, compact or shrink, then try
 *     again.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_malloc(struct zs_pool *pool, size_t size, zs_handle_t *handle);

/**
 * Allocates an object and maps it for reading and writing. This is zs_malloc() and zs_map_object()
 * in one step, so zs_shrink() can't offer the object to the evict callback before it is written.
 * Stores the handle in *handle and returns the object's address, a multiple of 16. End the mapping
 * with zs_unmap_object().
 *
 * Returns NULL if it fails, after which nothing has changed. zs_last_errno() returns the number:
 * -EINVAL: pool or handle is NULL, or size is 0.
 * -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE, or than ZS_MAX_TAGGED_SIZE in a pool with tags.
 * -ENOMEM: the pool is at its limit, or the system has no memory. Free, compact or shrink, then try
 *     again.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
void *zs_malloc_mapped(struct zs_pool *pool, size_t size, zs_handle_t *handle);

/**
 * Allocates an object with a tag and maps it, otherwise as zs_malloc_mapped() does. The tag is 8
 * bytes of the program's, such as a pointer, an index or a hash. zs_get_tag() tells it, in the evict
 * callback too. It never changes. The pool has to be created with ZS_POOL_TAGGED, and size is
 * at most ZS_MAX_TAGGED_SIZE. In such a pool, objects that zs_malloc() and zs_malloc_mapped()
 * allocate have the tag 0.
 *
 * Returns NULL if it fails, after which nothing has changed. zs_last_errno() returns the number:
 * -EINVAL: pool or handle is NULL, size is 0, or the pool was created without ZS_POOL_TAGGED.
 * -ENOSPC: size is more than ZS_MAX_TAGGED_SIZE.
 * -ENOMEM: the pool is at its limit, or the system has no memory. Free, compact or shrink, then try
 *     again.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
void *zs_malloc_tagged(struct zs_pool *pool,
                       size_t size,
                       uint64_t tag,
                       zs_handle_t *handle);

/**
 * Stores in *tag the tag that an object was allocated with: see zs_malloc_tagged().
 *
 * Errors:
 * -EINVAL: pool or tag is NULL, the handle is 0, stale, freed, or of another pool, or the pool was
 *     created without ZS_POOL_TAGGED.
 * -EBUSY: the object is already mapped 4,095 times.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; never waits. Evict callback: allowed; in it, -EINVAL for the handle that it was
 * called with means that another thread has just freed the object. Signal handler: allowed.
 */
int zs_get_tag(struct zs_pool *pool, zs_handle_t handle, uint64_t *tag);

/**
 * Frees an object. Its handle is stale from now on. If the object is mapped, its address stays
 * readable and writable until the last zs_unmap_object(), which is still allowed and releases the
 * object.
 *
 * Errors:
 * -EINVAL: pool is NULL, or the handle is 0, stale, already freed, or of another pool.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
 */
int zs_free(struct zs_pool *pool, zs_handle_t handle);

/**
 * Maps an object: returns its address, a multiple of 16. The object stays at that address until
 * zs_unmap_object() has been called as often as this function. It may be mapped up to 4,095 times
 * at once, by any threads, in any mixture of modes, and for any time. Threads that write while
 * others read or write must agree among themselves. All of zs_lookup_class_size() bytes may be
 * used.
 *
 * mode: ZS_MM_RW, ZS_MM_RO or ZS_MM_WO. What is written through a ZS_MM_RO mapping may be lost.
 *
 * Returns NULL if it fails, after which nothing has changed. zs_last_errno() returns the number:
 * -EINVAL: pool is NULL, the mode is unknown, or the handle is 0, stale, freed, or of another pool.
 * -EBUSY: the object is already mapped 4,095 times.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. ZS_MM_RO never waits; the other modes wait only while zs_compact() copies this very
 * object.
 * Evict callback: allowed. Signal handler: allowed with ZS_MM_RO.
 */
void *zs_map_object(struct zs_pool *pool, zs_handle_t handle, uint32_t mode);

/**
 * Ends one mapping of an object. After the last one, its address is no longer valid. Any thread may
 * end a mapping. If the object was freed while mapped, the last unmap releases it.
 *
 * Errors:
 * -EINVAL: pool is NULL, the object is not mapped, or the handle is 0, stale, or of another pool.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
 */
int zs_unmap_object(struct zs_pool *pool, zs_handle_t handle);

/**
 * Copies the first `size` bytes of an object into buffer.
 *
 * Errors, after which nothing was copied:
 * -EINVAL: pool is NULL, buffer is NULL and size is not 0, size is more than the object has
 *     (zs_lookup_class_size() of the size it was allocated with), or the handle is 0, stale, freed,
 *     or of another pool.
 * -EBUSY: the object is already mapped 4,095 times.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
 */
int zs_obj_read(struct zs_pool *pool, zs_handle_t handle, void *buffer, size_t size);

/**
 * Copies `size` bytes from buffer to the beginning of an object. The bytes after them keep their
 * values. The buffer may change meanwhile: then the object gets a mixture.
 *
 * Errors, after which nothing was copied:
 * -EINVAL: pool is NULL, buffer is NULL and size is not 0, size is more than the object has
 *     (zs_lookup_class_size() of the size it was allocated with), or the handle is 0, stale, freed,
 *     or of another pool.
 * -EBUSY: the object is already mapped 4,095 times.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; waits only while zs_compact() copies this very object. Evict callback: allowed.
 */
int zs_obj_write(struct zs_pool *pool, zs_handle_t handle, const void *buffer, size_t size);

/**
 * Moves objects together and gives the memory that this empties back to the system. Stores in
 * *pages_freed how many pages of 4096 bytes the system got. Mapped objects stay where they are, and
 * no zs_map_object() with ZS_MM_RO waits. The call allocates no memory, so it works when there is
 * none left.
 *
 * budget: how much this call may do. With NULL, or with no bound in it, the call runs to the end
 *     and also gives back the empty pages that the pool would otherwise keep for reuse. When a
 *     budget runs out, the next call continues where this one stopped.
 *
 * Only one call compacts a pool at a time. A second call returns 0 at once, with 0 pages.
 *
 * Errors:
 * -EINVAL: pool or pages_freed is NULL, the budget's struct_size is wrong, or the budget sets a
 *     field that this library does not know.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_compact(struct zs_pool *pool, const struct zs_compact_budget *budget, uint64_t *pages_freed);

/**
 * Sets the callback that zs_shrink() offers objects to, and its context. With evict NULL the pool
 * has no callback. The pool never calls it on its own: when zs_malloc() fails with -ENOMEM, call
 * zs_shrink() and try again.
 *
 * The callback has to find out what it was offered. It may map the object with ZS_MM_RO and read its
 * bytes, if no other thread writes objects that are not new: put a key or an index into them. Or
 * give each object a tag (zs_malloc_tagged) and call zs_get_tag(). Either fails with -EINVAL if
 * another thread has just freed the object: then return any value.
 *
 * An object may be offered as soon as it is unmapped: also between the zs_unmap_object() that
 * follows zs_malloc_mapped() or zs_malloc_tagged() and its entry in the program's own table. If the
 * two are not one step, the callback returns -EAGAIN for a handle that the table does not have,
 * which keeps the object.
 *
 * A cache that several threads use keeps these rules:
 * - Allocate with zs_malloc_mapped() or zs_malloc_tagged(). Unmap the new object and enter it in the
 *   index under the lock of the index: from the unmapping on it may be offered.
 * - The thread that takes an entry out of the index, under the lock, frees the object.
 * - The callback looks under the lock whether the index has this very handle. If not, another
 *   thread has just taken it out and frees it, and the callback returns 0.
 * - No thread holds the lock while it calls zs_shrink(), because the callback takes it.
 *
 * Once a callback has been set, the pool records which of its parts are used when. This costs
 * zs_malloc() and zs_map_object() an occasional store.
 *
 * A zs_shrink() that is already running keeps the callback and the context it began with: keep the
 * old context alive until it has returned.
 *
 * Errors:
 * -EINVAL: pool is NULL.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Evict callback: allowed.
 */
int zs_set_evict(struct zs_pool *pool,
                 zs_evict_fn evict,
                 void *context);

/**
 * Offers objects to the evict callback, from the parts of the pool that have been unused longest,
 * until `pages` pages of 4096 bytes have become free. Stores in *reclaimed how many did. That can
 * be more than `pages`, and it can be fewer: when the callback refuses, objects are mapped, or none
 * are left. Mapped objects are not offered. The pages go back to the system at once, except where
 * the pool takes memory 2 MiB at a time: there it may reuse them, and keeps them until the whole 2
 * MiB are unused.
 *
 * A part is a group of up to 64 objects of about the same size that lie together. For each part to
 * evict, the call samples about 250 parts across the pool and takes the one unused longest among
 * those sampled by this call and earlier ones. A pool of up to 200 parts thus loses its coldest
 * part first, and a larger pool about its coldest. The cost of a call does not grow with the pool.
 *
 * Errors:
 * -EINVAL: pool or reclaimed is NULL, or the pool has no callback.
 * -EAGAIN: nothing could be evicted now.
 * -ENOENT: nothing is stored.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, several at once. Evict callback: allowed.
 */
int zs_shrink(struct zs_pool *pool, uint64_t pages, uint64_t *reclaimed);

/**
 * Creates a zswap without areas and stores it in *zswap.
 *
 * options: NULL for the defaults.
 *
 * Errors:
 * -EINVAL: zswap is NULL, or an option is wrong or contradicts another.
 * -ENOMEM: the system gives no addresses (set a smaller tuning->pool->max_bytes, or raise RLIMIT_AS),
 *     or no memory for the tables.
 * The system's own errors are returned as they are: see zs_create_pool().
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_create(const struct zswap_options *options,
                 struct zswap **zswap);

/**
 * Destroys a zswap and gives its memory back. Remove its areas first. The context of
 * zswap_set_writeback() is not used after this, and neither is that of a tier. Extents that are still
 * on tiers are removed.
 *
 * No other call on the zswap may run at the same time or come later. In a forked child that has no
 * copy of the pool, this frees what the child has of the zswap, even if areas are left.
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -EBUSY: the zswap has areas. Nothing has changed.
 *
 * Threads: one, while no other uses the zswap. Callbacks: -EBUSY in a callback of the same zswap,
 * because the page is in one of its areas.
 */
int zswap_destroy(struct zswap *zswap);

/**
 * Prepares a fork() while other threads use the zswap: waits until no call on it or on its areas is
 * running, and lets none begin before zswap_fork_done(). The thread that prepared must call
 * zswap_fork_done() after fork(), in the parent and in the child. In between it must make no other
 * call on the zswap or its areas: it would wait for itself. To prepare several zswaps, always use
 * the same order. Handlers of pthread_atfork() may call the pair.
 *
 * After zswap_fork_done() the child has a complete copy: all areas with their pages. It may call
 * every function on them. Claims (zswap_writeback_begin()) stay with the parent: in the child they
 * have ended, and their pages are kept. If the zswap has a backing file, only one of the two
 * processes may go on with it, and tiers of the program's own stay with the parent: see FORK.
 *
 * For a zswap that children do not get (see FORK), both functions do nothing and return 0, and the
 * child's calls fail with -EPERM as always.
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -EAGAIN: a call did not end within a second. It may be in a callback that takes that long, wait
 *     for a claim to end, or touch caller memory whose fault another call would have to serve.
 * -EBUSY: this thread has already prepared a fork of this zswap; or it is inside a callback, whose
 *     own call would have to end first.
 * -ENOMEM: no memory for the list of areas.
 * -EPERM: this process is a forked child that has no copy of the pool.
 * On failure nothing has changed. A child that is forked nevertheless must not use the zswap.
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
 * Adds an area of `pages` pages, with the offsets 0 to pages - 1, and stores it in *area. A swap
 * device, or the memory of a guest, would be an area. An area reserves 8 bytes of addresses per
 * page, and takes memory for them as it is used.
 *
 * options: NULL for the defaults.
 *
 * Errors:
 * -EINVAL: zswap or area is NULL, pages is 0 or more than ZSWAP_MAX_AREA_PAGES, or an option is
 *     wrong.
 * -ENOMEM: the system gives no addresses, or malloc() no memory.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_add_area(struct zswap *zswap,
                   uint64_t pages,
                   const struct zswap_area_options *options,
                   struct zswap_area **area);

/**
 * Removes an area with all its pages, including those on tiers, and frees it. It never
 * waits. No other call on the area may begin at the same time or later. Calls on the zswap may:
 * they skip the area, unless they are already working on it, as a zswap_shrink() may be; then this
 * fails with -EBUSY.
 *
 * In a forked child that has no copy of the pool, this frees what the child has of the area.
 *
 * Errors:
 * -EINVAL: area is NULL.
 * -EBUSY: a call on the area is running, or a claim of zswap_writeback_begin() has not ended.
 *     Nothing has changed.
 *
 * Threads: one, while no other uses the area. Callbacks: allowed for areas other than the one whose
 * page the callback got; -EBUSY for that one.
 */
int zswap_remove_area(struct zswap_area *area);

/**
 * Returns the context that was set in zswap_area_options.context. Returns NULL for NULL.
 *
 * Threads: any. Callbacks: allowed. Signal handler: allowed.
 */
void *zswap_area_context(struct zswap_area *area);

/**
 * Returns the number by which statistics tell areas apart. A zswap never gives the same number
 * twice. Returns 0 for NULL.
 *
 * Threads: any. Callbacks: allowed. Signal handler: allowed.
 */
uint64_t zswap_area_id(struct zswap_area *area);

/**
 * Returns the number of pages the area was added with. Returns 0 for NULL.
 *
 * Threads: any. Callbacks: allowed. Signal handler: allowed.
 */
uint64_t zswap_area_pages(struct zswap_area *area);

/**
 * Sets how many bytes of slots the stored pages of all areas may take, at least 4112, which one page
 * may take. 0: no limit but the pool's own. The pool's memory may exceed the limit somewhat: see
 * zswap_tuning.headroom_percent. A limit below what is stored is allowed: stores then fail with
 * -ENOMEM until enough pages have gone. This call writes nothing back; call zswap_shrink() for that.
 * It also forgets that the limit before was met: stores are accepted up to the new one, also if it
 * is the same.
 *
 * Errors:
 * -EINVAL: zswap is NULL, or the limit is 1 to 4111.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_set_limit(struct zswap *zswap,
                    uint64_t max_bytes);

/**
 * Sets how many bytes of slots the pages of this area may take, at least 4112, which one page may
 * take. 0: no limit of its own. A limit below what they take is allowed: stores then fail with
 * -ENOMEM until enough pages have gone. The call also forgets that the limit before was met, as
 * zswap_set_limit() does.
 *
 * Errors:
 * -EINVAL: area is NULL, or the limit is 1 to 4111.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_area_set_limit(struct zswap_area *area, uint64_t max_bytes);

/**
 * Sets the codec for pages that are stored from now on. Pages that are already stored keep their
 * codec, and are loaded as before. Only the first use of a level of ZSWAP_CODEC_ZSTD takes memory
 * from malloc().
 *
 * codec, level: one of ZSWAP_CODEC_*, and its level.
 *
 * Errors:
 * -EINVAL: zswap is NULL, or there is no such codec or level.
 * -ENOMEM: no memory for Zstandard's contexts.
 *
 * Threads: any; waits until each context has been idle for a moment. Callbacks: allowed.
 */
int zswap_set_codec(struct zswap *zswap, uint32_t codec, int level);

/**
 * Stores a page: 4096 bytes, at any address. It replaces the page that was stored at this offset.
 * The bytes are copied first, so they may change during the call; a mixture is stored then. A page
 * that repeats 4 bytes (a page of zeros, say) takes no memory of the pool, and neither does one
 * that repeats 8 bytes that form a signed 48-bit number, as addresses do.
 *
 * Errors, after which nothing is stored at this offset, not even the old page, unless the area has
 * ZSWAP_AREA_KEEP_OLD:
 * -ENOMEM: a limit was met, or the pool or the system has no memory; zs_last_limit() says which.
 *     ZSWAP_LIMIT_AREA, ZSWAP_LIMIT_ZSWAP: zswap_area_usage() says how many bytes have to go before
 *     the limit accepts pages again; one page is rarely enough. It may say 0, because another
 *     thread has just made room. Make room, in batches, and try again:
 *         while (zswap_area_usage(area, &usage) == 0 && usage.bytes_to_go > 0)
 *             if ((usage.refused_by == ZSWAP_LIMIT_AREA ? zswap_shrink_area(area, 32, &pages)
 *                                                       : zswap_shrink(zswap, 32, &pages)) != 0)
 *                 break;
 *     For the limit of an area, do not call zswap_shrink(): it gives all areas turns, and would
 *     write back pages of the others.
 *     ZSWAP_LIMIT_POOL: the pool itself is full, and usage says 0. Call zswap_compact(), remove
 *     pages or write some back before you try again: a loop that only tries again never ends.
 *     ZSWAP_LIMIT_NONE: the system has no memory.
 *     Or write the page to the place it would be written back to. Nothing in the library waits for
 *     room. To wait, make room here, or sleep on a condition variable, which the thread that writes
 *     pages back or removes them signals.
 * -ENOSPC: the page does not compress, and the area has ZSWAP_AREA_REFUSE_INCOMPRESSIBLE.
 * Errors, after which nothing has changed:
 * -EINVAL: area or page is NULL, or the offset is past the end of the area.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. A store that succeeds waits for no writeback, and neither does one that leaves the
 * old page. Any other store that fails with -ENOMEM or -ENOSPC waits as zswap_invalidate() does. In
 * a callback, or for a claim of its own thread, it does not wait.
 * Callbacks: allowed.
 */
int zswap_store(struct zswap_area *area, uint64_t offset, const void *page);

/**
 * Stores `count` consecutive pages at the offsets from `offset` on: all of them or none. A load
 * that runs meanwhile sees each page either as it was or as it will be. Room for all pages is
 * reserved before the first one is compressed.
 *
 * Errors, after which nothing is stored at these offsets, not even the old pages, unless the area
 * has ZSWAP_AREA_KEEP_OLD:
 * -ENOMEM, -ENOSPC: as for zswap_store(). -ENOMEM also if there is probably no room for all of
 *     them. Then zswap_area_usage() may say that no bytes have to go, because a single page has
 *     room: make room for as many pages as the batch has, or store fewer in one call.
 * Errors, after which nothing has changed:
 * -EINVAL: area is NULL, pages is NULL and count is not 0, count is more than ZSWAP_MAX_BATCH, the
 *     offset is past the end of the area (even if count is 0), or the range reaches past the end.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. If more threads store than there are contexts, they wait for each other; otherwise
 * as for zswap_store(). Callbacks: allowed.
 */
int zswap_store_pages(struct zswap_area *area, uint64_t offset, const void *pages, size_t count);

/**
 * Loads a page into the 4096 bytes at `page`, which may be at any address. Nothing else may use
 * these bytes during the call.
 *
 * flags: 0, or ZSWAP_LOAD_EXCLUSIVE, or that and ZSWAP_NOWAIT. With ZSWAP_LOAD_EXCLUSIVE the page
 *     leaves the area, and the bytes at `page` are the only copy: use it only if the page is to
 *     live there. When the call returns, no writeback of the page is running, so what the program
 *     then writes to the page's place on disk is not overwritten.
 *
 * Errors, after which a stored page stays stored:
 * -EINVAL: area or page is NULL, a flag is unknown, or the offset is past the end of the area.
 * -ENOENT: no page is stored at this offset.
 * -EBADMSG: the stored page is damaged. It can't be loaded, and stays until it is replaced or
 *     invalidated.
 * -EIO: the backing file can't be read; or the page's tier has lost the page, or returns damaged
 *     bytes or those of another time. The page stays until it is replaced or invalidated.
 * -EAGAIN: the page is on a tier of the program's own that is away now. The page stays: try again
 *     later. With ZSWAP_LOAD_EXCLUSIVE and ZSWAP_NOWAIT also: the page is being written back.
 * -EBUSY, with ZSWAP_LOAD_EXCLUSIVE only: the page is being written back, and this is a callback,
 *     or the claim belongs to this thread. In a tier's own function: the page is on a tier of the
 *     program's own.
 * -EPERM: this process is a forked child that has no copy of the pool.
 * After an error the bytes at `page` are unchanged, with two exceptions. With ZSWAP_LOAD_EXCLUSIVE,
 * after -ENOENT, -EBUSY and -EAGAIN, they may hold the page as it was. And when a damaged LZ4 page
 * still has a matching check, about once in 2^32 times, it is decoded into them: if the decoder
 * fails, the result is -EBADMSG and the bytes have changed.
 *
 * Threads: any. With ZSWAP_LOAD_EXCLUSIVE the call waits for a running writeback of this page;
 * without, it never waits for a writeback. A page on a tier takes as long as the tier does.
 * Callbacks: allowed.
 */
int zswap_load(struct zswap_area *area, uint64_t offset, void *page, uint32_t flags);

/**
 * Loads `count` pages, from the offsets from `offset` on, into consecutive memory at `pages`. Each
 * page is loaded as zswap_load() would, and a page that fails does not stop the others. One call is
 * faster than `count` calls.
 *
 * results: NULL, or an array of `count` numbers. Each is set to the result for its page: 0, or an
 *     error of zswap_load().
 *
 * Errors, after which nothing was loaded and results is unchanged:
 * -EINVAL: area is NULL, pages is NULL and count is not 0, a flag is unknown, the offset is past
 *     the end of the area (even if count is 0), or the range reaches past the end.
 * -EPERM: this process is a forked child that has no copy of the pool.
 * Otherwise the result is that of the first page that failed, or 0.
 *
 * Threads: any. With ZSWAP_LOAD_EXCLUSIVE the call waits for running writebacks of these pages;
 * without, it never waits for a writeback. Callbacks: allowed.
 */
int zswap_load_pages(struct zswap_area *area,
                     uint64_t offset,
                     void *pages,
                     size_t count,
                     uint32_t flags,
                     int *results);

/**
 * Loads `count` pages, each from its own offset to its own address, as `requests` says: an array of
 * `count` structs, each with an offset and a page. Otherwise it works as zswap_load_pages() does:
 * each request's result is set to 0 or an error of zswap_load(). Nothing else may change the array
 * during the call, and the pages must not overlap. An offset may occur twice; with
 * ZSWAP_LOAD_EXCLUSIVE only one of the two loads finds the page.
 *
 * Errors, after which nothing was loaded and no request's result has changed:
 * -EINVAL: area is NULL; requests or the page of one is NULL and count is not 0; a flag is unknown;
 *     or an offset is past the end of the area.
 * -EPERM: this process is a forked child that has no copy of the pool.
 * Otherwise the call returns the result of the first page that failed, or 0.
 *
 * Threads: any. With ZSWAP_LOAD_EXCLUSIVE the call waits for running writebacks of these pages;
 * without, it never waits for a writeback. Callbacks: allowed.
 */
int zswap_load_scattered(struct zswap_area *area,
                         struct zswap_load_request *requests,
                         size_t count,
                         uint32_t flags);

/**
 * Removes all pages stored at the `count` offsets from `offset` on. Offsets that hold none are
 * fine. The time grows with the number of stored pages. When the call returns 0, no writeback of
 * these pages that began earlier is running, so what the program then writes to their places on
 * disk is not overwritten, and claims of these pages have no effect.
 *
 * flags: 0, or ZSWAP_NOWAIT.
 *
 * Errors, after which nothing has changed (or, if a writeback began during the call, the pages
 * before the one being written are removed):
 * -EINVAL: area is NULL, a flag is unknown, the offset is past the end of the area (even if count
 *     is 0), or the range reaches past the end.
 * -EBUSY: a page of the range is being written back, and this is a callback, or the claim belongs
 *     to this thread.
 * -EAGAIN, with ZSWAP_NOWAIT: a page of the range is being written back.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Waits for running writebacks of pages in the range: until the callback returns or
 * the claim is ended. It need not wait for writes to tiers. Callbacks: allowed, and never waits
 * there.
 */
int zswap_invalidate(struct zswap_area *area, uint64_t offset, uint64_t count, uint32_t flags);

/**
 * Finds the first offset from `from` on that holds a page, in the pool or on a tier, and stores it in
 * *offset. Empty offsets cost next to nothing.
 *
 * Errors:
 * -EINVAL: area or offset is NULL.
 * -ENOENT: no page is stored from there on.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_next_stored(struct zswap_area *area,
                      uint64_t from,
                      uint64_t *offset);

/**
 * Sets the callback that zswap_shrink(), zswap_shrink_area(), zswap_shrink_by() and
 * zswap_shrink_area_by() write pages back with, and its context. With writeback NULL there is none.
 * Replaces a backing file and all other tiers.
 *
 * A shrink that is already running keeps the callback and the context it began with: keep the old
 * context alive until it has returned.
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -EBUSY: pages are on a tier or are being written to it, or another call uses one. Also in a tier's
 *     own function.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_set_writeback(struct zswap *zswap,
                        zswap_writeback_fn writeback,
                        void *context);

/**
 * Lets the library write pages back itself, to the first `bytes` bytes of a regular file or block
 * device. These bytes belong to the library from then on. Replaces a callback, and all tiers: the
 * file is the only tier then, with the number 0. zswap_add_file_tier() adds a file beside other tiers.
 *
 * Pages are written as the pool has them, compressed, up to 64 in one write, to the lowest free
 * blocks of 4096 bytes. Pages on the file are loaded, replaced and removed like all others. A page
 * stays on the file until it is replaced or removed; loading it does not remove it. As pages go,
 * shrinks and zswap_compact() move the others together, and punch out free blocks of more than a
 * MiB: zswap_stats.file_bytes stays below 1.3 times file_page_bytes and a MiB, if pages are written.
 * 132 KiB of a file of more than a MiB are set aside for that.
 * The contents of the file mean nothing without this zswap, and are not kept from run to run.
 *
 * The page cache stays as it is: the library opens the file once more, with O_DIRECT, by its name
 * in /proc. Where that fails, the system is asked to drop what was read and written
 * (RWF_DONTCACHE, Linux 6.14), or else the page cache has the file's pages too.
 * A write past RLIMIT_FSIZE raises SIGXFSZ, as any write would, and that ends a
 * program that does not ignore it.
 *
 * fd: a descriptor opened with O_RDWR and without O_APPEND, which must not be set later either:
 *     every page would be written to the wrong place. The library duplicates it: the caller may
 *     close fd, but must not close the duplicate, as closefrom() would. Before each write the
 *     library checks that the duplicate still refers to this file, and writes nothing if it does
 *     not. -1 with bytes 0: no file and no other tier any more.
 *
 * Errors:
 * -EINVAL: zswap is NULL; fd is not a descriptor, is opened in another way, or is neither a regular
 *     file nor a block device; or bytes is less than 4096 or more than 16 TiB, or is not 0 with fd
 *     -1. Whether the file can be written shows when a shrink tries it.
 * -EBUSY: pages are on the file that was set before or on another tier, or are being written to it,
 *     or another call uses one. zswap_remove_tier() moves pages away. Also in a tier's own function.
 * -EMFILE: the process may have no more descriptors.
 * -ENOMEM: no memory for the file's tables. A page on the file takes 3 bytes of them if extents are
 *     full.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_set_backing_file(struct zswap *zswap,
                           int fd,
                           uint64_t bytes);

/**
 * Writes back pages that were not used lately, from all areas in turn, until `pages` pages have
 * left the pool. Stores in *written how many did, which may be fewer. Pages of areas with
 * ZSWAP_AREA_NO_WRITEBACK, and pages that repeat one word, are left alone. The pool reuses the
 * memory that becomes free; zswap_compact() gives it to the system.
 *
 * Storing and loading mark a page as used. When a shrink passes a marked page it clears the mark;
 * when it passes it again, it writes the page back.
 *
 * Errors:
 * -EINVAL: zswap or written is NULL, or there is neither a callback nor a backing file or another
 *     tier.
 * -EAGAIN: no page could go now: the callback refused, tiers are full or away, or pages are in use.
 * -EBUSY: this is a tier's own function.
 * -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
 *     Nothing was written.
 * -ENOENT: no page is in the pool.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
 * Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_shrink(struct zswap *zswap, uint64_t pages, uint64_t *written);

/**
 * Writes back pages of one area that were not used lately, as zswap_shrink() does for all areas.
 * Stores in *written how many left the pool.
 *
 * Errors:
 * -EINVAL: area or written is NULL, there is neither a callback nor a backing file or another tier,
 *     or the area has ZSWAP_AREA_NO_WRITEBACK.
 * -EAGAIN: no page of the area could go now: the callback refused, tiers are full or away, or pages
 *     are in use.
 * -EBUSY: this is a tier's own function.
 * -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
 *     Nothing was written.
 * -ENOENT: no page of the area is in the pool.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
 * Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_shrink_area(struct zswap_area *area, uint64_t pages, uint64_t *written);

/**
 * Stores in *pages how many pages of all areas are worth writing back under memory pressure: the
 * sum over zswap_area_reclaimable_pages(), with the same side effect on each area.
 *
 * Errors:
 * -EINVAL: zswap or pages is NULL.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_reclaimable_pages(struct zswap *zswap, uint64_t *pages);

/**
 * Estimates how many pages of the area are worth writing back under memory pressure, and stores
 * that in *pages. The estimate is the number of pages in the pool, less one for each page that
 * recently had to come back from where it was written to, scaled by how small the pages are:
 * writing back a page that takes a quarter of its size frees only a quarter. A program under memory
 * pressure asks for this number and shrinks by a part of it. Each call forgets the returned pages
 * that it has subtracted, so that they count once.
 *
 * Errors:
 * -EINVAL: area or pages is NULL.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_area_reclaimable_pages(struct zswap_area *area, uint64_t *pages);

/**
 * Notes that `pages` pages of the area that had been written back were read again by the program.
 * zswap_area_reclaimable_pages() returns less for a while. Pages on tiers are noted automatically.
 *
 * Errors:
 * -EINVAL: area is NULL.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_area_refaulted(struct zswap_area *area, uint64_t pages);

/**
 * Claims up to `max` pages that were not used lately, of all areas without ZSWAP_AREA_NO_WRITEBACK,
 * and copies them to consecutive memory at `pages`. An area that has met its own limit comes first;
 * otherwise the areas take turns. Stores the number of claims in *count, which may be less than max.
 * The program writes each page to where it keeps pages, at any time and in any thread, by
 * asynchronous I/O for example, and then ends its claim with zswap_writeback_end(). The section
 * WRITEBACK has the rules by which no page is lost; examples/writeback.c is a whole program. Needs
 * neither a callback nor a tier.
 *
 * A program that makes room for one area (zswap_area_usage()), or keeps it below its own limit
 * before that is met, calls zswap_writeback_begin_area(): once the areas that have met their
 * limits are served, this call goes on with pages of the others.
 *
 * *count is 0 if no page can be claimed now: none is in the pool, or those that are have claims
 * already. Do not call again at once; wait until pages were stored or claims have ended. Storing
 * and loading mark a page as used. A call that passes a marked page clears the mark, and goes round
 * each area twice if it has to: so pages that were just stored are claimed too, if there are no
 * others.
 *
 * Until its claim ends, a page stays stored, can be loaded and replaced, and is not written back a
 * second time. A zswap_invalidate() of the page waits, and its area can't be removed. Each page is
 * copied to `pages` before it is claimed: if that memory is missing, under a userfaultfd for
 * example, the thread that brings it in may invalidate any page except those that this call has
 * already claimed.
 *
 * claims, pages: room for `max` claims, and for `max` times 4096 bytes, at any address. Beyond
 *     *count their contents are undefined.
 *
 * Errors, after which no page is claimed:
 * -EINVAL: zswap or count is NULL, or claims or pages is NULL and max is not 0.
 * -EBUSY: as many claims are held as zswap_tuning.max_claims allows: end some.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, several at once. Callbacks: allowed.
 */
int zswap_writeback_begin(struct zswap *zswap,
                          size_t max,
                          struct zswap_claim *claims,
                          void *pages,
                          size_t *count);

/**
 * Claims up to `max` pages of one area that were not used lately, as zswap_writeback_begin() does
 * for all areas.
 *
 * Errors, after which no page is claimed:
 * -EINVAL: area or count is NULL, claims or pages is NULL and max is not 0, or the area has
 *     ZSWAP_AREA_NO_WRITEBACK.
 * -EBUSY: as many claims are held as zswap_tuning.max_claims allows: end some.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, several at once. Callbacks: allowed.
 */
int zswap_writeback_begin_area(struct zswap_area *area,
                               size_t max,
                               struct zswap_claim *claims,
                               void *pages,
                               size_t *count);

/**
 * Ends a claim of zswap_writeback_begin() or zswap_writeback_begin_area(), whose area must still
 * exist. A claim that is never ended keeps its page in the pool and its area from being removed,
 * and threads that wait for it wait for ever.
 *
 * result: the outcome, as a writeback callback returns it. 0: the page is written, and leaves the
 *     pool unless it was loaded, replaced or removed meanwhile. Set the program's mark that the page
 *     is on disk before this call. Any error number: the page stays, and the cause is counted.
 * gone: NULL, or set to 1 if this call removed the page from the pool and to 0 if it did not.
 *     Either way, touch neither the mark nor the page's place on disk from now on: they belong to
 *     the thread that acts on the page next, such as one whose zswap_invalidate() waited for this
 *     claim. 0 does not mean that the place is free. See WRITEBACK.
 *
 * Errors:
 * -EINVAL: claim or its area is NULL, or the claim has already ended or is another area's.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, not only the one that began the claim. Callbacks: allowed.
 */
int zswap_writeback_end(const struct zswap_claim *claim,
                        int result,
                        int *gone);

/**
 * Adds a tier of the program's own behind the tiers that there are: another machine, a device, a
 * service. Stores its number in *tier, the lowest that no other tier has. Replaces a callback of
 * zswap_set_writeback(). The section TIERS has the rules.
 *
 * ops: the tier's functions. The struct is copied. All but room() must be there.
 * context: the first argument of all of them. It must live until zswap_remove_tier() of this tier
 *     or zswap_destroy() has returned 0, or zswap_set_backing_file() or zswap_set_writeback() has
 *     replaced all tiers.
 * options: NULL for the defaults.
 *
 * Errors:
 * -EINVAL: zswap, ops or tier is NULL, a function is missing, or an option is wrong.
 * -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
 * -ENOMEM: no memory or no addresses for the tier's tables, or the tiers together have more extents
 *     than the library can name: set a smaller max_bytes.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_add_tier(struct zswap *zswap,
                   const struct zswap_tier_ops *ops,
                   void *context,
                   const struct zswap_tier_options *options,
                   uint32_t *tier);

/**
 * Adds the first `bytes` bytes of a regular file or block device as a tier, behind the tiers that
 * there are. Stores its number in *tier. What zswap_set_backing_file() says of its file holds for
 * this one. Replaces a callback of zswap_set_writeback().
 *
 * name: a name for people, in UTF-8, at most 249 bytes, which zswap_stats_json() shows. The library
 *     copies it. "" for none.
 * fd: see zswap_set_backing_file().
 *
 * Errors:
 * -EINVAL: zswap, name or tier is NULL, the name is wrong, or fd or bytes is, as for
 *     zswap_set_backing_file().
 * -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
 * -EMFILE: the process may have no more descriptors.
 * -ENOMEM: as for zswap_add_tier().
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_add_file_tier(struct zswap *zswap,
                        const char *name,
                        int fd,
                        uint64_t bytes,
                        uint32_t *tier);

/**
 * Removes a tier. The pages that are on it move to the other tiers first, as far as these have room
 * and the pages' areas may use them. After 0 no function of the tier runs, and none is called again.
 * Extents that it could not remove because it was away are left to it.
 *
 * Errors:
 * -EINVAL: zswap is NULL.
 * -ENOENT: there is no tier of this number.
 * -EBUSY: pages are left on the tier, or calls go on using it. It stays, and so do these pages:
 *     invalidate or load them, or make room on other tiers, and call again. Also in a tier's own
 *     function.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; takes as long as the pages need. Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_remove_tier(struct zswap *zswap,
                      uint32_t tier);

/**
 * Fills *stats with the statistics of a tier. Set its struct_size first. Fields that this library
 * does not know become 0.
 *
 * Errors:
 * -EINVAL: zswap or stats is NULL, or struct_size is wrong.
 * -ENOENT: there is no tier of this number.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_tier_stats(struct zswap *zswap, uint32_t tier, struct zswap_tier_stats *stats);

/**
 * Stores in *nanoseconds how long loads of pages waited for a tier: a time that `permille` of 1000
 * did not exceed, as zspager_latency_permille() does for touches. Pages that were read ahead count
 * as well. 0 if no page was loaded.
 *
 * Errors:
 * -EINVAL: zswap or nanoseconds is NULL, or permille is more than 1000.
 * -ENOENT: there is no tier of this number.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_tier_latency_permille(struct zswap *zswap,
                                uint32_t tier,
                                uint32_t permille,
                                uint64_t *nanoseconds);

/**
 * Sets which tiers the area's pages may go to from now on, as zswap_area_options.tiers does: bit N
 * stands for the tier with the number N. 0: all. Pages that are on other tiers stay there until they
 * are moved, and are loaded from there.
 *
 * Errors:
 * -EINVAL: area is NULL, or a bit of ZSWAP_MAX_TIERS or above is set.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_area_set_tiers(struct zswap_area *area,
                         uint32_t tiers);

/**
 * Writes back the pages that the options choose, from all areas in turn, as zswap_shrink() does,
 * until as much has left the pool as the options allow. Fills *shrunk with what did, which may be
 * less. Set its struct_size first.
 *
 * max_bytes is never exceeded. The first page that would exceed it ends the turn of its area,
 * unless no page has gone yet: then it is passed by, and a smaller one may go.
 *
 * options: NULL for the defaults, which write back all pages that can go.
 *
 * Errors:
 * -EINVAL: zswap or shrunk is NULL, a struct_size is wrong, min_age is more than ZSWAP_MAX_AGE, a
 *     flag is unknown, or there is neither a callback nor a backing file or another tier.
 * -EBUSY: this is a function of a tier.
 * -EAGAIN: no page could go now: none is old enough, none is as small as max_bytes, the callback
 *     refused, no tier has room or can be reached, or pages are in use.
 * -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
 *     Nothing was written.
 * -ENOENT: no page is in the pool.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
 * Callbacks: allowed.
 */
int zswap_shrink_by(struct zswap *zswap,
                    const struct zswap_shrink_options *options,
                    struct zswap_shrunk *shrunk);

/**
 * Writes back the pages of one area that the options choose, as zswap_shrink_by() does for all
 * areas. Fills *shrunk with what left the pool. Set its struct_size first.
 *
 * options: NULL for the defaults, which write back all pages that can go.
 *
 * Errors:
 * -EINVAL: area or shrunk is NULL, a struct_size is wrong, min_age is more than ZSWAP_MAX_AGE, a
 *     flag is unknown, there is neither a callback nor a backing file or another tier, or the area
 *     has ZSWAP_AREA_NO_WRITEBACK.
 * -EBUSY: this is a function of a tier.
 * -EAGAIN: no page of the area could go now: none is old enough, none is as small as max_bytes,
 *     the callback refused, no tier has room or can be reached, or pages are in use.
 * -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
 *     Nothing was written.
 * -ENOENT: no page of the area is in the pool.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
 * Callbacks: allowed.
 */
int zswap_shrink_area_by(struct zswap_area *area,
                         const struct zswap_shrink_options *options,
                         struct zswap_shrunk *shrunk);

/**
 * Lets time pass for the pages of the area that are in the pool. A page that was stored or loaded
 * since the last call has age 0 from then on; the others become older by one, up to ZSWAP_MAX_AGE.
 * zswap_shrink_options.min_age says which ages a shrink takes. Pages that are being written back
 * stay as they are, and an area for which this is never called has pages of age 0 alone.
 *
 * The library has no clock of its own: call this at an interval that suits the program, such as a
 * minute. A page that was not used has age 3 after four calls: the first one takes back the mark that
 * the store has left. As a shrink does when it passes, a call clears the mark of a page that was used:
 * zswap_shrink() takes that page without another chance.
 *
 * Errors:
 * -EINVAL: area is NULL.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; takes no lock, and time in proportion to the pages that are stored. Callbacks:
 * allowed.
 */
int zswap_age(struct zswap_area *area);

/**
 * Moves stored pages together and gives the memory that this empties back to the system, as
 * zs_compact() does for a pool. Also gives back the parts of the areas' indexes that hold no page,
 * and the end of the pool's table of handles, which it empties first: each page that gets another
 * handle for that counts as 64 bytes in the budget. Stores in *pages_freed how many pages of 4096
 * bytes the pool gave back. A store that finds the pool full does a little compaction itself.
 *
 * As far as the budget lasts, it then moves what is left of mostly dead extents on tiers together, and
 * removes extents whose last page has gone.
 *
 * budget: how much the call may move; see zs_compact().
 *
 * Errors:
 * -EINVAL: zswap or pages_freed is NULL, the budget's struct_size is wrong, or the budget sets a
 *     field that this library does not know.
 * -EBUSY: this is a tier's own function.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
 */
int zswap_compact(struct zswap *zswap,
                  const struct zs_compact_budget *budget,
                  uint64_t *pages_freed);

/**
 * Compresses cold pages again with another codec. Looks at up to `pages` pages of the area that are
 * in the pool, from where the last call ended, and at most once around the area. A page that was
 * not used since the last look is compressed again, and replaced if that takes a smaller slot. A
 * page that gains nothing is marked and not tried again. Stores in *recompressed how many became
 * smaller.
 *
 * codec, level: one of ZSWAP_CODEC_*, normally ZSWAP_CODEC_ZSTD, and its level.
 *
 * Errors:
 * -EINVAL: area or recompressed is NULL, or there is no such codec or level.
 * -ENOMEM: no memory for the codec's contexts.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; takes as long as its work. Callbacks: allowed.
 */
int zswap_recompress(struct zswap_area *area,
                     uint64_t pages,
                     uint32_t codec,
                     int level,
                     uint64_t *recompressed);

/**
 * Fills *stats. Set its struct_size first. Fields that this library does not know become 0.
 *
 * Errors:
 * -EINVAL: zswap or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; holds up the counters of all areas for a moment. Callbacks: allowed.
 */
int zswap_stats(struct zswap *zswap, struct zswap_stats *stats);

/**
 * Fills *usage with how full the zswap is. Set its struct_size first. Costs a few loads from memory,
 * and stops no other thread, so it may be called before each store.
 *
 * Errors:
 * -EINVAL: zswap or usage is NULL, or struct_size is wrong.
 *
 * Threads: any; never waits. Callbacks: allowed. Signal handler: allowed.
 */
int zswap_usage(struct zswap *zswap,
                struct zswap_usage *usage);

/**
 * Fills *usage with how full the area is, and whether its own limit or the zswap's refuses its
 * stores now. used_bytes and max_bytes are the area's. bytes_to_go is of the limit that refused_by
 * names: with ZSWAP_LIMIT_ZSWAP so many bytes have to go from the areas together, from any of them.
 * max_bytes is UINT64_MAX if the area has no limit of its own. If both limits refuse, refused_by is
 * ZSWAP_LIMIT_ZSWAP, which a store meets first. So ask again once that many bytes have gone.
 *
 * Set its struct_size first. Costs a few loads from memory, and stops no other thread, so it may be
 * called before each store.
 *
 * Errors:
 * -EINVAL: area or usage is NULL, or struct_size is wrong.
 *
 * Threads: any; never waits. Callbacks: allowed. Signal handler: allowed.
 */
int zswap_area_usage(struct zswap_area *area, struct zswap_usage *usage);

/**
 * Fills *stats with the statistics of one area. Set its struct_size first. Fields that this library
 * does not know become 0.
 *
 * Errors:
 * -EINVAL: area or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any; holds up the counters of the area for a moment. Callbacks: allowed.
 */
int zswap_area_stats(struct zswap_area *area, struct zswap_area_stats *stats);

/**
 * Fills *stats with the statistics of the zswap's pool, as zs_pool_stats() does for a pool.
 *
 * Errors:
 * -EINVAL: zswap or stats is NULL, or struct_size is wrong.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any. Callbacks: allowed.
 */
int zswap_pool_stats(struct zswap *zswap, struct zs_pool_stats *stats);

/**
 * Writes the statistics of the zswap and of all its areas, taken at one moment, and those of its
 * tiers to `buffer` as JSON that ends with a NUL. Stores its length in bytes, without the NUL, in
 * *length.
 *
 * The JSON is an object with five members. "version" is a number that changes when a member changes
 * its meaning. "name" is the zswap's name. "zswap" is an object, and "areas" and "tiers" are arrays of
 * objects. Their members are the fields of struct zswap_stats, struct zswap_area_stats and struct
 * zswap_tier_stats, without struct_size; "counts" is an object. "max_bytes" is null where the field
 * is UINT64_MAX. Each area and each tier also has its "name". The tiers are in the order in which
 * pages are written to them; "is_file" is true or false, and "load_latencies" has the member
 * "buckets", as that of zspager_stats_json() has for touches. Later versions may add members.
 *
 * This version needs at most 4 KiB, and 4 KiB more for each area, and 8 KiB for each tier.
 *
 * Errors:
 * -EINVAL: zswap or length is NULL, or buffer is NULL and size is not 0.
 * -ENOSPC: the text does not fit into `size` bytes, as it never does with size 0. *length is set
 *     all the same, and buffer holds an empty string. Call again with somewhat more than *length +
 *     1 bytes, because figures grow.
 * -EPERM: this process is a forked child that has no copy of the pool.
 *
 * Threads: any, one at a time: other calls for statistics of this zswap, and zswap_compact(), wait.
 * So a thread that brings in a missing page of `buffer`, under a userfaultfd for example, must call
 * neither. Holds up the counters of all areas for a moment. Callbacks: allowed.
 */
int zswap_stats_json(struct zswap *zswap,
                     char *buffer,
                     size_t size,
                     size_t *length);

/**
 * Returns an English sentence for a result of any function, by its number alone: for tables and logs
 * of numbers. zs_last_error() says what was wrong with the call that failed. `result` may be the
 * result as it was returned or its positive number; 0 is success. Never NULL. The string is
 * constant: do not free it.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
const char *zs_strerror(int result);

/**
 * Returns an English sentence that says why the last call that failed in this thread did so: the
 * function, what was wrong, what to do, and the error number, the system's own where the system
 * refused. "no call has failed in this thread" before the first one. Never NULL. A call that
 * succeeds changes nothing: ask after a failure only. A result of a page that
 * zswap_load_pages() stores in an array is no failure of a call; the call's own result is.
 *
 * The string belongs to the thread. It stays as it is until another call fails in this thread, in
 * its signal handlers too, or the thread ends. Copy it to keep it, and do not free it.
 *
 * Threads: any; allocates nothing and never waits. Callbacks: allowed. Signal handler: allowed.
 * (If the library was loaded by dlopen(), the first call of a thread that fails, or this one, may
 * allocate the thread's variables inside the C library. Call this function once in each thread
 * whose handlers call others.)
 */
const char *zs_last_error(void);

/**
 * Returns the error number of the last call that failed in this thread, negative as functions
 * return it: for functions that return a pointer, such as zs_map_object(). 0 if no call has failed.
 *
 * Threads: any; never waits. Callbacks: allowed. Signal handler: allowed, as zs_last_error().
 */
int zs_last_errno(void);

/**
 * Returns which limit refused the last call that failed in this thread: one of ZSWAP_LIMIT_*.
 * ZSWAP_LIMIT_AREA and ZSWAP_LIMIT_ZSWAP: zswap_area_usage() says how many bytes have to go; if it
 * says 0, another thread has made room, and the call may succeed now. ZSWAP_LIMIT_POOL: the pool has
 * no room; zswap_area_usage() does not know of that. ZSWAP_LIMIT_NONE: another failure, such as a
 * system that has no memory; or no call has failed.
 *
 * After a function of a pager, ZSWAP_LIMIT_ZSWAP means that compressed pages can't be stored: raise
 * the limit by zspager_set_pool_limit(), or set a backing file.
 *
 * Threads: any; never waits. Callbacks: allowed. Signal handler: allowed, as zs_last_error().
 */
uint32_t zs_last_limit(void);

#if defined(ZSALLOC_UFFD)
/**
 * Creates a pager without regions and stores it in *pager. With ZSPAGER_FAULT_SIGBUS, the first
 * pager of a process installs a SIGBUS handler that stays: see PAGER.
 *
 * name: for people, in UTF-8, at most 249 bytes.
 * options: NULL for the defaults, which set no limit.
 *
 * Errors:
 * -EINVAL: name or pager is NULL, the name is too long or not UTF-8, or an option is wrong.
 * -EPERM: the process may not use userfaultfd. ZSPAGER_FAULT_THREADS needs more rights than
 *     ZSPAGER_FAULT_SIGBUS.
 * -ENOSYS: the system has no userfaultfd, or the dynamic linker can't keep the library loaded, and
 *     its SIGBUS handler would vanish with it.
 * -ENOMEM: the system gives no addresses, or no memory for the tables; or the process already has
 *     64 pagers with ZSPAGER_FAULT_SIGBUS.
 * The system's own errors are returned as they are: see zs_create_pool().
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_create(const char *name, const struct zspager_options *options, struct zspager **pager);

/**
 * Brings all pages of all regions back to memory, whatever the limit, and destroys the pager.
 * Afterwards the memory is as if there had been no pager.
 *
 * No other call on the pager may run at the same time or come later. In a forked child this closes
 * the child's duplicates of the pager's descriptors and frees its copies of the tables, except
 * about 200 KiB that the SIGBUS handler looks at. It has no effect on the parent.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -EBUSY: threads are lent to the pager. Call zspager_stop(), and wait until they have returned
 *     from zspager_run(). Nothing has changed.
 * -EAGAIN: the system refused to bring a page back, or a page can't be read from the backing file.
 *     The pager still exists, without the regions that were already removed.
 * -EBADMSG: a page's copy is damaged. That page is lost; everything else was done.
 *
 * Threads: one, while no other uses the pager; others may use its regions meanwhile. Callbacks: not
 * allowed.
 */
int zspager_destroy(struct zspager *pager);

/**
 * Lends the calling thread to the pager until zspager_stop() is called. A lent thread must not
 * touch memory of a region. It runs no signal handlers, except for faults of its own, and is not
 * cancelled before it has returned.
 *
 * With ZSPAGER_RUN_ALL or ZSPAGER_RUN_SERVE, the thread reads what the program does with the memory
 * of regions (munmap(), mremap(), madvise()); the program waits for that. With
 * ZSPAGER_FAULT_THREADS it also brings pages back. Keep at least one such thread as long as there
 * are regions: with ZSPAGER_FAULT_THREADS, without one, a thread that touches a page that is not in
 * memory sleeps until there is one. With ZSPAGER_RUN_EVICT, the thread evicts ahead; one is enough.
 * With ZSPAGER_RUN_TIERS, it calls tiers for touches that are served in a signal handler, and
 * writes to them: zspager_add_tier() needs it. ZSPAGER_RUN_ALL does all of this.
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
 * Makes all lent threads return, and threads that are lent later return at once, until
 * zspager_resume(). Does not wait for them. Every thread that is lent now returns, even if
 * zspager_resume() is called before it has.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_stop(struct zspager *pager);

/**
 * Allows threads to be lent again after zspager_stop(). A thread that calls zspager_run() while
 * both are being called may stay: wait for your threads to return before you resume.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_resume(struct zspager *pager);

/**
 * Stores the userfaultfd of the regions in *fd, so that the program can recognise it in
 * /proc/self/fdinfo, or have another process keep it open. It stays the pager's: do not read or
 * close it.
 *
 * A pager has other descriptors as well: DESCRIPTORS lists them. A program that closes descriptors
 * it does not know must do so before it creates pagers, or in a forked child: without the
 * userfaultfd, pages that are not in memory read as zeros.
 *
 * Errors:
 * -EINVAL: pager or fd is NULL.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_descriptor(struct zspager *pager, int *fd);

/**
 * Adds a region of `bytes` bytes at `memory`, which may already be in use, and stores its number in
 * *region. The number is never 0. Huge pages are turned off for the range, and forked children do
 * not get it.
 *
 * Pages that are already in memory are charged as they are found, 2 MiB at a time, and the excess
 * over the limit is evicted before the next 2 MiB are looked at. So the pager is at most 2 MiB
 * above its limit during the call, and not above it afterwards, unless pages can't leave, as when
 * the pool is full: those stay in memory above the limit, and leave when they can.
 *
 * memory, bytes: memory that the program has from mmap(), for nothing but the region, or use
 *     zspager_map(). Never memory of malloc(). Whole pages of 4096 bytes, mapped readable and
 *     writable. The mapping must not grow, neither by mremap() nor on its own (MAP_GROWSDOWN):
 *     nothing would serve the new part.
 *     Memory that the pager needs to bring a page back can't be in a region, because the thread
 *     that brings the page back would wait for itself. That is memory that malloc() uses or
 *     returned, stacks in use, and memory of the pager and its pool. The call refuses the heap
 *     (brk), mappings with MAP_GROWSDOWN (the main thread's stack among them), the calling thread's
 *     stack, and most of the pager's own memory. It can't tell these from other mappings, and
 *     accepts them: a malloc() of more than some 128 KiB, for which glibc calls mmap(); malloc()'s
 *     arenas of other threads; other threads' stacks. The process may then hang: in a touch, or in
 *     free() of the large malloc(), whose munmap() waits for a lent thread to read of it.
 * options: NULL for the defaults: private anonymous memory.
 *
 * While the region exists, do not use fallocate() or ftruncate() on the part of a memory file that
 * is in it: pages that are not in memory would come back with their old bytes. See
 * zspager_region_options.shared_fd. To give memory back, call zspager_discard().
 *
 * Errors:
 * -EINVAL: a pointer other than options is NULL; an option is wrong; the range is not whole pages,
 *     or part of it is in a region already; it is not completely mapped, readable and writable, or
 *     not private and anonymous; it is in the heap or in a mapping that grows, or contains the
 *     caller's stack or memory of the pager. With ZSPAGER_REGION_SHARED: the range is not a shared
 *     mapping of that file from that offset, or the file is not a memory file with 4096-byte pages,
 *     is not open for reading and writing, is sealed against writes, or is too short.
 * -EBADF: with ZSPAGER_REGION_SHARED, shared_fd is not an open descriptor.
 * -EBUSY: part of the range is under another userfaultfd, such as another pager's.
 * -ENOMEM: there are as many regions, or parts of regions left by munmap() and mremap(), as
 *     zspager_tuning.max_regions allows; or there is no memory for the region's tables, or the
 *     process has as many mappings as vm.max_map_count allows.
 * -EPERM: this process is a forked child.
 * The system's other errors are returned as they are.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_add_region(struct zspager *pager,
                       void *memory,
                       size_t bytes,
                       const struct zspager_region_options *options,
                       uint64_t *region);

/**
 * Maps memory for at least `bytes` bytes and adds it as a region in one step. Returns its address, a
 * multiple of 4096. The memory is private to this process and all zeros. It takes addresses for
 * whole pages at once, and memory as it is touched. Most programs need no other memory in regions.
 *
 * options: NULL for the defaults. ZSPAGER_REGION_SHARED is not allowed.
 * region: NULL, or where to store the region's number. zspager_unmap() needs no number.
 *
 * End it with zspager_unmap(). After zspager_remove_region() or zspager_destroy() the memory stays
 * mapped, with its bytes: then munmap() is allowed too.
 *
 * Returns NULL if it fails, after which nothing is mapped. zs_last_errno() returns the number:
 * -EINVAL: pager is NULL, bytes is 0, or an option is wrong.
 * -ENOMEM: the system gives no addresses or memory; there are as many regions as
 *     zspager_tuning.max_regions allows; or the process has as many mappings as vm.max_map_count
 *     allows.
 * -EPERM: this process is a forked child.
 * The system's other errors are returned as they are.
 *
 * Threads: any. Callbacks: not allowed.
 */
void *zspager_map(struct zspager *pager,
                  size_t bytes,
                  const struct zspager_region_options *options,
                  uint64_t *region);

/**
 * Removes a region that zspager_map() mapped, and unmaps its memory, whose bytes are lost. No page
 * is brought back for that. Nothing may touch the memory during the call or after it.
 *
 * region: the number that zspager_map() stored, or 0: the region that `memory` is in. With the
 *     number, a second call is always refused. With 0, a second call unmaps whatever zspager_map()
 *     has mapped at that address since the first, as a second munmap() would.
 * memory, bytes: what zspager_map() returned, and got. If a part of the memory was unmapped or
 *     moved before, call zspager_remove_region() with ZSPAGER_DISCARD instead, and then munmap()
 *     for each part that is left.
 *
 * Errors, after which nothing was unmapped:
 * -EINVAL: pager or memory is NULL, or the range is not all of the region's memory.
 * -ENOENT: there is no such region: it was removed before; or, with 0, `memory` is in no region.
 * -EAGAIN: the system refused. The region still exists.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_unmap(struct zspager *pager, uint64_t region, void *memory, size_t bytes);

/**
 * Removes a region: its memory belongs to the program alone from then on. The pager does not use
 * the region's number again, so a second removal is refused whatever was added since. Forked
 * children get the memory again, whatever the program advised before. Huge pages stay turned off
 * for it until the program requests them with madvise().
 *
 * flags: 0: all pages are brought back to memory, whatever the limit. ZSPAGER_DISCARD: pages that
 *     are not in memory are lost, and read as zeros.
 *
 * Errors:
 * -EINVAL: pager is NULL, or a flag is unknown.
 * -ENOENT: there is no such region: it was removed before or never added.
 * -EBADMSG: a page's copy is damaged. The region is removed nevertheless, and touching that page fails.
 * -EAGAIN: the system refused, or a page can't be read from the backing file. The region still
 *     exists.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_remove_region(struct zspager *pager,
                          uint64_t region,
                          uint32_t flags);

/**
 * Brings the pages of a range to memory and keeps them there until zspager_release(). Use it around
 * system calls that read or write memory of regions: with ZSPAGER_FAULT_SIGBUS they fail with
 * EFAULT when a page is not in memory. Holds of a page are counted. Every page that the range
 * overlaps is held whole; 0 bytes overlap none.
 *
 * Errors:
 * -EINVAL: pager is NULL, or part of the range is in no region.
 * -ENOMEM: more than zspager_tuning.max_held_bytes would be held, or a page of the range is
 *     already held 33 million times.
 * -EBADMSG: a page's copy is damaged.
 * -EIO: a page can't be read from the backing file.
 * -EAGAIN: the system refused for a second to put a page in place; it may be out of memory.
 * -EPERM: this process is a forked child.
 * On failure no page is held that was not held before.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_hold(struct zspager *pager, const void *memory, size_t bytes);

/**
 * Ends a hold of the same range.
 *
 * Errors:
 * -EINVAL: pager is NULL, or part of the range is in no region; it may have been unmapped since it
 *     was held. The other parts are released.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_release(struct zspager *pager, const void *memory, size_t bytes);

/**
 * Gives the pages of a range back: they read as zeros and take no memory. Pages that are held, or
 * pinned by the system, stay in memory and are zeroed. Unlike madvise() it needs no lent thread,
 * and it is the only way with ZSPAGER_EVICT_IN_PLACE and before Linux 6.8. 0 bytes are no pages.
 *
 * Errors:
 * -EINVAL: pager is NULL, the range is not whole pages, or part of it is in no region.
 * -EAGAIN: memory of the range kept being moved or unmapped. Part of it may have been given back.
 * -EPERM: this process is a forked child.
 * The system's other errors are returned as they are.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_discard(struct zspager *pager, void *memory, size_t bytes);

/**
 * Sets how many bytes of regions and staging range may be in memory, and evicts the excess before
 * it returns. At least 64 KiB. 0: no limit.
 *
 * Errors:
 * -EINVAL: pager is NULL, or bytes is less than 64 KiB but not 0: the limit is as it was.
 * -ENOMEM: the pool is full, and nothing can be written back. The limit is in force, and the excess
 *     leaves as soon as it can.
 * -EAGAIN: too much is held, or pinned by the system. The limit is in force, and the excess leaves
 *     as soon as it can.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_resident_limit(struct zspager *pager, uint64_t bytes);

/**
 * Sets how many bytes of slots compressed pages may take, at least 4112, as zswap_set_limit() does.
 * 0: no limit but the pool's own. When the limit is reached, pages are written to the backing file;
 * without one they stay in memory, above the limit of resident pages if necessary.
 *
 * Errors:
 * -EINVAL: pager is NULL, or the limit is 1 to 4111.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_pool_limit(struct zspager *pager, uint64_t bytes);

/**
 * Sets how many pages in memory may keep their compressed copy, in percent of the limit on resident
 * bytes, 0 to 100. The initial value is 10. A page that kept its copy and was only read since it
 * came back can be evicted again without compression; meanwhile its copy takes memory of the pool.
 * A kept copy goes when the pool is full, or when its page is written or evicted. A lower
 * percentage stops new copies from being kept, and drops none at once.
 *
 * Errors:
 * -EINVAL: pager is NULL, or percent is more than 100.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_kept_copies(struct zspager *pager, uint32_t percent);

/**
 * Sets the codec for pages that are compressed from now on, as zswap_set_codec() does.
 *
 * codec, level: one of ZSWAP_CODEC_*, and its level.
 *
 * Errors:
 * -EINVAL: pager is NULL, or there is no such codec or level.
 * -ENOMEM: no memory for Zstandard's contexts.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_codec(struct zspager *pager, uint32_t codec, int level);

/**
 * Sets the file that compressed pages are written to when the pool is full, or removes it, as
 * zswap_set_backing_file() does.
 *
 * fd, bytes: a regular file or block device, opened with O_RDWR and without O_APPEND, and how many
 *     of its bytes to use, from its beginning. -1 and 0: no file any more. The rules of
 *     zswap_set_backing_file() for the descriptor apply.
 *
 * Errors:
 * -EINVAL: pager is NULL; fd is not a descriptor, is opened in another way, or is neither a regular
 *     file nor a block device; or bytes is less than 4096 or more than 16 TiB, or is not 0 with fd
 *     -1.
 * -EBUSY: pages are on the file that was set before, or are being written to it.
 * -EMFILE: the process may have no more descriptors.
 * -ENOMEM: no memory for the file's table, of about 8 bytes a page.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_set_backing_file(struct zspager *pager, int fd, uint64_t bytes);

/**
 * Writes compressed pages that were not used lately to the backing file, until `pages` pages have
 * left the pool. Stores in *written how many did, which may be fewer.
 *
 * Errors:
 * -EINVAL: pager or written is NULL, or there is no backing file.
 * -EAGAIN: no page could go now: the file is full or fails, or pages are in use. The zswap's
 *     writeback_no_space and writeback_io in the JSON of zspager_stats_json() tell which.
 * -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
 *     Nothing was written.
 * -ENOENT: no page is in the pool.
 * -EPERM: this process is a forked child.
 *
 * Threads: any, several at once; takes as long as its work. Callbacks: not allowed.
 */
int zspager_write_back(struct zspager *pager, uint64_t pages, uint64_t *written);

/**
 * Moves stored pages together and gives the memory that this empties back to the system, as
 * zswap_compact() does. Stores in *pages_freed how many pages of 4096 bytes that were.
 *
 * budget: how much the call may do; see zs_compact().
 *
 * Errors:
 * -EINVAL: pager or pages_freed is NULL, the budget's struct_size is wrong, or the budget sets a
 *     field that this library does not know.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_compact(struct zspager *pager,
                    const struct zs_compact_budget *budget,
                    uint64_t *pages_freed);

/**
 * Evicts `pages` pages that were not used lately, now and whatever the limit. Stores in *evicted
 * how many went, which may be fewer or a few more; 0 if none is in memory.
 *
 * Errors:
 * -EINVAL: pager or evicted is NULL.
 * -ENOMEM: none went, because the pool is full and nothing can be written back.
 * -EAGAIN: no page in memory could go now.
 * -EPERM: this process is a forked child.
 *
 * Threads: any; takes as long as its work. Callbacks: not allowed.
 */
int zspager_evict(struct zspager *pager, uint64_t pages, uint64_t *evicted);

/**
 * Adds a tier of the program's own behind the tiers that there are, as zswap_add_tier() does. Stores
 * its number in *tier. Compressed pages go to the first tier that takes them once the pool is full.
 *
 * With ZSPAGER_FAULT_SIGBUS a touch is served in a signal handler, which may not call a tier: a
 * thread in zspager_run() with ZSPAGER_RUN_TIERS or ZSPAGER_RUN_ALL serves it, and the touch waits.
 * Such a thread has to be lent before this call, which waits up to a second for one to begin. If the
 * last one leaves, touches of pages on the tier fail with SIGBUS after a second or so, and nothing is
 * lost. With ZSPAGER_FAULT_THREADS the threads that bring pages back call the tier. While a tier is
 * away, a touch is tried again for about a second, and with ZSPAGER_FAULT_THREADS until it is back.
 *
 * The tier's functions must not touch memory of a region of this pager, nor wait for a thread that
 * does: the touch might wait for the very thread that is in the tier, for ever. So what they use
 * lies elsewhere. They may call no function on this pager but zspager_stats().
 *
 * ops, context, options: see zswap_add_tier(). The context must live until zspager_remove_tier() of
 *     this tier or zspager_destroy() has returned 0, or zspager_set_backing_file() has replaced all
 *     tiers.
 *
 * Errors:
 * -EINVAL: pager, ops or tier is NULL, a function is missing, an option is wrong, or no thread is
 *     lent that may call the tier.
 * -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
 * -ENOMEM: as for zswap_add_tier().
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_add_tier(struct zspager *pager,
                     const struct zswap_tier_ops *ops,
                     void *context,
                     const struct zswap_tier_options *options,
                     uint32_t *tier);

/**
 * Adds the first `bytes` bytes of a regular file or block device as a tier, behind the tiers that
 * there are. Stores its number in *tier. A page on it is read in the thread that touches it.
 *
 * name: a name for people, in UTF-8, at most 249 bytes, which zspager_stats_json() shows. The library
 *     copies it. "" for none.
 * fd: see zspager_set_backing_file().
 *
 * Errors:
 * -EINVAL: pager, name or tier is NULL, the name is wrong, or fd or bytes is, as for
 *     zspager_set_backing_file().
 * -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
 * -EMFILE: the process may have no more descriptors.
 * -ENOMEM: as for zswap_add_tier().
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_add_file_tier(struct zspager *pager,
                          const char *name,
                          int fd,
                          uint64_t bytes,
                          uint32_t *tier);

/**
 * Removes a tier. The pages that are on it move to the other tiers first, as far as these have room.
 * After 0 no function of the tier runs, and none is called again.
 *
 * Errors:
 * -EINVAL: pager is NULL.
 * -ENOENT: there is no tier of this number.
 * -EBUSY: pages are left on the tier, or calls go on using it. It stays, and so do these pages: touch
 *     or discard them, or make room on other tiers, and call again. Also in a tier's own function.
 * -EPERM: this process is a forked child.
 *
 * Threads: any; takes as long as the pages need. Callbacks: not allowed.
 */
int zspager_remove_tier(struct zspager *pager,
                        uint32_t tier);

/**
 * Fills *stats with the statistics of a tier. Set its struct_size first. Fields that this library
 * does not know become 0. zspager_stats_json() has those of all tiers.
 *
 * Errors:
 * -EINVAL: pager or stats is NULL, or struct_size is wrong.
 * -ENOENT: there is no tier of this number.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_tier_stats(struct zspager *pager, uint32_t tier, struct zswap_tier_stats *stats);

/**
 * Fills *stats. Set its struct_size first. Fields that this library does not know become 0.
 *
 * Errors:
 * -EINVAL: pager or stats is NULL, or struct_size is wrong.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_stats(struct zspager *pager, struct zspager_stats *stats);

/**
 * Stores in *nanoseconds how long touches took to be served: a time that `permille` of 1000 touches
 * did not exceed. 500 gives the median; 999 gives the time that one touch in 1000 exceeds. Every
 * eighth touch since the pager was created is timed. The result is exact to a quarter; 0 if no
 * touch was timed. It does not include what the system does before and after: the signal or the
 * wake-up.
 *
 * Errors:
 * -EINVAL: pager or nanoseconds is NULL, or permille is more than 1000.
 *
 * Threads: any. Callbacks: allowed.
 */
int zspager_latency_permille(struct zspager *pager, uint32_t permille, uint64_t *nanoseconds);

/**
 * Writes the statistics of the pager and of its zswap to `buffer` as JSON that ends with a NUL.
 * Stores its length in bytes, without the NUL, in *length.
 *
 * The JSON is an object with three members. "version" is a number that changes when a member
 * changes its meaning. "pager" is an object with the fields of struct zspager_stats without
 * struct_size; those that only grow are in its member "counts", and "eviction" is "in-place",
 * "moving", "in-place-without-move" or "in-place-beside-swap". "zswap" is what zswap_stats_json()
 * writes, with one area for each region. The pager's member "latencies" has the member "buckets",
 * an array of 128 counts of touches, of which every eighth is timed. Bucket i begins at i
 * nanoseconds for i up to 3, and at (4 + i % 4) << (i / 4 - 1) nanoseconds from 4 on. Later
 * versions may add members.
 *
 * This version needs at most 12 KiB, and 4 KiB more for each region, and 8 KiB for each tier.
 *
 * Errors:
 * -EINVAL: pager or length is NULL, or buffer is NULL and size is not 0.
 * -ENOSPC: the text does not fit into `size` bytes, as it never does with size 0. *length is set
 *     all the same, and buffer holds an empty string. Call again with somewhat more than *length +
 *     1 bytes, because figures grow.
 * -EPERM: this process is a forked child.
 *
 * Threads: any. Callbacks: not allowed.
 */
int zspager_stats_json(struct zspager *pager, char *buffer, size_t size, size_t *length);
#endif

#ifdef __cplusplus
} /* extern "C" */
#endif /* __cplusplus */

#endif  /* ZSALLOC_H */

/*
 * EXAMPLES. Programs in the sources: examples/store_pages.c shows limits, a backing file and
 * statistics, examples/writeback.c writeback by threads of the program, examples/pager.c a pager, and
 * examples/nbdkit a disk that is kept in a zswap.
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
 *         char *object;
 *         if (zs_create_pool("example", NULL, &pool) != 0) {
 *             fprintf(stderr, "no pool: %s\n", zs_last_error());
 *             return 1;
 *         }
 *         if (zs_malloc(pool, 6, &handle) == 0) {
 *             zs_obj_write(pool, handle, "hello", 6);
 *             object = zs_map_object(pool, handle, ZS_MM_RO);
 *             if (object != NULL) {
 *                 puts(object);
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
 *             fprintf(stderr, "%s\n", zs_last_error());
 *             return 1;
 *         }
 *         puts(copy);
 *         return zswap_remove_area(area) == 0 && zswap_destroy(zswap) == 0 ? 0 : 1;
 *     }
 */

/*
 * RESULTS. A function that returns int returns 0, or a negative error number of errno.h; it does
 * not set the variable errno to anything meaningful. A function that returns a pointer returns NULL
 * when it fails, and zs_last_errno() has the number. zs_last_error() has a sentence that says what
 * was wrong with this very call and what to do. (zs_strerror() has one for each number alone.)
 *
 * Outputs are the last arguments, and are written only when the result is 0. The exceptions are the
 * lengths of statistics as JSON, which are also written when the text does not fit, and the result
 * of each page where a call loads many. No pointer may be NULL unless the function's text says so:
 * NULL gives -EINVAL, not a crash.
 *
 * Loading a page fails with -EBADMSG if the page is damaged in the pool, with -EIO if its file or tier
 * can't give it back as it was, and with -EAGAIN if its tier is away.
 * From functions whose text does not name it, -EIO means that a bug in zsalloc was caught: the reason
 * is on stderr, and the program should stop using the pool it happened in.
 */

/*
 * BYTES. The contents of an object are undefined until they are written; they may be what a freed
 * object held. An object lies at a multiple of 16. It has at least as many bytes as were asked for,
 * and sometimes a few more: see zs_lookup_class_size(). Nothing stops a program from writing past
 * that, into other objects. An address is valid only while its object is mapped. A mapped object
 * does not move, and the memory around it can't be given back, so unmap what is not in use.
 */

/*
 * HANDLES. A handle that is stale (its object was freed) or belongs to another pool is refused with
 * -EINVAL, and no other object is affected. A handle has an index and a 16-bit count of that
 * index's uses. So a stale handle is refused until its index has been used another 65,536 times;
 * after that it may name another object. In a pool with ZS_POOL_HARDENED, an index whose count
 * wrapped is never used again, and a stale handle is refused for ever. Pools are told apart by 16
 * bits of the handle too: of 65,536 pools that a process creates one after another, the first and
 * the last accept each other's handles.
 */

/*
 * THREADS. Any thread may call any function at any time, with these exceptions: nothing else may
 * run on a pool during zs_destroy_pool(), on a zswap during zswap_destroy(), or on a pager during
 * zspager_destroy(), and nothing may begin on an area during zswap_remove_area(). zs_free(),
 * zs_unmap_object(), and zs_map_object() with ZS_MM_RO never wait. The others wait at most for a
 * short critical section of another thread, unless their text says more; zs_compact(), zs_shrink()
 * and the like take as long as their work. No function starts a thread or reads the environment,
 * and only the pager's functions change signals: see PAGER. A thread that pthread_cancel() cancels
 * inside a function, inside a callback, or while it touches a pager's region is cancelled
 * afterwards, at its next cancellation point. Threads with PTHREAD_CANCEL_ASYNCHRONOUS must not
 * call functions or touch regions.
 */

/*
 * CALLBACKS. The evict callback runs only inside zs_shrink(), the writeback callback only inside
 * zswap_shrink(), zswap_shrink_area(), zswap_shrink_by() and zswap_shrink_area_by(), in the thread
 * that called these. The functions of a tier are callbacks too, which more functions call, and which
 * may do less: see TIERS. A callback may call every function, on its own pool or area too, except that
 * these fail with -EBUSY: zs_destroy_pool() of the pool, zswap_remove_area() of the area, and
 * zswap_destroy() of the zswap.
 * Inside a writeback callback nothing waits for a writeback, because that could be the very one
 * that is running. A function that would have to wait fails with -EBUSY instead, and changes
 * nothing; zswap_invalidate() of the page that is being written is an example. A store to that page
 * does not wait, and replaces it. If the callback takes a lock, do not hold that lock while you
 * shrink or call a function that waits for a writeback.
 */

/*
 * SIGNAL HANDLERS. A handler may call zs_free(), zs_unmap_object(), zs_map_object() with ZS_MM_RO,
 * and the other functions whose text allows it. It must not call any other: the thread that it
 * interrupted may be inside one. None of those that it may call calls a function of a tier, and
 * neither does a pager's own handler.
 */

/*
 * MEMORY. No function ends the program when malloc() fails. malloc() is called only by functions
 * that create a pool, a zswap or a pager, add an area, a region or a tier, set a backing file, prepare
 * a fork of a zswap, or prepare a codec that was not set before (zswap_set_codec, zswap_recompress);
 * these then fail with -ENOMEM. All others do not call malloc(); only those that destroy, remove or
 * replace something call free(). Among those that do not call malloc() are all that a program needs
 * when memory is short: functions that free, invalidate, compact, shrink and write back,
 * zswap_remove_area(), and statistics, as JSON too. If the library was loaded by dlopen(), the first
 * call of a thread may allocate the thread's own variables, about 600 bytes, inside the C library.
 */

/*
 * ZSWAP. A zswap has one pool, and areas whose pages have offsets of their own, as swap devices or
 * guests do. zswap_store() stores a page. The limit counts bytes of slots, which is what a page's
 * compressed form costs. When the limit is reached, stores fail with -ENOMEM until usage has fallen
 * a little below it (zswap_tuning.accept_percent). zswap never makes room on its own: the program
 * does. It can call zswap_shrink(), which passes pages that were not used lately to a callback
 * (zswap_set_writeback) or writes them to a file (zswap_set_backing_file) or to tiers (see TIERS).
 * zswap_shrink_by() takes only pages that are old enough, by zswap_age(), or a number of bytes. The
 * program can claim pages and write them itself (zswap_writeback_begin; see WRITEBACK). Or it can drop
 * them (zswap_invalidate). A page that was written back by a callback or a claim is no longer stored:
 * loading it fails with -ENOENT, and the program reads it from where it wrote it. A page on the
 * backing file or another tier is loaded like any other.
 *
 * zswap keeps three promises. A load returns the page as it was last stored, or fails: each stored
 * page has a check that covers its area and offset. A store that fails leaves nothing at its
 * offset, so an old copy can't be taken for the new page, unless the area has ZSWAP_AREA_KEEP_OLD.
 * And an old copy never reaches the disk after a newer one: a page is not written back twice at a
 * time, and when zswap_invalidate(), a load with ZSWAP_LOAD_EXCLUSIVE, or a failed store returns,
 * no writeback of the page that began earlier is running. (The exceptions are a failed store that
 * leaves the old page, one in a callback, and one of a page whose claim this thread holds: these do
 * not wait.) Two threads that store, take or invalidate the same offset at the same time get the
 * outcome of one order or the other.
 */

/*
 * WRITEBACK. A program that writes pages back itself, by claims (zswap_writeback_begin()) or in a
 * callback (zswap_set_writeback()), has to know where each page is. These rules keep every page.
 * examples/writeback.c is a whole program that follows them. For a callback, read "the callback
 * returns" for "the claim ends".
 *
 * The mark. A page that was written back is no longer stored: loading it fails with -ENOENT, like
 * loading one that was never stored. So the program keeps a mark for each page, which means: if zswap
 * does not have the page, the disk has it.
 * - Set the mark after the write, and BEFORE zswap_writeback_end() with result 0. The end removes the
 *   page at once. A load between the end and a late mark would find neither page nor mark, and take
 *   the page for one that was never stored.
 * - Clear it after zswap_invalidate(), after a load with ZSWAP_LOAD_EXCLUSIVE, and after a store that
 *   failed: the copy on the disk is old then. Do not clear it before the call: the writer of an open
 *   claim may still set it. All three calls wait for that claim. A store that succeeds waits for none,
 *   and leaves the mark as it is. In an area with ZSWAP_AREA_KEEP_OLD a store that failed changed
 *   nothing and waited for nothing: leave the mark and the place as they are.
 * - After the end, touch neither the mark nor the page's place on the disk, whether `gone` is 1 or 0.
 *   0 with result 0 says that the page was loaded, replaced or removed during the write. If it is
 *   still stored, the mark does no harm, because a load asks zswap first. If another thread removed
 *   it, that thread has been woken, and the mark and the place are its own.
 *
 * The place on the disk has one owner at a time: the claim, until it ends; then the mark, as long as
 * it is set, so that loads may read the place; and once the mark is cleared, the thread that cleared
 * it, which may write the place or free it.
 *
 * Locks. Each page needs a lock, held by threads that store, load and remove it, from the call to
 * zswap until they have looked at the mark and the disk. A thread that ends claims must not take a
 * lock that is held during zswap_invalidate(), an exclusive load or a store: these may wait for its
 * claim. For claims that this very thread began they do not wait: zswap_invalidate() and an exclusive
 * load fail with -EBUSY, and a store that fails returns while the claim is open. End that claim with
 * an error number then, and do not set the mark: what was written is old. (In an area with
 * ZSWAP_AREA_KEEP_OLD it is still the page, and the claim may end with 0.) It is easiest to begin
 * claims in threads that do nothing else.
 */

/*
 * TIERS. A tier is a place for pages that leave the pool: a file of the library's
 * (zswap_set_backing_file(), zswap_add_file_tier()), or a tier of the program's own, such as another
 * machine, a device or a service, which is a struct zswap_tier_ops of functions (zswap_add_tier()). A
 * zswap has up to ZSWAP_MAX_TIERS.
 *
 * What happens to a page. A shrink puts up to 64 pages together, compressed as they are in the pool,
 * and writes them as one extent to the first tier that takes it, in the order in which the tiers were
 * added. Tiers that are full or away are passed by. If none takes the extent, its pages stay in the
 * pool. An area may use fewer tiers (zswap_area_options.tiers). A page is loaded from the tier that has
 * it, and stays there until it is replaced, removed, or loaded with ZSWAP_LOAD_EXCLUSIVE. It moves when
 * what is left of mostly dead extents is put together (by shrinks and zswap_compact()), and when its
 * tier is removed: then to another tier that its area may use. Extents without pages are removed by
 * the next shrink, zswap_compact() or zswap_remove_tier(), or by zswap_destroy(). One that can't be
 * removed by then, because the tier is away, is left to the tier.
 *
 * Failures. A tier's function returns 0, or an error number, negative or positive, of three kinds:
 * - Full, -ENOSPC: put() has no room. The extent goes to the next tier.
 * - Damaged, -EIO, -EBADMSG or -ENOENT: the extent is damaged or gone. The load of a page fails with
 *   -EIO. After put() the extent goes to the next tier.
 * - Away, any other number, such as -EAGAIN or -ETIMEDOUT: the tier can't be reached now. The load of a
 *   page fails with -EAGAIN, and the page stays where it is. After put() the extent goes to the next
 *   tier. remove() is called again later.
 * A tier need not know what is in an extent. Each page has a check over its bytes, its place, and the
 * name of its extent: if a tier returns damaged bytes, or those of another extent or of another time,
 * the load fails with -EIO, and no wrong page is returned. The check is no signature. If others can
 * change or read what a tier keeps, the tier has to sign and encrypt it.
 *
 * The functions are called in the threads that shrink, load, compact and remove tiers, several at once,
 * also for the same extent, and with no lock of the library held. They should end within a bound of
 * the tier's own, because the caller's call takes as long. They must return normally: no longjmp, no
 * C++ exception. They may call what callbacks may call (see CALLBACKS), such as stores, invalidations
 * and loads of pages in the pool. Functions that use tiers fail with -EBUSY in them, also those of
 * another zswap: zswap_shrink(), zswap_shrink_area(), zswap_shrink_by(), zswap_shrink_area_by(),
 * zswap_compact(), zswap_add_tier(), zswap_add_file_tier(), zswap_remove_tier(),
 * zswap_set_backing_file(), zswap_set_writeback(), and loads of pages that are on tiers of the
 * program's own. If they take a lock, do not hold it during a
 * call that may call them.
 *
 * Memory. A page on a tier takes 3 bytes of memory if extents are full, and the 8 bytes of its area's
 * index. Each tier has buffers, of which those that were used take memory:
 * zswap_tier_stats.memory_bytes counts all. Forked children: see FORK.
 */

/*
 * STRUCTS. Structs that are passed begin with their size, and may grow at their end in later
 * versions, except struct zswap_claim and struct zswap_load_request, which never grow. A program
 * compiled with an older header works with a newer library: fields that it does not have are 0. A
 * program compiled with a newer header works with an older library if the fields that the library
 * does not know are 0, and gets -EINVAL otherwise. A field that is 0 means its default.
 *
 * PAGES are 4096 bytes here. Systems with other page sizes are not supported yet. A pool's limit
 * covers all memory that it takes, its own tables included.
 */

/*
 * FORK. The child inherits an anonymous pool as it inherits any private memory: as a copy of its
 * own, with the same handles. If another thread was inside a call on the pool during the fork, the
 * child's copy is unusable: a call on it may wait for ever. So a program whose other threads use
 * the pool calls zs_fork_prepare() before fork(), and zs_fork_done() after it, in the parent and in
 * the child; then the child may call everything. For a zswap, zswap_fork_prepare() and
 * zswap_fork_done() do that for its areas and its pool as well. Otherwise create the pool, fork,
 * and start threads after that, or let the child leave the pool alone.
 *
 * A pool with ZS_BACKING_MEMFD or ZS_BACKING_HUGETLB, or with ZS_POOL_DONTFORK, is never inherited.
 * In the child, calls on it fail with -EPERM, except those that need none of its memory:
 * zs_get_total_pages(), zs_lookup_class_size(), zs_pool_fd(), and zs_destroy_pool(), which frees
 * what the child has of it. A zswap is inherited as its pool is; zswap_remove_area() and
 * zswap_destroy() free what the child has. Only one of parent and child may go on with a zswap that
 * has a backing file: they share the file but not the table of its contents. A tier of the program's
 * own stays with the parent: in the child it is away, none of its functions is called, and loads of
 * its pages fail with -EAGAIN. The child can replace and invalidate these pages. Memory that the
 * program supplied is inherited as it was mapped. If parent and child share it (MAP_SHARED), the
 * pool needs ZS_POOL_DONTFORK.
 */

/*
 * JAILS. What a system lacks or forbids shows when something is created. From then on, until it is
 * destroyed, only these system calls are made. (c-tests/jail.c runs everything under a filter of
 * these lists, and fails if a call is missing or not needed.)
 * - a pool: futex, madvise, mprotect, munmap, process_madvise. The last not with ZS_POOL_NO_ADVICE.
 * - a pool in a memory file: close, mincore. Besides those of a pool, as all that follow.
 * - a pool in huge pages: close, fallocate.
 * - a fork that is prepared: getpid. For a zswap also those of an area.
 * - an area that is added, or a codec that is prepared: brk, mmap, munlock. A zswap needs those of a
 *   pool and these.
 * - a backing file: close, fallocate, fstat, newfstatat, pread64, pwrite64. fstat() is one or the other.
 *   Besides them preadv2, pwritev2 if the file could not be opened with O_DIRECT.
 * - a tier of the program's own: getpid. And those that its functions make.
 * - a pager: ioctl, poll, read, rt_sigprocmask. Besides those of a zswap.
 * - threads that are lent: pread64, pwrite64, sched_yield, write.
 * - a discard of pages that are held: getpid, process_vm_writev. With ZSPAGER_FAULT_THREADS neither.
 * - eviction in place: getpid, process_vm_readv. With ZSPAGER_FAULT_THREADS neither.
 * - either of them where the call is refused: pread64, pwrite64. Of /proc/self/mem.
 * - a region of a memory file: cachestat, close, fallocate, mincore, pread64, pwrite64. It is evicted
 *   in place.
 * Adding a region or a tier may take more, such as reading /proc/self/maps, or getrandom: add both
 * before the filter is set.
 */

/*
 * DESCRIPTORS. The library's descriptors are closed on exec. A forked child keeps them until it
 * destroys the objects they belong to. They are:
 * - for a pool with ZS_BACKING_MEMFD or ZS_BACKING_HUGETLB: its memory file, which zs_pool_fd()
 *   returns; other pools have none;
 * - for a zswap: a duplicate of each backing file's, and those of its pool;
 * - for a pager: two userfaultfds, one of which zspager_descriptor() returns, and an eventfd;
 *   /proc/self/mem, if the process may open it; a duplicate of the memory file's for each region
 *   with ZSPAGER_REGION_SHARED; and those of its zswap.
 * A program that closes descriptors wholesale (closefrom(), close_range()) must do so before it
 * creates any of these, or in a child before exec. If the library's descriptor of a backing file is
 * closed, pages on it can't be loaded. Without the userfaultfd, pages that are not in memory read
 * as zeros.
 */

/*
 * STACK. A call takes up to 24 KiB of the calling thread's stack, zswap_recompress() up to 40, and
 * what its callbacks take:
 * zswap_store() 5 KiB, zswap_load() 1, or 12 from a file, either with Zstandard 6, zswap_shrink()
 * 16 with a callback and 3 with a file, compaction and zspager_add_region() 11, creation 6 to 22.
 * For touches of regions see PAGER. The C test named stack prints a table (cargo test --release
 * --features uffd --test c_api stack -- --nocapture). A debug build takes more.
 */

/*
 * TOOLS. A program that uses pools and zswaps runs under valgrind, AddressSanitizer and
 * UndefinedBehaviorSanitizer as any other. Programs with a pager run under these two sanitizers too.
 * LeakSanitizer does not look into pools and regions: it reports blocks of malloc() that only a
 * pointer there leads to. Do not pass a region to __lsan_register_root_region(): it ends with "Tracer
 * caught signal 7" when a page is not in memory.
 *
 * ThreadSanitizer sees only what it compiled: it does not see the library's locks, and reports as
 * races what these keep apart. Suppress such reports with a file that has the line
 * "called_from_lib:libzsalloc.so", which TSAN_OPTIONS=suppressions=FILE names; this needs the shared
 * library. When two threads map objects that lay in the same memory one after the other, it may also
 * report functions of the program, which a line "race:NAME" suppresses. These suppressions are enough
 * for programs with a pager.
 *
 * The pager under valgrind: valgrind does not know userfaultfd, and says so. With
 * ZSPAGER_FAULT_SIGBUS, programs get silently wrong data, crash or hang, because by default valgrind
 * does not keep all registers up to date where a signal arrives. The data are right with
 * --vex-iropt-register-updates=allregs-at-mem-access. Destroy the pager before the program ends. With
 * lent threads the program may hang for good: valgrind runs one thread at a time, and the one that
 * runs may be the one that waits. Test such programs without valgrind.
 *
 * gdb stops at every touch that ZSPAGER_FAULT_SIGBUS serves. Tell it "handle SIGBUS nostop noprint
 * pass". For what it can read of regions see CORE DUMPS.
 */

/*
 * CORE DUMPS. In a core dump, pages of regions that are not in memory are zeros, and compressed
 * pages are missing: pool and staging range are left out of dumps. A debugger's dump of a running
 * process (gcore) may have zeros for a whole region that lacks one page. Reading /proc/PID/mem
 * fails with -EIO for pages that are not in memory, and so does a debugger. These ways give
 * complete dumps:
 * - Before a planned dump, bring all pages in: call zspager_set_resident_limit() with 0 and then
 *   read a byte of each page, or call zspager_remove_region(). There must be enough memory for
 *   them.
 * - A handler of SIGSEGV or SIGABRT may call no function of the pager, but with
 *   ZSPAGER_FAULT_SIGBUS it may read regions, on an alternate stack that is large enough: it copies
 *   page by page to a buffer of its own, and writes that to a file. The limit holds meanwhile.
 * - With ZSPAGER_FAULT_THREADS another process may read a whole region with process_vm_readv(), as
 *   long as lent threads run.
 */

/*
 * PAGER. Requires Linux 5.11 or later with userfaultfd. Before Linux 6.6 the system can't poison a
 * damaged page: a thread that touches one gets SIGBUS with ZSPAGER_FAULT_SIGBUS, and waits for ever
 * with ZSPAGER_FAULT_THREADS; its region can be removed only with ZSPAGER_DISCARD, and the page
 * then reads as zeros.
 *
 * A pager has regions, which are ranges of the program's memory that zspager_add_region() names,
 * and a limit on how many bytes of them are in memory. Above the limit, pages that were not used
 * lately move to a staging range, which counts towards the limit. Pages that stay there are
 * compressed, and when the pool is full they go to the backing file. A thread that touches a page
 * that is not in memory waits until the page is back with its bytes. If a page is damaged, the
 * thread gets SIGBUS. The system may refuse for a second to put a page in place, as it does when it
 * has no memory, or to read it from the backing file: then the thread gets SIGBUS too with
 * ZSPAGER_FAULT_SIGBUS, and may touch the page again; with ZSPAGER_FAULT_THREADS it goes on
 * waiting. When no page can leave, because the pool is full and nothing can be written back or the
 * rest is held or pinned, pages come back above the limit. zspager_stats.over_limit counts them;
 * nothing is lost.
 *
 * Pages may go to several files, and to tiers of the program's own: zspager_add_file_tier(),
 * zspager_add_tier(), and see TIERS. A page on a file is read by the thread that touches it. With
 * ZSPAGER_FAULT_SIGBUS that thread is in a signal handler, and can't call a tier of the program's own:
 * it waits until a thread in zspager_run() with ZSPAGER_RUN_TIERS or ZSPAGER_RUN_ALL has brought the
 * page. The functions of such a tier must not touch a region of this pager, nor wait for a thread that
 * does: such a touch might wait for them for ever. They call no function of this pager but
 * zspager_stats().
 *
 * The memory of a region must be used through this one mapping only: not through another mapping of
 * the same file, from another process, or with ptrace. A part of a region may be moved by mremap()
 * and unmapped by munmap(), but these calls wait until a lent thread (zspager_run()) has read of
 * them: without one they may wait for ever. Do not use MREMAP_DONTUNMAP on regions: nothing of a
 * region may stay where it was.
 *
 * The limit holds for regions alone. Memory that the program takes from malloc() is in none, and no
 * limit counts it: glibc's qsort(), for example, allocates as much memory as the array has.
 * Take the memory of a region from zspager_map(), or from mmap() for zspager_add_region(). Never add
 * memory of malloc(). zspager_add_region() refuses only the heap (brk). It accepts large mallocs, for
 * which glibc calls mmap(), and free() of one then hangs while no thread is lent. It refuses variables
 * with initial values (.data), which are a private mapping of the program's file and not anonymous
 * memory. Variables without initial values (.bss) can be a region, in whole pages.
 *
 * zspager_discard() gives memory back, and needs no lent thread. With ZSPAGER_EVICT_MOVING so does
 * madvise() with MADV_DONTNEED or MADV_REMOVE, which waits likewise; on a memory file both have the
 * same effect then: the file has zeros, whereas without a pager MADV_DONTNEED leaves it as it is.
 * With ZSPAGER_EVICT_IN_PLACE, the default, and wherever pages are evicted in place all the same,
 * the pager is not told of madvise(): a page that was evicted comes back with its old bytes, and so
 * may one that was only read since it came back. Private pages that are in memory read as zeros
 * after it, and count until they are evicted. Do not use MADV_FREE on regions: pages used again
 * after it would not be counted.
 *
 * While munmap() or mremap() takes a region away from an address, nothing else may be mapped or
 * moved there: the system may report the two in either order. If your program moves regions, hold a
 * lock of its own around all calls that map, move or unmap. Pages that are locked (mlock) stay in
 * memory, and count; so do private pages that are pinned by the system or read-only (mprotect),
 * except with ZSPAGER_EVICT_IN_PLACE. While these exceed the limit, touches go above it at once:
 * see zspager_stats.immovable_bytes. With ZSPAGER_FAULT_THREADS and ZSPAGER_EVICT_IN_PLACE the
 * memory of a region may have any protection after it was added, PROT_NONE too: its pages leave and
 * come back like others. Adding a region of private memory takes it out of KSM (MADV_UNMERGEABLE).
 * Do not call madvise() with MADV_MERGEABLE on it afterwards: a page that the system merges loses
 * the protection by which the pager notices writes, and a write to it may be lost.
 *
 * With ZSPAGER_FAULT_SIGBUS the thread that touches a page brings it back itself, in a SIGBUS
 * handler. It may touch regions anywhere, in a signal handler too, but SIGBUS must not be blocked:
 * the system would kill the process. A system call on memory of a region fails with EFAULT, or does
 * only a part of its work, in three cases: a page is not in memory; the call writes to a page that
 * was only read since it came back, and that may therefore be write-protected; or a page of a
 * memory file is in memory but not mapped, as after the system has split or made a huge page. So
 * call zspager_hold() on the range before the system call, and zspager_release() after it. The hold
 * does not cover one case: when a memory file's pages are put together to huge pages through
 * another mapping (MADV_COLLAPSE, khugepaged), or the system swaps them out, a held page is not
 * mapped any more, and the system call fails with EFAULT. Hold the range once more then.
 *
 * Mutexes, semaphores, condition variables, barriers and read-write locks make such system calls
 * too: a thread that waits for one waits in futex(). With ZSPAGER_FAULT_SIGBUS, the page of one
 * that lies in a region may leave just before, and then the wait fails with EFAULT: glibc ends the
 * process ("The futex facility returned an unexpected error code"). Keep objects that threads wait
 * for out of regions, or hold their pages as long as they are in use, or use ZSPAGER_FAULT_THREADS.
 * The same holds for locks of C++ and Rust.
 *
 * A SIGBUS that does not come from a region goes to the handler that was installed before, or has
 * the effect that it would have had. So install your own handlers before the first
 * zspager_create(), or let them call the handler that sigaction() reported: no later
 * zspager_create() replaces them. An earlier handler is called with the signals blocked that it was
 * installed with, but on the stack in use: SA_ONSTACK has no effect then. AddressSanitizer's own
 * handler may stay: it is called for a SIGBUS that does not come from a region. The pager's handler
 * stays in place until the process ends, and so does the library: dlclose() does not unload it any
 * more.
 *
 * The handler runs on the stack in use, which may be the alternate stack (sigaltstack) of a handler
 * of the program's. It takes up to 12 KiB of it, 4 KiB more where pages are stored with Zstandard,
 * and 8 KiB more where AMX is in use: for the processor's state that the system saves, and for
 * evicting another page. So every stack on which regions are touched, a thread's or a handler's,
 * should have 32 KiB more than the program itself needs. An alternate stack of SIGSTKSZ bytes is
 * too small, and nothing reports its overflow. (A debug build of the library takes 64 KiB.) No
 * stack in use may lie in a region.
 *
 * Where stacks are smaller, use ZSPAGER_FAULT_THREADS. That includes Go programs, whose goroutines
 * begin with 2 to 8 KiB and whose runtime requires SA_ONSTACK of every handler, which this one does
 * not have; and programs whose fibers or coroutines touch regions on stacks without those 32 KiB.
 *
 * With ZSPAGER_FAULT_THREADS lent threads bring pages back, and the thread that touches a page
 * sleeps, inside system calls too, as the processors of a virtual machine do. This mode needs
 * rights: see ZSPAGER_FAULT_THREADS.
 *
 * Two parts of the Rust crate are not available in C: memory of other processes that is filled from
 * a snapshot (Guest) with tracking of writes to it, and the process that outlives a pager
 * (Guardian).
 *
 * In either mode, hold memory that direct I/O, io_uring or a device writes, until the write is
 * done: a page that is evicted in place, as pages of memory files always are, loses what is written
 * to it meanwhile.
 *
 * Functions of the pager must not be called by a signal handler, by a callback of a zswap (unless
 * their text says so), or by a thread that holds a lock that another thread may need while it
 * touches a region. During a call, and throughout zspager_run(), signals are held back, except
 * those of the thread's own faults, and so is pthread_cancel(). Pointers that are passed to the
 * library's functions must not point into a region, unless they name a range of the region.
 *
 * Forked children get neither the regions nor the pager's pool, unless its memory was supplied.
 * Touching a region there raises SIGSEGV, and calls fail with -EPERM, with these exceptions:
 * zspager_destroy() frees what the child has of the pager, and zspager_stats(),
 * zspager_latency_permille() and zspager_descriptor() report it as it was at the fork. A program
 * whose children need the memory calls zspager_remove_region() for each region before fork(), which
 * brings all pages back, and zspager_add_region() after it in the parent, as examples/preload does.
 * vfork() and posix_spawn() need none of that: their child uses the parent's memory.
 */
