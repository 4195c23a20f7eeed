/*
 * Deliveries into PostgreSQL.
 *
 * A batch is one multi-row statement and one commit. "Created" is told by the row's request_id: it is the delivery's
 * own, or it is not. The connection's parameters are libpq's own PG… environment variables.
 *
 * Threads: a store belongs to one thread at a time; whoever stores next may be another. See also pg.h.
 */
#ifndef RECEIPTD_STORE_H
#define RECEIPTD_STORE_H

#include "database.h"
#include "delivery.h"
#include "store_result.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_DETAIL_SIZE = 1024 };

struct store {
    bool mostly_known;   /* most of the last batch was there already: the next is looked up before it is written */
    const char *failure; /* why the last call failed; static storage */
    char sqlstate[6];    /* that came with it; empty if PostgreSQL gave none */
    char detail[STORE_DETAIL_SIZE]; /* what PostgreSQL or libpq said of it, or what is wrong with the server */
};

struct store_options {
    struct database *database; /* outlives the store */
    size_t batch_max;          /* the largest count passed to the functions below */
    bool prepared_statements;  /* off: for a pooler that hands each transaction to another session */
    const char *keep_when;     /* see statements_write, as for */
    const char *ignored_fields;
    bool keep_newer;
};

/* The most rows of one batch, by the number of parameters that PostgreSQL's protocol has. */
size_t store_batch_limit(void);

/* A store that connects at its first use. NULL when there is no memory. */
struct store *store_new(const struct store_options *options);
void store_free(struct store *store);

/*
 * Tries to store `count` deliveries with one transaction. Those that it settles (delivery_settle) are
 * durable; the others stay as they were. Where the result is not STORE_OK, failure and sqlstate say why.
 * deadline_us (CLOCK_MONOTONIC) is when to give up.
 *
 * What is stored already under a delivery's request id is not stored again; its outcome is the one it had then.
 */
typedef enum store_result store_function(struct store *store, struct delivery *const *deliveries, size_t count,
                                         int64_t deadline_us);

/*
 * Receipts, no two of one key, sorted by key. upsert: with STORE_OK all are settled, created, unchanged or revised; it
 * waits for rows that other sessions have locked, until that is STORE_LOCKED. The other two never wait for a row:
 * insert settles those that are new or say what is there already; revise those that are there and are not locked.
 */
store_function store_upsert, store_insert, store_revise;

/*
 * Deliveries with a rejection, in any order and with any keys: each becomes a rejected receipt. With STORE_OK all have
 * their rejection_answer as outcome.
 */
store_function store_reject;

/* The largest number of rows, at most `waiting`, that upsert and reject store with one statement. */
size_t store_fit(const struct store *store, size_t waiting);

#endif
