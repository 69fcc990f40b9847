/* Tiers of a pager: pages go there and come back, in both fault modes, and no failure loses one. */
#include "pager.h"
#include "tier.h"

static struct shelf shelf;
static unsigned char *memory;

static uint32_t add_to(struct zspager *pager)
{
    uint32_t tier = 77;
    open_shelf(&shelf);
    OK(zspager_add_tier(pager, &shelf_ops, &shelf, NULL, &tier));
    return tier;
}

static struct zswap_tier_stats tier_of(struct zspager *pager, uint32_t tier)
{
    struct zswap_tier_stats stats = {.struct_size = sizeof stats};
    OK(zspager_tier_stats(pager, tier, &stats));
    CHECK(stats.tier == tier);
    return stats;
}

static void misuse(void)
{
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE);
    struct zswap_tier_stats stats = {.struct_size = sizeof stats};
    uint32_t tier = 77;
    RESULT(zspager_add_tier(NULL, &shelf_ops, &shelf, NULL, &tier), -EINVAL);
    RESULT(zspager_add_tier(pager, NULL, &shelf, NULL, &tier), -EINVAL);
    RESULT(zspager_add_tier(pager, &shelf_ops, &shelf, NULL, NULL), -EINVAL);
    RESULT(zspager_add_file_tier(pager, "none", -1, 64 * PAGE, &tier), -EINVAL);
    RESULT(zspager_remove_tier(NULL, 0), -EINVAL);
    RESULT(zspager_remove_tier(pager, 0), -ENOENT);
    RESULT(zspager_tier_stats(pager, 0, &stats), -ENOENT);
    RESULT(zspager_tier_stats(pager, 0, NULL), -EINVAL);
    RESULT(zspager_run(pager, ZSPAGER_RUN_TIERS + 1), -EINVAL);
    /* No lent thread may call the tier. */
    struct lent lent[2];
    lend(&lent[0], pager, ZSPAGER_RUN_SERVE);
    lend(&lent[1], pager, ZSPAGER_RUN_EVICT);
    RESULT(zspager_add_tier(pager, &shelf_ops, &shelf, NULL, &tier), -EINVAL);
    CHECK(strstr(zs_last_error(), "duty Tiers") != NULL && tier == 77);
    give_back(lent, 2);
    OK(zspager_destroy(pager));
}

static void make_all(size_t round)
{
    for (size_t i = 0; i < ABOVE; i++)
        make_page(memory + i * PAGE, i + round);
}

static void check_all(size_t round)
{
    for (size_t i = 0; i < ABOVE; i++) {
        size_t at = i * 397 % ABOVE;
        CHECK(is_page(memory + at * PAGE, at + round));
    }
}

/* Fills and checks memory whose pages do not fit into the pool, and moves them from the tier to a file. */
static void round_trip(uint32_t mode, uint32_t eviction, uint32_t duty)
{
    struct zspager *pager = pager_with(LIMIT / 4, mode, eviction);
    struct lent lent[2];
    /* The call that adds the tier waits for the thread to begin. */
    lend(&lent[0], pager, duty);
    lend(&lent[1], pager, ZSPAGER_RUN_ALL);
    uint32_t tier = add_to(pager), file_tier = 77;
    OK(zspager_set_pool_limit(pager, LIMIT / 4 * PAGE));
    memory = memory_of(ABOVE);
    region_of(pager, memory, ABOVE);
    for (size_t round = 0; round < 2; round++) {
        make_all(round);
        check_all(round);
    }
    struct zswap_tier_stats stats = tier_of(pager, tier);
    CHECK(stats.pages > 0 && stats.loads > 0 && !stats.is_file && atomic_load(&shelf.gets) > 0);

    /* A tier that is away fails a call after a while. A page that it has is there when it is back. */
    evict_all(pager);
    uint64_t written = 0;
    while (zspager_write_back(pager, ABOVE, &written) == 0)
        continue;
    atomic_store(&shelf.get_fails, -ETIMEDOUT);
    RESULT(zspager_hold(pager, memory, PAGE), -EAGAIN);
    atomic_store(&shelf.get_fails, 0);
    OK(zspager_hold(pager, memory, PAGE));
    CHECK(is_page(memory, 1));
    OK(zspager_release(pager, memory, PAGE));

    /* No other tier has room for the pages, until there is one. */
    RESULT(zspager_remove_tier(pager, tier), -EBUSY);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    OK(zspager_add_file_tier(pager, "file", fileno(file), (uint64_t)ABOVE * 2 * PAGE, &file_tier));
    OK(zspager_remove_tier(pager, tier));
    close_shelf(&shelf);
    RESULT(zspager_remove_tier(pager, tier), -ENOENT);
    CHECK(file_tier != tier && tier_of(pager, file_tier).is_file && tier_of(pager, file_tier).pages > 0);
    check_all(1);
    give_back(lent, 2);
    OK(zspager_destroy(pager));
    CHECK(fclose(file) == 0 && munmap(memory, (size_t)ABOVE * PAGE) == 0);
}

/* The pager ends with pages on its tier and no lent thread: all of them come back first. */
static void end_without_threads(void)
{
    struct zspager *pager = pager_with(LIMIT / 4, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE);
    struct lent lent;
    lend(&lent, pager, ZSPAGER_RUN_TIERS);
    uint32_t tier = add_to(pager);
    OK(zspager_set_pool_limit(pager, LIMIT / 4 * PAGE));
    memory = memory_of(ABOVE);
    region_of(pager, memory, ABOVE);
    make_all(0);
    CHECK(tier_of(pager, tier).pages > 0);
    give_back(&lent, 1);
    OK(zspager_destroy(pager));
    CHECK(shelf.count == 0);
    close_shelf(&shelf);
    check_all(0);
    CHECK(munmap(memory, (size_t)ABOVE * PAGE) == 0);
}

int main(void)
{
    misuse();
    round_trip(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE, ZSPAGER_RUN_TIERS);
    round_trip(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING, ZSPAGER_RUN_ALL);
    round_trip(ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_IN_PLACE, ZSPAGER_RUN_SERVE);
    end_without_threads();
    return 0;
}
