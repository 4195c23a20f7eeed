/*
 * libFuzzer over the store and a real PostgreSQL: batches of deliveries made of any bytes are stored, and read back
 * over a connection of this file's own. What has to hold:
 * - every value of a receipt arrives in its column byte for byte, extra as the same JSON;
 * - so does all of a refused delivery, its keys where they could be keys;
 * - every delivery has the outcome that it has to have: created, created before, unchanged or revised;
 * - there is nothing else.
 *
 * libpq's PG… environment names the database and its administrator; the store logs in as receiptd_writer. What its
 * tables hold is deleted.
 *
 * The input: a byte of flags, then deliveries one after the other, each a sequence of texts (see take_text), in UTF-8
 * where they are to be text; a refused one's body is all of what follows, in which the next delivery begins, too.
 */
#include "fuzz.h"

#include "buffer.h"
#include "clock.h"
#include "log.h"
#include "pg.h"
#include "receipt_json.h"
#include "store.h"

#include <endian.h>

enum flag {
    REJECTED = 1,
    UNPREPARED = 2,
    REVISE = 4,
    AGAIN = 8,
    NEW_STORE = 16, /* one that has no room yet from batches before */
};

enum {
    END = 0xff,    /* ends a text; neither byte stands in UTF-8 */
    REPEAT = 0xfe, /* ends it as well; the next byte says how often it is repeated */
    DELIVERIES_MAX = 8,
    BLOCKS_MAX = 48,         /* more than there are texts in a delivery */
    LARGE_BYTES = 64 * 1024, /* for what has no limit of its own */
    STORE_TIME_US = 60 * US_PER_S,
};

static const struct receipt_value absent, letter = {.text = "x", .len = 1, .kind = RECEIPT_VALUE_STRING};
static const struct receipt_value one = {.text = "1", .len = 1, .kind = RECEIPT_VALUE_INTEGER},
                                  two = {.text = "2", .len = 1, .kind = RECEIPT_VALUE_INTEGER};

struct input {
    const uint8_t *at;
    size_t left;
};

/* A delivery; every text is a block of its own, so that ASan sees a read that goes beyond one. */
struct made {
    struct delivery delivery;
    struct buffer json; /* extra or the errors, as text for PostgreSQL to compare with */
    char *blocks[BLOCKS_MAX];
    size_t block_count;
};

static uint8_t take_byte(struct input *input) {
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

static const char *keep(struct made *made, const struct buffer *text) {
    char *block = malloc(text->len);
    REQUIRE(block && !text->failed && made->block_count < BLOCKS_MAX);
    if (text->len > 0)
        memcpy(block, text->data, text->len);
    return made->blocks[made->block_count++] = block;
}

/* The next character of the bytes: its length, 0 when what stands there is none, or NUL. */
static size_t character_len(const uint8_t *at, size_t left) {
    for (size_t len = 1; len <= 4 && len <= left; len++)
        if (is_text((const char *)at, len))
            return len;
    return 0;
}

/* Takes a text of at most so many characters and bytes; what is no text in it is left out. */
static struct receipt_value take_text(struct made *made, struct input *input, size_t max_chars, size_t max_bytes) {
    const uint8_t *start = input->at;
    while (input->left > 0 && *input->at != END && *input->at != REPEAT)
        take_byte(input);
    size_t len = (size_t)(input->at - start), times = take_byte(input) == REPEAT ? take_byte(input) + 1u : 1;
    struct buffer text;
    buffer_init(&text);
    for (size_t i = 0, chars = 0; i < len * times && chars < max_chars; chars++) {
        size_t char_len = character_len(start + i % len, len - i % len);
        if (text.len + char_len > max_bytes)
            break;
        buffer_append(&text, (const char *)start + i % len, char_len);
        i += char_len > 0 ? char_len : 1;
    }
    struct receipt_value value = {.text = keep(made, &text), .len = (uint32_t)text.len};
    value.kind = text.len > 0 ? RECEIPT_VALUE_STRING : RECEIPT_VALUE_ABSENT;
    buffer_fini(&text);
    return value;
}

static void take_string(struct made *made, struct input *input, char *string, size_t size) {
    struct receipt_value text = take_text(made, input, size, size - 1);
    if (text.len == 0)
        text = letter;
    memcpy(string, text.text, text.len);
    string[text.len] = '\0';
}

/* Extra is what the decoder makes of the text, or else an object that holds the text. */
static void take_extra(struct made *made, struct input *input) {
    struct receipt_value text = take_text(made, input, LARGE_BYTES, LARGE_BYTES);
    struct receipt *receipt = &made->delivery.receipt, decoded = {0};
    struct receipt_json_error error;
    if (receipt_json_decode(text.text, text.len, &decoded, &error) == RECEIPT_JSON_OK) {
        buffer_append(&made->json, decoded.extra, decoded.extra_len);
    } else if (text.len > 0) {
        buffer_append_text(&made->json, "{\"text\":");
        buffer_append_json_string(&made->json, text.text, text.len);
        buffer_append_text(&made->json, "}");
    }
    receipt_fini(&decoded);
    if (made->json.len > 0) {
        receipt->extra = keep(made, &made->json);
        receipt->extra_len = made->json.len;
    }
}

/* The digits of the number that these bytes are. */
static struct receipt_value make_integer(struct made *made, const struct receipt_value *bytes) {
    int64_t integer = 0;
    struct buffer digits;
    memcpy(&integer, bytes->text, bytes->len < sizeof integer ? bytes->len : sizeof integer);
    buffer_init(&digits);
    buffer_append_format(&digits, "%lld", (long long)integer);
    struct receipt_value value = {
        .text = keep(made, &digits), .len = (uint32_t)digits.len, .kind = RECEIPT_VALUE_INTEGER};
    buffer_fini(&digits);
    return value;
}

static void make_receipt(struct made *made, struct input *input) {
    struct receipt *receipt = &made->delivery.receipt;
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        struct receipt_value *value = &receipt->values[i];
        if (contract[i].type == OBJECT)
            continue;
        *value = take_text(made, input, contract[i].type == INTEGER ? sizeof(int64_t) : 4000,
                           contract[i].key ? CONTRACT_KEY_BYTES / 3 : 4000);
        if (contract[i].type == INTEGER)
            *value = make_integer(made, value);
        else if (value->kind == RECEIPT_VALUE_ABSENT && contract[i].required)
            *value = letter;
    }
    take_extra(made, input);
}

static void take_errors(struct made *made, struct input *input) {
    static const char *const codes[] = {"missing_field", "invalid_type", "invalid_value", "too_long", "out_of_range"};
    struct receipt_errors *errors = &made->delivery.errors;
    struct receipt_value bytes = take_text(made, input, CONTRACT_COUNT, CONTRACT_COUNT);
    for (uint32_t i = 0, field = 0; i < bytes.len && field < CONTRACT_COUNT; i++, field++) {
        field += (uint32_t)bytes.text[i] % 2;
        size_t code = (unsigned char)bytes.text[i] / 2 % COUNT_OF(codes);
        if (field == CONTRACT_COUNT)
            break;
        errors->list[errors->count++] = (struct receipt_error){(unsigned char)field, (enum receipt_error_code)code};
        buffer_append_format(&made->json, "%s{\"field\": \"%s\", \"code\": \"%s\"}", i == 0 ? "[" : ",",
                             contract[field].path, codes[code]);
    }
    buffer_append_text(&made->json, errors->count == 0 ? "[]" : "]");
}

static void make_refused(struct made *made, struct input *input) {
    struct delivery *delivery = &made->delivery;
    uint8_t what = take_byte(input);
    delivery->rejection = what & 1 ? REJECTION_INVALID : REJECTION_MALFORMED;
    delivery->rejection_answer = what & 2 ? OUTCOME_QUARANTINED : outcome_of_rejection(delivery->rejection);
    if (delivery->rejection == REJECTION_INVALID)
        take_errors(made, input);
    else
        take_string(made, input, delivery->message, sizeof delivery->message);
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        struct receipt_value *value = &delivery->receipt.values[i];
        if (!contract[i].key)
            continue;
        *value = take_text(made, input, LARGE_BYTES, LARGE_BYTES);
        if (value->kind != RECEIPT_VALUE_ABSENT && what & 4)
            value->kind = RECEIPT_VALUE_INTEGER; /* kept like a string */
    }
    size_t times = take_byte(input) + 1u;
    if (times * input->left > LARGE_BYTES)
        times = 1;
    delivery->body_len = times * input->left;
    delivery->body = malloc(delivery->body_len);
    REQUIRE(delivery->body);
    for (size_t i = 0; i < delivery->body_len; i++)
        delivery->body[i] = (char)input->at[i % input->left];
}

static void made_fini(struct made *made) {
    for (size_t i = 0; i < made->block_count; i++)
        free(made->blocks[i]);
    buffer_fini(&made->json);
    free(made->delivery.body);
}

static int compare(const void *a, const void *b) {
    const struct made *const *x = a, *const *y = b;
    return receipt_compare_keys(&(*x)->delivery.receipt, &(*y)->delivery.receipt);
}

/* As the store asks for it: sorted by key, and no key twice. */
static size_t sort(struct made **batch, size_t count) {
    size_t kept = 0;
    qsort(batch, count, sizeof(struct made *), compare);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || compare(&batch[i], &batch[kept - 1]) != 0)
            batch[kept++] = batch[i];
    return kept;
}

static PGconn *reader;
static struct buffer read_receipts, read_rejections; /* statements */

/*
 * Deletes and returns what a table holds: the request id, whether `json` is what was sent with that id (as text, since
 * 1.0 and 1.00 are equal), and `columns`. What was sent are the parameters.
 */
static void write_read(struct buffer *sql, const char *table, const char *id, const char *json, const char *columns) {
    buffer_init(sql);
    buffer_append_format(
        sql,
        "delete from inventory.%s returning %s, (select sent.json::text is not distinct from %s::text from (values ",
        table, id, json);
    for (int i = 0; i < DELIVERIES_MAX; i++)
        buffer_append_format(sql, "%s($%d::uuid, $%d::text::jsonb)", i > 0 ? ", " : "", 2 * i + 1, 2 * i + 2);
    buffer_append_format(sql, ") as sent (id, json) where sent.id = %s)%s", id, columns);
    buffer_append(sql, "", 1);
    REQUIRE(!sql->failed);
}

static PGresult *read_back(const char *sql, struct made *const *batch, size_t count) {
    const char *values[2 * DELIVERIES_MAX] = {NULL};
    int lengths[2 * DELIVERIES_MAX] = {0}, formats[2 * DELIVERIES_MAX];
    for (size_t i = 0; i < 2 * DELIVERIES_MAX; i++)
        formats[i] = 1;
    for (size_t i = 0; i < count; i++) {
        values[2 * i] = (const char *)batch[i]->delivery.request_id;
        lengths[2 * i] = REQUEST_ID_BYTES;
        values[2 * i + 1] = batch[i]->json.data; /* NULL where there is none */
        lengths[2 * i + 1] = (int)batch[i]->json.len;
    }
    PGresult *result = PQexecParams(reader, sql, 2 * DELIVERIES_MAX, NULL, values, lengths, formats, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fprintf(stderr, "%s\n", PQresultErrorMessage(result));
    REQUIRE(PQresultStatus(result) == PGRES_TUPLES_OK);
    REQUIRE(PQntuples(result) == (int)count);
    return result;
}

static bool is(const PGresult *result, int row, int column, const void *bytes, size_t len) {
    return !PQgetisnull(result, row, column) && PQgetlength(result, row, column) == (int)len &&
           (len == 0 || memcmp(PQgetvalue(result, row, column), bytes, len) == 0);
}

static bool is_value(const PGresult *result, int row, int column, const struct receipt_value *value) {
    return value->kind == RECEIPT_VALUE_ABSENT ? PQgetisnull(result, row, column)
                                               : is(result, row, column, value->text, value->len);
}

/* The row with the delivery's request id in the column. */
static int find_row(const PGresult *result, int column, const struct delivery *delivery) {
    for (int row = 0; row < PQntuples(result); row++)
        if (is(result, row, column, delivery->request_id, REQUEST_ID_BYTES))
            return row;
    REQUIRE(false && "there is a row for every delivery");
    return -1;
}

static void check_receipts(struct made *const *batch, size_t count) {
    PGresult *result = read_back(read_receipts.data, batch, count);
    for (size_t d = 0; d < count; d++) {
        const struct delivery *delivery = &batch[d]->delivery;
        const struct receipt *receipt = &delivery->receipt;
        int row = find_row(result, 0, delivery), column = 1;
        REQUIRE(is(result, row, column++, "\1", 1));
        REQUIRE(is(result, row, column++, delivery->api_key_name, strlen(delivery->api_key_name)));
        for (size_t i = 0; i < CONTRACT_COUNT; i++) {
            if (contract[i].type == INTEGER) {
                int64_t integer = (int64_t)htobe64((uint64_t)receipt_value_integer(&receipt->values[i]));
                REQUIRE(is(result, row, column++, &integer, sizeof integer));
            } else if (contract[i].type == STRING) {
                REQUIRE(is_value(result, row, column++, &receipt->values[i]));
            }
        }
    }
    PQclear(result);
}

static void check_rejections(struct made *const *batch, size_t count) {
    PGresult *result = read_back(read_rejections.data, batch, count);
    for (size_t d = 0; d < count; d++) {
        const struct delivery *delivery = &batch[d]->delivery;
        bool invalid = delivery->rejection == REJECTION_INVALID;
        const char *message = invalid ? "Validation Failed" : delivery->message;
        int16_t status = (int16_t)htobe16(invalid ? 422 : 400);
        int row = find_row(result, 0, delivery), column = 1;
        REQUIRE(is(result, row, column++, "\1", 1));
        REQUIRE(is(result, row, column++, delivery->api_key_name, strlen(delivery->api_key_name)));
        REQUIRE(is(result, row, column++, &status, sizeof status));
        REQUIRE(is(result, row, column++, message, strlen(message)));
        REQUIRE(is(result, row, column++, delivery->body, delivery->body_len));
        for (size_t i = 0; i < CONTRACT_COUNT; i++) {
            if (!contract[i].key)
                continue;
            const struct receipt_value *value = &delivery->receipt.values[i];
            REQUIRE(is_value(result, row, column++, value->len <= CONTRACT_KEY_BYTES ? value : &absent));
        }
    }
    PQclear(result);
}

enum { PREPARED, NOT_PREPARED };
static struct store *stores[2];

static struct store *new_store(int kind) {
    static struct database database;
    REQUIRE(database.hosts || database_init(&database, false));
    struct store_options options = {
        .database = &database, .batch_max = DELIVERIES_MAX, .prepared_statements = kind == PREPARED};
    struct store *made = store_new(&options);
    REQUIRE(made);
    return made;
}

/*
 * Batches of an even size take the statements that wait for no row, where those do the same: of what is stored already,
 * they settle only what is known to be flushed.
 */
static store_function *choose_function(size_t count, enum outcome outcome, bool again) {
    if (outcome == OUTCOME_UNAVAILABLE)
        return store_reject;
    if (count % 2 == 0 && outcome == OUTCOME_CREATED && !again)
        return store_insert;
    if (count % 2 == 0 && outcome == OUTCOME_REVISED)
        return store_revise;
    return store_upsert;
}

/* Stores the batch; every delivery has to have that outcome then, or the one of its rejection. */
static void store(struct store *store, struct made *const *batch, size_t count, enum outcome outcome, bool again) {
    struct delivery *deliveries[DELIVERIES_MAX];
    bool refused = outcome == OUTCOME_UNAVAILABLE;
    for (size_t i = 0; i < count; i++) {
        deliveries[i] = &batch[i]->delivery;
        deliveries[i]->state = DELIVERY_OPEN;
        deliveries[i]->outcome = OUTCOME_UNAVAILABLE;
    }
    enum store_result stored =
        choose_function(count, outcome, again)(store, deliveries, count, clock_now_us() + STORE_TIME_US);
    if (stored != STORE_OK)
        fprintf(stderr, "not stored: %s %s\n", store->failure, store->sqlstate);
    REQUIRE(stored == STORE_OK);
    for (size_t i = 0; i < count; i++)
        REQUIRE(deliveries[i]->state == DELIVERY_SETTLED &&
                deliveries[i]->outcome == (refused ? deliveries[i]->rejection_answer : outcome));
}

static void new_requests(struct made *const *batch, size_t count) {
    static uint64_t number;
    for (size_t i = 0; i < count; i++) {
        uint64_t id[2] = {htobe64(++number), 0};
        memcpy(batch[i]->delivery.request_id, id, sizeof id);
    }
}

/* Other deliveries with the same receipts; `copies` are the storage. */
static void copy(struct made *const *batch, size_t count, struct made *copies, struct made **list) {
    for (size_t i = 0; i < count; i++) {
        copies[i] = *batch[i];
        list[i] = &copies[i];
    }
    new_requests(list, count);
}

/* Another version of each receipt, with nothing in it but the key and what has to be there. */
static void store_other_version(struct store *to, struct made *const *batch, size_t count) {
    struct made copies[DELIVERIES_MAX], *list[DELIVERIES_MAX] = {NULL};
    copy(batch, count, copies, list);
    for (size_t d = 0; d < count; d++) {
        struct receipt *receipt = &copies[d].delivery.receipt;
        receipt->extra = NULL;
        receipt->extra_len = 0;
        for (size_t i = 0; i < CONTRACT_COUNT; i++)
            if (contract[i].type == STRING && !contract[i].key)
                receipt->values[i] = contract[i].required ? letter : absent;
            else if (contract[i].type == INTEGER)
                receipt->values[i] = text_is(receipt->values[i].text, receipt->values[i].len, "1") ? two : one;
    }
    store(to, list, count, OUTCOME_CREATED, false);
}

static void run_receipts(struct store *to, struct made **batch, size_t count, uint8_t flags) {
    enum outcome outcome = flags & REVISE ? OUTCOME_REVISED : OUTCOME_CREATED;
    count = sort(batch, count);
    if (flags & REVISE)
        store_other_version(to, batch, count);
    new_requests(batch, count);
    store(to, batch, count, outcome, false);
    if (flags & AGAIN) {
        struct made copies[DELIVERIES_MAX], *list[DELIVERIES_MAX] = {NULL};
        store(to, batch, count, outcome, true);
        copy(batch, count, copies, list);
        store(to, list, count, OUTCOME_UNCHANGED, true);
    }
    check_receipts(batch, count);
}

static void run_refused(struct store *to, struct made **batch, size_t count, uint8_t flags) {
    new_requests(batch, count);
    store(to, batch, count, OUTCOME_UNAVAILABLE, false);
    if (flags & AGAIN)
        store(to, batch, count, OUTCOME_UNAVAILABLE, true);
    check_rejections(batch, count);
}

static void set_up(void) {
    struct buffer columns;
    log_set_level(LOG_ERROR);
    reader = pg_connect_to_latest();
    if (PQstatus(reader) != CONNECTION_OK)
        fprintf(stderr, "%s", PQerrorMessage(reader));
    REQUIRE(PQstatus(reader) == CONNECTION_OK);
    PQclear(PQexec(reader, "delete from inventory.receipts"));
    PQclear(PQexec(reader, "delete from inventory.rejected_receipts"));

    setenv("PGUSER", "receiptd_writer", 1);
    stores[PREPARED] = new_store(PREPARED);
    stores[NOT_PREPARED] = new_store(NOT_PREPARED);

    buffer_init(&columns);
    buffer_append_text(&columns, ", api_key_name");
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        if (contract[i].column)
            buffer_append_format(&columns, ", %s", contract[i].column);
    buffer_append(&columns, "", 1);
    write_read(&read_receipts, "receipts", "coalesce(revised_request_id, request_id)", "extra", columns.data);
    buffer_fini(&columns);
    write_read(&read_rejections, "rejected_receipts", "request_id", "errors",
               ", api_key_name, status, message, body, program_identifier, asn_number, unit_identifier");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct made made[DELIVERIES_MAX] = {0}, *batch[DELIVERIES_MAX];
    struct input input = {data, size};
    size_t count = 0;
    if (!reader)
        set_up();
    uint8_t flags = take_byte(&input);
    do {
        batch[count] = &made[count];
        take_string(batch[count], &input, made[count].delivery.api_key_name, API_KEY_NAME_MAX + 1);
        (flags & REJECTED ? make_refused : make_receipt)(batch[count], &input);
        count++;
    } while (count < DELIVERIES_MAX && input.left > 0);
    int kind = flags & UNPREPARED ? NOT_PREPARED : PREPARED;
    struct store *to = flags & NEW_STORE ? new_store(kind) : stores[kind];
    (flags & REJECTED ? run_refused : run_receipts)(to, batch, count, flags);
    if (flags & NEW_STORE)
        store_free(to);
    for (size_t i = 0; i < count; i++)
        made_fini(&made[i]);
    return 0;
}
