/*
 * One delivery: a receipt on its way from the request to the answer.
 *
 * The server makes it, the handler fills it in, the committer stores it and sets its outcome, reply and log read it.
 * Threads: it belongs to one of them at a time; handing it over (committer_submit, the done callback) hands over all of
 * it.
 */
#ifndef RECEIPTD_DELIVERY_H
#define RECEIPTD_DELIVERY_H

#include "receipt.h"

#include <stdint.h>
#include <stdlib.h>

enum {
    REQUEST_ID_BYTES = 16,
    REQUEST_ID_CHARS = 32, /* nginx's $request_id: 16 random bytes as hexadecimal digits */
    API_KEY_NAME_MAX = 63,
};

/* What the sender is told; contract.md's table of answers. reply.c gives each its status and body. */
enum outcome {
    /* 503: not stored durably. The value of a zeroed delivery: what is not decided is no success. */
    OUTCOME_UNAVAILABLE = 0,
    OUTCOME_CREATED,      /* 201 */
    OUTCOME_UNCHANGED,    /* 200 */
    OUTCOME_REVISED,      /* 200 */
    OUTCOME_MALFORMED,    /* 400: content type or JSON; `message` says what */
    OUTCOME_UNAUTHORIZED, /* 401 */
    OUTCOME_NOT_POST,     /* 405 */
    OUTCOME_TOO_LARGE,    /* 413 */
    OUTCOME_INVALID,      /* 422: `errors` says what */
    OUTCOME_QUARANTINED,  /* 200: refused and kept, for a sender that wants no refusals (RECEIPTD_INVALID_POLICY) */
};

struct delivery {
    unsigned char request_id[REQUEST_ID_BYTES];
    char request_id_text[REQUEST_ID_CHARS + 1];
    char api_key_name[API_KEY_NAME_MAX + 1]; /* a copy: keys may be reloaded meanwhile */
    struct receipt receipt;

    /*
     * A delivery that is refused for good (contract.md: 400 and 422 are never sent again) is stored like a receipt
     * before it is answered. refusal: OUTCOME_MALFORMED or OUTCOME_INVALID; OUTCOME_UNAVAILABLE while it is not
     * refused.
     */
    enum outcome refusal;
    enum outcome refusal_answer;  /* its outcome once it is stored: the same, or OUTCOME_QUARANTINED */
    char message[128];            /* for OUTCOME_MALFORMED */
    int error_line, error_column; /* for OUTCOME_MALFORMED: where the parser stopped; 0: not a matter of the parser */
    struct receipt_errors errors; /* for OUTCOME_INVALID */
    char *body;                   /* as received; a heap block */
    size_t body_len;

    enum outcome outcome;
    const char *failure; /* for OUTCOME_UNAVAILABLE: why, for the log only; static storage */
    char sqlstate[6];    /* of the failure, when it came from PostgreSQL; else empty */

    int64_t arrived_us;    /* CLOCK_MONOTONIC */
    int64_t deadline_us;   /* when it is answered 503 at the latest, unless a commit is under way */
    struct delivery *next; /* in the committer's queue */
};

/* Frees what the delivery holds on the heap; harmless on a zeroed one. */
static inline void delivery_fini(struct delivery *delivery) {
    receipt_fini(&delivery->receipt);
    free(delivery->body);
    delivery->body = NULL;
}

#endif
