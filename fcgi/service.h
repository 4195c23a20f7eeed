/*
 * For the commands that an operator calls: the environment of the workers, and their user, so that what a command sees
 * and may do is what the workers do.
 *
 * Threads: before there are others than the first.
 */
#ifndef RECEIPTD_SERVICE_H
#define RECEIPTD_SERVICE_H

#include <stdbool.h>
#include <sys/types.h>

#define SERVICE_ENVIRONMENT "/etc/receiptd/receiptd.env"
#define SERVICE_USER "receiptd"

struct service {
    const char *file; /* where the environment is from; NULL: the process's own, which stays as it is */
    bool has_user;    /* whether to become the user of the workers, who is: */
    uid_t uid;
    gid_t gid;
    unsigned wrong_line; /* the first line of the file that is not NAME=value, so that systemd ignores it; 0: none is */
    char wrong_text[80]; /* its beginning */
};

/*
 * Takes the environment of a file as in systemd's EnvironmentFile=, instead of the process's own except PATH and
 * TMPDIR, and the password file beside it (pgpass), as the workers' units do. NULL: SERVICE_ENVIRONMENT, unless the
 * process's own has RECEIPTD_KEYS_FILE or RECEIPTD_AUTH. False, with errno set and service->file the name, when it
 * cannot be read; then nothing has changed.
 */
bool service_take_environment(struct service *service, const char *file);

/* Root becomes SERVICE_USER, where there is one and a file was taken; and root again. False with errno set. */
bool service_become(const struct service *service);
bool service_become_root(const struct service *service);

#endif
