/*
 * The part of receiptd doctor that is about PostgreSQL.
 *
 * Threads: see pg.h.
 */
#ifndef RECEIPTD_DOCTOR_PG_H
#define RECEIPTD_DOCTOR_PG_H

#include "findings.h"

#include <sys/types.h>

struct doctor_pg_facts {
    pid_t server;         /* PostgreSQL's first process, where it is reached over a UNIX socket; else 0 */
    double ahead_s;       /* how far its clock is ahead of this machine's */
    bool connected;       /* else nothing above is known, */
    long long unresolved; /* nor this: rejected deliveries; -1 where they could not be counted */
};

/*
 * Connects and checks what the worker relies on: durable settings, what the schema says of itself, grants, columns and
 * their types, the unique constraints, the schema's version, connections, transaction ids, autovacuum. Adds what it
 * finds. `require_standby` is RECEIPTD_REQUIRE_STANDBY.
 */
void doctor_pg(struct findings *findings, bool require_standby, struct doctor_pg_facts *facts);

#endif
