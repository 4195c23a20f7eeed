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

enum { TREE_STACK_BYTES = 24 * 1024 };

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
    struct tree_arena arena;
    max_align_t block[TREE_STACK_BYTES / sizeof(max_align_t)];
};

/*
 * Reads a body. Integers that Jansson cannot represent, and all other numbers, become zeros: their text is in the body.
 * False when there is no memory. tree_fini is due in any case.
 */
bool tree_load(struct tree *tree, const char *body, size_t len);
void tree_fini(struct tree *tree);

/*
 * At most so many bytes are used for the tree of `body`; they are had before it is begun. Ten or so for each byte of a
 * receipt, on the stack up to 24 KiB in all, and 80 for each of the worst body ("{},{},{},…").
 */
size_t tree_memory(const char *body, size_t len);

#endif
