/*
 * Threads shrink two areas, with callbacks that themselves store, load, take, invalidate, shrink and claim, their own
 * page and others, while callbacks of other threads do the same. No thread may wait for ever, and no load may return
 * another page. Then threads store batches near a limit, which they must not exceed. Then areas are added and removed
 * while all are shrunk. Arguments: rounds of each thread, seed.
 */
#define _GNU_SOURCE
#include "pages.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 4, PAGES = 64, BATCH = 32, BATCHES = 4 };

static struct zswap *zswap;
static struct zswap_area *areas[2];
static uint64_t rounds = 300;
static _Atomic uint64_t calls, refused, busy, batches_stored, batches_refused;
static _Thread_local int depth;
static _Thread_local uint64_t random_state;

static uint64_t any(uint64_t below)
{
    return next_random(&random_state) % below;
}

/* Returns the number of a page for an offset of an area. Each offset has many possible numbers. */
static uint64_t number_for(size_t area, uint64_t offset)
{
    return (any(1000) * PAGES + offset) * 2 + area;
}

/* Ends the program unless the page, which contains its number, belongs to this offset of this area. */
static void check_belongs(const unsigned char *page, size_t area, uint64_t offset)
{
    unsigned char expected[PAGE];
    uint64_t number;
    memcpy(&number, page + 64, sizeof number);
    CHECK(number % 2 == area && number / 2 % PAGES == offset);
    text_page(expected, number);
    CHECK(memcmp(page, expected, 64) == 0 && memcmp(page + 64 + 8, expected + 64 + 8, PAGE - 64 - 8) == 0);
}

static void store(size_t area, uint64_t offset)
{
    unsigned char page[PAGE];
    uint64_t number = number_for(area, offset);
    text_page(page, number);
    memcpy(page + 64, &number, sizeof number);
    int result = zswap_store(areas[area], offset, page);
    CHECK(result == 0 || result == -ENOMEM);
}

static void load(size_t area, uint64_t offset, uint32_t flags)
{
    unsigned char page[PAGE];
    int result = zswap_load(areas[area], offset, page, flags);
    if (result == 0)
        check_belongs(page, area, offset);
    else if (result == -EBUSY)
        atomic_fetch_add(&busy, 1);
    else
        CHECK(result == -ENOENT || (result == -EAGAIN && flags & ZSWAP_NOWAIT));
    CHECK(result != -EBUSY || depth > 0);
}

static void pull(size_t area)
{
    static _Thread_local unsigned char pages[4][PAGE];
    struct zswap_claim claims[4];
    size_t count;
    OK(zswap_writeback_begin_area(areas[area], 4, claims, pages, &count));
    for (size_t i = 0; i < count; i++) {
        check_belongs(pages[i], area, claims[i].offset);
        OK(zswap_writeback_end(&claims[i], any(3) == 0 ? -EAGAIN : 0, NULL));
    }
}

static void act(size_t area, uint64_t offset)
{
    uint64_t written;
    int result;
    switch (any(8)) {
    case 0:
    case 1:
        store(area, offset);
        break;
    case 2:
        load(area, offset, 0);
        break;
    case 3:
        load(area, offset, ZSWAP_LOAD_EXCLUSIVE | (any(2) ? ZSWAP_NOWAIT : 0));
        break;
    case 4:
        result = zswap_invalidate(areas[area], offset, 1 + any(PAGES - offset), 0);
        CHECK(result == 0 || (result == -EBUSY && depth > 0));
        break;
    case 5:
        if (depth < 3) {
            result = any(2) ? zswap_shrink(zswap, 2, &written) : zswap_shrink_area(areas[area], 2, &written);
            CHECK(result == 0 || result == -EAGAIN || result == -ENOENT);
        }
        break;
    case 6:
        pull(area);
        break;
    default:
        OK(zswap_invalidate(areas[area], 0, 0, ZSWAP_NOWAIT));
    }
}

static int write_back(void *context, struct zswap_area *of, uint64_t offset, const void *page)
{
    size_t area = of == areas[1];
    CHECK(context == areas && of == areas[area]);
    check_belongs(page, area, offset);
    atomic_fetch_add(&calls, 1);
    depth++;
    for (uint64_t times = any(3); times > 0; times--)
        act(any(2) ? area : 1 - area, any(2) ? offset : any(PAGES));
    depth--;
    check_belongs(page, area, offset);
    if (any(4) != 0)
        return 0;
    atomic_fetch_add(&refused, 1);
    return any(2) ? -EEXIST : -EAGAIN;
}

static void *cross(void *seed)
{
    random_state = *(uint64_t *)seed;
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t written;
        for (int i = 0; i < 8; i++)
            store(any(2), any(PAGES));
        int result = zswap_shrink(zswap, any(8), &written);
        CHECK(result == 0 || result == -EAGAIN || result == -ENOENT);
        act(any(2), any(PAGES));
    }
    return NULL;
}

/* Each thread has a range of its own, where a batch is stored completely or not at all. */
static void *batches(void *seed)
{
    static _Thread_local unsigned char pages[BATCH][PAGE], copy[BATCH][PAGE];
    random_state = *(uint64_t *)seed;
    uint64_t offset = *(uint64_t *)seed % THREADS * BATCH * BATCHES;
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t number = any(100000), from = offset + any(BATCHES) * BATCH;
        for (uint64_t i = 0; i < BATCH; i++)
            make_page(pages[i], number + i);
        int result = zswap_store_pages(areas[0], from, pages, BATCH);
        CHECK(area_stats_of(areas[0]).used_bytes <= area_stats_of(areas[0]).max_bytes);
        if (result == 0) {
            atomic_fetch_add(&batches_stored, 1);
            OK(zswap_load_pages(areas[0], from, copy, BATCH, 0, NULL));
            CHECK(memcmp(copy, pages, sizeof pages) == 0);
            continue;
        }
        RESULT(result, -ENOMEM);
        atomic_fetch_add(&batches_refused, 1);
        for (uint64_t i = 0; i < BATCH; i++)
            check_absent(areas[0], from + i);
        OK(zswap_invalidate(areas[0], offset, BATCH * BATCHES, 0));
    }
    return NULL;
}

static int keep_or_let_go(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)context;
    CHECK(zswap_area_context(area) == &rounds && zswap_area_pages(area) == PAGES);
    CHECK(is_page(page, offset));
    return any(2) ? 0 : -EAGAIN;
}

/* Each thread sometimes has an area of its own, and sometimes calls functions on all areas. */
static void *come_and_go(void *seed)
{
    struct zswap_area_options options = {.struct_size = sizeof options, .context = &rounds};
    random_state = *(uint64_t *)seed;
    for (uint64_t round = 0; round < rounds; round++) {
        struct zswap_area *area;
        uint64_t number;
        char text[100];
        size_t length;
        int result;
        OK(zswap_add_area(zswap, PAGES, &options, &area));
        for (uint64_t i = 0; i < PAGES; i += 1 + any(8))
            OK(store_page(area, i, i));
        switch (any(5)) {
        case 0:
            OK(zswap_compact(zswap, NULL, &number));
            break;
        case 1:
            RESULT(zswap_stats_json(zswap, text, sizeof text, &length), -ENOSPC);
            break;
        case 2:
            OK(zswap_reclaimable_pages(zswap, &number));
            CHECK(zswap_stats_of(zswap).areas >= 1);
            break;
        default:
            result = zswap_shrink(zswap, 1 + any(20), &number);
            CHECK(result == 0 || result == -EAGAIN || result == -ENOENT);
        }
        /* Other threads may be shrinking it. */
        while ((result = zswap_remove_area(area)) == -EBUSY)
            sched_yield();
        OK(result);
    }
    return NULL;
}

static void in_threads(void *(*what)(void *), uint64_t seed)
{
    pthread_t threads[THREADS];
    uint64_t seeds[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        seeds[i] = seed * THREADS + i;
        CHECK(pthread_create(&threads[i], NULL, what, &seeds[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(int count, char **arguments)
{
    uint64_t seed = 1;
    if (count > 1)
        rounds = strtoull(arguments[1], NULL, 10);
    if (count > 2)
        seed = strtoull(arguments[2], NULL, 10);
    printf("zswap_crossing: %llu rounds, seed %llu\n", (unsigned long long)rounds, (unsigned long long)seed);
    fflush(stdout);
    zswap = zswap_with(0);
    for (size_t i = 0; i < 2; i++)
        areas[i] = area_with(zswap, THREADS * BATCH * BATCHES);
    OK(zswap_set_writeback(zswap, write_back, areas));
    in_threads(cross, seed);
    CHECK(calls > 0 && refused > 0 && zswap_stats_of(zswap).claims == 0);
    CHECK(zswap_stats_of(zswap).counts.decode_failures == 0);
    OK(zswap_set_writeback(zswap, NULL, NULL));
    for (size_t i = 0; i < 2; i++)
        OK(zswap_invalidate(areas[i], 0, THREADS * BATCH * BATCHES, 0));
    CHECK(zswap_stats_of(zswap).used_bytes == 0);

    /* Room for about half of what the threads store. */
    OK(zswap_area_set_limit(areas[0], THREADS * BATCH * BATCHES * 900));
    in_threads(batches, seed);
    CHECK(batches_stored > 0 && batches_refused > 0);
    for (size_t i = 0; i < 2; i++)
        OK(zswap_remove_area(areas[i]));
    OK(zswap_set_writeback(zswap, keep_or_let_go, NULL));
    in_threads(come_and_go, seed);
    CHECK(zswap_stats_of(zswap).areas == 0 && zswap_stats_of(zswap).used_bytes == 0);
    OK(zswap_destroy(zswap));
    printf("zswap_crossing: ok, %llu callbacks, %llu refused, %llu busy, %llu batches stored, %llu refused\n",
           (unsigned long long)calls, (unsigned long long)refused, (unsigned long long)busy,
           (unsigned long long)batches_stored, (unsigned long long)batches_refused);
    return 0;
}
