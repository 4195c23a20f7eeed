#include "handler.h"

#include "clock.h"
#include "hex.h"
#include "receipt_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

/* nginx's are lower case, and what is stored, logged and answered has to be the same text. */
static bool parse_request_id(const char *text, unsigned char id[REQUEST_ID_BYTES]) {
    return hex_decode(text, id, REQUEST_ID_BYTES) && !strpbrk(text, "ABCDEF");
}

bool handler_set_request_id(struct delivery *delivery, const char *given) {
    if (given && parse_request_id(given, delivery->request_id)) {
        memcpy(delivery->request_id_text, given, REQUEST_ID_CHARS + 1);
        return true;
    }
    if (getrandom(delivery->request_id, REQUEST_ID_BYTES, 0) != REQUEST_ID_BYTES)
        return false;
    for (size_t i = 0; i < REQUEST_ID_BYTES; i++)
        sprintf(delivery->request_id_text + 2 * i, "%02x", delivery->request_id[i]);
    return true;
}

/* Decodes base64 (RFC 4648, section 4) into a heap block of *len bytes. NULL: *invalid says whose fault it is. */
static char *decode_base64(const char *text, size_t *len, bool *invalid) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t chars = strspn(text, alphabet);
    size_t padding = strspn(text + chars, "=");
    *invalid = text[chars + padding] != '\0' || padding > 2 || chars % 4 == 1;
    if (*invalid)
        return NULL;
    char *bytes = malloc(chars + 1);
    if (!bytes)
        return NULL;
    unsigned pending = 0, bits = 0;
    *len = 0;
    for (size_t i = 0; i < chars; i++) {
        pending = pending << 6 | (unsigned)(strchr(alphabet, text[i]) - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[(*len)++] = (char)(pending >> bits);
        }
    }
    return bytes;
}

/* Authorization: "Bearer KEY" or "Basic base64(anything:KEY)" (RFC 6750, RFC 7617); schemes in any case (RFC 9110). */
static enum api_keys_result find_authorization(struct api_keys *keys, const char *value, char *name) {
    size_t scheme_len = strcspn(value, " ");
    const char *token = value + scheme_len + strspn(value + scheme_len, " ");
    if (scheme_len == 6 && strncasecmp(value, "Bearer", 6) == 0)
        return api_keys_find(keys, token, strlen(token), name);
    if (scheme_len != 5 || strncasecmp(value, "Basic", 5) != 0)
        return API_KEYS_UNKNOWN;

    size_t len = 0;
    bool invalid = false;
    char *pair = decode_base64(token, &len, &invalid);
    if (!pair)
        return invalid ? API_KEYS_UNKNOWN : API_KEYS_FAILED;
    enum api_keys_result result = API_KEYS_UNKNOWN;
    const char *colon = memchr(pair, ':', len);
    if (colon)
        result = api_keys_find(keys, colon + 1, (size_t)(pair + len - colon - 1), name);
    free(pair);
    return result;
}

/* What the web server calls the sender is taken as an API key's name would be. */
static enum api_keys_result take_remote_user(const char *remote_user, char *name) {
    if (!remote_user || !api_keys_name_valid(remote_user))
        return API_KEYS_UNKNOWN;
    strcpy(name, remote_user);
    return API_KEYS_VALID;
}

/* One credential may be sent in several headers, but all of them have to be the same valid key. */
static enum api_keys_result authenticate(struct api_keys *keys, const struct request *request, char *name) {
    if (request->credential_count == 0 || request->credential_count > REQUEST_MAX_CREDENTIALS)
        return API_KEYS_UNKNOWN;
    for (size_t i = 0; i < request->credential_count; i++) {
        const struct request_credential *credential = &request->credentials[i];
        char found[API_KEY_NAME_MAX + 1];
        enum api_keys_result result = credential->authorization
                                          ? find_authorization(keys, credential->value, found)
                                          : api_keys_find(keys, credential->value, strlen(credential->value), found);
        if (result != API_KEYS_VALID)
            return result;
        if (i > 0 && strcmp(name, found) != 0)
            return API_KEYS_UNKNOWN;
        strcpy(name, found);
    }
    return API_KEYS_VALID;
}

/* The media type without its parameters (RFC 9110, section 8.3); JSON has no charset, it is UTF-8 (RFC 8259). */
static bool is_json(const char *content_type) {
    static const char json[] = "application/json";
    if (!content_type || strncasecmp(content_type, json, sizeof json - 1) != 0)
        return false;
    const char *rest = content_type + sizeof json - 1;
    rest += strspn(rest, " \t");
    return *rest == '\0' || *rest == ';';
}

static bool conclude(struct delivery *delivery, enum outcome outcome) {
    delivery_settle(delivery, outcome);
    return false;
}

static bool answer_unavailable(struct delivery *delivery, const char *failure) {
    delivery->failure = failure;
    return conclude(delivery, OUTCOME_UNAVAILABLE);
}

static bool reject_malformed(struct delivery *delivery, const char *message) {
    snprintf(delivery->message, sizeof delivery->message, "%s", message);
    delivery->rejection = REJECTION_MALFORMED;
    return false;
}

bool handler_read_body(const struct handler *handler, const char *body, size_t len, struct delivery *delivery) {
    struct receipt_json_error error;
    if (len == 0)
        return reject_malformed(delivery, "The body is empty.");
    switch (receipt_json_decode(body, len, &delivery->receipt, &error)) {
    case RECEIPT_JSON_OK:
        break;
    case RECEIPT_JSON_NO_MEMORY:
        return answer_unavailable(delivery, "out of memory");
    case RECEIPT_JSON_MALFORMED:
        delivery->error_line = error.line;
        delivery->error_column = error.column;
        return reject_malformed(delivery, error.message);
    }
    if (receipt_validate(&delivery->receipt, &handler->rules, &delivery->errors))
        return true;
    delivery->rejection = REJECTION_INVALID;
    return false;
}

/* Readies a rejected delivery for being stored: the body, which is the server's, is copied. */
static bool keep_rejected(const struct handler *handler, const struct request *request, struct delivery *delivery) {
    delivery->body = malloc(request->body_len ? request->body_len : 1);
    if (!delivery->body)
        return answer_unavailable(delivery, "out of memory");
    if (request->body_len > 0)
        memcpy(delivery->body, request->body, request->body_len);
    delivery->body_len = request->body_len;
    delivery->rejection_answer =
        handler->accept_invalid ? OUTCOME_QUARANTINED : outcome_of_rejection(delivery->rejection);
    return true;
}

bool handler_handle(const struct handler *handler, const struct request *request, struct delivery *delivery) {
    delivery->arrived_us = request->arrived_us ? request->arrived_us : clock_now_us();
    delivery->deadline_us = delivery->arrived_us + handler->deadline_us;
    if (!handler_set_request_id(delivery, request->request_id))
        return answer_unavailable(delivery, "no randomness for a request id");
    if (strcmp(request->method, "POST") != 0)
        return conclude(delivery, OUTCOME_NOT_POST);
    enum api_keys_result sender = handler->remote_user ? take_remote_user(request->remote_user, delivery->api_key_name)
                                                       : authenticate(handler->keys, request, delivery->api_key_name);
    switch (sender) {
    case API_KEYS_VALID:
        break;
    case API_KEYS_UNKNOWN:
        delivery->api_key_name[0] = '\0';
        return conclude(delivery, OUTCOME_UNAUTHORIZED);
    case API_KEYS_FAILED:
        return answer_unavailable(delivery, "out of memory");
    }
    if (request->body_len > BODY_MAX_BYTES)
        return conclude(delivery, OUTCOME_TOO_LARGE);
    if (!is_json(request->content_type))
        reject_malformed(delivery, "The Content-Type must be application/json.");
    else if (handler_read_body(handler, request->body, request->body_len, delivery))
        return true;
    return delivery->rejection != REJECTION_NONE && keep_rejected(handler, request, delivery);
}
