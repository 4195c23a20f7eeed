#include "receipt_json.h"

#include "buffer.h"
#include "number.h"
#include "tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Numbers are the difficulty: the contract wants their digits, which C's types do not keep. So the tree has a
 * JSON_INTEGER for each plain value, and its text is taken from the body (tree.h). Jansson keeps the order of members
 * (json_object_foreach, since 2.8), hence a walk through its tree meets them in the order in which they were noted.
 */
struct decoder {
    struct receipt *receipt;
    const struct tree_plain *plain, *plain_end; /* the value met next, and behind the last */
    const char *body;
    struct buffer extra;
    bool extra_open; /* the outer brace of extra was written */
    bool decimals;   /* an integer was sent with a fraction or an exponent */
};

/* The text of the plain value met next, and its length; a string has its quotes. */
static const char *next_plain(struct decoder *decoder, size_t *len) {
    static const char none[] = "0"; /* there is always one; if not, this harms nobody */
    *len = 1;
    if (decoder->plain == decoder->plain_end)
        return none;
    *len = decoder->plain->len;
    return decoder->body + decoder->plain++->at;
}

/*
 * Writes a value that no field describes as JSON text. With out == NULL it only passes its plain values, so that the
 * walk stays in step with them. The depth is bounded by Jansson's own limit (JSON_PARSER_MAX_DEPTH, 2048).
 */
static void write_value(struct decoder *decoder, const json_t *value, struct buffer *out);

static void write_plain(struct decoder *decoder, struct buffer *out) {
    struct number number;
    size_t len;
    const char *text = next_plain(decoder, &len);
    if (!out)
        return;
    if (*text != '"' && number_read(text, text + len, &number) && !number_stays_short(&number))
        buffer_append_json_string(out, text, len);
    else
        buffer_append(out, text, len);
}

static void write_object(struct decoder *decoder, const json_t *object, struct buffer *out) {
    const char *separator = "{";
    /* json_object_iter takes a json_t without const, though it changes nothing. */
    json_t *readable = (json_t *)object;
    for (void *at = json_object_iter(readable); at; at = json_object_iter_next(readable, at)) {
        if (out) {
            buffer_append_text(out, separator);
            separator = ",";
            buffer_append_json_string(out, json_object_iter_key(at), json_object_iter_key_len(at));
            buffer_append_text(out, ":");
        }
        write_value(decoder, json_object_iter_value(at), out);
    }
    if (out)
        buffer_append_text(out, json_object_size(object) == 0 ? "{}" : "}");
}

static void write_array(struct decoder *decoder, const json_t *array, struct buffer *out) {
    if (out)
        buffer_append_text(out, "[");
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (out && i > 0)
            buffer_append_text(out, ",");
        write_value(decoder, json_array_get(array, i), out);
    }
    if (out)
        buffer_append_text(out, "]");
}

static void write_value(struct decoder *decoder, const json_t *value, struct buffer *out) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(decoder, value, out);
        return;
    case JSON_ARRAY:
        write_array(decoder, value, out);
        return;
    case JSON_STRING:
        if (out)
            buffer_append_json_string(out, json_string_value(value), json_string_length(value));
        return;
    case JSON_INTEGER:
    case JSON_REAL: /* there is none */
        write_plain(decoder, out);
        return;
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
        if (out)
            buffer_append_text(out, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
        return;
    }
}

/* Sets the value of a field to a number as it was sent; own_text writes it as an integer. */
static void read_number(struct decoder *decoder, const struct number *number, struct receipt_value *value) {
    size_t len = number->integer ? number->len : number_integer_len(number);
    if (len == 0)
        return;
    if (len == NUMBER_TOO_LONG) {
        value->kind = RECEIPT_VALUE_HUGE;
        return;
    }
    value->kind = RECEIPT_VALUE_INTEGER;
    value->text = number->text;
    value->len = (uint32_t)number->len;
    decoder->decimals |= !number->integer;
}

static void read_plain(struct decoder *decoder, struct receipt_value *value) {
    struct number number;
    size_t len;
    const char *text = next_plain(decoder, &len);
    value->kind = RECEIPT_VALUE_OTHER;
    if (*text == '"') {
        value->kind = RECEIPT_VALUE_STRING;
        value->text = text + 1;
        value->len = (uint32_t)len - 2;
    } else if (number_read(text, text + len, &number)) {
        read_number(decoder, &number, value);
    }
}

/* Sets the value of a field; its text still belongs to the tree or the body. Objects are decode_object's business. */
static void read_value(struct decoder *decoder, const json_t *json, struct receipt_value *value) {
    switch (json_typeof(json)) {
    case JSON_NULL:
        value->kind = RECEIPT_VALUE_NULL;
        return;
    case JSON_STRING:
        value->kind = RECEIPT_VALUE_STRING;
        value->text = json_string_value(json);
        value->len = (uint32_t)json_string_length(json);
        return;
    case JSON_INTEGER:
    case JSON_REAL:
        read_plain(decoder, value);
        return;
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_TRUE:
    case JSON_FALSE:
        value->kind = RECEIPT_VALUE_OTHER;
        write_value(decoder, json, NULL);
        return;
    }
}

/* Opens extra, or goes on in it, for a member of the body. */
static void begin_extra_member(struct decoder *decoder, const char *name, size_t len) {
    buffer_append_text(&decoder->extra, decoder->extra_open ? "," : "{");
    decoder->extra_open = true;
    buffer_append_json_string(&decoder->extra, name, len);
    buffer_append_text(&decoder->extra, ":");
}

/* Reads the members of `object`; `name` is what the body calls it, NULL for the body itself. */
static void decode_object(struct decoder *decoder, json_t *object, enum receipt_object which, const char *name) {
    bool inner_open = false; /* this inner object was begun in extra */
    int hint = 0;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const char *member = json_object_iter_key(at);
        size_t member_len = json_object_iter_key_len(at);
        json_t *json = json_object_iter_value(at);
        int index = receipt_find_field(which, member, member_len, hint);
        if (index >= 0) {
            const struct receipt_field *field = &receipt_fields[index];
            hint = index + 1;
            if (field->type == RECEIPT_OBJECT && json_is_object(json)) {
                decoder->receipt->values[index].kind = RECEIPT_VALUE_OBJECT;
                decode_object(decoder, json, field->opens, field->name);
            } else {
                read_value(decoder, json, &decoder->receipt->values[index]);
            }
            continue;
        }
        if (!name) {
            begin_extra_member(decoder, member, member_len);
        } else {
            if (!inner_open)
                begin_extra_member(decoder, name, strlen(name));
            buffer_append_text(&decoder->extra, inner_open ? "," : "{");
            inner_open = true;
            buffer_append_json_string(&decoder->extra, member, member_len);
            buffer_append_text(&decoder->extra, ":");
        }
        write_value(decoder, json, &decoder->extra);
    }
    if (inner_open) {
        decoder->receipt->extra_ends[which] = decoder->extra.len;
        buffer_append_text(&decoder->extra, "}");
    }
}

/* Whether the value is an integer that was sent with a fraction or an exponent. */
static bool is_decimal(const struct receipt_value *value, struct number *number) {
    return value->kind == RECEIPT_VALUE_INTEGER && number_read(value->text, value->text + value->len, number) &&
           !number->integer;
}

/* Moves all text into one block, so that neither the tree nor the body has to live until the commit. */
static bool own_text(struct receipt *receipt, const struct buffer *extra, bool decimals) {
    struct number number;
    size_t size = extra->len;
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_value *value = &receipt->values[i];
        size += decimals && is_decimal(value, &number) ? number_integer_len(&number) : value->len;
    }
    char *block = malloc(size ? size : 1);
    if (!block)
        return false;
    receipt->block = block;
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        struct receipt_value *value = &receipt->values[i];
        if (decimals && is_decimal(value, &number)) {
            value->len = (uint32_t)number_integer_len(&number);
            number_write_integer(&number, block);
        } else if (value->len > 0) {
            memcpy(block, value->text, value->len);
        }
        value->text = block;
        block += value->len;
    }
    if (extra->len > 0) {
        memcpy(block, extra->data, extra->len);
        receipt->extra = block;
        receipt->extra_len = extra->len;
    }
    return true;
}

static enum receipt_json_status decode_tree(const struct tree *tree, const char *body, struct receipt *receipt) {
    struct decoder decoder = {
        .receipt = receipt, .plain = tree->plain, .plain_end = tree->plain + tree->plain_count, .body = body};
    buffer_init(&decoder.extra);
    receipt->value_count = tree->values;
    decode_object(&decoder, tree->root, RECEIPT_BODY, NULL);
    if (decoder.extra_open)
        buffer_append_text(&decoder.extra, "}");
    bool ok = !decoder.extra.failed && own_text(receipt, &decoder.extra, decoder.decimals);
    buffer_fini(&decoder.extra);
    if (!ok)
        *receipt = (struct receipt){0};
    return ok ? RECEIPT_JSON_OK : RECEIPT_JSON_NO_MEMORY;
}

/* Jansson's text may end in " near '…'" or, of an escape, in " '\…'", which quote the body; that part is left out. */
static void describe_error(const json_error_t *jansson, struct receipt_json_error *error) {
    const char *near = strstr(jansson->text, " near '"), *escape = strstr(jansson->text, " '\\");
    const char *quote = escape && (!near || escape < near) ? escape : near;
    int len = (int)(quote ? (size_t)(quote - jansson->text) : strlen(jansson->text));
    error->line = jansson->line;
    error->column = jansson->column;
    snprintf(error->message, sizeof error->message, "Invalid JSON at line %d, column %d: %.*s.", jansson->line,
             jansson->column, len < 80 ? len : 80, jansson->text);
}

enum receipt_json_status receipt_json_decode(const char *body, size_t len, struct receipt *receipt,
                                             struct receipt_json_error *error) {
    struct tree tree;
    enum receipt_json_status status = RECEIPT_JSON_MALFORMED;
    *error = (struct receipt_json_error){0};
    if (!tree_load(&tree, body, len))
        status = RECEIPT_JSON_NO_MEMORY;
    else if (tree_has_too_many_values(&tree))
        snprintf(error->message, sizeof error->message, "The body has more than %d JSON values.", TREE_VALUES_MAX);
    else if (json_is_object(tree.root))
        status = decode_tree(&tree, body, receipt);
    else if (tree.root)
        snprintf(error->message, sizeof error->message, "The body is not a JSON object.");
    else
        describe_error(&tree.error, error);
    tree_fini(&tree);
    return status;
}
