/* listener.h: which sockets are made, which are taken over, and what stands in the way. */
#include "listener.h"

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

static char error[512];

static int open_listener(const char *path) {
    error[0] = '\0';
    return listener_open(path, error, sizeof error);
}

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    return address;
}

static bool can_connect(const char *path) {
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bool connected = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return connected;
}

/* A socket bound to `path`; it listens when `backlog` is not 0. */
static int bind_socket(const char *path, int type, int backlog) {
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, type, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    if (backlog > 0)
        assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static void expect_refused(const char *path, const char *says) {
    int fd = open_listener(path);
    expect_row(fd < 0, "%s is taken", path);
    expect_row(strstr(error, path) && strstr(error, says), "%s: %s", path, error);
    if (fd >= 0)
        close(fd);
}

static void a_socket_is_made_that_clients_can_connect_to(void **state) {
    (void)state;
    const char *path = path_in_folder("socket");
    int fd = open_listener(path);
    assert_true(fd >= 0);
    assert_true(can_connect(path));
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
    unlink(path);
}

static void its_mode_is_0660_whatever_the_umask(void **state) {
    (void)state;
    static const mode_t masks[] = {0, 022, 027, 077, 0777};
    const char *path = path_in_folder("socket");
    mode_t before = umask(0);
    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        struct stat status;
        umask(masks[i]);
        int fd = open_listener(path);
        mode_t after = umask(0);
        expect_row(fd >= 0 && stat(path, &status) == 0 && (status.st_mode & 07777) == 0660, "%03o: %s", masks[i],
                   error);
        expect_row(after == masks[i], "umask %03o became %03o", masks[i], after);
        close(fd);
        unlink(path);
    }
    umask(before);
    end_table();
}

static void a_stale_socket_is_replaced(void **state) {
    (void)state;
    const char *path = path_in_folder("socket");
    struct stat status;
    close(bind_socket(path, SOCK_STREAM, 5));
    assert_int_equal(chmod(path, 0777), 0);
    assert_false(can_connect(path));
    int fd = open_listener(path);
    assert_string_equal(error, "");
    assert_true(fd >= 0);
    assert_true(can_connect(path));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0660);
    close(fd);
    unlink(path);
}

static void a_socket_that_is_listened_on_is_left_alone(void **state) {
    (void)state;
    const char *path = path_in_folder("socket");
    int fd = open_listener(path);
    expect_refused(path, "another process listens");
    expect_row(can_connect(path), "the first one is gone");
    close(fd);
    unlink(path);
    end_table();
}

/* Whoever is at the other end: it is not gone only because no connection can be made now. */
static void a_socket_that_may_be_in_use_is_left_alone(void **state) {
    (void)state;
    const char *path = path_in_folder("socket"), *closed = path_in_folder("closed");
    struct stat status;

    /* Connecting to a full backlog would wait for ever. */
    int full = bind_socket(path, SOCK_STREAM, 1), clients[8], count = 0;
    struct sockaddr_un address = address_of(path);
    do {
        assert_in_range(count, 0, COUNT_OF(clients) - 1);
        clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    } while (connect(clients[count++], (const struct sockaddr *)&address, sizeof address) == 0);
    alarm(60);
    expect_refused(path, "another process listens");
    alarm(0);
    while (count > 0)
        close(clients[--count]);
    expect_row(stat(path, &status) == 0, "the socket with a full backlog is gone");
    close(full);
    unlink(path);

    int datagrams = bind_socket(path, SOCK_DGRAM, 0);
    expect_refused(path, strerror(EPROTOTYPE));
    expect_row(stat(path, &status) == 0, "the datagram socket is gone");
    close(datagrams);
    unlink(path);

    /* One that belongs to others. Root may connect to everything, so this is done as somebody else. */
    int others = bind_socket(closed, SOCK_STREAM, 5);
    assert_int_equal(chmod(closed, 0), 0);
    bool root = geteuid() == 0;
    if (root) {
        assert_int_equal(chmod(folder, 0777), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    expect_refused(closed, strerror(EACCES));
    if (root)
        assert_int_equal(seteuid(0), 0);
    expect_row(stat(closed, &status) == 0, "the socket of others is gone");
    close(others);
    unlink(closed);
    end_table();
}

static struct {
    const char *path;
    int fd;
} other_start = {.fd = -1};

/*
 * libc's, which the listener calls; when other_start has a path, the socket there goes before it, as its worker ends,
 * and after it another worker has started and listens.
 */
int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t size) {
    if (other_start.path)
        unlink(other_start.path);
    int result = (int)syscall(SYS_connect, fd, address.__sockaddr__, size), failure = errno;
    if (other_start.path) {
        other_start.fd = bind_socket(other_start.path, SOCK_STREAM, 5);
        other_start.path = NULL;
    }
    errno = failure;
    return result;
}

static void a_socket_that_comes_where_one_has_gone_is_left_alone(void **state) {
    (void)state;
    const char *path = path_in_folder("socket");
    int before = bind_socket(path, SOCK_STREAM, 5);
    other_start.path = path;
    expect_refused(path, strerror(EADDRINUSE));
    expect_row(other_start.fd >= 0 && can_connect(path), "the other worker's socket is gone");
    close(other_start.fd);
    close(before);
    unlink(path);
    end_table();
}

static void what_is_no_socket_is_left_alone(void **state) {
    (void)state;
    const char *file = write_file("file", "content"), *subfolder = path_in_folder("subfolder"),
               *link = path_in_folder("link"), *socket_link = path_in_folder("socket_link"),
               *stale = path_in_folder("socket");
    struct stat status;
    assert_int_equal(mkdir(subfolder, 0700), 0);
    assert_int_equal(symlink("file", link), 0);
    expect_refused(file, "is no socket");
    expect_refused(subfolder, "is no socket");
    close(bind_socket(stale, SOCK_STREAM, 5));
    assert_int_equal(symlink("socket", socket_link), 0);
    expect_refused(link, "is no socket");
    expect_refused(socket_link, "is no socket");
    expect_row(stat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 7, "the file is gone");
    expect_row(stat(subfolder, &status) == 0, "the folder is gone");
    expect_row(lstat(link, &status) == 0 && S_ISLNK(status.st_mode), "the link is gone");
    rmdir(subfolder);
    unlink(stale);
    end_table();
}

static void a_path_has_at_most_107_characters(void **state) {
    (void)state;
    char path[109];
    memset(path, 'x', sizeof path);
    size_t len = strlen(folder);
    memcpy(path, folder, len);
    path[len] = '/';
    path[108] = '\0';
    expect_refused(path, "at most 107 characters");
    path[107] = '\0';
    int fd = open_listener(path);
    expect_row(fd >= 0 && can_connect(path), "%s", error);
    close(fd);
    unlink(path);
    end_table();
}

static void where_no_socket_can_be_made_the_reason_is_given(void **state) {
    (void)state;
    expect_refused(path_in_folder("missing/socket"), strerror(ENOENT));
    write_file("file", "");
    expect_refused(path_in_folder("file/socket"), strerror(ENOTDIR));
    end_table();
}

static void descriptors_are_not_leaked(void **state) {
    (void)state;
    const char *file = write_file("file", ""), *path = path_in_folder("socket");
    int held = open_listener(path), lowest = dup(0);
    close(lowest);
    for (int i = 0; i < 3; i++) {
        open_listener(path);
        open_listener(file);
        open_listener(path_in_folder("missing/socket"));
    }
    int now = dup(0);
    close(now);
    close(held);
    unlink(path);
    assert_int_equal(now, lowest);
}

/* What listener_inherit makes of `fd` on descriptor `at`. */
static int inherit(int fd, int at) {
    int before = fcntl(at, F_DUPFD_CLOEXEC, 100);
    if (fd >= 0)
        assert_int_equal(dup2(fd, at), at);
    else
        close(at);
    error[0] = '\0';
    int result = listener_inherit(error, sizeof error);
    if (before >= 0)
        dup2(before, at);
    else
        close(at);
    close(before);
    return result;
}

static void a_listening_socket_on_descriptor_0_is_taken(void **state) {
    (void)state;
    const char *path = path_in_folder("socket");
    struct sockaddr_in any_port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = bind_socket(path, SOCK_STREAM, 5), tcp = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(tcp, (const struct sockaddr *)&any_port, sizeof any_port), 0);
    assert_int_equal(listen(tcp, 5), 0);
    assert_int_equal(inherit(fd, 0), 0);
    assert_int_equal(inherit(tcp, 0), 0);
    close(fd);
    close(tcp);
    unlink(path);
}

static void what_does_not_listen_on_descriptor_0_is_rejected(void **state) {
    (void)state;
    const char *path = path_in_folder("socket"), *datagrams = path_in_folder("datagrams");
    int pair[2], pipes[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pipe(pipes), 0);
    const struct {
        const char *name;
        int fd;
    } rows[] = {{"nothing", -1},
                {"/dev/null", open("/dev/null", O_RDONLY)},
                {"a pipe", pipes[0]},
                {"a connection", pair[0]},
                {"a socket that does not listen", bind_socket(path, SOCK_STREAM, 0)},
                {"a datagram socket", bind_socket(datagrams, SOCK_DGRAM, 0)}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect_row(inherit(rows[i].fd, 0) == -1, "%s is taken", rows[i].name);
        expect_row(strstr(error, "--listen"), "%s: %s", rows[i].name, error);
        if (rows[i].fd >= 0)
            close(rows[i].fd);
    }
    close(pair[1]);
    close(pipes[1]);
    unlink(path);
    unlink(datagrams);
    end_table();
}

static void systemds_socket_is_taken_and_only_one(void **state) {
    (void)state;
    static const struct {
        const char *fds;
        bool ours;
        int result;
        const char *says;
    } rows[] = {{"1", true, 3, ""}, {"2", true, -1, "2 sockets"}, {"1", false, -1, "--listen"}};
    const char *path = path_in_folder("socket");
    int fd = bind_socket(path, SOCK_STREAM, 5);
    /* Descriptor 0 is no socket in any of these. */
    int null = open("/dev/null", O_RDONLY), before = dup(0);
    dup2(null, 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *pid = format_text("%d", rows[i].ours ? getpid() : getppid());
        setenv("LISTEN_FDS", rows[i].fds, 1);
        setenv("LISTEN_PID", pid, 1);
        int result = inherit(fd, 3);
        expect_row(result == rows[i].result && strstr(error, rows[i].says), "row %zu: %d, %s", i, result, error);
        unsetenv("LISTEN_FDS");
        unsetenv("LISTEN_PID");
        free(pid);
    }
    dup2(before, 0);
    close(before);
    close(null);
    close(fd);
    unlink(path);
    end_table();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_is_made_that_clients_can_connect_to),
        cmocka_unit_test(its_mode_is_0660_whatever_the_umask),
        cmocka_unit_test(a_stale_socket_is_replaced),
        cmocka_unit_test(a_socket_that_is_listened_on_is_left_alone),
        cmocka_unit_test(a_socket_that_may_be_in_use_is_left_alone),
        cmocka_unit_test(a_socket_that_comes_where_one_has_gone_is_left_alone),
        cmocka_unit_test(what_is_no_socket_is_left_alone),
        cmocka_unit_test(a_path_has_at_most_107_characters),
        cmocka_unit_test(where_no_socket_can_be_made_the_reason_is_given),
        cmocka_unit_test(descriptors_are_not_leaked),
        cmocka_unit_test(a_listening_socket_on_descriptor_0_is_taken),
        cmocka_unit_test(what_does_not_listen_on_descriptor_0_is_rejected),
        cmocka_unit_test(systemds_socket_is_taken_and_only_one),
    };
    return cmocka_run_group_tests_name("listener", tests, make_folder, remove_folder);
}
