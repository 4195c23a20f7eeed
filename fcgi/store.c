#include "store.h"

#include "buffer.h"
#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "parameters.h"
#include "repeats.h"
#include "rows.h"
#include "session.h"
#include "statements.h"

#include <stdlib.h>
#include <string.h>

enum {
    FRUITLESS_LOOKUPS = 8, /* in a row, before there are none for a while: */
    NO_LOOKUP_US = 30 * US_PER_S,
    LOCK_TIMEOUT_MS = 20, /* of the statements for when locks were met */
};

/*
 * The numbers of rows that statements are prepared for, besides batch_max: a session of PostgreSQL's keeps each, with
 * 6 KB a row, for as long as it lives.
 */
static const size_t sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  10,  12,  14,  16,  20,
                               24, 28, 32, 40, 48, 56, 64, 96, 128, 256, 512, 1024};
enum { SIZE_COUNT = sizeof sizes / sizeof sizes[0] + 1 }; /* the last is batch_max */

/* What is known of a delivery of the batch; it becomes the delivery's own only once it is durable. */
struct progress {
    bool settled;
    enum outcome outcome; /* if it is settled */
    bool written;         /* this session has written its row, and has to look whether it is still there */
    bool locked;          /* this session has locked its row */
    bool begun;           /* it was about to revise it */
    bool superseded;      /* the row was this before, and keep_newer has left it as it is */
    bool has_returned;    /* the row is again what it was before */
};

struct store_pg {
    struct store store;
    struct store_options options;
    struct session *session;
    bool prepared[STATEMENT_COUNT][SIZE_COUNT]; /* in this session */
    bool brief;                                 /* this batch waits for no row, and for a table or a key only briefly */
    unsigned fruitless;                         /* lookups in a row that settled nothing of what was mostly known */
    int64_t lookup_again_us;                    /* until then, batches are not looked up first */

    struct parameters parameters;
    struct repeats *repeats;
    struct progress *progress; /* of each delivery of the batch */
    struct delivery **open;    /* those that are not settled, */
    size_t *open_positions;    /* and their positions in the batch */
};

size_t store_batch_limit(void) {
    return STATEMENTS_PARAMETERS_MAX / statements_row_parameters(STATEMENT_UPSERT, &(struct receipt_columns){0});
}

static struct store_pg *pg_of(struct store *store) {
    return (struct store_pg *)store; /* its first member */
}

static enum store_result fail(struct store_pg *pg, const char *failure) {
    pg->store.failure = failure;
    pg->store.sqlstate[0] = pg->store.detail[0] = '\0';
    return STORE_FAILED;
}

/* Takes over what the session says of a failure. */
static enum store_result failed_in_session(struct store_pg *pg, enum store_result result) {
    if (!session_failure(pg->session) && pg->store.failure)
        return result; /* what went wrong before is the reason */
    pg->store.failure =
        session_failure(pg->session) ? session_failure(pg->session) : "PostgreSQL did not answer in time";
    memcpy(pg->store.sqlstate, session_sqlstate(pg->session), sizeof pg->store.sqlstate);
    snprintf(pg->store.detail, sizeof pg->store.detail, "%s", session_detail(pg->session));
    return result;
}

static bool connect_session(struct store_pg *pg, enum inspection_use use, int64_t deadline_us) {
    bool is_new;
    if (!session_connect(pg->session, use, deadline_us, &is_new)) {
        failed_in_session(pg, STORE_FAILED);
        return false;
    }
    if (is_new)
        memset(pg->prepared, 0, sizeof pg->prepared);
    session_begin(pg->session);
    return true;
}

static size_t size_at(const struct store_pg *pg, size_t index) {
    size_t size = index < SIZE_COUNT - 1 ? sizes[index] : pg->options.batch_max;
    return size < pg->options.batch_max ? size : pg->options.batch_max;
}

/* Which size is the smallest that has room for so many rows. */
static size_t index_with_room(const struct store_pg *pg, size_t rows) {
    size_t index = 0;
    while (size_at(pg, index) < rows)
        index++;
    return index;
}

size_t store_fit(const struct store *store, size_t waiting) {
    const struct store_pg *pg = (const struct store_pg *)store;
    if (!pg->options.prepared_statements || waiting == 0)
        return waiting;
    size_t index = index_with_room(pg, waiting);
    return size_at(pg, index) == waiting ? waiting : size_at(pg, index - 1);
}

/* Whether statements are prepared: those of brief batches come too seldom to be worth it. */
static bool is_prepared(const struct store_pg *pg) {
    return pg->options.prepared_statements && !pg->brief;
}

static struct statements_options options_of(const struct store_pg *pg) {
    const struct inspection *found = session_inspection(pg->session);
    return (struct statements_options){.keep_when = pg->options.keep_when,
                                       .ignored_fields = pg->options.ignored_fields,
                                       .keep_newer = pg->options.keep_newer,
                                       .on_citus = found->on_citus,
                                       .hides_flush = found->hides_flush,
                                       .has_foreign_triggers = found->has_foreign_triggers,
                                       .require_standby = pg->options.database->require_standby,
                                       .columns = found->columns};
}

/*
 * Runs a statement for `rows` rows, one of the sizes where it is prepared, with pg->parameters. STORE_OK:
 * *result is the caller's to clear.
 */
static enum store_result run(struct store_pg *pg, enum statement statement, size_t rows, int64_t deadline_us,
                             PGresult **result) {
    const struct receipt_columns *columns = &session_inspection(pg->session)->columns;
    const struct session_parameters parameters = {.count = (int)(rows * statements_row_parameters(statement, columns)),
                                                  .types = pg->parameters.types,
                                                  .values = pg->parameters.values,
                                                  .lengths = pg->parameters.lengths,
                                                  .formats = pg->parameters.formats};
    bool unprepared = !is_prepared(pg);
    bool *prepared = &pg->prepared[statement][unprepared ? 0 : index_with_room(pg, rows)];
    enum store_result ran = STORE_OK;
    char name[32];
    snprintf(name, sizeof name, "%s_%zu", statements_name(statement), rows);
    struct buffer sql;
    buffer_init(&sql);
    if (unprepared || !*prepared) {
        const struct statements_options options = options_of(pg);
        statements_write(&sql, statement, rows, &options);
        buffer_append(&sql, "", 1);
        if (sql.failed) {
            buffer_fini(&sql);
            return fail(pg, "out of memory");
        }
    }
    if (!unprepared && !*prepared) {
        ran = session_prepare(pg->session, name, sql.data, &parameters, deadline_us);
        *prepared = ran == STORE_OK;
    }
    if (ran == STORE_OK && pg->brief)
        ran = session_run_briefly(pg->session, LOCK_TIMEOUT_MS, sql.data, &parameters, deadline_us, result);
    else if (ran == STORE_OK)
        ran = session_run(pg->session, unprepared ? NULL : name, sql.data, &parameters, deadline_us, result);
    buffer_fini(&sql);
    return ran == STORE_OK ? STORE_OK : failed_in_session(pg, ran);
}

static void settle_progress(struct progress *progress, enum outcome outcome) {
    progress->settled = true;
    progress->outcome = outcome == OUTCOME_UNCHANGED && progress->superseded ? OUTCOME_SUPERSEDED : outcome;
}

/* Triggers of somebody else may delete a row that was just written, so a lookup after the commit settles it then. */
static void settle_written(struct store_pg *pg, struct progress *progress, enum outcome outcome) {
    if (session_inspection(pg->session)->has_foreign_after_triggers)
        progress->written = progress->locked = true;
    else
        settle_progress(progress, outcome);
}

/* What a row of a result says of the open delivery at `at`. */
static void take_row(struct store_pg *pg, enum statement statement, const PGresult *result, int row, size_t at) {
    const struct delivery *delivery = pg->open[at];
    struct progress *progress = &pg->progress[pg->open_positions[at]];
    if (statement != STATEMENT_LOOKUP) {
        progress->superseded |= rows_is_true(result, row, STATEMENTS_WAS_SUPERSEDED);
        progress->has_returned |= rows_is_true(result, row, STATEMENTS_HAS_RETURNED);
    }
    if (statement == STATEMENT_UPSERT && PQgetisnull(result, row, STATEMENTS_CREATED_BY)) {
        progress->locked = true;
        progress->begun |= PQgetisnull(result, row, STATEMENTS_REVISED_BY);
    } else if (statement == STATEMENT_LOOKUP && progress->begun && !progress->written) {
        /* A trigger of somebody else has dropped the revision: that the row is there settles nothing. */
    } else if (statement == STATEMENT_REVISE) {
        progress->locked = true;
        progress->begun = rows_is_true(result, row, STATEMENTS_WAS_BEGUN);
        if (rows_is_true(result, row, STATEMENTS_WAS_REVISED))
            settle_written(pg, progress, OUTCOME_REVISED);
    } else if (statement != STATEMENT_LOOKUP) {
        settle_written(pg, progress, rows_outcome(result, row, statement, delivery));
    } else if (progress->locked || rows_is_same(result, row, delivery, &session_inspection(pg->session)->columns)) {
        settle_progress(progress, rows_outcome(result, row, statement, delivery));
    }
}

/*
 * Takes the rows of a result, which are about the `count` open deliveries from `first` on. They are matched by request
 * id, and usually in order, so the search starts behind the last match.
 */
static void take_rows(struct store_pg *pg, enum statement statement, const PGresult *result, size_t first,
                      size_t count) {
    size_t expected = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        for (size_t tried = 0; tried < count; tried++) {
            size_t i = (expected + tried) % count;
            if (rows_is_of(result, row, STATEMENTS_DELIVERY, pg->open[first + i])) {
                take_row(pg, statement, result, row, first + i);
                expected = i + 1;
                break;
            }
        }
    }
}

/* Collects the deliveries of the batch that are not settled: all, or those whose rows are, or are not, locked. */
enum selection { ALL_OPEN, LOCKED, NOT_LOCKED };
static size_t collect_open(struct store_pg *pg, struct delivery *const *deliveries, size_t count,
                           enum selection selection) {
    size_t open = 0;
    for (size_t i = 0; i < count; i++) {
        if (pg->progress[i].settled || (selection != ALL_OPEN && pg->progress[i].locked != (selection == LOCKED)))
            continue;
        pg->open[open] = deliveries[i];
        pg->open_positions[open++] = i;
    }
    return open;
}

/*
 * Runs a statement for the open deliveries and takes what it tells of them: in one piece or, where it is prepared and
 * writes, in pieces of the sizes that there are.
 */
static enum store_result settle(struct store_pg *pg, enum statement statement, size_t open, int64_t deadline_us) {
    for (size_t first = 0, piece; first < open; first += piece) {
        PGresult *result;
        bool locked = false; /* then rows are as they were sent, and so no longer than the batch */
        piece = open - first;
        size_t rows = piece;
        if (is_prepared(pg)) {
            if (statement != STATEMENT_LOOKUP)
                piece = store_fit(&pg->store, piece);
            rows = size_at(pg, index_with_room(pg, piece));
        }
        for (size_t i = first; i < first + piece; i++)
            locked |= pg->progress[pg->open_positions[i]].locked;
        if (!parameters_set_receipts(&pg->parameters, statement, &session_inspection(pg->session)->columns,
                                     pg->open + first, piece, rows, locked))
            return fail(pg, "out of memory");
        enum store_result ran = run(pg, statement, rows, deadline_us, &result);
        if (ran != STORE_OK)
            return ran;
        take_rows(pg, statement, result, first, piece);
        PQclear(result);
        if (statement == STATEMENT_LOOKUP)
            continue;
        metrics_count_batch(piece);
        if (!session_confirm(pg->session, deadline_us))
            return failed_in_session(pg, STORE_FAILED);
    }
    return STORE_OK;
}

static bool begin_batch(struct store_pg *pg, enum inspection_use use, size_t count, bool brief, int64_t deadline_us) {
    if (!connect_session(pg, use, deadline_us))
        return false;
    pg->brief = brief;
    memset(pg->progress, 0, count * sizeof *pg->progress);
    return true;
}

/* Hands the outcomes over. */
static void end_batch(struct store_pg *pg, struct delivery *const *deliveries, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct progress *progress = &pg->progress[i];
        if (!progress->settled)
            continue;
        delivery_settle(deliveries[i], progress->outcome);
        if (progress->has_returned && progress->outcome == OUTCOME_REVISED)
            metrics_count_returned_version();
        progress->has_returned = false; /* it is counted once */
    }
}

/*
 * Judges whether the next batch should be looked up before it is written. Where lookups settle nothing of batches that
 * are known, because others keep writing or a standby has to have it too, they are left out for a while.
 */
static void judge_lookups(struct store_pg *pg, size_t count, bool looked_up, size_t settled_by_lookup) {
    size_t unchanged = 0;
    for (size_t i = 0; i < count; i++)
        unchanged += pg->progress[i].outcome == OUTCOME_UNCHANGED;
    bool mostly_known = unchanged > count / 2;
    if (looked_up)
        pg->fruitless = settled_by_lookup == 0 && mostly_known ? pg->fruitless + 1 : 0;
    int64_t now_us = clock_now_us();
    if (pg->fruitless == FRUITLESS_LOOKUPS) {
        pg->fruitless = 0;
        pg->lookup_again_us = now_us + NO_LOOKUP_US;
    }
    pg->store.mostly_known = mostly_known && now_us >= pg->lookup_again_us;
}

/*
 * What the upsert has left open was found as it is, and locked; the commit has made it durable. With triggers of
 * somebody else, that is told, since one that drops an insert drops the receipt's revision too, and then it is revised
 * by an update. That does not ask keep_when: where there is one, such a delivery fails.
 */
static enum store_result settle_not_met(struct store_pg *pg, struct delivery *const *deliveries, size_t count,
                                        int64_t deadline_us) {
    const struct statements_options options = options_of(pg);
    if (statements_tell_begun(&options))
        return options.keep_when
                   ? STORE_OK
                   : settle(pg, STATEMENT_REVISE, collect_open(pg, deliveries, count, NOT_LOCKED), deadline_us);
    for (size_t i = 0; i < count; i++)
        pg->progress[i].locked = true;
    return STORE_OK;
}

enum store_result store_upsert(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    struct store_pg *pg = pg_of(store);
    enum store_result stored = STORE_OK;
    bool looked_up = store->mostly_known;
    if (!begin_batch(pg, INSPECTION_RECEIPTS, count, false, deadline_us))
        return STORE_FAILED;
    if (looked_up)
        stored = settle(pg, STATEMENT_LOOKUP, collect_open(pg, deliveries, count, ALL_OPEN), deadline_us);
    size_t open = collect_open(pg, deliveries, count, ALL_OPEN), settled_by_lookup = count - open;
    if (stored == STORE_OK)
        stored = settle(pg, STATEMENT_UPSERT, open, deadline_us);
    if (stored == STORE_OK)
        stored = settle_not_met(pg, deliveries, count, deadline_us);
    if (stored == STORE_OK)
        stored = settle(pg, STATEMENT_LOOKUP, collect_open(pg, deliveries, count, ALL_OPEN), deadline_us);
    if (stored != STORE_OK)
        return stored;
    if (collect_open(pg, deliveries, count, ALL_OPEN) > 0) {
        /* Deleted by hand between the two statements: then upserting it again creates it. */
        fail(pg, "PostgreSQL has not stored what it was sent: does a trigger on inventory.receipts drop it?");
        return count > 1 ? STORE_UNSTORABLE : STORE_CONFLICT;
    }
    judge_lookups(pg, count, looked_up, settled_by_lookup);
    end_batch(pg, deliveries, count);
    return STORE_OK;
}

/*
 * A statement that waits for no row, and what the rows say that it did not settle: all, or those that it has locked.
 * What it has settled is committed, also when the lookup fails, which may wait for a lock on receipt_revisions.
 */
static enum store_result store_briefly(struct store_pg *pg, enum statement statement,
                                       struct delivery *const *deliveries, size_t count, enum selection selection,
                                       int64_t deadline_us) {
    if (!begin_batch(pg, INSPECTION_RECEIPTS, count, true, deadline_us))
        return STORE_FAILED;
    enum store_result stored = settle(pg, statement, collect_open(pg, deliveries, count, ALL_OPEN), deadline_us);
    if (stored != STORE_OK)
        return stored;
    end_batch(pg, deliveries, count);
    stored = settle(pg, STATEMENT_LOOKUP, collect_open(pg, deliveries, count, selection), deadline_us);
    if (stored == STORE_OK)
        end_batch(pg, deliveries, count);
    return stored;
}

enum store_result store_insert(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return store_briefly(pg_of(store), STATEMENT_INSERT, deliveries, count, ALL_OPEN, deadline_us);
}

enum store_result store_revise(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    return store_briefly(pg_of(store), STATEMENT_REVISE, deliveries, count, LOCKED, deadline_us);
}

/* Notes on each delivery of the groups whether it was kept as a repeat. False when a row is missing. */
static bool take_groups(const PGresult *result, const struct repeats_group *groups, size_t count) {
    if (PQntuples(result) != (int)count)
        return false;
    for (size_t row = 0; row < count; row++) {
        const struct repeats_group *group = &groups[row];
        for (size_t i = 0; i < group->count; i++) {
            struct delivery *delivery = group->deliveries[i];
            delivery->is_repeat = !rows_is_of(result, (int)row, STATEMENTS_DELIVERY, delivery);
            memcpy(delivery->repeat_of, PQgetvalue(result, (int)row, STATEMENTS_DELIVERY), REQUEST_ID_BYTES);
        }
    }
    return true;
}

enum store_result store_reject(struct store *store, struct delivery *const *deliveries, size_t count,
                               int64_t deadline_us) {
    struct store_pg *pg = pg_of(store);
    size_t group_count = 0;
    if (!begin_batch(pg, INSPECTION_REJECTIONS, count, false, deadline_us))
        return STORE_FAILED;
    const struct repeats_group *groups = repeats_group(pg->repeats, deliveries, count, &group_count);
    if (!groups)
        return fail(pg, "out of memory");
    for (size_t first = 0, piece; first < group_count; first += piece) {
        PGresult *result;
        piece = store_fit(store, group_count - first);
        if (!parameters_set_rejections(&pg->parameters, groups + first, piece))
            return fail(pg, "out of memory");
        enum store_result stored = run(pg, STATEMENT_REJECT, piece, deadline_us, &result);
        if (stored != STORE_OK)
            return stored;
        metrics_count_batch(piece);
        bool complete = take_groups(result, groups + first, piece);
        PQclear(result);
        if (!complete)
            return fail(pg, "PostgreSQL stored no row: does a trigger on inventory.rejected_receipts drop it?");
        if (!session_confirm(pg->session, deadline_us))
            return failed_in_session(pg, STORE_FAILED);
    }
    for (size_t i = 0; i < count; i++)
        delivery_settle(deliveries[i], deliveries[i]->rejection_answer);
    return STORE_OK;
}

static void free_pg(struct store_pg *pg) {
    session_free(pg->session);
    parameters_fini(&pg->parameters);
    repeats_free(pg->repeats);
    free(pg->progress);
    free(pg->open);
    free(pg->open_positions);
    free(pg);
}

void store_free(struct store *store) {
    if (store)
        free_pg(pg_of(store));
}

struct store *store_new(const struct store_options *options) {
    struct store_pg *pg = calloc(1, sizeof *pg);
    if (!pg)
        return NULL;
    pg->options = *options;
    bool ok = (pg->session = session_new(options->database)) != NULL;
    ok &= parameters_init(&pg->parameters, options->batch_max);
    ok &= (pg->repeats = repeats_new(options->batch_max)) != NULL;
    ok &= (pg->progress = calloc(options->batch_max, sizeof *pg->progress)) != NULL;
    ok &= (pg->open = calloc(options->batch_max, sizeof(struct delivery *))) != NULL;
    ok &= (pg->open_positions = calloc(options->batch_max, sizeof *pg->open_positions)) != NULL;
    if (!ok) {
        free_pg(pg);
        return NULL;
    }
    return &pg->store;
}
