/* backlog.h: what waits, in which order it is taken, and how much of it there may be. */
#include "backlog.h"

#include "unit.h"

enum {
    DELIVERIES_MAX = 64,
    DEADLINE_US = 1000, /* where a script names none */
    KIB = 1024,
};

static struct backlog backlog;

struct parcel {
    struct delivery delivery; /* the first member */
    char name[16];
    bool released;
};

static struct parcel parcels[DELIVERIES_MAX];
static size_t parcel_count;

/*
 * Names of keys are letters. An upper-case one hashes as the lower-case one does; a digit falls into the same bucket as
 * "a", with another hash.
 */
static uint64_t hash_of(char key) {
    if (key >= '0' && key <= '9')
        return 'a' + (uint64_t)(key - '0' + 1) * backlog.bucket_count;
    return (uint64_t)(key | 0x20);
}

/* The first delivery with key "a" is called a1, the next a2, … */
static struct parcel *make_parcel(char key, bool rejected, int64_t deadline_us) {
    assert_true(parcel_count < DELIVERIES_MAX);
    struct parcel *parcel = &parcels[parcel_count];
    int number = 1;
    for (size_t i = 0; i < parcel_count; i++)
        number += parcels[i].name[0] == key;
    memset(parcel, 0, sizeof *parcel);
    snprintf(parcel->name, sizeof parcel->name, "%c%d", key, number);
    parcel->delivery.deadline_us = deadline_us;
    /* What the delivery has from an earlier use must not matter. */
    parcel->delivery.backoff_us = 7;
    parcel->delivery.next = parcel->delivery.next_of_key = parcel->delivery.next_in_bucket = &parcel->delivery;
    if (rejected)
        parcel->delivery.rejection = REJECTION_INVALID;
    else
        parcel->delivery.receipt.key_hash = hash_of(key);
    parcel_count++;
    return parcel;
}

static struct parcel *find_parcel(const char *name) {
    for (size_t i = 0; i < parcel_count; i++)
        if (strncmp(parcels[i].name, name, 2) == 0)
            return &parcels[i];
    fail_msg("there is no delivery %.2s", name);
    return NULL;
}

/* What a script has told so far. */
struct told {
    char text[256];
};

static void say(struct told *out, const char *text) {
    size_t len = strlen(out->text);
    snprintf(out->text + len, sizeof out->text - len, "%s%s", len > 0 ? " " : "", text);
}

static void say_time(struct told *out, int64_t time_us) {
    char text[24] = "-";
    if (time_us != INT64_MAX)
        snprintf(text, sizeof text, "%lld", (long long)time_us);
    say(out, text);
}

static void say_taken(struct told *out, struct delivery *const *batch, size_t count) {
    char text[16 * DELIVERIES_MAX] = "[";
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            strcat(text, " ");
        strcat(text, ((struct parcel *)batch[i])->name);
    }
    say(out, strcat(text, "]"));
}

/*
 * One step of a script:
 *   +a or +a@50    adds a delivery with key a, whose deadline is 50; says "full" when there is no room
 *   !a             adds a rejected one
 *   r2, x2         takes ready ones, rejected ones: at most 2
 *   d2@5, e2@5     takes those that are due, or expired, at 5: at most 2
 *   >a1@7          sets a1 aside, to be tried again at 7
 *   .a1, ~a1       releases a1, stored or not
 *   t              says when to try again, and when the first expires
 */
static void run_step(const char *step, struct told *out) {
    struct delivery *batch[DELIVERIES_MAX];
    const char *at = strchr(step, '@');
    int64_t time_us = at ? atoi(at + 1) : DEADLINE_US;
    size_t max = (size_t)atoi(step + 1);
    struct parcel *parcel;
    switch (step[0]) {
    case '+':
    case '!':
        parcel = make_parcel(step[1], step[0] == '!', time_us);
        if (!backlog_add(&backlog, &parcel->delivery)) {
            parcel_count--;
            say(out, "full");
        }
        return;
    case 'r':
        say_taken(out, batch, backlog_take(&backlog, &backlog.ready[BACKLOG_SMALL], batch, max, SIZE_MAX));
        return;
    case 'x':
        say_taken(out, batch, backlog_take(&backlog, &backlog.rejected[BACKLOG_SMALL], batch, max, SIZE_MAX));
        return;
    case 'd':
        say_taken(out, batch, backlog_take_due(&backlog, time_us, batch, max, SIZE_MAX));
        return;
    case 'e':
        say_taken(out, batch, backlog_take_expired(&backlog, time_us, batch, max));
        return;
    case '>':
        parcel = find_parcel(step + 1);
        parcel->delivery.backoff_us = 1; /* as group commit does */
        backlog_set_aside(&backlog, &parcel->delivery, time_us);
        return;
    case '.':
    case '~':
        parcel = find_parcel(step + 1);
        delivery_settle(&parcel->delivery, step[0] == '.' ? OUTCOME_CREATED : OUTCOME_UNAVAILABLE);
        backlog_release(&backlog, &parcel->delivery);
        parcel->released = true;
        memset(&parcel->delivery, 0xa5, sizeof parcel->delivery); /* it is somebody else's now */
        return;
    case 't':
        say_time(out, backlog.retry_us);
        say_time(out, backlog.expiry_us);
        return;
    default:
        fail_msg("what is %s?", step);
    }
}

static bool is_empty(const struct backlog *of) {
    bool empty = of->aside.count == 0 && !of->aside.first && of->receipts.count + of->receipts.bytes == 0 &&
                 of->rejections.count + of->rejections.bytes == 0;
    for (int size = 0; size < BACKLOG_SIZES; size++)
        empty = empty && of->ready[size].count + of->rejected[size].count == 0 && !of->ready[size].first &&
                !of->rejected[size].first;
    for (size_t i = 0; i < of->bucket_count; i++)
        empty = empty && !of->bucket[i];
    return empty;
}

struct script {
    const char *name, *steps, *says;
};

/* Runs scripts with room for `max_count` each; at the end of each all has been released, and nothing may be left. */
static void run_scripts(const struct script *scripts, size_t count, size_t max_count) {
    for (size_t s = 0; s < count; s++) {
        struct told out = {""};
        char steps[256], *rest = steps;
        bool released = true;
        parcel_count = 0;
        assert_true(backlog_init(&backlog, max_count, SIZE_MAX));
        snprintf(steps, sizeof steps, "%s", scripts[s].steps);
        for (char *step; (step = strsep(&rest, " "));)
            run_step(step, &out);
        expect_row(strcmp(out.text, scripts[s].says) == 0, "%s: %s", scripts[s].name, out.text);
        for (size_t i = 0; i < parcel_count; i++)
            released = released && parcels[i].released;
        expect_row(released, "%s: the script leaves some", scripts[s].name);
        expect_row(is_empty(&backlog), "%s: something is left in it", scripts[s].name);
        backlog_fini(&backlog);
    }
    end_table();
}

static void what_waits_is_taken_in_order(void **state) {
    (void)state;
    static const struct script scripts[] = {
        {"nothing", "r9 x9 d9@9 e9@9 t", "[] [] [] [] - -"},
        {"none is wanted", "+a r0 r1 .a1", "[] [a1]"},
        {"the oldest first", "+c +a +b r2 r2 r2 .c1 .a1 .b1", "[c1 a1] [b1] []"},
        {"more after it was empty", "+a r1 .a1 +b +c r9 .b1 .c1", "[a1] [b1 c1]"},
        {"more after some were taken", "+a +b r1 +c r9 .a1 .b1 .c1", "[a1] [b1 c1]"},
        {"rejected ones in a line of their own", "+a !x +b !y r9 x1 x9 .a1 .b1 ~x1 .y1", "[a1 b1] [x1] [y1]"},
        {"rejected ones whatever their keys", "!a !a !a x9 .a2 .a1 .a3", "[a1 a2 a3]"},
    };
    run_scripts(scripts, COUNT_OF(scripts), 100);
}

static void of_each_key_one_at_a_time_is_taken(void **state) {
    (void)state;
    static const struct script scripts[] = {
        {"the second waits until the first is done", "+a +a r9 r9 .a1 r9 .a2", "[a1] [] [a2]"},
        {"it does so when the first was taken before it came", "+a r9 +a r9 .a1 r9 .a2", "[a1] [] [a2]"},
        {"it waits whether the first was stored or not", "+a +a r9 ~a1 r9 .a2", "[a1] [a2]"},
        {"many keep their order", "+a +a +a +a r9 .a1 r9 .a2 r9 .a3 r9 .a4", "[a1] [a2] [a3] [a4]"},
        {"some come while others are taken", "+a +a r9 .a1 +a r9 +a .a2 r9 .a3 r9 .a4", "[a1] [a2] [a3] [a4]"},
        {"one comes when some have gone", "+a +a +a r9 .a1 +a r9 .a2 r9 .a3 r9 .a4", "[a1] [a2] [a3] [a4]"},
        {"other keys do not wait", "+a +b +a +c r9 +b +d r9 .b1 .d1 r9 .a1 .b2 r9 .a2 .c1",
         "[a1 b1 c1] [d1] [b2] [a2]"},
        {"who waited comes before what came later", "+a +a r1 +b +c .a1 r9 .a2 .b1 .c1", "[a1] [a2 b1 c1]"},
        {"who waited is the only one", "+a +a r1 .a1 +b r9 .a2 .b1", "[a1] [a2 b1]"},
        {"a key is free again", "+a r9 .a1 +a r9 .a2", "[a1] [a2]"},
        {"a rejected one neither waits nor is waited for", "+a !a r9 x9 +a .a2 r9 .a1 r9 .a3", "[a1] [a2] [] [a3]"},
    };
    run_scripts(scripts, COUNT_OF(scripts), 100);
}

static void keys_that_hash_alike_do_no_harm(void **state) {
    (void)state;
    static const struct script scripts[] = {
        {"the same hash waits", "+a +A +a r9 .a1 r9 .A1 r9 .a2", "[a1] [A1] [a2]"},
        {"the same bucket does not", "+a +1 +2 +a +1 r9 .11 r9 .a1 r9 .21 .12 r9 .a2", "[a1 11 21] [12] [a2] []"},
        {"the first in the bucket is done first", "+a +1 +2 r9 .a1 +1 +2 +a r9 .11 .21 r9 .12 .22 .a2",
         "[a1 11 21] [a2] [22 12]"},
        {"the middle one is done first", "+a +1 +2 r9 .11 +1 +2 +a r9 .a1 .21 r9 .12 .22 .a2",
         "[a1 11 21] [12] [22 a2]"},
        {"the last one is done first", "+a +1 +2 r9 .21 +2 +1 +a r9 .a1 .11 r9 .12 .22 .a2", "[a1 11 21] [22] [12 a2]"},
        {"one in front of others has one behind it", "+a +1 +a r9 .a1 +1 r9 .11 .a2 r9 .12", "[a1 11] [a2] [12]"},
        {"each has one behind it", "+a +1 +2 +2 +1 +a r9 .11 .a1 .21 r9 .a2 .22 .12", "[a1 11 21] [22 a2 12]"},
    };
    run_scripts(scripts, COUNT_OF(scripts), 100);
}

static void what_is_set_aside_is_taken_when_it_is_due(void **state) {
    (void)state;
    static const struct script scripts[] = {
        {"not before", "+a r9 >a1@7 t d9@6 t d9@7 t .a1", "[a1] 7 1000 [] 7 1000 [a1] - -"},
        {"not as ready or rejected", "+a r9 >a1@7 r9 x9 d9@9 .a1", "[a1] [] [] [a1]"},
        {"the first time of all", "+a +b +c r9 >b1@9 t >a1@7 t >c1@8 t d9@7 t d9@9 t .a1 .b1 .c1",
         "[a1 b1 c1] 9 1000 7 1000 7 1000 [a1] 8 1000 [b1 c1] - -"},
        {"as many as are wanted", "+a +b +c r9 >a1@5 >b1@5 >c1@5 d2@9 t d2@9 t .a1 .b1 .c1",
         "[a1 b1 c1] [a1 b1] 5 1000 [c1] - -"},
        {"out of the middle and the end", "+a +b +c +d r9 >a1@9 >b1@5 >c1@9 >d1@5 d9@5 >b1@6 d9@9 .a1 .b1 .c1 .d1",
         "[a1 b1 c1 d1] [b1 d1] [a1 c1 b1]"},
        {"again and again", "+a r9 >a1@5 d9@5 >a1@6 d9@5 d9@6 >a1@9 t d9@9 ~a1", "[a1] [a1] [] [a1] 9 1000 [a1]"},
        {"the others of its key wait", "+a +a r9 >a1@5 +a r9 d9@5 r9 .a1 r9 .a2 r9 .a3", "[a1] [] [a1] [] [a2] [a3]"},
    };
    run_scripts(scripts, COUNT_OF(scripts), 100);
}

static void what_is_set_aside_is_taken_when_it_has_expired(void **state) {
    (void)state;
    static const struct script scripts[] = {
        {"not before", "+a@50 r9 >a1@70 t e9@49 t e9@50 t ~a1", "[a1] 70 50 [] 70 50 [a1] - -"},
        {"whether it is due or not", "+a@50 +b@60 r9 >a1@10 >b1@99 e9@70 t ~a1 ~b1", "[a1 b1] [a1 b1] - -"},
        {"and only those", "+a@50 +b@40 +c@60 r9 >a1@8 >b1@9 >c1@7 t e9@50 t d9@7 .c1 ~a1 ~b1",
         "[a1 b1 c1] 7 40 [a1 b1] 7 60 [c1]"},
        {"as many as are wanted", "+a@5 +b@6 +c@5 r9 >a1@9 >b1@9 >c1@9 e2@7 t e2@7 t ~a1 ~b1 ~c1",
         "[a1 b1 c1] [a1 b1] 9 5 [c1] - -"},
        {"not what is ready, or taken", "+a@5 +b@5 r1 e9@9 r9 e9@9 .a1 .b1", "[a1] [] [b1] []"},
        {"the time is that of those that are left", "+a@50 +b@60 r9 >a1@5 >b1@6 d9@5 t .a1 d9@6 .b1",
         "[a1 b1] [a1] 6 60 [b1]"},
    };
    run_scripts(scripts, COUNT_OF(scripts), 100);
}

static void who_follows_one_that_was_set_aside(void **state) {
    (void)state;
    static const struct script scripts[] = {
        {"is ready when that was stored", "+a +a r9 >a1@5 d9@5 .a1 t r9 .a2", "[a1] [a1] - - [a2]"},
        {"is set aside, and due, when it was not", "+a +a@70 r9 >a1@5 d9@5 ~a1 t r9 d9@0 .a2",
         "[a1] [a1] 0 70 [] [a2]"},
        {"and so on", "+a +a +a r9 >a1@5 d9@5 ~a1 d9@5 ~a2 r9 d9@5 .a3", "[a1] [a1] [a2] [] [a3]"},
        {"until one was stored", "+a +a +a r9 >a1@5 d9@5 ~a1 d9@5 .a2 d9@5 r9 .a3", "[a1] [a1] [a2] [] [a3]"},
        {"expires as well", "+a@5 +a@6 r9 >a1@9 e9@5 ~a1 t e9@6 ~a2", "[a1] [a1] 0 6 [a2]"},
        {"is ready behind one that failed without a lock", "+a +a r9 ~a1 t r9 .a2", "[a1] - - [a2]"},
        {"does not wait for one that is not of its key", "+a +1 +1 r9 >a1@5 .11 r9 .12 d9@5 ~a1", "[a1 11] [12] [a1]"},
    };
    run_scripts(scripts, COUNT_OF(scripts), 100);
}

static void number_is_bounded_for_receipts_and_refused_ones_each(void **state) {
    (void)state;
    static const struct script scripts[] = {
        {"receipts", "+a +b +c +d r1 +d +e r9 .a1 .b1 .c1 .d1", "full [a1] full [b1 c1 d1]"},
        {"rejected ones", "!a !b !c !d x1 !d !e x9 .a1 .b1 .c1 .d1", "full [a1] full [b1 c1 d1]"},
        {"not together", "+a +b +c !x !y !z +d !w r9 x9 .a1 .b1 .c1 .x1 .y1 .z1", "full full [a1 b1 c1] [x1 y1 z1]"},
        {"who waits for its key counts", "+a +a +a +b r9 +b +b .a1 r9 .a2 r9 .a3 .b1", "full [a1] full [a2 b1] [a3]"},
        {"who is set aside counts, and comes back in any case",
         "+a +b r9 +c +d +e >a1@5 +f >b1@5 +f d9@5 +f r9 .a1 .b1 "
         ".c1 .d1 .e1",
         "[a1 b1] full full [a1 b1] full [c1 d1 e1]"},
    };
    run_scripts(scripts, COUNT_OF(scripts), 3);
}

static void bytes_are_bounded_for_receipts_and_refused_ones_each(void **state) {
    (void)state;
    enum { ROOM = 100 * KIB };
    static const struct {
        const char *name;
        size_t waiting[4], waiting_count, more;
        bool fits;
    } rows[] = {
        {"a small one", {0}, 0, 1, true},
        {"one larger than the bound, when nothing waits", {0}, 0, 10 * ROOM, true},
        {"one larger than the bound, behind another", {1}, 1, 10 * ROOM, false},
        {"a small one, behind one larger than the bound", {10 * ROOM}, 1, 1, false},
        {"the rest", {40 * KIB, 30 * KIB}, 2, 20 * KIB, true},
        {"more than the rest", {40 * KIB, 30 * KIB}, 2, 31 * KIB, false},
        {"what a delivery itself takes counts", {40 * KIB, 30 * KIB}, 2, 30 * KIB, false},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        for (int rejected = 0; rejected <= 1; rejected++) {
            struct delivery *batch[DELIVERIES_MAX];
            parcel_count = 0;
            assert_true(backlog_init(&backlog, 100, ROOM));
            /* What the other class has does not matter. */
            struct parcel *other = make_parcel('z', !rejected, DEADLINE_US);
            other->delivery.body_len = 2 * ROOM;
            assert_true(backlog_add(&backlog, &other->delivery));
            for (size_t i = 0; i <= rows[r].waiting_count; i++) {
                struct parcel *parcel = make_parcel((char)('a' + i), rejected, DEADLINE_US);
                size_t bytes = i < rows[r].waiting_count ? rows[r].waiting[i] : rows[r].more;
                /* By turns in each place where a delivery has bytes. */
                if (rejected)
                    parcel->delivery.body_len = bytes;
                else if (i % 2 == 0)
                    parcel->delivery.receipt.extra_len = bytes;
                else
                    parcel->delivery.receipt.values[i].len = (uint32_t)bytes;
                bool fits = backlog_add(&backlog, &parcel->delivery);
                expect_row(fits == (i < rows[r].waiting_count || rows[r].fits), "%s, %s: %zu bytes", rows[r].name,
                           rejected ? "rejected" : "receipts", bytes);
            }
            for (int size = 0; size < BACKLOG_SIZES; size++) {
                backlog_take(&backlog, &backlog.ready[size], batch, DELIVERIES_MAX, SIZE_MAX);
                backlog_take(&backlog, &backlog.rejected[size], batch, DELIVERIES_MAX, SIZE_MAX);
            }
            expect_row(backlog.receipts.bytes == 0 && backlog.rejections.bytes == 0, "%s: bytes are left",
                       rows[r].name);
            backlog_fini(&backlog);
        }
    end_table();
}

/* Of the cost that is wanted at most, but one in any case. */
static void a_batch_is_bounded_in_cost(void **state) {
    (void)state;
    enum { COST = 10 * KIB };
    static const struct {
        size_t max_cost, expected;
    } rows[] = {{0, 1}, {COST - 1, 1}, {COST, 1}, {2 * COST - 1, 1}, {2 * COST, 2}, {1000 * KIB, 5}};
    enum { READY, DUE, REJECTED, KINDS };
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        for (int kind = READY; kind < KINDS; kind++) {
            struct delivery *batch[DELIVERIES_MAX];
            struct line *line = kind == REJECTED ? &backlog.rejected[BACKLOG_SMALL] : &backlog.ready[BACKLOG_SMALL];
            size_t count;
            parcel_count = 0;
            assert_true(backlog_init(&backlog, 100, SIZE_MAX));
            for (char key = 'a'; key < 'f'; key++) {
                struct parcel *parcel = make_parcel(key, kind == REJECTED, DEADLINE_US);
                /* By turns in bytes and in values. */
                if (key % 2 == 0)
                    parcel->delivery.body_len = COST;
                else
                    parcel->delivery.receipt.value_count = COST / BACKLOG_VALUE_COST;
                assert_true(backlog_add(&backlog, &parcel->delivery));
            }
            if (kind == DUE)
                for (size_t i = backlog_take(&backlog, line, batch, DELIVERIES_MAX, SIZE_MAX); i > 0; i--)
                    backlog_set_aside(&backlog, batch[i - 1], 1);
            count = kind == DUE ? backlog_take_due(&backlog, 1, batch, DELIVERIES_MAX, rows[r].max_cost)
                                : backlog_take(&backlog, line, batch, DELIVERIES_MAX, rows[r].max_cost);
            expect_row(count == rows[r].expected, "kind %d, cost %zu: %zu taken", kind, rows[r].max_cost, count);
            expect_row(kind != DUE || (backlog.retry_us == 1) == (count < 5), "cost %zu: retry at %lld",
                       rows[r].max_cost, (long long)backlog.retry_us);
            backlog_fini(&backlog);
        }
    end_table();
}

/* By bytes, or by values; and whoever waits for a key goes to the line of its own size. */
static void large_ones_wait_in_a_line_of_their_own(void **state) {
    (void)state;
    for (int rejected = 0; rejected <= 1; rejected++) {
        struct line *lines = rejected ? backlog.rejected : backlog.ready;
        parcel_count = 0;
        assert_true(backlog_init(&backlog, 100, SIZE_MAX));
        for (char key = 'a'; key < 'e'; key++) {
            struct parcel *parcel = make_parcel(key, rejected, DEADLINE_US);
            if (key < 'c')
                parcel->delivery.body_len = BACKLOG_LARGE_COST + (key == 'a');
            else
                parcel->delivery.receipt.value_count = BACKLOG_LARGE_COST / BACKLOG_VALUE_COST + (key == 'c');
            assert_true(backlog_add(&backlog, &parcel->delivery));
        }
        assert_int_equal(lines[BACKLOG_SMALL].count, 2);
        assert_int_equal(lines[BACKLOG_LARGE].count, 2);
        assert_ptr_equal(lines[BACKLOG_LARGE].first, &find_parcel("a1")->delivery);
        backlog_fini(&backlog);
    }
    struct delivery *batch[1];
    parcel_count = 0;
    assert_true(backlog_init(&backlog, 100, SIZE_MAX));
    struct parcel *large = make_parcel('a', false, DEADLINE_US), *small = make_parcel('a', false, DEADLINE_US);
    large->delivery.body_len = BACKLOG_LARGE_COST + 1;
    assert_true(backlog_add(&backlog, &large->delivery));
    assert_true(backlog_add(&backlog, &small->delivery));
    assert_int_equal(backlog.ready[BACKLOG_SMALL].count, 0);
    assert_int_equal(backlog_take(&backlog, &backlog.ready[BACKLOG_LARGE], batch, 1, 0), 1);
    backlog_release(&backlog, &large->delivery);
    assert_ptr_equal(backlog.ready[BACKLOG_SMALL].first, &small->delivery);
    backlog_fini(&backlog);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_is_taken_in_order),
        cmocka_unit_test(of_each_key_one_at_a_time_is_taken),
        cmocka_unit_test(keys_that_hash_alike_do_no_harm),
        cmocka_unit_test(what_is_set_aside_is_taken_when_it_is_due),
        cmocka_unit_test(what_is_set_aside_is_taken_when_it_has_expired),
        cmocka_unit_test(who_follows_one_that_was_set_aside),
        cmocka_unit_test(number_is_bounded_for_receipts_and_refused_ones_each),
        cmocka_unit_test(bytes_are_bounded_for_receipts_and_refused_ones_each),
        cmocka_unit_test(a_batch_is_bounded_in_cost),
        cmocka_unit_test(large_ones_wait_in_a_line_of_their_own),
    };
    return cmocka_run_group_tests_name("backlog", tests, NULL, NULL);
}
