#include "pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_S "3" /* for each host; libpq takes 2 at least */

enum { LOCK_TIMEOUT_MAX_MS = 1000 };

static const char application[] = "receiptd " RECEIPTD_VERSION;

PGconn *pg_connect(void) {
    /* The environment has the last word, except where only one value is right. */
    const char *timeout = getenv("PGCONNECT_TIMEOUT");
    const char *session = getenv("PGTARGETSESSIONATTRS");
    const char *const names[] = {"fallback_application_name", "client_encoding", "connect_timeout",
                                 "target_session_attrs", NULL};
    const char *const values[] = {application, "UTF8", timeout ? timeout : CONNECT_TIMEOUT_S,
                                  session ? session : "read-write", NULL};
    PGconn *connection = PQconnectdbParams(names, values, 0);
    /* Without DETAIL, which can show a whole row, and that names people. Harmless on NULL. */
    PQsetErrorVerbosity(connection, PQERRORS_TERSE);
    return connection;
}

/* pg_settings tells who has set something: a configuration file, a role, a database, the client's PGOPTIONS, … */
const char pg_settings_query[] =
    "select name, setting, source from pg_catalog.pg_settings where name in ('fsync', 'full_page_writes',"
    " 'synchronous_commit', 'synchronous_standby_names', 'default_transaction_read_only', 'server_encoding',"
    " 'lock_timeout', 'citus.version') union all select 'pg_is_in_recovery()', pg_catalog.pg_is_in_recovery()::text, "
    "'standby'";

enum { NAME, SETTING, SOURCE };

static int find_row(const PGresult *result, const char *name) {
    for (int row = 0; row < PQntuples(result); row++)
        if (strcmp(PQgetvalue(result, row, NAME), name) == 0)
            return row;
    return -1;
}

static const char *setting(const PGresult *result, const char *name) {
    int row = find_row(result, name);
    return row < 0 ? "" : PQgetvalue(result, row, SETTING);
}

/* PostgreSQL: "Settings", synchronous_commit: without a standby that is named, all but off wait for the local flush. */
static bool commits_are_durable(const PGresult *result) {
    const char *commit = setting(result, "synchronous_commit");
    if (strcmp(commit, "on") == 0 || strcmp(commit, "remote_apply") == 0)
        return true;
    return (strcmp(commit, "local") == 0 || strcmp(commit, "remote_write") == 0) &&
           *setting(result, "synchronous_standby_names") == '\0';
}

static bool waits_briefly(const PGresult *result) {
    long timeout_ms = strtol(setting(result, "lock_timeout"), NULL, 10);
    return timeout_ms > 0 && timeout_ms <= LOCK_TIMEOUT_MAX_MS;
}

bool pg_is_citus(const PGresult *result) {
    return find_row(result, "citus.version") >= 0;
}

enum pg_verdict pg_judge_settings(const PGresult *result, char *problem, size_t size) {
    const struct {
        const char *name;
        bool met;
        enum pg_verdict otherwise;
        const char *why;
    } requirements[] = {
        {"pg_is_in_recovery()", strcmp(setting(result, "pg_is_in_recovery()"), "false") == 0, PG_UNFIT,
         "this server takes no writes"},
        {"default_transaction_read_only", strcmp(setting(result, "default_transaction_read_only"), "off") == 0,
         PG_UNFIT, "this server takes no writes"},
        {"server_encoding", strcmp(setting(result, "server_encoding"), "UTF8") == 0, PG_UNFIT,
         "the database's encoding has to be UTF8"},
        {"fsync", strcmp(setting(result, "fsync"), "on") == 0, PG_UNFIT, "a crash would lose receipts"},
        {"full_page_writes", strcmp(setting(result, "full_page_writes"), "on") == 0, PG_UNFIT,
         "a crash would lose receipts"},
        {"synchronous_commit", commits_are_durable(result), PG_UNFIT, "a crash would lose acknowledged receipts"},
        {"lock_timeout", waits_briefly(result), PG_SLOW,
         "a row that another session has locked would hold up others: sql/roles.sql sets 250 ms"},
    };
    for (size_t i = 0; i < sizeof requirements / sizeof requirements[0]; i++) {
        int row = find_row(result, requirements[i].name);
        if (requirements[i].met)
            continue;
        snprintf(problem, size, "%s is %s (set by: %s): %s", requirements[i].name,
                 row < 0 ? "unknown" : PQgetvalue(result, row, SETTING),
                 row < 0 ? "unknown" : PQgetvalue(result, row, SOURCE), requirements[i].why);
        return requirements[i].otherwise;
    }
    return PG_FIT;
}
