#include "wire.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>

/* Whether a result is available, in what was read from the socket. */
static bool is_ready(PGconn *connection, int unsent) {
    return unsent == 0 && !PQisBusy(connection);
}

/*
 * Sends what is unsent and waits until a result is available; false: the deadline passed or the connection broke.
 * Before each poll it reads: with TLS, some of an answer may have left the socket, which then shows nothing.
 */
static bool wait_until_ready(PGconn *connection, int64_t deadline_us) {
    struct pollfd poll_fd = {.fd = PQsocket(connection)};
    for (;;) {
        int unsent = PQflush(connection);
        if (unsent < 0)
            return false;
        if (is_ready(connection, unsent))
            return true;
        if (!PQconsumeInput(connection))
            return false;
        if (is_ready(connection, unsent))
            return true;
        poll_fd.events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0));
        int64_t left_ms = (deadline_us - clock_now_us() + US_PER_MS - 1) / US_PER_MS;
        if (left_ms <= 0)
            return false;
        if (poll(&poll_fd, 1, (int)left_ms) < 0 && errno != EINTR)
            return false;
    }
}

static bool has_failed(const PGresult *result) {
    return PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK;
}

PGresult *wire_wait(PGconn *connection, int64_t deadline_us) {
    PGresult *result = NULL, *next;
    do {
        if (!wait_until_ready(connection, deadline_us)) {
            if (result && has_failed(result))
                return result;
            PQclear(result);
            return NULL;
        }
        next = PQgetResult(connection);
        if (next && !(result && has_failed(result))) {
            PQclear(result);
            result = next;
        } else {
            PQclear(next);
        }
    } while (next);
    return result;
}
