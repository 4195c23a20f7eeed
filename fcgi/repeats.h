/*
 * Which rejected deliveries are identical: the same body, with the same API key. Many senders retry what they should
 * not, and rejected_receipts has one row for each problem.
 *
 * Threads: one at a time.
 */
#ifndef RECEIPTD_REPEATS_H
#define RECEIPTD_REPEATS_H

#include "delivery.h"

#include <stdbool.h>
#include <stddef.h>

struct repeats;

/* Identical deliveries of a batch, in the order of their arrival. */
struct repeats_group {
    struct delivery *const *deliveries; /* good until the next repeats_group */
    size_t count;
};

/* For batches of up to max_deliveries. NULL when there is no memory. */
struct repeats *repeats_new(size_t max_deliveries);
void repeats_free(struct repeats *repeats);

/*
 * Sets each delivery's digest and groups the batch: in the order of digests, so that two workers lock rows in one
 * order. NULL when there is no memory; else *group_count groups.
 */
const struct repeats_group *repeats_group(struct repeats *repeats, struct delivery *const *deliveries, size_t count,
                                          size_t *group_count);

#endif
