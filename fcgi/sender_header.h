/*
 * Headers by which the sender's support and its tracing identify a delivery (traceparent: W3C Trace Context). Where
 * they are sent they are logged, and stored with the receipt or the rejection. They are no content: another value
 * revises nothing.
 *
 * Threads: any; the table is constant.
 */
#ifndef RECEIPTD_SENDER_HEADER_H
#define RECEIPTD_SENDER_HEADER_H

/* An identifier; the CGI variable; the name in the column sender_headers; the name in the log. */
#define SENDER_HEADERS(HEADER)                                                                                         \
    HEADER(OPTITURN_ID, "HTTP_X_OPTITURN_ID", "x-optiturn-id", "optiturn_id")                                          \
    HEADER(OPTITURN_API_VERSION, "HTTP_X_OPTITURN_API_VERSION", "x-optiturn-api-version", "optiturn_api_version")      \
    HEADER(TRACEPARENT, "HTTP_TRACEPARENT", "traceparent", "traceparent")

enum sender_header_id {
#define HEADER(id_, ...) SENDER_HEADER_##id_,
    SENDER_HEADERS(HEADER)
#undef HEADER
        SENDER_HEADER_COUNT
};

enum { SENDER_HEADER_MAX_BYTES = 255 }; /* of a value; the rest is cut off */

struct sender_header {
    const char *parameter, *name, *log_name;
};

extern const struct sender_header sender_headers[SENDER_HEADER_COUNT];

/*
 * A copy of a value as it is kept: printable ASCII, other bytes as "?". The caller frees it. NULL when memory runs out.
 */
char *sender_header_copy(const char *value);

#endif
