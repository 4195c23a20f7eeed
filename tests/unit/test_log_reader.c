/* log_reader.h: what a line says, and that nothing is made of one that is cut. */
#include "log_reader.h"

#include "unit.h"

#include <zlib.h>

#define HEAD                                                                                                           \
    "time=2026-11-28T10:00:00.123Z level=info msg=delivery request_id=0123456789abcdef0123456789abcdef status=201"
#define KEYS " program_identifier=p asn_number=\"A 1\" unit_identifier=u"
#define TAIL " key=k ms=12.345"
#define LINE HEAD " result=created" KEYS TAIL
#define NGINX                                                                                                          \
    "time=2026-11-28T10:00:00+00:00 request_id=0123456789abcdef0123456789abcdef client=::1"                            \
    " request=\"POST /inventory_receipt\" status=502 bytes=7 seconds=0.1 worker=\"a, b\" worker_status=\"502, 502\""   \
    " worker_seconds=\"-\""

static enum log_line_kind parse(char *text, struct log_line *line) {
    size_t len = strlen(text);
    bool ended = len > 0 && text[len - 1] == '\n';
    if (ended)
        text[len - 1] = '\0';
    return log_line_parse(text, ended, line);
}

static void kinds(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum log_line_kind kind;
    } rows[] = {
        {LINE "\n", LOG_LINE_DELIVERY},
        {"<6>" LINE "\n", LOG_LINE_DELIVERY},
        {"Nov 28 10:00:00 host receiptd[7]: " LINE "\n", LOG_LINE_DELIVERY},
        {LINE, LOG_LINE_DELIVERY},
        {LINE " line=1 column=2\n", LOG_LINE_DELIVERY},
        {LINE " failure=\"cut off", LOG_LINE_DELIVERY},
        {"time=2026-11-28T10:00:00.123Z level=info msg=draining\n", LOG_LINE_MESSAGE},
        {"time=2026-11-28T10:00:00.123Z level=info msg=\"no delivery\" more=\"\n", LOG_LINE_MESSAGE},
        {NGINX "\n", LOG_LINE_NGINX},
        {NGINX, LOG_LINE_OTHER},
        {"", LOG_LINE_OTHER},
        {"\n", LOG_LINE_OTHER},
        {"<", LOG_LINE_OTHER},
        {"another log\n", LOG_LINE_OTHER},
        {"time=\"2026-11-28\" level=info msg=delivery\n", LOG_LINE_OTHER},
        {"unit_identifier=\"\n", LOG_LINE_OTHER},
        /* Cut off, and continued by another line. */
        {"time=2026-11-28T10:00:00.123Z level=info msg=deliv", LOG_LINE_BROKEN},
        {"time=2026-11-28T10:00:00.123Z level=info\n", LOG_LINE_BROKEN},
        {"3Z level=info msg=delivery request_id=0123456789abcdef0123456789abcdef status=201" TAIL "\n",
         LOG_LINE_BROKEN},
        {HEAD " result=created" KEYS " key=k\n", LOG_LINE_BROKEN},
        {HEAD " result=created" KEYS " key=k ms=\n", LOG_LINE_BROKEN},
        {HEAD " result=created" KEYS " key=k ms", LOG_LINE_BROKEN},
        {HEAD " result=created" KEYS LINE "\n", LOG_LINE_BROKEN},
        {HEAD " result=created program_identifier=p asn_number=\"A 1" LINE "\n", LOG_LINE_BROKEN},
        {HEAD " result=created program_identifier=p asn_number=\"A 1\"" LINE "\n", LOG_LINE_BROKEN},
        {HEAD " resu<6>" LINE "\n", LOG_LINE_BROKEN},
        {HEAD " " LINE "\n", LOG_LINE_BROKEN},
        {LINE LINE "\n", LOG_LINE_BROKEN},
        {LINE " failure=\"cut" LINE "\n", LOG_LINE_BROKEN},
        {"time=2026-11-28T10:00:00.123Z level=info msg=drain" LINE "\n", LOG_LINE_BROKEN},
        {"time=2026-11-28T10:00:00.123Z level=info msg=\"some words" LINE "\n", LOG_LINE_BROKEN},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *text = strdup(rows[i].text);
        struct log_line line;
        enum log_line_kind kind = parse(text, &line);
        expect_row(kind == rows[i].kind, "%s: %d", rows[i].text, (int)kind);
        free(text);
    }
    end_table();
}

/* However it is cut, a line is of the same delivery or of none. */
static void no_cut_makes_another_delivery(void **state) {
    (void)state;
    static const char whole[] = LINE;
    struct log_line line;
    for (size_t len = 0; len < sizeof whole; len++)
        for (int ended = 0; ended < 2; ended++) {
            char text[sizeof whole];
            snprintf(text, sizeof text, "%.*s", (int)len, whole);
            if (log_line_parse(text, ended, &line) != LOG_LINE_DELIVERY)
                continue;
            expect_row(strcmp(line.unit, "u") == 0 && strcmp(line.asn, "A 1") == 0 && strcmp(line.program, "p") == 0 &&
                           strcmp(line.status, "201") == 0 && strcmp(line.result, "created") == 0,
                       "%zu bytes", len);
        }
    end_table();
}

static void fields_are_decoded(void **state) {
    (void)state;
    char text[] = HEAD " result=created program_identifier=\"a=\\\"b\\\\ \\u0001\" asn_number=\xc3\xa4"
                       " unit_identifier=\"time=2026 msg=x\" key=k ms=12.345\n";
    char nginx[] = NGINX "\n", dropped[] = "time=2026-11-28T10:00:00.123Z level=warning msg=\"a b\" dropped=7\n";
    struct log_line line;
    assert_int_equal(parse(text, &line), LOG_LINE_DELIVERY);
    assert_string_equal(line.time, "2026-11-28T10:00:00.123Z");
    assert_string_equal(line.request_id, "0123456789abcdef0123456789abcdef");
    assert_string_equal(line.status, "201");
    assert_string_equal(line.result, "created");
    assert_string_equal(line.program, "a=\"b\\ \x01");
    assert_string_equal(line.asn, "\xc3\xa4");
    assert_string_equal(line.unit, "time=2026 msg=x");
    assert_string_equal(line.ms, "12.345");
    assert_string_equal(line.request, "");
    assert_int_equal(parse(nginx, &line), LOG_LINE_NGINX);
    assert_string_equal(line.request, "POST /inventory_receipt");
    assert_string_equal(line.worker_status, "502, 502");
    assert_int_equal(parse(dropped, &line), LOG_LINE_MESSAGE);
    assert_string_equal(line.msg, "a b");
    assert_string_equal(line.dropped, "7");
}

static void count_line(void *context, enum log_line_kind kind, const struct log_line *line) {
    (void)kind;
    (void)line;
    ++*(size_t *)context;
}

/* Reads a file with this content; the deliveries, or -1 where that failed. */
static long read_content(const char *content, size_t len, bool compressed, struct log_totals *totals) {
    char path[] = "/tmp/receiptd-unit.XXXXXX";
    int fd = mkstemp(path);
    size_t count = 0;
    assert_true(fd >= 0);
    gzFile file = gzdopen(fd, compressed ? "w" : "wT");
    assert_int_equal(gzwrite(file, content, (unsigned)len), (int)len);
    assert_int_equal(gzclose(file), Z_OK);
    char *files[] = {path, path, NULL};
    FILE *errors = fopen("/dev/null", "w");
    *totals = (struct log_totals){0};
    bool ok = log_reader_read(files, count_line, &count, totals, errors);
    fclose(errors);
    unlink(path);
    return ok ? (long)count : -1;
}

static void files_are_read_in_portions(void **state) {
    (void)state;
    struct log_totals totals;
    char *lines = repeat(LINE "\n", 10000);
    assert_int_equal(read_content(lines, strlen(lines), false, &totals), 20000);
    assert_int_equal(totals.known, 20000);
    assert_int_equal(read_content(lines, strlen(lines), true, &totals), 20000);
    assert_int_equal(read_content(lines, strlen(lines) - 1, true, &totals), 20000);
    assert_int_equal(totals.broken, 0);
    assert_int_equal(read_content("", 0, false, &totals), 0);
    assert_int_equal(totals.known, 0);
    free(lines);
}

static void what_no_line_has_is_counted_as_broken(void **state) {
    (void)state;
    struct log_totals totals;
    char *rubbish = repeat("x", 1000000), *text = format_text(LINE "\n%s\n" LINE "\n", rubbish);
    assert_int_equal(read_content(text, strlen(text), false, &totals), 4);
    assert_int_equal(totals.broken, 2);
    static const char zeros[] = LINE "\n\0\0\0\0" LINE "\n" LINE "\n";
    assert_int_equal(read_content(zeros, sizeof zeros - 1, false, &totals), 4);
    assert_int_equal(totals.broken, 2);
    assert_int_equal(read_content(zeros + strlen(LINE) + 1, 4, false, &totals), -1);
    free(rubbish);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(no_cut_makes_another_delivery),
        cmocka_unit_test(fields_are_decoded),
        cmocka_unit_test(files_are_read_in_portions),
        cmocka_unit_test(what_no_line_has_is_counted_as_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
