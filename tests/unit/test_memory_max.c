/* memory.h: that the bound and the limit of the unit agree. */
#include "memory.h"

#include "unit.h"

#include <stdio.h>
#include <string.h>

enum { CPUS_MAX = 256, MIB = 1024 * 1024 };

/* MemoryMax= of deploy/systemd/receiptd@.service, in bytes. */
static size_t allowed_by_the_unit(void) {
    FILE *unit = fopen(UNIT_FILE, "r");
    char line[256], suffix = '\0';
    unsigned long long number = 0;
    assert_non_null(unit);
    while (fgets(line, sizeof line, unit) && sscanf(line, "MemoryMax=%llu%c", &number, &suffix) != 2)
        ;
    fclose(unit);
    assert_true(number > 0 && (suffix == 'G' || suffix == 'M'));
    return (size_t)number * (suffix == 'G' ? 1024 : 1) * MIB;
}

/* With the defaults, by the number of processors. */
static struct config defaults_of(unsigned cpus) {
    static char *const environment[] = {"RECEIPTD_AUTH=remote_user", NULL};
    struct config config;
    assert_true(config_load(&config, environment, stderr));
    config.threads = config_default_threads(cpus);
    config.pg_connections = config_default_pg_connections(cpus);
    return config;
}

static void the_unit_allows_the_defaults_of_every_host(void **state) {
    (void)state;
    const size_t allowed = allowed_by_the_unit();
    for (unsigned cpus = 1; cpus <= CPUS_MAX; cpus++) {
        const struct config config = defaults_of(cpus);
        size_t most = memory_max(&config);
        expect_row(most <= allowed, "%u processors: %zu MiB, of %zu", cpus, most / MIB, allowed / MIB);
    }
    end_table();
}

static void each_setting_that_costs_memory_counts(void **state) {
    (void)state;
    const struct config config = defaults_of(16);
    struct config more[] = {config, config, config, config};
    more[0].threads++;
    more[1].pg_connections++;
    more[2].batch_max++;
    more[3].queue_max_bytes++;
    for (size_t i = 0; i < COUNT_OF(more); i++)
        expect_row(memory_max(&more[i]) > memory_max(&config), "%zu", i);
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unit_allows_the_defaults_of_every_host),
        cmocka_unit_test(each_setting_that_costs_memory_counts),
    };
    return cmocka_run_group_tests_name("memory_max", tests, NULL, NULL);
}
