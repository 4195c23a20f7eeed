/*
 * Large requests (connection.h) that have arrived in whole and wait to be read, oldest first.
 *
 * They wait until what is small has been read and stored: to read one of 1 MiB takes up to 50 ms and 13 MiB. Only some
 * threads read one at a time, so that there are others for small requests, and memory for all of them.
 *
 * Threads: any, but for init and fini.
 */
#ifndef RECEIPTD_LARGE_REQUESTS_H
#define RECEIPTD_LARGE_REQUESTS_H

#include "connection.h"

struct large_requests {
    pthread_mutex_t lock;
    struct connection *first, **last; /* *last is the link that ends the list */
    unsigned busy, max;               /* threads that read one now, and at most */
};

/* How many of so many threads read one at a time, at most. */
unsigned large_requests_max(unsigned threads);

void large_requests_init(struct large_requests *requests, unsigned threads);
void large_requests_fini(struct large_requests *requests);

/* Puts off a request; its connection belongs to whoever takes it. */
void large_requests_add(struct large_requests *requests, struct connection *connection);

/* The oldest, to be read now; large_requests_end is due then. NULL: there is none, or enough threads read one. */
struct connection *large_requests_take(struct large_requests *requests);
void large_requests_end(struct large_requests *requests);

#endif
