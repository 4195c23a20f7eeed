#include "https.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { WAIT_S = 5, HOST_SIZE = 256, HEAD_SIZE = 4096 };

struct address {
    char host[HOST_SIZE], port[6];
    const char *path;
};

static bool fail(struct https_answer *answer, const char *what, const char *why) {
    snprintf(answer->failure, sizeof answer->failure, "%s%s%s", what, why ? ": " : "", why ? why : "");
    return false;
}

/* The reason that OpenSSL gives; the system's where it has none. */
static const char *reason(void) {
    int system_error = errno;
    unsigned long error = ERR_get_error();
    const char *text = error != 0 ? ERR_reason_error_string(error) : NULL;
    if (text)
        return text;
    return system_error == EAGAIN || system_error == 0 ? "no answer in time" : strerror(system_error);
}

static bool is_ipv6(const struct address *address) {
    return strchr(address->host, ':') != NULL;
}

static bool take_apart(const char *url, struct address *address) {
    static const char scheme[] = "https://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *host = url + sizeof scheme - 1, *end, *after;
    if (*host == '[') {
        host++;
        end = strchr(host, ']');
        after = end ? end + 1 : NULL;
    } else {
        after = end = host + strcspn(host, ":/");
    }
    if (!end || end == host || (size_t)(end - host) >= sizeof address->host)
        return false;
    snprintf(address->host, sizeof address->host, "%.*s", (int)(end - host), host);
    strcpy(address->port, "443");
    if (*after == ':') {
        size_t len = strspn(++after, "0123456789");
        if (len == 0 || len >= sizeof address->port)
            return false;
        snprintf(address->port, sizeof address->port, "%.*s", (int)len, after);
        after += len;
    }
    address->path = after;
    return *after == '/' && !strpbrk(after, " \r\n#");
}

static int connect_to(const struct address *address, struct https_answer *answer) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const struct timeval wait = {.tv_sec = WAIT_S};
    struct addrinfo *found;
    int error = getaddrinfo(address->host, address->port, &hints, &found);
    if (error != 0) {
        fail(answer, address->host, gai_strerror(error));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        /* Linux bounds connect() by SO_SNDTIMEO too: socket(7). */
        if (fd < 0 || (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0 &&
                       setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0 &&
                       connect(fd, at->ai_addr, at->ai_addrlen) == 0))
            continue;
        error = errno;
        close(fd);
        fd = -1;
        errno = error;
    }
    if (fd < 0)
        fail(answer, "cannot connect", errno == EINPROGRESS ? "no answer in time" : strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static void list_names(const X509 *certificate, struct https_answer *answer) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t len = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const char *space = len > 0 ? " " : "";
        char text[INET6_ADDRSTRLEN] = "";
        int added = 0;
        if (name->type == GEN_DNS)
            added = snprintf(answer->names + len, sizeof answer->names - len, "%s%.*s", space,
                             ASN1_STRING_length(name->d.dNSName), (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        else if (name->type == GEN_IPADD &&
                 inet_ntop(ASN1_STRING_length(name->d.iPAddress) == sizeof(struct in_addr) ? AF_INET : AF_INET6,
                           ASN1_STRING_get0_data(name->d.iPAddress), text, sizeof text))
            added = snprintf(answer->names + len, sizeof answer->names - len, "%s%s", space, text);
        len += (size_t)added;
        if (len >= sizeof answer->names)
            break;
    }
    GENERAL_NAMES_free(names);
}

/* What to do about a certificate that does not verify. */
static const char *remedy_for(long verified, long days_left, int sent) {
    if (days_left < 0 || verified == X509_V_ERR_CERT_HAS_EXPIRED)
        return "renew it, then systemctl reload nginx";
    switch (verified) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "check the clock of this host, or wait until it is valid";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "get one for the host in RECEIPTD_URL, or correct RECEIPTD_URL";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return "get one that senders trust; if they trust this one, set RECEIPTD_CACERT to it";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return sent > 1 ? "get one that senders trust; if they trust its authority, set RECEIPTD_CACERT to that one's"
                        : HTTPS_SEND_CHAIN "; if the authority is your own, set RECEIPTD_CACERT";
    }
    return "replace it: senders refuse it";
}

/*
 * A client that knows only the root has to get the certificates in between from the server, also if this host could do
 * without. Returns the first one that was not sent; NULL: all were.
 */
static const X509 *find_not_sent(SSL *ssl) {
    const STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl), *sent = SSL_get_peer_cert_chain(ssl);
    for (int i = 1; i < sk_X509_num(chain) - 1; i++) {
        bool was_sent = false;
        for (int j = 0; j < sk_X509_num(sent) && !was_sent; j++)
            was_sent = X509_cmp(sk_X509_value(chain, i), sk_X509_value(sent, j)) == 0;
        if (!was_sent)
            return sk_X509_value(chain, i);
    }
    return NULL;
}

static void judge_chain(SSL *ssl, struct https_answer *answer) {
    const X509 *missing = find_not_sent(ssl);
    char name[64] = "";
    if (!missing)
        return;
    X509_NAME_get_text_by_NID(X509_get_subject_name(missing), NID_commonName, name, sizeof name);
    snprintf(answer->certificate, sizeof answer->certificate, "the server does not send the intermediate one \"%s\"",
             name);
    answer->remedy = HTTPS_SEND_CHAIN;
}

static void judge_certificate(SSL *ssl, struct https_answer *answer) {
    X509 *certificate = SSL_get1_peer_certificate(ssl);
    long verified = SSL_get_verify_result(ssl);
    int days = 0, seconds = 0;
    if (!certificate)
        return;
    answer->has_certificate = true;
    list_names(certificate, answer);
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) == 1)
        answer->days_left = days < 0 || seconds < 0 ? days - 1 : days;
    if (verified != X509_V_OK) {
        snprintf(answer->certificate, sizeof answer->certificate, "%s", X509_verify_cert_error_string(verified));
        answer->remedy = remedy_for(verified, answer->days_left, sk_X509_num(SSL_get_peer_cert_chain(ssl)));
    } else {
        judge_chain(ssl, answer);
    }
    X509_free(certificate);
}

static bool ask(SSL *ssl, const struct address *address, struct https_answer *answer) {
    static const char version[] = "HTTP/1.";
    char text[HEAD_SIZE];
    size_t len = 0;
    int sent =
        snprintf(text, sizeof text,
                 "GET %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nUser-Agent: receiptd-doctor/" RECEIPTD_VERSION
                 "\r\nX-Receiptd-Doctor: 1\r\nConnection: close\r\n\r\n",
                 address->path, is_ipv6(address) ? "[" : "", address->host, is_ipv6(address) ? "]" : "", address->port);
    if (sent < 0 || (size_t)sent >= sizeof text)
        return fail(answer, "the address is too long", NULL);
    if (SSL_write(ssl, text, sent) != sent)
        return fail(answer, "the request cannot be sent", reason());
    text[0] = '\0';
    while (!strstr(text, "\r\n\r\n") && len < sizeof text - 1) {
        int got = SSL_read(ssl, text + len, (int)(sizeof text - 1 - len));
        if (got <= 0)
            return fail(answer, "no answer", reason());
        len += (size_t)got;
        text[len] = '\0';
    }
    if (strncmp(text, version, sizeof version - 1) != 0)
        return fail(answer, "the answer is not HTTP", NULL);
    answer->status = (int)strtol(text + sizeof version + 1, NULL, 10);
    return true;
}

static bool prepare(SSL *ssl, const struct address *address) {
    unsigned char ip[sizeof(struct in6_addr)];
    bool is_ip = inet_pton(AF_INET, address->host, ip) == 1 || inet_pton(AF_INET6, address->host, ip) == 1;
    if (is_ip)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), address->host) == 1;
    return SSL_set1_host(ssl, address->host) == 1 && SSL_set_tlsext_host_name(ssl, address->host) == 1;
}

/* Loads the certificates to trust. */
static bool load_trusted(SSL_CTX *context, const char *ca_file, struct https_answer *answer) {
    if ((ca_file ? SSL_CTX_load_verify_locations(context, ca_file, NULL) : SSL_CTX_set_default_verify_paths(context)) ==
        1)
        return true;
    fail(answer, ca_file ? ca_file : "certificates to trust", reason());
    answer->failure_remedy = "RECEIPTD_CACERT must name a readable file with certificates (PEM); without it, the "
                             "package ca-certificates has the system's";
    return false;
}

/* Connects and shakes hands, up to a version of TLS (0: any). The caller frees both, with close_connection. */
static SSL *open_connection(const char *url, const char *ca_file, int newest, struct address *address,
                            struct https_answer *answer) {
    if (!take_apart(url, address)) {
        fail(answer, "the address has to be https://HOST[:PORT]/PATH", NULL);
        answer->failure_remedy = "correct RECEIPTD_URL";
        return NULL;
    }
    int fd = connect_to(address, answer);
    if (fd < 0)
        return NULL;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;
    errno = 0;
    bool ready = context && SSL_CTX_set_max_proto_version(context, newest) == 1;
    bool trusts = ready && load_trusted(context, ca_file, answer);
    if (!ready || (trusts && (!(ssl = SSL_new(context)) || !prepare(ssl, address) || SSL_set_fd(ssl, fd) != 1 ||
                              SSL_connect(ssl) != 1)))
        fail(answer, "TLS", reason());
    SSL_CTX_free(context);
    if (answer->failure[0]) {
        SSL_free(ssl);
        close(fd);
        return NULL;
    }
    return ssl;
}

static void close_connection(SSL *ssl) {
    int fd = SSL_get_fd(ssl);
    SSL_free(ssl);
    close(fd);
}

bool https_get(const char *url, const char *ca_file, struct https_answer *answer) {
    struct address address;
    *answer = (struct https_answer){0};
    SSL *ssl = open_connection(url, ca_file, 0, &address, answer);
    if (!ssl)
        return false;
    judge_certificate(ssl, answer);
    bool answered = ask(ssl, &address, answer);
    close_connection(ssl);
    return answered;
}

bool https_accepts_tls_1_2(const char *url, const char *ca_file, struct https_answer *answer) {
    struct address address;
    *answer = (struct https_answer){0};
    SSL *ssl = open_connection(url, ca_file, TLS1_2_VERSION, &address, answer);
    if (ssl)
        close_connection(ssl);
    return ssl != NULL;
}
