/*
 * receiptd reprocess: runs the bodies of rejected deliveries through the same code again, after a rule was widened or
 * the schema has grown, and makes receipts of those that are valid now.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_REPROCESS_H
#define RECEIPTD_REPROCESS_H

#include "handler.h"
#include "store.h"

#include <stdbool.h>
#include <stdio.h>

struct reprocess_options {
    const struct handler *handler; /* only its rules are used */
    struct store *store;
    const char *id, *since; /* see rejections_open */
    bool dry_run;           /* say what would happen, and change nothing */
};

/*
 * Writes a line for every delivery that becomes a receipt and a summary to `out`, failures to `errors`. It may be
 * interrupted and run again at any time. Returns whether it got to the end and everything that is valid is stored.
 */
bool reprocess(const struct reprocess_options *options, FILE *out, FILE *errors);

#endif
