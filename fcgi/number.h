/*
 * Numbers in the text of a JSON body, digit for digit.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_NUMBER_H
#define RECEIPTD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

struct number {
    const char *text;
    size_t len;
    bool integer; /* neither fraction nor exponent */
};

/* Reads the number that starts at `at`. False when it breaks RFC 8259's grammar; Jansson will then say so. */
bool number_read(const char *at, const char *end, struct number *number);

/*
 * Finds the first number at or behind `*at` and moves `*at` behind it. False when there is none. What only begins or
 * ends like a number ("1-2", "01", "1e5e5") is passed over as a whole, for Jansson to refuse.
 */
bool number_next(const char **at, const char *end, struct number *number);

/* How many characters from `at` on could stand in a number. */
size_t number_skip_chars(const char *at, const char *end);

/* Behind the closing quote of the string whose opening quote is at `at`, or `end`. */
const char *number_skip_string(const char *at, const char *end);

/* Whether PostgreSQL's jsonb keeps it about as long as it is; if not, it is kept as a JSON string of what was sent. */
bool number_stays_short(const struct number *number);

#endif
