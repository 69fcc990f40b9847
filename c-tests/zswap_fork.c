/* Zswaps in forked children. */
#define _GNU_SOURCE
#include "pages.h"
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 100 };

static int write_page(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)context, (void)area, (void)offset, (void)page;
    return 0;
}

static void wait_for(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static struct zswap *zswap_of(struct zs_pool_options pool, struct zswap_area **area)
{
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .pool = &pool};
    struct zswap_options options = {.struct_size = sizeof options, .tuning = &tuning};
    struct zswap *zswap;
    pool.struct_size = sizeof pool;
    pool.max_bytes = 32 * MIB;
    OK(zswap_create(&options, &zswap));
    *area = area_with(zswap, PAGES);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(*area, i, i));
    OK(zswap_set_writeback(zswap, write_page, NULL));
    return zswap;
}

/* An anonymous zswap is copied: parent and child each go on with their own. */
static void an_anonymous_zswap_is_copied(void)
{
    struct zswap_area *area;
    struct zswap *zswap = zswap_of((struct zs_pool_options){0}, &area);
    pid_t child = fork();
    CHECK(child >= 0);
    for (uint64_t i = child == 0; i < PAGES; i += 2)
        OK(store_page(area, i, i + 1000));
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(area, i, i % 2 == (child == 0) ? i + 1000 : i);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    if (child == 0)
        _exit(0);
    wait_for(child);
}

/* In the child: every call that would touch the pool's memory is refused. */
static void in_the_child(struct zswap *zswap, struct zswap_area *area)
{
    struct zswap_stats stats = {.struct_size = sizeof stats};
    struct zswap_area_stats area_stats = {.struct_size = sizeof area_stats};
    struct zs_pool_stats pool_stats = {.struct_size = sizeof pool_stats};
    struct zswap_claim claim = {.area = area};
    struct zswap_area *unchanged = area;
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    static unsigned char page[PAGE];
    struct zswap_load_request request = {0, page, 0, 0};
    uint64_t number = 0;
    size_t size;
    RESULT(zswap_add_area(zswap, 10, NULL, &unchanged), -EPERM);
    RESULT(zswap_store(area, 0, page), -EPERM);
    RESULT(zswap_store_pages(area, 0, page, 1), -EPERM);
    RESULT(zswap_load(area, 0, page, 0), -EPERM);
    RESULT(zswap_load_pages(area, 0, page, 1, 0, NULL), -EPERM);
    RESULT(zswap_load_scattered(area, &request, 1, ZSWAP_LOAD_EXCLUSIVE), -EPERM);
    RESULT(zswap_invalidate(area, 0, 1, 0), -EPERM);
    RESULT(zswap_next_stored(area, 0, &number), -EPERM);
    RESULT(zswap_set_limit(zswap, 0), -EPERM);
    RESULT(zswap_area_set_limit(area, 0), -EPERM);
    RESULT(zswap_set_writeback(zswap, NULL, NULL), -EPERM);
    RESULT(zswap_set_backing_file(zswap, -1, 0), -EPERM);
    RESULT(zswap_shrink(zswap, 1, &number), -EPERM);
    RESULT(zswap_shrink_area(area, 1, &number), -EPERM);
    RESULT(zswap_shrink_by(zswap, NULL, &shrunk), -EPERM);
    RESULT(zswap_shrink_area_by(area, NULL, &shrunk), -EPERM);
    RESULT(zswap_age(area), -EPERM);
    RESULT(zswap_reclaimable_pages(zswap, &number), -EPERM);
    RESULT(zswap_area_reclaimable_pages(area, &number), -EPERM);
    RESULT(zswap_area_refaulted(area, 1), -EPERM);
    RESULT(zswap_writeback_begin(zswap, 1, &claim, page, &size), -EPERM);
    RESULT(zswap_writeback_begin_area(area, 1, &claim, page, &size), -EPERM);
    RESULT(zswap_writeback_end(&claim, 0, NULL), -EPERM);
    RESULT(zswap_compact(zswap, NULL, &number), -EPERM);
    RESULT(zswap_recompress(area, 1, ZSWAP_CODEC_ZSTD, 3, &number), -EPERM);
    RESULT(zswap_stats(zswap, &stats), -EPERM);
    RESULT(zswap_area_stats(area, &area_stats), -EPERM);
    RESULT(zswap_pool_stats(zswap, &pool_stats), -EPERM);
    RESULT(zswap_stats_json(zswap, NULL, 0, &size), -EPERM);
    CHECK(zswap_area_id(area) == 1 && zswap_area_pages(area) == PAGES);
}

static void a_zswap_is_not_inherited(struct zs_pool_options pool, int areas_first)
{
    struct zswap_area *area;
    struct zswap *zswap = zswap_of(pool, &area);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_the_child(zswap, area);
        if (areas_first)
            OK(zswap_remove_area(area));
        OK(zswap_destroy(zswap));
        if (!areas_first)
            OK(zswap_remove_area(area));
        _exit(0);
    }
    wait_for(child);
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(area, i, i);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

int main(void)
{
    an_anonymous_zswap_is_copied();
    for (int areas_first = 0; areas_first < 2; areas_first++) {
        struct zs_pool_tuning tuning = {.struct_size = sizeof tuning, .flags = ZS_POOL_DONTFORK};
        a_zswap_is_not_inherited((struct zs_pool_options){.tuning = &tuning}, areas_first);
        a_zswap_is_not_inherited((struct zs_pool_options){.backing = ZS_BACKING_MEMFD}, areas_first);
    }
    puts("zswap_fork: ok");
    return 0;
}
