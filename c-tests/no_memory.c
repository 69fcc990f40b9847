/* Every function without memory: malloc fails from its first call on, from its second call on, and so on. No function
   may end the process or lose anything, and a function that fails must return an error and change nothing.

   Each attempt is a forked child, so that all begin with the same state. Children get the pools, which are in
   anonymous memory. */
#define _GNU_SOURCE
#ifdef WITH_PAGER
#include "pager.h"
#else
#include "pages.h"
#endif
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STORED = 300, ROOM = 1 << 16 };

/* The first call of malloc that fails, and all after it; 0: none. And how many calls there were. */
static int failing_from, calls;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static int fails(void)
{
    if (failing_from == 0 || ++calls < failing_from)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **new, size_t alignment, size_t size)
{
    void *memory = fails() ? NULL : __libc_memalign(alignment, size);
    if (memory == NULL)
        return ENOMEM;
    *new = memory;
    return 0;
}

static struct zs_pool *pool, *tagged;
static zs_handle_t object;
static struct zswap *zswap;
static struct zswap_area *area, *spare;
static int file;
static unsigned char page[PAGE], pages[8 * PAGE];
static char text[ROOM];

static int keeps(void *context, struct zswap_area *of, uint64_t offset, const void *bytes)
{
    (void)context, (void)of, (void)offset, (void)bytes;
    return -EAGAIN;
}

static int frees(void *context, struct zs_pool *of, zs_handle_t handle)
{
    (void)context;
    return zs_free(of, handle);
}

static int create_pool(void)
{
    struct zs_pool *new = NULL;
    int result = zs_create_pool("new", NULL, &new);
    return result != 0 ? result : zs_destroy_pool(new);
}

static int create_pool_in_a_file(void)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .backing = ZS_BACKING_MEMFD};
    struct zs_pool *new = NULL;
    int result = zs_create_pool("new", &options, &new);
    CHECK(result == 0 || strlen(zs_last_error()) > 20);
    return result != 0 ? result : zs_destroy_pool(new);
}

static int create_pool_in_supplied_memory(void)
{
    static _Alignas(4096) unsigned char memory[4 << 20];
    struct zs_pool_options options = {.struct_size = sizeof options, .backing = ZS_BACKING_MEMORY, .memory = memory,
                                      .memory_bytes = sizeof memory};
    struct zs_pool *new = NULL;
    int result = zs_create_pool("new", &options, &new);
    return result != 0 ? result : zs_destroy_pool(new);
}

static int set_evict(void)
{
    return zs_set_evict(pool, frees, NULL);
}

static int shrink_pool(void)
{
    uint64_t freed = 0;
    int result = zs_set_evict(pool, frees, NULL);
    return result != 0 ? result : zs_shrink(pool, 2, &freed);
}

static int use_objects(void)
{
    zs_handle_t handle = 0;
    for (size_t size = 16; size <= ZS_MAX_ALLOC_SIZE; size += 100) {
        (void)MAPPED(zs_malloc_mapped(pool, size, &handle));
        OK(zs_unmap_object(pool, handle));
        OK(zs_free(pool, handle));
    }
    return 0;
}

static int use_tagged_objects(void)
{
    for (size_t size = 16; size <= ZS_MAX_TAGGED_SIZE; size += 100) {
        zs_handle_t handle = 0;
        uint64_t tag = 0;
        (void)MAPPED(zs_malloc_tagged(tagged, size, size + 1, &handle));
        OK(zs_get_tag(tagged, handle, &tag));
        CHECK(tag == size + 1);
        OK(zs_unmap_object(tagged, handle));
        OK(zs_free(tagged, handle));
    }
    return 0;
}

static int compact_pool(void)
{
    uint64_t freed = 0;
    return zs_compact(pool, NULL, &freed);
}

static int pool_stats(void)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    return zs_pool_stats(pool, &stats);
}

static int create_zswap_with(uint32_t codec)
{
    struct zswap_options options = {.struct_size = sizeof options, .codec = codec};
    struct zswap *new = NULL;
    int result = zswap_create(&options, &new);
    return result != 0 ? result : zswap_destroy(new);
}

static int create_zswap(void)
{
    return create_zswap_with(ZSWAP_CODEC_LZ4);
}

static int create_zswap_zstd(void)
{
    return create_zswap_with(ZSWAP_CODEC_ZSTD);
}

static int add_area(void)
{
    struct zswap_area *new = NULL;
    struct zswap_area_options options = {.struct_size = sizeof options, .name = "an area with a name"};
    int result = zswap_add_area(zswap, 1000, &options, &new);
    return result != 0 ? result : zswap_remove_area(new);
}

static int remove_area(void)
{
    return zswap_remove_area(spare);
}

static int store(void)
{
    return zswap_store(area, STORED, page);
}

static int store_pages(void)
{
    return zswap_store_pages(area, STORED, pages, 8);
}

static int load(void)
{
    return zswap_load(area, 1, page, 0);
}

static int load_pages(void)
{
    return zswap_load_pages(area, 1, pages, 8, 0, NULL);
}

static int invalidate(void)
{
    return zswap_invalidate(area, 0, STORED, 0);
}

static int set_codec(void)
{
    return zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 5);
}

static int recompress(void)
{
    uint64_t done = 0;
    return zswap_recompress(area, 10, ZSWAP_CODEC_ZSTD, 3, &done);
}

static int set_writeback(void)
{
    return zswap_set_writeback(zswap, keeps, NULL);
}

static int set_file(void)
{
    return zswap_set_backing_file(zswap, file, 1 << 20);
}

/* None of these is called. */
static int put(void *context, uint64_t owner, uint64_t extent, const void *bytes, size_t count)
{
    (void)context, (void)owner, (void)extent, (void)bytes, (void)count;
    return -EAGAIN;
}

static int get(void *context, uint64_t owner, uint64_t extent, size_t from, void *bytes, size_t count)
{
    (void)context, (void)owner, (void)extent, (void)from, (void)bytes, (void)count;
    return -EAGAIN;
}

static int forget(void *context, uint64_t owner, uint64_t extent)
{
    (void)context, (void)owner, (void)extent;
    return 0;
}

static int add_tier(void)
{
    struct zswap_tier_ops ops = {.struct_size = sizeof ops, .put = put, .get = get, .remove = forget};
    struct zswap_tier_options options = {.struct_size = sizeof options, .name = "a tier"};
    uint32_t tier = 77;
    return zswap_add_tier(zswap, &ops, NULL, &options, &tier);
}

static int add_file_tier(void)
{
    uint32_t tier = 77;
    return zswap_add_file_tier(zswap, "a file", file, 1 << 20, &tier);
}

/* The backing file is the tier with the number 0. */
static int use_tier(void)
{
    struct zswap_tier_stats of_tier = {.struct_size = sizeof of_tier};
    uint64_t nanoseconds = 0;
    OK(zswap_area_set_tiers(area, 1));
    OK(zswap_tier_stats(zswap, 0, &of_tier));
    OK(zswap_tier_latency_permille(zswap, 0, 500, &nanoseconds));
    return zswap_remove_tier(zswap, 0);
}

static int shrink(void)
{
    uint64_t written = 0;
    return zswap_shrink(zswap, 5, &written);
}

static int shrink_area(void)
{
    uint64_t written = 0;
    return zswap_shrink_area(area, 5, &written);
}

static int shrink_by(void)
{
    struct zswap_shrink_options options = {.struct_size = sizeof options, .max_pages = 5, .max_bytes = 1 << 20,
                                           .flags = ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    return zswap_shrink_by(zswap, &options, &shrunk);
}

static int shrink_area_by(void)
{
    struct zswap_shrink_options options = {.struct_size = sizeof options, .max_pages = 5, .min_age = 1};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    OK(zswap_age(area));
    OK(zswap_age(area));
    return zswap_shrink_area_by(area, &options, &shrunk);
}

static int writeback(void)
{
    struct zswap_claim claims[8];
    size_t count = 0;
    struct zswap_usage usage = {.struct_size = sizeof usage};
    OK(zswap_writeback_begin_area(area, 4, claims, pages, &count));
    size_t more = 0;
    OK(zswap_writeback_begin(zswap, 4, claims + count, pages, &more));
    CHECK(count > 0 && more > 0);
    for (size_t at = 0; at < count + more; at++)
        OK(zswap_writeback_end(&claims[at], 0, NULL));
    RESULT(zswap_writeback_end(&claims[0], 0, NULL), -EINVAL);
    return zswap_usage(zswap, &usage) | zswap_area_usage(area, &usage);
}

static int compact(void)
{
    uint64_t freed = 0;
    return zswap_compact(zswap, NULL, &freed);
}

static int reclaimable(void)
{
    uint64_t count = 0;
    int result = zswap_reclaimable_pages(zswap, &count);
    CHECK(result != 0 || count > 0);
    return result;
}

static int stats(void)
{
    struct zswap_stats of = {.struct_size = sizeof of};
    int result = zswap_stats(zswap, &of);
    CHECK(result != 0 || (of.areas == 2 && of.counts.stores == STORED));
    return result;
}

static int area_stats(void)
{
    struct zswap_area_stats of = {.struct_size = sizeof of};
    return zswap_area_stats(area, &of);
}

static int json(void)
{
    size_t length = 0;
    int result = zswap_stats_json(zswap, text, ROOM, &length);
    CHECK(result != 0 || strlen(text) == length);
    return result;
}

static int limits(void)
{
    OK(zswap_set_limit(zswap, 64 * MIB));
    return zswap_area_set_limit(area, 32 * MIB);
}

static int destroy_pool(void)
{
    return zs_destroy_pool(pool);
}

static int destroy_zswap(void)
{
    OK(zswap_remove_area(area));
    OK(zswap_remove_area(spare));
    return zswap_destroy(zswap);
}

#ifdef WITH_PAGER
/* A child does not get the parent's pager: each creates its own, while malloc works. */
static struct zspager *own_pager(uint32_t fault_mode)
{
    int from = failing_from;
    failing_from = 0;
    struct zspager *pager = pager_with(LIMIT, fault_mode, ZSPAGER_EVICT_MOVING);
    calls = 0;
    failing_from = from;
    return pager;
}

static int create_pager_with(uint32_t fault_mode)
{
    struct zspager_options options = {.struct_size = sizeof options, .fault_mode = fault_mode,
                                      .eviction = ZSPAGER_EVICT_MOVING};
    struct zspager *new = NULL;
    int result = zspager_create("new", &options, &new);
    return result != 0 ? result : zspager_destroy(new);
}

static int create_pager(void)
{
    return create_pager_with(ZSPAGER_FAULT_SIGBUS);
}

static int create_pager_with_threads(void)
{
    return create_pager_with(ZSPAGER_FAULT_THREADS);
}

static int add_region(void)
{
    struct zspager *pager = own_pager(ZSPAGER_FAULT_SIGBUS);
    uint64_t region = 0;
    int result = zspager_add_region(pager, memory_of(ABOVE), ABOVE * PAGE, NULL, &region);
    return result != 0 ? result : zspager_remove_region(pager, region, 0);
}

static int map_region(void)
{
    struct zspager *pager = own_pager(ZSPAGER_FAULT_SIGBUS);
    uint64_t region = 0;
    struct zspager_region_options options = {.struct_size = sizeof options, .name = "a region with a name"};
    void *memory = zspager_map(pager, ABOVE * PAGE, &options, &region);
    return memory == NULL ? zs_last_errno() : zspager_unmap(pager, region, memory, ABOVE * PAGE);
}

static int add_shared_region(void)
{
    struct zspager *pager = own_pager(ZSPAGER_FAULT_SIGBUS);
    int of_region = memfd_create("region", 0);
    CHECK(of_region >= 0 && ftruncate(of_region, ABOVE * PAGE) == 0);
    void *memory = mmap(NULL, ABOVE * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, of_region, 0);
    CHECK(memory != MAP_FAILED);
    struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED,
                                             .shared_fd = of_region};
    uint64_t region = 0;
    int result = zspager_add_region(pager, memory, ABOVE * PAGE, &options, &region);
    return result != 0 ? result : zspager_remove_region(pager, region, 0);
}

static int add_tiers_of_pager(void)
{
    struct zspager *pager = own_pager(ZSPAGER_FAULT_THREADS);
    struct zswap_tier_ops ops = {.struct_size = sizeof ops, .put = put, .get = get, .remove = forget};
    struct zswap_tier_options options = {.struct_size = sizeof options, .name = "a tier"};
    uint32_t tier = 77;
    int result = zspager_add_tier(pager, &ops, NULL, &options, &tier);
    if (result == 0)
        result = zspager_add_file_tier(pager, "a file", file, 1 << 20, &tier);
    return result != 0 ? result : zspager_remove_tier(pager, tier);
}

static int use_pager(void)
{
    int from = failing_from;
    failing_from = 0;
    struct zspager *pager = own_pager(ZSPAGER_FAULT_SIGBUS);
    unsigned char *memory = memory_of(ABOVE);
    uint64_t region = region_of(pager, memory, ABOVE), done = 0;
    size_t length = 0;
    calls = 0;
    failing_from = from;
    for (size_t at = 0; at < ABOVE; at++)
        text_page(memory + at * PAGE, at);
    for (size_t at = 0; at < ABOVE; at++) {
        text_page(page, at);
        CHECK(memcmp(memory + at * PAGE, page, PAGE) == 0);
    }
    OK(zspager_set_resident_limit(pager, LIMIT / 2 * PAGE));
    OK(zspager_set_codec(pager, ZSWAP_CODEC_LZ4, 0));
    OK(zspager_evict(pager, 5, &done));
    OK(zspager_hold(pager, memory, 4 * PAGE));
    OK(zspager_release(pager, memory, 4 * PAGE));
    OK(zspager_discard(pager, memory, PAGE));
    OK(zspager_compact(pager, NULL, &done));
    OK(zspager_stats_json(pager, text, ROOM, &length));
    CHECK(pager_stats_of(pager).stored > 0 && strlen(text) == length);
    OK(zspager_latency_permille(pager, 500, &done));
    OK(zspager_remove_region(pager, region, 0));
    return zspager_destroy(pager);
}
#endif

/* Whether a function may fail without memory, or must work. */
enum kind { MAY_FAIL, HAS_TO_WORK };

static const struct {
    const char *name;
    int (*call)(void);
    enum kind kind;
} functions[] = {
    {"zs_create_pool", create_pool, MAY_FAIL},
    {"zs_create_pool, in a memory file", create_pool_in_a_file, MAY_FAIL},
    {"zs_create_pool, in supplied memory", create_pool_in_supplied_memory, MAY_FAIL},
    {"zs_set_evict", set_evict, HAS_TO_WORK},
    {"zs_malloc_mapped, zs_free", use_objects, HAS_TO_WORK},
    {"zs_malloc_tagged, zs_get_tag", use_tagged_objects, HAS_TO_WORK},
    {"zs_compact", compact_pool, HAS_TO_WORK},
    {"zs_shrink", shrink_pool, HAS_TO_WORK},
    {"zs_pool_stats", pool_stats, HAS_TO_WORK},
    {"zs_destroy_pool", destroy_pool, HAS_TO_WORK},
    {"zswap_create", create_zswap, MAY_FAIL},
    {"zswap_create, Zstandard", create_zswap_zstd, MAY_FAIL},
    {"zswap_add_area", add_area, MAY_FAIL},
    {"zswap_remove_area", remove_area, HAS_TO_WORK},
    {"zswap_store", store, HAS_TO_WORK},
    {"zswap_store_pages", store_pages, HAS_TO_WORK},
    {"zswap_load", load, HAS_TO_WORK},
    {"zswap_load_pages", load_pages, HAS_TO_WORK},
    {"zswap_invalidate", invalidate, HAS_TO_WORK},
    {"zswap_set_codec, Zstandard", set_codec, MAY_FAIL},
    {"zswap_recompress", recompress, MAY_FAIL},
    {"zswap_set_writeback", set_writeback, HAS_TO_WORK},
    {"zswap_set_backing_file", set_file, MAY_FAIL},
    {"zswap_add_tier", add_tier, MAY_FAIL},
    {"zswap_add_file_tier", add_file_tier, MAY_FAIL},
    {"zswap_remove_tier, statistics of a tier", use_tier, HAS_TO_WORK},
    {"zswap_shrink", shrink, HAS_TO_WORK},
    {"zswap_shrink_area", shrink_area, HAS_TO_WORK},
    {"zswap_shrink_by", shrink_by, HAS_TO_WORK},
    {"zswap_age, zswap_shrink_area_by", shrink_area_by, HAS_TO_WORK},
    {"zswap_writeback_begin, _end, usage, errors", writeback, HAS_TO_WORK},
    {"zswap_compact", compact, HAS_TO_WORK},
    {"zswap_reclaimable_pages", reclaimable, HAS_TO_WORK},
    {"zswap_stats", stats, HAS_TO_WORK},
    {"zswap_area_stats", area_stats, HAS_TO_WORK},
    {"zswap_stats_json", json, HAS_TO_WORK},
    {"zswap_set_limit", limits, HAS_TO_WORK},
    {"zswap_destroy", destroy_zswap, HAS_TO_WORK},
#ifdef WITH_PAGER
    {"zspager_create", create_pager, MAY_FAIL},
    {"zspager_create, with threads", create_pager_with_threads, MAY_FAIL},
    {"zspager_add_region", add_region, MAY_FAIL},
    {"zspager_map, zspager_unmap", map_region, MAY_FAIL},
    {"zspager_add_region, shared", add_shared_region, MAY_FAIL},
    {"zspager_add_tier, zspager_add_file_tier, zspager_remove_tier", add_tiers_of_pager, MAY_FAIL},
    {"all other calls of a pager", use_pager, HAS_TO_WORK},
#endif
};

/* What an attempt's process reports to its parent. */
struct outcome {
    int result;
    int calls;
};

/* Checks that every stored page is right. */
static void check_pages(void)
{
    unsigned char want[PAGE], got[PAGE];
    for (uint64_t at = 0; at < STORED; at++) {
        text_page(want, at);
        OK(zswap_load(area, at, got, 0));
        CHECK(memcmp(want, got, PAGE) == 0);
    }
    check_object(pool, object, 100, 7);
}

static struct outcome attempt(int (*call)(void), int from, int checked)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        calls = 0;
        failing_from = from;
        int result = call();
        failing_from = 0;
        struct outcome outcome = {result, calls};
        /* A failed call has changed nothing. */
        if (result != 0 && checked)
            check_pages();
        CHECK(write(ends[1], &outcome, sizeof outcome) == sizeof outcome);
        _exit(0);
    }
    struct outcome outcome;
    close(ends[1]);
    CHECK(read(ends[0], &outcome, sizeof outcome) == sizeof outcome);
    close(ends[0]);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return outcome;
}

/* Makes each call of malloc fail in turn, until there is none left. */
static void fail_each(const char *name, int (*call)(void), enum kind kind)
{
    int from = 1;
    for (;; from++) {
        fprintf(stderr, "%s, from call %d of malloc on\n", name, from);
        struct outcome outcome = attempt(call, from, kind == MAY_FAIL);
        if (outcome.calls < from)
            break;
        RESULT(outcome.result, kind == MAY_FAIL ? -ENOMEM : 0);
    }
    printf("%-36s %2d calls of malloc, %s\n", name, from - 1, kind == MAY_FAIL ? "each -ENOMEM" : "works without");
}

int main(void)
{
    OK(zs_create_pool("objects", NULL, &pool));
    OK(zs_set_evict(pool, frees, NULL));
    struct zs_pool_tuning tags = {.struct_size = sizeof tags, .flags = ZS_POOL_TAGGED};
    struct zs_pool_options with_tags = {.struct_size = sizeof with_tags, .tuning = &tags};
    OK(zs_create_pool("tagged", &with_tags, &tagged));
    object = object_with(pool, 100, 7);
    for (uint64_t at = 0; at < STORED; at++)
        object_with(pool, 1000, at);
    OK(zswap_create(NULL, &zswap));
    OK(zswap_add_area(zswap, 1000, NULL, &area));
    OK(zswap_add_area(zswap, 1000, NULL, &spare));
    for (uint64_t at = 0; at < STORED; at++) {
        text_page(page, at);
        OK(zswap_store(area, at, page));
    }
    file = memfd_create("backing", 0);
    CHECK(file >= 0);
    /* Shrinks write to this file, and pages are loaded from it. */
    OK(zswap_set_backing_file(zswap, file, 4 * MIB));
    uint64_t count = 0;
    OK(zswap_reclaimable_pages(zswap, &count));
    for (size_t at = 0; at < sizeof functions / sizeof *functions; at++)
        if (functions[at].call != writeback && functions[at].call != set_file && functions[at].call != set_writeback)
            fail_each(functions[at].name, functions[at].call, functions[at].kind);
    /* The file can be replaced when no page is on it. */
    OK(zswap_set_backing_file(zswap, -1, 0));
    for (size_t at = 0; at < sizeof functions / sizeof *functions; at++)
        if (functions[at].call == writeback || functions[at].call == set_file || functions[at].call == set_writeback)
            fail_each(functions[at].name, functions[at].call, functions[at].kind);
    return 0;
}
