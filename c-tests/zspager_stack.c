/* The stack that a touch takes. No page buffers are on it, even when pages come from a file and go there, or when
   another thread brings them from a tier. */
#include "pager.h"
#include "tier.h"

enum { STACK = 256 << 10 };

static unsigned char *memory;

static void *touch_all(void *nothing)
{
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < ABOVE; i++)
            memory[i * 397 % ABOVE * PAGE + round]++;
    return nothing;
}

/* Returns how many bytes of its stack a thread uses when it touches pages, most of them on the file or the tier if there
   is one. */
static size_t used(FILE *file, struct shelf *shelf)
{
    struct zspager *pager = pager_with(LIMIT / 4, ZSPAGER_FAULT_SIGBUS, ZSPAGER_EVICT_MOVING);
    struct lent lent = {0};
    if (file != NULL)
        OK(zspager_set_backing_file(pager, fileno(file), (uint64_t)ABOVE * PAGE));
    if (shelf != NULL) {
        uint32_t tier;
        lend(&lent, pager, ZSPAGER_RUN_TIERS);
        open_shelf(shelf);
        OK(zspager_add_tier(pager, &shelf_ops, shelf, NULL, &tier));
    }
    if (file != NULL || shelf != NULL)
        OK(zspager_set_pool_limit(pager, LIMIT / 4 * PAGE));
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
    if (shelf != NULL) {
        CHECK(atomic_load(&shelf->gets) > 0);
        give_back(&lent, 1);
    }
    OK(zspager_destroy(pager));
    if (shelf != NULL)
        close_shelf(shelf);
    CHECK(munmap(memory, (size_t)ABOVE * PAGE) == 0);
    return STACK - unused;
}

int main(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    static struct shelf shelf;
    size_t without = used(NULL, NULL), with = used(file, NULL), with_tier = used(NULL, &shelf);
    printf("bytes of stack: %zu, with a file %zu, with a tier %zu\n", without, with, with_tier);
    CHECK(without > 1000 && with < without + 2 * PAGE && with_tier < without + 2 * PAGE);
    return 0;
}
