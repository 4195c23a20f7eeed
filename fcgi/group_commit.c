#include "group_commit.h"

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
    COMMIT_DELAY_US = 500,
    COMMIT_SIBLINGS = 4,               /* deliveries */
    BATCH_MAX_BYTES = 4 * 1024 * 1024, /* rejected bodies and unknown fields can be large */
    EXPIRED_AT_A_TIME = 64,
};

/* What a lane stores. */
enum lane_kind { RECEIPTS, ASIDE, REJECTED };

/* A store, and what the thread that stores with it needs. */
struct lane {
    struct group_commit *group_commit;
    enum lane_kind kind;
    struct store *store;
    int64_t busy_since_us;   /* when its thread took the batch; 0: no thread is in it */
    struct delivery **batch; /* room for options.batch_max */
    size_t gathered;         /* receipts that were ready when the last batch was taken */
    unsigned seed;           /* for the jitter */
};

struct group_commit {
    struct group_commit_options options;
    group_commit_done *done;

    pthread_mutex_t lock; /* guards the backlog, wary_until_us, and busy_since_us and gathered of the lanes */
    struct backlog backlog;
    int64_t wary_until_us; /* until then, batches use statements that wait for no row */

    size_t lane_count;
    struct lane lanes[];
};

bool group_commit_submit(struct group_commit *group_commit, struct delivery *delivery) {
    pthread_mutex_lock(&group_commit->lock);
    bool room = backlog_add(&group_commit->backlog, delivery);
    pthread_mutex_unlock(&group_commit->lock);
    return room;
}

/*
 * Batches form while a commit is waited for, but a lookup of repeated deliveries is over sooner: batches of a few cost
 * more processor time than they save. So after one the next get a moment to come, unless half as many as it found are
 * there already. Where only a few come at a time, none waits. Called with the lock, which it gives up meanwhile.
 */
static void await_more(struct lane *lane) {
    struct group_commit *group_commit = lane->group_commit;
    if (!lane->store->mostly_known || lane->gathered < COMMIT_SIBLINGS ||
        group_commit->backlog.ready.count >= lane->gathered / 2)
        return;
    pthread_mutex_unlock(&group_commit->lock);
    usleep(COMMIT_DELAY_US);
    pthread_mutex_lock(&group_commit->lock);
}

/* Takes what the lane is to store next. Called with the lock; returns 0 when other threads have taken all. */
static size_t take_batch(struct lane *lane) {
    struct backlog *backlog = &lane->group_commit->backlog;
    size_t max = lane->group_commit->options.batch_max;
    switch (lane->kind) {
    case RECEIPTS:
        await_more(lane);
        lane->gathered = backlog->ready.count;
        max = store_fit(lane->store, lane->gathered < max ? lane->gathered : max);
        return backlog_take_ready(backlog, lane->batch, max, BATCH_MAX_BYTES);
    case ASIDE:
        return backlog_take_due(backlog, clock_now_us(), lane->batch, max, BATCH_MAX_BYTES);
    case REJECTED:
        max = store_fit(lane->store, backlog->rejected.count < max ? backlog->rejected.count : max);
        return backlog_take_rejected(backlog, lane->batch, max, BATCH_MAX_BYTES);
    }
    return 0;
}

static int compare_deliveries(const void *a, const void *b) {
    const struct delivery *const *x = a, *const *y = b;
    return receipt_compare_keys(&(*x)->receipt, &(*y)->receipt);
}

/* Gives deliveries back, with their outcomes. */
static void finish(struct group_commit *group_commit, struct delivery *const *batch, size_t count) {
    if (count == 0)
        return;
    pthread_mutex_lock(&group_commit->lock);
    for (size_t i = 0; i < count; i++)
        backlog_release(&group_commit->backlog, batch[i]);
    pthread_mutex_unlock(&group_commit->lock);
    group_commit->done(batch, count);
}

static const char waited_too_long[] = "waited too long";

/* So that nothing later is blamed on it. */
static void forget_failure(struct store *store) {
    store->failure = NULL;
    store->sqlstate[0] = '\0';
}

/* Notes on the delivery why it is not stored, for the log: what the store says, else what was noted before. */
static void note_unavailable(struct delivery *delivery, const struct store *store, const char *otherwise) {
    delivery->outcome = OUTCOME_UNAVAILABLE;
    if (store->failure) {
        delivery->failure = store->failure;
        memcpy(delivery->sqlstate, store->sqlstate, sizeof delivery->sqlstate);
    } else if (!delivery->failure) {
        delivery->failure = otherwise;
    }
}

static void finish_unavailable(struct lane *lane, struct delivery *delivery) {
    note_unavailable(delivery, lane->store, waited_too_long);
    finish(lane->group_commit, &delivery, 1);
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
    finish(lane->group_commit, batch, settled);
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

static bool is_wary(struct group_commit *group_commit) {
    pthread_mutex_lock(&group_commit->lock);
    bool wary = clock_now_us() < group_commit->wary_until_us;
    pthread_mutex_unlock(&group_commit->lock);
    return wary;
}

static void become_wary(struct group_commit *group_commit) {
    pthread_mutex_lock(&group_commit->lock);
    group_commit->wary_until_us = clock_now_us() + WARY_US;
    pthread_mutex_unlock(&group_commit->lock);
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
        become_wary(group_commit);
    pthread_mutex_lock(&group_commit->lock);
    for (size_t i = 0; i < count; i++) {
        struct delivery *delivery = batch[i];
        note_unavailable(delivery, lane->store, "another session has locked the row");
        if (delivery->backoff_us == 0)
            delivery->backoff_us = BACKOFF_FIRST_US;
        else if (tried)
            delivery->backoff_us = doubled(delivery->backoff_us, ASIDE_BACKOFF_MAX_US);
        backlog_set_aside(&group_commit->backlog, delivery, clock_now_us() + jitter(lane, delivery->backoff_us));
    }
    pthread_mutex_unlock(&group_commit->lock);
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
        case STORE_UNSTORABLE:
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
    if (result == STORE_UNSTORABLE && count > 1) {
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
    if (count > 1 && (result == STORE_LOCKED || result == STORE_UNSTORABLE))
        insert_singly(lane, batch, count);
    else if (count == 1 && result == STORE_UNSTORABLE)
        finish_unavailable(lane, batch[0]);
    else
        set_aside(lane, batch, count, true);
    forget_failure(store);
}

/* --- Storing a batch --- */

static store_function *choose_function(const struct lane *lane, bool wary) {
    if (lane->kind == REJECTED)
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
        bool wary = lane->kind == RECEIPTS && is_wary(lane->group_commit);
        switch (choose_function(lane, wary)(store, batch, count, deadline_us)) {
        case STORE_OK:
            forget_failure(store);
            count = finish_settled(lane, batch, count);
            set_aside(lane, batch, count, false);
            return;
        case STORE_UNSTORABLE:
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
            if (lane->kind == REJECTED) {
                back_off(lane, &backoff_us, deadline_us);
                break;
            }
            become_wary(lane->group_commit);
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
static bool needs_another_lane(const struct group_commit *group_commit, int64_t now_us, int64_t *again_us) {
    int64_t slow_at_us = 0; /* when the last of the busy ones has taken long */
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        const struct lane *lane = &group_commit->lanes[i];
        if (lane->kind == RECEIPTS && lane->busy_since_us != 0 && lane->busy_since_us + SLOW_US > slow_at_us)
            slow_at_us = lane->busy_since_us + SLOW_US;
    }
    if (slow_at_us <= now_us || group_commit->backlog.ready.count >= (group_commit->options.batch_max + 1) / 2)
        return true;
    *again_us = slow_at_us;
    return false;
}

static bool has_work(const struct group_commit *group_commit, enum lane_kind kind, int64_t now_us, int64_t *again_us) {
    const struct backlog *backlog = &group_commit->backlog;
    switch (kind) {
    case RECEIPTS:
        return backlog->ready.count > 0 && needs_another_lane(group_commit, now_us, again_us);
    case ASIDE:
        *again_us = backlog->retry_us;
        return backlog->retry_us <= now_us;
    case REJECTED:
        return backlog->rejected.count > 0;
    }
    return false;
}

/*
 * Returns a free lane, for receipts or of the others, when a thread should start to store in it; otherwise NULL, and
 * *again_ms says when to look again. Called with the lock.
 */
static struct lane *choose_lane(struct group_commit *group_commit, bool receipts, int *again_ms) {
    int64_t again_us = group_commit->backlog.expiry_us, now_us = clock_now_us();
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        struct lane *lane = &group_commit->lanes[i];
        int64_t lane_again_us = INT64_MAX;
        if (lane->busy_since_us == 0 && has_work(group_commit, lane->kind, now_us, &lane_again_us) &&
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
static void expire_aside(struct group_commit *group_commit) {
    struct delivery *expired[EXPIRED_AT_A_TIME];
    while (group_commit->backlog.expiry_us <= clock_now_us()) {
        size_t count = backlog_take_expired(&group_commit->backlog, clock_now_us(), expired, EXPIRED_AT_A_TIME);
        pthread_mutex_unlock(&group_commit->lock);
        for (size_t i = 0; i < count; i++)
            if (!expired[i]->failure) /* it waited behind another of its key, and was never tried */
                expired[i]->failure = waited_too_long;
        finish(group_commit, expired, count);
        pthread_mutex_lock(&group_commit->lock);
    }
}

static void work_in(struct lane *lane, size_t count) {
    if (count == 0)
        return;
    if (lane->kind != REJECTED)
        qsort(lane->batch, count, sizeof(struct delivery *), compare_deliveries);
    if (lane->kind == ASIDE)
        retry(lane, lane->batch, count);
    else
        commit(lane, lane->batch, count);
}

/* Works in lanes of a kind until there is nothing to do. Called with the lock, which it gives up meanwhile. */
static int work(struct group_commit *group_commit, bool receipts) {
    struct lane *lane;
    int again_ms;
    expire_aside(group_commit);
    while ((lane = choose_lane(group_commit, receipts, &again_ms))) {
        lane->busy_since_us = clock_now_us();
        size_t count = take_batch(lane);
        pthread_mutex_unlock(&group_commit->lock);
        work_in(lane, count);
        pthread_mutex_lock(&group_commit->lock);
        lane->busy_since_us = 0;
        expire_aside(group_commit);
    }
    return again_ms;
}

int group_commit_work(struct group_commit *group_commit, bool *aside) {
    int unused;
    pthread_mutex_lock(&group_commit->lock);
    int again_ms = work(group_commit, true);
    *aside = choose_lane(group_commit, false, &unused) != NULL;
    pthread_mutex_unlock(&group_commit->lock);
    return again_ms;
}

void group_commit_work_aside(struct group_commit *group_commit) {
    pthread_mutex_lock(&group_commit->lock);
    work(group_commit, false);
    pthread_mutex_unlock(&group_commit->lock);
}

static bool add_lane(struct group_commit *group_commit, enum lane_kind kind, struct store *store) {
    struct delivery **batch = calloc(group_commit->options.batch_max, sizeof(struct delivery *));
    if (!batch)
        return false;
    unsigned seed = (unsigned)clock_now_us() + (unsigned)group_commit->lane_count;
    group_commit->lanes[group_commit->lane_count++] =
        (struct lane){.group_commit = group_commit, .kind = kind, .store = store, .batch = batch, .seed = seed};
    return true;
}

static enum lane_kind kind_of(size_t lane, size_t lane_count) {
    return lane == lane_count - 1 ? REJECTED : lane == lane_count - 2 ? ASIDE : RECEIPTS;
}

struct group_commit *group_commit_new(const struct group_commit_options *options, struct store *const *stores,
                                      size_t store_count, group_commit_done *done) {
    struct group_commit *group_commit = calloc(1, sizeof *group_commit + store_count * sizeof group_commit->lanes[0]);
    size_t added = 0;
    if (group_commit) {
        group_commit->options = *options;
        group_commit->done = done;
        pthread_mutex_init(&group_commit->lock, NULL);
        if (backlog_init(&group_commit->backlog, options->queue_max, options->queue_max_bytes))
            while (added < store_count && add_lane(group_commit, kind_of(added, store_count), stores[added]))
                added++;
        if (added == store_count)
            return group_commit;
    }
    for (size_t i = added; i < store_count; i++)
        store_free(stores[i]);
    group_commit_free(group_commit);
    return NULL;
}

void group_commit_free(struct group_commit *group_commit) {
    if (!group_commit)
        return;
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        struct lane *lane = &group_commit->lanes[i];
        store_free(lane->store);
        free(lane->batch);
    }
    backlog_fini(&group_commit->backlog);
    pthread_mutex_destroy(&group_commit->lock);
    free(group_commit);
}
