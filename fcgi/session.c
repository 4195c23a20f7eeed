#include "session.h"

#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "pg.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBLEM_SIZE = 256, SQLSTATE_SIZE = 6 };

struct session {
    PGconn *connection; /* NULL while there is none */
    bool warned;
    bool on_citus;
    const char *failure;
    char sqlstate[SQLSTATE_SIZE];

    bool connecting; /* there is a thread that connects */
    pthread_t connector;
    pthread_mutex_t lock;     /* guards the next two */
    pthread_cond_t connected; /* by CLOCK_MONOTONIC */
    bool ended;               /* the connector has left its connection, which may have failed, in `made` */
    PGconn *made;
};

struct session *session_new(void) {
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    clock_init_condition(&session->connected);
    pthread_mutex_init(&session->lock, NULL);
    return session;
}

static void disconnect(struct session *session) {
    PQfinish(session->connection);
    session->connection = NULL;
}

void session_free(struct session *session) {
    if (!session)
        return;
    if (session->connecting) {
        pthread_join(session->connector, NULL);
        PQfinish(session->made);
    }
    disconnect(session);
    pthread_cond_destroy(&session->connected);
    pthread_mutex_destroy(&session->lock);
    free(session);
}

const char *session_failure(const struct session *session) {
    return session->failure;
}

const char *session_sqlstate(const struct session *session) {
    return session->sqlstate;
}

bool session_on_citus(const struct session *session) {
    return session->on_citus;
}

bool session_warned(const struct session *session) {
    return session->warned;
}

void session_forget_warning(struct session *session) {
    session->warned = false;
}

void session_drop(struct session *session, const char *failure) {
    session->failure = failure;
    session->sqlstate[0] = '\0';
    disconnect(session);
}

static enum store_result drop_failed(struct session *session, const char *failure) {
    metrics_count_database_error("");
    session_drop(session, failure);
    return STORE_FAILED;
}

/*
 * Where a commit waits for a standby, a cancelled wait is a success with a warning: committed here, not there
 * (PostgreSQL: SyncRepWaitForLSN). Nothing else in a batch warns, so any warning means "not durable".
 */
static void receive_notice(void *context, const PGresult *result) {
    struct session *session = context;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity && strcmp(severity, "WARNING") == 0)
        session->warned = true;
    log_message(LOG_WARNING, "PostgreSQL: %s", PQresultErrorMessage(result));
}

/* Whether a result can be had, in what was read from the socket. */
static bool is_ready(const struct session *session, int unsent) {
    return unsent == 0 && !PQisBusy(session->connection);
}

/*
 * Sends what is unsent and waits until a result can be had; false: the deadline passed or the connection broke. Before
 * each poll it reads: with TLS, some of an answer may have left the socket, which then shows nothing.
 */
static bool wait_until_ready(struct session *session, int64_t deadline_us) {
    struct pollfd poll_fd = {.fd = PQsocket(session->connection)};
    for (;;) {
        int unsent = PQflush(session->connection);
        if (unsent < 0)
            return false;
        if (is_ready(session, unsent))
            return true;
        if (!PQconsumeInput(session->connection))
            return false;
        if (is_ready(session, unsent))
            return true;
        poll_fd.events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0));
        int64_t left_ms = (deadline_us - clock_now_us() + US_PER_MS - 1) / US_PER_MS;
        if (left_ms <= 0)
            return false;
        if (poll(&poll_fd, 1, (int)left_ms) < 0 && errno != EINTR)
            return false;
    }
}

static bool has_failed(const PGresult *result) {
    return PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK;
}

/*
 * Waits for the result of what was sent, the caller's to clear; NULL: the deadline passed or the connection broke.
 * The commit comes with the Sync after the statement (PostgreSQL: Extended Query): when it fails, its error follows the
 * statement's good result, and is the one that counts.
 */
static PGresult *wait_for_result(struct session *session, int64_t deadline_us) {
    PGresult *result = NULL, *next;
    do {
        if (!wait_until_ready(session, deadline_us)) {
            if (result && has_failed(result))
                return result;
            PQclear(result);
            return NULL;
        }
        next = PQgetResult(session->connection);
        if (next && !(result && has_failed(result))) {
            PQclear(result);
            result = next;
        } else {
            PQclear(next);
        }
    } while (next);
    return result;
}

/* Appendix A of PostgreSQL's manual. By SQLSTATE, not by constraint: Citus adds shard numbers to those. */
static enum store_result classify(const char *sqlstate) {
    if (strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0)
        return STORE_CONFLICT;
    if (strcmp(sqlstate, "55P03") == 0)
        return STORE_LOCKED;
    if (strncmp(sqlstate, "21", 2) == 0 || strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
        strncmp(sqlstate, "54", 2) == 0)
        return STORE_UNSTORABLE;
    return STORE_FAILED;
}

/* Remembers why a statement failed, and says what follows from it. Clears `result`, which may be NULL. */
static enum store_result note_failure(struct session *session, PGresult *result, int64_t deadline_us) {
    if (!result)
        return drop_failed(session, clock_now_us() >= deadline_us ? "PostgreSQL did not answer in time"
                                                                  : "lost the connection to PostgreSQL");
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char sqlstate[SQLSTATE_SIZE] = "";
    if (state)
        memcpy(sqlstate, state, strnlen(state, sizeof sqlstate - 1));
    enum store_result outcome = classify(sqlstate);
    metrics_count_database_error(sqlstate);
    /* A lock is nothing to call somebody for: it is tried again, and what it holds up for long is logged as answered.
     */
    log_message(outcome == STORE_LOCKED ? LOG_WARNING : LOG_ERROR, "PostgreSQL: %s %s", sqlstate,
                PQresultErrorMessage(result));
    PQclear(result);
    session->failure = outcome == STORE_LOCKED ? "another session holds a lock" : "PostgreSQL failed";
    /*
     * Read-only after a failover, shutting down, prepared statements gone behind a pooler, a changed schema, …: a new
     * connection is the way out of all of them, and harmless where it is not needed.
     */
    if (outcome == STORE_FAILED)
        disconnect(session);
    memcpy(session->sqlstate, sqlstate, sizeof sqlstate);
    return outcome;
}

enum store_result session_prepare(struct session *session, const char *name, const char *sql,
                                  const struct session_parameters *parameters, int64_t deadline_us) {
    PGresult *result = NULL;
    if (PQsendPrepare(session->connection, name, sql, parameters->count, parameters->types))
        result = wait_for_result(session, deadline_us);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return note_failure(session, result, deadline_us);
    PQclear(result);
    return STORE_OK;
}

enum store_result session_run(struct session *session, const char *name, const char *sql,
                              const struct session_parameters *parameters, int64_t deadline_us, PGresult **result) {
    int sent = name ? PQsendQueryPrepared(session->connection, name, parameters->count, parameters->values,
                                          parameters->lengths, parameters->formats, 1)
                    : PQsendQueryParams(session->connection, sql, parameters->count, parameters->types,
                                        parameters->values, parameters->lengths, parameters->formats, 1);
    *result = sent ? wait_for_result(session, deadline_us) : NULL;
    if (PQresultStatus(*result) == PGRES_TUPLES_OK)
        return STORE_OK;
    PGresult *failed = *result;
    *result = NULL;
    return note_failure(session, failed, deadline_us);
}

/* Runs a command that has no rows; the transaction it ends, if it does, has to end as `tag` says. */
static enum store_result run_command(struct session *session, const char *sql, const char *tag, int64_t deadline_us) {
    PGresult *result = PQsendQuery(session->connection, sql) ? wait_for_result(session, deadline_us) : NULL;
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return note_failure(session, result, deadline_us);
    /* A transaction that failed is rolled back by "commit" too (PostgreSQL: COMMIT). */
    bool as_told = strcmp(PQcmdStatus(result), tag) == 0;
    PQclear(result);
    return as_told ? STORE_OK : drop_failed(session, "PostgreSQL rolled back");
}

enum store_result session_run_briefly(struct session *session, unsigned lock_timeout_ms, const char *sql,
                                      const struct session_parameters *parameters, int64_t deadline_us,
                                      PGresult **result) {
    char begin[64];
    snprintf(begin, sizeof begin, "begin; set local lock_timeout = %u", lock_timeout_ms);
    *result = NULL;
    enum store_result ran = run_command(session, begin, "SET", deadline_us);
    if (ran != STORE_OK)
        return ran == STORE_FAILED ? ran : drop_failed(session, "PostgreSQL failed");
    ran = session_run(session, NULL, sql, parameters, deadline_us, result);
    if (ran == STORE_FAILED)
        return ran;
    if (ran != STORE_OK) {
        const char *failure = session->failure;
        char sqlstate[SQLSTATE_SIZE];
        memcpy(sqlstate, session->sqlstate, sizeof sqlstate);
        if (run_command(session, "rollback", "ROLLBACK", deadline_us) != STORE_OK)
            return drop_failed(session, "lost the connection to PostgreSQL");
        session->failure = failure;
        memcpy(session->sqlstate, sqlstate, sizeof sqlstate);
        return ran;
    }
    ran = run_command(session, "commit", "COMMIT", deadline_us);
    if (ran != STORE_OK) {
        PQclear(*result);
        *result = NULL;
    }
    return ran;
}

static void *connect_now(void *argument) {
    struct session *session = argument;
    PGconn *made = pg_connect();
    pthread_mutex_lock(&session->lock);
    session->made = made;
    session->ended = true;
    pthread_cond_signal(&session->connected);
    pthread_mutex_unlock(&session->lock);
    return NULL;
}

/* Waits for the connector; false: not in time. */
static bool wait_for_connector(struct session *session, int64_t deadline_us) {
    const struct timespec until = clock_timespec(deadline_us);
    pthread_mutex_lock(&session->lock);
    while (!session->ended && pthread_cond_timedwait(&session->connected, &session->lock, &until) != ETIMEDOUT)
        ;
    bool ended = session->ended;
    pthread_mutex_unlock(&session->lock);
    return ended;
}

/* Looks at the settings, which are anybody's to change: the server's, the database's, the role's, the client's. */
static bool is_fit(struct session *session, int64_t deadline_us) {
    char problem[PROBLEM_SIZE] = "";
    PGresult *result = NULL;
    if (PQsendQuery(session->connection, pg_settings_query))
        result = wait_for_result(session, deadline_us);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        note_failure(session, result, deadline_us);
        disconnect(session);
        return false;
    }
    enum pg_verdict verdict = pg_judge_settings(result, problem, sizeof problem);
    session->on_citus = pg_is_citus(result);
    PQclear(result);
    switch (verdict) {
    case PG_FIT:
        return true;
    case PG_SLOW:
        log_message(LOG_WARNING, "PostgreSQL: %s", problem);
        return true;
    case PG_UNFIT:
        log_message(LOG_ERROR, "PostgreSQL is not fit to store in: %s", problem);
        break;
    }
    drop_failed(session, "PostgreSQL is not fit to store in");
    return false;
}

/*
 * Only libpq's blocking call goes from one host to the next, and it can take longer than a delivery may: so it has a
 * thread of its own, which the next batch finds where it was.
 */
bool session_connect(struct session *session, int64_t deadline_us, bool *is_new) {
    *is_new = false;
    if (session->connection)
        return true;
    if (!session->connecting) {
        session->ended = false;
        if (pthread_create(&session->connector, NULL, connect_now, session) != 0) {
            drop_failed(session, "no thread to connect to PostgreSQL with");
            return false;
        }
        session->connecting = true;
    }
    if (!wait_for_connector(session, deadline_us)) {
        drop_failed(session, "no connection to PostgreSQL in time");
        return false;
    }
    pthread_join(session->connector, NULL);
    session->connecting = false;
    session->connection = session->made;
    session->made = NULL;
    if (PQstatus(session->connection) != CONNECTION_OK || PQsetnonblocking(session->connection, 1) != 0) {
        log_message(LOG_ERROR, "cannot connect to PostgreSQL: %s", PQerrorMessage(session->connection));
        drop_failed(session, "no connection to PostgreSQL");
        return false;
    }
    PQsetNoticeReceiver(session->connection, receive_notice, session);
    if (!is_fit(session, deadline_us))
        return false;
    log_message(LOG_INFO, "connected to PostgreSQL");
    metrics_count_database_connect();
    *is_new = true;
    return true;
}
