/*
 * Forks while other threads use a pool: a child finds a pool that it can use, and known objects have their bytes.
 * Arguments: number of forks, seed of the random numbers.
 */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, KNOWN = 400, OWN = 200 };

static struct zs_pool *pool;
static zs_handle_t known[KNOWN];
static atomic_int stop;
static uint64_t seed;

static size_t size_of(uint64_t number)
{
    return 1 + number * 37 % ZS_MAX_ALLOC_SIZE;
}

/* Frees the offered object unless it is a known one. */
static int drop(void *context, struct zs_pool *of, zs_handle_t handle)
{
    (void)context;
    for (size_t i = 0; i < KNOWN; i++)
        if (known[i] == handle)
            return 1;
    /* Another thread may have freed it. */
    zs_free(of, handle);
    return 0;
}

static void *work(void *argument)
{
    uint64_t state = seed + (uint64_t)(uintptr_t)argument;
    zs_handle_t own[OWN] = {0};
    unsigned char bytes[16];
    uint64_t pages;
    while (!atomic_load(&stop)) {
        size_t at = next_random(&state) % OWN;
        switch (next_random(&state) % 8) {
        case 0:
        case 1:
        case 2:
            if (own[at] != 0)
                zs_free(pool, own[at]);
            if (zs_malloc(pool, size_of(next_random(&state)), &own[at]) != 0)
                own[at] = 0;
            break;
        case 3:
            if (own[at] != 0)
                zs_free(pool, own[at]);
            own[at] = 0;
            break;
        case 4:
            if (own[at] != 0 && zs_map_object(pool, own[at], ZS_MM_RO) != NULL)
                zs_unmap_object(pool, own[at]);
            break;
        case 5:
            OK(zs_obj_read(pool, known[next_random(&state) % KNOWN], bytes, 1));
            break;
        case 6:
            if (next_random(&state) % 64 == 0)
                OK(zs_compact(pool, NULL, &pages));
            break;
        default:
            if (next_random(&state) % 64 == 0)
                zs_shrink(pool, 1, &pages);
        }
    }
    return NULL;
}

static void in_the_child(int mode)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    zs_handle_t own[OWN];
    uint64_t pages;
    for (size_t i = 0; i < KNOWN; i++)
        check_object(pool, known[i], size_of(i), i);
    for (size_t i = 0; i < OWN; i++)
        own[i] = object_with(pool, size_of(i * 3), i + 1000);
    if (mode == 1)
        OK(zs_compact(pool, NULL, &pages));
    if (mode == 2)
        OK(zs_pool_stats(pool, &stats));
    if (mode == 3) {
        OK(zs_set_evict(pool, drop, NULL));
        int result = zs_shrink(pool, 1, &pages);
        CHECK(result == 0 || result == -EAGAIN);
    }
    if (mode != 3)
        for (size_t i = 0; i < OWN; i++) {
            check_object(pool, own[i], size_of(i * 3), i + 1000);
            OK(zs_free(pool, own[i]));
        }
    for (size_t i = 0; i < KNOWN; i++) {
        check_object(pool, known[i], size_of(i), i);
        OK(zs_free(pool, known[i]));
    }
    if (mode == 0) {
        /* The child can fork again. */
        OK(zs_fork_prepare(pool));
        OK(zs_fork_done(pool));
    }
    _exit(0);
}

static void beside_threads(int forks)
{
    pthread_t threads[THREADS];
    pool = pool_with(64 * MIB, 0);
    for (size_t i = 0; i < KNOWN; i++)
        known[i] = object_with(pool, size_of(i), i);
    OK(zs_set_evict(pool, drop, NULL));
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) == 0);
    for (int n = 0; n < forks; n++) {
        int status;
        OK_BESIDE_THREADS(zs_fork_prepare(pool));
        pid_t child = fork();
        CHECK(child >= 0);
        OK(zs_fork_done(pool));
        if (child == 0) {
            /* The alarm kills a child that hangs, which fails the test. */
            alarm(is_slow() ? 300 : 60);
            in_the_child(n % 4);
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fprintf(stderr, "fork %d of %d: status %#x\n", n, forks, (unsigned)status);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    atomic_store(&stop, 1);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < KNOWN; i++)
        check_object(pool, known[i], size_of(i), i);
    OK(zs_destroy_pool(pool));
}

static void *prepare_too(void *result)
{
    *(int *)result = zs_fork_prepare(pool);
    if (*(int *)result == 0)
        OK(zs_fork_done(pool));
    return NULL;
}

static void what_is_refused(void)
{
    pthread_t thread;
    int result = 1;
    RESULT(zs_fork_prepare(NULL), -EINVAL);
    RESULT(zs_fork_done(NULL), -EINVAL);
    pool = pool_with(8 * MIB, 0);
    RESULT(zs_fork_done(pool), -EINVAL);
    OK(zs_fork_prepare(pool));
    RESULT(zs_fork_prepare(pool), -EBUSY);
    /* Another thread's attempt waits, and then fails. */
    CHECK(pthread_create(&thread, NULL, prepare_too, &result) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(result == -EAGAIN);
    OK(zs_fork_done(pool));
    RESULT(zs_fork_done(pool), -EINVAL);
    CHECK(pthread_create(&thread, NULL, prepare_too, &result) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(result == 0);
    object_with(pool, 100, 1);
    OK(zs_destroy_pool(pool));
    /* For a pool that children do not get, both functions do nothing. */
    pool = pool_with(8 * MIB, ZS_POOL_DONTFORK);
    OK(zs_fork_prepare(pool));
    pid_t child = fork();
    CHECK(child >= 0);
    OK(zs_fork_done(pool));
    zs_handle_t handle;
    if (child == 0) {
        RESULT(zs_malloc(pool, 1, &handle), -EPERM);
        RESULT(zs_fork_prepare(pool), -EPERM);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(zs_malloc(pool, 1, &handle));
    OK(zs_destroy_pool(pool));
}

int main(int arguments, char **argument)
{
    CHECK(arguments == 3);
    seed = strtoull(argument[2], NULL, 10);
    printf("fork_threads: %s forks, seed %s\n", argument[1], argument[2]);
    fflush(stdout);
    what_is_refused();
    beside_threads(atoi(argument[1]));
    return 0;
}
