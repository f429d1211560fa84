/* Echo on libev: ev_io, receive and send in the callback. */
#include "raw_echo.h"

#include <ev.h>
#include <stddef.h>

struct client {
    struct conn conn; /* first: raw_echo.h frees it by this address */
    ev_io io;
};

static __attribute__((noinline, cold)) void settle(struct ev_loop *loop, struct client *client,
                                                   enum echo_result result) {
    if ((int)result == client->conn.blocked) return;
    ev_io_stop(loop, &client->io);
    if (result == ECHO_ENDED) {
        echo_close(&client->conn);
        return;
    }
    client->conn.blocked = (int)result;
    ev_io_set(&client->io, client->conn.fd, result == ECHO_BLOCKED ? EV_WRITE : EV_READ);
    ev_io_start(loop, &client->io);
}

static void on_ready(struct ev_loop *loop, ev_io *io, int events) {
    struct client *client = (struct client *)((char *)io - offsetof(struct client, io));
    struct conn *c = &client->conn;
    (void)events;
    enum echo_result result;
    if (!echo_quickly(c, &result)) settle(loop, client, result);
}

static void on_listener(struct ev_loop *loop, ev_io *io, int events) {
    struct client *client;
    (void)events;
    while ((client = (struct client *)echo_accept(io->fd, sizeof *client))) {
        ev_io_init(&client->io, on_ready, client->conn.fd, EV_READ);
        ev_io_start(loop, &client->io);
    }
}

int main(void) {
    ev_io io;
    int listener = listen_anywhere();
    raise_limit();
    struct ev_loop *loop = ev_default_loop(EVBACKEND_EPOLL);
    if (!loop) die("ev_default_loop");
    ev_io_init(&io, on_listener, listener, EV_READ);
    ev_io_start(loop, &io);
    announce(local_port(listener));
    ev_run(loop, 0);
    return 0;
}
