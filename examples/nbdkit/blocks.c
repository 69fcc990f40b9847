/*
 * The disk as blocks of 8 to 64 KiB, which this program compresses with Zstandard and keeps in a pool. A larger block
 * compresses better than a page. But a change of a page costs the whole block, nothing is written back, and a block
 * that is damaged in memory is found only if it is compressed.
 *
 * An object of a pool has at most ZS_MAX_ALLOC_SIZE bytes, so the bytes of a block are cut into equal parts.
 */
#define _GNU_SOURCE
#include "store.h"
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zsalloc.h>
#include <zstd.h>

enum {
    LOCKS = 256,
    MAX_PARTS = (MAX_UNIT + ZS_MAX_ALLOC_SIZE - 1) / ZS_MAX_ALLOC_SIZE,
    MOST_COMPACTIONS = 100 /* The most that one store makes. Other stores may take what each of them frees. */
};

/* A block that was compressed: how many bytes it has, and the objects that hold them. 0 bytes: zeros. As many bytes as
 * a block has: it did not compress. */
struct packed {
    uint32_t bytes;
    zs_handle_t parts[MAX_PARTS];
};

/* What a thread needs to compress or decompress. Few threads do at once, so there are as many of them as processors. */
struct context {
    struct context *next;
    ZSTD_CCtx *compression;
    ZSTD_DCtx *decompression;
    char bytes[ZSTD_COMPRESSBOUND(MAX_UNIT)];
};

static struct zs_pool *pool;
static size_t block_bytes, most_parts;
/* The table: two arrays, because most blocks have fewer parts than struct packed has room for. */
static uint32_t *sizes;
static zs_handle_t *handles;
static pthread_mutex_t locks[LOCKS]; /* Of entries of the table, and of the objects that they name. */
static pthread_mutex_t compaction = PTHREAD_MUTEX_INITIALIZER; /* Held while a thread compacts. */
static struct context *idle;
static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle_wake = PTHREAD_COND_INITIALIZER;

static struct context *take_context(void)
{
    pthread_mutex_lock(&idle_lock);
    while (idle == NULL)
        pthread_cond_wait(&idle_wake, &idle_lock);
    struct context *context = idle;
    idle = context->next;
    pthread_mutex_unlock(&idle_lock);
    return context;
}

static void give_context(struct context *context)
{
    pthread_mutex_lock(&idle_lock);
    context->next = idle;
    idle = context;
    pthread_cond_signal(&idle_wake);
    pthread_mutex_unlock(&idle_lock);
}

static size_t count_parts(size_t bytes)
{
    return (bytes + ZS_MAX_ALLOC_SIZE - 1) / ZS_MAX_ALLOC_SIZE;
}

/* Returns the bytes of all parts but the last. */
static size_t part_bytes(size_t bytes)
{
    size_t parts = count_parts(bytes);
    return parts == 0 ? 0 : (bytes + parts - 1) / parts;
}

static void free_parts(const struct packed *packed, size_t count)
{
    for (size_t i = 0; i < count; i++)
        zs_free(pool, packed->parts[i]);
}

/* Puts bytes into objects. Returns 0, or an error, after which there are none. */
static int put(struct packed *packed, const char *bytes)
{
    size_t most = part_bytes(packed->bytes), parts = count_parts(packed->bytes);
    for (size_t i = 0; i < parts; i++) {
        size_t now = i + 1 < parts ? most : packed->bytes - i * most;
        int result = zs_malloc(pool, now, &packed->parts[i]);
        if (result == 0 && (result = zs_obj_write(pool, packed->parts[i], bytes + i * most, now)) != 0)
            zs_free(pool, packed->parts[i]);
        if (result != 0) {
            free_parts(packed, i);
            return result;
        }
    }
    return 0;
}

/* Moves objects together. Returns how many pages the system got. */
static uint64_t compact_all(void)
{
    uint64_t freed;
    return zs_compact(pool, NULL, &freed) == 0 ? freed : 0;
}

/* Puts bytes into objects. When the pool has no room, its objects are moved together, which may make some. The lock
 * makes sure of that: while another thread compacts, a second zs_compact() would do nothing, and the disk would seem to
 * be full. What this thread frees another may take first, so it tries again while there is something to free. */
static int put_or_compact(struct packed *packed, const char *bytes)
{
    int result = put(packed, bytes);
    if (result == -ENOMEM) {
        pthread_mutex_lock(&compaction);
        uint64_t freed = 1;
        result = put(packed, bytes);
        for (unsigned tries = 0; result == -ENOMEM && freed > 0 && tries < MOST_COMPACTIONS; tries++) {
            freed = compact_all();
            result = put(packed, bytes);
        }
        pthread_mutex_unlock(&compaction);
    }
    return result == 0 ? 0 : fail(result, zs_last_error());
}

static pthread_mutex_t *lock_of(uint64_t block)
{
    return &locks[block % LOCKS];
}

/* Makes an entry of the table name other objects, and frees those that it named. */
static void replace(uint64_t block, const struct packed *packed)
{
    struct packed old;
    zs_handle_t *entry = &handles[block * most_parts];
    pthread_mutex_lock(lock_of(block));
    old.bytes = sizes[block];
    memcpy(old.parts, entry, count_parts(old.bytes) * sizeof *entry);
    sizes[block] = packed->bytes;
    memcpy(entry, packed->parts, count_parts(packed->bytes) * sizeof *entry);
    pthread_mutex_unlock(lock_of(block));
    free_parts(&old, count_parts(old.bytes));
}

static bool is_zeros(const char *bytes)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, block_bytes - 1) == 0;
}

static int store_block(uint64_t block, const char *bytes)
{
    struct packed packed = {.bytes = 0};
    int result = 0;
    if (!is_zeros(bytes)) {
        struct context *context = take_context();
        size_t size = ZSTD_compress2(context->compression, context->bytes, sizeof context->bytes, bytes, block_bytes);
        bool smaller = !ZSTD_isError(size) && size < block_bytes;
        packed.bytes = (uint32_t)(smaller ? size : block_bytes);
        result = put_or_compact(&packed, smaller ? context->bytes : bytes);
        give_context(context);
    }
    if (result == 0)
        replace(block, &packed);
    return result;
}

/* Copies what the objects of a block hold. Stores how many bytes that is. */
static int get(uint64_t block, char *bytes, uint32_t *size)
{
    const zs_handle_t *entry = &handles[block * most_parts];
    int result = 0;
    pthread_mutex_lock(lock_of(block));
    *size = sizes[block];
    size_t most = part_bytes(*size), parts = count_parts(*size);
    for (size_t i = 0; i < parts && result == 0; i++)
        result = zs_obj_read(pool, entry[i], bytes + i * most, i + 1 < parts ? most : *size - i * most);
    pthread_mutex_unlock(lock_of(block));
    return result == 0 ? 0 : fail(result, zs_last_error());
}

static int load_block(uint64_t block, char *bytes)
{
    uint32_t size;
    struct context *context = take_context();
    int result = get(block, context->bytes, &size);
    if (result == 0 && size == 0) {
        memset(bytes, 0, block_bytes);
    } else if (result == 0 && size == block_bytes) {
        memcpy(bytes, context->bytes, block_bytes);
    } else if (result == 0) {
        size_t got = ZSTD_decompressDCtx(context->decompression, bytes, block_bytes, context->bytes, size);
        if (got != block_bytes)
            result = fail(-EIO, "a block is damaged: it does not decompress");
    }
    give_context(context);
    return result;
}

static int store_blocks(uint64_t block, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (store_block(block + i, bytes + i * block_bytes) != 0)
            return -1;
    return 0;
}

static int load_blocks(uint64_t block, char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (load_block(block + i, bytes + i * block_bytes) != 0)
            return -1;
    return 0;
}

static int remove_blocks(uint64_t block, uint64_t count)
{
    const struct packed none = {.bytes = 0};
    for (uint64_t i = 0; i < count; i++)
        replace(block + i, &none);
    return 0;
}

static bool is_stored(uint64_t block)
{
    pthread_mutex_lock(lock_of(block));
    bool stored = sizes[block] != 0;
    pthread_mutex_unlock(lock_of(block));
    return stored;
}

static int next_block(uint64_t from, uint64_t end, uint64_t *block)
{
    for (*block = from; *block < end && !is_stored(*block);)
        ++*block;
    return 0;
}

/* Leaves it to another thread that compacts already. */
static int compact_blocks(void)
{
    struct zs_compact_budget budget = {.struct_size = sizeof budget, .max_microseconds = 1000};
    uint64_t freed;
    if (pthread_mutex_trylock(&compaction) != 0)
        return 0;
    int result = zs_compact(pool, &budget, &freed);
    pthread_mutex_unlock(&compaction);
    return result == 0 ? 0 : fail(result, zs_last_error());
}

/* Adds a context. Blocks have a checksum, so that damage is found. */
static int add_context(int level)
{
    struct context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return fail(-ENOMEM, "no memory for Zstandard");
    give_context(context);
    context->compression = ZSTD_createCCtx();
    context->decompression = ZSTD_createDCtx();
    if (context->compression == NULL || context->decompression == NULL)
        return fail(-ENOMEM, "no memory for Zstandard");
    ZSTD_CCtx_setParameter(context->compression, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(context->compression, ZSTD_c_compressionLevel, level);
    return 0;
}

static int create_blocks(const struct settings *settings)
{
    struct zs_pool_options options = {.struct_size = sizeof options, .max_bytes = settings->limit};
    block_bytes = settings->unit;
    most_parts = count_parts(block_bytes);
    uint64_t blocks = (settings->disk_bytes + block_bytes - 1) / block_bytes;
    sizes = calloc(blocks, sizeof *sizes);
    handles = calloc(blocks, most_parts * sizeof *handles);
    if (sizes == NULL || handles == NULL)
        return fail(-ENOMEM, "no memory for the table of blocks");
    if (zs_create_pool("nbdkit", &options, &pool) != 0)
        return fail(zs_last_errno(), zs_last_error());
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&locks[i], NULL);
    if (settings->level < 0 || settings->level > ZSTD_maxCLevel())
        return fail(-EINVAL, "the level of zstd can be 1 to 22, or 0 for its default");
    for (long i = sysconf(_SC_NPROCESSORS_ONLN); i > 0; i--)
        if (add_context(settings->level) != 0)
            return -1;
    return 0;
}

static int print_blocks(FILE *file)
{
    struct zs_pool_stats stats = {.struct_size = sizeof stats};
    int result = zs_pool_stats(pool, &stats);
    if (result != 0)
        return fail(result, zs_last_error());
    result = fprintf(file, "{\"max_bytes\":%" PRIu64 ",\"objects\":%" PRIu64 ",\"used_bytes\":%" PRIu64
                     ",\"pool_bytes\":%" PRIu64 "}\n",
                     stats.max_bytes, stats.objects, stats.object_bytes, stats.total_pages * 4096);
    return result < 0 ? -1 : 0;
}

static void destroy_blocks(void)
{
    while (idle != NULL) {
        struct context *context = take_context();
        ZSTD_freeCCtx(context->compression);
        ZSTD_freeDCtx(context->decompression);
        free(context);
    }
    if (pool != NULL)
        zs_destroy_pool(pool);
    free(sizes);
    free(handles);
}

const struct store block_store = {
    .create = create_blocks,
    .load = load_blocks,
    .store = store_blocks,
    .remove = remove_blocks,
    .next = next_block,
    .compact = compact_blocks,
    .print = print_blocks,
    .destroy = destroy_blocks,
};
