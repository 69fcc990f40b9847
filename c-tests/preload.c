/*
 * A program that knows nothing of zsalloc: it maps, moves, protects and frees large memory, and checks what it reads.
 * It is run with and without the shim of examples/preload. Argument: what it does.
 */
#define _GNU_SOURCE
#include "../examples/preload/heap.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what, strerror(errno));                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t word(size_t page, uint64_t seed)
{
    return (page + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed;
}

static void fill(void *memory, size_t bytes, uint64_t seed)
{
    for (size_t page = 0; page < bytes / PAGE; page++)
        for (size_t at = 0; at < PAGE / 8; at += 8)
            ((uint64_t *)memory)[page * PAGE / 8 + at] = word(page, seed);
}

static void check(const void *memory, size_t bytes, uint64_t seed)
{
    for (size_t page = 0; page < bytes / PAGE; page++)
        for (size_t at = 0; at < PAGE / 8; at += 8)
            CHECK(((const uint64_t *)memory)[page * PAGE / 8 + at] == word(page, seed));
}

static void zeros(const void *memory, size_t bytes)
{
    for (size_t at = 0; at < bytes / 8; at++)
        CHECK(((const uint64_t *)memory)[at] == 0);
}

static void *map(size_t bytes, int protection)
{
    void *memory = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

enum { RW = PROT_READ | PROT_WRITE, ROUNDS = 60 };

static void mappings(void)
{
    char *memory = map(32 * MIB, RW);
    zeros(memory, 32 * MIB);
    fill(memory, 32 * MIB, 1);
    check(memory, 32 * MIB, 1);
    /* A part is given back, and another is unmapped, and something else is mapped again. */
    CHECK(madvise(memory + 8 * MIB, 8 * MIB, MADV_DONTNEED) == 0);
    zeros(memory + 8 * MIB, 8 * MIB);
    check(memory, 8 * MIB, 1);
    CHECK(munmap(memory + 24 * MIB, 8 * MIB) == 0 && munmap(memory + 24 * MIB, 8 * MIB) == 0);
    char *other = map(16 * MIB, RW);
    zeros(other, 16 * MIB);
    fill(other, 16 * MIB, 2);
    check(memory, 8 * MIB, 1);
    /* Grown and shrunk, in place or not. */
    char *grown = mremap(memory, 24 * MIB, 40 * MIB, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED);
    check(grown, 8 * MIB, 1);
    zeros(grown + 24 * MIB, 16 * MIB);
    grown = mremap(grown, 40 * MIB, 8 * MIB, 0);
    CHECK(grown != MAP_FAILED);
    check(grown, 8 * MIB, 1);
    /* Zeros by MAP_FIXED, and a file in the middle. */
    CHECK(mmap(other + MIB, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == other + MIB);
    zeros(other + MIB, MIB);
    int file = memfd_create("other", 0);
    CHECK(file >= 0 && write(file, "file", 4) == 4 && ftruncate(file, (off_t)MIB) == 0);
    CHECK(mmap(other + 2 * MIB, MIB, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == other + 2 * MIB);
    CHECK(memcmp(other + 2 * MIB, "file", 4) == 0 && close(file) == 0);
    check(other, MIB, 2);
    /* A mapping that fails leaves what was there. */
    CHECK(mmap(other, 4 * MIB, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED && errno == EBADF);
    check(other, MIB, 2);
    CHECK(memcmp(other + 2 * MIB, "file", 4) == 0);
    /* System calls read and write memory that is not there. */
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], grown + 4 * MIB, 4096) == 4096);
    CHECK(read(ends[0], other + 12 * MIB, 4096) == 4096);
    CHECK(memcmp(grown + 4 * MIB, other + 12 * MIB, 4096) == 0);
    /* Impossible sizes change nothing. */
    CHECK(mremap(grown, 8 * MIB, SIZE_MAX, MREMAP_MAYMOVE) == MAP_FAILED);
    CHECK(mremap(grown, SIZE_MAX, 16 * MIB, MREMAP_MAYMOVE) == MAP_FAILED);
    CHECK(munmap(grown, SIZE_MAX) == -1 && errno == EINVAL);
    CHECK(mmap(grown, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
    check(grown, 8 * MIB, 1);
    CHECK(munmap(other, 16 * MIB) == 0 && munmap(grown, 8 * MIB) == 0);
    /* What is mapped where a file was is the program's own, and is unmapped as such. */
    unsigned char there[MIB / PAGE];
    CHECK((file = memfd_create("again", 0)) >= 0 && ftruncate(file, (off_t)MIB) == 0);
    char *again = mmap(other + 2 * MIB, MIB, PROT_READ, MAP_SHARED, file, 0);
    CHECK(again != MAP_FAILED && munmap(again, MIB) == 0 && close(file) == 0);
    CHECK(mincore(again, MIB, there) == -1 && errno == ENOMEM);
}

static sigjmp_buf out;

static void refused(int signal)
{
    siglongjmp(out, signal);
}

static void protections(void)
{
    /* Addresses are reserved, and become usable by parts. */
    char *memory = map(512 * MIB, PROT_NONE);
    signal(SIGSEGV, refused);
    int caught = sigsetjmp(out, 1);
    if (caught == 0)
        *(volatile char *)memory = 1;
    CHECK(caught == SIGSEGV);
    CHECK(mprotect(memory + 64 * MIB, 32 * MIB, RW) == 0);
    fill(memory + 64 * MIB, 32 * MIB, 3);
    CHECK(mprotect(memory + 64 * MIB, 8 * MIB, PROT_NONE) == 0 && mprotect(memory + 80 * MIB, MIB, PROT_READ) == 0);
    char *other = map(32 * MIB, RW);
    fill(other, 32 * MIB, 4);
    CHECK(mprotect(memory + 64 * MIB, 8 * MIB, RW) == 0);
    check(memory + 64 * MIB, 32 * MIB, 3);
    caught = sigsetjmp(out, 1);
    if (caught == 0)
        memory[80 * MIB] = 1;
    CHECK(caught == SIGSEGV);
    CHECK(mmap(memory + 64 * MIB, 32 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    CHECK(mmap(memory + 64 * MIB, 32 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    zeros(memory + 64 * MIB, 32 * MIB);
    check(other, 32 * MIB, 4);
    CHECK(munmap(memory, 512 * MIB) == 0);
    /* What was protected can be used by the next mapping. */
    memory = map(128 * MIB, RW);
    zeros(memory + 60 * MIB, 40 * MIB);
    CHECK(munmap(memory, 128 * MIB) == 0 && munmap(other, 32 * MIB) == 0);
}

static void blocks(void)
{
    char *block = malloc(16 * MIB), *zeroed = calloc(16, MIB), *aligned = aligned_alloc(2 * MIB, 8 * MIB);
    void *also = NULL;
    CHECK(block != NULL && zeroed != NULL && aligned != NULL && posix_memalign(&also, 1 << 16, 4 * MIB) == 0);
    CHECK((uintptr_t)aligned % (2 * MIB) == 0 && (uintptr_t)also % (1 << 16) == 0);
    CHECK(malloc_usable_size(block) >= 16 * MIB);
    zeros(zeroed, 16 * MIB);
    fill(block, 16 * MIB, 5);
    fill(aligned, 8 * MIB, 6);
    fill(also, 4 * MIB, 7);
    for (size_t mib = 17; mib < 40; mib += 3) {
        CHECK((block = realloc(block, mib * MIB)) != NULL);
        check(block, 16 * MIB, 5);
    }
    CHECK((block = realloc(block, 4 * PAGE)) != NULL);
    check(block, 4 * PAGE, 5);
    CHECK((block = realloc(block, 20 * MIB)) != NULL);
    check(block, 4 * PAGE, 5);
    check(aligned, 8 * MIB, 6);
    check(also, 4 * MIB, 7);
    free(block), free(zeroed), free(aligned), free(also);
    CHECK(malloc(SIZE_MAX / 2) == NULL && errno == ENOMEM);
    /* Impossible sizes leave a block as it is. */
    fill(block = malloc(4 * MIB), 4 * MIB, 8);
    for (volatile size_t bytes = SIZE_MAX, round = 0; round < 3; round++, bytes -= PAGE / 2) {
        errno = 0;
        CHECK(realloc(block, bytes) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(bytes) == NULL && errno == ENOMEM);
    }
    check(block, 4 * MIB, 8);
    free(block);
    zeros(zeroed = calloc(24, MIB), 24 * MIB);
    free(zeroed);
}

static void *churn(void *argument)
{
    uint64_t random = (uintptr_t)argument;
    struct {
        char *memory;
        size_t bytes;
    } own[8] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = random >> 61, bytes = (1 + (random >> 33) % 512) * PAGE;
        if (own[at].memory != NULL) {
            check(own[at].memory, own[at].bytes, at + (uintptr_t)argument);
            if (at % 2 == 0)
                free(own[at].memory);
            else
                CHECK(munmap(own[at].memory, own[at].bytes) == 0);
        }
        own[at].bytes = bytes;
        own[at].memory = at % 2 == 0 ? malloc(bytes) : map(bytes, RW);
        CHECK(own[at].memory != NULL);
        fill(own[at].memory, bytes, at + (uintptr_t)argument);
    }
    return NULL;
}

static void threads(void)
{
    pthread_t ids[4];
    for (uintptr_t id = 0; id < 4; id++)
        CHECK(pthread_create(&ids[id], NULL, churn, (void *)(100 * id + 1)) == 0);
    for (size_t id = 0; id < 4; id++)
        CHECK(pthread_join(ids[id], NULL) == 0);
}

static void *churn_on(void *argument)
{
    for (int round = 0; round < 2; round++)
        churn(argument);
    return NULL;
}

/* Handlers of fork() that were registered before those of any library, and need what those of the shim lock. */
static bool handlers_use_memory;

static void use_memory(void)
{
    for (size_t bytes = 64; handlers_use_memory && bytes <= MIB; bytes *= 128) {
        void *volatile block = malloc(bytes); /* Volatile: or the compiler leaves it out. */
        CHECK(block != NULL);
        free(block);
    }
    CHECK(!handlers_use_memory || munmap(map(MIB, RW), MIB) == 0);
}

static void register_early(void)
{
    pthread_atfork(use_memory, use_memory, use_memory);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_all)(void) = register_early;

/* Executes code in large memory until it is told to end. */
static void *execute(void *memory)
{
    static const unsigned char ret[] =
#if defined(__x86_64__)
        {0xc3};
#else
        {0xc0, 0x03, 0x5f, 0xd6}; /* AArch64. */
#endif
    char *code = map(4 * MIB, PROT_NONE);
    CHECK(mprotect(code, PAGE, RW) == 0);
    memcpy(code, ret, sizeof ret);
    __builtin___clear_cache(code, code + sizeof ret);
    CHECK(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
    void (*function)(void);
    memcpy(&function, &code, sizeof function);
    while (!*(volatile char *)memory)
        function();
    CHECK(munmap(code, 4 * MIB) == 0);
    return NULL;
}

static int child_of(char *memory, size_t bytes, uint64_t seed)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        check(memory, bytes, seed);
        fill(memory, bytes, seed + 1);
        /* The child has a pager of its own. */
        churn((void *)1);
        check(memory, bytes, seed + 1);
        CHECK(munmap(memory, bytes) == 0);
        _exit(7);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    check(memory, bytes, seed);
    return WEXITSTATUS(status);
}

static void *fork_here(void *unused)
{
    (void)unused;
    char *memory = map(MIB, RW);
    fill(memory, MIB, 11);
    int result = child_of(memory, MIB, 11);
    CHECK(munmap(memory, MIB) == 0);
    return (void *)(intptr_t)result;
}

/* Forks from a thread whose stack the program took from malloc(). */
static void stacks(void)
{
    void *stack, *result;
    pthread_attr_t attributes;
    pthread_t id;
    CHECK(posix_memalign(&stack, PAGE, MIB) == 0 && pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstack(&attributes, stack, MIB) == 0);
    CHECK(pthread_create(&id, &attributes, fork_here, NULL) == 0 && pthread_join(id, &result) == 0);
    free(stack);
    printf("own stack %d\n", (int)(intptr_t)result);
    printf("usual stack %d\n", (int)(intptr_t)fork_here(NULL));
}

/* A child loses the right to userfaultfd before it takes large memory. */
static void rights(void)
{
    char *memory = malloc(2 * MIB);
    fill(memory, 2 * MIB, 12);
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(geteuid() != 0 || setuid(65534) == 0);
        char *other = calloc(16, MIB);
        CHECK(other != NULL);
        zeros(other, 16 * MIB);
        CHECK((memory = realloc(memory, 600 * MIB)) != NULL);
        check(memory, 2 * MIB, 12);
        fill(memory, 4 * MIB, 13);
        churn((void *)1);
        check(memory, 4 * MIB, 13);
        free(memory), free(other);
        _exit(7);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    check(memory, 2 * MIB, 12);
    free(memory);
}

/* Forks with little in use and with much, some of it protected. Prints what came of it. */
static void forks(void)
{
    char *memory = map(32 * MIB, RW), *little = map(MIB, RW), *reserved = map(16 * MIB, PROT_NONE);
    fill(little, MIB, 8);
    printf("little %d\n", child_of(little, MIB, 8));
    CHECK(mprotect(reserved, MIB, PROT_READ) == 0);
    zeros(reserved, MIB);
    fill(memory, 32 * MIB, 9);
    /* Other threads map, touch and free memory meanwhile. */
    pthread_t other[3];
    char ends = 0;
    for (uintptr_t id = 0; id < 2; id++)
        CHECK(pthread_create(&other[id], NULL, churn_on, (void *)(1000 * id + 500)) == 0);
    CHECK(pthread_create(&other[2], NULL, execute, &ends) == 0);
    int first = child_of(memory, 32 * MIB, 9);
    CHECK(child_of(memory, 32 * MIB, 9) == first);
    *(volatile char *)&ends = 1;
    for (size_t id = 0; id < 3; id++)
        CHECK(pthread_join(other[id], NULL) == 0);
    printf("much %d\n", first);
    check(little, MIB, 8);
    CHECK(system("exit 5") == 5 << 8);
}

static void handlers(void)
{
    handlers_use_memory = true;
    forks();
}

/* Closes all descriptors that it does not know. */
static void descriptors(void)
{
    char *memory = map(32 * MIB, RW);
    fill(memory, 32 * MIB, 10);
    for (int descriptor = 3; descriptor < 300; descriptor++)
        close(descriptor);
    CHECK(close_range(3, ~0U, 0) == 0);
    closefrom(3);
    check(memory, 32 * MIB, 10);
    int file = open("/dev/null", O_RDONLY);
    CHECK(file >= 3 && close(file) == 0 && close(file) == -1 && errno == EBADF);
}

/* The heap of the shim, in this program itself: blocks are aligned, and none lies in another. */
static void heap_blocks(void)
{
    enum { BLOCKS = 4000 };
    static unsigned char *block[BLOCKS];
    static size_t size[BLOCKS];
    uint64_t random = 1;
    for (size_t round = 0; round < 4 * BLOCKS; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = round % BLOCKS, shift = (random >> 33) % 12;
        if (block[at] != NULL) {
            CHECK(block[at][0] == at % 251 && block[at][size[at] - 1] == at % 251);
            heap_free(block[at]);
        }
        size[at] = 1 + (random >> 40) % ((size_t)1 << (round % 50 == 0 ? 21 : shift + 1));
        block[at] = heap_alloc(size[at], (size_t)1 << shift);
        CHECK(block[at] != NULL && (uintptr_t)block[at] % ((size_t)1 << shift) == 0);
        CHECK(is_of_heap(block[at]) && heap_size(block[at]) >= size[at]);
        memset(block[at], (int)(at % 251), size[at]);
    }
    CHECK(heap_alloc(SIZE_MAX, 16) == NULL && !is_of_heap(&random));
}

int main(int count, char **arguments)
{
    alarm(1800); /* A page that nobody serves would be waited for without end. */
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"mappings", mappings}, {"protections", protections}, {"blocks", blocks}, {"threads", threads},
                 {"descriptors", descriptors}, {"forks", forks}, {"stacks", stacks}, {"rights", rights},
                 {"heap", heap_blocks}, {"handlers", handlers}};
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
        if (count == 2 && strcmp(arguments[1], parts[part].name) == 0) {
            parts[part].run();
            printf("%s: ok\n", arguments[1]);
            return 0;
        }
    return 2;
}
