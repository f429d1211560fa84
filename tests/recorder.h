/* What the tests of watchers, timers, tasks and the loop share: callbacks that only record, a crowd
   of ready descriptors, and ways to see that a loop neither calls nor spins. */
#ifndef RECORDER_H
#define RECORDER_H

#include "harness.h"

#define HELPER static __attribute__((unused))

/* A test's head; its name begins with the law, or the call, that it is about. */
#define CASE(f) static void f(void **state __attribute__((unused)))

enum { READ = REACTOR_READ, WRITE = REACTOR_WRITE };
enum { ERROR = REACTOR_ERROR, HANGUP = REACTOR_HANGUP };
enum { EDGE = REACTOR_EDGE, ONESHOT = REACTOR_ONESHOT };

#define MS INT64_C(1000000)

/* What came of one callback, whatever its kind. */
typedef struct record {
    int calls;
    unsigned last; /* events of the last call */
    unsigned all;  /* of all calls */
    int number;    /* descriptor or signal of the last call */
    int64_t at;    /* clock of the last call */
} record;

HELPER void on_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    record *seen = user;
    (void)r;
    seen->calls++;
    seen->last = events;
    seen->all |= events;
    seen->number = fd;
    seen->at = clock_ns();
}

HELPER void on_timer(reactor *r, reactor_timer t, void *user) {
    record *seen = user;
    (void)r, (void)t;
    seen->at = clock_ns();
    seen->calls++;
}

HELPER void on_task(reactor *r, void *user) {
    record *seen = user;
    (void)r;
    seen->at = clock_ns();
    seen->calls++;
}

HELPER void on_signal(reactor *r, int signum, void *user) {
    record *seen = user;
    (void)r;
    seen->number = signum;
    seen->calls++;
}

HELPER void stop_it(reactor *r, void *user) {
    (void)user;
    reactor_stop(r);
}

HELPER void stop_on_timer(reactor *r, reactor_timer t, void *user) {
    (void)t, (void)user;
    reactor_stop(r);
}

HELPER reactor_counters counters(const reactor *r) {
    reactor_counters c;
    memset(&c, 0xff, sizeof c);
    assert_int_equal(reactor_stats(r, &c), 0);
    return c;
}

/* So many turns that do not wait; returns how many callbacks they ran. */
HELPER int turns(reactor *r, int n) {
    int called = 0;
    while (n-- > 0) {
        int e = reactor_poll(r, 0);
        if (e < 0) fail_msg("reactor_poll: %s", reactor_strerror(e));
        called += e;
    }
    return called;
}

/* Nothing is called, and after a few turns the backend has nothing to report either, and a turn
   that may wait sleeps its full time. */
HELPER void assert_silent(reactor *r) {
    assert_int_equal(turns(r, 4), 0);
    uint64_t before = counters(r).events;
    assert_int_equal(turns(r, 20), 0);
    assert_int_equal(counters(r).events, before);
    uint64_t waits = counters(r).waits;
    int64_t start = clock_ns();
    assert_int_equal(reactor_poll(r, 2), 0);
    if (clock_ns() < start + 2 * MS) fail_msg("a turn with nothing to do did not sleep");
    if (counters(r).waits - waits > 8) fail_msg("a turn with nothing to do kept waking up");
}

/* Keeps the processor until so long has passed, as a slow callback does. */
HELPER void spin(int64_t ns) {
    for (int64_t end = clock_ns() + ns; clock_ns() < end;) continue;
}

HELPER void nap(int64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    while (nanosleep(&t, &t) != 0) continue;
}

HELPER short ask(int fd, short events) {
    struct pollfd p = {fd, events, 0};
    assert_return_code(poll(&p, 1, 0), errno);
    return p.revents;
}

/* Waits until the kernel itself says so; asked again and again, for FreeBSD does not wake a poll for an
   error or a hang-up alone. */
HELPER void await(int fd, short events) {
    struct pollfd p = {fd, events, 0};
    while (!(p.revents & events)) assert_return_code(poll(&p, 1, 10), errno);
}

HELPER void put(int fd) { assert_int_equal(write(fd, "x", 1), 1); }

HELPER void drain(int fd) {
    char sink[4096];
    while (read(fd, sink, sizeof sink) > 0) continue;
}

/* Until there is no room, nor will be without the peer: TCP moves bytes into the peer's buffer for
   some time after it has refused more. */
HELPER void fill(int fd) {
    static const char zeros[4096];
    struct pollfd p = {fd, POLLOUT, 0};
    do
        while (write(fd, zeros, sizeof zeros) > 0) continue;
    while (poll(&p, 1, SETTLE_MS) > 0 && p.revents == POLLOUT);
}

HELPER void make_pipe(int fd[2]) {
    assert_return_code(pipe(fd), errno);
    for (int i = 0; i < 2; i++) {
        fcntl(fd[i], F_SETFD, FD_CLOEXEC);
        fcntl(fd[i], F_SETFL, O_NONBLOCK | (i ? O_WRONLY : O_RDONLY));
    }
}

HELPER void close_pair(const int fd[2]) {
    close(fd[0]);
    close(fd[1]);
}

/* Many watched descriptors, all readable. */
enum { CROWD_MAX = 64 };
typedef struct crowd crowd;
typedef struct member {
    crowd *of;
    int fd, peer, calls;
    unsigned last;
} member;
struct crowd {
    reactor *r;
    member m[CROWD_MAX];
    int n, calls;
    void (*first)(crowd *c, member *m); /* what the first one called does, may be NULL */
};

HELPER void on_member(reactor *r, reactor_socket fd, unsigned events, void *user) {
    member *m = user;
    (void)r;
    assert_int_equal(fd, m->fd);
    m->calls++;
    m->last = events;
    if (++m->of->calls == 1 && m->of->first) m->of->first(m->of, m);
}

HELPER void crowd_make(crowd *c, reactor *r, int n, unsigned interest, reactor_io_fn *fn) {
    memset(c, 0, sizeof *c);
    c->r = r;
    c->n = n;
    for (int i = 0; i < n; i++) {
        int fd[2];
        make_pair(fd);
        c->m[i] = (member){c, fd[0], fd[1], 0, 0};
        put(fd[1]);
        assert_int_equal(reactor_add(r, fd[0], interest, fn, &c->m[i]), 0);
    }
}

HELPER void crowd_close(crowd *c) {
    for (int i = 0; i < c->n; i++) {
        reactor_remove(c->r, c->m[i].fd);
        close(c->m[i].fd);
        close(c->m[i].peer);
    }
}

HELPER int crowd_least(const crowd *c) {
    int least = c->m[0].calls;
    for (int i = 1; i < c->n; i++)
        if (c->m[i].calls < least) least = c->m[i].calls;
    return least;
}

HELPER int crowd_most(const crowd *c) {
    int most = c->m[0].calls;
    for (int i = 1; i < c->n; i++)
        if (c->m[i].calls > most) most = c->m[i].calls;
    return most;
}

/* A small generator, so that a seed means the same everywhere. */
HELPER uint32_t random_next(uint64_t *seed) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

HELPER int random_below(uint64_t *seed, int n) { return (int)(random_next(seed) % (uint32_t)n); }

#endif
