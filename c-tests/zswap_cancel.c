/* A thread that is cancelled in a function of the pool or of zswap is cancelled after it. */
#define _GNU_SOURCE
#include "cancel.h"
#include "pages.h"
#include <unistd.h>

enum { PAGES = 64 };

static struct zswap *zswap;
static struct zswap_area *area;
static int fd;

static void create(void)
{
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
}

static void write_back(void)
{
    uint64_t written;
    OK(zswap_set_backing_file(zswap, fd, MIB));
    OK(zswap_shrink(zswap, PAGES / 2, &written));
    OK(zswap_shrink_area(area, PAGES / 8, &written));
    struct zswap_shrink_options options = {.struct_size = sizeof options, .max_pages = PAGES / 10};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    OK(zswap_age(area));
    OK(zswap_shrink_by(zswap, &options, &shrunk));
    OK(zswap_shrink_area_by(area, &options, &shrunk));
    CHECK(zswap_stats_of(zswap).counts.file_pages > 0);
}

static void load(void)
{
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(area, i, i);
}

/* A callback may contain a cancellation point. */
static int write_page(void *context, struct zswap_area *of, uint64_t offset, const void *page)
{
    (void)context, (void)of;
    return pwrite(fd, page, PAGE, (off_t)offset * PAGE) == PAGE ? 0 : -EIO;
}

/* So may a tier's functions. The page is at offset 0 of the file's second MiB. */
static int put(void *context, uint64_t owner, uint64_t extent, const void *bytes, size_t count)
{
    (void)context, (void)owner, (void)extent;
    return pwrite(fd, bytes, count, (off_t)MIB) == (ssize_t)count ? 0 : -EIO;
}

static int get(void *context, uint64_t owner, uint64_t extent, size_t from, void *bytes, size_t count)
{
    (void)context, (void)owner, (void)extent;
    return pread(fd, bytes, count, (off_t)(MIB + from)) == (ssize_t)count ? 0 : -EIO;
}

static int forget(void *context, uint64_t owner, uint64_t extent)
{
    (void)context, (void)owner, (void)extent;
    return pwrite(fd, "gone", 4, (off_t)MIB) == 4 ? 0 : -EIO;
}

static uint64_t room(void *context)
{
    (void)context;
    return pwrite(fd, "room", 4, 2 * (off_t)MIB) == 4 ? UINT64_MAX : 0;
}

static void use_tier(void)
{
    struct zswap_tier_ops ops = {.struct_size = sizeof ops, .put = put, .get = get, .remove = forget, .room = room};
    uint32_t tier;
    uint64_t number;
    OK(zswap_invalidate(area, 0, PAGES, 0));
    OK(zswap_set_backing_file(zswap, -1, 0));
    OK(zswap_add_tier(zswap, &ops, NULL, NULL, &tier));
    OK(store_page(area, 2, 2));
    OK(zswap_shrink(zswap, 1, &number));
    CHECK(number == 1);
    check_page(area, 2, 2);
    OK(zswap_invalidate(area, 2, 1, 0));
    OK(zswap_compact(zswap, NULL, &number));
    OK(zswap_remove_tier(zswap, tier));
}

static void call_back(void)
{
    uint64_t written;
    OK(zswap_invalidate(area, 0, PAGES, 0));
    OK(zswap_set_writeback(zswap, write_page, NULL));
    OK(store_page(area, 1, 1));
    OK(zswap_shrink(zswap, 1, &written));
    CHECK(written == 1);
}

static void upkeep(void)
{
    uint64_t pages;
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 3));
    OK(zswap_set_limit(zswap, 64 * MIB));
    OK(store_page(area, 2, 2));
    OK(zswap_compact(zswap, NULL, &pages));
    check_page(area, 2, 2);
}

static void destroy(void)
{
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static int evict(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    (void)context;
    CHECK(write(fd, "gone", 4) == 4);
    return zs_free(pool, handle);
}

static void shrink_pool(void)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .backing = ZS_BACKING_MEMFD};
    struct zs_pool *pool;
    uint64_t reclaimed;
    OK(zs_create_pool("cancelled", &options, &pool));
    object_with(pool, 100, 1);
    OK(zs_set_evict(pool, evict, NULL));
    OK(zs_shrink(pool, 1, &reclaimed));
    CHECK(stats_of(pool).objects == 0);
    OK(zs_destroy_pool(pool));
}

int main(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    fd = fileno(file);
    do_cancelled(create);
    do_cancelled(write_back);
    do_cancelled(load);
    load();
    do_cancelled(use_tier);
    do_cancelled(call_back);
    do_cancelled(upkeep);
    do_cancelled(destroy);
    do_cancelled(shrink_pool);
    return 0;
}
