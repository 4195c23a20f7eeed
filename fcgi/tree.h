/*
 * The tree that Jansson makes of a body, in memory of ours.
 *
 * Jansson allocates a tree in a hundred small pieces, and where one can't be had it may go on without it: its lexer
 * drops a character (strbuffer_append_byte's result is ignored), calls the token invalid, or ends the process, since
 * what it reads back does not fit what it asserts. So it gets an allocator of ours, which has all that the body can
 * take before Jansson begins (survey_body), and which is as quick as adding to a pointer: a tree is given back as a
 * whole.
 *
 * Threads: any, each with one tree at a time.
 */
#ifndef RECEIPTD_TREE_H
#define RECEIPTD_TREE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

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

/* Meant for the stack. */
struct tree {
    json_t *root;       /* never to be given back with json_decref: tree_fini takes all of it */
    json_error_t error; /* where root is NULL; positions are those of the body */
    size_t values;      /* in the body, if it is JSON; names are none */
    struct tree_arena arena;
    max_align_t block[TREE_STACK_BYTES / sizeof(max_align_t)];
};

/*
 * Reads a body. Integers that Jansson cannot represent, and all other numbers, become zeros: their text is in the body.
 * A body with too many values is not read. False when there is no memory. tree_fini is due in any case.
 */
bool tree_load(struct tree *tree, const char *body, size_t len);
bool tree_has_too_many_values(const struct tree *tree);
void tree_fini(struct tree *tree);

/*
 * At most so many bytes are used for the tree of `body`; they are allocated before it is begun. Ten or so for each byte
 * of a receipt, on the stack up to 24 KiB in all. TREE_VALUES_MAX bounds the rest: 6 MiB for the worst body.
 */
size_t tree_memory(const char *body, size_t len);

#endif
