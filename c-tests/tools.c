/* A program that a tool runs: fills pages under a pager, most of which leave memory meanwhile, and sums them. */
#define ZSALLOC_UFFD
#include "check.h"

enum { PAGES = 128, NUMBERS = PAGES * 4096 / 8 };

int main(void)
{
    struct zspager_options options = {.struct_size = sizeof options, .resident_bytes = 16 * 4096};
    struct zspager *pager = NULL;
    OK(zspager_create("tools", &options, &pager));
    uint64_t *numbers = MAPPED(zspager_map(pager, NUMBERS * sizeof *numbers, NULL, NULL));
    for (uint64_t at = 0; at < NUMBERS; at++)
        numbers[at] = at * at;
    for (uint64_t at = 0; at < NUMBERS; at++)
        CHECK(numbers[at] == at * at);
    OK(zspager_unmap(pager, 0, numbers, NUMBERS * sizeof *numbers));
    OK(zspager_destroy(pager));
    puts("tools: ok");
    return 0;
}
