/*
 * FastCGI: the only module that knows <fcgiapp.h>.
 *
 * A few event threads share one epoll set: the listening socket and every kept connection. A thread takes a connection
 * with a whole request in it, reads that request through libfcgi, asks the handler, and either answers or passes the
 * delivery on to be stored; it never waits for the database. Whoever stores it calls server_answer, from any thread,
 * which answers and puts the connection back into the set.
 *
 * A connection whose request is not there yet in whole (a large body, a client that stopped half-way) is read by a
 * thread kept for that, so that no event thread waits for a client.
 *
 * Threads: server_new, server_drain and server_free from one; server_answer from any.
 */
#ifndef RECEIPTD_SERVER_H
#define RECEIPTD_SERVER_H

#include "delivery.h"
#include "handler.h"

#include <stdbool.h>

struct server;

struct server_options {
    int listener;            /* a listening stream socket; the server closes it */
    const char *socket_path; /* of a socket that is ours alone, removed at the drain; NULL when it was handed over */
    unsigned threads;        /* event threads */
    const struct handler *handler;
    /* Takes a delivery to be stored and answered with server_answer; false when it can't: it is answered 503. */
    bool (*submit)(void *context, struct delivery *delivery);
    void *context;
};

/* Starts serving. NULL, with errno set, when it can't. */
struct server *server_new(const struct server_options *options);

/* Answers a delivery that submit took, according to its outcome. */
void server_answer(struct delivery *delivery);

/*
 * Accepts nothing new, answers what was begun and closes all connections. Waits for that, at most timeout_ms; returns
 * whether all of them are closed. submit must go on working until it returns.
 */
bool server_drain(struct server *server, int timeout_ms);

/* Ends the threads and frees; after a drain that returned true. Takes NULL. */
void server_free(struct server *server);

#endif
