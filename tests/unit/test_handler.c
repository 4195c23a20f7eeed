/* handler.h: one request in; an answer at once, or something to be stored. With real keys from a file. */
#include "handler.h"

#include "clock.h"
#include "contract.h"
#include "packed.h"

#define ID "01234567-89ab-cdef-0123-456789abcdef"

/* KEY and OTHER are valid, by their SHA-256 in the file; WRONG is not. */
#define KEY "rk_valid"
#define OTHER "rk_other"
#define WRONG "rk_wrong"
#define DIGEST_KEY "8bae7d73bd5488b1f5ce54196f16edfc88cfca11721226d972ee3fc35bcb1f1f"
#define DIGEST_OTHER "af37cf11936dec6074f021e7621fb68f5bd2be778e5a00559a30fb6444f25dc1"

static struct handler handler = {.deadline_us = 7 * US_PER_S};
static struct delivery delivery;
static char *valid_body;

/* POST with one valid key and a valid body; a test changes what it is about. */
static struct request make_request(void) {
    return (struct request){.method = "POST",
                            .content_type = "application/json",
                            .request_id = ID,
                            .credentials = {{.value = KEY}},
                            .credential_count = 1,
                            .body = valid_body,
                            .body_len = strlen(valid_body)};
}

/* STORE for a receipt to be stored, the rejection of a delivery to be stored as a rejected one, else the outcome. */
enum { STORE = -1 };

static int handle(const struct request *request) {
    delivery_fini(&delivery);
    memset(&delivery, 0, sizeof delivery);
    if (handler_handle(&handler, request, &delivery)) {
        /* Not decided yet: whoever forgets to decide says 503. */
        assert_int_equal(delivery.outcome, OUTCOME_UNAVAILABLE);
        return delivery.rejection == REJECTION_NONE ? STORE : (int)outcome_of_rejection(delivery.rejection);
    }
    /* These are never sent again, so they are not answered before they are stored. */
    assert_true(delivery.outcome != OUTCOME_MALFORMED && delivery.outcome != OUTCOME_INVALID);
    assert_null(delivery.body);
    return (int)delivery.outcome;
}

static int handle_body(const char *body, size_t len) {
    struct request request = make_request();
    request.body = body;
    request.body_len = len;
    return handle(&request);
}

static int make_keys(void **state) {
    char error[256];
    make_folder(state);
    const char *path = write_file("keys", "valid " DIGEST_KEY "\n"
                                          "other " DIGEST_OTHER "\n");
    valid_body = make_body(NULL, 0, NULL);
    handler.keys = api_keys_load(path, error, sizeof error);
    return handler.keys ? 0 : -1;
}

static int free_keys(void **state) {
    delivery_fini(&delivery);
    api_keys_free(handler.keys);
    free(valid_body);
    return remove_folder(state);
}

static void a_valid_request_is_to_be_stored(void **state) {
    (void)state;
    struct request request = make_request();
    assert_int_equal(handle(&request), STORE);
    assert_string_equal(delivery.api_key_name, "valid");
    assert_string_equal(delivery.request_id_text, ID);
    assert_int_equal(receipt_value_integer(&delivery.receipt.values[RECEIPT_FIELD_TO_IDENTIFIER]), 1352);
    assert_true(delivery.receipt.key_hash != 0);
    assert_null(delivery.body);
}

static void a_delivery_has_its_time_of_arrival_and_deadline(void **state) {
    (void)state;
    struct request request = make_request();
    int64_t before = clock_now_us();
    handle(&request);
    int64_t after = clock_now_us();
    assert_true(delivery.arrived_us >= before && delivery.arrived_us <= after);
    assert_int_equal(delivery.deadline_us - delivery.arrived_us, handler.deadline_us);
    request.method = "GET";
    handle(&request);
    assert_true(delivery.arrived_us >= after);
}

static void only_post_is_allowed(void **state) {
    (void)state;
    static const char *const methods[] = {"",      "GET",  "HEAD",  "PUT",   "DELETE", "PATCH",  "OPTIONS",
                                          "TRACE", "post", "POST ", "POSTS", "POS",    "CONNECT"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        struct request request = make_request();
        request.method = methods[i];
        expect_row(handle(&request) == OUTCOME_NOT_POST, "'%s'", methods[i]);
    }
    end_table();
}

#define PLAIN(value_)                                                                                                  \
    { .value = value_ }
#define AUTHORIZATION(value_)                                                                                          \
    { .value = value_, .authorization = true }

static void the_key_may_come_in_every_way_of_the_contract(void **state) {
    (void)state;
    static const struct {
        const char *name;
        struct request_credential credentials[REQUEST_MAX_CREDENTIALS];
        size_t count;
        const char *key_name; /* NULL: unauthorized */
    } rows[] = {
        {"none", {PLAIN("")}, 0, NULL},
        {"X-Api-Key or api_key", {PLAIN(KEY)}, 1, "valid"},
        {"another key", {PLAIN(OTHER)}, 1, "other"},
        {"a wrong key", {PLAIN(WRONG)}, 1, NULL},
        {"an empty key", {PLAIN("")}, 1, NULL},
        {"a part of a key", {PLAIN("rk_vali")}, 1, NULL},
        {"more than a key", {PLAIN(KEY "x")}, 1, NULL},
        {"a key's name", {PLAIN("valid")}, 1, NULL},
        {"a key's digest", {PLAIN(DIGEST_KEY)}, 1, NULL},
        {"a scheme where none belongs", {PLAIN("Bearer " KEY)}, 1, NULL},
        {"Bearer", {AUTHORIZATION("Bearer " KEY)}, 1, "valid"},
        {"bearer", {AUTHORIZATION("bearer " KEY)}, 1, "valid"},
        {"BEARER", {AUTHORIZATION("BEARER " KEY)}, 1, "valid"},
        {"Bearer with two spaces", {AUTHORIZATION("Bearer  " KEY)}, 1, "valid"},
        {"Bearer with a wrong key", {AUTHORIZATION("Bearer " WRONG)}, 1, NULL},
        {"Bearer with nothing", {AUTHORIZATION("Bearer")}, 1, NULL},
        {"Bearer with a space", {AUTHORIZATION("Bearer ")}, 1, NULL},
        {"Bearer without a space", {AUTHORIZATION("Bearer" KEY)}, 1, NULL},
        {"Bearer with a key and more", {AUTHORIZATION("Bearer " KEY " x")}, 1, NULL},
        {"Bearer with base64", {AUTHORIZATION("Bearer dXNlcjpya192YWxpZA==")}, 1, NULL},
        {"Basic user:KEY", {AUTHORIZATION("Basic dXNlcjpya192YWxpZA==")}, 1, "valid"},
        {"basic user:KEY", {AUTHORIZATION("bAsIc dXNlcjpya192YWxpZA==")}, 1, "valid"},
        {"Basic :KEY", {AUTHORIZATION("Basic OnJrX3ZhbGlk")}, 1, "valid"},
        {"Basic KEY:KEY", {AUTHORIZATION("Basic cmtfdmFsaWQ6cmtfdmFsaWQ=")}, 1, "valid"},
        {"Basic of a long user",
         {AUTHORIZATION("Basic YSBsb25nZXIgdXNlciBuYW1lIEAgZXhhbXBsZTpya192YWxpZA==")},
         1,
         "valid"},
        {"Basic with bytes that are no text", {AUTHORIZATION("Basic /wD+++86cmtfdmFsaWQ=")}, 1, "valid"},
        {"Basic KEY:user", {AUTHORIZATION("Basic cmtfdmFsaWQ6dXNlcg==")}, 1, "valid"},
        {"Basic KEY:", {AUTHORIZATION("Basic cmtfdmFsaWQ6")}, 1, "valid"},
        {"Basic KEY:OTHER", {AUTHORIZATION("Basic cmtfdmFsaWQ6cmtfb3RoZXI=")}, 1, NULL},
        {"Basic OTHER:KEY", {AUTHORIZATION("Basic cmtfb3RoZXI6cmtfdmFsaWQ=")}, 1, NULL},
        {"Basic KEY:WRONG", {AUTHORIZATION("Basic cmtfdmFsaWQ6cmtfd3Jvbmc=")}, 1, "valid"},
        {"Basic WRONG:", {AUTHORIZATION("Basic cmtfd3Jvbmc6")}, 1, NULL},
        {"Basic WRONG:WRONG", {AUTHORIZATION("Basic cmtfd3Jvbmc6cmtfd3Jvbmc=")}, 1, NULL},
        {"Basic :", {AUTHORIZATION("Basic Og==")}, 1, NULL},
        {"Basic KEYx:y", {AUTHORIZATION("Basic cmtfdmFsaWR4Onk=")}, 1, NULL},
        {"Token KEY", {AUTHORIZATION("Token " KEY)}, 1, "valid"},
        {"token KEY", {AUTHORIZATION("token " KEY)}, 1, "valid"},
        {"Token token=\"KEY\"", {AUTHORIZATION("Token token=\"" KEY "\"")}, 1, "valid"},
        {"Token TOKEN=\"KEY\"", {AUTHORIZATION("Token TOKEN=\"" KEY "\"")}, 1, "valid"},
        {"Token token=KEY", {AUTHORIZATION("Token token=" KEY)}, 1, "valid"},
        {"Token token=\"KEY\", nonce", {AUTHORIZATION("Token token=\"" KEY "\", nonce=\"def\"")}, 1, "valid"},
        {"Token token=KEY, nonce", {AUTHORIZATION("Token token=" KEY ", nonce=def")}, 1, "valid"},
        {"Token token=KEY;nonce", {AUTHORIZATION("Token token=" KEY ";nonce=def")}, 1, "valid"},
        {"Token token=\"KEY", {AUTHORIZATION("Token token=\"" KEY)}, 1, NULL},
        {"Token token=\"WRONG\"", {AUTHORIZATION("Token token=\"" WRONG "\"")}, 1, NULL},
        {"Token token=\"\"", {AUTHORIZATION("Token token=\"\"")}, 1, NULL},
        {"Token token=", {AUTHORIZATION("Token token=")}, 1, NULL},
        {"Token nonce first", {AUTHORIZATION("Token nonce=\"def\", token=\"" KEY "\"")}, 1, NULL},
        {"Token \"KEY\"", {AUTHORIZATION("Token \"" KEY "\"")}, 1, NULL},
        {"Token", {AUTHORIZATION("Token")}, 1, NULL},
        {"ApiKey KEY", {AUTHORIZATION("ApiKey " KEY)}, 1, "valid"},
        {"APIKEY KEY", {AUTHORIZATION("APIKEY " KEY)}, 1, "valid"},
        {"ApiKey WRONG", {AUTHORIZATION("ApiKey " WRONG)}, 1, NULL},
        {"a tab behind the scheme", {AUTHORIZATION("Bearer\t" KEY)}, 1, "valid"},
        {"Basic KEY", {AUTHORIZATION("Basic cmtfdmFsaWQ=")}, 1, NULL},
        {"Basic user:WRONG", {AUTHORIZATION("Basic dXNlcjpya193cm9uZw==")}, 1, NULL},
        {"Basic user:KEY and a NUL", {AUTHORIZATION("Basic dXNlcjpya192YWxpZAA=")}, 1, NULL},
        {"Basic user:KEY and a line feed", {AUTHORIZATION("Basic dXNlcjpya192YWxpZAo=")}, 1, NULL},
        {"Basic with nothing", {AUTHORIZATION("Basic")}, 1, NULL},
        {"Basic with a space", {AUTHORIZATION("Basic ")}, 1, NULL},
        {"Basic with only padding", {AUTHORIZATION("Basic ==")}, 1, NULL},
        {"Basic without base64", {AUTHORIZATION("Basic user:" KEY)}, 1, NULL},
        {"Basic with a character that is none", {AUTHORIZATION("Basic dXNlcjpya192YWxpZA==!")}, 1, NULL},
        {"Basic with a space in it", {AUTHORIZATION("Basic dXNlcjpy a192YWxpZA==")}, 1, NULL},
        {"Basic with three paddings", {AUTHORIZATION("Basic dXNlcjpya192YWxpZA===")}, 1, NULL},
        {"Basic with padding inside", {AUTHORIZATION("Basic dXNl=cjpya192YWxpZA==")}, 1, NULL},
        {"Basic with a character too many", {AUTHORIZATION("Basic dXNlcjpya192YWxpZAAAA")}, 1, NULL},
        {"no scheme", {AUTHORIZATION(KEY)}, 1, NULL},
        {"an unknown scheme", {AUTHORIZATION("Digest " KEY)}, 1, NULL},
        {"an unknown scheme of Basic's length", {AUTHORIZATION("Hawks dXNlcjpya192YWxpZA==")}, 1, NULL},
        {"an unknown scheme of Bearer's length", {AUTHORIZATION("Negoti " KEY)}, 1, NULL},
        {"an empty Authorization", {AUTHORIZATION("")}, 1, NULL},
        {"two that agree", {PLAIN(KEY), PLAIN(KEY)}, 2, "valid"},
        {"all four ways that agree",
         {PLAIN(KEY), PLAIN(KEY), AUTHORIZATION("Bearer " KEY), AUTHORIZATION("Basic dXNlcjpya192YWxpZA==")},
         4,
         "valid"},
        {"two valid ones that differ", {PLAIN(KEY), PLAIN(OTHER)}, 2, NULL},
        {"the other way round", {PLAIN(OTHER), AUTHORIZATION("Bearer " KEY)}, 2, NULL},
        {"a valid one and a wrong one", {PLAIN(KEY), PLAIN(WRONG)}, 2, NULL},
        {"a wrong one and a valid one", {PLAIN(WRONG), PLAIN(KEY)}, 2, NULL},
        {"a valid one and an unknown scheme", {PLAIN(KEY), AUTHORIZATION("Digest x")}, 2, NULL},
        {"a valid one and bad base64", {PLAIN(KEY), AUTHORIZATION("Basic ?")}, 2, NULL},
        {"two wrong ones that agree", {PLAIN(WRONG), PLAIN(WRONG)}, 2, NULL},
        {"the last of three differs", {PLAIN(KEY), PLAIN(KEY), PLAIN(OTHER)}, 3, NULL},
        {"the first of three differs", {PLAIN(OTHER), PLAIN(KEY), PLAIN(KEY)}, 3, NULL},
        {"the first and the last differ from one between", {PLAIN(KEY), PLAIN(OTHER), PLAIN(KEY)}, 3, NULL},
        {"as many as there is room for",
         {PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY)},
         REQUEST_MAX_CREDENTIALS,
         "valid"},
        {"more than there is room for, so that one that differs could hide",
         {PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY), PLAIN(KEY)},
         REQUEST_MAX_CREDENTIALS + 1,
         NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct request request = make_request();
        memcpy(request.credentials, rows[i].credentials, sizeof request.credentials);
        request.credential_count = rows[i].count;
        int outcome = handle(&request);
        expect_row(outcome == (rows[i].key_name ? (int)STORE : (int)OUTCOME_UNAUTHORIZED), "%s: outcome %d",
                   rows[i].name, outcome);
        expect_row(strcmp(delivery.api_key_name, rows[i].key_name ? rows[i].key_name : "") == 0, "%s: key '%s'",
                   rows[i].name, delivery.api_key_name);
    }
    end_table();
}

static void what_is_wrong_is_found_in_the_contracts_order(void **state) {
    (void)state;
    static char large[BODY_MAX_BYTES + 1];
    /* From one row to the next, one more thing is right. */
    static const struct {
        int outcome;
        const char *method, *key;
        const char *body;
        size_t body_len;
        const char *content_type;
    } rows[] = {
        {OUTCOME_NOT_POST, "GET", WRONG, large, sizeof large, "text/plain"},
        {OUTCOME_UNAUTHORIZED, "POST", WRONG, large, sizeof large, "text/plain"},
        {OUTCOME_TOO_LARGE, "POST", KEY, large, sizeof large, "text/plain"},
        {OUTCOME_MALFORMED, "POST", KEY, "{", 1, "text/plain"},
        {OUTCOME_MALFORMED, "POST", KEY, "{", 1, "application/json"},
        {OUTCOME_INVALID, "POST", KEY, "{}", 2, "application/json"},
    };
    const char *messages[COUNT_OF(rows)] = {[3] = "Content-Type", [4] = "line 1"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct request request = make_request();
        request.method = rows[i].method;
        request.credentials[0].value = rows[i].key;
        request.body = rows[i].body;
        request.body_len = rows[i].body_len;
        request.content_type = rows[i].content_type;
        int outcome = handle(&request);
        expect_row(outcome == rows[i].outcome, "row %zu: outcome %d", i, outcome);
        expect_row(!messages[i] || strstr(delivery.message, messages[i]), "row %zu: %s", i, delivery.message);
        expect_row(strcmp(delivery.request_id_text, ID) == 0, "row %zu: no request id", i);
    }
    end_table();
}

static void the_key_of_a_refused_delivery_is_known(void **state) {
    (void)state;
    assert_int_equal(handle_body("{", 1), OUTCOME_MALFORMED);
    assert_string_equal(delivery.api_key_name, "valid");
    assert_int_equal(handle_body("{}", 2), OUTCOME_INVALID);
    assert_string_equal(delivery.api_key_name, "valid");
}

static void a_body_of_1_mib_is_taken_and_one_byte_more_is_not(void **state) {
    (void)state;
    char *body = malloc(BODY_MAX_BYTES + 1);
    assert_non_null(body);
    memset(body, ' ', BODY_MAX_BYTES + 1);
    memcpy(body, valid_body, strlen(valid_body));
    assert_int_equal(BODY_MAX_BYTES, 1048576);
    assert_int_equal(handle_body(body, BODY_MAX_BYTES), STORE);
    assert_int_equal(handle_body(body, BODY_MAX_BYTES + 1), OUTCOME_TOO_LARGE);
    free(body);
    /* Not all of a body that is too large need be there. */
    assert_int_equal(handle_body("{", SIZE_MAX), OUTCOME_TOO_LARGE);
}

static void only_json_is_taken(void **state) {
    (void)state;
    static const struct {
        const char *content_type;
        bool taken;
    } rows[] = {
        {"application/json", true},
        {"Application/JSON", true},
        {"application/json; charset=utf-8", true},
        {"application/json;charset=UTF-8", true},
        {"application/json ; charset=utf-8", true},
        {"application/json;", true},
        {"application/json ", true},
        {"application/json, application/json", true},
        {"application/json,application/json; charset=utf-8", true},
        {"application/json, text/plain", true},
        {"text/plain,\tapplication/json", true},
        {",, application/json", true},
        {"application/json; profile=\"a,b\"", true},
        {"application/json; charset=\"utf-16\"", true},
        {"application/problem+json", true},
        {"application/vnd.optiturn.v1+json; charset=utf-8", true},
        {"APPLICATION/VND.API+JSON", true},
        {NULL, true}, /* the body shows what it is */
        {"", true},
        {",", false},
        {" ", false},
        {"application", false},
        {"application/", false},
        {"application/jso", false},
        {"application/jsonp", false},
        {"application/json-seq", false},
        {"application/json+x", false},
        {"application/json text", false},
        {"application/x-www-form-urlencoded", false},
        {"text/json", false},
        {"+json", false},
        {"application/jsonx, text/plain", false},
        {"text/plain; a=application/json", false},
        {"text/plain; a=x+json", false},
        {"text/plain; application/json", false},
        {"json", false},
        {"*/*", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct request request = make_request();
        request.content_type = rows[i].content_type;
        int outcome = handle(&request);
        expect_row(outcome == (rows[i].taken ? (int)STORE : (int)OUTCOME_MALFORMED), "'%s': outcome %d",
                   rows[i].content_type ? rows[i].content_type : "(none)", outcome);
        expect_row(rows[i].taken || strstr(delivery.message, "application/json"), "'%s': message '%s'",
                   rows[i].content_type ? rows[i].content_type : "(none)", delivery.message);
    }
    end_table();
}

static void malformed_bodies_are_answered_with_a_message_and_position(void **state) {
    (void)state;
    static const struct {
        const char *body;
        int line, column;
    } rows[] = {{"", 0, 0},
                {"[]", 0, 0},
                {"{\n\"a\":x}", 2, 5},
                {"{\"a\":1}}", 1, 8},
                {"{\"a\":\"\xff\"}", 1, 6},
                {"{\"a\":1.5,\"a\":2}", 1, 12}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int outcome = handle_body(rows[i].body, strlen(rows[i].body));
        expect_row(outcome == OUTCOME_MALFORMED && *delivery.message, "%s: outcome %d", rows[i].body, outcome);
        expect_row(delivery.error_line == rows[i].line && delivery.error_column == rows[i].column,
                   "%s: line %d, column %d", rows[i].body, delivery.error_line, delivery.error_column);
    }
    assert_int_equal(handle_body(NULL, 0), OUTCOME_MALFORMED);
    end_table();
}

static void the_senders_headers_are_kept_as_printable_text(void **state) {
    (void)state;
    char *long_value = repeat("x", 300);
    struct request request = make_request();
    request.headers[SENDER_HEADER_OPTITURN_ID] = long_value;
    request.headers[SENDER_HEADER_TRACEPARENT] = "00-\"a\\ b\n\x1b[31m\xc3\xa4\x7f-01";
    assert_int_equal(handle(&request), STORE);
    assert_int_equal(strlen(delivery.headers[SENDER_HEADER_OPTITURN_ID]), SENDER_HEADER_MAX_BYTES);
    assert_null(delivery.headers[SENDER_HEADER_OPTITURN_API_VERSION]);
    assert_string_equal(delivery.headers[SENDER_HEADER_TRACEPARENT], "00-\"a\\ b??[31m??"
                                                                     "?-01");
    /* With a rejection too, and with a body that is too large; not of a sender without a key. */
    request.body = "{}";
    request.body_len = 2;
    assert_int_equal(handle(&request), OUTCOME_INVALID);
    assert_non_null(delivery.headers[SENDER_HEADER_TRACEPARENT]);
    request.body_len = SIZE_MAX;
    assert_int_equal(handle(&request), OUTCOME_TOO_LARGE);
    assert_non_null(delivery.headers[SENDER_HEADER_TRACEPARENT]);
    request.credentials[0].value = WRONG;
    assert_int_equal(handle(&request), OUTCOME_UNAUTHORIZED);
    assert_null(delivery.headers[SENDER_HEADER_TRACEPARENT]);
    free(long_value);
}

static void a_byte_order_mark_is_passed_over(void **state) {
    (void)state;
    char *body = format_text("\xef\xbb\xbf%s", valid_body);
    assert_int_equal(handle_body(body, strlen(body)), STORE);
    free(body);
    static const struct {
        const char *body;
        size_t len;
        const char *message;
    } rows[] = {
        {"\xef\xbb\xbf", 3, "The body is empty."},
        {"\xef\xbb", 2, "line 1"},
        {"\xef\xbb\xbf\xef\xbb\xbf{}", 8, "line 1, column 1"},
        {"\xef\xbb\xbf{\n?", 6, "line 2, column 1"},
        {"{\xef\xbb\xbf}", 5, "line 1"},
        {"\xff\xfe{\0}\0", 6, "UTF-16 or UTF-32"},
        {"\xfe\xff\0{\0}", 6, "UTF-16 or UTF-32"},
        {"{\0}\0", 4, "UTF-16 or UTF-32"},
        {"\0{\0}", 4, "UTF-16 or UTF-32"},
        {"\0\0\xfe\xff\0\0\0{\0\0\0}", 12, "UTF-16 or UTF-32"},
        {"\xff\xfe\0\0{\0\0\0}\0\0\0", 12, "UTF-16 or UTF-32"},
        {"{\0\0\0}\0\0\0", 8, "UTF-16 or UTF-32"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int outcome = handle_body(rows[i].body, rows[i].len);
        expect_row(outcome == OUTCOME_MALFORMED && strstr(delivery.message, rows[i].message), "row %zu: outcome %d, %s",
                   i, outcome, delivery.message);
        expect_row(delivery.body_len == rows[i].len && memcmp(delivery.body, rows[i].body, rows[i].len) == 0,
                   "row %zu: it is not kept as it came", i);
    }
    end_table();
}

static void a_compressed_body_is_read_whatever_content_encoding_says(void **state) {
    (void)state;
    static const char *const encodings[] = {NULL,      "",   "identity",       "gzip", "x-gzip",
                                            "deflate", "br", "gzip, identity", "\xff"};
    static const int formats[] = {GZIP, ZLIB};
    char *with_mark = format_text("\xef\xbb\xbf%s", valid_body);
    for (size_t e = 0; e < COUNT_OF(encodings); e++) {
        struct request request = make_request();
        request.content_encoding = encodings[e];
        expect_row(handle(&request) == STORE, "%s, not compressed", encodings[e] ? encodings[e] : "(none)");
        for (size_t f = 0; f < COUNT_OF(formats); f++) {
            size_t len;
            char *packed = pack(with_mark, strlen(with_mark), formats[f], &len);
            request.body = packed;
            request.body_len = len;
            expect_row(handle(&request) == STORE, "%s, format %zu", encodings[e] ? encodings[e] : "(none)", f);
            free(packed);
        }
    }
    free(with_mark);
    end_table();
}

static void a_body_that_cannot_be_decoded_is_kept_and_its_encoding_named(void **state) {
    (void)state;
    size_t raw_len, bomb_len, invalid_len;
    char *raw = pack(valid_body, strlen(valid_body), RAW_DEFLATE, &raw_len);
    char *large = repeat(" ", BODY_MAX_BYTES + 1), *bomb = pack(large, BODY_MAX_BYTES + 1, GZIP, &bomb_len);
    char *invalid = pack("{\n!", 3, GZIP, &invalid_len);
    size_t once_len, twice_len;
    char *once = pack(valid_body, strlen(valid_body), GZIP, &once_len);
    char *twice = pack(once, once_len, GZIP, &twice_len);
    const struct {
        const char *encoding, *body;
        size_t len;
        const char *message;
    } rows[] = {
        {"br", "\x8b\x02\x80", 3, "(Content-Encoding: br)."},
        {"br", "\x0b\x00\x80", 3, "(Content-Encoding: br)."}, /* a NUL, as UTF-16 has it */
        {"zstd", "\x28\xb5\x2f\xfd", 4, "(Content-Encoding: zstd)."},
        {"deflate", raw, raw_len, "(Content-Encoding: deflate)."},
        {"gzip, br", "\x8b", 1, "(Content-Encoding: gzip, br)."},
        {"gzip", "{", 1, "neither JSON nor compressed with gzip or deflate (Content-Encoding: gzip)."},
        {"a\"b\xff", "{", 1, "(Content-Encoding: a)."},
        {"0123456789012345678901234567890123456789", "{", 1, "(Content-Encoding: 01234567890123456789012345678901)."},
        {"identity", "{", 1, "line 1"},
        {NULL, "\x8b\x02\x80", 3, "line 1"},
        {"gzip", "\x1f\x8b\x08", 3, "damaged or cut short"},
        {NULL, "\x1f\x8b\x08", 3, "damaged or cut short"},
        {"gzip", invalid, invalid_len, "line 2, column 1"},
        {"gzip", bomb, bomb_len, "larger than 1 MiB"},
        {"gzip, gzip", twice, twice_len, "compressed more than once"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct request request = make_request();
        request.content_encoding = rows[i].encoding;
        request.body = rows[i].body;
        request.body_len = rows[i].len;
        int outcome = handle(&request);
        expect_row(outcome == OUTCOME_MALFORMED && strstr(delivery.message, rows[i].message), "row %zu: outcome %d, %s",
                   i, outcome, delivery.message);
        if (rows[i].body == invalid)
            expect_row(text_is(delivery.body, delivery.body_len, "{\n!"), "row %zu: it is not kept decompressed", i);
        else if (rows[i].body == twice)
            expect_row(delivery.body_len == once_len && memcmp(delivery.body, once, once_len) == 0,
                       "row %zu: it is not kept as reprocess can read it", i);
        else
            expect_row(delivery.body_len == rows[i].len && memcmp(delivery.body, rows[i].body, rows[i].len) == 0,
                       "row %zu: it is not kept as it came", i);
    }
    free(raw);
    free(large);
    free(bomb);
    free(invalid);
    free(once);
    free(twice);
    end_table();
}

static void invalid_fields_are_listed(void **state) {
    (void)state;
    const struct change changes[] = {{"program_identifier", "\"\""}, {"to.identifier", "\"x\""}, {"sku", NULL}};
    char *body = make_body(changes, COUNT_OF(changes), NULL);
    assert_int_equal(handle_body(body, strlen(body)), OUTCOME_INVALID);
    assert_string_equal(errors_text(&delivery.errors),
                        "program_identifier:missing_field to.identifier:invalid_type sku:missing_field");
    free(body);
}

static void unknown_fields_go_into_extra(void **state) {
    (void)state;
    char *body = make_body(NULL, 0, "\"new\":[1.10]");
    assert_int_equal(handle_body(body, strlen(body)), STORE);
    assert_true(text_is(delivery.receipt.extra, delivery.receipt.extra_len, "{\"new\":[1.10]}"));
    free(body);
}

static void the_receipt_outlives_the_request(void **state) {
    (void)state;
    char *body = make_body_with("sku", "\"outlives\"");
    assert_int_equal(handle_body(body, strlen(body)), STORE);
    memset(body, 'x', strlen(body));
    free(body);
    const struct receipt_value *sku = &delivery.receipt.values[contract_index("sku")];
    assert_true(text_is(sku->text, sku->len, "outlives"));
}

static const struct {
    const char *name, *content_type, *body;
    size_t len;
    enum outcome rejection;
} rejected[] = {
    {"no media type", "json", "{}", 2, OUTCOME_MALFORMED},
    {"another content type", "text/plain", "program=1\0&asn=2", 16, OUTCOME_MALFORMED},
    {"an empty body of another type", "text/plain", NULL, 0, OUTCOME_MALFORMED},
    {"an empty body", "application/json", "", 0, OUTCOME_MALFORMED},
    {"no JSON", "application/json", "{\"sku\":1,\0\xff", 11, OUTCOME_MALFORMED},
    {"no object", "application/json", "[1]", 3, OUTCOME_MALFORMED},
    {"no fields", "application/json", "{}", 2, OUTCOME_INVALID},
    {"an unknown field", "application/json", " {\"more\" : [1.10]} ", 19, OUTCOME_INVALID},
};

static void what_is_rejected_is_stored_as_it_was_sent(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rejected); i++) {
        const char *name = rejected[i].name;
        char *body = rejected[i].len > 0 ? malloc(rejected[i].len) : NULL;
        if (body)
            memcpy(body, rejected[i].body, rejected[i].len);
        struct request request = make_request();
        request.content_type = rejected[i].content_type;
        request.body = body;
        request.body_len = rejected[i].len;
        expect_row(handle(&request) == (int)rejected[i].rejection, "%s: %d", name, (int)delivery.rejection);
        if (body)
            memset(body, '#', rejected[i].len); /* the copy outlives it */
        free(body);
        expect_row(delivery.body && delivery.body_len == rejected[i].len &&
                       memcmp(delivery.body, rejected[i].body ? rejected[i].body : "", rejected[i].len) == 0,
                   "%s: the body is another one", name);
        expect_row(strcmp(delivery.api_key_name, "valid") == 0 && strcmp(delivery.request_id_text, ID) == 0,
                   "%s: key %s, request %s", name, delivery.api_key_name, delivery.request_id_text);
        expect_row((*delivery.message != '\0') == (rejected[i].rejection == OUTCOME_MALFORMED), "%s: message '%s'",
                   name, delivery.message);
        expect_row((delivery.errors.count > 0) == (rejected[i].rejection == OUTCOME_INVALID), "%s: %zu errors", name,
                   delivery.errors.count);
    }
    end_table();
}

static void the_policy_says_what_a_stored_refusal_is_answered(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rejected); i++) {
        struct request request = make_request();
        request.content_type = rejected[i].content_type;
        request.body = rejected[i].body;
        request.body_len = rejected[i].len;
        handle(&request);
        expect_row(delivery.rejection_answer == rejected[i].rejection, "%s: answer %d", rejected[i].name,
                   (int)delivery.rejection_answer);
        handler.accept_invalid = true;
        int rejection = handle(&request);
        handler.accept_invalid = false;
        expect_row(rejection == (int)rejected[i].rejection && delivery.rejection_answer == OUTCOME_QUARANTINED,
                   "%s, where that is accepted: answer %d", rejected[i].name, (int)delivery.rejection_answer);
    }
    end_table();
}

static void the_policy_changes_nothing_for_the_others(void **state) {
    (void)state;
    struct request request = make_request();
    handler.accept_invalid = true;
    int valid = handle(&request);
    request.body_len = BODY_MAX_BYTES + 1;
    int too_large = handle(&request);
    request.credentials[0].value = WRONG;
    int unauthorized = handle(&request);
    request.method = "GET";
    int not_post = handle(&request);
    handler.accept_invalid = false;
    assert_int_equal(valid, STORE);
    assert_int_equal(too_large, OUTCOME_TOO_LARGE);
    assert_int_equal(unauthorized, OUTCOME_UNAUTHORIZED);
    assert_int_equal(not_post, OUTCOME_NOT_POST);
}

static void the_operators_values_are_taken(void **state) {
    (void)state;
    char *body = make_body_with("initial_condition", "\"Z9\"");
    assert_int_equal(handle_body(body, strlen(body)), OUTCOME_INVALID);
    handler.rules.more_values[RECEIPT_CONDITIONS] = "Z8,Z9";
    int outcome = handle_body(body, strlen(body));
    handler.rules = (struct receipt_rules){0};
    assert_int_equal(outcome, STORE);
    free(body);
}

static void a_stored_body_is_judged_as_one_that_arrives(void **state) {
    (void)state;
    static const struct {
        const char *body;
        bool valid;
        enum rejection rejection;
    } rows[] = {{NULL, true, REJECTION_NONE}, /* the valid one */
                {"", false, REJECTION_MALFORMED},
                {"{\"a\":", false, REJECTION_MALFORMED},
                {"[]", false, REJECTION_MALFORMED},
                {"{}", false, REJECTION_INVALID}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *body = rows[i].body ? rows[i].body : valid_body;
        struct delivery again = {0};
        expect_row(handler_read_body(&handler, body, strlen(body), &again) == rows[i].valid, "%s: valid", body);
        expect_row(again.rejection == rows[i].rejection && !again.failure, "%s: rejection %d", body,
                   (int)again.rejection);
        expect_row(!again.body, "%s is copied", body);
        delivery_fini(&again);
    }
    end_table();
}

static bool id_is_sound(void) {
    char text[REQUEST_ID_CHARS + 1];
    for (size_t i = 0, at = 0; i < REQUEST_ID_BYTES; i++)
        at += (size_t)sprintf(text + at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
                              delivery.request_id[i]);
    return strcmp(text, delivery.request_id_text) == 0;
}

static void the_web_servers_request_id_is_taken(void **state) {
    (void)state;
    static const unsigned char bytes[REQUEST_ID_BYTES] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                                          0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
    static const char *const forms[] = {ID, "0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789abcdef",
                                        "01234567-89AB-CDEF-0123-456789ABCDEF"};
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        struct request request = make_request();
        request.request_id = forms[i];
        handle(&request);
        expect_row(strcmp(delivery.request_id_text, ID) == 0 && memcmp(delivery.request_id, bytes, sizeof bytes) == 0,
                   "%s became %s", forms[i], delivery.request_id_text);
    }
    end_table();
}

static void a_request_id_that_is_none_is_replaced(void **state) {
    (void)state;
    static const char *const ids[] = {NULL,
                                      "",
                                      "0",
                                      "0123456789abcdef0123456789abcde",
                                      "0123456789abcdef0123456789abcdef0",
                                      ID "0",
                                      "0123456789abcdef0123456789abcdeg",
                                      "0123456789abcdef0123456789abcde\n",
                                      " 123456789abcdef0123456789abcdef",
                                      "0x23456789abcdef0123456789abcdef",
                                      "-123456789abcdef0123456789abcdef",
                                      "0123456789ab-cdef-0123-4567-89abcdef",
                                      "01234567-89ab-cdef-0123-456789abcde-",
                                      "01234567-89ab-cdef-0123-456789abcdeg",
                                      "01234567-89ab-cdef-01234-56789abcdef",
                                      "{0123456789abcdef0123456789abcdef}",
                                      "------------------------------------"};
    char last[REQUEST_ID_CHARS + 1] = "";
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        const char *id = ids[i] ? ids[i] : "(none)";
        struct request request = make_request();
        request.request_id = ids[i];
        expect_row(handle(&request) == STORE, "%s: not stored", id);
        expect_row(strspn(delivery.request_id_text, "0123456789abcdef-") == REQUEST_ID_CHARS &&
                       delivery.request_id_text[REQUEST_ID_CHARS] == '\0' && id_is_sound(),
                   "%s: replaced by %s", id, delivery.request_id_text);
        expect_row(strcmp(delivery.request_id_text, last) != 0, "%s: the same as before", id);
        strcpy(last, delivery.request_id_text);
    }
    end_table();
}

static void refused_requests_have_a_request_id_as_well(void **state) {
    (void)state;
    struct request request = make_request();
    request.request_id = NULL;
    request.method = "GET";
    assert_int_equal(handle(&request), OUTCOME_NOT_POST);
    assert_int_equal(strlen(delivery.request_id_text), REQUEST_ID_CHARS);
    request.method = "POST";
    request.credential_count = 0;
    assert_int_equal(handle(&request), OUTCOME_UNAUTHORIZED);
    assert_int_equal(strlen(delivery.request_id_text), REQUEST_ID_CHARS);
    assert_true(id_is_sound());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_valid_request_is_to_be_stored),
        cmocka_unit_test(a_delivery_has_its_time_of_arrival_and_deadline),
        cmocka_unit_test(only_post_is_allowed),
        cmocka_unit_test(the_key_may_come_in_every_way_of_the_contract),
        cmocka_unit_test(what_is_wrong_is_found_in_the_contracts_order),
        cmocka_unit_test(the_key_of_a_refused_delivery_is_known),
        cmocka_unit_test(a_body_of_1_mib_is_taken_and_one_byte_more_is_not),
        cmocka_unit_test(only_json_is_taken),
        cmocka_unit_test(malformed_bodies_are_answered_with_a_message_and_position),
        cmocka_unit_test(the_senders_headers_are_kept_as_printable_text),
        cmocka_unit_test(a_byte_order_mark_is_passed_over),
        cmocka_unit_test(a_compressed_body_is_read_whatever_content_encoding_says),
        cmocka_unit_test(a_body_that_cannot_be_decoded_is_kept_and_its_encoding_named),
        cmocka_unit_test(invalid_fields_are_listed),
        cmocka_unit_test(unknown_fields_go_into_extra),
        cmocka_unit_test(the_receipt_outlives_the_request),
        cmocka_unit_test(what_is_rejected_is_stored_as_it_was_sent),
        cmocka_unit_test(the_policy_says_what_a_stored_refusal_is_answered),
        cmocka_unit_test(the_policy_changes_nothing_for_the_others),
        cmocka_unit_test(the_operators_values_are_taken),
        cmocka_unit_test(a_stored_body_is_judged_as_one_that_arrives),
        cmocka_unit_test(the_web_servers_request_id_is_taken),
        cmocka_unit_test(a_request_id_that_is_none_is_replaced),
        cmocka_unit_test(refused_requests_have_a_request_id_as_well),
    };
    return cmocka_run_group_tests_name("handler", tests, make_keys, free_keys);
}
