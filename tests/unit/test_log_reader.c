/* log_reader.h and log_file.h: every line of a file is read, however it is compressed, or it is known that it was not.
 */
#include "log_reader.h"

#include "buffer.h"
#include "unit.h"

#include <zlib.h>
#include <zstd.h>

#define LINE                                                                                                           \
    "time=2026-11-28T10:00:00.123Z level=info msg=delivery request_id=0123456789abcdef0123456789abcdef status=201"     \
    " result=created program_identifier=p asn_number=a unit_identifier=u key=k ms=12.345"

static bool count_line(void *context, enum log_line_kind kind, const struct log_line *line) {
    (void)kind;
    (void)line;
    ++*(size_t *)context;
    return true;
}

/* Reads files; returns how many lines of deliveries they have. */
static size_t read_files(char *const *files, struct log_totals *totals) {
    size_t count = 0;
    FILE *errors = fopen("/dev/null", "w");
    assert_non_null(errors);
    *totals = (struct log_totals){0};
    assert_true(log_reader_read(files, count_line, &count, totals, errors));
    fclose(errors);
    return count;
}

static size_t read_content(const char *content, size_t len, struct log_totals *totals) {
    const char *path = path_in_folder("log");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    char *files[] = {(char *)path, NULL};
    return read_files(files, totals);
}

enum packing { PLAIN, GZIP, ZSTD };

/* Appends `text` as it is, or compressed. */
static void pack(struct buffer *to, enum packing packing, const char *text) {
    size_t len = strlen(text), size = ZSTD_compressBound(len) + compressBound(len) + 64;
    char *packed = malloc(size);
    z_stream stream = {.next_in = (unsigned char *)text,
                       .avail_in = (unsigned)len,
                       .next_out = (unsigned char *)packed,
                       .avail_out = (unsigned)size};
    assert_non_null(packed);
    switch (packing) {
    case PLAIN:
        buffer_append(to, text, len);
        break;
    case GZIP:
        assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
        buffer_append(to, packed, stream.total_out);
        deflateEnd(&stream);
        break;
    case ZSTD:
        buffer_append(to, packed, ZSTD_compress(packed, size, text, len, 3));
    }
    free(packed);
}

static void files_are_read_whole(void **state) {
    (void)state;
    static const enum packing rows[][3] = {
        {PLAIN, PLAIN, PLAIN}, {GZIP, GZIP, GZIP}, {ZSTD, ZSTD, ZSTD}, {GZIP, ZSTD, PLAIN}, {ZSTD, GZIP, PLAIN}};
    struct log_totals totals;
    char *lines = repeat(LINE "\n", 5000);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buffer content;
        buffer_init(&content);
        for (size_t part = 0; part < COUNT_OF(rows[i]); part++)
            pack(&content, rows[i][part], lines);
        size_t count = read_content(content.data, content.len, &totals);
        expect_row(count == 15000 && totals.known == 15000 && totals.broken == 0 && totals.unreadable == 0,
                   "row %zu: %zu, %zu, %zu broken", i, count, totals.known, totals.broken);
        buffer_fini(&content);
    }
    assert_int_equal(read_content(lines, strlen(lines) - 1, &totals), 5000);
    assert_int_equal(totals.broken, 0);
    free(lines);
    end_table();
}

/* However a compressed file is cut, that is noticed, and so is any byte that is another one. */
static void damage_is_noticed(void **state) {
    (void)state;
    struct log_totals totals;
    char *lines = repeat(LINE "\n", 20);
    for (int packing = GZIP; packing <= ZSTD; packing++) {
        struct buffer content;
        buffer_init(&content);
        pack(&content, (enum packing)packing, lines);
        for (size_t len = 1; len < content.len; len++) {
            read_content(content.data, len, &totals);
            expect_row(totals.unreadable + totals.broken > 0, "%d cut to %zu bytes", packing, len);
        }
        buffer_append(&content, "rest", 4);
        read_content(content.data, content.len, &totals);
        expect_row(totals.broken > 0, "%d and more", packing);
        buffer_fini(&content);
    }
    free(lines);
    end_table();
}

static void what_is_no_log_is_unreadable(void **state) {
    (void)state;
    static const struct {
        const char *content;
        size_t len, unreadable;
    } rows[] = {
        {"", 0, 0},
        {"another log\n", 12, 1},
        {"\xfd"
         "7zXZ\0\0",
         7, 1},
        {"BZh91AY", 7, 1},
        {"\x04\x22\x4d\x18", 4, 1},
        {"\0\0\0\0", 4, 1},
        {"\x1f\x8b", 2, 1},
        {"\x28\xb5\x2f\xfd", 4, 1},
    };
    struct log_totals totals;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        size_t count = read_content(rows[i].content, rows[i].len, &totals);
        expect_row(count == 0 && totals.known == 0 && totals.unreadable == rows[i].unreadable, "row %zu: %zu", i,
                   totals.unreadable);
    }
    end_table();
}

/* An unreadable file does not end the reading, and one that is named twice is read once. */
static void files_are_read_one_by_one(void **state) {
    (void)state;
    struct log_totals totals;
    char *log = strdup(write_file("log", LINE "\n")), *other = strdup(write_file("other", LINE "\n"));
    char *const files[] = {log, "/nonexistent", log, "/", other, NULL};
    assert_int_equal(read_files(files, &totals), 2);
    assert_int_equal(totals.unreadable, 2);
    free(log);
    free(other);
}

static void what_no_line_has_is_counted_as_broken(void **state) {
    (void)state;
    char *rubbish = repeat("x", 1000000);
    const struct {
        char *text;
        size_t deliveries, broken;
    } rows[] = {
        {format_text(LINE "\n%s\n" LINE "\n", rubbish), 2, 1},
        {format_text(LINE "\r\n" LINE "\r\n"), 2, 0},
        {format_text("key=k ms=12.345\n" LINE "\n"), 1, 1},
        {format_text("2.345\n" LINE "\n"), 1, 1},
        {format_text("-- Journal begins at Sat 2026-11-28 10:00:00 UTC. --\n" LINE "\n"), 1, 0},
        {format_text("Started receiptd@1.service - receiptd, worker 1.\n" LINE "\n"), 1, 0},
        {format_text(LINE "\n\x1b[31mred\n" LINE "\n"), 2, 1},
        {format_text(LINE "\n\xff\n" LINE "\n"), 2, 1},
        {format_text("\n" LINE "\n\n" LINE "\n\n"), 2, 0},
    };
    struct log_totals totals;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        size_t count = read_content(rows[i].text, strlen(rows[i].text), &totals);
        expect_row(count == rows[i].deliveries && totals.broken == rows[i].broken, "row %zu: %zu, %zu broken", i, count,
                   totals.broken);
        free(rows[i].text);
    }
    /* What a crash leaves of a file's end, and the next line behind it. */
    static const char zeros[] = LINE "\n\0\0\0\0" LINE "\n" LINE "\n";
    assert_int_equal(read_content(zeros, sizeof zeros - 1, &totals), 3);
    assert_int_equal(totals.broken, 1);
    free(rubbish);
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read_whole),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(what_is_no_log_is_unreadable),
        cmocka_unit_test(files_are_read_one_by_one),
        cmocka_unit_test(what_no_line_has_is_counted_as_broken),
    };
    return cmocka_run_group_tests_name("log_reader", tests, make_folder, remove_folder);
}
