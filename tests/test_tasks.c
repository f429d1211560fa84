/* Posts, deferred tasks, wake and stop from elsewhere, and signals: laws 10 and 11. */
/* ldflags:
     -Wl,--wrap=write */
#include "recorder.h"

/* ---- posts ---- */

enum { THREADS = 4, EACH = 50000 };

typedef struct parcel {
    int thread, number;
} parcel;
static parcel *parcels; /* of all threads */
static int received[THREADS];
static int disorder;
static volatile int received_all;

static void on_parcel(reactor *r, void *user) {
    const parcel *p = user;
    (void)r;
    disorder += p->number != received[p->thread];
    received[p->thread]++;
    received_all++;
}

typedef struct sender {
    reactor *r;
    int thread, failed;
} sender;
static void *send_parcels(void *user) {
    sender *s = user;
    for (int i = 0; i < EACH; i++) {
        parcel *p = &parcels[s->thread * EACH + i];
        *p = (parcel){s->thread, i};
        s->failed += reactor_post(s->r, on_parcel, p) != 0;
    }
    return NULL;
}

CASE(law10_posts_of_four_threads_each_once_and_in_order) {
    reactor *r = make_loop();
    pthread_t thread[THREADS];
    sender s[THREADS];
    parcels = malloc(sizeof *parcels * THREADS * EACH);
    memset(received, 0, sizeof received);
    disorder = received_all = 0;
    for (int i = 0; i < THREADS; i++) {
        s[i] = (sender){r, i, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, send_parcels, &s[i]), 0);
    }
    run_until(r, &received_all, THREADS * EACH);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(s[i].failed, 0);
        assert_int_equal(received[i], EACH);
    }
    assert_int_equal(disorder, 0);
    assert_int_equal(counters(r).posts, THREADS * EACH);
    assert_silent(r); /* nothing twice, and no wake-up that is never read */
    reactor_destroy(r);
    free(parcels);
}

CASE(law10_a_burst_costs_few_turns) {
    reactor_options o = {.post_budget = 1000000};
    reactor *r = make_loop_with(&o);
    record seen = {0};
    for (int i = 0; i < 10000; i++) assert_int_equal(reactor_post(r, on_task, &seen), 0);
    assert_int_equal(reactor_poll(r, -1), 10000);
    assert_silent(r);
    reactor_destroy(r);
}

typedef struct order {
    int next;
    int *sequence, at;
} order;
static void in_order(reactor *r, void *user) {
    order *o = user;
    (void)r;
    o->at = (*o->sequence)++;
}

CASE(law10_posts_run_in_order) {
    reactor *r = make_loop();
    static order o[1000];
    int sequence = 0;
    for (int i = 0; i < 1000; i++) {
        o[i].sequence = &sequence;
        assert_int_equal(reactor_post(r, in_order, &o[i]), 0);
        if (i % 300 == 0) turns(r, 1);
    }
    turns(r, 2);
    for (int i = 0; i < 1000; i++) assert_int_equal(o[i].at, i);
    reactor_destroy(r);
}

CASE(deferred_run_in_order) {
    reactor *r = make_loop();
    static order o[1000];
    int sequence = 0;
    for (int i = 0; i < 1000; i++) {
        o[i].sequence = &sequence;
        assert_int_equal(reactor_defer(r, in_order, &o[i]), 0);
    }
    turns(r, 2);
    for (int i = 0; i < 1000; i++) assert_int_equal(o[i].at, i);
    reactor_destroy(r);
}

typedef struct echo {
    int left, calls;
    uint64_t turn;
    int same_turn;
    int (*again)(reactor *r, reactor_task_fn *fn, void *user);
} echo;
static void on_echo(reactor *r, void *user) {
    echo *e = user;
    uint64_t now = counters(r).turns;
    e->same_turn += now == e->turn;
    e->turn = now;
    e->calls++;
    if (e->left-- > 0) assert_int_equal(e->again(r, on_echo, e), 0);
}

CASE(law10_a_task_made_in_a_task_waits_for_the_next_turn) {
    reactor *r = make_loop();
    echo post = {20, 0, 0, 0, reactor_post}, later = {20, 0, 0, 0, reactor_defer};
    assert_int_equal(reactor_post(r, on_echo, &post), 0);
    assert_int_equal(reactor_defer(r, on_echo, &later), 0);
    for (int i = 1; i <= 21; i++) {
        assert_int_equal(turns(r, 1), 2);
        assert_int_equal(post.calls, i);
        assert_int_equal(later.calls, i);
    }
    assert_int_equal(turns(r, 2), 0);
    assert_int_equal(post.same_turn, 0);
    assert_int_equal(later.same_turn, 0);
    reactor_destroy(r);
}

CASE(law1_post_and_defer_do_not_call_back) {
    reactor *r = make_loop();
    record seen = {0};
    assert_int_equal(reactor_post(r, on_task, &seen), 0);
    assert_int_equal(reactor_defer(r, on_task, &seen), 0);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(reactor_poll(r, -1), 2);
    reactor_destroy(r);
}

CASE(tasks_need_a_function) {
    reactor *r = make_loop();
    assert_int_equal(reactor_post(r, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_defer(r, NULL, NULL), -EINVAL);
    assert_int_equal(turns(r, 1), 0);
    reactor_destroy(r);
}

static int deferred_after;
static void count_crowd(reactor *r, void *user) {
    const crowd *c = user;
    (void)r;
    deferred_after = c->calls;
}
static void defer_count(crowd *c, member *m) {
    (void)m;
    assert_int_equal(reactor_defer(c->r, count_crowd, c), 0);
}

CASE(deferred_runs_after_the_events_of_its_turn) {
    reactor *r = make_loop();
    crowd c;
    deferred_after = 0;
    crowd_make(&c, r, 10, READ, on_member);
    c.first = defer_count;
    assert_int_equal(turns(r, 1), 11);
    assert_int_equal(deferred_after, 10);
    crowd_close(&c);
    reactor_destroy(r);
}

static void *post_from_thread(void *user) {
    void **a = user;
    reactor_post(a[0], on_task, a[1]);
    return NULL;
}

CASE(law10_a_post_ends_a_sleep) {
    reactor *r = make_loop();
    for (int i = 0; i < 50; i++) {
        record seen = {0};
        void *a[] = {r, &seen};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, post_from_thread, a), 0);
        assert_int_equal(reactor_poll(r, -1), 1);
        pthread_join(thread, NULL);
        assert_int_equal(seen.calls, 1);
    }
    assert_silent(r);
    reactor_destroy(r);
}

/* ---- a notification that is slower than the loop ---- */

static pthread_t slow_thread;
static int slow_writes;  /* writes of that thread are held back */
static int write_waits;  /* one is being held back */
static int write_may_go; /* until this */

static int get(const int *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
static void set(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }

#ifndef _WIN32 /* a call of another library cannot be wrapped there */
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len) {
    if (get(&slow_writes) && pthread_equal(pthread_self(), slow_thread)) {
        set(&write_waits, 1);
        while (!get(&write_may_go)) nap(100000);
    }
    return __real_write(fd, data, len);
}
#endif

/* Posts, or wakes, while the loop sleeps, and is held up just before it writes to the loop's
   descriptor. */
typedef struct laggard {
    reactor *r;
    record *seen; /* NULL: wakes */
} laggard;
static void *lag_behind(void *user) {
    laggard *l = user;
    slow_thread = pthread_self();
    set(&slow_writes, 1);
    nap(20 *
        1000000); /* by then the loop most likely sleeps; if not, there is no write to hold up */
    if (l->seen)
        reactor_post(l->r, on_task, l->seen);
    else
        reactor_wake(l->r);
    set(&write_waits, 1); /* also if there was no write */
    return NULL;
}

CASE(law10_a_late_notification_neither_spins_nor_hides_the_next) {
    for (int kind = 0; kind < 2; kind++) {
        reactor *r = make_loop();
        record seen = {0}, next = {0}, timer = {0};
        laggard l = {r, kind ? NULL : &seen};
        reactor_timer ticks;
        pthread_t thread;
        void *a[] = {r, &next};
        turns(r, 1);
        set(&write_waits, 0);
        set(&write_may_go, 0);
        assert_int_equal(pthread_create(&thread, NULL, lag_behind, &l), 0);
        assert_int_equal(reactor_every(r, 40, on_timer, &timer, &ticks), 0);
        while (!get(&write_waits)) assert_true(reactor_poll(r, -1) >= 0);
        turns(r, 3); /* may or may not see it already */
        set(&write_may_go, 1);
        pthread_join(thread, NULL);
        set(&slow_writes, 0);
        turns(r, 3);
        assert_int_equal(reactor_cancel(r, ticks), 0);
        turns(r, 1);
        assert_int_equal(seen.calls, kind ? 0 : 1);
        assert_silent(r);
        assert_int_equal(pthread_create(&thread, NULL, post_from_thread, a), 0);
        assert_int_equal(reactor_poll(r, -1), 1);
        pthread_join(thread, NULL);
        assert_silent(r);
        reactor_destroy(r);
    }
}

/* ---- doorbells ---- */

typedef struct bell {
    reactor_async id;
    int calls, sent, seen; /* sent is what other threads have put into their queue */
    reactor_async closes, sends;
} bell;

static void on_bell(reactor *r, reactor_async a, void *user) {
    bell *b = user;
    assert_true(a.id == b->id.id);
    b->calls++;
    b->seen = get(&b->sent);
    if (b->closes.id) assert_int_equal(reactor_async_close(r, b->closes), 0);
    if (b->sends.id) assert_int_equal(reactor_async_send(r, b->sends), 0);
    b->closes.id = b->sends.id = 0;
}

static void hang(reactor *r, bell *b) {
    assert_int_equal(reactor_async_open(r, on_bell, b, &b->id), 0);
}

CASE(async_many_sends_are_one_call) {
    reactor *r = make_loop();
    bell b[40];
    memset(b, 0, sizeof b);
    for (int i = 0; i < 40; i++) hang(r, &b[i]);
    assert_silent(r);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 40; i += 2) assert_int_equal(reactor_async_send(r, b[i].id), 0);
    assert_int_equal(turns(r, 1), 20);
    for (int i = 0; i < 40; i++) assert_int_equal(b[i].calls, !(i & 1));
    assert_silent(r);
    assert_int_equal(reactor_run(r), 0); /* they do not keep it going */
    reactor_destroy(r);
}

CASE(async_sent_in_its_own_call_is_called_again) {
    reactor *r = make_loop();
    bell b = {0};
    hang(r, &b);
    b.sends = b.id;
    assert_int_equal(reactor_async_send(r, b.id), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(b.calls, 2);
    assert_silent(r);
    reactor_destroy(r);
}

CASE(async_of_another_loop_is_refused) {
    reactor *r = make_loop(), *other = make_loop();
    bell b = {0}, theirs = {0};
    hang(r, &b);
    hang(other, &theirs);
    assert_int_equal(reactor_async_send(other, b.id), -EBADF);
    assert_int_equal(reactor_async_close(other, b.id), -EBADF);
    assert_silent(other);
    assert_int_equal(reactor_async_send(r, b.id), 0);
    assert_int_equal(turns(r, 1), 1);
    reactor_destroy(other);
    reactor_destroy(r);
}

CASE(async_closed_is_not_called_and_its_handle_is_stale) {
    reactor *r = make_loop();
    bell b[3], next = {0};
    memset(b, 0, sizeof b);
    for (int i = 0; i < 3; i++) hang(r, &b[i]);
    for (int i = 0; i < 3; i++) assert_int_equal(reactor_async_send(r, b[i].id), 0);
    assert_int_equal(reactor_async_close(r, b[0].id), 0); /* sent, not called yet */
    b[1].closes = b[2].id;                                /* of the same turn */
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(b[0].calls, 0);
    assert_int_equal(b[2].calls, 0);
    for (int i = 0; i < 200; i++) { /* the place is used again, the old handle stays stale */
        hang(r, &next);
        assert_int_equal(reactor_async_send(r, b[0].id), -EBADF);
        assert_int_equal(reactor_async_send(r, b[2].id), -EBADF);
        assert_silent(r);
        if (i & 1) assert_int_equal(reactor_async_send(r, next.id), 0);
        assert_int_equal(reactor_async_close(r, next.id), 0);
        assert_int_equal(reactor_async_close(r, next.id), -EBADF);
    }
    assert_silent(r);
    assert_int_equal(next.calls, 0);
    reactor_destroy(r);
}

CASE(async_refuses_what_makes_no_sense) {
    reactor *r = make_loop(), *other = make_loop();
    bell b = {0};
    reactor_async none = {0}, far = {0};
    far.id = UINT64_C(1) << 32 | 0xfffffff0u;
    assert_int_equal(reactor_async_open(NULL, on_bell, &b, &b.id), -EINVAL);
    assert_int_equal(reactor_async_open(r, NULL, &b, &b.id), -EINVAL);
    assert_int_equal(reactor_async_open(r, on_bell, &b, NULL), -EINVAL);
    assert_int_equal(reactor_async_send(NULL, none), -EINVAL);
    assert_int_equal(reactor_async_close(NULL, none), -EINVAL);
    hang(r, &b);
    assert_int_equal(reactor_async_send(r, none), -EBADF);
    assert_int_equal(reactor_async_send(r, far), -EBADF);
    assert_int_equal(reactor_async_send(other, b.id), -EBADF); /* never had one */
    assert_int_equal(reactor_async_close(r, none), -EBADF);
    assert_silent(r);
    reactor_destroy(other);
    reactor_destroy(r);
}

/* What a thread put into its queue before a send is seen by a call that comes after it. */
typedef struct ringer {
    reactor *r;
    bell *b;
} ringer;
static void *ring_often(void *user) {
    const ringer *g = user;
    for (int i = 0; i < 20000; i++) {
        __atomic_add_fetch(&g->b->sent, 1, __ATOMIC_RELEASE);
        assert_int_equal(reactor_async_send(g->r, g->b->id), 0);
        if (i % 1000 == 0) nap(200000); /* the loop falls asleep now and then */
    }
    return NULL;
}

CASE(async_from_threads_loses_nothing) {
    reactor *r = make_loop();
    bell b = {0};
    ringer g = {r, &b};
    pthread_t thread[THREADS];
    hang(r, &b);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ring_often, &g), 0);
    while (b.seen < THREADS * 20000) assert_true(reactor_poll(r, -1) >= 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    turns(r, 2);
    assert_silent(r);
    assert_true(b.calls <= THREADS * 20000 + 1);
    reactor_destroy(r);
}

static reactor *belled_loop;
static reactor_async belled;
static void ring_in_handler(int signum) {
    (void)signum;
    reactor_async_send(belled_loop, belled);
}

CASE(async_from_a_signal_handler) {
    reactor *r = make_loop();
    bell b = {0};
    hang(r, &b);
    belled_loop = r;
    belled = b.id;
    void (*before)(int) = signal(SIGUSR2, ring_in_handler);
    for (int i = 0; i < 3; i++) raise(SIGUSR2);
    assert_int_equal(reactor_poll(r, -1), 1);
    assert_int_equal(b.calls, 1);
    signal(SIGUSR2, before);
    reactor_destroy(r);
}

/* ---- at the end ---- */

static int late_post = 1;
static void post_late(reactor *r, void *user) {
    record *seen = user;
    seen->calls++;
    late_post = reactor_post(r, on_task, seen);
}

CASE(law11_posts_pending_at_destroy_are_run_and_later_ones_refused) {
    reactor *r = make_loop();
    record seen = {0};
    static order o[3000];
    int sequence = 0;
    late_post = 1;
    for (int i = 0; i < 3000; i++) {
        o[i].sequence = &sequence;
        assert_int_equal(reactor_post(r, in_order, &o[i]), 0);
    }
    assert_int_equal(reactor_post(r, post_late, &seen), 0);
    reactor_destroy(r);
    assert_int_equal(sequence, 3000);
    for (int i = 0; i < 3000; i++) assert_int_equal(o[i].at, i);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(late_post, -ECANCELED);
}

CASE(law11_what_a_budget_left_is_run_by_destroy) {
    reactor_options o = {.post_budget = 3};
    reactor *r = make_loop_with(&o);
    record post = {0}, later = {0};
    for (int i = 0; i < 20; i++) {
        assert_int_equal(reactor_post(r, on_task, &post), 0);
        assert_int_equal(reactor_defer(r, on_task, &later), 0);
    }
    turns(r, 2);
    assert_true(post.calls < 20);
    reactor_destroy(r);
    assert_int_equal(post.calls, 20);
    assert_int_equal(later.calls, 20);
}

static void everything_late(reactor *r, void *user) {
    record *seen = user;
    reactor_key k;
    reactor_timer t;
    seen->calls++;
    assert_int_equal(reactor_run(r), -EBUSY);
    assert_int_equal(reactor_poll(r, 0), -EBUSY);
    assert_int_equal(reactor_select(r, &k, 1, 0), -EBUSY);
    reactor_after(r, 0, on_timer, seen, &t);
    reactor_defer(r, on_task, seen);
    reactor_stop(r);
    reactor_wake(r);
}

CASE(law11_a_task_run_by_destroy_may_call_anything) {
    reactor *r = make_loop();
    record seen = {0};
    for (int i = 0; i < 3; i++) assert_int_equal(reactor_post(r, everything_late, &seen), 0);
    reactor_destroy(r);
    assert_true(seen.calls >= 3);
}

/* ---- wake and stop from elsewhere ---- */

static void *stop_from_thread(void *loop) {
    nap(1 * MS);
    reactor_stop(loop);
    return NULL;
}

CASE(law10_stop_from_threads) {
    reactor *r = make_loop();
    reactor_ref(r);
    for (int i = 0; i < 20; i++) {
        pthread_t thread[THREADS];
        for (int k = 0; k < THREADS; k++)
            assert_int_equal(pthread_create(&thread[k], NULL, stop_from_thread, r), 0);
        assert_int_equal(reactor_run(r), 0);
        for (int k = 0; k < THREADS; k++) pthread_join(thread[k], NULL);
        turns(r, 1); /* uses up those that came after its end */
    }
    reactor_destroy(r);
}

static void *wake_from_thread(void *loop) {
    nap(1 * MS);
    for (int i = 0; i < 1000; i++) reactor_wake(loop);
    return NULL;
}

CASE(law10_wake_from_threads) {
    reactor *r = make_loop();
    pthread_t thread[THREADS];
    for (int k = 0; k < THREADS; k++)
        assert_int_equal(pthread_create(&thread[k], NULL, wake_from_thread, r), 0);
    assert_int_equal(reactor_poll(r, -1), 0);
    for (int k = 0; k < THREADS; k++) pthread_join(thread[k], NULL);
    turns(r, 2);
    assert_silent(r);
    reactor_destroy(r);
}

static reactor *handlers_loop;
static volatile sig_atomic_t handled;
static void wake_in_handler(int signum) {
    (void)signum;
    handled = 1;
    reactor_wake(handlers_loop);
}
static void stop_in_handler(int signum) {
    (void)signum;
    handled = 1;
    reactor_stop(handlers_loop);
}
static void *kill_later(void *target) {
    nap(3 * MS);
    pthread_kill(*(pthread_t *)target, SIGUSR2);
    return NULL;
}

CASE(law10_wake_and_stop_from_a_signal_handler) {
    struct sigaction action, old;
    pthread_t self = pthread_self(), thread;
    reactor *r = make_loop();
    handlers_loop = r;
    memset(&action, 0, sizeof action);
    action.sa_handler = wake_in_handler;
    sigaction(SIGUSR2, &action, &old);
    for (int i = 0; i < 10; i++) {
        handled = 0;
        assert_int_equal(pthread_create(&thread, NULL, kill_later, &self), 0);
        while (!handled) assert_int_equal(reactor_poll(r, -1), 0);
        pthread_join(thread, NULL);
    }
    action.sa_handler = stop_in_handler;
    sigaction(SIGUSR2, &action, NULL);
    reactor_ref(r);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pthread_create(&thread, NULL, kill_later, &self), 0);
        assert_int_equal(reactor_run(r), 0);
        pthread_join(thread, NULL);
    }
    sigaction(SIGUSR2, &old, NULL);
    turns(r, 1);
    assert_silent(r);
    reactor_destroy(r);
}

/* ---- signals ---- */

/* Until the callbacks that a raised signal leads to have run; a signal is no event to wait for. */
static void settle(reactor *r) { turns(r, 3); }

static void old_handler(int signum) {
    (void)signum;
    handled++;
}

static void assert_same_action(int signum, const struct sigaction *before) {
    struct sigaction now;
    sigaction(signum, NULL, &now);
    assert_true(now.sa_handler == before->sa_handler);
    assert_int_equal(now.sa_flags, before->sa_flags);
    for (int s = 1; s < 32; s++)
        assert_int_equal(sigismember(&now.sa_mask, s), sigismember(&before->sa_mask, s));
}

CASE(law11_signals_previous_disposition_is_restored) {
    struct sigaction before[3], original;
    sigaction(SIGUSR1, NULL, &original);
    memset(before, 0, sizeof before);
    before[0].sa_handler = old_handler;
    before[0].sa_flags = SA_RESTART | SA_NODEFER;
    sigaddset(&before[0].sa_mask, SIGHUP);
    sigaddset(&before[0].sa_mask, SIGTERM);
    before[1].sa_handler = SIG_IGN;
    before[2].sa_handler = SIG_DFL;
    for (int i = 0; i < 3; i++) {
        for (int how = 0; how < 2; how++) {
            reactor *r = make_loop();
            record seen = {0};
            struct sigaction asked;
            sigaction(SIGUSR1, &before[i], NULL);
            sigaction(SIGUSR1, NULL, &asked); /* what the system makes of it */
            handled = 0;
            assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
            raise(SIGUSR1);
            settle(r);
            assert_int_equal(seen.calls, 1);
            assert_int_equal(seen.number, SIGUSR1);
            assert_int_equal(handled, 0);
            if (how == 0) assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
            if (how == 0) assert_same_action(SIGUSR1, &asked);
            reactor_destroy(r);
            assert_same_action(SIGUSR1, &asked);
        }
    }
    sigaction(SIGUSR1, &before[0], NULL);
    raise(SIGUSR1);
    assert_int_equal(handled, 1);
    sigaction(SIGUSR1, &original, NULL);
}

CASE(law11_signal_mask_and_other_dispositions_are_untouched) {
    sigset_t before, now;
    struct sigaction pipe_before;
    sigaction(SIGPIPE, NULL, &pipe_before);
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    reactor *r = make_loop();
    record seen = {0};
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    raise(SIGUSR1);
    settle(r);
    reactor_poll(r, 2);
    for (int s = 1; s < 65; s++) {
        pthread_sigmask(SIG_BLOCK, NULL, &now);
        assert_int_equal(sigismember(&now, s), sigismember(&before, s));
    }
    assert_same_action(SIGPIPE, &pipe_before);
    reactor_destroy(r);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int s = 1; s < 65; s++) assert_int_equal(sigismember(&now, s), sigismember(&before, s));
}

CASE(signal_refuses_what_cannot_be_watched) {
    reactor *r = make_loop();
    record seen = {0};
    static const int bad[] = {0, -1, SIGKILL, SIGSTOP, 65, 1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(reactor_signal(r, bad[i], on_signal, &seen), -EINVAL);
    static const int never[] = {0, -1, 1000, INT32_MAX};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        assert_int_equal(reactor_signal(r, never[i], NULL, NULL), -EINVAL);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), -ENOENT);
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    assert_int_equal(reactor_signal(r, SIGUSR2, NULL, NULL), -ENOENT);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), -ENOENT);
    reactor_destroy(r);
}

CASE(signals_that_came_before_the_call_are_one_call) {
    reactor *r = make_loop();
    record one = {0}, two = {0};
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &one), 0);
    assert_int_equal(reactor_signal(r, SIGUSR2, on_signal, &two), 0);
    for (int i = 0; i < 100; i++) raise(SIGUSR1);
    raise(SIGUSR2);
    assert_int_equal(one.calls, 0); /* not from the handler */
    settle(r);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.calls, 1);
    raise(SIGUSR1);
    settle(r);
    assert_int_equal(one.calls, 2);
    assert_silent(r);
    reactor_destroy(r);
}

CASE(signal_callback_is_replaced) {
    reactor *r = make_loop();
    record one = {0}, two = {0};
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &one), 0);
    raise(SIGUSR1);
    settle(r);
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &two), 0);
    raise(SIGUSR1);
    settle(r);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.calls, 1);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0); /* one watcher, not two */
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), -ENOENT);
    reactor_destroy(r);
}

CASE(law2_signal_removed_while_pending_is_not_called) {
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    raise(SIGUSR1);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &next), 0);
    settle(r);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(next.calls, 0);
    raise(SIGUSR1);
    settle(r);
    assert_int_equal(next.calls, 1);
    reactor_destroy(r);
}

static void remove_signal(reactor *r, int signum, void *user) {
    on_signal(r, signum, user);
    assert_int_equal(reactor_signal(r, signum, NULL, NULL), 0);
    assert_int_equal(reactor_signal(r, signum, NULL, NULL), -ENOENT);
}
static void remove_both_signals(reactor *r, int signum, void *user) {
    on_signal(r, signum, user);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
    assert_int_equal(reactor_signal(r, SIGUSR2, NULL, NULL), 0);
}
static void replace_signal(reactor *r, int signum, void *user) {
    record *seen = user;
    on_signal(r, signum, user);
    assert_int_equal(reactor_signal(r, signum, NULL, NULL), 0);
    assert_int_equal(reactor_signal(r, signum, on_signal, seen + 1), 0);
}

CASE(law1_signal_removes_itself_and_others_in_its_callback) {
    struct sigaction before;
    sigaction(SIGUSR1, NULL, &before);
    reactor *r = make_loop();
    record seen[2] = {{0}, {0}};
    assert_int_equal(reactor_signal(r, SIGUSR1, remove_signal, &seen[0]), 0);
    raise(SIGUSR1);
    settle(r);
    assert_int_equal(seen[0].calls, 1);
    assert_same_action(SIGUSR1, &before);

    seen[0].calls = 0;
    assert_int_equal(reactor_signal(r, SIGUSR1, remove_both_signals, &seen[0]), 0);
    assert_int_equal(reactor_signal(r, SIGUSR2, remove_both_signals, &seen[0]), 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    settle(r);
    assert_int_equal(seen[0].calls, 1);
    assert_same_action(SIGUSR1, &before);

    seen[0].calls = 0;
    assert_int_equal(reactor_signal(r, SIGUSR1, replace_signal, &seen[0]), 0);
    raise(SIGUSR1);
    settle(r);
    raise(SIGUSR1);
    settle(r);
    assert_int_equal(seen[0].calls, 1);
    assert_int_equal(seen[1].calls, 1);
    reactor_destroy(r);
    assert_same_action(SIGUSR1, &before);
}

CASE(several_loops_watch_one_signal) {
    enum { N = 3 };
    struct sigaction before;
    reactor *r[N];
    record seen[N];
    memset(seen, 0, sizeof seen);
    sigaction(SIGUSR1, NULL, &before);
    for (int i = 0; i < N; i++) {
        r[i] = make_loop();
        assert_int_equal(reactor_signal(r[i], SIGUSR1, on_signal, &seen[i]), 0);
    }
    raise(SIGUSR1);
    for (int i = 0; i < N; i++) settle(r[i]);
    for (int i = 0; i < N; i++) assert_int_equal(seen[i].calls, 1);
    assert_int_equal(reactor_signal(r[1], SIGUSR1, NULL, NULL), 0); /* the one in the middle */
    raise(SIGUSR1);
    for (int i = 0; i < N; i++) settle(r[i]);
    assert_int_equal(seen[0].calls, 2);
    assert_int_equal(seen[1].calls, 1);
    assert_int_equal(seen[2].calls, 2);
    reactor_destroy(r[0]);
    raise(SIGUSR1); /* would end the process, were the disposition restored already */
    settle(r[2]);
    assert_int_equal(seen[2].calls, 3);
    assert_int_equal(reactor_signal(r[2], SIGUSR1, NULL, NULL), 0);
    assert_same_action(SIGUSR1, &before);
    reactor_destroy(r[1]);
    reactor_destroy(r[2]);
}

static void *run_loop(void *loop) {
    reactor_run(loop);
    return NULL;
}
static void stop_on_signal(reactor *r, int signum, void *user) {
    on_signal(r, signum, user);
    reactor_stop(r);
}

CASE(several_loops_in_threads_watch_one_signal) {
    reactor *r[THREADS];
    pthread_t thread[THREADS];
    record seen[THREADS];
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < THREADS; i++) {
        r[i] = make_loop();
        reactor_ref(r[i]);
        assert_int_equal(reactor_signal(r[i], SIGUSR1, stop_on_signal, &seen[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, run_loop, r[i]), 0);
    kill(getpid(), SIGUSR1); /* one signal ends them all */
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++) assert_int_equal(seen[i].calls, 1);
    for (int i = 0; i < THREADS; i++) reactor_destroy(r[i]);
}

CASE(law12_signals_do_not_keep_the_loop_going) {
    reactor *r = make_loop();
    record seen = {0};
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    assert_int_equal(reactor_run(r), 0);
    raise(SIGUSR1);
    assert_int_equal(reactor_run(r), 0);
    assert_true(seen.calls <= 1);
    settle(r);
    assert_int_equal(seen.calls, 1); /* and none is lost by that */
    reactor_destroy(r);
}

CASE(signal_ends_a_sleep) {
    reactor *r = make_loop();
    pthread_t self = pthread_self(), thread;
    record seen = {0};
    assert_int_equal(reactor_signal(r, SIGUSR2, on_signal, &seen), 0);
    for (int i = 1; i <= 10; i++) {
        assert_int_equal(pthread_create(&thread, NULL, kill_later, &self), 0);
        while (seen.calls < i) assert_true(reactor_poll(r, -1) >= 0);
        pthread_join(thread, NULL);
    }
    assert_int_equal(seen.calls, 10);
    reactor_destroy(r);
}

CASE(signal_that_another_thread_took_is_told) {
    sigset_t block, before;
    reactor *r = make_loop();
    record seen = {0};
    pthread_t self = pthread_self(), thread;
    assert_int_equal(reactor_signal(r, SIGUSR2, on_signal, &seen), 0);
    assert_int_equal(pthread_create(&thread, NULL, kill_later, &self), 0);
    pthread_join(thread, NULL);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &block, &before);
    settle(r);
    assert_int_equal(seen.calls, 1);
    raise(SIGUSR2); /* blocked: not yet */
    settle(r);
    assert_int_equal(seen.calls, 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    settle(r);
    assert_int_equal(seen.calls, 2);
    reactor_destroy(r);
}

CASE(realtime_signals) {
    reactor *r = make_loop();
    record low = {0}, high = {0};
    assert_int_equal(reactor_signal(r, SIGRTMIN, on_signal, &low), 0);
    assert_int_equal(reactor_signal(r, SIGRTMAX, on_signal, &high), 0);
    raise(SIGRTMIN);
    raise(SIGRTMAX);
    settle(r);
    assert_int_equal(low.number, SIGRTMIN);
    if (!emulated()) assert_int_equal(high.number, SIGRTMAX); /* qemu needs some itself */
    reactor_destroy(r);
}

static void reap(reactor *r, int signum, void *user) {
    volatile int *reaped = user;
    (void)r, (void)signum;
    while (waitpid(-1, NULL, WNOHANG) > 0) ++*reaped;
}

CASE(children_are_reaped_on_sigchld) {
    enum { CHILDREN = 20 };
    reactor *r = make_loop();
    volatile int reaped = 0;
    assert_int_equal(reactor_signal(r, SIGCHLD, reap, (void *)&reaped), 0);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        assert_return_code(child, errno);
        if (child == 0) _exit(i);
    }
    run_until(r, &reaped, CHILDREN);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    reactor_destroy(r);
}

/* A child has the handler and a copy of the loop; a signal for it is none for its parent. */
CASE(law11_a_childs_signal_does_not_reach_the_parents_loop) {
    reactor *r = make_loop();
    record seen = {0};
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &seen), 0);
    turns(r, 1);
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) {
        raise(SIGUSR1);
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    assert_true(WIFEXITED(status));
    uint64_t before = counters(r).events;
    turns(r, 1);
    assert_int_equal(counters(r).events, before);
    assert_silent(r);
    assert_int_equal(seen.calls, 0);
    raise(SIGUSR1);
    settle(r);
    assert_int_equal(seen.calls, 1);
    reactor_destroy(r);
}

CASE(law11_signals_among_many_interruptions) {
    reactor *r = make_loop();
    record seen = {0}, timer = {0};
    pthread_t self = pthread_self(), thread[THREADS];
    assert_int_equal(reactor_signal(r, SIGUSR2, on_signal, &seen), 0);
    int64_t start = clock_ns();
    assert_int_equal(reactor_after(r, 20, on_timer, &timer, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, kill_later, &self), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_true(timer.at >= start + 20 * MS);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    settle(r);
    assert_true(seen.calls >= 1 && seen.calls <= THREADS);
    reactor_destroy(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(law10_posts_of_four_threads_each_once_and_in_order),
        TEST(law10_a_burst_costs_few_turns),
        TEST(law10_posts_run_in_order),
        TEST(deferred_run_in_order),
        TEST(law10_a_task_made_in_a_task_waits_for_the_next_turn),
        TEST(law1_post_and_defer_do_not_call_back),
        TEST(tasks_need_a_function),
        TEST(deferred_runs_after_the_events_of_its_turn),
        TEST(law10_a_post_ends_a_sleep),
        TEST(law10_a_late_notification_neither_spins_nor_hides_the_next),
        TEST(async_many_sends_are_one_call),
        TEST(async_sent_in_its_own_call_is_called_again),
        TEST(async_of_another_loop_is_refused),
        TEST(async_closed_is_not_called_and_its_handle_is_stale),
        TEST(async_refuses_what_makes_no_sense),
        TEST(async_from_threads_loses_nothing),
        TEST(async_from_a_signal_handler),
        TEST(law11_posts_pending_at_destroy_are_run_and_later_ones_refused),
        TEST(law11_what_a_budget_left_is_run_by_destroy),
        TEST(law11_a_task_run_by_destroy_may_call_anything),
        TEST(law10_stop_from_threads),
        TEST(law10_wake_from_threads),
        TEST(law10_wake_and_stop_from_a_signal_handler),
        TEST(law11_signals_previous_disposition_is_restored),
        TEST(law11_signal_mask_and_other_dispositions_are_untouched),
        TEST(signal_refuses_what_cannot_be_watched),
        TEST(signals_that_came_before_the_call_are_one_call),
        TEST(signal_callback_is_replaced),
        TEST(law2_signal_removed_while_pending_is_not_called),
        TEST(law1_signal_removes_itself_and_others_in_its_callback),
        TEST(several_loops_watch_one_signal),
        TEST(several_loops_in_threads_watch_one_signal),
        TEST(law12_signals_do_not_keep_the_loop_going),
        TEST(signal_ends_a_sleep),
        TEST(signal_that_another_thread_took_is_told),
        TEST(realtime_signals),
        TEST(children_are_reaped_on_sigchld),
        TEST(law11_a_childs_signal_does_not_reach_the_parents_loop),
        TEST(law11_signals_among_many_interruptions),
    };
    return cmocka_run_group_tests_name("tasks", tests, NULL, NULL);
}
