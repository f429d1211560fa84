#!/bin/sh
# Subject:   glibc, getaddrinfo(3) on threads, and fork(2).
# Version:   glibc 2.36 (Debian 12).
# Behaviour: A thread is inside getaddrinfo, waiting for a DNS server, when its process forks. The
#            child starts a thread of its own and calls getaddrinfo there. It does not open a socket,
#            as every other thread does: it asks through the socket that the parent's thread has
#            opened, from the same port. So the two processes take each other's answers: whoever
#            reads one that is not its own drops it, and the other waits for the whole timeout. A
#            thread's resolver state, open sockets included, lies in its descriptor at the end of
#            its stack; after fork the stacks of the threads that the child does not have are kept
#            for new threads, and nothing clears that state. (POSIX lets such a child call only
#            async-signal-safe functions before exec; glibc does let it start threads, and repairs
#            the locks of malloc and stdio for it.)
# Output:    child asks from the parent's port: yes
# Source:    glibc: nptl/descr.h (struct pthread, member res), nptl/nptl-stack.c and
#            sysdeps/nptl/fork (reclaim_stacks), nptl/allocatestack.c (get_cached_stack)
# Needs namespaces of its own (unshare -n -m), for resolv.conf cannot name a port: else skipped.
CC=${CC:-cc}
[ "$(uname -s)" = Linux ] || exit 77
command -v "$CC" >/dev/null || exit 77
set -u
dir=$(mktemp -d) || exit 77
trap 'rm -rf "$dir"' EXIT
cat >"$dir/a.c" <<'END'
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void *look_up(void *name) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(name, "1", &hints, &found) == 0) freeaddrinfo(found);
    return NULL;
}

/* The port from which the next question comes, which is never answered. */
static int asked_from(int server) {
    char question[512];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    if (recvfrom(server, question, sizeof question, 0, (struct sockaddr *)&from, &len) < 0) return -1;
    return ntohs(from.sin_port);
}

int main(int argc, char **argv) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct timeval limit = {20, 0};
    struct ifreq lo = {.ifr_name = "lo"};
    pthread_t t;
#ifndef __GLIBC__
    return 77;
#endif
    if (argc < 3) return 77;
    if (geteuid() ? unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)
                  : unshare(CLONE_NEWNET | CLONE_NEWNS))
        return 77;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) return 77;
    if (mount(argv[1], "/etc/resolv.conf", NULL, MS_BIND, NULL)) return 77;
    if (mount(argv[2], "/etc/nsswitch.conf", NULL, MS_BIND, NULL)) return 77;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int server = socket(AF_INET, SOCK_DGRAM, 0);
    lo.ifr_flags = IFF_UP;
    if (ioctl(server, SIOCSIFFLAGS, &lo)) return 77;
    setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (bind(server, (struct sockaddr *)&a, sizeof a)) return 77;

    pthread_create(&t, NULL, look_up, "parent.test");
    int parent = asked_from(server);
    pid_t child = fork();
    if (child == 0) {
        pthread_create(&t, NULL, look_up, "child.test");
        pthread_join(t, NULL);
        _exit(0);
    }
    int second = asked_from(server);
    kill(child, 9);
    waitpid(child, NULL, 0);
    printf("child asks from the parent's port: %s\n", parent == second ? "yes" : "no");
    fflush(stdout);
    _exit(parent < 0 || second < 0 ? 77 : parent == second ? 0 : 1);
}
END
printf 'nameserver 127.0.0.1\noptions timeout:30 attempts:1\n' >"$dir/resolv.conf"
printf 'hosts: dns\n' >"$dir/nsswitch.conf"
"$CC" "$dir/a.c" -o "$dir/a" -pthread || exit 77
"$dir/a" "$dir/resolv.conf" "$dir/nsswitch.conf"
