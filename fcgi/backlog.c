#include "backlog.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MIN = 64, BUCKETS_MAX = 65536 };

static void line_init(struct line *line) {
    *line = (struct line){.last = &line->first};
}

static void push_back(struct line *line, struct delivery *delivery) {
    delivery->next = NULL;
    *line->last = delivery;
    line->last = &delivery->next;
    line->count++;
}

static void push_front(struct line *line, struct delivery *delivery) {
    delivery->next = line->first;
    line->first = delivery;
    if (!delivery->next)
        line->last = &delivery->next;
    line->count++;
}

/* Takes out the delivery that *link points to. */
static struct delivery *unlink_at(struct line *line, struct delivery **link) {
    struct delivery *delivery = *link;
    *link = delivery->next;
    if (!*link)
        line->last = link;
    line->count--;
    return delivery;
}

static bool is_rejected(const struct delivery *delivery) {
    return delivery->rejection != REJECTION_NONE;
}

static void measure(struct delivery *delivery) {
    size_t bytes = delivery->body_len + delivery->receipt.extra_len;
    for (int i = 0; i < SENDER_HEADER_COUNT; i++)
        bytes += delivery->headers[i] ? strlen(delivery->headers[i]) : 0;
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++)
        bytes += delivery->receipt.values[i].len;
    delivery->bytes = sizeof *delivery + bytes;
    delivery->cost = bytes + BACKLOG_VALUE_COST * delivery->receipt.value_count;
}

static enum backlog_size size_of(const struct delivery *delivery) {
    return delivery->cost > BACKLOG_LARGE_COST ? BACKLOG_LARGE : BACKLOG_SMALL;
}

static struct usage *usage_for(struct backlog *backlog, const struct delivery *delivery) {
    return is_rejected(delivery) ? &backlog->rejections : &backlog->receipts;
}

static void enter(struct backlog *backlog, const struct delivery *delivery) {
    struct usage *usage = usage_for(backlog, delivery);
    usage->count++;
    usage->bytes += delivery->bytes;
}

static void leave(struct backlog *backlog, const struct delivery *delivery) {
    struct usage *usage = usage_for(backlog, delivery);
    usage->count--;
    usage->bytes -= delivery->bytes;
}

bool backlog_init(struct backlog *backlog, size_t max_count, size_t max_bytes) {
    *backlog = (struct backlog){.limit = {max_count, max_bytes}, .retry_us = INT64_MAX, .expiry_us = INT64_MAX};
    line_init(&backlog->aside);
    for (int size = 0; size < BACKLOG_SIZES; size++) {
        line_init(&backlog->ready[size]);
        line_init(&backlog->rejected[size]);
    }
    backlog->bucket_count = BUCKETS_MIN;
    while (backlog->bucket_count < max_count && backlog->bucket_count < BUCKETS_MAX)
        backlog->bucket_count *= 2;
    backlog->bucket = calloc(backlog->bucket_count, sizeof(struct delivery *));
    return backlog->bucket != NULL;
}

void backlog_fini(struct backlog *backlog) {
    free(backlog->bucket);
    backlog->bucket = NULL;
}

/*
 * The link to the one in the table with that hash, or the link that ends its bucket. Keys that differ and hash alike
 * wait for each other, which harms nobody.
 */
static struct delivery **find_key(struct backlog *backlog, uint64_t key_hash) {
    struct delivery **link = &backlog->bucket[key_hash & (backlog->bucket_count - 1)];
    while (*link && (*link)->receipt.key_hash != key_hash)
        link = &(*link)->next_in_bucket;
    return link;
}

bool backlog_add(struct backlog *backlog, struct delivery *delivery) {
    const struct usage *usage = usage_for(backlog, delivery);
    measure(delivery);
    if (usage->count >= backlog->limit.count ||
        (usage->count > 0 && usage->bytes + delivery->bytes > backlog->limit.bytes))
        return false;
    enter(backlog, delivery);
    delivery->backoff_us = 0;
    if (is_rejected(delivery)) {
        push_back(&backlog->rejected[size_of(delivery)], delivery);
        return true;
    }
    delivery->next_in_bucket = NULL;
    delivery->next_of_key = NULL;
    delivery->last_of_key = delivery;
    struct delivery **link = find_key(backlog, delivery->receipt.key_hash);
    if (*link) {
        (*link)->last_of_key->next_of_key = delivery;
        (*link)->last_of_key = delivery;
    } else {
        *link = delivery;
        push_back(&backlog->ready[size_of(delivery)], delivery);
    }
    return true;
}

/* Whether a batch has room for one more of that cost. */
static bool has_room(size_t count, size_t cost, const struct delivery *delivery, size_t max, size_t max_cost) {
    return count < max && (count == 0 || cost + delivery->cost <= max_cost);
}

size_t backlog_take(struct backlog *backlog, struct line *line, struct delivery **batch, size_t max, size_t max_cost) {
    size_t count = 0, cost = 0;
    while (line->first && has_room(count, cost, line->first, max, max_cost)) {
        struct delivery *delivery = unlink_at(line, &line->first);
        leave(backlog, delivery);
        cost += delivery->cost;
        batch[count++] = delivery;
    }
    return count;
}

/* Notes when one that is set aside wants to be looked at. */
static void note_times(struct backlog *backlog, const struct delivery *delivery) {
    if (delivery->retry_at_us < backlog->retry_us)
        backlog->retry_us = delivery->retry_at_us;
    if (delivery->deadline_us < backlog->expiry_us)
        backlog->expiry_us = delivery->deadline_us;
}

/* Takes those that are set aside and due, or else those that are past their deadline. */
static size_t take_aside(struct backlog *backlog, int64_t now_us, bool expired, struct delivery **batch, size_t max,
                         size_t max_cost) {
    size_t count = 0, cost = 0;
    struct delivery **link = &backlog->aside.first;
    backlog->retry_us = backlog->expiry_us = INT64_MAX;
    while (*link) {
        int64_t time_us = expired ? (*link)->deadline_us : (*link)->retry_at_us;
        if (time_us <= now_us && has_room(count, cost, *link, max, max_cost)) {
            batch[count] = unlink_at(&backlog->aside, link);
            leave(backlog, batch[count]);
            cost += batch[count++]->cost;
            continue;
        }
        note_times(backlog, *link);
        link = &(*link)->next;
    }
    return count;
}

size_t backlog_take_due(struct backlog *backlog, int64_t now_us, struct delivery **batch, size_t max, size_t max_cost) {
    return take_aside(backlog, now_us, false, batch, max, max_cost);
}

size_t backlog_take_expired(struct backlog *backlog, int64_t now_us, struct delivery **batch, size_t max) {
    return take_aside(backlog, now_us, true, batch, max, SIZE_MAX);
}

static void push_aside(struct backlog *backlog, struct delivery *delivery, int64_t retry_at_us) {
    delivery->state = DELIVERY_DEFERRED;
    delivery->retry_at_us = retry_at_us;
    push_back(&backlog->aside, delivery);
    note_times(backlog, delivery);
}

void backlog_set_aside(struct backlog *backlog, struct delivery *delivery, int64_t retry_at_us) {
    enter(backlog, delivery);
    push_aside(backlog, delivery, retry_at_us);
}

void backlog_release(struct backlog *backlog, const struct delivery *delivery) {
    if (is_rejected(delivery))
        return;
    struct delivery **link = find_key(backlog, delivery->receipt.key_hash), *next = delivery->next_of_key;
    if (!next) {
        *link = delivery->next_in_bucket;
        return;
    }
    next->last_of_key = delivery->last_of_key;
    next->next_in_bucket = delivery->next_in_bucket;
    *link = next;
    if (delivery->backoff_us > 0 && delivery->outcome == OUTCOME_UNAVAILABLE) {
        next->backoff_us = delivery->backoff_us;
        push_aside(backlog, next, 0);
    } else {
        push_front(&backlog->ready[size_of(next)], next);
    }
}
