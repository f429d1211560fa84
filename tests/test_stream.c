/* Streams while they live: opening, input and its consumption, output and its order, the marks
   between which back-pressure works, budgets, another handler, the inside view. How streams come
   and end is in test_connect.c and test_stream_end.c. */
/* ldflags: -Wl,--wrap=send -Wl,--wrap=sendto -Wl,--wrap=sendmsg -Wl,--wrap=__sendmsg64
   -Wl,--wrap=writev -Wl,--wrap=write */
#include "stream_help.h"

#ifndef _WIN32
#include <sys/uio.h>
#endif

/* ---- counting the system calls that send to one descriptor ---- */

static int counted_fd = -1, counted;
static int
    next_send; /* to it, by send: takes at most so much, or fails with -errno; 0: as always */

#ifndef _WIN32 /* the calls of another library cannot be wrapped there */
#if defined(_TIME_BITS) && _TIME_BITS == 64 && UINTPTR_MAX == UINT32_MAX /* glibc's name for it */
#define __real_sendmsg __real___sendmsg64
#define __wrap_sendmsg __wrap___sendmsg64
#endif

ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __real_sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
                      socklen_t size);
ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __real_writev(int fd, const struct iovec *v, int count);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
                      socklen_t size);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_writev(int fd, const struct iovec *v, int count);
ssize_t __wrap_write(int fd, const void *data, size_t len);

/* One of them may be made of another one: musl's send is a sendto. */
#define COUNTED(fd, call)                                                                          \
    int before = counted + ((fd) == counted_fd);                                                   \
    ssize_t sent = call;                                                                           \
    counted = before;                                                                              \
    return sent

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags) {
    if (fd == counted_fd && next_send) {
        int given = next_send;
        next_send = 0;
        if (given < 0) {
            errno = -given;
            return -1;
        }
        len = len < (size_t)given ? len : (size_t)given;
    }
    COUNTED(fd, __real_send(fd, data, len, flags));
}
ssize_t __wrap_sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
                      socklen_t size) {
    COUNTED(fd, __real_sendto(fd, data, len, flags, to, size));
}
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags) {
    COUNTED(fd, __real_sendmsg(fd, m, flags));
}
ssize_t __wrap_writev(int fd, const struct iovec *v, int count) {
    COUNTED(fd, __real_writev(fd, v, count));
}
ssize_t __wrap_write(int fd, const void *data, size_t len) {
    COUNTED(fd, __real_write(fd, data, len));
}

static void count_sends_of(const reactor *r, reactor_conn c) {
    counted_fd = reactor_conn_socket(r, c);
    counted = 0;
}
#else
static void count_sends_of(const reactor *r, reactor_conn c) {
    counted_fd = (int)reactor_conn_socket(r, c);
    skip();
}
#endif

/* ---- opening ---- */

static void hook_note_socket(reactor *r, reactor_conn c, probe *p) {
    int *fd = p->extra;
    *fd = reactor_conn_socket(r, c);
    assert_true(fcntl(*fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(*fd, F_GETFL) & O_NONBLOCK);
}

CASE(accepted_is_opened_first_with_zeroed_state_and_its_user) {
    reactor *r = begin();
    int socket = -1;
    probe p = {.open = hook_note_socket, .extra = &socket};
    server s = serve(r, &p);
    int fd = dial(s.address);
    peer_say(r, fd, "x");
    UNTIL(r, p.datas);
    assert_string_equal(p.log, "od");
    assert_true(socket >= 0);
    assert_ptr_equal(reactor_user(r, p.conn), &p);
    assert_non_null(reactor_state(r, p.conn));
    close(fd);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "odec");
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

static void hook_scribble(reactor *r, reactor_conn c, probe *p) {
    probe_state *s = reactor_state(r, c);
    (void)p;
    memset(s->zero, 0xee, sizeof s->zero);
}

/* on_open compares the state with zeros: also where another connection's was before. */
CASE(state_is_zeroed_again_for_each_connection) {
    reactor *r = begin();
    probe p = {.open = hook_scribble};
    server s = serve(r, &p);
    for (int i = 1; i <= 20; i++) {
        close(visit(r, &s, &p));
        UNTIL(r, p.closes == i);
    }
    end(r);
}

CASE(accepted_many_at_once_are_each_their_own) {
    enum { N = 50 };
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd[N];
    char text[24];
    for (int i = 0; i < N; i++) {
        fd[i] = dial(s.address);
        snprintf(text, sizeof text, "I am %d.", i);
        peer_say(r, fd[i], text);
    }
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "I am %d.", i);
        peer_hears(r, fd[i], text);
        close(fd[i]);
    }
    UNTIL(r, p.closes == N);
    assert_int_equal(p.opens, N);
    end(r);
}

/* ---- handlers without members ---- */

CASE(null_members_discard_input_and_close_at_eof) {
    reactor *r = begin();
    reactor_conn_options o = {0};
    int fd[2];
    make_pair(fd);
    assert_true(reactor_attach(r, fd[0], &null_handler, &o, NULL) >= 0);
    char *data = pattern_new(1 * MIB, 1, 0);
    peer_send(r, fd[1], data, 1 * MIB);
    free(data);
    assert_return_code(shutdown(fd[1], SHUT_WR), errno);
    peer_sees_eof(r, fd[1]);
    UNTIL(r, counters(r).connections == 0);
    assert_int_equal(counters(r).bytes_in, 1 * MIB);
    close(fd[1]);
    end(r);
}

CASE(null_on_eof_still_sends_what_is_queued) {
    enum { LEN = 2 * MIB };
    static const reactor_handler h = {
        sizeof(probe_state), probe_on_open, NULL, NULL, NULL, NULL, NULL, probe_on_close};
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    reactor_conn_options o = {.user = &p};
    reactor_conn c;
    int fd[2];
    make_pair(fd);
    assert_true(reactor_attach(r, fd[0], &h, &o, &c) >= 0);
    assert_int_equal(write_pattern(r, c, LEN, 2, 0, &freed), 1);
    assert_return_code(shutdown(fd[1], SHUT_WR), errno);
    turns(r, 10);
    assert_int_equal(p.closes, 0);
    peer_takes_pattern(r, fd[1], LEN, 2, 0);
    peer_sees_eof(r, fd[1]);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    assert_int_equal(freed.calls, 1);
    close(fd[1]);
    end(r);
}

CASE(null_on_timeout_is_ETIMEDOUT) {
    static const reactor_handler h = {
        sizeof(probe_state), probe_on_open, NULL, NULL, NULL, NULL, NULL, probe_on_close};
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.user = &p, .idle_timeout_ms = 20};
    int fd[2];
    make_pair(fd);
    int64_t before = clock_ns();
    assert_true(reactor_attach(r, fd[0], &h, &o, NULL) >= 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ETIMEDOUT);
    assert_true(p.at - before >= 20 * 1000000);
    close(fd[1]);
    end(r);
}

/* ---- echo ---- */

/* Consumes whole records of 7 bytes and sends them back. */
static void hook_echo_records(reactor *r, reactor_conn c, probe *p) {
    p->eat = p->offered - p->offered % 7;
    assert_true(reactor_write(r, c, p->bytes, p->eat) >= 0);
}

static void echo_over(server (*serve_at)(reactor *, probe *), probe_hook *hook, unsigned seed) {
    enum { LEN = 7 * 300000 };
    reactor *r = begin();
    probe p = {.data = hook};
    server s = serve_at(r, &p);
    int fd = visit(r, &s, &p);
    char *data = pattern_new(LEN, seed, 0), got[30000];
    size_t sent = 0, back = 0;
    uint64_t random = seed;
    while (back < LEN) {
        size_t most = LEN - sent, piece = random_below(&random, 20000) + 1;
        if (piece > most) piece = most;
        ssize_t n = piece ? send(fd, data + sent, piece, MSG_NOSIGNAL) : 0;
        if (n > 0) sent += (size_t)n;
        if (random_below(&random, 3)) turns(r, 1);
        n = recv(fd, got, random_below(&random, sizeof got) + 1, 0);
        if (n == 0) fail_msg("end of file after %zu bytes", back);
        if (n < 0) continue;
        pattern_check(got, (size_t)n, seed, back);
        back += (size_t)n;
    }
    free(data);
    assert_int_equal(p.in, LEN);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(counters(r).unread, 0);
    end(r);
}

static server serve_unix_plain(reactor *r, probe *p) { return serve_unix(r, p, NULL); }

CASE(echo_is_exact_over_tcp) { echo_over(serve, hook_echo, 11); }
CASE(echo_is_exact_over_tcp_with_input_consumed_in_records) {
    echo_over(serve, hook_echo_records, 12);
}
CASE(echo_is_exact_over_unix) { echo_over(serve_unix_plain, hook_echo, 13); }
CASE(echo_is_exact_over_unix_with_input_consumed_in_records) {
    echo_over(serve_unix_plain, hook_echo_records, 14);
}

CASE(echo_is_exact_one_byte_at_a_time) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    for (unsigned i = 0; i < 1000; i++) {
        char byte = pattern_at(3, i);
        peer_send(r, fd, &byte, 1);
        if (i % 3 == 0) turns(r, 1);
    }
    peer_takes_pattern(r, fd, 1000, 3, 0);
    close(fd);
    end(r);
}

/* ---- consumption ---- */

static void hook_hold_from_the_third(reactor *r, reactor_conn c, probe *p) {
    (void)r, (void)c;
    if (p->datas >= 3) p->eat = 0;
}

CASE(law14_rest_is_offered_in_one_piece_with_what_follows) {
    reactor *r = begin();
    probe p = {.hold = 1};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas == 1);
    assert_int_equal(p.offered, 3);
    turns(r, 20);
    assert_int_equal(p.datas, 1); /* not again and again */
    assert_int_equal(counters(r).unread, 3);
    p.hold = 0;
    p.most = 2;
    peer_say(r, fd, "de");
    p.data = hook_hold_from_the_third;
    UNTIL(r, p.datas == 3);
    turns(r, 20);
    assert_int_equal(p.datas, 3);
    assert_int_equal(p.in, 2);
    assert_int_equal(p.offered, 3);
    p.data = NULL;
    p.most = 0;
    peer_say(r, fd, "f");
    UNTIL(r, p.datas == 4);
    assert_int_equal(p.offered, 4);
    assert_string_equal(p.text, "abcdef");
    assert_int_equal(counters(r).unread, 0);
    close(fd);
    end(r);
}

static void hook_keep_and_pause(reactor *r, reactor_conn c, probe *p) {
    p->eat = 0;
    if (p->datas == 1) assert_int_equal(reactor_pause(r, c), 0);
}

CASE(law14_rest_is_offered_after_resume) {
    reactor *r = begin();
    probe p = {.data = hook_keep_and_pause};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas == 1);
    turns(r, 20);
    assert_int_equal(p.datas, 1);
    p.data = NULL;
    assert_int_equal(reactor_resume(r, p.conn), 0);
    assert_int_equal(p.datas, 1); /* law 1: not inside the call */
    UNTIL(r, p.datas == 2);
    assert_string_equal(p.text, "abc");
    turns(r, 20);
    assert_int_equal(p.datas, 2);
    close(fd);
    end(r);
}

/* Refuses its input until a large answer is out. */
static void hook_answer_first(reactor *r, reactor_conn c, probe *p) {
    if (p->datas > 1) return;
    p->eat = 0;
    assert_int_equal(write_pattern(r, c, 1 * MIB, 4, 0, p->extra), 1);
}

CASE(law14_rest_is_offered_at_low_water) {
    reactor *r = begin();
    receipt freed = {0};
    probe p = {.data = hook_answer_first, .extra = &freed};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas == 1);
    turns(r, 20);
    assert_int_equal(p.datas, 1);
    assert_int_equal(p.writables, 0);
    peer_takes_pattern(r, fd, 1 * MIB, 4, 0);
    UNTIL(r, p.datas == 2 && p.writables == 1);
    assert_string_equal(p.text, "abc");
    turns(r, 20);
    assert_int_equal(p.datas, 2);
    assert_int_equal(p.writables, 1);
    close(fd);
    end(r);
}

CASE(law14_rest_is_offered_once_before_on_eof) {
    reactor *r = begin();
    probe p = {.hold = 1, .stay = 1};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas == 1);
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    UNTIL(r, p.eofs);
    turns(r, 20);
    assert_string_equal(p.log, "odde");
    assert_int_equal(p.offered, 3);
    reactor_close(r, p.conn);
    UNTIL(r, p.closes);
    assert_int_equal(counters(r).unread, 0);
    close(fd);
    end(r);
}

CASE(law4_data_is_delivered_before_eof) {
    enum { LEN = 150000 };
    reactor *r = begin();
    probe p = {0};
    int fd[2];
    make_pair(fd);
    char *data = pattern_new(LEN, 5, 0);
    assert_int_equal(send(fd[1], data, LEN, MSG_NOSIGNAL), LEN);
    free(data);
    close(fd[1]); /* all there before the loop first looks */
    attach_as(r, fd[0], &p, NULL);
    UNTIL(r, p.closes);
    assert_int_equal(p.in, LEN);
    pattern_check(p.text, sizeof p.text - 1, 5, 0);
    assert_int_equal(p.eofs, 1);
    end(r);
}

/* ---- pause and resume ---- */

CASE(law14_paused_gets_neither_data_nor_eof) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(reactor_pause(r, p.conn), 0);
    assert_int_equal(reactor_pause(r, p.conn), 0); /* not counted */
    peer_say(r, fd, "abc");
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    turns(r, 20);
    assert_string_equal(p.log, "o");
    assert_int_equal(reactor_resume(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "odec");
    assert_string_equal(p.text, "abc");
    close(fd);
    end(r);
}

CASE(law14_eof_waits_for_resume_when_on_data_paused) {
    reactor *r = begin();
    probe p = {.data = hook_pause};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    close(fd);
    UNTIL(r, p.datas);
    turns(r, 20);
    assert_int_equal(p.eofs, 0);
    assert_int_equal(p.closes, 0);
    assert_int_equal(reactor_resume(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_string_equal(p.log, "odec");
    end(r);
}

static void hook_pause_at_the_second(reactor *r, reactor_conn c, probe *p) {
    if (p->datas == 1) p->eat = 0;
    if (p->datas == 2) assert_int_equal(reactor_pause(r, c), 0);
}

/* A megabyte for each byte, and never one more before on_writable; shy: not at the first look. */
static void hook_answer_much(reactor *r, reactor_conn c, probe *p) {
    const char *answer = p->extra;
    const int shy = *answer == 's' && p->datas == 1, waits = p->acted > p->writables;
    p->eat = !shy && !waits;
    if (p->eat) assert_int_equal(reactor_write(r, c, answer, MIB), 1);
    p->acted += p->eat == 1; /* so often was it told to wait */
}
static void hook_all_was_consumed(reactor *r, reactor_conn c, probe *p) {
    (void)r, (void)c;
    assert_int_equal(p->in, 4);
}

static void eof_behind_much(char shy) {
    reactor *r = begin();
    probe p = {.data = hook_answer_much, .eof = hook_all_was_consumed};
    char *answer = calloc(1, MIB);
    size_t bytes;
    answer[0] = shy;
    p.extra = answer;
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(send(fd, "abcd", 4, 0), 4);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    UNTIL(r, p.in == 1);
    turns(r, 10);
    assert_int_equal(p.in, 1);
    assert_int_equal(p.eofs, 0);
    assert_int_equal(peer_end(r, fd, &bytes), 0);
    assert_int_equal(bytes, 4 * MIB);
    assert_int_equal(p.eofs, 1);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, 0);
    close(fd);
    free(answer);
    end(r);
}
CASE(law14_eof_waits_while_the_handler_waits_for_low_water) { eof_behind_much('b'); }
CASE(law14_eof_waits_when_the_last_offer_is_answered_above_high_water) { eof_behind_much('s'); }

CASE(law14_eof_waits_when_the_last_offer_is_paused) {
    for (int consume = 0; consume < 2; consume++) {
        reactor *r = begin();
        probe p = {.data = hook_pause_at_the_second, .hold = !consume};
        int fd = attach_pair(r, &p, NULL);
        peer_say(r, fd, "abc");
        UNTIL(r, p.datas == 1);
        close(fd);
        UNTIL(r, p.datas == 2);
        turns(r, 20);
        assert_string_equal(p.log, "odd");
        p.hold = 0;
        assert_int_equal(reactor_resume(r, p.conn), 0);
        UNTIL(r, p.closes);
        assert_string_equal(p.log, consume ? "oddec" : "odddec");
        assert_string_equal(p.text, "abc");
        end(r);
    }
}

/* What the connection has to do next, a look by the new handler, is the next run's. */
static void hook_change_and_stop(reactor *r, reactor_conn c, probe *p) {
    if (p->datas > 1) return;
    p->eat = 0;
    assert_int_equal(reactor_set_handler(r, c, &drain_handler), 0);
    reactor_stop(r);
}

CASE(stop_comes_before_the_next_callback_of_the_same_connection) {
    reactor *r = begin();
    probe p = {.data = hook_change_and_stop};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    assert_int_equal(reactor_run(r), 0);
    assert_string_equal(p.log, "od");
    UNTIL(r, p.in == 3);
    assert_string_equal(p.log, "odd");
    close(fd);
    UNTIL(r, p.closes);
    end(r);
}

static void hook_echo_and_stop(reactor *r, reactor_conn c, probe *p) {
    hook_echo(r, c, p);
    reactor_stop(r);
}

static void count_and_stop(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd, (void)events;
    ++*(int *)user;
    reactor_stop(r);
}

/* All have input at all times, and a watcher is ready as well. */
CASE(stop_in_every_on_data_starves_nobody) {
    enum { N = 4 };
    reactor *r = begin();
    probe p[N];
    int fd[N], ready[2], called = 0;
    size_t said[N] = {0};
    for (int i = 0; i < N; i++) {
        p[i] = (probe){.data = hook_echo_and_stop};
        fd[i] = attach_tcp_pair(r, &p[i], NULL);
    }
    make_pair(ready);
    assert_int_equal(send(ready[1], "x", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(reactor_add(r, ready[0], REACTOR_READ, count_and_stop, &called), 0);
    for (int runs = 0; runs < 20 * (N + 1); runs++) {
        for (int i = 0; i < N; i++)
            if (p[i].in == said[i]) {
                assert_int_equal(send(fd[i], "x", 1, MSG_NOSIGNAL), 1);
                said[i]++;
            }
        loopback_settles();
        assert_int_equal(reactor_run(r), 0);
    }
    for (int i = 0; i < N; i++)
        if (p[i].in < 5) fail_msg("%d was called %d times", i, (int)p[i].in);
    if (called < 5) fail_msg("the watcher was called %d times", called);
    for (int i = 0; i < N; i++) {
        char all[20 * (N + 1) + 1] = {0};
        memset(all, 'x', said[i]);
        peer_hears(r, fd[i], all);
        close(fd[i]);
    }
    reactor_remove(r, ready[0]);
    close(ready[0]);
    close(ready[1]);
    end(r);
}

CASE(pause_in_on_open_holds_the_first_data) {
    reactor *r = begin();
    probe p = {.open = hook_pause};
    server s = serve(r, &p);
    int fd = dial(s.address);
    peer_say(r, fd, "abc");
    UNTIL(r, p.opens);
    turns(r, 20);
    assert_int_equal(p.datas, 0);
    assert_int_equal(reactor_resume(r, p.conn), 0);
    UNTIL(r, p.datas);
    assert_string_equal(p.text, "abc");
    close(fd);
    end(r);
}

CASE(pause_then_resume_in_one_callback_loses_nothing) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    for (int i = 0; i < 10; i++) {
        peer_say(r, fd, "abc");
        reactor_pause(r, p.conn);
        reactor_resume(r, p.conn);
        UNTIL(r, p.in == 3 * (size_t)(i + 1));
    }
    close(fd);
    end(r);
}

CASE(paused_still_writes) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {0};
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(reactor_pause(r, p.conn), 0);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 6, 0, &freed), 1);
    peer_takes_pattern(r, fd, 1 * MIB, 6, 0);
    UNTIL(r, p.writables);
    close(fd);
    end(r);
}

/* ---- end of input ---- */

CASE(law4_half_closed_peer_is_not_dead) {
    reactor *r = begin();
    probe p = {.stay = 1};
    receipt freed = {0};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    UNTIL(r, p.eofs);
    assert_int_equal(write_pattern(r, p.conn, 3 * MIB, 7, 0, &freed), 1);
    peer_takes_pattern(r, fd, 3 * MIB, 7, 0);
    assert_int_equal(reactor_write(r, p.conn, "more", 4), 0);
    peer_hears(r, fd, "more");
    assert_int_equal(p.eofs, 1); /* told once */
    assert_int_equal(p.closes, 0);
    reactor_close(r, p.conn);
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    close(fd);
    end(r);
}

CASE(law4_half_closed_peer_does_not_make_the_loop_spin) {
    reactor *r = begin();
    probe p = {.stay = 1};
    server s = serve(r, &p);
    int fd = visit(r, &s, &p);
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    UNTIL(r, p.eofs);
    assert_no_spin(r);
    close(fd);
    assert_no_spin(r); /* nor when it is closed, or over unix, which shows that */
    end(r);
    r = begin();
    fd = attach_pair(r, &p, NULL);
    close(fd);
    UNTIL(r, p.eofs == 2);
    assert_no_spin(r);
    end(r);
}

CASE(law5_paused_connection_whose_peer_is_gone_does_not_spin) {
    for (int kind = 0; kind < 3; kind++) {
        reactor *r = begin();
        probe p = {0};
        int fd = kind ? attach_tcp_pair(r, &p, NULL) : attach_pair(r, &p, NULL);
        assert_int_equal(reactor_pause(r, p.conn), 0);
        turns(r, 2);
        if (kind == 2)
            close_with_reset(fd);
        else
            close(fd);
        assert_no_spin(r);
        assert_int_equal(p.eofs, 0);
        /* A reset may have ended it already. */
        if (!p.closes) assert_int_equal(reactor_resume(r, p.conn), 0);
        UNTIL(r, p.closes);
        assert_int_equal(p.reason, kind == 2 ? -ECONNRESET : REACTOR_ORDERLY);
        assert_int_equal(p.eofs, kind != 2);
        end(r);
    }
}

CASE(law4_fin_does_not_wake_a_blocked_writer) {
    reactor *r = begin();
    probe p = {.stay = 1};
    receipt freed = {0};
    reactor_conn_options o = {.coupled = 1};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
    turns(r, 5);
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    assert_no_spin(r);
    assert_int_equal(p.closes, 0);
    peer_takes_pattern(r, fd, 1 * MIB, 1, 0);
    UNTIL(r, p.eofs);
    assert_int_equal(p.closes, 0);
    close(fd);
    end(r);
}

/* Out-of-band data is nobody's business, and what is around it arrives. */
CASE(law5_urgent_data_neither_arrives_nor_spins) {
    for (int late = 0; late < 2; late++) {
        reactor *r = begin();
        probe p = {0};
        int fd = attach_tcp_pair(r, &p, NULL);
        assert_int_equal(send(fd, "abc", 3, MSG_NOSIGNAL), 3);
        if (late) UNTIL(r, p.in == 3);
        assert_int_equal(send(fd, "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
        assert_no_spin(r);
        assert_int_equal(send(fd, "def", 3, MSG_NOSIGNAL), 3);
        UNTIL(r, p.in == 6);
        assert_string_equal(p.text, "abcdef");
        assert_no_spin(r);
        close(fd);
        UNTIL(r, p.closes);
        end(r);
    }
}

#if defined(__linux__) && defined(SO_TIMESTAMPING)
/* ---- the error queue ---- */

/* One end of a new pair over TCP, attached, that notes the time of what it sends in its error queue.
   Returns the other. Numbers of linux/net_tstamp.h, which not every C library comes with. */
static int attach_with_timestamps(reactor *r, probe *p) {
    const int software = 1 << 4, transmitted = 1 << 1, on = software | transmitted;
    const int narrow = 64 * KIB;
    int fd[2];
    make_tcp_pair(fd);
    setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &narrow, sizeof narrow);
    setsockopt(fd[1], SOL_SOCKET, SO_RCVBUF, &narrow, sizeof narrow);
    if (setsockopt(fd[0], SOL_SOCKET, SO_TIMESTAMPING, &on, sizeof on) < 0) {
        close(fd[0]);
        close(fd[1]);
        return -1;
    }
    attach_as(r, fd[0], p, NULL);
    UNTIL(r, p->opens);
    return fd[1];
}

static int has_notices(reactor_socket fd) {
    struct pollfd one = {fd, 0, 0};
    return poll(&one, 1, 0) == 1 && (one.revents & POLLERR);
}

static void take_notices(reactor_socket fd) {
    char control[512];
    struct msghdr m;
    do {
        memset(&m, 0, sizeof m);
        m.msg_control = control;
        m.msg_controllen = sizeof control;
    } while (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0);
}

/* A connection that has sent something and got a notice; -1 where a kernel gives none. */
static int begin_with_notices(reactor *r, probe *p) {
    int fd = attach_with_timestamps(r, p);
    if (fd < 0) return -1;
    assert_int_equal(reactor_write(r, p->conn, "sent", 4), 0);
    peer_hears(r, fd, "sent");
    if (has_notices(reactor_conn_socket(r, p->conn))) return fd;
    close(fd);
    UNTIL(r, p->closes);
    return -1;
}

/* The loop sleeps: about two turns for each ten milliseconds that pass, however many these are. */
static void rests(reactor *r) {
    const int64_t began = clock_ns(), before = (int64_t)counters(r).turns;
    while (clock_ns() - began < 100 * 1000000) assert_true(reactor_poll(r, 100) >= 0);
    const int64_t ms = (clock_ns() - began) / 1000000;
    assert_in_range((int64_t)counters(r).turns - before, 1, 20 + ms / 4);
}

CASE(law5_notices_in_the_error_queue_do_not_spin_and_stay_the_users) {
    reactor *r = begin();
    probe p = {0};
    int fd = begin_with_notices(r, &p);
    if (fd < 0) {
        end(r);
        skip();
    }
    rests(r);
    assert_true(has_notices(reactor_conn_socket(r, p.conn)));
    peer_say(r, fd, "heard");
    UNTIL(r, p.in == 5);
    rests(r);
    assert_int_equal(reactor_pause(r, p.conn), 0);
    rests(r);
    assert_int_equal(reactor_resume(r, p.conn), 0);
    take_notices(reactor_conn_socket(r, p.conn));
    pass(r, 50);
    const uint64_t events = counters(r).events;
    pass(r, 50);
    assert_int_equal(counters(r).events, events);
    peer_say(r, fd, "again");
    UNTIL(r, p.in == 10);
    assert_int_equal(p.closes, 0);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

/* Half-closed, kept waiting by a peer that does not read, and waiting for the peer's end. */
CASE(law5_notices_in_the_error_queue_do_not_spin_while_it_ends) {
    reactor *r = begin();
    probe p = {.stay = 1};
    receipt freed = {0};
    int fd = begin_with_notices(r, &p);
    if (fd < 0) {
        end(r);
        skip();
    }
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    UNTIL(r, p.eofs);
    rests(r);
    assert_int_equal(write_pattern(r, p.conn, 3 * MIB, 1, 0, &freed), 1);
    rests(r);
    assert_true(reactor_pending(r, p.conn) > 0);
    peer_takes_pattern(r, fd, 3 * MIB, 1, 0);
    assert_int_equal(reactor_close(r, p.conn), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    close(fd);
    p = (probe){0};
    fd = begin_with_notices(r, &p);
    assert_int_equal(reactor_close(r, p.conn), 0);
    rests(r);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

CASE(law5_notices_in_the_error_queue_do_not_hide_a_reset) {
    for (int paused = 0; paused < 2; paused++) {
        reactor *r = begin();
        probe p = {0};
        int fd = begin_with_notices(r, &p);
        if (fd < 0) {
            end(r);
            skip();
        }
        if (paused) assert_int_equal(reactor_pause(r, p.conn), 0);
        pass(r, 30);
        close_with_reset(fd);
        UNTIL(r, p.closes);
        assert_int_equal(p.reason, -ECONNRESET);
        end(r);
    }
}
#endif

/* ---- output and its order ---- */

/* Twelve ways to write, one stream of known bytes. */
static void write_every_way(reactor *r, reactor_conn c, unsigned seed, receipt *freed,
                            reactor_buffer *shared, receipt *sent, int file) {
    char *a = pattern_new(50000, seed, 0), *b = pattern_new(90000, seed, 50000);
    reactor_iovec v[4] = {{b, 10}, {NULL, 0}, {b + 10, 80000}, {b + 80010, 9990}};
    assert_true(reactor_write(r, c, a, 1) >= 0);
    assert_true(reactor_write(r, c, a + 1, 49999) >= 0);
    assert_true(reactor_writev(r, c, v, 4) >= 0);
    free(a);
    free(b); /* both are copied */
    assert_true(write_pattern(r, c, 200000, seed, 140000, freed) >= 0);
    assert_true(reactor_write_shared(r, c, shared) >= 0); /* 340000 .. 440000 */
    assert_true(reactor_sendfile(r, c, file, 1000, 300000, 0, note_done, sent) >= 0);
    char one = pattern_at(seed, 740000);
    assert_true(reactor_write(r, c, &one, 1) >= 0);
    assert_true(reactor_sendfile(r, c, file, 301001, -1, 0, note_done, sent) >= 0);
    assert_true(write_pattern(r, c, 1, seed, 1140001, freed) >= 0);
}
enum { EVERY_WAY = 1140002 };

static void order_over(int tcp, int small) {
    const unsigned seed = 21;
    reactor *r = begin();
    probe p = {0};
    receipt freed = {.of = &p}, wrapped = {.of = &p};
    int fd = tcp ? attach_tcp_pair(r, &p, NULL) : attach_pair(r, &p, NULL);
    int size = small, file = pattern_file(701001, seed, 439000);
    receipt sent = {.of = &p, .file = file};
    if (small)
        setsockopt(reactor_conn_socket(r, p.conn), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    reactor_buffer *b =
        reactor_buffer_wrap(pattern_new(100000, seed, 340000), 100000, free_and_note, &wrapped);
    assert_non_null(b);
    write_every_way(r, p.conn, seed, &freed, b, &sent, file);
    reactor_buffer_unref(b);
    assert_int_equal(reactor_pending(r, p.conn), EVERY_WAY);
    assert_int_equal(sent.calls, 0); /* law 1 */
    assert_int_equal(reactor_close(r, p.conn), 0);
    peer_takes_pattern(r, fd, EVERY_WAY, seed, 0);
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    assert_int_equal(freed.calls, 2);
    assert_int_equal(wrapped.calls, 1);
    assert_int_equal(sent.calls, 2);
    assert_int_equal(sent.result, 0);
    assert_int_equal(freed.closes + wrapped.closes + sent.closes, 0); /* law 15: before on_close */
    assert_false(sent.shut);
    close(file);
    close(fd);
    end(r);
}

CASE(output_leaves_in_the_order_of_the_calls_over_tcp) { order_over(1, 0); }
CASE(output_leaves_in_the_order_of_the_calls_over_unix) { order_over(0, 0); }
CASE(output_leaves_in_the_order_of_the_calls_through_a_narrow_socket) { order_over(0, 5000); }

/* Answers made of the input itself are sent from where it lies: in any order, mixed with others. */
static void hook_answer_in_pieces(reactor *r, reactor_conn c, probe *p) {
    static const reactor_iovec v[2] = {{"<", 1}, {">", 1}};
    char own[3] = "--";
    assert_int_equal(p->offered, 10);
    int how = p->bytes[0] - '0';
    if (how & 1) assert_int_equal(reactor_write(r, c, p->bytes, 4), 0);
    if (how & 2) assert_int_equal(reactor_write(r, c, own, 2), 0);
    own[0] = own[1] = '#'; /* it was copied */
    assert_int_equal(reactor_write(r, c, p->bytes + 4, 3), 0);
    if (how & 4) assert_int_equal(reactor_write_owned(r, c, "owned", 5, NULL, NULL), 0);
    assert_int_equal(reactor_write(r, c, p->bytes + 7, 3), 0);
    assert_int_equal(reactor_write(r, c, p->bytes, 10), 0);
    if (how & 1) assert_int_equal(reactor_writev(r, c, v, 2), 0);
    assert_int_equal(reactor_write(r, c, p->bytes + 1, 2), 0);
}

static void answer_in_pieces(int tcp) {
    reactor *r = begin();
    probe p = {.data = hook_answer_in_pieces};
    int fd = tcp ? attach_tcp_pair(r, &p, NULL) : attach_pair(r, &p, NULL);
    char in[11], out[64];
    for (int how = 0; how < 8; how++) {
        snprintf(in, sizeof in, "%cbcdefghij", '0' + how);
        snprintf(out, sizeof out, "%.*s%sefg%shij%s%sbc", how & 1 ? 4 : 0, in, how & 2 ? "--" : "",
                 how & 4 ? "owned" : "", in, how & 1 ? "<>" : "");
        peer_say(r, fd, in);
        peer_hears(r, fd, out);
    }
    close(fd);
    end(r);
}
CASE(answers_made_of_the_input_in_any_order_over_tcp) { answer_in_pieces(1); }
CASE(answers_made_of_the_input_in_any_order_over_unix) { answer_in_pieces(0); }

/* Of the input nothing is sent back, but what comes after it, and not by a handle of nobody's. */
static void hook_answer_with_nothing_first(reactor *r, reactor_conn c, probe *p) {
    const reactor_conn none = {0};
    p->eat = p->bytes[0] == '0' ? 0 : p->offered;
    assert_int_equal(reactor_write(r, c, p->bytes, 0), 0);
    assert_int_equal(reactor_write(r, none, p->bytes, 4), -EBADF);
    if (p->bytes[0] == '1') assert_int_equal(reactor_write(r, c, p->bytes, 2), 0);
}

CASE(an_answer_of_no_bytes_is_none) {
    reactor *r = begin();
    probe p = {.data = hook_answer_with_nothing_first};
    int fd = attach_tcp_pair(r, &p, NULL);
    peer_say(r, fd, "1abc");
    peer_hears(r, fd, "1a");
    peer_say(r, fd, "0abc");
    UNTIL(r, p.datas == 2);
    p.data = hook_echo;
    peer_say(r, fd, "def");
    peer_hears(r, fd, "0abcdef");
    close(fd);
    end(r);
}

static int batch_first; /* whose callback came first */
static void hook_echo_and_tell_the_other(reactor *r, reactor_conn c, probe *p) {
    const probe *other = p->extra;
    if (!batch_first) batch_first = p->bytes[0];
    hook_echo(r, c, p);
    assert_int_equal(reactor_write(r, other->conn, ">", 1), 0);
}

/* What another connection's callback has written to this one leaves before this one's own answer. */
CASE(output_of_an_earlier_callback_of_the_turn_leaves_first) {
    for (int tcp = 0; tcp < 2; tcp++) {
        reactor *r = begin();
        probe a = {.data = hook_echo_and_tell_the_other}, b = a;
        a.extra = &b;
        b.extra = &a;
        batch_first = 0;
        int fd_a = tcp ? attach_tcp_pair(r, &a, NULL) : attach_pair(r, &a, NULL);
        int fd_b = tcp ? attach_tcp_pair(r, &b, NULL) : attach_pair(r, &b, NULL);
        turns(r, 3);
        peer_say(r, fd_a, "a");
        peer_say(r, fd_b, "b");
        UNTIL(r, a.datas && b.datas);
        peer_hears(r, fd_a, batch_first == 'a' ? "a>" : ">a");
        peer_hears(r, fd_b, batch_first == 'b' ? "b>" : ">b");
        close(fd_a), close(fd_b);
        end(r);
    }
}

static void hook_echo_above_the_marks(reactor *r, reactor_conn c, probe *p) {
    int expected = p->offered > 4000 ? -EMSGSIZE : p->offered > 1000;
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), expected);
    assert_int_equal(reactor_pending(r, c), expected < 0 ? 0 : p->offered);
}

CASE(law14_marks_and_cap_hold_for_input_sent_back_too) {
    static const size_t lengths[] = {1000, 1001, 4000, 4001};
    reactor *r = begin();
    probe p = {.data = hook_echo_above_the_marks};
    reactor_conn_options o = {.high_water = 1000, .low_water = 100, .max_output = 4000};
    char data[5000] = {0};
    int fd = attach_tcp_pair(r, &p, &o), due = 0;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        assert_int_equal(send(fd, data, lengths[i], MSG_NOSIGNAL), (ssize_t)lengths[i]);
        due += lengths[i] <= 4000; /* all of those are above low water */
        UNTIL(r, p.datas == (int)i + 1 && p.writables == due);
        if (lengths[i] <= 4000) peer_take(r, fd, data, lengths[i]);
    }
    turns(r, 5);
    assert_int_equal(p.writables, due);
    close(fd);
    end(r);
}

/* ---- an answer, and then something else in the same callback ---- */

/* The same is answered with the very input, from a copy of it, and on a connection that may not take
   the short way; what each of these leads to is reported in words, and compared. */
enum answer_way { THE_LONG_WAY, FROM_A_COPY, THE_INPUT, ANSWER_WAYS };
enum answer_fate { GOES_ON, IS_SHUT, ENDS, TAKES_THE_LOOP };

typedef struct asked {
    const char *call;
    int (*ask)(reactor *r, reactor_conn c, probe *p);
    const char *heard; /* by the peer, between the answer and what is written after it */
    enum answer_fate fate;
} asked;

typedef struct plan {
    const asked *then;
    enum answer_way way;
    int more; /* a last write */
    int took; /* it was accepted */
    receipt sent;
} plan;

static char told[1024], bulk[70001];
static void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void report(const char *format, ...) {
    size_t n = strlen(told);
    va_list list;
    va_start(list, format);
    vsnprintf(told + n, sizeof told - n, format, list);
    va_end(list);
}

#define ASK(name) static int name(reactor *r, reactor_conn c, probe *p)
#define ASK_PLAIN(name, call)                                                                      \
    ASK(name) {                                                                                    \
        (void)r, (void)c, (void)p;                                                                 \
        return call;                                                                               \
    }

static size_t other_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)data, (void)state;
    report("other %d;", reactor_write(r, c, "else", 4));
    return len;
}
static const reactor_handler other_handler = {.on_data = other_data};

ASK_PLAIN(ask_nothing, 0)
ASK_PLAIN(ask_write, reactor_write(r, c, "w", 1))
ASK_PLAIN(ask_write_input, reactor_write(r, c, p->bytes, p->offered))
ASK_PLAIN(ask_write_end_of_input, reactor_write(r, c, p->bytes + 2, 2))
ASK_PLAIN(ask_write_nothing, reactor_write(r, c, NULL, 0))
ASK_PLAIN(ask_write_nowhere, reactor_write(r, c, NULL, 1))
ASK_PLAIN(ask_write_too_much, reactor_write(r, c, "w", SIZE_MAX / 2))
ASK_PLAIN(ask_write_bulk, reactor_write(r, c, bulk, sizeof bulk - 1))
ASK_PLAIN(ask_writev, reactor_writev(r, c, (reactor_iovec[]){{"v", 1}, {"ec", 2}}, 2))
ASK_PLAIN(ask_write_owned, reactor_write_owned(r, c, "own", 3, NULL, NULL))
ASK(ask_write_shared) {
    reactor_buffer *b = reactor_buffer_new("shared", 6);
    int e = reactor_write_shared(r, c, b);
    (void)p;
    reactor_buffer_unref(b);
    return e;
}
ASK(ask_sendfile) {
    receipt *sent = &((plan *)p->extra)->sent;
    return reactor_sendfile(r, c, sent->file, 0, -1, 0, note_done, sent);
}
ASK_PLAIN(ask_pause, reactor_pause(r, c))
ASK_PLAIN(ask_resume, reactor_resume(r, c))
ASK_PLAIN(ask_pause_and_resume, reactor_pause(r, c) + reactor_resume(r, c))
ASK_PLAIN(ask_set_timeout, reactor_set_timeout(r, c, REACTOR_TIMEOUT_IDLE, 100000))
ASK_PLAIN(ask_set_deadline, reactor_set_timeout(r, c, REACTOR_TIMEOUT_DEADLINE, 1))
ASK_PLAIN(ask_set_handler, reactor_set_handler(r, c, &other_handler))
ASK_PLAIN(ask_shutdown, reactor_shutdown(r, c))
ASK_PLAIN(ask_close, reactor_close(r, c))
ASK_PLAIN(ask_close_of_nobody, reactor_close(r, (reactor_conn){0}))
ASK_PLAIN(ask_abort, reactor_abort(r, c))
ASK(ask_detach) {
    reactor_socket fd;
    size_t len = 0;
    (void)p;
    int e = reactor_detach(r, c, &fd, NULL, &len);
    if (e == 0) close((int)fd);
    return e;
}
ASK(ask_to_look) {
    char a[REACTOR_ADDRESS_MAX];
    assert_non_null(reactor_state(r, c));
    assert_ptr_equal(reactor_user(r, c), p);
    assert_true((int)reactor_conn_socket(r, c) >= 0);
    return reactor_local_address(r, c, a, sizeof a) + reactor_peer_address(r, c, a, sizeof a);
}
ASK_PLAIN(ask_drain, reactor_drain(r, -1))
ASK_PLAIN(ask_stop, (reactor_stop(r), 0))
ASK_PLAIN(ask_destroy, (reactor_destroy(r), 0))

/* Every public call that takes a connection, and those that concern all of them. */
static const asked all_asked[] = {
    {"nothing", ask_nothing, "", GOES_ON},
    {"write", ask_write, "w", GOES_ON},
    {"write of the input", ask_write_input, "ask!", GOES_ON},
    {"write of the input's end", ask_write_end_of_input, "k!", GOES_ON},
    {"write of nothing", ask_write_nothing, "", GOES_ON},
    {"write from nowhere", ask_write_nowhere, "", GOES_ON},
    {"write above the cap", ask_write_too_much, "", GOES_ON},
    {"write above the mark", ask_write_bulk, bulk, GOES_ON},
    {"writev", ask_writev, "vec", GOES_ON},
    {"write_owned", ask_write_owned, "own", GOES_ON},
    {"write_shared", ask_write_shared, "shared", GOES_ON},
    {"sendfile", ask_sendfile, "file", GOES_ON},
    {"pause", ask_pause, "", GOES_ON},
    {"resume", ask_resume, "", GOES_ON},
    {"pause, resume", ask_pause_and_resume, "", GOES_ON},
    {"set_timeout", ask_set_timeout, "", GOES_ON},
    {"set_timeout that runs out", ask_set_deadline, "", ENDS},
    {"set_handler", ask_set_handler, "", GOES_ON},
    {"shutdown", ask_shutdown, "", IS_SHUT},
    {"close", ask_close, "", ENDS},
    {"close of nobody", ask_close_of_nobody, "", GOES_ON},
    {"abort", ask_abort, NULL, ENDS},
    {"detach", ask_detach, "", ENDS},
    {"looking", ask_to_look, "", GOES_ON},
    {"drain", ask_drain, "", ENDS},
    {"stop", ask_stop, "", GOES_ON},
    {"destroy", ask_destroy, "", TAKES_THE_LOOP},
};

static void hook_answer_then(reactor *r, reactor_conn c, probe *p) {
    plan *now = p->extra;
    char copy[16];
    const char *from = now->way == FROM_A_COPY ? copy : p->bytes;
    assert_int_equal(p->offered, 4);
    memcpy(copy, p->bytes, p->offered);
    report("answer %d;", reactor_write(r, c, from, p->offered));
    if (p->datas > 1) return;
    memset(copy, '#', sizeof copy);
    report(" pending %d;", (int)reactor_pending(r, c));
    report(" asked %d;", now->then->ask(r, c, p));
    report(" pending %d;", (int)reactor_pending(r, c));
    if (!now->more) return;
    int e = reactor_write(r, c, "!", 1);
    now->took = e >= 0;
    report(" write %d;", e);
}

/* What comes within a while, up to the end or len bytes. */
static void hear(int fd, const char *expected, size_t len, int to_the_end) {
    static char got[sizeof bulk + 16];
    size_t n = 0;
    ssize_t more = 1;
    while (more > 0 && (n < len || to_the_end)) {
        struct pollfd wait = {fd, POLLIN, 0};
        poll(&wait, 1, 5000);
        more = recv(fd, got + n, sizeof got - n, 0);
        if (more > 0) n += (size_t)more;
    }
    assert_int_equal(n, len);
    assert_memory_equal(got, expected, len);
    if (to_the_end) report(" end %d;", more < 0 ? errno : 0);
}

static void hear_the_next(reactor *r, const probe *p, int fd) {
    char got[4];
    peer_say(r, fd, "next");
    turns(r, 5);
    report(" datas %d;", p->datas);
    report(" resume %d;", reactor_resume(r, p->conn));
    peer_take(r, fd, got, sizeof got);
    report(" then %.4s;", got);
    assert_int_equal(reactor_write(r, p->conn, "outside", 7), 0); /* of a callback */
    peer_hears(r, fd, "outside");
}

static void carry_out(plan *now) {
    static char due[sizeof bulk + 16];
    probe p = {.data = hook_answer_then, .extra = now};
    reactor_conn_options o = {.high_water = now->way == THE_LONG_WAY ? 8 * KIB : 0};
    enum answer_fate fate = now->then->fate;
    reactor *r = begin();
    int fd = attach_tcp_pair(r, &p, &o);
    told[0] = 0;
    now->sent.file = pattern_file(4, 1, 0);
    assert_int_equal(pwrite(now->sent.file, "file", 4, 0), 4);
    turns(r, 3);
    counted_fd = (int)reactor_conn_socket(r, p.conn);
    counted = 0;
    assert_int_equal(send(fd, "ask!", 4, MSG_NOSIGNAL), 4);
    for (int i = 0; i < 1000 && !p.datas; i++) reactor_poll(r, 5);
    assert_int_equal(p.datas, 1);
    if (strncmp(now->then->call, "sendfile", 8) && now->then->heard != bulk) /* law 14 */
        report(" system calls %d;", counted);
    counted_fd = -1;
    if (fate == ENDS) {
        shutdown(fd, SHUT_WR); /* or a close would wait for it */
        UNTIL(r, p.closes);
    }
    if (fate == IS_SHUT) turns(r, 5);
    snprintf(due, sizeof due, "ask!%s%s", now->then->heard ? now->then->heard : "",
             now->took ? "!" : "");
    if (now->then->heard == bulk) turns(r, 20);
    hear(fd, due, now->then->heard ? strlen(due) : 0, fate != GOES_ON);
    if (fate == GOES_ON) {
        UNTIL(r, counters(r).queued == 0);
        hear_the_next(r, &p, fd);
        report(" unread %d;", (int)counters(r).unread);
    }
    report(" log %s; reason %d; sent %d %d", p.log, p.reason, now->sent.calls, now->sent.result);
    close(now->sent.file);
    close(fd);
    end(fate == TAKES_THE_LOOP ? NULL : r);
    assert_int_equal(p.closes + (now->then->ask == ask_set_handler), 1);
}

/* Whichever way an answer takes, and whatever its callback goes on to do: the same comes of it. */
CASE(law14_an_answer_and_then_something_else) {
    memset(bulk, 'x', sizeof bulk - 1);
    for (size_t i = 0; i < 2 * COUNT(all_asked); i++) {
        char first[sizeof told] = "";
        for (enum answer_way way = THE_LONG_WAY; way < ANSWER_WAYS; way++) {
            plan now = {.then = &all_asked[i / 2], .way = way, .more = i % 2};
            carry_out(&now);
            if (way == THE_LONG_WAY) strcpy(first, told);
            if (strcmp(told, first) != 0)
                fail_msg("%s%s, way %d:\n%s\nand not\n%s", now.then->call, i % 2 ? ", write" : "",
                         (int)way, told, first);
        }
        const char *calls = strstr(first, "system calls ");
#ifndef _WIN32
        if (calls) assert_int_equal(calls[13] - '0', all_asked[i / 2].heard ? 1 : 0);
#else
        (void)calls;
#endif
    }
}

/* ---- short answers, and a peer that does not read them ---- */

enum { ANSWER = 1000 };
static void hook_answer_more_than_was_asked(reactor *r, reactor_conn c, probe *p) {
    uint64_t *at = p->extra;
    char answer[ANSWER];
    pattern_fill(answer, sizeof answer, 33, *at);
    *at += sizeof answer;
    assert_true(reactor_write(r, c, answer, sizeof answer) >= 0);
}

/* Until the kernel has enough: nothing is lost or doubled. Not over TCP, where a system whose room for
   input is full also drops what would acknowledge the questions. */
CASE(short_answers_to_a_peer_that_reads_late) {
    reactor *r = begin();
    uint64_t at = 0;
    probe p = {.data = hook_answer_more_than_was_asked, .extra = &at};
    int fd = attach_pair(r, &p, NULL);
    turns(r, 3);
    for (int rounds = 0; rounds < 3; rounds++) {
        uint64_t before = at;
        while (counters(r).queued < 3 * ANSWER) {
            size_t asked_for = p.in + 1;
            peer_say(r, fd, "?");
            UNTIL(r, p.in == asked_for);
        }
        peer_takes_pattern(r, fd, (size_t)(at - before), 33, before);
        UNTIL(r, counters(r).queued == 0);
        assert_int_equal(counters(r).bytes_out, at);
    }
    close(fd);
    end(r);
}

static void hook_answer_from_a_copy(reactor *r, reactor_conn c, probe *p) {
    char copy[16];
    assert_true(p->offered <= sizeof copy);
    memcpy(copy, p->bytes, p->offered);
    assert_int_equal(reactor_write(r, c, copy, p->offered), 0);
    memset(copy, '#', sizeof copy);
}

/* The rest goes to the queue, and leaves before what is answered next. */
CASE(law14_a_short_answer_of_which_the_kernel_takes_a_part) {
    static const int taken[] = {1, 5, 9, -EAGAIN, -EINTR};
    for (size_t i = 0; i < 2 * COUNT(taken); i++) {
        int given = taken[i / 2];
        size_t left = given == -EINTR ? 0 : given < 0 ? 10 : 10 - (size_t)given;
        reactor *r = begin();
        probe p = {.data = i % 2 ? hook_answer_from_a_copy : hook_echo};
        int fd = attach_tcp_pair(r, &p, NULL);
        turns(r, 3);
        count_sends_of(r, p.conn);
        next_send = given;
        assert_int_equal(send(fd, "0123456789", 10, MSG_NOSIGNAL), 10);
        for (int n = 0; n < 1000 && !p.datas; n++) reactor_poll(r, 5);
        assert_int_equal(next_send, 0);
        assert_int_equal(counters(r).queued, left);
        peer_say(r, fd, "next");
        peer_hears(r, fd, "0123456789next");
        counted_fd = -1;
        turns(r, 3);
        assert_int_equal(counters(r).queued, 0);
        assert_int_equal(counters(r).bytes_out, 14);
        close(fd);
        end(r);
    }
}

/* Whether it is offered only because it has consumed a part just now. */
static int is_offered_again(probe *p) {
    int again = p->acted;
    p->acted = !again && p->eat && p->eat < p->offered;
    if (again) p->eat = 0;
    return again;
}

static void hook_echo_once(reactor *r, reactor_conn c, probe *p) {
    if (!is_offered_again(p)) hook_echo(r, c, p);
}

/* The rest of the input is kept, the rest of the answer queued. */
CASE(law14_an_answer_that_is_the_beginning_of_the_input) {
    static const int taken[] = {0, 1, 3, -EAGAIN, -EINTR};
    for (size_t i = 0; i < COUNT(taken); i++) {
        size_t left = taken[i] > 0 ? 4 - (size_t)taken[i] : taken[i] == -EAGAIN ? 4 : 0;
        reactor *r = begin();
        probe p = {.data = hook_echo_once, .most = 4};
        int fd = attach_tcp_pair(r, &p, NULL);
        turns(r, 3);
        count_sends_of(r, p.conn);
        next_send = taken[i];
        assert_int_equal(send(fd, "0123456789", 10, MSG_NOSIGNAL), 10);
        for (int n = 0; n < 1000 && !p.datas; n++) reactor_poll(r, 5);
        assert_int_equal(next_send, 0);
        assert_int_equal(counters(r).queued, left);
        assert_int_equal(counters(r).unread, 6);
        assert_int_equal(send(fd, "ab", 2, MSG_NOSIGNAL), 2);
        peer_hears(r, fd, "01234567");
        counted_fd = -1;
        turns(r, 3);
        assert_string_equal(p.text, "01234567");
        assert_int_equal(p.offered, 4);
        assert_int_equal(p.datas, 4);
        assert_int_equal(counters(r).unread, 4);
        assert_int_equal(counters(r).queued, 0);
        assert_int_equal(counters(r).bytes_out, 8);
        close(fd);
        end(r);
    }
}

CASE(law14_an_answer_of_nothing_consumes_nothing) {
    reactor *r = begin();
    probe p = {.data = hook_echo, .hold = 1};
    int fd = attach_tcp_pair(r, &p, NULL);
    turns(r, 3);
    peer_say(r, fd, "012");
    UNTIL(r, p.datas == 1);
    turns(r, 3);
    assert_int_equal(counters(r).unread, 3);
    assert_int_equal(counters(r).queued, 0);
    p.hold = 0;
    peer_say(r, fd, "345");
    peer_hears(r, fd, "012345");
    assert_int_equal(counters(r).bytes_out, 6);
    close(fd);
    end(r);
}

static void hook_answer_wrongly_first(reactor *r, reactor_conn c, probe *p) {
    assert_int_equal(reactor_write(r, c, NULL, 1), -EINVAL);
    hook_answer_from_a_copy(r, c, p);
}

static void hook_answer_nothing_first(reactor *r, reactor_conn c, probe *p) {
    assert_int_equal(reactor_write(r, c, p->datas % 2 ? NULL : "", 0), 0);
    assert_int_equal(reactor_pending(r, c), 0);
    hook_answer_from_a_copy(r, c, p);
}

CASE(an_answer_after_one_of_nothing_or_from_nowhere) {
    for (int nothing = 0; nothing < 2; nothing++) {
        reactor *r = begin();
        probe p = {.data = nothing ? hook_answer_nothing_first : hook_answer_wrongly_first};
        int fd = attach_tcp_pair(r, &p, NULL);
        turns(r, 3);
        peer_say(r, fd, "one");
        peer_hears(r, fd, "one");
        peer_say(r, fd, "two");
        peer_hears(r, fd, "two");
        close(fd);
        end(r);
    }
}

static void hook_echo_and_eat(reactor *r, reactor_conn c, probe *p) {
    p->eat = *(size_t *)p->extra;
    if (!is_offered_again(p)) assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
}

static void hook_answer_and_eat(reactor *r, reactor_conn c, probe *p) {
    p->eat = *(size_t *)p->extra;
    if (!is_offered_again(p)) hook_answer_from_a_copy(r, c, p);
}

/* What is answered and what is consumed are two things. */
CASE(echo_of_input_that_is_consumed_in_part_or_more_than_whole) {
    static const size_t eaten[] = {0, 1, 2, 3, 4, SIZE_MAX};
    for (size_t i = 0; i < 2 * COUNT(eaten); i++) {
        reactor *r = begin();
        size_t eat = eaten[i / 2], left = eat < 3 ? 3 - eat : 0;
        probe p = {.data = i % 2 ? hook_answer_and_eat : hook_echo_and_eat, .extra = &eat};
        int fd = attach_tcp_pair(r, &p, NULL);
        turns(r, 3);
        peer_say(r, fd, "abc");
        peer_hears(r, fd, "abc");
        turns(r, 3);
        assert_int_equal(counters(r).unread, left);
        assert_int_equal(counters(r).bytes_out, 3);
        peer_say(r, fd, "d");
        peer_hears(r, fd, &"abcd"[3 - left]);
        close(fd);
        end(r);
    }
}

CASE(writev_of_more_pieces_than_the_system_takes) {
    enum { N = 5000 };
    static reactor_iovec v[N];
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    char *data = pattern_new(3 * N, 8, 0);
    for (size_t i = 0; i < N; i++) v[i] = (reactor_iovec){data + 3 * i, 3};
    assert_int_equal(reactor_writev(r, p.conn, v, N), 0);
    free(data);
    peer_takes_pattern(r, fd, 3 * N, 8, 0);
    close(fd);
    end(r);
}

CASE(writes_of_nothing_are_accepted_and_send_nothing) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt freed = {.of = &p};
    reactor_iovec v = {NULL, 0};
    reactor_buffer *b = reactor_buffer_new(NULL, 0);
    assert_int_equal(reactor_write(r, p.conn, NULL, 0), 0);
    assert_int_equal(reactor_writev(r, p.conn, NULL, 0), 0);
    assert_int_equal(reactor_writev(r, p.conn, &v, 1), 0);
    assert_int_equal(reactor_write_owned(r, p.conn, "", 0, note_free, &freed), 0);
    assert_non_null(b);
    assert_int_equal(reactor_write_shared(r, p.conn, b), 0);
    reactor_buffer_unref(b);
    UNTIL(r, freed.calls == 1);
    assert_int_equal(reactor_pending(r, p.conn), 0);
    assert_int_equal(reactor_write(r, p.conn, "end", 3), 0);
    peer_hears(r, fd, "end");
    close(fd);
    end(r);
}

CASE(writes_of_null_are_EINVAL) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL), file = pattern_file(10, 1, 0);
    receipt freed = {0}, sent = {0};
    reactor_iovec v[2] = {{"x", 1}, {NULL, 1}};
    assert_int_equal(reactor_write(r, p.conn, NULL, 1), -EINVAL);
    assert_int_equal(reactor_writev(r, p.conn, NULL, 1), -EINVAL);
    assert_int_equal(reactor_writev(r, p.conn, v, -1), -EINVAL);
    assert_int_equal(reactor_writev(r, p.conn, v, 2), -EINVAL);
    assert_int_equal(reactor_write_owned(r, p.conn, NULL, 1, note_free, &freed), -EINVAL);
    assert_int_equal(freed.calls, 1);
    assert_int_equal(reactor_write_shared(r, p.conn, NULL), -EINVAL);
    assert_int_equal(reactor_sendfile(r, p.conn, file, -1, 1, 0, note_done, &sent), -EINVAL);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, -2, 0, note_done, &sent), -EINVAL);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, 1, 2, note_done, &sent), -EINVAL);
    assert_int_equal(reactor_write(NULL, p.conn, "x", 1), -EINVAL);
    assert_int_equal(reactor_writev(NULL, p.conn, v, 1), -EINVAL);
    assert_int_equal(reactor_write_owned(NULL, p.conn, "x", 1, note_free, &freed), -EINVAL);
    assert_int_equal(freed.calls, 2);
    assert_int_equal(reactor_sendfile(NULL, p.conn, file, 0, 1, REACTOR_CLOSE_FILE, NULL, NULL),
                     -EINVAL);
    assert_true(fcntl(file, F_GETFD) >= 0);
    turns(r, 5);
    assert_int_equal(sent.calls, 0);
    assert_int_equal(peer_discard(fd), 0);
    close(file);
    close(fd);
    end(r);
}

/* ---- one system call for what one callback writes ---- */

static void hook_write_five(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    count_sends_of(r, c);
    for (int i = 0; i < 3; i++) assert_int_equal(reactor_write(r, c, "ab", 2), 0);
    reactor_iovec v[2] = {{"c", 1}, {"d", 1}};
    assert_int_equal(reactor_writev(r, c, v, 2), 0);
    assert_int_equal(reactor_write_owned(r, c, "ef", 2, NULL, NULL), 0);
    assert_int_equal(counted, 0);
}

CASE(law14_writes_of_one_callback_leave_in_one_system_call) {
    reactor *r = begin();
    probe p = {.data = hook_write_five};
    int fd = attach_pair(r, &p, NULL);
    for (int i = 0; i < 3; i++) {
        peer_say(r, fd, "x");
        peer_hears(r, fd, "abababcdef");
        assert_int_equal(counted, 1);
    }
    close(fd);
    end(r);
}

static void hook_write_to_other(reactor *r, reactor_conn c, probe *p) {
    const probe *other = p->extra;
    (void)c;
    assert_int_equal(reactor_write(r, other->conn, "one ", 4), 0);
    assert_int_equal(reactor_write(r, other->conn, "two ", 4), 0);
}

/* Three connections write to a fourth in one turn: still one call, at the end of the turn. */
CASE(law14_writes_to_another_connection_leave_once_a_turn) {
    reactor *r = begin();
    probe other = {0}, p[3] = {{0}};
    int to = attach_pair(r, &other, NULL), fd[3];
    for (int i = 0; i < 3; i++) {
        p[i].data = hook_write_to_other;
        p[i].extra = &other;
        fd[i] = attach_pair(r, &p[i], NULL);
    }
    count_sends_of(r, other.conn);
    for (int i = 0; i < 3; i++) peer_say(r, fd[i], "x");
    uint64_t before = counters(r).turns;
    UNTIL(r, p[0].datas + p[1].datas + p[2].datas == 3);
    int taken = (int)(counters(r).turns - before);
    peer_hears(r, to, "one two one two one two ");
    assert_in_range(counted, 1, taken);
    for (int i = 0; i < 3; i++) close(fd[i]);
    close(to);
    end(r);
}

CASE(law14_writes_from_outside_callbacks_leave_in_one_system_call) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    count_sends_of(r, p.conn);
    for (int i = 0; i < 5; i++) assert_int_equal(reactor_write(r, p.conn, "x", 1), 0);
    peer_hears(r, fd, "xxxxx");
    assert_int_equal(counted, 1);
    close(fd);
    end(r);
}

/* ---- memory that is handed over ---- */

CASE(free_fn_runs_once_when_it_is_sent) {
    reactor *r = begin();
    probe p = {0};
    receipt freed = {.of = &p};
    static char data[] = "owned";
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(reactor_write_owned(r, p.conn, data, 5, note_free, &freed), 0);
    peer_hears(r, fd, "owned");
    UNTIL(r, freed.calls);
    assert_ptr_equal(freed.data, data);
    assert_int_equal(freed.len, 5);
    close(fd);
    end(r);
    assert_int_equal(freed.calls, 1);
}

CASE(free_fn_runs_once_inside_the_call_that_refuses) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.max_output = 100, .high_water = 50};
    int fd = attach_pair(r, &p, &o);
    receipt f[6] = {{0}};
    reactor_conn none = {0};
    assert_int_equal(write_pattern(r, p.conn, 101, 1, 0, &f[0]), -EMSGSIZE);
    assert_int_equal(f[0].calls, 1);
    assert_int_equal(write_pattern(r, p.conn, 100, 1, 0, &f[4]), 1);
    assert_int_equal(write_pattern(r, p.conn, 1, 1, 0, &f[5]), -ENOBUFS);
    assert_int_equal(f[4].calls, 0);
    assert_int_equal(f[5].calls, 1);
    assert_int_equal(write_pattern(r, none, 5, 1, 0, &f[1]), -EBADF);
    assert_int_equal(f[1].calls, 1);
    assert_int_equal(reactor_shutdown(r, p.conn), 0);
    assert_int_equal(write_pattern(r, p.conn, 5, 1, 0, &f[2]), -EPIPE);
    assert_int_equal(f[2].calls, 1);
    assert_int_equal(reactor_close(r, p.conn), 0);
    assert_int_equal(write_pattern(r, p.conn, 5, 1, 0, &f[3]), -EBADF);
    assert_int_equal(f[3].calls, 1);
    close(fd);
    end(r);
    for (int i = 0; i < 4; i++) assert_int_equal(f[i].calls, 1);
}

/* How a connection with a full queue may end: everything in it is given up, once. */
static void give_up(probe_hook *how, int destroyed) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_tcp_pair(r, &p, NULL), file = pattern_file(30 * MIB, 1, 0);
    receipt freed = {.of = &p}, wrapped = {.of = &p}, sent = {.of = &p, .file = file};
    reactor_buffer *b = reactor_buffer_wrap(pattern_new(1000, 1, 0), 1000, free_and_note, &wrapped);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent),
                     0);
    assert_true(write_pattern(r, p.conn, 500000, 1, 0, &freed) >= 0);
    assert_true(reactor_write_shared(r, p.conn, b) >= 0);
    reactor_buffer_unref(b);
    turns(r, 5);
    assert_int_equal(freed.calls + wrapped.calls + sent.calls, 0);
    if (how)
        how(r, p.conn, &p);
    else
        close_with_reset(fd);
    if (!destroyed) UNTIL(r, p.closes);
    if (how) close(fd);
    end(r);
    assert_int_equal(p.closes, 1);
    assert_int_equal(freed.calls, 1);
    assert_int_equal(wrapped.calls, 1);
    assert_int_equal(sent.calls, 1);
    assert_true(sent.result < 0);
    assert_true(sent.shut);
    assert_int_equal(freed.closes + wrapped.closes + sent.closes, 0);
}

static void hook_abort(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_abort(r, c), 0);
}
static void hook_nothing(reactor *r, reactor_conn c, probe *p) { (void)r, (void)c, (void)p; }

CASE(queue_is_given_up_once_by_abort) { give_up(hook_abort, 0); }
CASE(queue_is_given_up_once_by_a_reset) { give_up(NULL, 0); }
CASE(queue_is_given_up_once_by_destroy) { give_up(hook_nothing, 1); }

CASE(shared_buffer_goes_to_many_and_is_freed_after_the_last) {
    enum { N = 5 };
    reactor *r = begin();
    probe p[N] = {{0}};
    receipt freed = {0};
    int fd[N];
    reactor_buffer *b =
        reactor_buffer_wrap(pattern_new(300000, 9, 0), 300000, free_and_note, &freed);
    assert_non_null(b);
    for (int i = 0; i < N; i++) {
        fd[i] = attach_pair(r, &p[i], NULL);
        assert_true(reactor_write_shared(r, p[i].conn, b) >= 0);
        assert_true(reactor_write_shared(r, p[i].conn, b) >= 0); /* twice in one queue too */
    }
    reactor_buffer_unref(b);
    for (int i = 0; i < N; i++) {
        assert_int_equal(freed.calls, 0);
        peer_takes_pattern(r, fd[i], 300000, 9, 0);
        peer_takes_pattern(r, fd[i], 300000, 9, 0);
        close(fd[i]);
    }
    UNTIL(r, freed.calls);
    end(r);
    assert_int_equal(freed.calls, 1);
}

CASE(shared_buffer_that_is_refused_gets_no_reference) {
    reactor *r = begin();
    receipt freed = {0};
    reactor_conn none = {0};
    static char data[] = "x";
    reactor_buffer *b = reactor_buffer_wrap(data, 1, note_free, &freed);
    assert_int_equal(reactor_write_shared(r, none, b), -EBADF);
    assert_ptr_equal(reactor_buffer_ref(b), b);
    reactor_buffer_unref(b);
    assert_int_equal(freed.calls, 0);
    reactor_buffer_unref(b);
    assert_int_equal(freed.calls, 1);
    assert_ptr_equal(freed.data, data);
    reactor_buffer_unref(NULL);
    end(r);
}

CASE(shared_buffer_new_copies) {
    reactor *r = begin();
    probe p = {0};
    char text[] = "copied";
    int fd = attach_pair(r, &p, NULL);
    reactor_buffer *b = reactor_buffer_new(text, 6);
    memset(text, '#', 6);
    assert_int_equal(reactor_write_shared(r, p.conn, b), 0);
    reactor_buffer_unref(b);
    peer_hears(r, fd, "copied");
    close(fd);
    end(r);
}

/* ---- files ---- */

CASE(sendfile_with_CLOSE_FILE_closes_before_done) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.of = &p, .file = pattern_file(1 * MIB, 10, 0)};
    assert_int_equal(
        reactor_sendfile(r, p.conn, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent), 0);
    peer_takes_pattern(r, fd, 1 * MIB, 10, 0);
    UNTIL(r, sent.calls);
    assert_true(sent.shut);
    assert_int_equal(sent.result, 0);
    close(fd);
    end(r);
    assert_int_equal(sent.calls, 1);
}

CASE(sendfile_without_done_and_many_of_one_file) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL), file = pattern_file(10000, 10, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(reactor_sendfile(r, p.conn, file, 100 * i, 100, 0, NULL, NULL), i >= 64);
    peer_takes_pattern(r, fd, 10000, 10, 0);
    if (FILES_KEEP_THEIR_PLACE) assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
    close(file);
    close(fd);
    end(r);
}

CASE(sendfile_does_not_count_for_the_marks) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.high_water = 1000, .low_water = 100, .max_output = 2000};
    int fd = attach_pair(r, &p, &o), file = pattern_file(1 * MIB, 10, 0);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, -1, REACTOR_CLOSE_FILE, NULL, NULL), 0);
    assert_int_equal(reactor_write(r, p.conn, "end", 3), 0);
    turns(r, 5);
    assert_true(reactor_pending(r, p.conn) > 100000);
    assert_true(counters(r).queued <= 2000);
    peer_takes_pattern(r, fd, 1 * MIB, 10, 0);
    peer_hears(r, fd, "end");
    turns(r, 5);
    assert_int_equal(p.writables, 0);
    close(fd);
    end(r);
}

CASE(sendfile_shorter_than_promised_is_EIO) {
    reactor *r = begin();
    probe p = {0};
    size_t bytes;
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.of = &p, .file = pattern_file(1000, 10, 0)};
    assert_int_equal(
        reactor_sendfile(r, p.conn, sent.file, 0, 5000, REACTOR_CLOSE_FILE, note_done, &sent), 0);
    assert_int_equal(reactor_write(r, p.conn, "never", 5), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -EIO);
    assert_int_equal(sent.calls, 1);
    assert_int_equal(sent.result, -EIO);
    assert_true(sent.shut);
    peer_end(r, fd, &bytes);
    assert_true(bytes <= 1000); /* nothing takes the missing bytes' place */
    close(fd);
    end(r);
}

CASE(sendfile_cut_short_while_it_is_sent_is_EIO) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.of = &p, .file = pattern_file(4 * MIB, 10, 0)};
    assert_int_equal(reactor_sendfile(r, p.conn, sent.file, 0, -1, 0, note_done, &sent), 0);
    turns(r, 3);
    assert_return_code(ftruncate(sent.file, 100), errno);
    while (!p.closes) {
        peer_discard(fd);
        turn(r);
    }
    assert_int_equal(p.reason, -EIO);
    assert_int_equal(sent.result, -EIO);
    assert_int_equal(sent.calls, 1);
    close(sent.file);
    close(fd);
    end(r);
}

/* An empty file is a file: between two writes, alone, and named by its length of 0. */
CASE(sendfile_of_no_bytes_is_done_in_its_turn) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.of = &p, .file = pattern_file(0, 1, 0)}, last = sent;
    last.file = pattern_file(10, 1, 0);
    assert_int_equal(reactor_write(r, p.conn, "before ", 7), 0);
    assert_int_equal(
        reactor_sendfile(r, p.conn, sent.file, 0, -1, REACTOR_CLOSE_FILE, note_done, &sent), 0);
    assert_int_equal(sent.calls, 0); /* law 1 */
    assert_int_equal(reactor_write(r, p.conn, "after", 5), 0);
    peer_hears(r, fd, "before after");
    UNTIL(r, sent.calls == 1);
    assert_int_equal(sent.result, 0);
    assert_true(sent.shut);
    assert_int_equal(reactor_sendfile(r, p.conn, last.file, 0, 0, 0, note_done, &last), 0);
    UNTIL(r, last.calls == 1);
    assert_int_equal(reactor_sendfile(r, p.conn, last.file, 10, -1, 0, note_done, &last), 0);
    UNTIL(r, last.calls == 2);
    assert_int_equal(last.result, 0);
    assert_int_equal(p.closes, 0);
    close(last.file);
    close(fd);
    end(r);
}

/* What done does is what a file server does in it: the next file, the end, the emergency stop. */
static void done_then(reactor *r, reactor_conn c, int result, void *user) {
    receipt *got = user;
    note_done(r, c, result, user);
    if (result < 0)
        assert_true(reactor_write(r, c, "x", 1) < 0);
    else if (got->len == 'a')
        assert_int_equal(reactor_abort(r, c), 0);
    else if (got->len == 'c')
        assert_int_equal(reactor_close(r, c), 0);
    else if (got->calls == 5)
        assert_int_equal(reactor_close(r, c), 0);
    else
        assert_int_equal(
            reactor_sendfile(r, c, got->file, 100 * got->calls, 100, 0, done_then, user), 0);
}

CASE(sendfile_done_may_send_the_next) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.file = pattern_file(500, 10, 0)};
    assert_int_equal(reactor_sendfile(r, p.conn, sent.file, 0, 100, 0, done_then, &sent), 0);
    peer_takes_pattern(r, fd, 500, 10, 0);
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    assert_int_equal(sent.calls, 5);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    close(sent.file);
    close(fd);
    end(r);
}

CASE(sendfile_done_may_close) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.file = pattern_file(100, 10, 0), .len = 'c'};
    assert_int_equal(reactor_sendfile(r, p.conn, sent.file, 0, -1, 0, done_then, &sent), 0);
    assert_int_equal(reactor_write(r, p.conn, "after", 5), 0);
    peer_takes_pattern(r, fd, 100, 10, 0);
    peer_hears(r, fd, "after");
    peer_sees_eof(r, fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    close(sent.file);
    close(fd);
    end(r);
}

CASE(sendfile_done_may_abort) {
    reactor *r = begin();
    probe p = {0};
    size_t bytes;
    int fd = attach_tcp_pair(r, &p, NULL);
    receipt sent = {.file = pattern_file(100, 10, 0), .len = 'a'};
    assert_int_equal(reactor_sendfile(r, p.conn, sent.file, 0, -1, 0, done_then, &sent), 0);
    assert_int_equal(reactor_write(r, p.conn, "never sent", 10), 0);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -ECONNABORTED);
    assert_int_equal(sent.calls, 1);
    assert_int_equal(peer_end(r, fd, &bytes), ECONNRESET);
    assert_true(bytes <= 100);
    close(sent.file);
    close(fd);
    end(r);
}

static int elsewhere;
static void task_elsewhere(reactor *r, void *user) {
    (void)r, (void)user;
    elsewhere = 1;
}
static void done_again(reactor *r, reactor_conn c, int result, void *user) {
    receipt *got = user;
    note_done(r, c, result, user);
    if (!elsewhere && got->calls < 20000000)
        assert_int_equal(reactor_sendfile(r, c, got->file, 0, 0, 0, done_again, user), 0);
}

/* Each empty file is followed by another: the rest of the loop has its turn all the same. */
CASE(law13_empty_files_without_end_do_not_starve_others) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    receipt sent = {.file = pattern_file(1, 10, 0)};
    elsewhere = 0;
    assert_int_equal(reactor_sendfile(r, p.conn, sent.file, 0, 0, 0, done_again, &sent), 0);
    turns(r, 1);
    assert_int_equal(reactor_defer(r, task_elsewhere, NULL), 0);
    UNTIL(r, elsewhere);
    assert_true(sent.calls < 20000000);
    close(sent.file);
    close(fd);
    end(r);
}

CASE(sendfile_of_what_is_no_file_is_an_error) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn none = {0};
    receipt sent = {0};
    int fd = attach_pair(r, &p, NULL), file = pattern_file(10, 1, 0);
    assert_int_equal(reactor_sendfile(r, none, file, 0, 1, REACTOR_CLOSE_FILE, note_done, &sent),
                     -EBADF);
    assert_true(fcntl(file, F_GETFD) >= 0); /* the caller's, for the call failed */
    assert_int_equal(reactor_shutdown(r, p.conn), 0);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, 1, REACTOR_CLOSE_FILE, note_done, &sent),
                     -EPIPE);
    assert_true(fcntl(file, F_GETFD) >= 0);
    turns(r, 5);
    assert_int_equal(sent.calls, 0);
    close(file);
    close(fd);
    end(r);
}

CASE(sendfile_of_a_bad_descriptor_is_told) {
    reactor *r = begin();
    probe p = {0};
    receipt sent = {.of = &p};
    int fd = attach_pair(r, &p, NULL);
    int e = reactor_sendfile(r, p.conn, 4000, 0, 10, 0, note_done, &sent);
    if (e >= 0) {
        UNTIL(r, p.closes);
        assert_true(p.reason < 0);
        assert_true(sent.result < 0);
    }
    assert_int_equal(sent.calls, e >= 0);
    close(fd);
    end(r);
}

/* ---- marks ---- */

static void hook_write_to_the_marks(reactor *r, reactor_conn c, probe *p) {
    static const char zeros[5000];
    if (p->opens + p->datas + p->writables > 1) return;
    assert_int_equal(reactor_write(r, c, zeros, 1000), 0); /* at high water is not above it */
    assert_int_equal(reactor_write(r, c, zeros, 1), 1);
    assert_int_equal(reactor_pending(r, c), 1001);
    assert_int_equal(reactor_write(r, c, zeros, 3000), -ENOBUFS);
    assert_int_equal(reactor_pending(r, c), 1001);
    assert_int_equal(reactor_write(r, c, zeros, 2999), 1); /* the cap is not above the cap */
    assert_int_equal(reactor_write(r, c, zeros, 1), -ENOBUFS);
    reactor_iovec v[2] = {{zeros, 1}, {zeros, 1}};
    assert_int_equal(reactor_writev(r, c, v, 2), -ENOBUFS);
    assert_int_equal(reactor_pending(r, c), 4000);
}

static const reactor_conn_options narrow = {
    .high_water = 1000, .low_water = 100, .max_output = 4000};

CASE(law14_marks_and_cap_and_one_on_writable_for_the_run) {
    reactor *r = begin();
    probe p = {.open = hook_write_to_the_marks};
    int fd = attach_pair(r, &p, &narrow);
    UNTIL(r, p.writables); /* it all drained in the same turn */
    turns(r, 20);
    assert_int_equal(p.writables, 1);
    assert_int_equal(peer_discard(fd), 4000);
    static const char zeros[5000];
    assert_int_equal(reactor_write(r, p.conn, zeros, 100), 0);
    turns(r, 20);
    assert_int_equal(p.writables, 1); /* none for a run that stayed below low water */
    assert_int_equal(reactor_write(r, p.conn, zeros, 1001), 1);
    UNTIL(r, p.writables == 2);
    turns(r, 20);
    assert_int_equal(p.writables, 2);
    assert_int_equal(peer_discard(fd), 1101);
    close(fd);
    end(r);
}

static void hook_low_enough(reactor *r, reactor_conn c, probe *p) {
    const size_t *low = p->extra;
    assert_true(reactor_pending(r, c) <= *low);
}

CASE(law14_on_writable_waits_for_low_water) {
    reactor *r = begin();
    size_t low = 20000, bytes = 0;
    probe p = {.writable = hook_low_enough, .extra = &low};
    receipt freed = {0};
    reactor_conn_options o = {.high_water = 40000, .low_water = low};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
    turns(r, 20);
    while (bytes < 1 * MIB) {
        char got[3000];
        ssize_t n = recv(fd, got, sizeof got, 0);
        if (n > 0) bytes += (size_t)n;
        turns(r, 1);
        if (reactor_pending(r, p.conn) > low) assert_int_equal(p.writables, 0);
    }
    UNTIL(r, p.writables);
    turns(r, 20);
    assert_int_equal(p.writables, 1);
    close(fd);
    end(r);
}

CASE(marks_default_to_64_KiB_16_KiB_and_4_MiB) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL);
    char *zeros = calloc(4 * MIB, 1);
    assert_non_null(zeros);
    assert_int_equal(reactor_write(r, p.conn, zeros, 64 * KIB), 0);
    assert_int_equal(reactor_write(r, p.conn, zeros, 1), 1);
    assert_int_equal(reactor_write(r, p.conn, zeros, 4 * MIB - 64 * KIB), -ENOBUFS);
    assert_int_equal(reactor_write(r, p.conn, zeros, 4 * MIB - 64 * KIB - 1), 1);
    assert_int_equal(reactor_write(r, p.conn, zeros, 1), -ENOBUFS);
    free(zeros);
    size_t low = 16 * KIB;
    p.writable = hook_low_enough;
    p.extra = &low;
    while (!p.writables) {
        peer_discard(fd);
        turn(r);
    }
    close(fd);
    end(r);
}

CASE(low_water_defaults_to_a_quarter_of_high_water) {
    reactor *r = begin();
    size_t low = 10000;
    probe p = {.writable = hook_low_enough, .extra = &low};
    receipt freed = {0};
    reactor_conn_options o = {.high_water = 40000};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
    while (!p.writables) {
        char got[2000];
        if (recv(fd, got, sizeof got, 0) < 0) turns(r, 1);
    }
    close(fd);
    end(r);
}

CASE(law14_peer_that_never_reads_cannot_make_the_queue_grow) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, &narrow), refused = 0;
    for (int i = 0; i < 5000; i++) {
        char data[500] = {0};
        int e = reactor_write(r, p.conn, data, sizeof data);
        if (e < 0) assert_int_equal(e, -ENOBUFS);
        refused += e < 0;
        if (i % 8 == 0) turns(r, 1);
        assert_true(counters(r).queued <= 4000);
        assert_true(reactor_pending(r, p.conn) <= 4000);
    }
    assert_true(refused > 0);
    close(fd);
    end(r);
}

/* ---- input coupled to output ---- */

static void hook_write_a_megabyte(reactor *r, reactor_conn c, probe *p) {
    assert_int_equal(write_pattern(r, c, 1 * MIB, 31, 0, p->extra), 1);
}

CASE(law14_accepted_does_not_read_above_high_water) {
    reactor *r = begin();
    receipt freed = {0};
    probe p = {.open = hook_write_a_megabyte, .extra = &freed};
    server s = serve_unix(r, &p, NULL);
    int fd = visit(r, &s, &p);
    peer_say(r, fd, "x");
    turns(r, 20);
    assert_int_equal(p.datas, 0);
    assert_true(reactor_pending(r, p.conn) > 64 * KIB);
    peer_takes_pattern(r, fd, 1 * MIB, 31, 0);
    UNTIL(r, p.datas == 1 && p.writables == 1);
    close(fd);
    end(r);
}

CASE(law14_accepted_uncoupled_by_option_reads_on) {
    reactor *r = begin();
    receipt freed = {0};
    probe p = {.open = hook_write_a_megabyte, .extra = &freed};
    reactor_listen_options o = {.conn = {.coupled = -1}};
    server s = serve_unix(r, &p, &o);
    int fd = visit(r, &s, &p);
    peer_say(r, fd, "x");
    UNTIL(r, p.datas == 1);
    assert_true(reactor_pending(r, p.conn) > 64 * KIB);
    close(fd);
    end(r);
}

CASE(law14_connected_and_attached_by_option_read_on_above_high_water) {
    reactor *r = begin();
    receipt freed = {0};
    probe p = {.open = hook_write_a_megabyte, .extra = &freed}, q = {0};
    reactor_conn_options o = {.coupled = -1};
    int fd = attach_pair(r, &p, &o);
    peer_say(r, fd, "x");
    UNTIL(r, p.datas == 1);
    assert_true(reactor_pending(r, p.conn) > 64 * KIB);
    probe connected = {.open = hook_write_a_megabyte, .extra = &freed};
    q.open = hook_pause;
    server s = serve_unix(r, &q, NULL);
    probe_connect(r, s.address, &connected, NULL);
    UNTIL(r, q.opens && connected.opens);
    assert_int_equal(reactor_write(r, q.conn, "y", 1), 0);
    UNTIL(r, connected.datas == 1);
    assert_true(reactor_pending(r, connected.conn) > 64 * KIB);
    close(fd);
    end(r);
}

CASE(law14_attached_does_not_read_above_high_water) {
    reactor *r = begin();
    receipt freed = {0};
    probe p = {.open = hook_write_a_megabyte, .extra = &freed};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "x");
    turns(r, 20);
    assert_int_equal(p.datas, 0);
    peer_takes_pattern(r, fd, 1 * MIB, 31, 0);
    UNTIL(r, p.datas == 1);
    close(fd);
    end(r);
}

/* An echo whose peer only sends: both are stopped, and all comes back once the peer reads. */
CASE(law14_echo_to_a_peer_that_does_not_read_is_bounded) {
    reactor *r = begin();
    probe p = {.data = hook_echo};
    server s = serve_unix(r, &p, NULL);
    int fd = visit(r, &s, &p);
    size_t sent = peer_flood(r, fd, 100 * MIB), back = 0;
    assert_true(sent < 10 * MIB);
    assert_true(counters(r).queued <= 4 * MIB);
    assert_true(counters(r).unread <= 1 * MIB);
    while (back < sent) {
        size_t n = peer_discard(fd);
        back += n;
        if (!n) turn(r);
    }
    UNTIL(r, p.in == sent);
    turns(r, 5);
    assert_int_equal(back + peer_discard(fd), sent);
    assert_int_equal(counters(r).queued, 0);
    close(fd);
    end(r);
}

/* ---- the limit of unconsumed input ---- */

CASE(law14_input_at_its_limit_with_nothing_consumed_is_EMSGSIZE) {
    reactor *r = begin();
    probe p = {.hold = 1};
    reactor_conn_options o = {.max_input = 4096};
    char data[8192] = {0};
    int fd = attach_pair(r, &p, &o);
    peer_send(r, fd, data, 4000);
    UNTIL(r, p.offered == 4000);
    turns(r, 10);
    assert_int_equal(p.closes, 0);
    assert_int_equal(counters(r).unread, 4000);
    peer_send(r, fd, data, sizeof data);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -EMSGSIZE);
    assert_int_equal(counters(r).unread, 0);
    close(fd);
    end(r);
}

CASE(law14_input_limit_defaults_to_1_MiB) {
    reactor *r = begin();
    probe p = {.hold = 1};
    int fd = attach_pair(r, &p, NULL);
    char *data = pattern_new(1 * MIB, 1, 0);
    peer_send(r, fd, data, 1 * MIB - 1000);
    UNTIL(r, p.offered == 1 * MIB - 1000);
    turns(r, 10);
    assert_int_equal(p.closes, 0);
    assert_true(send(fd, data, 4000, MSG_NOSIGNAL) == 4000);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, -EMSGSIZE);
    free(data);
    close(fd);
    end(r);
}

CASE(law14_input_limit_waits_while_paused) {
    reactor *r = begin();
    probe p = {.data = hook_keep_and_pause};
    reactor_conn_options o = {.max_input = 4096};
    int fd = attach_pair(r, &p, &o);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas == 1);
    size_t sent = peer_flood(r, fd, 10 * MIB);
    assert_true(sent < 10 * MIB);
    assert_int_equal(p.closes, 0);
    assert_int_equal(p.datas, 1);
    assert_true(counters(r).unread <= 4096 + 64 * KIB);
    p.data = NULL;
    assert_int_equal(reactor_resume(r, p.conn), 0);
    UNTIL(r, p.in == sent + 3);
    close(fd);
    UNTIL(r, p.closes);
    assert_int_equal(p.reason, REACTOR_ORDERLY);
    end(r);
}

/* As a proxy does: input stays until the output is out. */
CASE(law14_input_limit_waits_while_output_waits) {
    reactor *r = begin();
    receipt freed = {0};
    probe p = {.data = hook_answer_first, .extra = &freed};
    reactor_conn_options o = {.max_input = 4096};
    int fd = attach_pair(r, &p, &o);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas == 1);
    p.data = NULL;
    p.hold = 1;
    size_t sent = peer_flood(r, fd, 10 * MIB);
    assert_true(sent < 10 * MIB);
    assert_int_equal(p.closes, 0);
    assert_true(counters(r).unread <= 4096 + 64 * KIB);
    p.hold = 0;
    peer_takes_pattern(r, fd, 1 * MIB, 4, 0);
    UNTIL(r, p.in == sent + 3);
    assert_int_equal(p.closes, 0);
    close(fd);
    end(r);
}

/* Output that never was above high water hinders too; when it is out, there is no low water to come
   and yet the input must not lie there for ever. */
static void wait_for_little_output(int consume) {
    reactor *r = begin();
    probe p = {.hold = 1};
    receipt freed = {0};
    reactor_conn_options o = {.max_input = 4096, .high_water = 4 * MIB};
    char data[4096] = {0};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 4, 0, &freed), 0);
    turns(r, 5);
    assert_true(reactor_pending(r, p.conn) > 0);
    peer_send(r, fd, data, sizeof data);
    turns(r, 20);
    assert_int_equal(p.closes, 0);
    if (consume) p.hold = 0;
    peer_takes_pattern(r, fd, 1 * MIB, 4, 0);
    if (consume)
        UNTIL(r, p.in == sizeof data);
    else
        UNTIL(r, p.closes);
    assert_int_equal(p.reason, consume ? 0 : -EMSGSIZE);
    close(fd);
    end(r);
}
CASE(law14_input_at_its_limit_is_offered_when_little_output_is_out) { wait_for_little_output(1); }
CASE(law14_input_at_its_limit_is_judged_when_little_output_is_out) { wait_for_little_output(0); }

/* ---- another handler ---- */

typedef struct lines {
    int opens, datas, eofs, closes;
    char text[64];
    size_t len;
} lines;

static void second_on_open(reactor *r, reactor_conn c, void *state) {
    lines *l = reactor_user(r, c);
    (void)state;
    l->opens++;
}
static size_t second_on_data(reactor *r, reactor_conn c, const void *data, size_t len,
                             void *state) {
    lines *l = reactor_user(r, c);
    assert_string_equal(state, "kept");
    l->datas++;
    assert_true(l->len + len < sizeof l->text);
    memcpy(l->text + l->len, data, len);
    l->len += len;
    return len;
}
static void second_on_eof(reactor *r, reactor_conn c, void *state) {
    lines *l = reactor_user(r, c);
    (void)state;
    l->eofs++;
    reactor_close(r, c);
}
static void second_on_close(reactor *r, reactor_conn c, int reason, void *state) {
    lines *l = reactor_user(r, c);
    assert_string_equal(state, "kept");
    assert_int_equal(reason, 0);
    l->closes++;
}
static const reactor_handler second = {8,    second_on_open, second_on_data, second_on_eof,
                                       NULL, NULL,           NULL,           second_on_close};

/* Takes one line and leaves the rest to the second protocol. */
static size_t first_on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    const char *end_of_line = memchr(data, '\n', len);
    if (!end_of_line) return 0;
    memcpy(state, "kept", 5);
    assert_int_equal(reactor_set_handler(r, c, &second), 0);
    return (size_t)(end_of_line - (const char *)data) + 1;
}
static size_t keep_all(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)r, (void)c, (void)data, (void)len;
    memcpy(state, "kept", 5);
    return 0;
}
static const reactor_handler first = {16, NULL, first_on_data, NULL, NULL, NULL, NULL, NULL};
static const reactor_handler keeper = {16, NULL, keep_all, NULL, NULL, NULL, NULL, NULL};

CASE(set_handler_gives_the_rest_to_the_next_protocol) {
    reactor *r = begin();
    lines l = {0};
    reactor_conn_options o = {.user = &l};
    int fd[2];
    make_pair(fd);
    assert_true(reactor_attach(r, fd[0], &first, &o, NULL) >= 0);
    peer_say(r, fd[1], "upgrade\nthe rest");
    UNTIL(r, l.datas); /* with nothing more sent */
    assert_string_equal(l.text, "the rest");
    peer_say(r, fd[1], " and more");
    UNTIL(r, l.datas == 2);
    assert_string_equal(l.text, "the rest and more");
    close(fd[1]);
    UNTIL(r, l.closes);
    assert_int_equal(l.opens, 0);
    assert_int_equal(l.eofs, 1);
    end(r);
}

CASE(set_handler_outside_on_data_offers_what_is_kept) {
    reactor *r = begin();
    lines l = {0};
    reactor_conn_options o = {.user = &l};
    reactor_conn c;
    int fd[2];
    make_pair(fd);
    assert_true(reactor_attach(r, fd[0], &keeper, &o, &c) >= 0);
    peer_say(r, fd[1], "kept input");
    UNTIL(r, counters(r).unread == 10);
    void *before = reactor_state(r, c);
    assert_int_equal(reactor_set_handler(r, c, &second), 0);
    assert_ptr_equal(reactor_state(r, c), before);
    assert_int_equal(l.datas, 0); /* law 1 */
    UNTIL(r, l.datas);
    assert_string_equal(l.text, "kept input");
    close(fd[1]);
    UNTIL(r, l.closes);
    end(r);
    assert_int_equal(l.closes, 1);
}

CASE(set_handler_with_more_state_than_the_first_is_EINVAL) {
    static const reactor_handler larger = {17, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    reactor *r = begin();
    lines l = {0};
    reactor_conn_options o = {.user = &l};
    reactor_conn c;
    int fd[2];
    make_pair(fd);
    assert_true(reactor_attach(r, fd[0], &first, &o, &c) >= 0);
    assert_int_equal(reactor_set_handler(r, c, &larger), -EINVAL);
    assert_int_equal(reactor_set_handler(r, c, NULL), -EINVAL);
    assert_int_equal(reactor_set_handler(NULL, c, &second), -EINVAL);
    assert_int_equal(reactor_set_handler(r, c, &null_handler), 0);
    assert_int_equal(reactor_set_handler(r, c, &first), 0); /* the first's size is what counts */
    peer_say(r, fd[1], "upgrade\nrest");
    UNTIL(r, l.datas);
    assert_string_equal(l.text, "rest");
    close(fd[1]);
    UNTIL(r, l.closes);
    end(r);
}

/* ---- budgets ---- */

CASE(law13_a_flood_on_one_connection_does_not_starve_others) {
    enum { N = 3, LEN = 150000, MOST = 4096 };
    reactor_options o = {.read_budget = 4096, .read_buffer = 1024};
    reactor *r = begin_with(&o);
    probe p[N] = {{0}};
    int fd[N];
    size_t before[N];
    char *data = pattern_new(LEN, 1, 0);
    for (int i = 0; i < N; i++) {
        fd[i] = attach_pair(r, &p[i], NULL);
        assert_int_equal(send(fd[i], data, LEN, MSG_NOSIGNAL), LEN);
    }
    free(data);
    while (p[0].in + p[1].in + p[2].in < (size_t)N * LEN) {
        for (int i = 0; i < N; i++) before[i] = p[i].in;
        turns(r, 1);
        for (int i = 0; i < N; i++) {
            assert_true(p[i].in - before[i] <= MOST);
            for (int k = 0; k < N; k++)
                assert_true(p[i].in <= p[k].in + 3 * MOST); /* side by side */
        }
    }
    for (int i = 0; i < N; i++) close(fd[i]);
    end(r);
}

CASE(law13_accepts_have_a_budget_for_each_turn) {
    enum { N = 10 };
    reactor_options o = {.accept_budget = 2};
    reactor *r = begin_with(&o);
    probe p = {0};
    server s = serve(r, &p);
    int fd[N];
    for (int i = 0; i < N; i++) fd[i] = dial(s.address);
    while (counters(r).accepts < N) {
        uint64_t before = counters(r).accepts;
        int e = reactor_poll(r, 1000);
        assert_true(e >= 0);
        assert_true(counters(r).accepts - before <= 2);
    }
    UNTIL(r, p.opens == N);
    for (int i = 0; i < N; i++) close(fd[i]);
    end(r);
}

CASE(reads_larger_and_smaller_than_the_read_buffer) {
    reactor_options o = {.read_buffer = 1024};
    reactor *r = begin_with(&o);
    probe p = {.data = hook_echo_records};
    int fd = attach_pair(r, &p, NULL);
    char *data = pattern_new(70000, 33, 0);
    peer_send(r, fd, data, 70000);
    free(data);
    peer_takes_pattern(r, fd, 70000, 33, 0);
    close(fd);
    end(r);
}

/* ---- inside view ---- */

CASE(stats_count_and_return_to_zero) {
    reactor *r = begin();
    probe p = {.hold = 1}, q = {0};
    receipt freed = {0};
    server s = serve_unix(r, &p, NULL);
    assert_int_equal(counters(r).listeners, 1);
    probe_connect(r, s.address, &q, NULL);
    UNTIL(r, p.opens && q.opens);
    assert_int_equal(counters(r).connections, 2);
    assert_int_equal(counters(r).accepts, 1);
    assert_int_equal(counters(r).connects, 1);
    assert_int_equal(reactor_write(r, q.conn, "unread", 6), 0);
    UNTIL(r, p.datas);
    assert_int_equal(counters(r).unread, 6);
    assert_int_equal(counters(r).bytes_in, 6);
    assert_int_equal(counters(r).bytes_out, 6);
    assert_int_equal(reactor_pause(r, q.conn), 0);
    assert_int_equal(write_pattern(r, p.conn, 1 * MIB, 1, 0, &freed), 1);
    turns(r, 10);
    assert_true(counters(r).queued > 0);
    assert_int_equal(counters(r).queued, reactor_pending(r, p.conn));
    assert_int_equal(reactor_resume(r, q.conn), 0);
    UNTIL(r, q.in == 1 * MIB);
    UNTIL(r, counters(r).queued == 0);
    assert_int_equal(reactor_close(r, q.conn), 0);
    UNTIL(r, p.closes && q.closes);
    assert_int_equal(counters(r).connections, 0);
    assert_int_equal(counters(r).unread, 0);
    assert_int_equal(counters(r).queued, 0);
    assert_int_equal(counters(r).closes, 2);
    assert_int_equal(counters(r).bytes_in, 1 * MIB + 6);
    assert_int_equal(counters(r).bytes_out, 1 * MIB + 6);
    assert_int_equal(reactor_listener_close(r, s.l), 0);
    assert_int_equal(counters(r).listeners, 0);
    end(r);
}

typedef struct search {
    const char *text;
    int found, lines;
} search;

static void look(const char *line, void *user) {
    search *s = user;
    s->lines++;
    s->found += strstr(line, s->text) != NULL;
    assert_null(strchr(line, '\n'));
}

static int dump_has(const reactor *r, const char *text) {
    search s = {text, 0, 0};
    assert_int_equal(reactor_dump(r, look, &s), 0);
    return s.found;
}

CASE(dump_shows_listeners_and_connections_by_name) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    char name[] = "dora";
    reactor_listen_options lo = {.conn = {.name = "the-door"}};
    reactor_conn_options o = {.name = name};
    reactor_conn_options longer = {.name = "abcdefghijklmnopqrstuvwxyz0123456789"};
    assert_int_equal(dump_has(r, "the-door"), 0);
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &lo);
    assert_int_equal(dump_has(r, "the-door"), 1);
    int fd = visit(r, &s, &p), pair = attach_pair(r, &q, &o);
    memset(name, 'x', 4); /* it was copied */
    int other = attach_pair(r, &q, &longer);
    assert_int_equal(dump_has(r, "the-door"), 2);
    assert_int_equal(dump_has(r, "dora"), 1);
    assert_int_equal(dump_has(r, "abcdefghijklmnopqrstuvwxyz01234"), 1);
    assert_int_equal(dump_has(r, "abcdefghijklmnopqrstuvwxyz012345"), 0);
    assert_int_equal(reactor_dump(r, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_dump(NULL, look, NULL), -EINVAL);
    close(fd), close(pair), close(other);
    UNTIL(r, p.closes == 1 && q.closes == 2);
    assert_int_equal(dump_has(r, "the-door"), 1);
    assert_int_equal(dump_has(r, "dora"), 0);
    end(r);
}

/* ---- nonsense ---- */

CASE(options_out_of_range_are_EINVAL) {
    static const reactor_conn_options bad[] = {
        {.low_water = 2000, .high_water = 1000},
        {.low_water = 70 * KIB},
        {.coupled = 2},
        {.coupled = -2},
        {.keep_alive_s = -1},
        {.user_timeout_ms = -1},
        {.idle_timeout_ms = -1},
        {.read_timeout_ms = -1},
        {.write_timeout_ms = -1},
        {.deadline_ms = -1},
        {.close_timeout_ms = -1},
    };
    reactor *r = begin();
    int fd[2];
    make_pair(fd);
    for (size_t i = 0; i < COUNT(bad); i++) {
        reactor_listen_options lo = {.conn = bad[i]};
        reactor_connect_options co = {.conn = bad[i]};
        int a = reactor_attach(r, fd[0], &null_handler, &bad[i], NULL);
        int l = reactor_listen(r, "127.0.0.1:0", &null_handler, &lo, NULL);
        int c = reactor_connect(r, "127.0.0.1:1", &null_handler, &co, NULL);
        if (a != -EINVAL || l != -EINVAL || c != -EINVAL)
            fail_msg("options %zu: %d %d %d", i, a, l, c);
    }
    reactor_listen_options lo[] = {{.backlog = -1}, {.max_connections = -1}};
    for (size_t i = 0; i < COUNT(lo); i++)
        assert_int_equal(reactor_listen(r, "127.0.0.1:0", &null_handler, &lo[i], NULL), -EINVAL);
    reactor_connect_options co = {.timeout_ms = -1};
    assert_int_equal(reactor_connect(r, "127.0.0.1:1", &null_handler, &co, NULL), -EINVAL);
    assert_int_equal(counters(r).connections, 0);
    close(fd[0]), close(fd[1]); /* still the caller's */
    end(r);
}

CASE(options_that_are_enormous_are_taken) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.high_water = SIZE_MAX,
                              .low_water = SIZE_MAX,
                              .max_output = SIZE_MAX,
                              .max_input = SIZE_MAX,
                              .idle_timeout_ms = INT64_MAX,
                              .read_timeout_ms = INT64_MAX,
                              .write_timeout_ms = INT64_MAX,
                              .deadline_ms = INT64_MAX,
                              .close_timeout_ms = INT64_MAX};
    int fd = attach_pair(r, &p, &o);
    assert_int_equal(reactor_write(r, p.conn, "hello", 5), 0);
    peer_hears(r, fd, "hello");
    peer_say(r, fd, "x");
    UNTIL(r, p.datas);
    assert_int_equal(p.timeouts, 0);
    close(fd);
    UNTIL(r, p.closes);
    end(r);
}

CASE(null_loops_are_EINVAL) {
    reactor_conn c = {1};
    reactor_listener l = {1};
    reactor_socket fd;
    size_t len = 0;
    assert_int_equal(reactor_attach(NULL, 0, &null_handler, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_detach(NULL, c, &fd, NULL, &len), -EINVAL);
    assert_int_equal(reactor_pause(NULL, c), -EINVAL);
    assert_int_equal(reactor_resume(NULL, c), -EINVAL);
    assert_int_equal(reactor_set_timeout(NULL, c, REACTOR_TIMEOUT_IDLE, 1), -EINVAL);
    assert_int_equal(reactor_shutdown(NULL, c), -EINVAL);
    assert_int_equal(reactor_close(NULL, c), -EINVAL);
    assert_int_equal(reactor_abort(NULL, c), -EINVAL);
    assert_int_equal(reactor_drain(NULL, 1), -EINVAL);
    assert_int_equal(reactor_stats(NULL, NULL), -EINVAL);
    assert_int_equal(reactor_listener_pause(NULL, l), -EINVAL);
    assert_int_equal(reactor_listener_resume(NULL, l), -EINVAL);
    assert_int_equal(reactor_listener_close(NULL, l), -EINVAL);
    assert_null(reactor_state(NULL, c));
    assert_null(reactor_user(NULL, c));
    assert_int_equal(reactor_pending(NULL, c), 0);
    assert_true((int)reactor_conn_socket(NULL, c) < 0);
}

/* ---- socket options ---- */

static int socket_option(reactor *r, reactor_conn c, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    assert_return_code(getsockopt(reactor_conn_socket(r, c), level, name, &value, &len), errno);
    return value;
}

CASE(tcp_options_default_to_no_delay_and_nothing_else) {
    reactor *r = begin();
    probe p = {0}, q = {0}, a = {0};
    server s = serve(r, &p);
    probe_connect(r, s.address, &q, NULL);
    int fd = attach_tcp_pair(r, &a, NULL);
    UNTIL(r, p.opens && q.opens);
    probe *all[] = {&p, &q, &a};
    for (size_t i = 0; i < COUNT(all); i++) {
        assert_true(socket_option(r, all[i]->conn, IPPROTO_TCP, TCP_NODELAY));
        assert_false(socket_option(r, all[i]->conn, SOL_SOCKET, SO_KEEPALIVE));
    }
    close(fd);
    end(r);
}

CASE(tcp_options_are_set_as_asked) {
    reactor *r = begin();
    probe p = {0}, q = {0};
    reactor_listen_options lo = {
        .conn = {.nagle = 1, .keep_alive_s = 77, .user_timeout_ms = 12345}};
    reactor_connect_options co = {.conn = lo.conn};
    server s = serve_with(r, "127.0.0.1:0", &probe_handler, &p, &lo);
    probe_connect(r, s.address, &q, &co);
    UNTIL(r, p.opens && q.opens);
    probe *all[] = {&p, &q};
    for (size_t i = 0; i < COUNT(all); i++) {
        reactor_conn c = all[i]->conn;
        assert_false(socket_option(r, c, IPPROTO_TCP, TCP_NODELAY));
        assert_true(socket_option(r, c, SOL_SOCKET, SO_KEEPALIVE));
        assert_int_equal(socket_option(r, c, IPPROTO_TCP, TCP_KEEPIDLE), 77);
#ifdef TCP_USER_TIMEOUT
        assert_int_equal(socket_option(r, c, IPPROTO_TCP, TCP_USER_TIMEOUT), 12345);
#endif
    }
    end(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(accepted_is_opened_first_with_zeroed_state_and_its_user),
        TEST(state_is_zeroed_again_for_each_connection),
        TEST(accepted_many_at_once_are_each_their_own),
        TEST(null_members_discard_input_and_close_at_eof),
        TEST(null_on_eof_still_sends_what_is_queued),
        TEST(null_on_timeout_is_ETIMEDOUT),
        TEST(echo_is_exact_over_tcp),
        TEST(echo_is_exact_over_tcp_with_input_consumed_in_records),
        TEST(echo_is_exact_over_unix),
        TEST(echo_is_exact_over_unix_with_input_consumed_in_records),
        TEST(echo_is_exact_one_byte_at_a_time),
        TEST(law14_rest_is_offered_in_one_piece_with_what_follows),
        TEST(law14_rest_is_offered_after_resume),
        TEST(law14_rest_is_offered_at_low_water),
        TEST(law14_rest_is_offered_once_before_on_eof),
        TEST(law4_data_is_delivered_before_eof),
        TEST(law14_paused_gets_neither_data_nor_eof),
        TEST(law14_eof_waits_for_resume_when_on_data_paused),
        TEST(law14_eof_waits_when_the_last_offer_is_paused),
        TEST(law14_eof_waits_while_the_handler_waits_for_low_water),
        TEST(law14_eof_waits_when_the_last_offer_is_answered_above_high_water),
        TEST(stop_comes_before_the_next_callback_of_the_same_connection),
        TEST(stop_in_every_on_data_starves_nobody),
        TEST(pause_in_on_open_holds_the_first_data),
        TEST(pause_then_resume_in_one_callback_loses_nothing),
        TEST(paused_still_writes),
        TEST(law4_half_closed_peer_is_not_dead),
        TEST(law4_half_closed_peer_does_not_make_the_loop_spin),
        TEST(law5_paused_connection_whose_peer_is_gone_does_not_spin),
        TEST(law4_fin_does_not_wake_a_blocked_writer),
        TEST(law5_urgent_data_neither_arrives_nor_spins),
#if defined(__linux__) && defined(SO_TIMESTAMPING)
        TEST(law5_notices_in_the_error_queue_do_not_spin_and_stay_the_users),
        TEST(law5_notices_in_the_error_queue_do_not_spin_while_it_ends),
        TEST(law5_notices_in_the_error_queue_do_not_hide_a_reset),
#endif
        TEST(output_leaves_in_the_order_of_the_calls_over_tcp),
        TEST(output_leaves_in_the_order_of_the_calls_over_unix),
        TEST(output_leaves_in_the_order_of_the_calls_through_a_narrow_socket),
        TEST(answers_made_of_the_input_in_any_order_over_tcp),
        TEST(answers_made_of_the_input_in_any_order_over_unix),
        TEST(an_answer_of_no_bytes_is_none),
        TEST(output_of_an_earlier_callback_of_the_turn_leaves_first),
        TEST(law14_marks_and_cap_hold_for_input_sent_back_too),
        TEST(law14_an_answer_and_then_something_else),
        TEST(law14_an_answer_that_is_the_beginning_of_the_input),
        TEST(law14_an_answer_of_nothing_consumes_nothing),
        TEST(an_answer_after_one_of_nothing_or_from_nowhere),
        TEST(short_answers_to_a_peer_that_reads_late),
        TEST(law14_a_short_answer_of_which_the_kernel_takes_a_part),
        TEST(echo_of_input_that_is_consumed_in_part_or_more_than_whole),
        TEST(writev_of_more_pieces_than_the_system_takes),
        TEST(writes_of_nothing_are_accepted_and_send_nothing),
        TEST(writes_of_null_are_EINVAL),
        TEST(law14_writes_of_one_callback_leave_in_one_system_call),
        TEST(law14_writes_to_another_connection_leave_once_a_turn),
        TEST(law14_writes_from_outside_callbacks_leave_in_one_system_call),
        TEST(free_fn_runs_once_when_it_is_sent),
        TEST(free_fn_runs_once_inside_the_call_that_refuses),
        TEST(queue_is_given_up_once_by_abort),
        TEST(queue_is_given_up_once_by_a_reset),
        TEST(queue_is_given_up_once_by_destroy),
        TEST(shared_buffer_goes_to_many_and_is_freed_after_the_last),
        TEST(shared_buffer_that_is_refused_gets_no_reference),
        TEST(shared_buffer_new_copies),
        TEST(sendfile_with_CLOSE_FILE_closes_before_done),
        TEST(sendfile_without_done_and_many_of_one_file),
        TEST(sendfile_does_not_count_for_the_marks),
        TEST(sendfile_shorter_than_promised_is_EIO),
        TEST(sendfile_cut_short_while_it_is_sent_is_EIO),
        TEST(sendfile_of_no_bytes_is_done_in_its_turn),
        TEST(sendfile_done_may_send_the_next),
        TEST(sendfile_done_may_close),
        TEST(sendfile_done_may_abort),
        TEST(law13_empty_files_without_end_do_not_starve_others),
        TEST(sendfile_of_what_is_no_file_is_an_error),
        TEST(sendfile_of_a_bad_descriptor_is_told),
        TEST(law14_marks_and_cap_and_one_on_writable_for_the_run),
        TEST(law14_on_writable_waits_for_low_water),
        TEST(marks_default_to_64_KiB_16_KiB_and_4_MiB),
        TEST(low_water_defaults_to_a_quarter_of_high_water),
        TEST(law14_peer_that_never_reads_cannot_make_the_queue_grow),
        TEST(law14_accepted_does_not_read_above_high_water),
        TEST(law14_accepted_uncoupled_by_option_reads_on),
        TEST(law14_connected_and_attached_by_option_read_on_above_high_water),
        TEST(law14_attached_does_not_read_above_high_water),
        TEST(law14_echo_to_a_peer_that_does_not_read_is_bounded),
        TEST(law14_input_at_its_limit_with_nothing_consumed_is_EMSGSIZE),
        TEST(law14_input_limit_defaults_to_1_MiB),
        TEST(law14_input_limit_waits_while_paused),
        TEST(law14_input_limit_waits_while_output_waits),
        TEST(law14_input_at_its_limit_is_offered_when_little_output_is_out),
        TEST(law14_input_at_its_limit_is_judged_when_little_output_is_out),
        TEST(set_handler_gives_the_rest_to_the_next_protocol),
        TEST(set_handler_outside_on_data_offers_what_is_kept),
        TEST(set_handler_with_more_state_than_the_first_is_EINVAL),
        TEST(law13_a_flood_on_one_connection_does_not_starve_others),
        TEST(law13_accepts_have_a_budget_for_each_turn),
        TEST(reads_larger_and_smaller_than_the_read_buffer),
        TEST(stats_count_and_return_to_zero),
        TEST(dump_shows_listeners_and_connections_by_name),
        TEST(options_out_of_range_are_EINVAL),
        TEST(options_that_are_enormous_are_taken),
        TEST(null_loops_are_EINVAL),
        TEST(tcp_options_default_to_no_delay_and_nothing_else),
        TEST(tcp_options_are_set_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
