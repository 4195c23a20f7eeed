/*
 * What receiptd doctor finds: a line each, as it is found, or all in JSON at the end.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_FINDINGS_H
#define RECEIPTD_FINDINGS_H

#include <stdbool.h>
#include <stdio.h>

enum finding { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct findings;

/* Writes to `out`, which stays the caller's. NULL for want of memory. */
struct findings *findings_new(FILE *out, bool json);

/*
 * Adds one about a subject. `advice` says what to do; NULL where there is nothing. Both may be of any bytes:
 * line ends become blanks, and what is no UTF-8 or controls a terminal becomes U+FFFD.
 */
void findings_add(struct findings *findings, enum finding finding, const char *subject, const char *advice,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/*
 * Writes what is left to write, and frees. Returns the worst finding; FINDING_FAIL also when memory was short or not
 * all could be written.
 */
enum finding findings_end(struct findings *findings);

#endif
