#include "pg.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Unless the operator sets them. A host that is silent, in the middle of a network that drops packets, is given up
 * after this; without it, Linux takes two hours to notice an idle connection and a quarter of an hour for a busy one.
 */
#define CONNECT_TIMEOUT_S "3"      /* for each host; libpq takes 2 at least */
#define TCP_USER_TIMEOUT_MS "5000" /* half of the default deadline: there is time to try again */
#define KEEPALIVES_IDLE_S "5"
#define KEEPALIVES_INTERVAL_S "2"
#define KEEPALIVES_COUNT "3"

enum {
    PARAMETERS_MAX = 16,
    CANCELS_MAX = 32, /* at a time: one that reaches nobody lasts as long as TCP_USER_TIMEOUT_MS */
};

static const char application[] = "receiptd " RECEIPTD_VERSION;

static const PQconninfoOption *find_option(const PQconninfoOption *options, const char *name) {
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, name) == 0)
            return options;
    return NULL;
}

/* What the environment or the service file says; NULL: nothing. */
static const char *value_of(const PQconninfoOption *options, const char *name) {
    const PQconninfoOption *option = find_option(options, name);
    return option ? option->val : NULL;
}

struct hosts *pg_hosts(void) {
    PQconninfoOption *options = PQconndefaults();
    struct hosts *hosts =
        hosts_new(value_of(options, "host"), value_of(options, "hostaddr"), value_of(options, "port"));
    PQconninfoFree(options);
    return hosts;
}

struct parameters {
    const char *names[PARAMETERS_MAX], *values[PARAMETERS_MAX];
    size_t count;
};

static void set(struct parameters *parameters, const char *name, const char *value) {
    parameters->names[parameters->count] = name;
    parameters->values[parameters->count++] = value;
}

/* Sets a parameter unless the operator has. */
static void set_default(struct parameters *parameters, const PQconninfoOption *options, const char *name,
                        const char *value) {
    if (!value_of(options, name))
        set(parameters, name, value);
}

static void set_parameters(struct parameters *parameters, const PQconninfoOption *options) {
    const char *session = value_of(options, "target_session_attrs");
    set(parameters, "fallback_application_name", application);
    set(parameters, "client_encoding", "UTF8"); /* the only right one */
    set_default(parameters, options, "connect_timeout", CONNECT_TIMEOUT_S);
    set_default(parameters, options, "tcp_user_timeout", TCP_USER_TIMEOUT_MS);
    set_default(parameters, options, "keepalives_idle", KEEPALIVES_IDLE_S);
    set_default(parameters, options, "keepalives_interval", KEEPALIVES_INTERVAL_S);
    set_default(parameters, options, "keepalives_count", KEEPALIVES_COUNT);
    /* libpq's own default is "any", which an operator can mean only by saying so. */
    if (!session || (strcmp(session, "any") == 0 && !getenv("PGTARGETSESSIONATTRS")))
        set(parameters, "target_session_attrs", "read-write");
}

/* `only`: of the hosts; hosts_count: all of them. */
static PGconn *connect_to(struct hosts *hosts, size_t only) {
    struct parameters parameters = {.count = 0};
    PQconninfoOption *options = PQconndefaults();
    size_t size = hosts_text_size(hosts);
    char *lists = NULL;
    set_parameters(&parameters, options);
    if (hosts_count(hosts) > 1) {
        unsigned char order[HOSTS_MAX];
        lists = malloc(3 * size);
        if (!lists) {
            PQconninfoFree(options);
            return NULL;
        }
        if (only < hosts_count(hosts))
            hosts_write(hosts, only, lists, lists + size, lists + 2 * size, size);
        else
            hosts_write_order(hosts, lists, lists + size, lists + 2 * size, size, order);
        if (*lists)
            set(&parameters, "host", lists);
        if (lists[size])
            set(&parameters, "hostaddr", lists + size);
        if (lists[2 * size])
            set(&parameters, "port", lists + 2 * size);
        if (find_option(options, "load_balance_hosts")) /* since PostgreSQL 16; it would shuffle them */
            set(&parameters, "load_balance_hosts", "disable");
    }
    set(&parameters, NULL, NULL);
    PGconn *connection = PQconnectdbParams(parameters.names, parameters.values, 0);
    /* Without DETAIL, which can show a whole row, and that names people. Harmless on NULL. */
    PQsetErrorVerbosity(connection, PQERRORS_TERSE);
    free(lists);
    PQconninfoFree(options);
    return connection;
}

PGconn *pg_connect(struct hosts *hosts) {
    return connect_to(hosts, hosts_count(hosts));
}

PGconn *pg_connect_to(struct hosts *hosts, size_t host) {
    return connect_to(hosts, host);
}

/* The server's timeline; -1 without a connection, 0 if the role may not read it. */
static long read_timeline(PGconn *connection) {
    if (PQstatus(connection) != CONNECTION_OK)
        return -1;
    PGresult *result = PQexec(connection, "select " PG_TIMELINE);
    long timeline = PQresultStatus(result) == PGRES_TUPLES_OK ? strtol(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    return timeline;
}

PGconn *pg_connect_to_latest(void) {
    struct hosts *hosts = pg_hosts();
    if (!hosts)
        return NULL;
    PGconn *latest = NULL;
    long latest_timeline = -1;
    for (size_t host = 0; hosts_count(hosts) > 1 && host < hosts_count(hosts); host++) {
        PGconn *connection = pg_connect_to(hosts, host);
        long timeline = read_timeline(connection);
        if (timeline > latest_timeline) {
            PQfinish(latest);
            latest = connection;
            latest_timeline = timeline;
        } else
            PQfinish(connection);
    }
    if (!latest)
        latest = pg_connect(hosts); /* if it fails, its message covers all hosts */
    hosts_free(hosts);
    return latest;
}

/* Why libpq takes no password from this file: libpq, fe-connect.c, passwordFromFile. */
static const char *find_password_problem(const char *path) {
    struct stat file;
    if (stat(path, &file) != 0 || faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) != 0)
        return strerror(errno);
    if (!S_ISREG(file.st_mode))
        return "not a regular file";
    if (file.st_mode & (S_IRWXG | S_IRWXO))
        return "group or others have access, so libpq does not read it; set its mode to 0600";
    return "it has no line for this host, port, database and user";
}

void pg_describe_failure(PGconn *connection, char *text, size_t size) {
    snprintf(text, size, "%s", connection ? PQerrorMessage(connection) : "out of memory");
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    if (!PQconnectionNeedsPassword(connection))
        return;
    PQconninfoOption *options = PQconninfo(connection);
    const char *path = value_of(options, "passfile");
    if (path)
        snprintf(text + len, size - len, "; password file %s: %s", path, find_password_problem(path));
    PQconninfoFree(options);
}

size_t pg_host_of(const PGconn *connection, const struct hosts *hosts) {
    return hosts_find(hosts, PQhost(connection), PQhostaddr(connection), PQport(connection));
}

static atomic_int cancels; /* in flight */

/* Connects once more to do so, and libpq waits for that: hence a thread. */
static void *send_cancel(void *cancel) {
    char error[256];
    pthread_setname_np(pthread_self(), "cancel");
    PQcancel(cancel, error, sizeof error); /* where it cannot be sent, the server will notice by itself */
    PQfreeCancel(cancel);
    atomic_fetch_sub(&cancels, 1);
    return NULL;
}

void pg_abandon(PGconn *connection) {
    PGcancel *cancel = PQgetCancel(connection);
    pthread_attr_t detached;
    pthread_t thread;
    if (cancel && atomic_fetch_add(&cancels, 1) < CANCELS_MAX && pthread_attr_init(&detached) == 0) {
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        if (pthread_create(&thread, &detached, send_cancel, cancel) == 0)
            cancel = NULL; /* the thread's */
        pthread_attr_destroy(&detached);
    }
    if (cancel) {
        atomic_fetch_sub(&cancels, 1);
        PQfreeCancel(cancel);
    }
    PQfinish(connection);
}
