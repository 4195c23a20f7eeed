/*
 * Bodies that were sent compressed: gzip (RFC 1952) and zlib (RFC 1950, what HTTP calls deflate). They are known by
 * their first bytes, with which no JSON begins, and not by Content-Encoding: a proxy may have dropped that header, or
 * have decompressed the body and kept it.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_COMPRESSION_H
#define RECEIPTD_COMPRESSION_H

#include "buffer.h"

#include <stdbool.h>
#include <stddef.h>

enum compression_result {
    COMPRESSION_NONE = 0, /* the body is not compressed */
    COMPRESSION_UNPACKED,
    COMPRESSION_DAMAGED,   /* or cut short */
    COMPRESSION_TOO_LARGE, /* more than `max_bytes` */
    COMPRESSION_NO_MEMORY,
};

/* Whether the body begins as a compressed one does. */
bool compression_is_known(const char *body, size_t len);

/*
 * Appends what was compressed to `unpacked`, which is empty. What follows on the end of a gzip is read as another one
 * if it begins as one, and else ignored, as gzip does. Takes no more memory than twice max_bytes, and what zlib needs.
 */
enum compression_result compression_unpack(const char *body, size_t len, size_t max_bytes, struct buffer *unpacked);

#endif
