#include "receipt_json.h"

#include "buffer.h"

#include <jansson.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Numbers are the difficulty. Jansson fails on integers over 64 bits and turns the rest into C numbers, which do not
 * keep their digits; the contract wants both. So the text of every number is taken from the body: Jansson keeps the
 * order of members (json_object_foreach, since 2.8), hence a walk through its tree meets the numbers in the order in
 * which next_number finds them in the text. Those that Jansson could not represent are overwritten, in a copy, with
 * zeros of the same length, so that it checks the grammar of everything else and reports unchanged positions.
 */
struct number {
    const char *text;
    size_t len;
    bool integer; /* neither fraction nor exponent */
};

/*
 * Jansson allocates a tree in a hundred small pieces, and where one can't be had it may go on without it: its lexer
 * drops a character (strbuffer_append_byte's result is ignored), calls the token invalid, or ends the process, since
 * what it reads back does not fit what it asserts. So it gets an allocator of ours, which has all that the body can
 * take before Jansson begins (survey_body), and which is as quick as adding to a pointer: a tree is given back as a
 * whole.
 */
struct arena {
    char *at;
    size_t left;
    struct chunk *chunks; /* what did not fit into the block on the stack */
    bool failed;
};

struct chunk {
    struct chunk *next;
    max_align_t data[];
};

enum { ALIGNMENT = _Alignof(max_align_t), STACK_BYTES = 24 * 1024, CHUNK_BYTES = 128 * 1024 };

/* Of the decoding in this thread; json_set_alloc_funcs has no argument for it. */
static _Thread_local struct arena *current_arena;

static bool arena_reserve(struct arena *arena, size_t size) {
    if (size <= arena->left)
        return true;
    struct chunk *chunk = malloc(sizeof *chunk + size);
    if (!chunk) {
        arena->failed = true;
        return false;
    }
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->at = (char *)chunk->data;
    arena->left = size;
    return true;
}

static size_t align(size_t size) {
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void *arena_malloc(size_t size) {
    struct arena *arena = current_arena;
    size = align(size);
    /* More than was reserved: no Jansson that this was tested with asks for it, but there will be others. */
    if (size > arena->left && !arena_reserve(arena, size > CHUNK_BYTES ? size : CHUNK_BYTES))
        return NULL;
    void *block = arena->at;
    arena->at += size;
    arena->left -= size;
    return block;
}

static void arena_free(void *block) {
    (void)block;
}

static void arena_fini(struct arena *arena) {
    while (arena->chunks) {
        struct chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        free(chunk);
    }
}

static void set_up_jansson(void) {
    json_set_alloc_funcs(arena_malloc, arena_free);
    json_object_seed(0); /* from the system's randomness: no sender can choose names that collide */
}

enum { JANSSON_SAFE_DIGITS = 18 }; /* any integer of so many characters fits json_int_t */

/*
 * PostgreSQL's numeric, behind jsonb, takes 131,072 digits, and writes all of them: of "1e+999" a thousand. So a number
 * in extra with more characters than the first of these, or of which it would write more than the second times as
 * many, becomes a JSON string of what was sent.
 */
enum { NUMERIC_MAX_LENGTH = 1000, NUMERIC_MAX_GROWTH = 4 };

static size_t skip_digits(const char *at, const char *end) {
    size_t count = 0;
    while (at + count < end && at[count] >= '0' && at[count] <= '9')
        count++;
    return count;
}

/* Reads the number that starts at `at`. False when it breaks RFC 8259's grammar; Jansson will then say so. */
static bool read_number(const char *at, const char *end, struct number *number) {
    const char *p = at;
    if (*p == '-')
        p++;
    size_t digits = skip_digits(p, end);
    if (digits == 0 || (digits > 1 && *p == '0'))
        return false;
    p += digits;
    bool integer = true;
    if (p < end && *p == '.') {
        integer = false;
        digits = skip_digits(++p, end);
        if (digits == 0)
            return false;
        p += digits;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        integer = false;
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        digits = skip_digits(p, end);
        if (digits == 0)
            return false;
        p += digits;
    }
    *number = (struct number){.text = at, .len = (size_t)(p - at), .integer = integer};
    return true;
}

/* Behind the closing quote of the string whose opening quote is at `at`, or `end`. */
static const char *skip_string(const char *at, const char *end) {
    const char *p = at + 1;
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(end - p));
        if (!quote)
            return end;
        const char *backslash = quote;
        while (backslash > p && backslash[-1] == '\\')
            backslash--;
        if ((quote - backslash) % 2 == 0)
            return quote + 1;
        p = quote + 1;
    }
}

static bool is_number_char(char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* How many characters from `at` on could stand in a number. */
static size_t skip_number_chars(const char *at, const char *end) {
    size_t count = 0;
    while (at + count < end && is_number_char(at[count]))
        count++;
    return count;
}

/*
 * Finds the first number at or behind `*at` and moves `*at` behind it. False when there is none. What only begins or
 * ends like a number ("1-2", "01", "1e5e5") is passed over as a whole, for Jansson to refuse.
 */
static bool next_number(const char **at, const char *end, struct number *number) {
    const char *p = *at;
    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else if ((*p >= '0' && *p <= '9') || *p == '-') {
            size_t len = skip_number_chars(p, end);
            if (read_number(p, p + len, number) && number->len == len) {
                *at = p + len;
                return true;
            }
            p += len;
        } else {
            p++;
        }
    }
    *at = end;
    return false;
}

static bool jansson_takes(const struct number *number) {
    return number->integer && number->len <= JANSSON_SAFE_DIGITS;
}

/*
 * A copy of the body in which Jansson can represent every number and sees every NUL: it passes over one that ends a
 * number or a literal, so another control character takes its place. NULL when there is no memory.
 */
static char *copy_made_safe(const char *body, size_t len) {
    char *copy = malloc(len);
    if (!copy)
        return NULL;
    memcpy(copy, body, len);
    const char *at = body;
    struct number number;
    while (next_number(&at, body + len, &number)) {
        if (jansson_takes(&number))
            continue;
        /* "0.00…" needs three characters; the shortest number that comes here ("1.5", "1e5") has them. */
        char *zeros = copy + (number.text - body);
        memset(zeros, '0', number.len);
        zeros[1] = '.';
    }
    for (char *nul = copy; (nul = memchr(nul, '\0', (size_t)(copy + len - nul)));)
        *nul = '\1';
    return copy;
}

/*
 * What Jansson 2.14 (load.c, value.c, hashtable.c, strbuffer.c) allocates; ours never takes anything back.
 *
 * Tables begin with 8 places and double. When the last one is hardly used, all of them together have four places for
 * each that is: of an array 4 pointers, of an object 4 buckets of two pointers, one half of which is counted at the
 * comma, like an array's, and the other one at the colon.
 */
enum {
    OBJECT_BYTES = 80 + 8 * 16, /* json_object_t, and its first buckets */
    ARRAY_BYTES = 48 + 8 * 8,   /* json_array_t, and its first table */
    GROWTH_BYTES = 4 * 8,       /* of a table, for each comma and each colon */
    NUMBER_BYTES = 32,          /* json_real_t or json_integer_t */
    STRING_BYTES = 32,          /* json_string_t, without the text */
    PAIR_BYTES = 57,            /* pair_t, without the name, with its NUL */
    LEXER_BYTES = 16,           /* what strbuffer_t begins with, and doubles for the longest token */
};

struct survey {
    bool safe;    /* Jansson can represent every number, and sees every NUL */
    size_t bytes; /* what it allocates, at the most */
};

/* Whether a value may stand behind `before`, the last character of the token before it. */
static bool may_precede_value(char before) {
    return before == '\0' || before == '[' || before == ',' || before == ':';
}

static bool is_letter(char c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/*
 * One look at each character. It ends where Jansson can't get to, so that the bound of a body that it refuses early
 * ("{{{{", "{}{}{}") is not beyond those of bodies that it takes.
 */
static struct survey survey_body(const char *body, size_t len) {
    struct survey survey = {.safe = !memchr(body, '\0', len)};
    const char *p = body, *end = body + len;
    size_t longest = 4; /* bytes of a token; of what is none, Jansson keeps a whole character */
    size_t depth = 0, string_len = 0;
    char before = '\0';
    struct number number;
    while (p < end) {
        const char *token = p;
        switch (*p) {
        case ' ':
        case '\t':
        case '\n':
        case '\r':
            p++;
            continue;
        case '"':
            p = skip_string(p, end);
            string_len = (size_t)(p - token);
            survey.bytes += align(string_len + 1) + STRING_BYTES;
            break;
        case ':':
            if (before != '"')
                goto out;
            /* So the string was a name, which has no json_string_t. */
            survey.bytes += align(PAIR_BYTES + string_len - 2) + GROWTH_BYTES - STRING_BYTES;
            p++;
            break;
        case ',':
            survey.bytes += GROWTH_BYTES;
            p++;
            break;
        case '{':
        case '[':
            if (!may_precede_value(before) || depth++ == JSON_PARSER_MAX_DEPTH)
                goto out;
            survey.bytes += *p++ == '{' ? OBJECT_BYTES : ARRAY_BYTES;
            break;
        case '}':
        case ']':
            if (depth-- == 0)
                goto out;
            p++;
            break;
        case '-':
        case '0' ... '9':
            p += skip_number_chars(p, end);
            if (read_number(token, p, &number) && number.len == (size_t)(p - token) && !jansson_takes(&number))
                survey.safe = false;
            survey.bytes += NUMBER_BYTES;
            break;
        default:
            do
                p++;
            while (p < end && is_letter(*p));
        }
        before = p[-1];
        if ((size_t)(p - token) >= longest)
            longest = (size_t)(p - token) + 1; /* behind a number or a word, Jansson looks at one character more */
    }
out:
    for (size_t size = LEXER_BYTES;; size *= 2) {
        survey.bytes += size;
        if (size > longest)
            return survey;
    }
}

size_t receipt_json_memory(const char *body, size_t len) {
    return survey_body(body, len).bytes;
}

struct decoder {
    struct receipt *receipt;
    const char *numbers; /* where in the body to look for the number met next */
    const char *body_end;
    struct buffer extra;
    bool extra_open; /* the outer brace of extra was written */
};

/*
 * Writes a value that no field describes as JSON text. With out == NULL it only passes its numbers, so that the walk
 * stays in step with the text. The depth is bounded by Jansson's own limit (JSON_PARSER_MAX_DEPTH, 2048).
 */
static void write_value(struct decoder *decoder, const json_t *value, struct buffer *out);

/* How many characters PostgreSQL makes of the number, or more, when zeros in front of it are moved behind the point. */
static size_t count_written_out(const struct number *number) {
    const char *p = number->text, *end = number->text + number->len;
    size_t sign = *p == '-';
    p += sign;
    size_t whole = skip_digits(p, end), fraction = 0, exponent = 0;
    p += whole;
    if (p < end && *p == '.') {
        fraction = skip_digits(++p, end);
        p += fraction;
    }
    bool negative = end - p > 1 && p[1] == '-';
    for (; p < end && exponent < (size_t)NUMERIC_MAX_LENGTH * NUMERIC_MAX_GROWTH; p++)
        if (*p >= '0' && *p <= '9')
            exponent = 10 * exponent + (size_t)(*p - '0');
    if (negative) {
        whole = whole > exponent ? whole - exponent : 1;
        fraction += exponent;
    } else {
        whole += exponent;
        fraction = fraction > exponent ? fraction - exponent : 0;
    }
    return sign + whole + (fraction > 0 ? 1 + fraction : 0);
}

static void write_number(struct decoder *decoder, struct buffer *out) {
    struct number number;
    if (!next_number(&decoder->numbers, decoder->body_end, &number) || !out)
        return;
    if (number.len > NUMERIC_MAX_LENGTH || count_written_out(&number) > NUMERIC_MAX_GROWTH * number.len)
        buffer_append_json_string(out, number.text, number.len);
    else
        buffer_append(out, number.text, number.len);
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
    case JSON_REAL:
        write_number(decoder, out);
        return;
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
        if (out)
            buffer_append_text(out, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
        return;
    }
}

/* Sets the value of a field; its text still belongs to the tree or the body. Objects are decode_object's business. */
static void read_value(struct decoder *decoder, const json_t *json, struct receipt_value *value) {
    struct number number;
    switch (json_typeof(json)) {
    case JSON_NULL:
        return;
    case JSON_STRING:
        value->kind = RECEIPT_VALUE_STRING;
        value->text = json_string_value(json);
        value->len = (uint32_t)json_string_length(json);
        return;
    case JSON_INTEGER:
    case JSON_REAL:
        value->kind = RECEIPT_VALUE_OTHER;
        if (next_number(&decoder->numbers, decoder->body_end, &number) && number.integer) {
            value->kind = RECEIPT_VALUE_INTEGER;
            value->text = number.text;
            value->len = (uint32_t)number.len;
        }
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
    if (inner_open)
        buffer_append_text(&decoder->extra, "}");
}

/* Moves all text into one block, so that neither the tree nor the body has to live until the commit. */
static bool own_text(struct receipt *receipt, const struct buffer *extra) {
    size_t size = extra->len;
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++)
        size += receipt->values[i].len;
    char *block = malloc(size ? size : 1);
    if (!block)
        return false;
    receipt->block = block;
    for (int i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        struct receipt_value *value = &receipt->values[i];
        if (value->len > 0)
            memcpy(block, value->text, value->len);
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

static enum receipt_json_status decode_tree(json_t *root, const char *body, size_t len, struct receipt *receipt) {
    struct decoder decoder = {.receipt = receipt, .numbers = body, .body_end = body + len};
    buffer_init(&decoder.extra);
    decode_object(&decoder, root, RECEIPT_BODY, NULL);
    if (decoder.extra_open)
        buffer_append_text(&decoder.extra, "}");
    bool ok = !decoder.extra.failed && own_text(receipt, &decoder.extra);
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

/* json_loadb, of a text made safe first; positions in errors are those of the body. False: no memory. */
static bool load(const char *body, size_t len, struct arena *arena, json_t **root, json_error_t *error) {
    struct survey survey = survey_body(body, len);
    char *copy = NULL;
    if (!arena_reserve(arena, survey.bytes))
        return false;
    if (!survey.safe) {
        copy = copy_made_safe(body, len);
        if (!copy)
            return false;
    }
    *root = json_loadb(copy ? copy : body, len, JSON_REJECT_DUPLICATES, error);
    free(copy);
    return !arena->failed;
}

enum receipt_json_status receipt_json_decode(const char *body, size_t len, struct receipt *receipt,
                                             struct receipt_json_error *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    max_align_t block[STACK_BYTES / sizeof(max_align_t)];
    struct arena arena = {.at = (char *)block, .left = sizeof block};
    json_error_t jansson = {0};
    json_t *root = NULL; /* never given back with json_decref: the arena is */
    enum receipt_json_status status = RECEIPT_JSON_MALFORMED;
    *error = (struct receipt_json_error){0};
    pthread_once(&once, set_up_jansson);
    current_arena = &arena;

    if (!load(body, len, &arena, &root, &jansson))
        status = RECEIPT_JSON_NO_MEMORY;
    else if (json_is_object(root))
        status = decode_tree(root, body, len, receipt);
    else if (root)
        snprintf(error->message, sizeof error->message, "The body is not a JSON object.");
    else
        describe_error(&jansson, error);
    current_arena = NULL;
    arena_fini(&arena);
    return status;
}
