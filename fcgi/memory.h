/*
 * How much memory a worker can come to take, whatever it is sent: what the bounds of all modules add up to.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_MEMORY_H
#define RECEIPTD_MEMORY_H

#include "config.h"

#include <stddef.h>

/* In bytes. deploy/systemd/receiptd@.service allows more than that for the defaults of every host. */
size_t memory_max(const struct config *config);

#endif
