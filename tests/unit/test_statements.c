/* statements.h: what every statement has to be like, for any number of rows. tests/sql and the store execute them. */
#include "statements.h"

#include "unit.h"

#include <ctype.h>

static const struct receipt_columns all;
static const size_t row_counts[] = {1, 2, 7};
static const char keep_when[] = "r.sku = 'kept'";

/* Ends in NUL; the caller frees it. */
static char *write_statement(enum statement statement, size_t rows, const char *keep) {
    struct buffer sql;
    buffer_init(&sql);
    statements_write(&sql, statement, rows, &(struct statements_options){.keep_when = keep});
    buffer_append(&sql, "", 1);
    assert_false(sql.failed);
    assert_int_equal(strlen(sql.data), sql.len - 1);
    return sql.data;
}

static void parameters_are_numbered_row_by_row(void **state) {
    (void)state;
    for (int statement = 0; statement < STATEMENT_COUNT; statement++)
        for (size_t r = 0; r < COUNT_OF(row_counts); r++) {
            char *sql = write_statement((enum statement)statement, row_counts[r], NULL);
            size_t row_parameters = statements_row_parameters((enum statement)statement, &all);
            struct buffer values;
            buffer_init(&values);
            for (size_t i = 0; i < row_counts[r] * row_parameters; i++)
                buffer_append_format(&values, "%s$%zu",
                                     i == 0                    ? "values ("
                                     : i % row_parameters == 0 ? "),("
                                                               : ",",
                                     i + 1);
            buffer_append(&values, ")", 2); /* with its NUL */
            const char *found = strstr(sql, values.data);
            expect_row(found && !strchr(found + values.len, '$') && memchr(sql, '$', (size_t)(found - sql)) == NULL,
                       "%s of %zu rows: %s", statements_name((enum statement)statement), row_counts[r], sql);
            buffer_fini(&values);
            free(sql);
        }
    end_table();
}

static void every_parameter_has_a_column(void **state) {
    (void)state;
    static const char *const in_front[] = {
        [STATEMENT_UPSERT] = "into inventory.receipts as r (",
        [STATEMENT_INSERT] = "into inventory.receipts as r (",
        [STATEMENT_REVISE] = " as delivery (",
        [STATEMENT_LOOKUP] = " as v (",
        [STATEMENT_REJECT] = "into inventory.rejected_receipts as r (",
    };
    for (int statement = 0; statement < STATEMENT_COUNT; statement++) {
        char *sql = write_statement((enum statement)statement, 1, NULL);
        const char *list = strstr(sql, in_front[statement]);
        size_t columns = 1;
        for (const char *at = list ? list + strlen(in_front[statement]) : ""; *at && *at != ')'; at++)
            columns += *at == ',';
        expect_row(columns == statements_row_parameters((enum statement)statement, &all), "%s: %zu columns: %s",
                   statements_name((enum statement)statement), columns, sql);
        free(sql);
    }
    end_table();
}

static void a_full_batch_fits_into_the_protocol(void **state) {
    (void)state;
    for (int statement = 0; statement < STATEMENT_COUNT; statement++)
        expect_row(statements_row_parameters((enum statement)statement, &all) <=
                       statements_row_parameters(STATEMENT_UPSERT, &all),
                   "%s has more parameters than upsert, by which batches are bounded",
                   statements_name((enum statement)statement));
    end_table();
}

static void only_the_upsert_keeps_rows(void **state) {
    (void)state;
    for (int statement = 0; statement < STATEMENT_COUNT; statement++) {
        char *without = write_statement((enum statement)statement, 2, NULL);
        char *with = write_statement((enum statement)statement, 2, keep_when);
        bool has = strstr(with, keep_when) != NULL;
        expect_row(has == (statement == STATEMENT_UPSERT) && has == (strcmp(with, without) != 0), "%s: %s",
                   statements_name((enum statement)statement), with);
        expect_row(!strstr(without, "kept") && !strstr(without, "null)"), "%s: %s",
                   statements_name((enum statement)statement), without);
        free(without);
        free(with);
    }
    end_table();
}

/* They are names of prepared statements, with the number of rows behind them. */
static void names_tell_statements_apart(void **state) {
    (void)state;
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        const char *name = statements_name((enum statement)i);
        expect_row(*name && strlen(name) < 20, "name %d is %s", i, name);
        for (const char *c = name; *c; c++)
            expect_row(islower((unsigned char)*c), "name %d is %s", i, name);
        for (int j = 0; j < i; j++)
            expect_row(strcmp(name, statements_name((enum statement)j)) != 0, "%d and %d are %s", i, j, name);
    }
    end_table();
}

/* They are no content: stored and replaced with it, but not compared. */
static void the_senders_headers_are_stored_and_not_compared(void **state) {
    (void)state;
    static const struct {
        enum statement statement;
        const char *set;
    } rows[] = {{STATEMENT_UPSERT, " sender_headers = excluded.sender_headers,"},
                {STATEMENT_INSERT, NULL},
                {STATEMENT_REVISE, " sender_headers = v.sender_headers,"},
                {STATEMENT_REJECT, NULL}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *sql = write_statement(rows[i].statement, 1, NULL);
        expect_row((strstr(sql, "sender_headers)") || strstr(sql, "sender_headers, digest, deliveries")) &&
                       (!rows[i].set || strstr(sql, rows[i].set)) && !strstr(sql, "r.sender_headers"),
                   "%s", sql);
        free(sql);
    }
    end_table();
}

/* Whether a name stands in it that is not part of a longer one. */
static bool names(const char *sql, const char *name) {
    size_t len = strlen(name);
    for (const char *at = strstr(sql, name); at; at = strstr(at + 1, name))
        if (!isalnum((unsigned char)at[-1]) && at[-1] != '_' && !isalnum((unsigned char)at[len]) && at[len] != '_')
            return true;
    return false;
}

static void every_column_is_stored_and_compared(void **state) {
    (void)state;
    static const enum statement statements[] = {STATEMENT_UPSERT, STATEMENT_INSERT, STATEMENT_REVISE, STATEMENT_LOOKUP};
    size_t columns = 0;
    for (size_t f = 0; f < RECEIPT_FIELD_COUNT; f++) {
        const char *column = receipt_fields[f].column;
        if (!column)
            continue;
        columns++;
        for (size_t s = 0; s < COUNT_OF(statements); s++) {
            char *sql = write_statement(statements[s], 1, NULL);
            bool writes = statements[s] != STATEMENT_LOOKUP;
            char *old = format_text("r.%s", column), *set = format_text(" %s = ", column);
            expect_row(names(sql, column), "%s has no %s", statements_name(statements[s]), column);
            if (statements[s] != STATEMENT_INSERT && !receipt_fields[f].key)
                expect_row(names(sql, old), "%s does not look at %s", statements_name(statements[s]), old);
            if (writes && statements[s] != STATEMENT_INSERT)
                expect_row((strstr(sql, set) != NULL) == !receipt_fields[f].key, "%s: %s", set, sql);
            free(old);
            free(set);
            free(sql);
        }
    }
    assert_int_equal(columns, RECEIPT_COLUMN_COUNT);
    end_table();
}

/* A column that the table lacks is in no statement, and takes no parameter. */
static void a_missing_column_is_left_out(void **state) {
    (void)state;
    for (size_t f = 0; f < RECEIPT_FIELD_COUNT; f++) {
        struct statements_options options = {.columns.missing_count = 1};
        if (!receipt_fields[f].column || receipt_fields[f].key)
            continue;
        options.columns.missing[f] = true;
        for (int statement = 0; statement <= STATEMENT_LOOKUP; statement++) {
            struct buffer sql;
            char last[16];
            size_t parameters = statements_row_parameters((enum statement)statement, &options.columns);
            buffer_init(&sql);
            statements_write(&sql, (enum statement)statement, 1, &options);
            buffer_append(&sql, "", 1);
            snprintf(last, sizeof last, "$%zu)", parameters);
            expect_row(!names(sql.data, receipt_fields[f].column), "%s names %s", sql.data, receipt_fields[f].column);
            expect_row(strstr(sql.data, last) != NULL, "%s does not end its values in %s", sql.data, last);
            expect_row(parameters + (statement != STATEMENT_LOOKUP) ==
                           statements_row_parameters((enum statement)statement, &all),
                       "%s: %zu parameters", statements_name((enum statement)statement), parameters);
            buffer_fini(&sql);
        }
    }
    end_table();
}

/* With settings that are wrong a statement fails, before anything is committed. */
static void every_statement_looks_at_the_settings(void **state) {
    (void)state;
    static const char *const settings[] = {"fsync", "full_page_writes", "synchronous_commit",
                                           "session_replication_role", "client_min_messages"};
    for (int statement = 0; statement < STATEMENT_COUNT; statement++)
        for (int require_standby = 0; require_standby < 2; require_standby++) {
            struct buffer sql;
            buffer_init(&sql);
            statements_write(&sql, (enum statement)statement, 1,
                             &(struct statements_options){.require_standby = require_standby});
            buffer_append(&sql, "", 1);
            for (size_t i = 0; i < COUNT_OF(settings); i++)
                expect_row(names(sql.data, settings[i]), "%s: %s", settings[i], sql.data);
            expect_row(strstr(sql.data, "else current_setting('" STATEMENTS_UNSAFE "')::boolean") != NULL, "%s",
                       sql.data);
            expect_row((strstr(sql.data, "current_setting('synchronous_standby_names') <> ''") != NULL) ==
                           require_standby,
                       "%s", sql.data);
            expect_row(names(sql.data, "receipts_keep_revision") ==
                           (statement != STATEMENT_LOOKUP && statement != STATEMENT_REJECT),
                       "%s", sql.data);
            buffer_fini(&sql);
        }
    end_table();
}

static void citus_gets_what_it_takes(void **state) {
    (void)state;
    for (int statement = STATEMENT_UPSERT; statement <= STATEMENT_INSERT; statement++)
        for (int on_citus = 0; on_citus < 2; on_citus++) {
            struct buffer sql;
            buffer_init(&sql);
            statements_write(&sql, (enum statement)statement, 2, &(struct statements_options){.on_citus = on_citus});
            buffer_append(&sql, "", 1);
            assert_false(sql.failed);
            const char *returning = strstr(sql.data, " returning ");
            assert_non_null(returning);
            assert_int_equal(strstr(returning, "current_setting") == NULL, on_citus);
            assert_int_equal(strstr(returning, ", true, request_id") != NULL, on_citus);
            buffer_fini(&sql);
        }
}

static void no_memory_is_told(void **state) {
    (void)state;
    char storage[40];
    struct buffer sql;
    for (int statement = 0; statement < STATEMENT_COUNT; statement++) {
        buffer_init_fixed(&sql, storage, sizeof storage);
        statements_write(&sql, (enum statement)statement, 7, &(struct statements_options){.keep_when = keep_when});
        assert_true(sql.failed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_has_a_column),
        cmocka_unit_test(parameters_are_numbered_row_by_row),
        cmocka_unit_test(a_full_batch_fits_into_the_protocol),
        cmocka_unit_test(only_the_upsert_keeps_rows),
        cmocka_unit_test(names_tell_statements_apart),
        cmocka_unit_test(the_senders_headers_are_stored_and_not_compared),
        cmocka_unit_test(every_column_is_stored_and_compared),
        cmocka_unit_test(a_missing_column_is_left_out),
        cmocka_unit_test(every_statement_looks_at_the_settings),
        cmocka_unit_test(citus_gets_what_it_takes),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests_name("statements", tests, NULL, NULL);
}
