/* After its creation everything works under a seccomp filter that allows the system calls of a list, and kills for all
   others. The header has these lists in its section JAILS: change both.

   The argument says what is in the jail. */
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

/* What this program itself needs. Debug builds of the library look at a descriptor before they close it (fcntl). */
#define OF_THE_TEST SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_fcntl
/* Of a pool and of a zswap, whatever their memory is. */
#define OF_A_POOL SYS_futex, SYS_mprotect, SYS_madvise, SYS_process_madvise, SYS_munmap
#define OF_A_MEMORY_FILE SYS_mincore, SYS_close
/* An area is allocated, for which malloc() may call brk(). */
#define OF_AN_AREA SYS_mmap, SYS_munlock, SYS_brk
/* fstat() of the C library is one or the other. */
#define OF_A_BACKING_FILE SYS_pread64, SYS_pwrite64, SYS_fstat, SYS_newfstatat, SYS_close
#define OF_A_PAGER SYS_ioctl, SYS_read, SYS_rt_sigprocmask
#define OF_LENT_THREADS SYS_poll, SYS_write, SYS_pread64, SYS_pwrite64
#define OF_EVICTION_IN_PLACE SYS_getpid, SYS_process_vm_readv, SYS_process_vm_writev
#define OF_A_SHARED_REGION SYS_fallocate, SYS_cachestat, SYS_mincore, SYS_pread64, SYS_pwrite64

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

/* `refused` ones fail with EPERM, as in jails that programs are meant to survive. */
static void jail(const int *allowed, size_t count, int refused)
{
    struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    struct sock_filter filter[64];
    size_t length = 0;
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t at = 0; at < count; at++) {
        int is_refused = refused && (allowed[at] == SYS_process_vm_readv || allowed[at] == SYS_process_vm_writev);
        uint32_t action = is_refused ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW;
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[at], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

#define JAIL(...)                                                                                                      \
    do {                                                                                                               \
        static const int allowed_[] = {OF_THE_TEST, __VA_ARGS__};                                                      \
        jail(allowed_, sizeof allowed_ / sizeof *allowed_, 0);                                                            \
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
    OK(zs_create_pool("jailed", &options, &pool));
    if (backing == ZS_BACKING_MEMFD)
        JAIL(OF_A_POOL, OF_A_MEMORY_FILE);
    else
        JAIL(OF_A_POOL);
    use_pool(pool);
}

static int keeps(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)context, (void)area, (void)offset, (void)page;
    return 0;
}

static void of_zswap(int with_file)
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
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 1));
    OK(zswap_set_codec(zswap, ZSWAP_CODEC_LZ4, 0));
    if (with_file) {
        int file = memfd_create("backing", 0);
        CHECK(file >= 0);
        OK(zswap_set_backing_file(zswap, file, 16 * MIB));
        JAIL(OF_A_POOL, OF_AN_AREA, OF_A_BACKING_FILE);
    } else {
        OK(zswap_set_writeback(zswap, keeps, NULL));
        JAIL(OF_A_POOL, OF_AN_AREA);
    }
    OK(zswap_add_area(zswap, 10000, NULL, &area));
    for (uint64_t at = 0; at < 5000; at++) {
        text_page(page, at);
        while (zswap_store(area, at, page) != 0)
            OK(zswap_shrink(zswap, 64, &number));
    }
    for (uint64_t at = 0; at < 5000; at++) {
        text_page(page, at);
        int result = zswap_load(area, at, got, at % 2 == 0 ? ZSWAP_LOAD_EXCLUSIVE : 0);
        CHECK(result == 0 ? memcmp(page, got, PAGE) == 0 : !with_file && result == -ENOENT);
    }
    for (uint64_t at = 0; at < 64; at++)
        text_page(pages + at * PAGE, at);
    OK(zswap_store_pages(area, 100, pages, 64));
    OK(zswap_load_pages(area, 100, pages, 64, 0, NULL));
    (void)zswap_recompress(area, 100, ZSWAP_CODEC_ZSTD, 1, &number);
    if (!with_file) {
        OK(zswap_writeback_begin(area, 8, claims, pages, &count));
        for (size_t at = 0; at < count; at++)
            OK(zswap_writeback_end(area, &claims[at], 0, NULL));
    }
    OK(zswap_invalidate(area, 0, 5000, 0));
    OK(zswap_compact(zswap, NULL, &number));
    OK(zswap_stats_json(zswap, text, sizeof text, &count));
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static void touch_and_evict(struct zspager *pager, unsigned char *memory)
{
    uint64_t number = 0;
    for (size_t page = 0; page < ABOVE; page++)
        make_page(memory + page * PAGE, page);
    for (size_t round = 0; round < 2; round++)
        for (size_t page = 0; page < ABOVE; page++)
            CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_set_resident_limit(pager, (uint64_t)LIMIT * PAGE / 2));
    OK(zspager_evict(pager, 5, &number));
    OK(zspager_hold(pager, memory, 4 * PAGE));
    CHECK(is_page(memory, 0));
    OK(zspager_release(pager, memory, 4 * PAGE));
    OK(zspager_discard(pager, memory + PAGE, PAGE));
    CHECK(memory[PAGE] == 0);
    OK(zspager_compact(pager, NULL, &number));
    CHECK(pager_stats_of(pager).stored > 0);
}

static void of_pager(uint32_t fault_mode, uint32_t flags, int readv, int shared)
{
    struct lent lent[2];
    struct zspager *pager = pager_with(LIMIT, fault_mode, flags);
    unsigned char *memory = memory_of(ABOVE);
    if (shared) {
        int file = memfd_create("region", 0);
        CHECK(file >= 0 && ftruncate(file, ABOVE * PAGE) == 0);
        CHECK(mmap(memory, ABOVE * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == memory);
        struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED,
                                                 .shared_fd = file};
        uint64_t region = 0;
        OK(zspager_add_region(pager, memory, ABOVE * PAGE, &options, &region));
    } else {
        region_of(pager, memory, ABOVE);
    }
    if (fault_mode == ZSPAGER_FAULT_THREADS) {
        lend(&lent[0], pager, ZSPAGER_RUN_SERVE);
        lend(&lent[1], pager, ZSPAGER_RUN_EVICT);
        while (pager_stats_of(pager).lent_threads < 2)
            sched_yield();
        JAIL(OF_A_POOL, OF_A_PAGER, OF_LENT_THREADS);
    } else if (readv) {
        if (shared)
            JAIL(OF_A_POOL, OF_A_PAGER, OF_EVICTION_IN_PLACE, OF_A_SHARED_REGION);
        else
            JAIL(OF_A_POOL, OF_A_PAGER, OF_EVICTION_IN_PLACE);
    } else {
        static const int calls[] = {OF_THE_TEST, OF_A_POOL,   OF_A_PAGER, OF_EVICTION_IN_PLACE,
                                    SYS_pread64, SYS_pwrite64};
        jail(calls, sizeof calls / sizeof *calls, 1);
    }
    touch_and_evict(pager, memory);
    /* The threads go with the process: to end them takes calls of the C library. */
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    if (strcmp(what, "pool") == 0)
        of_pool(ZS_BACKING_ANONYMOUS);
    else if (strcmp(what, "pool in a memory file") == 0)
        of_pool(ZS_BACKING_MEMFD);
    else if (strcmp(what, "zswap") == 0)
        of_zswap(0);
    else if (strcmp(what, "zswap with a file") == 0)
        of_zswap(1);
    else if (strcmp(what, "pager") == 0)
        of_pager(ZSPAGER_FAULT_SIGBUS, 0, 1, 0);
    else if (strcmp(what, "pager of a memory file") == 0)
        of_pager(ZSPAGER_FAULT_SIGBUS, 0, 1, 1);
    else if (strcmp(what, "pager in place") == 0)
        of_pager(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE, 1, 0);
    else if (strcmp(what, "pager without process_vm_readv") == 0)
        of_pager(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE, 0, 0);
    else if (strcmp(what, "pager with threads") == 0)
        of_pager(ZSPAGER_FAULT_THREADS, 0, 1, 0);
    else if (strcmp(what, "pager with threads, in place") == 0)
        of_pager(ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_IN_PLACE, 1, 0);
    else
        return 64;
    _exit(0);
}
