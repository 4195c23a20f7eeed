#include "reader.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PIPE_BYTES = 128 * 1024, /* for all parameters of a request, or a record of its body */
    BODY_KEPT_BYTES = 65536, /* of the body's buffer; what a large body needed beyond it is freed after it */
};

struct reader {
    FCGX_Request fcgi; /* what it takes for its connection is the end of the pipe that is read from; -1: no pipe */
    int input;         /* the other end of it */
    bool emptied;      /* the last request was read to its end, so that the pipe can be used again */
    struct buffer body;
};

bool reader_start_library(void) {
    if (FCGX_Init() != 0)
        return false;
    /* It has put handlers of its own on these (libfcgi: OS_InstallSignalHandlers). */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    return true;
}

/* An empty pipe, which is read and written without waiting. */
static bool open_pipe(struct reader *reader) {
    int ends[2];
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
        return false;
    /* If the system does not grant it, requests with more than some 60 KB of parameters are refused. */
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
    reader->fcgi.ipcFd = ends[0];
    reader->input = ends[1];
    reader->emptied = true;
    return true;
}

static void close_pipe(struct reader *reader) {
    FCGX_Free(&reader->fcgi, 1); /* closes it unless it did so before */
    if (reader->input >= 0)
        close(reader->input);
    reader->input = -1;
}

struct reader *reader_new(void) {
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    FCGX_InitRequest(&reader->fcgi, -1, 0);
    buffer_init(&reader->body);
    reader->input = -1;
    if (!open_pipe(reader)) {
        int error = errno;
        reader_free(reader);
        errno = error;
        return NULL;
    }
    return reader;
}

void reader_free(struct reader *reader) {
    if (!reader)
        return;
    close_pipe(reader);
    buffer_fini(&reader->body);
    free(reader);
}

static bool put(struct reader *reader, const char *bytes, size_t len) {
    return write(reader->input, bytes, len) == (ssize_t)len;
}

static void add_credential(struct request *request, const char *value, bool authorization) {
    if (*value == '\0')
        return;
    if (request->credential_count < REQUEST_MAX_CREDENTIALS)
        request->credentials[request->credential_count] =
            (struct request_credential){.value = value, .authorization = authorization};
    request->credential_count++;
}

/* The value of the parameter when `pair` is "NAME=value", else NULL. */
static const char *parameter(const char *pair, const char *name) {
    size_t len = strlen(name);
    return strncmp(pair, name, len) == 0 && pair[len] == '=' ? pair + len + 1 : NULL;
}

static void read_sender_header(const char *pair, struct request *request) {
    const char *value;
    for (int i = 0; i < SENDER_HEADER_COUNT; i++)
        if ((value = parameter(pair, sender_headers[i].parameter)) && *value)
            request->headers[i] = value;
}

/*
 * The parameters are walked, not looked up: a header that the client sent twice stands here twice, and of credentials
 * every one counts.
 */
static void read_parameters(char *const *pairs, struct request *request, const char **content_length) {
    *request = (struct request){.method = ""};
    *content_length = NULL;
    for (; *pairs; pairs++) {
        const char *value;
        if ((value = parameter(*pairs, "REQUEST_METHOD")))
            request->method = value;
        else if ((value = parameter(*pairs, "CONTENT_TYPE")))
            request->content_type = value;
        else if ((value = parameter(*pairs, "CONTENT_LENGTH")))
            *content_length = value;
        else if ((value = parameter(*pairs, "REQUEST_ID")))
            request->request_id = value;
        else if ((value = parameter(*pairs, "REMOTE_USER")))
            request->remote_user = value;
        else if ((value = parameter(*pairs, "RECEIPTD_PAGE")))
            request->page = value;
        else if ((value = parameter(*pairs, "HTTP_CONTENT_ENCODING")))
            request->content_encoding = value;
        else if ((value = parameter(*pairs, "HTTP_X_RECEIPTD_DOCTOR")))
            request->examination = value;
        else if ((value = parameter(*pairs, "HTTP_X_API_KEY")) || (value = parameter(*pairs, "HTTP_API_KEY")) ||
                 (value = parameter(*pairs, "HTTP_APIKEY")))
            add_credential(request, value, false);
        else if ((value = parameter(*pairs, "HTTP_AUTHORIZATION")))
            add_credential(request, value, true);
        else
            read_sender_header(*pairs, request);
    }
}

/* Reads so much of the body, which is in the pipe. */
static bool read_part(struct reader *reader, size_t len) {
    struct buffer *body = &reader->body;
    if (len == 0)
        return true;
    if (FCGX_GetStr(body->data + body->len, (int)len, reader->fcgi.in) != (int)len)
        return false;
    body->len += len;
    return true;
}

/* Reads the body, and the end of the request; what the pipe does not have of them yet is put there record by record. */
static bool read_body(struct reader *reader, const struct reader_input *input) {
    const char *record = input->bytes + input->head_len, *end = input->bytes + input->len;
    if (record == end && input->stdin_bytes > 0 && !read_part(reader, input->stdin_bytes))
        return false;
    while (record < end) {
        size_t content_len = records_content_len(record);
        if (!put(reader, record, RECORDS_HEADER_BYTES + content_len) || !read_part(reader, content_len))
            return false;
        record += RECORDS_HEADER_BYTES + content_len;
    }
    return FCGX_GetChar(reader->fcgi.in) == EOF && FCGX_GetError(reader->fcgi.in) == 0;
}

enum reader_result reader_read(struct reader *reader, const struct reader_input *input, struct request *request) {
    FCGX_Request *fcgi = &reader->fcgi;
    const char *content_length;
    if (!reader->emptied) {
        close_pipe(reader);
        if (!open_pipe(reader))
            return READER_WRONG;
    }
    reader->emptied = false;
    /* Only a request on a connection that is kept is read from there; at the end of it there is none to accept from. */
    fcgi->keepConnection = 1;
    if (!put(reader, input->bytes, input->head_len) || FCGX_Accept_r(fcgi) != 0)
        return READER_WRONG;
    read_parameters(fcgi->envp, request, &content_length);
    if (content_length && *content_length && strtoull(content_length, NULL, 10) != input->records->stdin_bytes)
        return READER_WRONG;
    reader->body.len = 0;
    if (!buffer_reserve(&reader->body, input->stdin_bytes))
        return READER_NO_MEMORY;
    if (!read_body(reader, input))
        return READER_WRONG;
    reader->emptied = true;
    request->body = reader->body.data;
    request->body_len = reader->body.len;
    return READER_OK;
}

void reader_release(struct reader *reader) {
    FCGX_Free(&reader->fcgi, 0);
    if (reader->body.failed || reader->body.capacity > BODY_KEPT_BYTES)
        buffer_fini(&reader->body);
}
