/* buffer.h: what is appended comes out whole and in order, or `failed` says that it did not. */
#include "buffer.h"

#include "unit.h"

static void a_new_buffer_is_empty_and_has_allocated_nothing(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.len, 0);
    assert_false(buffer.failed);
    buffer_append(&buffer, "ignored", 0);
    assert_null(buffer.data);
    buffer_fini(&buffer);
}

static void appends_come_out_in_order(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    buffer_append(&buffer, "a\0b", 3);
    buffer_append_text(&buffer, "|text|");
    buffer_append_format(&buffer, "%s-%05d", "format", 42);
    buffer_append_json_string(&buffer, "json", 4);
    static const char expected[] = "a\0b|text|format-00042\"json\"";
    assert_false(buffer.failed);
    assert_int_equal(buffer.len, sizeof expected - 1);
    assert_memory_equal(buffer.data, expected, buffer.len);
    buffer_fini(&buffer);
}

static void it_grows_as_far_as_needed(void **state) {
    (void)state;
    enum { BYTES = 300000 };
    struct buffer buffer;
    buffer_init(&buffer);
    for (int i = 0; i < BYTES; i++)
        buffer_append(&buffer, &"0123456789"[i % 10], 1);
    char *more = repeat("x", BYTES);
    buffer_append_format(&buffer, "%s!", more);
    buffer_append(&buffer, more, BYTES);
    assert_false(buffer.failed);
    assert_int_equal(buffer.len, 3 * BYTES + 1);
    assert_true(buffer.capacity >= buffer.len);
    for (int i = 0; i < BYTES; i++)
        assert_int_equal(buffer.data[i], '0' + i % 10);
    assert_memory_equal(buffer.data + BYTES, more, BYTES);
    assert_int_equal(buffer.data[2 * BYTES], '!');
    assert_memory_equal(buffer.data + 2 * BYTES + 1, more, BYTES);
    free(more);
    buffer_fini(&buffer);
}

static void reserve_makes_room_for_all_of_it(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 255, 256, 257, 4095, 100000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buffer buffer;
        buffer_init(&buffer);
        buffer_append_text(&buffer, "before");
        assert_true(buffer_reserve(&buffer, sizes[i]));
        assert_true(buffer.capacity - buffer.len >= sizes[i]);
        memset(buffer.data + buffer.len, 'x', sizes[i]); /* the sanitizer looks on */
        assert_memory_equal(buffer.data, "before", 6);
        buffer_fini(&buffer);
    }
}

static void fini_makes_it_empty_and_usable_again(void **state) {
    (void)state;
    struct buffer buffer = {0};
    buffer_fini(&buffer);
    buffer_append_text(&buffer, "one");
    buffer_fini(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.len, 0);
    assert_int_equal(buffer.capacity, 0);
    buffer_append_text(&buffer, "two");
    assert_true(text_is(buffer.data, buffer.len, "two"));
    buffer_fini(&buffer);
}

static void fixed_storage_can_be_filled_to_the_last_byte(void **state) {
    (void)state;
    char storage[] = "........*";
    struct buffer buffer;
    buffer_init_fixed(&buffer, storage, 8);
    buffer_append_text(&buffer, "1234");
    buffer_append_text(&buffer, "5678");
    assert_false(buffer.failed);
    assert_ptr_equal(buffer.data, storage);
    assert_int_equal(buffer.len, 8);
    assert_string_equal(storage, "12345678*");
    buffer_fini(&buffer);
}

enum { STORAGE_SIZE = 16 };

static void append_plain(struct buffer *buffer) {
    buffer_append(buffer, "0123456789", 10);
}
static void append_text(struct buffer *buffer) {
    buffer_append_text(buffer, "0123456789");
}
static void append_format(struct buffer *buffer) {
    buffer_append_format(buffer, "%d", 1234567890);
}
static void append_json(struct buffer *buffer) {
    buffer_append_json_string(buffer, "01\"3456789", 10);
}
static void reserve(struct buffer *buffer) {
    buffer_reserve(buffer, 10);
}

static void an_append_that_does_not_fit_changes_nothing_but_failed(void **state) {
    (void)state;
    static const struct {
        const char *name;
        void (*append)(struct buffer *);
    } rows[] = {{"append", append_plain},
                {"append_text", append_text},
                {"append_format", append_format},
                {"append_json_string", append_json},
                {"reserve", reserve}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char storage[STORAGE_SIZE + 1] = "................*";
        struct buffer buffer;
        buffer_init_fixed(&buffer, storage, STORAGE_SIZE);
        buffer_append_text(&buffer, "seven..");
        rows[i].append(&buffer);
        expect_row(buffer.failed, "%s did not set failed", rows[i].name);
        expect_row(text_is(buffer.data, buffer.len, "seven.."), "%s left %.*s", rows[i].name, (int)buffer.len,
                   buffer.data);
        expect_row(storage[STORAGE_SIZE] == '*', "%s wrote behind the storage", rows[i].name);
    }
    end_table();
}

static void failed_sticks(void **state) {
    (void)state;
    char storage[8];
    struct buffer buffer;
    buffer_init_fixed(&buffer, storage, sizeof storage);
    buffer_append_text(&buffer, "123456789");
    assert_true(buffer.failed);
    buffer_append(&buffer, "1", 1);
    buffer_append_text(&buffer, "2");
    buffer_append_format(&buffer, "%d", 3);
    buffer_append_json_string(&buffer, "", 0);
    assert_false(buffer_reserve(&buffer, 0));
    assert_true(buffer.failed);
    assert_int_equal(buffer.len, 0);
}

static void a_size_beyond_all_memory_fails(void **state) {
    (void)state;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 5, SIZE_MAX / 2 + 1, SIZE_MAX / 2 - 6};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buffer buffer;
        buffer_init(&buffer);
        buffer_append_text(&buffer, "123456");
        assert_false(buffer_reserve(&buffer, sizes[i]));
        assert_true(buffer.failed);
        assert_true(text_is(buffer.data, buffer.len, "123456"));
        buffer_fini(&buffer);
    }
}

static void json_strings_are_escaped_as_rfc_8259_says(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *json;
    } rows[] = {
        {"", 0, "\"\""},
        {"plain text/{}[]:,'", 18, "\"plain text/{}[]:,'\""},
        {"\"", 1, "\"\\\"\""},
        {"\\", 1, "\"\\\\\""},
        {"a\"\"b\\\\c", 7, "\"a\\\"\\\"b\\\\\\\\c\""},
        {"\n", 1, "\"\\u000a\""},
        {"\x01z\x1f", 3, "\"\\u0001z\\u001f\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        {"\x7f", 1, "\"\x7f\""},
        {"\xc3\xa4\xf0\x9f\x98\x80", 6, "\"\xc3\xa4\xf0\x9f\x98\x80\""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buffer buffer;
        buffer_init(&buffer);
        buffer_append_json_string(&buffer, rows[i].text, rows[i].len);
        expect_row(text_is(buffer.data, buffer.len, rows[i].json), "%s became %.*s", rows[i].json, (int)buffer.len,
                   buffer.data);
        buffer_fini(&buffer);
    }
    for (char c = 1; c < 0x20; c++) {
        struct buffer buffer;
        buffer_init(&buffer);
        buffer_append_json_string(&buffer, &c, 1);
        for (size_t i = 0; i < buffer.len; i++)
            expect_row((unsigned char)buffer.data[i] >= 0x20, "control character %d is not escaped", c);
        buffer_fini(&buffer);
    }
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_buffer_is_empty_and_has_allocated_nothing),
        cmocka_unit_test(appends_come_out_in_order),
        cmocka_unit_test(it_grows_as_far_as_needed),
        cmocka_unit_test(reserve_makes_room_for_all_of_it),
        cmocka_unit_test(fini_makes_it_empty_and_usable_again),
        cmocka_unit_test(fixed_storage_can_be_filled_to_the_last_byte),
        cmocka_unit_test(an_append_that_does_not_fit_changes_nothing_but_failed),
        cmocka_unit_test(failed_sticks),
        cmocka_unit_test(a_size_beyond_all_memory_fails),
        cmocka_unit_test(json_strings_are_escaped_as_rfc_8259_says),
    };
    return cmocka_run_group_tests_name("buffer", tests, NULL, NULL);
}
