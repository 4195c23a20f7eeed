#include "findings.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

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

/* One line of it: libpq's and OpenSSL's messages have several, and end in one. */
static void make_line(char *text) {
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    for (; *text != '\0'; text++)
        if (*text == '\n' || *text == '\t')
            *text = ' ';
}

void findings_add(struct findings *findings, enum finding finding, const char *subject, const char *advice,
                  const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_line(text);
    if (finding > findings->worst)
        findings->worst = finding;
    if (!findings->list) {
        fprintf(findings->out, "%-4s  %-14s %s%s%s\n", names[finding], subject, text, advice ? "; " : "",
                advice ? advice : "");
        fflush(findings->out);
    } else if (json_array_append_new(findings->list,
                                     json_pack("{s:s, s:s, s:s, s:s?}", "status", names[finding], "subject", subject,
                                               "finding", text, "advice", advice)) != 0) {
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
