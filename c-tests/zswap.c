/* Normal use of every zswap function, in one thread. */
#include "pages.h"

enum { PAGES = 2000, COUNT = 600 };

static void pages_come_back(struct zswap_area *area)
{
    for (uint64_t i = 0; i < COUNT; i++)
        OK(store_page(area, i * 3, i));
    for (uint64_t i = 0; i < COUNT; i++)
        check_page(area, i * 3, i);
    check_absent(area, 1);
    struct zswap_counts counts = area_stats_of(area).counts;
    CHECK(counts.filled_pages == COUNT / 8 && counts.raw_pages == COUNT / 8);
    CHECK(counts.compressed_pages == COUNT - 2 * (COUNT / 8));
    CHECK(counts.stores == COUNT && counts.loads == COUNT && counts.absent_loads == 1);
    /* The newer page replaces the older one. */
    OK(store_page(area, 3, 77));
    check_page(area, 3, 77);
    CHECK(area_stats_of(area).counts.stores == COUNT + 1);
}

static void pages_are_taken(struct zswap_area *area)
{
    unsigned char page[PAGE];
    OK(zswap_load(area, 6, page, ZSWAP_LOAD_EXCLUSIVE));
    CHECK(is_page(page, 2));
    check_absent(area, 6);
    RESULT(zswap_load(area, 6, page, ZSWAP_LOAD_EXCLUSIVE), -ENOENT);
    OK(zswap_load(area, 9, page, ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT));
    CHECK(is_page(page, 3));
    CHECK(area_stats_of(area).counts.takes == 2);
    OK(store_page(area, 6, 2));
    OK(store_page(area, 9, 3));
}

static void what_is_stored_is_found(struct zswap_area *area)
{
    uint64_t offset = 0, found = 0;
    while (zswap_next_stored(area, offset, &offset) == 0) {
        CHECK(offset == found * 3);
        found++;
        offset++;
    }
    CHECK(found == COUNT);
    RESULT(zswap_next_stored(area, PAGES, &offset), -ENOENT);
    RESULT(zswap_next_stored(area, UINT64_MAX, &offset), -ENOENT);
}

static void ranges_are_invalidated(struct zswap_area *area)
{
    OK(zswap_invalidate(area, 0, 0, 0));
    OK(zswap_invalidate(area, 300, 300, 0));
    OK(zswap_invalidate(area, 300, 300, ZSWAP_NOWAIT));
    for (uint64_t i = 0; i < COUNT; i++) {
        if (i >= 100 && i < 200)
            check_absent(area, i * 3);
        else
            check_page(area, i * 3, i == 1 ? 77 : i);
    }
    CHECK(area_stats_of(area).counts.invalidated == 100);
    OK(zswap_invalidate(area, 0, PAGES, 0));
    uint64_t offset;
    RESULT(zswap_next_stored(area, 0, &offset), -ENOENT);
    CHECK(area_stats_of(area).used_bytes == 0);
}

/* Batches, with pages and arrays at odd addresses too. */
static void many_at_once(struct zswap_area *area)
{
    unsigned char *memory = malloc(COUNT * PAGE + 1), *pages = memory + 1;
    int32_t results[COUNT];
    CHECK(memory != NULL);
    for (uint64_t i = 0; i < COUNT; i++)
        make_page(pages + i * PAGE, i);
    OK(zswap_store_pages(area, 100, pages, COUNT));
    OK(zswap_store_pages(area, 100, NULL, 0));
    CHECK(area_stats_of(area).counts.batch_stores == COUNT);
    memset(pages, 0xee, COUNT * PAGE);
    OK(zswap_load_pages(area, 100, pages, COUNT, 0, NULL));
    for (uint64_t i = 0; i < COUNT; i++)
        CHECK(is_page(pages + i * PAGE, i));
    /* Some pages are missing; the others are loaded all the same. */
    OK(zswap_invalidate(area, 110, 5, 0));
    memset(pages, 0xee, COUNT * PAGE);
    memset(results, 1, sizeof results);
    RESULT(zswap_load_pages(area, 100, pages, COUNT, ZSWAP_LOAD_EXCLUSIVE, results), -ENOENT);
    for (uint64_t i = 0; i < COUNT; i++) {
        int there = i < 10 || i >= 15;
        CHECK(results[i] == (there ? 0 : -ENOENT));
        CHECK(there ? is_page(pages + i * PAGE, i) : pages[i * PAGE] == 0xee);
    }
    OK(zswap_load_pages(area, 0, NULL, 0, 0, NULL));
    CHECK(area_stats_of(area).used_bytes == 0);
    free(memory);
}

static void scattered(struct zswap_area *area)
{
    enum { SOME = 64 };
    static unsigned char destination[SOME + 1][PAGE + 3];
    struct { /* At an odd address, as packed structs of other languages may be. */
        char odd;
        unsigned char bytes[SOME * sizeof(struct zswap_load_request)];
    } odd;
    struct zswap_load_request requests[SOME];
    for (uint64_t i = 0; i < SOME; i++) {
        requests[i] = (struct zswap_load_request){(i * 37) % SOME * 11, destination[i] + i % 3, 77, 0};
        OK(store_page(area, i * 11, i));
    }
    memcpy(odd.bytes, requests, sizeof requests);
    OK(zswap_load_scattered(area, (void *)odd.bytes, SOME, 0));
    memcpy(requests, odd.bytes, sizeof requests);
    for (uint64_t i = 0; i < SOME; i++)
        CHECK(requests[i].result == 0 && is_page(destination[i] + i % 3, requests[i].offset / 11));
    /* One offset twice, and one that holds no page. */
    requests[1].offset = requests[0].offset;
    requests[2].offset = 1;
    RESULT(zswap_load_scattered(area, requests, SOME, 0), -ENOENT);
    CHECK(requests[0].result == 0 && requests[1].result == 0 && requests[2].result == -ENOENT);
    CHECK(requests[3].result == 0 && is_page(destination[1] + 1, requests[0].offset / 11));
    OK(zswap_load_scattered(area, NULL, 0, 0));
    OK(zswap_invalidate(area, 0, PAGES, 0));
}

static void codecs(struct zswap *zswap, struct zswap_area *area)
{
    uint64_t smaller = 99, pages;
    for (uint64_t i = 0; i < COUNT; i++)
        OK(store_page(area, i, i));
    uint64_t before = area_stats_of(area).used_bytes;
    /* The first round only clears the marks of pages that were just stored. */
    OK(zswap_recompress(area, PAGES, ZSWAP_CODEC_ZSTD, 3, &smaller));
    CHECK(smaller == 0);
    OK(zswap_recompress(area, PAGES, ZSWAP_CODEC_ZSTD, 3, &smaller));
    CHECK(smaller > 0 && area_stats_of(area).used_bytes < before);
    struct zswap_counts counts = area_stats_of(area).counts;
    CHECK(counts.recompressed == smaller && counts.recompress_useless > 0);
    OK(zswap_compact(zswap, NULL, &pages));
    for (uint64_t i = 0; i < COUNT; i++)
        check_page(area, i, i);
    static const uint32_t all[] = {ZSWAP_CODEC_RAW, ZSWAP_CODEC_ZSTD, ZSWAP_CODEC_LZ4};
    for (uint64_t i = 0; i < 3; i++) {
        OK(zswap_set_codec(zswap, all[i], 0));
        OK(store_page(area, COUNT + i, 2));
    }
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 19));
    OK(store_page(area, COUNT + 3, 2));
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_LZ4, 0));
    for (uint64_t i = 0; i < 4; i++)
        check_page(area, COUNT + i, 2);
    CHECK(area_stats_of(area).counts.raw_pages == counts.raw_pages + 1);
    OK(zswap_invalidate(area, 0, PAGES, 0));
}

static void limits(struct zswap *zswap, struct zswap_area *area, struct zswap_area *other)
{
    static unsigned char many[512][PAGE];
    uint64_t stored = 0;
    for (uint64_t i = 0; i < 512; i++)
        noise_page(many[i], i);
    OK(zswap_area_set_limit(area, MIB));
    CHECK(area_stats_of(area).max_bytes == MIB);
    while (zswap_store(area, stored, many[stored]) == 0)
        stored++;
    CHECK(stored > 200 && stored < 256 && area_stats_of(area).used_bytes <= MIB);
    RESULT(zswap_store(area, stored, many[0]), -ENOMEM);
    CHECK(area_stats_of(area).counts.refused_area_limit >= 2 && area_stats_of(area).limit_hits >= 1);
    /* A failed store leaves no older copy. Pages that repeat a word cost nothing, and are always stored. */
    RESULT(zswap_store(area, 5, many[0]), -ENOMEM);
    check_absent(area, 5);
    OK(store_page(area, 5, 8));
    /* A batch is stored completely or not at all. */
    RESULT(zswap_store_pages(area, 100, many, 512), -ENOMEM);
    check_absent(area, 100);
    check_absent(area, 110);
    CHECK(area_stats_of(area).counts.batches_failed == 1);
    /* The other area is not affected until the limit of both is reached. */
    OK(zswap_store(other, 0, many[0]));
    RESULT(zswap_set_limit(zswap, 4111), -EINVAL);
    RESULT(zswap_area_set_limit(area, 5), -EINVAL);
    OK(zswap_set_limit(zswap, 4112));
    RESULT(zswap_store(other, 1, many[0]), -ENOMEM);
    CHECK(zswap_stats_of(zswap).max_bytes == 4112 && zswap_stats_of(zswap).limit_hits >= 1);
    OK(zswap_set_limit(zswap, 0));
    OK(zswap_area_set_limit(area, 0));
    CHECK(zswap_stats_of(zswap).max_bytes == UINT64_MAX && area_stats_of(area).max_bytes == UINT64_MAX);
    OK(zswap_store_pages(area, 100, many, 512));
    OK(zswap_invalidate(area, 0, PAGES, 0));
    /* A batch that has no room is refused, although a page has. So usage does not say that anything has to go. */
    struct zswap_usage usage = {.struct_size = sizeof usage};
    OK(zswap_area_set_limit(area, MIB));
    RESULT(zswap_store_pages(area, 0, many, 512), -ENOMEM);
    CHECK(zs_last_limit() == ZSWAP_LIMIT_AREA);
    OK(zswap_area_usage(area, &usage));
    CHECK(usage.bytes_to_go == 0 && usage.refused_by == ZSWAP_LIMIT_NONE);
    OK(zswap_store(area, 0, many[0]));
    OK(zswap_area_set_limit(area, 0));
    OK(zswap_invalidate(area, 0, PAGES, 0));
    OK(zswap_invalidate(other, 0, PAGES, 0));
}

/* Returns how long statistics would be if all their numbers were as large as can be. */
static size_t longest_json(const char *text)
{
    size_t length = 0;
    for (; *text != 0; text++) {
        int begins = *text == ':' && (text[1] == 'n' || (text[1] >= '0' && text[1] <= '9'));
        length += begins ? 1 + 20 : !(*text >= '0' && *text <= '9');
    }
    return length;
}

static void statistics(struct zswap *zswap, struct zswap_area *area, struct zswap_area *other)
{
    for (uint64_t i = 0; i < 100; i++)
        OK(store_page(i % 2 ? area : other, i, i));
    struct zswap_stats stats = zswap_stats_of(zswap);
    struct zswap_area_stats one = area_stats_of(area), two = area_stats_of(other);
    struct zs_pool_stats pool = {.struct_size = sizeof pool};
    CHECK(stats.areas == 2 && stats.area_pages == 2 * PAGES && one.area_pages == PAGES);
    CHECK(one.area == zswap_area_id(area) && two.area == zswap_area_id(other));
    CHECK(stats.used_bytes == one.used_bytes + two.used_bytes && stats.used_bytes > 0);
    CHECK(stats.counts.stores == one.counts.stores + two.counts.stores);
    CHECK(stats.counts.compressed_pages == one.counts.compressed_pages + two.counts.compressed_pages);
    CHECK(stats.pool_bytes >= stats.used_bytes && stats.metadata_bytes > 0);
    OK(zswap_pool_stats(zswap, &pool));
    CHECK(pool.objects == stats.counts.compressed_pages + stats.counts.raw_pages);
    CHECK(pool.object_bytes == stats.used_bytes && pool.total_pages * 4096 == stats.pool_bytes);

    size_t length = 0, again = 0;
    RESULT(zswap_stats_json(zswap, NULL, 0, &length), -ENOSPC);
    CHECK(length > 100);
    char *text = malloc(length + 1);
    CHECK(text != NULL);
    memset(text, 'x', length + 1);
    RESULT(zswap_stats_json(zswap, text, length, &again), -ENOSPC);
    CHECK(again == length && text[0] == 0);
    OK(zswap_stats_json(zswap, text, length + 1, &again));
    CHECK(again == length && strlen(text) == length && text[0] == '{' && text[length - 1] == '}');
    CHECK(strstr(text, "\"version\":1") != NULL && strstr(text, "\"areas\":[{\"name\":") != NULL);
    /* The size that the header names, with the largest numbers, and beside names of 249 bytes that are all escaped. */
    CHECK(longest_json(text) + 3 * 6 * 249 <= 3 * 4096);
    free(text);
    OK(zswap_invalidate(area, 0, PAGES, 0));
    OK(zswap_invalidate(other, 0, PAGES, 0));
}

static void area_options(struct zswap *zswap)
{
    int mine;
    struct zswap_area_options options = {.struct_size = sizeof options,
                                         .max_bytes = 2 * MIB,
                                         .context = &mine,
                                         .flags = ZSWAP_AREA_REFUSE_INCOMPRESSIBLE};
    struct zswap_area *area;
    unsigned char page[PAGE];
    OK(zswap_add_area(zswap, 10, &options, &area));
    CHECK(zswap_area_context(area) == &mine && zswap_area_pages(area) == 10);
    CHECK(area_stats_of(area).max_bytes == 2 * MIB);
    noise_page(page, 1);
    OK(store_page(area, 0, 2));
    RESULT(zswap_store(area, 0, page), -ENOSPC);
    check_absent(area, 0);
    CHECK(area_stats_of(area).counts.refused_incompressible == 1);
    uint64_t before = zswap_stats_of(zswap).counts.stores;
    OK(zswap_remove_area(area));
    /* The same, in an area that keeps what it had. */
    options.flags |= ZSWAP_AREA_KEEP_OLD;
    OK(zswap_add_area(zswap, 10, &options, &area));
    OK(store_page(area, 0, 2));
    before++;
    RESULT(zswap_store(area, 0, page), -ENOSPC);
    RESULT(zswap_store_pages(area, 0, page, 1), -ENOSPC);
    check_page(area, 0, 2);
    OK(zswap_remove_area(area));
    /* The removed area's events stay counted. */
    CHECK(zswap_stats_of(zswap).counts.stores == before && zswap_stats_of(zswap).areas == 2);
}

/* The name of an area is copied, shown in JSON, and refused if it is not one. */
static void area_names(struct zswap *zswap)
{
    char name[251] = "disk \"1\"", text[4 * 4096];
    struct zswap_area_options options = {.struct_size = sizeof options, .name = name};
    struct zswap_area *area, *unnamed;
    size_t length;
    OK(zswap_add_area(zswap, 10, &options, &area));
    unnamed = area_with(zswap, 10);
    memset(name, 'x', 250);
    OK(zswap_stats_json(zswap, text, sizeof text, &length));
    CHECK(strstr(text, "{\"name\":\"disk \\\"1\\\"\",") != NULL && strstr(text, "{\"name\":\"\",") != NULL);
    OK(zswap_remove_area(area));
    OK(zswap_remove_area(unnamed));
    RESULT(zswap_add_area(zswap, 10, &options, &area), -EINVAL);
    CHECK(strcmp(zs_last_error(), "zswap_add_area(): the name is longer than 249 bytes (errno 22)") == 0);
    name[249] = 0;
    OK(zswap_add_area(zswap, 10, &options, &area));
    OK(zswap_remove_area(area));
    name[3] = (char)0xff;
    RESULT(zswap_add_area(zswap, 10, &options, &area), -EINVAL);
    CHECK(strcmp(zs_last_error(), "zswap_add_area(): the name is not UTF-8 (errno 22)") == 0);
}

int main(void)
{
    struct zswap *zswap = zswap_with(0);
    struct zswap_area *area = area_with(zswap, PAGES), *other = area_with(zswap, PAGES);
    CHECK(zswap_area_context(area) == NULL && zswap_area_pages(area) == PAGES);
    CHECK(zswap_area_id(area) != 0 && zswap_area_id(area) != zswap_area_id(other));
    pages_come_back(area);
    pages_are_taken(area);
    what_is_stored_is_found(area);
    ranges_are_invalidated(area);
    many_at_once(area);
    scattered(area);
    codecs(zswap, area);
    limits(zswap, area, other);
    statistics(zswap, area, other);
    area_options(zswap);
    area_names(zswap);
    RESULT(zswap_destroy(zswap), -EBUSY);
    OK(zswap_remove_area(other));
    RESULT(zswap_destroy(zswap), -EBUSY);
    OK(store_page(area, 0, 5));
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    /* All defaults. */
    OK(zswap_create(NULL, &zswap));
    area = area_with(zswap, ZSWAP_MAX_AREA_PAGES / 1024);
    OK(store_page(area, ZSWAP_MAX_AREA_PAGES / 1024 - 1, 3));
    check_page(area, ZSWAP_MAX_AREA_PAGES / 1024 - 1, 3);
    OK(zswap_invalidate(area, 0, ZSWAP_MAX_AREA_PAGES / 1024, 0));
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    puts("zswap: ok");
    return 0;
}
