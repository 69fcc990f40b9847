/*
 * Stores the pages of files in a zswap, loads and verifies them in another order, and prints memory and times.
 *
 *     cargo build --release && cc -O2 examples/store_pages.c -Iinclude target/release/libzsalloc.a -o store_pages
 *     ./store_pages [-l LIMIT_MIB] [-f NEW_BACKING_FILE] [FILE...]     (without files: this program and its libraries)
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zsalloc.h>

static unsigned char (*pages)[ZSWAP_PAGE_SIZE];
static size_t count, room;

/* The library's functions return 0, or a negative error number. zs_last_error() says why the last one failed. */
static void check(int result, const char *what)
{
    if (result != 0)
        errx(2, "%s: %s", what, zs_last_error());
}

/* Appends a file's pages. The last one is padded with zeros. */
static void read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    for (size_t bytes = 1; file != NULL && bytes != 0; count += bytes != 0) {
        if (count == room && (pages = realloc(pages, (room = room * 2 + 1024) * sizeof *pages)) == NULL)
            err(2, "memory for the pages");
        memset(pages[count], 0, sizeof *pages);
        bytes = fread(pages[count], 1, sizeof *pages, file);
    }
    if (file == NULL || ferror(file))
        err(2, "%s", path);
    fclose(file);
}

static int read_library(struct dl_phdr_info *library, size_t size, void *context)
{
    (void)size, (void)context;
    if (library->dlpi_name[0] == '\0' || library->dlpi_name[0] == '/') /* Others have no file. */
        read_file(library->dlpi_name[0] == '/' ? library->dlpi_name : "/proc/self/exe");
    return 0;
}

static double microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *left, const void *right)
{
    return (*(const double *)left > *(const double *)right) - (*(const double *)left < *(const double *)right);
}

static void print_times(const char *what, double *times, size_t n)
{
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += times[i] / (double)n;
    qsort(times, n, sizeof *times, compare);
    printf("%-16s %zu pages, mean %.2f, p50 %.2f, p99 %.2f us\n", what, n, mean, times[n / 2], times[n * 99 / 100]);
}

static void print_statistics(struct zswap *zswap, size_t stored)
{
    struct zswap_stats stats = {.struct_size = sizeof stats};
    struct zs_pool_stats pool = {.struct_size = sizeof pool};
    check(zswap_stats(zswap, &stats), "statistics");
    check(zswap_pool_stats(zswap, &pool), "statistics of the pool");
    double in_pool = (double)(stats.counts.compressed_pages + stats.counts.raw_pages) * ZSWAP_PAGE_SIZE;
    double in_memory = in_pool + (double)stats.counts.filled_pages * ZSWAP_PAGE_SIZE;
    /* Both figures include the pool's tables. */
    double memory = (double)(stats.pool_bytes + stats.metadata_bytes - pool.metadata_pages * ZSWAP_PAGE_SIZE);
    printf("pages            %zu\nrefused          %zu\n", count, count - stored);
    printf("same-filled      %" PRIu64 "\nincompressible   %" PRIu64 "\nwritten back     %" PRIu64 "\n",
           stats.counts.filled_pages, stats.counts.raw_pages, stats.counts.written_back);
    printf("ratio            %.2f, pages in the pool / slots\n", in_pool > 0 ? in_pool / (double)stats.used_bytes : 0);
    printf("effective ratio  %.2f, pages in memory / all memory of the zswap\n", in_memory / memory);
}

int main(int argc, char **argv)
{
    char *end = "";
    struct zswap_options options = {.struct_size = sizeof options};
    struct zswap *zswap;
    struct zswap_area *area;
    int backing = -1, result;
    size_t stored = 0, loaded = 0;
    for (int option; (option = getopt(argc, argv, "l:f:")) != -1;) {
        if (option == 'l')
            options.max_bytes = strtoull(optarg, &end, 10) << 20;
        else if (option == 'f') /* Unlinked at once: its contents mean nothing without the zswap. */
            if ((backing = open(optarg, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0 || unlink(optarg) != 0)
                err(2, "%s", optarg);
        if (option == '?' || *end != '\0')
            errx(2, "usage: store_pages [-l LIMIT_MIB] [-f NEW_BACKING_FILE] [FILE...]");
    }
    for (int i = optind; i < argc; i++)
        read_file(argv[i]);
    if (optind == argc)
        dl_iterate_phdr(read_library, NULL);
    double *times = calloc(count + 1, sizeof *times);
    if (count == 0 || times == NULL)
        errx(2, count == 0 ? "the files are empty" : "no memory");
    if (zswap_create(&options, &zswap) != 0)
        errx(2, "zswap: %s", zs_last_error());
    check(zswap_add_area(zswap, count, NULL, &area), "area");
    check(zswap_set_backing_file(zswap, backing, backing < 0 ? 0 : count * ZSWAP_PAGE_SIZE), "backing file");
    for (size_t offset = 0; offset < count; offset++) {
        uint64_t written;
        double begin = microseconds();
        /* When the limit is reached, make room; without a backing file that is impossible. */
        while ((result = zswap_store(area, offset, pages[offset])) == -ENOMEM && zswap_shrink(zswap, 64, &written) == 0)
            continue;
        times[stored] = microseconds() - begin;
        check(result == -ENOMEM ? 0 : result, "store");
        stored += result == 0;
    }
    print_statistics(zswap, stored);
    print_times("store", times, stored);
    for (size_t i = 0; i < count; i++) {
        unsigned char copy[ZSWAP_PAGE_SIZE];
        size_t offset = (size_t)(i * UINT64_C(2654435761) % count); /* A prime visits each offset once. */
        double begin = microseconds();
        if ((result = zswap_load(area, offset, copy, 0)) == -ENOENT)
            continue; /* The page was refused: a swap daemon would have it on disk. */
        times[loaded++] = microseconds() - begin;
        check(result, "load");
        if (memcmp(copy, pages[offset], sizeof copy) != 0)
            errx(2, "page %zu does not hold what was stored", offset);
    }
    check(loaded == stored ? 0 : -ENOENT, "a page that was stored");
    print_times("load, verified", times, loaded);
    check(zswap_remove_area(area), "removing the area");
    check(zswap_destroy(zswap), "destroying the zswap");
    free(times);
    free(pages);
    return 0;
}
