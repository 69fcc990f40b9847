/* The header may be included twice, and needs no other header before it. */
#include <zsalloc.h>
#include <zsalloc.h>

#ifdef ZSALLOC_UFFD
static int pager(void)
{
    struct zspager_options options = {.struct_size = sizeof options, .fault_mode = ZSPAGER_FAULT_SIGBUS};
    struct zspager_stats stats = {.struct_size = sizeof stats};
    struct zspager *pager;
    return zspager_create("double", &options, &pager) || zspager_stats(pager, &stats) || zspager_destroy(pager);
}
#endif

int main(void)
{
#ifdef ZSALLOC_UFFD
    if (pager())
        return 1;
#endif
    struct zs_pool_tuning tuning = {.struct_size = sizeof tuning, .flags = ZS_POOL_DONTFORK};
    struct zs_pool_options options = {.struct_size = sizeof options, .flags = ZS_POOL_HARDENED, .tuning = &tuning};
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    struct zs_pool *pool;
    return zs_create_pool("double", &options, &pool) || zs_pool_stats(pool, &stats) || zs_destroy_pool(pool);
}
