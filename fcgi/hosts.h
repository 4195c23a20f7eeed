/*
 * The hosts of PGHOST or of a libpq service: in which order to try them, and which of them is not the primary any more.
 *
 * libpq takes the first host that accepts writes. That is not enough: after a failover the old primary may still accept
 * connections and writes, though its commits wait for a standby for ever, or are lost when it rejoins. So a host that
 * did not answer in time is tried last for a while, and one whose timeline is behind another's is refused.
 *
 * Threads: any; hosts_new and hosts_free from one.
 */
#ifndef RECEIPTD_HOSTS_H
#define RECEIPTD_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HOSTS_MAX = 32 }; /* of PGHOST; with more, libpq's own order is used */

struct hosts;

/* Takes the three lists as libpq has them (libpq: "Specifying Multiple Hosts"); NULL or "": not set. NULL: no memory.
 */
struct hosts *hosts_new(const char *names, const char *addresses, const char *ports);
void hosts_free(struct hosts *hosts);

/* How many there are; 1 when none is named, since libpq has a default. */
size_t hosts_count(const struct hosts *hosts);

/*
 * Writes the lists in the order in which to try the hosts, separated by commas: the last good one first, those that
 * failed lately last. `order` has the positions. A list that is not set becomes "". Each of the texts is of `size`.
 */
void hosts_write_order(struct hosts *hosts, char *names, char *addresses, char *ports, size_t size,
                       unsigned char order[HOSTS_MAX]);

/* The same of one host. */
void hosts_write(const struct hosts *hosts, size_t host, char *names, char *addresses, char *ports, size_t size);

/* The size that the two need. */
size_t hosts_text_size(const struct hosts *hosts);

/* Which one it is: by its name or address, and port, as PQhost, PQhostaddr and PQport return them. 0 if it is unknown.
 */
size_t hosts_find(const struct hosts *hosts, const char *name, const char *address, const char *port);

/* A connection to it was good: it is tried first from now on. */
void hosts_note_good(struct hosts *hosts, size_t host);

/* It did not answer in time: it is tried last for a while. */
void hosts_note_failed(struct hosts *hosts, size_t host);

/* Whether it has failed since `since_us` (CLOCK_MONOTONIC) and there is another one to try. */
bool hosts_has_failed_since(struct hosts *hosts, size_t host, int64_t since_us);

/*
 * A primary was met, of that cluster and on that timeline. False when another primary of the same cluster is known on a
 * later one: then this one was replaced, and what it commits is lost when it rejoins. A promotion always begins a new
 * timeline (PostgreSQL: "Timelines").
 */
bool hosts_note_timeline(struct hosts *hosts, uint64_t system_identifier, uint32_t timeline);

#endif
