/* The loop itself: run, poll, stop, wake, its end, its owner, forks, nesting, the inside view. */
#include "recorder.h"

/* ---- making one ---- */

CASE(create_refuses_options_out_of_range) {
    static const reactor_options bad[] = {
        {.batch = -1},
        {.batch = 65537},
        {.batch = INT32_MAX},
        {.batch = INT32_MIN},
        {.accept_budget = -1},
        {.accept_budget = INT32_MIN},
        {.timer_budget = -1},
        {.post_budget = -1},
        {.read_buffer = 1},
        {.read_buffer = 1023},
        {.read_buffer = ((size_t)1 << 30) + 1},
        {.read_buffer = SIZE_MAX},
        {.slow_ms = -1},
        {.sigpipe_ignored = -1},
        {.sigpipe_ignored = 2},
        {.slow_ms = INT64_MIN},
    };
    int before = open_descriptors();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        reactor_options o = bad[i];
        reactor *r = (reactor *)&o;
        o.backend = backend_under_test();
        int e = reactor_create(&r, &o);
        if (e != -EINVAL) fail_msg("options %d: %d instead of -EINVAL", (int)i, e);
        assert_null(r);
    }
    assert_int_equal(reactor_create(NULL, NULL), -EINVAL);
    assert_int_equal(open_descriptors(), before);
}

CASE(create_accepts_the_ends_of_the_ranges) {
    static const reactor_options good[] = {
        {.batch = 1},
        {.batch = 65536},
        {.accept_budget = INT32_MAX},
        {.timer_budget = INT32_MAX, .post_budget = INT32_MAX},
        {.timer_budget = 1, .post_budget = 1, .accept_budget = 1, .read_budget = 1},
        {.read_buffer = 1024},
        {.read_budget = SIZE_MAX / 4},
        {.slow_ms = INT64_MAX},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        record timer = {0}, task = {0}, io = {0};
        int fd[2];
        reactor *r = make_loop_with(&good[i]);
        make_pair(fd);
        put(fd[1]);
        assert_int_equal(reactor_add(r, fd[0], READ, on_io, &io), 0);
        assert_int_equal(reactor_after(r, 0, on_timer, &timer, NULL), 0);
        assert_int_equal(reactor_post(r, on_task, &task), 0);
        turns(r, 3);
        assert_int_equal(timer.calls, 1);
        assert_int_equal(task.calls, 1);
        assert_true(io.calls >= 1);
        reactor_destroy(r);
        close_pair(fd);
    }
}

/* A kernel may be too old for io_uring, a container may forbid it; all others are there. */
static int refused(const char *name) {
    reactor_options o = {.backend = name};
    reactor *r = NULL;
    if (strcmp(name, "io_uring") != 0) return 0;
    if (reactor_create(&r, &o) < 0) return 1;
    reactor_destroy(r);
    return 0;
}

CASE(create_without_options_takes_the_best) {
    reactor *r = NULL;
    int best = refused(reactor_backend_name(0)) ? 1 : 0;
    assert_int_equal(reactor_create(&r, NULL), 0);
    assert_string_equal(reactor_backend(r), reactor_backend_name(best));
    assert_int_equal(*reactor_backend_reason(r) != '\0', best);
    reactor_destroy(r);
}

CASE(backend_by_name) {
    int n = 0;
    for (const char *name; (name = reactor_backend_name(n)) != NULL; n++) {
        reactor_options o = {.backend = name};
        reactor *r = NULL;
        record seen = {0};
        if (refused(name)) continue;
        assert_int_equal(reactor_create(&r, &o), 0);
        assert_string_equal(reactor_backend(r), name);
        assert_non_null(reactor_backend_reason(r));
        if (n == 0)
            assert_string_equal(reactor_backend_reason(r), "");
        else
            assert_true(*reactor_backend_reason(r) != '\0');
        assert_int_equal(reactor_post(r, on_task, &seen), 0);
        assert_int_equal(turns(r, 1), 1);
        reactor_destroy(r);
    }
    assert_true(n >= BACKENDS_AT_LEAST);
    assert_null(reactor_backend_name(n));
    assert_null(reactor_backend_name(n + 1));
    assert_null(reactor_backend_name(INT32_MAX));
    assert_null(reactor_backend_name(-1));
    assert_null(reactor_backend_name(INT32_MIN));
}

CASE(backend_unknown_is_enotsup) {
    static const char *const names[] = {"", "epol", "epolll", "EPOLL", "iocp", " poll", "poll\n"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        reactor_options o = {.backend = names[i]};
        reactor *r = (reactor *)&o;
        assert_int_equal(reactor_create(&r, &o), -ENOTSUP);
        assert_null(r);
    }
}

CASE(null_is_einval_and_never_a_crash) {
    reactor_key k;
    reactor_destroy(NULL);
    reactor_stop(NULL);
    reactor_wake(NULL);
    reactor_ref(NULL);
    reactor_unref(NULL);
    assert_int_equal(reactor_run(NULL), -EINVAL);
    assert_int_equal(reactor_poll(NULL, 0), -EINVAL);
    assert_int_equal(reactor_select(NULL, &k, 1, 0), -EINVAL);
    assert_int_equal(reactor_fd(NULL), -EINVAL);
    assert_int_equal(reactor_post(NULL, on_task, NULL), -EINVAL);
    assert_int_equal(reactor_defer(NULL, on_task, NULL), -EINVAL);
    assert_int_equal(reactor_signal(NULL, SIGUSR1, on_signal, NULL), -EINVAL);
    (void)reactor_backend(NULL);
    (void)reactor_backend_reason(NULL);
}

/* ---- run, poll, stop, wake ---- */

CASE(law12_run_of_an_empty_loop_returns) {
    reactor *r = make_loop();
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
}

static void remove_it(reactor *r, reactor_socket fd, unsigned events, void *user) {
    on_io(r, fd, events, user);
    assert_int_equal(reactor_remove(r, fd), 0);
}

CASE(law12_run_ends_when_nothing_is_left) {
    reactor *r = make_loop();
    record io = {0}, timer = {0}, task = {0}, later = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, remove_it, &io), 0);
    assert_int_equal(reactor_after(r, 5, on_timer, &timer, NULL), 0);
    assert_int_equal(reactor_post(r, on_task, &task), 0);
    assert_int_equal(reactor_defer(r, on_task, &later), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(io.calls, 1);
    assert_int_equal(timer.calls, 1);
    assert_int_equal(task.calls, 1);
    assert_int_equal(later.calls, 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law12_what_cannot_wake_does_not_keep_it_going) {
    reactor *r = make_loop();
    record seen = {0};
    int silent[2], unrefd[2];
    make_pair(silent);
    make_pair(unrefd);
    assert_int_equal(reactor_add(r, silent[0], 0, on_io, &seen), 0);
    assert_int_equal(reactor_add(r, unrefd[0], READ, on_io, &seen), 0);
    assert_int_equal(reactor_unref_fd(r, unrefd[0]), 0);
    assert_int_equal(reactor_unref_fd(r, unrefd[0]), 0);
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    reactor_wake(r);
    assert_int_equal(reactor_run(r), 0);
    put(unrefd[1]); /* it is served none the less */
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.calls, 1);
    drain(unrefd[0]);

    assert_int_equal(reactor_ref_fd(r, unrefd[0]), 0); /* not counted: once undoes two */
    assert_int_equal(reactor_after(r, 2, stop_on_timer, NULL, NULL), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(counters(r).timers, 0); /* so it lived to see the timer */
    assert_int_equal(reactor_unref_fd(r, unrefd[0]), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(reactor_ref_fd(r, unrefd[0]), 0);
    assert_int_equal(reactor_modify(r, unrefd[0], 0), 0);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
    close_pair(silent);
    close_pair(unrefd);
}

static void want_read(reactor *r, void *user) {
    assert_int_equal(reactor_modify(r, *(int *)user, READ), 0);
}

CASE(law12_interest_given_later_keeps_it_going) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], 0, remove_it, &seen), 0);
    assert_int_equal(reactor_defer(r, want_read, &fd[0]), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(seen.calls, 1);
    reactor_destroy(r);
    close_pair(fd);
}

static void *post_stop(void *loop) {
    nap(5 * MS);
    reactor_post(loop, stop_it, NULL);
    return NULL;
}

CASE(law12_ref_keeps_it_going) {
    reactor *r = make_loop();
    pthread_t thread;
    reactor_unref(r); /* ignored, not owed */
    reactor_unref(r);
    reactor_ref(r);
    reactor_ref(r);
    reactor_unref(r); /* counted */
    uint64_t before = counters(r).posts;
    assert_int_equal(pthread_create(&thread, NULL, post_stop, r), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(counters(r).posts, before + 1); /* not before the post came */
    pthread_join(thread, NULL);
    reactor_unref(r);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
}

static void unref_it(reactor *r, void *user) {
    record *seen = user;
    seen->calls++;
    reactor_unref(r);
}

CASE(law12_unref_in_a_callback_ends_it) {
    reactor *r = make_loop();
    record seen = {0};
    reactor_ref(r);
    assert_int_equal(reactor_post(r, unref_it, &seen), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(seen.calls, 1);
    reactor_destroy(r);
}

CASE(stop_before_run_counts) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &seen), 0);
    reactor_stop(r);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(reactor_post(r, stop_it, NULL), 0);
    assert_int_equal(reactor_run(r), 0); /* the first stop is used up: this ran till the second */
    assert_int_equal(counters(r).posts, 1);
    reactor_destroy(r);
    close_pair(fd);
}

static void stop_in_crowd(crowd *c, member *m) {
    (void)m;
    reactor_stop(c->r);
}

CASE(stop_ends_run_after_the_callback_and_loses_nothing) {
    static const unsigned interests[] = {READ, READ | EDGE, READ | ONESHOT};
    for (int k = 0; k < 3; k++) {
        reactor *r = make_loop();
        record timer = {0}, task = {0};
        crowd c;
        crowd_make(&c, r, 10, interests[k], on_member);
        c.first = stop_in_crowd;
        assert_int_equal(reactor_run(r), 0);
        assert_int_equal(c.calls, 1);
        assert_int_equal(reactor_after(r, 0, on_timer, &timer, NULL), 0);
        assert_int_equal(reactor_post(r, on_task, &task), 0);
        turns(r, 4);
        assert_true(crowd_least(&c) >= 1);
        if (interests[k] & ONESHOT) assert_int_equal(crowd_most(&c), 1);
        assert_int_equal(timer.calls, 1);
        assert_int_equal(task.calls, 1);
        crowd_close(&c);
        reactor_destroy(r);
    }
}

CASE(stop_among_timers_and_tasks_loses_nothing) {
    reactor *r = make_loop();
    record timer = {0}, task = {0};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(reactor_after(r, 0, i == 2 ? stop_on_timer : on_timer, &timer, NULL), 0);
        assert_int_equal(reactor_post(r, i == 2 ? stop_it : on_task, &task), 0);
    }
    assert_int_equal(reactor_run(r), 0);
    assert_true(timer.calls + task.calls < 8);
    turns(r, 4);
    reactor_run(r);
    assert_int_equal(timer.calls, 4);
    assert_int_equal(task.calls, 4);
    reactor_destroy(r);
}

/* Who stops the loop whenever it is called: each of them, or only one. */
typedef struct stopper {
    int stops, calls;
} stopper;

static void stopper_called(reactor *r, stopper *s) {
    s->calls++;
    if (s->stops) reactor_stop(r);
}
static void stopper_on_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd, (void)events;
    stopper_called(r, user);
}
static void stopper_on_timer(reactor *r, reactor_timer t, void *user) {
    (void)t;
    stopper_called(r, user);
    assert_int_equal(reactor_after(r, 0, stopper_on_timer, user, NULL), 0);
}
static void stopper_on_task(reactor *r, void *user) {
    stopper_called(r, user);
    int e = reactor_defer(r, stopper_on_task, user);
    assert_true(e == 0 || e == -ECANCELED); /* destroy runs what is left */
}

CASE(stop_in_every_turn_starves_nobody) {
    enum { WATCHERS = 4, TIMER = WATCHERS, TASK, ALL };
    for (int only = 0; only <= ALL; only++) {
        reactor *r = make_loop();
        stopper s[ALL] = {{0, 0}};
        int fd[WATCHERS][2];
        for (int i = 0; i < ALL; i++) s[i].stops = only == i || only == ALL;
        for (int i = 0; i < WATCHERS; i++) {
            make_pair(fd[i]);
            put(fd[i][1]);
            assert_int_equal(reactor_add(r, fd[i][0], READ, stopper_on_io, &s[i]), 0);
        }
        assert_int_equal(reactor_after(r, 0, stopper_on_timer, &s[TIMER], NULL), 0);
        assert_int_equal(reactor_defer(r, stopper_on_task, &s[TASK]), 0);
        for (int runs = 0; runs < 20 * ALL; runs++) assert_int_equal(reactor_run(r), 0);
        for (int i = 0; i < ALL; i++)
            if (s[i].calls < 5) fail_msg("%d of %d called %d times", i, only, s[i].calls);
        for (int i = 0; i < WATCHERS; i++) {
            reactor_remove(r, fd[i][0]);
            close_pair(fd[i]);
        }
        reactor_destroy(r);
    }
}

/* What a stop has left sets and defers more: that waits for the next turn, as ever. */
CASE(stop_does_not_make_two_turns_one) {
    reactor *r = make_loop();
    stopper timer = {0, 0}, task = {0, 0};
    assert_int_equal(reactor_after(r, 0, stopper_on_timer, &timer, NULL), 0);
    assert_int_equal(reactor_defer(r, stopper_on_task, &task), 0);
    reactor_stop(r);
    assert_int_equal(reactor_poll(r, 0), 0);
    for (int turn = 1; turn <= 3; turn++) {
        assert_int_equal(reactor_poll(r, 0), 2);
        assert_int_equal(timer.calls, turn);
        assert_int_equal(task.calls, turn);
    }
    reactor_destroy(r);
}

CASE(stop_ends_one_poll_and_is_used_up) {
    reactor *r = make_loop();
    reactor_stop(r);
    assert_int_equal(reactor_poll(r, -1), 0);
    int64_t start = clock_ns();
    assert_int_equal(reactor_poll(r, 20), 0);
    assert_true(clock_ns() >= start + 20 * MS);
    reactor_destroy(r);
}

CASE(wake_ends_one_wait) {
    reactor *r = make_loop();
    for (int i = 0; i < 100; i++) reactor_wake(r);
    assert_int_equal(reactor_poll(r, -1), 0);
    int64_t start = clock_ns();
    assert_int_equal(reactor_poll(r, 20), 0);
    assert_true(clock_ns() >= start + 20 * MS);
    assert_silent(r);
    reactor_destroy(r);
}

CASE(poll_waits_also_when_empty_and_no_less) {
    reactor *r = make_loop();
    for (int i = 0; i < 3; i++) {
        int64_t start = clock_ns();
        assert_int_equal(reactor_poll(r, 15), 0);
        assert_true(clock_ns() >= start + 15 * MS);
    }
    assert_int_equal(reactor_poll(r, -2), -EINVAL);
    assert_int_equal(reactor_poll(r, INT64_MIN), -EINVAL);
    reactor_destroy(r);
}

CASE(poll_returns_how_many_callbacks_it_ran) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[3][2];
    for (int i = 0; i < 3; i++) {
        make_pair(fd[i]);
        assert_int_equal(reactor_add(r, fd[i][0], WRITE, on_io, &seen), 0);
        assert_int_equal(reactor_after(r, 0, on_timer, &seen, NULL), 0);
        assert_int_equal(reactor_post(r, on_task, &seen), 0);
    }
    int n = reactor_poll(r, 0);
    assert_int_equal(n, seen.calls);
    assert_int_equal(n, 9);
    assert_int_equal(counters(r).callbacks, 9);
    assert_int_equal(turns(r, 2), 6);
    reactor_destroy(r);
    for (int i = 0; i < 3; i++) close_pair(fd[i]);
}

/* ---- law 3: inside a callback ---- */

static void try_to_run(reactor *r, record *seen) {
    reactor_key k;
    assert_int_equal(reactor_run(r), -EBUSY);
    assert_int_equal(reactor_poll(r, 0), -EBUSY);
    assert_int_equal(reactor_poll_ns(r, -1), -EBUSY);
    assert_int_equal(reactor_select(r, &k, 1, 0), -EBUSY);
    seen->calls++;
}
static void run_in_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd, (void)events;
    try_to_run(r, user);
}
static void run_in_timer(reactor *r, reactor_timer t, void *user) {
    (void)t;
    try_to_run(r, user);
}
static void run_in_signal(reactor *r, int signum, void *user) {
    (void)signum;
    try_to_run(r, user);
}
static void run_in_task(reactor *r, void *user) { try_to_run(r, user); }

CASE(law3_running_it_in_a_callback_is_refused) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], WRITE | ONESHOT, run_in_io, &seen), 0);
    assert_int_equal(reactor_after(r, 0, run_in_timer, &seen, NULL), 0);
    assert_int_equal(reactor_post(r, run_in_task, &seen), 0);
    assert_int_equal(reactor_defer(r, run_in_task, &seen), 0);
    assert_int_equal(reactor_signal(r, SIGUSR1, run_in_signal, &seen), 0);
    raise(SIGUSR1);
    for (int i = 0; i < 100 && seen.calls < 5; i++) turns(r, 1);
    assert_int_equal(seen.calls, 5);
    assert_int_equal(turns(r, 2), 0); /* and it works after that */
    reactor_destroy(r);
    close_pair(fd);
}

static record after_destroy;
static void destroy_here(reactor *r, record *seen) {
    seen->calls++;
    assert_int_equal(reactor_post(r, on_task, &after_destroy), 0); /* pending: it will be run */
    reactor_destroy(r);
    assert_int_equal(reactor_post(r, on_task, seen), -ECANCELED);
}
static void destroy_in_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd, (void)events;
    destroy_here(r, user);
}
static void destroy_in_timer(reactor *r, reactor_timer t, void *user) {
    (void)t;
    destroy_here(r, user);
}
static void destroy_in_signal(reactor *r, int signum, void *user) {
    (void)signum;
    destroy_here(r, user);
}
static void destroy_in_task(reactor *r, void *user) { destroy_here(r, user); }

CASE(law3_destroying_it_in_a_callback) {
    for (int kind = 0; kind < 5; kind++) {
        for (int how = 0; how < 3; how++) {
            int before = open_descriptors(), fd[2];
            reactor *r = make_loop();
            record seen = {0};
            reactor_key k[4];
            after_destroy = (record){0};
            make_pair(fd);
            /* Two of each, so that there is one left which must not be called. */
            for (int i = 0; i < 2; i++) {
                if (kind == 0)
                    assert_int_equal(reactor_add(r, fd[i], WRITE, destroy_in_io, &seen), 0);
                if (kind == 1)
                    assert_int_equal(reactor_after(r, 0, destroy_in_timer, &seen, NULL), 0);
            }
            if (kind == 2) assert_int_equal(reactor_post(r, destroy_in_task, &seen), 0);
            if (kind == 3) assert_int_equal(reactor_defer(r, destroy_in_task, &seen), 0);
            if (kind == 4) {
                assert_int_equal(reactor_signal(r, SIGUSR1, destroy_in_signal, &seen), 0);
                reactor_ref(r);
                raise(SIGUSR1);
            }
            int e = how == 0   ? reactor_run(r)
                    : how == 1 ? reactor_poll(r, -1)
                               : reactor_select(r, k, 4, -1);
            assert_true(e >= 0);
            assert_int_equal(seen.calls, 1);
            assert_int_equal(after_destroy.calls, 1);
            close_pair(fd);
            assert_int_equal(open_descriptors(), before);
        }
    }
}

static void destroy_twice(reactor *r, void *user) {
    ++*(int *)user;
    reactor_destroy(r);
    reactor_stop(r);
    reactor_wake(r);
}

CASE(law3_calls_after_destroy_in_the_same_callback) {
    int calls = 0;
    reactor *r = make_loop();
    assert_int_equal(reactor_post(r, destroy_twice, &calls), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(calls, 1);
}

/* ---- law 11: its owner ---- */

typedef struct attempt {
    reactor *r;
    int run, poll, select;
} attempt;
static void *run_here(void *user) {
    attempt *a = user;
    reactor_key k;
    a->run = reactor_run(a->r);
    a->poll = reactor_poll(a->r, 0);
    a->select = reactor_select(a->r, &k, 1, 0);
    return NULL;
}
static void run_in_thread(attempt *a) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_here, a), 0);
    pthread_join(thread, NULL);
}

CASE(law11_it_belongs_to_the_thread_that_first_ran_it) {
    attempt mine = {make_loop(), 1, 1, 1}, theirs = {make_loop(), 1, 1, 1};
    turns(mine.r, 1);
    run_in_thread(&mine);
    assert_int_equal(mine.run, -EPERM);
    assert_int_equal(mine.poll, -EPERM);
    assert_int_equal(mine.select, -EPERM);
    turns(mine.r, 1);

    run_in_thread(&theirs); /* made here, but first run there */
    assert_int_equal(theirs.run, 0);
    assert_int_equal(theirs.poll, 0);
    assert_int_equal(reactor_poll(theirs.r, 0), -EPERM);
    assert_int_equal(reactor_run(theirs.r), -EPERM);
    reactor_destroy(mine.r);
    reactor_destroy(theirs.r);
}

static void turn_the_other(reactor *r, void *user) {
    (void)r;
    assert_int_equal(reactor_poll(user, 0), 1);
}

CASE(two_loops_in_one_thread) {
    reactor *a = make_loop(), *b = make_loop();
    record one = {0}, two = {0};
    int fd[2];
    make_pair(fd);
    put(fd[0]), put(fd[1]);
    assert_int_equal(reactor_add(a, fd[0], READ, on_io, &one), 0);
    assert_int_equal(reactor_add(b, fd[1], READ, on_io, &two), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(turns(a, 1), 1);
        assert_int_equal(turns(b, 1), 1);
    }
    assert_int_equal(reactor_post(a, turn_the_other, b), 0); /* within the first's callback */
    assert_int_equal(turns(a, 1), 2);
    assert_int_equal(two.calls, 6);
    reactor_destroy(a);
    assert_int_equal(turns(b, 1), 1);
    reactor_destroy(b);
    close_pair(fd);
}

/* ---- law 11: interrupted waits ---- */

static volatile sig_atomic_t interruptions;
static void interrupt(int signum) {
    (void)signum;
    interruptions++;
}
typedef struct pest {
    pthread_t target;
    reactor *r;
    volatile int enough;
    record posted;
} pest;
static void *pester(void *user) {
    pest *p = user;
    while (!__atomic_load_n(&p->enough, __ATOMIC_SEQ_CST)) {
        nap(2 * MS);
        pthread_kill(p->target, SIGUSR2);
    }
    return NULL;
}
static void *pester_then_post(void *user) {
    pest *p = user;
    for (int i = 0; i < 20; i++) {
        nap(1 * MS);
        pthread_kill(p->target, SIGUSR2);
    }
    reactor_post(p->r, on_task, &p->posted);
    return NULL;
}

CASE(law11_an_interrupted_wait_goes_on_with_the_rest) {
    struct sigaction action, old;
    reactor *r = make_loop();
    pest p = {pthread_self(), r, 0, {0}};
    pthread_t thread;
    memset(&action, 0, sizeof action);
    action.sa_handler = interrupt; /* without SA_RESTART, which such calls ignore anyway */
    sigaction(SIGUSR2, &action, &old);
    interruptions = 0;
    assert_int_equal(pthread_create(&thread, NULL, pester, &p), 0);
    for (int i = 0; i < 3 || interruptions < 5; i++) {
        int64_t start = clock_ns();
        assert_int_equal(reactor_poll(r, 50), 0);
        assert_true(clock_ns() >= start + 50 * MS);
    }
    __atomic_store_n(&p.enough, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);

    assert_int_equal(pthread_create(&thread, NULL, pester_then_post, &p), 0);
    assert_int_equal(reactor_poll(r, -1), 1); /* ended by the post, by no signal */
    pthread_join(thread, NULL);

    p.enough = 0;
    interruptions = 0;
    assert_int_equal(pthread_create(&thread, NULL, pester, &p), 0);
    while (interruptions < 5) {
        record timer = {0};
        int64_t start = clock_ns();
        assert_int_equal(reactor_after(r, 30, on_timer, &timer, NULL), 0);
        assert_int_equal(reactor_poll(r, -1), 1);
        assert_int_equal(timer.calls, 1);
        assert_true(timer.at >= start + 30 * MS);
    }
    __atomic_store_n(&p.enough, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    sigaction(SIGUSR2, &old, NULL);
    reactor_destroy(r);
}

/* ---- law 11: forks and exec ---- */

static int exit_code_of(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

CASE(law11_a_child_that_destroys_its_copy_leaves_the_parents_working) {
    reactor *r = make_loop();
    record io = {0}, idle = {0}, timer = {0}, task = {0}, sig = {0}, silent = {0};
    int fd[2], quiet[2], off[2];
    make_pair(fd);
    make_pair(quiet);
    make_pair(off);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &io), 0);
    assert_int_equal(reactor_add(r, quiet[0], READ | EDGE, on_io, &idle), 0);
    assert_int_equal(reactor_add(r, off[0], 0, on_io, &silent), 0);
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &sig), 0);
    if (backend_nests()) assert_true(reactor_fd(r) >= 0);
    turns(r, 2);
    assert_int_equal(io.calls, 2);
    assert_int_equal(reactor_after(r, 10, on_timer, &timer, NULL), 0);
    assert_int_equal(reactor_post(r, on_task, &task), 0);

    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) {
        int before = open_descriptors();
        reactor_destroy(r);
        if (task.calls || timer.calls || io.calls != 2) _exit(73);
        if (fcntl(fd[0], F_GETFD) < 0) _exit(74); /* the watched ones stay open */
        if (open_descriptors() >= before) _exit(75);
        _exit(0);
    }
    assert_int_equal(exit_code_of(child), 0);
    turns(r, 1);
    assert_int_equal(io.calls, 3);
    assert_int_equal(task.calls, 1);
    put(quiet[1]);
    turns(r, 2);
    assert_int_equal(idle.last, READ);
    assert_int_equal(reactor_modify(r, off[0], WRITE), 0);
    turns(r, 1);
    assert_int_equal(silent.last, WRITE);
    drain(fd[0]);
    drain(quiet[0]);
    assert_int_equal(reactor_remove(r, off[0]), 0);
    raise(SIGUSR1);
    while (!sig.calls || !timer.calls) assert_true(reactor_poll(r, -1) >= 0);
    reactor_wake(r);
    assert_int_equal(reactor_poll(r, -1), 0);
    assert_silent(r);
    reactor_destroy(r);
    close_pair(fd);
    close_pair(quiet);
    close_pair(off);
}

CASE(law11_a_child_that_only_exits_changes_nothing) {
    reactor *r = make_loop();
    record io = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &io), 0);
    turns(r, 1);
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(0);
    assert_int_equal(exit_code_of(child), 0);
    assert_silent(r);
    put(fd[1]);
    assert_int_equal(turns(r, 3), 3);
    reactor_destroy(r);
    close_pair(fd);
}

/* Marks what is open; with a list to compare with, returns how many more there are and fails if
   one of those would survive exec. */
static int new_descriptors(unsigned char *seen, int compare) {
    int more = 0;
    settle_descriptors();
    for (int fd = 0; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0) continue;
        if (compare && !seen[fd]) {
            more++;
            if (!(flags & FD_CLOEXEC)) fail_msg("descriptor %d would survive exec", fd);
        }
        if (!compare) seen[fd] = 1;
    }
    return more;
}

CASE(law11_every_descriptor_is_close_on_exec) {
    unsigned char seen[1024] = {0};
    record dummy = {0};
    int fd[2];
    make_pair(fd);
    int twin = dup(fd[0]);
    fcntl(twin, F_SETFD, FD_CLOEXEC);
    new_descriptors(seen, 0);
    reactor *r = make_loop();
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &dummy), 0);
    reactor_fd(r);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &dummy), 0);
    assert_int_equal(reactor_after_ns(r, 1000, on_timer, &dummy, NULL), 0);
    assert_int_equal(reactor_post(r, on_task, &dummy), 0);
    turns(r, 2);
    new_descriptors(seen, 1);
    close(fd[0]); /* a stale report makes epoll's set be built again */
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    seen[fd[0]] = 0;
    put(fd[1]);
    turns(r, 4);
    new_descriptors(seen, 1);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
    reactor_destroy(r);
    assert_int_equal(new_descriptors(seen, 1), 0);
    close(twin);
    close(fd[1]);
}

CASE(destroy_closes_what_create_opened) {
    int before = open_descriptors();
    for (int i = 0; i < 100; i++) {
        reactor *r = make_loop();
        reactor_fd(r);
        turns(r, 1);
        reactor_destroy(r);
    }
    assert_int_equal(open_descriptors(), before);
}

/* ---- nesting ---- */

CASE(fd_is_enotsup_where_there_is_no_kernel_object) {
    if (backend_nests()) skip();
    reactor *r = make_loop();
    assert_int_equal(reactor_fd(r), -ENOTSUP);
    assert_int_equal(turns(r, 1), 0);
    reactor_destroy(r);
}

static int readable(int fd) { return ask(fd, POLLIN) == POLLIN; }

#define NEEDS_NESTING                                                                              \
    if (!backend_nests()) skip()

CASE(fd_is_readable_for_descriptors) {
    NEEDS_NESTING;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    int outer = reactor_fd(r);
    assert_true(outer >= 0);
    assert_int_equal(reactor_fd(r), outer);
    turns(r, 1);
    assert_false(readable(outer));
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    assert_false(readable(outer));
    put(fd[1]);
    for (int i = 0; i < 3; i++) { /* level-triggered */
        assert_true(readable(outer));
        assert_int_equal(turns(r, 1), 1);
    }
    drain(fd[0]);
    assert_int_equal(turns(r, 1), 0);
    assert_false(readable(outer));
    /* What was changed, but not yet told to the kernel, is something to do. */
    assert_int_equal(reactor_modify(r, fd[0], WRITE), 0);
    assert_true(readable(outer));
    assert_int_equal(turns(r, 2), 2);
    assert_int_equal(reactor_modify(r, fd[0], 0), 0);
    turns(r, 2);
    assert_false(readable(outer));
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    turns(r, 1);
    assert_false(readable(outer));
    reactor_destroy(r);
    close_pair(fd);
}

CASE(fd_is_readable_for_files) {
    NEEDS_NESTING;
    reactor *r = make_loop();
    record seen = {0};
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC), outer = reactor_fd(r);
    assert_int_equal(reactor_add(r, fd, READ, on_io, &seen), 0);
    assert_true(readable(outer));
    assert_int_equal(turns(r, 3), 3);
    assert_true(readable(outer));
    assert_int_equal(reactor_modify(r, fd, 0), 0);
    turns(r, 2);
    assert_false(readable(outer));
    reactor_destroy(r);
    close(fd);
}

CASE(fd_is_readable_for_timers) {
    NEEDS_NESTING;
    reactor *r = make_loop();
    record seen = {0}, far = {0};
    reactor_timer t, moved;
    int outer = reactor_fd(r);
    turns(r, 1);
    assert_false(readable(outer));
    assert_int_equal(reactor_after(r, 1000000, on_timer, &far, &moved), 0);
    assert_int_equal(reactor_after(r, 15, on_timer, &seen, NULL), 0);
    await(outer, POLLIN); /* or the time limit */
    while (!seen.calls) {
        await(outer, POLLIN);
        turns(r, 1);
    }
    assert_int_equal(far.calls, 0);
    turns(r, 2);
    assert_false(readable(outer));
    assert_int_equal(reactor_reset(r, moved, 5), 0); /* sooner than what the kernel knows of */
    while (!far.calls) {
        await(outer, POLLIN);
        turns(r, 1);
    }
    assert_int_equal(reactor_after(r, 0, on_timer, &seen, NULL), 0);
    await(outer, POLLIN);
    turns(r, 1);
    assert_int_equal(seen.calls, 2);
    assert_int_equal(reactor_after(r, 20, on_timer, &seen, &t), 0);
    assert_int_equal(reactor_cancel(r, t), 0);
    turns(r, 1);
    struct pollfd p = {outer, POLLIN, 0};
    assert_int_equal(poll(&p, 1, 60), 0); /* a cancelled one does not wake */
    reactor_destroy(r);
}

static void *post_once(void *loop) {
    static record seen;
    reactor_post(loop, on_task, &seen);
    return NULL;
}
static void *wake_once(void *loop) {
    reactor_wake(loop);
    return NULL;
}

CASE(fd_is_readable_for_tasks_and_wakes) {
    NEEDS_NESTING;
    reactor *r = make_loop();
    record seen = {0};
    pthread_t thread;
    int outer = reactor_fd(r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread, NULL, post_once, r), 0);
        await(outer, POLLIN);
        assert_int_equal(turns(r, 1), 1);
        pthread_join(thread, NULL);
        turns(r, 1);
        assert_false(readable(outer));
        assert_int_equal(pthread_create(&thread, NULL, wake_once, r), 0);
        await(outer, POLLIN);
        pthread_join(thread, NULL);
        turns(r, 2);
        assert_false(readable(outer));
        assert_int_equal(reactor_post(r, on_task, &seen), 0); /* from its own thread */
        assert_true(readable(outer));
        assert_int_equal(turns(r, 1), 1);
        assert_int_equal(reactor_defer(r, on_task, &seen), 0);
        assert_true(readable(outer));
        assert_int_equal(turns(r, 1), 1);
        turns(r, 1);
        assert_false(readable(outer));
    }
    reactor_destroy(r);
}

static int outer_fd;

static void ask_for_fd(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)events;
    outer_fd = reactor_fd(r);
    drain(fd);
    ++*(int *)user;
}

/* A backend may then have to begin anew: with what had been told, and with what had not. */
CASE(fd_asked_for_late_loses_nothing) {
    static const unsigned how[] = {READ, READ | REACTOR_EDGE, READ | REACTOR_ONESHOT, READ};
    NEEDS_NESTING;
    reactor_options o = {.batch = 1};
    reactor *r = make_loop_with(&o);
    int fd[4][2], calls[4] = {0};
    for (int i = 0; i < 4; i++) {
        make_pair(fd[i]);
        assert_int_equal(reactor_add(r, fd[i][0], how[i], ask_for_fd, &calls[i]), 0);
    }
    assert_int_equal(turns(r, 1), 0);
    for (int i = 0; i < 3; i++) put(fd[i][1]);
    outer_fd = -1;
    for (int i = 0; i < 20 && calls[0] + calls[1] + calls[2] < 3; i++) turns(r, 1);
    assert_true(outer_fd >= 0);
    for (int i = 0; i < 3; i++) assert_int_equal(calls[i], 1);
    put(fd[1][1]);
    await(outer_fd, POLLIN);
    turns(r, 2);
    assert_int_equal(calls[1], 2);
    put(fd[2][1]); /* used up */
    put(fd[3][1]);
    await(outer_fd, POLLIN);
    turns(r, 2);
    assert_int_equal(calls[2], 1);
    assert_int_equal(calls[3], 1);
    turns(r, 1);
    assert_false(readable(outer_fd));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(reactor_remove(r, fd[i][0]), 0);
        close_pair(fd[i]);
    }
    reactor_destroy(r);
}

CASE(fd_is_readable_while_budgets_leave_something) {
    NEEDS_NESTING;
    reactor_options o = {.post_budget = 1, .timer_budget = 1, .batch = 1};
    reactor *r = make_loop_with(&o);
    record timer = {0}, task = {0}, later = {0};
    int outer = reactor_fd(r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reactor_after(r, 0, on_timer, &timer, NULL), 0);
        assert_int_equal(reactor_post(r, on_task, &task), 0);
        assert_int_equal(reactor_defer(r, on_task, &later), 0);
    }
    int rounds = 0;
    while (timer.calls + task.calls + later.calls < 9) {
        assert_true(readable(outer));
        turns(r, 1);
        assert_true(++rounds < 20);
    }
    assert_true(rounds > 1);
    turns(r, 1);
    assert_false(readable(outer));
    reactor_destroy(r);
}

CASE(fd_is_readable_for_signals) {
    NEEDS_NESTING;
    reactor *r = make_loop();
    record seen = {0};
    int outer = reactor_fd(r);
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    turns(r, 1);
    assert_false(readable(outer));
    raise(SIGUSR1);
    await(outer, POLLIN);
    while (!seen.calls) turns(r, 1);
    turns(r, 1);
    assert_false(readable(outer));
    reactor_destroy(r);
}

CASE(fd_outlives_a_rebuilt_set) {
    NEEDS_NESTING;
    reactor *r = make_loop();
    record seen = {0}, other = {0};
    int fd[2], live[2], outer = reactor_fd(r);
    make_pair(fd);
    make_pair(live);
    assert_int_equal(reactor_add(r, live[0], READ, on_io, &other), 0);
    for (int i = 0; i < 3; i++) {
        make_pair(fd);
        assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
        turns(r, 1);
        int twin = dup(fd[0]);
        close(fd[0]);
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        put(fd[1]);
        turns(r, 4);
        assert_int_equal(reactor_fd(r), outer);
        assert_false(readable(outer)); /* the twin is ready, and nobody's */
        put(live[1]);
        assert_true(readable(outer));
        assert_int_equal(turns(r, 1), 1);
        drain(live[0]);
        turns(r, 1);
        assert_false(readable(outer));
        close(twin);
        close(fd[1]);
    }
    assert_int_equal(seen.calls, 0);
    reactor_destroy(r);
    close_pair(live);
}

static void turn_inner(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r, (void)fd;
    assert_int_equal(events, READ);
    assert_true(reactor_poll(user, 0) >= 0);
}

/* The outer loop is of the best backend, the inner of the one under test. */
CASE(nested_in_another_loop) {
    NEEDS_NESTING;
    static const char *const outers[] = {"epoll", "poll", "select"};
    for (int i = 0; i < 3; i++) {
        reactor_options o = {.backend = outers[i]};
        reactor *inner = make_loop(), *outer = make_loop_with(&o);
        record io = {0}, timer = {0}, task = {0};
        int fd[2];
        make_pair(fd);
        assert_int_equal(reactor_add(outer, reactor_fd(inner), READ, turn_inner, inner), 0);
        assert_int_equal(reactor_add(inner, fd[0], READ | ONESHOT, on_io, &io), 0);
        assert_int_equal(reactor_after(inner, 5, on_timer, &timer, NULL), 0);
        assert_int_equal(reactor_post(inner, on_task, &task), 0);
        put(fd[1]);
        while (!io.calls || !timer.calls || !task.calls) assert_true(reactor_poll(outer, -1) >= 0);
        turns(outer, 4);
        assert_silent(outer);
        assert_int_equal(reactor_remove(outer, reactor_fd(inner)), 0);
        reactor_destroy(inner);
        reactor_destroy(outer);
        close_pair(fd);
    }
}

/* ---- law 13: budgets ---- */

CASE(law13_timers_have_a_budget) {
    reactor_options o = {.timer_budget = 10};
    reactor *r = make_loop_with(&o);
    record timer = {0}, io = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &io), 0);
    for (int i = 0; i < 100; i++) assert_int_equal(reactor_after(r, 0, on_timer, &timer, NULL), 0);
    for (int i = 1; i <= 10; i++) {
        assert_int_equal(reactor_poll(r, i % 2 ? 0 : -1), 11); /* what is left does not sleep */
        assert_int_equal(timer.calls, 10 * i);
        assert_int_equal(io.calls, i);
    }
    assert_int_equal(turns(r, 1), 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law13_tasks_have_a_budget) {
    reactor_options o = {.post_budget = 10};
    reactor *r = make_loop_with(&o);
    record task = {0}, io = {0};
    int fd[2], before = 0;
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &io), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(i % 2 ? reactor_post(r, on_task, &task) : reactor_defer(r, on_task, &task),
                         0);
    for (int i = 1; task.calls < 100; i++) {
        assert_true(reactor_poll(r, i % 2 ? 0 : -1) >= 0);
        /* One budget, or one for each of the two kinds. */
        assert_true(task.calls > before && task.calls - before <= 20);
        before = task.calls;
        assert_int_equal(io.calls, i);
    }
    reactor_destroy(r);
    close_pair(fd);
}

static void post_again(reactor *r, void *user) {
    record *seen = user;
    seen->calls++;
    int e = reactor_post(r, post_again, user);
    assert_true(e == 0 || e == -ECANCELED);
}
static void defer_again(reactor *r, void *user) {
    record *seen = user;
    seen->calls++;
    int e = reactor_defer(r, defer_again, user);
    assert_true(e == 0 || e == -ECANCELED);
}
static void time_again(reactor *r, reactor_timer t, void *user) {
    record *seen = user;
    (void)t;
    seen->calls++;
    assert_int_equal(reactor_after(r, 0, time_again, user, NULL), 0);
}

CASE(law13_posts_and_deferred_tasks_do_not_starve_each_other) {
    for (int kind = 0; kind < 2; kind++) {
        reactor_options o = {.post_budget = 1};
        reactor *r = make_loop_with(&o);
        record flood = {0}, other = {0};
        if (kind) {
            assert_int_equal(reactor_defer(r, defer_again, &flood), 0);
            assert_int_equal(reactor_post(r, on_task, &other), 0);
        } else {
            assert_int_equal(reactor_post(r, post_again, &flood), 0);
            assert_int_equal(reactor_defer(r, on_task, &other), 0);
        }
        turns(r, 20);
        assert_int_equal(other.calls, 1);
        assert_true(flood.calls > 1);
        reactor_destroy(r);
    }
}

CASE(law13_what_begets_itself_starves_nobody) {
    reactor *r = make_loop();
    record post = {0}, later = {0}, timer = {0}, io = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &io), 0);
    assert_int_equal(reactor_post(r, post_again, &post), 0);
    assert_int_equal(reactor_defer(r, defer_again, &later), 0);
    assert_int_equal(reactor_after(r, 0, time_again, &timer, NULL), 0);
    for (int i = 1; i <= 50; i++) {
        turns(r, 1);
        assert_int_equal(post.calls, i);
        assert_int_equal(later.calls, i);
        assert_int_equal(timer.calls, i);
        assert_int_equal(io.calls, i);
    }
    reactor_destroy(r); /* and it comes to an end */
    assert_int_equal(post.calls, 51);
    close_pair(fd);
}

/* ---- inside view ---- */

typedef struct slowness {
    int calls, ok;
    char what[16];
    int64_t ns;
} slowness;
static void on_slow(reactor *r, const char *what, int64_t ns, void *user) {
    slowness *s = user;
    assert_non_null(r);
    s->calls++;
    s->ns = ns;
    snprintf(s->what, sizeof s->what, "%s", what);
}
static void slow_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd, (void)events, (void)user;
    spin(3 * MS);
    assert_int_equal(reactor_remove(r, fd), 0);
}
static void slow_timer(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t, (void)user;
    spin(3 * MS);
}
static void slow_task(reactor *r, void *user) {
    (void)r, (void)user;
    spin(3 * MS);
}
static void slow_signal(reactor *r, int signum, void *user) {
    (void)r, (void)signum, (void)user;
    spin(3 * MS);
}

static void expect_slow(reactor *r, slowness *s, const char *what) {
    for (int i = 0; i < 100 && !s->calls; i++) turns(r, 1);
    assert_int_equal(s->calls, 1);
    assert_string_equal(s->what, what);
    assert_true(s->ns >= 3 * MS);
    memset(s, 0, sizeof *s);
}

CASE(slow_callbacks_are_told) {
    slowness s = {0};
    reactor_options o = {.slow_ms = 3, .on_slow = on_slow, .slow_user = &s};
    reactor *r = make_loop_with(&o);
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], WRITE, slow_io, NULL), 0);
    expect_slow(r, &s, "watcher");
    assert_int_equal(reactor_after(r, 0, slow_timer, NULL, NULL), 0);
    expect_slow(r, &s, "timer");
    assert_int_equal(reactor_post(r, slow_task, NULL), 0);
    expect_slow(r, &s, "task");
    assert_int_equal(reactor_defer(r, slow_task, NULL), 0);
    expect_slow(r, &s, "task");
    assert_int_equal(reactor_signal(r, SIGUSR1, slow_signal, NULL), 0);
    raise(SIGUSR1);
    expect_slow(r, &s, "signal");
    reactor_destroy(r);
    close_pair(fd);
}

CASE(quick_callbacks_are_not_told) {
    slowness s = {0};
    reactor_options o = {.slow_ms = 3600000, .on_slow = on_slow, .slow_user = &s};
    reactor *r = make_loop_with(&o);
    for (int i = 0; i < 10; i++) assert_int_equal(reactor_post(r, slow_task, NULL), 0);
    turns(r, 2);
    assert_int_equal(s.calls, 0);
    reactor_destroy(r);
}

CASE(stats_count) {
    reactor *r = make_loop();
    record seen = {0};
    reactor_timer t;
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_stats(r, NULL), -EINVAL);
    reactor_counters c;
    assert_int_equal(reactor_stats(NULL, &c), -EINVAL);
    reactor_counters zero = counters(r);
    assert_int_equal(zero.turns, 0);
    assert_int_equal(zero.watchers, 0);
    assert_int_equal(zero.timers, 0);
    assert_int_equal(zero.callbacks, 0);
    assert_int_equal(zero.max_lag_ns, 0);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &seen), 0);
    assert_int_equal(reactor_add(r, fd[1], READ, on_io, &seen), 0);
    assert_int_equal(reactor_after(r, 1, on_timer, &seen, NULL), 0);
    assert_int_equal(reactor_after(r, 1000000, on_timer, &seen, &t), 0);
    assert_int_equal(reactor_post(r, on_task, &seen), 0);
    assert_int_equal(counters(r).watchers, 2);
    assert_int_equal(counters(r).timers, 2);
    spin(4 * MS);
    assert_int_equal(turns(r, 3), 5);
    c = counters(r);
    assert_int_equal(c.turns, 3);
    assert_int_equal(c.callbacks, 5);
    assert_true(c.events >= 3);
    assert_int_equal(c.timers_fired, 1);
    assert_int_equal(c.posts, 1);
    assert_int_equal(c.timers, 1);
    assert_int_equal(c.waits, 0); /* none could sleep */
    assert_true(c.lag_ns >= 1 * MS);
    assert_true(c.max_lag_ns >= c.lag_ns);
    assert_int_equal(c.listeners + c.connections + c.queued + c.unread, 0);
    assert_int_equal(c.bytes_in + c.bytes_out + c.accepts + c.closes, 0);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_int_equal(reactor_cancel(r, t), 0);
    assert_int_equal(reactor_poll(r, 1), 0);
    c = counters(r);
    assert_int_equal(c.waits, 1);
    assert_int_equal(c.watchers, 1);
    assert_int_equal(c.timers, 0);
    reactor_destroy(r);
    close_pair(fd);
}

typedef struct text {
    int lines;
    char all[8192];
} transcript;
static void on_line(const char *line, void *user) {
    transcript *t = user;
    assert_non_null(line);
    assert_null(strchr(line, '\n'));
    assert_true(*line != '\0');
    t->lines++;
    size_t len = strlen(t->all);
    snprintf(t->all + len, sizeof t->all - len, "%s\n", line);
}

CASE(dump_shows_every_live_thing_by_name) {
    static const reactor_handler handler;
    reactor *r = make_loop();
    record seen = {0};
    reactor_listener l;
    reactor_conn c;
    reactor_conn_options co = {.name = "the-attached-one"};
    reactor_listen_options lo = {.conn = {.name = "the-front-door"}};
    transcript t = {0};
    char number[16];
    int fd[2], high;
    assert_int_equal(reactor_dump(NULL, on_line, &t), -EINVAL);
    assert_int_equal(reactor_dump(r, NULL, &t), -EINVAL);
    assert_int_equal(reactor_dump(r, on_line, &t), 0);
    assert_true(t.lines >= 1);
    assert_non_null(strstr(t.all, reactor_backend(r)));
    int empty = t.lines;

    make_pair(fd);
    high = fcntl(fd[0], F_DUPFD_CLOEXEC, 777);
    assert_int_equal(reactor_add(r, high, READ, on_io, &seen), 0);
    assert_int_equal(reactor_after(r, 1000000, on_timer, &seen, NULL), 0);
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    assert_int_equal(reactor_listen(r, "127.0.0.1:0", &handler, &lo, &l), 0);
    assert_int_equal(reactor_attach(r, fd[1], &handler, &co, &c), 0);
    t = (transcript){0};
    assert_int_equal(reactor_dump(r, on_line, &t), 0);
    assert_int_equal(t.lines, empty + 5);
    snprintf(number, sizeof number, "%d", high);
    assert_non_null(strstr(t.all, number));
    snprintf(number, sizeof number, "%d", SIGUSR1);
    assert_non_null(strstr(t.all, number));
    assert_non_null(strstr(t.all, "the-front-door"));
    assert_non_null(strstr(t.all, "the-attached-one"));
    assert_int_equal(seen.calls, 0);
    reactor_destroy(r);
    close(high);
    close(fd[0]);
}

CASE(strerror_has_a_text_for_everything) {
    static const int codes[] = {EINVAL, EBADF,  ENOENT,     EEXIST,    ENOMEM,  EBUSY,    ENOTSUP,
                                EPIPE,  EMFILE, ECONNRESET, ETIMEDOUT, ENOBUFS, ECANCELED};
    enum { N = sizeof codes / sizeof *codes };
    for (int i = 0; i < N; i++) {
        const char *text = reactor_strerror(-codes[i]);
        assert_non_null(text);
        assert_true(*text != '\0');
        assert_string_equal(text, reactor_strerror(codes[i]));
        for (int j = 0; j < i; j++) assert_string_not_equal(text, reactor_strerror(codes[j]));
    }
    assert_string_not_equal(reactor_strerror(-EPERM), reactor_strerror(REACTOR_DETACHED));
    assert_non_null(reactor_strerror(0));
    assert_non_null(reactor_strerror(1000000));
    assert_non_null(reactor_strerror(INT32_MAX));
    assert_non_null(reactor_strerror(INT32_MIN));
#ifdef _WIN32
    assert_string_equal(reactor_strerror(WSAECONNREFUSED), reactor_strerror(ECONNREFUSED));
    assert_string_equal(reactor_strerror(-WSAEWOULDBLOCK), reactor_strerror(EAGAIN));
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(create_refuses_options_out_of_range),
        TEST(create_accepts_the_ends_of_the_ranges),
        TEST(create_without_options_takes_the_best),
        TEST(backend_by_name),
        TEST(backend_unknown_is_enotsup),
        TEST(null_is_einval_and_never_a_crash),
        TEST(law12_run_of_an_empty_loop_returns),
        TEST(law12_run_ends_when_nothing_is_left),
        TEST(law12_what_cannot_wake_does_not_keep_it_going),
        TEST(law12_interest_given_later_keeps_it_going),
        TEST(law12_ref_keeps_it_going),
        TEST(law12_unref_in_a_callback_ends_it),
        TEST(stop_before_run_counts),
        TEST(stop_ends_run_after_the_callback_and_loses_nothing),
        TEST(stop_among_timers_and_tasks_loses_nothing),
        TEST(stop_in_every_turn_starves_nobody),
        TEST(stop_does_not_make_two_turns_one),
        TEST(stop_ends_one_poll_and_is_used_up),
        TEST(wake_ends_one_wait),
        TEST(poll_waits_also_when_empty_and_no_less),
        TEST(poll_returns_how_many_callbacks_it_ran),
        TEST(law3_running_it_in_a_callback_is_refused),
        TEST(law3_destroying_it_in_a_callback),
        TEST(law3_calls_after_destroy_in_the_same_callback),
        TEST(law11_it_belongs_to_the_thread_that_first_ran_it),
        TEST(two_loops_in_one_thread),
        TEST(law11_an_interrupted_wait_goes_on_with_the_rest),
        TEST(law11_a_child_that_destroys_its_copy_leaves_the_parents_working),
        TEST(law11_a_child_that_only_exits_changes_nothing),
        TEST(law11_every_descriptor_is_close_on_exec),
        TEST(destroy_closes_what_create_opened),
        TEST(fd_is_enotsup_where_there_is_no_kernel_object),
        TEST(fd_is_readable_for_descriptors),
        TEST(fd_is_readable_for_files),
        TEST(fd_is_readable_for_timers),
        TEST(fd_is_readable_for_tasks_and_wakes),
        TEST(fd_asked_for_late_loses_nothing),
        TEST(fd_is_readable_while_budgets_leave_something),
        TEST(fd_is_readable_for_signals),
        TEST(fd_outlives_a_rebuilt_set),
        TEST(nested_in_another_loop),
        TEST(law13_timers_have_a_budget),
        TEST(law13_tasks_have_a_budget),
        TEST(law13_posts_and_deferred_tasks_do_not_starve_each_other),
        TEST(law13_what_begets_itself_starves_nobody),
        TEST(slow_callbacks_are_told),
        TEST(quick_callbacks_are_not_told),
        TEST(stats_count),
        TEST(dump_shows_every_live_thing_by_name),
        TEST(strerror_has_a_text_for_everything),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
