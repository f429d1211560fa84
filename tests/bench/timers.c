/* Setting, resetting and cancelling many timers: a bare hashed wheel, the same with handles,
   reactor.h, libev, libuv.

     timers COUNT ROUNDS random|rising

   Delays are random between 20 and 60 s, or each later than the one set before, as idle timeouts
   are when connections come and go over a minute: heaps like the first kind, for a new deadline
   seldom has to travel far, and dislike the second. Resetting and cancelling are done in the order
   of the timers' making and at random, for at a million it is mostly the memory that is measured.

   The bare wheel is less than a program can use: it holds no deadline beyond 65 s, fires nothing,
   counts nothing, knows no soonest, and trusts whoever says that a timer is set. With handles, each
   call looks whether its timer still is the one that was meant, which reactor.h promises: that
   reads one more random cache line, of the program's handles, before it can begin with the timer.

   The others' timers lie in one array made beforehand. reactor.h's are its own: each round has a
   loop of its own, so that they too lie in the order of their making. It is measured twice: inside
   a callback, where programs set their timers and where the loop's time is at hand, the turn that
   follows included; and outside, where each call looks at the clock.

   Prints one line per implementation and round: name, then nanoseconds per operation of: insert,
   reset in order, reset at random, cancel in order, insert again, cancel at random, insert after
   that (all with the same short delay), fire them (0 for the wheels, which do not). */
#define REACTOR_IMPLEMENTATION
#include "../../reactor.h"

#include "bench.h"

#include <malloc.h>

#ifdef HAVE_EV
#include <ev.h>
#endif
#ifdef HAVE_UV
#include <uv.h>
#endif

enum { PHASES = 8, SOON = 20 /* milliseconds */ };

static size_t count;
static uint32_t *delays; /* milliseconds, for three times setting each timer */
static uint32_t *order;

#define FOR_EACH(index, call)                                                                      \
    for (size_t n = 0; n < count; n++) {                                                           \
        size_t i = index;                                                                          \
        call;                                                                                      \
    }                                                                                              \
    break;

/* Written out for each, so that no call through a pointer is measured with an operation. */
#define DEFINE_PHASES(name, insert, reset, cancel)                                                 \
    static void name(int phase) {                                                                  \
        switch (phase) {                                                                           \
        case 0:                                                                                    \
            FOR_EACH(n, insert(i, delays[n]))                                                      \
        case 1:                                                                                    \
            FOR_EACH(n, reset(i, delays[count + n]))                                               \
        case 2:                                                                                    \
            FOR_EACH(order[n], reset(i, delays[2 * count + n]))                                    \
        case 3:                                                                                    \
            FOR_EACH(n, cancel(i))                                                                 \
        case 4:                                                                                    \
            FOR_EACH(n, insert(i, delays[n]))                                                      \
        case 5:                                                                                    \
            FOR_EACH(order[n], cancel(i))                                                          \
        default:                                                                                   \
            FOR_EACH(n, insert(i, SOON))                                                           \
        }                                                                                          \
    }

/* ---- a bare wheel: a list per millisecond, the deadline's low bits choose it ---- */

enum { WHEEL_SLOTS = 65536 };

struct wheel_link {
    struct wheel_link *next, *previous;
};

struct wheel_timer {
    struct wheel_link link;
    uint32_t deadline;
    uint32_t generation; /* of those with handles */
    void (*fn)(struct wheel_timer *timer, void *user);
    void *user;
};

static struct wheel_link wheel[WHEEL_SLOTS]; /* heads of circular lists */
static struct wheel_timer *wheel_timers;
static uint32_t wheel_now = 123456;

static void wheel_fired(struct wheel_timer *timer, void *user) {
    (void)timer;
    (void)user;
}

static void wheel_put(struct wheel_timer *t, uint32_t delay) {
    t->deadline = wheel_now + delay;
    struct wheel_link *head = &wheel[t->deadline % WHEEL_SLOTS];
    t->link.next = head;
    t->link.previous = head->previous;
    head->previous->next = &t->link;
    head->previous = &t->link;
}

static void wheel_take(struct wheel_timer *t) {
    t->link.previous->next = t->link.next;
    t->link.next->previous = t->link.previous;
}

static void wheel_insert(size_t i, uint32_t delay) {
    wheel_timers[i].fn = wheel_fired;
    wheel_timers[i].user = NULL;
    wheel_put(&wheel_timers[i], delay);
}

static void wheel_reset(size_t i, uint32_t delay) {
    wheel_take(&wheel_timers[i]);
    wheel_put(&wheel_timers[i], delay);
}

static void wheel_cancel(size_t i) { wheel_take(&wheel_timers[i]); }

static void wheel_start(void) {
    wheel_timers = calloc(count, sizeof *wheel_timers);
    if (!wheel_timers) die("calloc");
    for (size_t i = 0; i < WHEEL_SLOTS; i++) wheel[i].next = wheel[i].previous = &wheel[i];
}

DEFINE_PHASES(wheel_phase, wheel_insert, wheel_reset, wheel_cancel)

/* ---- the same wheel with handles: index and generation ---- */

static uint64_t *held;

static size_t held_find(size_t i) {
    size_t at = held[i] & UINT32_MAX;
    if (at >= count || wheel_timers[at].generation != held[i] >> 32) die("stale handle");
    return at;
}

static void held_insert(size_t i, uint32_t delay) {
    held[i] = (uint64_t)++wheel_timers[i].generation << 32 | i;
    wheel_insert(i, delay);
}

static void held_reset(size_t i, uint32_t delay) { wheel_reset(held_find(i), delay); }

static void held_cancel(size_t i) {
    size_t at = held_find(i);
    wheel_cancel(at);
    wheel_timers[at].generation++;
}

static void held_start(void) {
    held = calloc(count, sizeof *held);
    if (!held) die("calloc");
}

DEFINE_PHASES(held_phase, held_insert, held_reset, held_cancel)

/* ---- reactor.h ---- */

static reactor *loop;
static reactor_timer *handles;

static size_t fired_count; /* of whichever implementation runs */

static void fired(reactor *r, reactor_timer t, void *user) {
    (void)r;
    (void)t;
    (void)user;
    fired_count++;
}

static void r_insert(size_t i, uint32_t delay) {
    if (reactor_after(loop, delay, fired, NULL, &handles[i]) < 0) die("reactor_after");
}

static void r_reset(size_t i, uint32_t delay) {
    if (reactor_reset(loop, handles[i], delay) < 0) die("reactor_reset");
}

static void r_cancel(size_t i) {
    if (reactor_cancel(loop, handles[i]) < 0) die("reactor_cancel");
}

DEFINE_PHASES(r_phase, r_insert, r_reset, r_cancel)

static void r_task(reactor *r, void *user) {
    (void)r;
    r_phase(*(int *)user);
}

/* Two turns: the task runs at the end of the first, the next puts in its place what it has set. */
static void r_phase_inside(int phase) {
    if (reactor_defer(loop, r_task, &phase) < 0) die("reactor_defer");
    if (reactor_poll(loop, 0) < 0 || reactor_poll(loop, 0) < 0) die("reactor_poll");
}

/* The allocator keeps what a round gives back, so that the next one does not fault it in again. */
static void r_start(void) {
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    handles = calloc(count, sizeof *handles);
    if (!handles) die("calloc");
}

static void r_begin(void) {
    if (reactor_create(&loop, NULL) < 0) die("reactor_create");
}

static void r_end(void) { reactor_destroy(loop); }

static void r_fire(void) {
    if (reactor_poll(loop, 0) < 0) die("reactor_poll");
}

/* ---- libev: ev_timer_again is what its manual recommends for resetting ---- */

#ifdef HAVE_EV
static struct ev_loop *ev;
static ev_timer *ev_timers;

static void ev_fired(struct ev_loop *l, ev_timer *t, int events) {
    (void)l;
    (void)t;
    (void)events;
    fired_count++;
}

static void e_fire(void) { ev_run(ev, EVRUN_NOWAIT); }

static void e_insert(size_t i, uint32_t delay) {
    ev_timer_init(&ev_timers[i], ev_fired, delay / 1000.0, 0.);
    ev_timer_start(ev, &ev_timers[i]);
}

static void e_reset(size_t i, uint32_t delay) {
    ev_timers[i].repeat = delay / 1000.0;
    ev_timer_again(ev, &ev_timers[i]);
}

static void e_cancel(size_t i) { ev_timer_stop(ev, &ev_timers[i]); }

static void e_start(void) {
    ev_timers = calloc(count, sizeof *ev_timers);
    ev = ev_loop_new(EVBACKEND_EPOLL);
    if (!ev_timers || !ev) die("ev_loop_new");
}

DEFINE_PHASES(e_phase, e_insert, e_reset, e_cancel)
#endif

/* ---- libuv ---- */

#ifdef HAVE_UV
static uv_loop_t uv;
static uv_timer_t *uv_timers;

static void uv_fired(uv_timer_t *t) {
    (void)t;
    fired_count++;
}

static void u_fire(void) { uv_run(&uv, UV_RUN_NOWAIT); }

static void u_insert(size_t i, uint32_t delay) {
    uv_timer_start(&uv_timers[i], uv_fired, delay, 0);
}

static void u_cancel(size_t i) { uv_timer_stop(&uv_timers[i]); }

static void u_start(void) {
    uv_timers = calloc(count, sizeof *uv_timers);
    if (!uv_timers || uv_loop_init(&uv) < 0) die("uv_loop_init");
    for (size_t i = 0; i < count; i++) uv_timer_init(&uv, &uv_timers[i]);
}

DEFINE_PHASES(u_phase, u_insert, u_insert, u_cancel)
#endif

static void nothing(void) {}

static const struct implementation {
    const char *name;
    void (*start)(void);
    void (*begin)(void); /* a round */
    void (*phase)(int phase);
    void (*fire)(void); /* a turn that does not wait; NULL: it fires nothing */
    void (*end)(void);
} implementations[] = {
    {"wheel", wheel_start, nothing, wheel_phase, NULL, nothing},
    {"reactor", r_start, r_begin, r_phase_inside, r_fire, r_end},
    {"outside", nothing, r_begin, r_phase, r_fire, r_end},
    {"held", held_start, nothing, held_phase, NULL,
     nothing}, /* far from its like: both start cold */
#ifdef HAVE_EV
    {"ev", e_start, nothing, e_phase, e_fire, nothing},
#endif
#ifdef HAVE_UV
    {"uv", u_start, nothing, u_phase, u_fire, nothing},
#endif
};

/* All are due when it begins. A turn has a budget, so there are several. */
static double fire_all(const struct implementation *with) {
    struct timespec due = {0, 2 * SOON * 1000000L};
    nanosleep(&due, NULL);
    int64_t began = wall_ns();
    for (fired_count = 0; fired_count < count;) with->fire();
    return (double)(wall_ns() - began) / (double)count;
}

static void measure(const struct implementation *with, double *out) {
    with->begin();
    for (int phase = 0; phase < PHASES - 1; phase++) {
        int64_t began = wall_ns();
        with->phase(phase);
        out[phase] = (double)(wall_ns() - began) / (double)count;
    }
    out[PHASES - 1] = 0;
    if (with->fire)
        out[PHASES - 1] = fire_all(with);
    else
        with->phase(3); /* the next round finds none set */
    with->end();
}

static void make_input(int rising) {
    uint64_t seed = 88172645463325252u;
    delays = malloc(3 * count * sizeof *delays);
    order = malloc(count * sizeof *order);
    if (!delays || !order) die("malloc");
    for (size_t i = 0; i < 3 * count; i++)
        delays[i] = 20000 + (uint32_t)(rising ? 60000 * i / count : random_next(&seed) % 40000);
    for (size_t i = 0; i < count; i++) {
        size_t j = random_next(&seed) % (i + 1);
        order[i] = order[j];
        order[j] = (uint32_t)i;
    }
}

int main(int argc, char **argv) {
    size_t all = sizeof implementations / sizeof *implementations;
    if (argc != 4 || atol(argv[1]) < 1) return 2;
    count = (size_t)atol(argv[1]);
    make_input(strcmp(argv[3], "rising") == 0);
    for (size_t k = 0; k < all; k++) implementations[k].start();
    for (int round = -1; round < atoi(argv[2]); round++) {
        for (size_t k = 0; k < all; k++) {
            double out[PHASES];
            measure(&implementations[k], out);
            if (round < 0) continue; /* memory is touched for the first time */
            printf("%s", implementations[k].name);
            for (int i = 0; i < PHASES; i++) printf(" %.2f", out[i]);
            printf("\n");
        }
    }
    return 0;
}
