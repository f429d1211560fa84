/* What every behaviour test stands on: cmocka, a loop on the backend under test, a time limit for
   each test, socket pairs, and a way to wait for what can be observed instead of sleeping.

   The tests, not the library, read the environment: REACTOR_TEST_BACKEND names the backend that
   make_loop asks for. One test program is run once for each backend. */
#ifndef HARNESS_H
#define HARNESS_H

#include "../reactor.h"

#ifdef _WIN32
#include "win32/posix.h"
#else
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define IGNORE_SIGPIPE         signal(SIGPIPE, SIG_IGN)
#define NEEDS_UNIX_PAIRS       ((void)0)
#define NEEDS_FILES_TO_WATCH   ((void)0)
#define NEEDS_REUSE_PORT       ((void)0)
#define NEEDS_MODES_TO_ASK     ((void)0)
#define NEEDS_INTERFACE_NAMES  ((void)0)
#define PAIRS_HANG_UP          1
#define PAIRS_SETTLE_MS        0
#define SOCKETS_DUP            1
#define KINDS_TO_WATCH         6 /* of descriptors */
#define RESETS_SET_SO_ERROR    1
#define FILES_KEEP_THEIR_PLACE 1
#define BACKENDS_AT_LEAST      3
#ifdef __linux__
#define LOOPBACK_MS 0
#define SETTLE_MS   20
#else
#define LOOPBACK_MS 10  /* the BSDs' loopback delivers after the call has returned, by a thread */
#define SETTLE_MS   300 /* and their timers may be that coarse */
#endif
#endif
#ifdef _WIN32
#define LOOPBACK_MS 0
#endif

/* After a send, a close or a reset: until the other end of a TCP connection on this machine can have
   heard of it, where that is not before the call returns. For tests that then look once. */
static void loopback_settles(void) {
#if !defined(_WIN32) && !defined(__linux__)
    poll(NULL, 0, LOOPBACK_MS);
#endif
}

#include <cmocka.h>

/* Seconds that one test may take before it is ended as failed: generous, for a hang is the only
   thing it is there to find, and the machine may be busy with other things. */
enum { TEST_LIMIT_S = 600 };

static const char *backend_under_test(void) {
    const char *name = getenv("REACTOR_TEST_BACKEND");
    return name && *name ? name : NULL;
}

static int on_backend(const char *name) {
    const char *now = backend_under_test();
    return strcmp(now ? now : reactor_backend_name(0), name) == 0;
}

/* For tests of what libkqueue, over which the kqueue backend is tested on Linux, does not do as a
   kernel's kqueue would: if (libkqueue_cannot("...")) skip(). The reason is shown. */
#ifdef __linux__
enum { ON_LINUX = 1 };
#else
enum { ON_LINUX = 0 };
#endif
static int libkqueue_cannot(const char *what) {
    if (!ON_LINUX || !on_backend("kqueue")) return 0;
    print_message("libkqueue cannot %s\n", what);
    return 1;
}

#define SEE_A_CLOSE "see a close: the description that a duplicate holds open goes on reporting"
#define BE_POLLED   "be polled: its descriptor is a pipe's writing end"

/* What some backends promise beyond the rest, and are held to: one that is not named here has
   neither edges nor a descriptor of its own. */
static int backend_has_edges(void) {
    return on_backend("epoll") || on_backend("io_uring") || on_backend("kqueue");
}

/* Run by an emulator, qemu-user, whose own limits are not the library's. */
static int emulated(void) { return getenv("REACTOR_TEST_RUNNER") != NULL; }

/* The library is that of tests/portable/old_kernel.c. */
static int old_kernel(void) { return getenv("REACTOR_TEST_OLD_KERNEL") != NULL; }

/* Whether a loop's own descriptor can be waited for. */
static int backend_nests(void) { return backend_has_edges() && !libkqueue_cannot(BE_POLLED); }

/* libkqueue has some of its own from the first kqueue on, and closes those of each in a thread. */
#ifdef REACTOR_TEST_KQUEUE
int kqueue(void);
void libkqueue_drain_pending_close(void);
static void settle_descriptors(void) {
    static int begun;
    if (!on_backend("kqueue")) return;
    if (!begun++) close(kqueue());
    libkqueue_drain_pending_close();
}
#else
static void settle_descriptors(void) {}
#endif

static reactor *make_loop_with(const reactor_options *given) {
    reactor_options options;
    memset(&options, 0, sizeof options);
    if (given) options = *given;
    if (!options.backend) options.backend = backend_under_test();
    settle_descriptors();
    reactor *r = NULL;
    int e = reactor_create(&r, &options);
    if (e < 0)
        fail_msg("reactor_create(%s): %s", options.backend ? options.backend : "best",
                 reactor_strerror(e));
    return r;
}

static reactor *make_loop(void) { return make_loop_with(NULL); }

static void time_is_up(int signum) {
    static const char text[] = "\nTIME LIMIT: the test above did not end\n";
    (void)signum;
    if (write(2, text, sizeof text - 1) < 0) _exit(98);
    _exit(99);
}

/* Use as the group's setup and teardown of each test: cmocka_unit_test_setup_teardown. */
static int test_begins(void **state) {
    (void)state;
    signal(SIGALRM, time_is_up);
    alarm(TEST_LIMIT_S);
    return 0;
}
static int test_ends(void **state) {
    (void)state;
    alarm(0);
    return 0;
}
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_begins, test_ends)

static void make_pair(int fd[2]) {
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd),
                       errno);
}

/* A connected pair over TCP on the loopback, both ends non-blocking. */
static void make_tcp_pair(int fd[2]) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(listener, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(listen(listener, 1), errno);
    assert_return_code(getsockname(listener, (struct sockaddr *)&a, &len), errno);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(connect(fd[0], (struct sockaddr *)&a, sizeof a), errno);
    fd[1] = accept(listener, NULL, NULL);
    assert_return_code(fd[1], errno);
    close(listener);
    for (int i = 0; i < 2; i++) fcntl(fd[i], F_SETFL, fcntl(fd[i], F_GETFL) | O_NONBLOCK);
}

/* Resets instead of closing in order. */
static void close_with_reset(int fd) {
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
    loopback_settles();
}

/* Whether pipe(2) makes both of its ends for both directions, as FreeBSD's, OpenBSD's and DragonFly's
   does: neither direction ends alone then. */
static int pipes_go_both_ways(void) {
#ifdef _WIN32
    return 0;
#else
    int fd[2];
    if (pipe(fd) < 0) return 0;
    int mode = fcntl(fd[1], F_GETFL) & O_ACCMODE;
    close(fd[0]), close(fd[1]);
    return mode == O_RDWR;
#endif
}

/* Turns the loop until *flag is at least value; the test's time limit ends it otherwise. */
static void run_until(reactor *r, const volatile int *flag, int value) {
    while (*flag < value) {
        int e = reactor_poll(r, 1000);
        if (e < 0) fail_msg("reactor_poll: %s", reactor_strerror(e));
    }
}

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Descriptors that this process has open: what a test leaves behind, it leaked. */
static int open_descriptors(void) {
    int n = 0;
    settle_descriptors();
    for (int fd = 0; fd < 4096; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Keeps compilers quiet about what a test file does not use. */
static inline void harness_unused(void) {
    (void)on_backend;
    (void)backend_has_edges;
    (void)emulated;
    (void)old_kernel;
    (void)backend_nests;
    (void)make_loop;
    (void)make_pair;
    (void)make_tcp_pair;
    (void)close_with_reset;
    (void)loopback_settles;
    (void)pipes_go_both_ways;
    (void)run_until;
    (void)clock_ns;
    (void)open_descriptors;
    (void)test_begins;
    (void)test_ends;
}

#endif
