/* Structs of programs that were compiled against an older or a newer header. */
#include "check.h"

/* The options as the first version had them. */
struct old_options {
    size_t struct_size;
    uint64_t max_bytes;
};

struct old_stats {
    size_t struct_size;
    uint64_t max_bytes;
    uint64_t objects;
    /* Not part of the options: memory of the program behind them. */
    uint64_t behind;
};

/* The options as a later version may have them. */
struct new_options {
    struct zs_pool_options known;
    uint64_t more[8];
};

struct new_tuning {
    struct zs_pool_tuning known;
    uint64_t more[8];
};

struct new_budget {
    struct zs_compact_budget known;
    uint64_t more[3];
};

struct new_stats {
    struct zs_pool_stats known;
    uint64_t more[5];
    uint64_t behind;
};

static void older_options(void)
{
    struct old_options options = {sizeof options, 8 * MIB};
    struct zs_pool *pool;
    OK(zs_create_pool("old", (struct zs_pool_options *)&options, &pool));
    CHECK(stats_of(pool).max_bytes == 8 * MIB);
    OK(zs_destroy_pool(pool));

    /* A field that the caller does not have is taken as 0, whatever lies behind the struct. */
    struct zs_pool_options all;
    memset(&all, 0xff, sizeof all);
    all.max_bytes = 8 * MIB;
    all.struct_size = offsetof(struct zs_pool_options, backing);
    OK(zs_create_pool("old", &all, &pool));
    OK(zs_destroy_pool(pool));
    all.struct_size = offsetof(struct zs_pool_options, memory);
    RESULT(zs_create_pool("old", &all, &pool), -EINVAL);
    all.backing = ZS_BACKING_ANONYMOUS;
    all.flags = ZS_POOL_HARDENED;
    OK(zs_create_pool("old", &all, &pool));
    OK(zs_destroy_pool(pool));
    all.memory = NULL;
    all.memory_bytes = 0;
    all.struct_size = offsetof(struct zs_pool_options, tuning);
    OK(zs_create_pool("old", &all, &pool));
    OK(zs_destroy_pool(pool));
    all.tuning = NULL;
    all.struct_size = sizeof all;
    RESULT(zs_create_pool("today", &all, &pool), -EINVAL);
    memset(all.reserved, 0, sizeof all.reserved);
    OK(zs_create_pool("today", &all, &pool));
    OK(zs_destroy_pool(pool));
}

static void newer_options(void)
{
    struct new_options options;
    struct zs_pool *pool;
    memset(&options, 0, sizeof options);
    options.known.struct_size = sizeof options;
    options.known.max_bytes = 8 * MIB;
    OK(zs_create_pool("new", &options.known, &pool));
    CHECK(stats_of(pool).max_bytes == 8 * MIB);
    OK(zs_destroy_pool(pool));
    for (size_t i = 0; i < sizeof options.more; i++) {
        ((unsigned char *)options.more)[i] = 1;
        RESULT(zs_create_pool("new", &options.known, &pool), -EINVAL);
        CHECK(strstr(zs_last_error(), "version") != NULL);
        ((unsigned char *)options.more)[i] = 0;
    }
}

/* The tuning has a size of its own. */
static void tunings(void)
{
    struct new_tuning tuning;
    struct zs_pool_options options = {.struct_size = sizeof options, .max_bytes = 8 * MIB, .tuning = &tuning.known};
    struct zs_pool *pool;
    memset(&tuning, 0, sizeof tuning);
    for (size_t size = 0; size < sizeof tuning; size++) {
        tuning.known.struct_size = size;
        tuning.known.flags = ZS_POOL_DONTFORK;
        int is_size = size >= 16 && size % 8 == 0;
        RESULT(zs_create_pool("tuning", &options, &pool), is_size ? 0 : -EINVAL);
        if (is_size)
            OK(zs_destroy_pool(pool));
    }
    tuning.known.struct_size = sizeof tuning;
    tuning.more[7] = 1;
    RESULT(zs_create_pool("tuning", &options, &pool), -EINVAL);
}

static void budgets(struct zs_pool *pool)
{
    struct new_budget budget;
    uint64_t pages = 99;
    memset(&budget, 0, sizeof budget);
    budget.known.struct_size = sizeof budget;
    OK(zs_compact(pool, &budget.known, &pages));
    CHECK(pages != 99);
    budget.more[1] = 5;
    RESULT(zs_compact(pool, &budget.known, &pages), -EINVAL);
    /* The oldest budget ends after max_bytes_moved. */
    memset(&budget, 0xff, sizeof budget);
    budget.known.struct_size = 16;
    OK(zs_compact(pool, &budget.known, &pages));
}

static void statistics(struct zs_pool *pool)
{
    zs_handle_t handle = object_with(pool, 100, 1);
    struct old_stats old = {offsetof(struct old_stats, behind), 1, 1, 0xabcdef};
    OK(zs_pool_stats(pool, (struct zs_pool_stats *)&old));
    CHECK(old.struct_size == offsetof(struct old_stats, behind) && old.behind == 0xabcdef);
    CHECK(old.max_bytes == stats_of(pool).max_bytes && old.objects == 1);

    struct new_stats new;
    memset(&new, 0xff, sizeof new);
    new.known.struct_size = offsetof(struct new_stats, behind);
    OK(zs_pool_stats(pool, &new.known));
    CHECK(new.known.struct_size == offsetof(struct new_stats, behind) && new.behind == UINT64_MAX);
    CHECK(new.known.objects == 1 && new.known.total_pages == total_pages(pool));
    for (size_t i = 0; i < 5; i++)
        CHECK(new.more[i] == 0);
    OK(zs_free(pool, handle));
}

/* Sizes that no struct has: nothing is read or written. */
static void impossible_sizes(struct zs_pool *pool)
{
    static const size_t sizes[] = {0,  1,    4,    7,       8,        15,           17,
                                   20, 4097, 4104, 1 << 20, SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct zs_pool_options options = {.struct_size = sizes[i]};
        struct zs_compact_budget budget = {.struct_size = sizes[i]};
        struct zs_pool_stats stats = {.struct_size = sizes[i], .objects = 77};
        struct zs_pool *unchanged = pool;
        uint64_t pages = 77;
        RESULT(zs_create_pool("wrong", &options, &unchanged), -EINVAL);
        RESULT(zs_compact(pool, &budget, &pages), -EINVAL);
        RESULT(zs_pool_stats(pool, &stats), -EINVAL);
        CHECK(unchanged == pool && pages == 77 && stats.objects == 77);
    }
}

/* A packed struct of another language may be at any address. */
static void at_any_address(void)
{
    struct zs_pool *pool;
    for (size_t shift = 1; shift < 8; shift++) {
        unsigned char memory[sizeof(struct zs_pool_options) + 8], other[sizeof(struct zs_pool_stats) + 8];
        struct zs_pool_options options = {.struct_size = sizeof options, .max_bytes = 8 * MIB};
        struct zs_pool_stats stats = {.struct_size = sizeof stats};
        memcpy(memory + shift, &options, sizeof options);
        memcpy(other + shift, &stats, sizeof stats);
        OK(zs_create_pool("anywhere", (void *)(memory + shift), &pool));
        OK(zs_pool_stats(pool, (void *)(other + shift)));
        memcpy(&stats, other + shift, sizeof stats);
        CHECK(stats.max_bytes == 8 * MIB);
        OK(zs_malloc(pool, 100, (void *)(other + shift)));
        zs_handle_t handle;
        memcpy(&handle, other + shift, sizeof handle);
        OK(zs_free(pool, handle));
        OK(zs_destroy_pool(pool));
    }
}

int main(void)
{
    older_options();
    newer_options();
    tunings();
    struct zs_pool *pool = pool_with(8 * MIB, 0);
    budgets(pool);
    statistics(pool);
    impossible_sizes(pool);
    OK(zs_destroy_pool(pool));
    at_any_address();
    puts("structs: ok");
    return 0;
}
