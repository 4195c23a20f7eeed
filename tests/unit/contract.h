/*
 * The table of CONTRACT.md once more, written down independently of receipt.c, and bodies made from it.
 */
#ifndef RECEIPTD_CONTRACT_H
#define RECEIPTD_CONTRACT_H

#include "receipt.h"
#include "unit.h"

enum declared { STRING, INTEGER, OBJECT };
enum { OPTIONAL = 0, REQUIRED = 1, KEY = 1 };

struct contract_field {
    const char *path;
    enum declared type;
    int required;
    const char *column;
    int key;
    const char *values; /* the only ones allowed, each with a blank behind it; NULL: any */
    const char *valid;  /* a valid value, as JSON; an object's is made of its members' */
};

/* clang-format off */
static const struct contract_field contract[] = {
    {"program_identifier",             STRING,  REQUIRED, "program_identifier",             KEY, NULL, "\"returns\""},
    {"asn_number",                     STRING,  REQUIRED, "asn_number",                     KEY, NULL, "\"SO1\""},
    {"shipment_identifier",            STRING,  OPTIONAL, "shipment_identifier",            0,   NULL, "\"SI1\""},
    {"from",                           OBJECT,  REQUIRED, NULL,                             0,   NULL, NULL},
    {"from.identifier",                STRING,  REQUIRED, "from_identifier",                0,   NULL, "\"22\""},
    {"from.type",                      STRING,  REQUIRED, "from_type",                      0,   NULL, "\"Warehouse\""},
    {"to",                             OBJECT,  REQUIRED, NULL,                             0,   NULL, NULL},
    {"to.identifier",                  INTEGER, REQUIRED, "to_identifier",                  0,   NULL, "1352"},
    {"to.type",                        STRING,  REQUIRED, "to_type",                        0,   NULL, "\"Store\""},
    {"to.original_identifier",         STRING,  REQUIRED, "to_original_identifier",         0,   NULL, "\"42\""},
    {"carton_identifier",              STRING,  OPTIONAL, "carton_identifier",              0,   NULL, "\"CT1\""},
    {"reference",                      OBJECT,  OPTIONAL, NULL,                             0,   NULL, NULL},
    {"reference.type",                 STRING,  OPTIONAL, "reference_type",                 0,
     "StockTransferOrder RA RMA ForwardOrder ", "\"RMA\""},
    {"reference.identifier",           STRING,  OPTIONAL, "reference_identifier",           0,   NULL, "\"12345\""},
    {"reference.alternate_identifier", STRING,  OPTIONAL, "reference_alternate_identifier", 0,   NULL, "\"OR1\""},
    {"line_identifier",                STRING,  OPTIONAL, "line_identifier",                0,   NULL, "\"7\""},
    {"unit_identifier",                STRING,  REQUIRED, "unit_identifier",                KEY, NULL, "\"LP1\""},
    {"reference_line_identifier",      STRING,  OPTIONAL, "reference_line_identifier",      0,   NULL, "\"1\""},
    {"sku",                            STRING,  REQUIRED, "sku",                            0,   NULL, "\"S1\""},
    {"upc",                            STRING,  OPTIONAL, "upc",                            0,   NULL, "\"123\""},
    {"serial_number",                  STRING,  OPTIONAL, "serial_number",                  0,   NULL, "\"456\""},
    {"initial_condition",              STRING,  REQUIRED, "initial_condition",              0,
     "N R A B C X TT ", "\"N\""},
    {"initial_channel",                STRING,  REQUIRED, "initial_channel",                0,   NULL, "\"blinq\""},
    {"return_reason",                  STRING,  OPTIONAL, "return_reason",                  0,   NULL, "\"not like\""},
    {"ot_user_login",                  STRING,  REQUIRED, "ot_user_login",                  0,   NULL, "\"a@b.c\""},
    {"merchant",                       STRING,  OPTIONAL, "merchant",                       0,   NULL, "\"M\""},
    {"concept",                        STRING,  OPTIONAL, "concept",                        0,   NULL, "\"Brand\""},
    {"asin",                           STRING,  OPTIONAL, "asin",                           0,   NULL, "\"120029872\""},
    {"tracking_number",                STRING,  OPTIONAL, "tracking_number",                0,   NULL, "\"123\""},
    {"location_identifier",            STRING,  OPTIONAL, "location_identifier",            0,   NULL, "\"P 1\""},
    {"client_unit_identifier",         STRING,  OPTIONAL, "client_unit_identifier",         0,   NULL, "\"123\""},
    {"reject_reason",                  STRING,  OPTIONAL, "reject_reason",                  0,   NULL, "\"Empty Box\""},
};
/* clang-format on */

enum {
    CONTRACT_COUNT = sizeof contract / sizeof contract[0],
    CONTRACT_KEY_BYTES = 2674, /* of the three of the key together: what an index row always takes */
};

/* The position of a field in the table. */
static inline size_t contract_index(const char *path) {
    for (size_t i = 0; i < CONTRACT_COUNT; i++)
        if (strcmp(contract[i].path, path) == 0)
            return i;
    fail_msg("%s is no field of the contract", path);
    return 0;
}

/*
 * Whether a number in extra is kept as one: PostgreSQL's numeric, behind jsonb, writes out its exponent, and may then
 * make four times as many characters of it as were sent, and of a thousand at the most.
 */
static inline bool stays_a_number(const char *text, size_t len) {
    char number[1001];
    if (len >= sizeof number)
        return false;
    memcpy(number, text, len);
    number[len] = '\0';
    size_t mantissa = strcspn(number, "eE"), point = strcspn(number, ".eE"), sign = number[0] == '-';
    long exponent = number[mantissa] ? strtol(number + mantissa + 1, NULL, 10) : 0;
    if (exponent > 9999 || exponent < -9999)
        return false;
    long whole = (long)(point - sign) + exponent;
    long fraction = (number[point] == '.' ? (long)(mantissa - point) - 1 : 0) - exponent;
    return (long)sign + (whole > 1 ? whole : 1) + (fraction > 0 ? 1 + fraction : 0) <= 4 * (long)len;
}

/* A field of a body that is not as `contract[].valid`. */
struct change {
    const char *path;
    const char *json; /* NULL: the field is left out */
};

static inline const struct change *find_change(const char *path, const struct change *changes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(changes[i].path, path) == 0)
            return &changes[i];
    return NULL;
}

static inline void print_member(FILE *out, char *separator, const char *name, const char *json) {
    fprintf(out, "%c\"%s\":%s", *separator, name, json);
    *separator = ',';
}

/* A valid body with these changes, and with `more`, members of the body that no field describes. The caller frees it.
 */
static inline char *make_body(const struct change *changes, size_t count, const char *more) {
    char *body = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&body, &size);
    assert_non_null(out);
    char outer = '{', inner = 0;
    const char *inside = NULL; /* the object whose members are being written */
    bool skip = false;         /* that object was written as a change says */
    for (size_t i = 0; i < CONTRACT_COUNT; i++) {
        const struct contract_field *field = &contract[i];
        const struct change *change = find_change(field->path, changes, count);
        const char *dot = strchr(field->path, '.');
        const char *json = change ? change->json : field->valid;
        if (!dot && inside) {
            if (!skip)
                fputs(inner == '{' ? "{}" : "}", out);
            inside = NULL;
        }
        if (field->type == OBJECT) {
            inside = field->path;
            skip = change != NULL;
            inner = '{';
            if (!skip)
                print_member(out, &outer, field->path, "");
        }
        if (dot && !skip && json)
            print_member(out, &inner, dot + 1, json);
        if (!dot && (field->type != OBJECT || skip) && json)
            print_member(out, &outer, field->path, json);
    }
    if (more)
        fprintf(out, "%c%s", outer, more);
    fputc('}', out);
    assert_int_equal(fclose(out), 0);
    return body;
}

static inline char *make_body_with(const char *path, const char *json) {
    return make_body(&(struct change){path, json}, 1, NULL);
}

/* The errors as text, "FIELD:CODE" each, separated by blanks; good until the next call. */
static inline const char *errors_text(const struct receipt_errors *errors) {
    static char text[4096];
    text[0] = '\0';
    for (size_t i = 0; i < errors->count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s:%s", i > 0 ? " " : "",
                 receipt_fields[errors->list[i].field].path, receipt_error_names[errors->list[i].code]);
    return text;
}

#endif
