/* Unusual hosts: memory that is locked as it is mapped, no huge pages, huge pages everywhere, files that others may
   resize. */
#define _GNU_SOURCE
#include "pages.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs a test in a child process, whose limits and locks end with it. */
static void apart(void (*test)(void))
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        test();
        exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Returns whether /proc/self/smaps shows a flag for the mapping that an address is in. */
static int has_flag(const void *address, const char *flag)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    CHECK(maps != NULL);
    char line[512];
    int inside = 0, found = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long long from, to;
        if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
            inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, flag) != NULL;
    }
    fclose(maps);
    return found;
}

static long resident_kib(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    char line[256];
    long kib = -1;
    while (fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    fclose(status);
    return kib;
}

/* An area's index takes memory only as it is used, even if the process locks everything. */
static void an_index_is_not_locked_at_once(void)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        fprintf(stderr, "SKIPPED: mlockall is refused: %s\n", strerror(errno));
        return;
    }
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = 8 * MIB};
    struct zswap *zswap = NULL;
    struct zswap_area *area = NULL;
    unsigned char page[PAGE];
    OK(zswap_create(&options, &zswap));
    long before = resident_kib();
    OK(zswap_add_area(zswap, (uint64_t)1 << 27, NULL, &area));
    text_page(page, 1);
    OK(zswap_store(area, 12345678, page));
    CHECK(resident_kib() - before < 16 << 10);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

/* The error message names RLIMIT_MEMLOCK. */
static void a_lock_limit_is_named(void)
{
    struct rlimit limit;
    struct zs_pool_options options = {.struct_size = sizeof options, .max_bytes = 64 * MIB};
    struct zs_pool *pool = NULL;
    CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    limit.rlim_cur = limit.rlim_max < 32 * MIB ? limit.rlim_max : 32 * MIB;
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return;
    if (mlockall(MCL_FUTURE) != 0) {
        fprintf(stderr, "SKIPPED: mlockall is refused: %s\n", strerror(errno));
        return;
    }
    RESULT(zs_create_pool("locked", &options, &pool), -ENOMEM);
    CHECK(strstr(zs_last_error(), "RLIMIT_MEMLOCK") != NULL);
}

/* A process with the descriptor can't truncate memory that is in use. */
static void a_memory_file_keeps_its_size(void)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .backing = ZS_BACKING_MEMFD, .max_bytes = 16 * MIB};
    struct zs_pool *pool = NULL;
    int fd = -1;
    OK(zs_create_pool("sealed", &options, &pool));
    OK(zs_pool_fd(pool, &fd));
    CHECK(ftruncate(fd, 0) == -1 && errno == EPERM);
    CHECK(ftruncate(fd, 1 << 30) == -1 && errno == EPERM);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == -1 && errno == EPERM);
    zs_handle_t handle = object_with(pool, 3000, 5);
    check_object(pool, handle, 3000, 5);
    OK(zs_free(pool, handle));
    OK(zs_destroy_pool(pool));
}

/* Without huge pages, a pool in them fails at its creation and not at each malloc. */
static void no_huge_page(void)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .backing = ZS_BACKING_HUGETLB, .max_bytes = 16 * MIB};
    struct zs_pool *pool = NULL;
    zs_handle_t handle = 0;
    int result = zs_create_pool("huge", &options, &pool);
    if (result == 0) {
        OK(zs_malloc(pool, 100, &handle));
        OK(zs_free(pool, handle));
        OK(zs_destroy_pool(pool));
    } else {
        CHECK(result != -ENOMEM || strstr(zs_last_error(), "nr_hugepages") != NULL);
    }
}

/* Supplied memory is inherited by children again after the pool is destroyed. */
static void supplied_memory_is_inherited_again(void)
{
    size_t bytes = 8 << 20;
    unsigned char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    struct zs_pool_tuning tuning = {.struct_size = sizeof tuning, .flags = ZS_POOL_DONTFORK};
    struct zs_pool_options options = {.struct_size = sizeof options, .backing = ZS_BACKING_MEMORY, .memory = memory,
                                      .memory_bytes = bytes, .tuning = &tuning};
    struct zs_pool *pool = NULL;
    OK(zs_create_pool("supplied", &options, &pool));
    CHECK(has_flag(memory + bytes - 1, " dc"));
    OK(zs_destroy_pool(pool));
    CHECK(!has_flag(memory, " dc") && !has_flag(memory + bytes / 2, " dc") && !has_flag(memory + bytes - 1, " dc"));
    memset(memory, 7, bytes);
    pid_t child = fork();
    if (child == 0)
        _exit(memory[0] + memory[bytes - 1] == 14 ? 0 : 1);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    munmap(memory, bytes);
}

/* Where the system uses huge pages for everything, a pool without advice still takes only what it is charged for. */
static void no_advice_takes_no_huge_pages(void)
{
    struct zs_pool *pool = pool_with(64 * MIB, ZS_POOL_NO_ADVICE);
    zs_handle_t handle = 0;
    void *object = NULL;
    object = MAPPED(zs_malloc_mapped(pool, 1000, &handle));
    CHECK(has_flag(object, " nh"));
    OK(zs_unmap_object(pool, handle));
    OK(zs_free(pool, handle));
    OK(zs_destroy_pool(pool));
}

/* The table of a backing file takes memory only as it is used, even if the system uses huge pages for everything. */
static void the_table_of_a_file_takes_no_huge_pages(void)
{
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = 8 * MIB};
    struct zswap *zswap = NULL;
    OK(zswap_create(&options, &zswap));
    int file = memfd_create("backing", 0);
    CHECK(file >= 0);
    OK(zswap_set_backing_file(zswap, file, (uint64_t)64 << 30));
    FILE *maps = fopen("/proc/self/smaps", "r");
    CHECK(maps != NULL);
    char line[512], rights[8];
    int is_table = 0, tables = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long long from, to;
        if (sscanf(line, "%llx-%llx %7s", &from, &to, rights) == 3)
            is_table = to - from >= 64 * MIB && strncmp(rights, "rw", 2) == 0;
        else if (is_table && strncmp(line, "VmFlags:", 8) == 0) {
            CHECK(strstr(line, " nh") != NULL);
            tables++;
        }
    }
    fclose(maps);
    CHECK(tables > 0);
    OK(zswap_set_backing_file(zswap, -1, 0));
    OK(zswap_destroy(zswap));
}

int main(void)
{
    apart(an_index_is_not_locked_at_once);
    apart(a_lock_limit_is_named);
    apart(a_memory_file_keeps_its_size);
    apart(no_huge_page);
    apart(supplied_memory_is_inherited_again);
    apart(no_advice_takes_no_huge_pages);
    apart(the_table_of_a_file_takes_no_huge_pages);
    return 0;
}
