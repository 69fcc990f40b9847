/* After creation everything works under a seccomp filter that allows a list of system calls, and kills the process for
   all others. The section JAILS of the header has the same lists under the same headings; tests/header.rs compares
   them.

       jail WHAT            runs WHAT in its jail
       jail WHAT list       prints the numbers of the system calls that this jail allows
       jail WHAT NUMBER     runs WHAT in a jail that forbids this call too */
#define _GNU_SOURCE
#include "pager.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Calls that this program itself needs. Debug builds of the library check a descriptor before they close it (fcntl). */
#define OF_THE_TEST SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_fcntl
/* a pool */
#define OF_A_POOL SYS_futex, SYS_madvise, SYS_mprotect, SYS_munmap, SYS_process_madvise
/* a pool in a memory file */
#define OF_A_MEMORY_FILE SYS_close, SYS_mincore
/* a pool in huge pages */
#define OF_HUGE_PAGES SYS_close, SYS_fallocate
/* a fork that is prepared */
#define OF_A_FORK SYS_getpid
/* an area that is added, or a codec that is prepared */
#define OF_AN_AREA SYS_brk, SYS_mmap, SYS_munlock
/* a backing file */
#define OF_A_BACKING_FILE SYS_close, SYS_fallocate, SYS_fstat, SYS_newfstatat, SYS_pread64, SYS_pwrite64
/* a tier of the program's own */
#define OF_A_TIER SYS_getpid
/* a pager */
#define OF_A_PAGER SYS_ioctl, SYS_poll, SYS_read, SYS_rt_sigprocmask
/* threads that are lent */
#define OF_LENT_THREADS SYS_pread64, SYS_pwrite64, SYS_sched_yield, SYS_write
/* a discard of pages that are held */
#define OF_A_DISCARD SYS_getpid, SYS_process_vm_writev
/* eviction in place */
#define OF_EVICTION_IN_PLACE SYS_getpid, SYS_process_vm_readv
/* either of them where the call is refused */
#define OF_OWN_MEMORY SYS_pread64, SYS_pwrite64
/* a region of a memory file */
#define OF_A_SHARED_REGION SYS_cachestat, SYS_close, SYS_fallocate, SYS_mincore, SYS_pread64, SYS_pwrite64

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static void on_forbidden(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    char text[] = "not allowed: system call 000\n";
    for (int at = 27, call = info->si_syscall; at >= 25; at--, call /= 10)
        text[at] = (char)('0' + call % 10);
    _exit(write(2, text, sizeof text - 1) < 0 ? 3 : 2);
}

/* A call of the list that the jail forbids nevertheless; -1: none. */
static int without = -1;
static int only_list;

/* Goes to jail. If `refused`, process_vm_readv() and process_vm_writev() fail with EPERM, as in jails that programs are
   meant to survive. */
static void jail(const int *allowed, size_t count, int refused)
{
    struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    struct sock_filter filter[128];
    size_t length = 0;
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t at = 0; at < count; at++) {
        if (only_list)
            printf("%d\n", allowed[at]);
        if (allowed[at] == without)
            continue;
        int is_refused = refused && (allowed[at] == SYS_process_vm_readv || allowed[at] == SYS_process_vm_writev);
        uint32_t action = is_refused ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW;
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[at], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    CHECK(length < sizeof filter / sizeof *filter);
    if (only_list) {
        fflush(stdout);
        _exit(0);
    }
    struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

#define JAIL(refused, ...)                                                                                             \
    do {                                                                                                               \
        static const int allowed_[] = {OF_THE_TEST, __VA_ARGS__};                                                      \
        jail(allowed_, sizeof allowed_ / sizeof *allowed_, refused);                                                   \
    } while (0)

static int frees(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    (void)context;
    return zs_free(pool, handle);
}

static void use_pool(struct zs_pool *pool)
{
    static zs_handle_t handles[3000];
    uint64_t number = 0;
    OK(zs_set_evict(pool, frees, NULL));
    for (size_t round = 0; round < 2; round++) {
        for (size_t at = 0; at < 3000; at++)
            handles[at] = object_with(pool, 64 + at % 3000, at);
        for (size_t at = 0; at < 3000; at++)
            if (at % 7 != 0)
                OK(zs_free(pool, handles[at]));
        OK(zs_compact(pool, NULL, &number));
        CHECK(number > 0);
        OK(zs_shrink(pool, 20, &number));
        while (zs_shrink(pool, 100000, &number) == 0)
            ;
        stats_of(pool);
    }
    OK(zs_destroy_pool(pool));
}

static void of_pool(uint32_t backing)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .max_bytes = 32 * MIB, .backing = backing};
    struct zs_pool *pool = NULL;
    int result = zs_create_pool("jailed", &options, &pool);
    if (backing == ZS_BACKING_HUGETLB && result != 0) {
        fprintf(stderr, "SKIPPED: jail: the system has no huge pages in reserve: %s\n", zs_strerror(result));
        return;
    }
    OK(result);
    if (backing == ZS_BACKING_MEMFD)
        JAIL(0, OF_A_POOL, OF_A_FORK, OF_A_MEMORY_FILE);
    else if (backing == ZS_BACKING_HUGETLB)
        JAIL(0, OF_A_POOL, OF_A_FORK, OF_HUGE_PAGES);
    else
        JAIL(0, OF_A_POOL, OF_A_FORK);
    if (backing == ZS_BACKING_ANONYMOUS) {
        OK(zs_fork_prepare(pool));
        OK(zs_fork_done(pool));
    }
    use_pool(pool);
}

static int keeps(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)context, (void)area, (void)offset, (void)page;
    return 0;
}

/* A tier that makes no system calls. */
enum { SLOTS = 256, SLOT = 132 * 1024 };
static unsigned char slots[SLOTS][SLOT];
static uint64_t extents[SLOTS];

static int put(void *context, uint64_t owner, uint64_t extent, const void *bytes, size_t count)
{
    (void)context, (void)owner;
    if (extents[extent % SLOTS] != 0)
        return -ENOSPC;
    extents[extent % SLOTS] = extent;
    memcpy(slots[extent % SLOTS], bytes, count);
    return 0;
}

static int get(void *context, uint64_t owner, uint64_t extent, size_t from, void *bytes, size_t count)
{
    (void)context, (void)owner;
    memcpy(bytes, slots[extent % SLOTS] + from, count);
    return 0;
}

static int forget(void *context, uint64_t owner, uint64_t extent)
{
    (void)context, (void)owner;
    if (extents[extent % SLOTS] == extent)
        extents[extent % SLOTS] = 0;
    return 0;
}

static void of_zswap(int with_file, int with_tier)
{
    static unsigned char page[PAGE], got[PAGE], pages[64 * PAGE];
    static char text[1 << 16];
    struct zswap *zswap = NULL;
    struct zswap_area *area = NULL;
    struct zswap_claim claims[8];
    size_t count = 0;
    uint64_t number = 0;
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = 4 * MIB};
    OK(zswap_create(&options, &zswap));
    if (with_file) {
        int file = memfd_create("backing", 0);
        CHECK(file >= 0);
        OK(zswap_set_backing_file(zswap, file, 16 * MIB));
        JAIL(0, OF_A_POOL, OF_A_FORK, OF_AN_AREA, OF_A_BACKING_FILE);
    } else if (with_tier) {
        uint32_t tier;
        struct zswap_tier_options tier_options = {.struct_size = sizeof tier_options, .max_bytes = 16 * MIB};
        struct zswap_tier_ops ops = {.struct_size = sizeof ops, .put = put, .get = get, .remove = forget};
        OK(zswap_add_tier(zswap, &ops, NULL, &tier_options, &tier));
        JAIL(0, OF_A_POOL, OF_A_FORK, OF_AN_AREA, OF_A_TIER);
    } else {
        OK(zswap_set_writeback(zswap, keeps, NULL));
        JAIL(0, OF_A_POOL, OF_A_FORK, OF_AN_AREA);
    }
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 1));
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_LZ4, 0));
    OK(zswap_fork_prepare(zswap));
    OK(zswap_fork_done(zswap));
    OK(zswap_add_area(zswap, 10000, NULL, &area));
    for (uint64_t at = 0; at < 5000; at++) {
        text_page(page, at);
        while (zswap_store(area, at, page) != 0)
            OK(zswap_shrink(zswap, 64, &number));
    }
    for (uint64_t at = 0; at < 5000; at++) {
        text_page(page, at);
        int result = zswap_load(area, at, got, at % 2 == 0 ? ZSWAP_LOAD_EXCLUSIVE : 0);
        CHECK(result == 0 ? memcmp(page, got, PAGE) == 0 : !with_file && !with_tier && result == -ENOENT);
    }
    for (uint64_t at = 0; at < 64; at++)
        text_page(pages + at * PAGE, at);
    OK(zswap_store_pages(area, 100, pages, 64));
    OK(zswap_load_pages(area, 100, pages, 64, 0, NULL));
    (void)zswap_recompress(area, 100, ZSWAP_CODEC_ZSTD, 1, &number);
    if (!with_file && !with_tier) {
        OK(zswap_writeback_begin_area(area, 8, claims, pages, &count));
        for (size_t at = 0; at < count; at++)
            OK(zswap_writeback_end(&claims[at], 0, NULL));
    }
    OK(zswap_invalidate(area, 0, 5000, 0));
    OK(zswap_compact(zswap, NULL, &number));
    OK(zswap_stats_json(zswap, text, sizeof text, &count));
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static void touch_and_evict(struct zspager *pager, unsigned char *memory, uint64_t region)
{
    static char text[1 << 16];
    uint64_t number = 0;
    size_t length = 0;
    for (size_t page = 0; page < ABOVE; page++)
        make_page(memory + page * PAGE, page);
    for (size_t round = 0; round < 2; round++)
        for (size_t page = 0; page < ABOVE; page++)
            CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_set_resident_limit(pager, (uint64_t)LIMIT * PAGE / 2));
    OK(zspager_evict(pager, 5, &number));
    OK(zspager_hold(pager, memory, 4 * PAGE));
    CHECK(is_page(memory, 0));
    OK(zspager_discard(pager, memory + PAGE, PAGE));
    CHECK(memory[PAGE] == 0);
    OK(zspager_release(pager, memory, 4 * PAGE));
    OK(zspager_discard(pager, memory + 8 * PAGE, 200 * PAGE));
    CHECK(memory[8 * PAGE] == 0);
    OK(zspager_compact(pager, NULL, &number));
    CHECK(pager_stats_of(pager).stored > 0);
    OK(zspager_stats_json(pager, text, sizeof text, &length));
    OK(zspager_set_kept_copies(pager, 50));
    OK(zspager_set_pool_limit(pager, 8 * MIB));
    OK(zspager_remove_region(pager, region, 0));
    for (size_t page = 208; page < ABOVE; page++)
        CHECK(is_page(memory + page * PAGE, page));
}

/* A pager's configuration: how touches are served, how pages leave memory, and the kind of memory. */
struct way {
    const char *what;
    uint32_t fault_mode, eviction;
    int shared, refused, with_file;
};

static const struct way pagers[] = {
    {"pager", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING, 0, 0, 0},
    {"pager by moving", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING_BESIDE_SWAP, 0, 0, 0},
    {"pager by moving without process_vm_writev", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING_BESIDE_SWAP, 0, 1, 0},
    {"pager in place", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE, 0, 0, 0},
    {"pager in place without process_vm_readv", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE, 0, 1, 0},
    {"pager of a memory file", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING, 1, 0, 0},
    {"pager of a memory file without process_vm_readv", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING, 1, 1, 0},
    {"pager with a backing file", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING_BESIDE_SWAP, 0, 0, 1},
    {"pager with threads by moving", ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_MOVING_BESIDE_SWAP, 0, 0, 0},
    {"pager with threads in place", ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_IN_PLACE, 0, 0, 0},
    {"pager with threads of a memory file", ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_MOVING, 1, 0, 0},
};

static void to_jail(const struct way *how)
{
    /* With ZSPAGER_EVICT_MOVING, the kernel's version and the presence of swap decide. */
    int in_place = how->eviction != ZSPAGER_EVICT_MOVING_BESIDE_SWAP;
    if (how->fault_mode == ZSPAGER_FAULT_THREADS && how->shared)
        JAIL(0, OF_A_POOL, OF_A_PAGER, OF_LENT_THREADS, OF_A_SHARED_REGION);
    else if (how->fault_mode == ZSPAGER_FAULT_THREADS)
        JAIL(0, OF_A_POOL, OF_A_PAGER, OF_LENT_THREADS);
    else if (how->with_file)
        JAIL(0, OF_A_POOL, OF_A_PAGER, OF_A_DISCARD, OF_A_BACKING_FILE);
    else if (how->shared && how->refused)
        JAIL(1, OF_A_POOL, OF_A_PAGER, OF_A_DISCARD, OF_EVICTION_IN_PLACE, OF_OWN_MEMORY, OF_A_SHARED_REGION);
    else if (how->shared)
        JAIL(0, OF_A_POOL, OF_A_PAGER, OF_A_DISCARD, OF_EVICTION_IN_PLACE, OF_A_SHARED_REGION);
    else if (in_place && how->refused)
        JAIL(1, OF_A_POOL, OF_A_PAGER, OF_A_DISCARD, OF_EVICTION_IN_PLACE, OF_OWN_MEMORY);
    else if (in_place)
        JAIL(0, OF_A_POOL, OF_A_PAGER, OF_A_DISCARD, OF_EVICTION_IN_PLACE);
    else if (how->refused)
        JAIL(1, OF_A_POOL, OF_A_PAGER, OF_A_DISCARD, OF_OWN_MEMORY);
    else
        JAIL(0, OF_A_POOL, OF_A_PAGER, OF_A_DISCARD);
}

static void of_pager(const struct way *how)
{
    struct lent lent[2];
    struct zspager *pager = pager_with(LIMIT, how->fault_mode, how->eviction);
    unsigned char *memory;
    uint64_t region = 0, number = 0;
    if (how->shared) {
        memory = memory_of(ABOVE);
        int file = memfd_create("region", 0);
        CHECK(file >= 0 && ftruncate(file, ABOVE * PAGE) == 0);
        CHECK(mmap(memory, ABOVE * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == memory);
        struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED,
                                                 .shared_fd = file};
        OK(zspager_add_region(pager, memory, ABOVE * PAGE, &options, &region));
    } else {
        memory = MAPPED(zspager_map(pager, ABOVE * PAGE, NULL, &region));
    }
    if (how->with_file) {
        int file = memfd_create("backing", 0);
        CHECK(file >= 0);
        OK(zspager_set_backing_file(pager, file, 16 * MIB));
    }
    if (how->fault_mode == ZSPAGER_FAULT_THREADS) {
        lend(&lent[0], pager, ZSPAGER_RUN_SERVE);
        lend(&lent[1], pager, ZSPAGER_RUN_EVICT);
        while (pager_stats_of(pager).lent_threads < 2)
            sched_yield();
    }
    to_jail(how);
    if (how->with_file) {
        for (size_t page = 0; page < ABOVE; page++)
            make_page(memory + page * PAGE, page);
        OK(zspager_write_back(pager, 100, &number));
        CHECK(number > 0);
    }
    touch_and_evict(pager, memory, region);
    if (how->fault_mode == ZSPAGER_FAULT_THREADS)
        give_back(lent, 2);
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    only_list = count > 2 && strcmp(arguments[2], "list") == 0;
    if (count > 2 && !only_list)
        without = atoi(arguments[2]);
    if (strcmp(what, "pool") == 0)
        of_pool(ZS_BACKING_ANONYMOUS);
    else if (strcmp(what, "pool in a memory file") == 0)
        of_pool(ZS_BACKING_MEMFD);
    else if (strcmp(what, "pool in huge pages") == 0)
        of_pool(ZS_BACKING_HUGETLB);
    else if (strcmp(what, "zswap") == 0)
        of_zswap(0, 0);
    else if (strcmp(what, "zswap with a backing file") == 0)
        of_zswap(1, 0);
    else if (strcmp(what, "zswap with a tier") == 0)
        of_zswap(0, 1);
    else {
        size_t at = 0, all = sizeof pagers / sizeof *pagers;
        while (at < all && strcmp(what, pagers[at].what) != 0)
            at++;
        if (at == all)
            return 64;
        of_pager(&pagers[at]);
    }
    _exit(0);
}
