/* metrics.h: which programs have a label of their own. */
#include "metrics.h"

#include "unit.h"

#include <time.h>

static time_t now = 1000000000;

/* Takes the place of libc's. */
time_t time(time_t *into) {
    if (into)
        *into = now;
    return now;
}

static void create(const char *program) {
    struct delivery delivery = {.outcome = OUTCOME_CREATED};
    struct receipt_value *value = &delivery.receipt.values[RECEIPT_FIELD_PROGRAM_IDENTIFIER];
    value->text = (char *)program;
    value->len = (uint32_t)strlen(program);
    metrics_count_answer(&delivery);
}

/* When the program last created a receipt; 0: it has no label. */
static unsigned long long created(const char *program) {
    const struct metrics_gauges gauges = {.host = "", .port = ""};
    struct buffer out;
    buffer_init(&out);
    metrics_write(&out, &gauges);
    buffer_append(&out, "", 1);
    assert_false(out.failed);
    char *line = format_text("\nreceiptd_last_created_timestamp_seconds{program=\"%s\"} ", program);
    const char *at = strstr(out.data, line);
    unsigned long long value = at ? strtoull(at + strlen(line), NULL, 10) : 0;
    free(line);
    buffer_fini(&out);
    return value;
}

static void create_numbered(const char *name, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char *program = format_text("%s-%zu", name, i);
        create(program);
        free(program);
    }
}

/* Somebody with a key invents names, but real programs keep their label, and new ones get one again. */
static void invented_programs_do_not_keep_the_labels(void **state) {
    (void)state;
    create("real");
    create("real");
    create_numbered("invented", METRICS_LABELS_MAX);
    assert_int_equal(created("invented-0"), 1000000000);
    assert_int_equal(created("others"), 1000000000);
    now += 3600;
    create("new");
    assert_int_equal(created("new"), 0);
    assert_int_equal(created("others"), 1000003600);
    now += 1;
    create("new");
    assert_int_equal(created("new"), 1000003601);
    assert_int_equal(created("real"), 1000000000);
    /* However many come, those that had a receipt lately stay, and of the others those with the most. */
    create_numbered("more", 1000);
    assert_int_equal(created("new"), 1000003601);
    assert_int_equal(created("invented-0"), 0);
    assert_int_equal(created("invented-5"), 0);
    now += 3601;
    create("real");
    create_numbered("again", 1000);
    assert_int_equal(created("real"), now);
    assert_int_equal(created("new"), 0);
    char *name = repeat("x", METRICS_LABEL_MAX_BYTES + 1);
    create(name);
    assert_int_equal(created(name), 0);
    free(name);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(invented_programs_do_not_keep_the_labels)};
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
