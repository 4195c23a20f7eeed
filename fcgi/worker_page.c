#include "worker_page.h"

#include "records.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ANSWER_S = 3,
    REQUEST_ID = 1,
    /* FastCGI 1.0, section 8 */
    VERSION = 1,
    BEGIN_REQUEST = 1,
    END_REQUEST = 3,
    PARAMS = 4,
    STDIN = 5,
    STDOUT = 6,
    RESPONDER = 1,
};

static void append_record(struct buffer *out, char type, const struct buffer *content) {
    size_t len = content ? content->len : 0;
    const char header[RECORDS_HEADER_BYTES] = {VERSION, type, 0, REQUEST_ID, (char)(len >> 8), (char)len};
    buffer_append(out, header, sizeof header);
    if (len > 0)
        buffer_append(out, content->data, len);
}

/* Names and values are shorter than 128 bytes. */
static void append_pair(struct buffer *out, const char *name, const char *value) {
    const char lengths[] = {(char)strlen(name), (char)strlen(value)};
    buffer_append(out, lengths, sizeof lengths);
    buffer_append_text(out, name);
    buffer_append_text(out, value);
}

static bool send_request(int fd, const char *page) {
    struct buffer request, content;
    buffer_init(&request);
    buffer_init(&content);
    const char begin[] = {0, RESPONDER, 0, 0, 0, 0, 0, 0};
    buffer_append(&content, begin, sizeof begin);
    append_record(&request, BEGIN_REQUEST, &content);
    content.len = 0;
    append_pair(&content, "REQUEST_METHOD", "GET");
    append_pair(&content, "RECEIPTD_PAGE", page);
    append_record(&request, PARAMS, &content);
    append_record(&request, PARAMS, NULL);
    append_record(&request, STDIN, NULL);
    errno = ENOMEM;
    bool sent =
        !request.failed && !content.failed && send(fd, request.data, request.len, MSG_NOSIGNAL) == (ssize_t)request.len;
    buffer_fini(&content);
    buffer_fini(&request);
    return sent;
}

static bool receive(int fd, char *bytes, size_t len) {
    while (len > 0) {
        ssize_t got = recv(fd, bytes, len, 0);
        if (got <= 0) {
            if (got == 0)
                errno = EPROTO;
            return false;
        }
        bytes += got;
        len -= (size_t)got;
    }
    return true;
}

static bool receive_answer(int fd, struct buffer *answer) {
    char header[RECORDS_HEADER_BYTES], content[UINT16_MAX + UINT8_MAX];
    while (receive(fd, header, sizeof header)) {
        size_t len = records_content_len(header);
        if (header[0] != VERSION) {
            errno = EPROTO;
            return false;
        }
        if (!receive(fd, content, len + (unsigned char)header[6]))
            return false;
        if (header[1] == END_REQUEST)
            return true;
        if (header[1] == STDOUT)
            buffer_append(answer, content, len);
    }
    return false;
}

bool worker_page_get(const char *socket_path, const char *page, struct buffer *body) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval wait = {.tv_sec = ANSWER_S};
    if (strlen(socket_path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(address.sun_path, socket_path, strlen(socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    struct buffer answer;
    buffer_init(&answer);
    bool got = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0 &&
               setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0 &&
               connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 && send_request(fd, page) &&
               receive_answer(fd, &answer);
    int error = errno;
    close(fd);
    if (got) {
        buffer_append(&answer, "", 1);
        const char *end = answer.failed ? NULL : strstr(answer.data, "\r\n\r\n");
        error = answer.failed ? ENOMEM : EPROTO;
        got = end != NULL;
        if (got)
            buffer_append(body, end + 4, answer.len - (size_t)(end + 4 - answer.data));
        if (body->failed) {
            error = ENOMEM;
            got = false;
        }
    }
    buffer_fini(&answer);
    errno = error;
    return got;
}
