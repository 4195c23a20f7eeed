/*
 * receipt_json.h: what is JSON by RFC 8259 and what is not, and what of it gets where.
 *
 * The module takes plain values from the text beside Jansson's tree; much of this looks for a body on which the two get
 * out of step.
 */
#include "receipt_json.h"
#include "tree.h"

#include "contract.h"
#include "jansson_use.h"

#include <time.h>

static struct receipt receipt;
static struct receipt_json_error error;

/* Whatever a test decodes: Jansson stays within what is had for it before it begins. */
static enum receipt_json_status decode_bytes(const char *body, size_t len) {
    receipt_fini(&receipt);
    /* A copy of exactly that size: reading beyond it is seen by the sanitizer. */
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, body, len);
    begin_jansson_use();
    jansson_used = 0;
    enum receipt_json_status status = receipt_json_decode(copy, len, &receipt, &error);
    size_t had = tree_memory(copy, len);
    expect_row(jansson_used <= had, "%zu bytes used, of %zu: %.*s", jansson_used, had, (int)(len < 200 ? len : 200),
               body);
    memset(copy, '#', len);
    free(copy);
    return status;
}

static enum receipt_json_status decode(const char *body) {
    return decode_bytes(body, strlen(body));
}

static int forget_receipt(void **state) {
    (void)state;
    receipt_fini(&receipt);
    end_table();
    return 0;
}

static const struct receipt_value *value_of(const char *path) {
    return &receipt.values[contract_index(path)];
}

/* The text of a field, NUL-terminated, good until the next call; of a field that has none, the name of its kind. */
static const char *field_text(const char *path) {
    static char text[256];
    const struct receipt_value *value = value_of(path);
    switch (value->kind) {
    case RECEIPT_VALUE_ABSENT:
        return "(absent)";
    case RECEIPT_VALUE_NULL:
        return "(null)";
    case RECEIPT_VALUE_BLANK:
        return "(blank)";
    case RECEIPT_VALUE_OBJECT:
        return "(object)";
    case RECEIPT_VALUE_OTHER:
        return "(other)";
    case RECEIPT_VALUE_HUGE:
        return "(huge)";
    case RECEIPT_VALUE_STRING:
    case RECEIPT_VALUE_INTEGER:
        snprintf(text, sizeof text, "%.*s", (int)value->len, value->text);
        return text;
    }
    return "";
}

/* extra, NUL-terminated, good until the next call; "" when there is none. */
static const char *extra_text(void) {
    static char text[8192];
    snprintf(text, sizeof text, "%.*s", (int)receipt.extra_len, receipt.extra ? receipt.extra : "");
    return text;
}

static bool all_zero(void) {
    static const struct receipt zero;
    return memcmp(&receipt, &zero, sizeof zero) == 0;
}

static void expect_malformed_bytes(const char *name, const char *body, size_t len) {
    enum receipt_json_status status = decode_bytes(body, len);
    expect_row(status == RECEIPT_JSON_MALFORMED, "%s: %s", name, status == RECEIPT_JSON_OK ? "taken" : "no memory");
    if (status != RECEIPT_JSON_MALFORMED)
        return;
    expect_row(all_zero(), "%s: the receipt is not zeroed", name);
    expect_row(error.message[0] != '\0' && strlen(error.message) < sizeof error.message - 1, "%s: message '%s'", name,
               error.message);
}

static void expect_malformed(const char *body) {
    expect_malformed_bytes(body, body, strlen(body));
}

static void the_vendors_example_is_read_whole(void **state) {
    (void)state;
    static const char body[] =
        "{\n  \"program_identifier\": \"returns\",\n  \"asn_number\": \"SO00001234\",\n"
        "  \"shipment_identifier\": \"SI1ZAAAAAAZZ97764680\",\n"
        "  \"from\": { \"identifier\": 22, \"type\": \"Warehouse\" },\n"
        "  \"to\": { \"identifier\": 1352, \"type\": \"Store\", \"original_identifier\": 42 },\n"
        "  \"carton_identifier\": \"CTAA1234567\",\n"
        "  \"reference\": { \"type\": \"RMA\", \"identifier\": 12345, \"alternate_identifier\": \"OR12345678\" },\n"
        "  \"line_identifier\": 123456789,\n  \"unit_identifier\": 123456891011,\n"
        "  \"reference_line_identifier\": 1,\n  \"sku\": \"S123456\",\n  \"upc\": 12345678905,\n"
        "  \"serial_number\": 12345678910001,\n  \"initial_condition\": \"N\",\n  \"initial_channel\": \"blinq\",\n"
        "  \"return_reason\": \"not like\",\n  \"ot_user_login\": \"jdoe@email.com\",\n"
        "  \"merchant\": \"Merchant Name\",\n  \"concept\": \"Brand\",\n  \"asin\": 120029872,\n"
        "  \"tracking_number\": 123012300123033,\n  \"location_identifier\": \"Pallet 1\",\n"
        "  \"client_unit_identifier\": 123456891011,\n  \"reject_reason\": \"Empty Box\"\n}\n";
    static const char *const expected[] = {"returns",
                                           "SO00001234",
                                           "SI1ZAAAAAAZZ97764680",
                                           "(object)",
                                           "22",
                                           "Warehouse",
                                           "(object)",
                                           "1352",
                                           "Store",
                                           "42",
                                           "CTAA1234567",
                                           "(object)",
                                           "RMA",
                                           "12345",
                                           "OR12345678",
                                           "123456789",
                                           "123456891011",
                                           "1",
                                           "S123456",
                                           "12345678905",
                                           "12345678910001",
                                           "N",
                                           "blinq",
                                           "not like",
                                           "jdoe@email.com",
                                           "Merchant Name",
                                           "Brand",
                                           "120029872",
                                           "123012300123033",
                                           "Pallet 1",
                                           "123456891011",
                                           "Empty Box"};
    assert_int_equal(decode(body), RECEIPT_JSON_OK);
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        expect_row(strcmp(field_text(contract[i].path), expected[i]) == 0, "%s: %s", contract[i].path,
                   field_text(contract[i].path));
    end_table();
    assert_null(receipt.extra);
    assert_int_equal(value_of("upc")->kind, RECEIPT_VALUE_INTEGER);
    assert_int_equal(value_of("sku")->kind, RECEIPT_VALUE_STRING);
}

static void every_kind_of_value_is_told_apart_in_every_field(void **state) {
    (void)state;
    static const struct {
        const char *json;
        enum receipt_value_kind kind;
        const char *text;
    } rows[] = {
        {"null", RECEIPT_VALUE_NULL, ""},
        {"\"\"", RECEIPT_VALUE_STRING, ""},
        {"\" a \"", RECEIPT_VALUE_STRING, " a "},
        {"\"17\"", RECEIPT_VALUE_STRING, "17"},
        {"17", RECEIPT_VALUE_INTEGER, "17"},
        {"-0", RECEIPT_VALUE_INTEGER, "-0"},
        {"123456789012345678", RECEIPT_VALUE_INTEGER, "123456789012345678"},
        {"-12345678901234567", RECEIPT_VALUE_INTEGER, "-12345678901234567"},
        {"-123456789012345678", RECEIPT_VALUE_INTEGER, "-123456789012345678"},
        {"9223372036854775808", RECEIPT_VALUE_INTEGER, "9223372036854775808"},
        {"-9205590164917312751089", RECEIPT_VALUE_INTEGER, "-9205590164917312751089"},
        {"1.0", RECEIPT_VALUE_INTEGER, "1"},
        {"1e2", RECEIPT_VALUE_INTEGER, "100"},
        {"-1E-2", RECEIPT_VALUE_OTHER, NULL},
        {"1e400", RECEIPT_VALUE_HUGE, NULL},
        {"12345678901234567890.5", RECEIPT_VALUE_OTHER, NULL},
        {"true", RECEIPT_VALUE_OTHER, NULL},
        {"false", RECEIPT_VALUE_OTHER, NULL},
        {"[1,2.5,\"3\",[4]]", RECEIPT_VALUE_OTHER, NULL},
        {"{\"a\":1,\"b\":{\"c\":2.5}}", RECEIPT_VALUE_OTHER, NULL},
    };
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        for (size_t r = 0; r < COUNT_OF(rows); r++) {
            if (contract[i].type == OBJECT)
                continue;
            char *body = make_body_with(contract[i].path, rows[r].json);
            expect_row(decode(body) == RECEIPT_JSON_OK, "%s %s: %s", contract[i].path, rows[r].json, error.message);
            const struct receipt_value *value = &receipt.values[i];
            expect_row(value->kind == rows[r].kind, "%s %s is of kind %d", contract[i].path, rows[r].json,
                       (int)value->kind);
            if (rows[r].text)
                expect_row(text_is(value->text, value->len, rows[r].text), "%s %s became %.*s", contract[i].path,
                           rows[r].json, (int)value->len, value->text);
            expect_row(!receipt.extra, "%s %s: extra is %s", contract[i].path, rows[r].json, extra_text());
            /* Whatever it was, the numbers behind it are still the right ones. */
            expect_row(i == contract_index("to.identifier") || strcmp(field_text("to.identifier"), "1352") == 0,
                       "%s %s: to.identifier is %s", contract[i].path, rows[r].json, field_text("to.identifier"));
            free(body);
        }
    }
    end_table();
}

static void an_object_of_another_type_is_told(void **state) {
    (void)state;
    static const char *const objects[] = {"from", "to", "reference"};
    for (size_t i = 0; i < COUNT_OF(objects); i++) {
        char *body = make_body_with(objects[i], "[{\"identifier\":5.5}]");
        assert_int_equal(decode(body), RECEIPT_JSON_OK);
        assert_string_equal(field_text(objects[i]), "(other)");
        assert_null(receipt.extra);
        free(body);
        body = make_body_with(objects[i], "null");
        assert_int_equal(decode(body), RECEIPT_JSON_OK);
        assert_string_equal(field_text(objects[i]), "(null)");
        free(body);
    }
}

static void strings_are_unescaped(void **state) {
    (void)state;
    assert_int_equal(decode("{\"sku\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\u20AC\\ud83d\\uDE00\xf0\x9f\x98\x80\"}"),
                     RECEIPT_JSON_OK);
    assert_string_equal(field_text("sku"), "\"\\/\b\f\n\r\t\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xf0\x9f\x98\x80");
}

static void escaped_names_are_names(void **state) {
    (void)state;
    assert_int_equal(decode("{\"\\u0073ku\":1,\"fr\\u006fm\":{\"typ\\u0065\":2}}"), RECEIPT_JSON_OK);
    assert_string_equal(field_text("sku"), "1");
    assert_string_equal(field_text("from.type"), "2");
    assert_null(receipt.extra);
}

static void the_text_outlives_the_body(void **state) {
    (void)state; /* decode_bytes overwrites the body before it frees it */
    assert_int_equal(decode("{\"sku\":\"text\",\"upc\":9205590164917312751089,\"x\":1.10}"), RECEIPT_JSON_OK);
    assert_string_equal(field_text("sku"), "text");
    assert_string_equal(field_text("upc"), "9205590164917312751089");
    assert_string_equal(extra_text(), "{\"x\":1.10}");
}

static void white_space_is_allowed_everywhere(void **state) {
    (void)state;
    assert_int_equal(decode(" \t\r\n{ \"sku\"\n:\t-5 \r, \"x\" : [ 1 , 2 ] , \"y\" : { } } \n\n"), RECEIPT_JSON_OK);
    assert_string_equal(field_text("sku"), "-5");
    assert_string_equal(extra_text(), "{\"x\":[1,2],\"y\":{}}");
}

static void unknown_fields_are_kept_as_they_were(void **state) {
    (void)state;
    static const struct {
        const char *body, *extra;
    } rows[] = {
        {"{}", ""},
        {"{\"sku\":1.5}", ""},
        {"{\"a\":1}", "{\"a\":1}"},
        {"{\"a\":null}", "{\"a\":null}"},
        {"{\"a\":true,\"b\":false}", "{\"a\":true,\"b\":false}"},
        {"{\"\":\"\"}", "{\"\":\"\"}"},
        {"{\"a\":[],\"b\":{}}", "{\"a\":[],\"b\":{}}"},
        {"{\"a\":[[],[{}],[1,[2,{\"b\":[3]}]]]}", "{\"a\":[[],[{}],[1,[2,{\"b\":[3]}]]]}"},
        {"{\"z\":1,\"sku\":2,\"a\":3}", "{\"z\":1,\"a\":3}"},
        {"{\"from\":{\"x\":1,\"type\":2,\"y\":3}}", "{\"from\":{\"x\":1,\"y\":3}}"},
        {"{\"to\":{\"x\":{\"type\":1}},\"reference\":{\"y\":[1.0]},\"z\":0}",
         "{\"to\":{\"x\":{\"type\":1}},\"reference\":{\"y\":[1.0]},\"z\":0}"},
        {"{\"a\":1,\"from\":{\"b\":2},\"c\":3,\"to\":{\"d\":4,\"identifier\":5},\"e\":6}",
         "{\"a\":1,\"from\":{\"b\":2},\"c\":3,\"to\":{\"d\":4},\"e\":6}"},
        {"{\"from\":{\"sku\":1,\"from\":{\"type\":2}}}", "{\"from\":{\"sku\":1,\"from\":{\"type\":2}}}"},
        {"{\"from.identifier\":1,\"identifier\":2,\"type\":3,\"from_type\":4}",
         "{\"from.identifier\":1,\"identifier\":2,\"type\":3,\"from_type\":4}"},
        {"{\"SKU\":1,\"sku \":2,\" sku\":3,\"sk\":4,\"skus\":5}",
         "{\"SKU\":1,\"sku \":2,\" sku\":3,\"sk\":4,\"skus\":5}"},
        {"{\"a\":{\"sku\":1,\"to\":{\"identifier\":2}}}", "{\"a\":{\"sku\":1,\"to\":{\"identifier\":2}}}"},
        {"{\"from\":{},\"to\":{\"type\":\"x\"}}", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect_row(decode(rows[i].body) == RECEIPT_JSON_OK, "%s: %s", rows[i].body, error.message);
        expect_row(strcmp(extra_text(), rows[i].extra) == 0, "%s: %s", rows[i].body, extra_text());
    }
    end_table();
}

static void numbers_in_unknown_fields_keep_their_digits(void **state) {
    (void)state;
    static const char *const numbers[] = {"0",
                                          "-0",
                                          "7",
                                          "1.10",
                                          "-0.0",
                                          "0.10",
                                          "1e5",
                                          "1E5",
                                          "1E+05",
                                          "1.50e-3",
                                          "12345678901234567890123",
                                          "-12345678901234567890123",
                                          "9007199254740993",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "123456789012345678",
                                          "1234567890123456789",
                                          "-123456789012345678",
                                          "0.1000000000000000055511151",
                                          "3.141592653589793238462643383279502884197169399375",
                                          "1e11",
                                          "1e15",
                                          "-1e18",
                                          "1e-18",
                                          "0e15",
                                          "6.02214076e+23",
                                          "1.602176634E-19",
                                          "1e0000000000000000000000000000000000000003",
                                          "0.00000000000000000000000001e26",
                                          "100000000000000000000.00000000000000000000100"};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        char *body = format_text("{\"a\":%s,\"b\":[%s,{\"c\":%s}],\"to\":{\"d\":%s}}", numbers[i], numbers[i],
                                 numbers[i], numbers[i]);
        expect_row(decode(body) == RECEIPT_JSON_OK, "%s: %s", body, error.message);
        expect_row(strcmp(extra_text(), body) == 0, "%s became %s", body, extra_text());
        free(body);
    }
    end_table();
}

/*
 * A number that PostgreSQL's numeric does not hold would make the whole receipt impossible to store, and one that it
 * writes out much longer than it was sent would make a hundred megabytes of a body of one.
 */
static void numbers_that_would_grow_become_strings_of_their_digits(void **state) {
    (void)state;
    static const char *const numbers[] = {"1e400000",
                                          "-1.5E+400000",
                                          "1e-400000",
                                          "0e131073",
                                          "1e99999999999999999999",
                                          "1E-16384",
                                          "1e+999",
                                          "1e-999",
                                          "0e999",
                                          "0e-999",
                                          "0.0e-999",
                                          "-1E999",
                                          "1e00999",
                                          "1e16",
                                          "-1e20",
                                          "1e-19",
                                          "1.5e-31",
                                          "123456789e99",
                                          "1e18446744073709551617",
                                          "1e-18446744073709551617"};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        char *body = format_text("{\"a\":%s,\"b\":7}", numbers[i]);
        char *expected = format_text("{\"a\":\"%s\",\"b\":7}", numbers[i]);
        expect_row(decode(body) == RECEIPT_JSON_OK, "%s: %s", body, error.message);
        expect_row(strcmp(extra_text(), expected) == 0, "%s became %s", body, extra_text());
        free(body);
        free(expected);
    }
    char *digits = repeat("7", 200000);
    for (int fraction = 0; fraction < 2; fraction++) {
        /* Digits do not grow, but numeric has an end. */
        char *body = format_text("{\"a\":%s%s,\"sku\":8}", fraction ? "0." : "", digits);
        assert_int_equal(decode(body), RECEIPT_JSON_OK);
        assert_string_equal(field_text("sku"), "8");
        assert_int_equal(receipt.extra_len, strlen("{\"a\":\"\"}") + strlen(digits) + (fraction ? 2 : 0));
        assert_int_equal(receipt.extra[5], '"');
        free(body);
    }
    free(digits);
    end_table();
}

static void hostile_text_is_kept_in_extra(void **state) {
    (void)state;
    static const struct {
        const char *sent, *kept;
    } rows[] = {
        {"\"\\\"\"", "\"\\\"\""},
        {"\"\\\\\"", "\"\\\\\""},
        {"\"\\\\\\\"\\\\\"", "\"\\\\\\\"\\\\\""},
        {"\"\\/\"", "\"/\""},
        {"\"\\b\\f\\n\\r\\t\"", "\"\\u0008\\u000c\\u000a\\u000d\\u0009\""},
        {"\"\\u0001\\u001F\\u007f\"", "\"\\u0001\\u001f\x7f\""},
        {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
        {"\"\xf0\x9f\x98\x80\xef\xbf\xbf\"", "\"\xf0\x9f\x98\x80\xef\xbf\xbf\""},
        {"\"\\uFFFE\\u2028\"", "\"\xef\xbf\xbe\xe2\x80\xa8\""},
        {"\"NULL\"", "\"NULL\""},
        {"\"{1,\\\"NULL\\\",NULL}\"", "\"{1,\\\"NULL\\\",NULL}\""},
        {"\"}],\\\"sku\\\":1,[{\"", "\"}],\\\"sku\\\":1,[{\""},
        {"\"\\\\u0000 \\\\x00 \\\\N \\\\.\"", "\"\\\\u0000 \\\\x00 \\\\N \\\\.\""},
        {"\"'; drop table receipts; --\"", "\"'; drop table receipts; --\""},
        {"\"1.5 -2e9 01 \"", "\"1.5 -2e9 01 \""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        /* As a value, as a name, and between numbers. */
        char *body = format_text("{\"a\":%s,\"b\":[1,%s,2.50],\"from\":{\"c\":{%s:3}},\"upc\":4}", rows[i].sent,
                                 rows[i].sent, rows[i].sent);
        char *expected = format_text("{\"a\":%s,\"b\":[1,%s,2.50],\"from\":{\"c\":{%s:3}}}", rows[i].kept, rows[i].kept,
                                     rows[i].kept);
        expect_row(decode(body) == RECEIPT_JSON_OK, "%s: %s", body, error.message);
        expect_row(strcmp(extra_text(), expected) == 0, "%s became %s", body, extra_text());
        expect_row(strcmp(field_text("upc"), "4") == 0, "%s: upc is %s", body, field_text("upc"));
        free(body);
        free(expected);
    }
    end_table();
}

static void numbers_stay_in_step_with_strings_around_them(void **state) {
    (void)state;
    static const struct {
        const char *body, *upc, *extra;
    } rows[] = {
        {"{\"a\":\"\\\"\",\"upc\":1}", "1", "{\"a\":\"\\\"\"}"},
        {"{\"a\":\"\\\\\",\"upc\":1}", "1", "{\"a\":\"\\\\\"}"},
        {"{\"a\":\"\\\\\\\"5\",\"upc\":1}", "1", "{\"a\":\"\\\\\\\"5\"}"},
        {"{\"a\":\"\\\\\\\\\",\"upc\":12345678901234567890}", "12345678901234567890", "{\"a\":\"\\\\\\\\\"}"},
        {"{\"\\\"7\":8,\"upc\":9}", "9", "{\"\\\"7\":8}"},
        {"{\"\\\\\":8.0,\"upc\":9}", "9", "{\"\\\\\":8.0}"},
        {"{\"\":8e0,\"upc\":9}", "9", "{\"\":8e0}"},
        {"{\"1\":2,\"3.5\":\"4\",\"upc\":5}", "5", "{\"1\":2,\"3.5\":\"4\"}"},
        {"{\"a\":\"1\",\"b\":\"\",\"c\":\"-\",\"upc\":5}", "5", "{\"a\":\"1\",\"b\":\"\",\"c\":\"-\"}"},
        {"{\"sku\":\"\\u00312\\\"3\",\"upc\":5}", "5", ""},
        {"{\"sku\":[1,2,{\"3\":4.5}],\"upc\":5}", "5", ""},
        {"{\"from\":[1,2.5],\"upc\":5}", "5", ""},
        {"{\"from\":7,\"to\":{\"identifier\":{\"a\":8}},\"upc\":5}", "5", ""},
        {"{\"initial_condition\":1.5,\"merchant\":-2,\"upc\":5,\"x\":6}", "5", "{\"x\":6}"},
        {"{\"x\":[1e1,2,33333333333333333333,4.25,-5],\"upc\":6}", "6", "{\"x\":[1e1,2,33333333333333333333,4.25,-5]}"},
        {"{\"upc\":-1,\"x\":-2,\"y\":-33333333333333333333}", "-1", "{\"x\":-2,\"y\":-33333333333333333333}"},
        {"{\"x\":\"unterminated \\\\\\\\\\\\\\\" 1\",\"upc\":2}", "2", "{\"x\":\"unterminated \\\\\\\\\\\\\\\" 1\"}"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect_row(decode(rows[i].body) == RECEIPT_JSON_OK, "%s: %s", rows[i].body, error.message);
        expect_row(strcmp(field_text("upc"), rows[i].upc) == 0, "%s: upc is %s", rows[i].body, field_text("upc"));
        expect_row(strcmp(extra_text(), rows[i].extra) == 0, "%s: extra is %s", rows[i].body, extra_text());
    }
    end_table();
}

static uint64_t dice;

static unsigned throw(unsigned sides) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(dice >> 33) % sides;
}

static const char *pick(const char *const *words, size_t count) {
    return words[throw((unsigned)count)];
}

static void write_gap(FILE *sent) {
    static const char *const gaps[] = {"", "", "", " ", "\n", "\t\r\n "};
    fputs(pick(gaps, COUNT_OF(gaps)), sent);
}

static void write_string(FILE *sent, FILE *kept) {
    static const struct {
        const char *sent, *kept;
    } pieces[] = {
        {"a", "a"},          {"1", "1"},          {"-2.5e3", "-2.5e3"}, {"\\\"", "\\\""}, {"\\\\", "\\\\"},
        {"\\u0022", "\\\""}, {"\\u005c", "\\\\"}, {"\\n", "\\u000a"},   {"{", "{"},       {"\xc3\xa4", "\xc3\xa4"},
        {"\\u0031", "1"},    {",", ","},          {":", ":"},           {"]", "]"}};
    fputc('"', sent);
    fputc('"', kept);
    for (unsigned n = throw(6); n > 0; n--) {
        unsigned piece = throw(COUNT_OF(pieces));
        fputs(pieces[piece].sent, sent);
        fputs(pieces[piece].kept, kept);
    }
    fputc('"', sent);
    fputc('"', kept);
}

static void write_value(FILE *sent, FILE *kept, unsigned depth) {
    static const char *const words[] = {"0",     "-1",    "42",    "1.10",
                                        "-0.0",  "1e5",   "2E-07", "12345678901234567890",
                                        "true",  "false", "null",  "-9999999999999999999999",
                                        "7.0e+1"};
    unsigned kind = throw(depth > 0 ? 8 : 5);
    write_gap(sent);
    if (kind < 4) {
        const char *word = pick(words, COUNT_OF(words));
        fputs(word, sent);
        fputs(word, kept);
    } else if (kind == 4) {
        write_string(sent, kept);
    } else {
        bool object = kind == 5;
        fputc(object ? '{' : '[', sent);
        fputc(object ? '{' : '[', kept);
        for (unsigned i = 0, n = throw(5); i < n; i++) {
            const char *separator = i > 0 ? "," : "";
            fputs(separator, sent);
            fputs(separator, kept);
            if (object) {
                unsigned digit = throw(10);
                fprintf(sent, "\"%u\\\"%u\"", i, digit); /* i keeps the names apart */
                fprintf(kept, "\"%u\\\"%u\"", i, digit);
                write_gap(sent);
                fputc(':', sent);
                fputc(':', kept);
            }
            write_value(sent, kept, depth - 1);
        }
        write_gap(sent);
        fputc(object ? '}' : ']', sent);
        fputc(object ? '}' : ']', kept);
    }
    write_gap(sent);
}

static void made_up_documents_come_out_as_they_went_in(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        char *sent = NULL, *kept = NULL;
        size_t sent_size, kept_size;
        FILE *sent_file = open_memstream(&sent, &sent_size), *kept_file = open_memstream(&kept, &kept_size);
        assert_true(sent_file && kept_file);
        dice = seed;
        fputs("{\"upc\":", sent_file);
        fprintf(sent_file, "%u,\"a\":", throw(1000));
        fputs("{\"a\":", kept_file);
        write_value(sent_file, kept_file, 4);
        fputs(",\"from\":{\"b\":", sent_file);
        fputs(",\"from\":{\"b\":", kept_file);
        write_value(sent_file, kept_file, 3);
        fputs("},\"sku\":-77}", sent_file);
        fputs("}}", kept_file);
        assert_int_equal(fclose(sent_file) | fclose(kept_file), 0);
        expect_row(decode_bytes(sent, sent_size) == RECEIPT_JSON_OK, "seed %u: %s\n%s", (unsigned)seed, error.message,
                   sent);
        expect_row(text_is(receipt.extra, receipt.extra_len, kept), "seed %u: sent %s\nkept %.*s", (unsigned)seed, sent,
                   (int)receipt.extra_len, receipt.extra ? receipt.extra : "");
        expect_row(strcmp(field_text("sku"), "-77") == 0, "seed %u: sku is %s", (unsigned)seed, field_text("sku"));
        free(sent);
        free(kept);
    }
    end_table();
}

/* Behind the number at `p` by RFC 8259, section 6; NULL when there is none. Written anew, not taken from the module. */
static const char *behind_number(const char *p) {
    p += *p == '-';
    if (*p == '0')
        p++;
    else if (*p >= '1' && *p <= '9')
        p += strspn(p, "0123456789");
    else
        return NULL;
    if (*p == '.') {
        size_t digits = strspn(p + 1, "0123456789");
        if (digits == 0)
            return NULL;
        p += 1 + digits;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        size_t digits = strspn(p, "0123456789");
        if (digits == 0)
            return NULL;
        p += digits;
    }
    return p;
}

/* Every text of up to six of these pieces, as a value: it is a number by the grammar, or the body is refused. */
static void what_is_taken_for_a_number_is_one(void **state) {
    (void)state;
    static const char *const pieces[] = {"0", "7", "12345678901234567890", ".", "e", "-", "+"};
    enum { PIECES = COUNT_OF(pieces), LONGEST = 6 };
    unsigned texts = 1, taken = 0;
    for (unsigned length = 1; length <= LONGEST; length++) {
        texts *= PIECES;
        for (unsigned n = 0; n < texts; n++) {
            char text[LONGEST * 20 + 1] = "", body[sizeof text + 64];
            for (unsigned i = 0, rest = n; i < length; i++, rest /= PIECES)
                strcat(text, pieces[rest % PIECES]);
            const char *end = behind_number(text);
            bool number = end && *end == '\0';
            int len = snprintf(body, sizeof body, "{\"a\":%s,\"upc\":5}", text);
            enum receipt_json_status status = decode_bytes(body, (size_t)len);
            expect_row(status == (number ? RECEIPT_JSON_OK : RECEIPT_JSON_MALFORMED) || wrong_rows > 20, "%s is %s",
                       text, number ? "a number" : "no number");
            if (status != RECEIPT_JSON_OK)
                continue;
            taken++;
            const char *quote = stays_a_number(text, strlen(text)) ? "" : "\"";
            snprintf(body, sizeof body, "{\"a\":%s%s%s}", quote, text, quote);
            expect_row((strcmp(extra_text(), body) == 0 && strcmp(field_text("upc"), "5") == 0) || wrong_rows > 20,
                       "%s became %s, and upc 5 became %s", text, extra_text(), field_text("upc"));
        }
    }
    expect_row(taken > 1000, "only %u texts were taken", taken);
    end_table();
}

static void numbers_that_break_the_grammar_are_malformed(void **state) {
    (void)state;
    static const char *const numbers[] = {"01",
                                          "-01",
                                          "00",
                                          "1.",
                                          "-1.",
                                          ".5",
                                          "-.5",
                                          "-",
                                          "+1",
                                          "--1",
                                          "1e",
                                          "1e+",
                                          "1.e5",
                                          "1.5e",
                                          "0x10",
                                          "1_000",
                                          "1,5",
                                          "1 5",
                                          "- 1",
                                          "NaN",
                                          "Infinity",
                                          "-Infinity",
                                          "1f",
                                          "1.5.5",
                                          "1e5.5",
                                          "1e5e5",
                                          "1.5e5e5",
                                          "1-1.5",
                                          "--1.5",
                                          "1e5-",
                                          "1e5E-5",
                                          "--12345678901234567890",
                                          "1-12345678901234567890",
                                          "012345678901234567890",
                                          "12345678901234567890.",
                                          "12345678901234567890e",
                                          "12345678901234567890x",
                                          "0x12345678901234567890",
                                          "+12345678901234567890",
                                          "12345678901234567890 1",
                                          "12345678901234567890-1",
                                          "1.5true",
                                          "true1.5",
                                          "1.5\"a\"",
                                          "-1.5-1.5",
                                          "7--1.5",
                                          "\xd9\xa1",
                                          "1.5\xef\xbc\x91",
                                          "&1",
                                          "$1.5"};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        static const char *const places[] = {"{\"a\":%s}", "{\"upc\":%s}", "{\"a\":[1,%s,2]}",
                                             "{\"to\":{\"identifier\":%s}}", "{\"a\":\"\\\"\",\"b\":%s,\"c\":1.5}"};
        for (size_t p = 0; p < COUNT_OF(places); p++) {
            const char *value = strstr(places[p], "%s");
            char *body = format_text("%.*s%s%s", (int)(value - places[p]), places[p], numbers[i], value + 2);
            /* "1,5" in an array is two numbers. */
            if (strcmp(numbers[i], "1,5") != 0 || !strchr(places[p], '['))
                expect_malformed(body);
            free(body);
        }
    }
    end_table();
}

/* Undoes printf's %b, in place. Returns the length. */
static size_t unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from;) {
        int byte, used;
        if (sscanf(from, "\\x%2x%n", (unsigned *)&byte, &used) == 1) {
            *to++ = (char)byte;
            from += used;
        } else if (*from == '\\') {
            static const char names[] = "tnr\\", bytes[] = "\t\n\r\\";
            *to++ = bytes[strchr(names, from[1]) - names];
            from += 2;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}

static void malformed_bodies_are_told_with_their_position_and_without_quoting_them(void **state) {
    (void)state;
    char line[512];
    unsigned rows = 0;
    FILE *file = fopen(MALFORMED_BODIES, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        int at_line, column, start;
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#')
            continue;
        assert_int_equal(sscanf(line, "%d\t%d\t%n", &at_line, &column, &start), 2);
        char *body = line + start;
        expect_malformed_bytes(body, body, unescape(body));
        expect_row(error.line == at_line && error.column == column, "%s: line %d, column %d", body, error.line,
                   error.column);
        char *position = format_text("line %d, column %d", at_line, column);
        expect_row(at_line == 0 || strstr(error.message, position), "%s: %s", body, error.message);
        free(position);
        expect_row(!strstr(error.message, "secret"), "%s: %s", body, error.message);
        rows++;
    }
    fclose(file);
    assert_true(rows > 100);
    expect_malformed("");
    end_table();
}

static void a_name_may_stand_in_several_objects(void **state) {
    (void)state;
    assert_int_equal(decode("{\"type\":1,\"from\":{\"type\":2,\"a\":{\"type\":3}},\"a\":[{\"a\":4},{\"a\":5}]}"),
                     RECEIPT_JSON_OK);
    assert_string_equal(extra_text(), "{\"type\":1,\"from\":{\"a\":{\"type\":3}},\"a\":[{\"a\":4},{\"a\":5}]}");
}

/* Has every kind of token, and numbers of every kind. */
static const char rich[] =
    "{\"sku\":\"a\\\"b\\\\\", \"upc\":12345678901234567890,\n\"from\":{\"type\":7,\"x\":-1.50e+3},"
    "\"to\":{\"identifier\":5 },\"a\":[1,0.5,{\"\xc3\xa4\":null},true ,\"\"],\"b\":false,\"c\":-0}";

static void a_nul_character_is_malformed_wherever_it_stands(void **state) {
    (void)state;
    char body[sizeof rich + 1];
    assert_int_equal(decode(rich), RECEIPT_JSON_OK);
    for (size_t at = 0; at < sizeof rich; at++) {
        memcpy(body, rich, at);
        body[at] = '\0';
        memcpy(body + at + 1, rich + at, sizeof rich - 1 - at);
        char *name = format_text("a NUL behind %.*s", (int)at, rich);
        expect_malformed_bytes(name, body, sizeof rich);
        free(name);
    }
    static const char only[] = "\0";
    expect_malformed_bytes("only a NUL", only, 1);
    end_table();
}

static void a_stray_byte_is_malformed_wherever_it_stands(void **state) {
    (void)state;
    static const char bytes[] = {'\x01', '\x1b', '\x80', '\xc3', '\xff'};
    char body[sizeof rich];
    for (size_t b = 0; b < COUNT_OF(bytes); b++) {
        for (size_t at = 0; at < sizeof rich; at++) {
            memcpy(body, rich, at);
            body[at] = bytes[b];
            memcpy(body + at + 1, rich + at, sizeof rich - 1 - at);
            char *name = format_text("%02x behind %.*s", (unsigned char)bytes[b], (int)at, rich);
            expect_malformed_bytes(name, body, sizeof rich);
            free(name);
        }
    }
    end_table();
}

static void a_body_that_was_cut_is_malformed(void **state) {
    (void)state;
    for (size_t len = 0; len < sizeof rich - 1; len++) {
        char *name = format_text("%.*s", (int)len, rich);
        expect_malformed_bytes(name, rich, len);
        free(name);
    }
    end_table();
}

static void what_is_not_utf_8_is_malformed(void **state) {
    (void)state;
    static const char *const texts[] = {"\x80",
                                        "\xbf",
                                        "\xc0\x80",
                                        "\xc0\xaf",
                                        "\xc1\xbf",
                                        "\xe0\x80\x80",
                                        "\xe0\x9f\xbf",
                                        "\xf0\x80\x80\x80",
                                        "\xf0\x8f\xbf\xbf",
                                        "\xed\xa0\x80",
                                        "\xed\xbf\xbf",
                                        "\xed\xa0\xbd\xed\xb8\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xf8\x88\x80\x80\x80",
                                        "\xfe",
                                        "\xff",
                                        "\xc3",
                                        "\xe2\x82",
                                        "\xf0\x9f\x98",
                                        "\xc3(",
                                        "\xe2(\xa1",
                                        "\xe4\xf6\xfc"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        static const char *const places[] = {
            "{\"sku\":\"%s\"}", "{\"a\":\"x%sy\"}", "{\"%s\":1}", "{\"a\":%s}", "{}%s", "%s{}", "{\"a\":1%s}"};
        for (size_t p = 0; p < COUNT_OF(places); p++) {
            const char *place = strstr(places[p], "%s");
            char *body = format_text("%.*s%s%s", (int)(place - places[p]), places[p], texts[i], place + 2);
            expect_malformed(body);
            free(body);
        }
    }
    end_table();
}

static void lone_surrogates_are_malformed(void **state) {
    (void)state;
    static const char *const texts[] = {"\\ud800",        "\\udbff",  "\\udc00",    "\\udfff",       "\\ude00\\ud83d",
                                        "\\ud83d\\ud83d", "\\ud83dx", "\\ud83d\\n", "\\ud83d\\u0041"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        char *value = format_text("{\"sku\":\"%s\"}", texts[i]), *name = format_text("{\"%s\":1}", texts[i]);
        expect_malformed(value);
        expect_malformed(name);
        free(value);
        free(name);
    }
    end_table();
}

/* "[[…]]", `depth` levels. */
static char *nested(const char *open, const char *close, size_t depth) {
    char *opening = repeat(open, depth), *closing = repeat(close, depth);
    char *text = format_text("%s%s", opening, closing);
    free(opening);
    free(closing);
    return text;
}

static void deep_nesting_is_kept_up_to_the_limit_and_malformed_beyond(void **state) {
    (void)state;
    /* The body is the first level. */
    const size_t limit = JSON_PARSER_MAX_DEPTH - 1;
    const size_t depths[] = {2000, limit, limit + 1, limit + 2, 100000};
    for (size_t i = 0; i < COUNT_OF(depths); i++) {
        char *arrays = nested("[", "]", depths[i]);
        char *body = format_text("{\"a\":%s,\"upc\":1}", arrays);
        char *expected = format_text("{\"a\":%s}", arrays);
        if (depths[i] <= limit) {
            expect_row(decode(body) == RECEIPT_JSON_OK, "%zu levels: %s", depths[i], error.message);
            expect_row(text_is(receipt.extra, receipt.extra_len, expected), "%zu levels were not kept", depths[i]);
        } else {
            expect_malformed_bytes("too many levels", body, strlen(body));
        }
        free(arrays);
        free(body);
        free(expected);
    }
    char *objects = repeat("{\"a\":", 2000), *ends = repeat("}", 2000);
    char *body = format_text("%s1.50%s", objects, ends);
    assert_int_equal(decode(body), RECEIPT_JSON_OK);
    assert_true(text_is(receipt.extra, receipt.extra_len, body));
    free(objects);
    free(ends);
    free(body);
    end_table();
}

static void deep_nesting_in_a_field_is_passed_over(void **state) {
    (void)state;
    char *opening = repeat("[1.5,", 1000), *closing = repeat(",2]", 1000);
    char *body = format_text("{\"sku\":%s0%s,\"upc\":5}", opening, closing);
    assert_int_equal(decode(body), RECEIPT_JSON_OK);
    assert_string_equal(field_text("sku"), "(other)");
    assert_string_equal(field_text("upc"), "5");
    free(opening);
    free(closing);
    free(body);
}

static void a_matter_of_no_position_has_none(void **state) {
    (void)state;
    assert_int_equal(decode("[1]"), RECEIPT_JSON_MALFORMED);
    assert_int_equal(error.line, 0);
    assert_int_equal(error.column, 0);
}

/* What Jansson itself says, with an allocator of its own, since the module's is only good inside the module. */
static bool jansson_loads(const char *body, json_error_t *said) {
    json_malloc_t module_malloc;
    json_free_t module_free;
    json_get_alloc_funcs(&module_malloc, &module_free);
    json_set_alloc_funcs(malloc, free);
    json_t *root = json_loads(body, JSON_REJECT_DUPLICATES, said);
    json_decref(root);
    json_set_alloc_funcs(module_malloc, module_free);
    return root != NULL;
}

/* Numbers that Jansson can't represent are replaced before it reads the text; that must not show. */
static void positions_do_not_depend_on_the_numbers_before(void **state) {
    (void)state;
    static const char unusual[] =
        "{\"a\":12345678901234567890,\"b\":[1e400000,-1.5],\n \"c\":-98765432109876543210,\"d\":1}";
    static const char usual[] =
        "{\"a\":1.345678901234567890,\"b\":[10400000,-1.5],\n \"c\":-9.765432109876543210,\"d\":1}";
    assert_int_equal(sizeof unusual, sizeof usual);
    for (size_t at = 0; at < sizeof usual; at++) {
        /* A '?' inside of a number makes two of it. */
        if (at > 0 && strchr("0123456789.-e", usual[at - 1]) && strchr("0123456789.-e", usual[at]))
            continue;
        char body[sizeof usual + 1];
        json_error_t expected;
        memcpy(body, usual, at);
        body[at] = '?';
        strcpy(body + at + 1, usual + at);
        bool sound = jansson_loads(body, &expected);
        memcpy(body, unusual, at);
        strcpy(body + at + 1, unusual + at);
        expect_row((decode(body) == RECEIPT_JSON_OK) == sound, "%s", body);
        if (!sound)
            expect_row(error.line == expected.line && error.column == expected.column, "%s: %d:%d, not %d:%d", body,
                       error.line, error.column, expected.line, expected.column);
    }
    end_table();
}

/* Jansson reads an outline; what is wrong is found as in the body itself, and in the same place of it. */
static void an_error_is_where_it_is_in_the_body(void **state) {
    (void)state;
    static const char sound[] =
        "{ \"sku\" : \"a b\",\n\t\"x\":[\"c\" , 12,{\"d\":null} ],\r\n\"\xc3\xa9\":\"\\u00e9\"  ,\"upc\":7 }\n ";
    static const char *const pieces[] = {"",  "?",    "\"",   "\\",   "{",        "}",     "[",    "]",
                                         ":", ",",    " ",    "\n",   "1",        "e5",    ".",    "-",
                                         "x", "null", "\x01", "\xff", "\xc3\xa9", " \xff", ",\"\""};
    for (size_t at = 0; at < sizeof sound; at++) {
        for (size_t i = 0; i < 2 * COUNT_OF(pieces); i++) {
            /* In between, or in place of a character; the empty piece cuts the rest off. */
            const char *piece = pieces[i / 2], *rest = sound + at + (i % 2 == 1 && sound[at]);
            char *body = format_text("%.*s%s%s", (int)at, sound, piece, *piece ? rest : "");
            json_error_t expected;
            bool is_sound = jansson_loads(body, &expected);
            expect_row((decode(body) == RECEIPT_JSON_OK) == is_sound, "%s", body);
            if (!is_sound)
                expect_row(error.line == expected.line && error.column == expected.column, "%s: %d:%d, not %d:%d", body,
                           error.line, error.column, expected.line, expected.column);
            free(body);
        }
    }
    end_table();
}

static void messages_quote_nothing_of_the_body(void **state) {
    (void)state;
    static const struct {
        const char *body, *part;
    } parts[] = {{"{\"a\":\"\\ud8ab\"}", "8ab"},
                 {"{\"a\":\"\\udcab\"}", "cab"},
                 {"{\"a\":\"\\ud83d\\u77aa\"}", "77aa"},
                 {"{\"a\":98765}}}98765", "98765"},
                 {"{\"a\":0987.65}", "987"},
                 {"{\"a\":0x98765}", "98765"},
                 {"{\"a\":987651234567890123456}x", "98765"}};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        expect_malformed(parts[i].body);
        char lower[sizeof error.message];
        for (size_t c = 0; c < sizeof lower; c++)
            lower[c] = (char)(error.message[c] | (error.message[c] >= 'A' && error.message[c] <= 'Z' ? 0x20 : 0));
        expect_row(!strstr(lower, parts[i].part), "%s: %s", parts[i].body, error.message);
    }
    end_table();
}

static void every_byte_can_be_changed_without_a_bad_message(void **state) {
    (void)state;
    for (size_t at = 0; at < sizeof rich - 1; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char body[sizeof rich];
            memcpy(body, rich, sizeof rich);
            body[at] = (char)byte;
            if (decode_bytes(body, sizeof rich - 1) == RECEIPT_JSON_OK)
                continue;
            size_t len = strlen(error.message);
            bool printable = true;
            for (size_t i = 0; i < len; i++)
                printable &= error.message[i] >= ' ' && error.message[i] <= '~';
            expect_row(len > 0 && printable && error.line >= 1 && error.column >= 0, "byte %02x at %zu: %s",
                       (unsigned)byte, at, error.message);
        }
    }
    end_table();
}

static double seconds_to_decode(const char *body, size_t len, enum receipt_json_status expected) {
    struct timespec start, end;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    expect_row(decode_bytes(body, len) == expected, "%.20s: %s", body, error.message);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
}

/* A thread reads a body at a time: one that takes seconds stops all the others. */
static void no_body_takes_long(void **state) {
    (void)state;
    enum { SIZE = 96 * 1024 }; /* a tenth of the largest body; what grows with the square takes seconds even so */
    static const struct {
        const char *name, *before, *unit, *after;
        enum receipt_json_status status;
    } rows[] = {
        {"zeros", "{\"a\":", "0", "}", RECEIPT_JSON_MALFORMED},
        {"digits without a fraction", "{\"a\":", "7", ".}", RECEIPT_JSON_MALFORMED},
        {"digits without an exponent", "{\"a\":", "7", "e}", RECEIPT_JSON_MALFORMED},
        {"a fraction without an exponent", "{\"a\":1.", "7", "e}", RECEIPT_JSON_MALFORMED},
        {"minus signs", "{\"a\":", "-", "1}", RECEIPT_JSON_MALFORMED},
        {"exponents", "{\"a\":", "1e", "1}", RECEIPT_JSON_MALFORMED},
        {"quotes", "{\"a\":", "\"", "}", RECEIPT_JSON_MALFORMED},
        {"digits", "{\"a\":", "7", "}", RECEIPT_JSON_OK},
        {"backslashes", "{\"a\":\"", "\\\\", "\"}", RECEIPT_JSON_OK},
        {"escaped quotes", "{\"a\":\"", "\\\"", "\"}", RECEIPT_JSON_OK},
        {"backslashes without an end", "{\"a\":\"", "\\", "", RECEIPT_JSON_MALFORMED},
        {"numbers", "{\"a\":[", "1.5,", "1]}", RECEIPT_JSON_MALFORMED},
        {"arrays", "{\"a\":[", "[],", "1]}", RECEIPT_JSON_MALFORMED},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *middle = repeat(rows[i].unit, SIZE / strlen(rows[i].unit));
        char *body = format_text("%s%s%s", rows[i].before, middle, rows[i].after);
        double seconds = seconds_to_decode(body, strlen(body), rows[i].status);
        expect_row(seconds < 0.5, "%s take %.1f seconds", rows[i].name, seconds);
        free(middle);
        free(body);
    }
    end_table();
}

/*
 * As large as they may be, in bytes and in values. What Jansson refuses at once must not be held against memory that
 * only the rest of the body would need: all but 2,048 levels of it.
 */
static void no_body_takes_more_memory_than_its_bytes_and_values_allow(void **state) {
    (void)state;
    enum { SIZE = 1024 * 1024, SLACK = 768 * 1024, MOST = 6 * 1024 * 1024 + SLACK };
    static const struct {
        const char *before, *unit, *after;
        size_t most; /* bytes for each of the body */
    } rows[] = {
        {"{\"a\":[", "{},", "0]}", 80},
        {"{\"a\":[", "[],", "0]}", 48},
        {"{\"a\":[", "[true],", "0]}", 21},
        {"{\"a\":[", "[{}],", "0]}", 71},
        {"{\"a\":[", "{\"\":{}},", "0]}", 70},
        {"{\"a\":[", "{\"\":0},", "0]}", 60},
        {"{\"a\":[", "\"\",", "0]}", 27},
        {"{\"a\":[", "0,", "0]}", 32},
        {"{\"a\":[", "1.5,", "0]}", 16},
        {"{\"a\":[", "1e+999,", "0]}", 10},
        {"{\"a\":[", "null,", "0]}", 7},
        {"{\"a\":\"", "x", "\"}", 5},
        {"{\"a\":\"", "\\u0001", "\"}", 5},
        {"{\"a\":", "7", "}", 4},
        {"{\"a\":", "x", "}", 4},
        {"", "\"", "", 24},
        {"\"", "x", "\":", 7},
        {"", "{", "", 0},
        {"", "[", "", 0},
        {"", "{\"a\":", "", 1},
        {"", "{}", "", 0},
        {"{\"a\":[", "{}", "]}", 0},
        {"", "[]", "", 0},
        {"", "[{", "", 0},
        {"", "]", "", 0},
        {"", ":", "", 0},
        {"", ",", "", 32},
        {"", "\"\":", "", 38},
        {"", "\"\":{},", "", 59},
        {"", "{,", "", 0},
        {"", ",{},[", "", 1},
        {"", " ", "", 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t count = SIZE / strlen(rows[i].unit); count > 0; count /= 2) {
            char *middle = repeat(rows[i].unit, count);
            char *body = format_text("%s%s%s", rows[i].before, middle, rows[i].after);
            size_t len = strlen(body), had = tree_memory(body, len);
            expect_row(had <= rows[i].most * len + SLACK && had <= MOST, "%s%s…: %zu bytes, %.1f for each",
                       rows[i].before, rows[i].unit, had, (double)had / (double)len);
            decode_bytes(body, len);
            free(middle);
            free(body);
        }
    }
    end_table();
}

/* `count` times `unit`, with commas in between, in an array or, with names, in an object. */
static char *body_of(const char *unit, size_t count, bool named) {
    char *body = NULL;
    size_t size;
    FILE *out = open_memstream(&body, &size);
    assert_non_null(out);
    fputs(named ? "{\"x\":{" : "{\"x\":[", out);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            fputc(',', out);
        if (named)
            fprintf(out, "\"%zx\":", i);
        fputs(unit, out);
    }
    fputs(named ? "}}" : "]}", out);
    assert_int_equal(fclose(out), 0);
    return body;
}

static void more_values_than_the_limit_are_malformed(void **state) {
    (void)state;
    static const struct {
        const char *unit;
        size_t values; /* in one */
    } rows[] = {
        {"{}", 1},      {"[]", 1},         {"0", 1},       {"-1.5e3", 1},          {"\"\"", 1},
        {"\"{,[\"", 1}, {"true", 1},       {"null", 1},    {" [ 1 , 2 ] ", 3},     {"{\"a\":{\"b\":1}}", 3},
        {"[[[]]]", 3},  {"\"\\\",[\"", 1}, {"\"\\n\"", 1}, {"[{\"{\":\"}\"}]", 3},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (int named = 0; named < 2; named++) {
            /* The body and what x is are two. */
            size_t most = (TREE_VALUES_MAX - 2) / rows[i].values;
            char *fits = body_of(rows[i].unit, most, named), *exceeds = body_of(rows[i].unit, most + 1, named);
            expect_row(decode(fits) == RECEIPT_JSON_OK, "%zu of %s: %s", most, rows[i].unit, error.message);
            expect_malformed(exceeds);
            expect_row(strcmp(error.message, "The body has more than 10000 JSON values.") == 0 && error.line == 0,
                       "%zu of %s: %s", most + 1, rows[i].unit, error.message);
            free(fits);
            free(exceeds);
        }
    end_table();
}

/* What ends before there are so many values is refused for what is wrong there. */
static void what_is_no_json_is_not_refused_for_its_values(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"[1", " 1"}, {"{\"a\":1", " \"b\":1"}, {"[1,", ",1"}, {"", "{}"}, {"", "x "}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *rest = repeat(rows[i][1], 2 * TREE_VALUES_MAX);
        char *body = format_text("%s%s", rows[i][0], rest);
        expect_malformed(body);
        expect_row(!strstr(error.message, "values"), "%s%s…: %s", rows[i][0], rows[i][1], error.message);
        free(rest);
        free(body);
    }
    end_table();
}

/* Objects and arrays of every size around which their tables grow, and texts of every length at which the lexer's does.
 */
static void growing_is_counted(void **state) {
    (void)state;
    for (unsigned count = 0; count <= 1100; count++) {
        char *text = NULL;
        size_t size;
        FILE *body = open_memstream(&text, &size);
        assert_non_null(body);
        fprintf(body, "{\"array\":[");
        for (unsigned i = 0; i < count; i++)
            fprintf(body, "%s0", i > 0 ? "," : "");
        fprintf(body, "],\"object\":{");
        for (unsigned i = 0; i < count; i++)
            fprintf(body, "%s\"%08x\":0", i > 0 ? "," : "", i);
        fprintf(body, "}}");
        assert_int_equal(fclose(body), 0);
        expect_row(decode_bytes(text, size) == RECEIPT_JSON_OK, "%u: %s", count, error.message);
        free(text);
        char *x = repeat("x", count);
        const char *const bodies[] = {"[\"%s\"]", "{\"%s\":0}", "[%s", "[\"%s", "[1%s]", "[1e1EEEE%s", "%s"};
        for (size_t i = 0; i < COUNT_OF(bodies); i++) {
            const char *place = strstr(bodies[i], "%s");
            char *longer = format_text("%.*s%s%s", (int)(place - bodies[i]), bodies[i], x, place + 2);
            decode(longer);
            free(longer);
        }
        free(x);
        char *digits = repeat("1", count + 1);
        char *number = format_text("[%s]", digits);
        decode(number);
        free(digits);
        free(number);
    }
    end_table();
}

static void a_receipt_is_decoded_without_the_heap_for_its_tree(void **state) {
    (void)state;
    char *body = make_body(NULL, 0, "\"one\":1,\"another\":{\"a\":[1,2,3]}");
    assert_true(tree_memory(body, strlen(body)) < 16 * 1024);
    free(body);
}

#define ZEROS_99 "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

/* What goes into the column extra when the table lacks columns: what a program writes that does not know the fields. */
static void fields_without_a_column_go_into_extra_as_they_were_sent(void **state) {
    (void)state;
    static const struct {
        const char *body, *missing[3], *extra;
    } rows[] = {
        {"{\"sku\":\"1\"}", {"upc"}, ""},
        {"{\"sku\":\"1\"}", {"sku"}, "{\"sku\":\"1\"}"},
        {"{\"sku\":12345678901234567890123}", {"sku"}, "{\"sku\":12345678901234567890123}"},
        /* jsonb counts it as equal to what was sent. */
        {"{\"sku\":1.50e2}", {"sku"}, "{\"sku\":150}"},
        {"{\"sku\":1e99}", {"sku"}, "{\"sku\":1" ZEROS_99 "}"},
        {"{\"to\":{\"identifier\":\"+1\"}}", {"to.identifier"}, "{\"to\":{\"identifier\":\"+1\"}}"},
        {"{\"sku\":null}", {"sku"}, "{\"sku\":null}"},
        {"{\"sku\":\" \"}", {"sku"}, "{\"sku\":\" \"}"},
        {"{\"sku\":\"\"}", {"sku"}, "{\"sku\":\"\"}"},
        {"{\"sku\":\"a\\\"\\u0001\"}", {"sku"}, "{\"sku\":\"a\\\"\\u0001\"}"},
        {"{\"x\":1,\"sku\":\"1\",\"upc\":2}", {"sku", "upc"}, "{\"x\":1,\"sku\":\"1\",\"upc\":2}"},
        {"{\"to\":{\"type\":\"s\"}}", {"to.type"}, "{\"to\":{\"type\":\"s\"}}"},
        {"{\"to\":{\"type\":\"s\"},\"x\":1}", {"to.type"}, "{\"x\":1,\"to\":{\"type\":\"s\"}}"},
        {"{\"to\":{\"type\":\"s\",\"x\":1}}", {"to.type"}, "{\"to\":{\"x\":1,\"type\":\"s\"}}"},
        {"{\"to\":{\"identifier\":5,\"x\":1},\"y\":[2],\"from\":{\"z\":3},\"sku\":\"k\"}",
         {"to.identifier", "from.type", "sku"},
         "{\"to\":{\"x\":1,\"identifier\":5},\"y\":[2],\"from\":{\"z\":3},\"sku\":\"k\"}"},
        {"{\"reference\":{\"type\":\"RA\"},\"from\":{\"z\":{}},\"to\":{\"type\":\"t\"}}",
         {"reference.type", "to.type"},
         "{\"from\":{\"z\":{}},\"to\":{\"type\":\"t\"},\"reference\":{\"type\":\"RA\"}}"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct receipt_columns columns = {0};
        struct receipt_errors errors;
        struct buffer extra;
        for (size_t m = 0; m < COUNT_OF(rows[i].missing) && rows[i].missing[m]; m++) {
            columns.missing[contract_index(rows[i].missing[m])] = true;
            columns.missing_count++;
        }
        assert_int_equal(decode(rows[i].body), RECEIPT_JSON_OK);
        receipt_validate(&receipt, &(struct receipt_rules){0}, &errors); /* it tells blank texts */
        buffer_init(&extra);
        receipt_write_extra(&extra, &receipt, &columns);
        expect_row(text_is(extra.data ? extra.data : "", extra.len, rows[i].extra), "%s: %.*s", rows[i].body,
                   (int)extra.len, extra.data);
        buffer_fini(&extra);
    }
    end_table();
}

/* As numbers that no field describes. */
static void a_long_integer_without_a_column_becomes_a_string(void **state) {
    (void)state;
    struct receipt_columns columns = {.missing_count = 1};
    char *digits = repeat("7", 1001), *body = format_text("{\"sku\":%s,\"x\":%s}", digits, digits);
    char *expected = format_text("{\"x\":\"%s\",\"sku\":\"%s\"}", digits, digits);
    struct buffer extra;
    columns.missing[contract_index("sku")] = true;
    assert_int_equal(decode(body), RECEIPT_JSON_OK);
    buffer_init(&extra);
    receipt_write_extra(&extra, &receipt, &columns);
    assert_true(text_is(extra.data, extra.len, expected));
    buffer_fini(&extra);
    free(digits);
    free(body);
    free(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_long_integer_without_a_column_becomes_a_string, forget_receipt),
        cmocka_unit_test_teardown(fields_without_a_column_go_into_extra_as_they_were_sent, forget_receipt),
        cmocka_unit_test_teardown(the_vendors_example_is_read_whole, forget_receipt),
        cmocka_unit_test_teardown(every_kind_of_value_is_told_apart_in_every_field, forget_receipt),
        cmocka_unit_test_teardown(an_object_of_another_type_is_told, forget_receipt),
        cmocka_unit_test_teardown(strings_are_unescaped, forget_receipt),
        cmocka_unit_test_teardown(escaped_names_are_names, forget_receipt),
        cmocka_unit_test_teardown(the_text_outlives_the_body, forget_receipt),
        cmocka_unit_test_teardown(white_space_is_allowed_everywhere, forget_receipt),
        cmocka_unit_test_teardown(unknown_fields_are_kept_as_they_were, forget_receipt),
        cmocka_unit_test_teardown(numbers_in_unknown_fields_keep_their_digits, forget_receipt),
        cmocka_unit_test_teardown(numbers_that_would_grow_become_strings_of_their_digits, forget_receipt),
        cmocka_unit_test_teardown(hostile_text_is_kept_in_extra, forget_receipt),
        cmocka_unit_test_teardown(numbers_stay_in_step_with_strings_around_them, forget_receipt),
        cmocka_unit_test_teardown(made_up_documents_come_out_as_they_went_in, forget_receipt),
        cmocka_unit_test_teardown(what_is_taken_for_a_number_is_one, forget_receipt),
        cmocka_unit_test_teardown(numbers_that_break_the_grammar_are_malformed, forget_receipt),
        cmocka_unit_test_teardown(malformed_bodies_are_told_with_their_position_and_without_quoting_them,
                                  forget_receipt),
        cmocka_unit_test_teardown(a_name_may_stand_in_several_objects, forget_receipt),
        cmocka_unit_test_teardown(a_nul_character_is_malformed_wherever_it_stands, forget_receipt),
        cmocka_unit_test_teardown(a_stray_byte_is_malformed_wherever_it_stands, forget_receipt),
        cmocka_unit_test_teardown(a_body_that_was_cut_is_malformed, forget_receipt),
        cmocka_unit_test_teardown(what_is_not_utf_8_is_malformed, forget_receipt),
        cmocka_unit_test_teardown(lone_surrogates_are_malformed, forget_receipt),
        cmocka_unit_test_teardown(deep_nesting_is_kept_up_to_the_limit_and_malformed_beyond, forget_receipt),
        cmocka_unit_test_teardown(deep_nesting_in_a_field_is_passed_over, forget_receipt),
        cmocka_unit_test_teardown(a_matter_of_no_position_has_none, forget_receipt),
        cmocka_unit_test_teardown(positions_do_not_depend_on_the_numbers_before, forget_receipt),
        cmocka_unit_test_teardown(an_error_is_where_it_is_in_the_body, forget_receipt),
        cmocka_unit_test_teardown(messages_quote_nothing_of_the_body, forget_receipt),
        cmocka_unit_test_teardown(every_byte_can_be_changed_without_a_bad_message, forget_receipt),
        cmocka_unit_test_teardown(no_body_takes_long, forget_receipt),
        cmocka_unit_test_teardown(more_values_than_the_limit_are_malformed, forget_receipt),
        cmocka_unit_test_teardown(what_is_no_json_is_not_refused_for_its_values, forget_receipt),
        cmocka_unit_test_teardown(no_body_takes_more_memory_than_its_bytes_and_values_allow, forget_receipt),
        cmocka_unit_test_teardown(growing_is_counted, forget_receipt),
        cmocka_unit_test_teardown(a_receipt_is_decoded_without_the_heap_for_its_tree, forget_receipt),
    };
    return cmocka_run_group_tests_name("receipt_json", tests, NULL, NULL);
}
