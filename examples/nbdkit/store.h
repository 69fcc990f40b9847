/* What keeps the bytes of the disk: pages.c has pages in a zswap, and blocks.c larger blocks in a pool. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { MAX_UNIT = 65536 };

/* The parameters. */
struct settings {
    uint64_t disk_bytes;
    size_t unit; /* Bytes that are compressed together. */
    uint32_t codec;
    int level;
    uint64_t limit; /* 0: none. */
    const char *file; /* NULL: none. */
};

/* The disk is an array of units, which any threads store, load and remove at once: a load returns each unit as it was
 * before a store or as it is after it. Functions return 0, or -1 after fail(). A store that fails leaves a unit as it
 * was. */
struct store {
    int (*create)(const struct settings *settings);
    int (*load)(uint64_t unit, char *bytes, size_t count); /* What is not stored is zeros. */
    int (*store)(uint64_t unit, const char *bytes, size_t count);
    int (*remove)(uint64_t unit, uint64_t count);
    int (*next)(uint64_t from, uint64_t end, uint64_t *unit); /* The next that is stored; `end` if none is. */
    int (*compact)(void); /* Gives memory back to the system, for a moment. */
    int (*print)(FILE *file); /* Statistics, as JSON. */
    void (*destroy)(void); /* Also after a create that failed. */
};

extern const struct store page_store, block_store;

/* Reports an error to the log, and its number to the client. -ENOMEM, which is what the library returns when a limit is
 * met, becomes what a client knows as a full disk. */
int fail(int result, const char *sentence);

#endif
