/*
 * receiptd missing: which deliveries were answered 503, by the service's log, and were not redelivered since. What it
 * shares with receiptd missing --acknowledged (acknowledged.h) is here too.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_MISSING_H
#define RECEIPTD_MISSING_H

#include "log_reader.h"
#include "pg.h"
#include "service.h"

#include <stdbool.h>
#include <stdio.h>

struct missing_options {
    char *const *files; /* of log lines, up to a NULL; none: standard input */
    bool csv;
    bool acknowledged;             /* for acknowledged_missing, which alone reads the next two: */
    const char *since, *until;     /* times as PostgreSQL reads them; NULL: no limit */
    const struct service *service; /* as whom to query the database, once the files were read */
};

enum missing_result {
    MISSING_NONE = 0,
    MISSING_SOME,
    MISSING_FAILED, /* or the logs do not show all; the reason was written to `errors` */
};

/*
 * Reads the lines, queries the database that libpq's environment names, and writes what is missing, oldest first. What
 * nginx answered by itself, of which nobody knows whose it was, is written as a span of time, to `errors` with `csv`.
 */
enum missing_result missing(const struct missing_options *options, FILE *out, FILE *errors);

/* Becomes the service's user and connects. NULL: the reason was written to `errors`. The caller calls PQfinish. */
PGconn *missing_connect(const struct missing_options *options, FILE *errors);

/* Writes to `errors` what the logs do not show. True when there is such a thing: then finding nothing proves nothing.
 */
bool missing_report_gaps(const struct log_totals *totals, FILE *errors);

#endif
