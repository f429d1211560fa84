/* backends: one */
/* What only io_uring has: a ring of 8 requests, with more to say and to hear than it holds; and a
   kernel or a filter that refuses it, whereupon the next backend takes over and the reason can be
   read. The implementation is compiled into this file for the ring's size. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How many calls of io_uring_enter fail from now on. */
static int failing_enters;

/* What becomes of transfers, which are the calls that submit and do nothing else: of every so many
   one fails with error, or has so many of its requests taken first. */
static struct {
    int every, error;
    unsigned take;
    int taken; /* a part was: the rest of it fails */
    int seen;
} transfers;

/* Drops the answers that there are, once: as a kernel does that has no memory for those which find no
   room. It says so in a call that waits. */
static void (*lose_answers)(void);

/* A kernel without the first steps of what is asked for: 1 DEFER_TASKRUN. */
static int steps_missing;
static long outcome;

/* 1: handled here, with this outcome. */
static int is_handled(long number, ...) {
    va_list list;
    int handled = 0;
    va_start(list, number);
    if (number == SYS_io_uring_enter) {
        int fd = va_arg(list, int);
        unsigned count = va_arg(list, unsigned);
        int least = va_arg(list, int), flags = va_arg(list, int);
        void *arg = va_arg(list, void *);
        handled = failing_enters > 0;
        if (handled) failing_enters--, outcome = -1, errno = EBUSY;
        if (!handled && lose_answers && (flags & 1)) {
            syscall(number, fd, count, least, flags, arg, va_arg(list, size_t));
            lose_answers();
            lose_answers = NULL;
            handled = 1, outcome = -1, errno = EBADR;
        }
        if (!handled && count && !least && !flags) {
            int fails =
                transfers.every && (transfers.taken || transfers.seen % transfers.every == 0);
            if (transfers.seen++ < 0) fails = 0;
            handled = fails;
            if (fails && transfers.take && !transfers.taken && count > transfers.take) {
                transfers.taken = 1;
                outcome = syscall(number, fd, transfers.take, 0, 0, NULL, (size_t)0);
            } else if (fails)
                transfers.taken = 0, outcome = -1, errno = transfers.error;
        }
    } else if (number == SYS_io_uring_setup && steps_missing) {
        (void)va_arg(list, unsigned);
        const uint32_t *p = va_arg(list, const uint32_t *); /* flags are its third word */
        handled = (p[2] & (1u << 13)) != 0;
        if (handled) outcome = -1, errno = EINVAL;
    }
    va_end(list);
    return handled;
}
#define syscall(number, ...)                                                                       \
    (is_handled(number, __VA_ARGS__) ? outcome : syscall(number, __VA_ARGS__))

#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_IO_URING
#define REACTOR_USE_EPOLL
#define REACTOR__IO_URING_ENTRIES 8
#include "../reactor.h"
#undef syscall

#include "stream_help.h"

#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { PAIRS = 300 };

static int offered(void) {
    reactor_options o = {0};
    reactor *r = NULL;
    o.backend = "io_uring";
    if (reactor_create(&r, &o) < 0) return 0;
    reactor_destroy(r);
    return 1;
}

/* For the tests that need nothing else. */
static reactor *ring_loop(void) {
    reactor_options o = {0};
    if (!offered()) skip();
    o.backend = "io_uring";
    return make_loop_with(&o);
}

static void on_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r;
    (void)fd;
    (void)events;
    ++*(int *)user;
}

static void many(unsigned flags) {
    static int fd[PAIRS][2], calls[PAIRS];
    struct rlimit limit = {2 * PAIRS + 100, 0};
    reactor_options o = {0};
    if (!offered()) skip();
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    limit.rlim_max = old.rlim_max;
    if (old.rlim_cur < limit.rlim_cur) assert_return_code(setrlimit(RLIMIT_NOFILE, &limit), errno);
    o.backend = "io_uring";
    reactor *r = make_loop_with(&o);
    memset(calls, 0, sizeof calls);
    for (int i = 0; i < PAIRS; i++) {
        make_pair(fd[i]);
        assert_int_equal(reactor_add(r, fd[i][0], REACTOR_READ | flags, on_io, &calls[i]), 0);
    }
    assert_int_equal(reactor_poll(r, 0), 0);
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < PAIRS; i++) assert_int_equal(write(fd[i][1], "x", 1), 1);
        for (int i = 0; i < PAIRS; i++)
            while (calls[i] < round) assert_true(reactor_poll(r, 1000) >= 0);
        for (int i = 0; i < PAIRS; i++) {
            char byte;
            assert_int_equal(read(fd[i][0], &byte, 1), 1);
        }
        for (int i = 0; i < 8; i++) assert_true(reactor_poll(r, 0) >= 0);
        for (int i = 0; i < PAIRS; i++)
            calls[i] = round; /* a level may have been told more often */
    }
    for (int i = 0; i < PAIRS; i++) {
        char byte;
        assert_int_equal(reactor_remove(r, fd[i][0]), 0);
        close(fd[i][0]); /* nothing holds it any longer: the peer hears of it */
        assert_int_equal(read(fd[i][1], &byte, 1), 0);
        close(fd[i][1]);
    }
    reactor_destroy(r);
}

static void a_ring_of_8_serves_300_levels(void **state) {
    (void)state;
    many(0);
}
static void a_ring_of_8_serves_300_edges(void **state) {
    (void)state;
    many(REACTOR_EDGE);
}

/* In a child: from now on this system call fails. musl alone has not the kernel's headers. */
#if __has_include(<linux/seccomp.h>)
#include <linux/filter.h>
#include <linux/seccomp.h>
static int forbid(unsigned number, unsigned error) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
#else
static int forbid(unsigned number, unsigned error) {
    (void)number;
    (void)error;
    return -1;
}
#endif

/* 0 if epoll took over, said why, and works. */
static int without(unsigned number, unsigned error) {
    reactor *r = NULL;
    int fd[2], calls = 0;
    if (forbid(number, error) < 0) return 77;
    if (reactor_create(&r, NULL) < 0) return 1;
    if (strcmp(reactor_backend(r), "epoll") != 0) return 2;
    if (!strstr(reactor_backend_reason(r), "io_uring: ")) return 3;
    if (!strstr(reactor_backend_reason(r), strerror((int)error))) return 4;
    if (pipe(fd) < 0 || write(fd[1], "x", 1) != 1) return 5;
    if (reactor_add(r, fd[0], REACTOR_READ, on_io, &calls) < 0) return 6;
    if (reactor_poll(r, 0) != 1 || calls != 1) return 7;
    reactor_destroy(r);
    return 0;
}

/* The peer hears of a close, if not at once then in the next turns: nothing holds the other end. */
static void assert_let_go(reactor *r, int fd[2]) {
    char byte;
    close(fd[0]);
    for (int i = 0; i < 8; i++) assert_true(reactor_poll(r, 0) >= 0);
    assert_int_equal(read(fd[1], &byte, 1), 0);
    close(fd[1]);
}

/* A batch of one leaves the answers to a watcher's former polls behind those of many others. */
static void late_answers_are_not_taken_for_new_ones(void **state) {
    enum { OTHERS = 64, CHANGES = 48 };
    static int others[OTHERS][2], fd[2], calls;
    reactor_options o = {0};
    (void)state;
    if (!offered()) skip();
    o.backend = "io_uring";
    o.batch = 1;
    reactor *r = make_loop_with(&o);
    for (int i = 0; i < OTHERS; i++) {
        make_pair(others[i]);
        assert_int_equal(write(others[i][1], "x", 1), 1);
        assert_int_equal(reactor_add(r, others[i][0], REACTOR_READ, on_io, &calls), 0);
    }
    for (int n = 0; n < CHANGES; n++) {
        make_pair(fd);
        assert_int_equal(reactor_add(r, fd[0], REACTOR_READ | REACTOR_EDGE, on_io, &calls), 0);
        for (int i = 0; i < n; i++) {
            assert_int_equal(reactor_modify(r, fd[0], REACTOR_READ | REACTOR_EDGE), 0);
            assert_true(reactor_poll(r, 0) >= 0);
        }
        for (int i = 0; i < 4 * OTHERS; i++) assert_true(reactor_poll(r, 0) >= 0);
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        assert_let_go(r, fd);
    }
    for (int i = 0; i < OTHERS; i++) {
        assert_int_equal(reactor_remove(r, others[i][0]), 0);
        close(others[i][0]);
        close(others[i][1]);
    }
    reactor_destroy(r);
}

/* The ring is full of requests that the kernel does not take, until there was no room for one. */
static void removing_lets_go_of_a_descriptor_though_there_is_no_room_to_ask(void **state) {
    enum { COUNT = 9 };
    static int fd[COUNT][2], calls;
    (void)state;
    reactor *r = ring_loop();
    for (int i = 0; i < COUNT; i++) {
        make_pair(fd[i]);
        assert_int_equal(reactor_add(r, fd[i][0], REACTOR_READ, on_io, &calls), 0);
    }
    assert_int_equal(reactor_poll(r, 0), 0);
    failing_enters = COUNT;
    for (int i = 0; i < COUNT; i++) assert_int_equal(reactor_remove(r, fd[i][0]), 0);
    assert_int_equal(failing_enters, 0);
    for (int i = 0; i < COUNT; i++) assert_let_go(r, fd[i]);
    reactor_destroy(r);
}

/* A change of interest is refused for want of room, twice, while the poll from before it stands. */
static void a_refusal_and_an_old_poll_are_one_report(void **state) {
    enum { COUNT = 10 };
    static int fd[COUNT][2], keys[COUNT];
    reactor_key k[3 * COUNT];
    int told = 0;
    (void)state;
    reactor *r = ring_loop();
    for (int i = 0; i < COUNT; i++) {
        make_pair(fd[i]);
        keys[i] = 0;
        assert_int_equal(reactor_add(r, fd[i][0], REACTOR_READ, NULL, &keys[i]), 0);
    }
    assert_int_equal(reactor_select(r, k, 3 * COUNT, 0), 0);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(write(fd[i][1], "x", 1), 1);
        assert_int_equal(reactor_modify(r, fd[i][0], REACTOR_READ | REACTOR_EDGE), 0);
    }
    failing_enters = 6; /* two changes, and what was to go with the wait; and again */
    int n = reactor_select(r, k, 3 * COUNT, 0);
    assert_int_equal(failing_enters, 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(++*(int *)k[i].user, 1);
        if (k[i].events & REACTOR_ERROR) told++;
    }
    assert_int_equal(told, 2);
    reactor_destroy(r);
    for (int i = 0; i < COUNT; i++) close(fd[i][0]), close(fd[i][1]);
}

/* Files, devices and what only looks like them: as epoll takes them. */
static void files_are_ready_as_they_are_for_epoll(void **state) {
    static const char *const names[] = {"/dev/null", "/dev/zero",         "/dev/urandom",
                                        "/",         "/proc/self/mounts", "/proc/self/stat"};
    static const char *const backends[] = {"io_uring", "epoll"};
    (void)state;
    if (!offered()) skip();
    for (int i = 0; i < 6; i++) {
        int calls[2][3] = {{0, 0, 0}, {0, 0, 0}};
        for (int b = 0; b < 2; b++) {
            static const unsigned how[] = {0, REACTOR_EDGE, REACTOR_ONESHOT};
            reactor_options o = {0};
            o.backend = backends[b];
            reactor *r = make_loop_with(&o);
            for (int h = 0; h < 3; h++) {
                int fd = open(names[i], O_RDONLY | O_CLOEXEC);
                if (fd < 0) continue; /* not everywhere */
                assert_int_equal(reactor_add(r, fd, REACTOR_READ | how[h], on_io, &calls[b][h]), 0);
                for (int turn = 0; turn < 5; turn++) assert_true(reactor_poll(r, 0) >= 0);
                assert_int_equal(reactor_modify(r, fd, REACTOR_READ | how[h]), 0);
                for (int turn = 0; turn < 5; turn++) assert_true(reactor_poll(r, 0) >= 0);
                assert_int_equal(reactor_remove(r, fd), 0);
                close(fd);
            }
            reactor_destroy(r);
        }
        for (int h = 0; h < 3; h++) {
            if (calls[0][h] != calls[1][h])
                fail_msg("%s: %d, epoll %d", names[i], calls[0][h], calls[1][h]);
        }
    }
}

/* ---- answers that are lost ---- */

static reactor__io_uring *losing;
static int lost;

static void lose_all(void) {
    uint32_t tail = REACTOR__LOAD(losing->cq_tail);
    lost += (int)(tail - *losing->cq_head);
    REACTOR__STORE(losing->cq_head, tail);
}

static void lose_next(reactor *r) {
    losing = (reactor__io_uring *)r->core.data;
    lost = 0;
    lose_answers = lose_all;
}

static void on_time(reactor *r, reactor_timer t, void *user) {
    (void)r;
    (void)t;
    ++*(int *)user;
}

/* Whatever was to be told by what is lost is told all the same. Nested, only the loop's descriptor
   says when to look. */
static void watchers_hear_of_what_was_lost(unsigned flags, int nested) {
    enum { COUNT = 40 };
    static int fd[COUNT][2], calls[COUNT], times;
    struct pollfd p = {-1, POLLIN, 0};
    reactor *r = ring_loop();
    memset(calls, times = 0, sizeof calls);
    for (int i = 0; i < COUNT; i++) {
        make_pair(fd[i]);
        assert_int_equal(reactor_add(r, fd[i][0], REACTOR_READ | flags, on_io, &calls[i]), 0);
    }
    if (nested) p.fd = reactor_fd(r);
    assert_int_equal(reactor_poll(r, 0), 0);
    assert_int_equal(reactor_after(r, 30, on_time, &times, NULL), 0);
    for (int i = 0; i < COUNT; i++) assert_int_equal(write(fd[i][1], "x", 1), 1);
    lose_next(r);
    for (int i = 0; i <= COUNT; i++)
        while (i < COUNT ? !calls[i] : !times) {
            if (nested) assert_int_equal(poll(&p, 1, 5000), 1);
            assert_true(reactor_poll(r, nested ? 0 : 5000) >= 0);
        }
    assert_true(lost > 0);
    assert_int_equal(times, 1);
    reactor_destroy(r);
    for (int i = 0; i < COUNT; i++) close(fd[i][0]), close(fd[i][1]);
}

static void levels_that_were_lost_are_told(void **state) {
    (void)state;
    watchers_hear_of_what_was_lost(0, 0);
}
static void edges_that_were_lost_are_told(void **state) {
    (void)state;
    watchers_hear_of_what_was_lost(REACTOR_EDGE, 0);
}
static void shots_that_were_lost_are_told(void **state) {
    (void)state;
    watchers_hear_of_what_was_lost(REACTOR_ONESHOT, 0);
}

static void what_was_lost_is_told_by_a_nested_loop(void **state) {
    (void)state;
    watchers_hear_of_what_was_lost(0, 1);
    watchers_hear_of_what_was_lost(REACTOR_EDGE, 1);
}

/* A file that is always ready is an alarm that is always due. */
static void a_nested_loop_has_another_alarm_when_one_was_lost(void **state) {
    int calls = 0, file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    reactor_options o = {0};
    (void)state;
    if (!offered()) skip();
    assert_return_code(file, errno);
    o.backend = "io_uring";
    reactor *r = make_loop_with(&o);
    struct pollfd p = {reactor_fd(r), POLLIN, 0};
    assert_int_equal(reactor_add(r, file, REACTOR_READ, on_io, &calls), 0);
    for (int turn = 1; turn <= 6; turn++) {
        assert_int_equal(poll(&p, 1, 5000), 1);
        if (turn == 3) lose_next(r);
        assert_int_equal(reactor_poll(r, 0), 1);
    }
    assert_int_equal(calls, 6);
    assert_true(lost > 0);
    reactor_destroy(r);
    close(file);
}

/* ---- streams ---- */

enum { TALKERS = 300, BULK = 20000 };

typedef struct talker {
    probe p;
    int fd;
    size_t said, heard;
    unsigned seed;
} talker;

static talker talkers[TALKERS];

static void room_for_descriptors(rlim_t n) {
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    if (now.rlim_cur >= n) return;
    now.rlim_cur = n;
    assert_return_code(setrlimit(RLIMIT_NOFILE, &now), errno);
}

static reactor *gather_talkers(int count, int batch) {
    reactor_options o = {0};
    room_for_descriptors(2 * TALKERS + 100);
    memset(talkers, 0, sizeof talkers);
    o.backend = "io_uring";
    o.batch = batch;
    reactor *r = begin_with(&o);
    for (int i = 0; i < count; i++) {
        talkers[i].seed = (unsigned)i;
        talkers[i].p.data = hook_echo;
        talkers[i].fd = attach_tcp_pair(r, &talkers[i].p, NULL);
    }
    turns(r, 5);
    return r;
}

/* All say so much before a turn is made, and get it back: nothing lost, doubled or out of order. */
static void all_talk(reactor *r, int count, size_t len) {
    static char text[BULK];
    for (int i = 0; i < count; i++) {
        talker *t = &talkers[i];
        pattern_fill(text, len, t->seed, t->said);
        assert_int_equal(send(t->fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
        t->said += len;
    }
    for (int i = 0; i < count; i++) {
        talker *t = &talkers[i];
        peer_takes_pattern(r, t->fd, t->said - t->heard, t->seed, t->heard);
        t->heard = t->said;
        assert_int_equal(t->p.in, t->said);
    }
}

static void talkers_leave(reactor *r, int count) {
    char more;
    turns(r, 5);
    for (int i = 0; i < count; i++) {
        assert_int_equal(recv(talkers[i].fd, &more, 1, MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(talkers[i].p.closes, 0);
        close(talkers[i].fd);
    }
    for (int i = 0; i < count; i++) UNTIL(r, talkers[i].p.closes);
    assert_int_equal(counters(r).queued, 0);
    assert_int_equal(counters(r).bytes_out, counters(r).bytes_in);
    end(r);
}

static void talk(int count, int batch) {
    reactor *r = gather_talkers(count, batch);
    for (int round = 0; round < 3; round++) {
        all_talk(r, count, 10);
        all_talk(r, count, 1000);
    }
    if (count < TALKERS) all_talk(r, count, BULK);
    all_talk(r, count, 64);
    talkers_leave(r, count);
}

static const reactor__core_backend *once;
static int wait_that_tells_twice(reactor__core *core, int64_t timeout) {
    int e = once->wait(core, timeout);
    for (uint32_t i = 0, n = core->report_count; i < n; i++)
        core->reports[core->report_count++] = core->reports[i];
    return e;
}

/* How an attempt ended may be told by two answers at once, for the kernel wakes for the error and for
   the change of state. The second one says nothing of the next address. */
CASE(a_refusal_told_twice_does_not_open_the_next_address) {
    enum { MANY = 64 };
    static reactor__core_backend twice;
    reactor_options o = {0};
    if (!offered()) skip();
    o.backend = "io_uring";
    reactor *r = begin_with(&o);
    probe q = {0};
    char refused[REACTOR_ADDRESS_MAX], busy[REACTOR_ADDRESS_MAX], list[2 * REACTOR_ADDRESS_MAX + 1];
    int dead = bound(refused), full = bound(busy), fd[MANY], n = 0;
    assert_return_code(listen(full, 0), errno);
    for (struct pollfd p = {.revents = 1}; p.revents && n < MANY; n++) {
        struct sockaddr_in a;
        socklen_t len = sizeof a;
        assert_return_code(getsockname(full, (struct sockaddr *)&a, &len), errno);
        fd[n] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(fd[n], (struct sockaddr *)&a, len);
        p.fd = fd[n];
        p.events = POLLOUT;
        poll(&p, 1, 100);
    }
    once = r->core.backend;
    twice = *once;
    twice.wait = wait_that_tells_twice;
    r->core.backend = &twice;
    snprintf(list, sizeof list, "%s,%s", refused, busy);
    reactor_conn c = probe_connect(r, list, &q, NULL);
    turns(r, 20);
    assert_string_equal(q.log, "");
    assert_int_equal(reactor_abort(r, c), 0);
    turns(r, 2);
    assert_string_equal(q.log, "c");
    while (n > 0) close(fd[--n]);
    close(dead), close(full);
    end(r);
}

CASE(the_ring_itself_is_not_watched) {
    reactor *r = ring_loop();
    int rings = 0;
    for (int fd = 0; fd < 64; fd++) {
        char path[32], what[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, what, sizeof what - 1) < 0 || !strstr(what, "io_uring")) continue;
        rings++;
        assert_int_equal(reactor_add(r, fd, REACTOR_READ, NULL, NULL), -EINVAL);
    }
    assert_int_equal(rings, 1);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
}

CASE(a_ring_of_8_serves_300_streams) {
    if (!offered()) skip();
    transfers.seen = 0;
    talk(TALKERS, 0);
    assert_true(transfers.seen > TALKERS / 8);
}

CASE(more_streams_are_ready_than_the_arena_serves_at_once) {
    if (!offered()) skip();
    talk(TALKERS, 1000);
}

/* Every call that transfers fails, or some do, or some after a part of it. */
CASE(law17_transfers_that_fail_lose_nothing) {
    static const int errors[] = {EAGAIN, EBUSY, EINTR, ENOMEM, EPERM};
    if (!offered()) skip();
    for (size_t i = 0; i < COUNT(errors); i++)
        for (int every = 1; every <= 3; every++)
            for (unsigned take = 0; take <= 5; take += 5) {
                reactor *r = gather_talkers(40, 0);
                transfers.error = errors[i];
                transfers.every = every;
                transfers.take = take;
                transfers.taken = transfers.seen = 0;
                for (int round = 0; round < 4; round++) all_talk(r, 40, 30);
                assert_true(transfers.seen > 0);
                transfers.every = 0;
                all_talk(r, 40, 30);
                talkers_leave(r, 40);
            }
}

static const probe *answered_last;

static void hook_echo_and_tell_the_last(reactor *r, reactor_conn c, probe *p) {
    hook_echo(r, c, p);
    if (answered_last) assert_int_equal(reactor_write(r, answered_last->conn, "!", 1), 0);
    answered_last = p;
}

/* What is not sent with the others still goes before what has been written since. */
CASE(law14_an_answer_that_fails_to_leave_keeps_its_place) {
    if (!offered()) skip();
    reactor *r = gather_talkers(10, 0);
    answered_last = NULL;
    for (int i = 0; i < 10; i++) {
        talkers[i].p.data = hook_echo_and_tell_the_last;
        assert_int_equal(send(talkers[i].fd, "answer", 6, MSG_NOSIGNAL), 6);
    }
    transfers.every = 1;
    transfers.error = EBUSY;
    transfers.take = 0;
    transfers.seen = -1; /* the input comes yet */
    transfers.taken = 0;
    for (int i = 0; i < 10; i++)
        peer_hears(r, talkers[i].fd, &talkers[i].p == answered_last ? "answer" : "answer!");
    transfers.every = 0;
    for (int i = 0; i < 10; i++) close(talkers[i].fd);
    for (int i = 0; i < 10; i++) UNTIL(r, talkers[i].p.closes);
    end(r);
}

/* Before Linux 6.1: by calls. */
CASE(streams_on_a_ring_without_DEFER_TASKRUN) {
    if (!offered()) skip();
    steps_missing = 1;
    transfers.seen = 0;
    talk(60, 0);
    assert_int_equal(transfers.seen, 0);
    steps_missing = 0;
}

CASE(input_whose_report_was_lost_is_read) {
    if (!offered()) skip();
    reactor *r = gather_talkers(TALKERS, 0);
    for (int round = 0; round < 3; round++) {
        lose_next(r);
        all_talk(r, TALKERS, 30);
        assert_true(lost > 0);
    }
    talkers_leave(r, TALKERS);
}

static int overflows;

static void hook_echo_if_overflown(reactor *r, reactor_conn c, probe *p) {
    const reactor__io_uring *b = (const reactor__io_uring *)r->core.data;
    if (REACTOR__LOAD(b->sq_state) & REACTOR__IO_URING_FULL) overflows++;
    hook_echo(r, c, p);
}

/* More answers than the kernel has room to write: those that found none come later. */
CASE(answers_that_overflow_lose_nothing) {
    if (!offered()) skip();
    reactor *r = gather_talkers(TALKERS, 4);
    overflows = 0;
    for (int i = 0; i < TALKERS; i++) talkers[i].p.data = hook_echo_if_overflown;
    for (int round = 0; round < 3; round++) all_talk(r, TALKERS, 50);
    assert_true(overflows > 0);
    talkers_leave(r, TALKERS);
}

static void ask_for_fd_once(reactor *r, reactor_conn c, probe *p) {
    hook_echo(r, c, p);
    if (!p->acted++) assert_true(reactor_fd(r) >= 0);
}

/* reactor_fd exchanges the ring while answers wait. */
CASE(fd_asked_for_among_the_answers_loses_none) {
    if (!offered()) skip();
    reactor *r = gather_talkers(40, 0);
    talkers[7].p.data = ask_for_fd_once;
    transfers.seen = 0;
    all_talk(r, 40, 30);
    assert_true(talkers[7].p.acted);
    int seen = transfers.seen;
    for (int round = 0; round < 3; round++) all_talk(r, 40, 30);
    assert_int_equal(transfers.seen, seen);
    talkers_leave(r, 40);
}

static void refused(unsigned number, unsigned error) {
    if (!offered()) skip();
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(without(number, error));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip(); /* no filters here */
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void setup_refused_by_a_filter(void **state) {
    (void)state;
    refused(425, EPERM);
}
static void setup_missing(void **state) {
    (void)state;
    refused(425, ENOSYS);
}
static void enter_refused_by_a_filter(void **state) {
    (void)state;
    refused(426, EPERM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_ring_itself_is_not_watched),
        TEST(a_ring_of_8_serves_300_levels),
        TEST(a_ring_of_8_serves_300_edges),
        TEST(late_answers_are_not_taken_for_new_ones),
        TEST(removing_lets_go_of_a_descriptor_though_there_is_no_room_to_ask),
        TEST(a_refusal_and_an_old_poll_are_one_report),
        TEST(files_are_ready_as_they_are_for_epoll),
        TEST(levels_that_were_lost_are_told),
        TEST(edges_that_were_lost_are_told),
        TEST(shots_that_were_lost_are_told),
        TEST(what_was_lost_is_told_by_a_nested_loop),
        TEST(a_nested_loop_has_another_alarm_when_one_was_lost),
        TEST(a_refusal_told_twice_does_not_open_the_next_address),
        TEST(a_ring_of_8_serves_300_streams),
        TEST(more_streams_are_ready_than_the_arena_serves_at_once),
        TEST(law17_transfers_that_fail_lose_nothing),
        TEST(law14_an_answer_that_fails_to_leave_keeps_its_place),
        TEST(streams_on_a_ring_without_DEFER_TASKRUN),
        TEST(input_whose_report_was_lost_is_read),
        TEST(answers_that_overflow_lose_nothing),
        TEST(fd_asked_for_among_the_answers_loses_none),
        TEST(setup_refused_by_a_filter),
        TEST(setup_missing),
        TEST(enter_refused_by_a_filter),
    };
    harness_unused();
    return cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
}
