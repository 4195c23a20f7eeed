#include "service.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

#define BLANKS " \t\r\n"

static bool is_name(const char *name) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    return *name != '\0' && name[strspn(name, letters)] == '\0' && (*name < '0' || *name > '9');
}

static char *trim(char *text) {
    text += strspn(text, BLANKS);
    size_t len = strlen(text);
    while (len > 0 && strchr(BLANKS, text[len - 1]))
        text[--len] = '\0';
    return text;
}

/* Sets a variable by a line. False: it is none, so systemd ignores it. */
static bool take_line(char *line) {
    line = trim(line);
    if (*line == '\0' || *line == '#' || *line == ';')
        return true;
    char *value = strchr(line, '=');
    if (!value)
        return false;
    *value = '\0';
    bool ok = is_name(trim(line));
    char *text = trim(value + 1);
    size_t len = strlen(text);
    if (len >= 2 && (*text == '"' || *text == '\'') && text[len - 1] == *text) {
        text[len - 1] = '\0';
        text++;
    }
    if (ok)
        setenv(trim(line), text, 1);
    *value = '=';
    return ok;
}

/* The variables of a file of NAME=value lines; systemd.exec(5), EnvironmentFile=. */
static bool take_environment(struct service *service) {
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen(service->file, "re");
    if (!file)
        return false;
    const char *inherited = getenv("PATH"), *inherited_folder = getenv("TMPDIR");
    char programs[PATH_SIZE], folder[PATH_MAX];
    snprintf(programs, sizeof programs, "%s", inherited ? inherited : "/usr/sbin:/usr/bin:/sbin:/bin");
    snprintf(folder, sizeof folder, "%s", inherited_folder ? inherited_folder : "");
    clearenv();
    setenv("PATH", programs, 1);
    if (*folder)
        setenv("TMPDIR", folder, 1);
    for (unsigned number = 1; getline(&line, &size, file) >= 0; number++)
        if (!take_line(line) && service->wrong_line == 0) {
            service->wrong_line = number;
            snprintf(service->wrong_text, sizeof service->wrong_text, "%s", trim(line));
        }
    free(line);
    fclose(file);
    return true;
}

/* As the units set it: the file beside the environment's. */
static void set_password_file(const struct service *service) {
    char folder[PATH_MAX], path[PATH_MAX + 8];
    snprintf(folder, sizeof folder, "%s", service->file);
    snprintf(path, sizeof path, "%s/pgpass", dirname(folder));
    if (access(path, F_OK) == 0)
        setenv("PGPASSFILE", path, 0);
}

bool service_take_environment(struct service *service, const char *file) {
    *service = (struct service){.file = file};
    if (!file && !getenv("RECEIPTD_KEYS_FILE") && !getenv("RECEIPTD_AUTH"))
        service->file = SERVICE_ENVIRONMENT;
    if (!service->file)
        return true;
    if (!take_environment(service))
        return false;
    const struct passwd *user = geteuid() == 0 ? getpwnam(SERVICE_USER) : NULL;
    if (user) {
        service->has_user = true;
        service->uid = user->pw_uid;
        service->gid = user->pw_gid;
    }
    set_password_file(service);
    return true;
}

bool service_become(const struct service *service) {
    return !service->has_user || (setegid(service->gid) == 0 && seteuid(service->uid) == 0);
}

bool service_become_root(const struct service *service) {
    return !service->has_user || (seteuid(0) == 0 && setegid(0) == 0);
}
