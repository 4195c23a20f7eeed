/*
 * The API keys a sender may use: a file of names and SHA-256 digests, looked up in constant time, reloaded while
 * running.
 *
 * The file has one key a line, "NAME SHA256HEX"; blank lines and lines that start with # are ignored. Several keys are
 * valid at a time, so that one can be replaced without a gap. It never holds a key itself.
 *
 * Threads: api_keys_find from any, also while another one reloads.
 */
#ifndef RECEIPTD_API_KEYS_H
#define RECEIPTD_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>

struct api_keys;

enum {
    API_KEY_BYTES = 32,     /* of randomness in a new key */
    API_KEY_TEXT_SIZE = 48, /* room for a new key's text and its NUL */
    API_KEY_LINE_SIZE = 160,
};

/*
 * Reads the key file. NULL when it can't be read, has a malformed line, a name twice, or no key at all; `error` then
 * says why, naming the file and line. The caller frees it with api_keys_free.
 */
struct api_keys *api_keys_load(const char *path, char *error, size_t error_size);
void api_keys_free(struct api_keys *keys);

/* Reads the file again. False, with `error` filled and the keys as they were, when api_keys_load would have failed. */
bool api_keys_reload(struct api_keys *keys, char *error, size_t error_size);

/* How many keys are valid now. */
size_t api_keys_count(struct api_keys *keys);

enum api_keys_result {
    API_KEYS_VALID = 0,
    API_KEYS_UNKNOWN,
    API_KEYS_FAILED, /* it could not be told: no memory */
};

/*
 * Looks up a key as sent. The time it takes depends on the number of keys and the length of `key`, not on its content.
 * Copies the name (at most API_KEY_NAME_MAX bytes and a NUL) when it is valid.
 */
enum api_keys_result api_keys_find(struct api_keys *keys, const char *key, size_t len, char *name);

/* True when `name` may name a key: 1 to API_KEY_NAME_MAX of A-Z a-z 0-9 . _ @ - */
bool api_keys_name_valid(const char *name);

/* Whether the file at `path` has a key of that name. False too if it cannot be read. */
bool api_keys_file_has(const char *path, const char *name);

/* Makes a new random key and its line for the file, both NUL-terminated. False when the system has no randomness. */
bool api_keys_generate(const char *name, char key[API_KEY_TEXT_SIZE], char line[API_KEY_LINE_SIZE]);

#endif
