/* Each system call of each function of a pager, and of touches of its regions, is refused in turn: see
   refuse_each.h. */
#define _GNU_SOURCE
#include "pager.h"
#include "refuse_each.h"
#include "tier.h"

enum { RESIDENT = 16, REGION = 32, ROOM = 1 << 16 };

static struct zspager_options options;
static struct zspager *pager, *other_pager;
static unsigned char *memory, *other_memory;
static uint64_t region, other_region;
static int file = -1, of_region = -1;
static int is_shared, has_threads;
static unsigned char pages[REGION][PAGE];
static struct lent lent[2];

/* Checks that a failed creation left a sentence that says what to do. */
static int said(int result)
{
    CHECK(result == 0 || strlen(zs_last_error()) > 15);
    return result;
}

/* Lends its thread again when a refused system call made zspager_run() return. */
static void *lend_again(void *argument)
{
    struct lent *self = argument;
    int result;
    while ((result = zspager_run(self->pager, self->duty)) != 0)
        CHECK(may_be_result(&(struct act){.allowed = -EIO}, result));
    return NULL;
}

static void lend_threads(void)
{
    for (size_t at = 0; has_threads && at < 2; at++) {
        lent[at] = (struct lent){.pager = pager, .duty = at == 0 ? ZSPAGER_RUN_SERVE : ZSPAGER_RUN_EVICT};
        CHECK(pthread_create(&lent[at].thread, NULL, lend_again, &lent[at]) == 0);
    }
}

static void end_threads(void)
{
    OK(zspager_stop(pager));
    for (size_t at = 0; has_threads && at < 2; at++)
        CHECK(pthread_join(lent[at].thread, NULL) == 0);
    OK(zspager_resume(pager));
}

/* Maps and fills memory for a region. `at`: its offset in the memory file. */
static unsigned char *memory_for_region(size_t at)
{
    unsigned char *new = is_shared ? mmap(NULL, REGION * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, of_region, (off_t)at)
                                   : memory_of(REGION);
    CHECK(new != MAP_FAILED);
    for (size_t page = 0; page < REGION; page++)
        memcpy(new + page * PAGE, pages[page], PAGE);
    return new;
}

static int add_region_of(void *at, size_t offset, uint64_t *number)
{
    struct zspager_region_options of = {.struct_size = sizeof of};
    if (is_shared) {
        of.flags = ZSPAGER_REGION_SHARED;
        of.shared_fd = of_region;
        of.shared_offset = offset;
    }
    return zspager_add_region(pager, at, REGION * PAGE, &of, number);
}

static void check_memory(const unsigned char *at)
{
    for (size_t page = 0; page < REGION; page++)
        CHECK(memcmp(at + page * PAGE, pages[page], PAGE) == 0);
}

static void check_region(void)
{
    check_memory(memory);
}

static int create_pager(void)
{
    return other_pager != NULL ? 0 : said(zspager_create("other", &options, &other_pager));
}

static void make_pager(void)
{
    OK(said(zspager_create("refused", &options, &pager)));
    /* What a codec needs is kept. */
    OK(zspager_set_codec(pager, ZSWAP_CODEC_ZSTD, 1));
    OK(zspager_set_codec(pager, ZSWAP_CODEC_LZ4, 0));
    lend_threads();
    memory = memory_for_region(0);
    OK(add_region_of(memory, 0, &region));
    check_region();
}

static void unmake_pager(void)
{
    OK(zspager_remove_region(pager, region, 0));
    check_region();
    end_threads();
    OK(zspager_destroy(pager));
    CHECK(real_munmap(memory, REGION * PAGE) == 0);
}

/* Counts held pages, of which none may be left. */
static uint64_t pages_of_pager(void)
{
    uint64_t freed = 0;
    OK(zspager_compact(pager, NULL, &freed));
    /* The number of stored pages depends on which pages are in memory, so it is not compared. */
    return pager_stats_of(pager).held_bytes / PAGE;
}

static int destroy_other_pager(void)
{
    int result = other_pager == NULL ? 0 : zspager_destroy(other_pager);
    if (result == 0)
        other_pager = NULL;
    return result;
}

static void undo_create_pager(void)
{
    OK(destroy_other_pager());
}

static void make_other_pager(void)
{
    OK(create_pager());
}

/* Creates a pager with a region that its destruction must bring back. */
static void make_other_pager_in_use(void)
{
    OK(create_pager());
    if (has_threads)
        return;
    other_memory = memory_of(REGION);
    for (size_t page = 0; page < REGION; page++)
        memcpy(other_memory + page * PAGE, pages[page], PAGE);
    OK(zspager_add_region(other_pager, other_memory, REGION * PAGE, NULL, &other_region));
}

static void undo_destroy(void)
{
    if (has_threads)
        return;
    check_memory(other_memory);
    CHECK(real_munmap(other_memory, REGION * PAGE) == 0);
}

static void prepare_add_region(void)
{
    other_memory = memory_for_region(REGION * PAGE);
    other_region = 0;
}

static int add_region(void)
{
    int result = other_region != 0 ? 0 : add_region_of(other_memory, REGION * PAGE, &other_region);
    check_memory(other_memory);
    return result;
}

static int remove_region(void)
{
    int result = other_region == 0 ? 0 : zspager_remove_region(pager, other_region, 0);
    if (result == 0)
        other_region = 0;
    check_memory(other_memory);
    return result;
}

static void undo_add_region(void)
{
    check_memory(other_memory);
    OK(remove_region());
    check_memory(other_memory);
    CHECK(real_munmap(other_memory, REGION * PAGE) == 0);
}

static void prepare_remove_region(void)
{
    prepare_add_region();
    OK(add_region());
}

static void undo_remove_region(void)
{
    check_memory(other_memory);
    CHECK(real_munmap(other_memory, REGION * PAGE) == 0);
}

static int discard_region(void)
{
    int result = other_region == 0 ? 0 : zspager_remove_region(pager, other_region, ZSPAGER_DISCARD);
    if (result == 0)
        other_region = 0;
    return result;
}

static void undo_discard_region(void)
{
    static const unsigned char zeros[PAGE];
    for (size_t page = 0; page < REGION; page++)
        CHECK(is_page(other_memory + page * PAGE, page) || memcmp(other_memory + page * PAGE, zeros, PAGE) == 0);
    CHECK(real_munmap(other_memory, REGION * PAGE) == 0);
}

/* Tries again to evict pages that the system refused to let go. */
static void settle(void)
{
    OK(zspager_set_resident_limit(pager, RESIDENT * PAGE));
}

static int read_region(void)
{
    check_region();
    return 0;
}

static int write_region(void)
{
    for (size_t page = 0; page < REGION; page++)
        memcpy(memory + page * PAGE, pages[page], PAGE);
    return 0;
}

/* Reads first, so that pages are in memory and protected, and writes then. */
static int read_and_write_region(void)
{
    for (size_t page = 0; page < REGION; page++) {
        CHECK(memcmp(memory + page * PAGE, pages[page], PAGE) == 0);
        volatile unsigned char *byte = memory + page * PAGE;
        *byte = *byte;
    }
    return 0;
}

static int is_held;

static int hold(void)
{
    int result = is_held ? 0 : zspager_hold(pager, memory + 3 * PAGE, 2 * PAGE);
    is_held = result == 0;
    return result;
}

static void make_hold(void)
{
    OK(hold());
}

static int release(void)
{
    int result = !is_held ? 0 : zspager_release(pager, memory + 3 * PAGE, 2 * PAGE);
    is_held = result != 0;
    return result;
}

static void undo_hold(void)
{
    CHECK(is_page(memory + 3 * PAGE, 3) && is_page(memory + 4 * PAGE, 4));
    OK(release());
}

/* Prepares a region, some of which is in memory, to discard a part of it. */
static void prepare_discard(void)
{
    prepare_remove_region();
    for (size_t page = 0; page < 4; page++)
        CHECK(is_page(other_memory + page * PAGE, page));
}

static int discard(void)
{
    return zspager_discard(pager, other_memory, REGION / 2 * PAGE);
}

static void undo_discard(void)
{
    static const unsigned char zeros[PAGE];
    for (size_t page = 0; page < REGION / 2; page++)
        CHECK(memcmp(other_memory + page * PAGE, zeros, PAGE) == 0);
    for (size_t page = REGION / 2; page < REGION; page++)
        CHECK(is_page(other_memory + page * PAGE, page));
    OK(zspager_remove_region(pager, other_region, 0));
    other_region = 0;
    CHECK(real_munmap(other_memory, REGION * PAGE) == 0);
}

static void bring_in(void)
{
    OK(zspager_set_resident_limit(pager, 2 * REGION * PAGE));
    check_region();
}

static int lower_limit(void)
{
    return zspager_set_resident_limit(pager, RESIDENT * PAGE);
}

static int evict(void)
{
    uint64_t evicted = 0;
    return zspager_evict(pager, REGION / 2, &evicted);
}

static int limits(void)
{
    OK(zspager_set_pool_limit(pager, 8 * MIB));
    OK(zspager_set_pool_limit(pager, 0));
    OK(zspager_set_kept_copies(pager, 20));
    return zspager_set_kept_copies(pager, 10);
}

static int set_codec(void)
{
    OK(zspager_set_codec(pager, ZSWAP_CODEC_ZSTD, 1));
    return zspager_set_codec(pager, ZSWAP_CODEC_LZ4, 0);
}

static int set_file(void)
{
    return zspager_set_backing_file(pager, file, 4 * MIB);
}

static void make_file(void)
{
    OK(set_file());
}

static int write_back(void)
{
    uint64_t written = 0;
    int result = zspager_write_back(pager, REGION / 4, &written);
    return result == -ENOENT ? 0 : result;
}

/* Removes the backing file when no page is on it. */
static void undo_file(void)
{
    OK(zspager_discard(pager, memory, REGION * PAGE));
    write_region();
    OK(zspager_set_backing_file(pager, -1, 0));
}

static void make_pages_on_file(void)
{
    OK(set_file());
    OK(write_back());
}

static struct shelf shelf;
static uint32_t tier = 77;

/* A handler may not call a tier, so a pager without threads takes none. */
static int add_tier(void)
{
    return !has_threads || tier != 77 ? 0 : zspager_add_tier(pager, &shelf_ops, &shelf, NULL, &tier);
}

static int add_file_tier(void)
{
    return tier != 77 ? 0 : zspager_add_file_tier(pager, "file", file, 4 * MIB, &tier);
}

static int remove_tier(void)
{
    int result = tier == 77 ? 0 : zspager_remove_tier(pager, tier);
    if (result == 0)
        tier = 77;
    return result;
}

static void prepare_remove_tier(void)
{
    OK(add_file_tier());
}

/* Lets pages go to the tier and come back. */
static void undo_add_tier(void)
{
    struct zswap_tier_stats stats = {.struct_size = sizeof stats};
    if (tier == 77)
        return;
    settle();
    OK(write_back());
    OK(zspager_tier_stats(pager, tier, &stats));
    CHECK(stats.puts > 0);
    check_region();
    OK(zspager_discard(pager, memory, REGION * PAGE));
    write_region();
    OK(remove_tier());
}

static int compact(void)
{
    uint64_t freed = 0;
    return zspager_compact(pager, NULL, &freed);
}

static int ask(void)
{
    static char text[ROOM];
    size_t length = 0;
    uint64_t nanoseconds = 0;
    int fd = -1;
    struct zspager_stats stats = {.struct_size = sizeof stats};
    OK(zspager_descriptor(pager, &fd));
    OK(zspager_latency_permille(pager, 999, &nanoseconds));
    OK(zspager_stats(pager, &stats));
    return zspager_stats_json(pager, text, ROOM, &length);
}

/* Lends threads and stops them while they serve. */
static int run(void)
{
    end_threads();
    lend_threads();
    check_region();
    return 0;
}

/* Acts whose system calls differ between kinds of pagers. */
static const struct act acts[] = {
    {"zspager_create", NULL, create_pager, undo_create_pager, 0, 0},
    {"zspager_add_region", prepare_add_region, add_region, undo_add_region, 3, -EINVAL},
    {"zspager_remove_region", prepare_remove_region, remove_region, undo_remove_region, 3, 0},
    {"zspager_remove_region, ZSPAGER_DISCARD", prepare_remove_region, discard_region, undo_discard_region, 3, 0},
    {"touches that read", NULL, read_region, settle, 3, 0},
    {"touches that read and write", NULL, read_and_write_region, settle, 3, 0},
    {"zspager_run, _stop, _resume", NULL, run, settle, 3, 0},
    {"zspager_hold", NULL, hold, undo_hold, 3, 0},
    {"zspager_discard", prepare_discard, discard, undo_discard, 3, 0},
    {"zspager_evict", bring_in, evict, settle, 0, 0},
    {"zspager_add_tier", NULL, add_tier, undo_add_tier, 0, 0},
    {"touches of pages on the file", make_pages_on_file, read_region, undo_file, 3, 0},
};

/* Acts whose system calls are the same for all pagers. */
static const struct act other_acts[] = {
    {"zspager_destroy", make_other_pager, destroy_other_pager, NULL, 0, 0},
    {"zspager_destroy, with a region", make_other_pager_in_use, destroy_other_pager, undo_destroy, 3, 0},
    {"touches that write", NULL, write_region, settle, 3, 0},
    {"zspager_release", make_hold, release, NULL, 3, 0},
    {"zspager_set_resident_limit", bring_in, lower_limit, settle, 0, 0},
    {"zspager_set_pool_limit, _kept_copies", NULL, limits, NULL, 0, 0},
    {"zspager_set_codec", NULL, set_codec, NULL, 0, 0},
    {"zspager_set_backing_file", NULL, set_file, undo_file, 0, 0},
    {"zspager_add_file_tier", NULL, add_file_tier, undo_add_tier, 0, 0},
    {"zspager_remove_tier", prepare_remove_tier, remove_tier, NULL, 0, 0},
    {"zspager_write_back", make_file, write_back, undo_file, 0, -EIO},
    {"zspager_compact", NULL, compact, NULL, 0, 0},
    {"zspager_stats and the like", NULL, ask, NULL, 0, 0},
};

static void refuse_in_pager(const char *name, const struct act *of, size_t count, uint32_t fault_mode,
                            uint32_t eviction, int shared)
{
    static struct zs_pool_options pool = {.struct_size = sizeof pool, .max_bytes = 16 * MIB};
    static struct zswap_tuning zswap = {.struct_size = sizeof zswap, .pool = &pool};
    static struct zspager_tuning tuning;
    tuning = (struct zspager_tuning){
        .struct_size = sizeof tuning, .max_held_bytes = 8 * PAGE, .zswap = &zswap};
    options = (struct zspager_options){.struct_size = sizeof options, .resident_bytes = RESIDENT * PAGE,
                                       .fault_mode = fault_mode, .eviction = eviction, .tuning = &tuning};
    is_shared = shared;
    has_threads = fault_mode == ZSPAGER_FAULT_THREADS;
    refuse_in(name, make_pager, of, count, unmake_pager, check_region, pages_of_pager);
}

static void *wait_for_others(void *barrier)
{
    pthread_barrier_wait(barrier);
    return NULL;
}

/* Makes the C library allocate stacks, which it keeps after the threads have ended. */
static void make_stacks(void)
{
    pthread_barrier_t barrier;
    pthread_t threads[2];
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    for (size_t at = 0; at < 2; at++)
        CHECK(pthread_create(&threads[at], NULL, wait_for_others, &barrier) == 0);
    for (size_t at = 0; at < 2; at++)
        CHECK(pthread_join(threads[at], NULL) == 0);
}

int main(int count, char **arguments)
{
    /* The scene to run; all of them without an argument. */
    const char *only = count > 1 ? arguments[1] : NULL;
    struct zspager *first = NULL;
    static const struct {
        const char *name;
        uint32_t fault_mode, flags;
        int shared;
    } scenes[] = {
        {"pager", ZSPAGER_FAULT_SIGBUS, 0, 0},
        {"pager in place", ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE, 0},
        {"pager of a memory file", ZSPAGER_FAULT_SIGBUS, 0, 1},
        {"pager with threads", ZSPAGER_FAULT_THREADS, 0, 0},
        {"pager with threads, in place", ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_IN_PLACE, 0},
        {"pager with threads, of a memory file", ZSPAGER_FAULT_THREADS, 0, 1},
    };
    file = memfd_create("backing", MFD_CLOEXEC);
    of_region = memfd_create("region", MFD_CLOEXEC);
    CHECK(file >= 0 && of_region >= 0 && ftruncate(of_region, 2 * REGION * PAGE) == 0);
    for (size_t page = 0; page < REGION; page++)
        make_page(pages[page], page);
    make_stacks();
    open_shelf(&shelf);
    /* The SIGBUS handler, and what its installation allocated, stay in the process. */
    first = pager_with(RESIDENT, ZSPAGER_FAULT_SIGBUS, 0);
    OK(zspager_destroy(first));
    for (size_t at = 0; at < sizeof scenes / sizeof *scenes; at++)
        if (only == NULL || strcmp(only, scenes[at].name) == 0)
            refuse_in_pager(scenes[at].name, acts, sizeof acts / sizeof *acts, scenes[at].fault_mode, scenes[at].flags,
                            scenes[at].shared);
    if (only == NULL || strcmp(only, "other calls") == 0)
        refuse_in_pager("other calls of a pager", other_acts, sizeof other_acts / sizeof *other_acts,
                        ZSPAGER_FAULT_SIGBUS, 0, 0);
    CHECK(real_close(file) == 0 && real_close(of_region) == 0);
    return 0;
}
