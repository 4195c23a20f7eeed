#include "config.h"

#include "cpus.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    THREADS_MAX = 64,
    PG_CONNECTIONS_MAX = 16,
    DEFAULT_PG_CONNECTIONS_MIN = 2,
    DEFAULT_PG_CONNECTIONS_MAX = 8,
    CPUS_PER_CONNECTION = 4,
    MIB = 1024 * 1024,
};

#define QUEUE_BYTES_MAX (SIZE_MAX / MIB < 16384 ? SIZE_MAX : (uint64_t)16384 * MIB)

enum kind { PATH, NUMBER, SIZE, WORD, LIST, SAMPLE };

struct setting {
    const char *name;
    enum kind kind;
    size_t offset;                     /* in struct config */
    const char *initial;               /* the default; NULL: required, but for those with `choose` */
    unsigned (*choose)(unsigned cpus); /* for NUMBER: makes the default of the number of processors */
    uint64_t min, max;                 /* for NUMBER and SIZE */
    const char *words; /* for WORD: the choices, separated by blanks; the value is the position of the choice */
    const char *meaning;
};

/* A batch of 2,000 rows is near PostgreSQL's limit of 65,535 parameters in a statement. */
static const struct setting settings[] = {
    {"RECEIPTD_AUTH", WORD, offsetof(struct config, remote_user), "key", NULL, 0, 0, "key remote_user",
     "who says who a sender is: key: an API key; remote_user: the web server, in the CGI variable REMOTE_USER"},
    {"RECEIPTD_KEYS_FILE", PATH, offsetof(struct config, keys_file), NULL, NULL, 0, 0, NULL,
     "file with the API keys' names and SHA-256 digests; made with receiptd key NAME; not with "
     "RECEIPTD_AUTH=remote_user"},
    {"RECEIPTD_THREADS", NUMBER, offsetof(struct config, threads), NULL, config_default_threads, 1, THREADS_MAX, NULL,
     "threads that read, check and answer requests while others store"},
    {"RECEIPTD_PG_CONNECTIONS", NUMBER, offsetof(struct config, pg_connections), NULL, config_default_pg_connections, 1,
     PG_CONNECTIONS_MAX, NULL,
     "batches that are stored at a time, each with a thread and a database connection of its own"},
    {"RECEIPTD_BATCH_MAX", NUMBER, offsetof(struct config, batch_max), "64", NULL, 1, 2000, NULL,
     "receipts in one transaction, at the most"},
    {"RECEIPTD_QUEUE_MAX", NUMBER, offsetof(struct config, queue_max), "16384", NULL, 1, 1000000, NULL,
     "deliveries waiting to be stored, at the most; beyond that the answer is 503 at once"},
    {"RECEIPTD_QUEUE_MAX_BYTES", SIZE, offsetof(struct config, queue_max_bytes), "67108864", NULL, MIB, QUEUE_BYTES_MAX,
     NULL,
     "bytes of them, at the most, of the receipts and of the rejected deliveries each; beyond that 503 at once, too"},
    {"RECEIPTD_DEADLINE_MS", NUMBER, offsetof(struct config, deadline_ms), "10000", NULL, 100, 600000, NULL,
     "milliseconds after which a delivery that is not stored is answered 503; keep it below nginx's "
     "fastcgi_read_timeout"},
    {"RECEIPTD_LOG_LEVEL", WORD, offsetof(struct config, log_level), "info", NULL, 0, 0, "error warning info",
     "least important lines to log; at info there is one a delivery"},
    {"RECEIPTD_LOG_DELIVERIES", SAMPLE, offsetof(struct config, log_one_in), "all", NULL, 1, 1000000, NULL,
     "which deliveries have a line in the log: all, failures (4xx and 5xx, which always have), or one in N of the "
     "others"},
    {"RECEIPTD_PREPARED_STATEMENTS", WORD, offsetof(struct config, prepared_statements), "on", NULL, 0, 0, "off on",
     "off for a pooler that gives each transaction another session (pgbouncer in transaction mode)"},
    {"RECEIPTD_REJECTION_POLICY", WORD, offsetof(struct config, accept_invalid), "reject", NULL, 0, 0, "reject accept",
     "what an invalid delivery, which is kept in rejected_receipts, is answered: reject: 400 or 422; accept: 200"},
    {"RECEIPTD_EXTRA_CONDITIONS", LIST, offsetof(struct config, extra_conditions), "", NULL, 0, 0, NULL,
     "values of initial_condition to take besides N, R, A, B, C, X, TT; separated by commas"},
    {"RECEIPTD_EXTRA_REFERENCE_TYPES", LIST, offsetof(struct config, extra_reference_types), "", NULL, 0, 0, NULL,
     "values of reference.type to take besides StockTransferOrder, RA, RMA, ForwardOrder; separated by commas"},
    {"RECEIPTD_URL", PATH, offsetof(struct config, url), "", NULL, 0, 0, NULL,
     "what the sender calls, https://HOST/inventory_receipt; for receiptd doctor, which tries it"},
    {"RECEIPTD_CACERT", PATH, offsetof(struct config, ca_file), "", NULL, 0, 0, NULL,
     "file with the certificates that receiptd doctor trusts there, instead of the system's"},
};
enum { SETTING_COUNT = sizeof settings / sizeof settings[0] };

/*
 * Reading and checking a request takes a processor about as long as PostgreSQL takes to store it; so no thread more
 * than there are processors would ever have one.
 */
unsigned config_default_threads(unsigned cpus) {
    return cpus < THREADS_MAX ? cpus : THREADS_MAX;
}

/*
 * Two batches at a time, since one can be prepared while the other is flushed. More pay only where PostgreSQL's
 * sessions run out of processor time before the machine does: of what a receipt costs, a session's part is under a
 * third, and while it waits for a flush it has none to do. Batches grow with the time that a commit takes, and many
 * small ones cost more than few large ones: on two processors, a third connection gains nothing.
 */
unsigned config_default_pg_connections(unsigned cpus) {
    unsigned pg_connections = cpus / CPUS_PER_CONNECTION;
    if (pg_connections < DEFAULT_PG_CONNECTIONS_MIN)
        return DEFAULT_PG_CONNECTIONS_MIN;
    return pg_connections < DEFAULT_PG_CONNECTIONS_MAX ? pg_connections : DEFAULT_PG_CONNECTIONS_MAX;
}

static bool parse_number(const struct setting *setting, const char *text, uint64_t *number) {
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *number >= setting->min && *number <= setting->max;
}

static bool parse_word(const struct setting *setting, const char *text, unsigned *position) {
    size_t len = strlen(text);
    const char *word = setting->words;
    for (*position = 0; len > 0; ++*position) {
        size_t word_len = strcspn(word, " ");
        if (word_len == len && memcmp(word, text, len) == 0)
            return true;
        if (word[word_len] == '\0')
            return false;
        word += word_len + 1;
    }
    return false;
}

/* Items between commas, none of them empty or with a blank, which could only be a slip. */
static bool is_list(const char *text) {
    size_t len = strlen(text);
    if (len == 0)
        return true;
    return !strpbrk(text, " \t") && text[0] != ',' && text[len - 1] != ',' && !strstr(text, ",,");
}

static bool set(struct config *config, const struct setting *setting, const char *text, FILE *errors) {
    void *target = (char *)config + setting->offset;
    uint64_t number = 0;
    unsigned position = 0;
    switch (setting->kind) {
    case PATH:
        *(const char **)target = text;
        if (*text != '\0' || setting->initial)
            return true;
        fprintf(errors, "%s is empty\n", setting->name);
        return false;
    case LIST:
        if (!is_list(text)) {
            fprintf(errors, "%s=%s: expected values separated by commas, without blanks\n", setting->name, text);
            return false;
        }
        *(const char **)target = text;
        return true;
    case NUMBER:
    case SIZE:
        if (!parse_number(setting, text, &number)) {
            fprintf(errors, "%s=%s: expected a whole number from %" PRIu64 " to %" PRIu64 "\n", setting->name, text,
                    setting->min, setting->max);
            return false;
        }
        if (setting->kind == SIZE)
            *(size_t *)target = (size_t)number;
        else
            *(unsigned *)target = (unsigned)number;
        return true;
    case SAMPLE:
        if (strcmp(text, "all") == 0)
            number = 1;
        else if (strcmp(text, "failures") != 0 &&
                 (strncmp(text, "1/", 2) != 0 || !parse_number(setting, text + 2, &number))) {
            fprintf(errors, "%s=%s: expected all, failures, or 1/N\n", setting->name, text);
            return false;
        }
        *(unsigned *)target = (unsigned)number;
        return true;
    case WORD:
        if (!parse_word(setting, text, &position)) {
            fprintf(errors, "%s=%s: expected one of: %s\n", setting->name, text, setting->words);
            return false;
        }
        if (setting->offset == offsetof(struct config, log_level))
            config->log_level = (enum log_level)position;
        else
            *(bool *)target = position != 0;
        return true;
    }
    return false;
}

static const struct setting *find(const char *name, size_t len) {
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (strlen(settings[i].name) == len && memcmp(settings[i].name, name, len) == 0)
            return &settings[i];
    return NULL;
}

static const char *value_in(char *const *environment, const char *name) {
    size_t len = strlen(name);
    for (; *environment; environment++)
        if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
            return *environment + len + 1;
    return NULL;
}

bool config_load(struct config *config, char *const *environment, FILE *errors) {
    bool ok = true;
    *config = (struct config){0};
    for (char *const *variable = environment; *variable; variable++) {
        size_t len = strcspn(*variable, "=");
        if (strncmp(*variable, "RECEIPTD_", 9) == 0 && !find(*variable, len)) {
            fprintf(errors, "%.*s: there is no such variable; receiptd --help lists them\n", (int)len, *variable);
            ok = false;
        }
    }
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings[i];
        const char *text = value_in(environment, setting->name);
        if (!text)
            text = setting->initial;
        if (!text && setting->choose) {
            *(unsigned *)((char *)config + setting->offset) = setting->choose(cpus_usable());
        } else if (!text && setting->kind == PATH && config->remote_user) {
            continue; /* the key file, which nobody reads then */
        } else if (!text) {
            fprintf(errors, "%s is not set: %s\n", setting->name, setting->meaning);
            ok = false;
        } else if (!set(config, setting, text, errors)) {
            ok = false;
        }
    }
    return ok;
}

void config_describe(FILE *out) {
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings[i];
        fprintf(out, "  %s\n      %s\n      ", setting->name, setting->meaning);
        if (setting->kind == NUMBER || setting->kind == SIZE)
            fprintf(out, "%" PRIu64 " to %" PRIu64 "; ", setting->min, setting->max);
        if (setting->kind == SAMPLE)
            fprintf(out, "all, failures, or 1/N; ");
        if (setting->kind == WORD)
            fprintf(out, "one of: %s; ", setting->words);
        if (setting->choose)
            fprintf(out, "default %u here, by the number of processors\n", setting->choose(cpus_usable()));
        else if (!setting->initial)
            fprintf(out, "required\n");
        else
            fprintf(out, "default %s\n", *setting->initial ? setting->initial : "none");
    }
}
