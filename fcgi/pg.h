/*
 * What the modules that use PostgreSQL share: how to connect, and what a session has to be like. Only they know
 * <libpq-fe.h>.
 *
 * Threads: any; libpq reads its PG… environment variables at every connect, so these must not change any more.
 */
#ifndef RECEIPTD_PG_H
#define RECEIPTD_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Connects as libpq's environment says, to a server that takes writes, waiting a few seconds for each host at the most.
 * Never NULL but for want of memory; the caller looks at PQstatus and calls PQfinish.
 */
PGconn *pg_connect(void);

/* A query about the settings of a session, without parameters, in text format, for pg_judge_settings. */
extern const char pg_settings_query[];

enum pg_verdict {
    PG_FIT,
    PG_SLOW,  /* what is stored is safe, but one session can hold up others */
    PG_UNFIT, /* what is stored may be lost, or changed on the way */
};

/*
 * Judges the result of pg_settings_query. Where it is not PG_FIT, `problem` says in words which setting is wrong, why,
 * and who has set it.
 */
enum pg_verdict pg_judge_settings(const PGresult *result, char *problem, size_t size);

/* Whether the result of pg_settings_query is of a server with Citus. */
bool pg_is_citus(const PGresult *result);

#endif
