#include "api_keys.h"

#include "delivery.h"
#include "hex.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIGEST_BYTES = 32 };

struct api_key {
    char name[API_KEY_NAME_MAX + 1];
    unsigned char digest[DIGEST_BYTES];
};

struct key_list {
    size_t count;
    struct api_key *keys;
};

struct api_keys {
    char *path;
    pthread_rwlock_t lock; /* guards list */
    struct key_list list;
    /* Fetched once: EVP_sha256() would be looked up anew, under a lock, at every use (OpenSSL 3, EVP_MD_fetch(3)). */
    EVP_MD *sha256;
};

bool api_keys_name_valid(const char *name) {
    size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-");
    return len > 0 && len <= API_KEY_NAME_MAX && name[len] == '\0';
}

/* Adds the key that `line` names, if it names one. Returns what is wrong with the line, or NULL. */
static const char *add_line(struct key_list *list, char *line) {
    char *rest = NULL;
    const char *name = strtok_r(line, " \t\r\n", &rest);
    if (!name || name[0] == '#')
        return NULL;
    const char *digest = strtok_r(NULL, " \t\r\n", &rest);
    struct api_key key = {0};
    if (!api_keys_name_valid(name))
        return "not a valid name (1 to 63 of A-Z a-z 0-9 . _ @ -)";
    if (!digest || strtok_r(NULL, " \t\r\n", &rest) || !hex_decode(digest, key.digest, DIGEST_BYTES))
        return "expected NAME and a SHA-256 digest of 64 hexadecimal digits";
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->keys[i].name, name) == 0)
            return "this name stands in the file already";
    strcpy(key.name, name); /* its length was checked */
    struct api_key *keys = reallocarray(list->keys, list->count + 1, sizeof *keys);
    if (!keys)
        return "out of memory";
    list->keys = keys;
    keys[list->count++] = key;
    return NULL;
}

/* Nothing that a reader would wait for, such as a pipe. */
static FILE *open_regular_file(const char *path) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    FILE *file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? fdopen(fd, "r") : NULL;
    if (!file) {
        close(fd);
        errno = EINVAL;
    }
    return file;
}

static bool read_file(const char *path, struct key_list *list, char *error, size_t error_size) {
    bool ok = false;
    char *line = NULL;
    size_t line_size = 0;
    *list = (struct key_list){0};
    FILE *file = open_regular_file(path);
    if (!file) {
        snprintf(error, error_size, "cannot open the key file %s: %s", path, strerror(errno));
        return false;
    }
    for (unsigned number = 1; getline(&line, &line_size, file) >= 0; number++) {
        const char *wrong = add_line(list, line);
        if (wrong) {
            snprintf(error, error_size, "%s, line %u: %s", path, number, wrong);
            goto out;
        }
    }
    if (ferror(file))
        snprintf(error, error_size, "cannot read the key file %s: %s", path, strerror(errno));
    else if (list->count == 0)
        snprintf(error, error_size, "the key file %s holds no key; make one with: receiptd key NAME", path);
    else
        ok = true;
out:
    free(line);
    fclose(file);
    if (!ok) {
        free(list->keys);
        *list = (struct key_list){0};
    }
    return ok;
}

bool api_keys_file_has(const char *path, const char *name) {
    bool found = false;
    char *line = NULL;
    size_t line_size = 0;
    FILE *file = open_regular_file(path);
    if (!file)
        return false;
    while (!found && getline(&line, &line_size, file) >= 0) {
        char *rest = NULL;
        const char *first = strtok_r(line, " \t\r\n", &rest);
        found = first && strcmp(first, name) == 0;
    }
    free(line);
    fclose(file);
    return found;
}

struct api_keys *api_keys_load(const char *path, char *error, size_t error_size) {
    struct api_keys *keys = calloc(1, sizeof *keys);
    if (!keys) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    pthread_rwlock_init(&keys->lock, NULL);
    keys->path = strdup(path);
    keys->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!keys->path || !keys->sha256)
        snprintf(error, error_size, "out of memory");
    else if (read_file(path, &keys->list, error, error_size))
        return keys;
    api_keys_free(keys);
    return NULL;
}

void api_keys_free(struct api_keys *keys) {
    if (!keys)
        return;
    free(keys->list.keys);
    free(keys->path);
    EVP_MD_free(keys->sha256);
    pthread_rwlock_destroy(&keys->lock);
    free(keys);
}

bool api_keys_reload(struct api_keys *keys, char *error, size_t error_size) {
    struct key_list list;
    if (!read_file(keys->path, &list, error, error_size))
        return false;
    pthread_rwlock_wrlock(&keys->lock);
    struct key_list old = keys->list;
    keys->list = list;
    pthread_rwlock_unlock(&keys->lock);
    free(old.keys);
    return true;
}

size_t api_keys_count(struct api_keys *keys) {
    pthread_rwlock_rdlock(&keys->lock);
    size_t count = keys->list.count;
    pthread_rwlock_unlock(&keys->lock);
    return count;
}

static bool digest_of(const EVP_MD *sha256, const char *key, size_t len, unsigned char digest[DIGEST_BYTES]) {
    if (EVP_Digest(key, len, digest, NULL, sha256, NULL) == 1)
        return true;
    ERR_clear_error(); /* else the thread keeps it until it ends */
    return false;
}

enum api_keys_result api_keys_find(struct api_keys *keys, const char *key, size_t len, char *name) {
    unsigned char digest[DIGEST_BYTES];
    if (!digest_of(keys->sha256, key, len, digest))
        return API_KEYS_FAILED;
    pthread_rwlock_rdlock(&keys->lock);
    const struct api_key *found = NULL;
    for (size_t i = 0; i < keys->list.count; i++)
        if (CRYPTO_memcmp(keys->list.keys[i].digest, digest, DIGEST_BYTES) == 0)
            found = &keys->list.keys[i];
    if (found)
        strcpy(name, found->name);
    pthread_rwlock_unlock(&keys->lock);
    return found ? API_KEYS_VALID : API_KEYS_UNKNOWN;
}

/* base64url without padding (RFC 4648, section 5): safe in a header, in a shell and behind a colon. */
static void encode_key(const unsigned char bytes[API_KEY_BYTES], char *text) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, pending = 0;
    for (size_t i = 0; i < API_KEY_BYTES; i++) {
        pending = pending << 8 | bytes[i];
        for (bits += 8; bits >= 6; bits -= 6)
            *text++ = alphabet[pending >> (bits - 6) & 0x3f];
    }
    if (bits > 0)
        *text++ = alphabet[pending << (6 - bits) & 0x3f];
    *text = '\0';
}

bool api_keys_generate(const char *name, char key[API_KEY_TEXT_SIZE], char line[API_KEY_LINE_SIZE]) {
    unsigned char bytes[API_KEY_BYTES], digest[DIGEST_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return false;
    strcpy(key, "rk_");
    encode_key(bytes, key + 3);
    OPENSSL_cleanse(bytes, sizeof bytes);
    if (!digest_of(EVP_sha256(), key, strlen(key), digest))
        return false;
    int at = snprintf(line, API_KEY_LINE_SIZE, "%s ", name);
    for (size_t i = 0; i < DIGEST_BYTES; i++)
        at += snprintf(line + at, API_KEY_LINE_SIZE - (size_t)at, "%02x", digest[i]);
    return true;
}
