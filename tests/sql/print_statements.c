/* Prints the worker's own statements, as psql prepares them, and its fields: for the tests of the schema. */
#include "receipt.h"
#include "rejections_pg.h"
#include "statements.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The types of a row's parameters; "": PostgreSQL finds them. */
static void print(enum statement statement, const char *row_types, size_t max_rows) {
    for (size_t rows = 1; rows <= max_rows; rows++) {
        struct buffer sql;
        buffer_init(&sql);
        statements_write(&sql, statement, rows, &(struct statements_options){0});
        if (sql.failed)
            exit(EXIT_FAILURE);
        printf("prepare %s_%zu", statements_name(statement), rows);
        for (size_t row = 0; row < rows && *row_types; row++)
            printf("%s%s", row == 0 ? " (" : ", ", row_types);
        printf("%s as %.*s;\n", *row_types ? ")" : "", (int)sql.len, sql.data);
        buffer_fini(&sql);
    }
}

/* Whether a valid receipt always has it: also where it is in an object, which may be left out. */
static bool is_always_there(const struct receipt_field *field) {
    bool always = field->required;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++)
        if (receipt_fields[i].type == RECEIPT_OBJECT && receipt_fields[i].opens == field->object)
            always &= receipt_fields[i].required;
    return always;
}

static void print_fields(void) {
    const char *before = "create temp view field (name, type, required) as values";
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        if (field->type == RECEIPT_OBJECT)
            continue;
        printf("%s ('%s', '%s', %s)", before, field->column, field->type == RECEIPT_INTEGER ? "bigint" : "text",
               is_always_there(field) ? "true" : "false");
        before = ",";
    }
    puts(";");
}

int main(void) {
    print_fields();
    print(STATEMENT_UPSERT, "", 3);
    print(STATEMENT_LOOKUP, "text, text, text, jsonb, uuid, boolean", 1);
    print(STATEMENT_REJECT, "uuid, text, smallint, text, jsonb, bytea, text, text, text, jsonb, uuid, integer, uuid[]",
          2);
    printf("prepare unresolved as %s;\n", rejections_page_query);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
