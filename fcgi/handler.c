#include "handler.h"

#include "clock.h"
#include "compression.h"
#include "receipt_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

bool handler_set_request_id(struct delivery *delivery, const char *given) {
    if (!(given && request_id_parse(given, delivery->request_id)) &&
        getrandom(delivery->request_id, REQUEST_ID_BYTES, 0) != REQUEST_ID_BYTES)
        return false;
    request_id_format(delivery->request_id_text, delivery->request_id);
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

/* The key is the password or the user name; if both are keys, they have to be the same. */
static enum api_keys_result find_basic(struct api_keys *keys, const char *token, char *name) {
    size_t len = 0;
    bool invalid = false;
    char *pair = decode_base64(token, &len, &invalid);
    if (!pair)
        return invalid ? API_KEYS_UNKNOWN : API_KEYS_FAILED;
    enum api_keys_result result = API_KEYS_UNKNOWN;
    const char *colon = memchr(pair, ':', len);
    if (colon) {
        char user_name[API_KEY_NAME_MAX + 1];
        size_t user_len = (size_t)(colon - pair);
        enum api_keys_result user = api_keys_find(keys, pair, user_len, user_name);
        result = api_keys_find(keys, colon + 1, len - user_len - 1, name);
        if (user == API_KEYS_FAILED || (user == API_KEYS_VALID && result == API_KEYS_UNKNOWN)) {
            result = user;
            strcpy(name, user == API_KEYS_VALID ? user_name : "");
        } else if (user == API_KEYS_VALID && result == API_KEYS_VALID && strcmp(user_name, name) != 0) {
            result = API_KEYS_UNKNOWN;
        }
    }
    free(pair);
    return result;
}

/* The key of `Token KEY`, `Token token="KEY"` (as Rails sends it) or `Token token=KEY`, other parameters behind it. */
static enum api_keys_result find_token(struct api_keys *keys, const char *token, char *name) {
    static const char parameter[] = "token=";
    size_t len = strlen(token);
    if (strncasecmp(token, parameter, sizeof parameter - 1) == 0) {
        token += sizeof parameter - 1;
        bool quoted = *token == '"';
        token += quoted;
        len = strcspn(token, quoted ? "\"" : " \t,;");
        if (quoted && token[len] != '"')
            return API_KEYS_UNKNOWN;
    }
    return api_keys_find(keys, token, len, name);
}

/* Schemes in any case (RFC 9110): Bearer (RFC 6750), Basic (RFC 7617), and two that are only customary. */
static enum api_keys_result find_authorization(struct api_keys *keys, const char *value, char *name) {
    static const struct {
        const char *scheme;
        enum api_keys_result (*find)(struct api_keys *keys, const char *token, char *name);
    } schemes[] = {{"Bearer", find_token}, {"Token", find_token}, {"ApiKey", find_token}, {"Basic", find_basic}};
    size_t len = strcspn(value, " \t");
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strlen(schemes[i].scheme) == len && strncasecmp(value, schemes[i].scheme, len) == 0)
            return schemes[i].find(keys, value + len + strspn(value + len, " \t"), name);
    return API_KEYS_UNKNOWN;
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

/* Whether a media type is application/json, or a "+json" (RFC 6839); its parameters do not count. */
static bool is_json_type(const char *type, size_t len) {
    static const char json[] = "application/json", suffix[] = "+json";
    const char *end = memchr(type, ';', len);
    len = end ? (size_t)(end - type) : len;
    while (len > 0 && strchr(" \t", type[len - 1]))
        len--;
    if (len == sizeof json - 1 && strncasecmp(type, json, len) == 0)
        return true;
    return len > sizeof suffix - 1 && memchr(type, '/', len) &&
           strncasecmp(type + len - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0;
}

/*
 * Whether one of the media types is JSON; there are several when a sender or a proxy sends the header twice. Without
 * any, the body shows what it is (RFC 9110, section 8.3). JSON has no charset, it is UTF-8 (RFC 8259).
 */
static bool is_json(const char *content_type) {
    if (!content_type || *content_type == '\0')
        return true;
    for (const char *type = content_type;; type++) {
        type += strspn(type, " \t");
        size_t len = strcspn(type, ",");
        if (is_json_type(type, len))
            return true;
        type += len;
        if (*type == '\0')
            return false;
    }
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
    delivery->errors.count = 0;
    return false;
}

/* JSON in UTF-16 or UTF-32, with or without a byte order mark: UTF-8 has no NUL among the first two characters. */
static bool is_wide(const char *body, size_t len) {
    return len >= 2 && (memcmp(body, "\xff\xfe", 2) == 0 || memcmp(body, "\xfe\xff", 2) == 0 || !body[0] || !body[1]);
}

/* Of a body that is not compressed, or not any more. */
static bool read_json(const struct handler *handler, const char *body, size_t len, struct delivery *delivery) {
    static const char byte_order_mark[] = "\xef\xbb\xbf"; /* RFC 8259, section 8.1: a parser may ignore it */
    struct receipt_json_error error;
    if (len >= sizeof byte_order_mark - 1 && memcmp(body, byte_order_mark, sizeof byte_order_mark - 1) == 0) {
        body += sizeof byte_order_mark - 1;
        len -= sizeof byte_order_mark - 1;
    }
    if (len == 0)
        return reject_malformed(delivery, "The body is empty.");
    if (is_wide(body, len))
        return reject_malformed(delivery, "The body is in UTF-16 or UTF-32; JSON must be in UTF-8.");
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

/* Keeps a copy of the body of a rejected delivery, since the body is the server's. */
static bool keep_body(struct delivery *delivery, const char *body, size_t len) {
    delivery->body = malloc(len ? len : 1);
    if (!delivery->body) {
        delivery->rejection = REJECTION_NONE;
        return answer_unavailable(delivery, "out of memory");
    }
    if (len > 0)
        memcpy(delivery->body, body, len);
    delivery->body_len = len;
    return true;
}

bool handler_read_body(const struct handler *handler, const char *body, size_t len, struct delivery *delivery) {
    struct buffer unpacked;
    bool valid = false;
    buffer_init(&unpacked);
    switch (compression_unpack(body, len, BODY_MAX_BYTES, &unpacked)) {
    case COMPRESSION_NONE:
        valid = read_json(handler, body, len, delivery);
        break;
    case COMPRESSION_UNPACKED:
        if (compression_is_known(unpacked.data, unpacked.len))
            reject_malformed(delivery, "The body is compressed more than once.");
        else
            valid = read_json(handler, unpacked.data, unpacked.len, delivery);
        if (delivery->rejection != REJECTION_NONE)
            keep_body(delivery, unpacked.data, unpacked.len);
        break;
    case COMPRESSION_DAMAGED:
        reject_malformed(delivery, "The compressed body is damaged or cut short.");
        break;
    case COMPRESSION_TOO_LARGE:
        reject_malformed(delivery, "The body is larger than 1 MiB when it is decompressed.");
        break;
    case COMPRESSION_NO_MEMORY:
        answer_unavailable(delivery, "out of memory");
        break;
    }
    buffer_fini(&unpacked);
    return valid;
}

/* Where Content-Encoding says why the body is no JSON, that is the message. */
static void name_encoding(const struct request *request, struct delivery *delivery) {
    static const char token[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-, ";
    const char *encoding = request->content_encoding;
    bool is_json_error = delivery->error_line > 0 || is_wide(request->body, request->body_len);
    if (!is_json_error || compression_is_known(request->body, request->body_len) || !encoding || *encoding == '\0' ||
        strcasecmp(encoding, "identity") == 0)
        return;
    snprintf(delivery->message, sizeof delivery->message,
             "The body is neither JSON nor compressed with gzip or deflate (Content-Encoding: %.*s).",
             (int)(strspn(encoding, token) < 32 ? strspn(encoding, token) : 32), encoding);
}

bool handler_keep_headers(const char *const headers[SENDER_HEADER_COUNT], struct delivery *delivery) {
    for (int i = 0; i < SENDER_HEADER_COUNT; i++)
        if (headers[i] && !(delivery->headers[i] = sender_header_copy(headers[i])))
            return false;
    return true;
}

bool handler_handle(const struct handler *handler, const struct request *request, struct delivery *delivery) {
    delivery->arrived_us = request->arrived_us ? request->arrived_us : clock_now_us();
    delivery->deadline_us = delivery->arrived_us + handler->deadline_us;
    if (!handler_set_request_id(delivery, request->request_id))
        return answer_unavailable(delivery, "no randomness for a request id");
    if (strcmp(request->method, "POST") != 0) {
        delivery->is_examination = request->examination != NULL;
        return conclude(delivery, OUTCOME_NOT_POST);
    }
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
    if (!handler_keep_headers(request->headers, delivery))
        return answer_unavailable(delivery, "out of memory");
    if (request->body_len > BODY_MAX_BYTES)
        return conclude(delivery, OUTCOME_TOO_LARGE);
    /* It is read in any case: for its key. */
    bool valid = handler_read_body(handler, request->body, request->body_len, delivery);
    if (!is_json(request->content_type) && (valid || delivery->rejection != REJECTION_NONE))
        reject_malformed(delivery, "The Content-Type must be application/json.");
    else if (valid)
        return true;
    else if (delivery->rejection == REJECTION_MALFORMED)
        name_encoding(request, delivery);
    if (delivery->rejection == REJECTION_NONE ||
        (!delivery->body && !keep_body(delivery, request->body, request->body_len)))
        return false;
    delivery->rejection_answer =
        handler->accept_invalid ? OUTCOME_QUARANTINED : outcome_of_rejection(delivery->rejection);
    return true;
}
