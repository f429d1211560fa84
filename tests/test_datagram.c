/* Datagrams: what is sent arrives whole, once and in order where the system keeps it so; what is not
   sent is told; the queue has its bounds; and whatever a callback does to its socket is safe. The
   peers are plain sockets, or sockets of the library. */
#include "stream_help.h"

/* ---- a socket that notes what happens to it ---- */

typedef struct note note;
typedef void note_hook(reactor *r, reactor_datagram d, note *n, const reactor_message *m);

struct note {
    int messages, errors, writables, closes;
    char log[64];      /* a letter for each: m e w c */
    int error, reason; /* the latest */
    int named;         /* the latest error came with a peer */
    char error_peer[REACTOR_ADDRESS_MAX], peer[REACTOR_ADDRESS_MAX];
    reactor_peer from;
    size_t len, size; /* of the latest message */
    unsigned flags;
    char data[2048]; /* the first bytes of it */
    size_t bytes;    /* in all */
    unsigned seed;   /* with pattern: messages are one stream of bytes */
    int pattern, echo;
    char at_letter; /* act is called inside the first callback of this letter */
    note_hook *hook, *act;
    int acted;
    void *extra;
    reactor_datagram d;
    char address[REACTOR_ADDRESS_MAX];
};

static note *note_enter(reactor *r, reactor_datagram d, const unsigned *state, char letter) {
    note *n = reactor_datagram_user(r, d);
    assert_non_null(n);
    assert_ptr_equal(reactor_datagram_state(r, d), state);
    assert_int_equal(n->closes, 0);
    size_t len = strlen(n->log);
    if (len + 1 < sizeof n->log) n->log[len] = letter;
    return n;
}

static void note_leave(reactor *r, reactor_datagram d, note *n, char letter,
                       const reactor_message *m) {
    if (n->hook && letter == 'm') n->hook(r, d, n, m);
    if (!n->act || n->at_letter != letter || n->acted) return;
    n->acted = 1;
    n->act(r, d, n, m);
}

static void on_message(reactor *r, reactor_datagram d, const reactor_message *m, void *state) {
    note *n = note_enter(r, d, state, 'm');
    n->messages++;
    n->len = m->len;
    n->size = m->size;
    n->flags = m->flags;
    n->from = *m->peer;
    memcpy(n->data, m->data, m->len < sizeof n->data ? m->len : sizeof n->data);
    if (n->pattern) pattern_check(m->data, m->len, n->seed, n->bytes);
    n->bytes += m->len;
    if (n->echo) assert_true(reactor_datagram_send(r, d, m->peer, m->data, m->len) >= 0);
    note_leave(r, d, n, 'm', m);
}

static void on_error(reactor *r, reactor_datagram d, int error, const reactor_peer *peer,
                     void *state) {
    note *n = note_enter(r, d, state, 'e');
    n->errors++;
    n->error = error;
    n->named = peer != NULL;
    if (peer) assert_true(reactor_peer_format(peer, n->error_peer, sizeof n->error_peer) > 0);
    note_leave(r, d, n, 'e', NULL);
}

static void on_writable(reactor *r, reactor_datagram d, void *state) {
    note *n = note_enter(r, d, state, 'w');
    n->writables++;
    note_leave(r, d, n, 'w', NULL);
}

static void on_close(reactor *r, reactor_datagram d, int reason, void *state) {
    note *n = note_enter(r, d, state, 'c');
    n->closes++;
    n->reason = reason;
    note_leave(r, d, n, 'c', NULL);
}

static const reactor_datagram_handler handler = {sizeof(unsigned), on_message, on_error,
                                                 on_writable, on_close};

static void open_with(reactor *r, const char *address, note *n,
                      const reactor_datagram_options *given) {
    reactor_datagram_options o;
    memset(&o, 0, sizeof o);
    if (given) o = *given;
    o.user = n;
    int e = reactor_datagram_open(r, address, &handler, &o, &n->d);
    if (e < 0) fail_msg("open(%s): %s", address ? address : "", reactor_strerror(e));
    assert_true(reactor_datagram_address(r, n->d, n->address, sizeof n->address) > 0);
}

static void open_at(reactor *r, const char *address, note *n) { open_with(r, address, n, NULL); }

/* One whose only peer is the other. */
static void open_to(reactor *r, const note *to, note *n, const reactor_datagram_options *given) {
    reactor_datagram_options o;
    memset(&o, 0, sizeof o);
    if (given) o = *given;
    o.connect = to->address;
    open_with(r, NULL, n, &o);
}

static int open_code(reactor *r, const char *address, const reactor_datagram_options *o) {
    reactor_datagram d = {1};
    int e = reactor_datagram_open(r, address, &handler, o, &d);
    if (e < 0) assert_true(d.id == 0);
    return e;
}

static reactor_peer peer_of(const char *text) {
    reactor_peer peer;
    int e = reactor_peer_parse(text, &peer);
    if (e < 0) fail_msg("%s: %s", text, reactor_strerror(e));
    return peer;
}

static int send_text(reactor *r, const note *from, const char *to, const char *text) {
    reactor_peer peer = peer_of(to);
    return reactor_datagram_send(r, from->d, &peer, text, strlen(text));
}

/* An address of 127.0.0.1 that nobody has. */
static void dead_address(char out[REACTOR_ADDRESS_MAX]) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(getsockname(fd, (struct sockaddr *)&a, &len), errno);
    close(fd);
    snprintf(out, REACTOR_ADDRESS_MAX, "127.0.0.1:%d", ntohs(a.sin_port));
}

/* A plain socket whose peer is at port of 127.0.0.1 or, with host, another of its addresses. */
static int plain_to(int host, int port) {
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_return_code(fd, errno);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port);
    a.sin_addr.s_addr = htonl((uint32_t)host);
    assert_return_code(connect(fd, (struct sockaddr *)&a, sizeof a), errno);
    unblock(fd);
    return fd;
}

/* What the plain socket gets next, while the loop turns. */
static ssize_t plain_receive(reactor *r, int fd, char *out, size_t size) {
    ssize_t got = -1;
    UNTIL(r, (got = recv(fd, out, size, 0)) >= 0);
    return got;
}

/* ---- there and back ---- */

CASE(echo_over_ipv4) {
    reactor *r = begin();
    note n = {.echo = 1};
    char got[64];
    open_at(r, "127.0.0.1:0", &n);
    assert_memory_equal(n.address, "127.0.0.1:", 10);
    int fd = plain_to(INADDR_LOOPBACK, port_of(n.address));
    assert_int_equal(send(fd, "hello", 5, 0), 5);
    assert_int_equal(plain_receive(r, fd, got, sizeof got), 5);
    assert_memory_equal(got, "hello", 5);
    assert_int_equal(n.messages, 1);
    assert_int_equal(n.size, 5);
    assert_int_equal(n.flags, 0);
    assert_true(reactor_peer_format(&n.from, n.peer, sizeof n.peer) > 0);
    assert_memory_equal(n.peer, "127.0.0.1:", 10);
    close(fd);
    assert_int_equal(reactor_datagram_close(r, n.d), 0);
    UNTIL(r, n.closes == 1);
    assert_int_equal(n.reason, 0);
    end(r);
}

CASE(echo_over_ipv6) {
    if (!has_ipv6()) skip();
    reactor *r = begin();
    note n = {.echo = 1}, c = {0};
    open_at(r, "[::1]:0", &n);
    open_to(r, &n, &c, NULL);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "six", 3), 0);
    UNTIL(r, c.messages == 1);
    assert_memory_equal(c.data, "six", 3);
    end(r);
    assert_int_equal(n.reason, -ECANCELED);
    assert_int_equal(c.closes, 1);
}

CASE(every_address_takes_both_families_and_answers_from_the_one_asked) {
    reactor *r = begin();
    note n = {.echo = 1};
    char got[64], text[REACTOR_ADDRESS_MAX];
    open_at(r, "*:0", &n);
    int fd = plain_to(INADDR_LOOPBACK, port_of(n.address));
    assert_int_equal(send(fd, "four", 4, 0), 4);
    assert_int_equal(plain_receive(r, fd, got, sizeof got), 4);
    close(fd);
    if (ON_LINUX && has_loopback_net()) { /* a connected socket hears nobody else */
        fd = plain_to(0x7f000009, port_of(n.address));
        assert_int_equal(send(fd, "nine", 4, 0), 4);
        assert_int_equal(plain_receive(r, fd, got, sizeof got), 4);
        assert_int_equal(n.from.local[15], 9);
        assert_int_not_equal(n.from.if_index, 0);
        close(fd);
    }
    if (has_ipv6()) {
        note c = {0};
        reactor_datagram_options o = {0};
        snprintf(text, sizeof text, "[::1]:%d", port_of(n.address));
        o.connect = text;
        open_with(r, NULL, &c, &o);
        assert_int_equal(reactor_datagram_send(r, c.d, NULL, "six", 3), 0);
        UNTIL(r, c.messages == 1);
        reactor_datagram_close(r, c.d);
        UNTIL(r, c.closes == 1);
    }
    end(r);
}

CASE(a_peer_of_ipv4_can_be_sent_to_by_a_socket_of_both_families) {
    reactor *r = begin();
    note any = {0}, four = {.echo = 1};
    open_at(r, "*:0", &any);
    open_at(r, "127.0.0.1:0", &four);
    assert_int_equal(send_text(r, &any, four.address, "hi"), 0);
    UNTIL(r, any.messages == 1);
    assert_true(reactor_peer_format(&any.from, any.peer, sizeof any.peer) > 0);
    assert_string_equal(any.peer, four.address);
    end(r);
}

CASE(a_peer_can_be_answered_later) {
    reactor *r = begin();
    note n = {0}, c = {0};
    open_at(r, "127.0.0.1:0", &n);
    open_at(r, "127.0.0.1:0", &c);
    assert_int_equal(send_text(r, &c, n.address, "ask"), 0);
    UNTIL(r, n.messages == 1);
    reactor_peer kept = n.from;
    pass(r, 10);
    assert_int_equal(reactor_datagram_send(r, n.d, &kept, "answer", 6), 0);
    UNTIL(r, c.messages == 1);
    assert_memory_equal(c.data, "answer", 6);
    end(r);
}

CASE(a_datagram_without_bytes_is_one) {
    reactor *r = begin();
    note n = {.echo = 1}, c = {0};
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, NULL, 0), 0);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "x", 1), 0);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "", 0), 0);
    UNTIL(r, c.messages == 3);
    assert_int_equal(n.messages, 3);
    assert_int_equal(c.bytes, 1);
    end(r);
}

CASE(one_that_is_too_long_is_cut_and_told) {
    reactor *r = begin();
    note n = {0}, c = {0};
    reactor_datagram_options o = {.max_size = 100};
    char *data = pattern_new(300, 1, 0);
    open_with(r, "127.0.0.1:0", &n, &o);
    open_to(r, &n, &c, NULL);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, data, 300), 0);
    UNTIL(r, n.messages == 1);
    assert_int_equal(n.len, 100);
    assert_int_equal(n.flags, REACTOR_TRUNCATED);
    if (ON_LINUX) assert_int_equal(n.size, 300);
    pattern_check(n.data, 100, 1, 0);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, data, 100), 0);
    UNTIL(r, n.messages == 2);
    assert_int_equal(n.len, 100);
    assert_int_equal(n.flags, 0);
    free(data);
    end(r);
}

CASE(the_longest_arrives_and_a_longer_one_is_EMSGSIZE) {
    reactor *r = begin();
    note n = {.pattern = 1, .seed = 3}, c = {0};
    char *data = pattern_new(70000, 3, 0);
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, data, 65508), -EMSGSIZE);
    int e = reactor_datagram_send(r, c.d, NULL, data, 65507);
    assert_true(e == 0 || e == 1);
    UNTIL(r, n.messages == 1 || c.errors);
    if (ON_LINUX) assert_int_equal(n.len, 65507); /* elsewhere the system may have a lower limit */
    free(data);
    end(r);
}

/* Two loops, each in turn. */
CASE(two_loops_exchange_datagrams) {
    reactor *a = begin(), *b = make_loop();
    note n = {.echo = 1}, c = {0};
    open_at(a, "127.0.0.1:0", &n);
    open_to(b, &n, &c, NULL);
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(reactor_datagram_send(b, c.d, NULL, "ping", 4), 0);
        for (int tries = 0; c.messages < i && tries < UNTIL_TURNS; tries++) {
            turn(b);
            turn(a);
        }
        assert_int_equal(c.messages, i);
    }
    assert_int_equal(reactor_datagram_send(a, c.d, NULL, "x", 1), -EBADF);
    reactor_destroy(b);
    end(a);
}

/* ---- many at once ---- */

/* Sends count datagrams whose lengths size tells, as one stream of bytes, and has them received. */
static void exchange(reactor *r, note *from, note *to, int count, size_t (*size)(int i)) {
    char data[2048];
    int before = to->messages;
    for (int i = 0; i < count; i++) {
        size_t len = size(i);
        pattern_fill(data, len, from->seed, from->bytes);
        assert_true(reactor_datagram_send(r, from->d, NULL, data, len) >= 0);
        from->bytes += len;
    }
    UNTIL(r, to->messages == before + count);
    assert_int_equal(to->bytes, from->bytes);
    assert_int_equal(from->errors, 0);
}

static size_t all_equal(int i) {
    (void)i;
    return 400;
}
static size_t last_shorter(int i) { return i == 39 ? 17 : 400; }
static size_t runs(int i) { return i % 10 == 9 ? 250 : i % 10 == 4 ? 500 : 300; }
static size_t each_another(int i) { return (size_t)(1 + i * 37 % 1200); }
static size_t some_empty(int i) { return i % 3 == 1 ? 0 : 100; }
static size_t small(int i) { return i % 64 == 63 ? 30 : 64; }

static void receive_every_shape(int offload_in, int offload_out) {
    reactor *r = begin();
    reactor_datagram_options in = {.offload = offload_in}, out = {.offload = offload_out};
    note n = {.pattern = 1, .seed = 7}, c = {.seed = 7};
    in.receive_buffer = 1024 * KIB;
    open_with(r, "127.0.0.1:0", &n, &in);
    open_to(r, &n, &c, &out);
    exchange(r, &c, &n, 40, all_equal);
    exchange(r, &c, &n, 40, last_shorter);
    exchange(r, &c, &n, 50, runs);
    exchange(r, &c, &n, 60, each_another);
    exchange(r, &c, &n, 30, some_empty);
    exchange(r, &c, &n, 1, all_equal);
    assert_int_equal(counters(r).datagrams_in, 221);
    assert_int_equal(counters(r).datagrams_out, 221);
    end(r);
}

CASE(each_arrives_as_it_was_sent) { receive_every_shape(0, 0); }
CASE(each_arrives_as_it_was_sent_cut_by_the_system_joined_by_nobody) { receive_every_shape(-1, 0); }
CASE(each_arrives_as_it_was_sent_without_the_systems_help) { receive_every_shape(-1, -1); }

/* Every datagram's own length, not only their bytes. */
static void check_length(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    (void)r, (void)d;
    assert_int_equal(m->len, runs(n->messages - 1));
}

CASE(joined_datagrams_are_told_one_by_one) {
    reactor *r = begin();
    note n = {.pattern = 1, .seed = 8, .hook = check_length}, c = {.seed = 8};
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    exchange(r, &c, &n, 100, runs);
    end(r);
}

CASE(a_hundred_thousand_in_bursts) {
    enum { BURST = 200, BURSTS = 500 };
    reactor *r = begin();
    reactor_datagram_options o = {.receive_buffer = 1024 * KIB};
    note n = {.pattern = 1, .seed = 9}, c = {.seed = 9};
    open_with(r, "127.0.0.1:0", &n, &o);
    open_to(r, &n, &c, &o);
    const int bursts = emulated() ? BURSTS / 20 : BURSTS;
    for (int i = 0; i < bursts; i++) exchange(r, &c, &n, BURST, small);
    assert_int_equal(n.messages, bursts * BURST);
    assert_int_equal(counters(r).datagrams_dropped, 0);
    end(r);
}

/* Consecutive ones to different peers, by one system call or several. */
CASE(each_of_many_peers_gets_its_own) {
    enum { PEERS = 30 };
    static note n[PEERS];
    reactor *r = begin();
    note c = {0};
    memset(n, 0, sizeof n);
    open_at(r, "127.0.0.1:0", &c);
    for (int i = 0; i < PEERS; i++) open_at(r, "127.0.0.1:0", &n[i]);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < PEERS; i++)
            for (int twice = 0; twice < 1 + i % 2; twice++)
                assert_int_equal(send_text(r, &c, n[i].address, n[i].address), 0);
    for (int i = 0; i < PEERS; i++) {
        UNTIL(r, n[i].messages == 3 * (1 + i % 2));
        assert_memory_equal(n[i].data, n[i].address, n[i].len);
    }
    end(r);
}

CASE(sends_of_a_turn_leave_at_its_end) {
    reactor *r = begin();
    note n = {0}, c = {0};
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    for (int i = 0; i < 10; i++) assert_int_equal(reactor_datagram_send(r, c.d, NULL, "abc", 3), 0);
    assert_int_equal(counters(r).datagrams_out, 0);
    assert_int_equal(reactor_datagram_pending(r, c.d), 10 * (3 + 64));
    turns(r, 1);
    assert_int_equal(counters(r).datagrams_out, 10);
    assert_int_equal(reactor_datagram_pending(r, c.d), 0);
    end(r);
}

/* ---- errors ---- */

CASE(a_connected_socket_hears_that_nobody_listens_and_goes_on) {
    reactor *r = begin();
    note c = {0}, n = {.echo = 1};
    char address[REACTOR_ADDRESS_MAX];
    reactor_datagram_options o = {.connect = address};
    dead_address(address);
    open_with(r, NULL, &c, &o);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "anybody", 7), 0);
    UNTIL(r, c.errors >= 1);
    assert_int_equal(c.error, -ECONNREFUSED);
    if (c.named) assert_string_equal(c.error_peer, address);
    open_at(r, address, &n);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "again", 5), 0);
    UNTIL(r, c.messages == 1);
    assert_int_equal(c.closes, 0);
    end(r);
}

CASE(the_peer_that_refused_is_named) {
    if (!ON_LINUX) skip(); /* only a connected socket hears of it elsewhere */
    reactor *r = begin();
    note c = {0}, n = {.echo = 1};
    char dead[REACTOR_ADDRESS_MAX];
    dead_address(dead);
    open_at(r, "127.0.0.1:0", &c);
    open_at(r, "127.0.0.1:0", &n);
    for (int i = 1; i <= 3; i++) {
        int errors = c.errors;
        assert_int_equal(send_text(r, &c, n.address, "one"), 0);
        assert_int_equal(send_text(r, &c, dead, "two"), 0);
        assert_int_equal(send_text(r, &c, n.address, "three"), 0);
        UNTIL(r, c.errors == errors + 1 && c.messages == 2 * i);
        assert_int_equal(c.error, -ECONNREFUSED);
        assert_true(c.named);
        assert_string_equal(c.error_peer, dead);
    }
    assert_no_spin(r);
    end(r);
}

/* The next send gets the error of the one before; it is sent all the same. */
CASE(a_send_that_is_told_of_an_earlier_one_is_made_again) {
    if (!ON_LINUX) skip();
    reactor *r = begin();
    note c = {0}, n = {0};
    char dead[REACTOR_ADDRESS_MAX];
    dead_address(dead);
    open_at(r, "127.0.0.1:0", &c);
    open_at(r, "127.0.0.1:0", &n);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(send_text(r, &c, dead, "lost"), 0);
        assert_int_equal(send_text(r, &c, n.address, "kept"), 0);
    }
    UNTIL(r, n.messages == 20 && c.errors == 20);
    /* A paused socket is not listened to, so its next send is the first to hear. */
    assert_int_equal(reactor_datagram_pause(r, c.d), 0);
    assert_int_equal(send_text(r, &c, dead, "lost"), 0);
    turns(r, 3);
    assert_int_equal(send_text(r, &c, n.address, "kept"), 0);
    UNTIL(r, n.messages == 21 && c.errors == 21);
    end(r);
}

static void send_to_dead_again(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    (void)m;
    n->acted = 0;
    reactor_peer peer = peer_of(n->extra);
    assert_true(reactor_datagram_send(r, d, &peer, "again", 5) >= 0);
}

/* Who sends in on_error what fails at once does not keep the loop to itself. */
static void count_task(reactor *r, void *user) {
    int *count = user;
    if (++*count < 5) assert_int_equal(reactor_defer(r, count_task, count), 0);
}

CASE(on_error_may_send_what_fails_again) {
    reactor *r = begin();
    note c = {.at_letter = 'e', .act = send_to_dead_again};
    char path[64];
    int tasks = 0;
    NEEDS_UNIX_PAIRS;
    unix_address(path, sizeof path);
    c.extra = path;
    open_at(r, "unix:@reactor-test-errors", &c);
    assert_int_equal(send_text(r, &c, path, "nobody"), 0);
    assert_int_equal(reactor_defer(r, count_task, &tasks), 0);
    UNTIL(r, tasks == 5 && c.errors >= 5);
    assert_true(c.error == -ENOENT || c.error == -ECONNREFUSED);
    assert_string_equal(c.error_peer, path);
    end(r);
}

CASE(a_datagram_the_system_does_not_take_is_told_with_its_peer) {
    if (!ON_LINUX) skip(); /* whether broadcast is refused, and how, differs */
    reactor *r = begin();
    note c = {0}, n = {0};
    open_at(r, "127.0.0.1:0", &c);
    open_at(r, "127.0.0.1:0", &n);
    assert_int_equal(send_text(r, &c, "255.255.255.255:9", "all"), 0);
    assert_int_equal(send_text(r, &c, n.address, "one"), 0);
    UNTIL(r, n.messages == 1 && c.errors == 1);
    assert_int_equal(c.error, -EACCES);
    assert_string_equal(c.error_peer, "255.255.255.255:9");
    end(r);
}

CASE(without_on_error_errors_are_passed_over) {
    static const reactor_datagram_handler deaf = {0, NULL, NULL, NULL, NULL};
    reactor *r = begin();
    reactor_datagram d;
    note n = {0};
    char dead[REACTOR_ADDRESS_MAX];
    reactor_datagram_options o = {.connect = dead};
    dead_address(dead);
    assert_int_equal(reactor_datagram_open(r, NULL, &deaf, &o, &d), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(reactor_datagram_send(r, d, NULL, "x", 1), 0);
        turns(r, 2);
    }
    assert_no_spin(r);
    open_at(r, dead, &n);
    assert_int_equal(reactor_datagram_send(r, d, NULL, "x", 1), 0);
    UNTIL(r, n.messages == 1);
    end(r);
}

/* ---- the queue ---- */

/* A connected unix socket whose peer, a plain one, does not read: its queue fills. */
static int full_pair(reactor *r, note *n, const reactor_datagram_options *given) {
    int fd[2];
    char address[32];
    reactor_datagram_options o;
    memset(&o, 0, sizeof o);
    if (given) o = *given;
    assert_return_code(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd), errno);
    unblock(fd[1]);
    snprintf(address, sizeof address, "fd:%d", fd[0]);
    open_with(r, address, n, &o);
    return fd[1];
}

/* Numbered datagrams until the result is no 0; how many were sent, and the result. */
static int send_until(reactor *r, note *n, int from, int *result) {
    uint32_t number = (uint32_t)from;
    for (;; number++) {
        *result = reactor_datagram_send(r, n->d, NULL, &number, sizeof number);
        turns(r, 1);
        if (*result != 0) return (int)number;
    }
}

static int plain_number(int fd) {
    uint32_t number;
    ssize_t n = recv(fd, &number, sizeof number, 0);
    return n == sizeof number ? (int)number : -1;
}

enum { COST = 68 }; /* of each of them in the queue */

CASE(a_full_queue_refuses_and_tells_when_there_is_room) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    reactor_datagram_options o = {
        .high_water = 10 * COST, .low_water = 5 * COST, .max_output = 20 * COST};
    note n = {0};
    int e, got = 0, number;
    int fd = full_pair(r, &n, &o);
    int high = send_until(r, &n, 0, &e);
    assert_int_equal(e, 1);
    assert_int_equal(reactor_datagram_pending(r, n.d), 11 * COST);
    for (uint32_t i = (uint32_t)high + 1; i < (uint32_t)high + 10; i++)
        assert_int_equal(reactor_datagram_send(r, n.d, NULL, &i, sizeof i), 1);
    assert_int_equal(reactor_datagram_send(r, n.d, NULL, &e, sizeof e), -ENOBUFS);
    assert_int_equal(reactor_datagram_send(r, n.d, NULL, &o, 20 * COST), -EMSGSIZE);
    assert_no_spin(r);
    assert_int_equal(n.writables, 0);
    while (got < high + 10) {
        number = plain_number(fd);
        if (number < 0) {
            turn(r);
            continue;
        }
        assert_int_equal(number, got++);
    }
    UNTIL(r, n.writables == 1);
    turns(r, 5);
    assert_int_equal(n.writables, 1);
    assert_int_equal(n.errors, 0);
    assert_no_spin(r);
    close(fd);
    end(r);
}

CASE(a_full_queue_drops_the_newest) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    reactor_datagram_options o = {.max_output = 5 * COST, .overflow = REACTOR_DROP_NEWEST};
    note n = {0};
    int e, got = 0;
    int fd = full_pair(r, &n, &o);
    int taken = 0;
    while (reactor_datagram_pending(r, n.d) < 5 * COST) {
        assert_int_equal(reactor_datagram_send(r, n.d, NULL, &taken, sizeof taken), 0);
        turns(r, 1);
        taken++;
    }
    for (int i = 0; i < 7; i++) {
        e = reactor_datagram_send(r, n.d, NULL, &i, sizeof i);
        assert_int_equal(e, 1);
    }
    assert_int_equal(counters(r).datagrams_dropped, 7);
    while (got < taken) {
        int number = plain_number(fd);
        if (number < 0)
            turn(r);
        else
            assert_int_equal(number, got++);
    }
    turns(r, 5);
    assert_int_equal(plain_number(fd), -1);
    assert_int_equal(n.writables, 1);
    close(fd);
    end(r);
}

CASE(a_full_queue_drops_the_oldest) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    reactor_datagram_options o = {.max_output = 5 * COST, .overflow = REACTOR_DROP_OLDEST};
    note n = {0};
    int sent = 0, last = -1, number;
    int fd = full_pair(r, &n, &o);
    while (reactor_datagram_pending(r, n.d) < 5 * COST) {
        assert_int_equal(reactor_datagram_send(r, n.d, NULL, &sent, sizeof sent), 0);
        turns(r, 1);
        sent++;
    }
    int inside = sent - 5; /* of the peer's own queue */
    for (int i = 0; i < 7; i++, sent++)
        assert_int_equal(reactor_datagram_send(r, n.d, NULL, &sent, sizeof sent), 0);
    assert_int_equal(counters(r).datagrams_dropped, 7);
    for (int i = 0; i < inside; i++) assert_int_equal(plain_number(fd), i);
    while (last < sent - 1) {
        number = plain_number(fd);
        if (number < 0) {
            turn(r);
            continue;
        }
        if (last < 0) assert_int_equal(number, sent - 5);
        last = number;
    }
    close(fd);
    end(r);
}

/* What is queued in on_writable leaves, too, and on_writable comes again. */
static void send_much(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    char data[1000] = {0};
    (void)m;
    n->acted = n->writables >= 5;
    if (n->writables > 5) return;
    while (reactor_datagram_send(r, d, NULL, data, sizeof data) == 0) {
    }
}

CASE(on_writable_may_fill_the_queue_again) {
    reactor *r = begin();
    reactor_datagram_options o = {.high_water = 5000, .receive_buffer = 512 * KIB};
    note n = {0}, c = {.at_letter = 'w', .act = send_much};
    open_with(r, "127.0.0.1:0", &n, &o);
    open_to(r, &n, &c, &o);
    send_much(r, c.d, &c, NULL);
    UNTIL(r, c.writables == 6);
    UNTIL(r, reactor_datagram_pending(r, c.d) == 0);
    assert_int_equal(c.errors, 0);
    end(r);
}

CASE(a_unix_peer_that_does_not_read_does_not_hold_up_the_others) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    note n = {0}, good = {0};
    char here[64], stuck[64], other[64];
    struct sockaddr_un a;
    unix_address(here, sizeof here);
    unix_address(stuck, sizeof stuck);
    unix_address(other, sizeof other);
    open_at(r, here, &n);
    open_at(r, other, &good);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = unix_name(&a, stuck + 5);
    assert_return_code(bind(fd, (struct sockaddr *)&a, len), errno);
    for (int i = 0; i < 2000; i++) assert_true(send_text(r, &n, stuck, "x") >= 0);
    assert_true(send_text(r, &n, other, "through") >= 0);
    UNTIL(r, good.messages == 1);
    assert_true(n.errors > 0);
    assert_true(n.error == -EAGAIN || n.error == -ENOBUFS);
    assert_string_equal(n.error_peer, stuck);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 1);
    assert_true(send_text(r, &n, stuck, "y") >= 0);
    UNTIL(r, reactor_datagram_pending(r, n.d) == 0);
    close(fd);
    unlink(stuck + 5);
    end(r);
}

/* ---- pausing, stopping, closing ---- */

static void do_pause(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    (void)n, (void)m;
    assert_int_equal(reactor_datagram_pause(r, d), 0);
}

CASE(a_pause_holds_what_was_received_already) {
    reactor *r = begin();
    note n = {.pattern = 1, .seed = 2, .at_letter = 'm', .act = do_pause}, c = {.seed = 2};
    char data[400];
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    for (int i = 0; i < 30; i++) {
        pattern_fill(data, sizeof data, 2, c.bytes);
        assert_int_equal(reactor_datagram_send(r, c.d, NULL, data, 10 + (size_t)(i % 5)), 0);
        c.bytes += 10 + (size_t)(i % 5);
    }
    UNTIL(r, n.messages == 1);
    assert_no_spin(r);
    assert_int_equal(n.messages, 1);
    assert_int_equal(reactor_datagram_resume(r, n.d), 0);
    UNTIL(r, n.messages == 30);
    assert_int_equal(n.bytes, c.bytes);
    end(r);
}

static void do_stop(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    (void)d, (void)m;
    n->acted = 0;
    reactor_stop(r);
}

CASE(a_stop_holds_what_was_received_already) {
    reactor *r = begin();
    note n = {.pattern = 1, .seed = 4, .at_letter = 'm', .act = do_stop}, c = {.seed = 4};
    char data[40];
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    for (int i = 0; i < 20; i++) {
        pattern_fill(data, sizeof data, 4, c.bytes);
        assert_int_equal(reactor_datagram_send(r, c.d, NULL, data, sizeof data), 0);
        c.bytes += sizeof data;
    }
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(reactor_run(r), 0);
        assert_int_equal(n.messages, i);
    }
    assert_int_equal(n.bytes, c.bytes);
    end(r);
}

CASE(a_paused_socket_does_not_keep_the_loop_going) {
    reactor *r = begin();
    note n = {0}, c = {0};
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    assert_int_equal(reactor_datagram_pause(r, n.d), 0);
    assert_int_equal(reactor_datagram_pause(r, n.d), 0);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "wait", 4), 0);
    assert_int_equal(reactor_datagram_close(r, c.d), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(c.closes, 1);
    assert_int_equal(n.messages, 0);
    assert_no_spin(r);
    assert_int_equal(reactor_datagram_resume(r, n.d), 0);
    UNTIL(r, n.messages == 1);
    end(r);
}

CASE(what_is_queued_at_a_close_leaves_first) {
    reactor *r = begin();
    note n = {.pattern = 1, .seed = 5}, c = {.seed = 5};
    char *data = pattern_new(20 * 100, 5, 0);
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    for (int i = 0; i < 20; i++)
        assert_int_equal(reactor_datagram_send(r, c.d, NULL, data + i * 100, 100), 0);
    assert_int_equal(reactor_datagram_close(r, c.d), 0);
    assert_int_equal(reactor_datagram_close(r, c.d), 0);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "x", 1), -EBADF);
    assert_int_equal(reactor_datagram_pause(r, c.d), -EBADF);
    assert_int_equal(c.closes, 0);
    UNTIL(r, c.closes == 1 && n.messages == 20);
    assert_int_equal(c.reason, 0);
    assert_string_equal(c.log, "c");
    free(data);
    end(r);
}

CASE(a_close_does_not_wait_for_ever) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    note n = {0};
    int e, fd = full_pair(r, &n, &(reactor_datagram_options){.high_water = 5 * COST});
    send_until(r, &n, 0, &e);
    assert_int_equal(reactor_datagram_close(r, n.d), 0);
    turns(r, 10);
    assert_int_equal(n.closes, 0);
    assert_no_spin(r);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(n.closes, 1);
    assert_int_equal(n.reason, -ETIMEDOUT);
    close(fd);
    end(r);
}

static void do_close(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    (void)n;
    assert_int_equal(reactor_datagram_close(r, d), 0);
    if (m && m->len) assert_int_equal(((const char *)m->data)[m->len - 1], 'x'); /* still there */
}

static void do_destroy(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    (void)d, (void)n, (void)m;
    reactor_destroy(r);
}

/* A socket to which everything happens: messages, errors, on_writable, and an end. */
static void happen(reactor *r, note *n, note *c, const char *dead, const char *nobody) {
    reactor_datagram_options o = {.high_water = 200};
    (void)nobody;
    open_with(r, "127.0.0.1:0", n, &o);
    open_to(r, n, c, NULL);
    for (int i = 0; i < 5; i++) assert_int_equal(reactor_datagram_send(r, c->d, NULL, "xx", 2), 0);
    for (int i = 0; i < 5; i++) {
        int e = send_text(r, n, dead, "lost");
        assert_true(e == 0 || e == 1);
    }
}

static void act_in_each(note_hook *act, int destroys) {
    const char *letters = ON_LINUX ? "mewc" : "mwc";
    for (const char *letter = letters; *letter; letter++) {
        reactor *r = begin();
        note n = {.at_letter = *letter, .act = act}, c = {0};
        char dead[REACTOR_ADDRESS_MAX];
        dead_address(dead);
        happen(r, &n, &c, dead, NULL);
        if (*letter == 'c') {
            turns(r, 3);
            reactor_datagram_close(r, n.d);
        }
        if (destroys) {
            assert_int_equal(reactor_run(r), 0);
            assert_true(n.acted);
            assert_int_equal(open_descriptors(), descriptors_before);
        } else {
            UNTIL(r, n.acted && n.closes == 1);
            turns(r, 5);
        }
        assert_int_equal(n.closes, 1);
        assert_int_equal(strlen(strchr(n.log, 'c')), 1);
        if (destroys) assert_int_equal(n.reason, *letter == 'c' ? 0 : -ECANCELED);
        if (!destroys) end(r);
    }
}

CASE(a_callback_may_close_its_socket) { act_in_each(do_close, 0); }
CASE(a_callback_may_destroy_the_loop) { act_in_each(do_destroy, 1); }

/* A socket closes another whose datagrams were received before. */
static void close_other(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    const note *other = n->extra;
    (void)d, (void)m;
    reactor_datagram_close(r, other->d);
}

CASE(a_closed_socket_gets_nothing_more) {
    reactor *r = begin();
    note a = {.at_letter = 'm', .act = close_other}, b = {.at_letter = 'm', .act = close_other};
    note c = {0};
    a.extra = &b;
    b.extra = &a;
    open_at(r, "127.0.0.1:0", &a);
    open_at(r, "127.0.0.1:0", &b);
    open_at(r, "127.0.0.1:0", &c);
    for (int i = 0; i < 10; i++) {
        send_text(r, &c, a.address, "x");
        send_text(r, &c, b.address, "x");
    }
    UNTIL(r, a.closes + b.closes == 1 && a.messages + b.messages == 10);
    assert_int_equal(a.closes ? a.messages : b.messages, 0);
    end(r);
}

CASE(handles_go_stale) {
    reactor *r = begin();
    note n = {0}, m = {0};
    reactor_conn conn;
    char text[REACTOR_ADDRESS_MAX];
    reactor_peer peer = peer_of("127.0.0.1:9");
    open_at(r, "127.0.0.1:0", &n);
    conn.id = n.d.id;
    assert_int_equal(reactor_write(r, conn, "x", 1), -EBADF);
    assert_true(reactor_datagram_socket(r, n.d) != (reactor_socket)-1);
    reactor_datagram_close(r, n.d);
    UNTIL(r, n.closes);
    open_at(r, "127.0.0.1:0", &m);
    assert_int_equal(reactor_datagram_send(r, n.d, &peer, "x", 1), -EBADF);
    assert_int_equal(reactor_datagram_close(r, n.d), 0);
    assert_int_equal(reactor_datagram_resume(r, n.d), -EBADF);
    assert_int_equal(reactor_datagram_join(r, n.d, "239.1.2.3"), -EBADF);
    assert_int_equal(reactor_datagram_address(r, n.d, text, sizeof text), -EBADF);
    assert_null(reactor_datagram_state(r, n.d));
    assert_null(reactor_datagram_user(r, n.d));
    assert_int_equal(reactor_datagram_pending(r, n.d), 0);
    assert_true(reactor_datagram_socket(r, n.d) == (reactor_socket)-1);
    assert_int_equal(m.closes, 0);
    end(r);
}

/* ---- what is refused ---- */

CASE(nonsense_is_refused) {
    reactor *r = begin();
    note n = {0}, c = {0};
    reactor_peer peer, six;
    assert_int_equal(open_code(r, "example.com:53", NULL), -ENOTSUP);
    assert_int_equal(open_code(r, "127.0.0.1", NULL), -EINVAL);
    assert_int_equal(open_code(r, NULL, NULL), -EINVAL);
    assert_int_equal(open_code(r, "fd:4000", NULL), -EBADF);
    assert_int_equal(open_code(r, "127.0.0.1:0", &(reactor_datagram_options){.connect = "fd:1"}),
                     -EINVAL);
    assert_int_equal(open_code(r, "127.0.0.1:0", &(reactor_datagram_options){.groups = "10.0.0.1"}),
                     -EINVAL);
    assert_int_equal(open_code(r, "127.0.0.1:0", &(reactor_datagram_options){.groups = "ff02::fb"}),
                     -EAFNOSUPPORT);
    assert_int_equal(
        open_code(r, "127.0.0.1:0",
                  &(reactor_datagram_options){.multicast_interface = "no-such-interface"}),
        -ENODEV);
    assert_int_equal(open_code(r, "127.0.0.1:0", &(reactor_datagram_options){.low_water = 1 << 20}),
                     -EINVAL);
    assert_int_equal(open_code(r, "127.0.0.1:0", &(reactor_datagram_options){.overflow = 9}),
                     -EINVAL);
    assert_int_equal(open_code(r, "127.0.0.1:0", &(reactor_datagram_options){.read_budget = -1}),
                     -EINVAL);
    assert_int_equal(reactor_datagram_open(NULL, "127.0.0.1:0", &handler, NULL, NULL), -EINVAL);
    assert_int_equal(reactor_datagram_open(r, "127.0.0.1:0", NULL, NULL, NULL), -EINVAL);
    open_at(r, "127.0.0.1:0", &n);
    assert_int_equal(open_code(r, n.address, NULL), -EADDRINUSE);
    open_to(r, &n, &c, NULL);
    peer = peer_of(n.address);
    six = peer_of("[::1]:53");
    assert_int_equal(reactor_datagram_send(r, c.d, &peer, "x", 1), -EISCONN);
    assert_int_equal(reactor_datagram_send(r, n.d, NULL, "x", 1), -EDESTADDRREQ);
    assert_int_equal(reactor_datagram_send(r, n.d, &six, "x", 1), -EAFNOSUPPORT);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, NULL, 1), -EINVAL);
    peer.len = 3;
    assert_int_equal(reactor_datagram_send(r, n.d, &peer, "x", 1), -EINVAL);
    assert_int_equal(reactor_peer_parse("127.0.0.1:0", &peer), -EINVAL);
    assert_int_equal(reactor_peer_parse("fd:3", &peer), -EINVAL);
    assert_int_equal(reactor_peer_parse("example.com:53", &peer), -ENOTSUP);
    end(r);
}

CASE(a_connected_socket_hears_its_peer_alone) {
    reactor *r = begin();
    note a = {0}, b = {0}, c = {0};
    open_at(r, "127.0.0.1:0", &a);
    open_at(r, "127.0.0.1:0", &b);
    open_to(r, &a, &c, NULL);
    assert_int_equal(send_text(r, &b, c.address, "stranger"), 0);
    turns(r, 5);
    assert_int_equal(send_text(r, &a, c.address, "friend"), 0);
    UNTIL(r, c.messages == 1);
    assert_memory_equal(c.data, "friend", 6);
    end(r);
}

/* ---- handed over, shared, multicast, unix ---- */

CASE(a_socket_that_was_handed_over) {
    NEEDS_FILES_TO_WATCH;
    reactor *r = begin();
    note n = {.echo = 1};
    struct sockaddr_in a;
    char address[32], got[16];
    int fd = socket(AF_INET, SOCK_DGRAM, 0), stream = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof a), errno);
    snprintf(address, sizeof address, "fd:%d", stream);
    assert_int_equal(open_code(r, address, NULL), -EINVAL);
    assert_true(fcntl(stream, F_GETFD) >= 0);
    close(stream);
    snprintf(address, sizeof address, "fd:%d", fd);
    open_at(r, address, &n);
    assert_int_equal(open_code(r, address, NULL), -EEXIST);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    int peer = plain_to(INADDR_LOOPBACK, port_of(n.address));
    assert_int_equal(send(peer, "hi", 2, 0), 2);
    assert_int_equal(plain_receive(r, peer, got, sizeof got), 2);
    close(peer);
    reactor_datagram_close(r, n.d);
    UNTIL(r, n.closes);
    assert_true(fcntl(fd, F_GETFD) < 0);
    end(r);
}

CASE(several_sockets_share_a_port) {
    NEEDS_REUSE_PORT;
    reactor *r = begin();
    reactor_datagram_options o = {.reuse_port = 1};
    note a = {0}, b = {0};
    open_with(r, "127.0.0.1:0", &a, &o);
    assert_int_equal(open_code(r, a.address, NULL), -EADDRINUSE);
    open_with(r, a.address, &b, &o);
    for (int i = 0; i < 64; i++) {
        int fd = plain_to(INADDR_LOOPBACK, port_of(a.address));
        assert_int_equal(send(fd, "x", 1, 0), 1);
        close(fd);
    }
    UNTIL(r, a.messages + b.messages == 64);
    if (ON_LINUX) assert_true(a.messages > 0 && b.messages > 0);
    end(r);
}

/* The loopback interface's name, if it takes multicast. */
static const char *multicast_loopback(void) {
#ifdef _WIN32
    return NULL;
#else
    static const char *const names[] = {"lo", "lo0"};
    for (size_t i = 0; i < COUNT(names); i++)
        if (if_nametoindex(names[i])) return names[i];
    return NULL;
#endif
}

CASE(members_of_a_group_get_what_is_sent_to_it) {
    const char *name = multicast_loopback();
    if (!name) skip();
    reactor *r = begin();
    char group[64], to[64];
    reactor_datagram_options member = {.reuse_address = 1, .groups = group};
    reactor_datagram_options sender = {
        .multicast_interface = name, .multicast_loop = 1, .multicast_ttl = 2};
    note a = {0}, b = {0}, c = {0};
    snprintf(group, sizeof group, "239.1.2.3%%%s", name);
    open_with(r, "0.0.0.0:0", &a, &member);
    member.groups = NULL;
    open_with(r, a.address, &b, &member);
    assert_int_equal(reactor_datagram_join(r, b.d, group), 0);
    assert_int_equal(reactor_datagram_join(r, b.d, group), -EADDRINUSE);
    open_with(r, "127.0.0.1:0", &c, &sender);
    snprintf(to, sizeof to, "239.1.2.3:%d", port_of(a.address));
    assert_int_equal(send_text(r, &c, to, "all"), 0);
    for (int64_t till = clock_ns() + 500000000; !(a.messages && b.messages) && !c.errors;) {
        turn(r);
        if (clock_ns() < till) continue;
        print_message("the loopback interface carries no multicast here\n");
        end(r);
        skip();
    }
    if (c.errors) {
        print_message("no multicast here: %s\n", reactor_strerror(c.error));
        end(r);
        skip();
    }
    if (ON_LINUX) assert_int_equal(a.from.if_index, (int)if_nametoindex(name));
    assert_int_equal(reactor_datagram_leave(r, b.d, group), 0);
    assert_int_equal(reactor_datagram_leave(r, b.d, group), -EADDRNOTAVAIL);
    assert_int_equal(send_text(r, &c, to, "rest"), 0);
    UNTIL(r, a.messages == 2);
    /* A member's answer comes from its own address, not from the group's. */
    assert_int_equal(reactor_datagram_send(r, a.d, &a.from, "yes", 3), 0);
    UNTIL(r, c.messages == 1);
    assert_int_equal(reactor_datagram_join(r, a.d, "239.1.2.4%no-such-interface"), -ENODEV);
    end(r);
}

/* Whether a datagram to a group of this interface's own scope, which does not leave the machine, comes
   back by it. */
static int carries_groups_of_ipv6(const char *name) {
    reactor *r = begin();
    char group[128], to[128];
    reactor_datagram_options member = {.groups = group};
    reactor_datagram_options sender = {.multicast_interface = name};
    note a = {0}, c = {0};
    snprintf(group, sizeof group, "ff01::1234%%%s, [ff01::1235%%%s]", name, name);
    open_with(r, "[::]:0", &a, &member);
    open_with(r, "[::]:0", &c, &sender);
    snprintf(to, sizeof to, "[ff01::1235%%%s]:%d", name, port_of(a.address));
    assert_int_equal(send_text(r, &c, to, "all"), 0);
    for (int64_t till = clock_ns() + 500000000; !a.messages && !c.errors && clock_ns() < till;)
        turn(r);
    if (c.errors) print_message("%s: %s\n", name, reactor_strerror(c.error));
    int came = a.messages;
    if (came) { /* answered from the member's own address, for nobody sends from a group's */
        assert_int_equal(reactor_datagram_send(r, a.d, &a.from, "yes", 3), 0);
        UNTIL(r, c.messages == 1);
        assert_int_equal(reactor_datagram_leave(r, a.d, strchr(group, '[')), 0);
    }
    end(r);
    return came;
}

CASE(groups_of_ipv6) {
    int came = 0;
    if (!has_ipv6()) skip();
#ifndef _WIN32
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *at = all; at && at->if_index && !came; at++)
        came = carries_groups_of_ipv6(at->if_name);
    if_freenameindex(all);
#endif
    if (came) return;
    print_message("no interface carries multicast of IPv6 here\n");
    skip();
}

CASE(unix_paths_are_made_kept_and_removed_as_a_listeners) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    note n = {.echo = 1}, c = {0}, other = {0};
    struct sockaddr_un a;
    struct stat st;
    char address[64];
    reactor_datagram_options o = {.unix_mode = 0620};
    unix_address(address, sizeof address);
    int dead = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = unix_name(&a, address + 5);
    assert_return_code(bind(dead, (struct sockaddr *)&a, len), errno);
    assert_int_equal(open_code(r, address, NULL), -EADDRINUSE);
    close(dead);
    open_with(r, address, &n, &o);
    assert_int_equal(lstat(address + 5, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0620);
    assert_int_equal(open_code(r, address, NULL), -EADDRINUSE);
    if (ON_LINUX) { /* has a name to be answered at */
        open_to(r, &n, &c, NULL);
        assert_int_equal(reactor_datagram_send(r, c.d, NULL, "hello", 5), 0);
        UNTIL(r, c.messages == 1);
        assert_memory_equal(c.data, "hello", 5);
    }
    reactor_datagram_close(r, n.d);
    UNTIL(r, n.closes);
    assert_int_equal(lstat(address + 5, &st), -1);
    open_at(r, address, &other);
    end(r);
    assert_int_equal(lstat(address + 5, &st), -1);
}

CASE(a_unix_peer_without_a_name_is_one_and_cannot_be_answered) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    note n = {0};
    struct sockaddr_un a;
    char address[64], text[REACTOR_ADDRESS_MAX];
    unix_address(address, sizeof address);
    open_at(r, address, &n);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = unix_name(&a, address + 5);
    assert_int_equal(sendto(fd, "who", 3, 0, (struct sockaddr *)&a, len), 3);
    UNTIL(r, n.messages == 1);
    assert_true(reactor_peer_format(&n.from, text, sizeof text) > 0);
    assert_string_equal(text, "unix:");
    if (!n.from.len)
        assert_int_equal(reactor_datagram_send(r, n.d, &n.from, "you", 3), -EDESTADDRREQ);
    close(fd);
    end(r);
}

/* ---- the loop ---- */

CASE(idle_sockets_cost_nothing) {
    reactor *r = begin();
    note n = {0}, c = {0};
    open_at(r, "127.0.0.1:0", &n);
    open_to(r, &n, &c, NULL);
    assert_int_equal(reactor_datagram_send(r, c.d, NULL, "x", 1), 0);
    UNTIL(r, n.messages == 1);
    assert_no_spin(r);
    end(r);
}

static void drain_and_note(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    (void)d, (void)n, (void)m;
    assert_int_equal(reactor_drain(r, -1), 0);
}

CASE(a_drain_does_not_wait_for_datagrams_and_answers_leave) {
    reactor *r = begin();
    note n = {.echo = 1, .at_letter = 'm', .act = drain_and_note};
    char got[8];
    open_at(r, "127.0.0.1:0", &n);
    int fd = plain_to(INADDR_LOOPBACK, port_of(n.address));
    assert_int_equal(send(fd, "x", 1, 0), 1);
    assert_int_equal(reactor_run(r), 0);
    loopback_settles();
    assert_int_equal(recv(fd, got, sizeof got, 0), 1);
    assert_int_equal(n.closes, 0);
    assert_int_equal(open_code(r, "127.0.0.1:0", NULL), -ECANCELED);
    close(fd);
    end(r);
    assert_int_equal(n.closes, 1);
}

static void note_line(const char *line, void *user) {
    if (strncmp(line, "datagram ", 9) == 0) snprintf(user, 300, "%s", line);
}

CASE(a_socket_is_counted_and_shown) {
    reactor *r = begin();
    note n = {0};
    char line[300] = "";
    reactor_datagram_options o = {.name = "dns"};
    open_with(r, "127.0.0.1:0", &n, &o);
    assert_int_equal(counters(r).datagram_sockets, 1);
    assert_int_equal(reactor_dump(r, note_line, line), 0);
    assert_non_null(strstr(line, "name=dns"));
    assert_non_null(strstr(line, n.address));
    reactor_datagram_close(r, n.d);
    UNTIL(r, n.closes);
    assert_int_equal(counters(r).datagram_sockets, 0);
    end(r);
}

/* A receiver with more than its budget leaves the others their turn. */
static void note_order(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    char *order = n->extra;
    (void)r, (void)d, (void)m;
    size_t len = strlen(order);
    if (len < 500) order[len] = n->seed ? 'b' : 'a';
}

CASE(a_busy_socket_leaves_the_others_their_turn) {
    reactor *r = begin();
    char order[512] = "";
    reactor_datagram_options o = {.read_budget = 1, .offload = -1, .receive_buffer = 512 * KIB};
    note a = {.hook = note_order}, b = {.hook = note_order, .seed = 1}, c = {0};
    a.extra = b.extra = order;
    open_with(r, "127.0.0.1:0", &a, &o);
    open_with(r, "127.0.0.1:0", &b, &o);
    open_at(r, "127.0.0.1:0", &c);
    for (int i = 0; i < 400; i++) send_text(r, &c, a.address, "x");
    send_text(r, &c, b.address, "x");
    UNTIL(r, a.messages == 400 && b.messages == 1);
    assert_non_null(strchr(order, 'b'));
    assert_true(strchr(order, 'b') - order <= 200);
    end(r);
}

#ifndef _WIN32
CASE(a_forked_child_takes_it_over) {
    reactor *r = begin();
    note n = {.echo = 1};
    char got[16];
    int status;
    open_at(r, "127.0.0.1:0", &n);
    int fd = plain_to(INADDR_LOOPBACK, port_of(n.address));
    turns(r, 2);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        if (reactor_fork(r) < 0) _exit(2);
        while (n.messages < 3)
            if (reactor_poll(r, 1000) < 0) _exit(3);
        _exit(0);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send(fd, "child", 5, 0), 5);
        for (;;) {
            struct pollfd p = {fd, POLLIN, 0};
            if (poll(&p, 1, 1000) == 1) break;
        }
        assert_int_equal(recv(fd, got, sizeof got, 0), 5);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(send(fd, "parent", 6, 0), 6);
    assert_int_equal(plain_receive(r, fd, got, sizeof got), 6);
    close(fd);
    end(r);
}

/* A child destroys its copy inside the callback; the parent goes on. */
static void fork_and_destroy(reactor *r, reactor_datagram d, note *n, const reactor_message *m) {
    int status;
    (void)d, (void)m;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        reactor_destroy(r);
        n->closes = 100; /* nothing more may be called here */
        return;
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

CASE(a_forked_child_destroys_its_copy_in_a_callback) {
    NEEDS_UNIX_PAIRS;
    reactor *r = begin();
    note n = {.echo = 1, .at_letter = 'm', .act = fork_and_destroy}, c = {0};
    char address[64];
    struct stat st;
    pid_t self = getpid();
    unix_address(address, sizeof address);
    open_at(r, address, &n);
    open_to(r, &n, &c, NULL);
    for (int i = 0; i < 3; i++) assert_int_equal(reactor_datagram_send(r, c.d, NULL, "x", 1), 0);
    while (c.messages < 3 && reactor_poll(r, 5) >= 0 && getpid() == self) {
    }
    if (getpid() != self) _exit(n.messages == 1 && n.closes == 100 ? 0 : 1);
    if (ON_LINUX) assert_int_equal(c.messages, 3);
    assert_int_equal(lstat(address + 5, &st), 0);
    end(r);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(echo_over_ipv4),
        TEST(echo_over_ipv6),
        TEST(every_address_takes_both_families_and_answers_from_the_one_asked),
        TEST(a_peer_of_ipv4_can_be_sent_to_by_a_socket_of_both_families),
        TEST(a_peer_can_be_answered_later),
        TEST(a_datagram_without_bytes_is_one),
        TEST(one_that_is_too_long_is_cut_and_told),
        TEST(the_longest_arrives_and_a_longer_one_is_EMSGSIZE),
        TEST(two_loops_exchange_datagrams),
        TEST(each_arrives_as_it_was_sent),
        TEST(each_arrives_as_it_was_sent_cut_by_the_system_joined_by_nobody),
        TEST(each_arrives_as_it_was_sent_without_the_systems_help),
        TEST(joined_datagrams_are_told_one_by_one),
        TEST(a_hundred_thousand_in_bursts),
        TEST(each_of_many_peers_gets_its_own),
        TEST(sends_of_a_turn_leave_at_its_end),
        TEST(a_connected_socket_hears_that_nobody_listens_and_goes_on),
        TEST(the_peer_that_refused_is_named),
        TEST(a_send_that_is_told_of_an_earlier_one_is_made_again),
        TEST(on_error_may_send_what_fails_again),
        TEST(a_datagram_the_system_does_not_take_is_told_with_its_peer),
        TEST(without_on_error_errors_are_passed_over),
        TEST(a_full_queue_refuses_and_tells_when_there_is_room),
        TEST(a_full_queue_drops_the_newest),
        TEST(a_full_queue_drops_the_oldest),
        TEST(on_writable_may_fill_the_queue_again),
        TEST(a_unix_peer_that_does_not_read_does_not_hold_up_the_others),
        TEST(a_pause_holds_what_was_received_already),
        TEST(a_stop_holds_what_was_received_already),
        TEST(a_paused_socket_does_not_keep_the_loop_going),
        TEST(what_is_queued_at_a_close_leaves_first),
        TEST(a_close_does_not_wait_for_ever),
        TEST(a_callback_may_close_its_socket),
        TEST(a_callback_may_destroy_the_loop),
        TEST(a_closed_socket_gets_nothing_more),
        TEST(handles_go_stale),
        TEST(nonsense_is_refused),
        TEST(a_connected_socket_hears_its_peer_alone),
        TEST(a_socket_that_was_handed_over),
        TEST(several_sockets_share_a_port),
        TEST(members_of_a_group_get_what_is_sent_to_it),
        TEST(groups_of_ipv6),
        TEST(unix_paths_are_made_kept_and_removed_as_a_listeners),
        TEST(a_unix_peer_without_a_name_is_one_and_cannot_be_answered),
        TEST(idle_sockets_cost_nothing),
        TEST(a_drain_does_not_wait_for_datagrams_and_answers_leave),
        TEST(a_socket_is_counted_and_shown),
        TEST(a_busy_socket_leaves_the_others_their_turn),
#ifndef _WIN32
        TEST(a_forked_child_takes_it_over),
        TEST(a_forked_child_destroys_its_copy_in_a_callback),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
