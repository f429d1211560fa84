/* Echo on reactor.h's watchers: level-triggered, receive and send in the callback. */
#define REACTOR_IMPLEMENTATION
#include "../../reactor.h"

#include "raw_echo.h"

static void end(reactor *r, struct conn *c) {
    reactor_remove(r, c->fd);
    echo_close(c);
}

static void on_ready(reactor *r, reactor_socket fd, unsigned events, void *user) {
    struct conn *c = user;
    (void)events;
    enum echo_result result = UNLIKELY(c->rest != NULL) ? echo_output(c) : echo_input(c, 0);
    if (UNLIKELY((int)result != c->blocked)) {
        if (result == ECHO_ENDED) {
            end(r, c);
            return;
        }
        c->blocked = (int)result;
        reactor_modify(r, fd, result == ECHO_BLOCKED ? REACTOR_WRITE : REACTOR_READ);
    }
}

static void on_listener(reactor *r, reactor_socket fd, unsigned events, void *user) {
    struct conn *c;
    (void)events;
    (void)user;
    while ((c = echo_accept(fd, sizeof *c)))
        if (reactor_add(r, c->fd, REACTOR_READ, on_ready, c) < 0) echo_close(c);
}

int main(void) {
    reactor *r;
    int listener = listen_anywhere();
    raise_limit();
    if (reactor_create(&r, NULL) < 0) die("reactor_create");
    if (reactor_add(r, listener, REACTOR_READ, on_listener, NULL) < 0) die("reactor_add");
    announce(local_port(listener));
    return reactor_run(r) < 0;
}
