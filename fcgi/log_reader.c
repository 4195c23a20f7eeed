#include "log_reader.h"

#include "log.h"
#include "log_file.h"
#include "progress.h"
#include "utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WINDOW_SIZE = 256 * 1024 }; /* the longest line that is read; the service's have 18 KiB at most */

struct source {
    struct log_file *file;
    size_t begin, end;  /* what is left in the window */
    bool over;          /* there is no more to come */
    bool failed;        /* since it cannot be read */
    bool skipping;      /* a line that is too long */
    size_t lines;       /* of this file; */
    size_t known_lines; /* of those, of the service or of nginx */
    char window[WINDOW_SIZE + 1];
};

struct reading {
    log_line_taker *take;
    void *context;
    struct log_totals *totals;
    FILE *errors;
    struct progress progress;
    uint64_t done, total; /* bytes of all files; total 0: not known */
    bool stopped;         /* by the taker */
};

/* Reads on until the window is full, or there is no more. */
static void fill(struct source *source, struct reading *reading) {
    memmove(source->window, source->window + source->begin, source->end - source->begin);
    source->end -= source->begin;
    source->begin = 0;
    while (source->end < WINDOW_SIZE && !source->over) {
        ssize_t got = log_file_read(source->file, source->window + source->end, WINDOW_SIZE - source->end);
        source->failed = got < 0;
        source->over = got <= 0;
        source->end += got > 0 ? (size_t)got : 0;
    }
    progress_show(&reading->progress, "reading", reading->done + log_file_position(source->file), reading->total,
                  PROGRESS_BYTES);
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
    source->begin += *len + *ended;
    if (*ended && *len > 0 && line[*len - 1] == '\r')
        --*len;
    line[*len] = '\0';
    return line;
}

/*
 * Whether an unknown line may be what is left of one of ours: at the start or the end of a file that was split within a
 * line, or with bytes that no log has. Other programs' lines in the journal have words, and an end.
 */
static bool is_fragment(const char *text, size_t len, bool is_first, bool ended) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' && text[i] != '\t')
            return true;
    is_first = is_first && strncmp(text, "__CURSOR=", 9) != 0; /* of `journalctl -o export` */
    return (!ended && len > 0) || !utf8_is_valid(text, len) ||
           (is_first && len > 0 && (strchr(text, '=') || !strchr(text, ' ')));
}

/*
 * How many lines journald or rsyslog has dropped, as it reports itself among the lines; 1 if it does not count them.
 * journald names whose lines, rsyslog does not.
 */
static size_t count_lost(const char *text) {
    static const char journald[] = "Suppressed ", whose[] = " messages from receiptd";
    const char *number = strstr(text, journald);
    if (number && strstr(number, whose))
        number += sizeof journald - 1;
    else if (strstr(text, "due to rate-limiting"))
        number = strstr(text, " messages");
    else
        return 0;
    while (number && number > text && number[-1] >= '0' && number[-1] <= '9')
        number--;
    size_t count = number ? strtoul(number, NULL, 10) : 0;
    return count > 0 ? count : 1;
}

static void take_line(struct source *source, char *text, size_t len, bool ended, struct reading *reading) {
    struct log_totals *totals = reading->totals;
    struct log_line line;
    bool is_rest = source->skipping;
    source->skipping = !ended && !source->over;
    if (is_rest)
        return;
    /* NULs are what a crash leaves of a file's end; the next line follows on them. */
    const char *last_nul = memrchr(text, '\0', len);
    totals->broken += last_nul || source->skipping;
    if (source->skipping)
        return;
    text += last_nul ? last_nul + 1 - text : 0;
    bool may_be_first = source->lines++ == 0;
    switch (log_line_parse(text, ended, &line)) {
    case LOG_LINE_OTHER:
        totals->broken += !last_nul && is_fragment(text, len, may_be_first, ended);
        totals->dropped += count_lost(text);
        return;
    case LOG_LINE_BROKEN:
        totals->broken++;
        break;
    case LOG_LINE_MESSAGE:
        totals->dropped += strtoul(line.dropped, NULL, 10);
        totals->left_out |= strcmp(line.msg, LOG_DELIVERIES_LEFT_OUT) == 0;
        break;
    case LOG_LINE_DELIVERY:
        reading->stopped = !reading->take(reading->context, LOG_LINE_DELIVERY, &line);
        break;
    case LOG_LINE_NGINX:
        reading->stopped = !reading->take(reading->context, LOG_LINE_NGINX, &line);
    }
    source->known_lines++;
}

/* Why a file cannot be read to its end, or is no log; NULL: it was read. */
static const char *read_source(struct source *source, struct reading *reading) {
    char *text;
    size_t len;
    bool ended;
    fill(source, reading);
    bool empty = source->end == 0;
    while (source->begin < source->end && !reading->stopped) {
        while (!reading->stopped && (text = next_line(source, &len, &ended)))
            take_line(source, text, len, ended, reading);
        fill(source, reading);
    }
    reading->totals->known += source->known_lines;
    if (source->failed)
        return log_file_reason(source->file);
    return empty || source->known_lines > 0 || reading->stopped ? NULL
                                                                : "it has no line of a worker or of nginx's log "
                                                                  "(format receiptd)";
}

/* See read_source. */
static const char *read_file(const char *name, struct reading *reading) {
    struct source *source = calloc(1, sizeof *source);
    if (!source)
        return "out of memory";
    const char *reason = NULL;
    source->file = log_file_open(name);
    if (source->file) {
        reason = read_source(source, reading);
        reading->done += log_file_position(source->file);
        log_file_close(source->file);
    } else {
        reason = strerror(errno);
    }
    free(source);
    return reason;
}

static void take_file(const char *name, struct reading *reading) {
    const char *reason = read_file(name, reading);
    progress_clear(&reading->progress);
    if (!reason)
        return;
    reading->totals->unreadable++;
    fprintf(reading->errors, "receiptd: %s: %s\n", name ? name : "standard input", reason);
}

/* Whether it is a file that was named before. */
static bool is_repeated(char *const *files, size_t at) {
    struct stat file, other;
    if (stat(files[at], &file) != 0 || !S_ISREG(file.st_mode))
        return false;
    for (size_t i = 0; i < at; i++)
        if (stat(files[i], &other) == 0 && other.st_dev == file.st_dev && other.st_ino == file.st_ino)
            return true;
    return false;
}

/* 0: not known, since one of them is no file. */
static uint64_t count_bytes(char *const *files) {
    uint64_t total = 0;
    struct stat file;
    for (size_t i = 0; files[i]; i++) {
        if (stat(files[i], &file) != 0 || !S_ISREG(file.st_mode))
            return 0;
        total += is_repeated(files, i) ? 0 : (uint64_t)file.st_size;
    }
    return total;
}

bool log_reader_read(char *const *files, log_line_taker *take, void *context, struct log_totals *totals, FILE *errors) {
    struct reading reading = {
        .take = take, .context = context, .totals = totals, .errors = errors, .total = count_bytes(files)};
    progress_start(&reading.progress, errors);
    if (!*files)
        take_file(NULL, &reading);
    for (size_t i = 0; files[i] && !reading.stopped; i++)
        if (!is_repeated(files, i))
            take_file(files[i], &reading);
    return !reading.stopped;
}
