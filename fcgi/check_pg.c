#include "check_pg.h"

#include "pg.h"
#include "receipt.h"
#include "statements.h"

#include <string.h>

struct requirement {
    const char *query;   /* one boolean: whether it is met */
    const char *problem; /* in words, when it is not */
};

/* In this order: where one fails, those behind it would only repeat it. */
static const struct requirement requirements[] = {
    {"select coalesce(has_schema_privilege(to_regnamespace('inventory'), 'usage'), false)",
     "there is no schema inventory, or no usage on it: run sql/roles.sql and sqitch deploy"},
    {"select to_regclass('inventory.receipts') is not null",
     "there is no table inventory.receipts: run sqitch deploy in sql/"},
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
     "there is no function inventory.has_revised, or no execute on it: run sqitch deploy in sql/"},
    {"select exists (select from pg_trigger where tgrelid = 'inventory.receipts'::regclass"
     " and tgname = 'receipts_apply_once' and tgenabled in ('O', 'A'))",
     "inventory.receipts has no trigger receipts_apply_once: run sqitch deploy in sql/"},
    {"select to_regclass('inventory.rejected_receipts') is not null",
     "there is no table inventory.rejected_receipts: run sqitch deploy in sql/"},
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

static bool is_met(PGconn *connection, const char *query, FILE *out, const char *problem) {
    PGresult *result = PQexec(connection, query);
    bool answered = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    bool met = answered && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    if (!answered)
        fprintf(out, "Database: %s", PQresultErrorMessage(result));
    else if (!met)
        fprintf(out, "Database: %s\n", problem);
    PQclear(result);
    return met;
}

static bool has_column(PGconn *connection, const struct column *column, FILE *out) {
    char query[512], problem[256];
    snprintf(query, sizeof query,
             "select exists (select from pg_attribute where attrelid = 'inventory.%s'::regclass"
             " and attname = '%s' and not attisdropped and format_type(atttypid, null) = '%s')",
             column->table, column->name, column->type);
    snprintf(problem, sizeof problem, "inventory.%s has no column %s of type %s: run sqitch deploy in sql/",
             column->table, column->name, column->type);
    return is_met(connection, query, out, problem);
}

static bool check_columns(PGconn *connection, FILE *out) {
    bool ok = true;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        struct column column = {"receipts", field->column, field->type == RECEIPT_INTEGER ? "bigint" : "text"};
        if (field->column)
            ok &= has_column(connection, &column, out);
    }
    for (size_t i = 0; i < sizeof service_columns / sizeof service_columns[0]; i++)
        ok &= has_column(connection, &service_columns[i], out);
    return ok;
}

static bool settings_are_fit(PGconn *connection, FILE *out) {
    char problem[256] = "";
    enum pg_verdict verdict = PG_UNFIT;
    PGresult *result = PQexec(connection, pg_settings_query);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fprintf(out, "Database: %s", PQresultErrorMessage(result));
    else
        verdict = pg_judge_settings(result, problem, sizeof problem);
    PQclear(result);
    if (*problem)
        fprintf(out, "Database: %s\n", problem);
    return verdict != PG_UNFIT;
}

bool check_pg(FILE *out) {
    PGconn *connection = pg_connect();
    bool ok = PQstatus(connection) == CONNECTION_OK;
    if (ok)
        fprintf(out, "Database: %s at %s port %s as %s\n", PQdb(connection), PQhost(connection), PQport(connection),
                PQuser(connection));
    else
        fprintf(out, "Database: cannot connect: %s", PQerrorMessage(connection));
    ok = ok && settings_are_fit(connection, out);
    for (size_t i = 0; ok && i < sizeof requirements / sizeof requirements[0]; i++)
        ok = is_met(connection, requirements[i].query, out, requirements[i].problem);
    if (ok)
        ok = check_columns(connection, out);
    PQfinish(connection);
    return ok;
}
