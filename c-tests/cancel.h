/* Shared by the tests of cancelled threads. */
#ifndef CANCEL_H
#define CANCEL_H

#include "check.h"
#include <pthread.h>

/* What a thread does, and whether it completed that. */
struct doomed {
    void (*act)(void);
    int done;
};

static inline void *run_doomed(void *argument)
{
    struct doomed *doomed = argument;
    int state;
    CHECK(pthread_cancel(pthread_self()) == 0);
    doomed->act();
    doomed->done = 1;
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state) == 0 && state == PTHREAD_CANCEL_ENABLE);
    CHECK(pthread_setcancelstate(state, NULL) == 0);
    pthread_testcancel();
    return NULL;
}

/* Calls `act` in a thread with a pending cancellation: it must complete `act`, and be cancelled after it. */
static inline void do_cancelled(void (*act)(void))
{
    struct doomed doomed = {act, 0};
    pthread_t thread;
    void *result = NULL;
    CHECK(pthread_create(&thread, NULL, run_doomed, &doomed) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(doomed.done && result == PTHREAD_CANCELED);
}

#endif
