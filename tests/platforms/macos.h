/* macOS 14 (xnu 10002), by its sys/event.h, sys/socket.h, sendfile(2), tcp(4). */
#ifndef MACOS_H
#define MACOS_H

#include "types.h"

typedef int32_t dev_t;
typedef uint64_t ino_t;
typedef uint16_t mode_t;
typedef unsigned nfds_t;
typedef enum {
    CLOCK_REALTIME_VALUE = 0,
    CLOCK_MONOTONIC_VALUE = 6,
    CLOCK_UPTIME_RAW_VALUE = 8
} clockid_t;
typedef struct pthread_mutex {
    long sig;
    char opaque[56];
} pthread_mutex_t;
typedef uint32_t sigset_t;
#define PTHREAD_MUTEX_INITIALIZER                                                                  \
    {                                                                                              \
        0x32AAABA7, { 0 }                                                                          \
    }
#define CLOCK_MONOTONIC  CLOCK_MONOTONIC_VALUE
#define CLOCK_UPTIME_RAW CLOCK_UPTIME_RAW_VALUE
#define NSIG             32
#define ENOTSUP          45
#define EOPNOTSUPP       102
#define EOVERFLOW        84
#define ECANCELED        89
#define EPROTO           100
#define AF_INET6         30
#define F_SETNOSIGPIPE   73
#define MSG_NOSIGNAL     0x80000
#define SO_NOSIGPIPE     0x1022
#define TCP_KEEPALIVE    0x10

#define O_SEARCH 0x40100000

#include "posix.h"

#define EVFILT_READ  (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_TIMER (-7)
#define EVFILT_USER  (-10)
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
#pragma pack(4)
struct kevent {
    uintptr_t ident;
    int16_t filter;
    uint16_t flags;
    uint32_t fflags;
    intptr_t data;
    void *udata;
};
#pragma pack()
int kqueue(void);
int kevent(int kq, const struct kevent *changes, int change_count, struct kevent *events,
           int event_count, const struct timespec *timeout);

struct sf_hdtr;
int sendfile(int fd, int s, off_t offset, off_t *len, struct sf_hdtr *hdtr, int flags);

/* pthread.h, unistd.h */
int pthread_setname_np(const char *name);
#define _SC_NPROCESSORS_ONLN 58

#endif
