/* Wrong arguments are refused with the documented error, and nothing changes. */
#include "pager.h"

static struct zspager *pager;
static unsigned char *memory;
static uint64_t region;

static void no_pointers(void)
{
    uint64_t number = 7;
    size_t length = 7;
    int fd = 7;
    struct zspager_stats stats = {.struct_size = sizeof stats};
    struct zspager *none = (void *)&number;
    struct zswap_tier_ops ops = {.struct_size = sizeof ops};
    struct zswap_tier_stats tier_stats = {.struct_size = sizeof tier_stats};
    uint32_t tier = 7;
    RESULT(zspager_create(NULL, NULL, &none), -EINVAL);
    RESULT(zspager_create("test", NULL, NULL), -EINVAL);
    CHECK(none == (void *)&number);
    RESULT(zspager_destroy(NULL), -EINVAL);
    RESULT(zspager_add_region(NULL, memory, PAGE, NULL, &number), -EINVAL);
    RESULT(zspager_add_region(pager, NULL, PAGE, NULL, &number), -EINVAL);
    RESULT(zspager_add_region(pager, memory, PAGE, NULL, NULL), -EINVAL);
    RESULT(zspager_remove_region(NULL, 1, 0), -EINVAL);
    RESULT(zspager_set_resident_limit(NULL, 0), -EINVAL);
    RESULT(zspager_set_pool_limit(NULL, 0), -EINVAL);
    RESULT(zspager_set_codec(NULL, 0, 0), -EINVAL);
    RESULT(zspager_set_kept_copies(NULL, 0), -EINVAL);
    RESULT(zspager_set_backing_file(NULL, -1, 0), -EINVAL);
    RESULT(zspager_add_tier(NULL, &ops, NULL, NULL, &tier), -EINVAL);
    RESULT(zspager_add_tier(pager, NULL, NULL, NULL, &tier), -EINVAL);
    RESULT(zspager_add_tier(pager, &ops, NULL, NULL, NULL), -EINVAL);
    RESULT(zspager_add_file_tier(NULL, "", -1, MIB, &tier), -EINVAL);
    RESULT(zspager_add_file_tier(pager, NULL, -1, MIB, &tier), -EINVAL);
    RESULT(zspager_add_file_tier(pager, "", -1, MIB, NULL), -EINVAL);
    RESULT(zspager_remove_tier(NULL, 0), -EINVAL);
    RESULT(zspager_tier_stats(NULL, 0, &tier_stats), -EINVAL);
    RESULT(zspager_tier_stats(pager, 0, NULL), -EINVAL);
    RESULT(zspager_write_back(NULL, 1, &number), -EINVAL);
    RESULT(zspager_write_back(pager, 1, NULL), -EINVAL);
    RESULT(zspager_compact(NULL, NULL, &number), -EINVAL);
    RESULT(zspager_compact(pager, NULL, NULL), -EINVAL);
    RESULT(zspager_evict(NULL, 1, &number), -EINVAL);
    RESULT(zspager_evict(pager, 1, NULL), -EINVAL);
    RESULT(zspager_hold(NULL, memory, PAGE), -EINVAL);
    RESULT(zspager_hold(pager, NULL, PAGE), -EINVAL);
    RESULT(zspager_release(NULL, memory, PAGE), -EINVAL);
    RESULT(zspager_release(pager, NULL, PAGE), -EINVAL);
    RESULT(zspager_discard(NULL, memory, PAGE), -EINVAL);
    RESULT(zspager_discard(pager, NULL, PAGE), -EINVAL);
    RESULT(zspager_run(NULL, 0), -EINVAL);
    RESULT(zspager_stop(NULL), -EINVAL);
    RESULT(zspager_resume(NULL), -EINVAL);
    RESULT(zspager_descriptor(NULL, &fd), -EINVAL);
    RESULT(zspager_descriptor(pager, NULL), -EINVAL);
    RESULT(zspager_stats(NULL, &stats), -EINVAL);
    RESULT(zspager_stats(pager, NULL), -EINVAL);
    RESULT(zspager_latency_permille(NULL, 500, &number), -EINVAL);
    RESULT(zspager_latency_permille(pager, 500, NULL), -EINVAL);
    RESULT(zspager_stats_json(NULL, NULL, 0, &length), -EINVAL);
    RESULT(zspager_stats_json(pager, NULL, 0, NULL), -EINVAL);
    RESULT(zspager_stats_json(pager, NULL, 1, &length), -EINVAL);
    CHECK(number == 7 && length == 7 && fd == 7 && tier == 7);
}

static void refused(struct zspager_options *options)
{
    struct zspager *none = NULL;
    RESULT(zspager_create("test", options, &none), -EINVAL);
    CHECK(none == NULL && strlen(zs_last_error()) > 10);
}

/* Sets one option to a wrong value, and leaves all others at their defaults. */
#define WRONG(option)                                                                                                  \
    do {                                                                                                               \
        options = none;                                                                                                \
        tuning = no_tuning;                                                                                            \
        option;                                                                                                        \
        refused(&options);                                                                                             \
    } while (0)

static void wrong_options(void)
{
    struct zspager_tuning no_tuning = {.struct_size = sizeof no_tuning}, tuning = no_tuning;
    struct zspager_options none = {.struct_size = sizeof none, .tuning = &tuning}, options = none;
    struct zswap_tuning zswap = {.struct_size = sizeof zswap, .accept_percent = 101};
    struct zspager *made = NULL;
    WRONG(options.fault_mode = 2);
    WRONG(options.resident_bytes = 65535);
    WRONG(options.pool_bytes = 4111);
    WRONG(options.codec = 99);
    WRONG(options.level = 1);
    WRONG(options.reserved[3] = 1);
    WRONG(tuning.staged_percent = 91);
    WRONG(tuning.staged_percent = 300);
    WRONG(tuning.max_held_bytes = 4095);
    WRONG(tuning.max_regions = 65537);
    WRONG(tuning.reserved[7] = 1);
    WRONG(tuning.zswap = &zswap);
    WRONG(tuning.struct_size = 0);
    WRONG(options.eviction = 3);
    options.eviction = ZSPAGER_EVICT_MOVING_BESIDE_SWAP;
    tuning = no_tuning;
    OK(zspager_create("test", &options, &made));
    RESULT(zspager_set_resident_limit(made, 65535), -EINVAL);
    OK(zspager_destroy(made));
    options = none;
    options.struct_size = 0;
    RESULT(zspager_create("test", &options, &made), -EINVAL);
    options.struct_size = sizeof options + 1;
    RESULT(zspager_create("test", &options, &made), -EINVAL);
    /* An older program's struct is shorter. */
    options.struct_size = 24;
    OK(zspager_create("test", &options, &made));
    OK(zspager_destroy(made));

    struct zspager_stats stats = {.struct_size = 4};
    RESULT(zspager_stats(pager, &stats), -EINVAL);
    stats.struct_size = 24;
    stats.staged_bytes = 77;
    OK(zspager_stats(pager, &stats));
    CHECK(stats.staged_bytes == 77 && stats.resident_limit_bytes == LIMIT * PAGE);
}

static void wrong_regions(void)
{
    uint64_t number = 7;
    RESULT(zspager_add_region(pager, memory + 1, PAGE, NULL, &number), -EINVAL);
    RESULT(zspager_add_region(pager, memory, PAGE + 1, NULL, &number), -EINVAL);
    RESULT(zspager_add_region(pager, memory, 0, NULL, &number), -EINVAL);
    RESULT(zspager_add_region(pager, memory, PAGE, NULL, &number), -EINVAL);
    RESULT(zspager_add_region(pager, memory + PAGE, 2 * PAGE, NULL, &number), -EINVAL);
    unsigned char *other = memory_of(4);
    struct zspager_region_options none = {.struct_size = sizeof none}, options = none;
    options.flags = 2 * ZSPAGER_REGION_SETTLED;
    RESULT(zspager_add_region(pager, other, 4 * PAGE, &options, &number), -EINVAL);
    options = none;
    options.shared_offset = PAGE;
    RESULT(zspager_add_region(pager, other, 4 * PAGE, &options, &number), -EINVAL);
    options = none;
    options.reserved[0] = 1;
    RESULT(zspager_add_region(pager, other, 4 * PAGE, &options, &number), -EINVAL);
    options = none;
    options.flags = ZSPAGER_REGION_SHARED;
    options.shared_fd = -1;
    CHECK(zspager_add_region(pager, other, 4 * PAGE, &options, &number) < 0);
    CHECK(munmap(other, 4 * PAGE) == 0);
    /* Nothing is ever mapped at so low an address. */
    CHECK(zspager_add_region(pager, (void *)(uintptr_t)PAGE, 4 * PAGE, NULL, &number) < 0);
    CHECK(number == 7);
    RESULT(zspager_remove_region(pager, 0, 0), -ENOENT);
    RESULT(zspager_remove_region(pager, region + 1, 0), -ENOENT);
    RESULT(zspager_remove_region(pager, UINT64_MAX, 0), -ENOENT);
    RESULT(zspager_remove_region(pager, region, 2), -EINVAL);
    RESULT(zspager_hold(pager, memory + 7 * PAGE, 2 * PAGE), -EINVAL);
    RESULT(zspager_discard(pager, memory + 7 * PAGE, 2 * PAGE), -EINVAL);
    RESULT(zspager_discard(pager, memory + 1, PAGE), -EINVAL);
    CHECK(pager_stats_of(pager).held_bytes == 0 && pager_stats_of(pager).regions == 1);
}

/* Each cause of a refused region has a sentence of its own. */
static void causes(void)
{
    static unsigned char initialised[4 * PAGE] = {1};
    uint64_t number = 7;
    unsigned char *at = initialised + (-(uintptr_t)initialised & (PAGE - 1)), *other = memory_of(4), on_stack[3 * PAGE];
    unsigned char *stack_page = on_stack + (-(uintptr_t)on_stack & (PAGE - 1)), *from_malloc = malloc(8 * PAGE);
    CHECK(from_malloc != NULL);
    unsigned char *heap = from_malloc + (-(uintptr_t)from_malloc & (PAGE - 1));
    unsigned char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned char *read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED && read_only != MAP_FAILED && munmap(other + PAGE, PAGE) == 0);
    on_stack[0] = 1;
    struct {
        unsigned char *at;
        size_t bytes;
        const char *sentence;
    } wrong[] = {
        {other + 1, PAGE, "whole pages of 4096 bytes"},
        {other, 3 * PAGE, "is not mapped"},
        {memory, PAGE, "in another region already"},
        {at, PAGE, "variables with initial values"},
        {stack_page, PAGE, "stack"},
        {heap, PAGE, "malloc"},
        {shared, PAGE, "shared memory"},
        {read_only, PAGE, "readable and writable"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        /* A sanitizer's malloc() maps memory of its own, which a region could have. */
        if (wrong[i].at == heap && getenv("ZSALLOC_C_TESTS") != NULL)
            continue;
        RESULT(zspager_add_region(pager, wrong[i].at, wrong[i].bytes, NULL, &number), -EINVAL);
        if (strstr(zs_last_error(), wrong[i].sentence) == NULL) {
            fprintf(stderr, "%s: %s\n", wrong[i].sentence, zs_last_error());
            exit(1);
        }
    }
    CHECK(number == 7 && munmap(other, PAGE) == 0 && munmap(other + 2 * PAGE, 2 * PAGE) == 0);
    CHECK(munmap(shared, PAGE) == 0 && munmap(read_only, PAGE) == 0);
    free(from_malloc);
    REFUSED(zspager_map(NULL, PAGE, NULL, &number), -EINVAL);
    REFUSED(zspager_map(pager, 0, NULL, &number), -EINVAL);
    REFUSED(zspager_map(pager, SIZE_MAX, NULL, &number), -ENOMEM);
    REFUSED(zspager_map(pager, SIZE_MAX - PAGE, NULL, &number), -ENOMEM);
    struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED};
    REFUSED(zspager_map(pager, PAGE, &options, &number), -EINVAL);
    RESULT(zspager_unmap(NULL, region, memory, PAGE), -EINVAL);
    RESULT(zspager_unmap(pager, region, NULL, PAGE), -EINVAL);
    RESULT(zspager_unmap(pager, 0, &number, PAGE), -ENOENT);
    RESULT(zspager_unmap(pager, region + 1, memory, PAGE), -ENOENT);
    CHECK(number == 7 && pager_stats_of(pager).regions == 1);
}

/* Variables without initial values are anonymous memory, as the header says, and can be a region. */
static void variables_without_values(void)
{
    static unsigned char variables[5 * PAGE];
    unsigned char *at = variables + (-(uintptr_t)variables & (PAGE - 1));
    uint64_t number, evicted;
    OK(zspager_add_region(pager, at, 4 * PAGE, NULL, &number));
    for (size_t page = 0; page < 4; page++)
        make_page(at + page * PAGE, page);
    OK(zspager_evict(pager, 4, &evicted));
    CHECK(evicted > 0);
    for (size_t page = 0; page < 4; page++)
        CHECK(is_page(at + page * PAGE, page));
    OK(zspager_remove_region(pager, number, 0));
    CHECK(is_page(at, 0));
}

static void wrong_numbers(void)
{
    uint64_t number = 7;
    RESULT(zspager_set_codec(pager, 9, 0), -EINVAL);
    RESULT(zspager_set_kept_copies(pager, 101), -EINVAL);
    RESULT(zspager_set_kept_copies(pager, 256), -EINVAL);
    RESULT(zspager_set_backing_file(pager, 9999, MIB), -EINVAL);
    RESULT(zspager_set_backing_file(pager, -1, MIB), -EINVAL);
    RESULT(zspager_write_back(pager, 1, &number), -EINVAL);
    RESULT(zspager_run(pager, 4), -EINVAL);
    RESULT(zspager_run(pager, UINT32_MAX), -EINVAL);
    RESULT(zspager_latency_permille(pager, 1001, &number), -EINVAL);
    CHECK(number == 7);
}

static void lent_threads(void)
{
    struct lent lent;
    int fd = -1;
    lend(&lent, pager, ZSPAGER_RUN_SERVE);
    OK(zspager_descriptor(pager, &fd));
    CHECK(fd >= 0);
    give_back(&lent, 1);
    OK(zspager_stop(pager));
    OK(zspager_run(pager, ZSPAGER_RUN_ALL));
    OK(zspager_resume(pager));
    OK(zspager_remove_region(pager, region, ZSPAGER_DISCARD));
    RESULT(zspager_remove_region(pager, region, 0), -ENOENT);
}

/* The number of a removed region is refused, even after others were added. */
static void stale_numbers(void)
{
    unsigned char *first = memory_of(4), *second = memory_of(4);
    uint64_t stale, old, new;
    OK(zspager_add_region(pager, first, 4 * PAGE, NULL, &old));
    stale = old;
    OK(zspager_remove_region(pager, old, 0));
    for (int round = 0; round < 20; round++) {
        uint64_t evicted;
        memset(second, 1 + round, 4 * PAGE);
        OK(zspager_add_region(pager, second, 4 * PAGE, NULL, &new));
        CHECK(new != 0 && new != stale && new != old);
        while (zspager_evict(pager, 4, &evicted) == 0 && evicted > 0)
            ;
        RESULT(zspager_remove_region(pager, stale, ZSPAGER_DISCARD), -ENOENT);
        RESULT(zspager_remove_region(pager, old, ZSPAGER_DISCARD), -ENOENT);
        RESULT(zspager_remove_region(pager, old, 0), -ENOENT);
        CHECK(pager_stats_of(pager).regions == 1);
        OK(zspager_remove_region(pager, new, 0));
        RESULT(zspager_remove_region(pager, new, 0), -ENOENT);
        for (int i = 0; i < 4 * PAGE; i++)
            CHECK(second[i] == 1 + round);
        old = new;
    }
    CHECK(munmap(first, 4 * PAGE) == 0 && munmap(second, 4 * PAGE) == 0);
}

int main(void)
{
    pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, 0);
    memory = memory_of(8);
    region = region_of(pager, memory, 8);
    for (size_t page = 0; page < 8; page++)
        make_page(memory + page * PAGE, page);
    no_pointers();
    wrong_options();
    wrong_regions();
    causes();
    variables_without_values();
    wrong_numbers();
    for (size_t page = 0; page < 8; page++)
        CHECK(is_page(memory + page * PAGE, page));
    lent_threads();
    stale_numbers();
    OK(zspager_destroy(pager));
    memset(memory, 1, 8 * PAGE);
    CHECK(munmap(memory, 8 * PAGE) == 0);
    puts("zspager_misuse: ok");
    return 0;
}
