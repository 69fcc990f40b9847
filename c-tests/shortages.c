/* Real shortages: of addresses, data, locked memory, descriptors, mappings, room on a tmpfs, and memory of a control
   group. A call that fails returns an error with a sentence that says what to do; stored pages stay right; and work
   goes on once there is enough again. Each shortage is in a child process.

   The argument names a shortage. "overcommit" does not run with the others, because it affects the whole machine. */
#define _GNU_SOURCE
#ifdef WITH_PAGER
#include "pager.h"
#else
#include "pages.h"
#include <sys/mman.h>
#endif
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STORED = 100 };

/* Exit status of a test that can't run here. */
enum { SKIPPED = 77 };

static const char *shortage = "";

static void skip(const char *why)
{
    fprintf(stderr, "SKIPPED %s: %s: %s\n", shortage, why, strerror(errno));
    _exit(SKIPPED);
}

static struct zs_pool *pool;
static zs_handle_t objects[STORED];
static struct zswap *zswap;
static struct zswap_area *area;
static struct zs_pool_options pool_options = {.struct_size = sizeof pool_options, .max_bytes = 64 * MIB};
static struct zswap_tuning zswap_tuning = {.struct_size = sizeof zswap_tuning, .pool = &pool_options};
static struct zswap_options zswap_options = {.struct_size = sizeof zswap_options, .tuning = &zswap_tuning};

static void make_stored(void)
{
    OK(zs_create_pool("before", &pool_options, &pool));
    OK(zswap_create(&zswap_options, &zswap));
    area = area_with(zswap, 1 << 20);
    for (size_t at = 0; at < STORED; at++) {
        objects[at] = object_with(pool, 100 + at * 40, at);
        OK(store_page(area, at, at));
    }
}

static void check_stored(void)
{
    for (size_t at = 0; at < STORED; at++) {
        check_object(pool, objects[at], 100 + at * 40, at);
        check_page(area, at, at);
    }
}

/* Checks that a failure is the expected one, and that its sentence has the advice. Returns whether the call failed. */
static int is_short(int result, int expected, const char *advice)
{
    if (result == 0)
        return 0;
    if (result != expected || strstr(zs_last_error(), advice) == NULL) {
        fprintf(stderr, "%s: %d (%s): %s\n", shortage, result, zs_strerror(result), zs_last_error());
        exit(1);
    }
    return 1;
}

/* Creates and destroys one of each. Returns how many could not be created. */
static int create_each(int expected, const char *advice)
{
    struct zs_pool *new_pool = NULL;
    struct zswap *new_zswap = NULL;
    int failed = 0;
    if (!is_short(zs_create_pool("new", &pool_options, &new_pool), expected, advice))
        OK(zs_destroy_pool(new_pool));
    else
        failed++;
    pool_options.backing = ZS_BACKING_MEMFD;
    if (!is_short(zs_create_pool("new", &pool_options, &new_pool), expected, advice))
        OK(zs_destroy_pool(new_pool));
    else
        failed++;
    pool_options.backing = ZS_BACKING_ANONYMOUS;
    if (!is_short(zswap_create(&zswap_options, &new_zswap), expected, advice))
        OK(zswap_destroy(new_zswap));
    else
        failed++;
#ifdef WITH_PAGER
    struct zspager_tuning tuning = {.struct_size = sizeof tuning, .zswap = &zswap_tuning};
    struct zspager_options options = {.struct_size = sizeof options, .resident_bytes = 64 * PAGE,
                                      .eviction = ZSPAGER_EVICT_MOVING, .tuning = &tuning};
    struct zspager *pager = NULL;
    if (!is_short(zspager_create("new", &options, &pager), expected, advice))
        OK(zspager_destroy(pager));
    else
        failed++;
#endif
    return failed;
}

/* Calls that must work in any shortage, and calls that may fail with -ENOMEM and then change nothing. Returns how many
   pages were stored. */
static size_t use_stored(void)
{
    static char text[1 << 16];
    uint64_t number = 0;
    size_t length = 0, stored = 0;
    zs_handle_t handle = 0;
    for (size_t at = 0; at < 3000; at++) {
        int result = store_page(area, 1000 + at, at * 8 + 1);
        CHECK(result == 0 || result == -ENOMEM);
        if (result == 0)
            check_page(area, 1000 + at, at * 8 + 1), stored++;
        else
            check_absent(area, 1000 + at);
        result = zs_malloc(pool, 4000, &handle);
        CHECK(result == 0 || result == -ENOMEM);
        if (result == 0)
            OK(zs_free(pool, handle));
    }
    check_stored();
    OK(zswap_stats_json(zswap, text, sizeof text, &length));
    OK(zswap_invalidate(area, 1000, 3000, 0));
    OK(zswap_compact(zswap, NULL, &number));
    OK(zs_compact(pool, NULL, &number));
    check_stored();
    return stored;
}

static long of_status(const char *name)
{
    char text[8192];
    int status = open("/proc/self/status", O_RDONLY);
    ssize_t bytes = read(status, text, sizeof text - 1);
    CHECK(status >= 0 && bytes > 0 && close(status) == 0);
    text[bytes] = 0;
    const char *line = strstr(text, name);
    CHECK(line != NULL);
    return strtol(line + strlen(name), NULL, 10);
}

static void set_limit(int resource, rlim_t bytes)
{
    struct rlimit limit;
    CHECK(getrlimit((__rlimit_resource_t)resource, &limit) == 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    CHECK(setrlimit((__rlimit_resource_t)resource, &limit) == 0);
}

/* Raises the limit step by step until everything can be created. */
static void of_memory(int resource, const char *used, const char *advice, int stops_stores)
{
    int failed = 1;
    make_stored();
    set_limit(resource, (rlim_t)of_status(used) << 10);
    CHECK(create_each(-ENOMEM, advice) > 0);
    CHECK((use_stored() < 3000) == stops_stores);
    for (rlim_t room = 64 << 10; failed > 0; room += room / 2) {
        set_limit(resource, ((rlim_t)of_status(used) << 10) + room);
        failed = create_each(-ENOMEM, advice);
        check_stored();
    }
    set_limit(resource, RLIM_INFINITY);
    CHECK(use_stored() == 3000);
}

static void of_addresses(void)
{
    /* A pool and an area reserve their addresses when they are created. */
    of_memory(RLIMIT_AS, "VmSize:", "RLIMIT_AS", 0);
}

static void of_data(void)
{
    of_memory(RLIMIT_DATA, "VmData:", "RLIMIT_DATA", 1);
}

/* For a process that locks what it maps. */
static void of_locked_memory(void)
{
    make_stored();
    set_limit(RLIMIT_MEMLOCK, 8 * MIB);
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        skip("root may lock all");
    if (mlockall(MCL_FUTURE) != 0)
        skip("mlockall is refused");
    CHECK(create_each(-ENOMEM, "RLIMIT_MEMLOCK") > 0);
    CHECK(use_stored() == 3000);
    CHECK(munlockall() == 0);
    CHECK(create_each(0, "") == 0);
}

/* Raises the limit of descriptors step by step. */
static void of_descriptors(void)
{
    int first = dup(2), failed = 1;
    CHECK(first >= 0 && close(first) == 0);
    make_stored();
    int file = memfd_create("backing", 0);
    CHECK(file >= 0);
    set_limit(RLIMIT_NOFILE, (rlim_t)first + 1);
    RESULT(zswap_set_backing_file(zswap, file, MIB), -EMFILE);
    CHECK(use_stored() == 3000);
    for (rlim_t more = 0; failed > 0; more++) {
        set_limit(RLIMIT_NOFILE, (rlim_t)first + 1 + more);
        failed = create_each(-EMFILE, "RLIMIT_NOFILE");
        CHECK(more > 0 || failed > 0);
    }
    OK(zswap_set_backing_file(zswap, file, MIB));
    check_stored();
}

/* Cuts a range into as many mappings as the process may have, less `but`. */
static void *take_mappings(size_t *pages, size_t but)
{
    size_t most = 65530;
    FILE *limit = fopen("/proc/sys/vm/max_map_count", "r");
    if (limit == NULL || fscanf(limit, "%zu", &most) != 1 || most > 1 << 20)
        skip("vm.max_map_count is not known, or too large");
    fclose(limit);
    *pages = 2 * most;
    unsigned char *at = mmap(NULL, *pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    size_t cut = 1;
    while (cut < *pages && mprotect(at + cut * PAGE, PAGE, PROT_READ) == 0)
        cut += 2;
    CHECK(cut < *pages);
    for (size_t place = 0; place < but / 2; place++)
        CHECK(mprotect(at + (cut - 2 - 2 * place) * PAGE, PAGE, PROT_NONE) == 0);
    return at;
}

static void of_mappings(void)
{
    size_t pages = 0;
    int failed = 1;
    make_stored();
    void *taken = NULL;
    for (size_t but = 0; failed > 0; but += 2) {
        taken = take_mappings(&pages, but);
        failed = create_each(-ENOMEM, "vm.max_map_count");
        CHECK(but > 0 || failed > 0);
        use_stored();
        CHECK(munmap(taken, pages * PAGE) == 0);
    }
    CHECK(use_stored() == 3000);
#ifdef WITH_PAGER
    /* Regions need mappings too: for tables, registration and advice. */
    struct zspager *pager = pager_with(16, ZSPAGER_FAULT_SIGBUS, 0);
    unsigned char *memory = memory_of(3 * 32) + 32 * PAGE;
    uint64_t region = 0;
    for (size_t page = 0; page < 32; page++)
        make_page(memory + page * PAGE, page);
    failed = 1;
    for (size_t but = 0; failed > 0; but += 2) {
        taken = take_mappings(&pages, but);
        int result = zspager_add_region(pager, memory, 32 * PAGE, NULL, &region);
        failed = result != 0;
        CHECK(result == 0 || result == -ENOMEM);
        for (size_t page = 0; page < 32; page++)
            CHECK(is_page(memory + page * PAGE, page));
        if (!failed) {
            int removed = zspager_remove_region(pager, region, 0);
            CHECK(removed == 0 || removed == -EAGAIN);
            CHECK(munmap(taken, pages * PAGE) == 0);
            if (removed != 0)
                OK(zspager_remove_region(pager, region, 0));
        } else {
            CHECK(munmap(taken, pages * PAGE) == 0);
        }
    }
    for (size_t page = 0; page < 32; page++)
        CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_destroy(pager));
#endif
}

static void write_text(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) < 0)
        skip(path);
    close(file);
}

/* Mounts a tmpfs of `pages` pages that disappears with the process. */
static void mount_small(char *folder, size_t pages)
{
    char options[64];
    uid_t user = geteuid();
    if (unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0)
        skip("no mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        skip("mounts can't be made private");
    snprintf(options, sizeof options, "size=%zu", pages * PAGE);
    CHECK(mkdtemp(folder) != NULL);
    if (mount("tmpfs", folder, "tmpfs", 0, options) != 0)
        skip("no tmpfs can be mounted");
}

static int file_in(const char *folder, const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(file >= 0);
    return file;
}

/* A backing file on a file system that is full. */
static void of_room(void)
{
    static unsigned char bytes[PAGE];
    char folder[] = "/tmp/zsalloc-shortage-XXXXXX";
    uint64_t written = 0, all = 0;
    int result;
    mount_small(folder, 40);
    int file = file_in(folder, "backing"), other = file_in(folder, "other");
    CHECK(ftruncate(file, MIB) == 0);
    while (write(other, bytes, PAGE) == PAGE)
        continue;
    CHECK(errno == ENOSPC && ftruncate(other, 36 * PAGE) == 0);
    make_stored();
    OK(zswap_set_backing_file(zswap, file, MIB));
    while ((result = zswap_shrink(zswap, 100, &written)) == 0 && written > 0)
        all += written;
    CHECK(result == 0 || result == -EAGAIN);
    struct zswap_stats stats = zswap_stats_of(zswap);
    CHECK(all > 0 && all < STORED && stats.counts.file_pages == all && stats.counts.writeback_no_space > 0);
    check_stored();
    /* Make room again. */
    CHECK(ftruncate(other, 0) == 0);
    OK(zswap_shrink(zswap, 10, &written));
    CHECK(written > 0);
    check_stored();
    CHECK(umount2(folder, MNT_DETACH) == 0);
    rmdir(folder);
}

#ifdef WITH_PAGER
/* A region of a file on a file system that fills up while pages are not in the file. */
static void of_room_for_a_region(void)
{
    static unsigned char bytes[PAGE];
    char folder[] = "/tmp/zsalloc-shortage-XXXXXX";
    uint64_t region = 0;
    mount_small(folder, 80);
    int file = file_in(folder, "region"), other = file_in(folder, "other");
    CHECK(ftruncate(file, 64 * PAGE) == 0);
    unsigned char *memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(memory != MAP_FAILED);
    for (size_t page = 0; page < 64; page++)
        make_page(memory + page * PAGE, page);
    struct zspager *pager = pager_with(16, ZSPAGER_FAULT_SIGBUS, 0);
    struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED,
                                             .shared_fd = file};
    OK(zspager_add_region(pager, memory, 64 * PAGE, &options, &region));
    evict_all(pager);
    while (write(other, bytes, PAGE) == PAGE)
        continue;
    CHECK(errno == ENOSPC);
    RESULT(zspager_hold(pager, memory, 2 * PAGE), -EAGAIN);
    RESULT(zspager_remove_region(pager, region, 0), -EAGAIN);
    CHECK(ftruncate(other, 0) == 0);
    OK(zspager_hold(pager, memory, 2 * PAGE));
    OK(zspager_release(pager, memory, 2 * PAGE));
    for (size_t page = 0; page < 64; page++)
        CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_remove_region(pager, region, 0));
    for (size_t page = 0; page < 64; page++)
        CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_destroy(pager));
    CHECK(umount2(folder, MNT_DETACH) == 0);
    rmdir(folder);
}

/* Finds this process's control group for memory. Returns the version of its hierarchy. */
static int group_of_this(char *path, size_t size)
{
    char line[400], *at;
    FILE *groups = fopen("/proc/self/cgroup", "r");
    if (groups == NULL)
        skip("/proc/self/cgroup");
    int version = 0;
    while (fgets(line, sizeof line, groups) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if ((at = strstr(line, ":memory:")) != NULL) {
            snprintf(path, size, "/sys/fs/cgroup/memory%s", at + 8);
            version = 1;
        } else if (strncmp(line, "0::", 3) == 0 && version == 0) {
            snprintf(path, size, "/sys/fs/cgroup%s", line + 3);
            version = 2;
        }
    }
    fclose(groups);
    return version;
}

static void write_in(const char *folder, const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    write_text(path, text);
}

/* A pager keeps a process within a group that has far less memory than the region, so the process is not killed. */
static void in_group(void)
{
    enum { REGION = 12288, RESIDENT = 1024 };
    struct zspager *pager = pager_with(RESIDENT, ZSPAGER_FAULT_SIGBUS, 0);
    unsigned char *memory = memory_of(REGION);
    uint64_t region = region_of(pager, memory, REGION);
    for (size_t round = 0; round < 2; round++)
        for (size_t page = 0; page < REGION; page++) {
            if (round == 0)
                text_page(memory + page * PAGE, page);
            unsigned char expected[PAGE];
            text_page(expected, page);
            CHECK(memcmp(memory + page * PAGE, expected, PAGE) == 0);
        }
    OK(zspager_remove_region(pager, region, ZSPAGER_DISCARD));
    OK(zspager_destroy(pager));
}

static void of_a_group(void)
{
    char own[450], group[500], pid[32];
    int version = group_of_this(own, sizeof own), status = 0;
    snprintf(group, sizeof group, "%s/zsalloc-test-%d", own, (int)getpid());
    if (version == 0 || mkdir(group, 0700) != 0)
        skip("no control group can be made");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        /* 40 MiB, for a region of 48 MiB. */
        write_in(group, version == 1 ? "memory.limit_in_bytes" : "memory.max", "41943040");
        write_in(group, "cgroup.procs", pid);
        in_group();
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(rmdir(group) == 0);
    CHECK(WIFEXITED(status));
    if (WEXITSTATUS(status) != 0)
        _exit(WEXITSTATUS(status));
}
#endif

/* Strict memory accounting of the whole machine, while a pool of each kind is created. */
static char overcommit_before[16];

static void set_overcommit_back(void)
{
    int file = open("/proc/sys/vm/overcommit_memory", O_WRONLY);
    if (file < 0 || write(file, overcommit_before, strlen(overcommit_before)) < 0)
        fprintf(stderr, "vm.overcommit_memory could not be restored to %s\n", overcommit_before);
}

static void on_end(int signal)
{
    (void)signal;
    set_overcommit_back();
    _exit(1);
}

static void of_overcommit(void)
{
    int file = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
    if (file < 0 || read(file, overcommit_before, sizeof overcommit_before - 1) <= 0)
        skip("vm.overcommit_memory");
    make_stored();
    for (int number = 1; number < 32; number++)
        signal(number, on_end);
    atexit(set_overcommit_back);
    alarm(10);
    write_text("/proc/sys/vm/overcommit_memory", "2");
    /* Inaccessible mappings do not count: a pool of any size can be created, and grows as far as memory allows. */
    CHECK(create_each(-ENOMEM, "memory") == 0);
    CHECK(use_stored() == 3000);
    set_overcommit_back();
}

static const struct {
    const char *name;
    void (*test)(void);
} shortages[] = {
    {"addresses", of_addresses},
    {"data", of_data},
    {"locked memory", of_locked_memory},
    {"descriptors", of_descriptors},
    {"mappings", of_mappings},
    {"room", of_room},
#ifdef WITH_PAGER
    {"room for a region", of_room_for_a_region},
    {"memory of a control group", of_a_group},
#endif
};

int main(int count, char **arguments)
{
    shortage = count > 1 ? arguments[1] : "";
    if (strcmp(shortage, "overcommit") == 0) {
        of_overcommit();
        return 0;
    }
    for (size_t at = 0; at < sizeof shortages / sizeof *shortages; at++)
        if (strcmp(shortage, shortages[at].name) == 0) {
            shortages[at].test();
            return 0;
        }
    return 64;
}
