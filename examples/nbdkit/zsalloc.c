/*
 * A compressed RAM disk: an nbdkit plugin that keeps the pages of a disk in a zswap.
 *
 *     cc -O2 -fPIC -shared zsalloc.c -o nbdkit-zsalloc-plugin.so $(pkg-config --cflags --libs nbdkit zsalloc)
 *     nbdkit -f ./nbdkit-zsalloc-plugin.so 1G codec=zstd limit=256M file=/var/tmp/pages
 *
 * README.md in this folder has the parameters and what they cost.
 *
 * nbdkit calls the functions below from several threads at a time. The area holds each page of the disk at the number
 * of the page as its offset; a page that is not stored reads as zeros. Its functions may be called by all threads at
 * once. What they can't do is change a part of a page: that is a load, a change and a store, and a write of another
 * thread between the load and the store would be lost. So each stretch of CHUNK pages has a lock:
 * - a change of a part of a page holds it alone;
 * - a store or a removal of whole pages shares it with others like it;
 * - a load takes none: zswap_load_pages() returns each page as it was before a store or as it is after it.
 * Several stretches share a lock. A request takes one at a time, so requests can't wait for each other in a circle.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zsalloc.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
    PAGE = ZSWAP_PAGE_SIZE,
    CHUNK = 64,     /* Pages that are stored or loaded in one call. */
    LOCKS = 256,
    PATIENCE = 100  /* How often a store tries to make room in vain, a millisecond apart. */
};

static int64_t disk_bytes = -1;
static struct zswap_options options = {.struct_size = sizeof options, .name = "nbdkit"};
static char *file_name, *stats_name;
static struct zswap *zswap;
static struct zswap_area *area;
static pthread_rwlock_t locks[LOCKS];

/* ---- Errors ---- */

/* Reports a result of the library to the log, and its number to the client. What a client knows as a full disk is
 * -ENOMEM here. */
static int fail(int result, const char *sentence)
{
    nbdkit_error("%s", sentence);
    nbdkit_set_error(result == -ENOMEM ? ENOSPC : result == -EBADMSG ? EIO : -result);
    return -1;
}

/* ---- Pages ---- */

/* Writes pages to the file, so that a store that was refused has room. Returns false if that is impossible. */
static bool make_room(unsigned *tries)
{
    uint64_t written;
    int result = zswap_shrink(zswap, 2 * CHUNK, &written);
    if (result == 0) {
        *tries = 0;
        return true;
    }
    /* -ENOENT: the room is that of stores which are running. -EAGAIN: other threads are writing the pages that could
     * go, or the file is full. */
    if ((result != -EAGAIN && result != -ENOENT) || ++*tries > PATIENCE)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return true;
}

static int store(uint64_t page, const void *bytes, size_t count)
{
    unsigned tries = 0;
    int result;
    while ((result = zswap_store_pages(area, page, bytes, count)) == -ENOMEM && file_name != NULL)
        if (!make_room(&tries))
            break;
    return result == 0 ? 0 : fail(result, zs_last_error());
}

/* Loads pages, at most CHUNK. Those that are not stored are zeros. */
static int load(uint64_t page, char *bytes, size_t count)
{
    int results[CHUNK];
    int result = zswap_load_pages(area, page, bytes, count, 0, results);
    if (result == 0)
        return 0;
    if (result != -ENOENT && result != -EBADMSG && result != -EIO)
        return fail(result, zs_last_error());
    for (size_t i = 0; i < count; i++) {
        if (results[i] == -ENOENT)
            memset(bytes + i * PAGE, 0, PAGE);
        else if (results[i] != 0)
            return fail(results[i], zs_strerror(results[i]));
    }
    return 0;
}

/* Changes a part of a page. Without bytes, it becomes zeros. */
static int change(uint64_t page, size_t from, const char *bytes, size_t length)
{
    char whole[PAGE];
    if (load(page, whole, 1) != 0)
        return -1;
    if (bytes != NULL)
        memcpy(whole + from, bytes, length);
    else
        memset(whole + from, 0, length);
    return store(page, whole, 1);
}

/* ---- Requests ---- */

/* A part of a request: whole pages of one stretch, or a part of one page. */
struct part {
    uint64_t page;
    size_t from, length; /* In bytes. */
};

static struct part next_part(uint64_t offset, uint64_t count)
{
    struct part part = {offset / PAGE, offset % PAGE, 0};
    uint64_t most = PAGE - part.from;
    if (part.from == 0 && count >= PAGE)
        most = (CHUNK - part.page % CHUNK) * PAGE;
    part.length = most < count ? most : count;
    if (part.length > PAGE)
        part.length -= part.length % PAGE;
    return part;
}

static bool is_whole(const struct part *part)
{
    return part->length % PAGE == 0;
}

/* Writes bytes, or zeros where there are none. */
static int write_part(const struct part *part, const char *bytes)
{
    pthread_rwlock_t *lock = &locks[part->page / CHUNK % LOCKS];
    int result;
    if (is_whole(part))
        pthread_rwlock_rdlock(lock);
    else
        pthread_rwlock_wrlock(lock);
    if (!is_whole(part))
        result = change(part->page, part->from, bytes, part->length);
    else if (bytes != NULL)
        result = store(part->page, bytes, part->length / PAGE);
    else if ((result = zswap_invalidate(area, part->page, part->length / PAGE, 0)) != 0)
        result = fail(result, zs_last_error());
    pthread_rwlock_unlock(lock);
    return result;
}

static int plugin_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    char *bytes = buffer;
    (void)handle, (void)flags;
    while (count > 0) {
        struct part part = next_part(offset, count);
        char page[PAGE];
        if (load(part.page, is_whole(&part) ? bytes : page, is_whole(&part) ? part.length / PAGE : 1) != 0)
            return -1;
        if (!is_whole(&part))
            memcpy(bytes, page + part.from, part.length);
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

/* Whole pages of zeros become holes, whether the client allows holes (NBDKIT_FLAG_MAY_TRIM) or not: they read the same,
 * and room for other bytes could not be promised by storing zeros, which take none. */
static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    return zero(offset, count);
}

/* A trim is advice: pages of which it names a part keep their bytes. */
static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    uint64_t first = (offset + PAGE - 1) / PAGE, end = (offset + count) / PAGE;
    (void)handle, (void)flags;
    return first < end ? zero(first * PAGE, (end - first) * PAGE) : 0;
}

static int plugin_flush(void *handle, uint32_t flags)
{
    (void)handle, (void)flags;
    return 0; /* Nothing is kept anywhere else. */
}

/* Adds an extent for each run of pages that are stored, and for each hole. */
static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags, struct nbdkit_extents *extents)
{
    uint64_t page = offset / PAGE, end = (offset + count + PAGE - 1) / PAGE, stored = 0, run;
    (void)handle;
    while (page < end) {
        int result = zswap_next_stored(area, page, &stored);
        if (result != 0 && result != -ENOENT)
            return fail(result, zs_last_error());
        if (result == -ENOENT || stored > end)
            stored = end;
        bool hole = stored > page;
        for (run = stored; !hole && run < end && zswap_next_stored(area, run, &stored) == 0 && stored == run; run++)
            continue;
        uint64_t length = (run - page) * PAGE;
        if (length > (uint64_t)disk_bytes - page * PAGE)
            length = (uint64_t)disk_bytes - page * PAGE;
        if (nbdkit_add_extent(extents, page * PAGE, length, hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) != 0)
            return -1;
        if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
            break;
        page = run;
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
            options.codec = codecs[i].codec;
            return 0;
        }
    nbdkit_error("codec is %s: it can be lz4, zstd or none", name);
    return -1;
}

static int plugin_config(const char *key, const char *value)
{
    int64_t bytes;
    if (strcmp(key, "size") == 0)
        return (disk_bytes = nbdkit_parse_size(value)) < 0 ? -1 : 0;
    if (strcmp(key, "codec") == 0)
        return set_codec(value);
    if (strcmp(key, "level") == 0)
        return nbdkit_parse_int("level", value, &options.level);
    if (strcmp(key, "limit") == 0) {
        bytes = nbdkit_parse_size(value);
        options.max_bytes = (uint64_t)bytes;
        return bytes < 0 ? -1 : 0;
    }
    if (strcmp(key, "file") == 0)
        return (file_name = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
    if (strcmp(key, "stats") == 0)
        return (stats_name = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
    nbdkit_error("there is no parameter %s", key);
    return -1;
}

static int plugin_config_complete(void)
{
    if (disk_bytes > 0)
        return 0;
    nbdkit_error("the parameter size is missing: say how large the disk is, such as 1G");
    return -1;
}

/* Opens a block device, or creates a file and unlinks it at once: its contents mean nothing without this process.
 * Stores how many bytes the library may use. */
static int open_file(uint64_t *bytes)
{
    struct stat status;
    bool device = stat(file_name, &status) == 0 && S_ISBLK(status.st_mode);
    int fd = open(file_name, O_RDWR | O_EXCL | O_CLOEXEC | (device ? 0 : O_CREAT), 0600);
    if (fd < 0 || (!device && unlink(file_name) != 0)) {
        nbdkit_error("file %s, which has to be a new file or a block device: %m", file_name);
        return -1;
    }
    *bytes = zswap_area_pages(area) * PAGE;
    off_t end = device ? lseek(fd, 0, SEEK_END) : 0;
    if (end > 0 && (uint64_t)end < *bytes)
        *bytes = (uint64_t)end;
    return fd;
}

static int set_file(void)
{
    uint64_t bytes;
    int fd = open_file(&bytes);
    if (fd < 0)
        return -1;
    int result = zswap_set_backing_file(zswap, fd, bytes);
    close(fd); /* The library has a duplicate. */
    return result;
}

/* Makes the disk. nbdkit goes to the background after this, by fork(), while errors can still be shown: the child gets
 * the zswap as it is, because no other thread runs yet. */
static int plugin_get_ready(void)
{
    /* Once the limit is met, the disk takes writes again as soon as a page has gone, and not only below 90 %. */
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .accept_percent = 100};
    /* A write that fails must not cost the bytes that were there before: of a page it may name only a part. */
    struct zswap_area_options kept = {.struct_size = sizeof kept, .flags = ZSWAP_AREA_KEEP_OLD};
    options.tuning = &tuning;
    int result = zswap_create(&options, &zswap);
    if (result == 0)
        result = zswap_add_area(zswap, ((uint64_t)disk_bytes + PAGE - 1) / PAGE, &kept, &area);
    if (result != 0) {
        nbdkit_error("%s", zs_last_error());
        return -1;
    }
    for (size_t i = 0; i < LOCKS; i++)
        pthread_rwlock_init(&locks[i], NULL);
    if (file_name == NULL)
        return 0;
    result = set_file();
    if (result != 0 && result != -1)
        nbdkit_error("%s", zs_last_error());
    return result == 0 ? 0 : -1;
}

/* Writes the statistics, as JSON, to the file that the parameter stats names. */
static void write_stats(void)
{
    static char text[16384];
    size_t length;
    FILE *file = fopen(stats_name, "we");
    int result = zswap_stats_json(zswap, text, sizeof text, &length);
    if (result != 0)
        nbdkit_error("statistics: %s", zs_last_error());
    if (file == NULL || fprintf(file, "%s\n", text) < 0 || fclose(file) != 0)
        nbdkit_error("statistics: %s: %m", stats_name);
}

static void plugin_unload(void)
{
    if (area != NULL && stats_name != NULL)
        write_stats();
    if (area != NULL)
        zswap_remove_area(area);
    if (zswap != NULL)
        zswap_destroy(zswap);
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
    return disk_bytes;
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1, *preferred = PAGE, *maximum = 0xffffffff;
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
    .description = "A RAM disk whose pages are compressed, with a limit and a file for what exceeds it.",
    .magic_config_key = "size",
    .config_help = "size=SIZE            The size of the disk (required).\n"
                   "codec=lz4|zstd|none  How pages are compressed (default: lz4).\n"
                   "level=N              The level of the codec.\n"
                   "limit=SIZE           The most memory for compressed pages (default: no limit).\n"
                   "file=FILE            A new file or a block device, for pages that exceed the limit.\n"
                   "stats=FILE           A file for statistics at the end, as JSON.",
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .dump_plugin = plugin_dump,
    .get_ready = plugin_get_ready,
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
