/* The stack that a touch takes. No page buffers are on it, even when pages come from a file and go there. */
#include "pager.h"

enum { STACK = 256 << 10 };

static unsigned char *memory;

static void *touch_all(void *nothing)
{
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < ABOVE; i++)
            memory[i * 397 % ABOVE * PAGE + round]++;
    return nothing;
}

/* Returns how many bytes of its stack a thread uses when it touches pages, most of them on the file if there is one. */
static size_t used(FILE *file)
{
    struct zspager *pager = pager_with(LIMIT / 4, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    if (file != NULL) {
        OK(zspager_set_backing_file(pager, fileno(file), (uint64_t)ABOVE * PAGE));
        OK(zspager_set_pool_limit(pager, LIMIT / 4 * PAGE));
    }
    memory = memory_of(ABOVE);
    region_of(pager, memory, ABOVE);
    for (size_t i = 0; i < ABOVE; i++)
        make_page(memory + i * PAGE, i);

    unsigned char *stack = memory_of(STACK / PAGE);
    memset(stack, 0x5a, STACK);
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stack, STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, touch_all, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
    size_t unused = 0;
    while (unused < STACK && stack[unused] == 0x5a)
        unused++;
    CHECK(munmap(stack, STACK) == 0);
    OK(zspager_destroy(pager));
    CHECK(munmap(memory, (size_t)ABOVE * PAGE) == 0);
    return STACK - unused;
}

int main(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    size_t without = used(NULL), with = used(file);
    printf("bytes of stack: %zu, with a file %zu\n", without, with);
    CHECK(without > 1000 && with < without + 2 * PAGE);
    return 0;
}
