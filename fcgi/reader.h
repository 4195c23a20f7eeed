/*
 * Whole requests, read through libfcgi: the only module that knows <fcgiapp.h>.
 *
 * libfcgi waits for bytes that it misses, answers management records by itself, and accepts connections when one ends.
 * So it never has a client's socket: what records.h found to be one request goes to it through a pipe of the reader's
 * own, from which it can read without waiting or not at all.
 *
 * It ends the process when there is no memory for what it keeps of a request: 17 KB, and the parameters, whose length
 * records.h bounds. What was acknowledged is stored by then, and what was not goes to another worker.
 *
 * Threads: reader_start_library once, before all else; a reader belongs to one thread at a time.
 */
#ifndef RECEIPTD_READER_H
#define RECEIPTD_READER_H

#include "handler.h"
#include "records.h"

#include <stdbool.h>
#include <stddef.h>

struct reader;

/* The bytes of a request that was found to be whole. */
struct reader_input {
    const struct records *records;
    const char *bytes;
    size_t len;
    size_t head_len;    /* of a copy, whose body may be longer than a pipe: where it begins; else len */
    size_t stdin_bytes; /* how much of the body is there */
};

enum reader_result {
    READER_OK = 0,
    READER_WRONG,     /* the body is not as long as was announced, or there is no pipe */
    READER_NO_MEMORY, /* the request is there, but for its body */
};

/* Once in a process. SIGPIPE is ignored from then on. False when it can't. */
bool reader_start_library(void);

/* NULL, with errno set, when it can't be had. */
struct reader *reader_new(void);

/* Takes NULL. */
void reader_free(struct reader *reader);

/* What `request` points to is good until reader_release, which is to be called whatever the result was. */
enum reader_result reader_read(struct reader *reader, const struct reader_input *input, struct request *request);
void reader_release(struct reader *reader);

#endif
