/*
 * Reads logs of the service and of nginx line by line, plain or compressed: for `receiptd missing`.
 *
 * Threads: one. Memory: constant.
 */
#ifndef RECEIPTD_LOG_READER_H
#define RECEIPTD_LOG_READER_H

#include "log_line.h"

#include <stdio.h>

/* What the logs show of themselves. */
struct log_totals {
    size_t known;      /* lines of the service or of nginx */
    size_t broken;     /* see LOG_LINE_BROKEN */
    size_t dropped;    /* lines that the service, journald or rsyslog reported as dropped */
    size_t unreadable; /* files that could not be read to their end, or are no logs */
    bool left_out;     /* a worker was started to leave acknowledged deliveries out */
};

/* Called for each line of a delivery and of nginx's. False: reading ends. */
typedef bool log_line_taker(void *context, enum log_line_kind kind, const struct log_line *line);

/*
 * Reads the files, up to a NULL, or standard input if there is none or it is named "-", and adds to *totals. A file
 * that is named twice is read once. Why one is unreadable is written to `errors`, and the others are still read. False:
 * the taker said so.
 */
bool log_reader_read(char *const *files, log_line_taker *take, void *context, struct log_totals *totals, FILE *errors);

#endif
