/*
 * Numbers in the text of a JSON body, digit for digit.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_NUMBER_H
#define RECEIPTD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct number {
    const char *text;
    size_t len;
    bool integer; /* neither fraction nor exponent */
};

/* Reads the number that starts at `at`. False when it breaks RFC 8259's grammar; Jansson will then say so. */
bool number_read(const char *at, const char *end, struct number *number);

/*
 * Reads text that is one decimal number as a whole: as number_read, and also with white space around it, a plus sign,
 * and zeros in front. False when it is anything else.
 */
bool number_read_text(const char *text, size_t len, struct number *number);

enum { NUMBER_MAX_DIGITS = 255 };
#define NUMBER_TOO_LONG SIZE_MAX

/*
 * The length of the integer that the number is equal to, as number_write_integer writes it. 0 when it is equal to none.
 * NUMBER_TOO_LONG when an exponent makes more than NUMBER_MAX_DIGITS digits, and more than were sent: no exponent costs
 * more than its own digits.
 */
size_t number_integer_len(const struct number *number);

/* Writes that integer: a minus if it is negative, and its digits. Only where it has a length. */
void number_write_integer(const struct number *number, char *out);

/* How many characters from `at` on could stand in a number. */
size_t number_skip_chars(const char *at, const char *end);

/* Behind the closing quote of the string whose opening quote is at `at`, or `end`. */
const char *number_skip_string(const char *at, const char *end);

/* Whether PostgreSQL's jsonb keeps it about as long as it is; if not, it is kept as a JSON string of what was sent. */
bool number_stays_short(const struct number *number);

#endif
