/*
 * Reads logs of the service, and of nginx in the format receiptd, line by line: for `receiptd missing`.
 *
 * A file is text, or text compressed by gzip. A line that was cut off, by a crash or a full disk, is never taken for
 * another one: only a line whose fields are all there, each of them once, counts as one of a delivery.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_LOG_READER_H
#define RECEIPTD_LOG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum log_line_kind {
    LOG_LINE_OTHER = 0, /* not of this service */
    LOG_LINE_MESSAGE,   /* an event in words */
    LOG_LINE_DELIVERY,  /* with all of time, status, request_id and ms */
    LOG_LINE_NGINX,
    LOG_LINE_BROKEN, /* the service's, but not all of it is there: whatever it was about is not known */
};

/* The fields that are of interest, decoded; "" for one that is not there. They live as long as the text. */
struct log_line {
    const char *time, *level, *msg, *status, *result, *request_id, *ms;
    const char *program, *asn, *unit;
    const char *request, *worker_status; /* nginx's */
    const char *dropped;
};

/* Reads one line, which ends in a NUL in place of the line feed that it `ended` with, or did not. Changes the text. */
enum log_line_kind log_line_parse(char *text, bool ended, struct log_line *line);

/* What the logs show of themselves. */
struct log_totals {
    size_t known;   /* lines of the service or of nginx */
    size_t broken;  /* see LOG_LINE_BROKEN */
    size_t dropped; /* lines that the service reported as dropped */
    bool left_out;  /* a worker was started to leave acknowledged deliveries out */
};

/* Called for each line of a delivery and of nginx's. */
typedef void log_line_taker(void *context, enum log_line_kind kind, const struct log_line *line);

/*
 * Reads the files, up to a NULL, or standard input when there is none, and adds to *totals. False when not all of them
 * could be read, or one that is not empty has no known line, since it is not a log then: the reason was written to
 * `errors`.
 */
bool log_reader_read(char *const *files, log_line_taker *take, void *context, struct log_totals *totals, FILE *errors);

#endif
