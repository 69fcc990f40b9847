/*
 * A touch calls no allocator, whatever the thread has done before. This holds in a library loaded by dlopen() too,
 * whose thread-local variables are allocated at a thread's first access. Arguments: the library; 1 if a touch that
 * allocates is an error, and 0 in debug builds, whose check of the lock order has such a variable.
 */
#define _GNU_SOURCE
#define ZSALLOC_UFFD
#include "by_name.h"
#include "pages.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 4, OWN = 512, PAGES = THREADS * OWN, LIMIT = 64 };

static atomic_int counting;
static atomic_ulong calls;

/* Other names of the C library's own allocator. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void count(void)
{
    if (atomic_load(&counting))
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

/* Creates a pager whose pool is so small that touches write pages back. */
static struct zspager *small_pager(void)
{
    struct zspager_options options = {.struct_size = sizeof options, .resident_bytes = LIMIT * PAGE,
                                      .pool_bytes = PAGES / 8 * PAGE, .fault_mode = ZSPAGER_FAULT_SIGBUS,
                                      .eviction = ZSPAGER_EVICT_MOVING};
    struct zspager *pager = NULL;
    CHECK(the_zspager_create("dlopen", &options, &pager) == 0);
    int file = memfd_create("backing", MFD_CLOEXEC);
    CHECK(file >= 0 && the_zspager_set_backing_file(pager, file, PAGES * PAGE) == 0);
    /* No copies are kept, so most touches remove a copy. */
    CHECK(close(file) == 0 && the_zspager_set_kept_copies(pager, 0) == 0);
    return pager;
}

int main(int arguments, char **argument)
{
    pthread_t threads[THREADS];
    uint64_t region = 0;
    CHECK(arguments == 3);
    void *library = dlopen(argument[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    FIND(zspager_create);
    FIND(zspager_destroy);
    FIND(zspager_add_region);
    FIND(zspager_remove_region);
    FIND(zspager_set_backing_file);
    FIND(zspager_set_kept_copies);
    FIND(zspager_stats);
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(pthread_barrier_init(&together, NULL, THREADS + 1) == 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, touch, (void *)(uintptr_t)i) == 0);
    struct zspager *pager = small_pager();
    CHECK(the_zspager_add_region(pager, memory, PAGES * PAGE, NULL, &region) == 0);
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
    CHECK(the_zspager_remove_region(pager, region, 0) == 0 && the_zspager_destroy(pager) == 0);
    printf("zspager_dlopen: %lu calls of the allocator in %lu loads\n", (unsigned long)atomic_load(&calls),
           (unsigned long)stats.loads);
    CHECK(atomic_load(&calls) == 0 || strcmp(argument[2], "0") == 0);
    return 0;
}
