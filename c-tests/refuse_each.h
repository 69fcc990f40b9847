/* Repeats calls of the library, and refuses a different one of their system calls each time: see refuse.h.

   After each attempt everything that was stored before has its bytes, the failed call works, and no memory, descriptor
   or mapping is left behind. */
#ifndef REFUSE_EACH_H
#define REFUSE_EACH_H

#include "refuse.h"
#include <inttypes.h>

/* A call whose system calls are refused. */
struct act {
    const char *name;
    /* Prepares what the call needs; may be NULL. */
    void (*prepare)(void);
    /* Does what was not done yet, and returns the first result other than 0. */
    int (*call)(void);
    /* Ends the program unless the call's effects are right, and undoes them; may be NULL. */
    void (*undo)(void);
    /* Maximum number of consecutive system calls to refuse, for calls that try again; 0: all from one on. */
    int most_refused;
    /* A result that the header documents for this call, beside those that any call may have. */
    int allowed;
};

/* Resources of the process, none of which may be left behind. */
struct holdings {
    long allocations;
    int mappings;
    unsigned char is_open[256];
};

static const char *act_name = "";

static inline int mappings(void)
{
    static char text[1 << 16];
    int found = 0;
    int maps = real_open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    ssize_t bytes;
    CHECK(maps >= 0);
    while ((bytes = real_read(maps, text, sizeof text)) > 0)
        for (ssize_t at = 0; at < bytes; at++)
            found += text[at] == '\n';
    CHECK(real_close(maps) == 0);
    return found;
}

static inline struct holdings holdings(int with_mappings)
{
    struct holdings found = {.allocations = atomic_load(&allocations), .mappings = with_mappings ? mappings() : 0};
    for (int fd = 0; fd < 256; fd++)
        found.is_open[fd] = real_fcntl(fd, F_GETFD) >= 0;
    return found;
}

/* Unmaps what the library could not. */
static inline void unmap_left(void)
{
    for (int place = 0; place < atomic_load(&left_mapped_count); place++)
        CHECK(real_munmap(left_mapped[place].at, left_mapped[place].bytes) == 0);
    atomic_store(&left_mapped_count, 0);
}

/* Reports what was refused when the program ends early. */
static inline void say_what_was_refused(void)
{
    if (act_name[0] == 0)
        return;
    fprintf(stderr, "in %s, with %d calls of %s refused, beginning with call %d: %s\n", act_name, refused.times,
            kinds[refused.kind].name, refused.from,
            refused.from == 0      ? "none"
            : refused.how == A_PART ? "a part was done"
                                    : strerror(refused.how));
}

static void on_end(int signal)
{
    atomic_store(&watched, 0);
    fprintf(stderr, "signal %d\n", signal);
    say_what_was_refused();
    _exit(1);
}

static inline void watch(int is_watched)
{
    if (is_watched)
        for (int kind = 0; kind < KIND_COUNT; kind++)
            atomic_store(&calls_of[kind], 0);
    atomic_store(&watched, is_watched);
}

static inline int may_be_result(const struct act *act, int result)
{
    return result == 0 || result == -ENOMEM || result == -EAGAIN || result == act->allowed ||
           (refused.how != A_PART && result == -refused.how);
}

/* Checks what must hold all the time. */
static void (*check_stored)(void);

/* Runs a call once, with system calls refused. */
static inline void attempt(const struct act *act)
{
    alarm(100);
    if (act->prepare != NULL)
        act->prepare();
    watch(1);
    int result = act->call();
    watch(0);
    unmap_left();
    if (!may_be_result(act, result)) {
        fprintf(stderr, "the result is %d (%s)\n", result, zs_strerror(result));
        exit(1);
    }
    check_stored();
    if (result != 0)
        OK(act->call());
    if (act->undo != NULL)
        act->undo();
}

static inline void check_holdings(struct holdings before, int with_mappings)
{
    struct holdings now = holdings(with_mappings);
    int descriptors = 0;
    for (int fd = 0; fd < 256; fd++) {
        if (now.is_open[fd] == before.is_open[fd])
            continue;
        /* The library does not close a backing file's descriptor that it can't recognise: it may be another file's. */
        if (refused.kind == OF_STAT && now.is_open[fd])
            CHECK(real_close(fd) == 0);
        else
            descriptors++;
    }
    if (now.allocations != before.allocations || descriptors != 0 || now.mappings != before.mappings) {
        fprintf(stderr, "left behind: %ld allocations, %d descriptors, %d mappings\n",
                now.allocations - before.allocations, descriptors, now.mappings - before.mappings);
        exit(1);
    }
}

/* Returns the call to refuse next: the following one with ZSALLOC_REFUSE_ALL in the environment. Otherwise steps grow
   with the number of calls, because later calls repeat earlier ones. */
static inline int next_from(int from, int times)
{
    static int is_all = -1;
    if (is_all < 0)
        is_all = getenv("ZSALLOC_REFUSE_ALL") != NULL;
    return is_all ? from + 1 : times == 1 ? from + 1 + from / 4 : from * 2;
}

/* Refuses the system calls of one kind in one way. Returns how many were refused. */
static inline int refuse_kind(const struct act *act, enum kind kind, int how, int times)
{
    int before = atomic_load(&refusals);
    refused.kind = kind;
    refused.how = how;
    /* The library repeats an interrupted call. */
    refused.times = how == EINTR && times > 3 ? 3 : times;
    for (refused.from = 1;; refused.from = next_from(refused.from, times)) {
        struct holdings held = holdings(0);
        attempt(act);
        if (atomic_load(&calls_of[kind]) < refused.from)
            break;
        /* The number of mappings may change: a pool splits and joins them as it takes and gives memory. */
        check_holdings(held, 0);
    }
    refused.from = 0;
    return atomic_load(&refusals) - before;
}

/* Refuses each system call of an act in each way. Returns how many were refused. */
static inline int refuse_each(const struct act *act)
{
    int seen[KIND_COUNT], all = 0;
    act_name = act->name;
    attempt(act);
    for (int kind = 0; kind < KIND_COUNT; kind++)
        seen[kind] = atomic_load(&calls_of[kind]);
    printf("%-34s", act->name);
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        int count = 0;
        for (const int *how = kinds[kind].refusals; seen[kind] > 0 && *how != 0; how++) {
            count += refuse_kind(act, kind, *how, 1);
            count += refuse_kind(act, kind, *how, act->most_refused > 0 ? act->most_refused : 1 << 30);
        }
        if (count > 0)
            printf(" %s %d", kinds[kind].name, count);
        all += count;
    }
    printf("%s, in all %d\n", all == 0 ? " no system calls" : "", all);
    return all;
}

/* Runs acts on what `create` makes. Nothing may be left after `destroy`. */
static inline void refuse_in(const char *scene, void (*create)(void), const struct act *acts, size_t count,
                             void (*destroy)(void), void (*check)(void), uint64_t (*pages)(void))
{
    static int is_set_up;
    if (!is_set_up) {
        is_set_up = 1;
        atexit(say_what_was_refused);
        /* Makes stdout allocate its buffer now and never later. */
        setvbuf(stdout, NULL, _IOLBF, 1 << 12);
        signal(SIGALRM, on_end);
        signal(SIGABRT, on_end);
        signal(SIGSEGV, on_end);
    }
    printf("%s\n", scene);
    int all = 0;
    struct holdings before = holdings(1);
    check_stored = check;
    create();
    for (size_t at = 0; at < count; at++) {
        uint64_t charged = pages();
        all += refuse_each(&acts[at]);
        /* Everything that was charged must be given back. */
        uint64_t now = pages();
        if (now > charged) {
            fprintf(stderr, "%" PRIu64 " pages are charged, and were %" PRIu64 " before\n", now, charged);
            exit(1);
        }
    }
    destroy();
    act_name = scene;
    check_holdings(before, 1);
    act_name = "";
    printf("%s: %d system calls refused\n\n", scene, all);
}

#endif
