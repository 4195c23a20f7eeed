/*
 * From the outcome of a delivery to the HTTP answer: the only place that knows headers and bodies.
 *
 * Threads: works on its arguments only.
 */
#ifndef RECEIPTD_REPLY_H
#define RECEIPTD_REPLY_H

#include "buffer.h"
#include "delivery.h"

/*
 * Appends the whole answer as a CGI response (RFC 3875, section 6: header lines ending in CRLF, Status first, an empty
 * line, the body). The caller checks out->failed.
 */
void reply_write(struct buffer *out, const struct delivery *delivery);

#endif
