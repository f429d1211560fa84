/* hello: a server that sends back what it gets. The program of the README, which also says why it
   ended.

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
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_listen(r, "localhost:7000", &echo, NULL, NULL);
    if (e == 0) e = reactor_run(r);
    fprintf(stderr, "hello: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
