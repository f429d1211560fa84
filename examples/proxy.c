/* proxy: every client of --port gets a connection of its own to --to, and bytes go both ways.

   It shows two connections coupled by back-pressure: when one side's output is above high water the
   other side is paused, and resumed by on_writable. Half-closes are passed on, so protocols that
   end one direction first work through it; a side that fails takes the other one with it.

   cc -O2 -o proxy examples/proxy.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

/* What each side knows: the other one. The handle of one that has ended is stale, and calls with it
   are refused: nobody has to be told to forget it. */
typedef struct side {
    reactor_conn other;
} side;

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    side *s = state;
    int full = reactor_write(r, s->other, data, len);
    if (full == 1 || full == -ENOBUFS) reactor_pause(r, c);
    if (full == -ENOBUFS) return 0; /* offered again when the other side has drained */
    if (full < 0)
        reactor_abort(r, c); /* no memory: bytes are missing, so there is no orderly end */
    return len;
}

static void on_writable(reactor *r, reactor_conn c, void *state) {
    side *s = state;
    (void)c;
    reactor_resume(r, s->other);
}

static void on_eof(reactor *r, reactor_conn c, void *state) {
    side *s = state;
    (void)c;
    reactor_shutdown(r, s->other);
}

/* In order: what it has written still reaches the other side. */
static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
    side *s = state;
    (void)c;
    if (reason == 0)
        reactor_close(r, s->other);
    else
        reactor_abort(r, s->other);
}

/* A side that is silent may be waiting for a slow answer, so it is not idle: it gets most of the time
   that the drain has, and is closed in order if nothing moves for so long. */
static int on_drain(reactor *r, reactor_conn c, void *state) {
    (void)state;
    reactor_set_timeout(r, c, REACTOR_TIMEOUT_IDLE, 600);
    return 1;
}

static int on_timeout(reactor *r, reactor_conn c, int which, void *state) {
    (void)which, (void)state;
    reactor_close(r, c);
    return 0;
}

static const reactor_handler backend_side = {.state_size = sizeof(side),
                                             .on_data = on_data,
                                             .on_eof = on_eof,
                                             .on_drain = on_drain,
                                             .on_timeout = on_timeout,
                                             .on_writable = on_writable,
                                             .on_close = on_close};

/* Connecting takes a while; what the client sends meanwhile waits in the queue of the other side,
   whose marks hold from the start. */
static void on_client(reactor *r, reactor_conn c, void *state) {
    side *s = state, *other;
    if (reactor_connect(r, reactor_user(r, c), &backend_side, NULL, &s->other) < 0) {
        reactor_abort(r, c);
        return;
    }
    other = reactor_state(r, s->other);
    other->other = c;
}

static const reactor_handler client_side = {.state_size = sizeof(side),
                                            .on_open = on_client,
                                            .on_data = on_data,
                                            .on_eof = on_eof,
                                            .on_drain = on_drain,
                                            .on_timeout = on_timeout,
                                            .on_writable = on_writable,
                                            .on_close = on_close};

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum;
    (void)user;
    reactor_drain(r, 800);
}

#ifdef _WIN32
/* Sockets are not numbered as standard streams are, and no parent decides about signals. */
static const int endings[] = {SIGINT, SIGTERM};
static int open_standard_streams(void) { return 0; }
static int is_ignored(int signum) {
    (void)signum;
    return 0;
}
static void unblock(int signum) { (void)signum; }
#else
static const int endings[] = {SIGINT, SIGTERM, SIGHUP};

/* A server may be started without standard streams; its sockets must not take their places. */
static int open_standard_streams(void) {
    for (int fd = 0; fd <= 2; fd++) /* all below are open: the next file gets this number */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return -1;
    return 0;
}

/* What the parent ignores stays ignored, as a script's shell has SIGINT for what it runs in the
   background, and nohup has SIGHUP. SIGTERM is for nobody but this process, and always heard. */
static int is_ignored(int signum) {
    struct sigaction now;
    return signum != SIGTERM && sigaction(signum, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* A parent that had it blocked has passed that on, too. */
static void unblock(int signum) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signum);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}
#endif

/* Watches the signals that end the server. */
static int watch_endings(reactor *r, void *user) {
    int e = 0;
    for (size_t i = 0; e == 0 && i < sizeof endings / sizeof *endings; i++) {
        if (is_ignored(endings[i])) continue;
        e = reactor_signal(r, endings[i], on_signal, user);
        unblock(endings[i]);
    }
    return e;
}

static int usage(FILE *out) {
    fprintf(out, "usage: proxy --to ADDRESS[,ADDRESS...] [--port N] [--backend NAME]\n");
    return out == stdout ? 0 : 2;
}

int main(int argc, char **argv) {
    reactor_options options = {0};
    reactor_listen_options listen = {0};
    reactor_listener listener;
    char address[REACTOR_ADDRESS_MAX];
    const char *port = "7001", *to = NULL;
    reactor *r = NULL;
    if (open_standard_streams() < 0) return 1;
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) return usage(stdout);
        if (i + 1 == argc) return usage(stderr);
        if (strcmp(argv[i], "--port") == 0)
            port = argv[i + 1];
        else if (strcmp(argv[i], "--to") == 0)
            to = argv[i + 1];
        else if (strcmp(argv[i], "--backend") == 0)
            options.backend = argv[i + 1];
        else
            return usage(stderr);
    }
    if (!to) return usage(stderr);
    int e = reactor_create(&r, &options);
    listen.conn.user = (void *)to;
    listen.conn.name = "client";
    listen.conn.coupled =
        -1; /* it is the other side's output that says when to read: see on_data */
    snprintf(address, sizeof address, "127.0.0.1:%s", port);
    if (e == 0) e = reactor_listen(r, address, &client_side, &listen, &listener);
    if (e == 0) e = watch_endings(r, NULL);
    if (e == 0) {
        reactor_listener_address(r, listener, address, sizeof address);
        printf("listening on %s\nbackend %s\n", address, reactor_backend(r));
        fflush(stdout);
        e = reactor_run(r);
    }
    if (e < 0) fprintf(stderr, "proxy: %s: %s\n", address, reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
