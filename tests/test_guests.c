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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_timer_given_to_a_guest_in_a_callback_ends_the_wait),
        TEST(run_goes_on_while_a_guest_has_something_to_come),
        TEST(a_hook_is_asked_once_a_turn_and_is_no_callback),
        TEST(what_a_hook_starts_is_done_before_the_loop_sleeps),
        TEST(a_hook_may_stop_and_destroy_and_not_run),
        TEST(hooks_come_and_go_while_they_are_called),
        TEST(hooks_may_be_many),
        TEST(a_nested_loop_tells_of_its_hooks_wishes),
        TEST(a_slow_hook_is_told_of),
        TEST(hooks_refuse_what_makes_no_sense),
        TEST(next_shows_each_watcher_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
