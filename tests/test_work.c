/* Work on threads: each job is told once, in the order in which jobs end, whatever is cancelled,
   destroyed, forked or refused meanwhile; and neither lane can hold up the other. */
/* ldflags:
     -Wl,--wrap=pthread_create */
#define REACTOR__WORK_IDLE_MS 50
#include "reactor_all.c"

#include "recorder.h"

#include <dirent.h>

/* ---- jobs ---- */

/* What jobs wait for, and what they tell each other. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int open;    /* so many may pass */
    int waiting; /* wait at it now */
    int most;    /* and have at once */
    int passed;
} gate;

static void gate_init(gate *g) {
    memset(g, 0, sizeof *g);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
}

static void gate_fini(gate *g) {
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

static void gate_pass(gate *g) {
    pthread_mutex_lock(&g->lock);
    if (++g->waiting > g->most) g->most = g->waiting;
    pthread_cond_broadcast(&g->changed);
    while (g->passed >= g->open) pthread_cond_wait(&g->changed, &g->lock);
    g->passed++;
    g->waiting--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void gate_open(gate *g, int more) {
    pthread_mutex_lock(&g->lock);
    g->open += more;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

/* Until so many wait at it. */
static void gate_await(gate *g, int waiting) {
    pthread_mutex_lock(&g->lock);
    while (g->waiting < waiting) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

typedef struct job {
    gate *at; /* or NULL: it does not wait */
    int ran, told, status;
    int place; /* among all that were told */
    int *places;
    pthread_t by;
    reactor_job handle;
} job;

static void run_job(void *user) {
    job *j = user;
    if (j->at) gate_pass(j->at);
    j->ran++;
    j->by = pthread_self();
}

static void on_done(reactor *r, int status, void *user) {
    job *j = user;
    (void)r;
    j->told++;
    j->status = status;
    if (j->places) j->place = ++*j->places;
}

static void begin(reactor *r, job *j) {
    assert_int_equal(reactor_work(r, run_job, on_done, j, &j->handle), 0);
}

static void begin_blocking(reactor *r, job *j) {
    assert_int_equal(reactor_work_blocking(r, run_job, on_done, j, &j->handle), 0);
}

static void assert_told(const job *j, int status) {
    assert_int_equal(j->told, 1);
    assert_int_equal(j->status, status);
    assert_int_equal(j->ran, status == 0);
}

static reactor *make_pool(int threads, int blocking) {
    reactor_options o;
    memset(&o, 0, sizeof o);
    o.work_threads = threads;
    o.blocking_threads = blocking;
    return make_loop_with(&o);
}

/* ---- once, and in order ---- */

CASE(each_job_runs_on_another_thread_and_is_told_once) {
    enum { N = 5000 };
    static job jobs[N];
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_loop();
    for (int i = 0; i < N; i++) (i % 2 ? begin : begin_blocking)(r, &jobs[i]);
    assert_int_equal(counters(r).jobs, N);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < N; i++) {
        assert_told(&jobs[i], 0);
        assert_false(pthread_equal(jobs[i].by, pthread_self()));
        assert_int_equal(reactor_job_cancel(r, jobs[i].handle), -EBADF);
    }
    assert_int_equal(counters(r).jobs, 0);
    assert_int_equal(counters(r).jobs_done, N);
    assert_silent(r);
    reactor_destroy(r);
}

/* Until so many have ended, without a turn of the loop. */
static void await_ended(const reactor *r, int count) {
    reactor__work_module *m = (reactor__work_module *)r->modules[REACTOR__LOOP_WORK];
    for (int n = -1; n < count; nap(MS / 10)) {
        n = 0;
        reactor__work_enter();
        for (const reactor__work_job *j = m->ended.first; j; j = j->next) n++;
        reactor__work_leave();
    }
}

CASE(they_are_told_in_the_order_in_which_they_end) {
    enum { N = 8 };
    gate gates[N];
    job jobs[N];
    int places = 0;
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(N, 0);
    for (int i = 0; i < N; i++) {
        gate_init(&gates[i]);
        jobs[i].at = &gates[i];
        jobs[i].places = &places;
        begin(r, &jobs[i]);
    }
    for (int i = 0; i < N; i++) gate_await(&gates[i], 1);
    for (int i = N; i-- > 0;) { /* the next one goes on only when this one has ended */
        gate_open(&gates[i], 1);
        await_ended(r, N - i);
    }
    assert_int_equal(places, 0);
    turns(r, 1);
    for (int i = 0; i < N; i++) assert_int_equal(jobs[i].place, N - i);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
    for (int i = 0; i < N; i++) gate_fini(&gates[i]);
}

CASE(a_lane_with_one_thread_is_first_in_first_out) {
    enum { N = 300 };
    static job jobs[N];
    int places = 0;
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(1, 1);
    for (int i = 0; i < N; i++) {
        jobs[i].places = &places;
        begin(r, &jobs[i]);
    }
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < N; i++) assert_int_equal(jobs[i].place, i + 1);
    reactor_destroy(r);
}

CASE(a_burst_is_told_in_one_turn) {
    enum { N = 2000 };
    static job jobs[N];
    gate g;
    gate_init(&g);
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(1, 0);
    for (int i = 0; i < N; i++) begin(r, &jobs[i]);
    job last = {.at = &g};
    begin(r, &last);
    gate_await(&g, 1); /* all before it have ended */
    turns(r, 1);
    assert_int_equal(counters(r).jobs_done, N);
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    assert_silent(r);
    reactor_destroy(r);
    gate_fini(&g);
}

static void begin_again(reactor *r, int status, void *user) {
    job *j = user;
    assert_int_equal(status, 0);
    if (++j->told < 100) assert_int_equal(reactor_work(r, run_job, begin_again, j, &j->handle), 0);
}

CASE(done_may_begin_the_next) {
    job j = {0};
    reactor *r = make_loop();
    assert_int_equal(reactor_work(r, run_job, begin_again, &j, NULL), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(j.told, 100);
    assert_int_equal(j.ran, 100);
    reactor_destroy(r);
}

static void stop_when_done(reactor *r, int status, void *user) {
    on_done(r, status, user);
    reactor_stop(r);
}

CASE(a_stop_leaves_the_rest_to_the_next_run) {
    enum { N = 20 };
    static job jobs[N];
    int runs = 0, told = 0;
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_loop();
    for (int i = 0; i < N; i++)
        assert_int_equal(reactor_work(r, run_job, stop_when_done, &jobs[i], NULL), 0);
    while (told < N && runs++ < 2 * N) {
        assert_int_equal(reactor_run(r), 0);
        told = 0;
        for (int i = 0; i < N; i++) told += jobs[i].told;
        assert_int_equal(told, runs);
    }
    reactor_destroy(r);
}

CASE(a_turn_tells_as_many_as_its_budget) {
    enum { N = 100 };
    static job jobs[N];
    gate g;
    gate_init(&g);
    memset(jobs, 0, sizeof jobs);
    reactor_options o = {.post_budget = 10, .work_threads = 1};
    reactor *r = make_loop_with(&o);
    for (int i = 0; i < N; i++) begin(r, &jobs[i]);
    job last = {.at = &g};
    begin(r, &last);
    gate_await(&g, 1); /* all before it have ended */
    for (int i = 1; i <= N / 10; i++) {
        turns(r, 1);
        assert_int_equal(counters(r).jobs_done, 10 * i);
    }
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
    gate_fini(&g);
}

CASE(a_job_keeps_the_loop_and_its_drain_going) {
    gate g;
    gate_init(&g);
    job j = {.at = &g}, other = {0};
    reactor *r = make_loop();
    reactor_unref(r); /* which was not referenced: it takes nothing from the job */
    begin(r, &j);
    begin(r, &other);
    gate_await(&g, 1);
    assert_int_equal(reactor_drain(r, 600000), 0);
    while (!other.told) assert_return_code(reactor_poll(r, -1), 0);
    turns(r, 5);
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    assert_told(&j, 0);
    reactor_destroy(r);
    gate_fini(&g);
}

CASE(a_drain_ends_without_a_job_that_does_not) {
    gate g;
    gate_init(&g);
    job j = {.at = &g};
    reactor *r = make_loop();
    begin(r, &j);
    gate_await(&g, 1);
    assert_int_equal(reactor_drain(r, 1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(j.told, 0);
    gate_open(&g, 1);
    reactor_destroy(r); /* waits for it */
    assert_told(&j, 0);
    gate_fini(&g);
}

CASE(a_nested_loop_is_readable_when_a_job_has_ended) {
    if (!backend_nests()) skip();
    gate g;
    gate_init(&g);
    job j = {.at = &g}, cancelled = {0};
    reactor *r = make_pool(1, 0);
    int fd = reactor_fd(r);
    assert_return_code(fd, -fd);
    begin(r, &j);
    begin(r, &cancelled);
    gate_await(&g, 1);
    assert_false(ask(fd, POLLIN));
    assert_int_equal(reactor_job_cancel(r, cancelled.handle), 0);
    assert_true(ask(fd, POLLIN));
    turns(r, 2);
    assert_told(&cancelled, -ECANCELED);
    gate_open(&g, 1);
    await(fd, POLLIN);
    turns(r, 1);
    while (!j.told) turns(r, 1);
    assert_told(&j, 0);
    reactor_destroy(r);
    gate_fini(&g);
}

typedef struct letter {
    reactor *to;
    int posted, told;
    record seen;
} letter;
static void post_letter(void *user) {
    letter *l = user;
    l->posted += reactor_post(l->to, on_task, &l->seen) == 0;
}
static void on_letter(reactor *r, int status, void *user) {
    (void)r;
    ((letter *)user)->told += status == 0;
}

CASE(work_may_post_to_the_loop) {
    letter l;
    memset(&l, 0, sizeof l);
    l.to = make_loop();
    assert_int_equal(reactor_work(l.to, post_letter, on_letter, &l, NULL), 0);
    assert_int_equal(reactor_run(l.to), 0);
    assert_int_equal(l.posted, 1);
    assert_int_equal(l.told, 1);
    assert_int_equal(l.seen.calls, 1);
    reactor_destroy(l.to);
}

/* ---- cancelling ---- */

CASE(what_has_not_begun_is_taken_back) {
    gate g;
    gate_init(&g);
    job running = {.at = &g}, first = {0}, second = {0};
    reactor *r = make_pool(1, 1), *other = make_loop();
    begin(r, &running);
    begin(r, &first);
    begin(r, &second);
    gate_await(&g, 1);
    assert_int_equal(reactor_job_cancel(other, first.handle), -EBADF);
    assert_int_equal(reactor_job_cancel(r, running.handle), -EBUSY);
    assert_int_equal(reactor_job_cancel(r, first.handle), 0);
    assert_int_equal(reactor_job_cancel(r, first.handle), -EALREADY);
    assert_int_equal(first.told, 0); /* no call calls back */
    turns(r, 1);
    assert_told(&first, -ECANCELED); /* although the thread is busy */
    assert_int_equal(reactor_job_cancel(r, first.handle), -EBADF);
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    assert_told(&running, 0);
    assert_told(&second, 0);
    begin(r, &first); /* in a slot that was used before */
    assert_int_equal(reactor_job_cancel(r, running.handle), -EBADF);
    assert_int_equal(reactor_job_cancel(r, second.handle), -EBADF);
    assert_int_equal(reactor_job_cancel(r, (reactor_job){0}), -EBADF);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(other);
    reactor_destroy(r);
    gate_fini(&g);
}

CASE(cancels_race_with_threads) {
    enum { N = 20000 };
    static job jobs[N];
    uint64_t seed = 7;
    int taken = 0, cancelled = 0;
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(3, 3);
    for (int i = 0; i < N; i++) {
        (random_below(&seed, 2) ? begin : begin_blocking)(r, &jobs[i]);
        job *j = &jobs[i - random_below(&seed, i < 50 ? i + 1 : 50)];
        if (random_below(&seed, 2)) taken += reactor_job_cancel(r, j->handle) == 0;
        if (random_below(&seed, 100) == 0) turns(r, 1);
    }
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < N; i++) {
        assert_told(&jobs[i], jobs[i].status);
        cancelled += jobs[i].status == -ECANCELED;
    }
    assert_int_equal(cancelled, taken);
    reactor_destroy(r);
}

/* ---- the end of a loop ---- */

static void *open_soon(void *user) {
    nap(5 * MS);
    gate_open(user, 2);
    return NULL;
}

CASE(destroy_takes_back_what_waits_and_waits_for_what_runs) {
    enum { N = 50 };
    static job jobs[N];
    gate g;
    pthread_t opener;
    gate_init(&g);
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(1, 1);
    jobs[0].at = jobs[1].at = &g;
    begin(r, &jobs[0]);
    begin_blocking(r, &jobs[1]);
    for (int i = 2; i < N; i++) (i % 2 ? begin : begin_blocking)(r, &jobs[i]);
    gate_await(&g, 2);
    assert_int_equal(pthread_create(&opener, NULL, open_soon, &g), 0);
    reactor_destroy(r);
    pthread_join(opener, NULL);
    for (int i = 0; i < N; i++) assert_told(&jobs[i], i < 2 ? 0 : -ECANCELED);
    gate_fini(&g);
}

/* Of those that reactor_destroy calls. */
typedef struct last_one {
    job j;
    reactor_job other;
    int again, cancelled;
} last_one;
static void too_late(reactor *r, int status, void *user) {
    last_one *l = user;
    on_done(r, status, &l->j);
    l->again = reactor_work(r, run_job, on_done, &l->j, NULL);
    l->cancelled = reactor_job_cancel(r, l->other);
}

CASE(done_in_destroy_begins_nothing) {
    gate g;
    pthread_t opener;
    gate_init(&g);
    last_one l = {0}, m = {0};
    job running = {.at = &g};
    reactor *r = make_pool(1, 0);
    begin(r, &running);
    gate_await(&g, 1);
    assert_int_equal(reactor_work(r, run_job, too_late, &l, NULL), 0);
    assert_int_equal(reactor_work(r, run_job, too_late, &m, &l.other), 0);
    assert_int_equal(pthread_create(&opener, NULL, open_soon, &g), 0);
    reactor_destroy(r);
    pthread_join(opener, NULL);
    assert_told(&l.j, -ECANCELED);
    assert_told(&m.j, -ECANCELED);
    assert_int_equal(l.again, -ECANCELED);
    assert_int_equal(l.cancelled, -EALREADY);
    assert_told(&running, 0);
    gate_fini(&g);
}

static void destroy_it(reactor *r, int status, void *user) {
    on_done(r, status, user);
    reactor_destroy(r);
}

CASE(destroyed_inside_done) {
    enum { N = 100 };
    static job jobs[N];
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(1, 0);
    assert_int_equal(reactor_work(r, run_job, destroy_it, &jobs[0], NULL), 0);
    for (int i = 1; i < N; i++) begin(r, &jobs[i]);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < N; i++) assert_told(&jobs[i], jobs[i].status);
    assert_told(&jobs[0], 0);
}

/* ---- connections ---- */

typedef struct answer {
    job j;
    reactor_conn to;
    int gone;
} answer;

static void on_answer(reactor *r, int status, void *user) {
    answer *a = user;
    on_done(r, status, &a->j);
    a->gone = reactor_state(r, a->to) == NULL;
    if (!a->gone) reactor_write(r, a->to, "!", 1);
}

CASE(a_connection_that_has_gone_is_a_stale_handle) {
    static const reactor_handler handler = {.state_size = 8};
    int fd[2], other[2];
    char byte;
    answer a, b;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    gate g;
    gate_init(&g);
    make_pair(fd);
    make_pair(other);
    reactor *r = make_loop();
    assert_int_equal(reactor_attach(r, fd[0], &handler, NULL, &a.to), 0);
    assert_int_equal(reactor_attach(r, other[0], &handler, NULL, &b.to), 0);
    a.j.at = b.j.at = &g;
    assert_int_equal(reactor_work(r, run_job, on_answer, &a, NULL), 0);
    assert_int_equal(reactor_work(r, run_job, on_answer, &b, NULL), 0);
    gate_await(&g, 2);
    reactor_abort(r, a.to);
    turns(r, 2);
    gate_open(&g, 2);
    run_until(r, &a.j.told, 1);
    run_until(r, &b.j.told, 1);
    assert_true(a.gone);
    assert_false(b.gone);
    turns(r, 1);
    assert_int_equal(read(other[1], &byte, 1), 1);
    b.j.at = NULL;
    begin(r, &b.j); /* and one that is told by destroy, after the connections' ends */
    reactor_destroy(r);
    close(fd[1]);
    close(other[1]);
    gate_fini(&g);
}

/* ---- the lanes ---- */

CASE(blocking_jobs_hold_up_no_others) {
    enum { BLOCKED = 40, N = 100 };
    static job blocked[BLOCKED], jobs[N];
    gate g;
    gate_init(&g);
    memset(blocked, 0, sizeof blocked);
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(2, 16);
    for (int i = 0; i < BLOCKED; i++) {
        blocked[i].at = &g;
        begin_blocking(r, &blocked[i]);
    }
    gate_await(&g, 16);
    for (int i = 0; i < N; i++) begin(r, &jobs[i]);
    while (counters(r).jobs > BLOCKED) assert_return_code(reactor_poll(r, -1), 0);
    for (int i = 0; i < N; i++) assert_told(&jobs[i], 0);
    assert_int_equal(g.passed, 0);
    gate_open(&g, BLOCKED);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < BLOCKED; i++) assert_told(&blocked[i], 0);
    assert_int_equal(g.most, 16); /* at once: the lane's limit */
    reactor_destroy(r);
    gate_fini(&g);
}

CASE(other_jobs_hold_up_no_blocking_ones) {
    enum { N = 20 };
    static job busy[N], jobs[N];
    gate g;
    gate_init(&g);
    memset(busy, 0, sizeof busy);
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(2, 1);
    for (int i = 0; i < N; i++) {
        busy[i].at = &g;
        begin(r, &busy[i]);
    }
    gate_await(&g, 2);
    for (int i = 0; i < N; i++) begin_blocking(r, &jobs[i]);
    while (counters(r).jobs > N) assert_return_code(reactor_poll(r, -1), 0);
    for (int i = 0; i < N; i++) assert_told(&jobs[i], 0);
    gate_open(&g, N);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(g.most, 2);
    reactor_destroy(r);
    gate_fini(&g);
}

CASE(the_pool_has_what_most_its_loops_ask_for) {
    enum { N = 12 };
    static job jobs[N];
    gate g;
    gate_init(&g);
    memset(jobs, 0, sizeof jobs);
    reactor *small = make_pool(1, 1), *large = make_pool(N, 1);
    job other = {0};
    begin(small, &other);
    begin(large, &other);
    for (int i = 0; i < N; i++) {
        jobs[i].at = &g;
        begin(small, &jobs[i]);
    }
    gate_await(&g, N);
    gate_open(&g, N);
    assert_int_equal(reactor_run(small), 0);
    assert_int_equal(reactor_run(large), 0);
    reactor_destroy(small);
    reactor_destroy(large);
    gate_fini(&g);
}

/* ---- threads ---- */

#ifdef __linux__
/* Those called reactor-work. */
static int pool_threads(void) {
    char path[300], name[32];
    int n = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        n += fgets(name, sizeof name, f) && strcmp(name, "reactor-work\n") == 0;
        fclose(f);
    }
    if (dir) closedir(dir);
    return n;
}

/* Until no thread has a lane: one that has told its last job is not idle yet. */
static void await_idle(void) {
    for (uint32_t active = 1; active; nap(MS / 10)) {
        reactor__work_enter();
        active = reactor__work_pool.lanes[0].active + reactor__work_pool.lanes[1].active;
        reactor__work_leave();
    }
}

CASE(threads_begin_when_needed_and_end_when_not) {
    enum { N = 6 };
    static job jobs[N];
    gate g;
    gate_init(&g);
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_pool(4, 4);
    assert_int_equal(pool_threads(), 0);
    for (int i = 0; i < 3; i++) {
        jobs[i].at = &g;
        begin(r, &jobs[i]);
    }
    gate_await(&g, 3);
    assert_int_equal(pool_threads(), 3);
    gate_open(&g, 3);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 3; i < N; i++) { /* one after the other: an idle one does it */
        await_idle();
        begin_blocking(r, &jobs[i]);
        assert_int_equal(reactor_run(r), 0);
    }
    assert_true(pool_threads() <= 3);
    while (pool_threads()) nap(MS);
    for (int i = 0; i < 20; i++) { /* as many that end as begin */
        jobs[0].at = NULL;
        begin(r, &jobs[0]);
        assert_int_equal(reactor_run(r), 0);
        if (i % 5 == 0)
            while (pool_threads()) nap(MS);
    }
    reactor_destroy(r);
    assert_int_equal(pool_threads(), 0); /* none is on its way out */
    gate_fini(&g);
}
#endif

static sigset_t mask_seen;
static void see_mask(void *user) {
    ((job *)user)->ran++;
    pthread_sigmask(SIG_BLOCK, NULL, &mask_seen);
}

CASE(they_hear_no_signals_but_faults) {
    sigset_t before, after;
    job j = {0};
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    reactor *r = make_loop();
    assert_int_equal(reactor_work(r, see_mask, on_done, &j, NULL), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 1; i < 32; i++) assert_int_equal(sigismember(&before, i), sigismember(&after, i));
    assert_true(sigismember(&mask_seen, SIGTERM));
    assert_true(sigismember(&mask_seen, SIGINT));
    assert_true(sigismember(&mask_seen, SIGCHLD));
    assert_false(sigismember(&mask_seen, SIGSEGV));
    assert_false(sigismember(&mask_seen, SIGFPE));
    reactor_destroy(r);
}

typedef struct party {
    pthread_t thread;
    int told, wrong;
} party;

static void on_party(reactor *r, int status, void *user) {
    party *p = user;
    (void)r;
    p->told++;
    p->wrong += status != 0 && status != -ECANCELED;
}

static void hardly_anything(void *user) { (void)user; }

/* Loops that come and go, so that the pool ends and begins again under them. */
static void *party_main(void *user) {
    party *p = user;
    for (int round = 0; round < 20; round++) {
        reactor_options o = {.work_threads = 1 + round % 3};
        reactor *r;
        o.backend = backend_under_test();
        if (reactor_create(&r, &o) < 0) return NULL;
        int before = p->told;
        for (int i = 0; i < 200; i++)
            p->wrong += (i % 3 ? reactor_work : reactor_work_blocking)(r, hardly_anything, on_party,
                                                                       p, NULL) != 0;
        if (round % 2) p->wrong += reactor_run(r) != 0;
        reactor_destroy(r);
        p->wrong += p->told - before != 200;
    }
    return NULL;
}

CASE(loops_of_many_threads_share_it) {
    party parties[4];
    memset(parties, 0, sizeof parties);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&parties[i].thread, NULL, party_main, &parties[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(parties[i].thread, NULL);
        assert_int_equal(parties[i].told, 20 * 200);
        assert_int_equal(parties[i].wrong, 0);
    }
}

/* ---- jobs given up, for sections whose work may never return ---- */

static int dropped;
static void drop_job(void *user) {
    (void)user;
    __atomic_add_fetch(&dropped, 1, __ATOMIC_SEQ_CST);
}

CASE(an_abandoned_job_holds_up_nothing) {
    static gate g; /* outlives the loop */
    job j[3];
    memset(j, 0, sizeof j);
    gate_init(&g);
    dropped = 0;
    reactor *r = make_pool(1, 1);
    j[0].at = &g;
    begin_blocking(r, &j[0]);
    begin_blocking(r, &j[1]);
    gate_await(&g, 1);
    assert_int_equal(reactor__work_abandon(r, j[1].handle.id, drop_job), 0);
    assert_int_equal(dropped, 1); /* at once */
    assert_int_equal(reactor__work_abandon(r, j[1].handle.id, drop_job), -EBADF);
    begin(r, &j[2]);
    assert_int_equal(reactor__work_abandon(r, j[0].handle.id, drop_job), 0);
    assert_int_equal(dropped, 1);
    assert_int_equal(reactor_run(r), 0); /* does not wait for it */
    assert_told(&j[2], 0);
    reactor_destroy(r); /* nor does this */
    assert_int_equal(dropped, 1);
    r = make_pool(1, 1); /* the next pool does not know it */
    begin_blocking(r, &j[2]);
    assert_int_equal(reactor_run(r), 0);
    gate_open(&g, 1);
    while (__atomic_load_n(&dropped, __ATOMIC_SEQ_CST) < 2) nap(MS);
    reactor_destroy(r);
    assert_int_equal(j[0].told, 0);
    assert_int_equal(j[1].told + j[1].ran, 0);
}

CASE(an_abandoned_job_that_has_ended_is_not_told) {
    gate g;
    gate_init(&g);
    job j = {0}, next = {.at = &g};
    dropped = 0;
    reactor *r = make_pool(1, 1);
    begin_blocking(r, &j);
    begin_blocking(r, &next);
    gate_await(&g, 1); /* so the first has ended */
    assert_int_equal(reactor__work_abandon(r, j.handle.id, drop_job), 0);
    assert_int_equal(dropped, 1);
    assert_int_equal(reactor__work_abandon(r, next.handle.id, drop_job), 0);
    gate_open(&g, 1);
    while (__atomic_load_n(&dropped, __ATOMIC_SEQ_CST) < 2) nap(MS);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(j.told + next.told, 0);
    begin_blocking(r, &j); /* the pool goes on */
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(j.told, 1);
    reactor_destroy(r);
    gate_fini(&g);
}

/* ---- no threads ---- */

static int refuse_threads;
int __real_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *user);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *user);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *user) {
    return refuse_threads ? EAGAIN : __real_pthread_create(out, attr, fn, user);
}

CASE(without_a_thread_the_call_says_so) {
    gate g;
    gate_init(&g);
    job j = {0}, running = {.at = &g}, second = {0};
    reactor_job out = {77};
    reactor *r = make_pool(2, 2);
    refuse_threads = 1;
    assert_int_equal(reactor_work(r, run_job, on_done, &j, &out), -EAGAIN);
    assert_int_equal(out.id, 0);
    assert_int_equal(counters(r).jobs, 0);
    assert_int_equal(reactor_run(r), 0); /* nothing is left of it */
    refuse_threads = 0;
    begin(r, &running);
    gate_await(&g, 1);
    refuse_threads = 1;
    begin(r, &second); /* the one there is will come to it */
    assert_int_equal(reactor_work_blocking(r, run_job, on_done, &j, NULL), -EAGAIN);
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    assert_told(&running, 0);
    assert_told(&second, 0);
    assert_int_equal(j.told, 0);
    refuse_threads = 0;
    begin(r, &j);
    assert_int_equal(reactor_run(r), 0);
    assert_told(&j, 0);
    reactor_destroy(r);
    gate_fini(&g);
}

CASE(bad_arguments) {
    job j = {0};
    reactor *r = make_loop();
    reactor_options o;
    memset(&o, 0, sizeof o);
    assert_int_equal(reactor_work(NULL, run_job, on_done, &j, NULL), -EINVAL);
    assert_int_equal(reactor_work(r, NULL, on_done, &j, NULL), -EINVAL);
    assert_int_equal(reactor_work(r, run_job, NULL, &j, NULL), -EINVAL);
    assert_int_equal(reactor_work_blocking(r, run_job, NULL, &j, NULL), -EINVAL);
    assert_int_equal(reactor_job_cancel(NULL, j.handle), -EINVAL);
    assert_int_equal(reactor_job_cancel(r, j.handle), -EBADF);
    reactor_destroy(r);
    o.work_threads = -1;
    assert_int_equal(reactor_create(&r, &o), -EINVAL);
    o.work_threads = 1025;
    assert_int_equal(reactor_create(&r, &o), -EINVAL);
    o.work_threads = 0;
    o.blocking_threads = 1025;
    assert_int_equal(reactor_create(&r, &o), -EINVAL);
}

static void count_job_lines(const char *line, void *user) {
    if (strncmp(line, "job ", 4) == 0) ++*(int *)user;
}

CASE(the_dump_shows_jobs) {
    gate g;
    int lines = 0;
    gate_init(&g);
    job j = {.at = &g}, queued = {0};
    reactor *r = make_pool(1, 0);
    begin(r, &j);
    begin(r, &queued);
    gate_await(&g, 1);
    assert_int_equal(reactor_dump(r, count_job_lines, &lines), 0);
    assert_int_equal(lines, 2);
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
    gate_fini(&g);
}

/* ---- fork ---- */

static int child_result(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

/* The thread sanitizer has no threads in a child of a program with several. */
#ifdef __SANITIZE_THREAD__
#define NEEDS_THREADS_IN_A_CHILD skip()
#else
#define NEEDS_THREADS_IN_A_CHILD ((void)0)
#endif

/* In a child assertions are exit statuses. */
#define CHILD(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) _exit(1 + __LINE__ % 190);                                               \
    } while (0)

CASE(a_forked_child_has_a_pool_of_its_own) {
    NEEDS_THREADS_IN_A_CHILD;
    gate g;
    gate_init(&g);
    job ended = {0}, running = {.at = &g}, queued = {0}, new = {0};
    reactor *r = make_pool(1, 1);
    begin(r, &ended);
    begin(r, &running);
    begin(r, &queued);
    gate_await(&g, 1);
    pid_t pid = fork();
    if (pid == 0) {
        CHILD(reactor_fork(r) == 0);
        CHILD(reactor_work(r, run_job, on_done, &new, NULL) == 0);
        CHILD(reactor_job_cancel(r, running.handle) == -EALREADY);
        CHILD(reactor_run(r) == 0);
        CHILD(ended.told == 1 && ended.status == 0);
        CHILD(running.told == 1 && running.status == -ECANCELED);
        CHILD(queued.told == 1 && queued.status == -ECANCELED && !queued.ran);
        CHILD(new.told == 1 && new.status == 0 && new.ran == 1);
        reactor_destroy(r);
        _exit(0);
    }
    assert_int_equal(child_result(pid), 0);
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    assert_told(&ended, 0);
    assert_told(&running, 0);
    assert_told(&queued, 0);
    reactor_destroy(r);
    gate_fini(&g);
}

CASE(a_forked_child_may_destroy_its_copy) {
    NEEDS_THREADS_IN_A_CHILD;
    gate g;
    gate_init(&g);
    job running = {.at = &g}, queued = {0}, new = {0};
    reactor *r = make_pool(1, 1);
    begin(r, &running);
    begin(r, &queued);
    gate_await(&g, 1);
    pid_t pid = fork();
    if (pid == 0) {
        reactor_options o = {.backend = backend_under_test()};
        reactor *own = NULL;
        reactor_destroy(r);
        CHILD(running.told + queued.told == 0); /* they are the parent's */
        CHILD(reactor_create(&own, &o) == 0);
        CHILD(reactor_work(own, run_job, on_done, &new, NULL) == 0);
        CHILD(reactor_run(own) == 0 && new.told == 1);
        reactor_destroy(own);
        _exit(0);
    }
    assert_int_equal(child_result(pid), 0);
    gate_open(&g, 1);
    assert_int_equal(reactor_run(r), 0);
    assert_told(&queued, 0);
    reactor_destroy(r);
    gate_fini(&g);
}

static volatile int forking;
static void *fork_while_it_works(void *user) {
    (void)user;
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            reactor_options o = {.backend = backend_under_test()};
            reactor *own = NULL;
            job new = {0};
            CHILD(reactor_create(&own, &o) == 0);
            CHILD(reactor_work(own, run_job, on_done, &new, NULL) == 0);
            CHILD(reactor_run(own) == 0 && new.told == 1);
            reactor_destroy(own);
            _exit(0);
        }
        if (child_result(pid) != 0) return (void *)1;
    }
    forking = 0;
    return NULL;
}

/* The lock may be held at the fork. */
CASE(forks_while_threads_are_at_work) {
    NEEDS_THREADS_IN_A_CHILD;
    pthread_t thread;
    void *failed;
    job j = {0};
    forking = 1;
    reactor *r = make_loop();
    assert_int_equal(pthread_create(&thread, NULL, fork_while_it_works, NULL), 0);
    while (forking) {
        for (int i = 0; i < 100; i++) begin(r, &j);
        assert_int_equal(reactor_run(r), 0);
    }
    pthread_join(thread, &failed);
    assert_null(failed);
    reactor_destroy(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_job_runs_on_another_thread_and_is_told_once),
        TEST(they_are_told_in_the_order_in_which_they_end),
        TEST(a_lane_with_one_thread_is_first_in_first_out),
        TEST(a_burst_is_told_in_one_turn),
        TEST(done_may_begin_the_next),
        TEST(a_stop_leaves_the_rest_to_the_next_run),
        TEST(a_turn_tells_as_many_as_its_budget),
        TEST(a_job_keeps_the_loop_and_its_drain_going),
        TEST(a_drain_ends_without_a_job_that_does_not),
        TEST(a_nested_loop_is_readable_when_a_job_has_ended),
        TEST(work_may_post_to_the_loop),
        TEST(what_has_not_begun_is_taken_back),
        TEST(cancels_race_with_threads),
        TEST(destroy_takes_back_what_waits_and_waits_for_what_runs),
        TEST(done_in_destroy_begins_nothing),
        TEST(destroyed_inside_done),
        TEST(a_connection_that_has_gone_is_a_stale_handle),
        TEST(blocking_jobs_hold_up_no_others),
        TEST(other_jobs_hold_up_no_blocking_ones),
        TEST(the_pool_has_what_most_its_loops_ask_for),
#ifdef __linux__
        TEST(threads_begin_when_needed_and_end_when_not),
#endif
        TEST(they_hear_no_signals_but_faults),
        TEST(loops_of_many_threads_share_it),
        TEST(an_abandoned_job_holds_up_nothing),
        TEST(an_abandoned_job_that_has_ended_is_not_told),
        TEST(without_a_thread_the_call_says_so),
        TEST(bad_arguments),
        TEST(the_dump_shows_jobs),
        TEST(a_forked_child_has_a_pool_of_its_own),
        TEST(a_forked_child_may_destroy_its_copy),
        TEST(forks_while_threads_are_at_work),
    };
    return cmocka_run_group_tests_name("work", tests, NULL, NULL);
}
