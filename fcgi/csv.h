/* Comma-separated values (RFC 4180). Threads: any. */
#ifndef RECEIPTD_CSV_H
#define RECEIPTD_CSV_H

#include <stdio.h>

/*
 * Writes a text in quotes, and behind it a comma or whatever follows. Control characters and the like (utf8_is_unsafe)
 * are written as JSON escapes them: a row is one line, and nothing in it acts on a terminal.
 */
void csv_write_text(FILE *out, const char *text, char behind);

#endif
