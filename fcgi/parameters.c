#include "parameters.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* Types by their fixed OIDs (PostgreSQL's pg_type.dat). */
enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_UUID = 2950,
    OID_UUID_ARRAY = 2951,
    OID_JSONB = 3802
};

enum {
    ERRORS_MAX_BYTES = RECEIPT_FIELD_COUNT * 96, /* {"field":…,"code":…} takes up to 82 */
    JSON_MEMBER_BYTES = 128,                     /* a name with its object's, quotes, colons and braces */
    JSON_ESCAPED_BYTES = 6,                      /* a byte as \uXXXX */
    ARRAY_HEAD_INTEGERS = 5,
    JSONB_VERSION = 1, /* the first byte of jsonb in binary (PostgreSQL: jsonb_recv) */
};

static size_t integer_fields(void) {
    size_t count = 0;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++)
        count += receipt_fields[i].type == RECEIPT_INTEGER;
    return count;
}

bool parameters_init(struct parameters *p, size_t max_rows) {
    size_t count = max_rows * statements_row_parameters(STATEMENT_UPSERT, &(struct receipt_columns){0});
    *p = (struct parameters){.values = calloc(count, sizeof *p->values),
                             .lengths = calloc(count, sizeof *p->lengths),
                             .formats = calloc(count, sizeof *p->formats),
                             .types = calloc(count, sizeof *p->types),
                             .integers = calloc(max_rows * integer_fields(), sizeof *p->integers)};
    buffer_init(&p->json);
    if (!p->values || !p->lengths || !p->formats || !p->types || !p->integers)
        return false;
    for (size_t i = 0; i < count; i++)
        p->formats[i] = 1;
    return true;
}

void parameters_fini(struct parameters *p) {
    free(p->values);
    free(p->lengths);
    free(p->formats);
    free(p->types);
    free(p->integers);
    buffer_fini(&p->json);
}

static void set_parameter(struct parameters *p, size_t index, Oid type, const void *value, size_t len) {
    p->types[index] = type;
    p->values[index] = value;
    p->lengths[index] = (int)len;
}

static void set_text(struct parameters *p, size_t index, const struct receipt_value *value) {
    bool absent = receipt_value_is_absent(value);
    set_parameter(p, index, OID_TEXT, absent ? NULL : value->text, absent ? 0 : value->len);
}

/* Empties p->json and makes room, so that what points into it stays good while more is appended. */
static bool reserve_json(struct parameters *p, size_t size) {
    p->json.len = 0;
    p->json.failed = false;
    return buffer_reserve(&p->json, size);
}

static void begin_json(struct parameters *p) {
    static const char version = JSONB_VERSION;
    buffer_append(&p->json, &version, 1);
}

/* Makes a parameter of the value that was begun at `start` of p->json; null when nothing was appended. */
static void end_json(struct parameters *p, size_t index, size_t start) {
    size_t len = p->json.len - start;
    bool empty = len <= 1; /* the version alone */
    if (empty)
        p->json.len = start;
    set_parameter(p, index, OID_JSONB, empty ? NULL : p->json.data + start, empty ? 0 : len);
}

/* *integer: where to write the value of an integer field. */
static void set_field(struct parameters *p, size_t index, size_t field, const struct receipt_value *value,
                      int64_t **integer) {
    if (receipt_fields[field].type != RECEIPT_INTEGER) {
        set_text(p, index, value);
    } else if (receipt_value_is_absent(value)) {
        set_parameter(p, index, OID_INT8, NULL, 0);
    } else {
        **integer = (int64_t)htobe64((uint64_t)receipt_value_integer(value));
        set_parameter(p, index, OID_INT8, *integer, sizeof **integer);
        ++*integer;
    }
}

/* The most bytes that extra takes, with the values of fields without a column. */
static size_t extra_max_bytes(const struct receipt *receipt, const struct receipt_columns *columns) {
    size_t bytes = receipt->extra_len + 1;
    for (size_t i = 0; columns->missing_count > 0 && i < RECEIPT_FIELD_COUNT; i++)
        if (columns->missing[i])
            bytes += JSON_MEMBER_BYTES + JSON_ESCAPED_BYTES * receipt->values[i].len;
    return bytes;
}

/* The most bytes that the sender's headers take: printable ASCII, of which quotes and backslashes are escaped. */
static size_t headers_max_bytes(const struct delivery *delivery) {
    size_t bytes = 1;
    for (int i = 0; i < SENDER_HEADER_COUNT; i++)
        if (delivery->headers[i])
            bytes += JSON_MEMBER_BYTES + 2 * strlen(delivery->headers[i]);
    return bytes;
}

/* As one JSON object; null where none was sent. */
static void set_headers(struct parameters *p, size_t index, const struct delivery *delivery) {
    size_t start = p->json.len;
    const char *before = "{";
    begin_json(p);
    for (int i = 0; i < SENDER_HEADER_COUNT; i++) {
        if (!delivery->headers[i])
            continue;
        buffer_append_format(&p->json, "%s\"%s\":", before, sender_headers[i].name);
        buffer_append_json_string(&p->json, delivery->headers[i], strlen(delivery->headers[i]));
        before = ",";
    }
    if (*before == ',')
        buffer_append_text(&p->json, "}");
    end_json(p, index, start);
}

bool parameters_set_receipts(struct parameters *p, enum statement statement, const struct receipt_columns *columns,
                             struct delivery *const *deliveries, size_t count, size_t rows, bool any_length) {
    static const struct delivery none; /* without a key, it is no row's */
    static const char truths[] = {0, 1};
    size_t at = 0, json_size = 0;
    int64_t *integer = p->integers;
    for (size_t row = 0; row < rows; row++) {
        const struct delivery *delivery = row < count ? deliveries[row] : &none;
        json_size += extra_max_bytes(&delivery->receipt, columns) + headers_max_bytes(delivery);
    }
    if (!reserve_json(p, json_size))
        return false;
    for (size_t row = 0; row < rows; row++) {
        const struct delivery *delivery = row < count ? deliveries[row] : &none;
        const struct receipt *receipt = &delivery->receipt;
        for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++)
            if (receipt_has_column(columns, i) && (receipt_fields[i].key || statement != STATEMENT_LOOKUP))
                set_field(p, at++, i, &receipt->values[i], &integer);
        size_t json_start = p->json.len;
        begin_json(p);
        receipt_write_extra(&p->json, receipt, columns);
        end_json(p, at++, json_start);
        set_parameter(p, at++, OID_UUID, delivery->request_id, REQUEST_ID_BYTES);
        if (statement == STATEMENT_LOOKUP) {
            set_parameter(p, at++, OID_BOOL, &truths[any_length], 1);
            continue;
        }
        set_parameter(p, at++, OID_TEXT, delivery->api_key_name, strlen(delivery->api_key_name));
        set_headers(p, at++, delivery);
    }
    return !p->json.failed;
}

/* Of a rejected delivery: null where it could not be a key. */
static void set_key(struct parameters *p, size_t index, const struct receipt_value *value) {
    static const struct receipt_value absent = {0};
    set_text(p, index, receipt_value_fits_key(value) ? value : &absent);
}

static size_t repeats_kept(const struct repeats_group *group) {
    size_t repeats = group->count - 1;
    return repeats < STATEMENTS_REPEATS_MAX ? repeats : STATEMENTS_REPEATS_MAX;
}

static void append_int4(struct parameters *p, size_t value) {
    uint32_t bytes = htobe32((uint32_t)value);
    buffer_append(&p->json, (const char *)&bytes, sizeof bytes);
}

/* The request ids of the latest repeats, as PostgreSQL's array_recv reads them; null without any. */
static void set_repeats(struct parameters *p, size_t index, const struct repeats_group *group) {
    size_t start = p->json.len, count = repeats_kept(group);
    const size_t head[] = {1 /* dimension */, 0 /* no nulls */, OID_UUID, count, 1 /* the first index */};
    for (size_t i = 0; i < ARRAY_HEAD_INTEGERS && count > 0; i++)
        append_int4(p, head[i]);
    for (size_t i = group->count - count; i < group->count; i++) {
        append_int4(p, REQUEST_ID_BYTES);
        buffer_append(&p->json, (const char *)group->deliveries[i]->request_id, REQUEST_ID_BYTES);
    }
    set_parameter(p, index, OID_UUID_ARRAY, count > 0 ? p->json.data + start : NULL, p->json.len - start);
}

bool parameters_set_rejections(struct parameters *p, const struct repeats_group *groups, size_t count) {
    size_t at = 0, json_size = count * (ERRORS_MAX_BYTES + ARRAY_HEAD_INTEGERS * sizeof(uint32_t));
    for (size_t row = 0; row < count; row++)
        json_size += headers_max_bytes(groups[row].deliveries[0]) +
                     repeats_kept(&groups[row]) * (sizeof(uint32_t) + REQUEST_ID_BYTES);
    if (!reserve_json(p, json_size))
        return false;
    for (size_t row = 0; row < count; row++) {
        const struct delivery *delivery = groups[row].deliveries[0];
        const char *message = outcome_message(outcome_of_rejection(delivery->rejection), delivery->message);
        size_t json_start = p->json.len;
        int16_t *status = (int16_t *)&p->integers[row];
        uint32_t *deliveries = (uint32_t *)&p->integers[row] + 1;
        *deliveries = htobe32((uint32_t)groups[row].count);
        *status = (int16_t)htobe16((uint16_t)outcomes[outcome_of_rejection(delivery->rejection)].status);
        set_parameter(p, at++, OID_UUID, delivery->request_id, REQUEST_ID_BYTES);
        set_parameter(p, at++, OID_TEXT, delivery->api_key_name, strlen(delivery->api_key_name));
        set_parameter(p, at++, OID_INT2, status, sizeof *status);
        set_parameter(p, at++, OID_TEXT, message, strlen(message));
        begin_json(p);
        if (delivery->rejection == REJECTION_INVALID)
            receipt_write_errors(&p->json, &delivery->errors);
        end_json(p, at++, json_start);
        set_parameter(p, at++, OID_BYTEA, delivery->body, delivery->body_len);
        for (size_t k = 0; k < RECEIPT_KEY_COUNT; k++)
            set_key(p, at++, &delivery->receipt.values[receipt_key_fields[k]]);
        set_headers(p, at++, delivery);
        set_parameter(p, at++, OID_UUID, delivery->digest, DIGEST_KEPT_BYTES);
        set_parameter(p, at++, OID_INT4, deliveries, sizeof *deliveries);
        set_repeats(p, at++, &groups[row]);
    }
    return !p->json.failed;
}
