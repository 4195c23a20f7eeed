/*
 * A byte buffer that either grows on the heap or writes into storage of its caller's.
 *
 * An append that does not fit (no memory, or the storage is full) sets `failed` and leaves the content as it was; every
 * later append is then a no-op. So a caller appends freely and checks `failed` once, at the end.
 *
 * Threads: a buffer belongs to one thread at a time.
 */
#ifndef RECEIPTD_BUFFER_H
#define RECEIPTD_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data; /* not NUL-terminated; NULL while nothing was appended to a growing buffer */
    size_t len;
    size_t capacity;
    bool fixed; /* data is the caller's storage: never grown, never freed */
    bool failed;
};

/* An empty buffer that grows on the heap; nothing is allocated before the first append. */
void buffer_init(struct buffer *buffer);

/* An empty buffer that writes into `storage`, which must outlive it. */
void buffer_init_fixed(struct buffer *buffer, char *storage, size_t size);

/* Frees the heap memory of a growing buffer and makes it empty again; harmless on a zeroed one. */
void buffer_fini(struct buffer *buffer);

/* Makes room for at least `more` bytes beyond len. False (and `failed` set) when there is no memory or no storage. */
bool buffer_reserve(struct buffer *buffer, size_t more);

void buffer_append(struct buffer *buffer, const char *bytes, size_t len);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_append_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends UTF-8 text as a JSON string, quotes included (RFC 8259, section 7). */
void buffer_append_json_string(struct buffer *buffer, const char *text, size_t len);

/*
 * Appends a value as log lines have it: unchanged if that is unambiguous between blanks, else as a JSON string. Neither
 * ends the line nor does anything to a terminal: control characters and the like (utf8_is_unsafe) are escaped, and
 * U+FFFD replaces each byte that is not UTF-8.
 */
void buffer_append_word(struct buffer *buffer, const char *text, size_t len);

#endif
