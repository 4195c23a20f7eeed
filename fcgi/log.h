/*
 * The log: logfmt lines on standard error, whole lines with each call, so that lines of several threads do not mix.
 *
 * Never in it: a body, an API key, ot_user_login.
 * Threads: any. log_set_level only before other threads start.
 */
#ifndef RECEIPTD_LOG_H
#define RECEIPTD_LOG_H

#include "delivery.h"

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO };

/* Lines less important than `level` are not written; LOG_INFO at the start. */
void log_set_level(enum log_level level);

/* Writes an event in words. */
void log_message(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines of deliveries that are written with one call: all of a batch are answered at once. Begins with len 0. */
struct log_batch {
    size_t len;
    char lines[4096]; /* what a pipe takes without mixing it with another's (pipe(7), PIPE_BUF) */
};

/* Adds the line of a delivery that was answered: LOG_WARNING for a 503, else LOG_INFO. */
void log_delivery(struct log_batch *batch, const struct delivery *delivery);

/* Writes what was added. */
void log_flush(struct log_batch *batch);

#endif
