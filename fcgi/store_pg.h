/*
 * The store in PostgreSQL.
 *
 * A batch is one multi-row upsert and one commit. "Created" is told by the row's request_id: it is the delivery's own,
 * or it is not. A connection is made when it is needed and dropped after any doubt; its parameters are libpq's own PG…
 * environment variables.
 *
 * Threads: see store.h. libpq's environment is read at every connect, so it must not change any more.
 */
#ifndef RECEIPTD_STORE_PG_H
#define RECEIPTD_STORE_PG_H

#include "store.h"

#include <stdbool.h>

struct store_pg_options {
    size_t batch_max;         /* the largest count passed to store() */
    bool prepared_statements; /* off: for a pooler that hands each transaction to another session */
    const char *keep_when;    /* SQL about r, the row there is, and excluded: when it is true r stays; NULL: never */
};

/* The most rows of one batch: PostgreSQL's protocol counts parameters in 16 bits (Bind, "Int16"). */
size_t store_pg_batch_limit(void);

/* A store that connects at its first use. NULL when there is no memory; freed with its own free function. */
struct store *store_pg_new(const struct store_pg_options *options);

#endif
