#include "store_pg.h"

#include "buffer.h"
#include "clock.h"
#include "log.h"

#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Types by their fixed OIDs (PostgreSQL's pg_type.dat). */
enum { OID_INT8 = 20, OID_TEXT = 25, OID_UUID = 2950, OID_JSONB = 3802 };

enum {
    COLUMN_COUNT = RECEIPT_FIELD_COUNT - 3, /* the three objects have none */
    ROW_PARAMETERS = COLUMN_COUNT + 3,      /* and extra, request_id, api_key_name */
    PARAMETERS_MAX = 65535,
    JSONB_VERSION = 1, /* the first byte of jsonb in binary (PostgreSQL: jsonb_recv) */
};

#define CONNECT_TIMEOUT_S "3" /* for each host; libpq takes 2 at least */

struct store_pg {
    struct store store;
    struct store_pg_options options;
    PGconn *connection;                      /* NULL while there is none */
    bool warned;                             /* the server sent a warning during this batch */
    bool *upsert_prepared, *lookup_prepared; /* by batch size, on this connection */

    /* Room for the parameters of one batch. */
    const char **values;
    int *lengths;
    int *formats; /* all 1: binary */
    Oid *types;
    int64_t *integers;            /* one a row: to_identifier in network byte order */
    struct buffer json;           /* extra, with jsonb's version byte */
    enum outcome *outcomes;       /* of the batch's deliveries; OUTCOME_UNAVAILABLE while open */
    struct delivery **unreturned; /* those whose rows the upsert left alone, */
    enum outcome *found;          /* and what the look-up said of them */
};

size_t store_pg_batch_limit(void) {
    return PARAMETERS_MAX / ROW_PARAMETERS;
}

static struct store_pg *pg_of(struct store *store) {
    return (struct store_pg *)store; /* its first member */
}

/* --- the statements --- */

static void append_parameters(struct buffer *sql, size_t *next, size_t count) {
    for (size_t i = 0; i < count; i++)
        buffer_append_format(sql, "%s$%zu", i == 0 ? "(" : ",", ++*next);
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

#define NATURAL_KEY "program_identifier, asn_number, unit_identifier"

/*
 * What the row holds stays unless it differs. A delivery that comes again with the request_id that the row carries was
 * stored before (its acknowledgement was lost): it changes nothing, even if the row has been revised since.
 * Nothing volatile may stand in "do update" (Citus refuses it), hence excluded.received_at, the default now().
 */
static void write_upsert(struct buffer *sql, size_t rows) {
    size_t parameter = 0;
    buffer_append_text(sql, "insert into inventory.receipts as r (");
    append_columns(sql, "", true, NULL);
    buffer_append_text(sql, ", extra, request_id, api_key_name) values ");
    for (size_t row = 0; row < rows; row++) {
        if (row > 0)
            buffer_append_text(sql, ",");
        append_parameters(sql, &parameter, ROW_PARAMETERS);
    }
    buffer_append_text(sql, " on conflict (" NATURAL_KEY ") do update set ");
    append_columns(sql, "", false, "excluded.");
    buffer_append_text(sql, ", extra = excluded.extra, api_key_name = excluded.api_key_name, revision = r.revision + 1,"
                            " revised_request_id = excluded.request_id, revised_at = excluded.received_at"
                            " where r.request_id <> excluded.request_id"
                            " and r.revised_request_id is distinct from excluded.request_id and (");
    append_columns(sql, "r.", false, NULL);
    buffer_append_text(sql, ", r.extra) is distinct from (");
    append_columns(sql, "excluded.", false, NULL);
    buffer_append_text(sql, ", excluded.extra) returning request_id, revised_request_id");
}

/* Whose are the rows that the upsert left alone? v.i is the position among the parameters. */
static void write_lookup(struct buffer *sql, size_t rows) {
    size_t parameter = 0;
    buffer_append_text(sql, "select v.i, r.request_id, r.revised_request_id from (values ");
    for (size_t row = 0; row < rows; row++) {
        buffer_append_format(sql, "%s(%zu, $%zu, $%zu, $%zu)", row > 0 ? "," : "", row, parameter + 1, parameter + 2,
                             parameter + 3);
        parameter += RECEIPT_KEY_COUNT;
    }
    buffer_append_text(sql, ") as v (i, " NATURAL_KEY ") join inventory.receipts as r using (" NATURAL_KEY ")");
}

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

static PGconn *connect_to_database(void) {
    /* The environment has the last word, except where only one value is right. */
    const char *timeout = getenv("PGCONNECT_TIMEOUT");
    const char *session = getenv("PGTARGETSESSIONATTRS");
    const char *const names[] = {"fallback_application_name", "client_encoding", "connect_timeout",
                                 "target_session_attrs", NULL};
    const char *const values[] = {"receiptd", "UTF8", timeout ? timeout : CONNECT_TIMEOUT_S,
                                  session ? session : "read-write", NULL};
    return PQconnectdbParams(names, values, 0);
}

/* Connects unless there is a connection. The blocking call is bounded by libpq's own time-out for each host. */
static bool ensure_connection(struct store_pg *pg) {
    if (pg->connection)
        return true;
    pg->connection = connect_to_database();
    if (PQstatus(pg->connection) != CONNECTION_OK || PQsetnonblocking(pg->connection, 1) != 0) {
        log_message(LOG_ERROR, "cannot connect to PostgreSQL: %s", PQerrorMessage(pg->connection));
        fail(pg, "no connection to PostgreSQL");
        return false;
    }
    PQsetNoticeReceiver(pg->connection, receive_notice, pg);
    memset(pg->upsert_prepared, 0, pg->options.batch_max + 1);
    memset(pg->lookup_prepared, 0, pg->options.batch_max + 1);
    log_message(LOG_INFO, "connected to PostgreSQL");
    return true;
}

/* Waits for the result of what was sent, the caller's to clear; NULL: the deadline passed or the connection broke. */
static PGresult *wait_for_result(struct store_pg *pg, int64_t deadline_us) {
    struct pollfd poll_fd = {.fd = PQsocket(pg->connection)};
    for (;;) {
        int unsent = PQflush(pg->connection);
        if (unsent < 0 || !PQconsumeInput(pg->connection))
            return NULL;
        if (unsent == 0 && !PQisBusy(pg->connection))
            break;
        poll_fd.events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0));
        int64_t left_ms = (deadline_us - clock_now_us() + US_PER_MS - 1) / US_PER_MS;
        if (left_ms <= 0)
            return NULL;
        if (poll(&poll_fd, 1, (int)left_ms) < 0 && errno != EINTR)
            return NULL;
    }
    /* Ended by a NULL result; a statement without rows to fetch has one before it. */
    PGresult *result = PQgetResult(pg->connection), *more;
    while ((more = PQgetResult(pg->connection)))
        PQclear(more);
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
static enum store_result run(struct store_pg *pg, const char *name, void write(struct buffer *, size_t), bool *prepared,
                             size_t rows, size_t row_parameters, int64_t deadline_us, PGresult **result) {
    char statement[32];
    struct buffer sql;
    int parameters = (int)(rows * row_parameters);
    int sent = 0;
    snprintf(statement, sizeof statement, "%s_%zu", name, rows);
    buffer_init(&sql);
    *result = NULL;
    if (!pg->options.prepared_statements || !prepared[rows]) {
        write(&sql, rows);
        buffer_append(&sql, "", 1);
        if (sql.failed)
            goto no_memory;
    }
    if (!pg->options.prepared_statements) {
        sent =
            PQsendQueryParams(pg->connection, sql.data, parameters, pg->types, pg->values, pg->lengths, pg->formats, 1);
    } else {
        if (!prepared[rows]) {
            if (PQsendPrepare(pg->connection, statement, sql.data, parameters, pg->types))
                *result = wait_for_result(pg, deadline_us);
            if (!*result || PQresultStatus(*result) != PGRES_COMMAND_OK)
                goto out;
            PQclear(*result);
            *result = NULL;
            prepared[rows] = true;
        }
        sent = PQsendQueryPrepared(pg->connection, statement, parameters, pg->values, pg->lengths, pg->formats, 1);
    }
    if (sent)
        *result = wait_for_result(pg, deadline_us);
out:
    buffer_fini(&sql);
    if (*result && PQresultStatus(*result) == PGRES_TUPLES_OK)
        return STORE_OK;
    PGresult *failed = *result;
    *result = NULL;
    return explain(pg, failed, deadline_us);

no_memory:
    buffer_fini(&sql);
    pg->store.failure = "out of memory";
    return STORE_FAILED;
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

static bool write_json(struct store_pg *pg, struct delivery *const *deliveries, size_t count) {
    static const char version = JSONB_VERSION;
    pg->json.len = 0;
    pg->json.failed = false;
    for (size_t i = 0; i < count; i++) {
        const struct receipt *receipt = &deliveries[i]->receipt;
        if (!receipt->extra)
            continue;
        buffer_append(&pg->json, &version, 1);
        buffer_append(&pg->json, receipt->extra, receipt->extra_len);
    }
    return !pg->json.failed;
}

static bool set_upsert_parameters(struct store_pg *pg, struct delivery *const *deliveries, size_t count) {
    size_t at = 0;
    const char *json = NULL;
    if (!write_json(pg, deliveries, count))
        return false;
    json = pg->json.data;
    for (size_t row = 0; row < count; row++) {
        const struct delivery *delivery = deliveries[row];
        const struct receipt *receipt = &delivery->receipt;
        for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
            switch (receipt_fields[i].type) {
            case RECEIPT_TEXT:
                set_text(pg, at++, &receipt->values[i]);
                break;
            case RECEIPT_INTEGER:
                pg->integers[row] = (int64_t)htobe64((uint64_t)receipt->to_identifier);
                set_parameter(pg, at++, OID_INT8, &pg->integers[row], sizeof pg->integers[row]);
                break;
            case RECEIPT_OBJECT:
                break;
            }
        }
        size_t json_len = receipt->extra ? receipt->extra_len + 1 : 0;
        set_parameter(pg, at++, OID_JSONB, json_len ? json : NULL, json_len);
        if (json_len)
            json += json_len;
        set_parameter(pg, at++, OID_UUID, delivery->request_id, REQUEST_ID_BYTES);
        set_parameter(pg, at++, OID_TEXT, delivery->api_key_name, strlen(delivery->api_key_name));
    }
    return true;
}

static void set_lookup_parameters(struct store_pg *pg, struct delivery *const *deliveries, size_t count) {
    size_t at = 0;
    for (size_t row = 0; row < count; row++)
        for (size_t k = 0; k < RECEIPT_KEY_COUNT; k++)
            set_text(pg, at++, &deliveries[row]->receipt.values[receipt_key_fields[k]]);
}

static bool is_request(const PGresult *result, int row, int column, const struct delivery *delivery) {
    return !PQgetisnull(result, row, column) && PQgetlength(result, row, column) == REQUEST_ID_BYTES &&
           memcmp(PQgetvalue(result, row, column), delivery->request_id, REQUEST_ID_BYTES) == 0;
}

/*
 * Gives the deliveries whose rows the upsert returned their outcome; the others get into pg->unreturned. Rows are
 * matched by request id, not by position, though they usually come in order: so the search starts behind the last
 * match.
 */
static size_t read_upsert(struct store_pg *pg, const PGresult *result, struct delivery *const *deliveries,
                          size_t count) {
    size_t expected = 0, unreturned = 0;
    memset(pg->outcomes, 0, count * sizeof *pg->outcomes);
    for (int row = 0; row < PQntuples(result); row++) {
        bool revised = !PQgetisnull(result, row, 1);
        for (size_t tried = 0; tried < count; tried++) {
            size_t i = (expected + tried) % count;
            if (is_request(result, row, revised ? 1 : 0, deliveries[i])) {
                pg->outcomes[i] = revised ? OUTCOME_REVISED : OUTCOME_CREATED;
                expected = i + 1;
                break;
            }
        }
    }
    for (size_t i = 0; i < count; i++)
        if (pg->outcomes[i] == OUTCOME_UNAVAILABLE)
            pg->unreturned[unreturned++] = deliveries[i];
    return unreturned;
}

static enum outcome outcome_of_row(const PGresult *result, int row, const struct delivery *delivery) {
    if (is_request(result, row, 1, delivery))
        return OUTCOME_CREATED;
    return is_request(result, row, 2, delivery) ? OUTCOME_REVISED : OUTCOME_UNCHANGED;
}

/* Looks at the `count` rows that the upsert left alone; fills in the outcomes of the batch that are still open. */
static enum store_result look_up(struct store_pg *pg, size_t count, size_t batch_count, int64_t deadline_us) {
    PGresult *result;
    set_lookup_parameters(pg, pg->unreturned, count);
    enum store_result stored =
        run(pg, "lookup", write_lookup, pg->lookup_prepared, count, RECEIPT_KEY_COUNT, deadline_us, &result);
    if (stored != STORE_OK)
        return stored;
    memset(pg->found, 0, count * sizeof *pg->found);
    for (int row = 0; row < PQntuples(result); row++) {
        uint32_t index;
        memcpy(&index, PQgetvalue(result, row, 0), sizeof index); /* int4 in network byte order */
        index = be32toh(index);
        if (index < count)
            pg->found[index] = outcome_of_row(result, row, pg->unreturned[index]);
    }
    PQclear(result);
    for (size_t i = 0, open = 0; i < batch_count; i++) {
        if (pg->outcomes[i] != OUTCOME_UNAVAILABLE)
            continue;
        pg->outcomes[i] = pg->found[open++];
        if (pg->outcomes[i] == OUTCOME_UNAVAILABLE) {
            /* Deleted by hand between the two statements: upserting it again creates it. */
            pg->store.failure = "a row vanished";
            return STORE_CONFLICT;
        }
    }
    return STORE_OK;
}

static enum store_result store_batch(struct store *store, struct delivery *const *deliveries, size_t count,
                                     int64_t deadline_us) {
    struct store_pg *pg = pg_of(store);
    if (!ensure_connection(pg))
        return STORE_FAILED;
    if (!set_upsert_parameters(pg, deliveries, count)) {
        store->failure = "out of memory";
        return STORE_FAILED;
    }
    pg->warned = false;
    PGresult *result;
    enum store_result stored =
        run(pg, "upsert", write_upsert, pg->upsert_prepared, count, ROW_PARAMETERS, deadline_us, &result);
    if (stored != STORE_OK)
        return stored;
    size_t unreturned = read_upsert(pg, result, deliveries, count);
    PQclear(result);
    if (unreturned > 0)
        stored = look_up(pg, unreturned, count, deadline_us);
    if (stored != STORE_OK)
        return stored;
    if (pg->warned)
        return fail(pg, "committed, but not on the standby");
    for (size_t i = 0; i < count; i++)
        deliveries[i]->outcome = pg->outcomes[i];
    return STORE_OK;
}

/* --- life --- */

static void store_pg_free(struct store *store) {
    struct store_pg *pg = pg_of(store);
    disconnect(pg);
    free(pg->upsert_prepared);
    free(pg->lookup_prepared);
    free(pg->values);
    free(pg->lengths);
    free(pg->formats);
    free(pg->types);
    free(pg->integers);
    free(pg->outcomes);
    free(pg->unreturned);
    free(pg->found);
    buffer_fini(&pg->json);
    free(pg);
}

struct store *store_pg_new(const struct store_pg_options *options) {
    struct store_pg *pg = calloc(1, sizeof *pg);
    if (!pg)
        return NULL;
    size_t parameters = options->batch_max * ROW_PARAMETERS;
    pg->store = (struct store){.store = store_batch, .free = store_pg_free};
    pg->options = *options;
    pg->upsert_prepared = calloc(options->batch_max + 1, sizeof *pg->upsert_prepared);
    pg->lookup_prepared = calloc(options->batch_max + 1, sizeof *pg->lookup_prepared);
    pg->values = calloc(parameters, sizeof *pg->values);
    pg->lengths = calloc(parameters, sizeof *pg->lengths);
    pg->formats = calloc(parameters, sizeof *pg->formats);
    pg->types = calloc(parameters, sizeof *pg->types);
    pg->integers = calloc(options->batch_max, sizeof *pg->integers);
    pg->outcomes = calloc(options->batch_max, sizeof *pg->outcomes);
    pg->unreturned = calloc(options->batch_max, sizeof(struct delivery *));
    pg->found = calloc(options->batch_max, sizeof *pg->found);
    buffer_init(&pg->json);
    if (!pg->upsert_prepared || !pg->lookup_prepared || !pg->values || !pg->lengths || !pg->formats || !pg->types ||
        !pg->integers || !pg->outcomes || !pg->unreturned || !pg->found) {
        store_pg_free(&pg->store);
        return NULL;
    }
    for (size_t i = 0; i < parameters; i++)
        pg->formats[i] = 1;
    return &pg->store;
}

/* --- receiptd --check --- */

struct requirement {
    const char *query;   /* one boolean: whether it is met */
    const char *problem; /* in words, when it is not */
};

/* In this order: where one fails, those behind it would only repeat it. */
static const struct requirement requirements[] = {
    {"select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off'",
     "this server takes no writes (a standby, or default_transaction_read_only)"},
    {"select current_setting('server_encoding') = 'UTF8'", "the database's encoding is not UTF8"},
    {"select current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on'",
     "fsync or full_page_writes is off: a crash of the server would lose receipts"},
    {"select current_setting('synchronous_commit') <> 'off'",
     "synchronous_commit is off: a crash would lose acknowledged receipts"},
    {"select coalesce(has_schema_privilege(to_regnamespace('inventory'), 'usage'), false)",
     "there is no schema inventory, or no usage on it: run sql/roles.sql and sqitch deploy"},
    {"select to_regclass('inventory.receipts') is not null",
     "there is no table inventory.receipts: run sqitch deploy in sql/"},
    {"select has_table_privilege('inventory.receipts', 'select') and has_table_privilege('inventory.receipts', "
     "'insert')"
     " and has_table_privilege('inventory.receipts', 'update')",
     "select, insert and update on inventory.receipts are not all granted"},
    {"select exists (select from pg_index i where i.indrelid = 'inventory.receipts'::regclass and i.indisunique"
     " and i.indisvalid and i.indpred is null and"
     " (select array_agg(a.attname::text order by a.attname) from pg_attribute a"
     "   where a.attrelid = i.indrelid and a.attnum = any (i.indkey))"
     " = array['asn_number', 'program_identifier', 'unit_identifier'])",
     "inventory.receipts has no unique constraint on (" NATURAL_KEY ")"},
};

/* The columns that are not a field of the request. */
static const char *const service_columns[][2] = {
    {"extra", "jsonb"},
    {"revision", "integer"},
    {"request_id", "uuid"},
    {"revised_request_id", "uuid"},
    {"api_key_name", "text"},
    {"received_at", "timestamp with time zone"},
    {"revised_at", "timestamp with time zone"},
};

static bool is_met(PGconn *connection, const char *query, FILE *out, const char *problem) {
    PGresult *result = PQexec(connection, query);
    bool answered = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    bool met = answered && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    if (!answered)
        fprintf(out, "Database: %s", PQresultErrorMessage(result));
    else if (!met)
        fprintf(out, "Database: %s\n", problem);
    PQclear(result);
    return met;
}

static bool has_column(PGconn *connection, const char *column, const char *type, FILE *out) {
    char query[512], problem[256];
    snprintf(query, sizeof query,
             "select exists (select from pg_attribute where attrelid = 'inventory.receipts'::regclass"
             " and attname = '%s' and not attisdropped and format_type(atttypid, null) = '%s')",
             column, type);
    snprintf(problem, sizeof problem, "inventory.receipts has no column %s of type %s: run sqitch deploy in sql/",
             column, type);
    return is_met(connection, query, out, problem);
}

static bool check_columns(PGconn *connection, FILE *out) {
    bool ok = true;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        if (field->column)
            ok &= has_column(connection, field->column, field->type == RECEIPT_INTEGER ? "bigint" : "text", out);
    }
    for (size_t i = 0; i < sizeof service_columns / sizeof service_columns[0]; i++)
        ok &= has_column(connection, service_columns[i][0], service_columns[i][1], out);
    return ok;
}

bool store_pg_check(FILE *out) {
    PGconn *connection = connect_to_database();
    bool ok = PQstatus(connection) == CONNECTION_OK;
    if (ok)
        fprintf(out, "Database: %s at %s port %s as %s\n", PQdb(connection), PQhost(connection), PQport(connection),
                PQuser(connection));
    else
        fprintf(out, "Database: cannot connect: %s", PQerrorMessage(connection));
    for (size_t i = 0; ok && i < sizeof requirements / sizeof requirements[0]; i++)
        ok = is_met(connection, requirements[i].query, out, requirements[i].problem);
    if (ok)
        ok = check_columns(connection, out);
    PQfinish(connection);
    return ok;
}
