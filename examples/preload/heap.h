/*
 * A heap of the shim's own, for memory that must never lie in a region: that of the library, and what a lent thread
 * needs for itself. A lent thread that touched a page which is not in memory would wait for itself.
 *
 * Blocks have sizes of powers of two. Each mebibyte holds blocks of one size; larger blocks take whole mebibytes, and
 * their addresses are not used again: the library has few of them.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HEAP_SPANS = 1 << 14, SPAN_SHIFT = 20, SMALLEST_SHIFT = 5 };

static struct {
    pthread_mutex_t lock;
    char *base;
    size_t used;                            /* Spans. */
    void *free[SPAN_SHIFT + 1];             /* Free blocks of each size, linked through their first bytes. */
    char *next[SPAN_SHIFT + 1];             /* The rest of the span that blocks of each size are cut from. */
    unsigned char shift[HEAP_SPANS];        /* The size of the blocks of a span; 0: part of a large block. */
    uint32_t large[HEAP_SPANS];             /* Spans of the large block that begins here. */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *raw_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}

/* Maps zeros that take memory as they are touched. */
static void *raw_zeros(size_t bytes, int protection)
{
    void *at = raw_mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static bool is_of_heap(const void *block)
{
    return (uintptr_t)block - (uintptr_t)heap.base < (size_t)HEAP_SPANS << SPAN_SHIFT && heap.base != NULL;
}

static char *take_spans(size_t spans)
{
    const size_t span = (size_t)1 << SPAN_SHIFT;
    if (heap.base == NULL) {
        char *zeros = raw_zeros((HEAP_SPANS + 1) * span, PROT_READ | PROT_WRITE);
        /* A span ends at a multiple of its size, whatever the kernel aligns mappings to. */
        heap.base = zeros == NULL ? NULL : zeros + (-(uintptr_t)zeros & (span - 1));
    }
    if (heap.base == NULL || spans > HEAP_SPANS - heap.used)
        return NULL;
    char *at = heap.base + (heap.used << SPAN_SHIFT);
    heap.used += spans;
    return at;
}

static size_t span_of(const void *block)
{
    return (size_t)((const char *)block - heap.base) >> SPAN_SHIFT;
}

/* Returns a block that lies at a multiple of its own size, or of a mebibyte. */
static void *heap_alloc_locked(size_t bytes)
{
    unsigned shift = SMALLEST_SHIFT;
    while (shift <= SPAN_SHIFT && (size_t)1 << shift < bytes)
        shift++;
    if (shift > SPAN_SHIFT) {
        size_t spans = (bytes >> SPAN_SHIFT) + 1;
        char *at = take_spans(spans);
        if (at != NULL)
            heap.large[span_of(at)] = (uint32_t)spans;
        return at;
    }
    void *block = heap.free[shift];
    if (block != NULL) {
        memcpy(&heap.free[shift], block, sizeof block);
        return block;
    }
    char *next = heap.next[shift];
    if (next == NULL) {
        if ((next = take_spans(1)) == NULL)
            return NULL;
        heap.shift[span_of(next)] = (unsigned char)shift;
    }
    char *after = next + ((size_t)1 << shift);
    heap.next[shift] = ((uintptr_t)after & (((size_t)1 << SPAN_SHIFT) - 1)) == 0 ? NULL : after;
    return next;
}

static void *heap_alloc(size_t bytes, size_t alignment)
{
    if (bytes > (size_t)HEAP_SPANS << SPAN_SHIFT || alignment > (size_t)1 << SPAN_SHIFT)
        return NULL;
    pthread_mutex_lock(&heap.lock);
    void *block = heap_alloc_locked(bytes < alignment ? alignment : bytes);
    pthread_mutex_unlock(&heap.lock);
    return block;
}

static size_t heap_size(const void *block)
{
    unsigned shift = heap.shift[span_of(block)];
    return shift == 0 ? (size_t)heap.large[span_of(block)] << SPAN_SHIFT : (size_t)1 << shift;
}

static void heap_free(void *block)
{
    unsigned shift = heap.shift[span_of(block)];
    if (shift == 0) {
        syscall(SYS_madvise, block, heap_size(block), MADV_DONTNEED);
        return;
    }
    pthread_mutex_lock(&heap.lock);
    memcpy(block, &heap.free[shift], sizeof block);
    heap.free[shift] = block;
    pthread_mutex_unlock(&heap.lock);
}
