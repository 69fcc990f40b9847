/*
 * Many threads on one area. Each owner has every fourth offset: it stores, loads, takes and invalidates there, and
 * checks that it finds the page it stored last, in the pool or, written back, on a disk that callbacks write to. Other
 * threads shrink, claim pages, compact, recompress, change limits and read statistics. Arguments: rounds of each
 * owner, seed.
 */
#define _GNU_SOURCE
#include "pages.h"
#include <pthread.h>
#include <stdatomic.h>

enum { OWNERS = 4, HELPERS = 3, OWN = 200, PAGES = OWNERS * OWN };

static struct zswap *zswap;
static struct zswap_area *area;
static uint64_t rounds = 20000;
static atomic_int working = OWNERS;
static _Atomic uint64_t writebacks, pulls, failed_stores;

/* The disk: the number of the page at each offset, 0 for none. Locked, as a file system locks pages. */
static struct {
    pthread_mutex_t lock;
    unsigned char page[PAGE];
    int is_there;
} disk[PAGES];

static void write_to_disk(uint64_t offset, const void *page)
{
    pthread_mutex_lock(&disk[offset].lock);
    memcpy(disk[offset].page, page, PAGE);
    disk[offset].is_there = 1;
    pthread_mutex_unlock(&disk[offset].lock);
}

static int write_back(void *context, struct zswap_area *of, uint64_t offset, const void *page)
{
    (void)context;
    CHECK(of == area && offset < PAGES);
    switch ((offset + (uint64_t)atomic_fetch_add(&writebacks, 1)) % 8) {
    case 0:
        return -EAGAIN;
    case 1: /* Written, and refused all the same: the copy that stays is as good. */
        write_to_disk(offset, page);
        return -EIO;
    default:
        write_to_disk(offset, page);
        return 0;
    }
}

/* What an owner knows about its offsets: the number of the page; 0: none. */
struct owner {
    uint64_t first;
    uint64_t random;
    uint64_t numbers[OWN];
};

/* Checks that the disk has the last stored version of a page that is not in the area. */
static void check_on_disk(uint64_t offset, uint64_t number)
{
    pthread_mutex_lock(&disk[offset].lock);
    CHECK(disk[offset].is_there && is_page(disk[offset].page, number));
    pthread_mutex_unlock(&disk[offset].lock);
}

static void forget_on_disk(uint64_t offset)
{
    pthread_mutex_lock(&disk[offset].lock);
    disk[offset].is_there = 0;
    pthread_mutex_unlock(&disk[offset].lock);
}

static void store(struct owner *owner, size_t at, uint64_t offset)
{
    uint64_t number = 1 + next_random(&owner->random) % 100000;
    int result = store_page(area, offset, number);
    CHECK(result == 0 || result == -ENOMEM);
    owner->numbers[at] = number;
    if (result != 0) {
        /* A page that zswap refuses goes to the disk. No writeback that could overwrite it there is running. */
        unsigned char page[PAGE];
        make_page(page, number);
        write_to_disk(offset, page);
        atomic_fetch_add(&failed_stores, 1);
    }
}

static void load(struct owner *owner, size_t at, uint64_t offset, uint32_t flags)
{
    unsigned char page[PAGE];
    uint64_t number = owner->numbers[at];
    int result = zswap_load(area, offset, page, flags);
    if (result == -EAGAIN && flags & ZSWAP_NOWAIT)
        return;
    if (result == -ENOENT) {
        if (number != 0)
            check_on_disk(offset, number);
        return;
    }
    OK(result);
    CHECK(number != 0 && is_page(page, number));
    if (flags & ZSWAP_LOAD_EXCLUSIVE) {
        /* No writeback of the page is running, so the disk keeps what this owner writes. */
        owner->numbers[at] = 0;
        forget_on_disk(offset);
    }
}

static void invalidate(struct owner *owner, size_t at, uint64_t offset)
{
    OK(zswap_invalidate(area, offset, 1, 0));
    owner->numbers[at] = 0;
    forget_on_disk(offset);
    pthread_mutex_lock(&disk[offset].lock);
    CHECK(!disk[offset].is_there);
    pthread_mutex_unlock(&disk[offset].lock);
    check_absent(area, offset);
}

static void *own(void *argument)
{
    struct owner *owner = argument;
    for (uint64_t round = 0; round < rounds; round++) {
        size_t at = next_random(&owner->random) % OWN;
        uint64_t offset = owner->first + OWNERS * at;
        switch (next_random(&owner->random) % 8) {
        case 0:
        case 1:
        case 2:
            store(owner, at, offset);
            break;
        case 3:
            load(owner, at, offset, ZSWAP_LOAD_EXCLUSIVE);
            break;
        case 4:
            load(owner, at, offset, ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT);
            break;
        case 5:
            invalidate(owner, at, offset);
            break;
        default:
            load(owner, at, offset, 0);
        }
    }
    for (size_t at = 0; at < OWN; at++)
        load(owner, at, owner->first + OWNERS * at, 0);
    atomic_fetch_sub(&working, 1);
    return NULL;
}

static void pull(uint64_t *random)
{
    enum { MAX = 40 };
    static _Thread_local unsigned char pages[MAX][PAGE];
    struct zswap_claim claims[MAX];
    size_t count;
    OK(zswap_writeback_begin_area(area, next_random(random) % MAX, claims, pages, &count));
    for (size_t i = 0; i < count; i++) {
        int fails = next_random(random) % 4 == 0;
        if (!fails)
            write_to_disk(claims[i].offset, pages[i]);
        OK(zswap_writeback_end(&claims[i], fails ? -EIO : 0, NULL));
        atomic_fetch_add(&pulls, 1);
    }
}

static void *help(void *argument)
{
    uint64_t random = *(uint64_t *)argument, number;
    char text[4096];
    size_t length;
    while (atomic_load(&working) > 0) {
        int result;
        switch (next_random(&random) % 8) {
        case 0:
            OK(zswap_compact(zswap, NULL, &number));
            break;
        case 1:
            result = zswap_recompress(area, 50, ZSWAP_CODEC_ZSTD, 1, &number);
            CHECK(result == 0 || result == -ENOMEM);
            break;
        case 2:
            OK(zswap_set_limit(zswap, (next_random(&random) % 8 + 1) * 100000));
            break;
        case 3:
            OK(zswap_stats_json(zswap, text, sizeof text, &length));
            CHECK(zswap_stats_of(zswap).areas == 1 && area_stats_of(area).area_pages == PAGES);
            break;
        case 4:
        case 5:
            pull(&random);
            break;
        default:
            result = zswap_shrink(zswap, next_random(&random) % 40, &number);
            CHECK(result == 0 || result == -EAGAIN || result == -ENOENT);
        }
    }
    return NULL;
}

int main(int count, char **arguments)
{
    uint64_t seed = 1;
    if (count > 1)
        rounds = strtoull(arguments[1], NULL, 10);
    if (count > 2)
        seed = strtoull(arguments[2], NULL, 10);
    printf("zswap_threads: %d owners, %llu rounds, seed %llu\n", OWNERS, (unsigned long long)rounds,
           (unsigned long long)seed);
    fflush(stdout);
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES);
    OK(zswap_set_writeback(zswap, write_back, NULL));
    for (size_t i = 0; i < PAGES; i++)
        CHECK(pthread_mutex_init(&disk[i].lock, NULL) == 0);
    static struct owner owners[OWNERS];
    uint64_t seeds[HELPERS];
    pthread_t threads[OWNERS + HELPERS];
    for (size_t i = 0; i < OWNERS; i++) {
        owners[i].first = i;
        owners[i].random = seed * 1000 + i;
        CHECK(pthread_create(&threads[i], NULL, own, &owners[i]) == 0);
    }
    for (size_t i = 0; i < HELPERS; i++) {
        seeds[i] = seed * 1000 + OWNERS + i;
        CHECK(pthread_create(&threads[OWNERS + i], NULL, help, &seeds[i]) == 0);
    }
    for (int i = 0; i < OWNERS + HELPERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    struct zswap_counts counts = area_stats_of(area).counts;
    CHECK(counts.decode_failures == 0 && writebacks > 0 && pulls > 0);
    printf("zswap_threads: ok, %llu stored, %llu refused, %llu loaded, %llu written back, %llu rescued, "
           "%llu overtaken, %llu recompressed\n",
           (unsigned long long)counts.stores, (unsigned long long)failed_stores, (unsigned long long)counts.loads,
           (unsigned long long)counts.written_back, (unsigned long long)counts.rescued,
           (unsigned long long)counts.overtaken, (unsigned long long)counts.recompressed);
    OK(zswap_invalidate(area, 0, PAGES, 0));
    CHECK(area_stats_of(area).used_bytes == 0 && zswap_stats_of(zswap).claims == 0);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    return 0;
}
