/*
 * How much stack each function takes, as a table: what is touched of a thread's stack beyond what a thread takes that
 * calls nothing. Argument: 1 if no function may take more than the header says, 0 in debug builds.
 */
#define _GNU_SOURCE
#ifdef WITH_PAGER
#include "pager.h"
#else
#include "pages.h"
#endif
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STACK = 1 << 20, STORED = 1000, KIB = 1024 };
/* The limits that the header states. */
enum { MOST = 24 * KIB, MOST_RECOMPRESS = 40 * KIB };

static struct zswap *zswap;
static struct zswap_area *area;
static struct zs_pool *pool, *tagged;
static zs_handle_t handle;
static unsigned char page[PAGE], pages[8 * PAGE];
static int32_t results[8];
static char json[200000];
static uint64_t number;
static size_t count;

static int write_page(void *context, struct zswap_area *of, uint64_t offset, const void *bytes)
{
    (void)context, (void)of, (void)offset, (void)bytes;
    return 0;
}

static int drop(void *context, struct zs_pool *of, zs_handle_t object)
{
    (void)context;
    return zs_free(of, object);
}

static void nothing(void)
{
}

static void create_pool(void)
{
    struct zs_pool *made;
    OK(zs_create_pool("stack", NULL, &made));
    OK(zs_destroy_pool(made));
}

static void allocate(void)
{
    OK(zs_malloc(pool, 300, &handle));
}

static void write_object(void)
{
    OK(zs_obj_write(pool, handle, page, 100));
}

static void free_object(void)
{
    OK(zs_free(pool, handle));
}

static void allocate_tagged(void)
{
    zs_handle_t object = 0;
    (void)MAPPED(zs_malloc_tagged(tagged, 300, 7, &object));
    OK(zs_get_tag(tagged, object, &number));
    CHECK(number == 7);
    OK(zs_unmap_object(tagged, object));
    OK(zs_free(tagged, object));
}

static void compact_pool(void)
{
    OK(zs_compact(pool, NULL, &number));
}

static void shrink_pool(void)
{
    OK(zs_set_evict(pool, drop, NULL));
    OK(zs_shrink(pool, 1, &number));
}

static void create_zswap(void)
{
    struct zswap *made;
    OK(zswap_create(NULL, &made));
    OK(zswap_destroy(made));
}

static void add_area(void)
{
    struct zswap_area *made;
    OK(zswap_add_area(zswap, 10, NULL, &made));
    OK(zswap_remove_area(made));
}

static void store(void)
{
    OK(zswap_store(area, 1, page));
}

static void load(void)
{
    OK(zswap_load(area, 1, page, 0));
}

static void store_pages(void)
{
    OK(zswap_store_pages(area, 1, pages, 8));
}

static void load_pages(void)
{
    OK(zswap_load_pages(area, 1, pages, 8, 0, results));
}

static void invalidate(void)
{
    OK(zswap_invalidate(area, STORED - 10, 10, 0));
}

static void shrink(void)
{
    OK(zswap_shrink(zswap, 20, &number));
}

static void shrink_by(void)
{
    struct zswap_shrink_options options = {.struct_size = sizeof options, .max_pages = 20,
                                           .flags = ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    OK(zswap_age(area));
    OK(zswap_shrink_by(zswap, &options, &shrunk));
    OK(zswap_shrink_area_by(area, &options, &shrunk));
}

static void claim(void)
{
    struct zswap_claim claims[8];
    struct zswap_usage usage = {.struct_size = sizeof usage};
    int gone;
    OK(zswap_writeback_begin_area(area, 4, claims, pages, &count));
    size_t more;
    OK(zswap_writeback_begin(zswap, 4, claims + count, pages, &more));
    for (size_t i = 0; i < count + more; i++)
        OK(zswap_writeback_end(&claims[i], -EIO, &gone));
    OK(zswap_usage(zswap, &usage));
    OK(zswap_area_usage(area, &usage));
    RESULT(zswap_load(area, UINT64_MAX, page, 0), -EINVAL);
}

static void load_from_file(void)
{
    for (uint64_t i = 100; i < STORED - 10; i++)
        OK(zswap_load(area, i, page, 0));
}

static void set_zstd(void)
{
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 22));
}

/* The first round only clears the marks of used pages. */
static void recompress(void)
{
    for (int round = 0; round < 2; round++)
        OK(zswap_recompress(area, STORED, ZSWAP_CODEC_ZSTD, 22, &number));
    CHECK(number > 0);
}

static void compact(void)
{
    OK(zswap_compact(zswap, NULL, &number));
}

static void statistics(void)
{
    zswap_stats_of(zswap);
    OK(zswap_stats_json(zswap, json, sizeof json, &count));
}

static void fork_pair(void)
{
    OK(zswap_fork_prepare(zswap));
    OK(zswap_fork_done(zswap));
}

#ifdef WITH_PAGER
enum { HELD = 16 };

static struct zspager *pager;
static unsigned char *memory;
static uint64_t region;

static void create_pager(void)
{
    OK(zspager_destroy(pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING)));
}

static void add_region(void)
{
    region = region_of(pager, memory, ABOVE);
}

static void map(void)
{
    uint64_t mapped;
    void *own = MAPPED(zspager_map(pager, 10 * PAGE, NULL, &mapped));
    OK(zspager_unmap(pager, mapped, own, 10 * PAGE));
}

static void touch(void)
{
    for (size_t i = 0; i < ABOVE; i++)
        make_page(memory + i * PAGE, i);
    for (size_t i = 0; i < ABOVE; i++)
        CHECK(is_page(memory + i * 397 % ABOVE * PAGE, i * 397 % ABOVE));
}

static void evict(void)
{
    OK(zspager_evict(pager, LIMIT / 2, &number));
}

static void hold(void)
{
    OK(zspager_hold(pager, memory, HELD * PAGE));
    OK(zspager_release(pager, memory, HELD * PAGE));
}

static void discard(void)
{
    OK(zspager_discard(pager, memory, HELD * PAGE));
}

static void pager_statistics(void)
{
    pager_stats_of(pager);
    OK(zspager_stats_json(pager, json, sizeof json, &count));
}

static void remove_region(void)
{
    OK(zspager_remove_region(pager, region, 0));
}
#endif

static void *run(void *what)
{
    void (*function)(void);
    memcpy(&function, what, sizeof function);
    function();
    return NULL;
}

/* Returns how many bytes of its stack a thread touches when it calls a function. */
static size_t taken_by(void (*function)(void))
{
    unsigned char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    memset(stack, 0x5a, STACK);
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stack, STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, run, &function) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
    size_t unused = 0;
    while (unused < STACK && stack[unused] == 0x5a)
        unused++;
    CHECK(munmap(stack, STACK) == 0);
    return STACK - unused;
}

static void measure(const char *name, void (*function)(void), size_t most)
{
    size_t own = taken_by(nothing), taken = taken_by(function);
    taken -= own < taken ? own : taken;
    printf("%-36s %5.1f KiB\n", name, (double)taken / KIB);
    CHECK(taken <= most);
}

#ifdef WITH_PAGER
static void measure_pager(size_t most)
{
    pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    memory = memory_of(ABOVE);
    measure("zspager_create, zspager_destroy", create_pager, most);
    measure("zspager_add_region", add_region, most);
    measure("zspager_map, zspager_unmap", map, most);
    measure("touches of a region", touch, most);
    measure("zspager_evict", evict, most);
    measure("zspager_hold, zspager_release", hold, most);
    measure("zspager_discard", discard, most);
    measure("zspager_stats, zspager_stats_json", pager_statistics, most);
    measure("zspager_remove_region", remove_region, most);
    OK(zspager_destroy(pager));
}
#endif

int main(int arguments, char **argument)
{
    CHECK(arguments == 2);
    int strict = strcmp(argument[1], "1") == 0;
    size_t most = strict ? MOST : STACK, most_recompress = strict ? MOST_RECOMPRESS : STACK;
    text_page(page, 1);
    for (size_t i = 0; i < 8; i++)
        text_page(pages + i * PAGE, i);
    pool = pool_with(32 * MIB, 0);
    struct zs_pool_tuning tags = {.struct_size = sizeof tags, .flags = ZS_POOL_TAGGED};
    struct zs_pool_options with_tags = {.struct_size = sizeof with_tags, .tuning = &tags};
    OK(zs_create_pool("tagged", &with_tags, &tagged));
    for (size_t i = 0; i < 200; i++)
        object_with(pool, 300, i);
    zswap = zswap_with(64 * MIB);
    area = area_with(zswap, STORED);
    for (uint64_t i = 0; i < STORED; i++)
        OK(store_page(area, i, i * 8 + 2));
    FILE *file = tmpfile();
    CHECK(file != NULL);

    measure("zs_create_pool, zs_destroy_pool", create_pool, most);
    measure("zs_malloc", allocate, most);
    measure("zs_obj_write", write_object, most);
    measure("zs_free", free_object, most);
    measure("zs_malloc_tagged, zs_get_tag", allocate_tagged, most);
    measure("zs_compact", compact_pool, most);
    measure("zs_shrink", shrink_pool, most);
    measure("zswap_create, zswap_destroy", create_zswap, most);
    measure("zswap_add_area, zswap_remove_area", add_area, most);
    measure("zswap_store", store, most);
    measure("zswap_load", load, most);
    measure("zswap_store_pages", store_pages, most);
    measure("zswap_load_pages", load_pages, most);
    measure("zswap_invalidate", invalidate, most);
    measure("zswap_writeback_begin, _end, usage, errors", claim, most);
    OK(zswap_set_writeback(zswap, write_page, NULL));
    measure("zswap_shrink, to a callback", shrink, most);
    OK(zswap_set_backing_file(zswap, fileno(file), STORED * PAGE));
    measure("zswap_shrink, to a file", shrink, most);
    measure("zswap_shrink_by, zswap_age", shrink_by, most);
    zswap_shrink(zswap, STORED, &number);
    CHECK(area_stats_of(area).counts.file_pages > STORED / 4);
    measure("zswap_load, from a file", load_from_file, most);
    measure("zswap_compact", compact, most);
    measure("zswap_stats, zswap_stats_json", statistics, most);
    measure("zswap_fork_prepare, _done", fork_pair, most);
    measure("zswap_set_codec, Zstandard", set_zstd, most);
    measure("zswap_store, Zstandard", store, most);
    measure("zswap_load, Zstandard", load, most);
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_LZ4, 0));
    for (uint64_t i = 0; i < STORED; i++)
        OK(store_page(area, i, i * 8 + 2));
    measure("zswap_recompress, Zstandard", recompress, most_recompress);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    OK(zs_destroy_pool(pool));
    fclose(file);
#ifdef WITH_PAGER
    measure_pager(most);
#endif
    return 0;
}
