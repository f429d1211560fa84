/* Bare accepted sockets with a listener's care, and the small helpers of protocols of text. */
#include "stream_help.h"

/* What came of the listener. */
typedef struct taker {
    int calls;
    reactor_socket fd[64];
    char peer[REACTOR_ADDRESS_MAX];
    int pauses, closes, stops, destroys; /* with the call of this number */
} taker;

static void take(reactor *r, reactor_listener l, reactor_socket fd, const char *peer, void *user) {
    taker *t = user;
    t->fd[t->calls++ % 64] = fd;
    snprintf(t->peer, sizeof t->peer, "%s", peer);
    if (t->calls == t->pauses) assert_int_equal(reactor_listener_pause(r, l), 0);
    if (t->calls == t->closes) assert_int_equal(reactor_listener_close(r, l), 0);
    if (t->calls == t->stops) reactor_stop(r);
    if (t->calls == t->destroys) reactor_destroy(r);
}

static void close_taken(taker *t) {
    for (int i = 0; i < t->calls && i < 64; i++) close(t->fd[i]);
    t->calls = 0;
}

/* A client's socket, connected to the listener; blocking. */
static int call_in(reactor *r, reactor_listener l) {
    char text[REACTOR_ADDRESS_MAX];
    struct sockaddr_storage sa;
    assert_true(reactor_listener_address(r, l, text, sizeof text) > 0);
    int len = reactor_address_parse(text, &sa, sizeof sa);
    assert_true(len > 0);
    int fd = socket(sa.ss_family, SOCK_STREAM, 0);
    assert_return_code(fd, errno);
    assert_return_code(connect(fd, (struct sockaddr *)&sa, (socklen_t)len), errno);
    loopback_settles();
    return fd;
}

static void turn_until(reactor *r, const taker *t, int calls) {
    while (t->calls < calls) assert_true(reactor_poll(r, 1000) >= 0);
}

static void accept_hands_out_bare_sockets(void **state) {
    (void)state;
    reactor *r = make_loop();
    reactor_listener l;
    taker t = {.calls = 0};
    char text[REACTOR_ADDRESS_MAX], byte;
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, &t, NULL, &l), 0);
    int client = call_in(r, l);
    turn_until(r, &t, 1);
    assert_true(reactor_socket_address(client, text, sizeof text) > 0);
    assert_string_equal(t.peer, text);
#ifndef _WIN32
    assert_true(fcntl(t.fd[0], F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(t.fd[0], F_GETFD) & FD_CLOEXEC);
#endif
    assert_int_equal(send(client, "x", 1, 0), 1);
    loopback_settles();
    assert_int_equal(recv(t.fd[0], &byte, 1, 0), 1);
    assert_int_equal(byte, 'x');
    reactor_counters n;
    assert_int_equal(reactor_stats(r, &n), 0);
    assert_int_equal(n.accepts, 1);
    assert_int_equal(n.connections, 0);
    assert_int_equal(n.listeners, 1);
    reactor_destroy(r);
    assert_int_equal(send(t.fd[0], "y", 1, 0), 1); /* it is ours, and lives on */
    close_taken(&t);
    close(client);
}

static void accept_keeps_to_its_budget(void **state) {
    (void)state;
    reactor_options o = {.accept_budget = 2};
    reactor *r = make_loop_with(&o);
    reactor_listener l;
    taker t = {.calls = 0};
    int client[5];
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, &t, NULL, &l), 0);
    for (int i = 0; i < 5; i++) client[i] = call_in(r, l);
    for (int i = 2; i <= 6; i += 2) {
        assert_true(reactor_poll(r, 1000) >= 0);
        assert_true(t.calls <= i);
    }
    turn_until(r, &t, 5);
    reactor_destroy(r);
    for (int i = 0; i < 5; i++) close(client[i]);
    close_taken(&t);
}

static void accept_is_paused_resumed_and_closed_inside(void **state) {
    (void)state;
    reactor *r = make_loop();
    reactor_listener l;
    taker t = {.pauses = 1};
    int client[4];
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, &t, NULL, &l), 0);
    for (int i = 0; i < 4; i++) client[i] = call_in(r, l);
    turn_until(r, &t, 1);
    for (int i = 0; i < 3; i++) assert_true(reactor_poll(r, 0) >= 0);
    assert_int_equal(t.calls, 1);
    assert_int_equal(reactor_run(r), 0); /* a paused one does not keep it going */
    t.stops = 2;
    assert_int_equal(reactor_listener_resume(r, l), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(t.calls, 2);
    t.closes = 3;
    turn_until(r, &t, 3);
    for (int i = 0; i < 3; i++) assert_true(reactor_poll(r, 0) >= 0);
    assert_int_equal(t.calls, 3);
    assert_int_equal(reactor_listener_pause(r, l), -EBADF);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
    for (int i = 0; i < 4; i++) close(client[i]);
    close_taken(&t);
}

static void accept_survives_a_destroy_inside(void **state) {
    (void)state;
    reactor *r = make_loop();
    reactor_listener l;
    taker t = {.destroys = 1};
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, &t, NULL, &l), 0);
    int a = call_in(r, l), b = call_in(r, l);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(t.calls, 1);
    close(a);
    close(b);
    close_taken(&t);
}

static void accept_drains_those_who_wait(void **state) {
    (void)state;
    reactor *r = make_loop();
    reactor_listener l;
    taker t = {.calls = 0};
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, &t, NULL, &l), 0);
    int a = call_in(r, l), b = call_in(r, l);
    assert_int_equal(reactor_drain(r, 60000), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(t.calls, 2);
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, &t, NULL, &l), -ECANCELED);
    reactor_destroy(r);
    close(a);
    close(b);
    close_taken(&t);
}

#ifndef _WIN32
/* accept(2) fails in every turn while the table is full: the listener must not spin, and goes on when
   there is room. */
static void accept_pauses_while_the_table_is_full(void **state) {
    (void)state;
    reactor *r = make_loop();
    reactor_listener l;
    taker t = {.calls = 0};
    struct rlimit old, tight;
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, &t, NULL, &l), 0);
    int client = call_in(r, l);
    assert_return_code(getrlimit(RLIMIT_NOFILE, &old), errno);
    tight = old;
    tight.rlim_cur = (rlim_t)client + 1;
    int holes[256], n = 0;
    assert_return_code(setrlimit(RLIMIT_NOFILE, &tight), errno);
    while (n < 256 && (holes[n] = dup(client)) >= 0) n++; /* those below */
    for (int i = 0; i < 20; i++) assert_true(reactor_poll(r, 2) >= 0);
    reactor_counters c;
    assert_int_equal(reactor_stats(r, &c), 0);
    int calls = t.calls;
    uint64_t pauses = c.accept_pauses, events = c.events;
    for (int i = 0; i < n; i++) close(holes[i]);
    assert_return_code(setrlimit(RLIMIT_NOFILE, &old), errno);
    assert_int_equal(calls, 0);
    assert_true(pauses >= 1);
    assert_true(events <= pauses + 2); /* it was reported once for each attempt, not every turn */
    turn_until(r, &t, 1);
    reactor_destroy(r);
    close(client);
    close_taken(&t);
}

static void accept_takes_unix_addresses_and_sockets_handed_over(void **state) {
    (void)state;
    reactor *r = make_loop();
    reactor_listener l, m;
    taker t = {.calls = 0};
    char path[] = "/tmp/reactor-accept-XXXXXX", text[REACTOR_ADDRESS_MAX];
    assert_non_null(mkdtemp(path));
    snprintf(text, sizeof text, "unix:%s/s", path);
    assert_int_equal(reactor_accept(r, text, take, &t, NULL, &l), 0);
    int a = call_in(r, l);
    turn_until(r, &t, 1);
    assert_string_equal(t.peer, "unix:");
    assert_int_equal(reactor_listener_close(r, l), 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_return_code(listen(fd, 5), errno);
    snprintf(text, sizeof text, "fd:%d", fd);
    assert_int_equal(reactor_accept(r, text, take, &t, NULL, &m), 0);
    assert_int_equal(reactor_listener_socket(r, m), fd);
    assert_int_equal(reactor_listener_socket(r, l), -1);
    int b = call_in(r, m);
    turn_until(r, &t, 2);
    reactor_destroy(r);
    rmdir(path);
    close(a);
    close(b);
    close_taken(&t);
}
#endif

static void accept_refuses_what_makes_no_sense(void **state) {
    (void)state;
    reactor *r = make_loop();
    reactor_listener l;
    reactor_listen_options o = {.max_connections = 1};
    assert_int_equal(reactor_accept(NULL, "127.0.0.1:0", take, NULL, NULL, &l), -EINVAL);
    assert_int_equal(reactor_accept(r, NULL, take, NULL, NULL, &l), -EINVAL);
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", NULL, NULL, NULL, &l), -EINVAL);
    assert_int_equal(reactor_accept(r, "127.0.0.1:0", take, NULL, &o, &l), -EINVAL);
    assert_int_equal(reactor_accept(r, "nothing", take, NULL, NULL, &l), -EINVAL);
    assert_int_equal(l.id, 0);
    assert_int_equal(reactor_run(r), 0);
    reactor_destroy(r);
}

/* ---- helpers ---- */

static void line_finds_ends_of_lines(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t takes, length;
    } rows[] = {{"", 0, 99},        {"abc", 0, 99},    {"abc\r", 0, 99}, {"abc\n", 4, 3},
                {"abc\r\n", 5, 3},  {"\n", 1, 0},      {"\r\n", 2, 0},   {"a\nb\n", 2, 1},
                {"a\rb\r\n", 5, 3}, {"a\r\r\nb", 4, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t length = 99;
        assert_int_equal(reactor_line(rows[i].text, strlen(rows[i].text), &length), rows[i].takes);
        assert_int_equal(length, rows[i].length);
        assert_int_equal(reactor_line(rows[i].text, strlen(rows[i].text), NULL), rows[i].takes);
    }
    assert_int_equal(reactor_line(NULL, 0, NULL), 0);
}

static void printf_writes_all_or_nothing(void **state) {
    (void)state;
    static const reactor_handler plain = {0};
    reactor *r = make_loop();
    reactor_conn c;
    int fd[2];
    static char big[5000], got[8192];
    memset(big, 'x', sizeof big - 1);
    make_tcp_pair(fd);
    assert_int_equal(reactor_attach(r, fd[0], &plain, NULL, &c), 0);
    assert_int_equal(reactor_printf(r, c, "%s=%d\n", "answer", 42), 0);
    assert_int_equal(reactor_printf(r, c, "%s", big), -EMSGSIZE);
    assert_int_equal(reactor_printf(r, c, "%.4097s", big), -EMSGSIZE);
    assert_int_equal(reactor_printf(r, c, "%.4096s", big), 0);
    assert_int_equal(reactor_printf(NULL, c, "x"), -EINVAL);
    size_t n = 0;
    while (n < 10 + 4096) {
        assert_true(reactor_poll(r, 10) >= 0);
        ssize_t e = recv(fd[1], got + n, sizeof got - n, 0);
        if (e > 0) n += (size_t)e;
    }
    assert_int_equal(n, 10 + 4096);
    assert_memory_equal(got, "answer=42\nxxx", 13);
    assert_int_equal(reactor_close(r, c), 0);
    assert_int_equal(reactor_printf(r, c, "x"), -EBADF);
    reactor_destroy(r);
    close(fd[1]);
}

static void options_can_be_read_and_given_on(void **state) {
    (void)state;
    static const reactor_handler plain = {0};
    reactor *r = make_loop();
    reactor_conn c, d;
    reactor_conn_options o = {.user = &r, .name = "mine", .high_water = 1000}, got, again;
    int fd[2];
    reactor_socket back;
    size_t none = 0;
    make_tcp_pair(fd);
    assert_int_equal(reactor_attach(r, fd[0], &plain, &o, &c), 0);
    assert_true(reactor_poll(r, 0) >= 0);
    assert_int_equal(reactor_set_timeout(r, c, REACTOR_TIMEOUT_READ, 5000), 0);
    assert_int_equal(reactor_get_options(r, c, &got), 0);
    assert_true(got.user == &r);
    assert_string_equal(got.name, "mine");
    assert_int_equal(got.high_water, 1000);
    assert_int_equal(got.low_water, 250);
    assert_int_equal(got.read_timeout_ms, 5000);
    char name[32];
    snprintf(name, sizeof name, "%s", got.name);
    assert_int_equal(reactor_detach(r, c, &back, NULL, &none), 0);
    got.name = name;
    assert_int_equal(reactor_attach(r, back, &plain, &got, &d), 0);
    assert_int_equal(reactor_get_options(r, d, &again), 0);
    assert_string_equal(again.name, "mine");
    again.name = got.name;
    assert_memory_equal(&again, &got, sizeof got);
    reactor_abort(r, d);
    assert_true(reactor_poll(r, 0) >= 0);
    assert_int_equal(reactor_get_options(r, d, &got), -EBADF);
    assert_int_equal(reactor_get_options(NULL, d, &got), -EINVAL);
    assert_int_equal(reactor_get_options(r, d, NULL), -EINVAL);
    reactor_destroy(r);
    close(fd[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(accept_hands_out_bare_sockets),
        TEST(accept_keeps_to_its_budget),
        TEST(accept_is_paused_resumed_and_closed_inside),
        TEST(accept_survives_a_destroy_inside),
        TEST(accept_drains_those_who_wait),
#ifndef _WIN32
        TEST(accept_pauses_while_the_table_is_full),
        TEST(accept_takes_unix_addresses_and_sockets_handed_over),
#endif
        TEST(accept_refuses_what_makes_no_sense),
        TEST(line_finds_ends_of_lines),
        TEST(printf_writes_all_or_nothing),
        TEST(options_can_be_read_and_given_on),
    };
    return cmocka_run_group_tests_name("accept", tests, NULL, NULL);
}
