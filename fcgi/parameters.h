/*
 * The parameters of a statement (statements.h), in PostgreSQL's binary formats: they point into the deliveries, which
 * have to stay as they are until the statement was sent.
 *
 * Threads: one at a time.
 */
#ifndef RECEIPTD_PARAMETERS_H
#define RECEIPTD_PARAMETERS_H

#include "buffer.h"
#include "delivery.h"
#include "repeats.h"
#include "statements.h"

#include <libpq-fe.h>

struct parameters {
    const char **values;
    int *lengths;
    int *formats; /* all 1: binary */
    Oid *types;
    int64_t *integers;  /* of fields, or the status and the number of deliveries, in network byte order */
    struct buffer json; /* extra, or the errors, with jsonb's version byte */
};

/* Makes room for so many rows of any statement. False when there is no memory; parameters_fini is due all the same. */
bool parameters_init(struct parameters *p, size_t max_rows);
void parameters_fini(struct parameters *p);

/*
 * Of any statement but REJECT. LOOKUP may have more rows than deliveries, which look up nothing; any_length is for
 * LOOKUP. False when there is no memory.
 */
bool parameters_set_receipts(struct parameters *p, enum statement statement, const struct receipt_columns *columns,
                             struct delivery *const *deliveries, size_t count, size_t rows, bool any_length);

/* Of REJECT: a row for each group. */
bool parameters_set_rejections(struct parameters *p, const struct repeats_group *groups, size_t count);

#endif
