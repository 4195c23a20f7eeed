#include "doctor.h"

#include "api_keys.h"
#include "clock.h"
#include "config.h"
#include "doctor_nginx.h"
#include "doctor_pg.h"
#include "https.h"
#include "metrics.h"
#include "outcome.h"
#include "service.h"
#include "worker_page.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <math.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKER_SOCKETS "/run/receiptd/worker-*.sock"

enum {
    LINE_SIZE = 4096,
    DAYS_LEFT_MIN = 14,    /* of a certificate, as in deploy/alerts/receiptd.rules.yml */
    NGINX_READ_MS = 15000, /* fastcgi_read_timeout of nginx/receiptd-server.conf */
    COUNTED_US = US_PER_S,
    COUNT_AGAIN_US = 20 * US_PER_MS,
};
#define CLOCK_OFF_S 1.0
#define DISK_FREE_PERCENT 15.0 /* below: a warning; */
#define DISK_FULL_PERCENT 3.0  /* below: soon it is full */

struct doctor {
    struct findings *findings;
    struct config config;
    bool configured;
    struct service service;
    char *const *sockets;
    glob_t found;        /* of the default sockets */
    double examinations; /* of all workers, before the request; -1: not known */
};

/* Where root looks, it looks as the workers would. */
static void become_service(const struct doctor *doctor) {
    if (!service_become(&doctor->service))
        findings_add(doctor->findings, FINDING_WARN, "user", NULL, "cannot become " SERVICE_USER ": %s",
                     strerror(errno));
}

static void become_root(const struct doctor *doctor) {
    if (!service_become_root(&doctor->service))
        findings_add(doctor->findings, FINDING_WARN, "user", NULL, "cannot become root again: %s", strerror(errno));
}

static void examine_configuration(struct doctor *doctor) {
    char *text = NULL, *rest = NULL;
    size_t size = 0;
    FILE *errors = open_memstream(&text, &size);
    if (!errors) {
        findings_add(doctor->findings, FINDING_FAIL, "configuration", NULL, "out of memory");
        return;
    }
    doctor->configured = config_load(&doctor->config, environ, errors);
    fclose(errors);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        findings_add(doctor->findings, FINDING_FAIL, "configuration", "see receiptd.env(5)", "%s", line);
    free(text);
    if (doctor->service.wrong_line != 0)
        findings_add(doctor->findings, FINDING_WARN, "configuration",
                     "make it NAME=value, or begin it with #: systemd ignores it, and so do the workers",
                     "%s, line %u is no setting: %s", doctor->service.file, doctor->service.wrong_line,
                     doctor->service.wrong_text);
    if (!doctor->configured)
        return;
    if (doctor->config.deadline_ms >= NGINX_READ_MS)
        findings_add(doctor->findings, FINDING_WARN, "configuration", "raise fastcgi_read_timeout above it",
                     "RECEIPTD_DEADLINE_MS=%u is not below the %d ms that nginx waits", doctor->config.deadline_ms,
                     NGINX_READ_MS);
    else
        findings_add(doctor->findings, FINDING_OK, "configuration", NULL, "of %s",
                     doctor->service.file ? doctor->service.file : "the environment");
}

/* Who may read the key file, and who should. */
static void report_unreadable_keys(const struct doctor *doctor, const char *error) {
    const char *path = doctor->config.keys_file;
    struct stat file;
    char advice[LINE_SIZE];
    if (stat(path, &file) != 0) {
        snprintf(advice, sizeof advice, "run this as root, and let " SERVICE_USER " into each folder of %s", path);
        findings_add(doctor->findings, FINDING_FAIL, "API keys", advice, "%s", error);
        return;
    }
    const struct passwd *user = getpwuid(file.st_uid);
    const struct group *group = getgrgid(file.st_gid);
    snprintf(advice, sizeof advice,
             "the workers must be able to read it: chown root:" SERVICE_USER " %s; chmod 0640 %s", path, path);
    findings_add(doctor->findings, FINDING_FAIL, "API keys", advice, "%s (owner %s, group %s, mode %04o)", error,
                 user ? user->pw_name : "unknown", group ? group->gr_name : "unknown", file.st_mode & ALLPERMS);
}

/* `reason`: why the file could not be opened; 0: it could. */
static void report_no_keys(const struct doctor *doctor, int reason, const char *error) {
    struct stat file;
    if (reason == EACCES || reason == EPERM)
        report_unreadable_keys(doctor, error);
    else if (stat(doctor->config.keys_file, &file) == 0 && !S_ISREG(file.st_mode))
        findings_add(doctor->findings, FINDING_FAIL, "API keys", "let RECEIPTD_KEYS_FILE name a regular file", "%s",
                     error);
    else
        findings_add(doctor->findings, FINDING_FAIL, "API keys",
                     strstr(error, ", line ") ? "correct that line: NAME and digest, as receiptd key prints them"
                                              : "make one: receiptd key NAME",
                     "%s", error);
}

static void examine_keys(const struct doctor *doctor) {
    const char *path = doctor->config.keys_file;
    char error[512];
    struct stat file;
    if (doctor->config.remote_user) {
        findings_add(doctor->findings, FINDING_OK, "API keys", NULL, "none: the web server says who a sender is");
        return;
    }
    become_service(doctor);
    struct api_keys *keys = api_keys_load(path, error, sizeof error);
    int reason = keys || eaccess(path, R_OK) == 0 ? 0 : errno;
    become_root(doctor);
    if (!keys)
        report_no_keys(doctor, reason, error);
    else if (stat(path, &file) == 0 && file.st_mode & S_IWOTH)
        findings_add(doctor->findings, FINDING_FAIL, "API keys", "chmod o= it", "everyone can write %s", path);
    else if (file.st_mode & S_IROTH)
        findings_add(doctor->findings, FINDING_WARN, "API keys", "chmod o= it", "everyone can read %s", path);
    else
        findings_add(doctor->findings, FINDING_OK, "API keys", NULL, "%zu in %s, mode %04o", api_keys_count(keys), path,
                     file.st_mode & ALLPERMS);
    api_keys_free(keys);
}

/* How many of the doctor's requests the workers have answered; -1 when no worker tells. */
static double count_examinations(const struct doctor *doctor) {
    static const char line[] = "\n" METRICS_EXAMINATIONS " ";
    double count = -1;
    for (char *const *path = doctor->sockets; *path; path++) {
        struct buffer metrics;
        buffer_init(&metrics);
        const char *value = worker_page_get(*path, "metrics", &metrics) ? strstr(metrics.data, line) : NULL;
        if (value)
            count = (count < 0 ? 0 : count) + strtod(value + sizeof line - 1, NULL);
        buffer_fini(&metrics);
    }
    return count;
}

static void examine_access(const struct doctor *doctor, const char *path, const struct stat *file) {
    const struct passwd *user = getpwuid(file->st_uid);
    const struct group *group = getgrgid(file->st_gid);
    enum finding finding = FINDING_OK;
    const char *advice = NULL;
    if (file->st_mode & S_IWOTH) {
        /* With remote_user, who connects is believed. */
        finding = doctor->config.remote_user ? FINDING_FAIL : FINDING_WARN;
        advice = "every user of this machine may: set SocketMode=0660";
    } else if (!(file->st_mode & S_IWGRP)) {
        finding = FINDING_WARN;
        advice = "no group may: nginx can only if it runs as that user";
    }
    findings_add(doctor->findings, finding, "socket", advice, "%s: %s and group %s may connect, mode %04o", path,
                 user ? user->pw_name : "an unknown user", group ? group->gr_name : "unknown",
                 file->st_mode & ALLPERMS);
}

static void examine_version(const struct doctor *doctor, const char *path, const char *metrics) {
    static const char name[] = "\nreceiptd_info{version=\"";
    const char *version = strstr(metrics, name);
    if (!version)
        return;
    version += sizeof name - 1;
    int len = (int)strcspn(version, "\"");
    if (strncmp(version, RECEIPTD_VERSION "\"", sizeof RECEIPTD_VERSION) != 0)
        findings_add(doctor->findings, FINDING_WARN, "worker", "systemctl restart receiptd@1 receiptd@2",
                     "%s: runs version %.*s, and this is " RECEIPTD_VERSION, path, len, version);
}

static void report_no_socket(const struct doctor *doctor, const char *path, int reason) {
    bool closed = reason == EACCES;
    findings_add(doctor->findings, closed ? FINDING_WARN : FINDING_FAIL, "socket",
                 closed               ? "run this as root, and let nginx's user into each folder of that path"
                 : reason == ENOTSOCK ? "remove that file, then systemctl restart receiptd.target"
                                      : "systemctl enable --now receiptd.target",
                 "%s: %s", path, reason == ENOENT ? "there is no such socket" : strerror(reason));
}

static void examine_worker(const struct doctor *doctor, const char *path) {
    struct stat file;
    struct buffer ready, metrics;
    int reason = stat(path, &file) != 0 ? errno : S_ISSOCK(file.st_mode) ? 0 : ENOTSOCK;
    if (reason != 0) {
        report_no_socket(doctor, path, reason);
        return;
    }
    examine_access(doctor, path, &file);
    buffer_init(&ready);
    buffer_init(&metrics);
    if (!worker_page_get(path, "ready", &ready)) {
        bool denied = errno == EACCES;
        bool closed = errno == EPROTO || errno == ECONNRESET || errno == EPIPE;
        findings_add(doctor->findings, denied ? FINDING_WARN : FINDING_FAIL, "worker",
                     denied ? "run this as root" : "systemctl status receiptd@1 receiptd@2 shows why", "%s: %s", path,
                     closed            ? "the worker cannot start or does not speak FastCGI: the connection was closed"
                     : errno == EAGAIN ? "does not answer"
                                       : strerror(errno));
    } else if (!strstr(ready.data, "\"ready\":true")) {
        findings_add(doctor->findings, FINDING_FAIL, "worker", "see the worker's log", "%s: %s", path, ready.data);
    } else {
        findings_add(doctor->findings, FINDING_OK, "worker", NULL, "%s: ready", path);
        if (worker_page_get(path, "metrics", &metrics))
            examine_version(doctor, path, metrics.data);
    }
    buffer_fini(&ready);
    buffer_fini(&metrics);
}

static void examine_workers(struct doctor *doctor) {
    static char *const none[] = {NULL};
    if (!*doctor->sockets)
        doctor->sockets = glob(WORKER_SOCKETS, 0, NULL, &doctor->found) == 0 ? doctor->found.gl_pathv : none;
    if (!*doctor->sockets)
        findings_add(doctor->findings, FINDING_FAIL, "socket",
                     "systemctl enable --now receiptd.target, or name the sockets", "there is none " WORKER_SOCKETS);
    for (char *const *path = doctor->sockets; *path; path++)
        examine_worker(doctor, *path);
    doctor->examinations = count_examinations(doctor);
}

/* Runs a program and takes what it says on stderr, NUL-terminated. Its exit status; -1, with errno set, when it cannot.
 */
static int run(char *const arguments[], char *said, size_t size) {
    int ends[2], status = -1;
    pid_t child;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    int error = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t len = 0;
    ssize_t got;
    while (error == 0 && len < size - 1 && (got = read(ends[0], said + len, size - 1 - len)) > 0)
        len += (size_t)got;
    said[len] = '\0';
    close(ends[0]);
    if (error == 0 && waitpid(child, &status, 0) == child)
        return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
    errno = error;
    return -1;
}

static void examine_nginx(const struct doctor *doctor) {
    static char name[] = "nginx", test[] = "-t", quiet[] = "-q";
    char *const arguments[] = {name, test, quiet, NULL};
    char said[LINE_SIZE];
    int status = run(arguments, said, sizeof said);
    if (status < 0)
        findings_add(doctor->findings, FINDING_OK, "nginx", NULL, "not looked at, since it is not in PATH");
    else if (status == 0)
        findings_add(doctor->findings, FINDING_OK, "nginx", NULL, "its configuration is valid (nginx -t)");
    else if (geteuid() != 0 && strstr(said, "Permission denied"))
        findings_add(doctor->findings, FINDING_WARN, "nginx", "run this as root", "its configuration cannot be read");
    else
        findings_add(doctor->findings, FINDING_FAIL, "nginx", "mend it before nginx is started again", "nginx -t: %s",
                     said);
}

static void examine_certificate(const struct doctor *doctor, const struct https_answer *answer) {
    if (!answer->has_certificate)
        return;
    const char *subject = "certificate";
    if (answer->certificate[0])
        findings_add(doctor->findings, FINDING_FAIL, subject, answer->remedy, "for %s, %ld days left: %s",
                     answer->names, answer->days_left, answer->certificate);
    else
        findings_add(doctor->findings, answer->days_left < DAYS_LEFT_MIN ? FINDING_WARN : FINDING_OK, subject,
                     answer->days_left < DAYS_LEFT_MIN ? "renew it" : NULL, "for %s, %ld days left", answer->names,
                     answer->days_left);
}

/* Whether one of the workers has answered the request since. It counts an answer when it is sent, so a moment may pass.
 */
static bool have_been_asked(const struct doctor *doctor) {
    const int64_t deadline_us = clock_now_us() + COUNTED_US;
    while (count_examinations(doctor) <= doctor->examinations) {
        if (clock_now_us() > deadline_us)
            return false;
        usleep(COUNT_AGAIN_US);
    }
    return true;
}

static void examine_answer(const struct doctor *doctor, const char *url, int status) {
    struct findings *findings = doctor->findings;
    const char *subject = "endpoint";
    bool was_asked =
        doctor->examinations >= 0 && status == outcomes[OUTCOME_NOT_POST].status && have_been_asked(doctor);
    if (was_asked)
        findings_add(findings, FINDING_OK, subject, NULL, "%s reaches a worker: GET is answered %d", url, status);
    else if (status == outcomes[OUTCOME_NOT_POST].status && doctor->examinations < 0)
        findings_add(findings, FINDING_WARN, subject, "run this as root, with the workers running",
                     "%s answers %d as it should, but no worker says whether it was asked", url, status);
    else if (status == outcomes[OUTCOME_NOT_POST].status)
        findings_add(findings, FINDING_FAIL, subject, "compare nginx's upstream receiptd with the sockets above",
                     "%s answers %d, but none of these workers was asked", url, status);
    else if (status == outcomes[OUTCOME_UNAUTHORIZED].status && doctor->config.remote_user)
        findings_add(findings, FINDING_OK, subject, NULL, "%s asks who it is: the web server answers %d", url, status);
    else if (status >= 500)
        findings_add(findings, FINDING_FAIL, subject, "see nginx's error log: does it reach the workers' sockets?",
                     "%s answers %d", url, status);
    else
        findings_add(findings, FINDING_FAIL, subject,
                     "is nginx/receiptd-server.conf included in that server, and this address let in?", "%s answers %d",
                     url, status);
}

/* The vendor's pages name TLS 1.2. */
static void examine_tls(const struct doctor *doctor, const char *url, const char *ca_file) {
    struct https_answer answer;
    if (https_accepts_tls_1_2(url, ca_file, &answer))
        findings_add(doctor->findings, FINDING_OK, "TLS", NULL, "1.2 is accepted");
    else
        findings_add(doctor->findings, FINDING_FAIL, "TLS",
                     "let ssl_protocols and ssl_ciphers in nginx accept TLS 1.2, which the platform may need",
                     "the server does not accept TLS 1.2: %s", answer.failure);
}

static void examine_endpoint(const struct doctor *doctor) {
    struct https_answer answer;
    const char *url = doctor->config.url, *ca_file = *doctor->config.ca_file ? doctor->config.ca_file : NULL;
    if (!doctor->configured || !*url) {
        findings_add(doctor->findings, FINDING_WARN, "endpoint",
                     "set RECEIPTD_URL to the address that the sender calls", "not tried");
        return;
    }
    bool answered = https_get(url, ca_file, &answer);
    examine_certificate(doctor, &answer);
    if (answer.has_certificate)
        examine_tls(doctor, url, ca_file);
    if (answered)
        examine_answer(doctor, url, answer.status);
    else
        findings_add(doctor->findings, FINDING_FAIL, "endpoint",
                     answer.failure_remedy ? answer.failure_remedy : "does the name lead to nginx, and does it run?",
                     "%s: %s", url, answer.failure);
}

/* Sets where to look at the disk; false: PostgreSQL is on another host, or only root can see its folder. */
static bool find_data_folder(const struct doctor_pg_facts *facts, char *folder, size_t size) {
    char path[64];
    snprintf(folder, size, "/proc/%d/cwd", (int)facts->server);
    snprintf(path, sizeof path, "%s/PG_VERSION", folder);
    if (facts->server > 0)
        return access(path, F_OK) == 0;
    /* One that is down, perhaps since its disk is full, has no process. This is where Debian has its data. */
    snprintf(folder, size, "/var/lib/postgresql");
    return !facts->connected && access(folder, F_OK) == 0;
}

static void examine_disk(const struct doctor *doctor, const struct doctor_pg_facts *facts) {
    static const char *const folders[] = {"base", "pg_wal", "."};
    char folder[32], path[64];
    struct statvfs disk;
    double least = 100;
    unsigned long long least_bytes = 0;
    if (!find_data_folder(facts, folder, sizeof folder)) {
        findings_add(doctor->findings, FINDING_OK, "disk", NULL,
                     "not looked at: PostgreSQL is on another host, or only root can see its folder");
        return;
    }
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        double percent = statvfs(path, &disk) == 0 ? 100.0 * (double)disk.f_bavail / (double)disk.f_blocks : 100;
        if (percent < least) {
            least = percent;
            least_bytes = (unsigned long long)disk.f_bavail * disk.f_frsize;
        }
    }
    enum finding finding = least < DISK_FULL_PERCENT   ? FINDING_FAIL
                           : least < DISK_FREE_PERCENT ? FINDING_WARN
                                                       : FINDING_OK;
    findings_add(doctor->findings, finding, "disk", finding == FINDING_OK ? NULL : "make room, or receipts are refused",
                 "%.1f GB free for PostgreSQL, %.0f %%", (double)least_bytes / 1e9, least);
}

static void examine_rejections(const struct doctor *doctor, const struct doctor_pg_facts *facts) {
    if (facts->unresolved > 0)
        findings_add(doctor->findings, FINDING_WARN, "rejections",
                     "see inventory.open_rejections; widen a rule and run receiptd reprocess, or resolve them",
                     "%lld rejected deliveries are not resolved", facts->unresolved);
    else if (facts->unresolved == 0)
        findings_add(doctor->findings, FINDING_OK, "rejections", NULL, "none is unresolved");
}

static void examine_clock(const struct doctor *doctor, const struct doctor_pg_facts *facts) {
    struct timex state = {0};
    bool synchronized = ntp_adjtime(&state) != TIME_ERROR && !(state.status & STA_UNSYNC);
    if (facts->connected && fabs(facts->ahead_s) > CLOCK_OFF_S)
        findings_add(doctor->findings, FINDING_WARN, "clock", "synchronize both machines' clocks (chrony)",
                     "PostgreSQL's is %.1f s %s this machine's", fabs(facts->ahead_s),
                     facts->ahead_s > 0 ? "ahead of" : "behind");
    else if (!synchronized)
        findings_add(doctor->findings, FINDING_WARN, "clock", "install chrony or systemd-timesyncd",
                     "the kernel says that it is not synchronized");
    else
        findings_add(doctor->findings, FINDING_OK, "clock", NULL, "synchronized");
}

enum finding doctor(const struct doctor_options *options, FILE *out) {
    struct doctor doctor = {
        .findings = findings_new(out, options->json), .sockets = options->sockets, .examinations = -1};
    struct doctor_pg_facts facts;
    if (!doctor.findings)
        return FINDING_FAIL;
    signal(SIGPIPE, SIG_IGN);
    if (!service_take_environment(&doctor.service, options->environment_file))
        findings_add(doctor.findings, FINDING_FAIL, "configuration", "--env FILE names another one", "%s: %s",
                     doctor.service.file, strerror(errno));
    examine_configuration(&doctor);
    if (doctor.configured)
        examine_keys(&doctor);
    examine_workers(&doctor);
    examine_nginx(&doctor);
    doctor_nginx_logs(doctor.findings);
    examine_endpoint(&doctor);
    become_service(&doctor);
    doctor_pg(doctor.findings, doctor.configured && doctor.config.require_standby, &facts);
    become_root(&doctor);
    examine_disk(&doctor, &facts);
    examine_rejections(&doctor, &facts);
    examine_clock(&doctor, &facts);
    if (doctor.found.gl_pathv)
        globfree(&doctor.found);
    return findings_end(doctor.findings);
}
