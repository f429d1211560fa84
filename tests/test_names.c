/* Host names: reactor_resolve, and reactor_connect with names in its list, against a DNS server of
   this program's own (dns_help.h) that answers, refuses, is late, or says nothing, and against
   addresses that do the same. Where namespaces are not permitted, and on other systems than Linux,
   only what needs no server is tested. */
/* ldflags: -Wl,--wrap=malloc -Wl,--wrap=realloc -Wl,--wrap=getaddrinfo -Wl,--wrap=pthread_create */
#include "dns_help.h"

#include <sys/types.h>

#define MS INT64_C(1000000)

/* Why there is no DNS server here; NULL: there is. */
static const char *without_dns = "only Linux has namespaces";

/* ---- look-ups ---- */

/* What came of reactor_resolve. */
typedef struct found {
    int calls, result;
    reactor_lookup lookup;
    char all[4096]; /* the addresses, separated by spaces */
} found;

static void on_found(reactor *r, reactor_lookup l, int result, const char *const *addresses,
                     void *user) {
    found *f = user;
    f->calls++;
    f->result = result;
    f->lookup = l;
    f->all[0] = 0;
    assert_int_equal(reactor_resolve_cancel(r, l), -EBADF); /* it is stale already */
    if (result < 0) {
        assert_null(addresses);
        return;
    }
    for (int i = 0; i < result; i++) {
        struct sockaddr_storage sa;
        assert_true(reactor_address_parse(addresses[i], &sa, sizeof sa) > 0);
        if (i) strcat(f->all, " ");
        strcat(f->all, addresses[i]);
    }
    assert_null(addresses[result]);
}

static reactor_lookup look_up(reactor *r, const char *address, found *f) {
    reactor_lookup l;
    memset(f, 0, sizeof *f);
    int e = reactor_resolve(r, address, on_found, f, &l);
    if (e < 0) fail_msg("reactor_resolve(%s): %s", address, reactor_strerror(e));
    assert_true(l.id != 0);
    assert_int_equal(f->calls, 0);
    return l;
}

CASE(an_address_is_its_own_answer) {
    static const char *const texts[][2] = {{"127.0.0.1:80", "127.0.0.1:80"},
                                           {"[::1]:0", "[::1]:0"},
                                           {"localhost:7", "127.0.0.1:7"},
                                           {"*:0", "[::]:0"},
#ifndef _WIN32
                                           {"unix:/tmp/x", "unix:/tmp/x"}
#endif
    };
    reactor *r = begin();
    for (size_t i = 0; i < COUNT(texts); i++) {
        found f;
        reactor_lookup l = look_up(r, texts[i][0], &f);
        assert_int_equal(reactor_run(r), 0); /* it keeps the loop going, and nothing else does */
        assert_int_equal(f.calls, 1);
        assert_int_equal(f.result, 1);
        assert_string_equal(f.all, texts[i][1]);
        assert_true(f.lookup.id == l.id);
        assert_int_equal(reactor_resolve_cancel(r, l), -EBADF);
    }
    end(r);
}

CASE(what_is_no_name_is_refused) {
    static const char *const texts[] = {
        "",     "x",       "x:",   "x:http", "x:65536", "127.1:80",    "0x7f.1:80", "1.2.3.4.5:80",
        "fd:3", "a:1,b:2", "-x:1", ".x:1",   "x y:1",   "x\xc3\xa4:1", "x..:1"};
    reactor *r = begin();
    found f = {0};
    for (size_t i = 0; i < COUNT(texts); i++)
        if (reactor_resolve(r, texts[i], on_found, &f, NULL) != -EINVAL) fail_msg("%s", texts[i]);
    assert_int_equal(reactor_resolve(NULL, "x:1", on_found, &f, NULL), -EINVAL);
    assert_int_equal(reactor_resolve(r, NULL, on_found, &f, NULL), -EINVAL);
    assert_int_equal(reactor_resolve(r, "x:1", NULL, &f, NULL), -EINVAL);
    char longest[300];
    memset(longest, 'a', sizeof longest);
    memcpy(longest + 255, ":1", 3);
    assert_int_equal(reactor_resolve(r, longest, on_found, &f, NULL), -EINVAL);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.calls, 0);
    end(r);
}

CASE(handles_of_other_kinds_are_refused) {
    reactor *r = begin(), *other = make_loop();
    found f;
    reactor_lookup l = look_up(r, "127.0.0.1:1", &f), none = {0};
    reactor_conn c = {l.id};
    assert_int_equal(reactor_resolve_cancel(other, l), -EBADF);
    assert_int_equal(reactor_resolve_cancel(r, none), -EBADF);
    assert_int_equal(reactor_resolve_cancel(NULL, l), -EINVAL);
    assert_null(reactor_state(r, c));
    reactor_destroy(other);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.calls, 1);
    end(r);
}

CASE(cancelled_is_not_called) {
    reactor *r = begin();
    found f, g;
    reactor_lookup l = look_up(r, "127.0.0.1:1", &f);
    look_up(r, "127.0.0.1:2", &g);
    assert_int_equal(reactor_resolve_cancel(r, l), 0);
    assert_int_equal(reactor_resolve_cancel(r, l), -EBADF);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.calls, 0);
    assert_int_equal(g.calls, 1);
    end(r);
}

CASE(destroy_tells_those_under_way) {
    reactor *r = begin();
    found f, g;
    look_up(r, "127.0.0.1:1", &f);
    reactor_lookup l = look_up(r, "127.0.0.1:2", &g);
    assert_int_equal(reactor_resolve_cancel(r, l), 0);
    end(r);
    assert_int_equal(f.calls, 1);
    assert_int_equal(f.result, -ECANCELED);
    assert_int_equal(g.calls, 0);
}

CASE(listening_on_a_name_is_refused) {
    reactor *r = begin();
    probe p = {0};
    reactor_connect_options o = {.conn = {.user = &p}, .local = "example.com:0"};
    assert_int_equal(reactor_listen(r, "example.com:0", &probe_handler, NULL, NULL), -ENOTSUP);
    assert_int_equal(reactor_connect(r, "127.0.0.1:1", &probe_handler, &o, NULL), -ENOTSUP);
    end(r);
}

/* Every system knows it; in these letters it is looked up like any other name. */
CASE(a_name_that_the_system_knows) {
    reactor *r = begin();
    found f;
    probe p = {0}, q = {0};
    look_up(r, "LocalHost:80", &f);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.calls, 1);
    if (f.result < 0) print_message("LocalHost: %s\n", reactor_strerror(f.result));
    if (f.result < 0) skip();
    assert_true(strstr(f.all, "127.0.0.1:80") || strstr(f.all, "[::1]:80"));
    if (strstr(f.all, "127.0.0.1:80")) {
        char text[64];
        server s = serve(r, &p);
        snprintf(text, sizeof text, "LocalHost:%d", port_of(s.address));
        probe_connect(r, text, &q, NULL);
        UNTIL(r, q.opens && p.opens);
    }
    end(r);
}

/* ---- with a DNS server ---- */
#ifdef __linux__

/* It ends a forked child that starts a thread. */
#ifdef __SANITIZE_THREAD__
#define NEEDS_THREADS_AFTER_FORK skip()
#else
#define NEEDS_THREADS_AFTER_FORK ((void)0)
#endif

#define NEEDS_DNS                                                                                  \
    do {                                                                                           \
        if (without_dns) {                                                                         \
            print_message("no DNS server: %s\n", without_dns);                                     \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* Counts of the server, which is another thread. */
static int seen_by_dns(const volatile int *n) { return __atomic_load_n(n, __ATOMIC_SEQ_CST); }

#define FOUR "127.0.1.1 127.0.1.2"
#define SIX  "fd00::1 fd00::2"
#define MANY                                                                                       \
    "127.0.2.1 127.0.2.2 127.0.2.3 127.0.2.4 127.0.2.5 127.0.2.6 127.0.2.7 127.0.2.8 127.0.2.9 "   \
    "127.0.2.10 127.0.2.11 127.0.2.12 127.0.2.13 127.0.2.14 127.0.2.15 127.0.2.16 127.0.2.17 "     \
    "127.0.2.18 127.0.2.19 127.0.2.20 127.0.2.21 127.0.2.22 127.0.2.23 127.0.2.24 127.0.2.25"

static const dns_entry table[] = {
    {.name = "both.test", .a = FOUR, .aaaa = SIX},
    {.name = "four.test", .a = FOUR},
    {.name = "one.test", .a = "127.0.1.1"},
    {.name = "six.test", .aaaa = SIX},
    {.name = "empty.test"},
    {.name = "servfail.test", .code = DNS_SERVFAIL},
    {.name = "refused.test", .code = DNS_REFUSED},
    {.name = "formerr.test", .code = DNS_FORMERR},
    {.name = "many.test", .a = MANY, .truncated = 1},
    {.name = "gate.test", .a = "127.0.1.1", .delay_a = DNS_GATE, .delay_aaaa = DNS_GATE},
    {.name = "no6.test", .a = "127.0.1.1", .delay_aaaa = DNS_GATE},
    {.name = "no4.test", .aaaa = "fd00::1", .delay_a = DNS_GATE},
    {.name = "late6.test", .a = "127.0.1.1", .aaaa = "fd00::1", .delay_aaaa = 10},
    {.name = "under_score.test", .a = "127.0.1.1"},
    {0}};

/* A loop, with the server. */
static reactor *begin_dns(void) {
    dns_begin(table);
    return begin();
}

/* Threads of look-ups that were given up come to their end when the gate opens, and close what they
   have asked by. */
static void end_dns(reactor *r) {
    __atomic_store_n(&dns.gate, 1, __ATOMIC_SEQ_CST);
    reactor_destroy(r);
    while (open_descriptors() > descriptors_before) poll(NULL, 0, 1);
    assert_int_equal(open_descriptors(), descriptors_before);
    dns_end();
}

static int has(const char *list, const char *one) { return strstr(list, one) != NULL; }

CASE(families_alternate_and_ipv6_is_first) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    found f;
    look_up(r, "both.test:80", &f);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.calls, 1);
    assert_int_equal(f.result, 4);
    assert_true(has(f.all, "[fd00::1]:80") && has(f.all, "[fd00::2]:80"));
    assert_true(has(f.all, "127.0.1.1:80") && has(f.all, "127.0.1.2:80"));
    const char *at = f.all;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(*at, i % 2 ? '1' : '[');
        at = strchr(at, ' ') ? strchr(at, ' ') + 1 : at;
    }
    end_dns(r);
}

CASE(one_family_alone_is_found) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    found f, g, h;
    look_up(r, "four.test:1", &f);
    look_up(r, "six.test:2", &g);
    look_up(r, "hosted.test.:3", &h);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.result, 2);
    assert_int_equal(g.result, 2);
    assert_true(has(f.all, "127.0.1.1:1") && has(g.all, "[fd00::1]:2"));
    look_up(r, "hosted.test:3", &h);
    look_up(r, "Under_Score.TEST:0", &f);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(h.result, 1);
    assert_string_equal(h.all, "127.0.0.9:3"); /* of the hosts file */
    assert_string_equal(f.all, "127.0.1.1:0");
    end_dns(r);
}

CASE(errors_are_told_apart) {
    NEEDS_DNS;
    static const struct {
        const char *name;
        int error;
    } rows[] = {{"unknown.test:1", -ENXIO}, {"empty.test:1", -ENXIO}, {"servfail.test:1", -EAGAIN}};
    reactor *r = begin_dns();
    found f;
    for (size_t i = 0; i < COUNT(rows); i++) {
        look_up(r, rows[i].name, &f);
        assert_int_equal(reactor_run(r), 0);
        if (f.result != rows[i].error)
            fail_msg("%s: %d, %s", rows[i].name, f.result, reactor_strerror(f.result));
    }
    /* C libraries differ in what they make of these. */
    static const char *const bad[] = {"refused.test:1", "formerr.test:1"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        look_up(r, bad[i], &f);
        assert_int_equal(reactor_run(r), 0);
        assert_true(f.result == -EAGAIN || f.result == -EPROTO || f.result == -ENXIO);
    }
    end_dns(r);
}

CASE(truncated_answer_is_asked_for_again_by_tcp) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    found f;
    look_up(r, "many.test:65535", &f);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.result, 25);
    assert_true(has(f.all, "127.0.2.1:65535") && has(f.all, "127.0.2.25:65535"));
    assert_true(seen_by_dns(&dns.streams) > 0);
    end_dns(r);
}

/* Whoever waited for the thread would wait for ever: the gate is closed. */
CASE(cancel_and_destroy_do_not_wait_for_the_server) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    found f, g;
    reactor_lookup l = look_up(r, "gate.test:1", &f);
    UNTIL(r, seen_by_dns(&dns.asked_a) && seen_by_dns(&dns.asked_aaaa));
    assert_int_equal(reactor_resolve_cancel(r, l), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.calls, 0);
    look_up(r, "gate.test:2", &g);
    UNTIL(r, seen_by_dns(&dns.asked_a) >= 2 && seen_by_dns(&dns.asked_aaaa) >= 2);
    reactor_destroy(r);
    assert_int_equal(f.calls, 0);
    assert_int_equal(g.calls, 1);
    assert_int_equal(g.result, -ECANCELED);
    assert_int_equal(seen_by_dns(&dns.answered), 0);
    end_dns(NULL);
}

CASE(drain_waits_for_a_look_up_until_its_deadline) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    found f;
    look_up(r, "gate.test:1", &f);
    assert_int_equal(reactor_drain(r, 30), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(seen_by_dns(&dns.answered), 0);
    end_dns(r);
    assert_int_equal(f.result, -ECANCELED);
}

/* A child process that has asked a dead server ends, with its loop destroyed and without. */
CASE(exit_does_not_wait_for_the_server) {
    NEEDS_DNS;
    NEEDS_THREADS_AFTER_FORK;
    reactor *none = begin_dns();
    for (int destroyed = 0; destroyed < 2; destroyed++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            reactor *r = make_loop();
            found f;
            look_up(r, "gate.test:1", &f);
            if (destroyed) reactor_destroy(r);
            exit(f.calls == destroyed ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(seen_by_dns(&dns.answered), 0);
    }
    end_dns(none);
}

/* ---- connecting ---- */

static int has_fd00(void) {
    return loopback_has("fd00::1") == 0 && loopback_has("fd00::2") == 0 && has_ipv6();
}

/* A plain listener at an address of this machine; port 0: any, which is put there. */
static int plain_listener(const char *host, int *port, int backlog) {
    struct sockaddr_storage sa;
    char text[REACTOR_ADDRESS_MAX];
    snprintf(text, sizeof text, host[0] == 'f' ? "[%s]:%d" : "%s:%d", host, *port);
    int len = reactor_address_parse(text, &sa, sizeof sa), on = 1;
    assert_true(len > 0);
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_return_code(fd, errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_return_code(bind(fd, (struct sockaddr *)&sa, (socklen_t)len), errno);
    assert_return_code(listen(fd, backlog), errno);
    assert_true(reactor_socket_address(fd, text, sizeof text) > 0);
    *port = port_of(text);
    return fd;
}

/* One that says nothing: its backlog is full. */
static void silent_listener(const char *host, int *port, int fd[3]) {
    struct sockaddr_storage sa;
    char text[REACTOR_ADDRESS_MAX];
    fd[0] = plain_listener(host, port, 0);
    assert_true(reactor_socket_address(fd[0], text, sizeof text) > 0);
    int len = reactor_address_parse(text, &sa, sizeof sa);
    for (int i = 1; i < 3; i++) {
        fd[i] = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(fd[i], (struct sockaddr *)&sa, (socklen_t)len) < 0)
            assert_int_equal(errno, EINPROGRESS);
        if (i > 1) continue;
        struct pollfd p = {fd[i], POLLOUT, 0};
        assert_int_equal(poll(&p, 1, 1000), 1); /* it is in the backlog, which has room for one */
    }
}

static void close_all(const int *fd, int n) {
    for (int i = 0; i < n; i++) close(fd[i]);
}

static reactor_conn connect_name(reactor *r, const char *format, int port, probe *p,
                                 int64_t delay_ms) {
    char list[256];
    reactor_connect_options o = {.attempt_delay_ms = delay_ms};
    snprintf(list, sizeof list, format, port, port);
    return probe_connect(r, list, p, &o);
}

static void peer_begins(reactor *r, reactor_conn c, const char *with) {
    char text[REACTOR_ADDRESS_MAX];
    assert_true(reactor_peer_address(r, c, text, sizeof text) > 0);
    if (strncmp(text, with, strlen(with)) != 0) fail_msg("%s, not %s", text, with);
}

CASE(connect_by_name_sends_what_was_written_before) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0}, q = {0};
    server s = serve_with(r, "127.0.1.1:0", &probe_handler, &p, NULL);
    reactor_conn c = connect_name(r, "one.test:%d", port_of(s.address), &q, 0);
    assert_int_equal(reactor_write(r, c, "early", 5), 0);
    UNTIL(r, p.in == 5);
    peer_begins(r, c, s.address);
    assert_int_equal(counters(r).connects, 1);
    assert_int_equal(counters(r).jobs, 0);
    end_dns(r);
}

CASE(connect_tries_all_addresses_and_tells_the_last_error) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe q = {0}, p = {0};
    int port = 0, fd = plain_listener("127.0.1.2", &port, 8);
    connect_name(r, "four.test:%d", port, &q, 60000); /* 127.0.1.1 refuses, whichever is first */
    UNTIL(r, q.opens);
    peer_begins(r, q.conn, "127.0.1.2:");
    close(fd);
    connect_name(r, "four.test:%d", port, &p, 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ECONNREFUSED);
    end_dns(r);
}

CASE(connect_to_a_name_that_has_no_address) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0}, q = {0}, s = {0}, t = {0};
    int port = 0, fd = plain_listener("127.0.1.1", &port, 8);
    connect_name(r, "unknown.test:1", 0, &p, 0);
    connect_name(r, "empty.test:1", 0, &q, 0);
    connect_name(r, "servfail.test:1", 0, &s, 0);
    connect_name(r, "unknown.test:1,one.test:%d", port, &t, 60000);
    UNTIL(r, p.closes && q.closes && s.closes && t.opens);
    assert_string_equal(p.log, "c");
    assert_int_equal(p.reason, -ENXIO);
    assert_int_equal(q.reason, -ENXIO);
    assert_int_equal(s.reason, -EAGAIN);
    close(fd);
    end_dns(r);
}

/* The second of each family would answer, too: with alternating families it is not asked before the
   first of the other. */
CASE(connect_alternates_families_and_closes_the_losers) {
    NEEDS_DNS;
    if (!has_fd00()) skip();
    reactor *r = begin_dns();
    probe q = {0};
    int port = 0, silent[2][3], fd[2];
    silent_listener("fd00::1", &port, silent[0]);
    silent_listener("fd00::2", &port, silent[1]);
    fd[0] = plain_listener("127.0.1.1", &port, 8);
    fd[1] = plain_listener("127.0.1.2", &port, 8);
    const int descriptors = open_descriptors();
    int64_t begun = clock_ns();
    connect_name(r, "both.test:%d", port, &q, 40);
    UNTIL(r, q.opens);
    assert_true(clock_ns() - begun >= 40 * MS);
    peer_begins(r, q.conn, "127.0.1.");
    assert_int_equal(open_descriptors(), descriptors + 1);
    close_all(silent[0], 3), close_all(silent[1], 3), close_all(fd, 2);
    end_dns(r);
}

/* The other family's question is never answered while the gate is closed. */
CASE(connect_does_not_wait_for_the_other_family) {
    NEEDS_DNS;
    if (!has_fd00()) skip();
    reactor *r = begin_dns();
    probe p = {0}, q = {0};
    int port = 0, fd = plain_listener("127.0.1.1", &port, 8),
        six = plain_listener("fd00::1", &port, 8);
    connect_name(r, "no6.test:%d", port, &p, 0);
    connect_name(r, "no4.test:%d", port, &q, 0);
    UNTIL(r, p.opens && q.opens);
    peer_begins(r, p.conn, "127.0.1.1:");
    peer_begins(r, q.conn, "[fd00::1]:");
    assert_int_equal(counters(r).jobs, 0);
    close(fd), close(six);
    end_dns(r);
}

CASE(connect_prefers_ipv6_that_comes_a_little_later) {
    NEEDS_DNS;
    if (!has_fd00()) skip();
    reactor *r = begin_dns();
    int port = 0, fd = plain_listener("127.0.1.1", &port, 64),
        six = plain_listener("fd00::1", &port, 64), preferred = 0;
    for (int i = 0; i < 5; i++) { /* on a busy machine "a little" may be too long */
        probe p = {0};
        char text[REACTOR_ADDRESS_MAX];
        reactor_conn c = connect_name(r, "late6.test:%d", port, &p, 0);
        UNTIL(r, p.opens);
        assert_true(reactor_peer_address(r, c, text, sizeof text) > 0);
        preferred += text[0] == '[';
        reactor_abort(r, c);
        UNTIL(r, p.closes);
    }
    assert_true(preferred > 0);
    close(fd), close(six);
    end_dns(r);
}

CASE(connect_goes_on_behind_a_name_without_an_answer) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0}, q = {0};
    int port = 0, fd = plain_listener("127.0.1.2", &port, 8);
    connect_name(r, "gate.test:%d,127.0.1.2:%d", port, &p, 20);
    UNTIL(r, p.opens);
    peer_begins(r, p.conn, "127.0.1.2:");
    assert_int_equal(seen_by_dns(&dns.answered), 0);
    int64_t begun = clock_ns();
    reactor_connect_options o = {.timeout_ms = 50};
    probe_connect(r, "gate.test:1", &q, &o);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -ETIMEDOUT);
    assert_true(clock_ns() - begun >= 50 * MS);
    assert_int_equal(seen_by_dns(&dns.answered), 0);
    close(fd);
    end_dns(r);
}

CASE(connect_comes_back_to_a_name_that_was_late) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0};
    int port = 0, silent[3], fd = plain_listener("127.0.1.1", &port, 8);
    silent_listener("127.0.1.2", &port, silent);
    connect_name(r, "gate.test:%d,127.0.1.2:%d", port, &p, 10);
    pass(r, 50); /* the second is under way, and silent */
    assert_string_equal(p.log, "");
    __atomic_store_n(&dns.gate, 1, __ATOMIC_SEQ_CST);
    UNTIL(r, p.opens);
    peer_begins(r, p.conn, "127.0.1.1:");
    close_all(silent, 3), close(fd);
    end_dns(r);
}

static void given_up(int (*how)(reactor *, reactor_conn), int reason) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0};
    reactor_conn c = connect_name(r, "gate.test:1,gate.test:2", 0, &p, 0);
    UNTIL(r, seen_by_dns(&dns.asked_a) >= 2 && seen_by_dns(&dns.asked_aaaa) >= 2);
    assert_int_equal(how(r, c), 0);
    assert_int_equal(reactor_run(r), 0); /* nothing holds the loop any more */
    assert_string_equal(p.log, "c");
    assert_int_equal(p.reason, reason);
    assert_int_equal(seen_by_dns(&dns.answered), 0);
    end_dns(r);
}
CASE(close_gives_up_the_look_up) { given_up(reactor_close, REACTOR_ORDERLY); }
CASE(abort_gives_up_the_look_up) { given_up(reactor_abort, -ECONNABORTED); }

CASE(destroy_closes_what_is_being_looked_up) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0};
    connect_name(r, "gate.test:1", 0, &p, 0);
    UNTIL(r, seen_by_dns(&dns.asked_a));
    reactor_destroy(r);
    assert_int_equal(p.reason, -ECANCELED);
    assert_int_equal(seen_by_dns(&dns.answered), 0);
    end_dns(NULL);
}

CASE(drain_ends_a_connect_that_waits_for_a_name) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0};
    connect_name(r, "gate.test:1", 0, &p, 0);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.reason, -ECANCELED);
    assert_int_equal(seen_by_dns(&dns.answered), 0);
    end_dns(r);
}

/* More than there are threads for: 16 of them, two for each. */
CASE(many_names_at_once) {
    NEEDS_DNS;
    enum { MOST = 60 };
    reactor *r = begin_dns();
    static probe p[MOST];
    memset(p, 0, sizeof p);
    int port = 0, fd = plain_listener("127.0.1.1", &port, 2 * MOST), open = 0;
    for (int i = 0; i < MOST; i++) connect_name(r, "one.test:%d", port, &p[i], 0);
    for (int i = 0; i < MOST; i++) {
        UNTIL(r, p[i].opens || p[i].closes);
        open += p[i].opens;
    }
    assert_int_equal(open, MOST);
    close(fd);
    end_dns(r);
}

/* In a process of its own, whose child goes on with the loop when it has ended, as after daemon(3).
   (While it goes on, too, glibc lets both ask by the same sockets, and take each other's answers.)
   Says "1" if the child has found the name again. */
static void go_on_in_a_child(int port, int says, int parent_lives) {
    reactor *r = make_loop();
    probe p = {0};
    found f;
    char byte;
    connect_name(r, "gate.test:%d", port, &p, 0);
    look_up(r, "gate.test:1", &f);
    while (seen_by_dns(&dns.asked_a) < 2 || seen_by_dns(&dns.asked_aaaa) < 2) poll(NULL, 0, 1);
    if (fork() != 0) _exit(0);
    (void)!read(parent_lives, &byte, 1);
    int ok = reactor_fork(r) == 0;
    while (ok && (!p.opens || !f.calls)) ok = reactor_poll(r, 1000) >= 0 && !p.closes;
    _exit(write(says, ok && f.result == 1 ? "1" : "0", 1) != 1);
}

CASE(child_that_goes_on_looks_up_again) {
    NEEDS_DNS;
    NEEDS_THREADS_AFTER_FORK;
    reactor *r = begin_dns();
    int port = 0, fd = plain_listener("127.0.1.1", &port, 8), said[2], lives[2], status = -1;
    char byte = 0;
    assert_return_code(pipe(said), errno);
    assert_return_code(pipe(lives), errno);
    pid_t child = fork();
    if (child == 0) {
        close(lives[1]);
        go_on_in_a_child(port, said[1], lives[0]);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    close(lives[1]);
    UNTIL(r, seen_by_dns(&dns.asked_a) >= 4 && seen_by_dns(&dns.asked_aaaa) >= 4);
    __atomic_store_n(&dns.gate, 1, __ATOMIC_SEQ_CST);
    assert_int_equal(read(said[0], &byte, 1), 1);
    assert_int_equal(byte, '1');
    close_all(said, 2), close(lives[0]), close(fd);
    end_dns(r);
}

/* A child that only destroys its copy hears and disturbs nothing. */
CASE(child_that_destroys_its_copy_leaves_the_parents_look_ups) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    probe p = {0};
    found f;
    int port = 0, fd = plain_listener("127.0.1.1", &port, 8), status = -1;
    connect_name(r, "gate.test:%d", port, &p, 0);
    look_up(r, "gate.test:1", &f);
    pid_t child = fork();
    if (child == 0) {
        reactor_destroy(r);
        _exit(f.calls || p.closes);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    __atomic_store_n(&dns.gate, 1, __ATOMIC_SEQ_CST);
    UNTIL(r, p.opens && f.calls);
    close(fd);
    end_dns(r);
}

/* ---- what fails ---- */

#include <netdb.h>

static struct {
    int on;         /* the library's allocations count, those of this thread */
    int left;       /* succeed before one fails */
    int failed;     /* one has */
    int answer;     /* of getaddrinfo, unless 0 */
    int error;      /* errno with it */
    int no_threads; /* pthread_create fails */
} fault;

static int allocation_fails(void) {
    if (!fault.on || fault.left-- > 0) return 0;
    fault.on = 0;
    fault.failed = 1;
    return 1;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) { return allocation_fails() ? NULL : __real_malloc(size); }
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size) {
    return allocation_fails() ? NULL : __real_realloc(old, size);
}
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out) {
    if (!fault.answer) return __real_getaddrinfo(host, port, hints, out);
    errno = fault.error;
    return fault.answer;
}
int __real_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *user);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *user);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *user) {
    return fault.no_threads ? EAGAIN : __real_pthread_create(out, attr, fn, user);
}

CASE(errors_of_getaddrinfo) {
    static const struct {
        int answer, error, code;
    } rows[] = {{EAI_NONAME, 0, -ENXIO},       {EAI_FAMILY, 0, -ENXIO}, {EAI_SERVICE, 0, -ENXIO},
                {EAI_AGAIN, 0, -EAGAIN},       {EAI_FAIL, 0, -EPROTO},  {EAI_MEMORY, 0, -ENOMEM},
                {EAI_SYSTEM, EMFILE, -EMFILE}, {EAI_SYSTEM, 0, -EIO}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        reactor *r = begin();
        found f;
        probe p = {0};
        fault.answer = rows[i].answer;
        fault.error = rows[i].error;
        look_up(r, "fault.test:1", &f);
        probe_connect(r, "fault.test:1", &p, NULL);
        UNTIL(r, f.calls && p.closes);
        assert_int_equal(f.result, rows[i].code);
        assert_int_equal(p.reason, rows[i].code);
        end(r);
    }
    memset(&fault, 0, sizeof fault);
}

CASE(without_threads_it_is_told_and_nothing_has_changed) {
    reactor *r = begin();
    found f = {0};
    probe p = {0};
    reactor_connect_options o = {.conn = {.user = &p}};
    reactor_conn c;
    reactor_lookup l;
    fault.no_threads = 1;
    assert_int_equal(reactor_resolve(r, "fault.test:1", on_found, &f, &l), -EAGAIN);
    assert_int_equal(reactor_connect(r, "127.0.0.1:1,fault.test:1", &probe_handler, &o, &c),
                     -EAGAIN);
    fault.no_threads = 0;
    assert_true(l.id == 0 && c.id == 0);
    assert_int_equal(counters(r).jobs, 0);
    assert_int_equal(counters(r).connections, 0);
    assert_int_equal(reactor_run(r), 0);
    fault.answer = EAI_NONAME;
    look_up(r, "fault.test:1", &f);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(f.result, -ENXIO);
    fault.answer = 0;
    end(r);
    assert_int_equal(p.closes, 0);
}

/* Each allocation in turn: what began comes to its end, and what did not is as if never asked. */
static int names_with_fault_at(int n) {
    reactor *r = begin();
    found f = {0};
    probe p = {0};
    reactor_connect_options o = {.conn = {.user = &p}};
    reactor_lookup l;
    reactor_conn c;
    memset(&fault, 0, sizeof fault);
    fault.answer = EAI_NONAME;
    fault.left = n;
    fault.on = 1;
    int e = reactor_resolve(r, "fault.test:1", on_found, &f, &l);
    int d = reactor_resolve(r, "127.0.0.1:1", on_found, &f, NULL);
    int g = reactor_connect(r, "a.test:1,127.0.0.1:1,b.test:2", &probe_handler, &o, &c);
    assert_true(e == 0 || e == -ENOMEM);
    assert_true(d == 0 || d == -ENOMEM);
    assert_true(g == 0 || g == -ENOMEM);
    assert_true((e == 0) == (l.id != 0) && (g == 0) == (c.id != 0));
    assert_true(fault.failed || (e == 0 && d == 0 && g == 0));
    assert_true(reactor_run(r) == 0);
    fault.on = 0;
    assert_int_equal(f.calls, (e == 0) + (d == 0));
    assert_int_equal(p.closes, g == 0);
    if (p.closes) assert_true(p.reason < 0);
    end(r);
    return fault.failed;
}

CASE(every_allocation_fails_once) {
    int n = 0;
    while (names_with_fault_at(n)) n++;
    assert_true(n > 8);
    memset(&fault, 0, sizeof fault);
}

static void note_line(const char *line, void *user) {
    if (strncmp(line, "lookup ", 7) == 0 && strstr(line, "name=gate.test")) ++*(int *)user;
}

CASE(dump_shows_look_ups) {
    NEEDS_DNS;
    reactor *r = begin_dns();
    found f;
    int lines = 0;
    reactor_lookup l = look_up(r, "gate.test:1", &f);
    assert_int_equal(reactor_dump(r, note_line, &lines), 0);
    assert_int_equal(lines, 1);
    assert_int_equal(reactor_resolve_cancel(r, l), 0);
    end_dns(r);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_address_is_its_own_answer),
        TEST(what_is_no_name_is_refused),
        TEST(handles_of_other_kinds_are_refused),
        TEST(cancelled_is_not_called),
        TEST(destroy_tells_those_under_way),
        TEST(listening_on_a_name_is_refused),
        TEST(a_name_that_the_system_knows),
#ifdef __linux__
        TEST(families_alternate_and_ipv6_is_first),
        TEST(one_family_alone_is_found),
        TEST(errors_are_told_apart),
        TEST(truncated_answer_is_asked_for_again_by_tcp),
        TEST(cancel_and_destroy_do_not_wait_for_the_server),
        TEST(drain_waits_for_a_look_up_until_its_deadline),
        TEST(exit_does_not_wait_for_the_server),
        TEST(connect_by_name_sends_what_was_written_before),
        TEST(connect_tries_all_addresses_and_tells_the_last_error),
        TEST(connect_to_a_name_that_has_no_address),
        TEST(connect_alternates_families_and_closes_the_losers),
        TEST(connect_does_not_wait_for_the_other_family),
        TEST(connect_prefers_ipv6_that_comes_a_little_later),
        TEST(connect_goes_on_behind_a_name_without_an_answer),
        TEST(connect_comes_back_to_a_name_that_was_late),
        TEST(close_gives_up_the_look_up),
        TEST(abort_gives_up_the_look_up),
        TEST(destroy_closes_what_is_being_looked_up),
        TEST(drain_ends_a_connect_that_waits_for_a_name),
        TEST(many_names_at_once),
        TEST(child_that_goes_on_looks_up_again),
        TEST(child_that_destroys_its_copy_leaves_the_parents_look_ups),
        TEST(dump_shows_look_ups),
        TEST(errors_of_getaddrinfo),
        TEST(without_threads_it_is_told_and_nothing_has_changed),
        TEST(every_allocation_fails_once),
#endif
    };
#ifdef __linux__
    without_dns = dns_place();
#else
    (void)without_dns;
#endif
    IGNORE_SIGPIPE;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
