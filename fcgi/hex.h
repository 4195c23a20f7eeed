/* Hexadecimal digits. Threads: any. */
#ifndef RECEIPTD_HEX_H
#define RECEIPTD_HEX_H

#include <stdbool.h>
#include <stddef.h>

static inline int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Reads `count` bytes from `text`, which must be just as many pairs of digits; false when it is not. */
static inline bool hex_decode(const char *text, unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++, text += 2) {
        int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return false;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return *text == '\0';
}

#endif
