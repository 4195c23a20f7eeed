/*
 * libFuzzer over FastCGI's records: any bytes from a web server. What has to hold, whatever they are:
 * - in whatever pieces they come, the same is found in them, and the same copy is made;
 * - they are one whole request just when a reader of this file's own says so, and no beginning of them is;
 * - the copy is the same request again, in as few records as there can be, with as much of the body as was wanted;
 * - both of them are read, and the parameters and the body are those that the other reader has found.
 *
 * The input: a byte that says how much of the body is wanted, four that choose the pieces, then the bytes.
 */
#include "fuzz.h"

#include "buffer.h"
#include "reader.h"
#include "records.h"

enum { CHOICE_BYTES = 5, HEADER_BYTES = 8, NONE = -1 };

struct stream {
    struct buffer content;
    bool ended;
};

struct expected {
    unsigned id;
    bool keep_connection;
    struct stream params, body;
};

struct record {
    unsigned version, type, id;
    const uint8_t *content;
    size_t len, padding;
};

/* Takes a record off the bytes; false when it is not there in whole. */
static bool take_record(const uint8_t **at, const uint8_t *end, struct record *record) {
    const uint8_t *header = *at;
    if (end - header < HEADER_BYTES)
        return false;
    *record = (struct record){.version = header[0],
                              .type = header[1],
                              .id = header[2] * 256u + header[3],
                              .content = header + HEADER_BYTES,
                              .len = header[4] * 256u + header[5],
                              .padding = header[6]};
    if ((size_t)(end - record->content) < record->len + record->padding)
        return false;
    *at = record->content + record->len + record->padding;
    return true;
}

static bool read_stream(const uint8_t **at, const uint8_t *end, unsigned type, struct expected *expected,
                        struct stream *stream) {
    struct record record;
    while (!stream->ended) {
        if (!take_record(at, end, &record) || record.version != 1 || record.type != type || record.id != expected->id)
            return false;
        buffer_append(&stream->content, (const char *)record.content, record.len);
        stream->ended = record.len == 0;
    }
    return true;
}

/* The length that stands there, of one byte or four; NONE: it does not. */
static long take_length(const struct buffer *params, size_t *at) {
    size_t left = params->len - *at;
    const unsigned char *bytes = (const unsigned char *)params->data + *at;
    if (left == 0 || (bytes[0] >= 128 && left < 4))
        return NONE;
    if (bytes[0] < 128) {
        *at += 1;
        return bytes[0];
    }
    *at += 4;
    return (bytes[0] - 128L) * 256 * 256 * 256 + bytes[1] * 256L * 256 + bytes[2] * 256L + bytes[3];
}

struct pair {
    const char *name;
    size_t name_len;
    char *value; /* a C string, which a NUL cuts off; the caller frees it */
};

/* Takes a pair of the parameters; false when there is none. */
static bool take_pair(const struct buffer *params, size_t *at, struct pair *pair) {
    long name = take_length(params, at), value = name == NONE ? NONE : take_length(params, at);
    if (value == NONE || (size_t)name + (size_t)value > params->len - *at)
        return false;
    *pair = (struct pair){.name = params->data + *at, .name_len = (size_t)name, .value = calloc(1, (size_t)value + 1)};
    REQUIRE(pair->value);
    memcpy(pair->value, params->data + *at + name, (size_t)value);
    *at += (size_t)name + (size_t)value;
    return true;
}

static bool are_pairs(const struct buffer *params) {
    for (size_t at = 0; at < params->len;) {
        struct pair pair;
        if (!take_pair(params, &at, &pair))
            return false;
        free(pair.value);
    }
    return params->len <= RECORDS_PARAMS_MAX_BYTES;
}

static bool read_expected(const uint8_t *bytes, size_t len, struct expected *expected) {
    const uint8_t *end = bytes + len;
    struct record begin;
    if (!take_record(&bytes, end, &begin) || begin.version != 1 || begin.type != 1 || begin.id == 0 || begin.len != 8 ||
        begin.content[0] != 0 || begin.content[1] != 1)
        return false;
    expected->id = begin.id;
    expected->keep_connection = begin.content[2] % 2 == 1;
    return read_stream(&bytes, end, 4, expected, &expected->params) && are_pairs(&expected->params.content) &&
           read_stream(&bytes, end, 5, expected, &expected->body) && bytes == end;
}

static void expected_fini(struct expected *expected) {
    buffer_fini(&expected->params.content);
    buffer_fini(&expected->body.content);
}

static enum records_result scan_in_pieces(const uint8_t *bytes, size_t len, uint32_t choice, struct records *records,
                                          struct records_copy *copy) {
    enum records_result result = RECORDS_INCOMPLETE;
    records_init(records);
    for (size_t at = 0; at < len;) {
        choice = choice * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        size_t piece = (choice >> 28) ? (choice >> 24) % 16 + 1 : (choice >> 8) % 4096 + 1;
        piece = piece < len - at ? piece : len - at;
        enum records_result before = result;
        result = records_scan(records, (const char *)bytes + at, piece, copy);
        at += piece;
        /* What is decided stays so: more bytes only spoil it. */
        REQUIRE(before == RECORDS_INCOMPLETE || result == RECORDS_WRONG);
    }
    return result;
}

static void require_same(const struct records *a, const struct records *b) {
    REQUIRE(a->request_id == b->request_id && a->keep_connection == b->keep_connection);
    REQUIRE(a->params_bytes == b->params_bytes && a->stdin_bytes == b->stdin_bytes);
}

static bool same_bytes(const struct buffer *a, const struct buffer *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static struct reader *reader;

static const char *value_of(const struct pair *pair, const char *name) {
    return pair->name_len == strlen(name) && memcmp(pair->name, name, pair->name_len) == 0 ? pair->value : NULL;
}

static void require_text(const char *text, const char *expected) {
    REQUIRE(expected ? text && strcmp(text, expected) == 0 : !text);
}

static void require_read(const struct reader_input *input, const struct expected *expected) {
    struct request request;
    struct pair pairs[RECORDS_PARAMS_MAX_BYTES / 2];
    const char *method = "", *id = NULL, *length = NULL;
    size_t count = 0, credentials = 0;
    for (size_t at = 0; at < expected->params.content.len; count++) {
        const struct pair *pair = &pairs[count];
        const char *value;
        REQUIRE(take_pair(&expected->params.content, &at, &pairs[count]));
        if ((value = value_of(pair, "REQUEST_METHOD")))
            method = value;
        else if ((value = value_of(pair, "REQUEST_ID")))
            id = value;
        else if ((value = value_of(pair, "CONTENT_LENGTH")))
            length = value;
        else if ((value = value_of(pair, "HTTP_X_API_KEY")) || (value = value_of(pair, "HTTP_API_KEY")) ||
                 (value = value_of(pair, "HTTP_AUTHORIZATION")))
            credentials += *value != '\0';
    }
    bool wrong_length = length && *length && strtoull(length, NULL, 10) != expected->body.content.len;
    enum reader_result result = reader_read(reader, input, &request);
    REQUIRE(result == (wrong_length ? READER_WRONG : READER_OK));
    if (result == READER_OK) {
        require_text(request.method, method);
        require_text(request.request_id, id);
        REQUIRE(request.credential_count == credentials);
        REQUIRE(request.body_len == input->stdin_bytes);
        REQUIRE(request.body_len == 0 || memcmp(request.body, expected->body.content.data, request.body_len) == 0);
    }
    reader_release(reader);
    while (count > 0)
        free(pairs[--count].value);
}

static void check_whole(const uint8_t *bytes, const struct records *records, const struct records_copy *copy,
                        const struct expected *expected) {
    REQUIRE(records->request_id == expected->id && records->keep_connection == expected->keep_connection);
    REQUIRE(records->params_bytes == expected->params.content.len);
    REQUIRE(records->stdin_bytes == expected->body.content.len);

    size_t kept = expected->body.content.len < copy->stdin_max ? expected->body.content.len : copy->stdin_max;
    struct expected again = {0};
    REQUIRE(copy->stdin_bytes == kept);
    REQUIRE(read_expected((const uint8_t *)copy->bytes.data, copy->bytes.len, &again));
    REQUIRE(again.id == expected->id && again.keep_connection == expected->keep_connection);
    REQUIRE(same_bytes(&again.params.content, &expected->params.content) && again.body.content.len == kept);
    REQUIRE(kept == 0 || memcmp(again.body.content.data, expected->body.content.data, kept) == 0);
    size_t most = 2 + (expected->params.content.len + RECORDS_CONTENT_MAX - 1) / RECORDS_CONTENT_MAX +
                  (kept + RECORDS_CONTENT_MAX - 1) / RECORDS_CONTENT_MAX;
    REQUIRE(copy->bytes.len == HEADER_BYTES + 8 + most * HEADER_BYTES + expected->params.content.len + kept);
    expected_fini(&again);

    struct reader_input input = {.records = records, .bytes = (char *)bytes, .stdin_bytes = expected->body.content.len};
    require_read(&input, expected);
    input =
        (struct reader_input){.records = records, .bytes = copy->bytes.data, .stdin_bytes = kept, .temporary = true};
    require_read(&input, expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < CHOICE_BYTES)
        return 0;
    if (!reader) {
        reader = reader_new();
        REQUIRE(reader);
    }
    size_t wanted = data[0] % 4 == 0 ? data[0] : SIZE_MAX, len = size - CHOICE_BYTES;
    uint32_t choice;
    memcpy(&choice, data + 1, sizeof choice);
    data += CHOICE_BYTES;

    struct records records, in_pieces;
    struct records_copy copy, copy_of_pieces;
    records_init(&records);
    records_copy_init(&copy, wanted);
    records_copy_init(&copy_of_pieces, wanted);
    enum records_result result = records_scan(&records, (const char *)data, len, &copy);
    REQUIRE(scan_in_pieces(data, len, choice, &in_pieces, &copy_of_pieces) == result);
    if (result != RECORDS_WRONG) {
        require_same(&records, &in_pieces);
        REQUIRE(same_bytes(&copy.bytes, &copy_of_pieces.bytes));
    }
    REQUIRE(scan_in_pieces(data, len, choice + 1, &in_pieces, NULL) == result);

    struct expected expected = {0};
    REQUIRE(read_expected(data, len, &expected) == (result == RECORDS_WHOLE));
    if (result == RECORDS_WHOLE)
        check_whole(data, &records, &copy, &expected);
    expected_fini(&expected);
    buffer_fini(&copy.bytes);
    buffer_fini(&copy_of_pieces.bytes);
    return 0;
}
