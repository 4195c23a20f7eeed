/*
 * FastCGI: the threads that serve, the listening socket, and the drain.
 *
 * A few event threads share one epoll set: the listening socket and every connection. A thread
 * takes connections that have bytes; where that makes a request whole (connection.h), it reads it (reader.h), asks the
 * handler, and either answers or submits the delivery. When it has taken what there was, it stores what was submitted,
 * its own and others', unless that is being done; the other threads go on reading meanwhile. Then it reads one large
 * request (large_requests.h), if one waits. So a lone delivery is read, stored and answered by one thread, without
 * waking another, and there are always more event threads than can be waiting for the database. No thread ever waits
 * for a client: what has not arrived, or finds no room to be sent, is not waited for.
 *
 * Whoever stored deliveries calls server_answer, from any thread, which answers and gives the connections up.
 *
 * Threads: server_new, server_drain and server_free from one; server_answer from any.
 */
#ifndef RECEIPTD_SERVER_H
#define RECEIPTD_SERVER_H

#include "delivery.h"
#include "group_commit.h"
#include "handler.h"
#include "page.h"
#include "probe.h"

#include <stdbool.h>

struct server;

struct server_options {
    int listener;            /* a listening stream socket; the server closes it */
    const char *socket_path; /* of a socket that is ours alone, removed at the drain; NULL when it was handed over */
    unsigned threads; /* that serve at a time: as many as batches of receipts are stored, and at least one more */
    const struct handler *handler;
    const char
        *refusal; /* not NULL: why no delivery is taken. Its connection is closed, so the web server tries another */
    struct group_commit *group_commit; /* has to say server_answer of what it has done; outlives the server */
    struct probe *probe;               /* outlives the server */
};

/* Starts serving. NULL, with errno set, when it can't. */
struct server *server_new(const struct server_options *options);

/* What the pages say of it (page.h), looked at now. */
void server_look(struct server *server, struct page_state *state);

/*
 * Whether it is well: some thread was done with a request, or found none, in the last two seconds, and group commit
 * moves. Where neither can be told, since somebody holds a lock for ever, it does not return.
 */
bool server_moves(struct server *server);

/* Reads the API keys again, and logs that. False, with the keys as they were and `problem` filled, if that fails. */
bool server_reload_keys(struct server *server, char *problem, size_t size);

/* A group_commit_done: answers what group commit has done, according to its outcomes; the deliveries are gone then. */
void server_answer(struct delivery *const *deliveries, size_t count);

/*
 * Answers what was begun and closes all connections. Waits for that, at most timeout_ms; returns whether all of them
 * are closed. Accepts nothing new, except on a socket that was handed over: if requests keep waiting, others are
 * accepted and stored in between, in pauses of 0.2 s, until the deadline of what was begun.
 */
bool server_drain(struct server *server, int timeout_ms);

/* Ends the threads and frees; after a drain that returned true. Takes NULL. */
void server_free(struct server *server);

#endif
