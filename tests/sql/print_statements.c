/* Prints the worker's own statements, as psql prepares them: for the tests of the schema. */
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
        statements_write(&sql, statement, rows, NULL);
        if (sql.failed)
            exit(EXIT_FAILURE);
        printf("prepare %s_%zu", statements_name(statement), rows);
        for (size_t row = 0; row < rows && *row_types; row++)
            printf("%s%s", row == 0 ? " (" : ", ", row_types);
        printf("%s as %.*s;\n", *row_types ? ")" : "", (int)sql.len, sql.data);
        buffer_fini(&sql);
    }
}

int main(void) {
    print(STATEMENT_UPSERT, "", 3);
    print(STATEMENT_LOOKUP, "text, text, text, jsonb, uuid", 1);
    print(STATEMENT_REJECT, "uuid, text, smallint, text, jsonb, bytea, text, text, text", 2);
    printf("prepare unresolved as %s;\n", rejections_page_query);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
