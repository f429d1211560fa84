/* What Windows refuses: memory for a poll, its driver, timers of high resolution, a connection whose
   peer has gone meanwhile, the removal of a console handler. The implementation is compiled into this file, so that these calls can
   fail. Built and run for Windows only. */
#include <winsock2.h>
#include <windows.h>
#include <ws2tcpip.h>
#undef ERROR

static int refuse_polls, refuse_ports, refuse_timers, refuse_accepts; /* so many times */

static int refused(int *times, DWORD error) {
    if (*times <= 0) return 0;
    --*times;
    SetLastError(error);
    return 1;
}

static BOOL control(HANDLE file, DWORD code, LPVOID in, DWORD in_size, LPVOID out, DWORD out_size,
                    LPDWORD got, LPOVERLAPPED o) {
    if (refused(&refuse_polls, ERROR_NO_SYSTEM_RESOURCES)) return FALSE;
    return DeviceIoControl(file, code, in, in_size, out, out_size, got, o);
}

static HANDLE make_port(HANDLE file, HANDLE port, ULONG_PTR key, DWORD threads) {
    if (refused(&refuse_ports, ERROR_CALL_NOT_IMPLEMENTED)) return NULL;
    return CreateIoCompletionPort(file, port, key, threads);
}

static HANDLE make_timer(LPSECURITY_ATTRIBUTES a, LPCWSTR name, DWORD flags, DWORD access) {
    if (refused(&refuse_timers, ERROR_INVALID_PARAMETER)) return NULL;
    return CreateWaitableTimerExW(a, name, flags, access);
}

/* The connection is taken, and then refused: as one that was reset before it was. */
static SOCKET take(SOCKET listener, struct sockaddr *a, int *len) {
    SOCKET s = accept(listener, a, len);
    if (s == INVALID_SOCKET || refuse_accepts <= 0) return s;
    closesocket(s);
    refused(&refuse_accepts, WSAECONNRESET);
    return INVALID_SOCKET;
}

#define DeviceIoControl        control
#define CreateIoCompletionPort make_port
#define CreateWaitableTimerExW make_timer
#define accept                 take
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#include "../../reactor.h"
#undef accept
#undef DeviceIoControl
#undef CreateIoCompletionPort
#undef CreateWaitableTimerExW

#include "../stream_help.h"

static void on_ready(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r, (void)fd;
    *(unsigned *)user |= events;
}

CASE(a_poll_without_memory_is_tried_again_by_itself) {
    reactor *r = make_loop();
    unsigned seen = 0;
    int fd[2];
    make_tcp_pair(fd);
    assert_int_equal(reactor_add(r, (reactor_socket)fd[0], REACTOR_READ, on_ready, &seen), 0);
    turns(r, 2);
    refuse_polls = 3;
    assert_int_equal(reactor_modify(r, (reactor_socket)fd[0], REACTOR_READ | REACTOR_WRITE), 0);
    while (!(seen & REACTOR_WRITE))
        assert_true(reactor_poll(r, -1) >= 0); /* the time limit ends it otherwise */
    refuse_polls = 0;
    assert_int_equal(reactor_remove(r, (reactor_socket)fd[0]), 0);
    close(fd[0]), close(fd[1]);
    reactor_destroy(r);
}

CASE(without_completion_ports_select_takes_over_and_the_reason_is_told) {
    reactor *r = NULL;
    refuse_ports = 1000;
    assert_int_equal(reactor_create(&r, NULL), 0);
    refuse_ports = 0;
    assert_string_equal(reactor_backend(r), "select");
    assert_non_null(strstr(reactor_backend_reason(r), "windows"));
    reactor_destroy(r);
}

static void on_tick(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    ++*(int *)user;
}

CASE(without_timers_of_high_resolution_none_is_early) {
    int ticks = 0;
    refuse_timers = 1000;
    reactor *r = make_loop();
    refuse_timers = 0;
    for (int i = 0; i < 5; i++) {
        int64_t start = clock_ns();
        assert_int_equal(reactor_after(r, 7, on_tick, &ticks, NULL), 0);
        while (ticks == i) assert_true(reactor_poll(r, -1) >= 0);
        assert_true(clock_ns() - start >= 7 * INT64_C(1000000));
    }
    reactor_destroy(r);
}

CASE(a_peer_that_resets_before_it_is_accepted_does_not_pause_the_listener) {
    reactor *r = make_loop();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int gone[3];
    refuse_accepts = 3;
    for (int i = 0; i < 3; i++) gone[i] = dial(s.address);
    UNTIL(r, !refuse_accepts);
    assert_int_equal(counters(r).accept_pauses, 0);
    int fd = visit(r, &s, &p);
    peer_say(r, fd, "hello");
    peer_hears(r, fd, "hello");
    for (int i = 0; i < 3; i++) close(gone[i]);
    close(fd);
    UNTIL(r, p.closes == 1);
    reactor_destroy(r);
}

typedef DWORD(WINAPI *routine_fn)(LPVOID);

/* What the system starts as a thread for an event, which only it can make of the closing. */
static HANDLE start_event(DWORD event) {
    HMODULE module = GetModuleHandleA("kernelbase.dll");
    FARPROC found = module ? GetProcAddress(module, "CtrlRoutine") : NULL;
    if (!found) skip();
    HANDLE thread =
        CreateThread(NULL, 0, (routine_fn)(void (*)(void))found, (LPVOID)(uintptr_t)event, 0, NULL);
    assert_non_null(thread);
    return thread;
}

static void note_signal(reactor *r, int signum, void *user) {
    (void)r;
    *(int *)user = signum;
}

/* No handler can be removed while one runs. The last test: its thread stays until the process ends. */
CASE(a_closed_console_is_sigterm_and_the_loop_can_be_destroyed) {
    reactor *r = make_loop();
    int seen = 0;
    assert_int_equal(reactor_signal(r, SIGTERM, note_signal, &seen), 0);
    assert_int_equal(reactor_signal(r, SIGINT, note_signal, &seen), 0);
    HANDLE thread = start_event(CTRL_CLOSE_EVENT);
    while (seen != SIGTERM) assert_true(reactor_poll(r, -1) >= 0);
    assert_int_equal(reactor_signal(r, SIGINT, NULL, NULL), 0);
    reactor_destroy(r);
    assert_int_equal(WaitForSingleObject(thread, 100), WAIT_TIMEOUT); /* or we would be ended */
    CloseHandle(thread);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_poll_without_memory_is_tried_again_by_itself),
        TEST(without_completion_ports_select_takes_over_and_the_reason_is_told),
        TEST(without_timers_of_high_resolution_none_is_early),
        TEST(a_peer_that_resets_before_it_is_accepted_does_not_pause_the_listener),
        TEST(a_closed_console_is_sigterm_and_the_loop_can_be_destroyed),
    };
    harness_unused();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
