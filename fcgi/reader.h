/*
 * From the records of a whole request (records.h) to a struct request: the only module that knows <fcgiapp.h>.
 *
 * libfcgi's FCGX_Accept_r reads from a descriptor only, waits for bytes that are missing, and ends the process when it
 * finds no memory. A stream of libfcgi's needs none of that: where more of it comes from is the choice of whoever makes
 * it (fillBuffProc). Here it comes record by record from the memory that the request was received into.
 *
 * Threads: a reader belongs to one thread at a time.
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
    char *bytes;        /* not changed, though libfcgi's streams take no const */
    size_t stdin_bytes; /* how much of the body is there */
    bool temporary;     /* the bytes are gone before reader_release */
};

enum reader_result {
    READER_OK = 0,
    READER_WRONG,     /* the body is not as long as was announced */
    READER_NO_MEMORY, /* the request is there, without its body */
};

/* NULL when memory runs out. */
struct reader *reader_new(void);

/* Takes NULL. */
void reader_free(struct reader *reader);

/* What `request` points to is good until reader_release, which must be called whatever the result was. */
enum reader_result reader_read(struct reader *reader, const struct reader_input *input, struct request *request);
void reader_release(struct reader *reader);

#endif
