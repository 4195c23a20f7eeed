/*
 * libFuzzer over decoding and validation: any bytes as a body. What has to hold, whatever they are:
 * - what is taken is JSON (RFC 8259), by a reader of this file's own, and only what the contract refuses is refused;
 * - a body is either accepted or has errors, in the table's order and one a field, and its answer can be written;
 * - what is accepted keeps the contract's limits, and what is to be stored of any body is text for PostgreSQL;
 * - every field has what the body says, by that reader, integers digit for digit, and extra has all of the rest;
 * - what is accepted, encoded again, decodes to the same values; extra is JSON that decodes to itself;
 * - a compressed body is read as well, but what is in it is not compared;
 * - Jansson allocates no more than is had for it before it begins.
 */
#include "fuzz.h"

#include "../unit/jansson_use.h"
#include "compression.h"
#include "handler.h"
#include "reply.h"
#include "tree.h"

/* RFC 8259, but for what a byte means in UTF-8, which is_utf8 knows; each of these returns NULL when it is broken. */
static const char *skip_space(const char *p, const char *end) {
    while (p < end && strchr(" \t\n\r", *p) && *p != '\0')
        p++;
    return p;
}

static const char *skip_literal(const char *p, const char *end, const char *literal) {
    size_t len = strlen(literal);
    return (size_t)(end - p) >= len && memcmp(p, literal, len) == 0 ? p + len : NULL;
}

static bool is_one_of(const char *p, const char *end, const char *characters) {
    return p < end && *p != '\0' && strchr(characters, *p);
}

static const char *skip_some_digits(const char *p, const char *end) {
    const char *start = p;
    while (is_one_of(p, end, "0123456789"))
        p++;
    return p > start ? p : NULL;
}

static const char *skip_number(const char *p, const char *end) {
    if (is_one_of(p, end, "-"))
        p++;
    p = is_one_of(p, end, "0") ? p + 1 : skip_some_digits(p, end);
    if (p && is_one_of(p, end, "."))
        p = skip_some_digits(p + 1, end);
    if (p && is_one_of(p, end, "eE")) {
        p++;
        p = skip_some_digits(is_one_of(p, end, "+-") ? p + 1 : p, end);
    }
    return p;
}

static const char *skip_string(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p != '\\')
            continue;
        if (!is_one_of(++p, end, "\"\\/bfnrtu"))
            return NULL;
        if (*p == 'u')
            for (int i = 0; i < 4; i++)
                if (!is_one_of(++p, end, "0123456789abcdefABCDEF"))
                    return NULL;
    }
    return p < end ? p + 1 : NULL;
}

static const char *skip_value(const char *p, const char *end);

/* An object or an array, with the spaces inside. */
static const char *skip_members(const char *p, const char *end, char close, bool named) {
    p = skip_space(p + 1, end);
    if (p < end && *p == close)
        return p + 1;
    for (;;) {
        if (named) {
            p = is_one_of(p, end, "\"") ? skip_string(p, end) : NULL;
            p = p ? skip_space(p, end) : NULL;
            if (!p || !is_one_of(p++, end, ":"))
                return NULL;
            p = skip_space(p, end);
        }
        p = skip_value(p, end);
        p = p ? skip_space(p, end) : NULL;
        if (!p || p == end || (*p != ',' && *p != close))
            return NULL;
        if (*p++ == close)
            return p;
        p = skip_space(p, end);
    }
}

static const char *skip_value(const char *p, const char *end) {
    if (p == end)
        return NULL;
    switch (*p) {
    case '{':
        return skip_members(p, end, '}', true);
    case '[':
        return skip_members(p, end, ']', false);
    case '"':
        return skip_string(p, end);
    case 't':
        return skip_literal(p, end, "true");
    case 'f':
        return skip_literal(p, end, "false");
    case 'n':
        return skip_literal(p, end, "null");
    default:
        return skip_number(p, end);
    }
}

static bool is_json(const char *text, size_t len) {
    const char *end = text + len;
    const char *p = skip_value(skip_space(text, end), end);
    return p && skip_space(p, end) == end && is_utf8(text, len);
}

/* The only reasons not to take what is JSON. */
static const char *const reasons[] = {
    "not a JSON object",           "'[' or '{' expected",    "duplicate object key", "maximum parsing depth",
    "u0000 is not allowed",        "NUL byte in object key", "invalid Unicode", /* half of a surrogate pair */
    "more than 10000 JSON values",
};

static bool is_a_reason(const char *message) {
    for (size_t i = 0; i < COUNT_OF(reasons); i++)
        if (strstr(message, reasons[i]))
            return true;
    return false;
}

static void check_errors(const struct receipt_errors *errors) {
    for (size_t i = 0; i < errors->count; i++) {
        REQUIRE(errors->list[i].field < CONTRACT_COUNT);
        REQUIRE(i == 0 || errors->list[i].field > errors->list[i - 1].field);
        REQUIRE(*receipt_error_names[errors->list[i].code] != '\0');
    }
}

static void check_answer(struct delivery *delivery) {
    char storage[8192];
    struct buffer out;
    delivery->outcome = delivery->rejection ? outcome_of_rejection(delivery->rejection) : OUTCOME_CREATED;
    buffer_init_fixed(&out, storage, sizeof storage);
    reply_write(&out, delivery);
    REQUIRE(!out.failed);
    const char *body = memmem(out.data, out.len, "\r\n\r\n", 4);
    REQUIRE(body && is_json(body + 4, (size_t)(out.data + out.len - body - 4)));
}

static bool is_blank(const struct receipt_value *value) {
    for (size_t i = 0; i < value->len; i++)
        if (!is_one_of(value->text + i, value->text + value->len, " \t\n\v\f\r"))
            return false;
    return true;
}

static bool is_listed(const struct receipt_value *value, const char *values) {
    char text[32];
    int len = snprintf(text, sizeof text, "%.*s ", (int)value->len, value->text);
    return value->len > 0 && !memchr(value->text, ' ', value->len) && len < (int)sizeof text && strstr(values, text);
}

/* That the value is what the contract allows for the field. */
static void check_value(const struct contract_field *field, const struct receipt_value *value) {
    bool integer = value->kind == RECEIPT_VALUE_INTEGER;
    if (receipt_value_is_absent(value)) {
        REQUIRE(!field->required && (value->len == 0 || is_blank(value)));
        return;
    }
    if (field->type == OBJECT) {
        REQUIRE(value->kind == RECEIPT_VALUE_OBJECT);
        return;
    }
    REQUIRE(integer || value->kind == RECEIPT_VALUE_STRING);
    REQUIRE(!is_blank(value));
    REQUIRE(!field->values || is_listed(value, field->values));
    if (integer) {
        const char *digits = value->text + (value->text[0] == '-');
        REQUIRE(skip_some_digits(digits, value->text + value->len) == value->text + value->len);
    }
}

static void append_value(struct buffer *json, const struct receipt_field *field, const struct receipt_value *value) {
    buffer_append_format(json, "\"%s\":", field->name);
    if (value->kind == RECEIPT_VALUE_INTEGER)
        buffer_append(json, value->text, value->len);
    else
        buffer_append_json_string(json, value->text, value->len);
}

/* The fields of one object, separated by commas; for the body also the objects in it. */
static void append_object(struct buffer *json, const struct receipt *receipt, enum receipt_object object) {
    const char *separator = "{";
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        if (field->object != object || receipt_value_is_absent(&receipt->values[i]))
            continue;
        buffer_append_text(json, separator);
        separator = ",";
        if (field->type == RECEIPT_OBJECT) {
            buffer_append_format(json, "\"%s\":", field->name);
            append_object(json, receipt, field->opens);
        } else {
            append_value(json, field, &receipt->values[i]);
        }
    }
    buffer_append_text(json, *separator == '{' ? "{}" : "}");
}

static void check_round_trip(const struct handler *handler, const struct receipt *receipt) {
    struct buffer json;
    struct delivery delivery = {0};
    const struct receipt *again = &delivery.receipt;
    buffer_init(&json);
    append_object(&json, receipt, RECEIPT_BODY);
    REQUIRE(!json.failed);
    REQUIRE(handler_read_body(handler, json.data, json.len, &delivery));
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_value *a = &receipt->values[i], *b = &again->values[i];
        REQUIRE(receipt_value_is_absent(a)
                    ? b->kind == RECEIPT_VALUE_ABSENT
                    : a->kind == b->kind && a->len == b->len && (a->len == 0 || memcmp(a->text, b->text, a->len) == 0));
    }
    REQUIRE(!again->extra);
    REQUIRE(again->key_hash == receipt->key_hash && receipt_compare_keys(again, receipt) == 0);
    delivery_fini(&delivery);
    buffer_fini(&json);
}

/*
 * The integer that a number is equal to; a reader of this file's own, which writes the number out. RECEIPT_VALUE_OTHER:
 * it is none. RECEIPT_VALUE_HUGE: the exponent makes too many digits.
 */
static enum receipt_value_kind write_integer(const char *p, const char *end, struct buffer *integer) {
    enum { EXPONENT_MAX = 4 * 1024 * 1024 };
    size_t len = (size_t)(end - p), sign = is_one_of(p, end, "-");
    struct buffer digits;
    buffer_init(&digits);
    p += sign;
    const char *whole_end = skip_some_digits(p, end), *fraction_end = whole_end;
    buffer_append(&digits, p, (size_t)(whole_end - p));
    if (is_one_of(whole_end, end, ".")) {
        fraction_end = skip_some_digits(whole_end + 1, end);
        buffer_append(&digits, whole_end + 1, (size_t)(fraction_end - whole_end - 1));
    }
    char exponent_text[32] = "";
    if (fraction_end < end) {
        const char *at = fraction_end + 1, *minus = is_one_of(at, end, "-") ? "-" : "";
        at += is_one_of(at, end, "+-");
        while (end - at > 1 && *at == '0')
            at++;
        snprintf(exponent_text, sizeof exponent_text, "%s%.*s", minus, end - at > 9 ? 9 : (int)(end - at),
                 end - at > 9 ? "999999999" : at);
    }
    long long point = whole_end - p + strtoll(exponent_text, NULL, 10), most = len > 255 ? (long long)len : 255;
    REQUIRE(!digits.failed);
    enum receipt_value_kind kind = RECEIPT_VALUE_INTEGER;
    size_t first = 0, last = digits.len; /* of the digits that are not zero */
    while (first < last && digits.data[first] == '0')
        first++;
    while (last > first && digits.data[last - 1] == '0')
        last--;
    if (first == last) {
        buffer_append_text(integer, "0");
    } else if (point < (long long)last) {
        kind = RECEIPT_VALUE_OTHER;
    } else if (point > EXPONENT_MAX || point - (long long)first > most) {
        kind = RECEIPT_VALUE_HUGE;
    } else {
        buffer_append(integer, "-", sign);
        for (long long i = (long long)first; i < point; i++)
            buffer_append(integer, i < (long long)digits.len ? digits.data + i : "0", 1);
    }
    buffer_fini(&digits);
    return kind;
}

/* An integer field, sent as a number or as text: its value is that of the number written out, whose digits those are.
 */
static void check_integer(const struct receipt_value *value) {
    char digits[32];
    const char *p = value->text, *end = value->text + value->len;
    struct buffer integer;
    while (is_one_of(p, end, " \t\n\v\f\r"))
        p++;
    while (is_one_of(end - 1, end, " \t\n\v\f\r"))
        end--;
    REQUIRE(value->kind == RECEIPT_VALUE_STRING || (p == value->text && !is_one_of(p, end, "+")));
    p += is_one_of(p, end, "+");
    buffer_init(&integer);
    REQUIRE(write_integer(p, end, &integer) == RECEIPT_VALUE_INTEGER);
    snprintf(digits, sizeof digits, "%lld", (long long)receipt_value_integer(value));
    REQUIRE(text_is(integer.data, integer.len, digits));
    buffer_fini(&integer);
}

static void check_accepted(const struct handler *handler, const struct receipt *receipt) {
    size_t key_bytes = 0;
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        const struct receipt_value *value = &receipt->values[i];
        check_value(&contract[i], value);
        key_bytes += contract[i].key ? value->len : 0;
        if (contract[i].type == INTEGER)
            check_integer(value);
    }
    REQUIRE(key_bytes <= CONTRACT_KEY_BYTES);
    check_round_trip(handler, receipt);
}

static void check_extra(const struct receipt *receipt) {
    struct receipt again = {0};
    struct receipt_json_error error;
    REQUIRE(is_text(receipt->extra, receipt->extra_len) && is_json(receipt->extra, receipt->extra_len));
    REQUIRE(receipt_json_decode(receipt->extra, receipt->extra_len, &again, &error) == RECEIPT_JSON_OK);
    REQUIRE(again.extra_len == receipt->extra_len && memcmp(again.extra, receipt->extra, receipt->extra_len) == 0);
    receipt_fini(&again);
}

struct said {
    const struct receipt *receipt;
    size_t fields;       /* how many are there */
    struct buffer extra; /* what it has to be, */
    bool extra_open;     /* of which the outer brace is there */
    bool escapes;        /* a name, or something in extra, is written with them */
};

static bool has_escapes(const char *p, const char *end) {
    return memchr(p, '\\', (size_t)(end - p));
}

static void append_compact(struct buffer *json, const char *p, const char *end) {
    while ((p = skip_space(p, end)) < end) {
        const char *start = p, *quote = "";
        if (*p == '"') {
            p = skip_string(p, end);
        } else if (is_one_of(p, end, "-0123456789")) {
            p = skip_number(p, end);
            quote = stays_a_number(start, (size_t)(p - start)) ? "" : "\"";
        } else {
            p++;
        }
        buffer_append_text(json, quote);
        buffer_append(json, start, (size_t)(p - start));
        buffer_append_text(json, quote);
    }
}

static enum receipt_value_kind kind_of(const struct contract_field *field, const char *value) {
    switch (*value) {
    case '"':
        return RECEIPT_VALUE_STRING;
    case 'n':
        return RECEIPT_VALUE_NULL;
    case '{':
        return field->type == OBJECT ? RECEIPT_VALUE_OBJECT : RECEIPT_VALUE_OTHER;
    case '[':
    case 't':
    case 'f':
        return RECEIPT_VALUE_OTHER;
    default:
        return RECEIPT_VALUE_INTEGER;
    }
}

static void check_field(struct said *said, size_t index, const char *value, const char *end) {
    const struct receipt_value *decoded = &said->receipt->values[index];
    struct receipt_value expected = {.kind = kind_of(&contract[index], value)};
    struct buffer integer;
    buffer_init(&integer);
    if (expected.kind == RECEIPT_VALUE_INTEGER && skip_some_digits(value + (*value == '-'), end) != end) {
        expected.kind = write_integer(value, end, &integer);
        expected.text = integer.data;
        expected.len = (uint32_t)integer.len;
    } else if (expected.kind == RECEIPT_VALUE_STRING || expected.kind == RECEIPT_VALUE_INTEGER) {
        size_t quote = expected.kind == RECEIPT_VALUE_STRING;
        expected.text = value + quote;
        expected.len = (uint32_t)((size_t)(end - value) - 2 * quote);
    }
    if (expected.kind == RECEIPT_VALUE_STRING && has_escapes(value, end)) {
        REQUIRE(decoded->kind == RECEIPT_VALUE_STRING || decoded->kind == RECEIPT_VALUE_BLANK);
    } else {
        if (is_blank(&expected) && expected.kind == RECEIPT_VALUE_STRING)
            expected.kind = RECEIPT_VALUE_BLANK;
        REQUIRE(decoded->kind == expected.kind && decoded->len == expected.len);
        REQUIRE(decoded->len == 0 || memcmp(decoded->text, expected.text, expected.len) == 0);
    }
    buffer_fini(&integer);
    said->fields += decoded->kind != RECEIPT_VALUE_ABSENT;
}

/* Which field of the object it is; CONTRACT_COUNT: none. No name has a dot in it, only paths have. */
static size_t find_field(const char *object, const char *name, size_t len) {
    char path[64];
    snprintf(path, sizeof path, "%s%s%.*s", object, *object ? "." : "", (int)len, name);
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        if (strcmp(contract[i].path, path) == 0 && !memchr(name, '.', len))
            return i;
    return CONTRACT_COUNT;
}

static void append_to_extra(struct said *said, bool *open, const char *text, const char *end) {
    buffer_append_text(&said->extra, *open ? "," : "{");
    *open = true;
    append_compact(&said->extra, text, end);
}

/* The members of an object whose brace is at `p`; `object` is its path, empty for the body. */
static void check_members(struct said *said, const char *p, const char *end, const char *object) {
    bool inner_open = false;
    p = skip_space(p + 1, end);
    while (*p != '}') {
        if (*p == ',')
            p = skip_space(p + 1, end);
        const char *name = p, *name_end = skip_string(p, end);
        const char *value = skip_space(skip_space(name_end, end) + 1, end), *value_end = skip_value(value, end);
        p = skip_space(value_end, end);
        size_t index = find_field(object, name + 1, (size_t)(name_end - name) - 2);
        if (index < CONTRACT_COUNT) {
            check_field(said, index, value, value_end);
            if (said->receipt->values[index].kind == RECEIPT_VALUE_OBJECT)
                check_members(said, value, value_end, contract[index].path);
            continue;
        }
        said->escapes |= has_escapes(name, value_end);
        if (*object && !inner_open) {
            append_to_extra(said, &said->extra_open, object, object);
            buffer_append_format(&said->extra, "\"%s\":", object);
        }
        append_to_extra(said, *object ? &inner_open : &said->extra_open, name, value_end);
    }
    if (inner_open)
        buffer_append_text(&said->extra, "}");
}

static void check_decoded(const struct receipt *receipt, const char *body, size_t size) {
    struct said said = {.receipt = receipt};
    size_t fields = 0;
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        REQUIRE(is_text(receipt->values[i].text, receipt->values[i].len));
        fields += receipt->values[i].kind != RECEIPT_VALUE_ABSENT;
    }
    if (receipt->extra)
        check_extra(receipt);
    buffer_init(&said.extra);
    check_members(&said, skip_space(body, body + size), body + size, "");
    if (said.extra_open)
        buffer_append_text(&said.extra, "}");
    REQUIRE(!said.extra.failed);
    if (!said.escapes) {
        REQUIRE(fields == said.fields && receipt->extra_len == said.extra.len);
        REQUIRE(said.extra.len == 0 || memcmp(receipt->extra, said.extra.data, said.extra.len) == 0);
    }
    buffer_fini(&said.extra);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct handler handler;
    const char *body = (const char *)data;
    struct delivery delivery = {0};
    begin_jansson_use();
    jansson_used = 0;
    bool accepted = handler_read_body(&handler, body, size, &delivery);
    bool compressed = compression_is_known(body, size);
    if (size >= 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0) {
        body += 3;
        size -= 3;
    }
    REQUIRE(compressed || jansson_used <= tree_memory(body, size));
    check_errors(&delivery.errors);
    REQUIRE(accepted == (delivery.rejection == REJECTION_NONE) && !delivery.failure);
    REQUIRE((delivery.rejection == REJECTION_INVALID) == (delivery.errors.count > 0));
    if (delivery.rejection == REJECTION_MALFORMED) {
        REQUIRE(delivery.message[0] != '\0' && is_text(delivery.message, strlen(delivery.message)));
        REQUIRE(compressed || !is_json(body, size) || is_a_reason(delivery.message));
    } else if (!compressed) {
        REQUIRE(is_json(body, size));
        check_decoded(&delivery.receipt, body, size);
    }
    if (accepted)
        check_accepted(&handler, &delivery.receipt);
    check_answer(&delivery);
    delivery_fini(&delivery);
    return 0;
}
