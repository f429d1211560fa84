/* The loop among other loops and libraries: hooks before the wait, several watchers of one
   descriptor, going through all watchers. */
#include "recorder.h"

/* ---- a guest: a loop of its own with one timer, as libuv or GLib would be ---- */

typedef struct guest {
    int64_t due; /* 0: none */
    int64_t at;  /* when it fired */
    int asked;   /* calls of the hook */
    int fired;
    int64_t says; /* instead of the time until it is due; -2: that */
} guest;

static int64_t guest_hook(reactor *r, void *user) {
    guest *g = user;
    g->asked++;
    int64_t now = clock_ns();
    if (g->due && g->due <= now) {
        g->due = 0;
        g->at = now;
        g->fired++;
        reactor_wake(r); /* so that reactor_poll returns to the test */
    }
    if (g->says != -2) return g->says;
    return g->due ? (g->due - now + MS - 1) / MS : -1;
}

static void give_timer(reactor *r, reactor_timer t, void *user) {
    guest *g = user;
    (void)r, (void)t;
    g->due = clock_ns() + 20 * MS;
}

CASE(a_timer_given_to_a_guest_in_a_callback_ends_the_wait) {
    reactor *r = make_loop();
    guest g = {.says = -2};
    reactor_timer never;
    assert_int_equal(reactor_before_wait(r, guest_hook, &g), 0);
    assert_int_equal(reactor_after(r, 3600 * 1000, on_timer, NULL, &never), 0);
    assert_int_equal(reactor_after(r, 5, give_timer, &g, NULL), 0);
    while (!g.due) assert_true(reactor_poll(r, -1) >= 0);
    int64_t due = g.due;
    while (!g.fired) assert_true(reactor_poll(r, -1) >= 0);
    assert_true(g.at >= due);
    assert_int_equal(g.fired, 1);
    assert_true(counters(r).waits < 20); /* it slept, and did not look again and again */
    assert_int_equal(reactor_unhook(r, guest_hook, &g), 0);
    reactor_destroy(r);
}

CASE(run_goes_on_while_a_guest_has_something_to_come) {
    reactor *r = make_loop();
    guest g = {.says = -2, .due = clock_ns() + 10 * MS};
    assert_int_equal(reactor_before_wait(r, guest_hook, &g), 0);
    assert_int_equal(reactor_run(r), 0); /* before its first call it counts */
    assert_int_equal(g.fired, 1);
    int asked = g.asked;
    assert_int_equal(reactor_run(r), 0); /* nothing to come: no turn */
    assert_int_equal(g.asked, asked);
    g.says = 1000000;
    assert_true(reactor_poll(r, 0) >= 0);
    assert_int_equal(reactor_unhook(r, guest_hook, &g), 0);
    assert_int_equal(reactor_run(r), 0); /* its wish went with it */
    reactor_destroy(r);
}

CASE(a_hook_is_asked_once_a_turn_and_is_no_callback) {
    reactor *r = make_loop();
    guest g = {.says = -1};
    assert_int_equal(reactor_before_wait(r, guest_hook, &g), 0);
    assert_int_equal(turns(r, 5), 0);
    assert_int_equal(g.asked, 5);
    reactor_key key;
    assert_int_equal(reactor_select(r, &key, 1, 0), 0);
    assert_int_equal(g.asked, 6);
    int64_t start = clock_ns();
    assert_int_equal(reactor_poll(r, 3), 0);
    assert_true(clock_ns() >= start + 3 * MS);
    g.says = 0;
    assert_int_equal(reactor_poll(r, -1), 0); /* does not sleep */
    g.says = INT64_MAX;
    assert_int_equal(reactor_poll(r, 1), 0);
    g.says = 2;
    start = clock_ns();
    assert_int_equal(reactor_poll(r, -1), 0);
    assert_true(clock_ns() >= start + 2 * MS);
    reactor_destroy(r);
}

/* Turns after the first: what the loop has found out about the last turn must not hide a wish, nor
   what a hook sets. */
typedef struct steady {
    int calls;
    record timer, task;
} steady;

static int64_t steady_hook(reactor *r, void *user) {
    steady *s = user;
    s->calls++;
    if (s->calls == 6) assert_int_equal(reactor_after(r, 1, on_timer, &s->timer, NULL), 0);
    if (s->calls == 8) assert_int_equal(reactor_defer(r, on_task, &s->task), 0);
    return s->calls < 8 ? 1 : -1;
}

CASE(wishes_hold_in_every_turn_of_a_run) {
    reactor *r = make_loop();
    steady s = {.calls = 0};
    assert_int_equal(reactor_before_wait(r, steady_hook, &s), 0);
    assert_int_equal(reactor_run(r), 0); /* returns, or the time limit ends it */
    assert_int_equal(s.timer.calls, 1);
    assert_int_equal(s.task.calls, 1);
    assert_true(s.calls >= 8);
    reactor_destroy(r);
}

static int64_t ending_hook(reactor *r, void *user) {
    steady *s = user;
    (void)r;
    return ++s->calls < 3 ? 1 : -1;
}

CASE(run_ends_when_a_hook_ends_the_last_thing) {
    reactor *r = make_loop();
    steady s = {.calls = 0};
    assert_int_equal(reactor_before_wait(r, ending_hook, &s), 0);
    assert_int_equal(reactor_run(r), 0); /* returns, or the time limit ends it */
    assert_int_equal(s.calls, 3);
    reactor_destroy(r);
}

/* ---- what hooks may do ---- */

typedef struct doer {
    int calls;
    int what;
    int fd;
    int result;
    record task, timer;
    struct doer *other;
} doer;

enum { DEFERS = 1, STOPS, DESTROYS, RUNS, LEAVES, LEAVES_OTHER, ADDS, COMES_BACK, WATCHES, WAKES };

static int64_t doer_hook(reactor *r, void *user) {
    doer *d = user;
    d->calls++;
    switch (d->what) {
    case DEFERS:
        d->what = 0;
        assert_int_equal(reactor_defer(r, on_task, &d->task), 0);
        assert_int_equal(reactor_after(r, 0, on_timer, &d->timer, NULL), 0);
        break;
    case STOPS:
        reactor_stop(r);
        break;
    case DESTROYS:
        reactor_destroy(r);
        break;
    case RUNS:
        d->result = reactor_run(r);
        break;
    case LEAVES:
        d->result = reactor_unhook(r, doer_hook, d);
        break;
    case LEAVES_OTHER:
        d->result = reactor_unhook(r, doer_hook, d->other);
        break;
    case ADDS:
        d->result = reactor_before_wait(r, doer_hook, d->other);
        break;
    case COMES_BACK:
        d->result = reactor_unhook(r, doer_hook, d);
        if (d->result == 0) d->result = reactor_before_wait(r, doer_hook, d);
        break;
    case WATCHES:
        d->result = reactor_add(r, d->fd, READ, on_io, &d->task);
        break;
    case WAKES:
        reactor_wake(r);
        break;
    default:
        break;
    }
    return -1;
}

CASE(what_a_hook_starts_is_done_before_the_loop_sleeps) {
    reactor *r = make_loop();
    doer d = {.what = DEFERS};
    assert_int_equal(reactor_before_wait(r, doer_hook, &d), 0);
    assert_int_equal(reactor_poll(r, -1), 2);
    assert_int_equal(d.task.calls, 1);
    assert_int_equal(d.timer.calls, 1);
    int fd[2];
    make_pipe(fd);
    put(fd[1]);
    d.what = WATCHES;
    d.fd = fd[0];
    assert_int_equal(reactor_poll(r, -1), 1);
    assert_int_equal(d.task.calls, 2);
    d.what = WAKES; /* ends this very wait */
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_true(reactor_poll(r, -1) >= 0);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(a_hook_may_stop_and_destroy_and_not_run) {
    reactor *r = make_loop();
    doer d = {.what = RUNS};
    assert_int_equal(reactor_before_wait(r, doer_hook, &d), 0);
    assert_int_equal(turns(r, 1), 0);
    assert_int_equal(d.result, -EBUSY);
    d.what = STOPS;
    reactor_ref(r);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(d.calls, 2);
    d.what = DESTROYS;
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(d.calls, 3);
}

CASE(hooks_come_and_go_while_they_are_called) {
    reactor *r = make_loop();
    doer a = {.calls = 0}, b = {.calls = 0}, c = {.calls = 0};
    assert_int_equal(reactor_before_wait(r, doer_hook, &a), 0);
    assert_int_equal(reactor_before_wait(r, doer_hook, &b), 0);
    assert_int_equal(reactor_before_wait(r, doer_hook, &a), -EEXIST);
    a.what = LEAVES_OTHER; /* one behind it */
    a.other = &b;
    turns(r, 1);
    assert_int_equal(a.result, 0);
    assert_int_equal(b.calls, 0);
    a.what = ADDS; /* for the next turn, which comes at once */
    a.other = &c;
    assert_int_equal(reactor_poll(r, -1), 0);
    assert_int_equal(c.calls, 0);
    a.what = 0;
    turns(r, 1);
    assert_int_equal(c.calls, 1);
    c.what = LEAVES_OTHER; /* one before it */
    c.other = &a;
    turns(r, 2);
    assert_int_equal(c.result, -ENOENT); /* the second time */
    assert_int_equal(a.calls, 4);
    c.what = COMES_BACK;
    turns(r, 3);
    assert_int_equal(c.result, 0);
    assert_int_equal(c.calls, 6);
    c.what = LEAVES;
    turns(r, 3);
    assert_int_equal(c.calls, 7);
    assert_int_equal(reactor_unhook(r, doer_hook, &c), -ENOENT);
    reactor_destroy(r);
}

/* Many, so that the array moves under the one that is called. */
CASE(hooks_may_be_many) {
    enum { N = 100 };
    reactor *r = make_loop();
    static doer d[N];
    memset(d, 0, sizeof d);
    for (int i = 0; i + 1 < N; i++) {
        d[i].what = ADDS;
        d[i].other = &d[i + 1];
    }
    assert_int_equal(reactor_before_wait(r, doer_hook, &d[0]), 0);
    turns(r, N);
    for (int i = 0; i < N; i++) assert_int_equal(d[i].calls, N - i);
    for (int i = 0; i < N; i++) assert_int_equal(reactor_unhook(r, doer_hook, &d[i]), 0);
    reactor_destroy(r);
}

static int readable(int fd, int ms) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, ms);
}

CASE(a_nested_loop_tells_of_its_hooks_wishes) {
    if (!backend_nests()) skip();
    reactor *r = make_loop();
    int fd = reactor_fd(r);
    assert_true(fd >= 0);
    guest g = {.says = -1};
    assert_int_equal(readable(fd, 0), 0);
    assert_int_equal(reactor_before_wait(r, guest_hook, &g), 0);
    assert_int_equal(readable(fd, 0), 1); /* it has not been asked */
    turns(r, 2);
    assert_int_equal(readable(fd, 0), 0);
    g.says = 20;
    int64_t start = clock_ns();
    turns(r, 1);
    assert_int_equal(readable(fd, 60000), 1);
    assert_true(clock_ns() >= start + 19 * MS);
    g.says = -1;
    turns(r, 2);
    assert_int_equal(readable(fd, 0), 0);
    reactor_destroy(r);
}

static void on_slow(reactor *r, const char *what, int64_t ns, void *user) {
    (void)r;
    if (strcmp(what, "hook") == 0 && ns >= MS) ++*(int *)user;
}

static int64_t slow_hook(reactor *r, void *user) {
    (void)r, (void)user;
    spin(2 * MS);
    return -1;
}

CASE(a_slow_hook_is_told_of) {
    int told = 0;
    reactor_options o = {.slow_ms = 1, .on_slow = on_slow, .slow_user = &told};
    reactor *r = make_loop_with(&o);
    assert_int_equal(reactor_before_wait(r, slow_hook, NULL), 0);
    assert_int_equal(turns(r, 1), 0);
    assert_int_equal(told, 1);
    reactor_destroy(r);
}

CASE(hooks_refuse_what_makes_no_sense) {
    reactor *r = make_loop();
    assert_int_equal(reactor_before_wait(NULL, guest_hook, NULL), -EINVAL);
    assert_int_equal(reactor_before_wait(r, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_unhook(NULL, guest_hook, NULL), -EINVAL);
    assert_int_equal(reactor_unhook(r, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_unhook(r, guest_hook, NULL), -ENOENT);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
}

/* ---- going through all watchers ---- */

CASE(next_shows_each_watcher_once) {
    enum { N = 20 };
    reactor *r = make_loop();
    int fd[N][2], seen[N] = {0};
    record rec[N];
    for (int i = 0; i < N; i++) {
        make_pair(fd[i]);
        assert_int_equal(reactor_add(r, fd[i][0], i % 2 ? READ : 0, i % 3 ? on_io : NULL, &rec[i]),
                         0);
    }
    uint32_t cursor = 0;
    reactor_key key;
    int n = 0;
    for (; reactor_next(r, &cursor, &key) == 1; n++) {
        int i = (int)((record *)key.user - rec);
        assert_true(i >= 0 && i < N);
        assert_int_equal(key.fd, fd[i][0]);
        assert_int_equal(key.events, i % 2 ? READ : 0);
        assert_true(key.fn == (i % 3 ? on_io : NULL));
        assert_int_equal(seen[i]++, 0);
        if (i == 3) /* while it goes on */
            for (int k = 10; k < 15; k++) assert_int_equal(reactor_remove(r, fd[k][0]), 0);
        assert_int_equal(reactor_remove(r, key.fd), 0);
    }
    assert_int_equal(n, N - 5);
    cursor = 0;
    assert_int_equal(reactor_next(r, &cursor, &key), 0);
    assert_int_equal(reactor_next(r, &cursor, &key), 0);
    assert_int_equal(reactor_next(NULL, &cursor, &key), -EINVAL);
    assert_int_equal(reactor_next(r, NULL, &key), -EINVAL);
    assert_int_equal(reactor_next(r, &cursor, NULL), -EINVAL);
    reactor_destroy(r);
    for (int i = 0; i < N; i++) close_pair(fd[i]);
}

/* ---- several watchers of one descriptor ---- */

CASE(several_watch_one_descriptor_each_its_own_events) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    record reader = {0}, writer = {0}, silent = {0};
    reactor_watcher a, b, c;
    assert_int_equal(reactor_watch(r, fd[0], READ, on_io, &reader, &a), 0);
    assert_int_equal(reactor_watch(r, fd[0], WRITE, on_io, &writer, &b), 0);
    assert_int_equal(reactor_watch(r, fd[0], 0, on_io, &silent, &c), 0);
    assert_int_equal(counters(r).watchers, 1);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(writer.calls, 1);
    assert_int_equal(writer.last, WRITE);
    assert_int_equal(reader.calls, 0);
    put(fd[1]);
    assert_int_equal(turns(r, 1), 2);
    assert_int_equal(reader.last, READ);
    assert_int_equal(writer.last, WRITE);
    assert_int_equal(reactor_watch_modify(r, b, 0), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(reactor_watch_modify(r, c, READ | WRITE), 0);
    assert_int_equal(turns(r, 1), 2);
    assert_int_equal(silent.last, READ | WRITE);
    assert_int_equal(reactor_unwatch(r, a), 0);
    assert_int_equal(reactor_unwatch(r, a), -EBADF);
    assert_int_equal(reactor_watch_modify(r, a, READ), -EBADF);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(reactor_unwatch(r, c), 0);
    assert_silent(r);
    assert_int_equal(reactor_unwatch(r, b), 0);
    assert_int_equal(counters(r).watchers, 0);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &reader), 0);
    assert_int_equal(turns(r, 1), 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(what_several_watch_is_not_for_the_other_calls) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    record seen = {0};
    reactor_watcher a, b;
    reactor_key key;
    assert_int_equal(reactor_add(r, fd[1], READ, on_io, &seen), 0);
    assert_int_equal(reactor_watch(r, fd[1], READ, on_io, &seen, &a), -EEXIST);
    assert_int_equal(a.id, 0);
    assert_int_equal(reactor_watch(r, fd[0], READ, on_io, &seen, &a), 0);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), -EEXIST);
    assert_int_equal(reactor_set(r, fd[0], READ, on_io, &seen), -EEXIST);
    assert_int_equal(reactor_modify(r, fd[0], READ), -ENOENT);
    assert_int_equal(reactor_remove(r, fd[0]), -ENOENT);
    assert_int_equal(reactor_rewatch(r, fd[0], on_io, &seen), -ENOENT);
    assert_int_equal(reactor_find(r, fd[0], &key), -ENOENT);
    assert_int_equal(reactor_watch(r, fd[0], READ, NULL, NULL, &b), -EINVAL);
    assert_int_equal(reactor_watch(r, fd[0], READ, on_io, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_watch(r, fd[0], 0x40, on_io, NULL, &b), -EINVAL);
    assert_int_equal(reactor_watch(NULL, fd[0], READ, on_io, NULL, &b), -EINVAL);
    assert_int_equal(reactor_watch_modify(r, a, 0x40), -EINVAL);
    assert_int_equal(reactor_watch_modify(NULL, a, 0), -EINVAL);
    assert_int_equal(reactor_unwatch(NULL, a), -EINVAL);
    b.id = 0;
    assert_int_equal(reactor_unwatch(r, b), -EBADF);
    int closed = dup(fd[0]);
    close(closed);
    assert_int_equal(reactor_watch(r, closed, READ, on_io, &seen, &b), -EBADF);
    assert_int_equal(b.id, 0);
    assert_int_equal(reactor_watch(r, fd[0], WRITE | READ, on_io, &seen, &b), 0);
    uint32_t cursor = 0;
    int n = 0;
    while (reactor_next(r, &cursor, &key) == 1) {
        if (key.fd == fd[0]) n++;
        assert_true(key.fn == on_io && key.user == &seen);
    }
    assert_int_equal(n, 2);
    reactor_destroy(r);
    close_pair(fd);
}

/* One that takes others off, and adds, when it is called. */
typedef struct sharer {
    reactor *r;
    reactor_watcher w;
    int calls, removes, adds, stops;
    struct sharer *all; /* of eight */
} sharer;

static void on_shared(reactor *r, reactor_socket fd, unsigned events, void *user) {
    sharer *m = user;
    (void)events;
    m->calls++;
    for (int i = 0; i < 8; i++) {
        if (m->removes & 1 << i && m->all[i].w.id) {
            assert_int_equal(reactor_unwatch(r, m->all[i].w), 0);
            m->all[i].w.id = 0;
        }
    }
    for (int i = 0; i < 8; i++)
        if (m->adds & 1 << i && !m->all[i].w.id)
            assert_int_equal(reactor_watch(r, fd, READ, on_shared, &m->all[i], &m->all[i].w), 0);
    if (m->stops) reactor_stop(r);
}

static void share(reactor *r, int fd, sharer *m, unsigned events) {
    memset(m, 0, 8 * sizeof *m);
    for (int i = 7; i >= 0; i--) { /* called in the order of their numbers */
        m[i].all = m;
        assert_int_equal(reactor_watch(r, fd, events, on_shared, &m[i], &m[i].w), 0);
    }
}

static void unshare(reactor *r, sharer *m) {
    for (int i = 0; i < 8; i++)
        if (m[i].w.id) assert_int_equal(reactor_unwatch(r, m[i].w), 0);
}

CASE(members_come_and_go_while_they_are_called) {
    static const struct {
        int who, removes, adds;
        int calls[8];
    } rows[] = {
        {0, 1 << 0, 0, {1, 1, 1, 1, 1, 1, 1, 1}},          /* itself */
        {0, 1 << 1, 0, {1, 0, 1, 1, 1, 1, 1, 1}},          /* the next */
        {3, 1 << 1 | 1 << 7, 0, {1, 1, 1, 1, 1, 1, 1, 0}}, /* one before, and the last */
        {2, 0xff, 0, {1, 1, 1, 0, 0, 0, 0, 0}},            /* all */
        {2, 0xff, 0xff, {1, 1, 1, 0, 0, 0, 0, 0}},         /* all, and they come back */
        {4, 1 << 4, 1 << 4, {1, 1, 1, 1, 1, 1, 1, 1}},     /* itself, and comes back */
        {7, 1 << 7 | 1, 0, {1, 1, 1, 1, 1, 1, 1, 1}},      /* the last */
        {1, 0x1c, 0x1c, {1, 1, 0, 0, 0, 1, 1, 1}},         /* the next three, and they are new */
    };
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        static sharer m[8];
        share(r, fd[0], m, READ);
        m[rows[k].who].removes = rows[k].removes;
        m[rows[k].who].adds = rows[k].adds;
        turns(r, 1);
        for (int i = 0; i < 8; i++) {
            int expected = rows[k].calls[i];
            if (m[i].calls != expected) fail_msg("row %d: member %d: %d", (int)k, i, m[i].calls);
        }
        for (int i = 0; i < 8; i++) m[i].removes = m[i].adds = 0;
        turns(r, 1); /* those that are there are all called */
        for (int i = 0; i < 8; i++)
            assert_int_equal(m[i].calls, rows[k].calls[i] + (m[i].w.id != 0));
        unshare(r, m);
        assert_int_equal(counters(r).watchers, 0);
    }
    reactor_destroy(r);
    close_pair(fd);
}

CASE(a_stop_by_one_keeps_nothing_from_the_others) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    for (int edges = 0; edges < 2; edges++) {
        static sharer m[8];
        share(r, fd[0], m, edges ? READ | EDGE : READ);
        m[2].stops = 1;
        if (!edges) put(fd[1]);
        assert_int_equal(reactor_run(r), 0);
        assert_int_equal(m[2].calls, 1);
        assert_int_equal(m[3].calls, 0);
        m[2].stops = 0;
        turns(r, 2);
        for (int i = 0; i < 8; i++) assert_true(m[i].calls > 0);
        unshare(r, m);
    }
    reactor_destroy(r);
    close_pair(fd);
}

CASE(oneshot_is_each_ones_own) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    record once = {0}, always = {0};
    reactor_watcher a, b;
    put(fd[1]);
    assert_int_equal(reactor_watch(r, fd[0], READ, on_io, &always, &a), 0);
    assert_int_equal(reactor_watch(r, fd[0], READ | WRITE | ONESHOT, on_io, &once, &b), 0);
    turns(r, 3);
    assert_int_equal(once.calls, 1);
    assert_int_equal(always.calls, 3);
    assert_int_equal(always.all, READ);
    assert_int_equal(reactor_watch_modify(r, b, READ | ONESHOT), 0);
    turns(r, 2);
    assert_int_equal(once.calls, 2);
    assert_int_equal(once.last, READ);
    assert_int_equal(always.calls, 5);
    assert_int_equal(reactor_unwatch(r, a), 0);
    assert_silent(r);
    assert_int_equal(reactor_watch_modify(r, b, READ | ONESHOT), 0);
    turns(r, 2);
    assert_int_equal(once.calls, 3);
    assert_int_equal(reactor_run(r), 0); /* it is silent, and keeps nothing going */
    reactor_destroy(r);
    close_pair(fd);
}

CASE(edges_are_told_while_all_ask_for_them) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    record a = {0}, b = {0}, c = {0};
    reactor_watcher x, y, z;
    put(fd[1]);
    assert_int_equal(reactor_watch(r, fd[0], READ | EDGE, on_io, &a, &x), 0);
    assert_int_equal(reactor_watch(r, fd[0], READ | EDGE, on_io, &b, &y), 0);
    turns(r, 4);
    assert_int_equal(a.calls, backend_has_edges() ? 1 : 4);
    assert_int_equal(b.calls, a.calls);
    assert_int_equal(reactor_watch(r, fd[0], 0, on_io, &c, &z), 0); /* has no say */
    turns(r, 4);
    if (backend_has_edges()) assert_true(a.calls <= 2);
    assert_int_equal(reactor_watch_modify(r, z, READ), 0);
    a.calls = b.calls = 0;
    turns(r, 4);
    assert_int_equal(a.calls, 4);
    assert_int_equal(c.calls, 4);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(an_end_reaches_all_of_them) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    record reader = {0}, writer = {0}, silent = {0};
    reactor_watcher w;
    assert_int_equal(reactor_watch(r, fd[0], READ, on_io, &reader, &w), 0);
    assert_int_equal(reactor_watch(r, fd[0], 0, on_io, &silent, &w), 0);
    fill(fd[0]);
    assert_int_equal(reactor_watch(r, fd[0], WRITE, on_io, &writer, &w), 0);
    assert_silent(r);
    close(fd[1]);
    while (!reader.calls || !writer.calls) assert_true(reactor_poll(r, -1) >= 0);
    assert_true(reader.last & READ);
    assert_int_equal(reader.last & WRITE, 0);
    assert_true(writer.last & WRITE);
    assert_int_equal(writer.last & READ, 0);
    assert_int_equal(silent.calls, 0);
    reactor_destroy(r);
    close(fd[0]);
}

CASE(a_reused_number_is_watched_by_all_when_one_says_so) {
    reactor *r = make_loop();
    int a[2], b[2];
    make_pair(a);
    make_pair(b);
    record one = {0}, two = {0};
    reactor_watcher v, w;
    assert_int_equal(reactor_watch(r, a[0], READ, on_io, &one, &v), 0);
    assert_int_equal(dup2(b[0], a[0]), a[0]); /* another socket under the number */
    assert_int_equal(reactor_watch(r, a[0], READ, on_io, &two, &w), 0);
    put(b[1]);
    turns(r, 1);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.calls, 1);
    close(a[0]); /* closed before it is taken off: both go without a call */
    assert_int_equal(reactor_unwatch(r, v), 0);
    assert_int_equal(reactor_unwatch(r, w), 0);
    assert_int_equal(turns(r, 3), 0);
    assert_int_equal(counters(r).watchers, 0);
    reactor_destroy(r);
    close(a[1]);
    close_pair(b);
}

CASE(unref_is_for_all_of_them) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    record seen = {0};
    reactor_watcher v, w;
    assert_int_equal(reactor_watch(r, fd[0], READ, on_io, &seen, &v), 0);
    assert_int_equal(reactor_watch(r, fd[0], READ, on_io, &seen, &w), 0);
    assert_int_equal(reactor_unref_fd(r, fd[0]), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(reactor_ref_fd(r, fd[0]), 0);
    assert_int_equal(reactor_after(r, 1, stop_on_timer, NULL, NULL), 0);
    assert_int_equal(reactor_run(r), 0); /* ended by the stop */
    assert_int_equal(reactor_unref_fd(r, fd[1]), -ENOENT);
    reactor_destroy(r);
    close_pair(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_timer_given_to_a_guest_in_a_callback_ends_the_wait),
        TEST(run_goes_on_while_a_guest_has_something_to_come),
        TEST(wishes_hold_in_every_turn_of_a_run),
        TEST(run_ends_when_a_hook_ends_the_last_thing),
        TEST(a_hook_is_asked_once_a_turn_and_is_no_callback),
        TEST(what_a_hook_starts_is_done_before_the_loop_sleeps),
        TEST(a_hook_may_stop_and_destroy_and_not_run),
        TEST(hooks_come_and_go_while_they_are_called),
        TEST(hooks_may_be_many),
        TEST(a_nested_loop_tells_of_its_hooks_wishes),
        TEST(a_slow_hook_is_told_of),
        TEST(hooks_refuse_what_makes_no_sense),
        TEST(next_shows_each_watcher_once),
        TEST(several_watch_one_descriptor_each_its_own_events),
        TEST(what_several_watch_is_not_for_the_other_calls),
        TEST(members_come_and_go_while_they_are_called),
        TEST(a_stop_by_one_keeps_nothing_from_the_others),
        TEST(oneshot_is_each_ones_own),
        TEST(edges_are_told_while_all_ask_for_them),
        TEST(an_end_reaches_all_of_them),
        TEST(a_reused_number_is_watched_by_all_when_one_says_so),
        TEST(unref_is_for_all_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
