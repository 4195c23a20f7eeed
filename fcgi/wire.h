/*
 * Waiting for a result of libpq's, no longer than a deadline.
 *
 * Threads: one at a time for each connection.
 */
#ifndef RECEIPTD_WIRE_H
#define RECEIPTD_WIRE_H

#include <libpq-fe.h>
#include <stdint.h>

/*
 * Waits for the result of what was sent (PQsend…) over a connection that does not block, until deadline_us
 * (CLOCK_MONOTONIC). The caller clears it. NULL: the deadline passed or the connection broke.
 *
 * The commit belongs to the Sync after the statement (PostgreSQL: Extended Query): when it fails, its error follows the
 * statement's good result, and is the one that counts.
 */
PGresult *wire_wait(PGconn *connection, int64_t deadline_us);

#endif
