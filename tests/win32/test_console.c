/* The console's events as signals. Built and run for Windows only. */
#include "../recorder.h"

/* Skips where there is no console to make them. */
static void console_event(DWORD event) {
    FreeConsole();
    if (!AllocConsole() || !GenerateConsoleCtrlEvent(event, 0)) skip();
}

CASE(ctrl_c_is_sigint) {
    reactor *r = make_loop();
    record seen = {0}, other = {0};
    assert_int_equal(reactor_signal(r, SIGINT, on_signal, &seen), 0);
    assert_int_equal(reactor_signal(r, SIGTERM, on_signal, &other), 0);
    console_event(CTRL_C_EVENT);
    run_until(r, &seen.calls, 1);
    assert_int_equal(seen.number, SIGINT);
    assert_int_equal(other.calls, 0);
    reactor_destroy(r);
}

CASE(ctrl_break_is_sigterm) {
    reactor *r = make_loop();
    record seen = {0}, other = {0};
    assert_int_equal(reactor_signal(r, SIGTERM, on_signal, &seen), 0);
    assert_int_equal(reactor_signal(r, SIGINT, on_signal, &other), 0);
    console_event(CTRL_BREAK_EVENT);
    run_until(r, &seen.calls, 1);
    assert_int_equal(seen.number, SIGTERM);
    assert_int_equal(other.calls, 0);
    reactor_destroy(r);
}

CASE(one_event_reaches_two_loops_and_not_those_that_have_stopped_watching) {
    reactor *a = make_loop(), *b = make_loop(), *c = make_loop();
    record one = {0}, two = {0}, gone = {0};
    assert_int_equal(reactor_signal(a, SIGINT, on_signal, &one), 0);
    assert_int_equal(reactor_signal(b, SIGINT, on_signal, &two), 0);
    assert_int_equal(reactor_signal(c, SIGINT, on_signal, &gone), 0);
    assert_int_equal(reactor_signal(c, SIGINT, NULL, NULL), 0);
    console_event(CTRL_C_EVENT);
    run_until(a, &one.calls, 1);
    run_until(b, &two.calls, 1);
    turns(c, 3);
    assert_int_equal(gone.calls, 0);
    reactor_destroy(a);
    reactor_destroy(b);
    reactor_destroy(c);
}

CASE(other_signals_are_einval) {
    static const int numbers[] = {SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGBREAK, 0, -1, 1000};
    reactor *r = make_loop();
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_int_equal(reactor_signal(r, numbers[i], on_signal, NULL), -EINVAL);
    assert_int_equal(reactor_signal(r, SIGINT, NULL, NULL), -ENOENT);
    reactor_destroy(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(ctrl_c_is_sigint),
        TEST(ctrl_break_is_sigterm),
        TEST(one_event_reaches_two_loops_and_not_those_that_have_stopped_watching),
        TEST(other_signals_are_einval),
    };
    harness_unused();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
