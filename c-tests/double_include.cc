// The header is C++ too, where a struct and a function of one name need care.
#include <zsalloc.h>
#include <zsalloc.h>

extern "C" {
#include <zsalloc.h>
}

static int keep(void *, zs_pool *, zs_handle_t)
{
    return 1;
}

int main()
{
    zs_pool_options options = {};
    options.struct_size = sizeof options;
    struct zs_pool_stats stats = {};
    stats.struct_size = sizeof stats;
    zs_pool *pool;
    return zs_create_pool("double", &options, &pool) || zs_pool_stats(pool, &stats) ||
           zs_set_evict(pool, keep, nullptr) || zs_destroy_pool(pool);
}
