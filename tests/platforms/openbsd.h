/* OpenBSD 7.5, by its sys/event.h, sys/socket.h, tcp(4): no EVFILT_USER, no TCP_KEEPIDLE. */
#ifndef OPENBSD_H
#define OPENBSD_H

#include "types.h"

typedef int32_t dev_t;
typedef uint64_t ino_t;
typedef uint32_t mode_t;
typedef unsigned nfds_t;
typedef int clockid_t;
typedef struct pthread_mutex *pthread_mutex_t;
typedef unsigned sigset_t;
#define PTHREAD_MUTEX_INITIALIZER NULL
#define CLOCK_MONOTONIC           3
#define NSIG                      33
#define EOPNOTSUPP                45
#define EOVERFLOW                 87
#define ECANCELED                 88
#define ENOTSUP                   91
#define EPROTO                    95
#define AF_INET6                  24
#define MSG_NOSIGNAL              0x400
#define SOCK_CLOEXEC              0x8000
#define SOCK_NONBLOCK             0x4000

#include "posix.h"

#define EVFILT_READ  (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_TIMER (-7)
#define EVFILT_PROC  (-5)
#define EV_ADD       0x0001
#define EV_DELETE    0x0002
#define EV_ENABLE    0x0004
#define EV_DISABLE   0x0008
#define EV_ONESHOT   0x0010
#define EV_CLEAR     0x0020
#define EV_RECEIPT   0x0040
#define EV_DISPATCH  0x0080
#define EV_ERROR     0x4000
#define EV_EOF       0x8000
#define NOTE_EXIT    0x80000000
struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned int fflags;
    int64_t data;
    void *udata;
};
int kqueue(void);
int kevent(int kq, const struct kevent *changes, int change_count, struct kevent *events,
           int event_count, const struct timespec *timeout);

int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);

/* pthread.h, unistd.h */
void pthread_set_name_np(pthread_t t, const char *name);
#define _SC_NPROCESSORS_ONLN 503

#endif
