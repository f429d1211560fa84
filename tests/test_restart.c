/* A rolling restart under load: servers of one address follow each other, each drained when its
   successor listens, and no client may lose a request. By SO_REUSEPORT, where each has a listener of
   its own, and by handing one listener over as fd:N.

   "test_restart serve ADDRESS" is such a server alone, for load generators such as wrk; REUSE_PORT
   in the environment has it share the port. */
#include "stream_help.h"

#ifdef __linux__
#include <sys/mman.h>

enum { RESTARTS = 20, CLIENTS = 8 };

/* ---- the server, a process of its own: it answers any head, and says when that is the last ---- */

static int ending;

static size_t on_request(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    static const char keep[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    static const char last[] =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    const char *end = memmem(data, len, "\r\n\r\n", 4);
    (void)state;
    if (!end) return 0;
    if (ending) {
        reactor_write(r, c, last, sizeof last - 1);
        reactor_close(r, c);
        return len;
    }
    reactor_write(r, c, keep, sizeof keep - 1);
    return (size_t)(end + 4 - (const char *)data);
}

static void on_term(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    ending = 1;
    reactor_drain(r, 10000);
}

/* Tells ready when it listens. */
static int serve_until_term(const char *address, int reuse_port, int ready) {
    static const reactor_handler h = {.on_data = on_request};
    reactor_listen_options o = {.reuse_port = reuse_port};
    reactor_options options = {.backend = backend_under_test()};
    reactor *r;
    int e = reactor_create(&r, &options);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_term, NULL);
    if (e == 0) e = reactor_listen(r, address, &h, &o, NULL);
    if (e < 0 || write(ready, "r", 1) != 1) return 1;
    e = reactor_run(r);
    reactor_destroy(r);
    return e < 0;
}

static pid_t start_server(const char *address, int reuse_port) {
    int ready[2];
    char byte;
    assert_return_code(pipe(ready), errno);
    pid_t pid = fork();
    assert_return_code(pid, errno);
    if (pid == 0) _exit(serve_until_term(address, reuse_port, ready[1]));
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void end_server(pid_t pid) {
    int status;
    assert_return_code(kill(pid, SIGTERM), errno);
    assert_return_code(waitpid(pid, &status, 0), errno);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- the clients, threads of another process ---- */

typedef struct tally {
    int port, end;           /* atomic */
    long served, lost, late; /* atomic */
    int reconnects;          /* a client makes a connection for each request */
} tally;

/* A drained server ends a connection that was quiet for 250 ms. A client that the machine has stopped
   for about so long may send its next request into that end, as one of a keep-alive connection always
   may: it is late. */
enum { LATE_MS = 150 };

/* One request on fd, *sent is when. 1: answered; 0: answered, and it was the last; -1: lost. */
static int ask(int fd, int64_t *sent) {
    static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    char got[512];
    size_t len = 0;
    ssize_t taken = send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
    *sent = clock_ns();
    if (taken < 0) return -1;
    while (len < 6 || memcmp(got + len - 6, "\r\n\r\nok", 6) != 0) {
        ssize_t n = recv(fd, got + len, sizeof got - len, 0);
        if (n <= 0) return -1;
        len += (size_t)n;
    }
    return !memmem(got, len, "close", 5);
}

static void *client(void *user) {
    tally *t = user;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)t->port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (!__atomic_load_n(&t->end, __ATOMIC_SEQ_CST)) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), answer = -1;
        int64_t began = clock_ns(), sent = began; /* the server has seen something after began */
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) do {
                began = sent;
                answer = ask(fd, &sent);
                if (answer >= 0) __atomic_add_fetch(&t->served, 1, __ATOMIC_SEQ_CST);
                if (t->reconnects || __atomic_load_n(&t->end, __ATOMIC_SEQ_CST)) break;
            } while (answer > 0);
        long *count = sent - began > LATE_MS * INT64_C(1000000) ? &t->late : &t->lost;
        if (answer < 0) __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
        close(fd);
    }
    return NULL;
}

static void run_clients(tally *t) {
    pthread_t thread[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        if (pthread_create(&thread[i], NULL, client, t)) _exit(1);
    for (int i = 0; i < CLIENTS; i++) pthread_join(thread[i], NULL);
    _exit(0);
}

/* Each server is seen to serve before it is restarted. */
static void restart_under_load(const char *address, int port, int reuse_port, int reconnects) {
    if (emulated()) skip();
    tally *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(t != MAP_FAILED);
    t->port = port;
    t->reconnects = reconnects;
    pid_t serving = start_server(address, reuse_port), clients = fork();
    assert_return_code(clients, errno);
    if (clients == 0) run_clients(t);
    for (int i = 0; i < RESTARTS; i++) {
        long before = __atomic_load_n(&t->served, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&t->served, __ATOMIC_SEQ_CST) < before + 100) usleep(1000);
        pid_t next = start_server(address, reuse_port);
        end_server(serving);
        serving = next;
    }
    __atomic_store_n(&t->end, 1, __ATOMIC_SEQ_CST);
    waitpid(clients, NULL, 0);
    end_server(serving);
    print_message("%ld served, %ld lost, %ld late\n", t->served, t->lost, t->late);
    assert_int_equal(t->lost, 0);
    munmap(t, sizeof *t);
}

static void handed_over(int reconnects) {
    char address[REACTOR_ADDRESS_MAX], text[32];
    int fd = answering(address);
    snprintf(text, sizeof text, "fd:%d", fd);
    restart_under_load(text, port_of(address), 0, reconnects);
    close(fd);
}
CASE(restart_by_a_listener_handed_over_loses_no_request) { handed_over(0); }
CASE(restart_by_a_listener_handed_over_loses_no_connection) { handed_over(1); }

static void shared_port(int reconnects) {
    char address[REACTOR_ADDRESS_MAX];
    int fd = bound(address);
    close(fd);
    restart_under_load(address, port_of(address), 1, reconnects);
}
CASE(restart_by_a_shared_port_loses_no_request) { shared_port(0); }
CASE(restart_by_a_shared_port_loses_no_connection) { shared_port(1); }

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        TEST(restart_by_a_listener_handed_over_loses_no_request),
        TEST(restart_by_a_listener_handed_over_loses_no_connection),
        TEST(restart_by_a_shared_port_loses_no_request),
        TEST(restart_by_a_shared_port_loses_no_connection),
    };
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve_until_term(argv[2], getenv("REUSE_PORT") != NULL, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    puts("0 passed, 0 failed, 4 skipped"); /* only Linux shares a port among listeners evenly */
    return 0;
}
#endif
