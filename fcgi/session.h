/*
 * A session with PostgreSQL that is made when it is needed, is looked at before it is used, and is dropped after any
 * doubt. No call takes longer than its deadline.
 *
 * Threads: one at a time; it may be another each time. See also pg.h.
 */
#ifndef RECEIPTD_SESSION_H
#define RECEIPTD_SESSION_H

#include "store_result.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct session;

/* One that connects at its first use. NULL when there is no memory. */
struct session *session_new(void);

/* Where it is connecting, that is waited for: as long as connect_timeout says, for each host (pg.c). */
void session_free(struct session *session);

/*
 * Connects, unless there is a connection, and makes sure that what will be committed is durable: one round trip more.
 * False when there is none by deadline_us (CLOCK_MONOTONIC) or it is unfit; see session_failure. *is_new: whether it
 * was made now.
 */
bool session_connect(struct session *session, int64_t deadline_us, bool *is_new);

/* Parameters of a statement; all are binary. */
struct session_parameters {
    int count;
    const Oid *types;
    const char *const *values;
    const int *lengths, *formats;
};

/*
 * Prepares a statement; sql and name end in NUL. The connection of this and the next has to be there. Of the result of
 * either: STORE_OK, or what the failure means for the batch; after STORE_FAILED there is no connection any more.
 */
enum store_result session_prepare(struct session *session, const char *name, const char *sql,
                                  const struct session_parameters *parameters, int64_t deadline_us);

/*
 * Runs a statement and waits for its commit: the prepared one of that name, or where that is NULL the SQL. STORE_OK:
 * *result, in binary format, is the caller's to clear.
 */
enum store_result session_run(struct session *session, const char *name, const char *sql,
                              const struct session_parameters *parameters, int64_t deadline_us, PGresult **result);

/*
 * Runs SQL as session_run does, but in a transaction that waits for no lock longer than lock_timeout_ms: three round
 * trips instead of one. Set for the transaction alone, since a pooler gives the next one another session.
 */
enum store_result session_run_briefly(struct session *session, unsigned lock_timeout_ms, const char *sql,
                                      const struct session_parameters *parameters, int64_t deadline_us,
                                      PGresult **result);

/* Whether the server is a node of Citus. */
bool session_on_citus(const struct session *session);

/* Whether the server has sent a warning since session_forget_warning: where a commit warns, it is not durable. */
bool session_warned(const struct session *session);
void session_forget_warning(struct session *session);

/* Drops the connection. `failure` (static storage) is what session_failure says from then on. */
void session_drop(struct session *session, const char *failure);

/* Why the last call failed. Static storage; and the SQLSTATE that came with it, else empty. */
const char *session_failure(const struct session *session);
const char *session_sqlstate(const struct session *session);

#endif
