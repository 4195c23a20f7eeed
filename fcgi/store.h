/*
 * What the committer asks of a store. store_pg.c is the real one; tests have a fake.
 *
 * Threads: a store belongs to one thread at a time; whoever stores next may be another.
 */
#ifndef RECEIPTD_STORE_H
#define RECEIPTD_STORE_H

#include "delivery.h"

#include <stddef.h>
#include <stdint.h>

enum store_result {
    STORE_OK = 0,
    STORE_REFUSED,  /* nothing was stored: something in the batch can't be (a data or constraint error); in a smaller
                       batch the others can */
    STORE_CONFLICT, /* nothing was stored: a serialization failure or deadlock; at once again is fine */
    STORE_FAILED, /* nothing is known to be stored durably: no connection, a time-out, no space, …; a little later it
                     may work, and it is safe to try again what may have been stored after all */
};

struct store {
    /*
     * Stores `count` deliveries in one transaction. STORE_OK: it is durable, and every delivery has its outcome
     * (created, unchanged or revised). Otherwise no delivery is touched, and sqlstate (empty when PostgreSQL gave none)
     * and failure (static storage) say why. No two of the deliveries have the same key, and they are sorted by key.
     * deadline_us (CLOCK_MONOTONIC) is when to give up.
     */
    enum store_result (*store)(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us);
    /*
     * The same for deliveries with a refusal, in any order and with any keys: each becomes a rejected receipt. They
     * have their outcome (refusal_answer) when the result is STORE_OK.
     */
    enum store_result (*reject)(struct store *store, struct delivery *const *deliveries, size_t count,
                                int64_t deadline_us);
    void (*free)(struct store *store);
    bool repeats; /* most of the last batch was there already: the next one is looked up, and needs no commit if all is
                   */
    const char *failure;
    char sqlstate[6];
};

#endif
