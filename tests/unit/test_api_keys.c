/* api_keys.h: who may call. */
#include "api_keys.h"

#include "delivery.h"
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

/* SHA-256 of "abc" and of 448 bits, from FIPS 180's examples, and of nothing. */
#define DIGEST_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define KEY_448 "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
#define DIGEST_448 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
#define DIGEST_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static char error[512];

static struct api_keys *load(const char *content) {
    error[0] = '\0';
    return api_keys_load(write_file("keys", content), error, sizeof error);
}

static const char *find(struct api_keys *keys, const char *key) {
    static char name[API_KEY_NAME_MAX + 1];
    strcpy(name, "(untouched)");
    switch (api_keys_find(keys, key, strlen(key), name)) {
    case API_KEYS_VALID:
        return name;
    case API_KEYS_UNKNOWN:
        return "(unknown)";
    case API_KEYS_FAILED:
        return "(failed)";
    }
    return "";
}

static void a_key_is_found_by_its_digest(void **state) {
    (void)state;
    struct api_keys *keys = load("one " DIGEST_ABC "\ntwo " DIGEST_448 "\n");
    assert_non_null(keys);
    assert_int_equal(api_keys_count(keys), 2);
    assert_string_equal(find(keys, "abc"), "one");
    assert_string_equal(find(keys, KEY_448), "two");
    api_keys_free(keys);
}

static void what_is_no_key_is_unknown(void **state) {
    (void)state;
    static const char *const others[] = {"",    "ab",    "abcd",     "ABC",      "abc ",       " abc",
                                         "one", "abc\n", DIGEST_ABC, DIGEST_448, DIGEST_EMPTY, "\xff"};
    struct api_keys *keys = load("one " DIGEST_ABC "\ntwo " DIGEST_448 "\n");
    for (size_t i = 0; i < COUNT_OF(others); i++)
        expect_row(strcmp(find(keys, others[i]), "(unknown)") == 0, "'%s' is %s", others[i], find(keys, others[i]));
    api_keys_free(keys);
    end_table();
}

static void the_length_counts_not_a_nul(void **state) {
    (void)state;
    char name[API_KEY_NAME_MAX + 1];
    struct api_keys *keys = load("one " DIGEST_ABC "\n");
    assert_int_equal(api_keys_find(keys, "abcdef", 3, name), API_KEYS_VALID);
    assert_int_equal(api_keys_find(keys, "abc\0def", 7, name), API_KEYS_UNKNOWN);
    api_keys_free(keys);
}

static void comments_blank_lines_and_white_space_are_ignored(void **state) {
    (void)state;
    static const char *const files[] = {
        "# a comment\n\none " DIGEST_ABC "\n   \n\t\n  # another\n#\n",
        "  one\t" DIGEST_ABC "  \t\n",
        "one " DIGEST_ABC "\r\n\r\n",
        "one " DIGEST_ABC,
        "#one " DIGEST_448 "\none BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\n",
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct api_keys *keys = load(files[i]);
        expect_row(keys != NULL, "%s: %s", files[i], error);
        if (!keys)
            continue;
        expect_row(api_keys_count(keys) == 1 && strcmp(find(keys, "abc"), "one") == 0, "%s", files[i]);
        api_keys_free(keys);
    }
    end_table();
}

static void a_bad_file_is_rejected_and_its_line_named(void **state) {
    (void)state;
    static const struct {
        const char *content, *says;
    } rows[] = {
        {"one\n", "line 1"},
        {"# c\n\none " DIGEST_ABC "\ntwo\n", "line 4"},
        {"one " DIGEST_ABC " more\n", "line 1"},
        {"one " DIGEST_ABC " # comment\n", "line 1"},
        {"one two " DIGEST_ABC "\n", "line 1"},
        {DIGEST_ABC "\n", "line 1"},
        {"\none ba7816bf\n", "line 2"},
        {"one " DIGEST_ABC "0\n", "line 1"},
        {"one ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n", "line 1"},
        {"one ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a\n", "line 1"},
        {"one ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a-\n", "line 1"},
        {"one:" DIGEST_ABC "\n", "line 1"},
        {"sch\xc3\xb6n " DIGEST_ABC "\n", "line 1"},
        {"a/b " DIGEST_ABC "\n", "line 1"},
        {"one " DIGEST_ABC "\none " DIGEST_448 "\n", "line 2"},
        {"one " DIGEST_ABC "\ntwo " DIGEST_448 "\none " DIGEST_ABC "\n", "line 3"},
        {"\xef\xbb\xbfone " DIGEST_ABC "\n", "line 1"},
        {"", "no key"},
        {"\n\n# only a comment\n", "no key"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct api_keys *keys = load(rows[i].content);
        expect_row(!keys, "%s is taken", rows[i].content);
        expect_row(strstr(error, rows[i].says) && strstr(error, path_in_folder("keys")), "%s: %s", rows[i].content,
                   error);
        api_keys_free(keys);
    }
    end_table();
}

/* Someone may put the key itself where its digest belongs; the message gets into logs. */
static void a_message_never_shows_the_line(void **state) {
    (void)state;
    static const char *const files[] = {"one rk_secret\n", "rk_secret\n", "rk_secret/ " DIGEST_ABC "\n",
                                        "one " DIGEST_ABC " rk_secret\n"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        api_keys_free(load(files[i]));
        expect_row(!strstr(error, "secret"), "%s", error);
    }
    end_table();
}

static void names_have_1_to_63_safe_characters(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool valid;
    } rows[] = {{"a", true},
                {"optoro-2024.blue_1@host", true},
                {"ABCXYZabcxyz0189", true},
                {"-", true},
                {"123456789012345678901234567890123456789012345678901234567890123", true},
                {"1234567890123456789012345678901234567890123456789012345678901234", false},
                {"", false},
                {" ", false},
                {"a b", false},
                {"a#", false},
                {"a=b", false},
                {"a\"", false},
                {"a:b", false},
                {"a/b", false},
                {"a\n", false},
                {"a\x7f", false},
                {"\xc3\xa4", false}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        expect_row(api_keys_name_valid(rows[i].name) == rows[i].valid, "'%s'", rows[i].name);
    end_table();
}

static void the_longest_name_comes_back_whole(void **state) {
    (void)state;
    char *name = repeat("n", API_KEY_NAME_MAX);
    char *content = format_text("%s " DIGEST_ABC "\n", name);
    struct api_keys *keys = load(content);
    assert_string_equal(find(keys, "abc"), name);
    api_keys_free(keys);
    free(content);
    content = format_text("%sn " DIGEST_ABC "\n", name);
    assert_null(load(content));
    free(content);
    free(name);
}

static void a_file_that_cannot_be_read_is_named(void **state) {
    (void)state;
    const char *missing = path_in_folder("missing");
    assert_null(api_keys_load(missing, error, sizeof error));
    assert_non_null(strstr(error, missing));
    assert_non_null(strstr(error, "No such file"));
    assert_null(api_keys_load(folder, error, sizeof error));
    assert_non_null(strstr(error, folder));
    assert_null(api_keys_load("", error, sizeof error));
}

static void a_message_stays_inside_its_room(void **state) {
    (void)state;
    char small[20] = "...................";
    assert_null(api_keys_load(write_file("keys", "bad\n"), small, 10));
    assert_true(memchr(small, '\0', 10) != NULL);
    assert_string_equal(small + 10, ".........");
}

static void a_reload_replaces_all_keys(void **state) {
    (void)state;
    struct api_keys *keys = load("one " DIGEST_ABC "\n");
    write_file("keys", "two " DIGEST_448 "\nthree " DIGEST_EMPTY "\n");
    assert_string_equal(find(keys, "abc"), "one");
    assert_true(api_keys_reload(keys, error, sizeof error));
    assert_int_equal(api_keys_count(keys), 2);
    assert_string_equal(find(keys, "abc"), "(unknown)");
    assert_string_equal(find(keys, KEY_448), "two");
    api_keys_free(keys);
}

static void a_reload_that_fails_keeps_the_keys(void **state) {
    (void)state;
    static const char *const files[] = {"", "two\n", "two " DIGEST_448 "\ntwo " DIGEST_448 "\n",
                                        "two " DIGEST_448 "\nthree x\n"};
    struct api_keys *keys = load("one " DIGEST_ABC "\n");
    for (size_t i = 0; i <= COUNT_OF(files); i++) {
        if (i < COUNT_OF(files))
            write_file("keys", files[i]);
        else
            assert_int_equal(unlink(path_in_folder("keys")), 0);
        error[0] = '\0';
        expect_row(!api_keys_reload(keys, error, sizeof error) && *error, "file %zu was taken", i);
        expect_row(api_keys_count(keys) == 1 && strcmp(find(keys, "abc"), "one") == 0, "file %zu: the key is gone", i);
        expect_row(strcmp(find(keys, KEY_448), "(unknown)") == 0, "file %zu: half of it was taken", i);
    }
    api_keys_free(keys);
    end_table();
}

static void the_path_need_not_live_on(void **state) {
    (void)state;
    char path[128];
    strcpy(path, write_file("keys", "one " DIGEST_ABC "\n"));
    struct api_keys *keys = api_keys_load(path, error, sizeof error);
    memset(path, 'x', sizeof path - 1);
    write_file("keys", "two " DIGEST_ABC "\n");
    assert_true(api_keys_reload(keys, error, sizeof error));
    assert_string_equal(find(keys, "abc"), "two");
    api_keys_free(keys);
}

static void a_generated_key_is_the_one_its_line_admits(void **state) {
    (void)state;
    char key[API_KEY_TEXT_SIZE], line[API_KEY_LINE_SIZE], other_key[API_KEY_TEXT_SIZE], other_line[API_KEY_LINE_SIZE];
    char *longest = repeat("n", API_KEY_NAME_MAX);
    assert_true(api_keys_generate("sender-1", key, line));
    assert_true(api_keys_generate(longest, other_key, other_line));
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_memory_equal(key, "rk_", 3);
    assert_int_equal(strlen(key), 46);
    assert_int_equal(strspn(key + 3, alphabet), 43);
    /* 32 bytes fill 42 characters and two thirds of the last. */
    assert_int_equal((strchr(alphabet, key[45]) - alphabet) % 4, 0);
    assert_memory_equal(line, "sender-1 ", 9);
    assert_int_equal(strspn(line + 9, "0123456789abcdef"), 64);
    assert_int_equal(strlen(line), 9 + 64);
    assert_string_not_equal(key, other_key);

    char *content = format_text("%s\n%s\n", line, other_line);
    struct api_keys *keys = load(content);
    assert_non_null(keys);
    assert_string_equal(find(keys, key), "sender-1");
    assert_string_equal(find(keys, other_key), longest);
    key[10] = key[10] == 'A' ? 'B' : 'A';
    assert_string_equal(find(keys, key), "(unknown)");
    api_keys_free(keys);
    free(content);
    free(longest);
}

static void all_of_a_generated_key_is_random(void **state) {
    (void)state;
    char first[API_KEY_TEXT_SIZE], key[API_KEY_TEXT_SIZE], line[API_KEY_LINE_SIZE];
    bool differs[API_KEY_TEXT_SIZE] = {false};
    assert_true(api_keys_generate("a", first, line));
    for (int i = 0; i < 64; i++) {
        assert_true(api_keys_generate("a", key, line));
        for (size_t c = 0; c < strlen(key); c++)
            differs[c] |= key[c] != first[c];
    }
    for (size_t c = 3; c < strlen(first); c++)
        expect_row(differs[c], "character %zu is always the same", c);
    end_table();
}

struct finder {
    struct api_keys *keys;
    atomic_bool stop;
    atomic_uint wrong, found;
};

static void *find_all_the_time(void *argument) {
    struct finder *finder = argument;
    char name[API_KEY_NAME_MAX + 1];
    while (!atomic_load(&finder->stop)) {
        bool ok = api_keys_find(finder->keys, "abc", 3, name) == API_KEYS_VALID &&
                  (strcmp(name, "one") == 0 || strcmp(name, "uno") == 0) && api_keys_count(finder->keys) >= 1;
        atomic_fetch_add(ok ? &finder->found : &finder->wrong, 1);
    }
    return NULL;
}

static void a_key_in_both_files_is_valid_throughout_a_reload(void **state) {
    (void)state;
    struct finder finder = {.keys = load("one " DIGEST_ABC "\n")};
    pthread_t threads[2];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, find_all_the_time, &finder), 0);
    for (int i = 0; i < 200 || atomic_load(&finder.found) < 100; i++) {
        write_file("keys", i % 2 ? "one " DIGEST_ABC "\n" : "two " DIGEST_448 "\nuno " DIGEST_ABC "\n");
        assert_true(api_keys_reload(finder.keys, error, sizeof error));
    }
    atomic_store(&finder.stop, true);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(finder.wrong, 0);
    api_keys_free(finder.keys);
}

static void free_takes_null(void **state) {
    (void)state;
    api_keys_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_found_by_its_digest),
        cmocka_unit_test(what_is_no_key_is_unknown),
        cmocka_unit_test(the_length_counts_not_a_nul),
        cmocka_unit_test(comments_blank_lines_and_white_space_are_ignored),
        cmocka_unit_test(a_bad_file_is_rejected_and_its_line_named),
        cmocka_unit_test(a_message_never_shows_the_line),
        cmocka_unit_test(names_have_1_to_63_safe_characters),
        cmocka_unit_test(the_longest_name_comes_back_whole),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named),
        cmocka_unit_test(a_message_stays_inside_its_room),
        cmocka_unit_test(a_reload_replaces_all_keys),
        cmocka_unit_test(a_reload_that_fails_keeps_the_keys),
        cmocka_unit_test(the_path_need_not_live_on),
        cmocka_unit_test(a_generated_key_is_the_one_its_line_admits),
        cmocka_unit_test(all_of_a_generated_key_is_random),
        cmocka_unit_test(a_key_in_both_files_is_valid_throughout_a_reload),
        cmocka_unit_test(free_takes_null),
    };
    return cmocka_run_group_tests_name("api_keys", tests, make_folder, remove_folder);
}
