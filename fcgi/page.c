#include "page.h"

#include <stdio.h>
#include <string.h>

static void add_reason(char *reasons, const char *reason) {
    size_t len = strlen(reasons);
    snprintf(reasons + len, PAGE_REASONS_SIZE - len, "%s%s", len > 0 ? "; " : "", reason);
}

void page_judge(struct page_state *state, char reasons[PAGE_REASONS_SIZE]) {
    const struct metrics_gauges *gauges = &state->gauges;
    reasons[0] = '\0';
    if (state->draining)
        add_reason(reasons, "it is draining");
    if (!state->database_answers)
        add_reason(reasons, "the database does not answer");
    else if (!state->database_takes_writes)
        add_reason(reasons, "the database takes no writes");
    if (gauges->schema >= 0 && gauges->schema < gauges->schema_needed) {
        char reason[64];
        snprintf(reason, sizeof reason, "the schema is version %d, and has to be %d", gauges->schema,
                 gauges->schema_needed);
        add_reason(reasons, reason);
    }
    state->gauges.ready = reasons[0] == '\0';
}

static void write_response(struct buffer *out, const char *status, const char *type, const struct buffer *body) {
    buffer_append_format(out,
                         "Status: %s\r\nContent-Type: %s\r\nCache-Control: no-store\r\nContent-Length: %zu\r\n\r\n",
                         status, type, body->len);
    buffer_append(out, body->data, body->len);
    if (body->failed)
        out->failed = true;
}

void page_write(struct buffer *out, const char *page, struct page_state *state) {
    char reasons[PAGE_REASONS_SIZE];
    const char *status = "200 OK", *type = "application/json";
    struct buffer body;
    buffer_init(&body);
    page_judge(state, reasons);
    if (strcmp(page, "live") == 0) {
        buffer_append_text(&body, "{\"live\":true}\n");
    } else if (strcmp(page, "ready") == 0) {
        if (!state->gauges.ready)
            status = "503 Service Unavailable";
        buffer_append_format(&body, "{\"ready\":%s,\"reasons\":\"%s\"}\n", state->gauges.ready ? "true" : "false",
                             reasons);
    } else if (strcmp(page, "metrics") == 0) {
        type = "text/plain; version=0.0.4; charset=utf-8";
        metrics_write(&body, &state->gauges);
    } else {
        status = "404 Not Found";
        buffer_append_text(&body, "{\"message\":\"There is no such page.\"}\n");
    }
    write_response(out, status, type, &body);
    buffer_fini(&body);
}
