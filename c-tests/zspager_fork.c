/* Pagers in forked children. */
#include "pager.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = ABOVE };

/* Returns how many descriptors there are of kinds that only a pager has. */
static int descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;
    CHECK(all != NULL);
    while ((entry = readdir(all)) != NULL) {
        char target[300];
        ssize_t length = readlinkat(dirfd(all), entry->d_name, target, sizeof target - 1);
        if (length > 0) {
            target[length] = 0;
            count += strstr(target, "userfaultfd") != NULL || strstr(target, "eventfd") != NULL
                     || strstr(target, "memfd:") != NULL;
        }
    }
    closedir(all);
    return count;
}

static void every_call_is_refused(struct zspager *pager, unsigned char *memory, uint64_t region)
{
    struct zspager_stats stats = {.struct_size = sizeof stats};
    uint64_t number = 0;
    size_t length = 0;
    int fd = -1;
    RESULT(zspager_run(pager, ZSPAGER_RUN_ALL), -EPERM);
    RESULT(zspager_stop(pager), -EPERM);
    RESULT(zspager_resume(pager), -EPERM);
    RESULT(zspager_add_region(pager, memory, PAGE, NULL, &number), -EPERM);
    REFUSED(zspager_map(pager, PAGE, NULL, &number), -EPERM);
    RESULT(zspager_unmap(pager, 1, memory, PAGE), -EPERM);
    RESULT(zspager_remove_region(pager, region, 0), -EPERM);
    RESULT(zspager_hold(pager, memory, PAGE), -EPERM);
    RESULT(zspager_release(pager, memory, PAGE), -EPERM);
    RESULT(zspager_discard(pager, memory, PAGE), -EPERM);
    RESULT(zspager_evict(pager, 1, &number), -EPERM);
    RESULT(zspager_set_resident_limit(pager, PAGE), -EPERM);
    RESULT(zspager_set_pool_limit(pager, PAGE), -EPERM);
    RESULT(zspager_set_kept_copies(pager, 10), -EPERM);
    RESULT(zspager_set_codec(pager, ZSWAP_CODEC_LZ4, 0), -EPERM);
    RESULT(zspager_set_backing_file(pager, -1, 0), -EPERM);
    RESULT(zspager_write_back(pager, 1, &number), -EPERM);
    RESULT(zspager_compact(pager, NULL, &number), -EPERM);
    RESULT(zspager_stats_json(pager, NULL, 0, &length), -EPERM);
    /* These calls report the pager as it was at the fork. */
    OK(zspager_stats(pager, &stats));
    CHECK(stats.regions == 2 && stats.region_bytes == 2 * (uint64_t)PAGES * PAGE);
    OK(zspager_latency_permille(pager, 500, &number));
    OK(zspager_descriptor(pager, &fd));
    CHECK(fd >= 0);
}

static void a_child(struct zspager *pager, unsigned char *memory, uint64_t region)
{
    int status;
    pid_t child;
    fflush(stdout);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned char *mine;
        int before = descriptors();
        /* The child may map its own memory at a region's address. */
        mine = mmap(memory, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        CHECK(mine == memory);
        mine[0] = 7;
        every_call_is_refused(pager, memory, region);
        /* Userfaultfds of regions and staging range, the eventfd for lent threads, and two of the memory file. */
        CHECK(before == 5);
        OK(zspager_destroy(pager));
        CHECK(mine[0] == 7);
        CHECK(descriptors() == before - 4);
        /* The child may create a pager. */
        pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
        memory = memory_of(PAGES);
        region_of(pager, memory, PAGES);
        for (uint64_t i = 0; i < PAGES; i++)
            make_page(memory + i * PAGE, i);
        for (uint64_t i = 0; i < PAGES; i++)
            CHECK(is_page(memory + i * PAGE, i));
        OK(zspager_destroy(pager));
        CHECK(descriptors() == before - 4);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void whether_threads_are_lent_or_not(uint32_t eviction)
{
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, eviction);
    unsigned char *memory = memory_of(PAGES), *shared;
    struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED};
    uint64_t region = region_of(pager, memory, PAGES), other;
    struct lent lent[2];
    options.shared_fd = memfd_create("region", MFD_CLOEXEC);
    CHECK(options.shared_fd >= 0 && ftruncate(options.shared_fd, PAGES * PAGE) == 0);
    shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, options.shared_fd, 0);
    CHECK(shared != MAP_FAILED);
    OK(zspager_add_region(pager, shared, PAGES * PAGE, &options, &other));
    for (uint64_t i = 0; i < PAGES; i++) {
        make_page(memory + i * PAGE, i);
        make_page(shared + i * PAGE, PAGES + i);
    }
    a_child(pager, memory, region);
    lend(&lent[0], pager, ZSPAGER_RUN_SERVE);
    lend(&lent[1], pager, ZSPAGER_RUN_EVICT);
    for (int round = 0; round < 3; round++) {
        usleep(20000);
        a_child(pager, memory, region);
        for (uint64_t i = 0; i < PAGES; i++) {
            CHECK(is_page(memory + i * PAGE, i));
            CHECK(is_page(shared + i * PAGE, PAGES + i));
        }
    }
    RESULT(zspager_destroy(pager), -EBUSY);
    give_back(lent, 2);
    OK(zspager_destroy(pager));
    for (uint64_t i = 0; i < PAGES; i++) {
        CHECK(is_page(memory + i * PAGE, i));
        CHECK(is_page(shared + i * PAGE, PAGES + i));
    }
    close(options.shared_fd);
    CHECK(descriptors() == 0);
}

int main(void)
{
    whether_threads_are_lent_or_not(ZSPAGER_EVICT_MOVING);
    whether_threads_are_lent_or_not(ZSPAGER_EVICT_IN_PLACE);
    puts("zspager_fork: ok");
    return 0;
}
