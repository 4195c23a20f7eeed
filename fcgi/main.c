/* The command line, signals, and the wiring of the modules. Only this file ends the process. */
#include "acknowledged.h"
#include "api_keys.h"
#include "clock.h"
#include "config.h"
#include "doctor.h"
#include "group_commit.h"
#include "handler.h"
#include "listener.h"
#include "log.h"
#include "memory.h"
#include "missing.h"
#include "rejections_pg.h"
#include "reprocess.h"
#include "server.h"
#include "service.h"
#include "worker_page.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum {
    MESSAGE_SIZE = 512,
    DRAIN_EXTRA_MS = 8000,    /* beyond the deadline of a delivery: the time a request may take to arrive, and some */
    STATUS_US = 5 * US_PER_S, /* how often systemd is told */
    REFUSE_S = 5,             /* how long a worker that cannot start shows why, before it ends */
    EXTEND_START_US = 2 * REFUSE_S * US_PER_S,
    STACK_BYTES = 2 * 1024 * 1024, /* of a thread; the most deeply nested body takes 200 KB of it */
};

enum { EXIT_USAGE = 2 };

static int usage(FILE *out, int status) {
    fprintf(
        out,
        "Usage: receiptd [--listen PATH]   serve POST /inventory_receipt over FastCGI\n"
        "       receiptd doctor [--json] [--env FILE] [SOCKET...]\n"
        "                                  examine everything between the sender and the disk\n"
        "       receiptd key NAME          make a new API key\n"
        "       receiptd reload SOCKET     have the worker at SOCKET read the API keys again\n"
        "       receiptd reprocess [--dry-run] [--since TIME | --id ID] [--env FILE]\n"
        "                                  make receipts of the rejected deliveries that are valid by now\n"
        "       receiptd missing [--csv] [--env FILE] [FILE...]\n"
        "                                  which deliveries got 503 in these logs, and were not retried since\n"
        "       receiptd missing --acknowledged [--since TIME] [--until TIME] [--csv] [--env FILE] [FILE...]\n"
        "                                  which deliveries these logs show as acknowledged, and are lost: after\n"
        "                                  a failover, a restore, or a point-in-time recovery\n"
        "       receiptd --version | --help\n"
        "\n"
        "Exit status: 0 done, 1 failed (reprocess: or not everything could be stored), 2 wrong usage.\n"
        "doctor: 0 all is well, 1 there are warnings, 2 something has failed. missing: 0 nothing is missing, 1 "
        "something "
        "is,\n"
        "2 failed, 3 nothing was found missing, but the logs could not be read completely or do not show everything.\n"
        "Without --listen the socket is taken from systemd or from descriptor 0.\n"
        "SIGTERM: answer what was begun, then exit; once more: exit at once. SIGHUP: read the API keys again.\n"
        "\n"
        "Environment:\n");
    config_describe(out);
    fprintf(out, "  PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSFILE, PGTARGETSESSIONATTRS, ...\n"
                 "      the database, as for every program with libpq\n");
    return status;
}

static int make_key(const char *name) {
    char key[API_KEY_TEXT_SIZE], line[API_KEY_LINE_SIZE];
    struct service service;
    if (!api_keys_name_valid(name)) {
        fprintf(stderr, "receiptd: a key's name has 1 to %d of A-Z a-z 0-9 . _ @ -\n", API_KEY_NAME_MAX);
        return EXIT_USAGE;
    }
    service_take_environment(&service, NULL); /* where there is none, there is no file to compare with */
    const char *file = getenv("RECEIPTD_KEYS_FILE");
    if (file && api_keys_file_has(file, name)) {
        fprintf(
            stderr,
            "receiptd: %s has a key named %s already. To replace it, make one with a new name, such as %s-2027, and "
            "delete the old line when the sender uses the new key.\n",
            file, name, name);
        return EXIT_FAILURE;
    }
    if (!api_keys_generate(name, key, line)) {
        fprintf(stderr, "receiptd: the system has no randomness for a key\n");
        return EXIT_FAILURE;
    }
    printf("API key (shown once; give it to the sender):\n  %s\n"
           "Line for the key file (RECEIPTD_KEYS_FILE):\n  %s\n",
           key, line);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static struct handler make_handler(const struct config *config, struct api_keys *keys) {
    return (struct handler){.remote_user = config->remote_user,
                            .keys = keys,
                            .deadline_us = (int64_t)config->deadline_ms * 1000,
                            .rules.more_values = {[RECEIPT_CONDITIONS] = config->extra_conditions,
                                                  [RECEIPT_REFERENCE_TYPES] = config->extra_reference_types},
                            .accept_invalid = config->accept_invalid};
}

/* For a command of an operator's: the workers' environment, or the process's own where there is none. */
static bool take_environment(struct service *service, const char *file) {
    if (service_take_environment(service, file) || (!file && errno == ENOENT))
        return true;
    fprintf(stderr, "receiptd: %s: %s\n", service->file, strerror(errno));
    return false;
}

static int look_for_missing(struct missing_options options, const char *environment_file) {
    struct service service;
    if (!take_environment(&service, environment_file))
        return MISSING_FAILED;
    const char *retries = getenv("RECEIPTD_SENDER_RETRIES");
    if (!retries_parse(retries ? retries : RETRIES_DEFAULT, &options.retries)) {
        fprintf(stderr, "RECEIPTD_SENDER_RETRIES=%s: expected hours, such as 32h, or a number of attempts, such as 5\n",
                retries);
        return MISSING_FAILED;
    }
    options.service = &service;
    return (int)(options.acknowledged ? acknowledged_missing : missing)(&options, stdout, stderr);
}

static int reprocess_rejections(struct reprocess_options options, const char *environment_file) {
    struct config config;
    struct service service;
    if (!take_environment(&service, environment_file))
        return EXIT_FAILURE;
    if (!service_become(&service)) {
        fprintf(stderr, "receiptd: cannot become " SERVICE_USER ": %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    if (!config_load(&config, environ, stderr))
        return EXIT_FAILURE;
    log_set_level(LOG_WARNING);
    struct database database;
    struct store_options store_options = {.database = &database,
                                          .batch_max = 1,
                                          .prepared_statements = config.prepared_statements,
                                          .keep_when = REJECTIONS_SUPERSEDED,
                                          .ignored_fields = config.ignored_fields,
                                          .keep_newer = config.keep_newer};
    struct handler handler = make_handler(&config, NULL);
    options.handler = &handler;
    options.store = database_init(&database, config.require_standby) ? store_new(&store_options) : NULL;
    if (!options.store) {
        fprintf(stderr, "receiptd: out of memory\n");
        return EXIT_FAILURE;
    }
    bool ok = reprocess(&options, stdout, stderr);
    store_free(options.store);
    database_fini(&database);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static struct group_commit *start_group_commit(const struct config *config, struct database *database) {
    struct store_options store_options = {.database = database,
                                          .batch_max = config->batch_max,
                                          .prepared_statements = config->prepared_statements,
                                          .ignored_fields = config->ignored_fields,
                                          .keep_newer = config->keep_newer};
    struct group_commit_options options = {
        .batch_max = config->batch_max, .queue_max = config->queue_max, .queue_max_bytes = config->queue_max_bytes};
    unsigned wanted = config->pg_connections + GROUP_COMMIT_MORE_STORES;
    struct store **stores = calloc(wanted, sizeof(struct store *));
    struct group_commit *group_commit = NULL;
    unsigned count = 0;
    while (stores && count < wanted && (stores[count] = store_new(&store_options)))
        count++;
    if (count == wanted)
        group_commit = group_commit_new(&options, stores, count, server_answer);
    else
        while (count > 0) {
            count--;
            store_free(stores[count]);
        }
    free(stores);
    return group_commit;
}

static void reload_keys(struct server *server) {
    char problem[MESSAGE_SIZE];
    sd_notify(0, "RELOADING=1");
    server_reload_keys(server, problem, sizeof problem);
    sd_notify(0, "READY=1");
}

/* Has a worker read its keys again, and tells whether it has. */
static int reload_worker(const char *socket_path) {
    struct buffer answer;
    buffer_init(&answer);
    bool answered = worker_page_get(socket_path, "reload", &answer);
    bool reloaded = answered && strncmp(answer.data, PAGE_RELOADED, sizeof PAGE_RELOADED - 1) == 0;
    if (answered)
        fprintf(reloaded ? stdout : stderr, "receiptd: %s: %s", socket_path, answer.data);
    else
        fprintf(stderr, "receiptd: %s: %s\n", socket_path, strerror(errno));
    buffer_fini(&answer);
    return reloaded ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* One line for `systemctl status`: what /receiptd/ready says. */
static void tell_status(struct server *server) {
    struct page_state state;
    char reasons[PAGE_REASONS_SIZE];
    server_look(server, &state);
    page_judge(&state, reasons);
    sd_notifyf(0, "STATUS=%s%s; %zu deliveries wait", state.gauges.ready ? "ready" : "not ready: ", reasons,
               state.gauges.backlog_receipts + state.gauges.backlog_rejections);
}

/*
 * Returns when the process is asked to end. Meanwhile it tells a watchdog, at twice the rate that it asks for
 * (sd_watchdog_enabled(3)), that the server is well.
 */
static void wait_for_end(const sigset_t *signals, struct server *server) {
    uint64_t watchdog_us = 0;
    bool watched = sd_watchdog_enabled(0, &watchdog_us) > 0;
    int64_t interval_us = watched && watchdog_us / 2 < STATUS_US ? (int64_t)watchdog_us / 2 : STATUS_US;
    struct timespec interval = clock_timespec(interval_us);
    for (;;) {
        int signal_number = sigtimedwait(signals, NULL, &interval);
        if (signal_number == SIGHUP)
            reload_keys(server);
        else if (signal_number > 0 && signal_number != SIGHUP)
            return;
        if (watched && server_moves(server))
            sd_notify(0, "WATCHDOG=1");
        tell_status(server);
    }
}

/* Every connection is a descriptor; what the administrator allows at most is fine. */
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/*
 * A core dump has API keys in clear, and whole bodies. Besides, no other process of the service's user can read the
 * memory of this one then (prctl(2), ptrace(2)). LeakSanitizer, which is such a process, has to.
 */
static void forbid_core_dumps(void) {
#ifndef __SANITIZE_ADDRESS__
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

/* It would be what `ulimit -s` says, or 128 KB with musl. */
static void set_stack_size(void) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) == 0) {
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        pthread_setattr_default_np(&attributes);
        pthread_attr_destroy(&attributes);
    }
}

/*
 * For sigtimedwait; blocked here, before there are other threads, hence in every one. SIGPIPE, for a log or a client
 * that is gone, would end the process.
 */
static sigset_t block_signals(void) {
    sigset_t signals;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    return signals;
}

/* Loads configuration and keys. False, with a line for each problem in `problems`, when the worker cannot start so. */
static bool prepare(struct config *config, struct api_keys **keys, FILE *problems) {
    char error[MESSAGE_SIZE];
    if (!config_load(config, environ, problems))
        return false;
    if (config->batch_max > store_batch_limit()) {
        fprintf(problems, "RECEIPTD_BATCH_MAX: at most %zu\n", store_batch_limit());
        return false;
    }
    *keys = config->remote_user ? NULL : api_keys_load(config->keys_file, error, sizeof error);
    if (!*keys && !config->remote_user)
        fprintf(problems, "%s\n", error);
    return *keys || config->remote_user;
}

/*
 * prepare(), with the problems on standard error and, as one text, in the `size` bytes of `refusal`, which is empty
 * when there are none. The configuration is that of the defaults then.
 */
static bool prepare_or_refuse(struct config *config, struct api_keys **keys, char *refusal, size_t size) {
    static char remote_user[] = "RECEIPTD_AUTH=remote_user";
    char *const defaults[] = {remote_user, NULL};
    char *text = NULL, *rest = NULL;
    size_t text_size = 0, len = 0;
    *refusal = '\0';
    FILE *problems = open_memstream(&text, &text_size);
    bool prepared = problems && prepare(config, keys, problems);
    if (!problems || fclose(problems) != 0) {
        fprintf(stderr, "receiptd: cannot start: %s\n", strerror(errno));
        free(text);
        return false;
    }
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        fprintf(stderr, "%s\n", line);
        if (len < size)
            len += (size_t)snprintf(refusal + len, size - len, "%s%s", len > 0 ? "; " : "", line);
    }
    free(text);
    return prepared || config_load(config, defaults, stderr);
}

/*
 * Under socket activation the socket is open, and requests would wait for a worker that starts. So one that cannot
 * start takes them for a while, closes those of deliveries, and shows the reason in its status and pages. Then it ends,
 * and systemd starts it again, with what was mended meanwhile.
 */
static int refuse(const sigset_t *signals, struct server *server) {
    const struct timespec second = {.tv_sec = 1};
    int signal_number = 0;
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%d", (int)EXTEND_START_US);
    for (int s = 0; s < REFUSE_S && signal_number != SIGTERM && signal_number != SIGINT; s++) {
        tell_status(server);
        signal_number = sigtimedwait(signals, NULL, &second);
    }
    log_stop();
    _exit(signal_number == SIGTERM || signal_number == SIGINT ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void log_start_of_service(const struct config *config, const char *path, struct api_keys *keys) {
    if (config->remote_user)
        log_message(LOG_INFO, "receiptd %s serves on %s; the web server says who a sender is", RECEIPTD_VERSION,
                    path ? path : "the socket it was given");
    else
        log_message(LOG_INFO, "receiptd %s serves on %s with %zu API keys", RECEIPTD_VERSION,
                    path ? path : "the socket it was given", api_keys_count(keys));
    log_message(LOG_INFO, "takes at most %zu MiB of memory", memory_max(config) >> 20);
    if (config->log_one_in != 1)
        log_message(LOG_INFO, LOG_DELIVERIES_LEFT_OUT);
}

static int run_worker(const char *path) {
    struct config config;
    struct api_keys *keys = NULL;
    char error[MESSAGE_SIZE], refusal[PAGE_REASONS_SIZE];
    sigset_t signals = block_signals();

    /* A socket of its own is not there before it starts, and that is seen at once. */
    if (!prepare_or_refuse(&config, &keys, refusal, sizeof refusal) || (*refusal && path))
        return EXIT_FAILURE;
    if (!config.core_dumps)
        forbid_core_dumps();
    log_set_level(config.log_level);
    log_set_sampling(config.log_one_in);
    int listener = path ? listener_open(path, error, sizeof error) : listener_inherit(error, sizeof error);
    if (listener < 0) {
        fprintf(stderr, "receiptd: %s\n", error);
        api_keys_free(keys);
        return EXIT_FAILURE;
    }
    raise_descriptor_limit();
    set_stack_size();
    if (!log_start()) {
        fprintf(stderr, "receiptd: cannot start: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }

    struct handler handler = make_handler(&config, keys);
    struct database database;
    struct group_commit *group_commit = NULL;
    struct server *server = NULL;
    if (database_init(&database, config.require_standby))
        group_commit = start_group_commit(&config, &database);
    struct probe *probe = group_commit ? probe_start(&database) : NULL;
    if (probe) {
        struct server_options options = {.listener = listener,
                                         .socket_path = path,
                                         .threads = config.threads + config.pg_connections,
                                         .handler = &handler,
                                         .refusal = *refusal ? refusal : NULL,
                                         .group_commit = group_commit,
                                         .probe = probe};
        server = server_new(&options);
    }
    if (!server) {
        int reason = errno;
        log_stop(); /* what it holds may say more */
        fprintf(stderr, "receiptd: cannot start: %s\n", strerror(reason));
        return EXIT_FAILURE;
    }
    if (*refusal)
        return refuse(&signals, server);
    log_start_of_service(&config, path, keys);
    sd_notify(0, "READY=1");

    wait_for_end(&signals, server);
    sd_notify(0, "STOPPING=1");
    log_message(LOG_INFO, "draining");
    /* A second SIGTERM ends the process; a SIGHUP is no reason to. */
    sigdelset(&signals, SIGHUP);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    int drain_ms = (int)config.deadline_ms + DRAIN_EXTRA_MS;
    if (!server_drain(server, drain_ms)) {
        log_message(LOG_ERROR, "not drained: some connections had not ended after %d ms", drain_ms);
        log_stop();
        /* Not exit: its handlers (OpenSSL's is one) take away what the threads that are still at work use. */
        _exit(EXIT_FAILURE);
    }
    server_free(server); /* first: its threads work for group commit */
    probe_stop(probe);
    group_commit_free(group_commit);
    database_fini(&database);
    api_keys_free(keys);
    log_message(LOG_INFO, "drained");
    log_stop();
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'}, {"json", no_argument, NULL, 'j'},
        {"csv", no_argument, NULL, 'C'},          {"env", required_argument, NULL, 'e'},
        {"dry-run", no_argument, NULL, 'd'},      {"since", required_argument, NULL, 's'},
        {"acknowledged", no_argument, NULL, 'a'}, {"until", required_argument, NULL, 'u'},
        {"id", required_argument, NULL, 'i'},     {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},      {0}};
    struct reprocess_options reprocessing = {0};
    struct doctor_options examining = {0};
    struct missing_options looking = {0};
    const char *path = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'l':
            path = optarg;
            break;
        case 'j':
            examining.json = true;
            break;
        case 'C':
            looking.csv = true;
            break;
        case 'e':
            examining.environment_file = optarg;
            break;
        case 'd':
            reprocessing.dry_run = true;
            break;
        case 'a':
            looking.acknowledged = true;
            break;
        case 's':
            reprocessing.since = looking.since = optarg;
            break;
        case 'u':
            looking.until = optarg;
            break;
        case 'i':
            reprocessing.id = optarg;
            break;
        case 'h':
            return usage(stdout, EXIT_SUCCESS);
        case 'v':
            printf("receiptd %s\n", RECEIPTD_VERSION);
            return EXIT_SUCCESS;
        default:
            return usage(stderr, EXIT_USAGE);
        }
    }
    const char *command = optind < argc ? argv[optind] : "";
    int arguments = argc - optind;
    bool has_environment = examining.environment_file != NULL;
    bool for_reprocess = reprocessing.dry_run || reprocessing.since || reprocessing.id;
    examining.sockets = looking.files = argv + optind + 1;
    if (strcmp(command, "missing") == 0 && !path && !examining.json && !reprocessing.dry_run && !reprocessing.id &&
        (looking.acknowledged || (!looking.since && !looking.until)))
        return look_for_missing(looking, examining.environment_file);
    if (looking.csv || looking.acknowledged || looking.until)
        return usage(stderr, EXIT_USAGE);
    if (strcmp(command, "doctor") == 0 && !path && !for_reprocess)
        return (int)doctor(&examining, stdout);
    if (arguments == 1 && strcmp(command, "reprocess") == 0 && !path && !examining.json &&
        !(reprocessing.since && reprocessing.id))
        return reprocess_rejections(reprocessing, examining.environment_file);
    if (examining.json || has_environment)
        return usage(stderr, EXIT_USAGE);
    if (arguments == 2 && strcmp(command, "key") == 0 && !path && !for_reprocess)
        return make_key(argv[optind + 1]);
    if (arguments == 2 && strcmp(command, "reload") == 0 && !path && !for_reprocess)
        return reload_worker(argv[optind + 1]);
    if (arguments > 0 || for_reprocess)
        return usage(stderr, EXIT_USAGE);
    return run_worker(path);
}
