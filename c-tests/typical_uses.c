/* How programs typically use the header, with typed pointers, which must not warn in any version of C and C++. It is
 * compiled, and does not run. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zsalloc.h>

#ifdef __cplusplus
#define AS(type, pointer) static_cast<type>(pointer)
#else
#define AS(type, pointer) pointer
#endif

struct record {
    long number;
    char name[24];
};

static int evict(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    struct record *kept = AS(struct record *, context);
    uint64_t tag;
    if (zs_get_tag(pool, handle, &tag) != 0 || tag == (uint64_t)kept->number)
        return -1;
    return zs_free(pool, handle);
}

static int of_a_pool(void)
{
    struct zs_pool_tuning tuning;
    struct zs_pool_options options;
    struct zs_compact_budget budget;
    struct zs_pool_stats stats;
    struct zs_pool *pool;
    struct record *record;
    const struct record *read_only;
    unsigned char bytes[16] = "bytes";
    zs_handle_t handle;
    uint64_t pages;
    size_t size;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.max_bytes = (uint64_t)64 << 20;
    options.flags = ZS_POOL_HARDENED;
    memset(&tuning, 0, sizeof tuning);
    tuning.struct_size = sizeof tuning;
    tuning.flags = ZS_POOL_DONTFORK | ZS_POOL_TAGGED;
    options.tuning = &tuning;
    memset(&budget, 0, sizeof budget);
    budget.struct_size = sizeof budget;
    budget.max_microseconds = 500;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    if (zs_create_pool("typical", &options, &pool) != 0) {
        fprintf(stderr, "%s\n", zs_last_error());
        return 1;
    }
    record = AS(struct record *, zs_malloc_mapped(pool, sizeof *record, &handle));
    if (record == NULL)
        return zs_last_errno();
    record->number = 5;
    zs_unmap_object(pool, handle);
    record = AS(struct record *, zs_malloc_tagged(pool, sizeof *record, 7, &handle));
    if (record == NULL)
        return zs_last_errno();
    record->number = 7;
    zs_unmap_object(pool, handle);
    read_only = AS(const struct record *, zs_map_object(pool, handle, ZS_MM_RO));
    if (read_only != NULL && read_only->number == 5)
        zs_unmap_object(pool, handle);
    if (zs_obj_write(pool, handle, bytes, sizeof bytes) != 0 || zs_obj_read(pool, handle, bytes, sizeof bytes) != 0)
        fprintf(stderr, "%s\n", zs_strerror(zs_last_errno()));
    if (zs_set_evict(pool, evict, record) != 0 || zs_shrink(pool, 1, &pages) != 0)
        return zs_last_limit() == ZSWAP_LIMIT_NONE;
    if (zs_compact(pool, &budget, &pages) != 0 || zs_lookup_class_size(pool, 100, &size) != 0)
        return 1;
    return zs_pool_stats(pool, &stats) | zs_free(pool, handle) | zs_destroy_pool(pool);
}

static int write_page(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    FILE *file = AS(FILE *, context);
    (void)area;
    (void)offset;
    return fwrite(page, ZSWAP_PAGE_SIZE, 1, file) == 1 ? 0 : -5;
}

static int put(void *context, uint64_t owner, uint64_t extent, const void *bytes, size_t count)
{
    (void)owner;
    (void)extent;
    return fwrite(bytes, 1, count, AS(FILE *, context)) == count ? 0 : -ENOSPC;
}

static int get(void *context, uint64_t owner, uint64_t extent, size_t from, void *bytes, size_t count)
{
    (void)owner;
    (void)extent;
    (void)from;
    return fread(bytes, 1, count, AS(FILE *, context)) == count ? 0 : -EAGAIN;
}

static int forget(void *context, uint64_t owner, uint64_t extent)
{
    (void)context;
    (void)owner;
    (void)extent;
    return 0;
}

static uint64_t room(void *context)
{
    (void)context;
    return 1 << 20;
}

static int use_tiers(struct zswap *zswap, struct zswap_area *area, FILE *file)
{
    struct zswap_tier_ops ops;
    struct zswap_tier_options options;
    struct zswap_tier_stats stats;
    uint32_t tier;
    uint64_t nanoseconds;
    memset(&ops, 0, sizeof ops);
    memset(&options, 0, sizeof options);
    memset(&stats, 0, sizeof stats);
    ops.struct_size = sizeof ops;
    ops.put = put;
    ops.get = get;
    ops.remove = forget;
    ops.room = room;
    options.struct_size = sizeof options;
    options.name = "tape";
    stats.struct_size = sizeof stats;
    if (zswap_add_tier(zswap, &ops, file, &options, &tier) != 0 || zswap_area_set_tiers(area, 1u << tier) != 0)
        return 1;
    if (zswap_tier_stats(zswap, tier, &stats) != 0 || stats.away > 0)
        return 1;
    return zswap_tier_latency_permille(zswap, tier, 999, &nanoseconds) | zswap_remove_tier(zswap, tier);
}

static int of_a_zswap(FILE *file)
{
    static unsigned char pages[4][ZSWAP_PAGE_SIZE];
    unsigned char *each[2];
    struct zswap_load_request requests[2];
    struct zswap_claim claims[4];
    struct zswap_stats stats;
    struct zswap_usage usage;
    struct zswap *zswap;
    struct zswap_area *area;
    char json[2000];
    int results[4];
    int gone;
    int at;
    size_t count, length;
    uint64_t written;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    if (zswap_create(NULL, &zswap) != 0 || zswap_add_area(zswap, 1000, NULL, &area) != 0)
        return zs_last_errno();
    if (zswap_set_writeback(zswap, write_page, file) != 0 || zswap_store(area, 7, pages[0]) != 0)
        return zs_last_errno();
    if (zswap_load(area, 7, pages[1], 0) != 0 || zswap_load_pages(area, 0, pages, 4, 0, results) != 0)
        return zs_last_errno();
    each[0] = pages[0];
    each[1] = pages[1];
    memset(requests, 0, sizeof requests);
    for (at = 0; at < 2; at++) {
        requests[at].offset = (uint64_t)at;
        requests[at].page = each[at];
    }
    if (zswap_load_scattered(area, requests, 2, ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT) != 0)
        return requests[0].result;
    if (zswap_writeback_begin(zswap, 4, claims, pages, &count) == 0 && count > 0)
        zswap_writeback_end(&claims[0], 0, &gone);
    memset(&usage, 0, sizeof usage);
    usage.struct_size = sizeof usage;
    if (zswap_usage(zswap, &usage) != 0 || zswap_area_usage(area, &usage) != 0 || usage.bytes_to_go > usage.used_bytes)
        return 1;
    if (zswap_shrink(zswap, 10, &written) != 0 || zswap_stats(zswap, &stats) != 0)
        return 1;
    if (use_tiers(zswap, area, file) != 0)
        return 1;
    return zswap_stats_json(zswap, json, sizeof json, &length) | zswap_remove_area(area) | zswap_destroy(zswap);
}

#ifdef ZSALLOC_UFFD
static int of_a_pager(unsigned char *memory, size_t bytes)
{
    struct zspager_options options;
    struct zspager_stats stats;
    struct zspager *pager;
    struct record *records;
    uint64_t region;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.resident_bytes = (uint64_t)1 << 20;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    if (zspager_create("typical", &options, &pager) != 0)
        return zs_last_errno();
    if (zspager_add_region(pager, memory, bytes, NULL, &region) != 0)
        return zs_last_errno();
    records = AS(struct record *, zspager_map(pager, 100 * sizeof *records, NULL, NULL));
    if (records == NULL)
        return zs_last_errno();
    records[99].number = 99;
    if (zspager_unmap(pager, 0, records, 100 * sizeof *records) != 0)
        return zs_last_errno();
    if (zspager_hold(pager, memory, bytes) != 0 || zspager_release(pager, memory, bytes) != 0)
        return zs_last_errno();
    return zspager_stats(pager, &stats) | zspager_remove_region(pager, region, 0) | zspager_destroy(pager);
}
#endif

int main(void)
{
#ifdef ZSALLOC_UFFD
    static unsigned char memory[1 << 16];
    if (of_a_pager(memory, sizeof memory) != 0)
        return 1;
#endif
    return of_a_pool() | of_a_zswap(stderr);
}
