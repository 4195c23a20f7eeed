#include "acknowledged.h"

#include "buffer.h"
#include "csv.h"
#include "delivery.h"
#include "hex.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHUNK = 500, TIME_SIZE = 32, MS_PER_S = 1000, DAY_S = 24 * 3600, RESEND_S = 30 * DAY_S };

/* What the database holds of a delivery. */
enum stored {
    STORED = 0,
    STORED_NOT,   /* nothing */
    STORED_OLDER, /* the receipt, but as it was before this delivery */
    STORED_NEWER, /* the receipt as a later delivery brought it, which the sender has replaced this one by */
};

struct acknowledged {
    int64_t answered_ms; /* since 1970 */
    size_t key;          /* where its three key fields begin in `texts`, each with its NUL; empty: not known */
    unsigned char request_id[REQUEST_ID_BYTES];
    unsigned char outcome, stored; /* enums */
};

struct search {
    const struct missing_options *options;
    FILE *out, *errors;
    int64_t since_ms, until_ms;
    struct acknowledged *list;
    size_t count, capacity;
    struct buffer texts;
    struct log_totals totals;
};

/*
 * A version of a receipt is known by the request id that brought it: in the row, or, for one that was replaced since,
 * in the history. A delivery of what was there already has left no trace: see judge_unchanged. Each join is by a unique
 * index, whatever the sizes of the tables. A row that was written while the delivery was in flight may be what it
 * found, so only a later one is newer.
 */
static const char lookup_query[] =
    "select d.n, case"
    " when d.rejected then case when k.request_id is null then 1 else 0 end"
    " when r.request_id is null then 1"
    " when d.unchanged or d.id in (r.request_id, r.revised_request_id) then 0"
    " when r.revision > 1 and inventory.has_revised(d.id, r.program_identifier, r.asn_number, r.unit_identifier) then 0"
    " when coalesce(r.revised_at, r.received_at) > to_timestamp(d.ms / 1000.0) then 3"
    " else 2 end"
    " from jsonb_to_recordset($1::jsonb) as d"
    " (n integer, rejected boolean, unchanged boolean, program text, asn text, unit text, id uuid, ms bigint)"
    " left join inventory.receipts as r on not d.rejected"
    " and r.program_identifier = d.program and r.asn_number = d.asn and r.unit_identifier = d.unit"
    " left join inventory.rejected_receipts as k on k.request_id = case when d.rejected then d.id end";

static const char times_query[] =
    "select (extract(epoch from $1::timestamptz) * 1000)::bigint, (extract(epoch from $2::timestamptz) * 1000)::bigint";

static bool is_rejection(enum outcome outcome) {
    return outcome == OUTCOME_MALFORMED || outcome == OUTCOME_INVALID || outcome == OUTCOME_QUARANTINED;
}

/* OUTCOME_COUNT: none of those of which something is stored before they are answered. */
static enum outcome find_outcome(const struct log_line *line) {
    long status = strtol(line->status, NULL, 10);
    for (enum outcome outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
        const char *result = outcomes[outcome].result;
        if (outcomes[outcome].status == status && strcmp(result ? result : "", line->result) == 0)
            return result || is_rejection(outcome) ? outcome : OUTCOME_COUNT;
    }
    return OUTCOME_COUNT;
}

/* 2026-11-28T05:52:28.123Z, as log.c writes it. */
static bool parse_time(const char *text, int64_t *ms) {
    struct tm utc = {0};
    char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc), *rest = end;
    if (!end || *end != '.')
        return false;
    long fraction = strtol(end + 1, &rest, 10);
    *ms = (int64_t)timegm(&utc) * MS_PER_S + fraction;
    return rest == end + 4 && strcmp(rest, "Z") == 0;
}

static const char *format_time(char text[TIME_SIZE], int64_t ms) {
    time_t seconds = (time_t)(ms / MS_PER_S);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t len = strftime(text, TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + len, TIME_SIZE - len, ".%03dZ", (int)(ms % MS_PER_S));
    return text;
}

static bool grow_list(struct search *search) {
    size_t capacity = search->capacity ? 2 * search->capacity : CHUNK;
    struct acknowledged *list = realloc(search->list, capacity * sizeof *list);
    if (!list)
        return false;
    search->list = list;
    search->capacity = capacity;
    return true;
}

static void note_line(void *context, enum log_line_kind kind, const struct log_line *line) {
    struct search *search = context;
    enum outcome outcome = find_outcome(line);
    struct acknowledged made = {.outcome = (unsigned char)outcome, .key = search->texts.len};
    if (kind != LOG_LINE_DELIVERY || outcome == OUTCOME_COUNT || search->texts.failed)
        return;
    bool has_key = *line->program && *line->asn && *line->unit;
    if (!parse_time(line->time, &made.answered_ms) ||
        !hex_decode(line->request_id, made.request_id, REQUEST_ID_BYTES) || (!has_key && !is_rejection(outcome))) {
        search->totals.broken++;
        return;
    }
    if (made.answered_ms < search->since_ms || made.answered_ms >= search->until_ms)
        return;
    buffer_append(&search->texts, line->program, strlen(line->program) + 1);
    buffer_append(&search->texts, line->asn, strlen(line->asn) + 1);
    buffer_append(&search->texts, line->unit, strlen(line->unit) + 1);
    if (search->count == search->capacity && !grow_list(search))
        search->texts.failed = true;
    if (!search->texts.failed)
        search->list[search->count++] = made;
}

struct key {
    const char *program, *asn, *unit;
};

static struct key key_of(const struct search *search, const struct acknowledged *delivery) {
    struct key key = {.program = search->texts.data + delivery->key};
    key.asn = key.program + strlen(key.program) + 1;
    key.unit = key.asn + strlen(key.asn) + 1;
    return key;
}

static int compare_keys(const struct search *search, const struct acknowledged *a, const struct acknowledged *b) {
    struct key key_a = key_of(search, a), key_b = key_of(search, b);
    int order = strcmp(key_a.program, key_b.program);
    order = order ? order : strcmp(key_a.asn, key_b.asn);
    return order ? order : strcmp(key_a.unit, key_b.unit);
}

static int compare_times(const struct acknowledged *a, const struct acknowledged *b) {
    return (a->answered_ms > b->answered_ms) - (a->answered_ms < b->answered_ms);
}

static int by_request_id(const void *a, const void *b, void *search) {
    (void)search;
    int order = memcmp(((const struct acknowledged *)a)->request_id, ((const struct acknowledged *)b)->request_id,
                       REQUEST_ID_BYTES);
    return order ? order : compare_times(a, b);
}

static int by_key(const void *a, const void *b, void *search) {
    int order = compare_keys(search, a, b);
    return order ? order : compare_times(a, b);
}

static int by_time(const void *a, const void *b, void *search) {
    int order = compare_times(a, b);
    return order ? order : compare_keys(search, a, b);
}

/* A line that is in two logs is one delivery, and so is a request that nginx passed to the other worker. */
static void drop_repeated(struct search *search) {
    struct acknowledged *list = search->list;
    size_t kept = 0;
    qsort_r(list, search->count, sizeof *list, by_request_id, search);
    for (size_t i = 0; i < search->count; i++)
        if (kept == 0 || memcmp(list[kept - 1].request_id, list[i].request_id, REQUEST_ID_BYTES) != 0)
            list[kept++] = list[i];
    search->count = kept;
}

static void append_json(struct buffer *json, size_t n, const struct search *search,
                        const struct acknowledged *delivery) {
    struct key key = key_of(search, delivery);
    buffer_append_format(json, "%s{\"n\":%zu,\"rejected\":%s,\"unchanged\":%s,\"ms\":%" PRId64 ",\"id\":\"",
                         n > 0 ? "," : "[", n, is_rejection(delivery->outcome) ? "true" : "false",
                         delivery->outcome == OUTCOME_UNCHANGED ? "true" : "false", delivery->answered_ms);
    for (size_t i = 0; i < REQUEST_ID_BYTES; i++)
        buffer_append_format(json, "%02x", delivery->request_id[i]);
    buffer_append_text(json, "\",\"program\":");
    buffer_append_json_string(json, key.program, strlen(key.program));
    buffer_append_text(json, ",\"asn\":");
    buffer_append_json_string(json, key.asn, strlen(key.asn));
    buffer_append_text(json, ",\"unit\":");
    buffer_append_json_string(json, key.unit, strlen(key.unit));
    buffer_append_text(json, "}");
}

/* Sets what is stored of `count` deliveries from `first` on. */
static bool look_up(struct search *search, PGconn *connection, size_t first, size_t count) {
    struct buffer json;
    buffer_init(&json);
    for (size_t n = 0; n < count; n++)
        append_json(&json, n, search, &search->list[first + n]);
    buffer_append(&json, "]", 2); /* with its NUL */
    const char *const values[] = {json.data};
    PGresult *result = json.failed ? NULL : PQexecParams(connection, lookup_query, 1, NULL, values, NULL, NULL, 0);
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK && (size_t)PQntuples(result) == count;
    for (int row = 0; ok && row < PQntuples(result); row++) {
        size_t n = strtoul(PQgetvalue(result, row, 0), NULL, 10);
        search->list[first + n].stored = (unsigned char)strtoul(PQgetvalue(result, row, 1), NULL, 10);
    }
    if (!ok)
        fprintf(search->errors, "receiptd: %s%s",
                json.failed ? "" : "PostgreSQL: ", json.failed ? "out of memory\n" : PQerrorMessage(connection));
    PQclear(result);
    buffer_fini(&json);
    return ok;
}

/*
 * A delivery that was answered "unchanged" found the version of the delivery before it, for which it waited
 * (backlog.h): if that is lost, so is this one. The list is in order of keys, and of times within each.
 */
static void judge_unchanged(struct search *search) {
    const struct acknowledged *version = NULL; /* of the key at hand, so far */
    for (size_t i = 0; i < search->count; i++) {
        struct acknowledged *delivery = &search->list[i];
        if (version && compare_keys(search, version, delivery) != 0)
            version = NULL;
        if (delivery->outcome == OUTCOME_CREATED || delivery->outcome == OUTCOME_REVISED)
            version = delivery;
        else if (version && version->stored == STORED_OLDER && delivery->outcome == OUTCOME_UNCHANGED)
            delivery->stored = STORED_OLDER;
    }
}

/* One line, whatever the sender has put into it. */
static void write_plain(FILE *out, const char *text) {
    for (; *text; text++)
        fputc(iscntrl((unsigned char)*text) ? '?' : *text, out);
}

static void write_request_id(FILE *out, const struct acknowledged *delivery) {
    for (size_t i = 0; i < REQUEST_ID_BYTES; i++)
        fprintf(out, "%02x", delivery->request_id[i]);
}

static void write_text(const struct search *search, const struct acknowledged *delivery) {
    static const char *const words[] = {
        [STORED_NOT] = "not in the database",
        [STORED_OLDER] = "the database has an older version of the receipt",
        [STORED_NEWER] = "replaced: the database has a later delivery of the receipt",
    };
    const struct outcome_words *answer = &outcomes[delivery->outcome];
    struct key key = key_of(search, delivery);
    FILE *out = search->out;
    char time_text[TIME_SIZE];
    if (*key.program || *key.asn || *key.unit) {
        write_plain(out, key.program);
        fputc(' ', out);
        write_plain(out, key.asn);
        fputc(' ', out);
        write_plain(out, key.unit);
    } else {
        fputs("(no key)", out);
    }
    fprintf(out, ": answered %d%s%s at %s as ", answer->status, answer->result ? " " : "",
            answer->result ? answer->result : "", format_time(time_text, delivery->answered_ms));
    write_request_id(out, delivery);
    fprintf(out, "; %s", words[delivery->stored]);
    int64_t left_s = delivery->answered_ms / MS_PER_S + RESEND_S - (int64_t)time(NULL);
    if (delivery->stored != STORED_NEWER && left_s > 0)
        fprintf(out, "; can be resent for %" PRId64 " more days", left_s / DAY_S);
    else if (delivery->stored != STORED_NEWER)
        fputs("; too old to be resent", out);
    fputc('\n', out);
}

static void write_row(const struct search *search, const struct acknowledged *delivery) {
    const struct outcome_words *answer = &outcomes[delivery->outcome];
    struct key key = key_of(search, delivery);
    char time_text[TIME_SIZE];
    csv_write_text(search->out, key.program, ',');
    csv_write_text(search->out, key.asn, ',');
    csv_write_text(search->out, key.unit, ',');
    fprintf(search->out, "%s,%d,%s,", format_time(time_text, delivery->answered_ms), answer->status,
            answer->result ? answer->result : "");
    write_request_id(search->out, delivery);
    fprintf(search->out, ",%s,%s\r\n", delivery->stored == STORED_OLDER ? "older" : "no",
            format_time(time_text, delivery->answered_ms + (int64_t)RESEND_S * MS_PER_S));
}

/* The vendor is not asked for replaced deliveries: sent again, they would overwrite newer content. */
static size_t write_missing(const struct search *search) {
    size_t lost = 0, newer = 0;
    if (search->options->csv)
        fprintf(search->out,
                "program_identifier,asn_number,unit_identifier,answered_at,status,result,request_id,stored,"
                "can_be_resent_until\r\n");
    for (size_t i = 0; i < search->count; i++) {
        const struct acknowledged *delivery = &search->list[i];
        bool is_newer = delivery->stored == STORED_NEWER;
        newer += is_newer;
        lost += delivery->stored != STORED && !is_newer;
        if (!search->options->csv && delivery->stored != STORED)
            write_text(search, delivery);
        else if (delivery->stored != STORED && !is_newer)
            write_row(search, delivery);
    }
    char first[TIME_SIZE], last[TIME_SIZE];
    FILE *words = search->options->csv ? search->errors : search->out;
    fprintf(words, "Missing: %zu of %zu acknowledged deliveries, answered from %s to %s\n", lost, search->count,
            format_time(first, search->list[0].answered_ms),
            format_time(last, search->list[search->count - 1].answered_ms));
    if (newer > 0)
        fprintf(words, "Replaced by later deliveries of the same receipts: %zu\n", newer);
    return lost;
}

/* The settings that leave lines out: the present ones, and those that the log itself shows. */
static bool report_gaps(const struct search *search) {
    static const struct {
        const char *name, *all;
    } settings[] = {{"RECEIPTD_LOG_DELIVERIES", "all"}, {"RECEIPTD_LOG_LEVEL", "info"}};
    bool gaps = missing_report_gaps(&search->totals, search->errors), left_out = search->totals.left_out;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        const char *value = getenv(settings[i].name);
        if (!value || strcmp(value, settings[i].all) == 0)
            continue;
        fprintf(search->errors, "receiptd: %s=%s leaves acknowledged deliveries out of the logs\n", settings[i].name,
                value);
        gaps = true;
    }
    if (left_out)
        fprintf(search->errors, "receiptd: acknowledged deliveries were left out of these logs: "
                                "a worker was started with RECEIPTD_LOG_DELIVERIES\n");
    return gaps || left_out;
}

static enum missing_result compare(struct search *search) {
    /* Only now: the service's user may not be allowed to read the logs. */
    PGconn *connection = missing_connect(search->options, search->errors);
    bool ok = connection != NULL;
    drop_repeated(search);
    qsort_r(search->list, search->count, sizeof *search->list, by_key, search);
    for (size_t first = 0; ok && first < search->count; first += CHUNK)
        ok = look_up(search, connection, first, search->count - first < CHUNK ? search->count - first : CHUNK);
    PQfinish(connection);
    if (!ok)
        return MISSING_FAILED;
    judge_unchanged(search);
    qsort_r(search->list, search->count, sizeof *search->list, by_time, search);
    size_t lost = write_missing(search);
    bool gaps = report_gaps(search);
    if (fflush(search->out) != 0)
        return MISSING_FAILED;
    if (lost == 0 && gaps)
        fprintf(search->errors, "receiptd: so others may be missing, though none of these is\n");
    return lost > 0 ? MISSING_SOME : gaps ? MISSING_FAILED : MISSING_NONE;
}

/* As the times of `receiptd reprocess`, PostgreSQL reads them. */
static bool parse_span(struct search *search) {
    const struct missing_options *options = search->options;
    search->since_ms = INT64_MIN;
    search->until_ms = INT64_MAX;
    if (!options->since && !options->until)
        return true;
    PGconn *connection = missing_connect(options, search->errors);
    if (!connection)
        return false;
    const char *const values[] = {options->since, options->until};
    PGresult *result = PQexecParams(connection, times_query, 2, NULL, values, NULL, NULL, 0);
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK;
    if (!ok)
        fprintf(search->errors, "receiptd: --since or --until: %s", PQerrorMessage(connection));
    else if (options->since)
        search->since_ms = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    if (ok && options->until)
        search->until_ms = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    PQclear(result);
    PQfinish(connection);
    return service_become_root(options->service) && ok;
}

enum missing_result acknowledged_missing(const struct missing_options *options, FILE *out, FILE *errors) {
    struct search search = {.options = options, .out = out, .errors = errors};
    enum missing_result result = MISSING_FAILED;
    buffer_init(&search.texts);
    bool read = parse_span(&search) && log_reader_read(options->files, note_line, &search, &search.totals, errors);
    if (search.texts.failed) {
        fprintf(errors, "receiptd: out of memory\n");
    } else if (read && search.count == 0) {
        fprintf(errors, "receiptd: no acknowledged delivery was found in these logs%s\n",
                options->since || options->until ? ", in that span of time" : "");
        report_gaps(&search);
    } else if (read) {
        result = compare(&search);
    }
    free(search.list);
    buffer_fini(&search.texts);
    return result;
}
