/*
 * Group commit: deliveries wait in one bounded queue; a thread that has time to work takes what is there and stores it
 * in one statement and one transaction, while what arrives meanwhile becomes the next batch. There is no timer: a lone
 * delivery is committed at once, and under load the batches grow by themselves.
 *
 * It has no threads of its own. Who submits also works, after it has submitted all it has at hand, and then stores
 * others' deliveries too, until none wait: so a lone delivery needs no other thread to be woken.
 *
 * Threads: any, but for new and free. The done callback is called in a thread that works.
 */
#ifndef RECEIPTD_COMMITTER_H
#define RECEIPTD_COMMITTER_H

#include "store.h"

#include <stdbool.h>
#include <stddef.h>

struct committer;

struct committer_options {
    size_t batch_max; /* deliveries in one transaction, at the most */
    size_t queue_max; /* deliveries waiting, at the most */
};

/*
 * Called with deliveries that were submitted, once for each of them, with their outcomes set; they are the callee's
 * again.
 */
typedef void committer_done(void *context, struct delivery *const *deliveries, size_t count);

/*
 * Owns the `store_count` stores from then on and frees them with their free function. As many threads can store at a
 * time. NULL when there is no memory (the stores are freed then too).
 */
struct committer *committer_new(const struct committer_options *options, struct store *const *stores,
                                size_t store_count, committer_done *done, void *context);

/*
 * Hands over a delivery with a valid receipt, or with a refusal. False when the queue is full: then the delivery stays
 * the caller's, to be answered 503 at once.
 */
bool committer_submit(struct committer *committer, struct delivery *delivery);

/*
 * Stores what waits, batch after batch, until nothing does, however long that takes; returns at once when nothing
 * waits, or when others are storing and what waits is theirs to take next. To be called after a submit, and again after
 * as many milliseconds as it returns (-1: only after a submit), lest a batch that takes long hold up what waits.
 */
int committer_work(struct committer *committer);

/* Frees it and its stores. Everything submitted must be done, and no thread in committer_work. Takes NULL. */
void committer_free(struct committer *committer);

#endif
