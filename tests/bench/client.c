/* The load, the same for every server: a number of messages, each sent when the one before it on
   its connection has come back, and the server's CPU time from the end of the warm-up to the last.

     client PORT PID CONNECTIONS ACTIVE SIZE WARMUP MESSAGES free|turns|visits|hold

   free   every connection for itself, as fast as it goes
   turns  one message on each connection, then all the answers, then again: with server and client
          on one core, neither preempting the other, each wait of the server finds all of them
   visits every message by a connection of its own, ACTIVE of them at a time
   hold   WARMUP messages at most, then waits, connected, until its input ends

   Prints: messages, nanoseconds of the server's CPU, of wall time, of its own CPU. */
#include "bench.h"

#include <sys/epoll.h>

enum { MAX_SIZE = 65536, SYNC = 256, PER_ADDRESS = 5000, VISITED_FROM = 200 };

struct peer {
    int fd;
    uint32_t sequence;
    size_t got; /* of the message that is under way */
};

static struct peer *peers;
static int connections, active, stride;
static struct sockaddr_in server = {.sin_family = AF_INET};
static size_t size;
static long warmup, messages;
static clockid_t server_clock;
static char message[MAX_SIZE], input[MAX_SIZE];

/* A message is one byte, its number, over and over: an answer mixed up or cut shows. */
static void send_message(struct peer *p) {
    p->got = 0;
    p->sequence++;
    memset(message, (int)(p->sequence & 0xff), size);
    ssize_t n = send(p->fd, message, size, MSG_NOSIGNAL);
    if (n < 0) die("client: send");
    if ((size_t)n != size) {
        errno = EMSGSIZE; /* an idle connection takes a message of 64 KiB whole */
        die("client: short send");
    }
}

static int received(struct peer *p, ssize_t n) {
    if (n == 0) errno = ECONNRESET;
    if (n <= 0) die("client: recv");
    char expected = (char)(p->sequence & 0xff);
    p->got += (size_t)n;
    if (input[0] != expected || input[n - 1] != expected || p->got > size) {
        errno = EBADMSG;
        die("client: not what was sent");
    }
    return p->got == size;
}

static void exchange(struct peer *p) {
    send_message(p);
    while (!received(p, recv(p->fd, input, size - p->got, 0)))
        ;
}

/* Several source addresses, for the ports of one may not be enough. */
static int socket_from(uint32_t address) {
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr = {htonl(INADDR_LOOPBACK + 1 + address)}};
    int late = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("client: socket");
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    no_delay(fd);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0) die("client: bind");
    return fd;
}

/* A message now and then waits for the server to have accepted, so that its backlog never
   overflows. */
static void connect_all(void) {
    struct linger reset = {1, 0}; /* no TIME_WAIT is left behind */
    peers = calloc((size_t)connections, sizeof *peers);
    if (!peers) die("client: calloc");
    for (int i = 0; i < connections; i++) {
        int fd = socket_from((uint32_t)(i / PER_ADDRESS));
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0) die("client: connect");
        peers[i].fd = fd;
        if (i % SYNC == SYNC - 1 || i == connections - 1) exchange(&peers[i]);
    }
}

static struct peer *active_peer(int i) { return &peers[(size_t)i * (size_t)stride]; }

struct clocks {
    int64_t server, wall, own;
};

static struct clocks read_clocks(void) {
    struct clocks c = {clock_ns(server_clock), wall_ns(), clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
    return c;
}

static void report(struct clocks from, struct clocks to) {
    printf("%ld %lld %lld %lld\n", messages, (long long)(to.server - from.server),
           (long long)(to.wall - from.wall), (long long)(to.own - from.own));
    fflush(stdout);
}

static void run_free(void) {
    struct epoll_event events[256];
    struct clocks from = read_clocks(), to = from;
    long done = 0, flying = active;
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0) die("client: epoll_create1");
    for (int i = 0; i < active; i++) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data = {.ptr = active_peer(i)}};
        if (epoll_ctl(set, EPOLL_CTL_ADD, active_peer(i)->fd, &e) < 0) die("client: epoll_ctl");
        send_message(active_peer(i));
    }
    /* The clocks stop while all connections are still busy; then the last answers are awaited. */
    while (flying > 0) {
        int n = epoll_wait(set, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct peer *p = events[i].data.ptr;
            ssize_t got = recv(p->fd, input, MAX_SIZE, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (!received(p, got)) continue;
            if (++done == warmup) from = read_clocks();
            if (done == warmup + messages) to = read_clocks();
            if (done < warmup + messages)
                send_message(p);
            else
                flying--;
        }
    }
    report(from, to);
}

static void one_turn(void) {
    for (int i = 0; i < active; i++) send_message(active_peer(i));
    for (int i = 0; i < active; i++)
        while (!received(active_peer(i), recv(active_peer(i)->fd, input, MAX_SIZE, 0)))
            ;
}

static void run_turns(void) {
    for (long i = 0; i < warmup; i += active) one_turn();
    struct clocks from = read_clocks();
    for (long i = 0; i < messages; i += active) one_turn();
    report(from, read_clocks());
}

/* Connections leave a TIME_WAIT each, so their addresses take turns. The connect blocks: on
   loopback it is over when the packet is. */
static void visit(struct peer *p, int set) {
    static uint32_t visits;
    struct epoll_event e = {.events = EPOLLIN, .data = {.ptr = p}};
    p->fd = socket_from(visits++ % VISITED_FROM);
    if (connect(p->fd, (struct sockaddr *)&server, sizeof server) < 0) die("client: connect");
    if (epoll_ctl(set, EPOLL_CTL_ADD, p->fd, &e) < 0) die("client: epoll_ctl");
    send_message(p);
}

static void run_visits(void) {
    struct epoll_event events[256];
    struct clocks from = read_clocks(), to = from;
    long done = 0, begun = active;
    int set = epoll_create1(EPOLL_CLOEXEC);
    peers = calloc((size_t)active, sizeof *peers);
    if (set < 0 || !peers) die("client: epoll_create1");
    for (int i = 0; i < active; i++) visit(&peers[i], set);
    while (done < begun) {
        int n = epoll_wait(set, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct peer *p = events[i].data.ptr;
            if (!received(p, recv(p->fd, input, MAX_SIZE, MSG_DONTWAIT))) continue;
            close(p->fd);
            if (++done == warmup) from = read_clocks();
            if (done == warmup + messages) to = read_clocks();
            if (done >= warmup + messages) continue;
            visit(p, set);
            begun++;
        }
    }
    report(from, to);
}

static void run_hold(void) {
    for (int i = 0; i < active && i < warmup; i++) exchange(active_peer(i));
    struct clocks now = read_clocks();
    report(now, now);
    while (getchar() != EOF)
        ;
}

int main(int argc, char **argv) {
    if (argc != 9) return 2;
    connections = atoi(argv[3]);
    active = atoi(argv[4]);
    size = (size_t)atol(argv[5]);
    warmup = atol(argv[6]);
    messages = atol(argv[7]);
    if (active < 1 || active > connections || size < 1 || size > MAX_SIZE) return 2;
    stride = connections / active;
    if (clock_getcpuclockid((pid_t)atoi(argv[2]), &server_clock) != 0)
        die("client: server's clock");
    raise_limit();
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (strcmp(argv[8], "visits") == 0) {
        run_visits();
        return 0;
    }
    connect_all();
    if (strcmp(argv[8], "free") == 0)
        run_free();
    else if (strcmp(argv[8], "turns") == 0)
        run_turns();
    else
        run_hold();
    return 0;
}
