/*
 * The tree that Jansson makes of a body, in memory of ours.
 *
 * Jansson reads an outline of the body: the body without white space between tokens, with a 0 in place of each plain
 * value. A plain value is a number, or a string member without escapes and all in ASCII; its text is what stands in the
 * body. So Jansson, which takes 12 ns for each character, reads a third less of a receipt, and no number has to fit a
 * type of C. Whatever is not plain, all names, and the grammar are Jansson's to judge.
 *
 * Jansson allocates a tree in a hundred small pieces, and where one can't be had it may go on without it: its lexer
 * drops a character (strbuffer_append_byte's result is ignored), calls the token invalid, or ends the process, since
 * what it reads back does not fit what it asserts. So it gets an allocator of ours, which has all that the outline can
 * take before Jansson begins, and which is as quick as adding to a pointer: a tree is given back as a whole.
 *
 * Threads: any, each with one tree at a time.
 */
#ifndef RECEIPTD_TREE_H
#define RECEIPTD_TREE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TREE_STACK_BYTES = 24 * 1024,
    /*
     * JSON values in a body, at most (RFC 8259, section 9, allows a limit). A receipt has 32. PostgreSQL takes 650
     * bytes and 0.7 µs for an empty object, so that with this limit the most expensive values cost less than the most
     * expensive text of 1 MiB (random letters: 12 MB and 30 ms). Without it, 1 MiB of "{},{},…" took 230 MB there, and
     * 84 MB here.
     */
    TREE_VALUES_MAX = 10000,
};

struct tree_arena {
    char *at;
    size_t left;
    struct tree_chunk *chunks; /* what did not fit into the block */
    bool failed;
};

/* A plain value as it stands in the body, a string with its quotes. */
struct tree_plain {
    uint32_t at, len;
};

/* Meant for the stack. */
struct tree {
    json_t *root;             /* never to be given back with json_decref: tree_fini takes all of it */
    json_error_t error;       /* if root is NULL; line and column are those of the body */
    size_t values;            /* in the body, if it is JSON; names are none */
    struct tree_plain *plain; /* for each JSON_INTEGER of the tree, in order */
    size_t plain_count;
    struct tree_arena arena;
    max_align_t block[TREE_STACK_BYTES / sizeof(max_align_t)];
};

/* Reads a body, unless it has too many values. False when memory runs out. tree_fini is due in any case. */
bool tree_load(struct tree *tree, const char *body, size_t len);
bool tree_has_too_many_values(const struct tree *tree);
void tree_fini(struct tree *tree);

/*
 * At most so many bytes are used for the tree of `body`, besides the outline; they are allocated before it is begun.
 * Ten or so for each byte of a receipt, on the stack up to 24 KiB in all. TREE_VALUES_MAX bounds the rest: 6 MiB for
 * the worst body. 0 when memory runs out.
 */
size_t tree_memory(const char *body, size_t len);

#endif
