/* Memory four times as large as its limit keeps its bytes and the limit, in both modes; statistics; backing file. */
#include "pager.h"
#include <unistd.h>

static void check_limit(struct zspager *pager)
{
    /* A load ahead of a touch may exceed the limit for a moment. */
    CHECK(pager_stats_of(pager).resident_bytes <= (uint64_t)(LIMIT + 16) * PAGE);
}

static void outgrows(uint32_t fault_mode, uint32_t eviction, const uint32_t *duties, size_t count)
{
    struct lent lent[4];
    struct zspager *pager = pager_with(LIMIT, fault_mode, eviction);
    unsigned char *memory = memory_of(ABOVE);
    for (size_t i = 0; i < count; i++)
        lend(&lent[i], pager, duties[i]);
    uint64_t region = region_of(pager, memory, ABOVE), nanoseconds;
    for (size_t page = 0; page < ABOVE; page++) {
        make_page(memory + page * PAGE, page);
        check_limit(pager);
    }
    for (size_t i = 0; i < 2 * ABOVE; i++) {
        /* First in order, then scattered. */
        size_t page = i < ABOVE ? i : i * 397 % ABOVE;
        CHECK(is_page(memory + page * PAGE, page));
        check_limit(pager);
    }
    struct zspager_stats stats = pager_stats_of(pager);
    CHECK(stats.stored > 0 && stats.loads > 0 && stats.poisoned == 0 && stats.over_limit == 0);
    CHECK(stats.failed == 0 && stats.lent_threads <= count);
    CHECK(stats.evicted_in_place > 0 || stats.eviction == ZSPAGER_USES_MOVING);
    CHECK(eviction != ZSPAGER_EVICT_IN_PLACE || stats.eviction == ZSPAGER_USES_IN_PLACE);
    CHECK(stats.regions == 1 && stats.region_bytes == (uint64_t)ABOVE * PAGE);
    CHECK(stats.resident_limit_bytes == (uint64_t)LIMIT * PAGE && stats.table_bytes > 0);
    OK(zspager_latency_permille(pager, 500, &nanoseconds));
    CHECK(nanoseconds > 0);
    OK(zspager_remove_region(pager, region, 0));
    CHECK(pager_stats_of(pager).resident_bytes == 0);
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(memory + page * PAGE, page));
    if (count > 0)
        give_back(lent, count);
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, ABOVE * PAGE) == 0);
}

/* Destroying a pager brings everything back. */
static void destroy(void)
{
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    unsigned char *memory = memory_of(ABOVE);
    region_of(pager, memory, ABOVE);
    for (size_t page = 0; page < ABOVE; page++)
        make_page(memory + page * PAGE, page);
    OK(zspager_destroy(pager));
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(memory + page * PAGE, page));
    CHECK(munmap(memory, ABOVE * PAGE) == 0);
}

/* Memory that is filled before it is added, a small pool, a backing file, and every upkeep function. */
static void upkeep(void)
{
    struct zspager *pager = pager_with(0, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    unsigned char *memory = memory_of(ABOVE);
    for (size_t page = 0; page < ABOVE; page++)
        make_page(memory + page * PAGE, page);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    OK(zspager_set_backing_file(pager, fileno(file), (uint64_t)ABOVE * PAGE));
    RESULT(zspager_set_pool_limit(pager, 5), -EINVAL);
    OK(zspager_set_pool_limit(pager, LIMIT / 2 * PAGE));
    uint64_t region = region_of(pager, memory, ABOVE), number;
    OK(zspager_set_resident_limit(pager, LIMIT * PAGE));
    CHECK(pager_stats_of(pager).resident_bytes <= LIMIT * PAGE);
    OK(zspager_set_codec(pager, ZSWAP_CODEC_ZSTD, 1));
    OK(zspager_set_kept_copies(pager, 50));
    OK(zspager_evict(pager, LIMIT / 4, &number));
    CHECK(number > 0);
    OK(zspager_write_back(pager, 10, &number));
    CHECK(number > 0);
    OK(zspager_compact(pager, NULL, &number));
    RESULT(zspager_set_backing_file(pager, -1, 0), -EBUSY);
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_set_resident_limit(pager, 0));
    OK(zspager_remove_region(pager, region, 0));
    OK(zspager_set_backing_file(pager, -1, 0));
    fclose(file);
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, ABOVE * PAGE) == 0);
}

static void memory_file(void)
{
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    int fd = memfd_create("region", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, ABOVE * PAGE) == 0);
    unsigned char *memory = mmap(NULL, ABOVE * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    struct zspager_region_options options = {.struct_size = sizeof options, .flags = ZSPAGER_REGION_SHARED,
                                             .shared_fd = fd};
    uint64_t region;
    OK(zspager_add_region(pager, memory, ABOVE * PAGE, &options, &region));
    for (size_t page = 0; page < ABOVE; page++)
        make_page(memory + page * PAGE, page);
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_remove_region(pager, region, 0));
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, ABOVE * PAGE) == 0 && close(fd) == 0);
}

/* A region has a name in JSON, and a program with one array needs no number of its region. */
static void named_and_without_a_number(void)
{
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, 0);
    struct zspager_region_options options = {.struct_size = sizeof options, .name = "the array"};
    static char text[1 << 16];
    size_t length;
    unsigned char *array = MAPPED(zspager_map(pager, 2 * PAGE, &options, NULL));
    unsigned char *other = MAPPED(zspager_map(pager, PAGE, NULL, NULL));
    OK(zspager_stats_json(pager, text, sizeof text, &length));
    CHECK(strstr(text, "\"name\":\"the array\"") != NULL);
    array[0] = 1;
    other[0] = 2;
    RESULT(zspager_unmap(pager, 0, array, PAGE + 2 * PAGE), -EINVAL);
    OK(zspager_unmap(pager, 0, array, 2 * PAGE));
    RESULT(zspager_unmap(pager, 0, array, 2 * PAGE), -ENOENT);
    CHECK(other[0] == 2 && pager_stats_of(pager).regions == 1);
    OK(zspager_unmap(pager, 0, other, PAGE));
    options.name = "\xff";
    REFUSED(zspager_map(pager, PAGE, &options, NULL), -EINVAL);
    CHECK(strcmp(zs_last_error(), "zspager_map(): the name is not UTF-8 (errno 22)") == 0);
    OK(zspager_destroy(pager));
}

/* Memory that the pager maps: zeros at first, kept to the limit, and gone after the twin. */
static void maps_and_unmaps(uint32_t fault_mode)
{
    struct zspager *pager = pager_with(LIMIT, fault_mode, 0);
    struct lent lent;
    uint64_t region = 0, other = 0;
    size_t bytes = ABOVE * PAGE - 5;
    lend(&lent, pager, ZSPAGER_RUN_ALL);
    unsigned char *mapped = MAPPED(zspager_map(pager, bytes, NULL, &region));
    unsigned char *small = MAPPED(zspager_map(pager, 1, NULL, &other));
    CHECK((uintptr_t)mapped % PAGE == 0 && region != 0 && other != region);
    CHECK(mapped[0] == 0 && mapped[bytes - 1] == 0 && small[0] == 0);
    for (size_t page = 0; page < ABOVE; page++)
        make_page(mapped + page * PAGE, page);
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(mapped + page * PAGE, page));
    CHECK(pager_stats_of(pager).stored > 0 && pager_stats_of(pager).regions == 2);
    /* Neither memory of another region, nor more or less exact addresses. */
    RESULT(zspager_unmap(pager, other, mapped, bytes), -EINVAL);
    RESULT(zspager_unmap(pager, region, mapped, bytes + PAGE), -EINVAL);
    RESULT(zspager_unmap(pager, region, mapped + 1, bytes), -EINVAL);
    RESULT(zspager_unmap(pager, region, mapped, 0), -EINVAL);
    RESULT(zspager_unmap(pager, region, mapped, bytes - PAGE), -EINVAL);
    RESULT(zspager_unmap(pager, region, mapped + PAGE, bytes - PAGE), -EINVAL);
    RESULT(zspager_unmap(pager, 0, mapped + PAGE, PAGE), -EINVAL);
    CHECK(strstr(zs_last_error(), "not all of that region's memory") != NULL);
    for (size_t page = 0; page < ABOVE; page++)
        CHECK(is_page(mapped + page * PAGE, page));
    CHECK(pager_stats_of(pager).regions == 2);
    OK(zspager_unmap(pager, region, mapped, bytes));
    /* Nothing is mapped there any more, and the page after it was never left behind. */
    unsigned char vector[ABOVE + 1];
    for (size_t page = 0; page <= ABOVE; page++)
        CHECK(mincore(mapped + page * PAGE, PAGE, vector) == -1 || mapped + page * PAGE == small);
    RESULT(zspager_unmap(pager, region, mapped, bytes), -ENOENT);
    /* What is only removed stays mapped. */
    small[0] = 7;
    OK(zspager_remove_region(pager, other, 0));
    CHECK(small[0] == 7 && munmap(small, PAGE) == 0);
    give_back(&lent, 1);
    OK(zspager_destroy(pager));
}

static void json(void)
{
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    static char text[16384];
    size_t length = 0;
    RESULT(zspager_stats_json(pager, NULL, 0, &length), -ENOSPC);
    CHECK(length > 100 && length < sizeof text);
    memset(text, 'x', sizeof text);
    RESULT(zspager_stats_json(pager, text, length, &length), -ENOSPC);
    CHECK(text[0] == '\0' && text[1] == 'x');
    OK(zspager_stats_json(pager, text, sizeof text, &length));
    CHECK(strlen(text) == length && text[0] == '{' && text[length - 1] == '}');
    CHECK(strstr(text, "\"pager\":{") && strstr(text, "\"zswap\":{") && strstr(text, "\"faults\":"));
    CHECK(strstr(text, "\"failed\":0") && strstr(text, "\"lent_threads\":0"));
    OK(zspager_destroy(pager));
}

int main(void)
{
    const uint32_t both[] = {ZSPAGER_RUN_SERVE, ZSPAGER_RUN_EVICT}, all[] = {ZSPAGER_RUN_ALL, ZSPAGER_RUN_ALL};
    outgrows(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING, NULL, 0);
    outgrows(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING, both, 2);
    outgrows(ZSPAGER_FAULT_THREADS, ZSPAGER_EVICT_MOVING, all, 2);
    outgrows(ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_IN_PLACE, both, 2);
    destroy();
    upkeep();
    memory_file();
    named_and_without_a_number();
    maps_and_unmaps(ZSPAGER_FAULT_SIGBUS);
    maps_and_unmaps(ZSPAGER_FAULT_THREADS);
    json();
    puts("zspager: ok");
    return 0;
}
