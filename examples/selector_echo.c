/* selector_echo: the selector alone, as Python's selectors has it: register, select, a key for each
   that is ready, modify, unregister. Sends back in capitals what it gets.

   What to learn: watchers without a callback are returned by reactor_select, with their data in
   user. Sockets are non-blocking, for readiness is a hint. What the client does not take is kept,
   and nothing is read meanwhile: the interest goes from READ to WRITE and back. Without descriptors
   accept fails again and again: the listener rests until a client has left.

   cc -o selector_echo examples/selector_echo.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

#include <ctype.h>

typedef struct client {
    size_t len, sent; /* of text: not sent yet is what is between */
    int ended;        /* the client has finished sending */
    char text[4096];
} client;

static reactor *r;
static int listener, rests, stopped;

static void leave(int fd, client *c) {
    reactor_remove(r, fd);
    close(fd);
    free(c);
    if (rests) reactor_modify(r, listener, REACTOR_READ);
    rests = 0;
}

static void accept_some(void) {
    for (int i = 0; i < 64; i++) { /* the others come with the next select: clients wait, too */
        int fd = accept(listener, NULL, NULL);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) rests = 1;
        if (rests) reactor_modify(r, listener, 0);
        if (fd < 0) return;
        client *c = calloc(1, sizeof *c);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        if (!c || reactor_add(r, fd, REACTOR_READ, NULL, c) < 0) {
            close(fd);
            free(c);
        }
    }
}

static void read_some(int fd, client *c) {
    ssize_t n = recv(fd, c->text, sizeof c->text, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    c->ended = n <= 0;
    c->sent = 0;
    c->len = n > 0 ? (size_t)n : 0;
    for (size_t i = 0; i < c->len; i++) c->text[i] = (char)toupper((unsigned char)c->text[i]);
}

static void serve(const reactor_key *key) {
    client *c = key->user;
    if (c->sent == c->len) read_some(key->fd, c);
    if (c->sent < c->len) {
        ssize_t n = send(key->fd, c->text + c->sent, c->len - c->sent, MSG_NOSIGNAL);
        if (n > 0) c->sent += (size_t)n;
        if (n < 0 && errno != EAGAIN && errno != EINTR) c->ended = 1, c->sent = c->len;
    }
    if (c->ended)
        leave(key->fd, c);
    else
        reactor_modify(r, key->fd, c->sent < c->len ? REACTOR_WRITE : REACTOR_READ);
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1024) < 0 ||
        fcntl(listener, F_SETFL, O_NONBLOCK) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        return -errno;
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return reactor_add(r, listener, REACTOR_READ, NULL, NULL);
}

static void on_signal(reactor *loop, int signum, void *user) {
    (void)loop, (void)signum, (void)user;
    stopped = 1;
}

int main(int argc, char **argv) {
    reactor_key keys[64];
    int e = reactor_create(&r, NULL);
    if (e == 0) e = listen_on(argc > 1 ? atoi(argv[1]) : 7000);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    while (e >= 0 && !stopped) {
        e = reactor_select(r, keys, 64, -1);
        for (int i = 0; i < e; i++) {
            if (keys[i].fd == listener)
                accept_some();
            else
                serve(&keys[i]);
        }
    }
    if (e < 0) fprintf(stderr, "selector_echo: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
