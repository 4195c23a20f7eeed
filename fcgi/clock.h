/* The monotonic clock as a number, for deadlines and durations. Threads: any. */
#ifndef RECEIPTD_CLOCK_H
#define RECEIPTD_CLOCK_H

#include <stdint.h>
#include <time.h>

enum { US_PER_MS = 1000, US_PER_S = 1000000, NS_PER_US = 1000 };

static inline int64_t clock_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / NS_PER_US;
}

#endif
