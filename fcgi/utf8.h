/* Characters of UTF-8 (RFC 3629), and which of them must not reach a log or a terminal as they are. Threads: any. */
#ifndef RECEIPTD_UTF8_H
#define RECEIPTD_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the character that begins at `text`, of which `len` bytes are there, and its number; 0: it is none. */
static inline size_t utf8_decode(const char *text, size_t len, uint32_t *code) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = len > 0 ? (unsigned char)text[0] : 0xff;
    size_t size = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;
    if (size == 0 || size > len)
        return 0;
    *code = size == 1 ? first : first & (0x7fU >> size);
    for (size_t i = 1; i < size; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | ((unsigned char)text[i] & 0x3f);
    }
    bool is_surrogate = *code >= 0xd800 && *code <= 0xdfff;
    return *code < smallest[size] || *code > 0x10ffff || is_surrogate ? 0 : size;
}

static inline bool utf8_is_valid(const char *text, size_t len) {
    uint32_t code;
    for (size_t i = 0, size; i < len; i += size)
        if ((size = utf8_decode(text + i, len - i, &code)) == 0)
            return false;
    return true;
}

/*
 * Control characters (C0, DEL, C1), what ends a line (U+2028, U+2029), and what has no width or turns the direction of
 * writing: they can move a terminal's cursor, or make a line look like another one. All are below U+10000.
 */
static inline bool utf8_is_unsafe(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x61c || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

#endif
