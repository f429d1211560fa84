/* What libkqueue.h promises. In the archive, so that every test program over libkqueue has it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "libkqueue.h"

#ifdef REACTOR_TEST_KQUEUE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static __thread int mended_inside;

int getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    if (mended_inside && level == SOL_SOCKET && name == SO_ERROR) {
        memset(value, 0, *len);
        return 0;
    }
    return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

static int mended_call(int kq, const struct kevent *changes, int n, struct kevent *events, int max,
                       const struct timespec *timeout) {
    mended_inside = 1;
    int got = (kevent)(kq, changes, n, events, max, timeout);
    mended_inside = 0;
    return got;
}

/* The changes alone: how many receipts and refusals there are. */
static int mended_changes(int kq, const struct kevent *changes, int n, struct kevent *events,
                          int max) {
    const struct timespec now = {0, 0};
    struct kevent told[64];
    int count = 0;
    memset(told, 0, sizeof told);
    for (int i = 0; i < n; i++) {
        told[i] = changes[i];
        told[i].flags |= EV_RECEIPT;
    }
    if (mended_call(kq, told, n, told, n, &now) < 0) return -1;
    for (int i = 0; i < n; i++) {
        if (!told[i].data && !(changes[i].flags & EV_RECEIPT)) continue;
        if (count == max) {
            errno = (int)told[i].data;
            return errno ? -1 : count;
        }
        events[count] = told[i];
        events[count++].flags = EV_ERROR;
    }
    return count;
}

int mended_kevent(int kq, const struct kevent *changes, int n, struct kevent *events, int max,
                  const struct timespec *timeout) {
    int told = n ? mended_changes(kq, changes, n, events, max) : 0;
    return told || !max ? told : mended_call(kq, NULL, 0, events, max, timeout);
}
#else
typedef int libkqueue_is_not_used;
#endif
