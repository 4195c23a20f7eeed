#include "store_pg.h"

#include "buffer.h"
#include "clock.h"
#include "log.h"
#include "pg.h"
#include "reply.h"

#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Types by their fixed OIDs (PostgreSQL's pg_type.dat). */
enum { OID_BYTEA = 17, OID_INT8 = 20, OID_INT2 = 21, OID_TEXT = 25, OID_UUID = 2950, OID_JSONB = 3802 };

enum {
    COLUMN_COUNT = RECEIPT_FIELD_COUNT - 3,    /* the three objects have none */
    UPSERT_PARAMETERS = COLUMN_COUNT + 3,      /* of a row; and extra, request_id, api_key_name */
    LOOKUP_PARAMETERS = RECEIPT_KEY_COUNT + 2, /* … extra and request_id */
    REJECT_PARAMETERS = 6 + RECEIPT_KEY_COUNT,
    PARAMETERS_MAX = 65535,
    ERRORS_MAX_BYTES = RECEIPT_FIELD_COUNT * 96, /* {"field":…,"code":…} takes up to 82 */
    JSONB_VERSION = 1,                           /* the first byte of jsonb in binary (PostgreSQL: jsonb_recv) */
};

enum statement { UPSERT, LOOKUP, REJECT, STATEMENT_COUNT };

struct store_pg {
    struct store store;
    struct store_pg_options options;
    PGconn *connection;              /* NULL while there is none */
    pthread_t connector;             /* the thread that connects, */
    bool connecting;                 /* while there is one */
    bool warned;                     /* the server sent a warning during this batch */
    bool *prepared[STATEMENT_COUNT]; /* by number of rows, on this connection */

    /* Room for the parameters of one batch. */
    const char **values;
    int *lengths;
    int *formats; /* all 1: binary */
    Oid *types;
    int64_t *integers;      /* one a row: to_identifier, or the status, in network byte order */
    struct buffer json;     /* extra, or the errors, with jsonb's version byte */
    enum outcome *outcomes; /* of the batch's deliveries; OUTCOME_UNAVAILABLE while open */
    struct delivery **open; /* those that are open, */
    size_t *open_positions; /* and where they stand in the batch */
};

size_t store_pg_batch_limit(void) {
    return PARAMETERS_MAX / UPSERT_PARAMETERS;
}

static struct store_pg *pg_of(struct store *store) {
    return (struct store_pg *)store; /* its first member */
}

/* --- the statements --- */

/* "values ($1,…),(…)" */
static void append_values(struct buffer *sql, size_t rows, size_t row_parameters) {
    size_t parameter = 0;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < row_parameters; i++) {
            const char *before = i > 0 ? "," : row > 0 ? "),(" : " values (";
            buffer_append_format(sql, "%s$%zu", before, ++parameter);
        }
    buffer_append_text(sql, ")");
}

static void append_columns(struct buffer *sql, const char *prefix, bool keys, const char *assign) {
    bool first = true;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        if (!field->column || (field->key && !keys))
            continue;
        buffer_append_format(sql, "%s%s%s", first ? "" : ", ", prefix, field->column);
        if (assign)
            buffer_append_format(sql, " = %s%s", assign, field->column);
        first = false;
    }
}

/* Those of an upsert's parameters. */
static void append_all_columns(struct buffer *sql) {
    append_columns(sql, "", true, NULL);
    buffer_append_text(sql, ", extra, request_id, api_key_name");
}

/*
 * The two that follow return of each row the request id of its delivery, and the two that the row carries. From these
 * follows the outcome, see outcome_of_row.
 */

/*
 * What the row holds stays unless it differs. A delivery that comes again with the request_id that the row carries was
 * stored before (its acknowledgement was lost): it changes nothing, even if the row has been revised since.
 * Nothing volatile may stand in "do update" (Citus refuses it), hence excluded.received_at, the default now().
 */
static void write_upsert(struct buffer *sql, size_t rows, const char *keep_when) {
    buffer_append_text(sql, "insert into inventory.receipts as r (");
    append_all_columns(sql);
    buffer_append_text(sql, ")");
    append_values(sql, rows, UPSERT_PARAMETERS);
    buffer_append_text(sql, " on conflict (" PG_NATURAL_KEY ") do update set ");
    append_columns(sql, "", false, "excluded.");
    buffer_append_text(sql, ", extra = excluded.extra, api_key_name = excluded.api_key_name, revision = r.revision + 1,"
                            " revised_request_id = excluded.request_id, revised_at = excluded.received_at"
                            " where r.request_id <> excluded.request_id"
                            " and r.revised_request_id is distinct from excluded.request_id and (");
    append_columns(sql, "r.", false, NULL);
    buffer_append_text(sql, ", r.extra) is distinct from (");
    append_columns(sql, "excluded.", false, NULL);
    buffer_append_text(sql, ", excluded.extra)");
    if (keep_when)
        buffer_append_format(sql, " and (%s) is not true", keep_when);
    buffer_append_text(sql, " returning coalesce(revised_request_id, request_id), request_id, revised_request_id");
}

/*
 * Of the receipts that are there; besides, their content, and whether it is durable and has the delivery's `extra`.
 * (is_same compares the rest: as parameters it would cost PostgreSQL more.) What a statement sees was committed, and a
 * commit is seen once it is flushed, unless it did not wait for that: so all of it is durable when everything was
 * flushed, which is nearly always so where little but re-deliveries comes, and when no standby has to have it too.
 */
static void write_lookup(struct buffer *sql, size_t rows, const char *keep_when) {
    (void)keep_when;
    buffer_append_text(sql, "select v.request_id, r.request_id, r.revised_request_id,"
                            " r.extra is not distinct from v.extra"
                            " and (select current_setting('synchronous_standby_names') = ''"
                            " and pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()), ");
    append_columns(sql, "r.", false, NULL);
    buffer_append_text(sql, " from (");
    append_values(sql, rows, LOOKUP_PARAMETERS);
    buffer_append_text(sql, ") as v (" PG_NATURAL_KEY ", extra, request_id)"
                            " join inventory.receipts as r using (" PG_NATURAL_KEY ")");
}

/*
 * A second try after a lost acknowledgement finds the row. It is written once more, not left alone: only a transaction
 * that has written waits for its commit to be durable, here and on a standby.
 */
static void write_reject(struct buffer *sql, size_t rows, const char *keep_when) {
    (void)keep_when;
    buffer_append_text(sql, "insert into inventory.rejected_receipts"
                            " (request_id, api_key_name, status, message, errors, body, " PG_NATURAL_KEY ")");
    append_values(sql, rows, REJECT_PARAMETERS);
    buffer_append_text(sql, " on conflict (request_id) do update set request_id = excluded.request_id"
                            " returning request_id");
}

static const struct {
    const char *name;
    void (*write)(struct buffer *sql, size_t rows, const char *keep_when);
    size_t row_parameters;
} statements[STATEMENT_COUNT] = {
    [UPSERT] = {"upsert", write_upsert, UPSERT_PARAMETERS},
    [LOOKUP] = {"lookup", write_lookup, LOOKUP_PARAMETERS},
    [REJECT] = {"reject", write_reject, REJECT_PARAMETERS},
};

/* --- the connection --- */

static void disconnect(struct store_pg *pg) {
    PQfinish(pg->connection);
    pg->connection = NULL;
}

static enum store_result fail(struct store_pg *pg, const char *failure) {
    pg->store.failure = failure;
    pg->store.sqlstate[0] = '\0';
    disconnect(pg);
    return STORE_FAILED;
}

/*
 * Where a commit waits for a standby, a cancelled wait is a success with a warning: committed here, not there
 * (PostgreSQL: SyncRepWaitForLSN). Nothing else in a batch warns, so any warning means "not durable".
 */
static void receive_notice(void *context, const PGresult *result) {
    struct store_pg *pg = context;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity && strcmp(severity, "WARNING") == 0)
        pg->warned = true;
    log_message(LOG_WARNING, "PostgreSQL: %s", PQresultErrorMessage(result));
}

static void *connect_now(void *unused) {
    (void)unused;
    return pg_connect();
}

/*
 * Connects unless there is a connection. Only libpq's blocking call goes from one host to the next, and it can take
 * longer than a delivery may: so it has a thread of its own, which the next batch finds where it was.
 */
static bool ensure_connection(struct store_pg *pg, int64_t deadline_us) {
    if (pg->connection)
        return true;
    if (!pg->connecting && pthread_create(&pg->connector, NULL, connect_now, NULL) != 0) {
        fail(pg, "no thread to connect to PostgreSQL with");
        return false;
    }
    pg->connecting = true;
    /* By the other clock: ThreadSanitizer does not know pthread_clockjoin_np. */
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t until_us = until.tv_nsec / NS_PER_US + deadline_us - clock_now_us();
    until.tv_sec += until_us / US_PER_S;
    until.tv_nsec = until_us % US_PER_S * NS_PER_US;
    void *connection;
    if (deadline_us <= clock_now_us() || pthread_timedjoin_np(pg->connector, &connection, &until) != 0) {
        fail(pg, "no connection to PostgreSQL in time");
        return false;
    }
    pg->connecting = false;
    pg->connection = connection;
    if (PQstatus(pg->connection) != CONNECTION_OK || PQsetnonblocking(pg->connection, 1) != 0) {
        log_message(LOG_ERROR, "cannot connect to PostgreSQL: %s", PQerrorMessage(pg->connection));
        fail(pg, "no connection to PostgreSQL");
        return false;
    }
    PQsetNoticeReceiver(pg->connection, receive_notice, pg);
    for (int i = 0; i < STATEMENT_COUNT; i++)
        memset(pg->prepared[i], 0, pg->options.batch_max + 1);
    log_message(LOG_INFO, "connected to PostgreSQL");
    return true;
}

/* Whether a result can be had, in what was read from the socket. */
static bool is_ready(const struct store_pg *pg, int unsent) {
    return unsent == 0 && !PQisBusy(pg->connection);
}

/*
 * Sends what is unsent and waits until a result can be had; false: the deadline passed or the connection broke. Before
 * each poll it reads: with TLS, some of an answer may have left the socket, which then shows nothing.
 */
static bool wait_until_ready(struct store_pg *pg, int64_t deadline_us) {
    struct pollfd poll_fd = {.fd = PQsocket(pg->connection)};
    for (;;) {
        int unsent = PQflush(pg->connection);
        if (unsent < 0)
            return false;
        if (is_ready(pg, unsent))
            return true;
        if (!PQconsumeInput(pg->connection))
            return false;
        if (is_ready(pg, unsent))
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
static PGresult *wait_for_result(struct store_pg *pg, int64_t deadline_us) {
    PGresult *result = NULL, *next;
    do {
        if (!wait_until_ready(pg, deadline_us)) {
            if (result && has_failed(result))
                return result;
            PQclear(result);
            return NULL;
        }
        next = PQgetResult(pg->connection);
        if (next && !(result && has_failed(result))) {
            PQclear(result);
            result = next;
        } else {
            PQclear(next);
        }
    } while (next);
    return result;
}

/* Remembers why a statement failed, and what follows from it. Clears `result`, which may be NULL. */
static enum store_result explain(struct store_pg *pg, PGresult *result, int64_t deadline_us) {
    if (!result)
        return fail(pg, clock_now_us() >= deadline_us ? "PostgreSQL did not answer in time"
                                                      : "lost the connection to PostgreSQL");
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    log_message(LOG_ERROR, "PostgreSQL: %s %s", state ? state : "", PQresultErrorMessage(result));
    char sqlstate[sizeof pg->store.sqlstate] = "";
    if (state)
        memcpy(sqlstate, state, strnlen(state, sizeof sqlstate - 1));
    PQclear(result);

    enum store_result outcome = STORE_FAILED;
    pg->store.failure = "PostgreSQL failed";
    /* Appendix A of PostgreSQL's manual. By SQLSTATE, not by constraint: Citus adds shard numbers to those. */
    if (strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0)
        outcome = STORE_CONFLICT;
    else if (strncmp(sqlstate, "21", 2) == 0 || strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
             strncmp(sqlstate, "54", 2) == 0)
        outcome = STORE_REFUSED;
    else
        /*
         * Read-only after a failover, shutting down, prepared statements gone behind a pooler, a changed schema, …:
         * a new connection is the way out of all of them, and harmless where it is not needed.
         */
        disconnect(pg);
    memcpy(pg->store.sqlstate, sqlstate, sizeof sqlstate);
    return outcome;
}

/* Runs a statement for `rows` rows with the parameters in pg->values. STORE_OK: *result is the caller's to clear. */
static enum store_result run(struct store_pg *pg, enum statement statement, size_t rows, int64_t deadline_us,
                             PGresult **result) {
    char name[32];
    struct buffer sql;
    bool *prepared = &pg->prepared[statement][rows];
    int parameters = (int)(rows * statements[statement].row_parameters);
    int sent = 0;
    snprintf(name, sizeof name, "%s_%zu", statements[statement].name, rows);
    *result = NULL;
    buffer_init(&sql);
    if (!*prepared) {
        statements[statement].write(&sql, rows, pg->options.keep_when);
        buffer_append(&sql, "", 1);
        if (sql.failed) {
            buffer_fini(&sql);
            pg->store.failure = "out of memory";
            return STORE_FAILED;
        }
    }
    if (!pg->options.prepared_statements) {
        sent =
            PQsendQueryParams(pg->connection, sql.data, parameters, pg->types, pg->values, pg->lengths, pg->formats, 1);
    } else {
        if (!*prepared && PQsendPrepare(pg->connection, name, sql.data, parameters, pg->types)) {
            *result = wait_for_result(pg, deadline_us);
            *prepared = PQresultStatus(*result) == PGRES_COMMAND_OK;
        }
        if (*prepared) {
            PQclear(*result);
            *result = NULL;
            sent = PQsendQueryPrepared(pg->connection, name, parameters, pg->values, pg->lengths, pg->formats, 1);
        }
    }
    buffer_fini(&sql);
    if (sent)
        *result = wait_for_result(pg, deadline_us);
    if (PQresultStatus(*result) == PGRES_TUPLES_OK)
        return STORE_OK;
    PGresult *failed = *result;
    *result = NULL;
    return explain(pg, failed, deadline_us);
}

/* --- a batch --- */

static void set_parameter(struct store_pg *pg, size_t index, Oid type, const void *value, size_t len) {
    pg->types[index] = type;
    pg->values[index] = value;
    pg->lengths[index] = (int)len;
}

static void set_text(struct store_pg *pg, size_t index, const struct receipt_value *value) {
    bool present = value->kind != RECEIPT_VALUE_ABSENT;
    set_parameter(pg, index, OID_TEXT, present ? value->text : NULL, present ? value->len : 0);
}

/* Empties pg->json and makes room, so that what points into it stays good while more is appended. */
static bool reserve_json(struct store_pg *pg, size_t size) {
    pg->json.len = 0;
    pg->json.failed = false;
    return buffer_reserve(&pg->json, size);
}

/* Ends the value that was begun at `start` of pg->json, and makes it a parameter; null when nothing was appended. */
static void set_json(struct store_pg *pg, size_t index, size_t start) {
    size_t len = pg->json.len - start;
    set_parameter(pg, index, OID_JSONB, len > 0 ? pg->json.data + start : NULL, len);
}

static void begin_json(struct store_pg *pg) {
    static const char version = JSONB_VERSION;
    buffer_append(&pg->json, &version, 1);
}

static void set_field(struct store_pg *pg, size_t index, size_t row, size_t field, const struct receipt *receipt) {
    if (receipt_fields[field].type == RECEIPT_INTEGER) {
        pg->integers[row] = (int64_t)htobe64((uint64_t)receipt->to_identifier);
        set_parameter(pg, index, OID_INT8, &pg->integers[row], sizeof pg->integers[row]);
    } else {
        set_text(pg, index, &receipt->values[field]);
    }
}

/* For UPSERT or LOOKUP. */
static bool set_receipt_parameters(struct store_pg *pg, enum statement statement, struct delivery *const *deliveries,
                                   size_t count) {
    size_t at = 0, json_size = 0;
    for (size_t row = 0; row < count; row++)
        json_size += deliveries[row]->receipt.extra_len + 1;
    if (!reserve_json(pg, json_size))
        return false;
    for (size_t row = 0; row < count; row++) {
        const struct delivery *delivery = deliveries[row];
        const struct receipt *receipt = &delivery->receipt;
        for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++)
            if (receipt_fields[i].column && (receipt_fields[i].key || statement == UPSERT))
                set_field(pg, at++, row, i, receipt);
        size_t json_start = pg->json.len;
        if (receipt->extra) {
            begin_json(pg);
            buffer_append(&pg->json, receipt->extra, receipt->extra_len);
        }
        set_json(pg, at++, json_start);
        set_parameter(pg, at++, OID_UUID, delivery->request_id, REQUEST_ID_BYTES);
        if (statement == UPSERT)
            set_parameter(pg, at++, OID_TEXT, delivery->api_key_name, strlen(delivery->api_key_name));
    }
    return true;
}

/* Of a refused delivery: null where it could not be a key. */
static void set_key(struct store_pg *pg, size_t index, const struct receipt_value *value) {
    static const struct receipt_value absent = {0};
    set_text(pg, index, receipt_value_fits_key(value) ? value : &absent);
}

static bool is_request(const PGresult *result, int row, int column, const struct delivery *delivery) {
    return !PQgetisnull(result, row, column) && PQgetlength(result, row, column) == REQUEST_ID_BYTES &&
           memcmp(PQgetvalue(result, row, column), delivery->request_id, REQUEST_ID_BYTES) == 0;
}

static enum outcome outcome_of_row(const PGresult *result, int row, const struct delivery *delivery) {
    if (is_request(result, row, 1, delivery))
        return OUTCOME_CREATED;
    return is_request(result, row, 2, delivery) ? OUTCOME_REVISED : OUTCOME_UNCHANGED;
}

/* Whether the row of a LOOKUP is durable and has the delivery's content: then the delivery needs no commit. */
static bool is_same(const PGresult *result, int row, const struct delivery *delivery) {
    const struct receipt *receipt = &delivery->receipt;
    int column = 3;
    if (!*PQgetvalue(result, row, column++))
        return false;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_value *value = &receipt->values[i];
        int64_t integer = (int64_t)htobe64((uint64_t)receipt->to_identifier);
        bool is_integer = receipt_fields[i].type == RECEIPT_INTEGER;
        if (!receipt_fields[i].column || receipt_fields[i].key)
            continue;
        const void *bytes = is_integer ? (const void *)&integer : value->text;
        size_t len = value->kind == RECEIPT_VALUE_ABSENT ? 0 : is_integer ? sizeof integer : value->len;
        if (PQgetisnull(result, row, column) != (value->kind == RECEIPT_VALUE_ABSENT) ||
            (size_t)PQgetlength(result, row, column) != len || memcmp(PQgetvalue(result, row, column), bytes, len) != 0)
            return false;
        column++;
    }
    return true;
}

static enum store_result fail_for_memory(struct store_pg *pg) {
    pg->store.failure = "out of memory";
    pg->store.sqlstate[0] = '\0';
    return STORE_FAILED;
}

/* Collects the deliveries of the batch that have no outcome yet. Returns how many there are. */
static size_t collect_open(struct store_pg *pg, struct delivery *const *deliveries, size_t count) {
    size_t open = 0;
    for (size_t i = 0; i < count; i++) {
        if (pg->outcomes[i] != OUTCOME_UNAVAILABLE)
            continue;
        pg->open[open] = deliveries[i];
        pg->open_positions[open++] = i;
    }
    return open;
}

/*
 * Runs UPSERT or LOOKUP for the open deliveries. Those that it returns a row of (with only_same: a row that is_same)
 * have their outcome then. Rows are matched by request id. They usually come in order, so the search starts behind the
 * last match.
 */
static enum store_result settle(struct store_pg *pg, enum statement statement, bool only_same, size_t open,
                                int64_t deadline_us) {
    PGresult *result;
    if (!set_receipt_parameters(pg, statement, pg->open, open))
        return fail_for_memory(pg);
    enum store_result settled = run(pg, statement, open, deadline_us, &result);
    if (settled != STORE_OK)
        return settled;
    size_t expected = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        for (size_t tried = 0; tried < open; tried++) {
            size_t i = (expected + tried) % open;
            if (is_request(result, row, 0, pg->open[i])) {
                if (!only_same || is_same(result, row, pg->open[i]))
                    pg->outcomes[pg->open_positions[i]] = outcome_of_row(result, row, pg->open[i]);
                expected = i + 1;
                break;
            }
        }
    }
    PQclear(result);
    return STORE_OK;
}

static enum store_result store_batch(struct store *store, struct delivery *const *deliveries, size_t count,
                                     int64_t deadline_us) {
    struct store_pg *pg = pg_of(store);
    enum store_result stored = STORE_OK;
    size_t open, unchanged = 0;
    if (!ensure_connection(pg, deadline_us))
        return STORE_FAILED;
    pg->warned = false;
    memset(pg->outcomes, 0, count * sizeof *pg->outcomes);
    if (store->repeats)
        stored = settle(pg, LOOKUP, true, collect_open(pg, deliveries, count), deadline_us);
    if (stored == STORE_OK && (open = collect_open(pg, deliveries, count)) > 0)
        stored = settle(pg, UPSERT, false, open, deadline_us);
    if (stored == STORE_OK && (open = collect_open(pg, deliveries, count)) > 0)
        stored = settle(pg, LOOKUP, false, open, deadline_us);
    if (stored != STORE_OK)
        return stored;
    if (pg->warned)
        return fail(pg, "committed, but not on the standby");
    if (collect_open(pg, deliveries, count) > 0) {
        /* Deleted by hand between the two statements: upserting it again creates it. */
        pg->store.failure = "a row vanished";
        return STORE_CONFLICT;
    }
    for (size_t i = 0; i < count; i++) {
        deliveries[i]->outcome = pg->outcomes[i];
        unchanged += pg->outcomes[i] == OUTCOME_UNCHANGED;
    }
    store->repeats = unchanged > count / 2;
    return STORE_OK;
}

/* --- a batch of refused deliveries --- */

static bool set_reject_parameters(struct store_pg *pg, struct delivery *const *deliveries, size_t count) {
    size_t at = 0;
    if (!reserve_json(pg, count * ERRORS_MAX_BYTES))
        return false;
    for (size_t row = 0; row < count; row++) {
        const struct delivery *delivery = deliveries[row];
        const char *message = reply_message(delivery, delivery->refusal);
        size_t json_start = pg->json.len;
        int16_t *status = (int16_t *)&pg->integers[row];
        *status = (int16_t)htobe16((uint16_t)reply_status(delivery->refusal));
        set_parameter(pg, at++, OID_UUID, delivery->request_id, REQUEST_ID_BYTES);
        set_parameter(pg, at++, OID_TEXT, delivery->api_key_name, strlen(delivery->api_key_name));
        set_parameter(pg, at++, OID_INT2, status, sizeof *status);
        set_parameter(pg, at++, OID_TEXT, message, strlen(message));
        if (delivery->refusal == OUTCOME_INVALID) {
            begin_json(pg);
            reply_write_errors(&pg->json, &delivery->errors);
        }
        set_json(pg, at++, json_start);
        set_parameter(pg, at++, OID_BYTEA, delivery->body, delivery->body_len);
        for (size_t k = 0; k < RECEIPT_KEY_COUNT; k++)
            set_key(pg, at++, &delivery->receipt.values[receipt_key_fields[k]]);
    }
    return !pg->json.failed;
}

static enum store_result reject_batch(struct store *store, struct delivery *const *deliveries, size_t count,
                                      int64_t deadline_us) {
    struct store_pg *pg = pg_of(store);
    PGresult *result;
    if (!ensure_connection(pg, deadline_us))
        return STORE_FAILED;
    if (!set_reject_parameters(pg, deliveries, count))
        return fail_for_memory(pg);
    pg->warned = false;
    enum store_result stored = run(pg, REJECT, count, deadline_us, &result);
    if (stored != STORE_OK)
        return stored;
    bool complete = PQntuples(result) == (int)count;
    PQclear(result);
    if (pg->warned || !complete)
        return fail(pg, complete ? "committed, but not on the standby" : "not all rejections were stored");
    for (size_t i = 0; i < count; i++)
        deliveries[i]->outcome = deliveries[i]->refusal_answer;
    return STORE_OK;
}

/* --- life --- */

static void store_pg_free(struct store *store) {
    struct store_pg *pg = pg_of(store);
    void *connection;
    if (pg->connecting && pthread_join(pg->connector, &connection) == 0)
        pg->connection = connection;
    disconnect(pg);
    for (int i = 0; i < STATEMENT_COUNT; i++)
        free(pg->prepared[i]);
    free(pg->values);
    free(pg->lengths);
    free(pg->formats);
    free(pg->types);
    free(pg->integers);
    free(pg->outcomes);
    free(pg->open);
    free(pg->open_positions);
    buffer_fini(&pg->json);
    free(pg);
}

struct store *store_pg_new(const struct store_pg_options *options) {
    struct store_pg *pg = calloc(1, sizeof *pg);
    if (!pg)
        return NULL;
    size_t parameters = options->batch_max * UPSERT_PARAMETERS;
    pg->store = (struct store){.store = store_batch, .reject = reject_batch, .free = store_pg_free};
    pg->options = *options;
    bool ok = true;
    for (int i = 0; i < STATEMENT_COUNT; i++)
        ok &= (pg->prepared[i] = calloc(options->batch_max + 1, sizeof *pg->prepared[i])) != NULL;
    ok &= (pg->values = calloc(parameters, sizeof *pg->values)) != NULL;
    ok &= (pg->lengths = calloc(parameters, sizeof *pg->lengths)) != NULL;
    ok &= (pg->formats = calloc(parameters, sizeof *pg->formats)) != NULL;
    ok &= (pg->types = calloc(parameters, sizeof *pg->types)) != NULL;
    ok &= (pg->integers = calloc(options->batch_max, sizeof *pg->integers)) != NULL;
    ok &= (pg->outcomes = calloc(options->batch_max, sizeof *pg->outcomes)) != NULL;
    ok &= (pg->open = calloc(options->batch_max, sizeof(struct delivery *))) != NULL;
    ok &= (pg->open_positions = calloc(options->batch_max, sizeof *pg->open_positions)) != NULL;
    buffer_init(&pg->json);
    if (!ok) {
        store_pg_free(&pg->store);
        return NULL;
    }
    for (size_t i = 0; i < parameters; i++)
        pg->formats[i] = 1;
    return &pg->store;
}
