/*
 * One line of a log of the service, or of nginx in the format receiptd: for `receiptd missing`.
 *
 * A line that was cut off, by a crash or a full disk, is never mistaken for another one: a line counts as a delivery
 * only if all of its fields are there, each of them once, and nothing else.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_LOG_LINE_H
#define RECEIPTD_LOG_LINE_H

#include "delivery.h"

#include <stdbool.h>
#include <stdint.h>

enum log_line_kind {
    LOG_LINE_OTHER = 0, /* not of this service */
    LOG_LINE_MESSAGE,   /* an event in words */
    LOG_LINE_DELIVERY,
    LOG_LINE_NGINX,
    LOG_LINE_BROKEN, /* cut off or damaged: which delivery it showed, if any, is unknown */
};

/* The fields that are of interest, decoded; "" for one that is not there. They live as long as the text. */
struct log_line {
    const char *time, *level, *msg, *status, *result, *request_id, *ms;
    const char *program, *asn, *unit;    /* UTF-8 */
    const char *cut;                     /* the key is longer than what the line has of it */
    const char *request, *worker_status; /* nginx's */
    const char *dropped;
    const char *repeat_of; /* the request id of the identical delivery that was kept first */

    /* For LOG_LINE_DELIVERY and LOG_LINE_NGINX. */
    int64_t at_ms; /* `time`, since 1970 */
    int status_number;
    unsigned char id[REQUEST_ID_BYTES];
};

/* Reads one line, which ends in a NUL in place of the line feed that it `ended` with, or did not. Changes the text. */
enum log_line_kind log_line_parse(char *text, bool ended, struct log_line *line);

/* 2026-11-28T05:52:28.123Z, as log.c writes it, or 2026-11-28T07:52:28+02:00, as nginx does. False if it is neither. */
bool log_line_parse_time(const char *text, int64_t *ms);

enum { LOG_TIME_SIZE = 40 };

/* Writes a time as log.c does. Returns `text`. */
const char *log_line_format_time(char text[LOG_TIME_SIZE], int64_t ms);

#endif
