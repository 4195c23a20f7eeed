#include "server.h"

#include "api_keys.h"
#include "clock.h"
#include "compression.h"
#include "connection.h"
#include "large_requests.h"
#include "log.h"
#include "reader.h"
#include "reply.h"
#include "statements.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 16,          /* that a thread takes at a time, before it looks for work */
    ACCEPTS_MAX = 64,         /* the same; one at a time, the last of many would wait for a round of requests each */
    WINDOW_BYTES = 64 * 1024, /* what is read from a connection at a time */
    REPLY_SIZE = 8192,        /* headers and the longest body, see reply.c */
    SWEEP_MS = 250,    /* how often somebody looks for late clients, and for a listener that is not listened to */
    DRAIN_STEP_MS = 5, /* how often the drain looks whether all is done */
    MOVES_WITHIN_US = 2 * US_PER_S,
    ANSWERED_WITHIN_US = 15 * US_PER_S, /* three times as long as the probe waits in between */
    PAGE_SIZE = 60 * 1024,              /* one record, see records.h */
    PROBLEM_SIZE = 512,
    GRACE_MS = 50,   /* at the drain, for a request on its way on a connection that was just made */
    PAUSE_MS = 150,  /* at the drain, how long nothing is accepted if requests are still waiting, */
    ACCEPT_MS = 850, /* and how long it is accepted again then */
};

struct event_thread {
    pthread_t id;
    struct server *server;
    struct reader *reader;
    atomic_int_least64_t progress_us; /* when it waited for events last, or was done with one */
    char window[WINDOW_BYTES];
};

struct server {
    struct server_options options;
    int ready;           /* epoll set: the listener, and the connections */
    int stop;            /* eventfd in it: readable when the threads have to end */
    atomic_int listener; /* -1 once it is closed */
    pthread_mutex_t listening_lock;
    atomic_bool accepting;               /* the listener may be in the set */
    atomic_bool listening;               /* it is */
    atomic_int_least64_t store_until_us; /* no delivery waits for longer; later than any deadline unless it drains */
    atomic_int_least64_t next_sweep_us;
    struct large_requests large;
    sem_t turns; /* to serve: options.threads of them. Who stores aside gives its turn to a thread that has none */
    struct connections connections;

    unsigned thread_count; /* that were started */
    struct event_thread threads[];
};

static void set_listening(struct server *server, bool on) {
    /* EPOLLEXCLUSIVE: a socket that workers share wakes one of them. It can be added and deleted, but not modified. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = server};
    pthread_mutex_lock(&server->listening_lock);
    if (atomic_load(&server->listening) != on && !(on && !atomic_load(&server->accepting))) {
        if (epoll_ctl(server->ready, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, atomic_load(&server->listener), &event) == 0)
            atomic_store(&server->listening, on);
        else
            log_message(LOG_ERROR, "cannot %s the listening socket: %s", on ? "watch" : "leave", strerror(errno));
    }
    pthread_mutex_unlock(&server->listening_lock);
}

/* Accepts one connection; false when there is none. */
static bool accept_connection(struct server *server) {
    int fd = accept4(atomic_load(&server->listener), NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) {
        connections_add(&server->connections, fd);
        return true;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        log_message(LOG_ERROR, "cannot accept a connection: %s", strerror(errno));
        set_listening(server, false); /* until the next sweep */
    }
    return false;
}

static bool send_reply(struct connection *connection) {
    char storage[RECORDS_HEADER_BYTES + REPLY_SIZE + RECORDS_AFTER_ANSWER_BYTES];
    struct buffer reply;
    buffer_init_fixed(&reply, storage + RECORDS_HEADER_BYTES, REPLY_SIZE);
    reply_write(&reply, &connection->delivery);
    if (reply.failed) {
        log_message(LOG_ERROR, "an answer did not fit into %d bytes", REPLY_SIZE);
        return false;
    }
    return connection_send(connection, storage,
                           records_frame_answer(storage, reply.len, connection->records.request_id));
}

static void answer(struct delivery *delivery, struct log_batch *log) {
    struct connection *connection = connection_of(delivery);
    bool sent = send_reply(connection);
    log_delivery(log, delivery);
    metrics_count_answer(delivery);
    delivery_fini(delivery);
    if (sent)
        connection_end_request(connection);
    else
        connection_close(connection);
}

void server_answer(struct delivery *const *deliveries, size_t count) {
    struct log_batch log;
    log.len = 0;
    for (size_t i = 0; i < count; i++)
        answer(deliveries[i], &log);
    log_flush(&log);
}

bool server_reload_keys(struct server *server, char *problem, size_t size) {
    struct api_keys *keys = server->options.handler->keys;
    bool read = !keys || api_keys_reload(keys, problem, size);
    if (!read)
        log_message(LOG_ERROR, "the API keys stay as they were: %s", problem);
    else if (keys)
        log_message(LOG_INFO, PAGE_RELOADED "%zu", api_keys_count(keys));
    return read;
}

static void write_page(struct buffer *reply, const char *page, struct server *server) {
    struct page_state state;
    char problem[PROBLEM_SIZE];
    if (strcmp(page, "reload") == 0) {
        struct api_keys *keys = server->options.handler->keys;
        bool read = server_reload_keys(server, problem, sizeof problem);
        page_write_reload(reply, keys ? api_keys_count(keys) : 0, read ? NULL : problem);
    } else {
        server_look(server, &state);
        page_write(reply, page, &state);
    }
}

static bool send_page(struct connection *connection, const char *page, struct server *server) {
    struct buffer reply;
    bool sent = false;
    buffer_init(&reply);
    if (buffer_reserve(&reply, RECORDS_HEADER_BYTES + PAGE_SIZE + RECORDS_AFTER_ANSWER_BYTES)) {
        reply.len = RECORDS_HEADER_BYTES;
        write_page(&reply, page, server);
        size_t len = reply.len - RECORDS_HEADER_BYTES;
        if (!reply.failed && len <= PAGE_SIZE)
            sent = connection_send(connection, reply.data,
                                   records_frame_answer(reply.data, len, connection->records.request_id));
    }
    buffer_fini(&reply);
    return sent;
}

/* Reads a request, which is in the window when window_len is not 0. */
static enum reader_result read_request(struct event_thread *thread, const struct connection *connection,
                                       size_t window_len, struct request *request) {
    const struct records *records = &connection->records;
    const struct records_copy *copy = &connection->arrival.copy;
    const struct reader_input in_window = {
        .records = records, .bytes = thread->window, .stdin_bytes = records->stdin_bytes};
    const struct reader_input in_copy = {
        .records = records, .bytes = copy->bytes.data, .stdin_bytes = copy->stdin_bytes, .temporary = true};
    return reader_read(thread->reader, window_len > 0 ? &in_window : &in_copy, request);
}

/* Lets a request wait until small ones are stored. */
static void put_off(struct event_thread *thread, struct connection *connection, size_t window_len) {
    if (connection_copy(connection, thread->window, window_len, BODY_MAX_BYTES + 1))
        large_requests_add(&thread->server->large, connection);
    else
        connection_close(connection);
}

/* Reads a request, and answers it or passes it on. */
static void serve(struct event_thread *thread, struct connection *connection, size_t window_len) {
    const struct server_options *options = &thread->server->options;
    struct delivery *delivery = &connection->delivery;
    struct request request;
    bool store = false;
    int64_t began_us = window_len > 0 ? clock_now_us() : connection_began_us(connection);
    int64_t arrived_us = window_len > 0 ? began_us : connection->arrival.whole_us;
    bool may_wait = atomic_load(&connection->state) != CONNECTION_WAITING;
    enum reader_result result = read_request(thread, connection, window_len, &request);
    /* A few bytes can be a large body. */
    if (may_wait && result == READER_OK && !request.page && compression_is_known(request.body, request.body_len)) {
        reader_release(thread->reader);
        put_off(thread, connection, window_len);
        return;
    }
    request.arrived_us = arrived_us;
    connection_begin_delivery(connection);
    delivery->began_us = began_us;
    if (result == READER_OK && request.page) {
        bool sent = send_page(connection, request.page, thread->server);
        reader_release(thread->reader);
        if (sent)
            connection_end_request(connection);
        else
            connection_close(connection);
        return;
    }
    if (options->refusal) {
        reader_release(thread->reader);
        connection_close(connection);
        return;
    }
    if (result == READER_OK) {
        store = handler_handle(options->handler, &request, delivery);
        int64_t until_us = atomic_load(&thread->server->store_until_us);
        if (delivery->deadline_us > until_us)
            delivery->deadline_us = until_us;
    } else {
        /* Even so the sender, nginx's log and ours have one id for it. */
        handler_set_request_id(delivery, result == READER_NO_MEMORY ? request.request_id : NULL);
        delivery->arrived_us = clock_now_us();
        delivery->failure = "out of memory";
        delivery_settle(delivery, OUTCOME_UNAVAILABLE);
    }
    reader_release(thread->reader);
    if (result == READER_WRONG) {
        connection_close(connection);
        return;
    }
    if (store && group_commit_submit(options->group_commit, delivery))
        return;
    if (store) {
        delivery->failure = "the queue is full";
        delivery_settle(delivery, OUTCOME_UNAVAILABLE);
    }
    server_answer(&delivery, 1);
}

static void note_progress(struct event_thread *thread) {
    atomic_store_explicit(&thread->progress_us, clock_now_us(), memory_order_relaxed);
}

/* Reads and serves a large request. False: there is none for this thread. */
static bool serve_large(struct event_thread *thread) {
    struct large_requests *requests = &thread->server->large;
    struct connection *connection = large_requests_take(requests);
    if (!connection)
        return false;
    serve(thread, connection, 0);
    note_progress(thread);
    large_requests_end(requests);
    return true;
}

static void handle_event(struct event_thread *thread, const struct epoll_event *event) {
    struct server *server = thread->server;
    if (event->data.ptr == server) {
        for (int accepted = 0; accepted < ACCEPTS_MAX && accept_connection(server); accepted++)
            ;
        return;
    }
    struct connection *connection = event->data.ptr;
    size_t window_len;
    if (!connection_take(connection, event->events))
        return;
    switch (connection_receive(connection, thread->window, WINDOW_BYTES, BODY_MAX_BYTES + 1, &window_len)) {
    case CONNECTION_WHOLE:
        serve(thread, connection, window_len);
        break;
    case CONNECTION_LARGE:
        put_off(thread, connection, 0);
        break;
    case CONNECTION_PART:
        connection_wait_for_more(connection);
        break;
    case CONNECTION_END:
        connection_close(connection);
        break;
    }
}

/* From time to time, in whichever thread comes first: what no event tells. */
static void sweep(struct server *server, int64_t now_us) {
    int64_t due_us = atomic_load(&server->next_sweep_us);
    if (now_us < due_us ||
        !atomic_compare_exchange_strong(&server->next_sweep_us, &due_us, now_us + (int64_t)SWEEP_MS * US_PER_MS))
        return;
    connections_sweep(&server->connections);
    set_listening(server, true);
}

static void take_turn(struct server *server) {
    while (sem_wait(&server->turns) != 0)
        ; /* EINTR */
}

/*
 * More threads than have turns would read what comes sooner, and so make smaller batches: with six instead of four,
 * half as many receipts a commit, and a tenth more processor time for each.
 */
static void *run_event_thread(void *argument) {
    struct event_thread *thread = argument;
    struct server *server = thread->server;
    struct epoll_event events[EVENTS_MAX];
    bool stopping = false;
    int work_ms = -1; /* group commit wants to be called again after that; -1: it does not */
    take_turn(server);
    while (!stopping) {
        int wait_ms = work_ms >= 0 && work_ms < SWEEP_MS ? work_ms : SWEEP_MS;
        int count = epoll_wait(server->ready, events, EVENTS_MAX, wait_ms);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &server->stop)
                stopping = true;
            else
                handle_event(thread, &events[i]);
            note_progress(thread);
        }
        note_progress(thread);
        sweep(server, atomic_load_explicit(&thread->progress_us, memory_order_relaxed));
        bool aside;
        work_ms = group_commit_work(server->options.group_commit, &aside);
        if (aside) {
            sem_post(&server->turns);
            group_commit_work_aside(server->options.group_commit);
            take_turn(server);
            work_ms = 0;
        }
        if (serve_large(thread))
            work_ms = 0;
    }
    sem_post(&server->turns);
    return NULL;
}

static bool make_set(struct server *server) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server->stop};
    server->ready = epoll_create1(EPOLL_CLOEXEC);
    server->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return server->ready >= 0 && server->stop >= 0 &&
           epoll_ctl(server->ready, EPOLL_CTL_ADD, server->stop, &event) == 0;
}

static unsigned threads_of(const struct server_options *options) {
    return options->threads + GROUP_COMMIT_MORE_STORES;
}

static bool start_threads(struct server *server) {
    for (; server->thread_count < threads_of(&server->options); server->thread_count++) {
        struct event_thread *thread = &server->threads[server->thread_count];
        thread->server = server;
        thread->reader = reader_new();
        if (!thread->reader)
            return false;
        int error = pthread_create(&thread->id, NULL, run_event_thread, thread);
        if (error != 0) {
            reader_free(thread->reader);
            errno = error;
            return false;
        }
    }
    return true;
}

struct server *server_new(const struct server_options *options) {
    struct server *server = calloc(1, sizeof *server + threads_of(options) * sizeof server->threads[0]);
    if (!server)
        return NULL;
    server->options = *options;
    atomic_init(&server->listener, options->listener);
    atomic_init(&server->accepting, true);
    atomic_init(&server->store_until_us, INT64_MAX);
    pthread_mutex_init(&server->listening_lock, NULL);
    sem_init(&server->turns, 0, options->threads);
    large_requests_init(&server->large, options->threads);
    int flags = fcntl(options->listener, F_GETFL);
    bool ok = make_set(server);
    connections_init(&server->connections, server->ready);
    if (!ok || fcntl(options->listener, F_SETFL, flags | O_NONBLOCK) != 0 || !start_threads(server)) {
        int error = errno;
        server_free(server);
        errno = error;
        return NULL;
    }
    set_listening(server, true);
    return server;
}

void server_look(struct server *server, struct page_state *state) {
    struct probe_findings found;
    struct usage receipts, rejections, limit;
    int64_t now_us = clock_now_us(), answered_us = metrics_last_batch_us();
    group_commit_read_usage(server->options.group_commit, &receipts, &rejections, &limit);
    probe_read(server->options.probe, &found);
    if (found.answered_us > answered_us)
        answered_us = found.answered_us;
    *state = (struct page_state){.database = found,
                                 .gauges = {.connections = connections_count(&server->connections),
                                            .backlog_receipts = receipts.count,
                                            .backlog_receipts_bytes = receipts.bytes,
                                            .backlog_rejections = rejections.count,
                                            .backlog_rejections_bytes = rejections.bytes,
                                            .backlog_max = limit.count,
                                            .backlog_max_bytes = limit.bytes,
                                            .schema = found.schema,
                                            .schema_needed = STATEMENTS_SCHEMA_NEEDED,
                                            .fields_without_column = found.columns.missing_count,
                                            .unresolved_rejections = found.unresolved,
                                            .totals_counted_at = found.totals_counted_at,
                                            .silences = found.silences},
                                 .refusal = server->options.refusal,
                                 .draining = atomic_load(&server->connections.draining),
                                 .database_answers = answered_us != 0 && now_us - answered_us < ANSWERED_WITHIN_US,
                                 .database_takes_writes = found.takes_writes || answered_us > found.answered_us};
    struct metrics_gauges *gauges = &state->gauges;
    group_commit_read_standstill(server->options.group_commit, &state->standstill);
    gauges->standstill_s = (double)state->standstill.us / US_PER_S;
    gauges->host = state->database.host;
    gauges->port = state->database.port;
    gauges->timeline = found.timeline;
    gauges->standbys = found.standbys;
    gauges->waiting = found.waiting;
}

bool server_moves(struct server *server) {
    int64_t latest_us = 0;
    for (unsigned i = 0; i < server->thread_count; i++) {
        int64_t progress_us = atomic_load_explicit(&server->threads[i].progress_us, memory_order_relaxed);
        if (progress_us > latest_us)
            latest_us = progress_us;
    }
    return clock_now_us() - latest_us < MOVES_WITHIN_US && group_commit_moves(server->options.group_commit);
}

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* Answers what was begun and closes all connections; false when the time comes first. */
static bool end_connections(struct server *server, int64_t until_us) {
    while (connections_end_idle(&server->connections) > 0) {
        if (clock_now_us() >= until_us)
            return false;
        sleep_ms(DRAIN_STEP_MS);
    }
    return true;
}

static void set_accepting(struct server *server, bool on) {
    atomic_store(&server->accepting, on);
    set_listening(server, on);
}

/*
 * Of a socket that was handed over, nginx cannot see that nobody accepts: connections would wait for the next worker.
 * That is short if the requests in flight are answered at once. If one of them waits, for a row that somebody has
 * locked say, others are accepted and stored in between, up to the time when no delivery waits any longer.
 */
static bool drain_between_requests(struct server *server, int64_t deadline_us) {
    const int64_t last_us = atomic_load(&server->store_until_us) - (int64_t)ACCEPT_MS * US_PER_MS;
    for (;;) {
        set_accepting(server, false);
        sleep_ms(GRACE_MS);
        bool last = clock_now_us() >= last_us;
        if (end_connections(server, last ? deadline_us : clock_now_us() + (int64_t)PAUSE_MS * US_PER_MS))
            return true;
        if (last)
            return false;
        set_accepting(server, true);
        sleep_ms(ACCEPT_MS);
    }
}

bool server_drain(struct server *server, int timeout_ms) {
    int64_t now_us = clock_now_us(), deadline_us = now_us + (int64_t)timeout_ms * US_PER_MS;
    atomic_store(&server->store_until_us, now_us + server->options.handler->deadline_us);
    atomic_store(&server->connections.draining, true);
    if (!server->options.socket_path)
        return drain_between_requests(server, deadline_us);
    /* Nobody can connect any more; whoever has connected already is served. */
    set_accepting(server, false);
    unlink(server->options.socket_path);
    while (accept_connection(server))
        ;
    sleep_ms(GRACE_MS);
    close(atomic_exchange(&server->listener, -1));
    return end_connections(server, deadline_us);
}

void server_free(struct server *server) {
    if (!server)
        return;
    eventfd_write(server->stop, 1);
    for (unsigned i = 0; i < server->thread_count; i++) {
        pthread_join(server->threads[i].id, NULL);
        reader_free(server->threads[i].reader);
    }
    if (atomic_load(&server->listener) >= 0)
        close(atomic_load(&server->listener));
    close(server->ready);
    close(server->stop);
    connections_fini(&server->connections);
    pthread_mutex_destroy(&server->listening_lock);
    sem_destroy(&server->turns);
    large_requests_fini(&server->large);
    free(server);
}
