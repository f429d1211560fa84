/* What happens at the limits: a full table of descriptors, peers that never read, a thousand
   connections at once, thousands that come and go, a forked child with a copy of the loop. */
#include "stream_help.h"

#ifndef _WIN32
#include <sys/syscall.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* ldflags: -Wl,--wrap=syscall */
#ifdef _WIN32
static void refuse_accepts(int on) {
    if (on) posix_missing();
}
#else
static int refused_accepts;
long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f) {
    if (!refused_accepts || number != SYS_accept4) return __real_syscall(number, a, b, c, d, e, f);
    errno = EPERM;
    return -1;
}

static void refuse_accepts(int on) { refused_accepts = on; }
#endif

/* ---- a full table of descriptors ---- */

static struct rlimit limit_before;
static int filler[512], fillers;

/* Leaves no descriptor free, up to a small limit of this process. */
static void fill_table(void) {
    struct rlimit small;
    int highest = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) highest = fd;
    small = limit_before;
    small.rlim_cur = (rlim_t)highest + 20;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    for (fillers = 0; fillers < (int)COUNT(filler); fillers++) {
        filler[fillers] = fcntl(0, F_DUPFD_CLOEXEC, 0);
        if (filler[fillers] < 0) filler[fillers] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (filler[fillers] < 0) break;
    }
    assert_int_equal(errno, EMFILE);
}

static void free_some(int n) {
    while (n-- > 0 && fillers > 0) close(filler[--fillers]);
}

static void unfill_table(void) {
    free_some(fillers);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit_before), 0);
}

/* Sockets made while there was room, to connect once there is none. */
static void make_sockets(int *fd, int n) {
    for (int i = 0; i < n; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_return_code(fd[i], errno);
    }
}

static void connect_to(int fd, const char *address) {
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port_of(address));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) assert_int_equal(errno, EINPROGRESS);
    struct pollfd p = {fd, POLLOUT, 0};
    while (poll(&p, 1, -1) < 1) continue;
}

/* Says one word and waits for it to come back; 0 if the connection was shed instead. */
static int echoes(reactor *r, int fd) {
    char got[8];
    if (send(fd, "hello", 5, MSG_NOSIGNAL) < 0) return 0;
    for (size_t bytes = 0; bytes < 5;) {
        ssize_t n = recv(fd, got, sizeof got, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return 0;
        if (n > 0)
            bytes += (size_t)n;
        else
            turn(r);
    }
    return 1;
}

CASE(law16_full_table_neither_spins_nor_ends_the_listener) {
    enum { N = 6 };
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int before = visit(r, &s, &p), fd[N];
    make_sockets(fd, N);
    fill_table();
    for (int i = 0; i < N - 1; i++) connect_to(fd[i], s.address);
    for (int i = 0; i < 5; i++) turn(r);
    reactor_counters a = counters(r);
    for (int64_t till = clock_ns() + 400 * INT64_C(1000000); clock_ns() < till;)
        reactor_poll(r, 100);
    reactor_counters b = counters(r);
    assert_true(b.turns - a.turns < 100); /* a spin makes tens of thousands */
    assert_true(b.events - a.events < 100);
    assert_true(echoes(r, before)); /* those it has are served meanwhile */
    free_some(10);
    connect_to(fd[N - 1], s.address);
    assert_true(echoes(r, fd[N - 1]));
    int served = 0;
    for (int i = 0; i < N - 1; i++) served += echoes(r, fd[i]);
    if (b.accept_pauses) assert_int_equal(served, N - 1); /* nobody was shed */
    unfill_table();
    for (int i = 0; i < N; i++) close(fd[i]);
    close(before);
    UNTIL(r, p.opens == p.closes);
    end(r);
}

/* It goes on by itself, without another event to wake it. */
CASE(law16_full_table_goes_on_once_a_descriptor_is_free) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd[2];
    make_sockets(fd, 2);
    fill_table();
    connect_to(fd[0], s.address);
    for (int i = 0; i < 20; i++) turn(r);
    free_some(10);
    if (!echoes(r, fd[0])) { /* it was shed: then the next one is served */
        connect_to(fd[1], s.address);
        assert_true(echoes(r, fd[1]));
    }
    unfill_table();
    close(fd[0]), close(fd[1]);
    end(r);
}

/* A filter in the kernel may refuse a connection with EPERM, or all of them. */
CASE(law16_accepts_refused_for_long_neither_spin_nor_end_the_listener) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd;
    make_sockets(&fd, 1);
    refuse_accepts(1);
    connect_to(fd, s.address);
    reactor_counters a = counters(r);
    for (int64_t till = clock_ns() + 400 * INT64_C(1000000); clock_ns() < till;)
        reactor_poll(r, 100);
    reactor_counters b = counters(r);
    assert_true(b.turns - a.turns < 100);
    refuse_accepts(0);
    assert_true(echoes(r, fd));
    close(fd);
    UNTIL(r, p.opens == p.closes);
    end(r);
}

CASE(law16_full_table_still_closes_and_reuses) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int one = visit(r, &s, &p), fd[3];
    make_sockets(fd, 3);
    fill_table();
    connect_to(fd[0], s.address);
    for (int i = 0; i < 5; i++) turn(r);
    reactor_close(r, p.conn); /* makes room for one */
    UNTIL(r, p.closes);
    if (!echoes(r, fd[0])) {
        connect_to(fd[1], s.address);
        assert_true(echoes(r, fd[1]));
    }
    unfill_table();
    close(one), close(fd[0]), close(fd[1]), close(fd[2]);
    end(r);
}

#ifndef _WIN32
static void on_never(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r, (void)fd, (void)events, (void)user;
    fail_msg("a watcher that was removed was called");
}

/* epoll needs a descriptor to get rid of a file that is open elsewhere. */
CASE(law16_full_table_and_a_duplicate_left_open_do_not_spin) {
    int fd[2];
    reactor *r = begin();
    assert_return_code(pipe(fd), errno);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, on_never, NULL), 0);
    assert_int_equal(write(fd[1], "x", 1), 1);
    int duplicate = dup(fd[0]);
    assert_return_code(duplicate, errno);
    close(fd[0]);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    fill_table();
    reactor_counters a = counters(r);
    for (int64_t till = clock_ns() + 100 * INT64_C(1000000); clock_ns() < till;)
        assert_int_equal(reactor_poll(r, 100), 0);
    reactor_counters b = counters(r);
    unfill_table();
    assert_true(b.turns - a.turns < 1000);
    assert_int_equal(reactor_poll(r, 0), 0);
    assert_int_equal(reactor_poll(r, 0), 0);
    close(duplicate), close(fd[1]);
    end(r);
}
#endif

CASE(law17_connect_with_a_full_table_is_EMFILE_by_on_close) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    server s = serve(r, &p);
    turns(r, 2);
    fill_table();
    probe_connect(r, s.address, &q, NULL);
    assert_int_equal(q.closes, 0);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -EMFILE);
    assert_string_equal(q.log, "c");
    unfill_table();
    memset(&q, 0, sizeof q);
    probe_connect(r, s.address, &q, NULL);
    UNTIL(r, q.opens && p.opens);
    end(r);
}

CASE(law17_listen_with_a_full_table_is_EMFILE) {
    char path[64];
    reactor *r = begin();
    probe p = {0};
    reactor_listener l = {0};
    turns(r, 1);
    unix_address(path, sizeof path);
    fill_table();
    assert_int_equal(reactor_listen(r, "127.0.0.1:0", &probe_handler, NULL, &l), -EMFILE);
    assert_int_equal(reactor_listen(r, path, &probe_handler, NULL, &l), -EMFILE);
    assert_int_equal(counters(r).listeners, 0);
    unfill_table();
    server s = serve(r, &p);
    close(visit(r, &s, &p));
    end(r);
}

CASE(law17_create_with_a_full_table_is_EMFILE_or_works) {
    reactor_options o = {.backend = backend_under_test()};
    int before = open_descriptors();
    probe p = {0};
    reactor *r = NULL;
    fill_table();
    int e = reactor_create(&r, &o);
    unfill_table();
    if (on_backend("epoll")) assert_int_equal(e, -EMFILE); /* it is a descriptor itself */
    if (e < 0) {
        assert_int_equal(e, -EMFILE);
        assert_null(r);
        assert_int_equal(open_descriptors(), before);
        r = make_loop();
    }
    server s = serve(r, &p);
    close(visit(r, &s, &p));
    reactor_destroy(r);
    assert_int_equal(open_descriptors(), before);
}

CASE(law17_attach_and_traffic_need_no_descriptor) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    int fd[2];
    make_pair(fd);
    turns(r, 2);
    fill_table();
    attach_as(r, fd[0], &p, NULL);
    peer_say(r, fd[1], "x");
    peer_hears(r, fd[1], "x");
    close(fd[1]);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    unfill_table();
    end(r);
}

/* ---- peers that never read ---- */

static void hook_write_until_full(reactor *r, reactor_conn c, probe *p) {
    static const char data[10000];
    (void)p;
    while (reactor_write(r, c, data, sizeof data) == 0) continue;
}

CASE(law14_peers_that_never_read_do_not_make_memory_grow) {
    enum { N = 50, MARK = 20000 };
    static probe p[N];
    reactor *r = begin();
    reactor_conn_options o = {.high_water = MARK};
    int fd[N];
    memset(p, 0, sizeof p);
    for (int i = 0; i < N; i++) {
        p[i].open = p[i].writable = hook_write_until_full;
        fd[i] = attach_pair(r, &p[i], &o);
    }
    turns(r, 200);
    reactor_counters a = counters(r), b = a;
    for (int tries = 0; tries < 100; tries++) { /* a kernel may find some more room */
        a = b;
        turns(r, 50);
        b = counters(r);
        if (a.bytes_out == b.bytes_out) break;
    }
    assert_true(b.queued <= (size_t)N * (MARK + 10000));
    assert_int_equal(b.queued, a.queued);
    assert_int_equal(b.bytes_out, a.bytes_out);
    assert_int_equal(b.events, a.events); /* nor the loop spin */
    for (int i = 0; i < N; i++) close(fd[i]);
    UNTIL(r, counters(r).connections == 0);
    assert_int_equal(counters(r).queued, 0);
    end(r);
}

CASE(law14_peer_that_only_sends_is_made_to_wait) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    size_t sent = peer_flood(r, fd, 200 * MIB), back = 0;
    assert_true(sent < 100 * MIB); /* what the kernel's buffers hold, and little more */
    assert_true(counters(r).queued <= 64 * KIB + 256 * KIB);
    assert_true(counters(r).unread <= 1 * MIB);
    while (back < sent) {
        size_t n = peer_discard(fd);
        back += n;
        if (!n) turn(r);
    }
    assert_int_equal(back, sent);
    close(fd);
    end(r);
}

#ifndef _WIN32
/* ---- what others do to the process, and to what is shared with them ---- */

/* A listener that another holder has shut down is readable for ever, and there is nobody. */
static void rests_after_a_shutdown(reactor *r, int fd) {
    probe p = {0};
    reactor_listener l;
    char address[32];
    int copy = dup(fd);
    snprintf(address, sizeof address, "fd:%d", fd);
    assert_int_equal(reactor_listen(r, address, &probe_handler, NULL, &l), 0);
    turns(r, 2);
    assert_int_equal(shutdown(copy, SHUT_RDWR), 0);
    uint64_t pauses = counters(r).accept_pauses, before = counters(r).turns;
    while (counters(r).accept_pauses < pauses + 3) assert_true(reactor_poll(r, 1000) >= 0);
    assert_true(counters(r).turns < before + 50);
    assert_int_equal(p.opens, 0);
    close(copy);
    end(r);
}

CASE(law16_listener_shut_down_elsewhere_does_not_spin) {
    if (libkqueue_cannot("tell of a listener's end")) skip();
    struct sockaddr_un a;
    char dir[] = "/tmp/reactor-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    snprintf(a.sun_path, sizeof a.sun_path, "%s/s", dir);
    reactor *r = begin();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(listen(fd, 5), errno);
    rests_after_a_shutdown(r, fd);
    unlink(a.sun_path);
    assert_int_equal(rmdir(dir), 0);
    r = begin();
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(listen(fd, 5), errno);
    rests_after_a_shutdown(r, fd);
}

#endif

/* ---- many ---- */

#ifdef _WIN32
static int may_open(rlim_t wanted) { return wanted < 10000; }
#else
/* Raises the limit for this process if it may. */
static int may_open(rlim_t wanted) {
    struct rlimit l;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
    if (l.rlim_cur >= wanted) return 1;
    if (l.rlim_max < wanted) return 0;
    l.rlim_cur = wanted;
    return setrlimit(RLIMIT_NOFILE, &l) == 0;
}
#endif

CASE(thousand_connections_at_once_echo) {
    enum { N = 1000, LEN = 100 };
    static int fd[N];
    if (!may_open(2 * N + 200)) skip();
    if (emulated() && on_backend("select")) skip(); /* qemu's sets end at FD_SETSIZE */
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    char data[LEN];
    for (unsigned i = 0; i < N; i++) {
        fd[i] = dial(s.address);
        if (i % 100 == 99) turns(r, 5); /* the backlog of a system may be shorter than that */
    }
    UNTIL(r, p.opens == N);
    assert_int_equal(counters(r).connections, N);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < N; i++) {
            pattern_fill(data, LEN, i, (unsigned)round * LEN);
            assert_int_equal(send(fd[i], data, LEN, MSG_NOSIGNAL), LEN);
        }
        for (unsigned i = 0; i < N; i++)
            peer_takes_pattern(r, fd[i], LEN, i, (unsigned)round * LEN);
    }
    for (unsigned i = 0; i < N; i++) {
        if (i % 3 == 0)
            close_with_reset(fd[i]);
        else
            close(fd[i]);
    }
    UNTIL(r, p.closes == N);
    assert_int_equal(counters(r).connections, 0);
    end(r);
}

/* Bytes of the heap in use; 0 where nobody tells. */
static size_t heap_used(void) {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    return mallinfo2().uordblks;
#else
    return 0;
#endif
}

static void come_and_go(reactor *r, const server *s, probe *p, int n) {
    for (int i = 0; i < n; i++) {
        int fd = visit(r, s, p), before = p->closes;
        peer_say(r, fd, "hello");
        if (i % 2) peer_hears(r, fd, "hello");
        if (i % 5 == 1) reactor_abort(r, p->conn);
        if (i % 5 == 2) reactor_close(r, p->conn);
        if (i % 3 == 0)
            close_with_reset(fd);
        else
            close(fd);
        UNTIL(r, p->closes == before + 1);
    }
}

CASE(thousands_that_come_and_go_leave_nothing_behind) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    reactor_listen_options o = {.conn = {.idle_timeout_ms = 60000, .name = "passer-by"}};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    size_t timers = counters(r).timers;
    come_and_go(r, &s, &p, 500);
    size_t heap = heap_used();
    int descriptors = open_descriptors();
    come_and_go(r, &s, &p, 2500);
    assert_int_equal(open_descriptors(), descriptors);
    size_t heap_after = heap_used();
    if (heap_after > heap + 4096) fail_msg("the heap grew from %zu to %zu", heap, heap_after);
    assert_int_equal(counters(r).connections, 0);
    assert_int_equal(counters(r).timers, timers);
    assert_int_equal(counters(r).queued + counters(r).unread, 0);
    assert_int_equal(counters(r).closes, 3000);
    end(r);
}

CASE(hundreds_that_all_end_in_one_turn) {
    enum { N = 400 };
    reactor *r = begin();
    probe p = {0};
    int fd[N];
    for (int i = 0; i < N; i++) fd[i] = attach_pair(r, &p, NULL);
    for (int i = 0; i < N; i++) close(fd[i]);
    UNTIL(r, p.closes == N);
    assert_int_equal(p.eofs, N);
    end(r);
}

/* ---- a forked child ---- */

/* In the child: what it sees after destroying its copy, as an exit status. */
static int destroy_copy(reactor *r, const probe *p, const receipt *freed, const receipt *done) {
    int before = open_descriptors();
    reactor_destroy(r);
    if (p->closes) return 2;
    if (freed->calls != 1) return 3;
    if (done->calls) return 4;
    return open_descriptors() < before ? 0 : 5;
}

CASE(law11_forked_child_destroying_its_copy_leaves_the_parents_working) {
    char dir[] = "/tmp/reactor-test-XXXXXX", address[64];
    reactor *r = begin();
    probe p = {.data = hook_echo}, q = {.data = hook_echo};
    receipt freed = {0}, sent = {0};
    int status = 0;
    assert_non_null(mkdtemp(dir));
    snprintf(address, sizeof address, "unix:%s/s", dir);
    server s = serve_with(r, address, &probe_handler, &p, NULL), t = serve(r, &q);
    int fd = visit(r, &s, &p), tcp = visit(r, &t, &q), other = visit(r, &s, &p);
    reactor_conn slow = p.conn;
    sent.file = pattern_file(100, 7, 1 * MIB);
    assert_int_equal(write_pattern(r, slow, 1 * MIB, 7, 0, &freed), 1);
    assert_true(reactor_sendfile(r, slow, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent) >=
                0);
    reactor_close(r, slow);
    turns(r, 5);
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(destroy_copy(r, &p, &freed, &sent));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(echoes(r, fd));
    assert_true(echoes(r, tcp));
    peer_takes_pattern(r, other, 1 * MIB + 100, 7, 0);
    peer_sees_eof(r, other);
    int late = visit(r, &s, &p), late_tcp = visit(r, &t, &q); /* the path and the port are there */
    assert_true(echoes(r, late));
    assert_true(echoes(r, late_tcp));
    close(fd), close(tcp), close(other), close(late), close(late_tcp);
    UNTIL(r, p.closes == 3 && q.closes == 2);
    end(r);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(law16_full_table_neither_spins_nor_ends_the_listener),
        TEST(law16_full_table_goes_on_once_a_descriptor_is_free),
        TEST(law16_accepts_refused_for_long_neither_spin_nor_end_the_listener),
        TEST(law16_full_table_still_closes_and_reuses),
#ifndef _WIN32
        TEST(law16_full_table_and_a_duplicate_left_open_do_not_spin),
#endif
        TEST(law17_connect_with_a_full_table_is_EMFILE_by_on_close),
        TEST(law17_listen_with_a_full_table_is_EMFILE),
        TEST(law17_create_with_a_full_table_is_EMFILE_or_works),
        TEST(law17_attach_and_traffic_need_no_descriptor),
        TEST(law14_peers_that_never_read_do_not_make_memory_grow),
        TEST(law14_peer_that_only_sends_is_made_to_wait),
#ifndef _WIN32
        TEST(law16_listener_shut_down_elsewhere_does_not_spin),
#endif
        TEST(thousand_connections_at_once_echo),
        TEST(thousands_that_come_and_go_leave_nothing_behind),
        TEST(hundreds_that_all_end_in_one_turn),
        TEST(law11_forked_child_destroying_its_copy_leaves_the_parents_working),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
