#include "page.h"

#include "clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { STANDSTILL_US = 5 * US_PER_S }; /* how long nothing may be stored, though deliveries wait, while it is ready */

__attribute__((format(printf, 2, 3))) static void add_reason(char *reasons, const char *format, ...) {
    size_t len = strlen(reasons);
    va_list args;
    if (len > 0)
        len += (size_t)snprintf(reasons + len, PAGE_REASONS_SIZE - len, "; ");
    va_start(args, format);
    if (len < PAGE_REASONS_SIZE)
        vsnprintf(reasons + len, PAGE_REASONS_SIZE - len, format, args);
    va_end(args);
}

static void add_standstill(char *reasons, const struct page_state *state) {
    const struct standstill *standstill = &state->standstill;
    const char *failure = standstill->failure           ? standstill->failure
                          : state->database.waiting > 0 ? "the commit waits for a standby"
                                                        : "waiting for PostgreSQL";
    const char *detail = strcmp(standstill->detail, state->database.problem) != 0 ? standstill->detail : "";
    add_reason(reasons, "no %s was stored for %lld s: %s%s%s%s%s",
               standstill->rejections ? "rejected delivery" : "delivery", (long long)(standstill->us / US_PER_S),
               failure, standstill->sqlstate[0] ? " " : "", standstill->sqlstate, *detail ? ": " : "", detail);
}

void page_judge(struct page_state *state, char reasons[PAGE_REASONS_SIZE]) {
    const struct metrics_gauges *gauges = &state->gauges;
    reasons[0] = '\0';
    if (state->refusal) {
        state->gauges.ready = false;
        add_reason(reasons, "the worker cannot start: %s", state->refusal);
        return;
    }
    if (state->draining)
        add_reason(reasons, "it is draining");
    if (!state->database_answers)
        add_reason(reasons, "the database does not answer%s%s", *state->database.problem ? ": " : "",
                   state->database.problem);
    else if (!state->database_takes_writes)
        add_reason(reasons, "the database takes no writes");
    else if (state->database.unfit)
        add_reason(reasons, "%s", state->database.problem);
    if (gauges->schema >= 0 && gauges->schema < gauges->schema_needed)
        add_reason(reasons, "the schema is version %d, and has to be %d", gauges->schema, gauges->schema_needed);
    if (state->database.waiting_s >= STANDSTILL_US / US_PER_S)
        add_reason(reasons, "commits have waited for a standby for %u s", state->database.waiting_s);
    if (state->standstill.us >= STANDSTILL_US)
        add_standstill(reasons, state);
    state->gauges.ready = reasons[0] == '\0';
}

static void write_text(struct buffer *body, const char *name, const char *value) {
    buffer_append_format(body, ",\"%s\":", name);
    buffer_append_json_string(body, value, strlen(value));
}

static void write_ready(struct buffer *body, const struct page_state *state, const char *reasons) {
    const struct probe_findings *database = &state->database;
    buffer_append_format(body, "{\"ready\":%s", state->gauges.ready ? "true" : "false");
    write_text(body, "reasons", reasons);
    if (*database->host) {
        write_text(body, "host", database->host);
        write_text(body, "port", database->port);
        buffer_append_format(body, ",\"timeline\":%u,\"standbys\":%u", database->timeline, database->standbys);
    }
    buffer_append_text(body, ",\"fields_in_extra\":[");
    for (size_t i = 0, count = 0; i < RECEIPT_FIELD_COUNT; i++)
        if (database->columns.missing[i])
            buffer_append_format(body, "%s\"%s\"", count++ > 0 ? "," : "", receipt_fields[i].path);
    buffer_append_text(body, "]}\n");
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
        write_ready(&body, state, reasons);
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

void page_write_reload(struct buffer *out, size_t key_count, const char *problem) {
    struct buffer body;
    buffer_init(&body);
    if (problem)
        buffer_append_format(&body, "the API keys stay as they were: %s\n", problem);
    else
        buffer_append_format(&body, PAGE_RELOADED "%zu\n", key_count);
    write_response(out, problem ? "500 Internal Server Error" : "200 OK", "text/plain; charset=utf-8", &body);
    buffer_fini(&body);
}
