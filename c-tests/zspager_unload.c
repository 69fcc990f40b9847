/*
 * dlclose() of the library unloads it in a program that created no pager. In one that did, it keeps the code of the
 * SIGBUS handler. Argument: the library.
 */
#define _GNU_SOURCE
#define ZSALLOC_UFFD
#include "by_name.h"
#include "pages.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 256, LIMIT = 64 };

DECLARE(zs_create_pool)
DECLARE(zs_destroy_pool)
DECLARE(zspager_create)
DECLARE(zspager_destroy)
DECLARE(zspager_add_region)

static sigjmp_buf before_the_touch;
static volatile sig_atomic_t handled;

static void own_handler(int signal)
{
    (void)signal;
    handled++;
    siglongjmp(before_the_touch, 1);
}

/* Returns whether a part of the library is mapped. */
static int is_loaded(void)
{
    char line[1000];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        found |= strstr(line, "libzsalloc") != NULL;
    fclose(maps);
    return found;
}

/* Causes a SIGBUS that is not the library's: a touch beyond the end of a file. */
static void touch_beyond_the_end(void)
{
    int file = memfd_create("short", MFD_CLOEXEC);
    CHECK(file >= 0);
    volatile unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(page != MAP_FAILED);
    int handled_before = handled;
    if (sigsetjmp(before_the_touch, 1) == 0) {
        page[0] = 1;
        CHECK(!"the touch was a signal");
    }
    CHECK(handled == handled_before + 1);
    munmap((void *)page, PAGE);
    close(file);
}

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    return library;
}

static void use_a_pool(const char *path)
{
    void *library = load(path);
    FIND(zs_create_pool);
    FIND(zs_destroy_pool);
    struct zs_pool *pool = NULL;
    CHECK(the_zs_create_pool("unload", NULL, &pool) == 0 && the_zs_destroy_pool(pool) == 0);
    CHECK(is_loaded());
    CHECK(dlclose(library) == 0);
}

static void use_a_pager(const char *path)
{
    void *library = load(path);
    FIND(zspager_create);
    FIND(zspager_destroy);
    FIND(zspager_add_region);
    struct zspager_options options = {.struct_size = sizeof options, .resident_bytes = LIMIT * PAGE,
                                      .eviction = ZSPAGER_EVICT_MOVING,
                                      .fault_mode = ZSPAGER_FAULT_SIGBUS};
    struct zspager *pager = NULL;
    uint64_t region = 0;
    unsigned char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(the_zspager_create("unload", &options, &pager) == 0);
    CHECK(the_zspager_add_region(pager, memory, PAGES * PAGE, NULL, &region) == 0);
    for (size_t at = 0; at < PAGES; at++)
        make_page(memory + at * PAGE, at);
    for (size_t at = 0; at < PAGES; at++)
        CHECK(is_page(memory + at * PAGE, at));
    CHECK(the_zspager_destroy(pager) == 0);
    munmap(memory, PAGES * PAGE);
    CHECK(dlclose(library) == 0);
}

int main(int arguments, char **argument)
{
    struct sigaction own = {.sa_handler = own_handler, .sa_flags = SA_NODEFER};
    CHECK(arguments == 2);
    CHECK(sigaction(SIGBUS, &own, NULL) == 0);
    for (int round = 0; round < 2; round++) {
        use_a_pool(argument[1]);
        CHECK(!is_loaded());
        touch_beyond_the_end();
    }
    for (int round = 0; round < 3; round++) {
        use_a_pager(argument[1]);
        CHECK(is_loaded());
        touch_beyond_the_end();
    }
    use_a_pool(argument[1]);
    touch_beyond_the_end();
    /* Loading it again gives the same library, whose handler is still installed. */
    use_a_pager(argument[1]);
    touch_beyond_the_end();
    puts("zspager_unload: ok");
    return 0;
}
