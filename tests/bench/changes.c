/* Changes of interest, N turns of one kind, for counting the system calls.

     changes none|back|modify|again|readd N

   none    turns that change nothing
   back    the interest is changed and changed back within the turn
   modify  it is another one after every turn
   again   the same interest is set again
   readd   the descriptor is removed and added

   Prints how many changes the loop says it told the backend. */
#define REACTOR_IMPLEMENTATION
#include "../../reactor.h"

#include "bench.h"

static void nothing(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)r;
    (void)fd;
    (void)events;
    (void)user;
}

static int change(reactor *r, int fd, char kind, long turn) {
    switch (kind) {
    case 'b':
        if (reactor_modify(r, fd, REACTOR_READ | REACTOR_WRITE) < 0) return -1;
        return reactor_modify(r, fd, REACTOR_READ);
    case 'm':
        return reactor_modify(r, fd, turn % 2 ? REACTOR_READ : 0);
    case 'a':
        return reactor_modify(r, fd, REACTOR_READ);
    case 'r':
        if (reactor_remove(r, fd) < 0) return -1;
        return reactor_add(r, fd, REACTOR_READ, nothing, NULL);
    default:
        return 0;
    }
}

int main(int argc, char **argv) {
    reactor *r;
    reactor_counters before, after;
    int pair[2];
    if (argc != 3) return 2;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) die("socketpair");
    if (reactor_create(&r, NULL) < 0) die("reactor_create");
    if (reactor_add(r, pair[0], REACTOR_READ, nothing, NULL) < 0) die("reactor_add");
    reactor_poll(r, 0);
    reactor_stats(r, &before);
    for (long i = 0; i < atol(argv[2]); i++) {
        if (change(r, pair[0], argv[1][0], i) < 0) die("change");
        if (reactor_poll(r, 0) < 0) die("reactor_poll");
    }
    reactor_stats(r, &after);
    printf("%llu\n", (unsigned long long)(after.changes - before.changes));
    reactor_destroy(r);
    return 0;
}
