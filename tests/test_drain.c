/* reactor_drain: nothing is lost of what the kernel already has, what is handed over meanwhile is
   taken, what holds the loop holds the drain, and all of it comes to an end. What it does to the
   connections that there are is in test_stream_end.c. */
/* ldflags: -Wl,--wrap=clock_gettime */
#include "stream_help.h"

#define MS INT64_C(1000000)

/* The probe's handler with a hook in on_drain: probe.extra. */
static int on_drain_hooked(reactor *r, reactor_conn c, void *state) {
    probe *p = reactor_user(r, c);
    int answer = probe_on_drain(r, c, state);
    if (p->extra) (*(probe_hook **)p->extra)(r, c, p);
    return answer;
}
static const reactor_handler hooked_handler = {
    sizeof(probe_state), probe_on_open,     probe_on_data,    probe_on_eof,
    on_drain_hooked,     probe_on_writable, probe_on_timeout, probe_on_close};

static void assert_drained(reactor *r) {
    assert_int_equal(counters(r).listeners, 0);
    assert_int_equal(counters(r).connections, 0);
}

/* ---- peers in the backlog ---- */

/* Connected, and waiting in the backlog with their request sent. */
static void wait_in_line(const server *s, int *fd, int n, const char *request) {
    for (int i = 0; i < n; i++) {
        fd[i] = dial(s->address);
        if (*request)
            assert_int_equal(send(fd[i], request, strlen(request), MSG_NOSIGNAL),
                             (ssize_t)strlen(request));
    }
}

static void take_answers(reactor *r, int *fd, int n, const char *answer) {
    for (int i = 0; i < n; i++) {
        peer_hears(r, fd[i], answer);
        peer_sees_eof(r, fd[i]);
        close(fd[i]);
    }
}

/* More than the loop accepts in one turn. */
static void serve_the_backlog(const reactor_listen_options *o) {
    enum { N = 40 };
    reactor_options few = {.accept_budget = 7, .batch = 5};
    reactor *r = begin_with(&few);
    probe p = {.data = hook_echo};
    server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, o);
    int fd[N];
    wait_in_line(&s, fd, N, "request");
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(p.opens, 0); /* law 1 */
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.opens, N);
    assert_int_equal(p.drains, N);
    assert_int_equal(p.closes, N);
    take_answers(r, fd, N, "request");
    assert_drained(r);
    end(r);
}
CASE(drain_serves_peers_in_the_backlog) { serve_the_backlog(NULL); }
CASE(drain_serves_the_backlog_of_a_full_listener) {
    serve_the_backlog(&(reactor_listen_options){.max_connections = 2});
}

CASE(drain_serves_the_backlog_of_a_paused_listener) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd[3];
    assert_int_equal(reactor_listener_pause(r, s.l), 0);
    wait_in_line(&s, fd, 3, "request");
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    take_answers(r, fd, 3, "request");
    assert_drained(r);
    end(r);
}

CASE(drain_serves_the_backlogs_of_several_listeners) {
    enum { N = 9 };
    reactor_options few = {.accept_budget = 2};
    reactor *r = begin_with(&few);
    probe p = {.data = hook_echo}, q = {.data = hook_echo};
    server s = serve(r, &p), t = serve(r, &q);
    int a[N], b[N];
    wait_in_line(&s, a, N, "request");
    wait_in_line(&t, b, N, "question");
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    take_answers(r, a, N, "request");
    take_answers(r, b, N, "question");
    end(r);
}

CASE(drain_ends_in_order_who_waits_in_the_backlog_and_says_nothing) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int fd[2];
    wait_in_line(&s, fd, 2, "");
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.opens, 2);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    take_answers(r, fd, 2, "");
    end(r);
}

/* Whoever is accepted brings another: its backlog is never empty. */
typedef struct flood {
    const char *address;
    int fd[64], n;
} flood;

static void hook_bring_another(reactor *r, reactor_conn c, probe *p) {
    flood *f = p->extra;
    (void)r, (void)c;
    assert_true(f->n < (int)COUNT(f->fd));
    f->fd[f->n++] = dial(f->address);
}

CASE(drain_is_not_held_open_by_a_flood_of_peers) {
    reactor_options few = {.accept_budget = 3};
    reactor *r = begin_with(&few);
    reactor_listen_options o = {.backlog = 6};
    flood f = {.n = 0};
    probe p = {.open = hook_bring_another, .extra = &f};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    f.address = s.address;
    f.fd[f.n++] = dial(s.address);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_drained(r);
    while (f.n > 0) close(f.fd[--f.n]);
    end(r);
}

static void hook_close_listener(reactor *r, reactor_conn c, probe *p) {
    (void)c;
    const server *s = p->extra;
    assert_int_equal(reactor_listener_close(r, s->l), 0);
}

CASE(drain_lets_on_open_close_any_listener) {
    reactor *r = begin();
    probe p = {.open = hook_close_listener}, q = {.open = hook_close_listener};
    server s = serve(r, &p), t = serve(r, &q);
    int fd[4];
    p.extra = &t, q.extra = &s;
    wait_in_line(&s, fd, 2, "");
    wait_in_line(&t, fd + 2, 2, "");
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_drained(r);
    for (int i = 0; i < 4; i++) close(fd[i]);
    end(r);
}

CASE(drain_lets_a_listener_be_closed_or_paused_which_is_the_same_then) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p), t = serve(r, &p);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_listener_resume(r, s.l), 0);
    assert_int_equal(reactor_listener_pause(r, s.l), 0);
    assert_int_equal(reactor_listener_pause(r, s.l), -EBADF);
    assert_int_equal(reactor_listener_close(r, t.l), 0);
    assert_int_equal(counters(r).listeners, 0);
    assert_int_equal(reactor_run(r), 0);
    end(r);
}

CASE(drain_at_its_deadline_closes_a_listener_that_is_full) {
    reactor *r = begin();
    reactor_listen_options o = {.max_connections = 1};
    probe p = {.answer = 1};
    server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, &o);
    int fd[2] = {visit(r, &s, &p), dial(s.address)};
    assert_int_equal(reactor_drain(r, 30), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.opens, 1);
    assert_drained(r);
    close(fd[0]), close(fd[1]);
    end(r);
}

/* ---- requests that have not been read ---- */

static void hook_has_been_read(reactor *r, reactor_conn c, probe *p) {
    (void)r, (void)c;
    assert_true(p->in >= (size_t)p->drains * 3000);
}

/* More of them than one wait reports, and each more than one read takes. All of it is delivered
   before on_drain is asked. */
CASE(drain_answers_what_was_sent_before_it) {
    enum { N = 30 };
    reactor_options few = {.batch = 4, .read_budget = 16, .read_buffer = 1024};
    reactor *r = begin_with(&few);
    probe_hook *hook = hook_has_been_read;
    probe p = {.data = hook_echo, .extra = &hook};
    server s = serve_with(r, "127.0.0.1:0", &hooked_handler, &p, NULL);
    char request[3001];
    int fd[N];
    memset(request, 'x', sizeof request - 1);
    request[sizeof request - 1] = 0;
    for (int i = 0; i < N; i++) fd[i] = visit(r, &s, &p);
    for (int i = 0; i < N; i++) assert_int_equal(send(fd[i], request, 3000, MSG_NOSIGNAL), 3000);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.in, N * 3000);
    take_answers(r, fd, N, request);
    end(r);
}

static int peer_of_drained;
static void hook_peer_says(reactor *r, reactor_conn c, probe *p) {
    (void)r, (void)c, (void)p;
    assert_int_equal(send(peer_of_drained, "more", 4, MSG_NOSIGNAL), 4);
}

/* It is idle when it is asked, and its peer, which could not know, sends a request. */
CASE(drain_answers_a_request_that_comes_on_an_idle_connection_right_after) {
    reactor *r = begin();
    probe_hook *hook = hook_peer_says;
    probe p = {.data = hook_echo, .extra = &hook};
    server s = serve_with(r, "127.0.0.1:0", &hooked_handler, &p, NULL);
    peer_of_drained = visit(r, &s, &p);
    peer_say(r, peer_of_drained, "first");
    peer_hears(r, peer_of_drained, "first");
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.drains, 1);
    peer_hears(r, peer_of_drained, "more");
    peer_sees_eof(r, peer_of_drained);
    close(peer_of_drained);
    end(r);
}

/* The clock is wrapped: at one of its calls a machine that is busy stops the loop for longer than a
   connection has to be quiet, and meanwhile a request comes. */
#ifdef _WIN32
static int stop_at_call;
#define NEEDS_WRAPPED_CLOCK posix_missing() /* a DLL's calls are not wrapped by the linker */
#else
#define NEEDS_WRAPPED_CLOCK ((void)0)
static int stop_at_call;
static int64_t stopped_s;
int __real_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);

int __wrap_clock_gettime(clockid_t id, struct timespec *t) {
    if (stop_at_call && --stop_at_call == 0) {
        assert_int_equal(send(peer_of_drained, "more", 4, MSG_NOSIGNAL), 4);
        stopped_s++;
    }
    int e = __real_clock_gettime(id, t);
    t->tv_sec += (time_t)stopped_s;
    return e;
}
#endif

/* A wait that ended before the request came has not told of it. */
CASE(drain_answers_a_request_that_came_while_the_loop_was_stopped) {
    enum { CALLS = 4 }; /* one of them is the first after the wait */
    NEEDS_WRAPPED_CLOCK;
    for (int call = 1; call <= CALLS; call++) {
        reactor *r = begin();
        probe p = {.data = hook_echo};
        server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, NULL);
        peer_of_drained = visit(r, &s, &p);
        peer_say(r, peer_of_drained, "first");
        peer_hears(r, peer_of_drained, "first");
        assert_int_equal(reactor_drain(r, -1), 0);
        turns(r, 3);
        stop_at_call = call;
        while (stop_at_call && p.closes == 0) turns(r, 1);
        assert_int_equal(reactor_run(r), 0);
        peer_hears(r, peer_of_drained, "more");
        peer_sees_eof(r, peer_of_drained);
        close(peer_of_drained);
        end(r);
    }
}

/* The time in which a connection has to be quiet is no more than half of what there is. */
CASE(drain_ends_idle_ones_in_order_before_a_short_deadline) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int before = visit(r, &s, &p);
    assert_int_equal(reactor_drain(r, 0), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    peer_sees_eof(r, before);
    close(before);
    end(r);
}

CASE(drain_again_with_no_time_left_ends_idle_ones_in_order) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_int_equal(reactor_drain(r, -1), 0);
    turns(r, 3);
    assert_int_equal(reactor_drain(r, 0), -EALREADY);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    close(fd);
    end(r);
}

/* ---- what comes in meanwhile ---- */

CASE(drain_takes_a_connection_that_is_handed_over) {
    reactor *r = begin();
    probe p = {.answer = 1}, q = {.data = hook_echo};
    int held = attach_pair(r, &p, NULL), fd[2];
    reactor_conn_options o = {.user = &q};
    reactor_ref(r);
    assert_int_equal(reactor_drain(r, -1), 0);
    turns(r, 3);
    make_pair(fd);
    assert_int_equal(send(fd[1], "request", 7, MSG_NOSIGNAL), 7);
    assert_int_equal(reactor_attach(r, fd[0], &drain_handler, &o, NULL), 0);
    reactor_unref(r);
    assert_int_equal(reactor_run(r), 0);
    assert_string_equal(q.log, "odrc");
    assert_int_equal(q.reason, REACTOR_ORDERLY);
    take_answers(r, fd + 1, 1, "request");
    make_pair(fd);
    assert_int_equal(reactor_attach(r, fd[0], &drain_handler, &o, NULL), -ECANCELED);
    close(fd[0]), close(fd[1]), close(held);
    end(r);
}

CASE(drain_lets_connections_be_made_which_a_proxy_needs_to_finish) {
    reactor *r = begin();
    probe p = {.data = hook_echo}, q = {0};
    char address[REACTOR_ADDRESS_MAX];
    int listener = answering(address);
    reactor_ref(r);
    assert_int_equal(reactor_drain(r, -1), 0);
    turns(r, 3);
    reactor_conn c = probe_connect(r, address, &q, NULL);
    assert_int_equal(reactor_write(r, c, "request", 7), 0);
    int fd = accept_plain(r, listener);
    peer_hears(r, fd, "request");
    peer_say(r, fd, "answer");
    UNTIL(r, q.in == 6);
    reactor_unref(r);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(q.reason, REACTOR_ORDERLY);
    assert_int_equal(reactor_connect(r, address, &probe_handler, NULL, NULL), -ECANCELED);
    assert_int_equal(p.opens, 0);
    close(fd), close(listener);
    end(r);
}

CASE(drain_lets_a_connect_with_output_queued_go_on) {
    reactor *r = begin();
    probe q = {0};
    char address[REACTOR_ADDRESS_MAX];
    int listener = answering(address);
    reactor_conn c = probe_connect(r, address, &q, NULL);
    assert_int_equal(reactor_write(r, c, "request", 7), 0);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(q.opens, 1);
    assert_int_equal(q.reason, REACTOR_ORDERLY);
    int fd = accept_plain(r, listener);
    peer_hears(r, fd, "request");
    close(fd), close(listener);
    end(r);
}

/* ---- what holds it ---- */

typedef struct held {
    int timers, tasks;
} held;

static void release(reactor *r, reactor_timer t, void *user) {
    (void)t;
    ((held *)user)->timers++;
    reactor_unref(r);
}
static void count_timer(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    ((held *)user)->timers++;
}
static void defer_more(reactor *r, void *user) {
    if (++((held *)user)->tasks < 5) assert_int_equal(reactor_defer(r, defer_more, user), 0);
}

CASE(drain_is_held_by_reactor_ref_and_timers_are_called_meanwhile) {
    reactor *r = begin();
    held h = {0, 0};
    reactor_ref(r);
    assert_int_equal(reactor_after(r, 20, count_timer, &h, NULL), 0);
    assert_int_equal(reactor_after(r, 40, release, &h, NULL), 0);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(h.timers, 2);
    end(r);
}

CASE(drain_is_held_by_tasks) {
    reactor *r = begin();
    held h = {0, 0};
    assert_int_equal(reactor_post(r, defer_more, &h), 0);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(h.tasks, 5);
    end(r);
}

CASE(drain_is_not_held_by_timers_and_watchers) {
    reactor *r = begin();
    held h = {0, 0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, NULL, NULL), 0);
    assert_int_equal(reactor_every(r, 3600 * 1000, count_timer, &h, NULL), 0);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(h.timers, 0);
    close(fd[0]), close(fd[1]);
    end(r);
}

CASE(drain_is_not_held_beyond_its_deadline) {
    reactor *r = begin();
    reactor_ref(r);
    int64_t before = clock_ns();
    assert_int_equal(reactor_drain(r, 30), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_true(clock_ns() - before >= 30 * MS);
    end(r);
}

/* The run would wait for the watcher if the unref did not have it look. */
CASE(drain_ends_by_an_unref_between_turns) {
    reactor *r = begin();
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, NULL, NULL), 0);
    reactor_ref(r);
    assert_int_equal(reactor_drain(r, -1), 0);
    turns(r, 5);
    reactor_unref(r);
    assert_int_equal(reactor_run(r), 0);
    close(fd[0]), close(fd[1]);
    end(r);
}

/* A loop that has been drained goes on like any other if it is run again. */
CASE(drained_loop_can_be_run_again) {
    reactor *r = begin();
    held h = {0, 0};
    assert_int_equal(reactor_drain(r, 10), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(reactor_after(r, 30, count_timer, &h, NULL), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(h.timers, 1);
    end(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(drain_serves_peers_in_the_backlog),
        TEST(drain_serves_the_backlog_of_a_full_listener),
        TEST(drain_serves_the_backlog_of_a_paused_listener),
        TEST(drain_serves_the_backlogs_of_several_listeners),
        TEST(drain_ends_in_order_who_waits_in_the_backlog_and_says_nothing),
        TEST(drain_is_not_held_open_by_a_flood_of_peers),
        TEST(drain_lets_on_open_close_any_listener),
        TEST(drain_lets_a_listener_be_closed_or_paused_which_is_the_same_then),
        TEST(drain_at_its_deadline_closes_a_listener_that_is_full),
        TEST(drain_answers_what_was_sent_before_it),
        TEST(drain_answers_a_request_that_comes_on_an_idle_connection_right_after),
        TEST(drain_answers_a_request_that_came_while_the_loop_was_stopped),
        TEST(drain_ends_idle_ones_in_order_before_a_short_deadline),
        TEST(drain_again_with_no_time_left_ends_idle_ones_in_order),
        TEST(drain_takes_a_connection_that_is_handed_over),
        TEST(drain_lets_connections_be_made_which_a_proxy_needs_to_finish),
        TEST(drain_lets_a_connect_with_output_queued_go_on),
        TEST(drain_is_held_by_reactor_ref_and_timers_are_called_meanwhile),
        TEST(drain_is_held_by_tasks),
        TEST(drain_is_not_held_by_timers_and_watchers),
        TEST(drain_is_not_held_beyond_its_deadline),
        TEST(drain_ends_by_an_unref_between_turns),
        TEST(drained_loop_can_be_run_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
