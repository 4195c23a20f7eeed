/*
 * Stands in for store_pg.c in receiptd-noop: the whole worker, but nothing is stored. What the real one costs more is
 * the price of durability.
 */
#include "store_pg.h"

#include <stdlib.h>

size_t store_pg_batch_limit(void) {
    return 2000;
}

static enum store_result store_nothing(struct store *store, struct delivery *const *deliveries, size_t count,
                                       int64_t deadline_us) {
    (void)store, (void)deadline_us;
    for (size_t i = 0; i < count; i++)
        deliveries[i]->outcome = OUTCOME_CREATED;
    return STORE_OK;
}

static enum store_result reject_nothing(struct store *store, struct delivery *const *deliveries, size_t count,
                                        int64_t deadline_us) {
    (void)store, (void)deadline_us;
    for (size_t i = 0; i < count; i++)
        deliveries[i]->outcome = deliveries[i]->refusal_answer;
    return STORE_OK;
}

static void store_none_free(struct store *store) {
    free(store);
}

struct store *store_pg_new(const struct store_pg_options *options) {
    (void)options;
    struct store *store = calloc(1, sizeof *store);
    if (store)
        *store = (struct store){.store = store_nothing, .reject = reject_nothing, .free = store_none_free};
    return store;
}
