/*
 * One request in, and either an answer at once or a receipt to be stored: method, key, size, content type, JSON,
 * fields, checked in that order (contract.md).
 *
 * Threads: any number at a time on one handler.
 */
#ifndef RECEIPTD_HANDLER_H
#define RECEIPTD_HANDLER_H

#include "api_keys.h"
#include "delivery.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BODY_MAX_BYTES = 1024 * 1024, REQUEST_MAX_CREDENTIALS = 8 };

/* A header that may carry an API key. */
struct request_credential {
    const char *value;
    bool authorization; /* the Authorization header, with its scheme; else the value is the key itself */
};

/* What the handler needs of an HTTP request; all pointers are the server's and good during the call. */
struct request {
    const char *method;
    const char *content_type; /* NULL when it was not sent */
    const char *request_id;   /* as given by the web server; NULL when it was not */
    struct request_credential credentials[REQUEST_MAX_CREDENTIALS];
    size_t credential_count; /* may exceed REQUEST_MAX_CREDENTIALS: then not all of them are listed */
    const char *body;
    size_t body_len; /* more than BODY_MAX_BYTES: too large; not all of the body need be there */
};

struct handler {
    struct api_keys *keys;
    int64_t deadline_us; /* how long a delivery may take */
};

/*
 * Fills in the zeroed `delivery`. True: its receipt is valid and has to be stored. False: its outcome is the answer. In
 * both cases the caller frees delivery->receipt with receipt_fini in the end.
 */
bool handler_handle(const struct handler *handler, const struct request *request, struct delivery *delivery);

#endif
