/* Objects: every size, allocation, freeing, copying. */
#include "check.h"

static void class_sizes(struct zs_pool *pool)
{
    size_t before = 0, size = 0;
    for (size_t asked = 1; asked <= ZS_MAX_ALLOC_SIZE; asked++) {
        OK(zs_lookup_class_size(pool, asked, &size));
        CHECK(size >= asked && size >= before && size % 16 == 0 && size <= ZS_MAX_ALLOC_SIZE);
        before = size;
    }
    RESULT(zs_lookup_class_size(pool, 0, &size), -EINVAL);
    RESULT(zs_lookup_class_size(pool, ZS_MAX_ALLOC_SIZE + 1, &size), -ENOSPC);
    CHECK(size == before);
}

static void every_size(struct zs_pool *pool)
{
    static zs_handle_t handles[ZS_MAX_ALLOC_SIZE + 1];
    static unsigned char bytes[ZS_MAX_ALLOC_SIZE];
    for (size_t size = 1; size <= ZS_MAX_ALLOC_SIZE; size++) {
        OK(zs_malloc(pool, size, &handles[size]));
        fill(bytes, size, size);
        OK(zs_obj_write(pool, handles[size], bytes, size));
    }
    for (size_t size = 1; size <= ZS_MAX_ALLOC_SIZE; size++) {
        memset(bytes, 0, sizeof bytes);
        OK(zs_obj_read(pool, handles[size], bytes, size));
        CHECK(is_filled(bytes, size, size));
        check_object(pool, handles[size], size, size);
    }
    for (size_t size = 1; size <= ZS_MAX_ALLOC_SIZE; size++)
        OK(zs_free(pool, handles[size]));
    CHECK(stats_of(pool).objects == 0);
}

/* All bytes of the size class may be used, and no more. */
static void up_to_the_end(struct zs_pool *pool)
{
    unsigned char bytes[ZS_MAX_ALLOC_SIZE + 1];
    zs_handle_t handle;
    size_t size;
    OK(zs_malloc(pool, 1000, &handle));
    OK(zs_lookup_class_size(pool, 1000, &size));
    fill(bytes, size, 9);
    OK(zs_obj_write(pool, handle, bytes, size));
    RESULT(zs_obj_write(pool, handle, bytes, size + 1), -EINVAL);
    memset(bytes, 0, sizeof bytes);
    RESULT(zs_obj_read(pool, handle, bytes, size + 1), -EINVAL);
    CHECK(bytes[0] == 0);
    OK(zs_obj_read(pool, handle, bytes, size));
    CHECK(is_filled(bytes, size, 9));

    /* A short write leaves the rest alone; an empty one leaves everything. */
    OK(zs_obj_write(pool, handle, "abc", 3));
    OK(zs_obj_write(pool, handle, bytes, 0));
    OK(zs_obj_write(pool, handle, NULL, 0));
    OK(zs_obj_read(pool, handle, NULL, 0));
    OK(zs_obj_read(pool, handle, bytes, size));
    CHECK(memcmp(bytes, "abc", 3) == 0 && bytes[3] == pattern(9, 3) && bytes[size - 1] == pattern(9, size - 1));
    OK(zs_free(pool, handle));
}

static void malloc_mapped(struct zs_pool *pool)
{
    zs_handle_t handle;
    void *object, *again;
    object = MAPPED(zs_malloc_mapped(pool, ZS_MAX_ALLOC_SIZE, &handle));
    CHECK((uintptr_t)object % 16 == 0);
    fill(object, ZS_MAX_ALLOC_SIZE, 4);
    again = MAPPED(zs_map_object(pool, handle, ZS_MM_RO));
    CHECK(again == object);
    OK(zs_unmap_object(pool, handle));
    OK(zs_unmap_object(pool, handle));
    RESULT(zs_unmap_object(pool, handle), -EINVAL);
    check_object(pool, handle, ZS_MAX_ALLOC_SIZE, 4);
    OK(zs_free(pool, handle));
}

/* An object that is freed while mapped stays until the last unmap. */
static void freed_while_mapped(struct zs_pool *pool)
{
    zs_handle_t handle = object_with(pool, 500, 6);
    unsigned char bytes[500];
    void *object = MAPPED(zs_map_object(pool, handle, ZS_MM_RW));
    CHECK(MAPPED(zs_map_object(pool, handle, ZS_MM_RO)) == object);
    OK(zs_free(pool, handle));
    RESULT(zs_free(pool, handle), -EINVAL);
    REFUSED(zs_map_object(pool, handle, ZS_MM_RO), -EINVAL);
    RESULT(zs_obj_read(pool, handle, bytes, 500), -EINVAL);
    RESULT(zs_obj_write(pool, handle, bytes, 500), -EINVAL);
    CHECK(is_filled(object, 500, 6));
    fill(object, 500, 7);
    OK(zs_unmap_object(pool, handle));
    CHECK(is_filled(object, 500, 7) && stats_of(pool).objects == 1);
    OK(zs_unmap_object(pool, handle));
    CHECK(stats_of(pool).objects == 0);
    RESULT(zs_unmap_object(pool, handle), -EINVAL);
}

static int by_tag(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    zs_handle_t *handles = context;
    uint64_t tag = 0;
    OK(zs_get_tag(pool, handle, &tag));
    CHECK(tag >= 1000 && tag < 2000 && handles[tag - 1000] == handle);
    handles[tag - 1000] = 0;
    return zs_free(pool, handle);
}

/* The tag of an object tells the callback whose it is, and stays what it was when the object is moved or written. */
static void tags(struct zs_pool *untagged)
{
    enum { COUNT = 1000 };
    static zs_handle_t handles[COUNT];
    static unsigned char bytes[ZS_MAX_ALLOC_SIZE];
    struct zs_pool *pool = pool_with(64 * MIB, ZS_POOL_TAGGED);
    zs_handle_t other = 5;
    uint64_t tag = 7, pages;
    size_t size;
    for (uint64_t i = 0; i < COUNT; i++) {
        void *object = zs_malloc_tagged(pool, 1 + i * 4, 1000 + i, &handles[i]);
        CHECK(object != NULL);
        OK(zs_lookup_class_size(pool, 1 + i * 4, &size));
        fill(object, size, i);
        OK(zs_unmap_object(pool, handles[i]));
        RESULT(zs_obj_write(pool, handles[i], bytes, size + 1), -EINVAL);
    }
    for (uint64_t i = 0; i < COUNT; i += 2) {
        OK(zs_free(pool, handles[i]));
        handles[i] = 0;
    }
    OK(zs_compact(pool, NULL, &pages));
    for (uint64_t i = 0; i < COUNT; i++) {
        if (handles[i] == 0)
            continue;
        OK(zs_get_tag(pool, handles[i], &tag));
        CHECK(tag == 1000 + i);
        check_object(pool, handles[i], 1 + i * 4, i);
    }
    OK(zs_set_evict(pool, by_tag, handles));
    while (zs_shrink(pool, 1, &pages) == 0)
        ;
    CHECK(stats_of(pool).objects == 0);
    for (uint64_t i = 0; i < COUNT; i++)
        CHECK(handles[i] == 0);

    OK(zs_malloc(pool, 10, &other));
    OK(zs_get_tag(pool, other, &tag));
    CHECK(tag == 0);
    OK(zs_free(pool, other));
    RESULT(zs_get_tag(pool, other, &tag), -EINVAL);
    REFUSED(zs_malloc_tagged(pool, 0, 1, &other), -EINVAL);
    REFUSED(zs_malloc_tagged(pool, ZS_MAX_TAGGED_SIZE + 1, 1, &other), -ENOSPC);
    RESULT(zs_malloc(pool, ZS_MAX_TAGGED_SIZE + 1, &other), -ENOSPC);
    CHECK(zs_malloc_tagged(pool, ZS_MAX_TAGGED_SIZE, 1, &other) != NULL);
    OK(zs_unmap_object(pool, other));
    OK(zs_destroy_pool(pool));

    REFUSED(zs_malloc_tagged(untagged, 10, 1, &other), -EINVAL);
    other = object_with(untagged, 10, 1);
    RESULT(zs_get_tag(untagged, other, &tag), -EINVAL);
    OK(zs_free(untagged, other));
}

int main(void)
{
    struct zs_pool *pool = pool_with(64 * MIB, 0);
    tags(pool);
    class_sizes(pool);
    every_size(pool);
    up_to_the_end(pool);
    malloc_mapped(pool);
    freed_while_mapped(pool);
    OK(zs_destroy_pool(pool));
    puts("objects: ok");
    return 0;
}
