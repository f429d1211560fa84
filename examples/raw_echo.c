/* raw_echo: the echo server once more, on bare descriptors: the selector with REACTOR_EDGE, reads and
   writes until EAGAIN, the write interest put on while the peer is slow and taken off when it has
   caught up. What reactor_listen does by itself is done here by hand, without the usual mistakes:

   - An edge comes once. Whoever stops before EAGAIN, because a queue is full or to be fair to
     others, must come back by itself: reactor_defer.
   - A client that does not read must not make the queue grow: nothing is read from it meanwhile.
   - A half-closed client still gets its echo; the end comes when the queue is empty.
   - Without descriptors accept fails for ever, at once: stop accepting until one is free.

   cc -O2 -o raw_echo examples/raw_echo.c -pthread */
#define REACTOR_IMPLEMENTATION
#ifdef __linux__
#define REACTOR_USE_EPOLL
#define REACTOR_USE_POLL
#define REACTOR_USE_SELECT
#endif
#include "../reactor.h"

#include <signal.h>
#ifndef _WIN32
#include <arpa/inet.h>
#endif

enum { QUEUE = 64 * 1024, RETRY_MS = 100 };

/* ---- what differs between the systems ---- */

#ifdef _WIN32
typedef int socklen_t;
static const reactor_socket none = INVALID_SOCKET;

static int prepare_process(void) {
    WSADATA data;
    return WSAStartup(MAKEWORD(2, 2), &data) == 0 ? 0 : -1;
}

static void prepare_socket(reactor_socket fd) {
    u_long on = 1;
    ioctlsocket(fd, (long)FIONBIO, &on);
}

static int socket_error(void) {
    switch (WSAGetLastError()) {
    case WSAEWOULDBLOCK:
        return EAGAIN;
    case WSAECONNRESET: /* of accept */
        return ECONNABORTED;
    case WSAEADDRINUSE:
        return EADDRINUSE;
    case WSAEACCES:
        return EACCES;
    default:
        return EIO;
    }
}

static int receive(reactor_socket fd, char *data, size_t len) {
    return recv(fd, data, (int)len, 0);
}
static int transmit(reactor_socket fd, const char *data, size_t len) {
    return send(fd, data, (int)len, 0);
}
static void close_socket(reactor_socket fd) { closesocket(fd); }
#else
static const reactor_socket none = -1;

/* Whoever starts it without standard streams would find a socket in their place. And a peer that
   is gone must not be a signal. */
static int prepare_process(void) {
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    signal(SIGPIPE, SIG_IGN);
    return fd < 0 ? -1 : close(fd);
}

static void prepare_socket(reactor_socket fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int socket_error(void) { return errno; }

static ssize_t receive(reactor_socket fd, char *data, size_t len) { return recv(fd, data, len, 0); }
static ssize_t transmit(reactor_socket fd, const char *data, size_t len) {
    return send(fd, data, len, 0);
}
static void close_socket(reactor_socket fd) { close(fd); }
#endif

/* ---- a client ---- */

typedef struct client {
    reactor_socket fd;
    int ended;    /* the peer has finished sending */
    int deferred; /* a turn of its own is under way */
    unsigned interest;
    struct client *next, **at; /* of all clients, to free them at the end */
    size_t start, len;
    char queue[QUEUE];
} client;

static client *clients;

static void end_client(reactor *r, client *c) {
    *c->at = c->next;
    if (c->next) c->next->at = c->at;
    reactor_remove(r, c->fd);
    close_socket(c->fd);
    c->fd = none;
    if (!c->deferred) free(c); /* else its task does it */
}

/* 1: go on; 0: the kernel takes no more; -1: the peer is gone. */
static int send_queue(client *c) {
    while (c->len) {
        ssize_t n = transmit(c->fd, c->queue + c->start, c->len);
        if (n < 0 && socket_error() == EINTR) continue;
        if (n < 0) return socket_error() == EAGAIN ? 0 : -1;
        c->start += (size_t)n;
        c->len -= (size_t)n;
    }
    c->start = 0;
    return 1;
}

/* The same for input: 1: the queue is full, there may be more; 0: there is no more for now. */
static int fill_queue(client *c) {
    while (c->start + c->len < QUEUE && !c->ended) {
        ssize_t n = receive(c->fd, c->queue + c->start + c->len, QUEUE - c->start - c->len);
        if (n < 0 && socket_error() == EINTR) continue;
        if (n < 0) return socket_error() == EAGAIN ? 0 : -1;
        if (n == 0) c->ended = 1;
        c->len += (size_t)n;
    }
    return c->ended ? 0 : 1;
}

static void serve_again(reactor *r, void *user);

/* One round of reading and writing; if that was not the end of it, another one after everybody
   else has had theirs. */
static void serve(reactor *r, client *c) {
    int more = fill_queue(c);
    int sent = more < 0 ? -1 : send_queue(c);
    if (sent < 0 || (c->ended && !c->len)) {
        end_client(r, c);
        return;
    }
    /* Only what can be used is of interest: where edges are reported as levels, readiness that is
       left alone would be reported for ever. */
    unsigned interest = REACTOR_EDGE;
    if (sent == 0) interest |= REACTOR_WRITE;
    if (!c->ended && !(more && sent == 0)) interest |= REACTOR_READ;
    if (interest != c->interest) reactor_modify(r, c->fd, interest);
    c->interest = interest;
    if (more && sent && !c->deferred) c->deferred = reactor_defer(r, serve_again, c) == 0;
}

static void serve_again(reactor *r, void *user) {
    client *c = user;
    c->deferred = 0;
    if (c->fd == none)
        free(c);
    else
        serve(r, c);
}

static void on_client(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd;
    (void)events;
    serve(r, user);
}

/* ---- the listener ---- */

static void accept_again(reactor *r, reactor_timer t, void *user) {
    (void)t;
    reactor_modify(r, *(reactor_socket *)user, REACTOR_READ);
}

static void on_listener(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)events;
    for (;;) {
        reactor_socket made = accept(fd, NULL, NULL);
        int e = made == none ? socket_error() : 0;
        if (e == EINTR || e == ECONNABORTED) continue;
        if (e == EAGAIN) return;
        client *c = e ? NULL : malloc(sizeof *c);
        if (c) {
            memset(c, 0, offsetof(client, queue));
            c->fd = made;
            prepare_socket(made);
            c->interest = REACTOR_READ | REACTOR_EDGE;
            if (reactor_add(r, made, c->interest, on_client, c) == 0) {
                c->next = clients;
                c->at = &clients;
                if (clients) clients->at = &c->next;
                clients = c;
                continue;
            }
        }
        free(c);
        if (!e) close_socket(made);
        if (reactor_after(r, RETRY_MS, accept_again, user, NULL) == 0) reactor_modify(r, fd, 0);
        return;
    }
}

static int try_to_listen(reactor_socket fd, struct sockaddr_in *a) {
    socklen_t len = sizeof *a;
#ifndef _WIN32 /* where it would let others take the port over */
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
#endif
    if (bind(fd, (struct sockaddr *)a, len) == 0 && listen(fd, SOMAXCONN) == 0 &&
        getsockname(fd, (struct sockaddr *)a, &len) == 0)
        return 0;
    return -socket_error();
}

static int listen_on(const char *port, struct sockaddr_in *a, reactor_socket *fd) {
    memset(a, 0, sizeof *a);
    a->sin_family = AF_INET;
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a->sin_port = htons((uint16_t)atoi(port));
    *fd = socket(AF_INET, SOCK_STREAM, 0);
    if (*fd == none) return -socket_error();
    prepare_socket(*fd);
    int e = try_to_listen(*fd, a);
    if (e < 0) close_socket(*fd);
    return e;
}

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum;
    (void)user;
    reactor_stop(r);
}

static int is_port(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    return end != text && !*end && value >= 0 && value <= 65535;
}

int main(int argc, char **argv) {
    reactor_options options = {0};
    const char *port = "7000";
    struct sockaddr_in address;
    reactor_socket fd;
    reactor *r;
    if (prepare_process() < 0) return 1;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--port") == 0 && is_port(argv[i + 1]))
            port = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--backend") == 0)
            options.backend = argv[i + 1];
        else {
            int asked = strcmp(argv[i], "--help") == 0;
            fprintf(asked ? stdout : stderr, "usage: raw_echo [--port N] [--backend NAME]\n");
            return asked ? 0 : 2;
        }
    }
    int e = listen_on(port, &address, &fd);
    if (e < 0) {
        fprintf(stderr, "raw_echo: port %s: %s\n", port, reactor_strerror(e));
        return 1;
    }
    e = reactor_create(&r, &options);
    if (e == 0) e = reactor_add(r, fd, REACTOR_READ, on_listener, &fd);
    if (e == 0) e = reactor_signal(r, SIGINT, on_signal, NULL);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    if (e == 0) {
        printf("listening on 127.0.0.1:%d\nbackend %s\n", ntohs(address.sin_port),
               reactor_backend(r));
        fflush(stdout);
        e = reactor_run(r);
    }
    if (e < 0) fprintf(stderr, "raw_echo: %s\n", reactor_strerror(e));
    while (clients) end_client(r, clients);
    reactor_destroy(r); /* runs what is deferred, for clients that have ended too */
    close_socket(fd);
    return e < 0;
}
