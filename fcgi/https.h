/*
 * One GET over HTTPS, for receiptd doctor: what the server's certificate says, and what it answers.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_HTTPS_H
#define RECEIPTD_HTTPS_H

#include <stdbool.h>

struct https_answer {
    char failure[512]; /* why there is no answer; "" when there is one */
    bool has_certificate;
    char names[256];       /* of the certificate, separated by blanks */
    char certificate[128]; /* why a client would not trust it under that name; "" when it would */
    long days_left;        /* until it ends; negative: since it ended */
    int status;            /* of HTTP */
};

/*
 * Sends GET to an address https://HOST[:PORT]/PATH. `ca_file` has the certificates to trust; NULL: the system's. Waits
 * a few seconds, at each step. The certificate is judged, and the request sent all the same. True when there was an
 * answer.
 */
bool https_get(const char *url, const char *ca_file, struct https_answer *answer);

#endif
