/*
 * libFuzzer over the cost of a body: an input is a pattern, which is repeated until the body is as large as it may be,
 * in bytes or in values. What has to hold, whatever it is:
 * - the memory that is allocated to decode it stays within what memory.c counts on;
 * - the processor time does not exceed that of the most expensive body known, by more than it varies.
 *
 * Its first byte says where the pattern is repeated; a '%' in the pattern is another number each time, for names.
 */
#include "fuzz.h"

#include "backlog.h"
#include "handler.h"
#include "tree.h"

#include <malloc.h>
#include <time.h>

enum {
    PATTERN_MAX = 256,
    BODY_MOST = 13 * 1024 * 1024, /* LARGE_REQUEST of memory.c, which has more for a compressed one */
    SAMPLE_BYTES = 2048,
    TIME_FACTOR = 4,
    TRIES = 4,
};

static const struct {
    const char *before, *between, *after;
} places[] = {
    {"{\"x\":[", ",", "]}"}, {"{\"x\":{", ",", "}}"},    {"{", ",", "}"},        {"{\"x\":\"", "", "\"}"},
    {"{\"", "", "\":0}"},    {"{\"from\":{", ",", "}}"}, {"{\"sku\":", "", "}"}, {"", "", ""},
};

/* What is allocated: the most at a time since it was set back. */
static size_t allocated, peak;

static void count(ptrdiff_t bytes) {
    allocated += (size_t)bytes;
    if (allocated > peak)
        peak = allocated;
}

/* ASan's hooks (sanitizer/allocator_interface.h). */
void __sanitizer_malloc_hook(const volatile void *block, size_t size);
void __sanitizer_free_hook(const volatile void *block);
size_t __sanitizer_get_allocated_size(const volatile void *block);

static bool counting;

void __sanitizer_malloc_hook(const volatile void *block, size_t size) {
    (void)block;
    if (counting)
        count((ptrdiff_t)size);
}

void __sanitizer_free_hook(const volatile void *block) {
    if (counting && block)
        count(-(ptrdiff_t)__sanitizer_get_allocated_size(block));
}

/* Room for one body. */
static char body[BODY_MAX_BYTES + PATTERN_MAX + 64];

static size_t append(size_t len, const char *text, size_t text_len) {
    memcpy(body + len, text, text_len);
    return len + text_len;
}

static size_t append_pattern(size_t len, const uint8_t *pattern, size_t size, unsigned number) {
    char digits[16];
    int digits_len = snprintf(digits, sizeof digits, "%05x", number);
    for (size_t i = 0; i < size; i++)
        len = pattern[i] == '%' ? append(len, digits, (size_t)digits_len) : append(len, (const char *)pattern + i, 1);
    return len;
}

/* Returns its length. */
static size_t repeat_pattern(const uint8_t *data, size_t size, size_t limit) {
    size_t place = data[0] % COUNT_OF(places), len = append(0, places[place].before, strlen(places[place].before));
    const char *between = places[place].between, *after = places[place].after;
    size_t grown = 6 * size; /* with numbers in place of each '%' */
    for (unsigned number = 0; len + grown + strlen(after) < limit; number++) {
        if (number > 0)
            len = append(len, between, strlen(between));
        len = append_pattern(len, data + 1, size - 1, number);
    }
    return append(len, after, strlen(after));
}

static int64_t processor_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static size_t values; /* that the last body had, if it was decoded */

/* Decodes and validates; returns the processor time. */
static int64_t decode(size_t len) {
    static const struct handler handler;
    struct delivery delivery = {0};
    int64_t began_us = processor_us();
    allocated = peak = 0;
    counting = true;
    handler_read_body(&handler, body, len, &delivery);
    counting = false;
    int64_t took_us = processor_us() - began_us;
    values = delivery.receipt.value_count;
    REQUIRE(values <= TREE_VALUES_MAX);
    REQUIRE(peak <= BODY_MOST);
    delivery_fini(&delivery);
    return took_us;
}

/* Escapes that are written out again: of what was found, the most expensive; the least that it took here. */
static int64_t most_us(void) {
    static int64_t least_us;
    static const uint8_t escapes[] = {3, '\\', 'n'};
    for (int i = 0; least_us == 0 && i < TRIES; i++) {
        int64_t took_us = decode(repeat_pattern(escapes, sizeof escapes, BODY_MAX_BYTES));
        if (least_us == 0 || took_us < least_us)
            least_us = took_us;
    }
    return least_us;
}

/* How large a body of the pattern is that has nearly as many values as are accepted; else the most bytes. */
static size_t limit_for_values(const uint8_t *data, size_t size) {
    size_t len = repeat_pattern(data, size, SAMPLE_BYTES);
    decode(len);
    if (values == 0 || values * (BODY_MAX_BYTES / SAMPLE_BYTES) < TREE_VALUES_MAX)
        return BODY_MAX_BYTES;
    return SAMPLE_BYTES * (TREE_VALUES_MAX - 100) / values;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > PATTERN_MAX)
        return 0;
    const int64_t allowed_us = TIME_FACTOR * most_us();
    const size_t limits[] = {BODY_MAX_BYTES, limit_for_values(data, size)};
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        int64_t took_us = INT64_MAX;
        size_t len = repeat_pattern(data, size, limits[i]);
        /* Something else may have taken the processor's cache. */
        for (int tries = 0; tries < TRIES && took_us > allowed_us; tries++)
            took_us = decode(len);
        if (took_us > allowed_us)
            fprintf(stderr, "%zu bytes took %lld us, of %lld\n", len, (long long)took_us, (long long)allowed_us);
        REQUIRE(took_us <= allowed_us);
    }
    return 0;
}
