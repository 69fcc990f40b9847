/* Uses each of the three layers, in C and in C++. The tests of the installed library compile it as its users do. */
#define ZSALLOC_UFFD
#include <zsalloc.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    struct zs_pool *pool = NULL;
    struct zswap *zswap = NULL;
    struct zswap_area *area = NULL;
    struct zspager *pager = NULL;
    char page[4096] = "hello", loaded[4096] = "";
    int failed = zs_create_pool("hello", NULL, &pool) || zs_destroy_pool(pool) || zswap_create(NULL, &zswap)
                 || zswap_add_area(zswap, 2, NULL, &area) || zswap_store(area, 0, page)
                 || zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 3) || zswap_store(area, 1, page)
                 || zswap_load(area, 0, loaded, 0) || zswap_load(area, 1, loaded, 0)
                 || zswap_remove_area(area) || zswap_destroy(zswap);
    struct zspager_options options = {0};
    options.struct_size = sizeof options;
    options.resident_bytes = 1 << 20;
    options.fault_mode = ZSPAGER_FAULT_SIGBUS;
    unsigned char *memory = NULL;
    failed = failed || zspager_create("hello", &options, &pager)
             || (memory = (unsigned char *)zspager_map(pager, 4 << 20, NULL, NULL)) == NULL;
    for (size_t at = 0; !failed && at < 4 << 20; at += 4096)
        memory[at] = (unsigned char)(at >> 12);
    for (size_t at = 0; !failed && at < 4 << 20; at += 4096)
        failed = memory[at] != (unsigned char)(at >> 12);
    failed = failed || zspager_destroy(pager);
    puts(failed ? zs_last_error() : loaded);
    return failed;
}
