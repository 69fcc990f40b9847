/*
 * Many threads on one pool: they malloc, map, change, hand over and free objects whose bytes tell what they should be,
 * while others compact. Arguments: rounds of each thread, seed.
 */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { WORKERS = 4, COMPACTORS = 2, OWN = 1000, MAILBOX = 64 };

/* The beginning of each object. The pattern of its seed follows. */
struct head {
    uint64_t seed;
    uint64_t size;
};

static struct zs_pool *pool;
static uint64_t rounds = 200000;
/* Objects on their way to another thread; 0: empty. */
static _Atomic zs_handle_t mailbox[MAILBOX];
static atomic_int working = WORKERS;
static _Atomic uint64_t made, freed, compactions, pages_returned;

static void write_object(void *object, size_t size, uint64_t seed)
{
    struct head head = {seed, size};
    memcpy(object, &head, sizeof head);
    fill((char *)object + sizeof head, size - sizeof head, seed);
}

/* Ends the program unless the object is intact. Returns its size. */
static size_t check_whole(const void *object)
{
    struct head head;
    memcpy(&head, object, sizeof head);
    CHECK(head.size >= sizeof head && head.size <= ZS_MAX_ALLOC_SIZE);
    CHECK(is_filled((const char *)object + sizeof head, head.size - sizeof head, head.seed));
    return head.size;
}

/* Returns mostly one of a few sizes, so that their classes have many objects to compact. */
static size_t any_size(uint64_t *random)
{
    if (next_random(random) % 4 != 0)
        return 500 * (1 + next_random(random) % 8);
    return sizeof(struct head) + next_random(random) % (ZS_MAX_ALLOC_SIZE - sizeof(struct head) + 1);
}

static zs_handle_t make(uint64_t *random)
{
    size_t size = any_size(random);
    zs_handle_t handle;
    void *object = zs_malloc_mapped(pool, size, &handle);
    if (object == NULL && zs_last_errno() == -ENOMEM)
        return 0;
    CHECK(object != NULL);
    write_object(object, size, next_random(random));
    OK(zs_unmap_object(pool, handle));
    atomic_fetch_add(&made, 1);
    return handle;
}

static void look(zs_handle_t handle)
{
    void *object;
    object = MAPPED(zs_map_object(pool, handle, ZS_MM_RO));
    check_whole(object);
    OK(zs_unmap_object(pool, handle));
}

static void change(zs_handle_t handle, uint64_t seed)
{
    void *object;
    object = MAPPED(zs_map_object(pool, handle, ZS_MM_RW));
    write_object(object, check_whole(object), seed);
    OK(zs_unmap_object(pool, handle));
}

static void copy_through(zs_handle_t handle, uint64_t seed)
{
    unsigned char bytes[ZS_MAX_ALLOC_SIZE];
    struct head head;
    OK(zs_obj_read(pool, handle, &head, sizeof head));
    OK(zs_obj_read(pool, handle, bytes, head.size));
    check_whole(bytes);
    write_object(bytes, head.size, seed);
    OK(zs_obj_write(pool, handle, bytes, head.size));
}

static void end(zs_handle_t handle, uint64_t how)
{
    void *object;
    if (how % 2 == 0) {
        look(handle);
        OK(zs_free(pool, handle));
    } else {
        /* Freed while mapped: the unmap releases it. */
        object = MAPPED(zs_map_object(pool, handle, ZS_MM_RO));
        OK(zs_free(pool, handle));
        check_whole(object);
        OK(zs_unmap_object(pool, handle));
    }
    RESULT(zs_free(pool, handle), -EINVAL);
    atomic_fetch_add(&freed, 1);
}

/* Frees three of four objects, so that there is something to compact. */
static void end_most(zs_handle_t *own, uint64_t *random)
{
    for (size_t i = 0; i < OWN; i++) {
        if (own[i] == 0 || next_random(random) % 4 == 0)
            continue;
        end(own[i], i);
        own[i] = 0;
    }
}

static void *work(void *argument)
{
    uint64_t random = *(uint64_t *)argument;
    zs_handle_t own[OWN] = {0};
    for (uint64_t round = 0; round < rounds; round++) {
        if (next_random(&random) % 1000 == 0)
            end_most(own, &random);
        zs_handle_t *at = &own[next_random(&random) % OWN];
        uint64_t what = next_random(&random) % 8;
        if (*at == 0)
            *at = make(&random);
        else if (what < 2)
            look(*at);
        else if (what < 3)
            change(*at, random);
        else if (what < 4)
            copy_through(*at, random);
        else if (what < 6)
            *at = atomic_exchange(&mailbox[next_random(&random) % MAILBOX], *at);
        else {
            end(*at, next_random(&random));
            *at = 0;
        }
    }
    for (size_t i = 0; i < OWN; i++)
        if (own[i] != 0)
            end(own[i], i);
    atomic_fetch_sub(&working, 1);
    return NULL;
}

static void *compact(void *argument)
{
    uint64_t random = *(uint64_t *)argument;
    while (atomic_load(&working) > 0) {
        struct zs_compact_budget budget = {.struct_size = sizeof budget};
        uint64_t pages;
        budget.max_bytes_moved = next_random(&random) % 4 == 0 ? 0 : 1 + next_random(&random) % 100000;
        OK(zs_compact(pool, &budget, &pages));
        atomic_fetch_add(&compactions, 1);
        atomic_fetch_add(&pages_returned, pages);
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
    printf("threads: %d workers, %llu rounds, seed %llu\n", WORKERS, (unsigned long long)rounds,
           (unsigned long long)seed);
    fflush(stdout);
    /* Small enough that the pool is full at times. */
    pool = pool_with(6 * MIB, 0);
    pthread_t threads[WORKERS + COMPACTORS];
    uint64_t seeds[WORKERS + COMPACTORS];
    for (int i = 0; i < WORKERS + COMPACTORS; i++) {
        seeds[i] = seed * 1000 + (uint64_t)i;
        CHECK(pthread_create(&threads[i], NULL, i < WORKERS ? work : compact, &seeds[i]) == 0);
    }
    for (int i = 0; i < WORKERS + COMPACTORS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < MAILBOX; i++)
        if (mailbox[i] != 0)
            end(mailbox[i], i);
    struct zs_pool_stats stats = stats_of(pool);
    CHECK(stats.objects == 0 && made == freed && made > 0 && compactions > 0);
    CHECK(stats.pages_compacted == pages_returned);
    printf("threads: ok, %llu objects, %llu compactions, %llu objects moved\n", (unsigned long long)made,
           (unsigned long long)compactions, (unsigned long long)stats.objects_moved);
    OK(zs_destroy_pool(pool));
    return 0;
}
