/* Wrong arguments of every kind for zswap's functions. Each wrong call is refused, and the pages stay. */
#define _GNU_SOURCE
#include "pages.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAGES = 64 };

static struct zswap *zswap;
static struct zswap_area *area, *never_written;
static unsigned char page[PAGE];

static int refuse(void *context, struct zswap_area *of, uint64_t offset, const void *bytes)
{
    (void)context, (void)of, (void)offset, (void)bytes;
    return -EAGAIN;
}

static void check_all(void)
{
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(area, i, i);
    CHECK(zswap_stats_of(zswap).claims == 0);
}

static void no_zswap(void)
{
    struct zswap_stats stats = {.struct_size = sizeof stats};
    struct zs_pool_stats pool = {.struct_size = sizeof pool};
    struct zswap_usage usage = {.struct_size = sizeof usage};
    struct zswap_tier_ops ops = {.struct_size = sizeof ops};
    struct zswap_tier_stats tier_stats = {.struct_size = sizeof tier_stats};
    struct zswap_area *unchanged = area;
    char text[100];
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    uint64_t number;
    uint32_t tier;
    size_t size;
    RESULT(zswap_create(NULL, NULL), -EINVAL);
    RESULT(zswap_destroy(NULL), -EINVAL);
    RESULT(zswap_add_area(NULL, 10, NULL, &unchanged), -EINVAL);
    RESULT(zswap_add_area(zswap, 10, NULL, NULL), -EINVAL);
    RESULT(zswap_set_limit(NULL, 0), -EINVAL);
    RESULT(zswap_set_codec(NULL, ZSWAP_CODEC_LZ4, 0), -EINVAL);
    RESULT(zswap_set_writeback(NULL, refuse, NULL), -EINVAL);
    RESULT(zswap_set_backing_file(NULL, -1, 0), -EINVAL);
    RESULT(zswap_add_tier(NULL, &ops, NULL, NULL, &tier), -EINVAL);
    RESULT(zswap_add_tier(zswap, NULL, NULL, NULL, &tier), -EINVAL);
    RESULT(zswap_add_tier(zswap, &ops, NULL, NULL, NULL), -EINVAL);
    RESULT(zswap_add_file_tier(NULL, "", -1, MIB, &tier), -EINVAL);
    RESULT(zswap_add_file_tier(zswap, NULL, -1, MIB, &tier), -EINVAL);
    RESULT(zswap_add_file_tier(zswap, "", -1, MIB, NULL), -EINVAL);
    RESULT(zswap_remove_tier(NULL, 0), -EINVAL);
    RESULT(zswap_tier_stats(NULL, 0, &tier_stats), -EINVAL);
    RESULT(zswap_tier_stats(zswap, 0, NULL), -EINVAL);
    RESULT(zswap_tier_latency_permille(NULL, 0, 500, &number), -EINVAL);
    RESULT(zswap_tier_latency_permille(zswap, 0, 500, NULL), -EINVAL);
    RESULT(zswap_shrink(NULL, 1, &number), -EINVAL);
    RESULT(zswap_shrink_by(NULL, NULL, &shrunk), -EINVAL);
    RESULT(zswap_shrink_by(zswap, NULL, NULL), -EINVAL);
    RESULT(zswap_reclaimable_pages(NULL, &number), -EINVAL);
    RESULT(zswap_reclaimable_pages(zswap, NULL), -EINVAL);
    RESULT(zswap_compact(NULL, NULL, &number), -EINVAL);
    RESULT(zswap_compact(zswap, NULL, NULL), -EINVAL);
    RESULT(zswap_stats(NULL, &stats), -EINVAL);
    RESULT(zswap_stats(zswap, NULL), -EINVAL);
    RESULT(zswap_pool_stats(NULL, &pool), -EINVAL);
    RESULT(zswap_pool_stats(zswap, NULL), -EINVAL);
    RESULT(zswap_usage(NULL, &usage), -EINVAL);
    RESULT(zswap_usage(zswap, NULL), -EINVAL);
    RESULT(zswap_stats_json(NULL, text, sizeof text, &size), -EINVAL);
    RESULT(zswap_stats_json(zswap, text, sizeof text, NULL), -EINVAL);
    RESULT(zswap_stats_json(zswap, NULL, 1, &size), -EINVAL);
    CHECK(unchanged == area);
}

static void no_area(void)
{
    struct zswap_area_stats stats = {.struct_size = sizeof stats};
    struct zswap_usage usage = {.struct_size = sizeof usage};
    struct zswap_claim claim = {.area = NULL};
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    uint64_t number;
    size_t count;
    CHECK(zswap_area_context(NULL) == NULL && zswap_area_id(NULL) == 0 && zswap_area_pages(NULL) == 0);
    struct zswap_load_request request = {0, page, 0, 0};
    RESULT(zswap_remove_area(NULL), -EINVAL);
    RESULT(zswap_area_set_limit(NULL, 0), -EINVAL);
    RESULT(zswap_area_set_tiers(NULL, 0), -EINVAL);
    RESULT(zswap_store(NULL, 0, page), -EINVAL);
    RESULT(zswap_store_pages(NULL, 0, page, 1), -EINVAL);
    RESULT(zswap_load(NULL, 0, page, 0), -EINVAL);
    RESULT(zswap_load_pages(NULL, 0, page, 1, 0, NULL), -EINVAL);
    RESULT(zswap_load_scattered(NULL, &request, 1, 0), -EINVAL);
    RESULT(zswap_invalidate(NULL, 0, 1, 0), -EINVAL);
    RESULT(zswap_next_stored(NULL, 0, &number), -EINVAL);
    RESULT(zswap_shrink_area(NULL, 1, &number), -EINVAL);
    RESULT(zswap_shrink_area_by(NULL, NULL, &shrunk), -EINVAL);
    RESULT(zswap_shrink_area_by(area, NULL, NULL), -EINVAL);
    RESULT(zswap_age(NULL), -EINVAL);
    RESULT(zswap_area_reclaimable_pages(NULL, &number), -EINVAL);
    RESULT(zswap_area_refaulted(NULL, 1), -EINVAL);
    RESULT(zswap_writeback_begin_area(NULL, 1, &claim, page, &count), -EINVAL);
    RESULT(zswap_writeback_end(&claim, 0, NULL), -EINVAL);
    CHECK(strstr(zs_last_error(), "claim->area is NULL") != NULL);
    RESULT(zswap_area_usage(NULL, &usage), -EINVAL);
    RESULT(zswap_recompress(NULL, 1, ZSWAP_CODEC_ZSTD, 3, &number), -EINVAL);
    RESULT(zswap_area_stats(NULL, &stats), -EINVAL);
}

static void no_buffers(void)
{
    struct zswap_claim claim;
    size_t count;
    RESULT(zswap_store(area, 0, NULL), -EINVAL);
    RESULT(zswap_store_pages(area, 0, NULL, 1), -EINVAL);
    RESULT(zswap_load(area, 0, NULL, 0), -EINVAL);
    RESULT(zswap_load_pages(area, 0, NULL, 1, 0, NULL), -EINVAL);
    RESULT(zswap_load_scattered(area, NULL, 1, 0), -EINVAL);
    memset(page, 0xee, PAGE);
    struct zswap_load_request requests[] = {{0, page, 77, 0}, {1, NULL, 77, 0}};
    RESULT(zswap_load_scattered(area, requests, 2, ZSWAP_LOAD_EXCLUSIVE), -EINVAL);
    CHECK(page[0] == 0xee && requests[0].result == 77 && requests[1].result == 77);
    RESULT(zswap_next_stored(area, 0, NULL), -EINVAL);
    RESULT(zswap_shrink(zswap, 1, NULL), -EINVAL);
    RESULT(zswap_shrink_area(area, 1, NULL), -EINVAL);
    RESULT(zswap_area_reclaimable_pages(area, NULL), -EINVAL);
    RESULT(zswap_writeback_begin(zswap, 1, NULL, page, &count), -EINVAL);
    RESULT(zswap_writeback_begin(zswap, 1, &claim, NULL, &count), -EINVAL);
    RESULT(zswap_writeback_begin(zswap, 1, &claim, page, NULL), -EINVAL);
    RESULT(zswap_writeback_begin_area(area, 1, NULL, page, &count), -EINVAL);
    RESULT(zswap_writeback_begin_area(area, 1, &claim, NULL, &count), -EINVAL);
    RESULT(zswap_writeback_begin_area(area, 1, &claim, page, NULL), -EINVAL);
    RESULT(zswap_writeback_end(NULL, 0, NULL), -EINVAL);
    RESULT(zswap_recompress(area, 1, ZSWAP_CODEC_ZSTD, 3, NULL), -EINVAL);
    RESULT(zswap_area_stats(area, NULL), -EINVAL);
}

static void past_the_end(void)
{
    static const uint64_t past[] = {PAGES, PAGES + 1, (uint64_t)1 << 38, UINT64_MAX - 1, UINT64_MAX};
    static const size_t long_[] = {PAGES + 1, PAGES * 2, 1 << 20, SIZE_MAX / 2, SIZE_MAX - 1, SIZE_MAX};
    int results[] = {77, 77};
    memset(page, 0xee, PAGE);
    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        RESULT(zswap_store(area, past[i], page), -EINVAL);
        RESULT(zswap_load(area, past[i], page, ZSWAP_LOAD_EXCLUSIVE), -EINVAL);
        RESULT(zswap_store_pages(area, past[i], page, 1), -EINVAL);
        RESULT(zswap_load_pages(area, past[i], page, 1, 0, results), -EINVAL);
        RESULT(zswap_invalidate(area, past[i], 1, 0), -EINVAL);
        struct zswap_load_request requests[] = {{0, page, 77, 0}, {past[i], page, 77, 0}};
        RESULT(zswap_load_scattered(area, requests, 2, ZSWAP_LOAD_EXCLUSIVE), -EINVAL);
        CHECK(requests[0].result == 77 && requests[1].result == 77);
    }
    /* The call must not read any page: so many do not exist. */
    for (size_t i = 0; i < sizeof long_ / sizeof *long_; i++) {
        RESULT(zswap_store_pages(area, 0, page, long_[i]), -EINVAL);
        RESULT(zswap_store_pages(area, 5, page, long_[i]), -EINVAL);
        RESULT(zswap_load_pages(area, 0, page, long_[i], 0, results), -EINVAL);
        RESULT(zswap_load_pages(area, 5, page, long_[i], ZSWAP_LOAD_EXCLUSIVE, results), -EINVAL);
        RESULT(zswap_invalidate(area, 0, long_[i], 0), -EINVAL);
        RESULT(zswap_invalidate(area, PAGES - 1, long_[i], ZSWAP_NOWAIT), -EINVAL);
    }
    CHECK(page[0] == 0xee && page[PAGE - 1] == 0xee && results[0] == 77 && results[1] == 77);
    check_all();
}

static void flags_and_codecs(void)
{
    static const uint32_t wrong[] = {4, 5, 7, 8, 256, 0x80000000u, UINT32_MAX};
    uint64_t smaller = 77;
    memset(page, 0xee, PAGE);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct zswap_load_request request = {0, page, 0, 0};
        RESULT(zswap_load(area, 0, page, wrong[i]), -EINVAL);
        RESULT(zswap_load_pages(area, 0, page, 1, wrong[i], NULL), -EINVAL);
        RESULT(zswap_load_scattered(area, &request, 1, wrong[i]), -EINVAL);
        RESULT(zswap_invalidate(area, 0, 1, wrong[i]), -EINVAL);
        RESULT(zswap_set_codec(zswap, wrong[i], 0), -EINVAL);
        RESULT(zswap_recompress(area, 1, wrong[i], 0, &smaller), -EINVAL);
    }
    RESULT(zswap_invalidate(area, 0, 1, ZSWAP_LOAD_EXCLUSIVE), -EINVAL);
    RESULT(zswap_set_codec(zswap, 3, 0), -EINVAL);
    static const int32_t levels[] = {-1, 23, 1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        RESULT(zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, levels[i]), -EINVAL);
        RESULT(zswap_recompress(area, 1, ZSWAP_CODEC_ZSTD, levels[i], &smaller), -EINVAL);
        RESULT(zswap_set_codec(zswap, ZSWAP_CODEC_LZ4, levels[i]), -EINVAL);
        RESULT(zswap_set_codec(zswap, ZSWAP_CODEC_RAW, levels[i]), -EINVAL);
    }
    CHECK(page[0] == 0xee && smaller == 77);
    check_all();
}

/* Checks that options with one wrong field are refused, with a sentence that names the reason. */
static void wrong_options(struct zswap_options options, const char *reason)
{
    struct zswap *unchanged = zswap;
    options.struct_size = sizeof options;
    RESULT(zswap_create(&options, &unchanged), -EINVAL);
    CHECK(unchanged == zswap);
    if (strstr(zs_last_error(), reason) == NULL) {
        fprintf(stderr, "the sentence is \"%s\", and should have \"%s\"\n", zs_last_error(), reason);
        exit(1);
    }
}

static void wrong_tuning(struct zswap_tuning tuning, const char *reason)
{
    tuning.struct_size = sizeof tuning;
    wrong_options((struct zswap_options){.tuning = &tuning}, reason);
}

static void options(void)
{
    static char long_name[251];
    struct zs_pool_options pool = {.struct_size = sizeof pool, .flags = 1u << 31};
    memset(long_name, 'n', 250);
    wrong_options((struct zswap_options){.name = long_name}, "name");
    wrong_options((struct zswap_options){.name = "\xff"}, "UTF-8");
    wrong_tuning((struct zswap_tuning){.pool = &pool}, "flag");
    pool = (struct zs_pool_options){.struct_size = 3};
    wrong_tuning((struct zswap_tuning){.pool = &pool}, "struct_size");
    wrong_options((struct zswap_options){.max_bytes = 1}, "4112");
    wrong_options((struct zswap_options){.max_bytes = 4111}, "4112");
    wrong_options((struct zswap_options){.codec = 3}, "codec");
    wrong_options((struct zswap_options){.codec = ZSWAP_CODEC_ZSTD, .level = 23}, "level");
    wrong_options((struct zswap_options){.level = 1}, "level");
    wrong_tuning((struct zswap_tuning){.accept_percent = 101}, "accept_percent");
    wrong_tuning((struct zswap_tuning){.accept_percent = 257}, "accept_percent");
    wrong_tuning((struct zswap_tuning){.headroom_percent = 256}, "headroom_percent");
    wrong_tuning((struct zswap_tuning){.contexts = ZSWAP_MAX_CONTEXTS + 1}, "contexts");
    wrong_tuning((struct zswap_tuning){.max_claims = ZSWAP_MAX_CLAIMS + 1}, "claims");
    wrong_tuning((struct zswap_tuning){.max_claims = UINT32_MAX}, "claims");
    for (int i = 0; i < 4; i++) {
        struct zswap_options reserved = {0};
        reserved.reserved[i] = 1;
        wrong_options(reserved, "reserved");
        struct zswap_tuning reserved_tuning = {0};
        reserved_tuning.reserved[i] = 1;
        wrong_tuning(reserved_tuning, "reserved");
    }
    struct zswap_area *unchanged = area;
    struct zswap_area_options area_options = {.struct_size = sizeof area_options, .flags = 8};
    RESULT(zswap_add_area(zswap, 10, &area_options, &unchanged), -EINVAL);
    area_options.flags = 0;
    for (int i = 0; i < 6; i++) {
        area_options.reserved[i] = 1;
        RESULT(zswap_add_area(zswap, 10, &area_options, &unchanged), -EINVAL);
        area_options.reserved[i] = 0;
    }
    RESULT(zswap_add_area(zswap, 0, NULL, &unchanged), -EINVAL);
    RESULT(zswap_add_area(zswap, ZSWAP_MAX_AREA_PAGES + 1, NULL, &unchanged), -EINVAL);
    RESULT(zswap_add_area(zswap, UINT64_MAX, NULL, &unchanged), -EINVAL);
    CHECK(unchanged == area && zswap_stats_of(zswap).areas == 2);
}

static void claims(void)
{
    static unsigned char bytes[2][PAGE];
    struct zswap_claim held[2], wrong;
    size_t count = 0;
    int gone = 7;
    CHECK(area_stats_of(never_written).area_pages == PAGES);
    RESULT(zswap_writeback_begin_area(never_written, 1, held, bytes, &count), -EINVAL);
    OK(zswap_writeback_begin_area(area, 0, NULL, NULL, &count));
    CHECK(count == 0);
    count = 7;
    OK(zswap_writeback_begin(zswap, 0, NULL, NULL, &count));
    CHECK(count == 0);
    OK(zswap_writeback_begin(zswap, 2, held, bytes, &count));
    CHECK(held[0].area == area && held[1].area == area);
    CHECK(count == 2 && held[0].offset != held[1].offset && zswap_stats_of(zswap).claims == 2);
    CHECK(is_page(bytes[0], held[0].offset) && is_page(bytes[1], held[1].offset));
    RESULT(zswap_remove_area(area), -EBUSY);
    wrong = held[0];
    wrong.offset = held[1].offset;
    RESULT(zswap_writeback_end(&wrong, -EAGAIN, &gone), -EINVAL);
    wrong = held[0];
    wrong.ticket ^= (uint64_t)1 << 40;
    RESULT(zswap_writeback_end(&wrong, -EAGAIN, &gone), -EINVAL);
    wrong.ticket = UINT64_MAX;
    RESULT(zswap_writeback_end(&wrong, -EAGAIN, &gone), -EINVAL);
    /* A claim of another area. */
    wrong = held[0];
    wrong.area = never_written;
    RESULT(zswap_writeback_end(&wrong, -EAGAIN, &gone), -EINVAL);
    wrong.area = NULL;
    RESULT(zswap_writeback_end(&wrong, -EAGAIN, &gone), -EINVAL);
    CHECK(gone == 7 && zswap_stats_of(zswap).claims == 2);
    OK(zswap_writeback_end(&held[1], -EAGAIN, NULL));
    OK(zswap_writeback_end(&held[0], EAGAIN, &gone));
    CHECK(gone == 0);
    RESULT(zswap_writeback_end(&held[0], 0, &gone), -EINVAL);
    RESULT(zswap_writeback_end(&held[1], 0, &gone), -EINVAL);
    CHECK(area_stats_of(area).counts.writeback_again == 2);
    check_all();
}

static void backing(void)
{
    uint64_t number = 77;
    int fd = open("/dev/null", O_RDWR);
    CHECK(fd >= 0 && close(fd) == 0);
    /* fd is closed now. */
    RESULT(zswap_set_backing_file(zswap, fd, MIB), -EINVAL);
    RESULT(zswap_set_backing_file(zswap, -1, MIB), -EINVAL);
    RESULT(zswap_set_backing_file(zswap, -2, 0), -EINVAL);
    RESULT(zswap_set_backing_file(zswap, INT32_MIN, MIB), -EINVAL);
    RESULT(zswap_set_backing_file(zswap, 0, 0), -EINVAL);
    RESULT(zswap_set_backing_file(zswap, 0, 4095), -EINVAL);
    RESULT(zswap_set_backing_file(zswap, 0, UINT64_MAX), -EINVAL);
    RESULT(zswap_shrink(zswap, 1, &number), -EINVAL);
    RESULT(zswap_shrink_area(area, 1, &number), -EINVAL);
    struct zswap_shrunk shrunk = {.struct_size = sizeof shrunk};
    RESULT(zswap_shrink_by(zswap, NULL, &shrunk), -EINVAL);
    RESULT(zswap_shrink_area_by(area, NULL, &shrunk), -EINVAL);
    OK(zswap_set_writeback(zswap, refuse, NULL));
    RESULT(zswap_shrink_area(never_written, 1, &number), -EINVAL);
    RESULT(zswap_shrink_area_by(never_written, NULL, &shrunk), -EINVAL);
    RESULT(zswap_shrink(zswap, 1, &number), -EAGAIN);
    OK(zswap_set_writeback(zswap, NULL, NULL));
    CHECK(number == 77);

    /* Descriptors that can't store pages at offsets are refused. */
    FILE *file = tmpfile();
    CHECK(file != NULL && fcntl(fileno(file), F_SETFL, O_APPEND) == 0);
    RESULT(zswap_set_backing_file(zswap, fileno(file), MIB), -EINVAL);
    CHECK(fcntl(fileno(file), F_SETFL, 0) == 0);
    OK(zswap_set_backing_file(zswap, fileno(file), MIB));
    OK(zswap_set_backing_file(zswap, -1, 0));
    CHECK(fclose(file) == 0);
    fd = open("/dev/null", O_RDONLY);
    CHECK(fd >= 0);
    RESULT(zswap_set_backing_file(zswap, fd, MIB), -EINVAL);
    CHECK(close(fd) == 0);

    /* So are devices other than block devices: they would take pages and give none back. */
    const char *devices[] = {"/dev/full", "/dev/null", "/dev/zero"};
    for (int i = 0; i < 3; i++) {
        fd = open(devices[i], O_RDWR);
        CHECK(fd >= 0);
        RESULT(zswap_set_backing_file(zswap, fd, MIB), -EINVAL);
        CHECK(close(fd) == 0);
    }
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    RESULT(zswap_set_backing_file(zswap, ends[0], MIB), -EINVAL);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);

    /* With a file that can't grow, no page is lost. */
    fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0);
    OK(zswap_set_backing_file(zswap, fd, MIB));
    CHECK(close(fd) == 0);
    RESULT(zswap_shrink(zswap, 1, &number), -EAGAIN);
    CHECK(area_stats_of(area).counts.writeback_io > 0);
    OK(zswap_set_backing_file(zswap, -1, 0));
    check_all();
}

int main(void)
{
    zswap = zswap_with(0);
    area = area_with(zswap, PAGES);
    struct zswap_area_options options_ = {.struct_size = sizeof options_, .flags = ZSWAP_AREA_NO_WRITEBACK};
    OK(zswap_add_area(zswap, PAGES, &options_, &never_written));
    for (uint64_t i = 0; i < PAGES; i++)
        OK(store_page(area, i, i));
    no_zswap();
    no_area();
    no_buffers();
    past_the_end();
    flags_and_codecs();
    options();
    claims();
    backing();
    check_all();
    OK(zswap_remove_area(area));
    OK(zswap_remove_area(never_written));
    OK(zswap_destroy(zswap));
    puts("zswap_misuse: ok");
    return 0;
}
