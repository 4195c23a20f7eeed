#include "rejections_pg.h"

#include "pg.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_ROWS "50" /* of at most 1 MiB each */

/* The columns of a page; binary, but for what is cast to text. */
enum { ID, RECEIVED_AT, REQUEST_ID, API_KEY_NAME, BODY };

struct rejections {
    PGconn *connection;
    FILE *errors;
    const char *id, *since; /* the caller's */
    PGresult *page;
    int row; /* the next one in the page */
};

static enum rejections_result fail(struct rejections *rejections) {
    fprintf(rejections->errors, "receiptd: PostgreSQL: %s", PQerrorMessage(rejections->connection));
    return REJECTIONS_FAILED;
}

struct rejections *rejections_open(const char *id, const char *since, FILE *errors) {
    struct rejections *rejections = calloc(1, sizeof *rejections);
    if (!rejections) {
        fprintf(errors, "receiptd: out of memory\n");
        return NULL;
    }
    *rejections = (struct rejections){.connection = pg_connect(), .errors = errors, .id = id, .since = since};
    if (PQstatus(rejections->connection) != CONNECTION_OK) {
        fail(rejections);
        rejections_close(rejections);
        return NULL;
    }
    return rejections;
}

void rejections_close(struct rejections *rejections) {
    if (!rejections)
        return;
    PQclear(rejections->page);
    PQfinish(rejections->connection);
    free(rejections);
}

/* Fetches the page behind `last_id`, which is NULL at the start. What was read and not resolved is not met again. */
static enum rejections_result read_page(struct rejections *rejections, const char *last_id) {
    const char *const values[] = {rejections->id, rejections->since, last_id};
    PGresult *page = PQexecParams(
        rejections->connection,
        "select rejection_id::text, received_at::text, replace(request_id::text, '-', ''), api_key_name, body"
        " from inventory.rejected_receipts"
        " where resolved_at is null and ($1::uuid is null or rejection_id = $1)"
        " and ($2::timestamptz is null or received_at >= $2)"
        " and ($3::uuid is null or (received_at, rejection_id) >"
        " (select l.received_at, l.rejection_id from inventory.rejected_receipts as l where l.rejection_id = $3))"
        " order by received_at, rejection_id limit " PAGE_ROWS,
        3, NULL, values, NULL, NULL, 1);
    PQclear(rejections->page);
    rejections->page = page;
    rejections->row = 0;
    return PQresultStatus(page) == PGRES_TUPLES_OK ? REJECTIONS_OK : fail(rejections);
}

enum rejections_result rejections_next(struct rejections *rejections, struct rejection *rejection) {
    if (!rejections->page || rejections->row == PQntuples(rejections->page)) {
        char last_id[64] = "";
        if (rejections->page && rejections->row < atoi(PAGE_ROWS))
            return REJECTIONS_END;
        if (rejections->page)
            snprintf(last_id, sizeof last_id, "%s", PQgetvalue(rejections->page, rejections->row - 1, ID));
        if (read_page(rejections, *last_id ? last_id : NULL) != REJECTIONS_OK)
            return REJECTIONS_FAILED;
        if (PQntuples(rejections->page) == 0)
            return REJECTIONS_END;
    }
    const PGresult *page = rejections->page;
    int row = rejections->row++;
    *rejection = (struct rejection){.id = PQgetvalue(page, row, ID),
                                    .received_at = PQgetvalue(page, row, RECEIVED_AT),
                                    .request_id = PQgetvalue(page, row, REQUEST_ID),
                                    .api_key_name = PQgetvalue(page, row, API_KEY_NAME),
                                    .body = PQgetvalue(page, row, BODY),
                                    .body_len = (size_t)PQgetlength(page, row, BODY)};
    return REJECTIONS_OK;
}

enum rejections_result rejections_superseded(struct rejections *rejections, const struct rejection *rejection,
                                             const struct receipt *receipt, bool *superseded) {
    const char *values[2 + RECEIPT_KEY_COUNT] = {rejection->id, rejection->request_id};
    int lengths[2 + RECEIPT_KEY_COUNT] = {0}, formats[2 + RECEIPT_KEY_COUNT] = {0};
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        const struct receipt_value *value = &receipt->values[receipt_key_fields[k]];
        values[2 + k] = value->text;
        lengths[2 + k] = (int)value->len;
        formats[2 + k] = 1;
    }
    /* What was reprocessed itself arrived when it was refused, not when it became a receipt. */
    PGresult *result = PQexecParams(
        rejections->connection,
        "select exists (select from inventory.receipts as r"
        " left join inventory.rejected_receipts as p on p.request_id = coalesce(r.revised_request_id, r.request_id)"
        " where (r.program_identifier, r.asn_number, r.unit_identifier) = ($3::text, $4::text, $5::text)"
        " and coalesce(p.received_at, r.revised_at, r.received_at) >="
        " (select received_at from inventory.rejected_receipts where rejection_id = $1::uuid)"
        " and $2::uuid not in (r.request_id, coalesce(r.revised_request_id, r.request_id)))",
        2 + RECEIPT_KEY_COUNT, NULL, values, lengths, formats, 0);
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK;
    if (ok)
        *superseded = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return ok ? REJECTIONS_OK : fail(rejections);
}

enum rejections_result rejections_resolve(struct rejections *rejections, const struct rejection *rejection,
                                          const char *resolution) {
    const char *const values[] = {rejection->id, resolution};
    PGresult *result = PQexecParams(rejections->connection,
                                    "update inventory.rejected_receipts set resolved_at = now(), resolution = $2"
                                    " where rejection_id = $1::uuid and resolved_at is null",
                                    2, NULL, values, NULL, NULL, 0);
    bool ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return ok ? REJECTIONS_OK : fail(rejections);
}
