#include "receipt.h"

#include "number.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const conditions[] = {"N", "R", "A", "B", "C", "X", "TT", NULL};
static const char *const reference_types[] = {"StockTransferOrder", "RA", "RMA", "ForwardOrder", NULL};

#define KEY(name_)                                                                                                     \
    {                                                                                                                  \
        .path = name_, .name = name_, .column = name_, .object = RECEIPT_BODY, .type = RECEIPT_TEXT, .required = true, \
        .key = true                                                                                                    \
    }
#define OBJECT(name_, opens_, required_)                                                                               \
    {                                                                                                                  \
        .path = name_, .name = name_, .object = RECEIPT_BODY, .type = RECEIPT_OBJECT, .opens = opens_,                 \
        .required = required_                                                                                          \
    }
#define TEXT(name_, required_, ...)                                                                                    \
    {                                                                                                                  \
        .path = name_, .name = name_, .column = name_, .object = RECEIPT_BODY, .type = RECEIPT_TEXT,                   \
        .required = required_, __VA_ARGS__                                                                             \
    }
#define INNER(object_, prefix_, name_, type_, required_, ...)                                                          \
    {                                                                                                                  \
        .path = prefix_ "." name_, .name = name_, .column = prefix_ "_" name_, .object = object_, .type = type_,       \
        .required = required_, __VA_ARGS__                                                                             \
    }

const struct receipt_field receipt_fields[RECEIPT_FIELD_COUNT] = {
#define FIELD(id_, ...) [RECEIPT_FIELD_##id_] = __VA_ARGS__,
#include "receipt_fields.def"
#undef FIELD
};

const unsigned char receipt_key_fields[RECEIPT_KEY_COUNT] = {RECEIPT_FIELD_PROGRAM_IDENTIFIER, RECEIPT_FIELD_ASN_NUMBER,
                                                             RECEIPT_FIELD_UNIT_IDENTIFIER};
_Static_assert(RECEIPT_FIELD_COUNT <= UCHAR_MAX, "unsigned char names a field");

const char *const receipt_error_names[RECEIPT_ERROR_CODE_COUNT] = {
    [RECEIPT_MISSING_FIELD] = "missing_field", [RECEIPT_INVALID_TYPE] = "invalid_type",
    [RECEIPT_INVALID_VALUE] = "invalid_value", [RECEIPT_TOO_LONG] = "too_long",
    [RECEIPT_OUT_OF_RANGE] = "out_of_range",
};

void receipt_write_errors(struct buffer *out, const struct receipt_errors *errors) {
    buffer_append_text(out, "[");
    for (size_t i = 0; i < errors->count; i++)
        buffer_append_format(out, "%s{\"field\":\"%s\",\"code\":\"%s\"}", i == 0 ? "" : ",",
                             receipt_fields[errors->list[i].field].path, receipt_error_names[errors->list[i].code]);
    buffer_append_text(out, "]");
}

int receipt_find_field(enum receipt_object object, const char *name, size_t len, int hint) {
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        int index = (hint + i) % RECEIPT_FIELD_COUNT;
        const struct receipt_field *field = &receipt_fields[index];
        if (field->object == object && strncmp(field->name, name, len) == 0 && field->name[len] == '\0')
            return index;
    }
    return -1;
}

/* CONTRACT.md: "blank" is empty or ASCII white space only. */
static bool is_blank(const struct receipt_value *value) {
    for (uint32_t i = 0; i < value->len; i++)
        if (!memchr(" \t\n\v\f\r", value->text[i], 6))
            return false;
    return true;
}

static bool is_one_of(const struct receipt_value *value, const char *const *allowed) {
    for (; *allowed; allowed++)
        if (strlen(*allowed) == value->len && memcmp(*allowed, value->text, value->len) == 0)
            return true;
    return false;
}

/* `allowed` is separated by commas. */
static bool is_in(const struct receipt_value *value, const char *allowed) {
    while (allowed && *allowed) {
        size_t len = strcspn(allowed, ",");
        if (len == value->len && memcmp(allowed, value->text, len) == 0)
            return true;
        allowed += len + (allowed[len] == ',');
    }
    return false;
}

enum { INT64_MAX_CHARS = 20 }; /* "-9223372036854775808" */

/* Reads an integer of any kind. Returns whether it is one and has 64 bits; if not, `code` says why. */
static bool parse_integer(const struct receipt_value *value, int64_t *integer, enum receipt_error_code *code) {
    struct number number;
    char text[INT64_MAX_CHARS + 1];
    *code = RECEIPT_OUT_OF_RANGE;
    if (value->kind == RECEIPT_VALUE_HUGE)
        return false;
    *code = RECEIPT_INVALID_TYPE;
    if (!receipt_value_is_text(value) || !number_read_text(value->text, value->len, &number))
        return false;
    size_t len = number_integer_len(&number);
    if (len == 0)
        return false;
    *code = RECEIPT_OUT_OF_RANGE;
    if (len > INT64_MAX_CHARS)
        return false;
    number_write_integer(&number, text);
    text[len] = '\0';
    errno = 0;
    *integer = strtoll(text, NULL, 10);
    return errno == 0;
}

int64_t receipt_value_integer(const struct receipt_value *value) {
    int64_t integer = 0;
    enum receipt_error_code code;
    parse_integer(value, &integer, &code);
    return integer;
}

/* Which field is to be shorter because the whole key is too long; -1: none. */
static int find_excess(const struct receipt *receipt) {
    size_t bytes = 0;
    int longest = receipt_key_fields[0];
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        const struct receipt_value *value = &receipt->values[receipt_key_fields[k]];
        if (!receipt_value_is_text(value) || is_blank(value))
            return -1;
        bytes += value->len;
        if (value->len >= receipt->values[longest].len)
            longest = receipt_key_fields[k];
    }
    return bytes > RECEIPT_KEY_MAX_BYTES ? longest : -1;
}

/* Returns whether the value is fine; if not, `code` says why. */
static bool check_value(const struct receipt_rules *rules, const struct receipt_field *field,
                        const struct receipt_value *value, enum receipt_error_code *code) {
    int64_t integer;
    *code = RECEIPT_INVALID_TYPE;
    switch (field->type) {
    case RECEIPT_OBJECT:
        return value->kind == RECEIPT_VALUE_OBJECT;
    case RECEIPT_INTEGER:
        return parse_integer(value, &integer, code);
    case RECEIPT_TEXT:
        if (value->kind == RECEIPT_VALUE_HUGE)
            *code = field->values ? RECEIPT_INVALID_VALUE : RECEIPT_TOO_LONG;
        if (!receipt_value_is_text(value))
            return false;
        *code = RECEIPT_INVALID_VALUE;
        return !field->values || is_one_of(value, field->values) || is_in(value, rules->more_values[field->list]);
    }
    return false;
}

/* FNV-1a. It only groups equal keys: a collision makes one delivery wait for the next batch, nothing else. */
static uint64_t hash_key(const struct receipt *receipt) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        const struct receipt_value *value = &receipt->values[receipt_key_fields[k]];
        for (uint32_t i = 0; i < value->len; i++)
            hash = (hash ^ (unsigned char)value->text[i]) * 0x100000001b3u;
        hash = (hash ^ 0xff) * 0x100000001b3u; /* a byte that UTF-8 never has ends each part */
    }
    return hash;
}

bool receipt_validate(struct receipt *receipt, const struct receipt_rules *rules, struct receipt_errors *errors) {
    bool wrong_type[RECEIPT_OBJECT_COUNT] = {false};
    int excess = find_excess(receipt);
    errors->count = 0;
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        struct receipt_value *value = &receipt->values[i];
        enum receipt_error_code code;

        if (value->kind == RECEIPT_VALUE_STRING && is_blank(value))
            value->kind = RECEIPT_VALUE_BLANK;
        if (receipt_value_is_absent(value)) {
            /* What ought to be inside a `from` that is no object is not missing: there is nowhere it could be. */
            if (!field->required || wrong_type[field->object])
                continue;
            code = RECEIPT_MISSING_FIELD;
        } else if (!check_value(rules, field, value, &code)) {
            if (field->type == RECEIPT_OBJECT)
                wrong_type[field->opens] = true;
        } else if (i == excess) {
            code = RECEIPT_TOO_LONG;
        } else {
            continue;
        }
        errors->list[errors->count++] = (struct receipt_error){.field = (unsigned char)i, .code = code};
    }
    if (errors->count > 0)
        return false;
    receipt->key_hash = hash_key(receipt);
    return true;
}

int receipt_compare_keys(const struct receipt *a, const struct receipt *b) {
    for (int k = 0; k < RECEIPT_KEY_COUNT; k++) {
        const struct receipt_value *x = &a->values[receipt_key_fields[k]];
        const struct receipt_value *y = &b->values[receipt_key_fields[k]];
        int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
        if (order != 0)
            return order;
        if (x->len != y->len)
            return x->len < y->len ? -1 : 1;
    }
    return 0;
}

/* Appends a value as it was sent, an integer without the fraction or the exponent that it had. */
static void append_value(struct buffer *out, const struct receipt_value *value) {
    const struct number number = {.text = value->text, .len = value->len};
    if (value->kind == RECEIPT_VALUE_NULL)
        buffer_append_text(out, "null");
    else if (value->kind == RECEIPT_VALUE_INTEGER && number_stays_short(&number))
        buffer_append(out, value->text, value->len);
    else
        buffer_append_json_string(out, value->text, value->len);
}

/*
 * Appends the fields of an object that have no column, as members, `before` the first of them and commas between them.
 * Returns whether there were any.
 */
static bool append_missing(struct buffer *out, const struct receipt *receipt, const struct receipt_columns *columns,
                           enum receipt_object object, const char *before) {
    bool any = false;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        const struct receipt_value *value = &receipt->values[i];
        if (!columns->missing[i] || field->object != object || value->kind == RECEIPT_VALUE_ABSENT)
            continue;
        buffer_append_format(out, "%s\"%s\":", any ? "," : before, field->name);
        append_value(out, value);
        any = true;
    }
    return any;
}

/* The inner object that is closed in extra next behind `at`; RECEIPT_BODY: none. */
static enum receipt_object next_closed(const struct receipt *receipt, size_t at) {
    enum receipt_object next = RECEIPT_BODY;
    for (enum receipt_object object = RECEIPT_FROM; object < RECEIPT_OBJECT_COUNT; object++)
        if (receipt->extra_ends[object] > at &&
            (next == RECEIPT_BODY || receipt->extra_ends[object] < receipt->extra_ends[next]))
            next = object;
    return next;
}

void receipt_write_extra(struct buffer *out, const struct receipt *receipt, const struct receipt_columns *columns) {
    if (columns->missing_count == 0) {
        buffer_append(out, receipt->extra, receipt->extra_len);
        return;
    }
    size_t at = 0;
    for (enum receipt_object object; (object = next_closed(receipt, at)) != RECEIPT_BODY;
         at = receipt->extra_ends[object]) {
        buffer_append(out, receipt->extra + at, receipt->extra_ends[object] - at);
        append_missing(out, receipt, columns, object, ",");
    }
    bool open = receipt->extra != NULL; /* the outer brace is there */
    if (open)
        buffer_append(out, receipt->extra + at, receipt->extra_len - 1 - at);
    open |= append_missing(out, receipt, columns, RECEIPT_BODY, open ? "," : "{");
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        char before[64];
        if (field->type != RECEIPT_OBJECT || receipt->extra_ends[field->opens] > 0)
            continue;
        snprintf(before, sizeof before, "%s\"%s\":{", open ? "," : "{", field->name);
        if (append_missing(out, receipt, columns, field->opens, before)) {
            buffer_append_text(out, "}");
            open = true;
        }
    }
    if (open)
        buffer_append_text(out, "}");
}

void receipt_fini(struct receipt *receipt) {
    free(receipt->block);
    *receipt = (struct receipt){0};
}
