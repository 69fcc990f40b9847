/* Wrong arguments of every kind. Each wrong call is refused, and the pool does not change. */
#include "check.h"

enum { COUNT = 64, SIZE = 200 };

static struct zs_pool *pool;
static zs_handle_t handles[COUNT];

static int keep(void *context, struct zs_pool *of, zs_handle_t handle)
{
    (void)context, (void)of, (void)handle;
    return 1;
}

static void check_all(void)
{
    for (size_t i = 0; i < COUNT; i++)
        check_object(pool, handles[i], SIZE, i);
    CHECK(stats_of(pool).objects == COUNT);
}

static void no_pool(void)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    zs_handle_t handle = handles[0];
    char byte = 0;
    uint64_t pages;
    size_t size;
    int fd;
    RESULT(zs_destroy_pool(NULL), -EINVAL);
    RESULT(zs_malloc(NULL, 10, &handle), -EINVAL);
    REFUSED(zs_malloc_mapped(NULL, 10, &handle), -EINVAL);
    REFUSED(zs_malloc_tagged(NULL, 10, 1, &handle), -EINVAL);
    RESULT(zs_get_tag(NULL, handle, &pages), -EINVAL);
    RESULT(zs_free(NULL, handle), -EINVAL);
    REFUSED(zs_map_object(NULL, handle, ZS_MM_RO), -EINVAL);
    RESULT(zs_unmap_object(NULL, handle), -EINVAL);
    RESULT(zs_obj_read(NULL, handle, &byte, 1), -EINVAL);
    RESULT(zs_obj_write(NULL, handle, &byte, 1), -EINVAL);
    RESULT(zs_compact(NULL, NULL, &pages), -EINVAL);
    RESULT(zs_set_evict(NULL, keep, NULL), -EINVAL);
    RESULT(zs_shrink(NULL, 1, &pages), -EINVAL);
    RESULT(zs_set_max_bytes(NULL, 0), -EINVAL);
    RESULT(zs_get_total_pages(NULL, &pages), -EINVAL);
    RESULT(zs_pool_stats(NULL, &stats), -EINVAL);
    RESULT(zs_pool_fd(NULL, &fd), -EINVAL);
    RESULT(zs_lookup_class_size(NULL, 10, &size), -EINVAL);
    CHECK(handle == handles[0]);
}

static void nowhere_to_put_the_result(void)
{
    zs_handle_t handle;
    OK(zs_set_evict(pool, keep, NULL));
    RESULT(zs_create_pool("none", NULL, NULL), -EINVAL);
    RESULT(zs_malloc(pool, 10, NULL), -EINVAL);
    REFUSED(zs_malloc_mapped(pool, 10, NULL), -EINVAL);
    REFUSED(zs_malloc_tagged(pool, 10, 1, NULL), -EINVAL);
    RESULT(zs_get_tag(pool, handles[0], NULL), -EINVAL);
    RESULT(zs_obj_read(pool, handles[0], NULL, 1), -EINVAL);
    RESULT(zs_obj_write(pool, handles[0], NULL, 1), -EINVAL);
    RESULT(zs_compact(pool, NULL, NULL), -EINVAL);
    RESULT(zs_shrink(pool, 1, NULL), -EINVAL);
    RESULT(zs_get_total_pages(pool, NULL), -EINVAL);
    RESULT(zs_pool_stats(pool, NULL), -EINVAL);
    RESULT(zs_pool_fd(pool, NULL), -EINVAL);
    RESULT(zs_lookup_class_size(pool, 10, NULL), -EINVAL);
    OK(zs_set_evict(pool, NULL, &handle));
    /* The refused calls mapped and allocated nothing. */
    RESULT(zs_unmap_object(pool, handles[0]), -EINVAL);
    check_all();
}

static void sizes(void)
{
    zs_handle_t handle = 5;
    char bytes[SIZE];
    size_t class_size = 5;
    static const size_t huge[] = {ZS_MAX_ALLOC_SIZE + 1, 1 << 20,      SIZE_MAX / 2,
                                  SIZE_MAX - 4095,       SIZE_MAX - 1, SIZE_MAX};
    RESULT(zs_malloc(pool, 0, &handle), -EINVAL);
    REFUSED(zs_malloc_mapped(pool, 0, &handle), -EINVAL);
    RESULT(zs_lookup_class_size(pool, 0, &class_size), -EINVAL);
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        RESULT(zs_malloc(pool, huge[i], &handle), -ENOSPC);
        REFUSED(zs_malloc_mapped(pool, huge[i], &handle), -ENOSPC);
        RESULT(zs_lookup_class_size(pool, huge[i], &class_size), -ENOSPC);
        RESULT(zs_obj_read(pool, handles[0], bytes, huge[i]), -EINVAL);
        RESULT(zs_obj_write(pool, handles[0], bytes, huge[i]), -EINVAL);
    }
    CHECK(handle == 5 && class_size == 5);
    RESULT(zs_unmap_object(pool, handles[0]), -EINVAL);
    check_all();
}

static void modes(void)
{
    static const uint32_t wrong[] = {3, 4, 255, 256, 65536, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        REFUSED(zs_map_object(pool, handles[0], wrong[i]), -EINVAL);
    RESULT(zs_unmap_object(pool, handles[0]), -EINVAL);
}

/* Checks that all calls refuse a handle that names no object of this pool. */
static void refused(zs_handle_t handle)
{
    char byte = 'x';
    REFUSED(zs_map_object(pool, handle, ZS_MM_RO), -EINVAL);
    REFUSED(zs_map_object(pool, handle, ZS_MM_RW), -EINVAL);
    REFUSED(zs_map_object(pool, handle, ZS_MM_WO), -EINVAL);
    RESULT(zs_unmap_object(pool, handle), -EINVAL);
    RESULT(zs_obj_read(pool, handle, &byte, 1), -EINVAL);
    RESULT(zs_obj_read(pool, handle, &byte, 0), -EINVAL);
    RESULT(zs_obj_write(pool, handle, &byte, 1), -EINVAL);
    RESULT(zs_obj_write(pool, handle, &byte, 0), -EINVAL);
    RESULT(zs_free(pool, handle), -EINVAL);
    CHECK(byte == 'x');
}

static int is_an_object(zs_handle_t handle)
{
    for (size_t i = 0; i < COUNT; i++)
        if (handles[i] == handle)
            return 1;
    return 0;
}

static void strange_handles(void)
{
    static const zs_handle_t strange[] = {0, 1, 2, 0xffff, 0xffffffff, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 1};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
        refused(strange[i]);
    refused((uintptr_t)pool);
    refused((uintptr_t)&pool);
    void *object;
    object = MAPPED(zs_map_object(pool, handles[0], ZS_MM_RO));
    refused((uintptr_t)object);
    OK(zs_unmap_object(pool, handles[0]));

    /* Handles with one wrong bit. */
    for (size_t i = 0; i < COUNT; i++)
        for (int bit = 0; bit < 64; bit++)
            if (!is_an_object(handles[i] ^ (uint64_t)1 << bit))
                refused(handles[i] ^ (uint64_t)1 << bit);
    /* Random handles. */
    uint64_t seed = 11;
    int rounds = is_slow() ? 5000 : 100000;
    for (int i = 0; i < rounds; i++) {
        uint64_t handle = next_random(&seed) << 33 ^ next_random(&seed) << 12 ^ next_random(&seed);
        if (!is_an_object(handle))
            refused(handle);
    }
    check_all();
}

static void stale_handles(void)
{
    zs_handle_t stale = object_with(pool, SIZE, 1);
    OK(zs_free(pool, stale));
    refused(stale);
    /* The index is used again, and the old handle stays refused. */
    int rounds = is_slow() ? 2000 : 65535;
    for (int i = 0; i < rounds; i++) {
        zs_handle_t handle;
        OK(zs_malloc(pool, SIZE, &handle));
        CHECK(handle != stale);
        OK(zs_free(pool, handle));
        RESULT(zs_free(pool, stale), -EINVAL);
    }
    refused(stale);
    check_all();
}

/* A hardened pool refuses a stale handle for ever, even after its count of uses would have wrapped. */
static void hardened(void)
{
    struct zs_pool *hard = pool_with(16 * MIB, ZS_POOL_HARDENED);
    zs_handle_t stale = object_with(hard, SIZE, 1);
    char byte;
    OK(zs_free(hard, stale));
    int rounds = is_slow() ? 2000 : 16 * 65536;
    for (int i = 0; i < rounds; i++) {
        zs_handle_t handle;
        OK(zs_malloc(hard, SIZE, &handle));
        CHECK(handle != stale);
        RESULT(zs_obj_read(hard, stale, &byte, 1), -EINVAL);
        OK(zs_free(hard, handle));
    }
    /* A freed object is overwritten. */
    void *object;
    zs_handle_t handle = object_with(hard, SIZE, 2);
    object = MAPPED(zs_map_object(hard, handle, ZS_MM_RO));
    OK(zs_unmap_object(hard, handle));
    OK(zs_free(hard, handle));
    for (size_t i = 0; i < SIZE; i++)
        CHECK(((volatile unsigned char *)object)[i] == 0);
    OK(zs_destroy_pool(hard));
}

static void another_pools_handles(void)
{
    struct zs_pool *other = pool_with(8 * MIB, 0);
    zs_handle_t foreign[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        foreign[i] = object_with(other, SIZE, i + 1000);
    for (size_t i = 0; i < COUNT; i++)
        refused(foreign[i]);
    for (size_t i = 0; i < COUNT; i++)
        check_object(other, foreign[i], SIZE, i + 1000);
    OK(zs_destroy_pool(other));
    /* Handles of a pool that was destroyed are refused too. */
    for (size_t i = 0; i < COUNT; i++)
        refused(foreign[i]);
    check_all();
}

static void twice(void)
{
    zs_handle_t handle = object_with(pool, SIZE, 1);
    RESULT(zs_unmap_object(pool, handle), -EINVAL);
    (void)MAPPED(zs_map_object(pool, handle, ZS_MM_RW));
    OK(zs_unmap_object(pool, handle));
    RESULT(zs_unmap_object(pool, handle), -EINVAL);
    check_object(pool, handle, SIZE, 1);
    OK(zs_free(pool, handle));
    RESULT(zs_free(pool, handle), -EINVAL);
    RESULT(zs_free(pool, handle), -EINVAL);
    check_all();
}

static void names(void)
{
    char name[300];
    struct zs_pool_options options = {.struct_size = sizeof options,
                                      .max_bytes = 8 * MIB,
                                      .backing = ZS_BACKING_MEMFD};
    struct zs_pool *created = pool;
    RESULT(zs_create_pool(NULL, &options, &created), -EINVAL);
    memset(name, 'n', sizeof name);
    name[250] = 0;
    RESULT(zs_create_pool(name, &options, &created), -EINVAL);
    CHECK(strstr(zs_last_error(), "249") != NULL);
    RESULT(zs_create_pool("\xff\xfe", &options, &created), -EINVAL);
    CHECK(strstr(zs_last_error(), "UTF-8") != NULL);
    RESULT(zs_create_pool("\xff\xfe", NULL, &created), -EINVAL);
    CHECK(created == pool);
    name[249] = 0;
    OK(zs_create_pool(name, &options, &created));
    OK(zs_destroy_pool(created));
    OK(zs_create_pool("", &options, &created));
    OK(zs_destroy_pool(created));
}

/* Options with one wrong field each. */
static void option_fields(void)
{
    static char memory[16];
    struct zs_pool_options right = {
        .struct_size = sizeof right, .max_bytes = 8 * MIB};
    static const struct zs_pool_tuning both = {.struct_size = sizeof both,
                                               .flags = ZS_POOL_HUGE_NEVER | ZS_POOL_HUGE_ALWAYS};
    static const struct zs_pool_tuning never = {.struct_size = sizeof never, .flags = ZS_POOL_HUGE_NEVER};
    static const struct zs_pool_tuning misplaced = {.struct_size = sizeof misplaced, .flags = ZS_POOL_HARDENED};
    static const struct zs_pool_tuning unknown = {.struct_size = sizeof unknown, .flags = 128};
    static const struct zs_pool_tuning reserved = {.struct_size = sizeof reserved, .reserved[8] = 1};
    static const struct zs_pool_tuning sizeless = {.flags = ZS_POOL_HUGE_NEVER};
    struct zs_pool_options wrong[32];
    size_t count = 0;
#define WRONG(field, value) (wrong[count] = right, wrong[count].field = (value), count++)
    WRONG(max_bytes, 1);
    WRONG(max_bytes, ZS_MIN_POOL_BYTES - 1);
    WRONG(max_bytes, (uint64_t)1 << 60);
    WRONG(max_bytes, UINT64_MAX);
    WRONG(max_bytes, UINT64_MAX / 2 + 1);
    WRONG(backing, 4);
    WRONG(backing, UINT32_MAX);
    WRONG(backing, ZS_BACKING_MEMORY);
    WRONG(flags, 128);
    WRONG(flags, 0x80000000u);
    WRONG(flags, UINT32_MAX);
    WRONG(flags, ZS_POOL_DONTFORK);
    WRONG(tuning, &both);
    WRONG(tuning, &misplaced);
    WRONG(tuning, &unknown);
    WRONG(tuning, &reserved);
    WRONG(tuning, &sizeless);
    WRONG(flags, ZS_POOL_RELEASABLE);
    WRONG(memory, memory);
    WRONG(memory_bytes, 1);
    WRONG(reserved[0], 1);
    WRONG(reserved[3], (uint64_t)1 << 63);
    WRONG(backing, ZS_BACKING_HUGETLB), wrong[count - 1].tuning = &never;
    WRONG(backing, ZS_BACKING_MEMFD), wrong[count - 1].memory = memory;
#undef WRONG
    for (size_t i = 0; i < count; i++) {
        struct zs_pool *created = pool;
        int result = zs_create_pool("wrong", &wrong[i], &created);
        if (result != -EINVAL || strlen(zs_last_error()) < 20 || created != pool) {
            fprintf(stderr, "wrong options %zu: %d, %s\n", i, result, zs_last_error());
            exit(1);
        }
    }
}

int main(void)
{
    pool = pool_with(16 * MIB, 0);
    for (size_t i = 0; i < COUNT; i++)
        handles[i] = object_with(pool, SIZE, i);
    no_pool();
    nowhere_to_put_the_result();
    sizes();
    modes();
    strange_handles();
    stale_handles();
    hardened();
    another_pools_handles();
    twice();
    names();
    option_fields();
    check_all();
    OK(zs_destroy_pool(pool));
    puts("misuse: ok");
    return 0;
}
