/*
 * How far a command is that takes its time, in one line that is written over and over. Only if standard error is a
 * terminal; otherwise all of this does nothing.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_PROGRESS_H
#define RECEIPTD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    FILE *terminal; /* NULL: there is none */
    bool shown;
    int64_t next_us;
};

enum progress_unit { PROGRESS_BYTES, PROGRESS_DELIVERIES };

void progress_start(struct progress *progress, FILE *out);

/* Shows how much is done, at most a few times a second; a bar too if `total` is known, that is not 0. */
void progress_show(struct progress *progress, const char *what, uint64_t done, uint64_t total, enum progress_unit unit);

/* Removes the line. To be called before anything else is written to the terminal. */
void progress_clear(struct progress *progress);

#endif
