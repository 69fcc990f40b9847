/*
 * The addresses that the shim gives out: one range, which becomes regions from its beginning as it is needed, so that
 * many small mappings share a region. Pages that are free read as zeros, may be written, and take no memory.
 */
#pragma once
#include "heap.h"
#include <errno.h>

#define PAGE ((size_t)4096)

enum {
    TAKEN = 1,     /* The program has the page. */
    PROTECTED = 2, /* The program changed the page's protection. */
    CARVED = 4,    /* The page is in no region any more: the program mapped something else there. */
    BLOCK = 8,     /* The page is the first of a block of malloc(). */
};

struct extent {
    size_t first, pages;
};

static struct {
    pthread_mutex_t lock;
    char *base;
    size_t pages;             /* Of the whole range. */
    size_t mapped;            /* Pages that may be given out, from the beginning. */
    unsigned char *state;     /* Of each page. */
    unsigned char *protection; /* Of each page that is PROTECTED. */
    uint32_t *block;          /* Pages of the block of malloc() that begins here. */
    struct extent *free;      /* Sorted, none beside another. */
    size_t count, most;
} space = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool space_begin(size_t pages)
{
    space.pages = pages;
    space.most = pages / 2 + 1;
    space.base = raw_zeros(pages * PAGE, PROT_NONE);
    space.state = raw_zeros(pages, PROT_READ | PROT_WRITE);
    space.protection = raw_zeros(pages, PROT_READ | PROT_WRITE);
    space.block = raw_zeros(pages * sizeof *space.block, PROT_READ | PROT_WRITE);
    space.free = raw_zeros(space.most * sizeof *space.free, PROT_READ | PROT_WRITE);
    return space.base != NULL && space.state != NULL && space.protection != NULL && space.block != NULL &&
           space.free != NULL;
}

static bool is_of_space(const void *at)
{
    return space.base != NULL && (uintptr_t)at - (uintptr_t)space.base < space.pages * PAGE;
}

static size_t page_of(const void *at)
{
    return (size_t)((const char *)at - space.base) / PAGE;
}

static char *address_of(size_t page)
{
    return space.base + page * PAGE;
}

/* Returns the end of the pages from `first` on, up to `end`, that are alike in the bits of `mask`. */
static size_t alike(size_t first, size_t end, unsigned mask)
{
    size_t page = first + 1;
    while (page < end && ((space.state[page] ^ space.state[first]) & mask) == 0)
        page++;
    return page;
}

/* All that follow are called with the lock held. */

static void free_pages(size_t first, size_t pages)
{
    size_t low = 0, high = space.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (space.free[middle].first < first)
            low = middle + 1;
        else
            high = middle;
    }
    struct extent *after = &space.free[low];
    bool joins_after = low < space.count && after->first == first + pages;
    bool joins_before = low > 0 && after[-1].first + after[-1].pages == first;
    if (joins_before && joins_after) {
        after[-1].pages += pages + after->pages;
        memmove(after, after + 1, (--space.count - low) * sizeof *after);
    } else if (joins_before) {
        after[-1].pages += pages;
    } else if (joins_after) {
        after->first = first;
        after->pages += pages;
    } else {
        memmove(after + 1, after, (space.count++ - low) * sizeof *after);
        *after = (struct extent){first, pages};
    }
}

/* Takes some pages of a free extent. */
static void cut(size_t at, size_t first, size_t pages)
{
    struct extent *extent = &space.free[at];
    size_t before = first - extent->first, after = extent->first + extent->pages - first - pages;
    if (before == 0 && after == 0) {
        memmove(extent, extent + 1, (--space.count - at) * sizeof *extent);
    } else if (before == 0) {
        *extent = (struct extent){first + pages, after};
    } else {
        extent->pages = before;
        if (after > 0) {
            memmove(extent + 2, extent + 1, (space.count++ - at - 1) * sizeof *extent);
            extent[1] = (struct extent){first + pages, after};
        }
    }
    memset(space.state + first, TAKEN, pages);
}

/* Takes free pages at the lowest address that is a multiple of `alignment`, in pages. Returns SIZE_MAX if none fit. */
static size_t take_pages(size_t pages, size_t alignment)
{
    for (size_t at = 0; at < space.count; at++) {
        struct extent *extent = &space.free[at];
        size_t base = (uintptr_t)space.base / PAGE;
        size_t first = (base + extent->first + alignment - 1) / alignment * alignment - base;
        if (first - extent->first + pages <= extent->pages) {
            cut(at, first, pages);
            return first;
        }
    }
    return SIZE_MAX;
}

/* Takes these very pages, if all of them are free. */
static bool take_pages_at(size_t first, size_t pages)
{
    for (size_t at = 0; at < space.count; at++) {
        struct extent *extent = &space.free[at];
        if (extent->first <= first && first + pages <= extent->first + extent->pages) {
            cut(at, first, pages);
            return true;
        }
    }
    return false;
}
