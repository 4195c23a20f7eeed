/*
 * What the rows of a statement's result say of deliveries: see statements.h for their columns.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_ROWS_H
#define RECEIPTD_ROWS_H

#include "delivery.h"
#include "statements.h"

#include <libpq-fe.h>
#include <stdbool.h>

/* Of a boolean; null is false. */
bool rows_is_true(const PGresult *result, int row, int column);

/* Whether a request id is the delivery's. */
bool rows_is_of(const PGresult *result, int row, int column, const struct delivery *delivery);

/* Created, revised or unchanged, of a row of UPSERT, INSERT or LOOKUP that is about the delivery. */
enum outcome rows_outcome(const PGresult *result, int row, enum statement statement, const struct delivery *delivery);

/* Whether the row of a LOOKUP is surely flushed and has the delivery's content: then the delivery needs no commit. */
bool rows_is_same(const PGresult *result, int row, const struct delivery *delivery,
                  const struct receipt_columns *columns);

#endif
