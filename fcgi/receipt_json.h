/*
 * From the bytes of a body to a struct receipt: the only reader through Jansson.
 *
 * Threads: any number at a time. Nobody else in the process may use Jansson: its allocator is set here.
 */
#ifndef RECEIPTD_RECEIPT_JSON_H
#define RECEIPTD_RECEIPT_JSON_H

#include "receipt.h"

enum receipt_json_status {
    RECEIPT_JSON_OK = 0,
    RECEIPT_JSON_MALFORMED, /* not JSON (RFC 8259), not UTF-8, a NUL, a duplicate name, nested too deep, too many
                               values, no object */
    RECEIPT_JSON_NO_MEMORY,
};

struct receipt_json_error {
    char message[128]; /* in words, for the sender; never quotes the body */
    int line;          /* 1-based; 0 when the error has no position */
    int column;        /* 1-based, in characters */
};

/*
 * Decodes `body` into the zeroed `receipt`: the value of every field and, as JSON text in `extra`, every member that no
 * field describes, nested where it was nested, numbers digit for digit (those with an exponent that makes them more
 * than four times as long when they are written out, and those of over 1,000 characters, as JSON strings). Nothing is
 * judged here but the JSON itself: receipt_validate does the rest. On RECEIPT_JSON_OK the caller owns the receipt
 * (receipt_fini); `body` is not needed any more. On any other status the receipt stays zeroed; `error` is filled for
 * RECEIPT_JSON_MALFORMED.
 */
enum receipt_json_status receipt_json_decode(const char *body, size_t len, struct receipt *receipt,
                                             struct receipt_json_error *error);

#endif
