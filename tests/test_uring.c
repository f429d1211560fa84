/* backends: one */
/* What only io_uring has: a ring of 8 requests, with more to say and to hear than it holds; and a
   kernel or a filter that refuses it, whereupon the next backend takes over and the reason can be
   read. The implementation is compiled into this file for the ring's size. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How many calls of io_uring_enter fail from now on. */
static int failing_enters;
#define syscall(number, ...)                                                                       \
    ((number) == SYS_io_uring_enter && failing_enters > 0 ? (failing_enters--, errno = EBUSY, -1L) \
                                                          : syscall(number, __VA_ARGS__))

#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_IO_URING
#define REACTOR_USE_EPOLL
#define REACTOR__IO_URING_ENTRIES 8
#include "../reactor.h"
#undef syscall

#include "harness.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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

/* In a child: from now on this system call fails. */
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
    reactor_options o = {0};
    (void)state;
    if (!offered()) skip();
    o.backend = "io_uring";
    reactor *r = make_loop_with(&o);
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
        TEST(a_ring_of_8_serves_300_levels),
        TEST(a_ring_of_8_serves_300_edges),
        TEST(late_answers_are_not_taken_for_new_ones),
        TEST(removing_lets_go_of_a_descriptor_though_there_is_no_room_to_ask),
        TEST(setup_refused_by_a_filter),
        TEST(setup_missing),
        TEST(enter_refused_by_a_filter),
    };
    harness_unused();
    return cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
}
