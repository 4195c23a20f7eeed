/* parameters.h: what a statement is given. (That PostgreSQL takes it is for fuzz_batch and the end-to-end tests.) */
#include "parameters.h"

#include "unit.h"

enum { EXTRA_BYTES = 1024 * 1024, ROWS = 64 };

/* A lookup is prepared for some numbers of rows: those that are too many must cost nothing. */
static void rows_that_look_up_nothing_have_no_key_and_no_content(void **state) {
    (void)state;
    static const struct receipt_columns columns;
    static struct delivery delivery;
    struct delivery *deliveries[] = {&delivery};
    struct parameters parameters;
    char *extra = malloc(EXTRA_BYTES);
    assert_non_null(extra);
    memset(extra, ' ', EXTRA_BYTES);
    delivery.receipt.extra = extra;
    delivery.receipt.extra_len = EXTRA_BYTES;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++)
        delivery.receipt.values[receipt_key_fields[k]] = (struct receipt_value){"key", 3, RECEIPT_VALUE_STRING};
    assert_true(parameters_init(&parameters, ROWS));
    assert_true(parameters_set_receipts(&parameters, STATEMENT_LOOKUP, &columns, deliveries, 1, ROWS, false));
    size_t each = statements_row_parameters(STATEMENT_LOOKUP, &columns), bytes = 0;
    for (size_t i = 0; i < ROWS * each; i++) {
        bool is_key = i % each < RECEIPT_KEY_COUNT;
        expect_row(!is_key || (parameters.values[i] != NULL) == (i < each), "parameter %zu", i);
        expect_row(parameters.types[i] == parameters.types[i % each], "parameter %zu has another type", i);
        bytes += (size_t)parameters.lengths[i];
    }
    expect_row(bytes < EXTRA_BYTES + ROWS * 100 && parameters.json.capacity < 2 * EXTRA_BYTES, "%zu bytes", bytes);
    parameters_fini(&parameters);
    free(extra);
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_look_up_nothing_have_no_key_and_no_content),
    };
    return cmocka_run_group_tests_name("parameters", tests, NULL, NULL);
}
