/*
 * What the sessions of a process with the database share: where it is, what all of them must be told, and which of its
 * warnings were logged.
 *
 * Threads: any; database_init and database_fini from one.
 */
#ifndef RECEIPTD_DATABASE_H
#define RECEIPTD_DATABASE_H

#include "hosts.h"
#include "troubles.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DATABASE_MESSAGES_MAX = 64 };

struct database {
    struct hosts *hosts;
    bool require_standby; /* RECEIPTD_REQUIRE_STANDBY */
    atomic_uint changes;  /* raised when the server or the schema has changed: then every session inspects it again */
    atomic_bool commit_waits; /* a commit of the service's role waits for a standby, since a second at least */

    struct troubles troubles; /* of all sessions */

    pthread_mutex_t lock; /* guards the rest */
    size_t checked_host;  /* whose schema was checked last, without a problem, */
    int64_t checked_us;   /* and when; 0: it has one */
    size_t message_count;
    unsigned long messages[DATABASE_MESSAGES_MAX]; /* hashes of what was logged */
};

/* False when memory runs out. */
bool database_init(struct database *database, bool require_standby);
void database_fini(struct database *database);

/*
 * What the last check of the schema (inspection.h) has found on a host, and whether that is so recent that a new
 * session need not repeat it: it can take 20 ms, and waits for whoever has locked a table. The probe repeats it.
 */
void database_note_check(struct database *database, size_t host, bool is_fine);
bool database_is_checked(struct database *database, size_t host);

/* Whether a message, known by these texts (NULL: none), is the first of its kind. After many kinds: false. */
bool database_is_new_message(struct database *database, const char *const *texts, size_t count);

#endif
