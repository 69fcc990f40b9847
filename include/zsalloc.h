/*
 * zsalloc: a pool of small objects behind movable handles.
 *
 * It is the Linux kernel's zsmalloc for programs: memory for many objects of 1 to ZS_MAX_ALLOC_SIZE
 * bytes of all sizes, such as compressed pages. A program holds a handle, not an address, and maps
 * the object while it uses it. So the pool can move objects together when others were freed
 * (zs_compact) and give memory back to the system, and it can ask the program to let the objects go
 * that were longest unused (zs_set_evict, zs_shrink).
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
 * Link with -lzsalloc. With the static library, libzsalloc.a, also with -lpthread -ldl -lm, which
 * recent C libraries have inside.
 *
 * RESULTS. A function that returns int returns 0, or a negative error number of errno.h; the
 * variable errno means nothing after it. zs_strerror() has a sentence for each number. Outputs come
 * last and are written only when the result is 0. No pointer may be NULL unless its function says
 * so: NULL is -EINVAL, not a crash. Every function can return -EIO, and none should: a bug in
 * zsalloc was caught, and the reason was written to stderr. The pool that it happened in is best
 * not used any more.
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
 * run on a pool while zs_destroy_pool() does. zs_free(), zs_unmap_object(), and zs_map_object()
 * with ZS_MM_RO never wait. The others wait for a short critical section of another thread at most;
 * zs_compact() and zs_shrink() take as long as their work. No function starts a thread, reads the
 * environment, or changes signals. zs_malloc(), zs_free(), and what maps, unmaps, reads and writes
 * objects call neither malloc() nor free().
 *
 * EVICT CALLBACK. It runs only inside zs_shrink(), in the thread that called that. It may call
 * every function on its pool; zs_destroy_pool() is refused with -EBUSY. Do not call zs_shrink()
 * with a lock of your own held that the callback takes.
 *
 * SIGNAL HANDLERS. A handler may call zs_free(), zs_unmap_object(), zs_map_object() with ZS_MM_RO,
 * and the other functions whose text says so. No others: the thread that it interrupted may be
 * inside one of them.
 *
 * FORK. The child inherits an anonymous pool as it inherits any private memory: a copy of its own,
 * with the same handles. If another thread was inside a call on the pool during the fork, then the
 * child's copy is unusable: a call on it may wait for ever. So create the pool, fork, and start
 * threads after that, or let the child leave the pool alone. A pool with ZS_BACKING_MEMFD or
 * ZS_BACKING_HUGETLB, or with ZS_POOL_DONTFORK, is never inherited. In the child calls on it are
 * refused with -EPERM, except for those that need none of its memory: zs_get_total_pages(),
 * zs_lookup_class_size(), zs_pool_fd(), and zs_destroy_pool(), which frees what the child has of
 * it. Memory that the program supplied is inherited as it was mapped. If parent and child share it
 * (MAP_SHARED), the pool needs ZS_POOL_DONTFORK.
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

/* Generated from the comments and types in src/capi: change them there. */

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
 * For zs_pool_options.flags: do not ask for huge pages, and do not ask that the pool is left
 * out of core dumps. Memory goes back by madvise() alone, range by range, not by
 * process_madvise(). For processes in jails that forbid such calls.
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

/** A pool of objects; what is in it is zsalloc's own. */
struct zs_pool;

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
 * Offers the objects of those parts of the pool that were longest unused to the evict callback,
 * until `pages` pages of 4096 bytes of the pool became free. Stores in *reclaimed how many did,
 * which can be more than asked, and also fewer: the callback refused, objects are mapped, or there
 * are no more. Objects that are mapped are not offered. The pages go back to the system at once;
 * but where memory is taken 2 MiB at a time the pool may use them again, and keeps them until all
 * of the 2 MiB are unused.
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
 * What a result means, as an English sentence. Takes a result as it came or its positive number; 0
 * is success. Never NULL; the string is constant, and nobody frees it.
 *
 * Threads: any. Evict callback: allowed. Signal handler: allowed.
 */
const char *zs_strerror(int result);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ZSALLOC_H */
