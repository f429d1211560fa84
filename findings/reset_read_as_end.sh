#!/bin/sh
# Subject:   recv(2) of a TCP socket on Linux whose connection was reset.
# Version:   Linux 6.18.
# Behaviour: a reset is told once. Who asks getsockopt(SO_ERROR), or sends and is told ECONNRESET,
#            has had it; the next recv says 0, which is how an orderly end of file looks, and a
#            half-sent request is taken for a whole one. poll(2) still tells the two apart: POLLHUP
#            is set though this side has not ended its own direction.
#            getsockopt(TCP_ZEROCOPY_RECEIVE), asked for no bytes, knows whether a FIN was received:
#            it fails with EIO after one and with another error after a reset.
# Output:    after a reset and SO_ERROR: recv says 0, POLLHUP is set, TCP_ZEROCOPY_RECEIVE: not EIO
#            after a FIN: recv says 0, POLLHUP is not set, TCP_ZEROCOPY_RECEIVE: EIO
# Source:    socket(7) "SO_ERROR" (reading clears it); kernel: net/ipv4/tcp.c, tcp_recvmsg_locked (it
#            looks at SOCK_DONE and sk_err before RCV_SHUTDOWN) and tcp_zerocopy_receive.
CC=${CC:-cc}
[ "$(uname -s)" = Linux ] || exit 77
command -v "$CC" >/dev/null || exit 77
tmp=$(mktemp -d) || exit 77
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/a.c" <<'C'
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TCP_ZEROCOPY_RECEIVE
#define TCP_ZEROCOPY_RECEIVE 35
#endif

static int tell(int reset, int *got, int *hung_up, int *fin) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    struct linger now = {1, 0};
    char byte, zc[64];
    int error = 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0), peer = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) < 0 ||
        connect(peer, (struct sockaddr *)&a, len) < 0)
        return -1;
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) return -1;
    if (reset) setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(peer);
    struct pollfd p = {fd, POLLIN, 0};
    if (poll(&p, 1, 2000) != 1) return -1;
    len = sizeof error;
    if (reset) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (reset && error != ECONNRESET) return -1;
    p.revents = 0;
    poll(&p, 1, 0);
    *hung_up = (p.revents & POLLHUP) != 0;
    memset(zc, 0, sizeof zc);
    len = 16; /* address, length, recv_skip_hint */
    *fin = getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, zc, &len) < 0 && errno == EIO;
    *got = (int)recv(fd, &byte, 1, MSG_DONTWAIT);
    close(fd);
    close(listener);
    return 0;
}

int main(void) {
    int got[2], hung_up[2], fin[2];
    for (int reset = 1; reset >= 0; reset--) {
        if (tell(reset, &got[reset], &hung_up[reset], &fin[reset]) < 0) return 77;
        printf("%s: recv says %d, POLLHUP is %sset, TCP_ZEROCOPY_RECEIVE: %sEIO\n",
               reset ? "after a reset and SO_ERROR" : "after a FIN", got[reset],
               hung_up[reset] ? "" : "not ", fin[reset] ? "" : "not ");
    }
    return got[0] || got[1] || !hung_up[1] || hung_up[0] || fin[1] || !fin[0];
}
C
"$CC" "$tmp/a.c" -o "$tmp/a" || exit 77
"$tmp/a"
