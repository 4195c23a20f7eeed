#include "repeats.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct repeats {
    EVP_MD *sha256; /* fetched once, as in api_keys.c */
    EVP_MD_CTX *context;
    struct delivery **sorted;
    struct repeats_group *groups;
};

struct repeats *repeats_new(size_t max_deliveries) {
    struct repeats *repeats = calloc(1, sizeof *repeats);
    if (!repeats)
        return NULL;
    repeats->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    repeats->context = EVP_MD_CTX_new();
    repeats->sorted = calloc(max_deliveries, sizeof(struct delivery *));
    repeats->groups = calloc(max_deliveries, sizeof *repeats->groups);
    if (repeats->sha256 && repeats->context && repeats->sorted && repeats->groups)
        return repeats;
    repeats_free(repeats);
    return NULL;
}

void repeats_free(struct repeats *repeats) {
    if (!repeats)
        return;
    EVP_MD_free(repeats->sha256);
    EVP_MD_CTX_free(repeats->context);
    free(repeats->sorted);
    free(repeats->groups);
    free(repeats);
}

/* With the name's NUL, which no name has: so a name and a body have one digest. */
static bool set_digest(struct repeats *repeats, struct delivery *delivery) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    bool ok = EVP_DigestInit_ex2(repeats->context, repeats->sha256, NULL) == 1 &&
              EVP_DigestUpdate(repeats->context, delivery->api_key_name, strlen(delivery->api_key_name) + 1) == 1 &&
              EVP_DigestUpdate(repeats->context, delivery->body, delivery->body_len) == 1 &&
              EVP_DigestFinal_ex(repeats->context, digest, NULL) == 1;
    memcpy(delivery->digest, digest, ok ? DIGEST_KEPT_BYTES : 0);
    return ok;
}

/* Of equals, in the order of arrival. */
static int compare(const void *a, const void *b) {
    const struct delivery *x = *(const struct delivery *const *)a, *y = *(const struct delivery *const *)b;
    int order = memcmp(x->digest, y->digest, DIGEST_KEPT_BYTES);
    return order ? order : (x->arrived_us > y->arrived_us) - (x->arrived_us < y->arrived_us);
}

const struct repeats_group *repeats_group(struct repeats *repeats, struct delivery *const *deliveries, size_t count,
                                          size_t *group_count) {
    size_t groups = 0;
    for (size_t i = 0; i < count; i++) {
        if (!set_digest(repeats, deliveries[i]))
            return NULL;
        repeats->sorted[i] = deliveries[i];
    }
    qsort(repeats->sorted, count, sizeof(struct delivery *), compare);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && memcmp(repeats->sorted[i]->digest, repeats->sorted[i - 1]->digest, DIGEST_KEPT_BYTES) == 0)
            repeats->groups[groups - 1].count++;
        else
            repeats->groups[groups++] = (struct repeats_group){.deliveries = repeats->sorted + i, .count = 1};
    }
    *group_count = groups;
    return repeats->groups;
}
