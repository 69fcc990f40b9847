/* Writeback: what callbacks get, may call and return; claims; damaged pages. */
#define _GNU_SOURCE
#include "pages.h"
#include <unistd.h>

enum { PAGES = 200 };

/* A disk, and how its callback behaves. */
struct disk {
    unsigned char pages[PAGES][PAGE];
    char written[PAGES];
    struct zswap *zswap;
    struct zswap_area *area, *other;
    /* The callback's result. */
    int answer;
    uint64_t calls;
};

static struct disk disk;

/* Checks the page: each offset holds the page of its own number. */
static int write_page(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    struct disk *to = context;
    CHECK(to == &disk && area == to->area && offset < PAGES && (uintptr_t)page % PAGE == 0);
    CHECK(zswap_area_context(area) == &disk);
    CHECK(is_page(page, offset));
    to->calls++;
    if (to->answer == 0) {
        memcpy(to->pages[offset], page, PAGE);
        to->written[offset] = 1;
    }
    return to->answer;
}

static void begin(uint64_t pages)
{
    struct zswap_area_options options = {.struct_size = sizeof options, .context = &disk};
    memset(&disk, 0, sizeof disk);
    disk.zswap = zswap_with(0);
    OK(zswap_add_area(disk.zswap, PAGES, &options, &disk.area));
    disk.other = area_with(disk.zswap, PAGES);
    for (uint64_t i = 0; i < pages; i++)
        OK(store_page(disk.area, i, i));
}

static void end(void)
{
    OK(zswap_remove_area(disk.area));
    OK(zswap_remove_area(disk.other));
    OK(zswap_destroy(disk.zswap));
}

/* Ends the program unless each page is stored or on the disk. */
static void check_disk(uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        if (disk.written[i]) {
            check_absent(disk.area, i);
            CHECK(is_page(disk.pages[i], i));
        } else {
            check_page(disk.area, i, i);
        }
    }
}

static void pages_go(void)
{
    uint64_t written = 0, pool_pages = PAGES - PAGES / 8;
    begin(PAGES);
    RESULT(zswap_shrink(disk.zswap, 1, &written), -EINVAL);
    OK(zswap_set_writeback(disk.zswap, write_page, &disk));
    OK(zswap_shrink(disk.zswap, 0, &written));
    CHECK(written == 0 && disk.calls == 0);
    OK(zswap_shrink(disk.zswap, 10, &written));
    CHECK(written == 10 && disk.calls == 10);
    OK(zswap_shrink_area(disk.area, 10, &written));
    CHECK(written == 10 && disk.calls == 20);
    RESULT(zswap_shrink_area(disk.other, 10, &written), -ENOENT);
    check_disk(PAGES);
    OK(zswap_shrink(disk.zswap, UINT64_MAX, &written));
    CHECK(written == pool_pages - 20);
    RESULT(zswap_shrink(disk.zswap, 1, &written), -ENOENT);
    check_disk(PAGES);
    CHECK(area_stats_of(disk.area).counts.written_back == pool_pages && area_stats_of(disk.area).used_bytes == 0);
    end();
}

/* Pages that were used get a second chance. */
static void used_pages_stay(void)
{
    uint64_t written;
    begin(PAGES);
    OK(zswap_set_writeback(disk.zswap, write_page, &disk));
    /* The first pages leave. All others have lost their mark, and some get it back. */
    OK(zswap_shrink(disk.zswap, 1, &written));
    for (uint64_t i = 100; i < 150; i++)
        check_page(disk.area, i, i);
    OK(zswap_shrink(disk.zswap, 100, &written));
    CHECK(written == 100);
    for (uint64_t i = 100; i < 150; i++)
        CHECK(!disk.written[i]);
    check_disk(PAGES);
    end();
}

static void every_answer(void)
{
    static const struct {
        int answer;
        size_t counted;
    } all[] = {
        {-EEXIST, offsetof(struct zswap_counts, writeback_exists)},
        {-EAGAIN, offsetof(struct zswap_counts, writeback_again)},
        {-ENOMEM, offsetof(struct zswap_counts, writeback_no_memory)},
        {-EIO, offsetof(struct zswap_counts, writeback_io)},
        {-ENOSPC, offsetof(struct zswap_counts, writeback_no_space)},
        {-EROFS, offsetof(struct zswap_counts, writeback_other)},
        {EAGAIN, offsetof(struct zswap_counts, writeback_again)},
        {EROFS, offsetof(struct zswap_counts, writeback_other)},
        {INT32_MIN, offsetof(struct zswap_counts, writeback_other)},
        {INT32_MAX, offsetof(struct zswap_counts, writeback_other)},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint64_t written = 77, counted;
        begin(PAGES);
        OK(zswap_set_writeback(disk.zswap, write_page, &disk));
        disk.answer = all[i].answer;
        RESULT(zswap_shrink(disk.zswap, 50, &written), -EAGAIN);
        CHECK(written == 77 && disk.calls > 0 && disk.calls <= 64);
        struct zswap_counts counts = area_stats_of(disk.area).counts;
        memcpy(&counted, (char *)&counts + all[i].counted, sizeof counted);
        CHECK(counted == disk.calls && counts.written_back == 0);
        if (all[i].answer == -EEXIST || all[i].answer == -ENOSPC)
            CHECK(disk.calls <= 2);
        check_disk(PAGES);
        disk.answer = 0;
        OK(zswap_shrink(disk.zswap, 50, &written));
        CHECK(written == 50);
        check_disk(PAGES);
        end();
    }
}

/* A callback that calls everything, on its own page and on others. */
static int busy_callback(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    struct disk *to = context;
    unsigned char copy[PAGE];
    uint64_t number;
    size_t length;
    if (to->calls++ > 20)
        return -EAGAIN;
    /* Its own page. */
    check_page(area, offset, offset);
    RESULT(zswap_invalidate(area, offset, 1, 0), -EBUSY);
    RESULT(zswap_invalidate(area, 0, PAGES, 0), -EBUSY);
    RESULT(zswap_invalidate(area, offset, 1, ZSWAP_NOWAIT), -EBUSY);
    RESULT(zswap_load(area, offset, copy, ZSWAP_LOAD_EXCLUSIVE), -EBUSY);
    RESULT(zswap_load(area, offset, copy, ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT), -EBUSY);
    check_page(area, offset, offset);
    /* The area and the zswap. */
    RESULT(zswap_remove_area(area), -EBUSY);
    RESULT(zswap_destroy(to->zswap), -EBUSY);
    /* Pages of other areas and offsets. */
    OK(store_page(to->other, offset, offset + 1));
    OK(zswap_load(to->other, offset, copy, ZSWAP_LOAD_EXCLUSIVE));
    CHECK(is_page(copy, offset + 1));
    OK(store_page(to->other, offset, offset + 2));
    OK(zswap_invalidate(to->other, 0, PAGES, 0));
    /* All other functions. */
    struct zswap_area *fleeting = area_with(to->zswap, 10);
    OK(store_page(fleeting, 0, 3));
    OK(zswap_remove_area(fleeting));
    OK(zswap_compact(to->zswap, NULL, &number));
    OK(zswap_set_limit(to->zswap, 64 * MIB));
    OK(zswap_set_codec(to->zswap, to->calls % 2 ? ZSWAP_CODEC_ZSTD : ZSWAP_CODEC_LZ4, 0));
    RESULT(zswap_stats_json(to->zswap, NULL, 0, &length), -ENOSPC);
    CHECK(area_stats_of(area).area_pages == PAGES && zswap_stats_of(to->zswap).areas == 2);
    OK(zswap_recompress(area, 3, ZSWAP_CODEC_ZSTD, 1, &number));
    int result = zswap_shrink_area(area, 2, &number);
    CHECK(result == 0 || result == -EAGAIN);
    OK(zswap_set_writeback(to->zswap, busy_callback, to));
    CHECK(is_page(page, offset));
    memcpy(to->pages[offset], page, PAGE);
    /* Marked last: a page is missing only after its callback has returned. */
    to->written[offset] = 1;
    return 0;
}

static void callbacks_may_do_everything(void)
{
    uint64_t written;
    begin(PAGES);
    OK(zswap_set_writeback(disk.zswap, busy_callback, &disk));
    /* Each callback loads its own page, so the page is written and also stays stored. */
    RESULT(zswap_shrink(disk.zswap, 20, &written), -EAGAIN);
    CHECK(disk.calls > 10);
    for (uint64_t i = 0; i < PAGES; i++) {
        unsigned char page[PAGE];
        int result = zswap_load(disk.area, i, page, 0);
        CHECK(result == 0 ? is_page(page, i) : result == -ENOENT && disk.written[i] && is_page(disk.pages[i], i));
    }
    end();
}

/* A store from inside the callback replaces the page. */
static int storing_callback(void *context, struct zswap_area *area, uint64_t offset, const void *page)
{
    (void)context, (void)page;
    OK(store_page(area, offset, offset + 1000));
    return 0;
}

static void a_store_overtakes(void)
{
    uint64_t written = 77;
    begin(50);
    OK(zswap_set_writeback(disk.zswap, storing_callback, NULL));
    RESULT(zswap_shrink_area(disk.area, 1, &written), -EAGAIN);
    struct zswap_counts counts = area_stats_of(disk.area).counts;
    CHECK(counts.overtaken > 0 && counts.written_back == 0);
    for (uint64_t i = 0; i < 50; i++) {
        unsigned char page[PAGE];
        OK(zswap_load(disk.area, i, page, 0));
        CHECK(is_page(page, i) || is_page(page, i + 1000));
    }
    end();
}

/* Claims end in another order than they began, some twice, some after the page changed. */
static void pages_are_pulled(void)
{
    enum { MAX = 100 };
    static unsigned char pages[MAX][PAGE];
    struct zswap_claim claims[MAX];
    size_t count = 0;
    int gone;
    begin(PAGES);
    OK(zswap_writeback_begin_area(disk.area, MAX, claims, pages, &count));
    CHECK(count == MAX && zswap_stats_of(disk.zswap).claims == MAX);
    for (size_t i = 0; i < MAX; i++) {
        CHECK(is_page(pages[i], claims[i].offset));
        for (size_t other = 0; other < i; other++)
            CHECK(claims[other].offset != claims[i].offset);
    }
    /* One page is loaded, one replaced; one can't be invalidated by the thread that holds its claim. */
    check_page(disk.area, claims[0].offset, claims[0].offset);
    OK(store_page(disk.area, claims[1].offset, 5555));
    RESULT(zswap_invalidate(disk.area, claims[2].offset, 1, 0), -EBUSY);
    unsigned char page[PAGE];
    RESULT(zswap_load(disk.area, claims[2].offset, page, ZSWAP_LOAD_EXCLUSIVE), -EBUSY);
    RESULT(zswap_remove_area(disk.area), -EBUSY);
    for (size_t i = MAX; i-- > 0;) {
        int fails = i % 5 == 4;
        OK(zswap_writeback_end(&claims[i], fails ? -EIO : 0, &gone));
        CHECK(gone == !(fails || i < 2));
        RESULT(zswap_writeback_end(&claims[i], 0, &gone), -EINVAL);
        memcpy(disk.pages[claims[i].offset], pages[i], PAGE);
        disk.written[claims[i].offset] = (char)gone;
    }
    check_page(disk.area, claims[1].offset, 5555);
    OK(store_page(disk.area, claims[1].offset, claims[1].offset));
    check_disk(PAGES);
    struct zswap_counts counts = area_stats_of(disk.area).counts;
    CHECK(counts.rescued == 1 && counts.overtaken == 1 && counts.writeback_io == MAX / 5);
    CHECK(counts.written_back == MAX - MAX / 5 - 2 && zswap_stats_of(disk.zswap).claims == 0);
    end();
}

/* Claims of all areas say which area each is of. An area that must not be written back is left alone. */
static void pages_of_all_areas_are_pulled(void)
{
    enum { MAX = 1000 };
    static unsigned char pages[MAX][PAGE];
    static struct zswap_claim claims[MAX];
    struct zswap_area_options options = {.struct_size = sizeof options, .flags = ZSWAP_AREA_NO_WRITEBACK};
    struct zswap_area *kept;
    size_t count = 0, of_other = 0;
    int gone = 7;
    begin(PAGES);
    OK(zswap_add_area(disk.zswap, PAGES, &options, &kept));
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(disk.other, i, i) | store_page(kept, i, i));
    OK(zswap_writeback_begin(disk.zswap, MAX, claims, pages, &count));
    CHECK(count == 2 * (PAGES - PAGES / 8));
    for (size_t i = 0; i < count; i++) {
        CHECK(claims[i].area == disk.area || claims[i].area == disk.other);
        CHECK(is_page(pages[i], claims[i].offset));
        of_other += claims[i].area == disk.other;
    }
    CHECK(of_other == count / 2);
    size_t more = 7;
    OK(zswap_writeback_begin(disk.zswap, 1, claims + count, pages + count, &more));
    CHECK(more == 0);
    for (size_t i = 0; i < count; i++) {
        OK(zswap_writeback_end(&claims[i], 0, &gone));
        CHECK(gone == 1);
        check_absent(claims[i].area, claims[i].offset);
    }
    CHECK(area_stats_of(kept).counts.written_back == 0 && area_stats_of(disk.other).counts.written_back == count / 2);
    OK(zswap_remove_area(kept));
    end();
}

static struct zswap_usage usage_of(struct zswap_area *area)
{
    struct zswap_usage usage = {.struct_size = sizeof usage, .reserved = 77};
    OK(zswap_area_usage(area, &usage));
    CHECK(usage.struct_size == sizeof usage && usage.reserved == 0);
    return usage;
}

/* Stores pages until a limit refuses one, at the offsets from `from` on. Returns how many. */
static uint64_t store_until_refused(struct zswap_area *area, uint64_t from, const char *why)
{
    static unsigned char page[PAGE];
    uint64_t random = from + 1, stored = 0;
    int result;
    do {
        for (size_t i = 0; i < PAGE; i++)
            page[i] = (unsigned char)next_random(&random);
        result = zswap_store(area, from + stored, page);
    } while (result == 0 && ++stored < PAGES);
    RESULT(result, -ENOMEM);
    CHECK(strstr(zs_last_error(), why) != NULL);
    return stored;
}

/* Usage says which limit refuses stores, and how many bytes have to go until it accepts them. */
static void usage_tells_what_has_to_go(void)
{
    enum { LIMIT = 100 * PAGE };
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = 150 * PAGE};
    struct zswap_area_options own = {.struct_size = sizeof own, .max_bytes = LIMIT};
    struct zswap_usage usage = {.struct_size = sizeof usage};
    struct zswap *zswap;
    struct zswap_area *area, *other;
    OK(zswap_create(&options, &zswap));
    OK(zswap_add_area(zswap, PAGES, &own, &area));
    OK(zswap_add_area(zswap, PAGES, NULL, &other));
    OK(zswap_usage(zswap, &usage));
    CHECK(usage.used_bytes == 0 && usage.max_bytes == 150 * PAGE && usage.bytes_to_go == 0);
    CHECK(usage.refused_by == ZSWAP_LIMIT_NONE && usage_of(other).max_bytes == UINT64_MAX);
    uint64_t stored = store_until_refused(area, 0, "area");
    usage = usage_of(area);
    CHECK(usage.refused_by == ZSWAP_LIMIT_AREA && usage.max_bytes == LIMIT && usage.used_bytes <= LIMIT);
    CHECK(usage.bytes_to_go > PAGE && usage.bytes_to_go == usage.used_bytes - LIMIT / 100 * 90);
    CHECK(usage_of(other).refused_by == ZSWAP_LIMIT_NONE);
    /* A page less is not enough; as many as it says are. */
    OK(zswap_invalidate(area, 0, 1, 0));
    RESULT(store_page(area, 0, 3), -ENOMEM);
    for (uint64_t i = 1; usage_of(area).bytes_to_go > 0; i++)
        OK(zswap_invalidate(area, i, 1, 0));
    CHECK(usage_of(area).refused_by == ZSWAP_LIMIT_NONE);
    OK(store_page(area, 0, 3));

    (void)store_until_refused(other, 0, "limit");
    OK(zswap_usage(zswap, &usage));
    CHECK(usage.refused_by == ZSWAP_LIMIT_ZSWAP && usage.bytes_to_go > PAGE);
    CHECK(usage_of(other).refused_by == ZSWAP_LIMIT_ZSWAP && usage_of(other).bytes_to_go == usage.bytes_to_go);
    CHECK(usage_of(area).refused_by == ZSWAP_LIMIT_ZSWAP && usage_of(area).used_bytes < stored * 2 * PAGE);
    /* Claims of as many bytes are enough. */
    static unsigned char copies[PAGES][PAGE];
    struct zswap_claim claims[PAGES];
    size_t claimed = 0, one;
    for (uint64_t bytes = 0; bytes < usage.bytes_to_go; bytes += claims[claimed++].bytes) {
        OK(zswap_writeback_begin(zswap, 1, &claims[claimed], copies[claimed], &one));
        CHECK(one == 1 && claims[claimed].bytes > 0 && claimed < PAGES - 1);
    }
    for (size_t i = 0; i < claimed; i++) {
        int gone = 0;
        uint64_t before = zswap_stats_of(zswap).used_bytes;
        OK(zswap_writeback_end(&claims[i], 0, &gone));
        CHECK(gone && before - zswap_stats_of(zswap).used_bytes == claims[i].bytes);
    }
    CHECK(usage_of(other).bytes_to_go == 0 && usage_of(other).refused_by == ZSWAP_LIMIT_NONE);
    OK(zswap_remove_area(area));
    OK(zswap_remove_area(other));
    OK(zswap_destroy(zswap));
}

/* If both limits refuse, usage and zs_last_limit() name the zswap's, which a store looks at first. */
static void usage_names_the_limit_that_a_store_meets(void)
{
    enum { LIMIT = 100 * PAGE };
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = 150 * PAGE};
    struct zswap_area_options own = {.struct_size = sizeof own, .max_bytes = LIMIT};
    struct zswap_usage usage;
    struct zswap *zswap;
    struct zswap_area *area, *other;
    OK(zswap_create(&options, &zswap));
    OK(zswap_add_area(zswap, PAGES, &own, &area));
    OK(zswap_add_area(zswap, PAGES, NULL, &other));
    (void)store_until_refused(area, 0, "area");
    CHECK(zs_last_limit() == ZSWAP_LIMIT_AREA);
    (void)store_until_refused(other, 0, "the zswap is at its limit");
    CHECK(zs_last_limit() == ZSWAP_LIMIT_ZSWAP);
    OK(zswap_area_set_limit(area, 8 * PAGE));
    usage = usage_of(area);
    CHECK(usage.refused_by == ZSWAP_LIMIT_ZSWAP && usage.bytes_to_go == usage_of(other).bytes_to_go);
    RESULT(store_page(area, 0, 3), -ENOMEM);
    CHECK(zs_last_limit() == ZSWAP_LIMIT_ZSWAP);
    OK(zswap_invalidate(other, 0, PAGES, 0));
    usage = usage_of(area);
    CHECK(usage.refused_by == ZSWAP_LIMIT_AREA && usage.bytes_to_go > 50 * PAGE);
    RESULT(store_page(area, 0, 3), -ENOMEM);
    CHECK(zs_last_limit() == ZSWAP_LIMIT_AREA);
    /* To set the limit again forgets that it was met. */
    OK(zswap_area_set_limit(area, LIMIT));
    CHECK(usage_of(area).refused_by == ZSWAP_LIMIT_NONE);
    OK(zswap_remove_area(area));
    OK(zswap_remove_area(other));
    OK(zswap_destroy(zswap));
}

static void claims_are_bounded(void)
{
    enum { MOST = 40 };
    static unsigned char pages[PAGES][PAGE];
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .max_claims = MOST};
    struct zswap_options options = {.struct_size = sizeof options, .tuning = &tuning};
    struct zswap_claim claims[PAGES];
    struct zswap *zswap;
    size_t count = 0;
    OK(zswap_create(&options, &zswap));
    struct zswap_area *area = area_with(zswap, PAGES);
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, 3));
    OK(zswap_writeback_begin_area(area, PAGES, claims, pages, &count));
    CHECK(count == MOST);
    RESULT(zswap_writeback_begin_area(area, 1, claims + MOST, pages, &count), -EBUSY);
    OK(zswap_writeback_end(&claims[7], 0, NULL));
    OK(zswap_writeback_begin_area(area, PAGES, claims + 7, pages, &count));
    CHECK(count == 1);
    for (size_t i = 0; i < MOST; i++)
        OK(zswap_writeback_end(&claims[i], 0, NULL));
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static void pressure(void)
{
    uint64_t pages, of_area, after;
    begin(PAGES);
    OK(zswap_reclaimable_pages(disk.zswap, &pages));
    OK(zswap_area_reclaimable_pages(disk.area, &of_area));
    CHECK(pages > 0 && pages == of_area && pages < PAGES);
    OK(zswap_area_refaulted(disk.area, 100));
    CHECK(area_stats_of(disk.area).counts.refaults == 100);
    OK(zswap_reclaimable_pages(disk.zswap, &after));
    CHECK(after < pages);
    OK(zswap_area_reclaimable_pages(disk.area, &after));
    CHECK(after == pages);
    end();
}

/* A byte of a stored page is changed behind zswap's back: the load fails, and leaves the destination alone. */
static void damage(void)
{
    enum { BYTES = 4 << 20 };
    unsigned char *memory = aligned_alloc(PAGE, BYTES);
    CHECK(memory != NULL);
    memset(memory, 0, BYTES);
    struct zs_pool_options pool = {
        .struct_size = sizeof pool, .backing = ZS_BACKING_MEMORY, .memory = memory, .memory_bytes = BYTES};
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .pool = &pool};
    struct zswap_options options = {.struct_size = sizeof options, .tuning = &tuning, .name = "lent"};
    struct zswap *zswap;
    unsigned char page[PAGE], copy[PAGE];
    OK(zswap_create(&options, &zswap));
    struct zswap_area *area = area_with(zswap, 10);
    noise_page(page, 1);
    OK(zswap_store(area, 3, page));
    /* The page does not compress, so its bytes can be found in memory. */
    unsigned char *found = memmem(memory, BYTES, page, PAGE);
    CHECK(found != NULL);
    found[1234] ^= 1;
    memset(copy, 0xee, PAGE);
    for (uint32_t flags = 0; flags < 4; flags++) {
        RESULT(zswap_load(area, 3, copy, flags), -EBADMSG);
        CHECK(copy[0] == 0xee && copy[PAGE - 1] == 0xee);
    }
    CHECK(area_stats_of(area).counts.decode_failures == 4 && area_stats_of(area).counts.raw_pages == 1);
    found[1234] ^= 1;
    OK(zswap_load(area, 3, copy, ZSWAP_LOAD_EXCLUSIVE));
    CHECK(memcmp(page, copy, PAGE) == 0);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
    free(memory);
}

int main(void)
{
    pages_go();
    used_pages_stay();
    every_answer();
    callbacks_may_do_everything();
    a_store_overtakes();
    pages_are_pulled();
    claims_are_bounded();
    pages_of_all_areas_are_pulled();
    usage_tells_what_has_to_go();
    usage_names_the_limit_that_a_store_meets();
    pressure();
    damage();
    puts("zswap_writeback: ok");
    return 0;
}
