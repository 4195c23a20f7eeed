/* receipt.h: the table of fields, and the judgement of every value by contract.md's rules. */
#include "receipt.h"

#include "contract.h"
#include "receipt_json.h"

static struct receipt_rules rules; /* a test that widens them sets them back */

/* Decodes and judges a body; the errors as text, good until the next call. */
static const char *judge_into(const char *body, struct receipt *receipt) {
    struct receipt_json_error json_error;
    struct receipt_errors errors;
    *receipt = (struct receipt){0};
    if (receipt_json_decode(body, strlen(body), receipt, &json_error) != RECEIPT_JSON_OK)
        return "malformed";
    bool valid = receipt_validate(receipt, &rules, &errors);
    if (valid != (errors.count == 0))
        return "the result and the errors contradict each other";
    return errors_text(&errors);
}

/* Does so with a valid body in which one field is `json` (NULL: left out). */
static const char *judge(const char *path, const char *json) {
    struct receipt receipt;
    char *body = make_body_with(path, json);
    const char *errors = judge_into(body, &receipt);
    receipt_fini(&receipt);
    free(body);
    return errors;
}

static void expect_errors(const char *path, const char *json, const char *expected) {
    const char *errors = judge(path, json);
    expect_row(strcmp(errors, expected) == 0, "%s %.60s: got '%s', expected '%s'", path, json ? json : "left out",
               errors, expected);
}

/* `expected` is the code of the one error of the field itself; NULL: no error. */
static void expect_code(const struct contract_field *field, const char *json, const char *expected) {
    char errors[128] = "";
    if (expected)
        snprintf(errors, sizeof errors, "%s:%s", field->path, expected);
    expect_errors(field->path, json, errors);
}

static void the_table_is_the_contracts(void **state) {
    (void)state;
    assert_int_equal(CONTRACT_COUNT, RECEIPT_FIELD_COUNT);
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        const struct contract_field *expected = &contract[i];
        const struct receipt_field *field = &receipt_fields[i];
        const char *dot = strchr(expected->path, '.');
        enum receipt_type type = expected->type == STRING    ? RECEIPT_TEXT
                                 : expected->type == INTEGER ? RECEIPT_INTEGER
                                                             : RECEIPT_OBJECT;
        expect_row(strcmp(field->path, expected->path) == 0, "at %zu is %s, not %s", i, field->path, expected->path);
        expect_row(strcmp(field->name, dot ? dot + 1 : expected->path) == 0, "%s is named %s", field->path,
                   field->name);
        expect_row(field->type == type, "%s has another type", field->path);
        expect_row(field->required == (expected->required == REQUIRED), "%s: required is wrong", field->path);
        expect_row(!field->column == !expected->column &&
                       (!field->column || strcmp(field->column, expected->column) == 0),
                   "%s: column is wrong", field->path);
        expect_row(field->key == (expected->key == KEY), "%s: key is wrong", field->path);
        enum receipt_list list = strcmp(expected->path, "initial_condition") == 0 ? RECEIPT_CONDITIONS
                                 : strcmp(expected->path, "reference.type") == 0  ? RECEIPT_REFERENCE_TYPES
                                                                                  : RECEIPT_LIST_NONE;
        expect_row(field->list == list, "%s: list is %d", field->path, (int)field->list);
        char *values = format_text("%s", "");
        for (const char *const *value = field->values; value && *value; value++) {
            char *longer = format_text("%s%s ", values, *value);
            free(values);
            values = longer;
        }
        expect_row(strcmp(values, expected->values ? expected->values : "") == 0, "%s may be %s", field->path, values);
        free(values);
    }
    end_table();
}

static void every_field_stands_in_its_object(void **state) {
    (void)state;
    static const char *const objects[RECEIPT_OBJECT_COUNT] = {
        [RECEIPT_FROM] = "from", [RECEIPT_TO] = "to", [RECEIPT_REFERENCE] = "reference"};
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        const char *object = objects[field->object];
        size_t len = object ? strlen(object) : 0;
        expect_row(object ? strncmp(field->path, object, len) == 0 && field->path[len] == '.'
                          : !strchr(field->path, '.'),
                   "%s stands in another object", field->path);
        if (field->type == RECEIPT_OBJECT)
            expect_row(strcmp(objects[field->opens], field->path) == 0, "%s opens another object", field->path);
    }
    end_table();
}

static void the_key_is_program_asn_unit(void **state) {
    (void)state;
    static const char *const key[] = {"program_identifier", "asn_number", "unit_identifier"};
    assert_int_equal(RECEIPT_KEY_COUNT, COUNT_OF(key));
    for (size_t i = 0; i < COUNT_OF(key); i++)
        assert_string_equal(receipt_fields[receipt_key_fields[i]].path, key[i]);
}

static void error_codes_have_the_vendors_names(void **state) {
    (void)state;
    assert_string_equal(receipt_error_names[RECEIPT_MISSING_FIELD], "missing_field");
    assert_string_equal(receipt_error_names[RECEIPT_INVALID_TYPE], "invalid_type");
    assert_string_equal(receipt_error_names[RECEIPT_INVALID_VALUE], "invalid_value");
    assert_string_equal(receipt_error_names[RECEIPT_TOO_LONG], "too_long");
    assert_string_equal(receipt_error_names[RECEIPT_OUT_OF_RANGE], "out_of_range");
}

static void a_field_is_found_from_every_hint(void **state) {
    (void)state;
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        for (int hint = 0; hint <= RECEIPT_FIELD_COUNT; hint++)
            expect_row(receipt_find_field(field->object, field->name, strlen(field->name), hint) == i,
                       "%s from hint %d", field->path, hint);
    }
    end_table();
}

static void what_is_no_field_is_not_found(void **state) {
    (void)state;
    static const struct {
        enum receipt_object object;
        const char *name;
    } rows[] = {
        {RECEIPT_BODY, ""},
        {RECEIPT_BODY, "identifier"},
        {RECEIPT_BODY, "type"},
        {RECEIPT_BODY, "asn_numbe"},
        {RECEIPT_BODY, "asn_number2"},
        {RECEIPT_BODY, "ASN_NUMBER"},
        {RECEIPT_BODY, "asn_number "},
        {RECEIPT_BODY, "from.identifier"},
        {RECEIPT_BODY, "from_identifier"},
        {RECEIPT_FROM, "original_identifier"},
        {RECEIPT_FROM, "sku"},
        {RECEIPT_TO, "alternate_identifier"},
        {RECEIPT_REFERENCE, "original_identifier"},
        {RECEIPT_FROM, "from"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (int hint = 0; hint <= RECEIPT_FIELD_COUNT; hint++)
            expect_row(receipt_find_field(rows[i].object, rows[i].name, strlen(rows[i].name), hint) == -1,
                       "'%s' in object %d", rows[i].name, (int)rows[i].object);
    end_table();
}

static void a_full_body_is_valid(void **state) {
    (void)state;
    struct receipt receipt;
    char *body = make_body(NULL, 0, NULL);
    assert_string_equal(judge_into(body, &receipt), "");
    assert_int_equal(receipt_value_integer(&receipt.values[RECEIPT_FIELD_TO_IDENTIFIER]), 1352);
    receipt_fini(&receipt);
    free(body);
}

static void only_required_fields_are_needed(void **state) {
    (void)state;
    struct change changes[CONTRACT_COUNT];
    size_t count = 0;
    struct receipt receipt;
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        if (!contract[i].required)
            changes[count++] = (struct change){contract[i].path, NULL};
    char *body = make_body(changes, count, NULL);
    assert_null(strstr(body, "reference"));
    assert_string_equal(judge_into(body, &receipt), "");
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        expect_row(receipt_value_is_absent(&receipt.values[i]) == !contract[i].required, "%s", contract[i].path);
    end_table();
    receipt_fini(&receipt);
    free(body);
}

static void a_field_left_out_or_null_is_missing_where_required(void **state) {
    (void)state;
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        if (contract[i].type == OBJECT)
            continue;
        expect_code(&contract[i], NULL, contract[i].required ? "missing_field" : NULL);
        expect_code(&contract[i], "null", contract[i].required ? "missing_field" : NULL);
    }
    end_table();
}

static void blank_required_string_is_missing(void **state) {
    (void)state;
    static const char *const blanks[] = {
        "\"\"",    "\" \"",       "\"\\t\"", "\"\\n\"",     "\"\\u000b\"",
        "\"\\f\"", "\"\\u000c\"", "\"\\r\"", "\"\\u0020\"", "\"  \\t\\r\\n \\u000b\\f\""};
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        for (size_t b = 0; b < COUNT_OF(blanks) && contract[i].type == STRING; b++)
            if (contract[i].required)
                expect_code(&contract[i], blanks[b], "missing_field");
    end_table();
}

static void blank_optional_string_is_absent(void **state) {
    (void)state;
    static const char *const blanks[] = {"\"\"", "\" \"", "\"\\t\"", "\"\\n\\u000b\\f\\r\""};
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        for (size_t b = 0; b < COUNT_OF(blanks) && contract[i].type == STRING && !contract[i].required; b++) {
            struct receipt receipt;
            char *body = make_body_with(contract[i].path, blanks[b]);
            const char *errors = judge_into(body, &receipt);
            expect_row(*errors == '\0' && receipt_value_is_absent(&receipt.values[i]), "%s %s: '%s'", contract[i].path,
                       blanks[b], errors);
            receipt_fini(&receipt);
            free(body);
        }
    }
    end_table();
}

static void only_ascii_white_space_is_blank(void **state) {
    (void)state;
    /* Other control characters, no-break space, next line, ideographic space, zero width space. */
    static const char *const texts[] = {"\"\\u0008\"", "\"\\u001f\"", "\"\\u007f\"", "\"\\u00a0\"",
                                        "\"\\u0085\"", "\"\\u3000\"", "\"\\u200b\"", "\" . \""};
    for (size_t t = 0; t < COUNT_OF(texts); t++)
        expect_errors("sku", texts[t], "");
    end_table();
}

static void text_is_kept_as_sent(void **state) {
    (void)state;
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"\" padded \"", " padded "},
        {"\"\\tMiXeD\\r\\n\"", "\tMiXeD\r\n"},
        {"\"NULL\"", "NULL"},
        {"\"{a,\\\"b\\\",NULL}\"", "{a,\"b\",NULL}"},
        {"\"'; drop table receipts; --\"", "'; drop table receipts; --"},
        {"\"\\\\N\\\\x00\"", "\\N\\x00"},
        {"\"e\\u0301\"", "e\xcc\x81"},
        {"\"\xc3\xa9\"", "\xc3\xa9"},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
        {"0", "0"},
        {"-0", "-0"},
        {"-17", "-17"},
        {"9205590164917312751089", "9205590164917312751089"},
        {"-9205590164917312751089", "-9205590164917312751089"},
        {"123456789012345678901234567890123456789012345678901234567890",
         "123456789012345678901234567890123456789012345678901234567890"},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        for (size_t i = 0; i < CONTRACT_COUNT; i++) {
            if (contract[i].type != STRING || contract[i].values)
                continue;
            struct receipt receipt;
            char *body = make_body_with(contract[i].path, rows[r].json);
            const char *errors = judge_into(body, &receipt);
            const struct receipt_value *value = &receipt.values[i];
            expect_row(*errors == '\0' && text_is(value->text, value->len, rows[r].text), "%s %s: '%s', %.*s",
                       contract[i].path, rows[r].json, errors, (int)value->len, value->text ? value->text : "");
            receipt_fini(&receipt);
            free(body);
        }
    }
    end_table();
}

static void other_types_in_a_string_field_are_invalid(void **state) {
    (void)state;
    static const char *const values[] = {"true",
                                         "false",
                                         "[]",
                                         "[\"a\"]",
                                         "{}",
                                         "{\"a\":1}",
                                         "1.5",
                                         "-0.5",
                                         "1.5e-7",
                                         "1e-400000",
                                         "0.1",
                                         "15e-1",
                                         "100e-3",
                                         "1e-1000000000000000000000000",
                                         "123456789012345678901234567890.5"};
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        for (size_t v = 0; v < COUNT_OF(values) && contract[i].type == STRING; v++)
            expect_code(&contract[i], values[v], "invalid_type");
    end_table();
}

static void a_number_that_is_an_integer_is_that_integer(void **state) {
    (void)state;
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"1.0", "1"},
        {"-1.0", "-1"},
        {"0.0", "0"},
        {"-0.0", "0"},
        {"0e5", "0"},
        {"-0E-7", "0"},
        {"0e1000000000000000000000000", "0"},
        {"1e3", "1000"},
        {"1E+3", "1000"},
        {"1352.0", "1352"},
        {"1.352e3", "1352"},
        {"13520e-1", "1352"},
        {"0.00001352e8", "1352"},
        {"1352000.000e-003", "1352"},
        {"12345678905.0", "12345678905"},
        {"12345678901234567890.0", "12345678901234567890"},
        {"-9205590164917312751089.00", "-9205590164917312751089"},
        {"9007199254740993.0", "9007199254740993"},
        {"10203040506070809.010e2", "1020304050607080901"},
        {"123456789012345678901234567890.0", "123456789012345678901234567890"},
        {"12345678901234567890e1", "123456789012345678900"},
        {"1.0e+16", "10000000000000000"},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        for (size_t i = 0; i < CONTRACT_COUNT; i++) {
            if (contract[i].type != STRING || contract[i].values)
                continue;
            struct receipt receipt;
            /* Text behind it in the body shows whether all of it has its place. */
            const struct change changes[] = {{contract[i].path, rows[r].json}};
            char *body = make_body(changes, 1, "\"x\":1.0,\"y\":\"z\"");
            const char *errors = judge_into(body, &receipt);
            const struct receipt_value *value = &receipt.values[i];
            expect_row(*errors == '\0' && text_is(value->text, value->len, rows[r].text), "%s %s: '%s', %.*s",
                       contract[i].path, rows[r].json, errors, (int)value->len, value->text ? value->text : "");
            expect_row(text_is(receipt.extra, receipt.extra_len, "{\"x\":1.0,\"y\":\"z\"}"), "%s: extra is %.*s",
                       rows[r].json, (int)receipt.extra_len, receipt.extra);
            receipt_fini(&receipt);
            free(body);
        }
    }
    end_table();
}

static void several_such_numbers_each_have_their_own_digits(void **state) {
    (void)state;
    struct receipt receipt;
    const struct change changes[] = {{"program_identifier", "1e30"}, {"asn_number", "2.0"}, {"from.identifier", "3e1"},
                                     {"to.identifier", "4.0"},       {"sku", "5.50e1"},     {"reject_reason", "6e0"}};
    static const char *const expected[] = {"1000000000000000000000000000000", "2", "30", "4", "55", "6"};
    char *body = make_body(changes, COUNT_OF(changes), NULL);
    assert_string_equal(judge_into(body, &receipt), "");
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        const struct receipt_value *value = &receipt.values[contract_index(changes[i].path)];
        expect_row(text_is(value->text, value->len, expected[i]), "%s: %.*s", changes[i].path, (int)value->len,
                   value->text);
    }
    receipt_fini(&receipt);
    free(body);
    end_table();
}

static void an_exponent_makes_255_digits_at_most(void **state) {
    (void)state;
    expect_errors("sku", "1e254", "");
    expect_errors("sku", "-1e254", "");
    static const char *const values[] = {"1e255",          "-1e255",       "12e254",
                                         "1e400",          "1e1000000000", "1e99999999999999999999999999999999",
                                         "1.5E4294967297", "0.1e256",      "-1e18446744073709551617"};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        expect_errors("sku", values[i], "sku:too_long");
        expect_errors("asn_number", values[i], "asn_number:too_long");
        expect_errors("to.identifier", values[i], "to.identifier:out_of_range");
        expect_errors("initial_condition", values[i], "initial_condition:invalid_value");
    }
    /* Digits that were sent are no matter of the exponent. */
    char *digits = repeat("7", 5000), *fraction = format_text("%s.0", digits), *zeros = repeat("0", 5000);
    char *point = format_text("1%s.%se-1", zeros, zeros), *small = format_text("0.%s1e5001", zeros);
    expect_errors("sku", fraction, "");
    expect_errors("sku", point, "");
    expect_errors("sku", small, "");
    free(digits);
    free(fraction);
    free(zeros);
    free(point);
    free(small);
    end_table();
}

static void other_types_for_an_object_are_invalid_and_nothing_inside_is_missing(void **state) {
    (void)state;
    static const char *const values[] = {"true", "false", "[]", "[{}]", "1", "1.5", "\"text\""};
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        for (size_t v = 0; v < COUNT_OF(values) && contract[i].type == OBJECT; v++)
            expect_code(&contract[i], values[v], "invalid_type");
    end_table();
}

static void a_missing_object_lists_itself_and_its_required_members(void **state) {
    (void)state;
    static const char from[] = "from:missing_field from.identifier:missing_field from.type:missing_field";
    static const char to[] = "to:missing_field to.identifier:missing_field to.type:missing_field "
                             "to.original_identifier:missing_field";
    static const char *const values[] = {NULL, "null", "\"\"", "\" \""};
    for (size_t v = 0; v < COUNT_OF(values); v++) {
        expect_errors("from", values[v], from);
        expect_errors("to", values[v], to);
        expect_errors("reference", values[v], "");
    }
    expect_errors("from", "{}", "from.identifier:missing_field from.type:missing_field");
    expect_errors("to", "{}", "to.identifier:missing_field to.type:missing_field to.original_identifier:missing_field");
    expect_errors("reference", "{}", "");
    end_table();
}

/* A string of `chars` characters, each of them `unit`, as JSON. */
static char *quoted(const char *unit, size_t chars) {
    char *text = repeat(unit, chars), *json = format_text("\"%s\"", text);
    free(text);
    return json;
}

static void text_may_be_as_long_as_the_body(void **state) {
    (void)state;
    char *json = quoted("\xf0\x9f\x98\x80", 200000), *digits = repeat("7", 800000);
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        if (contract[i].type != STRING || contract[i].key)
            continue;
        expect_code(&contract[i], json, contract[i].values ? "invalid_value" : NULL);
        expect_code(&contract[i], digits, contract[i].values ? "invalid_value" : NULL);
    }
    free(json);
    free(digits);
    end_table();
}

static void a_field_of_the_key_has_what_the_others_leave(void **state) {
    (void)state;
    /* Of the valid body, the longest of the other two has 7 bytes, and the three differ. */
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        if (!contract[i].key)
            continue;
        size_t others = 0;
        for (size_t k = 0; k < CONTRACT_COUNT; k++)
            others += contract[k].key && k != i ? strlen(contract[k].valid) - 2 : 0;
        char *fits = quoted("x", CONTRACT_KEY_BYTES - others), *digits = repeat("7", CONTRACT_KEY_BYTES - others);
        char *too_long = quoted("x", CONTRACT_KEY_BYTES - others + 1), *more = quoted("x", 100000);
        expect_code(&contract[i], fits, NULL);
        expect_code(&contract[i], digits, NULL);
        expect_code(&contract[i], too_long, "too_long");
        expect_code(&contract[i], more, "too_long");
        free(fits);
        free(digits);
        free(too_long);
        free(more);
    }
    end_table();
}

static void only_the_listed_values_are_taken_exactly(void **state) {
    (void)state;
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        const struct contract_field *field = &contract[i];
        if (!field->values)
            continue;
        for (const char *value = field->values; *value; value += strcspn(value, " ") + 1) {
            int len = (int)strcspn(value, " ");
            static const struct {
                const char *before, *after;
                const char *code;
            } rows[] = {{"", "", NULL},
                        {" ", "", "invalid_value"},
                        {"", " ", "invalid_value"},
                        {"", "\\n", "invalid_value"},
                        {"", "x", "invalid_value"},
                        {"x", "", "invalid_value"},
                        {"\\u00a0", "", "invalid_value"}};
            for (size_t r = 0; r < COUNT_OF(rows); r++) {
                char *json = format_text("\"%s%.*s%s\"", rows[r].before, len, value, rows[r].after);
                expect_code(field, json, rows[r].code);
                free(json);
            }
            char *other_case = format_text("\"%.*s\"", len, value);
            other_case[1] ^= 0x20;
            expect_code(field, other_case, "invalid_value");
            free(other_case);
        }
    }
    static const char *const others[] = {"\"T\"", "\"TTT\"", "\"D\"",           "\"NULL\"", "\"N,R\"",
                                         "5",     "-1",      "\"ForwardOrde\"", "\"rma\"",  "\"N\xcc\x81\""};
    for (size_t o = 0; o < COUNT_OF(others); o++) {
        expect_errors("initial_condition", others[o], "initial_condition:invalid_value");
        expect_errors("reference.type", others[o], "reference.type:invalid_value");
    }
    expect_errors("initial_condition", "\"RMA\"", "initial_condition:invalid_value");
    expect_errors("reference.type", "\"N\"", "reference.type:invalid_value");
    end_table();
}

static void the_operator_may_add_to_the_lists(void **state) {
    (void)state;
    static const struct {
        const char *more, *json;
        bool taken;
    } rows[] = {
        {NULL, "\"Z9\"", false},     {"", "\"Z9\"", false},         {"Z9", "\"Z9\"", true},
        {"Z8,Z9", "\"Z8\"", true},   {"Z8,Z9", "\"Z9\"", true},     {"Z8,Z9,Z10", "\"Z9\"", true},
        {"Z8,Z9", "\"Z10\"", false}, {"Z8,Z9", "\"Z8,Z9\"", false}, {"Z8,Z9", "\",\"", false},
        {"Z8,Z9", "\"Z\"", false},   {"Z8,Z9", "\"z9\"", false},    {"Z8,Z9", "\"Z9 \"", false},
        {"Z8,Z9", "\"8\"", false},   {"Z8,90", "90", true},         {"Z8,90", "9", false},
    };
    static const struct {
        enum receipt_list list;
        const char *path, *listed, *other;
    } fields[] = {{RECEIPT_CONDITIONS, "initial_condition", "\"TT\"", "reference.type"},
                  {RECEIPT_REFERENCE_TYPES, "reference.type", "\"RA\"", "initial_condition"}};
    for (size_t f = 0; f < COUNT_OF(fields); f++) {
        char *invalid = format_text("%s:invalid_value", fields[f].path);
        char *other_invalid = format_text("%s:invalid_value", fields[f].other);
        for (size_t r = 0; r < COUNT_OF(rows); r++) {
            rules.more_values[fields[f].list] = rows[r].more;
            expect_errors(fields[f].path, rows[r].json, rows[r].taken ? "" : invalid);
            expect_errors(fields[f].path, fields[f].listed, "");
            expect_errors(fields[f].other, rows[r].json, other_invalid); /* the other list is as it was */
        }
        rules = (struct receipt_rules){0};
        free(invalid);
        free(other_invalid);
    }
    end_table();
}

static void to_identifier_is_a_64_bit_integer(void **state) {
    (void)state;
    static const struct {
        const char *json;
        int64_t value;
    } rows[] = {{"0", 0},
                {"-0", 0},
                {"1", 1},
                {"-1", -1},
                {"2147483648", 2147483648},
                {"999999999999999999", 999999999999999999},
                {"1000000000000000000", 1000000000000000000},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN},
                {"1352.0", 1352},
                {"1.352e3", 1352},
                {"-1352000e-3", -1352},
                {"-0.0", 0},
                {"0e400", 0},
                {"9223372036854775807.00", INT64_MAX},
                {"-922337203685477580.8e1", INT64_MIN},
                {"9007199254740993.0", 9007199254740993},
                {"\"1352\"", 1352},
                {"\" 1352\\n\"", 1352},
                {"\"+1352\"", 1352},
                {"\"-1352\"", -1352},
                {"\"0001352\"", 1352},
                {"\"-000\"", 0},
                {"\"1352.0\"", 1352},
                {"\"01.352E+3\"", 1352},
                {"\"9223372036854775807\"", INT64_MAX},
                {"\"00000000000000000000000000000000000000009223372036854775807\"", INT64_MAX},
                {"\"-9223372036854775808\"", INT64_MIN}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct receipt receipt;
        char *body = make_body_with("to.identifier", rows[i].json);
        const char *errors = judge_into(body, &receipt);
        expect_row(*errors == '\0' &&
                       receipt_value_integer(&receipt.values[RECEIPT_FIELD_TO_IDENTIFIER]) == rows[i].value,
                   "%s: '%s' %lld", rows[i].json, errors,
                   (long long)receipt_value_integer(&receipt.values[RECEIPT_FIELD_TO_IDENTIFIER]));
        receipt_fini(&receipt);
        free(body);
    }
    end_table();
}

static void to_identifier_beyond_64_bits_is_out_of_range(void **state) {
    (void)state;
    static const char *const values[] = {"9223372036854775808",
                                         "-9223372036854775809",
                                         "10000000000000000000",
                                         "18446744073709551616",
                                         "18446744073709551617",
                                         "36893488147419103233",
                                         "-18446744073709551617",
                                         "9205590164917312751089",
                                         "99999999999999999999999",
                                         "100000000000000000000000",
                                         "-99999999999999999999999999999999999999999",
                                         "9223372036854775808.0",
                                         "1e19",
                                         "1e400000",
                                         "\"9223372036854775808\"",
                                         "\"-9223372036854775809\"",
                                         "\"1e1000000000\""};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        expect_errors("to.identifier", values[i], "to.identifier:out_of_range");
    char *digits = repeat("9", 5000);
    expect_errors("to.identifier", digits, "to.identifier:out_of_range");
    free(digits);
    end_table();
}

static void to_identifier_takes_nothing_but_an_integer(void **state) {
    (void)state;
    static const char *const values[] = {"\"x\"",
                                         "1.5",
                                         "-1.5",
                                         "1352e-1",
                                         "true",
                                         "false",
                                         "[1]",
                                         "[]",
                                         "{}",
                                         "\"1352x\"",
                                         "\"x1352\"",
                                         "\"1 352\"",
                                         "\"1,352\"",
                                         "\"0x548\"",
                                         "\"+\"",
                                         "\"-\"",
                                         "\"+-1\"",
                                         "\"--1\"",
                                         "\"1352.\"",
                                         "\".5\"",
                                         "\"1352.5\"",
                                         "\"1e\"",
                                         "\"e3\"",
                                         "\"true\"",
                                         "\"null\"",
                                         "\"NaN\"",
                                         "\"1352e-1\"",
                                         "\"- 1352\"",
                                         "\"Infinity\"",
                                         "\"\\u00a01352\"",
                                         "\"\xd9\xa1\xd9\xa3\"",
                                         "\"1e-1000000000\"",
                                         "1e-1000000000"};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        expect_errors("to.identifier", values[i], "to.identifier:invalid_type");
    expect_errors("to.identifier", NULL, "to.identifier:missing_field");
    expect_errors("to.identifier", "null", "to.identifier:missing_field");
    expect_errors("to.identifier", "\"\"", "to.identifier:missing_field");
    expect_errors("to.identifier", "\" \\t\"", "to.identifier:missing_field");
    end_table();
}

static void every_error_is_listed_in_the_tables_order(void **state) {
    (void)state;
    struct receipt receipt;
    char *too_long = repeat("1", CONTRACT_KEY_BYTES);
    const struct change changes[] = {
        {"reject_reason", "[]"},
        {"to.identifier", "9223372036854775808"},
        {"asn_number", too_long},
        {"initial_condition", "\"n\""},
        {"from.type", "\" \""},
        {"reference.type", "7"},
        {"program_identifier", "1"},
        {"unit_identifier", "7"},
        {"upc", "1.5"},
        {"ot_user_login", "null"},
    };
    char *body = make_body(changes, COUNT_OF(changes), NULL);
    assert_string_equal(judge_into(body, &receipt),
                        "asn_number:too_long from.type:missing_field to.identifier:out_of_range "
                        "reference.type:invalid_value upc:invalid_type "
                        "initial_condition:invalid_value ot_user_login:missing_field reject_reason:invalid_type");
    receipt_fini(&receipt);
    free(body);
    free(too_long);
}

static void the_key_fits_an_index_row(void **state) {
    (void)state;
    static const char *const fields[] = {"program_identifier", "asn_number", "unit_identifier"};
    enum { FIT = CONTRACT_KEY_BYTES - 2 * 1020 };
    static const struct {
        size_t bytes[3]; /* as many characters of four as there is room for, and digits */
        const char *errors;
    } rows[] = {
        {{1020, 1020, FIT}, ""},
        {{1017, 1017, FIT + 6}, ""},
        {{FIT, 1020, 1020}, ""},
        /* The longest is named; of equals, the last. */
        {{1020, 1020, FIT + 1}, "asn_number:too_long"},
        {{1017, 1017, FIT + 7}, "asn_number:too_long"},
        {{1020, 1016, FIT + 5}, "program_identifier:too_long"},
        {{1020, FIT + 1, 1020}, "unit_identifier:too_long"},
        {{FIT + 1, 1020, 1020}, "unit_identifier:too_long"},
        {{1020, 1020, 1020}, "unit_identifier:too_long"},
        {{1024, 1020, 1020}, "program_identifier:too_long"},
        {{CONTRACT_KEY_BYTES - 2, 1, 1}, ""},
        {{1, 1, CONTRACT_KEY_BYTES - 2}, ""},
        {{1, CONTRACT_KEY_BYTES - 1, 1}, "asn_number:too_long"},
        {{1, 1, 100000}, "unit_identifier:too_long"},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct change changes[COUNT_OF(fields)];
        char *values[COUNT_OF(fields)];
        for (size_t k = 0; k < COUNT_OF(fields); k++) {
            char *wide = repeat("\xf0\x9f\x98\x80", rows[r].bytes[k] / 4), *digits = repeat("7", rows[r].bytes[k] % 4);
            values[k] = format_text("\"%s%s\"", wide, digits);
            changes[k] = (struct change){fields[k], values[k]};
            free(wide);
            free(digits);
        }
        struct receipt receipt;
        char *body = make_body(changes, COUNT_OF(changes), NULL);
        const char *errors = judge_into(body, &receipt);
        expect_row(strcmp(errors, rows[r].errors) == 0, "%zu, %zu, %zu: got '%s', expected '%s'", rows[r].bytes[0],
                   rows[r].bytes[1], rows[r].bytes[2], errors, rows[r].errors);
        receipt_fini(&receipt);
        free(body);
        for (size_t k = 0; k < COUNT_OF(fields); k++)
            free(values[k]);
    }
    end_table();
}

static void a_key_that_is_too_long_is_an_error_like_others(void **state) {
    (void)state;
    char *wide = quoted("\xf0\x9f\x98\x80", 255), *spaces = quoted(" ", 1000);
    const struct {
        const char *program, *expected;
    } rows[] = {
        {wide, "shipment_identifier:invalid_type unit_identifier:too_long sku:missing_field"},
        {spaces, "program_identifier:missing_field shipment_identifier:invalid_type sku:missing_field"},
        {"[]", "program_identifier:invalid_type shipment_identifier:invalid_type sku:missing_field"},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        const struct change changes[] = {{"program_identifier", rows[r].program},
                                         {"asn_number", wide},
                                         {"shipment_identifier", "[]"},
                                         {"unit_identifier", wide},
                                         {"sku", NULL}};
        struct receipt receipt;
        char *body = make_body(changes, COUNT_OF(changes), NULL);
        const char *errors = judge_into(body, &receipt);
        expect_row(strcmp(errors, rows[r].expected) == 0, "row %zu: got '%s', expected '%s'", r, errors,
                   rows[r].expected);
        receipt_fini(&receipt);
        free(body);
    }
    end_table();
    free(wide);
    free(spaces);
}

static void an_empty_body_misses_every_required_field(void **state) {
    (void)state;
    struct receipt receipt;
    char *expected = format_text("%s", "");
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        if (!contract[i].required)
            continue;
        char *longer = format_text("%s%s%s:missing_field", expected, *expected ? " " : "", contract[i].path);
        free(expected);
        expected = longer;
    }
    assert_string_equal(judge_into("{}", &receipt), expected);
    free(expected);
    receipt_fini(&receipt);
}

static void every_field_can_be_wrong_at_once(void **state) {
    (void)state;
    struct change changes[CONTRACT_COUNT];
    size_t count = 0;
    struct receipt receipt;
    char *expected = format_text("%s", "");
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        if (contract[i].type == OBJECT)
            continue;
        changes[count++] = (struct change){contract[i].path, "true"};
        char *longer = format_text("%s%s%s:invalid_type", expected, *expected ? " " : "", contract[i].path);
        free(expected);
        expected = longer;
    }
    char *body = make_body(changes, count, NULL);
    assert_string_equal(judge_into(body, &receipt), expected);
    free(expected);
    free(body);
    receipt_fini(&receipt);
}

static void the_order_of_the_body_does_not_matter(void **state) {
    (void)state;
    struct receipt receipt;
    assert_string_equal(
        judge_into("{\"reject_reason\":\"r\",\"ot_user_login\":\"o\",\"initial_channel\":\"c\",\"initial_condition\":"
                   "\"TT\",\"sku\":1,\"unit_identifier\":2,\"to\":{\"original_identifier\":3,\"type\":\"t\","
                   "\"identifier\":4},\"from\":{\"type\":\"f\",\"identifier\":5},\"asn_number\":6,"
                   "\"program_identifier\":7}",
                   &receipt),
        "");
    assert_true(text_is(receipt.values[0].text, receipt.values[0].len, "7"));
    assert_true(text_is(receipt.values[4].text, receipt.values[4].len, "5"));
    assert_true(text_is(receipt.values[9].text, receipt.values[9].len, "3"));
    assert_true(text_is(receipt.values[31].text, receipt.values[31].len, "r"));
    assert_int_equal(receipt_value_integer(&receipt.values[RECEIPT_FIELD_TO_IDENTIFIER]), 4);
    receipt_fini(&receipt);
}

static void unknown_fields_are_no_error(void **state) {
    (void)state;
    struct receipt receipt;
    char *body = make_body(NULL, 0, "\"new\":{\"identifier\":[1.5,true,null]},\"identifier\":1.5,\"From\":7");
    assert_string_equal(judge_into(body, &receipt), "");
    receipt_fini(&receipt);
    free(body);
}

static void decode_valid(const char *program, const char *asn, const char *unit, struct receipt *receipt) {
    const struct change changes[] = {{"program_identifier", program}, {"asn_number", asn}, {"unit_identifier", unit}};
    char *body = make_body(changes, COUNT_OF(changes), NULL);
    assert_string_equal(judge_into(body, receipt), "");
    free(body);
}

static int sign(int number) {
    return (number > 0) - (number < 0);
}

static void keys_are_ordered_bytewise_part_by_part(void **state) {
    (void)state;
    /* In ascending order. */
    static const char *const keys[][3] = {{"\"A\"", "\"z\"", "\"z\""},  {"\"a\"", "\"1\"", "\"1\""},
                                          {"\"a\"", "\"1\"", "\"10\""}, {"\"a\"", "\"1\"", "\"2\""},
                                          {"\"a\"", "\"11\"", "\"1\""}, {"\"a\"", "\"2\"", "\"1\""},
                                          {"\"aa\"", "\"1\"", "\"1\""}, {"\"b\"", "\"0\"", "\"0\""},
                                          {"\"z\"", "\"0\"", "\"0\""},  {"\"\xc3\xa4\"", "\"0\"", "\"0\""}};
    struct receipt receipts[COUNT_OF(keys)];
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        decode_valid(keys[i][0], keys[i][1], keys[i][2], &receipts[i]);
    for (int i = 0; i < (int)COUNT_OF(keys); i++) {
        for (int j = 0; j < (int)COUNT_OF(keys); j++) {
            expect_row(sign(receipt_compare_keys(&receipts[i], &receipts[j])) == sign(i - j), "%d and %d", i, j);
            expect_row((receipts[i].key_hash == receipts[j].key_hash) == (i == j), "the hashes of %d and %d", i, j);
        }
    }
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        receipt_fini(&receipts[i]);
    end_table();
}

static void the_parts_of_a_key_do_not_run_together(void **state) {
    (void)state;
    struct receipt a, b;
    decode_valid("\"ab\"", "\"c\"", "\"d\"", &a);
    decode_valid("\"a\"", "\"bc\"", "\"d\"", &b);
    assert_true(a.key_hash != b.key_hash);
    assert_true(receipt_compare_keys(&a, &b) > 0);
    receipt_fini(&a);
    receipt_fini(&b);
}

static void a_key_of_integers_is_the_key_of_their_digits(void **state) {
    (void)state;
    struct receipt a, b;
    decode_valid("1", "9205590164917312751089", "3", &a);
    decode_valid("\"1\"", "\"9205590164917312751089\"", "\"\\u0033\"", &b);
    assert_int_equal(a.key_hash, b.key_hash);
    assert_int_equal(receipt_compare_keys(&a, &b), 0);
    receipt_fini(&a);
    receipt_fini(&b);
}

static void what_is_not_in_the_key_does_not_count(void **state) {
    (void)state;
    struct receipt a, b;
    const struct change changes[] = {{"sku", "\"other\""}, {"shipment_identifier", NULL}};
    char *one = make_body(NULL, 0, NULL), *other = make_body(changes, COUNT_OF(changes), "\"x\":1");
    assert_string_equal(judge_into(one, &a), "");
    assert_string_equal(judge_into(other, &b), "");
    assert_int_equal(a.key_hash, b.key_hash);
    assert_int_equal(receipt_compare_keys(&a, &b), 0);
    receipt_fini(&a);
    receipt_fini(&b);
    free(one);
    free(other);
}

static void fini_zeroes_and_takes_a_zeroed_receipt(void **state) {
    (void)state;
    static const struct receipt zero;
    struct receipt receipt = {0};
    receipt_fini(&receipt);
    char *body = make_body(NULL, 0, NULL);
    judge_into(body, &receipt);
    receipt_fini(&receipt);
    assert_memory_equal(&receipt, &zero, sizeof zero);
    receipt_fini(&receipt);
    free(body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_the_contracts),
        cmocka_unit_test(every_field_stands_in_its_object),
        cmocka_unit_test(the_key_is_program_asn_unit),
        cmocka_unit_test(error_codes_have_the_vendors_names),
        cmocka_unit_test(a_field_is_found_from_every_hint),
        cmocka_unit_test(what_is_no_field_is_not_found),
        cmocka_unit_test(a_full_body_is_valid),
        cmocka_unit_test(only_required_fields_are_needed),
        cmocka_unit_test(a_field_left_out_or_null_is_missing_where_required),
        cmocka_unit_test(blank_required_string_is_missing),
        cmocka_unit_test(blank_optional_string_is_absent),
        cmocka_unit_test(only_ascii_white_space_is_blank),
        cmocka_unit_test(text_is_kept_as_sent),
        cmocka_unit_test(other_types_in_a_string_field_are_invalid),
        cmocka_unit_test(a_number_that_is_an_integer_is_that_integer),
        cmocka_unit_test(several_such_numbers_each_have_their_own_digits),
        cmocka_unit_test(an_exponent_makes_255_digits_at_most),
        cmocka_unit_test(other_types_for_an_object_are_invalid_and_nothing_inside_is_missing),
        cmocka_unit_test(a_missing_object_lists_itself_and_its_required_members),
        cmocka_unit_test(text_may_be_as_long_as_the_body),
        cmocka_unit_test(a_field_of_the_key_has_what_the_others_leave),
        cmocka_unit_test(only_the_listed_values_are_taken_exactly),
        cmocka_unit_test(the_operator_may_add_to_the_lists),
        cmocka_unit_test(to_identifier_is_a_64_bit_integer),
        cmocka_unit_test(to_identifier_beyond_64_bits_is_out_of_range),
        cmocka_unit_test(to_identifier_takes_nothing_but_an_integer),
        cmocka_unit_test(every_error_is_listed_in_the_tables_order),
        cmocka_unit_test(the_key_fits_an_index_row),
        cmocka_unit_test(a_key_that_is_too_long_is_an_error_like_others),
        cmocka_unit_test(an_empty_body_misses_every_required_field),
        cmocka_unit_test(every_field_can_be_wrong_at_once),
        cmocka_unit_test(the_order_of_the_body_does_not_matter),
        cmocka_unit_test(unknown_fields_are_no_error),
        cmocka_unit_test(keys_are_ordered_bytewise_part_by_part),
        cmocka_unit_test(the_parts_of_a_key_do_not_run_together),
        cmocka_unit_test(a_key_of_integers_is_the_key_of_their_digits),
        cmocka_unit_test(what_is_not_in_the_key_does_not_count),
        cmocka_unit_test(fini_zeroes_and_takes_a_zeroed_receipt),
    };
    return cmocka_run_group_tests_name("receipt", tests, NULL, NULL);
}
