/* Pools: version, error sentences, creation, destruction, options, limits, statistics. */
#define _GNU_SOURCE
#include "check.h"
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void versions_and_sentences(void)
{
    CHECK(zs_version() == (ZS_VERSION_MAJOR << 16 | ZS_VERSION_MINOR << 8 | ZS_VERSION_PATCH));
    static const int numbers[] = {EINVAL, ENOMEM, ENOSPC,  EBUSY,  EAGAIN, ENOENT,
                                  EPERM,  EIO,    EBADMSG, EMFILE, ENFILE, ENOSYS};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CHECK(strlen(zs_strerror(numbers[i])) > 10);
        CHECK(zs_strerror(numbers[i]) == zs_strerror(-numbers[i]));
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(zs_strerror(numbers[i]), zs_strerror(numbers[j])) != 0);
    }
    CHECK(strcmp(zs_strerror(0), "success") == 0);
    CHECK(zs_strerror(12345) != NULL && zs_strerror(INT32_MIN) != NULL);
}

static void default_options(void)
{
    struct zs_pool *pool = NULL;
    OK(zs_create_pool("default", NULL, &pool));
    zs_handle_t handle = object_with(pool, 1000, 1);
    check_object(pool, handle, 1000, 1);
    CHECK(stats_of(pool).max_bytes >= 16 * MIB);
    /* A pool with live objects can be destroyed. */
    OK(zs_destroy_pool(pool));

    struct zs_pool_options zero = {.struct_size = sizeof zero};
    OK(zs_create_pool("", &zero, &pool));
    OK(zs_destroy_pool(pool));
}

static void every_flag(void)
{
    static const uint32_t flags[] = {
        ZS_POOL_HUGE_NEVER,
        ZS_POOL_HUGE_ALWAYS,
        ZS_POOL_DONTFORK,
        ZS_POOL_NO_ADVICE,
        ZS_POOL_HARDENED,
        ZS_POOL_HUGE_NEVER | ZS_POOL_DONTFORK | ZS_POOL_NO_ADVICE | ZS_POOL_HARDENED,
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct zs_pool *pool = pool_with(32 * MIB, flags[i]);
        zs_handle_t handles[100];
        for (uint64_t j = 0; j < 100; j++)
            handles[j] = object_with(pool, 1 + 41 * j, j);
        for (uint64_t j = 0; j < 100; j++)
            check_object(pool, handles[j], 1 + 41 * j, j);
        for (uint64_t j = 0; j < 100; j++)
            OK(zs_free(pool, handles[j]));
        OK(zs_destroy_pool(pool));
    }
}

static void a_busy_pool_stays(void)
{
    struct zs_pool *pool = pool_with(8 * MIB, 0);
    zs_handle_t handle = object_with(pool, 100, 5);
    void *object;
    object = MAPPED(zs_map_object(pool, handle, ZS_MM_RO));
    RESULT(zs_destroy_pool(pool), -EBUSY);
    CHECK(is_filled(object, 100, 5));
    OK(zs_unmap_object(pool, handle));
    check_object(pool, handle, 100, 5);
    OK(zs_destroy_pool(pool));
}

/* Allocates objects of a page until none fits. Returns how many. */
static uint64_t fill_up(struct zs_pool *pool, zs_handle_t *last)
{
    uint64_t count = 0;
    zs_handle_t handle;
    int result;
    while ((result = zs_malloc(pool, 4096, &handle)) == 0) {
        OK(zs_obj_write(pool, handle, &count, sizeof count));
        *last = handle;
        count++;
    }
    CHECK(result == -ENOMEM);
    return count;
}

static void the_limit_holds(void)
{
    struct zs_pool *pool = pool_with(4 * MIB, 0);
    zs_handle_t last = 0, unchanged = 77;
    uint64_t count = fill_up(pool, &last);
    CHECK(count > 700 && count <= 1024);
    CHECK(total_pages(pool) <= 1024);

    struct zs_pool_stats full = stats_of(pool);
    RESULT(zs_malloc(pool, 4096, &unchanged), -ENOMEM);
    CHECK(unchanged == 77);
    struct zs_pool_stats after = stats_of(pool);
    CHECK(memcmp(&full, &after, sizeof full) == 0);

    OK(zs_free(pool, last));
    OK(zs_malloc(pool, 4096, &last));
    OK(zs_set_max_bytes(pool, 5 * MIB));
    CHECK(stats_of(pool).max_bytes == 5 * MIB);
    CHECK(fill_up(pool, &last) >= 128);
    CHECK(total_pages(pool) <= 1280);

    /* A limit below what the pool has: objects stay, and none can be added. */
    OK(zs_set_max_bytes(pool, MIB));
    RESULT(zs_malloc(pool, 2000, &unchanged), -ENOMEM);
    OK(zs_set_max_bytes(pool, 0));
    CHECK(stats_of(pool).max_bytes == 4 * MIB);
    OK(zs_destroy_pool(pool));
}

static void statistics_agree(void)
{
    struct zs_pool *pool = pool_with(64 * MIB, 0);
    CHECK(stats_of(pool).objects == 0);
    enum { COUNT = 3000 };
    static zs_handle_t handles[COUNT];
    uint64_t bytes = 0;
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = 1 + i, class_size;
        handles[i] = object_with(pool, size, i);
        OK(zs_lookup_class_size(pool, size, &class_size));
        bytes += class_size;
    }
    struct zs_pool_stats stats = stats_of(pool);
    CHECK(stats.struct_size == sizeof stats && stats.max_bytes == 64 * MIB);
    CHECK(stats.objects == COUNT && stats.object_bytes == bytes && stats.zspages > 0);
    CHECK(stats.total_pages == total_pages(pool) && stats.total_pages * 4096 > bytes);
    CHECK(stats.metadata_pages > 0 && stats.metadata_pages < stats.total_pages);
    CHECK(stats.chunks >= 2 && stats.whole_chunks == 0);
    for (size_t i = 0; i < COUNT; i++)
        OK(zs_free(pool, handles[i]));
    uint64_t pages;
    OK(zs_compact(pool, NULL, &pages));
    stats = stats_of(pool);
    CHECK(stats.objects == 0 && stats.object_bytes == 0 && stats.zspages == 0 && stats.warm_pages == 0);
    OK(zs_destroy_pool(pool));
}

static void the_last_error_says_why(void)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .max_bytes = 1000};
    struct zs_pool *pool = (struct zs_pool *)&options;
    RESULT(zs_create_pool("small", &options, &pool), -EINVAL);
    CHECK(pool == (struct zs_pool *)&options && strstr(zs_last_error(), "max_bytes") != NULL);
}

/*
 * In a child, because a limit on addresses can't be taken back. Sanitizers and valgrind need more addresses
 * themselves.
 */
static void a_limit_on_addresses(void)
{
#ifndef __SANITIZE_ADDRESS__
    if (is_slow())
        return;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit limit = {256 * MIB, 256 * MIB};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        struct zs_pool_options options = {.struct_size = sizeof options,
                                          .max_bytes = 1024 * MIB};
        struct zs_pool *pool;
        RESULT(zs_create_pool("too large", &options, &pool), -ENOMEM);
        CHECK(strstr(zs_last_error(), "RLIMIT_AS") != NULL);
        /* Without max_bytes the pool takes as many addresses as it can get. */
        OK(zs_create_pool("what is there", NULL, &pool));
        zs_handle_t handle = object_with(pool, 3000, 3);
        check_object(pool, handle, 3000, 3);
        CHECK(stats_of(pool).max_bytes < 256 * MIB);
        OK(zs_destroy_pool(pool));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

int main(void)
{
    versions_and_sentences();
    default_options();
    every_flag();
    a_busy_pool_stays();
    the_limit_holds();
    statistics_agree();
    the_last_error_says_why();
    a_limit_on_addresses();
    puts("pool: ok");
    return 0;
}
