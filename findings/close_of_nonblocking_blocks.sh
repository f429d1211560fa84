#!/bin/sh
# Subject:   close(2) of a non-blocking TCP socket on Linux, SO_LINGER inherited from its listener.
# Version:   Linux 6.18.
# Behaviour: accept(2) says that file status flags are not inherited, and O_NONBLOCK is not; socket
#            options are, SO_LINGER among them. close of such a socket waits for the acknowledgement
#            of what is queued, as long as SO_LINGER says, although the socket is non-blocking: an
#            event loop that was handed a listener by another program stands still in close. After
#            shutdown(SHUT_RDWR), which does not wait, close waits all the same.
# Output:    accepted, non-blocking: close took about 1 s
#            the same after shutdown: close took about 1 s
# Source:    accept(2), socket(7) "SO_LINGER"; kernel: net/ipv4/af_inet.c, inet_release (the time is
#            sk_lingertime whatever the flags of the file are), net/ipv4/tcp.c, __tcp_close.
CC=${CC:-cc}
[ "$(uname -s)" = Linux ] || exit 77
command -v "$CC" >/dev/null || exit 77
tmp=$(mktemp -d) || exit 77
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/a.c" <<'C'
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds that close takes while the peer does not read; negative if it cannot be tried. */
static double seconds(int with_shutdown) {
    static char much[8 << 20];
    struct linger one = {1, 1};
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0), peer = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_LINGER, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) < 0 ||
        connect(peer, (struct sockaddr *)&a, len) < 0)
        return -1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0 || send(fd, much, sizeof much, MSG_NOSIGNAL) <= 0) return -1;
    if (with_shutdown) shutdown(fd, SHUT_RDWR);
    double began = now();
    close(fd);
    double took = now() - began;
    close(peer);
    close(listener);
    return took;
}

int main(void) {
    double plain = seconds(0), shut = seconds(1);
    if (plain < 0 || shut < 0) return 77;
    printf("accepted, non-blocking: close took about %.0f s\n", plain);
    printf("the same after shutdown: close took about %.0f s\n", shut);
    return plain < 0.9 || shut < 0.9;
}
C
"$CC" "$tmp/a.c" -o "$tmp/a" || exit 77
"$tmp/a"
