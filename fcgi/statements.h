/*
 * The SQL of the store, as text for any number of rows; knows no libpq. Every statement is a transaction by itself.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_STATEMENTS_H
#define RECEIPTD_STATEMENTS_H

#include "buffer.h"
#include "receipt.h"

#include <stddef.h>

#define STATEMENTS_NATURAL_KEY "program_identifier, asn_number, unit_identifier"

enum {
    STATEMENTS_PARAMETERS_MAX = 65535, /* PostgreSQL's protocol counts them in 16 bits (Bind, "Int16") */
};

/*
 * Parameters of each row, in this order. UPSERT, INSERT, REVISE: the columns of receipts for fields, extra, request_id,
 * api_key_name. LOOKUP: the natural key, extra, request_id. REJECT: request_id, api_key_name, status, message, errors,
 * body, the natural key.
 *
 * In every result, column 0 is the request id of the delivery that a row is about, and column 1 whether the server and
 * the session are set so that what was committed is durable. A receipt that is not in the result is not settled.
 */
enum statement {
    STATEMENT_UPSERT, /* 2: the row's request_id, 3: its revised_request_id; waits for locked rows */
    STATEMENT_INSERT, /* the same, of new rows only; a row that is there is left alone, locked or not */
    STATEMENT_REVISE, /* of rows that are there and not locked by others, 2: whether it was revised */
    /*
     * Of rows that are there, as UPSERT, and 4: whether the delivery has revised it before it was revised again, 5:
     * whether the row is surely flushed and has the delivery's extra; from 6 on the columns for fields but for the key.
     */
    STATEMENT_LOOKUP,
    STATEMENT_REJECT,
    STATEMENT_COUNT
};

enum {
    STATEMENTS_DELIVERY,
    STATEMENTS_DURABLE,
    STATEMENTS_CREATED_BY,
    STATEMENTS_WAS_REVISED = STATEMENTS_CREATED_BY,
    STATEMENTS_REVISED_BY,
    STATEMENTS_HAD_REVISED,
    STATEMENTS_HAS_EXTRA,
    STATEMENTS_FIELDS
};

/* A name for it, as a prepared statement's. Static storage. */
const char *statements_name(enum statement statement);

/* How many parameters a row takes. */
size_t statements_row_parameters(enum statement statement);

struct statements_options {
    const char *keep_when; /* for UPSERT: SQL about r, the row there is, and excluded; where it is true, r stays */
    bool on_citus;         /* as its planner takes it */
};

/* Appends the statement for that many rows. */
void statements_write(struct buffer *sql, enum statement statement, size_t rows,
                      const struct statements_options *options);

#endif
