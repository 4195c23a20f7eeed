/*
 * Sorts records of any number in constant memory: what does not fit goes to a temporary file, in sorted runs, which are
 * merged when the records are read back. The file is in $TMPDIR or /var/tmp, has no name, and is gone with the process.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_SPOOL_H
#define RECEIPTD_SPOOL_H

#include <stdbool.h>
#include <stddef.h>

enum { SPOOL_RECORD_MAX = 64 * 1024 };

struct spool;

/* Less than, equal to, or greater than 0, as for qsort. Records are aligned for any type. */
typedef int spool_order(const void *a, const void *b);

/* A spool that holds up to `memory` bytes in memory, and 64 KiB for each run. NULL when memory runs out. */
struct spool *spool_new(size_t memory, spool_order *order);
void spool_free(struct spool *spool);

/* Adds a copy of a record of at most SPOOL_RECORD_MAX bytes. False, with errno set, when there is no room for it. */
bool spool_add(struct spool *spool, const void *record, size_t len);

/* Ends the adding. False, with errno set, when there is no room. */
bool spool_sort(struct spool *spool);

/* The next record in order, which is good until the next call; NULL: there is none, or spool_failed. */
const void *spool_next(struct spool *spool);

/* Whether the temporary file could not be read; errno is set. */
bool spool_failed(const struct spool *spool);

#endif
