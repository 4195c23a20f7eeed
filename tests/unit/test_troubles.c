/* troubles.h: what is logged of a database that fails, again and again. */
#include "troubles.h"

#include "clock.h"
#include "unit.h"

static struct troubles troubles;
static unsigned more;

static int begin(void **state) {
    (void)state;
    troubles_init(&troubles);
    return 0;
}

static int end(void **state) {
    (void)state;
    troubles_fini(&troubles);
    return 0;
}

static bool note(const char *text, int64_t second) {
    return troubles_note(&troubles, true, &text, 1, second * US_PER_S, &more);
}

static bool note_stored(int64_t second, unsigned *count, int64_t *lasted_us) {
    return troubles_note_stored(&troubles, second * US_PER_S, count, lasted_us);
}

static void the_first_of_each_kind_then_one_a_minute(void **state) {
    (void)state;
    assert_true(note("refused", 1));
    assert_int_equal(more, 0);
    assert_true(note("starting up", 2));
    for (int64_t second = 3; second < 61; second++)
        assert_false(note("refused", second));
    assert_true(note("refused", 61));
    assert_int_equal(more, 58);
    assert_false(note("refused", 62));
    assert_true(note("starting up", 62));
    assert_int_equal(more, 0);
}

static void a_database_that_fails_in_turns_has_a_line_a_minute_for_each_kind(void **state) {
    (void)state;
    static const char *const kinds[] = {"refused", "no such host", "starting up", "53300"};
    unsigned logged = 0;
    for (int64_t second = 1; second <= 600; second++)
        logged += note(kinds[second % 4], second);
    assert_int_equal(logged, 40);
}

static void more_kinds_than_there_is_room_for(void **state) {
    (void)state;
    char text[2] = "a";
    for (int64_t second = 1; second <= TROUBLES_KINDS + 1; second++, text[0]++)
        assert_true(note(text, second));
    assert_false(note("i", 10)); /* the last one */
    assert_false(note("b", 10)); /* the oldest that is known */
    assert_true(note("a", 10));
}

static void it_is_over_when_something_was_stored_and_nothing_failed_for_a_while(void **state) {
    (void)state;
    unsigned count;
    int64_t lasted_us;
    assert_false(note_stored(1, &count, &lasted_us));
    note("refused", 2);
    note("refused", 12);
    assert_false(note_stored(13, &count, &lasted_us));
    note("53100", 14);
    assert_true(note_stored(19, &count, &lasted_us));
    assert_int_equal(count, 3);
    assert_int_equal(lasted_us, 12 * US_PER_S);
    assert_false(note_stored(30, &count, &lasted_us));
    /* The next one is a new one. */
    assert_true(note("refused", 31));
    assert_true(note_stored(40, &count, &lasted_us));
    assert_int_equal(count, 1);
}

static void what_an_inspection_finds_again_is_logged_again(void **state) {
    (void)state;
    assert_true(note("fsync is off", 1));
    troubles_note_inspected(&troubles, false);
    assert_false(note("fsync is off", 2));
    troubles_note_inspected(&troubles, true);
    assert_true(note("fsync is off", 3));
    troubles_note_inspected(&troubles, true); /* and was before */
    assert_false(note("fsync is off", 4));
}

static void a_locked_row_is_no_outage(void **state) {
    (void)state;
    unsigned count;
    int64_t lasted_us;
    const char *text = "55P03";
    assert_true(troubles_note(&troubles, false, &text, 1, US_PER_S, &more));
    assert_false(troubles_note(&troubles, false, &text, 1, 2 * US_PER_S, &more));
    assert_false(note_stored(30, &count, &lasted_us));
}

static void a_connection_is_logged_again_after_a_trouble_that_was(void **state) {
    (void)state;
    assert_true(troubles_note_connected(&troubles, "host=a"));
    assert_false(troubles_note_connected(&troubles, "host=a"));
    assert_true(troubles_note_connected(&troubles, "host=b"));
    note("53100", 1);
    assert_true(troubles_note_connected(&troubles, "host=b"));
    note("53100", 2);
    assert_false(troubles_note_connected(&troubles, "host=b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_of_each_kind_then_one_a_minute, begin, end),
        cmocka_unit_test_setup_teardown(a_database_that_fails_in_turns_has_a_line_a_minute_for_each_kind, begin, end),
        cmocka_unit_test_setup_teardown(more_kinds_than_there_is_room_for, begin, end),
        cmocka_unit_test_setup_teardown(it_is_over_when_something_was_stored_and_nothing_failed_for_a_while, begin,
                                        end),
        cmocka_unit_test_setup_teardown(what_an_inspection_finds_again_is_logged_again, begin, end),
        cmocka_unit_test_setup_teardown(a_locked_row_is_no_outage, begin, end),
        cmocka_unit_test_setup_teardown(a_connection_is_logged_again_after_a_trouble_that_was, begin, end),
    };
    return cmocka_run_group_tests_name("troubles", tests, NULL, NULL);
}
