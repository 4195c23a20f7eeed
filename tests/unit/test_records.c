/* records.h: which bytes are a request, in however many pieces they come, what a copy is, how an answer is framed. */
#include "records.h"

#include "unit.h"

enum { ID = 0x0102, BEGIN = 1, ABORT_REQUEST = 2, END_REQUEST = 3, PARAMS = 4, STDIN = 5, STDOUT = 6 };

static struct buffer made;

static void put(const char *bytes, size_t len) {
    buffer_append(&made, bytes, len);
    assert_false(made.failed);
}

static void put_header(unsigned version, unsigned type, unsigned id, size_t len, unsigned padding) {
    const unsigned char header[] = {
        (unsigned char)version,    (unsigned char)type, (unsigned char)(id >> 8), (unsigned char)id,
        (unsigned char)(len >> 8), (unsigned char)len,  (unsigned char)padding,   0};
    put((const char *)header, sizeof header);
}

static void put_record(unsigned type, unsigned id, const char *content, size_t len, unsigned padding) {
    static const char zeros[255];
    put_header(1, type, id, len, padding);
    put(content, len);
    put(zeros, padding);
}

/* The bytes of a string literal, and how many they are. */
#define BYTES(literal) literal, sizeof(literal) - 1

#define BEGIN_KEPT BYTES("\0\1\1\0\0\0\0\0")
#define ONE_PAIR BYTES("\1\2Nxy")

/* What a table says about a record. */
struct row_record {
    unsigned type;
    const char *content;
    size_t len;
    unsigned padding;
};

static enum records_result feed(struct records *records, const char *bytes, size_t len, size_t piece,
                                struct records_copy *copy) {
    enum records_result result = RECORDS_INCOMPLETE;
    records_init(records);
    for (size_t at = 0; at < len; at += piece)
        result = records_scan(records, bytes + at, piece < len - at ? piece : len - at, copy);
    return result;
}

static enum records_result feed_made(size_t piece) {
    struct records records;
    return feed(&records, made.data, made.len, piece, NULL);
}

static const char *name_of(enum records_result result) {
    static const char *const names[] = {"incomplete", "whole", "refused"};
    return names[result];
}

/* Judges what was made: in one piece, byte by byte, and in threes. */
static void expect_result(const char *what, enum records_result expected) {
    static const size_t pieces[] = {SIZE_MAX, 1, 3};
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        enum records_result result = feed_made(pieces[i] < made.len ? pieces[i] : made.len + 1);
        expect_row(result == expected, "%s, in pieces of %zu: %s", what, pieces[i], name_of(result));
    }
    buffer_fini(&made);
}

#define END(type)                                                                                                      \
    { type, "", 0, 0 }

static void only_one_whole_request_is_taken(void **state) {
    (void)state;
    static const struct {
        const char *what;
        enum records_result expected;
        struct row_record records[6];
    } rows[] = {
        {"the smallest", RECORDS_WHOLE, {{BEGIN, BEGIN_KEPT, 0}, END(PARAMS), END(STDIN)}},
        {"with parameters and a body",
         RECORDS_WHOLE,
         {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, ONE_PAIR, 0}, END(PARAMS), {STDIN, BYTES("{}"), 0}, END(STDIN)}},
        {"with padding everywhere",
         RECORDS_WHOLE,
         {{BEGIN, BEGIN_KEPT, 1},
          {PARAMS, ONE_PAIR, 3},
          {PARAMS, "", 0, 8},
          {STDIN, BYTES("{}"), 255},
          {STDIN, "", 0, 7}}},
        {"several parameters, some of them empty, one split over records",
         RECORDS_WHOLE,
         {{BEGIN, BEGIN_KEPT, 0},
          {PARAMS, BYTES("\0\0\1\0A\0\1B\4\4ab"), 0},
          {PARAMS, BYTES("cd1234"), 2},
          END(PARAMS),
          END(STDIN)}},
        {"long lengths for short texts, split within them",
         RECORDS_WHOLE,
         {{BEGIN, BEGIN_KEPT, 0},
          {PARAMS, BYTES("\x80\0\0\1\x80\0"), 0},
          {PARAMS, BYTES("\0\1NV\1\x80\0\0\0M"), 0},
          END(PARAMS),
          END(STDIN)}},
        {"without its end", RECORDS_INCOMPLETE, {{BEGIN, BEGIN_KEPT, 0}, END(PARAMS), {STDIN, BYTES("{}"), 0}}},
        {"without the end of the parameters", RECORDS_INCOMPLETE, {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, ONE_PAIR, 0}}},
        {"only its begin", RECORDS_INCOMPLETE, {{BEGIN, BEGIN_KEPT, 0}}},
        {"to be closed after it", RECORDS_WHOLE, {{BEGIN, BYTES("\0\1\0\0\0\0\0\0"), 0}, END(PARAMS), END(STDIN)}},
        {"unknown flags and reserved bytes",
         RECORDS_WHOLE,
         {{BEGIN, BYTES("\0\1\xff\1\2\3\4\5"), 0}, END(PARAMS), END(STDIN)}},
        {"an authorizer", RECORDS_WRONG, {{BEGIN, BYTES("\0\2\1\0\0\0\0\0"), 0}}},
        {"a filter", RECORDS_WRONG, {{BEGIN, BYTES("\0\3\1\0\0\0\0\0"), 0}}},
        {"role 257", RECORDS_WRONG, {{BEGIN, BYTES("\1\1\1\0\0\0\0\0"), 0}}},
        {"a begin that is too short", RECORDS_WRONG, {{BEGIN, BYTES("\0\1\1\0\0\0\0"), 0}}},
        {"a begin that is too long", RECORDS_WRONG, {{BEGIN, BYTES("\0\1\1\0\0\0\0\0\0"), 0}}},
        {"an empty begin", RECORDS_WRONG, {END(BEGIN)}},
        {"an abort first", RECORDS_WRONG, {END(ABORT_REQUEST)}},
        {"an empty body first", RECORDS_WRONG, {END(STDIN)}},
        {"parameters first", RECORDS_WRONG, {{PARAMS, ONE_PAIR, 0}}},
        {"an abort after the begin", RECORDS_WRONG, {{BEGIN, BEGIN_KEPT, 0}, END(ABORT_REQUEST)}},
        {"an abort in the body",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, END(PARAMS), {STDIN, BYTES("{"), 0}, END(ABORT_REQUEST)}},
        {"a second begin", RECORDS_WRONG, {{BEGIN, BEGIN_KEPT, 0}, {BEGIN, BEGIN_KEPT, 0}}},
        {"a second begin in the body",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, END(PARAMS), {STDIN, BYTES("{"), 0}, {BEGIN, BEGIN_KEPT, 0}}},
        {"a body before the parameters' end",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, ONE_PAIR, 0}, {STDIN, BYTES("{}"), 0}}},
        {"parameters after their end", RECORDS_WRONG, {{BEGIN, BEGIN_KEPT, 0}, END(PARAMS), {PARAMS, ONE_PAIR, 0}}},
        {"a record of a type that there is not", RECORDS_WRONG, {{BEGIN, BEGIN_KEPT, 0}, {77, BYTES("x"), 0}}},
        {"output", RECORDS_WRONG, {{BEGIN, BEGIN_KEPT, 0}, END(PARAMS), {STDOUT, BYTES("x"), 0}}},
        {"a pair that is cut off in its value",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, BYTES("\1\3Nxy"), 0}, END(PARAMS)}},
        {"a pair that is cut off in its lengths",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, BYTES("\1\2Nxy\x80\0\0"), 0}, END(PARAMS)}},
        {"a pair without its second length",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, BYTES("\1"), 0}, END(PARAMS)}},
        {"a name of almost 2 GiB", RECORDS_WRONG, {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, BYTES("\xff\xff\xff\xfe\0"), 0}}},
        {"name and value of almost 2 GiB",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"), 0}}},
        {"a value that is just too long", RECORDS_WRONG, {{BEGIN, BEGIN_KEPT, 0}, {PARAMS, BYTES("\1\x80\1\0\0"), 0}}},
        {"another one behind",
         RECORDS_WRONG,
         {{BEGIN, BEGIN_KEPT, 0}, END(PARAMS), END(STDIN), {BEGIN, BEGIN_KEPT, 0}}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t r = 0; r < COUNT_OF(rows[i].records) && rows[i].records[r].type != 0; r++) {
            const struct row_record *record = &rows[i].records[r];
            put_record(record->type, ID, record->content, record->len, record->padding);
        }
        expect_result(rows[i].what, rows[i].expected);
    }
    end_table();
}

static void put_request(const char *params, size_t params_len, const char *body, size_t body_len, size_t in_a_record) {
    put_record(BEGIN, ID, BEGIN_KEPT, 0);
    for (size_t at = 0; at < params_len; at += in_a_record)
        put_record(PARAMS, ID, params + at, in_a_record < params_len - at ? in_a_record : params_len - at, 0);
    put_record(PARAMS, ID, "", 0, 0);
    for (size_t at = 0; at < body_len; at += in_a_record)
        put_record(STDIN, ID, body + at, in_a_record < body_len - at ? in_a_record : body_len - at, 5);
    put_record(STDIN, ID, "", 0, 0);
}

static void every_header_is_looked_at(void **state) {
    (void)state;
    static const struct {
        const char *what;
        unsigned version, begin_id, params_id, stdin_id;
        enum records_result expected;
    } rows[] = {
        {"as it has to be", 1, ID, ID, ID, RECORDS_WHOLE},
        {"the highest id", 1, 0xffff, 0xffff, 0xffff, RECORDS_WHOLE},
        {"version 0", 0, ID, ID, ID, RECORDS_WRONG},
        {"version 2", 2, ID, ID, ID, RECORDS_WRONG},
        {"no id", 1, 0, 0, 0, RECORDS_WRONG},
        {"another id for the parameters, in its lower byte", 1, ID, ID + 1, ID, RECORDS_WRONG},
        {"another id for the parameters, in its upper byte", 1, ID, ID + 0x100, ID, RECORDS_WRONG},
        {"no id for the parameters", 1, ID, 0, ID, RECORDS_WRONG},
        {"another id for the body", 1, ID, ID, ID + 1, RECORDS_WRONG},
        {"no id for the body", 1, ID, ID, 0, RECORDS_WRONG},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        put_header(rows[i].version, BEGIN, rows[i].begin_id, 8, 0);
        put(BEGIN_KEPT);
        put_header(1, PARAMS, rows[i].params_id, 0, 0);
        put_header(1, STDIN, rows[i].stdin_id, 0, 0);
        expect_result(rows[i].what, rows[i].expected);
    }
    for (unsigned type = 0; type < 256; type++) {
        put_header(1, type, 0, 0, 0);
        expect_result("a management record", RECORDS_WRONG);
        put_record(BEGIN, ID, BEGIN_KEPT, 0);
        put_header(1, type, 0, 0, 0);
        expect_result("a management record after the begin", RECORDS_WRONG);
    }
    end_table();
}

/* A prefix is incomplete, never refused, and only all of it is whole; one more byte is too much. */
static void a_request_is_whole_at_its_last_byte_and_not_before(void **state) {
    (void)state;
    put_request(BYTES("\4\3NAMEabc\x80\0\0\1\0X"), BYTES("{\"a\":1}"), 2);
    for (size_t len = 0; len <= made.len; len++) {
        struct records records;
        enum records_result expected = len == made.len ? RECORDS_WHOLE : RECORDS_INCOMPLETE;
        expect_row(feed(&records, made.data, len, len + 1, NULL) == expected, "the first %zu bytes", len);
        expect_row(feed(&records, made.data, len, 1, NULL) == expected, "the first %zu bytes, one by one", len);
        records_init(&records);
        records_scan(&records, made.data, len, NULL);
        expect_row(records_scan(&records, made.data + len, made.len - len, NULL) == RECORDS_WHOLE, "split at %zu", len);
        expect_row(records_scan(&records, "\1", 1, NULL) == RECORDS_WRONG, "a byte behind, split at %zu", len);
    }
    buffer_fini(&made);
    end_table();
}

static void what_is_rejected_stays_refused(void **state) {
    (void)state;
    struct records records;
    records_init(&records);
    assert_int_equal(records_scan(&records, "\2", 1, NULL), RECORDS_INCOMPLETE);
    assert_int_equal(records_scan(&records, BYTES("\1\1\2\0\0\0\0"), NULL), RECORDS_WRONG);
    put_request(ONE_PAIR, BYTES("{}"), 100);
    assert_int_equal(records_scan(&records, made.data, made.len, NULL), RECORDS_WRONG);
    buffer_fini(&made);
}

static void it_tells_the_id_the_flag_and_the_lengths(void **state) {
    (void)state;
    struct records records;
    put_request(ONE_PAIR, BYTES("{\"a\":1}"), 3);
    assert_int_equal(feed(&records, made.data, made.len, 2, NULL), RECORDS_WHOLE);
    assert_int_equal(records.request_id, ID);
    assert_true(records.keep_connection);
    assert_int_equal(records.params_bytes, 5);
    assert_int_equal(records.stdin_bytes, 7);
    buffer_fini(&made);
    put_record(BEGIN, 7, BYTES("\0\1\xfe\0\0\0\0\0"), 0);
    put_record(PARAMS, 7, "", 0, 3);
    put_record(STDIN, 7, "", 0, 9);
    assert_int_equal(feed(&records, made.data, made.len, 5, NULL), RECORDS_WHOLE);
    assert_int_equal(records.request_id, 7);
    assert_false(records.keep_connection);
    buffer_fini(&made);
}

static void the_next_record_is_behind_content_and_padding(void **state) {
    (void)state;
    static const unsigned paddings[] = {0, 1, 255};
    for (size_t i = 0; i < COUNT_OF(paddings); i++) {
        put_record(PARAMS, ID, ONE_PAIR, paddings[i]);
        put_record(PARAMS, ID, "", 0, paddings[i]);
        char *next = records_next(made.data);
        expect_row(next == made.data + RECORDS_HEADER_BYTES + 5 + paddings[i], "content, padding of %u", paddings[i]);
        expect_row(records_next(next) == made.data + made.len, "no content, padding of %u", paddings[i]);
        buffer_fini(&made);
    }
    end_table();
}

static void parameters_are_bounded(void **state) {
    (void)state;
    char *zeros = calloc(1, RECORDS_PARAMS_MAX_BYTES + 2); /* pairs of nothing, of two bytes each */
    assert_non_null(zeros);
    struct records records;
    for (int more = 0; more <= 2; more += 2) {
        put_request(zeros, RECORDS_PARAMS_MAX_BYTES + (size_t)more, "", 0, 5000);
        assert_int_equal(feed(&records, made.data, made.len, 777, NULL), more ? RECORDS_WRONG : RECORDS_WHOLE);
        buffer_fini(&made);
    }
    free(zeros);
}

/* However it came, its copy is the same: without padding, in few records, and a request itself. */
static void a_copy_is_the_same_request_in_few_records(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 1000, RECORDS_CONTENT_MAX, 65535};
    char *body = repeat("body ", 20000);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct records records;
        struct records_copy copy;
        records_copy_init(&copy, SIZE_MAX);
        put_request(ONE_PAIR, body, strlen(body), sizes[i]);
        expect_row(feed(&records, made.data, made.len, 4321, &copy) == RECORDS_WHOLE, "records of %zu", sizes[i]);
        buffer_fini(&made);
        put_record(BEGIN, ID, BEGIN_KEPT, 0);
        put_record(PARAMS, ID, ONE_PAIR, 0);
        put_record(PARAMS, ID, "", 0, 0);
        for (size_t at = 0; at < strlen(body); at += RECORDS_CONTENT_MAX) {
            size_t left = strlen(body) - at;
            put_record(STDIN, ID, body + at, left < RECORDS_CONTENT_MAX ? left : RECORDS_CONTENT_MAX, 0);
        }
        put_record(STDIN, ID, "", 0, 0);
        expect_row(copy.bytes.len == made.len && memcmp(copy.bytes.data, made.data, made.len) == 0,
                   "the copy of records of %zu is another", sizes[i]);
        expect_row(copy.stdin_bytes == strlen(body), "records of %zu", sizes[i]);
        buffer_fini(&copy.bytes);
        buffer_fini(&made);
    }
    free(body);
    end_table();
}

static void a_copy_keeps_no_more_of_the_body_than_is_wanted(void **state) {
    (void)state;
    static const size_t wanted[] = {0, 1, 99, 100, 101, SIZE_MAX};
    char *body = repeat("0123456789", 10);
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        struct records records, again;
        struct records_copy copy;
        size_t kept = wanted[i] < 100 ? wanted[i] : 100;
        records_copy_init(&copy, wanted[i]);
        put_request(ONE_PAIR, body, 100, 7);
        expect_row(feed(&records, made.data, made.len, 10, &copy) == RECORDS_WHOLE, "%zu wanted", wanted[i]);
        expect_row(records.stdin_bytes == 100 && copy.stdin_bytes == kept, "%zu wanted, %zu kept", wanted[i],
                   copy.stdin_bytes);
        expect_row(feed(&again, copy.bytes.data, copy.bytes.len, 10, NULL) == RECORDS_WHOLE &&
                       again.stdin_bytes == kept,
                   "%zu wanted, and the copy is none", wanted[i]);
        char *params = records_next(copy.bytes.data), *first = records_next(records_next(params));
        expect_row(kept == 0 || memcmp(first + RECORDS_HEADER_BYTES, body, kept) == 0, "%zu wanted, and it is another",
                   wanted[i]);
        buffer_fini(&copy.bytes);
        buffer_fini(&made);
    }
    free(body);
    end_table();
}

/* FastCGI specification, appendix B. */
static void an_answer_is_output_its_end_and_the_end_of_the_request(void **state) {
    (void)state;
    char storage[RECORDS_HEADER_BYTES + 300 + RECORDS_AFTER_ANSWER_BYTES];
    memset(storage, 'x', sizeof storage);
    assert_int_equal(records_frame_answer(storage, 300, ID), sizeof storage);
    char *content = repeat("x", 300);
    put_record(STDOUT, ID, content, 300, 0);
    put_record(STDOUT, ID, "", 0, 0);
    put_record(END_REQUEST, ID, BYTES("\0\0\0\0\0\0\0\0"), 0);
    assert_int_equal(made.len, sizeof storage);
    assert_memory_equal(made.data, storage, sizeof storage);
    buffer_fini(&made);
    free(content);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_one_whole_request_is_taken),
        cmocka_unit_test(every_header_is_looked_at),
        cmocka_unit_test(a_request_is_whole_at_its_last_byte_and_not_before),
        cmocka_unit_test(what_is_rejected_stays_refused),
        cmocka_unit_test(it_tells_the_id_the_flag_and_the_lengths),
        cmocka_unit_test(the_next_record_is_behind_content_and_padding),
        cmocka_unit_test(parameters_are_bounded),
        cmocka_unit_test(a_copy_is_the_same_request_in_few_records),
        cmocka_unit_test(a_copy_keeps_no_more_of_the_body_than_is_wanted),
        cmocka_unit_test(an_answer_is_output_its_end_and_the_end_of_the_request),
    };
    return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
