#include "batch.h"

#include "clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONFLICT_TRIES = 5,
    BACKOFF_FIRST_US = 20 * US_PER_MS,
    BACKOFF_MAX_US = 2 * US_PER_S,
    ASIDE_BACKOFF_MAX_US = 1 * US_PER_S,
    SLOW_PARTS = 8,      /* into which a batch is split that took too long */
    LOCKED_IN_A_ROW = 8, /* tries of single receipts, before the rest is left for the next time */
};

int batch_compare(const void *a, const void *b) {
    const struct delivery *const *x = a, *const *y = b;
    return receipt_compare_keys(&(*x)->receipt, &(*y)->receipt);
}

/* So that nothing later is blamed on it. */
static void forget_failure(struct store *store) {
    store->failure = NULL;
    store->sqlstate[0] = store->detail[0] = '\0';
}

/* Notes on the delivery why it is not stored, for the log: what the store says, else what was noted before. */
static void note_failure(struct delivery *delivery, const struct store *store, const char *otherwise) {
    if (store->failure) {
        delivery->failure = store->failure;
        memcpy(delivery->sqlstate, store->sqlstate, sizeof delivery->sqlstate);
    } else if (!delivery->failure) {
        delivery->failure = otherwise;
    }
}

static void finish_unavailable(struct lane *lane, struct delivery *delivery) {
    note_failure(delivery, lane->store, LANE_WAITED_TOO_LONG);
    delivery_settle(delivery, OUTCOME_UNAVAILABLE);
    lane_finish(lane->group_commit, &delivery, 1);
}

/* Answers those whose time is up; the others move together, in order. Returns how many are left. */
static size_t expire(struct lane *lane, struct delivery **batch, size_t count) {
    int64_t now = clock_now_us();
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (batch[i]->deadline_us <= now)
            finish_unavailable(lane, batch[i]);
        else
            batch[left++] = batch[i];
    }
    return left;
}

/* Gives back those that are settled; the others move together, in order. Returns how many are left. */
static size_t finish_settled(struct lane *lane, struct delivery **batch, size_t count) {
    size_t settled = 0;
    for (size_t i = 0; i < count; i++)
        if (batch[i]->state == DELIVERY_SETTLED) {
            struct delivery *delivery = batch[i];
            delivery->failure = NULL;
            delivery->sqlstate[0] = '\0';
            batch[i] = batch[settled];
            batch[settled++] = delivery;
        }
    if (settled > 0)
        lane_note_stored(lane);
    lane_finish(lane->group_commit, batch, settled);
    memmove(batch, batch + settled, (count - settled) * sizeof(struct delivery *));
    if (settled > 0)
        qsort(batch, count - settled, sizeof(struct delivery *), batch_compare);
    return count - settled;
}

static int64_t earliest_deadline(struct delivery *const *batch, size_t count) {
    int64_t earliest = batch[0]->deadline_us;
    for (size_t i = 1; i < count; i++)
        if (batch[i]->deadline_us < earliest)
            earliest = batch[i]->deadline_us;
    return earliest;
}

/* Half to all of it. */
static int64_t jitter(struct lane *lane, int64_t backoff_us) {
    return backoff_us / 2 + rand_r(&lane->seed) % (backoff_us / 2);
}

static int64_t doubled(int64_t backoff_us, int64_t max_us) {
    return backoff_us * 2 < max_us ? backoff_us * 2 : max_us;
}

/* Sleeps for the back-off, but not past the deadline, and doubles it. */
static void back_off(struct lane *lane, int64_t *backoff_us, int64_t deadline_us) {
    int64_t pause = jitter(lane, *backoff_us);
    int64_t left = deadline_us - clock_now_us();
    if (pause > left)
        pause = left;
    if (pause > 0)
        usleep((useconds_t)pause);
    *backoff_us = doubled(*backoff_us, BACKOFF_MAX_US);
}

/*
 * Sets aside what another session's lock keeps from being stored. tried: it was tried by itself, so it waits longer,
 * and there is a lock; otherwise it may only be there already, to be revised.
 */
static void set_aside(struct lane *lane, struct delivery *const *batch, size_t count, bool tried) {
    struct group_commit *group_commit = lane->group_commit;
    if (count == 0)
        return;
    if (tried)
        lane_become_wary(group_commit);
    pthread_mutex_lock(&group_commit->lock);
    for (size_t i = 0; i < count; i++) {
        struct delivery *delivery = batch[i];
        note_failure(delivery, lane->store, "another session has locked the row");
        if (delivery->backoff_us == 0)
            delivery->backoff_us = BACKOFF_FIRST_US;
        else if (tried)
            delivery->backoff_us = doubled(delivery->backoff_us, ASIDE_BACKOFF_MAX_US);
        backlog_set_aside(&group_commit->backlog, delivery, clock_now_us() + jitter(lane, delivery->backoff_us));
    }
    pthread_mutex_unlock(&group_commit->lock);
}

/*
 * One receipt: what insert finds there already is to be revised. That goes for one that is unchanged too: where others
 * write, only the commit of who has locked the row says that it is durable.
 */
static enum store_result retry_alone(struct store *store, struct delivery **delivery) {
    enum store_result result = store_insert(store, delivery, 1, delivery[0]->deadline_us);
    if (result == STORE_OK && delivery[0]->state != DELIVERY_SETTLED)
        result = store_revise(store, delivery, 1, delivery[0]->deadline_us);
    return result;
}

/*
 * Receipts one by one: among them are some whose key another session has inserted and not committed, whose revision
 * waits for a lock on receipt_revisions, or that cannot be stored at all. As each of those takes as long as a lock is
 * waited for, not many are tried.
 */
static void retry_singly(struct lane *lane, struct delivery **batch, size_t count) {
    struct store *store = lane->store;
    size_t locked = 0;
    while ((count = expire(lane, batch, count)) > 0 && locked < LOCKED_IN_A_ROW) {
        enum store_result result = retry_alone(store, batch);
        if (result != STORE_OK)
            lane_note_failed(lane);
        switch (result) {
        case STORE_OK:
            locked = 0;
            forget_failure(store);
            set_aside(lane, batch, finish_settled(lane, batch, 1), true);
            break;
        case STORE_UNSTORABLE:
            finish_unavailable(lane, batch[0]);
            forget_failure(store);
            break;
        case STORE_LOCKED:
        case STORE_SLOW:
            locked += result == STORE_SLOW ? LOCKED_IN_A_ROW / 2 : 1;
            set_aside(lane, batch, finish_settled(lane, batch, 1), true);
            break;
        case STORE_CONFLICT:
        case STORE_FAILED:
            set_aside(lane, batch, count, true);
            return;
        }
        batch++;
        count--;
    }
    set_aside(lane, batch, count, false);
}

void batch_retry(struct lane *lane, struct delivery **batch, size_t count) {
    struct store *store = lane->store;
    if ((count = expire(lane, batch, count)) == 0)
        return;
    enum store_result result = store_revise(store, batch, count, earliest_deadline(batch, count));
    if (result != STORE_OK)
        lane_note_failed(lane);
    if (result == STORE_UNSTORABLE && count > 1) {
        forget_failure(store);
        batch_retry(lane, batch, count / 2);
        batch_retry(lane, batch + count / 2, count - count / 2);
        return;
    }
    count = finish_settled(lane, batch, count);
    if (count > 0 && (result == STORE_OK || result == STORE_LOCKED)) {
        enum store_result inserted = store_insert(store, batch, count, earliest_deadline(batch, count));
        count = finish_settled(lane, batch, count);
        if (inserted != STORE_OK)
            result = inserted;
    }
    if (count > 1 && (result == STORE_LOCKED || result == STORE_UNSTORABLE || result == STORE_SLOW))
        retry_singly(lane, batch, count);
    else if (count == 1 && result == STORE_UNSTORABLE)
        finish_unavailable(lane, batch[0]);
    else
        set_aside(lane, batch, count, true);
    forget_failure(store);
}

static store_function *choose_function(const struct lane *lane, bool wary) {
    if (lane->kind == LANE_REJECTED)
        return store_reject;
    return wary ? store_insert : store_upsert;
}

void batch_commit(struct lane *lane, struct delivery **batch, size_t count) {
    struct store *store = lane->store;
    int64_t backoff_us = BACKOFF_FIRST_US;
    int conflicts = 0;
    while ((count = expire(lane, batch, count)) > 0) {
        int64_t deadline_us = earliest_deadline(batch, count);
        bool wary = lane->kind == LANE_RECEIPTS && lane_is_wary(lane->group_commit);
        enum store_result stored = choose_function(lane, wary)(store, batch, count, deadline_us);
        if (stored != STORE_OK)
            lane_note_failed(lane);
        count = finish_settled(lane, batch, count);
        bool was_alone = count == 1;
        switch (stored) {
        case STORE_OK:
            forget_failure(store);
            set_aside(lane, batch, count, false);
            return;
        case STORE_UNSTORABLE:
            if (count == 1) {
                finish_unavailable(lane, batch[0]);
                forget_failure(store);
                return;
            }
            batch_commit(lane, batch, count / 2);
            batch += count / 2;
            count -= count / 2;
            break;
        case STORE_SLOW:
            /* Three time-outs, of all, a part and one, are within a deadline of 10 s; with halves, seven would not be.
             */
            for (size_t part = (count + SLOW_PARTS - 1) / SLOW_PARTS; count > part; batch += part, count -= part)
                batch_commit(lane, batch, part);
            if (!was_alone)
                break;
            if (lane->kind == LANE_REJECTED) {
                back_off(lane, &backoff_us, deadline_us);
                break;
            }
            set_aside(lane, batch, count, false);
            forget_failure(store);
            return;
        case STORE_LOCKED:
            if (lane->kind == LANE_REJECTED) {
                back_off(lane, &backoff_us, deadline_us);
                break;
            }
            lane_become_wary(lane->group_commit);
            if (!wary)
                break;
            set_aside(lane, batch, count, false);
            forget_failure(store);
            return;
        case STORE_CONFLICT:
            if (++conflicts < CONFLICT_TRIES)
                break;
            back_off(lane, &backoff_us, deadline_us);
            break;
        case STORE_FAILED:
            back_off(lane, &backoff_us, deadline_us);
            break;
        }
    }
}
