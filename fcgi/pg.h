/*
 * Connecting to PostgreSQL as libpq's environment and service file say, and giving up a connection whose statement has
 * not ended.
 *
 * Threads: any; libpq reads its PG… environment variables at every connect, so these must not change any more.
 */
#ifndef RECEIPTD_PG_H
#define RECEIPTD_PG_H

#include "hosts.h"

#include <libpq-fe.h>

/* Expressions that locate a server in its cluster: the cluster's identity, and the server's timeline (0 for a standby).
 */
#define PG_SYSTEM_IDENTIFIER "(select system_identifier from pg_catalog.pg_control_system())"
#define PG_TIMELINE                                                                                                    \
    "case when pg_catalog.pg_is_in_recovery() then 0 else (('x' || substr(pg_catalog.pg_walfile_name("                 \
    "pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::bigint) end"

/* The hosts that libpq would try. NULL when memory runs out. hosts_free frees them. */
struct hosts *pg_hosts(void);

/*
 * Connects to a server that accepts writes, in the order that `hosts` gives, and waits at most a few seconds for each
 * host. Returns NULL only when memory runs out; the caller checks PQstatus and calls PQfinish.
 */
PGconn *pg_connect(struct hosts *hosts);

/*
 * The same for a program that runs once: connects to every host and keeps the server on the latest timeline, since an
 * old primary may still accept writes after a failover.
 */
PGconn *pg_connect_to_latest(void);

/* The same to one of them alone. */
PGconn *pg_connect_to(struct hosts *hosts, size_t host);

/*
 * Why a connection failed, in the `size` bytes of `text`. If a password was asked for, also why libpq has none, which
 * it does not tell. With NULL: memory ran out.
 */
void pg_describe_failure(PGconn *connection, char *text, size_t size);

/* Which of the hosts it is connected to. */
size_t pg_host_of(const PGconn *connection, const struct hosts *hosts);

/*
 * Closes a connection whose statement has not ended, and cancels that: a commit that waits for a standby does not
 * notice that its client is gone (PostgreSQL: SyncRepWaitForLSN), and would keep its locks and its place among the
 * role's connections until the standby is back. Returns at once.
 */
void pg_abandon(PGconn *connection);

#endif
