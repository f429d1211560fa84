/* Work on threads: reactor_work. */
#include "recorder.h"

/* A job that counts how often it ran and was told. */
typedef struct job {
    int ran, told, status;
    pthread_t by;
} job;

static void run_job(void *user) {
    job *j = user;
    j->ran++;
    j->by = pthread_self();
}

static void on_done(reactor *r, int status, void *user) {
    job *j = user;
    (void)r;
    j->told++;
    j->status = status;
}

CASE(each_job_runs_on_another_thread_and_is_told_once) {
    enum { N = 1000 };
    static job jobs[N];
    memset(jobs, 0, sizeof jobs);
    reactor *r = make_loop();
    for (int i = 0; i < N; i++)
        assert_int_equal(
            (i % 2 ? reactor_work : reactor_work_blocking)(r, run_job, on_done, &jobs[i], NULL), 0);
    assert_int_equal(counters(r).jobs, N);
    assert_int_equal(reactor_run(r), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(jobs[i].ran, 1);
        assert_int_equal(jobs[i].told, 1);
        assert_int_equal(jobs[i].status, 0);
        assert_false(pthread_equal(jobs[i].by, pthread_self()));
    }
    assert_int_equal(counters(r).jobs, 0);
    assert_int_equal(counters(r).jobs_done, N);
    reactor_destroy(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_job_runs_on_another_thread_and_is_told_once),
    };
    return cmocka_run_group_tests_name("work", tests, NULL, NULL);
}
