/*
 * One delivery: a receipt on its way from the request to the answer.
 *
 * The server makes it, the handler fills it in, group commit stores it and sets its outcome, reply and log read it.
 * Threads: it belongs to one of them at a time; handing it over (group_commit_submit, the done callback) hands over all
 * of it.
 */
#ifndef RECEIPTD_DELIVERY_H
#define RECEIPTD_DELIVERY_H

#include "outcome.h"
#include "receipt.h"
#include "request_id.h"
#include "sender_header.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    DIGEST_KEPT_BYTES = 16, /* of a rejected delivery's SHA-256 */
    API_KEY_NAME_MAX = 63,
};

enum delivery_state {
    DELIVERY_OPEN = 0, /* nothing is decided: it is read, waits, or is in a batch */
    DELIVERY_DEFERRED, /* another session's lock keeps it from being stored; it is retried until its deadline */
    DELIVERY_SETTLED,  /* `outcome` is the answer */
};

struct delivery {
    unsigned char request_id[REQUEST_ID_BYTES];
    char request_id_text[REQUEST_ID_CHARS + 1];
    char api_key_name[API_KEY_NAME_MAX + 1]; /* a copy: keys may be reloaded meanwhile */
    char *headers[SENDER_HEADER_COUNT];      /* as they are kept, heap blocks; NULL: not sent */
    bool is_examination; /* not one, but a GET of receiptd doctor: neither logged nor counted as a delivery */
    struct receipt receipt;

    /*
     * A delivery that is rejected for good (CONTRACT.md: 400 and 422 are never sent again) is stored like a receipt
     * before it is answered.
     */
    enum rejection rejection;
    enum outcome rejection_answer; /* its outcome once it is stored: that of the rejection, or OUTCOME_QUARANTINED */
    char message[128];             /* for REJECTION_MALFORMED */
    int error_line, error_column; /* for REJECTION_MALFORMED: where the parser stopped; 0: not a matter of the parser */
    struct receipt_errors errors; /* for REJECTION_INVALID */
    char *body;                   /* as received, but decompressed; a heap block */
    size_t body_len;
    unsigned char digest[DIGEST_KEPT_BYTES];   /* repeats.h */
    bool is_repeat;                            /* it is kept in the row of an identical delivery, */
    unsigned char repeat_of[REQUEST_ID_BYTES]; /* of this request id */

    enum delivery_state state;
    enum outcome outcome; /* OUTCOME_UNAVAILABLE until it is settled */
    const char *failure;  /* for OUTCOME_UNAVAILABLE: why, for the log only; static storage */
    char sqlstate[6];     /* of the failure, when it came from PostgreSQL; else empty */

    int64_t began_us;    /* CLOCK_MONOTONIC: when its first byte was read */
    int64_t arrived_us;  /* when all of it was */
    int64_t taken_us;    /* when the last batch that it was in was taken; 0: none was */
    int64_t deadline_us; /* when it is answered 503 at the latest, unless a commit is under way */

    /* The backlog's, from group_commit_submit until it is done. */
    size_t bytes;                               /* all that it takes while it waits */
    size_t cost;                                /* to PostgreSQL, see backlog.h */
    struct delivery *next;                      /* in its line */
    struct delivery *next_in_bucket;            /* of the table of keys */
    struct delivery *next_of_key, *last_of_key; /* those that wait for this one, since they have its key */
    int64_t retry_at_us;                        /* while it is set aside: when it is tried again */
    int64_t backoff_us;                         /* how long it was set aside last; 0: never */
};

/* Decides the answer. */
static inline void delivery_settle(struct delivery *delivery, enum outcome outcome) {
    delivery->state = DELIVERY_SETTLED;
    delivery->outcome = outcome;
}

/* Frees what the delivery holds on the heap; harmless on a zeroed one. */
static inline void delivery_fini(struct delivery *delivery) {
    receipt_fini(&delivery->receipt);
    free(delivery->body);
    delivery->body = NULL;
    for (int i = 0; i < SENDER_HEADER_COUNT; i++) {
        free(delivery->headers[i]);
        delivery->headers[i] = NULL;
    }
}

#endif
