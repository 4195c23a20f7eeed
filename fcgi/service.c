#include "service.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_SIZE = 4096 };

/* The variables of a file of NAME=value lines; systemd.exec(5), EnvironmentFile=. */
static bool take_environment(const char *path) {
    char line[LINE_SIZE];
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const char *inherited = getenv("PATH"), *inherited_folder = getenv("TMPDIR");
    char programs[LINE_SIZE], folder[PATH_MAX];
    snprintf(programs, sizeof programs, "%s", inherited ? inherited : "/usr/sbin:/usr/bin:/sbin:/bin");
    snprintf(folder, sizeof folder, "%s", inherited_folder ? inherited_folder : "");
    clearenv();
    setenv("PATH", programs, 1);
    if (*folder)
        setenv("TMPDIR", folder, 1);
    while (fgets(line, sizeof line, file)) {
        char *name = line + strspn(line, " \t"), *value = strchr(name, '=');
        if (*name == '#' || *name == ';' || !value)
            continue;
        *value++ = '\0';
        size_t len = strlen(value);
        while (len > 0 && strchr(" \t\n", value[len - 1]))
            value[--len] = '\0';
        if (len >= 2 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
            value[len - 1] = '\0';
            value++;
        }
        setenv(name, value, 1);
    }
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
    if (!take_environment(service->file))
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
