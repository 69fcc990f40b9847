/* Ages of pages, and shrinks that choose pages by age, by bytes, and by how they are stored. */
#include "pages.h"

enum { PAGES = 80, RAW = 4112 };

static struct zswap *zswap;
static struct zswap_area *area, *other;
static uint64_t calls;

/* Checks the page, and writes it nowhere: what has left is known by its offset. */
static int take_page(void *context, struct zswap_area *of, uint64_t offset, const void *page)
{
    CHECK(context == &calls && (of == area || of == other) && is_page(page, offset));
    calls++;
    return 0;
}

/* Stores pages to both areas. Ten in each repeat a word, and ten do not compress. */
static void begin(void)
{
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES);
    other = area_with(zswap, PAGES);
    OK(zswap_set_writeback(zswap, take_page, &calls));
    calls = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        OK(store_page(area, i, i));
        OK(store_page(other, i, i));
    }
}

static void end(void)
{
    OK(zswap_remove_area(area));
    OK(zswap_remove_area(other));
    OK(zswap_destroy(zswap));
}

static uint64_t in_pool(struct zswap_area *of)
{
    struct zswap_area_stats stats = area_stats_of(of);
    return stats.counts.compressed_pages + stats.counts.raw_pages;
}

static void old_pages_go(void)
{
    static unsigned char page[PAGE];
    struct zswap_shrink_options options = {.struct_size = sizeof options, .min_age = ZSWAP_MAX_AGE};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk, .pages = 77, .bytes = 77};
    begin();
    RESULT(zswap_shrink_by(zswap, &options, &shrunk), -EAGAIN);
    CHECK(strstr(zs_last_error(), "old") != NULL && shrunk.pages == 77 && shrunk.bytes == 77);
    for (int i = 0; i < 3; i++)
        OK(zswap_age(area));
    RESULT(zswap_shrink_area_by(area, &options, &shrunk), -EAGAIN);
    OK(zswap_load(area, 1, page, 0));
    OK(zswap_age(area));
    uint64_t pages = in_pool(area), others = in_pool(other);
    uint64_t bytes = zswap_stats_of(zswap).used_bytes;
    options.max_pages = 10;
    OK(zswap_shrink_by(zswap, &options, &shrunk));
    CHECK(shrunk.pages == 10 && shrunk.bytes == bytes - zswap_stats_of(zswap).used_bytes && calls == 10);
    options.max_pages = 0;
    OK(zswap_shrink_area_by(area, &options, &shrunk));
    /* All but the one that was loaded. */
    CHECK(shrunk.pages == pages - 11 && in_pool(area) == 1 && in_pool(other) == others);
    OK(zswap_load(area, 1, page, ZSWAP_LOAD_EXCLUSIVE));
    RESULT(zswap_shrink_area_by(area, &options, &shrunk), -ENOENT);
    RESULT(zswap_shrink_by(zswap, &options, &shrunk), -EAGAIN);
    /* The defaults: all that can go. */
    OK(zswap_shrink_by(zswap, NULL, &shrunk));
    CHECK(shrunk.pages == others && zswap_stats_of(zswap).used_bytes == 0);
    RESULT(zswap_shrink_by(zswap, NULL, &shrunk), -ENOENT);
    end();
}

static void bytes_are_kept_to(void)
{
    struct zswap_shrink_options options = {.struct_size = sizeof options, .max_bytes = 8};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    begin();
    RESULT(zswap_shrink_by(zswap, &options, &shrunk), -EAGAIN);
    RESULT(zswap_shrink_area_by(area, &options, &shrunk), -EAGAIN);
    CHECK(calls == 0);
    uint64_t bytes = zswap_stats_of(zswap).used_bytes;
    for (options.max_bytes = RAW; bytes > 0; options.max_bytes += 1000) {
        OK(zswap_shrink_by(zswap, &options, &shrunk));
        uint64_t left = zswap_stats_of(zswap).used_bytes;
        CHECK(shrunk.pages > 0 && shrunk.bytes == bytes - left && shrunk.bytes <= options.max_bytes);
        CHECK(left == 0 || options.max_bytes - shrunk.bytes < RAW);
        bytes = left;
    }
    end();
}

static void incompressible_pages_go_first(void)
{
    struct zswap_shrink_options options = {
        .struct_size = sizeof options, .max_pages = 20, .flags = ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    begin();
    OK(zswap_age(area));
    OK(zswap_age(other));
    OK(zswap_shrink_by(zswap, &options, &shrunk));
    CHECK(shrunk.pages == 20 && shrunk.bytes == 20 * RAW && zswap_stats_of(zswap).counts.raw_pages == 0);
    OK(zswap_shrink_area_by(other, &options, &shrunk));
    CHECK(shrunk.pages == 20 && shrunk.bytes < 20 * RAW);
    end();
}

static void wrong_options(void)
{
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk, .pages = 77, .bytes = 77};
    begin();
    for (int i = 0; i < 5; i++) {
        struct zswap_shrink_options options = {.struct_size = sizeof options};
        static const uint32_t ages[] = {ZSWAP_MAX_AGE + 1, 256, UINT32_MAX};
        if (i < 3)
            options.min_age = ages[i];
        else if (i == 3)
            options.flags = ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST | 2;
        else
            options.reserved[3] = 1;
        RESULT(zswap_shrink_by(zswap, &options, &shrunk), -EINVAL);
        CHECK(i >= 3 || strstr(zs_last_error(), "min_age") != NULL);
        RESULT(zswap_shrink_area_by(area, &options, &shrunk), -EINVAL);
    }
    CHECK(calls == 0 && shrunk.pages == 77 && shrunk.bytes == 77);
    end();
}

int main(void)
{
    old_pages_go();
    bytes_are_kept_to();
    incompressible_pages_go_first();
    wrong_options();
    puts("zswap_ages: ok");
    return 0;
}
