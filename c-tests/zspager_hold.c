/* System calls on missing pages fail with EFAULT, and work while the pages are held. Other SIGBUS are passed on. */
#include "pager.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile sig_atomic_t foreign;

static void on_sigbus(int signal)
{
    (void)signal;
    foreign++;
    siglongjmp(back, 1);
}

/* A touch past the end of a mapped file is not the pager's. */
static void touch_past_the_end(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    volatile unsigned char *memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fileno(file), 0);
    CHECK(memory != MAP_FAILED);
    if (sigsetjmp(back, 1) == 0) {
        unsigned char byte = memory[0];
        fprintf(stderr, "it is %d\n", byte);
        exit(1);
    }
    CHECK(munmap((void *)memory, PAGE) == 0);
    fclose(file);
}

/* A page that can't be read from the backing file can't be held. It is not lost: a later read may succeed. */
static void a_file_that_fails(void)
{
    static unsigned char kept[ABOVE * PAGE];
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    unsigned char *memory = memory_of(ABOVE);
    uint64_t region = region_of(pager, memory, ABOVE), written;
    int file = memfd_create("backing", MFD_CLOEXEC), result = 0;
    size_t page = 0;
    CHECK(file >= 0 && ftruncate(file, ABOVE * PAGE) == 0);
    OK(zspager_set_backing_file(pager, file, ABOVE * PAGE));
    for (size_t i = 0; i < ABOVE; i++)
        text_page(memory + i * PAGE, i);
    evict_all(pager);
    OK(zspager_write_back(pager, ABOVE / 2, &written));
    CHECK(written > 0);
    CHECK(pread(file, kept, sizeof kept, 0) == (ssize_t)sizeof kept && ftruncate(file, 0) == 0);
    for (; page < ABOVE && result == 0; page++) {
        result = zspager_hold(pager, memory + page * PAGE, PAGE);
        if (result == 0)
            OK(zspager_release(pager, memory + page * PAGE, PAGE));
    }
    CHECK(result == -EIO && pager_stats_of(pager).held_bytes == 0);
    CHECK(pwrite(file, kept, sizeof kept, 0) == (ssize_t)sizeof kept);
    OK(zspager_hold(pager, memory + (page - 1) * PAGE, PAGE));
    OK(zspager_remove_region(pager, region, 0));
    for (size_t i = 0; i < ABOVE; i++) {
        text_page(kept, i);
        CHECK(memcmp(memory + i * PAGE, kept, PAGE) == 0);
    }
    OK(zspager_destroy(pager));
    CHECK(close(file) == 0 && munmap(memory, ABOVE * PAGE) == 0);
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_sigbus};
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    unsigned char *memory = memory_of(ABOVE);
    uint64_t region = region_of(pager, memory, ABOVE);
    for (size_t page = 0; page < ABOVE; page++)
        text_page(memory + page * PAGE, page);
    evict_all(pager);
    /* No page is in memory any more, which is no error. */
    uint64_t evicted = 7;
    CHECK(pager_stats_of(pager).resident_bytes == 0);
    OK(zspager_evict(pager, 1, &evicted));
    CHECK(evicted == 0);
    touch_past_the_end();
    CHECK(foreign == 1);

    int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    CHECK(zeros >= 0);
    unsigned char *two = memory + 10 * PAGE;
    CHECK(read(zeros, two, 2 * PAGE) == -1 && errno == EFAULT);
    OK(zspager_hold(pager, two, 2 * PAGE));
    CHECK(pager_stats_of(pager).held_bytes == 2 * PAGE);
    evict_all(pager);
    CHECK(read(zeros, two, 2 * PAGE) == 2 * PAGE);
    /* Holds are counted. */
    OK(zspager_hold(pager, two, PAGE));
    OK(zspager_release(pager, two, 2 * PAGE));
    CHECK(pager_stats_of(pager).held_bytes == PAGE);
    OK(zspager_release(pager, two, PAGE));
    CHECK(pager_stats_of(pager).held_bytes == 0);
    evict_all(pager);
    CHECK(read(zeros, two, 2 * PAGE) == -1 && errno == EFAULT);
    for (size_t at = 0; at < 2 * PAGE; at++)
        CHECK(two[at] == 0);

    /* Only an eighth of the limit may be held. */
    RESULT(zspager_hold(pager, memory, (LIMIT / 8 + 1) * PAGE), -ENOMEM);
    CHECK(pager_stats_of(pager).held_bytes == 0);
    OK(zspager_hold(pager, memory, LIMIT / 8 * PAGE));
    RESULT(zspager_hold(pager, memory + LIMIT / 8 * PAGE, PAGE), -ENOMEM);
    evict_all(pager);
    RESULT(zspager_evict(pager, 1, &evicted), -EAGAIN);
    OK(zspager_release(pager, memory, LIMIT / 8 * PAGE));
    /* 0 bytes hold no page. */
    OK(zspager_hold(pager, memory + 1, 0));
    CHECK(pager_stats_of(pager).held_bytes == 0);

    OK(zspager_remove_region(pager, region, 0));
    CHECK(read(zeros, memory + 20 * PAGE, PAGE) == PAGE);
    OK(zspager_destroy(pager));
    touch_past_the_end();
    CHECK(foreign == 2);
    CHECK(close(zeros) == 0 && munmap(memory, ABOVE * PAGE) == 0);
    a_file_that_fails();
    puts("zspager_hold: ok");
    return 0;
}
