/* Compaction: memory goes back, bytes stay, and budgets hold. */
#include "check.h"

enum { COUNT = 6000 };

static zs_handle_t handles[COUNT];
static size_t sizes[COUNT];

static void fill_pool(struct zs_pool *pool, uint64_t seed)
{
    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = 1 + next_random(&seed) % ZS_MAX_ALLOC_SIZE;
        handles[i] = object_with(pool, sizes[i], i);
    }
}

static void free_but_one_in(struct zs_pool *pool, size_t kept)
{
    for (size_t i = 0; i < COUNT; i++)
        if (i % kept != 0)
            OK(zs_free(pool, handles[i]));
}

static void check_one_in(struct zs_pool *pool, size_t kept)
{
    for (size_t i = 0; i < COUNT; i += kept)
        check_object(pool, handles[i], sizes[i], i);
}

static void to_the_end(void)
{
    struct zs_pool *pool = pool_with(64 * MIB, 0);
    fill_pool(pool, 1);
    free_but_one_in(pool, 8);
    uint64_t before = total_pages(pool), pages = 0;
    OK(zs_compact(pool, NULL, &pages));
    struct zs_pool_stats stats = stats_of(pool);
    CHECK(pages > 0 && stats.total_pages + pages == before);
    CHECK(stats.pages_compacted == pages && stats.objects_moved > 0 && stats.warm_pages == 0);
    check_one_in(pool, 8);
    OK(zs_compact(pool, NULL, &pages));
    check_one_in(pool, 8);
    OK(zs_destroy_pool(pool));
}

/* Small budgets reach the same result, and each call keeps to its budget. */
static void in_steps(void)
{
    struct zs_pool *pool = pool_with(64 * MIB, 0);
    struct zs_compact_budget budget = {.struct_size = sizeof budget, .max_bytes_moved = 64 << 10};
    fill_pool(pool, 2);
    free_but_one_in(pool, 8);
    uint64_t pages = 0, sum = 0, moved = 0, before = total_pages(pool), steps = 0;
    do {
        OK(zs_compact(pool, &budget, &pages));
        uint64_t now = stats_of(pool).objects_moved;
        /* The most objects, of the smallest class, that 64 KiB can be. */
        CHECK(now - moved <= (64 << 10) / 16);
        CHECK(now > moved || steps > 0);
        sum += pages;
        if (now == moved)
            break;
        moved = now;
        check_one_in(pool, 8);
    } while (++steps < 10000);
    CHECK(steps > 5 && steps < 10000 && sum > 0 && total_pages(pool) + sum == before);
    OK(zs_destroy_pool(pool));
}

static void with_little_time(void)
{
    struct zs_pool *pool = pool_with(64 * MIB, 0);
    struct zs_compact_budget budget = {.struct_size = sizeof budget, .max_microseconds = 1};
    fill_pool(pool, 3);
    free_but_one_in(pool, 8);
    uint64_t pages = 0;
    for (int i = 0; i < 10; i++)
        OK(zs_compact(pool, &budget, &pages));
    check_one_in(pool, 8);
    /* A budget without a bound is the same as none. */
    budget.max_microseconds = 0;
    OK(zs_compact(pool, &budget, &pages));
    CHECK(stats_of(pool).warm_pages == 0);
    check_one_in(pool, 8);
    OK(zs_destroy_pool(pool));
}

/* At the limit nothing can be allocated, but compaction works. */
static void at_the_limit(void)
{
    struct zs_pool *pool = pool_with(4 * MIB, 0);
    uint64_t seed = 4, pages;
    size_t count = 0;
    for (; count < COUNT; count++) {
        zs_handle_t handle;
        sizes[count] = 1 + next_random(&seed) % ZS_MAX_ALLOC_SIZE;
        int result = zs_malloc(pool, sizes[count], &handle);
        if (result != 0) {
            CHECK(result == -ENOMEM);
            break;
        }
        handles[count] = handle;
    }
    CHECK(count < COUNT);
    for (size_t i = 0; i < count; i += 2)
        OK(zs_free(pool, handles[i]));
    OK(zs_compact(pool, NULL, &pages));
    CHECK(pages > 0);
    for (size_t i = 0; i < count / 4; i++)
        OK(zs_malloc(pool, sizes[i], &handles[i]));
    OK(zs_destroy_pool(pool));
}

int main(void)
{
    to_the_end();
    in_steps();
    with_little_time();
    at_the_limit();
    puts("compact: ok");
    return 0;
}
