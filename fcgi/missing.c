#include "missing.h"

#include "buffer.h"
#include "failure.h"
#include "outcome.h"
#include "progress.h"
#include "receipt.h"
#include "spool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    CHUNK = 1000,
    STATUS_MAX = 599,
    SERVER_ERROR = 500, /* and above: the sender retries */
    BAD_GATEWAY = 502,
    GATEWAY_TIMEOUT = 504,
};

/* What a line shows. Deliveries of which no line has the key are counted: which they were is not known. */
enum kind {
    KIND_FAILED = 0, /* 503 */
    KIND_UNCHANGED,  /* which leaves no trace in the database */
    KIND_NO_KEY,     /* 503, and the key was not read */
    KIND_CUT_KEY,    /* 503, and the key is longer than the line shows */
    KIND_TOO_LARGE,  /* 413, which is never retried and kept nowhere */
    KIND_BY_NGINX,   /* what nginx answered itself */
    KIND_COUNT,
};

static const char *const unknown_words[KIND_COUNT] = {
    [KIND_NO_KEY] = "deliveries got 503 before their key was read",
    [KIND_CUT_KEY] = "deliveries got 503 and have a key that is too long for the log",
    [KIND_TOO_LARGE] = "deliveries were too large (413), which are not retried",
    [KIND_BY_NGINX] = "requests were answered by nginx itself, which does not know the key",
};

/* Of a line; sorted by key and request id, or, if the key is unknown, by kind and request id. */
struct record {
    uint64_t hash; /* of the key: most comparisons need no more */
    int64_t at_ms;
    unsigned char id[REQUEST_ID_BYTES];
    short status;
    unsigned char kind;
    char key[FAILURE_KEY_SIZE]; /* program, ASN, unit */
};

struct unknown {
    size_t count;
    int64_t first_ms, last_ms;
    size_t by_status[STATUS_MAX + 1];
};

struct search {
    const struct missing_options *options;
    FILE *out, *errors;
    struct log_totals totals;
    struct spool *lines, *missing;
    struct unknown unknown[KIND_COUNT];
    PGconn *connection;
    struct progress progress;
    size_t failures, missing_count;
    size_t chunk_count;
    struct failure chunk[CHUNK];
};

/*
 * A delivery that was stored after it had failed is the row's newest version, or has revised it at some time. One that
 * was rejected for good is kept as well. "again": it was found unchanged since, so it suffices that there is a row.
 */
static const char lookup_query[] =
    "select d.n, r.request_id is not null"
    " from jsonb_to_recordset($1::jsonb) as d"
    " (n integer, program text, asn text, unit text, id uuid, ms bigint, again boolean)"
    " left join inventory.receipts as r"
    " on r.program_identifier = d.program and r.asn_number = d.asn and r.unit_identifier = d.unit"
    " where (r.request_id is null or (d.again"
    " or coalesce(r.revised_at, r.received_at) >= to_timestamp(d.ms / 1000.0)"
    " or d.id in (r.request_id, r.revised_request_id)"
    " or r.revision > 1 and inventory.has_revised(d.id, d.program, d.asn, d.unit)) is not true)"
    " and not exists (select from inventory.rejected_receipts as k"
    " where k.program_identifier = d.program and k.asn_number = d.asn and k.unit_identifier = d.unit"
    " and k.last_received_at >= to_timestamp(d.ms / 1000.0))"
    " order by d.n";

/* FNV-1a. */
static uint64_t hash_of(const char *bytes, size_t len) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    return hash;
}

static int compare_numbers(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

static bool has_key(const struct record *record) {
    return record->kind == KIND_FAILED || record->kind == KIND_UNCHANGED;
}

static int compare_groups(const struct record *a, const struct record *b) {
    if (has_key(a) != has_key(b))
        return has_key(a) ? 1 : -1;
    if (!has_key(a))
        return compare_numbers(a->kind, b->kind);
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return failure_compare_keys(a->key, b->key);
}

static int compare_records(const void *a, const void *b) {
    const struct record *record_a = a, *record_b = b;
    int order = compare_groups(record_a, record_b);
    return order ? order : memcmp(record_a->id, record_b->id, REQUEST_ID_BYTES);
}

static bool is_path_of_receipts(const char *request) {
    static const char post[] = "POST /inventory_receipt";
    size_t len = sizeof post - 1;
    return strncmp(request, post, len) == 0 && (!request[len] || strcmp(request + len, "/") == 0);
}

/*
 * nginx also takes other spellings of the URL, such as "//inventory_receipt", and logs "-" if the URL has a host.
 * Final answers to these are not counted: the URL was wrong, or it was no HTTP.
 */
static bool is_other_spelling(const struct log_line *line) {
    static const char post[] = "POST ", path[] = "/inventory_receipt";
    const char *request = line->request;
    size_t len = strcspn(request, "#"), path_len = sizeof path - 1;
    while (len > 0 && request[len - 1] == '/')
        len--;
    bool is_spelling = strncmp(request, post, sizeof post - 1) == 0 && len >= sizeof post - 1 + path_len &&
                       strncasecmp(request + len - path_len, path, path_len) == 0;
    return (is_spelling || strcmp(request, "-") == 0) &&
           (line->status_number >= SERVER_ERROR || line->status_number == outcomes[OUTCOME_TOO_LARGE].status);
}

/*
 * Whether nginx answered by itself. Its log lists the statuses of the workers that it tried, of which the last one
 * answered; 502 and 504 among them are its own words for a worker that did not. A 401 is no delivery of the sender's.
 */
static bool is_by_nginx(const struct log_line *line) {
    const char *last = line->worker_status + strlen(line->worker_status);
    while (last > line->worker_status && last[-1] != ' ')
        last--;
    long worker = strtol(last, NULL, 10);
    bool answered = worker != 0 && worker != BAD_GATEWAY && worker != GATEWAY_TIMEOUT;
    return (is_path_of_receipts(line->request) || is_other_spelling(line)) && !answered &&
           line->status_number >= outcomes[OUTCOME_MALFORMED].status &&
           line->status_number != outcomes[OUTCOME_UNAUTHORIZED].status;
}

/* What a line shows; KIND_COUNT: nothing of interest. */
static enum kind find_kind(enum log_line_kind kind, const struct log_line *line) {
    if (kind == LOG_LINE_NGINX)
        return is_by_nginx(line) ? KIND_BY_NGINX : KIND_COUNT;
    if (line->status_number == outcomes[OUTCOME_TOO_LARGE].status)
        return KIND_TOO_LARGE;
    if (line->status_number != outcomes[OUTCOME_UNAVAILABLE].status)
        return strcmp(line->result, outcomes[OUTCOME_UNCHANGED].result) == 0 ||
                       strcmp(line->result, outcomes[OUTCOME_SUPERSEDED].result) == 0
                   ? KIND_UNCHANGED
                   : KIND_COUNT;
    if (*line->cut)
        return KIND_CUT_KEY;
    return *line->program && *line->asn && *line->unit ? KIND_FAILED : KIND_NO_KEY;
}

static bool note_line(void *context, enum log_line_kind line_kind, const struct log_line *line) {
    struct search *search = context;
    enum kind kind = find_kind(line_kind, line);
    struct record record;
    size_t len = 0;
    if (kind == KIND_COUNT || line->status_number > STATUS_MAX)
        return true;
    record.kind = (unsigned char)kind;
    record.status = (short)line->status_number;
    record.at_ms = line->at_ms;
    record.hash = 0;
    memcpy(record.id, line->id, REQUEST_ID_BYTES);
    if (has_key(&record) && (len = failure_set_key(record.key, line)) == 0) {
        search->totals.broken++;
        return true;
    }
    record.hash = hash_of(record.key, len);
    return spool_add(search->lines, &record, offsetof(struct record, key) + len);
}

static void fail_spool(struct search *search) {
    progress_clear(&search->progress);
    fprintf(search->errors, "receiptd: temporary file: %s; set TMPDIR to a folder with more room\n", strerror(errno));
}

static void append_json(struct buffer *json, size_t n, const struct failure *failure) {
    buffer_append_format(json, "%s{\"n\":%zu,\"ms\":%" PRId64 ",\"again\":%s,", n > 0 ? "," : "[", n, failure->last_ms,
                         failure->unchanged_ms >= failure->last_ms ? "true" : "false");
    failure_append_id_and_key(json, failure->last_id, failure->key);
    buffer_append_text(json, "}");
}

PGresult *missing_look_up(PGconn *connection, const char *query, struct buffer *json, struct progress *progress,
                          FILE *errors) {
    buffer_append(json, "]", 2); /* with its NUL */
    const char *const values[] = {json->data};
    PGresult *result = json->failed ? NULL : PQexecParams(connection, query, 1, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    progress_clear(progress);
    fprintf(errors, "receiptd: %s%s",
            json->failed ? "" : "PostgreSQL: ", json->failed ? "out of memory\n" : PQerrorMessage(connection));
    PQclear(result);
    return NULL;
}

/* Takes over those of the chunk that are not in the database. */
static bool look_up(struct search *search) {
    struct buffer json;
    buffer_init(&json);
    for (size_t n = 0; n < search->chunk_count; n++)
        append_json(&json, n, &search->chunk[n]);
    PGresult *result = missing_look_up(search->connection, lookup_query, &json, &search->progress, search->errors);
    bool ok = result != NULL;
    for (int row = 0; ok && row < PQntuples(result); row++) {
        struct failure *failure = &search->chunk[strtoul(PQgetvalue(result, row, 0), NULL, 10)];
        failure->stored = *PQgetvalue(result, row, 1) == 't';
        ok = spool_add(search->missing, failure, offsetof(struct failure, key) + failure_key_len(failure->key));
        search->missing_count += ok;
    }
    if (result && !ok)
        fail_spool(search);
    search->failures += search->chunk_count;
    progress_show(&search->progress, "comparing with the database:", search->failures, 0, PROGRESS_DELIVERIES);
    PQclear(result);
    buffer_fini(&json);
    search->chunk_count = 0;
    return ok;
}

/* All records of a key, one after the other: what is known of it is in the chunk's last place. */
static void add_to_failure(struct failure *failure, const struct record *record, bool is_repeated) {
    if (record->kind == KIND_UNCHANGED) {
        failure->unchanged_ms = record->at_ms > failure->unchanged_ms ? record->at_ms : failure->unchanged_ms;
        return;
    }
    failure->attempts += !is_repeated;
    failure->first_ms = record->at_ms < failure->first_ms ? record->at_ms : failure->first_ms;
    if (record->at_ms >= failure->last_ms) {
        failure->last_ms = record->at_ms;
        memcpy(failure->last_id, record->id, REQUEST_ID_BYTES);
    }
}

static void begin_failure(struct failure *failure, const struct record *record) {
    *failure = (struct failure){.first_ms = INT64_MAX, .last_ms = INT64_MIN, .unchanged_ms = INT64_MIN};
    memcpy(failure->key, record->key, failure_key_len(record->key));
}

static void count_unknown(struct unknown *unknown, const struct record *record) {
    if (unknown->count++ == 0 || record->at_ms < unknown->first_ms)
        unknown->first_ms = record->at_ms;
    if (unknown->count == 1 || record->at_ms > unknown->last_ms)
        unknown->last_ms = record->at_ms;
    unknown->by_status[record->status]++;
}

/* Goes through the records, key by key. A line that is in two logs is one delivery. */
static bool compare(struct search *search) {
    const struct record *record;
    struct record last = {.kind = KIND_COUNT};
    bool ok = spool_sort(search->lines);
    while (ok && (record = spool_next(search->lines))) {
        bool same_group = last.kind != KIND_COUNT && compare_groups(&last, record) == 0;
        bool is_repeated = same_group && memcmp(last.id, record->id, REQUEST_ID_BYTES) == 0;
        struct failure *failure = &search->chunk[search->chunk_count];
        if (!has_key(record)) {
            if (!is_repeated)
                count_unknown(&search->unknown[record->kind], record);
        } else if (same_group) {
            add_to_failure(failure, record, is_repeated);
        } else {
            /* The key before this one has ended; if all of its lines are "unchanged", it never failed. */
            if (has_key(&last) && failure->attempts > 0 && ++search->chunk_count == CHUNK && !look_up(search))
                return false;
            begin_failure(&search->chunk[search->chunk_count], record);
            add_to_failure(&search->chunk[search->chunk_count], record, false);
        }
        memcpy(&last, record, offsetof(struct record, key));
        memcpy(last.key, record->key, has_key(record) ? failure_key_len(record->key) : 0);
    }
    if (!ok || spool_failed(search->lines)) {
        fail_spool(search);
        return false;
    }
    search->chunk_count += has_key(&last) && search->chunk[search->chunk_count].attempts > 0;
    return search->chunk_count == 0 || look_up(search);
}

static bool write_missing(struct search *search) {
    const struct failure *failure;
    struct buffer line;
    bool ok = spool_sort(search->missing);
    buffer_init(&line);
    if (search->options->csv)
        failure_write_names(search->out);
    while (ok && !line.failed && (failure = spool_next(search->missing))) {
        line.len = 0;
        (search->options->csv ? failure_write_row : failure_write_text)(search->out, &line, failure,
                                                                        &search->options->retries);
    }
    ok = ok && !line.failed && !spool_failed(search->missing);
    buffer_fini(&line);
    if (!ok)
        fail_spool(search);
    return ok;
}

/* "502: 10, 504: 2" */
static void write_statuses(const struct unknown *unknown, FILE *errors) {
    const char *separator = "";
    for (int status = 0; status <= STATUS_MAX; status++)
        if (unknown->by_status[status] > 0) {
            fprintf(errors, "%s%d: %zu", separator, status, unknown->by_status[status]);
            separator = ", ";
        }
}

static bool report_unknown(const struct search *search) {
    bool gaps = missing_report_gaps(&search->totals, search->errors);
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        const struct unknown *unknown = &search->unknown[kind];
        char first[LOG_TIME_SIZE], last[LOG_TIME_SIZE];
        if (unknown->count == 0)
            continue;
        gaps = true;
        fprintf(search->errors, "receiptd: %zu %s", unknown->count, unknown_words[kind]);
        if (kind == KIND_BY_NGINX) {
            fputs(" (", search->errors);
            write_statuses(unknown, search->errors);
            fputs(")", search->errors);
        }
        fprintf(search->errors, ", from %s to %s\n", log_line_format_time(first, unknown->first_ms),
                log_line_format_time(last, unknown->last_ms));
    }
    const char *level = getenv("RECEIPTD_LOG_LEVEL");
    if (level && strcmp(level, "error") == 0) {
        fprintf(search->errors, "receiptd: RECEIPTD_LOG_LEVEL=error leaves deliveries that get 503 out of the logs\n");
        gaps = true;
    }
    return gaps;
}

PGconn *missing_connect(const struct missing_options *options, FILE *errors) {
    PGconn *connection = service_become(options->service) ? pg_connect_to_latest() : NULL;
    if (connection && PQstatus(connection) == CONNECTION_OK)
        return connection;
    fprintf(errors, "receiptd: PostgreSQL: %s",
            connection ? PQerrorMessage(connection) : "no connection as " SERVICE_USER "\n");
    PQfinish(connection);
    return NULL;
}

bool missing_report_gaps(const struct log_totals *totals, FILE *errors) {
    if (totals->known == 0)
        fprintf(errors, "receiptd: these logs are empty\n");
    if (totals->unreadable > 0)
        fprintf(errors, "receiptd: %zu files could not be read completely\n", totals->unreadable);
    if (totals->broken > 0)
        fprintf(errors,
                "receiptd: %zu lines of these logs are cut off or damaged; which deliveries they show is unknown\n",
                totals->broken);
    if (totals->dropped > 0)
        fprintf(errors, "receiptd: %zu lines of these logs were dropped; which deliveries they showed is unknown\n",
                totals->dropped);
    return totals->known == 0 || totals->unreadable > 0 || totals->broken > 0 || totals->dropped > 0;
}

static enum missing_result report(struct search *search) {
    /* Only now: the service's user may not be allowed to read nginx's log. */
    search->connection = missing_connect(search->options, search->errors);
    bool ok = search->connection && compare(search);
    PQfinish(search->connection);
    progress_clear(&search->progress);
    if (!ok || !write_missing(search))
        return MISSING_FAILED;
    fprintf(search->options->csv ? search->errors : search->out, "Missing: %zu of %zu deliveries that got 503\n",
            search->missing_count, search->failures);
    if (fflush(search->out) != 0)
        return MISSING_FAILED;
    bool gaps = report_unknown(search);
    if (gaps)
        fprintf(search->errors, "receiptd: so %s may be missing\n", search->missing_count > 0 ? "more" : "deliveries");
    return search->missing_count > 0 ? MISSING_SOME : gaps ? MISSING_UNKNOWN : MISSING_NONE;
}

enum missing_result missing(const struct missing_options *options, FILE *out, FILE *errors) {
    struct search *search = calloc(1, sizeof *search);
    enum missing_result result = MISSING_FAILED;
    if (search) {
        search->options = options;
        search->out = out;
        search->errors = errors;
        search->lines = spool_new(MISSING_SPOOL_BYTES, compare_records);
        search->missing = spool_new(MISSING_SPOOL_BYTES, failure_compare);
        progress_start(&search->progress, errors);
    }
    if (!search || !search->lines || !search->missing)
        fprintf(errors, "receiptd: out of memory\n");
    else if (!log_reader_read(options->files, note_line, search, &search->totals, errors))
        fail_spool(search);
    else
        result = report(search);
    if (search) {
        spool_free(search->lines);
        spool_free(search->missing);
    }
    free(search);
    return result;
}
