/*
 * From the outcome of a delivery to the HTTP answer: the only place that knows statuses, headers and bodies.
 *
 * Threads: works on its arguments only.
 */
#ifndef RECEIPTD_REPLY_H
#define RECEIPTD_REPLY_H

#include "buffer.h"
#include "delivery.h"

/* The HTTP status of an outcome, e.g. 201. */
int reply_status(enum outcome outcome);

/* The word for what was stored, "created", "unchanged", "revised" or "quarantined"; else NULL. Static storage. */
const char *reply_result(enum outcome outcome);

/* What the sender is told in words when `outcome` is the answer. Static storage, or the delivery's. */
const char *reply_message(const struct delivery *delivery, enum outcome outcome);

/* Appends the array of errors of an answer 422. */
void reply_write_errors(struct buffer *out, const struct receipt_errors *errors);

/*
 * Appends the whole answer as a CGI response (RFC 3875, section 6: header lines ending in CRLF, Status first, an empty
 * line, the body). The caller checks out->failed.
 */
void reply_write(struct buffer *out, const struct delivery *delivery);

#endif
