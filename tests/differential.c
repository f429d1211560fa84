/* Plays scenarios on one backend and prints what came of each step: test_differential.py compares
   that with what is written in tests/scenarios, and backend with backend. Run it by hand as
       build/tests/differential epoll < script        build/tests/differential --list
   A script is lines: "== name" begins a scenario with a loop of its own, every other line is a step
   (see the table of verbs at the end), and is printed again with its outcome indented below it.

   What differs between backends by right does not reach the trace, and nothing else is left out:
   - the order in which one turn calls different descriptors and connections: sorted by name;
   - `run` and `until` take as many turns as are needed, so there it is sorted over all of these;
   - the pieces in which a stream's input arrives: joined, if nothing came in between and all was
     consumed; of two offers, the second with more input than the first, only the second is shown;
   - a report of EDGE that no change is behind: see edge_due. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* POLLRDHUP, strsep */
#endif
#include "../reactor.h"

#include <ctype.h>
#ifdef _WIN32
#define POSIX_MISSING() exit(97) /* the scripts are chosen so that none asks for it */
#include "win32/posix.h"
#else
#include <errno.h>
#include <fcntl.h>
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
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#endif

enum {
    NAME = 24,
    LINE = 256,
    WORDS = 24,
    LIMIT_S = 300,  /* seconds for one scenario: a sanitizer on a busy machine takes many */
    RUN_MAX = 60,   /* turns until `run` gives up */
    SHOWN = 12,     /* so many of the pattern are no text any more */
    FEW = 4096,     /* bytes, for which a reader has room */
    MUCH = 65536,   /* that were filled in as much as went */
    SAID = -100000, /* a verb's code: nothing more to say */
    UNKNOWN = -100001
};

typedef enum kind { END = 1, CONN = 2, LISTENER = 4, TIMER = 8, TASK = 16, SIGNAL = 32 } kind;

/* Whatever a script gives a name. */
typedef struct object {
    struct object *next;
    char name[NAME];
    kind kind;
    int fd; /* END: its number, also when it is closed */
    int closed;
    struct object *peer; /* END: the other end of a pair */
    int dgram;           /* END: whose end the peer does not hear of */
    unsigned interest;   /* END: watched for */
    unsigned due;        /* END: directions of which EDGE owes a report */
    int jammed;          /* END: what it writes may wait in the kernel until all was read */
    int full;            /* END: has refused a write */
    unsigned shut;       /* END: directions */
    reactor_conn conn;
    reactor_listener listener;
    reactor_timer timer;
    int signum;
    struct object *of; /* CONN: the listener that accepted it */
    int accepted;      /* LISTENER: so many */
    uint64_t in, out;  /* bytes that came and went */
    char eats[NAME];   /* how on_data consumes: all, none, line, or a number */
    int again, busy;   /* what on_timeout and on_drain return */
    int calls;         /* of any callback */
    char address[REACTOR_ADDRESS_MAX];
} object;

/* A step to be taken in a callback. */
typedef struct hook {
    struct hook *next;
    char name[NAME], event[NAME];
    int nth;  /* only in its nth call; 0: in each */
    int seen; /* calls so far */
    char step[LINE];
} hook;

/* A line of the trace. */
typedef struct line {
    char who[NAME]; /* whose callback it is of */
    int phase;      /* lines are only sorted within one */
    int order;
    enum { TEXT, DATA, OFFER } type;
    char *text; /* or what was received */
    size_t len;
    uint64_t at; /* DATA: where in the stream */
} line;

static const char *backend;
static reactor *r;
static object *objects;
static hook *hooks;
static line *lines;
static size_t line_count, line_cap;
static const object *current; /* whose callback is running */
static int destroyed;         /* in a callback */
static int phase, was_ordered;
static int sorting_all; /* one phase for the whole step */
static int descriptors_before;
static char now_playing[LINE];

static int perform(char *step);

/* ---- the trace ---- */

/* A loop's own callbacks come in an order that is promised. */
static int is_ordered(const object *o) { return o && (o->kind & (TIMER | TASK | SIGNAL)); }

static line *line_new(int type) {
    if (line_count == line_cap) {
        line_cap = line_cap * 2 + 64;
        lines = (line *)realloc(lines, line_cap * sizeof *lines);
        if (!lines) abort();
    }
    line *l = &lines[line_count];
    memset(l, 0, sizeof *l);
    l->order = (int)line_count;
    l->type = type == DATA ? DATA : type == OFFER ? OFFER : TEXT;
    phase += is_ordered(current) != was_ordered;
    was_ordered = is_ordered(current);
    l->phase = phase;
    /* What is promised in order stays in it, behind all names; then comes the step's own outcome. */
    snprintf(l->who, sizeof l->who, "%s",
             !current              ? "\x7f"
             : is_ordered(current) ? "~"
                                   : current->name);
    line_count++;
    return l;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    char text[2 * LINE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    line_new(TEXT)->text = strdup(text);
}

static char pattern(uint64_t at) { return (char)('a' + at % 26 * 7 % 26); }

static void say_data(int type, const void *data, size_t len, uint64_t at) {
    line *l = line_new(type);
    l->text = (char *)malloc(len + 1);
    memcpy(l->text, data, len);
    l->len = len;
    l->at = at;
}

/* Bytes as the trace shows them: as text, but as *n what `write *n` has sent. */
static void show(char *out, size_t size, const char *data, size_t len, uint64_t at) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < len && n + NAME < size;) {
        size_t run = 0;
        while (i + run < len && data[i + run] == pattern(at + i + run)) run++;
        if (run >= SHOWN) {
            n += (size_t)snprintf(out + n, size - n, "*%zu", run);
            i += run;
        } else if (data[i] == '\n') {
            n += (size_t)snprintf(out + n, size - n, "\\n");
            i++;
        } else {
            out[n++] = isprint((unsigned char)data[i]) ? data[i] : '?';
            out[n] = 0;
            i++;
        }
    }
}

static int by_phase_and_name(const void *a, const void *b) {
    const line *x = (const line *)a, *y = (const line *)b;
    if (x->phase != y->phase && !sorting_all) return x->phase - y->phase;
    int names = strcmp(x->who, y->who);
    return names ? names : x->order - y->order;
}

/* Whether b continues a, so that the two are one. */
static int joins(const line *a, const line *b) {
    if (a->type != b->type || strcmp(a->who, b->who)) return 0;
    if (a->type == DATA) return a->at + a->len == b->at;
    return a->type == OFFER && b->len > a->len && !memcmp(a->text, b->text, a->len);
}

static void join(line *a, line *b) {
    if (a->type == DATA) {
        b->text = (char *)realloc(b->text, a->len + b->len + 1);
        if (!b->text) abort();
        memmove(b->text + a->len, b->text, b->len);
        memcpy(b->text, a->text, a->len);
        b->at = a->at;
        b->len += a->len;
    }
    free(a->text);
    a->text = NULL;
}

static void print_lines(void) {
    char shown[2 * LINE];
    if (line_count) qsort(lines, line_count, sizeof *lines, by_phase_and_name);
    for (size_t i = 0; i < line_count; i++) {
        line *l = &lines[i];
        if (i + 1 < line_count && joins(l, l + 1)) {
            join(l, l + 1);
            continue;
        }
        if (l->type == TEXT) {
            printf("  %s\n", l->text);
        } else {
            show(shown, sizeof shown, l->text, l->len, l->at);
            printf("  %s %s %s\n", l->who, l->type == DATA ? "data" : "offered", shown);
        }
        free(l->text);
    }
    line_count = 0;
    fflush(stdout);
}

static void drop_lines(void) {
    while (line_count) free(lines[--line_count].text);
}

static const char *error_name(int e) {
    static const struct {
        int e;
        const char *name;
    } names[] = {{EBADF, "EBADF"},
                 {ENOENT, "ENOENT"},
                 {EEXIST, "EEXIST"},
                 {EINVAL, "EINVAL"},
                 {EPIPE, "EPIPE"},
                 {ENOBUFS, "ENOBUFS"},
                 {EAGAIN, "EAGAIN"},
                 {ECONNRESET, "ECONNRESET"},
                 {ETIMEDOUT, "ETIMEDOUT"},
                 {ECONNREFUSED, "ECONNREFUSED"},
                 {ECANCELED, "ECANCELED"},
                 {EMSGSIZE, "EMSGSIZE"},
                 {ECONNABORTED, "ECONNABORTED"},
                 {ENOTCONN, "ENOTCONN"},
                 {EBUSY, "EBUSY"},
                 {EPERM, "EPERM"},
                 {EALREADY, "EALREADY"},
                 {ENOTSUP, "ENOTSUP"},
                 {ENOTSOCK, "ENOTSOCK"},
                 {EADDRINUSE, "EADDRINUSE"},
                 {EIO, "EIO"},
                 {ENAMETOOLONG, "ENAMETOOLONG"},
                 {ENOTDIR, "ENOTDIR"},
                 {EINTR, "EINTR"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].e == e) return names[i].name;
    return strerror(e);
}

static void code_text(char *out, size_t size, int e) {
    if (e < 0)
        snprintf(out, size, "-%s", error_name(-e));
    else
        snprintf(out, size, "%d", e);
}

/* ---- objects ---- */

/* Latest first, so a name that is used again means the new one. */
static object *object_new(const char *name, kind k) {
    object *o = (object *)calloc(1, sizeof *o);
    if (!o) abort();
    for (object *old = objects; old; old = old->next)
        if (!strcmp(old->name, name) && strlen(name) + 1 < NAME) strcat(old->name, "~");
    snprintf(o->name, sizeof o->name, "%s", name);
    snprintf(o->eats, sizeof o->eats, "all");
    o->kind = k;
    o->fd = -1;
    o->next = objects;
    return objects = o;
}

static object *find(const char *name, unsigned kinds) {
    if (!strcmp(name, "@")) return current && (current->kind & kinds) ? (object *)current : NULL;
    for (object *o = objects; o; o = o->next)
        if (!strcmp(o->name, name)) return o->kind & kinds ? o : NULL;
    return NULL;
}

/* Takes the steps that were attached to this event. */
static void take_hooks(const object *o, const char *event) {
    const object *outer = current;
    char step[LINE];
    for (hook *h = hooks; h; h = h->next) {
        if (strcmp(h->event, event) ||
            (strcmp(h->name, o->name) && !(o->of && !strcmp(h->name, o->of->name))))
            continue;
        h->seen++;
        if (h->nth && h->nth != h->seen) continue;
        current = o;
        memcpy(step, h->step, sizeof step);
        char shown[LINE + 16], result[NAME];
        int e = perform(step);
        code_text(result, sizeof result, e);
        snprintf(shown, sizeof shown, "%s", h->step);
        if (e == UNKNOWN)
            say("%s %s: unknown", o->name, shown);
        else if (e && e != SAID)
            say("%s %s: %s", o->name, shown, result);
    }
    current = outer;
}

/* ---- what the kernel still has under way ---- */

static short ask(int fd, short events, int ms) {
    struct pollfd p = {fd, events, 0};
    return poll(&p, 1, ms) > 0 ? p.revents : 0;
}

static int socket_of(const object *o) {
    if (o->kind == CONN) return r ? (int)reactor_conn_socket(r, o->conn) : -1;
    return o->kind == END && !o->closed ? o->fd : -1;
}

static int tcp_ports(int fd, int ports[2]) {
    struct sockaddr_storage a, b;
    socklen_t la = sizeof a, lb = sizeof b;
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&a, &la) < 0 || a.ss_family != AF_INET)
        return 0;
    if (getpeername(fd, (struct sockaddr *)&b, &lb) < 0) return 0;
    ports[0] = ((struct sockaddr_in *)&a)->sin_port;
    ports[1] = ((struct sockaddr_in *)&b)->sin_port;
    return 1;
}

/* The socket at the other end of a TCP connection, if it is here. */
static int other_end(int fd) {
    int mine[2], theirs[2];
    if (!tcp_ports(fd, mine)) return -1;
    for (const object *o = objects; o; o = o->next) {
        int s = socket_of(o);
        if (s != fd && tcp_ports(s, theirs) && theirs[0] == mine[1] && theirs[1] == mine[0])
            return s;
    }
    return -1;
}

static int unread(int fd) {
    int n = 0;
    return fd >= 0 && ioctl(fd, FIONREAD, &n) == 0 ? n : 0;
}

#ifndef SIOCOUTQNSD
#define SIOCOUTQNSD 0x894B /* linux/sockios.h: bytes not sent yet */
#endif

#ifdef _WIN32
/* It cannot be asked everywhere. */
static int under_way(int fd) {
    int ports[2];
    return tcp_ports(fd, ports);
}
static int stuck(int fd) {
    (void)fd;
    return 0;
}
enum { AWAIT_TRIES = 1, LOOPBACK_MS = 0 };
#elif defined(__linux__)
static int under_way(int fd) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    int ports[2];
    if (!tcp_ports(fd, ports) || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len)) return 0;
    return (int)info.tcpi_unacked;
}
/* The other end has read all, and there is more: it comes when this end asks for room again, which
   may take some 200 ms. */
static int stuck(int fd) {
    int n = 0, other = fd < 0 ? -1 : other_end(fd);
    return other >= 0 && ioctl(fd, SIOCOUTQNSD, &n) == 0 && n > 0 && unread(other) == 0;
}
enum { AWAIT_TRIES = 3, LOOPBACK_MS = 0 };
#else
/* What the socket still holds, acknowledged or not. A BSD's loopback delivers a moment after that. */
static int under_way(int fd) {
    int ports[2], n = 0;
    return tcp_ports(fd, ports) && ioctl(fd, FIONWRITE, &n) == 0 && n > 0;
}
static int stuck(int fd) {
    (void)fd;
    return 0;
}
enum { AWAIT_TRIES = 3, LOOPBACK_MS = 6 };
#endif

/* Until what was sent has arrived: on the loopback practically at once, but not by promise. What
   is acknowledged late costs a few milliseconds, no more. */
static void await_delivery(void) {
    poll(NULL, 0, LOOPBACK_MS);
    for (int tries = 0; tries < 1000; tries++) {
        int unacked = 0, late = 0;
        for (const object *o = objects; o; o = o->next) {
            unacked += under_way(socket_of(o));
            late += stuck(socket_of(o));
        }
        if (!late && (!unacked || tries >= AWAIT_TRIES)) return;
        poll(NULL, 0, 1);
    }
}

/* Writes, and waits for what arrives: a few bytes to a reader that may have room for no more. */
static ssize_t write_and_await(int fd, const void *data, size_t len) {
    int other = len <= FEW ? other_end(fd) : -1, before = unread(other);
    ssize_t k = write(fd, data, len);
    for (int tries = 0; other >= 0 && k > 0 && unread(other) - before < k && tries < 100; tries++)
        poll(NULL, 0, 1);
    return k;
}

/* Closes, and waits until the other end of a TCP connection has heard of it. */
static void close_and_await(int fd) {
    int other = other_end(fd);
    close(fd);
    if (other >= 0) ask(other, POLLRDHUP, 50);
}

/* ---- callbacks ---- */

static const struct {
    const char *name;
    unsigned bit;
} bits[] = {{"READ", REACTOR_READ},         {"WRITE", REACTOR_WRITE}, {"EDGE", REACTOR_EDGE},
            {"ONESHOT", REACTOR_ONESHOT},   {"ERROR", REACTOR_ERROR}, {"HANGUP", REACTOR_HANGUP},
            {"PRIORITY", REACTOR_PRIORITY}, {"BAD", 0x40000}};

static const char *bits_text(unsigned events) {
    static char out[LINE];
    out[0] = 0;
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        if (events & bits[i].bit) {
            if (out[0]) strcat(out, "|");
            strcat(out, bits[i].name);
        }
    return out[0] ? out : "0";
}

static int bits_parse(const char *text, unsigned *out) {
    char copy[LINE], *rest = copy, *word;
    *out = 0;
    if (!strcmp(text, "0")) return 1;
    snprintf(copy, sizeof copy, "%s", text);
    while ((word = strsep(&rest, "|"))) {
        size_t i = 0;
        while (i < sizeof bits / sizeof *bits && strcmp(bits[i].name, word)) i++;
        if (i == sizeof bits / sizeof *bits) return 0;
        *out |= bits[i].bit;
    }
    return 1;
}

/* EDGE promises one report for each change, and backends without edges give more. A report is due
   when the watcher was armed, and then for READ when the peer has written or ended, for WRITE when
   it has made room or is gone. What is not due is not in the trace; what is due and does not come
   is missed there. */
static unsigned edge_due(object *o, unsigned events) {
    unsigned told = events & o->due;
    if (!(o->interest & REACTOR_EDGE)) return events;
    o->due &= ~told;
    return told ? told | (events & (REACTOR_ERROR | REACTOR_HANGUP)) : 0;
}

static void due_at(object *o, unsigned directions) {
    if (o) o->due |= directions;
}

static void watcher_called(object *o, const char *which, unsigned events) {
    events = edge_due(o, events);
    if (!events) return;
    const object *outer = current;
    current = o;
    o->calls++;
    say("%s%s %s", o->name, which, bits_text(events));
    take_hooks(o, "");
    current = outer;
}

static void on_io(reactor *loop, reactor_socket fd, unsigned events, void *user) {
    object *o = (object *)user;
    (void)loop;
    if ((int)fd != o->fd) say("%s called for another descriptor", o->name);
    watcher_called(o, "", events);
}
static void on_io_2(reactor *loop, reactor_socket fd, unsigned events, void *user) {
    (void)loop, (void)fd;
    watcher_called((object *)user, "/2", events);
}

static void loop_called(object *o) {
    const object *outer = current;
    current = o;
    o->calls++;
    say("%s", o->name);
    take_hooks(o, "");
    current = outer;
}

static void on_timer(reactor *loop, reactor_timer t, void *user) {
    object *o = (object *)user;
    (void)loop;
    if (t.id != o->timer.id) say("%s called with another handle", o->name);
    loop_called(o);
}
static void on_task(reactor *loop, void *user) {
    (void)loop;
    loop_called((object *)user);
}
static void on_signal(reactor *loop, int signum, void *user) {
    object *o = (object *)user;
    (void)loop;
    if (signum != o->signum) say("%s called for another signal", o->name);
    loop_called(o);
}

/* A connection's state is where its object is. Accepted ones get theirs, and a name, here. */
static object *object_of(reactor_conn c, void *state) {
    object **at = (object **)state;
    if (!*at) {
        object *l = (object *)reactor_user(r, c);
        char name[NAME + 12];
        snprintf(name, sizeof name, "%.12s%d", l->name, ++l->accepted);
        *at = object_new(name, CONN);
        (*at)->of = l;
        memcpy((*at)->eats, l->eats, sizeof l->eats);
        (*at)->again = l->again;
        (*at)->busy = l->busy;
    }
    (*at)->conn = c;
    (*at)->calls++;
    return *at;
}

static void conn_called(reactor_conn c, void *state, const char *event, const char *more) {
    object *o = object_of(c, state);
    const object *outer = current;
    current = o;
    say("%s %s%s", o->name, event, more);
    take_hooks(o, event);
    current = outer;
}

static void on_open(reactor *loop, reactor_conn c, void *state) {
    (void)loop;
    conn_called(c, state, "open", "");
}
static void on_eof(reactor *loop, reactor_conn c, void *state) {
    (void)loop;
    conn_called(c, state, "eof", "");
}
static int on_drain(reactor *loop, reactor_conn c, void *state) {
    (void)loop;
    conn_called(c, state, "drain", "");
    return object_of(c, state)->busy;
}
static void on_writable(reactor *loop, reactor_conn c, void *state) {
    (void)loop;
    conn_called(c, state, "writable", "");
}
static int on_timeout(reactor *loop, reactor_conn c, int which, void *state) {
    static const char *const names[] = {"?", " idle", " read", " write", " deadline"};
    (void)loop;
    conn_called(c, state, "timeout", names[which > 0 && which < 5 ? which : 0]);
    return object_of(c, state)->again;
}
static void on_close(reactor *loop, reactor_conn c, int reason, void *state) {
    char text[NAME] = " ";
    (void)loop;
    if (reason) code_text(text + 1, sizeof text - 1, reason);
    if (reason == REACTOR_DETACHED) snprintf(text, sizeof text, " detached");
    conn_called(c, state, "close", reason ? text : "");
}

static size_t eaten(const object *o, const char *data, size_t len) {
    if (!strcmp(o->eats, "all")) return len;
    if (!strcmp(o->eats, "none")) return 0;
    if (!strcmp(o->eats, "line")) {
        while (len && data[len - 1] != '\n') len--;
        return len;
    }
    size_t most = (size_t)atol(o->eats);
    return most < len ? most : len;
}

static size_t on_data(reactor *loop, reactor_conn c, const void *data, size_t len, void *state) {
    object *o = object_of(c, state);
    const object *outer = current;
    size_t used = eaten(o, (const char *)data, len);
    (void)loop;
    current = o;
    if (used)
        say_data(DATA, data, used, o->in);
    else
        say_data(OFFER, data, len, o->in);
    take_hooks(o, "data");
    current = outer;
    o->in += used;
    return used;
}

static const reactor_handler *handler(const char *which) {
    static reactor_handler plain, no_eof, no_data, drains;
    plain.state_size = sizeof(object *);
    plain.on_open = on_open;
    plain.on_data = on_data;
    plain.on_eof = on_eof;
    plain.on_writable = on_writable;
    plain.on_timeout = on_timeout;
    plain.on_close = on_close;
    no_eof = no_data = drains = plain;
    no_eof.on_eof = NULL;
    no_data.on_data = NULL;
    drains.on_drain = on_drain;
    if (!strcmp(which, "no-eof")) return &no_eof;
    if (!strcmp(which, "no-data")) return &no_data;
    if (!strcmp(which, "drain")) return &drains;
    return &plain;
}

/* ---- verbs: the loop ---- */

static long option(int n, char **word, const char *name, long otherwise) {
    size_t len = strlen(name);
    for (int i = 0; i < n; i++)
        if (!strncmp(word[i], name, len) && word[i][len] == '=') return atol(word[i] + len + 1);
    return otherwise;
}

static const char *option_text(int n, char **word, const char *name, const char *otherwise) {
    size_t len = strlen(name);
    for (int i = 0; i < n; i++)
        if (!strncmp(word[i], name, len) && word[i][len] == '=') return word[i] + len + 1;
    return otherwise;
}

#ifdef _WIN32
/* Handles are multiples of 4. What the system opens once is open after a first use, and a thread of
   its pool that waits for timers stays while there is something to wait for. */
#define IS_OPEN(n) handle_is_open((n)*4 + 4)
static int handle_is_open(int n) {
    DWORD flags;
    return GetHandleInformation(posix_handle_of(n), &flags) != 0;
}
static VOID CALLBACK never(PVOID user, BOOLEAN timed_out) { (void)user, (void)timed_out; }
static void settle_descriptors(void) {
    static const reactor_handler none;
    static int begun;
    reactor *first;
    HANDLE waited;
    if (begun++) return;
    RegisterWaitForSingleObject(&waited, CreateEventW(NULL, TRUE, FALSE, NULL), never, NULL,
                                INFINITE, WT_EXECUTEINWAITTHREAD);
    if (reactor_create(&first, NULL) < 0) return;
    reactor_listen(first, "127.0.0.1:0", &none, NULL, NULL);
    reactor_poll(first, 1);
    reactor_destroy(first);
}
#elif defined(REACTOR_TEST_KQUEUE)
/* libkqueue has some of its own from the first kqueue on, and closes those of each in a thread. */
#define IS_OPEN(n) (fcntl(n, F_GETFD) >= 0)
int kqueue(void);
void libkqueue_drain_pending_close(void);
static void settle_descriptors(void) {
    static int begun;
    if (strcmp(backend, "kqueue")) return;
    if (!begun++) close(kqueue());
    libkqueue_drain_pending_close();
}
#else
#define IS_OPEN(n) (fcntl(n, F_GETFD) >= 0)
static void settle_descriptors(void) {}
#endif

static int open_descriptors(void) {
    int n = 0;
    settle_descriptors();
    for (int fd = 0; fd < 256; fd++) n += IS_OPEN(fd);
    return n;
}

static int do_loop(int n, char **word) {
    reactor_options o;
    memset(&o, 0, sizeof o);
    o.backend = backend;
    o.batch = (int)option(n, word, "batch", 0);
    o.accept_budget = (int)option(n, word, "accept", 0);
    o.timer_budget = (int)option(n, word, "timers", 0);
    o.post_budget = (int)option(n, word, "posts", 0);
    o.read_budget = (size_t)option(n, word, "read", 0);
    o.read_buffer = (size_t)option(n, word, "buffer", 0);
    if (r) return UNKNOWN;
    return reactor_create(&r, &o);
}

static int do_destroy(int n, char **word) {
    (void)n, (void)word;
    sorting_all = 1;
    reactor_destroy(r);
    if (current)
        destroyed = 1; /* freed before the turn that calls back returns */
    else
        r = NULL;
    return SAID;
}

/* One turn; what a callback has destroyed is gone after it. */
static int turn(int64_t timeout_ns) {
    int e = r ? reactor_poll_ns(r, timeout_ns) : 0;
    if (destroyed && !current) r = NULL;
    return e;
}

static int do_turn(int n, char **word) {
    int times = n ? atoi(word[0]) : 1, e = 0;
    while (times-- > 0 && e >= 0) {
        if (!current) await_delivery();
        e = turn(0);
        if (times) {
            phase++;
            say("-");
            phase++;
        }
    }
    return e < 0 ? e : SAID;
}

/* Until three turns in a row have called nothing. */
static int do_run(int n, char **word) {
    (void)n, (void)word;
    if (current) return turn(0);
    sorting_all = 1;
    for (int calm = 0, turns = 0; calm < 3; turns++) {
        if (turns == RUN_MAX) {
            drop_lines();
            say("busy");
            return SAID;
        }
        await_delivery();
        int e = turn(calm == 2 ? 100000 : 0);
        if (e < 0) return e;
        calm = e ? 0 : calm + 1;
    }
    return SAID;
}

/* Until an object has been called, or called so often, in this step. */
static int do_until(int n, char **word) {
    const object *o = find(word[0], ~0u);
    int times = n > 1 ? atoi(word[1]) : 1;
    if (!o || current) return UNKNOWN;
    sorting_all = 1;
    for (times += o->calls; r && o->calls < times;) {
        int e = turn(-1);
        if (e < 0) return e;
        if (line_count > 1000) {
            drop_lines();
            say("busy");
            return SAID;
        }
    }
    return SAID;
}

static int do_go(int n, char **word) {
    (void)n, (void)word;
    sorting_all = 1;
    int e = reactor_run(r);
    if (destroyed && !current) r = NULL;
    say("ended %s", e ? error_name(-e) : "0");
    return SAID;
}

static int do_stop(int n, char **word) {
    (void)n, (void)word;
    reactor_stop(r);
    return 0;
}
static int do_wake(int n, char **word) {
    (void)n, (void)word;
    reactor_wake(r);
    return 0;
}
static int do_keep(int n, char **word) {
    object *o = n ? find(word[0], END | TIMER) : NULL;
    if (n && !o) return UNKNOWN;
    if (o) return o->kind == TIMER ? reactor_ref_timer(r, o->timer) : reactor_ref_fd(r, o->fd);
    reactor_ref(r);
    return 0;
}
static int do_unkeep(int n, char **word) {
    object *o = n ? find(word[0], END | TIMER) : NULL;
    if (n && !o) return UNKNOWN;
    if (o) return o->kind == TIMER ? reactor_unref_timer(r, o->timer) : reactor_unref_fd(r, o->fd);
    reactor_unref(r);
    return 0;
}

/* Nothing is called, and the backend has nothing to report: a loop that waited would sleep. */
static int do_silent(int n, char **word) {
    reactor_counters before, after;
    (void)n, (void)word;
    if (current) return UNKNOWN;
    await_delivery();
    for (int i = 0; i < 4; i++) reactor_poll(r, 0);
    reactor_stats(r, &before);
    for (int i = 0; i < 10; i++) reactor_poll(r, 0);
    reactor_stats(r, &after);
    if (after.events != before.events) say("spins");
    if (after.callbacks != before.callbacks) say("calls");
    return SAID;
}

static int do_count(int n, char **word) {
    reactor_counters c;
    reactor_stats(r, &c);
    (void)n;
    if (!strcmp(word[0], "watchers")) return (int)c.watchers;
    if (!strcmp(word[0], "timers")) return (int)c.timers;
    if (!strcmp(word[0], "listeners")) return (int)c.listeners;
    if (!strcmp(word[0], "connections")) return (int)c.connections;
    if (!strcmp(word[0], "queued")) return (int)c.queued;
    if (!strcmp(word[0], "unread")) return (int)c.unread;
    if (!strcmp(word[0], "accepts")) return (int)c.accepts;
    if (!strcmp(word[0], "closes")) return (int)c.closes;
    return UNKNOWN;
}

/* ---- verbs: descriptors ---- */

static object *end_new(const char *name, int fd) {
    object *o = object_new(name, END);
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    o->fd = fd;
    return o;
}

static int two_ends(char **word, const int fd[2]) {
    object *a = end_new(word[0], fd[0]), *b = end_new(word[1], fd[1]);
    a->peer = b;
    b->peer = a;
    return 0;
}

static int tcp_pair(int fd[2]) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(l, (struct sockaddr *)&a, sizeof a) < 0 || listen(l, 1) < 0) return -errno;
    getsockname(l, (struct sockaddr *)&a, &len);
    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    int e = connect(fd[0], (struct sockaddr *)&a, sizeof a) < 0 ? -errno : 0;
    fd[1] = accept(l, NULL, NULL);
    close(l);
    return e;
}

/* The two are connected in both directions, but a pipe, whose first end is the one to read. */
static int do_pair(int n, char **word) {
    const char *how = word[0];
    int fd[2] = {-1, -1}, e = 0;
    (void)n;
    if (!strcmp(how, "unix"))
        e = socketpair(AF_UNIX, SOCK_STREAM, 0, fd);
    else if (!strcmp(how, "dgram"))
        e = socketpair(AF_UNIX, SOCK_DGRAM, 0, fd);
    else if (!strcmp(how, "tcp"))
        e = tcp_pair(fd);
    else if (!strcmp(how, "pipe"))
        e = pipe(fd);
    else
        return UNKNOWN;
    if (e < 0) return -errno;
    two_ends(word + 1, fd);
    find(word[1], END)->dgram = find(word[2], END)->dgram = !strcmp(how, "dgram");
    return 0;
}

static int do_open(int n, char **word) {
    static const char text[] = "the quick brown fox jumps over the lazy dog\n";
    int fd = -1;
    (void)n;
    if (!strcmp(word[1], "null")) fd = open("/dev/null", O_RDWR);
    if (!strcmp(word[1], "file")) {
        char path[] = "/tmp/reactor-differential-XXXXXX";
        fd = mkstemp(path);
        unlink(path);
        if (write(fd, text, sizeof text - 1) < 0) return -errno;
        lseek(fd, 0, SEEK_SET);
    }
    if (fd < 0) return UNKNOWN;
    end_new(word[0], fd);
    return 0;
}

static int do_dup(int n, char **word) {
    object *o = find(word[1], END);
    (void)n;
    if (!o || o->closed) return UNKNOWN;
    object *copy = end_new(word[0], dup(o->fd));
    copy->peer = o->peer;
    return 0;
}

static int verb_events(char **word, object **o, unsigned *events) {
    *o = find(word[0], END);
    return *o && bits_parse(word[1], events);
}

static int do_add(int n, char **word) {
    object *o;
    unsigned events;
    (void)n;
    if (!verb_events(word, &o, &events)) return UNKNOWN;
    int e = reactor_add(r, o->fd, events, on_io, o);
    if (e == 0) o->interest = events;
    if (e == 0) o->due = ~0u;
    return e;
}
/* For `select`: no callback. */
static int do_pull(int n, char **word) {
    object *o;
    unsigned events;
    (void)n;
    if (!verb_events(word, &o, &events)) return UNKNOWN;
    int e = reactor_add(r, o->fd, events, NULL, o);
    if (e == 0) o->interest = events;
    if (e == 0) o->due = ~0u;
    return e;
}
static int do_modify(int n, char **word) {
    object *o;
    unsigned events;
    (void)n;
    if (!verb_events(word, &o, &events)) return UNKNOWN;
    int e = reactor_modify(r, o->fd, events);
    if (e == 0) o->interest = events;
    if (e == 0) o->due = ~0u;
    return e;
}
static int do_remove(int n, char **word) {
    object *o = find(word[0], END);
    (void)n;
    return o ? reactor_remove(r, o->fd) : UNKNOWN;
}
static int do_rewatch(int n, char **word) {
    object *o = find(word[0], END);
    const char *which = n > 1 ? word[1] : "2";
    if (!o) return UNKNOWN;
    return reactor_rewatch(r, o->fd,
                           !strcmp(which, "none") ? NULL
                           : !strcmp(which, "1")  ? on_io
                                                  : on_io_2,
                           o);
}
static int do_find(int n, char **word) {
    object *o = find(word[0], END);
    reactor_key key;
    (void)n;
    if (!o) return UNKNOWN;
    int e = reactor_find(r, o->fd, &key);
    if (e < 0) return e;
    say("%s%s %s%s", current ? current->name : "found", current ? " found" : "",
        bits_text(key.events),
        key.fn == on_io_2 ? " /2"
        : key.fn          ? ""
                          : " pulled");
    return SAID;
}
static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}
static int do_select(int n, char **word) {
    reactor_key keys[64];
    char *text[64];
    int max = n ? atoi(word[0]) : 64, shown = 0;
    await_delivery();
    int e = reactor_select(r, keys, max > 64 ? 64 : max, 0);
    if (destroyed && !current) r = NULL;
    if (e < 0) return e;
    for (int i = 0; i < e; i++) {
        char out[LINE];
        object *o = (object *)keys[i].user;
        unsigned events = edge_due(o, keys[i].events);
        if (!events) continue;
        snprintf(out, sizeof out, "key %s %s", o->name, bits_text(events));
        text[shown++] = strdup(out);
    }
    qsort(text, (size_t)shown, sizeof *text, by_text);
    for (int i = 0; i < shown; i++) {
        say("%s", text[i]);
        free(text[i]);
    }
    return SAID;
}

static int do_urgent(int n, char **word) {
    object *o = find(word[0], END);
    (void)n;
    if (!o || o->closed) return UNKNOWN;
    return send(o->fd, "!", 1, MSG_OOB | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* How much goes into a full socket is the kernel's affair. */
static void say_read(object *o, const char *data, size_t got) {
    char shown[2 * LINE];
    if (!got && o->peer) o->peer->jammed = 0;
    if (!got) return;
    if (got > MUCH)
        snprintf(shown, sizeof shown, "much");
    else
        show(shown, sizeof shown, data, got, o->in);
    say("%s%s%s", current ? current->name : "", current ? " read " : "= ", shown);
    o->in += got;
    due_at(o->peer, o->peer && o->peer->full ? REACTOR_WRITE : 0u);
    if (o->peer) o->peer->full = 0;
}

static void end_read(object *o, int whole, size_t size) {
    static char buffer[MUCH];
    size_t got = 0, kept = 0;
    ssize_t k;
    do {
        k = read(o->fd, buffer + kept, size < sizeof buffer - kept ? size : sizeof buffer - kept);
        if (k > 0) got += (size_t)k;
        kept = got < sizeof buffer / 2 ? got : sizeof buffer / 2;
        if (k < 0 && errno == EAGAIN && whole && got > MUCH && ask(o->fd, POLLIN, 20)) k = 1;
    } while (whole && k > 0);
    int e = errno;
    say_read(o, buffer, got);
    if (k == 0 && size) say("%s%send", current ? current->name : "", current ? " " : "");
    if (k < 0 && (!whole || e != EAGAIN))
        say("%s%s-%s", current ? current->name : "", current ? " " : "", error_name(e));
}

/* Reads once, at most so much. */
static int do_read(int n, char **word) {
    object *o = find(word[0], END);
    if (!o || o->closed) return UNKNOWN;
    if (!current) await_delivery();
    end_read(o, 0, n > 1 ? (size_t)atol(word[1]) : 65536);
    return SAID;
}
/* Reads all that there is. */
static int do_gulp(int n, char **word) {
    object *o = find(word[0], END);
    (void)n;
    if (!o || o->closed) return UNKNOWN;
    if (!current) await_delivery();
    end_read(o, 1, SIZE_MAX);
    return SAID;
}
/* Reads and turns until so much has come, or the end. */
static int do_sink(int n, char **word) {
    static char buffer[65536];
    object *o = find(word[0], END);
    size_t want = n > 1 && strcmp(word[1], "end") ? (size_t)atol(word[1]) : SIZE_MAX, got = 0;
    size_t wrong = 0;
    if (!o || current || o->closed) return UNKNOWN;
    sorting_all = 1;
    while (got < want) {
        ssize_t k = read(o->fd, buffer, want - got < sizeof buffer ? want - got : sizeof buffer);
        if (k == 0 || (k < 0 && errno != EAGAIN)) {
            say("%s", k ? error_name(errno) : "end");
            break;
        }
        for (ssize_t i = 0; i < k; i++) wrong += buffer[i] != pattern(o->in + (uint64_t)i);
        if (k > 0) got += (size_t)k;
        if (k > 0) o->in += (uint64_t)k;
        int e = turn(k > 0 ? 0 : 1000000);
        if (e < 0) return e;
    }
    say("= *%lu%s", (unsigned long)got, wrong ? " WRONG" : "");
    return SAID;
}

/* Until there is no room. TCP goes on moving bytes to the peer for a while after it has refused. */
static int do_fill(int n, char **word) {
    static char bytes[4096];
    object *o = find(word[0], END);
    (void)n;
    if (!o || o->closed) return UNKNOWN;
    int ports[2], ms = tcp_ports(o->fd, ports) ? 20 : 0;
    uint64_t before = o->out;
    ssize_t k;
    do {
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = pattern(o->out + i);
        while ((k = write(o->fd, bytes, sizeof bytes - sizeof bytes % 26)) > 0)
            o->out += (uint64_t)k;
    } while (errno == EAGAIN && ask(o->fd, POLLOUT, ms) == POLLOUT);
    if (o->out != before) due_at(o->peer, REACTOR_READ);
    o->full = o->jammed = 1;
    return 0;
}

static int do_dial(int n, char **word) {
    object *l = find(word[1], LISTENER);
    struct sockaddr_in a;
    (void)n;
    const char *colon = l ? strrchr(l->address, ':') : NULL;
    if (!colon) return UNKNOWN;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)atoi(colon + 1));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        close(fd);
        return -errno;
    }
    end_new(word[0], fd);
    return 0;
}

/* ---- verbs: timers, tasks, signals ---- */

static int do_after(int n, char **word) {
    object *o = object_new(word[0], TIMER);
    (void)n;
    return reactor_after(r, strcmp(word[1], "never") ? atol(word[1]) : INT64_MAX, on_timer, o,
                         &o->timer);
}
static int do_after_ns(int n, char **word) {
    object *o = object_new(word[0], TIMER);
    (void)n;
    return reactor_after_ns(r, atol(word[1]), on_timer, o, &o->timer);
}
static int do_every(int n, char **word) {
    object *o = object_new(word[0], TIMER);
    (void)n;
    return reactor_every(r, atol(word[1]), on_timer, o, &o->timer);
}
static int do_reset(int n, char **word) {
    object *o = find(word[0], TIMER);
    (void)n;
    return o ? reactor_reset(r, o->timer, atol(word[1])) : UNKNOWN;
}
static int do_cancel(int n, char **word) {
    object *o = find(word[0], TIMER);
    (void)n;
    return o ? reactor_cancel(r, o->timer) : UNKNOWN;
}
/* Keeps the processor so long, in milliseconds, as a slow callback does. */
static int do_spend(int n, char **word) {
    (void)n;
    poll(NULL, 0, atoi(word[0]));
    return 0;
}
static int do_defer(int n, char **word) {
    int e = 0;
    for (int i = 0; i < n && e == 0; i++) e = reactor_defer(r, on_task, object_new(word[i], TASK));
    return e;
}
static int do_post(int n, char **word) {
    int e = 0;
    for (int i = 0; i < n && e == 0; i++) e = reactor_post(r, on_task, object_new(word[i], TASK));
    return e;
}

typedef struct posts {
    object *o[WORDS];
    int n, failed;
} posts;
static void *post_all(void *arg) {
    posts *p = (posts *)arg;
    for (int i = 0; i < p->n; i++) p->failed |= reactor_post(r, on_task, p->o[i]);
    return NULL;
}
/* The same from another thread. */
static int do_thread(int n, char **word) {
    posts p;
    pthread_t t;
    memset(&p, 0, sizeof p);
    for (p.n = 0; p.n < n; p.n++) p.o[p.n] = object_new(word[p.n], TASK);
    if (pthread_create(&t, NULL, post_all, &p)) return -EAGAIN;
    pthread_join(t, NULL);
    return p.failed;
}

static int signal_number(const char *name) {
    if (!strcmp(name, "USR1")) return SIGUSR1;
    if (!strcmp(name, "USR2")) return SIGUSR2;
    if (!strcmp(name, "HUP")) return SIGHUP;
    if (!strcmp(name, "KILL")) return SIGKILL;
    return atoi(name);
}
static int do_signal(int n, char **word) {
    object *o = object_new(word[0], SIGNAL);
    (void)n;
    o->signum = signal_number(word[0]);
    return reactor_signal(r, o->signum, on_signal, o);
}
static int do_unsignal(int n, char **word) {
    (void)n;
    return reactor_signal(r, signal_number(word[0]), NULL, NULL);
}
static int do_raise(int n, char **word) {
    (void)n;
    return raise(signal_number(word[0])) ? -errno : 0;
}

/* ---- verbs: streams ---- */

static void conn_options(reactor_conn_options *o, int n, char **word, object *user) {
    memset(o, 0, sizeof *o);
    o->user = user;
    o->high_water = (size_t)option(n, word, "high", 0);
    o->low_water = (size_t)option(n, word, "low", 0);
    o->max_output = (size_t)option(n, word, "max", 0);
    o->max_input = (size_t)option(n, word, "input", 0);
    o->coupled = (int)option(n, word, "coupled", 0);
    o->idle_timeout_ms = option(n, word, "idle", 0);
    o->read_timeout_ms = option(n, word, "rtime", 0);
    o->write_timeout_ms = option(n, word, "wtime", 0);
    o->deadline_ms = option(n, word, "deadline", 0);
    o->close_timeout_ms = option(n, word, "closing", 0);
    snprintf(user->eats, sizeof user->eats, "%s", option_text(n, word, "eat", "all"));
    user->again = (int)option(n, word, "again", 0);
    user->busy = (int)option(n, word, "busy", 0);
}

static int do_listen(int n, char **word) {
    object *other = find(word[1], LISTENER), *o = object_new(word[0], LISTENER);
    reactor_listen_options lo;
    char address[REACTOR_ADDRESS_MAX];
    memset(&lo, 0, sizeof lo);
    conn_options(&lo.conn, n, word, o);
    lo.backlog = (int)option(n, word, "backlog", 0);
    lo.max_connections = (int)option(n, word, "most", 0);
    if (!strcmp(word[1], "tcp"))
        snprintf(address, sizeof address, "127.0.0.1:0");
    else if (!strcmp(word[1], "unix"))
        snprintf(address, sizeof address, "unix:/tmp/reactor-differential-%d", (int)getpid());
    else
        snprintf(address, sizeof address, "%s", other ? other->address : word[1]);
    int e =
        reactor_listen(r, address, handler(option_text(n, word, "handler", "")), &lo, &o->listener);
    if (e == 0) reactor_listener_address(r, o->listener, o->address, sizeof o->address);
    return e;
}

/* Names of listeners in the list become their addresses; `refused` is where nobody listens. */
static int do_connect(int n, char **word) {
    object *o = object_new(word[0], CONN);
    reactor_connect_options co;
    char copy[LINE], list[4 * LINE] = "", *rest = copy, *item;
    memset(&co, 0, sizeof co);
    conn_options(&co.conn, n, word, o);
    co.timeout_ms = option(n, word, "timeout", 0);
    snprintf(copy, sizeof copy, "%s", word[1]);
    while ((item = strsep(&rest, ","))) {
        object *l = find(item, LISTENER | END);
        size_t at = strlen(list);
        if (l && l->kind == END)
            snprintf(list + at, sizeof list - at, "%sfd:%d", at ? "," : "", l->fd);
        else
            snprintf(list + at, sizeof list - at, "%s%s", at ? "," : "",
                     l                          ? l->address
                     : !strcmp(item, "refused") ? "127.0.0.1:1"
                     : !strcmp(item, "nothere") ? "unix:/tmp/reactor-differential-none"
                                                : item);
    }
    int e = reactor_connect(r, list, handler(option_text(n, word, "handler", "")), &co, &o->conn);
    if (e == 0) *(object **)reactor_state(r, o->conn) = o;
    return e;
}

static int do_attach(int n, char **word) {
    object *o = object_new(word[0], CONN), *end = find(word[1], END);
    reactor_conn_options co;
    conn_options(&co, n, word, o);
    if (!end) return UNKNOWN;
    int e = reactor_attach(r, end->fd, handler(option_text(n, word, "handler", "")), &co, &o->conn);
    if (e < 0) return e;
    *(object **)reactor_state(r, o->conn) = o;
    o->peer = end->peer;
    end->closed = 1;
    if (end->peer) end->peer->peer = NULL;
    return 0;
}

static int do_detach(int n, char **word) {
    object *o = find(word[1], CONN);
    char input[1024], shown[2 * LINE];
    size_t len = n > 2 ? (size_t)atol(word[2]) : sizeof input;
    reactor_socket fd;
    if (!o) return UNKNOWN;
    int e = reactor_detach(r, o->conn, &fd, input, &len);
    if (e == -ENOBUFS) say("needs %d", (int)len);
    if (e < 0) return e;
    end_new(word[0], (int)fd);
    show(shown, sizeof shown, input, len, o->in);
    if (len) say("= %s", shown);
    return SAID;
}

/* "\n" is a line's end; "*n" so many bytes of the pattern. The caller frees it. */
static char *payload(const char *text, uint64_t at, size_t *len) {
    *len = text[0] == '*' ? (size_t)atol(text + 1) : strlen(text);
    char *data = (char *)malloc(*len + 1);
    size_t n = 0;
    if (!data) abort();
    if (text[0] == '*') {
        for (size_t i = 0; i < *len; i++) data[i] = pattern(at + i);
        return data;
    }
    for (size_t i = 0; i < *len; i++) {
        int newline = text[i] == '\\' && text[i + 1] == 'n';
        data[n++] = newline ? '\n' : text[i];
        i += (size_t)newline;
    }
    *len = n;
    return data;
}

static int end_write(object *o, const char *text) {
    size_t len;
    if (o->closed) return UNKNOWN;
    if (o->full) return -EAGAIN; /* TCP might have found some room by itself */
    char *data = payload(text, o->out, &len);
    ssize_t k = o->jammed ? write(o->fd, data, len) : write_and_await(o->fd, data, len);
    int e = errno;
    free(data);
    if (k < 0 && e == EAGAIN) o->full = 1;
    if (k < 0) return -e;
    o->out += (uint64_t)k;
    if (!o->jammed) due_at(o->peer, REACTOR_READ);
    if ((size_t)k < len) o->full = o->jammed = 1;
    if ((size_t)k < len) say("only %ld", (long)k);
    return 0;
}

static int conn_write(object *o, const char *text) {
    size_t len;
    char *data = payload(text, o->out, &len);
    int e = reactor_write(r, o->conn, data, len);
    if (e >= 0) o->out += len;
    free(data);
    return e;
}

static int do_write(int n, char **word) {
    object *o = find(word[0], END | CONN);
    (void)n;
    if (!o) return UNKNOWN;
    return o->kind == CONN ? conn_write(o, word[1]) : end_write(o, word[1]);
}

static int do_writev(int n, char **word) {
    object *o = find(word[0], CONN);
    reactor_iovec v[WORDS] = {{NULL, 0}};
    char *data[WORDS];
    uint64_t at;
    if (!o) return UNKNOWN;
    at = o->out;
    for (int i = 1; i < n; i++) {
        data[i] = payload(word[i], at, &v[i - 1].len);
        v[i - 1].data = data[i];
        at += v[i - 1].len;
    }
    int e = reactor_writev(r, o->conn, v, n - 1);
    if (e >= 0) o->out = at;
    for (int i = 1; i < n; i++) free(data[i]);
    return e;
}

/* Of a connection, but not its handler's. */
static void say_of(const char *name, const char *what) {
    const object *outer = current;
    if (!current) current = find(name, CONN);
    say("%s %s", name, what);
    current = outer;
}

static void on_free(void *data, size_t len, void *user) {
    char text[NAME];
    snprintf(text, sizeof text, "freed %zu", len);
    say_of((const char *)user, text);
    free(data);
}
static int do_owned(int n, char **word) {
    object *o = find(word[0], CONN);
    size_t len;
    (void)n;
    if (!o) return UNKNOWN;
    char *data = payload(word[1], o->out, &len);
    int e = reactor_write_owned(r, o->conn, data, len, on_free, o->name);
    if (e >= 0) o->out += len;
    return e;
}
/* One buffer to several connections. */
static int do_shared(int n, char **word) {
    size_t len;
    int e = 0;
    char *data = payload(word[0], 0, &len);
    reactor_buffer *b = reactor_buffer_wrap(data, len, on_free, (void *)(uintptr_t) "shared");
    for (int i = 1; i < n && e >= 0; i++) {
        object *o = find(word[i], CONN);
        e = o ? reactor_write_shared(r, o->conn, b) : UNKNOWN;
        if (o && e >= 0) o->out += len;
    }
    reactor_buffer_unref(b);
    return e;
}
static void on_done(reactor *loop, reactor_conn c, int result, void *user) {
    char text[NAME] = "done ";
    (void)loop, (void)c;
    code_text(text + 5, sizeof text - 5, result);
    say_of((const char *)user, text);
}
static int do_sendfile(int n, char **word) {
    object *o = find(word[0], CONN), *f = find(word[1], END);
    if (!o || !f) return UNKNOWN;
    return reactor_sendfile(r, o->conn, f->fd, n > 2 ? atol(word[2]) : 0,
                            n > 3 ? atol(word[3]) : -1, 0, on_done, o->name);
}

/* TCP does not tell its peer that nobody reads any more. */
static int hears_of(const object *o, const char *how) {
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    if (strcmp(how, "READ") != 0) return 1;
    return getsockname(o->fd, (struct sockaddr *)&at, &size) < 0 || at.ss_family == AF_UNIX;
}

static int do_shutdown(int n, char **word) {
    object *o = find(word[0], END | CONN);
    const char *how = n > 1 ? word[1] : "WRITE";
    if (!o) return UNKNOWN;
    if (o->kind == CONN) return reactor_shutdown(r, o->conn);
    if (o->closed) return UNKNOWN;
    unsigned ways = !strcmp(how, "READ")   ? REACTOR_READ
                    : !strcmp(how, "BOTH") ? REACTOR_READ | REACTOR_WRITE
                                           : REACTOR_WRITE;
    int e = shutdown(o->fd, ways == REACTOR_READ    ? SHUT_RD
                            : ways == REACTOR_WRITE ? SHUT_WR
                                                    : SHUT_RDWR);
    if ((o->shut & ways) == ways) return e < 0 ? -errno : 0; /* nobody hears of it twice */
    o->shut |= ways;
    if (hears_of(o, how)) due_at(o->peer, ~0u);
    due_at(o, ~0u);
    return e < 0 ? -errno : 0;
}

static int do_close(int n, char **word) {
    object *o = find(word[0], END | CONN | LISTENER);
    (void)n;
    if (!o) return UNKNOWN;
    if (o->kind == CONN) return reactor_close(r, o->conn);
    if (o->kind == LISTENER) return reactor_listener_close(r, o->listener);
    if (o->closed) return -EBADF;
    due_at(o->dgram ? NULL : o->peer, ~0u);
    close_and_await(o->fd);
    o->closed = 1;
    return 0;
}

static int do_abort(int n, char **word) {
    struct linger now = {1, 0};
    object *o = find(word[0], END | CONN);
    (void)n;
    if (!o) return UNKNOWN;
    if (o->kind == CONN) return reactor_abort(r, o->conn);
    if (o->closed) return -EBADF;
    setsockopt(o->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    due_at(o->dgram ? NULL : o->peer, ~0u);
    close_and_await(o->fd);
    o->closed = 1;
    return 0;
}

static int do_pause(int n, char **word) {
    object *o = find(word[0], CONN | LISTENER);
    (void)n;
    if (!o) return UNKNOWN;
    return o->kind == CONN ? reactor_pause(r, o->conn) : reactor_listener_pause(r, o->listener);
}
static int do_resume(int n, char **word) {
    object *o = find(word[0], CONN | LISTENER);
    (void)n;
    if (!o) return UNKNOWN;
    return o->kind == CONN ? reactor_resume(r, o->conn) : reactor_listener_resume(r, o->listener);
}
static int do_pending(int n, char **word) {
    object *o = find(word[0], CONN);
    (void)n;
    return o ? (int)reactor_pending(r, o->conn) : UNKNOWN;
}
static int do_notify(int n, char **word) {
    object *o = find(word[0], CONN);
    (void)n;
    return o ? reactor_notify_output(r, o->conn, (size_t)atol(word[1])) : UNKNOWN;
}
/* What on_data has left. */
static int do_input(int n, char **word) {
    object *o = find(word[0], CONN);
    char shown[2 * LINE];
    size_t len;
    (void)n;
    if (!o) return UNKNOWN;
    const char *data = (const char *)reactor_input(r, o->conn, &len);
    if (!data) return (int)len;
    show(shown, sizeof shown, data, len, o->in);
    say("= %s", shown);
    return SAID;
}
static int do_handler(int n, char **word) {
    object *o = find(word[0], CONN);
    (void)n;
    return o ? reactor_set_handler(r, o->conn, handler(word[1])) : UNKNOWN;
}
static int do_eat(int n, char **word) {
    object *o = find(word[0], CONN | LISTENER);
    (void)n;
    if (!o) return UNKNOWN;
    snprintf(o->eats, sizeof o->eats, "%s", word[1]);
    return 0;
}
static int do_timeout(int n, char **word) {
    static const char *const names[] = {"?", "idle", "read", "write", "deadline"};
    object *o = find(word[0], CONN);
    int which = 4;
    (void)n;
    if (!o) return UNKNOWN;
    while (which > 0 && strcmp(names[which], word[1])) which--;
    return reactor_set_timeout(r, o->conn, which, atol(word[2]));
}
static int do_drain(int n, char **word) { return reactor_drain(r, n ? atol(word[0]) : -1); }
static int do_alive(int n, char **word) {
    object *o = find(word[0], CONN);
    (void)n;
    if (!o) return UNKNOWN;
    say("%s", reactor_state(r, o->conn) ? "alive" : "stale");
    return SAID;
}

/* ---- steps ---- */

/* on NAME[.EVENT] [#NTH] STEP: take it in that callback. */
static int do_on(int n, char **word) {
    hook *h = (hook *)calloc(1, sizeof *h), **at = &hooks;
    int first = 1;
    if (!h) abort();
    char *dot = strchr(word[0], '.');
    if (dot) *dot = 0;
    snprintf(h->name, sizeof h->name, "%s", word[0]);
    snprintf(h->event, sizeof h->event, "%s", dot ? dot + 1 : "");
    if (n > 1 && word[1][0] == '#') h->nth = atoi(word[first++] + 1);
    for (int i = first; i < n; i++) {
        size_t len = strlen(h->step);
        snprintf(h->step + len, sizeof h->step - len, "%s%s", len ? " " : "", word[i]);
    }
    while (*at) at = &(*at)->next;
    *at = h;
    return 0;
}
static int do_off(int n, char **word) {
    char *dot = strchr(word[0], '.');
    (void)n;
    if (dot) *dot = 0;
    for (hook *h = hooks; h; h = h->next)
        if (!strcmp(h->name, word[0]) && !strcmp(h->event, dot ? dot + 1 : "")) h->nth = -1;
    return 0;
}

static const struct {
    const char *name;
    int least; /* words that it needs */
    int (*fn)(int n, char **word);
} verbs[] = {{"loop", 0, do_loop},
             {"destroy", 0, do_destroy},
             {"turn", 0, do_turn},
             {"run", 0, do_run},
             {"until", 1, do_until},
             {"go", 0, do_go},
             {"stop", 0, do_stop},
             {"wake", 0, do_wake},
             {"keep", 0, do_keep},
             {"unkeep", 0, do_unkeep},
             {"silent", 0, do_silent},
             {"count", 1, do_count},
             {"pair", 3, do_pair},
             {"open", 2, do_open},
             {"dup", 2, do_dup},
             {"add", 2, do_add},
             {"pull", 2, do_pull},
             {"modify", 2, do_modify},
             {"remove", 1, do_remove},
             {"rewatch", 1, do_rewatch},
             {"find", 1, do_find},
             {"select", 0, do_select},
             {"urgent", 1, do_urgent},
             {"read", 1, do_read},
             {"gulp", 1, do_gulp},
             {"sink", 1, do_sink},
             {"fill", 1, do_fill},
             {"dial", 2, do_dial},
             {"after", 2, do_after},
             {"after_ns", 2, do_after_ns},
             {"every", 2, do_every},
             {"reset", 2, do_reset},
             {"cancel", 1, do_cancel},
             {"spend", 1, do_spend},
             {"defer", 1, do_defer},
             {"post", 1, do_post},
             {"thread", 1, do_thread},
             {"signal", 1, do_signal},
             {"unsignal", 1, do_unsignal},
             {"raise", 1, do_raise},
             {"listen", 2, do_listen},
             {"connect", 2, do_connect},
             {"attach", 2, do_attach},
             {"detach", 2, do_detach},
             {"write", 2, do_write},
             {"writev", 2, do_writev},
             {"owned", 2, do_owned},
             {"shared", 2, do_shared},
             {"sendfile", 2, do_sendfile},
             {"shutdown", 1, do_shutdown},
             {"close", 1, do_close},
             {"abort", 1, do_abort},
             {"pause", 1, do_pause},
             {"resume", 1, do_resume},
             {"pending", 1, do_pending},
             {"notify", 2, do_notify},
             {"input", 1, do_input},
             {"handler", 2, do_handler},
             {"eat", 2, do_eat},
             {"timeout", 3, do_timeout},
             {"drain", 0, do_drain},
             {"alive", 1, do_alive},
             {"on", 2, do_on},
             {"off", 1, do_off}};

static int perform(char *step) {
    char *word[WORDS], *rest = step, *w;
    int n = 0;
    while (n < WORDS && (w = strsep(&rest, " ")))
        if (*w) word[n++] = w;
    for (size_t i = 0; n && i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, word[0])) continue;
        if (n - 1 < verbs[i].least) return UNKNOWN;
        if (destroyed && !r) return UNKNOWN;
        int e = r || verbs[i].fn == do_loop ? 0 : do_loop(0, NULL);
        return e < 0 ? e : verbs[i].fn(n - 1, word + 1);
    }
    return UNKNOWN;
}

static void play(const char *text) {
    char step[LINE], result[NAME];
    snprintf(step, sizeof step, "%s", text);
    printf("%s\n", text);
    fflush(stdout);
    sorting_all = 0;
    int e = perform(step);
    if (e == UNKNOWN) {
        say("unknown");
    } else if (e && e != SAID) {
        code_text(result, sizeof result, e);
        say("%s", result);
    }
    print_lines();
}

#ifdef _WIN32
static void prepare(void) {}
#else
static void time_is_up(int signum) {
    (void)signum;
    if (write(1, "  HUNG\n", 7) < 0) _exit(98);
    _exit(99);
}
static void prepare(void) {
    signal(SIGPIPE, SIG_IGN); /* the scripts write where nobody reads */
    signal(SIGALRM, time_is_up);
}
#endif

static void begin(const char *title) {
    snprintf(now_playing, sizeof now_playing, "%s", title);
    printf("%s\n", title);
    fflush(stdout);
    alarm(LIMIT_S);
    descriptors_before = open_descriptors();
    destroyed = 0;
}

/* The loop goes first, then what the script has left open; then nothing may be left. */
static void end(void) {
    if (!now_playing[0]) return;
    current = NULL;
    if (r) do_destroy(0, NULL);
    if (line_count) {
        printf("(end)\n");
        print_lines();
    }
    while (objects) {
        object *o = objects;
        objects = o->next;
        if (o->kind == END && !o->closed) close(o->fd);
        free(o);
    }
    while (hooks) {
        hook *h = hooks;
        hooks = h->next;
        free(h);
    }
    if (open_descriptors() != descriptors_before)
        printf("  LEAKED %d\n", open_descriptors() - descriptors_before);
    printf("\n");
    alarm(0);
}

int main(int argc, char **argv) {
    char text[LINE];
    if (argc != 2) return 2;
    if (!strcmp(argv[1], "--list")) {
        for (int i = 0; reactor_backend_name(i); i++) puts(reactor_backend_name(i));
        return 0;
    }
    backend = argv[1];
    prepare();
    while (fgets(text, sizeof text, stdin)) {
        text[strcspn(text, "\n")] = 0;
        if (!strncmp(text, "== ", 3)) {
            end();
            begin(text);
        } else if (text[0] && now_playing[0]) {
            play(text);
        }
    }
    end();
    free(lines);
    return 0;
}
