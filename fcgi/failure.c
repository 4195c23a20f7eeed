#include "failure.h"

#include "csv.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* How long the vendor can be asked to send again. */
enum {
    MS_PER_S = 1000,
    S_PER_HOUR = 3600,
    S_PER_DAY = 24 * S_PER_HOUR,
    RESEND_S = 30 * S_PER_DAY,
};

size_t failure_set_key(char *key, const struct log_line *line) {
    const char *const parts[RECEIPT_KEY_COUNT] = {line->program, line->asn, line->unit};
    size_t len = 0;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        size_t size = strlen(parts[k]) + 1;
        if (size > FAILURE_KEY_SIZE - len)
            return 0;
        memcpy(key + len, parts[k], size);
        len += size;
    }
    return len;
}

size_t failure_key_len(const char *key) {
    size_t len = 0;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++)
        len += strlen(key + len) + 1;
    return len;
}

int failure_compare_keys(const char *a, const char *b) {
    size_t len_a = failure_key_len(a), len_b = failure_key_len(b);
    int order = memcmp(a, b, len_a < len_b ? len_a : len_b);
    return order ? order : (len_a > len_b) - (len_a < len_b);
}

void failure_append_id_and_key(struct buffer *json, const unsigned char *request_id, const char *key) {
    static const char *const names[RECEIPT_KEY_COUNT] = {"program", "asn", "unit"};
    char id[REQUEST_ID_CHARS + 1];
    buffer_append_format(json, "\"id\":\"%s\"", request_id_format(id, request_id));
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++, key += strlen(key) + 1) {
        buffer_append_format(json, ",\"%s\":", names[k]);
        buffer_append_json_string(json, key, strlen(key));
    }
}

int failure_compare(const void *a, const void *b) {
    const struct failure *failure_a = a, *failure_b = b;
    int order = (failure_a->first_ms > failure_b->first_ms) - (failure_a->first_ms < failure_b->first_ms);
    return order ? order : failure_compare_keys(failure_a->key, failure_b->key);
}

static int64_t retried_until_s(const struct failure *failure, const struct retries *retries) {
    return failure->first_ms / MS_PER_S + (int64_t)retries->hours * S_PER_HOUR;
}

/* What the sender does next, unasked. False: nothing any more. */
static bool append_retries(struct buffer *line, const struct failure *failure, const struct retries *retries,
                           int64_t now_s) {
    int64_t left_s = retried_until_s(failure, retries) - now_s;
    if (retries->hours > 0 && left_s > 0)
        buffer_append_format(line, "will be retried for %" PRId64 " h %02" PRId64 " min", left_s / S_PER_HOUR,
                             left_s / 60 % 60);
    else if (failure->attempts < retries->attempts)
        buffer_append_format(line, "can be retried %zu more times", retries->attempts - failure->attempts);
    else
        return false;
    return true;
}

static void append_time_left(struct buffer *line, const struct failure *failure, const struct retries *retries) {
    int64_t now_s = time(NULL), age_s = now_s - failure->first_ms / MS_PER_S;
    if (append_retries(line, failure, retries, now_s))
        return;
    if (age_s < RESEND_S)
        buffer_append_format(line, "no longer retried; can be resent for %" PRId64 " more days",
                             (RESEND_S - age_s) / S_PER_DAY);
    else
        buffer_append_text(line, "too old to be resent");
}

static void append_id(struct buffer *line, const struct failure *failure) {
    char id[REQUEST_ID_CHARS + 1];
    buffer_append_text(line, request_id_format(id, failure->last_id));
}

void failure_write_text(FILE *out, struct buffer *line, const struct failure *failure, const struct retries *retries) {
    char first[LOG_TIME_SIZE];
    const char *part = failure->key;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++, part += strlen(part) + 1) {
        buffer_append(line, " ", k > 0);
        buffer_append_word(line, part, strlen(part));
    }
    buffer_append_format(line, ": got 503 %zu times since %s, last as ", failure->attempts,
                         log_line_format_time(first, failure->first_ms));
    append_id(line, failure);
    buffer_append_text(line, failure->stored ? "; the database has an older version; " : "; ");
    append_time_left(line, failure, retries);
    buffer_append_text(line, "\n");
    fwrite(line->data, 1, line->len, out);
}

void failure_write_row(FILE *out, struct buffer *line, const struct failure *failure, const struct retries *retries) {
    char first[LOG_TIME_SIZE], last[LOG_TIME_SIZE], retry[LOG_TIME_SIZE], resend[LOG_TIME_SIZE];
    const char *part = failure->key;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++, part += strlen(part) + 1)
        csv_write_text(out, part, ',');
    append_id(line, failure);
    fprintf(out, "%s,%s,%zu,%.*s,%s,%s,%s\r\n", log_line_format_time(first, failure->first_ms),
            log_line_format_time(last, failure->last_ms), failure->attempts, (int)line->len, line->data,
            failure->stored ? "older" : "no",
            retries->hours > 0 ? log_line_format_time(retry, retried_until_s(failure, retries) * MS_PER_S +
                                                                 failure->first_ms % MS_PER_S)
                               : "",
            log_line_format_time(resend, failure->first_ms + (int64_t)RESEND_S * MS_PER_S));
}

void failure_write_names(FILE *out) {
    fprintf(out, "program_identifier,asn_number,unit_identifier,first_failed_at,last_failed_at,attempts,request_id,"
                 "stored,retried_until,can_be_resent_until\r\n");
}
