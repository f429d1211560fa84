/* When a handler is called again: on_data with what it has left, on_writable when output has
   drained; what is sent before a detach; and that what a connection holds of memory is bounded,
   whatever it is written or sent.

   The implementation is compiled into this file, so that its memory comes from an allocator which
   counts. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = alignof(max_align_t) > sizeof(size_t) ? alignof(max_align_t) : sizeof(size_t) };

static size_t live, peak; /* bytes of the library's memory */

static void *counted_malloc(size_t size) {
    unsigned char *at = malloc(HEAD + size);
    if (!at) return NULL;
    memcpy(at, &size, sizeof size);
    live += size;
    if (live > peak) peak = live;
    return at + HEAD;
}

static void counted_free(void *data) {
    size_t size;
    if (!data) return;
    memcpy(&size, (unsigned char *)data - HEAD, sizeof size);
    live -= size;
    free((unsigned char *)data - HEAD);
}

static void *counted_realloc(void *old, size_t size) {
    size_t before;
    void *data = counted_malloc(size);
    if (!data || !old) return data;
    memcpy(&before, (unsigned char *)old - HEAD, sizeof before);
    memcpy(data, old, before < size ? before : size);
    counted_free(old);
    return data;
}

#ifndef _WIN32
#include "libkqueue.h"
#endif
#define REACTOR_MALLOC(size)       counted_malloc(size)
#define REACTOR_REALLOC(old, size) counted_realloc(old, size)
#define REACTOR_FREE(data)         counted_free(data)
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#include "../reactor.h"

#include "stream_help.h"

static const char zeros[2 * MIB];

/* One that never hears of room. */
static const reactor_handler deaf_handler = {sizeof(probe_state), probe_on_open, probe_on_data,
                                             probe_on_eof,        NULL,          NULL,
                                             probe_on_timeout,    probe_on_close};

static reactor_conn attach_handled(reactor *r, int fd, const reactor_handler *h, probe *p,
                                   const reactor_conn_options *given) {
    reactor_conn_options o = {0};
    reactor_conn c = {0};
    int before = p->opens;
    if (given) o = *given;
    o.user = p;
    assert_int_equal(reactor_attach(r, fd, h, &o, &c), 0);
    UNTIL(r, p->opens > before);
    return c;
}

/* The kernel takes no more of it, also once all that it has taken has arrived. */
static void fill_socket(reactor *r, reactor_conn c) {
    int fd = (int)reactor_conn_socket(r, c);
    do {
        while (send(fd, zeros, 64 * KIB, MSG_NOSIGNAL) > 0) continue;
        while (send(fd, zeros, 1, MSG_NOSIGNAL) > 0) continue;
        if (PAIRS_SETTLE_MS) poll(NULL, 0, PAIRS_SETTLE_MS);
    } while (send(fd, zeros, 1, MSG_NOSIGNAL) > 0);
}

static void drain_pair(reactor *r, int fd, const probe *p) {
    while (reactor_pending(r, p->conn) > 0) {
        peer_discard(fd);
        turn(r);
    }
}

/* ---- input that was left ---- */

/* A line for each call, as in the manual. */
static void hook_one_line(reactor *r, reactor_conn c, probe *p) {
    const char *end = memchr(p->bytes, '\n', p->offered);
    p->eat = end ? (size_t)(end - p->bytes) + 1 : 0;
    if (p->eat) assert_true(reactor_write(r, c, p->bytes, p->eat) >= 0);
}

static char rest[64]; /* of the input, when its end or the connection's came */

static void hook_look_at_the_rest(reactor *r, reactor_conn c, probe *p) {
    size_t len = 1;
    const char *data = reactor_input(r, c, &len);
    (void)p;
    assert_true(data ? len > 0 : len == 0);
    snprintf(rest + strlen(rest), sizeof rest - strlen(rest), "[%.*s]", (int)len, data ? data : "");
}

CASE(law14_on_data_is_called_again_while_it_consumes_something) {
    enum { MANY = 40 };
    static probe p[MANY];
    int fd[MANY];
    for (int ended = 0; ended < 2; ended++) {
        reactor *r = begin();
        memset(p, 0, sizeof p);
        for (int i = 0; i < MANY; i++) {
            p[i].data = hook_one_line;
            fd[i] = i % 4 ? attach_tcp_pair(r, &p[i], NULL) : attach_pair(r, &p[i], NULL);
        }
        turns(r, 3);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(send(fd[i], "a\nbb\nccc\nrest", 13, MSG_NOSIGNAL), 13);
            if (ended) assert_return_code(shutdown(fd[i], SHUT_WR), errno);
        }
        for (int i = 0; i < MANY; i++) peer_hears(r, fd[i], "a\nbb\nccc\n");
        for (int i = 0; i < MANY; i++) {
            if (ended) UNTIL(r, p[i].closes);
            assert_int_equal(p[i].offered, 4);
            assert_int_equal(p[i].in, 9);
            if (ended) assert_string_equal(strchr(p[i].log, 'e'), "ec");
            close(fd[i]);
        }
        end(r);
    }
}

CASE(what_is_left_at_the_end_can_be_looked_at) {
    reactor *r = begin();
    probe p = {.data = hook_one_line, .eof = hook_look_at_the_rest, .close = hook_look_at_the_rest};
    size_t len = 1;
    reactor_conn none = {0};
    int fd = attach_pair(r, &p, NULL);
    rest[0] = 0;
    assert_null(reactor_input(r, p.conn, &len));
    assert_int_equal(len, 0);
    peer_say(r, fd, "a\nrest");
    UNTIL(r, p.in == 2);
    assert_memory_equal(reactor_input(r, p.conn, &len), "rest", 4);
    assert_int_equal(len, 4);
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    UNTIL(r, p.closes);
    assert_string_equal(rest, "[rest][rest]");
    assert_null(reactor_input(r, p.conn, &len));
    assert_int_equal(len, 0);
    assert_null(reactor_input(r, none, NULL));
    assert_null(reactor_input(NULL, none, NULL));
    close(fd);
    end(r);
}

static void hook_look_at_what_is_offered(reactor *r, reactor_conn c, probe *p) {
    size_t len;
    assert_ptr_equal(reactor_input(r, c, &len), p->bytes);
    assert_int_equal(len, p->offered);
    p->eat = 1;
}

CASE(input_inside_on_data_is_what_is_offered) {
    reactor *r = begin();
    probe p = {.data = hook_look_at_what_is_offered, .eof = hook_look_at_the_rest};
    int fd = attach_tcp_pair(r, &p, NULL);
    rest[0] = 0;
    peer_say(r, fd, "abc");
    UNTIL(r, p.in == 3);
    close(fd);
    UNTIL(r, p.closes);
    assert_string_equal(rest, "[]");
    end(r);
}

/* Each byte is a message of its own, and there are many; the other one waits for none of them. */
CASE(law13_left_input_has_a_budget_and_starves_nobody) {
    enum { LEN = 5000 };
    reactor *r = begin();
    probe p = {.most = 1}, other = {0};
    int fd = attach_pair(r, &p, NULL), fd_other = attach_pair(r, &other, NULL), most = 0;
    assert_int_equal(send(fd, zeros, LEN, MSG_NOSIGNAL), LEN);
    for (int i = 0; p.in < LEN; i++) {
        int before = p.datas, heard = other.datas;
        if (i % 2) assert_int_equal(send(fd_other, "x", 1, MSG_NOSIGNAL), 1);
        turns(r, 1);
        if (p.datas - before > most) most = p.datas - before;
        if (i % 2) assert_int_equal(other.datas, heard + 1);
        assert_true(p.datas > before); /* it goes on without more input */
    }
    assert_int_equal(p.datas, LEN);
    assert_true(most <= 200);
    assert_no_spin(r);
    close(fd), close(fd_other);
    end(r);
}

/* Its end waits for what the budget has left, too, and so does a connection that cannot be written
   to any more. */
CASE(law4_left_input_is_delivered_before_the_end) {
    enum { LEN = 1000 };
    for (int broken = 0; broken < 2; broken++) {
        reactor *r = begin();
        probe p = {.most = 1};
        int fd = attach_pair(r, &p, NULL);
        assert_int_equal(send(fd, zeros, LEN, MSG_NOSIGNAL), LEN);
        close(fd);
        if (broken) assert_int_equal(reactor_write(r, p.conn, "x", 1), 0);
        UNTIL(r, p.closes);
        assert_int_equal(p.in, LEN);
        end(r);
    }
}

static void hook_hold_and_resume(reactor *r, reactor_conn c, probe *p) {
    p->eat = 0;
    assert_int_equal(reactor_pause(r, c), 0);
    assert_int_equal(reactor_resume(r, c), 0);
}
static void hook_hold_and_set_the_same(reactor *r, reactor_conn c, probe *p) {
    p->eat = 0;
    assert_int_equal(reactor_set_handler(r, c, &probe_handler), 0);
}

CASE(law14_nothing_consumed_is_not_offered_again_by_its_own_resume) {
    probe_hook *const hooks[] = {hook_hold_and_resume, hook_hold_and_set_the_same};
    for (size_t i = 0; i < 2 * COUNT(hooks); i++) {
        reactor *r = begin();
        probe p = {.data = hooks[i / 2]};
        int fd = i % 2 ? attach_tcp_pair(r, &p, NULL) : attach_pair(r, &p, NULL);
        turns(r, 3);
        peer_say(r, fd, "ab");
        UNTIL(r, p.datas);
        assert_no_spin(r);
        assert_int_equal(p.datas, 1);
        peer_say(r, fd, "c");
        UNTIL(r, p.datas == 2);
        assert_int_equal(p.offered, 3);
        assert_no_spin(r);
        assert_int_equal(p.datas, 2);
        close(fd);
        UNTIL(r, p.closes);
        end(r);
    }
}

/* A parser that waits for something else than input has what it left offered again, once for each
   time that it says so. */
CASE(law14_resume_offers_again_what_was_left) {
    reactor *r = begin();
    probe p = {.data = hook_hold_and_resume};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "ab");
    UNTIL(r, p.datas);
    for (int i = 2; i < 5; i++) {
        assert_int_equal(reactor_resume(r, p.conn), 0);
        UNTIL(r, p.datas == i);
        assert_int_equal(p.offered, 2);
        assert_no_spin(r);
        assert_int_equal(p.datas, i);
    }
    close(fd);
    UNTIL(r, p.closes);
    end(r);
}

static void hook_hand_on(reactor *r, reactor_conn c, probe *p) {
    p->eat = 0;
    if (p->datas == 1000) p->eat = p->offered;
    assert_int_equal(reactor_set_handler(r, c, p->datas % 2 ? &deaf_handler : &probe_handler), 0);
}

/* Neither takes it; at last one does. */
CASE(law13_handlers_that_set_each_other_starve_nobody) {
    reactor *r = begin();
    probe p = {.data = hook_hand_on}, other = {0};
    int fd = attach_pair(r, &p, NULL), fd_other = attach_pair(r, &other, NULL);
    assert_int_equal(send(fd, "ab", 2, MSG_NOSIGNAL), 2);
    while (!p.datas) turns(r, 1);
    for (int before; p.datas < 1000;) {
        before = p.datas;
        assert_int_equal(send(fd_other, "x", 1, MSG_NOSIGNAL), 1);
        int heard = other.datas;
        turns(r, 1);
        assert_true(p.datas > before && p.datas - before <= 200);
        assert_int_equal(other.datas, heard + 1);
    }
    assert_int_equal(p.in, 2);
    assert_no_spin(r);
    close(fd), close(fd_other);
    end(r);
}

static void hook_hand_on_at_the_end(reactor *r, reactor_conn c, probe *p) {
    p->hold = 0;
    p->eof = NULL;
    assert_int_equal(reactor_set_handler(r, c, &deaf_handler), 0);
}

CASE(set_handler_in_on_eof_offers_the_rest_and_tells_the_end) {
    reactor *r = begin();
    probe p = {.hold = 1, .stay = 1, .eof = hook_hand_on_at_the_end};
    int fd = attach_pair(r, &p, NULL);
    peer_say(r, fd, "abc");
    UNTIL(r, p.datas == 1);
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    UNTIL(r, p.eofs == 2);
    assert_string_equal(p.log, "oddede");
    assert_string_equal(p.text, "abc");
    assert_no_spin(r);
    close(fd);
    end(r);
}

static void hook_close_at_the_500th(reactor *r, reactor_conn c, probe *p) {
    if (p->eofs == 500)
        assert_int_equal(reactor_close(r, c), 0);
    else
        assert_int_equal(reactor_set_handler(r, c, p->eofs % 2 ? &deaf_handler : &probe_handler),
                         0);
}

CASE(law13_handlers_that_set_each_other_in_on_eof_starve_nobody) {
    reactor *r = begin();
    probe p = {.stay = 1, .eof = hook_close_at_the_500th};
    int fd = attach_pair(r, &p, NULL), most = 0;
    close(fd);
    while (!p.closes) {
        int before = p.eofs;
        turns(r, 1);
        if (p.eofs - before > most) most = p.eofs - before;
    }
    assert_int_equal(p.eofs, 500);
    assert_true(most <= 200);
    end(r);
}

/* Holds back its input until what it has written has drained, without a write that says 1. */
static void hook_answer_much_first(reactor *r, reactor_conn c, probe *p) {
    if (p->datas > 1) return;
    p->eat = 0;
    assert_int_equal(reactor_write(r, c, zeros, 1 * MIB), 0);
}

CASE(law14_left_input_is_offered_at_low_water_below_high_water) {
    const reactor_handler *const handlers[] = {&probe_handler, &deaf_handler};
    for (size_t i = 0; i < COUNT(handlers); i++) {
        reactor *r = begin();
        probe p = {.data = hook_answer_much_first};
        reactor_conn_options o = {.high_water = 2 * MIB, .low_water = 10000};
        int fd[2];
        make_pair(fd);
        attach_handled(r, fd[0], handlers[i], &p, &o);
        peer_say(r, fd[1], "abc");
        UNTIL(r, p.datas);
        turns(r, 10);
        assert_int_equal(p.datas, 1);
        drain_pair(r, fd[1], &p);
        turns(r, 5);
        assert_int_equal(p.datas, 2);
        assert_string_equal(p.text, "abc");
        assert_int_equal(p.writables, i == 0);
        assert_no_spin(r);
        close(fd[1]);
        UNTIL(r, p.closes);
        end(r);
    }
}

/* ---- on_writable ---- */

enum { ABOVE_LOW = 20000 }; /* and below high water, by default */

static void hook_write_above_low(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_write(r, c, zeros, ABOVE_LOW), 0);
}
static void hook_write_pieces_above_low(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    while (reactor_pending(r, c) < ABOVE_LOW) assert_int_equal(reactor_write(r, c, zeros, 500), 0);
}
static void hook_writev_above_low(reactor *r, reactor_conn c, probe *p) {
    reactor_iovec v[2] = {{zeros, ABOVE_LOW / 2}, {zeros, ABOVE_LOW / 2}};
    (void)p;
    assert_int_equal(reactor_writev(r, c, v, 2), 0);
}
static void hook_write_owned_above_low(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_write_owned(r, c, zeros, ABOVE_LOW, NULL, NULL), 0);
}

static probe_hook *const above_low[] = {hook_write_above_low, hook_write_pieces_above_low,
                                        hook_writev_above_low, hook_write_owned_above_low};

CASE(law14_on_writable_comes_once_though_all_left_at_once) {
    for (size_t i = 0; i < COUNT(above_low); i++) {
        for (int where = 0; where < 3; where++) {
            reactor *r = begin();
            probe p = {0};
            if (where == 0) p.open = above_low[i];
            if (where == 1) p.data = above_low[i];
            int fd = attach_tcp_pair(r, &p, NULL);
            if (where == 1) peer_say(r, fd, "x");
            if (where == 2) above_low[i](r, p.conn, &p);
            UNTIL(r, p.writables);
            drain_pair(r, fd, &p);
            assert_no_spin(r);
            assert_int_equal(p.writables, 1);
            close(fd);
            end(r);
        }
    }
}

/* The answer that is the input: on the fast path as far as it cannot be above low water. */
CASE(law14_on_writable_comes_after_input_sent_back_above_low_water) {
    static const struct {
        size_t len, low;
        int calls;
    } cases[] = {{16 * KIB, 0, 0},
                 {16 * KIB + 1, 0, 1},
                 {2000, 1999, 1},
                 {2000, 2000, 0},
                 {40000, 64 * KIB, 0}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        reactor *r = begin();
        probe p = {.data = hook_echo};
        reactor_conn_options o = {.low_water = cases[i].low};
        static char got[64 * KIB];
        int fd = attach_tcp_pair(r, &p, &o);
        turns(r, 3);
        assert_int_equal(send(fd, zeros, cases[i].len, MSG_NOSIGNAL), (ssize_t)cases[i].len);
        UNTIL(r, p.in == cases[i].len);
        peer_take(r, fd, got, cases[i].len);
        turns(r, 5);
        if (p.datas == 1) assert_int_equal(p.writables, cases[i].calls); /* it came as one */
        close(fd);
        end(r);
    }
}

static void hook_refuse_and_count(reactor *r, reactor_conn c, probe *p) {
    int e = reactor_write(r, c, zeros, 1 * MIB);
    assert_int_equal(e, p->writables ? 1 : -ENOBUFS);
    p->writable = NULL;
}

/* The queue is blocked, and below low water. */
CASE(law14_on_writable_comes_when_the_length_refused_fits) {
    reactor *r = begin();
    reactor_conn_options o = {.max_output = 1 * MIB};
    probe p = {0};
    int fd = attach_pair(r, &p, &o);
    fill_socket(r, p.conn);
    assert_int_equal(reactor_write(r, p.conn, zeros, 100), 0);
    turns(r, 3);
    hook_refuse_and_count(r, p.conn, &p);
    p.writable = hook_refuse_and_count;
    assert_no_spin(r);
    assert_int_equal(p.writables, 0);
    UNTIL(r, peer_discard(fd) && p.writables);
    drain_pair(r, fd, &p);
    assert_no_spin(r);
    assert_int_equal(p.writables, 2); /* that of the refusal, and that of the write */
    close(fd);
    end(r);
}

static void hook_note_pending(reactor *r, reactor_conn c, probe *p) {
    *(size_t *)p->extra = reactor_pending(r, c);
}

CASE(notify_output_comes_once_at_its_mark) {
    static const size_t marks[] = {700000, 5000, 0};
    for (size_t i = 0; i < COUNT(marks); i++) {
        reactor *r = begin();
        size_t left = 0;
        probe p = {.writable = hook_note_pending, .extra = &left};
        reactor_conn_options o = {.high_water = 2 * MIB, .low_water = 100000};
        int fd = attach_pair(r, &p, &o);
        fill_socket(r, p.conn);
        assert_int_equal(reactor_write(r, p.conn, zeros, 1 * MIB), 0);
        assert_int_equal(reactor_notify_output(r, p.conn, 1), 0);
        assert_int_equal(reactor_notify_output(r, p.conn, marks[i]), 0);
        assert_no_spin(r);
        while (!p.writables) {
            assert_true(reactor_pending(r, p.conn) > marks[i]);
            char got[1000];
            if (recv(fd, got, sizeof got, 0) < 0) assert_int_equal(errno, EAGAIN);
            turns(r, 1);
        }
        assert_true(left <= marks[i]);
        drain_pair(r, fd, &p);
        assert_no_spin(r);
        assert_int_equal(p.writables, 1);
        close(fd);
        end(r);
    }
}

CASE(notify_output_0_waits_for_files_too) {
    reactor *r = begin();
    size_t left = 1;
    probe p = {.writable = hook_note_pending, .extra = &left};
    int fd = attach_pair(r, &p, NULL), file = pattern_file(1 * MIB, 3, 0);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, -1, REACTOR_CLOSE_FILE, NULL, NULL), 0);
    assert_int_equal(reactor_notify_output(r, p.conn, 0), 0);
    turns(r, 10);
    assert_int_equal(p.writables, 0);
    peer_takes_pattern(r, fd, 1 * MIB, 3, 0);
    UNTIL(r, p.writables);
    assert_int_equal(left, 0);
    assert_no_spin(r);
    assert_int_equal(p.writables, 1);
    close(fd);
    end(r);
}

CASE(notify_output_of_nothing_comes_in_its_turn_and_no_later) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn none = {0};
    int fd = attach_pair(r, &p, NULL);
    assert_int_equal(reactor_notify_output(r, p.conn, 0), 0);
    assert_int_equal(p.writables, 0); /* law 1: not inside the call */
    turns(r, 1);
    assert_int_equal(p.writables, 1);
    assert_no_spin(r);
    assert_int_equal(p.writables, 1);
    assert_int_equal(reactor_notify_output(r, none, 0), -EBADF);
    assert_int_equal(reactor_notify_output(NULL, none, 0), -EINVAL);
    close(fd);
    end(r);
}

static void hook_echo_then_hand_on(reactor *r, reactor_conn c, probe *p) {
    hook_echo(r, c, p);
    assert_int_equal(reactor_set_handler(r, c, &probe_handler), 0);
}

/* The first has no on_writable, so its answers may take the fast path. */
CASE(on_writable_of_another_handler_comes_as_if_it_had_been_there) {
    reactor *r = begin();
    probe p = {.data = hook_echo_then_hand_on};
    reactor_conn_options o = {.low_water = 1000};
    int fd[2];
    make_tcp_pair(fd);
    attach_handled(r, fd[0], &deaf_handler, &p, &o);
    turns(r, 3);
    assert_int_equal(send(fd[1], zeros, 4000, MSG_NOSIGNAL), 4000);
    UNTIL(r, p.writables);
    p.data = hook_echo;
    assert_no_spin(r);
    assert_int_equal(p.writables, 1);
    peer_discard(fd[1]);
    assert_int_equal(send(fd[1], zeros, 1001, MSG_NOSIGNAL), 1001);
    UNTIL(r, p.writables == 2);
    close(fd[1]);
    UNTIL(r, p.closes);
    end(r);
}

/* ---- what never fits ---- */

static int freed;
static void count_free(void *data, size_t len, void *user) {
    (void)data, (void)user;
    freed += len == 1001;
}

CASE(what_is_longer_than_max_output_is_EMSGSIZE_and_owes_nothing) {
    reactor *r = begin();
    probe p = {0};
    reactor_conn_options o = {.high_water = 1000, .max_output = 1000};
    reactor_iovec v[2] = {{zeros, 1000}, {zeros, 1}}, huge[2] = {{zeros, SIZE_MAX}, {zeros, 1}};
    reactor_conn none = {0};
    int fd = attach_pair(r, &p, &o);
    reactor_buffer *b = reactor_buffer_new(zeros, 1001);
    freed = 0;
    assert_int_equal(reactor_write(r, p.conn, zeros, 1001), -EMSGSIZE);
    assert_int_equal(reactor_writev(r, p.conn, v, 2), -EMSGSIZE);
    assert_int_equal(reactor_writev(r, p.conn, huge, 2), -EMSGSIZE);
    assert_int_equal(reactor_write_owned(r, p.conn, zeros, 1001, count_free, NULL), -EMSGSIZE);
    assert_int_equal(freed, 1);
    assert_int_equal(reactor_write_shared(r, p.conn, b), -EMSGSIZE);
    assert_int_equal(reactor_write(r, none, zeros, 1001), -EBADF);
    assert_no_spin(r);
    assert_int_equal(p.writables, 0);
    assert_int_equal(reactor_pending(r, p.conn), 0);
    reactor_buffer_unref(b);
    close(fd);
    end(r);
}

/* ---- detach ---- */

static int given; /* to whom it was detached */

static int take_out(reactor *r, reactor_conn c) {
    char input[16];
    size_t len = sizeof input;
    reactor_socket fd;
    int e = reactor_detach(r, c, &fd, input, &len);
    if (e == 0) given = (int)fd;
    return e;
}

static void hook_answer_and_take_out(reactor *r, reactor_conn c, probe *p) {
    const int *how = p->extra;
    if (*how == 0) assert_int_equal(reactor_write(r, c, "answer", 6), 0);
    if (*how == 1) assert_int_equal(reactor_write(r, c, p->bytes, 6), 0);
    if (*how == 2) assert_int_equal(reactor_write_owned(r, c, "answer", 6, NULL, NULL), 0);
    if (*how == 2) assert_int_equal(reactor_write(r, c, "!", 1), 0);
    assert_int_equal(take_out(r, c), 0);
    assert_int_equal(reactor_write(r, c, "x", 1), -EBADF);
}

CASE(detach_sends_first_what_the_kernel_takes) {
    static const char *const heard[] = {"answer", "answer", "answer!"};
    for (int how = 0; how < 3; how++) {
        for (int tcp = 0; tcp < 2; tcp++) {
            reactor *r = begin();
            probe p = {.data = hook_answer_and_take_out, .extra = &how};
            int fd = tcp ? attach_tcp_pair(r, &p, NULL) : attach_pair(r, &p, NULL);
            turns(r, 3);
            peer_say(r, fd, "answer");
            UNTIL(r, p.closes);
            assert_int_equal(p.reason, REACTOR_DETACHED);
            peer_hears(r, fd, heard[how]);
            close(given);
            peer_sees_eof(r, fd);
            close(fd);
            end(r);
        }
    }
}

CASE(detach_is_EBUSY_for_what_the_kernel_does_not_take) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL), file = pattern_file(3, 1, 0);
    assert_int_equal(reactor_sendfile(r, p.conn, file, 0, 3, REACTOR_CLOSE_FILE, NULL, NULL), 0);
    assert_int_equal(take_out(r, p.conn), -EBUSY); /* done would have to be called */
    turns(r, 3);
    peer_takes_pattern(r, fd, 3, 1, 0);
    fill_socket(r, p.conn);
    assert_int_equal(reactor_write(r, p.conn, "end", 3), 0);
    assert_int_equal(take_out(r, p.conn), -EBUSY);
    drain_pair(r, fd, &p);
    assert_int_equal(reactor_write(r, p.conn, "!", 1), 0);
    assert_int_equal(take_out(r, p.conn), 0);
    UNTIL(r, p.closes);
    close(given);
    close(fd);
    end(r);
}

/* Several answer in one turn, the last of them takes all the others out; where answers are sent
   with one call, those wait for it. Each has something queued behind its answer. */
enum { CROWD = 8 };
typedef struct crowd {
    probe p[CROWD];
    int fd[CROWD], given[CROWD], served;
} crowd;

static void hook_answer_then_take_all_out(reactor *r, reactor_conn c, probe *p) {
    crowd *all = p->extra;
    assert_int_equal(reactor_write(r, c, p->bytes, p->offered), 0);
    if (++all->served < CROWD) return;
    for (int i = 0; i < CROWD; i++) {
        if (&all->p[i] == p) continue;
        assert_int_equal(reactor_write(r, all->p[i].conn, ">", 1), 0);
        assert_int_equal(take_out(r, all->p[i].conn), 0);
        all->given[i] = given;
    }
}

CASE(detach_of_others_in_mid_turn_sends_their_answers_first) {
    static crowd all;
    reactor *r = begin();
    memset(&all, 0, sizeof all);
    for (int i = 0; i < CROWD; i++) {
        all.p[i].data = hook_answer_then_take_all_out;
        all.p[i].extra = &all;
        all.fd[i] = attach_tcp_pair(r, &all.p[i], NULL);
    }
    turns(r, 3);
    for (int i = 0; i < CROWD; i++) assert_int_equal(send(all.fd[i], "answer", 6, MSG_NOSIGNAL), 6);
    UNTIL(r, all.served == CROWD);
    for (int i = 0; i < CROWD; i++) {
        peer_hears(r, all.fd[i], all.given[i] ? "answer>" : "answer");
        if (all.given[i]) close(all.given[i]);
        close(all.fd[i]);
        UNTIL(r, all.p[i].closes);
    }
    end(r);
}

/* ---- memory ---- */

static size_t lent; /* bytes of the user's that the queue holds */

static void give_back(void *data, size_t len, void *user) {
    (void)data, (void)user;
    lent -= len;
}
static int write_copy(reactor *r, reactor_conn c, size_t len) {
    return reactor_write(r, c, zeros, len);
}
static int write_lent(reactor *r, reactor_conn c, size_t len) {
    lent += len;
    return reactor_write_owned(r, c, zeros, len, give_back, NULL);
}
static int write_shared(reactor *r, reactor_conn c, size_t len) {
    lent += len;
    reactor_buffer *b = reactor_buffer_wrap(zeros, len, give_back, NULL);
    int e = reactor_write_shared(r, c, b);
    reactor_buffer_unref(b);
    return e;
}
static int write_vector(reactor *r, reactor_conn c, size_t len) {
    reactor_iovec v[20];
    for (int i = 0; i < 20; i++) v[i].data = zeros, v[i].len = len / 20;
    return reactor_writev(r, c, v, 20);
}

typedef int write_fn(reactor *r, reactor_conn c, size_t len);

/* These, in turn, until one is refused. */
typedef struct kind {
    write_fn *fn;
    size_t len;
} kind;

static const kind kinds[][4] = {
    {{write_copy, 1}},
    {{write_copy, 20}},
    {{write_copy, 3000}},
    {{write_copy, 20000}},
    {{write_vector, 20}},
    {{write_vector, 2000}},
    {{write_lent, 1}},
    {{write_lent, 255}},
    {{write_lent, 256}},
    {{write_lent, 20000}},
    {{write_shared, 1}},
    {{write_shared, 256}},
    {{write_copy, 1}, {write_lent, 256}},
    {{write_vector, 20}, {write_shared, 256}},
    {{write_copy, 1000}, {write_copy, 1}, {write_lent, 256}},
    {{write_copy, 1000}, {write_copy, 1000}, {write_shared, 300}, {write_lent, 5}},
};

/* Writes until the first refusal, or for ever if nothing is held. */
static void write_all_there_is_room_for(reactor *r, reactor_conn c, const kind *k) {
    for (int i = 0, e = 0; e >= 0; i = i + 1 < 4 && k[i + 1].fn ? i + 1 : 0) {
        e = k[i].fn(r, c, k[i].len);
        if (e < 0) assert_int_equal(e, -ENOBUFS);
    }
}

/* A relay: what callbacks of one turn write to another connection is more than its max_output. */
static struct {
    reactor_conn to;
    int refused;
} relay;

static void hook_relay(reactor *r, reactor_conn c, probe *p) {
    (void)c;
    if (reactor_write(r, relay.to, p->bytes, p->eat) < 0) relay.refused++;
}

CASE(law14_what_is_written_to_another_leaves_before_it_is_refused) {
    enum { LEN = 48 * KIB };
    static char got[LEN];
    reactor_options o = {.read_buffer = 4 * KIB};
    reactor_conn_options small = {.high_water = 8 * KIB, .max_output = 8 * KIB};
    reactor *r = begin_with(&o);
    probe from = {.data = hook_relay}, to = {0};
    int in = attach_tcp_pair(r, &from, NULL), out = attach_tcp_pair(r, &to, &small);
    turns(r, 3);
    relay.to = to.conn;
    relay.refused = 0;
    char *data = pattern_new(LEN, 3, 0);
    assert_int_equal(send(in, data, LEN, MSG_NOSIGNAL), LEN);
    free(data);
    UNTIL(r, from.in == LEN);
    assert_int_equal(relay.refused, 0);
    size_t n = 0;
    while (n < LEN) {
        turn(r);
        ssize_t part = recv(out, got + n, LEN - n, MSG_DONTWAIT);
        if (part > 0) n += (size_t)part;
    }
    pattern_check(got, LEN, 3, 0);
    close(in), close(out);
    end(r);
}

CASE(law14_memory_of_output_stays_within_twice_max_output) {
    static const size_t mosts[] = {16 * KIB, 64 * KIB, 1 * MIB};
    for (size_t i = 0; i < COUNT(mosts) * COUNT(kinds); i++) {
        const size_t most = mosts[i % COUNT(mosts)];
        const kind *k = kinds[i / COUNT(mosts)];
        if (k->len > most) continue;
        reactor *r = begin();
        probe p = {0};
        reactor_conn_options o = {.high_water = most, .max_output = most};
        int fd = attach_pair(r, &p, &o);
        fill_socket(r, p.conn);
        const size_t before = live;
        lent = 0;
        write_all_there_is_room_for(r, p.conn, k);
        const size_t held = live - before + lent, pending = reactor_pending(r, p.conn);
        const size_t least = most < 64 * KIB ? 3 * most / 4 : most - 20000;
        if (held > 2 * most || pending > most || pending < least)
            fail_msg("kind %zu, max_output %zu: %zu bytes held for %zu", i / COUNT(mosts), most,
                     held, pending);
        assert_no_spin(r);
        assert_int_equal(p.writables, 0);
        UNTIL(r, (peer_discard(fd), p.writables));
        drain_pair(r, fd, &p);
        assert_int_equal(lent, 0);
        close(fd);
        end(r);
        assert_int_equal(live, 0);
    }
}

/* The head of the queue holds its memory until its last byte is out. */
CASE(law14_memory_of_what_is_sent_already_counts) {
    for (size_t i = 0; i < COUNT(kinds); i++) {
        const size_t most = 1 * MIB;
        reactor *r = begin();
        probe p = {0};
        reactor_conn_options o = {.high_water = most, .max_output = most};
        int fd = attach_pair(r, &p, &o);
        const size_t before = live;
        lent = 0;
        assert_int_equal(write_lent(r, p.conn, most), 0);
        while (reactor_pending(r, p.conn) > 200 * KIB) {
            char got[1000];
            if (recv(fd, got, sizeof got, 0) < 0) assert_int_equal(errno, EAGAIN);
            turns(r, 1);
        }
        const size_t left = reactor_pending(r, p.conn); /* the kernel's sends decide how much */
        assert_true(left > 0);
        write_all_there_is_room_for(r, p.conn, kinds[i]);
        const size_t held = live - before + lent, pending = reactor_pending(r, p.conn);
        if (held > 2 * most || pending < left + most / 4)
            fail_msg("kind %zu: %zu bytes held for %zu, %zu before", i, held, pending, left);
        const int told = p.writables;
        assert_no_spin(r);
        assert_int_equal(p.writables, told);
        UNTIL(r, (peer_discard(fd), p.writables > told));
        drain_pair(r, fd, &p);
        close(fd);
        end(r);
    }
}

CASE(law14_memory_of_queued_files_is_little) {
    reactor *r = begin();
    probe p = {0};
    int fd = attach_pair(r, &p, NULL), file = pattern_file(10, 1, 0), n = 0, e = 0;
    const size_t before = live;
    while ((e = reactor_sendfile(r, p.conn, file, 0, 10, 0, NULL, NULL)) >= 0) n++;
    assert_int_equal(e, -ENOBUFS);
    assert_int_equal(n, 1024);
    assert_true(live - before <= 128 * KIB);
    assert_int_equal(reactor_write(r, p.conn, zeros, 1 * MIB), 1); /* they take nothing from it */
    UNTIL(r, (peer_discard(fd), p.writables));
    drain_pair(r, fd, &p);
    close(file);
    close(fd);
    end(r);
}

CASE(law14_memory_of_unconsumed_input_stays_within_twice_max_input) {
    enum { MOST = 300000 };
    reactor *r = begin();
    probe p = {.hold = 1};
    reactor_conn_options o = {.max_input = MOST};
    int fd = attach_pair(r, &p, &o);
    const size_t before = live;
    assert_int_equal(reactor_write(r, p.conn, "x", 1), 0); /* its piece is kept */
    peer_hears(r, fd, "x");
    peak = live;
    for (size_t sent = 0; sent < MOST - 1;) {
        size_t len = MOST - 1 - sent < 1000 ? MOST - 1 - sent : 1000;
        assert_int_equal(send(fd, zeros, len, MSG_NOSIGNAL), (ssize_t)len);
        sent += len;
        turns(r, 1);
    }
    UNTIL(r, counters(r).unread == MOST - 1);
    assert_true(live - before <= MOST + 2 * KIB);
    assert_true(peak - before <= 2 * MOST);
    close(fd);
    UNTIL(r, p.closes);
    end(r);
}

int main(void) {
    IGNORE_SIGPIPE;
    const struct CMUnitTest tests[] = {
        TEST(law14_on_data_is_called_again_while_it_consumes_something),
        TEST(what_is_left_at_the_end_can_be_looked_at),
        TEST(input_inside_on_data_is_what_is_offered),
        TEST(law13_left_input_has_a_budget_and_starves_nobody),
        TEST(law4_left_input_is_delivered_before_the_end),
        TEST(law14_nothing_consumed_is_not_offered_again_by_its_own_resume),
        TEST(law14_resume_offers_again_what_was_left),
        TEST(law13_handlers_that_set_each_other_starve_nobody),
        TEST(set_handler_in_on_eof_offers_the_rest_and_tells_the_end),
        TEST(law13_handlers_that_set_each_other_in_on_eof_starve_nobody),
        TEST(law14_left_input_is_offered_at_low_water_below_high_water),
        TEST(law14_on_writable_comes_once_though_all_left_at_once),
        TEST(law14_on_writable_comes_after_input_sent_back_above_low_water),
        TEST(law14_on_writable_comes_when_the_length_refused_fits),
        TEST(notify_output_comes_once_at_its_mark),
        TEST(notify_output_0_waits_for_files_too),
        TEST(notify_output_of_nothing_comes_in_its_turn_and_no_later),
        TEST(on_writable_of_another_handler_comes_as_if_it_had_been_there),
        TEST(what_is_longer_than_max_output_is_EMSGSIZE_and_owes_nothing),
        TEST(detach_sends_first_what_the_kernel_takes),
        TEST(detach_is_EBUSY_for_what_the_kernel_does_not_take),
        TEST(detach_of_others_in_mid_turn_sends_their_answers_first),
        TEST(law14_what_is_written_to_another_leaves_before_it_is_refused),
        TEST(law14_memory_of_output_stays_within_twice_max_output),
        TEST(law14_memory_of_what_is_sent_already_counts),
        TEST(law14_memory_of_queued_files_is_little),
        TEST(law14_memory_of_unconsumed_input_stays_within_twice_max_input),
    };
    return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
