/* The load for echo servers of datagrams: 64 in flight, on one socket.

     client_udp PORT PID SIZE WARMUP MESSAGES window|turns

   window  as many are sent as have just come back
   turns   64 are sent, then 64 are awaited

   Prints: messages, nanoseconds of the server's CPU, of wall time, of its own CPU. */
#include "bench.h"

enum { FLIGHT = 64, MAX_SIZE = 2048 };

static struct mmsghdr out[FLIGHT], in[FLIGHT];
static struct iovec out_pieces[FLIGHT], in_pieces[FLIGHT];
static char message[MAX_SIZE], input[FLIGHT][MAX_SIZE];

static void send_some(int fd, int n) {
    for (int sent = 0; sent < n;) {
        int k = sendmmsg(fd, out, (unsigned)(n - sent), 0);
        if (k < 0) die("client: sendmmsg");
        sent += k;
    }
}

/* What there is, at least one. */
static int receive_some(int fd, size_t size) {
    int n = recvmmsg(fd, in, FLIGHT, MSG_WAITFORONE, NULL);
    if (n < 0) die("client: recvmmsg");
    for (int i = 0; i < n; i++) {
        if (in[i].msg_len == size && input[i][0] == message[0]) continue;
        errno = EBADMSG;
        die("client: not what was sent");
    }
    return n;
}

static void run(int fd, size_t size, long messages, int turns) {
    long sent = FLIGHT, got = 0;
    send_some(fd, FLIGHT);
    while (got < messages) {
        int n = receive_some(fd, size);
        got += n;
        if (turns) n = got % FLIGHT == 0 ? FLIGHT : 0;
        if (n > messages - sent) n = (int)(messages - sent);
        send_some(fd, n);
        sent += n;
    }
}

int main(int argc, char **argv) {
    clockid_t server_clock;
    int64_t server, wall, own;
    if (argc != 7) return 2;
    size_t size = (size_t)atol(argv[3]);
    long warmup = atol(argv[4]), messages = atol(argv[5]);
    int fd = datagram_anywhere(), turns = strcmp(argv[6], "turns") == 0;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(argv[1])),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {20, 0}; /* a datagram that got lost never comes */
    if (size < 1 || size > MAX_SIZE) return 2;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("client: connect");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    memset(message, 'm', sizeof message);
    for (int i = 0; i < FLIGHT; i++) {
        out_pieces[i] = (struct iovec){message, size};
        in_pieces[i] = (struct iovec){input[i], MAX_SIZE};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &out_pieces[i], .msg_iovlen = 1};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &in_pieces[i], .msg_iovlen = 1};
    }
    if (clock_getcpuclockid((pid_t)atoi(argv[2]), &server_clock) != 0) die("client: clock");
    run(fd, size, warmup, turns);
    server = clock_ns(server_clock), wall = wall_ns(), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    run(fd, size, messages, turns);
    printf("%ld %lld %lld %lld\n", messages, (long long)(clock_ns(server_clock) - server),
           (long long)(wall_ns() - wall), (long long)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own));
    return 0;
}
