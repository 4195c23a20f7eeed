#include "number.h"

#include <string.h>

/*
 * PostgreSQL's numeric, behind jsonb, takes 131,072 digits, and writes all of them: of "1e+999" a thousand. So one with
 * more characters than the first of these, or of which it would write more than the second times as many, is too long.
 */
enum { MAX_LENGTH = 1000, MAX_GROWTH = 4 };

static size_t skip_digits(const char *at, const char *end) {
    size_t count = 0;
    while (at + count < end && at[count] >= '0' && at[count] <= '9')
        count++;
    return count;
}

bool number_read(const char *at, const char *end, struct number *number) {
    const char *p = at;
    if (*p == '-')
        p++;
    size_t digits = skip_digits(p, end);
    if (digits == 0 || (digits > 1 && *p == '0'))
        return false;
    p += digits;
    bool integer = true;
    if (p < end && *p == '.') {
        integer = false;
        digits = skip_digits(++p, end);
        if (digits == 0)
            return false;
        p += digits;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        integer = false;
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        digits = skip_digits(p, end);
        if (digits == 0)
            return false;
        p += digits;
    }
    *number = (struct number){.text = at, .len = (size_t)(p - at), .integer = integer};
    return true;
}

const char *number_skip_string(const char *at, const char *end) {
    const char *p = at + 1;
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(end - p));
        if (!quote)
            return end;
        const char *backslash = quote;
        while (backslash > p && backslash[-1] == '\\')
            backslash--;
        if ((quote - backslash) % 2 == 0)
            return quote + 1;
        p = quote + 1;
    }
}

static bool is_number_char(char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

size_t number_skip_chars(const char *at, const char *end) {
    size_t count = 0;
    while (at + count < end && is_number_char(at[count]))
        count++;
    return count;
}

bool number_next(const char **at, const char *end, struct number *number) {
    const char *p = *at;
    while (p < end) {
        if (*p == '"') {
            p = number_skip_string(p, end);
        } else if ((*p >= '0' && *p <= '9') || *p == '-') {
            size_t len = number_skip_chars(p, end);
            if (number_read(p, p + len, number) && number->len == len) {
                *at = p + len;
                return true;
            }
            p += len;
        } else {
            p++;
        }
    }
    *at = end;
    return false;
}

/* How many characters PostgreSQL makes of it, or more, when zeros in front of it are moved behind the point. */
static size_t count_written_out(const struct number *number) {
    const char *p = number->text, *end = number->text + number->len;
    size_t sign = *p == '-';
    p += sign;
    size_t whole = skip_digits(p, end), fraction = 0, exponent = 0;
    p += whole;
    if (p < end && *p == '.') {
        fraction = skip_digits(++p, end);
        p += fraction;
    }
    bool negative = end - p > 1 && p[1] == '-';
    for (; p < end && exponent < (size_t)MAX_LENGTH * MAX_GROWTH; p++)
        if (*p >= '0' && *p <= '9')
            exponent = 10 * exponent + (size_t)(*p - '0');
    if (negative) {
        whole = whole > exponent ? whole - exponent : 1;
        fraction += exponent;
    } else {
        whole += exponent;
        fraction = fraction > exponent ? fraction - exponent : 0;
    }
    return sign + whole + (fraction > 0 ? 1 + fraction : 0);
}

bool number_stays_short(const struct number *number) {
    return number->len <= MAX_LENGTH && count_written_out(number) <= MAX_GROWTH * number->len;
}
