#include "database.h"

#include "clock.h"
#include "pg.h"

#include <stdio.h>
#include <string.h>

enum { AGAIN_US = 60 * US_PER_S, CHECKED_US = 15 * US_PER_S };

bool database_init(struct database *database, bool require_standby) {
    *database = (struct database){.hosts = pg_hosts(), .require_standby = require_standby};
    pthread_mutex_init(&database->lock, NULL);
    return database->hosts != NULL;
}

void database_fini(struct database *database) {
    hosts_free(database->hosts);
    pthread_mutex_destroy(&database->lock);
}

bool database_is_new_problem(struct database *database, const char *problem) {
    int64_t now_us = clock_now_us();
    pthread_mutex_lock(&database->lock);
    bool is_new = strncmp(database->problem, problem, sizeof database->problem - 1) != 0 ||
                  now_us - database->problem_us > AGAIN_US;
    if (is_new) {
        snprintf(database->problem, sizeof database->problem, "%s", problem);
        database->problem_us = now_us;
    }
    pthread_mutex_unlock(&database->lock);
    return is_new;
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

/* FNV-1a. A collision leaves a line out of the log, which the counter in the metrics has. */
static unsigned long hash(const char *const *texts, size_t count) {
    unsigned long hash = 2166136261u;
    for (size_t i = 0; i < count; i++)
        for (const char *c = texts[i] ? texts[i] : ""; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 16777619u;
    return hash;
}

bool database_is_new_message(struct database *database, const char *const *texts, size_t count) {
    unsigned long wanted = hash(texts, count);
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
