/* stdin_chat: a client of chat_server, for a terminal: what you type goes to the server, what it
   says comes to the screen.

   What to learn: standard input as a watcher. It may be a terminal, a pipe, a file or /dev/null: all
   are reported as readable, and read(2) then gives what is there. It is not set non-blocking, for
   the shell and others share it. While the server takes no more, it is not read.

   cc -o stdin_chat examples/stdin_chat.c -pthread
   ./stdin_chat 127.0.0.1:7000 */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

static reactor_conn server;
static int reason;

static void on_stdin(reactor *r, reactor_socket fd, unsigned events, void *user) {
    char text[4096];
    (void)events, (void)user;
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n <= 0) { /* an end, or a terminal that has gone: say no more, but go on listening */
        reactor_remove(r, fd);
        reactor_shutdown(r, server);
    } else if (reactor_write(r, server, text, (size_t)n) != 0) {
        reactor_modify(r, fd, 0);
    }
}

static void on_writable(reactor *r, reactor_conn c, void *state) {
    (void)c, (void)state;
    reactor_modify(r, STDIN_FILENO, REACTOR_READ);
}

static void on_open(reactor *r, reactor_conn c, void *state) {
    (void)c, (void)state;
    int e = reactor_add(r, STDIN_FILENO, REACTOR_READ, on_stdin, NULL);
    if (e < 0) fprintf(stderr, "stdin_chat: standard input: %s\n", reactor_strerror(e));
}

/* Blocks if the screen, or the pipe in its place, takes no more: then there is nothing else to do. */
static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)r, (void)c, (void)state;
    fwrite(data, 1, len, stdout);
    fflush(stdout);
    return len;
}

static void on_close(reactor *r, reactor_conn c, int why, void *state) {
    (void)c, (void)state;
    reason = why;
    reactor_stop(r);
}

static const reactor_handler handler = {
    .on_open = on_open, .on_data = on_data, .on_writable = on_writable, .on_close = on_close};

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    reactor_close(r, server);
}

int main(int argc, char **argv) {
    reactor *r;
    int e = reactor_create(&r, NULL);
    if (e == 0)
        e = reactor_connect(r, argc > 1 ? argv[1] : "127.0.0.1:7000", &handler, NULL, &server);
    if (e == 0) e = reactor_signal(r, SIGINT, on_signal, NULL);
    if (e == 0) e = reactor_run(r);
    if (e == 0) e = reason;
    if (e < 0) fprintf(stderr, "stdin_chat: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
