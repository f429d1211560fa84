/* Work on Windows' threads: what tests/test_work.c tests in depth where there are POSIX threads. */
#include "../recorder.h"

typedef struct job {
    volatile LONG *gate; /* it waits for this to be 1, or NULL */
    volatile LONG ran;
    int told, status;
    DWORD by;
    reactor_job handle;
} job;

static void run_job(void *user) {
    job *j = user;
    while (j->gate && !InterlockedCompareExchange(j->gate, 0, 0)) Sleep(1);
    j->by = GetCurrentThreadId();
    InterlockedIncrement(&j->ran);
}

static void on_done(reactor *r, int status, void *user) {
    job *j = user;
    (void)r;
    j->told++;
    j->status = status;
}

static reactor *make_pool(int threads, int blocking) {
    reactor_options o;
    memset(&o, 0, sizeof o);
    o.work_threads = threads;
    o.blocking_threads = blocking;
    return make_loop_with(&o);
}

CASE(each_job_runs_on_another_thread_and_is_told_once) {
    enum { N = 3000 };
    static job jobs[N];
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_loop();
    for (int i = 0; i < N; i++)
        assert_int_equal((i % 2 ? reactor_work : reactor_work_blocking)(r, run_job, on_done,
                                                                        &jobs[i], &jobs[i].handle),
                         0);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(jobs[i].ran, 1);
        assert_int_equal(jobs[i].told, 1);
        assert_int_equal(jobs[i].status, 0);
        assert_true(jobs[i].by != GetCurrentThreadId());
        assert_int_equal(reactor_job_cancel(r, jobs[i].handle), -EBADF);
    }
    reactor_destroy(r);
}

CASE(blocking_jobs_hold_up_no_others_and_cancel_takes_back) {
    enum { N = 6 };
    volatile LONG gate = 0;
    job blocked[N], quick;
    memset(blocked, 0, sizeof blocked);
    memset(&quick, 0, sizeof quick);
    reactor *r = make_pool(1, 2);
    for (int i = 0; i < N; i++) {
        blocked[i].gate = &gate;
        assert_int_equal(
            reactor_work_blocking(r, run_job, on_done, &blocked[i], &blocked[i].handle), 0);
    }
    assert_int_equal(reactor_work(r, run_job, on_done, &quick, NULL), 0);
    run_until(r, &quick.told, 1);
    assert_int_equal(reactor_job_cancel(r, blocked[N - 1].handle), 0);
    assert_int_equal(reactor_job_cancel(r, blocked[N - 1].handle), -EALREADY);
    run_until(r, &blocked[N - 1].told, 1);
    assert_int_equal(blocked[N - 1].status, -ECANCELED);
    InterlockedExchange(&gate, 1);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < N; i++) assert_int_equal(blocked[i].told, 1);
    reactor_destroy(r);
}

/* Many times, so that the pool begins and ends again and again. */
CASE(destroy_tells_all) {
    enum { N = 50 };
    static job jobs[N];
    for (int round = 0; round < 50; round++) {
        memset(jobs, 0, sizeof jobs);
        reactor *r = make_pool(1 + round % 3, 1);
        for (int i = 0; i < N; i++)
            assert_int_equal(
                (i % 3 ? reactor_work : reactor_work_blocking)(r, run_job, on_done, &jobs[i], NULL),
                0);
        reactor_destroy(r);
        for (int i = 0; i < N; i++) {
            assert_int_equal(jobs[i].told, 1);
            assert_int_equal(jobs[i].ran, jobs[i].status == 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_job_runs_on_another_thread_and_is_told_once),
        TEST(blocking_jobs_hold_up_no_others_and_cancel_takes_back),
        TEST(destroy_tells_all),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
