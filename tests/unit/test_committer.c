/*
 * committer.h: batches out of the queue, and every delivery done once. The store is a fake that follows a script and
 * judges each batch it is given.
 */
#include "committer.h"

#include "clock.h"
#include "unit.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

enum { CALLS_MAX = 4096, DELIVERIES_MAX = 4096, SCRIPT_MAX = 16, LONG_MS = 30000 };

/* --- a fake store --- */

struct fake_store {
    struct store store;
    size_t batch_max;
    /* The results of the first calls; the others are STORE_OK, or what `then` says. */
    enum store_result script[SCRIPT_MAX];
    size_t script_len;
    enum store_result then;
    bool refuses_bad; /* STORE_REFUSED where a parcel's unit starts with "bad" */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;    /* a call waits until this is false, ... */
    size_t allowed; /* ... but for the first so many */
    size_t calls;
    size_t counts[CALLS_MAX];     /* of the deliveries in each call */
    bool rejects[CALLS_MAX];      /* whether each call was of reject */
    int64_t deadlines[CALLS_MAX]; /* that each call was given */
    int64_t times[CALLS_MAX];
    const struct delivery *stored[DELIVERIES_MAX]; /* in order */
    size_t stored_count;
    atomic_uint frees;
    atomic_uint wrong; /* batches that break store.h's promises */
};

/* A delivery of a test. */
struct parcel {
    struct delivery delivery; /* the first member */
    char unit[24];
    atomic_uint done;
};

static const char *unit_of(const struct delivery *delivery) {
    return ((const struct parcel *)delivery)->unit;
}

static struct fake_store *fake_of(struct store *store) {
    return (struct fake_store *)store; /* its first member */
}

static bool has_bad(struct delivery *const *deliveries, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strncmp(unit_of(deliveries[i]), "bad", 3) == 0)
            return true;
    return false;
}

static bool batch_is_sound(const struct fake_store *fake, struct delivery *const *deliveries, size_t count,
                           int64_t deadline_us, bool rejects) {
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < count; i++) {
        if (deliveries[i]->deadline_us < earliest)
            earliest = deliveries[i]->deadline_us;
        if ((deliveries[i]->refusal != OUTCOME_UNAVAILABLE) != rejects)
            return false;
        if (!rejects && i > 0 && receipt_compare_keys(&deliveries[i - 1]->receipt, &deliveries[i]->receipt) >= 0)
            return false;
    }
    return count >= 1 && count <= fake->batch_max && deadline_us == earliest;
}

static enum store_result take_call(struct store *store, struct delivery *const *deliveries, size_t count,
                                   int64_t deadline_us, bool rejects) {
    struct fake_store *fake = fake_of(store);
    pthread_mutex_lock(&fake->lock);
    size_t call = fake->calls++;
    assert(call < CALLS_MAX);
    fake->counts[call] = count;
    fake->rejects[call] = rejects;
    fake->deadlines[call] = deadline_us;
    fake->times[call] = clock_now_us();
    if (!batch_is_sound(fake, deliveries, count, deadline_us, rejects))
        atomic_fetch_add(&fake->wrong, 1);
    pthread_cond_broadcast(&fake->changed);
    while (fake->closed && call >= fake->allowed)
        pthread_cond_wait(&fake->changed, &fake->lock);
    enum store_result result = call < fake->script_len ? fake->script[call] : fake->then;
    if (result == STORE_OK && fake->refuses_bad && has_bad(deliveries, count))
        result = STORE_REFUSED;
    if (result == STORE_OK) {
        for (size_t i = 0; i < count; i++) {
            deliveries[i]->outcome = rejects ? deliveries[i]->refusal_answer : OUTCOME_CREATED;
            fake->stored[fake->stored_count++] = deliveries[i];
        }
    } else {
        /* One failure and one state of each kind, so that a test can tell them. */
        store->failure = result == STORE_REFUSED ? "refused" : result == STORE_CONFLICT ? "conflict" : "failed";
        strcpy(store->sqlstate, result == STORE_REFUSED ? "22000" : result == STORE_CONFLICT ? "40001" : "57P01");
    }
    pthread_mutex_unlock(&fake->lock);
    return result;
}

static enum store_result store_fake(struct store *store, struct delivery *const *deliveries, size_t count,
                                    int64_t deadline_us) {
    return take_call(store, deliveries, count, deadline_us, false);
}

static enum store_result reject_fake(struct store *store, struct delivery *const *deliveries, size_t count,
                                     int64_t deadline_us) {
    return take_call(store, deliveries, count, deadline_us, true);
}

static void free_fake(struct store *store) {
    atomic_fetch_add(&fake_of(store)->frees, 1);
}

static void init_fake(struct fake_store *fake, size_t batch_max) {
    memset(fake, 0, sizeof *fake);
    fake->store = (struct store){.store = store_fake, .reject = reject_fake, .free = free_fake};
    fake->batch_max = batch_max;
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

/* --- deliveries, and what became of them --- */

static struct parcel parcels[DELIVERIES_MAX];
static size_t parcel_count;
static atomic_uint done_count;
static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_changed = PTHREAD_COND_INITIALIZER;

static struct fake_store stores[3];
static struct committer *committer;

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

static void note_done(void *context, struct delivery *const *deliveries, size_t count) {
    assert(context == stores);
    for (size_t i = 0; i < count; i++)
        atomic_fetch_add(&((struct parcel *)deliveries[i])->done, 1);
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
static pthread_t workers[COUNT_OF(stores)];
static size_t worker_count;
static sem_t posts;
static atomic_bool ending;

static void *run_worker(void *unused) {
    (void)unused;
    int again_ms = -1;
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += again_ms > 0 ? again_ms * 1000000L : 0;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while ((again_ms < 0 ? sem_wait(&posts) : sem_timedwait(&posts, &until)) != 0 && errno == EINTR)
            ;
        bool last = atomic_load(&ending);
        again_ms = committer_work(committer);
        if (last)
            return NULL;
    }
}

static void end(void) {
    atomic_store(&ending, true);
    for (size_t i = 0; i < worker_count; i++)
        sem_post(&posts);
    for (size_t i = 0; i < worker_count; i++)
        pthread_join(workers[i], NULL);
    sem_destroy(&posts);
    committer_free(committer);
    committer = NULL;
}

/* With so many threads that work: none, or as many as there are stores. */
static void start_with(size_t threads, size_t batch_max, size_t queue_max, size_t store_count) {
    struct committer_options options = {.batch_max = batch_max, .queue_max = queue_max};
    struct store *list[COUNT_OF(stores)];
    assert_true(store_count <= COUNT_OF(stores));
    for (size_t i = 0; i < store_count; i++) {
        stores[i].batch_max = batch_max;
        list[i] = &stores[i].store;
    }
    committer = committer_new(&options, list, store_count, note_done, stores);
    assert_non_null(committer);
    assert_int_equal(sem_init(&posts, 0, 0), 0);
    atomic_store(&ending, false);
    for (worker_count = 0; worker_count < threads; worker_count++)
        assert_int_equal(pthread_create(&workers[worker_count], NULL, run_worker, NULL), 0);
}

static void start(size_t batch_max, size_t queue_max, size_t store_count) {
    start_with(store_count, batch_max, queue_max, store_count);
}

static struct parcel *submit(const char *unit, int deadline_ms) {
    struct parcel *parcel = make_parcel(unit, deadline_ms);
    assert_true(committer_submit(committer, &parcel->delivery));
    sem_post(&posts);
    return parcel;
}

/* A delivery that was refused: it may have a key, but not the hash of a valid one. */
static struct parcel *submit_refused(const char *unit, int deadline_ms) {
    struct parcel *parcel = make_parcel(unit, deadline_ms);
    parcel->delivery.receipt.key_hash = 0;
    parcel->delivery.refusal = OUTCOME_MALFORMED;
    parcel->delivery.refusal_answer = OUTCOME_QUARANTINED;
    assert_true(committer_submit(committer, &parcel->delivery));
    sem_post(&posts);
    return parcel;
}

/* Ends the committer, and checks what holds in every case. */
static void finish(void) {
    end();
    for (size_t i = 0; i < COUNT_OF(stores); i++)
        assert_int_equal(stores[i].wrong, 0);
    for (size_t i = 0; i < parcel_count; i++)
        assert_int_equal(parcels[i].done, 1);
}

static int prepare(void **state) {
    (void)state;
    /* A test that failed left it as it was. */
    if (committer) {
        for (size_t i = 0; i < COUNT_OF(stores); i++)
            set_closed(&stores[i], false);
        end();
    }
    for (size_t i = 0; i < COUNT_OF(stores); i++)
        init_fake(&stores[i], 0);
    parcel_count = 0;
    atomic_store(&done_count, 0);
    return 0;
}

/* The sizes of the batches, of refused ones with a '-' before them; good until the next call. */
static const char *counts_text(const struct fake_store *fake) {
    static char text[512];
    text[0] = '\0';
    for (size_t i = 0; i < fake->calls; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%zu", i > 0 ? " " : "",
                 fake->rejects[i] ? "-" : "", fake->counts[i]);
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

/* Holds the store in its first call, with a delivery of no matter, so that what follows waits in the queue. */
static void hold(void) {
    stores[0].closed = true;
    submit("held", LONG_MS);
    wait_for_call(&stores[0], 1);
}

/* --- batches --- */

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
        snprintf(unit, sizeof unit, "%02d", i);
        submit(unit, LONG_MS);
    }
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 10 10 5");
    assert_string_equal(stored_text(&stores[0]), "held 00 01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20 "
                                                 "21 22 23 24");
}

/* Returns how long after a batch of `size`, of repeated deliveries or not, two that have been waiting are taken. */
static int64_t pause_after_batch(bool repeats, int size) {
    char unit[8];
    prepare(NULL);
    start(64, 1024, 1);
    hold();
    for (int i = 0; i < size; i++) {
        snprintf(unit, sizeof unit, "%02d", i);
        submit(unit, LONG_MS);
    }
    allow(&stores[0], 1);
    wait_for_call(&stores[0], 2);
    submit("late 1", LONG_MS);
    submit("late 2", LONG_MS);
    stores[0].store.repeats = repeats;
    int64_t opened = clock_now_us();
    set_closed(&stores[0], false);
    wait_for_call(&stores[0], 3);
    int64_t pause = stores[0].times[2] - opened;
    finish();
    return pause;
}

static int64_t shortest_pause_after_batch(bool repeats, int size) {
    int64_t shortest = INT64_MAX;
    for (int tries = 0; tries < 20; tries++) {
        int64_t pause = pause_after_batch(repeats, size);
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

/* --- what the store can't do --- */

static void a_refused_batch_is_split_until_only_the_bad_ones_fail(void **state) {
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
            expect_row(strcmp(delivery->failure, "refused") == 0 && strcmp(delivery->sqlstate, "22000") == 0,
                       "%s: %s %s", parcels[i].unit, delivery->failure, delivery->sqlstate);
        else
            expect_row(!delivery->failure && !delivery->sqlstate[0], "%s has a failure", parcels[i].unit);
    }
    expect_row(stores[0].stored_count == 31, "%zu are stored", stores[0].stored_count);
    expect_row(stores[0].calls <= 1 + 2 * 3 * 6, "it took %zu calls", stores[0].calls);
    end_table();
}

static void a_lone_refused_delivery_is_not_tried_again(void **state) {
    (void)state;
    stores[0].refuses_bad = true;
    start(64, 1024, 1);
    struct parcel *parcel = submit("bad", LONG_MS);
    wait_for_done(1);
    assert_int_equal(parcel->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_int_equal(stores[0].calls, 1);
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
        expect_row(late_us >= 0 && late_us < 3 * US_PER_S, "%s: answered %lld us behind the deadline", rows[r].failure,
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

/* --- refused deliveries --- */

static void a_refused_delivery_has_its_answer_once_it_is_stored(void **state) {
    (void)state;
    stores[0].script[0] = STORE_FAILED;
    stores[0].script[1] = STORE_CONFLICT;
    stores[0].script_len = 2;
    start(64, 1024, 1);
    struct parcel *parcel = submit_refused("x", LONG_MS);
    finish();
    assert_int_equal(parcel->delivery.outcome, OUTCOME_QUARANTINED);
    assert_null(parcel->delivery.failure);
    assert_string_equal(counts_text(&stores[0]), "-1 -1 -1");
}

static void a_refused_delivery_that_cannot_be_stored_is_unavailable(void **state) {
    (void)state;
    stores[0].then = STORE_FAILED;
    start(64, 1024, 1);
    struct parcel *parcel = submit_refused("x", 50), *late = submit_refused("late", -1);
    finish();
    assert_int_equal(parcel->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_string_equal(parcel->delivery.failure, "failed");
    assert_string_equal(parcel->delivery.sqlstate, "57P01");
    assert_int_equal(late->delivery.outcome, OUTCOME_UNAVAILABLE);
}

static void receipts_and_refused_ones_never_share_a_batch_and_the_oldest_goes_first(void **state) {
    (void)state;
    start(64, 1024, 1);
    hold();
    submit_refused("x", LONG_MS);
    submit("b", LONG_MS);
    submit_refused("y", LONG_MS);
    submit("a", LONG_MS);
    submit("b", LONG_MS);
    submit_refused("z", LONG_MS);
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 -3 2 1");
    assert_string_equal(stored_text(&stores[0]), "held x y z a b b");
}

static void refused_ones_are_stored_as_they_came_whatever_their_keys(void **state) {
    (void)state;
    start(3, 1024, 1);
    hold();
    for (const char *unit = "zazby"; *unit; unit++)
        submit_refused((const char[]){*unit, '\0'}, LONG_MS);
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 -3 -2");
    assert_string_equal(stored_text(&stores[0]), "held z a z b y");
}

static void a_refused_one_that_cannot_be_stored_does_not_take_others_along(void **state) {
    (void)state;
    stores[0].refuses_bad = true;
    start(64, 1024, 1);
    hold();
    struct parcel *x = submit_refused("x", LONG_MS), *bad = submit_refused("bad", LONG_MS),
                  *y = submit_refused("y", LONG_MS);
    set_closed(&stores[0], false);
    finish();
    assert_int_equal(x->delivery.outcome, OUTCOME_QUARANTINED);
    assert_int_equal(y->delivery.outcome, OUTCOME_QUARANTINED);
    assert_int_equal(bad->delivery.outcome, OUTCOME_UNAVAILABLE);
    assert_string_equal(bad->delivery.failure, "refused");
    assert_string_equal(stored_text(&stores[0]), "held x y");
}

/* Bodies of a megabyte each would make one statement of the whole queue. */
static void large_deliveries_make_smaller_batches(void **state) {
    (void)state;
    enum { MIB = 1024 * 1024 };
    start(64, 1024, 1);
    hold();
    for (int i = 0; i < 6; i++)
        submit_refused((const char[]){(char)('0' + i), '\0'}, LONG_MS)->delivery.body_len = MIB;
    for (int i = 0; i < 6; i++)
        submit((const char[]){(char)('a' + i), '\0'}, LONG_MS)->delivery.receipt.extra_len = MIB;
    set_closed(&stores[0], false);
    finish();
    assert_string_equal(counts_text(&stores[0]), "1 -4 -2 4 2");
}

/* --- the queue --- */

static void a_full_queue_refuses_and_leaves_the_delivery_alone(void **state) {
    (void)state;
    char unit[8];
    start(64, 5, 1);
    hold();
    for (int i = 0; i < 5; i++) {
        snprintf(unit, sizeof unit, "%d", i);
        submit(unit, LONG_MS);
    }
    for (int i = 0; i < 3; i++) {
        struct parcel *refused = make_parcel("refused", LONG_MS);
        assert_false(committer_submit(committer, &refused->delivery));
        assert_int_equal(refused->delivery.outcome, OUTCOME_UNAVAILABLE);
        assert_int_equal(refused->done, 0);
        parcel_count--;
    }
    set_closed(&stores[0], false);
    wait_for_done(6);
    submit("room again", LONG_MS);
    finish();
    assert_string_equal(stored_text(&stores[0]), "held 0 1 2 3 4 room again");
}

static void expect_full(void) {
    struct parcel *refused = make_parcel("refused", LONG_MS);
    assert_false(committer_submit(committer, &refused->delivery));
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

/* --- several threads --- */

enum { SUBMITTERS = 4, EACH = 500 };

static void *submit_many(void *argument) {
    struct parcel *mine = argument;
    for (int i = 0; i < EACH; i++) {
        while (!committer_submit(committer, &mine[i].delivery))
            usleep(50);
        sem_post(&posts);
    }
    return NULL;
}

static void many_threads_and_stores_do_everything_once(void **state) {
    (void)state;
    pthread_t threads[SUBMITTERS];
    char unit[16];
    for (int i = 0; i < SUBMITTERS * EACH; i++) {
        snprintf(unit, sizeof unit, "%s%d", i % 97 == 0 ? "bad" : "", i % 300);
        make_parcel(unit, LONG_MS);
    }
    for (size_t i = 0; i < COUNT_OF(stores); i++) {
        stores[i].refuses_bad = true;
        stores[i].script[1] = STORE_CONFLICT;
        stores[i].script[2] = STORE_FAILED;
        stores[i].script_len = 3;
    }
    start(16, 64, COUNT_OF(stores));
    for (int i = 0; i < SUBMITTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &parcels[i * EACH]), 0);
    for (int i = 0; i < SUBMITTERS; i++)
        pthread_join(threads[i], NULL);
    finish();
    size_t stored = 0;
    for (size_t i = 0; i < COUNT_OF(stores); i++) {
        stored += stores[i].stored_count;
        assert_int_equal(stores[i].frees, 1);
    }
    for (size_t i = 0; i < parcel_count; i++)
        assert_int_equal(parcels[i].delivery.outcome,
                         parcels[i].unit[0] == 'b' ? OUTCOME_UNAVAILABLE : OUTCOME_CREATED);
    assert_int_equal(stored, SUBMITTERS * EACH - (SUBMITTERS * EACH + 96) / 97);
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
        snprintf(unit, sizeof unit, "%02d", i);
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
    start_with(0, 2, 1024, 2);
    assert_int_equal(committer_work(committer), -1);
    for (int i = 0; i < 5; i++)
        submit((const char[]){(char)('a' + i), '\0'}, LONG_MS);
    assert_int_equal(stores[0].calls, 0);
    assert_int_equal(committer_work(committer), -1);
    assert_int_equal(done_count, 5);
    finish();
    assert_string_equal(counts_text(&stores[0]), "2 2 1");
    assert_int_equal(stores[1].calls, 0);
}

static void free_without_work_frees_the_stores(void **state) {
    (void)state;
    start(64, 1024, 3);
    finish();
    for (size_t i = 0; i < COUNT_OF(stores); i++) {
        assert_int_equal(stores[i].frees, 1);
        assert_int_equal(stores[i].calls, 0);
    }
    committer_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_lone_delivery_is_committed_at_once, prepare),
        cmocka_unit_test_setup(only_many_repeated_deliveries_are_waited_for, prepare),
        cmocka_unit_test_setup(what_waits_becomes_batches_up_to_the_bound, prepare),
        cmocka_unit_test_setup(a_bound_of_one_stores_one_by_one, prepare),
        cmocka_unit_test_setup(a_batch_is_sorted_by_key, prepare),
        cmocka_unit_test_setup(deliveries_of_one_key_never_share_a_batch_and_keep_their_order, prepare),
        cmocka_unit_test_setup(every_mixture_of_keys_is_stored_in_order, prepare),
        cmocka_unit_test_setup(a_refused_batch_is_split_until_only_the_bad_ones_fail, prepare),
        cmocka_unit_test_setup(a_lone_refused_delivery_is_not_tried_again, prepare),
        cmocka_unit_test_setup(a_conflict_or_failure_is_tried_again, prepare),
        cmocka_unit_test_setup(a_few_conflicts_do_not_wait_and_failures_do, prepare),
        cmocka_unit_test_setup(what_fails_until_its_deadline_is_unavailable_and_says_why, prepare),
        cmocka_unit_test_setup(a_pause_ends_at_the_deadline, prepare),
        cmocka_unit_test_setup(what_waited_beyond_its_deadline_is_not_stored, prepare),
        cmocka_unit_test_setup(a_success_behind_the_deadline_is_a_success, prepare),
        cmocka_unit_test_setup(only_those_whose_time_is_up_leave_a_batch, prepare),
        cmocka_unit_test_setup(a_delivery_that_waited_is_not_blamed_on_another_ones_error, prepare),
        cmocka_unit_test_setup(a_failure_is_forgotten_after_a_success, prepare),
        cmocka_unit_test_setup(a_refused_delivery_has_its_answer_once_it_is_stored, prepare),
        cmocka_unit_test_setup(a_refused_delivery_that_cannot_be_stored_is_unavailable, prepare),
        cmocka_unit_test_setup(receipts_and_refused_ones_never_share_a_batch_and_the_oldest_goes_first, prepare),
        cmocka_unit_test_setup(refused_ones_are_stored_as_they_came_whatever_their_keys, prepare),
        cmocka_unit_test_setup(a_refused_one_that_cannot_be_stored_does_not_take_others_along, prepare),
        cmocka_unit_test_setup(large_deliveries_make_smaller_batches, prepare),
        cmocka_unit_test_setup(a_full_queue_refuses_and_leaves_the_delivery_alone, prepare),
        cmocka_unit_test_setup(a_batch_makes_room_for_as_many_as_it_took, prepare),
        cmocka_unit_test_setup(all_of_a_full_queue_is_done_once, prepare),
        cmocka_unit_test_setup(many_threads_and_stores_do_everything_once, prepare),
        cmocka_unit_test_setup(a_store_that_hangs_does_not_hold_up_another, prepare),
        cmocka_unit_test_setup(few_wait_for_the_batch_that_is_stored_but_many_do_not, prepare),
        cmocka_unit_test_setup(a_slow_batch_holds_up_nothing, prepare),
        cmocka_unit_test_setup(who_works_has_stored_all_when_it_returns, prepare),
        cmocka_unit_test_setup(free_without_work_frees_the_stores, prepare),
    };
    return cmocka_run_group_tests_name("committer", tests, NULL, NULL);
}
