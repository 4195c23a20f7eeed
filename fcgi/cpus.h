/*
 * How many processors the process may use.
 *
 * Threads: any.
 */
#ifndef RECEIPTD_CPUS_H
#define RECEIPTD_CPUS_H

/* Those of its affinity mask, or fewer, where its control groups limit its processor time to less; at least 1. */
unsigned cpus_usable(void);

/*
 * How many processors' time the control groups in the file `groups` (as /proc/self/cgroup) allow at the most, rounded
 * up; UINT_MAX when they set no limit. `mounted` is where their hierarchies are mounted (as /sys/fs/cgroup).
 */
unsigned cpus_limit(const char *groups, const char *mounted);

#endif
