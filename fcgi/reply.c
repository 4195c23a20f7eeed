#include "reply.h"

#include <string.h>

enum {
    BODY_SIZE = 4096,        /* 32 errors of at most 64 bytes are the longest body */
    RETRY_AFTER_SECONDS = 5, /* time for a database to come back; the sender backs off exponentially by itself */
};

static void write_body(struct buffer *body, const struct delivery *delivery) {
    const char *text = outcome_message(delivery->outcome, delivery->message);
    buffer_append_text(body, "{\"message\":");
    buffer_append_json_string(body, text, strlen(text));
    if (delivery->outcome == OUTCOME_INVALID) {
        buffer_append_text(body, ",\"errors\":");
        receipt_write_errors(body, &delivery->errors);
    }
    const char *result = outcomes[delivery->outcome].result;
    if (result)
        buffer_append_format(body, ",\"result\":\"%s\"", result);
    /* CONTRACT.md: the bodies of 405 and 413 have a message only; the id stands in the header of all. */
    if (delivery->outcome != OUTCOME_NOT_POST && delivery->outcome != OUTCOME_TOO_LARGE)
        buffer_append_format(body, ",\"request_id\":\"%s\"", delivery->request_id_text);
    buffer_append_text(body, "}");
}

void reply_write(struct buffer *out, const struct delivery *delivery) {
    const struct outcome_words *words = &outcomes[delivery->outcome];
    char storage[BODY_SIZE];
    struct buffer body;
    buffer_init_fixed(&body, storage, sizeof storage);
    /* CONTRACT.md: a 401 has no body. */
    if (delivery->outcome != OUTCOME_UNAUTHORIZED)
        write_body(&body, delivery);
    if (body.failed)
        out->failed = true;

    buffer_append_format(out, "Status: %d %s\r\n", words->status, words->reason);
    if (body.len > 0)
        buffer_append_text(out, "Content-Type: application/json\r\n");
    buffer_append_text(out, words->headers);
    if (delivery->outcome == OUTCOME_UNAVAILABLE)
        buffer_append_format(out, "Retry-After: %d\r\n", RETRY_AFTER_SECONDS);
    buffer_append_format(out, "X-Request-Id: %s\r\nContent-Length: %zu\r\n\r\n", delivery->request_id_text, body.len);
    buffer_append(out, body.data, body.len);
}
