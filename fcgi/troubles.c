#include "troubles.h"

#include "clock.h"

enum {
    AGAIN_US = 60 * US_PER_S,
    QUIET_US = 5 * US_PER_S, /* a batch that is stored between two that fail is no end */
};

void troubles_init(struct troubles *troubles) {
    *troubles = (struct troubles){0};
    pthread_mutex_init(&troubles->lock, NULL);
}

void troubles_fini(struct troubles *troubles) {
    pthread_mutex_destroy(&troubles->lock);
}

unsigned long troubles_hash(const char *const *texts, size_t count) {
    unsigned long hash = 2166136261u;
    for (size_t i = 0; i < count; i++)
        for (const char *c = texts[i] ? texts[i] : ""; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 16777619u;
    return hash;
}

/* The place of a kind; for a new one, that of the kind that was logged longest ago. */
static size_t find(struct troubles *troubles, unsigned long kind) {
    size_t oldest = 0;
    for (size_t i = 0; i < TROUBLES_KINDS; i++) {
        if (troubles->kinds[i].logged_us != 0 && troubles->kinds[i].kind == kind)
            return i;
        if (troubles->kinds[i].logged_us < troubles->kinds[oldest].logged_us)
            oldest = i;
    }
    troubles->kinds[oldest].kind = kind;
    troubles->kinds[oldest].logged_us = 0;
    troubles->kinds[oldest].more = 0;
    return oldest;
}

bool troubles_note(struct troubles *troubles, bool stops_storing, const char *const *texts, size_t count,
                   int64_t now_us, unsigned *more) {
    pthread_mutex_lock(&troubles->lock);
    size_t at = find(troubles, troubles_hash(texts, count));
    int64_t logged_us = troubles->kinds[at].logged_us;
    bool log = logged_us == 0 || now_us - logged_us >= AGAIN_US;
    *more = troubles->kinds[at].more;
    troubles->kinds[at].more = log ? 0 : *more + 1;
    if (log) {
        troubles->kinds[at].logged_us = now_us;
        troubles->connected = 0;
    }
    if (stops_storing) {
        if (atomic_load(&troubles->last_us) == 0)
            troubles->first_us = now_us;
        atomic_store(&troubles->last_us, now_us);
        troubles->count++;
    }
    pthread_mutex_unlock(&troubles->lock);
    return log;
}

static void forget_kinds(struct troubles *troubles) {
    for (size_t i = 0; i < TROUBLES_KINDS; i++)
        troubles->kinds[i].logged_us = 0;
}

void troubles_note_inspected(struct troubles *troubles, bool is_fit) {
    if (atomic_exchange(&troubles->unfit, !is_fit) && is_fit) {
        pthread_mutex_lock(&troubles->lock);
        forget_kinds(troubles);
        pthread_mutex_unlock(&troubles->lock);
    }
}

bool troubles_note_connected(struct troubles *troubles, const char *text) {
    pthread_mutex_lock(&troubles->lock);
    unsigned long hash = troubles_hash(&text, 1);
    bool log = hash != troubles->connected;
    troubles->connected = hash;
    pthread_mutex_unlock(&troubles->lock);
    return log;
}

bool troubles_note_stored(struct troubles *troubles, int64_t now_us, unsigned *count, int64_t *lasted_us) {
    int64_t last_us = atomic_load_explicit(&troubles->last_us, memory_order_relaxed);
    if (last_us == 0 || now_us - last_us < QUIET_US)
        return false;
    pthread_mutex_lock(&troubles->lock);
    last_us = atomic_load(&troubles->last_us);
    bool over = last_us != 0 && now_us - last_us >= QUIET_US;
    if (over) {
        *count = troubles->count;
        *lasted_us = last_us - troubles->first_us;
        forget_kinds(troubles);
        troubles->count = 0;
        atomic_store(&troubles->last_us, 0);
    }
    pthread_mutex_unlock(&troubles->lock);
    return over;
}
