/* Shared by the tests of zswap: pages of all kinds, different for each number. */
#ifndef PAGES_H
#define PAGES_H

#include "check.h"

enum { PAGE = ZSWAP_PAGE_SIZE };

/* Makes a page that LZ4 compresses to less than half. */
static inline void text_page(void *page, uint64_t number)
{
    unsigned char *bytes = page;
    uint64_t state = number * 977 + 1;
    for (size_t at = 0; at < PAGE; at++)
        bytes[at] = at % 64 < 16 ? (unsigned char)next_random(&state) : (unsigned char)(number + at / 64);
}

/* Makes a page that no codec compresses. */
static inline void noise_page(void *page, uint64_t number)
{
    unsigned char *bytes = page;
    uint64_t state = number * 977 + 2;
    for (size_t at = 0; at < PAGE; at++)
        bytes[at] = (unsigned char)next_random(&state);
}

/* Makes a page that repeats one word. */
static inline void filled_page(void *page, uint64_t number)
{
    memset(page, (int)(number % 251), PAGE);
}

/* Makes a page of one of the three kinds. */
static inline void make_page(void *page, uint64_t number)
{
    if (number % 8 == 0)
        filled_page(page, number);
    else if (number % 8 == 1)
        noise_page(page, number);
    else
        text_page(page, number);
}

static inline int is_page(const void *page, uint64_t number)
{
    unsigned char expected[PAGE];
    make_page(expected, number);
    return memcmp(page, expected, PAGE) == 0;
}

/* Stores the page for a number. */
static inline int store_page(struct zswap_area *area, uint64_t offset, uint64_t number)
{
    unsigned char page[PAGE];
    make_page(page, number);
    return zswap_store(area, offset, page);
}

/* Ends the program unless the page for a number is stored at an offset. */
static inline void check_page(struct zswap_area *area, uint64_t offset, uint64_t number)
{
    unsigned char page[PAGE];
    memset(page, 0xee, PAGE);
    OK(zswap_load(area, offset, page, 0));
    CHECK(is_page(page, number));
}

static inline void check_absent(struct zswap_area *area, uint64_t offset)
{
    unsigned char page[PAGE], before[PAGE];
    memset(before, 0xee, PAGE);
    memcpy(page, before, PAGE);
    RESULT(zswap_load(area, offset, page, 0), -ENOENT);
    CHECK(memcmp(page, before, PAGE) == 0);
}

/* Creates a zswap with a limit. */
static inline struct zswap *zswap_with(uint64_t max_bytes)
{
    /* A small pool, for machines with few addresses. */
    struct zs_pool_options pool = {.struct_size = sizeof pool, .max_bytes = 256 * MIB};
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .pool = &pool};
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = max_bytes, .tuning = &tuning};
    struct zswap *zswap = NULL;
    OK(zswap_create(&options, &zswap));
    CHECK(zswap != NULL);
    return zswap;
}

static inline struct zswap_area *area_with(struct zswap *zswap, uint64_t pages)
{
    struct zswap_area *area = NULL;
    OK(zswap_add_area(zswap, pages, NULL, &area));
    CHECK(area != NULL);
    return area;
}

static inline struct zswap_stats zswap_stats_of(struct zswap *zswap)
{
    struct zswap_stats stats = {.struct_size = sizeof stats};
    OK(zswap_stats(zswap, &stats));
    return stats;
}

static inline struct zswap_area_stats area_stats_of(struct zswap_area *area)
{
    struct zswap_area_stats stats = {.struct_size = sizeof stats};
    OK(zswap_area_stats(area, &stats));
    return stats;
}

#endif
