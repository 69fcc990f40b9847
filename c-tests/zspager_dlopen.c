/*
 * A touch calls no allocator, whatever the thread has done before. This holds in a library loaded by dlopen() too,
 * whose thread-local variables are allocated at a thread's first access; and also if another thread brings the page
 * from a tier of the program's own. Arguments: the library; 1 if a touch that allocates is an error, and 0 in debug
 * builds, whose check of the lock order has such a variable.
 */
#define _GNU_SOURCE
#define ZSALLOC_UFFD
#include "by_name.h"
#include "pages.h"
#include "tier.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 4, OWN = 512, PAGES = THREADS * OWN, LIMIT = 64 };

static atomic_int counting;
static atomic_ulong calls;
/* Whether this is a lent thread, which calls the tier: that may allocate. */
static _Thread_local int is_lent;

/* Other names of the C library's own allocator. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void count(void)
{
    if (atomic_load(&counting) && !is_lent)
        atomic_fetch_add(&calls, 1);
}

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count();
    return __libc_realloc(old, size);
}

void *memalign(size_t align, size_t size)
{
    count();
    return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    count();
    return __libc_memalign(align, size);
}

int posix_memalign(void **new, size_t align, size_t size)
{
    count();
    *new = __libc_memalign(align, size);
    return *new == NULL ? ENOMEM : 0;
}

void free(void *old)
{
    if (old != NULL)
        count();
    __libc_free(old);
}

DECLARE(zspager_create)
DECLARE(zspager_destroy)
DECLARE(zspager_add_region)
DECLARE(zspager_remove_region)
DECLARE(zspager_set_backing_file)
DECLARE(zspager_add_tier)
DECLARE(zspager_run)
DECLARE(zspager_stop)
DECLARE(zspager_set_kept_copies)
DECLARE(zspager_stats)

static unsigned char *memory;
static pthread_barrier_t together;

/* Scatters the pages: neighbours would be loaded ahead. */
static size_t scattered(size_t at)
{
    return at / OWN * OWN + at * 37 % OWN;
}

/* Reads and writes evicted pages, for which others must be evicted, in a thread that never called the library. */
static void *touch(void *argument)
{
    size_t first = (size_t)(uintptr_t)argument * OWN;
    pthread_barrier_wait(&together);
    for (size_t at = first; at < first + OWN; at++)
        CHECK(is_page(memory + scattered(at) * PAGE, scattered(at)));
    for (size_t at = first; at < first + OWN; at++)
        make_page(memory + scattered(at) * PAGE, scattered(at) + 1);
    for (size_t at = first; at < first + OWN; at++)
        CHECK(is_page(memory + scattered(at) * PAGE, scattered(at) + 1));
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together);
    return NULL;
}

static void *call_tiers(void *pager)
{
    is_lent = 1;
    CHECK(the_zspager_run(pager, ZSPAGER_RUN_TIERS) == 0);
    return NULL;
}

static struct shelf shelf;
static pthread_t lent;

/* Creates a pager whose pool is so small that touches write pages back to a file, or have them written to a tier. */
static struct zspager *small_pager(int has_tier)
{
    struct zspager_options options = {.struct_size = sizeof options, .resident_bytes = LIMIT * PAGE,
                                      .pool_bytes = PAGES / 8 * PAGE, .fault_mode = ZSPAGER_FAULT_SIGBUS,
                                      .eviction = ZSPAGER_EVICT_MOVING};
    struct zspager *pager = NULL;
    CHECK(the_zspager_create("dlopen", &options, &pager) == 0);
    if (has_tier) {
        uint32_t tier;
        open_shelf(&shelf);
        CHECK(pthread_create(&lent, NULL, call_tiers, pager) == 0);
        CHECK(the_zspager_add_tier(pager, &shelf_ops, &shelf, NULL, &tier) == 0);
    } else {
        int file = memfd_create("backing", MFD_CLOEXEC);
        CHECK(file >= 0 && the_zspager_set_backing_file(pager, file, PAGES * PAGE) == 0 && close(file) == 0);
    }
    /* No copies are kept, so most touches remove a copy. */
    CHECK(the_zspager_set_kept_copies(pager, 0) == 0);
    return pager;
}

/* Counts how often touches call the allocator. */
static void watch(int has_tier, int strict)
{
    pthread_t threads[THREADS];
    uint64_t region = 0;
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(pthread_barrier_init(&together, NULL, THREADS + 1) == 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, touch, (void *)(uintptr_t)i) == 0);
    struct zspager *pager = small_pager(has_tier);
    CHECK(the_zspager_add_region(pager, memory, PAGES * PAGE, NULL, &region) == 0);
    atomic_store(&calls, 0);
    atomic_store(&counting, 1);
    /* This thread's touches count as well: they are the first that must evict. */
    for (size_t at = 0; at < PAGES; at++)
        make_page(memory + at * PAGE, at);
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together);
    atomic_store(&counting, 0);
    pthread_barrier_wait(&together);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    struct zspager_stats stats = {.struct_size = sizeof stats};
    CHECK(the_zspager_stats(pager, &stats) == 0);
    CHECK(stats.loads >= PAGES && stats.stored >= PAGES);
    CHECK(the_zspager_remove_region(pager, region, 0) == 0);
    if (has_tier) {
        CHECK(atomic_load(&shelf.gets) > 0 && the_zspager_stop(pager) == 0 && pthread_join(lent, NULL) == 0);
    }
    CHECK(the_zspager_destroy(pager) == 0);
    if (has_tier)
        close_shelf(&shelf);
    CHECK(munmap(memory, PAGES * PAGE) == 0);
    printf("zspager_dlopen: %lu calls of the allocator in %lu loads\n", (unsigned long)atomic_load(&calls),
           (unsigned long)stats.loads);
    CHECK(atomic_load(&calls) == 0 || !strict);
}

int main(int arguments, char **argument)
{
    CHECK(arguments == 3);
    void *library = dlopen(argument[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    FIND(zspager_create);
    FIND(zspager_destroy);
    FIND(zspager_add_region);
    FIND(zspager_remove_region);
    FIND(zspager_set_backing_file);
    FIND(zspager_add_tier);
    FIND(zspager_run);
    FIND(zspager_stop);
    FIND(zspager_set_kept_copies);
    FIND(zspager_stats);
    for (int has_tier = 0; has_tier < 2; has_tier++)
        watch(has_tier, strcmp(argument[2], "0") != 0);
    return 0;
}
