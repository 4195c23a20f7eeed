#include "doctor_nginx.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOGS_MAX = 16 };

/* Starts `nginx -T`, which prints its whole configuration. NULL: it cannot. */
static FILE *start_nginx(pid_t *child) {
    static char name[] = "nginx", print[] = "-T", quiet[] = "-q";
    char *const arguments[] = {name, print, quiet, NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return NULL;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int error = posix_spawnp(child, name, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    FILE *out = error == 0 ? fdopen(ends[0], "r") : NULL;
    if (!out)
        close(ends[0]);
    return out;
}

/* Takes the path of a line such as "    error_log /var/log/nginx/error.log warn;". False: it is no such line. */
static bool take_path(const char *line, char path[PATH_MAX]) {
    static const char directive[] = "error_log";
    line += strspn(line, " \t");
    if (strncmp(line, directive, sizeof directive - 1) != 0)
        return false;
    line += sizeof directive - 1;
    line += strspn(line, " \t\"'");
    size_t len = strcspn(line, " \t\"';\n");
    if (*line != '/' || len >= PATH_MAX)
        return false; /* stderr, syslog, or below nginx's prefix */
    memcpy(path, line, len);
    path[len] = '\0';
    return true;
}

/* Whether a line of an error log is about a delivery whose URL has a query string. */
static bool has_query(const char *line) {
    static const char path[] = "/inventory_receipt";
    const char *at = strstr(line, ", request: \"");
    at = at ? strcasestr(at, path) : NULL; /* also behind a host, or a second slash */
    if (!at)
        return false;
    at += sizeof path - 1;
    return at[strcspn(at, "? \"")] == '?';
}

static void examine_log(struct findings *findings, const char *path) {
    char *line = NULL;
    size_t size = 0, count = 0;
    FILE *log = fopen(path, "re");
    while (log && getline(&line, &size, log) >= 0)
        count += has_query(line);
    free(line);
    if (log)
        fclose(log);
    if (count > 0)
        findings_add(findings, FINDING_WARN, "nginx",
                     "have the sender put its key into a header and replace the key; delete these lines",
                     "%s shows the query string of %zu deliveries, which can contain an API key", path, count);
}

void doctor_nginx_logs(struct findings *findings) {
    static char paths[LOGS_MAX][PATH_MAX];
    size_t count = 0, size = 0;
    char *line = NULL;
    pid_t child;
    FILE *configuration = start_nginx(&child);
    if (!configuration)
        return;
    while (getline(&line, &size, configuration) >= 0) {
        bool known = count == LOGS_MAX || !take_path(line, paths[count]);
        for (size_t i = 0; i < count && !known; i++)
            known = strcmp(paths[i], paths[count]) == 0;
        count += !known;
    }
    free(line);
    fclose(configuration);
    waitpid(child, NULL, 0);
    for (size_t i = 0; i < count; i++)
        examine_log(findings, paths[i]);
}
