#include "inspection.h"

#include "pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCK_TIMEOUT_MAX_MS = 1000, STATEMENT_TIMEOUT_MAX_MS = 5000 };

/*
 * Rows of a kind, a name, a value, and more: of a setting who has set it (pg_settings: a configuration file, a role, a
 * database, the client's PGOPTIONS, …), of a column its type.
 */
const char inspection_query[] =
    "select 'setting', name, setting, source from pg_catalog.pg_settings where name in ('fsync', 'full_page_writes',"
    " 'synchronous_commit', 'synchronous_standby_names', 'default_transaction_read_only', 'server_encoding',"
    " 'lock_timeout', 'statement_timeout', 'client_min_messages', 'session_replication_role', 'max_wal_senders',"
    " 'citus.version')"
    " union all select 'setting', 'pg_is_in_recovery()', pg_catalog.pg_is_in_recovery()::text, 'standby'"
    /* PostgreSQL: "synchronous_standby_names": [FIRST | ANY] number (names), or names, of which one is waited for. */
    " union all select 'fact', 'standbys', case when current_setting('synchronous_standby_names') = ''"
    /* Then PostgreSQL waits for none (syncrep.h: SyncRepRequested). */
    " or current_setting('max_wal_senders') = '0'"
    " or current_setting('synchronous_commit') in ('off', 'local') then '0' else coalesce((regexp_match("
    "current_setting('synchronous_standby_names'),"
    " '^[[:space:]]*(first[[:space:]]+|any[[:space:]]+)?([0-9]+)[[:space:]]*[(]', 'i'))[2], '1') end, null"
    " union all select 'fact', 'cluster', 'true', null where (select bool_and(has_function_privilege("
    "'pg_catalog.' || name, 'execute')) from unnest(array['pg_control_system()', 'pg_walfile_name(pg_lsn)',"
    " 'pg_current_wal_lsn()', 'pg_conf_load_time()']) as name)"
    /* By name, since a cast to regclass fails without usage on the schema. */
    " union all select 'fact', 'hides_flush', 'true', null where not (has_function_privilege("
    "'pg_catalog.pg_current_wal_insert_lsn()', 'execute') and has_function_privilege("
    "'pg_catalog.pg_current_wal_flush_lsn()', 'execute'))"
    /*
     * pg_trigger.h: 1 for each row, 2 before, 4 insert, 16 update. Ours are known by their functions, not by the schema
     * of these: with the search_path of sql/README.md, a function of the DBA's is made in inventory too.
     */
    " union all select distinct 'fact', case when tgtype & 3 = 3 then 'foreign_triggers' else 'foreign_after_triggers'"
    " end, 'true', null from pg_catalog.pg_trigger as t"
    " join pg_catalog.pg_class as c on c.relname = 'receipts' join pg_catalog.pg_namespace as n on n.oid = relnamespace"
    " join pg_catalog.pg_proc as p on p.oid = tgfoid where nspname = 'inventory' and (tgrelid = c.oid or tgrelid in"
    " (select inhrelid from pg_catalog.pg_inherits where inhparent = c.oid))"
    " and not tgisinternal and tgenabled <> 'D' and tgtype & 20 <> 0 and not (pronamespace = n.oid and proname in"
    " ('number_revision', 'apply_once', 'stamp_receipt', 'keep_erased', 'fold_extra', 'keep_revision', 'tell_written',"
    " 'log_manual_change'))"
    " union all select 'fact', 'check', 'true', null from pg_catalog.pg_proc as p"
    " join pg_catalog.pg_namespace as n on n.oid = p.pronamespace where nspname = 'inventory' and proname ="
    " 'schema_problems' and has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute')"
    " union all select 'column', attname, format_type(atttypid, null), null from pg_catalog.pg_attribute"
    " join pg_catalog.pg_class as c on c.oid = attrelid join pg_catalog.pg_namespace as n on n.oid = relnamespace"
    " where nspname = 'inventory' and relname = 'receipts' and attnum > 0 and not attisdropped"
    /* The history takes those columns only that it has too. */
    " and exists (select from pg_catalog.pg_attribute as h join pg_catalog.pg_class as c on c.oid = h.attrelid"
    " where relnamespace = n.oid and relname = 'receipt_revisions' and h.attname = pg_attribute.attname"
    " and h.attnum > 0 and not h.attisdropped)"
    /* Others are a DBA's own, whatever their names. The text of the function lists ours, as sql/deploy/moved_fields.sql
       says. */
    " and attname = any (coalesce((select string_to_array((regexp_match(prosrc, '[{](.*)[}]'))[1], ',')"
    " from pg_catalog.pg_proc where pronamespace = n.oid and proname = 'field_columns'), array[attname::text]))";
enum { KIND, NAME, VALUE, MORE };

/* The timeline is that of the log which is written now: the control file has the former one until a checkpoint. */
const char inspection_cluster_query[] =
    "select " PG_SYSTEM_IDENTIFIER ", " PG_TIMELINE ", pg_catalog.pg_conf_load_time()";

/* A problem that names rejected_receipts concerns nothing else, one of another table receipts, and the others all. */
const char inspection_check_query[] =
    "select problem, advice, case when problem ~ 'rejected_receipts' then 'rejections'"
    " when problem ~ '(receipts|receipt_revisions|inventory[.])' then 'receipts' else 'all' end"
    " from inventory.schema_problems()";

static int find(const PGresult *result, const char *kind, const char *name) {
    for (int row = 0; row < PQntuples(result); row++)
        if (strcmp(PQgetvalue(result, row, KIND), kind) == 0 && strcmp(PQgetvalue(result, row, NAME), name) == 0)
            return row;
    return -1;
}

static const char *value_of(const PGresult *result, const char *kind, const char *name) {
    int row = find(result, kind, name);
    return row < 0 ? "" : PQgetvalue(result, row, VALUE);
}

static const char *setting(const PGresult *result, const char *name) {
    return value_of(result, "setting", name);
}

bool inspection_may_ask_cluster(const PGresult *result) {
    return find(result, "fact", "cluster") >= 0;
}

bool inspection_may_ask_check(const PGresult *result) {
    return find(result, "fact", "check") >= 0;
}

static bool is(const PGresult *result, const char *name, const char *expected) {
    return strcmp(setting(result, name), expected) == 0;
}

/* PostgreSQL: "Settings", synchronous_commit: without a standby that is named, all but off wait for the local flush. */
static bool commits_are_durable(const PGresult *result, bool require_standby) {
    bool has_standby = *setting(result, "synchronous_standby_names") != '\0';
    if (is(result, "synchronous_commit", "on") || is(result, "synchronous_commit", "remote_apply"))
        return has_standby || !require_standby;
    return !has_standby && !require_standby &&
           (is(result, "synchronous_commit", "local") || is(result, "synchronous_commit", "remote_write"));
}

static bool is_brief(const PGresult *result, const char *name, long max_ms) {
    long timeout_ms = strtol(setting(result, name), NULL, 10);
    return timeout_ms > 0 && timeout_ms <= max_ms;
}

static bool warns(const PGresult *result) {
    return !is(result, "client_min_messages", "error") && !is(result, "client_min_messages", "fatal") &&
           !is(result, "client_min_messages", "panic");
}

/* The settings, in the order of importance: the first one that is wrong is told. */
static void judge_settings(struct inspection *inspection, const PGresult *result, bool require_standby) {
    bool durable = commits_are_durable(result, false);
    const struct {
        const char *name;
        bool met;
        enum inspection_verdict otherwise;
        const char *why;
    } requirements[] = {
        {"pg_is_in_recovery()", is(result, "pg_is_in_recovery()", "false"), INSPECTION_UNFIT,
         "this server takes no writes"},
        {"default_transaction_read_only", is(result, "default_transaction_read_only", "off"), INSPECTION_UNFIT,
         "this server takes no writes"},
        {"server_encoding", is(result, "server_encoding", "UTF8"), INSPECTION_UNFIT,
         "the encoding of the database must be UTF8"},
        {"fsync", is(result, "fsync", "on"), INSPECTION_UNFIT, "a crash would lose receipts"},
        {"full_page_writes", is(result, "full_page_writes", "on"), INSPECTION_UNFIT, "a crash would lose receipts"},
        {"synchronous_commit", durable, INSPECTION_UNFIT, "a crash would lose acknowledged receipts"},
        {"max_wal_senders", !require_standby || !is(result, "max_wal_senders", "0"), INSPECTION_UNFIT,
         "no commit waits for a standby, and RECEIPTD_REQUIRE_STANDBY is on"},
        {"synchronous_standby_names", !durable || commits_are_durable(result, require_standby), INSPECTION_UNFIT,
         "no commit waits for a standby, and RECEIPTD_REQUIRE_STANDBY is on"},
        {"session_replication_role", !is(result, "session_replication_role", "replica"), INSPECTION_UNFIT,
         "triggers do not fire, so the history of receipts would not be kept"},
        {"client_min_messages", warns(result), INSPECTION_UNFIT,
         "it hides the warning that a commit has not reached the standby"},
        {"lock_timeout", is_brief(result, "lock_timeout", LOCK_TIMEOUT_MAX_MS), INSPECTION_SLOW,
         "a row that another session has locked would hold up others: sql/roles.sql sets 250 ms"},
        {"statement_timeout", is_brief(result, "statement_timeout", STATEMENT_TIMEOUT_MAX_MS), INSPECTION_SLOW,
         "a delivery that takes PostgreSQL long would hold up others: sql/roles.sql sets 3 s"},
    };
    for (size_t i = 0; i < sizeof requirements / sizeof requirements[0]; i++) {
        int row = find(result, "setting", requirements[i].name);
        if (requirements[i].met)
            continue;
        const char *value = row < 0 ? "unknown" : PQgetvalue(result, row, VALUE);
        inspection->verdict = requirements[i].otherwise;
        snprintf(inspection->problem, sizeof inspection->problem, "%s is %s (set by: %s): %s", requirements[i].name,
                 *value ? value : "empty", row < 0 ? "unknown" : PQgetvalue(result, row, MORE), requirements[i].why);
        return;
    }
}

static void add_problem(char problems[INSPECTION_PROBLEM_SIZE], const char *problem) {
    size_t len = strlen(problems);
    snprintf(problems + len, INSPECTION_PROBLEM_SIZE - len, "%s%s", len > 0 ? "; " : "", problem);
}

/* What the schema says of itself: rejected deliveries need no table but their own, and receipts do not need that. */
static void judge_schema(struct inspection *inspection, const PGresult *check) {
    for (int row = 0; row < PQntuples(check); row++) {
        const char *concerns = PQgetvalue(check, row, 2), *problem = PQgetvalue(check, row, 0);
        add_problem(inspection->schema_problem, problem);
        if (strcmp(concerns, "receipts") != 0)
            add_problem(inspection->rejections_problem, problem);
        if (strcmp(concerns, "rejections") != 0)
            add_problem(inspection->receipts_problem, problem);
    }
}

static void read_columns(struct inspection *inspection, const PGresult *result) {
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        if (!field->column || find(result, "column", field->column) >= 0)
            continue;
        inspection->columns.missing[i] = true;
        inspection->columns.missing_count++;
        if (field->key && !*inspection->schema_problem) {
            static const char format[] =
                "there is no column %s in a table inventory.receipts: run sql/roles.sql and sqitch deploy in sql/";
            snprintf(inspection->receipts_problem, INSPECTION_PROBLEM_SIZE, format, field->column);
            snprintf(inspection->schema_problem, INSPECTION_PROBLEM_SIZE, format, field->column);
        }
    }
}

void inspection_read(struct inspection *inspection, const PGresult *result, const PGresult *cluster,
                     const PGresult *check, bool require_standby) {
    *inspection = (struct inspection){.has_foreign_triggers = find(result, "fact", "foreign_triggers") >= 0,
                                      .has_foreign_after_triggers = find(result, "fact", "foreign_after_triggers") >= 0,
                                      .hides_flush = find(result, "fact", "hides_flush") >= 0,
                                      .on_citus = find(result, "setting", "citus.version") >= 0,
                                      .takes_writes = is(result, "pg_is_in_recovery()", "false") &&
                                                      is(result, "default_transaction_read_only", "off"),
                                      .standbys = (unsigned)strtoul(value_of(result, "fact", "standbys"), NULL, 10)};
    if (PQntuples(cluster) == 1) {
        inspection->system_identifier = strtoull(PQgetvalue(cluster, 0, 0), NULL, 10);
        inspection->timeline = (uint32_t)strtoul(PQgetvalue(cluster, 0, 1), NULL, 10);
        snprintf(inspection->loaded_at, sizeof inspection->loaded_at, "%s", PQgetvalue(cluster, 0, 2));
    }
    judge_settings(inspection, result, require_standby);
    if (require_standby && !cluster && inspection->verdict != INSPECTION_UNFIT) {
        inspection->verdict = INSPECTION_UNFIT;
        snprintf(
            inspection->problem, sizeof inspection->problem,
            "the role may not execute pg_control_system, pg_walfile_name, pg_current_wal_lsn or pg_conf_load_time, "
            "so nothing shows whether a commit waited for a standby, and RECEIPTD_REQUIRE_STANDBY is on");
    }
    judge_schema(inspection, check);
    read_columns(inspection, result);
}

const char *inspection_problem(const struct inspection *inspection, enum inspection_use use) {
    if (inspection->verdict == INSPECTION_UNFIT)
        return inspection->problem;
    switch (use) {
    case INSPECTION_RECEIPTS:
        return inspection->receipts_problem;
    case INSPECTION_REJECTIONS:
        return inspection->rejections_problem;
    case INSPECTION_ALL:
        return inspection->schema_problem;
    }
    return "";
}

bool inspection_equal(const struct inspection *a, const struct inspection *b) {
    return a->verdict == b->verdict && strcmp(a->problem, b->problem) == 0 &&
           strcmp(a->schema_problem, b->schema_problem) == 0 && a->hides_flush == b->hides_flush &&
           a->has_foreign_triggers == b->has_foreign_triggers &&
           a->has_foreign_after_triggers == b->has_foreign_after_triggers && a->standbys == b->standbys &&
           a->timeline == b->timeline && a->system_identifier == b->system_identifier &&
           memcmp(&a->columns, &b->columns, sizeof a->columns) == 0;
}
