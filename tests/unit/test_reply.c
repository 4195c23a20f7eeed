/* reply.h: the answers of CONTRACT.md, byte for byte. */
#include "reply.h"

#include "contract.h"

#include <jansson.h>

#define ID "01234567-89ab-cdef-0123-456789abcdef"

static struct delivery make_delivery(enum outcome outcome) {
    struct delivery delivery = {.outcome = outcome, .request_id_text = ID};
    return delivery;
}

static void expect_reply(const char *name, const struct delivery *delivery, const char *expected) {
    struct buffer out;
    buffer_init(&out);
    reply_write(&out, delivery);
    expect_row(!out.failed, "%s failed", name);
    expect_row(text_is(out.data, out.len, expected), "%s: got\n%.*s\nexpected\n%s", name, (int)out.len, out.data,
               expected);
    buffer_fini(&out);
}

static void every_outcome_has_its_answer(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum outcome outcome;
        const char *reply;
    } rows[] = {
        {"created", OUTCOME_CREATED,
         "Status: 201 Created\r\nContent-Type: application/json\r\nX-Request-Id: " ID "\r\nContent-Length: 109\r\n\r\n"
         "{\"message\":\"The receipt was created.\",\"result\":\"created\",\"request_id\":\"" ID "\"}"},
        {"unchanged", OUTCOME_UNCHANGED,
         "Status: 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: " ID "\r\nContent-Length: 120\r\n\r\n"
         "{\"message\":\"The receipt was already received.\",\"result\":\"unchanged\",\"request_id\":\"" ID "\"}"},
        {"revised", OUTCOME_REVISED,
         "Status: 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: " ID "\r\nContent-Length: 139\r\n\r\n"
         "{\"message\":\"The receipt was already received and has been revised.\",\"result\":\"revised\","
         "\"request_id\":\"" ID "\"}"},
        {"superseded", OUTCOME_SUPERSEDED,
         "Status: 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: " ID "\r\nContent-Length: 154\r\n\r\n"
         "{\"message\":\"The receipt was already received, and a newer version of it "
         "stays.\",\"result\":\"superseded\","
         "\"request_id\":\"" ID "\"}"},
        {"quarantined", OUTCOME_QUARANTINED,
         "Status: 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: " ID "\r\nContent-Length: 150\r\n\r\n"
         "{\"message\":\"The delivery is no valid receipt; it was kept for inspection.\",\"result\":\"quarantined\","
         "\"request_id\":\"" ID "\"}"},
        {"unauthorized", OUTCOME_UNAUTHORIZED,
         "Status: 401 Unauthorized\r\n"
         "WWW-Authenticate: Bearer realm=\"inventory_receipt\", Basic realm=\"inventory_receipt\"\r\n"
         "X-Request-Id: " ID "\r\nContent-Length: 0\r\n\r\n"},
        {"not POST", OUTCOME_NOT_POST,
         "Status: 405 Method Not Allowed\r\nContent-Type: application/json\r\nAllow: POST\r\nX-Request-Id: " ID
         "\r\nContent-Length: 35\r\n\r\n{\"message\":\"Only POST is allowed.\"}"},
        {"too large", OUTCOME_TOO_LARGE,
         "Status: 413 Content Too Large\r\nContent-Type: application/json\r\nX-Request-Id: " ID
         "\r\nContent-Length: 44\r\n\r\n{\"message\":\"The body is larger than 1 MiB.\"}"},
        {"unavailable", OUTCOME_UNAVAILABLE,
         "Status: 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nX-Request-Id: " ID
         "\r\nContent-Length: 126\r\n\r\n"
         "{\"message\":\"The receipt could not be stored; please send it again later.\",\"request_id\":\"" ID "\"}"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct delivery delivery = make_delivery(rows[i].outcome);
        expect_reply(rows[i].name, &delivery, rows[i].reply);
    }
    end_table();
}

static void what_is_not_decided_is_unavailable(void **state) {
    (void)state;
    struct delivery delivery = {0};
    assert_int_equal(outcomes[delivery.outcome].status, 503);
}

static void malformed_says_what_is_wrong(void **state) {
    (void)state;
    struct delivery delivery = make_delivery(OUTCOME_MALFORMED);
    strcpy(delivery.message, "Invalid JSON at line 3, column 5: invalid token.");
    delivery.error_line = 3;
    delivery.error_column = 5;
    expect_reply("malformed", &delivery,
                 "Status: 400 Bad Request\r\nContent-Type: application/json\r\nX-Request-Id: " ID
                 "\r\nContent-Length: 114\r\n\r\n"
                 "{\"message\":\"Invalid JSON at line 3, column 5: invalid token.\",\"request_id\":\"" ID "\"}");
    strcpy(delivery.message, "a \"quote\", a \\, a\nline");
    expect_reply("escapes", &delivery,
                 "Status: 400 Bad Request\r\nContent-Type: application/json\r\nX-Request-Id: " ID
                 "\r\nContent-Length: 96\r\n\r\n"
                 "{\"message\":\"a \\\"quote\\\", a \\\\, a\\u000aline\",\"request_id\":\"" ID "\"}");
    end_table();
}

static void invalid_lists_every_error_in_the_vendors_envelope(void **state) {
    (void)state;
    struct delivery delivery = make_delivery(OUTCOME_INVALID);
    delivery.errors.count = 5;
    delivery.errors.list[0] = (struct receipt_error){1, RECEIPT_TOO_LONG};
    delivery.errors.list[1] = (struct receipt_error){4, RECEIPT_MISSING_FIELD};
    delivery.errors.list[2] = (struct receipt_error){7, RECEIPT_OUT_OF_RANGE};
    delivery.errors.list[3] = (struct receipt_error){18, RECEIPT_INVALID_TYPE};
    delivery.errors.list[4] = (struct receipt_error){21, RECEIPT_INVALID_VALUE};
    expect_reply("five errors", &delivery,
                 "Status: 422 Unprocessable Content\r\nContent-Type: application/json\r\nX-Request-Id: " ID
                 "\r\nContent-Length: 325\r\n\r\n"
                 "{\"message\":\"Validation Failed\",\"errors\":["
                 "{\"field\":\"asn_number\",\"code\":\"too_long\"},"
                 "{\"field\":\"from.identifier\",\"code\":\"missing_field\"},"
                 "{\"field\":\"to.identifier\",\"code\":\"out_of_range\"},"
                 "{\"field\":\"sku\",\"code\":\"invalid_type\"},"
                 "{\"field\":\"initial_condition\",\"code\":\"invalid_value\"}],"
                 "\"request_id\":\"" ID "\"}");
    delivery.errors.count = 1;
    expect_reply("one error", &delivery,
                 "Status: 422 Unprocessable Content\r\nContent-Type: application/json\r\nX-Request-Id: " ID
                 "\r\nContent-Length: 135\r\n\r\n"
                 "{\"message\":\"Validation Failed\",\"errors\":[{\"field\":\"asn_number\",\"code\":\"too_long\"}],"
                 "\"request_id\":\"" ID "\"}");
    end_table();
}

/* Splits an answer; the body is at the end of the buffer. */
static const char *body_of(struct buffer *out) {
    buffer_append(out, "", 1);
    const char *body = strstr(out->data, "\r\n\r\n");
    assert_non_null(body);
    return body + 4;
}

static void every_answer_is_sound_http_and_json(void **state) {
    (void)state;
    static const int statuses[OUTCOME_COUNT] = {
        [OUTCOME_UNAVAILABLE] = 503, [OUTCOME_CREATED] = 201,      [OUTCOME_UNCHANGED] = 200, [OUTCOME_REVISED] = 200,
        [OUTCOME_MALFORMED] = 400,   [OUTCOME_UNAUTHORIZED] = 401, [OUTCOME_NOT_POST] = 405,  [OUTCOME_TOO_LARGE] = 413,
        [OUTCOME_INVALID] = 422,     [OUTCOME_QUARANTINED] = 200,  [OUTCOME_SUPERSEDED] = 200};
    static const char *const results[COUNT_OF(statuses)] = {[OUTCOME_CREATED] = "created",
                                                            [OUTCOME_UNCHANGED] = "unchanged",
                                                            [OUTCOME_REVISED] = "revised",
                                                            [OUTCOME_SUPERSEDED] = "superseded",
                                                            [OUTCOME_QUARANTINED] = "quarantined"};
    for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
        struct delivery delivery = make_delivery((enum outcome)outcome);
        strcpy(delivery.message, "what \"it\" is");
        /* More errors than any body has, with the longest code: they have to fit. */
        delivery.errors.count = RECEIPT_FIELD_COUNT;
        for (unsigned char i = 0; i < RECEIPT_FIELD_COUNT; i++)
            delivery.errors.list[i] = (struct receipt_error){i, RECEIPT_MISSING_FIELD};
        struct buffer out;
        buffer_init(&out);
        reply_write(&out, &delivery);
        assert_false(out.failed);
        const char *body = body_of(&out), *length = strstr(out.data, "\r\nContent-Length: ");
        bool json = statuses[outcome] != 401;
        assert_int_equal(outcomes[delivery.outcome].status, statuses[outcome]);
        assert_int_equal(atoi(out.data + strlen("Status: ")), statuses[outcome]);
        assert_non_null(length);
        assert_int_equal(atoi(length + strlen("\r\nContent-Length: ")), strlen(body));
        assert_non_null(strstr(out.data, "\r\nX-Request-Id: " ID "\r\n"));
        assert_true(!strstr(out.data, "\r\nContent-Type: application/json\r\n") == !json);
        assert_true(!strstr(out.data, "\r\nRetry-After: ") == (statuses[outcome] != 503));
        assert_true(!strstr(out.data, "\r\nAllow: POST\r\n") == (statuses[outcome] != 405));
        assert_true(!strstr(out.data, "\r\nWWW-Authenticate: ") == (statuses[outcome] != 401));
        for (const char *line = out.data; line < body; line = strchr(line, '\n') + 1)
            assert_true(strchr(line, '\n')[-1] == '\r');
        const char *result = outcomes[delivery.outcome].result;
        assert_true(!result == !results[outcome]);
        if (result)
            assert_string_equal(result, results[outcome]);
        json_t *root = json_loads(body, JSON_REJECT_DUPLICATES, NULL);
        assert_true(!root == !json);
        if (root) {
            const char *said = json_string_value(json_object_get(root, "result"));
            assert_non_null(json_string_value(json_object_get(root, "message")));
            assert_true(!said == !result && (!said || strcmp(said, result) == 0));
            assert_int_equal(json_array_size(json_object_get(root, "errors")),
                             statuses[outcome] == 422 ? RECEIPT_FIELD_COUNT : 0);
        }
        json_decref(root);
        buffer_fini(&out);
    }
}

/* The store keeps both beside the body of a refused delivery: what the sender is told, or would have been. */
static void message_and_errors_can_be_had_without_an_answer(void **state) {
    (void)state;
    struct delivery delivery = make_delivery(OUTCOME_QUARANTINED);
    struct buffer out;
    strcpy(delivery.message, "The body is empty.");
    assert_string_equal(outcome_message(OUTCOME_MALFORMED, delivery.message), "The body is empty.");
    assert_string_equal(outcome_message(OUTCOME_INVALID, delivery.message), "Validation Failed");
    buffer_init(&out);
    receipt_write_errors(&out, &delivery.errors);
    assert_true(text_is(out.data, out.len, "[]"));
    buffer_fini(&out);
    delivery.errors.count = 2;
    delivery.errors.list[0] = (struct receipt_error){0, RECEIPT_MISSING_FIELD};
    delivery.errors.list[1] = (struct receipt_error){12, RECEIPT_INVALID_VALUE};
    receipt_write_errors(&out, &delivery.errors);
    assert_true(text_is(out.data, out.len,
                        "[{\"field\":\"program_identifier\",\"code\":\"missing_field\"},"
                        "{\"field\":\"reference.type\",\"code\":\"invalid_value\"}]"));
    buffer_fini(&out);
}

static void the_longest_message_fits(void **state) {
    (void)state;
    struct delivery delivery = make_delivery(OUTCOME_MALFORMED);
    memset(delivery.message, '\x01', sizeof delivery.message - 1);
    struct buffer out;
    buffer_init(&out);
    reply_write(&out, &delivery);
    assert_false(out.failed);
    json_t *root = json_loads(body_of(&out), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(root, "message")), delivery.message);
    json_decref(root);
    buffer_fini(&out);
}

static void an_answer_that_does_not_fit_has_failed(void **state) {
    (void)state;
    struct delivery delivery = make_delivery(OUTCOME_CREATED);
    struct buffer whole;
    buffer_init(&whole);
    reply_write(&whole, &delivery);
    char *storage = malloc(whole.len);
    assert_non_null(storage);
    for (size_t size = 0; size < whole.len; size++) {
        struct buffer out;
        buffer_init_fixed(&out, storage, size);
        reply_write(&out, &delivery);
        expect_row(out.failed, "%zu bytes", size);
    }
    free(storage);
    buffer_fini(&whole);
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_outcome_has_its_answer),
        cmocka_unit_test(what_is_not_decided_is_unavailable),
        cmocka_unit_test(malformed_says_what_is_wrong),
        cmocka_unit_test(invalid_lists_every_error_in_the_vendors_envelope),
        cmocka_unit_test(every_answer_is_sound_http_and_json),
        cmocka_unit_test(message_and_errors_can_be_had_without_an_answer),
        cmocka_unit_test(the_longest_message_fits),
        cmocka_unit_test(an_answer_that_does_not_fit_has_failed),
    };
    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
