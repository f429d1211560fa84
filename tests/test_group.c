/* Groups of loops, and connections that move from one loop to another. Two loops that a test runs in
   turn on one thread show each step; threads show that it holds at any moment. */
#include "../reactor.h"

#include <pthread.h>

#include "stream_help.h"

/* ---- moves ---- */

typedef struct mover {
    reactor *to;
    const reactor_handler *h;
    int moves;
} mover;

/* What a connection is told by the loop that it has come to. */
typedef struct arrival {
    reactor *r;
    reactor_conn conn;
    int opens, eofs, closes, reason, writables;
    size_t in;
    char data[1 << 16];
    uint64_t state; /* as it was when it came */
} arrival;

typedef struct mark {
    uint64_t value;
} mark;

static void arrived_open(reactor *r, reactor_conn c, void *state) {
    arrival *a = reactor_user(r, c);
    a->r = r;
    a->conn = c;
    a->opens++;
    a->state = ((mark *)state)->value;
}
static size_t arrived_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    arrival *a = reactor_user(r, c);
    (void)state;
    assert_true(a->in + len <= sizeof a->data);
    memcpy(a->data + a->in, data, len);
    a->in += len;
    return len;
}
static void arrived_eof(reactor *r, reactor_conn c, void *state) {
    arrival *a = reactor_user(r, c);
    (void)state;
    a->eofs++;
    reactor_close(r, c);
}
static void arrived_writable(reactor *r, reactor_conn c, void *state) {
    arrival *a = reactor_user(r, c);
    (void)state;
    a->writables++;
}
static arrival *lost; /* where on_close tells of one whose handle names nothing */
static void arrived_close(reactor *r, reactor_conn c, int reason, void *state) {
    arrival *a = c.id ? reactor_user(r, c) : lost;
    (void)state;
    a->closes++;
    a->reason = reason;
}
static const reactor_handler arrived = {sizeof(mark), arrived_open, arrived_data,
                                        arrived_eof,  NULL,         arrived_writable,
                                        NULL,         arrived_close};

/* Leaves everything, and is not told anything that happens after the move. */
static void stays_open(reactor *r, reactor_conn c, void *state) {
    (void)r, (void)c;
    ((mark *)state)->value = 0x1234567890;
}
static size_t stays_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)r, (void)c, (void)data, (void)len, (void)state;
    return 0;
}
static void stays_close(reactor *r, reactor_conn c, int reason, void *state) {
    (void)state;
    arrival *a = reactor_user(r, c);
    a->closes++;
    a->reason = reason;
}
static const reactor_handler stays = {sizeof(mark), stays_open, stays_data, NULL,
                                      NULL,         NULL,       NULL,       stays_close};

static void begin_two(reactor **a, reactor **b) {
    descriptors_before = open_descriptors();
    *a = make_loop_with(NULL);
    *b = make_loop_with(NULL);
}

static void end_two(reactor *a, reactor *b) {
    reactor_destroy(a);
    reactor_destroy(b);
    assert_int_equal(open_descriptors(), descriptors_before);
}

/* A connection of r whose peer is *fd. */
static reactor_conn attach_new(reactor *r, arrival *a, int *fd) {
    int ends[2];
    reactor_conn c;
    reactor_conn_options o = {.user = a, .high_water = 1000, .low_water = 100};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(reactor_attach(r, ends[0], &stays, &o, &c), 0);
    turns(r, 3);
    *fd = ends[1];
    return c;
}

CASE(unread_input_queue_state_and_options_move) {
    reactor *from, *to;
    begin_two(&from, &to);
    arrival a = {0};
    char got[1 << 16];
    int fd;
    reactor_conn c = attach_new(from, &a, &fd);
    assert_int_equal(send(fd, "left ", 5, 0), 5);
    turns(from, 3);
    assert_int_equal(reactor_write(from, c, "before ", 7), 0);
    assert_int_equal(reactor_move(from, c, to, &arrived), 0);
    assert_int_equal(reactor_move(from, c, to, &arrived), -EALREADY);
    assert_int_equal(reactor_write(from, c, "after ", 6), 0);
    assert_int_equal(send(fd, "more", 4, 0), 4);
    turns(from, 2);
    assert_int_equal(reactor_write(from, c, "x", 1), -EBADF);
    assert_null(reactor_state(from, c));
    assert_int_equal(a.opens, 0);
    UNTIL(to, a.in == 9);
    assert_memory_equal(a.data, "left more", 9);
    assert_ptr_equal(a.r, to);
    assert_int_equal(a.opens, 1);
    assert_true(a.state == 0x1234567890);
    assert_int_equal(reactor_write(to, a.conn, "here", 4), 0);
    turns(to, 2);
    assert_int_equal(recv(fd, got, sizeof got, MSG_DONTWAIT), 17);
    assert_memory_equal(got, "before after here", 17);
    assert_int_equal(reactor_write(to, a.conn, got, 2000), 1); /* above its own high water */
    UNTIL(to, a.writables);
    reactor_counters counters;
    reactor_stats(from, &counters);
    assert_int_equal(counters.connections, 0);
    assert_int_equal(counters.unread, 0);
    assert_int_equal(counters.queued, 0);
    reactor_stats(to, &counters);
    assert_int_equal(counters.connections, 1);
    close(fd);
    UNTIL(to, a.closes);
    assert_int_equal(a.closes, 1);
    end_two(from, to);
}

/* A queue that the peer does not take goes on, in order, from where it was. */
CASE(a_blocked_queue_moves) {
    enum { LEN = 3 * MIB };
    static char out[LEN], in[LEN];
    reactor *from, *to;
    begin_two(&from, &to);
    arrival a = {0};
    int fd;
    reactor_conn c = attach_new(from, &a, &fd);
    for (size_t i = 0; i < LEN; i++) out[i] = (char)(i * 7 + i / 256);
    assert_int_equal(reactor_write(from, c, out, LEN), 1);
    turns(from, 3);
    assert_int_equal(reactor_move(from, c, to, &arrived), 0);
    turns(from, 2);
    turns(to, 3);
    assert_int_equal(a.opens, 1);
    size_t got = 0;
    while (got < LEN) {
        ssize_t n = recv(fd, in + got, LEN - got, MSG_DONTWAIT);
        if (n > 0) got += (size_t)n;
        turns(to, 1);
    }
    assert_memory_equal(out, in, LEN);
    UNTIL(to, a.writables);
    assert_int_equal(a.writables, 1);
    close(fd);
    end_two(from, to);
    assert_int_equal(a.closes, 1);
}

/* The end that was read, or comes on the way, is told where it goes. */
CASE(ends_move) {
    for (int late = 0; late < 2; late++) {
        reactor *from, *to;
        begin_two(&from, &to);
        arrival a = {0};
        int fd;
        reactor_conn c = attach_new(from, &a, &fd);
        assert_int_equal(send(fd, "last", 4, 0), 4);
        if (!late) shutdown(fd, SHUT_WR);
        assert_int_equal(reactor_move(from, c, to, &arrived), 0);
        turns(from, 2);
        if (late) shutdown(fd, SHUT_WR);
        UNTIL(to, a.eofs);
        assert_int_equal(a.in, 4);
        close(fd);
        UNTIL(to, a.closes);
        assert_int_equal(a.eofs, 1);
        assert_int_equal(a.reason, 0);
        end_two(from, to);
    }
}

CASE(one_that_ends_before_it_has_left_ends_there) {
    reactor *from, *to;
    begin_two(&from, &to);
    arrival a = {0};
    int fd;
    reactor_conn c = attach_new(from, &a, &fd);
    assert_int_equal(reactor_move(from, c, to, &arrived), 0);
    assert_int_equal(reactor_abort(from, c), 0);
    UNTIL(from, a.closes);
    turns(to, 3);
    assert_int_equal(a.opens, 0);
    assert_int_equal(a.closes, 1);
    assert_int_equal(a.reason, -ECONNABORTED);
    close(fd);
    end_two(from, to);
}

CASE(a_loop_that_is_destroyed_takes_nobody) {
    reactor *from, *to;
    begin_two(&from, &to);
    arrival a = {0};
    char byte;
    int fd;
    reactor_conn c = attach_new(from, &a, &fd);
    lost = &a;
    assert_int_equal(reactor_move(from, c, to, &arrived), 0);
    turns(from, 2);
    reactor_destroy(to);
    assert_int_equal(a.closes, 1);
    assert_int_equal(a.reason, -ECANCELED);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    end_two(from, NULL);
}

CASE(bad_moves) {
    static const reactor_handler large = {.state_size = sizeof(mark) + 1};
    reactor *from, *to;
    begin_two(&from, &to);
    arrival a = {0};
    int fd;
    reactor_conn c = attach_new(from, &a, &fd), none = {0};
    assert_int_equal(reactor_move(from, c, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_move(from, c, from, NULL), -EINVAL);
    assert_int_equal(reactor_move(NULL, c, to, NULL), -EINVAL);
    assert_int_equal(reactor_move(from, c, to, &large), -EINVAL);
    assert_int_equal(reactor_move(from, none, to, NULL), -EBADF);
    close(fd);
    end_two(from, to);
}

/* ---- groups ---- */

enum { LOOPS = 4, CLIENTS = 64, MESSAGES = 50 };

static struct {
    int started[LOOPS], ended[LOOPS], fail, hops;
    int opened[LOOPS];
    reactor_group *group;
} seen;

typedef struct hopper {
    int hops; /* to be made still */
} hopper;

static int loop_of(const reactor *r) {
    for (int i = 0; i < LOOPS; i++)
        if (reactor_group_loop(seen.group, i) == r) return i;
    fail();
    return -1;
}

static void hop_open(reactor *r, reactor_conn c, void *state) {
    (void)c, (void)state;
    __atomic_add_fetch(&seen.opened[loop_of(r)], 1, __ATOMIC_RELAXED);
}

/* Echoes on whichever loop it is, and goes to the next one with each piece. */
static const reactor_handler hop_next;
static size_t hop_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    size_t n = len > 100 ? len / 2 : len; /* the rest goes unread */
    assert_true(reactor_write(r, c, data, n) >= 0);
    if (seen.hops)
        reactor_move(r, c, reactor_group_loop(seen.group, (loop_of(r) + 1) % LOOPS), &hop_next);
    return n;
}
static const reactor_handler hop = {sizeof(hopper), hop_open, hop_data, NULL,
                                    NULL,           NULL,     NULL,     NULL};
static const reactor_handler hop_next = {sizeof(hopper), NULL, hop_data, NULL,
                                         NULL,           NULL, NULL,     NULL};

static int on_start(reactor *r, int index, void *user) {
    assert_ptr_equal(user, &seen);
    assert_ptr_equal(reactor_group_loop(seen.group, index), r);
    seen.started[index]++;
    return index == seen.fail ? -ENOENT : 0;
}
static void on_end(reactor *r, int index, void *user) {
    (void)r, (void)user;
    seen.ended[index]++;
}

static void *run_group(void *result) {
    *(int *)result = reactor_group_run(seen.group);
    return NULL;
}

static void make_group(void) {
    const reactor_group_options o = {.loops = LOOPS,
                                     .loop = {.backend = getenv("REACTOR_TEST_BACKEND")},
                                     .on_start = on_start,
                                     .on_end = on_end,
                                     .user = &seen};
    memset(&seen, 0, sizeof seen);
    seen.fail = -1;
    assert_int_equal(reactor_group_create(&seen.group, &o), 0);
    assert_int_equal(reactor_group_count(seen.group), LOOPS);
    assert_null(reactor_group_loop(seen.group, LOOPS));
}

static int call(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    int fd = -1;
    if (strncmp(address, "unix:", 5) == 0) {
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        snprintf(local.sun_path, sizeof local.sun_path, "%.100s", address + 5);
        assert_int_equal(connect(fd, (struct sockaddr *)&local, sizeof local), 0);
    } else {
        to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
        fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    }
    return fd;
}

static void talk(int fd, int seed) {
    char out[1000], in[1000];
    size_t len = 1 + (size_t)(seed * 37 % 999), got = 0;
    for (size_t i = 0; i < len; i++) out[i] = (char)((int)i + seed);
    assert_int_equal(send(fd, out, len, MSG_NOSIGNAL), len);
    while (got < len) {
        ssize_t n = recv(fd, in + got, len - got, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_memory_equal(in, out, len);
}

/* Many clients whose connections stay where they are, or go round all loops; then a drain. */
static void serve_many(const char *address, int hops) {
    char bound[REACTOR_ADDRESS_MAX];
    pthread_t thread;
    int result = 1, fd[CLIENTS], opened = 0, busy = 0;
    make_group();
    seen.hops = hops;
    assert_int_equal(reactor_group_listen(seen.group, address, &hop, NULL, bound, sizeof bound), 0);
    assert_int_equal(pthread_create(&thread, NULL, run_group, &result), 0);
    for (int i = 0; i < CLIENTS; i++) fd[i] = call(bound);
    for (int k = 0; k < MESSAGES; k++)
        for (int i = 0; i < CLIENTS; i++) talk(fd[i], i * 131 + k);
    assert_int_equal(reactor_group_listen(seen.group, address, &hop, NULL, NULL, 0), -EBUSY);
    assert_int_equal(reactor_group_run(seen.group), -EALREADY);
    for (int i = 0; i < CLIENTS; i++) close(fd[i]);
    assert_int_equal(reactor_group_drain(seen.group, 20000), 0);
    pthread_join(thread, NULL);
    assert_int_equal(result, 0);
    for (int i = 0; i < LOOPS; i++) {
        assert_int_equal(seen.started[i], 1);
        assert_int_equal(seen.ended[i], 1);
        opened += seen.opened[i];
        busy += seen.opened[i] > 0;
    }
    assert_int_equal(opened, CLIENTS);
    assert_true(busy > 1);
    reactor_group_destroy(seen.group);
}

CASE(all_loops_serve_one_port) { serve_many("127.0.0.1:0", 0); }
CASE(connections_go_round_all_loops) { serve_many("127.0.0.1:0", 1); }

CASE(sockets_of_a_unix_path_are_handed_out) {
    char address[100];
    snprintf(address, sizeof address, "unix:/tmp/reactor-group-%d", (int)getpid());
    serve_many(address, 0);
    assert_int_equal(access(address + 5, F_OK), -1);
}

CASE(stop_ends_all) {
    pthread_t thread;
    int result = 1;
    make_group();
    assert_int_equal(pthread_create(&thread, NULL, run_group, &result), 0);
    reactor_group_stop(seen.group);
    pthread_join(thread, NULL);
    assert_int_equal(result, 0);
    for (int i = 0; i < LOOPS; i++) assert_int_equal(seen.started[i] + seen.ended[i], 2);
    reactor_group_destroy(seen.group);
}

CASE(one_that_cannot_start_ends_all) {
    for (int i = 0; i < LOOPS; i++) {
        make_group();
        seen.fail = i;
        assert_int_equal(reactor_group_run(seen.group), -ENOENT);
        for (int k = 0; k < LOOPS; k++) assert_int_equal(seen.ended[k], 1);
        reactor_group_destroy(seen.group);
    }
}

CASE(bad_groups) {
    reactor_group *g;
    reactor_group_options o = {.loops = -1};
    assert_int_equal(reactor_group_create(&g, &o), -EINVAL);
    o.loops = 1025;
    assert_int_equal(reactor_group_create(&g, &o), -EINVAL);
    o.loops = 2;
    o.loop.backend = "nonsense";
    assert_int_equal(reactor_group_create(&g, &o), -ENOTSUP);
    assert_null(g);
    assert_int_equal(reactor_group_create(NULL, &o), -EINVAL);
    make_group();
    assert_int_equal(reactor_group_listen(seen.group, "nonsense", &hop, NULL, NULL, 0), -EINVAL);
    assert_int_equal(reactor_group_listen(seen.group, "127.0.0.1:0", NULL, NULL, NULL, 0), -EINVAL);
    char tiny[4];
    assert_int_equal(reactor_group_listen(seen.group, "127.0.0.1:0", &hop, NULL, tiny, 4),
                     -ENOBUFS);
    assert_int_equal(reactor_group_drain(seen.group, -2), -EINVAL);
    reactor_group_destroy(seen.group);
    reactor_group_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(unread_input_queue_state_and_options_move),
        TEST(a_blocked_queue_moves),
        TEST(ends_move),
        TEST(one_that_ends_before_it_has_left_ends_there),
        TEST(a_loop_that_is_destroyed_takes_nobody),
        TEST(bad_moves),
        TEST(all_loops_serve_one_port),
        TEST(connections_go_round_all_loops),
        TEST(sockets_of_a_unix_path_are_handed_out),
        TEST(stop_ends_all),
        TEST(one_that_cannot_start_ends_all),
        TEST(bad_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
