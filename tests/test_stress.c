/* Random calls from random callbacks on random objects, with peers that behave and peers that do not,
   and rules that are checked from outside: callbacks are never nested, on_close comes once and last,
   each free function and each done comes once, nothing is called after a close but those, bytes
   arrive in order, an end of file means that all of them have arrived, a loop with nothing to do
   sleeps, and nothing is left after destroy. A second variant makes allocations and system calls
   fail at random. REACTOR_TEST_SEED gives a run the same calls
   again, as far as timeouts and the kernel let them come in the same order; REACTOR_TEST_STEPS and
   REACTOR_TEST_RUNS make it longer. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* ---- faults ---- */

static struct {
    uint64_t seed;
    int one_in; /* 0: none */
    long hits;
    long live;
    size_t bytes;
} fault;

static int fault_now(int error) {
    if (!fault.one_in) return 0;
    fault.seed = fault.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    if ((fault.seed >> 33) % (unsigned)fault.one_in) return 0;
    fault.hits++;
    errno = error;
    return 1;
}

static void *counted_realloc(void *old, size_t size) {
    size_t *p = old ? (size_t *)old - 2 : NULL, before = p ? *p : 0;
    if (fault_now(ENOMEM)) return NULL;
    p = realloc(p, size + 2 * sizeof *p);
    if (!p) return NULL;
    *p = size;
    __atomic_fetch_add(&fault.live, !old, __ATOMIC_RELAXED);
    __atomic_fetch_add(&fault.bytes, size - before, __ATOMIC_RELAXED);
    return p + 2;
}
static void *counted_malloc(size_t size) { return counted_realloc(NULL, size); }
static void counted_free(void *memory) {
    if (!memory) return;
    size_t *p = (size_t *)memory - 2;
    __atomic_fetch_sub(&fault.live, 1, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&fault.bytes, *p, __ATOMIC_RELAXED);
    free(p);
}

static int fault_int(int result) { return result; }
static long fault_long(long result) { return result; }
static ssize_t fault_size(ssize_t result) { return result; }

#define FAULTY_INT(error, call)  fault_int(fault_now(error) ? -1 : (call))
#define FAULTY_SIZE(error, call) fault_size(fault_now(EINTR) || fault_now(error) ? -1 : (call))

#define read(...)          FAULTY_SIZE(EIO, read(__VA_ARGS__))
#define write(...)         FAULTY_SIZE(EIO, write(__VA_ARGS__))
#define recv(...)          FAULTY_SIZE(ENOBUFS, recv(__VA_ARGS__))
#define send(...)          FAULTY_SIZE(ENOBUFS, send(__VA_ARGS__))
#define sendmsg(...)       FAULTY_SIZE(ENOMEM, sendmsg(__VA_ARGS__))
#define writev(...)        FAULTY_SIZE(EIO, writev(__VA_ARGS__))
#define sendfile(...)      FAULTY_SIZE(EINVAL, sendfile(__VA_ARGS__))
#define pread(...)         FAULTY_SIZE(EIO, pread(__VA_ARGS__))
#define epoll_ctl(...)     FAULTY_INT(ENOMEM, epoll_ctl(__VA_ARGS__))
#define epoll_create1(...) FAULTY_INT(EMFILE, epoll_create1(__VA_ARGS__))
#define poll(...)          FAULTY_INT(ENOMEM, poll(__VA_ARGS__))
#define pselect(...)       FAULTY_INT(EINTR, pselect(__VA_ARGS__))
#define epoll_wait(...)    FAULTY_INT(EINTR, epoll_wait(__VA_ARGS__))
#define eventfd(...)       FAULTY_INT(EMFILE, eventfd(__VA_ARGS__))
#define socket(...)        FAULTY_INT(EMFILE, socket(__VA_ARGS__))
#define getpeername(...)   FAULTY_INT(ENOBUFS, getpeername(__VA_ARGS__))
#define setsockopt(...)    FAULTY_INT(ENOBUFS, setsockopt(__VA_ARGS__))
#define shutdown(...)      FAULTY_INT(ENOBUFS, shutdown(__VA_ARGS__))
#define connect(...)       FAULTY_INT(ENETUNREACH, connect(__VA_ARGS__))
#define mmap(...)          (fault_now(ENOMEM) ? MAP_FAILED : mmap(__VA_ARGS__))
#define syscall(number, ...)                                                                       \
    fault_long(fault_now((number) == SYS_accept4 ? EMFILE : EINTR) ? -1                            \
                                                                   : syscall(number, __VA_ARGS__))

#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#define REACTOR__CHECKS
#define REACTOR_MALLOC(size)       counted_malloc(size)
#define REACTOR_REALLOC(old, size) counted_realloc(old, size)
#define REACTOR_FREE(memory)       counted_free(memory)
#include "../reactor.h"

#undef read
#undef write
#undef recv
#undef send
#undef sendmsg
#undef writev
#undef sendfile
#undef pread
#undef epoll_ctl
#undef epoll_create1
#undef poll
#undef pselect
#undef epoll_wait
#undef eventfd
#undef socket
#undef getpeername
#undef setsockopt
#undef shutdown
#undef connect
#undef mmap
#undef syscall

#include "stream_help.h"

/* ---- the world ---- */

enum { CONNS = 24, RAWS = 16, WATCHERS = 8, TIMERS = 12, ASYNCS = 4, LISTENERS = 3, STEPS = 600 };

/* One end of a stream of known bytes: a connection's, or a plain socket's. */
typedef struct tip {
    unsigned id;
    uint64_t in, out;
    unsigned char head[4]; /* the first bytes name the other one */
    int fin;               /* nothing more comes from it, in order */
    int eof;               /* was told or read the other one's end */
    int relay;             /* input goes on while output is high */
    int tcp;
    int bad_end; /* ended otherwise than in order */
    int gone;
    int hasty; /* a close timeout ends it, also as what its peer sends is on its way */
    uint64_t whole;
} tip;

typedef struct conn_rec {
    tip *t;
    reactor_conn c;
    int opened, closed, quiet; /* quiet: nothing but done and on_close may come */
    int paused, blocked, reason;
    int frees, dones; /* due */
    int attached;
    struct conn_rec *next;
} conn_rec;

typedef struct raw {
    tip *t;
    int fd, mode;
} raw;
enum { ORDERLY, DEAF, SLOW, FLOOD, MODES };

static struct world {
    reactor *r;
    uint64_t seed, start;
    int step, inside, quiet, faults, ending, drained, offering_part, in_child, threads;
    conn_rec *links; /* all there were */
    conn_rec *live[CONNS];
    conn_rec *offering;
    reactor_conn stale[8];
    raw raws[RAWS];
    reactor_listener listener[LISTENERS];
    char address[LISTENERS][REACTOR_ADDRESS_MAX];
    int watched[WATCHERS], other[WATCHERS], is_watched[WATCHERS];
    reactor_timer timer[TIMERS];
    reactor_async async[ASYNCS];
    int signalled;
    tip *tips[1 << 16];
    unsigned tip_count;
    long frees, dones, buffers, tasks;
    long opens, closes, bytes, eofs, writables;
    char history[256][96];
    int history_at;
} w;

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *line = w.history[w.history_at++ % 256];
    int n = snprintf(line, 96, "%d ", w.step);
    vsnprintf(line + n, (size_t)(96 - n), format, args);
    va_end(args);
}

static void show(const char *line, void *user) {
    (void)user;
    print_error("  | %s\n", line);
}

static void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void broken(const char *format, ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (int i = w.history_at > 256 ? w.history_at - 256 : 0; i < w.history_at; i++)
        print_error("  %s\n", w.history[i % 256]);
    if (w.r) reactor_dump(w.r, show, NULL);
    print_error("STRESS: %s; step %d, %s; repeat with REACTOR_TEST_SEED=%llu\n", text, w.step,
                w.faults ? "with faults" : "without faults", (unsigned long long)w.start);
    fflush(NULL);
    _exit(3);
}

static int below(int n) { return (int)random_below(&w.seed, (size_t)n); }

static tip *tip_new(void) {
    tip *t = calloc(1, sizeof *t);
    if (w.tip_count == 1 << 16) broken("too many");
    t->id = w.tip_count;
    w.tips[w.tip_count++] = t;
    return t;
}

static char byte_of(const tip *t, uint64_t at) {
    if (at >= 4) return pattern_at(t->id, at);
    return (char)(t->id >> (8 * at));
}

static char *bytes_of(const tip *t, uint64_t at, size_t len) {
    char *p = malloc(len ? len : 1);
    for (size_t i = 0; i < len; i++) p[i] = byte_of(t, at + i);
    return p;
}

static tip *partner(const tip *t) {
    unsigned id = 0;
    if (t->in < 4) return NULL;
    for (int i = 0; i < 4; i++) id |= (unsigned)t->head[i] << (8 * i);
    if (id >= w.tip_count) broken("tip %u: first bytes name %u", t->id, id);
    return w.tips[id];
}

static void take(tip *t, const char *data, size_t len) {
    for (; len && t->in < 4; len--) t->head[t->in++] = (unsigned char)*data++;
    w.bytes += (long)len;
    tip *p = partner(t);
    if (!p || !len) return;
    if (t->in + len > p->out) broken("tip %u: more input than %u has sent", t->id, p->id);
    for (size_t i = 0; i < len; i++)
        if (data[i] != byte_of(p, t->in + i))
            broken("tip %u: byte %llu is wrong", t->id, (unsigned long long)(t->in + i));
    t->in += len;
}

/* That an end of file was read or told. */
static void ended(tip *t, size_t left) {
    tip *p = partner(t);
    t->eof = 1;
    t->whole = t->in + left;
    w.eofs++;
    if (!p || w.ending || (p->bad_end && !t->tcp)) return; /* only TCP has resets */
    if (!p->fin)
        broken("tip %u: end of file, but %u has not finished (tcp %d %d, conn %d)", t->id, p->id,
               t->tcp, p->tcp, w.inside);
    if (t->in + left != p->out)
        broken("tip %u: end of file after %llu of %llu bytes of %u (tcp %d %d, conn %d)", t->id,
               (unsigned long long)(t->in + left), (unsigned long long)p->out, p->id, t->tcp,
               p->tcp, w.inside);
}

/* ---- callbacks ---- */

static void act(int most);

static void enter(void) {
    if (w.inside) broken("a callback inside a callback");
    w.inside = 1;
}
static void leave(void) { w.inside = 0; }

typedef struct conn_state {
    conn_rec *l;
    char zero[28];
} conn_state;

static conn_rec *link_new(tip *t) {
    conn_rec *l = calloc(1, sizeof *l);
    l->t = t;
    l->next = w.links;
    w.links = l;
    return l;
}

static void keep(conn_rec *l) {
    for (int i = 0; i < CONNS; i++)
        if (!w.live[i]) {
            w.live[i] = l;
            return;
        }
    l->quiet = 1;
    l->t->bad_end = 1;
    reactor_abort(w.r, l->c);
}

static int is_tcp(int fd) {
    int domain = 0;
    socklen_t n = sizeof domain;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n);
    return domain != AF_UNIX;
}

static conn_rec *met(reactor_conn c, void *s, int may_be_quiet) {
    conn_rec *l = ((conn_state *)s)->l;
    enter();
    if (!l) broken("a callback of a connection that has not opened");
    if (l->c.id != c.id) broken("another connection's state");
    if (reactor_state(w.r, c) != s) broken("reactor_state");
    if (l->closed) broken("tip %u: a callback after on_close", l->t->id);
    if (l->quiet && !may_be_quiet) broken("tip %u: a callback after its end", l->t->id);
    return l;
}

static void on_open(reactor *r, reactor_conn c, void *s) {
    conn_state *st = s;
    if (!st->l) { /* accepted */
        for (size_t i = 0; i < sizeof st->zero; i++)
            if (st->zero[i]) broken("state is not zeroed");
        st->l = link_new(tip_new());
        st->l->c = c;
        st->l->t->tcp = 1;
        keep(st->l);
        if (st->l->quiet) return;
    }
    conn_rec *l = met(c, s, 0);
    l->t->hasty |= reactor_user(r, c) != NULL;
    l->t->tcp = is_tcp(reactor_conn_socket(r, c));
    if (l->opened++) broken("opened twice");
    w.opens++;
    note("open %u tcp %d", l->t->id, l->t->tcp);
    act(2);
    leave();
}

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *s) {
    conn_rec *l = met(c, s, 0);
    (void)r;
    if (l->paused) broken("tip %u: data while paused", l->t->id);
    if (l->t->eof && l->t->in + len > l->t->whole)
        broken("tip %u: data after end of file", l->t->id);
    size_t n = w.quiet || below(3) ? len : (size_t)below((int)len + 1);
    if (!w.quiet && !below(12)) n = 0;
    take(l->t, data, n);
    w.offering = l;
    w.offering_part = n != len;
    act(1);
    w.offering = NULL;
    leave();
    return n;
}

static void on_eof(reactor *r, reactor_conn c, void *s) {
    conn_rec *l = met(c, s, 0);
    size_t left;
    if (l->paused) broken("tip %u: end of file while paused", l->t->id);
    reactor_input(r, c, &left);
    note("eof %u left %d", l->t->id, (int)left);
    ended(l->t, left);
    act(1);
    if (!l->quiet && (w.quiet || below(2))) {
        reactor_close(r, c);
        l->quiet = l->t->fin = 1;
    }
    leave();
}

static void on_writable(reactor *r, reactor_conn c, void *s) {
    conn_rec *l = met(c, s, 0);
    (void)r;
    w.writables++;
    l->blocked = 0;
    act(2);
    leave();
}

static int on_timeout(reactor *r, reactor_conn c, int which, void *s) {
    conn_rec *l = met(c, s, 0);
    (void)r;
    note("timeout %d of %u", which, l->t->id);
    int answer = !w.quiet && below(3);
    act(1);
    if (!answer && !l->quiet) l->t->bad_end = 1, l->quiet = 1;
    leave();
    return answer;
}

static int on_drain(reactor *r, reactor_conn c, void *s) {
    (void)met(c, s, 0);
    (void)r;
    int busy = below(2);
    act(1);
    leave();
    return busy && !w.quiet;
}

static void on_close(reactor *r, reactor_conn c, int reason, void *s) {
    conn_rec *l = ((conn_state *)s)->l;
    if (!l) { /* accepted and never opened: that is no connection */
        broken("on_close of what was never opened, reason %d", reason);
    }
    met(c, s, 1);
    (void)r;
    l->closed = 1;
    l->reason = reason;
    w.closes++;
    note("close %u reason %d", l->t->id, reason);
    if (l->frees || l->dones)
        broken("tip %u: on_close with %d free and %d done due", l->t->id, l->frees, l->dones);
    if (reason > REACTOR_DETACHED) broken("reason %d", reason);
    if (reason != REACTOR_DETACHED) {
        l->t->gone = 1;
        if (reason == 0)
            l->t->fin = 1;
        else
            l->t->bad_end = 1;
    }
    for (int i = 0; i < CONNS; i++)
        if (w.live[i] == l) w.live[i] = NULL;
    w.stale[below(8)] = c;
    act(1);
    leave();
}

#define HANDLER(eof, drain)                                                                        \
    { sizeof(conn_state), on_open, on_data, eof, drain, on_writable, on_timeout, on_close }
static const reactor_handler handlers[] = {HANDLER(on_eof, on_drain), HANDLER(on_eof, NULL),
                                           HANDLER(on_eof, NULL)};

static void on_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    int i = (int)(intptr_t)user;
    (void)r;
    enter();
    if (!w.is_watched[i] || w.watched[i] != fd) broken("a watcher that is gone was called");
    char some[4096];
    if (events & REACTOR_READ && read(fd, some, sizeof some) < 0) some[0] = 0;
    if (events & REACTOR_WRITE && below(4) && !w.quiet) {
        if (send(fd, some, sizeof some, MSG_NOSIGNAL) < 0) some[0] = 0;
    }
    act(1);
    if (w.is_watched[i] && w.watched[i] == fd && (w.quiet || !below(3)))
        reactor_modify(w.r, fd, w.quiet ? REACTOR_READ : 0);
    leave();
}

static void on_timer(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t, (void)user;
    enter();
    act(3);
    leave();
}
static void on_async(reactor *r, reactor_async a, void *user) {
    (void)r, (void)a, (void)user;
    enter();
    act(1);
    leave();
}
static void on_task(reactor *r, void *user) {
    (void)r, (void)user;
    enter();
    __atomic_fetch_sub(&w.tasks, 1, __ATOMIC_RELAXED);
    act(1);
    leave();
}
static void on_signal(reactor *r, int signum, void *user) {
    (void)r, (void)user;
    enter();
    if (!w.signalled) broken("a signal %d that nobody watches", signum);
    act(1);
    leave();
}

/* ---- output ---- */

typedef struct blob {
    conn_rec *l;
    char *data;
    int fd; /* of a file, that done closes; -1 */
} blob;

static void on_free(void *data, size_t len, void *user) {
    blob *b = user;
    (void)len;
    if (b->data != data) broken("free of other data");
    if (b->l) b->l->frees--;
    w.frees--;
    free(data);
    free(b);
}

static void on_done(reactor *r, reactor_conn c, int result, void *user) {
    blob *b = user;
    (void)r;
    enter();
    if (b->l->c.id != c.id) broken("done of another connection");
    if (b->l->closed) broken("done after on_close");
    note("done %u result %d", b->l->t->id, result);
    b->l->dones--;
    w.dones--;
    if (b->fd >= 0) close(b->fd);
    free(b);
    act(1);
    leave();
}

static size_t some_size(void) {
    static const int most[] = {10, 100, 3000, 20000, 70000, 300000};
    return (size_t)below(most[below(6)]) + (below(50) ? 1 : 0);
}

static void wrote(conn_rec *l, int e, size_t len) {
    static const int fine[] = {-ENOBUFS, -EMSGSIZE, -ENOMEM, -EBADF, -EPIPE};
    if (e == 1 || e == -ENOBUFS) l->blocked = 1;
    if (e >= 0) {
        if (l->quiet) broken("tip %u: a write after its end was accepted", l->t->id);
        if (e > 1) broken("a write returned %d", e);
        l->t->out += len;
        return;
    }
    for (size_t i = 0; i < COUNT(fine); i++)
        if (e == fine[i] && (e != -ENOMEM || w.faults)) return;
    if (!w.faults) broken("a write returned %d", e);
}

static void write_owned(conn_rec *l, char *data, size_t len) {
    blob *b = malloc(sizeof *b);
    *b = (blob){l, data, -1};
    l->frees++;
    w.frees++;
    wrote(l, reactor_write_owned(w.r, l->c, data, len, on_free, b), len);
}

static void write_shared(conn_rec *l, char *data, size_t len) {
    blob *b = malloc(sizeof *b);
    *b = (blob){NULL, data, -1};
    reactor_buffer *s = reactor_buffer_wrap(data, len, on_free, b);
    if (!s) {
        free(b), free(data);
        return;
    }
    w.frees++;
    wrote(l, reactor_write_shared(w.r, l->c, s), len);
    reactor_buffer_unref(s);
}

static void write_file(conn_rec *l, char *data, size_t len) {
    int before = below(100), kept = below(2);
    blob *b = malloc(sizeof *b);
    int fd = memfd_create("stress", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, len, before) != (ssize_t)len)
        broken("no file: %s", strerror(errno));
    free(data);
    *b = (blob){l, NULL, kept ? fd : -1};
    l->dones++;
    w.dones++;
    int e = reactor_sendfile(w.r, l->c, fd, before, below(2) || !len ? (int64_t)len : -1,
                             kept ? 0 : REACTOR_CLOSE_FILE, on_done, b);
    wrote(l, e, len);
    if (e >= 0) return;
    l->dones--;
    w.dones--;
    close(fd);
    free(b);
}

static void produce(conn_rec *l) {
    size_t len = some_size();
    char *data = bytes_of(l->t, l->t->out, len);
    note("write %u %d", l->t->id, (int)len);
    switch (below(5)) {
    case 0:
        write_owned(l, data, len);
        return;
    case 1:
        write_shared(l, data, len);
        return;
    case 2:
        write_file(l, data, len);
        return;
    case 3: {
        size_t a = len / 3;
        reactor_iovec v[3] = {{data, a}, {data + a, 0}, {data + a, len - a}};
        wrote(l, reactor_writev(w.r, l->c, v, 3), len);
        break;
    }
    default:
        wrote(l, reactor_write(w.r, l->c, data, len), len);
        break;
    }
    free(data);
}

/* ---- making things ---- */

static reactor_conn_options random_options(void) {
    reactor_conn_options o;
    memset(&o, 0, sizeof o);
    if (below(2)) o.high_water = (size_t)below(20000) + 1;
    if (below(2)) o.max_output = o.high_water + 70000 + (size_t)below(100000);
    if (!below(4)) o.max_input = (size_t)below(70000) + 1;
    if (!below(4)) o.idle_timeout_ms = below(50) + 1;
    if (!below(4)) o.read_timeout_ms = below(50) + 1;
    if (!below(4)) o.write_timeout_ms = below(50) + 1;
    if (!below(6)) o.deadline_ms = below(200) + 1;
    if (!below(3)) o.close_timeout_ms = below(50) + 1;
    o.nagle = !below(4);
    if (o.close_timeout_ms) o.user = &w;
    return o;
}

static int fine_error(int e) { return e == 0 || w.faults || w.drained; }

static int free_place(void) {
    for (int i = 0; i < CONNS; i++)
        if (!w.live[i]) return i;
    return -1;
}

static void adopt(conn_rec *l, reactor_conn c, int place) {
    conn_state *s = reactor_state(w.r, c);
    if (!s) broken("a new connection has no state");
    l->c = c;
    s->l = l;
    w.live[place] = l;
}

static void make_connect(void) {
    static const char *const dead[] = {"127.0.0.1:1", "unix:@stress-nobody", "[::1]:1",
                                       "127.0.0.1:2"};
    char list[4 * REACTOR_ADDRESS_MAX] = "";
    reactor_connect_options o;
    reactor_conn c;
    int place = free_place(), i = below(LISTENERS);
    if (place < 0) return;
    while (!below(3) && strlen(list) < 100) strcat(strcat(list, dead[below(4)]), ", ");
    strcat(list, w.listener[i].id && below(8) ? w.address[i] : dead[below(4)]);
    memset(&o, 0, sizeof o);
    o.conn = random_options();
    if (!below(3)) o.attempt_delay_ms = below(5) + 1;
    if (!below(4)) o.timeout_ms = below(50) + 1;
    int e = reactor_connect(w.r, list, &handlers[below(3)], &o, &c);
    if (!fine_error(e)) broken("connect to %s: %s", list, reactor_strerror(e));
    if (e < 0) return;
    tip *t = tip_new();
    note("connect %u to %s", t->id, list);
    t->relay = t->tcp = 1;
    t->hasty = o.conn.user != NULL;
    adopt(link_new(t), c, place);
}

static int put_raw(int fd) {
    for (int i = 0; i < RAWS; i++)
        if (!w.raws[i].t) {
            w.raws[i] = (raw){tip_new(), fd, below(MODES)};
            note("raw %u", w.raws[i].t->id);
            if (below(3)) w.raws[i].mode = ORDERLY;
            return i;
        }
    close(fd);
    return -1;
}

static void attach(tip *t, int fd, int place) {
    reactor_conn_options o = random_options();
    reactor_conn c;
    o.coupled = t->relay ? -1 : 0;
    int e = reactor_attach(w.r, fd, &handlers[below(3)], &o, &c);
    if (e < 0) {
        if (!w.faults && !w.drained && e != -ENOTCONN) broken("attach: %s", reactor_strerror(e));
        t->bad_end = t->gone = t->fin = 1;
        close(fd);
        return;
    }
    note("attach %u", t->id);
    t->hasty = o.user != NULL; /* it may be closed before it opens */
    conn_rec *l = link_new(t);
    l->attached = 1;
    adopt(l, c, place);
}

/* A connection whose peer is a plain socket. */
static void make_pair_with_raw(void) {
    int fd[2], place = free_place();
    if (place < 0) return;
    if (below(2))
        make_pair(fd);
    else
        make_tcp_pair(fd);
    tip *t = tip_new();
    t->tcp = is_tcp(fd[0]);
    int i = put_raw(fd[1]);
    if (i >= 0) w.raws[i].t->tcp = t->tcp;
    attach(t, fd[0], place);
}

static int dial_raw(const char *address) {
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    const char *colon = strrchr(address, ':');
    if (!colon || address[0] == 'u') return -1;
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)atoi(colon + 1));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void make_raw_client(void) {
    int i = below(LISTENERS);
    if (!w.listener[i].id) return;
    int fd = dial_raw(w.address[i]);
    if (fd < 0) return;
    i = put_raw(fd);
    if (i >= 0) w.raws[i].t->tcp = 1;
}

static void change_listener(void) {
    int i = below(LISTENERS);
    reactor_listen_options o;
    if (w.listener[i].id) {
        switch (below(6)) {
        case 0:
            reactor_listener_close(w.r, w.listener[i]);
            w.listener[i].id = 0;
            break;
        case 1:
        case 2:
            reactor_listener_pause(w.r, w.listener[i]);
            break;
        default:
            reactor_listener_resume(w.r, w.listener[i]);
            break;
        }
        return;
    }
    memset(&o, 0, sizeof o);
    o.conn = random_options();
    if (!below(3)) o.max_connections = below(5) + 1;
    char path[64];
    snprintf(path, sizeof path, "unix:@stress-%d-%d-%u", (int)getpid(), i, w.tip_count);
    int e = reactor_listen(w.r,
                           below(3)   ? "127.0.0.1:0"
                           : below(2) ? path
                                      : "*:0",
                           &handlers[below(3)], &o, &w.listener[i]);
    if (e < 0) {
        w.listener[i].id = 0;
        if (!fine_error(e)) broken("listen: %s", reactor_strerror(e));
        return;
    }
    if (reactor_listener_address(w.r, w.listener[i], w.address[i], REACTOR_ADDRESS_MAX) < 0) {
        reactor_listener_close(w.r, w.listener[i]);
        w.listener[i].id = 0;
        return;
    }
    note("listen %s", w.address[i]);
}

/* ---- random calls ---- */

static void random_detach(conn_rec *l) {
    reactor_socket fd;
    static char input[2 * MIB];
    size_t len = sizeof input;
    if ((w.offering == l && w.offering_part) || l->t->fin || l->t->eof) return;
    int e = reactor_detach(w.r, l->c, &fd, input, &len);
    if (e < 0) {
        if (e != -EBUSY && e != -ENOTCONN && e != -EBADF && !w.faults)
            broken("detach: %s", reactor_strerror(e));
        return;
    }
    note("detach %u with %d", l->t->id, (int)len);
    l->quiet = 1;
    take(l->t, input, len);
    for (int i = 0; i < CONNS; i++)
        if (w.live[i] == l) w.live[i] = NULL;
    int place = free_place();
    if (place < 0 || !below(6)) {
        close(fd);
        l->t->bad_end = l->t->gone = l->t->fin = 1;
        return;
    }
    attach(l->t, fd, place);
}

static void use_stale(void) {
    reactor_conn c = w.stale[below(8)];
    size_t len = 1;
    if (!c.id) return;
    for (conn_rec *l = w.links; l; l = l->next)
        if (l->c.id == c.id && !l->closed) return;
    /* inside its on_close it is not stale yet */
    if (w.inside && reactor_state(w.r, c)) return;
    if (reactor_state(w.r, c)) broken("a stale connection has state");
    if (reactor_write(w.r, c, "x", 1) != -EBADF) broken("a stale connection takes writes");
    if (reactor_pause(w.r, c) != -EBADF || reactor_resume(w.r, c) != -EBADF)
        broken("a stale one pauses");
    if (reactor_close(w.r, c) || reactor_abort(w.r, c)) broken("closing a stale one");
    if (reactor_input(w.r, c, &len) || len) broken("a stale one has input");
    if (reactor_pending(w.r, c)) broken("a stale one has output");
    if (reactor_set_timeout(w.r, c, 1, 10) != -EBADF) broken("a stale one has timeouts");
}

static void change_conn(conn_rec *l) {
    switch (below(24)) {
    case 0:
        note("close call %u", l->t->id);
        reactor_close(w.r, l->c);
        l->t->fin = l->quiet = 1;
        break;
    case 1:
        if (!below(3)) {
            note("abort call %u", l->t->id);
            reactor_abort(w.r, l->c);
            l->quiet = l->t->bad_end = 1;
        }
        break;
    case 2:
        note("shutdown %u", l->t->id);
        if (reactor_shutdown(w.r, l->c) == 0) l->t->fin = 1;
        break;
    case 3:
    case 4:
        note("pause %u", l->t->id);
        if (reactor_pause(w.r, l->c) == 0) l->paused = 1;
        break;
    case 5:
    case 6:
    case 7:
        note("resume %u", l->t->id);
        if (reactor_resume(w.r, l->c) == 0) l->paused = 0;
        break;
    case 8:
        reactor_set_timeout(w.r, l->c, below(4) + 1, below(3) ? 0 : below(50));
        break;
    case 9:
        reactor_set_handler(w.r, l->c, &handlers[below(3)]);
        break;
    case 10:
        if (reactor_notify_output(w.r, l->c, (size_t)below(100000)) == 0) l->blocked = 1;
        break;
    case 11:
        if (!below(2)) random_detach(l);
        break;
    case 12: {
        char text[REACTOR_ADDRESS_MAX];
        reactor_local_address(w.r, l->c, text, sizeof text);
        reactor_peer_address(w.r, l->c, text, sizeof text);
        break;
    }
    default:
        produce(l);
        break;
    }
}

static void change_watcher(void) {
    int i = below(WATCHERS);
    static const unsigned interest[] = {0,
                                        REACTOR_READ,
                                        REACTOR_WRITE,
                                        REACTOR_READ | REACTOR_WRITE,
                                        REACTOR_READ | REACTOR_ONESHOT,
                                        REACTOR_READ | REACTOR_EDGE};
    unsigned events = interest[below(6)];
    if (w.watched[i] < 0) {
        int fd[2];
        make_pair(fd);
        w.watched[i] = fd[0], w.other[i] = fd[1];
        return;
    }
    switch (below(6)) {
    case 0:
    case 1: {
        int e = reactor_set(w.r, w.watched[i], events, on_io, (void *)(intptr_t)i);
        if (e < 0 && !w.faults) broken("set: %s", reactor_strerror(e));
        if (e == 0) w.is_watched[i] = 1;
        break;
    }
    case 2:
        reactor_modify(w.r, w.watched[i], events);
        break;
    case 3:
        reactor_remove(w.r, w.watched[i]);
        w.is_watched[i] = 0;
        break;
    case 4:
        if (send(w.other[i], "hello", 5, MSG_NOSIGNAL) < 0) break;
        break;
    default:
        if (below(3)) break;
        if (below(2)) reactor_remove(w.r, w.watched[i]), w.is_watched[i] = 0;
        close(w.watched[i]);
        if (w.is_watched[i]) reactor_remove(w.r, w.watched[i]), w.is_watched[i] = 0;
        close(w.other[i]);
        w.watched[i] = -1;
        break;
    }
}

static void change_timer(void) {
    int i = below(TIMERS);
    switch (below(5)) {
    case 0:
        reactor_cancel(w.r, w.timer[i]);
        break;
    case 1:
        reactor_reset(w.r, w.timer[i], below(20));
        break;
    case 2:
        reactor_cancel(w.r, w.timer[i]);
        reactor_every(w.r, below(20) + 1, on_timer, NULL, &w.timer[i]);
        break;
    default:
        reactor_cancel(w.r, w.timer[i]);
        reactor_after(w.r, below(20), on_timer, NULL, &w.timer[i]);
        break;
    }
}

static void change_async(void) {
    int i = below(ASYNCS);
    if (w.threads) return;
    switch (below(4)) {
    case 0:
        reactor_async_close(w.r, w.async[i]);
        break;
    case 1:
        reactor_async_close(w.r, w.async[i]);
        reactor_async_open(w.r, on_async, NULL, &w.async[i]);
        break;
    default:
        reactor_async_send(w.r, w.async[i]);
        break;
    }
}

static void change_signal(void) {
    int e = 0;
    if (w.signalled && below(3)) {
        raise(SIGUSR1);
        return;
    }
    e = reactor_signal(w.r, SIGUSR1, w.signalled ? NULL : on_signal, NULL);
    if (e == 0)
        w.signalled = !w.signalled;
    else if (!w.faults)
        broken("signal: %s", reactor_strerror(e));
}

/* A child that destroys its copy, which the parent does not notice. */
static void fork_and_destroy(void) {
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return;
    if (!pid) {
        w.in_child = 1;
        fault.one_in = 0;
        reactor_destroy(w.r);
        _exit(!w.inside && (fault.live || w.frees) ? 5 : 0);
    }
    waitpid(pid, &status, 0);
    if (status) broken("the child: status %#x", (unsigned)status);
}

static void random_call(void) {
    conn_rec *l = w.live[below(CONNS)];
    switch (below(40)) {
    case 0:
    case 1:
        make_connect();
        return;
    case 2:
        make_pair_with_raw();
        return;
    case 3:
        make_raw_client();
        return;
    case 4:
        change_listener();
        return;
    case 5:
    case 6:
        change_watcher();
        return;
    case 7:
        change_timer();
        return;
    case 8:
        change_async();
        return;
    case 9:
        if (!below(8)) change_signal();
        return;
    case 10:
        __atomic_fetch_add(&w.tasks, 1, __ATOMIC_RELAXED);
        if ((below(2) ? reactor_defer : reactor_post)(w.r, on_task, NULL) < 0)
            __atomic_fetch_sub(&w.tasks, 1, __ATOMIC_RELAXED);
        return;
    case 11:
        use_stale();
        return;
    case 12:
        if (!below(100) && !w.threads) fork_and_destroy();
        return;
    default:
        if (l && !l->quiet) change_conn(l);
        return;
    }
}

static void act(int most) {
    if (w.quiet || w.in_child) return;
    for (int i = below(most + 1); i > 0; i--) random_call();
}

/* ---- plain peers ---- */

static void raw_end(raw *p) {
    close(p->fd);
    p->t->gone = 1;
    p->t = NULL;
}

static void raw_read(raw *p, size_t most) {
    static char data[65536];
    while (most) {
        ssize_t n = recv(p->fd, data, most < sizeof data ? most : sizeof data, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) {
            tip *q = partner(p->t);
            if (q && !q->bad_end && !w.faults && errno == ECONNRESET && !q->hasty &&
                p->mode == ORDERLY && q->gone && !p->t->bad_end)
                broken("tip %u: reset by %u, which ended in order", p->t->id, q->id);
            raw_end(p);
            return;
        }
        if (n < 0) return;
        if (n == 0) {
            if (!p->t->eof) ended(p->t, 0);
            if (p->t->fin || w.quiet) {
                p->t->fin = 1;
                raw_end(p);
            }
            return;
        }
        take(p->t, data, (size_t)n);
        most -= (size_t)n;
    }
}

/* A send that fails takes the error with it, and a receive would say end of file. */
static void raw_write(raw *p, size_t len) {
    if (!p->t) return;
    char *data = bytes_of(p->t, p->t->out, len);
    ssize_t n = p->t->fin ? 0 : send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    free(data);
    if (n > 0) p->t->out += (uint64_t)n;
    if (n < 0 && errno != EAGAIN) raw_end(p);
}

static void raw_step(raw *p) {
    switch (below(8)) {
    case 0:
    case 1:
        raw_write(p, p->mode == SLOW ? 1 : some_size());
        break;
    case 2:
        if (!below(4)) {
            shutdown(p->fd, SHUT_WR);
            p->t->fin = 1;
        }
        break;
    case 3:
        if (!below(8) && p->mode != ORDERLY) {
            p->t->bad_end = 1;
            if (below(2)) close_with_reset(dup(p->fd));
            if (below(2)) p->t->fin = 1;
            if (p->t->fin) {
                raw_end(p);
            } else {
                struct linger now = {1, 0};
                setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
                if (!p->t->tcp) p->t->fin = 1; /* a unix socket's reset may look so */
                raw_end(p);
            }
            return;
        }
        break;
    case 4:
        if (p->mode == FLOOD)
            for (int i = 0; i < 4; i++) raw_write(p, 100000);
        break;
    default:
        if (p->mode != DEAF) raw_read(p, p->mode == SLOW ? 1 + (size_t)below(100) : 65536);
        break;
    }
}

static void raws_step(void) {
    for (int i = 0; i < RAWS; i++)
        if (w.raws[i].t && below(2)) raw_step(&w.raws[i]);
}

/* ---- the checks ---- */

static void turn_once(int64_t ms) {
    int e = reactor_poll(w.r, ms);
    if (e < 0 && !w.faults) broken("reactor_poll: %s", reactor_strerror(e));
    w.inside = 0;
}

/* With nobody doing anything the loop comes to rest. */
static void check_rest(void) {
    int busy = 0, faults = fault.one_in, tail = 0;
    w.quiet = 1;
    fault.one_in = 0;
    for (int i = 0; i < TIMERS; i++) reactor_cancel(w.r, w.timer[i]);
    for (int i = 0; i < 4000 && tail < 20; i++) {
        int64_t from = clock_ns();
        int e = reactor_poll(w.r, 2);
        if (e < 0) broken("reactor_poll: %s", reactor_strerror(e));
        int slept = clock_ns() - from >= 1500000;
        busy += !slept;
        tail = slept ? tail + 1 : 0;
    }
    if (tail < 20) broken("it spins: %d turns of 4000 did not sleep", busy);
    w.quiet = 0;
    fault.one_in = faults;
}

static int unfinished(void) {
    int n = 0;
    for (conn_rec *l = w.links; l; l = l->next) n += !l->closed;
    return n;
}

static void check_memory(void) {
    size_t limit = 4 * MIB;
    for (int i = 0; i < CONNS; i++) limit += 4 * (size_t)MIB;
    size_t bytes = __atomic_load_n(&fault.bytes, __ATOMIC_RELAXED);
    if (bytes > limit) broken("%zu bytes of memory", bytes);
}

static int all_out(void) {
    for (int i = 0; i < CONNS; i++) {
        conn_rec *l = w.live[i];
        if (l && !l->quiet && (l->blocked || reactor_pending(w.r, l->c))) return 0;
    }
    return 1;
}

static void finale(void) {
    if (fault.one_in) fault.one_in = 0; /* threads read it, and have none */
    w.quiet = 1;
    w.step = -1;
    note("finale");
    for (int i = 0; i < LISTENERS; i++) {
        reactor_listener_resume(w.r, w.listener[i]);
    }
    for (int i = 0; i < TIMERS; i++) reactor_cancel(w.r, w.timer[i]);
    for (int i = 0; i < CONNS; i++) {
        conn_rec *l = w.live[i];
        if (!l || l->quiet) continue;
        reactor_pause(w.r, l->c);
        reactor_resume(w.r, l->c);
        l->paused = 0;
    }
    for (int i = 0; i < RAWS; i++) w.raws[i].mode = ORDERLY;
    int64_t limit = clock_ns() + INT64_C(40000000000);
    while (!all_out()) {
        for (int i = 0; i < RAWS; i++)
            if (w.raws[i].t) raw_read(&w.raws[i], SIZE_MAX);
        turn_once(2);
        if (clock_ns() > limit) broken("output stays or on_writable does not come");
    }
    note("all out");
    if (!below(3)) reactor_drain(w.r, -1), w.drained = 1;
    for (int i = 0; i < CONNS; i++) {
        conn_rec *l = w.live[i];
        if (!l || l->quiet) continue;
        reactor_close(w.r, l->c);
        l->quiet = l->t->fin = 1;
    }
    limit = clock_ns() + INT64_C(40000000000);
    for (int i = 0; i < RAWS; i++)
        if (w.raws[i].t) shutdown(w.raws[i].fd, SHUT_WR), w.raws[i].t->fin = 1;
    while (unfinished()) {
        for (int i = 0; i < RAWS; i++)
            if (w.raws[i].t) raw_read(&w.raws[i], SIZE_MAX);
        for (int i = 0; i < CONNS; i++) {
            conn_rec *l = w.live[i];
            if (!l || l->quiet) continue;
            reactor_close(w.r, l->c);
            l->quiet = l->t->fin = 1;
        }
        turn_once(2);
        if (clock_ns() > limit) broken("%d connections do not end", unfinished());
    }
}

static void start_again(void) {
    for (unsigned i = 0; i < w.tip_count; i++) free(w.tips[i]);
    for (conn_rec *l = w.links, *next; l; l = next) next = l->next, free(l);
    memset(&w, 0, sizeof w);
}

static void *poster(void *user) {
    int *stop = user;
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&w.tasks, 1, __ATOMIC_RELAXED);
        if (reactor_post(w.r, on_task, NULL) < 0) __atomic_fetch_sub(&w.tasks, 1, __ATOMIC_RELAXED);
        reactor_async_send(w.r, w.async[0]);
        reactor_wake(w.r);
        reactor_stop(w.r);
        usleep(200);
    }
    return NULL;
}

static int steps_wanted(void) {
    const char *given = getenv("REACTOR_TEST_STEPS");
    return given ? atoi(given) : STEPS;
}

static void run(uint64_t seed, int one_in, int threads) {
    reactor_options o;
    pthread_t thread[2];
    int stop = 0;
    start_again();
    w.start = w.seed = seed;
    fault.seed = seed * 7 + 1;
    fault.live = 0;
    fault.one_in = 0;
    fault.bytes = 0;
    memset(&o, 0, sizeof o);
    if (!below(3)) o.batch = below(4) + 1;
    if (!below(3)) o.read_buffer = 1024;
    if (!below(3)) o.read_budget = 2000;
    if (!below(3)) o.accept_budget = 1;
    for (int i = 0; i < WATCHERS; i++) w.watched[i] = -1;
    int before = open_descriptors();
    w.r = make_loop_with(&o);
    w.faults = one_in != 0;
    fault.one_in = one_in;
    w.threads = threads;
    if (threads) reactor_async_open(w.r, on_async, NULL, &w.async[0]);
    for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, poster, &stop);
    int steps = steps_wanted();
    for (w.step = 0; w.step < steps; w.step++) {
        act(8);
        raws_step();
        turn_once(below(4) ? 0 : 1);
        check_memory();
        if (!threads && !below(steps / 2)) check_rest();
    }
    int end_it = below(3);
    if (end_it) finale();
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    fault.one_in = 0;
    w.ending = 1;
    w.quiet = 1;
    reactor_destroy(w.r);
    w.r = NULL;
    if (unfinished()) broken("%d on_close are missing", unfinished());
    if (w.frees || w.dones || w.tasks)
        broken("missing: %ld free, %ld done, %ld tasks", w.frees, w.dones, w.tasks);
    if (fault.live) broken("%ld allocations are left", fault.live);
    for (int i = 0; i < RAWS; i++)
        if (w.raws[i].t) raw_end(&w.raws[i]);
    for (int i = 0; i < WATCHERS; i++)
        if (w.watched[i] >= 0) close(w.watched[i]), close(w.other[i]);
    if (open_descriptors() != before)
        broken("%d descriptors, there were %d", open_descriptors(), before);
    if (getenv("REACTOR_TEST_VERBOSE"))
        print_message(
            "seed %llu: %ld opens %ld closes %ld bytes %ld ends %ld writables %ld faults\n",
            (unsigned long long)seed, w.opens, w.closes, w.bytes, w.eofs, w.writables, fault.hits);
    start_again();
}

static int runs_wanted(const char *seed, int otherwise) {
    const char *given = getenv("REACTOR_TEST_RUNS");
    return given ? atoi(given) : seed ? 1 : otherwise;
}

CASE(random_calls) {
    if (libkqueue_cannot("keep every edge")) skip();
    const char *given = getenv("REACTOR_TEST_SEED");
    int n = runs_wanted(given, 2);
    for (int i = 0; i < n; i++) run((given ? strtoull(given, NULL, 0) : 1) + (unsigned)i, 0, 0);
}
CASE(random_calls_with_faults) {
    if (libkqueue_cannot("keep every edge")) skip();
    const char *given = getenv("REACTOR_TEST_SEED");
    int n = runs_wanted(given, 2);
    for (int i = 0; i < n; i++) run((given ? strtoull(given, NULL, 0) : 1) + (unsigned)i, 300, 0);
}
CASE(random_calls_with_threads) {
    if (libkqueue_cannot("keep every edge")) skip();
    const char *given = getenv("REACTOR_TEST_SEED");
    int n = runs_wanted(given, 2);
    for (int i = 0; i < n; i++) run((given ? strtoull(given, NULL, 0) : 1) + (unsigned)i, 0, 2);
}

int main(void) {
    IGNORE_SIGPIPE;
    const struct CMUnitTest tests[] = {TEST(random_calls), TEST(random_calls_with_faults),
                                       TEST(random_calls_with_threads)};
    if (getenv("REACTOR_TEST_ONLY")) cmocka_set_test_filter(getenv("REACTOR_TEST_ONLY"));
    return cmocka_run_group_tests_name("stress", tests, NULL, NULL);
}
