/* Echo of datagrams on reactor.h. PLAIN: without UDP_GRO and UDP_SEGMENT. */
#define REACTOR_IMPLEMENTATION
#include "../../reactor.h"

#include "bench.h"

static void on_message(reactor *r, reactor_datagram d, const reactor_message *m, void *state) {
    (void)state;
    reactor_datagram_send(r, d, m->peer, m->data, m->len);
}

int main(void) {
    static const reactor_datagram_handler echo = {.on_message = on_message};
    reactor_datagram_options options = {.receive_buffer = 1 << 20};
    reactor *r;
    reactor_datagram d;
    char address[REACTOR_ADDRESS_MAX];
#ifdef PLAIN
    options.offload = -1;
#endif
    if (reactor_create(&r, NULL) < 0) die("reactor_create");
    if (reactor_datagram_open(r, "127.0.0.1:0", &echo, &options, &d) < 0) die("open");
    if (reactor_datagram_address(r, d, address, sizeof address) < 0) die("address");
    announce(atoi(strrchr(address, ':') + 1));
    return reactor_run(r) < 0;
}
