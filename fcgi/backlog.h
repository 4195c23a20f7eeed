/*
 * The deliveries that wait to be stored: receipts that are ready, receipts that are set aside because another session
 * holds a lock they need, and rejected deliveries. Large ones wait in lines of their own, so that small ones can be
 * stored before them.
 *
 * Of each natural key one delivery at a time is ready, set aside or taken; the others wait behind it. So no batch has a
 * key twice (PostgreSQL: error 21000), and a row that is locked holds up its own deliveries only.
 *
 * What waits is bounded in number and in bytes, receipts and rejected deliveries each by themselves: neither can use up
 * the other's room.
 *
 * Threads: one at a time; group commit's lock sees to that.
 */
#ifndef RECEIPTD_BACKLOG_H
#define RECEIPTD_BACKLOG_H

#include "delivery.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum backlog_size { BACKLOG_SMALL, BACKLOG_LARGE, BACKLOG_SIZES };

/*
 * What a delivery costs a statement of PostgreSQL, in bytes: those of its text and body, and so many for each JSON
 * value. As jsonb is made of it, a backend takes 12 bytes for each byte of text that does not compress, and up to 650
 * for each value.
 */
enum {
    BACKLOG_VALUE_COST = 64,
    BACKLOG_LARGE_COST = 16 * 1024, /* a usual receipt's is 3 KB */
};

struct line {
    struct delivery *first, **last; /* oldest first; *last is the link that ends it */
    size_t count;
};

struct usage {
    size_t count, bytes;
};

struct backlog {
    struct line ready[BACKLOG_SIZES], aside, rejected[BACKLOG_SIZES];
    struct usage receipts; /* of all that wait: ready, aside, or behind another of their key */
    struct usage rejections;
    struct usage limit;       /* of either */
    int64_t retry_us;         /* when the first that is set aside is to be tried again; INT64_MAX: none is */
    int64_t expiry_us;        /* when the first of them is past its deadline */
    struct delivery **bucket; /* the table of keys: the one of each key that others would wait for */
    size_t bucket_count;      /* a power of two */
};

/* False when there is no memory. */
bool backlog_init(struct backlog *backlog, size_t max_count, size_t max_bytes);
void backlog_fini(struct backlog *backlog);

/* Adds a delivery with a valid receipt, or with a rejection. False when there is no room for it. */
bool backlog_add(struct backlog *backlog, struct delivery *delivery);

/* Takes the oldest out of a line, at most `max` that cost at most max_cost, or one. Returns how many. */
size_t backlog_take(struct backlog *backlog, struct line *line, struct delivery **batch, size_t max, size_t max_cost);

/* Takes those that were set aside until now or longer ago; as many as that. */
size_t backlog_take_due(struct backlog *backlog, int64_t now_us, struct delivery **batch, size_t max, size_t max_cost);

/* Takes those that are set aside and past their deadline. */
size_t backlog_take_expired(struct backlog *backlog, int64_t now_us, struct delivery **batch, size_t max);

/* Puts back one that was taken, to be taken by backlog_take_due at retry_at_us or, to be answered, at its deadline. */
void backlog_set_aside(struct backlog *backlog, struct delivery *delivery, int64_t retry_at_us);

/*
 * Says that one that was taken is done, before anybody else may free it. Who waits for its key comes next: ready, or
 * due at once among those set aside when this one was set aside and could not be stored.
 */
void backlog_release(struct backlog *backlog, const struct delivery *delivery);

#endif
