#include "listener.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* As many as Linux allows by default (net.core.somaxconn): a full backlog is an instant 502 from nginx. */
enum { BACKLOG = 4096 };

/*
 * Removes the socket at the address if nobody listens there any more, which a refused connection alone says. What is
 * gone by now is left to others, who may be making theirs. False, with `error` filled, after any other answer: it may
 * come of a socket that is in use, with a full backlog, or not ours to connect to.
 */
static bool make_way(const struct sockaddr_un *address, char *error, size_t error_size) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* a full backlog is not waited for */
    int failure = fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    if (failure == ECONNREFUSED)
        unlink(address->sun_path);
    if (failure == ECONNREFUSED || failure == ENOENT)
        return true;
    if (failure == 0 || failure == EAGAIN)
        snprintf(error, error_size, "another process listens on %s", address->sun_path);
    else
        snprintf(error, error_size, "%s exists, and whether somebody listens cannot be found out: %s",
                 address->sun_path, strerror(failure));
    return false;
}

/* A bound socket with mode 0660; by umask, since a chmod would come after the first client could connect. */
static int bind_socket(const struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    mode_t mask = umask(0117);
    int bound = bind(fd, (const struct sockaddr *)address, sizeof *address);
    umask(mask);
    if (bound == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int listener_open(const char *path, char *error, size_t error_size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(error, error_size, "%s: a socket's path may have at most %zu characters", path,
                 sizeof address.sun_path - 1);
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = bind_socket(&address);
    if (fd < 0 && errno == EADDRINUSE) {
        if (lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
            snprintf(error, error_size, "%s exists and is no socket", path);
            return -1;
        }
        if (!make_way(&address, error, error_size))
            return -1;
        fd = bind_socket(&address);
    }
    if (fd < 0)
        snprintf(error, error_size, "cannot listen on %s: %s", path, strerror(errno));
    return fd;
}

int listener_inherit(char *error, size_t error_size) {
    int count = sd_listen_fds(1);
    if (count > 1) {
        snprintf(error, error_size, "systemd handed over %d sockets; one is needed", count);
        return -1;
    }
    int fd = count == 1 ? SD_LISTEN_FDS_START : STDIN_FILENO;
    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
        snprintf(error, error_size,
                 "no listening socket: name one with --listen PATH, or start receiptd with one on descriptor 0 or by "
                 "systemd");
        return -1;
    }
    return fd;
}
