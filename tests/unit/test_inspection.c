/* inspection.h: which settings and schemas are fit to store in. The results are made as libpq would make them. */
#include "inspection.h"

#include "unit.h"

static const struct {
    const char *name, *value;
} fine[] = {
    {"pg_is_in_recovery()", "false"},  {"default_transaction_read_only", "off"},
    {"server_encoding", "UTF8"},       {"fsync", "on"},
    {"full_page_writes", "on"},        {"synchronous_commit", "on"},
    {"synchronous_standby_names", ""}, {"session_replication_role", "origin"},
    {"client_min_messages", "notice"}, {"lock_timeout", "250"},
    {"statement_timeout", "3000"},     {"max_wal_senders", "10"},
};

static PGresult *make_result(int columns) {
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc attributes[4] = {
        {.name = (char[]){"a"}}, {.name = (char[]){"b"}}, {.name = (char[]){"c"}}, {.name = (char[]){"d"}}};
    assert_int_equal(PQsetResultAttrs(result, columns, attributes), 1);
    return result;
}

static void add_row(PGresult *result, const char *const *values, int columns) {
    int row = PQntuples(result);
    for (int i = 0; i < columns; i++)
        assert_int_equal(PQsetvalue(result, row, i, (char *)values[i], (int)strlen(values[i])), 1);
}

/* What a server says on which `name`, if any, has another value; without the column of field `missing`, if >= 0. */
static PGresult *make_server(const char *name, const char *value, int missing) {
    PGresult *result = make_result(4);
    for (size_t i = 0; i < COUNT_OF(fine); i++) {
        bool other = name && strcmp(fine[i].name, name) == 0;
        add_row(result, (const char *[]){"setting", fine[i].name, other ? value : fine[i].value, "database"}, 4);
    }
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++)
        if (receipt_fields[i].column && i != missing)
            add_row(result, (const char *[]){"column", receipt_fields[i].column, "text", ""}, 4);
    add_row(result, (const char *[]){"fact", "standbys", "2", ""}, 4);
    return result;
}

static void a_setting_decides(void **state) {
    (void)state;
    static const struct {
        const char *name, *value;
        bool require_standby;
        enum inspection_verdict verdict;
    } rows[] = {
        {NULL, NULL, false, INSPECTION_FIT},
        {"pg_is_in_recovery()", "true", false, INSPECTION_UNFIT},
        {"default_transaction_read_only", "on", false, INSPECTION_UNFIT},
        {"server_encoding", "LATIN1", false, INSPECTION_UNFIT},
        {"fsync", "off", false, INSPECTION_UNFIT},
        {"full_page_writes", "off", false, INSPECTION_UNFIT},
        {"synchronous_commit", "off", false, INSPECTION_UNFIT},
        {"synchronous_commit", "local", false, INSPECTION_FIT},
        {"synchronous_commit", "remote_write", false, INSPECTION_FIT},
        {"synchronous_commit", "remote_apply", false, INSPECTION_FIT},
        {"synchronous_standby_names", "a", false, INSPECTION_FIT},
        {"synchronous_standby_names", "a", true, INSPECTION_FIT},
        {"synchronous_standby_names", "", true, INSPECTION_UNFIT},
        {"max_wal_senders", "0", false, INSPECTION_FIT},
        {"max_wal_senders", "0", true, INSPECTION_UNFIT},
        {"session_replication_role", "replica", false, INSPECTION_UNFIT},
        {"session_replication_role", "local", false, INSPECTION_FIT},
        {"client_min_messages", "error", false, INSPECTION_UNFIT},
        {"client_min_messages", "panic", false, INSPECTION_UNFIT},
        {"client_min_messages", "warning", false, INSPECTION_FIT},
        {"client_min_messages", "debug5", false, INSPECTION_FIT},
        {"lock_timeout", "0", false, INSPECTION_SLOW},
        {"lock_timeout", "5000", false, INSPECTION_SLOW},
        {"statement_timeout", "0", false, INSPECTION_SLOW},
        {"statement_timeout", "5000", false, INSPECTION_FIT},
        {"statement_timeout", "15000", false, INSPECTION_SLOW},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        PGresult *server = make_server(rows[i].name, rows[i].value, -1), *cluster = make_result(3);
        struct inspection found;
        inspection_read(&found, server, cluster, NULL, rows[i].require_standby);
        expect_row(found.verdict == rows[i].verdict && !*found.receipts_problem, "%s=%s: %d %s", rows[i].name,
                   rows[i].value, (int)found.verdict, found.problem);
        if (found.verdict != INSPECTION_FIT) /* which one, and who has set it */
            expect_row(strstr(found.problem, rows[i].name) && strstr(found.problem, "(set by: database)"), "%s",
                       found.problem);
        expect_row(found.standbys == 2 && found.timeline == 0 && found.columns.missing_count == 0, "row %zu", i);
        PQclear(server);
        PQclear(cluster);
    }
    end_table();
}

/* A role that may not see where in a cluster the server is. */
static void a_commit_of_which_nothing_is_known_waited_for_no_standby(void **state) {
    (void)state;
    PGresult *server = make_server("synchronous_standby_names", "a", -1);
    struct inspection found;
    inspection_read(&found, server, NULL, NULL, false);
    assert_int_equal(found.verdict, INSPECTION_FIT);
    inspection_read(&found, server, NULL, NULL, true);
    assert_int_equal(found.verdict, INSPECTION_UNFIT);
    assert_non_null(strstr(found.problem, "pg_control_system"));
    PQclear(server);
}

static void a_missing_column_is_noted_and_one_of_the_key_is_needed(void **state) {
    (void)state;
    for (int f = 0; f < RECEIPT_FIELD_COUNT; f++) {
        if (!receipt_fields[f].column)
            continue;
        PGresult *server = make_server(NULL, NULL, f);
        struct inspection found;
        inspection_read(&found, server, NULL, NULL, false);
        expect_row(found.columns.missing_count == 1 && found.columns.missing[f], "%s", receipt_fields[f].column);
        expect_row(!*inspection_problem(&found, INSPECTION_RECEIPTS) == !receipt_fields[f].key, "%s: %s",
                   receipt_fields[f].column, found.receipts_problem);
        expect_row(!*inspection_problem(&found, INSPECTION_REJECTIONS), "%s", receipt_fields[f].column);
        PQclear(server);
    }
    end_table();
}

static void what_the_schema_says_is_told(void **state) {
    (void)state;
    PGresult *server = make_server(NULL, NULL, -1), *check = make_result(3), *cluster = make_result(3);
    struct inspection found, other;
    add_row(cluster, (const char *[]){"7318945012345678901", "3", "2026-11-28 05:00:00+00"}, 3);
    inspection_read(&found, server, cluster, check, false);
    assert_int_equal(found.verdict, INSPECTION_FIT);
    assert_true(found.system_identifier == 7318945012345678901u && found.timeline == 3);
    assert_string_equal(found.loaded_at, "2026-11-28 05:00:00+00");
    add_row(check, (const char *[]){"one", "do this", "receipts"}, 3);
    add_row(check, (const char *[]){"another", "do that", "rejections"}, 3);
    add_row(check, (const char *[]){"both", "do it", "all"}, 3);
    inspection_read(&other, server, cluster, check, false);
    assert_int_equal(other.verdict, INSPECTION_FIT);
    assert_string_equal(inspection_problem(&other, INSPECTION_RECEIPTS), "one; both");
    assert_string_equal(inspection_problem(&other, INSPECTION_REJECTIONS), "another; both");
    assert_string_equal(inspection_problem(&other, INSPECTION_ALL), "one; another; both");
    assert_false(inspection_equal(&found, &other));
    assert_true(inspection_equal(&found, &found));
    PQclear(server);
    PQclear(cluster);
    PQclear(check);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_setting_decides),
        cmocka_unit_test(a_commit_of_which_nothing_is_known_waited_for_no_standby),
        cmocka_unit_test(a_missing_column_is_noted_and_one_of_the_key_is_needed),
        cmocka_unit_test(what_the_schema_says_is_told),
    };
    return cmocka_run_group_tests_name("inspection", tests, NULL, NULL);
}
