#include "probe.h"

#include "clock.h"
#include "log.h"
#include "pg.h"
#include "wire.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INTERVAL_US = 5 * US_PER_S,
    VISIT_US = US_PER_S,
    ANSWER_US = 5 * US_PER_S,  /* how long it waits for an answer */
    REPORT_US = 60 * US_PER_S, /* how often it asks for figures */
};

struct probe {
    struct database *database;
    struct session *session;
    struct inspection last; /* what it found last; as the next, the thread's own */
    bool inspected;
    size_t visited; /* the host that was visited last */
    pthread_t thread;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t stopped;
    bool stopping;
    bool has_totals; /* the schema counts for reports, and tells of silences */
    struct probe_findings findings;
};

/*
 * A commit that waits is seen by its role (PostgreSQL: pg_stat_activity). The function under that view, since some
 * revoke the view from everyone.
 */
static const char look_query[] =
    "select " PROBE_SCHEMA_VERSION ", exists (select from pg_catalog.pg_proc join pg_catalog.pg_namespace"
    " as n on n.oid = pronamespace where nspname = 'inventory' and proname = 'silences'), count(*)::integer,"
    " coalesce(extract(epoch from max(now() - state_change)), 0)::integer from pg_catalog.pg_stat_get_activity(null)"
    " where usesysid = current_user::regrole and wait_event = 'SyncRep' and state_change < now() - interval '1 second'";
/* What the first marks, the second need not look up. */
static const char mark_query[] = "select inventory.mark_superseded()";
static const char open_query[] = "select count(*) from inventory.open_rejections";
/* Each open rejection is looked up, which takes some 15 µs. Of hundreds of thousands, it is more than a statement has.
 */
static const char unresolved_query[] = "select count(*) from inventory.rejected_receipts where resolved_at is null";
static const char counted_query[] =
    "select coalesce(extract(epoch from inventory.totals_counted_at())::double precision, 0)";
static const char silences_query[] = "select program_identifier, to_identifier, usual_units from inventory.silences()";

static bool run(struct probe *probe, const char *sql, PGresult **result) {
    static const struct session_parameters none = {0};
    int64_t deadline_us = clock_now_us() + ANSWER_US;
    bool is_new;
    return session_connect(probe->session, INSPECTION_ALL, deadline_us, &is_new) &&
           session_run(probe->session, NULL, sql, &none, deadline_us, result) == STORE_OK;
}

static unsigned small_of(const PGresult *result, int column) {
    uint32_t value;
    memcpy(&value, PQgetvalue(result, 0, column), sizeof value);
    return be32toh(value);
}

/* Tells the sessions, and the log, what has changed since the last time. */
static void note_changes(struct probe *probe) {
    const struct inspection *now = session_inspection(probe->session), *last = &probe->last;
    if (probe->inspected && !inspection_equal(now, last)) {
        atomic_fetch_add(&probe->database->changes, 1);
        if (now->timeline != last->timeline || now->standbys != last->standbys)
            log_message(LOG_INFO, "PostgreSQL has changed: host=%s port=%s timeline=%u standbys=%u",
                        session_host(probe->session), session_port(probe->session), now->timeline, now->standbys);
    }
    probe->last = *now;
    probe->inspected = true;
}

/* Connects, or inspects over the connection that there is; and notes what that found. */
static bool inspect(struct probe *probe) {
    struct session *session = probe->session;
    int64_t deadline_us = clock_now_us() + ANSWER_US;
    bool is_new, ok = session_connect(session, INSPECTION_ALL, deadline_us, &is_new) &&
                      (is_new || session_inspect(session, INSPECTION_ALL, deadline_us));
    const struct inspection *found = session_inspection(session);
    struct probe_findings *findings = &probe->findings;
    if (ok || session_is_unfit(session))
        note_changes(probe);
    pthread_mutex_lock(&probe->lock);
    findings->unfit = !ok && session_is_unfit(session);
    findings->problem[0] = '\0';
    if (!ok)
        snprintf(findings->problem, sizeof findings->problem, "%s",
                 *session_detail(session) ? session_detail(session) : session_failure(session));
    if (ok || findings->unfit) {
        findings->answered_us = clock_now_us();
        findings->takes_writes = found->takes_writes;
        findings->timeline = found->timeline;
        findings->standbys = found->standbys;
        findings->columns = found->columns;
        snprintf(findings->host, sizeof findings->host, "%s", session_host(session));
        snprintf(findings->port, sizeof findings->port, "%s", session_port(session));
    }
    pthread_mutex_unlock(&probe->lock);
    return ok;
}

static const char visit_query[] = "select " PG_SYSTEM_IDENTIFIER ", " PG_TIMELINE;

/*
 * Looks for a newer primary at one of the hosts that this worker is not connected to: the old one may accept writes for
 * as long as it does not know that it was replaced, and what it commits then is lost. With the others, libpq does not
 * even connect, since they accept no writes.
 */
static void visit_another_host(struct probe *probe) {
    struct hosts *hosts = probe->database->hosts;
    PGresult *result = NULL;
    probe->visited = (probe->visited + 1) % hosts_count(hosts);
    if (hosts_count(hosts) == 1 || !probe->inspected || probe->visited == session_host_index(probe->session))
        return;
    PGconn *connection = pg_connect_to(hosts, probe->visited);
    if (PQstatus(connection) == CONNECTION_OK && PQsetnonblocking(connection, 1) == 0 &&
        PQsendQuery(connection, visit_query))
        result = wire_wait(connection, clock_now_us() + VISIT_US);
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        uint64_t cluster = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
        uint32_t timeline = (uint32_t)strtoul(PQgetvalue(result, 0, 1), NULL, 10);
        if (timeline > 0)
            hosts_note_timeline(hosts, cluster, timeline);
        if (cluster == probe->last.system_identifier && timeline > probe->last.timeline) {
            log_message(LOG_WARNING, "PostgreSQL: host=%s port=%s is primary on timeline %u, later than %u of host=%s",
                        PQhost(connection), PQport(connection), timeline, probe->last.timeline,
                        session_host(probe->session));
            atomic_fetch_add(&probe->database->changes, 1);
        }
    }
    PQclear(result);
    PQfinish(connection);
}

static void look(struct probe *probe) {
    PGresult *result;
    visit_another_host(probe);
    if (!inspect(probe) || !run(probe, look_query, &result))
        return;
    pthread_mutex_lock(&probe->lock);
    probe->findings.answered_us = clock_now_us();
    probe->findings.schema = (int)small_of(result, 0);
    probe->has_totals = *PQgetvalue(result, 0, 1);
    probe->findings.waiting = small_of(result, 2);
    probe->findings.waiting_s = small_of(result, 3);
    atomic_store(&probe->database->commit_waits, probe->findings.waiting > 0);
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
    bool marked = run(probe, mark_query, &result);
    if (marked)
        PQclear(result);
    if (!(marked && run(probe, open_query, &result)) && !run(probe, unresolved_query, &result))
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

struct probe *probe_start(struct database *database) {
    struct probe *probe = calloc(1, sizeof *probe);
    if (!probe)
        return NULL;
    probe->findings = (struct probe_findings){.schema = -1, .unresolved = -1, .totals_counted_at = -1};
    probe->database = database;
    probe->session = session_new(database);
    pthread_mutex_init(&probe->lock, NULL);
    clock_init_condition(&probe->stopped);
    int error = probe->session ? pthread_create(&probe->thread, NULL, run_probe, probe) : ENOMEM;
    if (error != 0) {
        session_free(probe->session);
        free(probe);
        errno = error;
        return NULL;
    }
    pthread_setname_np(probe->thread, "probe");
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
