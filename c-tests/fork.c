/* Pools in forked children. */
#define _GNU_SOURCE
#include "check.h"
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_for(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int keep(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    (void)context, (void)pool, (void)handle;
    return 1;
}

/* An anonymous pool is copied: parent and child each go on with their own. */
static void an_anonymous_pool_is_copied(void)
{
    struct zs_pool *pool = pool_with(32 * MIB, 0);
    zs_handle_t handles[500];
    for (size_t i = 0; i < 500; i++)
        handles[i] = object_with(pool, 1 + 8 * i, i);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        uint64_t pages;
        for (size_t i = 0; i < 500; i++) {
            check_object(pool, handles[i], 1 + 8 * i, i);
            if (i % 2 == 0)
                OK(zs_free(pool, handles[i]));
        }
        for (size_t i = 0; i < 500; i++)
            object_with(pool, 1000, i);
        OK(zs_compact(pool, NULL, &pages));
        for (size_t i = 1; i < 500; i += 2)
            check_object(pool, handles[i], 1 + 8 * i, i);
        OK(zs_destroy_pool(pool));
        _exit(0);
    }
    for (size_t i = 1; i < 500; i += 2)
        OK(zs_free(pool, handles[i]));
    wait_for(child);
    for (size_t i = 0; i < 500; i += 2)
        check_object(pool, handles[i], 1 + 8 * i, i);
    OK(zs_destroy_pool(pool));
}

/* In the child: every call that would touch the pool's memory is refused. */
static void in_the_child(struct zs_pool *pool, zs_handle_t handle)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    zs_handle_t new_handle;
    char byte = 0;
    uint64_t pages;
    size_t size;
    int fd;
    RESULT(zs_malloc(pool, 10, &new_handle), -EPERM);
    REFUSED(zs_malloc_mapped(pool, 10, &new_handle), -EPERM);
    REFUSED(zs_malloc_tagged(pool, 10, 1, &new_handle), -EPERM);
    RESULT(zs_get_tag(pool, handle, &pages), -EPERM);
    RESULT(zs_free(pool, handle), -EPERM);
    REFUSED(zs_map_object(pool, handle, ZS_MM_RO), -EPERM);
    RESULT(zs_unmap_object(pool, handle), -EPERM);
    RESULT(zs_obj_read(pool, handle, &byte, 1), -EPERM);
    RESULT(zs_obj_write(pool, handle, &byte, 1), -EPERM);
    RESULT(zs_compact(pool, NULL, &pages), -EPERM);
    RESULT(zs_set_evict(pool, keep, NULL), -EPERM);
    RESULT(zs_shrink(pool, 1, &pages), -EPERM);
    RESULT(zs_set_max_bytes(pool, 0), -EPERM);
    RESULT(zs_pool_stats(pool, &stats), -EPERM);
    OK(zs_get_total_pages(pool, &pages));
    OK(zs_lookup_class_size(pool, 10, &size));
    int result = zs_pool_fd(pool, &fd);
    CHECK(result == 0 || result == -ENOENT);
    OK(zs_destroy_pool(pool));
}

static void a_pool_is_not_inherited(struct zs_pool *pool)
{
    zs_handle_t handle = object_with(pool, 1000, 1), mapped = object_with(pool, 2000, 2);
    void *object = MAPPED(zs_map_object(pool, mapped, ZS_MM_RW));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_the_child(pool, handle);
        /* The child may have pools of its own. */
        struct zs_pool *own = pool_with(8 * MIB, ZS_POOL_DONTFORK);
        RESULT(zs_free(own, handle), -EINVAL);
        object_with(own, 1000, 1);
        OK(zs_destroy_pool(own));
        _exit(0);
    }
    wait_for(child);
    fill(object, 2000, 3);
    OK(zs_unmap_object(pool, mapped));
    check_object(pool, handle, 1000, 1);
    check_object(pool, mapped, 2000, 3);
    OK(zs_free(pool, handle));
    OK(zs_destroy_pool(pool));
}

static void memory_files_are_not_inherited(uint32_t backing)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .max_bytes = 32 * MIB, .backing = backing};
    struct zs_pool *pool;
    if (zs_create_pool("file", &options, &pool) != 0) {
        CHECK(backing == ZS_BACKING_HUGETLB);
        return;
    }
    zs_handle_t handle;
    if (backing == ZS_BACKING_HUGETLB && zs_malloc(pool, 1, &handle) != 0)
        OK(zs_destroy_pool(pool));
    else
        a_pool_is_not_inherited(pool);
}

/* Supplied memory that both processes share needs ZS_POOL_DONTFORK. */
static void shared_memory(void)
{
    void *memory = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    struct zs_pool_tuning tuning = {.struct_size = sizeof tuning, .flags = ZS_POOL_DONTFORK};
    struct zs_pool_options options = {.struct_size = sizeof options,
                                      .backing = ZS_BACKING_MEMORY,
                                      .tuning = &tuning,
                                      .memory = memory,
                                      .memory_bytes = 4 * MIB};
    struct zs_pool *pool;
    OK(zs_create_pool("shared", &options, &pool));
    a_pool_is_not_inherited(pool);
    CHECK(munmap(memory, 4 * MIB) == 0);
}

int main(void)
{
    an_anonymous_pool_is_copied();
    a_pool_is_not_inherited(pool_with(32 * MIB, ZS_POOL_DONTFORK));
    memory_files_are_not_inherited(ZS_BACKING_MEMFD);
    memory_files_are_not_inherited(ZS_BACKING_HUGETLB);
    shared_memory();
    puts("fork: ok");
    return 0;
}
