#include "buffer.h"

#include "utf8.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SMALLEST_CAPACITY = 256,
    LARGE_CAPACITY = 64 * 1024, /* a large one grows by a quarter, lest half is unused */
    UTF8_REPLACEMENT = 0xfffd,  /* for a byte that is not UTF-8 */
};

void buffer_init(struct buffer *buffer) {
    *buffer = (struct buffer){0};
}

void buffer_init_fixed(struct buffer *buffer, char *storage, size_t size) {
    *buffer = (struct buffer){.data = storage, .capacity = size, .fixed = true};
}

void buffer_fini(struct buffer *buffer) {
    if (!buffer->fixed)
        free(buffer->data);
    buffer_init(buffer);
}

bool buffer_reserve(struct buffer *buffer, size_t more) {
    if (buffer->failed)
        return false;
    if (more <= buffer->capacity - buffer->len)
        return true;
    if (buffer->fixed || more > SIZE_MAX / 2 - buffer->len) {
        buffer->failed = true;
        return false;
    }
    size_t capacity = buffer->capacity ? buffer->capacity : SMALLEST_CAPACITY;
    while (capacity < buffer->len + more)
        capacity += capacity < LARGE_CAPACITY ? capacity : capacity / 4;
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void buffer_append(struct buffer *buffer, const char *bytes, size_t len) {
    if (len == 0 || !buffer_reserve(buffer, len))
        return;
    memcpy(buffer->data + buffer->len, bytes, len);
    buffer->len += len;
}

void buffer_append_text(struct buffer *buffer, const char *text) {
    buffer_append(buffer, text, strlen(text));
}

void buffer_append_format(struct buffer *buffer, const char *format, ...) {
    if (buffer->failed)
        return;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t room = buffer->capacity - buffer->len;
    int len = vsnprintf(room > 0 ? buffer->data + buffer->len : NULL, room, format, args);
    va_end(args);
    /* vsnprintf also writes the NUL, so room is made for it; it is not counted. */
    if (len < 0) {
        buffer->failed = true;
    } else if ((size_t)len < room) {
        buffer->len += (size_t)len;
    } else if (buffer_reserve(buffer, (size_t)len + 1)) {
        vsnprintf(buffer->data + buffer->len, (size_t)len + 1, format, again);
        buffer->len += (size_t)len;
    }
    va_end(again);
}

void buffer_append_json_string(struct buffer *buffer, const char *text, size_t len) {
    size_t before = buffer->len;
    buffer_append(buffer, "\"", 1);
    size_t plain = 0; /* start of the bytes that need no escape and were not appended yet */
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buffer_append(buffer, text + plain, i - plain);
        plain = i + 1;
        if (c == '"' || c == '\\')
            buffer_append(buffer, (const char[]){'\\', (char)c}, 2);
        else
            buffer_append_format(buffer, "\\u%04x", c);
    }
    buffer_append(buffer, text + plain, len - plain);
    buffer_append(buffer, "\"", 1);
    if (buffer->failed)
        buffer->len = before;
}

static bool is_plain(const char *text, size_t len) {
    for (size_t i = 0, size; i < len; i += size) {
        uint32_t code;
        size = utf8_decode(text + i, len - i, &code);
        if (size == 0 || code == ' ' || code == '"' || code == '=' || code == '\\' || utf8_is_unsafe(code))
            return false;
    }
    return len > 0;
}

static void append_quoted(struct buffer *buffer, const char *text, size_t len) {
    buffer_append(buffer, "\"", 1);
    for (size_t i = 0, size; i < len; i += size) {
        uint32_t code = UTF8_REPLACEMENT;
        size = utf8_decode(text + i, len - i, &code);
        if (size == 0 || utf8_is_unsafe(code)) {
            buffer_append_format(buffer, "\\u%04x", size == 0 ? UTF8_REPLACEMENT : code);
            size = size == 0 ? 1 : size;
            continue;
        }
        if (code == '"' || code == '\\')
            buffer_append(buffer, "\\", 1);
        buffer_append(buffer, text + i, size);
    }
    buffer_append(buffer, "\"", 1);
}

void buffer_append_word(struct buffer *buffer, const char *text, size_t len) {
    size_t before = buffer->len;
    if (is_plain(text, len))
        buffer_append(buffer, text, len);
    else
        append_quoted(buffer, text, len);
    if (buffer->failed)
        buffer->len = before;
}
