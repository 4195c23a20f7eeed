#include "rows.h"

#include <endian.h>
#include <string.h>

bool rows_is_true(const PGresult *result, int row, int column) {
    return !PQgetisnull(result, row, column) && *PQgetvalue(result, row, column);
}

bool rows_is_of(const PGresult *result, int row, int column, const struct delivery *delivery) {
    return !PQgetisnull(result, row, column) && PQgetlength(result, row, column) == REQUEST_ID_BYTES &&
           memcmp(PQgetvalue(result, row, column), delivery->request_id, REQUEST_ID_BYTES) == 0;
}

enum outcome rows_outcome(const PGresult *result, int row, enum statement statement, const struct delivery *delivery) {
    if (rows_is_of(result, row, STATEMENTS_CREATED_BY, delivery))
        return OUTCOME_CREATED;
    if (rows_is_of(result, row, STATEMENTS_REVISED_BY, delivery) ||
        (statement == STATEMENT_LOOKUP && rows_is_true(result, row, STATEMENTS_HAD_REVISED)))
        return OUTCOME_REVISED;
    return OUTCOME_UNCHANGED;
}

bool rows_is_same(const PGresult *result, int row, const struct delivery *delivery,
                  const struct receipt_columns *columns) {
    const struct receipt *receipt = &delivery->receipt;
    int column = STATEMENTS_FIELDS;
    if (!rows_is_true(result, row, STATEMENTS_HAS_EXTRA))
        return false;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_value *value = &receipt->values[i];
        bool is_integer = receipt_fields[i].type == RECEIPT_INTEGER, absent = receipt_value_is_absent(value);
        if (!receipt_has_column(columns, i) || receipt_fields[i].key)
            continue;
        if (PQgetisnull(result, row, column) != absent)
            return false;
        if (!absent) {
            int64_t integer = is_integer ? (int64_t)htobe64((uint64_t)receipt_value_integer(value)) : 0;
            const void *bytes = is_integer ? (const void *)&integer : value->text;
            size_t len = is_integer ? sizeof integer : value->len;
            if ((size_t)PQgetlength(result, row, column) != len ||
                memcmp(PQgetvalue(result, row, column), bytes, len) != 0)
                return false;
        }
        column++;
    }
    return true;
}
