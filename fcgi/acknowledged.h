/*
 * receiptd missing --acknowledged: which deliveries got a final answer, by the service's log, and are not in the
 * database: after a failover without a synchronous standby, a restore, or a point-in-time recovery.
 *
 * Threads: one. Memory: constant, see spool.h.
 */
#ifndef RECEIPTD_ACKNOWLEDGED_H
#define RECEIPTD_ACKNOWLEDGED_H

#include "missing.h"

/*
 * Reads the lines, queries the database, and writes a line for each acknowledged delivery (2xx, 400, 422) that it does
 * not hold, oldest first.
 */
enum missing_result acknowledged_missing(const struct missing_options *options, FILE *out, FILE *errors);

#endif
