/* Random operations on sockets, pipes and files, compared with poll(2) after each few: what it says
   is ready must be told in the next turn, and nothing else may be. REACTOR_TEST_SEED repeats a run;
   REACTOR_TEST_STEPS makes it longer. */
#include "recorder.h"

#ifndef _WIN32
#include <sys/eventfd.h>
#endif

enum { ENDS = 40, STEPS = 3000 };

typedef enum kind { UNIX, TCP, PIPE, EVENT, NUL, FILED } kind;

/* One descriptor, and the end it is connected with, if any. */
typedef struct end {
    int fd; /* -1: not open */
    int peer;
    kind kind;
    struct watcher *watched; /* NULL: not */
} end;

#define KEEP_BOTH "keep, of a descriptor's two events, the one that a batch has no room for"

/* What is known of one watcher. It gets another one of these each time it is added, so that a call
   for one that is gone is seen. */
typedef struct watcher {
    struct model *of;
    int fd, alive;
    unsigned interest; /* as asked for; with ONESHOT also as long as it is spent */
    int spent;         /* ONESHOT, and reported */
    int pulled;        /* no callback */
    int owes;          /* EDGE: armed, or a new edge since the last report */
    int calls;         /* this step */
    unsigned told;     /* this step */
    int touched;       /* changed during this step's turns: then only the strict rules hold */
} watcher;

typedef struct model {
    reactor *r;
    uint64_t seed, start;
    int step, batch;
    end e[ENDS];
    int dups[16]; /* held open, watched by nobody */
    watcher *made;
    int made_count, made_cap;
    int in_turn, meddle;
    int blind; /* no duplicates */
    const char *last;
    char history[64][96];
    int history_at;
} model;

static void note(model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(model *m, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(m->history[m->history_at++ % 64], sizeof m->history[0], format, args);
    va_end(args);
}

static void broken(model *m, const char *what, int fd, unsigned told, unsigned expected) {
    int from = m->history_at > 64 ? m->history_at - 64 : 0;
    for (int i = from; i < m->history_at; i++) print_error("  %s\n", m->history[i % 64]);
    fail_msg("%s: descriptor %d, told %#x, expected %#x; step %d, batch %d; repeat with "
             "REACTOR_TEST_SEED=%llu",
             what, fd, told, expected, m->step, m->batch, (unsigned long long)m->start);
}

static int below(model *m, int n) { return random_below(&m->seed, n); }

static end *end_of(model *m, int fd) {
    for (int i = 0; i < ENDS; i++)
        if (m->e[i].fd == fd) return &m->e[i];
    return NULL;
}

/* ---- operations ---- */

static void random_change(model *m, end *e);

static void on_event(reactor *r, reactor_socket fd, unsigned events, void *user) {
    watcher *w = user;
    model *m = w->of;
    (void)r;
    if (!m->in_turn) broken(m, "law 1: called outside a turn", fd, events, 0);
    if (!w->alive) broken(m, "law 2: called after its removal", fd, events, 0);
    if (w->fd != fd) broken(m, "law 2: called for another descriptor", fd, events, 0);
    if (w->pulled) broken(m, "a pulled one was called", fd, events, 0);
    if (w->spent) broken(m, "law 5: a spent ONESHOT was called", fd, events, 0);
    if (!(w->interest & (READ | WRITE))) broken(m, "law 5: called without interest", fd, events, 0);
    unsigned possible = (w->interest & (READ | WRITE)) | ERROR | HANGUP;
    if ((events & ~possible) || !(events & (READ | WRITE)))
        broken(m, "law 4: told what is not watched", fd, events, w->interest);
    w->calls++;
    w->told |= events;
    w->owes = 0;
    if (w->interest & ONESHOT) w->spent = 1;
    if (m->meddle && !below(m, 6)) random_change(m, &m->e[below(m, ENDS)]);
}

static unsigned random_interest(model *m) {
    unsigned interest = (below(m, 4) ? READ : 0u) | (below(m, 3) ? 0u : WRITE);
    if (!below(m, 8)) interest = 0;
    if (!interest) return 0;
    int flavour = below(m, 6);
    return interest | (flavour == 0 ? (unsigned)EDGE : flavour == 1 ? (unsigned)ONESHOT : 0u);
}

static void expect(model *m, int got, int wanted, const char *what, int fd) {
    if (got != wanted) broken(m, what, fd, (unsigned)got, (unsigned)wanted);
}

static void add(model *m, end *e) {
    int pulled = !below(m, 5);
    if (e->fd < 0) return;
    if (e->watched) {
        expect(m, reactor_add(m->r, e->fd, READ, on_event, NULL), -EEXIST, "add twice", e->fd);
        return;
    }
    if (m->made_count == m->made_cap) return; /* never moved, for the loop points at them */
    watcher *w = &m->made[m->made_count++];
    *w = (watcher){m, e->fd, 1, random_interest(m), 0, pulled, 1, 0, 0, 1};
    expect(m, reactor_add(m->r, e->fd, w->interest, pulled ? NULL : on_event, w), 0, "add", e->fd);
    note(m, "%d add %d interest %#x%s", m->step, e->fd, w->interest, pulled ? " pulled" : "");
    e->watched = w;
}

static void modify(model *m, end *e) {
    if (!e->watched) {
        if (e->fd >= 0) expect(m, reactor_modify(m->r, e->fd, READ), -ENOENT, "modify", e->fd);
        return;
    }
    watcher *w = e->watched;
    if (below(m, 4)) w->interest = random_interest(m); /* else the same again */
    w->spent = 0;
    w->owes = 1;
    w->touched = 1;
    expect(m, reactor_modify(m->r, w->fd, w->interest), 0, "modify", w->fd);
    note(m, "%d modify %d interest %#x", m->step, w->fd, w->interest);
}

static void forget(model *m, end *e) {
    if (!e->watched) return;
    note(m, "%d remove %d", m->step, e->watched->fd);
    expect(m, reactor_remove(m->r, e->watched->fd), 0, "remove", e->watched->fd);
    e->watched->alive = 0;
    e->watched = NULL;
}

static void rewatch(model *m, end *e) {
    if (!e->watched) return;
    watcher *w = e->watched;
    w->pulled = !w->pulled;
    w->touched = 1;
    note(m, "%d rewatch %d %s", m->step, w->fd, w->pulled ? "pulled" : "called");
    expect(m, reactor_rewatch(m->r, w->fd, w->pulled ? NULL : on_event, w), 0, "rewatch", w->fd);
}

static void look_up(model *m, end *e) {
    reactor_key k;
    if (e->fd < 0) return;
    int found = reactor_find(m->r, e->fd, &k);
    expect(m, found, e->watched ? 0 : -ENOENT, "find", e->fd);
    if (!found && (k.user != e->watched || k.fd != e->fd || (k.fn == NULL) != e->watched->pulled))
        broken(m, "find: another key", e->fd, 0, 0);
    if (!found && !e->watched->spent && k.events != e->watched->interest)
        broken(m, "find: another interest", e->fd, k.events, e->watched->interest);
}

/* Before or after its removal, which is all the same to the loop; and sometimes a duplicate is left
   behind. */
static void close_end(model *m, end *e) {
    if (e->fd < 0) return;
    int *slot = &m->dups[below(m, 16)];
    if (!below(m, 5) && !m->blind) {
        if (*slot >= 0) close(*slot);
        *slot = dup(e->fd);
        note(m, "%d duplicate %d as %d", m->step, e->fd, *slot);
    }
    int before = below(m, 2), reset = e->kind == TCP && !below(m, 3);
    if (before) forget(m, e);
    note(m, "%d close %d%s", m->step, e->fd, reset ? " with reset" : "");
    if (reset)
        close_with_reset(e->fd);
    else
        close(e->fd);
    if (!before) forget(m, e);
    if (e->peer >= 0) m->e[e->peer].peer = -1;
    e->fd = e->peer = -1;
}

static void random_change(model *m, end *e) {
    switch (below(m, 12)) {
    case 0:
    case 1:
    case 2:
        add(m, e);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        modify(m, e);
        break;
    case 7:
        forget(m, e);
        break;
    case 8:
        rewatch(m, e);
        break;
    case 9:
        look_up(m, e);
        break;
    case 10:
        if (!below(m, 2)) close_end(m, e);
        break;
    default:
        forget(m, e);
        add(m, e);
        break;
    }
}

static const char *program; /* this one: a regular file that is there everywhere */

static void open_two(model *m, end *a, end *b) {
    int fd[2] = {-1, -1};
    kind k = (kind)below(m, KINDS_TO_WATCH);
    switch (k) {
    case TCP:
        make_tcp_pair(fd);
        break;
    case PIPE:
        make_pipe(fd);
        break;
    case EVENT:
        fd[0] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        break;
    case NUL:
        fd[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
        break;
    case FILED:
        fd[0] = open(program, O_RDONLY | O_CLOEXEC);
        break;
    default:
        make_pair(fd);
        break;
    }
    a->fd = fd[0];
    b->fd = fd[1];
    a->kind = b->kind = k;
    a->peer = b->peer = -1;
    if (fd[1] >= 0) {
        a->peer = (int)(b - m->e);
        b->peer = (int)(a - m->e);
    }
    if (fd[0] < 0) fail_msg("no descriptor: %s", strerror(errno));
    note(m, "%d open kind %d: %d %d", m->step, (int)k, fd[0], fd[1]);
}

static void do_io(model *m, end *e) {
    static char data[65536];
    size_t len = (size_t)below(m, 3) ? (size_t)below(m, 100) + 1 : sizeof data;
    if (e->fd < 0 || e->kind == NUL || e->kind == FILED) return;
    switch (below(m, 6)) {
    case 0:
    case 1:
        if (e->kind == EVENT) {
            eventfd_write(e->fd, below(m, 2) ? 1 : UINT64_MAX - 1);
        } else {
            note(m, "%d write %d of %d", m->step, e->fd, (int)len);
            if (write(e->fd, data, len) < 0) note(m, "  %s", strerror(errno));
        }
        break;
    case 2:
        if (!below(m, 3) && e->kind != EVENT) {
            note(m, "%d fill %d", m->step, e->fd);
            while (write(e->fd, data, sizeof data) > 0) continue;
        }
        break;
    case 3:
        note(m, "%d read %d", m->step, e->fd);
        if (read(e->fd, data, len < 8 ? 8 : len) < 0) note(m, "  %s", strerror(errno));
        break;
    case 4:
        note(m, "%d drain %d", m->step, e->fd);
        drain(e->fd);
        break;
    default:
        if ((e->kind == UNIX || e->kind == TCP) && !below(m, 4)) {
            int how = below(m, 3);
            note(m, "%d shutdown %d how %d", m->step, e->fd, how);
            shutdown(e->fd, how);
        } else if (e->kind == TCP && !below(m, 3)) {
            note(m, "%d urgent %d", m->step, e->fd);
            send(e->fd, "!", 1, MSG_OOB | MSG_NOSIGNAL);
        }
        break;
    }
}

static void random_operation(model *m) {
    int i = below(m, ENDS / 2) * 2;
    end *a = &m->e[i], *b = &m->e[i + 1], *e = below(m, 2) ? a : b;
    if (a->fd < 0 && b->fd < 0) {
        open_two(m, a, b);
        if (below(m, 4)) add(m, a);
        if (below(m, 4)) add(m, b);
    } else if (!below(m, 12)) {
        close_end(m, e);
    } else if (below(m, 2)) {
        do_io(m, e);
    } else {
        random_change(m, e);
    }
}

/* ---- the oracle ---- */

/* What a watcher of that interest must be told, by what poll(2) says. */
static unsigned translate(short revents, unsigned interest) {
    unsigned told = 0;
    if (revents & POLLIN) told |= interest & READ;
    if (revents & POLLOUT) told |= interest & WRITE;
    if (revents & (POLLERR | POLLHUP)) told |= interest & (READ | WRITE);
    if (told && (revents & POLLERR)) told |= ERROR;
    if (told && (revents & POLLHUP)) told |= HANGUP;
    return told;
}

/* On Windows POLLHUP is an end of file, and the reset that should bring it is POLLERR alone. */
static short as_elsewhere(short revents) {
    if (PAIRS_HANG_UP) return revents;
    return (short)(revents & POLLERR ? revents | POLLHUP : revents & ~POLLHUP);
}

static void ask_kernel(const model *m, short *revents) {
    struct pollfd p[ENDS];
    unsigned n = 0;
    for (int i = 0; i < ENDS; i++)
        if (m->e[i].fd >= 0) p[n++] = (struct pollfd){m->e[i].fd, POLLIN | POLLOUT, 0};
    assert_return_code(poll(p, n, 0), errno);
    n = 0;
    for (int i = 0; i < ENDS; i++) revents[i] = m->e[i].fd < 0 ? 0 : as_elsewhere(p[n++].revents);
}

/* select(2) tells a writer without room of no hang-up that is not an error too. */
static int select_is_blind(const watcher *w, short revents) {
    return on_backend("select") && (w->interest & (READ | WRITE)) == WRITE &&
           (revents & (POLLHUP | POLLOUT | POLLERR)) == POLLHUP;
}

static void take_turns(model *m, int n, int pulling) {
    reactor_key k[ENDS];
    m->in_turn = 1;
    while (n-- > 0) {
        int got = pulling ? reactor_select(m->r, k, ENDS, 0) : reactor_poll(m->r, 0);
        if (got < 0) broken(m, reactor_strerror(got), -1, 0, 0);
        for (int i = 0; pulling && i < got; i++) {
            watcher *w = k[i].user;
            if (!w->alive || !w->pulled || k[i].fd != w->fd || k[i].fn)
                broken(m, "select: a key of what is gone", k[i].fd, k[i].events, 0);
            if (w->spent) broken(m, "select: a spent ONESHOT", k[i].fd, k[i].events, 0);
            if (k[i].events & ~((w->interest & (READ | WRITE)) | ERROR | HANGUP))
                broken(m, "select: told what is not watched", k[i].fd, k[i].events, w->interest);
            w->calls++;
            w->told |= k[i].events;
            w->owes = 0;
            if (w->interest & ONESHOT) w->spent = 1;
        }
    }
    m->in_turn = 0;
}

static void check(model *m, const end *e, short before, short after, int turned, int pulling,
                  int spent_before, int owed) {
    const watcher *w = e->watched;
    unsigned sure = translate(before, w->interest) & translate(after, w->interest);
    unsigned maybe = translate(before, w->interest) | translate(after, w->interest);
    int mute = spent_before || (w->pulled && !pulling);
    if (mute) sure = maybe = 0;
    if ((w->interest & ONESHOT) && w->calls > 1)
        broken(m, "law 5: ONESHOT told twice", w->fd, w->told, maybe);
    if (turned == 1 && w->calls > 1) broken(m, "called twice in a turn", w->fd, w->told, maybe);
    if (w->told & ~maybe) broken(m, "law 4: told what is not so", w->fd, w->told, maybe);
    if (before != after || select_is_blind(w, before)) return;
    if ((w->interest & EDGE) && !owed) return; /* it may be told, and need not */
    if (w->told != sure) broken(m, "law 4: not told", w->fd, w->told, sure);
}

/* TCP moves data and acknowledgements on its own for a while. */
static void calm(const model *m) {
    short one[ENDS], two[ENDS];
    loopback_settles();
    ask_kernel(m, one);
    for (int same = 0, tries = 0; same < 2 && tries < 100; tries++) {
        ask_kernel(m, two);
        same = memcmp(one, two, sizeof one) ? 0 : same + 1;
        memcpy(one, two, sizeof one);
    }
}

static void compare(model *m) {
    short before[ENDS], after[ENDS];
    int spent[ENDS], owed[ENDS];
    int pulling = !below(m, 3), n = m->batch < ENDS ? 2 * ENDS / m->batch + 4 : 1;
    m->meddle = !below(m, 3);
    calm(m);
    /* A poll of its that has ended already tells what was so then; the next one is up to date. */
    if (on_backend("windows")) take_turns(m, n, pulling);
    for (int i = 0; i < m->made_count; i++) m->made[i].calls = m->made[i].touched = 0;
    for (int i = 0; i < m->made_count; i++) m->made[i].told = 0;
    for (int i = 0; i < ENDS; i++) {
        spent[i] = m->e[i].watched ? m->e[i].watched->spent : 0;
        owed[i] = m->e[i].watched ? m->e[i].watched->owes : 0;
    }
    int made = m->made_count;
    ask_kernel(m, before);
    take_turns(m, n, pulling);
    ask_kernel(m, after);
    note(m, "%d turned%s%s", m->step, pulling ? " pulling" : "", m->meddle ? " meddling" : "");
    for (int i = 0; i < ENDS; i++) {
        end *e = &m->e[i];
        if (!e->watched || e->watched->touched || e->watched - m->made >= made) continue;
        check(m, e, before[i], after[i], n, pulling, spent[i], owed[i]);
    }
}

/* A new edge is owed to whoever had nothing left to read. */
static void make_an_edge(model *m) {
    end *e = &m->e[below(m, ENDS)];
    if (e->fd < 0 || e->peer < 0 || !e->watched || !(e->watched->interest & READ)) return;
    if (e->kind == PIPE && (fcntl(e->fd, F_GETFL) & O_ACCMODE) != O_RDONLY) return;
    drain(e->fd);
    take_turns(m, 1, e->watched->pulled);
    if (!e->watched || ask(e->fd, POLLIN) || m->e[e->peer].fd < 0) return;
    if (write(m->e[e->peer].fd, "e", 1) != 1) return;
    note(m, "%d edge for %d", m->step, e->fd);
    e->watched->owes = 1;
    e->watched->told = 0;
    if (e->kind == TCP) await(e->fd, POLLIN);
}

static void run_model(uint64_t seed, int batch, int steps) {
    reactor_options o = {.batch = batch};
    model *m = calloc(1, sizeof *m);
    int open_before = open_descriptors();
    m->r = make_loop_with(&o);
    m->blind = !SOCKETS_DUP || libkqueue_cannot(SEE_A_CLOSE);
    m->start = m->seed = seed;
    m->batch = batch ? batch : 256;
    m->made_cap = steps * 12;
    m->made = calloc((size_t)m->made_cap, sizeof *m->made);
    for (int i = 0; i < ENDS; i++) m->e[i].fd = m->e[i].peer = -1;
    for (int i = 0; i < 16; i++) m->dups[i] = -1;
    for (m->step = 0; m->step < steps; m->step++) {
        for (int i = below(m, 8); i >= 0; i--) random_operation(m);
        m->meddle = 0;
        if (!below(m, 4)) make_an_edge(m);
        compare(m);
    }
    m->meddle = 0;
    for (int i = 0; i < ENDS; i++) { /* nothing watched, nothing told */
        forget(m, &m->e[i]);
        if (m->e[i].fd >= 0) close(m->e[i].fd);
    }
    assert_silent(m->r);
    assert_int_equal(counters(m->r).watchers, 0);
    for (int i = 0; i < 16; i++)
        if (m->dups[i] >= 0) close(m->dups[i]);
    reactor_destroy(m->r);
    assert_int_equal(open_descriptors(), open_before);
    (void)end_of;
    free(m->made);
    free(m);
}

static int steps_wanted(void) {
    const char *given = getenv("REACTOR_TEST_STEPS");
    return given ? atoi(given) : STEPS;
}

CASE(laws_2_4_5_6_fixed_seeds_against_poll) {
    static const uint64_t seeds[] = {1, 2, 3, 20240229, 300922, 1116579};
    if (getenv("REACTOR_TEST_SEED")) skip();
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        run_model(seeds[i], 0, steps_wanted());
}

CASE(laws_2_4_5_6_8_small_batches_against_poll) {
    if (libkqueue_cannot(KEEP_BOTH)) skip();
    if (getenv("REACTOR_TEST_SEED")) skip();
    run_model(4, 7, steps_wanted() / 4);
    run_model(5, 1, steps_wanted() / 10);
}

CASE(laws_2_4_5_6_given_or_random_seed_against_poll) {
    const char *given = getenv("REACTOR_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)clock_ns();
    run_model(seed, 0, steps_wanted());
    if (!libkqueue_cannot(KEEP_BOTH)) run_model(seed, 7, steps_wanted() / 4);
}

int main(int count, char **args) {
    (void)count;
    program = args[0];
    IGNORE_SIGPIPE; /* the operations write where nobody reads */
    const struct CMUnitTest tests[] = {
        TEST(laws_2_4_5_6_fixed_seeds_against_poll),
        TEST(laws_2_4_5_6_8_small_batches_against_poll),
        TEST(laws_2_4_5_6_given_or_random_seed_against_poll),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
