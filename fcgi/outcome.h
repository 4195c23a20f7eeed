/*
 * What became of a delivery, as the sender is told: the words and HTTP statuses that answers, log and rejected_receipts
 * share.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_OUTCOME_H
#define RECEIPTD_OUTCOME_H

/* CONTRACT.md's table of answers. */
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
    OUTCOME_QUARANTINED, /* 200: rejected and kept, for a sender that wants no rejections (RECEIPTD_REJECTION_POLICY) */
};

/* Why a delivery with a valid key is rejected for good. */
enum rejection { REJECTION_NONE = 0, REJECTION_MALFORMED, REJECTION_INVALID };

/* What a delivery that is rejected is told: OUTCOME_MALFORMED or OUTCOME_INVALID. Not for REJECTION_NONE. */
enum outcome outcome_of_rejection(enum rejection rejection);

/* The HTTP status of an outcome, e.g. 201. */
int outcome_status(enum outcome outcome);

/* Its name, e.g. "too_large": for figures. Static storage. */
const char *outcome_name(enum outcome outcome);

/* The word for what was stored, "created", "unchanged", "revised" or "quarantined"; else NULL. Static storage. */
const char *outcome_result(enum outcome outcome);

/* What the sender is told in words; of what is malformed, `malformed`. Static storage, or that. */
const char *outcome_message(enum outcome outcome, const char *malformed);

#endif
