/* The backing file: pages go there and come back, and failures lose nothing. Argument: a folder for the file. */
#define _GNU_SOURCE
#include "pages.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

enum { PAGES = 400, POOL_PAGES = PAGES - PAGES / 8 };

static struct zswap *zswap;
static struct zswap_area *area;
static const char *folder = ".";

static int new_file_with(int flags)
{
    char path[4096];
    CHECK(snprintf(path, sizeof path, "%s/backing", folder) < (int)sizeof path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    if (fd < 0 && errno == EINVAL)
        return -1;
    CHECK(fd >= 0 && unlink(path) == 0);
    return fd;
}

static int new_file(void)
{
    return new_file_with(0);
}

static void begin(void)
{
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
}

static void end(void)
{
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static void check_all(void)
{
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(area, i, i);
}

/* O_DIRECT needs aligned memory, wherever the caller's page is. */
static void past_the_page_cache(void)
{
    static unsigned char pages[2 * PAGE + 1];
    uint64_t written;
    int results[2], fd = new_file_with(O_DIRECT);
    if (fd < 0) {
        fprintf(stderr, "SKIPPED: zswap_file: the file system has no O_DIRECT\n");
        return;
    }
    begin();
    OK(zswap_set_backing_file(zswap, fd, 16 * MIB));
    CHECK(close(fd) == 0);
    OK(zswap_shrink(zswap, PAGES, &written));
    CHECK(written == POOL_PAGES);
    OK(zswap_load(area, 1, pages + 1, 0));
    OK(zswap_load_pages(area, 1, pages + 1, 2, 0, results));
    CHECK(results[0] == 0 && results[1] == 0);
    check_all();
    for (uint64_t i = 0; i < PAGES; i++)
        OK(zswap_load(area, i, pages + 1, ZSWAP_LOAD_EXCLUSIVE));
    end();
}

static void round_trip(void)
{
    uint64_t written, offset = 0, found = 0;
    begin();
    int fd = new_file();
    OK(zswap_set_backing_file(zswap, fd, 16 * MIB));
    CHECK(close(fd) == 0);
    OK(zswap_shrink(zswap, PAGES, &written));
    CHECK(written == POOL_PAGES);
    struct zswap_stats stats = zswap_stats_of(zswap);
    CHECK(stats.counts.file_pages == POOL_PAGES && stats.file_bytes > 0 && stats.file_bytes % PAGE == 0);
    CHECK(stats.used_bytes == 0);
    RESULT(zswap_shrink(zswap, 1, &written), -ENOENT);
    check_all();
    CHECK(zswap_stats_of(zswap).counts.file_loads == POOL_PAGES && zswap_stats_of(zswap).counts.refaults == POOL_PAGES);
    /* The file stays while pages are on it. */
    RESULT(zswap_set_backing_file(zswap, -1, 0), -EBUSY);
    RESULT(zswap_set_writeback(zswap, NULL, NULL), -EBUSY);
    for (; zswap_next_stored(area, offset, &offset) == 0; offset++)
        found++;
    CHECK(found == PAGES);
    /* When pages are replaced, taken or invalidated, their entries go, and extents without entries too. */
    unsigned char page[PAGE];
    for (uint64_t i = 0; i < PAGES; i += 3) {
        OK(store_page(area, i, i + 1));
        OK(store_page(area, i, i));
        OK(zswap_load(area, (i + 1) % PAGES, page, ZSWAP_LOAD_EXCLUSIVE));
        CHECK(is_page(page, (i + 1) % PAGES));
        OK(store_page(area, (i + 1) % PAGES, (i + 1) % PAGES));
    }
    OK(zswap_invalidate(area, 2, 1, 0));
    check_absent(area, 2);
    OK(store_page(area, 2, 2));
    OK(zswap_shrink(zswap, PAGES, &written));
    check_all();
    OK(zswap_invalidate(area, 0, PAGES, 0));
    CHECK(zswap_stats_of(zswap).file_bytes == 0);
    OK(zswap_set_backing_file(zswap, -1, 0));
    end();
}

static void a_full_file(void)
{
    enum { ROOM = 5 };
    uint64_t written = 0;
    begin();
    int fd = new_file();
    OK(zswap_set_backing_file(zswap, fd, ROOM * PAGE + 100));
    OK(zswap_shrink(zswap, PAGES, &written));
    CHECK(written > 0 && written < POOL_PAGES);
    RESULT(zswap_shrink(zswap, PAGES, &written), -EAGAIN);
    CHECK(area_stats_of(area).counts.writeback_no_space > 0);
    check_all();
    CHECK(close(fd) == 0);
    end();
}

/* RLIMIT_FSIZE: a short write, then EFBIG. */
static void a_file_that_ends_early(void)
{
    uint64_t written = 0;
    struct rlimit before, limit;
    begin();
    int fd = new_file();
    OK(zswap_set_backing_file(zswap, fd, 16 * MIB));
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    signal(SIGXFSZ, SIG_IGN);
    limit = before;
    limit.rlim_cur = 3 * PAGE;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    OK(zswap_shrink(zswap, PAGES, &written));
    CHECK(written > 0 && written < 200 && area_stats_of(area).counts.written_back == written);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    check_all();
    OK(zswap_shrink(zswap, PAGES, &written));
    CHECK(written > 100);
    check_all();
    CHECK(close(fd) == 0);
    end();
}

/* The file's contents are changed or lost behind zswap's back: loads fail, and return no wrong page. */
static void a_damaged_file(void)
{
    uint64_t written, failed = 0;
    struct stat stat;
    unsigned char page[PAGE], byte;
    begin();
    int fd = new_file();
    OK(zswap_set_backing_file(zswap, fd, 16 * MIB));
    OK(zswap_shrink(zswap, PAGES, &written));
    for (uint64_t i = 0; i < 5; i++) {
        /* Among the entries, which begin after a header of 1088 bytes. */
        off_t at = (off_t)(1200 + 511 * i);
        CHECK(pread(fd, &byte, 1, at) == 1);
        byte ^= 0x10;
        CHECK(pwrite(fd, &byte, 1, at) == 1);
    }
    CHECK(fstat(fd, &stat) == 0 && ftruncate(fd, stat.st_size / 2) == 0);
    for (uint64_t i = 0; i < PAGES; i++) {
        memset(page, 0xee, PAGE);
        int result = zswap_load(area, i, page, 0);
        failed += result != 0;
        /* An entry whose bytes changed is damaged; one that the file no longer has can't be read. */
        CHECK(result == 0 ? is_page(page, i) : page[0] == 0xee && page[PAGE - 1] == 0xee);
        CHECK(result == 0 || result == -EIO);
    }
    struct zswap_tier_stats tier = {.struct_size = sizeof tier};
    OK(zswap_tier_stats(zswap, 0, &tier));
    CHECK(tier.damaged > 0 && tier.damaged <= 5 && tier.away > 0 && failed > tier.damaged && failed < POOL_PAGES);
    CHECK(area_stats_of(area).counts.file_read_failures == failed);
    /* Storing the page again repairs it. */
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
    check_all();
    CHECK(close(fd) == 0);
    end();
}

/* The program closes all descriptors, and its next file gets the library's number: nothing may be written there. */
static void a_descriptor_that_is_another_file_s(void)
{
    uint64_t written = 77;
    unsigned char page[PAGE];
    struct stat stat;
    int victims[40];
    begin();
    int fd = new_file();
    OK(zswap_set_backing_file(zswap, fd, 16 * MIB));
    OK(zswap_shrink(zswap, 10, &written));
    CHECK(written == 10);
    for (int number = 3; number < 40; number++)
        close(number);
    RESULT(zswap_shrink(zswap, 100, &written), -EIO);
    for (int i = 0; i < 40; i++)
        victims[i] = new_file();
    RESULT(zswap_shrink(zswap, 100, &written), -EIO);
    RESULT(zswap_shrink_area(area, 100, &written), -EIO);
    CHECK(written == 10);
    uint64_t there = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        int result = zswap_load(area, i, page, 0);
        CHECK(result == 0 ? is_page(page, i) : result == -EIO);
        there += result == 0;
    }
    CHECK(there == PAGES - 10);
    for (int i = 0; i < 40; i++)
        CHECK(fstat(victims[i], &stat) == 0 && stat.st_size == 0 && close(victims[i]) == 0);
    /* Storing pages again repairs those that were on the file. */
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
    check_all();
    end();
}

int main(int count, char **arguments)
{
    if (count > 1)
        folder = arguments[1];
    round_trip();
    past_the_page_cache();
    a_full_file();
    a_file_that_ends_early();
    a_damaged_file();
    a_descriptor_that_is_another_file_s();
    puts("zswap_file: ok");
    return 0;
}
