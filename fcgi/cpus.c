#include "cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_SIZE = 256, PATH_SIZE = PATH_MAX + LINE_SIZE };

/* The first line of a group's file. */
static bool read_line(const char *folder, const char *name, char line[LINE_SIZE]) {
    char path[PATH_SIZE];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    bool found = file && fgets(line, LINE_SIZE, file);
    if (file)
        fclose(file);
    return found;
}

/* The number that the line begins with; -1: none, such as "max". */
static long long number_in(const char *line, char **end) {
    long long number = strtoll(line, end, 10);
    return *end == line ? -1 : number;
}

/* What one group allows itself: cpu.max of cgroup v2, "max" or a time in each period; or the two files of v1. */
static unsigned limit_of(const char *folder, bool v2) {
    char line[LINE_SIZE], period_line[LINE_SIZE], *end;
    long long quota = -1, period = -1;
    if (v2 && read_line(folder, "cpu.max", line)) {
        quota = number_in(line, &end);
        period = number_in(end, &end);
    }
    if (!v2 && read_line(folder, "cpu.cfs_quota_us", line) && read_line(folder, "cpu.cfs_period_us", period_line)) {
        quota = number_in(line, &end);
        period = number_in(period_line, &end);
    }
    if (quota <= 0 || period <= 0)
        return UINT_MAX;
    unsigned long long cpus = ((unsigned long long)quota - 1) / (unsigned long long)period + 1;
    return cpus < UINT_MAX ? (unsigned)cpus : UINT_MAX;
}

static bool has_word(const char *words, const char *word) {
    size_t len = strlen(word);
    for (; *words; words += strcspn(words, ",") + (words[strcspn(words, ",")] == ','))
        if (strcspn(words, ",") == len && memcmp(words, word, len) == 0)
            return true;
    return false;
}

/*
 * A limit holds for all that is below the group, so every one up to the root counts. A group that is not there is
 * passed over: in a container, the path can be the host's, and what is mounted begins with the container's own group.
 */
static unsigned smallest_limit(const char *mounted, const char *group, bool v2) {
    char folder[PATH_SIZE];
    unsigned smallest = UINT_MAX;
    if (snprintf(folder, sizeof folder, "%s%s%s", mounted, v2 ? "" : "/cpu", group) >= (int)sizeof folder)
        return smallest;
    for (size_t top = strlen(folder) - strlen(group);;) {
        unsigned limit = limit_of(folder, v2);
        if (limit < smallest)
            smallest = limit;
        char *last = strrchr(folder + top, '/');
        if (!last)
            return smallest;
        *last = '\0';
    }
}

unsigned cpus_limit(const char *groups, const char *mounted) {
    char line[PATH_SIZE];
    unsigned smallest = UINT_MAX;
    FILE *file = fopen(groups, "re");
    if (!file)
        return smallest;
    /* Lines are "NUMBER:CONTROLLERS:PATH"; cgroup v2's has the number 0 and no controllers (cgroups(7)). */
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = '\0';
        *group++ = '\0';
        bool v2 = strcmp(line, "0") == 0 && *controllers == '\0';
        if (!v2 && !has_word(controllers, "cpu"))
            continue;
        unsigned limit = smallest_limit(mounted, group, v2);
        if (limit < smallest)
            smallest = limit;
    }
    fclose(file);
    return smallest;
}

unsigned cpus_usable(void) {
    cpu_set_t set;
    /* It has no room for more than 1,024 processors, and fails where there are. */
    long cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    unsigned limit = cpus_limit("/proc/self/cgroup", "/sys/fs/cgroup");
    if (cpus < 1)
        cpus = 1;
    return (unsigned long)cpus < limit ? (unsigned)cpus : limit;
}
