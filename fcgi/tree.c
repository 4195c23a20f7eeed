#include "tree.h"

#include "number.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct tree_chunk {
    struct tree_chunk *next;
    max_align_t data[];
};

enum { ALIGNMENT = _Alignof(max_align_t), CHUNK_BYTES = 128 * 1024 };

/* Of the tree that this thread has; json_set_alloc_funcs has no argument for it. */
static _Thread_local struct tree_arena *current_arena;

static bool arena_reserve(struct tree_arena *arena, size_t size) {
    if (size <= arena->left)
        return true;
    struct tree_chunk *chunk = malloc(sizeof *chunk + size);
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

/* Of what is reserved. */
static void *arena_take(struct tree_arena *arena, size_t size) {
    void *block = arena->at;
    arena->at += align(size);
    arena->left -= align(size);
    return block;
}

static void *arena_malloc(size_t size) {
    struct tree_arena *arena = current_arena;
    /* More than was reserved: no Jansson that this was tested with asks for it, but there will be others. */
    if (align(size) > arena->left && !arena_reserve(arena, size > CHUNK_BYTES ? align(size) : CHUNK_BYTES))
        return NULL;
    return arena_take(arena, size);
}

static void arena_free(void *block) {
    (void)block;
}

static void arena_fini(struct tree_arena *arena) {
    while (arena->chunks) {
        struct tree_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        free(chunk);
    }
}

static void set_up_jansson(void) {
    json_set_alloc_funcs(arena_malloc, arena_free);
    json_object_seed(0); /* from the system's randomness: no sender can choose names that collide */
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

/* What Jansson is to read, while it is drawn. */
struct outline {
    char *text;               /* with room for the body: it is never longer */
    struct tree_plain *plain; /* with room for plain_room(): the plain values, in order */
    size_t len, plain_count;
    size_t values;  /* that the body has, if it is JSON; names are none */
    size_t bytes;   /* what Jansson allocates, at most */
    size_t longest; /* of the tokens, in bytes; of what is none, Jansson keeps a whole character */

    char before;       /* the last character of the token before; '\0': there is none */
    bool is_name;      /* that is a string, and may be a name */
    size_t string_len; /* of the last string that is not a plain value */
    size_t depth;
    bool refused; /* Jansson reads this token, and no other */
    bool beyond;  /* Jansson does not get here */
};

/* How many plain values there can be: something stands between two of them. */
static size_t plain_room(size_t len) {
    return len / 2 < TREE_VALUES_MAX ? len / 2 + 1 : TREE_VALUES_MAX + 1;
}

static bool is_letter(char c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Whether a value may stand here. */
static bool may_have_value(const struct outline *outline) {
    return outline->before == '\0' || outline->before == '[' || outline->before == ',' || outline->before == ':';
}

static bool begins_value(char c) {
    return c == '{' || c == '[' || c == '"' || c == '-' || (c >= '0' && c <= '9') || is_letter(c);
}

/* Behind the string at `at`, if it is plain; else `at`. */
static const char *skip_plain_string(const char *at, const char *end) {
    const char *p = at + 1;
    while (p < end && (signed char)*p >= ' ' && *p != '"' && *p != '\\') /* beyond ASCII it is negative */
        p++;
    return p < end && *p == '"' ? p + 1 : at;
}

static void add(struct outline *outline, const char *text, size_t len) {
    memcpy(outline->text + outline->len, text, len);
    outline->len += len;
}

/* Jansson passes over a NUL that ends a number or a literal, so another control character takes its place. */
static void add_doubtful(struct outline *outline, const char *text, size_t len) {
    char *copy = outline->text + outline->len;
    add(outline, text, len);
    for (const char *end = copy + len; (copy = memchr(copy, '\0', (size_t)(end - copy)));)
        *copy = '\1';
}

/* Each of these draws what begins at `token`, and returns where the next token begins. */
static const char *draw_plain(struct outline *outline, const char *body, const char *token, const char *token_end) {
    outline->plain[outline->plain_count++] =
        (struct tree_plain){.at = (uint32_t)(token - body), .len = (uint32_t)(token_end - token)};
    add(outline, "0", 1);
    outline->bytes += NUMBER_BYTES;
    return token_end;
}

static const char *draw_string(struct outline *outline, const char *body, const char *token, const char *end) {
    const char *p = skip_plain_string(token, end);
    /* A 0 must not make another token of what is glued to it, as of "…"1. */
    if (p > token && outline->before == ':' && p < end && (*p == ',' || *p == '}' || is_space(*p)))
        return draw_plain(outline, body, token, p);
    if (p > token) {
        add(outline, token, (size_t)(p - token));
    } else {
        p = number_skip_string(token, end);
        add_doubtful(outline, token, (size_t)(p - token));
    }
    outline->string_len = (size_t)(p - token);
    outline->is_name = outline->before == '{' || outline->before == ',';
    outline->bytes += align(outline->string_len + 1) + STRING_BYTES;
    return p;
}

static const char *draw_number(struct outline *outline, const char *body, const char *token, const char *end) {
    struct number number;
    const char *p = token + number_skip_chars(token, end);
    if (number_read(token, p, &number) && number.len == (size_t)(p - token))
        return draw_plain(outline, body, token, p);
    /* With what is glued to it: of "1e1EEx", "EEx" is a token. */
    while (p < end && is_letter(*p))
        p++;
    add_doubtful(outline, token, (size_t)(p - token));
    outline->bytes += NUMBER_BYTES;
    return p;
}

static const char *draw_word(struct outline *outline, const char *token, const char *end) {
    const char *p = token + 1;
    while (p < end && is_letter(*p))
        p++;
    add_doubtful(outline, token, (size_t)(p - token));
    return p;
}

/*
 * It keeps two words apart. At the end, or before what may be no UTF-8, Jansson has come behind it when it finds that.
 */
static const char *draw_space(struct outline *outline, const char *token, const char *end) {
    while (token < end && is_space(*token))
        token++;
    if (!may_have_value(outline) || token == end || (signed char)*token < 0)
        add(outline, " ", 1);
    return token;
}

/* Whether Jansson is done before it reads this one. */
static bool is_beyond(const struct outline *outline, char c) {
    if (c == ':')
        return outline->before != '"' || !outline->is_name;
    if (c == '{' || c == '[')
        return outline->refused || outline->depth == JSON_PARSER_MAX_DEPTH;
    return c != ',' && outline->depth == 0;
}

static const char *draw_punctuation(struct outline *outline, const char *token) {
    outline->beyond = is_beyond(outline, *token);
    if (outline->beyond)
        return token;
    switch (*token) {
    case ':':
        /* So the string was a name, which has no json_string_t. */
        outline->values--;
        outline->bytes += align(PAIR_BYTES + outline->string_len - 2) + GROWTH_BYTES - STRING_BYTES;
        break;
    case ',':
        outline->refused = may_have_value(outline) || outline->before == '{';
        outline->bytes += GROWTH_BYTES;
        break;
    case '{':
    case '[':
        outline->depth++;
        outline->bytes += *token == '{' ? OBJECT_BYTES : ARRAY_BYTES;
        break;
    default:
        outline->depth--;
    }
    add(outline, token, 1);
    return token + 1;
}

static const char *draw_token(struct outline *outline, const char *body, const char *token, const char *end) {
    size_t len = outline->len;
    const char *p;
    if (begins_value(*token)) {
        outline->values++;
        outline->refused = !may_have_value(outline) && !(*token == '"' && outline->before == '{');
    }
    if (*token == '"')
        p = draw_string(outline, body, token, end);
    else if (*token == '-' || (*token >= '0' && *token <= '9'))
        p = draw_number(outline, body, token, end);
    else if (memchr(":,{}[]", *token, 6))
        p = draw_punctuation(outline, token);
    else {
        p = draw_word(outline, token, end);
        outline->refused = outline->refused || !is_letter(*token); /* no token of JSON begins with it */
    }
    len = outline->len - len;
    if (len >= outline->longest)
        outline->longest = len + 1; /* behind a number or a word, Jansson looks at one character more */
    if (p > token)
        outline->before = p[-1];
    return p;
}

/*
 * Draws the outline, up to its character `stop`, SIZE_MAX for all of it; returns where in the body that is. One look at
 * each character. From where Jansson can't get to, the rest is added as it is, so that neither the bound nor the number
 * of values of a body that it refuses early ("{{{{", "{}{}{}", "1 1 1") is beyond those of bodies that it takes.
 */
static const char *draw(struct outline *outline, const char *body, size_t len, size_t stop) {
    const char *p = body, *end = body + len;
    *outline = (struct outline){.text = outline->text, .plain = outline->plain, .longest = 4};
    while (p < end && outline->len < stop && !outline->refused && !outline->beyond &&
           outline->values <= TREE_VALUES_MAX)
        p = is_space(*p) ? draw_space(outline, p, end) : draw_token(outline, body, p, end);
    if (outline->len < stop) {
        add_doubtful(outline, p, (size_t)(end - p));
        p = end;
    }
    size_t lexer = LEXER_BYTES;
    for (outline->bytes += lexer; lexer <= outline->longest; outline->bytes += lexer)
        lexer *= 2;
    return stop < outline->len ? p - (outline->len - stop) : p;
}

/* Line and column of Jansson's error, which are those of the outline, become those of the body. */
static void locate_error(json_error_t *error, struct outline outline, const char *body, size_t len) {
    const char *at = draw(&outline, body, len, (size_t)error->position);
    error->line = 1;
    error->column = 0;
    for (const char *p = body; p < at; p++) {
        error->column += ((unsigned char)*p & 0xc0) != 0x80; /* not for a continuation of a character */
        if (*p == '\n') {
            error->line++;
            error->column = 0;
        }
    }
}

static bool begin_outline(struct outline *outline, struct tree_arena *arena, size_t len) {
    size_t plain_bytes = plain_room(len) * sizeof *outline->plain;
    *outline = (struct outline){.text = NULL};
    if (!arena_reserve(arena, align(plain_bytes) + align(len)))
        return false;
    outline->plain = arena_take(arena, plain_bytes);
    outline->text = arena_take(arena, len);
    return true;
}

size_t tree_memory(const char *body, size_t len) {
    struct tree_arena arena = {.at = NULL};
    struct outline outline;
    if (begin_outline(&outline, &arena, len))
        draw(&outline, body, len, SIZE_MAX);
    arena_fini(&arena);
    return outline.values > TREE_VALUES_MAX ? 0 : outline.bytes;
}

static bool load(struct tree *tree, const char *body, size_t len) {
    struct outline outline;
    if (!begin_outline(&outline, &tree->arena, len))
        return false;
    draw(&outline, body, len, SIZE_MAX);
    tree->values = outline.values;
    tree->plain = outline.plain;
    tree->plain_count = outline.plain_count;
    if (tree_has_too_many_values(tree))
        return true;
    if (!arena_reserve(&tree->arena, outline.bytes))
        return false;
    tree->root = json_loadb(outline.text, outline.len, JSON_REJECT_DUPLICATES, &tree->error);
    if (!tree->root)
        locate_error(&tree->error, outline, body, len);
    return !tree->arena.failed;
}

bool tree_load(struct tree *tree, const char *body, size_t len) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    tree->arena = (struct tree_arena){.at = (char *)tree->block, .left = sizeof tree->block};
    tree->error = (json_error_t){0};
    tree->root = NULL;
    pthread_once(&once, set_up_jansson);
    current_arena = &tree->arena;
    return load(tree, body, len);
}

bool tree_has_too_many_values(const struct tree *tree) {
    return tree->values > TREE_VALUES_MAX;
}

void tree_fini(struct tree *tree) {
    current_arena = NULL;
    arena_fini(&tree->arena);
}
