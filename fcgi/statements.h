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

/* What a statement fails for (42704) when a setting is wrong on which the promises rest: there is no such setting. */
#define STATEMENTS_UNSAFE "receiptd.settings_are_not_safe"

/* The setting with the request ids of revisions that a transaction has begun; sql/deploy/ has it too. */
#define STATEMENTS_BEGUN "receiptd.begun"

/* The one with those for which UPSERT has found a row and locked it. */
#define STATEMENTS_MET "receiptd.met"

/* The one with those that keep_newer has turned away. */
#define STATEMENTS_SUPERSEDED "receiptd.superseded"

/*
 * The schema that the statements need, at least (sql/deploy/schema_version.sql); newer ones are fine. Columns for
 * fields do not count: the value of a field without one goes into the column extra.
 */
enum { STATEMENTS_SCHEMA_NEEDED = 1 };

enum {
    STATEMENTS_LOOKUP_ROW_BYTES = 16 * 1024, /* of text in a row, unless it may be of any length */
    STATEMENTS_REPEATS_MAX = 100,            /* request ids of repeats that a row of rejected_receipts keeps */
    STATEMENTS_RETURNED_MAX = 5,             /* revisions of a receipt that are compared with its history */
    STATEMENTS_PARAMETERS_MAX = 65535,       /* PostgreSQL's protocol counts them in 16 bits (Bind, "Int16") */
};

/*
 * Parameters of each row, in this order. UPSERT, INSERT, REVISE: the columns of receipts for fields, extra, request_id,
 * api_key_name, sender_headers. LOOKUP: the natural key, extra, request_id, whether the row may be of any length.
 * REJECT: request_id, api_key_name, status, message, errors, body, the natural key, sender_headers, digest, how many
 * identical deliveries there are, and the request ids of all but the first (null: none). No two rows of one digest.
 *
 * With has_foreign_triggers, UPSERT has another row for each delivery whose row it has locked, and one for each
 * revision that was begun. In both CREATED_BY is null, and in the latter REVISED_BY too. With keep_newer, it has
 * another row for each that this turns away; in it CREATED_BY is null. REVISE has a column 3 with whether the revision
 * was begun.
 *
 * In every result, column 0 is the request id of the delivery that a row is about, and column 1 true: with settings
 * that are not safe, the statement fails. A receipt that is not in the result is not settled.
 */
enum statement {
    STATEMENT_UPSERT, /* 2: the row's request_id, 3: its revised_request_id, 4: whether the row is again what it was
                         before (of its first revisions), 5: whether it was turned away by keep_newer; waits for locked
                         rows */
    STATEMENT_INSERT, /* the same, of new rows only; a row that is there is left alone, locked or not */
    STATEMENT_REVISE, /* of rows that are there and not locked by others, 2: whether it was revised; 4 and 5 as UPSERT
                       */
    /*
     * Of rows that are there, as UPSERT, and 4: whether the delivery has revised it before it was revised again, 5:
     * whether the row is surely flushed and has the delivery's extra; from 6 on the columns for fields but for the key.
     * Rows with longer texts are left out, unless they may be of any length.
     */
    STATEMENT_LOOKUP,
    STATEMENT_REJECT, /* column 0 is that of the first of all identical deliveries; in the order of the groups */
    STATEMENT_COUNT
};

enum {
    STATEMENTS_DELIVERY,
    STATEMENTS_SAFE,
    STATEMENTS_CREATED_BY,
    STATEMENTS_WAS_REVISED = STATEMENTS_CREATED_BY,
    STATEMENTS_REVISED_BY,
    STATEMENTS_WAS_BEGUN = STATEMENTS_REVISED_BY,
    STATEMENTS_HAD_REVISED,
    STATEMENTS_HAS_RETURNED = STATEMENTS_HAD_REVISED,
    STATEMENTS_HAS_EXTRA,
    STATEMENTS_WAS_SUPERSEDED = STATEMENTS_HAS_EXTRA,
    STATEMENTS_FIELDS
};

/* A name for it, as a prepared statement's. Static storage. */
const char *statements_name(enum statement statement);

/* How many parameters a row takes, with the columns that the table has. */
size_t statements_row_parameters(enum statement statement, const struct receipt_columns *columns);

struct statements_options {
    const char *keep_when; /* for UPSERT: SQL about r, the row there is, and excluded; where it is true, r stays */
    const char
        *ignored_fields; /* top-level names of extra, separated by commas, that are no content; NULL or "": none */
    bool keep_newer;     /* UPSERT and REVISE leave r alone if it has replaced what is delivered */
    bool on_citus;       /* as its planner takes it */
    bool hides_flush;    /* the role may not see how far the log was flushed */
    bool has_foreign_triggers; /* UPSERT and REVISE tell what they have begun: a trigger may have dropped the rest */
    bool require_standby;      /* the settings are safe only while a synchronous standby is named */
    struct receipt_columns columns;
};

/* Whether UPSERT and REVISE tell what they have begun. Citus refuses that. */
bool statements_tell_begun(const struct statements_options *options);

/* Appends the statement for that many rows. */
void statements_write(struct buffer *sql, enum statement statement, size_t rows,
                      const struct statements_options *options);

#endif
