/*
 * What the worker needs to know of a server before it stores anything there: whether its settings and its schema keep
 * what CONTRACT.md promises, which columns there are, and where in a cluster it stands.
 *
 * Threads: any; works on its arguments.
 */
#ifndef RECEIPTD_INSPECTION_H
#define RECEIPTD_INSPECTION_H

#include "receipt.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INSPECTION_PROBLEM_SIZE = 1024, INSPECTION_TIME_SIZE = 48 };

/* What a session is for: one that stores neither, the probe's, minds whatever is wrong. */
enum inspection_use { INSPECTION_RECEIPTS, INSPECTION_REJECTIONS, INSPECTION_ALL };

enum inspection_verdict {
    INSPECTION_FIT,
    INSPECTION_SLOW,  /* what is stored is safe, but one session can hold up others */
    INSPECTION_UNFIT, /* what is stored may be lost, changed on the way, or stored without its history */
};

/* Queries without parameters, for results in text format: the first one tells whether the others may be asked. */
extern const char inspection_query[];
extern const char inspection_cluster_query[]; /* where in a cluster it is; needs functions that a DBA can revoke */
extern const char inspection_check_query[];   /* the schema's own check (sql/deploy/schema_problems.sql) */
bool inspection_may_ask_cluster(const PGresult *result);
bool inspection_may_ask_check(const PGresult *result);

struct inspection {
    enum inspection_verdict verdict;
    char problem[INSPECTION_PROBLEM_SIZE]; /* unless it is fit: what is wrong, why it matters, and who has set it */
    char receipts_problem[INSPECTION_PROBLEM_SIZE];   /* what the schema does to receipts; "": nothing */
    char rejections_problem[INSPECTION_PROBLEM_SIZE]; /* and to rejected deliveries */
    char schema_problem[INSPECTION_PROBLEM_SIZE];     /* both */
    bool hides_flush;                                 /* the role may not see how far the log was flushed */
    bool has_foreign_after_triggers; /* receipts has some that run after a row is written, and can delete it again */
    bool has_foreign_triggers;       /* receipts has triggers of somebody else that can change or drop a row */
    bool on_citus;
    bool takes_writes;                    /* it is no standby, and not read-only */
    struct receipt_columns columns;       /* of inventory.receipts */
    uint64_t system_identifier;           /* of the cluster; 0: unknown */
    uint32_t timeline;                    /* 0: it is a standby */
    unsigned standbys;                    /* how many a commit waits for */
    char loaded_at[INSPECTION_TIME_SIZE]; /* when the server's session read its configuration last */
};

/* Reads the results of the three queries; the last two may be NULL. */
void inspection_read(struct inspection *inspection, const PGresult *result, const PGresult *cluster,
                     const PGresult *check, bool require_standby);

/* What keeps a session from being used so; "": nothing. Good as long as the inspection. */
const char *inspection_problem(const struct inspection *inspection, enum inspection_use use);

/* Whether they say the same of what a session depends on. */
bool inspection_equal(const struct inspection *a, const struct inspection *b);

#endif
