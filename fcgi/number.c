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

/* Reads digits, a fraction and an exponent from `p` on. */
static bool read_unsigned(const char *at, const char *p, const char *end, struct number *number) {
    size_t digits = skip_digits(p, end);
    if (digits == 0)
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

bool number_read(const char *at, const char *end, struct number *number) {
    const char *p = at + (*at == '-');
    if (skip_digits(p, end) > 1 && *p == '0')
        return false;
    return read_unsigned(at, p, end, number);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool number_read_text(const char *text, size_t len, struct number *number) {
    const char *at = text, *end = text + len;
    while (at < end && is_space(*at))
        at++;
    while (at < end && is_space(end[-1]))
        end--;
    if (at == end)
        return false;
    bool negative = *at == '-';
    at += *at == '+';
    return read_unsigned(at, at + negative, end, number) && number->text + number->len == end;
}

/* What a number is equal to: digits that neither begin nor end with a zero, and as many zeros as `exponent` behind
 * them. */
struct parts {
    bool negative;
    const char *first; /* of the digits, with perhaps a point between them */
    size_t digits;     /* 0: the number is zero */
    long long exponent;
};

/* Beyond that, and beyond its negative, it does not matter: no number has as many digits. */
#define EXPONENT_MAX 1000000000000

static long long read_exponent(const char *p, const char *end) {
    bool negative = *p == '-';
    long long exponent = 0;
    for (p += negative || *p == '+'; p < end && exponent < EXPONENT_MAX; p++)
        exponent = 10 * exponent + (*p - '0');
    return negative ? -exponent : exponent;
}

static struct parts take_apart(const struct number *number) {
    struct parts parts = {.negative = *number->text == '-'};
    const char *p = number->text + parts.negative, *end = number->text + number->len;
    size_t zeros = 0; /* behind the last digit that is none */
    bool in_fraction = false;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            in_fraction = true;
            continue;
        }
        parts.exponent -= in_fraction;
        if (*p == '0') {
            zeros += parts.digits > 0;
        } else {
            parts.first = parts.digits > 0 ? parts.first : p;
            parts.digits += zeros + 1;
            zeros = 0;
        }
    }
    parts.exponent += (long long)zeros;
    if (p < end)
        parts.exponent += read_exponent(p + 1, end);
    return parts;
}

size_t number_integer_len(const struct number *number) {
    struct parts parts = take_apart(number);
    if (parts.digits == 0)
        return 1;
    if (parts.exponent < 0)
        return 0;
    size_t most = number->len > NUMBER_MAX_DIGITS ? number->len : NUMBER_MAX_DIGITS;
    if (parts.exponent > (long long)most || parts.digits + (size_t)parts.exponent > most)
        return NUMBER_TOO_LONG;
    return parts.negative + parts.digits + (size_t)parts.exponent;
}

void number_write_integer(const struct number *number, char *out) {
    struct parts parts = take_apart(number);
    if (parts.digits == 0) {
        *out = '0';
        return;
    }
    if (parts.negative)
        *out++ = '-';
    for (const char *p = parts.first; parts.digits > 0; p++)
        if (*p != '.') {
            *out++ = *p;
            parts.digits--;
        }
    memset(out, '0', (size_t)parts.exponent);
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
