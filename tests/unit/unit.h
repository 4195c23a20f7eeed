/* What the unit tests share: cmocka with what it needs, tables of cases, folders for files. */
#ifndef RECEIPTD_UNIT_H
#define RECEIPTD_UNIT_H

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Built with the address or the thread sanitizer. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/*
 * Every row of a table is judged, so that one run shows all the rows that are wrong: expect_row says what is wrong with
 * one of them, end_table fails the test when there was any.
 */
static unsigned wrong_rows;

#define expect_row(condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            print_error("%s: ", __func__);                                                                             \
            print_error(__VA_ARGS__);                                                                                  \
            print_error("\n");                                                                                         \
            wrong_rows++;                                                                                              \
        }                                                                                                              \
    } while (0)

static inline void end_table(void) {
    unsigned wrong = wrong_rows;
    wrong_rows = 0;
    assert_int_equal(wrong, 0);
}

static inline bool text_is(const char *text, size_t len, const char *expected) {
    return text && len == strlen(expected) && memcmp(text, expected, len) == 0;
}

/* `count` copies of `unit`. The caller frees it. */
static inline char *repeat(const char *unit, size_t count) {
    size_t len = strlen(unit);
    char *text = malloc(len * count + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * len, unit, len);
    text[len * count] = '\0';
    return text;
}

__attribute__((format(printf, 1, 2))) static inline char *format_text(const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    assert_true(len >= 0);
    return text;
}

/* Whether the bytes are UTF-8 (RFC 3629). */
static inline bool is_utf8(const char *text, size_t len) {
    const unsigned char *p = (const unsigned char *)text, *end = p + len;
    while (p < end) {
        unsigned more = *p < 0x80 ? 0 : *p < 0xc2 ? 9 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : *p < 0xf5 ? 3 : 9;
        if (more == 9 || (size_t)(end - p) <= more)
            return false;
        if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
            (*p == 0xf4 && p[1] > 0x8f))
            return false;
        for (p++; more > 0; more--, p++)
            if ((*p & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* A folder of this process's own, made by make_folder and removed, with the files made by path_in, by remove_folder. */
static char folder[64];
static char folder_paths[16][128];
static size_t folder_path_count;

static inline int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/receiptd-unit-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline const char *path_in_folder(const char *name) {
    char path[sizeof folder_paths[0]];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (size_t i = 0; i < folder_path_count; i++)
        if (strcmp(folder_paths[i], path) == 0)
            return folder_paths[i];
    assert_true(folder_path_count < COUNT_OF(folder_paths));
    return strcpy(folder_paths[folder_path_count++], path);
}

static inline const char *write_file(const char *name, const char *content) {
    const char *path = path_in_folder(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline int remove_folder(void **state) {
    (void)state;
    for (size_t i = 0; i < folder_path_count; i++)
        unlink(folder_paths[i]);
    folder_path_count = 0;
    return rmdir(folder);
}

#endif
