/*
 * The rejected deliveries in PostgreSQL, for receiptd reprocess: reading those that are not resolved, and resolving
 * them.
 *
 * Threads: one at a time; see pg.h.
 */
#ifndef RECEIPTD_REJECTIONS_PG_H
#define RECEIPTD_REJECTIONS_PG_H

#include "delivery.h"

#include <stdbool.h>
#include <stdio.h>

/*
 * When r, a row of receipts, holds what arrived after the rejected delivery with the request id of excluded: then that
 * would replace newer content by older. What was reprocessed itself arrived when it was rejected, not when it became a
 * receipt. What was rejected in one batch has one time: of such, neither is the later one, so both are kept.
 */
#define REJECTIONS_SUPERSEDED                                                                                          \
    "coalesce((select p.received_at from inventory.rejected_receipts as p where p.request_id ="                        \
    " case when r.revised_at is null then r.request_id else r.revised_request_id end), r.revised_at, r.received_at) >" \
    " (select d.received_at from inventory.rejected_receipts as d where d.request_id = excluded.request_id)"           \
    " and excluded.request_id not in (r.request_id, coalesce(r.revised_request_id, r.request_id))"

struct rejections;

/* One stored delivery; its pointers are good until the next one is read. */
struct rejected_receipt {
    const char *id;          /* rejection_id */
    const char *received_at; /* in UTC, such as 2026-11-23T12:00:00.123456Z */
    const char *request_id;  /* as request_id.h has it */
    const char *api_key_name;
    const char *body;
    size_t body_len;
    bool superseded;                          /* a later delivery of its key was stored, whatever its body says */
    const char *headers[SENDER_HEADER_COUNT]; /* NULL: not sent */
};

/*
 * Connects and begins with the oldest unresolved delivery of `id` (its rejection_id or request_id), or since `since` (a
 * time as PostgreSQL reads it); NULL: any. What is rejected from now on is left for the next time, so that there is an
 * end to it. NULL, with the reason written to `errors`, when that fails. Freed with rejections_close.
 */
struct rejections *rejections_open(const char *id, const char *since, FILE *errors);
void rejections_close(struct rejections *rejections);

/* What a page of them is read with: from this place on, until this time, of this id (rejection_id or request_id) or
 * any. */
extern const char rejections_page_query[];

enum rejections_result {
    REJECTIONS_OK = 0,
    REJECTIONS_END,
    REJECTIONS_LOCKED, /* this one, by another session; the reason was written to `errors`, as for */
    REJECTIONS_FAILED
};

/* Reads the next one. */
enum rejections_result rejections_next(struct rejections *rejections, struct rejected_receipt *rejection);

/* Whether REJECTIONS_SUPERSEDED is so of the row with the receipt's key. REJECTIONS_OK: `superseded` says so. */
enum rejections_result rejections_superseded(struct rejections *rejections, const struct rejected_receipt *rejection,
                                             const struct receipt *receipt, bool *superseded);

/* Marks it as dealt with; `resolution` says how. */
enum rejections_result rejections_resolve(struct rejections *rejections, const struct rejected_receipt *rejection,
                                          const char *resolution);

#endif
