#include "metrics.h"

#include "clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LABELS_MAX = METRICS_LABELS_MAX,
    LABEL_MAX_BYTES = METRICS_LABEL_MAX_BYTES,
    PROGRAM_KEPT_S = 3600, /* after its last receipt, a program keeps its label for this time at least */
    CLASS_COUNT = 36 * 36, /* of SQLSTATEs: two digits or capital letters */
};

typedef atomic_uint_least64_t counter;

static void add(counter *at, uint64_t by) {
    atomic_fetch_add_explicit(at, by, memory_order_relaxed);
}

static uint64_t value_of(const counter *at) {
    return atomic_load_explicit(at, memory_order_relaxed);
}

/* Upper bounds; what is above the last one is counted by itself. */
static const double second_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
static const double row_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
enum { BOUNDS_MAX = 15 };

struct histogram {
    const double *bounds;
    size_t bound_count;
    counter in[BOUNDS_MAX + 1]; /* above the bound before, up to this one */
    counter sum;                /* in the unit of observe */
};

/* `per_unit` turns the bounds into the unit of the value. */
static void observe(struct histogram *histogram, uint64_t value, double per_unit) {
    size_t i = 0;
    while (i < histogram->bound_count && (double)value > histogram->bounds[i] * per_unit)
        i++;
    add(&histogram->in[i], 1);
    add(&histogram->sum, value);
}

/* Names that were met, each at its place for ever; the one behind the last stands for all others. */
struct labels {
    atomic_size_t count;
    pthread_mutex_t lock; /* to add one */
    char names[LABELS_MAX + 1][LABEL_MAX_BYTES + 1];
};

static size_t find_label(struct labels *labels, const char *name, size_t len) {
    if (len > LABEL_MAX_BYTES)
        return LABELS_MAX;
    size_t i = 0, count = atomic_load_explicit(&labels->count, memory_order_acquire);
    for (; i < count; i++)
        if (memcmp(labels->names[i], name, len) == 0 && labels->names[i][len] == '\0')
            return i;
    pthread_mutex_lock(&labels->lock);
    count = atomic_load(&labels->count);
    for (; i < count; i++)
        if (memcmp(labels->names[i], name, len) == 0 && labels->names[i][len] == '\0')
            break;
    if (i == count && count < LABELS_MAX) {
        memcpy(labels->names[i], name, len);
        atomic_store_explicit(&labels->count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&labels->lock);
    return i;
}

static struct labels keys = {.lock = PTHREAD_MUTEX_INITIALIZER};

static counter answers[LABELS_MAX + 1][OUTCOME_COUNT];

struct program {
    char name[LABEL_MAX_BYTES + 1];
    uint64_t created, last_s; /* how many receipts, and when the last one, since 1970; 0: none */
};

/* Senders choose the names of programs, so a label can be had again; the one behind the last stands for all others. */
static struct {
    pthread_mutex_t lock;
    struct program list[LABELS_MAX + 1];
} programs = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool is_program(const struct program *program, const char *name, size_t len) {
    return program->created > 0 && memcmp(program->name, name, len) == 0 && program->name[len] == '\0';
}

/*
 * The program with that name. If all labels are taken, a new name replaces the one with the fewest receipts, of those
 * that had none for an hour: names that somebody invents go first. Called with the lock.
 */
static struct program *find_program(const char *name, size_t len, uint64_t now_s) {
    struct program *others = &programs.list[LABELS_MAX], *found = NULL;
    if (len > LABEL_MAX_BYTES)
        return others;
    for (struct program *program = programs.list; program < others; program++) {
        if (is_program(program, name, len))
            return program;
        bool is_free = program->created == 0 || program->last_s + PROGRAM_KEPT_S < now_s;
        if (is_free && (!found || program->created < found->created))
            found = program;
    }
    if (!found)
        return others;
    *found = (struct program){.created = 0};
    memcpy(found->name, name, len);
    return found;
}

static void count_created(const struct receipt_value *name) {
    uint64_t now_s = (uint64_t)time(NULL);
    pthread_mutex_lock(&programs.lock);
    struct program *program = find_program(name->text, name->len, now_s);
    program->created++;
    program->last_s = now_s;
    pthread_mutex_unlock(&programs.lock);
}

static counter database_errors[CLASS_COUNT + 1];
static counter database_connects, database_warnings, dropped_lines, examinations, returned_versions;
static atomic_int_least64_t last_batch_us;

#define SECONDS                                                                                                        \
    { .bounds = second_bounds, .bound_count = sizeof second_bounds / sizeof second_bounds[0] }
static struct histogram whole = SECONDS, reading = SECONDS, waiting = SECONDS, storing = SECONDS;
static struct histogram batch_rows = {.bounds = row_bounds, .bound_count = sizeof row_bounds / sizeof row_bounds[0]};

static void observe_us(struct histogram *histogram, int64_t from_us, int64_t to_us) {
    observe(histogram, to_us > from_us ? (uint64_t)(to_us - from_us) : 0, US_PER_S);
}

void metrics_count_answer(const struct delivery *delivery) {
    if (delivery->is_examination) {
        add(&examinations, 1);
        return;
    }
    int64_t now_us = clock_now_us();
    add(&answers[find_label(&keys, delivery->api_key_name, strlen(delivery->api_key_name))][delivery->outcome], 1);
    observe_us(&whole, delivery->began_us, now_us);
    observe_us(&reading, delivery->began_us, delivery->arrived_us);
    if (delivery->taken_us != 0) {
        observe_us(&waiting, delivery->arrived_us, delivery->taken_us);
        observe_us(&storing, delivery->taken_us, now_us);
    }
    if (delivery->outcome == OUTCOME_CREATED)
        count_created(&delivery->receipt.values[RECEIPT_FIELD_PROGRAM_IDENTIFIER]);
}

void metrics_count_batch(size_t rows) {
    observe(&batch_rows, rows, 1);
    atomic_store_explicit(&last_batch_us, clock_now_us(), memory_order_relaxed);
}

void metrics_count_returned_version(void) {
    add(&returned_versions, 1);
}

int64_t metrics_last_batch_us(void) {
    return atomic_load_explicit(&last_batch_us, memory_order_relaxed);
}

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

void metrics_count_database_error(const char *sqlstate) {
    const char *high = *sqlstate ? strchr(digits, sqlstate[0]) : NULL;
    const char *low = high && sqlstate[1] ? strchr(digits, sqlstate[1]) : NULL;
    add(&database_errors[low ? (high - digits) * 36 + (low - digits) : CLASS_COUNT], 1);
}

void metrics_count_database_connect(void) {
    add(&database_connects, 1);
}

void metrics_count_database_warning(void) {
    add(&database_warnings, 1);
}

void metrics_count_dropped_lines(size_t lines) {
    add(&dropped_lines, lines);
}

static void write_head(struct buffer *out, const char *name, const char *type, const char *help) {
    buffer_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_gauge(struct buffer *out, const char *name, const char *help, double value) {
    write_head(out, name, "gauge", help);
    buffer_append_format(out, "%s %.16g\n", name, value);
}

static void write_counter(struct buffer *out, const char *name, const char *help, const counter *at) {
    write_head(out, name, "counter", help);
    buffer_append_format(out, "%s %llu\n", name, (unsigned long long)value_of(at));
}

/* A label's value: escaped as the format wants it. */
static void write_value(struct buffer *out, const char *value) {
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"')
            buffer_append_text(out, "\\");
        if (*c == '\n')
            buffer_append_text(out, "\\n");
        else
            buffer_append(out, c, 1);
    }
}

/* `label`, if any, as "stage=\"read\"". */
static void write_histogram(struct buffer *out, const char *name, const char *label, const struct histogram *histogram,
                            double per_unit) {
    uint64_t count = 0;
    const char *comma = *label ? "," : "";
    for (size_t i = 0; i <= histogram->bound_count; i++) {
        count += value_of(&histogram->in[i]);
        if (i < histogram->bound_count)
            buffer_append_format(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, label, comma, histogram->bounds[i],
                                 (unsigned long long)count);
    }
    buffer_append_format(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, label, comma, (unsigned long long)count);
    const char *open = *label ? "{" : "", *close = *label ? "}" : "";
    buffer_append_format(out, "%s_sum%s%s%s %.16g\n", name, open, label, close,
                         (double)value_of(&histogram->sum) / per_unit);
    buffer_append_format(out, "%s_count%s%s%s %llu\n", name, open, label, close, (unsigned long long)count);
}

static void write_answers(struct buffer *out) {
    write_head(out, "receiptd_deliveries_total", "counter", "Deliveries by answer and by the name of the API key.");
    size_t count = atomic_load(&keys.count);
    for (size_t key = 0; key <= LABELS_MAX; key++)
        for (int outcome = 0; outcome < OUTCOME_COUNT && (key < count || key == LABELS_MAX); outcome++) {
            uint64_t value = value_of(&answers[key][outcome]);
            if (value == 0)
                continue;
            buffer_append_format(out, "receiptd_deliveries_total{answer=\"%s\",key=\"", outcomes[outcome].name);
            write_value(out, key < LABELS_MAX ? keys.names[key] : "others");
            buffer_append_format(out, "\"} %llu\n", (unsigned long long)value);
        }
}

static void write_last_created(struct buffer *out) {
    write_head(out, "receiptd_last_created_timestamp_seconds", "gauge",
               "When the last receipt was created, by program.");
    pthread_mutex_lock(&programs.lock);
    for (size_t i = 0; i <= LABELS_MAX; i++) {
        const struct program *program = &programs.list[i];
        if (program->created == 0)
            continue;
        buffer_append_text(out, "receiptd_last_created_timestamp_seconds{program=\"");
        write_value(out, i < LABELS_MAX ? program->name : "others");
        buffer_append_format(out, "\"} %llu\n", (unsigned long long)program->last_s);
    }
    pthread_mutex_unlock(&programs.lock);
}

static void write_database(struct buffer *out) {
    write_head(out, "receiptd_database_errors_total", "counter",
               "Errors of PostgreSQL by the class of their SQLSTATE; connection: lost, late or none.");
    for (size_t class = 0; class <= CLASS_COUNT; class ++) {
        uint64_t value = value_of(&database_errors[class]);
        const char text[] = {digits[class / 36 % 36], digits[class % 36], '\0'};
        if (value != 0)
            buffer_append_format(out, "receiptd_database_errors_total{class=\"%s\"} %llu\n",
                                 class < CLASS_COUNT ? text : "connection", (unsigned long long)value);
    }
    write_counter(out, "receiptd_database_connects_total", "Connections to PostgreSQL that were made.",
                  &database_connects);
    write_counter(out, "receiptd_database_warnings_total",
                  "Warnings of PostgreSQL, such as those of a trigger. The log has each kind once.",
                  &database_warnings);
}

static void write_backlog(struct buffer *out, const struct metrics_gauges *gauges) {
    write_head(out, "receiptd_backlog_deliveries", "gauge", "Deliveries that wait to be stored.");
    buffer_append_format(out,
                         "receiptd_backlog_deliveries{kind=\"receipts\"} %zu\n"
                         "receiptd_backlog_deliveries{kind=\"rejected\"} %zu\n",
                         gauges->backlog_receipts, gauges->backlog_rejections);
    write_head(out, "receiptd_backlog_bytes", "gauge", "Memory that they take.");
    buffer_append_format(out,
                         "receiptd_backlog_bytes{kind=\"receipts\"} %zu\n"
                         "receiptd_backlog_bytes{kind=\"rejected\"} %zu\n",
                         gauges->backlog_receipts_bytes, gauges->backlog_rejections_bytes);
    write_gauge(out, "receiptd_backlog_deliveries_max", "RECEIPTD_QUEUE_MAX: beyond it, 503 at once.",
                (double)gauges->backlog_max);
    write_gauge(out, "receiptd_backlog_bytes_max", "RECEIPTD_QUEUE_MAX_BYTES: beyond it, 503 at once.",
                (double)gauges->backlog_max_bytes);
}

static void write_server(struct buffer *out, const struct metrics_gauges *gauges) {
    if (*gauges->host) {
        write_head(out, "receiptd_database_info", "gauge", "1; the server that the worker checked last.");
        buffer_append_text(out, "receiptd_database_info{host=\"");
        write_value(out, gauges->host);
        buffer_append_text(out, "\",port=\"");
        write_value(out, gauges->port);
        buffer_append_text(out, "\"} 1\n");
        write_gauge(out, "receiptd_database_timeline", "Its timeline, which each failover raises.", gauges->timeline);
        write_gauge(out, "receiptd_synchronous_standbys", "How many standbys a commit waits for.", gauges->standbys);
        write_gauge(out, "receiptd_commits_waiting", "Commits that have waited for a standby for a second or longer.",
                    gauges->waiting);
        write_gauge(out, "receiptd_fields_without_column",
                    "Fields that this program knows and the table receipts lacks: their values go into extra.",
                    (double)gauges->fields_without_column);
    }
    write_gauge(out, "receiptd_standstill_seconds",
                "How long deliveries have waited, or got 503, while none was stored; 0 while they are stored.",
                gauges->standstill_s);
}

static void write_silences(struct buffer *out, const struct metrics_silences *silences) {
    write_head(out, "receiptd_silence_usual_units", "gauge",
               "Units that usually come in the time that nothing has come for, by warehouse and program.");
    for (size_t i = 0; i < silences->count; i++) {
        buffer_append_text(out, "receiptd_silence_usual_units{program=\"");
        write_value(out, silences->of[i].program);
        buffer_append_format(out, "\",warehouse=\"%lld\"} %.16g\n", (long long)silences->of[i].warehouse,
                             silences->of[i].usual_units);
    }
}

static double resident_bytes(void) {
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "re"); /* proc(5): size resident … */
    if (!file)
        return 0;
    const char *resident = fgets(text, sizeof text, file) ? strchr(text, ' ') : NULL;
    fclose(file);
    return resident ? (double)strtoull(resident, NULL, 10) * (double)sysconf(_SC_PAGESIZE) : 0;
}

void metrics_write(struct buffer *out, const struct metrics_gauges *gauges) {
    write_answers(out);
    write_head(out, "receiptd_delivery_seconds", "histogram", "Time from the first byte of a request to its answer.");
    write_histogram(out, "receiptd_delivery_seconds", "", &whole, US_PER_S);
    write_head(
        out, "receiptd_stage_seconds", "histogram",
        "The parts of it. read: until the request is whole; wait: until a batch has it; store: until its answer.");
    write_histogram(out, "receiptd_stage_seconds", "stage=\"read\"", &reading, US_PER_S);
    write_histogram(out, "receiptd_stage_seconds", "stage=\"wait\"", &waiting, US_PER_S);
    write_histogram(out, "receiptd_stage_seconds", "stage=\"store\"", &storing, US_PER_S);
    write_head(out, "receiptd_batch_rows", "histogram", "Deliveries that were stored by one commit.");
    write_histogram(out, "receiptd_batch_rows", "", &batch_rows, 1);
    write_counter(
        out, "receiptd_returned_versions_total",
        "Revisions that returned a receipt to what it was before: changes back, or old deliveries that were late.",
        &returned_versions);
    write_last_created(out);
    write_backlog(out, gauges);
    write_gauge(out, "receiptd_connections", "Connections of the web server's.", (double)gauges->connections);
    write_database(out);
    write_server(out, gauges);
    write_counter(out, METRICS_EXAMINATIONS, "Requests of receiptd doctor, which are no deliveries.", &examinations);
    write_counter(out, "receiptd_log_lines_dropped_total", "Lines that the log had no room for.", &dropped_lines);
    if (gauges->unresolved_rejections >= 0)
        write_gauge(out, "receiptd_unresolved_rejections",
                    "Rejected deliveries that are open; identical ones count once.",
                    (double)gauges->unresolved_rejections);
    if (gauges->totals_counted_at >= 0)
        write_gauge(out, "receiptd_totals_counted_timestamp_seconds",
                    "When the totals of the reports were counted last; 0: they are not.", gauges->totals_counted_at);
    write_silences(out, &gauges->silences);
    write_gauge(out, "receiptd_ready", "1 while /receiptd/ready says yes.", gauges->ready ? 1 : 0);
    write_gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes());
    write_head(out, "receiptd_info", "gauge", "1; what runs, and which schema it found and needs at the least.");
    buffer_append_text(out, "receiptd_info{version=\"" RECEIPTD_VERSION "\"");
    if (gauges->schema >= 0)
        buffer_append_format(out, ",schema=\"%d\"", gauges->schema);
    buffer_append_format(out, ",schema_needed=\"%d\"} 1\n", gauges->schema_needed);
}
