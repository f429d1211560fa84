/* What the manual and the options' comments promise in passing: the defaults of the budgets, what a
   failed call gives back, how many system calls something takes, every form that an address may
   have. System calls are counted by wrapping them. */
/* ldflags: -Wl,--wrap=epoll_ctl,--wrap=send,--wrap=sendmsg,--wrap=writev */
#include "stream_help.h"

#ifdef __linux__
#include <sys/epoll.h>
#endif

/* ---- counted system calls ---- */

static int changes_made, sends_made;

#ifdef _WIN32
/* A DLL's calls are not wrapped by the linker. */
#define __real_send(fd, data, len, flags) send(fd, data, len, flags)
#define NEEDS_COUNTED_CALLS               posix_missing()
#else
#define NEEDS_COUNTED_CALLS ((void)0)

ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __real_writev(int fd, const struct iovec *v, int n);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_writev(int fd, const struct iovec *v, int n);

#ifdef __linux__
int __real_epoll_ctl(int set, int op, int fd, struct epoll_event *e);
int __wrap_epoll_ctl(int set, int op, int fd, struct epoll_event *e);

int __wrap_epoll_ctl(int set, int op, int fd, struct epoll_event *e) {
    changes_made++;
    return __real_epoll_ctl(set, op, fd, e);
}
#endif

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags) {
    sends_made++;
    return __real_send(fd, data, len, flags);
}
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags) {
    sends_made++;
    return __real_sendmsg(fd, m, flags);
}
ssize_t __wrap_writev(int fd, const struct iovec *v, int n) {
    sends_made++;
    return __real_writev(fd, v, n);
}
#endif

/* ---- the defaults of the budgets ---- */

static void count_timer(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    ++*(int *)user;
}

static void count_task(reactor *r, void *user) {
    (void)r;
    ++*(int *)user;
}

CASE(a_turn_fires_4096_timers) {
    reactor *r = begin();
    int fired = 0;
    for (int i = 0; i < 4096 + 10; i++)
        assert_int_equal(reactor_after(r, 0, count_timer, &fired, NULL), 0);
    turns(r, 1);
    assert_int_equal(fired, 4096);
    turns(r, 1);
    assert_int_equal(fired, 4096 + 10);
    end(r);
}

CASE(a_turn_runs_4096_posts_and_as_many_deferred_tasks) {
    reactor *r = begin();
    int posts = 0, tasks = 0;
    for (int i = 0; i < 4096 + 10; i++) {
        assert_int_equal(reactor_post(r, count_task, &posts), 0);
        assert_int_equal(reactor_defer(r, count_task, &tasks), 0);
    }
    turns(r, 1);
    assert_int_equal(posts, 4096);
    assert_int_equal(tasks, 4096);
    turns(r, 2);
    assert_int_equal(posts, 4096 + 10);
    assert_int_equal(tasks, 4096 + 10);
    end(r);
}

CASE(a_turn_accepts_64_connections) {
    enum { MORE = 70 };
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int fd[MORE];
    turns(r, 1);
    for (int i = 0; i < MORE; i++) fd[i] = dial(s.address);
    for (int i = 0; i < 100 && !p.opens; i++) turn(r);
    assert_int_equal(p.opens, 64);
    UNTIL(r, p.opens == MORE);
    for (int i = 0; i < MORE; i++) close(fd[i]);
    UNTIL(r, p.closes == MORE);
    end(r);
}

static void hook_count_bytes(reactor *r, reactor_conn c, probe *p) {
    (void)r, (void)c;
    *(size_t *)p->extra += p->eat;
}

/* In pieces of the loop's buffer, whose default is 64 KiB, and of which the budget may exceed one. */
CASE(a_turn_reads_256_kib_from_a_connection) {
    enum { SENT = 1 * MIB };
    reactor *r = begin();
    size_t got = 0;
    probe p = {.data = hook_count_bytes, .extra = &got};
    int fd[2], room = 4 * MIB;
    make_tcp_pair(fd);
    setsockopt(fd[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    char *data = pattern_new(SENT, 1, 0);
    attach_as(r, fd[0], &p, NULL);
    UNTIL(r, p.opens);
    size_t sent = 0;
    for (ssize_t n = 1; n > 0 && sent<SENT; sent += n> 0 ? (size_t)n : 0)
        n = send(fd[1], data + sent, SENT - sent, MSG_NOSIGNAL);
    int there = 0;
    for (int i = 0; i < 1000 && there < 400 * KIB; i++) {
        assert_return_code(ioctl(fd[0], FIONREAD, &there), errno);
        poll(NULL, 0, 1);
    }
    if (there < 400 * KIB) skip(); /* this system keeps less for a socket */
    size_t most = 0;
    while (got < sent) {
        size_t before = got;
        turn(r);
        if (got - before > most) most = got - before;
        assert_true(p.offered <= 64 * KIB);
    }
    assert_true(most >= 256 * KIB);
    assert_true(most <= 256 * KIB + 64 * KIB);
    free(data);
    close(fd[1]);
    UNTIL(r, p.closes);
    end(r);
}

static void count_ready(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r, (void)fd, (void)events;
    ++*(int *)user;
}

CASE(a_turn_takes_256_events) {
    enum { MORE = 300 };
    reactor *r = begin();
    int fd[2], copy[MORE], ready = 0;
    make_pair(fd);
    assert_int_equal(write(fd[1], "x", 1), 1);
    for (int i = 0; i < MORE; i++) {
        copy[i] = fcntl(fd[0], F_DUPFD_CLOEXEC, 0);
        assert_return_code(copy[i], errno);
        assert_int_equal(reactor_add(r, copy[i], REACTOR_READ, count_ready, &ready), 0);
    }
    assert_int_equal(reactor_poll(r, 0), 256);
    assert_int_equal(ready, 256);
    assert_int_equal(reactor_poll(r, 0), 256);
    for (int i = 0; i < MORE; i++) {
        assert_int_equal(reactor_remove(r, copy[i]), 0);
        close(copy[i]);
    }
    close(fd[0]), close(fd[1]);
    end(r);
}

/* ---- what is given back ---- */

/* Of thousands of failed calls nothing is left, or a later one would be refused for want of it. */
CASE(a_failed_add_gives_its_slot_back) {
    reactor *r = begin();
    int fd[2], ready = 0;
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, count_ready, &ready), 0);
    const size_t before = counters(r).watchers;
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(reactor_add(r, 1000000, REACTOR_READ, count_ready, &ready), -EBADF);
        assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, count_ready, &ready), -EEXIST);
    }
    assert_int_equal(counters(r).watchers, before);
    /* The next slot is the one right behind: a handle tells. */
    reactor_conn c;
    int other[2];
    make_pair(other);
    assert_int_equal(reactor_attach(r, other[0], &null_handler, NULL, &c), 0);
    assert_true((c.id & UINT32_MAX) < 64);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_int_equal(reactor_abort(r, c), 0);
    turns(r, 3);
    close(fd[0]), close(fd[1]), close(other[1]);
    end(r);
}

/* ---- on_timeout that answers 1 ---- */

/* Starts it again, whichever it was, and the connection lives on. */
CASE(a_timeout_answered_with_1_runs_out_again) {
    static const int which[] = {REACTOR_TIMEOUT_IDLE, REACTOR_TIMEOUT_READ, REACTOR_TIMEOUT_WRITE,
                                REACTOR_TIMEOUT_DEADLINE};
    NEEDS_UNIX_PAIRS;
    for (size_t i = 0; i < COUNT(which); i++) {
        reactor *r = begin();
        probe p = {.answer = 1};
        reactor_conn_options o = {.coupled = -1};
        int peer = attach_pair(r, &p, &o);
        receipt given = {0};
        if (which[i] == REACTOR_TIMEOUT_WRITE) write_pattern(r, p.conn, 2 * MIB, 1, 0, &given);
        int64_t set = clock_ns(), last = set;
        assert_int_equal(reactor_set_timeout(r, p.conn, which[i], 20), 0);
        for (int n = 1; n <= 3; n++) {
            UNTIL(r, p.timeouts >= n);
            assert_int_equal(p.which, which[i]);
            assert_true(p.at - last >= 20 * INT64_C(1000000) || n > 1);
            assert_true(p.at - set >= n * 20 * INT64_C(1000000));
            last = p.at;
        }
        assert_int_equal(p.closes, 0);
        p.answer = 0;
        UNTIL(r, p.closes);
        assert_int_equal(p.reason, -ETIMEDOUT);
        close(peer);
        reactor_destroy(r);
        assert_int_equal(open_descriptors(), descriptors_before);
    }
}

/* ---- addresses ---- */

static void hook_peer_and_close(reactor *r, reactor_conn c, probe *p) {
    assert_true(reactor_peer_address(r, c, p->extra, REACTOR_ADDRESS_MAX) > 0);
    reactor_close(r, c);
}

/* What the server sees when one connects from there; "" with the reason if it fails. */
static int connect_from(const char *to, const char *local, char seen[REACTOR_ADDRESS_MAX]) {
    reactor *r = begin();
    probe p = {.open = hook_peer_and_close, .extra = seen}, q = {0};
    seen[0] = 0;
    server s = serve_with(r, to, &probe_handler, &p, NULL);
    reactor_connect_options o = {.local = local, .conn.user = &q};
    int e = reactor_connect(r, s.address, &probe_handler, &o, NULL);
    if (e == 0) {
        UNTIL(r, q.closes && (q.reason < 0 || p.closes));
        e = q.reason;
    }
    reactor_destroy(r);
    assert_int_equal(open_descriptors(), descriptors_before);
    return e;
}

CASE(local_addresses_of_every_form) {
    char seen[REACTOR_ADDRESS_MAX], address[REACTOR_ADDRESS_MAX];
    close(bound(address)); /* a port that is free */
    assert_int_equal(connect_from("127.0.0.1:0", address, seen), 0);
    assert_string_equal(seen, address);
    assert_int_equal(connect_from("127.0.0.1:0", "*:0", seen), 0);
    assert_memory_equal(seen, "127.0.0.1:", 10);
    assert_int_equal(connect_from("127.0.0.1:0", "localhost:0", seen), 0);
    assert_int_equal(connect_from("127.0.0.1:0", "fd:0", seen), -EINVAL);
    assert_string_equal(seen, "");
    if (!has_ipv6()) return;
    assert_int_equal(connect_from("[::1]:0", "*:0", seen), 0);
    assert_memory_equal(seen, "[::1]:", 6);
    /* The other family's address is none that could be bound. */
    assert_int_equal(connect_from("127.0.0.1:0", "[::1]:0", seen), -EAFNOSUPPORT);
    assert_int_equal(connect_from("[::1]:0", "127.0.0.1:0", seen), -EAFNOSUPPORT);
}

/* A socket that is there already is connected from where it is. */
CASE(a_socket_handed_over_has_no_local_address_to_be_given) {
    reactor *r = begin();
    probe q = {0};
    int fd[2];
    char address[16];
    make_tcp_pair(fd);
    snprintf(address, sizeof address, "fd:%d", fd[0]);
    reactor_connect_options o = {.local = "127.0.0.1:0"};
    probe_connect(r, address, &q, &o);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -EINVAL);
    assert_string_equal(q.log, "c");
    close(fd[0]), close(fd[1]); /* it is still the caller's */
    end(r);
}

/* A path would stay behind; an abstract name does not. */
CASE(local_addresses_of_unix_sockets) {
    NEEDS_UNIX_PAIRS;
    char seen[REACTOR_ADDRESS_MAX], to[64], from[64];
    unix_address(to, sizeof to);
    unix_address(from, sizeof from);
    assert_int_equal(connect_from(to, from, seen), -ENOTSUP);
    assert_int_equal(access(from + strlen("unix:"), F_OK), -1);
    assert_int_equal(connect_from(to, "127.0.0.1:0", seen), -EAFNOSUPPORT);
    assert_int_equal(connect_from("127.0.0.1:0", from, seen), -EAFNOSUPPORT);
#ifdef __linux__
    snprintf(from, sizeof from, "unix:@promises-%d", (int)getpid());
    assert_int_equal(connect_from(to, from, seen), 0);
    assert_string_equal(seen, from);
#endif
}

/* It is the IPv4 address, on every system, whatever that thinks of IPv6 sockets that speak IPv4. */
CASE(ipv4_written_as_ipv6) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char mapped[REACTOR_ADDRESS_MAX], peer[REACTOR_ADDRESS_MAX];
    server s = serve(r, &p);
    snprintf(mapped, sizeof mapped, "[::ffff:127.0.0.1]:%d", port_of(s.address));
    reactor_conn c = probe_connect(r, mapped, &q, NULL);
    UNTIL(r, q.opens || q.closes);
    assert_int_equal(q.opens, 1);
    assert_true(reactor_peer_address(r, c, peer, sizeof peer) > 0);
    assert_string_equal(peer, s.address);
    UNTIL(r, p.opens);
    assert_true(reactor_peer_address(r, p.conn, peer, sizeof peer) > 0);
    assert_memory_equal(peer, "127.0.0.1:", 10);
    reactor_close(r, c);
    UNTIL(r, q.closes && p.closes);
    reactor_listener_close(r, s.l);
    snprintf(mapped, sizeof mapped, "[::ffff:127.0.0.1]:0");
    s = serve_with(r, mapped, &probe_handler, &p, NULL);
    assert_memory_equal(s.address, "127.0.0.1:", 10);
    end(r);
}

/* ---- what is gathered ---- */

static void change_often(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)events;
    for (int i = 0; i < 10; i++)
        assert_int_equal(reactor_modify(r, fd, i & 1 ? REACTOR_READ : REACTOR_READ | REACTOR_WRITE),
                         0);
    ++*(int *)user;
}

CASE(law8_a_turns_changes_of_one_interest_are_one) {
    reactor *r = begin();
    int fd[2], calls = 0;
    make_pair(fd);
    assert_int_equal(write(fd[1], "x", 1), 1);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, change_often, &calls), 0);
    turns(r, 1);
    assert_int_equal(calls, 1);
    changes_made = 0;
    const uint64_t before = counters(r).changes;
    turns(r, 1);
    assert_int_equal(calls, 2);
    assert_true(counters(r).changes - before <= 1);
    assert_true(changes_made <= 2); /* what it is, and what is open there now */
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    close(fd[0]), close(fd[1]);
    end(r);
}

static void hook_write_ten(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    for (int i = 0; i < 10; i++) assert_int_equal(reactor_write(r, c, "0123456789", 10), 0);
}

CASE(law14_a_callbacks_writes_are_one_system_call) {
    NEEDS_COUNTED_CALLS;
    reactor *r = begin();
    probe p = {.data = hook_write_ten};
    int peer = attach_tcp_pair(r, &p, NULL);
    for (int i = 0; i < 3; i++) {
        char got[100];
        assert_int_equal(__real_send(peer, "x", 1, MSG_NOSIGNAL), 1);
        sends_made = 0;
        UNTIL(r, p.datas == i + 1);
        peer_take(r, peer, got, sizeof got);
        assert_true(sends_made == 1 || (on_backend("io_uring") && sends_made == 0));
    }
    close(peer);
    UNTIL(r, p.closes);
    end(r);
}

/* ---- ends and beginnings ---- */

static void hook_abort_and_destroy(reactor *r, reactor_conn c, probe *p) {
    probe *other = p->extra;
    assert_int_equal(reactor_write(r, other->conn, "x", 1), 0); /* it is scheduled now */
    assert_int_equal(reactor_abort(r, other->conn), 0);
    assert_int_equal(reactor_abort(r, c), 0);
    reactor_destroy(r);
}

/* The turn goes on with connections that died in it, of a loop that is to be freed. */
CASE(destroy_in_the_turn_in_which_scheduled_connections_died) {
    reactor *r = begin();
    probe other = {0}, p = {.data = hook_abort_and_destroy, .extra = &other}, third = {0};
    int peer = attach_pair(r, &p, NULL), peers = attach_pair(r, &other, NULL),
        last = attach_pair(r, &third, NULL);
    assert_int_equal(send(peer, "x", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(send(last, "x", 1, MSG_NOSIGNAL), 1);
    assert_true(reactor_run(r) <= 0);
    assert_int_equal(p.closes, 1);
    assert_int_equal(other.closes, 1);
    assert_int_equal(third.closes, 1);
    assert_int_equal(p.reason, -ECONNABORTED);
    assert_int_equal(other.reason, -ECONNABORTED);
    assert_int_equal(third.reason, -ECANCELED);
    close(peer), close(peers), close(last);
    assert_int_equal(open_descriptors(), descriptors_before);
}

/* A connection that ends gives its descriptor to the listener that waits for one, at once: none of
   these turns waits, so no timer could have done it. */
CASE(law16_a_listener_goes_on_as_soon_as_a_descriptor_is_free) {
    enum { N = 3 };
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int first = visit(r, &s, &p), fd[N], filler[64], fillers = 0;
    reactor_conn c = p.conn;
    struct rlimit before, small;
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port_of(s.address));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < N; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_return_code(fd[i], errno);
    }
    assert_return_code(getrlimit(RLIMIT_NOFILE, &before), errno);
    small = before;
    small.rlim_cur = (rlim_t)fd[N - 1] + 20;
    assert_return_code(setrlimit(RLIMIT_NOFILE, &small), errno);
    while ((filler[fillers] = fcntl(first, F_DUPFD_CLOEXEC, 0)) >= 0) fillers++;
    const uint64_t pauses = counters(r).accept_pauses;
    for (int i = 0; i < N; i++)
        assert_return_code(connect(fd[i], (struct sockaddr *)&a, sizeof a), errno);
    for (int i = 0; i < 100 && counters(r).accept_pauses == pauses; i++) turn(r);
    const int paused = counters(r).accept_pauses > pauses, opens = p.opens;
    if (paused) {
        assert_int_equal(reactor_abort(r, c), 0);
        turns(r, 5);
        assert_int_equal(p.opens, opens + 1);
    }
    while (fillers) close(filler[--fillers]);
    assert_return_code(setrlimit(RLIMIT_NOFILE, &before), errno);
    for (int i = 0; i < N; i++) close(fd[i]);
    close(first);
    UNTIL(r, p.opens == p.closes);
    end(r);
    assert_true(paused || on_backend("io_uring"));
}

/* However many are served with one call: the counters are of connections and bytes. */
CASE(counters_of_many_at_once) {
    enum { N = 100 };
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd[N];
    char got[10];
    for (int i = 0; i < N; i++) fd[i] = visit(r, &s, &p);
    turns(r, 3);
    const reactor_counters a = counters(r);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            assert_int_equal(__real_send(fd[i], "0123456789", 10, MSG_NOSIGNAL), 10);
        for (int i = 0; i < N; i++) {
            struct pollfd ready = {fd[i], POLLIN, 0};
            while (poll(&ready, 1, 0) == 0) turn(r);
            peer_take(r, fd[i], got, sizeof got);
        }
    }
    const reactor_counters b = counters(r);
    assert_int_equal(b.bytes_in - a.bytes_in, 3 * N * 10);
    assert_int_equal(b.bytes_out - a.bytes_out, 3 * N * 10);
    assert_int_equal(b.callbacks - a.callbacks, 3 * N);
    assert_int_equal(p.datas, 3 * N);
    assert_int_equal(b.accepts, N);
    assert_int_equal(b.connections, N);
    assert_int_equal(b.queued + b.unread, 0);
    for (int i = 0; i < N; i++) close(fd[i]);
    UNTIL(r, p.closes == N);
    assert_int_equal(counters(r).closes, N);
    end(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_turn_fires_4096_timers),
        TEST(a_turn_runs_4096_posts_and_as_many_deferred_tasks),
        TEST(a_turn_accepts_64_connections),
        TEST(a_turn_reads_256_kib_from_a_connection),
        TEST(a_turn_takes_256_events),
        TEST(a_failed_add_gives_its_slot_back),
        TEST(a_timeout_answered_with_1_runs_out_again),
        TEST(local_addresses_of_every_form),
        TEST(a_socket_handed_over_has_no_local_address_to_be_given),
        TEST(local_addresses_of_unix_sockets),
        TEST(ipv4_written_as_ipv6),
        TEST(law8_a_turns_changes_of_one_interest_are_one),
        TEST(law14_a_callbacks_writes_are_one_system_call),
        TEST(destroy_in_the_turn_in_which_scheduled_connections_died),
        TEST(law16_a_listener_goes_on_as_soon_as_a_descriptor_is_free),
        TEST(counters_of_many_at_once),
    };
    return cmocka_run_group_tests_name("promises", tests, NULL, NULL);
}
