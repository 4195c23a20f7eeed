/* hosts.h: the order in which hosts are tried, and the primaries that were replaced. */
#include "hosts.h"

#include "clock.h"
#include "unit.h"

static struct hosts *hosts;

static int forget_hosts(void **state) {
    (void)state;
    hosts_free(hosts);
    hosts = NULL;
    return 0;
}

/* The order, as "names|addresses|ports"; the caller frees it. */
static char *order_text(void) {
    size_t size = hosts_text_size(hosts);
    unsigned char order[HOSTS_MAX];
    char *lists = malloc(3 * size);
    hosts_write_order(hosts, lists, lists + size, lists + 2 * size, size, order);
    char *text = format_text("%s|%s|%s", lists, lists + size, lists + 2 * size);
    free(lists);
    return text;
}

static void expect_order(const char *name, const char *expected) {
    char *text = order_text();
    expect_row(strcmp(text, expected) == 0, "%s: %s", name, text);
    free(text);
}

static void lists_are_taken_as_libpq_has_them(void **state) {
    (void)state;
    static const struct {
        const char *names, *addresses, *ports;
        size_t count;
        const char *order;
    } rows[] = {
        {NULL, NULL, NULL, 1, "||"},
        {"", NULL, "5432", 1, "||5432"},
        {"a", NULL, NULL, 1, "a||"},
        {"a,b", NULL, NULL, 2, "a,b||"},
        {"a,b", NULL, "1", 2, "a,b||1,1"},
        {"a,b", NULL, "1,2", 2, "a,b||1,2"},
        {"a,b,c", NULL, "1,,3", 3, "a,b,c||1,,3"},
        {NULL, "10.0.0.1,10.0.0.2", NULL, 2, "|10.0.0.1,10.0.0.2|"},
        {"a,b", "10.0.0.1,10.0.0.2", "1,2", 2, "a,b|10.0.0.1,10.0.0.2|1,2"},
        {"/run/a,/run/b", NULL, NULL, 2, "/run/a,/run/b||"},
        /* libpq refuses these, and says so: not to be changed. */
        {"a,b", "10.0.0.1", NULL, 1, "a|10.0.0.1|"},
        {"a,b,c", NULL, "1,2", 1, "a||1"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        hosts = hosts_new(rows[i].names, rows[i].addresses, rows[i].ports);
        expect_row(hosts_count(hosts) == rows[i].count, "row %zu: %zu hosts", i, hosts_count(hosts));
        expect_order(rows[i].order, rows[i].order);
        forget_hosts(NULL);
    }
    end_table();
}

static void more_than_can_be_told_apart_keep_libpqs_order(void **state) {
    (void)state;
    char names[4 * HOSTS_MAX] = "h";
    for (size_t i = 0; i < HOSTS_MAX; i++)
        strcat(names, ",h");
    hosts = hosts_new(names, NULL, NULL);
    assert_int_equal(hosts_count(hosts), 1);
}

/* Failures are ordered by time, so two of them must not have the same microsecond. */
static void note_failed(size_t host) {
    hosts_note_failed(hosts, host);
    for (int64_t now_us = clock_now_us(); clock_now_us() == now_us;)
        ;
}

static void the_last_good_host_is_tried_first_and_failed_ones_last(void **state) {
    (void)state;
    hosts = hosts_new("a,b,c", NULL, NULL);
    expect_order("new", "a,b,c||");
    hosts_note_good(hosts, 1);
    expect_order("b is good", "b,c,a||");
    note_failed(1);
    expect_order("b failed", "c,a,b||");
    note_failed(2);
    expect_order("then c failed", "a,b,c||");
    note_failed(0);
    expect_order("then a failed: the one that failed first is first again", "b,c,a||");
    hosts_note_good(hosts, 2);
    expect_order("c is good", "c,b,a||");
    end_table();
}

static void sessions_leave_a_host_that_has_failed_another(void **state) {
    (void)state;
    hosts = hosts_new("a,b", NULL, NULL);
    int64_t before_us = clock_now_us();
    assert_false(hosts_has_failed_since(hosts, 0, before_us));
    hosts_note_failed(hosts, 0);
    assert_true(hosts_has_failed_since(hosts, 0, before_us));
    assert_false(hosts_has_failed_since(hosts, 1, before_us));
    assert_false(hosts_has_failed_since(hosts, 0, clock_now_us() + 1));
    forget_hosts(NULL);
    hosts = hosts_new("a", NULL, NULL);
    hosts_note_failed(hosts, 0);
    assert_false(hosts_has_failed_since(hosts, 0, before_us)); /* there is no other */
}

static void a_connection_tells_which_host_it_has(void **state) {
    (void)state;
    hosts = hosts_new("a,a,b", NULL, "1,2,3");
    assert_int_equal(hosts_find(hosts, "a", "", "1"), 0);
    assert_int_equal(hosts_find(hosts, "a", NULL, "2"), 1);
    assert_int_equal(hosts_find(hosts, "b", "10.0.0.9", "3"), 2);
    assert_int_equal(hosts_find(hosts, "other", "", "3"), 0);
    forget_hosts(NULL);
    hosts = hosts_new(NULL, "10.0.0.1,10.0.0.2", NULL);
    assert_int_equal(hosts_find(hosts, "10.0.0.2", "10.0.0.2", "5432"), 1);
}

static void a_primary_on_an_earlier_timeline_was_replaced(void **state) {
    (void)state;
    static const struct {
        uint64_t cluster;
        uint32_t timeline;
        bool current;
    } rows[] = {{7, 1, true},  {7, 1, true}, {7, 3, true}, {7, 2, false}, {7, 3, true},
                {7, 1, false}, {8, 1, true}, {8, 2, true}, {8, 1, false}};
    hosts = hosts_new("a,b", NULL, NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        expect_row(hosts_note_timeline(hosts, rows[i].cluster, rows[i].timeline) == rows[i].current, "row %zu", i);
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lists_are_taken_as_libpq_has_them, forget_hosts),
        cmocka_unit_test_teardown(more_than_can_be_told_apart_keep_libpqs_order, forget_hosts),
        cmocka_unit_test_teardown(the_last_good_host_is_tried_first_and_failed_ones_last, forget_hosts),
        cmocka_unit_test_teardown(sessions_leave_a_host_that_has_failed_another, forget_hosts),
        cmocka_unit_test_teardown(a_connection_tells_which_host_it_has, forget_hosts),
        cmocka_unit_test_teardown(a_primary_on_an_earlier_timeline_was_replaced, forget_hosts),
    };
    return cmocka_run_group_tests_name("hosts", tests, NULL, NULL);
}
