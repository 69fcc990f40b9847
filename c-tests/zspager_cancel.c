/* A thread that is cancelled in a function of the pager, or in a touch, is cancelled after it. */
#include "pager.h"
#include "cancel.h"

static struct zspager *pager;
static unsigned char *memory;
static FILE *file;

/* Creates a pager most of whose pages are on the file. */
static void create(void)
{
    pager = pager_with(LIMIT / 4, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    OK(zspager_set_backing_file(pager, fileno(file), (uint64_t)ABOVE * PAGE));
    OK(zspager_set_pool_limit(pager, LIMIT / 4 * PAGE));
    region_of(pager, memory, ABOVE);
    for (size_t i = 0; i < ABOVE; i++)
        make_page(memory + i * PAGE, i);
    CHECK(pager_stats_of(pager).regions == 1);
}

static void touch(void)
{
    for (size_t i = 0; i < ABOVE; i++)
        CHECK(is_page(memory + i * PAGE, i));
}

static void upkeep(void)
{
    uint64_t number;
    OK(zspager_hold(pager, memory, 4 * PAGE));
    OK(zspager_release(pager, memory, 4 * PAGE));
    OK(zspager_evict(pager, 8, &number));
    OK(zspager_write_back(pager, 1, &number));
    OK(zspager_stop(pager));
    OK(zspager_run(pager, ZSPAGER_RUN_ALL));
    OK(zspager_resume(pager));
}

static void run(void)
{
    OK(zspager_run(pager, ZSPAGER_RUN_ALL));
}

static void *run_cancelled(void *nothing)
{
    do_cancelled(run);
    return nothing;
}

/* A lent thread is cancelled after it has returned. */
static void lend_cancelled(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_cancelled, NULL) == 0);
    /* This waits until the lent thread has read of it, so that thread runs. */
    CHECK(madvise(memory + 5 * PAGE, PAGE, MADV_DONTNEED) == 0);
    CHECK(memory[5 * PAGE] == 0);
    make_page(memory + 5 * PAGE, 5);
    OK(zspager_stop(pager));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(zspager_resume(pager));
}

static void destroy(void)
{
    OK(zspager_destroy(pager));
}

int main(void)
{
    file = tmpfile();
    CHECK(file != NULL);
    memory = memory_of(ABOVE);
    do_cancelled(create);
    do_cancelled(touch);
    touch();
    do_cancelled(upkeep);
    lend_cancelled();
    touch();
    do_cancelled(destroy);
    touch();
    return 0;
}
