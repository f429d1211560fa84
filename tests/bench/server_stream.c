/* Echo on reactor.h's streams, as in examples/echo_server.c. */
#define REACTOR_IMPLEMENTATION
#ifndef BENCH_HEADER
#define BENCH_HEADER "../../reactor.h"
#endif
#include BENCH_HEADER

#include "bench.h"

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    if (reactor_write(r, c, data, len) < 0) reactor_abort(r, c);
    return len;
}

int main(void) {
    static const reactor_handler echo = {.on_data = on_data};
    reactor *r;
    reactor_listener listener;
    char address[REACTOR_ADDRESS_MAX];
    raise_limit();
    if (reactor_create(&r, NULL) < 0) die("reactor_create");
    if (reactor_listen(r, "127.0.0.1:0", &echo, NULL, &listener) < 0) die("reactor_listen");
    if (reactor_listener_address(r, listener, address, sizeof address) < 0) die("address");
    announce(atoi(strrchr(address, ':') + 1));
    return reactor_run(r) < 0;
}
