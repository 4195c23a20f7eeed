/*
 * The inside of group commit, for group_commit.c, which chooses what to store, and batch.c, which stores it: lanes, and
 * what they share. A lane is a store, and stores one batch at a time.
 *
 * Threads: who has taken a lane, by setting busy_since_us, is alone in it. What is shared is guarded by the lock; the
 * functions here are called without it.
 */
#ifndef RECEIPTD_LANE_H
#define RECEIPTD_LANE_H

#include "backlog.h"
#include "store.h"

#include <pthread.h>

/* Why nothing else came of a delivery until its deadline, for the log. */
#define LANE_WAITED_TOO_LONG "waited too long"

/* What a lane stores. */
enum lane_kind { LANE_RECEIPTS, LANE_ASIDE, LANE_REJECTED };

/* A store, and what the thread that stores with it needs. */
struct lane {
    struct group_commit *group_commit;
    enum lane_kind kind;
    enum backlog_size size; /* of the deliveries that it stores now, or stored last */
    struct store *store;
    int64_t busy_since_us;   /* when its thread took the batch; 0: no thread is in it */
    int64_t until_us;        /* when the last delivery of that batch has to be answered */
    int64_t arrived_us;      /* when the first one of it arrived */
    struct delivery **batch; /* room for batch_max */
    size_t gathered;         /* receipts that were ready when the last batch was taken */
    unsigned seed;           /* for the jitter */
};

/* What became of the last attempts to store receipts, or rejected deliveries. */
struct attempts {
    int64_t stored_us;       /* when something was stored last */
    int64_t refused_from_us; /* when the first one arrived that was answered 503 since then; 0: none was */
    int64_t refused_us;      /* when the last of those was answered */
    const char *failure;     /* of the last attempt; NULL: it succeeded. With sqlstate and detail as in struct store */
    char sqlstate[6], detail[STORE_DETAIL_SIZE];
};

struct group_commit {
    size_t batch_max;                                               /* deliveries in one transaction, at the most */
    void (*done)(struct delivery *const *deliveries, size_t count); /* a group_commit_done */

    pthread_mutex_t lock; /* guards what is below, and the numbers in the lanes but for seed */
    struct backlog backlog;
    int64_t wary_until_us; /* until then, batches use statements that wait for no row */
    struct attempts receipts, rejections;

    size_t lane_count;
    struct lane lanes[];
};

/* Gives deliveries back, with their outcomes. */
void lane_finish(struct group_commit *group_commit, struct delivery *const *deliveries, size_t count);

/* Notes that an attempt has stored something; or that it has not, with the reason that the lane's store gives. */
void lane_note_stored(struct lane *lane);
void lane_note_failed(struct lane *lane);

/* Whether a lock was met lately; and says that one was met. */
bool lane_is_wary(struct group_commit *group_commit);
void lane_become_wary(struct group_commit *group_commit);

#endif
