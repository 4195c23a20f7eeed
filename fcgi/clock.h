/* The monotonic clock: as a number, for deadlines and durations, and to wait by. Threads: any. */
#ifndef RECEIPTD_CLOCK_H
#define RECEIPTD_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

enum { US_PER_MS = 1000, US_PER_S = 1000000, NS_PER_US = 1000 };

static inline int64_t clock_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / NS_PER_US;
}

/* A condition whose pthread_cond_timedwait goes by this clock. */
static inline void clock_init_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static inline struct timespec clock_timespec(int64_t us) {
    return (struct timespec){.tv_sec = us / US_PER_S, .tv_nsec = us % US_PER_S * NS_PER_US};
}

#endif
