/* Corners in which a promise was once not kept; each test's name says which law or feature it holds
   to. Most are about two things that meet: a close and a full input, a fork and a queue, a budget
   and the loop's end.

   The implementation is compiled into this file, so that its memory comes from an allocator which
   counts, fails when told to, and finds what is written beyond the end of a block or read after its
   release; so that epoll can refuse a change of interest; and so that a thread can be held up in
   the middle of a post, and its wake-up fail; the latter two not on Windows. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>
#endif

/* ---- memory ---- */

enum { HEAD = alignof(max_align_t) > sizeof(size_t) ? alignof(max_align_t) : sizeof(size_t) };
enum { TAIL = 64, GUARD = 0xa5, GONE = 0xdd };

static unsigned misuses; /* found by REACTOR_ASSERT */

static struct {
    size_t live;    /* bytes */
    int refuse;     /* no memory from now on */
    int trespassed; /* blocks that were written beyond their end */
} heap;

static void *guarded_malloc(size_t size) {
    unsigned char *at = heap.refuse ? NULL : malloc(HEAD + size + TAIL);
    if (!at) return NULL;
    memcpy(at, &size, sizeof size);
    memset(at + HEAD + size, GUARD, TAIL);
    heap.live += size;
    return at + HEAD;
}

static void guarded_free(void *data) {
    size_t size;
    if (!data) return;
    unsigned char *at = (unsigned char *)data - HEAD;
    memcpy(&size, at, sizeof size);
    for (size_t i = 0; i < TAIL; i++)
        if (at[HEAD + size + i] != GUARD) {
            heap.trespassed++;
            break;
        }
    heap.live -= size;
    memset(at, GONE, HEAD + size + TAIL);
    free(at);
}

/* Always moves, so that who keeps the old address is found. */
static void *guarded_realloc(void *old, size_t size) {
    size_t before;
    void *data = guarded_malloc(size);
    if (!data || !old) return data;
    memcpy(&before, (unsigned char *)old - HEAD, sizeof before);
    memcpy(data, old, before < size ? before : size);
    guarded_free(old);
    return data;
}

/* ---- refused changes ---- */

static int refuse_changes; /* so many times */

#ifndef _WIN32
static int refusing_epoll_ctl(int set, int what, int fd, struct epoll_event *event) {
    if (what == EPOLL_CTL_MOD && refuse_changes > 0) {
        refuse_changes--;
        errno = ENOMEM;
        return -1;
    }
    return epoll_ctl(set, what, fd, event);
}

/* ---- threads that are held up ---- */

/* One that posts: its calls are stages, and at some it lets another go and waits for it. */
typedef struct stages {
    int stage;
    struct {
        sem_t *go, *wait;
    } at[5];
} stages;

enum { LOCKS = 0, UNLOCKS = 1, WRITES = 2, LOCKS_AGAIN = 3, UNLOCKS_AGAIN = 4 };

/* Of this thread; tcc has no __thread. */
static pthread_key_t poster_key;
static pthread_once_t poster_once = PTHREAD_ONCE_INIT;
static void make_poster_key(void) { (void)pthread_key_create(&poster_key, NULL); }
static void set_poster(stages *s) {
    pthread_once(&poster_once, make_poster_key);
    pthread_setspecific(poster_key, s);
}
static stages *poster(void) {
    pthread_once(&poster_once, make_poster_key);
    return pthread_getspecific(poster_key);
}

static void hold(void) {
    stages *s = poster();
    if (!s) return;
    int stage = s->stage++;
    if (s->at[stage].go) sem_post(s->at[stage].go);
    if (s->at[stage].wait) sem_wait(s->at[stage].wait);
}

static int holding_lock(pthread_mutex_t *m) {
    int e = pthread_mutex_lock(m);
    hold();
    return e;
}

static int holding_unlock(pthread_mutex_t *m) {
    int e = pthread_mutex_unlock(m);
    hold();
    return e;
}

static ssize_t failing_write(int fd, const void *data, size_t len) {
    hold();
    if (!poster()) return write(fd, data, len);
    errno = EIO;
    return -1;
}

/* ---- long waits ---- */

static time_t longest_wait;

static int noting_pselect(int n, fd_set *in, fd_set *out, fd_set *other, const struct timespec *t,
                          const sigset_t *mask) {
    if (t && t->tv_sec > longest_wait) longest_wait = t->tv_sec;
    return pselect(n, in, out, other, t, mask);
}

#define pselect              noting_pselect
#define write                failing_write
#define pthread_mutex_lock   holding_lock
#define pthread_mutex_unlock holding_unlock
#define epoll_ctl            refusing_epoll_ctl
#include "libkqueue.h"
#endif
#define REACTOR_MALLOC(size)       guarded_malloc(size)
#define REACTOR_REALLOC(old, size) guarded_realloc(old, size)
#define REACTOR_FREE(data)         guarded_free(data)
#define REACTOR_ASSERT(condition)  ((condition) ? (void)0 : (void)misuses++)
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#include "../reactor.h"
#undef epoll_ctl
#undef pselect
#undef write
#undef pthread_mutex_lock
#undef pthread_mutex_unlock

#include "stream_help.h"

#ifdef _WIN32
/* For the tests that hold threads up, or look at how long select is to wait. */
typedef int sem_t;
#define sem_init(...) posix_missing_with(0, __VA_ARGS__)
#define sem_post(s)   (void)(s)
#define sem_wait(s)   (void)(s)
enum { LOCKS, UNLOCKS, WRITES, LOCKS_AGAIN, UNLOCKS_AGAIN };
typedef struct stages {
    struct {
        sem_t *go, *wait;
    } at[5];
} stages;
#define set_poster(s) (void)(s)
#define longest_wait  (*(time_t *)(intptr_t)posix_missing())
#endif

/* ---- what several tests use ---- */

enum { PATIENCE_MS = 20000 }; /* for a wait that something must end */

static reactor *begin_counted(const reactor_options *o) {
    heap.live = 0;
    heap.trespassed = 0;
    return begin_with(o);
}

static void done_with(reactor *r) {
    end(r);
    assert_int_equal(heap.trespassed, 0);
    assert_int_equal(heap.live, 0);
}

static void take_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r, (void)fd, (void)events, (void)user;
}

static void take_note(reactor *r, void *user) {
    int *ran = user;
    (void)r;
    ++*ran;
}

/* One on a unix pair whose peer reads nothing, with a queue that is far below its marks. */
static int attach_blocked(reactor *r, probe *p, receipt *freed, size_t *queued) {
    reactor_conn_options o = {.high_water = 8 * MIB, .max_output = 16 * MIB};
    int fd = attach_pair(r, p, &o);
    assert_int_equal(write_pattern(r, p->conn, 1 * MIB, 1, 0, freed), 0);
    turns(r, 5);
    *queued = reactor_pending(r, p->conn);
    assert_true(*queued > 0);
    return fd;
}

/* The kernel has it and the peer's end of file behind it. */
static void await_fin(int fd) {
    struct pollfd p = {fd, POLLIN | POLLRDHUP, 0};
    if (!PAIRS_HANG_UP) poll(NULL, 0, SETTLE_MS); /* Windows does not tell */
    while (PAIRS_HANG_UP && !(p.revents & POLLRDHUP))
        assert_true(poll(&p, 1, -1) >= 0 || errno == EINTR);
}

/* on_drain with a hook. */
static int hooked_on_drain(reactor *r, reactor_conn c, void *state) {
    probe *p = reactor_user(r, c);
    p->act(r, c, p);
    return probe_on_drain(r, c, state);
}
static const reactor_handler hooked_drain_handler = {
    sizeof(probe_state), probe_on_open,     probe_on_data,    probe_on_eof,
    hooked_on_drain,     probe_on_writable, probe_on_timeout, probe_on_close};
static const reactor_handler no_eof_handler = {
    sizeof(probe_state), probe_on_open,    probe_on_data, NULL, NULL,
    probe_on_writable,   probe_on_timeout, probe_on_close};

static reactor_conn attach_handled(reactor *r, int fd, const reactor_handler *h, probe *p,
                                   const reactor_conn_options *given) {
    reactor_conn_options o = {0};
    reactor_conn c = {0};
    int before = p->opens;
    if (given) o = *given;
    o.user = p;
    assert_int_equal(reactor_attach(r, fd, h, &o, &c), 0);
    UNTIL(r, p->opens > before);
    return c;
}

/* ---- posts ---- */

typedef struct chain {
    int ran, more;
} chain;

static void post_more(reactor *r, void *user) {
    chain *c = user;
    c->ran++;
    if (c->more-- > 0) assert_int_equal(reactor_post(r, post_more, c), 0);
}

CASE(law12_run_does_not_end_before_posts_beyond_the_budget) {
    reactor_options o = {.post_budget = 1};
    reactor *r = begin_counted(&o);
    chain c = {.more = 3};
    int ran = 0;
    assert_int_equal(reactor_post(r, post_more, &c), 0);
    for (int i = 0; i < 5; i++) assert_int_equal(reactor_post(r, take_note, &ran), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(ran, 5);
    assert_int_equal(c.ran, 4);
    done_with(r);
}

CASE(law13_posts_beyond_the_budget_do_not_wait_for_another_event) {
    reactor_options o = {.post_budget = 1};
    reactor *r = begin_counted(&o);
    chain c = {.more = 1};
    int ran = 0;
    reactor_ref(r);
    assert_int_equal(reactor_post(r, post_more, &c), 0);
    assert_int_equal(reactor_post(r, take_note, &ran), 0);
    int64_t start = clock_ns();
    for (int i = 0; i < 3; i++) assert_int_equal(reactor_poll(r, PATIENCE_MS), 1);
    assert_true(clock_ns() - start < PATIENCE_MS * INT64_C(1000000));
    assert_int_equal(c.ran, 2);
    assert_int_equal(ran, 1);
    done_with(r);
}

typedef struct failing_post {
    reactor *r;
    stages how;
    int ran, result;
    sem_t *end;
} failing_post;

static void *post_held(void *user) {
    failing_post *f = user;
    set_poster(&f->how);
    f->result = reactor_post(f->r, take_note, &f->ran);
    if (f->end) sem_post(f->end);
    return NULL;
}

/* Both are in the queue when neither can wake the loop, and the first is out of it before the second
   looks for its own. */
CASE(law17_posts_of_two_threads_that_cannot_wake_are_taken_back) {
    if (!backend_nests())
        skip(); /* only a loop that may be asleep is written to: a nested one is */
    reactor *r = begin_counted(NULL);
    assert_true(reactor_fd(r) >= 0);
    sem_t begun, queued, failed, failing, back;
    pthread_t threads[2];
    int ran = 0;
    sem_t *all[] = {&begun, &queued, &failed, &failing, &back};
    for (int i = 0; i < 5; i++) assert_return_code(sem_init(all[i], 0, 0), errno);
    failing_post posts[2] = {{.r = r, .end = &back}, {.r = r}};
    posts[0].how.at[UNLOCKS].go = &begun;
    posts[0].how.at[WRITES].wait = &queued;
    posts[1].how.at[UNLOCKS].go = &queued;
    posts[1].how.at[UNLOCKS].wait = &failed;
    posts[0].how.at[LOCKS_AGAIN].go = &failed;
    posts[0].how.at[LOCKS_AGAIN].wait = &failing;
    posts[1].how.at[WRITES].go = &failing;
    posts[1].how.at[WRITES].wait = &back;
    assert_int_equal(pthread_create(&threads[0], NULL, post_held, &posts[0]), 0);
    sem_wait(&begun);
    assert_int_equal(pthread_create(&threads[1], NULL, post_held, &posts[1]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(posts[i].result, -EIO);
    }
    assert_int_equal(reactor_post(r, take_note, &ran), 0);
    turns(r, 3);
    done_with(r);
    assert_int_equal(ran, 1);
    assert_int_equal(posts[0].ran + posts[1].ran, 0);
}

/* ---- long waits ---- */

CASE(law9_select_is_not_asked_to_wait_longer_than_every_system_takes) {
    enum { MOST_S = 100000000 }; /* macOS */
    reactor *r = begin_counted(NULL);
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_WRITE, take_io, NULL), 0);
    longest_wait = 0;
    assert_int_equal(reactor_poll(r, INT64_C(2000) * MOST_S), 1);
    assert_true(longest_wait <= MOST_S);
    if (on_backend("select")) assert_true(longest_wait > 0);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    close(fd[0]);
    close(fd[1]);
    done_with(r);
}

/* ---- batches and told errors ---- */

typedef struct tally {
    int calls;
    unsigned seen;
} tally;

static void count_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    tally *t = user;
    (void)r, (void)fd;
    t->calls++;
    t->seen |= events;
}

CASE(law8_batch_of_one_with_a_told_error_and_a_file) {
    reactor_options o = {.batch = 1};
    reactor *r = begin_counted(&o);
    tally bad = {0}, busy = {0}, file = {0};
    int gone[2], fd[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_return_code(pipe2(gone, O_CLOEXEC), errno);
    assert_return_code(pipe2(fd, O_CLOEXEC), errno);
    assert_int_equal(reactor_add(r, gone[0], REACTOR_READ, count_io, &bad), 0);
    close(gone[0]);
    assert_int_equal(reactor_add(r, fd[1], REACTOR_WRITE, count_io, &busy), 0);
    assert_int_equal(reactor_add(r, null, REACTOR_READ, count_io, &file), 0);
    for (int i = 0; i < 20; i++) {
        if (i < 10) reactor_modify(r, gone[0], REACTOR_READ | REACTOR_EDGE);
        turns(r, 1);
    }
    if (backend_has_edges()) assert_true(bad.seen & REACTOR_ERROR);
    assert_true(busy.calls > 0);
    assert_true(file.calls > 0);
    reactor_remove(r, gone[0]);
    assert_int_equal(reactor_remove(r, fd[1]), 0);
    assert_int_equal(reactor_remove(r, null), 0);
    close(gone[1]);
    close(fd[0]);
    close(fd[1]);
    close(null);
    done_with(r);
}

/* Where interest is told to the kernel, and it can refuse. */
CASE(law6_an_error_is_told_though_a_stop_comes_before) {
    if (on_backend("poll") || on_backend("select")) skip();
    reactor *r = begin_counted(NULL);
    tally bad = {0};
    int gone[2];
    assert_return_code(pipe2(gone, O_CLOEXEC), errno);
    assert_int_equal(reactor_add(r, gone[0], 0, count_io, &bad), 0);
    close(gone[0]);
    assert_int_equal(reactor_modify(r, gone[0], REACTOR_READ), 0);
    for (int i = 0; i < 10; i++) {
        reactor_stop(r);
        turns(r, 1);
    }
    UNTIL(r, bad.seen & REACTOR_ERROR);
    reactor_remove(r, gone[0]);
    close(gone[1]);
    done_with(r);
}

static void take_byte_and_stop(reactor *r, reactor_socket fd, unsigned events, void *user) {
    char byte;
    (void)events, (void)user;
    assert_int_equal(read(fd, &byte, 1), 1);
    reactor_stop(r);
}

CASE(law17_an_interest_refused_once_is_told_again_though_nothing_else_happens) {
    reactor *r = begin_counted(NULL);
    int fd[2];
    assert_return_code(pipe2(fd, O_CLOEXEC), errno);
    assert_int_equal(reactor_add(r, fd[0], 0, take_byte_and_stop, NULL), 0);
    assert_int_equal(write(fd[1], "x", 1), 1);
    refuse_changes = 1;
    assert_int_equal(reactor_modify(r, fd[0], REACTOR_READ), 0);
    assert_int_equal(reactor_run(r), 0);
    refuse_changes = 0;
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    close(fd[0]);
    close(fd[1]);
    done_with(r);
}

/* More at once than a batch has room for. */
CASE(law17_many_interests_refused_for_ever_are_told_as_errors) {
    enum { MANY = 20 };
    if (!on_backend("epoll")) skip();
    const reactor_options o = {.batch = 2};
    reactor *r = begin_counted(&o);
    tally each[MANY] = {{0, 0}};
    int fd[MANY][2];
    refuse_changes = INT_MAX;
    for (int i = 0; i < MANY; i++) {
        assert_return_code(pipe2(fd[i], O_CLOEXEC), errno);
        assert_int_equal(reactor_add(r, fd[i][0], 0, count_io, &each[i]), 0);
        assert_int_equal(reactor_modify(r, fd[i][0], REACTOR_READ), 0);
    }
    for (int i = 0; i < MANY; i++) UNTIL(r, each[i].seen & REACTOR_ERROR);
    refuse_changes = 0;
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(reactor_remove(r, fd[i][0]), 0);
        close(fd[i][0]);
        close(fd[i][1]);
    }
    done_with(r);
}

CASE(law17_a_listener_resumed_while_the_kernel_refuses_serves_later) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    server s = serve(r, &p);
    assert_int_equal(reactor_listener_pause(r, s.l), 0);
    turns(r, 2);
    refuse_changes = 2;
    assert_int_equal(reactor_listener_resume(r, s.l), 0);
    turns(r, 5);
    int fd = visit(r, &s, &p);
    refuse_changes = 0;
    close(fd);
    UNTIL(r, p.closes);
    done_with(r);
}

/* ---- input ---- */

static void hook_detach_at_six(reactor *r, reactor_conn c, probe *p) {
    size_t len = 0;
    reactor_socket *fd = p->extra;
    p->eat = 0;
    if (p->offered < 6) return;
    assert_int_equal(reactor_detach(r, c, fd, NULL, &len), 0);
    p->eat = p->offered;
}

/* The probe looks at what it was offered after its hook has detached. */
CASE(detach_inside_on_data_leaves_kept_input_readable) {
    for (int kept = 0; kept < 2; kept++) {
        reactor *r = begin_counted(NULL);
        reactor_socket back = (reactor_socket)-1;
        probe p = {.data = hook_detach_at_six, .extra = &back};
        int fd = attach_tcp_pair(r, &p, NULL);
        if (kept) {
            peer_say(r, fd, "abc");
            UNTIL(r, p.datas);
        }
        peer_say(r, fd, kept ? "def" : "abcdef");
        UNTIL(r, p.closes);
        assert_string_equal(p.text, "abcdef");
        assert_int_equal(p.reason, REACTOR_DETACHED);
        assert_int_equal(send(back, "mine", 4, MSG_NOSIGNAL), 4);
        peer_hears(r, fd, "mine");
        close(back);
        close(fd);
        done_with(r);
    }
}

CASE(law4_data_and_eof_that_are_there_at_open_reach_an_attached_one) {
    for (int tcp = 0; tcp < 2; tcp++) {
        reactor *r = begin_counted(NULL);
        probe p = {0};
        int fd[2];
        if (tcp)
            make_tcp_pair(fd);
        else
            make_pair(fd);
        assert_int_equal(write(fd[1], "abc", 3), 3);
        close(fd[1]);
        await_fin(fd[0]);
        attach_as(r, fd[0], &p, NULL);
        UNTIL(r, p.closes);
        assert_string_equal(p.text, "abc");
        assert_string_equal(p.log, "odec");
        assert_int_equal(p.reason, 0);
        done_with(r);
    }
}

CASE(law4_data_and_eof_that_are_there_at_open_reach_a_connected_one) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    char address[REACTOR_ADDRESS_MAX];
    int listener = answering(address), fd;
    probe_connect(r, address, &p, NULL);
    while ((fd = accept(listener, NULL, NULL)) < 0) {
        assert_int_equal(p.opens, 0);
        turns(r, 1);
    }
    assert_int_equal(write(fd, "abc", 3), 3);
    close(fd);
    UNTIL(r, p.closes);
    assert_string_equal(p.text, "abc");
    assert_string_equal(p.log, "odec");
    assert_int_equal(p.reason, 0);
    close(listener);
    done_with(r);
}

static void hook_answer_and_close_at_ten(reactor *r, reactor_conn c, probe *p) {
    p->eat = 0;
    if (p->offered < 10) return;
    assert_int_equal(reactor_write(r, c, "too large", 9), 0);
    assert_int_equal(reactor_close(r, c), 0);
}

CASE(law14_answer_and_close_at_the_input_limit_is_no_EMSGSIZE) {
    reactor *r = begin_counted(NULL);
    probe p = {.data = hook_answer_and_close_at_ten};
    reactor_conn_options o = {.max_input = 10};
    int fd = attach_tcp_pair(r, &p, &o);
    peer_say(r, fd, "0123456789abcdef");
    peer_hears(r, fd, "too large");
    peer_sees_eof(r, fd);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, 0);
    done_with(r);
}

static void hook_next_protocol_at_ten(reactor *r, reactor_conn c, probe *p) {
    if (p->eofs || p->offered < 10 || p->acted++) return;
    p->eat = 0;
    p->hold = 0;
    assert_int_equal(reactor_set_handler(r, c, &no_eof_handler), 0);
}

CASE(law14_set_handler_at_the_input_limit_is_no_EMSGSIZE) {
    reactor *r = begin_counted(NULL);
    probe p = {.data = hook_next_protocol_at_ten, .hold = 1};
    reactor_conn_options o = {.max_input = 10};
    int fd = attach_tcp_pair(r, &p, &o);
    peer_say(r, fd, "0123456789");
    UNTIL(r, p.in == 10 || p.closes);
    assert_int_equal(p.closes, 0);
    assert_string_equal(p.text, "0123456789");
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, 0);
    done_with(r);
}

/* A terminal has no half that could be shut: its end of file comes again with each look. */
CASE(law4_attached_terminal_that_ended_does_not_spin) {
    reactor *r = begin_counted(NULL);
    probe p = {.stay = 1};
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) || unlockpt(master)) {
        if (master >= 0) close(master);
        reactor_destroy(r);
        skip();
    }
    int fd = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_return_code(fd, errno);
    attach_as(r, fd, &p, NULL);
    assert_int_equal(write(master, "\x04", 1), 1);
    UNTIL(r, p.eofs);
    assert_int_equal(write(master, "abc\n", 4), 4);
    for (int tries = 0, slept = 0; !slept; tries++) { /* the kernel hands it over when it likes */
        int64_t start = clock_ns();
        assert_true(tries < 200);
        slept = reactor_poll(r, 20) == 0 && clock_ns() >= start + 20 * INT64_C(1000000);
    }
    assert_int_equal(p.eofs, 1);
    assert_int_equal(reactor_abort(r, p.conn), 0);
    UNTIL(r, p.closes);
    close(master);
    done_with(r);
}

/* ---- output ---- */

static void hook_echo_then_gather(reactor *r, reactor_conn c, probe *p) {
    reactor_iovec v[32];
    int n = *(const int *)p->extra;
    for (int i = 0; i < n; i++) v[i] = (reactor_iovec){p->bytes + 2 * i, 1};
    assert_int_equal(reactor_write(r, c, p->bytes, 4), 0);
    assert_int_equal(reactor_writev(r, c, v, n), 0);
}

CASE(writev_of_many_pieces_of_the_input_after_an_echo) {
    static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-";
    static const int counts[] = {1, 14, 15, 16, 17, 31, 32};
    for (size_t k = 0; k < COUNT(counts); k++) {
        reactor *r = begin_counted(NULL);
        probe p = {.data = hook_echo_then_gather};
        int n = counts[k];
        char expect[40] = "0123";
        p.extra = &n;
        int fd = attach_tcp_pair(r, &p, NULL);
        peer_say(r, fd, text);
        for (int i = 0; i < n; i++) expect[4 + i] = text[2 * i];
        peer_hears(r, fd, expect);
        turns(r, 5);
        assert_int_equal(peer_discard(fd), 0);
        close(fd);
        UNTIL(r, p.closes);
        done_with(r);
    }
}

/* Refills at once; gives up before the test's limit should a turn never end. */
static void hook_refill(reactor *r, reactor_conn c, probe *p) {
    const size_t *len = p->extra;
    if (p->writables > 1000) return;
    static const char zeros[3 * MIB];
    for (int i = 0; i < 2; i++) {
        int e = reactor_write(r, c, zeros, *len);
        assert_true(e == 1 || e == -ENOBUFS);
    }
}

static void refill(size_t len, size_t high_water) {
    reactor *r = begin_counted(NULL);
    probe p = {.open = hook_refill, .writable = hook_refill, .extra = &len};
    reactor_conn_options o = {.high_water = high_water};
    int fd[2], before = 0, most = 0;
    make_pair(fd);
    attach_as(r, fd[0], &p, &o);
    for (int i = 0; i < 50; i++, before = p.writables) {
        turns(r, 1);
        if (p.writables - before > most) most = p.writables - before;
        peer_discard(fd[1]);
    }
    assert_true(p.writables > 1);
    assert_true(most <= 2); /* by an event, and by what the end of the turn sends */
    assert_int_equal(reactor_abort(r, p.conn), 0);
    close(fd[1]);
    UNTIL(r, p.closes);
    done_with(r);
}
CASE(law13_a_turn_ends_though_on_writable_refills_and_is_refused) { refill(3 * MIB, 0); }
CASE(law13_a_turn_ends_though_on_writable_refills_what_was_sent) { refill(1000, 1); }

CASE(memory_of_small_copies_between_shared_pieces_is_bounded) {
    static const char data[256];
    for (size_t len = 60; len <= sizeof data; len += sizeof data - 60) {
        reactor *r = begin_counted(NULL);
        probe p = {0};
        receipt freed = {0};
        int fd = attach_pair(r, &p, NULL), e = 0;
        assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
        turns(r, 5);
        reactor_buffer *shared = reactor_buffer_new(data, len);
        size_t before = heap.live, queued = reactor_pending(r, p.conn);
        while (e >= 0) {
            e = reactor_write(r, p.conn, "head", 4);
            if (e >= 0) e = reactor_write_shared(r, p.conn, shared);
        }
        assert_int_equal(e, -ENOBUFS);
        assert_true(reactor_pending(r, p.conn) > 3 * MIB);
        assert_true(heap.live - before < 3 * (reactor_pending(r, p.conn) - queued));
        reactor_buffer_unref(shared);
        assert_int_equal(reactor_abort(r, p.conn), 0);
        UNTIL(r, p.closes);
        assert_int_equal(freed.calls, 1);
        close(fd);
        done_with(r);
    }
}

/* ---- files ---- */

CASE(sendfile_above_64_files_is_high_and_above_1024_is_ENOBUFS) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    receipt freed = {0}, refused = {0};
    size_t queued;
    int fd = attach_blocked(r, &p, &freed, &queued), file = pattern_file(1024, 2, 0);
    for (int i = 0; i < 1024; i++)
        assert_int_equal(reactor_sendfile(r, p.conn, file, i, 1, 0, NULL, NULL), i >= 64);
    size_t live = heap.live;
    for (int i = 0; i < 100; i++)
        assert_int_equal(
            reactor_sendfile(r, p.conn, file, 0, 1, REACTOR_CLOSE_FILE, note_done, &refused),
            -ENOBUFS);
    assert_int_equal(heap.live, live);
    assert_int_equal(refused.calls, 0);
    assert_true(fcntl(file, F_GETFD) >= 0); /* still the caller's */
    assert_int_equal(reactor_pending(r, p.conn), queued + 1024);
    peer_takes_pattern(r, fd, 1 * MIB, 1, 0);
    peer_takes_pattern(r, fd, 1024, 2, 0);
    UNTIL(r, p.writables);
    turns(r, 5);
    assert_int_equal(p.writables, 1);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, 5, 0, NULL, NULL), 0);
    peer_takes_pattern(r, fd, 5, 2, 0);
    close(file);
    close(fd);
    UNTIL(r, p.closes);
    done_with(r);
}

enum { FILE_LEN = 64 * KIB, REQUESTS = 300 };

/* A file for each byte. */
static void hook_serve_file(reactor *r, reactor_conn c, probe *p) {
    const int *file = p->extra;
    for (size_t i = 0; i < p->eat; i++)
        assert_true(reactor_sendfile(r, c, *file, 0, FILE_LEN, 0, NULL, NULL) >= 0);
}

CASE(law14_accepted_does_not_read_above_64_queued_files) {
    reactor *r = begin_counted(NULL);
    int file = pattern_file(FILE_LEN, 3, 0);
    probe p = {.data = hook_serve_file, .extra = &file};
    server s = serve_unix(r, &p, NULL);
    int fd = visit(r, &s, &p);
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
        turns(r, 2);
    }
    turns(r, 10);
    assert_true(p.in > 64);
    assert_true(p.in < 128);
    for (int i = 0; i < REQUESTS; i++) peer_takes_pattern(r, fd, FILE_LEN, 3, 0);
    assert_int_equal(p.in, REQUESTS);
    close(file);
    close(fd);
    UNTIL(r, p.closes);
    done_with(r);
}

typedef struct finish {
    int calls, result, abort, quiet;
    size_t pending;
} finish;

static void write_when_done(reactor *r, reactor_conn c, int result, void *user) {
    finish *f = user;
    f->calls++;
    f->result = result;
    f->pending = reactor_pending(r, c);
    if (f->abort)
        assert_int_equal(reactor_abort(r, c), 0);
    else if (!f->quiet)
        assert_true(reactor_write(r, c, "done", 4) >= 0);
}

/* Inside done too. */
CASE(pending_is_nothing_after_a_finished_sendfile) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    int file = pattern_file(1 * MIB, 4, 0);
    finish sent = {.quiet = 1};
    for (size_t len = 1; len <= 1 * MIB; len *= 1024) {
        int before = sent.calls;
        assert_int_equal(
            reactor_sendfile(r, p.conn, file, 0, (int64_t)len, 0, write_when_done, &sent), 0);
        assert_int_equal(reactor_pending(r, p.conn), len);
        peer_takes_pattern(r, fd, len, 4, 0);
        UNTIL(r, sent.calls > before);
        assert_int_equal(sent.result, 0);
        assert_int_equal(sent.pending, 0);
        assert_int_equal(reactor_pending(r, p.conn), 0);
    }
    assert_int_equal(reactor_write(r, p.conn, "x", 1), 0);
    peer_hears(r, fd, "x");
    assert_int_equal(reactor_pending(r, p.conn), 0);
    close(file);
    close(fd);
    UNTIL(r, p.closes);
    done_with(r);
}

/* What done writes comes behind what was queued before it, blocked or not. */
CASE(sendfile_done_may_write_behind_what_is_queued) {
    for (int blocked = 0; blocked < 2; blocked++) {
        reactor *r = begin_counted(NULL);
        probe p = {0};
        receipt freed = {0};
        finish f = {0};
        size_t queued;
        int file = pattern_file(1000, 5, 0);
        int fd = blocked ? attach_blocked(r, &p, &freed, &queued) : attach_pair(r, &p, NULL);
        assert_int_equal(reactor_sendfile(r, p.conn, file, 0, -1, 0, write_when_done, &f), 0);
        assert_int_equal(reactor_write(r, p.conn, "after", 5), 0);
        if (blocked) peer_takes_pattern(r, fd, 1 * MIB, 1, 0);
        peer_takes_pattern(r, fd, 1000, 5, 0);
        peer_hears(r, fd, "afterdone");
        assert_int_equal(f.calls, 1);
        assert_int_equal(f.result, 0);
        assert_true(f.pending <= 5);
        turns(r, 2);
        assert_int_equal(reactor_pending(r, p.conn), 0);
        close(file);
        close(fd);
        UNTIL(r, p.closes);
        done_with(r);
    }
}

CASE(sendfile_done_that_aborts_is_called_once) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    finish f = {.abort = 1};
    size_t bytes;
    int file = pattern_file(1000, 5, 0), fd = attach_pair(r, &p, NULL);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, -1, 0, write_when_done, &f), 0);
    assert_int_equal(reactor_write(r, p.conn, "after", 5), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ECONNABORTED);
    assert_int_equal(f.calls, 1);
    assert_int_equal(f.result, 0);
    peer_end(r, fd, &bytes);
    assert_true(bytes <= 1005);
    close(file);
    close(fd);
    done_with(r);
}

/* ---- ends ---- */

CASE(detach_with_an_empty_file_queued_is_EBUSY) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    int fd = attach_tcp_pair(r, &p, NULL);
    reactor_socket back = (reactor_socket)-1;
    receipt sent = {.of = &p, .file = pattern_file(10, 6, 0)};
    size_t len = 0;
    assert_int_equal(reactor_sendfile(r, p.conn, sent.file, 0, 0, 0, note_done, &sent), 0);
    assert_int_equal(sent.calls, 0);
    assert_int_equal(reactor_detach(r, p.conn, &back, NULL, &len), -EBUSY);
    UNTIL(r, sent.calls);
    assert_int_equal(sent.result, 0);
    assert_int_equal(reactor_detach(r, p.conn, &back, NULL, &len), 0);
    UNTIL(r, p.closes);
    assert_int_equal(sent.calls, 1);
    close(sent.file);
    close(back);
    close(fd);
    done_with(r);
}

CASE(detach_with_a_shutdown_promised_is_EBUSY) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    int fd = attach_tcp_pair(r, &p, NULL);
    reactor_socket back = (reactor_socket)-1;
    size_t len = 0;
    assert_int_equal(reactor_shutdown(r, p.conn), 0);
    assert_int_equal(reactor_detach(r, p.conn, &back, NULL, &len), -EBUSY);
    peer_sees_eof(r, fd);
    assert_int_equal(p.closes, 0);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, 0);
    done_with(r);
}

/* The peer has taken nothing for longer than the timeout when the close comes. */
static void close_late(int drain) {
    enum { TIMEOUT_MS = 300 };
    reactor *r = begin_counted(NULL);
    probe p = {0};
    receipt freed = {0};
    reactor_conn_options o = {
        .coupled = -1, .close_timeout_ms = TIMEOUT_MS, .max_output = 16 * MIB};
    int fd[2];
    make_pair(fd);
    attach_handled(r, fd[0], drain ? &drain_handler : &no_eof_handler, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 8 * MIB, 1, 0, &freed), 1);
    pass(r, TIMEOUT_MS + 100);
    assert_int_equal(p.closes, 0);
    int64_t start = clock_ns();
    if (drain)
        assert_int_equal(reactor_drain(r, -1), 0);
    else
        assert_return_code(shutdown(fd[1], SHUT_WR), errno);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_true(p.at - start >= TIMEOUT_MS * INT64_C(1000000));
    assert_int_equal(freed.calls, 1);
    close(fd[1]);
    done_with(r);
}
CASE(close_timeout_counts_from_the_close_by_end_of_file) { close_late(0); }
CASE(close_timeout_counts_from_the_close_by_drain) { close_late(1); }

enum { DRAIN_LEN = 100000 };

static void hook_write_much(reactor *r, reactor_conn c, probe *p) {
    char *data = pattern_new(DRAIN_LEN, 7, 0);
    int *e = p->extra;
    *e = reactor_write(r, c, data, DRAIN_LEN);
    free(data);
}

CASE(drain_sends_what_on_drain_writes_and_tells_on_writable) {
    reactor *r = begin_counted(NULL);
    int fd[2], written = -1;
    probe p = {.answer = 1, .act = hook_write_much, .extra = &written};
    make_tcp_pair(fd);
    attach_handled(r, fd[0], &hooked_drain_handler, &p, NULL);
    assert_int_equal(reactor_drain(r, -1), 0);
    peer_takes_pattern(r, fd[1], DRAIN_LEN, 7, 0);
    assert_int_equal(written, 1);
    UNTIL(r, p.writables);
    turns(r, 5);
    assert_int_equal(p.writables, 1);
    assert_int_equal(p.drains, 1);
    assert_int_equal(reactor_pending(r, p.conn), 0);
    close(fd[1]);
    UNTIL(r, p.closes);
    done_with(r);
}

static void hook_resume(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_resume(r, c), 0);
}

CASE(drain_delivers_input_that_on_drain_resumes) {
    reactor *r = begin_counted(NULL);
    int fd[2];
    probe p = {.answer = 1, .act = hook_resume};
    make_tcp_pair(fd);
    attach_handled(r, fd[0], &hooked_drain_handler, &p, NULL);
    assert_int_equal(reactor_pause(r, p.conn), 0);
    turns(r, 3);
    assert_int_equal(send(fd[1], "abc", 3, MSG_NOSIGNAL), 3);
    struct pollfd there = {fd[0], POLLIN, 0};
    assert_int_equal(poll(&there, 1, -1), 1);
    turns(r, 3);
    assert_int_equal(p.datas, 0);
    assert_int_equal(reactor_drain(r, -1), 0);
    UNTIL(r, p.in == 3);
    assert_string_equal(p.text, "abc");
    close(fd[1]);
    UNTIL(r, p.closes);
    done_with(r);
}

CASE(drain_again_with_an_earlier_deadline_wakes_the_outer_loop) {
    if (!backend_nests()) skip();
    reactor *r = begin_counted(NULL);
    probe p = {0};
    receipt freed = {0};
    size_t queued;
    int outer = reactor_fd(r);
    assert_true(outer >= 0);
    int fd = attach_blocked(r, &p, &freed, &queued);
    assert_int_equal(reactor_drain(r, 3600 * 1000), 0);
    turns(r, 5);
    assert_int_equal(reactor_drain(r, 50), -EALREADY);
    while (!p.closes) {
        struct pollfd ready = {outer, POLLIN, 0};
        assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
        turns(r, 1);
    }
    assert_int_equal(freed.calls, 1);
    close(fd);
    done_with(r);
}

/* ---- timeouts ---- */

CASE(set_timeout_before_on_open_does_not_call_before_it) {
    reactor *r = begin_counted(NULL);
    probe p = {.answer = 1};
    int fd[2];
    make_pair(fd);
    static const char zeros[4096];
    while (send(fd[0], zeros, sizeof zeros, MSG_NOSIGNAL) > 0) continue;
    reactor_conn c = attach_as(r, fd[0], &p, NULL);
    assert_int_equal(reactor_set_timeout(r, c, REACTOR_TIMEOUT_IDLE, 1), 0);
    assert_int_equal(reactor_write(r, c, zeros, sizeof zeros), 0);
    for (int64_t till = clock_ns() + 5 * INT64_C(1000000); clock_ns() < till;) continue;
    UNTIL(r, p.timeouts);
    assert_int_equal(p.log[0], 'o');
    assert_int_equal(reactor_abort(r, c), 0);
    UNTIL(r, p.closes);
    close(fd[1]);
    done_with(r);
}

CASE(law17_set_timeout_without_memory_is_ENOMEM_and_the_connection_lives) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    heap.refuse = 1;
    int e = reactor_set_timeout(r, p.conn, REACTOR_TIMEOUT_IDLE, 3600 * 1000);
    heap.refuse = 0;
    assert_true(e == -ENOMEM || e == 0); /* there may have been room */
    peer_say(r, fd, "x");
    UNTIL(r, p.in == 1 || p.closes);
    assert_int_equal(p.closes, 0);
    close(fd);
    UNTIL(r, p.closes);
    done_with(r);
}

/* ---- the end of the loop ---- */

CASE(a_write_to_no_handle_is_EBADF_before_anything_was_written) {
    reactor *r = begin_counted(NULL);
    reactor_conn none = {0};
    probe p = {0};
    assert_int_equal(reactor_write(r, none, NULL, 0), -EBADF);
    assert_int_equal(reactor_write(r, none, "x", 1), -EBADF);
    server s = serve_unix(r, &p, NULL);
    assert_int_equal(reactor_write(r, none, NULL, 0), -EBADF);
    assert_int_equal(reactor_write(r, none, "x", 1), -EBADF);
    int fd = visit(r, &s, &p);
    assert_int_equal(reactor_write(r, p.conn, "y", 1), 0);
    peer_hears(r, fd, "y");
    close(fd);
    UNTIL(r, p.closes);
    done_with(r);
}

static void close_when_done(reactor *r, reactor_conn c, int result, void *user) {
    write_when_done(r, c, result, user);
    assert_int_equal(reactor_close(r, c), 0);
}

CASE(law15_done_may_close_when_destroy_sends_the_rest) {
    reactor *r = begin_counted(NULL);
    probe p = {0};
    finish sent = {.quiet = 1};
    int fd = attach_pair(r, &p, NULL), file = pattern_file(1 * KIB, 4, 0);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, 1 * KIB, 0, close_when_done, &sent), 0);
    reactor_destroy(r);
    assert_int_equal(heap.live, 0);
    assert_int_equal(sent.calls, 1);
    assert_int_equal(sent.result, 0);
    assert_int_equal(p.closes, 1);
    assert_int_equal(p.reason, -ECANCELED);
    close(file);
    close(fd);
}

/* More than the kernel is given of one connection at once, and it would take all. */
CASE(law15_destroy_with_more_queued_than_a_turn_sends) {
    reactor *r = begin_counted(NULL);
    reactor_conn_options o = {.max_output = 8 * MIB};
    static const char zeros[4 * KIB];
    probe p = {0};
    int fd = attach_pair(r, &p, &o), size = 64 * MIB;
    if (setsockopt(reactor_conn_socket(r, p.conn), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) <
        0)
        print_message("no right to a large buffer: it blocks before\n");
    for (size_t sent = 0; sent < 4 * MIB; sent += sizeof zeros)
        assert_true(reactor_write(r, p.conn, zeros, sizeof zeros) >= 0);
    assert_int_equal(reactor_pending(r, p.conn), 4 * MIB);
    reactor_destroy(r);
    assert_int_equal(heap.live, 0);
    assert_int_equal(p.closes, 1);
    close(fd);
}

/* ---- calls from another thread ---- */

typedef struct visitor {
    reactor *r;
    reactor_conn conn;
    int ran;
    unsigned misuses[8];
} visitor;

static void *visits(void *user) {
    visitor *v = user;
    unsigned *at = v->misuses;
    misuses = 0;
    assert_int_equal(reactor_post(v->r, take_note, &v->ran), 0);
    reactor_wake(v->r);
    *at++ = misuses;
    reactor_defer(v->r, take_note, &v->ran);
    *at++ = misuses;
    reactor_find(v->r, 0, NULL);
    *at++ = misuses;
    reactor_pause(v->r, v->conn);
    *at++ = misuses;
    reactor_listen(v->r, "unix:@nobody", &probe_handler, NULL, NULL);
    *at++ = misuses;
    reactor_poll(v->r, 0); /* refused: an error says so */
    *at++ = misuses;
    return NULL;
}

/* The other thread has it to itself, so that nothing but the rule is broken. */
CASE(a_call_from_another_thread_is_misuse_once_the_loop_has_run) {
    for (int runs = 0; runs < 2; runs++) {
        reactor *r = begin_counted(NULL);
        probe p = {0};
        int fd[2];
        pthread_t thread;
        visitor v = {.r = r};
        make_pair(fd);
        if (runs) turn(r);
        v.conn = attach_as(r, fd[0], &p, NULL);
        assert_int_equal(pthread_create(&thread, NULL, visits, &v), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        const unsigned each[] = {0, 1, 2, 3, 4, 4};
        for (size_t i = 0; i < COUNT(each); i++) assert_int_equal(v.misuses[i], runs ? each[i] : 0);
        reactor_destroy(r);
        assert_int_equal(v.ran, 2);
        close(fd[1]);
        assert_int_equal(heap.live, 0);
    }
}

/* ---- a child that destroys its copy inside a callback ---- */

typedef struct family {
    pid_t child;
    int ran;
    reactor_conn c;
} family;

static void part(reactor *r, family *f) {
    f->child = fork();
    if (f->child == 0) reactor_destroy(r);
}

/* The child leaves here, once the callback in which it destroyed its loop has returned. */
static void await_child(const family *f) {
    int status = -1;
    if (f->child == 0) _exit(heap.trespassed ? 70 : 0);
    assert_return_code(f->child, errno);
    while (waitpid(f->child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The parent's loop: whole, and woken by another thread. */
static void *post_from_thread(void *user) {
    reactor *r = *(reactor **)user;
    static int unused;
    int e = reactor_post(r, take_note, &unused);
    return e ? user : NULL;
}

static void assert_posts_wake(reactor *r) {
    pthread_t thread;
    void *failed = NULL;
    int ran = 0;
    turns(r, 5);
    uint64_t before = counters(r).posts;
    int64_t start = clock_ns();
    assert_int_equal(reactor_post(r, take_note, &ran), 0);
    assert_true(reactor_poll(r, PATIENCE_MS) > 0);
    assert_int_equal(ran, 1);
    assert_int_equal(pthread_create(&thread, NULL, post_from_thread, &r), 0);
    while (counters(r).posts < before + 2) assert_true(reactor_poll(r, PATIENCE_MS) >= 0);
    assert_true(clock_ns() - start < PATIENCE_MS * INT64_C(1000000));
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
}

static void part_in_timer(reactor *r, reactor_timer t, void *user) {
    family *f = user;
    (void)t;
    assert_int_equal(reactor_post(r, take_note, &f->ran), 0);
    part(r, f);
}

CASE(law11_child_destroying_its_copy_in_a_callback_leaves_posts_waking) {
    reactor *r = begin_counted(NULL);
    family f = {.child = -1};
    reactor_ref(r);
    assert_int_equal(reactor_after(r, 1, part_in_timer, &f, NULL), 0);
    while (f.child < 0) reactor_poll(r, PATIENCE_MS);
    await_child(&f);
    while (!f.ran) assert_true(reactor_poll(r, PATIENCE_MS) > 0);
    assert_posts_wake(r);
    assert_int_equal(f.ran, 1);
    done_with(r);
}

typedef struct locked_family {
    family f;
    stages how;
    reactor *r;
    pthread_t thread;
    sem_t locked, parted;
} locked_family;

static void *post_slowly(void *user) {
    locked_family *l = user;
    set_poster(&l->how);
    return reactor_post(l->r, take_note, &l->f.ran) == -EIO ? NULL : user;
}

static void part_while_a_post_is_under_way(reactor *r, reactor_timer t, void *user) {
    locked_family *l = user;
    (void)t;
    assert_int_equal(reactor_post(r, take_note, &l->f.ran), 0);
    assert_int_equal(pthread_create(&l->thread, NULL, post_slowly, l), 0);
    sem_wait(&l->locked);
    part(r, &l->f);
    if (l->f.child == 0)
        alarm(10);
    else
        sem_post(&l->parted);
}

/* The thread that holds the lock of the posts is not there in the child. */
CASE(law11_child_destroying_its_copy_while_another_thread_posts_ends) {
    reactor *r = begin_counted(NULL);
    locked_family l = {.f.child = -1, .r = r};
    void *wrong = NULL;
    assert_return_code(sem_init(&l.locked, 0, 0), errno);
    assert_return_code(sem_init(&l.parted, 0, 0), errno);
    l.how.at[LOCKS].go = &l.locked;
    l.how.at[LOCKS].wait = &l.parted;
    assert_int_equal(reactor_after(r, 1, part_while_a_post_is_under_way, &l, NULL), 0);
    while (l.f.child < 0) reactor_poll(r, PATIENCE_MS);
    await_child(&l.f);
    assert_int_equal(pthread_join(l.thread, &wrong), 0);
    while (!l.f.ran) assert_true(reactor_poll(r, PATIENCE_MS) > 0);
    done_with(r);
    (void)wrong; /* whether its wake-up was needed, and so failed, is a race */
}

/* What the callback goes on to do with the loop that it has destroyed stays in the child. */
static void part_and_remove(reactor *r, reactor_timer t, void *user) {
    int *fd = user;
    (void)t;
    fd[2] = fork();
    if (fd[2]) return;
    reactor_destroy(r);
    reactor_remove(r, fd[0]);
}

CASE(law11_child_removing_a_watcher_after_destroy_does_not_remove_the_parents) {
    reactor *r = begin_counted(NULL);
    int fd[3] = {-1, -1, -1}, status = -1;
    tally seen = {0};
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, count_io, &seen), 0);
    assert_int_equal(reactor_after(r, 1, part_and_remove, fd, NULL), 0);
    while (fd[2] < 0) reactor_poll(r, PATIENCE_MS);
    if (fd[2] == 0) _exit(0);
    while (waitpid(fd[2], &status, 0) < 0) assert_int_equal(errno, EINTR);
    assert_int_equal(status, 0);
    assert_int_equal(send(fd[1], "x", 1, MSG_NOSIGNAL), 1);
    assert_true(reactor_poll(r, PATIENCE_MS) > 0);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    close(fd[0]);
    close(fd[1]);
    done_with(r);
}

static void part_in_data(reactor *r, reactor_conn c, probe *p) {
    if (p->acted++) return;
    assert_int_equal(reactor_write(r, c, "hello", 5), 0);
    part(r, p->extra);
}

static void part_among_writes(reactor *r, reactor_timer t, void *user) {
    family *f = user;
    (void)t;
    assert_int_equal(reactor_write(r, f->c, "hello", 5), 0);
    part(r, f);
}

/* In the connection's own callback, and in another's. */
CASE(law11_child_destroying_its_copy_in_a_callback_sends_the_peer_nothing) {
    for (int own = 0; own < 2; own++) {
        reactor *r = begin_counted(NULL);
        family f = {.child = -1};
        probe p = {.extra = &f};
        int fd = attach_tcp_pair(r, &p, NULL);
        f.c = p.conn;
        if (own) {
            p.data = part_in_data;
            assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
        } else {
            assert_int_equal(reactor_after(r, 1, part_among_writes, &f, NULL), 0);
        }
        while (f.child < 0) reactor_poll(r, PATIENCE_MS);
        await_child(&f);
        peer_hears(r, fd, "hello");
        turns(r, 5);
        char more;
        assert_int_equal(recv(fd, &more, 1, 0), -1); /* neither bytes nor end of file */
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(reactor_write(r, p.conn, "on", 2), 0);
        peer_hears(r, fd, "on");
        peer_say(r, fd, "y");
        UNTIL(r, p.in == (own ? 2 : 1));
        assert_int_equal(p.closes, 0);
        assert_posts_wake(r);
        close(fd);
        UNTIL(r, p.closes);
        assert_int_equal(p.reason, 0);
        done_with(r);
    }
}

static void echo_and_part(reactor *r, reactor_conn c, probe *p) {
    family *f = p->extra;
    hook_echo(r, c, p);
    if (++f->ran == 4) part(r, f);
}

/* Of what one turn brings some have answered when the process forks: each peer hears one answer. */
CASE(law11_child_destroying_its_copy_among_many_answers_nobody) {
    enum { MANY = 10 };
    static probe p[MANY];
    reactor *r = begin_counted(NULL);
    family f = {.child = -1};
    int fd[MANY];
    memset(p, 0, sizeof p);
    for (int i = 0; i < MANY; i++) {
        p[i].extra = &f;
        p[i].data = echo_and_part;
        fd[i] = attach_tcp_pair(r, &p[i], NULL);
    }
    turns(r, 3);
    for (int i = 0; i < MANY; i++) assert_int_equal(send(fd[i], "hello", 5, MSG_NOSIGNAL), 5);
    while (f.child < 0) reactor_poll(r, PATIENCE_MS);
    await_child(&f);
    for (int i = 0; i < MANY; i++) peer_hears(r, fd[i], "hello");
    turns(r, 5);
    for (int i = 0; i < MANY; i++) {
        char more;
        assert_int_equal(recv(fd[i], &more, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(p[i].closes, 0);
        close(fd[i]);
    }
    for (int i = 0; i < MANY; i++) UNTIL(r, p[i].closes);
    done_with(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(law12_run_does_not_end_before_posts_beyond_the_budget),
        TEST(law13_posts_beyond_the_budget_do_not_wait_for_another_event),
        TEST(law17_posts_of_two_threads_that_cannot_wake_are_taken_back),
        TEST(law9_select_is_not_asked_to_wait_longer_than_every_system_takes),
        TEST(law8_batch_of_one_with_a_told_error_and_a_file),
        TEST(law6_an_error_is_told_though_a_stop_comes_before),
        TEST(law17_an_interest_refused_once_is_told_again_though_nothing_else_happens),
        TEST(law17_many_interests_refused_for_ever_are_told_as_errors),
        TEST(law17_a_listener_resumed_while_the_kernel_refuses_serves_later),
        TEST(detach_inside_on_data_leaves_kept_input_readable),
        TEST(law4_data_and_eof_that_are_there_at_open_reach_an_attached_one),
        TEST(law4_data_and_eof_that_are_there_at_open_reach_a_connected_one),
        TEST(law14_answer_and_close_at_the_input_limit_is_no_EMSGSIZE),
        TEST(law14_set_handler_at_the_input_limit_is_no_EMSGSIZE),
        TEST(law4_attached_terminal_that_ended_does_not_spin),
        TEST(writev_of_many_pieces_of_the_input_after_an_echo),
        TEST(law13_a_turn_ends_though_on_writable_refills_and_is_refused),
        TEST(law13_a_turn_ends_though_on_writable_refills_what_was_sent),
        TEST(memory_of_small_copies_between_shared_pieces_is_bounded),
        TEST(sendfile_above_64_files_is_high_and_above_1024_is_ENOBUFS),
        TEST(law14_accepted_does_not_read_above_64_queued_files),
        TEST(pending_is_nothing_after_a_finished_sendfile),
        TEST(sendfile_done_may_write_behind_what_is_queued),
        TEST(sendfile_done_that_aborts_is_called_once),
        TEST(detach_with_an_empty_file_queued_is_EBUSY),
        TEST(detach_with_a_shutdown_promised_is_EBUSY),
        TEST(close_timeout_counts_from_the_close_by_end_of_file),
        TEST(close_timeout_counts_from_the_close_by_drain),
        TEST(drain_sends_what_on_drain_writes_and_tells_on_writable),
        TEST(drain_delivers_input_that_on_drain_resumes),
        TEST(drain_again_with_an_earlier_deadline_wakes_the_outer_loop),
        TEST(set_timeout_before_on_open_does_not_call_before_it),
        TEST(law17_set_timeout_without_memory_is_ENOMEM_and_the_connection_lives),
        TEST(a_write_to_no_handle_is_EBADF_before_anything_was_written),
        TEST(law15_done_may_close_when_destroy_sends_the_rest),
        TEST(law15_destroy_with_more_queued_than_a_turn_sends),
        TEST(a_call_from_another_thread_is_misuse_once_the_loop_has_run),
        TEST(law11_child_destroying_its_copy_in_a_callback_leaves_posts_waking),
        TEST(law11_child_destroying_its_copy_while_another_thread_posts_ends),
        TEST(law11_child_removing_a_watcher_after_destroy_does_not_remove_the_parents),
        TEST(law11_child_destroying_its_copy_in_a_callback_sends_the_peer_nothing),
        TEST(law11_child_destroying_its_copy_among_many_answers_nobody),
    };
    return cmocka_run_group_tests_name("findings", tests, NULL, NULL);
}
