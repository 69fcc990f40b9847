/*
 * Forks while other threads use a zswap: a child has a zswap that it can use, with the pages that were stored.
 * Arguments: number of forks, seed of the random numbers.
 */
#define _GNU_SOURCE
#include "pages.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, KNOWN = 200, OWN = 1000, BATCH = 8, CLAIMS = 4 };

static struct zswap *zswap;
/* Pages that stay, and pages that come and go. */
static struct zswap_area *kept, *busy;
static atomic_int stop, slow, in_callback;
static uint64_t seed;

static int write_page(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)context, (void)area, (void)offset, (void)page;
    /* A callback may call anything: it must not wait for a fork that waits for it. */
    if (offset % 16 == 0)
        store_page(busy, OWN * THREADS + offset % 8, offset);
    atomic_store(&in_callback, 1);
    while (atomic_load(&slow))
        usleep(1000);
    return 0;
}

static void claim_and_end(void)
{
    static _Thread_local unsigned char pages[CLAIMS * PAGE];
    struct zswap_claim claims[CLAIMS];
    size_t count = 0;
    int32_t gone;
    OK(zswap_writeback_begin_area(busy, CLAIMS, claims, pages, &count));
    for (size_t i = 0; i < count; i++)
        OK(zswap_writeback_end(&claims[i], 0, &gone));
}

static void *work(void *argument)
{
    static _Thread_local unsigned char pages[BATCH * PAGE];
    int32_t results[BATCH];
    uint64_t first = (uintptr_t)argument * OWN, state = seed + first, number;
    struct zswap_area *area;
    while (!atomic_load(&stop)) {
        uint64_t at = first + next_random(&state) % (OWN - BATCH);
        switch (next_random(&state) % 16) {
        default:
            OK(store_page(busy, at, at));
            break;
        case 5:
        case 6:
        case 7:
        case 8: {
            int result = zswap_load(busy, at, pages, next_random(&state) % 2 ? ZSWAP_LOAD_EXCLUSIVE : 0);
            CHECK(result == -ENOENT || (result == 0 && is_page(pages, at)));
            break;
        }
        case 9:
            OK(zswap_invalidate(busy, at, BATCH, 0));
            break;
        case 10:
            for (size_t i = 0; i < BATCH; i++)
                make_page(pages + i * PAGE, at + i);
            OK(zswap_store_pages(busy, at, pages, BATCH));
            break;
        case 11:
            zswap_load_pages(busy, at, pages, BATCH, 0, results);
            break;
        case 12:
            zswap_shrink(zswap, 4, &number);
            break;
        case 13:
            claim_and_end();
            break;
        case 14:
            check_page(kept, at % KNOWN, at % KNOWN);
            break;
        case 15:
            if (next_random(&state) % 4 == 0)
                OK(zswap_compact(zswap, NULL, &number));
            if (next_random(&state) % 4 == 0)
                zswap_stats_of(zswap);
            if (next_random(&state) % 4 == 0)
                OK(zswap_recompress(busy, 4, ZSWAP_CODEC_ZSTD, 1, &number));
            if (next_random(&state) % 4 == 0) {
                OK(zswap_add_area(zswap, 10, NULL, &area));
                OK(store_page(area, 3, at));
                /* The area can't be removed while another thread shrinks it. */
                int result;
                while ((result = zswap_remove_area(area)) == -EBUSY)
                    usleep(100);
                OK(result);
            }
        }
    }
    return NULL;
}

static void in_the_child(int mode)
{
    uint64_t number;
    for (uint64_t i = 0; i < KNOWN; i++)
        check_page(kept, i, i);
    for (uint64_t i = 0; i < 20; i++) {
        OK(store_page(kept, i, i + 7));
        OK(store_page(busy, i * 50, i + 9));
    }
    for (uint64_t i = 0; i < 20; i++) {
        check_page(kept, i, i + 7);
        check_page(busy, i * 50, i + 9);
    }
    if (mode == 1) {
        struct zswap_stats stats = zswap_stats_of(zswap);
        CHECK(stats.areas >= 2 && stats.claims == 0);
        OK(zswap_compact(zswap, NULL, &number));
    }
    if (mode == 2) {
        int result = zswap_shrink(zswap, 10, &number);
        CHECK(result == 0 || result == -EAGAIN);
        OK(zswap_recompress(busy, 10, ZSWAP_CODEC_ZSTD, 1, &number));
        claim_and_end();
        OK(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 2));
        OK(store_page(busy, 1, 1));
    }
    if (mode == 3) {
        /* No call is running on either area, so both can be removed. */
        OK(zswap_invalidate(busy, 0, OWN * THREADS, 0));
        OK(zswap_remove_area(busy));
        OK(zswap_remove_area(kept));
        /* An area that another thread was about to use may be left. */
        int result = zswap_destroy(zswap);
        CHECK(result == 0 || result == -EBUSY);
    }
    if (mode == 0) {
        /* The child can fork again. */
        OK_BESIDE_THREADS(zswap_fork_prepare(zswap));
        OK(zswap_fork_done(zswap));
    }
    _exit(0);
}

static void wait_for(pid_t child, int n)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0)
        fprintf(stderr, "fork %d: status %#x\n", n, (unsigned)status);
    CHECK(status == 0);
}

static void set_up(void)
{
    struct zswap_area_options options = {.struct_size = sizeof options, .flags = ZSWAP_AREA_NO_WRITEBACK};
    zswap = zswap_with(64 * MIB);
    OK(zswap_set_writeback(zswap, write_page, NULL));
    OK(zswap_add_area(zswap, KNOWN, &options, &kept));
    busy = area_with(zswap, OWN * THREADS + 8);
    for (uint64_t i = 0; i < KNOWN; i++)
        OK(store_page(kept, i, i));
}

static void tear_down(void)
{
    for (uint64_t i = 0; i < KNOWN; i++)
        check_page(kept, i, i);
    OK(zswap_remove_area(kept));
    OK(zswap_remove_area(busy));
    OK(zswap_destroy(zswap));
}

static void beside_threads(int forks)
{
    pthread_t threads[THREADS];
    set_up();
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) == 0);
    for (int n = 0; n < forks; n++) {
        OK_BESIDE_THREADS(zswap_fork_prepare(zswap));
        pid_t child = fork();
        CHECK(child >= 0);
        OK(zswap_fork_done(zswap));
        if (child == 0) {
            /* The alarm kills a child that hangs, which fails the test. */
            alarm(is_slow() ? 300 : 60);
            in_the_child(n % 4);
        }
        wait_for(child, n);
    }
    atomic_store(&stop, 1);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    tear_down();
}

static void *shrink(void *nothing)
{
    uint64_t written;
    OK(zswap_shrink(zswap, 1, &written));
    return nothing;
}

static int prepare_in_callback(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)area, (void)offset, (void)page;
    *(int *)context = zswap_fork_prepare(zswap);
    return 0;
}

static void what_is_refused(void)
{
    pthread_t thread;
    int result = 0;
    uint64_t written;
    RESULT(zswap_fork_prepare(NULL), -EINVAL);
    RESULT(zswap_fork_done(NULL), -EINVAL);
    set_up();
    RESULT(zswap_fork_done(zswap), -EINVAL);
    OK(zswap_fork_prepare(zswap));
    RESULT(zswap_fork_prepare(zswap), -EBUSY);
    OK(zswap_fork_done(zswap));
    for (uint64_t i = 2; i < 50; i++)
        OK(store_page(busy, i, i * 8 + 2));
    /* The call waits for a callback that does not return, but not for ever. */
    atomic_store(&slow, 1);
    CHECK(pthread_create(&thread, NULL, shrink, NULL) == 0);
    while (!atomic_load(&in_callback))
        usleep(1000);
    RESULT(zswap_fork_prepare(zswap), -EAGAIN);
    /* Nothing has changed. */
    OK(store_page(busy, 100, 100));
    atomic_store(&slow, 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(zswap_set_writeback(zswap, prepare_in_callback, &result));
    OK(zswap_shrink(zswap, 1, &written));
    CHECK(result == -EBUSY);
    tear_down();
}

/* A claim stays with the parent. In the child it has ended, whichever thread held it, and the page is stored. */
static void a_claim_is_the_parent_s(void)
{
    static unsigned char page[PAGE];
    struct zswap_claim claim;
    size_t count = 0;
    int32_t gone = 0;
    set_up();
    OK(store_page(busy, 1, 2));
    OK(zswap_writeback_begin_area(busy, 1, &claim, page, &count));
    CHECK(count == 1);
    OK(zswap_fork_prepare(zswap));
    pid_t child = fork();
    CHECK(child >= 0);
    OK(zswap_fork_done(zswap));
    if (child == 0) {
        alarm(60);
        RESULT(zswap_writeback_end(&claim, 0, &gone), -EINVAL);
        CHECK(zswap_stats_of(zswap).claims == 0);
        check_page(busy, 1, 2);
        OK(zswap_invalidate(busy, 1, 1, 0));
        check_absent(busy, 1);
        tear_down();
        _exit(0);
    }
    wait_for(child, 0);
    RESULT(zswap_remove_area(busy), -EBUSY);
    OK(zswap_writeback_end(&claim, 0, &gone));
    CHECK(gone == 1);
    check_absent(busy, 1);
    tear_down();
}

int main(int arguments, char **argument)
{
    CHECK(arguments == 3);
    seed = strtoull(argument[2], NULL, 10);
    printf("zswap_fork_threads: %s forks, seed %s\n", argument[1], argument[2]);
    fflush(stdout);
    what_is_refused();
    a_claim_is_the_parent_s();
    beside_threads(atoi(argument[1]));
    return 0;
}
