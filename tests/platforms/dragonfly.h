/* DragonFly 6, by its sys/event.h, sys/socket.h, sendfile(2), tcp(4). */
#ifndef DRAGONFLY_H
#define DRAGONFLY_H

#include "types.h"

typedef uint32_t dev_t;
typedef uint64_t ino_t;
typedef unsigned short mode_t;
typedef unsigned nfds_t;
typedef int clockid_t;
typedef struct pthread_mutex *pthread_mutex_t;
typedef struct sigset {
    uint32_t bits[4];
} sigset_t;
#define PTHREAD_MUTEX_INITIALIZER NULL
#define CLOCK_MONOTONIC           4
#define NSIG                      32
#define _SIG_MAXSIG               128
#define EOPNOTSUPP                45
#define ENOTSUP                   EOPNOTSUPP
#define ECANCELED                 85
#define EOVERFLOW                 84
#define EPROTO                    92
#define AF_INET6                  28
#define MSG_NOSIGNAL              0x00000400
#define SO_NOSIGPIPE              0x00000800
#define SOCK_CLOEXEC              0x10000000
#define SOCK_NONBLOCK             0x20000000
#define TCP_KEEPIDLE              256

#include "posix.h"

#define EVFILT_READ  (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_TIMER (-7)
#define EVFILT_USER  (-9)
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
#define NOTE_TRIGGER 0x01000000
#define NOTE_EXIT    0x80000000
struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned int fflags;
    intptr_t data;
    void *udata;
};
int kqueue(void);
int kevent(int kq, const struct kevent *changes, int change_count, struct kevent *events,
           int event_count, const struct timespec *timeout);

struct sf_hdtr;
int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);
int sendfile(int fd, int s, off_t offset, size_t nbytes, struct sf_hdtr *hdtr, off_t *sbytes,
             int flags);

/* pthread.h, unistd.h */
void pthread_set_name_np(pthread_t t, const char *name);
#define _SC_NPROCESSORS_ONLN 58

#endif
