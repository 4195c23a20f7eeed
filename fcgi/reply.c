#include "reply.h"

#include <string.h>

enum {
    BODY_SIZE = 4096,        /* 32 errors of at most 64 bytes are the longest body */
    RETRY_AFTER_SECONDS = 5, /* time for a database to come back; the sender backs off exponentially by itself */
};

int reply_status(enum outcome outcome) {
    switch (outcome) {
    case OUTCOME_UNAVAILABLE:
        return 503;
    case OUTCOME_CREATED:
        return 201;
    case OUTCOME_UNCHANGED:
    case OUTCOME_REVISED:
    case OUTCOME_QUARANTINED:
        return 200;
    case OUTCOME_MALFORMED:
        return 400;
    case OUTCOME_UNAUTHORIZED:
        return 401;
    case OUTCOME_NOT_POST:
        return 405;
    case OUTCOME_TOO_LARGE:
        return 413;
    case OUTCOME_INVALID:
        return 422;
    }
    return 503;
}

const char *reply_result(enum outcome outcome) {
    switch (outcome) {
    case OUTCOME_CREATED:
        return "created";
    case OUTCOME_UNCHANGED:
        return "unchanged";
    case OUTCOME_REVISED:
        return "revised";
    case OUTCOME_QUARANTINED:
        return "quarantined";
    case OUTCOME_UNAVAILABLE:
    case OUTCOME_MALFORMED:
    case OUTCOME_UNAUTHORIZED:
    case OUTCOME_NOT_POST:
    case OUTCOME_TOO_LARGE:
    case OUTCOME_INVALID:
        return NULL;
    }
    return NULL;
}

static const char *reason_phrase(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 422:
        return "Unprocessable Content";
    default:
        return "Service Unavailable";
    }
}

const char *reply_message(const struct delivery *delivery, enum outcome outcome) {
    switch (outcome) {
    case OUTCOME_UNAVAILABLE:
        return "The receipt could not be stored; please send it again later.";
    case OUTCOME_CREATED:
        return "The receipt was created.";
    case OUTCOME_UNCHANGED:
        return "The receipt was already received.";
    case OUTCOME_REVISED:
        return "The receipt was already received and has been revised.";
    case OUTCOME_MALFORMED:
        return delivery->message;
    case OUTCOME_UNAUTHORIZED:
        return "";
    case OUTCOME_NOT_POST:
        return "Only POST is allowed.";
    case OUTCOME_TOO_LARGE:
        return "The body is larger than 1 MiB.";
    case OUTCOME_INVALID:
        return "Validation Failed";
    case OUTCOME_QUARANTINED:
        return "The delivery is no valid receipt; it was kept for inspection.";
    }
    return "";
}

static const char *extra_headers(enum outcome outcome) {
    switch (outcome) {
    case OUTCOME_UNAUTHORIZED:
        return "WWW-Authenticate: Bearer realm=\"inventory_receipt\", Basic realm=\"inventory_receipt\"\r\n";
    case OUTCOME_NOT_POST:
        return "Allow: POST\r\n";
    case OUTCOME_CREATED:
    case OUTCOME_UNCHANGED:
    case OUTCOME_REVISED:
    case OUTCOME_MALFORMED:
    case OUTCOME_TOO_LARGE:
    case OUTCOME_INVALID:
    case OUTCOME_QUARANTINED:
    case OUTCOME_UNAVAILABLE:
        return "";
    }
    return "";
}

void reply_write_errors(struct buffer *out, const struct receipt_errors *errors) {
    buffer_append_text(out, "[");
    for (size_t i = 0; i < errors->count; i++)
        buffer_append_format(out, "%s{\"field\":\"%s\",\"code\":\"%s\"}", i == 0 ? "" : ",",
                             receipt_fields[errors->list[i].field].path, receipt_error_name(errors->list[i].code));
    buffer_append_text(out, "]");
}

static void write_body(struct buffer *body, const struct delivery *delivery) {
    const char *text = reply_message(delivery, delivery->outcome);
    buffer_append_text(body, "{\"message\":");
    buffer_append_json_string(body, text, strlen(text));
    if (delivery->outcome == OUTCOME_INVALID) {
        buffer_append_text(body, ",\"errors\":");
        reply_write_errors(body, &delivery->errors);
    }
    const char *result = reply_result(delivery->outcome);
    if (result)
        buffer_append_format(body, ",\"result\":\"%s\"", result);
    /* contract.md: the bodies of 405 and 413 have a message only; the id stands in the header of all. */
    if (delivery->outcome != OUTCOME_NOT_POST && delivery->outcome != OUTCOME_TOO_LARGE)
        buffer_append_format(body, ",\"request_id\":\"%s\"", delivery->request_id_text);
    buffer_append_text(body, "}");
}

void reply_write(struct buffer *out, const struct delivery *delivery) {
    char storage[BODY_SIZE];
    struct buffer body;
    buffer_init_fixed(&body, storage, sizeof storage);
    /* contract.md: a 401 has no body. */
    if (delivery->outcome != OUTCOME_UNAUTHORIZED)
        write_body(&body, delivery);
    if (body.failed)
        out->failed = true;

    int status = reply_status(delivery->outcome);
    buffer_append_format(out, "Status: %d %s\r\n", status, reason_phrase(status));
    if (body.len > 0)
        buffer_append_text(out, "Content-Type: application/json\r\n");
    buffer_append_text(out, extra_headers(delivery->outcome));
    if (status == 503)
        buffer_append_format(out, "Retry-After: %d\r\n", RETRY_AFTER_SECONDS);
    buffer_append_format(out, "X-Request-Id: %s\r\nContent-Length: %zu\r\n\r\n", delivery->request_id_text, body.len);
    buffer_append(out, body.data, body.len);
}
