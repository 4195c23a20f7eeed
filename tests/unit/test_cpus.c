/* cpus.h: what an affinity mask and control groups of either version leave of the machine. */
#include "cpus.h"

#include "unit.h"

#include <sched.h>
#include <sys/stat.h>

/* Writes a file below the folder, with the folders on its way. */
static void put(const char *path, const char *content) {
    char *whole = format_text("%s/%s", folder, path);
    for (char *slash = whole + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
    free(whole);
}

static void clear_folder(void) {
    char *command = format_text("rm -rf %s/*", folder);
    assert_int_equal(system(command), 0);
    free(command);
}

static void the_smallest_limit_up_to_the_root_counts(void **state) {
    (void)state;
    static const struct {
        const char *what, *groups;
        struct {
            const char *path, *content;
        } files[4];
        unsigned limit;
    } rows[] = {
        {"no file", NULL, {{0}}, UINT_MAX},
        {"an empty file", "", {{0}}, UINT_MAX},
        {"v2, no limit", "0::/a/b\n", {{"sys/a/b/cpu.max", "max 100000\n"}}, UINT_MAX},
        {"v2, no group", "0::/a/b\n", {{0}}, UINT_MAX},
        {"v2, two processors", "0::/a/b\n", {{"sys/a/b/cpu.max", "200000 100000\n"}}, 2},
        {"v2, rounded up", "0::/a/b\n", {{"sys/a/b/cpu.max", "200001 100000\n"}}, 3},
        {"v2, less than one", "0::/a\n", {{"sys/a/cpu.max", "1000 100000\n"}}, 1},
        {"v2, another period", "0::/a\n", {{"sys/a/cpu.max", "100000 25000\n"}}, 4},
        {"v2, the parent's", "0::/a/b/c\n", {{"sys/a/b/c/cpu.max", "max 100000\n"}, {"sys/a/cpu.max", "3 1\n"}}, 3},
        {"v2, the parent's is smaller", "0::/a/b\n", {{"sys/a/b/cpu.max", "4 1\n"}, {"sys/a/cpu.max", "3 1\n"}}, 3},
        {"v2, the parent's is larger", "0::/a/b\n", {{"sys/a/b/cpu.max", "3 1\n"}, {"sys/a/cpu.max", "4 1\n"}}, 3},
        {"v2, the root, as in a container", "0::/\n", {{"sys/cpu.max", "2 1\n"}}, 2},
        {"v2, a path of the host's", "0::/host/unit\n", {{"sys/cpu.max", "2 1\n"}}, 2},
        {"v2, a group of others", "0::/a\n", {{"sys/ab/cpu.max", "1 1\n"}, {"sys/a/b/cpu.max", "1 1\n"}}, UINT_MAX},
        {"v2, above what is mounted", "0::/a\n", {{"cpu.max", "1 1\n"}}, UINT_MAX},
        {"v2, a blank and a colon", "0::/a b:c\n", {{"sys/a b:c/cpu.max", "5 1\n"}}, 5},
        {"v2, no numbers", "0::/a\n", {{"sys/a/cpu.max", "x\n"}}, UINT_MAX},
        {"v2, no period", "0::/a\n", {{"sys/a/cpu.max", "1000 0\n"}}, UINT_MAX},
        {"v2, empty", "0::/a\n", {{"sys/a/cpu.max", ""}}, UINT_MAX},
        {"v1, no limit",
         "4:memory:/m\n3:cpu,cpuacct:/a/b\n",
         {{"sys/cpu/a/b/cpu.cfs_quota_us", "-1\n"}, {"sys/cpu/a/b/cpu.cfs_period_us", "100000\n"}},
         UINT_MAX},
        {"v1, rounded up",
         "4:memory:/m\n3:cpu,cpuacct:/a/b\n2:cpuset:/\n",
         {{"sys/cpu/a/b/cpu.cfs_quota_us", "150000\n"}, {"sys/cpu/a/b/cpu.cfs_period_us", "100000\n"}},
         2},
        {"v1, the controller alone",
         "1:cpu:/a\n",
         {{"sys/cpu/a/cpu.cfs_quota_us", "7\n"}, {"sys/cpu/a/cpu.cfs_period_us", "1\n"}},
         7},
        {"v1, a path of the host's",
         "3:cpuacct,cpu:/docker/0123\n",
         {{"sys/cpu/cpu.cfs_quota_us", "400000\n"}, {"sys/cpu/cpu.cfs_period_us", "100000\n"}},
         4},
        {"v1, another controller",
         "3:cpuset,cpuacct,xcpu:/a\n",
         {{"sys/cpu/a/cpu.cfs_quota_us", "1\n"}, {"sys/cpu/a/cpu.cfs_period_us", "1\n"}},
         UINT_MAX},
        {"v1, no period", "3:cpu:/a\n", {{"sys/cpu/a/cpu.cfs_quota_us", "150000\n"}}, UINT_MAX},
        {"both, as with systemd's hybrid",
         "3:cpu,cpuacct:/a\n0::/a\n",
         {{"sys/cpu/a/cpu.cfs_quota_us", "2\n"}, {"sys/cpu/a/cpu.cfs_period_us", "1\n"}},
         2},
        {"lines that are none", "x\n0:\n:\n\n0::/a\n", {{"sys/a/cpu.max", "6 1\n"}}, 6},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *groups = format_text("%s/groups", folder), *mounted = format_text("%s/sys", folder);
        if (rows[i].groups)
            put("groups", rows[i].groups);
        for (size_t f = 0; f < COUNT_OF(rows[i].files) && rows[i].files[f].path; f++)
            put(rows[i].files[f].path, rows[i].files[f].content);
        unsigned limit = cpus_limit(groups, mounted);
        expect_row(limit == rows[i].limit, "%s: %u, not %u", rows[i].what, limit, rows[i].limit);
        clear_folder();
        free(groups);
        free(mounted);
    }
    end_table();
}

static void no_more_than_the_affinity_mask_has(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(cpus_usable(), 1, CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    unsigned usable = cpus_usable();
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(usable, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_limit_up_to_the_root_counts),
        cmocka_unit_test(no_more_than_the_affinity_mask_has),
    };
    return cmocka_run_group_tests_name("cpus", tests, make_folder, remove_folder);
}
