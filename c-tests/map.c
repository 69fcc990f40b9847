/* Mappings: modes, how many there can be, and that a mapped object does not move. */
#include "check.h"

enum { MOST_MAPPINGS = 4095, COUNT = 4000, KEPT = 40 };

static void all_modes(struct zs_pool *pool)
{
    zs_handle_t handle = object_with(pool, 300, 1);
    void *object, *reader;
    object = MAPPED(zs_map_object(pool, handle, ZS_MM_RW));
    CHECK(is_filled(object, 300, 1) && (uintptr_t)object % 16 == 0);
    fill(object, 300, 2);
    OK(zs_unmap_object(pool, handle));

    /* Bytes that a write-only mapping does not write keep their values. */
    object = MAPPED(zs_map_object(pool, handle, ZS_MM_WO));
    ((unsigned char *)object)[0] ^= 255;
    OK(zs_unmap_object(pool, handle));
    reader = MAPPED(zs_map_object(pool, handle, ZS_MM_RO));
    CHECK(((unsigned char *)reader)[0] == (pattern(2, 0) ^ 255) && ((unsigned char *)reader)[299] == pattern(2, 299));
    OK(zs_unmap_object(pool, handle));
    OK(zs_free(pool, handle));
}

static void as_often_as_allowed(struct zs_pool *pool)
{
    zs_handle_t handle = object_with(pool, 300, 3);
    unsigned char byte = 1;
    for (int i = 0; i < MOST_MAPPINGS; i++)
        (void)MAPPED(zs_map_object(pool, handle, i % 2 ? ZS_MM_RO : ZS_MM_RW));
    REFUSED(zs_map_object(pool, handle, ZS_MM_RO), -EBUSY);
    REFUSED(zs_map_object(pool, handle, ZS_MM_RW), -EBUSY);
    RESULT(zs_obj_read(pool, handle, &byte, 1), -EBUSY);
    RESULT(zs_obj_write(pool, handle, &byte, 1), -EBUSY);
    CHECK(byte == 1);
    for (int i = 0; i < MOST_MAPPINGS; i++)
        OK(zs_unmap_object(pool, handle));
    RESULT(zs_unmap_object(pool, handle), -EINVAL);
    check_object(pool, handle, 300, 3);
    OK(zs_free(pool, handle));
}

/* Compaction moves the objects around the mapped ones, but not those. */
static void what_is_mapped_stays(struct zs_pool *pool)
{
    static zs_handle_t handles[COUNT];
    void *mapped[KEPT], *object;
    for (size_t i = 0; i < COUNT; i++)
        handles[i] = object_with(pool, 700, i);
    for (size_t i = 0; i < KEPT; i++)
        mapped[i] = MAPPED(zs_map_object(pool, handles[i * (COUNT / KEPT)], ZS_MM_RO));
    for (size_t i = 0; i < COUNT; i++)
        if (i % 10 != 0)
            OK(zs_free(pool, handles[i]));
    uint64_t pages;
    OK(zs_compact(pool, NULL, &pages));
    CHECK(pages > 0 && stats_of(pool).objects_moved > 0);
    for (size_t i = 0; i < KEPT; i++) {
        CHECK(is_filled(mapped[i], 700, i * (COUNT / KEPT)));
        object = MAPPED(zs_map_object(pool, handles[i * (COUNT / KEPT)], ZS_MM_RW));
        CHECK(object == mapped[i]);
        OK(zs_unmap_object(pool, handles[i * (COUNT / KEPT)]));
        OK(zs_unmap_object(pool, handles[i * (COUNT / KEPT)]));
    }
    for (size_t i = 0; i < COUNT; i += 10) {
        check_object(pool, handles[i], 700, i);
        OK(zs_free(pool, handles[i]));
    }
}

int main(void)
{
    struct zs_pool *pool = pool_with(64 * MIB, 0);
    all_modes(pool);
    as_often_as_allowed(pool);
    what_is_mapped_stays(pool);
    OK(zs_destroy_pool(pool));
    puts("map: ok");
    return 0;
}
