/*
 * Which calls wait for a slow writeback, and which do not. The writeback lasts until the test ends it, so nothing here
 * depends on the speed of the machine.
 */
#define _GNU_SOURCE
#include "pages.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { PAGES = 4 };

static struct zswap *zswap;
static struct zswap_area *area;
/* The only page that is being written; and whether the callback may return. */
static _Atomic uint64_t writing;
static atomic_int running, may_end, has_ended;
/* The callback's result. */
static int answer;

static int slow(void *context, struct zswap_area *of, uint64_t offset, const void *page)
{
    (void)context;
    CHECK(of == area && is_page(page, offset + 3));
    atomic_store(&writing, offset);
    atomic_store(&running, 1);
    while (!atomic_load(&may_end))
        sched_yield();
    CHECK(is_page(page, offset + 3));
    atomic_store(&has_ended, 1);
    return answer;
}

static void *shrink(void *unused)
{
    uint64_t written;
    (void)unused;
    int result = zswap_shrink(zswap, 1, &written);
    /* The page may be gone, and others too. */
    CHECK(result == 0 || result == -EAGAIN || result == -ENOENT);
    return NULL;
}

/* A call in another thread that must wait; when it returns, the callback must have ended. */
struct waiter {
    enum { INVALIDATE, INVALIDATE_ALL, TAKE, FAILED_STORE } what;
    uint64_t offset;
    int result;
    pthread_t thread;
};

static void *wait_for_it(void *argument)
{
    struct waiter *waiter = argument;
    unsigned char page[PAGE];
    uint64_t offset = waiter->offset;
    switch (waiter->what) {
    case INVALIDATE:
        waiter->result = zswap_invalidate(area, offset, 1, 0);
        break;
    case INVALIDATE_ALL:
        waiter->result = zswap_invalidate(area, 0, PAGES, 0);
        break;
    case TAKE:
        waiter->result = zswap_load(area, offset, page, ZSWAP_LOAD_EXCLUSIVE);
        CHECK(waiter->result != 0 || is_page(page, offset + 3));
        break;
    case FAILED_STORE:
        noise_page(page, 1);
        waiter->result = zswap_store(area, offset, page);
        break;
    }
    CHECK(atomic_load(&has_ended));
    return NULL;
}

static pthread_t begin(int answers)
{
    pthread_t shrinker;
    struct zswap_area_options options = {.struct_size = sizeof options, .flags = ZSWAP_AREA_REFUSE_INCOMPRESSIBLE};
    zswap = zswap_with(0);
    OK(zswap_add_area(zswap, PAGES, &options, &area));
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i + 3));
    answer = answers;
    atomic_store(&running, 0);
    atomic_store(&may_end, 0);
    atomic_store(&has_ended, 0);
    OK(zswap_set_writeback(zswap, slow, NULL));
    CHECK(pthread_create(&shrinker, NULL, shrink, NULL) == 0);
    while (!atomic_load(&running))
        sched_yield();
    return shrinker;
}

static void end(void)
{
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static void nobody_else_waits(void)
{
    unsigned char page[PAGE];
    int32_t results[PAGES];
    static unsigned char pages[PAGES][PAGE];
    pthread_t shrinker = begin(0);
    uint64_t offset = atomic_load(&writing);
    check_page(area, offset, offset + 3);
    OK(zswap_load_pages(area, 0, pages, PAGES, ZSWAP_NOWAIT, NULL));
    /* Calls that would have to wait, with ZSWAP_NOWAIT. */
    RESULT(zswap_invalidate(area, offset, 1, ZSWAP_NOWAIT), -EAGAIN);
    RESULT(zswap_invalidate(area, 0, PAGES, ZSWAP_NOWAIT), -EAGAIN);
    RESULT(zswap_load(area, offset, page, ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT), -EAGAIN);
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(area, i, i + 3);
    RESULT(zswap_load_pages(area, 0, pages, PAGES, ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT, results), -EAGAIN);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK(results[i] == (i == offset ? -EAGAIN : 0));
    RESULT(zswap_remove_area(area), -EBUSY);
    /* A store does not wait, and replaces the page. */
    OK(store_page(area, offset, 90));
    check_page(area, offset, 90);
    CHECK(!atomic_load(&has_ended));
    atomic_store(&may_end, 1);
    CHECK(pthread_join(shrinker, NULL) == 0);
    check_page(area, offset, 90);
    CHECK(area_stats_of(area).counts.overtaken == 1);
    end();
}

static void removals_wait(int answers)
{
    for (int what = INVALIDATE; what <= FAILED_STORE; what++) {
        struct waiter waiters[3];
        pthread_t shrinker = begin(answers);
        uint64_t offset = atomic_load(&writing);
        for (int i = 0; i < 3; i++) {
            /* Read now: later the shrink may be writing the next page. */
            waiters[i].offset = offset;
            waiters[i].what = what;
            CHECK(pthread_create(&waiters[i].thread, NULL, wait_for_it, &waiters[i]) == 0);
        }
        /* The page is removed before the callback ends, and the calls still wait. */
        unsigned char page[PAGE];
        while (zswap_load(area, offset, page, 0) == 0)
            sched_yield();
        CHECK(!atomic_load(&has_ended));
        atomic_store(&may_end, 1);
        int taken = 0;
        for (int i = 0; i < 3; i++) {
            CHECK(pthread_join(waiters[i].thread, NULL) == 0);
            int result = waiters[i].result;
            taken += result == 0;
            if (what == TAKE)
                CHECK(result == 0 || result == -ENOENT);
            else
                CHECK(result == (what == FAILED_STORE ? -ENOSPC : 0));
        }
        CHECK(what != TAKE || taken == 1);
        CHECK(pthread_join(shrinker, NULL) == 0);
        check_absent(area, offset);
        end();
    }
}

static void *end_claim(void *claim)
{
    /* Gives the other thread time to begin to wait, on most machines; the test is right either way. */
    for (int i = 0; i < 1000; i++)
        sched_yield();
    atomic_store(&has_ended, 1);
    OK(zswap_writeback_end(claim, 0, NULL));
    return NULL;
}

/* Begins a claim in another thread. */
static void *begin_claim(void *claim)
{
    unsigned char page[PAGE];
    size_t count;
    OK(zswap_writeback_begin_area(area, 1, claim, page, &count));
    CHECK(count == 1);
    return NULL;
}

static void claims_are_waited_for(void)
{
    struct zswap_claim claim;
    pthread_t thread;
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES);
    OK(store_page(area, 1, 3));
    atomic_store(&has_ended, 0);
    CHECK(pthread_create(&thread, NULL, begin_claim, &claim) == 0 && pthread_join(thread, NULL) == 0);
    RESULT(zswap_invalidate(area, 0, PAGES, ZSWAP_NOWAIT), -EAGAIN);
    check_page(area, 1, 3);
    CHECK(pthread_create(&thread, NULL, end_claim, &claim) == 0);
    OK(zswap_invalidate(area, 0, PAGES, 0));
    CHECK(atomic_load(&has_ended));
    CHECK(pthread_join(thread, NULL) == 0);
    end();
}

int main(void)
{
    nobody_else_waits();
    removals_wait(0);
    removals_wait(-EIO);
    claims_are_waited_for();
    puts("zswap_waits: ok");
    return 0;
}
