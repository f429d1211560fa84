/* backends: one */
/* What only io_uring has: a ring, of 8 requests here, that carries what streams receive and send,
   unless that is little or large; and a kernel or a filter that refuses it, at the start, whereupon
   the next backend takes over, or later, whereupon streams do without. The implementation is
   compiled into this file for the ring's size. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What becomes of the calls that submit: of every so many one fails with error, or has so many of
   its requests taken first. */
static struct {
    int every, error;
    unsigned take;
    int taken; /* a part was: the rest of it fails */
    int seen;
} transfers;

static int setup_fails, map_fails; /* a ring is not made: the error */
static long outcome;

/* 1: handled here, with this outcome. */
static int is_handled(long number, ...) {
    va_list list;
    int handled = 0;
    va_start(list, number);
    if (number == SYS_io_uring_enter) {
        int fd = va_arg(list, int);
        unsigned count = va_arg(list, unsigned);
        if (count) {
            handled = transfers.every && (transfers.taken || transfers.seen % transfers.every == 0);
            if (transfers.seen++ < 0) handled = 0;
            if (handled && transfers.take && !transfers.taken && count > transfers.take) {
                transfers.taken = 1;
                outcome = syscall(number, fd, transfers.take, 0, 0, NULL, (size_t)0);
            } else if (handled)
                transfers.taken = 0, outcome = -1, errno = transfers.error;
        }
    } else if (number == SYS_io_uring_setup && setup_fails)
        handled = 1, outcome = -1, errno = setup_fails;
    va_end(list);
    return handled;
}
#define syscall(number, ...)                                                                       \
    (is_handled(number, __VA_ARGS__) ? outcome : syscall(number, __VA_ARGS__))
#define mmap(...) (map_fails ? (errno = map_fails, MAP_FAILED) : mmap(__VA_ARGS__))

#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_IO_URING
#define REACTOR_USE_EPOLL
#define REACTOR__IO_URING_ENTRIES 8
#include "../reactor.h"
#undef syscall
#undef mmap

#include "stream_help.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>

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

static reactor *attach_talkers(reactor *r, int count) {
    for (int i = 0; i < count; i++) {
        talkers[i].seed = (unsigned)i;
        talkers[i].p.data = hook_echo;
        talkers[i].fd = attach_tcp_pair(r, &talkers[i].p, NULL);
    }
    turns(r, 5);
    return r;
}

static reactor *gather_talkers(int count, int batch) {
    reactor_options o = {0};
    room_for_descriptors(2 * TALKERS + 100);
    memset(talkers, 0, sizeof talkers);
    o.backend = "io_uring";
    o.batch = batch;
    return attach_talkers(begin_with(&o), count);
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

/* How many rings this process has. */
static int rings(void) {
    int n = 0;
    for (int fd = 0; fd < 1024; fd++) {
        char path[32], what[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        n += readlink(path, what, sizeof what - 1) > 0 && strstr(what, "io_uring");
    }
    return n;
}

/* Every call that transfers fails, or some do, or some after a part of it. What may pass is asked
   for again; what lasts is given up, for a reason that can be read. */
CASE(law17_transfers_that_fail_lose_nothing) {
    static const int errors[] = {EAGAIN, EBUSY, EINTR, ENOMEM, EPERM};
    if (!offered()) skip();
    for (size_t i = 0; i < COUNT(errors); i++)
        for (int every = 1; every <= 3; every++)
            for (unsigned take = 0; take <= 5; take += 5) {
                reactor *r = gather_talkers(40, 0);
                const char *reason = reactor_backend_reason(r);
                transfers.error = errors[i];
                transfers.every = every;
                transfers.take = take;
                transfers.taken = transfers.seen = 0;
                for (int round = 0; round < 4; round++) all_talk(r, 40, 30);
                assert_true(transfers.seen > 0);
                transfers.every = transfers.seen = 0;
                all_talk(r, 40, 30);
                assert_int_equal(transfers.seen > 0, errors[i] != EPERM);
                assert_int_equal(strstr(reason, strerror(EPERM)) != NULL, errors[i] == EPERM);
                assert_string_equal(reactor_backend(r), "io_uring");
                talkers_leave(r, 40);
            }
}

/* Few connections go without the ring, which is not even made for them, and so do large messages. */
CASE(few_and_large_messages_go_without_the_ring) {
    if (!offered()) skip();
    reactor *r = gather_talkers(40, 0);
    const int before = rings();
    transfers.seen = 0;
    for (int round = 0; round < 5; round++) all_talk(r, 2, 30);
    assert_int_equal(transfers.seen, 0);
    assert_int_equal(rings(), before);
    for (int round = 0; round < 5; round++) all_talk(r, 40, 30);
    assert_true(transfers.seen > 0);
    assert_int_equal(rings(), before + 1);
    for (int round = 0; round < 3; round++) all_talk(r, 40, BULK);
    transfers.seen = 0;
    for (int round = 0; round < 20; round++) all_talk(r, 40, BULK);
    assert_int_equal(transfers.seen, 0);
    for (int round = 0; round < 40; round++) all_talk(r, 40, 30);
    assert_true(transfers.seen > 0);
    talkers_leave(r, 40);
    assert_int_equal(rings(), before);
}

/* Messages that do not fit where those before them did. */
CASE(messages_of_all_sizes_in_one_turn) {
    if (!offered()) skip();
    reactor *r = gather_talkers(40, 0);
    for (size_t round = 0; round < 60; round++) {
        for (int i = 0; i < 40; i++) {
            static char text[BULK];
            talker *t = &talkers[i];
            size_t len = (size_t)i % 7 == round % 7 ? 3000 + (size_t)i : 1 + (round * 7) % 200;
            pattern_fill(text, len, t->seed, t->said);
            assert_int_equal(send(t->fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
            t->said += len;
        }
        for (int i = 0; i < 40; i++) {
            talker *t = &talkers[i];
            peer_takes_pattern(r, t->fd, t->said - t->heard, t->seed, t->heard);
            t->heard = t->said;
        }
    }
    talkers_leave(r, 40);
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

static void without_a_ring(int *failing, int error) {
    if (!offered()) skip();
    reactor *r = gather_talkers(40, 0);
    *failing = error;
    transfers.seen = 0;
    const int before = rings();
    for (int round = 0; round < 3; round++) all_talk(r, 40, 30);
    *failing = 0;
    all_talk(r, 40, 30);
    assert_int_equal(transfers.seen, 0);
    assert_int_equal(rings(), before);
    assert_string_equal(reactor_backend(r), "io_uring");
    assert_non_null(strstr(reactor_backend_reason(r), "io_uring, for streams: "));
    assert_non_null(strstr(reactor_backend_reason(r), strerror(error)));
    talkers_leave(r, 40);
}

/* Before Linux 5.18 a ring that one asks for so is invalid. */
CASE(streams_on_a_kernel_that_is_too_old) { without_a_ring(&setup_fails, EINVAL); }
CASE(streams_without_a_descriptor_for_the_ring) { without_a_ring(&setup_fails, EMFILE); }
CASE(streams_without_memory_for_the_ring) { without_a_ring(&map_fails, ENOMEM); }

static void *attach_and_talk(void *r) {
    attach_talkers((reactor *)r, 40);
    for (int round = 0; round < 3; round++) all_talk((reactor *)r, 40, 30);
    return NULL;
}

/* Made here, run by a thread that is gone by the end of it. */
CASE(another_thread_runs_the_loop_than_makes_and_ends_it) {
    if (!offered()) skip();
    const int before = rings();
    reactor_options o = {0};
    pthread_t thread;
    memset(talkers, 0, sizeof talkers);
    o.backend = "io_uring";
    reactor *r = begin_with(&o);
    transfers.seen = 0;
    assert_int_equal(pthread_create(&thread, NULL, attach_and_talk, r), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(transfers.seen > 0);
    reactor_destroy(r);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(talkers[i].p.closes, 1);
        close(talkers[i].fd);
    }
    assert_int_equal(rings(), before);
}

/* The ring is the parent's: the child makes one of its own when it goes on with the loop. */
static int transfers_in_child(reactor *r, int fd) {
    char byte = 0;
    reactor__core_transfer one = {0};
    one.data = &byte;
    one.fd = fd;
    one.len = 1;
    transfers.seen = 0;
    r->core.transfer(&r->core, &one, 1, 0);
    if (one.result != -EINTR || transfers.seen || r->core.transfer) return 1;
    if (reactor_fork(r) < 0 || rings()) return 2;
    for (int round = 0; round < 3; round++) all_talk(r, 40, 30);
    return !transfers.seen || rings() != 1;
}

CASE(a_forked_child_leaves_the_ring_alone) {
    if (!offered()) skip();
    int fd[2];
    make_pair(fd);
    assert_int_equal(write(fd[1], "x", 1), 1);
    reactor *r = gather_talkers(40, 0);
    for (int round = 0; round < 3; round++) all_talk(r, 40, 30);
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(transfers_in_child(r, fd[0]));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    transfers.seen = 0;
    for (int round = 0; round < 3; round++) all_talk(r, 40, 30);
    assert_true(transfers.seen > 0);
    talkers_leave(r, 40);
    close(fd[0]), close(fd[1]);
}

/* In a child: a filter that is there from now on, when the ring is or before that. */
static int filtered(int first, unsigned number) {
    reactor *r = gather_talkers(40, 0);
    for (int round = 0; round < first; round++) all_talk(r, 40, 30);
    if (forbid(number, EPERM) < 0) return 77;
    for (int round = 0; round < 3; round++) all_talk(r, 40, 30);
    if (!strstr(reactor_backend_reason(r), strerror(EPERM))) return 1;
    talkers_leave(r, 40);
    return 0;
}

static void in_child(int status) {
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip(); /* no filters here */
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void filtered_later(int first, unsigned number) {
    int status;
    if (!offered()) skip();
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(filtered(first, number));
    assert_int_equal(waitpid(child, &status, 0), child);
    in_child(status);
}

CASE(a_filter_is_installed_when_the_ring_is_there) { filtered_later(2, 426); }
CASE(a_filter_is_installed_before_the_ring_is_made) { filtered_later(0, 425); }

static void refused(unsigned number, unsigned error) {
    if (!offered()) skip();
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(without(number, error));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    in_child(status);
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

static void enter_missing(void **state) {
    (void)state;
    refused(426, ENOSYS);
}

/* Nothing is registered. */
static int registers_nothing(void) {
    if (forbid(427, EPERM) < 0) return 77;
    reactor *r = gather_talkers(40, 0);
    transfers.seen = 0;
    for (int round = 0; round < 3; round++) all_talk(r, 40, 30);
    talkers_leave(r, 40);
    return transfers.seen == 0;
}

CASE(register_refused_by_a_filter_does_not_matter) {
    int status;
    if (!offered()) skip();
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(registers_nothing());
    assert_int_equal(waitpid(child, &status, 0), child);
    in_child(status);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_ring_of_8_serves_300_streams),
        TEST(more_streams_are_ready_than_the_arena_serves_at_once),
        TEST(few_and_large_messages_go_without_the_ring),
        TEST(messages_of_all_sizes_in_one_turn),
        TEST(law17_transfers_that_fail_lose_nothing),
        TEST(law14_an_answer_that_fails_to_leave_keeps_its_place),
        TEST(streams_on_a_kernel_that_is_too_old),
        TEST(streams_without_a_descriptor_for_the_ring),
        TEST(streams_without_memory_for_the_ring),
        TEST(another_thread_runs_the_loop_than_makes_and_ends_it),
        TEST(a_forked_child_leaves_the_ring_alone),
        TEST(a_filter_is_installed_when_the_ring_is_there),
        TEST(a_filter_is_installed_before_the_ring_is_made),
        TEST(setup_refused_by_a_filter),
        TEST(setup_missing),
        TEST(enter_refused_by_a_filter),
        TEST(enter_missing),
        TEST(register_refused_by_a_filter_does_not_matter),
    };
    harness_unused();
    return cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
}
