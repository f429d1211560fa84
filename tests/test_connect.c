/* How streams come to be and what time does to them: connecting and its failures, listeners that
   pause, close, share a port or have a limit, and the four timeouts. */
#include "stream_help.h"

#define MS INT64_C(1000000)

/* ---- connecting ---- */

CASE(law1_connect_that_fails_at_once_is_told_later) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    char closed[REACTOR_ADDRESS_MAX], dead[64];
    int fd = bound(closed);
    dead_unix_address(dead, sizeof dead);
    const char *const addresses[] = {closed, "unix:/tmp/reactor-no-such-socket", dead};
    const int reasons[] = {-ECONNREFUSED, -ENOENT, -ECONNREFUSED};
    for (size_t i = 0; i < COUNT(addresses); i++) {
        probe p = {0};
        reactor_conn c = probe_connect(r, addresses[i], &p, NULL);
        assert_string_equal(p.log, "");
        assert_non_null(reactor_state(r, c));
        assert_ptr_equal(reactor_user(r, c), &p);
        UNTIL(r, p.closes);
        assert_string_equal(p.log, "c"); /* nothing else */
        assert_int_equal(p.reason, reasons[i]);
        assert_null(reactor_state(r, c));
        turns(r, 5);
        assert_int_equal(p.closes, 1);
    }
    assert_int_equal(counters(r).connections, 0);
    assert_int_equal(counters(r).connects, 0);
    unlink(dead + strlen("unix:"));
    close(fd);
    end(r);
}

CASE(law1_connect_that_succeeds_at_once_is_told_later) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    probe p = {0}, q = {0};
    server s = serve_unix(r, &p, NULL);
    reactor_conn c = probe_connect(r, s.address, &q, NULL);
    assert_string_equal(q.log, "");
    UNTIL(r, q.opens && p.opens);
    assert_true(q.conn.id == c.id);
    end(r);
}

CASE(connect_gives_state_at_once_and_keeps_its_place) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    server s = serve(r, &p);
    reactor_conn c = probe_connect(r, s.address, &q, NULL);
    void *state_before = reactor_state(r, c);
    assert_non_null(state_before);
    assert_true((int)reactor_conn_socket(r, c) < 0); /* not open */
    UNTIL(r, q.opens);
    assert_ptr_equal(reactor_state(r, c), state_before);
    assert_true(fcntl(reactor_conn_socket(r, c), F_GETFD) & FD_CLOEXEC);
    end(r);
}

CASE(connect_sends_what_was_written_before_it_is_open) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    receipt freed = {0}, sent = {0};
    char address[REACTOR_ADDRESS_MAX];
    int listener = answering(address);
    reactor_conn c = probe_connect(r, address, &q, NULL);
    assert_int_equal(reactor_write(r, c, "first ", 6), 0);
    assert_int_equal(reactor_write(r, c, "second", 6), 0);
    assert_int_equal(write_pattern(r, c, 300000, 1, 0, &freed), 1);
    sent.file = pattern_file(300000, 1, 300000);
    assert_true(reactor_sendfile(r, c, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent) >=
                0);
    assert_int_equal(reactor_pending(r, c), 600012);
    assert_int_equal(reactor_shutdown(r, c), 0);
    assert_int_equal(reactor_write(r, c, "late", 4), -EPIPE);
    int fd = accept_plain(r, listener);
    peer_hears(r, fd, "first second");
    peer_takes_pattern(r, fd, 600000, 1, 0);
    peer_sees_eof(r, fd);
    assert_int_equal(q.opens, 1);
    assert_int_equal(freed.calls, 1);
    assert_int_equal(sent.calls, 1);
    assert_int_equal(p.opens, 0);
    close(fd);
    close(listener);
    UNTIL(r, q.closes);
    end(r);
}

CASE(connect_that_fails_gives_up_what_was_written) {
    reactor *r = begin();
    probe q = {0};
    char closed[REACTOR_ADDRESS_MAX];
    int fd = bound(closed);
    receipt freed = {.of = &q}, sent = {.of = &q, .file = pattern_file(1000, 1, 0)};
    reactor_conn c = probe_connect(r, closed, &q, NULL);
    assert_int_equal(write_pattern(r, c, 1000, 1, 0, &freed), 0);
    assert_int_equal(reactor_sendfile(r, c, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent),
                     0);
    UNTIL(r, q.closes);
    assert_string_equal(q.log, "c");
    assert_int_equal(freed.calls, 1);
    assert_int_equal(sent.calls, 1);
    assert_true(sent.result < 0);
    assert_true(sent.shut);
    assert_int_equal(freed.closes + sent.closes, 0);
    assert_int_equal(counters(r).queued, 0);
    close(fd);
    end(r);
}

CASE(connect_above_the_marks_before_it_is_open) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char data[3000] = {0};
    reactor_connect_options o = {.conn = {.high_water = 1000, .max_output = 2000}};
    server s = serve(r, &p);
    reactor_conn c = probe_connect(r, s.address, &q, &o);
    assert_int_equal(reactor_write(r, c, data, 1500), 1);
    assert_int_equal(reactor_write(r, c, data, 501), -ENOBUFS);
    UNTIL(r, p.in == 1500 && q.writables);
    turns(r, 10);
    assert_int_equal(q.writables, 1);
    assert_int_equal(q.log[0], 'o');
    end(r);
}

static void close_early(int (*how)(reactor *, reactor_conn), int reason) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    server s = serve(r, &p);
    reactor_conn c = probe_connect(r, s.address, &q, NULL);
    assert_int_equal(how(r, c), 0);
    assert_int_equal(q.closes, 0);
    assert_int_equal(reactor_write(r, c, "x", 1), -EBADF);
    UNTIL(r, q.closes);
    turns(r, 10);
    assert_string_equal(q.log, "c");
    assert_int_equal(q.reason, reason);
    assert_int_equal(how(r, c), 0);
    end(r);
}
CASE(connect_closed_before_it_is_open) { close_early(reactor_close, REACTOR_ORDERLY); }
CASE(connect_aborted_before_it_is_open) { close_early(reactor_abort, -ECONNABORTED); }

CASE(connect_closed_before_it_is_open_still_sends_what_was_written) {
    reactor *r = begin();
    probe q = {0};
    char address[REACTOR_ADDRESS_MAX];
    int listener = answering(address);
    reactor_conn c = probe_connect(r, address, &q, NULL);
    assert_int_equal(reactor_write(r, c, "hello and goodbye", 17), 0);
    assert_int_equal(reactor_close(r, c), 0);
    int fd = accept_plain(r, listener);
    peer_hears(r, fd, "hello and goodbye");
    peer_sees_eof(r, fd);
    UNTIL(r, q.closes);
    assert_string_equal(q.log, "c");
    assert_int_equal(q.reason, REACTOR_ORDERLY);
    close(fd);
    close(listener);
    end(r);
}

CASE(connect_pause_before_it_is_open_holds) {
    reactor *r = begin();
    probe q = {0};
    char address[REACTOR_ADDRESS_MAX];
    int listener = answering(address);
    reactor_conn c = probe_connect(r, address, &q, NULL);
    assert_int_equal(reactor_pause(r, c), 0);
    int fd = accept_plain(r, listener);
    peer_say(r, fd, "x");
    UNTIL(r, q.opens);
    turns(r, 10);
    assert_int_equal(q.datas, 0);
    assert_int_equal(reactor_resume(r, c), 0);
    UNTIL(r, q.datas);
    close(fd);
    close(listener);
    end(r);
}

CASE(connect_that_hangs_is_ETIMEDOUT_not_early) {
    reactor *r = begin();
    probe q = {0};
    char address[REACTOR_ADDRESS_MAX];
    int fd[HANGING];
    hanging(fd, address);
    reactor_connect_options o = {.timeout_ms = 60};
    int64_t before = clock_ns();
    probe_connect(r, address, &q, &o);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -ETIMEDOUT);
    assert_true(q.at - before >= 60 * MS);
    assert_string_equal(q.log, "c");
    unhang(fd);
    end(r);
}

CASE(connect_list_goes_on_when_one_hangs) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char address[REACTOR_ADDRESS_MAX], list[3 * REACTOR_ADDRESS_MAX];
    int fd[HANGING];
    hanging(fd, address);
    server s = serve(r, &p);
    snprintf(list, sizeof list, "%s,%s,%s", address, address, s.address);
    reactor_connect_options o = {.timeout_ms = 3000};
    probe_connect(r, list, &q, &o);
    UNTIL(r, q.opens || q.closes);
    assert_int_equal(q.opens, 1);
    UNTIL(r, p.opens);
    unhang(fd);
    end(r);
}

/* The next address is not kept waiting for the end of the one before: a share of these times would
   be minutes. */
CASE(connect_list_tries_the_next_address_soon) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char address[REACTOR_ADDRESS_MAX], list[3 * REACTOR_ADDRESS_MAX];
    int fd[HANGING];
    hanging(fd, address);
    server s = serve(r, &p);
    snprintf(list, sizeof list, "%s,%s,%s", address, address, s.address);
    reactor_connect_options o = {.timeout_ms = 3600 * 1000};
    reactor_conn c = probe_connect(r, list, &q, &o);
    assert_int_equal(reactor_write(r, c, "early", 5), 0);
    UNTIL(r, q.opens && p.in == 5);
    assert_true(q.conn.id == c.id); /* the handle is that of the first attempt */
    assert_int_equal(counters(r).connections, 2);
    assert_int_equal(reactor_close(r, c), 0);
    UNTIL(r, q.closes && p.closes);
    unhang(fd);
    end(r);
}

/* It does not wait for the delay either when the one before has failed. */
CASE(connect_list_tries_the_next_address_at_once_when_one_fails) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char address[REACTOR_ADDRESS_MAX], closed[REACTOR_ADDRESS_MAX], list[4 * REACTOR_ADDRESS_MAX];
    int fd[HANGING], none = bound(closed);
    hanging(fd, address);
    server s = serve(r, &p);
    reactor_connect_options o = {.timeout_ms = 3600 * 1000, .attempt_delay_ms = 600 * 1000};
    snprintf(list, sizeof list, "%s,%s,%s", closed, closed, s.address);
    probe_connect(r, list, &q, &o);
    UNTIL(r, q.opens == 1);
    /* Also while another is under way: only the step from that one takes the delay. */
    o.attempt_delay_ms = 20;
    snprintf(list, sizeof list, "%s,%s,%s,%s", address, closed, closed, s.address);
    probe_connect(r, list, &q, &o);
    UNTIL(r, q.opens == 2);
    unhang(fd), close(none);
    end(r);
}

/* All attempts stay under way, and what has been given up is closed when one has won: the first, for
   which there is room again, or a later one. */
static void several_under_way(int which) {
    reactor *r = begin();
    probe q = {0};
    char address[2][REACTOR_ADDRESS_MAX], list[2 * REACTOR_ADDRESS_MAX];
    int fd[2][HANGING], before;
    for (int i = 0; i < 2; i++) hanging(fd[i], address[i]);
    before = open_descriptors();
    snprintf(list, sizeof list, "%s,%s", address[0], address[1]);
    reactor_connect_options o = {.timeout_ms = 3600 * 1000, .attempt_delay_ms = 1};
    probe_connect(r, list, &q, &o);
    UNTIL(r, open_descriptors() == before + 2);
    assert_int_equal(listen(fd[which][0], 64), 0); /* it answers when it is asked again */
    unblock(fd[which][0]);
    int taken[HANGING], n = 0;
    UNTIL(r, (n < HANGING && (taken[n] = accept(fd[which][0], NULL, NULL)) >= 0 && n++ < 0) ||
                 q.opens);
    assert_int_equal(open_descriptors(), before + 1 + n);
    char peer[REACTOR_ADDRESS_MAX];
    assert_true(reactor_peer_address(r, q.conn, peer, sizeof peer) > 0);
    assert_string_equal(peer, address[which]);
    while (n > 0) close(taken[--n]);
    for (int i = 0; i < 2; i++) unhang(fd[i]);
    end(r);
}
CASE(connect_list_the_first_of_several_under_way_wins) { several_under_way(0); }
CASE(connect_list_the_second_of_several_under_way_wins) { several_under_way(1); }

CASE(connect_list_under_way_can_be_closed_aborted_and_destroyed) {
    for (int how = 0; how < 3; how++) {
        reactor *r = begin();
        probe q = {0};
        char address[REACTOR_ADDRESS_MAX], list[3 * REACTOR_ADDRESS_MAX];
        int fd[HANGING];
        hanging(fd, address);
        int before = open_descriptors();
        snprintf(list, sizeof list, "%s,%s,%s", address, address, address);
        reactor_connect_options o = {.attempt_delay_ms = 1};
        reactor_conn c = probe_connect(r, list, &q, &o);
        UNTIL(r, open_descriptors() == before + 3);
        if (how == 0) assert_int_equal(reactor_close(r, c), 0);
        if (how == 1) assert_int_equal(reactor_abort(r, c), 0);
        if (how < 2) UNTIL(r, q.closes);
        if (how < 2) assert_int_equal(open_descriptors(), before);
        unhang(fd);
        end(r);
        assert_string_equal(q.log, "c");
    }
}

CASE(connect_delay_nonsense_is_EINVAL) {
    reactor *r = begin();
    reactor_connect_options o = {.attempt_delay_ms = -1};
    assert_int_equal(reactor_connect(r, "127.0.0.1:1", &null_handler, &o, NULL), -EINVAL);
    end(r);
}

CASE(connect_list_of_which_all_hang_is_ETIMEDOUT_not_early) {
    reactor *r = begin();
    probe q = {0};
    char address[REACTOR_ADDRESS_MAX], list[2 * REACTOR_ADDRESS_MAX];
    int fd[HANGING];
    hanging(fd, address);
    snprintf(list, sizeof list, "%s,%s", address, address);
    reactor_connect_options o = {.timeout_ms = 80};
    int64_t before = clock_ns();
    probe_connect(r, list, &q, &o);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -ETIMEDOUT);
    assert_true(q.at - before >= 80 * MS);
    unhang(fd);
    end(r);
}

CASE(connect_that_hangs_can_be_closed_and_destroyed) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char address[REACTOR_ADDRESS_MAX];
    int fd[HANGING];
    hanging(fd, address);
    reactor_conn c = probe_connect(r, address, &p, NULL);
    probe_connect(r, address, &q, NULL);
    turns(r, 5);
    assert_int_equal(reactor_close(r, c), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    unhang(fd);
    end(r);
    assert_int_equal(q.closes, 1);
    assert_int_equal(q.reason, -ECANCELED);
    assert_string_equal(q.log, "c");
}

/* A unix server whose backlog is full: Linux answers EAGAIN, which is no readiness to wait for. */
enum { BUSY = 64 };
static int busy_server(int fd[BUSY], char address[64]) {
    struct sockaddr_un a;
    int n = 1;
    unix_address(address, 64);
    socklen_t len = unix_name(&a, address + 5);
    fd[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_return_code(bind(fd[0], (struct sockaddr *)&a, len), errno);
    assert_return_code(listen(fd[0], 0), errno);
    for (int full = 0; !full && n < BUSY; n++) {
        fd[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        full = connect(fd[n], (struct sockaddr *)&a, len) < 0;
    }
    if (errno == EAGAIN) return n;
    print_message("this system refuses who finds the backlog full\n");
    while (n > 0) close(fd[--n]);
    unlink(address + strlen("unix:"));
    return 0;
}

CASE(connect_to_a_unix_server_with_a_full_backlog_ends_not_early) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    probe q = {0};
    char address[64];
    int fd[BUSY], n = busy_server(fd, address);
    if (!n) {
        reactor_destroy(r);
        skip();
    }
    reactor_connect_options o = {.timeout_ms = 100};
    int64_t before = clock_ns();
    probe_connect(r, address, &q, &o);
    assert_int_equal(q.closes, 0);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -ETIMEDOUT);
    assert_true(q.at - before >= 100 * MS);
    assert_int_equal(q.opens, 0);
    while (n > 0) close(fd[--n]);
    unlink(address + strlen("unix:"));
    end(r);
}

/* It sleeps between the tries, so turns are few: no more than one for each that could be. */
CASE(connect_to_a_unix_server_goes_on_when_its_backlog_has_room) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    probe q = {0};
    char address[64];
    int fd[BUSY], n = busy_server(fd, address), taken;
    if (!n) {
        reactor_destroy(r);
        skip();
    }
    probe_connect(r, address, &q, NULL);
    reactor_counters first = counters(r);
    int64_t before = clock_ns();
    while (clock_ns() - before < 100 * MS) assert_true(reactor_poll(r, 100) >= 0);
    assert_int_equal(q.opens + q.closes, 0);
    assert_true(counters(r).turns - first.turns < 20);
    while ((taken = accept(fd[0], NULL, NULL)) >= 0) close(taken);
    UNTIL(r, q.opens || q.closes);
    assert_int_equal(q.opens, 1);
    while (n > 0) close(fd[--n]);
    unlink(address + strlen("unix:"));
    end(r);
}

/* And another address is tried meanwhile. */
CASE(connect_list_goes_on_behind_a_unix_server_with_a_full_backlog) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    probe p = {0}, q = {0};
    char address[64], list[64 + REACTOR_ADDRESS_MAX];
    int fd[BUSY], n = busy_server(fd, address);
    if (!n) {
        reactor_destroy(r);
        skip();
    }
    server s = serve(r, &p);
    reactor_connect_options o = {.timeout_ms = 3600 * 1000, .attempt_delay_ms = 10};
    snprintf(list, sizeof list, "%s,%s", address, s.address);
    probe_connect(r, list, &q, &o);
    UNTIL(r, q.opens);
    while (n > 0) close(fd[--n]);
    unlink(address + strlen("unix:"));
    end(r);
}

CASE(connect_and_exchange_both_ways) {
    enum { LEN = 3 * MIB };
    reactor *r = begin();
    probe p = {.data = hook_echo}, q = {0};
    server s = serve(r, &p);
    reactor_conn c = probe_connect(r, s.address, &q, NULL);
    receipt freed = {0};
    assert_int_equal(write_pattern(r, c, LEN, 5, 0, &freed), 1);
    UNTIL(r, q.in == LEN);
    pattern_check(q.text, sizeof q.text - 1, 5, 0);
    assert_int_equal(reactor_shutdown(r, c), 0);
    UNTIL(r, p.closes && q.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    assert_int_equal(q.reason, REACTOR_ORDERLY);
    end(r);
}

static void hook_connect_again(reactor *r, reactor_conn c, probe *p) {
    (void)c;
    if (p->closes < 5) probe_connect(r, p->extra, p, NULL);
}

CASE(law1_connect_from_on_close_again) {
    reactor *r = begin();
    char closed[REACTOR_ADDRESS_MAX];
    int fd = bound(closed);
    probe p = {.close = hook_connect_again, .extra = closed};
    probe_connect(r, closed, &p, NULL);
    assert_int_equal(reactor_run(r), 0); /* law 12: ends when the last has failed */
    assert_int_equal(p.closes, 5);
    close(fd);
    end(r);
}

/* ---- listeners ---- */

CASE(listener_pause_leaves_peers_in_the_backlog_until_resume) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int before = visit(r, &s, &p);
    assert_int_equal(reactor_listener_pause(r, s.l), 0);
    assert_int_equal(reactor_listener_pause(r, s.l), 0);
    int fd = dial(s.address);
    turns(r, 10);
    assert_int_equal(p.opens, 1);
    peer_say(r, before, "x"); /* those it has go on */
    UNTIL(r, p.datas);
    assert_int_equal(reactor_listener_resume(r, s.l), 0);
    UNTIL(r, p.opens == 2);
    close(fd);
    close(before);
    end(r);
}

CASE(law12_paused_listener_does_not_keep_the_loop) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    assert_int_equal(reactor_listener_pause(r, s.l), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(reactor_listener_resume(r, s.l), 0);
    close(visit(r, &s, &p));
    end(r);
}

CASE(law12_closed_listener_and_ended_connections_end_the_run) {
    reactor *r = begin();
    probe p = {.open = hook_close};
    server s = serve(r, &p);
    int fd = dial(s.address);
    UNTIL(r, p.opens);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.closes, 1);
    close(fd);
    end(r);
}

CASE(listener_close_refuses_peers_and_keeps_connections) {
    reactor *r = begin();
    probe p = {.data = hook_echo}, q = {0};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    assert_int_equal(reactor_listener_pause(r, s.l), -EBADF);
    assert_int_equal(reactor_listener_resume(r, s.l), -EBADF);
    probe_connect(r, s.address, &q, NULL);
    UNTIL(r, q.closes);
    assert_int_equal(q.reason, -ECONNREFUSED);
    peer_say(r, fd, "still here");
    peer_hears(r, fd, "still here");
    close(fd);
    UNTIL(r, p.closes);
    end(r);
}

typedef struct door {
    reactor_listener l;
    int (*how)(reactor *, reactor_listener);
} door;

static void hook_on_door(reactor *r, reactor_conn c, probe *p) {
    const door *d = p->extra;
    (void)c;
    assert_int_equal(d->how(r, d->l), 0);
}

/* Many wait, and the first one's on_open acts on the listener. */
static void from_on_open(int (*how)(reactor *, reactor_listener)) {
    enum { N = 5 };
    reactor *r = begin();
    door d = {{0}, how};
    probe p = {.open = hook_on_door, .extra = &d};
    server s = serve(r, &p);
    int fd[N];
    d.l = s.l;
    for (int i = 0; i < N; i++) fd[i] = dial(s.address);
    UNTIL(r, p.opens);
    turns(r, 20);
    assert_int_equal(p.opens, 1);
    peer_say(r, fd[0], "x");
    UNTIL(r, p.datas);
    for (int i = 0; i < N; i++) close(fd[i]);
    end(r);
}
CASE(law1_listener_paused_inside_on_open_accepts_no_more) { from_on_open(reactor_listener_pause); }
CASE(law2_listener_closed_inside_on_open_accepts_no_more) { from_on_open(reactor_listener_close); }

CASE(max_connections_pauses_and_goes_on) {
    enum { N = 6, MOST = 2 };
    reactor *r = begin();
    probe p = {.data = hook_echo};
    reactor_listen_options o = {.max_connections = MOST};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    int fd[N];
    for (int i = 0; i < N; i++) fd[i] = dial(s.address);
    for (int i = 0; i < N; i++) {
        UNTIL(r, p.opens - p.closes == (N - i < MOST ? N - i : MOST));
        turns(r, 10);
        assert_true(p.opens - p.closes <= MOST);
        assert_true(counters(r).connections <= MOST);
        peer_say(r, fd[i], "x"); /* first come, first served */
        peer_hears(r, fd[i], "x");
        close(fd[i]);
        UNTIL(r, p.closes == i + 1);
    }
    assert_int_equal(p.opens, N);
    end(r);
}

CASE(max_connections_does_not_make_the_loop_spin) {
    reactor *r = begin();
    probe p = {0};
    reactor_listen_options o = {.max_connections = 1};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    int a = visit(r, &s, &p), b = dial(s.address);
    turns(r, 5);
    uint64_t before = counters(r).events;
    turns(r, 20);
    assert_int_equal(counters(r).events, before);
    close(a), close(b);
    end(r);
}

CASE(max_connections_does_not_undo_a_pause) {
    reactor *r = begin();
    probe p = {0};
    reactor_listen_options o = {.max_connections = 1};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    int a = visit(r, &s, &p), b = dial(s.address);
    assert_int_equal(reactor_listener_pause(r, s.l), 0);
    close(a);
    UNTIL(r, p.closes == 1);
    turns(r, 10);
    assert_int_equal(p.opens, 1);
    assert_int_equal(reactor_listener_resume(r, s.l), 0);
    UNTIL(r, p.opens == 2);
    close(b);
    end(r);
}

CASE(reuse_port_lets_two_loops_share_a_port) {
    NEEDS_REUSE_PORT;
    enum { N = 64 };
    reactor *r = begin();
    reactor *other = make_loop();
    probe p = {0}, q = {0};
    reactor_listen_options o = {.reuse_port = 1};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    server t = serve_with(other, s.address, &probe_handler, &q, &o);
    assert_string_equal(s.address, t.address);
    int fd[N];
    for (int i = 0; i < N; i++) fd[i] = dial(s.address);
    while (p.opens + q.opens < N) {
        turn(r);
        turn(other);
    }
    assert_true(p.opens > 0);
    assert_true(q.opens > 0);
    for (int i = 0; i < N; i++) close(fd[i]);
    reactor_destroy(other);
    end(r);
}

CASE(reuse_port_must_be_asked_for) {
    NEEDS_REUSE_PORT;
    reactor *r = begin();
    probe p = {0};
    reactor_listen_options o = {.reuse_port = 1};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    assert_int_equal(reactor_listen(r, s.address, &probe_handler, NULL, NULL), -EADDRINUSE);
    end(r);
}

CASE(backlog_of_one_still_serves_all) {
    enum { N = 20 };
    reactor *r = begin();
    probe p = {0}, q[N] = {{0}};
    reactor_listen_options o = {.backlog = 1};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    for (int i = 0; i < N; i++) {
        probe_connect(r, s.address, &q[i], NULL);
        if (i % 2) UNTIL(r, p.opens == i + 1);
    }
    UNTIL(r, p.opens == N);
    end(r);
}

/* ---- timeouts ---- */

static int which_of(const probe *p) {
    assert_true(p->timeouts > 0);
    return p->which;
}

CASE(timeout_idle_is_not_early_and_ends_with_ETIMEDOUT) {
    reactor *r = begin();
    probe p = {0};
    reactor_listen_options o = {.conn = {.idle_timeout_ms = 40}};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    int64_t before = clock_ns();
    int fd = dial(s.address);
    UNTIL(r, p.closes);
    assert_int_equal(which_of(&p), REACTOR_TIMEOUT_IDLE);
    assert_int_equal(p.timeouts, 1);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_true(p.at - before >= 40 * MS);
    close(fd);
    end(r);
}

CASE(timeout_idle_counts_from_the_last_byte_in_either_direction) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.idle_timeout_ms = 60};
    int fd = attach_pair(r, &p, &o);
    int64_t last = 0;
    for (int i = 0; i < 6 && !p.timeouts; i++) {
        pass(r, 20);
        if (p.timeouts) break; /* this machine was busy for longer than that */
        last = clock_ns();
        if (i % 2)
            peer_say(r, fd, "x");
        else
            assert_int_equal(reactor_write(r, p.conn, "y", 1), 0);
        turn(r);
    }
    UNTIL(r, p.closes);
    assert_int_equal(which_of(&p), REACTOR_TIMEOUT_IDLE);
    assert_true(p.at - last >= 60 * MS);
    close(fd);
    end(r);
}

CASE(timeout_answered_with_1_starts_again) {
    reactor *r = begin();
    probe p = {.answer = 1};
    reactor_conn_options o = {.idle_timeout_ms = 10};
    int64_t before = clock_ns();
    int fd = attach_pair(r, &p, &o);
    for (int i = 1; i <= 4; i++) {
        UNTIL(r, p.timeouts == i);
        assert_true(p.at - before >= i * 10 * MS);
    }
    assert_int_equal(p.closes, 0);
    p.answer = 0;
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ETIMEDOUT);
    close(fd);
    end(r);
}

static void hook_turn_off(reactor *r, reactor_conn c, probe *p) {
    assert_int_equal(reactor_set_timeout(r, c, p->which, 0), 0);
}

CASE(timeout_that_its_callback_turned_off_stays_off) {
    reactor *r = begin();
    probe p = {.answer = 1, .timeout = hook_turn_off};
    reactor_conn_options o = {.idle_timeout_ms = 10};
    int fd = attach_pair(r, &p, &o);
    UNTIL(r, p.timeouts);
    pass(r, 50);
    assert_int_equal(p.timeouts, 1);
    assert_int_equal(p.closes, 0);
    close(fd);
    end(r);
}

static void hook_say_so_and_close(reactor *r, reactor_conn c, probe *p) {
    assert_int_equal(reactor_write(r, c, "late", 4), 0);
    hook_close(r, c, p);
}

/* Whatever it returns. */
CASE(timeout_whose_callback_closed_neither_starts_again_nor_aborts) {
    for (int answer = 0; answer < 2; answer++) {
        reactor *r = begin();
        probe p = {.answer = answer, .timeout = hook_say_so_and_close};
        reactor_conn_options o = {.idle_timeout_ms = 10};
        int fd = attach_pair(r, &p, &o);
        peer_hears(r, fd, "late");
        peer_sees_eof(r, fd);
        UNTIL(r, p.closes);
        assert_int_equal(p.reason, REACTOR_ORDERLY);
        assert_string_equal(p.log, "otc");
        close(fd);
        end(r);
    }
}

CASE(timeout_set_later_turned_off_and_set_again) {
    static const int kinds[] = {REACTOR_TIMEOUT_IDLE, REACTOR_TIMEOUT_READ,
                                REACTOR_TIMEOUT_DEADLINE};
    reactor *r = begin();
    for (size_t i = 0; i < COUNT(kinds); i++) {
        probe p = {0};
        int fd = attach_pair(r, &p, NULL);
        assert_int_equal(reactor_set_timeout(r, p.conn, kinds[i], 20), 0);
        assert_int_equal(reactor_set_timeout(r, p.conn, kinds[i], 0), 0);
        pass(r, 60);
        assert_int_equal(p.timeouts, 0);
        int64_t before = clock_ns();
        assert_int_equal(reactor_set_timeout(r, p.conn, kinds[i], 30), 0);
        UNTIL(r, p.closes);
        assert_int_equal(which_of(&p), kinds[i]);
        assert_true(p.at - before >= 30 * MS);
        assert_int_equal(p.reason, -ETIMEDOUT);
        close(fd);
    }
    end(r);
}

CASE(timeout_made_longer_and_shorter) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    reactor_conn_options o = {.idle_timeout_ms = 20};
    int fd = attach_pair(r, &p, &o);
    int64_t before = clock_ns();
    assert_int_equal(reactor_set_timeout(r, p.conn, REACTOR_TIMEOUT_IDLE, 100), 0);
    UNTIL(r, p.timeouts);
    assert_true(p.at - before >= 100 * MS);
    o.idle_timeout_ms = 100000;
    int other = attach_pair(r, &q, &o);
    assert_int_equal(reactor_set_timeout(r, q.conn, REACTOR_TIMEOUT_IDLE, 10), 0);
    UNTIL(r, q.timeouts); /* long before the time that it had */
    close(fd), close(other);
    end(r);
}

CASE(timeout_read_runs_while_writing_goes_on) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.read_timeout_ms = 40, .idle_timeout_ms = 100000};
    int64_t before = clock_ns();
    int fd = attach_pair(r, &p, &o);
    while (!p.closes) {
        reactor_write(r, p.conn, "x", 1);
        peer_discard(fd);
        turn(r);
    }
    assert_int_equal(which_of(&p), REACTOR_TIMEOUT_READ);
    assert_true(p.at - before >= 40 * MS);
    close(fd);
    end(r);
}

CASE(timeout_read_does_not_run_while_paused) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.read_timeout_ms = 30};
    int fd[2];
    make_pair(fd);
    p.open = hook_pause;
    attach_as(r, fd[0], &p, &o);
    pass(r, 100);
    assert_int_equal(p.opens, 1);
    assert_int_equal(p.timeouts, 0);
    int64_t before = clock_ns();
    assert_int_equal(reactor_resume(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_int_equal(which_of(&p), REACTOR_TIMEOUT_READ);
    assert_true(p.at - before >= 30 * MS); /* what was not read for was not waited for */
    close(fd[1]);
    end(r);
}

/* Reading has stopped because the peer takes no output, and goes on when it has. */
CASE(timeout_read_does_not_run_while_output_is_above_the_mark) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    reactor_conn_options o = {.read_timeout_ms = 30, .coupled = 1};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 2 * MIB, 1, 0, &freed), 1);
    pass(r, 100);
    assert_int_equal(p.timeouts, 0);
    int64_t before = clock_ns();
    peer_takes_pattern(r, fd, 2 * MIB, 1, 0);
    UNTIL(r, p.closes);
    assert_int_equal(which_of(&p), REACTOR_TIMEOUT_READ);
    assert_true(p.at - before >= 30 * MS);
    close(fd);
    end(r);
}

CASE(timeout_write_runs_only_while_output_waits) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    reactor_conn_options o = {.write_timeout_ms = 40};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(reactor_write(r, p.conn, "x", 1), 0);
    pass(r, 100);
    assert_int_equal(p.timeouts, 0); /* all was taken */
    int64_t before = clock_ns();
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
    UNTIL(r, p.closes);
    assert_int_equal(which_of(&p), REACTOR_TIMEOUT_WRITE);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_true(p.at - before >= 40 * MS);
    assert_int_equal(freed.calls, 1);
    close(fd);
    end(r);
}

CASE(timeout_write_counts_from_the_last_byte_taken) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    reactor_conn_options o = {.write_timeout_ms = 60};
    int fd = attach_pair(r, &p, &o);
    int64_t last = 0;
    assert_int_equal(write_pattern(r, p.conn, 4 * MIB, 1, 0, &freed), 1);
    for (int i = 0; i < 4 && !p.timeouts; i++) {
        pass(r, 20);
        if (p.timeouts) break;
        last = clock_ns();
        assert_true(peer_discard(fd) > 0);
        turn(r);
    }
    UNTIL(r, p.closes);
    assert_true(p.at - last >= 60 * MS);
    close(fd);
    end(r);
}

CASE(timeout_deadline_runs_whatever_the_connection_does) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    reactor_conn_options o = {.deadline_ms = 60, .idle_timeout_ms = 100000};
    int64_t before = clock_ns();
    int fd = attach_pair(r, &p, &o);
    while (!p.closes) {
        if (send(fd, "x", 1, MSG_NOSIGNAL) < 0) break;
        peer_discard(fd);
        turn(r);
    }
    UNTIL(r, p.closes);
    assert_int_equal(which_of(&p), REACTOR_TIMEOUT_DEADLINE);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_true(p.at - before >= 60 * MS);
    close(fd);
    end(r);
}

CASE(timeout_of_a_connect_counts_from_its_opening) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    reactor_connect_options o = {.conn = {.idle_timeout_ms = 30}};
    server s = serve(r, &p);
    int64_t before = clock_ns();
    probe_connect(r, s.address, &q, &o);
    UNTIL(r, q.closes);
    assert_int_equal(q.opens, 1);
    assert_int_equal(which_of(&q), REACTOR_TIMEOUT_IDLE);
    assert_true(q.at - before >= 30 * MS);
    end(r);
}

/* Keeps the loop's time behind the clock, as a slow callback does. */
static void spin(int64_t ms) {
    for (int64_t till = clock_ns() + ms * MS; clock_ns() < till;) continue;
}

static void hook_note_time(reactor *r, reactor_conn c, probe *p) {
    int64_t *at = p->extra;
    (void)r, (void)c;
    *at = clock_ns();
}
/* Only the first of all spins, so that the other's time is not covered by its own spinning. */
static int spun;
static void hook_note_time_and_spin(reactor *r, reactor_conn c, probe *p) {
    hook_note_time(r, c, p);
    if (!spun++) spin(60);
}

/* Two are opened in one turn, and the first takes its time: the second has not been idle then. */
/* Before, while and after there is an attempt: each leaves no timer behind, and runs out. */
CASE(timeout_set_while_connecting_leaves_no_timer) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    const size_t before = counters(r).timers;
    for (int turns_before = 0; turns_before < 3; turns_before++) {
        probe q = {0};
        reactor_conn c = probe_connect(r, s.address, &q, NULL);
        turns(r, turns_before);
        assert_int_equal(reactor_set_timeout(r, c, REACTOR_TIMEOUT_DEADLINE, 1), 0);
        UNTIL(r, q.closes && p.closes == turns_before + 1);
        assert_int_equal(q.opens, 1);
        assert_int_equal(q.reason, -ETIMEDOUT);
        assert_int_equal(counters(r).timers, before);
    }
    end(r);
}

CASE(law9_timeout_is_not_early_after_a_slow_callback_on_another) {
    reactor *r = begin();
    int64_t at[2] = {0, 0};
    spun = 0;
    probe p[2] = {{.open = hook_note_time_and_spin, .extra = &at[0]},
                  {.open = hook_note_time_and_spin, .extra = &at[1]}};
    reactor_conn_options o = {.idle_timeout_ms = 50};
    int fd[2], peer[2];
    for (int i = 0; i < 2; i++) {
        make_pair(fd);
        attach_as(r, fd[0], &p[i], &o);
        peer[i] = fd[1];
    }
    for (int i = 0; i < 2; i++) {
        UNTIL(r, p[i].closes);
        assert_true(p[i].at - at[i] >= 50 * MS);
        close(peer[i]);
    }
    end(r);
}

/* The same with bytes: those of the second are read late, and count from then. */
CASE(law9_timeout_is_not_early_after_input_that_was_read_late) {
    reactor *r = begin();
    int64_t at[2] = {0, 0};
    spun = 0;
    probe p[2] = {{.data = hook_note_time_and_spin, .extra = &at[0]},
                  {.data = hook_note_time_and_spin, .extra = &at[1]}};
    reactor_conn_options o = {.idle_timeout_ms = 50};
    int peer[2];
    for (int i = 0; i < 2; i++) peer[i] = attach_pair(r, &p[i], &o);
    for (int i = 0; i < 2; i++) peer_say(r, peer[i], "x");
    for (int i = 0; i < 2; i++) {
        UNTIL(r, p[i].closes);
        assert_int_equal(p[i].datas, 1); /* it was there before the time was up */
        assert_true(p[i].at - at[i] >= 50 * MS);
        close(peer[i]);
    }
    end(r);
}

CASE(law9_timeout_is_not_early_when_set_or_started_between_turns) {
    static const int kinds[] = {REACTOR_TIMEOUT_IDLE, REACTOR_TIMEOUT_READ,
                                REACTOR_TIMEOUT_DEADLINE};
    reactor *r = begin();
    for (size_t i = 0; i < COUNT(kinds); i++) {
        probe p = {0};
        int fd = attach_pair(r, &p, NULL);
        spin(60);
        int64_t before = clock_ns();
        assert_int_equal(reactor_set_timeout(r, p.conn, kinds[i], 50), 0);
        UNTIL(r, p.closes);
        assert_true(p.at - before >= 50 * MS);
        close(fd);
    }
    probe p = {.open = hook_pause};
    reactor_conn_options o = {.read_timeout_ms = 50};
    int fd = attach_pair(r, &p, &o);
    spin(60);
    int64_t before = clock_ns();
    assert_int_equal(reactor_resume(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_true(p.at - before >= 50 * MS);
    close(fd);
    end(r);
}

CASE(law9_write_and_close_timeouts_are_not_early_between_turns) {
    reactor *r = begin();
    for (int closing = 0; closing < 2; closing++) {
        probe p = {0};
        receipt freed = {0};
        reactor_conn_options o = {.close_timeout_ms = 50};
        int fd = attach_pair(r, &p, &o);
        assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
        turns(r, 5); /* the peer takes no more */
        spin(60);
        int64_t before = clock_ns();
        if (closing)
            assert_int_equal(reactor_close(r, p.conn), 0);
        else
            assert_int_equal(reactor_set_timeout(r, p.conn, REACTOR_TIMEOUT_WRITE, 50), 0);
        UNTIL(r, p.closes);
        assert_int_equal(p.reason, -ETIMEDOUT);
        assert_true(p.at - before >= 50 * MS);
        close(fd);
    }
    end(r);
}

static void act_begin_both(reactor *r, reactor_conn c, probe *p) {
    probe *other = p->extra;
    if (other->acted) return;
    assert_int_equal(reactor_set_timeout(r, c, REACTOR_TIMEOUT_IDLE, 50), 0);
    assert_int_equal(reactor_set_timeout(r, other->conn, REACTOR_TIMEOUT_IDLE, 50), 0);
}

/* The loop has had no reason to read the clock for longer than the timeout takes, which one sets for
   the other before that has its input of the same turn. */
CASE(law9_timeout_is_not_early_when_set_before_the_input_of_a_turn) {
    reactor *r = begin();
    probe p = {.act = act_begin_both, .at_letter = 'd'}, q = p;
    int a = attach_pair(r, &p, NULL), b = attach_pair(r, &q, NULL);
    p.extra = &q;
    q.extra = &p;
    turns(r, 5);
    spin(100);
    int64_t before = clock_ns();
    assert_int_equal(send(a, "x", 1, 0), 1);
    assert_int_equal(send(b, "x", 1, 0), 1);
    UNTIL(r, p.closes && q.closes);
    assert_true(p.at - before >= 50 * MS);
    assert_true(q.at - before >= 50 * MS);
    close(a), close(b);
    end(r);
}

CASE(timeout_nonsense_is_EINVAL) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(reactor_set_timeout(r, p.conn, 0, 10), -EINVAL);
    assert_int_equal(reactor_set_timeout(r, p.conn, 5, 10), -EINVAL);
    assert_int_equal(reactor_set_timeout(r, p.conn, -1, 10), -EINVAL);
    assert_int_equal(reactor_set_timeout(r, p.conn, REACTOR_TIMEOUT_IDLE, -1), -EINVAL);
    for (int which = REACTOR_TIMEOUT_IDLE; which <= REACTOR_TIMEOUT_DEADLINE; which++)
        assert_int_equal(reactor_set_timeout(r, p.conn, which, INT64_MAX), 0);
    pass(r, 20);
    assert_int_equal(p.timeouts, 0);
    close(fd);
    end(r);
}

/* Connections of one listener share its options, until one is given its own. */
CASE(timeout_set_on_one_is_not_set_on_its_siblings) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int a = visit(r, &s, &p);
    reactor_conn first = p.conn;
    int b = visit(r, &s, &p);
    assert_int_equal(reactor_set_timeout(r, first, REACTOR_TIMEOUT_IDLE, 15), 0);
    UNTIL(r, p.closes == 1);
    assert_int_equal(p.reason, -ETIMEDOUT);
    int c = visit(r, &s, &p); /* nor on those that come later */
    reactor_pause(r, p.conn);
    reactor_resume(r, p.conn);
    peer_say(r, b, "x");
    peer_hears(r, b, "x");
    pass(r, 60);
    assert_int_equal(p.closes, 1);
    assert_int_equal(p.timeouts, 1);
    close(a), close(b), close(c);
    end(r);
}

CASE(timeouts_of_many_connections_each_come) {
    enum { N = 100 };
    static probe p[N];
    reactor *r = begin();
    int fd[N];
    memset(p, 0, sizeof p);
    for (int i = 0; i < N; i++) {
        reactor_conn_options o = {.idle_timeout_ms = 1 + (i * 7) % 50};
        int64_t before = clock_ns();
        p[i].extra = (void *)(intptr_t)(before / 1000 + (1 + (i * 7) % 50) * 1000);
        fd[i] = attach_pair(r, &p[i], &o);
    }
    for (int i = 0; i < N; i++) {
        UNTIL(r, p[i].closes);
        assert_true(p[i].at / 1000 + 1 >= (int64_t)(intptr_t)p[i].extra);
        close(fd[i]);
    }
    assert_int_equal(counters(r).timers, 0);
    end(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(law1_connect_that_fails_at_once_is_told_later),
        TEST(law1_connect_that_succeeds_at_once_is_told_later),
        TEST(connect_gives_state_at_once_and_keeps_its_place),
        TEST(connect_sends_what_was_written_before_it_is_open),
        TEST(connect_that_fails_gives_up_what_was_written),
        TEST(connect_above_the_marks_before_it_is_open),
        TEST(connect_closed_before_it_is_open),
        TEST(connect_aborted_before_it_is_open),
        TEST(connect_closed_before_it_is_open_still_sends_what_was_written),
        TEST(connect_pause_before_it_is_open_holds),
        TEST(connect_that_hangs_is_ETIMEDOUT_not_early),
        TEST(connect_list_goes_on_when_one_hangs),
        TEST(connect_list_tries_the_next_address_soon),
        TEST(connect_list_tries_the_next_address_at_once_when_one_fails),
        TEST(connect_list_the_first_of_several_under_way_wins),
        TEST(connect_list_the_second_of_several_under_way_wins),
        TEST(connect_list_under_way_can_be_closed_aborted_and_destroyed),
        TEST(connect_delay_nonsense_is_EINVAL),
        TEST(connect_list_of_which_all_hang_is_ETIMEDOUT_not_early),
        TEST(connect_that_hangs_can_be_closed_and_destroyed),
        TEST(connect_to_a_unix_server_with_a_full_backlog_ends_not_early),
        TEST(connect_to_a_unix_server_goes_on_when_its_backlog_has_room),
        TEST(connect_list_goes_on_behind_a_unix_server_with_a_full_backlog),
        TEST(connect_and_exchange_both_ways),
        TEST(law1_connect_from_on_close_again),
        TEST(listener_pause_leaves_peers_in_the_backlog_until_resume),
        TEST(law12_paused_listener_does_not_keep_the_loop),
        TEST(law12_closed_listener_and_ended_connections_end_the_run),
        TEST(listener_close_refuses_peers_and_keeps_connections),
        TEST(law1_listener_paused_inside_on_open_accepts_no_more),
        TEST(law2_listener_closed_inside_on_open_accepts_no_more),
        TEST(max_connections_pauses_and_goes_on),
        TEST(max_connections_does_not_make_the_loop_spin),
        TEST(max_connections_does_not_undo_a_pause),
        TEST(reuse_port_lets_two_loops_share_a_port),
        TEST(reuse_port_must_be_asked_for),
        TEST(backlog_of_one_still_serves_all),
        TEST(timeout_idle_is_not_early_and_ends_with_ETIMEDOUT),
        TEST(timeout_idle_counts_from_the_last_byte_in_either_direction),
        TEST(timeout_answered_with_1_starts_again),
        TEST(timeout_that_its_callback_turned_off_stays_off),
        TEST(timeout_whose_callback_closed_neither_starts_again_nor_aborts),
        TEST(timeout_set_later_turned_off_and_set_again),
        TEST(timeout_made_longer_and_shorter),
        TEST(timeout_read_runs_while_writing_goes_on),
        TEST(timeout_read_does_not_run_while_paused),
        TEST(timeout_read_does_not_run_while_output_is_above_the_mark),
        TEST(timeout_write_runs_only_while_output_waits),
        TEST(timeout_write_counts_from_the_last_byte_taken),
        TEST(timeout_deadline_runs_whatever_the_connection_does),
        TEST(timeout_of_a_connect_counts_from_its_opening),
        TEST(timeout_set_while_connecting_leaves_no_timer),
        TEST(law9_timeout_is_not_early_after_a_slow_callback_on_another),
        TEST(law9_timeout_is_not_early_after_input_that_was_read_late),
        TEST(law9_timeout_is_not_early_when_set_or_started_between_turns),
        TEST(law9_write_and_close_timeouts_are_not_early_between_turns),
        TEST(law9_timeout_is_not_early_when_set_before_the_input_of_a_turn),
        TEST(timeout_nonsense_is_EINVAL),
        TEST(timeout_set_on_one_is_not_set_on_its_siblings),
        TEST(timeouts_of_many_connections_each_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
