#include "outcome.h"

#include <stddef.h>

enum outcome outcome_of_rejection(enum rejection rejection) {
    return rejection == REJECTION_MALFORMED ? OUTCOME_MALFORMED : OUTCOME_INVALID;
}

int outcome_status(enum outcome outcome) {
    switch (outcome) {
    case OUTCOME_UNAVAILABLE:
        return 503;
    case OUTCOME_CREATED:
        return 201;
    case OUTCOME_UNCHANGED:
    case OUTCOME_REVISED:
    case OUTCOME_QUARANTINED:
        return 200;
    case OUTCOME_MALFORMED:
        return 400;
    case OUTCOME_UNAUTHORIZED:
        return 401;
    case OUTCOME_NOT_POST:
        return 405;
    case OUTCOME_TOO_LARGE:
        return 413;
    case OUTCOME_INVALID:
        return 422;
    }
    return 503;
}

const char *outcome_name(enum outcome outcome) {
    static const char *const names[] = {[OUTCOME_UNAVAILABLE] = "unavailable",
                                        [OUTCOME_CREATED] = "created",
                                        [OUTCOME_UNCHANGED] = "unchanged",
                                        [OUTCOME_REVISED] = "revised",
                                        [OUTCOME_MALFORMED] = "malformed",
                                        [OUTCOME_UNAUTHORIZED] = "unauthorized",
                                        [OUTCOME_NOT_POST] = "method_not_allowed",
                                        [OUTCOME_TOO_LARGE] = "too_large",
                                        [OUTCOME_INVALID] = "invalid",
                                        [OUTCOME_QUARANTINED] = "quarantined"};
    return names[outcome];
}

const char *outcome_result(enum outcome outcome) {
    switch (outcome) {
    case OUTCOME_CREATED:
        return "created";
    case OUTCOME_UNCHANGED:
        return "unchanged";
    case OUTCOME_REVISED:
        return "revised";
    case OUTCOME_QUARANTINED:
        return "quarantined";
    case OUTCOME_UNAVAILABLE:
    case OUTCOME_MALFORMED:
    case OUTCOME_UNAUTHORIZED:
    case OUTCOME_NOT_POST:
    case OUTCOME_TOO_LARGE:
    case OUTCOME_INVALID:
        return NULL;
    }
    return NULL;
}

const char *outcome_message(enum outcome outcome, const char *malformed) {
    switch (outcome) {
    case OUTCOME_UNAVAILABLE:
        return "The receipt could not be stored; please send it again later.";
    case OUTCOME_CREATED:
        return "The receipt was created.";
    case OUTCOME_UNCHANGED:
        return "The receipt was already received.";
    case OUTCOME_REVISED:
        return "The receipt was already received and has been revised.";
    case OUTCOME_MALFORMED:
        return malformed;
    case OUTCOME_UNAUTHORIZED:
        return "";
    case OUTCOME_NOT_POST:
        return "Only POST is allowed.";
    case OUTCOME_TOO_LARGE:
        return "The body is larger than 1 MiB.";
    case OUTCOME_INVALID:
        return "Validation Failed";
    case OUTCOME_QUARANTINED:
        return "The delivery is no valid receipt; it was kept for inspection.";
    }
    return "";
}
