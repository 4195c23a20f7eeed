/*
 * Asks a running worker for one of its pages (page.h), over its FastCGI socket, as nginx does.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_WORKER_PAGE_H
#define RECEIPTD_WORKER_PAGE_H

#include "buffer.h"

#include <stdbool.h>

/*
 * Appends the body of the page to `body`, with a NUL behind it. False, with errno set, when the worker cannot be
 * reached or does not answer within a few seconds; EPROTO when it is no FastCGI.
 */
bool worker_page_get(const char *socket_path, const char *page, struct buffer *body);

#endif
