/* log_line.h: what a line says, and that nothing is made of one that is cut. */
#include "log_line.h"

#include "unit.h"

#include <time.h>

#define HEAD                                                                                                           \
    "time=2026-11-28T10:00:00.123Z level=info msg=delivery request_id=01234567-89ab-cdef-0123-456789abcdef status=201"
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
        {LINE " failure=\"cut off\n", LOG_LINE_DELIVERY},
        {LINE " fail", LOG_LINE_DELIVERY},
        {"time=2026-11-28T10:00:00.123Z level=info msg=draining\n", LOG_LINE_MESSAGE},
        {"time=2026-11-28T10:00:00.123Z level=info msg=\"no delivery\" more=\"\n", LOG_LINE_MESSAGE},
        {NGINX "\n", LOG_LINE_NGINX},
        {NGINX, LOG_LINE_BROKEN},
        {NGINX " more=\n", LOG_LINE_NGINX},
        {NGINX " more\n", LOG_LINE_BROKEN},
        /* What journalctl and others make of a line. */
        {"MESSAGE=" LINE "\n", LOG_LINE_DELIVERY},
        {"{\"A\":\"b\",\"MESSAGE\":\"" HEAD
         " result=created program_identifier=p asn_number=\\\"A 1\\\" unit_identifier=u" TAIL "\",\"C\":\"d\"}\n",
         LOG_LINE_DELIVERY},
        {"{\"MESSAGE\" : \"Started receiptd\"}\n", LOG_LINE_OTHER},
        {"{\"MESSAGE\":null}\n", LOG_LINE_BROKEN},
        {"{\"MESSAGE\":[116,105]}\n", LOG_LINE_BROKEN},
        {"{\"MESSAGE\":\"time=2026\n", LOG_LINE_BROKEN},
        {"Nov 28 10:00:00 host receiptd[7]: [512B blob data]\n", LOG_LINE_BROKEN},
        {"2026-11-28T10:00:00.5Z stderr F " LINE "\n", LOG_LINE_DELIVERY},
        /* What a sender can have written into another program's log. */
        {"::1 - - [x] \"GET /? " LINE "\n", LOG_LINE_BROKEN},
        {"::1 - : " LINE " [28/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 0 \"-\" \"x\"\n", LOG_LINE_BROKEN},
        {LINE " and=more \"\n", LOG_LINE_BROKEN},
        /* Damaged. */
        {HEAD " result=created program_identifier=\xff asn_number=a unit_identifier=u" TAIL "\n", LOG_LINE_BROKEN},
        {HEAD " result=created program_identifier=\"\\u0000\" asn_number=a unit_identifier=u" TAIL "\n",
         LOG_LINE_BROKEN},
        {HEAD " result=created program_identifier=\"\\ud800\" asn_number=a unit_identifier=u" TAIL "\n",
         LOG_LINE_BROKEN},
        {HEAD " result=created program_identifier=\"\\q\" asn_number=a unit_identifier=u" TAIL "\n", LOG_LINE_BROKEN},
        {"time=2026-11-28T10:00:00.123 level=info msg=delivery request_id=0123456789abcdef0123456789abcdef "
         "status=201" TAIL "\n",
         LOG_LINE_BROKEN},
        {"time=2026-11-28T10:00:00.123Z level=info msg=delivery request_id=x123456789abcdef0123456789abcdef "
         "status=201" TAIL "\n",
         LOG_LINE_BROKEN},
        {"", LOG_LINE_OTHER},
        {"\n", LOG_LINE_OTHER},
        {"<", LOG_LINE_OTHER},
        {"another log\n", LOG_LINE_OTHER},
        {"time=\"2026-11-28\" level=info msg=delivery\n", LOG_LINE_OTHER},
        {"unit_identifier=\"\n", LOG_LINE_OTHER},
        {"2 status=502 bytes=7 seconds=0.1 worker=\"u\" worker_status=\"502\" worker_seconds=\"-\"\n", LOG_LINE_BROKEN},
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
    char text[] = HEAD " repeat_of=x result=created program_identifier=\"a=\\\"b\\\\ \\u0001\" asn_number=\xc3\xa4"
                       " unit_identifier=\"time=2026 msg=x\" key=k ms=12.345\n";
    char nginx[] = NGINX "\n", dropped[] = "time=2026-11-28T10:00:00.123Z level=warning msg=\"a b\" dropped=7\n";
    struct log_line line;
    assert_int_equal(parse(text, &line), LOG_LINE_DELIVERY);
    assert_string_equal(line.time, "2026-11-28T10:00:00.123Z");
    assert_string_equal(line.request_id, "01234567-89ab-cdef-0123-456789abcdef");
    assert_string_equal(line.repeat_of, "x");
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
    char escapes[] = HEAD
        " program_identifier=\"\\ud83d\\ude00\\u00e4\\u2028\\n\\/\" asn_number=a unit_identifier=u" TAIL " cut=yes\n";
    assert_int_equal(parse(escapes, &line), LOG_LINE_DELIVERY);
    assert_string_equal(line.program, "\xf0\x9f\x98\x80\xc3\xa4\xe2\x80\xa8\n/");
    assert_string_equal(line.cut, "yes");
    assert_int_equal(line.at_ms, 1795860000123);
    assert_int_equal(line.status_number, 201);
    assert_int_equal(line.id[15], 0xef);
}

static void times_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool valid;
        int64_t ms;
    } rows[] = {
        {"1970-01-01T00:00:00.000Z", true, 0},
        {"2026-11-28T10:00:00.123Z", true, 1795860000123},
        {"2026-11-28T11:30:00+01:30", true, 1795860000000},
        {"2026-11-27T22:00:00-12:00", true, 1795860000000},
        {"2000-02-29T23:59:59.999Z", true, 951868799999},
        {"2100-03-01T00:00:00Z", true, 4107542400000},
        {"2024-12-31T23:59:60.000Z", true, 1735689600000},
        {"2026-11-28T10:00:00.12Z", false, 0},
        {"2026-11-28T10:00:00.1234Z", false, 0},
        {"2026-11-28T10:00:00", false, 0},
        {"2026-11-28T10:00:00Z ", false, 0},
        {"2026-13-28T10:00:00Z", false, 0},
        {"2026-00-28T10:00:00Z", false, 0},
        {"2026-11-00T10:00:00Z", false, 0},
        {"2026-11-28T24:00:00Z", false, 0},
        {"2026-11-28 10:00:00Z", false, 0},
        {"2026-11-28T10:00:00+0100", false, 0},
        {"2", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int64_t ms = -1;
        char text[LOG_TIME_SIZE], again[LOG_TIME_SIZE];
        bool valid = log_line_parse_time(rows[i].text, &ms);
        expect_row(valid == rows[i].valid && (!valid || ms == rows[i].ms), "%s: %d %lld", rows[i].text, valid,
                   (long long)ms);
        if (valid && log_line_parse_time(log_line_format_time(text, ms), &ms))
            expect_row(strcmp(text, log_line_format_time(again, ms)) == 0, "%s: %s, %s", rows[i].text, text, again);
    }
    end_table();
}

/* Each day of four centuries, compared with the C library. */
static void every_day_is_counted(void **state) {
    (void)state;
    for (time_t day = 0; day < 146097; day++) {
        time_t seconds = day * 86400;
        struct tm utc;
        char text[64];
        int64_t ms = 0;
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
        expect_row(log_line_parse_time(text, &ms) && ms == (int64_t)seconds * 1000, "%s: %lld", text, (long long)ms);
    }
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(no_cut_makes_another_delivery),
        cmocka_unit_test(fields_are_decoded),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(every_day_is_counted),
    };
    return cmocka_run_group_tests_name("log_line", tests, NULL, NULL);
}
