#include "group_commit.h"

#include "batch.h"
#include "clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SLOW_US = 20 * US_PER_MS, /* a batch that takes longer is one that others do not wait for */
    COMMIT_DELAY_US = 500,
    COMMIT_SIBLINGS = 4, /* deliveries */
    /* Of large deliveries and those that are set aside: so much that small ones can wait for it. */
    LARGE_BATCH_COST = 1024 * 1024,
    EXPIRED_AT_A_TIME = 64,
    REMEMBERED_US = 60 * US_PER_S, /* after a 503: for how long nothing but a success takes it back */
    BRIEFLY_REMEMBERED_US = 10 * US_PER_S,
    OVERDUE_US = 5 * US_PER_S, /* beyond its deadline, no delivery waits so long in a process that is well */
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
        group_commit->backlog.ready[BACKLOG_SMALL].count >= lane->gathered / 2)
        return;
    pthread_mutex_unlock(&group_commit->lock);
    usleep(COMMIT_DELAY_US);
    pthread_mutex_lock(&group_commit->lock);
}

/* Takes what the lane is to store next. Called with the lock; returns 0 when other threads have taken all. */
static size_t take_batch(struct lane *lane) {
    struct backlog *backlog = &lane->group_commit->backlog;
    struct line *line = lane->kind == LANE_REJECTED ? &backlog->rejected[lane->size] : &backlog->ready[lane->size];
    size_t max = lane->group_commit->batch_max;
    if (lane->kind == LANE_ASIDE)
        return backlog_take_due(backlog, clock_now_us(), lane->batch, max, LARGE_BATCH_COST);
    if (lane->kind == LANE_RECEIPTS && lane->size == BACKLOG_SMALL) {
        await_more(lane);
        lane->gathered = line->count;
    }
    max = store_fit(lane->store, line->count < max ? line->count : max);
    return backlog_take(backlog, line, lane->batch, max,
                        lane->size == BACKLOG_LARGE ? LARGE_BATCH_COST : GROUP_COMMIT_BATCH_COST);
}

/*
 * Whether a lane should start to store small receipts now. While a batch is being stored, what comes waits for it,
 * since a commit costs PostgreSQL as much as storing ten receipts; but not when there is enough for half a batch, and
 * not for batches that are slow, as those of large receipts are. *again_us: when to look again, if it is not now.
 */
static bool needs_another_lane(const struct group_commit *group_commit, int64_t now_us, int64_t *again_us) {
    int64_t slow_at_us = 0; /* when the last of the busy ones has taken long */
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        const struct lane *lane = &group_commit->lanes[i];
        if (lane->kind == LANE_RECEIPTS && lane->size == BACKLOG_SMALL && lane->busy_since_us != 0 &&
            lane->busy_since_us + SLOW_US > slow_at_us)
            slow_at_us = lane->busy_since_us + SLOW_US;
    }
    if (slow_at_us <= now_us || group_commit->backlog.ready[BACKLOG_SMALL].count >= (group_commit->batch_max + 1) / 2)
        return true;
    *again_us = slow_at_us;
    return false;
}

/* One lane at most stores large receipts: the others are for small ones. */
static bool stores_large(const struct group_commit *group_commit) {
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        const struct lane *lane = &group_commit->lanes[i];
        if (lane->kind == LANE_RECEIPTS && lane->size == BACKLOG_LARGE && lane->busy_since_us != 0)
            return true;
    }
    return false;
}

static bool has_work(const struct group_commit *group_commit, enum lane_kind kind, enum backlog_size size,
                     int64_t now_us, int64_t *again_us) {
    const struct backlog *backlog = &group_commit->backlog;
    switch (kind) {
    case LANE_RECEIPTS:
        return backlog->ready[size].count > 0 &&
               (size == BACKLOG_LARGE ? !stores_large(group_commit)
                                      : needs_another_lane(group_commit, now_us, again_us));
    case LANE_ASIDE:
        *again_us = backlog->retry_us;
        return backlog->retry_us <= now_us;
    case LANE_REJECTED:
        return backlog->rejected[size].count > 0;
    }
    return false;
}

/* Returns a free lane, for receipts or of the others, that has deliveries of that size to store. */
static struct lane *find_lane(struct group_commit *group_commit, bool receipts, enum backlog_size size, int64_t now_us,
                              int64_t *again_us) {
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        struct lane *lane = &group_commit->lanes[i];
        int64_t lane_again_us = INT64_MAX;
        if (lane->busy_since_us != 0)
            continue;
        if (has_work(group_commit, lane->kind, size, now_us, &lane_again_us) &&
            (lane->kind == LANE_RECEIPTS) == receipts)
            return lane;
        if (lane_again_us < *again_us)
            *again_us = lane_again_us;
    }
    return NULL;
}

/*
 * Returns a free lane, for receipts or of the others, when a thread should start to store in it, if possible deliveries
 * of that size; otherwise NULL, and *again_ms says when to look again. Called with the lock.
 */
static struct lane *choose_lane(struct group_commit *group_commit, bool receipts, enum backlog_size size,
                                int *again_ms) {
    int64_t again_us = group_commit->backlog.expiry_us, now_us = clock_now_us();
    const enum backlog_size other = size == BACKLOG_SMALL ? BACKLOG_LARGE : BACKLOG_SMALL;
    struct lane *lane = find_lane(group_commit, receipts, size, now_us, &again_us);
    if (!lane) {
        size = other;
        lane = find_lane(group_commit, receipts, size, now_us, &again_us);
    }
    if (lane) {
        lane->size = size;
        return lane;
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
        for (size_t i = 0; i < count; i++) {
            delivery_settle(expired[i], OUTCOME_UNAVAILABLE);
            if (!expired[i]->failure) /* it waited behind another of its key, and was never tried */
                expired[i]->failure = LANE_WAITED_TOO_LONG;
        }
        lane_finish(group_commit, expired, count);
        pthread_mutex_lock(&group_commit->lock);
    }
}

static void work_in(struct lane *lane, size_t count) {
    if (count == 0)
        return;
    if (lane->kind != LANE_REJECTED)
        qsort(lane->batch, count, sizeof(struct delivery *), batch_compare);
    if (lane->kind == LANE_ASIDE)
        batch_retry(lane, lane->batch, count);
    else
        batch_commit(lane, lane->batch, count);
}

/* Says of a batch since when, and until when, it is the lane's. */
static void note_taken(struct lane *lane, size_t count) {
    lane->until_us = 0;
    lane->arrived_us = INT64_MAX;
    for (size_t i = 0; i < count; i++) {
        lane->batch[i]->taken_us = lane->busy_since_us;
        if (lane->batch[i]->arrived_us < lane->arrived_us)
            lane->arrived_us = lane->batch[i]->arrived_us;
        if (lane->batch[i]->deadline_us > lane->until_us)
            lane->until_us = lane->batch[i]->deadline_us;
    }
}

/*
 * Works in lanes of a kind until there is nothing to do: in turn on small deliveries, such as those that the caller may
 * just have submitted, and on large ones. Called with the lock, which it gives up meanwhile.
 */
static int work(struct group_commit *group_commit, bool receipts) {
    enum backlog_size next = BACKLOG_SMALL;
    struct lane *lane;
    int again_ms;
    expire_aside(group_commit);
    while ((lane = choose_lane(group_commit, receipts, next, &again_ms))) {
        next = lane->size == BACKLOG_SMALL ? BACKLOG_LARGE : BACKLOG_SMALL;
        lane->busy_since_us = clock_now_us();
        lane->until_us = lane->arrived_us = INT64_MAX; /* take_batch gives up the lock */
        size_t count = take_batch(lane);
        note_taken(lane, count);
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
    *aside = choose_lane(group_commit, false, BACKLOG_SMALL, &unused) != NULL;
    pthread_mutex_unlock(&group_commit->lock);
    return again_ms;
}

void group_commit_work_aside(struct group_commit *group_commit) {
    pthread_mutex_lock(&group_commit->lock);
    work(group_commit, false);
    pthread_mutex_unlock(&group_commit->lock);
}

void group_commit_read_usage(struct group_commit *group_commit, struct usage *receipts, struct usage *rejections,
                             struct usage *limit) {
    pthread_mutex_lock(&group_commit->lock);
    *receipts = group_commit->backlog.receipts;
    *rejections = group_commit->backlog.rejections;
    *limit = group_commit->backlog.limit;
    pthread_mutex_unlock(&group_commit->lock);
}

/* When the first delivery of a line arrived, if that is before `before_us`. */
static int64_t first_arrival(const struct line *line, int64_t before_us) {
    for (const struct delivery *delivery = line->first; delivery; delivery = delivery->next)
        if (delivery->arrived_us < before_us)
            before_us = delivery->arrived_us;
    return before_us;
}

/*
 * `from_us`: when the first one arrived that waits now; INT64_MAX: none does. A 503 is remembered for less long while
 * the other kind is stored, since then the database is not the reason.
 */
static int64_t stands_still_for(const struct attempts *attempts, const struct attempts *others, int64_t from_us,
                                int64_t now_us) {
    int64_t remembered_us = others->stored_us > attempts->refused_us ? BRIEFLY_REMEMBERED_US : REMEMBERED_US;
    if (attempts->refused_from_us != 0 && now_us - attempts->refused_us < remembered_us &&
        attempts->refused_from_us < from_us)
        from_us = attempts->refused_from_us;
    if (from_us == INT64_MAX)
        return 0;
    if (attempts->stored_us > from_us)
        from_us = attempts->stored_us;
    return now_us - from_us;
}

void group_commit_read_standstill(struct group_commit *group_commit, struct standstill *standstill) {
    pthread_mutex_lock(&group_commit->lock);
    int64_t now_us = clock_now_us();
    const struct backlog *backlog = &group_commit->backlog;
    int64_t rejection_us = INT64_MAX, receipt_us = first_arrival(&backlog->aside, INT64_MAX);
    for (int size = 0; size < BACKLOG_SIZES; size++) {
        rejection_us = first_arrival(&backlog->rejected[size], rejection_us);
        receipt_us = first_arrival(&backlog->ready[size], receipt_us);
    }
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        const struct lane *lane = &group_commit->lanes[i];
        int64_t *first_us = lane->kind == LANE_REJECTED ? &rejection_us : &receipt_us;
        if (lane->busy_since_us != 0 && lane->arrived_us < *first_us)
            *first_us = lane->arrived_us;
    }
    int64_t receipts_us = stands_still_for(&group_commit->receipts, &group_commit->rejections, receipt_us, now_us);
    int64_t rejections_us = stands_still_for(&group_commit->rejections, &group_commit->receipts, rejection_us, now_us);
    const struct attempts *attempts =
        receipts_us >= rejections_us ? &group_commit->receipts : &group_commit->rejections;
    *standstill = (struct standstill){.us = receipts_us >= rejections_us ? receipts_us : rejections_us,
                                      .rejections = rejections_us > receipts_us,
                                      .failure = attempts->failure};
    memcpy(standstill->sqlstate, attempts->sqlstate, sizeof standstill->sqlstate);
    memcpy(standstill->detail, attempts->detail, sizeof standstill->detail);
    pthread_mutex_unlock(&group_commit->lock);
}

static bool is_overdue(const struct line *line, int64_t now_us) {
    return line->first && line->first->deadline_us + OVERDUE_US < now_us;
}

bool group_commit_moves(struct group_commit *group_commit) {
    pthread_mutex_lock(&group_commit->lock);
    int64_t now_us = clock_now_us();
    bool moves = true;
    for (int size = 0; size < BACKLOG_SIZES; size++)
        if (is_overdue(&group_commit->backlog.ready[size], now_us) ||
            is_overdue(&group_commit->backlog.rejected[size], now_us))
            moves = false;
    for (size_t i = 0; i < group_commit->lane_count; i++) {
        const struct lane *lane = &group_commit->lanes[i];
        if (lane->busy_since_us != 0 && lane->until_us != INT64_MAX && lane->until_us + OVERDUE_US < now_us)
            moves = false;
    }
    pthread_mutex_unlock(&group_commit->lock);
    return moves;
}

static bool add_lane(struct group_commit *group_commit, enum lane_kind kind, struct store *store) {
    struct delivery **batch = calloc(group_commit->batch_max, sizeof(struct delivery *));
    if (!batch)
        return false;
    unsigned seed = (unsigned)clock_now_us() + (unsigned)group_commit->lane_count;
    group_commit->lanes[group_commit->lane_count++] =
        (struct lane){.group_commit = group_commit, .kind = kind, .store = store, .batch = batch, .seed = seed};
    return true;
}

static enum lane_kind kind_of(size_t lane, size_t lane_count) {
    return lane == lane_count - 1 ? LANE_REJECTED : lane == lane_count - 2 ? LANE_ASIDE : LANE_RECEIPTS;
}

struct group_commit *group_commit_new(const struct group_commit_options *options, struct store *const *stores,
                                      size_t store_count, group_commit_done *done) {
    struct group_commit *group_commit = calloc(1, sizeof *group_commit + store_count * sizeof group_commit->lanes[0]);
    size_t added = 0;
    if (group_commit) {
        group_commit->batch_max = options->batch_max;
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
