/* spool.h: every record comes back once and in order, in memory and from the file. */
#include "spool.h"

#include "unit.h"

#include <errno.h>

enum { MEMORY = 2 * SPOOL_RECORD_MAX };

struct item {
    uint64_t order;
    size_t len;
    char text[SPOOL_RECORD_MAX - 16];
};

static int by_order(const void *a, const void *b) {
    uint64_t first = ((const struct item *)a)->order, second = ((const struct item *)b)->order;
    return (first > second) - (first < second);
}

/* A number and a length for the one that is added as number i: all numbers are different. */
static uint64_t order_of(size_t i) {
    return i * 0x9e3779b97f4a7c15;
}

static size_t len_of(size_t i) {
    return i % 1000 == 7 ? sizeof((struct item *)0)->text : i % 97;
}

static void records_come_back_in_order(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2, 100, 50000};
    struct item *item = calloc(1, sizeof *item);
    assert_non_null(item);
    for (size_t row = 0; row < COUNT_OF(counts); row++) {
        struct spool *spool = spool_new(MEMORY, by_order);
        assert_non_null(spool);
        uint64_t sum = 0, sum_back = 0, last = 0;
        for (size_t i = 0; i < counts[row]; i++) {
            item->order = order_of(i);
            item->len = len_of(i);
            memset(item->text, (int)(item->order & 0xff), item->len);
            sum += item->order ^ item->len;
            assert_true(spool_add(spool, item, offsetof(struct item, text) + item->len));
        }
        assert_true(spool_sort(spool));
        size_t count = 0;
        for (const struct item *back; (back = spool_next(spool)); count++) {
            if (count > 0 && back->order <= last)
                fail_msg("row %zu, record %zu is not in order", row, count);
            last = back->order;
            sum_back += back->order ^ back->len;
            for (size_t i = 0; i < back->len; i++)
                if (back->text[i] != (char)(back->order & 0xff))
                    fail_msg("row %zu, record %zu has other text", row, count);
        }
        expect_row(!spool_failed(spool) && count == counts[row] && sum == sum_back, "%zu: %zu", counts[row], count);
        assert_null(spool_next(spool));
        spool_free(spool);
    }
    free(item);
    end_table();
}

/* Everything is added, or it is known that it was not. */
static void no_room_is_an_error(void **state) {
    (void)state;
    struct spool *spool = spool_new(MEMORY, by_order);
    struct item *item = calloc(1, sizeof *item);
    assert_non_null(item);
    assert_int_equal(setenv("TMPDIR", "/nonexistent", 1), 0);
    size_t count = 0;
    while (count < 1000 && spool_add(spool, item, sizeof *item))
        count++;
    assert_int_equal(errno, ENOENT);
    assert_in_range(count, 1, MEMORY / sizeof *item);
    assert_false(spool_add(spool, item, SPOOL_RECORD_MAX + 1));
    assert_int_equal(unsetenv("TMPDIR"), 0);
    spool_free(spool);
    free(item);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_in_order),
        cmocka_unit_test(no_room_is_an_error),
    };
    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
