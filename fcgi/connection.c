#include "connection.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READS_MAX = 4 }; /* of one client, before others have their turn */

static void list_init(struct connection_links *list) {
    list->previous = list->next = list;
}

static void list_append(struct connection_links *list, struct connection_links *entry) {
    *entry = (struct connection_links){.previous = list->previous, .next = list};
    list->previous->next = entry;
    list->previous = entry;
}

static void list_remove(struct connection_links *entry) {
    entry->previous->next = entry->next;
    entry->next->previous = entry->previous;
}

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

struct connection *connection_of(struct delivery *delivery) {
    return CONTAINER_OF(delivery, struct connection, delivery);
}

void connections_init(struct connections *connections, int ready) {
    *connections = (struct connections){.ready = ready};
    pthread_mutex_init(&connections->lock, NULL);
    list_init(&connections->all);
    list_init(&connections->receiving);
}

size_t connections_count(struct connections *connections) {
    pthread_mutex_lock(&connections->lock);
    size_t count = connections->count;
    pthread_mutex_unlock(&connections->lock);
    return count;
}

void connections_fini(struct connections *connections) {
    for (struct connection *connection; (connection = connections->unused);) {
        connections->unused = connection->next_unused;
        free(connection);
    }
    pthread_mutex_destroy(&connections->lock);
}

/*
 * The only place where a state changes. What the owner wrote before is seen by whoever takes the connection after it.
 */
static void set_state(struct connection *connection, enum connection_state state) {
    struct connections *connections = connection->connections;
    bool listed = atomic_load(&connection->state) == CONNECTION_RECEIVING;
    if (listed != (state == CONNECTION_RECEIVING)) {
        pthread_mutex_lock(&connections->lock);
        if (listed)
            list_remove(&connection->arrival.in_receiving);
        else
            list_append(&connections->receiving, &connection->arrival.in_receiving);
        pthread_mutex_unlock(&connections->lock);
    }
    atomic_store(&connection->state, state);
}

enum { EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLET };

bool connection_take(struct connection *connection, uint32_t events) {
    enum connection_claim claim = atomic_load(&connection->claim);
    for (;;) {
        enum connection_claim wanted = claim == CONNECTION_FREE ? CONNECTION_OWNED : CONNECTION_OWNED_AND_READY;
        if (claim == CONNECTION_UNUSED || claim == CONNECTION_OWNED_AND_READY)
            return false;
        if (atomic_compare_exchange_weak(&connection->claim, &claim, wanted))
            break;
    }
    if (claim == CONNECTION_OWNED)
        return false;
    /* The client's end comes with its last bytes, and they are read first. */
    connection->unread = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    return true;
}

/* What EPOLL_CTL_MOD finds to be readable is an event again. */
static bool ask_for_event(struct connection *connection) {
    struct epoll_event event = {.events = EVENTS, .data.ptr = connection};
    return epoll_ctl(connection->connections->ready, EPOLL_CTL_MOD, connection->fd, &event) == 0;
}

/*
 * In that state, until an event gives the connection to a thread again; it is nobody's then.
 *
 * No event is lost. One that comes from now on finds it free. One that came while it was owned, whoever it reached, has
 * left its mark: the claim is not CONNECTION_OWNED any more, so the event is asked for again. That must be while it is
 * owned: a free one may be closed at any time, and its descriptor be another's. In that time the event asked for may
 * reach another thread, which leaves its mark again; each further turn takes a thread that is as quick. What came
 * before the last reading and was not read is `unread`.
 */
static void wait_for_bytes(struct connection *connection, enum connection_state state) {
    set_state(connection, state);
    bool ask = connection->unread;
    for (;;) {
        enum connection_claim claim = CONNECTION_OWNED;
        if (ask && !ask_for_event(connection)) {
            log_message(LOG_ERROR, "cannot watch a connection: %s", strerror(errno));
            connection_close(connection);
            return;
        }
        if (atomic_compare_exchange_strong(&connection->claim, &claim, CONNECTION_FREE))
            return;
        atomic_store(&connection->claim, CONNECTION_OWNED);
        ask = true;
    }
}

/* One that is owned by the caller, and in the list; NULL when memory runs out. */
static struct connection *new_connection(struct connections *connections, int fd) {
    pthread_mutex_lock(&connections->lock);
    struct connection *connection = connections->unused;
    if (connection)
        connections->unused = connection->next_unused;
    else
        connection = calloc(1, sizeof *connection);
    if (connection) {
        connection->connections = connections;
        connection->fd = fd;
        connection->unread = false;
        atomic_store(&connection->state, CONNECTION_IDLE);
        atomic_store(&connection->claim, CONNECTION_OWNED);
        list_append(&connections->all, &connection->in_all);
        connections->count++;
    }
    pthread_mutex_unlock(&connections->lock);
    return connection;
}

void connections_add(struct connections *connections, int fd) {
    struct connection *connection = new_connection(connections, fd);
    if (!connection) {
        close(fd);
        return;
    }
    struct epoll_event event = {.events = EVENTS, .data.ptr = connection};
    /* It can fail for want of memory or watches; then the client is cut off, and the vendor tries again. */
    if (epoll_ctl(connections->ready, EPOLL_CTL_ADD, fd, &event) != 0) {
        log_message(LOG_ERROR, "cannot watch a connection: %s", strerror(errno));
        connection_close(connection);
        return;
    }
    wait_for_bytes(connection, CONNECTION_IDLE);
}

/*
 * Both of these only end a client's sending, which is an event for its connection. Descriptors of connections that are
 * in the list are open: connection_close takes them out before it closes them.
 */
void connections_sweep(struct connections *connections) {
    int64_t now_us = clock_now_us();
    unsigned late = atomic_exchange(&connections->late, 0), no_room = atomic_exchange(&connections->no_room, 0);
    if (late > 0)
        log_message(LOG_WARNING, "connections closed because a request took longer than %d ms to arrive: %u",
                    CONNECTION_REQUEST_MS, late);
    if (no_room > 0)
        log_message(LOG_WARNING, "connections closed because there is no memory for what arrives in parts: %u",
                    no_room);
    pthread_mutex_lock(&connections->lock);
    for (struct connection_links *at = connections->receiving.next; at != &connections->receiving; at = at->next) {
        const struct connection *connection = CONTAINER_OF(at, struct connection, arrival.in_receiving);
        if (connection->arrival.deadline_us > now_us)
            break;
        shutdown(connection->fd, SHUT_RD);
    }
    pthread_mutex_unlock(&connections->lock);
}

size_t connections_end_idle(struct connections *connections) {
    pthread_mutex_lock(&connections->lock);
    for (struct connection_links *at = connections->all.next; at != &connections->all; at = at->next) {
        const struct connection *connection = CONTAINER_OF(at, struct connection, in_all);
        if (atomic_load(&connection->state) == CONNECTION_IDLE)
            shutdown(connection->fd, SHUT_RD);
    }
    size_t count = connections->count;
    pthread_mutex_unlock(&connections->lock);
    return count;
}

/* Counts what the copy has grown by. False when it is too much for all connections together. */
static bool hold_copy(struct connection *connection) {
    struct connection_arrival *arrival = &connection->arrival;
    size_t more = arrival->copy.bytes.capacity - arrival->held_bytes;
    if (more == 0)
        return true;
    arrival->held_bytes += more;
    return atomic_fetch_add(&connection->connections->held_bytes, more) + more <= CONNECTIONS_HELD_MAX_BYTES;
}

static bool has_copy(const struct connection *connection) {
    enum connection_state state = atomic_load(&connection->state);
    return state == CONNECTION_RECEIVING || state == CONNECTION_WAITING;
}

static void free_copy(struct connection *connection) {
    buffer_fini(&connection->arrival.copy.bytes);
    atomic_fetch_sub(&connection->connections->held_bytes, connection->arrival.held_bytes);
}

static void begin_receiving(struct connection *connection, size_t stdin_max) {
    records_init(&connection->records);
    records_copy_init(&connection->arrival.copy, stdin_max);
    connection->arrival.held_bytes = 0;
    connection->arrival.deadline_us = clock_now_us() + (int64_t)CONNECTION_REQUEST_MS * US_PER_MS;
    set_state(connection, CONNECTION_RECEIVING);
}

/* Looks at bytes that have come: a small request that comes in one piece, as nearly all do, is not copied. */
static enum connection_received take_bytes(struct connection *connection, const char *bytes, size_t len,
                                           size_t stdin_max, size_t *window_len) {
    enum records_result result = RECORDS_WRONG;
    if (atomic_load(&connection->state) == CONNECTION_IDLE) {
        records_init(&connection->records);
        result = records_scan(&connection->records, bytes, len, NULL);
        if (result == RECORDS_WHOLE && len <= CONNECTION_SMALL_BYTES)
            *window_len = len;
        else if (result != RECORDS_WRONG)
            begin_receiving(connection, stdin_max);
    }
    if (atomic_load(&connection->state) == CONNECTION_RECEIVING) {
        struct records_copy *copy = &connection->arrival.copy;
        result = records_scan(&connection->records, bytes, len, copy);
        if (!hold_copy(connection) || copy->bytes.failed) {
            atomic_fetch_add(&connection->connections->no_room, 1);
            return CONNECTION_END;
        }
    }
    switch (result) {
    case RECORDS_INCOMPLETE:
        return CONNECTION_PART;
    case RECORDS_WHOLE:
        if (atomic_load(&connection->state) == CONNECTION_IDLE)
            return CONNECTION_WHOLE;
        connection->arrival.whole_us = clock_now_us();
        return connection->arrival.copy.bytes.len > CONNECTION_SMALL_BYTES ? CONNECTION_LARGE : CONNECTION_WHOLE;
    case RECORDS_WRONG:
        break;
    }
    return CONNECTION_END;
}

static bool is_late(const struct connection *connection) {
    return atomic_load(&connection->state) == CONNECTION_RECEIVING && clock_now_us() >= connection->arrival.deadline_us;
}

enum connection_received connection_receive(struct connection *connection, char *window, size_t window_size,
                                            size_t stdin_max, size_t *window_len) {
    enum connection_received received = CONNECTION_PART;
    ssize_t got = (ssize_t)window_size;
    *window_len = 0;
    /* With less than was asked for, that was all (epoll(7)). */
    for (int reads = 0; got == (ssize_t)window_size && received == CONNECTION_PART; reads++) {
        if (reads == READS_MAX) {
            connection->unread = true;
            break;
        }
        got = recv(connection->fd, window, window_size, MSG_DONTWAIT);
        if (got > 0)
            received = take_bytes(connection, window, (size_t)got, stdin_max, window_len);
        else if (got == 0 || (errno != EAGAIN && errno != EINTR))
            received = CONNECTION_END;
        else if (errno == EINTR)
            connection->unread = true;
    }
    if ((received == CONNECTION_PART || received == CONNECTION_END) && is_late(connection)) {
        atomic_fetch_add(&connection->connections->late, 1);
        return CONNECTION_END;
    }
    return received;
}

int64_t connection_began_us(const struct connection *connection) {
    return connection->arrival.deadline_us - (int64_t)CONNECTION_REQUEST_MS * US_PER_MS;
}

bool connection_copy(struct connection *connection, const char *window, size_t len, size_t stdin_max) {
    if (has_copy(connection))
        return true;
    begin_receiving(connection, stdin_max);
    connection->arrival.whole_us = clock_now_us();
    if (records_scan(&connection->records, window, len, &connection->arrival.copy) == RECORDS_WHOLE &&
        hold_copy(connection) && !connection->arrival.copy.bytes.failed)
        return true;
    atomic_fetch_add(&connection->connections->no_room, 1);
    return false;
}

void connection_wait_to_be_read(struct connection *connection) {
    set_state(connection, CONNECTION_WAITING);
}

void connection_begin_delivery(struct connection *connection) {
    if (has_copy(connection))
        free_copy(connection);
    set_state(connection, CONNECTION_BUSY);
    connection->delivery = (struct delivery){0};
}

/* An answer is much smaller than a socket's buffer: where one finds no room, former ones have not been read. */
bool connection_send(struct connection *connection, const char *bytes, size_t len) {
    return send(connection->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

void connection_wait_for_more(struct connection *connection) {
    wait_for_bytes(connection, atomic_load(&connection->state));
}

void connection_end_request(struct connection *connection) {
    if (connection->records.keep_connection && !atomic_load(&connection->connections->draining))
        wait_for_bytes(connection, CONNECTION_IDLE);
    else
        connection_close(connection);
}

void connection_close(struct connection *connection) {
    struct connections *connections = connection->connections;
    if (has_copy(connection))
        free_copy(connection);
    set_state(connection, CONNECTION_BUSY);
    pthread_mutex_lock(&connections->lock);
    list_remove(&connection->in_all);
    connections->count--;
    pthread_mutex_unlock(&connections->lock);
    close(connection->fd);
    atomic_store(&connection->claim, CONNECTION_UNUSED);
    pthread_mutex_lock(&connections->lock);
    connection->next_unused = connections->unused;
    connections->unused = connection;
    pthread_mutex_unlock(&connections->lock);
}
