/* NetBSD 10, by its sys/event.h, sys/socket.h, tcp(4). Its filters are unsigned. */
#ifndef NETBSD_H
#define NETBSD_H

#include "types.h"

typedef uint64_t dev_t;
typedef uint64_t ino_t;
typedef uint32_t mode_t;
typedef unsigned nfds_t;
typedef int clockid_t;
typedef struct pthread_mutex {
    unsigned magic;
    void *owner;
} pthread_mutex_t;
typedef struct sigset {
    uint32_t bits[4];
} sigset_t;
#define PTHREAD_MUTEX_INITIALIZER                                                                  \
    { 0x33330003, NULL }
#define CLOCK_MONOTONIC 3
#define NSIG            64
#define EOPNOTSUPP      45
#define EOVERFLOW       84
#define ENOTSUP         86
#define ECANCELED       87
#define EPROTO          96
#define AF_INET6        24
#define F_SETNOSIGPIPE  14
#define MSG_NOSIGNAL    0x0400
#define SO_NOSIGPIPE    0x0800
#define SOCK_CLOEXEC    0x10000000
#define SOCK_NONBLOCK   0x20000000
#define TCP_KEEPIDLE    3

#define O_SEARCH 0x00800000

#include "posix.h"

#define EVFILT_READ  0U
#define EVFILT_WRITE 1U
#define EVFILT_TIMER 6U
#define EVFILT_USER  8U
#define EVFILT_PROC  4U
#define EV_ADD       0x0001U
#define EV_DELETE    0x0002U
#define EV_ENABLE    0x0004U
#define EV_DISABLE   0x0008U
#define EV_ONESHOT   0x0010U
#define EV_CLEAR     0x0020U
#define EV_RECEIPT   0x0040U
#define EV_DISPATCH  0x0080U
#define EV_ERROR     0x4000U
#define EV_EOF       0x8000U
#define NOTE_TRIGGER 0x01000000U
#define NOTE_EXIT    0x80000000U
struct kevent {
    uintptr_t ident;
    uint32_t filter;
    uint32_t flags;
    uint32_t fflags;
    int64_t data;
    void *udata;
};
int kqueue(void);
int kevent(int kq, const struct kevent *changes, size_t change_count, struct kevent *events,
           size_t event_count, const struct timespec *timeout);

int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);

/* pthread.h, unistd.h */
int pthread_setname_np(pthread_t t, const char *format, void *argument);
#define _SC_NPROCESSORS_ONLN 1002

#endif
