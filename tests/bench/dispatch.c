/* What a turn of one backend costs, with nothing else in it: a thousand descriptors, level-triggered,
   of which some are readable and stay so, for nobody reads.

     dispatch BACKEND ROUNDS

   Prints a line a round, nanoseconds of CPU: for each event with 10 of the 1,000 readable, with all
   of them; for removing one and adding it again; for changing one's interest, a turn being shared
   by all 1,000. */
#define REACTOR_IMPLEMENTATION
#include "../../reactor.h"

#include "bench.h"

enum { MANY = 1000, FEW = 10, EVENTS = 200000, CHANGES = 20 };

static int fds[MANY], peers[MANY];
static long called;

static void count(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r;
    (void)fd;
    (void)events;
    (void)user;
    called++;
}

static int64_t cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

static void turn(reactor *r) {
    if (reactor_poll(r, 0) < 0) die("reactor_poll");
}

/* The first n descriptors are readable, the others not. */
static void ready(int n) {
    char byte = 0;
    for (int i = 0; i < MANY; i++) {
        int there = recv(fds[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
        if (there && i >= n && recv(fds[i], &byte, 1, 0) != 1) die("recv");
        if (!there && i < n && send(peers[i], &byte, 1, 0) != 1) die("send");
    }
}

static double dispatched(reactor *r, int n) {
    ready(n);
    turn(r);
    called = 0;
    int64_t begun = cpu_ns();
    while (called < EVENTS) turn(r);
    return (double)(cpu_ns() - begun) / (double)called;
}

static double readded(reactor *r) {
    int64_t begun = cpu_ns();
    for (int n = 0; n < CHANGES; n++) {
        for (int i = 0; i < MANY; i++) {
            if (reactor_remove(r, fds[i]) < 0) die("reactor_remove");
            if (reactor_add(r, fds[i], REACTOR_READ, count, NULL) < 0) die("reactor_add");
        }
        turn(r);
    }
    return (double)(cpu_ns() - begun) / (CHANGES * MANY);
}

static double modified(reactor *r) {
    int64_t begun = cpu_ns();
    for (int n = 0; n < CHANGES; n++) {
        for (int i = 0; i < MANY; i++)
            if (reactor_modify(r, fds[i], n % 2 ? REACTOR_READ : 0) < 0) die("reactor_modify");
        turn(r);
    }
    return (double)(cpu_ns() - begun) / (CHANGES * MANY);
}

int main(int argc, char **argv) {
    reactor_options options = {.backend = argc > 1 ? argv[1] : NULL, .batch = MANY + 1};
    reactor *r;
    if (argc != 3) return 2;
    raise_limit();
    if (reactor_create(&r, &options) < 0) die("reactor_create");
    for (int i = 0; i < MANY; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) die("socketpair");
        fds[i] = pair[0];
        peers[i] = pair[1];
        if (reactor_add(r, pair[0], REACTOR_READ, count, NULL) < 0) die("reactor_add");
    }
    for (long i = 0; i < atol(argv[2]); i++) {
        double few = dispatched(r, FEW), all = dispatched(r, MANY);
        ready(0);
        double again = readded(r);
        printf("%s %.1f %.1f %.1f %.1f\n", argv[1], few, all, again, modified(r));
    }
    reactor_destroy(r);
    return 0;
}
