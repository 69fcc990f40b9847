/* Shared by the C tests: checks that report where and what failed, and patterns to fill objects with. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zsalloc.h>

/* Ends the program with the place of the check unless the condition holds. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition);                              \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Returns whether the last failure of this thread is that of a call with this number, and has a sentence. */
static inline int is_explained(const char *call, int result)
{
    const char *sentence = zs_last_error();
    size_t name = strcspn(call, "(");
    return zs_last_errno() == result && strncmp(sentence, call, name) == 0 && strncmp(sentence + name, "(): ", 4) == 0 &&
           strlen(sentence) > name + 20;
}

/* Ends the program with the place of the check unless a call's result is the expected one, and has its sentence. */
#define RESULT(call, expected)                                                                                         \
    do {                                                                                                               \
        int result_ = (call);                                                                                          \
        if (result_ != (expected)) {                                                                                   \
            fprintf(stderr, "%s:%d: %s is %d (%s), not %s\n", __FILE__, __LINE__, #call, result_,                      \
                    result_ == 0 ? "success" : zs_last_error(), #expected);                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
        if (result_ != 0 && strncmp(#call, "zs", 2) == 0)                                                              \
            CHECK(is_explained(#call, result_));                                                                       \
    } while (0)

#define OK(call) RESULT(call, 0)

/* Returns the address that a call returned. Ends the program with the place of the check if it is NULL. */
#define MAPPED(call) mapped_at(call, #call, __FILE__, __LINE__)

static inline void *mapped_at(void *object, const char *call, const char *file, int line)
{
    if (object == NULL) {
        fprintf(stderr, "%s:%d: %s is NULL: %s\n", file, line, call, zs_last_error());
        exit(1);
    }
    return object;
}

/* Ends the program with the place of the check unless a call that returns a pointer fails with the expected number. */
#define REFUSED(call, expected)                                                                                        \
    do {                                                                                                               \
        void *object_ = (call);                                                                                        \
        if (object_ != NULL || !is_explained(#call, expected)) {                                                       \
            fprintf(stderr, "%s:%d: %s is %p, and the last error is: %s, not %s\n", __FILE__, __LINE__, #call,         \
                    object_, zs_last_error(), #expected);                                                              \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define MIB ((uint64_t)1 << 20)

/* Returns whether the program runs under valgrind, where it should do less. */
static inline int is_slow(void)
{
    const char *mode = getenv("ZSALLOC_C_TESTS");
    return mode != NULL && strcmp(mode, "valgrind") == 0;
}

/* Prepares a fork beside threads that are inside calls. Valgrind runs one thread at a time, and may give such a thread
 * no turn for a second. The preparation then fails with -EAGAIN, and is tried again. */
#define OK_BESIDE_THREADS(call)                                                                                        \
    do {                                                                                                               \
        int prepared_;                                                                                                 \
        do                                                                                                             \
            prepared_ = (call);                                                                                        \
        while (prepared_ == -EAGAIN && is_slow());                                                                     \
        RESULT(prepared_, 0);                                                                                          \
    } while (0)

/* The flags that struct zs_pool_options has; the others are those of struct zs_pool_tuning. */
#define POOL_FLAGS (ZS_POOL_HARDENED | ZS_POOL_RELEASABLE)

/* Creates a pool with a limit and flags of both structs. */
static inline struct zs_pool *pool_with(uint64_t max_bytes, uint32_t flags)
{
    struct zs_pool_tuning tuning = {.struct_size = sizeof tuning, .flags = flags & ~POOL_FLAGS};
    struct zs_pool_options options = {
        .struct_size = sizeof options, .max_bytes = max_bytes, .flags = flags & POOL_FLAGS, .tuning = &tuning};
    struct zs_pool *pool = NULL;
    OK(zs_create_pool("test", &options, &pool));
    CHECK(pool != NULL);
    return pool;
}

/* Returns the next pseudo-random number. */
static inline uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Returns a byte of the pattern for a seed. */
static inline unsigned char pattern(uint64_t seed, size_t at)
{
    return (unsigned char)((seed * 31 + at * 7) ^ (at >> 8));
}

static inline void fill(void *bytes, size_t size, uint64_t seed)
{
    for (size_t at = 0; at < size; at++)
        ((unsigned char *)bytes)[at] = pattern(seed, at);
}

static inline int is_filled(const void *bytes, size_t size, uint64_t seed)
{
    for (size_t at = 0; at < size; at++)
        if (((const unsigned char *)bytes)[at] != pattern(seed, at))
            return 0;
    return 1;
}

/* Allocates an object and fills it with the pattern for a seed. */
static inline zs_handle_t object_with(struct zs_pool *pool, size_t size, uint64_t seed)
{
    zs_handle_t handle = 0;
    void *object = MAPPED(zs_malloc_mapped(pool, size, &handle));
    CHECK(handle != 0);
    fill(object, size, seed);
    OK(zs_unmap_object(pool, handle));
    return handle;
}

/* Ends the program unless an object holds the pattern for a seed. */
static inline void check_object(struct zs_pool *pool, zs_handle_t handle, size_t size, uint64_t seed)
{
    const void *object = MAPPED(zs_map_object(pool, handle, ZS_MM_RO));
    CHECK(is_filled(object, size, seed));
    OK(zs_unmap_object(pool, handle));
}

static inline uint64_t total_pages(struct zs_pool *pool)
{
    uint64_t pages = 0;
    OK(zs_get_total_pages(pool, &pages));
    return pages;
}

static inline struct zs_pool_stats stats_of(struct zs_pool *pool)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    OK(zs_pool_stats(pool, &stats));
    return stats;
}

#endif
