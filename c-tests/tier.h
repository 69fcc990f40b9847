/* A tier of the test's own: a table in memory, by owner and extent, with faults that the test asks for. */
#ifndef TIER_H
#define TIER_H

#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { SHELF_ROOM = 4096 };

struct kept {
    uint64_t owner, extent;
    unsigned char *bytes;
    size_t count;
};

struct shelf {
    pthread_mutex_t lock;
    struct kept kept[SHELF_ROOM];
    size_t count;
    /* What the functions return instead of doing their work; 0: they do it. */
    atomic_int put_fails, get_fails, remove_fails;
    /* How many puts succeed before there is no room. */
    atomic_int puts_left;
    /* What room() returns. */
    _Atomic(uint64_t) room;
    /* If not 0: one bit of the bytes that get() returns is changed, of the byte with this number. */
    atomic_int flips;
    /* If not 0: get() returns the bytes of the oldest extent. */
    atomic_int returns_oldest;
    /* If not 0: each call takes so many microseconds longer. */
    atomic_int slow;
    /* Set when no function may be called any more. */
    atomic_int closed;
    /* Calls. */
    atomic_int puts, gets, removes, rooms;
    /* The last extent that was to be put, and the last one that was to be removed. */
    _Atomic(uint64_t) last_put, last_removed;
    /* Called by put() and get(), if there is one, with no lock held. */
    void (*within)(struct shelf *shelf);
};

static inline void open_shelf(struct shelf *shelf)
{
    memset(shelf, 0, sizeof *shelf);
    CHECK(pthread_mutex_init(&shelf->lock, NULL) == 0);
    atomic_store(&shelf->puts_left, INT32_MAX);
    atomic_store(&shelf->room, UINT64_MAX);
}

/* Ends the use of a shelf. What is left on it is freed. */
static inline void close_shelf(struct shelf *shelf)
{
    atomic_store(&shelf->closed, 1);
    for (size_t at = 0; at < shelf->count; at++)
        free(shelf->kept[at].bytes);
    shelf->count = 0;
    CHECK(pthread_mutex_destroy(&shelf->lock) == 0);
}

static inline void begin_call(struct shelf *shelf, atomic_int *calls)
{
    CHECK(!atomic_load(&shelf->closed));
    atomic_fetch_add(calls, 1);
    if (atomic_load(&shelf->slow) != 0)
        usleep((useconds_t)atomic_load(&shelf->slow));
}

/* The place of an extent; NULL: it is not there. The caller holds the lock. */
static inline struct kept *find_kept(struct shelf *shelf, uint64_t owner, uint64_t extent)
{
    for (size_t at = 0; at < shelf->count; at++)
        if (shelf->kept[at].owner == owner && shelf->kept[at].extent == extent)
            return &shelf->kept[at];
    return NULL;
}

static inline int shelf_put(void *context, uint64_t owner, uint64_t extent, const void *bytes, size_t count)
{
    struct shelf *shelf = context;
    begin_call(shelf, &shelf->puts);
    CHECK(count >= 1024 && count <= 132 * 1024);
    atomic_store(&shelf->last_put, extent);
    if (shelf->within != NULL)
        shelf->within(shelf);
    if (atomic_load(&shelf->put_fails) != 0)
        return atomic_load(&shelf->put_fails);
    if (atomic_load(&shelf->puts_left) <= 0 || atomic_fetch_sub(&shelf->puts_left, 1) <= 0)
        return -ENOSPC;
    CHECK(pthread_mutex_lock(&shelf->lock) == 0);
    /* No name is used twice. */
    CHECK(find_kept(shelf, owner, extent) == NULL && shelf->count < SHELF_ROOM);
    struct kept *new = &shelf->kept[shelf->count++];
    *new = (struct kept){owner, extent, malloc(count), count};
    CHECK(new->bytes != NULL);
    memcpy(new->bytes, bytes, count);
    CHECK(pthread_mutex_unlock(&shelf->lock) == 0);
    return 0;
}

static inline int shelf_get(void *context, uint64_t owner, uint64_t extent, size_t from, void *bytes, size_t count)
{
    struct shelf *shelf = context;
    begin_call(shelf, &shelf->gets);
    if (shelf->within != NULL)
        shelf->within(shelf);
    if (atomic_load(&shelf->get_fails) != 0)
        return atomic_load(&shelf->get_fails);
    CHECK(pthread_mutex_lock(&shelf->lock) == 0);
    struct kept *kept = find_kept(shelf, owner, extent);
    CHECK(kept != NULL && count > 0 && from <= kept->count && count <= kept->count - from);
    if (atomic_load(&shelf->returns_oldest) && shelf->kept[0].count >= from + count)
        kept = &shelf->kept[0];
    memcpy(bytes, kept->bytes + from, count);
    if (atomic_load(&shelf->flips))
        ((unsigned char *)bytes)[(size_t)atomic_load(&shelf->flips) % count] ^= 0x10;
    CHECK(pthread_mutex_unlock(&shelf->lock) == 0);
    return 0;
}

static inline int shelf_remove(void *context, uint64_t owner, uint64_t extent)
{
    struct shelf *shelf = context;
    begin_call(shelf, &shelf->removes);
    atomic_store(&shelf->last_removed, extent);
    if (atomic_load(&shelf->remove_fails) != 0)
        return atomic_load(&shelf->remove_fails);
    CHECK(pthread_mutex_lock(&shelf->lock) == 0);
    struct kept *kept = find_kept(shelf, owner, extent);
    if (kept != NULL) {
        free(kept->bytes);
        shelf->count--;
        /* The order stays, so that the first is the oldest. */
        memmove(kept, kept + 1, (size_t)(shelf->kept + shelf->count - kept) * sizeof *kept);
    }
    CHECK(pthread_mutex_unlock(&shelf->lock) == 0);
    return kept != NULL ? 0 : ENOENT;
}

static inline uint64_t shelf_room(void *context)
{
    struct shelf *shelf = context;
    begin_call(shelf, &shelf->rooms);
    return atomic_load(&shelf->room);
}

static const struct zswap_tier_ops shelf_ops = {.struct_size = sizeof shelf_ops,
                                                .put = shelf_put,
                                                .get = shelf_get,
                                                .remove = shelf_remove,
                                                .room = shelf_room};

/* Adds a tier with a shelf, and returns its number. */
static inline uint32_t add_shelf(struct zswap *zswap, struct shelf *shelf)
{
    uint32_t tier = 77;
    open_shelf(shelf);
    OK(zswap_add_tier(zswap, &shelf_ops, shelf, NULL, &tier));
    return tier;
}

static inline struct zswap_tier_stats tier_stats_of(struct zswap *zswap, uint32_t tier)
{
    struct zswap_tier_stats stats = {.struct_size = sizeof stats};
    OK(zswap_tier_stats(zswap, tier, &stats));
    CHECK(stats.tier == tier);
    return stats;
}

#endif
