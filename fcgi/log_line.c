#include "log_line.h"

#include "hex.h"
#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MS_PER_S = 1000, S_PER_MINUTE = 60, MINUTES_PER_HOUR = 60, S_PER_DAY = 86400 };

#define FIELD(name_, member_)                                                                                          \
    { .name = name_, .len = sizeof name_ - 1, .offset = offsetof(struct log_line, member_) }
static const struct {
    const char *name;
    size_t len, offset;
} fields[] = {
    FIELD("time", time),
    FIELD("level", level),
    FIELD("msg", msg),
    FIELD("status", status),
    FIELD("result", result),
    FIELD("request_id", request_id),
    FIELD("ms", ms),
    FIELD("program_identifier", program),
    FIELD("asn_number", asn),
    FIELD("unit_identifier", unit),
    FIELD("cut", cut),
    FIELD("request", request),
    FIELD("worker_status", worker_status),
    FIELD("dropped", dropped),
    FIELD("repeat_of", repeat_of),
};
#undef FIELD
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };
_Static_assert(offsetof(struct log_line, at_ms) == FIELD_COUNT * sizeof(char *), "each member is in the table");

static const char **value_of(struct log_line *line, size_t field) {
    return (const char **)(void *)((char *)line + fields[field].offset);
}

static bool take_number(const char **text, int digits, int *number) {
    *number = 0;
    for (; digits > 0; digits--, ++*text) {
        if (**text < '0' || **text > '9')
            return false;
        *number = *number * 10 + (**text - '0');
    }
    return true;
}

static bool take_char(const char **text, char c) {
    return *(*text)++ == c;
}

/* Days from 1970 on in the Gregorian calendar: timegm takes longer than all else that is done with a line. */
static int64_t days_since_1970(int year, int month, int day) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    enum { CYCLE = 4 * 100 };       /* years */
    int full = year - (month <= 2); /* the last year whose 29th of February, if any, is behind */
    return (int64_t)365 * (year - 1970) + full / 4 - full / 100 + full / CYCLE -
           (1969 / 4 - 1969 / 100 + 1969 / CYCLE) + before[month - 1] + day - 1;
}

bool log_line_parse_time(const char *text, int64_t *ms) {
    int year, month, day, hour, minute, second, fraction = 0, zone_hour = 0, zone_minute = 0;
    if (!take_number(&text, 4, &year) || !take_char(&text, '-') || !take_number(&text, 2, &month) ||
        !take_char(&text, '-') || !take_number(&text, 2, &day) || !take_char(&text, 'T') ||
        !take_number(&text, 2, &hour) || !take_char(&text, ':') || !take_number(&text, 2, &minute) ||
        !take_char(&text, ':') || !take_number(&text, 2, &second))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return false;
    if (*text == '.' && (!take_char(&text, '.') || !take_number(&text, 3, &fraction)))
        return false;
    int sign = *text == '+' ? 1 : *text == '-' ? -1 : 0;
    text++;
    if (sign == 0 && text[-1] != 'Z')
        return false;
    if (sign != 0 &&
        (!take_number(&text, 2, &zone_hour) || !take_char(&text, ':') || !take_number(&text, 2, &zone_minute)))
        return false;
    int minutes = hour * MINUTES_PER_HOUR + minute - sign * (zone_hour * MINUTES_PER_HOUR + zone_minute);
    int64_t seconds = days_since_1970(year, month, day) * S_PER_DAY + (int64_t)minutes * S_PER_MINUTE + second;
    *ms = seconds * MS_PER_S + fraction;
    return *text == '\0';
}

const char *log_line_format_time(char text[LOG_TIME_SIZE], int64_t ms) {
    time_t seconds = (time_t)(ms / MS_PER_S);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t len = strftime(text, LOG_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + len, LOG_TIME_SIZE - len, ".%03dZ", (int)(ms % MS_PER_S));
    return text;
}

/* `digits` hexadecimal digits; -1: they are not there. */
static int take_hex(const char *text, int digits) {
    int number = 0;
    for (int i = 0; i < digits; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return -1;
        number = number << 4 | digit;
    }
    return number;
}

static char *put_character(char *to, uint32_t code) {
    if (code >= 0x10000) {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
    } else if (code >= 0x800) {
        *to++ = (char)(0xe0 | code >> 12);
    }
    if (code >= 0x800)
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    else if (code >= 0x80)
        *to++ = (char)(0xc0 | code >> 6);
    *to++ = (char)(code < 0x80 ? code : 0x80 | (code & 0x3f));
    return to;
}

/*
 * Decodes what follows on a backslash at *from, as JSON (RFC 8259, section 7) and nginx (\xHH, a byte) write it, to
 * *to, where it takes no more room. False when it is neither, or a NUL.
 */
static bool take_escape(const char **from, char **to) {
    static const char plain[][2] = {{'"', '"'},  {'\\', '\\'}, {'/', '/'},  {'b', '\b'},
                                    {'f', '\f'}, {'n', '\n'},  {'r', '\r'}, {'t', '\t'}};
    char kind = **from;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (plain[i][0] == kind) {
            *(*to)++ = plain[i][1];
            ++*from;
            return true;
        }
    if (kind != 'u' && kind != 'x')
        return false;
    int digits = kind == 'u' ? 4 : 2, code = take_hex(*from + 1, digits);
    *from += code > 0 ? 1 + digits : 0;
    if (code > 0 && kind == 'x') {
        *(*to)++ = (char)code;
        return true;
    }
    if (code >= 0xd800 && code < 0xdc00 && (*from)[0] == '\\' && (*from)[1] == 'u') {
        int low = take_hex(*from + 2, 4);
        if (low < 0xdc00 || low > 0xdfff)
            return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        *from += 6;
    } else if (code >= 0xd800 && code <= 0xdfff) {
        return false;
    }
    if (code > 0)
        *to = put_character(*to, (uint32_t)code);
    return code > 0;
}

/* The quote that ends the string which begins at `text`; NULL: there is none. */
static char *find_quote(char *text) {
    text += strcspn(text, "\"\\");
    while (*text == '\\') {
        text += text[1] ? 2 : 1;
        text += strcspn(text, "\"\\");
    }
    return *text == '"' ? text : NULL;
}

/* Decodes the string whose opening quote is at *at, in place, and moves *at behind its closing one. */
static bool take_string(char **at, const char **value) {
    char *to = *at + 1, *end = find_quote(to);
    if (!end)
        return false;
    for (const char *from = to; from < end;) {
        if (*from != '\\')
            *to++ = *from++;
        else if (from++, !take_escape(&from, &to))
            return false;
    }
    *to = '\0';
    *value = *at + 1;
    *at = end + 1;
    return true;
}

/*
 * Takes the value at *at as log.c writes it, up to a blank or as a JSON string, and moves *at behind it. False when it
 * is neither: a plain value has no "=" and no quote, so another line has begun within this one.
 */
static bool take_value(char **at, const char **value) {
    char *end = *at;
    if (*end == '"') {
        const char *string;
        if (!take_string(&end, &string) || (*end != ' ' && *end != '\0'))
            return false;
        *value = string;
        *at = end + (*end == ' ');
        return true;
    }
    while (*end != ' ' && *end != '\0') {
        if (*end == '=' || *end == '"')
            return false;
        end++;
    }
    *value = *at;
    *at = end + (*end == ' ');
    *end = '\0';
    return true;
}

/* Takes one field. False, and *at is where it began, when there is none, or it was there before. */
static bool take_field(char **at, struct log_line *line) {
    const char *ignored = "", **value = &ignored;
    char *name = *at, *end = name;
    while (*end != '=' && *end != ' ' && *end != '\0')
        end++;
    if (*end != '=')
        return false;
    size_t len = (size_t)(end - name);
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (fields[i].len == len && memcmp(fields[i].name, name, len) == 0) {
            value = value_of(line, i);
            break;
        }
    char *behind = end + 1;
    if (**value != '\0' || !take_value(&behind, value))
        return false;
    *at = behind;
    return true;
}

/*
 * Where the first field begins: at the start, behind a priority for the journal, behind the name of the field in
 * `journalctl -o export`, or behind what syslog or a container puts in front. No quote is before it: that would be a
 * log of something else, which quotes what a sender wrote. NULL: nowhere.
 */
static char *find_time(char *text) {
    static const char message[] = "MESSAGE=";
    char *at = text + (strncmp(text, message, sizeof message - 1) == 0 ? sizeof message - 1 : 0);
    at += *at == '<' ? strcspn(at, ">") : 0;
    at += *at == '>';
    while (strncmp(at, "time=2", 6) != 0) {
        at += strcspn(at, " \"");
        if (*at != ' ')
            return NULL;
        at++;
    }
    return at;
}

/*
 * Of `journalctl -o json`, an object a line: the message, decoded in place; else the text. NULL: journalctl has left
 * the message out, since it is long (null without --all) or binary.
 */
static char *find_message(char *text) {
    static const char name[] = "\"MESSAGE\":";
    const char *message;
    char *at = *text == '{' ? strstr(text, name) : NULL;
    if (!at)
        return text;
    at += sizeof name - 1;
    at += strspn(at, " ");
    return *at == '"' && take_string(&at, &message) ? text + (message - text) : NULL;
}

/* Whether nothing of a delivery is missing but the end of its last fields, which are of no interest. */
static bool is_cut_at_the_end(const char *rest) {
    rest += strspn(rest, "abcdefghijklmnopqrstuvwxyz_");
    return *rest == '\0' || (strncmp(rest, "=\"", 2) == 0 && !strchr(rest + 2, '"') && !strstr(rest, "time="));
}

static bool is_whole(struct log_line *line) {
    const char *digit = line->status;
    return log_line_parse_time(line->time, &line->at_ms) && request_id_parse(line->request_id, line->id) &&
           take_number(&digit, 3, &line->status_number) && *digit == '\0';
}

static bool is_whole_delivery(struct log_line *line) {
    return is_whole(line) && *line->level && *line->ms && utf8_is_valid(line->program, strlen(line->program)) &&
           utf8_is_valid(line->asn, strlen(line->asn)) && utf8_is_valid(line->unit, strlen(line->unit));
}

enum log_line_kind log_line_parse(char *text, bool ended, struct log_line *line) {
    *line = (struct log_line){"", "", "", "", "", "", "", "", "", "", "", "", "", "", "", .at_ms = 0};
    text = find_message(text);
    if (!text)
        return LOG_LINE_BROKEN;
    char *at = find_time(text);
    if (!at) /* "[512B blob data]" is what journalctl shows of a line that is not printable */
        return strstr(text, " msg=delivery ") || strstr(text, " worker_status=") || strstr(text, "B blob data]")
                   ? LOG_LINE_BROKEN
                   : LOG_LINE_OTHER;
    bool whole = true;
    while (*at != '\0' && (whole = take_field(&at, line)))
        ;
    if (strcmp(line->msg, "delivery") == 0)
        return is_whole_delivery(line) && (whole || is_cut_at_the_end(at)) ? LOG_LINE_DELIVERY : LOG_LINE_BROKEN;
    if (*line->request)
        return whole && ended && is_whole(line) ? LOG_LINE_NGINX : LOG_LINE_BROKEN;
    return *line->msg && ended ? LOG_LINE_MESSAGE : LOG_LINE_BROKEN;
}
