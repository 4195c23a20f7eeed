#include "log_reader.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { WINDOW_SIZE = 256 * 1024 }; /* the longest line that is read; the service's have 18 KiB at most */

static const struct {
    const char *name;
    size_t offset; /* in struct log_line */
} fields[] = {
    {"time", offsetof(struct log_line, time)},       {"level", offsetof(struct log_line, level)},
    {"msg", offsetof(struct log_line, msg)},         {"status", offsetof(struct log_line, status)},
    {"result", offsetof(struct log_line, result)},   {"request_id", offsetof(struct log_line, request_id)},
    {"ms", offsetof(struct log_line, ms)},           {"program_identifier", offsetof(struct log_line, program)},
    {"asn_number", offsetof(struct log_line, asn)},  {"unit_identifier", offsetof(struct log_line, unit)},
    {"request", offsetof(struct log_line, request)}, {"worker_status", offsetof(struct log_line, worker_status)},
    {"dropped", offsetof(struct log_line, dropped)},
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };
_Static_assert(sizeof(struct log_line) == FIELD_COUNT * sizeof(char *), "each member is in the table");

static const char **value_of(struct log_line *line, size_t field) {
    return (const char **)(void *)((char *)line + fields[field].offset);
}

/* Where the first field begins, behind a priority for the journal or what syslog puts in front; NULL: nowhere. */
static char *find_time(char *text) {
    char *at = text + (*text == '<' ? strcspn(text, ">") : 0);
    at += *at == '>';
    while (strncmp(at, "time=2", 6) != 0) {
        at = strchr(at, ' ');
        if (!at)
            return NULL;
        at++;
    }
    return at;
}

/*
 * Takes the value at *at as log.c writes it, up to a blank or as a JSON string, decodes it in place and moves *at
 * behind it. False when it is neither: a plain value has no "=" and no quote, so another line has begun within this
 * one.
 */
static bool take_value(char **at, const char **value) {
    char *text = *at;
    size_t len = strcspn(text, " ");
    if (*text == '"') {
        json_error_t error;
        json_t *string = json_loads(text, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &error);
        if (!string)
            return false;
        len = (size_t)error.position;
        bool whole = text[len] == ' ' || text[len] == '\0';
        if (whole) {
            *at = text + len + (text[len] == ' ');
            *value = strcpy(text, json_string_value(string)); /* it is shorter than it was in quotes */
        }
        json_decref(string);
        return whole;
    }
    if (strcspn(text, "=\"") < len)
        return false;
    *at = text + len + (text[len] == ' ');
    *value = text;
    text[len] = '\0';
    return true;
}

/* Takes one field. False when there is none, or it was there before. */
static bool take_field(char **at, struct log_line *line) {
    const char *ignored = "", **value = &ignored;
    size_t len = strcspn(*at, "= ");
    if ((*at)[len] != '=')
        return false;
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (strlen(fields[i].name) == len && memcmp(fields[i].name, *at, len) == 0)
            value = value_of(line, i);
    *at += len + 1;
    return **value == '\0' && take_value(at, value);
}

static bool is_whole_delivery(const struct log_line *line) {
    return *line->level && strlen(line->request_id) == REQUEST_ID_CHARS && strlen(line->status) == 3 && *line->ms;
}

enum log_line_kind log_line_parse(char *text, bool ended, struct log_line *line) {
    *line = (struct log_line){"", "", "", "", "", "", "", "", "", "", "", "", ""};
    char *at = find_time(text);
    if (!at)
        return strstr(text, " msg=delivery ") ? LOG_LINE_BROKEN : LOG_LINE_OTHER;
    bool whole = true;
    while (*at != '\0' && (whole = take_field(&at, line)))
        ;
    if (strcmp(line->msg, "delivery") == 0)
        return is_whole_delivery(line) && (whole || !strstr(at, "time=")) ? LOG_LINE_DELIVERY : LOG_LINE_BROKEN;
    if (*line->request)
        return whole && ended ? LOG_LINE_NGINX : LOG_LINE_OTHER;
    return *line->msg && ended ? LOG_LINE_MESSAGE : LOG_LINE_BROKEN;
}

struct source {
    gzFile file;
    const char *name;
    size_t begin, end;  /* what is left in the window */
    bool over;          /* there is no more to come */
    bool skipping;      /* a line that is too long */
    size_t known_lines; /* of this file */
    char window[WINDOW_SIZE + 1];
};

/* What is compressed otherwise would be read as a log in which there is nothing. */
static const char *find_compression(const char *bytes, size_t len) {
    static const struct {
        const char *magic, *name;
    } formats[] = {
        {"\xfd"
         "7zXZ",
         "xz"},
        {"\x28\xb5\x2f\xfd", "zstd"},
        {"BZh", "bzip2"},
        {"\x04\x22\x4d\x18", "lz4"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (len >= strlen(formats[i].magic) && memcmp(bytes, formats[i].magic, strlen(formats[i].magic)) == 0)
            return formats[i].name;
    return NULL;
}

/* Reads on until the window is full, or there is no more. False when that failed. */
static bool fill(struct source *source, FILE *errors) {
    memmove(source->window, source->window + source->begin, source->end - source->begin);
    source->end -= source->begin;
    source->begin = 0;
    while (source->end < WINDOW_SIZE && !source->over) {
        int got = gzread(source->file, source->window + source->end, (unsigned)(WINDOW_SIZE - source->end));
        int error = Z_OK;
        const char *reason = gzerror(source->file, &error);
        if (got < 0 || (error != Z_OK && error != Z_STREAM_END)) {
            fprintf(errors, "receiptd: %s: %s\n", source->name, error == Z_ERRNO ? strerror(errno) : reason);
            return false;
        }
        source->over = got == 0;
        source->end += (size_t)got;
    }
    return true;
}

/* The next line, NUL-terminated and without its line feed; NULL: there is none yet. */
static char *next_line(struct source *source, size_t *len, bool *ended) {
    char *line = source->window + source->begin;
    size_t left = source->end - source->begin;
    char *line_feed = memchr(line, '\n', left);
    bool full = left == WINDOW_SIZE;
    if (left == 0 || (!line_feed && !full && !source->over))
        return NULL;
    *ended = line_feed != NULL;
    *len = line_feed ? (size_t)(line_feed - line) : left;
    line[*len] = '\0';
    source->begin += *len + *ended;
    return line;
}

static void take_line(struct source *source, char *text, size_t len, bool ended, log_line_taker *take, void *context,
                      struct log_totals *totals) {
    struct log_line line;
    bool is_rest = source->skipping, is_binary = strlen(text) != len; /* NULs: what a crash left of a file */
    source->skipping = !ended && !source->over;
    if (is_rest)
        return;
    if (is_binary || source->skipping) {
        totals->broken++;
        return;
    }
    enum log_line_kind kind = log_line_parse(text, ended, &line);
    switch (kind) {
    case LOG_LINE_OTHER:
        return;
    case LOG_LINE_BROKEN:
        totals->broken++;
        break;
    case LOG_LINE_MESSAGE:
        totals->dropped += strtoul(line.dropped, NULL, 10);
        totals->left_out |= strcmp(line.msg, LOG_DELIVERIES_LEFT_OUT) == 0;
        break;
    case LOG_LINE_DELIVERY:
    case LOG_LINE_NGINX:
        take(context, kind, &line);
    }
    source->known_lines++;
}

static bool read_source(struct source *source, log_line_taker *take, void *context, struct log_totals *totals,
                        FILE *errors) {
    char *text;
    size_t len;
    bool ended;
    if (!fill(source, errors))
        return false;
    bool empty = source->end == 0;
    const char *compression = find_compression(source->window, source->end);
    if (compression) {
        fprintf(errors, "receiptd: %s is compressed by %s; decompress it, or pass it on standard input\n", source->name,
                compression);
        return false;
    }
    while (source->begin < source->end) {
        while ((text = next_line(source, &len, &ended)))
            take_line(source, text, len, ended, take, context, totals);
        if (!fill(source, errors))
            return false;
    }
    totals->known += source->known_lines;
    if (empty || source->known_lines > 0)
        return true;
    fprintf(errors, "receiptd: %s is not a log of receiptd: it has no line of a worker or of nginx\n", source->name);
    return false;
}

static bool read_file(const char *name, log_line_taker *take, void *context, struct log_totals *totals, FILE *errors) {
    bool ok = false;
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
    struct source *source = calloc(1, sizeof *source);
    gzFile file = fd >= 0 && source ? gzdopen(fd, "rb") : NULL;
    if (file) {
        source->file = file;
        source->name = name ? name : "standard input";
        ok = read_source(source, take, context, totals, errors);
        gzclose(file);
    } else {
        fprintf(errors, "receiptd: %s: %s\n", name ? name : "standard input", strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    free(source);
    return ok;
}

bool log_reader_read(char *const *files, log_line_taker *take, void *context, struct log_totals *totals, FILE *errors) {
    if (!*files)
        return read_file(NULL, take, context, totals, errors);
    for (; *files; files++)
        if (!read_file(*files, take, context, totals, errors))
            return false;
    return true;
}
