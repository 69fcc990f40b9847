/* The header may be included twice, and needs no other before it. */
#include <zsalloc.h>
#include <zsalloc.h>

int main(void)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .flags = ZS_POOL_HARDENED | ZS_POOL_DONTFORK};
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    struct zs_pool *pool;
    return zs_create_pool("double", &options, &pool) || zs_pool_stats(pool, &stats) || zs_destroy_pool(pool);
}
