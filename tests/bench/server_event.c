/* Echo on libevent: a persistent event, receive and send in the callback. */
#include "raw_echo.h"

#include <event2/event.h>

struct client {
    struct conn conn; /* first: raw_echo.h frees it by this address */
    struct event *event;
};

static struct event_base *base;

static void on_ready(evutil_socket_t fd, short events, void *user);

static __attribute__((noinline, cold)) void settle(struct client *client, enum echo_result result) {
    if (result == ECHO_ENDED) {
        event_free(client->event);
        echo_close(&client->conn);
        return;
    }
    if ((int)result == client->conn.blocked) return;
    client->conn.blocked = (int)result;
    event_del(client->event);
    event_assign(client->event, base, client->conn.fd,
                 (result == ECHO_BLOCKED ? EV_WRITE : EV_READ) | EV_PERSIST, on_ready, client);
    event_add(client->event, NULL);
}

static void on_ready(evutil_socket_t fd, short events, void *user) {
    struct client *client = user;
    struct conn *c = &client->conn;
    (void)fd;
    (void)events;
    enum echo_result result;
    if (!echo_quickly(c, &result)) settle(client, result);
}

static void on_listener(evutil_socket_t fd, short events, void *user) {
    struct client *client;
    (void)events;
    (void)user;
    while ((client = (struct client *)echo_accept(fd, sizeof *client))) {
        client->event = event_new(base, client->conn.fd, EV_READ | EV_PERSIST, on_ready, client);
        if (!client->event || event_add(client->event, NULL) < 0) die("event_add");
    }
}

int main(void) {
    int listener = listen_anywhere();
    raise_limit();
    base = event_base_new();
    if (!base) die("event_base_new");
    struct event *event = event_new(base, listener, EV_READ | EV_PERSIST, on_listener, NULL);
    if (!event || event_add(event, NULL) < 0) die("event_add");
    announce(local_port(listener));
    event_base_dispatch(base);
    return 0;
}
