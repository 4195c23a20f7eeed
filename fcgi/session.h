/*
 * A session with PostgreSQL that is made when it is needed, is looked at before it is used, and is dropped after any
 * doubt. No call takes longer than its deadline.
 *
 * Threads: one at a time; it may be another each time. See also pg.h.
 */
#ifndef RECEIPTD_SESSION_H
#define RECEIPTD_SESSION_H

#include "database.h"
#include "inspection.h"
#include "store_result.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

enum { SESSION_DETAIL_SIZE = INSPECTION_PROBLEM_SIZE };

struct session;

/* One that connects at its first use. `database` outlives it. NULL when memory runs out. */
struct session *session_new(struct database *database);

/* If it is connecting, waits for that: as long as connect_timeout says, for each host (pg.c). */
void session_free(struct session *session);

/*
 * Connects, unless there is a connection, and inspects the server (inspection.h): two round trips more. A connection
 * that is there is inspected again when another session has found a change, and replaced when its host has failed
 * another session. False when there is none by deadline_us (CLOCK_MONOTONIC) or the server is unfit; see
 * session_failure. *is_new: whether it was made now.
 */
bool session_connect(struct session *session, enum inspection_use use, int64_t deadline_us, bool *is_new);

/* Inspects the server again, over the connection, which is dropped when it is unfit or has other columns now. */
bool session_inspect(struct session *session, enum inspection_use use, int64_t deadline_us);

/* What the last inspection found. */
const struct inspection *session_inspection(const struct session *session);

/* Whether the last call failed because the server is unfit. */
bool session_is_unfit(const struct session *session);

/* The one of the hosts that it is, or was last, connected to (hosts.h). */
size_t session_host_index(const struct session *session);

/* The host and port that it is, or was last, connected to. Good until the next call. */
const char *session_host(const struct session *session);
const char *session_port(const struct session *session);

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

/* To be called before the statements of a batch. */
void session_begin(struct session *session);

/*
 * To be called after each commit: whether it is where it has to be. False, with the connection dropped, when a wait for
 * a standby was cancelled since session_begin, or, where a standby is required, when the configuration was read again
 * meanwhile: without a standby named, PostgreSQL releases whoever waits for one, without a word.
 */
bool session_confirm(struct session *session, int64_t deadline_us);

/* Drops the connection. `failure` (static storage) is what session_failure says from then on. */
void session_drop(struct session *session, const char *failure);

/*
 * Why the last call failed: in words (static storage; NULL: for want of time alone), the SQLSTATE, and what PostgreSQL,
 * libpq or the inspection said; the last two may be empty, and are good until the next call.
 */
const char *session_failure(const struct session *session);
const char *session_sqlstate(const struct session *session);
const char *session_detail(const struct session *session);

#endif
