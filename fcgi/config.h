/*
 * The configuration: RECEIPTD_… environment variables, read and checked once, at the start.
 *
 * Threads: read by one, before the others start; constant from then on.
 */
#ifndef RECEIPTD_CONFIG_H
#define RECEIPTD_CONFIG_H

#include "log.h"
#include "retries.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct config {
    const char *keys_file; /* the environment's own memory */
    bool remote_user;      /* the web server says who a sender is; else an API key does */
    unsigned threads;
    unsigned pg_connections;
    unsigned batch_max;
    unsigned log_one_in; /* see log_set_sampling */
    unsigned queue_max;
    size_t queue_max_bytes; /* of each of the two queues: receipts, and rejected deliveries */
    unsigned deadline_ms;
    enum log_level log_level;
    bool require_standby; /* no final answer unless the commit waited for a synchronous standby */
    bool prepared_statements;
    bool core_dumps;
    bool accept_invalid;
    const char *extra_conditions; /* separated by commas; the environment's own memory, as the next */
    const char *extra_reference_types;
    bool keep_newer; /* an older version that is delivered late does not replace a newer one */
    struct retries sender_retries;
    const char *ignored_fields; /* of extra, likewise: they are no content */
    const char *url;            /* the sender's, for doctor; "" where it is not known */
    const char *ca_file;        /* whom to trust there; "": the system's */
};

/*
 * Fills `config` from `environment` (as in environ). False when a value is bad, a required one is missing or a
 * RECEIPTD_… variable is unknown; every such finding is written to `errors`, a line each, naming the variable.
 */
bool config_load(struct config *config, char *const *environment, FILE *errors);

/* The defaults of two variables where so many processors can be used (see cpus.h). */
unsigned config_default_threads(unsigned cpus);
unsigned config_default_pg_connections(unsigned cpus);

/* Writes every variable with its meaning, range and default. */
void config_describe(FILE *out);

#endif
