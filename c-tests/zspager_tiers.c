/* Pages of a pager's regions leave for tiers, and come back byte for byte. Tiers move, and wrong calls are refused. */
#include "pager.h"
#include "tier.h"
#include <unistd.h>

static struct zspager *pager;
static unsigned char *memory;
static uint64_t region;
static struct lent lent[2];
static size_t lent_count;
static struct shelf first, second;

static struct zswap_tier_stats tier_of(uint32_t tier)
{
    struct zswap_tier_stats stats = {.struct_size = sizeof stats};
    OK(zspager_tier_stats(pager, tier, &stats));
    CHECK(stats.tier == tier);
    return stats;
}

/* Lends threads, and waits until they have begun. */
static void lend_all(const uint32_t *duties, size_t count)
{
    lent_count = count;
    for (size_t i = 0; i < count; i++)
        lend(&lent[i], pager, duties[i]);
    while (pager_stats_of(pager).lent_threads < count)
        usleep(100);
}

static void begin(uint32_t fault_mode, const uint32_t *duties, size_t count)
{
    pager = pager_with(LIMIT, fault_mode, 0);
    memory = memory_of(ABOVE);
    lend_all(duties, count);
    region = region_of(pager, memory, ABOVE);
}

/* Brings all pages back. `tiers`: bit N for tier N, which is to be empty then. */
static void end(uint32_t tiers)
{
    uint64_t freed;
    OK(zspager_remove_region(pager, region, 0));
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(memory + page * PAGE, page));
    if (lent_count > 0)
        give_back(lent, lent_count);
    OK(zspager_compact(pager, NULL, &freed));
    for (uint32_t tier = 0; tier < ZSWAP_MAX_TIERS; tier++)
        if (tiers >> tier & 1) {
            struct zswap_tier_stats stats = tier_of(tier);
            CHECK(stats.pages == 0 && stats.extents == 0 && stats.bytes == 0);
            OK(zspager_remove_tier(pager, tier));
            RESULT(zspager_remove_tier(pager, tier), -ENOENT);
        }
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, ABOVE * PAGE) == 0);
}

static uint32_t add(struct shelf *shelf)
{
    uint32_t tier = 77;
    open_shelf(shelf);
    OK(zspager_add_tier(pager, &shelf_ops, shelf, NULL, &tier));
    return tier;
}

static uint32_t add_file(const char *name, uint64_t bytes)
{
    uint32_t tier = 77;
    int fd = memfd_create(name, MFD_CLOEXEC);
    CHECK(fd >= 0);
    OK(zspager_add_file_tier(pager, name, fd, bytes, &tier));
    CHECK(close(fd) == 0);
    return tier;
}

static void fill_all(void)
{
    for (size_t page = 0; page < ABOVE; page++)
        make_page(memory + page * PAGE, page);
}

static void check_all(void)
{
    /* First in order, then scattered. */
    for (size_t i = 0; i < 2 * ABOVE; i++) {
        size_t page = i < ABOVE ? i : i * 397 % ABOVE;
        CHECK(is_page(memory + page * PAGE, page));
    }
}

/* Lets all pages leave memory, and as many as can leave for a tier. */
static void leave(void)
{
    uint64_t written;
    evict_all(pager);
    int result = zspager_write_back(pager, ABOVE, &written);
    CHECK(result == 0 || result == -ENOENT);
}

/* A small pool: lent threads write to the tier, and touches read from it. */
static void round_trip(uint32_t fault_mode, const uint32_t *duties, size_t count)
{
    begin(fault_mode, duties, count);
    uint32_t tier = add(&first);
    CHECK(tier == 0);
    OK(zspager_set_pool_limit(pager, LIMIT / 4 * PAGE));
    fill_all();
    while (tier_of(tier).pages == 0)
        usleep(100);
    check_all();
    leave();
    struct zswap_tier_stats stats = tier_of(tier);
    CHECK(!stats.is_file && stats.pages > 0 && stats.extents == first.count && stats.puts >= first.count);
    CHECK(stats.page_bytes > 0 && stats.bytes >= stats.page_bytes && stats.put_bytes >= stats.page_bytes);
    CHECK(stats.away == 0 && stats.damaged == 0 && stats.full == 0 && stats.max_bytes == (uint64_t)1 << 40);
    for (size_t at = 0; at < first.count; at++)
        CHECK(first.kept[at].owner == stats.owner);
    check_all();
    CHECK(tier_of(tier).loads >= stats.loads + stats.pages && atomic_load(&first.gets) > 0);
    CHECK(pager_stats_of(pager).failed == 0 && pager_stats_of(pager).poisoned == 0);
    leave();
    end(1u << tier);
    CHECK(first.count == 0 && atomic_load(&first.removes) == atomic_load(&first.puts));
    close_shelf(&first);
}

/* While the tier is away, a touch that a lent thread serves waits, and gets the right page afterwards. */
static void *touch(void *argument)
{
    size_t page = *(size_t *)argument;
    CHECK(is_page(memory + page * PAGE, page));
    return NULL;
}

static void away(void)
{
    const uint32_t duties[] = {ZSPAGER_RUN_SERVE};
    size_t page = 9;
    pthread_t thread;
    begin(ZSPAGER_FAULT_THREADS, duties, 1);
    uint32_t tier = add(&first);
    fill_all();
    leave();
    CHECK(tier_of(tier).pages > 0);
    atomic_store(&first.get_fails, -EAGAIN);
    CHECK(pthread_create(&thread, NULL, touch, &page) == 0);
    while (tier_of(tier).away < 3)
        usleep(100);
    atomic_store(&first.get_fails, 0);
    CHECK(pthread_join(thread, NULL) == 0);
    check_all();
    CHECK(pager_stats_of(pager).poisoned == 0);
    end(1u << tier);
    close_shelf(&first);
}

/* A call on pages of a tier that is away fails after a while, and succeeds once the tier is back. */
static void away_in_a_call(void)
{
    const uint32_t duties[] = {ZSPAGER_RUN_TIERS};
    begin(ZSPAGER_FAULT_SIGBUS, duties, 1);
    uint32_t tier = add(&first);
    fill_all();
    leave();
    atomic_store(&first.get_fails, -ETIMEDOUT);
    RESULT(zspager_hold(pager, memory + 9 * PAGE, 4 * PAGE), -EAGAIN);
    atomic_store(&first.get_fails, 0);
    OK(zspager_hold(pager, memory + 9 * PAGE, 4 * PAGE));
    CHECK(is_page(memory + 10 * PAGE, 10));
    OK(zspager_release(pager, memory + 9 * PAGE, 4 * PAGE));
    check_all();
    end(1u << tier);
    close_shelf(&first);
}

/* The pager ends with pages on its tier and no lent thread: all of them come back first. */
static void end_without_threads(void)
{
    const uint32_t duties[] = {ZSPAGER_RUN_TIERS};
    begin(ZSPAGER_FAULT_SIGBUS, duties, 1);
    uint32_t tier = add(&first);
    fill_all();
    leave();
    CHECK(tier_of(tier).pages > 0);
    give_back(lent, lent_count);
    OK(zspager_destroy(pager));
    CHECK(first.count == 0);
    close_shelf(&first);
    check_all();
    CHECK(munmap(memory, ABOVE * PAGE) == 0);
}

/* A signal handler may not call a tier, so a thread that may has to be lent first. */
static void no_thread(void)
{
    const uint32_t others[] = {ZSPAGER_RUN_SERVE, ZSPAGER_RUN_EVICT};
    uint32_t tier = 77;
    begin(ZSPAGER_FAULT_SIGBUS, NULL, 0);
    open_shelf(&first);
    for (int i = 0; i < 2; i++) {
        RESULT(zspager_add_tier(pager, &shelf_ops, &first, NULL, &tier), -EINVAL);
        CHECK(strstr(zs_last_error(), "no thread is lent that may call the tier") != NULL && tier == 77);
        RESULT(zspager_tier_stats(pager, 0, &(struct zswap_tier_stats){.struct_size = sizeof(struct zswap_tier_stats)}),
               -ENOENT);
        if (i == 0)
            lend_all(others, 2);
    }
    fill_all();
    end(0);
    CHECK(atomic_load(&first.puts) == 0);
    /* Lent threads that serve touches call the tier themselves. They may be lent later. */
    pager = pager_with(LIMIT, ZSPAGER_FAULT_THREADS, 0);
    OK(zspager_add_tier(pager, &shelf_ops, &first, NULL, &tier));
    OK(zspager_remove_tier(pager, tier));
    OK(zspager_destroy(pager));
    close_shelf(&first);
}

/* Files are filled in order, with no thread lent. */
static void files(void)
{
    static char text[1 << 16];
    size_t length;
    begin(ZSPAGER_FAULT_SIGBUS, NULL, 0);
    uint32_t one = add_file("the first", 40 * 4096), two = add_file("the second", 16 * MIB);
    CHECK(one == 0 && two == 1);
    fill_all();
    leave();
    struct zswap_tier_stats of_one = tier_of(one), of_two = tier_of(two);
    CHECK(of_one.is_file && of_two.is_file && of_one.pages > 0 && of_two.pages > 0);
    CHECK(of_one.max_bytes == 40 * 4096 && of_one.bytes <= 40 * 4096 && of_one.full > 0 && of_two.full == 0);
    OK(zspager_stats_json(pager, text, sizeof text, &length));
    char *at = strstr(text, "\"tiers\":[{\"name\":\"the first\"");
    CHECK(at != NULL && strstr(at, "{\"name\":\"the second\"") != NULL && strstr(at, "\"is_file\":true") != NULL);
    OK(zspager_remove_tier(pager, one));
    CHECK(tier_of(two).pages == of_one.pages + of_two.pages);
    RESULT(zspager_remove_tier(pager, one), -ENOENT);
    /* There is no other tier for these pages. */
    RESULT(zspager_remove_tier(pager, two), -EBUSY);
    CHECK(tier_of(two).pages == of_one.pages + of_two.pages);
    check_all();
    CHECK(tier_of(two).loads > 0);
    end(1u << two);
}

/* The pages of a tier that is removed move to the other one. */
static void removal(void)
{
    const uint32_t duties[] = {ZSPAGER_RUN_TIERS};
    begin(ZSPAGER_FAULT_SIGBUS, duties, 1);
    uint32_t one = add(&first), two = add(&second);
    CHECK(one == 0 && two == 1);
    fill_all();
    leave();
    uint64_t pages = tier_of(one).pages;
    CHECK(pages > 0 && second.count == 0 && tier_of(two).pages == 0);
    atomic_store(&second.put_fails, -ENOSPC);
    RESULT(zspager_remove_tier(pager, one), -EBUSY);
    CHECK(tier_of(one).pages == pages && second.count == 0);
    atomic_store(&second.put_fails, 0);
    OK(zspager_remove_tier(pager, one));
    /* No function of the tier is called any more. */
    CHECK(first.count == 0);
    close_shelf(&first);
    CHECK(tier_of(two).pages == pages);
    RESULT(zspager_remove_tier(pager, one), -ENOENT);
    check_all();
    CHECK(atomic_load(&second.gets) > 0);
    end(1u << two);
    close_shelf(&second);
}

static void wrong_structs(void)
{
    struct zswap_tier_ops ops = shelf_ops;
    struct zswap_tier_options options = {.struct_size = sizeof options};
    struct zswap_tier_stats stats = {.struct_size = 4};
    uint32_t tier = 77, there = add_file("", MIB);
    for (size_t size = 0; size < sizeof ops; size += 7) {
        ops.struct_size = size <= 4 * sizeof(void *) ? size : sizeof ops + 8 * size;
        RESULT(zspager_add_tier(pager, &ops, &first, NULL, &tier), -EINVAL);
    }
    ops = shelf_ops, ops.put = NULL;
    RESULT(zspager_add_tier(pager, &ops, &first, NULL, &tier), -EINVAL);
    CHECK(strstr(zs_last_error(), "put") != NULL);
    ops = shelf_ops, ops.reserved[0] = 1;
    RESULT(zspager_add_tier(pager, &ops, &first, NULL, &tier), -EINVAL);
    options.struct_size = 3;
    RESULT(zspager_add_tier(pager, &shelf_ops, &first, &options, &tier), -EINVAL);
    options.struct_size = sizeof options, options.max_bytes = 4095;
    RESULT(zspager_add_tier(pager, &shelf_ops, &first, &options, &tier), -EINVAL);
    options.max_bytes = 0, options.name = "\xff";
    RESULT(zspager_add_tier(pager, &shelf_ops, &first, &options, &tier), -EINVAL);
    RESULT(zspager_add_file_tier(pager, "\xff", 0, MIB, &tier), -EINVAL);
    RESULT(zspager_add_file_tier(pager, "", -1, MIB, &tier), -EINVAL);
    RESULT(zspager_tier_stats(pager, there, &stats), -EINVAL);
    /* An older program's struct is shorter. */
    stats.struct_size = offsetof(struct zswap_tier_stats, owner), stats.owner = 77;
    OK(zspager_tier_stats(pager, there, &stats));
    CHECK(stats.owner == 77 && tier == 77);
    OK(zspager_remove_tier(pager, there));
}

static void wrong_numbers(void)
{
    struct zswap_tier_stats stats = {.struct_size = sizeof stats, .pages = 77};
    for (uint32_t tier = 0; tier < 70; tier += 7) {
        RESULT(zspager_remove_tier(pager, tier), -ENOENT);
        RESULT(zspager_tier_stats(pager, tier, &stats), -ENOENT);
    }
    RESULT(zspager_remove_tier(pager, UINT32_MAX), -ENOENT);
    CHECK(stats.pages == 77);
    uint32_t tier = 77, tiers[ZSWAP_MAX_TIERS];
    for (size_t i = 0; i < ZSWAP_MAX_TIERS; i++)
        tiers[i] = add_file("one of many", MIB);
    RESULT(zspager_add_tier(pager, &shelf_ops, &first, NULL, &tier), -EBUSY);
    for (size_t i = 0; i < ZSWAP_MAX_TIERS; i++)
        OK(zspager_remove_tier(pager, tiers[i]));
    CHECK(tier == 77);
}

static void misuse(void)
{
    const uint32_t duties[] = {ZSPAGER_RUN_ALL};
    begin(ZSPAGER_FAULT_SIGBUS, duties, 1);
    open_shelf(&first);
    wrong_structs();
    wrong_numbers();
    CHECK(atomic_load(&first.puts) == 0);
    fill_all();
    end(0);
    close_shelf(&first);
}

int main(void)
{
    const uint32_t tiers[] = {ZSPAGER_RUN_TIERS}, all[] = {ZSPAGER_RUN_ALL, ZSPAGER_RUN_ALL},
                   both[] = {ZSPAGER_RUN_SERVE, ZSPAGER_RUN_EVICT};
    round_trip(ZSPAGER_FAULT_SIGBUS, tiers, 1);
    round_trip(ZSPAGER_FAULT_SIGBUS, all, 1);
    round_trip(ZSPAGER_FAULT_THREADS, all, 2);
    round_trip(ZSPAGER_FAULT_THREADS, both, 2);
    away();
    away_in_a_call();
    end_without_threads();
    no_thread();
    files();
    removal();
    misuse();
    puts("zspager_tiers: ok");
    return 0;
}
