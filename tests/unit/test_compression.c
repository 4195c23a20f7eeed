/* compression.h: bodies that were sent compressed. */
#include "compression.h"

#include "packed.h"

enum { MOST = 1000000 };

static struct buffer unpacked;

static enum compression_result unpack(const char *body, size_t len) {
    buffer_fini(&unpacked);
    buffer_init(&unpacked);
    /* A copy of exactly that size: reading beyond it is seen by the sanitizer. */
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, body, len);
    enum compression_result result = compression_unpack(copy, len, MOST, &unpacked);
    free(copy);
    return result;
}

static int forget(void **state) {
    (void)state;
    buffer_fini(&unpacked);
    return 0;
}

static void a_body_that_is_not_compressed_is_left_alone(void **state) {
    (void)state;
    static const struct {
        const char *body;
        size_t len;
    } rows[] = {{"", 0},         {"{}", 2},       {"\x1f", 1},      {"x", 1},          {"\x1f\x8c", 2},
                {"x\x9d", 2},    {"\x88\x1c", 2}, {"\x28\xb5", 2},  {"\x1f{\x8b}", 4}, {"xy", 2},
                {"\x8b\x1f", 2}, {"\n\n", 2},     {"[\x1f\x8b]", 4}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect_row(unpack(rows[i].body, rows[i].len) == COMPRESSION_NONE, "row %zu", i);
        expect_row(!compression_is_known(rows[i].body, rows[i].len), "row %zu is known", i);
    }
    end_table();
}

static void gzip_and_zlib_are_unpacked(void **state) {
    (void)state;
    static const int formats[] = {GZIP, ZLIB, 9, 10, 11, 12, 13, 14}; /* the last ones: zlib with smaller windows */
    static const size_t sizes[] = {0, 1, 2, 100, 16383, 16384, 16385, 100000, MOST};
    for (size_t f = 0; f < COUNT_OF(formats); f++) {
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            char *text = repeat("a", sizes[s]);
            for (size_t i = 0; i < sizes[s]; i++)
                text[i] = (char)(i * i % 251);
            size_t len;
            char *packed = pack(text, sizes[s], formats[f], &len);
            expect_row(unpack(packed, len) == COMPRESSION_UNPACKED && unpacked.len == sizes[s] &&
                           memcmp(unpacked.data, text, sizes[s]) == 0,
                       "format %d, %zu bytes", formats[f], sizes[s]);
            free(packed);
            free(text);
        }
    }
    end_table();
}

static void what_is_cut_short_or_changed_is_damaged(void **state) {
    (void)state;
    static const char text[] =
        "{\"program_identifier\":\"returns\",\"asn_number\":\"SO1\",\"unit_identifier\":\"LP1\"}";
    size_t len;
    char *packed = pack(text, strlen(text), GZIP, &len);
    for (size_t cut = 2; cut < len; cut++)
        expect_row(unpack(packed, cut) == COMPRESSION_DAMAGED, "cut at %zu", cut);
    for (size_t at = 2; at < len; at++) {
        packed[at] ^= 0x10;
        /* Of the header, the time, the flags and the system do not matter (RFC 1952). */
        bool told = unpack(packed, len) == COMPRESSION_DAMAGED;
        expect_row(told || (at >= 3 && at < 10) ||
                       (unpacked.len == strlen(text) && memcmp(unpacked.data, text, unpacked.len) == 0),
                   "changed at %zu", at);
        packed[at] ^= 0x10;
    }
    expect_row(unpack(packed, len) == COMPRESSION_UNPACKED, "put right");
    free(packed);
    end_table();
}

static void several_gzips_are_one_and_what_else_follows_is_ignored(void **state) {
    (void)state;
    size_t one_len, other_len;
    char *one = pack("{\"sku\":", 7, GZIP, &one_len), *other = pack("1}", 2, GZIP, &other_len);
    char joined[256];
    memcpy(joined, one, one_len);
    memcpy(joined + one_len, other, other_len);
    assert_int_equal(unpack(joined, one_len + other_len), COMPRESSION_UNPACKED);
    assert_true(text_is(unpacked.data, unpacked.len, "{\"sku\":1}"));
    memset(joined + one_len + other_len, 0, 10);
    assert_int_equal(unpack(joined, one_len + other_len + 10), COMPRESSION_UNPACKED);
    assert_true(text_is(unpacked.data, unpacked.len, "{\"sku\":1}"));
    memcpy(joined + one_len + other_len, "garbage", 7);
    assert_int_equal(unpack(joined, one_len + other_len + 7), COMPRESSION_UNPACKED);
    assert_int_equal(unpack(joined, one_len + other_len - 1), COMPRESSION_DAMAGED);
    free(one);
    free(other);
}

static void a_bomb_is_too_large_before_it_costs_anything(void **state) {
    (void)state;
    enum { BOMB = 200 * 1000 * 1000 };
    char *zeros = calloc(1, BOMB);
    assert_non_null(zeros);
    static const int formats[] = {GZIP, ZLIB};
    for (size_t f = 0; f < COUNT_OF(formats); f++) {
        size_t len;
        char *packed = pack(zeros, BOMB, formats[f], &len);
        assert_true(len < 300 * 1000);
        assert_int_equal(unpack(packed, len), COMPRESSION_TOO_LARGE);
        assert_true(unpacked.len <= MOST + 16384 && unpacked.capacity <= 2 * (MOST + 16384));
        free(packed);
        packed = pack(zeros, MOST, formats[f], &len);
        assert_int_equal(unpack(packed, len), COMPRESSION_UNPACKED);
        free(packed);
        packed = pack(zeros, MOST + 1, formats[f], &len);
        assert_int_equal(unpack(packed, len), COMPRESSION_TOO_LARGE);
        free(packed);
    }
    /* Many small ones behind each other. */
    size_t len;
    char *packed = pack(zeros, 10000, GZIP, &len), *many = malloc(200 * len);
    assert_non_null(many);
    for (size_t i = 0; i < 200; i++)
        memcpy(many + i * len, packed, len);
    assert_int_equal(unpack(many, 100 * len), COMPRESSION_UNPACKED);
    assert_int_equal(unpack(many, 101 * len), COMPRESSION_TOO_LARGE);
    free(packed);
    free(many);
    free(zeros);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_body_that_is_not_compressed_is_left_alone, forget),
        cmocka_unit_test_teardown(gzip_and_zlib_are_unpacked, forget),
        cmocka_unit_test_teardown(what_is_cut_short_or_changed_is_damaged, forget),
        cmocka_unit_test_teardown(several_gzips_are_one_and_what_else_follows_is_ignored, forget),
        cmocka_unit_test_teardown(a_bomb_is_too_large_before_it_costs_anything, forget),
    };
    return cmocka_run_group_tests_name("compression", tests, NULL, NULL);
}
