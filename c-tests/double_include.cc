// The header is valid C++ too, where a struct and a function of the same name need care.
#include <zsalloc.h>
#include <zsalloc.h>

#include <cerrno>

extern "C" {
#include <zsalloc.h>
}

static int keep(void *, zs_pool *, zs_handle_t)
{
    return 1;
}

static int keep_page(void *, zswap_area *, uint64_t, const void *)
{
    return -EAGAIN;
}

static int zswap_in_cxx()
{
    struct zswap_options options = {};
    options.struct_size = sizeof options;
    zswap_area_options area_options = {};
    area_options.struct_size = sizeof area_options;
    struct zswap_stats stats = {};
    stats.struct_size = sizeof stats;
    static unsigned char page[ZSWAP_PAGE_SIZE];
    zswap *swap;
    zswap_area *area;
    zswap_claim claim;
    size_t count;
    return zswap_create(&options, &swap) || zswap_add_area(swap, 10, &area_options, &area) ||
           zswap_set_writeback(swap, keep_page, nullptr) || zswap_store(area, 0, page) ||
           zswap_load(area, 0, page, ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT) ||
           zswap_writeback_begin_area(area, 1, &claim, page, &count) || zswap_stats(swap, &stats) ||
           zswap_area_context(area) != nullptr || zswap_remove_area(area) || zswap_destroy(swap);
}

#ifdef ZSALLOC_UFFD
static int pager_in_cxx(void *memory, size_t size)
{
    zspager_options options = {};
    options.struct_size = sizeof options;
    options.fault_mode = ZSPAGER_FAULT_THREADS;
    options.eviction = ZSPAGER_EVICT_IN_PLACE;
    zspager_tuning tuning = {};
    tuning.struct_size = sizeof tuning;
    options.tuning = &tuning;
    zspager_region_options region_options = {};
    region_options.struct_size = sizeof region_options;
    struct zspager_stats stats = {};
    stats.struct_size = sizeof stats;
    zspager *pager;
    uint64_t region, pages;
    return zspager_create("double", &options, &pager) ||
           zspager_add_region(pager, memory, size, &region_options, &region) || zspager_evict(pager, 1, &pages) ||
           zspager_stats(pager, &stats) || zspager_run(pager, ZSPAGER_RUN_EVICT) ||
           zspager_remove_region(pager, region, ZSPAGER_DISCARD) || zspager_destroy(pager);
}
#endif

int main()
{
#ifdef ZSALLOC_UFFD
    static unsigned char memory[4096];
    if (pager_in_cxx(memory, sizeof memory))
        return 1;
#endif
    zs_pool_options options = {};
    options.struct_size = sizeof options;
    struct zs_pool_stats stats = {};
    stats.struct_size = sizeof stats;
    zs_pool *pool;
    return zs_create_pool("double", &options, &pool) || zs_pool_stats(pool, &stats) ||
           zs_set_evict(pool, keep, nullptr) || zs_destroy_pool(pool) || zswap_in_cxx();
}
