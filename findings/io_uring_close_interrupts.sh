#!/bin/sh
# Subject:   io_uring on Linux, what closing a ring does to the thread that has used it.
# Version:   Linux 6.18.
# Behaviour: close(2) of a ring, even one that was never asked for anything, returns at once. Some 10
#            to 20 ms later, when a kernel worker gets round to it, each thread that has made or used
#            the ring is interrupted: calls that are not restarted, such as a recv with SO_RCVTIMEO,
#            epoll_wait or sigtimedwait, fail with EINTR though no signal has come and no handler is
#            installed. Who makes a ring just to see whether it can be had disturbs what comes next.
# Output:    no ring: Resource temporarily unavailable
#            ring closed: Interrupted system call
# Source:    kernel: io_uring/io_uring.c, io_ring_exit_work (task_work_add with TWA_SIGNAL for every
#            task in ctx->tctx_list). signal(7) has it that EINTR comes of a signal handler.
CC=${CC:-cc}
[ "$(uname -s)" = Linux ] || exit 77
command -v "$CC" >/dev/null || exit 77
tmp=$(mktemp -d) || exit 77
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/a.c" <<'C'
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

/* What a receive says that nothing comes for, within 200 ms. */
static int receive(void) {
    struct timeval limit = {0, 200000};
    int pair[2];
    char byte;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) return 0;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int e = recv(pair[0], &byte, 1, 0) < 0 ? errno : 0;
    close(pair[0]);
    close(pair[1]);
    return e;
}

int main(void) {
    unsigned params[30]; /* struct io_uring_params */
    int e = 0;
    printf("no ring: %s\n", strerror(receive()));
    for (int tries = 0; tries < 5 && e != EINTR; tries++) {
        memset(params, 0, sizeof params);
        int fd = (int)syscall(425, 8, params); /* io_uring_setup */
        if (fd < 0) return 77;
        close(fd);
        e = receive();
    }
    printf("ring closed: %s\n", strerror(e));
    return e != EINTR;
}
C
"$CC" -std=gnu99 -o "$tmp/a" "$tmp/a.c" || exit 77
"$tmp/a"
