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
    GATHER_US = 500,
    GATHER_FROM = 4,                   /* deliveries */
    BATCH_MAX_BYTES = 4 * 1024 * 1024, /* of refused bodies and unknown fields, which can be large */
};

struct thread {
    struct committer *committer;
    struct store *store;
    struct delivery **batch; /* room for options.batch_max */
    size_t gathered;         /* deliveries in the queue when the last batch was taken */
    pthread_t id;
    unsigned seed; /* for the jitter */
};

struct committer {
    struct committer_options options;
    committer_done *done;
    void *context;

    pthread_mutex_t lock; /* guards the queue and stopping */
    pthread_cond_t filled;
    struct delivery *first, **last; /* the queue, oldest first; *last is the link that ends it */
    size_t queued;
    bool stopping;

    size_t thread_count;
    struct thread threads[];
};

bool committer_submit(struct committer *committer, struct delivery *delivery) {
    delivery->next = NULL;
    pthread_mutex_lock(&committer->lock);
    bool room = committer->queued < committer->options.queue_max;
    if (room) {
        *committer->last = delivery;
        committer->last = &delivery->next;
        committer->queued++;
        pthread_cond_signal(&committer->filled);
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
static void gather_repeats(struct thread *thread) {
    struct committer *committer = thread->committer;
    if (!thread->store->repeats || thread->gathered < GATHER_FROM || committer->queued >= thread->gathered / 2)
        return;
    pthread_mutex_unlock(&committer->lock);
    usleep(GATHER_US);
    pthread_mutex_lock(&committer->lock);
}

/*
 * Moves deliveries from the queue to the thread's batch: receipts or refused ones, as the oldest is. Those that may not
 * join stay in their place. Waits while the queue is empty; returns 0 when it is empty for good.
 */
static size_t take_batch(struct thread *thread) {
    struct committer *committer = thread->committer;
    struct delivery **batch = thread->batch;
    size_t count = 0, bytes = 0;
    pthread_mutex_lock(&committer->lock);
    gather_repeats(thread);
    while (!committer->first && !committer->stopping)
        pthread_cond_wait(&committer->filled, &committer->lock);
    thread->gathered = committer->queued;
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
    /* Several submits may have woken one thread only; what is left is another's work. */
    if (committer->first)
        pthread_cond_signal(&committer->filled);
    pthread_mutex_unlock(&committer->lock);
    return count;
}

static int compare_deliveries(const void *a, const void *b) {
    const struct delivery *const *x = a, *const *y = b;
    return receipt_compare_keys(&(*x)->receipt, &(*y)->receipt);
}

static void finish(struct committer *committer, struct delivery *const *batch, size_t count) {
    for (size_t i = 0; i < count; i++)
        committer->done(committer->context, batch[i]);
}

/* So that nothing later is blamed on it. */
static void forget_failure(struct store *store) {
    store->failure = NULL;
    store->sqlstate[0] = '\0';
}

static void finish_unavailable(struct thread *thread, struct delivery *delivery) {
    delivery->outcome = OUTCOME_UNAVAILABLE;
    delivery->failure = thread->store->failure ? thread->store->failure : "waited too long";
    memcpy(delivery->sqlstate, thread->store->sqlstate, sizeof delivery->sqlstate);
    finish(thread->committer, &delivery, 1);
}

/* Answers those whose time is up; the others move together, in order. Returns how many are left. */
static size_t expire(struct thread *thread, struct delivery **batch, size_t count) {
    int64_t now = clock_now_us();
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (batch[i]->deadline_us <= now)
            finish_unavailable(thread, batch[i]);
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
static void back_off(struct thread *thread, int64_t *backoff_us, int64_t deadline_us) {
    int64_t pause = *backoff_us / 2 + rand_r(&thread->seed) % (*backoff_us / 2);
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
static void commit(struct thread *thread, struct delivery **batch, size_t count) {
    struct store *store = thread->store;
    int64_t backoff_us = BACKOFF_FIRST_US;
    int conflicts = 0;
    while ((count = expire(thread, batch, count)) > 0) {
        int64_t deadline_us = earliest_deadline(batch, count);
        switch ((is_refused(batch[0]) ? store->reject : store->store)(store, batch, count, deadline_us)) {
        case STORE_OK:
            forget_failure(store);
            finish(thread->committer, batch, count);
            return;
        case STORE_REFUSED:
            if (count == 1) {
                finish_unavailable(thread, batch[0]);
                forget_failure(store);
                return;
            }
            commit(thread, batch, count / 2);
            batch += count / 2;
            count -= count / 2;
            break;
        case STORE_CONFLICT:
            if (++conflicts < CONFLICT_TRIES)
                break;
            back_off(thread, &backoff_us, deadline_us);
            break;
        case STORE_FAILED:
            back_off(thread, &backoff_us, deadline_us);
            break;
        }
    }
}

static void *run_thread(void *argument) {
    struct thread *thread = argument;
    size_t count;
    while ((count = take_batch(thread)) > 0) {
        if (!is_refused(thread->batch[0]))
            qsort(thread->batch, count, sizeof(struct delivery *), compare_deliveries);
        commit(thread, thread->batch, count);
    }
    return NULL;
}

static bool start_thread(struct committer *committer, struct store *store) {
    struct thread *thread = &committer->threads[committer->thread_count];
    thread->committer = committer;
    thread->store = store;
    thread->seed = (unsigned)clock_now_us() + (unsigned)committer->thread_count;
    struct delivery **batch = calloc(committer->options.batch_max, sizeof(struct delivery *));
    if (!batch)
        return false;
    thread->batch = batch;
    if (pthread_create(&thread->id, NULL, run_thread, thread) != 0) {
        free(batch);
        return false;
    }
    committer->thread_count++;
    return true;
}

struct committer *committer_new(const struct committer_options *options, struct store *const *stores,
                                size_t store_count, committer_done *done, void *context) {
    struct committer *committer = calloc(1, sizeof *committer + store_count * sizeof committer->threads[0]);
    size_t started = 0;
    if (committer) {
        committer->options = *options;
        committer->done = done;
        committer->context = context;
        committer->last = &committer->first;
        pthread_mutex_init(&committer->lock, NULL);
        pthread_cond_init(&committer->filled, NULL);
        while (started < store_count && start_thread(committer, stores[started]))
            started++;
        if (started == store_count)
            return committer;
    }
    for (size_t i = started; i < store_count; i++)
        stores[i]->free(stores[i]);
    committer_free(committer);
    return NULL;
}

void committer_free(struct committer *committer) {
    if (!committer)
        return;
    pthread_mutex_lock(&committer->lock);
    committer->stopping = true;
    pthread_cond_broadcast(&committer->filled);
    pthread_mutex_unlock(&committer->lock);
    for (size_t i = 0; i < committer->thread_count; i++) {
        struct thread *thread = &committer->threads[i];
        pthread_join(thread->id, NULL);
        thread->store->free(thread->store);
        free(thread->batch);
    }
    pthread_cond_destroy(&committer->filled);
    pthread_mutex_destroy(&committer->lock);
    free(committer);
}
