/* Tiers of the program's own: pages go there and come back, and no failure of a tier loses a page or returns a wrong
   one. Argument: a seed. */
#define _GNU_SOURCE
#include "pages.h"
#include "tier.h"
#include <sys/mman.h>
#include <sys/wait.h>

enum { PAGES = 400, POOL_PAGES = PAGES - PAGES / 8 };

static struct zswap *zswap;
static struct zswap_area *area;
static struct shelf first, second;

static void begin(void)
{
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
}

static void end(void)
{
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static void check_all(void)
{
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(area, i, i);
}

static void compact(void)
{
    uint64_t freed;
    OK(zswap_compact(zswap, NULL, &freed));
}

static uint64_t shrink(void)
{
    uint64_t written = 0;
    OK(zswap_shrink(zswap, PAGES, &written));
    return written;
}

/* Checks that the load of a page fails, and leaves the memory for it as it was. */
static void fails(struct zswap_area *of, uint64_t offset, int expected)
{
    unsigned char page[PAGE], before[PAGE];
    memset(before, 0xee, PAGE);
    memcpy(page, before, PAGE);
    RESULT(zswap_load(of, offset, page, 0), expected);
    CHECK(memcmp(page, before, PAGE) == 0);
}

/* Checks that all pages on tiers fail to load, and that the others load. */
static void all_fail(int expected)
{
    for (uint64_t i = 0; i < PAGES; i++)
        if (i % 8 == 0)
            check_page(area, i, i);
        else
            fails(area, i, expected);
}

static void check_empty(struct shelf *shelf, uint32_t tier)
{
    compact();
    struct zswap_tier_stats stats = tier_stats_of(zswap, tier);
    CHECK(shelf->count == 0 && stats.pages == 0 && stats.extents == 0 && stats.bytes == 0 && stats.page_bytes == 0);
}

static void round_trip(void)
{
    unsigned char page[PAGE];
    uint64_t nanoseconds = 0;
    begin();
    uint32_t tier = add_shelf(zswap, &first);
    CHECK(tier == 0 && shrink() == POOL_PAGES);
    struct zswap_tier_stats stats = tier_stats_of(zswap, tier);
    CHECK(!stats.is_file && stats.pages == POOL_PAGES && stats.extents == first.count && stats.puts == first.count);
    CHECK(stats.page_bytes > 0 && stats.bytes >= stats.page_bytes && stats.bytes % 4096 == 0);
    CHECK(stats.put_bytes >= stats.page_bytes && stats.memory_bytes > 0 && stats.max_bytes == (uint64_t)1 << 40);
    CHECK(stats.loads == 0 && stats.full == 0 && stats.away == 0 && stats.damaged == 0 && stats.moved == 0);
    for (size_t at = 0; at < first.count; at++)
        CHECK(first.kept[at].owner == stats.owner && first.kept[at].extent > 0);
    CHECK(zswap_stats_of(zswap).used_bytes == 0 && zswap_stats_of(zswap).counts.file_pages == POOL_PAGES);
    check_all();
    CHECK(atomic_load(&first.gets) > 0 && tier_stats_of(zswap, tier).loads == POOL_PAGES);
    OK(zswap_tier_latency_permille(zswap, tier, 1000, &nanoseconds));
    CHECK(nanoseconds > 0);
    /* A page that is loaded exclusively, or replaced, leaves the tier. */
    for (uint64_t i = 0; i < PAGES; i += 3) {
        OK(zswap_load(area, i, page, ZSWAP_LOAD_EXCLUSIVE));
        CHECK(is_page(page, i));
        OK(store_page(area, i, i));
        OK(store_page(area, (i + 1) % PAGES, (i + 1) % PAGES));
    }
    CHECK(tier_stats_of(zswap, tier).pages < POOL_PAGES);
    shrink();
    check_all();
    /* Every extent that was put is removed once its pages are gone. */
    OK(zswap_invalidate(area, 0, PAGES, 0));
    check_empty(&first, tier);
    CHECK(atomic_load(&first.removes) == atomic_load(&first.puts));
    OK(zswap_remove_tier(zswap, tier));
    close_shelf(&first);
    RESULT(zswap_remove_tier(zswap, tier), -ENOENT);
    end();
}

/* A tier without room(), and with fewer bytes than the pages have. */
static void limits(void)
{
    struct zswap_tier_ops ops = shelf_ops;
    struct zswap_tier_options options = {.struct_size = sizeof options, .max_bytes = 64 * 4096, .name = "small"};
    uint32_t tier = 77;
    begin();
    open_shelf(&first);
    ops.room = NULL;
    OK(zswap_add_tier(zswap, &ops, &first, &options, &tier));
    /* The struct was copied. */
    memset(&ops, 0xff, sizeof ops);
    CHECK(shrink() < POOL_PAGES);
    struct zswap_tier_stats stats = tier_stats_of(zswap, tier);
    CHECK(stats.pages > 0 && stats.max_bytes == 64 * 4096 && stats.bytes <= 64 * 4096 && stats.full > 0);
    CHECK(area_stats_of(area).counts.writeback_no_space > 0 && atomic_load(&first.rooms) == 0);
    check_all();
    OK(zswap_invalidate(area, 0, PAGES, 0));
    check_empty(&first, tier);
    end();
    close_shelf(&first);
}

/* The first tier gets what it takes, the second one gets the rest. */
static void order(void)
{
    begin();
    uint32_t one = add_shelf(zswap, &first), two = add_shelf(zswap, &second);
    CHECK(one == 0 && two == 1);
    atomic_store(&first.puts_left, 2);
    CHECK(shrink() == POOL_PAGES);
    struct zswap_tier_stats of_first = tier_stats_of(zswap, one), of_second = tier_stats_of(zswap, two);
    CHECK(first.count == 2 && second.count > 0 && of_first.full > 0 && of_second.full == 0);
    CHECK(of_first.owner != of_second.owner && of_first.pages > 0 && of_second.pages > 0);
    CHECK(of_first.pages + of_second.pages == POOL_PAGES);
    check_all();
    CHECK(tier_stats_of(zswap, one).loads == of_first.pages && tier_stats_of(zswap, two).loads == of_second.pages);
    /* What was refused is removed as well: a part may have arrived. */
    compact();
    CHECK(atomic_load(&first.removes) > 0 && atomic_load(&first.removes) == atomic_load(&first.puts) - 2);
    /* A tier that says that it has no room is not offered anything. */
    OK(zswap_invalidate(area, 0, PAGES, 0));
    check_empty(&first, one);
    check_empty(&second, two);
    atomic_store(&first.puts_left, INT32_MAX);
    atomic_store(&first.room, 1000);
    int puts = atomic_load(&first.puts);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
    CHECK(shrink() == POOL_PAGES && atomic_load(&first.puts) == puts && first.count == 0);
    CHECK(tier_stats_of(zswap, two).pages == POOL_PAGES);
    check_all();
    end();
    close_shelf(&first);
    close_shelf(&second);
}

static void fewer_tiers(void)
{
    struct zswap_area *only_second;
    uint64_t written;
    begin();
    uint32_t one = add_shelf(zswap, &first), two = add_shelf(zswap, &second);
    struct zswap_area_options options = {.struct_size = sizeof options, .tiers = 1u << two};
    OK(zswap_add_area(zswap, PAGES, &options, &only_second));
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(only_second, i, i));
    OK(zswap_shrink_area(only_second, PAGES, &written));
    CHECK(written == POOL_PAGES && first.count == 0 && tier_stats_of(zswap, two).pages == POOL_PAGES);
    OK(zswap_shrink_area(area, PAGES, &written));
    CHECK(written == POOL_PAGES && tier_stats_of(zswap, one).pages == POOL_PAGES);
    /* A tier that is not there takes nothing. */
    OK(zswap_area_set_tiers(only_second, 1u << 5));
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(only_second, i, i));
    RESULT(zswap_shrink_area(only_second, PAGES, &written), -EAGAIN);
    OK(zswap_area_set_tiers(only_second, 1u << one));
    OK(zswap_shrink_area(only_second, PAGES, &written));
    CHECK(written == POOL_PAGES && tier_stats_of(zswap, one).pages == 2 * POOL_PAGES);
    OK(zswap_area_set_tiers(only_second, 0));
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(only_second, i, i);
    check_all();
    OK(zswap_remove_area(only_second));
    end();
    close_shelf(&first);
    close_shelf(&second);
}

/* While get() returns an error number, pages on the tier can't be loaded. They can be afterwards. */
static void get_fails(int number, int expected)
{
    begin();
    uint32_t tier = add_shelf(zswap, &first);
    CHECK(shrink() == POOL_PAGES);
    atomic_store(&first.get_fails, number);
    all_fail(expected);
    struct zswap_tier_stats stats = tier_stats_of(zswap, tier);
    CHECK(stats.pages == POOL_PAGES && (expected == -EIO ? stats.damaged : stats.away) >= POOL_PAGES);
    CHECK(area_stats_of(area).counts.file_read_failures == POOL_PAGES);
    atomic_store(&first.get_fails, 0);
    check_all();
    end();
    close_shelf(&first);
}

static void away(void)
{
    static const int numbers[] = {-EAGAIN, EAGAIN, -ETIMEDOUT, -EPERM, 4000, INT32_MIN};
    uint64_t written;
    begin();
    uint32_t tier = add_shelf(zswap, &first);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        atomic_store(&first.put_fails, numbers[i]);
        RESULT(zswap_shrink(zswap, PAGES, &written), -EAGAIN);
        CHECK(tier_stats_of(zswap, tier).pages == 0 && tier_stats_of(zswap, tier).away > i);
    }
    CHECK(area_stats_of(area).counts.writeback_again > 0);
    check_all();
    /* A part may have arrived: the name is removed, and not used again. */
    compact();
    CHECK(atomic_load(&first.last_removed) == atomic_load(&first.last_put));
    atomic_store(&first.put_fails, 0);
    CHECK(shrink() == POOL_PAGES);
    check_all();
    /* What can't be removed is removed later. */
    atomic_store(&first.remove_fails, -EAGAIN);
    OK(zswap_invalidate(area, 0, PAGES, 0));
    compact();
    CHECK(first.count > 0 && tier_stats_of(zswap, tier).extents > 0);
    atomic_store(&first.remove_fails, 0);
    check_empty(&first, tier);
    end();
    close_shelf(&first);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        get_fails(numbers[i], -EAGAIN);
}

/* The tier damages what it has, or loses it. */
static void damaged(void)
{
    static const int numbers[] = {-EIO, EIO, -EBADMSG, -ENOENT, ENOENT};
    uint64_t written;
    begin();
    uint32_t tier = add_shelf(zswap, &first);
    atomic_store(&first.put_fails, -EIO);
    RESULT(zswap_shrink(zswap, PAGES, &written), -EAGAIN);
    CHECK(area_stats_of(area).counts.writeback_io > 0 && tier_stats_of(zswap, tier).damaged > 0);
    atomic_store(&first.put_fails, 0);
    CHECK(shrink() == POOL_PAGES);
    check_all();
    /* Storing a page again repairs it. */
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
    check_all();
    end();
    close_shelf(&first);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        get_fails(numbers[i], -EIO);
}

/* One bit is wrong. */
static void a_flipped_bit(void)
{
    uint64_t written;
    zswap = zswap_with(0);
    area = area_with(zswap, 1);
    uint32_t tier = add_shelf(zswap, &first);
    OK(store_page(area, 0, 2));
    OK(zswap_shrink(zswap, 1, &written));
    for (int at = 1; at < 2000; at += 97) {
        uint64_t before = tier_stats_of(zswap, tier).damaged;
        atomic_store(&first.flips, at);
        fails(area, 0, -EIO);
        CHECK(tier_stats_of(zswap, tier).damaged > before);
    }
    atomic_store(&first.flips, 0);
    check_page(area, 0, 2);
    /* Storing the page again repairs it. */
    atomic_store(&first.flips, 1);
    OK(store_page(area, 0, 3));
    check_page(area, 0, 3);
    end();
    close_shelf(&first);
}

/* The bytes of an older extent are no page of a newer one, even if both have the same page. */
static void older_bytes(void)
{
    uint64_t written;
    zswap = zswap_with(0);
    area = area_with(zswap, 1);
    add_shelf(zswap, &first);
    /* The older extent stays with the tier. */
    atomic_store(&first.remove_fails, -EAGAIN);
    for (int i = 0; i < 2; i++) {
        OK(store_page(area, 0, 2));
        OK(zswap_shrink(zswap, 1, &written));
        CHECK(written == 1 && first.count == (size_t)i + 1);
    }
    CHECK(first.kept[0].count == first.kept[1].count && first.kept[0].extent != first.kept[1].extent);
    atomic_store(&first.returns_oldest, 1);
    fails(area, 0, -EIO);
    atomic_store(&first.returns_oldest, 0);
    check_page(area, 0, 2);
    end();
    close_shelf(&first);
}

/* What a tier's own functions may call, and what not. The page with offset 1 is on the tier if `deep` says so. */
static atomic_int calls_within, deep;

static void call_within(struct shelf *shelf)
{
    static _Thread_local int inside;
    uint64_t number = 77;
    uint32_t tier = 77;
    unsigned char page[PAGE];
    struct zswap_stats stats = {.struct_size = sizeof stats};
    if (inside)
        return;
    inside = 1;
    RESULT(zswap_shrink(zswap, 1, &number), -EBUSY);
    RESULT(zswap_shrink_area(area, 1, &number), -EBUSY);
    RESULT(zswap_compact(zswap, NULL, &number), -EBUSY);
    RESULT(zswap_add_tier(zswap, &shelf_ops, shelf, NULL, &tier), -EBUSY);
    RESULT(zswap_remove_tier(zswap, 0), -EBUSY);
    RESULT(zswap_set_backing_file(zswap, -1, 0), -EBUSY);
    RESULT(zswap_set_writeback(zswap, NULL, NULL), -EBUSY);
    RESULT(zswap_fork_prepare(zswap), -EBUSY);
    RESULT(zswap_destroy(zswap), -EBUSY);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    RESULT(zswap_add_file_tier(zswap, "", fileno(file), MIB, &tier), -EBUSY);
    CHECK(fclose(file) == 0);
    if (atomic_load(&deep))
        fails(area, 1, -EBUSY);
    CHECK(number == 77 && tier == 77);
    /* The offset behind the pages is never written back before it is invalidated. */
    OK(store_page(area, PAGES, 2));
    OK(zswap_load(area, PAGES, page, ZSWAP_LOAD_EXCLUSIVE));
    CHECK(is_page(page, 2));
    OK(zswap_invalidate(area, PAGES, 1, 0));
    check_page(area, 0, 0);
    OK(zswap_stats(zswap, &stats));
    CHECK(tier_stats_of(zswap, 0).tier == 0);
    atomic_fetch_add(&calls_within, 1);
    inside = 0;
}

static void within_a_function(void)
{
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES + 1);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
    add_shelf(zswap, &first);
    first.within = call_within;
    atomic_store(&deep, 0);
    CHECK(shrink() == POOL_PAGES && atomic_load(&calls_within) > 0);
    atomic_store(&deep, 1);
    atomic_store(&calls_within, 0);
    check_all();
    CHECK(atomic_load(&calls_within) > 0);
    first.within = NULL;
    end();
    close_shelf(&first);
}

/* The pages of a tier that is removed move to the other one, or stay. */
static void removal(void)
{
    uint32_t again = 77;
    begin();
    uint32_t one = add_shelf(zswap, &first);
    CHECK(shrink() == POOL_PAGES);
    /* There is no other tier. */
    RESULT(zswap_remove_tier(zswap, one), -EBUSY);
    check_all();
    uint32_t two = add_shelf(zswap, &second);
    atomic_store(&second.put_fails, -ENOSPC);
    RESULT(zswap_remove_tier(zswap, one), -EBUSY);
    CHECK(tier_stats_of(zswap, one).pages == POOL_PAGES && tier_stats_of(zswap, two).pages == 0);
    check_all();
    /* The area may not use the other one. */
    atomic_store(&second.put_fails, 0);
    OK(zswap_area_set_tiers(area, 1u << one));
    RESULT(zswap_remove_tier(zswap, one), -EBUSY);
    CHECK(tier_stats_of(zswap, one).pages == POOL_PAGES);
    OK(zswap_area_set_tiers(area, 0));
    /* After a removal in vain the tier is used as before. */
    OK(store_page(area, 1, 1));
    OK(zswap_shrink(zswap, 1, &(uint64_t){0}));
    CHECK(tier_stats_of(zswap, one).pages == POOL_PAGES && tier_stats_of(zswap, two).pages == 0);
    OK(zswap_remove_tier(zswap, one));
    CHECK(first.count == 0);
    close_shelf(&first);
    RESULT(zswap_tier_stats(zswap, one, &(struct zswap_tier_stats){.struct_size = sizeof(struct zswap_tier_stats)}),
           -ENOENT);
    CHECK(tier_stats_of(zswap, two).pages == POOL_PAGES);
    check_all();
    /* The number is free again, and the new tier is behind the other. */
    open_shelf(&first);
    OK(zswap_add_tier(zswap, &shelf_ops, &first, NULL, &again));
    CHECK(again == one);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
    CHECK(shrink() == POOL_PAGES && first.count == 0);
    end();
    /* What was left on the tiers went with the zswap. */
    CHECK(first.count == 0 && second.count == 0);
    close_shelf(&first);
    close_shelf(&second);
}

static void as_many_as_there_may_be(void)
{
    static struct shelf shelves[ZSWAP_MAX_TIERS];
    struct zswap_tier_options options = {.struct_size = sizeof options, .max_bytes = 4096};
    uint32_t tier = 77;
    begin();
    for (uint32_t i = 0; i < ZSWAP_MAX_TIERS; i++) {
        open_shelf(&shelves[i]);
        OK(zswap_add_tier(zswap, &shelf_ops, &shelves[i], &options, &tier));
        CHECK(tier == i);
    }
    tier = 77;
    RESULT(zswap_add_tier(zswap, &shelf_ops, &shelves[0], &options, &tier), -EBUSY);
    OK(zswap_remove_tier(zswap, 3));
    OK(zswap_add_tier(zswap, &shelf_ops, &shelves[3], &options, &tier));
    CHECK(tier == 3);
    end();
    for (uint32_t i = 0; i < ZSWAP_MAX_TIERS; i++)
        close_shelf(&shelves[i]);
}

/* A file and a tier of the program's own, side by side. */
static void beside_a_file(void)
{
    static char text[1 << 16];
    uint32_t of_file = 77;
    size_t length;
    struct zswap_tier_options options = {.struct_size = sizeof options, .name = "\"second\""};
    uint32_t of_shelf = 77;
    begin();
    int fd = memfd_create("tier", MFD_CLOEXEC);
    CHECK(fd >= 0);
    OK(zswap_add_file_tier(zswap, "the file", fd, 40 * 4096, &of_file));
    CHECK(close(fd) == 0);
    open_shelf(&first);
    OK(zswap_add_tier(zswap, &shelf_ops, &first, &options, &of_shelf));
    CHECK(of_file == 0 && of_shelf == 1 && shrink() == POOL_PAGES);
    struct zswap_tier_stats file = tier_stats_of(zswap, of_file), own = tier_stats_of(zswap, of_shelf);
    CHECK(file.is_file == 1 && file.pages > 0 && own.is_file == 0 && own.pages > 0);
    CHECK(file.pages + own.pages == POOL_PAGES && file.max_bytes == 40 * 4096);
    CHECK(zswap_stats_of(zswap).file_bytes == file.bytes + own.bytes);
    check_all();
    OK(zswap_stats_json(zswap, text, sizeof text, &length));
    CHECK(strstr(text, "\"tiers\":[{\"name\":\"the file\"") != NULL && strstr(text, "\"is_file\":true") != NULL);
    CHECK(strstr(text, "{\"name\":\"\\\"second\\\"\"") != NULL && strstr(text, "\"load_latencies\":{\"buckets\":[") != NULL);
    /* A backing file replaces all tiers, once no page is on them. */
    RESULT(zswap_set_backing_file(zswap, -1, 0), -EBUSY);
    RESULT(zswap_set_writeback(zswap, NULL, NULL), -EBUSY);
    OK(zswap_remove_tier(zswap, of_file));
    CHECK(tier_stats_of(zswap, of_shelf).pages == POOL_PAGES);
    check_all();
    OK(zswap_invalidate(area, 0, PAGES, 0));
    fd = memfd_create("backing", MFD_CLOEXEC);
    CHECK(fd >= 0);
    OK(zswap_set_backing_file(zswap, fd, MIB));
    CHECK(close(fd) == 0 && first.count == 0);
    close_shelf(&first);
    CHECK(tier_stats_of(zswap, 0).is_file == 1);
    RESULT(zswap_remove_tier(zswap, of_shelf), -ENOENT);
    OK(zswap_remove_tier(zswap, 0));
    RESULT(zswap_remove_tier(zswap, 0), -ENOENT);
    RESULT(zswap_shrink(zswap, 1, &(uint64_t){0}), -EINVAL);
    end();
}

/* A forked child has the pages in memory, and not the tier. */
static void child(void)
{
    uint64_t written;
    int status;
    begin();
    OK(zswap_shrink(zswap, 0, &written) == -EINVAL ? 0 : -1);
    add_shelf(zswap, &first);
    CHECK(shrink() == POOL_PAGES);
    int puts = atomic_load(&first.puts);
    OK(zswap_fork_prepare(zswap));
    pid_t pid = fork();
    CHECK(pid >= 0);
    OK(zswap_fork_done(zswap));
    if (pid == 0) {
        atomic_store(&first.closed, 1);
        all_fail(-EAGAIN);
        OK(store_page(area, 1, 1));
        check_page(area, 1, 1);
        RESULT(zswap_shrink(zswap, 1, &written), -EAGAIN);
        OK(zswap_invalidate(area, 0, PAGES, 0));
        compact();
        OK(zswap_remove_tier(zswap, 0));
        end();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(atomic_load(&first.puts) == puts);
    check_all();
    end();
    close_shelf(&first);
}

static void bad_input(void)
{
    struct zswap_tier_ops ops = shelf_ops;
    struct zswap_tier_options options = {.struct_size = sizeof options};
    struct zswap_tier_stats stats = {.struct_size = sizeof stats, .pages = 77};
    static const size_t sizes[] = {0, 8, 15, 17, 4104, SIZE_MAX};
    static char long_name[251];
    uint64_t nanoseconds = 77;
    uint32_t tier = 77;
    begin();
    memset(long_name, 'n', 250);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ops.struct_size = options.struct_size = stats.struct_size = sizes[i];
        RESULT(zswap_add_tier(zswap, &ops, NULL, NULL, &tier), -EINVAL);
        RESULT(zswap_add_tier(zswap, &shelf_ops, NULL, &options, &tier), -EINVAL);
        RESULT(zswap_tier_stats(zswap, 0, &stats), -EINVAL);
    }
    ops.struct_size = sizeof ops, options.struct_size = sizeof options, stats.struct_size = sizeof stats;
    ops.put = NULL;
    RESULT(zswap_add_tier(zswap, &ops, NULL, NULL, &tier), -EINVAL);
    CHECK(strstr(zs_last_error(), "put") != NULL);
    ops = shelf_ops, ops.get = NULL;
    RESULT(zswap_add_tier(zswap, &ops, NULL, NULL, &tier), -EINVAL);
    CHECK(strstr(zs_last_error(), "get") != NULL);
    ops = shelf_ops, ops.remove = NULL;
    RESULT(zswap_add_tier(zswap, &ops, NULL, NULL, &tier), -EINVAL);
    CHECK(strstr(zs_last_error(), "remove") != NULL);
    for (int i = 0; i < 4; i++) {
        ops = shelf_ops, ops.reserved[i] = 1;
        RESULT(zswap_add_tier(zswap, &ops, NULL, NULL, &tier), -EINVAL);
        CHECK(strstr(zs_last_error(), "reserved") != NULL);
        options.reserved[i] = 1;
        RESULT(zswap_add_tier(zswap, &shelf_ops, NULL, &options, &tier), -EINVAL);
        options.reserved[i] = 0;
    }
    options.max_bytes = 4095;
    RESULT(zswap_add_tier(zswap, &shelf_ops, NULL, &options, &tier), -EINVAL);
    options.max_bytes = ((uint64_t)16 << 40) + 1;
    RESULT(zswap_add_tier(zswap, &shelf_ops, NULL, &options, &tier), -EINVAL);
    options.max_bytes = 0, options.name = long_name;
    RESULT(zswap_add_tier(zswap, &shelf_ops, NULL, &options, &tier), -EINVAL);
    options.name = "\xff";
    RESULT(zswap_add_tier(zswap, &shelf_ops, NULL, &options, &tier), -EINVAL);
    RESULT(zswap_add_file_tier(zswap, long_name, 0, MIB, &tier), -EINVAL);
    RESULT(zswap_add_file_tier(zswap, "", -1, MIB, &tier), -EINVAL);
    RESULT(zswap_add_file_tier(zswap, "", -1, 0, &tier), -EINVAL);
    for (uint32_t number = 0; number < 70; number += 7) {
        RESULT(zswap_remove_tier(zswap, number), -ENOENT);
        RESULT(zswap_tier_stats(zswap, number, &stats), -ENOENT);
        RESULT(zswap_tier_latency_permille(zswap, number, 500, &nanoseconds), -ENOENT);
    }
    RESULT(zswap_remove_tier(zswap, UINT32_MAX), -ENOENT);
    RESULT(zswap_tier_latency_permille(zswap, 0, 1001, &nanoseconds), -EINVAL);
    struct zswap_area_options area_options = {.struct_size = sizeof area_options};
    struct zswap_area *unchanged = area;
    for (int bit = (int)ZSWAP_MAX_TIERS; bit < 32; bit++) {
        RESULT(zswap_area_set_tiers(area, 1u << bit | 1), -EINVAL);
        area_options.tiers = 1u << bit;
        RESULT(zswap_add_area(zswap, 10, &area_options, &unchanged), -EINVAL);
    }
    CHECK(tier == 77 && stats.pages == 77 && nanoseconds == 77 && unchanged == area);
    end();
}

/* Threads that store, load and invalidate pages of their own, and threads that shrink and compact, on a tier that is
   slow, and away now and then. */
enum { OWNERS = 3, OWN = 64 };

struct owner {
    uint64_t first, random, numbers[OWN];
};

static struct zswap_area *shared;
static uint64_t rounds;
static atomic_int done;

static void *own(void *argument)
{
    struct owner *owner = argument;
    unsigned char page[PAGE];
    for (uint64_t round = 0; round < rounds; round++) {
        size_t at = next_random(&owner->random) % OWN;
        uint64_t offset = owner->first + OWNERS * at, what = next_random(&owner->random) % 8;
        if (what < 3) {
            owner->numbers[at] = 1 + next_random(&owner->random) % 100000;
            OK(store_page(shared, offset, owner->numbers[at]));
        } else if (what == 3) {
            OK(zswap_invalidate(shared, offset, 1, 0));
            owner->numbers[at] = 0;
        } else {
            uint32_t flags = what == 4 ? ZSWAP_LOAD_EXCLUSIVE : 0;
            int result = zswap_load(shared, offset, page, flags);
            CHECK(result == -EAGAIN || result == (owner->numbers[at] == 0 ? -ENOENT : 0));
            CHECK(result != 0 || is_page(page, owner->numbers[at]));
            if (result == 0 && flags != 0)
                owner->numbers[at] = 0;
        }
    }
    return NULL;
}

static void *make_room(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument, written;
    while (!atomic_load(&done)) {
        int result = zswap_shrink(zswap, 1 + next_random(&random) % 40, &written);
        CHECK(result == 0 || result == -ENOENT || result == -EAGAIN);
        if (next_random(&random) % 4 == 0)
            compact();
        int is_away = next_random(&random) % 8 == 0 ? -EAGAIN : 0;
        atomic_store(&first.get_fails, is_away);
        atomic_store(&first.put_fails, is_away);
        atomic_store(&first.remove_fails, is_away);
        usleep(100);
    }
    return NULL;
}

static void threads(uint64_t seed)
{
    pthread_t of_owners[OWNERS], of_shrinks[2];
    struct owner owners[OWNERS] = {{0}};
    zswap = zswap_with(0);
    shared = area = area_with(zswap, OWNERS * OWN);
    uint32_t tier = add_shelf(zswap, &first);
    atomic_store(&first.slow, 100);
    rounds = is_slow() ? 100 : 2000;
    atomic_store(&done, 0);
    for (uint64_t i = 0; i < 2; i++)
        CHECK(pthread_create(&of_shrinks[i], NULL, make_room, (void *)(uintptr_t)(seed + 100 + i)) == 0);
    for (uint64_t i = 0; i < OWNERS; i++) {
        owners[i].first = i;
        owners[i].random = seed + i;
        CHECK(pthread_create(&of_owners[i], NULL, own, &owners[i]) == 0);
    }
    for (size_t i = 0; i < OWNERS; i++)
        CHECK(pthread_join(of_owners[i], NULL) == 0);
    atomic_store(&done, 1);
    for (size_t i = 0; i < 2; i++)
        CHECK(pthread_join(of_shrinks[i], NULL) == 0);
    atomic_store(&first.get_fails, 0);
    atomic_store(&first.put_fails, 0);
    atomic_store(&first.remove_fails, 0);
    for (size_t i = 0; i < OWNERS; i++)
        for (size_t at = 0; at < OWN; at++)
            if (owners[i].numbers[at] != 0)
                check_page(area, i + OWNERS * at, owners[i].numbers[at]);
            else
                check_absent(area, i + OWNERS * at);
    CHECK(tier_stats_of(zswap, tier).puts > 0);
    OK(zswap_invalidate(area, 0, OWNERS * OWN, 0));
    check_empty(&first, tier);
    OK(zswap_remove_tier(zswap, tier));
    close_shelf(&first);
    end();
}

int main(int count, char **arguments)
{
    uint64_t seed = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    printf("zswap_tiers: seed %llu\n", (unsigned long long)seed);
    round_trip();
    limits();
    order();
    fewer_tiers();
    away();
    damaged();
    a_flipped_bit();
    older_bytes();
    within_a_function();
    removal();
    as_many_as_there_may_be();
    beside_a_file();
    child();
    bad_input();
    threads(seed);
    puts("zswap_tiers: ok");
    return 0;
}
