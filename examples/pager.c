/*
 * An array that outgrows its memory limit: the program fills it, sums it up in order, and sums it up again out of
 * order, while only part of it is in memory uncompressed.
 *
 *     cargo build --release
 *     cc -O2 examples/pager.c -Iinclude target/release/libzsalloc.a -o pager && ./pager [ARRAY_MIB LIMIT_MIB]
 */
#define ZSALLOC_UFFD
#include <err.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <zsalloc.h>

enum { WORDS = ZSWAP_PAGE_SIZE / sizeof(uint64_t) };

static void check(int result, const char *what)
{
    if (result != 0)
        errx(2, "%s: %s", what, zs_last_error());
}

/* The thread lent to the pager: it evicts ahead, and reads what the program does with the memory of regions. */
static void *lend(void *pager)
{
    check(zspager_run(pager, ZSPAGER_RUN_ALL), "running");
    return NULL;
}

/* Returns the array's value at an index. Values compress well, and differ from page to page. */
static uint64_t value(size_t index)
{
    size_t page = index / WORDS;
    return index % 4 == 0 ? page * UINT64_C(0x9e3779b97f4a7c15) + index : page;
}

/* Returns the sum of one word of each page, in steps of `step` pages. */
static uint64_t sum(const uint64_t *array, size_t pages, size_t step)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < pages; i++)
        sum += array[i * step % pages * WORDS + i * step % pages % WORDS];
    return sum;
}

static size_t mebibytes(const char *text)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*end != '\0' || number < 1 || number > 1 << 20)
        errx(2, "%s is not a number of MiB; usage: pager [ARRAY_MIB LIMIT_MIB]", text);
    return number << 20;
}

int main(int argc, char **argv)
{
    if (argc != 1 && argc != 3)
        errx(2, "usage: pager [ARRAY_MIB LIMIT_MIB]");
    size_t bytes = argc == 3 ? mebibytes(argv[1]) : (size_t)64 << 20, pages = bytes / ZSWAP_PAGE_SIZE;
    struct zspager_options options = {.struct_size = sizeof options};
    struct zspager_stats stats = {.struct_size = sizeof stats};
    struct zspager *pager;
    uint64_t *array, median, most, expected = 0;
    pthread_t lent;

    options.resident_bytes = argc == 3 ? mebibytes(argv[2]) : bytes / 4;
    if (zspager_create("example", &options, &pager) != 0)
        errx(2, "pager: %s", zs_last_error());
    if ((array = zspager_map(pager, bytes, NULL, NULL)) == NULL)
        errx(2, "array: %s", zs_last_error());
    if (pthread_create(&lent, NULL, lend, pager) != 0)
        errx(2, "no thread can be created");

    for (size_t index = 0; index < pages * WORDS; index++)
        array[index] = value(index);
    for (size_t page = 0; page < pages; page++)
        expected += value(page * WORDS + page % WORDS);
    /* The second step is a prime larger than the number of pages, so it visits each page once. */
    if (sum(array, pages, 1) != expected || sum(array, pages, 2654435761) != expected)
        errx(2, "the array does not hold what was written");

    check(zspager_stats(pager, &stats), "statistics");
    check(zspager_latency_permille(pager, 500, &median), "median");
    check(zspager_latency_permille(pager, 990, &most), "99 of 100");
    printf("array            %zu MiB\n", bytes >> 20);
    printf("limit            %" PRIu64 " MiB\n", stats.resident_limit_bytes >> 20);
    printf("in memory        %" PRIu64 " MiB, of which staged %" PRIu64 "\n", stats.resident_bytes >> 20,
           stats.staged_bytes >> 20);
    printf("touches served   %" PRIu64 "\n", stats.faults);
    printf("loaded           %" PRIu64 " pages, %" PRIu64 " ahead\n", stats.loads + stats.loads_ahead,
           stats.loads_ahead);
    printf("compressed       %" PRIu64 " pages\n", stats.stored);
    printf("time of a touch  p50 %.1f, p99 %.1f us\n", (double)median / 1000, (double)most / 1000);

    check(zspager_unmap(pager, 0, array, bytes), "unmapping the array");
    check(zspager_stop(pager), "stopping");
    if (pthread_join(lent, NULL) != 0)
        errx(2, "the lent thread can't be joined");
    check(zspager_destroy(pager), "destroying the pager");
    return 0;
}
