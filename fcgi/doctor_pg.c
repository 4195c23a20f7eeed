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
    OLDEST_POSTGRESQL = 130000,
    TRANSACTIONS_CRITICAL = 1600000000, /* vacuum_failsafe_age, when PostgreSQL itself drops everything else */
};

static const char deploy[] = "run sql/roles.sql and sqitch deploy in sql/";

struct requirement {
    const char *query;   /* one boolean: whether it is met */
    const char *problem; /* in words, when it is not */
};

/* In this order: where one fails, those behind it would only repeat it. */
static const struct requirement requirements[] = {
    {"select coalesce(has_schema_privilege(to_regnamespace('inventory'), 'usage'), false)",
     "there is no schema inventory, or no usage on it"},
    {"select to_regclass('inventory.receipts') is not null", "there is no table inventory.receipts"},
    {"select has_table_privilege('inventory.receipts', 'select') and has_table_privilege('inventory.receipts', "
     "'insert')"
     " and has_table_privilege('inventory.receipts', 'update')",
     "select, insert and update on inventory.receipts are not all granted"},
    {"select exists (select from pg_index i where i.indrelid = 'inventory.receipts'::regclass and i.indisunique"
     " and i.indisvalid and i.indpred is null and"
     " (select array_agg(a.attname::text order by a.attname) from pg_attribute a"
     "   where a.attrelid = i.indrelid and a.attnum = any (i.indkey))"
     " = array['asn_number', 'program_identifier', 'unit_identifier'])",
     "inventory.receipts has no unique constraint on (" STATEMENTS_NATURAL_KEY ")"},
    {"select coalesce(has_function_privilege(to_regprocedure('inventory.has_revised(uuid, text, text, text)'),"
     " 'execute'), false)",
     "there is no function inventory.has_revised, or no execute on it"},
    {"select exists (select from pg_trigger where tgrelid = 'inventory.receipts'::regclass"
     " and tgname = 'receipts_apply_once' and tgenabled in ('O', 'A'))",
     "inventory.receipts has no trigger receipts_apply_once"},
    {"select to_regclass('inventory.rejected_receipts') is not null", "there is no table inventory.rejected_receipts"},
    {"select exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any "
     "(i.indkey)"
     " where i.indrelid = 'inventory.rejected_receipts'::regclass and i.indisunique and i.indisvalid"
     " and i.indpred is null and i.indnkeyatts = 1 and a.attname = 'request_id')",
     "inventory.rejected_receipts has no unique constraint on request_id"},
    {"select has_table_privilege('inventory.rejected_receipts', 'select')"
     " and has_table_privilege('inventory.rejected_receipts', 'insert')"
     " and has_column_privilege('inventory.rejected_receipts', 'request_id', 'update')"
     " and has_column_privilege('inventory.rejected_receipts', 'resolution', 'update')"
     " and has_column_privilege('inventory.rejected_receipts', 'resolved_at', 'update')",
     "select, insert and update (request_id, resolved_at, resolution) on inventory.rejected_receipts are not all "
     "granted"},
};

/* The columns that are not a field of the request. */
static const struct column {
    const char *table, *name, *type;
} service_columns[] = {
    {"receipts", "extra", "jsonb"},
    {"receipts", "revision", "integer"},
    {"receipts", "request_id", "uuid"},
    {"receipts", "revised_request_id", "uuid"},
    {"receipts", "api_key_name", "text"},
    {"receipts", "received_at", "timestamp with time zone"},
    {"receipts", "revised_at", "timestamp with time zone"},
    {"rejected_receipts", "rejection_id", "uuid"},
    {"rejected_receipts", "received_at", "timestamp with time zone"},
    {"rejected_receipts", "request_id", "uuid"},
    {"rejected_receipts", "api_key_name", "text"},
    {"rejected_receipts", "status", "smallint"},
    {"rejected_receipts", "message", "text"},
    {"rejected_receipts", "errors", "jsonb"},
    {"rejected_receipts", "body", "bytea"},
    {"rejected_receipts", "program_identifier", "text"},
    {"rejected_receipts", "asn_number", "text"},
    {"rejected_receipts", "unit_identifier", "text"},
    {"rejected_receipts", "resolved_at", "timestamp with time zone"},
    {"rejected_receipts", "resolution", "text"},
};

/* The first value of an answer, or NULL, having said so; *result is the caller's to clear in both cases. */
static const char *ask(struct findings *findings, PGconn *connection, const char *query, PGresult **result) {
    *result = PQexec(connection, query);
    if (PQresultStatus(*result) == PGRES_TUPLES_OK && PQntuples(*result) >= 1)
        return PQgetvalue(*result, 0, 0);
    findings_add(findings, FINDING_FAIL, "database", "see PostgreSQL's log", "%s", PQerrorMessage(connection));
    return NULL;
}

/* Whether a query was answered, be it without a row; says so when not. *result is the caller's to clear. */
static bool has_answered(struct findings *findings, PGconn *connection, const char *query, PGresult **result) {
    *result = PQexec(connection, query);
    if (PQresultStatus(*result) == PGRES_TUPLES_OK)
        return true;
    findings_add(findings, FINDING_FAIL, "database", "see PostgreSQL's log", "%s", PQerrorMessage(connection));
    return false;
}

static bool is_met(struct findings *findings, PGconn *connection, const char *query, const char *problem) {
    PGresult *result;
    const char *answer = ask(findings, connection, query, &result);
    bool met = answer && strcmp(answer, "t") == 0;
    if (answer && !met)
        findings_add(findings, FINDING_FAIL, "schema", deploy, "%s", problem);
    PQclear(result);
    return met;
}

static bool has_column(struct findings *findings, PGconn *connection, const struct column *column) {
    char query[512], problem[256];
    snprintf(query, sizeof query,
             "select exists (select from pg_attribute where attrelid = 'inventory.%s'::regclass"
             " and attname = '%s' and not attisdropped and format_type(atttypid, null) = '%s')",
             column->table, column->name, column->type);
    snprintf(problem, sizeof problem, "inventory.%s has no column %s of type %s", column->table, column->name,
             column->type);
    return is_met(findings, connection, query, problem);
}

/* The columns for fields that are there, and all others, have their types. */
static bool has_columns(struct findings *findings, PGconn *connection, const struct receipt_columns *columns) {
    bool ok = true;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        struct column column = {"receipts", field->column, field->type == RECEIPT_INTEGER ? "bigint" : "text"};
        if (receipt_has_column(columns, i))
            ok &= has_column(findings, connection, &column);
    }
    for (size_t i = 0; i < sizeof service_columns / sizeof service_columns[0]; i++)
        ok &= has_column(findings, connection, &service_columns[i]);
    return ok;
}

static void examine_missing_columns(struct findings *findings, const struct receipt_columns *columns) {
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++)
        if (columns->missing[i] && !receipt_fields[i].key)
            findings_add(findings, FINDING_WARN, "schema", "run sqitch deploy in sql/",
                         "inventory.receipts has no column %s: the values of %s go into the column extra",
                         receipt_fields[i].column, receipt_fields[i].path);
}

/* What the workers check too: the settings, and what the schema says of itself. */
static void examine_fitness(struct findings *findings, PGconn *connection, bool require_standby,
                            struct receipt_columns *columns) {
    struct inspection found;
    PGresult *result, *check = NULL;
    if (ask(findings, connection, inspection_query, &result) &&
        (!inspection_has_check(result) || has_answered(findings, connection, inspection_check_query, &check))) {
        inspection_read(&found, result, NULL, require_standby);
        *columns = found.columns;
        if (found.verdict == INSPECTION_FIT)
            findings_add(findings, FINDING_OK, "durability", NULL,
                         "fsync, full_page_writes and synchronous_commit keep what was acknowledged");
        else
            findings_add(findings, found.verdict == INSPECTION_UNFIT ? FINDING_FAIL : FINDING_WARN, "durability",
                         "change it for the role in PostgreSQL; the workers notice within seconds", "%s",
                         found.problem);
        findings_add(findings, FINDING_OK, "cluster", NULL, "timeline %u, a commit waits for %u standbys",
                     found.timeline, found.standbys);
        for (int row = 0; row < PQntuples(check); row++)
            findings_add(findings, FINDING_FAIL, "schema", PQgetvalue(check, row, 1), "%s", PQgetvalue(check, row, 0));
        examine_missing_columns(findings, columns);
    }
    PQclear(result);
    PQclear(check);
}

static bool examine_schema(struct findings *findings, PGconn *connection, const struct receipt_columns *columns) {
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof requirements / sizeof requirements[0]; i++)
        ok = is_met(findings, connection, requirements[i].query, requirements[i].problem);
    ok = ok && has_columns(findings, connection, columns);
    if (!ok)
        return false;
    PGresult *result;
    const char *answer = ask(findings, connection, "select " PROBE_SCHEMA_VERSION, &result);
    long version = answer ? strtol(answer, NULL, 10) : 0;
    if (answer && version < STATEMENTS_SCHEMA_NEEDED)
        findings_add(findings, FINDING_FAIL, "schema", deploy, "version %ld, and this program needs %d", version,
                     STATEMENTS_SCHEMA_NEEDED);
    else if (answer)
        findings_add(findings, FINDING_OK, "schema", NULL,
                     "version %ld, this program needs %d; tables, columns, constraints and grants are there", version,
                     STATEMENTS_SCHEMA_NEEDED);
    PQclear(result);
    return true;
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
    const char *answer = ask(findings, connection,
                             "select count(*) from inventory.rejected_receipts where resolved_at is null", &result);
    facts->unresolved = answer ? strtoll(answer, NULL, 10) : -1;
    PQclear(result);
}

static void examine(struct findings *findings, PGconn *connection, bool require_standby,
                    struct doctor_pg_facts *facts) {
    struct receipt_columns columns = {0};
    int version = PQserverVersion(connection);
    struct ucred server;
    socklen_t len = sizeof server;
    /* Of a socket that listens: who made it listen (unix(7)), which with PostgreSQL is its first process. */
    if (getsockopt(PQsocket(connection), SOL_SOCKET, SO_PEERCRED, &server, &len) == 0)
        facts->server = server.pid;
    findings_add(findings, version < OLDEST_POSTGRESQL ? FINDING_FAIL : FINDING_OK, "database",
                 version < OLDEST_POSTGRESQL ? "PostgreSQL 13 or later is needed" : NULL,
                 "%s at %s port %s as %s, PostgreSQL %d.%d", PQdb(connection), PQhost(connection), PQport(connection),
                 PQuser(connection), version / 10000, version % 10000);
    examine_role(findings, connection);
    examine_fitness(findings, connection, require_standby, &columns);
    bool has_schema = examine_schema(findings, connection, &columns);
    examine_connections(findings, connection);
    examine_transaction_ids(findings, connection);
    if (has_schema) {
        examine_autovacuum(findings, connection);
        count_unresolved(findings, connection, facts);
    }
    read_clock(findings, connection, facts);
}

void doctor_pg(struct findings *findings, bool require_standby, struct doctor_pg_facts *facts) {
    PGconn *connection = pg_connect(NULL);
    *facts = (struct doctor_pg_facts){.unresolved = -1};
    facts->connected = PQstatus(connection) == CONNECTION_OK;
    if (facts->connected)
        examine(findings, connection, require_standby, facts);
    else
        findings_add(findings, FINDING_FAIL, "database", "see to PGHOST, PGUSER, the password and pg_hba.conf",
                     "cannot connect: %s", connection ? PQerrorMessage(connection) : "out of memory");
    PQfinish(connection);
}
