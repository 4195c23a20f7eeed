#include "compression.h"

#include <zlib.h>

enum {
    STEP_BYTES = 16 * 1024,
    WINDOW_BITS_ANY = MAX_WBITS + 32, /* zlib.h, inflateInit2: the header says whether it is gzip or zlib */
};

static bool is_gzip(const unsigned char *bytes, size_t len) {
    return len >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

/* RFC 1950: deflate (8) with a window of at most 32 KiB (7), and a checksum of the header. No JSON object begins like
 * that. */
static bool is_zlib(const unsigned char *bytes, size_t len) {
    return len >= 2 && (bytes[0] & 0x0f) == 8 && bytes[0] >> 4 <= 7 && (bytes[0] * 256 + bytes[1]) % 31 == 0;
}

bool compression_is_known(const char *body, size_t len) {
    const unsigned char *bytes = (const unsigned char *)body;
    return is_gzip(bytes, len) || is_zlib(bytes, len);
}

static enum compression_result unpack(z_stream *stream, size_t max_bytes, struct buffer *unpacked) {
    for (;;) {
        if (!buffer_reserve(unpacked, STEP_BYTES))
            return COMPRESSION_NO_MEMORY;
        stream->next_out = (Bytef *)unpacked->data + unpacked->len;
        stream->avail_out = STEP_BYTES;
        int result = inflate(stream, Z_NO_FLUSH);
        unpacked->len += STEP_BYTES - stream->avail_out;
        if (unpacked->len > max_bytes)
            return COMPRESSION_TOO_LARGE;
        if (result == Z_STREAM_END) {
            if (!is_gzip(stream->next_in, stream->avail_in))
                return COMPRESSION_UNPACKED;
            result = inflateReset(stream);
        }
        if (result == Z_MEM_ERROR)
            return COMPRESSION_NO_MEMORY;
        /* Z_BUF_ERROR: there is no more of it. */
        if (result != Z_OK)
            return COMPRESSION_DAMAGED;
    }
}

enum compression_result compression_unpack(const char *body, size_t len, size_t max_bytes, struct buffer *unpacked) {
    if (!compression_is_known(body, len))
        return COMPRESSION_NONE;
    z_stream stream = {.next_in = (z_const Bytef *)body, .avail_in = (uInt)len};
    if (inflateInit2(&stream, WINDOW_BITS_ANY) != Z_OK)
        return COMPRESSION_NO_MEMORY;
    enum compression_result result = unpack(&stream, max_bytes, unpacked);
    inflateEnd(&stream);
    return result;
}
