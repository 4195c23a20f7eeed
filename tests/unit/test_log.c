/* log.h: one line an event, that no value can break, and that holds nothing it must not. */
#include "log.h"

#include "clock.h"
#include "contract.h"
#include "receipt_json.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ID "01234567-89ab-cdef-0123-456789abcdef"

/*
 * Standard error while the module writes: a socket that keeps what each call wrote apart, so that a line written in two
 * pieces is seen.
 */
static int captured[2], stderr_before;

static void begin_capture(void) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, captured), 0);
    stderr_before = dup(STDERR_FILENO);
    assert_true(stderr_before >= 0 && dup2(captured[1], STDERR_FILENO) >= 0);
}

/* What was written with one call, without its line feed; NULL when nothing was. Good until the next call. */
static const char *end_capture(void) {
    static char line[32768];
    char more[1];
    assert_true(dup2(stderr_before, STDERR_FILENO) >= 0);
    ssize_t len = recv(captured[0], line, sizeof line - 1, MSG_DONTWAIT);
    ssize_t second = recv(captured[0], more, sizeof more, MSG_DONTWAIT);
    close(stderr_before);
    close(captured[0]);
    close(captured[1]);
    assert_int_equal(second, -1);
    if (len < 0)
        return NULL;
    assert_true(len > 0 && line[len - 1] == '\n');
    line[len - 1] = '\0';
    assert_null(strchr(line, '\n'));
    return line;
}

static size_t time_len; /* of the time that the line looked at last began with */

/* What follows on the time, which has to be one. */
static const char *behind_time(const char *line) {
    static const char time[] = "^time=20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3}Z ";
    regex_t pattern;
    regmatch_t match;
    assert_non_null(line);
    assert_int_equal(regcomp(&pattern, time, REG_EXTENDED), 0);
    int result = regexec(&pattern, line, 1, &match, 0);
    regfree(&pattern);
    if (result != 0)
        fail_msg("no time in front of: %s", line);
    time_len = (size_t)match.rm_eo;
    return line + match.rm_eo;
}

static const char *message_line(enum log_level level, const char *text) {
    begin_capture();
    log_message(level, "%s", text);
    const char *line = end_capture();
    return line ? behind_time(line) : NULL;
}

static void write_delivery(const struct delivery *delivery) {
    struct log_batch batch = {0};
    log_delivery(&batch, delivery);
    log_flush(&batch);
}

/* The line of a delivery from its level on, with the digits of its duration made 0. */
static const char *delivery_line(const struct delivery *delivery) {
    static char text[32768];
    begin_capture();
    write_delivery(delivery);
    const char *line = end_capture();
    if (!line)
        return NULL;
    strcpy(text, behind_time(line));
    char *ms = strstr(text, " ms=");
    if (ms) {
        ms += strlen(" ms=");
        size_t len = strspn(ms, "0123456789.");
        memmove(ms + 1, ms + len, strlen(ms + len) + 1);
        *ms = '0';
    }
    return text;
}

static void values_are_quoted_where_they_have_to_be(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"word", "level=info msg=word"},
        {"two words", "level=info msg=\"two words\""},
        {"", "level=info msg=\"\""},
        {"a=b", "level=info msg=\"a=b\""},
        {"say \"x\"", "level=info msg=\"say \\\"x\\\"\""},
        {"back\\slash", "level=info msg=\"back\\\\slash\""},
        {"a\nlevel=error", "level=info msg=\"a\\u000alevel=error\""},
        {"a\r", "level=info msg=\"a\\u000d\""},
        {"\x1b[31m", "level=info msg=\"\\u001b[31m\""},
        {"\x7f", "level=info msg=\"\\u007f\""},
        {"\xc2\x9b"
         "31m",
         "level=info msg=\"\\u009b31m\""},
        {"a\xe2\x80\xa8level=error", "level=info msg=\"a\\u2028level=error\""},
        {"\xe2\x80\xa9", "level=info msg=\"\\u2029\""},
        {"\xe2\x80\xae"
         "dlo",
         "level=info msg=\"\\u202edlo\""},
        {"\xff=\xc3", "level=info msg=\"\\ufffd=\\ufffd\""},
        {"\xf0\x9f\x98\x80\xc2\xa0", "level=info msg=\xf0\x9f\x98\x80\xc2\xa0"},
        {"\xc3\xa4", "level=info msg=\xc3\xa4"},
        {"ends in line feeds\n\n", "level=info msg=\"ends in line feeds\""},
        {"\n", "level=info msg=\"\""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *line = message_line(LOG_INFO, rows[i].text);
        expect_row(strcmp(line, rows[i].expected) == 0, "%s: %s", rows[i].text, line);
    }
    end_table();
}

static void a_long_message_is_cut(void **state) {
    (void)state;
    char *text = repeat("x", 100000);
    const char *line = message_line(LOG_ERROR, text);
    size_t len = strlen("level=error msg=");
    assert_memory_equal(line, "level=error msg=xxx", len + 3);
    assert_true(strlen(line) > len + 400 && strlen(line) < 1000);
    assert_int_equal(strspn(line + len, "x"), strlen(line) - len);
    free(text);
}

static void less_important_lines_than_the_level_are_left_out(void **state) {
    (void)state;
    static const enum log_level levels[] = {LOG_ERROR, LOG_WARNING, LOG_INFO};
    struct delivery created = {.outcome = OUTCOME_CREATED, .request_id_text = ID};
    struct delivery unavailable = {.outcome = OUTCOME_UNAVAILABLE, .request_id_text = ID};
    for (size_t set = 0; set < COUNT_OF(levels); set++) {
        log_set_level(levels[set]);
        for (size_t level = 0; level < COUNT_OF(levels); level++)
            expect_row(!message_line(levels[level], "x") == (level > set), "level %zu, a message of %zu", set, level);
        expect_row(!delivery_line(&created) == (levels[set] < LOG_INFO), "level %zu, a delivery", set);
        expect_row(!delivery_line(&unavailable) == (levels[set] < LOG_WARNING), "level %zu, a 503", set);
    }
    log_set_level(LOG_INFO);
    end_table();
}

/* A delivery of `body` (NULL: of none) with this outcome. */
static struct delivery make_delivery(const char *body, enum outcome outcome, enum rejection rejection) {
    static const struct receipt_rules rules;
    struct delivery delivery = {
        .outcome = outcome, .rejection = rejection, .request_id_text = ID, .arrived_us = clock_now_us()};
    struct receipt_json_error error;
    strcpy(delivery.api_key_name, "vendor-1");
    if (body) {
        assert_int_equal(receipt_json_decode(body, strlen(body), &delivery.receipt, &error), RECEIPT_JSON_OK);
        receipt_validate(&delivery.receipt, &rules, &delivery.errors);
    }
    return delivery;
}

static void a_delivery_has_a_line_with_its_outcome_and_key(void **state) {
    (void)state;
#define KEY " program_identifier=returns asn_number=SO1 unit_identifier=LP1"
    static const struct {
        enum outcome outcome;
        enum rejection rejection;
        const char *expected;
    } rows[] = {
        {OUTCOME_CREATED, 0,
         "level=info msg=delivery request_id=" ID " status=201 result=created" KEY " key=vendor-1 ms=0"},
        {OUTCOME_UNCHANGED, 0,
         "level=info msg=delivery request_id=" ID " status=200 result=unchanged" KEY " key=vendor-1 ms=0"},
        {OUTCOME_REVISED, 0,
         "level=info msg=delivery request_id=" ID " status=200 result=revised" KEY " key=vendor-1 ms=0"},
        {OUTCOME_SUPERSEDED, 0,
         "level=info msg=delivery request_id=" ID " status=200 result=superseded" KEY " key=vendor-1 ms=0"},
        {OUTCOME_UNAVAILABLE, 0,
         "level=warning msg=delivery request_id=" ID " status=503" KEY
         " key=vendor-1 ms=0 failure=\"waited too long\" sqlstate=57P01"},
        {OUTCOME_INVALID, REJECTION_INVALID,
         "level=info msg=delivery request_id=" ID " status=422" KEY
         " key=vendor-1 ms=0 errors=to.identifier:out_of_range,sku:missing_field"},
        {OUTCOME_INVALID, REJECTION_INVALID,
         "level=info msg=delivery request_id=" ID " status=422" KEY
         " key=vendor-1 repeat_of=00000000-0000-0000-0000-000000000007 ms=0"
         " errors=to.identifier:out_of_range,sku:missing_field"},
        {OUTCOME_QUARANTINED, REJECTION_INVALID,
         "level=info msg=delivery request_id=" ID " status=200 result=quarantined" KEY
         " key=vendor-1 ms=0 errors=to.identifier:out_of_range,sku:missing_field"},
        {OUTCOME_UNAVAILABLE, REJECTION_INVALID,
         "level=warning msg=delivery request_id=" ID " status=503" KEY
         " key=vendor-1 ms=0 errors=to.identifier:out_of_range,sku:missing_field failure=\"waited too long\""
         " sqlstate=57P01"},
    };
    const struct change invalid[] = {{"to.identifier", "9223372036854775808"}, {"sku", NULL}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *body = make_body(invalid, rows[i].rejection ? COUNT_OF(invalid) : 0, NULL);
        struct delivery delivery = make_delivery(body, rows[i].outcome, rows[i].rejection);
        if (rows[i].outcome == OUTCOME_UNAVAILABLE) {
            delivery.failure = "waited too long";
            strcpy(delivery.sqlstate, "57P01");
        }
        delivery.is_repeat = strstr(rows[i].expected, "repeat_of") != NULL;
        delivery.repeat_of[REQUEST_ID_BYTES - 1] = 7;
        const char *line = delivery_line(&delivery);
        expect_row(strcmp(line, rows[i].expected) == 0, "got\n%s\nexpected\n%s", line, rows[i].expected);
        delivery_fini(&delivery);
        free(body);
    }
    end_table();
}

static void a_delivery_without_receipt_has_what_is_known_of_it(void **state) {
    (void)state;
    struct delivery malformed = make_delivery(NULL, OUTCOME_MALFORMED, REJECTION_MALFORMED);
    malformed.error_line = 3;
    malformed.error_column = 14;
    strcpy(malformed.message, "Invalid JSON at line 3, column 14: invalid token.");
    assert_string_equal(delivery_line(&malformed),
                        "level=info msg=delivery request_id=" ID " status=400 key=vendor-1 ms=0 line=3 column=14");
    struct delivery unauthorized = {.outcome = OUTCOME_UNAUTHORIZED, .request_id_text = ID};
    assert_string_equal(delivery_line(&unauthorized), "level=info msg=delivery request_id=" ID " status=401 ms=0");
}

static void the_duration_is_in_milliseconds(void **state) {
    (void)state;
    struct delivery delivery = make_delivery(NULL, OUTCOME_CREATED, REJECTION_NONE);
    delivery.arrived_us -= 7 * US_PER_S;
    begin_capture();
    write_delivery(&delivery);
    const char *ms = strstr(end_capture(), " ms=");
    assert_non_null(ms);
    double value = strtod(ms + strlen(" ms="), NULL);
    assert_true(value >= 7000 && value < 60000);
}

static void personal_data_bodies_and_keys_are_never_in_it(void **state) {
    (void)state;
    const struct change changes[] = {{"ot_user_login", "\"secret@example.com\""}, {"upc", "\"secret upc\""}};
    char *body = make_body(changes, COUNT_OF(changes), "\"secret\":\"secret\"");
    for (int outcome = OUTCOME_UNAVAILABLE; outcome < OUTCOME_COUNT; outcome++) {
        enum rejection rejection = outcome == OUTCOME_INVALID || outcome == OUTCOME_QUARANTINED ? REJECTION_INVALID
                                   : outcome == OUTCOME_MALFORMED                               ? REJECTION_MALFORMED
                                                                                                : REJECTION_NONE;
        struct delivery delivery = make_delivery(body, (enum outcome)outcome, rejection);
        delivery.body = strdup(body);
        delivery.body_len = strlen(body);
        const char *line = delivery_line(&delivery);
        expect_row(line && !strstr(line, "secret"), "outcome %d: %s", outcome, line);
        delivery_fini(&delivery);
    }
    free(body);
    end_table();
}

static void the_senders_headers_are_in_it_where_they_were_sent(void **state) {
    (void)state;
    char *body = make_body(NULL, 0, NULL);
    struct delivery delivery = make_delivery(body, OUTCOME_CREATED, REJECTION_NONE);
    delivery.headers[SENDER_HEADER_OPTITURN_ID] = strdup("7");
    const char *line = delivery_line(&delivery);
    assert_non_null(strstr(line, " optiturn_id=7 ms=0"));
    assert_null(strstr(line, "traceparent"));
    delivery.headers[SENDER_HEADER_OPTITURN_API_VERSION] = strdup("1.0 status=500");
    delivery.headers[SENDER_HEADER_TRACEPARENT] = strdup("00-4bf92f3577b34da6-00f067aa-01");
    line = delivery_line(&delivery);
    assert_non_null(strstr(line, " key=vendor-1 optiturn_id=7 optiturn_api_version=\"1.0 status=500\""
                                 " traceparent=00-4bf92f3577b34da6-00f067aa-01 ms=0"));
    delivery_fini(&delivery);
    free(body);
}

/* A value that was refused may hold anything, and any length of it. */
static void no_value_breaks_the_line(void **state) {
    (void)state;
    static const struct {
        const char *unit;
        size_t count;
        const char *logged;
    } rows[] = {
        {"x\\nlevel=error msg=forged", 1, " unit_identifier=\"x\\u000alevel=error msg=forged\" "},
        {"\\\" key=forged", 1, " unit_identifier=\"\\\" key=forged\" "},
        {"a b", 1, " unit_identifier=\"a b\" "},
        {"x", 100000, " unit_identifier=xxxx"},
        {"\\u0001", 100000, " unit_identifier=\"\\u0001\\u0001"},
        {"\xc3\xa4", 100000, " unit_identifier=\xc3\xa4"},
        {".\xf0\x9f\x98\x80", 100000, " unit_identifier=.\xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *units = repeat(rows[i].unit, rows[i].count);
        char *json = format_text("\"%s\"", units), *body = make_body_with("unit_identifier", json);
        struct delivery delivery = make_delivery(body, OUTCOME_INVALID, REJECTION_INVALID);
        const char *line = delivery_line(&delivery); /* which is one */
        expect_row(strstr(line, rows[i].logged), "%.60s: %s", json, line);
        expect_row(strlen(line) < 18432 && strstr(line, " key=vendor-1 ms=0 errors="), "%.60s: %s", json, line);
        expect_row(!strstr(line, " cut=yes key=") == (rows[i].count == 1), "%.60s: %s", json, line);
        expect_row(is_utf8(line, strlen(line)), "%.60s: the line is no UTF-8", json);
        delivery_fini(&delivery);
        free(units);
        free(json);
        free(body);
    }
    end_table();
}

/* What a key field may have is logged whole, so that the receipt can be found by it. */
static void a_key_is_whole(void **state) {
    (void)state;
    static const char *const chars[] = {"x", "\xc3\xa4", "\xf0\x9f\x98\x80", "\\u0001"};
    for (size_t i = 0; i < COUNT_OF(chars); i++) {
        /* The two others have 10 bytes. */
        size_t bytes = *chars[i] == '\\' ? 1 : strlen(chars[i]);
        char *unit = repeat(chars[i], (RECEIPT_KEY_MAX_BYTES - 10) / bytes), *json = format_text("\"%s\"", unit);
        char *body = make_body_with("unit_identifier", json);
        struct delivery delivery = make_delivery(body, OUTCOME_CREATED, REJECTION_NONE);
        const char *quote = *chars[i] == '\\' ? "\"" : "";
        char *logged = format_text(" unit_identifier=%s%s%s key=", quote, unit, quote);
        const char *line = delivery_line(&delivery);
        expect_row(line && strstr(line, logged), "%s: %s", chars[i], line);
        delivery_fini(&delivery);
        free(unit);
        free(json);
        free(body);
        free(logged);
    }
    end_table();
}

/* The longest line there can be: however much of it a sender makes up, it is whole, since `receiptd missing` reads it.
 */
static void the_longest_line_fits(void **state) {
    (void)state;
    char *controls = repeat("\\u0001", 1000), *json = format_text("\"%s\"", controls);
    const struct change changes[] = {{"program_identifier", json}, {"asn_number", json}, {"unit_identifier", json}};
    char *body = make_body(changes, COUNT_OF(changes), NULL);
    struct delivery delivery = make_delivery(body, OUTCOME_INVALID, REJECTION_INVALID);
    delivery.errors.count = 0;
    for (int field = 0; field < RECEIPT_FIELD_COUNT; field++)
        delivery.errors.list[delivery.errors.count++] =
            (struct receipt_error){.field = (unsigned char)field, .code = RECEIPT_MISSING_FIELD};
    memset(delivery.api_key_name, 'k', API_KEY_NAME_MAX);
    for (int i = 0; i < SENDER_HEADER_COUNT; i++)
        delivery.headers[i] = repeat("\"", SENDER_HEADER_MAX_BYTES);
    const char *line = delivery_line(&delivery);
    assert_non_null(line);
    assert_non_null(strstr(line, ",reject_reason:missing_field"));
    assert_true(strlen(line) > 18500);
    delivery_fini(&delivery);
    free(body);
    free(json);
    free(controls);
}

static void lines_of_a_batch_are_written_together(void **state) {
    (void)state;
    enum { LINES = 50, PIPE_TAKES = 4096 };
    char text[2 * PIPE_TAKES];
    char *body = make_body(NULL, 0, NULL);
    struct delivery delivery = make_delivery(body, OUTCOME_CREATED, REJECTION_NONE);
    struct log_batch batch = {0};
    begin_capture();
    for (int i = 0; i < LINES; i++)
        log_delivery(&batch, &delivery);
    log_flush(&batch);
    log_flush(&batch); /* of nothing writes nothing */
    assert_true(dup2(stderr_before, STDERR_FILENO) >= 0);
    int lines = 0, writes = 0;
    for (ssize_t len; (len = recv(captured[0], text, sizeof text, MSG_DONTWAIT)) >= 0; writes++) {
        assert_in_range(len, 1, PIPE_TAKES);
        assert_int_equal(text[len - 1], '\n');
        for (ssize_t i = 0; i < len; i++)
            lines += text[i] == '\n';
    }
    close(stderr_before);
    close(captured[0]);
    close(captured[1]);
    assert_int_equal(lines, LINES);
    assert_in_range(writes, 2, LINES / 10);
    delivery_fini(&delivery);
    free(body);
}

enum { HUNG_S = 60 }; /* then the test is ended: somebody waits for standard error */

/* Makes `fd` standard error, and starts the writer. */
static void begin_writer(int fd) {
    stderr_before = dup(STDERR_FILENO);
    assert_true(stderr_before >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    alarm(HUNG_S);
    assert_true(log_start());
}

static void end_writer(void) {
    log_stop();
    alarm(0);
    dup2(stderr_before, STDERR_FILENO);
    close(stderr_before);
}

static void log_numbers(int count) {
    char *padding = repeat("x", 400);
    for (int i = 0; i < count; i++)
        log_message(LOG_INFO, "number=%d %s", i, padding);
    free(padding);
}

/* What was found in a log. */
struct found {
    size_t lines, broken, dropped, notices;
};

/* Counts the lines of the text, which ends in a zero. A broken one is not as log_numbers or the writer made it. */
static void look_at(char *text, struct found *found) {
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *dropped = strstr(line, " level=warning msg=\"lines of this log were dropped\" dropped=");
        found->lines += strstr(line, "xxx\"") && strncmp(line, "time=", 5) == 0 && !strstr(line + 5, "time=");
        found->broken += !strstr(line, "xxx\"") && !dropped;
        found->notices += dropped != NULL;
        if (dropped)
            found->dropped += strtoul(strrchr(line, '=') + 1, NULL, 10);
    }
}

/* Reads to the end of the pipe or socket, in a thread of its own, and looks at it. Packets may be PIPE_BUF long. */
struct reader {
    int fd;
    bool slow;
    size_t longest; /* read at once */
    struct found found;
};

static void *read_all(void *context) {
    struct reader *reader = context;
    size_t size = 64 * 1024 * 1024, len = 0;
    char *text = malloc(size);
    assert_non_null(text);
    for (ssize_t got; (got = read(reader->fd, text + len, reader->slow ? 8192 : 65536)) > 0; len += (size_t)got) {
        assert_true(len + 65536 < size);
        if ((size_t)got > reader->longest)
            reader->longest = (size_t)got;
        if (reader->slow && len < 1024 * 1024)
            usleep(500);
    }
    text[len] = '\0';
    look_at(text, &reader->found);
    free(text);
    return NULL;
}

static int64_t ms_since(int64_t began_us) {
    return (clock_now_us() - began_us) / US_PER_MS;
}

static void who_logs_does_not_wait_for_a_reader(void **state) {
    (void)state;
    enum { LINES = 20000 }; /* 9 MB */
    int ends[2];
    pthread_t thread;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    begin_writer(ends[1]);
    int64_t began_us = clock_now_us();
    log_numbers(LINES);
    int64_t logging_ms = ms_since(began_us);
    struct reader reader = {.fd = ends[0]};
    assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
    end_writer();
    close(ends[1]);
    pthread_join(thread, NULL);
    close(ends[0]);
    assert_true(logging_ms < 10000);
    assert_int_equal(reader.found.broken, 0);
    /* Two, where the pipe has room only after the first ones were dropped. */
    assert_in_range(reader.found.notices, 1, 2);
    assert_in_range(reader.found.dropped, LINES / 2, LINES - 2 * 1024 * 1024 / 500);
    assert_int_equal(reader.found.lines + reader.found.dropped, LINES);
}

static void the_end_does_not_wait_for_a_reader_either(void **state) {
    (void)state;
    enum { LINES = 1000 }; /* 0.5 MB */
    int ends[2];
    pthread_t thread;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    begin_writer(ends[1]);
    log_numbers(LINES);
    int64_t began_us = clock_now_us();
    log_stop();
    assert_in_range(ms_since(began_us), 500, 10000);
    /* Whoever comes too late finds all of it. */
    struct reader reader = {.fd = ends[0]};
    assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
    end_writer();
    close(ends[1]);
    pthread_join(thread, NULL);
    close(ends[0]);
    assert_int_equal(reader.found.lines, LINES);
    assert_int_equal(reader.found.broken + reader.found.notices, 0);
}

static void *log_some(void *unused) {
    (void)unused;
    log_numbers(500);
    return NULL;
}

/* Also where somebody who shares standard error has made it non-blocking. */
static void lines_of_several_threads_all_arrive_whole(void **state) {
    (void)state;
    enum { THREADS = 6 };
    static const struct {
        int flags;
        bool packets;
    } rows[] = {{0, false}, {O_NONBLOCK, false}, {0, true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int ends[2];
        pthread_t reading, logging[THREADS];
        assert_int_equal(
            rows[i].packets ? socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) : pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(fcntl(ends[1], F_SETFL, rows[i].flags), 0);
        struct reader reader = {.fd = ends[0], .slow = true};
        begin_writer(ends[1]);
        assert_int_equal(pthread_create(&reading, NULL, read_all, &reader), 0);
        for (size_t t = 0; t < THREADS; t++)
            assert_int_equal(pthread_create(&logging[t], NULL, log_some, NULL), 0);
        for (size_t t = 0; t < THREADS; t++)
            pthread_join(logging[t], NULL);
        end_writer();
        close(ends[1]);
        pthread_join(reading, NULL);
        close(ends[0]);
        expect_row(reader.found.lines == THREADS * 500 && reader.found.broken == 0 && reader.found.notices == 0,
                   "row %zu: %zu lines, %zu broken", i, reader.found.lines, reader.found.broken);
        /* What a pipe takes without mixing it with the lines of another process. */
        expect_row(!rows[i].packets || (reader.longest > PIPE_BUF / 2 && reader.longest <= PIPE_BUF),
                   "row %zu: %zu bytes in one write", i, reader.longest);
    }
    end_table();
}

/* Lines that match, and the sum of the numbers behind the last "=" of them. */
static void count_lines_with(const char *path, const char *text, size_t *lines, size_t *sum) {
    char line[16384];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    *lines = *sum = 0;
    while (fgets(line, sizeof line, file))
        if (strstr(line, text)) {
            ++*lines;
            *sum += strtoul(strrchr(line, '=') + 1, NULL, 10);
        }
    fclose(file);
}

static void requests_without_a_key_cannot_fill_the_log(void **state) {
    (void)state;
    enum { REQUESTS = 20000 };
    static const struct {
        enum outcome outcome;
        const char *text;
        bool all; /* have a line */
    } rows[] = {{OUTCOME_UNAUTHORIZED, " status=401 ", false}, {OUTCOME_NOT_POST, " status=405 ", false},
                {OUTCOME_UNAVAILABLE, " status=503 ", true},   {OUTCOME_UNCHANGED, " result=unchanged ", true},
                {OUTCOME_INVALID, " status=422 ", true},       {OUTCOME_TOO_LARGE, " status=413 ", true}};
    const char *path = write_file("strangers", "");
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    log_set_sampling(0);
    begin_writer(fd);
    int64_t began_us = clock_now_us();
    for (int i = 0; i < REQUESTS; i++)
        for (size_t row = 0; row < COUNT_OF(rows); row++)
            if (i % 1000 == 0 || !rows[row].all) {
                struct delivery delivery = {.outcome = rows[row].outcome, .request_id_text = ID};
                write_delivery(&delivery);
            }
    int64_t seconds = ms_since(began_us) / 1000 + 1;
    end_writer();
    close(fd);
    log_set_sampling(1);
    size_t strangers = 0, lines, notices, left_out, unused;
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        count_lines_with(path, rows[row].text, &lines, &unused);
        expect_row(!rows[row].all || lines == REQUESTS / 1000, "%s: %zu", rows[row].text, lines);
        strangers += rows[row].all ? 0 : lines;
    }
    count_lines_with(path, " msg=\"requests without a valid API key were left out of this log\" left_out=", &notices,
                     &left_out);
    assert_in_range(strangers, 50, 100 + seconds);
    assert_in_range(notices, 1, 1 + seconds / 10);
    assert_int_equal(strangers + left_out, 2 * REQUESTS);
    end_table();
}

/* A limit on the size of files stands for a full disk: of the line that reaches it, a part is written. */
static void where_there_is_no_room_lines_are_dropped_until_there_is(void **state) {
    (void)state;
    enum { LINES = 100, ROOM = 10000 };
    const struct timespec pause = {.tv_nsec = 1000000};
    char text[2 * ROOM];
    struct rlimit before, limit;
    struct stat status;
    struct found found = {0};
    const char *path = write_file("log", "");
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = ROOM;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    begin_writer(fd);
    log_numbers(LINES);
    do
        nanosleep(&pause, NULL);
    while (fstat(fd, &status) == 0 && status.st_size < ROOM);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* until it has tried, and dropped, all of the others */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    log_numbers(2);
    end_writer();
    signal(SIGXFSZ, SIG_DFL);
    close(fd);

    fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    assert_in_range(len, ROOM + 1, sizeof text - 2);
    text[len] = '\0';
    look_at(text, &found);
    /* The one of which there is a part is counted as dropped. */
    assert_int_equal(found.broken, 1);
    assert_in_range(found.lines, ROOM / 500 + 2, ROOM / 400 + 2);
    assert_int_equal(found.lines + found.dropped, LINES + 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_a_batch_are_written_together),
        cmocka_unit_test(values_are_quoted_where_they_have_to_be),
        cmocka_unit_test(a_long_message_is_cut),
        cmocka_unit_test(less_important_lines_than_the_level_are_left_out),
        cmocka_unit_test(a_delivery_has_a_line_with_its_outcome_and_key),
        cmocka_unit_test(a_delivery_without_receipt_has_what_is_known_of_it),
        cmocka_unit_test(the_duration_is_in_milliseconds),
        cmocka_unit_test(personal_data_bodies_and_keys_are_never_in_it),
        cmocka_unit_test(the_senders_headers_are_in_it_where_they_were_sent),
        cmocka_unit_test(no_value_breaks_the_line),
        cmocka_unit_test(a_key_is_whole),
        cmocka_unit_test(the_longest_line_fits),
        cmocka_unit_test(who_logs_does_not_wait_for_a_reader),
        cmocka_unit_test(the_end_does_not_wait_for_a_reader_either),
        cmocka_unit_test(lines_of_several_threads_all_arrive_whole),
        cmocka_unit_test(requests_without_a_key_cannot_fill_the_log),
        cmocka_unit_test(where_there_is_no_room_lines_are_dropped_until_there_is),
    };
    return cmocka_run_group_tests_name("log", tests, make_folder, remove_folder);
}
