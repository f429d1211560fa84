/* polling: a server that knows no readiness. All sockets are non-blocking, and ten times a second it
   asks each of them. Its client has many threads that block, one for each connection.

   What to learn: why there are event loops. An answer takes up to a tenth of a second although the
   server is idle; asking more often costs a system call for each socket each time, whether or not
   anything has come (`strace -c` shows it). A timer of the reactor does the asking, on a grid that
   does not drift.

   cc -o polling examples/polling.c -pthread
   ./polling 7000             the server
   ./polling 7000 20 10       a client: 20 threads, 10 messages each */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

enum { EVERY_MS = 100, MOST = 1000, MESSAGE = 64 };

/* ---- the server ---- */

static int listener;
static int clients[MOST];
static int count;

/* A short send loses its client: with messages of 64 bytes, one at a time, the kernel always has
   room for the answer. */
static int answer(int fd) {
    char text[4096];
    ssize_t n = recv(fd, text, sizeof text, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    return n > 0 && send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1;
}

static void ask_all(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t, (void)user;
    while (count < MOST) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) break; /* nobody, or no descriptors: asked again soon */
        fcntl(fd, F_SETFL, O_NONBLOCK);
        clients[count++] = fd;
    }
    for (int i = 0; i < count; i++) {
        if (answer(clients[i]) == 0) continue;
        close(clients[i]);
        clients[i--] = clients[--count];
    }
}

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    reactor_stop(r);
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return address;
}

static int serve(int port) {
    reactor *r;
    struct sockaddr_in address = loopback(port);
    socklen_t size = sizeof address;
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, MOST) < 0 ||
        fcntl(listener, F_SETFL, O_NONBLOCK) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        return -errno;
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_every(r, EVERY_MS, ask_all, NULL, NULL);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    if (e == 0) {
        printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
        fflush(stdout);
        e = reactor_run(r);
    }
    reactor_destroy(r);
    return e;
}

/* ---- the client ---- */

static int server_port, messages;

/* Blocks in connect, send and recv: no loop, but a stack for each connection. */
static void *talk(void *failed) {
    struct sockaddr_in address = loopback(server_port);
    char sent[MESSAGE] = "hello", got[MESSAGE];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int bad = connect(fd, (struct sockaddr *)&address, sizeof address) < 0;
    for (int i = 0; !bad && i < messages; i++) {
        sent[MESSAGE - 1] = (char)i;
        bad = send(fd, sent, MESSAGE, MSG_NOSIGNAL) != MESSAGE ||
              recv(fd, got, MESSAGE, MSG_WAITALL) != MESSAGE || memcmp(sent, got, MESSAGE) != 0;
    }
    close(fd);
    *(int *)failed = bad;
    return NULL;
}

static int run_client(int threads) {
    static pthread_t thread[MOST];
    static int failed[MOST];
    struct timespec from, to;
    int begun = 0, bad = 0;
    clock_gettime(CLOCK_MONOTONIC, &from);
    while (begun < threads && begun < MOST &&
           pthread_create(&thread[begun], NULL, talk, &failed[begun]) == 0)
        begun++;
    for (int i = 0; i < begun; i++) {
        pthread_join(thread[i], NULL);
        bad += failed[i];
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    long ms = (long)(to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
    printf("%d threads, %d messages each, %d failed, %ld ms: %.1f ms a message\n", begun, messages,
           bad, ms, (double)ms / (messages > 0 ? messages : 1));
    return bad || begun < threads ? -EIO : 0;
}

int main(int argc, char **argv) {
    server_port = argc > 1 ? atoi(argv[1]) : 7000;
    messages = argc > 3 ? atoi(argv[3]) : 10;
    int e = argc > 2 ? run_client(atoi(argv[2])) : serve(server_port);
    if (e < 0) fprintf(stderr, "polling: %s\n", reactor_strerror(e));
    return e < 0;
}
