#include "pg.h"

#include <stdlib.h>

#define CONNECT_TIMEOUT_S "3" /* for each host; libpq takes 2 at least */

PGconn *pg_connect(void) {
    /* The environment has the last word, except where only one value is right. */
    const char *timeout = getenv("PGCONNECT_TIMEOUT");
    const char *session = getenv("PGTARGETSESSIONATTRS");
    const char *const names[] = {"fallback_application_name", "client_encoding", "connect_timeout",
                                 "target_session_attrs", NULL};
    const char *const values[] = {"receiptd", "UTF8", timeout ? timeout : CONNECT_TIMEOUT_S,
                                  session ? session : "read-write", NULL};
    PGconn *connection = PQconnectdbParams(names, values, 0);
    /* Without DETAIL, which can show a whole row, and that names people. Harmless on NULL. */
    PQsetErrorVerbosity(connection, PQERRORS_TERSE);
    return connection;
}
