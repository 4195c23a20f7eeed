#include "acknowledged.h"

#include "buffer.h"
#include "csv.h"
#include "failure.h"
#include "outcome.h"
#include "progress.h"
#include "spool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHUNK = 500, MS_PER_S = 1000, DAY_S = 24 * 3600, RESEND_S = 30 * DAY_S };

/* What the database holds of a delivery. */
enum stored {
    STORED = 0,
    STORED_NOT,   /* nothing */
    STORED_OLDER, /* the receipt, but as it was before this delivery */
    STORED_NEWER, /* the receipt as a later delivery brought it, which the sender has replaced this one by */
};

struct acknowledged {
    int64_t answered_ms; /* since 1970 */
    unsigned char request_id[REQUEST_ID_BYTES];
    unsigned char
        kept_as[REQUEST_ID_BYTES]; /* its request id in the database: that of the delivery it repeats, if any */
    unsigned char outcome, stored; /* enums */
    char key[FAILURE_KEY_SIZE];    /* three empty texts: not known */
};

struct search {
    const struct missing_options *options;
    FILE *out, *errors;
    int64_t since_ms, until_ms;
    struct log_totals totals;
    struct spool *by_id, *by_key, *by_time;
    PGconn *connection;
    struct progress progress;
    size_t count, lost, newer;
    int64_t first_ms, last_ms;
    struct acknowledged version; /* of the key at hand; see judge */
    size_t chunk_count;
    struct acknowledged chunk[CHUNK];
};

/*
 * A version of a receipt is known by the request id that brought it: in the row, or, for one that was replaced since,
 * in the history. A delivery of what was there already has left no trace: see judge. Each join is by a unique
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

/* It is stored already, and leaves no trace. */
static bool is_known(enum outcome outcome) {
    return outcome == OUTCOME_UNCHANGED || outcome == OUTCOME_SUPERSEDED;
}

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

static size_t size_of(const struct acknowledged *delivery) {
    return offsetof(struct acknowledged, key) + failure_key_len(delivery->key);
}

static bool note_line(void *context, enum log_line_kind kind, const struct log_line *line) {
    struct search *search = context;
    if (kind != LOG_LINE_DELIVERY)
        return true;
    enum outcome outcome = find_outcome(line);
    if (outcome == OUTCOME_COUNT || line->at_ms < search->since_ms || line->at_ms >= search->until_ms)
        return true;
    struct acknowledged made = {.answered_ms = line->at_ms, .outcome = (unsigned char)outcome};
    bool has_key = *line->program && *line->asn && *line->unit && failure_set_key(made.key, line) > 0;
    if (!has_key && !is_rejection(outcome)) {
        search->totals.broken++;
        return true;
    }
    if (!has_key)
        memset(made.key, 0, RECEIPT_KEY_COUNT); /* it is found by its request id */
    memcpy(made.request_id, line->id, REQUEST_ID_BYTES);
    if (!request_id_parse(line->repeat_of, made.kept_as))
        memcpy(made.kept_as, line->id, REQUEST_ID_BYTES);
    return spool_add(search->by_id, &made, size_of(&made));
}

static int compare_times(const struct acknowledged *a, const struct acknowledged *b) {
    return (a->answered_ms > b->answered_ms) - (a->answered_ms < b->answered_ms);
}

static int compare_ids(const void *a, const void *b) {
    int order = memcmp(((const struct acknowledged *)a)->request_id, ((const struct acknowledged *)b)->request_id,
                       REQUEST_ID_BYTES);
    return order ? order : compare_times(a, b);
}

static int compare_keys(const void *a, const void *b) {
    int order = failure_compare_keys(((const struct acknowledged *)a)->key, ((const struct acknowledged *)b)->key);
    return order ? order : compare_times(a, b);
}

static int compare_by_time(const void *a, const void *b) {
    int order = compare_times(a, b);
    return order ? order : compare_keys(a, b);
}

/* A line that is in two logs is one delivery, and so is a request that nginx passed to the other worker. */
static bool drop_repeated(struct search *search) {
    const struct acknowledged *delivery;
    unsigned char last[REQUEST_ID_BYTES];
    bool ok = spool_sort(search->by_id);
    while (ok && (delivery = spool_next(search->by_id))) {
        if (search->count > 0 && memcmp(last, delivery->request_id, REQUEST_ID_BYTES) == 0)
            continue;
        memcpy(last, delivery->request_id, REQUEST_ID_BYTES);
        if (search->count++ == 0)
            search->first_ms = search->last_ms = delivery->answered_ms;
        search->first_ms = delivery->answered_ms < search->first_ms ? delivery->answered_ms : search->first_ms;
        search->last_ms = delivery->answered_ms > search->last_ms ? delivery->answered_ms : search->last_ms;
        ok = spool_add(search->by_key, delivery, size_of(delivery));
    }
    ok = ok && !spool_failed(search->by_id);
    spool_free(search->by_id);
    search->by_id = NULL;
    return ok;
}

static void append_id(struct buffer *text, const struct acknowledged *delivery) {
    char id[REQUEST_ID_CHARS + 1];
    buffer_append_text(text, request_id_format(id, delivery->request_id));
}

static void append_json(struct buffer *json, size_t n, const struct acknowledged *delivery) {
    buffer_append_format(json, "%s{\"n\":%zu,\"rejected\":%s,\"unchanged\":%s,\"ms\":%" PRId64 ",", n > 0 ? "," : "[",
                         n, is_rejection(delivery->outcome) ? "true" : "false",
                         is_known(delivery->outcome) ? "true" : "false", delivery->answered_ms);
    failure_append_id_and_key(json, delivery->kept_as, delivery->key);
    buffer_append_text(json, "}");
}

/*
 * A delivery that was answered "unchanged" found the version of the delivery before it, for which it waited
 * (backlog.h): if that is lost, so is this one. They come in the order of keys, and of times within each.
 */
static void judge(struct search *search, struct acknowledged *delivery) {
    struct acknowledged *version = &search->version;
    bool has_version = version->outcome != OUTCOME_COUNT && failure_compare_keys(version->key, delivery->key) == 0;
    if (delivery->outcome == OUTCOME_CREATED || delivery->outcome == OUTCOME_REVISED)
        memcpy(version, delivery, size_of(delivery));
    else if (!has_version)
        version->outcome = OUTCOME_COUNT;
    else if (version->stored == STORED_OLDER && delivery->outcome == OUTCOME_UNCHANGED)
        delivery->stored = STORED_OLDER;
}

/* Takes over those of the chunk that the database does not hold. */
static bool look_up(struct search *search) {
    struct buffer json;
    buffer_init(&json);
    for (size_t n = 0; n < search->chunk_count; n++)
        append_json(&json, n, &search->chunk[n]);
    PGresult *result = missing_look_up(search->connection, lookup_query, &json, &search->progress, search->errors);
    bool ok = result && (size_t)PQntuples(result) == search->chunk_count;
    for (int row = 0; ok && row < PQntuples(result); row++)
        search->chunk[strtoul(PQgetvalue(result, row, 0), NULL, 10)].stored =
            (unsigned char)strtoul(PQgetvalue(result, row, 1), NULL, 10);
    PQclear(result);
    buffer_fini(&json);
    return ok;
}

static bool judge_chunk(struct search *search) {
    for (size_t n = 0; n < search->chunk_count; n++) {
        struct acknowledged *delivery = &search->chunk[n];
        judge(search, delivery);
        search->newer += delivery->stored == STORED_NEWER;
        search->lost += delivery->stored == STORED_NOT || delivery->stored == STORED_OLDER;
        if (delivery->stored != STORED && !spool_add(search->by_time, delivery, size_of(delivery)))
            return false;
    }
    search->chunk_count = 0;
    return true;
}

static bool fail_spool(struct search *search) {
    progress_clear(&search->progress);
    fprintf(search->errors, "receiptd: temporary file: %s; set TMPDIR to a folder with more room\n", strerror(errno));
    return false;
}

static bool compare(struct search *search) {
    const struct acknowledged *delivery = NULL;
    size_t done = 0;
    search->version.outcome = OUTCOME_COUNT;
    if (!drop_repeated(search) || !spool_sort(search->by_key))
        return fail_spool(search);
    do {
        delivery = spool_next(search->by_key);
        if (delivery)
            memcpy(&search->chunk[search->chunk_count++], delivery, size_of(delivery));
        if (search->chunk_count < CHUNK && delivery)
            continue;
        done += search->chunk_count;
        progress_show(&search->progress, "comparing with the database:", done, search->count, PROGRESS_DELIVERIES);
        if (search->chunk_count > 0 && !look_up(search))
            return false;
        if (!judge_chunk(search))
            return fail_spool(search);
    } while (delivery);
    return !spool_failed(search->by_key) || fail_spool(search);
}

static void write_text(struct search *search, struct buffer *line, const struct acknowledged *delivery) {
    static const char *const words[] = {
        [STORED_NOT] = "not in the database",
        [STORED_OLDER] = "the database has an older version of the receipt",
        [STORED_NEWER] = "replaced: the database has a later delivery of the receipt",
    };
    const struct outcome_words *answer = &outcomes[delivery->outcome];
    char time_text[LOG_TIME_SIZE];
    const char *part = delivery->key;
    if (failure_key_len(part) == RECEIPT_KEY_COUNT)
        buffer_append_text(line, "(no key)");
    else
        for (int k = 0; k < RECEIPT_KEY_COUNT; k++, part += strlen(part) + 1) {
            buffer_append(line, " ", k > 0);
            buffer_append_word(line, part, strlen(part));
        }
    buffer_append_format(line, ": answered %d%s%s at %s as ", answer->status, answer->result ? " " : "",
                         answer->result ? answer->result : "", log_line_format_time(time_text, delivery->answered_ms));
    append_id(line, delivery);
    buffer_append_format(line, "; %s", words[delivery->stored]);
    int64_t left_s = delivery->answered_ms / MS_PER_S + RESEND_S - (int64_t)time(NULL);
    if (delivery->stored != STORED_NEWER && left_s > 0)
        buffer_append_format(line, "; can be resent for %" PRId64 " more days", left_s / DAY_S);
    else if (delivery->stored != STORED_NEWER)
        buffer_append_text(line, "; too old to be resent");
    buffer_append_text(line, "\n");
    fwrite(line->data, 1, line->len, search->out);
}

static void write_row(struct search *search, struct buffer *line, const struct acknowledged *delivery) {
    const struct outcome_words *answer = &outcomes[delivery->outcome];
    char answered[LOG_TIME_SIZE], resend[LOG_TIME_SIZE];
    const char *part = delivery->key;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++, part += strlen(part) + 1)
        csv_write_text(search->out, part, ',');
    append_id(line, delivery);
    fprintf(search->out, "%s,%d,%s,%.*s,%s,%s\r\n", log_line_format_time(answered, delivery->answered_ms),
            answer->status, answer->result ? answer->result : "", (int)line->len, line->data,
            delivery->stored == STORED_OLDER ? "older" : "no",
            log_line_format_time(resend, delivery->answered_ms + (int64_t)RESEND_S * MS_PER_S));
}

/* The vendor is not asked for replaced deliveries: sent again, they would overwrite newer content. */
static bool write_missing(struct search *search) {
    const struct acknowledged *delivery;
    struct buffer line;
    bool ok = spool_sort(search->by_time);
    buffer_init(&line);
    if (search->options->csv)
        fprintf(search->out,
                "program_identifier,asn_number,unit_identifier,answered_at,status,result,request_id,stored,"
                "can_be_resent_until\r\n");
    while (ok && !line.failed && (delivery = spool_next(search->by_time))) {
        line.len = 0;
        if (!search->options->csv)
            write_text(search, &line, delivery);
        else if (delivery->stored != STORED_NEWER)
            write_row(search, &line, delivery);
    }
    ok = ok && !line.failed && !spool_failed(search->by_time);
    buffer_fini(&line);
    return ok || fail_spool(search);
}

static void write_summary(const struct search *search) {
    char first[LOG_TIME_SIZE], last[LOG_TIME_SIZE];
    FILE *words = search->options->csv ? search->errors : search->out;
    fprintf(words, "Missing: %zu of %zu acknowledged deliveries, answered from %s to %s\n", search->lost, search->count,
            log_line_format_time(first, search->first_ms), log_line_format_time(last, search->last_ms));
    if (search->newer > 0)
        fprintf(words, "Replaced by later deliveries of the same receipts: %zu\n", search->newer);
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

static enum missing_result report(struct search *search) {
    /* Only now: the service's user may not be allowed to read the logs. */
    search->connection = missing_connect(search->options, search->errors);
    bool ok = search->connection && compare(search);
    PQfinish(search->connection);
    progress_clear(&search->progress);
    if (ok && search->count == 0) {
        fprintf(search->errors, "receiptd: no acknowledged delivery was found in these logs%s\n",
                search->options->since || search->options->until ? ", in that span of time" : "");
        report_gaps(search);
        return MISSING_UNKNOWN;
    }
    if (!ok || !write_missing(search))
        return MISSING_FAILED;
    write_summary(search);
    if (fflush(search->out) != 0)
        return MISSING_FAILED;
    bool gaps = report_gaps(search);
    if (gaps)
        fprintf(search->errors, "receiptd: so %s may be missing\n", search->lost > 0 ? "more" : "deliveries");
    return search->lost > 0 ? MISSING_SOME : gaps ? MISSING_UNKNOWN : MISSING_NONE;
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
    struct search *search = calloc(1, sizeof *search);
    enum missing_result result = MISSING_FAILED;
    if (search) {
        search->options = options;
        search->out = out;
        search->errors = errors;
        search->by_id = spool_new(MISSING_SPOOL_BYTES, compare_ids);
        search->by_key = spool_new(MISSING_SPOOL_BYTES, compare_keys);
        search->by_time = spool_new(MISSING_SPOOL_BYTES, compare_by_time);
        progress_start(&search->progress, errors);
    }
    if (!search || !search->by_id || !search->by_key || !search->by_time)
        fprintf(errors, "receiptd: out of memory\n");
    else if (!parse_span(search))
        ;
    else if (!log_reader_read(options->files, note_line, search, &search->totals, errors))
        fail_spool(search);
    else
        result = report(search);
    if (search) {
        spool_free(search->by_id);
        spool_free(search->by_key);
        spool_free(search->by_time);
    }
    free(search);
    return result;
}
