#include "lane.h"

#include "clock.h"

enum { WARY_US = 5 * US_PER_S }; /* after a lock was met: for how long no batch waits for a row */

void lane_finish(struct group_commit *group_commit, struct delivery *const *deliveries, size_t count) {
    if (count == 0)
        return;
    pthread_mutex_lock(&group_commit->lock);
    for (size_t i = 0; i < count; i++)
        backlog_release(&group_commit->backlog, deliveries[i]);
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
