/*
 * What the modules with _pg in their names share: the connection. Only they know <libpq-fe.h>.
 *
 * Threads: any; libpq reads its PG… environment variables at every connect, so these must not change any more.
 */
#ifndef RECEIPTD_PG_H
#define RECEIPTD_PG_H

#include <libpq-fe.h>

#define PG_NATURAL_KEY "program_identifier, asn_number, unit_identifier"

/*
 * Connects as libpq's environment says, to a server that takes writes, waiting a few seconds for each host at the most.
 * Never NULL but for want of memory; the caller looks at PQstatus and calls PQfinish.
 */
PGconn *pg_connect(void);

#endif
