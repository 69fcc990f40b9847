/* zswap's structs of programs that were compiled against an older or a newer header. */
#define _GNU_SOURCE
#include "pages.h"
#include "tier.h"

struct new_options {
    struct zswap_options known;
    uint64_t more[8];
};

struct new_area_options {
    struct zswap_area_options known;
    uint64_t more[8];
};

struct new_shrink_options {
    struct zswap_shrink_options known;
    uint64_t more[8];
};

struct new_shrunk {
    struct zswap_shrunk known;
    uint64_t more[3];
    uint64_t behind;
};

struct new_stats {
    struct zswap_stats known;
    uint64_t more[5];
    uint64_t behind;
};

struct new_area_stats {
    struct zswap_area_stats known;
    uint64_t more[5];
    uint64_t behind;
};

struct new_tier_ops {
    struct zswap_tier_ops known;
    uint64_t more[8];
};

struct new_tier_options {
    struct zswap_tier_options known;
    uint64_t more[8];
};

struct new_tier_stats {
    struct zswap_tier_stats known;
    uint64_t more[5];
    uint64_t behind;
};

/* A field that the caller does not have is taken as 0, whatever lies behind the struct. */
static void older_options(void)
{
    static const size_t sizes[] = {offsetof(struct zswap_options, name), offsetof(struct zswap_options, codec),
                                   offsetof(struct zswap_options, tuning),
                                   offsetof(struct zswap_options, reserved)};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct zswap_options options;
        struct zswap *zswap;
        memset(&options, 0xff, sizeof options);
        memset(&options, 0, sizes[i]);
        options.struct_size = sizes[i];
        options.max_bytes = 8 * MIB;
        OK(zswap_create(&options, &zswap));
        CHECK(zswap_stats_of(zswap).max_bytes == 8 * MIB);
        struct zswap_area_options area_options;
        struct zswap_area *area;
        memset(&area_options, 0xff, sizeof area_options);
        area_options.struct_size = offsetof(struct zswap_area_options, name);
        area_options.max_bytes = MIB;
        OK(zswap_add_area(zswap, 10, &area_options, &area));
        CHECK(area_stats_of(area).max_bytes == MIB && zswap_area_context(area) == NULL);
        OK(zswap_remove_area(area));
        OK(zswap_destroy(zswap));
    }
}

static void newer_options(void)
{
    struct new_options options;
    struct new_area_options area_options;
    struct zswap *zswap;
    struct zswap_area *area;
    memset(&options, 0, sizeof options);
    memset(&area_options, 0, sizeof area_options);
    options.known.struct_size = sizeof options;
    options.known.max_bytes = 8 * MIB;
    area_options.known.struct_size = sizeof area_options;
    OK(zswap_create(&options.known, &zswap));
    OK(zswap_add_area(zswap, 10, &area_options.known, &area));
    OK(zswap_remove_area(area));
    area_options.more[7] = 1;
    RESULT(zswap_add_area(zswap, 10, &area_options.known, &area), -EINVAL);
    OK(zswap_destroy(zswap));
    options.more[0] = 1;
    RESULT(zswap_create(&options.known, &zswap), -EINVAL);
    CHECK(strstr(zs_last_error(), "version") != NULL);
}

static void statistics(struct zswap *zswap, struct zswap_area *area)
{
    OK(store_page(area, 0, 3));
    /* Options as a first version might have had them. */
    uint64_t old[4] = {3 * sizeof(uint64_t), 77, 77, 77};
    OK(zswap_stats(zswap, (struct zswap_stats *)old));
    CHECK(old[0] == 3 * sizeof(uint64_t) && old[1] == 1 && old[2] == 10 && old[3] == 77);
    old[1] = old[2] = 77;
    OK(zswap_area_stats(area, (struct zswap_area_stats *)old));
    CHECK(old[1] == zswap_area_id(area) && old[2] == 10 && old[3] == 77);

    struct new_stats stats;
    memset(&stats, 0xff, sizeof stats);
    stats.known.struct_size = offsetof(struct new_stats, behind);
    OK(zswap_stats(zswap, &stats.known));
    CHECK(stats.known.counts.stores == 1 && stats.behind == UINT64_MAX);
    struct new_area_stats of_area;
    memset(&of_area, 0xff, sizeof of_area);
    of_area.known.struct_size = offsetof(struct new_area_stats, behind);
    OK(zswap_area_stats(area, &of_area.known));
    CHECK(of_area.known.counts.stores == 1 && of_area.behind == UINT64_MAX);
    for (size_t i = 0; i < 5; i++)
        CHECK(stats.more[i] == 0 && of_area.more[i] == 0);
    for (size_t i = 0; i < sizeof stats.known.counts.reserved / sizeof(uint64_t); i++)
        CHECK(stats.known.counts.reserved[i] == 0 && of_area.known.counts.reserved[i] == 0);
}

static void older_tiers(struct zswap *zswap, struct zswap_area *area)
{
    static struct shelf shelf;
    struct zswap_tier_ops ops;
    struct zswap_tier_options options;
    uint64_t written, old[3] = {2 * sizeof(uint64_t), 77, 77};
    uint32_t tier = 77;
    open_shelf(&shelf);
    memset(&ops, 0xff, sizeof ops);
    memset(&options, 0xff, sizeof options);
    /* Not all of these functions are there. */
    ops.struct_size = offsetof(struct zswap_tier_ops, get);
    ops.put = shelf_put;
    RESULT(zswap_add_tier(zswap, &ops, &shelf, NULL, &tier), -EINVAL);
    ops.struct_size = offsetof(struct zswap_tier_ops, room);
    ops.get = shelf_get;
    ops.remove = shelf_remove;
    options.struct_size = offsetof(struct zswap_tier_options, name);
    options.max_bytes = MIB;
    OK(zswap_add_tier(zswap, &ops, &shelf, &options, &tier));
    OK(store_page(area, 1, 3));
    OK(zswap_shrink(zswap, 1, &written));
    check_page(area, 1, 3);
    OK(zswap_tier_stats(zswap, tier, (struct zswap_tier_stats *)old));
    CHECK(old[0] == 2 * sizeof(uint64_t) && old[1] == tier && old[2] == 77);
    CHECK(shelf.count == 1 && atomic_load(&shelf.rooms) == 0 && tier_stats_of(zswap, tier).max_bytes == MIB);
    OK(zswap_invalidate(area, 0, 10, 0));
    OK(zswap_remove_tier(zswap, tier));
    close_shelf(&shelf);
}

static void newer_tiers(struct zswap *zswap)
{
    static struct shelf shelf;
    struct new_tier_ops ops = {.known = shelf_ops};
    struct new_tier_options options = {.known = {.struct_size = sizeof options, .max_bytes = MIB}};
    struct new_tier_stats stats;
    uint32_t tier = 77;
    open_shelf(&shelf);
    ops.known.struct_size = sizeof ops;
    OK(zswap_add_tier(zswap, &ops.known, &shelf, &options.known, &tier));
    memset(&stats, 0xff, sizeof stats);
    stats.known.struct_size = offsetof(struct new_tier_stats, behind);
    OK(zswap_tier_stats(zswap, tier, &stats.known));
    CHECK(stats.known.tier == tier && stats.known.pages == 0 && stats.behind == UINT64_MAX);
    for (size_t i = 0; i < 5; i++)
        CHECK(stats.more[i] == 0);
    OK(zswap_remove_tier(zswap, tier));
    close_shelf(&shelf);
    tier = 77;
    ops.more[7] = 1;
    RESULT(zswap_add_tier(zswap, &ops.known, &shelf, NULL, &tier), -EINVAL);
    CHECK(strstr(zs_last_error(), "version") != NULL);
    options.more[0] = 1;
    RESULT(zswap_add_tier(zswap, &shelf_ops, &shelf, &options.known, &tier), -EINVAL);
    CHECK(strstr(zs_last_error(), "version") != NULL && tier == 77);
}

static int keep_page(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)context, (void)area, (void)offset, (void)page;
    return 0;
}

static void shrinks(struct zswap *zswap, struct zswap_area *area)
{
    OK(zswap_set_writeback(zswap, keep_page, NULL));
    for (uint64_t i = 1; i < 6; i++)
        OK(store_page(area, i, i));
    /* As a first version might have had them, with anything behind. */
    struct zswap_shrink_options options;
    memset(&options, 0xff, sizeof options);
    options.struct_size = offsetof(struct zswap_shrink_options, max_bytes);
    options.max_pages = 1;
    uint64_t old[3] = {2 * sizeof(uint64_t), 77, 77};
    OK(zswap_shrink_by(zswap, &options, (struct zswap_shrunk *)old));
    CHECK(old[0] == 2 * sizeof(uint64_t) && old[1] == 1 && old[2] == 77);

    struct new_shrink_options newer;
    struct new_shrunk shrunk;
    memset(&newer, 0, sizeof newer);
    newer.known.struct_size = sizeof newer;
    newer.known.max_pages = 1;
    memset(&shrunk, 0xff, sizeof shrunk);
    shrunk.known.struct_size = offsetof(struct new_shrunk, behind);
    OK(zswap_shrink_area_by(area, &newer.known, &shrunk.known));
    CHECK(shrunk.known.pages == 1 && shrunk.known.bytes > 0 && shrunk.behind == UINT64_MAX);
    CHECK(shrunk.more[0] == 0 && shrunk.more[2] == 0);
    newer.more[7] = 1;
    RESULT(zswap_shrink_area_by(area, &newer.known, &shrunk.known), -EINVAL);
    OK(zswap_set_writeback(zswap, NULL, NULL));
}

/* Sizes that no struct has: nothing is read or written. */
static void impossible_sizes(struct zswap *zswap, struct zswap_area *area)
{
    static const size_t sizes[] = {0, 1, 4, 7, 8, 15, 17, 20, 4097, 4104, 1 << 20, SIZE_MAX, SIZE_MAX - 7};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct zswap_options options = {.struct_size = sizes[i]};
        struct zswap_area_options area_options = {.struct_size = sizes[i]};
        struct zs_compact_budget budget = {.struct_size = sizes[i]};
        struct zswap_stats stats = {.struct_size = sizes[i], .areas = 77};
        struct zswap_area_stats area_stats = {.struct_size = sizes[i], .area = 77};
        struct zs_pool_stats pool_stats = {.struct_size = sizes[i], .objects = 77};
        struct zswap_shrink_options shrink_options = {.struct_size = sizes[i]};
        struct zswap_shrunk shrunk = {.struct_size = sizes[i], .pages = 77};
        struct zswap_shrunk unchanged_shrunk = {.struct_size = sizeof unchanged_shrunk, .pages = 77};
        struct zswap *unchanged = zswap;
        struct zswap_area *unchanged_area = area;
        uint64_t pages = 77;
        RESULT(zswap_create(&options, &unchanged), -EINVAL);
        RESULT(zswap_add_area(zswap, 10, &area_options, &unchanged_area), -EINVAL);
        RESULT(zswap_compact(zswap, &budget, &pages), -EINVAL);
        RESULT(zswap_stats(zswap, &stats), -EINVAL);
        RESULT(zswap_area_stats(area, &area_stats), -EINVAL);
        RESULT(zswap_pool_stats(zswap, &pool_stats), -EINVAL);
        RESULT(zswap_shrink_by(zswap, &shrink_options, &unchanged_shrunk), -EINVAL);
        RESULT(zswap_shrink_area_by(area, NULL, &shrunk), -EINVAL);
        CHECK(unchanged == zswap && unchanged_area == area && pages == 77);
        CHECK(shrunk.pages == 77 && unchanged_shrunk.pages == 77);
        CHECK(stats.areas == 77 && area_stats.area == 77 && pool_stats.objects == 77);
    }
}

/* A packed struct of another language may be at any address. */
static void at_any_address(void)
{
    unsigned char memory[sizeof(struct zswap_stats) + 8], bytes[2][PAGE];
    for (size_t shift = 1; shift < 8; shift++) {
        struct zswap_options options = {.struct_size = sizeof options, .max_bytes = 8 * MIB};
        struct zswap_area_options area_options = {.struct_size = sizeof area_options, .max_bytes = MIB};
        struct zswap_stats stats = {.struct_size = sizeof stats};
        struct zswap_claim claims[2];
        struct zswap *zswap;
        struct zswap_area *area;
        uint64_t offset;
        size_t count;
        memcpy(memory + shift, &options, sizeof options);
        OK(zswap_create((void *)(memory + shift), (void *)(memory + shift)));
        memcpy(&zswap, memory + shift, sizeof zswap);
        memcpy(memory + shift, &area_options, sizeof area_options);
        OK(zswap_add_area(zswap, 10, (void *)(memory + shift), (void *)(memory + shift)));
        memcpy(&area, memory + shift, sizeof area);
        OK(store_page(area, 4, 3));
        OK(store_page(area, 7, 5));
        memcpy(memory + shift, &stats, sizeof stats);
        OK(zswap_stats(zswap, (void *)(memory + shift)));
        memcpy(&stats, memory + shift, sizeof stats);
        CHECK(stats.max_bytes == 8 * MIB && stats.counts.stores == 2);
        OK(zswap_next_stored(area, 0, (void *)(memory + shift)));
        memcpy(&offset, memory + shift, sizeof offset);
        CHECK(offset == 4);
        OK(zswap_writeback_begin_area(area, 2, (void *)(memory + shift), bytes, &count));
        CHECK(count == 2);
        memcpy(claims, memory + shift, sizeof claims);
        CHECK(claims[0].offset == 4 && is_page(bytes[0], 3) && claims[1].offset == 7 && is_page(bytes[1], 5));
        int32_t gone = 0;
        OK(zswap_writeback_end((void *)(memory + shift), 0, &gone));
        OK(zswap_writeback_end(&claims[1], 0, (void *)(memory + shift)));
        CHECK(gone == 1 && memory[shift] == 1);
        static struct shelf shelf;
        uint32_t tier;
        open_shelf(&shelf);
        memcpy(memory + shift, &shelf_ops, sizeof shelf_ops);
        OK(zswap_add_tier(zswap, (void *)(memory + shift), &shelf, NULL, (void *)(memory + shift)));
        memcpy(&tier, memory + shift, sizeof tier);
        struct zswap_tier_stats tier_stats = {.struct_size = sizeof tier_stats};
        memcpy(memory + shift, &tier_stats, sizeof tier_stats);
        OK(zswap_tier_stats(zswap, tier, (void *)(memory + shift)));
        memcpy(&tier_stats, memory + shift, sizeof tier_stats);
        CHECK(tier_stats.tier == tier && tier_stats.max_bytes == (uint64_t)1 << 40);
        OK(zswap_remove_area(area));
        OK(zswap_destroy(zswap));
        close_shelf(&shelf);
    }
}

int main(void)
{
    older_options();
    newer_options();
    struct zswap *zswap = zswap_with(0);
    struct zswap_area *area = area_with(zswap, 10);
    statistics(zswap, area);
    shrinks(zswap, area);
    impossible_sizes(zswap, area);
    older_tiers(zswap, area);
    newer_tiers(zswap);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    at_any_address();
    puts("zswap_structs: ok");
    return 0;
}
