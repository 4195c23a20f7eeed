/* What the fuzzers share: the contract once more, as the unit tests have it, and the end for what must not be. */
#ifndef RECEIPTD_FUZZ_H
#define RECEIPTD_FUZZ_H

#include "../unit/contract.h"

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether it is what PostgreSQL takes for text: UTF-8 without NUL. */
static inline bool is_text(const char *text, size_t len) {
    return len == 0 || (is_utf8(text, len) && !memchr(text, '\0', len));
}

#endif
