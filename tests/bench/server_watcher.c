/* Echo on reactor.h's watchers: level-triggered, receive and send in the callback. */
#define REACTOR_IMPLEMENTATION
#ifndef BENCH_HEADER
#define BENCH_HEADER "../../reactor.h"
#endif
#include BENCH_HEADER

#include "raw_echo.h"

static reactor *loop;

static __attribute__((noinline, cold)) void settle(struct conn *c, enum echo_result result) {
    if (result == ECHO_ENDED) {
        reactor_remove(loop, c->fd);
        echo_close(c);
        return;
    }
    if ((int)result == c->blocked) return;
    c->blocked = (int)result;
    reactor_modify(loop, c->fd, result == ECHO_BLOCKED ? REACTOR_WRITE : REACTOR_READ);
}

static void on_ready(reactor *r, reactor_socket fd, unsigned events, void *user) {
    struct conn *c = user;
    (void)r;
    (void)fd;
    (void)events;
    enum echo_result result;
    if (!echo_quickly(c, &result)) settle(c, result);
}

static void on_listener(reactor *r, reactor_socket fd, unsigned events, void *user) {
    struct conn *c;
    (void)events;
    (void)user;
    while ((c = echo_accept(fd, sizeof *c)))
        if (reactor_add(r, c->fd, REACTOR_READ, on_ready, c) < 0) echo_close(c);
}

int main(void) {
    int listener = listen_anywhere();
    raise_limit();
    if (reactor_create(&loop, NULL) < 0) die("reactor_create");
    if (reactor_add(loop, listener, REACTOR_READ, on_listener, NULL) < 0) die("reactor_add");
    announce(local_port(listener));
    return reactor_run(loop) < 0;
}
