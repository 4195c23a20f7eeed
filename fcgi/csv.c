#include "csv.h"

#include "utf8.h"

#include <string.h>

void csv_write_text(FILE *out, const char *text, char behind) {
    size_t len = strlen(text);
    fputc('"', out);
    for (size_t i = 0, size; i < len; i += size) {
        uint32_t code = (unsigned char)text[i];
        size = utf8_decode(text + i, len - i, &code);
        if (size == 0 || utf8_is_unsafe(code)) {
            fprintf(out, "\\u%04x", code);
            size = size == 0 ? 1 : size;
            continue;
        }
        if (code == '"')
            fputc('"', out);
        fwrite(text + i, 1, size, out);
    }
    fprintf(out, "\"%c", behind);
}
