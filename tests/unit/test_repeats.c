/* repeats.h: which rejected deliveries are identical. */
#include "repeats.h"

#include "unit.h"

enum { MAX = 8 };

struct row {
    const char *key_name, *body;
    size_t group; /* the first delivery of its group, by position */
};

static void identical_is_the_same_body_of_the_same_key(void **state) {
    (void)state;
    static const struct row rows[MAX] = {{"a", "{}", 0}, {"b", "{}", 1}, {"a", "{ }", 2}, {"a", "{}", 0},
                                         {"a", "", 4},   {"ab", "", 5},  {"a", "b", 6},   {"a", "", 4}};
    struct delivery deliveries[MAX] = {0}, *batch[MAX];
    struct repeats *repeats = repeats_new(MAX);
    size_t count = 0, seen = 0;
    assert_non_null(repeats);
    for (size_t i = 0; i < MAX; i++) {
        batch[i] = &deliveries[i];
        strcpy(deliveries[i].api_key_name, rows[i].key_name);
        deliveries[i].body = (char *)rows[i].body;
        deliveries[i].body_len = strlen(rows[i].body);
        deliveries[i].arrived_us = (int64_t)i;
    }
    const struct repeats_group *groups = repeats_group(repeats, batch, MAX, &count);
    assert_int_equal(count, 6);
    for (size_t g = 0; g < count; g++) {
        seen += groups[g].count;
        for (size_t i = 0; i < groups[g].count; i++) {
            size_t at = (size_t)(groups[g].deliveries[i] - deliveries),
                   first = (size_t)(groups[g].deliveries[0] - deliveries);
            expect_row(rows[at].group == first && (i == 0 || at > first), "delivery %zu is in the group of %zu", at,
                       first);
        }
        expect_row(g == 0 || memcmp(groups[g - 1].deliveries[0]->digest, groups[g].deliveries[0]->digest,
                                    DIGEST_KEPT_BYTES) < 0,
                   "group %zu is not in the order of digests", g);
    }
    end_table();
    assert_int_equal(seen, MAX);
    repeats_free(repeats);
}

/* As sql/deploy/rejected_receipts.sql describes it: printf 'a\0{}' | sha256sum */
static void the_digest_is_that_of_the_documents(void **state) {
    (void)state;
    static const unsigned char expected[DIGEST_KEPT_BYTES] = {0x6d, 0x8a, 0x39, 0xa2, 0x91, 0xdb, 0xa2, 0x79,
                                                              0xb0, 0x29, 0x9a, 0x38, 0xb5, 0x83, 0x5a, 0x23};
    struct delivery delivery = {.api_key_name = "a", .body = (char *)"{}", .body_len = 2}, *batch[] = {&delivery};
    struct repeats *repeats = repeats_new(1);
    size_t count = 0;
    assert_non_null(repeats);
    assert_non_null(repeats_group(repeats, batch, 1, &count));
    assert_memory_equal(delivery.digest, expected, sizeof expected);
    repeats_free(repeats);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identical_is_the_same_body_of_the_same_key),
        cmocka_unit_test(the_digest_is_that_of_the_documents),
    };
    return cmocka_run_group_tests_name("repeats", tests, NULL, NULL);
}
