/*
 * The bytes of a log file, decompressed: plain text, gzip, zstd, or several of them one after the other.
 *
 * Threads: one. Memory: constant; a zstd file that needs a window of more than 128 MB is refused.
 */
#ifndef RECEIPTD_LOG_FILE_H
#define RECEIPTD_LOG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct log_file;

/* Opens a file; NULL or "-": standard input. NULL, with errno set, when it cannot. */
struct log_file *log_file_open(const char *name);
void log_file_close(struct log_file *file);

/*
 * The next bytes, `size` at most; 0: the end. -1: it cannot be read to the end, and log_file_reason says why; whatever
 * came before is right.
 */
ssize_t log_file_read(struct log_file *file, char *to, size_t size);
const char *log_file_reason(const struct log_file *file);

/* How many bytes were read of the file itself. */
uint64_t log_file_position(const struct log_file *file);

#endif
