#include "probe.h"

#include "clock.h"
#include "session.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    INTERVAL_US = 5 * US_PER_S,
    ANSWER_US = 5 * US_PER_S,  /* how long it waits for an answer */
    REPORT_US = 60 * US_PER_S, /* how often it asks for figures */
};

struct probe {
    struct session *session;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t stopped;
    bool stopping;
    bool has_totals; /* the schema counts for reports, and tells of silences */
    struct probe_findings findings;
};

static const char look_query[] =
    "select " PROBE_SCHEMA_VERSION ", not pg_is_in_recovery() and not current_setting('transaction_read_only')::boolean"
    ", to_regprocedure('inventory.silences()') is not null";
static const char unresolved_query[] = "select count(*) from inventory.rejected_receipts where resolved_at is null";
static const char counted_query[] =
    "select coalesce(extract(epoch from inventory.totals_counted_at())::double precision, 0)";
static const char silences_query[] = "select program_identifier, to_identifier, usual_units from inventory.silences()";

static bool run(struct probe *probe, const char *sql, PGresult **result) {
    static const struct session_parameters none = {0};
    int64_t deadline_us = clock_now_us() + ANSWER_US;
    bool is_new;
    return session_connect(probe->session, deadline_us, &is_new) &&
           session_run(probe->session, NULL, sql, &none, deadline_us, result) == STORE_OK;
}

static void look(struct probe *probe) {
    PGresult *result;
    uint32_t schema;
    if (!run(probe, look_query, &result))
        return;
    memcpy(&schema, PQgetvalue(result, 0, 0), sizeof schema);
    pthread_mutex_lock(&probe->lock);
    probe->findings.answered_us = clock_now_us();
    probe->findings.schema = (int)be32toh(schema);
    probe->findings.takes_writes = *PQgetvalue(result, 0, 1);
    probe->has_totals = *PQgetvalue(result, 0, 2);
    pthread_mutex_unlock(&probe->lock);
    PQclear(result);
}

static uint64_t binary_of(const PGresult *result, int row, int column) {
    uint64_t value;
    memcpy(&value, PQgetvalue(result, row, column), sizeof value);
    return be64toh(value);
}

static void count_unresolved(struct probe *probe) {
    PGresult *result;
    if (!run(probe, unresolved_query, &result))
        return;
    pthread_mutex_lock(&probe->lock);
    probe->findings.unresolved = (int64_t)binary_of(result, 0, 0);
    pthread_mutex_unlock(&probe->lock);
    PQclear(result);
}

static void find_counted(struct probe *probe) {
    PGresult *result;
    if (!probe->has_totals || !run(probe, counted_query, &result))
        return;
    uint64_t counted_at = binary_of(result, 0, 0); /* the bits of a double */
    pthread_mutex_lock(&probe->lock);
    memcpy(&probe->findings.totals_counted_at, &counted_at, sizeof counted_at);
    pthread_mutex_unlock(&probe->lock);
    PQclear(result);
}

static void find_silences(struct probe *probe) {
    struct metrics_silences found = {0};
    PGresult *result;
    if (!probe->has_totals || !run(probe, silences_query, &result))
        return;
    for (int row = 0; row < PQntuples(result) && row < METRICS_LABELS_MAX; row++) {
        struct metrics_silence *silence = &found.of[found.count];
        size_t len = (size_t)PQgetlength(result, row, 0);
        uint64_t units = binary_of(result, row, 2); /* the bits of a double */
        if (len > METRICS_LABEL_MAX_BYTES)
            continue;
        memcpy(silence->program, PQgetvalue(result, row, 0), len);
        silence->warehouse = (int64_t)binary_of(result, row, 1);
        memcpy(&silence->usual_units, &units, sizeof units);
        found.count++;
    }
    pthread_mutex_lock(&probe->lock);
    probe->findings.silences = found;
    pthread_mutex_unlock(&probe->lock);
    PQclear(result);
}

static void *run_probe(void *argument) {
    struct probe *probe = argument;
    int64_t report_us = 0;
    pthread_mutex_lock(&probe->lock);
    while (!probe->stopping) {
        pthread_mutex_unlock(&probe->lock);
        look(probe);
        if (clock_now_us() >= report_us) {
            count_unresolved(probe);
            find_counted(probe);
            find_silences(probe);
            report_us = clock_now_us() + REPORT_US;
        }
        const struct timespec until = clock_timespec(clock_now_us() + INTERVAL_US);
        pthread_mutex_lock(&probe->lock);
        while (!probe->stopping && pthread_cond_timedwait(&probe->stopped, &probe->lock, &until) != ETIMEDOUT)
            ;
    }
    pthread_mutex_unlock(&probe->lock);
    return NULL;
}

struct probe *probe_start(void) {
    struct probe *probe = calloc(1, sizeof *probe);
    if (!probe)
        return NULL;
    probe->findings = (struct probe_findings){.schema = -1, .unresolved = -1, .totals_counted_at = -1};
    probe->session = session_new();
    pthread_mutex_init(&probe->lock, NULL);
    clock_init_condition(&probe->stopped);
    int error = probe->session ? pthread_create(&probe->thread, NULL, run_probe, probe) : ENOMEM;
    if (error != 0) {
        session_free(probe->session);
        free(probe);
        errno = error;
        return NULL;
    }
    return probe;
}

void probe_stop(struct probe *probe) {
    if (!probe)
        return;
    pthread_mutex_lock(&probe->lock);
    probe->stopping = true;
    pthread_cond_signal(&probe->stopped);
    pthread_mutex_unlock(&probe->lock);
    pthread_join(probe->thread, NULL);
    session_free(probe->session);
    pthread_cond_destroy(&probe->stopped);
    pthread_mutex_destroy(&probe->lock);
    free(probe);
}

void probe_read(struct probe *probe, struct probe_findings *findings) {
    pthread_mutex_lock(&probe->lock);
    *findings = probe->findings;
    pthread_mutex_unlock(&probe->lock);
}
