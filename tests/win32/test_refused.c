/* What Windows refuses or does otherwise: memory for a poll or a send, its driver, timers of high
   resolution, a connection whose peer has gone meanwhile, the removal of a console handler; answers
   without events, layers on top of sockets. The implementation is compiled into this file, so that
   these calls can fail. Built and run for Windows only. */
#include <winsock2.h>
#include <windows.h>
#include <ws2tcpip.h>
#undef ERROR

static int refuse_polls, refuse_ports, refuse_timers, refuse_accepts; /* so many times */
static int refuse_sends, refuse_bases, refuse_lower, refuse_packets, refuse_waits, empty_answers;
static DWORD poll_error = ERROR_NO_SYSTEM_RESOURCES;
static DWORD tick_ms; /* by how much the port's waits are late */
static void (*before_wait)(DWORD ms);
static HANDLE last_port;
static SOCKET lower;        /* what the layer on top tells */
static SOCKET kept_alive;   /* whose times of keep-alive were set last */
static size_t largest_send; /* in bytes */

static int refused(int *times, DWORD error) {
    if (*times <= 0) return 0;
    --*times;
    SetLastError(error);
    return 1;
}

static BOOL control(HANDLE file, DWORD code, LPVOID in, DWORD in_size, LPVOID out, DWORD out_size,
                    LPDWORD got, LPOVERLAPPED o) {
    if (refused(&refuse_polls, poll_error)) return FALSE;
    if (refused(&empty_answers, ERROR_IO_PENDING)) { /* of the events only their number is told */
        memset((char *)out + 8, 0, 4);
        PostQueuedCompletionStatus(last_port, 0, 0, o);
        SetLastError(ERROR_IO_PENDING);
        return FALSE;
    }
    return DeviceIoControl(file, code, in, in_size, out, out_size, got, o);
}

static HANDLE make_port(HANDLE file, HANDLE port, ULONG_PTR key, DWORD threads) {
    if (refused(&refuse_ports, ERROR_CALL_NOT_IMPLEMENTED)) return NULL;
    HANDLE made = CreateIoCompletionPort(file, port, key, threads);
    if (made && !port) last_port = made;
    return made;
}

static int refuse_drivers;
static LONG driver_error;
typedef LONG(WINAPI *open_fn)(HANDLE *, ACCESS_MASK, void *, void *, void *, ULONG, ULONG, ULONG,
                              ULONG, void *, ULONG);
static FARPROC really_open;

static LONG WINAPI open_driver(HANDLE *out, ACCESS_MASK access, void *name, void *status,
                               void *size, ULONG attributes, ULONG share, ULONG how, ULONG options,
                               void *ea, ULONG ea_size) {
    if (refused(&refuse_drivers, 0)) return driver_error;
    return ((open_fn)(void (*)(void))really_open)(out, access, name, status, size, attributes,
                                                  share, how, options, ea, ea_size);
}

static FARPROC look_up(HMODULE module, const char *name) {
    FARPROC found = GetProcAddress(module, name);
    if (strcmp(name, "NtCreateFile") != 0) return found;
    really_open = found;
    return (FARPROC)(void (*)(void))open_driver;
}

static BOOL post(HANDLE port, DWORD n, ULONG_PTR key, LPOVERLAPPED o) {
    if (refused(&refuse_packets, ERROR_NOT_ENOUGH_MEMORY)) return FALSE;
    return PostQueuedCompletionStatus(port, n, key, o);
}

static BOOL dequeue(HANDLE port, LPOVERLAPPED_ENTRY entries, ULONG room, PULONG n, DWORD ms,
                    BOOL alertable) {
    if (before_wait) before_wait(ms);
    if (ms && ms != INFINITE) ms += tick_ms;
    return GetQueuedCompletionStatusEx(port, entries, room, n, ms, alertable);
}

static BOOL watch(PHANDLE out, HANDLE timer, WAITORTIMERCALLBACK fn, PVOID user, ULONG ms,
                  ULONG flags) {
    if (refused(&refuse_waits, ERROR_NOT_ENOUGH_MEMORY)) return FALSE;
    return RegisterWaitForSingleObject(out, timer, fn, user, ms, flags);
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

static int give(SOCKET s, LPWSABUF pieces, DWORD n, LPDWORD sent, DWORD flags, LPWSAOVERLAPPED o,
                LPWSAOVERLAPPED_COMPLETION_ROUTINE done) {
    size_t size = 0;
    for (DWORD i = 0; i < n; i++) size += pieces[i].len;
    if (size > largest_send) largest_send = size;
    if (refused(&refuse_sends, WSAENOBUFS)) return SOCKET_ERROR;
    return WSASend(s, pieces, n, sent, flags, o, done);
}

static int give_one(SOCKET s, const char *data, int len, int flags) {
    if (len > 1 && refused(&refuse_sends, WSAENOBUFS)) return SOCKET_ERROR; /* 1: a wake-up */
    return send(s, data, len, flags);
}

static int ask(SOCKET s, DWORD what, LPVOID in, DWORD in_size, LPVOID out, DWORD out_size,
               LPDWORD got, LPWSAOVERLAPPED o, LPWSAOVERLAPPED_COMPLETION_ROUTINE done) {
    if (what == 0x48000022u && refused(&refuse_bases, WSAEOPNOTSUPP)) return SOCKET_ERROR;
    if (what == 0x4800001Du && lower) {
        memcpy(out, &lower, sizeof lower);
        return 0;
    }
    if (what == 0x4800001Du && refused(&refuse_lower, WSAEOPNOTSUPP)) return SOCKET_ERROR;
    if (what == 0x98000004u) kept_alive = s;
    return WSAIoctl(s, what, in, in_size, out, out_size, got, o, done);
}

#define GetQueuedCompletionStatusEx dequeue
#define WSASend                     give
#define PostQueuedCompletionStatus  post
#define RegisterWaitForSingleObject watch
#define WSAIoctl                    ask
#define send(...)                   give_one(__VA_ARGS__)
#define GetProcAddress              look_up
#define DeviceIoControl             control
#define CreateIoCompletionPort      make_port
#define CreateWaitableTimerExW      make_timer
#define accept                      take
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#include "../../reactor.h"
#undef GetQueuedCompletionStatusEx
#undef GetProcAddress
#undef WSASend
#undef PostQueuedCompletionStatus
#undef RegisterWaitForSingleObject
#undef WSAIoctl
#undef send
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

/* Whatever it is, it may have been for good: told as others' refusals are, and not silence. */
CASE(a_poll_that_is_refused_is_told_as_an_error) {
    reactor *r = make_loop();
    unsigned seen = 0;
    int fd[2];
    if (strcmp(reactor_backend(r), "windows") != 0) skip();
    make_tcp_pair(fd);
    poll_error = ERROR_GEN_FAILURE;
    refuse_polls = 1000;
    assert_int_equal(reactor_add(r, (reactor_socket)fd[0], REACTOR_READ, on_ready, &seen), 0);
    while (!(seen & REACTOR_ERROR)) assert_true(reactor_poll(r, 10) >= 0);
    refuse_polls = 0;
    poll_error = ERROR_NO_SYSTEM_RESOURCES;
    assert_int_equal(reactor_remove(r, (reactor_socket)fd[0]), 0);
    close(fd[0]), close(fd[1]);
    reactor_destroy(r);
}

/* What was asked for still stands in its answer, a close among it. */
CASE(an_answer_without_events_says_nothing) {
    reactor *r = make_loop();
    unsigned seen = 0;
    int fd[2];
    if (strcmp(reactor_backend(r), "windows") != 0) skip();
    make_tcp_pair(fd);
    turns(r, 2);
    assert_int_equal(reactor_add(r, (reactor_socket)fd[0], REACTOR_READ, on_ready, &seen), 0);
    empty_answers = 1;
    turns(r, 3);
    assert_int_equal(empty_answers, 0);
    assert_int_equal(seen, 0);
    assert_int_equal(send((SOCKET)fd[1], "x", 1, 0), 1);
    while (!seen) assert_true(reactor_poll(r, -1) >= 0);
    assert_int_equal(seen, REACTOR_READ);
    assert_int_equal(reactor_remove(r, (reactor_socket)fd[0]), 0);
    close(fd[0]), close(fd[1]);
    reactor_destroy(r);
}

CASE(a_layer_that_hides_the_socket_tells_the_one_below) {
    reactor *r = make_loop();
    unsigned seen = 0;
    int fd[2];
    HANDLE other = NULL, self = GetCurrentProcess();
    if (strcmp(reactor_backend(r), "windows") != 0) skip();
    make_tcp_pair(fd);
    HANDLE top = (HANDLE)(intptr_t)fd[0];
    assert_true(DuplicateHandle(self, top, self, &other, 0, FALSE, DUPLICATE_SAME_ACCESS));
    lower = (SOCKET)other;
    refuse_bases = 1;
    assert_int_equal(reactor_add(r, (reactor_socket)fd[0], REACTOR_WRITE, on_ready, &seen), 0);
    assert_int_equal(refuse_bases, 0);
    while (!seen) assert_true(reactor_poll(r, -1) >= 0);
    assert_int_equal(reactor_remove(r, (reactor_socket)fd[0]), 0);
    lower = 0;
    refuse_bases = refuse_lower = 1;
    assert_int_equal(reactor_add(r, (reactor_socket)fd[0], REACTOR_WRITE, on_ready, &seen),
                     -EOPNOTSUPP);
    assert_int_equal(refuse_lower, 0);
    closesocket((SOCKET)other);
    close(fd[0]), close(fd[1]);
    reactor_destroy(r);
}

CASE(an_accepted_connection_has_its_own_times_of_keep_alive) {
    reactor *r = make_loop();
    probe p = {.data = hook_echo};
    reactor_listen_options o = {.conn = {.keep_alive_s = 77}};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    kept_alive = 0;
    int fd = visit(r, &s, &p);
    assert_true(kept_alive == reactor_conn_socket(r, p.conn));
    close(fd);
    UNTIL(r, p.closes == 1);
    reactor_destroy(r);
}

CASE(a_send_without_memory_is_tried_again) {
    reactor *r = make_loop();
    probe p = {.data = hook_echo};
    int fd = attach_tcp_pair(r, &p, NULL);
    refuse_sends = 3;
    peer_say(r, fd, "hello"); /* the short way; what it leaves is sent from the queue */
    peer_hears(r, fd, "hello");
    assert_int_equal(refuse_sends, 0);
    assert_int_equal(p.closes, 0);
    close(fd);
    UNTIL(r, p.closes == 1);
    reactor_destroy(r);
}

/* The system would take all of it at once, or say that it has no memory. */
CASE(a_large_write_leaves_in_parts) {
    const size_t len = 3 * 1024 * 1024;
    reactor *r = make_loop();
    probe p = {0};
    receipt freed = {0};
    int fd = attach_tcp_pair(r, &p, NULL);
    largest_send = 0;
    assert_int_equal(write_pattern(r, p.conn, len, 7, 0, &freed), 1);
    peer_takes_pattern(r, fd, len, 7, 0);
    assert_in_range(largest_send, 64 * 1024, 512 * 1024);
    close(fd);
    UNTIL(r, p.closes == 1);
    assert_int_equal(freed.calls, 1);
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

CASE(without_its_driver_select_takes_over_and_the_reason_is_told) {
    reactor *r = NULL;
    refuse_drivers = 1;
    driver_error = (LONG)0xC0000022; /* STATUS_ACCESS_DENIED */
    assert_int_equal(reactor_create(&r, NULL), 0);
    assert_string_equal(reactor_backend(r), "select");
    assert_non_null(strstr(reactor_backend_reason(r), reactor_strerror(-EACCES)));
    reactor_destroy(r);
}

CASE(a_driver_that_cannot_be_opened_once_more_refuses_one_socket) {
    enum { MANY = 40 }; /* more than are polled with one open file */
    reactor *r = make_loop();
    unsigned seen = 0;
    int fd[MANY][2], n = 0, e = 0;
    if (strcmp(reactor_backend(r), "windows") != 0) skip();
    for (int i = 0; i < MANY; i++) make_tcp_pair(fd[i]);
    refuse_drivers = 1;
    driver_error = (LONG)0xC000009A; /* STATUS_INSUFFICIENT_RESOURCES */
    while (n < MANY &&
           (e = reactor_add(r, (reactor_socket)fd[n][0], REACTOR_WRITE, on_ready, &seen)) == 0)
        n++;
    assert_int_equal(e, -ENOMEM);
    assert_int_equal(reactor_add(r, (reactor_socket)fd[n][0], REACTOR_WRITE, on_ready, &seen), 0);
    while (!seen) assert_true(reactor_poll(r, -1) >= 0);
    reactor_destroy(r);
    for (int i = 0; i < MANY; i++) close(fd[i][0]), close(fd[i][1]);
}

static void on_tick(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    ++*(int *)user;
}

static reactor *waiting;
static DWORD waited_ms;

static void note_wait(DWORD ms) {
    waited_ms = ms;
    reactor_stop(waiting);
}

/* The wait does not go on while the machine sleeps, the clock does. */
CASE(no_timer_is_more_than_a_minute_late_for_a_machine_that_slept) {
    int ticks = 0;
    reactor *r = waiting = make_loop();
    if (strcmp(reactor_backend(r), "windows") != 0) skip();
    assert_int_equal(reactor_after(r, 10 * 60 * 1000, on_tick, &ticks, NULL), 0);
    before_wait = note_wait;
    assert_true(reactor_run(r) >= 0);
    before_wait = NULL;
    assert_in_range(waited_ms, 1, 60 * 1000);
    reactor_destroy(r);
}

CASE(timers_of_high_resolution_do_not_wait_for_the_port) {
    int ticks = 0;
    reactor *r = make_loop();
    HANDLE timer = CreateWaitableTimerExW(NULL, NULL, 2, TIMER_ALL_ACCESS);
    if (strcmp(reactor_backend(r), "windows") != 0 || !timer) skip();
    CloseHandle(timer);
    tick_ms = 1000 * 1000; /* longer than any test */
    for (int i = 0; i < 5; i++) {
        int64_t start = clock_ns();
        assert_int_equal(reactor_after(r, 7, on_tick, &ticks, NULL), 0);
        while (ticks == i) assert_true(reactor_poll(r, -1) >= 0);
        assert_true(clock_ns() - start >= 7 * INT64_C(1000000));
    }
    tick_ms = 0;
    reactor_destroy(r);
}

CASE(without_timers_of_high_resolution_none_is_early) {
    for (int waits = 0; waits < 2; waits++) { /* there are none, or no thread to wait for them */
        int ticks = 0;
        *(waits ? &refuse_waits : &refuse_timers) = 1000;
        reactor *r = make_loop();
        for (int i = 0; i < 5; i++) {
            int64_t start = clock_ns();
            assert_int_equal(reactor_after(r, 7, on_tick, &ticks, NULL), 0);
            while (ticks == i) assert_true(reactor_poll(r, -1) >= 0);
            assert_true(clock_ns() - start >= 7 * INT64_C(1000000));
        }
        refuse_timers = refuse_waits = 0;
        reactor_destroy(r);
    }
}

static void on_task(reactor *r, void *user) {
    (void)r;
    ++*(int *)user;
}

CASE(a_wake_up_that_is_refused_is_told_and_nothing_runs) {
    reactor *r = make_loop();
    int ran = 0;
    if (strcmp(reactor_backend(r), "windows") != 0) skip();
    refuse_packets = 1;
    assert_int_equal(reactor_post(r, on_task, &ran), -ENOMEM);
    turns(r, 3);
    assert_int_equal(ran, 0);
    assert_int_equal(reactor_post(r, on_task, &ran), 0);
    turns(r, 3);
    assert_int_equal(ran, 1);
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
        TEST(a_poll_that_is_refused_is_told_as_an_error),
        TEST(an_answer_without_events_says_nothing),
        TEST(a_layer_that_hides_the_socket_tells_the_one_below),
        TEST(an_accepted_connection_has_its_own_times_of_keep_alive),
        TEST(a_send_without_memory_is_tried_again),
        TEST(a_large_write_leaves_in_parts),
        TEST(without_completion_ports_select_takes_over_and_the_reason_is_told),
        TEST(without_its_driver_select_takes_over_and_the_reason_is_told),
        TEST(a_driver_that_cannot_be_opened_once_more_refuses_one_socket),
        TEST(no_timer_is_more_than_a_minute_late_for_a_machine_that_slept),
        TEST(timers_of_high_resolution_do_not_wait_for_the_port),
        TEST(without_timers_of_high_resolution_none_is_early),
        TEST(a_wake_up_that_is_refused_is_told_and_nothing_runs),
        TEST(a_peer_that_resets_before_it_is_accepted_does_not_pause_the_listener),
        TEST(a_closed_console_is_sigterm_and_the_loop_can_be_destroyed),
    };
    harness_unused();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
