/*
 * receiptd missing: which deliveries were told to come again, by the service's log, and have not come.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_MISSING_H
#define RECEIPTD_MISSING_H

#include "service.h"

#include <stdbool.h>
#include <stdio.h>

struct missing_options {
    char *const *files; /* of log lines, up to a NULL; none: standard input */
    bool csv;
    const struct service *service; /* as whom to ask the database, once the files were read */
};

enum missing_result {
    MISSING_NONE = 0,
    MISSING_SOME,
    MISSING_FAILED, /* the reason was written to `errors` */
};

/*
 * Reads the lines, asks the database that libpq's environment names, and writes what has not come, oldest first. What
 * nginx answered by itself, of which nobody knows whose it was, is told as a span of time, on `errors` with `csv`.
 */
enum missing_result missing(const struct missing_options *options, FILE *out, FILE *errors);

#endif
