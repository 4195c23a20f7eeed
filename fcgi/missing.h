/*
 * receiptd missing: which deliveries were answered 503, by the service's log, and are not in the database since. What
 * it shares with receiptd missing --acknowledged (acknowledged.h) is here too.
 *
 * Threads: one. Memory: constant, see spool.h.
 */
#ifndef RECEIPTD_MISSING_H
#define RECEIPTD_MISSING_H

#include "buffer.h"
#include "log_reader.h"
#include "pg.h"
#include "progress.h"
#include "retries.h"
#include "service.h"

#include <stdbool.h>
#include <stdio.h>

struct missing_options {
    char *const *files; /* of log lines, up to a NULL; none: standard input */
    bool csv;
    struct retries retries;        /* of the sender */
    bool acknowledged;             /* for acknowledged_missing, which alone reads the next two: */
    const char *since, *until;     /* times as PostgreSQL reads them; NULL: no limit */
    const struct service *service; /* as whom to query the database, once the files were read */
};

/* The exit status. */
enum missing_result {
    MISSING_NONE = 0,
    MISSING_SOME,
    MISSING_FAILED,  /* the reason was written to `errors` */
    MISSING_UNKNOWN, /* none was found, but the logs could not be read completely, or do not show everything */
};

/*
 * Reads the lines, queries the database that libpq's environment names, and writes what is missing, oldest first.
 * Writes to `errors` what is not known, with its number.
 */
enum missing_result missing(const struct missing_options *options, FILE *out, FILE *errors);

/* Becomes the service's user and connects. NULL: the reason was written to `errors`. The caller calls PQfinish. */
PGconn *missing_connect(const struct missing_options *options, FILE *errors);

/*
 * Runs a query with an array of JSON objects as its parameter, with `json` as far as the last of them. NULL: the reason
 * was written to `errors`, in place of the progress. The caller calls PQclear.
 */
PGresult *missing_look_up(PGconn *connection, const char *query, struct buffer *json, struct progress *progress,
                          FILE *errors);

/* Writes to `errors` what the logs do not show. True when there is such a thing: then finding nothing proves nothing.
 */
bool missing_report_gaps(const struct log_totals *totals, FILE *errors);

enum { MISSING_SPOOL_BYTES = 16 * 1024 * 1024 };

#endif
