/*
 * receiptd doctor: looks at everything between the sender and the disk, in the order of the path, and changes nothing.
 *
 * Threads: the only one of its process, whose environment and effective user it may set.
 */
#ifndef RECEIPTD_DOCTOR_H
#define RECEIPTD_DOCTOR_H

#include "findings.h"

struct doctor_options {
    bool json;
    const char *environment_file; /* of the workers; NULL: see service_take_environment */
    char *const *sockets;         /* the workers', up to a NULL; none: those in /run/receiptd */
};

/* Writes what it finds to `out`. Returns the worst of it. */
enum finding doctor(const struct doctor_options *options, FILE *out);

#endif
