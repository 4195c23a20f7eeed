#include "config.h"

#include "cpus.h"
#include "receipt.h"

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

enum kind {
    PATH,   /* const char *: any text */
    LIST,   /* const char *: items separated by commas */
    RETRY,  /* struct retries */
    NAMES,  /* the same, of characters that need no quoting in SQL */
    NUMBER, /* unsigned */
    SIZE,   /* size_t */
    SAMPLE, /* unsigned: all, failures or 1/N */
    SWITCH, /* bool: two words, for false and true */
    CHOICE, /* an enum: a word for each of its values, from 0 */
};

struct setting {
    const char *name;
    enum kind kind;
    size_t offset;                     /* in struct config */
    const char *initial;               /* the default; NULL: required, unless there is `choose` */
    unsigned (*choose)(unsigned cpus); /* for NUMBER: the default for that many processors */
    uint64_t min, max;                 /* for NUMBER, SIZE and SAMPLE */
    const char *words;                 /* for SWITCH and CHOICE: separated by blanks */
    const char *meaning;
};

/* A kind with the member that it is written to, which must be of the type that the kind has. */
#define MEMBER(kind_, type_, member_)                                                                                  \
    .kind = kind_, .offset = _Generic(&((struct config *)NULL)->member_, type_ * : offsetof(struct config, member_))
#define PATH(member_) MEMBER(PATH, const char *, member_)
#define LIST(member_) MEMBER(LIST, const char *, member_)
#define RETRY(member_) MEMBER(RETRY, struct retries, member_)
#define NAMES(member_) MEMBER(NAMES, const char *, member_)
#define NUMBER(member_) MEMBER(NUMBER, unsigned, member_)
#define SIZE(member_) MEMBER(SIZE, size_t, member_)
#define SAMPLE(member_) MEMBER(SAMPLE, unsigned, member_)
#define SWITCH(member_) MEMBER(SWITCH, bool, member_)
#define CHOICE(member_, enum_) MEMBER(CHOICE, enum enum_, member_)
_Static_assert(sizeof(enum log_level) == sizeof(unsigned), "a CHOICE is written as unsigned");

/* A batch of 2,000 rows is near PostgreSQL's limit of 65,535 parameters in a statement. */
static const struct setting settings[] = {
    {"RECEIPTD_AUTH", SWITCH(remote_user), .initial = "key", .words = "key remote_user",
     .meaning = "how senders are identified: key: by an API key; remote_user: by the web server, in the CGI variable "
                "REMOTE_USER"},
    {"RECEIPTD_KEYS_FILE", PATH(keys_file),
     .meaning = "file with the API keys' names and SHA-256 digests; made with receiptd key NAME; not with "
                "RECEIPTD_AUTH=remote_user"},
    {"RECEIPTD_THREADS", NUMBER(threads), .choose = config_default_threads, .min = 1, .max = THREADS_MAX,
     .meaning = "threads that read, check and answer requests while others store"},
    {"RECEIPTD_PG_CONNECTIONS", NUMBER(pg_connections), .choose = config_default_pg_connections, .min = 1,
     .max = PG_CONNECTIONS_MAX,
     .meaning = "batches that are stored at a time, each with a thread and a database connection of its own"},
    {"RECEIPTD_BATCH_MAX", NUMBER(batch_max), .initial = "64", .min = 1, .max = 2000,
     .meaning = "receipts in one transaction, at most"},
    {"RECEIPTD_QUEUE_MAX", NUMBER(queue_max), .initial = "16384", .min = 1, .max = 1000000,
     .meaning = "deliveries waiting to be stored, at most; beyond that the answer is 503 at once"},
    {"RECEIPTD_QUEUE_MAX_BYTES", SIZE(queue_max_bytes), .initial = "67108864", .min = MIB, .max = QUEUE_BYTES_MAX,
     .meaning = "bytes that they may take, receipts and rejected deliveries each; beyond that 503 at once, too"},
    {"RECEIPTD_DEADLINE_MS", NUMBER(deadline_ms), .initial = "10000", .min = 100, .max = 600000,
     .meaning = "milliseconds after which a delivery that is not stored is answered 503; keep it below nginx's "
                "fastcgi_read_timeout"},
    {"RECEIPTD_REQUIRE_STANDBY", SWITCH(require_standby), .initial = "off", .words = "off on",
     .meaning = "on: give a final answer only if the commit waited for a synchronous standby; while PostgreSQL names "
                "none, the answer is 503. Needs RECEIPTD_PREPARED_STATEMENTS=on"},
    {"RECEIPTD_LOG_LEVEL", CHOICE(log_level, log_level), .initial = "info", .words = "error warning info",
     .meaning = "least important lines to log; at info there is one per delivery"},
    {"RECEIPTD_LOG_DELIVERIES", SAMPLE(log_one_in), .initial = "all", .min = 1, .max = 1000000,
     .meaning =
         "which deliveries have a line in the log: all, failures (and unchanged ones, which always have), or one in N "
         "of the others"},
    {"RECEIPTD_CORE_DUMPS", SWITCH(core_dumps), .initial = "off", .words = "off on",
     .meaning = "on, for debugging: a worker that crashes may leave a core dump, which contains API keys and personal "
                "data"},
    {"RECEIPTD_PREPARED_STATEMENTS", SWITCH(prepared_statements), .initial = "on", .words = "off on",
     .meaning = "off for a pooler that gives each transaction another session (pgbouncer in transaction mode)"},
    {"RECEIPTD_REJECTION_POLICY", SWITCH(accept_invalid), .initial = "reject", .words = "reject accept",
     .meaning = "answer to an invalid delivery, which is kept in rejected_receipts: reject: 400 or 422; accept: 200"},
    {"RECEIPTD_EXTRA_CONDITIONS", LIST(extra_conditions), .initial = "",
     .meaning = "values of initial_condition to accept besides N, R, A, B, C, X, TT; separated by commas"},
    {"RECEIPTD_EXTRA_REFERENCE_TYPES", LIST(extra_reference_types), .initial = "",
     .meaning = "values of reference.type to accept besides StockTransferOrder, RA, RMA, ForwardOrder; separated by "
                "commas"},
    {"RECEIPTD_OLD_VERSIONS", SWITCH(keep_newer), .initial = "apply", .words = "apply keep_newer",
     .meaning = "a delivery with the content of a version that was replaced before: apply: it becomes the newest "
                "version; keep_newer: the newer one stays, and the answer is superseded"},
    {"RECEIPTD_SENDER_RETRIES", RETRY(sender_retries), .initial = RETRIES_DEFAULT,
     .meaning = "how the sender retries after 503, for receiptd missing: for so many hours, such as 32h, or so many "
                "attempts in all, such as 5"},
    {"RECEIPTD_IGNORED_FIELDS", NAMES(ignored_fields), .initial = "",
     .meaning = "fields outside the specification, at the top level, that are no content: a delivery that differs in "
                "nothing else is unchanged; separated by commas, for example timestamp,attempt"},
    {"RECEIPTD_URL", PATH(url), .initial = "",
     .meaning = "URL that the sender calls, https://HOST/inventory_receipt; receiptd doctor tries it"},
    {"RECEIPTD_CACERT", PATH(ca_file), .initial = "",
     .meaning = "file with the certificates that receiptd doctor trusts there, instead of the system's"},
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

/* Names that can stand between quotes in SQL as they are, and none that the specification has. */
static bool is_names(const char *text) {
    if (!is_list(text) ||
        text[strspn(text, ",-.0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")] != '\0')
        return false;
    for (size_t len; *text != '\0'; text += len + (text[len] == ',')) {
        len = strcspn(text, ",");
        for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++)
            if (strcspn(receipt_fields[i].path, ".") == len && memcmp(receipt_fields[i].path, text, len) == 0)
                return false;
    }
    return true;
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
    case RETRY:
        if (retries_parse(text, target))
            return true;
        fprintf(errors, "%s=%s: expected hours, such as 32h, or a number of attempts, such as 5\n", setting->name,
                text);
        return false;
    case NAMES:
        if (!is_names(text)) {
            fprintf(
                errors,
                "%s=%s: expected names separated by commas, of letters, digits, and - . : _, and no specified field\n",
                setting->name, text);
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
    case SWITCH:
    case CHOICE:
        if (!parse_word(setting, text, &position)) {
            fprintf(errors, "%s=%s: expected one of: %s\n", setting->name, text, setting->words);
            return false;
        }
        if (setting->kind == SWITCH)
            *(bool *)target = position != 0;
        else
            *(unsigned *)target = position;
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
    if (ok && config->require_standby && !config->prepared_statements) {
        /* A pooler may run the check of a commit in another session than the commit. */
        fprintf(errors,
                "RECEIPTD_REQUIRE_STANDBY=on: needs RECEIPTD_PREPARED_STATEMENTS=on, with a session of its own\n");
        ok = false;
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
        if (setting->kind == SWITCH || setting->kind == CHOICE)
            fprintf(out, "one of: %s; ", setting->words);
        if (setting->choose)
            fprintf(out, "default %u here, by the number of processors\n", setting->choose(cpus_usable()));
        else if (!setting->initial)
            fprintf(out, "required\n");
        else
            fprintf(out, "default %s\n", *setting->initial ? setting->initial : "none");
    }
}
