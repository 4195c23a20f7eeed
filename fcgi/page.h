/*
 * What an operator asks the worker for, over the same socket: whether it lives, whether it is ready, and its figures.
 * Which page is meant says a parameter that only nginx/receiptd-health.conf sets (RECEIPTD_PAGE).
 *
 * Threads: works on its arguments, and reads what metrics.c has counted.
 */
#ifndef RECEIPTD_PAGE_H
#define RECEIPTD_PAGE_H

#include "buffer.h"
#include "group_commit.h"
#include "metrics.h"
#include "probe.h"

#include <stdbool.h>

enum { PAGE_REASONS_SIZE = 2048 };

/* What the pages are about. */
struct page_state {
    struct metrics_gauges gauges; /* but for ready, which page_judge sets */
    const char *refusal;          /* why the worker cannot start; NULL: it has */
    bool draining;
    bool database_answers; /* it has taken a batch, or a probe, lately */
    bool database_takes_writes;
    struct probe_findings database;
    struct standstill standstill;
};

/* Sets gauges.ready, and writes why it is false, on one line, separated by "; "; empty when it is true. */
void page_judge(struct page_state *state, char reasons[PAGE_REASONS_SIZE]);

/* Appends the page as a CGI response: "live", "ready" or "metrics"; any other is not found. */
void page_write(struct buffer *out, const char *page, struct page_state *state);

/*
 * Appends the answer to "reload", which is no page: whether the API keys were read again. Text, which begins with
 * PAGE_RELOADED if they were, and else is the problem.
 */
#define PAGE_RELOADED "read the API keys again: "
void page_write_reload(struct buffer *out, size_t key_count, const char *problem);

#endif
