/*
 * receiptd --check: is the database as the worker needs it?
 *
 * Threads: see pg.h.
 */
#ifndef RECEIPTD_CHECK_PG_H
#define RECEIPTD_CHECK_PG_H

#include <stdbool.h>
#include <stdio.h>

/*
 * Connects and looks at what the worker relies on: durable settings, columns and their types, the unique constraint on
 * the natural key, grants. Writes one line per finding to `out`, fit for a person. True: all is well.
 */
bool check_pg(FILE *out);

#endif
