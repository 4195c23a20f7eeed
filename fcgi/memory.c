#include "memory.h"

#include "connection.h"
#include "group_commit.h"
#include "large_requests.h"
#include "statements.h"

enum {
    KIB = 1024,
    MIB = 1024 * KIB,
    BASE = 24 * MIB,  /* the program with its libraries, the log (2 MiB), connections, metrics */
    THREAD = 1 * MIB, /* its stack, its window, and what it takes to read a small request */
    /*
     * To read the most expensive body of 1 MiB, "\n\n…" in a string that is kept in extra: the body, the tree (3 MiB)
     * with a copy, and extra, of 3 MiB, twice: with room to grow, and in the receipt. That is 13 MiB, and the body may
     * have been compressed (compression.h).
     */
    LARGE_REQUEST = 16 * MIB,
    /* The batch of a connection, its parameters, and libpq's buffer, which has room for twice that and is kept. */
    BATCH = 4 * GROUP_COMMIT_BATCH_COST,
};

size_t memory_max(const struct config *config) {
    unsigned serving = config->threads + config->pg_connections;
    size_t stores = config->pg_connections + GROUP_COMMIT_MORE_STORES;
    return BASE + (serving + GROUP_COMMIT_MORE_STORES) * (size_t)THREAD +
           large_requests_max(serving) * (size_t)LARGE_REQUEST +
           stores * (BATCH + config->batch_max * (size_t)STATEMENTS_LOOKUP_ROW_BYTES) + 2 * config->queue_max_bytes +
           CONNECTIONS_HELD_MAX_BYTES;
}
