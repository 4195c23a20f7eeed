#include "session.h"

#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "pg.h"
#include "statements.h"
#include "troubles.h"
#include "wire.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SQLSTATE_SIZE = 6, NAME_SIZE = 256, GIVE_UP_US = 500 * US_PER_MS };

struct session {
    struct database *database;
    PGconn *connection; /* NULL while there is none */
    bool in_doubt;      /* a commit since session_begin did not wait for the standby as it should have */
    unsigned changes;   /* database->changes when it was inspected last */
    struct inspection inspection;
    size_t host;          /* see hosts.h */
    int64_t connected_us; /* CLOCK_MONOTONIC */
    int64_t sent_us;      /* when the last statement was sent */
    char host_name[NAME_SIZE], port[16];

    const char *failure;
    char sqlstate[SQLSTATE_SIZE];
    char detail[SESSION_DETAIL_SIZE];

    bool connecting; /* there is a thread that connects */
    pthread_t connector;
    pthread_mutex_t lock;     /* guards the next two */
    pthread_cond_t connected; /* by CLOCK_MONOTONIC */
    bool ended;               /* the connector has left its connection, which may have failed, in `made` */
    PGconn *made;
};

static const char unfit[] = "PostgreSQL is not fit to store in";

struct session *session_new(struct database *database) {
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->database = database;
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

const char *session_detail(const struct session *session) {
    return session->detail;
}

const struct inspection *session_inspection(const struct session *session) {
    return &session->inspection;
}

bool session_is_unfit(const struct session *session) {
    return session->failure == unfit;
}

size_t session_host_index(const struct session *session) {
    return session->host;
}

const char *session_host(const struct session *session) {
    return session->host_name;
}

const char *session_port(const struct session *session) {
    return session->port;
}

void session_begin(struct session *session) {
    session->in_doubt = false;
}

/* On one line. */
static void set_detail(struct session *session, const char *text) {
    size_t len = (size_t)snprintf(session->detail, sizeof session->detail, "%s", text ? text : "");
    if (len >= sizeof session->detail)
        len = sizeof session->detail - 1;
    while (len > 0 && session->detail[len - 1] == '\n')
        session->detail[--len] = '\0';
    for (char *c = session->detail; *c; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
}

static void set_failure(struct session *session, const char *failure, const char *detail) {
    session->failure = failure;
    session->sqlstate[0] = '\0';
    set_detail(session, detail);
}

void session_drop(struct session *session, const char *failure) {
    set_failure(session, failure, NULL);
    disconnect(session);
}

static enum store_result drop_failed(struct session *session, const char *failure) {
    metrics_count_database_error("");
    session_drop(session, failure);
    return STORE_FAILED;
}

/*
 * What the server says beside results. One warning matters: a wait for a standby was cancelled, which makes the commit
 * a success that is durable here and not there (PostgreSQL: SyncRepWaitForLSN). It is known by the function in the
 * server that sends it, since its text is translated. Every other one (a trigger's, or that transaction ids run out) is
 * about something else; it is logged once, lest each delivery repeats it.
 */
static void receive_notice(void *context, const PGresult *result) {
    struct session *session = context;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
    bool is_warning = severity && strcmp(severity, "WARNING") == 0;
    const char *const texts[] = {PQresultErrorField(result, PG_DIAG_SQLSTATE), function,
                                 PQresultErrorField(result, PG_DIAG_SOURCE_LINE),
                                 PQresultErrorField(result, PG_DIAG_CONTEXT)};
    if (is_warning && function && strcmp(function, "SyncRepWaitForLSN") == 0)
        session->in_doubt = true;
    else if (is_warning)
        metrics_count_database_warning();
    if (session->in_doubt)
        log_message(LOG_WARNING, "PostgreSQL: %s", PQresultErrorMessage(result));
    else if (database_is_new_message(session->database, texts, sizeof texts / sizeof texts[0]))
        log_message(LOG_WARNING, "PostgreSQL (repetitions are counted, and not logged): %s",
                    PQresultErrorMessage(result));
}

/*
 * Logs a trouble, unless one of its kind (these texts; NULL: none) was just logged. What a kind is does not have names
 * and values of a message in it, which would make each of them a new one.
 */
static void log_trouble(struct session *session, enum log_level level, bool stops_storing, const char *const *kind,
                        size_t count, const char *text) {
    unsigned more;
    if (!troubles_note(&session->database->troubles, stops_storing, kind, count, clock_now_us(), &more))
        return;
    if (more > 0)
        log_message(level, "(%u more since the last line) %s", more, text);
    else
        log_message(level, "%s", text);
}

static void log_message_of(struct session *session, enum store_result outcome, const char *sqlstate,
                           const PGresult *result) {
    const char *const kind[] = {sqlstate, PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION),
                                PQresultErrorField(result, PG_DIAG_SOURCE_LINE),
                                PQresultErrorField(result, PG_DIAG_CONTEXT)};
    char text[SESSION_DETAIL_SIZE];
    snprintf(text, sizeof text, "PostgreSQL: %s %s", sqlstate, PQresultErrorMessage(result));
    /* A lock is nothing to call somebody for: it is tried again, and what it holds up for long is logged as answered.
     */
    log_trouble(session, outcome == STORE_LOCKED ? LOG_WARNING : LOG_ERROR, outcome == STORE_FAILED, kind,
                sizeof kind / sizeof kind[0], text);
}

/* Appendix A of PostgreSQL's manual. By SQLSTATE, not by constraint: Citus adds shard numbers to those. */
static enum store_result classify(const char *sqlstate) {
    if (strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0)
        return STORE_CONFLICT;
    if (strcmp(sqlstate, "55P03") == 0)
        return STORE_LOCKED;
    if (strcmp(sqlstate, "57014") == 0) /* statement_timeout, or somebody cancelled it */
        return STORE_SLOW;
    if (strncmp(sqlstate, "21", 2) == 0 || strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
        strncmp(sqlstate, "54", 2) == 0)
        return STORE_UNSTORABLE;
    return STORE_FAILED;
}

/*
 * A statement has not ended in time. What is wrong with this host may not be wrong with the others; but one that was
 * sent shortly before the deadline says nothing about it, nor about what went wrong before.
 */
static enum store_result give_up(struct session *session) {
    bool waits = atomic_load(&session->database->commit_waits);
    bool was_short = clock_now_us() - session->sent_us < GIVE_UP_US;
    if (!was_short)
        hosts_note_failed(session->database->hosts, session->host);
    if (session->connection)
        pg_abandon(session->connection);
    session->connection = NULL;
    return drop_failed(session, was_short ? NULL
                                : waits   ? "the commit waits for a standby"
                                          : "PostgreSQL did not answer in time");
}

/* Remembers why a statement failed, and says what follows from it. Clears `result`, which may be NULL. */
static enum store_result note_failure(struct session *session, PGresult *result, int64_t deadline_us) {
    if (!result && clock_now_us() < deadline_us)
        return drop_failed(session, "lost the connection to PostgreSQL");
    if (!result)
        return give_up(session);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char sqlstate[SQLSTATE_SIZE] = "";
    if (state)
        memcpy(sqlstate, state, strnlen(state, sizeof sqlstate - 1));
    enum store_result outcome = classify(sqlstate);
    metrics_count_database_error(sqlstate);
    log_message_of(session, outcome, sqlstate, result);
    set_failure(session, "PostgreSQL failed", PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    if (outcome == STORE_LOCKED)
        session->failure = atomic_load(&session->database->commit_waits)
                               ? "a commit that waits for a standby holds a lock"
                               : "another session holds a lock";
    else if (strcmp(sqlstate, "42704") == 0 && strstr(session->detail, STATEMENTS_UNSAFE))
        session->failure = unfit;
    PQclear(result);
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
    session->sent_us = clock_now_us();
    if (PQsendPrepare(session->connection, name, sql, parameters->count, parameters->types))
        result = wire_wait(session->connection, deadline_us);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return note_failure(session, result, deadline_us);
    PQclear(result);
    return STORE_OK;
}

enum store_result session_run(struct session *session, const char *name, const char *sql,
                              const struct session_parameters *parameters, int64_t deadline_us, PGresult **result) {
    session->sent_us = clock_now_us();
    int sent = name ? PQsendQueryPrepared(session->connection, name, parameters->count, parameters->values,
                                          parameters->lengths, parameters->formats, 1)
                    : PQsendQueryParams(session->connection, sql, parameters->count, parameters->types,
                                        parameters->values, parameters->lengths, parameters->formats, 1);
    *result = sent ? wire_wait(session->connection, deadline_us) : NULL;
    if (PQresultStatus(*result) == PGRES_TUPLES_OK)
        return STORE_OK;
    PGresult *failed = *result;
    *result = NULL;
    return note_failure(session, failed, deadline_us);
}

/* Runs a command that has no rows; the transaction it ends, if it does, has to end as `tag` says. */
static enum store_result run_command(struct session *session, const char *sql, const char *tag, int64_t deadline_us) {
    session->sent_us = clock_now_us();
    PGresult *result = PQsendQuery(session->connection, sql) ? wire_wait(session->connection, deadline_us) : NULL;
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
    PGconn *made = pg_connect(session->database->hosts);
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

/* Runs a query of the inspection; NULL when it fails, with the connection dropped unless a lock was in its way. */
static PGresult *query(struct session *session, const char *sql, int64_t deadline_us) {
    session->sent_us = clock_now_us();
    PGresult *result = PQsendQuery(session->connection, sql) ? wire_wait(session->connection, deadline_us) : NULL;
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    if (note_failure(session, result, deadline_us) != STORE_LOCKED)
        disconnect(session);
    return NULL;
}

static bool read_inspection(struct session *session, enum inspection_use use, int64_t deadline_us) {
    struct database *database = session->database;
    PGresult *result = query(session, inspection_query, deadline_us), *cluster = NULL, *check = NULL;
    bool ok = result != NULL;
    if (ok && inspection_may_ask_cluster(result))
        ok = (cluster = query(session, inspection_cluster_query, deadline_us)) != NULL;
    if (ok && inspection_may_ask_check(result) &&
        (use == INSPECTION_ALL || !database_is_checked(database, session->host))) {
        /* A lock that a DBA holds on a table is none of its problems; the next inspection will see more. */
        check = query(session, inspection_check_query, deadline_us);
        ok = check != NULL || session->connection;
        if (ok)
            database_note_check(database, session->host,
                                check ? PQntuples(check) == 0 : database_is_checked(database, session->host));
    }
    if (!ok)
        disconnect(session);
    else
        inspection_read(&session->inspection, result, cluster, check, session->database->require_standby);
    PQclear(result);
    PQclear(cluster);
    PQclear(check);
    return ok;
}

/* Whether it is a primary that was replaced, or none: then another host may be the one. */
static bool is_primary(struct session *session) {
    struct inspection *found = &session->inspection;
    bool current = found->timeline == 0 ||
                   hosts_note_timeline(session->database->hosts, found->system_identifier, found->timeline);
    if (!current) {
        found->verdict = INSPECTION_UNFIT;
        snprintf(
            found->problem, sizeof found->problem,
            "%s port %s is on timeline %u, and another host was met as primary on a later one: what is stored here "
            "would be lost when this host rejoins the cluster",
            session->host_name, session->port, found->timeline);
    }
    if (!current || !found->takes_writes)
        hosts_note_failed(session->database->hosts, session->host);
    return current;
}

/* Whether it may be used so; the connection is dropped if not, and the next one inspected. */
static bool is_fit(struct session *session, enum inspection_use use) {
    const char *problem = inspection_problem(&session->inspection, use);
    if (!*problem)
        return true;
    char text[SESSION_DETAIL_SIZE];
    snprintf(text, sizeof text, "%s: %s", unfit, problem);
    log_trouble(session, LOG_ERROR, true, &problem, 1, text);
    drop_failed(session, unfit);
    set_detail(session, problem);
    return false;
}

static bool inspect(struct session *session, enum inspection_use use, int64_t deadline_us) {
    unsigned changes = atomic_load(&session->database->changes);
    if (!read_inspection(session, use, deadline_us))
        return false;
    session->changes = changes;
    is_primary(session);
    if (session->inspection.verdict == INSPECTION_SLOW)
        log_message(LOG_WARNING, "PostgreSQL: %s", session->inspection.problem);
    bool fit = is_fit(session, use);
    troubles_note_inspected(&session->database->troubles, fit);
    return fit;
}

bool session_inspect(struct session *session, enum inspection_use use, int64_t deadline_us) {
    const struct inspection before = session->inspection;
    const struct inspection *now = &session->inspection;
    if (!inspect(session, use, deadline_us))
        return false;
    /* Statements are prepared for what there was. */
    if (memcmp(&before.columns, &now->columns, sizeof before.columns) != 0 || before.hides_flush != now->hides_flush ||
        before.has_foreign_triggers != now->has_foreign_triggers)
        disconnect(session);
    return true;
}

bool session_confirm(struct session *session, int64_t deadline_us) {
    PGresult *result;
    if (session->in_doubt) {
        session_drop(session, "committed, but not on the standby");
        return false;
    }
    if (session->database->require_standby) {
        result = query(session, "select pg_catalog.pg_conf_load_time()", deadline_us);
        bool same = result && strcmp(PQgetvalue(result, 0, 0), session->inspection.loaded_at) == 0;
        PQclear(result);
        if (!same && session->connection)
            session_drop(session, "committed, but perhaps not on a standby: the configuration was read again");
        if (!same)
            return false;
    }
    hosts_note_good(session->database->hosts, session->host);
    unsigned count;
    int64_t lasted_us;
    if (troubles_note_stored(&session->database->troubles, clock_now_us(), &count, &lasted_us))
        log_message(LOG_INFO, "PostgreSQL stores again, after %u failures in %lld s", count,
                    (long long)(lasted_us / US_PER_S));
    return true;
}

/* Notes where a new connection leads. */
static void note_host(struct session *session) {
    session->host = pg_host_of(session->connection, session->database->hosts);
    session->connected_us = clock_now_us();
    snprintf(session->host_name, sizeof session->host_name, "%s", PQhost(session->connection));
    snprintf(session->port, sizeof session->port, "%s", PQport(session->connection));
}

static void log_failed_connect(struct session *session) {
    const char *kind = session->detail;
    char text[SESSION_DETAIL_SIZE + 64];
    snprintf(text, sizeof text, "cannot connect to PostgreSQL: %s", session->detail);
    log_trouble(session, LOG_ERROR, true, &kind, 1, text);
}

static void log_connected(struct session *session) {
    char text[SESSION_DETAIL_SIZE];
    snprintf(text, sizeof text, "connected to PostgreSQL: host=%s port=%s timeline=%u standbys=%u", session->host_name,
             session->port, session->inspection.timeline, session->inspection.standbys);
    if (troubles_note_connected(&session->database->troubles, text))
        log_message(LOG_INFO, "%s", text);
}

/*
 * Only libpq's blocking call goes from one host to the next, and it can take longer than a delivery may: so it has a
 * thread of its own, which the next batch finds where it was.
 */
bool session_connect(struct session *session, enum inspection_use use, int64_t deadline_us, bool *is_new) {
    *is_new = false;
    if (session->connection && hosts_has_failed_since(session->database->hosts, session->host, session->connected_us))
        disconnect(session);
    if (session->connection && session->changes != atomic_load(&session->database->changes) &&
        !session_inspect(session, use, deadline_us))
        return false;
    if (session->connection)
        return is_fit(session, use);
    if (!session->connecting) {
        session->ended = false;
        if (pthread_create(&session->connector, NULL, connect_now, session) != 0) {
            drop_failed(session, "no thread to connect to PostgreSQL with");
            return false;
        }
        pthread_setname_np(session->connector, "connect");
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
        char reason[SESSION_DETAIL_SIZE];
        pg_describe_failure(session->connection, reason, sizeof reason);
        set_detail(session, reason);
        log_failed_connect(session);
        metrics_count_database_error("");
        session->failure = "no connection to PostgreSQL";
        session->sqlstate[0] = '\0';
        disconnect(session);
        return false;
    }
    PQsetNoticeReceiver(session->connection, receive_notice, session);
    note_host(session);
    if (!inspect(session, use, deadline_us))
        return false;
    log_connected(session);
    metrics_count_database_connect();
    *is_new = true;
    return true;
}
