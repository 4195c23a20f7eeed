#include "log.h"

#include "buffer.h"
#include "clock.h"
#include "reply.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_SIZE = 8192, /* three key fields of 255 characters, four bytes each, escaped, fit */
    WORD_SIZE = 512,
};

static enum log_level most_verbose = LOG_INFO;

void log_set_level(enum log_level level) {
    most_verbose = level;
}

static const char *level_name(enum log_level level) {
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARNING:
        return "warning";
    case LOG_INFO:
        return "info";
    }
    return "";
}

static void begin_line(struct buffer *line, enum log_level level) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char time[32];
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
    buffer_append_format(line, "time=%s.%03ldZ level=%s", time, now.tv_nsec / 1000000, level_name(level));
}

/* A line that did not fit is cut: a log must not fail. */
static void end_line(struct buffer *line) {
    if (line->len == line->capacity)
        line->len--;
    line->data[line->len++] = '\n';
}

static void write_lines(const char *lines, size_t len) {
    ssize_t ignored = write(STDERR_FILENO, lines, len);
    (void)ignored; /* there is nowhere left to say it */
}

/* As it is where that is unambiguous; else in quotes, escaped as in JSON. */
static void append_value(struct buffer *line, const char *name, const char *text, size_t len) {
    buffer_append_format(line, " %s=", name);
    bool plain = len > 0;
    for (size_t i = 0; i < len && plain; i++)
        plain = (unsigned char)text[i] > ' ' && text[i] != '"' && text[i] != '=' && text[i] != '\\' && text[i] != 0x7f;
    if (plain)
        buffer_append(line, text, len);
    else
        buffer_append_json_string(line, text, len);
}

void log_message(enum log_level level, const char *format, ...) {
    if (level > most_verbose)
        return;
    char storage[LINE_SIZE], text[WORD_SIZE];
    struct buffer line;
    buffer_init_fixed(&line, storage, sizeof storage);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n') /* messages of libpq end in one */
        len--;
    begin_line(&line, level);
    append_value(&line, "msg", text, len);
    end_line(&line);
    write_lines(line.data, line.len);
}

/* The length of `value`, cut to WORD_SIZE between two characters: what is no UTF-8, journald takes for binary. */
static size_t shown_len(const struct receipt_value *value) {
    size_t len = value->len;
    if (len > WORD_SIZE)
        for (len = WORD_SIZE; len > 0 && ((unsigned char)value->text[len] & 0xc0) == 0x80;)
            len--;
    return len;
}

static void append_errors(struct buffer *line, const struct receipt_errors *errors) {
    buffer_append_text(line, " errors=");
    for (size_t i = 0; i < errors->count; i++)
        buffer_append_format(line, "%s%s:%s", i > 0 ? "," : "", receipt_fields[errors->list[i].field].path,
                             receipt_error_name(errors->list[i].code));
}

void log_delivery(struct log_batch *batch, const struct delivery *delivery) {
    int status = reply_status(delivery->outcome);
    enum log_level level = delivery->outcome == OUTCOME_UNAVAILABLE ? LOG_WARNING : LOG_INFO;
    if (level > most_verbose)
        return;
    char storage[LINE_SIZE];
    struct buffer line;
    buffer_init_fixed(&line, storage, sizeof storage);
    begin_line(&line, level);
    buffer_append_format(&line, " msg=delivery request_id=%s status=%d", delivery->request_id_text, status);
    if (reply_result(delivery->outcome))
        buffer_append_format(&line, " result=%s", reply_result(delivery->outcome));
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        const struct receipt_field *field = &receipt_fields[receipt_key_fields[k]];
        const struct receipt_value *value = &delivery->receipt.values[receipt_key_fields[k]];
        /* A value that was refused can be of any length. */
        if (value->kind == RECEIPT_VALUE_STRING || value->kind == RECEIPT_VALUE_INTEGER)
            append_value(&line, field->column, value->text, shown_len(value));
    }
    if (delivery->api_key_name[0])
        append_value(&line, "key", delivery->api_key_name, strlen(delivery->api_key_name));
    int64_t us = clock_now_us() - delivery->arrived_us;
    buffer_append_format(&line, " ms=%" PRId64 ".%03d", us / US_PER_MS, (int)(us % US_PER_MS));
    if (delivery->refusal == OUTCOME_MALFORMED)
        buffer_append_format(&line, " line=%d column=%d", delivery->error_line, delivery->error_column);
    if (delivery->refusal == OUTCOME_INVALID)
        append_errors(&line, &delivery->errors);
    if (delivery->outcome == OUTCOME_UNAVAILABLE && delivery->failure)
        append_value(&line, "failure", delivery->failure, strlen(delivery->failure));
    if (delivery->sqlstate[0])
        buffer_append_format(&line, " sqlstate=%s", delivery->sqlstate);
    end_line(&line);
    if (line.len > sizeof batch->lines - batch->len)
        log_flush(batch);
    if (line.len > sizeof batch->lines) {
        write_lines(line.data, line.len);
        return;
    }
    memcpy(batch->lines + batch->len, line.data, line.len);
    batch->len += line.len;
}

void log_flush(struct log_batch *batch) {
    if (batch->len > 0)
        write_lines(batch->lines, batch->len);
    batch->len = 0;
}
