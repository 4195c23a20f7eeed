/*
 * The store in PostgreSQL: the only module that knows <libpq-fe.h>.
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
#include <stdio.h>

struct store_pg_options {
    size_t batch_max;         /* the largest count passed to store() */
    bool prepared_statements; /* off: for a pooler that hands each transaction to another session */
};

/* The most rows of one batch: PostgreSQL's protocol counts parameters in 16 bits (Bind, "Int16"). */
size_t store_pg_batch_limit(void);

/* A store that connects at its first use. NULL when there is no memory; freed with its own free function. */
struct store *store_pg_new(const struct store_pg_options *options);

/*
 * Connects and looks whether the database is as the worker needs it: columns and their types, the unique constraint on
 * the natural key, grants, synchronous_commit. Writes one line per finding to `out`, fit for a person. True: all is
 * well.
 */
bool store_pg_check(FILE *out);

#endif
