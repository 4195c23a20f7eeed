#include "reprocess.h"

#include "clock.h"
#include "rejections_pg.h"

#include <string.h>
#include <unistd.h>

enum {
    STORE_TIME_US = 30 * US_PER_S,
    STORE_TRIES = 10, /* within five seconds, if each fails at once */
    LOCKED_TRIES = 3, /* once another one was held up: each waits for the lock, see sql/roles.sql */
    BACKOFF_FIRST_US = 20 * US_PER_MS,
    BACKOFF_MAX_US = US_PER_S,
};

struct summary {
    size_t examined, superseded, unstorable, held_up, malformed;
    size_t valid; /* in a dry run; else see made */
    size_t made[OUTCOME_COUNT];
    size_t invalid;
    size_t errors[RECEIPT_FIELD_COUNT][RECEIPT_ERROR_CODE_COUNT]; /* of those that are still invalid */
};

static void count_rejection(struct summary *summary, const struct delivery *delivery) {
    if (delivery->rejection == REJECTION_MALFORMED) {
        summary->malformed++;
        return;
    }
    summary->invalid++;
    for (size_t i = 0; i < delivery->errors.count; i++)
        summary->errors[delivery->errors.list[i].field][delivery->errors.list[i].code]++;
}

static void write_summary(const struct summary *summary, bool dry_run, FILE *out) {
    size_t made = summary->made[OUTCOME_CREATED] + summary->made[OUTCOME_REVISED] + summary->made[OUTCOME_UNCHANGED];
    fprintf(out, "Refused deliveries examined: %zu%s\n", summary->examined,
            dry_run ? " (a dry run: nothing was changed)" : "");
    if (dry_run)
        fprintf(out, "  would become receipts: %zu\n  would be superseded by a later delivery of the same key: %zu\n",
                summary->valid, summary->superseded);
    else
        fprintf(out,
                "  became receipts: %zu (%zu created, %zu revised, %zu unchanged)\n"
                "  superseded by a later delivery of the same key: %zu\n",
                made, summary->made[OUTCOME_CREATED], summary->made[OUTCOME_REVISED], summary->made[OUTCOME_UNCHANGED],
                summary->superseded);
    if (summary->unstorable > 0)
        fprintf(out, "  valid, but the database does not take them: %zu\n", summary->unstorable);
    if (summary->held_up > 0)
        fprintf(out, "  valid, but held up by other sessions: %zu; run this again\n", summary->held_up);
    fprintf(out, "  still rejected: %zu (%zu malformed, %zu invalid)\n", summary->malformed + summary->invalid,
            summary->malformed, summary->invalid);
    for (int field = 0; field < RECEIPT_FIELD_COUNT; field++)
        for (int code = 0; code < RECEIPT_ERROR_CODE_COUNT; code++)
            if (summary->errors[field][code] > 0)
                fprintf(out, "    %s %s: %zu\n", receipt_fields[field].path, receipt_error_names[code],
                        summary->errors[field][code]);
}

/*
 * Stores the receipt as the delivery that was rejected: told by its request id, so that a second run changes nothing.
 * What can't be stored now is tried again, a few times; the next run is another chance.
 */
static enum store_result store_receipt(const struct reprocess_options *options,
                                       const struct rejected_receipt *rejection, struct delivery *delivery,
                                       bool was_held_up, FILE *errors) {
    struct store *store = options->store;
    int64_t deadline_us = clock_now_us() + STORE_TIME_US;
    useconds_t backoff_us = BACKOFF_FIRST_US;
    unsigned tries = 1;
    enum store_result result;
    while ((result = store_upsert(store, &delivery, 1, deadline_us)) != STORE_OK && result != STORE_UNSTORABLE &&
           tries < (result == STORE_LOCKED && was_held_up ? LOCKED_TRIES : STORE_TRIES) &&
           clock_now_us() + backoff_us < deadline_us) {
        usleep(backoff_us);
        backoff_us = backoff_us * 2 < BACKOFF_MAX_US ? backoff_us * 2 : BACKOFF_MAX_US;
        tries++;
    }
    if (result == STORE_OK)
        return result;
    fprintf(errors, "receiptd: %s could not be stored", rejection->id);
    if (tries > 1)
        fprintf(errors, ", tried %u times", tries);
    fprintf(errors, ": %s%s%s\n", store->failure, store->sqlstate[0] ? " " : "", store->sqlstate);
    return result;
}

/* A lock is a matter of this delivery alone, and does not keep the others from being examined. */
static bool is_held_up(enum rejections_result result, struct summary *summary) {
    summary->held_up += result == REJECTIONS_LOCKED;
    return result == REJECTIONS_LOCKED;
}

/* Says what becomes of it and, unless this is a dry run, marks it. False when that failed. */
static bool resolve(const struct reprocess_options *options, struct rejections *rejections,
                    const struct rejected_receipt *rejection, const char *resolution, struct summary *summary,
                    FILE *out) {
    fprintf(out, "%s received %s: %s\n", rejection->id, rejection->received_at, resolution);
    if (options->dry_run)
        return true;
    /* Until it is marked, the next run finds that it is stored. */
    enum rejections_result resolved = rejections_resolve(rejections, rejection, resolution);
    return resolved == REJECTIONS_OK || is_held_up(resolved, summary);
}

/* A delivery that is valid now. False when it failed. */
static bool make_receipt(const struct reprocess_options *options, struct rejections *rejections,
                         const struct rejected_receipt *rejection, struct delivery *delivery, struct summary *summary,
                         FILE *out, FILE *errors) {
    bool superseded = false;
    const char *resolution = "superseded";
    if (!options->dry_run) {
        enum store_result stored = store_receipt(options, rejection, delivery, summary->held_up > 0, errors);
        if (stored == STORE_UNSTORABLE) {
            /* A matter of this row alone (a check that somebody added): not for it to hold up the others. */
            summary->unstorable++;
            return true;
        }
        if (stored == STORE_LOCKED || stored == STORE_CONFLICT) {
            summary->held_up++;
            return true;
        }
        if (stored != STORE_OK)
            return false;
    }
    /* The store leaves the row alone when it is superseded, and calls that unchanged. */
    if (options->dry_run || delivery->outcome == OUTCOME_UNCHANGED) {
        enum rejections_result found = rejections_superseded(rejections, rejection, &delivery->receipt, &superseded);
        if (found != REJECTIONS_OK)
            return is_held_up(found, summary);
    }
    if (superseded || delivery->outcome == OUTCOME_SUPERSEDED) {
        summary->superseded++;
    } else if (options->dry_run) {
        resolution = "valid";
        summary->valid++;
    } else {
        resolution = outcomes[delivery->outcome].result;
        summary->made[delivery->outcome]++;
    }
    return resolve(options, rejections, rejection, resolution, summary, out);
}

static bool examine(const struct reprocess_options *options, struct rejections *rejections,
                    const struct rejected_receipt *rejection, struct summary *summary, FILE *out, FILE *errors) {
    struct delivery delivery = {0};
    bool ok = true;
    summary->examined++;
    if (rejection->superseded) {
        summary->superseded++;
        return resolve(options, rejections, rejection, "superseded", summary, out);
    }
    if (handler_read_body(options->handler, rejection->body, rejection->body_len, &delivery)) {
        ok = handler_set_request_id(&delivery, rejection->request_id) &&
             handler_keep_headers(rejection->headers, &delivery);
        snprintf(delivery.api_key_name, sizeof delivery.api_key_name, "%s", rejection->api_key_name);
        ok = ok && make_receipt(options, rejections, rejection, &delivery, summary, out, errors);
    } else if (delivery.rejection != REJECTION_NONE) {
        count_rejection(summary, &delivery);
        if (options->id)
            fprintf(out, "%s received %s: still rejected: %s\n", rejection->id, rejection->received_at,
                    outcome_message(outcome_of_rejection(delivery.rejection), delivery.message));
    } else {
        fprintf(errors, "receiptd: %s\n", delivery.failure);
        ok = false;
    }
    delivery_fini(&delivery);
    return ok;
}

bool reprocess(const struct reprocess_options *options, FILE *out, FILE *errors) {
    struct summary summary = {0};
    struct rejected_receipt rejection;
    struct rejections *rejections = rejections_open(options->id, options->since, errors);
    if (!rejections)
        return false;
    bool ok = true;
    enum rejections_result next = REJECTIONS_OK;
    while (ok && (next = rejections_next(rejections, &rejection)) == REJECTIONS_OK)
        ok = examine(options, rejections, &rejection, &summary, out, errors);
    rejections_close(rejections);
    if (next == REJECTIONS_END && options->id && summary.examined == 0) {
        fprintf(errors, "receiptd: no rejected delivery with the rejection_id %s is unresolved\n", options->id);
        return false;
    }
    write_summary(&summary, options->dry_run, out);
    if (fflush(out) != 0) {
        fprintf(errors, "receiptd: the summary could not be written\n");
        return false;
    }
    return ok && next == REJECTIONS_END && summary.unstorable == 0 && summary.held_up == 0;
}
