/* backends: one
   The kqueue backend as it is on a BSD: with the wake-up, the descriptor and the ends of filters that
   libkqueue does not have. A kernel's part is imitated on top of it: a close takes the filters
   along, an addition may be refused, calls are counted. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "libkqueue.h"

#ifdef REACTOR_TEST_KQUEUE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the imitation ---- */

static int kernel_kq = -1;
static int kernel_calls;
static int refused_fd = -1, refused_with; /* for additions of this filter: */
static int refused_filter = EVFILT_WRITE;
static struct kevent added; /* the last one */
static int adds_of_reading;
static int timers_added;
static int last_fd = -1;     /* of this one the first event of an end is its filter's last */
static int (*between)(void); /* called once, between the two changes that take a trigger back */
static int between_result;

static int kernel_kqueue(void) { return kernel_kq = kqueue(); }

static int kernel_last(int kq, int n, struct kevent *events) {
    for (int i = 0; i < n; i++) {
        if ((int)events[i].ident != last_fd || !(events[i].flags & EV_EOF)) continue;
        struct kevent k = events[i];
        k.flags = EV_DELETE;
        mended_kevent(kq, &k, 1, NULL, 0, NULL);
        events[i].flags |= EV_ONESHOT;
        refused_fd = last_fd;
        refused_with = EPIPE;
    }
    return n;
}

static int kernel_kevent(int kq, const struct kevent *changes, int n, struct kevent *events,
                         int max, const struct timespec *timeout) {
    struct kevent allowed[64];
    int refused = 0, count = 0;
    kernel_calls++;
    if (between && n == 2 && changes[0].filter == EVFILT_USER && (changes[0].flags & EV_DELETE)) {
        if (mended_kevent(kq, changes, 1, events, max, timeout) < 0) return -1;
        int (*call)(void) = between;
        between = NULL;
        between_result = call();
        changes++;
        n--;
    }
    memset(allowed, 0, sizeof allowed);
    for (int i = 0; i < n; i++) {
        if (changes[i].flags & EV_ADD) added = changes[i];
        if (changes[i].flags & EV_ADD) {
            adds_of_reading += changes[i].filter == EVFILT_READ;
            timers_added += changes[i].filter == EVFILT_TIMER;
        }
        int bad = changes[i].filter == refused_filter && (changes[i].flags & EV_ADD) &&
                  (int)changes[i].ident == refused_fd;
        if (bad && refused < max) {
            events[refused] = changes[i];
            events[refused].flags = EV_ERROR;
            events[refused++].data = refused_with;
        } else
            allowed[count++] = changes[i];
    }
    if (!refused)
        return kernel_last(kq, mended_kevent(kq, changes, n, events, max, timeout), events);
    int told = mended_kevent(kq, allowed, count, events + refused, max - refused,
                             &(struct timespec){0, 0});
    return told < 0 ? told : told + refused;
}

/* The call fails; it does not know the descriptor; it tells no room beside an end, as on macOS. */
static int no_poll, no_poll_for, no_room;

static int kernel_poll(struct pollfd *fds, nfds_t n, int timeout) {
    errno = ENOMEM;
    if (no_poll) return -1;
    int told = poll(fds, n, timeout);
    for (nfds_t i = 0; i < n; i++) {
        if (no_poll_for) fds[i].revents = POLLNVAL;
        if (no_room) fds[i].revents &= (short)~POLLOUT;
    }
    return told;
}

static int no_listeners; /* as on macOS, where nobody can be asked whether he is one */

static int kernel_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    if (!no_listeners || name != SO_ACCEPTCONN) return getsockopt(fd, level, name, value, len);
    errno = ENOPROTOOPT;
    return -1;
}

/* knote_fdclose of a BSD. */
static int kernel_close(int fd) {
    struct kevent k[2];
    memset(k, 0, sizeof k);
    for (int i = 0; i < 2 && fd != kernel_kq; i++) {
        k[i].ident = (uintptr_t)fd;
        k[i].filter = i ? EVFILT_WRITE : EVFILT_READ;
        k[i].flags = EV_DELETE | EV_RECEIPT;
    }
    if (fd != kernel_kq) (kevent)(kernel_kq, k, 2, k, 2, &(struct timespec){0, 0});
    return close(fd);
}

#undef kevent
#define kevent(...)     kernel_kevent(__VA_ARGS__)
#define kqueue()        kernel_kqueue()
#define close(fd)       kernel_close(fd)
#define poll(...)       kernel_poll(__VA_ARGS__)
#define getsockopt(...) kernel_getsockopt(__VA_ARGS__)

#define REACTOR__KQUEUE_NATIVE          1
#define REACTOR__KQUEUE_ENDS_BY_READING 1 /* as on NetBSD */
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_POLL
#include "../reactor.h"

#undef kevent
#undef kqueue
#undef poll
#undef getsockopt

#include "recorder.h"

/* Events that are there, left where they are if they are levels. */
static int events_there(reactor *r, int ms) {
    struct kevent e[8];
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    return mended_kevent(reactor_fd(r), NULL, 0, e, 8, &t);
}

/* ---- being woken ---- */

static void count_task(reactor *r, void *user) {
    (void)r;
    ++*(volatile int *)user;
}

static void *post_thousand(void *user) {
    void **with = user;
    for (int i = 0; i < 1000; i++) assert_int_equal(reactor_post(with[0], count_task, with[1]), 0);
    return NULL;
}

static void posts_wake_without_a_descriptor(void **state) {
    (void)state;
    int before = open_descriptors();
    reactor *r = make_loop();
    volatile int count = 0;
    void *with[2] = {r, (void *)(uintptr_t)&count};
    pthread_t thread;
    assert_string_equal(reactor_backend(r), "kqueue");
    for (int i = 0; i < 10; i++) {
        int goal = count + 1000;
        assert_int_equal(pthread_create(&thread, NULL, post_thousand, with), 0);
        while (count < goal) assert_true(reactor_poll(r, -1) >= 0);
        pthread_join(thread, NULL);
    }
    assert_int_equal(count, 10000);
    reactor_destroy(r);
    assert_int_equal(open_descriptors(), before);
}

static void a_stop_is_used_up(void **state) {
    (void)state;
    reactor *r = make_loop();
    for (int i = 0; i < 5; i++) {
        reactor_stop(r);
        assert_int_equal(reactor_run(r), 0);
        int64_t start = clock_ns();
        assert_int_equal(reactor_poll(r, 20), 0);
        assert_true(clock_ns() - start >= 20 * INT64_C(1000000));
        reactor_wake(r);
        start = clock_ns();
        assert_int_equal(reactor_poll(r, 30000), 0);
        assert_true(clock_ns() - start < 20000 * INT64_C(1000000));
    }
    reactor_destroy(r);
}

/* The loop takes a trigger back by deleting and adding. Here another thread, which has posted, comes
   between the two. */
static reactor *triggered;

static int trigger(void) { return reactor__kqueue_wake(&triggered->core, 1); }

static void a_trigger_is_not_refused_while_one_is_taken_back(void **state) {
    (void)state;
    reactor *r = make_loop();
    volatile int count = 0;
    void *task = (void *)(uintptr_t)&count;
    assert_int_equal(reactor_post(r, count_task, task), 0);
    reactor_stop(r);
    triggered = r;
    between = trigger;
    between_result = 1;
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(between_result, 0);
    assert_int_equal(reactor_poll(r, 30000), 1);
    assert_int_equal(reactor_post(r, count_task, task), 0);
    while (count < 2) assert_true(reactor_poll(r, 30000) >= 0);
    reactor_destroy(r);
}

/* ---- changes ---- */

static void changes_of_a_turn_cost_no_call(void **state) {
    (void)state;
    enum { N = 10 }; /* what the list of changes holds */
    reactor *r = make_loop();
    record seen = {0};
    int fd[N][2];
    for (int i = 0; i < N; i++) {
        make_pair(fd[i]);
        int calls = kernel_calls;
        assert_int_equal(reactor_add(r, fd[i][0], READ, on_io, &seen), 0);
        assert_int_equal(kernel_calls, calls + 1);
    }
    int calls = kernel_calls;
    for (int i = 0; i < N; i++) assert_int_equal(reactor_modify(r, fd[i][0], READ | WRITE), 0);
    assert_int_equal(turns(r, 1), N);
    assert_int_equal(kernel_calls, calls + 1);
    for (int i = 0; i < N; i++) assert_int_equal(reactor_remove(r, fd[i][0]), 0);
    assert_int_equal(kernel_calls, calls + 1);
    assert_int_equal(turns(r, 1), 0);
    assert_int_equal(kernel_calls, calls + 2);
    reactor_destroy(r);
    for (int i = 0; i < N; i++) close_pair(fd[i]);
}

/* A number that was removed, closed and taken again before the deletion was sent. */
static void deletions_come_before_what_follows_them(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    for (int i = 0; i < 100; i++) {
        int fd[2], other[2];
        make_pair(fd);
        put(fd[1]);
        assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
        if (i & 1) assert_int_equal(reactor_remove(r, fd[0]), 0);
        close(fd[0]);
        if (!(i & 1)) assert_int_equal(reactor_remove(r, fd[0]), 0);
        make_pair(other);
        assert_int_equal(other[0], fd[0]);
        assert_int_equal(reactor_add(r, other[0], READ, on_io, &next), 0);
        assert_int_equal(turns(r, 1), 0);
        put(other[1]);
        assert_int_equal(turns(r, 1), 1);
        assert_int_equal(next.last, READ);
        assert_int_equal(reactor_remove(r, other[0]), 0);
        close(fd[1]);
        close_pair(other);
    }
    assert_int_equal(seen.calls, 0);
    reactor_destroy(r);
}

/* What a filter was may not rub off on the other one of its descriptor, as it does in libkqueue if
   one is added before the other is deleted: a level that nobody can be told of ends every wait. */
static void from_every_interest_to_every_other(void **state) {
    (void)state;
    static const unsigned all[] = {
        0, READ, WRITE, READ | WRITE, READ | EDGE, WRITE | EDGE, READ | WRITE | EDGE};
    enum { N = sizeof all / sizeof *all };
    for (int i = 0; i < 2 * N * N; i++) {
        const unsigned from = all[i % N], to = all[i / N % N],
                       there = i < N * N ? WRITE : READ | WRITE;
        reactor *r = make_loop();
        record seen = {0};
        int fd[2];
        make_pair(fd);
        if (there & READ) put(fd[1]);
        assert_int_equal(reactor_add(r, fd[0], from, on_io, &seen), 0);
        turns(r, 2);
        assert_int_equal(reactor_modify(r, fd[0], to), 0);
        turns(r, 2);
        seen.calls = 0;
        const int level = to & EDGE ? 0 : !!(to & there & READ) + !!(to & there & WRITE);
        if (events_there(r, 0) != level)
            fail_msg("from 0x%x to 0x%x: %d", from, to, events_there(r, 0));
        assert_int_equal(turns(r, 2), level ? 2 : 0);
        reactor_destroy(r);
        close_pair(fd);
    }
}

/* macOS and FreeBSD refuse the write end of a pipe that nobody reads. */
static void a_refused_pipe_is_told_as_an_error(void **state) {
    (void)state;
    for (int late = 0; late < 2; late++) {
        reactor *r = make_loop();
        record seen = {0};
        int fd[2];
        assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
        close(fd[0]);
        refused_fd = fd[1];
        refused_with = EPIPE;
        assert_int_equal(reactor_add(r, fd[1], late ? 0 : WRITE, on_io, &seen), 0);
        if (late) assert_int_equal(reactor_modify(r, fd[1], WRITE), 0);
        for (int i = 0; i < 20 && !seen.calls; i++) turns(r, 1);
        assert_int_equal(seen.last, WRITE | ERROR);
        refused_fd = -1;
        assert_int_equal(reactor_remove(r, fd[1]), 0);
        reactor_destroy(r);
        close(fd[1]);
    }
}

/* FreeBSD drops the filter of a pipe's writer with the event that tells of its reader's end. */
static void a_writer_is_told_again_that_nobody_reads(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
    assert_int_equal(reactor_add(r, fd[1], WRITE, on_io, &seen), 0);
    last_fd = fd[1];
    close(fd[0]);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(turns(r, 1), 1);
        assert_int_equal(seen.last & (WRITE | ERROR), WRITE | ERROR);
    }
    assert_int_equal(refused_fd, fd[1]);
    assert_int_equal(seen.calls, 20);
    assert_int_equal(reactor_modify(r, fd[1], 0), 0);
    assert_int_equal(turns(r, 5), 0);
    assert_int_equal(reactor_modify(r, fd[1], WRITE | EDGE), 0);
    assert_int_equal(turns(r, 5), 1);
    assert_int_equal(reactor_modify(r, fd[1], WRITE), 0);
    assert_int_equal(turns(r, 5), 5);
    last_fd = refused_fd = -1;
    reactor_destroy(r);
    close(fd[1]);
}

/* FreeBSD 15 has a filter for /dev/null, of which READ never comes. */
static void dev_null_is_always_ready(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_return_code(fd, errno);
    int calls = kernel_calls;
    assert_int_equal(reactor_add(r, fd, READ | WRITE, on_io, &seen), 0);
    assert_int_equal(kernel_calls, calls); /* it is not asked */
    assert_int_equal(turns(r, 3), 3);
    assert_int_equal(seen.last, READ | WRITE);
    reactor_destroy(r);
    close(fd);
}

/* NetBSD tells the end of a pipe's reader by the writer's reading filter alone. */
static void a_writer_has_a_filter_for_its_end(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
    memset(&added, 0, sizeof added);
    adds_of_reading = 0;
    assert_int_equal(reactor_add(r, fd[1], WRITE, on_io, &seen), 0);
    assert_int_equal(adds_of_reading, 1);
    assert_int_equal(turns(r, 3), 3);
    assert_int_equal(seen.all, WRITE);
    assert_int_equal(reactor_modify(r, fd[1], 0), 0);
    assert_int_equal(turns(r, 3), 0);
    close(fd[0]);
    assert_int_equal(turns(r, 3), 0);
    assert_int_equal(reactor_modify(r, fd[1], WRITE), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(adds_of_reading, 2);
    reactor_destroy(r);
    close(fd[1]);
    make_pair(fd); /* sockets go both ways: of them it would be data */
    r = make_loop();
    adds_of_reading = 0;
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &seen), 0);
    assert_int_equal(adds_of_reading, 0);
    reactor_destroy(r);
    close_pair(fd);
}

/* NetBSD says something else of that. */
static void a_pipe_that_nobody_reads_is_open(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
    close(fd[0]);
    refused_fd = fd[1];
    refused_with = EBADF;
    assert_int_equal(reactor_add(r, fd[1], WRITE, on_io, &seen), 0);
    for (int i = 0; i < 20 && !seen.calls; i++) turns(r, 1);
    assert_int_equal(seen.last, WRITE | ERROR);
    refused_fd = -1;
    reactor_destroy(r);
    close(fd[1]);
}

/* It has no filter for the direction that it has not, on NetBSD. */
static void a_pipe_without_the_other_direction_is_no_file(void **state) {
    (void)state;
    static const unsigned first[] = {0, READ, WRITE, READ | WRITE};
    for (int i = 0; i < 4; i++) {
        reactor *r = make_loop();
        record seen = {0};
        int fd[2];
        assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
        refused_fd = fd[1];
        refused_with = EINVAL;
        refused_filter = EVFILT_READ;
        assert_int_equal(reactor_add(r, fd[1], first[i], on_io, &seen), 0);
        assert_int_equal(turns(r, 3), first[i] & WRITE ? 3 : 0);
        assert_int_equal(reactor_modify(r, fd[1], READ), 0);
        seen.all = 0;
        assert_int_equal(turns(r, 5), 0);
        assert_int_equal(reactor_modify(r, fd[1], WRITE), 0);
        assert_int_equal(turns(r, 3), 3);
        assert_int_equal(seen.all, WRITE);
        refused_fd = -1;
        refused_filter = EVFILT_WRITE;
        reactor_destroy(r);
        close_pair(fd);
    }
}

/* macOS has no filter for /dev/tty. To take it for a file would be a spin. */
static void a_terminal_is_never_always_ready(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) skip(); /* a container without pseudo terminals */
    refused_fd = fd;
    refused_with = EINVAL;
    assert_int_equal(reactor_add(r, fd, READ | WRITE, on_io, &seen), -EINVAL);
    assert_int_equal(turns(r, 2), 0);
    refused_fd = -1;
    reactor_destroy(r);
    close(fd);
}

static void what_has_no_filters_is_always_ready(void **state) {
    (void)state;
    static const int errors[] = {EINVAL, ENODEV, ENOTSUP, EPERM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        reactor *r = make_loop();
        record seen = {0};
        int fd[2];
        make_pair(fd);
        refused_fd = fd[0];
        refused_with = errors[i];
        assert_int_equal(reactor_add(r, fd[0], READ | WRITE, on_io, &seen), 0);
        assert_int_equal(turns(r, 3), 3);
        assert_int_equal(seen.last, READ | WRITE);
        refused_fd = -1;
        reactor_destroy(r);
        close_pair(fd);
    }
}

/* Its deletion may have been lost. It is deleted then, for it would end every wait. */
static void an_event_of_what_is_not_watched_is_none(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    struct kevent room = added;
    room.filter = EVFILT_WRITE;
    room.flags = EV_ADD;
    assert_int_equal(mended_kevent(kernel_kq, &room, 1, NULL, 0, NULL), 0);
    assert_int_equal(events_there(r, 0), 1);
    assert_int_equal(turns(r, 3), 0);
    assert_int_equal(events_there(r, 0), 0);
    put(fd[1]);
    assert_int_equal(turns(r, 3), 3);
    assert_int_equal(seen.all, READ);
    reactor_destroy(r);
    close_pair(fd);
}

static void an_end_is_told_without_poll(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    close(fd[1]);
    no_poll = 1;
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, READ);
    no_poll = 0;
    no_poll_for = 1;
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, READ);
    no_poll_for = 0;
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, READ | HANGUP);
    reactor_destroy(r);
    close(fd[0]);
}

static void an_end_does_not_hide_room(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ | WRITE, on_io, &seen), 0);
    assert_return_code(shutdown(fd[1], SHUT_WR), errno);
    no_room = 1;
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, READ | WRITE);
    no_room = 0;
    reactor_destroy(r);
    close_pair(fd);
}

static void other_refusals_are_the_callers(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    refused_fd = fd[0];
    refused_with = ENOMEM;
    assert_int_equal(reactor_add(r, fd[0], READ | WRITE, on_io, &seen), -ENOMEM);
    put(fd[1]);
    assert_int_equal(turns(r, 2), 0); /* nothing was left behind */
    refused_fd = -1;
    assert_int_equal(reactor_add(r, fd[0], READ | WRITE, on_io, &seen), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, READ | WRITE);
    reactor_destroy(r);
    close_pair(fd);
}

/* ---- being nested ---- */

static void its_descriptor_tells_what_is_due(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0}, timer = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_true(reactor_fd(r) >= 0);
    turns(r, 1);
    assert_int_equal(events_there(r, 0), 0);
    assert_int_equal(reactor_add(r, fd[0], 0, on_io, &seen), 0);
    assert_int_equal(events_there(r, 0), 0);
    assert_int_equal(reactor_modify(r, fd[0], READ), 0); /* sent at once */
    assert_int_equal(events_there(r, 0), 1);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_int_equal(events_there(r, 0), 0);
    int64_t start = clock_ns();
    assert_int_equal(reactor_after(r, 20, on_timer, &timer, NULL), 0);
    assert_int_equal(events_there(r, 30000), 1);
    assert_true(clock_ns() - start >= 20 * INT64_C(1000000));
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(timer.calls, 1);
    assert_int_equal(events_there(r, 0), 0);
    reactor_destroy(r);
    close_pair(fd);
}

/* What is due at once needs no timer, which would be a tick late; and goes as it came. */
static void what_is_due_at_once_is_told_at_once(void **state) {
    (void)state;
    reactor *r = make_loop();
    record timer = {0};
    volatile int count = 0;
    reactor_timer t;
    assert_true(reactor_fd(r) >= 0);
    turns(r, 1);
    timers_added = 0;
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(reactor_defer(r, count_task, (void *)(uintptr_t)&count), 0);
        assert_int_equal(events_there(r, 0), 1);
        assert_int_equal(timers_added, 0);
        turns(r, 1);
        assert_int_equal(count, i);
        assert_int_equal(events_there(r, 0), 0);
    }
    assert_int_equal(reactor_after(r, 0, on_timer, &timer, &t), 0);
    assert_int_equal(reactor_cancel(r, t), 0);
    turns(r, 1);
    assert_int_equal(events_there(r, 0), 0);
    assert_int_equal(reactor_after(r, 20, on_timer, &timer, &t), 0);
    assert_int_equal(timers_added, 1);
    assert_int_equal(reactor_reset(r, t, 0), 0);
    assert_int_equal(events_there(r, 0), 1);
    assert_int_equal(reactor_reset(r, t, 3600000), 0);
    assert_int_equal(reactor_reset(r, t, 0), 0);
    assert_int_equal(reactor_reset(r, t, 3600000), 0); /* taken back unseen */
    assert_int_equal(events_there(r, 0), 0);
    assert_int_equal(timer.calls, 0);
    reactor_destroy(r);
}

/* ---- fork ---- */

/* The child has no kqueue: what has its number there is somebody else's. */
static void a_child_closes_no_number_of_the_kqueue(void **state) {
    (void)state;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2], number = kernel_kq, status;
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) {
        int null = open("/dev/null", O_RDONLY), calls = kernel_calls;
        if (null != number && dup2(null, number) != number) _exit(1);
        reactor_destroy(r);
        _exit(fcntl(number, F_GETFD) < 0 ? 2 : kernel_calls == calls ? 0 : 3);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    put(fd[1]);
    assert_int_equal(turns(r, 2), 2);
    reactor_destroy(r);
    close_pair(fd);
}

/* ---- streams ---- */

static size_t send_back(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    reactor_write(r, c, data, len);
    return len;
}

static void connections_come_and_go(void **state) {
    (void)state;
    static const reactor_handler echo = {.on_data = send_back};
    int before = open_descriptors();
    reactor *r = make_loop();
    for (int i = 0; i < 300; i++) {
        int fd[2];
        char got = 0;
        make_pair(fd);
        assert_int_equal(reactor_attach(r, fd[0], &echo, NULL, NULL), 0);
        put(fd[1]);
        while (read(fd[1], &got, 1) != 1) assert_true(reactor_poll(r, 1000) >= 0);
        close(fd[1]);
        for (reactor_counters n = {.connections = 1}; n.connections; reactor_stats(r, &n))
            assert_true(reactor_poll(r, 1000) >= 0);
    }
    reactor_destroy(r);
    assert_int_equal(open_descriptors(), before);
}

static void sockets_that_do_not_tell_whether_they_listen(void **state) {
    (void)state;
    static const reactor_handler echo = {.on_data = send_back};
    reactor *r = make_loop();
    int fd[2], listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char address[16];
    make_pair(fd);
    assert_return_code(bind(listening, (struct sockaddr *)&name, sizeof name.sun_family), errno);
    assert_return_code(listen(listening, 1), errno);
    no_listeners = 1;
    snprintf(address, sizeof address, "fd:%d", fd[1]);
    assert_int_equal(reactor_listen(r, address, &echo, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_attach(r, fd[0], &echo, NULL, NULL), 0);
    snprintf(address, sizeof address, "fd:%d", listening);
    assert_int_equal(reactor_listen(r, address, &echo, NULL, NULL), 0);
    no_listeners = 0;
    reactor_destroy(r);
    close(fd[1]);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        TEST(posts_wake_without_a_descriptor),
        TEST(a_stop_is_used_up),
        TEST(a_trigger_is_not_refused_while_one_is_taken_back),
        TEST(changes_of_a_turn_cost_no_call),
        TEST(deletions_come_before_what_follows_them),
        TEST(from_every_interest_to_every_other),
        TEST(a_refused_pipe_is_told_as_an_error),
        TEST(a_writer_is_told_again_that_nobody_reads),
        TEST(dev_null_is_always_ready),
        TEST(a_writer_has_a_filter_for_its_end),
        TEST(a_pipe_that_nobody_reads_is_open),
        TEST(a_pipe_without_the_other_direction_is_no_file),
        TEST(a_terminal_is_never_always_ready),
        TEST(what_has_no_filters_is_always_ready),
        TEST(an_event_of_what_is_not_watched_is_none),
        TEST(an_end_is_told_without_poll),
        TEST(an_end_does_not_hide_room),
        TEST(other_refusals_are_the_callers),
        TEST(its_descriptor_tells_what_is_due),
        TEST(what_is_due_at_once_is_told_at_once),
        TEST(a_child_closes_no_number_of_the_kqueue),
        TEST(connections_come_and_go),
        TEST(sockets_that_do_not_tell_whether_they_listen),
    };
    return cmocka_run_group_tests_name("kqueue", tests, NULL, NULL);
}
#else
#include <stdio.h>

int main(void) {
    puts("kqueue: skipped, KQUEUE_CFLAGS and KQUEUE_LIBS are not set");
    puts("0 passed, 0 failed, 1 skipped");
    return 0;
}
#endif
