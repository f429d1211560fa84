/* echo_server: sends back every byte, to any number of clients, and goes on reading from a client
   only as fast as that client takes its echo.

   It shows reactor_listen and a handler, options from the command line, and how a server ends: on
   SIGINT, SIGTERM and SIGHUP it drains, so that idle clients see end of file and busy ones their echo.

   cc -O2 -o echo_server examples/echo_server.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

static const char usage[] =
    "usage: echo_server [--host ADDRESS] [--port N] [--idle-timeout SECONDS]\n"
    "                   [--max-connections N] [--backend NAME] [--help]\n"
    "  --host     address to listen on, 127.0.0.1 (* is every address)\n"
    "  --port     7000; 0 takes any free one\n"
    "  --backend  one that is compiled in; the best that works\n";

/* Above high water reading stops by itself, so a write is never refused here. The client's half-close
   is answered in kind, once its echo is out. */
static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    if (reactor_write(r, c, data, len) < 0) reactor_abort(r, c);
    return len;
}

static const reactor_handler echo = {0, NULL, on_data, NULL, NULL, NULL, NULL, NULL};

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

static int bad_usage(const char *what, const char *value) {
    fprintf(stderr, "echo_server: %s %s\n%s", what, value, usage);
    return 2;
}

static int number(const char *text, long max, long *out) {
    char *end;
    if (!text || *text < '0' || *text > '9') return -1;
    errno = 0;
    *out = strtol(text, &end, 10);
    return errno || *end || *out > max ? -1 : 0;
}

static int fail(reactor *r, const char *what, int error) {
    fprintf(stderr, "echo_server: %s: %s\n", what, reactor_strerror(error));
    reactor_destroy(r);
    return 1;
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1";
    long port = 7000, idle = 0, max = 0;
    char address[REACTOR_ADDRESS_MAX + 32];
    reactor_options options = {0};
    reactor_listen_options listen = {0};
    reactor_listener listener;
    reactor *r = NULL;

    if (open_standard_streams() < 0) return 1;
    for (int i = 1; i < argc; i += 2) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(flag, "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        int known = 1, bad = value == NULL;
        if (strcmp(flag, "--host") == 0)
            host = value;
        else if (strcmp(flag, "--port") == 0)
            bad |= number(value, 65535, &port) < 0;
        else if (strcmp(flag, "--idle-timeout") == 0)
            bad |= number(value, 1000000, &idle) < 0;
        else if (strcmp(flag, "--max-connections") == 0)
            bad |= number(value, 1000000, &max) < 0;
        else if (strcmp(flag, "--backend") == 0)
            options.backend = value;
        else
            known = 0;
        if (!known) return bad_usage("unknown option", flag);
        if (bad) return bad_usage("no good value for", flag);
    }
    int e = reactor_create(&r, &options);
    if (e == -ENOTSUP) return bad_usage("no such backend:", options.backend);
    if (e < 0) return fail(r, "cannot start", e);

    listen.conn.idle_timeout_ms = idle * 1000;
    listen.max_connections = (int)max;
    snprintf(address, sizeof address,
             strchr(host, ':') && *host != '[' ? "[%.128s]:%ld" : "%.128s:%ld", host, port);
    e = reactor_listen(r, address, &echo, &listen, &listener);
    if (e < 0) return fail(r, address, e);
    e = watch_endings(r, NULL);
    if (e < 0) return fail(r, "signals", e);

    reactor_listener_address(r, listener, address, sizeof address);
    const char *reason = reactor_backend_reason(r);
    printf("listening on %s\nbackend %s%s%s%s\n", address, reactor_backend(r), *reason ? " (" : "",
           reason, *reason ? ")" : "");
    fflush(stdout);
    e = reactor_run(r);
    if (e < 0) return fail(r, "stopped", e);
    reactor_destroy(r);
    return 0;
}
