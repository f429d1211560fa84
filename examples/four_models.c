/* four_models: one service under four models of input and output, chosen by the first argument:

     blocking      a call waits until it is done; one client is served, the others wait
     nonblocking   a call that would wait says so; all sockets are asked in turn, for ever
     multiplexed   one call waits for all sockets, and tells which are ready: reactor_select
     asynchronous  the loop does it, and calls back when it is done: a handler of reactor_listen

   What to learn: what each of them asks of the program, and what it costs: `time` shows the idle
   CPU of the second, two clients at once the weakness of the first. The service is the same
   function in all of them: it turns letters into capitals.

   cc -o four_models examples/four_models.c -pthread
   ./four_models multiplexed 7000 */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

#include <ctype.h>

enum { PIECE = 4096, MOST = 1000 };

static int stopped;

static void service(char *text, size_t len) {
    for (size_t i = 0; i < len; i++) text[i] = (char)toupper((unsigned char)text[i]);
}

/* ---- blocking ---- */

static void serve_one(int fd) {
    char text[PIECE];
    ssize_t n;
    while ((n = recv(fd, text, sizeof text, 0)) > 0) {
        service(text, (size_t)n);
        for (ssize_t sent = 0, more; sent < n; sent += more)
            if ((more = send(fd, text + sent, (size_t)(n - sent), MSG_NOSIGNAL)) < 0) return;
    }
}

static int blocking(int listener) {
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0 && errno != ECONNABORTED && errno != EINTR) return -errno;
        if (fd < 0) continue; /* a client that has gone already */
        serve_one(fd);
        close(fd);
    }
}

/* ---- what both who ask and who are told do with a ready client ---- */

typedef struct client {
    int fd;
    size_t len, sent; /* of text: not sent yet is what is between */
    char text[PIECE];
} client;

static client *accept_client(int listener) {
    int fd = accept(listener, NULL, NULL);
    client *c = fd < 0 ? NULL : calloc(1, sizeof *c);
    if (c) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        c->fd = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    return c;
}

static int would_wait(void) { return errno == EAGAIN || errno == EINTR; }

/* Reads if everything is sent, and sends as much as goes. -1: it has ended. */
static int step(client *c) {
    if (c->sent == c->len) {
        ssize_t n = recv(c->fd, c->text, sizeof c->text, 0);
        if (n <= 0) return n < 0 && would_wait() ? 0 : -1;
        c->len = (size_t)n;
        c->sent = 0;
        service(c->text, c->len);
    }
    ssize_t n = send(c->fd, c->text + c->sent, c->len - c->sent, MSG_NOSIGNAL);
    if (n > 0) c->sent += (size_t)n;
    return n < 0 && !would_wait() ? -1 : 0;
}

/* ---- non-blocking ---- */

static int nonblocking(int listener) {
    static client *clients[MOST];
    int count = 0;
    fcntl(listener, F_SETFL, O_NONBLOCK);
    for (;;) {
        client *c = count < MOST ? accept_client(listener) : NULL;
        if (c) clients[count++] = c;
        if (!c && errno == EBADF) return -errno; /* of the others each may pass */
        for (int i = 0; i < count; i++) {
            if (step(clients[i]) == 0) continue;
            close(clients[i]->fd);
            free(clients[i]);
            clients[i--] = clients[--count];
        }
    }
}

/* ---- multiplexed ---- */

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    stopped = 1;
    reactor_drain(r, 1000);
}

static int begin(reactor **r) {
    int e = reactor_create(r, NULL);
    return e < 0 ? e : reactor_signal(*r, SIGTERM, on_signal, NULL);
}

/* A listener that cannot accept for want of descriptors would be ready for ever: it rests until a
   client has left. */
static void multiplex(reactor *r, int listener, const reactor_key *key) {
    client *c = key->user ? key->user : accept_client(listener);
    if (!c && (errno == EMFILE || errno == ENFILE)) reactor_modify(r, listener, 0);
    if (!c) return;
    int e = key->user ? step(c) : reactor_add(r, c->fd, REACTOR_READ, NULL, c);
    if (e == 0) {
        reactor_modify(r, c->fd, c->sent < c->len ? REACTOR_WRITE : REACTOR_READ);
        return;
    }
    reactor_remove(r, c->fd);
    close(c->fd);
    free(c);
    reactor_modify(r, listener, REACTOR_READ);
}

static int multiplexed(int listener) {
    reactor *r;
    reactor_key keys[64];
    int e = begin(&r);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    if (e == 0) e = reactor_add(r, listener, REACTOR_READ, NULL, NULL);
    while (e >= 0 && !stopped) {
        e = reactor_select(r, keys, 64, -1);
        for (int i = 0; i < e; i++) multiplex(r, listener, &keys[i]);
    }
    reactor_destroy(r);
    return e < 0 ? e : 0;
}

/* ---- asynchronous ---- */

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    char text[PIECE];
    size_t n = len < sizeof text ? len : sizeof text;
    (void)state;
    memcpy(text, data, n);
    service(text, n);
    if (reactor_write(r, c, text, n) < 0) reactor_abort(r, c);
    return n; /* called again for the rest */
}

static int asynchronous(int listener) {
    static const reactor_handler handler = {.on_data = on_data};
    reactor *r;
    char address[32];
    int e = begin(&r);
    snprintf(address, sizeof address, "fd:%d", listener);
    if (e == 0) e = reactor_listen(r, address, &handler, NULL, NULL);
    if (e == 0) e = reactor_run(r);
    reactor_destroy(r);
    return e;
}

/* ---- the program ---- */

static const struct model {
    const char *name;
    int (*serve)(int listener);
} models[] = {{"blocking", blocking},
              {"nonblocking", nonblocking},
              {"multiplexed", multiplexed},
              {"asynchronous", asynchronous}};

static const struct model *find_model(const char *name) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strcmp(models[i].name, name) == 0) return &models[i];
    return NULL;
}

/* Of those that have no loop to end: they may be anywhere. */
static void on_term(int signum) {
    (void)signum;
    _exit(0);
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return -errno;
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    const struct model *model = argc > 1 ? find_model(argv[1]) : NULL;
    if (!model) {
        fputs("usage: four_models blocking|nonblocking|multiplexed|asynchronous [PORT]\n", stderr);
        return 2;
    }
    signal(SIGTERM, on_term);
    int e = listen_on(argc > 2 ? atoi(argv[2]) : 7000);
    if (e >= 0) e = model->serve(e);
    if (e < 0) fprintf(stderr, "four_models: %s\n", reactor_strerror(e));
    return e < 0;
}
