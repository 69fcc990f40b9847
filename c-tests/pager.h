/* Shared by the tests of the pager: memory, pagers, and threads lent to them. */
#ifndef PAGER_H
#define PAGER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define ZSALLOC_UFFD
#include "pages.h"
#include <pthread.h>
#include <sys/mman.h>

enum { LIMIT = 256, ABOVE = 4 * LIMIT };

static inline unsigned char *memory_of(size_t pages)
{
    void *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* Creates a pager with a resident limit of `pages` pages. */
static inline struct zspager *pager_with(uint64_t pages, uint32_t fault_mode, uint32_t eviction)
{
    struct zs_pool_options pool = {.struct_size = sizeof pool, .max_bytes = 256 * MIB};
    struct zswap_tuning zswap = {.struct_size = sizeof zswap, .pool = &pool};
    struct zspager_tuning tuning = {.struct_size = sizeof tuning, .zswap = &zswap};
    struct zspager_options options = {.struct_size = sizeof options, .resident_bytes = pages * PAGE,
                                      .fault_mode = fault_mode, .eviction = eviction, .tuning = &tuning};
    struct zspager *pager = NULL;
    int result = zspager_create("test", &options, &pager);
    if (result != 0)
        fprintf(stderr, "zspager_create: %s\n", zs_last_error());
    OK(result);
    CHECK(pager != NULL);
    return pager;
}

static inline uint64_t region_of(struct zspager *pager, void *memory, size_t pages)
{
    uint64_t region = 0;
    OK(zspager_add_region(pager, memory, pages * PAGE, NULL, &region));
    CHECK(region != 0);
    return region;
}

static inline struct zspager_stats pager_stats_of(struct zspager *pager)
{
    struct zspager_stats stats = {.struct_size = sizeof stats};
    OK(zspager_stats(pager, &stats));
    return stats;
}

/* Evicts as many pages as can leave. */
static inline void evict_all(struct zspager *pager)
{
    uint64_t evicted;
    while (zspager_evict(pager, ABOVE, &evicted) == 0 && evicted > 0)
        continue;
}

/* A thread lent to a pager. */
struct lent {
    pthread_t thread;
    struct zspager *pager;
    uint32_t duty;
};

static inline void *run_lent(void *argument)
{
    struct lent *lent = argument;
    OK(zspager_run(lent->pager, lent->duty));
    return NULL;
}

static inline void lend(struct lent *lent, struct zspager *pager, uint32_t duty)
{
    lent->pager = pager;
    lent->duty = duty;
    CHECK(pthread_create(&lent->thread, NULL, run_lent, lent) == 0);
}

/* Stops the pager and joins all lent threads. */
static inline void give_back(struct lent *lent, size_t count)
{
    OK(zspager_stop(lent[0].pager));
    for (size_t i = 0; i < count; i++)
        CHECK(pthread_join(lent[i].thread, NULL) == 0);
    OK(zspager_resume(lent[0].pager));
}

#endif
