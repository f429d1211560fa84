/* Echo on libevent's bufferevents: input is moved to output without a copy. */
#include "bench.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

static struct event_base *base;

static void on_read(struct bufferevent *b, void *user) {
    (void)user;
    evbuffer_add_buffer(bufferevent_get_output(b), bufferevent_get_input(b));
}

static void on_event(struct bufferevent *b, short what, void *user) {
    (void)user;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) bufferevent_free(b);
}

static void on_listener(evutil_socket_t listener, short events, void *user) {
    int fd;
    (void)events;
    (void)user;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        no_delay(fd);
        struct bufferevent *b = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
        if (!b) die("bufferevent_socket_new");
        bufferevent_setcb(b, on_read, NULL, on_event, NULL);
        bufferevent_enable(b, EV_READ);
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
