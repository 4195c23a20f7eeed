/*
 * What Jansson allocates while receipt_json.h decodes: the module's allocator, with a count in front of it.
 *
 * Threads: one.
 */
#ifndef RECEIPTD_JANSSON_USE_H
#define RECEIPTD_JANSSON_USE_H

#include "receipt_json.h"

#include <jansson.h>
#include <stddef.h>

static json_malloc_t malloc_of_module;
static size_t jansson_used; /* bytes, as the module's allocator deals them out; the caller sets it back to 0 */

static inline void *count_jansson_use(size_t size) {
    enum { ALIGNMENT = _Alignof(max_align_t) };
    jansson_used += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return malloc_of_module(size);
}

/* Begins to count. May be called again. */
static inline void begin_jansson_use(void) {
    json_free_t module_free;
    if (malloc_of_module)
        return;
    /* The first decoding in the process puts in the module's allocator. */
    struct receipt receipt = {0};
    struct receipt_json_error error;
    receipt_json_decode("[]", 2, &receipt, &error);
    json_get_alloc_funcs(&malloc_of_module, &module_free);
    json_set_alloc_funcs(count_jansson_use, module_free);
}

#endif
