/*
 * No memory, at any allocation: every scenario is run with its first allocation failing, then with its second, and so
 * on until none fails any more. Each time it has to end in a right answer or in "unavailable", and with nothing leaked.
 */
#include "tree.h"
#include "unit.h"

#ifdef SANITIZED

/* They have an allocator of their own, which nothing else can stand in for. */
int main(void) {
    puts("1..0 # SKIP not with the sanitizers");
    return 0;
}

#else

#include "group_commit.h"
#include "handler.h"
#include "jansson_use.h"
#include "packed.h"
#include "reply.h"
#include "store.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_long fail_at;    /* the allocation that fails, counted from 1; 0: none */
static atomic_long allocation; /* since begin_counting */
static atomic_long live;       /* blocks allocated and not freed */

/* These take the place of glibc's, also for the libraries: Jansson, libcrypto and libpq. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void __libc_free(void *block);

static bool fails(void) {
    long at = atomic_load(&fail_at);
    if (at == 0 || atomic_fetch_add(&allocation, 1) + 1 != at)
        return false;
    errno = ENOMEM;
    return true;
}

static void *count_block(void *block) {
    if (block)
        atomic_fetch_add(&live, 1);
    return block;
}

void *malloc(size_t size) {
    return fails() ? NULL : count_block(__libc_malloc(size));
}

void *calloc(size_t count, size_t size) {
    return fails() ? NULL : count_block(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size) {
    if (fails())
        return NULL;
    void *moved = __libc_realloc(block, size);
    return block ? moved : count_block(moved);
}

void free(void *block) {
    if (block)
        atomic_fetch_sub(&live, 1);
    __libc_free(block);
}

static const char minimal[] =
    "{\"program_identifier\":\"p\",\"asn_number\":\"a\",\"unit_identifier\":\"u\",\"from\":{\"identifier\":1,\"type\":"
    "\"S\",\"dock\":[1.50,{\"x\":12345678901234567890}]},\"to\":{\"identifier\":1,\"type\":\"W\","
    "\"original_identifier\":\"o\"},\"sku\":\"s\",\"initial_condition\":\"N\",\"initial_channel\":\"c\","
    "\"ot_user_login\":\"l\",\"tracking_number\":9400100000000000000000,\"more\":{\"y\":\"\\\"z\\\"\"}}";

static char key[API_KEY_TEXT_SIZE];
static struct api_keys *keys;

/* Jansson may drop a character or end the process where it gets no memory: it has to be spared that. */
static long allocations_inside_jansson;

static void *malloc_for_jansson(size_t size) {
    long before = atomic_load(&allocation);
    void *block = count_jansson_use(size);
    allocations_inside_jansson += atomic_load(&allocation) - before;
    return block;
}

static int load_keys(void **state) {
    char line[API_KEY_LINE_SIZE], error[256];
    make_folder(state);
    if (!api_keys_generate("acme", key, line))
        return -1;
    keys = api_keys_load(write_file("keys", line), error, sizeof error);
    json_free_t free_of_module;
    begin_jansson_use();
    json_get_alloc_funcs(NULL, &free_of_module);
    json_set_alloc_funcs(malloc_for_jansson, free_of_module);
    return keys ? 0 : -1;
}

static int free_keys(void **state) {
    api_keys_free(keys);
    return remove_folder(state);
}

/* One request through handler and reply. Returns its answer; `stored` is what a store would make of it. */
static int answer(const char *body, size_t len, const char *authorization, bool *to_store) {
    const struct handler handler = {.keys = keys, .deadline_us = 1000000};
    struct request request = {
        .method = "POST",
        .content_type = "application/json",
        .request_id = "0123456789abcdef0123456789abcdef",
        .credentials = {{.value = authorization ? authorization : key, .authorization = authorization != NULL}},
        .credential_count = 1,
        .headers = {"id", NULL, "00-1"},
        .body = body,
        .body_len = len};
    struct delivery delivery = {0};
    char storage[8192];
    struct buffer out;
    *to_store = handler_handle(&handler, &request, &delivery);
    if (*to_store)
        delivery_settle(&delivery, delivery.rejection == REJECTION_NONE ? OUTCOME_CREATED : delivery.rejection_answer);
    buffer_init_fixed(&out, storage, sizeof storage);
    reply_write(&out, &delivery);
    assert_false(out.failed);
    int status = outcomes[delivery.outcome].status;
    delivery_fini(&delivery);
    return status;
}

/* Returns how many allocations there were to fail. */
static long fail_every_allocation(const char *body, size_t len, const char *authorization, int expected, bool check) {
    for (long n = 1;; n++) {
        bool to_store;
        long before = atomic_load(&live);
        atomic_store(&allocation, 0);
        atomic_store(&fail_at, n);
        int status = answer(body, len, authorization, &to_store);
        bool failed = atomic_load(&allocation) >= n;
        atomic_store(&fail_at, 0);
        if (check)
            assert_int_equal(atomic_load(&live), before);
        if (status != expected) {
            assert_int_equal(status, 503);
            assert_false(to_store);
        }
        assert_int_equal(allocations_inside_jansson, 0);
        if (!failed) {
            assert_int_equal(status, expected);
            return n - 1;
        }
    }
}

/* The first time, libcrypto allocates what it keeps for errors. */
static void check_every_allocation(const char *body, size_t len, const char *authorization, int expected) {
    fail_every_allocation(body, len, authorization, expected, false);
    assert_true(fail_every_allocation(body, len, authorization, expected, true) > 2);
}

static void valid_receipt_without_memory_is_unavailable(void **state) {
    (void)state;
    check_every_allocation(minimal, sizeof minimal - 1, NULL, 201);
}

/* `minimal` with these members at its end, the second as often as a body of about `size` bytes holds it. */
static void check_large_body(size_t size, const char *before, const char *unit, const char *after, int expected) {
    struct buffer body;
    buffer_init(&body);
    buffer_append(&body, minimal, sizeof minimal - 2);
    buffer_append_text(&body, before);
    /* A unit with a comma in front is up to three values; of more of them, no tree is made. */
    for (size_t i = 0; body.len < size && (*unit != ',' || i < TREE_VALUES_MAX / 4); i++)
        buffer_append_text(&body, unit);
    buffer_append_text(&body, after);
    assert_false(body.failed);
    check_every_allocation(body.data, body.len, NULL, expected);
    buffer_fini(&body);
}

/*
 * Their trees take much more than the block on the stack. Escapes are what Jansson reads twice, and asserts the second
 * time: the escaped slash is followed by what is no escape, if the slash is lost where its buffer for a text grows.
 */
static void large_body_without_memory_is_unavailable(void **state) {
    (void)state;
    enum { LARGE = 256 * 1024 };
    static const struct {
        const char *before, *unit, *after;
        int expected;
    } rows[] = {
        {",\"a\":\"", "\\/x", "\"}", 201},
        {",\"a\":\"1", "\\/x", "\"}", 201},
        {",\"a\":\"12", "\\/x", "\"}", 201},
        {",\"a\":\"", "\\u00e9", "\"}", 201},
        {",\"a\":\"", "\\\\", "\"}", 201},
        {",\"a\":\"", "x", "\"}", 201},
        {",\"", "\\\"", "\":0}", 201},
        {",\"a\":[{}", ",{}", "]}", 201},
        {",\"a\":[0", ",[]", "]}", 201},
        {",\"a\":[0", ",\"\"", "]}", 201},
        {",\"a\":[0", ",1.5", "]}", 201},
        {",\"a\":[0", ",1e+999", "]}", 201},
        {",\"a\":[0", ",{\"\\t\":[true]}", "]}", 201},
        {",\"a\":", "7", "}", 201},
        {",\"a\":[0", ",{}", "", 400},
        {",\"a\":\"", "x", "", 400},
        {",\"a\":", "x", "}", 400},
        {",\"a\":[0", ",{}", ",\"\xff\"]}", 400},
        {",\"a\":[0", ",{}", "],\"asn_number\":0}", 400},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_large_body(LARGE, rows[i].before, rows[i].unit, rows[i].after, rows[i].expected);
    /* About what the block on the stack holds. */
    for (size_t size = 1000; size < 6000; size += 50)
        check_large_body(size, ",\"a\":[{\"b\":1}", ",{\"b\":\"\\n\"}", "]}", 201);
}

/* As deep as Jansson goes, and deeper: the body is a level, and so is the number inside. */
static void deep_body_without_memory_is_unavailable(void **state) {
    (void)state;
    for (int levels = JSON_PARSER_MAX_DEPTH - 2; levels < JSON_PARSER_MAX_DEPTH; levels++) {
        struct buffer body;
        buffer_init(&body);
        buffer_append(&body, minimal, sizeof minimal - 2);
        buffer_append_text(&body, ",\"a\":");
        for (int i = 0; i < levels; i++)
            buffer_append_text(&body, i % 2 ? "[" : "{\"a\":");
        buffer_append_text(&body, "0");
        for (int i = levels - 1; i >= 0; i--)
            buffer_append_text(&body, i % 2 ? "]" : "}");
        buffer_append_text(&body, "}");
        check_every_allocation(body.data, body.len, NULL, levels < JSON_PARSER_MAX_DEPTH - 1 ? 201 : 400);
        buffer_fini(&body);
    }
}

static void compressed_receipt_without_memory_is_unavailable(void **state) {
    (void)state;
    size_t len;
    char *packed = pack(minimal, sizeof minimal - 1, GZIP, &len);
    check_every_allocation(packed, len, NULL, 201);
    packed[len - 5] ^= 1;
    check_every_allocation(packed, len, NULL, 400);
    free(packed);
    packed = pack("{}", 2, GZIP, &len);
    check_every_allocation(packed, len, NULL, 422);
    free(packed);
}

static void invalid_receipt_without_memory_is_unavailable(void **state) {
    (void)state;
    const char body[] = "{\"from\":5,\"to\":{\"identifier\":99999999999999999999},\"other\":[1,2,{\"a\":null}]}";
    check_every_allocation(body, sizeof body - 1, NULL, 422);
}

static void malformed_body_without_memory_is_unavailable(void **state) {
    (void)state;
    const char body[] = "{\"a\":1,\"b\":{\"c\":1,\"c\":2}}";
    check_every_allocation(body, sizeof body - 1, NULL, 400);
}

static void basic_authorization_without_memory_is_no_401(void **state) {
    (void)state;
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char pair[128], header[256] = "Basic ";
    int len = snprintf(pair, sizeof pair - 3, "acme:%s", key);
    size_t at = strlen(header);
    for (int i = 0; i < len; i += 3) {
        unsigned bits = (unsigned)(unsigned char)pair[i] << 16 | (i + 1 < len ? (unsigned char)pair[i + 1] : 0u) << 8 |
                        (i + 2 < len ? (unsigned char)pair[i + 2] : 0u);
        for (int part = 0; part < 4; part++)
            header[at++] = part <= len - i ? alphabet[bits >> (18 - 6 * part) & 63] : '=';
    }
    header[at] = '\0';
    check_every_allocation(minimal, sizeof minimal - 1, header, 201);
}

static struct database database; /* no store connects */

static void new_store_without_memory_leaves_nothing(void **state) {
    (void)state;
    const struct store_options options = {.database = &database, .batch_max = 4, .prepared_statements = true};
    struct store *store = NULL;
    long n = 0;
    while (!store && n < 1000) {
        long before = atomic_load(&live);
        atomic_store(&allocation, 0);
        atomic_store(&fail_at, ++n);
        store = store_new(&options);
        atomic_store(&fail_at, 0);
        if (!store)
            assert_int_equal(atomic_load(&live), before);
    }
    assert_non_null(store);
    assert_true(n > 5);
    store_free(store);
}

static size_t done_count;

static void count_done(struct delivery *const *deliveries, size_t count) {
    (void)deliveries;
    done_count += count;
}

static void new_group_commit_without_memory_frees_its_stores(void **state) {
    (void)state;
    const struct group_commit_options options = {.batch_max = 4, .queue_max = 8, .queue_max_bytes = 65536};
    const struct store_options store_options = {.database = &database, .batch_max = 4};
    struct store *stores[1 + GROUP_COMMIT_MORE_STORES];
    struct group_commit *group_commit = NULL;
    int tried = 0;
    long before = atomic_load(&live);
    while (!group_commit && tried < 100) {
        for (size_t i = 0; i < COUNT_OF(stores); i++)
            assert_non_null(stores[i] = store_new(&store_options));
        atomic_store(&allocation, 0);
        atomic_store(&fail_at, ++tried);
        group_commit = group_commit_new(&options, stores, COUNT_OF(stores), count_done);
        atomic_store(&fail_at, 0);
        if (!group_commit)
            assert_int_equal(atomic_load(&live), before);
    }
    assert_non_null(group_commit);
    assert_true(tried > 2);
    /* Passing a delivery through takes no memory at all; as its time is up, it does not get to the store. */
    struct delivery delivery = {.deadline_us = 1};
    atomic_store(&allocation, 0);
    atomic_store(&fail_at, 1);
    assert_true(group_commit_submit(group_commit, &delivery));
    bool aside;
    assert_int_equal(group_commit_work(group_commit, &aside), -1);
    assert_false(aside);
    atomic_store(&fail_at, 0);
    group_commit_free(group_commit);
    assert_int_equal(done_count, 1);
    assert_int_equal(atomic_load(&live), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_receipt_without_memory_is_unavailable),
        cmocka_unit_test(large_body_without_memory_is_unavailable),
        cmocka_unit_test(deep_body_without_memory_is_unavailable),
        cmocka_unit_test(compressed_receipt_without_memory_is_unavailable),
        cmocka_unit_test(invalid_receipt_without_memory_is_unavailable),
        cmocka_unit_test(malformed_body_without_memory_is_unavailable),
        cmocka_unit_test(basic_authorization_without_memory_is_no_401),
        cmocka_unit_test(new_store_without_memory_leaves_nothing),
        cmocka_unit_test(new_group_commit_without_memory_frees_its_stores),
    };
    return cmocka_run_group_tests_name("memory", tests, load_keys, free_keys);
}

#endif
