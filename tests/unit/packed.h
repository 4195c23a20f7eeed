/* Compressed bodies, for tests. */
#ifndef RECEIPTD_PACKED_H
#define RECEIPTD_PACKED_H

#include "unit.h"

#include <zlib.h>

enum { GZIP = MAX_WBITS + 16, ZLIB = MAX_WBITS, RAW_DEFLATE = -MAX_WBITS };

/* Compresses so many bytes; the caller frees the result. */
static inline char *pack(const char *bytes, size_t len, int window_bits, size_t *packed_len) {
    z_stream stream = {.next_in = (z_const Bytef *)bytes, .avail_in = (uInt)len};
    assert_int_equal(deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, window_bits, 9, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&stream, len) + 64;
    char *packed = malloc(room);
    assert_non_null(packed);
    stream.next_out = (Bytef *)packed;
    stream.avail_out = (uInt)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    *packed_len = room - stream.avail_out;
    deflateEnd(&stream);
    return packed;
}

#endif
