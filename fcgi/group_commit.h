/*
 * Group commit: deliveries wait in a bounded backlog; a thread that has time to work takes what is there and stores it
 * in one statement and one transaction, while what arrives meanwhile becomes the next batch. No batch waits to become
 * fuller: a lone delivery is committed at once, and under load the batches grow by themselves.
 *
 * It has no threads of its own. Who submits also works, after it has submitted all it has at hand, and then stores
 * others' deliveries too, until none wait: so a lone delivery needs no other thread to be woken.
 *
 * A row that another session has locked holds up nobody else. A batch gives up soon when it meets such a row; its new
 * receipts are stored without it, and for a while so are those of all batches. What needs a lock that cannot be had is
 * set aside, tried again from time to time by a store kept for that, and answered at its deadline. Rejected deliveries
 * have a store of their own too: they and receipts do not wait for each other's tables.
 *
 * Threads: any, but for new and free. The done callback is called in a thread that works.
 */
#ifndef RECEIPTD_GROUP_COMMIT_H
#define RECEIPTD_GROUP_COMMIT_H

#include "backlog.h"
#include "store.h"

#include <stdbool.h>
#include <stddef.h>

struct group_commit;

struct group_commit_options {
    size_t batch_max;       /* deliveries in one transaction, at the most */
    size_t queue_max;       /* deliveries waiting, at the most; receipts and rejected ones each */
    size_t queue_max_bytes; /* and the memory that they take */
};

/* What a statement may cost (backlog.h), in bytes; or what one delivery does. */
enum { GROUP_COMMIT_BATCH_COST = 4 * 1024 * 1024 };

/* Besides those that store receipts: one for what is set aside and one for rejected deliveries. */
enum { GROUP_COMMIT_MORE_STORES = 2 };

/*
 * Told of deliveries that were submitted, once for each of them, with their outcomes set; they are the callee's again.
 */
typedef void group_commit_done(struct delivery *const *deliveries, size_t count);

/*
 * Owns the `store_count` stores, more than GROUP_COMMIT_MORE_STORES, from then on and frees them.
 * As many threads can store at a time. NULL when there is no memory (the stores are freed then too).
 */
struct group_commit *group_commit_new(const struct group_commit_options *options, struct store *const *stores,
                                      size_t store_count, group_commit_done *done);

/*
 * Hands over a delivery with a valid receipt, or with a rejection. False when the backlog is full: then the delivery
 * stays the caller's, to be answered 503 at once.
 */
bool group_commit_submit(struct group_commit *group_commit, struct delivery *delivery);

/*
 * Stores the receipts that wait, batch after batch, until none do, however long that takes; returns at once when none
 * wait, or when others are storing and what waits is theirs to take next. To be called after a submit, and again after
 * as many milliseconds as it returns (-1: only after a submit), lest a batch that takes long hold up what waits. The
 * thread that it told may be storing by then, so some thread has to call it every now and then in any case.
 *
 * *aside: whether there is something for group_commit_work_aside to do.
 */
int group_commit_work(struct group_commit *group_commit, bool *aside);

/*
 * The same for what is set aside and for rejected deliveries. Apart, so that threads which serve others meanwhile can
 * take the place of one that waits for what may be locked for long.
 */
void group_commit_work_aside(struct group_commit *group_commit);

/* Deliveries wait, or were answered 503, and none was stored. */
struct standstill {
    int64_t us;      /* for how long; 0: it is none */
    bool rejections; /* of rejected deliveries; else of receipts */
    const char
        *failure; /* why, in words (static storage); NULL: not known yet. sqlstate and detail as in struct store */
    char sqlstate[6], detail[STORE_DETAIL_SIZE];
};

/* The longer one of those of receipts and of rejected deliveries. */
void group_commit_read_standstill(struct group_commit *group_commit, struct standstill *standstill);

/* How much waits, and how much of either may. */
void group_commit_read_usage(struct group_commit *group_commit, struct usage *receipts, struct usage *rejections,
                             struct usage *limit);

/* Whether it is well: nothing that was submitted is long past its deadline. Waits for its lock, which nobody holds
 * long. */
bool group_commit_moves(struct group_commit *group_commit);

/* Frees it and its stores. Everything submitted must be done, and no thread in group_commit_work. Takes NULL. */
void group_commit_free(struct group_commit *group_commit);

#endif
