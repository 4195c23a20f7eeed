/*
 * Connections of web servers: their states, what has arrived of a request, sending, and ending them.
 *
 * Nobody waits for a client: what is there is read, and the connection waits for the rest. So there can be any number
 * of slow clients. What they have sent so far is kept, within bounds: for each of them, CONNECTION_REQUEST_MS until its
 * request is whole; for all together, CONNECTIONS_HELD_MAX_BYTES.
 *
 * Each is in the epoll set once and for all, edge-triggered, so that a request costs no call to put it back. Events
 * reach any thread at any time; connection_take decides who owns the connection.
 *
 * Threads: a connection belongs to the thread that took it, and to whom that thread hands it, until it waits again. The
 * functions for all connections are for any thread.
 */
#ifndef RECEIPTD_CONNECTION_H
#define RECEIPTD_CONNECTION_H

#include "delivery.h"
#include "records.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CONNECTION_REQUEST_MS = 7000, /* from the first byte of a request to its last */
    /* Of requests that have not arrived in whole; one more is cut off then. */
    CONNECTIONS_HELD_MAX_BYTES = 64 * 1024 * 1024,
    /* What is larger is copied, and can wait to be read; a usual request has 2 KB. */
    CONNECTION_SMALL_BYTES = 8 * 1024,
};

enum connection_state {
    CONNECTION_IDLE,      /* no byte of a request has been read; for as long as the client likes */
    CONNECTION_RECEIVING, /* a part of a request has been read; until its time is over */
    CONNECTION_WAITING,   /* a large request has arrived in whole, and waits to be read */
    CONNECTION_BUSY,      /* a request is worked on, stored or answered */
};

struct connection_links {
    struct connection_links *previous, *next;
};

/* Whose a connection is. */
enum connection_claim {
    CONNECTION_UNUSED, /* nobody's: there is no socket, and a late event of one that was closed means nothing */
    CONNECTION_FREE,   /* the thread's that the next event reaches */
    CONNECTION_OWNED,
    CONNECTION_OWNED_AND_READY, /* there was an event that its owner does not know of */
};

struct connections {
    int ready;                 /* the epoll set they are in */
    atomic_bool draining;      /* set by the server: whoever has been answered is closed */
    atomic_size_t held_bytes;  /* of parts of requests */
    atomic_uint late, no_room; /* connections closed for that, not yet logged */
    pthread_mutex_t lock;      /* guards what follows */
    size_t count;
    struct connection_links all, receiving; /* receiving: who began first comes first */
    struct connection *unused;              /* kept, since events may reach threads late */
};

/* A request that arrives in parts, or is large. */
struct connection_arrival {
    struct records_copy copy;
    size_t held_bytes;   /* of the copy, as counted for all connections */
    int64_t deadline_us; /* when it has to be whole */
    int64_t whole_us;    /* when it was */
    struct connection_links in_receiving;
    struct connection *next; /* the server's, while it waits */
};

struct connection {
    struct connections *connections;
    struct connection_links in_all;
    int fd;
    _Atomic enum connection_claim claim;
    bool unread;                         /* there may be something to read that no event will tell of */
    _Atomic enum connection_state state; /* changed by its owner, with set_state alone */
    struct records records;              /* of the current request */
    union {
        struct connection_arrival arrival; /* while CONNECTION_RECEIVING or CONNECTION_WAITING */
        struct delivery delivery;          /* while CONNECTION_BUSY */
        struct connection *next_unused;
    };
};

enum connection_received {
    CONNECTION_WHOLE, /* a request; connection_begin_delivery is next when it has been read, */
    CONNECTION_LARGE, /* and of a large one, which has a copy, connection_wait_to_be_read may come before */
    CONNECTION_PART,  /* connection_wait_for_more is next */
    CONNECTION_END,   /* connection_close is next: there will be no request */
};

/* The epoll set stays the caller's. */
void connections_init(struct connections *connections, int ready);

/* How many there are. */
size_t connections_count(struct connections *connections);

/* With no connection left. */
void connections_fini(struct connections *connections);

/* Serves the client behind a socket from now on; closes the socket when it can't. */
void connections_add(struct connections *connections, int fd);

/*
 * Makes the connection the caller's, on an event (epoll(7)) for it. False: it is another thread's, which will find what
 * the event is about, or it is closed.
 */
bool connection_take(struct connection *connection, uint32_t events);

/*
 * To be called now and then. Cuts off whoever takes too long for a request: who takes the connection next gets
 * CONNECTION_END. Logs how many there were, and how many others found no room.
 */
void connections_sweep(struct connections *connections);

/*
 * Clients that are not in the midst of a request may send none any more; one that has reached its connection by then is
 * still taken. Returns how many connections there are, of all kinds.
 */
size_t connections_end_idle(struct connections *connections);

/*
 * Reads what is there of a request, and keeps at most stdin_max bytes of its body. A small request that is there in one
 * piece is left in the window, with window_len set; else window_len is 0 and the request in arrival.copy.
 */
enum connection_received connection_receive(struct connection *connection, char *window, size_t window_size,
                                            size_t stdin_max, size_t *window_len);

/* When the first byte of a request was read that is in arrival.copy. */
int64_t connection_began_us(const struct connection *connection);

/* Copies a request that is in the window, if it is, so that it can wait too. False: there is no room, close it. */
bool connection_copy(struct connection *connection, const char *window, size_t len, size_t stdin_max);

/* From now on it is the request's time to be stored that counts, not its time to arrive. */
void connection_wait_to_be_read(struct connection *connection);

/* Once the request has been read: frees what has arrived of it, and begins with an empty delivery. */
void connection_begin_delivery(struct connection *connection);

/* False when the client has not got all of it: it does not take what it asked for, or is gone. */
bool connection_send(struct connection *connection, const char *bytes, size_t len);

/* Waits for more of the current request. The connection is nobody's then. */
void connection_wait_for_more(struct connection *connection);

/* Waits for the next request, or closes the connection when the client or the drain wants that. */
void connection_end_request(struct connection *connection);

void connection_close(struct connection *connection);

/* Whose delivery it is. */
struct connection *connection_of(struct delivery *delivery);

#endif
