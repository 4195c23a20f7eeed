#include "rejections_pg.h"

#include "pg.h"

#include <stdlib.h>
#include <string.h>

#define LOCK_NOT_AVAILABLE "55P03" /* PostgreSQL's manual, appendix A */
#define PAGE_ROWS "50"             /* of at most 1 MiB each */
/* Exact, and read back the same whatever the session's DateStyle and TimeZone. */
#define UTC(time) "to_char(" time " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

/* Each as a column of its own. */
#define HEADER(id_, parameter_, name_, log_name_) ", sender_headers ->> '" name_ "'"
#define HEADERS SENDER_HEADERS(HEADER)

const char rejections_page_query[] = "select rejection_id::text, " UTC(
    "received_at") ", request_id::text, api_key_name, body,"
                   " inventory.is_superseded(received_at, program_identifier, asn_number, unit_identifier)" HEADERS
                   " from inventory.rejected_receipts where resolved_at is null"
                   " and (received_at, rejection_id) > ($1::timestamptz, $2::uuid)"
                   " and received_at <= $3::timestamptz and ($4::uuid is null or $4 in (rejection_id, request_id))"
                   " order by received_at, rejection_id limit " PAGE_ROWS;

/* A login that waits for locks for ever would let one that is held up keep the others from being reached. */
static const char begin_query[] =
    "select " UTC("now()") ", $1::uuid, $2::timestamptz, case when current_setting('lock_timeout') = '0'"
                           " then set_config('lock_timeout', '250ms', false) end";

/* The columns of a page; binary, but for what is cast to text. */
enum { ID, RECEIVED_AT, REQUEST_ID, API_KEY_NAME, BODY, SUPERSEDED, FIRST_HEADER };

struct rejections {
    PGconn *connection;
    FILE *errors;
    const char *id, *since; /* the caller's */
    PGresult *began;        /* its one value: the time of rejections_open */
    PGresult *page;
    int row; /* the next one in the page */
};

static enum rejections_result report(struct rejections *rejections) {
    fprintf(rejections->errors, "receiptd: PostgreSQL: %s", PQerrorMessage(rejections->connection));
    return REJECTIONS_FAILED;
}

/* Of a statement about one rejection. */
static enum rejections_result report_one(struct rejections *rejections, const struct rejected_receipt *rejection,
                                         const PGresult *result) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    fprintf(rejections->errors, "receiptd: %s: ", rejection->id);
    report(rejections);
    return state && strcmp(state, LOCK_NOT_AVAILABLE) == 0 ? REJECTIONS_LOCKED : REJECTIONS_FAILED;
}

/* Looks at the clock, and has PostgreSQL read what was asked for, so that a slip is told before anything else is. */
static bool begin(struct rejections *rejections) {
    const char *const values[] = {rejections->id, rejections->since};
    if (PQstatus(rejections->connection) != CONNECTION_OK) {
        report(rejections);
        return false;
    }
    rejections->began = PQexecParams(rejections->connection, begin_query, 2, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(rejections->began) == PGRES_TUPLES_OK)
        return true;
    const char *state = PQresultErrorField(rejections->began, PG_DIAG_SQLSTATE);
    if (state && strncmp(state, "22", 2) == 0) /* PostgreSQL's manual, appendix A: data exception */
        fprintf(rejections->errors, "receiptd: %s: %s\n", rejections->id ? "--id" : "--since",
                PQresultErrorField(rejections->began, PG_DIAG_MESSAGE_PRIMARY));
    else
        report(rejections);
    return false;
}

struct rejections *rejections_open(const char *id, const char *since, FILE *errors) {
    struct rejections *rejections = calloc(1, sizeof *rejections);
    if (!rejections) {
        fprintf(errors, "receiptd: out of memory\n");
        return NULL;
    }
    *rejections = (struct rejections){.connection = pg_connect_to_latest(), .errors = errors, .id = id, .since = since};
    if (!begin(rejections)) {
        rejections_close(rejections);
        return NULL;
    }
    return rejections;
}

void rejections_close(struct rejections *rejections) {
    if (!rejections)
        return;
    PQclear(rejections->began);
    PQclear(rejections->page);
    PQfinish(rejections->connection);
    free(rejections);
}

/*
 * Fetches the page behind this place; what was read and not resolved is not met again. The place is a plain row
 * comparison, which the index on what is not resolved answers, however far the reading has come.
 */
static enum rejections_result read_page(struct rejections *rejections, const char *received_at, const char *id) {
    const char *const values[] = {received_at, id, PQgetvalue(rejections->began, 0, 0), rejections->id};
    PGresult *page = PQexecParams(rejections->connection, rejections_page_query, 4, NULL, values, NULL, NULL, 1);
    PQclear(rejections->page); /* not before: the place may be in it */
    rejections->page = page;
    rejections->row = 0;
    return PQresultStatus(page) == PGRES_TUPLES_OK ? REJECTIONS_OK : report(rejections);
}

static enum rejections_result read_next_page(struct rejections *rejections) {
    const PGresult *page = rejections->page;
    int last = rejections->row - 1;
    if (page)
        return read_page(rejections, PQgetvalue(page, last, RECEIVED_AT), PQgetvalue(page, last, ID));
    return read_page(rejections, rejections->since ? rejections->since : "-infinity",
                     "00000000-0000-0000-0000-000000000000");
}

enum rejections_result rejections_next(struct rejections *rejections, struct rejected_receipt *rejection) {
    if (!rejections->page || rejections->row == PQntuples(rejections->page)) {
        if (read_next_page(rejections) != REJECTIONS_OK)
            return REJECTIONS_FAILED;
        if (PQntuples(rejections->page) == 0)
            return REJECTIONS_END;
    }
    const PGresult *page = rejections->page;
    int row = rejections->row++;
    *rejection = (struct rejected_receipt){.id = PQgetvalue(page, row, ID),
                                           .received_at = PQgetvalue(page, row, RECEIVED_AT),
                                           .request_id = PQgetvalue(page, row, REQUEST_ID),
                                           .api_key_name = PQgetvalue(page, row, API_KEY_NAME),
                                           .body = PQgetvalue(page, row, BODY),
                                           .body_len = (size_t)PQgetlength(page, row, BODY),
                                           .superseded = *PQgetvalue(page, row, SUPERSEDED)};
    for (int i = 0; i < SENDER_HEADER_COUNT; i++)
        if (!PQgetisnull(page, row, FIRST_HEADER + i))
            rejection->headers[i] = PQgetvalue(page, row, FIRST_HEADER + i);
    return REJECTIONS_OK;
}

enum rejections_result rejections_superseded(struct rejections *rejections, const struct rejected_receipt *rejection,
                                             const struct receipt *receipt, bool *superseded) {
    const char *values[1 + RECEIPT_KEY_COUNT] = {rejection->request_id};
    int lengths[1 + RECEIPT_KEY_COUNT] = {0}, formats[1 + RECEIPT_KEY_COUNT] = {0};
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        const struct receipt_value *value = &receipt->values[receipt_key_fields[k]];
        values[1 + k] = value->text;
        lengths[1 + k] = (int)value->len;
        formats[1 + k] = 1;
    }
    PGresult *result =
        PQexecParams(rejections->connection,
                     "select exists (select from inventory.receipts as r, (values ($1::uuid)) as excluded (request_id)"
                     " where (r.program_identifier, r.asn_number, r.unit_identifier) = ($2::text, $3::text, $4::text)"
                     " and " REJECTIONS_SUPERSEDED ")",
                     1 + RECEIPT_KEY_COUNT, NULL, values, lengths, formats, 0);
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK;
    if (ok)
        *superseded = PQgetvalue(result, 0, 0)[0] == 't';
    enum rejections_result found = ok ? REJECTIONS_OK : report_one(rejections, rejection, result);
    PQclear(result);
    return found;
}

enum rejections_result rejections_resolve(struct rejections *rejections, const struct rejected_receipt *rejection,
                                          const char *resolution) {
    const char *const values[] = {rejection->id, resolution};
    PGresult *result = PQexecParams(rejections->connection,
                                    "update inventory.rejected_receipts set resolved_at = now(), resolution = $2"
                                    " where rejection_id = $1::uuid and resolved_at is null",
                                    2, NULL, values, NULL, NULL, 0);
    bool ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    enum rejections_result resolved = ok ? REJECTIONS_OK : report_one(rejections, rejection, result);
    PQclear(result);
    return resolved;
}
