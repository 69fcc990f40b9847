/*
 * Several threads write, read and discard pages of their own, while others are lent and one changes the limit.
 * Arguments: rounds of each owner, seed.
 */
#include "pager.h"
#include <stdatomic.h>

enum { OWNERS = 4, OWN = ABOVE / OWNERS };

static struct zspager *pager;
static unsigned char *memory;
static uint64_t rounds = 5000;
static atomic_int working;

struct owner {
    pthread_t thread;
    size_t first;
    uint64_t random;
    uint64_t numbers[OWN]; /* 0: zeros. */
};

static void check_own(struct owner *owner, size_t at)
{
    static const unsigned char zeros[PAGE];
    unsigned char *page = memory + (owner->first + at) * PAGE;
    if (owner->numbers[at] == 0)
        CHECK(memcmp(page, zeros, PAGE) == 0);
    else
        CHECK(is_page(page, owner->numbers[at]));
}

static void *own(void *argument)
{
    struct owner *owner = argument;
    for (uint64_t round = 0; round < rounds; round++) {
        size_t at = next_random(&owner->random) % OWN;
        unsigned char *page = memory + (owner->first + at) * PAGE;
        switch (next_random(&owner->random) % 8) {
        case 0:
        case 1:
            owner->numbers[at] = 1 + next_random(&owner->random) % 100000;
            make_page(page, owner->numbers[at]);
            break;
        case 2:
            OK(zspager_discard(pager, page, PAGE));
            owner->numbers[at] = 0;
            break;
        default:
            check_own(owner, at);
        }
    }
    for (size_t at = 0; at < OWN; at++)
        check_own(owner, at);
    atomic_fetch_sub(&working, 1);
    return NULL;
}

/* Adds the memory as a region with these flags. */
static uint64_t region_with(uint32_t flags)
{
    struct zspager_region_options options = {.struct_size = sizeof options, .flags = 8};
    uint64_t region = 0;
    RESULT(zspager_add_region(pager, memory, ABOVE * PAGE, &options, &region), -EINVAL);
    options.flags = flags;
    OK(zspager_add_region(pager, memory, ABOVE * PAGE, &options, &region));
    return region;
}

static void together(uint32_t fault_mode, uint32_t eviction, uint32_t flags, uint64_t seed)
{
    struct lent lent[2];
    static struct owner owners[OWNERS];
    uint64_t random = seed;
    pager = pager_with(LIMIT, fault_mode, eviction);
    memory = memory_of(ABOVE);
    memset(owners, 0, sizeof owners);
    lend(&lent[0], pager, ZSPAGER_RUN_SERVE);
    lend(&lent[1], pager, fault_mode == ZSPAGER_FAULT_THREADS ? ZSPAGER_RUN_ALL : ZSPAGER_RUN_EVICT);
    uint64_t region = region_with(flags), number;
    atomic_store(&working, OWNERS);
    for (size_t i = 0; i < OWNERS; i++) {
        owners[i].first = i * OWN;
        owners[i].random = seed * 1000 + i;
        CHECK(pthread_create(&owners[i].thread, NULL, own, &owners[i]) == 0);
    }
    while (atomic_load(&working) > 0) {
        int result = zspager_set_resident_limit(pager, (LIMIT / 4 + next_random(&random) % LIMIT) * PAGE);
        CHECK(result == 0 || result == -EAGAIN);
        OK(zspager_compact(pager, NULL, &number));
        result = zspager_evict(pager, next_random(&random) % 64, &number);
        CHECK(result == 0 || result == -EAGAIN);
        CHECK(pager_stats_of(pager).regions == 1);
    }
    for (size_t i = 0; i < OWNERS; i++)
        CHECK(pthread_join(owners[i].thread, NULL) == 0);
    struct zspager_stats stats = pager_stats_of(pager);
    CHECK(stats.stored > 0 && stats.discarded > 0 && stats.poisoned == 0);
    printf("zspager_threads: %llu faults, %llu loads, %llu rescues, %llu stored\n", (unsigned long long)stats.faults,
           (unsigned long long)stats.loads, (unsigned long long)stats.rescues, (unsigned long long)stats.stored);
    OK(zspager_remove_region(pager, region, 0));
    for (size_t i = 0; i < OWNERS; i++)
        for (size_t at = 0; at < OWN; at++)
            check_own(&owners[i], at);
    give_back(lent, 2);
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, ABOVE * PAGE) == 0);
}

int main(int count, char **arguments)
{
    uint64_t seed = 1;
    if (count > 1)
        rounds = strtoull(arguments[1], NULL, 10);
    if (count > 2)
        seed = strtoull(arguments[2], NULL, 10);
    printf("zspager_threads: %d owners, %llu rounds, seed %llu\n", OWNERS, (unsigned long long)rounds,
           (unsigned long long)seed);
    fflush(stdout);
    together(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING, 0, seed);
    together(ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_MOVING, 0, seed);
    together(ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_MOVING, ZSPAGER_REGION_SETTLED, seed);
    together(ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_IN_PLACE, ZSPAGER_REGION_SETTLED, seed);
    puts("zspager_threads: ok");
    return 0;
}
