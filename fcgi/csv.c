#include "csv.h"

void csv_write_text(FILE *out, const char *text, char behind) {
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fprintf(out, "\"%c", behind);
}
