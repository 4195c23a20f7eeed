#include "outcome.h"

#include <stddef.h>

#define AUTHENTICATE "WWW-Authenticate: Bearer realm=\"inventory_receipt\", Basic realm=\"inventory_receipt\"\r\n"

const struct outcome_words outcomes[OUTCOME_COUNT] = {
    [OUTCOME_UNAVAILABLE] = {"unavailable", 503, "Service Unavailable", NULL,
                             "The receipt could not be stored; please send it again later.", ""},
    [OUTCOME_CREATED] = {"created", 201, "Created", "created", "The receipt was created.", ""},
    [OUTCOME_UNCHANGED] = {"unchanged", 200, "OK", "unchanged", "The receipt was already received.", ""},
    [OUTCOME_REVISED] = {"revised", 200, "OK", "revised", "The receipt was already received and has been revised.", ""},
    [OUTCOME_SUPERSEDED] = {"superseded", 200, "OK", "superseded",
                            "The receipt was already received, and a newer version of it stays.", ""},
    [OUTCOME_MALFORMED] = {"malformed", 400, "Bad Request", NULL, NULL, ""},
    [OUTCOME_UNAUTHORIZED] = {"unauthorized", 401, "Unauthorized", NULL, "", AUTHENTICATE},
    [OUTCOME_NOT_POST] = {"method_not_allowed", 405, "Method Not Allowed", NULL, "Only POST is allowed.",
                          "Allow: POST\r\n"},
    [OUTCOME_TOO_LARGE] = {"too_large", 413, "Content Too Large", NULL, "The body is larger than 1 MiB.", ""},
    [OUTCOME_INVALID] = {"invalid", 422, "Unprocessable Content", NULL, "Validation Failed", ""},
    [OUTCOME_QUARANTINED] = {"quarantined", 200, "OK", "quarantined",
                             "The delivery is no valid receipt; it was kept for inspection.", ""},
};

enum outcome outcome_of_rejection(enum rejection rejection) {
    return rejection == REJECTION_MALFORMED ? OUTCOME_MALFORMED : OUTCOME_INVALID;
}

const char *outcome_message(enum outcome outcome, const char *malformed) {
    return outcomes[outcome].message ? outcomes[outcome].message : malformed;
}
