/*
 * Looks at the database every few seconds, over a connection of its own: whether it answers and takes writes, which
 * schema it has, how many rejected deliveries are not resolved, and where nothing comes though it usually does. No
 * delivery waits for it.
 *
 * Threads: it has one of its own; probe_read from any.
 */
#ifndef RECEIPTD_PROBE_H
#define RECEIPTD_PROBE_H

#include "metrics.h"

#include <stdbool.h>
#include <stdint.h>

/* The schema that the worker's statements need, at the least (sql/deploy/schema_version.sql); newer ones are fine. */
enum { PROBE_SCHEMA_NEEDED = 1 };

/* An expression for the one that is there; 0 without one. The function's body is "select N". */
#define PROBE_SCHEMA_VERSION                                                                                           \
    "coalesce((select substring(prosrc from '[0-9]+')::integer from pg_catalog.pg_proc"                                \
    " where oid = to_regprocedure('inventory.schema_version()')), 0)"

struct probe_findings {
    int64_t answered_us; /* CLOCK_MONOTONIC, when it last answered; 0: never */
    bool takes_writes;
    int schema;               /* 0: one without a version; -1: not known yet */
    int64_t unresolved;       /* rejected deliveries; -1: not known yet */
    double totals_counted_at; /* inventory.totals_counted_at(), in seconds since 1970; 0: never; -1: not known yet */
    struct metrics_silences silences;
};

struct probe;

/* NULL, with errno set, when there is no memory or no thread. */
struct probe *probe_start(void);

/* Waits for a statement that is under way, a few seconds at the most. Takes NULL. */
void probe_stop(struct probe *probe);

void probe_read(struct probe *probe, struct probe_findings *findings);

#endif
