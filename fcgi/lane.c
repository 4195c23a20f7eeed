#include "lane.h"

#include "clock.h"

#include <stdio.h>
#include <string.h>

enum { WARY_US = 5 * US_PER_S }; /* after a lock was met: for how long no batch waits for a row */

static void note_refused(struct group_commit *group_commit, const struct delivery *delivery) {
    struct attempts *attempts =
        delivery->rejection != REJECTION_NONE ? &group_commit->rejections : &group_commit->receipts;
    if (attempts->refused_from_us == 0)
        attempts->refused_from_us = delivery->arrived_us;
    attempts->refused_us = clock_now_us();
}

static struct attempts *attempts_of(struct lane *lane) {
    return lane->kind == LANE_REJECTED ? &lane->group_commit->rejections : &lane->group_commit->receipts;
}

void lane_note_stored(struct lane *lane) {
    struct attempts *attempts = attempts_of(lane);
    pthread_mutex_lock(&lane->group_commit->lock);
    attempts->stored_us = clock_now_us();
    attempts->refused_from_us = 0;
    attempts->failure = NULL;
    pthread_mutex_unlock(&lane->group_commit->lock);
}

void lane_note_failed(struct lane *lane) {
    struct attempts *attempts = attempts_of(lane);
    const struct store *store = lane->store;
    if (!store->failure)
        return;
    pthread_mutex_lock(&lane->group_commit->lock);
    attempts->failure = store->failure;
    memcpy(attempts->sqlstate, store->sqlstate, sizeof attempts->sqlstate);
    snprintf(attempts->detail, sizeof attempts->detail, "%s", store->detail);
    pthread_mutex_unlock(&lane->group_commit->lock);
}

void lane_finish(struct group_commit *group_commit, struct delivery *const *deliveries, size_t count) {
    if (count == 0)
        return;
    pthread_mutex_lock(&group_commit->lock);
    for (size_t i = 0; i < count; i++) {
        if (deliveries[i]->outcome == OUTCOME_UNAVAILABLE)
            note_refused(group_commit, deliveries[i]);
        backlog_release(&group_commit->backlog, deliveries[i]);
    }
    pthread_mutex_unlock(&group_commit->lock);
    group_commit->done(deliveries, count);
}

bool lane_is_wary(struct group_commit *group_commit) {
    pthread_mutex_lock(&group_commit->lock);
    bool wary = clock_now_us() < group_commit->wary_until_us;
    pthread_mutex_unlock(&group_commit->lock);
    return wary;
}

void lane_become_wary(struct group_commit *group_commit) {
    pthread_mutex_lock(&group_commit->lock);
    group_commit->wary_until_us = clock_now_us() + WARY_US;
    pthread_mutex_unlock(&group_commit->lock);
}
