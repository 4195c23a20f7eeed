/*
 * Which of PostgreSQL's troubles are logged: the first of each kind, then one line a minute with the number of those in
 * between, and a line when they are over. Without it, a database that is down has a line for each attempt.
 *
 * Threads: any; troubles_init and troubles_fini from one. Times are of CLOCK_MONOTONIC.
 */
#ifndef RECEIPTD_TROUBLES_H
#define RECEIPTD_TROUBLES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TROUBLES_KINDS = 8 };

struct troubles {
    atomic_bool unfit;            /* an inspection has found something that keeps the server from being used */
    atomic_int_least64_t last_us; /* when the last one came that kept something from being stored; 0: it is over */

    pthread_mutex_t lock; /* guards the rest */
    struct {
        unsigned long kind; /* a hash */
        int64_t logged_us;  /* 0: free */
        unsigned more;      /* that came since and were not logged */
    } kinds[TROUBLES_KINDS];
    int64_t first_us; /* of those that are not over */
    unsigned count;
    unsigned long connected; /* a hash: the connection that was logged last, with no trouble since; 0: none */
};

void troubles_init(struct troubles *troubles);
void troubles_fini(struct troubles *troubles);

/*
 * Notes a trouble, whose kind these texts are (NULL: none). Returns whether to log it; then *more is how many of its
 * kind were not logged before it. `stops_storing`: that is not to be stored at all for now, unlike a row that is
 * locked.
 */
bool troubles_note(struct troubles *troubles, bool stops_storing, const char *const *texts, size_t count,
                   int64_t now_us, unsigned *more);

/* Notes what an inspection found. If the server can be used again, the same trouble is logged again when it comes back.
 */
void troubles_note_inspected(struct troubles *troubles, bool is_fit);

/* Notes a new connection; `text` says where it leads. Returns whether to log it: nothing but the same was since. */
bool troubles_note_connected(struct troubles *troubles, const char *text);

/* Notes that something was stored. Returns whether to log that it is over; then how many there were, in what time. */
bool troubles_note_stored(struct troubles *troubles, int64_t now_us, unsigned *count, int64_t *lasted_us);

/* FNV-1a of texts (NULL: none). */
unsigned long troubles_hash(const char *const *texts, size_t count);

#endif
