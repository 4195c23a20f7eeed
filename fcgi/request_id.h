/*
 * Request ids, in the one form that answers, logs, tables and psql share: that of a uuid, with dashes, in lower case.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_REQUEST_ID_H
#define RECEIPTD_REQUEST_ID_H

#include "hex.h"

#include <stdbool.h>
#include <string.h>

enum { REQUEST_ID_BYTES = 16, REQUEST_ID_CHARS = 36 };

/* Writes it to `text`, which is returned. */
static inline const char *request_id_format(char text[REQUEST_ID_CHARS + 1], const unsigned char id[REQUEST_ID_BYTES]) {
    static const char hex[] = "0123456789abcdef";
    char *to = text;
    for (int i = 0; i < REQUEST_ID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = hex[id[i] >> 4];
        *to++ = hex[id[i] & 0xf];
    }
    *to = '\0';
    return text;
}

/* Reads it from `text`, with or without dashes: nginx's $request_id has none. False when it is no request id. */
static inline bool request_id_parse(const char *text, unsigned char id[REQUEST_ID_BYTES]) {
    char plain[2 * REQUEST_ID_BYTES + 1];
    if (strlen(text) != REQUEST_ID_CHARS)
        return hex_decode(text, id, REQUEST_ID_BYTES);
    char *to = plain;
    for (int i = 0; i < REQUEST_ID_CHARS; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (is_dash != (text[i] == '-'))
            return false;
        if (!is_dash)
            *to++ = text[i];
    }
    *to = '\0';
    return hex_decode(plain, id, REQUEST_ID_BYTES);
}

#endif
