/*
 * The domain: what a receipt is, which fields it has, and which of them are wrong.
 *
 * One table, receipt_fields, describes every field of the vendor's request. Decoding, validation, error messages and
 * the SQL walk that table, so a new field of the vendor's is one line of receipt_fields.def, and a column of the
 * database's.
 *
 * Threads: everything here works on its arguments only; the table is constant.
 */
#ifndef RECEIPTD_RECEIPT_H
#define RECEIPTD_RECEIPT_H

#include "buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The JSON objects that hold fields: the body itself and the three inside it. */
enum receipt_object { RECEIPT_BODY, RECEIPT_FROM, RECEIPT_TO, RECEIPT_REFERENCE, RECEIPT_OBJECT_COUNT };

enum receipt_type {
    RECEIPT_TEXT,    /* a JSON string, or a JSON number that is an integer, of which the digits are kept */
    RECEIPT_INTEGER, /* an integer in the signed 64-bit range, as a JSON number or string */
    RECEIPT_OBJECT,  /* a JSON object; has no column of its own */
};

/* Lists of values that an operator may lengthen, since the vendor adds to them. */
enum receipt_list { RECEIPT_LIST_NONE, RECEIPT_CONDITIONS, RECEIPT_REFERENCE_TYPES, RECEIPT_LIST_COUNT };

/* What the operator may change of the rules. */
struct receipt_rules {
    const char *more_values[RECEIPT_LIST_COUNT]; /* separated by commas; NULL or empty: none */
};

struct receipt_field {
    const char *path;           /* as errors name it, e.g. "from.identifier" */
    const char *name;           /* its name inside `object`, e.g. "identifier" */
    const char *column;         /* NULL for RECEIPT_OBJECT */
    enum receipt_object object; /* where the field stands */
    enum receipt_type type;
    enum receipt_object opens; /* for RECEIPT_OBJECT: the object it is */
    bool required;
    bool key;                  /* part of the natural key */
    const char *const *values; /* the only values allowed, ended by NULL; NULL: any */
    enum receipt_list list;    /* which list of the rules adds to them */
};

enum receipt_field_id {
#define FIELD(id_, ...) RECEIPT_FIELD_##id_,
#include "receipt_fields.def"
#undef FIELD
    RECEIPT_FIELD_COUNT
};

enum {
    RECEIPT_COLUMN_COUNT = RECEIPT_FIELD_COUNT - (RECEIPT_OBJECT_COUNT - 1), /* the objects inside the body have none */
    RECEIPT_KEY_COUNT = 3,
    /*
     * Of the three key fields together, the only text with a limit: what a row of any index on them takes, whatever the
     * text is. The widest one is that of receipt_revisions_pkey, which ends in an integer. PostgreSQL, with its pages
     * of 8 kB, takes 2,704 bytes (nbtree.h, BTMaxItemSize): a header of 8 (itup.h), 4 in front of each text that has
     * more than 126 bytes (varatt.h), 4 for the integer. That leaves 2,680 for the texts and what fills each up to a
     * multiple of 4: at most 6 bytes for texts of 2,674 in all, and up to 9 for 2,675. Some that are longer would fit
     * by their lengths, or after compression; but no sender can know.
     */
    RECEIPT_KEY_MAX_BYTES = 2674,
};

/* In the order of CONTRACT.md's table, which is the order of errors and of columns. */
extern const struct receipt_field receipt_fields[RECEIPT_FIELD_COUNT];

/* The positions of the natural key's fields in receipt_fields, in the order of the primary key. */
extern const unsigned char receipt_key_fields[RECEIPT_KEY_COUNT];

/* What the body had for a field. The first three mean that the receipt has no value for it. */
enum receipt_value_kind {
    RECEIPT_VALUE_ABSENT = 0, /* no such member */
    RECEIPT_VALUE_NULL,
    RECEIPT_VALUE_BLANK,   /* set by receipt_validate; text and len are the string's */
    RECEIPT_VALUE_STRING,  /* text and len are the string's */
    RECEIPT_VALUE_INTEGER, /* text and len are its digits, with the sign */
    RECEIPT_VALUE_HUGE,    /* an integer whose exponent makes too many digits to write them (number.h) */
    RECEIPT_VALUE_OBJECT,
    RECEIPT_VALUE_OTHER, /* a number that is no integer, a boolean, an array */
};

struct receipt_value {
    const char *text; /* not NUL-terminated; points into receipt.block */
    uint32_t len;     /* bytes */
    enum receipt_value_kind kind;
};

struct receipt {
    struct receipt_value values[RECEIPT_FIELD_COUNT];
    const char *extra; /* JSON text of the members that no field describes; NULL when there are none */
    size_t extra_len;
    size_t extra_ends[RECEIPT_OBJECT_COUNT]; /* where in `extra` an inner object is closed; 0: it has none */
    size_t value_count;                      /* JSON values that the body had, at any level */
    uint64_t key_hash;                       /* equal for equal natural keys; set by receipt_validate */
    char *block;                             /* one heap block with all the text above */
};

/* Which columns the table lacks; zeroed: none. The value of a field without a column is kept in the column extra. */
struct receipt_columns {
    size_t missing_count;
    bool missing[RECEIPT_FIELD_COUNT];
};

enum receipt_error_code {
    RECEIPT_MISSING_FIELD,
    RECEIPT_INVALID_TYPE,
    RECEIPT_INVALID_VALUE,
    RECEIPT_TOO_LONG,
    RECEIPT_OUT_OF_RANGE,
    RECEIPT_ERROR_CODE_COUNT
};

struct receipt_error {
    unsigned char field; /* index into receipt_fields */
    enum receipt_error_code code;
};

struct receipt_errors {
    size_t count;
    struct receipt_error list[RECEIPT_FIELD_COUNT]; /* in the table's order; at most one a field */
};

/* The name of each code in the vendor's error envelope, such as "missing_field". */
extern const char *const receipt_error_names[RECEIPT_ERROR_CODE_COUNT];

/* Appends the errors as the array of the vendor's error envelope. */
void receipt_write_errors(struct buffer *out, const struct receipt_errors *errors);

/*
 * Finds the field called `name` inside `object`. `hint` is where to look first: senders keep the table's order, so that
 * starting behind the field found last hits at once. Returns its index, or -1 when the table has no such field.
 */
int receipt_find_field(enum receipt_object object, const char *name, size_t len, int hint);

/*
 * Judges every value by CONTRACT.md's rules and fills `errors` (count 0: valid). Blank values become
 * RECEIPT_VALUE_BLANK. When it is valid, key_hash is set. Returns whether it is valid.
 *
 * Where the key fields are too long together, RECEIPT_TOO_LONG is said of the one with the most bytes (of equals, the
 * last): there is most to shorten. While one of them has no text, nothing is said of their sum.
 */
bool receipt_validate(struct receipt *receipt, const struct receipt_rules *rules, struct receipt_errors *errors);

/* Whether the receipt has no value for the field: not sent, null or blank. */
static inline bool receipt_value_is_absent(const struct receipt_value *value) {
    return value->kind <= RECEIPT_VALUE_BLANK;
}

/* The number in a valid value of a RECEIPT_INTEGER field. */
int64_t receipt_value_integer(const struct receipt_value *value);

/* Whether a field has a column that the table has too. */
static inline bool receipt_has_column(const struct receipt_columns *columns, size_t field) {
    return receipt_fields[field].column && !columns->missing[field];
}

/*
 * Appends what belongs into the column extra, as JSON text: `extra`, and the values of fields without a column exactly
 * as they were sent, null and blank ones too, which is what a program writes that does not know these fields. Appends
 * nothing when there is nothing.
 */
void receipt_write_extra(struct buffer *out, const struct receipt *receipt, const struct receipt_columns *columns);

/* Whether the value has text. */
static inline bool receipt_value_is_text(const struct receipt_value *value) {
    return value->kind == RECEIPT_VALUE_STRING || value->kind == RECEIPT_VALUE_INTEGER;
}

/* Whether the value is text of a length that a key field may have, the other two apart. */
static inline bool receipt_value_fits_key(const struct receipt_value *value) {
    return receipt_value_is_text(value) && value->len <= RECEIPT_KEY_MAX_BYTES;
}

/* Orders receipts by their natural key, bytewise: the same in every worker, so that batches lock rows in one order. */
int receipt_compare_keys(const struct receipt *a, const struct receipt *b);

/* Frees the text and zeroes the receipt; harmless on a zeroed one. */
void receipt_fini(struct receipt *receipt);

#endif
