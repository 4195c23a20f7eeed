#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUN_BUFFER = 64 * 1024 + 64, ALIGNMENT = _Alignof(max_align_t) };

/* In front of each record, in memory and in the file. */
struct head {
    _Alignas(max_align_t) size_t size; /* of the record and this, a multiple of ALIGNMENT */
};

/* A sorted part of the file, while it is read. */
struct run {
    off_t at, end;     /* what was not read of it */
    size_t begin, len; /* what is in the buffer */
    char *buffer;
};

struct spool {
    spool_order *order;
    int fd;       /* -1: all is in memory */
    off_t length; /* of the file */
    bool failed;
    size_t used, room, count, next; /* of the records in memory, whose order is at the end of it, from behind */
    struct run *runs;
    size_t run_count;
    struct run **heap; /* of the runs that have records: none is before its parent */
    size_t heap_count;
    char *memory;
};

static size_t size_of(size_t len) {
    return (sizeof(struct head) + len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Where the offsets of the records begin, the last one first. */
static uint32_t *offsets_of(const struct spool *spool) {
    return (uint32_t *)(void *)(spool->memory + spool->room) - spool->count;
}

static const void *record_at(const struct spool *spool, uint32_t offset) {
    return spool->memory + offset + sizeof(struct head);
}

struct spool *spool_new(size_t memory, spool_order *order) {
    struct spool *spool = calloc(1, sizeof *spool);
    if (!spool)
        return NULL;
    *spool = (struct spool){.order = order, .fd = -1, .room = memory / ALIGNMENT * ALIGNMENT, .memory = malloc(memory)};
    if (spool->memory && memory <= UINT32_MAX && memory >= (size_t)2 * SPOOL_RECORD_MAX)
        return spool;
    spool_free(spool);
    return NULL;
}

void spool_free(struct spool *spool) {
    if (!spool)
        return;
    for (size_t i = 0; i < spool->run_count; i++)
        free(spool->runs[i].buffer);
    if (spool->fd >= 0)
        close(spool->fd);
    free(spool->heap);
    free(spool->runs);
    free(spool->memory);
    free(spool);
}

static int compare_offsets(const void *a, const void *b, void *spool) {
    const struct spool *of = spool;
    return of->order(record_at(of, *(const uint32_t *)a), record_at(of, *(const uint32_t *)b));
}

static void sort_memory(struct spool *spool) {
    qsort_r(offsets_of(spool), spool->count, sizeof(uint32_t), compare_offsets, spool);
}

static bool open_file(struct spool *spool) {
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder)
        folder = "/var/tmp";
    spool->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (spool->fd >= 0)
        return true;
    /* A file system without O_TMPFILE. */
    char path[4096];
    if (snprintf(path, sizeof path, "%s/receiptd.XXXXXX", folder) >= (int)sizeof path)
        return false;
    spool->fd = mkostemp(path, O_CLOEXEC);
    if (spool->fd >= 0)
        unlink(path);
    return spool->fd >= 0;
}

static bool write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t written = write(fd, bytes, len);
        if (written < 0 && errno != EINTR)
            return false;
        bytes += written > 0 ? written : 0;
        len -= written > 0 ? (size_t)written : 0;
    }
    return true;
}

/* Writes the records in memory as a run, of which the file has the bytes from `length` on. */
static bool write_run(struct spool *spool) {
    static const size_t buffer_size = RUN_BUFFER;
    char *buffer = malloc(buffer_size);
    struct run *runs = realloc(spool->runs, (spool->run_count + 1) * sizeof *runs);
    spool->runs = runs ? runs : spool->runs;
    bool ok = buffer && runs && (spool->fd >= 0 || open_file(spool));
    size_t len = 0, written = 0;
    sort_memory(spool);
    const uint32_t *offsets = offsets_of(spool);
    for (size_t i = 0; ok && i < spool->count; i++) {
        const struct head *head = (const void *)(spool->memory + offsets[i]);
        if (len + head->size > buffer_size) {
            ok = write_all(spool->fd, buffer, len);
            len = 0;
        }
        memcpy(buffer + len, head, head->size);
        len += head->size;
        written += head->size;
    }
    ok = ok && write_all(spool->fd, buffer, len);
    if (ok)
        runs[spool->run_count++] = (struct run){.at = spool->length, .end = spool->length + (off_t)written};
    spool->length += (off_t)written;
    spool->used = spool->count = 0;
    free(buffer);
    return ok;
}

bool spool_add(struct spool *spool, const void *record, size_t len) {
    size_t size = size_of(len);
    if (len > SPOOL_RECORD_MAX) {
        errno = EMSGSIZE;
        return false;
    }
    if (spool->used + size + (spool->count + 1) * sizeof(uint32_t) > spool->room && !write_run(spool))
        return false;
    struct head *head = (void *)(spool->memory + spool->used);
    head->size = size;
    memcpy(head + 1, record, len);
    memset((char *)(head + 1) + len, 0, size - sizeof *head - len);
    spool->count++;
    *offsets_of(spool) = (uint32_t)spool->used;
    spool->used += size;
    return true;
}

static const void *head_record(const struct run *run) {
    return run->buffer + run->begin + sizeof(struct head);
}

static size_t head_size(const struct run *run) {
    return ((const struct head *)(const void *)(run->buffer + run->begin))->size;
}

/* Makes sure that the buffer has a whole record. False when the run has ended, or failed. */
static bool fill_run(struct spool *spool, struct run *run) {
    size_t left = run->len - run->begin;
    if (left >= sizeof(struct head) && left >= head_size(run))
        return true;
    memmove(run->buffer, run->buffer + run->begin, left);
    run->begin = 0;
    run->len = left;
    while (run->at < run->end && run->len < RUN_BUFFER) {
        size_t room = RUN_BUFFER - run->len, more = (size_t)(run->end - run->at);
        ssize_t got = pread(spool->fd, run->buffer + run->len, more < room ? more : room, run->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got < 0 ? errno : EIO;
            spool->failed = true;
            return false;
        }
        run->at += got;
        run->len += (size_t)got;
    }
    return run->len > 0;
}

static bool is_before(const struct spool *spool, const struct run *a, const struct run *b) {
    return spool->order(head_record(a), head_record(b)) < 0;
}

/* Puts the run at `at` to its place below. */
static void sink(struct spool *spool, size_t at) {
    struct run **heap = spool->heap;
    for (size_t child; (child = 2 * at + 1) < spool->heap_count; at = child) {
        child += child + 1 < spool->heap_count && is_before(spool, heap[child + 1], heap[child]);
        if (!is_before(spool, heap[child], heap[at]))
            return;
        struct run *moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

bool spool_sort(struct spool *spool) {
    if (spool->fd < 0) {
        sort_memory(spool);
        return true;
    }
    if (!write_run(spool))
        return false;
    free(spool->memory);
    spool->memory = NULL;
    spool->heap = calloc(spool->run_count, sizeof(struct run *));
    for (size_t i = 0; spool->heap && i < spool->run_count && !spool->failed; i++) {
        struct run *run = &spool->runs[i];
        run->buffer = malloc(RUN_BUFFER);
        if (!run->buffer)
            return false;
        if (fill_run(spool, run))
            spool->heap[spool->heap_count++] = run;
    }
    for (size_t at = spool->heap_count; spool->heap && at > 0; at--)
        sink(spool, at - 1);
    return spool->heap && !spool->failed;
}

/* What the last call gave out is over: its run goes on to the next record. */
static const void *next_of_runs(struct spool *spool) {
    if (spool->next++ > 0 && spool->heap_count > 0) {
        struct run *run = spool->heap[0];
        run->begin += head_size(run);
        if (!fill_run(spool, run))
            spool->heap[0] = spool->heap[--spool->heap_count];
        if (spool->heap_count > 0)
            sink(spool, 0);
    }
    return spool->heap_count > 0 && !spool->failed ? head_record(spool->heap[0]) : NULL;
}

const void *spool_next(struct spool *spool) {
    if (spool->fd >= 0)
        return next_of_runs(spool);
    if (spool->next == spool->count)
        return NULL;
    size_t at = spool->next++;
    return record_at(spool, offsets_of(spool)[at]);
}

bool spool_failed(const struct spool *spool) {
    return spool->failed;
}
