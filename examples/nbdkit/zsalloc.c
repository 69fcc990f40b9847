/*
 * A compressed RAM disk: an nbdkit plugin that keeps the bytes of a disk in zsalloc.
 *
 *     cc -O2 -fPIC -shared zsalloc.c pages.c blocks.c -o nbdkit-zsalloc-plugin.so \
 *        $(pkg-config --cflags --libs nbdkit zsalloc libzstd)
 *     nbdkit -f ./nbdkit-zsalloc-plugin.so 1G codec=zstd limit=256M file=/var/tmp/pages
 *
 * README.md in this folder has the parameters and what they cost. This file has what nbdkit calls, pages.c and blocks.c
 * what keeps the bytes.
 *
 * nbdkit calls the functions below from several threads at a time. The disk is an array of units (store.h), which may be
 * stored and loaded by all of them at once. What is left to do here is a change of a part of a unit: that is a load, a
 * change and a store, and a store of another thread between the two would be lost. So each stretch of the disk has a
 * lock:
 * - a change of a part of a unit holds it alone;
 * - a store or a removal of whole units shares it with others like it;
 * - a load takes none.
 * Several stretches share a lock. A request takes one at a time, so requests can't wait for each other in a circle.
 */
#define _GNU_SOURCE
#include "store.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zsalloc.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum { STRETCH = 256 << 10, LOCKS = 256 };

static struct settings settings = {.unit = ZSWAP_PAGE_SIZE};
static char *file_name, *stats_name;
static const struct store *store;
static pthread_rwlock_t locks[LOCKS];

int fail(int result, const char *sentence)
{
    nbdkit_error("%s", sentence);
    nbdkit_set_error(result == -ENOMEM ? ENOSPC : result == -EBADMSG ? EIO : -result);
    return -1;
}

/* Changes a part of a unit. Without bytes, the part becomes zeros. */
static int change(uint64_t unit, size_t from, const char *bytes, size_t length)
{
    char whole[MAX_UNIT];
    if (store->load(unit, whole, 1) != 0)
        return -1;
    if (bytes != NULL)
        memcpy(whole + from, bytes, length);
    else
        memset(whole + from, 0, length);
    return store->store(unit, whole, 1);
}

/* ---- Requests ---- */

/* A part of a request: whole units of one stretch, or a part of one unit. */
struct part {
    uint64_t unit;
    size_t from, length; /* In bytes. */
};

static struct part next_part(uint64_t offset, uint64_t count)
{
    struct part part = {offset / settings.unit, offset % settings.unit, 0};
    uint64_t most = settings.unit - part.from;
    if (part.from == 0 && count >= settings.unit) {
        most = STRETCH - offset % STRETCH;
        count -= count % settings.unit;
    }
    part.length = most < count ? most : count;
    return part;
}

static bool is_whole(const struct part *part)
{
    return part->length % settings.unit == 0;
}

/* Writes bytes, or zeros where there are none. */
static int write_part(const struct part *part, const char *bytes)
{
    pthread_rwlock_t *lock = &locks[part->unit * settings.unit / STRETCH % LOCKS];
    int result;
    if (is_whole(part))
        pthread_rwlock_rdlock(lock);
    else
        pthread_rwlock_wrlock(lock);
    if (!is_whole(part))
        result = change(part->unit, part->from, bytes, part->length);
    else if (bytes != NULL)
        result = store->store(part->unit, bytes, part->length / settings.unit);
    else
        result = store->remove(part->unit, part->length / settings.unit);
    pthread_rwlock_unlock(lock);
    return result;
}

static int read_part(const struct part *part, char *bytes)
{
    char whole[MAX_UNIT];
    if (is_whole(part))
        return store->load(part->unit, bytes, part->length / settings.unit);
    if (store->load(part->unit, whole, 1) != 0)
        return -1;
    memcpy(bytes, whole + part->from, part->length);
    return 0;
}

static int plugin_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    char *bytes = buffer;
    (void)handle, (void)flags;
    while (count > 0) {
        struct part part = next_part(offset, count);
        if (read_part(&part, bytes) != 0)
            return -1;
        bytes += part.length, offset += part.length, count -= (uint32_t)part.length;
    }
    return 0;
}

static int plugin_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    const char *bytes = buffer;
    (void)handle, (void)flags;
    while (count > 0) {
        struct part part = next_part(offset, count);
        if (write_part(&part, bytes) != 0)
            return -1;
        bytes += part.length, offset += part.length, count -= (uint32_t)part.length;
    }
    return 0;
}

static int zero(uint64_t offset, uint64_t count)
{
    while (count > 0) {
        struct part part = next_part(offset, count);
        if (write_part(&part, NULL) != 0)
            return -1;
        offset += part.length, count -= part.length;
    }
    return 0;
}

/* Whole units of zeros become holes, whether the client allows holes (NBDKIT_FLAG_MAY_TRIM) or not: they read the same,
 * and room for other bytes could not be promised by storing zeros, which take none. */
static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    return zero(offset, count);
}

/* A trim is advice: units of which it names a part keep their bytes. */
static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    uint64_t first = (offset + settings.unit - 1) / settings.unit, end = (offset + count) / settings.unit;
    (void)handle, (void)flags;
    return first < end ? zero(first * settings.unit, (end - first) * settings.unit) : 0;
}

/* Nothing is kept anywhere else, so there is nothing to write. But it is a good moment to give memory back. */
static int plugin_flush(void *handle, uint32_t flags)
{
    (void)handle, (void)flags;
    return store->compact();
}

/* Adds an extent for each run of units that are stored, and for each hole. */
static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags, struct nbdkit_extents *extents)
{
    uint64_t unit = offset / settings.unit, end = (offset + count + settings.unit - 1) / settings.unit, stored, run;
    (void)handle;
    while (unit < end) {
        if (store->next(unit, end, &stored) != 0)
            return -1;
        bool hole = stored > unit;
        for (run = stored; run < end && stored == run && !hole;)
            if (store->next(++run, end, &stored) != 0)
                return -1;
        /* Not past the end of the request, though the manual allows it: nbdkit 1.32 aborts if that makes an extent of
         * 4 GiB. */
        uint64_t length = (run - unit) * settings.unit;
        if (length > offset + count - unit * settings.unit)
            length = offset + count - unit * settings.unit;
        uint32_t type = hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
        if (nbdkit_add_extent(extents, unit * settings.unit, length, type) != 0)
            return -1;
        if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
            break;
        unit = run;
    }
    return 0;
}

/* ---- Beginning and end ---- */

static int set_codec(const char *name)
{
    static const struct {
        const char *name;
        uint32_t codec;
    } codecs[] = {{"lz4", ZSWAP_CODEC_LZ4}, {"zstd", ZSWAP_CODEC_ZSTD}, {"none", ZSWAP_CODEC_RAW}};
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++)
        if (strcmp(name, codecs[i].name) == 0) {
            settings.codec = codecs[i].codec;
            return 0;
        }
    nbdkit_error("codec is %s: it can be lz4, zstd or none", name);
    return -1;
}

static int set_bytes(uint64_t *bytes, const char *value)
{
    int64_t parsed = nbdkit_parse_size(value);
    if (parsed >= 0)
        *bytes = (uint64_t)parsed;
    return parsed >= 0 ? 0 : -1;
}

static int set_unit(const char *value)
{
    uint64_t bytes;
    if (set_bytes(&bytes, value) != 0)
        return -1;
    if (bytes < ZSWAP_PAGE_SIZE || bytes > MAX_UNIT || (bytes & (bytes - 1)) != 0) {
        nbdkit_error("block is %s: it can be 4K, 8K, 16K, 32K or 64K", value);
        return -1;
    }
    settings.unit = bytes;
    return 0;
}

static int plugin_config(const char *key, const char *value)
{
    if (strcmp(key, "size") == 0)
        return set_bytes(&settings.disk_bytes, value);
    if (strcmp(key, "block") == 0)
        return set_unit(value);
    if (strcmp(key, "codec") == 0)
        return set_codec(value);
    if (strcmp(key, "level") == 0)
        return nbdkit_parse_int("level", value, &settings.level);
    if (strcmp(key, "limit") == 0)
        return set_bytes(&settings.limit, value);
    if (strcmp(key, "file") == 0)
        return (file_name = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
    if (strcmp(key, "stats") == 0)
        return (stats_name = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
    nbdkit_error("there is no parameter %s", key);
    return -1;
}

static int plugin_config_complete(void)
{
    settings.file = file_name;
    if (settings.disk_bytes == 0)
        nbdkit_error("the parameter size is missing: say how large the disk is, such as 1G");
    else if (settings.limit != 0 && settings.limit < ZS_MIN_POOL_BYTES)
        nbdkit_error("limit is too small: it can be 1M or more, or 0 for no limit");
    else if (settings.unit > ZSWAP_PAGE_SIZE && settings.codec != ZSWAP_CODEC_ZSTD)
        nbdkit_error("block needs codec=zstd: the other codecs compress pages of 4K only");
    else if (settings.unit > ZSWAP_PAGE_SIZE && file_name != NULL)
        nbdkit_error("block does not go with file: only pages of 4K are written to a file");
    else
        return 0;
    return -1;
}

/* Makes the disk. nbdkit goes to the background after this, by fork(), while errors can still be shown: the child gets
 * the disk as it is, because no other thread runs yet. */
static int plugin_get_ready(void)
{
    /* Each thread of nbdkit has a buffer as large as its largest request. malloc() would keep those of threads that have
     * ended, unless it is told to take large ones from the system, one by one. */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_rwlock_init(&locks[i], NULL);
    store = settings.unit > ZSWAP_PAGE_SIZE ? &block_store : &page_store;
    return store->create(&settings);
}

/* Writes the statistics, as JSON, to the file that the parameter stats names. */
static void write_stats(void)
{
    FILE *file = fopen(stats_name, "we");
    if (file == NULL || store->print(file) != 0 || fclose(file) != 0)
        nbdkit_error("statistics: %s: %m", stats_name);
}

/* Called once all connections have ended, before the plugin is unloaded. */
static void plugin_cleanup(void)
{
    if (stats_name != NULL)
        write_stats();
}

static void plugin_unload(void)
{
    if (store != NULL)
        store->destroy();
    free(file_name);
    free(stats_name);
}

static void plugin_dump(void)
{
    uint32_t version = zs_version();
    printf("zsalloc_version=%u.%u.%u\n", version >> 16, version >> 8 & 255, version & 255);
}

static void *plugin_open(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t plugin_get_size(void *handle)
{
    (void)handle;
    return (int64_t)settings.disk_bytes;
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1, *preferred = (uint32_t)settings.unit, *maximum = 0xffffffff;
    return 0;
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int native_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE; /* A write is as safe at its end as it ever becomes. */
}

static int native_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_NATIVE; /* Without .cache: there is nothing to do. */
}

static struct nbdkit_plugin plugin = {
    .name = "zsalloc",
    .longname = "compressed RAM disk",
    .description = "A RAM disk that is compressed, with a limit and a file for what exceeds it.",
    .magic_config_key = "size",
    .config_help = "size=SIZE            The size of the disk (required).\n"
                   "codec=lz4|zstd|none  How pages are compressed (default: lz4).\n"
                   "level=N              The level of the codec.\n"
                   "block=SIZE           The bytes that zstd compresses together, 4K to 64K (default: 4K).\n"
                   "limit=SIZE           The most memory for compressed pages (default: no limit).\n"
                   "file=FILE            A new file or a block device, for pages that exceed the limit.\n"
                   "stats=FILE           A file for statistics at the end, as JSON.",
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .dump_plugin = plugin_dump,
    .get_ready = plugin_get_ready,
    .cleanup = plugin_cleanup,
    .unload = plugin_unload,
    .open = plugin_open,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_multi_conn = yes,
    .can_fast_zero = yes,
    .can_fua = native_fua,
    .can_cache = native_cache,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .trim = plugin_trim,
    .zero = plugin_zero,
    .extents = plugin_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
