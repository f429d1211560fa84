/* Addresses as text: what reactor_listen and reactor_connect take, what they refuse and with which
   code, and the way back from a socket to text. */
#include "stream_help.h"

/* A path in a directory of its own, both gone after the test. */
typedef struct place {
    char dir[64], path[80], address[REACTOR_ADDRESS_MAX];
} place;

static place make_place(void) {
    place p;
    snprintf(p.dir, sizeof p.dir, "/tmp/reactor-test-XXXXXX");
    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof p.path, "%s/s", p.dir);
    snprintf(p.address, sizeof p.address, "unix:%s", p.path);
    return p;
}

static void leave_place(const place *p) {
    unlink(p->path);
    assert_int_equal(rmdir(p->dir), 0);
}

static int exists(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0;
}

/* A plain socket bound to a path, which unlike the library's stays there when it is closed. */
static int bind_path(const char *path, int type) {
    struct sockaddr_un a;
    socklen_t len = unix_name(&a, path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_return_code(fd, errno);
    assert_return_code(bind(fd, (struct sockaddr *)&a, len), errno);
    return fd;
}

static int listen_code(reactor *r, const char *address) {
    reactor_listener l = {0};
    int e = reactor_listen(r, address, &probe_handler, NULL, &l);
    if (e < 0) assert_true(l.id == 0);
    return e;
}

static int connect_code(reactor *r, const char *address) {
    return reactor_connect(r, address, &null_handler, NULL, NULL);
}

static void local_is(reactor *r, reactor_conn c, const char *text) {
    char got[REACTOR_ADDRESS_MAX];
    int n = reactor_local_address(r, c, got, sizeof got);
    if (n < 0) fail_msg("local address: %s", reactor_strerror(n));
    assert_string_equal(got, text);
    assert_int_equal(n, strlen(text));
}

static void peer_is(reactor *r, reactor_conn c, const char *text) {
    char got[REACTOR_ADDRESS_MAX];
    int n = reactor_peer_address(r, c, got, sizeof got);
    if (n < 0) fail_msg("peer address: %s", reactor_strerror(n));
    assert_string_equal(got, text);
    assert_int_equal(n, strlen(text));
}

/* A connection to address, by the library, as far as its two ends being open; then both closed. */
static void answers(reactor *r, const char *address, probe *accepted) {
    int before = accepted->opens;
    probe p = {0};
    probe_connect(r, address, &p, NULL);
    UNTIL(r, p.opens == 1 || p.closes);
    if (p.closes) fail_msg("%s: %s", address, reactor_strerror(p.reason));
    UNTIL(r, accepted->opens == before + 1);
    reactor_close(r, p.conn);
    UNTIL(r, p.closes == 1 && accepted->closes == accepted->opens);
}

/* ---- IPv4 and IPv6 ---- */

CASE(ipv4_listen_connect_and_format_back) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, NULL);
    char local[REACTOR_ADDRESS_MAX];
    assert_memory_equal(s.address, "127.0.0.1:", 10);
    assert_in_range(port_of(s.address), 1, 65535);
    probe_connect(r, s.address, &q, NULL);
    UNTIL(r, p.opens && q.opens);
    peer_is(r, q.conn, s.address);
    local_is(r, p.conn, s.address);
    assert_true(reactor_local_address(r, q.conn, local, sizeof local) > 0);
    peer_is(r, p.conn, local);
    end(r);
}

CASE(ipv4_other_loopback_addresses_are_different_ones) {
    if (!has_loopback_net()) skip();
    reactor *r = begin();
    probe p = {0};
    char text[REACTOR_ADDRESS_MAX];
    server s = serve_with(r, "127.0.0.5:0", &probe_handler, &p, NULL);
    assert_memory_equal(s.address, "127.0.0.5:", 10);
    answers(r, s.address, &p);
    snprintf(text, sizeof text, "127.0.0.6:%d", port_of(s.address));
    assert_true(listen_code(r, text) >= 0);
    end(r);
}

CASE(ipv4_every_address_is_zeros) {
    reactor *r = begin();
    probe p = {0};
    server s = serve_with(r, "0.0.0.0:0", &probe_handler, &p, NULL);
    char text[REACTOR_ADDRESS_MAX];
    assert_memory_equal(s.address, "0.0.0.0:", 8);
    snprintf(text, sizeof text, "127.0.0.1:%d", port_of(s.address));
    answers(r, text, &p);
    end(r);
}

CASE(ipv6_listen_connect_and_format_back) {
    if (!has_ipv6()) skip();
    reactor *r = begin();
    probe p = {0}, q = {0};
    server s = serve_with(r, "[::1]:0", &probe_handler, &p, NULL);
    char local[REACTOR_ADDRESS_MAX];
    assert_memory_equal(s.address, "[::1]:", 6);
    assert_in_range(port_of(s.address), 1, 65535);
    probe_connect(r, s.address, &q, NULL);
    UNTIL(r, p.opens && q.opens);
    peer_is(r, q.conn, s.address);
    local_is(r, p.conn, s.address);
    assert_true(reactor_local_address(r, q.conn, local, sizeof local) > 0);
    assert_memory_equal(local, "[::1]:", 6);
    peer_is(r, p.conn, local);
    end(r);
}

CASE(ipv6_long_form_is_the_same_address) {
    if (!has_ipv6()) skip();
    reactor *r = begin();
    probe p = {0};
    server s = serve_with(r, "[0:0:0:0:0:0:0:1]:0", &probe_handler, &p, NULL);
    assert_memory_equal(s.address, "[::1]:", 6);
    answers(r, s.address, &p);
    end(r);
}

/* A link-local address of this machine with its interface, as "fe80::1%eth0"; 0 if there is none */
static int link_local(char *out, size_t size) {
    char hex[33], name[32];
    unsigned index, prefix, scope, flags;
    int found = 0;
    FILE *f = fopen("/proc/net/if_inet6", "r");
    if (!f) return 0;
    while (!found &&
           fscanf(f, "%32s %x %x %x %x %31s", hex, &index, &prefix, &scope, &flags, name) == 6) {
        struct in6_addr a;
        char text[INET6_ADDRSTRLEN];
        if (scope != 0x20 || (flags & 0x40)) continue;
        for (int i = 0; i < 16; i++) {
            char byte[3] = {hex[2 * i], hex[2 * i + 1], 0};
            a.s6_addr[i] = (uint8_t)strtoul(byte, NULL, 16);
        }
        inet_ntop(AF_INET6, &a, text, sizeof text);
        found = snprintf(out, size, "%s%%%s", text, name) > 0;
    }
    fclose(f);
    return found;
}

CASE(ipv6_scope_is_read_and_written) {
    NEEDS_INTERFACE_NAMES;
    char scoped[96], address[REACTOR_ADDRESS_MAX], start[REACTOR_ADDRESS_MAX];
    if (!has_ipv6() || !link_local(scoped, sizeof scoped)) skip();
    if (emulated()) skip(); /* qemu swaps half of a scope's bytes */
    reactor *r = begin();
    probe p = {0};
    snprintf(address, sizeof address, "[%s]:0", scoped);
    server s = serve_with(r, address, &probe_handler, &p, NULL);
    snprintf(start, sizeof start, "[%s]:", scoped);
    assert_memory_equal(s.address, start, strlen(start));
    answers(r, s.address, &p);
    end(r);
}

CASE(ipv6_scope_that_does_not_exist_is_refused) {
    reactor *r = begin();
    assert_true(listen_code(r, "[fe80::1%nosuchif0]:7") < 0);
    assert_true(connect_code(r, "[fe80::1%nosuchif0]:7") < 0);
    assert_int_equal(listen_code(r, "[fe80::1%]:7"), -EINVAL);
    end(r);
}

CASE(star_listens_for_both_families) {
    reactor *r = begin();
    probe p = {0};
    server s = serve_with(r, "*:0", &probe_handler, &p, NULL);
    char text[REACTOR_ADDRESS_MAX];
    int port = port_of(s.address);
    assert_in_range(port, 1, 65535);
    snprintf(text, sizeof text, "127.0.0.1:%d", port);
    answers(r, text, &p);
    snprintf(text, sizeof text, "[::1]:%d", port);
    if (has_ipv6()) answers(r, text, &p);
    snprintf(text, sizeof text, "*:%d", port);
    answers(r, text, &p); /* connect: this machine */
    answers(r, s.address, &p);
    end(r);
}

CASE(star_shows_an_ipv4_peer_as_ipv4) {
    reactor *r = begin();
    probe p = {0};
    server s = serve_with(r, "*:0", &probe_handler, &p, NULL);
    char got[REACTOR_ADDRESS_MAX], text[REACTOR_ADDRESS_MAX];
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int fd = dial_ipv4(port_of(s.address));
    UNTIL(r, p.opens);
    assert_return_code(getsockname(fd, (struct sockaddr *)&a, &len), errno);
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(a.sin_port));
    peer_is(r, p.conn, text);
    assert_true(reactor_local_address(r, p.conn, got, sizeof got) > 0);
    close(fd);
    UNTIL(r, p.closes);
    answers(r, got, &p);
    end(r);
}

CASE(localhost_is_127_0_0_1) {
    reactor *r = begin();
    probe p = {0};
    char text[REACTOR_ADDRESS_MAX];
    server s = serve_with(r, "localhost:0", &probe_handler, &p, NULL);
    assert_memory_equal(s.address, "127.0.0.1:", 10);
    snprintf(text, sizeof text, "localhost:%d", port_of(s.address));
    answers(r, text, &p);
    end(r);
}

CASE(port_0_gives_each_listener_its_own) {
    reactor *r = begin();
    probe p = {0};
    server a = serve(r, &p), b = serve(r, &p);
    assert_string_not_equal(a.address, b.address);
    end(r);
}

CASE(port_in_use_is_EADDRINUSE) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    assert_int_equal(listen_code(r, s.address), -EADDRINUSE);
    answers(r, s.address, &p);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    assert_true(listen_code(r, s.address) >= 0);
    end(r);
}

/* SO_REUSEADDR: the port is free although connections of the previous listener linger. */
CASE(port_of_a_closed_listener_is_free_at_once) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    reactor_close(r, p.conn); /* this end is first, so it keeps TIME_WAIT */
    peer_sees_eof(r, fd);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    assert_true(listen_code(r, s.address) >= 0);
    end(r);
}

CASE(address_of_another_machine_is_EADDRNOTAVAIL) {
    reactor *r = begin();
    assert_int_equal(listen_code(r, "192.0.2.1:0"), -EADDRNOTAVAIL);
    end(r);
}

/* ---- unix ---- */

CASE(unix_path_listen_connect_and_format_back) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0}, q = {0};
    struct stat st;
    server s = serve_with(r, at.address, &probe_handler, &p, NULL);
    assert_string_equal(s.address, at.address);
    assert_int_equal(stat(at.path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    probe_connect(r, s.address, &q, NULL);
    UNTIL(r, p.opens && q.opens);
    peer_is(r, q.conn, at.address);
    local_is(r, p.conn, at.address);
    peer_is(r, p.conn, "unix:");
    local_is(r, q.conn, "unix:");
    end(r);
    leave_place(&at);
}

CASE(unix_mode_sets_the_permissions) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0};
    struct stat st;
    reactor_listen_options o;
    memset(&o, 0, sizeof o);
    o.unix_mode = 0606;
    serve_with(r, at.address, &probe_handler, &p, &o);
    assert_int_equal(stat(at.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0606);
    end(r);
    leave_place(&at);
}

CASE(unix_path_is_removed_when_the_listener_closes) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0};
    server s = serve_with(r, at.address, &probe_handler, &p, NULL);
    assert_true(exists(at.path));
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    turns(r, 2);
    assert_false(exists(at.path));
    end(r);
    leave_place(&at);
}

CASE(unix_path_is_removed_when_the_loop_is_destroyed) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0};
    serve_with(r, at.address, &probe_handler, &p, NULL);
    end(r);
    assert_false(exists(at.path));
    leave_place(&at);
}

CASE(unix_path_that_someone_else_has_replaced_is_not_removed) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0};
    server s = serve_with(r, at.address, &probe_handler, &p, NULL);
    assert_int_equal(unlink(at.path), 0);
    int other = bind_path(at.path, SOCK_STREAM);
    assert_return_code(listen(other, 4), errno);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    turns(r, 2);
    assert_true(exists(at.path));
    int fd = dial_unix(at.path);
    close(fd);
    close(other);
    end(r);
    assert_true(exists(at.path));
    leave_place(&at);
}

CASE(unix_path_of_a_dead_server_is_replaced) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0};
    int dead = bind_path(at.path, SOCK_STREAM);
    assert_return_code(listen(dead, 4), errno);
    close(dead);
    assert_true(exists(at.path));
    server s = serve_with(r, at.address, &probe_handler, &p, NULL);
    answers(r, s.address, &p);
    end(r);
    leave_place(&at);
}

CASE(unix_path_of_a_live_server_is_EADDRINUSE) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0};
    server s = serve_with(r, at.address, &probe_handler, &p, NULL);
    assert_int_equal(listen_code(r, at.address), -EADDRINUSE);
    assert_true(exists(at.path));
    answers(r, s.address, &p);
    end(r);
    leave_place(&at);
}

/* Its backlog is full, so that it does not answer a question at once: it is alive all the same. */
CASE(unix_path_of_a_busy_server_is_EADDRINUSE) {
    place at = make_place();
    reactor *r = begin();
    struct sockaddr_un a;
    socklen_t len = unix_name(&a, at.path);
    int busy = bind_path(at.path, SOCK_STREAM), fd[64], n = 0, full = 0;
    assert_return_code(listen(busy, 0), errno);
    while (n < 64 && !full) {
        fd[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        full = connect(fd[n++], (struct sockaddr *)&a, len) < 0;
    }
    assert_true(full);
    assert_int_equal(listen_code(r, at.address), -EADDRINUSE);
    assert_true(exists(at.path));
    while (n > 0) close(fd[--n]);
    close(busy);
    end(r);
    leave_place(&at);
}

/* A datagram server answers no stream connect, yet the path is its. */
CASE(unix_path_of_a_datagram_server_is_not_replaced) {
    place at = make_place();
    reactor *r = begin();
    int other = bind_path(at.path, SOCK_DGRAM);
    assert_int_equal(listen_code(r, at.address), -EADDRINUSE);
    assert_true(exists(at.path));
    close(other);
    end(r);
    leave_place(&at);
}

CASE(unix_path_of_a_file_is_not_replaced) {
    place at = make_place();
    reactor *r = begin();
    struct stat st;
    int fd = open(at.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_int_equal(listen_code(r, at.address), -EADDRINUSE);
    assert_int_equal(stat(at.path, &st), 0);
    assert_int_equal(st.st_size, 8);
    end(r);
    leave_place(&at);
}

CASE(unix_path_in_no_directory_is_ENOENT) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    assert_int_equal(listen_code(r, "unix:/tmp/reactor-no-such-directory/s"), -ENOENT);
    end(r);
}

CASE(unix_path_as_long_as_the_system_allows) {
    place at = make_place();
    reactor *r = begin();
    probe p = {0};
    size_t limit = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    char path[120], address[REACTOR_ADDRESS_MAX];
    memset(path, 'x', sizeof path);
    memcpy(path, at.path, strlen(at.path));
    path[limit] = 0;
    snprintf(address, sizeof address, "unix:%s", path);
    server s = serve_with(r, address, &probe_handler, &p, NULL);
    assert_string_equal(s.address, address);
    answers(r, address, &p);
    reactor_listener_close(r, s.l);
    turns(r, 2);
    assert_false(exists(path));
    end(r);
    leave_place(&at);
}

CASE(unix_path_that_is_too_long_is_refused) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    size_t limit = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    char address[5000];
    memset(address, 'x', sizeof address - 1);
    memcpy(address, "unix:/tmp/", 10);
    address[sizeof address - 1] = 0;
    assert_int_equal(listen_code(r, address), -ENAMETOOLONG);
    assert_int_equal(connect_code(r, address), -ENAMETOOLONG);
    address[5 + limit + 1] = 0;
    assert_int_equal(listen_code(r, address), -ENAMETOOLONG);
    assert_int_equal(connect_code(r, address), -ENAMETOOLONG);
    assert_false(exists(address + 5));
    end(r);
}

CASE(unix_abstract_name_listen_connect_and_format_back) {
    NEEDS_UNIX_PAIRS;
    if (!ON_LINUX) skip();
    reactor *r = begin();
    probe p = {0}, q = {0};
    char address[REACTOR_ADDRESS_MAX];
    snprintf(address, sizeof address, "unix:@reactor-abstract-%d", (int)getpid());
    server s = serve_with(r, address, &probe_handler, &p, NULL);
    assert_string_equal(s.address, address);
    assert_false(exists(address + 5));
    probe_connect(r, address, &q, NULL);
    UNTIL(r, p.opens && q.opens);
    peer_is(r, q.conn, address);
    local_is(r, p.conn, address);
    int fd = dial_unix(address + 5); /* no other bytes in the name, also for others */
    UNTIL(r, p.opens == 2);
    close(fd);
    assert_int_equal(listen_code(r, address), -EADDRINUSE);
    end(r);
}

CASE(unix_abstract_name_is_free_after_close) {
    reactor *r = begin();
    probe p = {0};
    server s = serve_unix(r, &p, NULL);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    turns(r, 2);
    assert_true(listen_code(r, s.address) >= 0);
    end(r);
}

/* ---- descriptors handed over ---- */

CASE(fd_listens_on_a_socket_that_was_handed_over) {
    reactor *r = begin();
    probe p = {0};
    char bound_to[REACTOR_ADDRESS_MAX], address[32];
    int fd = bound(bound_to);
    assert_return_code(listen(fd, 4), errno);
    snprintf(address, sizeof address, "fd:%d", fd);
    server s = serve_with(r, address, &probe_handler, &p, NULL);
    assert_string_equal(s.address, bound_to);
    answers(r, bound_to, &p);
    end(r); /* which proves that it was closed with the listener */
}

CASE(fd_connects_a_socket_that_was_handed_over) {
    reactor *r = begin();
    probe p = {0};
    int fd[2];
    char address[32];
    make_tcp_pair(fd);
    snprintf(address, sizeof address, "fd:%d", fd[0]);
    reactor_conn c = probe_connect(r, address, &p, NULL);
    assert_int_equal(p.opens, 0);
    assert_int_equal(reactor_write(r, c, "hello", 5), 0);
    peer_hears(r, fd[1], "hello");
    assert_int_equal(p.opens, 1);
    close(fd[1]);
    UNTIL(r, p.closes);
    end(r);
}

CASE(fd_that_is_nothing_to_listen_on_is_refused_and_stays_open) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    char address[32], bound_to[REACTOR_ADDRESS_MAX];
    int fd[2], file = pattern_file(10, 1, 0), idle = bound(bound_to);
    make_pair(fd);
    int refused[] = {fd[0], file, idle};
    for (size_t i = 0; i < COUNT(refused); i++) {
        snprintf(address, sizeof address, "fd:%d", refused[i]);
        int e = listen_code(r, address);
        assert_true(e == -EINVAL || e == -ENOTSOCK);
        assert_true(fcntl(refused[i], F_GETFD) >= 0);
    }
    close(fd[0]), close(fd[1]), close(file), close(idle);
    end(r);
}

CASE(fd_that_is_not_open_is_EBADF) {
    reactor *r = begin();
    assert_int_equal(listen_code(r, "fd:4000"), -EBADF);
    end(r);
}

/* ---- what is refused ---- */

/* They are for connecting alone. */
CASE(host_names_are_ENOTSUP) {
    static const char *const names[] = {"example.com:80", "www.example.org:443", "myhost:7000",
                                        "my-host:7000", "LOCALHOST.example:1"};
    reactor *r = begin();
    for (size_t i = 0; i < COUNT(names); i++)
        if (listen_code(r, names[i]) != -ENOTSUP) fail_msg("listen: %s", names[i]);
    end(r);
}

CASE(nonsense_is_EINVAL) {
    static const char *const texts[] = {"",
                                        " ",
                                        ":",
                                        "::",
                                        ":80",
                                        "80",
                                        "127.0.0.1",
                                        "127.0.0.1:",
                                        "127.0.0.1:x",
                                        "127.0.0.1:65536",
                                        "127.0.0.1:-1",
                                        "127.0.0.1:+1",
                                        "127.0.0.1:80x",
                                        "127.0.0.1: 80",
                                        "127.0.0.1:99999999999999",
                                        "127.0.0.1:4294967376",
                                        "127.0.0.1:80:80",
                                        "localhost",
                                        "localhost:",
                                        "localhost:x",
                                        "*",
                                        "*:",
                                        "*:x",
                                        "**:80",
                                        "[::1]",
                                        "[::1]:",
                                        "[::1]80",
                                        "[::1:80",
                                        "::1]:80",
                                        "[]:80",
                                        "[127.0.0.1]:80",
                                        "[::1]:65536",
                                        "[::g]:80",
                                        "[:::1]:80",
                                        "[1:2:3:4:5:6:7:8:9]:80",
                                        "unix:",
                                        "unix:@",
                                        "unix",
                                        "fd:",
                                        "fd:x",
                                        "fd:-1",
                                        "fd:+1",
                                        "fd:1x",
                                        "fd:99999999999999999999",
                                        "fd:4294967296",
                                        "fd",
                                        "\n",
                                        "@name",
                                        "/tmp/path",
                                        "\xff\xfe:1"};
    reactor *r = begin();
    for (size_t i = 0; i < COUNT(texts); i++) {
        int e = listen_code(r, texts[i]), f = connect_code(r, texts[i]);
        if (e != -EINVAL) fail_msg("listen: \"%s\" is %d", texts[i], e);
        if (f != -EINVAL) fail_msg("connect: \"%s\" is %d", texts[i], f);
    }
    assert_int_equal(counters(r).listeners, 0);
    assert_int_equal(counters(r).connections, 0);
    end(r);
}

CASE(enormous_text_is_refused) {
    reactor *r = begin();
    size_t len = 1 * MIB;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, 'a', len);
    memcpy(text + len - 4, ":80", 4);
    assert_true(listen_code(r, text) < 0);
    assert_true(connect_code(r, text) < 0);
    memset(text, '1', len - 1);
    memcpy(text, "127.0.0.1:", 10);
    assert_int_equal(listen_code(r, text), -EINVAL);
    assert_int_equal(connect_code(r, text), -EINVAL);
    memset(text, ',', len - 1);
    assert_int_equal(connect_code(r, text), -EINVAL);
    free(text);
    end(r);
}

CASE(null_addresses_and_handlers_are_EINVAL) {
    reactor *r = begin();
    reactor_listener l;
    reactor_conn c;
    assert_int_equal(reactor_listen(NULL, "*:0", &probe_handler, NULL, &l), -EINVAL);
    assert_int_equal(reactor_listen(r, NULL, &probe_handler, NULL, &l), -EINVAL);
    assert_int_equal(reactor_listen(r, "*:0", NULL, NULL, &l), -EINVAL);
    assert_int_equal(reactor_connect(NULL, "*:1", &probe_handler, NULL, &c), -EINVAL);
    assert_int_equal(reactor_connect(r, NULL, &probe_handler, NULL, &c), -EINVAL);
    assert_int_equal(reactor_connect(r, "*:1", NULL, NULL, &c), -EINVAL);
    end(r);
}

/* ---- back to text ---- */

CASE(room_too_small_is_ENOBUFS) {
    reactor *r = begin();
    probe p = {0};
    char out[REACTOR_ADDRESS_MAX];
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    size_t len = strlen(s.address);
    assert_int_equal(reactor_listener_address(r, s.l, out, len), -ENOBUFS);
    assert_int_equal(reactor_listener_address(r, s.l, out, 1), -ENOBUFS);
    assert_int_equal(reactor_listener_address(r, s.l, out, 0), -ENOBUFS);
    memset(out, '#', sizeof out);
    assert_int_equal(reactor_listener_address(r, s.l, out, len + 1), len);
    assert_string_equal(out, s.address);
    assert_int_equal(out[len + 1], '#');
    assert_int_equal(reactor_local_address(r, p.conn, out, len), -ENOBUFS);
    assert_int_equal(reactor_local_address(r, p.conn, out, len + 1), len);
    assert_int_equal(reactor_peer_address(r, p.conn, out, 5), -ENOBUFS);
    close(fd);
    end(r);
}

CASE(address_of_null_or_stale_is_refused) {
    reactor *r = begin();
    probe p = {0};
    char out[REACTOR_ADDRESS_MAX];
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    reactor_listener none = {0};
    reactor_conn nobody = {0};
    assert_int_equal(reactor_listener_address(NULL, s.l, out, sizeof out), -EINVAL);
    assert_int_equal(reactor_listener_address(r, s.l, NULL, sizeof out), -EINVAL);
    assert_int_equal(reactor_local_address(NULL, p.conn, out, sizeof out), -EINVAL);
    assert_int_equal(reactor_local_address(r, p.conn, NULL, sizeof out), -EINVAL);
    assert_int_equal(reactor_peer_address(NULL, p.conn, out, sizeof out), -EINVAL);
    assert_int_equal(reactor_peer_address(r, p.conn, NULL, sizeof out), -EINVAL);
    assert_int_equal(reactor_listener_address(r, none, out, sizeof out), -EBADF);
    assert_int_equal(reactor_local_address(r, nobody, out, sizeof out), -EBADF);
    assert_int_equal(reactor_peer_address(r, nobody, out, sizeof out), -EBADF);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    assert_int_equal(reactor_listener_address(r, s.l, out, sizeof out), -EBADF);
    close(fd);
    end(r);
}

CASE(address_of_what_is_not_open_yet_is_ENOTCONN) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char out[REACTOR_ADDRESS_MAX];
    server s = serve(r, &p);
    reactor_conn c = probe_connect(r, s.address, &q, NULL);
    assert_int_equal(reactor_local_address(r, c, out, sizeof out), -ENOTCONN);
    assert_int_equal(reactor_peer_address(r, c, out, sizeof out), -ENOTCONN);
    UNTIL(r, q.opens && p.opens);
    assert_true(reactor_peer_address(r, c, out, sizeof out) > 0);
    end(r);
}

/* ---- lists ---- */

CASE(list_first_refuses_second_answers) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    probe p = {0};
    char closed[REACTOR_ADDRESS_MAX], list[3 * REACTOR_ADDRESS_MAX], dead[64];
    int fd = bound(closed);
    server s = serve(r, &p);
    dead_unix_address(dead, sizeof dead);
    snprintf(list, sizeof list, "%s,%s", closed, s.address);
    answers(r, list, &p);
    snprintf(list, sizeof list, "%s,%s", s.address, closed);
    answers(r, list, &p);
    snprintf(list, sizeof list, "unix:/tmp/reactor-no-such-socket,%s,%s", dead, s.address);
    answers(r, list, &p);
    unlink(dead + strlen("unix:"));
    close(fd);
    end(r);
}

CASE(list_is_asked_in_order) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char list[2 * REACTOR_ADDRESS_MAX];
    server first = serve(r, &p), second = serve(r, &q);
    for (int i = 1; i <= 5; i++) {
        snprintf(list, sizeof list, "%s,%s", first.address, second.address);
        answers(r, list, &p);
        assert_int_equal(p.opens, i);
    }
    assert_int_equal(q.opens, 0);
    end(r);
}

CASE(list_of_many) {
    reactor *r = begin();
    probe p = {0};
    char closed[REACTOR_ADDRESS_MAX], list[50 * 24] = "";
    int fd = bound(closed);
    server s = serve(r, &p);
    for (int i = 0; i < 40; i++) {
        strcat(list, closed);
        strcat(list, ",");
    }
    strcat(list, s.address);
    answers(r, list, &p);
    close(fd);
    end(r);
}

CASE(list_of_which_none_answers_tells_the_error) {
    reactor *r = begin();
    probe p = {0};
    char closed[REACTOR_ADDRESS_MAX], list[2 * REACTOR_ADDRESS_MAX];
    int fd = bound(closed);
    snprintf(list, sizeof list, "%s,%s", closed, closed);
    probe_connect(r, list, &p, NULL);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ECONNREFUSED);
    assert_string_equal(p.log, "c");
    close(fd);
    end(r);
}

CASE(list_may_have_spaces_around_its_commas) {
    reactor *r = begin();
    probe p = {0};
    char closed[REACTOR_ADDRESS_MAX], list[3 * REACTOR_ADDRESS_MAX];
    int fd = bound(closed);
    server s = serve(r, &p);
    snprintf(list, sizeof list, "%s  ,  %s", closed, s.address);
    answers(r, list, &p);
    close(fd);
    end(r);
}

CASE(list_with_an_empty_or_bad_item_is_EINVAL) {
    reactor *r = begin();
    probe p = {0};
    char list[2 * REACTOR_ADDRESS_MAX];
    server s = serve(r, &p);
    static const char *const shapes[] = {
        ",%s", "%s,", "%s,,127.0.0.1:1", "%s, ,127.0.0.1:1", "%s,nonsense", "%s;127.0.0.1:1"};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const char *hole = strstr(shapes[i], "%s");
        snprintf(list, sizeof list, "%.*s%s%s", (int)(hole - shapes[i]), shapes[i], s.address,
                 hole + 2);
        if (connect_code(r, list) != -EINVAL) fail_msg("\"%s\"", list);
    }
    assert_int_equal(counters(r).connections, 0);
    end(r);
}

CASE(port_0_is_nothing_to_connect_to) {
    reactor *r = begin();
    assert_int_equal(connect_code(r, "127.0.0.1:0"), -EINVAL);
    assert_int_equal(connect_code(r, "[::1]:0"), -EINVAL);
    assert_int_equal(connect_code(r, "*:0"), -EINVAL);
    end(r);
}

CASE(list_is_not_for_listen) {
    reactor *r = begin();
    assert_int_equal(listen_code(r, "127.0.0.1:0,127.0.0.1:0"), -EINVAL);
    end(r);
}

/* ---- the local end ---- */

CASE(local_option_chooses_where_a_connect_comes_from) {
    if (!has_loopback_net()) skip();
    reactor *r = begin();
    probe p = {0}, q = {0};
    reactor_connect_options o;
    char got[REACTOR_ADDRESS_MAX];
    memset(&o, 0, sizeof o);
    o.local = "127.0.0.9:0";
    server s = serve(r, &p);
    probe_connect(r, s.address, &q, &o);
    UNTIL(r, p.opens && q.opens);
    assert_true(reactor_peer_address(r, p.conn, got, sizeof got) > 0);
    assert_memory_equal(got, "127.0.0.9:", 10);
    local_is(r, q.conn, got);
    end(r);
}

CASE(local_option_that_is_no_address_is_EINVAL) {
    reactor *r = begin();
    reactor_connect_options o;
    memset(&o, 0, sizeof o);
    o.local = "nonsense";
    assert_int_equal(reactor_connect(r, "127.0.0.1:1", &probe_handler, &o, NULL), -EINVAL);
    o.local = "";
    assert_int_equal(reactor_connect(r, "127.0.0.1:1", &probe_handler, &o, NULL), -EINVAL);
    o.local = "example.com:0";
    assert_int_equal(reactor_connect(r, "127.0.0.1:1", &probe_handler, &o, NULL), -ENOTSUP);
    end(r);
}

CASE(local_option_of_another_machine_fails_by_on_close) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    reactor_connect_options o;
    memset(&o, 0, sizeof o);
    o.local = "192.0.2.1:0";
    server s = serve(r, &p);
    probe_connect(r, s.address, &q, &o);
    assert_int_equal(q.closes, 0);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -EADDRNOTAVAIL);
    assert_int_equal(p.opens, 0);
    end(r);
}

/* ---- the peer, to the end ---- */

/* What the two ends' addresses are in the first and the last callback. */
typedef struct seen {
    char opened[REACTOR_ADDRESS_MAX], closed[REACTOR_ADDRESS_MAX];
    int at_open, at_close, local; /* what the calls returned; local: in on_close */
    int dumped;                   /* the peer is in what reactor_dump shows in on_close */
} seen;

static void look_for_peer(const char *line, void *user) {
    seen *s = user;
    const char *peer = strstr(line, " peer=");
    if (peer && s->at_close > 0 && strcmp(peer + 6, s->closed) == 0) s->dumped = 1;
}

static void hook_see_open(reactor *r, reactor_conn c, probe *p) {
    seen *s = p->extra;
    s->at_open = reactor_peer_address(r, c, s->opened, sizeof s->opened);
}

static void hook_see_close(reactor *r, reactor_conn c, probe *p) {
    char out[REACTOR_ADDRESS_MAX];
    seen *s = p->extra;
    s->at_close = reactor_peer_address(r, c, s->closed, sizeof s->closed);
    s->local = reactor_local_address(r, c, out, sizeof out);
    assert_int_equal(reactor_dump(r, look_for_peer, s), 0);
    if (s->at_close <= 0) return;
    assert_int_equal(reactor_peer_address(r, c, out, (size_t)s->at_close), -ENOBUFS);
    assert_int_equal(reactor_peer_address(r, c, out, (size_t)s->at_close + 1), s->at_close);
    assert_string_equal(out, s->closed);
}

static probe sees(seen *s) {
    probe p = {.open = hook_see_open, .close = hook_see_close};
    memset(s, 0, sizeof *s);
    p.extra = s;
    return p;
}

static void has_seen(const seen *s, const char *peer) {
    if (s->at_open < 0) fail_msg("in on_open: %s", reactor_strerror(s->at_open));
    assert_string_equal(s->opened, peer);
    if (s->at_close < 0) fail_msg("in on_close: %s", reactor_strerror(s->at_close));
    assert_string_equal(s->closed, peer);
    assert_int_equal(s->at_close, strlen(peer));
    assert_int_equal(s->local, -ENOTCONN);
    assert_true(s->dumped);
}

/* What a plain socket of inet is bound to. */
static void plain_name(int fd, char out[REACTOR_ADDRESS_MAX]) {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_storage all;
    } a;
    socklen_t len = sizeof a;
    assert_return_code(getsockname(fd, &a.sa, &len), errno);
    if (a.sa.sa_family == AF_INET6)
        snprintf(out, REACTOR_ADDRESS_MAX, "[::1]:%d", ntohs(a.in6.sin6_port));
    else
        snprintf(out, REACTOR_ADDRESS_MAX, "127.0.0.1:%d", ntohs(a.in4.sin_port));
}

/* The ways in which a connection ends. */
enum { ENDS_IN_ORDER, ENDS_BY_RESET, ENDS_BY_ABORT, ENDS_BY_DESTROY, ENDINGS };

/* A plain peer comes to the listener and the connection ends; in the end its loop is gone. */
static void comes_and_goes(reactor *r, probe *p, int fd, int how) {
    UNTIL(r, p->opens == 1);
    if (how == ENDS_IN_ORDER) close(fd);
    if (how == ENDS_BY_RESET) close_with_reset(fd);
    if (how == ENDS_BY_ABORT) reactor_abort(r, p->conn);
    if (how != ENDS_BY_DESTROY) UNTIL(r, p->closes == 1);
    if (how == ENDS_BY_ABORT || how == ENDS_BY_DESTROY) close(fd);
    end(r);
    assert_int_equal(p->closes, 1);
}

static void accepted_peer_stays(const char *address, int (*call)(int port)) {
    for (int how = 0; how < ENDINGS; how++) {
        seen at;
        char name[REACTOR_ADDRESS_MAX];
        reactor *r = begin();
        probe p = sees(&at);
        server s = serve_with(r, address, &probe_handler, &p, NULL);
        int fd = call(port_of(s.address));
        plain_name(fd, name);
        comes_and_goes(r, &p, fd, how);
        has_seen(&at, name);
    }
}

CASE(peer_of_an_accepted_ipv4_is_told_to_the_end) { accepted_peer_stays("127.0.0.1:0", dial_ipv4); }

CASE(peer_of_an_accepted_ipv6_is_told_to_the_end) {
    if (!has_ipv6()) skip();
    accepted_peer_stays("[::1]:0", dial_ipv6);
}

CASE(peer_of_an_accepted_mapped_address_is_told_to_the_end) {
    if (!has_ipv6()) skip();
    accepted_peer_stays("*:0", dial_ipv4);
}

/* From a name of its own, or from none: a path, or "@name". */
static int dial_unix_from(const char *from, const char *path) {
    struct sockaddr_un a;
    socklen_t len;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(fd, errno);
    if (from) {
        len = unix_name(&a, from);
        assert_return_code(bind(fd, (struct sockaddr *)&a, len), errno);
    }
    len = unix_name(&a, path);
    assert_return_code(connect(fd, (struct sockaddr *)&a, len), errno);
    unblock(fd);
    return fd;
}

static void accepted_unix_peer_stays(const char *from) {
    char name[REACTOR_ADDRESS_MAX];
    snprintf(name, sizeof name, "unix:%s", from ? from : "");
    for (int how = 0; how < ENDINGS; how++) {
        seen at;
        place here = make_place();
        reactor *r = begin();
        probe p = sees(&at);
        serve_with(r, here.address, &probe_handler, &p, NULL);
        comes_and_goes(r, &p, dial_unix_from(from, here.path), how);
        has_seen(&at, name);
        if (from) unlink(from);
        leave_place(&here);
    }
}

CASE(peer_of_an_accepted_unix_socket_is_told_to_the_end) {
    NEEDS_UNIX_PAIRS;
    place here = make_place();
    char name[64];
    accepted_unix_peer_stays(NULL);
    accepted_unix_peer_stays(here.path);
    snprintf(name, sizeof name, "@reactor-peer-%d", (int)getpid());
    if (ON_LINUX) accepted_unix_peer_stays(name);
    leave_place(&here);
}

/* The system itself names the peer of such a socket no more. Elsewhere than on Linux accept may fail
   instead, and there is no connection. */
static void reset_in_the_backlog(const char *address, int (*call)(int port)) {
    seen at;
    char name[REACTOR_ADDRESS_MAX];
    reactor *r = begin();
    probe p = sees(&at);
    server s = serve_with(r, address, &probe_handler, &p, NULL);
    int fd = call(port_of(s.address));
    plain_name(fd, name);
    close_with_reset(fd);
    UNTIL(r, p.closes == 1);
    assert_int_equal(p.opens, 1);
    has_seen(&at, name);
    end(r);
}

CASE(peer_that_has_reset_before_it_was_accepted_is_told) {
    if (!ON_LINUX) skip();
    reset_in_the_backlog("127.0.0.1:0", dial_ipv4);
    if (!has_ipv6()) return;
    reset_in_the_backlog("[::1]:0", dial_ipv6);
    reset_in_the_backlog("*:0", dial_ipv4);
}

CASE(unix_peer_that_has_gone_before_it_was_accepted_is_told) {
    NEEDS_UNIX_PAIRS;
    if (!ON_LINUX) skip();
    seen at;
    place here = make_place(), there = make_place();
    reactor *r = begin();
    probe p = sees(&at);
    serve_with(r, here.address, &probe_handler, &p, NULL);
    close(dial_unix_from(there.path, here.path));
    UNTIL(r, p.closes == 1);
    has_seen(&at, there.address);
    end(r);
    leave_place(&here);
    leave_place(&there);
}

/* By attach or as fd:N, which ask the socket. */
static void handed_over_peer_stays(int by_number) {
    for (int how = 0; how < ENDINGS; how++) {
        seen at;
        char name[REACTOR_ADDRESS_MAX], address[32];
        reactor *r = begin();
        probe p = sees(&at);
        int fd[2];
        make_tcp_pair(fd);
        plain_name(fd[1], name);
        snprintf(address, sizeof address, "fd:%d", fd[0]);
        if (by_number)
            probe_connect(r, address, &p, NULL);
        else
            attach_as(r, fd[0], &p, NULL);
        comes_and_goes(r, &p, fd[1], how);
        has_seen(&at, name);
    }
}

CASE(peer_of_an_attached_socket_is_told_to_the_end) { handed_over_peer_stays(0); }

CASE(peer_of_fd_is_told_to_the_end) { handed_over_peer_stays(1); }

CASE(peer_of_an_attached_socket_is_told_that_resets_before_it_opens) {
    seen at;
    char name[REACTOR_ADDRESS_MAX];
    reactor *r = begin();
    probe p = sees(&at);
    int fd[2];
    make_tcp_pair(fd);
    plain_name(fd[1], name);
    attach_as(r, fd[0], &p, NULL);
    close_with_reset(fd[1]);
    UNTIL(r, p.closes == 1);
    has_seen(&at, name);
    end(r);
}

/* It has no peer when it is attached, nor when it opens. */
CASE(peer_of_a_socket_attached_while_connecting_is_told_once_asked_for) {
    if (!ON_LINUX) skip();
    seen at;
    char address[REACTOR_ADDRESS_MAX], out[REACTOR_ADDRESS_MAX];
    int fd[HANGING], taken[HANGING], n = 0;
    reactor *r = begin();
    probe p = sees(&at);
    hanging(fd, address);
    unblock(fd[0]);
    attach_as(r, fd[HANGING - 1], &p, NULL);
    UNTIL(r, p.opens == 1);
    assert_int_equal(at.at_open, -ENOTCONN);
    UNTIL(r, (n < HANGING && (taken[n] = accept(fd[0], NULL, NULL)) >= 0 && n++ < 0) ||
                 reactor_peer_address(r, p.conn, out, sizeof out) > 0);
    reactor_close(r, p.conn);
    for (int i = 0; i < HANGING - 1; i++) close(fd[i]);
    while (n > 0) close(taken[--n]);
    UNTIL(r, p.closes == 1);
    assert_true(at.at_close > 0);
    assert_string_equal(at.closed, address);
    end(r);
}

CASE(peer_of_a_pair_is_unnamed_and_a_pipe_has_none) {
    NEEDS_UNIX_PAIRS;
    seen at;
    reactor *r = begin();
    probe p = sees(&at), q = sees(&at);
    int fd[2];
    close(attach_pair(r, &p, NULL));
    UNTIL(r, p.closes == 1);
    has_seen(&at, "unix:");
    assert_return_code(pipe(fd), errno);
    attach_as(r, fd[0], &q, NULL);
    UNTIL(r, q.opens == 1);
    close(fd[1]);
    UNTIL(r, q.closes == 1);
    assert_int_equal(at.at_open, -ENOTSOCK);
    assert_int_equal(at.at_close, -ENOTCONN);
    end(r);
}

/* Connects to list; the server, at address, aborts or closes. */
static void connected_peer_stays(const char *address, const char *list, const char *shown) {
    for (int aborts = 0; aborts < 2; aborts++) {
        seen at;
        char text[3 * REACTOR_ADDRESS_MAX], name[REACTOR_ADDRESS_MAX];
        reactor *r = begin();
        probe p = {0}, q = sees(&at);
        server s = serve_with(r, address, &probe_handler, &p, NULL);
        int port = strncmp(address, "unix:", 5) ? port_of(s.address) : 0;
        snprintf(text, sizeof text, list, port);
        snprintf(name, sizeof name, shown, port);
        probe_connect(r, text, &q, NULL);
        UNTIL(r, q.opens == 1 && p.opens == 1);
        assert_int_equal(aborts ? reactor_abort(r, p.conn) : reactor_close(r, p.conn), 0);
        UNTIL(r, q.closes == 1 && p.closes == 1);
        has_seen(&at, name);
        end(r);
    }
}

CASE(peer_of_a_connect_is_the_address_that_answered) {
    char list[2 * REACTOR_ADDRESS_MAX], closed[REACTOR_ADDRESS_MAX];
    int fd = bound(closed);
    connected_peer_stays("127.0.0.1:0", "127.0.0.1:%d", "127.0.0.1:%d");
    connected_peer_stays("127.0.0.1:0", "*:%d", "127.0.0.1:%d");
    snprintf(list, sizeof list, "%s,127.0.0.1:%%d", closed);
    connected_peer_stays("127.0.0.1:0", list, "127.0.0.1:%d");
    if (has_ipv6()) connected_peer_stays("[::1]:0", "[::1]:%d", "[::1]:%d");
    if (has_ipv6()) connected_peer_stays("*:0", "[::ffff:127.0.0.1]:%d", "127.0.0.1:%d");
    close(fd);
}

CASE(peer_of_a_connect_to_a_unix_socket_is_its_address) {
    NEEDS_UNIX_PAIRS;
    place here = make_place();
    char name[64];
    connected_peer_stays(here.address, here.address, here.address);
    snprintf(name, sizeof name, "unix:@reactor-peer-%d", (int)getpid());
    if (ON_LINUX) connected_peer_stays(name, name, name);
    leave_place(&here);
}

/* 0.0.0.0 and :: are nobody's address; what they mean to connect(2) differs by system. */
CASE(peer_of_a_connect_to_every_address_is_what_the_system_chose) {
    if (!ON_LINUX) skip();
    for (int v6 = 0; v6 <= has_ipv6(); v6++) {
        seen at;
        char text[REACTOR_ADDRESS_MAX];
        reactor *r = begin();
        probe p = {0}, q = sees(&at);
        server s = serve_with(r, v6 ? "[::1]:0" : "127.0.0.1:0", &probe_handler, &p, NULL);
        snprintf(text, sizeof text, v6 ? "[::]:%d" : "0.0.0.0:%d", port_of(s.address));
        probe_connect(r, text, &q, NULL);
        UNTIL(r, q.opens == 1 && p.opens == 1);
        reactor_abort(r, p.conn);
        UNTIL(r, q.closes == 1);
        has_seen(&at, s.address);
        end(r);
    }
}

CASE(peer_of_a_connect_that_failed_is_ENOTCONN) {
    seen at;
    char closed[REACTOR_ADDRESS_MAX];
    reactor *r = begin();
    int fd = bound(closed);
    probe p = sees(&at);
    probe_connect(r, closed, &p, NULL);
    UNTIL(r, p.closes == 1);
    assert_int_equal(p.opens, 0);
    assert_int_equal(at.at_close, -ENOTCONN);
    close(fd);
    end(r);
}

CASE(peer_is_told_of_what_was_detached) {
    seen at;
    char name[REACTOR_ADDRESS_MAX];
    reactor *r = begin();
    probe p = sees(&at);
    server s = serve(r, &p);
    reactor_socket back;
    size_t len = 0;
    int fd = visit(r, &s, &p);
    plain_name(fd, name);
    assert_int_equal(reactor_detach(r, p.conn, &back, NULL, &len), 0);
    UNTIL(r, p.closes == 1);
    assert_int_equal(p.reason, REACTOR_DETACHED);
    has_seen(&at, name);
    close((int)back);
    close(fd);
    end(r);
}

/* ---- addresses as values ---- */

/* Through a value without alignment, and the value means to the system what the text says. */
static void goes_both_ways(const char *text, const char *back) {
    char raw[1 + sizeof(struct sockaddr_storage)], out[REACTOR_ADDRESS_MAX];
    struct sockaddr_storage sa;
    int len = reactor_address_parse(text, raw + 1, sizeof raw - 1);
    if (len < 0) fail_msg("%s: %s", text, reactor_strerror(len));
    assert_int_equal(reactor_address_format(raw + 1, (size_t)len, out, sizeof out), strlen(back));
    assert_string_equal(out, back);
    assert_int_equal(reactor_address_parse(text, raw + 1, (size_t)len), len);
    assert_int_equal(reactor_address_parse(text, raw + 1, (size_t)len - 1), -ENOBUFS);
    assert_int_equal(reactor_address_format(raw + 1, (size_t)len, out, strlen(back)), -ENOBUFS);
    memcpy(&sa, raw + 1, (size_t)len);
    if (sa.ss_family != AF_INET) return;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_return_code(bind(fd, (struct sockaddr *)&sa, (socklen_t)len), errno);
    close(fd);
}

CASE(values_go_both_ways) {
    reactor *r = begin(); /* Winsock is up while there is a loop */
    goes_both_ways("127.0.0.1:0", "127.0.0.1:0");
    goes_both_ways("localhost:0", "127.0.0.1:0");
    goes_both_ways("[::1]:65535", "[::1]:65535");
    goes_both_ways("[2001:db8:0::1]:80", "[2001:db8::1]:80");
    goes_both_ways("[::ffff:127.0.0.1]:0", "127.0.0.1:0");
    goes_both_ways("*:53", "[::]:53");
    end(r);
}

CASE(values_of_unix_addresses) {
    NEEDS_UNIX_PAIRS;
    goes_both_ways("unix:/tmp/x", "unix:/tmp/x");
    if (ON_LINUX) goes_both_ways("unix:@x", "unix:@x");
}

CASE(values_that_are_refused) {
    struct sockaddr_storage sa;
    char out[REACTOR_ADDRESS_MAX];
    static const char *const nothing[] = {"", "fd:3", "127.0.0.1:1,127.0.0.1:2", "127.0.0.1",
                                          "1:x"};
    for (size_t i = 0; i < COUNT(nothing); i++)
        assert_int_equal(reactor_address_parse(nothing[i], &sa, sizeof sa), -EINVAL);
    assert_int_equal(reactor_address_parse(NULL, &sa, sizeof sa), -EINVAL);
    assert_int_equal(reactor_address_parse("127.0.0.1:1", NULL, 0), -EINVAL);
    assert_int_equal(reactor_address_parse("example.com:1", &sa, sizeof sa), -ENOTSUP);
    memset(&sa, 0, sizeof sa);
    assert_int_equal(reactor_address_format(&sa, sizeof sa, out, sizeof out), -EAFNOSUPPORT);
    sa.ss_family = AF_INET; /* cut short */
    assert_int_equal(reactor_address_format(&sa, 4, out, sizeof out), -EAFNOSUPPORT);
    assert_int_equal(reactor_address_format(&sa, 0, out, sizeof out), -EAFNOSUPPORT);
    assert_int_equal(reactor_address_format(&sa, sizeof sa + 1, out, sizeof out), -EINVAL);
    assert_int_equal(reactor_address_format(NULL, 0, out, sizeof out), -EINVAL);
    assert_int_equal(reactor_address_format(&sa, sizeof sa, NULL, 0), -EINVAL);
}

/* inet_aton(3), and so getaddrinfo(3), would make an IPv4 address of these. */
CASE(values_of_numbers_that_are_no_address_are_EINVAL) {
    static const char *const texts[] = {
        "127.1:80",     "0x7f.1:80",       "0x7f000001:80", "0x:80",     "127.0.0.0x1:80",
        "example.1:80", "a.127.0.0.1.:80", "a..:80",        "0X7F.0:80", "2130706433:80"};
    struct sockaddr_storage sa;
    for (size_t i = 0; i < COUNT(texts); i++)
        if (reactor_address_parse(texts[i], &sa, sizeof sa) != -EINVAL) fail_msg("%s", texts[i]);
    static const char *const names[] = {"1.example:80", "0x7f.example:80", "f00:80",
                                        "my_db:80",     "x.0xg:80",        "example.com.:80"};
    for (size_t i = 0; i < COUNT(names); i++)
        if (reactor_address_parse(names[i], &sa, sizeof sa) != -ENOTSUP) fail_msg("%s", names[i]);
}

CASE(values_of_bare_sockets) {
    reactor *r = begin();
    int fd[2];
    char a[REACTOR_ADDRESS_MAX], b[REACTOR_ADDRESS_MAX];
    make_tcp_pair(fd);
    int len = reactor_socket_address(fd[0], a, sizeof a);
    assert_int_equal(len, strlen(a));
    assert_memory_equal(a, "127.0.0.1:", 10);
    assert_int_equal(reactor_socket_peer_address(fd[1], b, sizeof b), len);
    assert_string_equal(a, b);
    assert_int_equal(reactor_socket_address(fd[0], a, (size_t)len), -ENOBUFS);
    assert_int_equal(reactor_socket_address(fd[0], NULL, 0), -EINVAL);
    assert_int_equal(reactor_socket_peer_address(fd[0], NULL, 0), -EINVAL);
    close(fd[0]), close(fd[1]);
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(reactor_socket_peer_address(udp, a, sizeof a), -ENOTCONN);
    close(udp);
    assert_int_equal(reactor_socket_address(udp, a, sizeof a), -EBADF);
    end(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(values_go_both_ways),
        TEST(values_of_unix_addresses),
        TEST(values_that_are_refused),
        TEST(values_of_numbers_that_are_no_address_are_EINVAL),
        TEST(values_of_bare_sockets),
        TEST(ipv4_listen_connect_and_format_back),
        TEST(ipv4_other_loopback_addresses_are_different_ones),
        TEST(ipv4_every_address_is_zeros),
        TEST(ipv6_listen_connect_and_format_back),
        TEST(ipv6_long_form_is_the_same_address),
        TEST(ipv6_scope_is_read_and_written),
        TEST(ipv6_scope_that_does_not_exist_is_refused),
        TEST(star_listens_for_both_families),
        TEST(star_shows_an_ipv4_peer_as_ipv4),
        TEST(localhost_is_127_0_0_1),
        TEST(port_0_gives_each_listener_its_own),
        TEST(port_in_use_is_EADDRINUSE),
        TEST(port_of_a_closed_listener_is_free_at_once),
        TEST(address_of_another_machine_is_EADDRNOTAVAIL),
        TEST(unix_path_listen_connect_and_format_back),
        TEST(unix_mode_sets_the_permissions),
        TEST(unix_path_is_removed_when_the_listener_closes),
        TEST(unix_path_is_removed_when_the_loop_is_destroyed),
        TEST(unix_path_that_someone_else_has_replaced_is_not_removed),
        TEST(unix_path_of_a_dead_server_is_replaced),
        TEST(unix_path_of_a_live_server_is_EADDRINUSE),
        TEST(unix_path_of_a_busy_server_is_EADDRINUSE),
        TEST(unix_path_of_a_datagram_server_is_not_replaced),
        TEST(unix_path_of_a_file_is_not_replaced),
        TEST(unix_path_in_no_directory_is_ENOENT),
        TEST(unix_path_as_long_as_the_system_allows),
        TEST(unix_path_that_is_too_long_is_refused),
        TEST(unix_abstract_name_listen_connect_and_format_back),
        TEST(unix_abstract_name_is_free_after_close),
        TEST(fd_listens_on_a_socket_that_was_handed_over),
        TEST(fd_connects_a_socket_that_was_handed_over),
        TEST(fd_that_is_nothing_to_listen_on_is_refused_and_stays_open),
        TEST(fd_that_is_not_open_is_EBADF),
        TEST(host_names_are_ENOTSUP),
        TEST(nonsense_is_EINVAL),
        TEST(enormous_text_is_refused),
        TEST(null_addresses_and_handlers_are_EINVAL),
        TEST(room_too_small_is_ENOBUFS),
        TEST(address_of_null_or_stale_is_refused),
        TEST(address_of_what_is_not_open_yet_is_ENOTCONN),
        TEST(list_first_refuses_second_answers),
        TEST(list_is_asked_in_order),
        TEST(list_of_many),
        TEST(list_of_which_none_answers_tells_the_error),
        TEST(list_may_have_spaces_around_its_commas),
        TEST(list_with_an_empty_or_bad_item_is_EINVAL),
        TEST(port_0_is_nothing_to_connect_to),
        TEST(list_is_not_for_listen),
        TEST(local_option_chooses_where_a_connect_comes_from),
        TEST(local_option_that_is_no_address_is_EINVAL),
        TEST(local_option_of_another_machine_fails_by_on_close),
        TEST(peer_of_an_accepted_ipv4_is_told_to_the_end),
        TEST(peer_of_an_accepted_ipv6_is_told_to_the_end),
        TEST(peer_of_an_accepted_mapped_address_is_told_to_the_end),
        TEST(peer_of_an_accepted_unix_socket_is_told_to_the_end),
        TEST(peer_that_has_reset_before_it_was_accepted_is_told),
        TEST(unix_peer_that_has_gone_before_it_was_accepted_is_told),
        TEST(peer_of_an_attached_socket_is_told_to_the_end),
        TEST(peer_of_fd_is_told_to_the_end),
        TEST(peer_of_an_attached_socket_is_told_that_resets_before_it_opens),
        TEST(peer_of_a_socket_attached_while_connecting_is_told_once_asked_for),
        TEST(peer_of_a_pair_is_unnamed_and_a_pipe_has_none),
        TEST(peer_of_a_connect_is_the_address_that_answered),
        TEST(peer_of_a_connect_to_a_unix_socket_is_its_address),
        TEST(peer_of_a_connect_to_every_address_is_what_the_system_chose),
        TEST(peer_of_a_connect_that_failed_is_ENOTCONN),
        TEST(peer_is_told_of_what_was_detached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
