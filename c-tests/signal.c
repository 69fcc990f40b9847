/*
 * A signal handler maps, unmaps and frees objects while the thread that it interrupts is anywhere inside the pool. A
 * call that waits for that thread would wait for ever; the alarm ends the program then.
 */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { SLOTS = 512, HELD = 4000 };

static struct zs_pool *pool;
static _Atomic zs_handle_t slots[SLOTS];
static atomic_size_t next_slot, wrong, handled;
static atomic_int is_done;

/* Checks the next object that was left for the handler, and frees it; every second one while it is still mapped. */
static void handler(int number)
{
    (void)number;
    size_t at = atomic_fetch_add(&next_slot, 1);
    zs_handle_t handle = atomic_exchange(&slots[at % SLOTS], 0);
    uint64_t seed;
    if (handle == 0)
        return;
    int result = zs_obj_read(pool, handle, &seed, sizeof seed);
    uint64_t *object = zs_map_object(pool, handle, ZS_MM_RO);
    if (object == NULL || *object != seed || seed >= SLOTS)
        result = 1;
    if (at % 2 == 0)
        result |= zs_free(pool, handle) | zs_unmap_object(pool, handle);
    else
        result |= zs_unmap_object(pool, handle) | zs_free(pool, handle);
    atomic_fetch_add(result == 0 ? &handled : &wrong, 1);
}

static void *send_signals(void *main_thread)
{
    while (!atomic_load(&is_done)) {
        pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
        usleep(10);
    }
    return NULL;
}

/* Returns large sizes, so that few objects fill a zspage, and zspages come and go all the time. */
static size_t size_of(uint64_t *random)
{
    return 8 + next_random(random) % (ZS_MAX_ALLOC_SIZE - 7);
}

int main(void)
{
    static zs_handle_t held[HELD];
    uint64_t random = 5, pages;
    int rounds = is_slow() ? 30 : 300;
    alarm(is_slow() ? 300 : 100);
    pool = pool_with(32 * MIB, 0);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t self = pthread_self(), sender;
    CHECK(pthread_create(&sender, NULL, send_signals, &self) == 0);
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < SLOTS; i++) {
            if (slots[i] != 0)
                continue;
            zs_handle_t handle;
            uint64_t seed = i;
            OK(zs_malloc(pool, size_of(&random), &handle));
            OK(zs_obj_write(pool, handle, &seed, sizeof seed));
            atomic_store(&slots[i], handle);
        }
        size_t count = next_random(&random) % HELD;
        for (size_t i = 0; i < count; i++)
            OK(zs_malloc(pool, size_of(&random), &held[i]));
        if (round % 4 == 0)
            OK(zs_compact(pool, NULL, &pages));
        for (size_t i = 0; i < count; i++)
            OK(zs_free(pool, held[i]));
    }
    atomic_store(&is_done, 1);
    CHECK(pthread_join(sender, NULL) == 0);
    CHECK(wrong == 0 && handled > 0);
    printf("signal: ok, %zu objects freed in the handler\n", (size_t)handled);
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i] != 0)
            OK(zs_free(pool, slots[i]));
    CHECK(stats_of(pool).objects == 0);
    OK(zs_destroy_pool(pool));
    return 0;
}
