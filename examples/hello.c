/* hello: a server that sends back what it gets. The program of the README.

   cc -o hello examples/hello.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    reactor_write(r, c, data, len);
    return len;
}
static const reactor_handler echo = {.on_data = on_data};

int main(void) {
    reactor *r;
    if (reactor_create(&r, NULL) < 0) return 1;
    if (reactor_listen(r, "localhost:7000", &echo, NULL, NULL) < 0) return 1;
    return reactor_run(r) < 0;
}
