/*
 * The refused deliveries in PostgreSQL, for receiptd reprocess: reading those that are not resolved, and resolving
 * them.
 *
 * Threads: one at a time; see pg.h.
 */
#ifndef RECEIPTD_REJECTIONS_PG_H
#define RECEIPTD_REJECTIONS_PG_H

#include "delivery.h"

#include <stdbool.h>
#include <stdio.h>

struct rejections;

/* One stored delivery; its pointers are good until the next one is read. */
struct rejection {
    const char *id;          /* rejection_id */
    const char *received_at; /* as PostgreSQL writes it */
    const char *request_id;  /* 32 hexadecimal digits */
    const char *api_key_name;
    const char *body;
    size_t body_len;
};

/*
 * Connects and begins with the oldest unresolved delivery of `id`, or since `since` (a time as PostgreSQL reads it);
 * NULL: any. NULL, with the reason written to `errors`, when that fails. Freed with rejections_close.
 */
struct rejections *rejections_open(const char *id, const char *since, FILE *errors);
void rejections_close(struct rejections *rejections);

enum rejections_result {
    REJECTIONS_OK = 0,
    REJECTIONS_END,
    REJECTIONS_FAILED /* the reason was written to `errors` */
};

/* Reads the next one. */
enum rejections_result rejections_next(struct rejections *rejections, struct rejection *rejection);

/*
 * Whether `receipts` holds something for the key that arrived after the rejected delivery: then a receipt made of it
 * would replace newer content by older. REJECTIONS_OK: `superseded` says so.
 */
enum rejections_result rejections_superseded(struct rejections *rejections, const struct rejection *rejection,
                                             const struct receipt *receipt, bool *superseded);

/* Marks it as dealt with; `resolution` says how. */
enum rejections_result rejections_resolve(struct rejections *rejections, const struct rejection *rejection,
                                          const char *resolution);

#endif
