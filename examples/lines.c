/* lines: a protocol of lines. Numbers each line that a client sends, and sends it back.

   What to learn: on_data gets pieces of a stream, not lines: several at once, half of one, or a line
   in two pieces. It consumes what is complete and leaves the rest, which comes again with more. The
   last line may have no newline: then it is what is left in on_eof.

   cc -o lines examples/lines.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

enum { LONGEST = 64 * 1024 }; /* without a limit one client could fill the memory */

typedef struct counter {
    unsigned long lines;
} counter;

static int answer(reactor *r, reactor_conn c, counter *n, const char *line, size_t len) {
    char number[32];
    if (len > 0 && line[len - 1] == '\r') len--; /* as telnet ends its lines */
    int digits = snprintf(number, sizeof number, "%lu: ", ++n->lines);
    reactor_iovec pieces[] = {{number, (size_t)digits}, {line, len}, {"\n", 1}};
    return reactor_writev(r, c, pieces, 3);
}

/* Handles all lines that are complete, so that their answers leave together. A refused answer is
   not lost: its line is left, and offered again when the client has taken what is queued. */
static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    const char *line = data, *end = line + len, *newline;
    while (line < end && (newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        int e = answer(r, c, state, line, (size_t)(newline - line));
        if (e == -ENOBUFS) {
            ((counter *)state)->lines--;
            break;
        }
        if (e < 0) reactor_abort(r, c);
        line = newline + 1;
    }
    return (size_t)(line - (const char *)data);
}

static void on_eof(reactor *r, reactor_conn c, void *state) {
    size_t len;
    const char *last = reactor_input(r, c, &len);
    if (len > 0) answer(r, c, state, last, len);
    reactor_close(r, c);
}

static const reactor_handler handler = {
    .state_size = sizeof(counter), .on_data = on_data, .on_eof = on_eof};

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    reactor_drain(r, 1000);
}

int main(int argc, char **argv) {
    reactor *r;
    reactor_listener listener;
    reactor_listen_options options = {.conn.max_input = LONGEST};
    char address[REACTOR_ADDRESS_MAX];
    snprintf(address, sizeof address, "localhost:%s", argc > 1 ? argv[1] : "7000");
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_listen(r, address, &handler, &options, &listener);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    if (e == 0) {
        reactor_listener_address(r, listener, address, sizeof address);
        printf("listening on %s\n", address);
        fflush(stdout);
        e = reactor_run(r);
    }
    if (e < 0) fprintf(stderr, "lines: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
