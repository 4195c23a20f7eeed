/*
 * One GET over HTTPS, for receiptd doctor: what the server's certificate says, and what it answers.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_HTTPS_H
#define RECEIPTD_HTTPS_H

#include <stdbool.h>

#define HTTPS_SEND_CHAIN                                                                                               \
    "senders cannot check it: let ssl_certificate name a file with the certificate and the intermediate ones below it"

struct https_answer {
    char failure[512];          /* why there is no answer; "" when there is one */
    const char *failure_remedy; /* what to do about that; NULL: the server is at fault, or the way to it */
    bool has_certificate;
    char names[256];       /* of the certificate, separated by blanks */
    char certificate[128]; /* why a client would not trust it under that name; "" when it would */
    const char *remedy;    /* what to do about that */
    long days_left;        /* until it ends; negative: since it ended */
    int status;            /* of HTTP */
};

/*
 * Sends GET to an address https://HOST[:PORT]/PATH. `ca_file` has the certificates to trust; NULL: the system's. Waits
 * a few seconds, at each step. The certificate is judged, and the request sent all the same. True when there was an
 * answer.
 */
bool https_get(const char *url, const char *ca_file, struct https_answer *answer);

/* Whether the server also accepts TLS 1.2; answer->failure says why it does not. */
bool https_accepts_tls_1_2(const char *url, const char *ca_file, struct https_answer *answer);

#endif
