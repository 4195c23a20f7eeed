#include "hosts.h"

#include "clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED_US = 60 * US_PER_S }; /* how long a host that failed is tried last */

struct host {
    const char *name, *address, *port; /* "" if not set */
    int64_t failed_us;                 /* when it failed last; 0: never, or it was good since */
};

struct hosts {
    char *text; /* what the hosts point into */
    size_t text_size;
    bool has_names, has_addresses;
    size_t count;
    struct host host[HOSTS_MAX];

    pthread_mutex_t lock; /* guards failed_us and the rest */
    size_t first;         /* the one to try first */
    uint64_t system_identifier;
    uint32_t timeline; /* the latest one of that cluster; 0: none is known */
};

/* Cuts a list at its commas, the n-th item into the n-th host's member at `offset`. Returns how many there are. */
static size_t cut(struct hosts *hosts, char *list, size_t offset) {
    size_t count = 0;
    char *comma;
    do {
        comma = strchr(list, ',');
        if (comma)
            *comma = '\0';
        if (count < HOSTS_MAX)
            *(const char **)((char *)&hosts->host[count] + offset) = list;
        count++;
        list = comma ? comma + 1 : list;
    } while (comma);
    return count;
}

struct hosts *hosts_new(const char *names, const char *addresses, const char *ports) {
    const char *const lists[] = {names ? names : "", addresses ? addresses : "", ports ? ports : ""};
    const size_t offsets[] = {offsetof(struct host, name), offsetof(struct host, address), offsetof(struct host, port)};
    size_t counts[3];
    struct hosts *hosts = calloc(1, sizeof *hosts);
    if (!hosts)
        return NULL;
    for (size_t i = 0; i < 3; i++)
        hosts->text_size += strlen(lists[i]) + 1;
    hosts->text = malloc(hosts->text_size);
    if (!hosts->text) {
        free(hosts);
        return NULL;
    }
    for (size_t h = 0; h < HOSTS_MAX; h++)
        hosts->host[h] = (struct host){"", "", "", 0};
    char *at = hosts->text;
    for (size_t i = 0; i < 3; i++) {
        strcpy(at, lists[i]);
        counts[i] = cut(hosts, at, offsets[i]);
        at += strlen(lists[i]) + 1;
    }
    hosts->has_names = *lists[0];
    hosts->has_addresses = *lists[1];
    hosts->count = counts[0] > counts[1] ? counts[0] : counts[1];
    for (size_t h = 1; counts[2] == 1 && h < HOSTS_MAX; h++)
        hosts->host[h].port = hosts->host[0].port; /* one port is that of all */
    /* libpq refuses lists that do not fit together, and says so. */
    if (hosts->count > HOSTS_MAX || (hosts->has_names && hosts->has_addresses && counts[0] != counts[1]) ||
        (counts[2] > 1 && counts[2] != hosts->count))
        hosts->count = 1;
    pthread_mutex_init(&hosts->lock, NULL);
    return hosts;
}

void hosts_free(struct hosts *hosts) {
    if (!hosts)
        return;
    pthread_mutex_destroy(&hosts->lock);
    free(hosts->text);
    free(hosts);
}

size_t hosts_count(const struct hosts *hosts) {
    return hosts->count;
}

size_t hosts_text_size(const struct hosts *hosts) {
    return hosts->text_size + HOSTS_MAX * sizeof "65535,";
}

static bool is_failed(const struct host *host, int64_t now_us) {
    return host->failed_us != 0 && now_us - host->failed_us < FAILED_US;
}

/* Those that have not failed, in the order of the list from the first one on; then the others, the latest last. */
static void choose_order(struct hosts *hosts, unsigned char order[HOSTS_MAX]) {
    int64_t now_us = clock_now_us();
    size_t count = 0;
    for (size_t i = 0; i < hosts->count; i++) {
        size_t h = (hosts->first + i) % hosts->count;
        if (!is_failed(&hosts->host[h], now_us))
            order[count++] = (unsigned char)h;
    }
    size_t good = count;
    for (size_t h = 0; h < hosts->count; h++) {
        size_t at = count;
        if (!is_failed(&hosts->host[h], now_us))
            continue;
        for (; at > good && hosts->host[order[at - 1]].failed_us > hosts->host[h].failed_us; at--)
            order[at] = order[at - 1];
        order[at] = (unsigned char)h;
        count++;
    }
}

static void write_hosts(const struct hosts *hosts, const unsigned char *order, size_t count, char *names,
                        char *addresses, char *ports, size_t size) {
    *names = *addresses = *ports = '\0';
    for (size_t i = 0, n = 0, a = 0, p = 0; i < count; i++) {
        const struct host *host = &hosts->host[order[i]];
        const char *comma = i > 0 ? "," : "";
        if (hosts->has_names)
            n += (size_t)snprintf(names + n, size - n, "%s%s", comma, host->name);
        if (hosts->has_addresses)
            a += (size_t)snprintf(addresses + a, size - a, "%s%s", comma, host->address);
        p += (size_t)snprintf(ports + p, size - p, "%s%s", comma, host->port);
    }
    if (strspn(ports, ",") == strlen(ports))
        *ports = '\0';
}

void hosts_write(const struct hosts *hosts, size_t host, char *names, char *addresses, char *ports, size_t size) {
    unsigned char only = (unsigned char)host;
    write_hosts(hosts, &only, 1, names, addresses, ports, size);
}

void hosts_write_order(struct hosts *hosts, char *names, char *addresses, char *ports, size_t size,
                       unsigned char order[HOSTS_MAX]) {
    pthread_mutex_lock(&hosts->lock);
    choose_order(hosts, order);
    pthread_mutex_unlock(&hosts->lock);
    write_hosts(hosts, order, hosts->count, names, addresses, ports, size);
}

size_t hosts_find(const struct hosts *hosts, const char *name, const char *address, const char *port) {
    for (size_t h = 0; h < hosts->count; h++) {
        const struct host *host = &hosts->host[h];
        bool is_named = (hosts->has_names && name && strcmp(host->name, name) == 0) ||
                        (hosts->has_addresses && address && strcmp(host->address, address) == 0);
        if (is_named && (!*host->port || !port || strcmp(host->port, port) == 0))
            return h;
    }
    return 0;
}

void hosts_note_good(struct hosts *hosts, size_t host) {
    pthread_mutex_lock(&hosts->lock);
    hosts->first = host;
    hosts->host[host].failed_us = 0;
    pthread_mutex_unlock(&hosts->lock);
}

void hosts_note_failed(struct hosts *hosts, size_t host) {
    pthread_mutex_lock(&hosts->lock);
    hosts->host[host].failed_us = clock_now_us();
    pthread_mutex_unlock(&hosts->lock);
}

bool hosts_has_failed_since(struct hosts *hosts, size_t host, int64_t since_us) {
    if (hosts->count == 1)
        return false;
    pthread_mutex_lock(&hosts->lock);
    bool failed = hosts->host[host].failed_us >= since_us && hosts->host[host].failed_us != 0;
    pthread_mutex_unlock(&hosts->lock);
    return failed;
}

bool hosts_note_timeline(struct hosts *hosts, uint64_t system_identifier, uint32_t timeline) {
    pthread_mutex_lock(&hosts->lock);
    bool other = hosts->system_identifier != system_identifier, current = other || timeline >= hosts->timeline;
    if (current) {
        hosts->system_identifier = system_identifier;
        hosts->timeline = timeline;
    }
    pthread_mutex_unlock(&hosts->lock);
    return current;
}
