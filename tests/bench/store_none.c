/*
 * Stands in for store.c in receiptd-noop: the whole worker, but nothing is stored. What the real one costs more is the
 * price of durability.
 */
#include "store.h"

#include <stdlib.h>

size_t store_batch_limit(void) {
    return 2000;
}

struct store *store_new(const struct store_options *options) {
    (void)options;
    return calloc(1, sizeof(struct store));
}

void store_free(struct store *store) {
    free(store);
}

size_t store_fit(const struct store *store, size_t waiting) {
    (void)store;
    return waiting;
}

enum store_result store_upsert(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    (void)store, (void)deadline_us;
    for (size_t i = 0; i < count; i++)
        delivery_settle(deliveries[i], OUTCOME_CREATED);
    return STORE_OK;
}

enum store_result store_insert(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return store_upsert(store, deliveries, count, deadline_us);
}

enum store_result store_revise(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return store_upsert(store, deliveries, count, deadline_us);
}

enum store_result store_reject(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    (void)store, (void)deadline_us;
    for (size_t i = 0; i < count; i++)
        delivery_settle(deliveries[i], deliveries[i]->rejection_answer);
    return STORE_OK;
}
