#include "doctor_pg.h"

#include "inspection.h"
#include "pg.h"
#include "probe.h"
#include "receipt.h"
#include "statements.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    OLDEST_POSTGRESQL = 150000,
    TRANSACTIONS_CRITICAL = 1600000000, /* vacuum_failsafe_age, when PostgreSQL itself drops everything else */
};

static const char deploy[] = "run sql/roles.sql and sqitch deploy in sql/";

/* A query without an answer. What the role may not see is unknown, and may be well. */
static void add_unanswered(struct findings *findings, PGconn *connection, const PGresult *result) {
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool hidden = sqlstate && strcmp(sqlstate, "42501") == 0; /* insufficient_privilege */
    findings_add(findings, hidden ? FINDING_WARN : FINDING_FAIL, "database",
                 hidden ? "grant it to the role of the workers: this could not be checked" : "see PostgreSQL's log",
                 "%s", PQerrorMessage(connection));
}

/* The first value of an answer, or NULL, having said so; *result is the caller's to clear in both cases. */
static const char *ask(struct findings *findings, PGconn *connection, const char *query, PGresult **result) {
    *result = PQexec(connection, query);
    if (PQresultStatus(*result) == PGRES_TUPLES_OK && PQntuples(*result) >= 1)
        return PQgetvalue(*result, 0, 0);
    add_unanswered(findings, connection, *result);
    return NULL;
}

/* Whether a query was answered, be it without a row; says so when not. *result is the caller's to clear. */
static bool has_answered(struct findings *findings, PGconn *connection, const char *query, PGresult **result) {
    *result = PQexec(connection, query);
    if (PQresultStatus(*result) == PGRES_TUPLES_OK)
        return true;
    add_unanswered(findings, connection, *result);
    return false;
}

static void examine_missing_columns(struct findings *findings, const struct receipt_columns *columns) {
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++)
        if (columns->missing[i] && !receipt_fields[i].key)
            findings_add(findings, FINDING_WARN, "schema", "run sqitch deploy in sql/",
                         "inventory.receipts has no column %s: the values of %s go into the column extra",
                         receipt_fields[i].column, receipt_fields[i].path);
}

/* The settings, and where in a cluster it is: what the workers check too. */
static void examine_server(struct findings *findings, const struct inspection *found) {
    if (found->verdict == INSPECTION_FIT)
        findings_add(findings, FINDING_OK, "durability", NULL,
                     "fsync, full_page_writes and synchronous_commit keep what was acknowledged");
    else
        findings_add(findings, found->verdict == INSPECTION_UNFIT ? FINDING_FAIL : FINDING_WARN, "durability",
                     "change it for the role in PostgreSQL; the workers notice within seconds", "%s", found->problem);
    if (found->system_identifier != 0)
        findings_add(findings, FINDING_OK, "cluster", NULL, "timeline %u, a commit waits for %u standbys",
                     found->timeline, found->standbys);
    else
        findings_add(findings, FINDING_WARN, "cluster",
                     "grant execute on pg_control_system, pg_walfile_name, pg_current_wal_lsn and pg_conf_load_time",
                     "a commit waits for %u standbys; the timeline is not known, so an old primary is not recognized",
                     found->standbys);
}

static void examine_version(struct findings *findings, PGconn *connection) {
    PGresult *result;
    const char *answer = ask(findings, connection, "select " PROBE_SCHEMA_VERSION, &result);
    long version = answer ? strtol(answer, NULL, 10) : 0;
    if (answer && version < STATEMENTS_SCHEMA_NEEDED)
        findings_add(findings, FINDING_FAIL, "schema", deploy, "version %ld, and this program needs %d", version,
                     STATEMENTS_SCHEMA_NEEDED);
    else if (answer)
        findings_add(findings, FINDING_OK, "schema", NULL, "version %ld, this program needs %d", version,
                     STATEMENTS_SCHEMA_NEEDED);
    PQclear(result);
}

/* Adds a warning for each row of a query, if the schema has the function of that name: what is wrong, and what to do.
 */
static void examine_warnings(struct findings *findings, PGconn *connection, const char *subject, const char *function,
                             const char *query) {
    char exists[256];
    PGresult *found, *result = NULL;
    snprintf(exists, sizeof exists,
             "select exists (select from pg_proc join pg_namespace as n on n.oid = pronamespace"
             " where nspname = 'inventory' and proname = '%s')",
             function);
    const char *answer = ask(findings, connection, exists, &found);
    if (answer && *answer == 't' && has_answered(findings, connection, query, &result))
        for (int row = 0; row < PQntuples(result); row++)
            findings_add(findings, FINDING_WARN, subject, PQgetvalue(result, row, 1), "%s", PQgetvalue(result, row, 0));
    PQclear(found);
    PQclear(result);
}

/* What the schema says of itself. False when there is none. */
static bool examine_schema(struct findings *findings, PGconn *connection, const struct receipt_columns *columns) {
    PGresult *result;
    bool ok = has_answered(findings, connection, inspection_check_query, &result);
    for (int row = 0; ok && row < PQntuples(result); row++)
        findings_add(findings, FINDING_FAIL, "schema", PQgetvalue(result, row, 1), "%s", PQgetvalue(result, row, 0));
    if (ok && PQntuples(result) == 0)
        findings_add(findings, FINDING_OK, "schema", NULL,
                     "tables, columns, constraints, triggers and grants are as they were deployed");
    PQclear(result);
    examine_warnings(findings, connection, "schema", "schema_warnings",
                     "select warning, advice from inventory.schema_warnings()");
    examine_warnings(findings, connection, "time zones", "unknown_time_zones",
                     "select format('the time zone %s of the warehouse %s (%s) is not known here: its days are UTC',"
                     " time_zone, to_identifier, name), 'install it (Debian: tzdata-legacy), or name another one in"
                     " inventory.warehouses; see pg_timezone_names' from inventory.unknown_time_zones()");
    examine_missing_columns(findings, columns);
    examine_version(findings, connection);
    return ok;
}

/* What the workers check at each connect. Returns whether there is a schema. */
static bool examine_fitness(struct findings *findings, PGconn *connection, bool require_standby) {
    struct inspection found = {0};
    PGresult *result, *cluster = NULL;
    bool has_check = false;
    if (ask(findings, connection, inspection_query, &result)) {
        if (inspection_may_ask_cluster(result))
            ask(findings, connection, inspection_cluster_query, &cluster);
        has_check = inspection_may_ask_check(result);
        inspection_read(&found, result, cluster, NULL, require_standby);
        examine_server(findings, &found);
        if (!has_check) {
            findings_add(findings, FINDING_FAIL, "schema", deploy,
                         "there is no schema inventory with a function schema_problems(), or it may not be used");
            examine_version(findings, connection);
        }
    }
    PQclear(result);
    PQclear(cluster);
    return has_check && examine_schema(findings, connection, &found.columns);
}

static void examine_role(struct findings *findings, PGconn *connection) {
    PGresult *result;
    const char *answer =
        ask(findings, connection, "select rolsuper from pg_roles where rolname = current_user", &result);
    if (answer && *answer == 't')
        findings_add(findings, FINDING_WARN, "role", "set PGUSER=receiptd_writer",
                     "%s is a superuser, whom no grant stops", PQuser(connection));
    PQclear(result);
}

/* The server's, the role's own, and the database's (-1: no limit). */
static void examine_connections(struct findings *findings, PGconn *connection) {
    static const char query[] =
        "select 'of the server', count(*), current_setting('max_connections')::integer"
        " - current_setting('superuser_reserved_connections')::integer, 'raise max_connections'"
        " from pg_stat_activity where backend_type = 'client backend'"
        " union all select format('of the role %I', current_user), (select count(*) from pg_stat_activity"
        " where usename = current_user), rolconnlimit, format('alter role %I connection limit N', current_user)"
        " from pg_roles where rolname = current_user and rolconnlimit >= 0"
        " union all select format('of the database %I', datname), (select count(*) from pg_stat_activity as a"
        " where a.datname = d.datname), datconnlimit, format('alter database %I connection limit N', datname)"
        " from pg_database as d where datname = current_database() and datconnlimit >= 0";
    PGresult *result;
    const char *answer = ask(findings, connection, query, &result);
    for (int row = 0; answer && row < PQntuples(result); row++) {
        long used = strtol(PQgetvalue(result, row, 1), NULL, 10), most = strtol(PQgetvalue(result, row, 2), NULL, 10);
        char advice[256];
        bool scarce = used * 10 > most * 9;
        snprintf(advice, sizeof advice, "find out whose they are (pg_stat_activity), or %s",
                 PQgetvalue(result, row, 3));
        findings_add(findings, scarce ? FINDING_WARN : FINDING_OK, "connections", scarce ? advice : NULL,
                     "%ld of %ld %s are in use", used, most, PQgetvalue(result, row, 0));
    }
    PQclear(result);
}

/*
 * When transaction ids run out in any database of the cluster, all of it takes no writes any more; 40 million before
 * that, every transaction gets a warning (PostgreSQL: "Preventing Transaction ID Wraparound Failures").
 */
static void examine_transaction_ids(struct findings *findings, PGconn *connection) {
    static const char query[] = "select greatest(age(datfrozenxid), mxid_age(datminmxid)), datname,"
                                " greatest(age(datfrozenxid), mxid_age(datminmxid)) > 2 * greatest("
                                "current_setting('autovacuum_freeze_max_age')::bigint, "
                                "current_setting('autovacuum_multixact_freeze_max_age')::bigint)"
                                " from pg_database order by 1 desc limit 1";
    PGresult *result;
    const char *answer = ask(findings, connection, query, &result);
    if (answer) {
        long long age = strtoll(answer, NULL, 10);
        bool old = *PQgetvalue(result, 0, 2) == 't';
        findings_add(
            findings,
            age > TRANSACTIONS_CRITICAL ? FINDING_FAIL
            : old                       ? FINDING_WARN
                                        : FINDING_OK,
            "transaction ids",
            old || age > TRANSACTIONS_CRITICAL
                ? "vacuum that database; look for old transactions, replication slots and prepared transactions"
                : NULL,
            "the oldest one, in the database %s, is %lld million transactions old; at 2,147 million the cluster "
            "stops taking writes",
            PQgetvalue(result, 0, 1), age / 1000000);
    }
    PQclear(result);
}

/* PostgreSQL vacuums after 20 % of changes, and looks at frozen rows from autovacuum_freeze_max_age on. */
static void examine_autovacuum(struct findings *findings, PGconn *connection) {
    static const char query[] =
        "select case"
        " when current_setting('autovacuum') <> 'on' or current_setting('track_counts') <> 'on'"
        " then 'autovacuum or track_counts is off'"
        " when exists (select from pg_class where relnamespace = 'inventory'::regnamespace"
        " and exists (select from pg_options_to_table(reloptions) where option_name = 'autovacuum_enabled'"
        " and not option_value::boolean)) then 'autovacuum is off for a table of inventory'"
        " when exists (select from pg_class where relnamespace = 'inventory'::regnamespace and relkind = 'r'"
        " and age(relfrozenxid) > 1.5 * current_setting('autovacuum_freeze_max_age')::bigint)"
        " then 'a table of inventory has not been frozen for too many transactions'"
        " when exists (select from pg_stat_user_tables where schemaname = 'inventory'"
        " and n_dead_tup > 100000 and n_dead_tup > n_live_tup / 2)"
        " then 'more than a third of a table of inventory is dead rows'"
        " else '' end";
    PGresult *result;
    const char *problem = ask(findings, connection, query, &result);
    if (problem && *problem != '\0')
        findings_add(findings, FINDING_WARN, "autovacuum",
                     "look at PostgreSQL's settings and for long transactions (pg_stat_activity)", "%s", problem);
    else if (problem)
        findings_add(findings, FINDING_OK, "autovacuum", NULL, "on, and keeps up");
    PQclear(result);
}

static void read_clock(struct findings *findings, PGconn *connection, struct doctor_pg_facts *facts) {
    struct timespec before, after;
    PGresult *result;
    clock_gettime(CLOCK_REALTIME, &before);
    const char *answer = ask(findings, connection, "select extract(epoch from clock_timestamp())", &result);
    clock_gettime(CLOCK_REALTIME, &after);
    if (answer)
        facts->ahead_s = strtod(answer, NULL) - ((double)before.tv_sec + (double)after.tv_sec) / 2 -
                         ((double)before.tv_nsec + (double)after.tv_nsec) / 2e9;
    PQclear(result);
}

static void count_unresolved(struct findings *findings, PGconn *connection, struct doctor_pg_facts *facts) {
    PGresult *result;
    const char *answer = ask(findings, connection, "select count(*) from inventory.open_rejections", &result);
    facts->unresolved = answer ? strtoll(answer, NULL, 10) : -1;
    PQclear(result);
}

static void examine(struct findings *findings, PGconn *connection, bool require_standby,
                    struct doctor_pg_facts *facts) {
    int version = PQserverVersion(connection);
    struct ucred server;
    socklen_t len = sizeof server;
    /* Of a socket that listens: who made it listen (unix(7)), which with PostgreSQL is its first process. */
    if (getsockopt(PQsocket(connection), SOL_SOCKET, SO_PEERCRED, &server, &len) == 0)
        facts->server = server.pid;
    findings_add(findings, version < OLDEST_POSTGRESQL ? FINDING_FAIL : FINDING_OK, "database",
                 version < OLDEST_POSTGRESQL ? "PostgreSQL 15 or newer is needed" : NULL,
                 "%s at %s port %s as %s, PostgreSQL %d.%d", PQdb(connection), PQhost(connection), PQport(connection),
                 PQuser(connection), version / 10000, version % 10000);
    examine_role(findings, connection);
    bool has_schema = examine_fitness(findings, connection, require_standby);
    examine_connections(findings, connection);
    examine_transaction_ids(findings, connection);
    if (has_schema) {
        examine_autovacuum(findings, connection);
        count_unresolved(findings, connection, facts);
    }
    read_clock(findings, connection, facts);
}

/*
 * What to do when there is no connection, by libpq's message. In its own words libpq is English here; the server's may
 * be translated, so the last ones are for both. With several hosts, the first one here that any of them has.
 */
static const char *remedy_for(const char *message) {
    static const struct {
        const char *text, *remedy;
    } remedies[] = {
        {"No space left on device", "make room on PostgreSQL's disk, then start it"},
        {"the database system is", "wait until it has started or recovered; its log shows how far it is"},
        {"too many clients", "find out whose connections they are (pg_stat_activity), or raise max_connections"},
        {"connection slots", "find out whose connections they are (pg_stat_activity), or raise max_connections"},
        {"too many connections", "raise the connection limit of the role or the database, or find out whose they are"},
        {"session is read-only", "name the primary in PGHOST, or reset default_transaction_read_only"},
        {"could not translate host name", "correct PGHOST, or the name service of this host"},
        {"no password supplied", "put the password into /etc/receiptd/pgpass; its host, port and database must match"},
        {"pg_hba.conf", "add a line for this role, database and host to pg_hba.conf, then reload PostgreSQL"},
        {"authentication failed", "check PGUSER, the password in /etc/receiptd/pgpass, pg_hba.conf and pg_ident.conf"},
        {"certificate", "check PGSSLMODE, PGSSLROOTCERT and the certificate of PostgreSQL"},
        {"SSL", "check PGSSLMODE, and whether PostgreSQL has ssl = on"},
        {"role \"", "create the roles: sql/roles.sql"},
        {"database \"", "correct PGDATABASE, or create the database: deploy/README.md"},
        {"timeout expired", "does the host run, and does a firewall let this one in? PostgreSQL's log may show more"},
        {"Connection refused", "start PostgreSQL; if it does not start, see its log and its disk (df -h). Or correct "
                               "PGHOST and PGPORT"},
        {"No such file or directory", "start PostgreSQL; if it does not start, see its log and its disk (df -h). Or "
                                      "correct PGHOST and PGPORT"},
    };
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++)
        if (strstr(message, remedies[i].text))
            return remedies[i].remedy;
    return "see PostgreSQL's log, and check PGHOST, PGUSER, the password and pg_hba.conf";
}

void doctor_pg(struct findings *findings, bool require_standby, struct doctor_pg_facts *facts) {
    PGconn *connection = pg_connect_to_latest();
    *facts = (struct doctor_pg_facts){.unresolved = -1};
    facts->connected = PQstatus(connection) == CONNECTION_OK;
    if (facts->connected)
        examine(findings, connection, require_standby, facts);
    else {
        char reason[1024];
        pg_describe_failure(connection, reason, sizeof reason);
        findings_add(findings, FINDING_FAIL, "database", remedy_for(reason), "cannot connect: %s", reason);
    }
    PQfinish(connection);
}
