/*
 * The disk as an area of a zswap: a page of 4096 bytes at each offset, with a limit and a file for what exceeds it.
 */
#define _GNU_SOURCE
#include "store.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zsalloc.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

enum {
    PAGE = ZSWAP_PAGE_SIZE,
    BATCH = 64,              /* Pages that are loaded in one call. */
    PATIENCE = 60000,        /* How often a store tries in vain to make room, a millisecond apart. */
    FILE_REFUSES_PAGES = 60, /* A try counts as so many if the file took no page during it. */
};

static struct zswap *zswap;
static struct zswap_area *area;
static bool has_file;

/* What a store that waits for room remembers. */
struct wait {
    unsigned tries;
    uint64_t refusals;
};

/* Returns how many pages were not written because the file is full, or because writing to it fails. */
static uint64_t count_refusals(void)
{
    struct zswap_stats stats = {.struct_size = sizeof stats};
    if (zswap_stats(zswap, &stats) != 0)
        return 0;
    return stats.counts.writeback_no_space + stats.counts.writeback_io + stats.counts.writeback_no_memory +
           stats.counts.writeback_other;
}

/* Makes room for a store that was refused by `limit`: writes pages to the file, or waits a moment. Returns false if
 * that is in vain. */
static bool make_room(uint32_t limit, struct wait *wait)
{
    uint64_t written, refusals;
    int result = zswap_shrink(zswap, 2 * BATCH, &written);
    if (result == 0) {
        wait->tries = 0;
        return true;
    }
    /* -EAGAIN: running stores have all the room, other threads are writing the pages that could go, or the file takes
     * none. -ENOENT: no page is in the pool. The store fails then if the system refused the memory (ZSWAP_LIMIT_NONE),
     * because no page can be written to free some. */
    if (result != -EAGAIN && (result != -ENOENT || limit == ZSWAP_LIMIT_NONE))
        return false;
    /* What other threads do ends soon, but on a busy machine they may get no processor for seconds. A file that takes
     * no page for a second is probably full. */
    refusals = count_refusals();
    wait->tries += refusals == wait->refusals ? 1 : FILE_REFUSES_PAGES;
    wait->refusals = refusals;
    if (wait->tries > PATIENCE) {
        nbdkit_error("no room could be made: %s", zs_last_error());
        return false;
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return true;
}

static int store_pages(uint64_t page, const char *bytes, size_t count)
{
    struct wait wait = {0, 0};
    bool goes_on = has_file;
    int result;
    while ((result = zswap_store_pages(area, page, bytes, count)) == -ENOMEM && goes_on)
        goes_on = make_room(zs_last_limit(), &wait);
    return result == 0 ? 0 : fail(result, zs_last_error());
}

static int load_batch(uint64_t page, char *bytes, size_t count)
{
    int results[BATCH];
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

static int load_pages(uint64_t page, char *bytes, size_t count)
{
    for (size_t done = 0; done < count; done += BATCH) {
        size_t now = count - done < BATCH ? count - done : BATCH;
        if (load_batch(page + done, bytes + done * PAGE, now) != 0)
            return -1;
    }
    return 0;
}

static int remove_pages(uint64_t page, uint64_t count)
{
    int result = zswap_invalidate(area, page, count, 0);
    return result == 0 ? 0 : fail(result, zs_last_error());
}

static int next_page(uint64_t from, uint64_t end, uint64_t *page)
{
    int result = zswap_next_stored(area, from, page);
    if (result != 0 && result != -ENOENT)
        return fail(result, zs_last_error());
    if (result == -ENOENT || *page > end)
        *page = end;
    return 0;
}

static int compact_pages(void)
{
    struct zs_compact_budget budget = {.struct_size = sizeof budget, .max_microseconds = 1000};
    uint64_t freed;
    int result = zswap_compact(zswap, &budget, &freed);
    return result == 0 ? 0 : fail(result, zs_last_error());
}

/* Opens a block device, or creates a file and unlinks it at once: its contents mean nothing without this process.
 * Stores how many bytes the library may use. */
static int open_file(const char *name, uint64_t *bytes)
{
    struct stat status;
    bool device = stat(name, &status) == 0 && S_ISBLK(status.st_mode);
    int fd = open(name, O_RDWR | O_EXCL | O_CLOEXEC | (device ? 0 : O_CREAT), 0600);
    if (fd < 0 || (!device && unlink(name) != 0)) {
        nbdkit_error("file %s, which has to be a new file or a block device: %m", name);
        return -1;
    }
    *bytes = zswap_area_pages(area) * PAGE;
    off_t end = device ? lseek(fd, 0, SEEK_END) : 0;
    if (end > 0 && (uint64_t)end < *bytes)
        *bytes = (uint64_t)end;
    return fd;
}

static int set_file(const char *name)
{
    uint64_t bytes;
    int fd = open_file(name, &bytes);
    if (fd < 0)
        return -1;
    int result = zswap_set_backing_file(zswap, fd, bytes);
    close(fd); /* The library has a duplicate. */
    has_file = result == 0;
    return result == 0 ? 0 : fail(result, zs_last_error());
}

static int create_pages(const struct settings *settings)
{
    /* Once the limit is met, the disk takes writes again as soon as a page has gone, and not only below 90 %. */
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .accept_percent = 100};
    struct zswap_options options = {.struct_size = sizeof options,
                                    .max_bytes = settings->limit,
                                    .name = "nbdkit",
                                    .codec = settings->codec,
                                    .level = settings->level,
                                    .tuning = &tuning};
    /* A write that fails must not cost the bytes that were there before: of a page it may name only a part. */
    struct zswap_area_options kept = {.struct_size = sizeof kept, .flags = ZSWAP_AREA_KEEP_OLD};
    int result = zswap_create(&options, &zswap);
    if (result == 0)
        result = zswap_add_area(zswap, (settings->disk_bytes + PAGE - 1) / PAGE, &kept, &area);
    if (result != 0)
        return fail(result, zs_last_error());
    return settings->file == NULL ? 0 : set_file(settings->file);
}

static int print_pages(FILE *file)
{
    char text[8192];
    size_t length;
    int result = zswap_stats_json(zswap, text, sizeof text, &length);
    if (result != 0)
        return fail(result, zs_last_error());
    return fprintf(file, "%s\n", text) < 0 ? -1 : 0;
}

static void destroy_pages(void)
{
    if (area != NULL)
        zswap_remove_area(area);
    if (zswap != NULL)
        zswap_destroy(zswap);
}

const struct store page_store = {
    .create = create_pages,
    .load = load_pages,
    .store = store_pages,
    .remove = remove_pages,
    .next = next_page,
    .compact = compact_pages,
    .print = print_pages,
    .destroy = destroy_pages,
};
