#include "progress.h"

#include "clock.h"

#include <unistd.h>

enum { INTERVAL_US = 250 * US_PER_MS, BAR_WIDTH = 30 };

void progress_start(struct progress *progress, FILE *out) {
    *progress = (struct progress){.terminal = isatty(fileno(out)) ? out : NULL};
}

void progress_show(struct progress *progress, const char *what, uint64_t done, uint64_t total,
                   enum progress_unit unit) {
    static const struct {
        uint64_t size;
        const char *name;
    } units[] = {[PROGRESS_BYTES] = {1000000, "MB"}, [PROGRESS_DELIVERIES] = {1, "deliveries"}};
    if (!progress->terminal || clock_now_us() < progress->next_us)
        return;
    progress->next_us = clock_now_us() + INTERVAL_US;
    progress->shown = true;
    fprintf(progress->terminal, "\r%s ", what);
    if (total > 0) {
        int filled = done < total ? (int)((double)done / (double)total * BAR_WIDTH) : BAR_WIDTH;
        fprintf(progress->terminal, "[%.*s%*s] ", filled, "##############################", BAR_WIDTH - filled, "");
    }
    fprintf(progress->terminal, "%llu %s\033[K", (unsigned long long)(done / units[unit].size), units[unit].name);
    fflush(progress->terminal);
}

void progress_clear(struct progress *progress) {
    if (progress->shown)
        fputs("\r\033[K", progress->terminal);
    progress->shown = false;
}
