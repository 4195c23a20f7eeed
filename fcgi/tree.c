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

static void *arena_malloc(size_t size) {
    struct tree_arena *arena = current_arena;
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

enum { JANSSON_SAFE_DIGITS = 18 }; /* any integer of so many characters fits json_int_t */

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
    while (number_next(&at, body + len, &number)) {
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
    bool safe;     /* Jansson can represent every number, and sees every NUL */
    size_t bytes;  /* what it allocates, at most */
    size_t values; /* that the body has, if it is JSON; names are none */
};

/* Whether a value may stand behind `before`, the last character of the token before it. */
static bool may_precede_value(char before) {
    return before == '\0' || before == '[' || before == ',' || before == ':';
}

static bool is_letter(char c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool begins_value(char c) {
    return c == '{' || c == '[' || c == '"' || c == '-' || (c >= '0' && c <= '9') || is_letter(c);
}

/*
 * One look at each character. It ends where Jansson can't get to, so that neither the bound nor the number of values of
 * a body that it refuses early ("{{{{", "{}{}{}", "1 1 1") is beyond those of bodies that it takes.
 */
static struct survey survey_body(const char *body, size_t len) {
    struct survey survey = {.safe = !memchr(body, '\0', len)};
    const char *p = body, *end = body + len;
    size_t longest = 4; /* bytes of a token; of what is none, Jansson keeps a whole character */
    size_t depth = 0, string_len = 0;
    char before = '\0';
    bool is_name = false; /* the last string may be one */
    bool refused = false; /* Jansson reads this token, and no other */
    struct number number;
    while (p < end && !refused) {
        const char *token = p;
        if (begins_value(*p)) {
            survey.values++;
            refused = !may_precede_value(before) && !(*p == '"' && before == '{');
        }
        switch (*p) {
        case ' ':
        case '\t':
        case '\n':
        case '\r':
            p++;
            continue;
        case '"':
            p = number_skip_string(p, end);
            string_len = (size_t)(p - token);
            is_name = before == '{' || before == ',';
            survey.bytes += align(string_len + 1) + STRING_BYTES;
            break;
        case ':':
            if (before != '"' || !is_name)
                goto out;
            /* So the string was a name, which has no json_string_t. */
            survey.values--;
            survey.bytes += align(PAIR_BYTES + string_len - 2) + GROWTH_BYTES - STRING_BYTES;
            p++;
            break;
        case ',':
            survey.bytes += GROWTH_BYTES;
            refused = may_precede_value(before) || before == '{';
            p++;
            break;
        case '{':
        case '[':
            if (refused || depth++ == JSON_PARSER_MAX_DEPTH)
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
            p += number_skip_chars(p, end);
            if (number_read(token, p, &number) && number.len == (size_t)(p - token) && !jansson_takes(&number))
                survey.safe = false;
            /* With what is glued to it: of "1e1EEx", "EEx" is a token. */
            while (p < end && is_letter(*p))
                p++;
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

size_t tree_memory(const char *body, size_t len) {
    struct survey survey = survey_body(body, len);
    return survey.values > TREE_VALUES_MAX ? 0 : survey.bytes;
}

static bool load(struct tree *tree, const char *body, size_t len) {
    struct survey survey = survey_body(body, len);
    char *copy = NULL;
    tree->values = survey.values;
    if (tree_has_too_many_values(tree))
        return true;
    if (!arena_reserve(&tree->arena, survey.bytes))
        return false;
    if (!survey.safe) {
        copy = copy_made_safe(body, len);
        if (!copy)
            return false;
    }
    tree->root = json_loadb(copy ? copy : body, len, JSON_REJECT_DUPLICATES, &tree->error);
    free(copy);
    return !tree->arena.failed;
}

bool tree_load(struct tree *tree, const char *body, size_t len) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    tree->arena = (struct tree_arena){.at = (char *)tree->block, .left = sizeof tree->block};
    tree->error = (json_error_t){0};
    tree->values = 0;
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
