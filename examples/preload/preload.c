/*
 * Puts the large private mappings of an unmodified program under a pager, so that it runs in less memory than it asks
 * for. README.md beside this file says how to compile and use it, and what it can't do.
 *
 *     cc -O2 -shared -fPIC -o zspreload.so preload.c $(pkg-config --cflags --libs zsalloc)
 *     ZSALLOC_LIMIT=64M LD_PRELOAD=$PWD/zspreload.so python3 program.py
 */
#define _GNU_SOURCE
#define ZSALLOC_UFFD
#include "space.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <zsalloc.h>

#define EXPORT __attribute__((visibility("default")))

enum { REGIONS = 4096, MOST_THREADS = 16, DESCRIPTORS = 1024 };
static const size_t SEGMENT = ((size_t)256 << 20) / PAGE;

/* Whether mappings are taken. LAZY: a forked child, which gets a pager when it maps something large. */
enum { OFF, ON, LAZY };
static atomic_int mode = OFF;

/* The calling thread is inside the library, or lent to it: its memory must not be in a region. */
static __thread int inside __attribute__((tls_model("initial-exec")));

static struct {
    uint64_t limit, pool_limit, least, space;
    uint32_t codec, threads;
    enum { FORK_AUTO, FORK_REFUSE, FORK_COPY } fork;
    char stats[512]; /* A copy: programs that change their title write over the environment. */
} options = {.least = 128 << 10, .space = (uint64_t)256 << 30, .threads = 2, .codec = ZSWAP_CODEC_LZ4};

static struct zspager *pager;
static struct {
    size_t first, pages;
    uint64_t number;
} regions[REGIONS];
static size_t region_count;
/* Taken to write while a fork has no regions, and to read by calls that need them. */
static pthread_rwlock_t regions_lock = PTHREAD_RWLOCK_INITIALIZER;
static bool is_of_pager[DESCRIPTORS]; /* Descriptors that the pager opened. */
static bool takes_malloc;

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void (*free)(void *);
    size_t (*usable)(void *);
    pid_t (*fork)(void);
    int (*daemon)(int, int);
    int (*forkpty)(int *, char *, const struct termios *, const struct winsize *);
} next;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    size_t bytes = (size_t)length < sizeof text - 1 ? (size_t)length : sizeof text - 2;
    text[bytes++] = '\n';
    if (write(STDERR_FILENO, text, bytes) < 0)
        return;
}

#define FAIL(...) (say("zspreload: " __VA_ARGS__), _exit(125))

/* ---- Regions ---- */

static void *serve(void *duty)
{
    inside = 1;
    if (zspager_run(pager, (uint32_t)(uintptr_t)duty) != 0)
        FAIL("a thread can't be lent to the pager: %s", zs_last_error());
    return NULL;
}

static void lend_threads(void)
{
    /* A new thread has the mask of its creator: no handler of the program may run in one that is lent. */
    sigset_t all, was;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    for (uint32_t thread = 0; thread < options.threads; thread++) {
        pthread_t id;
        if (pthread_create(&id, NULL, serve, (void *)(uintptr_t)ZSPAGER_RUN_ALL) != 0)
            FAIL("no thread can be created");
        pthread_detach(id);
    }
    pthread_sigmask(SIG_SETMASK, &was, NULL);
}

static bool add_region(size_t first, size_t pages)
{
    if (region_count == REGIONS)
        return false;
    /* Memory is given back by zspager_discard() alone, and before something else is mapped over it: see carve(). */
    struct zspager_region_options with = {.struct_size = sizeof with, .flags = ZSPAGER_REGION_SETTLED};
    if (zspager_add_region(pager, address_of(first), pages * PAGE, &with, &regions[region_count].number) != 0)
        return false;
    regions[region_count].first = first;
    regions[region_count++].pages = pages;
    return true;
}

/* Sets the protection that the program gave to pages, or the one that a new region needs. Code can run meanwhile. */
static void protect_again(size_t first, size_t end, bool as_the_program)
{
    for (size_t page = first, to; page < end; page = to) {
        to = alike(page, end, PROTECTED | CARVED);
        if ((space.state[page] & (PROTECTED | CARVED)) != PROTECTED)
            continue;
        size_t same = page + 1;
        while (same < to && space.protection[same] == space.protection[page])
            same++;
        to = same;
        int protection = space.protection[page];
        if (!as_the_program)
            protection = PROT_READ | PROT_WRITE | (protection & PROT_EXEC);
        syscall(SYS_mprotect, address_of(page), (to - page) * PAGE, protection);
    }
}

/* Adds all that was mapped to the pager. */
static void add_regions(void)
{
    protect_again(0, space.mapped, false);
    for (size_t page = 0, end; page < space.mapped; page = end) {
        end = alike(page, space.mapped, CARVED);
        if ((space.state[page] & CARVED) == 0 && !add_region(page, end - page))
            FAIL("memory can't be added to the pager: %s",
                 region_count == REGIONS ? "it is in too many parts" : zs_last_error());
    }
    protect_again(0, space.mapped, true);
}

static bool is_open(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

/* Starts a pager. Returns false, with the sentence of the library, if the process may not have one. */
static bool start(void)
{
    bool was_open[DESCRIPTORS];
    inside++;
    for (int descriptor = 0; descriptor < DESCRIPTORS; descriptor++)
        was_open[descriptor] = is_open(descriptor);
    struct zspager_tuning tuning = {.struct_size = sizeof tuning, .max_regions = REGIONS};
    struct zspager_options with = {
        .struct_size = sizeof with,
        .resident_bytes = options.limit,
        .pool_bytes = options.pool_limit,
        .fault_mode = ZSPAGER_FAULT_THREADS,
        .codec = options.codec,
        .tuning = &tuning,
    };
    if (zspager_create("zspreload", &with, &pager) != 0) {
        inside--;
        return false;
    }
    for (int descriptor = 0; descriptor < DESCRIPTORS; descriptor++)
        is_of_pager[descriptor] = !was_open[descriptor] && is_open(descriptor);
    lend_threads();
    add_regions();
    atomic_store(&mode, ON);
    inside--;
    return true;
}

/* Makes more pages ready to be given out. Without a pager they stay plain memory. The lock is held. */
static bool grow(size_t pages)
{
    size_t more = (pages + SEGMENT - 1) / SEGMENT * SEGMENT;
    if (more > space.pages - space.mapped)
        return false;
    if (syscall(SYS_mprotect, address_of(space.mapped), more * PAGE, PROT_READ | PROT_WRITE) != 0)
        return false;
    inside++;
    bool added = atomic_load(&mode) != ON || add_region(space.mapped, more);
    inside--;
    if (!added)
        return false;
    free_pages(space.mapped, more);
    space.mapped += more;
    return true;
}

/* Returns zeros under the pager, or NULL. */
static char *take(size_t bytes, size_t alignment, const void *hint)
{
    size_t pages = (bytes + PAGE - 1) / PAGE, first = SIZE_MAX;
    alignment = alignment < PAGE ? 1 : alignment / PAGE;
    if (pages == 0 || pages > space.pages || alignment > space.pages)
        return NULL;
    pthread_mutex_lock(&space.lock);
    if (atomic_load(&mode) == LAZY && !is_of_space(__builtin_frame_address(0))) {
        pthread_rwlock_wrlock(&regions_lock);
        if (!start()) {
            say("zspreload: process %d goes on without ZSALLOC_LIMIT: %s", getpid(), zs_last_error());
            atomic_store(&mode, OFF);
        }
        pthread_rwlock_unlock(&regions_lock);
    }
    if (is_of_space(hint) && (uintptr_t)hint % PAGE == 0 && take_pages_at(page_of(hint), pages))
        first = page_of(hint);
    if (first == SIZE_MAX)
        first = take_pages(pages, alignment);
    if (first == SIZE_MAX && grow(pages + alignment - 1))
        first = take_pages(pages, alignment);
    pthread_mutex_unlock(&space.lock);
    return first == SIZE_MAX ? NULL : address_of(first);
}

/* Makes pages zeros that take no memory. */
static void drop(size_t first, size_t pages)
{
    pthread_rwlock_rdlock(&regions_lock);
    if (atomic_load(&mode) == ON) {
        inside++;
        if (zspager_discard(pager, address_of(first), pages * PAGE) != 0)
            FAIL("memory can't be given back: %s", zs_last_error());
        inside--;
    } else {
        syscall(SYS_madvise, address_of(first), pages * PAGE, MADV_DONTNEED);
    }
    pthread_rwlock_unlock(&regions_lock);
}

/* Replaces pages by reserved addresses, so that the kernel maps nothing there by itself. */
static bool reserve(size_t first, size_t pages)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return raw_mmap(address_of(first), pages * PAGE, PROT_NONE, flags, -1, 0) != MAP_FAILED;
}

/* Gives pages back. Those that the program does not have are left alone, as munmap() leaves them. */
static void give_back(size_t first, size_t end)
{
    for (size_t page = first, to; page < end; page = to) {
        pthread_mutex_lock(&space.lock);
        to = alike(page, end, TAKEN | CARVED | PROTECTED);
        unsigned state = space.state[page];
        memset(space.state + page, state & CARVED, to - page);
        if ((state & (TAKEN | CARVED | PROTECTED)) == (TAKEN | PROTECTED))
            syscall(SYS_mprotect, address_of(page), (to - page) * PAGE, PROT_READ | PROT_WRITE);
        pthread_mutex_unlock(&space.lock);
        if ((state & TAKEN) == 0)
            continue;
        if ((state & CARVED) != 0) {
            reserve(page, to - page);
            continue; /* No region has these addresses any more. */
        }
        drop(page, to - page);
        pthread_mutex_lock(&space.lock);
        free_pages(page, to - page);
        pthread_mutex_unlock(&space.lock);
    }
}

/* Splits a range into parts in the space and outside. Returns the end of the first part. */
static uintptr_t part_of(uintptr_t at, uintptr_t end, bool *is_ours)
{
    uintptr_t low = (uintptr_t)space.base, high = low + space.pages * PAGE;
    *is_ours = at >= low && at < high;
    uintptr_t to = *is_ours ? high : at < low ? low : end;
    return to < end ? to : end;
}

static bool touches_space(const void *memory, size_t bytes)
{
    uintptr_t low = (uintptr_t)space.base, at = (uintptr_t)memory;
    bool is_possible = inside == 0 && space.base != NULL && bytes <= PTRDIFF_MAX;
    return is_possible && at < low + space.pages * PAGE && at + bytes > low;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE - 1) & ~(PAGE - 1);
}

/* ---- Mappings ---- */

static void *taken_mapping(void *hint, size_t bytes, int protection, int flags)
{
    const int others = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_HUGETLB | MAP_STACK | MAP_GROWSDOWN | MAP_LOCKED;
    const int known = MAP_TYPE | MAP_ANONYMOUS | MAP_32BIT | others;
    bool is_plain = (flags & known) == (MAP_PRIVATE | MAP_ANONYMOUS);
    bool is_usual = protection == PROT_NONE || protection == (PROT_READ | PROT_WRITE);
    if (atomic_load(&mode) == OFF || inside > 0 || !is_plain || !is_usual || bytes < options.least)
        return NULL;
    char *at = take(bytes, PAGE, hint);
    if (at != NULL && protection == PROT_NONE && mprotect(at, whole_pages(bytes), PROT_NONE) != 0) {
        give_back(page_of(at), page_of(at) + whole_pages(bytes) / PAGE);
        return NULL;
    }
    return at;
}

/* Replaces pages of the space by a mapping of another kind. */
static void *carve(char *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    size_t first = page_of(at), pages = bytes / PAGE;
    bool are_taken = true;
    /* The new mapping is made elsewhere first: if that fails, the pages stay as they are. */
    char *made = raw_mmap(NULL, bytes, protection, flags & ~MAP_FIXED, fd, offset), *moved = MAP_FAILED;
    if (made == MAP_FAILED)
        return MAP_FAILED;
    pthread_mutex_lock(&space.lock);
    for (size_t page = first; page < first + pages; page++)
        are_taken &= (space.state[page] & TAKEN) != 0;
    if (are_taken)
        memset(space.state + first, TAKEN | CARVED, pages);
    pthread_mutex_unlock(&space.lock);
    /* The pager does not expect that a part of a region is unmapped: it has nothing to evict there any more. */
    if (are_taken)
        drop(first, pages);
    errno = ENOMEM;
    /* `reserve` waits until a lent thread has read of it. Only then may something else be mapped there. */
    if (are_taken && reserve(first, pages))
        moved = (char *)syscall(SYS_mremap, made, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at);
    if (moved == MAP_FAILED)
        syscall(SYS_munmap, made, bytes);
    return moved;
}

static void *mapping_at(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    size_t first = page_of(at), end = first + bytes / PAGE;
    if (!is_of_space(at) || end > space.pages || (flags & MAP_FIXED_NOREPLACE) == MAP_FIXED_NOREPLACE) {
        errno = (flags & MAP_FIXED_NOREPLACE) == MAP_FIXED_NOREPLACE ? EEXIST : ENOMEM;
        return MAP_FAILED;
    }
    bool is_plain = (flags & MAP_TYPE) == MAP_PRIVATE && (flags & (MAP_ANONYMOUS | MAP_HUGETLB)) == MAP_ANONYMOUS;
    for (size_t page = first; is_plain && page < end; page++)
        is_plain = (space.state[page] & (TAKEN | CARVED)) == TAKEN;
    if (!is_plain)
        return carve(at, bytes, protection, flags, fd, offset);
    drop(first, end - first);
    return mprotect(at, bytes, protection) == 0 ? at : MAP_FAILED;
}

EXPORT void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0 && bytes > 0 && touches_space(at, bytes) &&
        (uintptr_t)at % PAGE == 0)
        return mapping_at(at, whole_pages(bytes), protection, flags, fd, offset);
    void *taken = taken_mapping(at, bytes, protection, flags);
    return taken != NULL ? taken : raw_mmap(at, bytes, protection, flags, fd, offset);
}

EXPORT void *mmap64(void *, size_t, int, int, int, off64_t) __attribute__((alias("mmap")));

EXPORT int munmap(void *memory, size_t bytes)
{
    if (!touches_space(memory, bytes) || (uintptr_t)memory % PAGE != 0 || bytes == 0)
        return (int)syscall(SYS_munmap, memory, bytes);
    uintptr_t end = (uintptr_t)memory + whole_pages(bytes);
    int result = 0;
    for (uintptr_t at = (uintptr_t)memory, to; at < end; at = to) {
        bool is_ours;
        to = part_of(at, end, &is_ours);
        if (is_ours)
            give_back(page_of((void *)at), page_of((void *)at) + (to - at) / PAGE);
        else
            result |= (int)syscall(SYS_munmap, at, to - at);
    }
    return result;
}

/* Moves pages by copying them, a few at a time, so that little more memory is in use meanwhile. */
static void move_pages(char *to, size_t from, size_t pages)
{
    const size_t step = 256;
    for (size_t page = 0; page < pages; page += step) {
        size_t count = pages - page < step ? pages - page : step;
        memcpy(to + page * PAGE, address_of(from + page), count * PAGE);
        drop(from + page, count);
    }
}

/* Changes the size of pages of the program's. Returns NULL if they have to move and may not, or there is no room. */
static char *resize(size_t first, size_t pages, size_t more, bool may_move)
{
    if (more <= pages) {
        give_back(first + more, first + pages);
        return address_of(first);
    }
    pthread_mutex_lock(&space.lock);
    bool grew = take_pages_at(first + pages, more - pages);
    pthread_mutex_unlock(&space.lock);
    if (grew)
        return address_of(first);
    char *at = may_move ? take(more * PAGE, PAGE, NULL) : NULL;
    if (at != NULL) {
        move_pages(at, first, pages);
        give_back(first, first + pages);
    }
    return at;
}

EXPORT void *mremap(void *memory, size_t bytes, size_t more, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *target = (flags & MREMAP_FIXED) != 0 ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    bool is_ours = touches_space(memory, whole_pages(bytes) + (bytes == 0));
    bool to_ours = target != NULL && touches_space(target, whole_pages(more));
    if (!is_ours && !to_ours)
        return (void *)syscall(SYS_mremap, memory, bytes, more, flags, target);
    if (bytes > space.pages * PAGE || more > space.pages * PAGE) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    size_t first = page_of(memory), pages = whole_pages(bytes) / PAGE;
    bool is_plain = is_ours && is_of_space(memory) && bytes > 0 && more > 0 && first + pages <= space.pages;
    for (size_t page = first; is_plain && page < first + pages; page++)
        is_plain = (space.state[page] & (TAKEN | CARVED | PROTECTED)) == TAKEN;
    if (!is_plain || (flags & ~MREMAP_MAYMOVE) != 0) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    char *at = resize(first, pages, whole_pages(more) / PAGE, (flags & MREMAP_MAYMOVE) != 0);
    if (at == NULL)
        errno = ENOMEM;
    return at == NULL ? MAP_FAILED : at;
}

static int advise(uintptr_t at, uintptr_t end, int advice)
{
    size_t first = page_of((void *)at), last = first + (end - at) / PAGE;
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE:
        for (size_t page = first, to; page < last; page = to) {
            to = alike(page, last, TAKEN | CARVED);
            if ((space.state[page] & CARVED) != 0)
                syscall(SYS_madvise, address_of(page), (to - page) * PAGE, advice);
            else if ((space.state[page] & TAKEN) != 0)
                drop(page, to - page);
        }
        return 0;
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_DONTFORK:
        return 0; /* Advice that the pager does not need. Children do not get regions anyway. */
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
        return (int)syscall(SYS_madvise, at, end - at, advice);
    default: /* Among them MADV_MERGEABLE, which would hide writes, and MADV_WIPEONFORK. */
        errno = EINVAL;
        return -1;
    }
}

EXPORT int madvise(void *memory, size_t bytes, int advice)
{
    if (!touches_space(memory, bytes) || (uintptr_t)memory % PAGE != 0)
        return (int)syscall(SYS_madvise, memory, bytes, advice);
    uintptr_t end = (uintptr_t)memory + whole_pages(bytes);
    int result = 0;
    for (uintptr_t at = (uintptr_t)memory, to; at < end; at = to) {
        bool is_ours;
        to = part_of(at, end, &is_ours);
        result |= is_ours ? advise(at, to, advice) : (int)syscall(SYS_madvise, at, to - at, advice);
    }
    return result;
}

EXPORT int mprotect(void *memory, size_t bytes, int protection)
{
    if (!touches_space(memory, bytes))
        return (int)syscall(SYS_mprotect, memory, bytes, protection);
    bool is_usual = protection == (PROT_READ | PROT_WRITE);
    uintptr_t end = (uintptr_t)memory + whole_pages(bytes);
    pthread_mutex_lock(&space.lock); /* A fork needs to know the protection of all pages. */
    int result = (int)syscall(SYS_mprotect, memory, bytes, protection);
    for (uintptr_t at = (uintptr_t)memory; result == 0 && at < end; at += PAGE) {
        if (!is_of_space((void *)at))
            continue;
        size_t page = page_of((void *)at);
        space.state[page] = (unsigned char)((space.state[page] & ~PROTECTED) | (is_usual ? 0 : PROTECTED));
        space.protection[page] = (unsigned char)protection;
    }
    pthread_mutex_unlock(&space.lock);
    return result;
}

EXPORT int mlockall(int flags)
{
    if (atomic_load(&mode) == OFF)
        return (int)syscall(SYS_mlockall, flags);
    say("zspreload: mlockall() is refused: no memory could leave");
    errno = EPERM;
    return -1;
}

/* ---- Descriptors: a program that closes all that it does not know would lose pages ---- */

EXPORT int close(int descriptor)
{
    if (inside == 0 && descriptor >= 0 && descriptor < DESCRIPTORS && is_of_pager[descriptor]) {
        errno = EBADF;
        return -1;
    }
    return (int)syscall(SYS_close, descriptor);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    /* Its descriptors are closed on exec anyway. */
    for (unsigned own = first; (flags & CLOSE_RANGE_CLOEXEC) == 0 && own < DESCRIPTORS && own <= last; own++) {
        if (!is_of_pager[own])
            continue;
        if (own > first && syscall(SYS_close_range, first, own - 1, flags) != 0)
            return -1;
        first = own + 1;
    }
    return first > last ? 0 : (int)syscall(SYS_close_range, first, last, flags);
}

EXPORT void closefrom(int first)
{
    close_range(first < 0 ? 0 : (unsigned)first, ~0U, 0);
}

/* ---- malloc() ---- */

/* Finds the functions that the program would have without this object. They may allocate meanwhile. */
static void find_next(void)
{
    inside++;
    next.malloc = dlsym(RTLD_NEXT, "malloc");
    next.calloc = dlsym(RTLD_NEXT, "calloc");
    next.realloc = dlsym(RTLD_NEXT, "realloc");
    next.memalign = dlsym(RTLD_NEXT, "memalign");
    next.usable = dlsym(RTLD_NEXT, "malloc_usable_size");
    next.fork = dlsym(RTLD_NEXT, "fork");
    next.daemon = dlsym(RTLD_NEXT, "daemon");
    next.forkpty = dlsym(RTLD_NEXT, "forkpty");
    next.free = dlsym(RTLD_NEXT, "free");
    inside--;
}

static bool is_inside(void)
{
    if (__builtin_expect(inside == 0 && next.free == NULL, 0))
        find_next();
    return inside > 0;
}

/* Returns a block under the pager if it is to be there, or NULL. */
static void *taken_block(size_t bytes, size_t alignment)
{
    if (bytes < options.least || !takes_malloc || atomic_load(&mode) == OFF || bytes > PTRDIFF_MAX)
        return NULL;
    char *block = take(bytes, alignment, NULL);
    if (block != NULL) {
        space.block[page_of(block)] = (uint32_t)(whole_pages(bytes) / PAGE);
        space.state[page_of(block)] |= BLOCK;
    }
    return block;
}

static bool is_taken_block(const void *block)
{
    return is_of_space(block) && (uintptr_t)block % PAGE == 0 && (space.state[page_of(block)] & BLOCK) != 0;
}

static void give_back_block(void *block)
{
    int was = errno;
    size_t first = page_of(block);
    space.state[first] &= (unsigned char)~BLOCK;
    give_back(first, first + space.block[first]);
    errno = was;
}

EXPORT void *malloc(size_t bytes)
{
    if (is_inside())
        return heap_alloc(bytes, 16);
    void *block = taken_block(bytes, 16);
    return block != NULL ? block : next.malloc(bytes);
}

EXPORT void free(void *block)
{
    if (block == NULL)
        return;
    if (is_of_heap(block))
        heap_free(block);
    else if (is_taken_block(block))
        give_back_block(block);
    else if (next.free != NULL)
        next.free(block);
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    if (is_inside()) {
        void *block = heap_alloc(bytes, 16);
        return block == NULL ? NULL : memset(block, 0, bytes);
    }
    void *block = taken_block(bytes, 16); /* All zeros. */
    return block != NULL ? block : next.calloc(count, size);
}

EXPORT size_t malloc_usable_size(void *block)
{
    if (is_of_heap(block))
        return heap_size(block);
    if (is_taken_block(block))
        return space.block[page_of(block)] * PAGE;
    is_inside();
    return next.usable == NULL ? 0 : next.usable(block);
}

static void *resized_block(void *block, size_t bytes)
{
    size_t first = page_of(block), pages = whole_pages(bytes) / PAGE;
    space.state[first] &= (unsigned char)~BLOCK;
    char *at = resize(first, space.block[first], pages, true);
    if (at == NULL) {
        space.state[first] |= BLOCK;
        errno = ENOMEM;
        return NULL;
    }
    space.block[page_of(at)] = (uint32_t)pages;
    space.state[page_of(at)] |= BLOCK;
    return at;
}

EXPORT void *realloc(void *block, size_t bytes)
{
    if (block == NULL)
        return malloc(bytes);
    if (bytes > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    bool of_heap = is_of_heap(block), taken = is_taken_block(block);
    if (taken && bytes >= options.least)
        return resized_block(block, bytes);
    if (!taken && !of_heap && !is_inside() && (bytes < options.least || !takes_malloc))
        return next.realloc(block, bytes);
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    size_t had = malloc_usable_size(block);
    void *other = malloc(bytes);
    if (other != NULL) {
        memcpy(other, block, had < bytes ? had : bytes);
        free(block);
    }
    return other;
}

EXPORT void *memalign(size_t alignment, size_t bytes)
{
    if (is_inside())
        return heap_alloc(bytes, alignment);
    void *block = taken_block(bytes, alignment);
    return block != NULL ? block : next.memalign(alignment, bytes);
}

EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

EXPORT int posix_memalign(void **block, size_t alignment, size_t bytes)
{
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    int was = errno;
    void *aligned = memalign(alignment, bytes);
    errno = was;
    if (aligned == NULL)
        return ENOMEM;
    *block = aligned;
    return 0;
}

EXPORT void *valloc(size_t bytes)
{
    return memalign(PAGE, bytes);
}

EXPORT void *pvalloc(size_t bytes)
{
    if (bytes > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return memalign(PAGE, whole_pages(bytes));
}

/* ---- fork() ---- */

/* Returns the statistics as JSON, or NULL. The caller unmaps the text, which is in a mapping of *bytes bytes. */
static char *stats_text(size_t *bytes, size_t *length)
{
    *bytes = (12 + 4 * (REGIONS + 1)) << 10;
    char *text = raw_zeros(*bytes, PROT_READ | PROT_WRITE);
    inside++;
    if (text != NULL && zspager_stats_json(pager, text, *bytes, length) != 0) {
        say("zspreload: no statistics: %s", zs_last_error());
        syscall(SYS_munmap, text, *bytes);
        text = NULL;
    }
    inside--;
    return text;
}

/* Returns how many bytes would be in memory if all pages were. */
static uint64_t all_bytes(void)
{
    static const char *const kinds[] = {"compressed_pages", "raw_pages", "filled_pages", "file_pages"};
    struct zspager_stats stats = {.struct_size = sizeof stats};
    size_t bytes, length;
    char *text = stats_text(&bytes, &length), name[32];
    uint64_t pages = 0;
    if (text == NULL)
        return UINT64_MAX;
    inside++;
    bool known = zspager_stats(pager, &stats) == 0;
    inside--;
    const char *zswap = strstr(text, "\"zswap\":");
    for (size_t kind = 0; zswap != NULL && kind < sizeof kinds / sizeof *kinds; kind++) {
        snprintf(name, sizeof name, "\"%s\":", kinds[kind]);
        const char *found = strstr(zswap, name);
        if (found != NULL)
            pages += strtoull(found + strlen(name), NULL, 10);
    }
    syscall(SYS_munmap, text, bytes);
    return known ? stats.resident_bytes + pages * PAGE : UINT64_MAX;
}

static bool may_fork(void)
{
    static atomic_flag was_said = ATOMIC_FLAG_INIT, stack_was_said = ATOMIC_FLAG_INIT;
    if (atomic_load(&mode) != ON)
        return true;
    if (is_of_space(__builtin_frame_address(0))) {
        if (!atomic_flag_test_and_set(&stack_was_said))
            say("zspreload: fork() is refused with ENOMEM: the stack of the calling thread is in large memory");
    } else if (options.fork == FORK_COPY || (options.fork == FORK_AUTO && all_bytes() <= options.limit)) {
        return true;
    } else if (!atomic_flag_test_and_set(&was_said)) {
        say("zspreload: fork() is refused with ENOMEM: a child needs all memory uncompressed, which %s;"
            " ZSALLOC_FORK=copy allows it",
            options.fork == FORK_REFUSE ? "ZSALLOC_FORK=refuse forbids" : "exceeds ZSALLOC_LIMIT");
    }
    errno = ENOMEM;
    return false;
}

static bool has_begun; /* Until then the handlers of fork() do nothing. */

/* Brings everything back, so that the child gets it. The locks stay taken until the fork is done. */
static void before_fork(void)
{
    if (!has_begun)
        return;
    pthread_mutex_lock(&space.lock);
    pthread_rwlock_wrlock(&regions_lock);
    inside++;
    for (size_t region = 0; atomic_load(&mode) == ON && region < region_count; region++)
        if (zspager_remove_region(pager, regions[region].number, 0) != 0)
            FAIL("memory can't be brought back for a fork: %s", zs_last_error());
    pthread_mutex_lock(&heap.lock);
}

static void after_fork_in_parent(void)
{
    if (!has_begun)
        return;
    pthread_mutex_unlock(&heap.lock);
    if (atomic_load(&mode) == ON) {
        region_count = 0;
        add_regions();
    }
    inside--;
    pthread_rwlock_unlock(&regions_lock);
    pthread_mutex_unlock(&space.lock);
}

static void after_fork_in_child(void)
{
    if (!has_begun)
        return;
    pthread_mutex_init(&heap.lock, NULL);
    if (atomic_load(&mode) == ON) {
        zspager_destroy(pager);
        pager = NULL;
        memset(is_of_pager, 0, sizeof is_of_pager);
        region_count = 0;
        atomic_store(&mode, LAZY);
    }
    inside--;
    pthread_rwlock_init(&regions_lock, NULL);
    pthread_mutex_init(&space.lock, NULL);
}

typedef int register_function(void (*)(void), void (*)(void), void (*)(void), void *);

/* Registers the handlers before all others: then those of others, which may need memory, run while no lock of this
 * object is held, and an allocator's locks are always taken before them. */
static register_function *register_first(void)
{
    static register_function *next_register;
    if (next_register == NULL) {
        inside++;
        next_register = (register_function *)dlsym(RTLD_NEXT, "__register_atfork");
        inside--;
        next_register(before_fork, after_fork_in_parent, after_fork_in_child, NULL);
    }
    return next_register;
}

/* glibc's pthread_atfork() in each object calls this. */
EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object)
{
    return register_first()(prepare, parent, child, object);
}

EXPORT pid_t fork(void)
{
    is_inside();
    return may_fork() ? next.fork() : -1;
}

EXPORT int daemon(int stay, int keep)
{
    is_inside();
    return may_fork() ? next.daemon(stay, keep) : -1;
}

/* Before glibc 2.34 this is in libutil, which a program may load after the shim has looked. */
EXPORT int forkpty(int *master, char *name, const struct termios *terminal, const struct winsize *size)
{
    is_inside();
    if (next.forkpty == NULL)
        next.forkpty = dlsym(RTLD_NEXT, "forkpty");
    if (next.forkpty == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return may_fork() ? next.forkpty(master, name, terminal, size) : -1;
}

/* ---- Beginning and end ---- */

static uint64_t size_option(const char *name, uint64_t otherwise, uint64_t least, uint64_t most)
{
    const char *text = getenv(name);
    if (text == NULL || *text == '\0')
        return otherwise;
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    const char *units = "KMGT", *unit = *end == '\0' ? NULL : strchr(units, *end);
    int shift = unit == NULL ? 0 : 10 * (int)(unit - units + 1);
    if (end == text || *text == '-' || (*end != '\0' && (unit == NULL || end[1] != '\0')) ||
        number > UINT64_MAX >> shift || number << shift < least || number << shift > most)
        FAIL("%s is %s: it can be a number from %llu to %llu, with K, M, G or T after it", name, text,
             (unsigned long long)least, (unsigned long long)most);
    return number << shift;
}

/* Returns which of some words an option is, the first if it is not set. */
static uint32_t word_option(const char *name, const char *const words[3])
{
    const char *text = getenv(name);
    if (text == NULL || *text == '\0')
        return 0;
    for (uint32_t word = 0; word < 3; word++)
        if (strcmp(text, words[word]) == 0)
            return word;
    FAIL("%s is %s: it can be %s, %s or %s", name, text, words[0], words[1], words[2]);
    return 0;
}

static void read_options(void)
{
    static const char *const codecs[] = {"lz4", "zstd", "raw"}, *const forks[] = {"auto", "refuse", "copy"};
    static const uint32_t codec_numbers[] = {ZSWAP_CODEC_LZ4, ZSWAP_CODEC_ZSTD, ZSWAP_CODEC_RAW};
    const uint64_t tib = (uint64_t)1 << 40;
    options.limit = size_option("ZSALLOC_LIMIT", 0, 1 << 20, 16 * tib);
    options.pool_limit = size_option("ZSALLOC_POOL_LIMIT", 0, 1 << 20, 16 * tib);
    options.least = size_option("ZSALLOC_MIN", options.least, PAGE, tib);
    options.space = size_option("ZSALLOC_SPACE", options.space, (uint64_t)1 << 30, 16 * tib);
    options.threads = (uint32_t)size_option("ZSALLOC_THREADS", options.threads, 1, MOST_THREADS);
    options.codec = codec_numbers[word_option("ZSALLOC_CODEC", codecs)];
    options.fork = word_option("ZSALLOC_FORK", forks);
    const char *stats = getenv("ZSALLOC_STATS");
    if (stats != NULL && snprintf(options.stats, sizeof options.stats, "%s", stats) >= (int)sizeof options.stats)
        FAIL("ZSALLOC_STATS is too long");
}

/* Whether two functions are in the same shared object. */
static bool are_together(void *function, void *other)
{
    Dl_info one, two;
    return dladdr(function, &one) != 0 && dladdr(other, &two) != 0 && one.dli_fbase == two.dli_fbase;
}

__attribute__((constructor)) static void begin(void)
{
    if (getenv("ZSALLOC_LIMIT") == NULL)
        return;
    read_options();
    is_inside();
    inside++;
    if (!are_together(dlsym(RTLD_DEFAULT, "malloc"), (void *)serve))
        FAIL("the program has a malloc() of its own, which would serve the pager too");
    if (!space_begin(options.space / PAGE))
        FAIL("no addresses: set a smaller ZSALLOC_SPACE, or raise the limit of addresses (ulimit -v)");
    /* Blocks of glibc's are in no mapping that is taken. */
    takes_malloc = are_together((void *)next.malloc, (void *)next.fork);
    register_first();
    if (!start())
        FAIL("%s", zs_last_error());
    has_begun = true;
    inside--;
}

/* Writes the statistics to the file that ZSALLOC_STATS names, with the number of the process for "%p". */
__attribute__((destructor)) static void end(void)
{
    size_t bytes, length;
    char name[sizeof options.stats + 16], *number = strstr(options.stats, "%p");
    if (options.stats[0] == '\0' || atomic_load(&mode) != ON)
        return;
    if (number == NULL)
        snprintf(name, sizeof name, "%s", options.stats);
    else
        snprintf(name, sizeof name, "%.*s%d%s", (int)(number - options.stats), options.stats, getpid(), number + 2);
    char *text = stats_text(&bytes, &length);
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (text == NULL || file < 0 || write(file, text, length) != (ssize_t)length)
        say("zspreload: %s can't be written", name);
    if (file >= 0)
        close(file);
}
