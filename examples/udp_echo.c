/* udp_echo: sends back every datagram, over UDP or a unix socket, to whoever sent it.

   It shows reactor_datagram_open and its handler: a socket for all peers and both families, answers in
   batches, what the network says of them, multicast groups, and several servers on one port.

   cc -O2 -o udp_echo examples/udp_echo.c -pthread
   ./udp_echo "*:7000" &  echo hello | nc -u -w1 127.0.0.1 7000 */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

static const char usage[] =
    "usage: udp_echo [--group GROUP] [--reuse-port] [--quiet] [--backend NAME] [ADDRESS]\n"
    "  ADDRESS       127.0.0.1:7000; \"*:7000\" is every address, unix:PATH a unix socket\n"
    "  --group       a multicast group to answer, such as 239.1.2.3%eth0\n"
    "  --reuse-port  several servers share the port\n"
    "  --quiet       says nothing of errors\n";

typedef struct server {
    int quiet;
    unsigned long long answered, refused;
} server;

/* All answers to one batch leave with one system call. A queue that is full, 4 MiB, refuses: the
   answer is lost, as the network might have lost it. */
static void on_message(reactor *r, reactor_datagram d, const reactor_message *m, void *state) {
    server *s = (server *)reactor_datagram_user(r, d);
    (void)state;
    if (reactor_datagram_send(r, d, m->peer, m->data, m->len) < 0)
        s->refused++;
    else
        s->answered++;
}

/* A client that has gone before its answer came is no reason to stop. */
static void on_error(reactor *r, reactor_datagram d, int error, const reactor_peer *peer,
                     void *state) {
    const server *s = (server *)reactor_datagram_user(r, d);
    char text[REACTOR_ADDRESS_MAX] = "somebody";
    (void)state;
    if (peer) reactor_peer_format(peer, text, sizeof text);
    if (!s->quiet) fprintf(stderr, "udp_echo: %s: %s\n", text, reactor_strerror(error));
}

static const reactor_datagram_handler echo = {0, on_message, on_error, NULL, NULL};

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum;
    (void)user;
    reactor_drain(r, 0);
}

static int fail(reactor *r, const char *what, int error) {
    fprintf(stderr, "udp_echo: %s: %s\n", what, reactor_strerror(error));
    reactor_destroy(r);
    return 1;
}

static int bad_usage(void) {
    fputs(usage, stderr);
    return 2;
}

/* 0, or what the program ends with. */
static int read_arguments(int argc, char **argv, const char **address, server *s,
                          reactor_options *options, reactor_datagram_options *o) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--group") == 0 && value)
            o->groups = argv[++i];
        else if (strcmp(argv[i], "--backend") == 0 && value)
            options->backend = argv[++i];
        else if (strcmp(argv[i], "--reuse-port") == 0)
            o->reuse_port = 1;
        else if (strcmp(argv[i], "--quiet") == 0)
            s->quiet = 1;
        else if (argv[i][0] != '-')
            *address = argv[i];
        else
            return bad_usage();
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *address = "127.0.0.1:7000";
    char text[REACTOR_ADDRESS_MAX];
    reactor_options options;
    reactor_datagram_options o;
    reactor_datagram d;
    reactor *r = NULL;
    server s;

    memset(&options, 0, sizeof options);
    memset(&o, 0, sizeof o);
    memset(&s, 0, sizeof s);
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return fputs(usage, stdout) < 0;
    int e = read_arguments(argc, argv, &address, &s, &options, &o);
    if (e != 0) return e;
    o.user = &s;
    o.reuse_address = o.groups != NULL; /* other members of the group may have the port, too */
    e = reactor_create(&r, &options);
    if (e == -ENOTSUP) return bad_usage();
    if (e < 0) return fail(r, "cannot start", e);
    e = reactor_datagram_open(r, address, &echo, &o, &d);
    if (e < 0) return fail(r, address, e);
    e = reactor_signal(r, SIGINT, on_signal, NULL);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    if (e < 0) return fail(r, "signals", e);

    reactor_datagram_address(r, d, text, sizeof text);
    printf("answering at %s\nbackend %s\n", text, reactor_backend(r));
    fflush(stdout);
    e = reactor_run(r);
    if (e < 0) return fail(r, "stopped", e);
    reactor_destroy(r);
    printf("%llu answered, %llu refused\n", s.answered, s.refused);
    return 0;
}
