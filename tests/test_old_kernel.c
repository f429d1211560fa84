/* The short version of what `make portability PARTS=old-kernel` does with every test: without
   accept4, ppoll, epoll_pwait2, eventfd, sendfile and io_uring all is as ever, but for waits in whole
   milliseconds; without epoll another backend takes over and says why. */
#include "portable/old_kernel.c"
#include "stream_help.h"

static int tasks;
static void count_task(reactor *r, void *user) {
    (void)r, (void)user;
    tasks++;
}

static void ignore_timer(reactor *r, reactor_timer t, void *user) { (void)r, (void)t, (void)user; }

CASE(law9_timer_is_not_early) {
    reactor *r = begin();
    int64_t start = clock_ns();
    assert_int_equal(reactor_after_ns(r, 2500000, ignore_timer, NULL, NULL), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_true(clock_ns() - start >= 2500000);
    end(r);
}

static void *post_from_a_thread(void *r) {
    assert_int_equal(reactor_post(r, count_task, NULL), 0);
    return NULL;
}

CASE(law10_posts_and_wakes_end_the_wait) {
    reactor *r = begin();
    pthread_t thread;
    tasks = 0;
    assert_int_equal(pthread_create(&thread, NULL, post_from_a_thread, r), 0);
    while (!tasks) assert_true(reactor_poll(r, -1) >= 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 70000; i++) { /* more than a pipe holds */
        assert_int_equal(reactor_post(r, count_task, NULL), 0);
        if (i % 100 == 0) assert_true(reactor_poll(r, -1) >= 0);
    }
    while (tasks < 70001) assert_true(reactor_poll(r, -1) >= 0);
    reactor_wake(r);
    assert_int_equal(reactor_poll(r, -1), 0);
    assert_no_spin(r);
    end(r);
}

CASE(law11_accepted_connection_does_not_block_and_is_closed_by_exec) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p), inside = reactor_conn_socket(r, p.conn);
    assert_true(fcntl(inside, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(inside, F_GETFD) & FD_CLOEXEC);
    peer_say(r, fd, "hello");
    peer_hears(r, fd, "hello");
    close(fd);
    UNTIL(r, p.closes);
    end(r);
}

CASE(sendfile_copies) {
    enum { SIZE = 1 << 20 };
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.of = &p, .file = pattern_file(SIZE, 10, 0)};
    assert_int_equal(
        reactor_sendfile(r, p.conn, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent), 0);
    peer_takes_pattern(r, fd, SIZE, 10, 0);
    UNTIL(r, sent.calls);
    assert_int_equal(sent.result, 0);
    close(fd);
    end(r);
}

CASE(nesting_without_timerfd_is_refused_and_the_loop_goes_on) {
    reactor *r = begin();
    old_kernel_timerfd = 0;
    int e = reactor_fd(r);
    old_kernel_timerfd = 1;
    assert_true(e == -ENOSYS || e == -ENOTSUP);
    tasks = 0;
    assert_int_equal(reactor_post(r, count_task, NULL), 0);
    assert_int_equal(reactor_poll(r, -1), 1);
    end(r);
}

CASE(without_epoll_the_next_backend_says_why) {
    reactor_options named = {.backend = "epoll"}, best = {0};
    reactor *r = NULL;
    int next = 1;
    while (strcmp(reactor_backend_name(next - 1), "epoll") != 0) next++;
    old_kernel_epoll = 0;
    assert_int_equal(reactor_create(&r, &named), -ENOSYS);
    assert_int_equal(reactor_create(&r, &best), 0);
    old_kernel_epoll = 1;
    assert_string_equal(reactor_backend(r), reactor_backend_name(next));
    assert_non_null(strstr(reactor_backend_reason(r), "epoll: Function not implemented"));
    reactor_destroy(r);
}

CASE(without_io_uring_the_next_backend_says_why) {
    reactor_options named = {.backend = "io_uring"}, best = {0};
    reactor *r = NULL;
    assert_int_equal(reactor_create(&r, &named), -ENOSYS);
    assert_int_equal(reactor_create(&r, &best), 0);
    assert_string_equal(reactor_backend(r), "epoll");
    assert_non_null(strstr(reactor_backend_reason(r), "io_uring: Function not implemented"));
    reactor_destroy(r);
}

int main(void) {
    const struct CMUnitTest refused[] = {TEST(without_io_uring_the_next_backend_says_why)};
    const struct CMUnitTest tests[] = {
        TEST(law9_timer_is_not_early),
        TEST(law10_posts_and_wakes_end_the_wait),
        TEST(law11_accepted_connection_does_not_block_and_is_closed_by_exec),
        TEST(sendfile_copies),
        TEST(nesting_without_timerfd_is_refused_and_the_loop_goes_on),
        TEST(without_epoll_the_next_backend_says_why),
    };
    if (on_backend("io_uring")) return cmocka_run_group_tests(refused, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
