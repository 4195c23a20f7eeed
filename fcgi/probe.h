/*
 * Checks the database every few seconds, over a connection of its own: whether it answers, accepts writes and is fit to
 * store in (inspection.h), where in a cluster it is, whether commits wait for a standby, which schema it has, how many
 * rejected deliveries are not resolved, and where nothing arrives though it usually does. When something has changed
 * that the sessions depend on, they are told (database.h). No delivery waits for it.
 *
 * Threads: it has one of its own; probe_read from any.
 */
#ifndef RECEIPTD_PROBE_H
#define RECEIPTD_PROBE_H

#include "metrics.h"
#include "session.h"

#include <stdbool.h>
#include <stdint.h>

enum { PROBE_NAME_SIZE = 256 };

/* An expression for the schema's version; 0 without one. The function's body is "select N". */
#define PROBE_SCHEMA_VERSION                                                                                           \
    "coalesce((select substring(prosrc from '[0-9]+')::integer from pg_catalog.pg_proc join pg_catalog.pg_namespace"   \
    " as n on n.oid = pronamespace where nspname = 'inventory' and proname = 'schema_version'), 0)"

struct probe_findings {
    int64_t answered_us; /* CLOCK_MONOTONIC, when it last answered; 0: never */
    bool takes_writes, unfit;
    char problem[SESSION_DETAIL_SIZE];    /* why it does not answer, or is unfit */
    char host[PROBE_NAME_SIZE], port[16]; /* where it answered last; "" : nowhere yet */
    unsigned timeline, standbys;          /* as in struct inspection */
    unsigned waiting;   /* commits of the service's role that have waited for a standby for a second or longer */
    unsigned waiting_s; /* how long the first of them has waited */
    struct receipt_columns columns;
    int schema;               /* 0: one without a version; -1: not known yet */
    int64_t unresolved;       /* rejected deliveries; -1: not known yet */
    double totals_counted_at; /* inventory.totals_counted_at(), in seconds since 1970; 0: never; -1: not known yet */
    struct metrics_silences silences;
};

struct probe;

/* NULL, with errno set, when there is no memory or no thread. `database` outlives it. */
struct probe *probe_start(struct database *database);

/* Waits for a statement that is under way, a few seconds at the most. Takes NULL. */
void probe_stop(struct probe *probe);

void probe_read(struct probe *probe, struct probe_findings *findings);

#endif
