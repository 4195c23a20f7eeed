#include "reader.h"

#include <fcgiapp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_KEPT_BYTES = 65536 }; /* of the body's buffer; what a large body needed beyond it is freed after it */

struct reader {
    FCGX_Stream stream;                    /* of the parameters, then of the body */
    char *record;                          /* where the next one begins */
    struct buffer body;                    /* if it is not in one record */
    char params[RECORDS_PARAMS_MAX_BYTES]; /* the values, each with a NUL: they take less than the pairs did */
};

struct reader *reader_new(void) {
    struct reader *reader = malloc(sizeof *reader);
    if (reader)
        buffer_init(&reader->body);
    return reader;
}

void reader_free(struct reader *reader) {
    if (reader)
        buffer_fini(&reader->body);
    free(reader);
}

/* libfcgi calls it for more of a stream, which is the content of the next record, or the end at an empty one. */
static void take_record(FCGX_Stream *stream) {
    struct reader *reader = stream->data;
    size_t len = records_content_len(reader->record);
    stream->rdNext = (unsigned char *)reader->record + RECORDS_HEADER_BYTES;
    stream->wrNext = stream->stop = stream->rdNext + len;
    stream->isClosed = len == 0;
    reader->record = records_next(reader->record);
}

/* The stream that begins with the next record. */
static FCGX_Stream *open_stream(struct reader *reader) {
    reader->stream = (FCGX_Stream){.isReader = 1, .fillBuffProc = take_record, .data = reader};
    return &reader->stream;
}

/* Reads the length of a name or a value. False at the end of the stream. */
static bool read_length(FCGX_Stream *in, size_t *len) {
    unsigned char bytes[4];
    int first = FCGX_GetChar(in);
    if (first == EOF)
        return false;
    bytes[0] = (unsigned char)first;
    int more = (int)records_length_size(bytes[0]) - 1;
    if (FCGX_GetStr((char *)bytes + 1, more, in) != more)
        return false;
    *len = records_read_length(bytes);
    return true;
}

static void add_credential(struct request *request, const char *value, bool authorization) {
    if (*value == '\0')
        return;
    if (request->credential_count < REQUEST_MAX_CREDENTIALS)
        request->credentials[request->credential_count] =
            (struct request_credential){.value = value, .authorization = authorization};
    request->credential_count++;
}

static inline bool is_named(const char *name, size_t len, const char *known) {
    return strlen(known) == len && memcmp(name, known, len) == 0;
}

static bool take_sender_header(struct request *request, const char *name, size_t len, const char *value) {
    for (int i = 0; i < SENDER_HEADER_COUNT && *value; i++)
        if (is_named(name, len, sender_headers[i].parameter)) {
            request->headers[i] = value;
            return true;
        }
    return false;
}

/*
 * Takes a parameter over. A header that the client sent twice is there twice, and of credentials every one counts.
 * False when nobody needs its value.
 */
static bool take_parameter(struct request *request, const char *name, size_t len, const char *value,
                           const char **content_length) {
    if (is_named(name, len, "REQUEST_METHOD"))
        request->method = value;
    else if (is_named(name, len, "CONTENT_TYPE"))
        request->content_type = value;
    else if (is_named(name, len, "CONTENT_LENGTH"))
        *content_length = value;
    else if (is_named(name, len, "REQUEST_ID"))
        request->request_id = value;
    else if (is_named(name, len, "REMOTE_USER"))
        request->remote_user = value;
    else if (is_named(name, len, "RECEIPTD_PAGE"))
        request->page = value;
    else if (is_named(name, len, "HTTP_CONTENT_ENCODING"))
        request->content_encoding = value;
    else if (is_named(name, len, "HTTP_X_RECEIPTD_DOCTOR"))
        request->examination = value;
    else if (is_named(name, len, "HTTP_X_API_KEY") || is_named(name, len, "HTTP_API_KEY") ||
             is_named(name, len, "HTTP_APIKEY"))
        add_credential(request, value, false);
    else if (is_named(name, len, "HTTP_AUTHORIZATION"))
        add_credential(request, value, true);
    else
        return take_sender_header(request, name, len, value);
    return true;
}

/* Reads name-value pairs. Room was checked by records_scan: a pair has at least two bytes of lengths for the NUL. */
static void read_parameters(struct reader *reader, struct request *request, const char **content_length) {
    FCGX_Stream *in = open_stream(reader);
    char *at = reader->params, *end = reader->params + sizeof reader->params;
    size_t name_len, value_len;
    while (read_length(in, &name_len) && read_length(in, &value_len) && name_len + value_len < (size_t)(end - at)) {
        char *value = at + name_len;
        FCGX_GetStr(at, (int)(name_len + value_len), in);
        value[value_len] = '\0';
        if (take_parameter(request, at, name_len, value, content_length))
            at = value + value_len + 1;
    }
}

/* Where the body is in one record, as nearly all are, it stays there. */
static bool read_body(struct reader *reader, const struct reader_input *input, struct request *request) {
    FCGX_Stream *in = open_stream(reader);
    struct buffer *body = &reader->body;
    size_t len = input->stdin_bytes;
    take_record(in);
    request->body = (const char *)in->rdNext;
    request->body_len = len;
    if ((size_t)(in->stop - in->rdNext) == len && !input->temporary)
        return true;
    body->len = 0;
    if (!buffer_reserve(body, len))
        return false;
    body->len = (size_t)FCGX_GetStr(body->data, (int)len, in);
    request->body = body->data;
    request->body_len = body->len;
    return true;
}

enum reader_result reader_read(struct reader *reader, const struct reader_input *input, struct request *request) {
    const char *content_length = NULL;
    *request = (struct request){.method = ""};
    reader->record = records_next(input->bytes);
    read_parameters(reader, request, &content_length);
    if (content_length && *content_length && strtoull(content_length, NULL, 10) != input->records->stdin_bytes)
        return READER_WRONG;
    return read_body(reader, input, request) ? READER_OK : READER_NO_MEMORY;
}

void reader_release(struct reader *reader) {
    if (reader->body.failed || reader->body.capacity > BODY_KEPT_BYTES)
        buffer_fini(&reader->body);
}
