#include "sender_header.h"

#include <string.h>

const struct sender_header sender_headers[SENDER_HEADER_COUNT] = {
#define HEADER(id_, parameter_, name_, log_name_)                                                                      \
    [SENDER_HEADER_##id_] = {.parameter = parameter_, .name = name_, .log_name = log_name_},
    SENDER_HEADERS(HEADER)
#undef HEADER
};

char *sender_header_copy(const char *value) {
    char *copy = strndup(value, SENDER_HEADER_MAX_BYTES);
    for (char *c = copy; c && *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return copy;
}
