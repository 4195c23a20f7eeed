#include "large_requests.h"

enum { SHARE = 4 }; /* one thread of so many may read one */

unsigned large_requests_max(unsigned threads) {
    return threads < SHARE ? 1 : threads / SHARE;
}

void large_requests_init(struct large_requests *requests, unsigned threads) {
    *requests = (struct large_requests){.last = &requests->first, .max = large_requests_max(threads)};
    pthread_mutex_init(&requests->lock, NULL);
}

void large_requests_fini(struct large_requests *requests) {
    pthread_mutex_destroy(&requests->lock);
}

void large_requests_add(struct large_requests *requests, struct connection *connection) {
    connection_wait_to_be_read(connection);
    connection->arrival.next = NULL;
    pthread_mutex_lock(&requests->lock);
    *requests->last = connection;
    requests->last = &connection->arrival.next;
    pthread_mutex_unlock(&requests->lock);
}

struct connection *large_requests_take(struct large_requests *requests) {
    pthread_mutex_lock(&requests->lock);
    struct connection *connection = requests->busy < requests->max ? requests->first : NULL;
    if (connection) {
        requests->busy++;
        requests->first = connection->arrival.next;
        if (!requests->first)
            requests->last = &requests->first;
    }
    pthread_mutex_unlock(&requests->lock);
    return connection;
}

void large_requests_end(struct large_requests *requests) {
    pthread_mutex_lock(&requests->lock);
    requests->busy--;
    pthread_mutex_unlock(&requests->lock);
}
