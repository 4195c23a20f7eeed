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

/* The word for a stored receipt, "created", "unchanged" or "revised"; NULL for every other outcome. Static storage. */
const char *reply_result(enum outcome outcome);

/*
 * Appends the whole answer as a CGI response (RFC 3875, section 6: header lines ending in CRLF, Status first, an empty
 * line, the body). The caller checks out->failed.
 */
void reply_write(struct buffer *out, const struct delivery *delivery);

#endif
