#include "database.h"

#include "clock.h"
#include "pg.h"

enum { CHECKED_US = 15 * US_PER_S };

bool database_init(struct database *database, bool require_standby) {
    *database = (struct database){.hosts = pg_hosts(), .require_standby = require_standby};
    pthread_mutex_init(&database->lock, NULL);
    troubles_init(&database->troubles);
    return database->hosts != NULL;
}

void database_fini(struct database *database) {
    hosts_free(database->hosts);
    pthread_mutex_destroy(&database->lock);
    troubles_fini(&database->troubles);
}

void database_note_check(struct database *database, size_t host, bool is_fine) {
    pthread_mutex_lock(&database->lock);
    database->checked_host = host;
    database->checked_us = is_fine ? clock_now_us() : 0;
    pthread_mutex_unlock(&database->lock);
}

bool database_is_checked(struct database *database, size_t host) {
    pthread_mutex_lock(&database->lock);
    bool is_checked = database->checked_us != 0 && database->checked_host == host &&
                      clock_now_us() - database->checked_us < CHECKED_US;
    pthread_mutex_unlock(&database->lock);
    return is_checked;
}

/* A collision leaves a line out of the log, which the counter in the metrics has. */
bool database_is_new_message(struct database *database, const char *const *texts, size_t count) {
    unsigned long wanted = troubles_hash(texts, count);
    size_t i = 0;
    pthread_mutex_lock(&database->lock);
    while (i < database->message_count && database->messages[i] != wanted)
        i++;
    bool is_new = i == database->message_count && i < DATABASE_MESSAGES_MAX;
    if (is_new)
        database->messages[database->message_count++] = wanted;
    pthread_mutex_unlock(&database->lock);
    return is_new;
}
