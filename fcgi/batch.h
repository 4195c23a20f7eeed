/*
 * Storing one batch, in a lane that the calling thread has taken, until each of its deliveries is given back or set
 * aside: trying again, splitting, and what is done about locks.
 */
#ifndef RECEIPTD_BATCH_H
#define RECEIPTD_BATCH_H

#include "lane.h"

/*
 * Stores a batch, receipts sorted by key, trying again until it is stored or its deliveries' time is up. A batch that
 * fails for a reason of one row is split until that row alone fails: the others are stored.
 */
void batch_commit(struct lane *lane, struct delivery **batch, size_t count);

/* Tries once more to store what was set aside: first what is there and not locked any more, then what is not there. */
void batch_retry(struct lane *lane, struct delivery **batch, size_t count);

/* Orders deliveries by their receipts' keys; for qsort. */
int batch_compare(const void *a, const void *b);

#endif
