#include "missing.h"

#include "csv.h"
#include "outcome.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1000, TIME_SIZE = 40, LOWEST_OF_SERVER = 500 };

/* The vendor tries again for 32 hours, and can be asked for 30 days to send again. */
static const char lookup_query[] =
    "select d.n, exists (select from inventory.receipts as r"
    " where r.program_identifier = d.program and r.asn_number = d.asn and r.unit_identifier = d.unit),"
    " greatest(extract(epoch from d.first + interval '32 hours' - now()), 0)::bigint,"
    " greatest(extract(epoch from d.first + interval '30 days' - now()), 0)::bigint,"
    " to_char((d.first + interval '32 hours') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
    " to_char((d.first + interval '30 days') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    " from jsonb_to_recordset($1::jsonb) as d"
    " (n integer, program text, asn text, unit text, first timestamptz, ms double precision)"
    " where not exists (select from inventory.receipts as r"
    " where r.program_identifier = d.program and r.asn_number = d.asn and r.unit_identifier = d.unit"
    " and coalesce(r.revised_at, r.received_at) >= d.first - d.ms * interval '1 ms')"
    " order by d.n";
enum { N, STORED, RETRY_S, RESEND_S, RETRY_UNTIL, RESEND_UNTIL };

/* What nginx answered by itself. */
struct span {
    char first[TIME_SIZE], last[TIME_SIZE];
    size_t count;
};

struct missing {
    json_t *failures; /* by key, in JSON: program, asn, unit, first, last, ms, request_id, attempts, final */
    struct span by_nginx;
    struct log_totals totals;
    bool only_finals; /* the second time that files are read */
    bool no_memory;
};

static void note_failure(struct missing *missing, const char *key, json_t *failure, const struct log_line *line) {
    json_int_t attempts = failure ? json_integer_value(json_object_get(failure, "attempts")) : 0;
    const char *first = failure ? json_string_value(json_object_get(failure, "first")) : line->time;
    const char *last = failure ? json_string_value(json_object_get(failure, "last")) : line->time;
    const char *final = failure ? json_string_value(json_object_get(failure, "final")) : "";
    bool is_first = !failure || strcmp(line->time, first) < 0, is_last = !failure || strcmp(line->time, last) >= 0;
    json_t *made =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:f, s:s, s:I, s:s}", "program", line->program, "asn", line->asn, "unit",
                  line->unit, "first", is_first ? line->time : first, "last", is_last ? line->time : last, "ms",
                  is_first ? strtod(line->ms, NULL) : json_number_value(json_object_get(failure, "ms")), "request_id",
                  is_last ? line->request_id : json_string_value(json_object_get(failure, "request_id")), "attempts",
                  attempts + 1, "final", final);
    if (!made || json_object_set_new(missing->failures, key, made) != 0)
        missing->no_memory = true;
}

/* A line of the service's about a delivery with a key. */
static void note_delivery(struct missing *missing, const struct log_line *line) {
    json_t *parts = json_pack("[s, s, s]", line->program, line->asn, line->unit);
    char *key = json_dumps(parts, JSON_COMPACT);
    json_t *failure = key ? json_object_get(missing->failures, key) : NULL;
    bool failed = strtol(line->status, NULL, 10) == outcomes[OUTCOME_UNAVAILABLE].status;
    bool noted = key != NULL;
    if (key && failed && !missing->only_finals)
        note_failure(missing, key, failure, line);
    else if (!failed && failure && strcmp(line->time, json_string_value(json_object_get(failure, "final"))) > 0)
        noted = json_object_set_new(failure, "final", json_string(line->time)) == 0;
    if (!noted)
        missing->no_memory = true;
    free(key);
    json_decref(parts);
}

/* A line of nginx's: its own answer, where no worker gave the same. */
static void note_nginx(struct span *span, const struct log_line *line) {
    if (strncmp(line->request, "POST /inventory_receipt", 23) != 0 ||
        strtol(line->status, NULL, 10) < LOWEST_OF_SERVER || strcmp(line->status, line->worker_status) == 0)
        return;
    if (span->count++ == 0 || strcmp(line->time, span->first) < 0)
        snprintf(span->first, sizeof span->first, "%s", line->time);
    if (strcmp(line->time, span->last) > 0)
        snprintf(span->last, sizeof span->last, "%s", line->time);
}

static void note_line(void *context, enum log_line_kind kind, const struct log_line *line) {
    struct missing *noted = context;
    if (kind == LOG_LINE_DELIVERY && *line->program && *line->asn && *line->unit)
        note_delivery(noted, line);
    else if (kind == LOG_LINE_NGINX && !noted->only_finals)
        note_nginx(&noted->by_nginx, line);
}

/*
 * Files are read twice, since they are in no order: the worker that took what was redelivered may have its lines in one
 * that was read before.
 */
static bool read_logs(struct missing *missing, char *const *files, FILE *errors) {
    struct log_totals again = {0};
    if (!log_reader_read(files, note_line, missing, &missing->totals, errors))
        return false;
    missing->only_finals = true;
    return !*files || log_reader_read(files, note_line, missing, &again, errors);
}

static int compare_first(const void *a, const void *b) {
    return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "first")),
                  json_string_value(json_object_get(*(json_t *const *)b, "first")));
}

static void write_time_left(FILE *out, long long retry_s, long long resend_s) {
    if (retry_s > 0)
        fprintf(out, "comes again by itself for %lld h %02lld min", retry_s / 3600, retry_s / 60 % 60);
    else if (resend_s > 0)
        fprintf(out, "does not come by itself; can be asked for within %lld days", resend_s / 86400 + 1);
    else
        fprintf(out, "is too old to be asked for");
}

static void write_one(const struct missing_options *options, const json_t *failure, const PGresult *result, int row,
                      FILE *out) {
    const char *program, *asn, *unit, *first, *last, *request_id;
    json_int_t attempts;
    if (json_unpack((json_t *)failure, "{s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "program", &program, "asn", &asn, "unit",
                    &unit, "first", &first, "last", &last, "request_id", &request_id, "attempts", &attempts) != 0)
        return;
    bool stored = *PQgetvalue(result, row, STORED) == 't';
    if (options->csv) {
        csv_write_text(out, program, ',');
        csv_write_text(out, asn, ',');
        csv_write_text(out, unit, ',');
        fprintf(out, "%s,%s,%lld,%s,%s,%s,%s\r\n", first, last, (long long)attempts, request_id,
                stored ? "older" : "no", PQgetvalue(result, row, RETRY_UNTIL), PQgetvalue(result, row, RESEND_UNTIL));
        return;
    }
    fprintf(out, "%s %s %s: told 503 %lld times since %s, last as %s%s; ", program, asn, unit, (long long)attempts,
            first, request_id, stored ? "; what is stored is older" : "");
    write_time_left(out, strtoll(PQgetvalue(result, row, RETRY_S), NULL, 10),
                    strtoll(PQgetvalue(result, row, RESEND_S), NULL, 10));
    fputc('\n', out);
}

/* Asks for some of them and writes those that have not come. How many, or -1. */
static long look_up(const struct missing_options *options, PGconn *connection, json_t *const *failures, size_t count,
                    FILE *out) {
    long found = -1;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *one = json_copy(failures[i]);
        json_object_set_new(one, "n", json_integer((json_int_t)i));
        json_array_append_new(list, one);
    }
    char *text = json_array_size(list) == count ? json_dumps(list, JSON_COMPACT) : NULL;
    const char *const values[] = {text};
    PGresult *result = text ? PQexecParams(connection, lookup_query, 1, NULL, values, NULL, NULL, 0) : NULL;
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        found = PQntuples(result);
        for (int row = 0; row < found; row++)
            write_one(options, failures[strtol(PQgetvalue(result, row, N), NULL, 10)], result, row, out);
    }
    PQclear(result);
    free(text);
    json_decref(list);
    return found;
}

/* Those whose last answer was 503, oldest first; *count of them. NULL for want of memory. */
static json_t **collect(json_t *failures, size_t *count) {
    json_t **list = calloc(json_object_size(failures) + 1, sizeof(json_t *));
    const char *key;
    json_t *failure;
    *count = 0;
    if (!list)
        return NULL;
    json_object_foreach(failures, key, failure) {
        if (strcmp(json_string_value(json_object_get(failure, "final")),
                   json_string_value(json_object_get(failure, "last"))) < 0)
            list[(*count)++] = failure;
    }
    qsort(list, *count, sizeof(json_t *), compare_first);
    return list;
}

PGconn *missing_connect(const struct missing_options *options, FILE *errors) {
    PGconn *connection = service_become(options->service) ? pg_connect(NULL) : NULL;
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
    if (totals->broken > 0)
        fprintf(errors,
                "receiptd: %zu lines of these logs are cut off or damaged; which deliveries they show is unknown\n",
                totals->broken);
    if (totals->dropped > 0)
        fprintf(errors,
                "receiptd: the service dropped %zu lines of these logs; which deliveries they showed is unknown\n",
                totals->dropped);
    return totals->known == 0 || totals->broken > 0 || totals->dropped > 0;
}

static enum missing_result tell(struct missing *missing, const struct missing_options *options, FILE *out,
                                FILE *errors) {
    size_t count, absent = 0;
    json_t **list = collect(missing->failures, &count);
    /* Only now: the service's user may not be allowed to read nginx's log. */
    PGconn *connection = missing_connect(options, errors);
    bool ok = list && connection;
    if (ok && options->csv)
        fprintf(out, "program_identifier,asn_number,unit_identifier,first_failed_at,last_failed_at,attempts,"
                     "request_id,stored,retried_until,can_be_resent_until\r\n");
    for (size_t first = 0; ok && first < count; first += CHUNK) {
        long found = look_up(options, connection, list + first, count - first < CHUNK ? count - first : CHUNK, out);
        ok = found >= 0;
        absent += ok ? (size_t)found : 0;
        if (!ok)
            fprintf(errors, "receiptd: PostgreSQL: %s", PQerrorMessage(connection));
    }
    PQfinish(connection);
    free(list);
    FILE *words = options->csv ? errors : out;
    if (ok)
        fprintf(words, "Missing: %zu of %zu deliveries whose last answer was 503\n", absent, count);
    if (ok && missing->by_nginx.count > 0)
        fprintf(words, "nginx answered %zu by itself, between %s and %s; whose they were is not known\n",
                missing->by_nginx.count, missing->by_nginx.first, missing->by_nginx.last);
    bool gaps = missing_report_gaps(&missing->totals, errors);
    if (!ok || fflush(out) != 0)
        return MISSING_FAILED;
    return absent > 0 ? MISSING_SOME : gaps ? MISSING_FAILED : MISSING_NONE;
}

enum missing_result missing(const struct missing_options *options, FILE *out, FILE *errors) {
    struct missing missing = {.failures = json_object()};
    enum missing_result result = MISSING_FAILED;
    bool read = missing.failures && read_logs(&missing, options->files, errors);
    if (!missing.failures || missing.no_memory)
        fprintf(errors, "receiptd: out of memory\n");
    else if (read)
        result = tell(&missing, options, out, errors);
    json_decref(missing.failures);
    return result;
}
