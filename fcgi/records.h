/*
 * FastCGI's records (specification 1.0, sections 3.3, 5 and 8): from any bytes to one whole request of a responder, and
 * the records around an answer. Knows no I/O.
 *
 * Only this is a request: FCGI_BEGIN_REQUEST; FCGI_PARAMS until an empty one, made of whole name-value pairs;
 * FCGI_STDIN until an empty one; all with the same id, nothing in between and nothing behind. Management records,
 * requests side by side on a connection, FCGI_ABORT_REQUEST and other roles are refused: no web server that answers one
 * request after the other sends them to a responder, and who gives a request up can as well close the connection.
 *
 * Threads: works on its arguments only.
 */
#ifndef RECEIPTD_RECORDS_H
#define RECEIPTD_RECORDS_H

#include "buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RECORDS_HEADER_BYTES = 8,
    RECORDS_CONTENT_MAX = 32 * 1024,      /* of a record in a copy; one that is received may have 65,535 bytes */
    RECORDS_PARAMS_MAX_BYTES = 64 * 1024, /* in all FCGI_PARAMS of a request; more is refused */
    RECORDS_AFTER_ANSWER_BYTES = 24,
};

enum records_result {
    RECORDS_INCOMPLETE = 0, /* a request may come of it */
    RECORDS_WHOLE,          /* the bytes so far are one request */
    RECORDS_WRONG,          /* none can come of it, whatever follows */
};

/* What is known of a request so far. */
struct records {
    unsigned request_id;
    bool keep_connection;
    size_t params_bytes;
    uint64_t stdin_bytes; /* of its body */

    /* How far the scan is; of use in records.c only. */
    unsigned char stage;
    unsigned char padding_left; /* of the current record */
    size_t content_left;
    unsigned char header_len;
    unsigned char header[RECORDS_HEADER_BYTES];
    unsigned char collected_len;
    unsigned char collected[8]; /* the content of FCGI_BEGIN_REQUEST, then the lengths of a name-value pair */
    size_t pair_left;           /* of its name and value */
};

/*
 * The same request in records of its own: no padding, contents in as few records as possible, and not more of the body
 * than is wanted. The caller looks at bytes.failed (no memory) and frees it with buffer_fini.
 */
struct records_copy {
    struct buffer bytes;
    size_t stdin_max;   /* how many bytes of the body to keep; the rest is left out */
    size_t stdin_bytes; /* how many were kept */
    size_t open_at;     /* where the record begins that takes more content; 0: none does */
};

/* Begins with a new request. */
void records_init(struct records *records);
void records_copy_init(struct records_copy *copy, size_t stdin_max);

/*
 * Takes the next bytes of a request, however they were split, and adds them to the copy if there is one. After
 * RECORDS_WHOLE and RECORDS_WRONG any further byte is RECORDS_WRONG.
 */
enum records_result records_scan(struct records *records, const char *bytes, size_t len, struct records_copy *copy);

/* How long the content of a record is, of whose bytes at least the header is there. */
static inline size_t records_content_len(const char *record) {
    return (size_t)(unsigned char)record[4] << 8 | (unsigned char)record[5];
}

/* Where the record behind it begins. */
static inline char *records_next(char *record) {
    return record + RECORDS_HEADER_BYTES + records_content_len(record) + (unsigned char)record[6];
}

/* How many bytes the length of a name or a value has, by the first of them (section 3.4); and the length itself. */
static inline size_t records_length_size(unsigned char first) {
    return first & 0x80 ? 4 : 1;
}

static inline size_t records_read_length(const unsigned char *bytes) {
    if (records_length_size(bytes[0]) == 1)
        return bytes[0];
    return (size_t)(bytes[0] & 0x7f) << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
}

/*
 * Puts an answer of at most 65,535 bytes, which begins RECORDS_HEADER_BYTES into the storage and has
 * RECORDS_AFTER_ANSWER_BYTES of room behind it, into FCGI_STDOUT, and ends the request. Returns the length of all of
 * it.
 */
size_t records_frame_answer(char *storage, size_t len, unsigned request_id);

#endif
