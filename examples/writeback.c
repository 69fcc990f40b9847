/*
 * An asynchronous writer. Threads store, load and remove the pages of four guests, and threads of their own move pages
 * that were not used lately to a file, through the pull interface: zswap_writeback_begin() and zswap_writeback_end().
 *
 *     cargo build --release && cc -O2 examples/writeback.c -Iinclude target/release/libzsalloc.a -o writeback
 *     ./writeback [--seconds N] [--threads N] [--limit MIB] [--file NEW_FILE]
 *
 * zswap forgets a page that was written back: loading it fails with -ENOENT, like loading a page that was never stored.
 * So this program has a mark for each page, `on_file`. The mark means: if zswap has no page here, the file has it.
 * These rules keep that true. Break one, and a guest reads zeros or an old page once in a while.
 *
 * 1. The writer sets the mark after the write and BEFORE zswap_writeback_end() with 0. The end removes the page from
 *    zswap at once. If the mark came after it, a load in between would find neither page nor mark, and serve zeros.
 * 2. After the end the writer touches neither the mark nor the page's place on the file, whether `gone` is 1 or 0.
 *    `gone` 0 means that the page was loaded, replaced or removed during the write. If zswap still has it, the mark is
 *    harmless, because a load asks zswap first. If another thread removed it, the end has woken that thread, and the
 *    mark and the place are that thread's.
 * 3. The mark is cleared after zswap_invalidate(), after a load with ZSWAP_LOAD_EXCLUSIVE, and after a store that
 *    failed: what the file has is old then. After, and not before: a claim of the page may be open, and its writer may
 *    still set the mark. All three wait for that claim. When they return, no writer touches the mark or the place.
 * 4. A store that succeeds leaves the mark alone. It does not wait for the writer, so the new page may be on the file,
 *    and nowhere else, by the time it returns.
 * 5. Each page has a lock, held from the call to zswap until the mark and the file were looked at. Without it a load
 *    could find no page, then see a mark that belongs to an older page, or read a place while another thread reuses it.
 * 6. The writer takes none of these locks. The thread that holds one may be inside zswap_invalidate(), waiting for the
 *    writer to end its claim: each would wait for the other. So the mark is an atomic variable. The same goes for any
 *    lock that is held during zswap_invalidate(), an exclusive load or a store, which waits too if it fails.
 *    And a thread that has claims does not store, take or remove pages: for its own claims these calls do not wait.
 *
 * The place of a page on the file has one owner at a time:
 * - the writer, from zswap_writeback_begin() until zswap_writeback_end();
 * - after that the mark, as long as it is set: threads that hold the lock of the page may read the place;
 * - once rule 3 has cleared the mark, the thread that holds the lock of the page. It may write the place or free it.
 * Here each page has a place of its own. A program that allocates places keeps their numbers instead of marks, with 0
 * for none, under the same rules.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zsalloc.h>

enum { GUESTS = 4, PAGES = 4096, WRITERS = 2, BATCH = 32 };

/* The writers keep usage below this part of each limit. It is less than the accept_percent of the zswap, which is 90 by
 * default: once a limit was met, stores fail until usage is below that, so room for one page more is not enough. The
 * field bytes_to_go of struct zswap_usage tells how many bytes are. */
enum { TARGET_PERCENT = 80 };

struct page {
    pthread_mutex_t lock; /* Taken by all threads that store, load or remove the page, and by no writer: rules 5, 6. */
    atomic_bool on_file;  /* The mark. */
    uint32_t version;     /* What the page has to hold, 0: nothing. Only for the check; the lock guards it. */
};

struct guest {
    struct zswap_area *area; /* Its context is the guest. */
    struct page pages[PAGES];
};

static struct guest guests[GUESTS];
static struct zswap *zswap;
static uint64_t limit = 8 << 20;
static int file;
static atomic_bool threads_stop, writers_stop;
static atomic_uint versions, to_file, from_file, write_errors;
static pthread_mutex_t writers_lock = PTHREAD_MUTEX_INITIALIZER; /* Held during no call that may wait. */
static pthread_cond_t writers_wake = PTHREAD_COND_INITIALIZER;

/* The library's functions return 0, or a negative error number; zs_last_error() says what was wrong. */
static void check(int result, const char *what)
{
    if (result != 0)
        errx(2, "%s: %s", what, zs_last_error());
}

/* ---- The file ---- */

static off_t place(const struct guest *guest, uint64_t offset)
{
    return (off_t)(((uint64_t)(guest - guests) * PAGES + offset) * ZSWAP_PAGE_SIZE);
}

static int write_place(const struct guest *guest, uint64_t offset, const void *bytes)
{
    ssize_t written = pwrite(file, bytes, ZSWAP_PAGE_SIZE, place(guest, offset));
    if (written == ZSWAP_PAGE_SIZE) {
        atomic_fetch_add(&to_file, 1);
        return 0;
    }
    atomic_fetch_add(&write_errors, 1);
    if (written >= 0 || errno == EFBIG)
        return -ENOSPC; /* The file can't grow any further. */
    return -errno;
}

static int read_place(const struct guest *guest, uint64_t offset, void *bytes)
{
    atomic_fetch_add(&from_file, 1);
    return pread(file, bytes, ZSWAP_PAGE_SIZE, place(guest, offset)) == ZSWAP_PAGE_SIZE ? 0 : -EIO;
}

/* Gives the room back to the file system. Where that is impossible the old bytes stay, which does no harm. */
static void free_place(const struct guest *guest, uint64_t offset)
{
    (void)!fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, place(guest, offset), ZSWAP_PAGE_SIZE);
}

/* ---- What the guests' threads call, with the lock of the page held ---- */

/* Returns whether a limit is nearly met, so that pages have to go. No limit is UINT64_MAX. */
static bool is_full(const struct zswap_usage *usage)
{
    return usage->used_bytes > usage->max_bytes / 100 * TARGET_PERCENT;
}

/* zswap_usage() and zswap_area_usage() cost a few loads, so they may be called at each store. */
static bool zswap_is_full(void)
{
    struct zswap_usage usage = {.struct_size = sizeof usage};
    check(zswap_usage(zswap, &usage), "usage");
    return is_full(&usage);
}

static bool guest_is_full(const struct guest *guest)
{
    struct zswap_usage usage = {.struct_size = sizeof usage};
    check(zswap_area_usage(guest->area, &usage), "usage of an area");
    return is_full(&usage);
}

static void wake_writers(void)
{
    pthread_mutex_lock(&writers_lock);
    pthread_cond_broadcast(&writers_wake);
    pthread_mutex_unlock(&writers_lock);
}

/* Forgets the file's copy of a page, after a call that has waited for the page's claim: rule 3. */
static void forget_place(struct guest *guest, uint64_t offset)
{
    if (atomic_exchange(&guest->pages[offset].on_file, false))
        free_place(guest, offset);
}

/* Stores a page. An error means that neither zswap nor the file took it, and that the page before it is gone too: the
 * only copy is the caller's. */
static int page_store(struct guest *guest, uint64_t offset, const void *bytes)
{
    int result = zswap_store(guest->area, offset, bytes);
    if (guest_is_full(guest) || zswap_is_full())
        wake_writers();
    if (result == 0)
        return 0; /* The mark stays as it is: rule 4. */
    if (result != -ENOMEM && result != -ENOSPC)
        return result; /* A wrong argument: nothing has changed. */

    /* A limit is met, or the system has no memory. Whatever the file has is older than the page that is lost here. */
    forget_place(guest, offset);
    /* Waiting for room may take long. The place is this thread's now, so the page can go there without zswap. */
    result = write_place(guest, offset, bytes);
    if (result == 0)
        atomic_store(&guest->pages[offset].on_file, true);
    return result;
}

/* Loads a page, from zswap or from the file. -ENOENT: neither has it, and the guest's page is zeros. With
 * ZSWAP_LOAD_EXCLUSIVE the caller has the only copy afterwards. */
static int page_load(struct guest *guest, uint64_t offset, void *bytes, uint32_t flags)
{
    int result = zswap_load(guest->area, offset, bytes, flags);
    if (result == -ENOENT && atomic_load(&guest->pages[offset].on_file)) {
        result = read_place(guest, offset, bytes);
        check(zswap_area_refaulted(guest->area, 1), "noting a page that came back");
    }
    if (result == 0 && (flags & ZSWAP_LOAD_EXCLUSIVE) != 0)
        forget_place(guest, offset);
    return result;
}

/* Removes a page, from zswap and from the file. */
static void page_remove(struct guest *guest, uint64_t offset)
{
    check(zswap_invalidate(guest->area, offset, 1, 0), "removing a page");
    forget_place(guest, offset);
}

/* ---- The writer ---- */

/* Ends a claim. The result is that of the write: with 0 the page leaves zswap; with an error number it stays, and so
 * does the mark, which an older copy on the file may have set. */
static void end_claim(const struct zswap_claim *claim, int result)
{
    struct guest *guest = zswap_area_context(claim->area);
    if (result == 0)
        atomic_store(&guest->pages[claim->offset].on_file, true);
    check(zswap_writeback_end(claim, result, NULL), "ending a claim");
}

/* Claims pages of a guest that is near its own limit, or of all guests if zswap is near its limit. Returns how many. A
 * claim comes with the area of its page. All have their turn, because the writes of one guest may go on failing. */
static size_t claim_pages(size_t *turn, struct zswap_claim *claims, void *buffers)
{
    size_t count = 0;
    int result = 0;
    for (size_t i = 0; i <= GUESTS && count == 0 && result == 0; i++) {
        size_t now = (*turn)++ % (GUESTS + 1);
        if (now == GUESTS && zswap_is_full())
            result = zswap_writeback_begin(zswap, BATCH, claims, buffers, &count);
        if (now < GUESTS && guest_is_full(&guests[now]))
            result = zswap_writeback_begin_area(guests[now].area, BATCH, claims, buffers, &count);
    }
    if (result != -EBUSY) /* The other writers hold as many claims as there may be. */
        check(result, "claiming pages");
    return count;
}

/* Waits until pages have to go. Returns false when the writers have to end. */
static bool wait_for_work(void)
{
    pthread_mutex_lock(&writers_lock);
    for (;;) {
        bool full = zswap_is_full();
        for (size_t i = 0; i < GUESTS; i++)
            full = full || guest_is_full(&guests[i]);
        if (full || atomic_load(&writers_stop))
            break;
        pthread_cond_wait(&writers_wake, &writers_lock);
    }
    pthread_mutex_unlock(&writers_lock);
    return !atomic_load(&writers_stop);
}

static void rest(long milliseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL);
}

/* Claims pages, writes them and ends their claims, BATCH at a time. The writes are pwrite() in a thread of their own.
 * With io_uring one thread would be enough: it submits a write for each claim, calls end_claim() at the completion, in
 * whatever order these come, and claims more as long as it has buffers. */
static void *writer(void *pages)
{
    unsigned char (*buffers)[ZSWAP_PAGE_SIZE] = pages;
    struct zswap_claim claims[BATCH];
    for (size_t turn = 0; wait_for_work();) {
        size_t count = claim_pages(&turn, claims, buffers);
        bool failed = false;
        for (size_t i = 0; i < count; i++) {
            /* At the end of the program a claim that was not written is given up: the page stays in zswap. */
            int result = -EAGAIN;
            if (!atomic_load(&writers_stop))
                result = write_place(zswap_area_context(claims[i].area), claims[i].offset, buffers[i]);
            end_claim(&claims[i], result);
            failed = failed || result != 0;
        }
        if (failed)
            rest(100); /* A full or failing disk may recover: try again, but not at once. */
        else if (count == 0)
            rest(1); /* The pages that have to go are claimed by the other writer. */
    }
    return NULL;
}

/* ---- The guests, and the check of every page ---- */

static uint64_t random_number(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Makes the bytes of a version of a page, which compress to less than a half. */
static void make(uint64_t *words, size_t guest, uint64_t offset, uint32_t version)
{
    uint64_t state = (guest * PAGES + offset + 1) << 32 | version;
    for (size_t i = 0; i < ZSWAP_PAGE_SIZE / sizeof *words; i++)
        words[i] = i % 4 == 1 ? random_number(&state) : (uint64_t)version << 32 | i / 64;
}

/* Ends the program: the page is not what was stored last. */
static _Noreturn void mismatch(size_t guest, uint64_t offset, uint32_t version, const char *what)
{
    fprintf(stderr, "guest %zu, page %" PRIu64 ", version %" PRIu32 ": %s\n", guest, offset, version, what);
    _Exit(1); /* Other threads are still running. */
}

/* Loads a page and compares every byte of it. The caller holds the page's lock. */
static void verify(size_t number, uint64_t offset, uint32_t flags)
{
    uint64_t found[ZSWAP_PAGE_SIZE / sizeof(uint64_t)], expected[ZSWAP_PAGE_SIZE / sizeof(uint64_t)];
    uint32_t version = guests[number].pages[offset].version;
    int result = page_load(&guests[number], offset, found, flags);
    if (result != 0 && result != -ENOENT)
        mismatch(number, offset, version, zs_strerror(result));
    if (result == -ENOENT && version != 0)
        mismatch(number, offset, version, "the page is lost: neither zswap nor the file has it");
    if (result == 0 && version == 0)
        mismatch(number, offset, version, "a page that was removed is back");
    make(expected, number, offset, version);
    if (result == 0 && memcmp(found, expected, sizeof found) != 0)
        mismatch(number, offset, version, "the page has the bytes of another version, or none");
}

/* A thread of the guests: it stores, loads, takes and removes pages, some of them more often than others. */
static void *run_guests(void *seed)
{
    uint64_t state = (uintptr_t)seed * UINT64_C(0x9e3779b97f4a7c15), bytes[ZSWAP_PAGE_SIZE / sizeof(uint64_t)];
    while (!atomic_load(&threads_stop)) {
        uint64_t random = random_number(&state), offset = random % PAGES * (random >> 20 & 1023) / 1024;
        size_t number = random >> 30 & (GUESTS - 1), action = random >> 40 & 15;
        struct guest *guest = &guests[number];
        struct page *page = &guest->pages[offset];
        pthread_mutex_lock(&page->lock);
        if (action < 6) {
            page->version = atomic_fetch_add(&versions, 1) + 1;
            make(bytes, number, offset, page->version);
            if (page_store(guest, offset, bytes) != 0)
                page->version = 0; /* Neither took it. A hypervisor would leave the page with its guest. */
        } else if (action == 6) {
            page_remove(guest, offset);
            page->version = 0;
        } else if (action == 7) {
            verify(number, offset, ZSWAP_LOAD_EXCLUSIVE);
            page->version = 0;
        } else {
            verify(number, offset, 0);
        }
        pthread_mutex_unlock(&page->lock);
    }
    return NULL;
}

/* ---- Beginning, end and statistics ---- */

static void print_statistics(void)
{
    struct zswap_stats stats = {.struct_size = sizeof stats};
    const struct zswap_counts *counts = &stats.counts;
    check(zswap_stats(zswap, &stats), "statistics");
    printf("in memory        %" PRIu64 " pages\n",
           counts->compressed_pages + counts->raw_pages + counts->filled_pages);
    printf("slots            %.1f of %.1f MiB\n", (double)stats.used_bytes / (1 << 20), (double)limit / (1 << 20));
    printf("stored           %" PRIu64 "\n", counts->stores);
    printf("no room          %" PRIu64 "\n",
           counts->refused_limit + counts->refused_area_limit + counts->refused_memory);
    printf("loaded           %" PRIu64 "\n", counts->loads);
    printf("removed          %" PRIu64 "\n", counts->invalidated + counts->takes);
    printf("written back     %" PRIu64 ", and %" PRIu64 " that were used meanwhile\n", counts->written_back,
           counts->rescued + counts->overtaken);
    printf("to the file      %u\n", atomic_load(&to_file));
    printf("from the file    %u\n", atomic_load(&from_file));
    printf("write errors     %u\n", atomic_load(&write_errors));
}

static void start(uint64_t threads, pthread_t *ids, pthread_t *writer_ids, void *buffers)
{
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = limit};
    check(zswap_create(&options, &zswap), "zswap");
    const uint64_t limits[GUESTS] = {0, limit / 8, limit / 16, 0}; /* 0: no limit of its own. */
    for (size_t i = 0; i < GUESTS; i++) {
        struct zswap_area_options own = {.struct_size = sizeof own, .max_bytes = limits[i], .context = &guests[i]};
        check(zswap_add_area(zswap, PAGES, &own, &guests[i].area), "area");
        for (size_t page = 0; page < PAGES; page++)
            pthread_mutex_init(&guests[i].pages[page].lock, NULL);
    }
    for (size_t i = 0; i < WRITERS; i++)
        if (pthread_create(&writer_ids[i], NULL, writer, (char *)buffers + i * BATCH * ZSWAP_PAGE_SIZE) != 0)
            errx(2, "a thread can't be started");
    for (size_t i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, run_guests, (void *)(i + 1)) != 0)
            errx(2, "a thread can't be started");
}

/* First the threads that may wait for a claim, then the writers, which end all their claims, then the areas: an area
 * with a claim that has not ended can't be removed (-EBUSY). */
static void stop(uint64_t threads, const pthread_t *ids, const pthread_t *writer_ids)
{
    atomic_store(&threads_stop, true);
    for (size_t i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    atomic_store(&writers_stop, true);
    wake_writers();
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(writer_ids[i], NULL);
    for (size_t i = 0; i < GUESTS; i++)
        for (uint64_t offset = 0; offset < PAGES; offset++)
            verify(i, offset, 0);
    print_statistics();
    for (size_t i = 0; i < GUESTS; i++)
        check(zswap_remove_area(guests[i].area), "removing an area");
    check(zswap_destroy(zswap), "destroying the zswap");
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end != '\0' || value < 1 || value > most)
        errx(2, "%s is not a number from 1 to %" PRIu64, text, most);
    return value;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"seconds", 1, NULL, 's'}, {"threads", 1, NULL, 't'},
                                          {"limit", 1, NULL, 'l'}, {"file", 1, NULL, 'f'}, {NULL, 0, NULL, 0}};
    uint64_t seconds = 2, threads = 4;
    const char *path = "writeback.pages";
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (option == 's')
            seconds = number(optarg, 3600); /* `versions` must not wrap: few machines store 2^32 pages in an hour. */
        else if (option == 't')
            threads = number(optarg, 256);
        else if (option == 'l')
            limit = number(optarg, 1024) << 20;
        else if (option == 'f')
            path = optarg;
        if (option == '?')
            errx(2, "usage: writeback [--seconds N] [--threads N] [--limit MIB] [--file NEW_FILE]");
    }
    /* Unlinked at once: its contents mean nothing without this process. */
    if ((file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0 || unlink(path) != 0)
        err(2, "%s", path);
    signal(SIGXFSZ, SIG_IGN); /* A file that may not grow is an error of pwrite(), not the end of the program. */
    pthread_t ids[256], writer_ids[WRITERS];
    void *buffers = malloc((size_t)WRITERS * BATCH * ZSWAP_PAGE_SIZE);
    if (buffers == NULL)
        errx(2, "no memory");
    start(threads, ids, writer_ids, buffers);
    sleep((unsigned)seconds);
    stop(threads, ids, writer_ids);
    free(buffers);
    close(file);
    return 0;
}
