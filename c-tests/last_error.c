/* zs_last_error() and zs_last_errno(): each failure has the sentence of its cause. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

static char page[ZSWAP_PAGE_SIZE];

/* Ends the program unless the last failure of this thread has this number and this sentence. */
static void last_is(int line, int number, const char *sentence)
{
    const char *last = zs_last_error();
    if (zs_last_errno() != number || strcmp(last, sentence) != 0) {
        fprintf(stderr, "%s:%d: %d, %s\n", __FILE__, line, zs_last_errno(), last);
        exit(1);
    }
}

#define LAST(number, sentence) last_is(__LINE__, number, sentence)

static void *in_another_thread(void *pool)
{
    LAST(0, "no call has failed in this thread");
    OK(zs_unmap_object(pool, object_with(pool, 10, 1)) == -EINVAL ? 0 : 1);
    CHECK(strstr(zs_last_error(), "zs_unmap_object(): ") == zs_last_error());
    return NULL;
}

static void each_thread_has_its_own(struct zs_pool *pool)
{
    pthread_t thread;
    LAST(0, "no call has failed in this thread");
    RESULT(zs_free(pool, 0), -EINVAL);
    char before[300];
    strcpy(before, zs_last_error());
    CHECK(strstr(before, "zs_free(): ") == before && strstr(before, "(errno 22)") != NULL);
    OK(pthread_create(&thread, NULL, in_another_thread, pool));
    OK(pthread_join(thread, NULL));
    /* Success changes nothing either. */
    check_object(pool, object_with(pool, 10, 1), 10, 1);
    CHECK(strcmp(before, zs_last_error()) == 0 && zs_last_error() == zs_last_error());
}

static void the_argument_is_named(struct zs_pool *pool)
{
    struct zs_pool_options options = {.struct_size = 3};
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .pool = &options};
    struct zswap_options zswap_options = {.struct_size = sizeof zswap_options, .tuning = &tuning};
    struct zs_pool *other;
    struct zswap *zswap;
    zs_handle_t handle;
    struct {
        struct zs_pool_options known;
        uint64_t later;
    } newer = {.known = {.struct_size = sizeof newer}, .later = 1};
    RESULT(zs_malloc(NULL, 10, &handle), -EINVAL);
    LAST(-EINVAL, "zs_malloc(): pool is NULL (errno 22)");
    RESULT(zs_malloc(pool, 10, NULL), -EINVAL);
    LAST(-EINVAL, "zs_malloc(): handle is NULL (errno 22)");
    RESULT(zs_obj_read(pool, object_with(pool, 10, 1), NULL, 10), -EINVAL);
    LAST(-EINVAL, "zs_obj_read(): buffer is NULL (errno 22)");
    RESULT(zs_create_pool(NULL, NULL, &other), -EINVAL);
    LAST(-EINVAL, "zs_create_pool(): name is NULL (errno 22)");
    RESULT(zs_create_pool("a", &options, &other), -EINVAL);
    LAST(-EINVAL, "zs_create_pool(): options->struct_size is not the size of the struct: set it to its sizeof (errno 22)");
    RESULT(zs_create_pool("a", &newer.known, &other), -EINVAL);
    LAST(-EINVAL, "zs_create_pool(): options sets a field that this version of zsalloc does not know: leave it 0, or "
                  "update the library (errno 22)");
    RESULT(zswap_create(&zswap_options, &zswap), -EINVAL);
    CHECK(strstr(zs_last_error(), "tuning->pool->struct_size") != NULL);
    REFUSED(zs_map_object(pool, 0, ZS_MM_RO), -EINVAL);
    REFUSED(zs_map_object(pool, object_with(pool, 10, 1), 7), -EINVAL);
    CHECK(strstr(zs_last_error(), "ZS_MM_RW") != NULL);
}

static void the_limit_is_named(void)
{
    struct zswap_options options = {.struct_size = sizeof options, .max_bytes = 64 * 4096};
    struct zswap_area_options area_options = {.struct_size = sizeof area_options, .max_bytes = 16 * 4096};
    struct zswap *zswap;
    struct zswap_area *area, *limited;
    struct zs_pool *pool = pool_with(MIB, 0);
    zs_handle_t handle;
    uint64_t random = 1, at = 0, left, offset;
    int result;
    while (zs_malloc(pool, 4096, &handle) == 0)
        continue;
    CHECK(zs_last_errno() == -ENOMEM && strstr(zs_last_error(), "the pool") != NULL);
    OK(zs_destroy_pool(pool));

    OK(zswap_create(&options, &zswap));
    OK(zswap_add_area(zswap, 1000, NULL, &area));
    OK(zswap_add_area(zswap, 1000, &area_options, &limited));
    for (at = 0; at < 1000; at++) {
        for (size_t byte = 0; byte < sizeof page; byte++)
            page[byte] = (char)next_random(&random);
        if ((result = zswap_store(limited, at, page)) != 0)
            break;
    }
    RESULT(result, -ENOMEM);
    CHECK(strstr(zs_last_error(), "zswap_store(): the area is at its limit") != NULL);
    for (at = 0; at < 1000; at++)
        if ((result = zswap_store(area, at, page)) != 0)
            break;
    RESULT(result, -ENOMEM);
    CHECK(strstr(zs_last_error(), "zswap_store(): the zswap is at its limit") != NULL);
    RESULT(zswap_shrink(zswap, 1, &left), -EINVAL);
    CHECK(strstr(zs_last_error(), "set one, or claim pages") != NULL);
    RESULT(zswap_load(area, 999, page, 0), -ENOENT);
    CHECK(strstr(zs_last_error(), "zswap_load(): ") == zs_last_error());
    RESULT(zswap_next_stored(area, 999, &offset), -ENOENT);
    RESULT(zswap_store(area, 1000, page), -EINVAL);
    CHECK(strstr(zs_last_error(), "past the end") != NULL);
    OK(zswap_remove_area(area));
    OK(zswap_remove_area(limited));
    OK(zswap_destroy(zswap));
}

/* The system's own error has its number and the step that the system refused. */
static void the_step_is_named(void)
{
    struct rlimit none = {0, 0}, before;
    struct zs_pool_options options = {.struct_size = sizeof options, .backing = ZS_BACKING_MEMFD};
    struct zs_pool *pool;
    if (is_slow() || getenv("ZSALLOC_C_TESTS") != NULL)
        return;
    OK(getrlimit(RLIMIT_NOFILE, &before));
    none.rlim_max = before.rlim_max;
    OK(setrlimit(RLIMIT_NOFILE, &none));
    RESULT(zs_create_pool("a", &options, &pool), -EMFILE);
    OK(setrlimit(RLIMIT_NOFILE, &before));
    CHECK(strstr(zs_last_error(), "memory file") != NULL && strstr(zs_last_error(), "RLIMIT_NOFILE (errno 24)") != NULL);
}

/* A full pool has a limit's number of its own, which the usage of an area does not tell. */
static void the_limit_of_a_pool_is_told(void)
{
    struct zs_pool_options small = {.struct_size = sizeof small, .max_bytes = ZS_MIN_POOL_BYTES};
    struct zswap_tuning tuning = {.struct_size = sizeof tuning, .pool = &small};
    struct zswap_options options = {.struct_size = sizeof options, .tuning = &tuning};
    struct zswap_usage usage = {.struct_size = sizeof usage};
    struct zs_pool *pool;
    struct zswap *zswap;
    struct zswap_area *area;
    zs_handle_t handle;
    uint64_t random = 2, at = 0;
    int result;
    OK(zs_create_pool("small", &small, &pool));
    RESULT(zs_free(pool, 0), -EINVAL);
    CHECK(zs_last_limit() == ZSWAP_LIMIT_NONE && strstr(zs_last_error(), "the handle is 0: it was never set") != NULL);
    while ((result = zs_malloc(pool, 4000, &handle)) == 0)
        ;
    RESULT(result, -ENOMEM);
    CHECK(zs_last_limit() == ZSWAP_LIMIT_POOL);
    OK(zs_destroy_pool(pool));
    OK(zswap_create(&options, &zswap));
    OK(zswap_add_area(zswap, 1000, NULL, &area));
    do {
        for (size_t byte = 0; byte < sizeof page; byte++)
            page[byte] = (char)next_random(&random);
    } while ((result = zswap_store(area, at++, page)) == 0);
    RESULT(result, -ENOMEM);
    CHECK(zs_last_limit() == ZSWAP_LIMIT_POOL);
    OK(zswap_area_usage(area, &usage));
    CHECK(usage.bytes_to_go == 0 && usage.refused_by == ZSWAP_LIMIT_NONE);
    RESULT(zswap_store(area, 1000, page), -EINVAL);
    CHECK(zs_last_limit() == ZSWAP_LIMIT_NONE);
    OK(zswap_remove_area(area));
    OK(zswap_destroy(zswap));
}

static struct zs_pool *used_by_handler;
static volatile sig_atomic_t stop, handled, handlers_fail;

/* What the failures of the test say. */
struct last {
    int number;
    char sentence[512];
};

static struct last of_unmap, of_free, of_lookup;

static void copy_last(struct last *last)
{
    strcpy(last->sentence, zs_last_error());
    last->number = zs_last_errno();
}

static int is_same(const struct last *one, const struct last *other)
{
    return one->number == other->number && strcmp(one->sentence, other->sentence) == 0;
}

/* Every second handler fails twice, and asks in between. The others only ask. */
static void handler(int number)
{
    (void)number;
    if (handlers_fail && handled % 2 == 0) {
        struct last last;
        size_t bytes;
        if (zs_free(used_by_handler, 5) != -EINVAL)
            abort();
        copy_last(&last);
        if (!is_same(&last, &of_free) || zs_lookup_class_size(used_by_handler, 100000, &bytes) != -ENOSPC)
            abort();
    } else {
        size_t length = strlen(zs_last_error());
        if (length < 20 || length > 400)
            abort();
    }
    handled++;
}

static void *send_signals(void *to)
{
    while (!stop)
        OK(pthread_kill(*(pthread_t *)to, SIGUSR1));
    return NULL;
}

/* A sentence is whole, and goes with its number, whatever a handler did before, and while handlers only ask. */
static void handlers_may_ask_and_fail(struct zs_pool *pool)
{
    pthread_t self = pthread_self(), sender;
    struct sigaction action = {.sa_handler = handler};
    size_t bytes;
    used_by_handler = pool;
    RESULT(zs_unmap_object(pool, 5), -EINVAL);
    copy_last(&of_unmap);
    RESULT(zs_free(pool, 5), -EINVAL);
    copy_last(&of_free);
    RESULT(zs_lookup_class_size(pool, 100000, &bytes), -ENOSPC);
    copy_last(&of_lookup);
    CHECK(strncmp(of_unmap.sentence, "zs_unmap_object(): ", 19) == 0 && of_unmap.number == -EINVAL);
    CHECK(strncmp(of_lookup.sentence, "zs_lookup_class_size(): ", 24) == 0 && of_lookup.number == -ENOSPC);
    OK(sigaction(SIGUSR1, &action, NULL));
    OK(pthread_create(&sender, NULL, send_signals, &self));
    int rounds = is_slow() ? 300 : 50000;
    for (int i = 0; i < 2 * rounds; i++) {
        handlers_fail = i >= rounds;
        (void)zs_unmap_object(pool, 5);
        int before = handled;
        struct last last;
        copy_last(&last);
        /* The failures of a handler that ran while the sentence was copied may have replaced a part of it. */
        if (handlers_fail && handled != before)
            continue;
        CHECK(is_same(&last, &of_unmap) || (handlers_fail && is_same(&last, &of_lookup)));
    }
    stop = 1;
    OK(pthread_join(sender, NULL));
    CHECK(handled > 0);
}

int main(void)
{
    struct zs_pool *pool = pool_with(4 * MIB, 0);
    each_thread_has_its_own(pool);
    the_argument_is_named(pool);
    the_limit_is_named();
    the_limit_of_a_pool_is_told();
    the_step_is_named();
    handlers_may_ask_and_fail(pool);
    OK(zs_destroy_pool(pool));
    return 0;
}
