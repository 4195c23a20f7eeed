/* config.h: every variable with its default, its limits, and what is said about a bad value. */
#include "config.h"

#include "cpus.h"
#include "unit.h"

#include <inttypes.h>

static struct config config;
static char *said; /* what was written to `errors` */

/* Loads an environment of these variables, ended by NULL, besides the required one. */
static bool load(const char *const *variables) {
    char *environment[32] = {"RECEIPTD_KEYS_FILE=/keys"};
    size_t count = 1, size;
    for (; *variables; variables++) {
        assert_true(count + 1 < COUNT_OF(environment));
        environment[count++] = (char *)*variables;
    }
    free(said);
    FILE *errors = open_memstream(&said, &size);
    assert_non_null(errors);
    memset(&config, 0xa5, sizeof config);
    bool ok = config_load(&config, environment, errors);
    assert_int_equal(fclose(errors), 0);
    return ok;
}

static bool load_one(const char *name, const char *value) {
    char *variable = format_text("%s=%s", name, value);
    bool ok = load((const char *const[]){variable, NULL});
    free(variable);
    return ok;
}

static int forget_said(void **state) {
    (void)state;
    free(said);
    said = NULL;
    return 0;
}

static void expect_taken(const char *name, const char *value) {
    expect_row(load_one(name, value) && *said == '\0', "%s='%s': %s", name, value, said);
}

/* Refused with one line that names the variable. */
static void expect_refused(const char *name, const char *value) {
    expect_row(!load_one(name, value), "%s='%s' is taken", name, value);
    expect_row(strncmp(said, name, strlen(name)) == 0 && strchr(said, '\n') == said + strlen(said) - 1,
               "%s='%s': said '%s'", name, value, said);
}

static void the_keys_file_is_required(void **state) {
    (void)state;
    char *environment[] = {NULL, NULL};
    FILE *errors = open_memstream(&said, &(size_t){0});
    assert_false(config_load(&config, environment, errors));
    environment[0] = "RECEIPTD_KEYS_FILE=";
    assert_false(config_load(&config, environment, errors));
    fclose(errors);
    assert_int_equal(strncmp(said, "RECEIPTD_KEYS_FILE is not set", 29), 0);
    assert_non_null(strstr(said, "\nRECEIPTD_KEYS_FILE is empty\n"));
    assert_true(load((const char *const[]){NULL}));
    assert_string_equal(config.keys_file, "/keys");
}

static const struct {
    const char *name;
    const void *value;
    size_t size;                           /* of the value: unsigned or size_t */
    uint64_t initial, min, max;            /* initial 0: */
    unsigned (*initial_of)(unsigned cpus); /* the default is of the machine */
} numbers[] = {
    {"RECEIPTD_THREADS", &config.threads, sizeof config.threads, 0, 1, 64, config_default_threads},
    {"RECEIPTD_PG_CONNECTIONS", &config.pg_connections, sizeof config.pg_connections, 0, 1, 16,
     config_default_pg_connections},
    {"RECEIPTD_BATCH_MAX", &config.batch_max, sizeof config.batch_max, 64, 1, 2000, NULL},
    {"RECEIPTD_QUEUE_MAX", &config.queue_max, sizeof config.queue_max, 16384, 1, 1000000, NULL},
    {"RECEIPTD_QUEUE_MAX_BYTES", &config.queue_max_bytes, sizeof config.queue_max_bytes, 67108864, 1048576,
     sizeof(size_t) > 4 ? (uint64_t)16 << 30 : SIZE_MAX, NULL},
    {"RECEIPTD_DEADLINE_MS", &config.deadline_ms, sizeof config.deadline_ms, 10000, 100, 600000, NULL},
};

static uint64_t number_value(size_t i) {
    return numbers[i].size == sizeof(unsigned) ? *(const unsigned *)numbers[i].value
                                               : *(const size_t *)numbers[i].value;
}

static uint64_t number_default(size_t i) {
    return numbers[i].initial_of ? numbers[i].initial_of(cpus_usable()) : numbers[i].initial;
}

static void numbers_have_a_default_and_limits(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        const char *name = numbers[i].name;
        const uint64_t good[] = {numbers[i].min, numbers[i].min + 1, numbers[i].max - 1, numbers[i].max};
        const uint64_t bad[] = {0, numbers[i].min - 1, numbers[i].max + 1, UINT64_MAX};
        assert_true(load((const char *const[]){NULL}));
        expect_row(number_value(i) == number_default(i), "%s: default %" PRIu64, name, number_value(i));
        for (size_t n = 0; n < COUNT_OF(good); n++) {
            char *text = format_text("%" PRIu64, good[n]);
            expect_taken(name, text);
            expect_row(number_value(i) == good[n], "%s=%s became %" PRIu64, name, text, number_value(i));
            free(text);
        }
        for (size_t n = 0; n < COUNT_OF(bad); n++) {
            char *text = format_text("%" PRIu64, bad[n]);
            expect_refused(name, text);
            free(text);
        }
    }
    end_table();
}

static void a_larger_machine_has_larger_defaults(void **state) {
    (void)state;
    static const struct {
        unsigned cpus, threads, pg_connections;
    } rows[] = {{1, 1, 2},   {2, 2, 2},   {4, 4, 2},   {8, 8, 2},   {12, 12, 3},
                {16, 16, 4}, {32, 32, 8}, {64, 64, 8}, {65, 64, 8}, {100000, 64, 8}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        unsigned threads = config_default_threads(rows[i].cpus),
                 pg_connections = config_default_pg_connections(rows[i].cpus);
        expect_row(threads == rows[i].threads && pg_connections == rows[i].pg_connections,
                   "%u processors: %u threads, %u pg_connections", rows[i].cpus, threads, pg_connections);
    }
    end_table();
}

static void a_number_is_digits_only(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "x",
                                        "1x",
                                        "12 ",
                                        " 12",
                                        "+12",
                                        "-12",
                                        "12.0",
                                        "0x10",
                                        "1e1",

                                        "1,2",
                                        "\xd9\xa1",
                                        "4294967308",           /* 2^32 + 12: too much, or that */
                                        "18446744073709551628", /* 2^64 + 12 */
                                        "99999999999999999999999999999999999999999"};
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        for (size_t t = 0; t < COUNT_OF(texts); t++)
            if (strcmp(texts[t], "4294967308") != 0 || numbers[i].max <= UINT_MAX)
                expect_refused(numbers[i].name, texts[t]);
            else
                expect_taken(numbers[i].name, texts[t]);
    end_table();
}

static const struct {
    const char *name, *word;
    int value;
    bool is_default;
} words[] = {
    {"RECEIPTD_LOG_LEVEL", "error", LOG_ERROR, false},
    {"RECEIPTD_LOG_LEVEL", "warning", LOG_WARNING, false},
    {"RECEIPTD_LOG_LEVEL", "info", LOG_INFO, true},
    {"RECEIPTD_PREPARED_STATEMENTS", "on", true, true},
    {"RECEIPTD_PREPARED_STATEMENTS", "off", false, false},
    {"RECEIPTD_REJECTION_POLICY", "reject", false, true},
    {"RECEIPTD_REJECTION_POLICY", "accept", true, false},
    {"RECEIPTD_REQUIRE_STANDBY", "off", false, true},
    {"RECEIPTD_REQUIRE_STANDBY", "on", true, false},
    {"RECEIPTD_CORE_DUMPS", "off", false, true},
    {"RECEIPTD_CORE_DUMPS", "on", true, false},
};

/* The value of a variable that takes a word. */
static int word_value(const char *name) {
    if (strcmp(name, "RECEIPTD_LOG_LEVEL") == 0)
        return (int)config.log_level;
    return strcmp(name, "RECEIPTD_REJECTION_POLICY") == 0  ? config.accept_invalid
           : strcmp(name, "RECEIPTD_REQUIRE_STANDBY") == 0 ? config.require_standby
           : strcmp(name, "RECEIPTD_CORE_DUMPS") == 0      ? config.core_dumps
                                                           : config.prepared_statements;
}

static void words_stand_for_values(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        expect_taken(words[i].name, words[i].word);
        expect_row(word_value(words[i].name) == words[i].value, "%s=%s became %d", words[i].name, words[i].word,
                   word_value(words[i].name));
        if (!words[i].is_default)
            continue;
        assert_true(load((const char *const[]){NULL}));
        expect_row(word_value(words[i].name) == words[i].value, "%s: default %d", words[i].name,
                   word_value(words[i].name));
    }
    end_table();
}

static void a_required_standby_needs_a_session_of_its_own(void **state) {
    (void)state;
    assert_false(load((const char *const[]){"RECEIPTD_REQUIRE_STANDBY=on", "RECEIPTD_PREPARED_STATEMENTS=off", NULL}));
    assert_int_equal(strncmp(said, "RECEIPTD_REQUIRE_STANDBY=on: ", 29), 0);
}

static void other_words_are_refused(void **state) {
    (void)state;
    static const char *const others[] = {"",  " ",    "x",     "yes",    "1",
                                         "0", "true", "debug", "off on", "error warning info"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        const char *name = words[i].name, *word = words[i].word;
        char *changed[] = {format_text("%s ", word), format_text(" %s", word), format_text("%sx", word),
                           format_text("%.*s", (int)strlen(word) - 1, word), format_text("%s", word)};
        changed[4][0] = (char)(changed[4][0] - 'a' + 'A');
        for (size_t c = 0; c < COUNT_OF(changed); c++) {
            expect_refused(name, changed[c]);
            free(changed[c]);
        }
        for (size_t o = 0; o < COUNT_OF(others); o++)
            expect_refused(name, others[o]);
    }
    end_table();
}

static void lists_have_no_blanks_and_no_empty_values(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *const *value;
    } lists[] = {{"RECEIPTD_EXTRA_CONDITIONS", &config.extra_conditions},
                 {"RECEIPTD_EXTRA_REFERENCE_TYPES", &config.extra_reference_types}};
    static const char *const good[] = {"", "D", "D,E", "D,E,Grade-F_1", "\xc3\x84"};
    static const char *const bad[] = {" ", ",", "D,", ",D", "D,,E", "D E", "D, E", " D", "D ", "\tD", "D,\t"};
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        assert_true(load((const char *const[]){NULL}));
        expect_row(strcmp(*lists[i].value, "") == 0, "%s: default '%s'", lists[i].name, *lists[i].value);
        for (size_t g = 0; g < COUNT_OF(good); g++) {
            /* The value is the environment's own memory, so the variable has to live until it is looked at. */
            char *variable = format_text("%s=%s", lists[i].name, good[g]);
            bool ok = load((const char *const[]){variable, NULL});
            expect_row(ok && strcmp(*lists[i].value, good[g]) == 0, "%s: %s", variable, said);
            free(variable);
        }
        for (size_t b = 0; b < COUNT_OF(bad); b++)
            expect_refused(lists[i].name, bad[b]);
    }
    end_table();
}

static void ignored_fields_need_no_quoting_and_are_not_specified(void **state) {
    (void)state;
    static const char *const good[] = {"", "timestamp", "timestamp,attempt", "a-b.c:D_9", "skus", "identifier"};
    static const char *const bad[] = {",",   "a,",  "a b",          "a'",        "a\"",     "a\\",
                                      "{a}", "sku", "attempt,from", "reference", "\xc3\x84"};
    for (size_t g = 0; g < COUNT_OF(good); g++) {
        char *variable = format_text("RECEIPTD_IGNORED_FIELDS=%s", good[g]);
        bool ok = load((const char *const[]){variable, NULL});
        expect_row(ok && strcmp(config.ignored_fields, good[g]) == 0, "%s: %s", variable, said);
        free(variable);
    }
    for (size_t b = 0; b < COUNT_OF(bad); b++)
        expect_refused("RECEIPTD_IGNORED_FIELDS", bad[b]);
    end_table();
}

static void retries_are_hours_or_attempts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        unsigned hours, attempts;
    } good[] = {{"RECEIPTD_SENDER_RETRIES=32h", 32, 0}, {"RECEIPTD_SENDER_RETRIES=5", 0, 5}, {NULL, 32, 0}};
    static const char *const bad[] = {
        "", "0", "0h", "h", "5x", "-5", " 5", "5 h", "1001", "32H", "99999999999999999999h"};
    for (size_t g = 0; g < COUNT_OF(good); g++) {
        bool ok = load((const char *const[]){good[g].text, NULL});
        expect_row(ok && config.sender_retries.hours == good[g].hours &&
                       config.sender_retries.attempts == good[g].attempts,
                   "%s: %s", good[g].text ? good[g].text : "the default", said);
    }
    for (size_t b = 0; b < COUNT_OF(bad); b++)
        expect_refused("RECEIPTD_SENDER_RETRIES", bad[b]);
    end_table();
}

static void a_variable_that_does_not_exist_is_named(void **state) {
    (void)state;
    static const char *const names[] = {
        "RECEIPTD_THREAD",   "RECEIPTD_THREADSS",   "RECEIPTD_threads", "RECEIPTD_",          "RECEIPTD_THREADS ",
        "RECEIPTD_BATCHMAX", "RECEIPTD_KEYS_FILES", "RECEIPTD_API",     "RECEIPTD_URL_OTHER", "RECEIPTD_DEADLINE"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        expect_refused(names[i], "17");
        expect_row(!strstr(said, "17"), "%s: the value is shown: %s", names[i], said); /* it may be a secret */
    }
    end_table();
}

static void other_programs_variables_are_ignored(void **state) {
    (void)state;
    assert_true(load((const char *const[]){"PATH=/bin", "PGHOST=db", "RECEIPTD=1", "RECEIPT_THREADS=x", "receiptd_x=1",
                                           "XRECEIPTD_THREADS=x", "no_equals_sign", "", NULL}));
    assert_string_equal(said, "");
    assert_int_equal(config.threads, config_default_threads(cpus_usable()));
}

static void every_mistake_is_said_at_once(void **state) {
    (void)state;
    assert_false(load((const char *const[]){"RECEIPTD_THREADS=0", "RECEIPTD_MISSPELT=1", "RECEIPTD_LOG_LEVEL=loud",
                                            "RECEIPTD_EXTRA_CONDITIONS=,", "RECEIPTD_QUEUE_MAX=7", NULL}));
    static const char *const names[] = {"RECEIPTD_THREADS=0", "RECEIPTD_MISSPELT", "RECEIPTD_LOG_LEVEL=loud",
                                        "RECEIPTD_EXTRA_CONDITIONS=,"};
    unsigned lines = 0;
    for (const char *c = said; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, COUNT_OF(names));
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_non_null(strstr(said, names[i]));
}

static void the_help_has_every_variable_with_range_and_default(void **state) {
    (void)state;
    char *help = NULL;
    FILE *out = open_memstream(&help, &(size_t){0});
    config_describe(out);
    fclose(out);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        const char *at = strstr(help, numbers[i].name);
        char *range = format_text("%" PRIu64 " to %" PRIu64 "; default %" PRIu64 "%s\n", numbers[i].min, numbers[i].max,
                                  number_default(i), numbers[i].initial_of ? " here, by the number of processors" : "");
        expect_row(at && strstr(at, range), "%s has not %s", numbers[i].name, range);
        free(range);
    }
    static const char *const texts[] = {"RECEIPTD_KEYS_FILE\n",
                                        "not with RECEIPTD_AUTH=remote_user\n      required\n",
                                        "RECEIPTD_LOG_LEVEL\n",
                                        "one of: error warning info; default info\n",
                                        "RECEIPTD_PREPARED_STATEMENTS\n",
                                        "one of: off on; default on\n",
                                        "RECEIPTD_REJECTION_POLICY\n",
                                        "one of: reject accept; default reject\n",
                                        "RECEIPTD_EXTRA_CONDITIONS\n",
                                        "RECEIPTD_EXTRA_REFERENCE_TYPES\n",
                                        "default none\n"};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        expect_row(strstr(help, texts[i]), "'%s' is not in it", texts[i]);
    free(help);
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_keys_file_is_required, forget_said),
        cmocka_unit_test_teardown(numbers_have_a_default_and_limits, forget_said),
        cmocka_unit_test(a_larger_machine_has_larger_defaults),
        cmocka_unit_test_teardown(a_number_is_digits_only, forget_said),
        cmocka_unit_test_teardown(words_stand_for_values, forget_said),
        cmocka_unit_test_teardown(other_words_are_refused, forget_said),
        cmocka_unit_test_teardown(a_required_standby_needs_a_session_of_its_own, forget_said),
        cmocka_unit_test_teardown(lists_have_no_blanks_and_no_empty_values, forget_said),
        cmocka_unit_test_teardown(ignored_fields_need_no_quoting_and_are_not_specified, forget_said),
        cmocka_unit_test_teardown(retries_are_hours_or_attempts, forget_said),
        cmocka_unit_test_teardown(a_variable_that_does_not_exist_is_named, forget_said),
        cmocka_unit_test_teardown(other_programs_variables_are_ignored, forget_said),
        cmocka_unit_test_teardown(every_mistake_is_said_at_once, forget_said),
        cmocka_unit_test_teardown(the_help_has_every_variable_with_range_and_default, forget_said),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
