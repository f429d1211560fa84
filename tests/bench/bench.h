/* bench.h: what the programs of the benchmark share: clocks, limits, a listening socket. */
#ifndef BENCH_H
#define BENCH_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline _Noreturn void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline int64_t clock_ns(clockid_t id) {
    struct timespec t;
    if (clock_gettime(id, &t) < 0) die("clock_gettime");
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t wall_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* Ten thousand connections are more than a shell's usual limit. */
static inline void raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) die("setrlimit");
}

/* Tells the driver where this server is; it may run below strace or valgrind, hence the pid. It
   does not outlive the driver, however that ends. */
static inline void announce(int port) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    printf("%d %d\n", port, (int)getpid());
    fflush(stdout);
}

static inline int local_port(int fd) {
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &size) < 0) die("getsockname");
    return ntohs(at.sin_port);
}

/* A non-blocking listening socket on a free port of 127.0.0.1. */
static inline int listen_anywhere(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    if (listen(fd, 4096) < 0) die("listen");
    return fd;
}

/* A UDP socket on a free port of 127.0.0.1, blocking, with room for bursts. */
static inline int datagram_anywhere(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 1 << 20;
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    return fd;
}

static inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* xorshift64*: the same numbers in every run. */
static inline uint64_t random_next(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

#endif
