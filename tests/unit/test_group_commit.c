/*
 * group_commit.h: batches out of the backlog, and every delivery done once. The stores are fakes that follow a script
 * and judge each batch they are given.
 */
#include "group_commit.h"

#include "clock.h"
#include "unit.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>

enum {
    CALLS_MAX = 4096,
    DELIVERIES_MAX = 4096,
    SCRIPT_MAX = 16,
    BATCH_MAX = 64,
    LOCKS_MAX = 16,
    UNIT_SIZE = 24,
    LONG_MS = 30000,
    KIB = 1024,
    MIB = 1024 * KIB,
};

/* The fakes: those for receipts, of which a test uses one or more, and the two others. */
enum { RECEIPT_STORES = 3, ASIDE = RECEIPT_STORES, REJECTED, STORES };

static atomic_llong skipped_us;

/* Takes the place of glibc's, also in group commit. */
int clock_gettime(clockid_t id, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_MONOTONIC) {
        int64_t ns = now->tv_nsec + atomic_load(&skipped_us) % US_PER_S * NS_PER_US;
        now->tv_sec += (time_t)(atomic_load(&skipped_us) / US_PER_S + ns / 1000000000);
        now->tv_nsec = (long)(ns % 1000000000);
    }
    return result;
}

static void skip_ms(int ms) {
    atomic_fetch_add(&skipped_us, (int64_t)ms * US_PER_MS);
}

/* A delivery of a test. */
struct parcel {
    struct delivery delivery; /* the first member */
    char unit[UNIT_SIZE];
    unsigned first_try, last_try; /* among all that stores tried; 0: none did */
    atomic_uint done;
};

static const char *unit_of(const struct delivery *delivery) {
    return ((const struct parcel *)delivery)->unit;
}

/* Rows are there from the start where "old" stands in their name; the others are never there. */
static bool is_there(const struct delivery *delivery) {
    return strstr(unit_of(delivery), "old") != NULL;
}

static bool is_bad(const struct delivery *delivery) {
    return strstr(unit_of(delivery), "bad") != NULL;
}

/* What all stores see. */
static struct {
    pthread_mutex_t lock;
    char locked[LOCKS_MAX][UNIT_SIZE]; /* by another session: a row that is there, or one it has inserted */
    size_t locked_count;
    const struct delivery *busy[STORES * BATCH_MAX]; /* what is in stores now */
    size_t busy_count;
    unsigned tries;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock_row(const char *unit) {
    pthread_mutex_lock(&world.lock);
    assert(world.locked_count < LOCKS_MAX);
    snprintf(world.locked[world.locked_count++], UNIT_SIZE, "%s", unit);
    pthread_mutex_unlock(&world.lock);
}

static void unlock_rows(void) {
    pthread_mutex_lock(&world.lock);
    world.locked_count = 0;
    pthread_mutex_unlock(&world.lock);
}

static bool is_locked(const struct delivery *delivery) {
    bool locked = false;
    pthread_mutex_lock(&world.lock);
    for (size_t i = 0; i < world.locked_count; i++)
        locked |= strcmp(unit_of(delivery), world.locked[i]) == 0;
    pthread_mutex_unlock(&world.lock);
    return locked;
}

/* Notes that a store has them now. Returns whether no store has one of the same receipt. */
static bool enter_world(struct delivery *const *deliveries, size_t count, bool rejects) {
    bool alone = true;
    pthread_mutex_lock(&world.lock);
    for (size_t i = 0; i < count; i++) {
        struct parcel *parcel = (struct parcel *)deliveries[i];
        for (size_t j = 0; j < world.busy_count && !rejects; j++)
            alone &= world.busy[j]->rejection != REJECTION_NONE || strcmp(unit_of(world.busy[j]), parcel->unit) != 0;
        parcel->last_try = ++world.tries;
        if (parcel->first_try == 0)
            parcel->first_try = parcel->last_try;
    }
    assert(world.busy_count + count <= COUNT_OF(world.busy));
    memcpy(world.busy + world.busy_count, deliveries, count * sizeof world.busy[0]);
    world.busy_count += count;
    pthread_mutex_unlock(&world.lock);
    return alone;
}

static void leave_world(struct delivery *const *deliveries, size_t count) {
    pthread_mutex_lock(&world.lock);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < world.busy_count; j++)
            if (world.busy[j] == deliveries[i])
                world.busy[j--] = world.busy[--world.busy_count];
    pthread_mutex_unlock(&world.lock);
}

enum function { UPSERT, INSERT, REVISE, REJECT };

struct fake_store {
    struct store store;
    bool functions[REJECT + 1]; /* which may be called */
    size_t batch_max;
    /* The results of the first calls; the others are STORE_OK, or what `then` says, as far as the rows allow. */
    enum store_result script[SCRIPT_MAX];
    size_t script_len;
    enum store_result then;
    unsigned random;  /* not 0: the seed of all results, and of what is settled */
    bool refuses_bad; /* STORE_UNSTORABLE where a receipt is bad */
    bool has_slow;    /* STORE_SLOW where one is slow */
    bool leaves;      /* insert settles nothing but units called "." */
    bool fits_powers; /* fit tells powers of two */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;    /* a call waits until this is false, ... */
    size_t allowed; /* ... but for the first so many */
    size_t calls;
    size_t counts[CALLS_MAX]; /* of the deliveries in each call */
    enum function called[CALLS_MAX];
    int64_t deadlines[CALLS_MAX]; /* that each call was given */
    int64_t times[CALLS_MAX];
    const struct delivery *stored[DELIVERIES_MAX]; /* in order */
    size_t stored_count;
    atomic_uint frees;
    atomic_uint wrong; /* batches that break store.h's promises */
};

static struct fake_store *fake_of(struct store *store) {
    return (struct fake_store *)store; /* its first member */
}

static bool batch_is_sound(const struct fake_store *fake, struct delivery *const *deliveries, size_t count,
                           int64_t deadline_us, enum function function) {
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < count; i++) {
        if (deliveries[i]->deadline_us < earliest)
            earliest = deliveries[i]->deadline_us;
        if ((deliveries[i]->rejection != REJECTION_NONE) != (function == REJECT) ||
            deliveries[i]->state == DELIVERY_SETTLED || deliveries[i]->outcome != OUTCOME_UNAVAILABLE)
            return false;
        if (function != REJECT && i > 0 &&
            receipt_compare_keys(&deliveries[i - 1]->receipt, &deliveries[i]->receipt) >= 0)
            return false;
    }
    return fake->functions[function] && count >= 1 && count <= fake->batch_max && deadline_us == earliest;
}

/* What a session of PostgreSQL's would answer. */
static enum store_result result_for_rows(const struct fake_store *fake, struct delivery *const *deliveries,
                                         size_t count, enum function function) {
    enum store_result result = STORE_OK;
    for (size_t i = 0; i < count; i++) {
        bool there = is_there(deliveries[i]);
        bool writes = function == INSERT ? !there : function == REVISE ? there : true;
        if (fake->refuses_bad && writes && is_bad(deliveries[i]))
            return STORE_UNSTORABLE;
        if (fake->has_slow && strstr(unit_of(deliveries[i]), "slow"))
            return STORE_SLOW;
        if ((function == UPSERT || function == INSERT) && writes && is_locked(deliveries[i]))
            result = STORE_LOCKED;
    }
    return result;
}

static enum store_result random_result(struct fake_store *fake) {
    static const enum store_result rare[] = {STORE_UNSTORABLE, STORE_CONFLICT, STORE_LOCKED,
                                             STORE_LOCKED,     STORE_FAILED,   STORE_SLOW};
    unsigned drawn = (unsigned)rand_r(&fake->random) % 16;
    return drawn < COUNT_OF(rare) ? rare[drawn] : STORE_OK;
}

static bool settles(struct fake_store *fake, const struct delivery *delivery, enum function function) {
    if (fake->random && (function == INSERT || function == REVISE))
        return rand_r(&fake->random) % 2 == 0;
    switch (function) {
    case UPSERT:
    case REJECT:
        return true;
    case INSERT:
        return !is_there(delivery) && (!fake->leaves || strcmp(unit_of(delivery), ".") == 0);
    case REVISE:
        return is_there(delivery) && !is_locked(delivery);
    }
    return false;
}

static void settle(struct fake_store *fake, struct delivery *delivery, enum function function) {
    delivery_settle(delivery, function == REJECT   ? delivery->rejection_answer
                              : is_there(delivery) ? OUTCOME_REVISED
                                                   : OUTCOME_CREATED);
    fake->stored[fake->stored_count++] = delivery;
}

/* One failure and one state of each result, so that a test can tell them. */
static const struct {
    const char *failure, *sqlstate;
} said[] = {[STORE_UNSTORABLE] = {"rejected", "22000"},
            [STORE_CONFLICT] = {"conflict", "40001"},
            [STORE_LOCKED] = {"locked", "55P03"},
            [STORE_SLOW] = {"slow", "57014"},
            [STORE_FAILED] = {"failed", "57P01"}};

static enum store_result take_call(struct store *store, struct delivery *const *deliveries, size_t count,
                                   int64_t deadline_us, enum function function) {
    struct fake_store *fake = fake_of(store);
    pthread_mutex_lock(&fake->lock);
    size_t call = fake->calls++;
    assert(call < CALLS_MAX);
    fake->counts[call] = count;
    fake->called[call] = function;
    fake->deadlines[call] = deadline_us;
    fake->times[call] = clock_now_us();
    bool sound = batch_is_sound(fake, deliveries, count, deadline_us, function);
    if (!enter_world(deliveries, count, function == REJECT) || !sound)
        atomic_fetch_add(&fake->wrong, 1);
    pthread_cond_broadcast(&fake->changed);
    while (fake->closed && call >= fake->allowed)
        pthread_cond_wait(&fake->changed, &fake->lock);
    if (fake->random)
        usleep((useconds_t)(rand_r(&fake->random) % 300));
    enum store_result result = fake->random              ? random_result(fake)
                               : call < fake->script_len ? fake->script[call]
                                                         : fake->then;
    if (result == STORE_OK)
        result = result_for_rows(fake, deliveries, count, function);
    leave_world(deliveries, count);
    if (result == STORE_OK || (result == STORE_LOCKED && fake->random && function != UPSERT && function != REJECT))
        for (size_t i = 0; i < count; i++)
            if (settles(fake, deliveries[i], function))
                settle(fake, deliveries[i], function);
    if (result != STORE_OK) {
        store->failure = said[result].failure;
        strcpy(store->sqlstate, said[result].sqlstate);
    }
    pthread_mutex_unlock(&fake->lock);
    return result;
}

enum store_result store_upsert(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return take_call(store, deliveries, count, deadline_us, UPSERT);
}

enum store_result store_insert(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return take_call(store, deliveries, count, deadline_us, INSERT);
}

enum store_result store_revise(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return take_call(store, deliveries, count, deadline_us, REVISE);
}

enum store_result store_reject(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return take_call(store, deliveries, count, deadline_us, REJECT);
}

size_t store_fit(const struct store *store, size_t waiting) {
    const struct fake_store *fake = (const struct fake_store *)store;
    size_t fitting = 1;
    if (!fake->fits_powers || waiting == 0)
        return waiting;
    while (2 * fitting <= waiting)
        fitting *= 2;
    return fitting;
}

void store_free(struct store *store) {
    atomic_fetch_add(&fake_of(store)->frees, 1);
}

static void init_fake(struct fake_store *fake, size_t index) {
    memset(fake, 0, sizeof *fake);
    fake->functions[UPSERT] = index < RECEIPT_STORES;
    fake->functions[INSERT] = index != REJECTED;
    fake->functions[REVISE] = index == ASIDE;
    fake->functions[REJECT] = index == REJECTED;
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
}

static void set_closed(struct fake_store *fake, bool closed) {
    pthread_mutex_lock(&fake->lock);
    fake->closed = closed;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

/* Lets the first `calls` calls of a closed store end. */
static void allow(struct fake_store *fake, size_t calls) {
    pthread_mutex_lock(&fake->lock);
    fake->allowed = calls;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static void wait_for_call(struct fake_store *fake, size_t call) {
    pthread_mutex_lock(&fake->lock);
    while (fake->calls < call)
        pthread_cond_wait(&fake->changed, &fake->lock);
    pthread_mutex_unlock(&fake->lock);
}

static struct parcel parcels[DELIVERIES_MAX];
static size_t parcel_count;
static atomic_uint done_count;
static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_changed = PTHREAD_COND_INITIALIZER;

static struct fake_store stores[STORES];
static struct group_commit *group_commit;

/* A delivery of the receipt whose unit_identifier is `unit`; of the last, where several have the name, a revision. */
static struct parcel *make_parcel(const char *unit, int deadline_ms) {
    assert_true(parcel_count < DELIVERIES_MAX);
    struct parcel *parcel = &parcels[parcel_count++];
    memset(parcel, 0, sizeof *parcel);
    snprintf(parcel->unit, sizeof parcel->unit, "%s", unit);
    struct receipt *receipt = &parcel->delivery.receipt;
    const char *const key[RECEIPT_KEY_COUNT] = {"program", "asn", parcel->unit};
    receipt->key_hash = 5381;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        struct receipt_value *value = &receipt->values[receipt_key_fields[k]];
        *value = (struct receipt_value){key[k], (uint32_t)strlen(key[k]), RECEIPT_VALUE_STRING};
        for (const char *c = key[k]; *c; c++)
            receipt->key_hash = receipt->key_hash * 33 + (unsigned char)*c;
    }
    parcel->delivery.arrived_us = clock_now_us();
    parcel->delivery.deadline_us = parcel->delivery.arrived_us + (int64_t)deadline_ms * US_PER_MS;
    return parcel;
}

static void note_done(struct delivery *const *deliveries, size_t count) {
    for (size_t i = 0; i < count; i++)
        atomic_fetch_add(&((struct parcel *)deliveries[i])->done, deliveries[i]->state == DELIVERY_SETTLED ? 1 : 100);
    pthread_mutex_lock(&done_lock);
    atomic_fetch_add(&done_count, (unsigned)count);
    pthread_cond_broadcast(&done_changed);
    pthread_mutex_unlock(&done_lock);
}

static void wait_for_done(size_t count) {
    pthread_mutex_lock(&done_lock);
    while (atomic_load(&done_count) < count)
        pthread_cond_wait(&done_changed, &done_lock);
    pthread_mutex_unlock(&done_lock);
}

/* Threads that work as the server's do: after every submit, and when they were told to come again. */
static pthread_t workers[STORES];
static size_t worker_count;
static sem_t posts;
static atomic_bool ending;

static void wait_for_post(int timeout_ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += timeout_ms > 0 ? timeout_ms % 1000 * 1000000L : 0;
    until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while ((timeout_ms < 0 ? sem_wait(&posts) : sem_timedwait(&posts, &until)) != 0 && errno == EINTR)
        ;
}

/* What a thread of the server does. */
static int work_all(void) {
    bool aside;
    int again_ms;
    while (again_ms = group_commit_work(group_commit, &aside), aside)
        group_commit_work_aside(group_commit);
    return again_ms;
}

static void *run_worker(void *unused) {
    (void)unused;
    for (;;) {
        bool last = atomic_load(&ending);
        int again_ms = work_all();
        if (last && again_ms < 0)
            return NULL;
        /* Each takes one post of those that end() makes. */
        if (last)
            usleep(1000);
        else
            wait_for_post(again_ms);
    }
}

static void end(void) {
    atomic_store(&ending, true);
    for (size_t i = 0; i < worker_count; i++)
        sem_post(&posts);
    for (size_t i = 0; i < worker_count; i++)
        pthread_join(workers[i], NULL);
    sem_destroy(&posts);
    group_commit_free(group_commit);
    group_commit = NULL;
}

/* With so many threads that work: none, or as many as there are stores. */
static void start_with(size_t threads, const struct group_commit_options *options, size_t receipt_stores) {
    struct store *list[STORES];
    assert_true(receipt_stores <= RECEIPT_STORES);
    for (size_t i = 0; i < STORES; i++)
        stores[i].batch_max = options->batch_max;
    for (size_t i = 0; i < receipt_stores; i++)
        list[i] = &stores[i].store;
    list[receipt_stores] = &stores[ASIDE].store;
    list[receipt_stores + 1] = &stores[REJECTED].store;
    group_commit = group_commit_new(options, list, receipt_stores + GROUP_COMMIT_MORE_STORES, note_done);
    assert_non_null(group_commit);
    assert_int_equal(sem_init(&posts, 0, 0), 0);
    atomic_store(&ending, false);
    for (worker_count = 0; worker_count < threads; worker_count++)
        assert_int_equal(pthread_create(&workers[worker_count], NULL, run_worker, NULL), 0);
}

static void start(size_t batch_max, size_t queue_max, size_t receipt_stores) {
    const struct group_commit_options options = {
        .batch_max = batch_max, .queue_max = queue_max, .queue_max_bytes = 64 * MIB};
    start_with(receipt_stores + GROUP_COMMIT_MORE_STORES, &options, receipt_stores);
}

/* A delivery that was rejected: it may have a key, but not the hash of a valid one. */
static struct parcel *make_rejected(const char *unit, int deadline_ms) {
    struct parcel *parcel = make_parcel(unit, deadline_ms);
    parcel->delivery.receipt.key_hash = 0;
    parcel->delivery.rejection = REJECTION_MALFORMED;
    parcel->delivery.rejection_answer = OUTCOME_QUARANTINED;
    return parcel;
}

static struct parcel *submit_parcel(struct parcel *parcel) {
    assert_true(group_commit_submit(group_commit, &parcel->delivery));
    sem_post(&posts);
    return parcel;
}

static struct parcel *submit(const char *unit, int deadline_ms) {
    return submit_parcel(make_parcel(unit, deadline_ms));
}

static struct parcel *submit_rejected(const char *unit, int deadline_ms) {
    return submit_parcel(make_rejected(unit, deadline_ms));
}

/* With so many bytes besides its fields, and a key of its own. */
static struct parcel *make_large(bool rejected, size_t bytes) {
    char unit[UNIT_SIZE];
    snprintf(unit, sizeof unit, "%04zu", parcel_count);
    struct parcel *parcel = rejected ? make_rejected(unit, LONG_MS) : make_parcel(unit, LONG_MS);
    *(rejected ? &parcel->delivery.body_len : &parcel->delivery.receipt.extra_len) = bytes;
    return parcel;
}

/*
 * Deliveries of one receipt are tried in the order in which they were submitted: no later one before an earlier one is
 * done. False for a test whose threads submit the same receipts.
 */
static bool in_order = true;

static void check_parcel(size_t index) {
    const struct parcel *parcel = &parcels[index];
    const struct delivery *delivery = &parcel->delivery;
    expect_row(parcel->done == 1, "%zu, %s: done %u times", index, parcel->unit, parcel->done);
    if (delivery->outcome == OUTCOME_UNAVAILABLE)
        expect_row(delivery->failure && *delivery->failure, "%zu, %s: no failure", index, parcel->unit);
    else
        expect_row(!delivery->failure && !delivery->sqlstate[0], "%zu, %s: stored, but %s %s", index, parcel->unit,
                   delivery->failure ? delivery->failure : "", delivery->sqlstate);
    if (!in_order || delivery->rejection != REJECTION_NONE || parcel->first_try == 0)
        return;
    for (size_t i = 0; i < index; i++)
        if (parcels[i].delivery.receipt.key_hash == delivery->receipt.key_hash)
            expect_row(parcels[i].last_try < parcel->first_try, "%zu, %s: tried before %zu was done", index,
                       parcel->unit, i);
}

/* Ends group commit, and checks what holds in every case. */
static void finish(void) {
    end();
    for (size_t i = 0; i < STORES; i++)
        expect_row(stores[i].wrong == 0, "store %zu was given %u wrong batches", i, stores[i].wrong);
    for (size_t i = 0; i < parcel_count && wrong_rows < 20; i++)
        check_parcel(i);
    end_table();
}

static int prepare(void **state) {
    (void)state;
    /* A test that failed left it as it was. */
    unlock_rows();
    if (group_commit) {
        for (size_t i = 0; i < STORES; i++)
            set_closed(&stores[i], false);
        end();
    }
    for (size_t i = 0; i < STORES; i++)
        init_fake(&stores[i], i);
    in_order = true;
    parcel_count = 0;
    atomic_store(&done_count, 0);
    return 0;
}

/* The sizes of the batches, with "+" before those that were inserted, "=" revised, "-" rejected. */
static const char *counts_text(const struct fake_store *fake) {
    static const char *const marks[] = {[UPSERT] = "", [INSERT] = "+", [REVISE] = "=", [REJECT] = "-"};
    static char text[512]; /* good until the next call */
    text[0] = '\0';
    for (size_t i = 0; i < fake->calls; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%zu", i > 0 ? " " : "", marks[fake->called[i]],
                 fake->counts[i]);
    return text;
}

/* The units stored, in order; good until the next call. */
static const char *stored_text(const struct fake_store *fake) {
    static char text[2048];
    text[0] = '\0';
    for (size_t i = 0; i < fake->stored_count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? " " : "", unit_of(fake->stored[i]));
    return text;
}

/* Holds the store in its first call, with a delivery of no matter, so that what follows waits in the backlog. */
static void hold(void) {
    stores[0].closed = true;
    submit("held", LONG_MS);
    wait_for_call(&stores[0], 1);
}

static void hold_refused(void) {
    stores[REJECTED].closed = true;
    submit_rejected("held", LONG_MS);
    wait_for_call(&stores[REJECTED], 1);
}

static void a_lone_delivery_is_committed_at_once(void **state) {
    (void)state;
    start(64, 1024, 1);
    struct parcel *parcel = submit("1", LONG_MS);
    wait_for_done(1);
    assert_int_equal(parcel->delivery.outcome, OUTCOME_CREATED);
    assert_true(stores[0].times[0] - parcel->delivery.arrived_us < 2 * US_PER_S);
    assert_int_equal(stores[0].deadlines[0], parcel->delivery.deadline_us);
    finish();
}

static void what_waits_becomes_batches_up_to_the_bound(void **state) {
    (void)state;
    char unit[8];
    start(10, 1024, 1);
    hold();
    for (int i = 0; i < 25; i++) {
        snprintf(unit, sizeof unit, "%02u", (unsigned char)i);
        submit(unit, LONG_MS);
    }
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 10 10 5");
    assert_string_equal(stored_text(&stores[0]), "held 00 01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20 "
                                                 "21 22 23 24");
}

static void a_batch_is_as_large_as_the_store_has_a_fit_for(void **state) {
    (void)state;
    stores[0].fits_powers = stores[REJECTED].fits_powers = true;
    start(24, 1024, 1);
    hold();
    hold_refused();
    for (int i = 0; i < 54; i++)
        submit_parcel(make_large(i % 2 == 1, 0));
    set_closed(&stores[0], false);
    set_closed(&stores[REJECTED], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 16 8 2 1");
    assert_string_equal(counts_text(&stores[REJECTED]), "-1 -16 -8 -2 -1");
}

/* Returns how long after a batch of `size`, of repeated deliveries or not, two that have been waiting are taken. */
static int64_t pause_after_batch(bool mostly_known, int size) {
    char unit[8];
    prepare(NULL);
    start(64, 1024, 1);
    hold();
    for (int i = 0; i < size; i++) {
        snprintf(unit, sizeof unit, "%02u", (unsigned char)i);
        submit(unit, LONG_MS);
    }
    allow(&stores[0], 1);
    wait_for_call(&stores[0], 2);
    submit("late 1", LONG_MS);
    submit("late 2", LONG_MS);
    stores[0].store.mostly_known = mostly_known;
    int64_t opened = clock_now_us();
    set_closed(&stores[0], false);
    wait_for_call(&stores[0], 3);
    int64_t pause = stores[0].times[2] - opened;
    finish();
    return pause;
}

static int64_t shortest_pause_after_batch(bool mostly_known, int size) {
    int64_t shortest = INT64_MAX;
    for (int tries = 0; tries < 20; tries++) {
        int64_t pause = pause_after_batch(mostly_known, size);
        if (pause < shortest)
            shortest = pause;
    }
    return shortest;
}

static void only_many_repeated_deliveries_are_waited_for(void **state) {
    (void)state;
    assert_true(shortest_pause_after_batch(true, 8) >= 500);
    assert_true(shortest_pause_after_batch(true, 5) < 500); /* half of them are there */
    assert_true(shortest_pause_after_batch(true, 3) < 500);
    assert_true(shortest_pause_after_batch(false, 8) < 500);
}

static void a_bound_of_one_stores_one_by_one(void **state) {
    (void)state;
    start(1, 1024, 1);
    hold();
    submit("c", LONG_MS);
    submit("a", LONG_MS);
    submit("b", LONG_MS);
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 1 1 1");
    assert_string_equal(stored_text(&stores[0]), "held c a b");
}

static void a_batch_is_sorted_by_key(void **state) {
    (void)state;
    static const char *const units[] = {"m", "z", "a", "aa", "B", "10", "9", "b", "\xc3\xa4", "1"};
    start(64, 1024, 1);
    hold();
    for (size_t i = 0; i < COUNT_OF(units); i++)
        submit(units[i], LONG_MS);
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(stored_text(&stores[0]), "held 1 10 9 B a aa b m z \xc3\xa4");
}

static void deliveries_of_one_key_never_share_a_batch_and_keep_their_order(void **state) {
    (void)state;
    struct parcel *of_a[4];
    start(64, 1024, 1);
    hold();
    of_a[0] = submit("a", LONG_MS);
    submit("b", LONG_MS);
    of_a[1] = submit("a", LONG_MS);
    of_a[2] = submit("a", LONG_MS);
    submit("b", LONG_MS);
    submit("c", LONG_MS);
    of_a[3] = submit("a", LONG_MS);
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 3 2 1 1");
    assert_string_equal(stored_text(&stores[0]), "held a b c a b a a");
    static const size_t at[] = {1, 4, 6, 7};
    for (size_t i = 0; i < COUNT_OF(at); i++)
        assert_ptr_equal(stores[0].stored[at[i]], &of_a[i]->delivery);
}

/* The queue's end has to stay right whatever is taken out of its middle. */
static void every_mixture_of_keys_is_stored_in_order(void **state) {
    (void)state;
    enum { LENGTH = 6, KEYS = 3 };
    unsigned mixtures = 1;
    for (int i = 0; i < LENGTH; i++)
        mixtures *= KEYS;
    for (unsigned mixture = 0; mixture < mixtures; mixture += 7) {
        prepare(state);
        start(2, 1024, 1);
        hold();
        for (unsigned i = 0, rest = mixture; i < LENGTH; i++, rest /= KEYS)
            submit((const char *const[]){"a", "b", "c"}[rest % KEYS], LONG_MS);
        set_closed(&stores[0], false);
        wait_for_done(1 + LENGTH);
        submit("a", LONG_MS); /* the queue works on after it was empty */
        finish();
        assert_int_equal(stores[0].stored_count, 2 + LENGTH);
        for (size_t i = 0; i < stores[0].stored_count; i++)
            for (size_t j = 0; j < i; j++)
                if (strcmp(unit_of(stores[0].stored[i]), unit_of(stores[0].stored[j])) == 0)
                    assert_true(stores[0].stored[j] < stores[0].stored[i]);
    }
}

static void a_rejected_batch_is_split_until_only_the_bad_ones_fail(void **state) {
    (void)state;
    char unit[16];
    stores[0].refuses_bad = true;
    start(64, 1024, 1);
    hold();
    for (int i = 0; i < 33; i++) {
        snprintf(unit, sizeof unit, "%s%02d", i == 5 || i == 6 || i == 32 ? "bad" : "good", i);
        submit(unit, LONG_MS);
    }
    set_closed(&stores[0], false);
    finish();
    for (size_t i = 1; i < parcel_count; i++) {
        const struct delivery *delivery = &parcels[i].delivery;
        bool bad = parcels[i].unit[0] == 'b';
        expect_row(delivery->outcome == (bad ? OUTCOME_UNAVAILABLE : OUTCOME_CREATED), "%s: outcome %d",
                   parcels[i].unit, (int)delivery->outcome);
        if (bad)
            expect_row(strcmp(delivery->failure, "rejected") == 0 && strcmp(delivery->sqlstate, "22000") == 0,
                       "%s: %s %s", parcels[i].unit, delivery->failure, delivery->sqlstate);
        else
            expect_row(!delivery->failure && !delivery->sqlstate[0], "%s has a failure", parcels[i].unit);
    }
    expect_row(stores[0].stored_count == 31, "%zu are stored", stores[0].stored_count);
    expect_row(stores[0].calls <= 1 + 2 * 3 * 6, "it took %zu calls", stores[0].calls);
    end_table();
}

static void a_lone_rejected_delivery_is_not_tried_again(void **state) {
    (void)state;
    stores[0].refuses_bad = true;
    start(64, 1024, 1);
    struct parcel *parcel = submit("bad", LONG_MS);
    wait_for_done(1);
    assert_int_equal(parcel->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_int_equal(stores[0].calls, 1);
    finish();
}

/*
 * With three time-outs of the statement, which is what a deadline has room for, the others are stored; the slow one is
 * tried again by the store for what is set aside.
 */
static void a_batch_that_takes_too_long_is_split_until_the_slow_one_is_alone(void **state) {
    (void)state;
    for (int remains = 0; remains < 2; remains++) {
        char unit[16];
        prepare(state);
        stores[0].has_slow = true;
        stores[ASIDE].has_slow = remains;
        start(64, 1024, 1);
        hold();
        for (int i = 0; i < 64; i++) {
            snprintf(unit, sizeof unit, "%02d%s", i, i == 37 ? "slow" : "");
            submit(unit, i == 37 && remains ? 200 : LONG_MS);
        }
        set_closed(&stores[0], false);
        finish();
        const struct delivery *slow = &parcels[1 + 37].delivery;
        expect_row(slow->outcome == (remains ? OUTCOME_UNAVAILABLE : OUTCOME_CREATED), "slow: %d", (int)slow->outcome);
        expect_row(!remains || (strcmp(slow->failure, "slow") == 0 && strcmp(slow->sqlstate, "57014") == 0),
                   "slow: %s %s", slow->failure, slow->sqlstate);
        for (size_t i = 1; i < parcel_count; i++)
            expect_row(&parcels[i].delivery == slow || parcels[i].delivery.outcome == OUTCOME_CREATED, "%s: %d",
                       parcels[i].unit, (int)parcels[i].delivery.outcome);
        assert_string_equal(counts_text(&stores[0]), "1 64 8 8 8 8 8 1 1 1 1 1 1 1 1 8 8 8");
        expect_row(stores[ASIDE].calls > 0, "nothing was set aside");
    }
    end_table();
}

static void a_slow_rejected_delivery_is_tried_again(void **state) {
    (void)state;
    stores[REJECTED].script[0] = stores[REJECTED].script[1] = STORE_SLOW;
    stores[REJECTED].script_len = 2;
    start(64, 1024, 1);
    struct parcel *parcel = submit_rejected("a", LONG_MS);
    wait_for_done(1);
    assert_int_equal(parcel->delivery.outcome, OUTCOME_QUARANTINED);
    assert_string_equal(counts_text(&stores[REJECTED]), "-1 -1 -1");
    finish();
}

static void a_conflict_or_failure_is_tried_again(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum store_result script[SCRIPT_MAX];
        size_t script_len;
    } rows[] = {
        {"a conflict", {STORE_CONFLICT}, 1},
        {"four conflicts", {STORE_CONFLICT, STORE_CONFLICT, STORE_CONFLICT, STORE_CONFLICT}, 4},
        {"eight conflicts",
         {STORE_CONFLICT, STORE_CONFLICT, STORE_CONFLICT, STORE_CONFLICT, STORE_CONFLICT, STORE_CONFLICT,
          STORE_CONFLICT, STORE_CONFLICT},
         8},
        {"a failure", {STORE_FAILED}, 1},
        {"three failures", {STORE_FAILED, STORE_FAILED, STORE_FAILED}, 3},
        {"both", {STORE_FAILED, STORE_CONFLICT, STORE_FAILED, STORE_CONFLICT}, 4},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        prepare(state);
        memcpy(stores[0].script, rows[r].script, sizeof rows[r].script);
        stores[0].script_len = rows[r].script_len;
        start(64, 1024, 1);
        struct parcel *parcel = submit("a", LONG_MS);
        wait_for_done(1);
        expect_row(parcel->delivery.outcome == OUTCOME_CREATED && stores[0].calls == rows[r].script_len + 1,
                   "%s: outcome %d after %zu calls", rows[r].name, (int)parcel->delivery.outcome, stores[0].calls);
        expect_row(!parcel->delivery.failure && !parcel->delivery.sqlstate[0], "%s leaves a failure", rows[r].name);
        finish();
    }
    end_table();
}

/* How long it takes until a delivery is stored after three of these results. */
static int64_t time_of_three(enum store_result result) {
    prepare(NULL);
    stores[0].script_len = 3;
    for (size_t i = 0; i < stores[0].script_len; i++)
        stores[0].script[i] = result;
    start(64, 1024, 1);
    submit("a", LONG_MS);
    finish();
    return stores[0].times[3] - stores[0].times[0];
}

static void a_few_conflicts_do_not_wait_and_failures_do(void **state) {
    (void)state;
    /* Half of 20, 40 and 80 ms, at the least. */
    const int64_t waits_us = 70 * US_PER_MS;
    assert_true(time_of_three(STORE_FAILED) >= waits_us);
    /* A busy machine can make one of them slow, but not all. */
    int tries = 0;
    while (time_of_three(STORE_CONFLICT) >= waits_us)
        assert_true(++tries < 20);
}

static void what_fails_until_its_deadline_is_unavailable_and_says_why(void **state) {
    (void)state;
    static const struct {
        enum store_result result;
        const char *failure, *sqlstate;
    } rows[] = {{STORE_CONFLICT, "conflict", "40001"}, {STORE_FAILED, "failed", "57P01"}};
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        prepare(state);
        stores[0].then = rows[r].result;
        start(64, 1024, 1);
        struct parcel *parcel = submit("a", 150);
        wait_for_done(1);
        int64_t late_us = clock_now_us() - parcel->delivery.deadline_us;
        const struct delivery *delivery = &parcel->delivery;
        expect_row(delivery->outcome == OUTCOME_UNAVAILABLE, "%s: outcome %d", rows[r].failure, (int)delivery->outcome);
        expect_row(delivery->failure && strcmp(delivery->failure, rows[r].failure) == 0, "%s: failure %s",
                   rows[r].failure, delivery->failure);
        expect_row(strcmp(delivery->sqlstate, rows[r].sqlstate) == 0, "%s: state %s", rows[r].failure,
                   delivery->sqlstate);
        expect_row(late_us >= 0 && late_us < 30 * US_PER_S, "%s: answered %lld us behind the deadline", rows[r].failure,
                   (long long)late_us);
        expect_row(stores[0].calls >= 3 && stores[0].calls < 30, "%s: %zu calls", rows[r].failure, stores[0].calls);
        finish();
    }
    end_table();
}

static void a_pause_ends_at_the_deadline(void **state) {
    /* The first pause would be 10 ms at the least. A busy machine can make some of these late, but not all. */
    for (int tries = 0; tries < 100; tries++) {
        prepare(state);
        stores[0].then = STORE_FAILED;
        start(64, 1024, 1);
        struct parcel *parcel = submit("a", 2);
        wait_for_done(1);
        int64_t late_us = clock_now_us() - parcel->delivery.deadline_us;
        finish();
        if (stores[0].calls > 0 && late_us < 5 * US_PER_MS)
            return;
    }
    fail_msg("every one was answered late");
}

static void what_waited_beyond_its_deadline_is_not_stored(void **state) {
    (void)state;
    start(64, 1024, 1);
    hold();
    struct parcel *late = submit("late", 20), *early = submit("early", LONG_MS);
    usleep(30 * US_PER_MS);
    set_closed(&stores[0], false);
    finish();
    assert_int_equal(late->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_string_equal(late->delivery.failure, "waited too long");
    assert_string_equal(late->delivery.sqlstate, "");
    assert_int_equal(early->delivery.outcome, OUTCOME_CREATED);
    assert_string_equal(stored_text(&stores[0]), "held early");
}

static void a_success_behind_the_deadline_is_a_success(void **state) {
    (void)state;
    stores[0].closed = true;
    start(64, 1024, 1);
    struct parcel *parcel = submit("a", 50);
    wait_for_call(&stores[0], 1);
    usleep(60 * US_PER_MS);
    set_closed(&stores[0], false);
    finish();
    assert_int_equal(parcel->delivery.outcome, OUTCOME_CREATED);
}

static void only_those_whose_time_is_up_leave_a_batch(void **state) {
    (void)state;
    stores[0].script_len = 1; /* "held" is stored */
    stores[0].then = STORE_FAILED;
    start(64, 1024, 1);
    hold();
    struct parcel *b = submit("b", LONG_MS), *a = submit("a", 300), *c = submit("c", LONG_MS);
    set_closed(&stores[0], false);
    wait_for_done(2);
    pthread_mutex_lock(&stores[0].lock);
    stores[0].then = STORE_OK;
    pthread_mutex_unlock(&stores[0].lock);
    finish();
    assert_int_equal(a->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_int_equal(b->delivery.outcome, OUTCOME_CREATED);
    assert_int_equal(c->delivery.outcome, OUTCOME_CREATED);
    assert_int_equal(stores[0].counts[stores[0].calls - 1], 2);
    assert_string_equal(stored_text(&stores[0]), "held b c");
}

static void a_delivery_that_waited_is_not_blamed_on_another_ones_error(void **state) {
    (void)state;
    stores[0].refuses_bad = true;
    start(64, 1024, 1);
    submit("bad", LONG_MS);
    wait_for_done(1);
    struct parcel *late = submit("late", -1);
    wait_for_done(2);
    assert_int_equal(late->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_string_equal(late->delivery.failure, "waited too long");
    assert_string_equal(late->delivery.sqlstate, "");
    finish();
}

static void a_failure_is_forgotten_after_a_success(void **state) {
    (void)state;
    stores[0].script[0] = STORE_FAILED;
    stores[0].script_len = 1;
    start(64, 1024, 1);
    submit("a", LONG_MS);
    wait_for_done(1);
    struct parcel *late = submit("late", -1);
    wait_for_done(2);
    assert_string_equal(late->delivery.failure, "waited too long");
    assert_string_equal(late->delivery.sqlstate, "");
    finish();
}

static void a_delivery_whose_key_is_being_stored_joins_no_batch(void **state) {
    (void)state;
    enum { TIMES = 10 };
    struct parcel *of_a[TIMES];
    stores[0].closed = true;
    start(64, 1024, 2);
    submit("a", LONG_MS);
    wait_for_call(&stores[0], 1);
    for (int i = 0; i < TIMES; i++) {
        of_a[i] = submit("a", LONG_MS);
        if (i % 3 == 0)
            submit((const char[]){(char)('b' + i / 3), '\0'}, LONG_MS);
    }
    wait_for_done(4); /* in the other store, once the batch is slow */
    assert_string_equal(stored_text(&stores[1]), "b c d e");
    set_closed(&stores[0], false);
    finish();
    assert_int_equal(stores[0].stored_count + stores[1].stored_count, 1 + TIMES + 4);
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(of_a[i]->delivery.outcome, OUTCOME_CREATED);
}

static void who_waits_for_its_key_comes_before_what_came_later(void **state) {
    (void)state;
    start(1, 1024, 1);
    hold();
    submit("a", LONG_MS);
    submit("a", LONG_MS);
    submit("b", LONG_MS);
    submit("held", LONG_MS);
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(stored_text(&stores[0]), "held held a a b");
}

/* A session has locked old 1, and another one has inserted new 2: one is found by looking, the other by waiting. */
static void a_lock_holds_up_nobody_else(void **state) {
    (void)state;
    static const char *const units[] = {"a", "new 2", "old 1", "z"};
    static const struct {
        const char *locked, *counts, *stored;
        size_t done;
    } rows[] = {
        {"", "1 4", "held a new 2 old 1 z", 5},
        {"old 1", "1 4 +4", "held a new 2 z", 4},
        /* Nothing tells which of them it is: all are tried again, one by one. */
        {"new 2", "1 4 +4", "held", 4},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct parcel *of[COUNT_OF(units)];
        prepare(state);
        start(64, 1024, 1);
        hold();
        if (*rows[r].locked)
            lock_row(rows[r].locked);
        for (size_t i = 0; i < COUNT_OF(units); i++)
            of[i] = submit(units[i], LONG_MS);
        set_closed(&stores[0], false);
        wait_for_done(rows[r].done);
        for (size_t i = 0; i < COUNT_OF(units); i++)
            expect_row((of[i]->done == 1) == (strcmp(units[i], rows[r].locked) != 0), "%s locked: %s is done %u times",
                       rows[r].locked, units[i], of[i]->done);
        unlock_rows();
        finish();
        for (size_t i = 0; i < COUNT_OF(units); i++)
            expect_row(of[i]->delivery.outcome == (strstr(units[i], "old") ? OUTCOME_REVISED : OUTCOME_CREATED),
                       "%s locked: %s: outcome %d", rows[r].locked, units[i], (int)of[i]->delivery.outcome);
        expect_row(strcmp(counts_text(&stores[0]), rows[r].counts) == 0, "%s locked: %s", rows[r].locked,
                   counts_text(&stores[0]));
        expect_row(strcmp(stored_text(&stores[0]), rows[r].stored) == 0, "%s locked: %s", rows[r].locked,
                   stored_text(&stores[0]));
    }
    end_table();
}

static void what_is_locked_until_its_deadline_is_unavailable_and_says_why(void **state) {
    (void)state;
    static const struct {
        const char *unit, *failure, *sqlstate;
    } rows[] = {{"old", "another session has locked the row", ""}, {"new", "locked", "55P03"}};
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        prepare(state);
        lock_row(rows[r].unit);
        start(64, 1024, 1);
        struct parcel *parcel = submit(rows[r].unit, 250);
        wait_for_done(1);
        int64_t late_us = clock_now_us() - parcel->delivery.deadline_us;
        const struct delivery *delivery = &parcel->delivery;
        finish();
        expect_row(delivery->outcome == OUTCOME_UNAVAILABLE && strcmp(delivery->failure, rows[r].failure) == 0 &&
                       strcmp(delivery->sqlstate, rows[r].sqlstate) == 0,
                   "%s: outcome %d, %s %s", rows[r].unit, (int)delivery->outcome, delivery->failure,
                   delivery->sqlstate);
        expect_row(late_us >= 0 && late_us < 30 * US_PER_S, "%s: answered %lld us behind the deadline", rows[r].unit,
                   (long long)late_us);
        /* It waits longer each time: 10 ms at the least, then 20, then 40, … */
        expect_row(stores[ASIDE].calls >= 2 && stores[ASIDE].calls <= 12, "%s: %s", rows[r].unit,
                   counts_text(&stores[ASIDE]));
    }
    end_table();
}

/*
 * Sets aside deliveries with these units and LONG_MS, all due at once and none tried yet: the store for them hangs in
 * its first call, with one of its own.
 */
static void set_aside(const char *const *units, size_t count, struct parcel **of) {
    stores[ASIDE].closed = true;
    stores[0].script[0] = STORE_LOCKED;
    stores[0].script_len = 1;
    stores[0].leaves = true;
    submit("old held", LONG_MS);
    wait_for_call(&stores[ASIDE], 1);
    for (size_t i = 0; i < count; i++)
        of[i] = submit(units[i], LONG_MS);
    /* When the second of these is stored, the batch of the first is over; what came before them is aside by then. */
    for (unsigned i = 1; i <= 2; i++) {
        submit(".", LONG_MS);
        wait_for_done(i);
    }
    skip_ms(1000);
}

static void what_is_set_aside_is_tried_again_until_it_is_stored(void **state) {
    (void)state;
    enum { MANY = 4 };
    static const struct {
        const char *name, *units[MANY];
        const char *locked[MANY];             /* until the call named by `locked_calls` has begun */
        enum store_result script[SCRIPT_MAX]; /* after the first call */
        size_t script_len, locked_calls;
        const char *counts;
        const char *unavailable; /* which is, because it was rejected */
    } rows[] = {
        {.name = "a row that is there", .units = {"old"}, .counts = "=1 =1"},
        {.name = "a new one", .units = {"a"}, .counts = "=1 =1 +1"},
        {.name = "both", .units = {"a", "b", "old"}, .counts = "=1 =3 +2"},
        {.name = "one that is locked still",
         .units = {"a", "old"},
         .locked = {"old"},
         .locked_calls = 6,
         .counts = "=1 =2 +2 =1 +1 =1"},
        {.name = "one that another session has inserted",
         .units = {"a"},
         .locked = {"a"},
         .locked_calls = 5,
         .counts = "=1 =1 +1 =1 +1"},
        {.name = "revise meets a conflict",
         .units = {"a"},
         .script = {STORE_CONFLICT},
         .script_len = 1,
         .counts = "=1 =1 =1 +1"},
        {.name = "revise fails", .units = {"a"}, .script = {STORE_FAILED}, .script_len = 1, .counts = "=1 =1 =1 +1"},
        {.name = "revise meets a lock",
         .units = {"a"},
         .script = {STORE_LOCKED},
         .script_len = 1,
         .counts = "=1 =1 +1"},
        {.name = "revise meets a lock again and again",
         .units = {"old"},
         .script = {STORE_LOCKED, STORE_OK, STORE_LOCKED},
         .script_len = 3,
         .counts = "=1 =1 +1 =1 +1 =1"},
        {.name = "revise is rejected",
         .units = {"old"},
         .script = {STORE_UNSTORABLE},
         .script_len = 1,
         .counts = "=1 =1",
         .unavailable = "old"},
        {.name = "insert meets a conflict",
         .units = {"a"},
         .script = {STORE_OK, STORE_CONFLICT},
         .script_len = 2,
         .counts = "=1 =1 +1 =1 +1"},
        {.name = "insert fails",
         .units = {"a"},
         .script = {STORE_OK, STORE_FAILED},
         .script_len = 2,
         .counts = "=1 =1 +1 =1 +1"},
        {.name = "insert is rejected",
         .units = {"a"},
         .script = {STORE_OK, STORE_UNSTORABLE},
         .script_len = 2,
         .counts = "=1 =1 +1",
         .unavailable = "a"},
        {.name = "insert is rejected for one of many",
         .units = {"a", "bad", "c"},
         .counts = "=1 =3 +3 +1 +1 +1",
         .unavailable = "bad"},
        {.name = "insert meets a lock of one of many",
         .units = {"a", "b", "c"},
         .locked = {"b"},
         .locked_calls = 7,
         .counts = "=1 =3 +3 +1 +1 +1 =1 +1"},
        {.name = "revise meets a lock, with many",
         .units = {"a", "old 1", "old 2"},
         .script = {STORE_LOCKED},
         .script_len = 1,
         .counts = "=1 =3 +3 +1 =1 +1 =1"},
        {.name = "revise is rejected for one of many",
         .units = {"old 1", "old 2 bad", "old 3"},
         .counts = "=1 =3 =1 =2 =1 =1",
         .unavailable = "old 2 bad"},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct parcel *of[MANY];
        size_t count = 0;
        prepare(state);
        memcpy(stores[ASIDE].script + 1, rows[r].script, rows[r].script_len * sizeof rows[r].script[0]);
        stores[ASIDE].script_len = 1 + rows[r].script_len;
        stores[ASIDE].refuses_bad = true;
        start(64, 1024, 1);
        while (count < MANY && rows[r].units[count])
            count++;
        set_aside(rows[r].units, count, of);
        for (size_t i = 0; i < MANY && rows[r].locked[i]; i++)
            lock_row(rows[r].locked[i]);
        if (rows[r].locked_calls > 0) {
            allow(&stores[ASIDE], rows[r].locked_calls - 1);
            wait_for_call(&stores[ASIDE], rows[r].locked_calls);
            unlock_rows();
        }
        set_closed(&stores[ASIDE], false);
        finish();
        expect_row(strcmp(counts_text(&stores[ASIDE]), rows[r].counts) == 0, "%s: %s", rows[r].name,
                   counts_text(&stores[ASIDE]));
        for (size_t i = 0; i < count; i++) {
            const struct delivery *delivery = &of[i]->delivery;
            if (rows[r].unavailable && strcmp(rows[r].unavailable, rows[r].units[i]) == 0)
                expect_row(delivery->outcome == OUTCOME_UNAVAILABLE && strcmp(delivery->failure, "rejected") == 0 &&
                               strcmp(delivery->sqlstate, "22000") == 0,
                           "%s: %s: outcome %d", rows[r].name, rows[r].units[i], (int)delivery->outcome);
            else
                expect_row(delivery->outcome == (is_there(delivery) ? OUTCOME_REVISED : OUTCOME_CREATED),
                           "%s: %s: outcome %d", rows[r].name, rows[r].units[i], (int)delivery->outcome);
        }
    }
    end_table();
}

/* Each lock costs a wait, so after some in a row the others are left for another time, which comes soon. */
static void few_locks_are_waited_for_when_receipts_are_tried_singly(void **state) {
    (void)state;
    static const char *const units[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    static const struct {
        const char *name, *locked;            /* a letter for each */
        enum store_result script[SCRIPT_MAX]; /* after the first call */
        size_t script_len;
        const char *counts; /* until they are set aside */
        size_t calls;
        const char *stored;
        const char *waits_longer; /* since it was tried; a letter for each */
    } rows[] = {
        {"eight in a row", "abcdefgh", {0}, 0, "=1 =10 +10 +1 +1 +1 +1 +1 +1 +1 +1", 11, "old held", "abcdefgh"},
        {"eight later on", "bcdefghi", {0}, 0, "=1 =10 +10 +1 +1 +1 +1 +1 +1 +1 +1 +1", 12, "old held a", "bcdefghi"},
        {"nine, not in a row",
         "abcdfghij",
         {0},
         0,
         "=1 =10 +10 +1 +1 +1 +1 +1 +1 +1 +1 +1 +1",
         13,
         "old held e",
         "abcdfghij"},
        {"a failure",
         "",
         {STORE_OK, STORE_UNSTORABLE, STORE_OK, STORE_FAILED},
         4,
         "=1 =10 +10 +1 +1",
         5,
         "old held a",
         "bcdefghij"},
        {"a conflict", "", {STORE_OK, STORE_LOCKED, STORE_CONFLICT}, 3, "=1 =10 +10 +1", 4, "old held", "abcdefghij"},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct parcel *of[COUNT_OF(units)];
        prepare(state);
        memcpy(stores[ASIDE].script + 1, rows[r].script, rows[r].script_len * sizeof rows[r].script[0]);
        stores[ASIDE].script_len = 1 + rows[r].script_len;
        start(64, 1024, 1);
        set_aside(units, COUNT_OF(units), of);
        for (const char *letter = rows[r].locked; *letter; letter++)
            lock_row((const char[]){*letter, '\0'});
        allow(&stores[ASIDE], rows[r].calls);
        wait_for_call(&stores[ASIDE], rows[r].calls + 1);
        pthread_mutex_lock(&stores[ASIDE].lock);
        const char *counts = counts_text(&stores[ASIDE]), *stored = stored_text(&stores[ASIDE]);
        expect_row(strncmp(counts, rows[r].counts, strlen(rows[r].counts)) == 0 &&
                       stores[ASIDE].called[rows[r].calls] == REVISE,
                   "%s: %s", rows[r].name, counts);
        expect_row(strcmp(stored, rows[r].stored) == 0, "%s: stored %s", rows[r].name, stored);
        pthread_mutex_unlock(&stores[ASIDE].lock);
        unlock_rows();
        set_closed(&stores[ASIDE], false);
        finish();
        for (size_t i = 0; i < COUNT_OF(units); i++) {
            expect_row(of[i]->delivery.outcome == OUTCOME_CREATED, "%s: %s: outcome %d", rows[r].name, units[i],
                       (int)of[i]->delivery.outcome);
            expect_row(of[i]->delivery.backoff_us == (strchr(rows[r].waits_longer, *units[i]) ? 40 : 20) * US_PER_MS,
                       "%s: %s: waited for %lld us", rows[r].name, units[i], (long long)of[i]->delivery.backoff_us);
        }
    }
    end_table();
}

static void large_ones_are_tried_again_in_smaller_batches(void **state) {
    (void)state;
    struct parcel *none[1];
    start(64, 1024, 1);
    set_aside(NULL, 0, none);
    for (int i = 0; i < 6; i++)
        submit_parcel(make_large(false, 300 * KIB));
    for (unsigned i = 3; i <= 5; i++) {
        submit(".", LONG_MS);
        wait_for_done(i);
    }
    skip_ms(1000);
    set_closed(&stores[ASIDE], false);
    finish();
    assert_string_equal(counts_text(&stores[ASIDE]), "=1 =3 +3 =3 +3");
}

static void what_is_locked_is_not_blamed_on_another_ones_error(void **state) {
    (void)state;
    static const struct {
        const char *units[2], *locked, *counts;
    } rows[] = {{{"bad", "old"}, "old", "=1 =2 +2 +1 +1 ="}, {{"old 1", "old 2 bad"}, "old 1", "=1 =2 =1 +1 =1 ="}};
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct parcel *of[2];
        prepare(state);
        stores[ASIDE].refuses_bad = true;
        start(64, 1024, 1);
        set_aside(rows[r].units, 2, of);
        lock_row(rows[r].locked);
        allow(&stores[ASIDE], 5);
        wait_for_call(&stores[ASIDE], 6); /* the one that is locked, again */
        skip_ms(LONG_MS);
        set_closed(&stores[ASIDE], false);
        finish();
        expect_row(strncmp(counts_text(&stores[ASIDE]), rows[r].counts, strlen(rows[r].counts)) == 0, "%zu: %s", r,
                   counts_text(&stores[ASIDE]));
        for (size_t i = 0; i < 2; i++) {
            bool locked = strcmp(rows[r].units[i], rows[r].locked) == 0;
            const struct delivery *delivery = &of[i]->delivery;
            expect_row(delivery->outcome == OUTCOME_UNAVAILABLE &&
                           strcmp(delivery->failure, locked ? "another session has locked the row" : "rejected") == 0 &&
                           strcmp(delivery->sqlstate, locked ? "" : "22000") == 0,
                       "%s: outcome %d, %s %s", rows[r].units[i], (int)delivery->outcome, delivery->failure,
                       delivery->sqlstate);
        }
    }
    end_table();
}

static void what_is_set_aside_is_answered_in_time_though_its_store_hangs(void **state) {
    (void)state;
    for (int while_working = 0; while_working <= 1; while_working++) {
        struct parcel *none[1], *locked[2];
        prepare(state);
        start(64, 1024, 1);
        set_aside(NULL, 0, none);
        locked[0] = submit("old", 20000);
        locked[1] = submit("old", 20000); /* waits behind it, and is not tried at all */
        for (unsigned i = 3; i <= 4; i++) {
            submit(".", LONG_MS);
            wait_for_done(i);
        }
        /* Whoever works is told when to come again. */
        int again_ms = work_all();
        assert_true(again_ms >= 0 && again_ms <= 20001);
        assert_int_equal(done_count, 4);
        if (while_working) {
            set_closed(&stores[0], true);
            size_t calls = stores[0].calls;
            submit(".", LONG_MS);
            wait_for_call(&stores[0], calls + 1);
            skip_ms(21000);
            set_closed(&stores[0], false);
            wait_for_done(7);
        } else {
            skip_ms(21000);
            work_all();
            wait_for_done(6);
        }
        assert_true(clock_now_us() - locked[1]->delivery.deadline_us < 10 * US_PER_S);
        for (size_t i = 0; i < COUNT_OF(locked); i++)
            assert_int_equal(locked[i]->delivery.outcome, OUTCOME_UNAVAILABLE);
        assert_int_equal(locked[1]->first_try, 0);
        assert_int_equal(stores[ASIDE].calls, 1);
        set_closed(&stores[ASIDE], false);
        finish();
    }
}

static void the_store_for_what_is_set_aside_holds_up_no_other(void **state) {
    (void)state;
    struct parcel *none[1];
    start(64, 1024, 1);
    set_aside(NULL, 0, none);
    stores[0].leaves = false;
    submit("a", LONG_MS);
    submit_rejected("x", LONG_MS);
    submit("b", LONG_MS);
    wait_for_done(5);
    assert_int_equal(stores[ASIDE].calls, 1);
    set_closed(&stores[ASIDE], false);
    finish();
}

/* Were it put into a batch, that would wait for the lock again. */
static void who_follows_one_that_stayed_locked_is_set_aside_at_once(void **state) {
    (void)state;
    lock_row("old");
    start(64, 1024, 1);
    struct parcel *first = submit("old", 1000), *second = submit("old", LONG_MS), *third = submit("old", LONG_MS);
    wait_for_call(&stores[ASIDE], 1);
    size_t calls = stores[0].calls;
    skip_ms(1000);
    wait_for_done(1);
    unlock_rows();
    wait_for_done(2);
    assert_int_equal(first->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_int_equal(second->delivery.outcome, OUTCOME_REVISED);
    /* The lock is gone: who follows is as any other. */
    wait_for_done(3);
    finish();
    assert_int_equal(third->delivery.outcome, OUTCOME_REVISED);
    bool second_aside = false;
    for (size_t i = 0; i < stores[ASIDE].stored_count; i++)
        second_aside |= stores[ASIDE].stored[i] == &second->delivery;
    assert_true(second_aside);
    assert_int_equal(stores[0].calls, calls + 1);
}

/*
 * After a lock was met, batches insert and wait for no row, until none was met for 5 s. A row that is there needs to be
 * revised by the store for what is set aside, which is no sign of a lock.
 */
static void a_lock_makes_the_group_commit_wary_for_a_while(void **state) {
    (void)state;
    static const struct {
        const char *unit; /* of a delivery that comes meanwhile */
        bool locked;
        const char *counts;
    } rows[] = {{"new", false, "1 +1 +1 1 1"},
                {"old", false, "1 +1 +1 1 1"},
                {"new", true, "1 +1 +1 +1 1"},
                {"old", true, "1 +1 +1 +1 1"}};
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        size_t done = 0;
        prepare(state);
        stores[0].script[0] = STORE_LOCKED;
        stores[0].script_len = 1;
        start(64, 1024, 1);
        submit("a", LONG_MS);
        wait_for_done(++done);
        skip_ms(4000);
        if (rows[r].locked)
            lock_row(rows[r].unit);
        submit(rows[r].unit, LONG_MS);
        if (rows[r].locked)
            wait_for_call(&stores[ASIDE], 1);
        unlock_rows();
        wait_for_done(++done);
        skip_ms(1500);
        submit("b", LONG_MS);
        wait_for_done(++done);
        skip_ms(5000);
        submit("c", LONG_MS);
        finish();
        expect_row(strcmp(counts_text(&stores[0]), rows[r].counts) == 0, "%s%s: %s", rows[r].unit,
                   rows[r].locked ? ", locked" : "", counts_text(&stores[0]));
    }
    end_table();
}

static void a_rejected_delivery_has_its_answer_once_it_is_stored(void **state) {
    (void)state;
    static const enum store_result script[] = {STORE_FAILED, STORE_CONFLICT, STORE_LOCKED};
    memcpy(stores[REJECTED].script, script, sizeof script);
    stores[REJECTED].script_len = COUNT_OF(script);
    start(64, 1024, 1);
    struct parcel *parcel = submit_rejected("x", LONG_MS);
    finish();
    assert_int_equal(parcel->delivery.outcome, OUTCOME_QUARANTINED);
    assert_string_equal(counts_text(&stores[REJECTED]), "-1 -1 -1 -1");
}

static void a_rejected_delivery_that_cannot_be_stored_is_unavailable(void **state) {
    (void)state;
    stores[REJECTED].then = STORE_FAILED;
    start(64, 1024, 1);
    struct parcel *parcel = submit_rejected("x", 50), *late = submit_rejected("late", -1);
    finish();
    assert_int_equal(parcel->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_string_equal(parcel->delivery.failure, "failed");
    assert_string_equal(parcel->delivery.sqlstate, "57P01");
    assert_int_equal(late->delivery.outcome, OUTCOME_UNAVAILABLE);
}

/* However short lock_timeout is, a table that is locked is not asked for all the time. */
static void a_rejected_delivery_that_meets_a_lock_is_tried_again_after_a_pause(void **state) {
    (void)state;
    stores[REJECTED].then = STORE_LOCKED;
    start(64, 1024, 1);
    struct parcel *parcel = submit_rejected("x", 300);
    finish();
    assert_int_equal(parcel->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_string_equal(parcel->delivery.sqlstate, "55P03");
    /* Pauses of 10, 20, 40, 80 and 160 ms at the least. */
    assert_in_range(stores[REJECTED].calls, 2, 7);
}

static void receipts_and_rejected_ones_have_stores_of_their_own(void **state) {
    (void)state;
    start(64, 1024, 1);
    hold();
    hold_refused();
    submit_rejected("x", LONG_MS);
    submit("b", LONG_MS);
    submit_rejected("y", LONG_MS);
    submit("a", LONG_MS);
    submit("b", LONG_MS);
    submit_rejected("z", LONG_MS);
    set_closed(&stores[0], false);
    set_closed(&stores[REJECTED], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 2 1");
    assert_string_equal(stored_text(&stores[0]), "held a b b");
    assert_string_equal(counts_text(&stores[REJECTED]), "-1 -3");
    assert_string_equal(stored_text(&stores[REJECTED]), "held x y z");
    assert_int_equal(stores[ASIDE].calls, 0);
}

static void receipts_and_rejected_ones_do_not_wait_for_each_other(void **state) {
    (void)state;
    for (int receipts_hang = 0; receipts_hang <= 1; receipts_hang++) {
        struct fake_store *hanging = &stores[receipts_hang ? 0 : REJECTED];
        prepare(state);
        start(2, 20, 1);
        hold();
        hold_refused();
        set_closed(&stores[receipts_hang ? REJECTED : 0], false);
        wait_for_done(1);
        for (int i = 0; i < 20; i++) { /* all that there is room for */
            submit((const char[]){(char)('a' + i), '\0'}, LONG_MS);
            submit_rejected("x", LONG_MS);
        }
        wait_for_done(21);
        assert_int_equal(hanging->stored_count, 0);
        set_closed(hanging, false);
        finish();
        assert_int_equal(hanging->stored_count, 21);
    }
}

static void rejected_ones_are_stored_as_they_came_whatever_their_keys(void **state) {
    (void)state;
    start(3, 1024, 1);
    hold_refused();
    for (const char *unit = "zazby"; *unit; unit++)
        submit_rejected((const char[]){*unit, '\0'}, LONG_MS);
    set_closed(&stores[REJECTED], false);
    finish();
    assert_string_equal(counts_text(&stores[REJECTED]), "-1 -3 -2");
    assert_string_equal(stored_text(&stores[REJECTED]), "held z a z b y");
}

static void a_rejected_one_that_cannot_be_stored_does_not_take_others_along(void **state) {
    (void)state;
    stores[REJECTED].refuses_bad = true;
    start(64, 1024, 1);
    hold_refused();
    struct parcel *x = submit_rejected("x", LONG_MS), *bad = submit_rejected("bad", LONG_MS),
                  *y = submit_rejected("y", LONG_MS);
    set_closed(&stores[REJECTED], false);
    finish();
    assert_int_equal(x->delivery.outcome, OUTCOME_QUARANTINED);
    assert_int_equal(y->delivery.outcome, OUTCOME_QUARANTINED);
    assert_int_equal(bad->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_string_equal(bad->delivery.failure, "rejected");
    assert_string_equal(stored_text(&stores[REJECTED]), "held x y");
}

/* Bodies of a megabyte each would make one statement of the whole backlog. */
static void large_deliveries_make_smaller_batches(void **state) {
    (void)state;
    start(64, 1024, 1);
    hold();
    hold_refused();
    for (int i = 0; i < 12; i++)
        submit_parcel(make_large(i % 2 == 1, 300 * KIB));
    set_closed(&stores[0], false);
    set_closed(&stores[REJECTED], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 3 3");
    assert_string_equal(counts_text(&stores[REJECTED]), "-1 -3 -3");
}

/* The store is held; what waits behind it is stored by turns, beginning with the small ones. */
static void small_deliveries_are_stored_before_more_large_ones(void **state) {
    (void)state;
    for (int rejected = 0; rejected <= 1; rejected++) {
        struct fake_store *store = &stores[rejected ? REJECTED : 0];
        prepare(NULL);
        start(64, 1024, 1);
        if (rejected)
            hold_refused();
        else
            hold();
        for (int i = 0; i < 3; i++)
            submit_parcel(make_large(rejected, MIB));
        submit_parcel(rejected ? make_rejected("small 1", LONG_MS) : make_parcel("small 1", LONG_MS));
        allow(store, 1);
        wait_for_call(store, 2);
        submit_parcel(rejected ? make_rejected("small 2", LONG_MS) : make_parcel("small 2", LONG_MS));
        set_closed(store, false);
        finish();
        /* What was held is small, so a large one is next. */
        assert_string_equal(stored_text(store), "held 0001 small 1 small 2 0002 0003");
    }
}

/* Whoever submits a small one among large ones stores it first. */
static void a_small_delivery_does_not_wait_for_large_ones(void **state) {
    (void)state;
    const struct group_commit_options options = {.batch_max = 64, .queue_max = 1024, .queue_max_bytes = 64 * MIB};
    start_with(0, &options, 1);
    for (int i = 0; i < 4; i++)
        submit_parcel(make_large(i % 2 == 1, MIB));
    submit("small", LONG_MS);
    submit_rejected("small", LONG_MS);
    work_all();
    finish();
    assert_string_equal(stored_text(&stores[0]), "small 0000 0002");
    assert_string_equal(stored_text(&stores[REJECTED]), "small 0001 0003");
}

static void large_receipts_leave_a_store_to_small_ones(void **state) {
    (void)state;
    start(64, 1024, 2);
    stores[0].closed = true;
    for (int i = 0; i < 3; i++)
        submit_parcel(make_large(false, MIB));
    wait_for_call(&stores[0], 1);
    for (int i = 0; i < 3; i++) {
        submit((const char *const[]){"a", "b", "c"}[i], LONG_MS);
        wait_for_done((size_t)i + 1);
    }
    assert_string_equal(stored_text(&stores[1]), "a b c");
    set_closed(&stores[0], false);
    finish();
}

static void a_full_queue_rejects_and_leaves_the_delivery_alone(void **state) {
    (void)state;
    char unit[8];
    start(64, 5, 1);
    hold();
    for (int i = 0; i < 5; i++) {
        snprintf(unit, sizeof unit, "%d", i);
        submit(unit, LONG_MS);
    }
    for (int i = 0; i < 3; i++) {
        struct parcel *rejected = make_parcel("rejected", LONG_MS);
        assert_false(group_commit_submit(group_commit, &rejected->delivery));
        assert_int_equal(rejected->delivery.outcome, OUTCOME_UNAVAILABLE);
        assert_int_equal(rejected->done, 0);
        parcel_count--;
    }
    set_closed(&stores[0], false);
    wait_for_done(6);
    submit("room again", LONG_MS);
    finish();
    assert_string_equal(stored_text(&stores[0]), "held 0 1 2 3 4 room again");
}

static void expect_full(void) {
    struct parcel *rejected = make_parcel("rejected", LONG_MS);
    assert_false(group_commit_submit(group_commit, &rejected->delivery));
    parcel_count--;
}

static void a_batch_makes_room_for_as_many_as_it_took(void **state) {
    (void)state;
    char unit[16];
    int submitted = 0;
    start(2, 4, 1);
    hold();
    for (size_t calls = 1; calls <= 5; calls++) {
        /* The call that waits now is a batch of its own; behind it is room for four, two of them taken before. */
        for (int room = calls == 1 ? 4 : 2; room > 0; room--) {
            snprintf(unit, sizeof unit, "%02d", submitted++);
            submit(unit, LONG_MS);
        }
        expect_full();
        allow(&stores[0], calls);
        wait_for_call(&stores[0], calls + 1);
    }
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 2 2 2 2 2 2");
}

static void receipts_and_rejected_ones_have_a_bound_in_bytes_each(void **state) {
    (void)state;
    const struct group_commit_options options = {.batch_max = 64, .queue_max = 1024, .queue_max_bytes = 300 * KIB};
    start_with(1 + GROUP_COMMIT_MORE_STORES, &options, 1);
    hold();
    hold_refused();
    for (int rejected = 0; rejected <= 1; rejected++) {
        submit_parcel(make_large(rejected, MIB)); /* as nothing else waits */
        for (int i = 0; i < 2; i++) {
            assert_false(group_commit_submit(group_commit, &make_large(rejected, 0)->delivery));
            parcel_count--;
        }
    }
    set_closed(&stores[0], false);
    set_closed(&stores[REJECTED], false);
    wait_for_done(4);
    for (int i = 0; i < 8; i++)
        submit_parcel(make_large(i % 2 == 1, 60 * KIB));
    finish();
}

static void all_of_a_full_queue_is_done_once(void **state) {
    (void)state;
    char unit[8];
    stores[0].refuses_bad = true;
    stores[0].script[3] = STORE_FAILED;
    stores[0].script_len = 4;
    start(7, 100, 1);
    hold();
    for (int i = 0; i < 100; i++) {
        snprintf(unit, sizeof unit, "%s%d", i % 30 == 0 ? "bad" : "", i % 40);
        submit(unit, i % 25 == 0 ? -1 : LONG_MS);
    }
    set_closed(&stores[0], false);
    finish(); /* checks that */
    assert_int_equal(done_count, 101);
    assert_int_equal(stores[0].frees, 1);
}

enum { SUBMITTERS = 4, EACH = 500 };

static void *submit_many(void *argument) {
    struct parcel *mine = argument;
    for (int i = 0; i < EACH; i++) {
        while (!group_commit_submit(group_commit, &mine[i].delivery))
            usleep(50);
        sem_post(&posts);
    }
    return NULL;
}

static void many_threads_and_stores_do_everything_once(void **state) {
    (void)state;
    pthread_t threads[SUBMITTERS];
    char unit[16];
    in_order = false;
    for (int i = 0; i < SUBMITTERS * EACH; i++) {
        snprintf(unit, sizeof unit, "%s%d", i % 97 == 0 ? "bad" : "", i % 300);
        make_parcel(unit, LONG_MS);
    }
    for (size_t i = 0; i < RECEIPT_STORES; i++) {
        stores[i].refuses_bad = true;
        stores[i].script[1] = STORE_CONFLICT;
        stores[i].script[2] = STORE_FAILED;
        stores[i].script_len = 3;
    }
    start(16, 64, RECEIPT_STORES);
    for (int i = 0; i < SUBMITTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &parcels[i * EACH]), 0);
    for (int i = 0; i < SUBMITTERS; i++)
        pthread_join(threads[i], NULL);
    finish();
    size_t stored = 0;
    for (size_t i = 0; i < STORES; i++) {
        stored += stores[i].stored_count;
        assert_int_equal(stores[i].frees, 1);
    }
    for (size_t i = 0; i < parcel_count; i++)
        assert_int_equal(parcels[i].delivery.outcome,
                         parcels[i].unit[0] == 'b' ? OUTCOME_UNAVAILABLE : OUTCOME_CREATED);
    assert_int_equal(stored, SUBMITTERS * EACH - (SUBMITTERS * EACH + 96) / 97);
}

/*
 * All stores answer and settle at random. What has to hold is what finish and the fakes check: each delivery is done
 * once, with a reason or stored; those of one receipt one after the other; no two of one receipt in stores at a time;
 * batches sorted; each store called for what it is for.
 */
static void whatever_stores_answer_everything_is_done_once_and_in_order(void **state) {
    (void)state;
    enum { ROUNDS = 3, UNITS = 12, UNTIL_MS = 500 };
    pthread_t threads[SUBMITTERS];
    unsigned seed = 11;
    char unit[16];
    for (int round = 0; round < ROUNDS; round++) {
        prepare(state);
        for (size_t i = 0; i < STORES; i++)
            stores[i].random = seed * 1000 + (unsigned)i;
        for (int i = 0; i < SUBMITTERS * EACH; i++) {
            int deadline_ms = 20 + rand_r(&seed) % UNTIL_MS;
            /* Each thread has receipts of its own. */
            snprintf(unit, sizeof unit, "%d %d", i / EACH, rand_r(&seed) % UNITS);
            if (rand_r(&seed) % 8 == 0)
                make_rejected(unit, deadline_ms);
            else
                make_parcel(unit, deadline_ms);
        }
        start(16, 100, RECEIPT_STORES);
        for (int i = 0; i < SUBMITTERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &parcels[i * EACH]), 0);
        for (int i = 0; i < SUBMITTERS; i++)
            pthread_join(threads[i], NULL);
        finish();
        size_t stored = 0;
        for (size_t i = 0; i < STORES; i++)
            stored += stores[i].stored_count;
        for (size_t i = 0; i < parcel_count; i++)
            stored -= parcels[i].delivery.outcome != OUTCOME_UNAVAILABLE;
        assert_int_equal(stored, 0);
        /* It went through all of it. */
        assert_true(stores[ASIDE].stored_count > 0 && stores[REJECTED].stored_count > 0);
    }
}

static void a_store_that_hangs_does_not_hold_up_another(void **state) {
    (void)state;
    stores[0].closed = true;
    stores[1].closed = true;
    start(1, 1024, 2);
    submit("a", LONG_MS);
    submit("b", LONG_MS);
    wait_for_call(&stores[0], 1);
    wait_for_call(&stores[1], 1);
    set_closed(&stores[1], false);
    for (int i = 0; i < 10; i++)
        submit((const char *const[]){"c", "d", "e"}[i % 3], LONG_MS);
    wait_for_done(11);
    assert_int_equal(stores[0].stored_count, 0);
    set_closed(&stores[0], false);
    finish();
    assert_int_equal(stores[0].stored_count, 1);
    assert_int_equal(stores[1].stored_count, 11);
}

enum { SLOW_MS = 20, MANY = 32 }; /* half a batch of 64 */

/*
 * While one batch is being stored and not slow yet, submits so many others. Returns how many of them another thread
 * took at once, or -1 where this took so long that it proves nothing.
 */
static int taken_beside_a_batch(int submits) {
    char unit[8];
    prepare(NULL);
    start(64, 1024, 2);
    stores[1].closed = true;
    hold();
    for (int i = 0; i < submits; i++) {
        snprintf(unit, sizeof unit, "%02u", (unsigned char)i);
        submit(unit, LONG_MS);
    }
    usleep(SLOW_MS * 1000 / 4);
    pthread_mutex_lock(&stores[1].lock);
    int taken = stores[1].calls > 0 ? (int)stores[1].counts[0] : 0;
    pthread_mutex_unlock(&stores[1].lock);
    if (clock_now_us() - stores[0].times[0] >= SLOW_MS * US_PER_MS)
        taken = -1;
    set_closed(&stores[0], false);
    set_closed(&stores[1], false);
    finish();
    return taken;
}

static void few_wait_for_the_batch_that_is_stored_but_many_do_not(void **state) {
    (void)state;
    int few = -1, many = -1;
    for (int tries = 0; tries < 100 && few < 0; tries++)
        few = taken_beside_a_batch(MANY - 1);
    for (int tries = 0; tries < 100 && many < 0; tries++)
        many = taken_beside_a_batch(MANY);
    assert_int_equal(few, 0);
    assert_int_equal(many, MANY);
}

static void a_slow_batch_holds_up_nothing(void **state) {
    (void)state;
    start(64, 1024, 2);
    hold();
    submit("late", LONG_MS);
    wait_for_done(1);
    assert_true(stores[1].times[0] - stores[0].times[0] >= SLOW_MS * US_PER_MS);
    assert_true(stores[1].times[0] - stores[0].times[0] < 5 * US_PER_S);
    assert_string_equal(stored_text(&stores[1]), "late");
    set_closed(&stores[0], false);
    finish();
}

static void who_works_has_stored_all_when_it_returns(void **state) {
    (void)state;
    const struct group_commit_options options = {.batch_max = 2, .queue_max = 1024, .queue_max_bytes = MIB};
    start_with(0, &options, 2);
    assert_int_equal(work_all(), -1);
    for (int i = 0; i < 5; i++)
        submit((const char[]){(char)('a' + i), '\0'}, LONG_MS);
    assert_int_equal(stores[0].calls, 0);
    assert_int_equal(work_all(), -1);
    assert_int_equal(done_count, 5);
    finish();
    assert_string_equal(counts_text(&stores[0]), "2 2 1");
    assert_int_equal(stores[1].calls, 0);
}

static void free_without_work_frees_the_stores(void **state) {
    (void)state;
    start(64, 1024, RECEIPT_STORES);
    finish();
    for (size_t i = 0; i < STORES; i++) {
        assert_int_equal(stores[i].frees, 1);
        assert_int_equal(stores[i].calls, 0);
    }
    group_commit_free(NULL);
}

static void what_hangs_past_its_deadline_is_noticed(void **state) {
    (void)state;
    static const struct { bool rejected, taken; } rows[] = {{false, true}, {false, false}, {true, true}, {true, false}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        prepare(NULL);
        start(64, 1024, 1);
        struct fake_store *fake = &stores[rows[i].rejected ? REJECTED : 0];
        set_closed(fake, true);
        for (int n = 0; n < 2; n++) {
            int deadline_ms = rows[i].taken == (n == 0) ? 1000 : LONG_MS;
            const char *unit = n == 0 ? "taken" : "waiting";
            if (rows[i].rejected)
                submit_rejected(unit, deadline_ms);
            else
                submit(unit, deadline_ms);
            wait_for_call(fake, 1);
        }
        expect_row(group_commit_moves(group_commit), "row %zu: it does not move", i);
        skip_ms(5900);
        expect_row(group_commit_moves(group_commit), "row %zu: it does not move any more", i);
        skip_ms(300);
        expect_row(!group_commit_moves(group_commit), "row %zu: it moves", i);
        set_closed(fake, false);
        finish();
    }
}

static struct standstill read_standstill(void) {
    struct standstill standstill;
    group_commit_read_standstill(group_commit, &standstill);
    return standstill;
}

/* Whether nothing was stored for about so many seconds; 0: it is none at all, once the thread that stored is done. */
static bool stands_still_for(int seconds) {
    int64_t us;
    while ((us = read_standstill().us) != 0 && seconds == 0 && us < US_PER_S)
        usleep(1000);
    return seconds == 0 ? us == 0 : us >= seconds * US_PER_S && us < (seconds + 5) * US_PER_S;
}

static void a_standstill_lasts_from_the_first_delivery_that_waits_until_one_is_stored(void **state) {
    (void)state;
    for (int rejected = 0; rejected < 2; rejected++) {
        struct fake_store *fake = &stores[rejected ? REJECTED : 0];
        prepare(NULL);
        start(64, 1024, 1);
        expect_row(stands_still_for(0), "%d: nothing waits", rejected);
        set_closed(fake, true);
        rejected ? submit_rejected("a", LONG_MS) : submit("a", LONG_MS);
        wait_for_call(fake, 1);
        skip_ms(7000);
        expect_row(stands_still_for(7) && !read_standstill().failure, "%d: it is being stored", rejected);
        rejected ? submit_rejected("b", LONG_MS) : submit("b", LONG_MS);
        skip_ms(3000);
        expect_row(stands_still_for(10), "%d: another one waits", rejected);
        set_closed(fake, false);
        wait_for_done(2);
        expect_row(stands_still_for(0), "%d: all is stored", rejected);
        finish();
    }
    end_table();
}

static void a_503_is_a_standstill_until_something_is_stored_or_for_a_minute(void **state) {
    (void)state;
    for (int later = 0; later < 2; later++) {
        prepare(NULL);
        stores[0].then = STORE_FAILED;
        start(64, 1024, 1);
        submit("a", 150);
        wait_for_done(1);
        struct standstill standstill = read_standstill();
        expect_row(standstill.failure && strcmp(standstill.failure, "failed") == 0 &&
                       strcmp(standstill.sqlstate, "57P01") == 0,
                   "%d: %s %s", later, standstill.failure, standstill.sqlstate);
        skip_ms(50000);
        expect_row(stands_still_for(50), "%d: nothing was stored since", later);
        if (later) {
            skip_ms(11000);
        } else {
            pthread_mutex_lock(&stores[0].lock);
            stores[0].then = STORE_OK;
            pthread_mutex_unlock(&stores[0].lock);
            submit("b", LONG_MS);
            wait_for_done(2);
        }
        expect_row(stands_still_for(0), "%d: it is over", later);
        finish();
    }
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_lone_delivery_is_committed_at_once, prepare),
        cmocka_unit_test_setup(a_batch_is_as_large_as_the_store_has_a_fit_for, prepare),
        cmocka_unit_test_setup(only_many_repeated_deliveries_are_waited_for, prepare),
        cmocka_unit_test_setup(what_waits_becomes_batches_up_to_the_bound, prepare),
        cmocka_unit_test_setup(a_bound_of_one_stores_one_by_one, prepare),
        cmocka_unit_test_setup(a_batch_is_sorted_by_key, prepare),
        cmocka_unit_test_setup(deliveries_of_one_key_never_share_a_batch_and_keep_their_order, prepare),
        cmocka_unit_test_setup(every_mixture_of_keys_is_stored_in_order, prepare),
        cmocka_unit_test_setup(a_rejected_batch_is_split_until_only_the_bad_ones_fail, prepare),
        cmocka_unit_test_setup(a_lone_rejected_delivery_is_not_tried_again, prepare),
        cmocka_unit_test_setup(a_batch_that_takes_too_long_is_split_until_the_slow_one_is_alone, prepare),
        cmocka_unit_test_setup(a_slow_rejected_delivery_is_tried_again, prepare),
        cmocka_unit_test_setup(a_conflict_or_failure_is_tried_again, prepare),
        cmocka_unit_test_setup(a_few_conflicts_do_not_wait_and_failures_do, prepare),
        cmocka_unit_test_setup(what_fails_until_its_deadline_is_unavailable_and_says_why, prepare),
        cmocka_unit_test_setup(a_pause_ends_at_the_deadline, prepare),
        cmocka_unit_test_setup(what_waited_beyond_its_deadline_is_not_stored, prepare),
        cmocka_unit_test_setup(a_success_behind_the_deadline_is_a_success, prepare),
        cmocka_unit_test_setup(only_those_whose_time_is_up_leave_a_batch, prepare),
        cmocka_unit_test_setup(a_delivery_that_waited_is_not_blamed_on_another_ones_error, prepare),
        cmocka_unit_test_setup(a_failure_is_forgotten_after_a_success, prepare),
        cmocka_unit_test_setup(a_delivery_whose_key_is_being_stored_joins_no_batch, prepare),
        cmocka_unit_test_setup(who_waits_for_its_key_comes_before_what_came_later, prepare),
        cmocka_unit_test_setup(a_lock_holds_up_nobody_else, prepare),
        cmocka_unit_test_setup(what_is_locked_until_its_deadline_is_unavailable_and_says_why, prepare),
        cmocka_unit_test_setup(what_is_set_aside_is_tried_again_until_it_is_stored, prepare),
        cmocka_unit_test_setup(few_locks_are_waited_for_when_receipts_are_tried_singly, prepare),
        cmocka_unit_test_setup(large_ones_are_tried_again_in_smaller_batches, prepare),
        cmocka_unit_test_setup(what_is_locked_is_not_blamed_on_another_ones_error, prepare),
        cmocka_unit_test_setup(what_is_set_aside_is_answered_in_time_though_its_store_hangs, prepare),
        cmocka_unit_test_setup(the_store_for_what_is_set_aside_holds_up_no_other, prepare),
        cmocka_unit_test_setup(who_follows_one_that_stayed_locked_is_set_aside_at_once, prepare),
        cmocka_unit_test_setup(a_lock_makes_the_group_commit_wary_for_a_while, prepare),
        cmocka_unit_test_setup(a_rejected_delivery_has_its_answer_once_it_is_stored, prepare),
        cmocka_unit_test_setup(a_rejected_delivery_that_cannot_be_stored_is_unavailable, prepare),
        cmocka_unit_test_setup(a_rejected_delivery_that_meets_a_lock_is_tried_again_after_a_pause, prepare),
        cmocka_unit_test_setup(receipts_and_rejected_ones_have_stores_of_their_own, prepare),
        cmocka_unit_test_setup(receipts_and_rejected_ones_do_not_wait_for_each_other, prepare),
        cmocka_unit_test_setup(rejected_ones_are_stored_as_they_came_whatever_their_keys, prepare),
        cmocka_unit_test_setup(a_rejected_one_that_cannot_be_stored_does_not_take_others_along, prepare),
        cmocka_unit_test_setup(large_deliveries_make_smaller_batches, prepare),
        cmocka_unit_test_setup(small_deliveries_are_stored_before_more_large_ones, prepare),
        cmocka_unit_test_setup(a_small_delivery_does_not_wait_for_large_ones, prepare),
        cmocka_unit_test_setup(large_receipts_leave_a_store_to_small_ones, prepare),
        cmocka_unit_test_setup(a_full_queue_rejects_and_leaves_the_delivery_alone, prepare),
        cmocka_unit_test_setup(a_batch_makes_room_for_as_many_as_it_took, prepare),
        cmocka_unit_test_setup(receipts_and_rejected_ones_have_a_bound_in_bytes_each, prepare),
        cmocka_unit_test_setup(all_of_a_full_queue_is_done_once, prepare),
        cmocka_unit_test_setup(many_threads_and_stores_do_everything_once, prepare),
        cmocka_unit_test_setup(whatever_stores_answer_everything_is_done_once_and_in_order, prepare),
        cmocka_unit_test_setup(a_store_that_hangs_does_not_hold_up_another, prepare),
        cmocka_unit_test_setup(few_wait_for_the_batch_that_is_stored_but_many_do_not, prepare),
        cmocka_unit_test_setup(a_slow_batch_holds_up_nothing, prepare),
        cmocka_unit_test_setup(who_works_has_stored_all_when_it_returns, prepare),
        cmocka_unit_test_setup(what_hangs_past_its_deadline_is_noticed, prepare),
        cmocka_unit_test_setup(a_standstill_lasts_from_the_first_delivery_that_waits_until_one_is_stored, prepare),
        cmocka_unit_test_setup(a_503_is_a_standstill_until_something_is_stored_or_for_a_minute, prepare),
        cmocka_unit_test_setup(free_without_work_frees_the_stores, prepare),
    };
    return cmocka_run_group_tests_name("group_commit", tests, NULL, NULL);
}
