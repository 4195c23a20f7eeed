#include "log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum {
    RAW_SIZE = 256 * 1024,
    MAGIC_SIZE = 4,
    GZIP_ONLY = MAX_WBITS + 16, /* zlib.h, inflateInit2 */
};

enum format { FORMAT_UNKNOWN = 0, FORMAT_PLAIN, FORMAT_GZIP, FORMAT_ZSTD, FORMAT_REFUSED };

struct log_file {
    int fd;
    enum format format; /* of what comes next; FORMAT_UNKNOWN: see its first bytes */
    bool over;          /* there are no more bytes than those in `raw` */
    bool has_inflate;
    z_stream inflate;
    ZSTD_DStream *zstd;
    uint64_t position;
    const char *reason;
    size_t begin, end; /* what is left in `raw` */
    unsigned char raw[RAW_SIZE];
};

struct log_file *log_file_open(const char *name) {
    bool is_input = !name || strcmp(name, "-") == 0;
    struct log_file *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->fd = is_input ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(name, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0) {
        free(file);
        return NULL;
    }
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* not for a pipe, and then it does not matter */
    return file;
}

void log_file_close(struct log_file *file) {
    if (file->has_inflate)
        inflateEnd(&file->inflate);
    ZSTD_freeDStream(file->zstd);
    close(file->fd);
    free(file);
}

const char *log_file_reason(const struct log_file *file) {
    return file->reason;
}

uint64_t log_file_position(const struct log_file *file) {
    return file->position;
}

static ssize_t fail(struct log_file *file, const char *reason) {
    file->reason = reason;
    return -1;
}

/* Reads on until `count` bytes are there, or no more come. */
static bool need(struct log_file *file, size_t count) {
    if (file->end - file->begin >= count || file->over)
        return true;
    memmove(file->raw, file->raw + file->begin, file->end - file->begin);
    file->end -= file->begin;
    file->begin = 0;
    while (file->end < count && !file->over) {
        ssize_t got = read(file->fd, file->raw + file->end, RAW_SIZE - file->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(file, strerror(errno)) == 0;
        file->over = got == 0;
        file->end += (size_t)got;
        file->position += (uint64_t)got;
    }
    return true;
}

static const struct {
    const char magic[MAGIC_SIZE + 1];
    size_t len;
    enum format format;
    const char *reason;
} formats[] = {
    {"\x1f\x8b", 2, FORMAT_GZIP, NULL},
    {"\x28\xb5\x2f\xfd", 4, FORMAT_ZSTD, NULL},
    {"\xfd\x37\x7a\x58", 4, FORMAT_REFUSED, "it is compressed by xz; decompress it, or pass it on standard input"},
    {"BZh", 3, FORMAT_REFUSED, "it is compressed by bzip2; decompress it, or pass it on standard input"},
    {"\x04\x22\x4d\x18", 4, FORMAT_REFUSED, "it is compressed by lz4; decompress it, or pass it on standard input"},
};

/* What is compressed otherwise would be read as a log in which there is nothing. */
static enum format find_format(struct log_file *file) {
    const unsigned char *bytes = file->raw + file->begin;
    size_t len = file->end - file->begin;
    /* RFC 8878, section 3.1.2: a skippable frame, which parallel compressors begin with. */
    if (len >= MAGIC_SIZE && bytes[0] >> 4 == 5 && memcmp(bytes + 1, "\x2a\x4d\x18", 3) == 0)
        return FORMAT_ZSTD;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (len >= formats[i].len && memcmp(bytes, formats[i].magic, formats[i].len) == 0) {
            file->reason = formats[i].reason;
            return formats[i].format;
        }
    return FORMAT_PLAIN;
}

static ssize_t read_gzip(struct log_file *file, char *to, size_t size) {
    z_stream *stream = &file->inflate;
    if (!file->has_inflate && inflateInit2(stream, GZIP_ONLY) != Z_OK)
        return fail(file, "out of memory");
    file->has_inflate = true;
    stream->next_in = file->raw + file->begin;
    stream->avail_in = (unsigned)(file->end - file->begin);
    stream->next_out = (unsigned char *)to;
    stream->avail_out = (unsigned)size;
    int result = inflate(stream, Z_NO_FLUSH);
    file->begin = file->end - stream->avail_in;
    if (result == Z_STREAM_END) {
        file->format = FORMAT_UNKNOWN;
        inflateReset(stream);
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
        return fail(file, result == Z_MEM_ERROR ? "out of memory" : "its compressed data is damaged");
    }
    return (ssize_t)(size - stream->avail_out);
}

static ssize_t read_zstd(struct log_file *file, char *to, size_t size) {
    ZSTD_inBuffer in = {file->raw, file->end, file->begin};
    ZSTD_outBuffer out = {to, size, 0};
    if (!file->zstd)
        file->zstd = ZSTD_createDStream();
    if (!file->zstd)
        return fail(file, "out of memory");
    size_t result = ZSTD_decompressStream(file->zstd, &out, &in);
    file->begin = in.pos;
    if (ZSTD_isError(result))
        return fail(file, ZSTD_getErrorName(result));
    if (result == 0) /* the end of a frame, of which all is in `to` */
        file->format = FORMAT_UNKNOWN;
    return (ssize_t)out.pos;
}

static ssize_t read_plain(struct log_file *file, char *to, size_t size) {
    size_t len = file->end - file->begin < size ? file->end - file->begin : size;
    memcpy(to, file->raw + file->begin, len);
    file->begin += len;
    return (ssize_t)len;
}

ssize_t log_file_read(struct log_file *file, char *to, size_t size) {
    ssize_t got = 0;
    while (got == 0) {
        bool starts = file->format == FORMAT_UNKNOWN;
        if (!need(file, starts ? MAGIC_SIZE : 1))
            return -1;
        bool ended = file->begin == file->end;
        if (ended && (starts || file->format == FORMAT_PLAIN))
            return 0;
        if (starts)
            file->format = find_format(file);
        switch (file->format) {
        case FORMAT_UNKNOWN:
        case FORMAT_REFUSED:
            return -1;
        case FORMAT_PLAIN:
            return read_plain(file, to, size);
        case FORMAT_GZIP:
            got = read_gzip(file, to, size);
            break;
        case FORMAT_ZSTD:
            got = read_zstd(file, to, size);
            break;
        }
        /* With no more input, the decoder still had room for what it holds: it wants more bytes. */
        if (got == 0 && ended && file->format != FORMAT_UNKNOWN)
            return fail(file, "its end is missing: the compressed data is cut off");
    }
    return got;
}
