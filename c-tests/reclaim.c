/* The evict callback: which objects it is offered, what it may call, and what its result does. */
#include "check.h"

enum { COUNT = 2000, SIZE = 1000 };

/* A callback's context: its objects, and how it behaves. */
struct owner {
    zs_handle_t handles[COUNT];
    /* Whether each object still exists. */
    char there[COUNT];
    size_t offered;
    size_t refused;
    /* Refuses from this offer on; 0 is never. */
    size_t refuse_from;
    /* Handle of a mapped object, which must not be offered. */
    zs_handle_t mapped;
};

static size_t index_of(struct zs_pool *pool, zs_handle_t handle)
{
    size_t index;
    OK(zs_obj_read(pool, handle, &index, sizeof index));
    CHECK(index < COUNT);
    return index;
}

static int drop(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    struct owner *owner = context;
    size_t index = index_of(pool, handle);
    CHECK(owner->handles[index] == handle && owner->there[index] && handle != owner->mapped);
    owner->offered++;
    if (owner->refuse_from != 0 && owner->offered >= owner->refuse_from) {
        owner->refused++;
        return -EAGAIN;
    }
    OK(zs_free(pool, handle));
    owner->there[index] = 0;
    return 0;
}

static void put(struct zs_pool *pool, struct owner *owner, size_t index)
{
    unsigned char bytes[SIZE];
    fill(bytes, SIZE, index);
    memcpy(bytes, &index, sizeof index);
    OK(zs_malloc(pool, SIZE, &owner->handles[index]));
    OK(zs_obj_write(pool, owner->handles[index], bytes, SIZE));
    owner->there[index] = 1;
}

static void put_all(struct zs_pool *pool, struct owner *owner)
{
    memset(owner, 0, sizeof *owner);
    for (size_t i = 0; i < COUNT; i++)
        put(pool, owner, i);
}

static void check_all(struct zs_pool *pool, const struct owner *owner)
{
    unsigned char bytes[SIZE];
    uint64_t there = 0;
    for (size_t i = 0; i < COUNT; i++) {
        int result = zs_obj_read(pool, owner->handles[i], bytes, SIZE);
        CHECK(result == (owner->there[i] ? 0 : -EINVAL));
        there += owner->there[i] != 0;
        for (size_t at = sizeof i; result == 0 && at < SIZE; at++)
            CHECK(bytes[at] == pattern(i, at));
    }
    CHECK(stats_of(pool).objects == there);
}

static struct owner owner;

static void nothing_to_do(void)
{
    struct zs_pool *pool = pool_with(16 * MIB, 0);
    uint64_t reclaimed = 99;
    RESULT(zs_shrink(pool, 1, &reclaimed), -EINVAL);
    OK(zs_set_evict(pool, drop, &owner));
    RESULT(zs_shrink(pool, 1, &reclaimed), -ENOENT);
    zs_handle_t handle = object_with(pool, 100, 1);
    OK(zs_shrink(pool, 0, &reclaimed));
    CHECK(reclaimed == 0);
    OK(zs_set_evict(pool, NULL, NULL));
    reclaimed = 99;
    RESULT(zs_shrink(pool, 1, &reclaimed), -EINVAL);
    CHECK(reclaimed == 99);
    check_object(pool, handle, 100, 1);
    OK(zs_destroy_pool(pool));
}

static void objects_go(void)
{
    struct zs_pool *pool = pool_with(16 * MIB, 0);
    OK(zs_set_evict(pool, drop, &owner));
    put_all(pool, &owner);
    uint64_t before = total_pages(pool), reclaimed = 0;
    OK(zs_shrink(pool, 10, &reclaimed));
    CHECK(reclaimed >= 10 && owner.offered > 0 && owner.offered < COUNT);
    CHECK(total_pages(pool) + reclaimed <= before && stats_of(pool).pages_reclaimed == reclaimed);
    check_all(pool, &owner);
    /* Asking for more pages than there are evicts all, and the result says how many those were. */
    OK(zs_shrink(pool, 1000000, &reclaimed));
    CHECK(reclaimed > 100 && reclaimed < 1000000 && owner.offered == COUNT);
    RESULT(zs_shrink(pool, 1, &reclaimed), -ENOENT);
    OK(zs_destroy_pool(pool));
}

static void a_callback_refuses(void)
{
    struct zs_pool *pool = pool_with(16 * MIB, 0);
    OK(zs_set_evict(pool, drop, &owner));
    put_all(pool, &owner);
    owner.refuse_from = 1;
    uint64_t reclaimed = 99;
    RESULT(zs_shrink(pool, 5, &reclaimed), -EAGAIN);
    CHECK(reclaimed == 99 && owner.refused > 0 && owner.refused < COUNT);
    check_all(pool, &owner);
    owner.offered = 0;
    owner.refuse_from = 200;
    OK(zs_shrink(pool, 1000, &reclaimed));
    CHECK(reclaimed > 0 && reclaimed < 1000);
    check_all(pool, &owner);
    OK(zs_destroy_pool(pool));
}

static void what_is_mapped_is_not_offered(void)
{
    struct zs_pool *pool = pool_with(16 * MIB, 0);
    OK(zs_set_evict(pool, drop, &owner));
    put_all(pool, &owner);
    zs_handle_t new_handle;
    void *object = MAPPED(zs_map_object(pool, owner.handles[7], ZS_MM_RO));
    owner.mapped = owner.handles[7];
    /* The object is not written yet, so the callback must not be offered it. */
    (void)MAPPED(zs_malloc_mapped(pool, SIZE, &new_handle));
    uint64_t reclaimed;
    OK(zs_shrink(pool, 1000000, &reclaimed));
    CHECK(owner.there[7] && stats_of(pool).objects == 2);
    CHECK(memcmp((unsigned char *)object + 8, (unsigned char[]){pattern(7, 8), pattern(7, 9)}, 2) == 0);
    OK(zs_unmap_object(pool, owner.handles[7]));
    OK(zs_free(pool, new_handle));
    OK(zs_unmap_object(pool, new_handle));
    OK(zs_destroy_pool(pool));
}

static void the_coldest_goes_first(void)
{
    struct zs_pool *pool = pool_with(16 * MIB, 0);
    OK(zs_set_evict(pool, drop, &owner));
    put_all(pool, &owner);
    uint64_t reclaimed;
    /* Use the older half: then its zspages are younger than those of the other half. */
    for (size_t i = 0; i < COUNT / 2; i++) {
        (void)MAPPED(zs_map_object(pool, owner.handles[i], ZS_MM_RO));
        OK(zs_unmap_object(pool, owner.handles[i]));
    }
    OK(zs_shrink(pool, 30, &reclaimed));
    size_t gone = 0;
    for (size_t i = 0; i < COUNT / 2 - 64; i++)
        CHECK(owner.there[i]);
    for (size_t i = 0; i < COUNT; i++)
        gone += !owner.there[i];
    CHECK(gone > 0);
    OK(zs_destroy_pool(pool));
}

/* A callback that calls everything it may. */
static int busy(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    struct owner *all = context;
    uint64_t pages;
    RESULT(zs_destroy_pool(pool), -EBUSY);
    zs_handle_t other = object_with(pool, SIZE, 3);
    check_object(pool, other, SIZE, 3);
    OK(zs_free(pool, other));
    struct zs_compact_budget budget = {.struct_size = sizeof budget, .max_bytes_moved = 10000};
    OK(zs_compact(pool, &budget, &pages));
    CHECK(stats_of(pool).objects > 0 && total_pages(pool) > 0);
    size_t index = index_of(pool, handle);
    /* Frees the neighbour too, although it was not offered. */
    size_t neighbour = index ^ 1;
    if (all->there[neighbour]) {
        OK(zs_free(pool, all->handles[neighbour]));
        all->there[neighbour] = 0;
    }
    if (all->offered++ == 3) {
        /* A nested shrink, whose objects the other callback drops. */
        OK(zs_set_evict(pool, drop, all));
        int result = zs_shrink(pool, 1, &pages);
        CHECK(result == 0 || result == -EAGAIN);
        OK(zs_set_evict(pool, busy, all));
    }
    if (!all->there[index])
        return 0;
    all->there[index] = 0;
    return zs_free(pool, handle);
}

static void a_callback_calls_back(void)
{
    struct zs_pool *pool = pool_with(16 * MIB, 0);
    put_all(pool, &owner);
    OK(zs_set_evict(pool, busy, &owner));
    uint64_t reclaimed;
    OK(zs_shrink(pool, 100, &reclaimed));
    CHECK(reclaimed > 0);
    check_all(pool, &owner);
    OK(zs_destroy_pool(pool));
}

/* A callback that unmaps what it did not map, and frees twice: refused or harmless, and the pool stays sound. */
static int clumsy(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    struct owner *all = context;
    size_t index = index_of(pool, handle);
    all->there[index] = 0;
    OK(zs_free(pool, handle));
    RESULT(zs_free(pool, handle), -EINVAL);
    OK(zs_unmap_object(pool, handle));
    RESULT(zs_unmap_object(pool, handle), -EINVAL);
    return 0;
}

static void a_callback_is_clumsy(void)
{
    struct zs_pool *pool = pool_with(16 * MIB, 0);
    put_all(pool, &owner);
    OK(zs_set_evict(pool, clumsy, &owner));
    uint64_t reclaimed;
    OK(zs_shrink(pool, 20, &reclaimed));
    CHECK(reclaimed >= 20);
    check_all(pool, &owner);
    OK(zs_destroy_pool(pool));
}

int main(void)
{
    nothing_to_do();
    objects_go();
    a_callback_refuses();
    what_is_mapped_is_not_offered();
    the_coldest_goes_first();
    a_callback_calls_back();
    a_callback_is_clumsy();
    puts("reclaim: ok");
    return 0;
}
