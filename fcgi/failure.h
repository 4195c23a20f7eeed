/*
 * A receipt of which deliveries got 503, for `receiptd missing`: what the logs show of it, and how it is written.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_FAILURE_H
#define RECEIPTD_FAILURE_H

#include "buffer.h"
#include "log_line.h"
#include "retries.h"

#include <stdio.h>

enum { FAILURE_KEY_SIZE = RECEIPT_KEY_MAX_BYTES + RECEIPT_KEY_COUNT };

struct failure {
    int64_t first_ms, last_ms, unchanged_ms; /* since 1970; INT64_MIN: never */
    size_t attempts;
    unsigned char last_id[REQUEST_ID_BYTES];
    bool stored;                /* as it was before */
    char key[FAILURE_KEY_SIZE]; /* program, ASN and unit, each with its NUL */
};

/* Writes the key of a line, FAILURE_KEY_SIZE bytes at most. Its length, or 0: it is longer than a key can be. */
size_t failure_set_key(char *key, const struct log_line *line);

/* The bytes of a key, with its NULs. */
size_t failure_key_len(const char *key);
int failure_compare_keys(const char *a, const char *b);

/* Appends members of a JSON object that `receiptd missing` sends to the database: the request id, and the key's parts.
 */
void failure_append_id_and_key(struct buffer *json, const unsigned char *request_id, const char *key);

/* Oldest first, for spool.h. */
int failure_compare(const void *a, const void *b);

/* Writes it as a line for people, or as a row of a table, whose first row has the names. `line` is for their use. */
void failure_write_text(FILE *out, struct buffer *line, const struct failure *failure, const struct retries *retries);
void failure_write_row(FILE *out, struct buffer *line, const struct failure *failure, const struct retries *retries);
void failure_write_names(FILE *out);

#endif
