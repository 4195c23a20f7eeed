/*
 * One request in, and either an answer at once or something to be stored: method, key, size, content type, JSON,
 * fields, checked in that order (CONTRACT.md). Stored before it is answered is a receipt, and also what is rejected as
 * malformed or invalid, since the sender will not send it again.
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
    const char *content_type;                 /* NULL when it was not sent */
    const char *content_encoding;             /* the same */
    const char *request_id;                   /* as given by the web server; NULL when it was not */
    const char *remote_user;                  /* who the web server says the sender is; NULL when it does not */
    int64_t arrived_us;                       /* when it was there in whole, CLOCK_MONOTONIC; 0: just now */
    const char *examination;                  /* set when it comes from receiptd doctor; else NULL */
    const char *page;                         /* what an operator asks for instead (page.h); else NULL */
    const char *headers[SENDER_HEADER_COUNT]; /* NULL when they were not sent */
    struct request_credential credentials[REQUEST_MAX_CREDENTIALS];
    size_t credential_count; /* may exceed REQUEST_MAX_CREDENTIALS: then not all of them are listed */
    const char *body;
    size_t body_len; /* more than BODY_MAX_BYTES: too large; not all of the body need be there */
};

struct handler {
    bool remote_user;      /* the web server says who a sender is; else an API key does */
    struct api_keys *keys; /* NULL where that is so */
    int64_t deadline_us;   /* how long a delivery may take */
    struct receipt_rules rules;
    bool accept_invalid; /* what is rejected is answered 200 once it is stored */
};

/*
 * Fills in the zeroed `delivery`. True: it has to be stored, as a receipt or, with a rejection set, as a rejected one.
 * False: its outcome is the answer. In both cases the caller calls delivery_fini in the end.
 */
bool handler_handle(const struct handler *handler, const struct request *request, struct delivery *delivery);

/*
 * Sets the delivery's request id: the one given if it is one (request_id.h), else a random
 * one, since it decides which delivery is told 201. False when the system has no randomness.
 */
bool handler_set_request_id(struct delivery *delivery, const char *given);

/* Keeps the sender's headers, those that are not NULL, with the delivery. False when memory runs out. */
bool handler_keep_headers(const char *const headers[SENDER_HEADER_COUNT], struct delivery *delivery);

/*
 * Only the last two steps, JSON and fields, of a body that was stored. True: delivery->receipt is valid. False: either
 * rejection or, with that unset, failure says why. Of a rejected body that was compressed, delivery->body is what it
 * was before: erase_people and whoever reads rejected_receipts look for text.
 */
bool handler_read_body(const struct handler *handler, const char *body, size_t len, struct delivery *delivery);

#endif
