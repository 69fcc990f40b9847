/* Sources of memory: memory files, huge pages, memory that the program supplies. */
#define _GNU_SOURCE
#include "check.h"
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT = 4000 };


static struct zs_pool_options options_for(uint32_t backing)
{
    return (struct zs_pool_options){.struct_size = sizeof(struct zs_pool_options),
                                    .max_bytes = 32 * MIB,
                                    .backing = backing};
}

/* Fills, checks, frees most, compacts, checks the rest. Returns the pages that compaction gave back. */
static uint64_t use(struct zs_pool *pool, size_t count)
{
    static zs_handle_t handles[COUNT];
    size_t step = is_slow() ? 3 : 1;
    for (size_t i = 0; i < count; i += step)
        handles[i] = object_with(pool, 1 + i, i);
    for (size_t i = 0; i < count; i += step)
        check_object(pool, handles[i], 1 + i, i);
    for (size_t i = 0; i < count; i += step)
        if (i % 8 != 0)
            OK(zs_free(pool, handles[i]));
    uint64_t pages;
    OK(zs_compact(pool, NULL, &pages));
    for (size_t i = 0; i < count; i += 8 * step) {
        check_object(pool, handles[i], 1 + i, i);
        OK(zs_free(pool, handles[i]));
    }
    return pages;
}

static void anonymous(void)
{
    struct zs_pool_options options = options_for(ZS_BACKING_ANONYMOUS);
    struct zs_pool *pool;
    int fd = -7;
    OK(zs_create_pool("anonymous", &options, &pool));
    CHECK(use(pool, COUNT) > 0);
    RESULT(zs_pool_fd(pool, &fd), -ENOENT);
    CHECK(fd == -7);
    OK(zs_destroy_pool(pool));
}

static void memory_file(void)
{
    struct zs_pool_options options = options_for(ZS_BACKING_MEMFD);
    struct zs_pool *pool;
    int fd = -1;
    OK(zs_create_pool("my pages", &options, &pool));
    OK(zs_pool_fd(pool, &fd));
    CHECK(fd >= 0);

    char link[64], name[200] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    CHECK(readlink(link, name, sizeof name - 1) > 0 && strstr(name, "memfd:my pages") != NULL);

    struct stat before, full, after;
    CHECK(fstat(fd, &before) == 0);
    zs_handle_t handles[1000];
    for (size_t i = 0; i < 1000; i++)
        handles[i] = object_with(pool, 4000, i);
    CHECK(fstat(fd, &full) == 0 && full.st_blocks - before.st_blocks >= 1000 * 4000 / 512);
    for (size_t i = 0; i < 1000; i++)
        OK(zs_free(pool, handles[i]));
    uint64_t pages;
    OK(zs_compact(pool, NULL, &pages));
    /* The file shrank by the pages that compaction, and the frees before it, gave back. */
    CHECK(fstat(fd, &after) == 0 && after.st_blocks <= before.st_blocks + 64 * 8);
    CHECK(use(pool, COUNT) > 0);
    CHECK(stats_of(pool).max_bytes == options.max_bytes);
    OK(zs_destroy_pool(pool));
    CHECK(fstat(fd, &after) == -1 && errno == EBADF);
}

/* Works if the system has huge pages in reserve, and fails with a clear message if not. */
static void huge_pages(void)
{
    struct zs_pool_options options = options_for(ZS_BACKING_HUGETLB);
    struct zs_pool *pool;
    int result = zs_create_pool("huge", &options, &pool);
    if (result != 0) {
        CHECK(strstr(zs_last_error(), "huge") != NULL);
        printf("no pool of huge pages here: %s\n", zs_last_error());
        return;
    }
    zs_handle_t handle;
    result = zs_malloc(pool, 100, &handle);
    if (result == 0) {
        CHECK(stats_of(pool).whole_chunks == 1 && total_pages(pool) >= 512);
        use(pool, 1000);
        OK(zs_free(pool, handle));
    } else {
        RESULT(result, -ENOMEM);
        printf("no huge pages here: %s\n", zs_strerror(result));
    }
    OK(zs_destroy_pool(pool));
}

/* A stretch of memory between two pages that must not change. */
struct stretch {
    unsigned char *all;
    unsigned char *memory;
    size_t bytes;
};

static struct stretch new_stretch(size_t bytes)
{
    struct stretch stretch = {.bytes = bytes};
    stretch.all = mmap(NULL, bytes + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stretch.all != MAP_FAILED);
    memset(stretch.all, 0xee, bytes + 8192);
    stretch.memory = stretch.all + 4096;
    return stretch;
}

static void end_stretch(struct stretch stretch)
{
    for (size_t i = 0; i < 4096; i++)
        CHECK(stretch.all[i] == 0xee && stretch.memory[stretch.bytes + i] == 0xee);
    /* After the pool is destroyed the memory is the program's again, and still mapped. */
    memset(stretch.memory, 1, stretch.bytes);
    CHECK(munmap(stretch.all, stretch.bytes + 8192) == 0);
}

static void supplied(uint32_t flags, size_t bytes, uint64_t max_bytes)
{
    struct stretch stretch = new_stretch(bytes);
    struct zs_pool_options options = options_for(ZS_BACKING_MEMORY);
    struct zs_pool *pool;
    options.memory = stretch.memory;
    options.memory_bytes = bytes;
    options.max_bytes = max_bytes;
    options.flags = flags & POOL_FLAGS;
    struct zs_pool_tuning tuning = {.struct_size = sizeof tuning, .flags = flags & ~POOL_FLAGS};
    options.tuning = &tuning;
    OK(zs_create_pool("supplied", &options, &pool));
    uint64_t pages = use(pool, bytes / 8192 < 1000 ? bytes / 8192 : 1000);
    /* Only memory with ZS_POOL_RELEASABLE is given back. */
    CHECK(flags & ZS_POOL_RELEASABLE ? pages > 0 : pages == 0);

    zs_handle_t handle;
    void *object;
    object = MAPPED(zs_malloc_mapped(pool, 100, &handle));
    CHECK((unsigned char *)object > stretch.memory && (unsigned char *)object < stretch.memory + bytes);
    OK(zs_unmap_object(pool, handle));

    /* Fill it completely: nothing may lie outside. */
    uint64_t count = 0, most = max_bytes == 0 ? bytes : max_bytes;
    for (; (object = zs_malloc_mapped(pool, 4096, &handle)) != NULL; count++) {
        memset(object, 0x33, 4096);
        OK(zs_unmap_object(pool, handle));
    }
    CHECK(zs_last_errno() == -ENOMEM && count * 4096 >= most / 2);
    CHECK(total_pages(pool) * 4096 <= most);
    OK(zs_destroy_pool(pool));
    end_stretch(stretch);
}

static void supplied_badly(void)
{
    struct stretch stretch = new_stretch(2 * MIB);
    struct zs_pool_options options = options_for(ZS_BACKING_MEMORY);
    struct zs_pool *pool;
    options.max_bytes = 0;
    RESULT(zs_create_pool("no memory", &options, &pool), -EINVAL);
    options.memory_bytes = 2 * MIB;
    RESULT(zs_create_pool("NULL", &options, &pool), -EINVAL);
    CHECK(strstr(zs_last_error(), "NULL") != NULL);
    options.memory = stretch.memory + 16;
    options.memory_bytes -= 4096;
    RESULT(zs_create_pool("not at a page", &options, &pool), -EINVAL);
    CHECK(strstr(zs_last_error(), "4096") != NULL);
    options.memory = stretch.memory;
    options.memory_bytes = MIB - 1;
    RESULT(zs_create_pool("too small", &options, &pool), -EINVAL);
    CHECK(strstr(zs_last_error(), "1 MiB") != NULL);
    options.memory_bytes = UINT64_MAX;
    RESULT(zs_create_pool("too large", &options, &pool), -EINVAL);
    options.memory_bytes = UINT64_MAX - (uintptr_t)stretch.memory;
    RESULT(zs_create_pool("no more addresses", &options, &pool), -EINVAL);
    options.memory_bytes = 2 * MIB;
    struct zs_pool_tuning tuning = {.struct_size = sizeof tuning, .flags = ZS_POOL_HUGE_ALWAYS};
    options.tuning = &tuning;
    RESULT(zs_create_pool("huge", &options, &pool), -EINVAL);
    CHECK(strlen(zs_last_error()) > 20);
    end_stretch(stretch);
}

int main(void)
{
    anonymous();
    memory_file();
    huge_pages();
    supplied(0, MIB, 0);
    supplied(0, 16 * MIB, 0);
    supplied(ZS_POOL_DONTFORK | ZS_POOL_HARDENED, 5 * MIB + 123, 0);
    supplied(ZS_POOL_RELEASABLE, 16 * MIB, 0);
    supplied(ZS_POOL_RELEASABLE, 16 * MIB, 8 * MIB);
    supplied_badly();
    puts("backings: ok");
    return 0;
}
