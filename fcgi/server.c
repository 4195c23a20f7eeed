#include "server.h"

#include "clock.h"
#include "log.h"
#include "reply.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 16,         /* that a thread takes at a time, before it looks for work */
    PATIENT_THREADS = 2,     /* that wait for slow or large requests */
    CLIENT_TIMEOUT_S = 5,    /* for each read from or write to a client that should be there */
    PEEK_BYTES = 16 * 1024,  /* a larger request is read by a patient thread */
    BODY_KEPT_BYTES = 65536, /* of a thread's body buffer; what a large body needed beyond it is freed after it */
    REPLY_SIZE = 8192,       /* headers and the longest body, see reply.c */
    RETRY_ACCEPT_MS = 100,   /* after descriptors ran out */
    DRAIN_STEP_MS = 5,       /* how often the drain looks whether all is done */
    GRACE_MS = 50,           /* at the drain, for a request on its way on a connection that was just made */
    /* FastCGI specification, sections 3.3 and 8: a record starts with version, type, id (2), length (2), padding, 0. */
    FCGI_HEADER_BYTES = 8,
    FCGI_ABORT_REQUEST = 2,
    FCGI_END_REQUEST = 3,
    FCGI_STDIN = 5,
    FCGI_STDOUT = 6,
    FCGI_END_REQUEST_BYTES = 8,
    REPLY_END_BYTES = FCGI_HEADER_BYTES + FCGI_HEADER_BYTES + FCGI_END_REQUEST_BYTES,
};

struct connection {
    FCGX_Request fcgi;
    struct delivery delivery;
    struct server *server;
    atomic_bool busy; /* a thread works on it: only then may the descriptor be closed, by that thread */
    bool in_ready;    /* in the set of that name, armed or not */
    struct connection *previous, *next;
};

struct server {
    struct server_options options;
    int ready;           /* epoll set: the listener and connections, for the event threads */
    int patient;         /* epoll set: connections with a part of a request, for the patient threads */
    int stop;            /* eventfd in both sets: readable when the threads have to end */
    int submitted;       /* eventfd in ready, written by a patient thread: an event thread has to look for work */
    atomic_int listener; /* -1 once it is closed */
    atomic_bool draining;
    atomic_bool listening; /* the listener is in the set */

    pthread_mutex_t lock; /* guards the list of connections */
    struct connection *connections;
    size_t connection_count;

    unsigned thread_count;
    pthread_t threads[];
};

/* What a thread uses again for every request. */
struct workspace {
    struct server *server;
    struct buffer body;
};

static void set_listening(struct server *server, bool on) {
    /* EPOLLEXCLUSIVE: a socket that workers share wakes one of them. It can be added and deleted, but not modified. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = server};
    pthread_mutex_lock(&server->lock);
    if (atomic_load(&server->listening) != on && !(on && atomic_load(&server->draining))) {
        epoll_ctl(server->ready, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, atomic_load(&server->listener), &event);
        atomic_store(&server->listening, on);
    }
    pthread_mutex_unlock(&server->lock);
}

/* Forgets a connection whose descriptor is closed. */
static void connection_free(struct connection *connection) {
    struct server *server = connection->server;
    pthread_mutex_lock(&server->lock);
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    server->connection_count--;
    pthread_mutex_unlock(&server->lock);
    free(connection);
    /* A descriptor is free again, in case they had run out. */
    if (!atomic_load(&server->listening))
        set_listening(server, true);
}

static void connection_close(struct connection *connection) {
    FCGX_Free(&connection->fcgi, 1);
    connection_free(connection);
}

/* Arms the connection in one of the server's sets, for its next bytes. Nobody may use it after that. */
static void wait_for_bytes(struct connection *connection, bool patiently) {
    struct server *server = connection->server;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.ptr = connection};
    int fd = connection->fcgi.ipcFd;
    int operation = connection->in_ready ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    connection->in_ready = !patiently;
    atomic_store(&connection->busy, false);
    /* Adding can fail for want of memory or watches; then the client is cut off, and the vendor tries again. */
    if (epoll_ctl(patiently ? server->patient : server->ready, operation, fd, &event) != 0) {
        log_message(LOG_ERROR, "cannot watch a connection: %s", strerror(errno));
        while (atomic_exchange(&connection->busy, true))
            sched_yield();
        connection_close(connection);
    }
}

/*
 * Accepts one connection. It is done here and not by libfcgi, which would block on it, poll it for two seconds, and
 * accept again by itself when a kept connection ends: a request with a descriptor that is "kept" is only read by
 * FCGX_Accept_r, and with no listening socket it returns when that descriptor has ended.
 */
static bool accept_connection(struct server *server) {
    int fd = accept4(atomic_load(&server->listener), NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_message(LOG_ERROR, "cannot accept a connection: %s", strerror(errno));
            set_listening(server, false);
        }
        return false;
    }
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return true;
    }
    const struct timeval timeout = {.tv_sec = CLIENT_TIMEOUT_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    FCGX_InitRequest(&connection->fcgi, -1, 0);
    connection->fcgi.ipcFd = fd;
    connection->fcgi.keepConnection = 1;
    connection->server = server;
    atomic_init(&connection->busy, true);

    pthread_mutex_lock(&server->lock);
    connection->next = server->connections;
    if (connection->next)
        connection->next->previous = connection;
    server->connections = connection;
    server->connection_count++;
    pthread_mutex_unlock(&server->lock);
    wait_for_bytes(connection, false);
    return true;
}

enum arrival { ARRIVED, ARRIVED_PARTLY, ARRIVED_NOTHING };

/*
 * Looks whether a whole request, up to the empty FCGI_STDIN record that ends it (section 5.3), can be read without
 * waiting. Anything that is not FastCGI counts as arrived: libfcgi refuses it at once.
 */
static enum arrival peek_request(int fd) {
    unsigned char bytes[PEEK_BYTES];
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? ARRIVED_NOTHING : ARRIVED;
    size_t size = (size_t)got, at = 0;
    if (size == 0)
        return ARRIVED; /* closed by the peer */
    while (size - at >= FCGI_HEADER_BYTES) {
        const unsigned char *header = bytes + at;
        size_t content = (size_t)header[4] << 8 | header[5];
        if (header[0] != 1 || header[1] == FCGI_ABORT_REQUEST || (header[1] == FCGI_STDIN && content == 0))
            return ARRIVED;
        at += FCGI_HEADER_BYTES + content + header[6];
        if (at > size)
            return ARRIVED_PARTLY;
    }
    return ARRIVED_PARTLY;
}

/* Reads the body to its end, keeping little more than the limit. False when the client did not send all of it. */
static bool read_body(FCGX_Request *fcgi, const char *content_length, struct buffer *body) {
    size_t total = 0;
    body->len = 0;
    body->failed = false;
    char chunk[8192];
    int got;
    while ((got = FCGX_GetStr(chunk, sizeof chunk, fcgi->in)) > 0) {
        total += (size_t)got;
        if (body->len <= BODY_MAX_BYTES)
            buffer_append(body, chunk, (size_t)got);
    }
    if (FCGX_GetError(fcgi->in) != 0)
        return false;
    return !content_length || !*content_length || strtoull(content_length, NULL, 10) == total;
}

static void add_credential(struct request *request, const char *value, bool authorization) {
    if (*value == '\0')
        return;
    if (request->credential_count < REQUEST_MAX_CREDENTIALS)
        request->credentials[request->credential_count] =
            (struct request_credential){.value = value, .authorization = authorization};
    request->credential_count++;
}

/* The value of the parameter when `pair` is "NAME=value", else NULL. */
static const char *parameter(const char *pair, const char *name) {
    size_t len = strlen(name);
    return strncmp(pair, name, len) == 0 && pair[len] == '=' ? pair + len + 1 : NULL;
}

/*
 * The parameters are walked, not looked up: a header that the client sent twice stands here twice, and of credentials
 * every one counts.
 */
static void read_parameters(char *const *pairs, struct request *request, const char **content_length) {
    *request = (struct request){.method = ""};
    *content_length = NULL;
    for (; *pairs; pairs++) {
        const char *value;
        if ((value = parameter(*pairs, "REQUEST_METHOD")))
            request->method = value;
        else if ((value = parameter(*pairs, "CONTENT_TYPE")))
            request->content_type = value;
        else if ((value = parameter(*pairs, "CONTENT_LENGTH")))
            *content_length = value;
        else if ((value = parameter(*pairs, "REQUEST_ID")))
            request->request_id = value;
        else if ((value = parameter(*pairs, "HTTP_X_API_KEY")) || (value = parameter(*pairs, "HTTP_API_KEY")))
            add_credential(request, value, false);
        else if ((value = parameter(*pairs, "HTTP_AUTHORIZATION")))
            add_credential(request, value, true);
    }
}

/* Writes the header of a record (FastCGI specification, section 3.3). */
static void put_header(unsigned char *header, int type, int request_id, size_t content_len) {
    header[0] = 1; /* version */
    header[1] = (unsigned char)type;
    header[2] = (unsigned char)(request_id >> 8);
    header[3] = (unsigned char)request_id;
    header[4] = (unsigned char)(content_len >> 8);
    header[5] = (unsigned char)content_len;
    header[6] = 0; /* padding */
    header[7] = 0;
}

/* Sends all of it, waiting CLIENT_TIMEOUT_S for room at the most; false when the client can't be reached. */
static bool send_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0 && errno != EINTR)
            return false;
        bytes += sent > 0 ? sent : 0;
        len -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

/*
 * Sends the answer in one piece: FCGI_STDOUT with all of it, FCGI_STDOUT without content, which ends the stream, and
 * FCGI_END_REQUEST (sections 5.3 and 5.5; its content, zeros, means "done"). It is written here and not by libfcgi
 * because that would have to keep its streams, with 17 KB of buffers, until the delivery is stored, and free them in
 * another thread.
 */
static bool send_reply(const struct connection *connection) {
    char storage[FCGI_HEADER_BYTES + REPLY_SIZE + REPLY_END_BYTES];
    struct buffer reply;
    buffer_init_fixed(&reply, storage + FCGI_HEADER_BYTES, REPLY_SIZE);
    reply_write(&reply, &connection->delivery);
    if (reply.failed) {
        log_message(LOG_ERROR, "an answer did not fit into %d bytes", REPLY_SIZE);
        return false;
    }
    int id = connection->fcgi.requestId;
    unsigned char *end = (unsigned char *)reply.data + reply.len;
    put_header((unsigned char *)storage, FCGI_STDOUT, id, reply.len);
    put_header(end, FCGI_STDOUT, id, 0);
    end += FCGI_HEADER_BYTES;
    put_header(end, FCGI_END_REQUEST, id, FCGI_END_REQUEST_BYTES);
    end += FCGI_HEADER_BYTES;
    memset(end, 0, FCGI_END_REQUEST_BYTES);
    return send_all(connection->fcgi.ipcFd, storage, FCGI_HEADER_BYTES + reply.len + REPLY_END_BYTES);
}

static void answer(struct delivery *delivery, struct log_batch *log) {
    struct connection *connection = (struct connection *)((char *)delivery - offsetof(struct connection, delivery));
    bool keep = send_reply(connection) && connection->fcgi.keepConnection;
    log_delivery(log, delivery);
    delivery_fini(delivery);
    if (keep && !atomic_load(&connection->server->draining))
        wait_for_bytes(connection, false);
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

/* Reads one request, which is waiting or (in a patient thread) on its way, and answers it or passes it on. */
static void serve(struct workspace *workspace, struct connection *connection) {
    struct server *server = workspace->server;
    FCGX_Request *fcgi = &connection->fcgi;
    struct delivery *delivery = &connection->delivery;
    struct request request;
    const char *content_length;

    /* Not 0: the peer has closed the connection or does not speak FastCGI; libfcgi has closed it too. */
    if (FCGX_Accept_r(fcgi) != 0) {
        connection_free(connection);
        return;
    }
    read_parameters(fcgi->envp, &request, &content_length);
    if (!read_body(fcgi, content_length, &workspace->body)) {
        connection_close(connection);
        return;
    }
    request.body = workspace->body.data;
    request.body_len = workspace->body.len;
    *delivery = (struct delivery){0};
    bool store = false;
    if (workspace->body.failed)
        delivery->failure = "out of memory";
    else
        store = handler_handle(server->options.handler, &request, delivery);
    if (workspace->body.capacity > BODY_KEPT_BYTES)
        buffer_fini(&workspace->body);
    FCGX_Free(fcgi, 0); /* all that libfcgi holds but the connection */
    if (store && server->options.submit(server->options.context, delivery))
        return;
    if (store)
        delivery->failure = "the queue is full";
    server_answer(&delivery, 1);
}

/* Takes the connection that an event is about; it is this thread's until it waits for bytes again. */
static struct connection *take_connection(const struct epoll_event *event) {
    struct connection *connection = event->data.ptr;
    while (atomic_exchange(&connection->busy, true))
        sched_yield(); /* the drain looks at it, for a moment */
    return connection;
}

static void handle_event(struct workspace *workspace, const struct epoll_event *event) {
    struct server *server = workspace->server;
    if (event->data.ptr == server) {
        accept_connection(server);
        return;
    }
    struct connection *connection = take_connection(event);
    switch (peek_request(connection->fcgi.ipcFd)) {
    case ARRIVED:
        serve(workspace, connection);
        break;
    case ARRIVED_PARTLY:
        epoll_ctl(server->ready, EPOLL_CTL_DEL, connection->fcgi.ipcFd, NULL);
        connection->in_ready = false;
        wait_for_bytes(connection, true);
        break;
    case ARRIVED_NOTHING:
        wait_for_bytes(connection, false);
        break;
    }
}

/* How long an event thread may wait, when the committer wants to be called again in work_ms. */
static int wait_ms(const struct server *server, int work_ms) {
    bool accepting = atomic_load(&server->listening) || atomic_load(&server->draining);
    if (accepting || (work_ms >= 0 && work_ms < RETRY_ACCEPT_MS))
        return work_ms;
    return RETRY_ACCEPT_MS;
}

static void *run_event_thread(void *argument) {
    struct workspace workspace = {.server = argument};
    struct server *server = argument;
    struct epoll_event events[EVENTS_MAX];
    bool stopping = false;
    int work_ms = -1;
    buffer_init(&workspace.body);
    while (!stopping) {
        int count = epoll_wait(server->ready, events, EVENTS_MAX, wait_ms(server, work_ms));
        if (count == 0)
            set_listening(server, true);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &server->stop)
                stopping = true;
            else if (events[i].data.ptr != &server->submitted)
                handle_event(&workspace, &events[i]);
        }
        work_ms = server->options.work(server->options.context);
    }
    buffer_fini(&workspace.body);
    return NULL;
}

static void *run_patient_thread(void *argument) {
    struct workspace workspace = {.server = argument};
    struct server *server = argument;
    struct epoll_event event;
    buffer_init(&workspace.body);
    for (;;) {
        if (epoll_wait(server->patient, &event, 1, -1) <= 0)
            continue;
        if (event.data.ptr == &server->stop)
            break;
        struct connection *connection = take_connection(&event);
        epoll_ctl(server->patient, EPOLL_CTL_DEL, connection->fcgi.ipcFd, NULL);
        serve(&workspace, connection);
        eventfd_write(server->submitted, 1);
    }
    buffer_fini(&workspace.body);
    return NULL;
}

static bool make_sets(struct server *server) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server->stop};
    /* By edge: every write is an event, for one thread, and nobody has to read it. */
    struct epoll_event submitted = {.events = EPOLLIN | EPOLLET, .data.ptr = &server->submitted};
    server->ready = epoll_create1(EPOLL_CLOEXEC);
    server->patient = epoll_create1(EPOLL_CLOEXEC);
    server->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->submitted = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return server->ready >= 0 && server->patient >= 0 && server->stop >= 0 && server->submitted >= 0 &&
           epoll_ctl(server->ready, EPOLL_CTL_ADD, server->stop, &event) == 0 &&
           epoll_ctl(server->ready, EPOLL_CTL_ADD, server->submitted, &submitted) == 0 &&
           epoll_ctl(server->patient, EPOLL_CTL_ADD, server->stop, &event) == 0;
}

static bool start_threads(struct server *server) {
    unsigned wanted = server->options.threads + PATIENT_THREADS;
    while (server->thread_count < wanted) {
        bool events = server->thread_count < server->options.threads;
        int error = pthread_create(&server->threads[server->thread_count], NULL,
                                   events ? run_event_thread : run_patient_thread, server);
        if (error != 0) {
            errno = error;
            return false;
        }
        server->thread_count++;
    }
    return true;
}

struct server *server_new(const struct server_options *options) {
    size_t threads = options->threads + PATIENT_THREADS;
    struct server *server = calloc(1, sizeof *server + threads * sizeof server->threads[0]);
    if (!server)
        return NULL;
    server->options = *options;
    atomic_init(&server->listener, options->listener);
    pthread_mutex_init(&server->lock, NULL);
    /* libfcgi waits up to 2 s for a client to close first; nginx needs no such wait on a UNIX socket. */
    setenv("LIBFCGI_OS_CLOSE_POLL_TIMEOUT", "0", 1);
    int flags = fcntl(options->listener, F_GETFL);
    if (FCGX_Init() != 0 || fcntl(options->listener, F_SETFL, flags | O_NONBLOCK) != 0 || !make_sets(server) ||
        !start_threads(server)) {
        int error = errno;
        server_free(server);
        errno = error;
        return NULL;
    }
    set_listening(server, true);
    return server;
}

/* An idle connection gets an end of file; a request that has reached it by then is still served. */
static void end_idle_connections(struct server *server) {
    for (struct connection *connection = server->connections; connection; connection = connection->next) {
        if (atomic_exchange(&connection->busy, true))
            continue;
        shutdown(connection->fcgi.ipcFd, SHUT_RD);
        atomic_store(&connection->busy, false);
    }
}

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

bool server_drain(struct server *server, int timeout_ms) {
    int64_t deadline_us = clock_now_us() + (int64_t)timeout_ms * US_PER_MS;
    atomic_store(&server->draining, true);
    set_listening(server, false);
    if (server->options.socket_path) {
        /* Nobody can connect any more; whoever has connected already is served. */
        unlink(server->options.socket_path);
        while (accept_connection(server))
            ;
    }
    sleep_ms(GRACE_MS);
    close(atomic_exchange(&server->listener, -1));

    for (;;) {
        pthread_mutex_lock(&server->lock);
        end_idle_connections(server);
        size_t open = server->connection_count;
        pthread_mutex_unlock(&server->lock);
        if (open == 0)
            return true;
        if (clock_now_us() >= deadline_us)
            return false;
        sleep_ms(DRAIN_STEP_MS);
    }
}

void server_free(struct server *server) {
    if (!server)
        return;
    eventfd_write(server->stop, 1);
    for (unsigned i = 0; i < server->thread_count; i++)
        pthread_join(server->threads[i], NULL);
    if (atomic_load(&server->listener) >= 0)
        close(atomic_load(&server->listener));
    close(server->ready);
    close(server->patient);
    close(server->stop);
    close(server->submitted);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
