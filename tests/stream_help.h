/* What the tests of addresses, streams and limits share: a handler that records every call in a
   probe and lets a test hook into it, listeners and plain peers for it, data whose every byte is
   known, and ways for a peer to send and receive while the loop turns. */
#ifndef STREAM_HELP_H
#define STREAM_HELP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "harness.h"

#include <stddef.h>
#ifndef _WIN32
#include <net/if.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#endif

#define HELPER static __attribute__((unused))

/* A test's head; its name says which law, call or promise it is about. */
#define CASE(f) static void f(void **state __attribute__((unused)))

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { KIB = 1024, MIB = 1024 * 1024 };

/* ---- the loop ---- */

/* Both have to be over before something is said never to come: a machine that stopped for a while has
   no turns to show. */
enum { UNTIL_LIMIT_S = 20, UNTIL_TURNS = 4000 };

static int descriptors_before;

/* A loop, and its end with the proof that no descriptor was left behind: a test closes its own
   before. */
HELPER reactor *begin_with(const reactor_options *o) {
    descriptors_before = open_descriptors();
    return make_loop_with(o);
}
HELPER reactor *begin(void) { return begin_with(NULL); }
HELPER void end(reactor *r) {
    reactor_destroy(r);
    assert_int_equal(open_descriptors(), descriptors_before);
}

/* Waits a little, for the condition may depend on what the loop does not watch. */
HELPER int turn(reactor *r) {
    int e = reactor_poll(r, 5);
    if (e < 0) fail_msg("reactor_poll: %s", reactor_strerror(e));
    return e;
}
/* What never comes fails here, before the limit that would end the whole program. */
#define UNTIL(r, condition)                                                                        \
    do {                                                                                           \
        int64_t until_limit = clock_ns() + UNTIL_LIMIT_S * INT64_C(1000000000);                    \
        for (int until_turns = 0; !(condition); until_turns++) {                                   \
            if (until_turns > UNTIL_TURNS && clock_ns() > until_limit)                             \
                fail_msg("did not come: %s", #condition);                                          \
            turn(r);                                                                               \
        }                                                                                          \
    } while (0)

/* So many turns that do not wait: for what must not happen. */
HELPER void turns(reactor *r, int n) {
    while (n-- > 0) {
        int e = reactor_poll(r, 0);
        if (e < 0) fail_msg("reactor_poll: %s", reactor_strerror(e));
    }
}

/* After a few turns nothing is reported any more: a loop that waited would sleep. */
HELPER void assert_no_spin(reactor *r) {
    reactor_counters before, after;
    turns(r, 5);
    assert_int_equal(reactor_stats(r, &before), 0);
    turns(r, 20);
    assert_int_equal(reactor_stats(r, &after), 0);
    assert_int_equal(after.events, before.events);
    assert_int_equal(after.callbacks, before.callbacks);
}

/* Turns for so long: for a time that must not run out. */
HELPER void pass(reactor *r, int64_t ms) {
    for (int64_t till = clock_ns() + ms * 1000000; clock_ns() < till;) turn(r);
}

HELPER reactor_counters counters(const reactor *r) {
    reactor_counters c;
    memset(&c, 0xff, sizeof c);
    assert_int_equal(reactor_stats(r, &c), 0);
    return c;
}

/* ---- data ---- */

/* Byte number offset of the stream that seed names. */
HELPER char pattern_at(unsigned seed, uint64_t offset) {
    uint64_t x = (offset + 1) * UINT64_C(0x9E3779B97F4A7C15) + seed;
    x ^= x >> 29;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    return (char)(x >> 56);
}

HELPER void pattern_fill(char *out, size_t len, unsigned seed, uint64_t offset) {
    for (size_t i = 0; i < len; i++) out[i] = pattern_at(seed, offset + i);
}

HELPER void pattern_check(const char *data, size_t len, unsigned seed, uint64_t offset) {
    for (size_t i = 0; i < len; i++)
        if (data[i] != pattern_at(seed, offset + i))
            fail_msg("byte %llu differs, seed %u", (unsigned long long)(offset + i), seed);
}

/* New memory with so much of the stream. */
HELPER char *pattern_new(size_t len, unsigned seed, uint64_t offset) {
    char *data = malloc(len ? len : 1);
    assert_non_null(data);
    pattern_fill(data, len, seed, offset);
    return data;
}

/* A small generator, so that a seed means the same everywhere. */
HELPER size_t random_below(uint64_t *seed, size_t n) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(*seed >> 33) % n;
}

/* An open file without a name that holds len bytes of the stream from offset on. */
HELPER int pattern_file(size_t len, unsigned seed, uint64_t offset) {
    char path[] = "/tmp/reactor-test-XXXXXX";
    char *data = pattern_new(len, seed, offset);
    int fd = mkstemp(path);
    assert_return_code(fd, errno);
    unlink(path);
    assert_int_equal(pwrite(fd, data, len, 0), (ssize_t)len);
    free(data);
    return fd;
}

/* ---- the probe ---- */

typedef struct probe probe;
typedef void probe_hook(reactor *r, reactor_conn c, probe *p);

/* What came of the connections whose user it is. */
struct probe {
    int opens, datas, eofs, drains, writables, timeouts, closes; /* calls */
    char log[128];     /* a letter for each: o d e r w t c (r is on_drain) */
    reactor_conn conn; /* the latest that opened */
    int reason;        /* of the latest on_close */
    int which;         /* of the latest on_timeout */
    int64_t at;        /* clock of the latest on_timeout or on_close */
    size_t offered;    /* to the latest on_data */
    const char *bytes; /* what that was, good inside the hook */
    size_t eat;        /* inside the hook: how much on_data will consume */
    size_t in;         /* consumed in all */
    char text[4096];   /* the first of it */
    /* set by the test */
    int hold;    /* on_data consumes nothing */
    size_t most; /* on_data consumes at most so much; 0: all */
    int stay;    /* on_eof does not close */
    int answer;  /* what on_timeout and on_drain return */
    probe_hook *open, *data, *eof, *writable, *timeout, *close;
    char at_letter; /* with act: called inside the first callback of this letter */
    probe_hook *act;
    int acted;
    void *extra;
};

/* The connection's state, by which the order of its own callbacks is checked. */
typedef struct probe_state {
    int phase; /* 0 new, 1 open, 2 closed */
    int pad;
    uint64_t id;
    unsigned char zero[40];
} probe_state;

HELPER probe *probe_enter(reactor *r, reactor_conn c, void *state, char letter) {
    static const probe_state fresh;
    probe *p = reactor_user(r, c);
    probe_state *s = state;
    assert_non_null(p);
    assert_non_null(s);
    assert_ptr_equal(reactor_state(r, c), state);
    if (letter == 'o' || (letter == 'c' && s->phase == 0)) {
        assert_memory_equal(s, &fresh, sizeof fresh);
        s->id = c.id;
        s->phase = letter == 'o' ? 1 : 2;
    } else {
        assert_int_equal(s->phase, 1);
        assert_true(s->id == c.id);
        if (letter == 'c') s->phase = 2;
    }
    if (letter == 'o') p->conn = c;
    size_t n = strlen(p->log);
    if (n + 1 < sizeof p->log) p->log[n] = letter;
    return p;
}

HELPER void probe_leave(reactor *r, reactor_conn c, probe *p, char letter, probe_hook *hook) {
    if (hook) hook(r, c, p);
    if (!p->act || p->at_letter != letter || p->acted) return;
    p->acted = 1;
    p->act(r, c, p);
}

HELPER void probe_on_open(reactor *r, reactor_conn c, void *state) {
    probe *p = probe_enter(r, c, state, 'o');
    p->opens++;
    probe_leave(r, c, p, 'o', p->open);
}

HELPER size_t probe_on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    probe *p = probe_enter(r, c, state, 'd');
    assert_true(len > 0);
    p->datas++;
    p->offered = len;
    p->bytes = data;
    p->eat = p->hold ? 0 : p->most && p->most < len ? p->most : len;
    probe_leave(r, c, p, 'd', p->data);
    for (size_t i = 0; i < p->eat && p->in + i < sizeof p->text - 1; i++)
        p->text[p->in + i] = p->bytes[i];
    p->in += p->eat;
    return p->eat;
}

HELPER void probe_on_eof(reactor *r, reactor_conn c, void *state) {
    probe *p = probe_enter(r, c, state, 'e');
    int stay = p->stay;
    p->eofs++;
    probe_leave(r, c, p, 'e', p->eof);
    if (!stay) reactor_close(r, c);
}

HELPER int probe_on_drain(reactor *r, reactor_conn c, void *state) {
    probe *p = probe_enter(r, c, state, 'r');
    p->drains++;
    return p->answer;
}

HELPER void probe_on_writable(reactor *r, reactor_conn c, void *state) {
    probe *p = probe_enter(r, c, state, 'w');
    p->writables++;
    probe_leave(r, c, p, 'w', p->writable);
}

HELPER int probe_on_timeout(reactor *r, reactor_conn c, int which, void *state) {
    probe *p = probe_enter(r, c, state, 't');
    p->at = clock_ns();
    p->timeouts++;
    p->which = which;
    probe_leave(r, c, p, 't', p->timeout);
    return p->answer;
}

HELPER void probe_on_close(reactor *r, reactor_conn c, int reason, void *state) {
    probe *p = probe_enter(r, c, state, 'c');
    p->at = clock_ns();
    p->closes++;
    p->reason = reason;
    probe_leave(r, c, p, 'c', p->close);
}

/* All but on_drain, for its absence means something. */
static const reactor_handler probe_handler __attribute__((unused)) = {
    sizeof(probe_state), probe_on_open,    probe_on_data, probe_on_eof, NULL,
    probe_on_writable,   probe_on_timeout, probe_on_close};
static const reactor_handler drain_handler __attribute__((unused)) = {
    sizeof(probe_state), probe_on_open,     probe_on_data,    probe_on_eof,
    probe_on_drain,      probe_on_writable, probe_on_timeout, probe_on_close};
static const reactor_handler null_handler
    __attribute__((unused)) = {0, NULL, NULL, NULL, NULL, NULL, NULL, NULL};

/* Sends back what came, in the pieces that the probe consumes. */
HELPER void hook_echo(reactor *r, reactor_conn c, probe *p) {
    assert_true(reactor_write(r, c, p->bytes, p->eat) >= 0);
}

HELPER void hook_close(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_close(r, c), 0);
}

HELPER void hook_pause(reactor *r, reactor_conn c, probe *p) {
    (void)p;
    assert_int_equal(reactor_pause(r, c), 0);
}

/* ---- peers: plain sockets, outside the loop ---- */

HELPER void unblock(int fd) {
    assert_return_code(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), errno);
}

HELPER int has_ipv6(void) {
    struct sockaddr_in6 a;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), yes;
    memset(&a, 0, sizeof a);
    a.sin6_family = AF_INET6;
    a.sin6_addr = in6addr_loopback;
    yes = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (fd >= 0) close(fd);
    return yes;
}

/* The number behind the last colon. */
HELPER int port_of(const char *address) {
    const char *colon = strrchr(address, ':');
    assert_non_null(colon);
    return atoi(colon + 1);
}

HELPER socklen_t unix_name(struct sockaddr_un *a, const char *path) {
    size_t len = strlen(path);
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    assert_true(len < sizeof a->sun_path);
    memcpy(a->sun_path, path, len);
    if (path[0] != '@') return (socklen_t)sizeof *a;
    a->sun_path[0] = 0;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

HELPER int dial_unix(const char *path) {
    struct sockaddr_un a;
    socklen_t len = unix_name(&a, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(fd, errno);
    assert_return_code(connect(fd, (struct sockaddr *)&a, len), errno);
    unblock(fd);
    return fd;
}

HELPER int dial_ipv4(int port) {
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(fd, errno);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(connect(fd, (struct sockaddr *)&a, sizeof a), errno);
    unblock(fd);
    return fd;
}

HELPER int dial_ipv6(int port) {
    struct sockaddr_in6 a;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(fd, errno);
    memset(&a, 0, sizeof a);
    a.sin6_family = AF_INET6;
    a.sin6_port = htons((uint16_t)port);
    a.sin6_addr = in6addr_loopback;
    assert_return_code(connect(fd, (struct sockaddr *)&a, sizeof a), errno);
    unblock(fd);
    return fd;
}

/* Connects to what a listener's address says, on this machine. */
HELPER int dial(const char *address) {
    if (strncmp(address, "unix:", 5) == 0) return dial_unix(address + 5);
    if (strncmp(address, "127.", 4) == 0) return dial_ipv4(port_of(address));
    return dial_ipv6(port_of(address));
}

/* A plain IPv4 socket bound to a free port; its address as text. Not listening, it refuses. */
HELPER int bound(char address[REACTOR_ADDRESS_MAX]) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(fd, errno);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(getsockname(fd, (struct sockaddr *)&a, &len), errno);
    snprintf(address, REACTOR_ADDRESS_MAX, "127.0.0.1:%d", ntohs(a.sin_port));
    return fd;
}

/* "unix:" and a path that nobody has yet; no abstract name, for only Linux has those. */
HELPER void unix_address(char *out, size_t size) {
    static int n;
    snprintf(out, size, "unix:/tmp/reactor-test-%d-%d", (int)getpid(), n++);
}

/* The address of a unix socket that nobody holds any more: it refuses. To be unlinked. */
HELPER void dead_unix_address(char *out, size_t size) {
    struct sockaddr_un a;
    unix_address(out, size);
    socklen_t len = unix_name(&a, out + strlen("unix:"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(fd, (struct sockaddr *)&a, len), errno);
    close(fd);
}

/* Whether all of 127.0.0.0/8 is this machine, and not 127.0.0.1 alone, as on the BSDs. */
HELPER int has_loopback_net(void) {
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(0x7f000005);
    int is = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return is;
}

/* A plain listener, non-blocking. */
HELPER int answering(char address[REACTOR_ADDRESS_MAX]) {
    int fd = bound(address);
    assert_return_code(listen(fd, 64), errno);
    unblock(fd);
    return fd;
}

/* A plain listener whose queue is full, so that a connect to it hangs. */
enum { HANGING = 6 };
HELPER void hanging(int fd[HANGING], char address[REACTOR_ADDRESS_MAX]) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    fd[0] = bound(address);
    assert_return_code(listen(fd[0], 0), errno);
    assert_return_code(getsockname(fd[0], (struct sockaddr *)&a, &len), errno);
    for (int i = 1; i < HANGING; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_return_code(fd[i], errno);
        if (connect(fd[i], (struct sockaddr *)&a, len) < 0) assert_int_equal(errno, EINPROGRESS);
    }
    struct pollfd p = {fd[HANGING - 1], POLLOUT, 0};
    assert_int_equal(poll(&p, 1, 20), 0);
}
HELPER void unhang(const int fd[HANGING]) {
    for (int i = 0; i < HANGING; i++) close(fd[i]);
}

HELPER int accept_plain(reactor *r, int listener) {
    int fd = -1;
    UNTIL(r, (fd = accept(listener, NULL, NULL)) >= 0);
    unblock(fd);
    return fd;
}

/* All of it, however slowly the other side takes it. */
HELPER void peer_send(reactor *r, int fd, const void *data, size_t len) {
    const char *at = data;
    while (len) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else {
            assert_int_equal(errno, EAGAIN);
            turn(r);
        }
    }
}

HELPER void peer_say(reactor *r, int fd, const char *text) { peer_send(r, fd, text, strlen(text)); }

/* As much as the other side takes without being read. */
HELPER size_t peer_flood(reactor *r, int fd, size_t limit) {
    static const char zeros[16384];
    size_t sent = 0;
    for (int idle = 0; idle < 20 && sent < limit;) {
        ssize_t n = send(fd, zeros, sizeof zeros, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        idle = n > 0 ? 0 : idle + 1;
        turns(r, 1);
    }
    return sent;
}

/* Exactly len bytes; an end before is a failure. */
HELPER void peer_take(reactor *r, int fd, char *out, size_t len) {
    while (len) {
        ssize_t n = recv(fd, out, len, 0);
        if (n == 0) fail_msg("end of file, %zu bytes before the end", len);
        if (n > 0) {
            out += n;
            len -= (size_t)n;
        } else {
            assert_int_equal(errno, EAGAIN);
            turn(r);
        }
    }
}

HELPER void peer_hears(reactor *r, int fd, const char *text) {
    char got[4096];
    size_t len = strlen(text);
    assert_true(len < sizeof got);
    peer_take(r, fd, got, len);
    got[len] = 0;
    assert_string_equal(got, text);
}

HELPER void peer_takes_pattern(reactor *r, int fd, size_t len, unsigned seed, uint64_t offset) {
    char got[16384];
    while (len) {
        size_t n = len < sizeof got ? len : sizeof got;
        peer_take(r, fd, got, n);
        pattern_check(got, n, seed, offset);
        offset += n;
        len -= n;
    }
}

/* Reads until it ends: 0 for end of file, else the errno. Counts the bytes before. */
HELPER int peer_end(reactor *r, int fd, size_t *bytes) {
    char got[16384];
    for (*bytes = 0;;) {
        ssize_t n = recv(fd, got, sizeof got, 0);
        if (n == 0) return 0;
        if (n > 0)
            *bytes += (size_t)n;
        else if (errno != EAGAIN)
            return errno;
        else
            turn(r);
    }
}

/* The next thing is end of file: no byte and no reset before. */
HELPER void peer_sees_eof(reactor *r, int fd) {
    size_t bytes;
    int e = peer_end(r, fd, &bytes);
    if (e) fail_msg("not end of file but %s", strerror(e));
    assert_int_equal(bytes, 0);
}

/* Discards what has come so far. */
HELPER size_t peer_discard(int fd) {
    char got[16384];
    size_t bytes = 0;
    for (ssize_t n; (n = recv(fd, got, sizeof got, 0)) > 0;) bytes += (size_t)n;
    return bytes;
}

/* ---- connections under test ---- */

typedef struct server {
    reactor_listener l;
    char address[REACTOR_ADDRESS_MAX];
} server;

/* Listens for connections whose user is p. */
HELPER server serve_with(reactor *r, const char *address, const reactor_handler *h, probe *p,
                         const reactor_listen_options *given) {
    server s;
    reactor_listen_options o;
    memset(&s, 0, sizeof s);
    memset(&o, 0, sizeof o);
    if (given) o = *given;
    o.conn.user = p;
    int e = reactor_listen(r, address, h, &o, &s.l);
    if (e < 0) fail_msg("reactor_listen(%s): %s", address, reactor_strerror(e));
    assert_true(reactor_listener_address(r, s.l, s.address, sizeof s.address) > 0);
    return s;
}

HELPER server serve(reactor *r, probe *p) {
    return serve_with(r, "127.0.0.1:0", &probe_handler, p, NULL);
}

/* Over a unix socket, whose buffers do not grow: what exceeds some 400 KiB stays in the queue. */
HELPER server serve_unix(reactor *r, probe *p, const reactor_listen_options *o) {
    NEEDS_UNIX_PAIRS;
    char address[64];
    unix_address(address, sizeof address);
    return serve_with(r, address, &probe_handler, p, o);
}

/* A peer whose connection has been accepted and opened. */
HELPER int visit(reactor *r, const server *s, probe *p) {
    int before = p->opens, fd = dial(s->address);
    UNTIL(r, p->opens > before);
    return fd;
}

HELPER reactor_conn probe_connect(reactor *r, const char *addresses, probe *p,
                                  const reactor_connect_options *given) {
    reactor_connect_options o;
    reactor_conn c = {0};
    memset(&o, 0, sizeof o);
    if (given) o = *given;
    o.conn.user = p;
    int e = reactor_connect(r, addresses, &probe_handler, &o, &c);
    if (e < 0) fail_msg("reactor_connect(%s): %s", addresses, reactor_strerror(e));
    assert_true(c.id != 0);
    return c;
}

HELPER reactor_conn attach_as(reactor *r, int fd, probe *p, const reactor_conn_options *given) {
    reactor_conn_options o;
    reactor_conn c = {0};
    memset(&o, 0, sizeof o);
    if (given) o = *given;
    o.user = p;
    int e = reactor_attach(r, fd, &probe_handler, &o, &c);
    if (e < 0) fail_msg("reactor_attach: %s", reactor_strerror(e));
    return c;
}

/* One end of a new pair, opened; returns the other. */
HELPER int attach_pair(reactor *r, probe *p, const reactor_conn_options *o) {
    int fd[2], before = p->opens;
    make_pair(fd);
    attach_as(r, fd[0], p, o);
    UNTIL(r, p->opens > before);
    return fd[1];
}

/* The same over TCP. */
HELPER int attach_tcp_pair(reactor *r, probe *p, const reactor_conn_options *o) {
    int fd[2], before = p->opens;
    make_tcp_pair(fd);
    attach_as(r, fd[0], p, o);
    UNTIL(r, p->opens > before);
    return fd[1];
}

/* ---- memory and files handed over ---- */

typedef struct receipt {
    int calls;  /* of free_fn or done */
    int result; /* of done */
    int shut;   /* in done: the file was closed before */
    int file;   /* to look at */
    size_t len;
    const void *data;
    const probe *of;
    int closes; /* of the connection at that time */
} receipt;

HELPER void note_free(void *data, size_t len, void *user) {
    receipt *got = user;
    got->calls++;
    got->data = data;
    got->len = len;
    if (got->of) got->closes = got->of->closes;
}

HELPER void free_and_note(void *data, size_t len, void *user) {
    note_free(data, len, user);
    free(data);
}

HELPER void note_done(reactor *r, reactor_conn c, int result, void *user) {
    receipt *got = user;
    (void)r, (void)c;
    got->calls++;
    got->result = result;
    got->shut = fcntl(got->file, F_GETFD) < 0;
    if (got->of) got->closes = got->of->closes;
}

/* Queues so much of a pattern as one owned piece; what it returned. */
HELPER int write_pattern(reactor *r, reactor_conn c, size_t len, unsigned seed, uint64_t offset,
                         receipt *freed) {
    return reactor_write_owned(r, c, pattern_new(len, seed, offset), len, free_and_note, freed);
}

#endif
