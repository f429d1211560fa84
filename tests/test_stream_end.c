/* How streams end: shutdown, close, abort, resets; on_close and its reasons; handles that are stale
   or foreign; acting from inside every callback; destroy; detach and attach; drain; SIGPIPE. */
#include "stream_help.h"

#define MS INT64_C(1000000)

/* ---- shutdown ---- */

CASE(shutdown_ends_output_after_what_is_queued_and_input_goes_on) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_int_equal(write_pattern(r, p.conn, 3 * MIB, 1, 0, &freed), 1);
    assert_int_equal(reactor_shutdown(r, p.conn), 0);
    assert_int_equal(reactor_shutdown(r, p.conn), 0);
    assert_int_equal(reactor_write(r, p.conn, "x", 1), -EPIPE);
    peer_takes_pattern(r, fd, 3 * MIB, 1, 0);
    peer_sees_eof(r, fd);
    assert_int_equal(reactor_shutdown(r, p.conn), 0);
    assert_int_equal(reactor_write(r, p.conn, "x", 1), -EPIPE);
    peer_say(r, fd, "still talking");
    UNTIL(r, p.in == 13);
    assert_string_equal(p.text, "still talking");
    assert_int_equal(p.closes, 0);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.eofs, 1);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

CASE(shutdown_from_both_sides_closes_in_order) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_tcp_pair(r, &p, NULL);
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    assert_int_equal(reactor_shutdown(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "oec");
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    peer_sees_eof(r, fd);
    close(fd);
    end(r);
}

CASE(shutdown_of_a_pipe_closes_its_writing_end) {
    reactor *r = begin();
    probe p = {0};
    int fd[2];
    char got[8];
    assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
    reactor_conn c = attach_as(r, fd[1], &p, NULL);
    assert_int_equal(reactor_write(r, c, "last", 4), 0);
    assert_int_equal(reactor_shutdown(r, c), 0);
    ssize_t n;
    UNTIL(r, (n = read(fd[0], got, sizeof got)) >= 0);
    assert_int_equal(n, 4);
    UNTIL(r, (n = read(fd[0], got, sizeof got)) >= 0);
    assert_int_equal(n, 0);
    close(fd[0]);
    reactor_close(r, c);
    UNTIL(r, p.closes);
    end(r);
}

/* ---- close ---- */

/* Neither direction of such a pipe can end alone. */
CASE(shutdown_of_a_pipe_that_goes_both_ways_closes_it) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    probe p = {.open = hook_pause}; /* or it would read what it writes */
    char path[64], got[8];
    snprintf(path, sizeof path, "/tmp/reactor-fifo-%d", (int)getpid());
    assert_return_code(mkfifo(path, 0600), errno);
    int fd = open(path, O_RDWR | O_CLOEXEC), reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    unlink(path);
    assert_true(fd >= 0 && reader >= 0);
    reactor_conn c = attach_as(r, fd, &p, NULL);
    UNTIL(r, p.opens);
    assert_int_equal(reactor_write(r, c, "last", 4), 0);
    assert_int_equal(reactor_shutdown(r, c), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    assert_int_equal(read(reader, got, sizeof got), 4);
    assert_int_equal(read(reader, got, sizeof got), 0);
    close(reader);
    end(r);
}

CASE(law15_close_is_idempotent_and_tells_on_close_later) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    reactor_conn c = p.conn;
    assert_int_equal(reactor_close(r, c), 0);
    assert_int_equal(reactor_close(r, c), 0);
    assert_int_equal(p.closes, 0); /* law 1 */
    assert_int_equal(reactor_write(r, c, "x", 1), -EBADF);
    assert_int_equal(reactor_shutdown(r, c), -EBADF);
    UNTIL(r, p.closes);
    assert_int_equal(reactor_close(r, c), 0);
    assert_int_equal(reactor_abort(r, c), 0);
    turns(r, 10);
    assert_string_equal(p.log, "oc");
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    peer_sees_eof(r, fd);
    close(fd);
    end(r);
}

static void flush_at_close(int tcp) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {.of = &p};
    int fd = tcp ? attach_tcp_pair(r, &p, NULL) : attach_pair(r, &p, NULL);
    reactor_socket socket = reactor_conn_socket(r, p.conn);
    int small = 100000;
    setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    assert_int_equal(write_pattern(r, p.conn, 4 * MIB, 2, 0, &freed), 1);
    assert_int_equal(reactor_close(r, p.conn), 0);
    turns(r, 1);
    for (int i = 0; i < 100; i++) {
        peer_takes_pattern(r, fd, 10000, 2, (uint64_t)i * 10000);
        turns(r, 1);
    }
    if (!tcp) assert_int_equal(p.closes, 0);
    peer_takes_pattern(r, fd, 4 * MIB - 1000000, 2, 1000000);
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "oc"); /* no on_writable any more */
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    assert_int_equal(freed.calls, 1);
    assert_int_equal(freed.closes, 0);
    close(fd);
    end(r);
}
CASE(close_sends_megabytes_to_a_slow_reader_first_over_tcp) { flush_at_close(1); }
CASE(close_sends_megabytes_to_a_slow_reader_first_over_unix) { flush_at_close(0); }

/* With unread input a plain close would reset the peer, which then loses the answer. */
CASE(close_with_unread_input_still_delivers_the_last_bytes) {
    reactor *r = begin();
    probe p = {.open = hook_pause};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    char *data = pattern_new(200000, 1, 0);
    peer_send(r, fd, data, 200000);
    turns(r, 5);
    assert_int_equal(reactor_write(r, p.conn, "bye", 3), 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    turns(r, 10);
    for (int i = 0; i < 10; i++) peer_send(r, fd, data, 200000); /* and it goes on sending */
    free(data);
    peer_hears(r, fd, "bye");
    peer_sees_eof(r, fd);
    assert_int_equal(p.datas, 0);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

CASE(close_with_unconsumed_input_still_delivers_the_last_bytes) {
    reactor *r = begin();
    probe p = {.hold = 1};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    peer_say(r, fd, "request");
    UNTIL(r, p.datas);
    peer_say(r, fd, "another");
    assert_int_equal(reactor_write(r, p.conn, "bye", 3), 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    peer_hears(r, fd, "bye");
    peer_sees_eof(r, fd);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.datas, 1);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    assert_int_equal(counters(r).unread, 0);
    end(r);
}

/* All that had come was read, but not wanted; what comes after the close must not meet a reset. */
CASE(close_with_unconsumed_input_does_not_reset_who_goes_on_sending) {
    reactor *r = begin();
    probe p = {.hold = 1};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p), error = 0;
    socklen_t len = sizeof error;
    peer_say(r, fd, "request");
    UNTIL(r, p.datas);
    assert_int_equal(reactor_write(r, p.conn, "bye", 3), 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    turns(r, 10);
    peer_say(r, fd, "another");
    peer_hears(r, fd, "bye");
    peer_sees_eof(r, fd);
    assert_return_code(getsockopt(fd, SOL_SOCKET, SO_ERROR, (void *)&error, &len), errno);
    assert_int_equal(error, 0);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

CASE(close_timeout_ends_a_peer_that_does_not_read) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {.of = &p};
    reactor_conn_options o = {.close_timeout_ms = 50};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
    int64_t before = clock_ns();
    assert_int_equal(reactor_close(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_true(p.at - before >= 50 * MS);
    assert_int_equal(freed.calls, 1);
    assert_int_equal(freed.closes, 0);
    assert_string_equal(p.log, "oc"); /* not by on_timeout */
    close(fd);
    end(r);
}

CASE(close_timeout_starts_again_with_each_progress) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    reactor_conn_options o = {.close_timeout_ms = 80};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 4 * MIB, 1, 0, &freed), 1);
    assert_int_equal(reactor_close(r, p.conn), 0);
    int64_t last = 0;
    for (int i = 0; i < 5 && !p.closes; i++) {
        pass(r, 25);
        if (p.closes) break; /* this machine was busy for longer than that */
        last = clock_ns();
        assert_true(peer_discard(fd) > 0);
        turn(r);
    }
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_true(p.at - last >= 80 * MS);
    close(fd);
    end(r);
}

CASE(close_then_abort_does_not_wait_for_the_peer) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {.of = &p};
    int fd = attach_tcp_pair(r, &p, NULL);
    assert_int_equal(reactor_sendfile(r, p.conn, pattern_file(30 * MIB, 1, 0), 0, -1,
                                      REACTOR_CLOSE_FILE, note_done, &freed),
                     0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    turns(r, 10);
    assert_int_equal(p.closes, 0);
    assert_int_equal(reactor_abort(r, p.conn), 0);
    assert_int_equal(p.closes, 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ECONNABORTED);
    assert_int_equal(freed.calls, 1);
    close(fd);
    end(r);
}

CASE(close_delivers_no_more_input) {
    reactor *r = begin();
    probe p = {.data = hook_close};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "one");
    UNTIL(r, p.datas);
    send(fd, "two", 3, MSG_NOSIGNAL);
    close(fd);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "odc");
    end(r);
}

CASE(close_to_a_peer_that_resets_while_flushing) {
    reactor *r = begin();
    probe p = {0};
    receipt sent = {.of = &p};
    int fd = attach_tcp_pair(r, &p, NULL);
    assert_int_equal(reactor_sendfile(r, p.conn, pattern_file(30 * MIB, 1, 0), 0, -1,
                                      REACTOR_CLOSE_FILE, note_done, &sent),
                     0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    turns(r, 5);
    close_with_reset(fd);
    UNTIL(r, p.closes);
    assert_true(p.reason == -ECONNRESET || p.reason == -EPIPE);
    assert_int_equal(sent.calls, 1);
    assert_true(sent.result < 0);
    end(r);
}

/* ---- abort and reset ---- */

CASE(abort_resets_and_gives_up_what_is_queued) {
    reactor *r = begin();
    probe p = {0};
    size_t bytes;
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_int_equal(reactor_write(r, p.conn, "never sent", 10), 0);
    assert_int_equal(reactor_abort(r, p.conn), 0);
    assert_int_equal(p.closes, 0); /* law 1 */
    assert_int_equal(reactor_abort(r, p.conn), 0);
    assert_int_equal(reactor_write(r, p.conn, "x", 1), -EBADF);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ECONNABORTED);
    assert_int_equal(peer_end(r, fd, &bytes), ECONNRESET);
    assert_int_equal(bytes, 0);
    close(fd);
    end(r);
}

CASE(reset_by_the_peer_is_ECONNRESET_and_no_eof) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    close_with_reset(fd);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "oc");
    assert_int_equal(p.reason, -ECONNRESET);
    end(r);
}

#ifdef __linux__
/* What the program does with a reset's one error before the loop receives. */
static int take_error(reactor *r, reactor_conn c) {
    int error = 0;
    socklen_t len = sizeof error;
    int fd = (int)reactor_conn_socket(r, c);
    assert_return_code(getsockopt(fd, SOL_SOCKET, SO_ERROR, (void *)&error, &len), errno);
    return error;
}
static void hook_take_error(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    take_error(r, c);
}
static void hook_take_error_and_answer(reactor *r, reactor_conn c, probe *p) {
    take_error(r, c);
    hook_echo(r, c, p);
}
#endif
static void hook_reset_and_answer(reactor *r, reactor_conn c, probe *p) {
    close_with_reset(*(int *)p->extra);
    hook_echo(r, c, p);
}

static void hook_reset(reactor *r, reactor_conn c, probe *p) {
    (void)r, (void)c;
    close_with_reset(*(int *)p->extra);
}

/* Whoever has the one error of a reset, the end of the input is none. */
CASE(law15_reset_is_no_eof_whoever_has_heard_of_it) {
    static probe_hook *const hooks[] = {hook_echo, hook_reset_and_answer,
#ifdef __linux__
                                        hook_take_error, hook_take_error_and_answer,
#endif
                                        hook_reset};
    for (size_t i = 0; i < COUNT(hooks); i++) {
        reactor *r = begin();
        probe p = {.data = hooks[i]};
        int fd = attach_tcp_pair(r, &p, NULL);
        p.extra = &fd;
        peer_say(r, fd, "half");
        if (hooks[i] != hook_reset && hooks[i] != hook_reset_and_answer) close_with_reset(fd);
        UNTIL(r, p.closes);
        assert_int_equal(p.eofs, 0);
        assert_true(p.reason < 0 && p.reason != -EPIPE);
        end(r);
    }
}

/* Output is queued, and its sending is the first to hear. */
CASE(law15_reset_that_a_queued_send_hears_of_is_no_eof) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    reactor_conn_options o = {.max_output = 16 * MIB,
                              .coupled = -1}; /* more than the kernel takes */
    int fd = attach_tcp_pair(r, &p, &o);
    assert_true(write_pattern(r, p.conn, 16 * MIB, 1, 0, &freed) >= 0);
    turns(r, 5);
    peer_say(r, fd, "half");
    UNTIL(r, p.in == 4);
    close_with_reset(fd);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "odc");
    assert_true(p.reason < 0);
    assert_int_equal(freed.calls, 1);
    end(r);
}

#ifdef __linux__
/* The peer ends, and resets because of the answer; the program sees both before the loop does. */
static void hook_end_and_reset(reactor *r, reactor_conn c, probe *p) {
    int fd = (int)reactor_conn_socket(r, c);
    close(*(int *)p->extra);
    while (send(fd, "x", 1, MSG_NOSIGNAL) == 1) {
    }
    assert_int_equal(errno, EPIPE);
}

/* A reset behind a FIN takes nothing away from that. */
CASE(law15_eof_before_a_reset_is_an_eof) {
    reactor *r = begin();
    probe p = {.data = hook_end_and_reset};
    int fd = attach_tcp_pair(r, &p, NULL);
    p.extra = &fd;
    peer_say(r, fd, "whole");
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "odec");
    end(r);
}
#endif

/* Output that was written but has not left yet, in each of the ways to write. */
CASE(abort_in_the_turn_of_the_write_sends_nothing) {
    for (int turns_before = 0; turns_before < 3; turns_before++) {
        reactor *r = begin();
        probe p = {0};
        receipt freed = {.of = &p}, sent = {.of = &p, .file = pattern_file(1000, 1, 0)};
        size_t bytes;
        server s = serve(r, &p);
        int fd = visit(r, &s, &p);
        turns(r, turns_before);
        peer_say(r, fd, "x"); /* an event comes with it */
        assert_int_equal(write_pattern(r, p.conn, 1000, 1, 0, &freed), 0);
        assert_int_equal(
            reactor_sendfile(r, p.conn, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent), 0);
        assert_int_equal(reactor_abort(r, p.conn), 0);
        UNTIL(r, p.closes);
        assert_int_equal(p.reason, -ECONNABORTED);
        assert_int_equal(peer_end(r, fd, &bytes), ECONNRESET);
        assert_int_equal(bytes, 0);
        assert_int_equal(freed.calls + sent.calls, 2);
        assert_true(sent.result < 0);
        close(fd);
        end(r);
    }
}

/* Nobody may take what did arrive for all that there was. */
CASE(law15_destroy_with_output_left_resets) {
    reactor *r = begin();
    probe p = {0};
    size_t bytes;
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    char *data = pattern_new(4 * MIB, 1, 0);
    while (reactor_pending(r, p.conn) < MIB) {
        assert_true(reactor_write(r, p.conn, data, MIB) >= 0);
        turns(r, 5);
    }
    reactor_destroy(r);
    assert_int_equal(p.reason, -ECANCELED);
    r = make_loop();
    assert_int_equal(peer_end(r, fd, &bytes), ECONNRESET);
    close(fd);
    free(data);
    end(r);
}

CASE(law15_destroy_with_all_output_out_ends_in_order) {
    reactor *r = begin();
    probe p = {0};
    size_t bytes;
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_int_equal(reactor_write(r, p.conn, "all", 3), 0);
    turns(r, 5);
    reactor_destroy(r);
    r = make_loop();
    assert_int_equal(peer_end(r, fd, &bytes), 0);
    assert_int_equal(bytes, 3);
    close(fd);
    end(r);
}

CASE(reset_by_the_peer_while_output_waits) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_true(write_pattern(r, p.conn, 4 * MIB, 1, 0, &freed) >= 0);
    turns(r, 5);
    close_with_reset(fd);
    UNTIL(r, p.closes);
    assert_true(p.reason == -ECONNRESET || p.reason == -EPIPE);
    assert_int_equal(freed.calls, 1);
    assert_int_equal(counters(r).queued, 0);
    end(r);
}

static void peer_says_bye_and_goes(reactor *r, void *user) {
    probe *p = user;
    int fd = *(int *)p->extra;
    assert_int_equal(send(fd, "bye", 3, 0), 3);
    close(fd);
    assert_int_equal(reactor_write(r, p->conn, "x", 1), 0);
}

/* The write fails at the end of that turn, in which no event has told of the input yet. */
CASE(law4_input_of_which_nobody_has_heard_is_delivered_though_a_write_fails) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    p.extra = &fd;
    assert_int_equal(reactor_defer(r, peer_says_bye_and_goes, &p), 0);
    UNTIL(r, p.closes);
    assert_string_equal(p.text, "bye");
    assert_int_equal(p.reason, -EPIPE);
    end(r);
}

CASE(reset_before_it_is_accepted_does_not_end_the_listener) {
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    for (int i = 0; i < 20; i++) close_with_reset(dial(s.address));
    int fd = dial(s.address);
    peer_say(r, fd, "x");
    UNTIL(r, p.in == 1);
    close(fd);
    UNTIL(r, p.opens == p.closes);
    end(r);
}

/* ---- handles that are no good ---- */

/* Every call that takes a connection refuses this one, and nothing is lost or called. */
static void refused_everywhere(reactor *r, reactor_conn c) {
    static const reactor_iovec v = {"x", 1};
    receipt freed = {0}, done = {0};
    char out[REACTOR_ADDRESS_MAX];
    reactor_socket fd = -1;
    size_t len = sizeof out;
    int file = pattern_file(10, 1, 0);
    reactor_buffer *b = reactor_buffer_wrap("x", 1, note_free, &freed);
    assert_int_equal(reactor_write(r, c, "x", 1), -EBADF);
    assert_int_equal(reactor_writev(r, c, &v, 1), -EBADF);
    assert_int_equal(reactor_write_owned(r, c, "x", 1, note_free, &freed), -EBADF);
    assert_int_equal(freed.calls, 1);
    assert_int_equal(reactor_write_shared(r, c, b), -EBADF);
    reactor_buffer_unref(b);
    assert_int_equal(freed.calls, 2);
    assert_int_equal(reactor_sendfile(r, c, file, 0, 1, REACTOR_CLOSE_FILE, note_done, &done),
                     -EBADF);
    assert_int_equal(done.calls, 0);
    assert_int_equal(close(file), 0);
    assert_int_equal(reactor_pause(r, c), -EBADF);
    assert_int_equal(reactor_resume(r, c), -EBADF);
    assert_int_equal(reactor_set_timeout(r, c, REACTOR_TIMEOUT_IDLE, 1), -EBADF);
    assert_int_equal(reactor_set_handler(r, c, &null_handler), -EBADF);
    assert_int_equal(reactor_shutdown(r, c), -EBADF);
    assert_int_equal(reactor_detach(r, c, &fd, out, &len), -EBADF);
    assert_int_equal(reactor_local_address(r, c, out, sizeof out), -EBADF);
    assert_int_equal(reactor_peer_address(r, c, out, sizeof out), -EBADF);
    assert_null(reactor_state(r, c));
    assert_null(reactor_user(r, c));
    assert_true((int)reactor_conn_socket(r, c) < 0);
    assert_int_equal(reactor_pending(r, c), 0);
    assert_int_equal(reactor_close(r, c), 0);
    assert_int_equal(reactor_abort(r, c), 0);
}

static void no_timer(reactor *r, reactor_timer t, void *user) { (void)r, (void)t, (void)user; }

CASE(law2_stale_handle_is_refused_everywhere_and_never_reaches_its_successor) {
    reactor *r = begin();
    probe p = {0}, q = {.data = hook_echo};
    int fd = attach_pair(r, &p, NULL);
    reactor_conn stale = p.conn;
    reactor_close(r, stale);
    UNTIL(r, p.closes);
    close(fd);
    refused_everywhere(r, stale);
    for (int i = 0; i < 300; i++) { /* its slot is used again, whichever that is */
        int next = attach_pair(r, &q, NULL);
        assert_true(q.conn.id != stale.id);
        if (i % 100 == 0) refused_everywhere(r, stale);
        reactor_abort(r, stale);
        reactor_close(r, stale);
        peer_say(r, next, "x");
        peer_hears(r, next, "x");
        close(next);
        UNTIL(r, q.closes == i + 1);
        assert_int_equal(q.reason, REACTOR_ORDERLY);
    }
    end(r);
}

CASE(handle_of_another_loop_is_refused_everywhere) {
    reactor *r = begin();
    reactor *other = make_loop();
    probe p = {0}, q = {0}; /* made alike, so that slots and generations are alike */
    int fd = attach_pair(r, &p, NULL), there = attach_pair(other, &q, NULL);
    refused_everywhere(r, q.conn);
    refused_everywhere(other, p.conn);
    server s = serve(r, &p), t = serve(other, &q);
    assert_int_equal(reactor_listener_pause(r, t.l), -EBADF);
    assert_int_equal(reactor_listener_close(r, t.l), 0);
    assert_int_equal(reactor_listener_resume(other, s.l), -EBADF);
    close(visit(other, &t, &q)); /* it still accepts */
    turns(r, 5);
    assert_int_equal(p.closes, 0);
    close(fd), close(there);
    reactor_destroy(other);
    end(r);
}

CASE(handle_of_another_kind_is_refused_everywhere) {
    reactor *r = begin();
    probe p = {0};
    reactor_timer t;
    assert_int_equal(reactor_after(r, 100000, no_timer, NULL, &t), 0);
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    reactor_conn wrong[] = {{s.l.id},     {t.id},          {0},
                            {UINT64_MAX}, {p.conn.id + 1}, {p.conn.id ^ (UINT64_C(1) << 40)}};
    for (size_t i = 0; i < COUNT(wrong); i++) refused_everywhere(r, wrong[i]);
    reactor_listener bad[] = {{p.conn.id}, {t.id}, {0}, {UINT64_MAX}};
    char out[REACTOR_ADDRESS_MAX];
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(reactor_listener_pause(r, bad[i]), -EBADF);
        assert_int_equal(reactor_listener_resume(r, bad[i]), -EBADF);
        assert_int_equal(reactor_listener_address(r, bad[i], out, sizeof out), -EBADF);
        assert_int_equal(reactor_listener_close(r, bad[i]), 0);
    }
    reactor_timer timers[] = {{p.conn.id}, {s.l.id}};
    for (size_t i = 0; i < COUNT(timers); i++) {
        assert_int_equal(reactor_cancel(r, timers[i]), -EBADF);
        assert_int_equal(reactor_reset(r, timers[i], 1), -EBADF);
    }
    peer_say(r, fd, "x"); /* none of that did anything */
    UNTIL(r, p.datas);
    close(visit(r, &s, &p));
    assert_int_equal(reactor_cancel(r, t), 0);
    close(fd);
    end(r);
}

/* ---- ends that others who hold the socket do not hide ---- */

static void end_by_close(reactor *r, probe *p, int fd) {
    (void)fd;
    assert_int_equal(reactor_write(r, p->conn, "bye", 3), 0);
    assert_int_equal(reactor_close(r, p->conn), 0);
}
static void end_by_shutdown(reactor *r, probe *p, int fd) {
    (void)fd;
    assert_int_equal(reactor_shutdown(r, p->conn), 0);
}
static void end_by_the_peer(reactor *r, probe *p, int fd) {
    (void)r, (void)p;
    assert_return_code(shutdown(fd, SHUT_WR), errno);
}
static void end_by_drain(reactor *r, probe *p, int fd) {
    (void)p, (void)fd;
    assert_int_equal(reactor_drain(r, 60000), 0);
}
static void end_by_abort(reactor *r, probe *p, int fd) {
    (void)fd;
    assert_int_equal(reactor_abort(r, p->conn), 0);
}
static void end_by_timeout(reactor *r, probe *p, int fd) {
    (void)fd;
    assert_int_equal(reactor_set_timeout(r, p->conn, REACTOR_TIMEOUT_IDLE, 1), 0);
}

static const struct {
    void (*end)(reactor *r, probe *p, int fd);
    int resets;
} held_ends[] = {{end_by_close, 0}, {end_by_shutdown, 0}, {end_by_the_peer, 0},
                 {end_by_drain, 0}, {end_by_abort, 1},    {end_by_timeout, 1}};

/* Only Linux is known to reset what others hold. */
static void hear_of_the_end(reactor *r, int fd, int resets) {
    size_t bytes;
#ifdef __linux__
    assert_int_equal(peer_end(r, fd, &bytes), resets ? ECONNRESET : 0);
#else
    if (!resets) assert_int_equal(peer_end(r, fd, &bytes), 0);
#endif
}

static void held_by_a_duplicate(int tcp) {
    for (size_t i = 0; i < COUNT(held_ends); i++) {
        reactor *r = begin();
        probe p = {0};
        int fd = tcp ? attach_tcp_pair(r, &p, NULL) : attach_pair(r, &p, NULL);
        int other = dup((int)reactor_conn_socket(r, p.conn));
        held_ends[i].end(r, &p, fd);
        hear_of_the_end(r, fd, tcp && held_ends[i].resets);
        close(fd);
        UNTIL(r, p.closes);
        close(other);
        end(r);
    }
}
CASE(law15_ends_are_heard_while_a_duplicate_holds_the_tcp_socket) {
    if (SOCKETS_DUP) held_by_a_duplicate(1);
}
CASE(law15_ends_are_heard_while_a_duplicate_holds_the_unix_socket) {
    if (SOCKETS_DUP) held_by_a_duplicate(0);
}

#ifndef _WIN32
/* The child destroys its copy of the loop, of which nobody hears, and keeps a duplicate. */
CASE(law11_ends_are_heard_of_the_parent_and_not_of_the_child) {
    for (size_t i = 0; i < COUNT(held_ends); i++) {
        reactor *r = begin();
        probe p = {0};
        int fd = attach_tcp_pair(r, &p, NULL), hold[2], done[2];
        char byte;
        assert_return_code(pipe(hold), errno);
        assert_return_code(pipe(done), errno);
        pid_t child = fork();
        if (child == 0) {
            int other = dup((int)reactor_conn_socket(r, p.conn));
            reactor_close(r, p.conn);
            reactor_destroy(r);
            close(fd), close(hold[1]), close(done[0]), close(done[1]);
            while (read(hold[0], &byte, 1) > 0) {
            }
            _exit(other < 0);
        }
        close(hold[0]), close(done[1]);
        assert_int_equal(read(done[0], &byte, 1), 0);
        peer_say(r, fd, "x"); /* all is as it was */
        UNTIL(r, p.in == 1);
        held_ends[i].end(r, &p, fd);
        hear_of_the_end(r, fd, held_ends[i].resets);
        close(fd), close(hold[1]), close(done[0]);
        UNTIL(r, p.closes);
        assert_int_equal(waitpid(child, NULL, 0), child);
        end(r);
    }
}
#endif

/* ---- lingering ---- */

CASE(close_with_input_on_its_way_does_not_reset) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_tcp_pair(r, &p, NULL), error = 0;
    socklen_t len = sizeof error;
    assert_int_equal(reactor_write(r, p.conn, "bye", 3), 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    turns(r, 10);
    peer_say(r, fd, "it has not heard yet");
    turns(r, 10);
    peer_hears(r, fd, "bye");
    peer_sees_eof(r, fd);
    assert_return_code(getsockopt(fd, SOL_SOCKET, SO_ERROR, (void *)&error, &len), errno);
    assert_int_equal(error, 0);
    assert_int_equal(p.closes, 0);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

CASE(close_does_not_wait_for_ever_for_a_peer_that_has_everything) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_tcp_pair(r, &p, NULL);
    assert_int_equal(reactor_write(r, p.conn, "bye", 3), 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    peer_hears(r, fd, "bye");
    peer_sees_eof(r, fd);
    close(fd);
    end(r);
}

#ifdef __linux__
/* All is in the kernel's hands, and the peer does not take it. */
CASE(close_timeout_ends_what_is_not_acknowledged) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.close_timeout_ms = 50};
    size_t bytes;
    int fd = attach_tcp_pair(r, &p, &o), size = MIB;
    assert_return_code(
        setsockopt((int)reactor_conn_socket(r, p.conn), SOL_SOCKET, SO_SNDBUF, &size, sizeof size),
        errno);
    size = 4096;
    assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), errno);
    do {
        assert_true(write_pattern(r, p.conn, 32 * KIB, 1, 0, &(receipt){0}) >= 0);
        turns(r, 3);
        assert_int_equal(ioctl((int)reactor_conn_socket(r, p.conn), TIOCOUTQ, &size), 0);
    } while (size < 32 * KIB);
    assert_int_equal(reactor_pending(r, p.conn), 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_int_equal(peer_end(r, fd, &bytes), ECONNRESET);
    close(fd);
    end(r);
}

/* A peer that takes little at a time. */
static int dial_narrow(const char *address) {
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), size = 4096;
    assert_return_code(fd, errno);
    assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), errno);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port_of(address));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(connect(fd, (struct sockaddr *)&a, sizeof a), errno);
    unblock(fd);
    return fd;
}

/* What the peer says meanwhile does not keep the loop from seeing that it takes the output. Shows
   nothing on a machine that stands still for half of the time. */
CASE(close_timeout_starts_again_with_each_acknowledgement) {
    enum { TIME_MS = 800 };
    reactor *r = begin();
    probe p = {0};
    reactor_listen_options o = {.conn = {.close_timeout_ms = TIME_MS}};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &o);
    int fd = dial_narrow(s.address), size = MIB;
    UNTIL(r, p.opens);
    assert_return_code(
        setsockopt((int)reactor_conn_socket(r, p.conn), SOL_SOCKET, SO_SNDBUF, &size, sizeof size),
        errno);
    assert_true(write_pattern(r, p.conn, 200 * KIB, 1, 0, &(receipt){0}) >= 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    int64_t begun = clock_ns(), last = begun, now = begun;
    while (now - begun < 2 * TIME_MS * MS && now - last < TIME_MS * MS / 2 && !p.closes) {
        char some[1024];
        if (recv(fd, some, sizeof some, 0) > 0) last = now;
        send(fd, "and?", 4, MSG_NOSIGNAL);
        pass(r, 20);
        now = clock_ns();
    }
    if (now - last < TIME_MS * MS / 2) assert_int_equal(p.closes, 0);
    close(fd);
    UNTIL(r, p.closes);
    reactor_listener_close(r, s.l);
    end(r);
}
#endif

static void hook_too_late(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    assert_int_equal(((probe *)user)->closes, 1);
}

/* Timers fire in their order, so the one here tells which of a drain's times it was. */
CASE(drain_does_not_wait_for_the_end_of_idle_peers) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_tcp_pair(r, &p, NULL);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_after(r, 1500, hook_too_late, &p, NULL), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    peer_sees_eof(r, fd);
    close(fd);
    end(r);
}

/* What was handed over may have SO_LINGER with a time, in which close(2) would wait. */
CASE(close_does_not_block_whoever_has_set_SO_LINGER) {
    const struct linger half_a_minute = {1, 30};
    reactor *r = begin();
    probe p = {0};
    char address[REACTOR_ADDRESS_MAX], handed[32];
    int l = answering(address);
    assert_return_code(
        setsockopt(l, SOL_SOCKET, SO_LINGER, (const void *)&half_a_minute, sizeof half_a_minute),
        errno);
    snprintf(handed, sizeof handed, "fd:%d", l);
    server s = serve_with(r, handed, &probe_handler, &p, NULL);
    int fd = visit(r, &s, &p), pair[2];
    make_tcp_pair(pair);
    assert_return_code(setsockopt(pair[0], SOL_SOCKET, SO_LINGER, (const void *)&half_a_minute,
                                  sizeof half_a_minute),
                       errno);
    receipt freed = {0};
    assert_true(write_pattern(r, p.conn, 3 * MIB, 1, 0, &freed) >= 0);
    reactor_conn c = attach_as(r, pair[0], &p, NULL);
    assert_true(write_pattern(r, c, 3 * MIB, 1, 0, &freed) >= 0);
    turns(r, 5);
    int64_t from = clock_ns();
    reactor_destroy(r);
    assert_true(clock_ns() - from < 20 * 1000 * MS);
    assert_int_equal(p.closes, 2);
    close(fd), close(pair[1]);
    assert_int_equal(open_descriptors(), descriptors_before);
}

#ifndef _WIN32
/* ---- pipes and terminals that others share ---- */

CASE(nonblocking_is_switched_off_again_for_those_who_share_a_pipe) {
    for (int way = 0; way < 3; way++) { /* destroy, close, detach */
        reactor *r = begin();
        probe p = {0}, q = {0};
        int fd[2];
        assert_return_code(pipe(fd), errno);
        int shared = dup(fd[0]), second = dup(fd[0]);
        attach_as(r, fd[0], &p, NULL);
        UNTIL(r, p.opens);
        attach_as(r, second, &q, NULL);
        UNTIL(r, q.opens);
        assert_true(fcntl(shared, F_GETFL) & O_NONBLOCK);
        if (way) {
            assert_int_equal(reactor_close(r, p.conn), 0);
            UNTIL(r, p.closes);
            assert_true(fcntl(shared, F_GETFL) & O_NONBLOCK); /* the other still needs it */
        }
        if (way == 1) assert_int_equal(reactor_close(r, q.conn), 0);
        reactor_socket back = -1;
        size_t none = 0;
        if (way == 2) assert_int_equal(reactor_detach(r, q.conn, &back, NULL, &none), 0);
        if (way == 1) UNTIL(r, q.closes);
        if (way == 0) reactor_destroy(r);
        assert_false(fcntl(shared, F_GETFL) & O_NONBLOCK);
        close(shared), close(fd[1]);
        if (way == 2) close(back);
        if (way) reactor_destroy(r);
        assert_int_equal(open_descriptors(), descriptors_before);
    }
}

#ifdef __linux__
CASE(end_of_a_terminal_is_an_eof) {
    reactor *r = begin();
    probe p = {0};
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_return_code(master, errno);
    assert_return_code(grantpt(master), errno);
    assert_return_code(unlockpt(master), errno);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_return_code(slave, errno);
    attach_as(r, master, &p, NULL);
    UNTIL(r, p.opens);
    assert_int_equal(write(slave, "last", 4), 4);
    close(slave);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "odec");
    assert_string_equal(p.text, "last");
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}
#endif
#endif

/* ---- on_close ---- */

static void hook_look_around(reactor *r, reactor_conn c, probe *p) {
    char out[REACTOR_ADDRESS_MAX];
    size_t len = sizeof out;
    reactor_socket fd;
    (void)p; /* that state and user are good has been seen by then */
    assert_int_equal(reactor_write(r, c, "x", 1), -EBADF);
    assert_int_equal(reactor_local_address(r, c, out, sizeof out), -ENOTCONN);
    assert_true(reactor_peer_address(r, c, out, sizeof out) > 0);
    assert_int_equal(reactor_detach(r, c, &fd, out, &len), -ENOTCONN);
    assert_true((int)reactor_conn_socket(r, c) < 0);
    assert_int_equal(reactor_pending(r, c), 0);
    assert_int_equal(reactor_close(r, c), 0);
    assert_int_equal(reactor_abort(r, c), 0);
}

CASE(law15_in_on_close_the_handle_is_not_stale_yet) {
    reactor *r = begin();
    probe p = {.close = hook_look_around};
    int fd = attach_pair(r, &p, NULL);
    reactor_close(r, p.conn);
    UNTIL(r, p.closes);
    turns(r, 5);
    assert_int_equal(p.closes, 1);
    assert_null(reactor_state(r, p.conn));
    assert_null(reactor_user(r, p.conn));
    close(fd);
    end(r);
}

/* ---- acting from inside each callback ---- */

static void act_abort(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_abort(r, c), 0);
}
static void act_write(reactor *r, reactor_conn c, probe *p) {
    int e = reactor_write(r, c, "written", 7);
    assert_true(p->at_letter == 'c' ? e == -EBADF : e >= 0);
}
static void act_write_and_close(reactor *r, reactor_conn c, probe *p) {
    act_write(r, c, p);
    assert_int_equal(reactor_close(r, c), 0);
}
static void act_close_and_abort(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_close(r, c), 0);
    assert_int_equal(reactor_abort(r, c), 0);
}
static void act_shutdown(reactor *r, reactor_conn c, probe *p) {
    int e = reactor_shutdown(r, c);
    assert_int_equal(e, p->at_letter == 'c' ? -EBADF : 0);
}
static void act_handler(reactor *r, reactor_conn c, probe *p) {
    int e = reactor_set_handler(r, c, &drain_handler);
    if (p->at_letter != 'c') assert_int_equal(e, 0);
}
static void act_detach(reactor *r, reactor_conn c, probe *p) {
    char input[64];
    size_t len = sizeof input;
    reactor_socket fd;
    int e = reactor_detach(r, c, &fd, input, &len);
    (void)p;
    if (e == 0)
        close(fd);
    else
        assert_true(e == -EBUSY || e == -ENOTCONN);
}
static void act_attach(reactor *r, reactor_conn c, probe *p) {
    int fd[2];
    (void)c, (void)p;
    make_pair(fd);
    assert_true(reactor_attach(r, fd[0], &null_handler, NULL, NULL) >= 0);
    close(fd[1]);
}
static void act_pause_and_resume(reactor *r, reactor_conn c, probe *p) {
    if (p->at_letter == 'c') return;
    assert_int_equal(reactor_pause(r, c), 0);
    assert_int_equal(reactor_resume(r, c), 0);
}
static void act_stop(reactor *r, reactor_conn c, probe *p) {
    (void)c, (void)p;
    reactor_stop(r);
}
static void act_run(reactor *r, reactor_conn c, probe *p) {
    (void)c, (void)p;
    assert_int_equal(reactor_run(r), -EBUSY);
    assert_int_equal(reactor_poll(r, 0), -EBUSY);
}
static void act_destroy(reactor *r, reactor_conn c, probe *p) {
    (void)c, (void)p;
    reactor_destroy(r);
}
static void act_destroy_and_use(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    reactor_destroy(r);
    reactor_write(r, c, "x", 1); /* whatever it says, the loop is still there until we return */
    reactor_close(r, c);
    reactor_stop(r);
}

/* A life in which each callback comes: on_open writes beyond its mark, the peer sends, waits for a
   timeout, ends. It stops short where the action ends it. */
static void hook_beyond_the_mark(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_write(r, c, "0123456789", 10), 1);
}

static void live(const char *name, probe_hook *act, char at, int tcp, int destroys) {
    reactor *r = begin();
    probe p = {.open = hook_beyond_the_mark, .act = act, .at_letter = at, .answer = 1};
    reactor_conn_options o = {.high_water = 1, .low_water = 1, .idle_timeout_ms = 3};
    int fd[2], sent = 0, ended = 0;
    if (tcp)
        make_tcp_pair(fd);
    else
        make_pair(fd);
    attach_as(r, fd[0], &p, &o);
    while (!p.closes && !(destroys && p.acted)) {
        if (p.opens && !sent++) send(fd[1], "x", 1, MSG_NOSIGNAL);
        if (p.datas && p.writables && p.timeouts && !ended++) shutdown(fd[1], SHUT_WR);
        reactor_poll(r, 1);
        peer_discard(fd[1]);
        char byte;
        if (recv(fd[1], &byte, 1, 0) == 0) shutdown(fd[1], SHUT_WR); /* it does as it is done by */
    }
    if (!destroys) {
        turns(r, 5);
        reactor_destroy(r);
    }
    close(fd[1]);
    if (!p.acted || p.closes != 1 || strchr(p.log, 'c')[1])
        fail_msg("%s in '%c': acted %d, closed %d, log %s", name, at, p.acted, p.closes, p.log);
    if (open_descriptors() != descriptors_before)
        fail_msg("%s in '%c' leaks a descriptor", name, at);
}

static void live_everywhere(const char *name, probe_hook *act, int destroys) {
    static const char letters[] = "odwtec";
    for (size_t i = 0; letters[i]; i++)
        for (int tcp = 0; tcp < 2; tcp++) live(name, act, letters[i], tcp, destroys);
}

CASE(law1_close_inside_every_callback) { live_everywhere("close", hook_close, 0); }
CASE(law1_abort_inside_every_callback) { live_everywhere("abort", act_abort, 0); }
CASE(law1_close_and_abort_inside_every_callback) {
    live_everywhere("close, abort", act_close_and_abort, 0);
}
CASE(law1_write_inside_every_callback) { live_everywhere("write", act_write, 0); }
CASE(law1_write_and_close_inside_every_callback) {
    live_everywhere("write, close", act_write_and_close, 0);
}
CASE(law1_shutdown_inside_every_callback) { live_everywhere("shutdown", act_shutdown, 0); }
CASE(law1_set_handler_inside_every_callback) { live_everywhere("set_handler", act_handler, 0); }
CASE(law1_detach_inside_every_callback) { live_everywhere("detach", act_detach, 0); }
CASE(law1_attach_inside_every_callback) { live_everywhere("attach", act_attach, 0); }
CASE(law1_pause_and_resume_inside_every_callback) {
    live_everywhere("pause", act_pause_and_resume, 0);
}
CASE(law1_stop_inside_every_callback) { live_everywhere("stop", act_stop, 0); }
CASE(law3_running_inside_every_callback_is_refused) { live_everywhere("run", act_run, 0); }
CASE(law3_destroy_inside_every_callback) { live_everywhere("destroy", act_destroy, 1); }
CASE(law3_destroy_inside_every_callback_then_use) {
    live_everywhere("destroy, use", act_destroy_and_use, 1);
}

typedef struct target {
    probe *p;
    probe_hook *act;
    int ran;
} target;

static void task_acts(reactor *r, void *user) {
    target *t = user;
    t->ran++;
    t->act(r, t->p->conn, t->p);
}
static void timer_acts(reactor *r, reactor_timer timer, void *user) {
    (void)timer;
    task_acts(r, user);
}

/* As above, from a task and from a timer that run while input is ready too. */
static void act_from_elsewhere(probe_hook *act) {
    for (int by_timer = 0; by_timer < 2; by_timer++) {
        reactor *r = begin();
        probe p = {0};
        target t = {&p, act, 0};
        int fd = attach_pair(r, &p, NULL);
        peer_say(r, fd, "x");
        if (by_timer)
            assert_int_equal(reactor_after(r, 0, timer_acts, &t, NULL), 0);
        else
            assert_int_equal(reactor_defer(r, task_acts, &t), 0);
        UNTIL(r, t.ran);
        close(fd);
        UNTIL(r, p.closes);
        assert_int_equal(t.ran, 1);
        end(r);
        assert_int_equal(p.closes, 1);
    }
}
CASE(law1_close_from_task_and_timer) { act_from_elsewhere(hook_close); }
CASE(law1_abort_from_task_and_timer) { act_from_elsewhere(act_abort); }
CASE(law1_write_and_close_from_task_and_timer) { act_from_elsewhere(act_write_and_close); }

/* ---- batches ---- */

static void hook_on_other(reactor *r, reactor_conn c, probe *p) {
    const target *t = p->extra;
    (void)c;
    t->act(r, t->p->conn, t->p);
}

typedef int attach_fn(reactor *r, probe *p, const reactor_conn_options *o);

/* Two are readable in one turn; whichever comes first acts on the other. */
static void in_one_batch_of(attach_fn *attach, probe_hook *act, int closes) {
    reactor *r = begin();
    probe a = {0}, b = {0};
    target on_b = {&b, act, 0}, on_a = {&a, act, 0};
    int fd_a = attach(r, &a, NULL), fd_b = attach(r, &b, NULL);
    turns(r, 3);
    a.extra = &on_b;
    b.extra = &on_a;
    a.data = b.data = hook_on_other;
    peer_say(r, fd_a, "x");
    peer_say(r, fd_b, "x");
    UNTIL(r, a.datas + b.datas);
    turns(r, 10);
    assert_int_equal(a.datas + b.datas, 1);
    if (closes) { /* one that was closed lingers, for its input is unread, until the peer ends */
        const probe *other = a.datas ? &b : &a;
        close(a.datas ? fd_b : fd_a);
        UNTIL(r, other->closes);
        assert_string_equal(other->log, "oc");
        close(a.datas ? fd_a : fd_b);
    } else {
        assert_int_equal(a.closes + b.closes, 0);
        close(fd_a), close(fd_b);
    }
    end(r);
}
static void in_one_batch(probe_hook *act, int closes) {
    in_one_batch_of(attach_pair, act, closes);
    in_one_batch_of(attach_tcp_pair, act, closes);
}
CASE(law2_closed_in_the_same_batch_gets_only_on_close) { in_one_batch(hook_close, 1); }
CASE(law2_aborted_in_the_same_batch_gets_only_on_close) { in_one_batch(act_abort, 1); }
CASE(law2_detached_in_the_same_batch_gets_only_on_close) { in_one_batch(act_detach, 1); }
CASE(law14_paused_in_the_same_batch_gets_nothing) { in_one_batch(hook_pause, 0); }

enum { CROWD = 40, LINE = 10 };

/* As many TCP connections, all with a line of input that no turn has seen yet. */
typedef struct crowd {
    probe p[CROWD];
    int fd[CROWD];
    int served;
} crowd;

static void crowd_speaks(crowd *all) {
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(send(all->fd[i], "0123456789", LINE, MSG_NOSIGNAL), LINE);
    loopback_settles();
}

static void crowd_gathers(reactor *r, crowd *all, probe_hook *data) {
    memset(all, 0, sizeof *all);
    for (int i = 0; i < CROWD; i++) {
        all->p[i].data = data;
        all->p[i].extra = all;
        all->fd[i] = attach_tcp_pair(r, &all->p[i], NULL);
    }
    turns(r, 3);
    crowd_speaks(all);
}

/* One line each, and no more. */
static void crowd_hears(reactor *r, crowd *all, const char *line) {
    for (int i = 0; i < CROWD; i++) peer_hears(r, all->fd[i], line);
    turns(r, 3);
    for (int i = 0; i < CROWD; i++) {
        char more;
        assert_int_equal(recv(all->fd[i], &more, 1, MSG_DONTWAIT), -1);
        close(all->fd[i]);
    }
}

static size_t load_of_the_first; /* after the second has written to it */

/* The first echoes. The second writes as much to it as leaves room below low water for half a line. */
static void hook_echo_or_write_to_the_first(reactor *r, reactor_conn c, probe *p) {
    static const char zeros[16 * KIB];
    crowd *all = p->extra;
    all->served++;
    if (all->served != 2) assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    for (int i = 0; i < CROWD && all->served == 2; i++)
        if (all->p[i].datas && &all->p[i] != p) {
            assert_int_equal(reactor_write(r, all->p[i].conn, zeros, sizeof zeros - LINE / 2), 0);
            load_of_the_first = reactor_pending(r, all->p[i].conn);
        }
}

/* An answer that has not left yet, as on a backend that sends those of a turn together, is output that
   the handler sees, and stops at. */
CASE(law14_an_answer_that_waits_counts_for_low_water) {
    reactor *r = begin();
    crowd all;
    crowd_gathers(r, &all, hook_echo_or_write_to_the_first);
    UNTIL(r, all.served == CROWD);
    int writables = 0, due = load_of_the_first > 16 * KIB;
    turns(r, 10);
    for (int i = 0; i < CROWD; i++) writables += all.p[i].writables;
    assert_int_equal(writables, due);
    for (int i = 0; i < CROWD; i++) {
        close(all.fd[i]);
        UNTIL(r, all.p[i].closes);
    }
    end(r);
}

/* For two, each the other's extra: the first echoes; then the second sees to it that the kernel takes
   no more of the first, and writes to it. */
static void hook_echo_or_fill_the_first(reactor *r, reactor_conn c, probe *p) {
    static const char zeros[64 * KIB];
    const probe *other = p->extra;
    if (!other->datas) {
        assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
        return;
    }
    int fd = reactor_conn_socket(r, other->conn);
    while (send(fd, zeros, sizeof zeros, MSG_NOSIGNAL) > 0) continue;
    while (send(fd, zeros, 1, MSG_NOSIGNAL) > 0) continue;
    (void)reactor_write(r, other->conn, zeros, sizeof zeros);
}

CASE(law14_an_answer_that_the_kernel_does_not_take_does_not_lift_the_cap) {
    const reactor_conn_options o = {.high_water = 64 * KIB, .max_output = 64 * KIB};
    static const char zeros[64 * KIB];
    reactor *r = begin();
    probe p[2] = {{.data = hook_echo_or_fill_the_first}, {.data = hook_echo_or_fill_the_first}};
    int fd[2];
    for (int i = 0; i < 2; i++) {
        p[i].extra = &p[1 - i];
        fd[i] = attach_tcp_pair(r, &p[i], &o);
    }
    turns(r, 3);
    for (int i = 0; i < 2; i++)
        assert_int_equal(send(fd[i], "0123456789", LINE, MSG_NOSIGNAL), LINE);
    UNTIL(r, p[0].datas && p[1].datas);
    turns(r, 3);
    for (int i = 0; i < 2; i++) {
        assert_true(reactor_pending(r, p[i].conn) <= 64 * KIB + LINE);
        if (reactor_pending(r, p[i].conn) > 0)
            assert_int_equal(reactor_write(r, p[i].conn, zeros, 64 * KIB), -ENOBUFS);
        close(fd[i]);
        UNTIL(r, p[i].closes);
    }
    end(r);
}

typedef struct two {
    probe p[2];
    reactor_socket kept;
    int pair[2];
} two;

static void hook_echo_and_detach_the_other(reactor *r, reactor_conn c, probe *p) {
    two *t = p->extra;
    char input[LINE];
    size_t len = sizeof input;
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    probe *other = &t->p[p == t->p];
    assert_int_equal(reactor_detach(r, other->conn, &t->kept, input, &len), 0);
}

static void hook_take_the_number(reactor *r, reactor_conn c, probe *p) {
    two *t = p->extra;
    (void)r, (void)c;
    if (p->reason == -ETIMEDOUT) make_pair(t->pair);
}

/* Its deadline comes in the turn in which it has answered. */
CASE(law2_an_answer_does_not_go_to_who_has_the_descriptor_next) {
    two t = {.kept = (reactor_socket)-1, .pair = {-1, -1}};
    reactor *r = begin();
    int fd[2];
    char byte;
    for (int i = 0; i < 2; i++) {
        t.p[i].extra = &t;
        t.p[i].data = hook_echo_and_detach_the_other;
        t.p[i].close = hook_take_the_number;
        fd[i] = attach_tcp_pair(r, &t.p[i], NULL);
    }
    turns(r, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(reactor_set_timeout(r, t.p[i].conn, REACTOR_TIMEOUT_DEADLINE, 1), 0);
        assert_int_equal(send(fd[i], "0123456789", LINE, MSG_NOSIGNAL), LINE);
    }
    poll(NULL, 0, 20);
    UNTIL(r, t.p[0].closes && t.p[1].closes);
    turns(r, 3);
    assert_true(t.kept != (reactor_socket)-1);
    assert_true(t.pair[0] >= 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(recv(t.pair[i], &byte, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
    }
    for (int i = 0; i < 2; i++) close(t.pair[i]), close(fd[i]);
    close((int)t.kept);
    end(r);
}

/* Three with input in one turn. The first answers, but its peer resets it. The second queues a file
   behind that answer and asks for the first (now) or, when the file is given up, for the third,
   whose answer the kernel does not take. */
typedef struct three {
    probe p[3];
    int fd[3], file, order, now, asking, dones, result;
    size_t full; /* bytes that fill the third's way out */
} three;

static void note_done_and_detach(reactor *r, reactor_conn c, int result, void *user) {
    three *t = user;
    char input[LINE];
    size_t len = sizeof input;
    reactor_socket fd;
    (void)c;
    assert_false(t->asking); /* law 1 */
    assert_true(result < 0);
    t->dones++;
    if (!t->now) t->result = reactor_detach(r, t->p[2].conn, &fd, input, &len);
}

static void fill_the_third(const reactor *r, three *t) {
    static const char zeros[64 * KIB];
    int fd = reactor_conn_socket(r, t->p[2].conn);
    for (ssize_t n; (n = send(fd, zeros, sizeof zeros, MSG_NOSIGNAL)) > 0;) t->full += (size_t)n;
    for (ssize_t n; (n = send(fd, zeros, 1, MSG_NOSIGNAL)) > 0;) t->full += (size_t)n;
}

static void hook_of_three(reactor *r, reactor_conn c, probe *p) {
    const struct linger hard = {1, 0};
    three *t = p->extra;
    t->order = t->order * 10 + (int)(p - t->p) + 1;
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    if (p == &t->p[0]) {
        assert_return_code(setsockopt(t->fd[0], SOL_SOCKET, SO_LINGER, &hard, sizeof hard), errno);
        close(t->fd[0]);
    } else if (p == &t->p[1] && t->order == 12) {
        char input[LINE];
        size_t len = sizeof input;
        reactor_socket fd;
        fill_the_third(r, t);
        int e = reactor_sendfile(r, t->p[0].conn, t->file, 0, 1, 0, note_done_and_detach, t);
        if (e < 0) { /* it has been refused already */
            assert_true(e == -EPIPE || e == -EBADF);
            return;
        }
        t->asking = 1;
        if (t->now) assert_true(reactor_detach(r, t->p[0].conn, &fd, input, &len) < 0);
        t->asking = 0;
    }
}

static void refused_with_a_file_behind(int now) {
    three t = {.now = now, .result = -EBUSY};
    reactor *r = begin();
    t.file = pattern_file(1, 1, 0);
    for (int i = 0; i < 3; i++) {
        t.p[i].extra = &t;
        t.p[i].data = hook_of_three;
        t.fd[i] = attach_tcp_pair(r, &t.p[i], NULL);
    }
    turns(r, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(send(t.fd[i], "0123456789", LINE, MSG_NOSIGNAL), LINE);
    UNTIL(r, t.p[0].closes && t.p[1].datas && t.p[2].datas);
    assert_int_equal(t.result, -EBUSY);
    for (char some[16 * KIB]; t.full;) {
        size_t n = t.full < sizeof some ? t.full : sizeof some;
        peer_take(r, t.fd[2], some, n);
        t.full -= n;
    }
    peer_hears(r, t.fd[2], "0123456789");
    close(t.fd[1]), close(t.fd[2]), close(t.file);
    end(r);
}
CASE(law1_detach_of_one_that_was_refused_calls_no_done) { refused_with_a_file_behind(1); }
CASE(law14_done_comes_when_all_answers_are_accounted_for) { refused_with_a_file_behind(0); }

typedef struct parted {
    int file, dones;
    size_t len, after; /* after: so much it sends the file */
    char input[4 * LINE];
    reactor_socket fd;
} parted;

static void done_detaches(reactor *r, reactor_conn c, int result, void *user) {
    parted *t = user;
    t->dones++;
    t->len = sizeof t->input;
    assert_int_equal(result, 0);
    assert_int_equal(reactor_detach(r, c, &t->fd, t->input, &t->len), 0);
}

static void hook_send_file_and_eat_some(reactor *r, reactor_conn c, probe *p) {
    parted *t = p->extra;
    p->eat = 0;
    if (p->offered < t->after) return;
    p->eat = 3;
    assert_int_equal(reactor_sendfile(r, c, t->file, 0, 1, 0, done_detaches, t), 0);
}

/* In the done callback of what on_data has sent, what that has left is there, and no more. */
CASE(detach_in_done_gives_back_what_on_data_left) {
    for (int lines = 1; lines <= 2; lines++) {
        reactor *r = begin();
        parted t = {.after = (size_t)lines * LINE};
        probe p = {.data = hook_send_file_and_eat_some, .extra = &t};
        int fd = attach_tcp_pair(r, &p, NULL);
        t.file = pattern_file(1, 1, 0);
        for (int i = 1; i <= lines; i++) {
            peer_say(r, fd, "0123456789");
            UNTIL(r, p.datas == i);
        }
        UNTIL(r, p.closes);
        assert_int_equal(t.dones, 1);
        assert_int_equal(t.len, lines * LINE - 3);
        assert_memory_equal(t.input, "34567890123456789", t.len);
        close((int)t.fd), close(fd), close(t.file);
        end(r);
    }
}

static void hook_echo_and_stop(reactor *r, reactor_conn c, probe *p) {
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    ((crowd *)p->extra)->served++;
    reactor_stop(r);
}

CASE(stopped_at_each_of_many_inputs_loses_none) {
    static crowd all;
    reactor *r = begin();
    crowd_gathers(r, &all, hook_echo_and_stop);
    for (int runs = 1; runs <= CROWD; runs++) {
        assert_int_equal(reactor_run(r), 0);
        assert_int_equal(all.served, runs);
    }
    crowd_hears(r, &all, "0123456789");
    end(r);
}

static void hook_echo_and_tell_the_next(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    probe *next = &all->p[(p - all->p + 1) % CROWD];
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    if (next->datas) assert_int_equal(reactor_write(r, next->conn, "!", 1), 0);
}

/* What others write goes behind an answer that was given before. */
CASE(law14_an_answer_goes_before_what_others_write_later_in_the_turn) {
    static crowd all;
    reactor *r = begin();
    crowd_gathers(r, &all, hook_echo_and_tell_the_next);
    for (int i = 0; i < CROWD; i++) peer_hears(r, all.fd[i], "0123456789");
    for (int i = 0; i < CROWD; i++) close(all.fd[i]);
    end(r);
}

static void hook_pause_all(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    (void)c;
    for (int i = 0; i < CROWD; i++) assert_int_equal(reactor_pause(r, all->p[i].conn), 0);
}

/* Whatever had been received is kept for later, and comes before what follows. */
CASE(law14_paused_in_mid_turn_and_resumed_gets_all) {
    static crowd all;
    reactor *r = begin();
    crowd_gathers(r, &all, hook_pause_all);
    turns(r, 10);
    int called = 0;
    for (int i = 0; i < CROWD; i++) called += all.p[i].datas;
    assert_int_equal(called, 1);
    crowd_speaks(&all);
    turns(r, 3);
    size_t bytes = 0;
    for (int i = 0; i < CROWD; i++) {
        all.p[i].data = NULL;
        assert_int_equal(reactor_resume(r, all.p[i].conn), 0);
    }
    for (int i = 0; i < CROWD; i++) UNTIL(r, all.p[i].in == 2 * LINE);
    for (int i = 0; i < CROWD; i++) bytes += all.p[i].in;
    assert_int_equal(counters(r).bytes_in, bytes);
    for (int i = 0; i < CROWD; i++) close(all.fd[i]);
    end(r);
}

static void hook_detach_all(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    (void)c;
    for (int i = 0; i < CROWD; i++) {
        char input[2 * LINE];
        size_t len = sizeof input;
        reactor_socket fd;
        if (&all->p[i] == p) continue;
        assert_int_equal(reactor_detach(r, all->p[i].conn, &fd, input, &len), 0);
        /* Its line is in one place or in the other. */
        ssize_t n = recv((int)fd, input + len, sizeof input - len, MSG_DONTWAIT);
        if (n > 0) len += (size_t)n;
        assert_int_equal(len, LINE);
        assert_memory_equal(input, "0123456789", LINE);
        close((int)fd);
    }
}

CASE(detach_in_mid_turn_gives_back_what_was_received) {
    static crowd all;
    reactor *r = begin();
    crowd_gathers(r, &all, hook_detach_all);
    UNTIL(r, counters(r).closes == CROWD - 1);
    for (int i = 0; i < CROWD; i++) close(all.fd[i]);
    end(r);
}

enum { SOME = 5 };

/* The first ones answer; then something is done to all, in the callback of the next. */
static void some_answer_then(reactor *r, reactor_conn c, probe *p, probe_hook *then) {
    crowd *all = p->extra;
    if (all->served++ < SOME) {
        assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
        return;
    }
    for (int i = 0; i < CROWD; i++) then(r, all->p[i].conn, &all->p[i]);
}

static void hook_some_answer_then_close_all(reactor *r, reactor_conn c, probe *p) {
    some_answer_then(r, c, p, hook_close);
}
static void hook_some_answer_then_abort_all(reactor *r, reactor_conn c, probe *p) {
    some_answer_then(r, c, p, act_abort);
}
static void hook_some_answer_then_shut_all(reactor *r, reactor_conn c, probe *p) {
    some_answer_then(r, c, p, act_shutdown);
}

/* Who has answered is heard before its end, unless it is aborted; nobody else is asked any more. */
static void crowd_is_ended(probe_hook *data, int reason) {
    static crowd all;
    reactor *r = begin();
    int called = 0, heard = 0;
    crowd_gathers(r, &all, data);
    for (int i = 0; i < CROWD; i++) {
        size_t bytes;
        int e = peer_end(r, all.fd[i], &bytes);
        if (bytes) heard++;
        if (bytes && reason == REACTOR_ORDERLY) assert_int_equal(e, 0);
        close(all.fd[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        UNTIL(r, all.p[i].closes);
        assert_int_equal(all.p[i].reason, reason);
        called += all.p[i].datas;
    }
    assert_int_equal(called, SOME + 1);
    assert_true(heard == SOME || reason != REACTOR_ORDERLY);
    end(r);
}
CASE(law2_one_of_many_closes_all_in_mid_turn) {
    crowd_is_ended(hook_some_answer_then_close_all, REACTOR_ORDERLY);
}
CASE(law2_one_of_many_aborts_all_in_mid_turn) {
    crowd_is_ended(hook_some_answer_then_abort_all, -ECONNABORTED);
}

static void hook_echo_after_shutdown(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    if (all->served <= SOME) {
        hook_some_answer_then_shut_all(r, c, p);
        return;
    }
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), -EPIPE);
    all->served++;
}

CASE(one_of_many_shuts_all_in_mid_turn) {
    static crowd all;
    reactor *r = begin();
    int answered = 0;
    crowd_gathers(r, &all, hook_echo_after_shutdown);
    UNTIL(r, all.served == CROWD);
    for (int i = 0; i < CROWD; i++) {
        size_t bytes;
        assert_int_equal(peer_end(r, all.fd[i], &bytes), 0);
        assert_true(bytes == 0 || bytes == LINE);
        answered += bytes > 0;
        close(all.fd[i]);
    }
    assert_int_equal(answered, SOME);
    for (int i = 0; i < CROWD; i++) UNTIL(r, all.p[i].closes);
    end(r);
}

static void hook_some_answer_then_destroy(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    if (all->served++ < SOME)
        assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    else
        reactor_destroy(r);
}

CASE(law15_destroy_among_many_sends_what_was_answered) {
    static crowd all;
    reactor *r = begin();
    int answered = 0;
    crowd_gathers(r, &all, hook_some_answer_then_destroy);
    while (all.served <= SOME) assert_true(reactor_poll(r, 5) >= 0);
    for (int i = 0; i < CROWD; i++) {
        size_t bytes;
        int e = peer_end(NULL, all.fd[i], &bytes);
        assert_int_equal(all.p[i].closes, 1);
        assert_true(bytes == 0 || (bytes == LINE && e == 0));
        answered += bytes > 0;
        close(all.fd[i]);
    }
    assert_int_equal(answered, SOME);
    assert_int_equal(open_descriptors(), descriptors_before);
}

static void hook_reset_by_the_peer_then_echo(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    close_with_reset(all->fd[p - all->p]);
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
}

CASE(reset_between_the_input_and_its_answer) {
    static crowd all;
    reactor *r = begin();
    crowd_gathers(r, &all, hook_reset_by_the_peer_then_echo);
    for (int i = 0; i < CROWD; i++) UNTIL(r, all.p[i].closes);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(all.p[i].datas, 1);
        assert_int_equal(all.p[i].reason, -ECONNRESET);
    }
    assert_int_equal(counters(r).bytes_out, 0);
    assert_int_equal(counters(r).queued, 0);
    end(r);
}

static void hook_echo_and_add_up(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    uint64_t held = counters(r).bytes_out;
    for (int i = 0; i < CROWD; i++) held += reactor_pending(r, all->p[i].conn);
    assert_int_equal(held, LINE * all->served++);
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    assert_int_equal(reactor_pending(r, c), LINE);
}

CASE(pending_counts_what_the_kernel_has_not_been_given) {
    static crowd all;
    reactor *r = begin();
    crowd_gathers(r, &all, hook_echo_and_add_up);
    crowd_hears(r, &all, "0123456789");
    end(r);
}

/* The input, its beginning, that and no more of it is consumed, something else, two pieces, none. */
static const char *const answers[] = {"0123456789", "01234", "01234", "else", "0123456789!", ""};

static void hook_answer_as_each_does(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    size_t how = (size_t)(p - all->p) % COUNT(answers);
    if (p->datas > 1) { /* what it has left */
        p->eat = 0;
        return;
    }
    if (how < 2) assert_int_equal(reactor_write(r, c, p->bytes, how ? 5 : LINE), 0);
    if (how == 2) assert_int_equal(reactor_write(r, c, p->bytes, p->eat = 5), 0);
    if (how == 3) assert_int_equal(reactor_write(r, c, "else", 4), 0);
    if (how == 4) assert_int_equal(reactor_write(r, c, p->bytes, LINE), 0);
    if (how == 4) assert_int_equal(reactor_write(r, c, "!", 1), 0);
    all->served++;
}

CASE(answers_of_all_kinds_in_one_turn) {
    static crowd all;
    reactor *r = begin();
    uint64_t bytes = 0;
    crowd_gathers(r, &all, hook_answer_as_each_does);
    UNTIL(r, all.served == CROWD);
    for (int i = 0; i < CROWD; i++) {
        const char *answer = answers[(size_t)i % COUNT(answers)];
        peer_hears(r, all.fd[i], answer);
        bytes += strlen(answer);
    }
    turns(r, 3);
    assert_int_equal(counters(r).bytes_out, bytes);
    assert_int_equal(counters(r).bytes_in, CROWD * LINE);
    assert_int_equal(counters(r).unread, CROWD / (int)COUNT(answers) * 5 + 5);
    for (int i = 0; i < CROWD; i++) {
        char more;
        assert_int_equal(recv(all.fd[i], &more, 1, MSG_DONTWAIT), -1);
        all.p[i].data = NULL;
        close(all.fd[i]);
    }
    end(r);
}

static char flood[100 * KIB];

static void hook_flood_the_others(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    (void)c;
    if (all->served++) return;
    for (int i = 0; i < CROWD; i++) {
        if (&all->p[i] == p) continue;
        assert_int_equal(reactor_write(r, all->p[i].conn, flood, sizeof flood), 1);
        assert_int_equal(reactor_write(r, all->p[i].conn, "end", 3), 1);
    }
}

/* Above the mark in mid-turn: its input waits until the peer has read, be it received already. */
CASE(law14_throttled_in_mid_turn_gets_its_input_later) {
    static crowd all;
    reactor_conn_options o = {.coupled = 1, .high_water = 32 * KIB};
    reactor *r = begin();
    memset(&all, 0, sizeof all);
    for (int i = 0; i < CROWD; i++) {
        all.p[i].data = hook_flood_the_others;
        all.p[i].extra = &all;
        all.fd[i] = attach_tcp_pair(r, &all.p[i], &o);
    }
    turns(r, 3);
    crowd_speaks(&all);
    assert_true(reactor_poll(r, 1000) >= 0);
    for (int i = 0; i < CROWD; i++) assert_true(all.p[i].in == 0 || all.p[i].in == LINE);
    for (int i = 0; i < CROWD; i++) {
        static char got[sizeof flood];
        if (all.p[i].in && all.p[i].datas && !reactor_pending(r, all.p[i].conn) &&
            recv(all.fd[i], got, 1, MSG_PEEK) < 0)
            continue; /* the first */
        peer_take(r, all.fd[i], got, sizeof got);
        assert_memory_equal(got, flood, sizeof got);
        peer_hears(r, all.fd[i], "end");
    }
    for (int i = 0; i < CROWD; i++) UNTIL(r, all.p[i].in == LINE);
    for (int i = 0; i < CROWD; i++) close(all.fd[i]);
    end(r);
}

/* Nobody reads, until what is answered finds no room. */
CASE(law14_many_answers_of_which_the_kernel_takes_a_part) {
    enum { PIECE = 20000 };
    static crowd all;
    static char text[PIECE];
    reactor *r = begin();
    size_t said = 0;
    memset(&all, 0, sizeof all);
    for (int i = 0; i < CROWD; i++) {
        int size = 4096;
        all.p[i].data = hook_echo;
        all.fd[i] = attach_tcp_pair(r, &all.p[i], NULL);
        setsockopt((int)reactor_conn_socket(r, all.p[i].conn), SOL_SOCKET, SO_SNDBUF,
                   (const void *)&size, sizeof size);
    }
    turns(r, 3);
    for (; counters(r).queued == 0; said += PIECE) {
        for (int i = 0; i < CROWD; i++) {
            pattern_fill(text, PIECE, (unsigned)i, said);
            peer_send(r, all.fd[i], text, PIECE);
        }
        for (int i = 0; i < CROWD; i++) UNTIL(r, all.p[i].in == said + PIECE);
    }
    for (int i = 0; i < CROWD; i++) peer_takes_pattern(r, all.fd[i], said, (unsigned)i, 0);
    UNTIL(r, counters(r).queued == 0);
    assert_int_equal(counters(r).bytes_out, CROWD * said);
    for (int i = 0; i < CROWD; i++) close(all.fd[i]);
    end(r);
}

static probe newcomer;
static int newcomer_peer;

static void hook_replace(reactor *r, reactor_conn c, probe *p) {
    int fd[2];
    (void)p;
    assert_int_equal(reactor_abort(r, c), 0);
    make_pair(fd); /* may well get its number */
    attach_as(r, fd[0], &newcomer, NULL);
    newcomer_peer = fd[1];
}

CASE(law2_successor_of_a_descriptor_number_gets_none_of_its_events) {
    reactor *r = begin();
    probe a = {0}, b = {0};
    target on_b = {&b, hook_replace, 0}, on_a = {&a, hook_replace, 0};
    memset(&newcomer, 0, sizeof newcomer);
    int fd_a = attach_pair(r, &a, NULL), fd_b = attach_pair(r, &b, NULL);
    a.extra = &on_b;
    b.extra = &on_a;
    a.data = b.data = hook_on_other;
    peer_say(r, fd_a, "x");
    peer_say(r, fd_b, "x");
    UNTIL(r, a.datas + b.datas);
    turns(r, 10);
    assert_string_equal(newcomer.log, "o");
    peer_say(r, newcomer_peer, "mine");
    UNTIL(r, newcomer.datas);
    assert_string_equal(newcomer.text, "mine");
    close(fd_a), close(fd_b), close(newcomer_peer);
    end(r);
}

/* ---- destroy ---- */

CASE(law15_destroy_delivers_every_on_close_and_frees_everything) {
    reactor *r = begin();
    enum { KINDS = 8 };
    static probe p[KINDS];
    receipt freed = {0}, sent = {0};
    char address[REACTOR_ADDRESS_MAX];
    int hang[HANGING], fd[KINDS];
    memset(p, 0, sizeof p);
    hanging(hang, address);
    server s = serve(r, &p[0]);
    fd[0] = visit(r, &s, &p[0]);            /* accepted */
    probe_connect(r, address, &p[1], NULL); /* connecting */
    fd[1] = -1;
    for (int i = 2; i < KINDS; i++) fd[i] = attach_pair(r, &p[i], NULL);
    reactor_pause(r, p[2].conn);
    assert_int_equal(write_pattern(r, p[3].conn, 1 * MIB, 1, 0, &freed), 1);
    sent.file = pattern_file(1 * MIB, 1, 0);
    assert_int_equal(
        reactor_sendfile(r, p[4].conn, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent), 0);
    p[5].hold = 1;
    peer_say(r, fd[5], "unread");
    reactor_shutdown(r, p[6].conn);
    assert_int_equal(write_pattern(r, p[7].conn, 1 * MIB, 1, 0, &freed), 1);
    turns(r, 3);
    reactor_close(r, p[7].conn); /* still flushing */
    turns(r, 3);
    reactor_destroy(r);
    for (int i = 0; i < KINDS; i++) {
        if (p[i].closes != 1) fail_msg("connection %d: %d calls", i, p[i].closes);
        if (i < 7) assert_int_equal(p[i].reason, -ECANCELED);
        if (fd[i] >= 0) close(fd[i]);
    }
    assert_int_equal(freed.calls, 2);
    assert_int_equal(sent.calls, 1);
    assert_true(sent.result < 0);
    unhang(hang);
    assert_int_equal(open_descriptors(), descriptors_before);
}

CASE(law15_destroy_right_after_connect_and_attach) {
    reactor *r = begin();
    probe p = {0}, q = {0}, a = {0};
    int fd[2];
    server s = serve(r, &p);
    probe_connect(r, s.address, &q, NULL);
    make_pair(fd);
    attach_as(r, fd[0], &a, NULL);
    reactor_destroy(r);
    assert_int_equal(q.closes, 1);
    assert_string_equal(q.log, "c");
    assert_int_equal(q.reason, -ECANCELED);
    assert_int_equal(a.closes, 1);
    assert_int_equal(p.opens, p.closes);
    close(fd[1]);
    assert_int_equal(open_descriptors(), descriptors_before);
}

static void hook_try_new_ones(reactor *r, reactor_conn c, probe *p) {
    int fd[2];
    (void)c, (void)p;
    make_pair(fd);
    assert_true(reactor_listen(r, "127.0.0.1:0", &null_handler, NULL, NULL) < 0);
    assert_true(reactor_connect(r, "127.0.0.1:1", &null_handler, NULL, NULL) < 0);
    assert_true(reactor_attach(r, fd[0], &null_handler, NULL, NULL) < 0);
    close(fd[0]);
    close(fd[1]);
}

CASE(law15_destroy_lets_on_close_make_nothing_new) {
    reactor *r = begin();
    probe p = {.close = hook_try_new_ones}, q = p;
    int a = attach_pair(r, &p, NULL), b = attach_pair(r, &q, NULL);
    reactor_destroy(r);
    assert_int_equal(p.closes + q.closes, 2);
    close(a), close(b);
    assert_int_equal(open_descriptors(), descriptors_before);
}

CASE(law3_destroy_in_a_callback_ends_the_run_and_closes_the_others) {
    reactor *r = begin();
    probe p = {.data = act_destroy}, q = {0};
    int a = attach_pair(r, &p, NULL), b = attach_pair(r, &q, NULL);
    peer_say(r, a, "x");
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.closes + q.closes, 2);
    assert_int_equal(p.reason, -ECANCELED);
    assert_int_equal(q.reason, -ECANCELED);
    peer_discard(a);
    close(a), close(b);
    assert_int_equal(open_descriptors(), descriptors_before);
}

/* ---- detach and attach ---- */

CASE(detach_gives_back_descriptor_and_unread_input) {
    reactor *r = begin();
    probe p = {.hold = 1};
    char input[16] = "################";
    size_t len = 3;
    reactor_socket out = -1;
    int fd = attach_pair(r, &p, NULL);
    reactor_conn c = p.conn;
    peer_say(r, fd, "abcdef");
    UNTIL(r, p.datas);
    assert_int_equal(reactor_detach(r, c, &out, input, &len), -ENOBUFS);
    assert_int_equal(len, 6);
    assert_int_equal(input[0], '#');
    len = sizeof input;
    assert_int_equal(reactor_detach(r, c, &out, input, &len), 0);
    assert_int_equal(len, 6);
    assert_memory_equal(input, "abcdef#", 7);
    assert_int_equal(p.closes, 0); /* law 1 */
    assert_int_equal(reactor_write(r, c, "x", 1), -EBADF);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_DETACHED);
    assert_null(reactor_state(r, c));
    assert_int_equal(counters(r).unread, 0);
    assert_int_equal(send(out, "hello", 5, MSG_NOSIGNAL), 5);
    peer_hears(r, fd, "hello");
    peer_say(r, fd, "back");
    assert_int_equal(recv(out, input, sizeof input, 0), 4);
    turns(r, 5);
    assert_int_equal(p.datas, 1);
    close(out);
    close(fd);
    end(r);
}

CASE(detach_without_unread_input_needs_no_room) {
    reactor *r = begin();
    probe p = {0};
    size_t len = 0;
    reactor_socket out = -1;
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(reactor_detach(r, p.conn, &out, NULL, &len), 0);
    assert_int_equal(len, 0);
    UNTIL(r, p.closes);
    close(out);
    close(fd);
    end(r);
}

static void hook_move(reactor *r, reactor_conn c, probe *p) {
    size_t len = 0;
    reactor_socket *fd = p->extra;
    assert_int_equal(reactor_detach(r, c, fd, NULL, &len), 0);
    assert_int_equal(len, 0);
    p->extra = NULL;
}

CASE(detach_inside_on_data_counts_what_was_offered_as_consumed) {
    reactor *r = begin();
    reactor_socket out = (reactor_socket)-1;
    probe p = {.data = hook_move, .hold = 1, .extra = &out};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_DETACHED);
    assert_string_equal(p.log, "odc");
    assert_int_equal(counters(r).unread, 0);
    peer_say(r, fd, "rest");
    char input[8];
    assert_int_equal(recv(out, input, sizeof input, 0), 4);
    close(out);
    close(fd);
    end(r);
}

CASE(detach_then_attach_to_another_loop) {
    reactor *r = begin();
    reactor *other = make_loop();
    probe p = {.hold = 1}, q = {.data = hook_echo};
    char input[16];
    size_t len = sizeof input;
    reactor_socket out;
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas);
    assert_int_equal(reactor_detach(r, p.conn, &out, input, &len), 0);
    reactor_conn c = attach_as(other, out, &q, NULL); /* before on_close has come */
    assert_int_equal(reactor_write(other, c, input, len), 0);
    peer_hears(other, fd, "abc");
    UNTIL(r, p.closes);
    peer_say(other, fd, "def");
    peer_hears(other, fd, "def");
    turns(r, 5);
    assert_int_equal(p.datas, 1);
    close(fd);
    UNTIL(other, q.closes);
    assert_int_equal(q.reason, REACTOR_ORDERLY);
    reactor_destroy(other);
    end(r);
}

CASE(detach_then_attach_to_the_same_loop_at_once) {
    reactor *r = begin();
    probe p = {0}, q = {.data = hook_echo};
    int fd = attach_pair(r, &p, NULL);
    for (int i = 0; i < 5; i++) {
        size_t len = 0;
        reactor_socket out;
        probe *from = i ? &q : &p;
        assert_int_equal(reactor_detach(r, from->conn, &out, NULL, &len), 0);
        attach_as(r, out, &q, NULL);
        peer_say(r, fd, "again");
        peer_hears(r, fd, "again");
    }
    assert_int_equal(p.closes, 1);
    assert_int_equal(q.closes, 4);
    close(fd);
    end(r);
}

CASE(detach_with_output_queued_is_EBUSY) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    size_t len = 0;
    reactor_socket out;
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
    assert_int_equal(reactor_detach(r, p.conn, &out, NULL, &len), -EBUSY);
    turns(r, 5);
    assert_int_equal(reactor_detach(r, p.conn, &out, NULL, &len), -EBUSY);
    peer_takes_pattern(r, fd, 1 * MIB, 1, 0);
    UNTIL(r, reactor_pending(r, p.conn) == 0);
    assert_int_equal(reactor_detach(r, p.conn, &out, NULL, &len), 0);
    close(out);
    close(fd);
    end(r);
}

CASE(detach_of_what_is_not_open_is_ENOTCONN) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    size_t len = 0;
    reactor_socket out;
    server s = serve(r, &p);
    reactor_conn c = probe_connect(r, s.address, &q, NULL);
    assert_int_equal(reactor_detach(r, c, &out, NULL, &len), -ENOTCONN);
    UNTIL(r, q.opens);
    reactor_close(r, c);
    assert_int_equal(reactor_detach(r, c, &out, NULL, &len), -ENOTCONN);
    UNTIL(r, q.closes);
    end(r);
}

CASE(detach_of_null_is_EINVAL) {
    reactor *r = begin();
    probe p = {.hold = 1};
    size_t len = 10;
    reactor_socket out;
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "x");
    UNTIL(r, p.datas);
    assert_int_equal(reactor_detach(r, p.conn, NULL, NULL, &len), -EINVAL);
    assert_int_equal(reactor_detach(r, p.conn, &out, NULL, &len), -EINVAL); /* there is input */
    turns(r, 3);
    assert_int_equal(p.closes, 0);
    close(fd);
    end(r);
}

CASE(attach_refuses_what_is_no_stream_and_leaves_it_open) {
    reactor *r = begin();
    char address[REACTOR_ADDRESS_MAX];
    int fd[] = {answering(address), socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), pattern_file(10, 1, 0)};
    for (size_t i = 0; i < COUNT(fd); i++) {
        int e = reactor_attach(r, fd[i], &null_handler, NULL, NULL);
        if (e != -EINVAL) fail_msg("descriptor %zu: %d", i, e);
        assert_int_equal(close(fd[i]), 0);
    }
    assert_int_equal(reactor_attach(r, fd[0], &null_handler, NULL, NULL), -EBADF);
    assert_int_equal(reactor_attach(r, -1, &null_handler, NULL, NULL), -EBADF);
    assert_int_equal(reactor_attach(r, INT32_MAX, &null_handler, NULL, NULL), -EBADF);
    assert_int_equal(counters(r).connections, 0);
    end(r);
}

CASE(attach_of_what_is_not_connected_is_ENOTCONN) {
    reactor *r = begin();
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (size_t i = 0; i < COUNT(families); i++) {
        int fd = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd == -1) continue; /* no such family here */
        int e = reactor_attach(r, fd, &null_handler, NULL, NULL);
        if (e != -ENOTCONN) fail_msg("family %d: %d", families[i], e);
        assert_int_equal(close(fd), 0);
    }
    end(r);
}

/* The peer has closed and this side has shut down, so there is nobody to name; but what came is still
   there, and then its end. */
CASE(attach_of_what_has_ended_delivers_what_came) {
    reactor *r = begin();
    probe p = {0};
    int fd[2];
    make_tcp_pair(fd);
    assert_int_equal(send(fd[1], "last", 4, MSG_NOSIGNAL), 4);
    assert_return_code(shutdown(fd[0], SHUT_WR), errno);
    char byte;
    while (recv(fd[1], &byte, 1, 0) != 0) poll(NULL, 0, 1);
    close(fd[1]);
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    while (getpeername(fd[0], (struct sockaddr *)&sa, &len) == 0) poll(NULL, 0, 1);
    attach_as(r, fd[0], &p, NULL);
    UNTIL(r, p.closes);
    assert_string_equal(p.text, "last");
    assert_string_equal(p.log, "odec");
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

static void no_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r, (void)fd, (void)events, (void)user;
}

CASE(attach_of_what_is_watched_is_EEXIST) {
    reactor *r = begin();
    probe p = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, no_io, NULL), 0);
    assert_int_equal(reactor_attach(r, fd[0], &null_handler, NULL, NULL), -EEXIST);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    attach_as(r, fd[0], &p, NULL);
    assert_int_equal(reactor_attach(r, fd[0], &null_handler, NULL, NULL), -EEXIST);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, no_io, NULL), -EEXIST);
    peer_say(r, fd[1], "x");
    UNTIL(r, p.datas);
    close(fd[1]);
    end(r);
}

CASE(attach_null_handler_is_EINVAL) {
    reactor *r = begin();
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_attach(r, fd[0], NULL, NULL, NULL), -EINVAL);
    assert_int_equal(close(fd[0]), 0);
    close(fd[1]);
    end(r);
}

CASE(attach_makes_the_descriptor_non_blocking) {
    NEEDS_MODES_TO_ASK;
    reactor *r = begin();
    probe p = {0};
    int fd[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), errno);
    attach_as(r, fd[0], &p, NULL);
    assert_true(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
    assert_false(fcntl(fd[1], F_GETFL) & O_NONBLOCK);
    close(fd[1]);
    end(r);
}

CASE(attach_pipes_in_both_directions) {
    reactor *r = begin();
    probe in = {0}, out = {0};
    int to[2], from[2];
    assert_return_code(pipe2(to, O_CLOEXEC), errno);
    assert_return_code(pipe2(from, O_CLOEXEC), errno);
    unblock(from[0]);
    reactor_conn c = attach_as(r, to[0], &in, NULL);
    reactor_conn d = attach_as(r, from[1], &out, NULL);
    UNTIL(r, in.opens && out.opens);
    assert_int_equal(write(to[1], "through a pipe", 14), 14);
    UNTIL(r, in.in == 14);
    assert_string_equal(in.text, "through a pipe");
    close(to[1]);
    UNTIL(r, in.closes);
    assert_string_equal(in.log, "odec");
    assert_int_equal(in.reason, REACTOR_ORDERLY);
    receipt freed = {0}, sent = {.file = pattern_file(300000, 1, 300000)};
    assert_int_equal(write_pattern(r, d, 300000, 1, 0, &freed), 1);
    assert_true(reactor_sendfile(r, d, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent) >=
                0);
    char got[8192];
    for (size_t bytes = 0; bytes < 600000;) {
        ssize_t n = read(from[0], got, sizeof got);
        if (n > 0) pattern_check(got, (size_t)n, 1, bytes);
        if (n > 0)
            bytes += (size_t)n;
        else
            turn(r);
    }
    UNTIL(r, sent.calls && freed.calls && out.writables);
    assert_int_equal(sent.result, 0);
    assert_int_equal(out.eofs + out.closes, 0);
    reactor_close(r, d);
    reactor_close(r, c);
    UNTIL(r, out.closes);
    assert_int_equal(out.reason, REACTOR_ORDERLY);
    assert_int_equal(read(from[0], got, sizeof got), 0);
    close(from[0]);
    end(r);
}

/* Nobody will ever read: known although nothing is written. */
CASE(attach_pipe_whose_reader_goes_is_EPIPE) {
    reactor *r = begin();
    probe p = {0};
    int fd[2];
    assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
    attach_as(r, fd[1], &p, NULL);
    UNTIL(r, p.opens);
    turns(r, 5);
    close(fd[0]);
    UNTIL(r, p.closes);
    /* An end that could read as well reads that nobody is there. */
    assert_string_equal(p.log, pipes_go_both_ways() ? "oec" : "oc");
    assert_int_equal(p.reason, pipes_go_both_ways() ? REACTOR_ORDERLY : -EPIPE);
    end(r);
}

/* ---- drain ---- */

CASE(drain_gives_idle_ones_their_eof_and_ends_the_run) {
    enum { N = 3 };
    reactor *r = begin();
    probe p = {0};
    server s = serve(r, &p);
    int fd[N];
    for (int i = 0; i < N; i++) {
        fd[i] = visit(r, &s, &p);
        peer_say(r, fd[i], "x");
        UNTIL(r, p.datas == i + 1);
    }
    assert_int_equal(reactor_drain(r, 60000), 0);
    assert_int_equal(p.closes, 0); /* law 1 */
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.closes, N);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    for (int i = 0; i < N; i++) {
        peer_sees_eof(r, fd[i]);
        close(fd[i]);
    }
    assert_int_equal(counters(r).listeners, 0);
    assert_int_equal(counters(r).connections, 0);
    end(r);
}

static void finish(reactor *r, reactor_timer t, void *user) {
    const probe *p = user;
    (void)t;
    assert_int_equal(reactor_write(r, p->conn, "finished", 8), 0);
    assert_int_equal(reactor_close(r, p->conn), 0);
}

CASE(drain_lets_the_busy_finish) {
    reactor *r = begin();
    probe p = {.answer = 1}, q = {.answer = 0};
    server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, NULL);
    server t = serve_with(r, "127.0.0.1:0", &drain_handler, &q, NULL);
    int busy = visit(r, &s, &p), idle = visit(r, &t, &q);
    assert_int_equal(reactor_after(r, 30, finish, &p, NULL), 0);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_string_equal(p.log, "orc");
    assert_string_equal(q.log, "orc");
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    peer_hears(r, busy, "finished");
    peer_sees_eof(r, busy);
    peer_sees_eof(r, idle);
    close(busy), close(idle);
    end(r);
}

CASE(drain_aborts_stragglers_at_the_deadline_not_before) {
    reactor *r = begin();
    probe p = {.answer = 1};
    size_t bytes;
    server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, NULL);
    int fd = visit(r, &s, &p);
    int64_t before = clock_ns();
    assert_int_equal(reactor_drain(r, 50), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.closes, 1);
    assert_true(p.reason < 0);
    assert_true(p.at - before >= 50 * MS);
    assert_int_equal(peer_end(r, fd, &bytes), ECONNRESET);
    close(fd);
    end(r);
}

CASE(drain_without_on_drain_waits_for_queued_output) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(write_pattern(r, p.conn, 3 * MIB, 1, 0, &freed), 1);
    assert_int_equal(reactor_drain(r, -1), 0);
    turns(r, 10);
    assert_int_equal(p.closes, 0);
    peer_takes_pattern(r, fd, 3 * MIB, 1, 0);
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    close(fd);
    end(r);
}

CASE(drain_without_on_drain_waits_for_unconsumed_input) {
    reactor *r = begin();
    probe p = {.hold = 1};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "half a requ");
    UNTIL(r, p.datas);
    assert_int_equal(reactor_drain(r, -1), 0);
    turns(r, 10);
    assert_int_equal(p.closes, 0);
    p.hold = 0;
    peer_say(r, fd, "est");
    UNTIL(r, p.datas == 2);
    assert_string_equal(p.text, "half a request");
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    close(fd);
    end(r);
}

CASE(drain_answered_with_0_closes_when_output_is_out) {
    reactor *r = begin();
    probe p = {.answer = 0};
    receipt freed = {0};
    server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, NULL);
    int fd = visit(r, &s, &p);
    assert_int_equal(write_pattern(r, p.conn, 3 * MIB, 1, 0, &freed), 1);
    assert_int_equal(reactor_drain(r, -1), 0);
    peer_takes_pattern(r, fd, 3 * MIB, 1, 0);
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    close(fd);
    end(r);
}

CASE(drain_lets_no_new_peers_in) {
    reactor *r = begin();
    probe p = {.answer = 1};
    server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, NULL);
    int fd = visit(r, &s, &p);
    assert_int_equal(reactor_drain(r, -1), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(reactor_listen(r, "127.0.0.1:0", &null_handler, NULL, NULL), -ECANCELED);
        turns(r, 5);
    }
    assert_int_equal(reactor_listener_resume(r, s.l), -EBADF);
    close(fd);
    UNTIL(r, p.closes);
    end(r);
}

CASE(drain_twice_takes_the_earlier_deadline) {
    reactor *r = begin();
    probe p = {.answer = 1};
    server s = serve_with(r, "127.0.0.1:0", &drain_handler, &p, NULL);
    int fd = visit(r, &s, &p);
    assert_int_equal(reactor_drain(r, -2), -EINVAL);
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_drain(r, 500000), -EALREADY);
    assert_int_equal(reactor_drain(r, 20), -EALREADY);
    assert_int_equal(reactor_drain(r, 1000000), -EALREADY);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.closes, 1);
    assert_int_equal(p.drains, 1);
    close(fd);
    end(r);
}

CASE(drain_of_nothing_ends_the_run) {
    reactor *r = begin();
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, NULL, NULL),
                     0); /* or it would end anyway */
    assert_int_equal(reactor_drain(r, -1), 0);
    assert_int_equal(reactor_run(r), 0);
    close(fd[0]), close(fd[1]);
    end(r);
}

CASE(drain_ends_connects_under_way) {
    reactor *r = begin();
    probe p = {0};
    char address[REACTOR_ADDRESS_MAX];
    int fd[HANGING];
    hanging(fd, address);
    probe_connect(r, address, &p, NULL);
    assert_int_equal(reactor_drain(r, 1000), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_string_equal(p.log, "c");
    unhang(fd);
    end(r);
}

static void hook_drain(reactor *r, reactor_conn c, probe *p) {
    (void)c, (void)p;
    assert_int_equal(reactor_drain(r, 10000), 0);
}

CASE(drain_from_inside_a_callback) {
    reactor *r = begin();
    probe p = {.data = hook_drain}, q = {0};
    int a = attach_pair(r, &p, NULL), b = attach_pair(r, &q, NULL);
    peer_say(r, a, "x");
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(p.closes + q.closes, 2);
    peer_sees_eof(r, a);
    peer_sees_eof(r, b);
    close(a), close(b);
    end(r);
}

/* ---- SIGPIPE ---- */

static volatile sig_atomic_t pipe_signals;
static void on_sigpipe(int signum) {
    (void)signum;
    pipe_signals++;
}

/* Every way to write, to every kind of peer that is gone. */
static void write_to_the_gone(int kind, int what, int promised) {
    reactor_options o = {.sigpipe_ignored = promised};
    reactor *r = begin_with(&o);
    probe p = {.open = kind == 2 ? NULL : hook_pause};
    receipt freed = {.of = &p}, sent = {.of = &p, .file = pattern_file(1 * MIB, 1, 0)};
    int fd[2];
    if (kind == 0)
        make_pair(fd);
    else if (kind == 1)
        make_tcp_pair(fd);
    else
        assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
    int mine = kind == 2 ? fd[1] : fd[0], theirs = kind == 2 ? fd[0] : fd[1];
    reactor_conn c = attach_as(r, mine, &p, NULL);
    UNTIL(r, p.opens);
    if (kind == 1)
        close_with_reset(theirs);
    else
        close(theirs);
    if (what == 0) reactor_write(r, c, "x", 1);
    if (what == 1) write_pattern(r, c, 300000, 1, 0, &freed);
    if (what == 2) reactor_sendfile(r, c, sent.file, 0, -1, 0, note_done, &sent);
    turns(r, 3);
    reactor_write(r, c, "y", 1);
    reactor_shutdown(r, c);
    turns(r, 3);
    reactor_close(r, c);
    UNTIL(r, p.closes);
    assert_true(p.reason < 0);
    if (what == 1) assert_int_equal(freed.calls, 1);
    if (what == 2) assert_int_equal(sent.calls, 1);
    if (what == 2) assert_true(sent.result < 0);
    close(sent.file);
    end(r);
}

static void write_to_all_the_gone(int promised) {
    for (int kind = 0; kind < 3; kind++)
        for (int what = 0; what < 3; what++) write_to_the_gone(kind, what, promised);
}

static int sigpipe_is_pending(void) {
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, SIGPIPE);
}

CASE(law11_sigpipe_is_never_raised) {
    struct sigaction mine, old, now;
    sigset_t before, after;
    memset(&mine, 0, sizeof mine);
    mine.sa_handler = on_sigpipe;
    pipe_signals = 0;
    assert_int_equal(sigaction(SIGPIPE, &mine, &old), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    write_to_all_the_gone(0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigaction(SIGPIPE, &old, &now), 0);
    assert_int_equal(pipe_signals, 0);
    assert_true(now.sa_handler == on_sigpipe); /* law 11, and no side effects on the host */
    assert_false(sigpipe_is_pending());
    assert_int_equal(sigismember(&before, SIGPIPE), sigismember(&after, SIGPIPE));
}

/* The host's own SIGPIPE, blocked and waiting, is not swallowed with those that are kept away. */
CASE(law11_sigpipe_of_the_host_stays_pending) {
    sigset_t only, old;
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &only, &old);
    assert_false(sigpipe_is_pending());
    write_to_all_the_gone(0);
    assert_false(sigpipe_is_pending());
    raise(SIGPIPE);
    write_to_all_the_gone(0);
    assert_true(sigpipe_is_pending());
    signal(SIGPIPE, SIG_IGN); /* forgets it */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    signal(SIGPIPE, SIG_DFL);
}

/* The peer goes and is written to before the loop could have seen it go. */
static void hook_write_to_the_gone(reactor *r, reactor_conn c, probe *p) {
    close(*(int *)p->extra);
    assert_int_equal(reactor_write(r, c, "x", 1), 0);
}

/* A program that says so saves the guard: seen by breaking the promise. */
CASE(sigpipe_ignored_by_the_program_needs_no_guard) {
    reactor_options o = {.sigpipe_ignored = 1};
    signal(SIGPIPE, SIG_IGN);
    write_to_all_the_gone(1);
    pipe_signals = 0;
    signal(SIGPIPE, on_sigpipe);
    reactor *r = begin_with(&o);
    int fd[2];
    probe p = {.open = hook_write_to_the_gone, .extra = fd};
    assert_return_code(pipe2(fd, O_CLOEXEC | O_NONBLOCK), errno);
    attach_as(r, fd[1], &p, NULL);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -EPIPE);
    assert_true(pipe_signals > 0);
    end(r);
    signal(SIGPIPE, SIG_DFL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(shutdown_ends_output_after_what_is_queued_and_input_goes_on),
        TEST(shutdown_from_both_sides_closes_in_order),
        TEST(shutdown_of_a_pipe_closes_its_writing_end),
        TEST(shutdown_of_a_pipe_that_goes_both_ways_closes_it),
        TEST(law15_close_is_idempotent_and_tells_on_close_later),
        TEST(close_sends_megabytes_to_a_slow_reader_first_over_tcp),
        TEST(close_sends_megabytes_to_a_slow_reader_first_over_unix),
        TEST(close_with_unread_input_still_delivers_the_last_bytes),
        TEST(close_with_unconsumed_input_still_delivers_the_last_bytes),
        TEST(close_with_unconsumed_input_does_not_reset_who_goes_on_sending),
        TEST(close_timeout_ends_a_peer_that_does_not_read),
        TEST(close_timeout_starts_again_with_each_progress),
        TEST(close_then_abort_does_not_wait_for_the_peer),
        TEST(close_delivers_no_more_input),
        TEST(close_to_a_peer_that_resets_while_flushing),
        TEST(abort_resets_and_gives_up_what_is_queued),
        TEST(reset_by_the_peer_is_ECONNRESET_and_no_eof),
        TEST(law15_reset_is_no_eof_whoever_has_heard_of_it),
        TEST(law15_reset_that_a_queued_send_hears_of_is_no_eof),
#ifdef __linux__
        TEST(law15_eof_before_a_reset_is_an_eof),
#endif
        TEST(abort_in_the_turn_of_the_write_sends_nothing),
        TEST(law15_destroy_with_output_left_resets),
        TEST(law15_destroy_with_all_output_out_ends_in_order),
        TEST(reset_by_the_peer_while_output_waits),
        TEST(law4_input_of_which_nobody_has_heard_is_delivered_though_a_write_fails),
        TEST(reset_before_it_is_accepted_does_not_end_the_listener),
        TEST(law2_stale_handle_is_refused_everywhere_and_never_reaches_its_successor),
        TEST(handle_of_another_loop_is_refused_everywhere),
        TEST(handle_of_another_kind_is_refused_everywhere),
        TEST(law15_ends_are_heard_while_a_duplicate_holds_the_tcp_socket),
        TEST(law15_ends_are_heard_while_a_duplicate_holds_the_unix_socket),
#ifndef _WIN32
        TEST(law11_ends_are_heard_of_the_parent_and_not_of_the_child),
#endif
        TEST(close_with_input_on_its_way_does_not_reset),
        TEST(close_does_not_wait_for_ever_for_a_peer_that_has_everything),
#ifdef __linux__
        TEST(close_timeout_ends_what_is_not_acknowledged),
        TEST(close_timeout_starts_again_with_each_acknowledgement),
#endif
        TEST(drain_does_not_wait_for_the_end_of_idle_peers),
        TEST(close_does_not_block_whoever_has_set_SO_LINGER),
#ifndef _WIN32
        TEST(nonblocking_is_switched_off_again_for_those_who_share_a_pipe),
#ifdef __linux__
        TEST(end_of_a_terminal_is_an_eof),
#endif
#endif
        TEST(law15_in_on_close_the_handle_is_not_stale_yet),
        TEST(law1_close_inside_every_callback),
        TEST(law1_abort_inside_every_callback),
        TEST(law1_close_and_abort_inside_every_callback),
        TEST(law1_write_inside_every_callback),
        TEST(law1_write_and_close_inside_every_callback),
        TEST(law1_shutdown_inside_every_callback),
        TEST(law1_set_handler_inside_every_callback),
        TEST(law1_detach_inside_every_callback),
        TEST(law1_attach_inside_every_callback),
        TEST(law1_pause_and_resume_inside_every_callback),
        TEST(law1_stop_inside_every_callback),
        TEST(law3_running_inside_every_callback_is_refused),
        TEST(law3_destroy_inside_every_callback),
        TEST(law3_destroy_inside_every_callback_then_use),
        TEST(law1_close_from_task_and_timer),
        TEST(law1_abort_from_task_and_timer),
        TEST(law1_write_and_close_from_task_and_timer),
        TEST(law2_closed_in_the_same_batch_gets_only_on_close),
        TEST(law2_aborted_in_the_same_batch_gets_only_on_close),
        TEST(law2_detached_in_the_same_batch_gets_only_on_close),
        TEST(law14_paused_in_the_same_batch_gets_nothing),
        TEST(law14_an_answer_that_waits_counts_for_low_water),
        TEST(law14_an_answer_that_the_kernel_does_not_take_does_not_lift_the_cap),
        TEST(law2_an_answer_does_not_go_to_who_has_the_descriptor_next),
        TEST(law1_detach_of_one_that_was_refused_calls_no_done),
        TEST(law14_done_comes_when_all_answers_are_accounted_for),
        TEST(detach_in_done_gives_back_what_on_data_left),
        TEST(stopped_at_each_of_many_inputs_loses_none),
        TEST(law14_an_answer_goes_before_what_others_write_later_in_the_turn),
        TEST(law14_paused_in_mid_turn_and_resumed_gets_all),
        TEST(detach_in_mid_turn_gives_back_what_was_received),
        TEST(law2_one_of_many_closes_all_in_mid_turn),
        TEST(law2_one_of_many_aborts_all_in_mid_turn),
        TEST(one_of_many_shuts_all_in_mid_turn),
        TEST(law15_destroy_among_many_sends_what_was_answered),
        TEST(reset_between_the_input_and_its_answer),
        TEST(pending_counts_what_the_kernel_has_not_been_given),
        TEST(answers_of_all_kinds_in_one_turn),
        TEST(law14_throttled_in_mid_turn_gets_its_input_later),
        TEST(law14_many_answers_of_which_the_kernel_takes_a_part),
        TEST(law2_successor_of_a_descriptor_number_gets_none_of_its_events),
        TEST(law15_destroy_delivers_every_on_close_and_frees_everything),
        TEST(law15_destroy_right_after_connect_and_attach),
        TEST(law15_destroy_lets_on_close_make_nothing_new),
        TEST(law3_destroy_in_a_callback_ends_the_run_and_closes_the_others),
        TEST(detach_gives_back_descriptor_and_unread_input),
        TEST(detach_without_unread_input_needs_no_room),
        TEST(detach_inside_on_data_counts_what_was_offered_as_consumed),
        TEST(detach_then_attach_to_another_loop),
        TEST(detach_then_attach_to_the_same_loop_at_once),
        TEST(detach_with_output_queued_is_EBUSY),
        TEST(detach_of_what_is_not_open_is_ENOTCONN),
        TEST(detach_of_null_is_EINVAL),
        TEST(attach_refuses_what_is_no_stream_and_leaves_it_open),
        TEST(attach_of_what_is_not_connected_is_ENOTCONN),
        TEST(attach_of_what_has_ended_delivers_what_came),
        TEST(attach_of_what_is_watched_is_EEXIST),
        TEST(attach_null_handler_is_EINVAL),
        TEST(attach_makes_the_descriptor_non_blocking),
        TEST(attach_pipes_in_both_directions),
        TEST(attach_pipe_whose_reader_goes_is_EPIPE),
        TEST(drain_gives_idle_ones_their_eof_and_ends_the_run),
        TEST(drain_lets_the_busy_finish),
        TEST(drain_aborts_stragglers_at_the_deadline_not_before),
        TEST(drain_without_on_drain_waits_for_queued_output),
        TEST(drain_without_on_drain_waits_for_unconsumed_input),
        TEST(drain_answered_with_0_closes_when_output_is_out),
        TEST(drain_lets_no_new_peers_in),
        TEST(drain_twice_takes_the_earlier_deadline),
        TEST(drain_of_nothing_ends_the_run),
        TEST(drain_ends_connects_under_way),
        TEST(drain_from_inside_a_callback),
        TEST(law11_sigpipe_is_never_raised),
        TEST(law11_sigpipe_of_the_host_stays_pending),
        TEST(sigpipe_ignored_by_the_program_needs_no_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
