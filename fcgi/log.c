#include "log.h"

#include "buffer.h"
#include "clock.h"
#include "metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    /* The longest key fits, each byte of it escaped as \u00XX, and the sender's headers, each byte escaped as \". */
    LINE_SIZE = 6 * RECEIPT_KEY_MAX_BYTES + 2 * SENDER_HEADER_COUNT * SENDER_HEADER_MAX_BYTES + 2048,
    WORD_SIZE = 512,
    WAITING_SIZE = 2 * 1024 * 1024, /* a second of 10,000 deliveries; what is never used is not even memory */
    GATHER_US = 2 * US_PER_MS,
    STOP_TIME_S = 1,
    STRANGERS_BURST = 100,             /* lines of requests without a valid key that may come at once, */
    STRANGERS_EACH_US = US_PER_S,      /* and how often one more may come: 86,400 a day, 20 MB */
    STRANGERS_SAID_US = 10 * US_PER_S, /* how often the number of the others is logged */
};

static enum log_level most_verbose = LOG_INFO;
static unsigned sampling = 1; /* of deliveries that created or revised a receipt, one in so many has a line; 0: none */
static bool to_journal;

/*
 * Lines on their way to the writer, the thread that writes them: it takes all that wait while the other buffer fills.
 * A thread, since whether a write blocks cannot be known before: O_NONBLOCK is of no use for a file, and set on a pipe
 * or a terminal it would be set for every process that shares it.
 */
static struct {
    pthread_mutex_t lock; /* for a memcpy at the longest */
    pthread_cond_t changed;
    pthread_t writer;
    bool has_writer; /* without one, lines are written by whoever logs */
    bool idle;       /* the writer waits for lines */
    bool stopping, stopped;
    unsigned filling; /* which of the two buffers */
    size_t len;       /* of what waits in it */
    size_t dropped;   /* lines for which it had no room */
    char lines[2][WAITING_SIZE];
} waiting = {.lock = PTHREAD_MUTEX_INITIALIZER};

/*
 * Anyone can send requests without a valid key, and has nothing to lose: their lines must not push others out of the
 * journal. Beyond a burst they are counted instead.
 */
static struct {
    pthread_mutex_t lock;
    int64_t full_at_us; /* when the whole burst may come again */
    size_t left_out;
} strangers = {.lock = PTHREAD_MUTEX_INITIALIZER};

void log_set_level(enum log_level level) {
    most_verbose = level;
}

void log_set_sampling(unsigned one_in) {
    sampling = one_in;
}

static const char *level_name(enum log_level level) {
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARNING:
        return "warning";
    case LOG_INFO:
        return "info";
    }
    return "";
}

/* The second as text. A thread makes it once a second, since that took a quarter of the time of a line. */
static const char *second_text(time_t second) {
    static _Thread_local time_t last;
    static _Thread_local char text[32];
    struct tm utc;
    if (last != second) {
        gmtime_r(&second, &utc);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
        last = second;
    }
    return text;
}

static void begin_line(struct buffer *line, enum log_level level) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    /* sd-daemon(3): how a line says its priority, which is one of syslog(3). */
    static const char *const priorities[] = {[LOG_ERROR] = "<3>", [LOG_WARNING] = "<4>", [LOG_INFO] = "<6>"};
    if (to_journal)
        buffer_append_text(line, priorities[level]);
    buffer_append_format(line, "time=%s.%03ldZ level=%s", second_text(now.tv_sec), now.tv_nsec / 1000000,
                         level_name(level));
}

/* A line that did not fit is cut: a log must not fail. */
static void end_line(struct buffer *line) {
    if (line->len == line->capacity)
        line->len--;
    line->data[line->len++] = '\n';
}

static size_t count_lines(const char *lines, size_t len) {
    size_t count = 0;
    for (const char *at = lines, *end = lines + len; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        count++;
    return count;
}

/* Writes all of it, however long that takes. Returns how much was written before standard error took no more. */
static size_t write_bytes(const char *bytes, size_t len) {
    size_t written = 0;
    while (written < len) {
        ssize_t more = write(STDERR_FILENO, bytes + written, len - written);
        if (more > 0) {
            written += (size_t)more;
        } else if (more < 0 && errno == EAGAIN) { /* somebody who shares it has made it non-blocking */
            struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
            poll(&room, 1, -1);
        } else if (more == 0 || errno != EINTR) {
            break;
        }
    }
    return written;
}

/* `soon`: it is a rare line, which may have to do with an end that is near; else the writer may gather some more. */
static void write_lines(const char *lines, size_t len, bool soon) {
    pthread_mutex_lock(&waiting.lock);
    bool has_writer = waiting.has_writer;
    if (has_writer && len <= sizeof waiting.lines[0] - waiting.len) {
        memcpy(waiting.lines[waiting.filling] + waiting.len, lines, len);
        waiting.len += len;
    } else if (has_writer) {
        size_t count = count_lines(lines, len);
        waiting.dropped += count;
        metrics_count_dropped_lines(count);
    }
    bool wake = waiting.idle || soon;
    waiting.idle = false;
    pthread_mutex_unlock(&waiting.lock);
    if (wake)
        pthread_cond_broadcast(&waiting.changed);
    if (!has_writer)
        write_bytes(lines, len); /* if it can't be: there is nowhere left to say it */
}

/* What became of the lines that the writer took. */
struct written {
    size_t lost; /* lines, since that was last said */
    bool torn;   /* of the last line only a part was written: the disk was full */
};

static void write_taken(struct written *written, const char *lines, size_t len) {
    if (written->torn && write_bytes("\n", 1) == 1)
        written->torn = false; /* what comes now begins on a line of its own */
    size_t done = written->torn ? 0 : write_bytes(lines, len);
    size_t count = count_lines(lines + done, len - done);
    written->lost += count;
    metrics_count_dropped_lines(count);
    if (done > 0)
        written->torn = lines[done - 1] != '\n';
}

/* How much to write at a time: whole lines, and as much as a pipe takes without mixing it with another's (pipe(7)). */
static size_t portion(const char *lines, size_t len) {
    if (len <= PIPE_BUF)
        return len;
    size_t end = PIPE_BUF;
    while (end > 0 && lines[end - 1] != '\n')
        end--;
    if (end > 0)
        return end;
    const char *first = memchr(lines, '\n', len);
    return first ? (size_t)(first - lines) + 1 : len;
}

/* Writes a number of lines that this log does not have. */
static void say_count(struct written *written, const char *text, const char *name, size_t count) {
    char storage[WORD_SIZE];
    struct buffer line;
    buffer_init_fixed(&line, storage, sizeof storage);
    begin_line(&line, LOG_WARNING);
    buffer_append_format(&line, " msg=\"%s\" %s=%zu", text, name, count);
    end_line(&line);
    write_taken(written, line.data, line.len);
}

static void say_lost(struct written *written) {
    size_t lost = written->lost;
    written->lost = 0;
    say_count(written, LOG_LINES_DROPPED, "dropped", lost);
    if (written->lost > 0)
        written->lost = lost;
}

static void say_strangers(struct written *written) {
    pthread_mutex_lock(&strangers.lock);
    size_t left_out = strangers.left_out;
    strangers.left_out = 0;
    pthread_mutex_unlock(&strangers.lock);
    if (left_out > 0)
        say_count(written, "requests without a valid API key were left out of this log", "left_out", left_out);
}

static struct timespec time_from_now(int64_t us) {
    return clock_timespec(clock_now_us() + us);
}

/*
 * After each round it sleeps for a moment, in which nobody has to wake it: where lines come one after the other, that
 * would cost more than writing them. Called with the lock.
 */
static void gather_lines(void) {
    struct timespec until = time_from_now(GATHER_US);
    if (!waiting.stopping)
        pthread_cond_timedwait(&waiting.changed, &waiting.lock, &until);
}

/* Waits for lines, or until the number of those that are left out is due. Called with the lock. */
static void wait_for_lines(int64_t until_us) {
    struct timespec until = clock_timespec(until_us);
    int result = 0;
    while (waiting.len == 0 && !waiting.stopping && result != ETIMEDOUT) {
        waiting.idle = true;
        result = pthread_cond_timedwait(&waiting.changed, &waiting.lock, &until);
        waiting.idle = false;
    }
}

static void *run_writer(void *unused) {
    (void)unused;
    struct written written = {0};
    int64_t say_at_us = clock_now_us() + STRANGERS_SAID_US;
    pthread_mutex_lock(&waiting.lock);
    for (;;) {
        wait_for_lines(say_at_us);
        bool ends = waiting.len == 0 && waiting.stopping;
        if (ends || clock_now_us() >= say_at_us) {
            pthread_mutex_unlock(&waiting.lock);
            say_strangers(&written);
            say_at_us = clock_now_us() + STRANGERS_SAID_US;
            pthread_mutex_lock(&waiting.lock);
        }
        if (ends)
            break;
        const char *lines = waiting.lines[waiting.filling];
        size_t len = waiting.len, dropped = waiting.dropped;
        waiting.filling = 1 - waiting.filling;
        waiting.len = 0;
        waiting.dropped = 0;
        pthread_mutex_unlock(&waiting.lock);
        for (size_t now; len > 0; lines += now, len -= now) {
            now = portion(lines, len);
            write_taken(&written, lines, now);
        }
        written.lost += dropped;
        if (written.lost > 0)
            say_lost(&written);
        pthread_mutex_lock(&waiting.lock);
        gather_lines();
    }
    waiting.stopped = true;
    pthread_cond_broadcast(&waiting.changed);
    pthread_mutex_unlock(&waiting.lock);
    return NULL;
}

/* systemd.exec(5), $JOURNAL_STREAM: which device and inode the journal's end is. */
static bool is_journal(int fd) {
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char text[64];
    if (!stream || fstat(fd, &status) != 0)
        return false;
    snprintf(text, sizeof text, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(stream, text) == 0;
}

bool log_start(void) {
    to_journal = is_journal(STDERR_FILENO);
    clock_init_condition(&waiting.changed);
    waiting.stopping = waiting.stopped = false;
    int error = pthread_create(&waiting.writer, NULL, run_writer, NULL);
    if (error != 0) {
        errno = error;
        return false;
    }
    pthread_setname_np(waiting.writer, "log");
    pthread_mutex_lock(&waiting.lock);
    waiting.has_writer = true;
    pthread_mutex_unlock(&waiting.lock);
    return true;
}

void log_stop(void) {
    if (!waiting.has_writer)
        return;
    struct timespec until = time_from_now(STOP_TIME_S * (int64_t)US_PER_S);
    pthread_mutex_lock(&waiting.lock);
    waiting.stopping = true;
    pthread_cond_broadcast(&waiting.changed);
    while (!waiting.stopped && pthread_cond_timedwait(&waiting.changed, &waiting.lock, &until) == 0)
        ;
    waiting.has_writer = !waiting.stopped;
    pthread_mutex_unlock(&waiting.lock);
    if (!waiting.has_writer)
        pthread_join(waiting.writer, NULL);
}

static void append_value(struct buffer *line, const char *name, const char *text, size_t len) {
    buffer_append_text(line, " ");
    buffer_append_text(line, name);
    buffer_append_text(line, "=");
    buffer_append_word(line, text, len);
}

void log_message(enum log_level level, const char *format, ...) {
    if (level > most_verbose)
        return;
    char storage[LINE_SIZE], text[WORD_SIZE];
    struct buffer line;
    buffer_init_fixed(&line, storage, sizeof storage);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n') /* messages of libpq end in one */
        len--;
    begin_line(&line, level);
    append_value(&line, "msg", text, len);
    end_line(&line);
    write_lines(line.data, line.len, true);
}

/* The length of `value`, cut to `most` between two characters: journald takes the rest for binary. */
static size_t shown_len(const struct receipt_value *value, size_t most) {
    size_t len = value->len < most ? value->len : most;
    while (len < value->len && len > 0 && ((unsigned char)value->text[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static void append_errors(struct buffer *line, const struct receipt_errors *errors) {
    buffer_append_text(line, " errors=");
    for (size_t i = 0; i < errors->count; i++)
        buffer_append_format(line, "%s%s:%s", i > 0 ? "," : "", receipt_fields[errors->list[i].field].path,
                             receipt_error_names[errors->list[i].code]);
}

/*
 * Whether a delivery is one of those that have a line: always one that failed, and one that leaves no trace in the
 * database. `receiptd missing` would take the last try of a delivery that failed for missing, if it was unchanged.
 */
static bool is_sampled(const struct delivery *delivery) {
    static atomic_uint count;
    bool leaves_trace = delivery->outcome == OUTCOME_CREATED || delivery->outcome == OUTCOME_REVISED;
    if (!leaves_trace || sampling == 1)
        return true;
    return sampling > 0 && atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) % sampling == 0;
}

/* Whether the line of a request without a valid key is one too many. */
static bool is_stranger_too_many(const struct delivery *delivery) {
    if (delivery->outcome != OUTCOME_UNAUTHORIZED && delivery->outcome != OUTCOME_NOT_POST)
        return false;
    int64_t now_us = clock_now_us();
    pthread_mutex_lock(&strangers.lock);
    if (strangers.full_at_us < now_us)
        strangers.full_at_us = now_us;
    bool too_many = strangers.full_at_us > now_us + (int64_t)(STRANGERS_BURST - 1) * STRANGERS_EACH_US;
    strangers.full_at_us += too_many ? 0 : STRANGERS_EACH_US;
    strangers.left_out += too_many;
    pthread_mutex_unlock(&strangers.lock);
    return too_many;
}

void log_delivery(struct log_batch *batch, const struct delivery *delivery) {
    int status = outcomes[delivery->outcome].status;
    enum log_level level = delivery->outcome == OUTCOME_UNAVAILABLE ? LOG_WARNING : LOG_INFO;
    if (level > most_verbose || delivery->is_examination || !is_sampled(delivery) || is_stranger_too_many(delivery))
        return;
    char storage[LINE_SIZE];
    struct buffer line;
    buffer_init_fixed(&line, storage, sizeof storage);
    begin_line(&line, level);
    buffer_append_format(&line, " msg=delivery request_id=%s status=%d", delivery->request_id_text, status);
    if (outcomes[delivery->outcome].result)
        buffer_append_format(&line, " result=%s", outcomes[delivery->outcome].result);
    size_t room = RECEIPT_KEY_MAX_BYTES; /* a key that was refused can be of any length */
    bool is_cut = false;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        const struct receipt_field *field = &receipt_fields[receipt_key_fields[k]];
        const struct receipt_value *value = &delivery->receipt.values[receipt_key_fields[k]];
        size_t len = shown_len(value, room);
        if (receipt_value_is_text(value)) {
            append_value(&line, field->column, value->text, len);
            is_cut |= len < value->len;
        }
        room -= len;
    }
    if (is_cut)
        buffer_append_text(&line, " cut=yes"); /* else `receiptd missing` would take it for another receipt's key */
    if (delivery->api_key_name[0])
        append_value(&line, "key", delivery->api_key_name, strlen(delivery->api_key_name));
    for (int i = 0; i < SENDER_HEADER_COUNT; i++)
        if (delivery->headers[i])
            append_value(&line, sender_headers[i].log_name, delivery->headers[i], strlen(delivery->headers[i]));
    if (delivery->is_repeat) {
        char first[REQUEST_ID_CHARS + 1];
        buffer_append_format(&line, " repeat_of=%s", request_id_format(first, delivery->repeat_of));
    }
    int64_t us = clock_now_us() - delivery->arrived_us;
    buffer_append_format(&line, " ms=%" PRId64 ".%03d", us / US_PER_MS, (int)(us % US_PER_MS));
    if (delivery->rejection == REJECTION_MALFORMED)
        buffer_append_format(&line, " line=%d column=%d", delivery->error_line, delivery->error_column);
    if (delivery->rejection == REJECTION_INVALID)
        append_errors(&line, &delivery->errors);
    if (delivery->outcome == OUTCOME_UNAVAILABLE && delivery->failure)
        append_value(&line, "failure", delivery->failure, strlen(delivery->failure));
    if (delivery->sqlstate[0])
        buffer_append_format(&line, " sqlstate=%s", delivery->sqlstate);
    end_line(&line);
    if (line.len > sizeof batch->lines - batch->len)
        log_flush(batch);
    if (line.len > sizeof batch->lines) {
        write_lines(line.data, line.len, false);
        return;
    }
    memcpy(batch->lines + batch->len, line.data, line.len);
    batch->len += line.len;
}

void log_flush(struct log_batch *batch) {
    if (batch->len > 0)
        write_lines(batch->lines, batch->len, false);
    batch->len = 0;
}
