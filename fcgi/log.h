/*
 * The log: logfmt lines on standard error, whole lines with each write, so that lines of several threads do not mix.
 *
 * From log_start to log_stop nobody who logs waits for standard error, be it a pipe that nobody reads, a terminal that
 * was stopped, a full disk or one that hangs. Lines that can't be written are dropped: those beyond the 2 MiB that may
 * wait, and those that are refused. As soon as there is room again, their number is said, in a line of its own.
 * Lines of deliveries come up to a few milliseconds late, and are lost when the process is killed before that.
 * Before log_start, as in a command that somebody called, a line is written by whoever logs it.
 *
 * Where standard error is the journal, a line begins with its priority.
 *
 * Never in it: a body, an API key, ot_user_login.
 * Threads: any. log_set_level, log_set_sampling and log_start only before other threads start, log_stop from one.
 */
#ifndef RECEIPTD_LOG_H
#define RECEIPTD_LOG_H

#include "delivery.h"

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO };

/* Lines less important than `level` are not written; LOG_INFO at the start. */
void log_set_level(enum log_level level);

/* Of deliveries that created or revised a receipt, one in so many has a line; 0: none. 1 at the start. */
void log_set_sampling(unsigned one_in);

/* Messages by which `receiptd missing` knows that a log does not show all deliveries. */
#define LOG_LINES_DROPPED "lines of this log were dropped"
#define LOG_DELIVERIES_LEFT_OUT "acknowledged deliveries are left out of this log (RECEIPTD_LOG_DELIVERIES)"

/* Starts the thread that writes. False, with errno set, when there is none. */
bool log_start(void);

/*
 * Writes what waits, at the end of the process. What standard error does not take within a second stays unwritten; then
 * the thread that writes still lives. Without log_start it does nothing.
 */
void log_stop(void);

/* Writes an event in words. */
void log_message(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines of deliveries that go to the log together: all of a batch are answered at once. Begins with len 0. */
struct log_batch {
    size_t len;
    char lines[4096]; /* what a pipe takes without mixing it with another's (pipe(7), PIPE_BUF) */
};

/*
 * Adds the line of a delivery that was answered: LOG_WARNING for a 503, else LOG_INFO. Of those without a valid key
 * (401, 405), a burst of 100 has lines and then one a second; every ten seconds a line has the number of the others.
 */
void log_delivery(struct log_batch *batch, const struct delivery *delivery);

/* Logs what was added. */
void log_flush(struct log_batch *batch);

#endif
