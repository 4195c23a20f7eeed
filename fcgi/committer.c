#include "committer.h"

#include "clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONFLICT_TRIES = 5,
    BACKOFF_FIRST_US = 20 * US_PER_MS,
    BACKOFF_MAX_US = 2 * US_PER_S,
    SLOW_US = 20 * US_PER_MS, /* a batch that takes longer is one that others do not wait for */
    GATHER_US = 500,
    GATHER_FROM = 4,                   /* deliveries */
    BATCH_MAX_BYTES = 4 * 1024 * 1024, /* of refused bodies and unknown fields, which can be large */
};

/* A store, and what the thread that stores with it needs. */
struct lane {
    struct committer *committer;
    struct store *store;
    int64_t busy_since_us;   /* when its thread took the batch; 0: no thread is in it */
    struct delivery **batch; /* room for options.batch_max */
    size_t gathered;         /* deliveries in the queue when the last batch was taken */
    unsigned seed;           /* for the jitter */
};

struct committer {
    struct committer_options options;
    committer_done *done;
    void *context;

    pthread_mutex_t lock;           /* guards the queue, and busy_since_us and gathered of the lanes */
    struct delivery *first, **last; /* the queue, oldest first; *last is the link that ends it */
    size_t queued;

    size_t lane_count;
    struct lane lanes[];
};

bool committer_submit(struct committer *committer, struct delivery *delivery) {
    delivery->next = NULL;
    pthread_mutex_lock(&committer->lock);
    bool room = committer->queued < committer->options.queue_max;
    if (room) {
        *committer->last = delivery;
        committer->last = &delivery->next;
        committer->queued++;
    }
    pthread_mutex_unlock(&committer->lock);
    return room;
}

static bool batch_has_key(struct delivery *const *batch, size_t count, uint64_t key_hash) {
    for (size_t i = 0; i < count; i++)
        if (batch[i]->receipt.key_hash == key_hash)
            return true;
    return false;
}

static bool is_refused(const struct delivery *delivery) {
    return delivery->refusal != OUTCOME_UNAVAILABLE;
}

static size_t large_bytes(const struct delivery *delivery) {
    return delivery->body_len + delivery->receipt.extra_len;
}

/* Whether a delivery may join the batch. Two of one key never share a batch (PostgreSQL: error 21000). */
static bool may_join(struct delivery *const *batch, size_t count, const struct delivery *delivery) {
    if (count == 0)
        return true;
    if (is_refused(delivery) != is_refused(batch[0]))
        return false;
    return is_refused(delivery) || !batch_has_key(batch, count, delivery->receipt.key_hash);
}

/*
 * Batches form while a commit is waited for, but a lookup of repeated deliveries is over sooner: batches of a few cost
 * more processor time than they save. So after one the next get a moment to come, unless half as many as it found are
 * there already. Where only a few come at a time, none waits. Called with the lock, which it gives up meanwhile.
 */
static void gather_repeats(struct lane *lane) {
    struct committer *committer = lane->committer;
    if (!lane->store->repeats || lane->gathered < GATHER_FROM || committer->queued >= lane->gathered / 2)
        return;
    pthread_mutex_unlock(&committer->lock);
    usleep(GATHER_US);
    pthread_mutex_lock(&committer->lock);
}

/*
 * Moves deliveries from the queue to the lane's batch: receipts or refused ones, as the oldest is. Those that may not
 * join stay in their place. Called with the lock; returns 0 when other threads have taken all.
 */
static size_t take_batch(struct lane *lane) {
    struct committer *committer = lane->committer;
    struct delivery **batch = lane->batch;
    size_t count = 0, bytes = 0;
    gather_repeats(lane);
    lane->gathered = committer->queued;
    struct delivery **link = &committer->first;
    while (*link && count < committer->options.batch_max && bytes < BATCH_MAX_BYTES) {
        struct delivery *delivery = *link;
        if (!may_join(batch, count, delivery)) {
            link = &delivery->next;
            continue;
        }
        *link = delivery->next;
        batch[count++] = delivery;
        bytes += large_bytes(delivery);
    }
    if (!*link)
        committer->last = link;
    committer->queued -= count;
    return count;
}

static int compare_deliveries(const void *a, const void *b) {
    const struct delivery *const *x = a, *const *y = b;
    return receipt_compare_keys(&(*x)->receipt, &(*y)->receipt);
}

static void finish(struct lane *lane, struct delivery *const *batch, size_t count) {
    lane->committer->done(lane->committer->context, batch, count);
}

/* So that nothing later is blamed on it. */
static void forget_failure(struct store *store) {
    store->failure = NULL;
    store->sqlstate[0] = '\0';
}

static void finish_unavailable(struct lane *lane, struct delivery *delivery) {
    delivery->outcome = OUTCOME_UNAVAILABLE;
    delivery->failure = lane->store->failure ? lane->store->failure : "waited too long";
    memcpy(delivery->sqlstate, lane->store->sqlstate, sizeof delivery->sqlstate);
    finish(lane, &delivery, 1);
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

static int64_t earliest_deadline(struct delivery *const *batch, size_t count) {
    int64_t earliest = batch[0]->deadline_us;
    for (size_t i = 1; i < count; i++)
        if (batch[i]->deadline_us < earliest)
            earliest = batch[i]->deadline_us;
    return earliest;
}

/* Sleeps half to all of the back-off, but not past the deadline, and doubles it. */
static void back_off(struct lane *lane, int64_t *backoff_us, int64_t deadline_us) {
    int64_t pause = *backoff_us / 2 + rand_r(&lane->seed) % (*backoff_us / 2);
    int64_t left = deadline_us - clock_now_us();
    if (pause > left)
        pause = left;
    if (pause > 0)
        usleep((useconds_t)pause);
    *backoff_us = *backoff_us * 2 < BACKOFF_MAX_US ? *backoff_us * 2 : BACKOFF_MAX_US;
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
        switch ((is_refused(batch[0]) ? store->reject : store->store)(store, batch, count, deadline_us)) {
        case STORE_OK:
            forget_failure(store);
            finish(lane, batch, count);
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

/*
 * Returns a free lane when a thread should start to store in it; otherwise NULL, and *again_ms says when to look again.
 * While a batch is being stored, what comes waits for it, since a commit costs PostgreSQL as much as storing ten
 * receipts; but not when there is enough for half a batch, and not for batches that are slow. Called with the lock.
 */
static struct lane *choose_lane(struct committer *committer, int *again_ms) {
    struct lane *free_lane = NULL;
    int64_t slow_at_us = 0; /* when the last of the busy ones has taken long */
    *again_ms = -1;
    if (!committer->first)
        return NULL;
    for (size_t i = committer->lane_count; i-- > 0;) {
        struct lane *lane = &committer->lanes[i];
        if (lane->busy_since_us == 0)
            free_lane = lane;
        else if (lane->busy_since_us + SLOW_US > slow_at_us)
            slow_at_us = lane->busy_since_us + SLOW_US;
    }
    if (!free_lane || slow_at_us == 0 || committer->queued >= (committer->options.batch_max + 1) / 2)
        return free_lane;
    int64_t left_us = slow_at_us - clock_now_us();
    if (left_us <= 0)
        return free_lane;
    *again_ms = (int)(left_us / US_PER_MS) + 1;
    return NULL;
}

int committer_work(struct committer *committer) {
    struct lane *lane;
    int again_ms;
    pthread_mutex_lock(&committer->lock);
    while ((lane = choose_lane(committer, &again_ms))) {
        lane->busy_since_us = clock_now_us();
        size_t count = take_batch(lane);
        pthread_mutex_unlock(&committer->lock);
        if (count > 0 && !is_refused(lane->batch[0]))
            qsort(lane->batch, count, sizeof(struct delivery *), compare_deliveries);
        if (count > 0)
            commit(lane, lane->batch, count);
        pthread_mutex_lock(&committer->lock);
        lane->busy_since_us = 0;
    }
    pthread_mutex_unlock(&committer->lock);
    return again_ms;
}

static bool add_lane(struct committer *committer, struct store *store) {
    struct delivery **batch = calloc(committer->options.batch_max, sizeof(struct delivery *));
    if (!batch)
        return false;
    unsigned seed = (unsigned)clock_now_us() + (unsigned)committer->lane_count;
    committer->lanes[committer->lane_count++] =
        (struct lane){.committer = committer, .store = store, .batch = batch, .seed = seed};
    return true;
}

struct committer *committer_new(const struct committer_options *options, struct store *const *stores,
                                size_t store_count, committer_done *done, void *context) {
    struct committer *committer = calloc(1, sizeof *committer + store_count * sizeof committer->lanes[0]);
    size_t added = 0;
    if (committer) {
        committer->options = *options;
        committer->done = done;
        committer->context = context;
        committer->last = &committer->first;
        pthread_mutex_init(&committer->lock, NULL);
        while (added < store_count && add_lane(committer, stores[added]))
            added++;
        if (added == store_count)
            return committer;
    }
    for (size_t i = added; i < store_count; i++)
        stores[i]->free(stores[i]);
    committer_free(committer);
    return NULL;
}

void committer_free(struct committer *committer) {
    if (!committer)
        return;
    for (size_t i = 0; i < committer->lane_count; i++) {
        struct lane *lane = &committer->lanes[i];
        lane->store->free(lane->store);
        free(lane->batch);
    }
    pthread_mutex_destroy(&committer->lock);
    free(committer);
}
