/*
 * What a delivery is answered. One table holds the status and the words that answers, log, metrics and
 * rejected_receipts share.
 *
 * Threads: any; the table is constant.
 */
#ifndef RECEIPTD_OUTCOME_H
#define RECEIPTD_OUTCOME_H

/* CONTRACT.md's table of answers. */
enum outcome {
    OUTCOME_UNAVAILABLE =
        0,                /* 503: not stored durably. The value of a zeroed delivery, so nothing succeeds by default. */
    OUTCOME_CREATED,      /* 201 */
    OUTCOME_UNCHANGED,    /* 200 */
    OUTCOME_REVISED,      /* 200 */
    OUTCOME_SUPERSEDED,   /* 200: the receipt was this before, and stays what it is (RECEIPTD_OLD_VERSIONS) */
    OUTCOME_MALFORMED,    /* 400: wrong content type or bad JSON; delivery.message explains */
    OUTCOME_UNAUTHORIZED, /* 401 */
    OUTCOME_NOT_POST,     /* 405 */
    OUTCOME_TOO_LARGE,    /* 413 */
    OUTCOME_INVALID,      /* 422: delivery.errors lists why */
    OUTCOME_QUARANTINED, /* 200: rejected and kept, for a sender that wants no rejections (RECEIPTD_REJECTION_POLICY) */
    OUTCOME_COUNT
};

struct outcome_words {
    const char *name;   /* in metrics, such as "too_large" */
    int status;         /* HTTP status, such as 413 */
    const char *reason; /* HTTP reason phrase */
    const char *result; /* what was stored, such as "created"; NULL if nothing was, or only as a rejection that fails */
    const char *message; /* for the sender; NULL: the delivery has its own (outcome_message) */
    const char *headers; /* of this answer alone, each with CRLF; "" if there are none */
};

extern const struct outcome_words outcomes[OUTCOME_COUNT];

/* Why a delivery with a valid key is rejected for good. */
enum rejection { REJECTION_NONE = 0, REJECTION_MALFORMED, REJECTION_INVALID };

/* The answer to a rejected delivery: OUTCOME_MALFORMED or OUTCOME_INVALID. Not for REJECTION_NONE. */
enum outcome outcome_of_rejection(enum rejection rejection);

/* The message for the sender: the table's, or `malformed` for OUTCOME_MALFORMED. Static storage, or `malformed`. */
const char *outcome_message(enum outcome outcome, const char *malformed);

#endif
