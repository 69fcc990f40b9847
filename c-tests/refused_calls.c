/* Each system call of each function of a pool and of a zswap is refused in turn: see refuse_each.h. */
#define _GNU_SOURCE
#include "pages.h"
#include "refuse_each.h"
#include "tier.h"

enum { BASE = 40, MORE = 400, ROOM = 1 << 16 };


/* Checks that a failed creation left a sentence that says what to do. */
static int said(int result)
{
    CHECK(result == 0 || strlen(zs_last_error()) > 20);
    return result;
}

/* A pool. */

static struct zs_pool_tuning pool_tuning = {.struct_size = sizeof pool_tuning};
static struct zs_pool_options pool_options = {.struct_size = sizeof pool_options, .tuning = &pool_tuning, .max_bytes = 16 * MIB};
static struct zs_pool *pool, *other_pool;
static zs_handle_t base[BASE], more[MORE];

static size_t size_of(size_t at)
{
    static const size_t sizes[] = {64, 1000, 2500, 4000, 4112};
    return sizes[at % 5];
}

static void check_base(void)
{
    for (size_t at = 0; at < BASE; at++)
        check_object(pool, base[at], size_of(at), at);
}

/* Counts only pages of objects: the number of pages of tables depends on where the objects were. */
static uint64_t pages_of_pool(void)
{
    uint64_t freed = 0;
    OK(zs_compact(pool, NULL, &freed));
    struct zs_pool_stats stats = stats_of(pool);
    return stats.total_pages - stats.metadata_pages;
}

static void make_pool(void)
{
    OK(said(zs_create_pool("refused", &pool_options, &pool)));
    for (size_t at = 0; at < BASE; at++)
        base[at] = object_with(pool, size_of(at), at);
}

static void unmake_pool(void)
{
    OK(zs_destroy_pool(pool));
}

static int create_pool(void)
{
    return other_pool != NULL ? 0 : said(zs_create_pool("other", &pool_options, &other_pool));
}

static void make_other_pool(void)
{
    OK(create_pool());
    for (size_t at = 0; at < BASE; at++)
        object_with(other_pool, size_of(at), at);
}

static int destroy_other_pool(void)
{
    int result = other_pool == NULL ? 0 : zs_destroy_pool(other_pool);
    if (result == 0)
        other_pool = NULL;
    return result;
}

static void undo_create_pool(void)
{
    /* The pool works. */
    zs_handle_t handle = object_with(other_pool, 1000, 1);
    check_object(other_pool, handle, 1000, 1);
    OK(destroy_other_pool());
}

static int fork_pool(void)
{
    int result = zs_fork_prepare(pool);
    return result != 0 ? result : zs_fork_done(pool);
}

static int set_max_bytes(void)
{
    int result = zs_set_max_bytes(pool, 8 * MIB);
    return result != 0 ? result : zs_set_max_bytes(pool, 16 * MIB);
}

static int ask_pool(void)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    uint64_t pages = 0;
    size_t size = 0;
    int fd = -1;
    OK(zs_get_total_pages(pool, &pages));
    OK(zs_lookup_class_size(pool, 100, &size));
    (void)zs_pool_fd(pool, &fd);
    return zs_pool_stats(pool, &stats);
}

static int allocate(void)
{
    int result = 0;
    for (size_t at = 0; at < MORE; at++) {
        void *object = NULL;
        if (more[at] != 0)
            continue;
        int now = 0;
        if (at % 2 == 0)
            now = zs_malloc(pool, size_of(at), &more[at]);
        else if ((object = zs_malloc_mapped(pool, size_of(at), &more[at])) == NULL)
            now = zs_last_errno();
        if (now == 0 && object == NULL)
            object = MAPPED(zs_map_object(pool, more[at], ZS_MM_WO));
        if (now == 0) {
            fill(object, size_of(at), at);
            OK(zs_unmap_object(pool, more[at]));
        }
        result = result != 0 ? result : now;
    }
    return result;
}

/* A new pool takes memory; a pool that was in use has it already. */
static int allocate_in_other(void)
{
    int result = 0;
    for (size_t at = 0; at < MORE; at++) {
        void *object = more[at] != 0 ? NULL : zs_malloc_mapped(other_pool, size_of(at), &more[at]);
        int now = more[at] == 0 ? zs_last_errno() : 0;
        if (object != NULL) {
            fill(object, size_of(at), at);
            OK(zs_unmap_object(other_pool, more[at]));
        }
        result = result != 0 ? result : now;
    }
    return result;
}

static void undo_allocate_in_other(void)
{
    for (size_t at = 0; at < MORE; at++) {
        check_object(other_pool, more[at], size_of(at), at);
        more[at] = 0;
    }
    OK(destroy_other_pool());
}

static void make_new_pool(void)
{
    OK(create_pool());
}

static void make_more(void)
{
    OK(allocate());
}

static int free_more(void)
{
    for (size_t at = 0; at < MORE; at++)
        if (more[at] != 0) {
            OK(zs_free(pool, more[at]));
            more[at] = 0;
        }
    return 0;
}

static void undo_more(void)
{
    for (size_t at = 0; at < MORE; at++)
        if (more[at] != 0)
            check_object(pool, more[at], size_of(at), at);
    OK(free_more());
}

static void make_gaps(void)
{
    OK(allocate());
    for (size_t at = 0; at < MORE; at++)
        if (at % 7 != 0) {
            OK(zs_free(pool, more[at]));
            more[at] = 0;
        }
}

static int compact_pool(void)
{
    uint64_t freed = 0;
    return zs_compact(pool, NULL, &freed);
}

static int read_and_write(void)
{
    static unsigned char bytes[ZS_MAX_ALLOC_SIZE];
    for (size_t at = 0; at < BASE; at++) {
        OK(zs_obj_read(pool, base[at], bytes, size_of(at)));
        CHECK(is_filled(bytes, size_of(at), at));
        OK(zs_obj_write(pool, base[at], bytes, size_of(at)));
    }
    return 0;
}

/* Frees the offered object unless the test needs it. */
static int frees(void *context, struct zs_pool *of, zs_handle_t handle)
{
    (void)context;
    for (size_t at = 0; at < MORE; at++)
        if (more[at] == handle) {
            more[at] = 0;
            return zs_free(of, handle);
        }
    return -EBUSY;
}

static int shrink_pool(void)
{
    uint64_t freed = 0;
    OK(zs_set_evict(pool, frees, NULL));
    return zs_shrink(pool, 30, &freed);
}

static const struct act of_pool[] = {
    {"zs_create_pool", NULL, create_pool, undo_create_pool, 0, 0},
    {"zs_destroy_pool", make_other_pool, destroy_other_pool, NULL, 0, 0},
    {"zs_fork_prepare, zs_fork_done", NULL, fork_pool, NULL, 0, 0},
    {"zs_set_max_bytes", NULL, set_max_bytes, NULL, 0, 0},
    {"zs_pool_stats and the like", NULL, ask_pool, NULL, 0, 0},
    {"zs_malloc, zs_malloc_mapped", NULL, allocate, undo_more, 0, 0},
    {"zs_malloc_mapped, in a new pool", make_new_pool, allocate_in_other, undo_allocate_in_other, 0, 0},
    {"zs_free", make_more, free_more, NULL, 0, 0},
    {"zs_map_object, zs_obj_read, _write", NULL, read_and_write, NULL, 0, 0},
    {"zs_compact", make_gaps, compact_pool, undo_more, 0, 0},
    {"zs_set_evict, zs_shrink", make_more, shrink_pool, undo_more, 0, 0},
};

static void refuse_in_pool(const char *name, uint32_t backing, uint32_t flags)
{
    pool_options.backing = backing;
    pool_options.flags = flags & POOL_FLAGS;
    pool_tuning.flags = flags & ~POOL_FLAGS;
    refuse_in(name, make_pool, of_pool, sizeof of_pool / sizeof *of_pool, unmake_pool, check_base, pages_of_pool);
}

static void refuse_in_supplied_memory(void)
{
    static _Alignas(4096) unsigned char memory[8 << 20], other[8 << 20];
    pool_options.max_bytes = 0;
    pool_options.memory_bytes = sizeof memory;
    pool_options.memory = memory;
    /* Only one pool may use the supplied memory. */
    act_name = "supplied memory";
    pool_options.backing = ZS_BACKING_MEMORY;
    pool_options.flags = ZS_POOL_RELEASABLE;
    pool_tuning.flags = 0;
    make_pool();
    pool_options.memory = other;
    check_stored = check_base;
    int all = 0;
    printf("pool in supplied memory\n");
    for (size_t at = 0; at < sizeof of_pool / sizeof *of_pool; at++)
        all += refuse_each(&of_pool[at]);
    unmake_pool();
    act_name = "";
    printf("pool in supplied memory: %d system calls refused\n\n", all);
    pool_options.memory = NULL;
    pool_options.memory_bytes = 0;
    pool_options.max_bytes = 16 * MIB;
}

/* A zswap. */

static struct zswap_tuning zswap_tuning = {.struct_size = sizeof zswap_tuning, .pool = &pool_options};
static struct zswap_options zswap_options = {.struct_size = sizeof zswap_options, .tuning = &zswap_tuning};
static struct zswap *zswap, *other_zswap;
static struct zswap_area *area, *other_area;
static int file = -1, is_on_file;

static void check_pages(void)
{
    for (uint64_t at = 0; at < BASE; at++)
        check_page(area, at, at);
}

static uint64_t pages_of_zswap(void)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    uint64_t freed = 0;
    OK(zswap_compact(zswap, NULL, &freed));
    OK(zswap_pool_stats(zswap, &stats));
    return stats.total_pages - stats.metadata_pages;
}

static void make_zswap(void)
{
    OK(said(zswap_create(&zswap_options, &zswap)));
    /* What a codec needs is kept. */
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 1));
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_LZ4, 0));
    area = area_with(zswap, 1000);
    for (uint64_t at = 0; at < BASE; at++)
        OK(store_page(area, at, at));
}

static void unmake_zswap(void)
{
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    is_on_file = 0;
}

static int create_zswap(void)
{
    return other_zswap != NULL ? 0 : said(zswap_create(&zswap_options, &other_zswap));
}

static int destroy_other_zswap(void)
{
    int result = other_zswap == NULL ? 0 : zswap_destroy(other_zswap);
    if (result == 0)
        other_zswap = NULL;
    return result;
}

static void use_other_zswap(void)
{
    struct zswap_area *new = area_with(other_zswap, 100);
    for (uint64_t at = 0; at < 8; at++)
        OK(store_page(new, at, at));
    for (uint64_t at = 0; at < 8; at++)
        check_page(new, at, at);
    OK(zswap_remove_area(new));
}

static void undo_create_zswap(void)
{
    use_other_zswap();
    OK(destroy_other_zswap());
}

static void make_other_zswap(void)
{
    OK(create_zswap());
    use_other_zswap();
}

static int fork_zswap(void)
{
    int result = zswap_fork_prepare(zswap);
    return result != 0 ? result : zswap_fork_done(zswap);
}

static int add_area(void)
{
    return other_area != NULL ? 0 : zswap_add_area(zswap, 300000, NULL, &other_area);
}

static int remove_area(void)
{
    int result = other_area == NULL ? 0 : zswap_remove_area(other_area);
    if (result == 0)
        other_area = NULL;
    return result;
}

static void undo_add_area(void)
{
    OK(store_page(other_area, 299999, 7));
    check_page(other_area, 299999, 7);
    OK(remove_area());
}

static void make_area(void)
{
    OK(add_area());
    for (uint64_t at = 0; at < 200; at++)
        OK(store_page(other_area, at * 1000, at));
}

/* The pages of a store: COUNT pages from FIRST on. A store that fails leaves none of them. */
enum { FIRST = 100, COUNT = 200 };
static unsigned char pages[COUNT * PAGE];

static int store(void)
{
    int result = 0;
    for (uint64_t at = 0; at < COUNT; at++) {
        int now = store_page(area, FIRST + at, at);
        if (now != 0)
            check_absent(area, FIRST + at);
        result = result != 0 ? result : now;
    }
    return result;
}

static int store_in_other(void)
{
    int result = 0;
    for (uint64_t at = 0; at < COUNT; at++) {
        int now = store_page(other_area, at, at);
        if (now != 0)
            check_absent(other_area, at);
        result = result != 0 ? result : now;
    }
    return result;
}

/* A new zswap's pool takes memory; one that was in use has it already. */
static void make_new_zswap(void)
{
    OK(create_zswap());
    other_area = area_with(other_zswap, 1000);
}

static void undo_store_in_other(void)
{
    for (uint64_t at = 0; at < COUNT; at++)
        check_page(other_area, at, at);
    OK(remove_area());
    OK(destroy_other_zswap());
}

static int store_pages(void)
{
    for (uint64_t at = 0; at < COUNT; at++)
        make_page(pages + at * PAGE, at);
    return zswap_store_pages(area, FIRST, pages, COUNT);
}

static void make_pages(void)
{
    OK(store_pages());
}

static int invalidate(void)
{
    return zswap_invalidate(area, FIRST, COUNT, 0);
}

static void undo_pages(void)
{
    for (uint64_t at = 0; at < COUNT; at += 7)
        check_page(area, FIRST + at, at);
    OK(invalidate());
}

static void undo_invalidate(void)
{
    for (uint64_t at = 0; at < COUNT; at++)
        check_absent(area, FIRST + at);
}

static int load(void)
{
    static unsigned char page[PAGE];
    int result = 0;
    for (uint64_t at = 0; at < BASE; at++) {
        int now = zswap_load(area, at, page, 0);
        CHECK(now != 0 || is_page(page, at));
        result = result != 0 ? result : now;
    }
    return result;
}

static int load_pages(void)
{
    static int32_t results[COUNT];
    int result = 0;
    memset(pages, 0xee, sizeof pages);
    int now = zswap_load_pages(area, 0, pages, BASE, 0, results);
    CHECK(may_be_result(&(struct act){.allowed = -EIO}, now));
    for (uint64_t at = 0; at < BASE; at++) {
        CHECK(results[at] != 0 || is_page(pages + at * PAGE, at));
        result = result != 0 ? result : results[at];
    }
    return result;
}

static int load_scattered(void)
{
    struct zswap_load_request requests[BASE] = {{0}};
    int result = 0;
    for (uint64_t at = 0; at < BASE; at++) {
        requests[at].offset = BASE - 1 - at;
        requests[at].page = pages + at * PAGE;
    }
    (void)zswap_load_scattered(area, requests, BASE, 0);
    for (uint64_t at = 0; at < BASE; at++) {
        CHECK(requests[at].result != 0 || is_page(requests[at].page, requests[at].offset));
        result = result != 0 ? result : requests[at].result;
    }
    return result;
}

/* Takes a page. If that fails, the page must still be stored. */
static int take(void)
{
    static unsigned char page[PAGE];
    int result = 0;
    for (uint64_t at = 0; at < COUNT; at++) {
        int now = zswap_load(area, FIRST + at, page, ZSWAP_LOAD_EXCLUSIVE);
        CHECK(now != 0 || is_page(page, at));
        result = result != 0 ? result : now == -ENOENT ? 0 : now;
    }
    return result;
}

static int set_codec(void)
{
    int result = zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 1);
    return result != 0 ? result : zswap_set_codec(zswap, ZSWAP_CODEC_LZ4, 0);
}

static int recompress(void)
{
    uint64_t done = 0;
    return zswap_recompress(area, 100, ZSWAP_CODEC_ZSTD, 1, &done);
}

static int keeps(void *context, struct zswap_area *of, uint64_t offset, const void *page)
{
    (void)context, (void)page;
    return of == area && offset >= FIRST && offset < FIRST + COUNT ? 0 : -EAGAIN;
}

static int set_writeback(void)
{
    return is_on_file ? 0 : zswap_set_writeback(zswap, keeps, NULL);
}

static int set_file(void)
{
    return zswap_set_backing_file(zswap, file, 4 * MIB);
}

static struct shelf shelf;
static uint32_t tier = 77;

static int add_tier(void)
{
    return tier != 77 ? 0 : zswap_add_tier(zswap, &shelf_ops, &shelf, NULL, &tier);
}

static int add_file_tier(void)
{
    return tier != 77 ? 0 : zswap_add_file_tier(zswap, "file", file, 4 * MIB, &tier);
}

static int remove_tier(void)
{
    int result = tier == 77 ? 0 : zswap_remove_tier(zswap, tier);
    if (result == 0)
        tier = 77;
    return result;
}

/* Lets pages go to the tier and come back. */
static void undo_add_tier(void)
{
    struct zswap_tier_stats stats = {.struct_size = sizeof stats};
    uint64_t written = 0;
    make_pages();
    OK(zswap_shrink(zswap, 30, &written));
    OK(zswap_tier_stats(zswap, tier, &stats));
    CHECK(written > 0 && stats.pages == written);
    undo_pages();
    /* Pages that are kept may be on the tier as well. */
    for (uint64_t at = 0; at < BASE; at++)
        OK(store_page(area, at, at));
    OK(remove_tier());
}

static void prepare_remove_tier(void)
{
    OK(add_tier());
}

static void undo_set_file(void)
{
    OK(zswap_set_backing_file(zswap, -1, 0));
}

static int unset_file(void)
{
    return zswap_set_backing_file(zswap, -1, 0);
}

static void prepare_unset_file(void)
{
    OK(set_file());
}

static int shrink(void)
{
    uint64_t written = 0;
    int result = zswap_shrink(zswap, 30, &written);
    return result == -ENOENT ? 0 : result;
}

static int shrink_area(void)
{
    uint64_t written = 0;
    int result = zswap_shrink_area(area, 30, &written);
    return result == -ENOENT ? 0 : result;
}

static int shrink_by(void)
{
    struct zswap_shrink_options options = {.struct_size = sizeof options, .max_pages = 30, .max_bytes = MIB,
                                           .flags = ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    OK(zswap_age(area));
    int result = zswap_shrink_by(zswap, &options, &shrunk);
    return result == -ENOENT ? 0 : result;
}

/* Checks that pages written by the callback have left the pool. */
static void undo_shrink(void)
{
    static unsigned char page[PAGE];
    for (uint64_t at = 0; at < COUNT; at++) {
        int result = zswap_load(area, FIRST + at, page, 0);
        CHECK(result == 0 ? is_page(page, at) : result == -ENOENT && !is_on_file);
    }
    OK(invalidate());
}

static int write_back(void)
{
    struct zswap_claim claims[8];
    size_t count = 0;
    int result = zswap_writeback_begin_area(area, 8, claims, pages, &count);
    for (size_t at = 0; result == 0 && at < count; at++)
        OK(zswap_writeback_end(&claims[at], -EAGAIN, NULL));
    return result;
}

static int compact_zswap(void)
{
    uint64_t freed = 0;
    return zswap_compact(zswap, NULL, &freed);
}

static void make_page_gaps(void)
{
    OK(store_pages());
    for (uint64_t at = 0; at < COUNT; at++)
        if (at % 7 != 0)
            OK(zswap_invalidate(area, FIRST + at, 1, 0));
}

static void undo_page_gaps(void)
{
    for (uint64_t at = 0; at < COUNT; at++)
        if (at % 7 == 0)
            check_page(area, FIRST + at, at);
        else
            check_absent(area, FIRST + at);
    OK(invalidate());
}

static int ask_zswap(void)
{
    static char text[ROOM];
    struct zswap_stats stats = {.struct_size = sizeof stats};
    struct zswap_area_stats of_area = {.struct_size = sizeof of_area};
    struct zs_pool_stats of_zs_pool = {.struct_size = sizeof of_zs_pool};
    uint64_t count = 0;
    size_t length = 0;
    OK(zswap_stats(zswap, &stats));
    OK(zswap_area_stats(area, &of_area));
    OK(zswap_pool_stats(zswap, &of_zs_pool));
    OK(zswap_reclaimable_pages(zswap, &count));
    OK(zswap_area_reclaimable_pages(area, &count));
    OK(zswap_next_stored(area, 0, &count));
    OK(zswap_area_refaulted(area, 1));
    CHECK(zswap_area_pages(area) == 1000 && zswap_area_id(area) != 0 && zswap_area_context(area) == NULL);
    return zswap_stats_json(zswap, text, ROOM, &length);
}

static int limits(void)
{
    OK(zswap_area_set_limit(area, 8 * MIB));
    OK(zswap_area_set_limit(area, 0));
    OK(zswap_set_limit(zswap, 8 * MIB));
    return zswap_set_limit(zswap, 0);
}

static const struct act of_zswap[] = {
    {"zswap_create", NULL, create_zswap, undo_create_zswap, 0, 0},
    {"zswap_destroy", make_other_zswap, destroy_other_zswap, NULL, 0, 0},
    {"zswap_fork_prepare, _done", NULL, fork_zswap, NULL, 0, 0},
    {"zswap_add_area", NULL, add_area, undo_add_area, 0, 0},
    {"zswap_remove_area", make_area, remove_area, NULL, 0, 0},
    {"zswap_set_limit, zswap_area_set_limit", NULL, limits, NULL, 0, 0},
    {"zswap_set_codec", NULL, set_codec, NULL, 0, 0},
    {"zswap_store", NULL, store, undo_pages, 0, 0},
    {"zswap_store, in a new zswap", make_new_zswap, store_in_other, undo_store_in_other, 0, 0},
    {"zswap_store_pages", NULL, store_pages, undo_pages, 0, 0},
    {"zswap_load", NULL, load, NULL, 0, -EIO},
    {"zswap_load_pages", NULL, load_pages, NULL, 0, -EIO},
    {"zswap_load_scattered", NULL, load_scattered, NULL, 0, -EIO},
    {"zswap_load, exclusive", make_pages, take, undo_invalidate, 0, -EIO},
    {"zswap_invalidate", make_pages, invalidate, undo_invalidate, 0, 0},
    {"zswap_recompress", make_pages, recompress, undo_pages, 0, 0},
    {"zswap_set_writeback", NULL, set_writeback, NULL, 0, 0},
    {"zswap_shrink", make_pages, shrink, undo_shrink, 0, -EIO},
    {"zswap_shrink_area", make_pages, shrink_area, undo_shrink, 0, -EIO},
    {"zswap_age, zswap_shrink_by", make_pages, shrink_by, undo_shrink, 0, -EIO},
    {"zswap_compact", make_page_gaps, compact_zswap, undo_page_gaps, 0, 0},
    {"zswap_stats and the like", NULL, ask_zswap, NULL, 0, 0},
};

/* Acts on a zswap without a backing file. */
static const struct act of_files[] = {
    {"zswap_set_backing_file", NULL, set_file, undo_set_file, 0, 0},
    {"zswap_set_backing_file, none", prepare_unset_file, unset_file, NULL, 0, 0},
    {"zswap_add_tier", NULL, add_tier, undo_add_tier, 0, 0},
    {"zswap_add_file_tier", NULL, add_file_tier, undo_add_tier, 0, 0},
    {"zswap_remove_tier", prepare_remove_tier, remove_tier, NULL, 0, 0},
    {"zswap_writeback_begin, _end", NULL, write_back, NULL, 0, 0},
};

/* Half of the kept pages are on the backing file. */
static void make_zswap_with_file(void)
{
    uint64_t written = 0;
    make_zswap();
    OK(set_file());
    while (written < BASE / 2) {
        uint64_t now = 0;
        OK(zswap_shrink(zswap, BASE / 2, &now));
        written += now;
    }
    is_on_file = 1;
}

static void refuse_in_zswap(const char *name, uint32_t backing, void (*make)(void), const struct act *acts,
                            size_t count)
{
    pool_options.backing = backing;
    pool_options.flags = 0;
    pool_tuning.flags = 0;
    refuse_in(name, make, acts, count, unmake_zswap, check_pages, pages_of_zswap);
}

#define OF(acts) acts, sizeof acts / sizeof *acts

int main(int count, char **arguments)
{
    const char *only = count > 1 ? arguments[1] : NULL;
    open_shelf(&shelf);
    file = memfd_create("backing", MFD_CLOEXEC);
    CHECK(file >= 0);
    if (only == NULL || strcmp(only, "pool") == 0) {
        refuse_in_pool("pool in anonymous memory", ZS_BACKING_ANONYMOUS, 0);
        refuse_in_pool("pool in a memory file", ZS_BACKING_MEMFD, 0);
        refuse_in_pool("pool, hardened, not for children", ZS_BACKING_ANONYMOUS,
                       ZS_POOL_DONTFORK | ZS_POOL_HARDENED);
        refuse_in_pool("pool in huge pages", ZS_BACKING_ANONYMOUS, ZS_POOL_HUGE_ALWAYS);
        refuse_in_pool("pool without advice", ZS_BACKING_ANONYMOUS, ZS_POOL_NO_ADVICE);
        refuse_in_supplied_memory();
    }
    if (only == NULL || strcmp(only, "zswap") == 0) {
        refuse_in_zswap("zswap", ZS_BACKING_ANONYMOUS, make_zswap, OF(of_zswap));
        refuse_in_zswap("zswap, its file", ZS_BACKING_ANONYMOUS, make_zswap, OF(of_files));
        refuse_in_zswap("zswap in a memory file", ZS_BACKING_MEMFD, make_zswap, OF(of_zswap));
        refuse_in_zswap("zswap with a file", ZS_BACKING_ANONYMOUS, make_zswap_with_file, OF(of_zswap));
    }
    CHECK(real_close(file) == 0);
    return 0;
}
