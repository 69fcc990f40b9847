/* Memory that can't be a region is refused: the heap, stacks in use, and mappings that grow. Each attempt is a process
   of its own, which is killed with SIGKILL if it hangs: it may not react to any other signal. */
#include "pager.h"
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SECONDS = 30 };

static unsigned char of_the_program[64 * PAGE] __attribute__((aligned(PAGE)));
static uint32_t fault_mode;

/* Runs a test in a child, which must succeed. */
static void apart(const char *name, void (*test)(void))
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        test();
        exit(0);
    }
    int status = 0;
    for (int tenths = 0; waitpid(child, &status, WNOHANG) == 0; tenths++) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        if (tenths == 10 * SECONDS) {
            fprintf(stderr, "%s hangs (fault mode %u)\n", name, fault_mode);
            CHECK(kill(child, SIGKILL) == 0);
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "%s: the child's status is %#x (fault mode %u)\n", name, status, fault_mode);
        exit(1);
    }
}

/* Checks that a range can be a region: adds it, evicts all of its pages, reads them again, and removes it. */
static void is_taken(struct zspager *pager, unsigned char *memory, size_t pages)
{
    for (size_t page = 0; page < pages; page++)
        make_page(memory + page * PAGE, page);
    uint64_t region = region_of(pager, memory, pages);
    evict_all(pager);
    for (size_t page = 0; page < pages; page++)
        CHECK(is_page(memory + page * PAGE, page));
    OK(zspager_remove_region(pager, region, 0));
}

/* Checks that a range can't be a region. If it is accepted, the pager evicts it, so that the failure shows. */
static void is_refused(unsigned char *memory, size_t bytes)
{
    struct lent lent;
    struct zspager *pager = pager_with(LIMIT, fault_mode, ZSPAGER_EVICT_MOVING);
    uint64_t region = 0;
    if (fault_mode == ZSPAGER_FAULT_THREADS)
        lend(&lent, pager, ZSPAGER_RUN_ALL);
    int result = zspager_add_region(pager, memory, bytes, NULL, &region);
    if (result == 0)
        evict_all(pager);
    RESULT(result, -EINVAL);
    CHECK(pager_stats_of(pager).regions == 0 && pager_stats_of(pager).region_bytes == 0);
    is_taken(pager, memory_of(2 * LIMIT), 2 * LIMIT);
    if (fault_mode == ZSPAGER_FAULT_THREADS)
        give_back(&lent, 1);
    OK(zspager_destroy(pager));
}

/* Returns the mapping that an address is in, from /proc/self/maps. */
static unsigned char *mapping_of(const void *address, size_t *bytes)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    char line[512];
    unsigned long long from = 0, to = 0;
    int found = 0;
    while (!found && fgets(line, sizeof line, maps) != NULL)
        found = sscanf(line, "%llx-%llx ", &from, &to) == 2 && (uintptr_t)address >= from && (uintptr_t)address < to;
    fclose(maps);
    CHECK(found);
    *bytes = (size_t)(to - from);
    return (unsigned char *)(uintptr_t)from;
}

/* Returns allocated memory that lies inside the heap. */
static unsigned char *from_the_heap(void)
{
    unsigned char *memory = aligned_alloc(PAGE, 8 * PAGE);
    CHECK(memory != NULL && memory < (unsigned char *)sbrk(0));
    return memory;
}

static void the_whole_heap(void)
{
    size_t bytes = 0;
    unsigned char *heap = mapping_of(from_the_heap(), &bytes);
    is_refused(heap, bytes);
}

static void a_part_of_the_heap(void)
{
    is_refused(from_the_heap(), 8 * PAGE);
}

/* Part of the heap has other flags, so the heap is several mappings. */
static void a_part_of_the_heap_that_is_a_mapping_of_its_own(void)
{
    unsigned char *memory = from_the_heap();
    if (madvise(memory, 8 * PAGE, MADV_DONTDUMP) != 0)
        return;
    size_t bytes = 0;
    CHECK(mapping_of(memory, &bytes) == memory && bytes == 8 * PAGE);
    is_refused(memory, 8 * PAGE);
}

static void the_stack_of_the_caller(void)
{
    size_t bytes = 0;
    unsigned char *stack = mapping_of(&bytes, &bytes);
    is_refused(stack, bytes);
}

/* The part of the main thread's stack that is not in use. */
static void the_end_of_the_main_stack(void)
{
    volatile unsigned char deep[64 * PAGE];
    for (size_t at = 0; at < sizeof deep; at += PAGE)
        deep[at] = 1;
    size_t bytes = 0;
    unsigned char *stack = mapping_of((void *)(uintptr_t)&deep[0], &bytes);
    is_refused(stack, PAGE);
}

static void *on_a_thread(void *argument)
{
    (void)argument;
    the_stack_of_the_caller();
    return NULL;
}

static void the_stack_of_a_thread(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, on_a_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

static void a_mapping_that_grows(void)
{
    size_t bytes = 16 * PAGE;
    int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED;
    unsigned char *room = mmap(NULL, 512 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(room != MAP_FAILED && munmap(room, 512 * PAGE) == 0);
    unsigned char *memory = mmap(room + 256 * PAGE, bytes, PROT_READ | PROT_WRITE, kind, -1, 0);
    CHECK(memory == room + 256 * PAGE);
    is_refused(memory, bytes);
    is_refused(memory + 4 * PAGE, 4 * PAGE);
    /* Neither the access rights nor the contents have changed. */
    memory[0] = 1;
    CHECK(mprotect(memory + 8 * PAGE, PAGE, PROT_READ) == 0);
    CHECK(mapping_of(memory, &bytes) == memory && bytes == 8 * PAGE);
}

/* Variables of the program may be a region, also where nothing separates them from the heap. So it is without random
   addresses, as under a debugger, and older kernels then name both mappings [heap]. */
static void variables_of_the_program(void)
{
    struct zspager *pager = pager_with(LIMIT, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    free(from_the_heap());
    is_taken(pager, of_the_program, sizeof of_the_program / PAGE);
    OK(zspager_destroy(pager));
}

int main(int count, char **arguments)
{
    uint32_t modes[] = {ZSPAGER_FAULT_SIGBUS, ZSPAGER_FAULT_THREADS};
    if (count > 1) {
        variables_of_the_program();
        return 0;
    }
    for (size_t at = 0; at < 2; at++) {
        struct zspager_options options = {.struct_size = sizeof options, .fault_mode = modes[at]};
        struct zspager *pager = NULL;
        fault_mode = modes[at];
        if (zspager_create("right", &options, &pager) == -EPERM) {
            fprintf(stderr, "SKIPPED: zspager_ranges with threads: this user may not use ZSPAGER_FAULT_THREADS\n");
            continue;
        }
        OK(zspager_destroy(pager));
        apart("the whole heap", the_whole_heap);
        apart("a part of the heap", a_part_of_the_heap);
        apart("a part of the heap that is a mapping of its own", a_part_of_the_heap_that_is_a_mapping_of_its_own);
        apart("the stack of the caller", the_stack_of_the_caller);
        apart("the end of the main stack", the_end_of_the_main_stack);
        apart("the stack of a thread", the_stack_of_a_thread);
        apart("a mapping that grows", a_mapping_that_grows);
    }
    apart("variables of the program", variables_of_the_program);
    fflush(NULL);
    if (personality(0xffffffff) >= 0 && personality((unsigned long)personality(0xffffffff) | ADDR_NO_RANDOMIZE) >= 0) {
        execl(arguments[0], arguments[0], "without random addresses", (char *)NULL);
        return 1;
    }
    return 0;
}
