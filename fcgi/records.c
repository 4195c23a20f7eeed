#include "records.h"

#include <string.h>

/* FastCGI specification 1.0, section 8. */
enum {
    FCGI_VERSION_1 = 1,
    FCGI_BEGIN_REQUEST = 1,
    FCGI_END_REQUEST = 3,
    FCGI_PARAMS = 4,
    FCGI_STDIN = 5,
    FCGI_STDOUT = 6,
    FCGI_RESPONDER = 1,
    FCGI_KEEP_CONN = 1,
    FCGI_BEGIN_REQUEST_BYTES = 8,
    FCGI_END_REQUEST_BYTES = 8,
};

/* What is expected next; struct records' stage. */
enum stage {
    STAGE_BEGIN = 0, /* FCGI_BEGIN_REQUEST */
    STAGE_PARAMS,    /* FCGI_PARAMS, up to the empty one */
    STAGE_STDIN,     /* FCGI_STDIN, up to the empty one */
    STAGE_ENDED,     /* at most the padding of the last record */
    STAGE_REFUSED,
};

void records_init(struct records *records) {
    *records = (struct records){.stage = STAGE_BEGIN};
}

void records_copy_init(struct records_copy *copy, size_t stdin_max) {
    *copy = (struct records_copy){.stdin_max = stdin_max};
    buffer_init(&copy->bytes);
}

/* Section 3.3. */
static void put_header(unsigned char *header, unsigned type, unsigned request_id, size_t content_len) {
    header[0] = FCGI_VERSION_1;
    header[1] = (unsigned char)type;
    header[2] = (unsigned char)(request_id >> 8);
    header[3] = (unsigned char)request_id;
    header[4] = (unsigned char)(content_len >> 8);
    header[5] = (unsigned char)content_len;
    header[6] = 0; /* padding */
    header[7] = 0; /* reserved */
}

static void copy_header(struct records_copy *copy, unsigned type, unsigned request_id, size_t content_len) {
    unsigned char header[RECORDS_HEADER_BYTES];
    put_header(header, type, request_id, content_len);
    buffer_append(&copy->bytes, (const char *)header, sizeof header);
}

static void copy_begin(struct records_copy *copy, const struct records *records) {
    copy_header(copy, FCGI_BEGIN_REQUEST, records->request_id, FCGI_BEGIN_REQUEST_BYTES);
    buffer_append(&copy->bytes, (const char *)records->collected, FCGI_BEGIN_REQUEST_BYTES);
}

/* The empty record that ends a stream. */
static void copy_end_of_stream(struct records_copy *copy, unsigned type, unsigned request_id) {
    copy_header(copy, type, request_id, 0);
    copy->open_at = 0;
}

static void copy_content(struct records_copy *copy, unsigned type, unsigned request_id, const char *bytes, size_t len) {
    if (type == FCGI_STDIN) {
        size_t room = copy->stdin_max - copy->stdin_bytes;
        len = len < room ? len : room;
        copy->stdin_bytes += len;
    }
    while (len > 0 && !copy->bytes.failed) {
        size_t content_len = copy->open_at > 0 ? copy->bytes.len - copy->open_at - RECORDS_HEADER_BYTES : 0;
        if (copy->open_at == 0 || content_len == RECORDS_CONTENT_MAX) {
            copy->open_at = copy->bytes.len;
            content_len = 0;
            copy_header(copy, type, request_id, 0);
        }
        size_t part = RECORDS_CONTENT_MAX - content_len;
        part = len < part ? len : part;
        buffer_append(&copy->bytes, bytes, part);
        if (!copy->bytes.failed)
            put_header((unsigned char *)copy->bytes.data + copy->open_at, type, request_id, content_len + part);
        bytes += part;
        len -= part;
    }
}

static enum stage take_begin(struct records *records, const char *bytes, size_t len, struct records_copy *copy) {
    memcpy(records->collected + records->collected_len, bytes, len);
    records->collected_len += (unsigned char)len;
    if (records->collected_len < FCGI_BEGIN_REQUEST_BYTES)
        return STAGE_BEGIN;
    const unsigned char *body = records->collected; /* section 5.1: role (2), flags, reserved (5) */
    if ((body[0] << 8 | body[1]) != FCGI_RESPONDER)
        return STAGE_REFUSED;
    records->keep_connection = (body[2] & FCGI_KEEP_CONN) != 0;
    records->collected_len = 0;
    if (copy)
        copy_begin(copy, records);
    return STAGE_PARAMS;
}

/* Takes one byte of the two lengths with which a name-value pair begins. */
static enum stage take_pair_length(struct records *records, char byte) {
    const unsigned char *lengths = records->collected;
    records->collected[records->collected_len++] = (unsigned char)byte;
    size_t name_size = records_length_size(lengths[0]);
    if (records->collected_len <= name_size ||
        records->collected_len < name_size + records_length_size(lengths[name_size]))
        return STAGE_PARAMS;
    records->pair_left = records_read_length(lengths) + records_read_length(lengths + name_size);
    records->collected_len = 0;
    return records->pair_left > RECORDS_PARAMS_MAX_BYTES ? STAGE_REFUSED : STAGE_PARAMS;
}

static enum stage take_params(struct records *records, const char *bytes, size_t len) {
    enum stage stage = STAGE_PARAMS;
    records->params_bytes += len;
    if (records->params_bytes > RECORDS_PARAMS_MAX_BYTES)
        return STAGE_REFUSED;
    while (len > 0 && stage == STAGE_PARAMS) {
        size_t part = len < records->pair_left ? len : records->pair_left;
        if (part == 0) {
            part = 1;
            stage = take_pair_length(records, *bytes);
        } else {
            records->pair_left -= part;
        }
        bytes += part;
        len -= part;
    }
    return stage;
}

static enum stage take_content(struct records *records, const char *bytes, size_t len, struct records_copy *copy) {
    if (records->stage == STAGE_BEGIN)
        return take_begin(records, bytes, len, copy);
    enum stage stage = STAGE_STDIN;
    if (records->stage == STAGE_PARAMS)
        stage = take_params(records, bytes, len);
    else
        records->stdin_bytes += len;
    if (copy && stage != STAGE_REFUSED)
        copy_content(copy, records->header[1], records->request_id, bytes, len);
    return stage;
}

/* Which record each stage waits for. */
static unsigned expected_type(enum stage stage) {
    return stage == STAGE_BEGIN ? FCGI_BEGIN_REQUEST : stage == STAGE_PARAMS ? FCGI_PARAMS : FCGI_STDIN;
}

/* Takes a header, which is there in whole. */
static enum stage take_header(struct records *records, struct records_copy *copy) {
    const unsigned char *header = records->header;
    unsigned type = header[1], request_id = (unsigned)header[2] << 8 | header[3];
    enum stage stage = (enum stage)records->stage;
    records->content_left = records_content_len((const char *)header);
    records->padding_left = header[6];
    if (header[0] != FCGI_VERSION_1 || type != expected_type(stage))
        return STAGE_REFUSED;
    if (stage == STAGE_BEGIN) {
        records->request_id = request_id;
        /* 0 is the id of management records. */
        return request_id == 0 || records->content_left != FCGI_BEGIN_REQUEST_BYTES ? STAGE_REFUSED : stage;
    }
    if (request_id != records->request_id)
        return STAGE_REFUSED;
    if (records->content_left > 0)
        return stage;
    if (records->pair_left > 0 || records->collected_len > 0)
        return STAGE_REFUSED; /* the parameters end within a pair */
    if (copy)
        copy_end_of_stream(copy, type, request_id);
    return stage == STAGE_PARAMS ? STAGE_STDIN : STAGE_ENDED;
}

/* Takes the next bytes, as many as belong together; returns how many. */
static size_t take_some(struct records *records, const char *bytes, size_t len, struct records_copy *copy) {
    size_t part;
    if (records->content_left > 0) {
        part = len < records->content_left ? len : records->content_left;
        records->content_left -= part;
        records->stage = (unsigned char)take_content(records, bytes, part, copy);
    } else if (records->padding_left > 0) {
        part = len < records->padding_left ? len : records->padding_left;
        records->padding_left = (unsigned char)(records->padding_left - part);
    } else if (records->stage == STAGE_ENDED) {
        part = len;
        records->stage = STAGE_REFUSED;
    } else {
        size_t header_len = records->header_len, missing = RECORDS_HEADER_BYTES - header_len;
        part = len < missing ? len : missing;
        memcpy(records->header + header_len, bytes, part);
        records->header_len = (unsigned char)((header_len + part) % RECORDS_HEADER_BYTES);
        if (records->header_len == 0)
            records->stage = (unsigned char)take_header(records, copy);
    }
    return part;
}

enum records_result records_scan(struct records *records, const char *bytes, size_t len, struct records_copy *copy) {
    while (len > 0 && records->stage != STAGE_REFUSED) {
        size_t part = take_some(records, bytes, len, copy);
        bytes += part;
        len -= part;
    }
    if (records->stage == STAGE_REFUSED)
        return RECORDS_WRONG;
    return records->stage == STAGE_ENDED && records->padding_left == 0 ? RECORDS_WHOLE : RECORDS_INCOMPLETE;
}

size_t records_frame_answer(char *storage, size_t len, unsigned request_id) {
    unsigned char *at = (unsigned char *)storage;
    put_header(at, FCGI_STDOUT, request_id, len);
    at += RECORDS_HEADER_BYTES + len;
    put_header(at, FCGI_STDOUT, request_id, 0); /* section 5.3: ends the stream */
    at += RECORDS_HEADER_BYTES;
    put_header(at, FCGI_END_REQUEST, request_id, FCGI_END_REQUEST_BYTES);
    at += RECORDS_HEADER_BYTES;
    memset(at, 0, FCGI_END_REQUEST_BYTES); /* section 5.5: "complete", and an exit status of 0 */
    return RECORDS_HEADER_BYTES + len + RECORDS_AFTER_ANSWER_BYTES;
}
