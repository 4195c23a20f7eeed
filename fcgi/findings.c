#include "findings.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_SIZE = 1024 };

static const char *const names[] = {[FINDING_OK] = "ok", [FINDING_WARN] = "warn", [FINDING_FAIL] = "FAIL"};

struct findings {
    FILE *out;
    json_t *list; /* NULL: lines */
    enum finding worst;
};

struct findings *findings_new(FILE *out, bool json) {
    struct findings *findings = calloc(1, sizeof *findings);
    json_t *list = json ? json_array() : NULL;
    if (!findings || (json && !list)) {
        free(findings);
        json_decref(list);
        return NULL;
    }
    findings->out = out;
    findings->list = list;
    return findings;
}

/* The length of the character that the text begins with; 0: it is not UTF-8 (RFC 3629), or a control character. */
static size_t character_len(const unsigned char *text) {
    static const struct {
        unsigned char mask, lead;
        unsigned long min;
    } forms[] = {{0x80, 0, ' '}, {0xe0, 0xc0, 0xa0}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t len = 1; len <= sizeof forms / sizeof forms[0]; len++) {
        if ((*text & forms[len - 1].mask) != forms[len - 1].lead)
            continue;
        unsigned long code = *text & ~forms[len - 1].mask & 0xff;
        for (size_t i = 1; i < len; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (text[i] & 0x3f);
        }
        bool ok = code >= forms[len - 1].min && code != 0x7f && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        return ok ? len : 0;
    }
    return 0;
}

/*
 * Makes a line of a text that can be of any program: those of libpq and OpenSSL have several lines, and end in one.
 * What is no UTF-8 or controls a terminal becomes U+FFFD. `line` has room for three times as much.
 */
static void make_line(const char *text, char *line) {
    size_t len = strlen(text), at = 0;
    while (len > 0 && strchr("\n\t\r ", text[len - 1]))
        len--;
    for (size_t i = 0; i < len;) {
        size_t character = character_len((const unsigned char *)text + i);
        bool blank = strchr("\n\t\r", text[i]) != NULL;
        const char *shown = blank ? " " : character > 0 && i + character <= len ? text + i : "\xef\xbf\xbd";
        size_t shown_len = blank ? 1 : shown == text + i ? character : 3;
        memcpy(line + at, shown, shown_len);
        at += shown_len;
        i += shown == text + i ? character : 1;
    }
    line[at] = '\0';
}

void findings_add(struct findings *findings, enum finding finding, const char *subject, const char *advice,
                  const char *format, ...) {
    char text[TEXT_SIZE], line[3 * TEXT_SIZE], what[TEXT_SIZE], todo[3 * TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_line(text, line);
    snprintf(what, sizeof what, "%s", advice ? advice : "");
    make_line(what, todo);
    if (finding > findings->worst)
        findings->worst = finding;
    if (!findings->list) {
        fprintf(findings->out, "%-4s  %-14s %s%s%s\n", names[finding], subject, line, advice ? "; " : "", todo);
        fflush(findings->out);
    } else if (json_array_append_new(findings->list,
                                     json_pack("{s:s, s:s, s:s, s:s?}", "status", names[finding], "subject", subject,
                                               "finding", line, "advice", advice ? todo : NULL)) != 0) {
        findings->worst = FINDING_FAIL;
    }
}

enum finding findings_end(struct findings *findings) {
    enum finding worst = findings->worst;
    if (findings->list) {
        json_t *all = json_pack("{s:s, s:s, s:o}", "status", names[worst], "version", RECEIPTD_VERSION, "findings",
                                findings->list);
        if (!all || json_dumpf(all, findings->out, JSON_INDENT(2)) != 0)
            worst = FINDING_FAIL;
        fputc('\n', findings->out);
        json_decref(all);
    }
    if (fflush(findings->out) != 0)
        worst = FINDING_FAIL;
    free(findings);
    return worst;
}
