#include "reprocess.h"

#include "clock.h"
#include "rejections_pg.h"
#include "reply.h"

#include <string.h>

enum { STORE_TIME_US = 30 * US_PER_S };

struct summary {
    size_t examined, superseded, malformed;
    size_t made[OUTCOME_QUARANTINED + 1];
    size_t invalid;
    size_t errors[RECEIPT_FIELD_COUNT][RECEIPT_OUT_OF_RANGE + 1]; /* of those that are still invalid */
};

static void count_refusal(struct summary *summary, const struct delivery *delivery) {
    if (delivery->refusal == OUTCOME_MALFORMED) {
        summary->malformed++;
        return;
    }
    summary->invalid++;
    for (size_t i = 0; i < delivery->errors.count; i++)
        summary->errors[delivery->errors.list[i].field][delivery->errors.list[i].code]++;
}

static void write_summary(const struct summary *summary, bool dry_run, FILE *out) {
    size_t made = summary->made[OUTCOME_CREATED] + summary->made[OUTCOME_REVISED] + summary->made[OUTCOME_UNCHANGED];
    fprintf(out, "%zu rejected deliveries examined\n", summary->examined);
    if (dry_run)
        fprintf(out, "%zu would become receipts (dry run: nothing was changed)\n", summary->made[OUTCOME_UNAVAILABLE]);
    else
        fprintf(out, "%zu became receipts: %zu created, %zu revised, %zu unchanged\n", made,
                summary->made[OUTCOME_CREATED], summary->made[OUTCOME_REVISED], summary->made[OUTCOME_UNCHANGED]);
    fprintf(out, "%zu %s superseded by a later delivery of the same key\n", summary->superseded,
            dry_run ? "would be" : "were");
    fprintf(out, "%zu are still refused: %zu malformed, %zu invalid\n", summary->malformed + summary->invalid,
            summary->malformed, summary->invalid);
    for (int field = 0; field < RECEIPT_FIELD_COUNT; field++)
        for (int code = 0; code <= RECEIPT_OUT_OF_RANGE; code++)
            if (summary->errors[field][code] > 0)
                fprintf(out, "  %zu with %s %s\n", summary->errors[field][code], receipt_fields[field].path,
                        receipt_error_name((enum receipt_error_code)code));
}

/* Stores the receipt as the delivery that was refused: told by its request id, so that a second run changes nothing. */
static bool store_receipt(const struct reprocess_options *options, struct delivery *delivery, FILE *errors) {
    struct store *store = options->store;
    int64_t deadline_us = clock_now_us() + STORE_TIME_US;
    enum store_result result;
    do
        result = store->store(store, &delivery, 1, deadline_us);
    while (result == STORE_CONFLICT && clock_now_us() < deadline_us);
    if (result != STORE_OK)
        fprintf(errors, "receiptd: the receipt could not be stored: %s %s\n", store->failure, store->sqlstate);
    return result == STORE_OK;
}

/* A delivery that is valid now. False when it failed. */
static bool make_receipt(const struct reprocess_options *options, struct rejections *rejections,
                         const struct rejection *rejection, struct delivery *delivery, struct summary *summary,
                         FILE *out, FILE *errors) {
    bool superseded;
    const char *resolution = "superseded";
    if (rejections_superseded(rejections, rejection, &delivery->receipt, &superseded) != REJECTIONS_OK)
        return false;
    if (superseded) {
        summary->superseded++;
    } else if (options->dry_run) {
        resolution = "valid";
        summary->made[OUTCOME_UNAVAILABLE]++;
    } else {
        if (!store_receipt(options, delivery, errors))
            return false;
        resolution = reply_result(delivery->outcome);
        summary->made[delivery->outcome]++;
    }
    fprintf(out, "%s received %s: %s\n", rejection->id, rejection->received_at, resolution);
    return options->dry_run || rejections_resolve(rejections, rejection, resolution) == REJECTIONS_OK;
}

static bool examine(const struct reprocess_options *options, struct rejections *rejections,
                    const struct rejection *rejection, struct summary *summary, FILE *out, FILE *errors) {
    struct delivery delivery = {0};
    bool ok = true;
    summary->examined++;
    if (handler_read_body(options->handler, rejection->body, rejection->body_len, &delivery)) {
        ok = handler_set_request_id(&delivery, rejection->request_id);
        snprintf(delivery.api_key_name, sizeof delivery.api_key_name, "%s", rejection->api_key_name);
        ok = ok && make_receipt(options, rejections, rejection, &delivery, summary, out, errors);
    } else if (delivery.refusal != OUTCOME_UNAVAILABLE) {
        count_refusal(summary, &delivery);
    } else {
        fprintf(errors, "receiptd: %s\n", delivery.failure);
        ok = false;
    }
    delivery_fini(&delivery);
    return ok;
}

bool reprocess(const struct reprocess_options *options, FILE *out, FILE *errors) {
    struct summary summary = {0};
    struct rejection rejection;
    struct rejections *rejections = rejections_open(options->id, options->since, errors);
    if (!rejections)
        return false;
    bool ok = true;
    enum rejections_result next = REJECTIONS_OK;
    while (ok && (next = rejections_next(rejections, &rejection)) == REJECTIONS_OK)
        ok = examine(options, rejections, &rejection, &summary, out, errors);
    rejections_close(rejections);
    write_summary(&summary, options->dry_run, out);
    return ok && next == REJECTIONS_END;
}
