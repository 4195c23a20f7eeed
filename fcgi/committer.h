/*
 * Group commit: deliveries wait in one bounded queue; a committer thread takes what is there and stores it in one
 * statement and one transaction, while what arrives meanwhile becomes the next batch. There is no timer: a lone
 * delivery is committed at once, and under load the batches grow by themselves.
 *
 * Threads: committer_submit from any. The done callback is called in a committer thread.
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

/* Called once for every delivery that was submitted, with its outcome set; the delivery is the callee's again. */
typedef void committer_done(void *context, struct delivery *delivery);

/*
 * Starts one thread for each of the `store_count` stores, which it owns from then on and frees with their free
 * function. NULL when there is no memory or no thread to be had (the stores are freed then too).
 */
struct committer *committer_new(const struct committer_options *options, struct store *const *stores,
                                size_t store_count, committer_done *done, void *context);

/*
 * Hands over a delivery with a valid receipt, or with a refusal. False when the queue is full: then the delivery stays
 * the caller's, to be answered 503 at once.
 */
bool committer_submit(struct committer *committer, struct delivery *delivery);

/* Waits until everything submitted is done, ends the threads and frees. No submit may come after. Takes NULL. */
void committer_free(struct committer *committer);

#endif
