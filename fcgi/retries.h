/*
 * How the sender retries what was answered 503, as the setting RECEIPTD_SENDER_RETRIES says.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_RETRIES_H
#define RECEIPTD_RETRIES_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RETRIES_DEFAULT "32h" /* CONTRACT.md */

enum { RETRIES_MAX = 1000 };

struct retries {
    unsigned hours;    /* after the first attempt, or, if that is 0: */
    unsigned attempts; /* in all */
};

/* Reads "32h", or "5" for five attempts. False when it is neither. */
static inline bool retries_parse(const char *text, struct retries *retries) {
    char *end;
    unsigned long number = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
    if (number < 1 || number > RETRIES_MAX || (*end != '\0' && strcmp(end, "h") != 0))
        return false;
    *retries = (struct retries){0};
    if (*end == 'h')
        retries->hours = (unsigned)number;
    else
        retries->attempts = (unsigned)number;
    return true;
}

#endif
