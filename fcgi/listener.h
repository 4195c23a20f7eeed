/*
 * The listening socket: handed over on descriptor 0 (FastCGI specification, section 2.2), handed over by systemd
 * (sd_listen_fds(3)), or made here.
 *
 * Threads: only before others start, since umask and the environment are the process's.
 */
#ifndef RECEIPTD_LISTENER_H
#define RECEIPTD_LISTENER_H

#include <stddef.h>

/*
 * Makes a UNIX socket at `path` that the owner and the group may connect to (mode 0660), replacing one that nobody
 * listens on any more; one of which that is not certain stays. Returns the descriptor, or -1 with `error` filled.
 */
int listener_open(const char *path, char *error, size_t error_size);

/* Finds the socket that was handed over. Returns the descriptor, or -1 with `error` filled. */
int listener_inherit(char *error, size_t error_size);

#endif
