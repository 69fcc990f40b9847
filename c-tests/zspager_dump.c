/*
 * The ways to a complete dump that the header names, and the descriptors that it lists.
 */
#include "pager.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = ABOVE };

static unsigned char *memory;
static int dump;

static struct zspager *filled(uint32_t fault_mode, uint32_t eviction)
{
    struct zspager *pager = pager_with(LIMIT, fault_mode, eviction);
    memory = memory_of(PAGES);
    region_of(pager, memory, PAGES);
    return pager;
}

static void fill_memory(void)
{
    for (uint64_t i = 0; i < PAGES; i++)
        make_page(memory + i * PAGE, i);
}

static void wait_for(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Returns how many pages are in memory. */
static size_t resident(void)
{
    static unsigned char seen[PAGES];
    size_t count = 0;
    CHECK(mincore(memory, PAGES * PAGE, seen) == 0);
    for (size_t i = 0; i < PAGES; i++)
        count += seen[i] & 1;
    return count;
}

/* Brings all pages in before a planned dump. */
static void without_a_limit_all_pages_come_in(uint32_t eviction)
{
    struct zspager *pager = filled(ZSPAGER_FAULT_SIGBUS, eviction);
    fill_memory();
    CHECK(resident() <= LIMIT + 64);
    OK(zspager_set_resident_limit(pager, 0));
    for (size_t i = 0; i < PAGES; i++)
        (void)*(volatile unsigned char *)(memory + i * PAGE);
    CHECK(resident() == PAGES);
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, PAGES * PAGE) == 0);
}

static void write_dump(int signal)
{
    unsigned char page[PAGE];
    (void)signal;
    for (size_t i = 0; i < PAGES; i++) {
        memcpy(page, memory + i * PAGE, PAGE);
        if (write(dump, page, PAGE) != PAGE)
            _exit(2);
    }
    _exit(0);
}

/* A crash handler reads the region and writes it to a file. */
static void a_crash_handler_writes_a_region(void)
{
    static unsigned char alternate[256 << 10];
    unsigned char page[PAGE];
    FILE *file = tmpfile();
    CHECK(file != NULL);
    dump = fileno(file);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
        struct sigaction crash = {.sa_handler = write_dump, .sa_flags = SA_ONSTACK};
        CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &crash, NULL) == 0);
        filled(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
        fill_memory();
        raise(SIGSEGV);
        _exit(1);
    }
    wait_for(child);
    for (uint64_t i = 0; i < PAGES; i++) {
        CHECK(pread(dump, page, PAGE, (off_t)(i * PAGE)) == PAGE);
        CHECK(is_page(page, i));
    }
    fclose(file);
}

/* Another process reads the region with process_vm_readv() while threads are lent. */
static void another_process_reads_a_region(void)
{
    struct zspager_options options = {.struct_size = sizeof options, .fault_mode = ZSPAGER_FAULT_THREADS};
    struct zspager *pager = NULL;
    struct lent lent;
    int result = zspager_create("test", &options, &pager);
    if (result == -EPERM) {
        fprintf(stderr, "SKIPPED: zspager_dump: no right to lend threads, so no other process reads\n");
        return;
    }
    OK(result);
    OK(zspager_destroy(pager));
    pager = filled(ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_MOVING);
    lend(&lent, pager, ZSPAGER_RUN_ALL);
    fill_memory();
    evict_all(pager);
    /* Has no effect on systems without this option. */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned char page[PAGE];
        for (uint64_t i = 0; i < PAGES; i++) {
            struct iovec here = {page, PAGE}, there = {memory + i * PAGE, PAGE};
            CHECK(process_vm_readv(parent, &here, 1, &there, 1, 0) == PAGE);
            CHECK(is_page(page, i));
        }
        _exit(0);
    }
    wait_for(child);
    give_back(&lent, 1);
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, PAGES * PAGE) == 0);
}

/* Returns how many descriptors have files of this name, and checks that all are closed on exec. */
static int descriptors(const char *name)
{
    DIR *all = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;
    CHECK(all != NULL);
    while ((entry = readdir(all)) != NULL) {
        char target[300];
        ssize_t length = readlinkat(dirfd(all), entry->d_name, target, sizeof target - 1);
        if (length <= 0 || atoi(entry->d_name) == dirfd(all))
            continue;
        target[length] = 0;
        if (strstr(target, name) != NULL) {
            count++;
            CHECK(strcmp(name, "") == 0 || (fcntl(atoi(entry->d_name), F_GETFD) & FD_CLOEXEC) != 0);
        }
    }
    closedir(all);
    return count;
}

static void what_is_kept_open(void)
{
    struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED};
    uint64_t region;
    int before = descriptors("");
    struct zspager *pager = filled(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    options.shared_fd = memfd_create("region", MFD_CLOEXEC);
    CHECK(options.shared_fd >= 0 && ftruncate(options.shared_fd, PAGES * PAGE) == 0);
    void *shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, options.shared_fd, 0);
    CHECK(shared != MAP_FAILED);
    OK(zspager_add_region(pager, shared, PAGES * PAGE, &options, &region));
    CHECK(close(options.shared_fd) == 0);
    int file = memfd_create("backing", MFD_CLOEXEC);
    CHECK(file >= 0);
    OK(zspager_set_backing_file(pager, file, PAGES * PAGE));
    CHECK(close(file) == 0);
    CHECK(descriptors("userfaultfd") == 2 && descriptors("eventfd") == 1);
    CHECK(descriptors("memfd:region") == 1 && descriptors("memfd:backing") == 1);
    /* /proc/self/mem is open too, if the process may open it. */
    CHECK(descriptors("") == before + 5 + (access("/proc/self/mem", R_OK | W_OK) == 0));
    OK(zspager_destroy(pager));
    CHECK(descriptors("") == before);
}

int main(void)
{
    without_a_limit_all_pages_come_in(ZSPAGER_EVICT_MOVING);
    without_a_limit_all_pages_come_in(ZSPAGER_EVICT_IN_PLACE);
    a_crash_handler_writes_a_region();
    another_process_reads_a_region();
    what_is_kept_open();
    puts("zspager_dump: ok");
    return 0;
}
