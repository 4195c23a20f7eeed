#include "committer.h"

#include "backlog.h"
#include "clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONFLICT_TRIES = 5,
    BACKOFF_FIRST_US = 20 * US_PER_MS,
    BACKOFF_MAX_US = 2 * US_PER_S,
    ASIDE_BACKOFF_MAX_US = 1 * US_PER_S,
    WARY_US = 5 * US_PER_S,   /* after a lock was met: for how long no batch waits for a row */
    LOCKED_IN_A_ROW = 8,      /* tries of single receipts, before the rest is left for the next time */
    SLOW_US = 20 * US_PER_MS, /* a batch that takes longer is one that others do not wait for */
    GATHER_US = 500,
    GATHER_FROM = 4,                   /* deliveries */
    BATCH_MAX_BYTES = 4 * 1024 * 1024, /* refused bodies and unknown fields can be large */
    EXPIRED_AT_A_TIME = 64,
};

/* What a lane stores. */
enum lane_kind { RECEIPTS, ASIDE, REFUSED };

/* A store, and what the thread that stores with it needs. */
struct lane {
    struct committer *committer;
    enum lane_kind kind;
    struct store *store;
    int64_t busy_since_us;   /* when its thread took the batch; 0: no thread is in it */
    struct delivery **batch; /* room for options.batch_max */
    size_t gathered;         /* receipts that were ready when the last batch was taken */
    unsigned seed;           /* for the jitter */
};

struct committer {
    struct committer_options options;
    committer_done *done;

    pthread_mutex_t lock; /* guards the backlog, wary_until_us, and busy_since_us and gathered of the lanes */
    struct backlog backlog;
    int64_t wary_until_us; /* until then, batches use statements that wait for no row */

    size_t lane_count;
    struct lane lanes[];
};

bool committer_submit(struct committer *committer, struct delivery *delivery) {
    pthread_mutex_lock(&committer->lock);
    bool room = backlog_add(&committer->backlog, delivery);
    pthread_mutex_unlock(&committer->lock);
    return room;
}

/*
 * Batches form while a commit is waited for, but a lookup of repeated deliveries is over sooner: batches of a few cost
 * more processor time than they save. So after one the next get a moment to come, unless half as many as it found are
 * there already. Where only a few come at a time, none waits. Called with the lock, which it gives up meanwhile.
 */
static void gather_repeats(struct lane *lane) {
    struct committer *committer = lane->committer;
    if (!lane->store->repeats || lane->gathered < GATHER_FROM || committer->backlog.ready.count >= lane->gathered / 2)
        return;
    pthread_mutex_unlock(&committer->lock);
    usleep(GATHER_US);
    pthread_mutex_lock(&committer->lock);
}

/* Takes what the lane is to store next. Called with the lock; returns 0 when other threads have taken all. */
static size_t take_batch(struct lane *lane) {
    struct backlog *backlog = &lane->committer->backlog;
    size_t max = lane->committer->options.batch_max;
    switch (lane->kind) {
    case RECEIPTS:
        gather_repeats(lane);
        lane->gathered = backlog->ready.count;
        max = store_fit(lane->store, lane->gathered < max ? lane->gathered : max);
        return backlog_take_ready(backlog, lane->batch, max, BATCH_MAX_BYTES);
    case ASIDE:
        return backlog_take_due(backlog, clock_now_us(), lane->batch, max, BATCH_MAX_BYTES);
    case REFUSED:
        max = store_fit(lane->store, backlog->refused.count < max ? backlog->refused.count : max);
        return backlog_take_refused(backlog, lane->batch, max, BATCH_MAX_BYTES);
    }
    return 0;
}

static int compare_deliveries(const void *a, const void *b) {
    const struct delivery *const *x = a, *const *y = b;
    return receipt_compare_keys(&(*x)->receipt, &(*y)->receipt);
}

/* Gives deliveries back, with their outcomes. */
static void finish(struct committer *committer, struct delivery *const *batch, size_t count) {
    if (count == 0)
        return;
    pthread_mutex_lock(&committer->lock);
    for (size_t i = 0; i < count; i++)
        backlog_release(&committer->backlog, batch[i]);
    pthread_mutex_unlock(&committer->lock);
    committer->done(batch, count);
}

static const char waited_too_long[] = "waited too long";

/* So that nothing later is blamed on it. */
static void forget_failure(struct store *store) {
    store->failure = NULL;
    store->sqlstate[0] = '\0';
}

/* Notes on the delivery why it is not stored, for the log: what the store says, else what was noted before. */
static void note_failure(struct delivery *delivery, const struct store *store, const char *otherwise) {
    delivery->outcome = OUTCOME_UNAVAILABLE;
    if (store->failure) {
        delivery->failure = store->failure;
        memcpy(delivery->sqlstate, store->sqlstate, sizeof delivery->sqlstate);
    } else if (!delivery->failure) {
        delivery->failure = otherwise;
    }
}

static void finish_unavailable(struct lane *lane, struct delivery *delivery) {
    note_failure(delivery, lane->store, waited_too_long);
    finish(lane->committer, &delivery, 1);
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
        if (batch[i]->outcome != OUTCOME_UNAVAILABLE) {
            struct delivery *delivery = batch[i];
            delivery->failure = NULL;
            delivery->sqlstate[0] = '\0';
            batch[i] = batch[settled];
            batch[settled++] = delivery;
        }
    finish(lane->committer, batch, settled);
    memmove(batch, batch + settled, (count - settled) * sizeof(struct delivery *));
    if (settled > 0)
        qsort(batch, count - settled, sizeof(struct delivery *), compare_deliveries);
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

/* --- Around locks --- */

static bool is_wary(struct committer *committer) {
    pthread_mutex_lock(&committer->lock);
    bool wary = clock_now_us() < committer->wary_until_us;
    pthread_mutex_unlock(&committer->lock);
    return wary;
}

static void become_wary(struct committer *committer) {
    pthread_mutex_lock(&committer->lock);
    committer->wary_until_us = clock_now_us() + WARY_US;
    pthread_mutex_unlock(&committer->lock);
}

/*
 * Sets aside what another session's lock keeps from being stored. tried: it was tried by itself, so it waits longer,
 * and there is a lock; otherwise it may only be there already, to be revised.
 */
static void set_aside(struct lane *lane, struct delivery *const *batch, size_t count, bool tried) {
    struct committer *committer = lane->committer;
    if (count == 0)
        return;
    if (tried)
        become_wary(committer);
    pthread_mutex_lock(&committer->lock);
    for (size_t i = 0; i < count; i++) {
        struct delivery *delivery = batch[i];
        note_failure(delivery, lane->store, "another session has locked the row");
        if (delivery->backoff_us == 0)
            delivery->backoff_us = BACKOFF_FIRST_US;
        else if (tried)
            delivery->backoff_us = doubled(delivery->backoff_us, ASIDE_BACKOFF_MAX_US);
        backlog_set_aside(&committer->backlog, delivery, clock_now_us() + jitter(lane, delivery->backoff_us));
    }
    pthread_mutex_unlock(&committer->lock);
}

/*
 * Inserts receipts one by one: among them are some whose key another session has inserted and not committed, or that
 * cannot be stored at all. As each of the former takes as long as a lock is waited for, not many are tried.
 */
static void insert_singly(struct lane *lane, struct delivery **batch, size_t count) {
    struct store *store = lane->store;
    size_t locked = 0;
    while ((count = expire(lane, batch, count)) > 0 && locked < LOCKED_IN_A_ROW) {
        switch (store_insert(store, batch, 1, batch[0]->deadline_us)) {
        case STORE_OK:
            locked = 0;
            forget_failure(store);
            set_aside(lane, batch, finish_settled(lane, batch, 1), true);
            break;
        case STORE_REFUSED:
            finish_unavailable(lane, batch[0]);
            forget_failure(store);
            break;
        case STORE_LOCKED:
            locked++;
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

/* Tries once more to store what was set aside: first what is there and not locked any more, then what is not there. */
static void retry(struct lane *lane, struct delivery **batch, size_t count) {
    struct store *store = lane->store;
    if ((count = expire(lane, batch, count)) == 0)
        return;
    enum store_result result = store_revise(store, batch, count, earliest_deadline(batch, count));
    if (result == STORE_REFUSED && count > 1) {
        forget_failure(store);
        retry(lane, batch, count / 2);
        retry(lane, batch + count / 2, count - count / 2);
        return;
    }
    count = finish_settled(lane, batch, count);
    if (count > 0 && (result == STORE_OK || result == STORE_LOCKED)) {
        result = store_insert(store, batch, count, earliest_deadline(batch, count));
        count = finish_settled(lane, batch, count);
    }
    if (count > 1 && (result == STORE_LOCKED || result == STORE_REFUSED))
        insert_singly(lane, batch, count);
    else if (count == 1 && result == STORE_REFUSED)
        finish_unavailable(lane, batch[0]);
    else
        set_aside(lane, batch, count, true);
    forget_failure(store);
}

/* --- Storing a batch --- */

static store_function *choose_function(const struct lane *lane, bool wary) {
    if (lane->kind == REFUSED)
        return store_reject;
    return wary ? store_insert : store_upsert;
}

/*
 * Stores a sorted batch, trying again until it is stored or its deliveries' time is up. A batch that fails for a reason
 * of one row is split until that row alone fails: the others are stored.
 */
static void commit(struct lane *lane, struct delivery **batch, size_t count) {
    struct store *store = lane->store;
    int64_t backoff_us = BACKOFF_FIRST_US;
    int conflicts = 0;
    while ((count = expire(lane, batch, count)) > 0) {
        int64_t deadline_us = earliest_deadline(batch, count);
        bool wary = lane->kind == RECEIPTS && is_wary(lane->committer);
        switch (choose_function(lane, wary)(store, batch, count, deadline_us)) {
        case STORE_OK:
            forget_failure(store);
            count = finish_settled(lane, batch, count);
            set_aside(lane, batch, count, false);
            return;
        case STORE_REFUSED:
            if (count == 1) {
                finish_unavailable(lane, batch[0]);
                forget_failure(store);
                return;
            }
            commit(lane, batch, count / 2);
            batch += count / 2;
            count -= count / 2;
            break;
        case STORE_LOCKED:
            if (lane->kind == REFUSED) {
                back_off(lane, &backoff_us, deadline_us);
                break;
            }
            become_wary(lane->committer);
            if (!wary)
                break;
            count = finish_settled(lane, batch, count);
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

/* --- Lanes --- */

/*
 * Whether a lane for receipts should start now. While a batch is being stored, what comes waits for it, since a commit
 * costs PostgreSQL as much as storing ten receipts; but not when there is enough for half a batch, and not for batches
 * that are slow. *again_us: when to look again, if it is not now.
 */
static bool needs_another_lane(const struct committer *committer, int64_t now_us, int64_t *again_us) {
    int64_t slow_at_us = 0; /* when the last of the busy ones has taken long */
    for (size_t i = 0; i < committer->lane_count; i++) {
        const struct lane *lane = &committer->lanes[i];
        if (lane->kind == RECEIPTS && lane->busy_since_us != 0 && lane->busy_since_us + SLOW_US > slow_at_us)
            slow_at_us = lane->busy_since_us + SLOW_US;
    }
    if (slow_at_us <= now_us || committer->backlog.ready.count >= (committer->options.batch_max + 1) / 2)
        return true;
    *again_us = slow_at_us;
    return false;
}

static bool has_work(const struct committer *committer, enum lane_kind kind, int64_t now_us, int64_t *again_us) {
    const struct backlog *backlog = &committer->backlog;
    switch (kind) {
    case RECEIPTS:
        return backlog->ready.count > 0 && needs_another_lane(committer, now_us, again_us);
    case ASIDE:
        *again_us = backlog->retry_us;
        return backlog->retry_us <= now_us;
    case REFUSED:
        return backlog->refused.count > 0;
    }
    return false;
}

/*
 * Returns a free lane, for receipts or of the others, when a thread should start to store in it; otherwise NULL, and
 * *again_ms says when to look again. Called with the lock.
 */
static struct lane *choose_lane(struct committer *committer, bool receipts, int *again_ms) {
    int64_t again_us = committer->backlog.expiry_us, now_us = clock_now_us();
    for (size_t i = 0; i < committer->lane_count; i++) {
        struct lane *lane = &committer->lanes[i];
        int64_t lane_again_us = INT64_MAX;
        if (lane->busy_since_us == 0 && has_work(committer, lane->kind, now_us, &lane_again_us) &&
            (lane->kind == RECEIPTS) == receipts)
            return lane;
        if (lane->busy_since_us == 0 && lane_again_us < again_us)
            again_us = lane_again_us;
    }
    int64_t left_us = again_us > now_us ? again_us - now_us : 0;
    *again_ms = again_us == INT64_MAX ? -1 : (int)(left_us / US_PER_MS) + 1;
    return NULL;
}

/*
 * Answers what is set aside and has no time left, whatever its lane is waiting for. Called with the lock, which it
 * gives up meanwhile.
 */
static void expire_aside(struct committer *committer) {
    struct delivery *expired[EXPIRED_AT_A_TIME];
    while (committer->backlog.expiry_us <= clock_now_us()) {
        size_t count = backlog_take_expired(&committer->backlog, clock_now_us(), expired, EXPIRED_AT_A_TIME);
        pthread_mutex_unlock(&committer->lock);
        for (size_t i = 0; i < count; i++)
            if (!expired[i]->failure) /* it waited behind another of its key, and was never tried */
                expired[i]->failure = waited_too_long;
        finish(committer, expired, count);
        pthread_mutex_lock(&committer->lock);
    }
}

static void work_in(struct lane *lane, size_t count) {
    if (count == 0)
        return;
    if (lane->kind != REFUSED)
        qsort(lane->batch, count, sizeof(struct delivery *), compare_deliveries);
    if (lane->kind == ASIDE)
        retry(lane, lane->batch, count);
    else
        commit(lane, lane->batch, count);
}

/* Works in lanes of a kind until there is nothing to do. Called with the lock, which it gives up meanwhile. */
static int work(struct committer *committer, bool receipts) {
    struct lane *lane;
    int again_ms;
    expire_aside(committer);
    while ((lane = choose_lane(committer, receipts, &again_ms))) {
        lane->busy_since_us = clock_now_us();
        size_t count = take_batch(lane);
        pthread_mutex_unlock(&committer->lock);
        work_in(lane, count);
        pthread_mutex_lock(&committer->lock);
        lane->busy_since_us = 0;
        expire_aside(committer);
    }
    return again_ms;
}

int committer_work(struct committer *committer, bool *aside) {
    int unused;
    pthread_mutex_lock(&committer->lock);
    int again_ms = work(committer, true);
    *aside = choose_lane(committer, false, &unused) != NULL;
    pthread_mutex_unlock(&committer->lock);
    return again_ms;
}

void committer_work_aside(struct committer *committer) {
    pthread_mutex_lock(&committer->lock);
    work(committer, false);
    pthread_mutex_unlock(&committer->lock);
}

static bool add_lane(struct committer *committer, enum lane_kind kind, struct store *store) {
    struct delivery **batch = calloc(committer->options.batch_max, sizeof(struct delivery *));
    if (!batch)
        return false;
    unsigned seed = (unsigned)clock_now_us() + (unsigned)committer->lane_count;
    committer->lanes[committer->lane_count++] =
        (struct lane){.committer = committer, .kind = kind, .store = store, .batch = batch, .seed = seed};
    return true;
}

static enum lane_kind kind_of(size_t lane, size_t lane_count) {
    return lane == lane_count - 1 ? REFUSED : lane == lane_count - 2 ? ASIDE : RECEIPTS;
}

struct committer *committer_new(const struct committer_options *options, struct store *const *stores,
                                size_t store_count, committer_done *done) {
    struct committer *committer = calloc(1, sizeof *committer + store_count * sizeof committer->lanes[0]);
    size_t added = 0;
    if (committer) {
        committer->options = *options;
        committer->done = done;
        pthread_mutex_init(&committer->lock, NULL);
        if (backlog_init(&committer->backlog, options->queue_max, options->queue_max_bytes))
            while (added < store_count && add_lane(committer, kind_of(added, store_count), stores[added]))
                added++;
        if (added == store_count)
            return committer;
    }
    for (size_t i = added; i < store_count; i++)
        store_free(stores[i]);
    committer_free(committer);
    return NULL;
}

void committer_free(struct committer *committer) {
    if (!committer)
        return;
    for (size_t i = 0; i < committer->lane_count; i++) {
        struct lane *lane = &committer->lanes[i];
        store_free(lane->store);
        free(lane->batch);
    }
    backlog_fini(&committer->backlog);
    pthread_mutex_destroy(&committer->lock);
    free(committer);
}
