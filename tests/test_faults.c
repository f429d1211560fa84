/* Every system call and every allocation of the library is made to fail: each in turn, once and from
   then on, with the errors that it can give. A scenario is run again and again, with the fault at
   the first, the second ... call of its kind, until it ends without having met it. Whatever fails:
   the error is told, by the call, by on_close or by the return of the turn; what failed can be
   done again once the fault has gone; the loop goes on and does not spin; nothing is lost, called
   twice or leaked.

   The implementation is compiled into this file with its system calls renamed by macros: so the
   test's own calls, made after those are gone, never fail. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libkqueue.h"

/* ---- the faults ---- */

enum {
    ALLOC,
    READ,
    WRITE,
    RECV,
    SEND,
    SENDMSG,
    WRITEV,
    SENDFILE,
    PREAD,
    ACCEPT,
    PPOLL,
    PWAIT2,
    EPOLL_CREATE,
    EPOLL_CTL,
    EPOLL_WAIT,
    DUP3,
    KQUEUE,
    KEVENT,
    POLL,
    PSELECT,
    EVENTFD,
    TIMERFD_CREATE,
    TIMERFD_SETTIME,
    SOCKET,
    BIND,
    LISTEN,
    CONNECT,
    GETSOCKNAME,
    GETPEERNAME,
    GETSOCKOPT,
    SETSOCKOPT,
    FCNTL,
    SHUTDOWN,
    CLOSE,
    FSTAT,
    LSTAT,
    UNLINK,
    CHMOD,
    OPEN,
    SIGACTION,
    MUTEX_INIT,
    CONDITION_INIT,
    THREAD_CREATE,
    URING_SETUP,
    URING_ENTER,
    MMAP,
    RECVMSG,
    RECVMMSG,
    SENDMMSG,
    PIPE2,
    DUP2,
    VFORK,
    CHDIR,
    SETSID,
    EXECVE,
    WAITPID,
    WAITID,
    PIDFD_OPEN,
    PIDFD_SIGNAL,
    PIDFD_INFO,
    CLOSE_RANGE,
    AFFINITY,
    UNKNOWN,
    KINDS
};

static const char *const kind_names[KINDS] = {"allocation",
                                              "read",
                                              "write",
                                              "recv",
                                              "send",
                                              "sendmsg",
                                              "writev",
                                              "sendfile",
                                              "pread",
                                              "accept4",
                                              "ppoll",
                                              "epoll_pwait2",
                                              "epoll_create1",
                                              "epoll_ctl",
                                              "epoll_wait",
                                              "dup3",
                                              "kqueue",
                                              "kevent",
                                              "poll",
                                              "pselect",
                                              "eventfd",
                                              "timerfd_create",
                                              "timerfd_settime",
                                              "socket",
                                              "bind",
                                              "listen",
                                              "connect",
                                              "getsockname",
                                              "getpeername",
                                              "getsockopt",
                                              "setsockopt",
                                              "fcntl",
                                              "shutdown",
                                              "close",
                                              "fstat",
                                              "lstat",
                                              "unlink",
                                              "chmod",
                                              "open",
                                              "sigaction",
                                              "pthread_mutex_init",
                                              "pthread_cond_init",
                                              "pthread_create",
                                              "io_uring_setup",
                                              "io_uring_enter",
                                              "mmap",
                                              "recvmsg",
                                              "recvmmsg",
                                              "sendmmsg",
                                              "pipe2",
                                              "dup2",
                                              "vfork",
                                              "chdir",
                                              "setsid",
                                              "execve",
                                              "waitpid",
                                              "waitid",
                                              "pidfd_open",
                                              "pidfd_send_signal",
                                              "PIDFD_GET_INFO",
                                              "close_range",
                                              "sched_getaffinity",
                                              "unknown"};

/* ONCE and LASTING are how often; LEVEL: only where readiness is a level, for a false EAGAIN takes
   the only edge there is, and no kernel gives one; HIDDEN: the library copes with it, so no caller
   and no callback is ever told. */
enum { ONCE = 1, LASTING = 2, BOTH = 3, LEVEL = 4, HIDDEN = 8 };

static const struct fault_row {
    int kind, error, modes;
} rows[] = {
    {ALLOC, ENOMEM, BOTH},
    {READ, EINTR, ONCE | HIDDEN},
    {READ, EAGAIN, ONCE | LEVEL | HIDDEN},
    {READ, EIO, BOTH},
    {READ, ENOBUFS, BOTH},
    {READ, ECONNRESET, BOTH},
    {WRITE, EINTR, ONCE | HIDDEN},
    {WRITE, EIO, BOTH},
    {RECV, EINTR, ONCE | HIDDEN},
    {RECV, EAGAIN, ONCE | LEVEL | HIDDEN},
    {RECV, ENOBUFS, BOTH},
    {RECV, ECONNRESET, BOTH},
    {RECV, ETIMEDOUT, BOTH},
    {SEND, EINTR, ONCE | HIDDEN},
    {SEND, EAGAIN, ONCE | LEVEL | HIDDEN},
    {SEND, ENOBUFS, BOTH},
    {SEND, EPIPE, BOTH},
    {SEND, ECONNRESET, BOTH},
    {SENDMSG, EINTR, ONCE | HIDDEN},
    {SENDMSG, EAGAIN, ONCE | LEVEL | HIDDEN},
    {SENDMSG, ENOMEM, BOTH},
    {WRITEV, EINTR, ONCE | HIDDEN},
    {WRITEV, EAGAIN, ONCE | LEVEL | HIDDEN},
    {WRITEV, EIO, BOTH},
    {SENDFILE, EINTR, ONCE | HIDDEN},
    {SENDFILE, EAGAIN, ONCE | LEVEL | HIDDEN},
    {SENDFILE, EINVAL, BOTH | HIDDEN}, /* the system's wish for a copy by hand, not a failure */
    {SENDFILE, EIO, BOTH},
    {SENDFILE, ENOMEM, BOTH},
    {PREAD, EINTR, ONCE | HIDDEN},
    {PREAD, EIO, BOTH},
    {ACCEPT, EMFILE, BOTH | HIDDEN},
    {ACCEPT, ENFILE, ONCE | HIDDEN},
    {ACCEPT, ENOBUFS, ONCE | HIDDEN},
    {ACCEPT, ECONNABORTED, BOTH | HIDDEN},
    {ACCEPT, EINTR, ONCE | HIDDEN},
    {ACCEPT, EPROTO, ONCE | HIDDEN},
    {ACCEPT, EAGAIN, ONCE | HIDDEN},
    {ACCEPT, EIO, ONCE | HIDDEN},
    {PPOLL, EINTR, ONCE | HIDDEN},
    {PPOLL, ENOMEM, BOTH},
    {PWAIT2, ENOSYS, BOTH | HIDDEN},
    {PWAIT2, EPERM, BOTH | HIDDEN},
    {PWAIT2, EINTR, ONCE | HIDDEN},
    {PWAIT2, EIO, BOTH},
    {EPOLL_CREATE, EMFILE, BOTH},
    {EPOLL_CREATE, ENOMEM, BOTH},
    {EPOLL_CTL, ENOMEM, BOTH},
    {EPOLL_CTL, ENOSPC, BOTH},
    {EPOLL_WAIT, EINTR, ONCE | HIDDEN},
    {EPOLL_WAIT, EIO, BOTH},
    {DUP3, EBUSY, BOTH | HIDDEN},
    {KQUEUE, EMFILE, BOTH},
    {KEVENT, EINTR, ONCE | HIDDEN},
    {KEVENT, ENOMEM, BOTH},
    {POLL, EINTR, ONCE | HIDDEN},
    {POLL, ENOMEM, BOTH},
    {PSELECT, EINTR, ONCE | HIDDEN},
    {PSELECT, ENOMEM, BOTH},
    {EVENTFD, EMFILE, BOTH},
    {EVENTFD, ENOMEM, BOTH},
    {TIMERFD_CREATE, EMFILE, BOTH},
    {TIMERFD_SETTIME, ENOMEM, BOTH},
    {SOCKET, EMFILE, BOTH},
    {SOCKET, ENOBUFS, BOTH},
    {BIND, EACCES, BOTH},
    {LISTEN, EADDRINUSE, BOTH},
    {CONNECT, ENETUNREACH, BOTH},
    {CONNECT, EINTR, ONCE | HIDDEN},
    {GETSOCKNAME, ENOBUFS, BOTH},
    {GETPEERNAME, ENOBUFS, BOTH},
    {GETSOCKOPT, ENOBUFS, BOTH},
    {SETSOCKOPT, ENOBUFS, BOTH},
    {FCNTL, EIO, BOTH},
    {SHUTDOWN, ENOBUFS, BOTH},
    {CLOSE, EINTR, BOTH | HIDDEN},
    {CLOSE, EIO, BOTH | HIDDEN},
    {FSTAT, EIO, BOTH},
    {LSTAT, EIO, BOTH},
    {UNLINK, EPERM, BOTH},
    {CHMOD, EPERM, BOTH},
    {OPEN, EMFILE, BOTH},
    {OPEN, EACCES, BOTH},
    {SIGACTION, EINVAL, BOTH},
    {MUTEX_INIT, ENOMEM, BOTH},
    {CONDITION_INIT, ENOMEM, BOTH | HIDDEN}, /* a thread that cannot sleep ends */
    {THREAD_CREATE, EAGAIN, BOTH},
    {URING_SETUP, EINVAL, BOTH},
    {URING_SETUP, EPERM, BOTH},
    {URING_ENTER, EINTR, ONCE | HIDDEN},
    {URING_ENTER, EAGAIN, BOTH},
    {URING_ENTER, EBUSY, BOTH},
    {URING_ENTER, EIO, BOTH},
    {MMAP, ENOMEM, BOTH},
    {RECVMSG, EINTR, ONCE | HIDDEN},
    {RECVMSG, EIO, ONCE | HIDDEN},
    {RECVMMSG, EINTR, ONCE | HIDDEN},
    {RECVMMSG, EAGAIN, ONCE | HIDDEN}, /* a level on every backend */
    {RECVMMSG, ENOSYS, BOTH | HIDDEN},
    {RECVMMSG, ENOMEM, BOTH},
    {SENDMMSG, EINTR, ONCE | HIDDEN},
    {SENDMMSG, EAGAIN, ONCE | HIDDEN},
    {SENDMMSG, ENOSYS, BOTH | HIDDEN},
    {SENDMMSG, ENOBUFS, BOTH},
    {PIPE2, EMFILE, BOTH},
    {AFFINITY, EPERM, BOTH | HIDDEN},
    {DUP2, EMFILE, BOTH},
    {VFORK, EAGAIN, BOTH},
    {VFORK, ENOMEM, BOTH},
    {CHDIR, EACCES, BOTH},
    {SETSID, EPERM, BOTH},
    {EXECVE, ENOENT, BOTH},
    {EXECVE, ENOMEM, BOTH},
    {WAITPID, EINTR, ONCE | HIDDEN},
    {WAITID, EINTR, ONCE | HIDDEN},
    {WAITID, EINVAL, BOTH | HIDDEN}, /* Linux 5.3 */
    {PIDFD_OPEN, ENOSYS, BOTH | HIDDEN},
    {PIDFD_OPEN, EPERM, BOTH | HIDDEN},
    {PIDFD_OPEN, EMFILE, BOTH},
    {PIDFD_SIGNAL, EPERM, BOTH},
    {PIDFD_INFO, ENOTTY, BOTH | HIDDEN},
    {CLOSE_RANGE, ENOSYS, BOTH | HIDDEN},
};

static struct {
    const char *scenario;
    int kind, error, nth, lasting;
    int hidden; /* nobody is told */
    int copies; /* sendfile is not for these files: they are read and sent */
    int duplex; /* pipes are said to go both ways, as FreeBSD's do */
    int armed;
    int calls[KINDS];
    int hits;
    int live; /* allocations */
} fault;

static int complaints; /* of the test that is running */

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The fault has gone. */
static void lift(void) { __atomic_store_n(&fault.armed, 0, __ATOMIC_SEQ_CST); }

/* Counts the call. Whether it is to fail; errno is set then. Threads of the pool come here too. */
static int fault_now(int kind) {
    int n = __atomic_add_fetch(&fault.calls[kind], 1, __ATOMIC_SEQ_CST);
    if (kind == UNKNOWN) complain("a system call that this test does not know");
    if (!__atomic_load_n(&fault.armed, __ATOMIC_SEQ_CST) || kind != fault.kind) return 0;
    if (fault.lasting ? n < fault.nth : n != fault.nth) return 0;
    if (__atomic_add_fetch(&fault.hits, 1, __ATOMIC_SEQ_CST) == 20000) {
        complain("tried again and again without end");
        lift();
        return 0;
    }
    errno = fault.error;
    return 1;
}

static void *fault_malloc(size_t size) {
    void *memory = fault_now(ALLOC) ? NULL : malloc(size);
    fault.live += memory != NULL;
    return memory;
}

static void *fault_realloc(void *old, size_t size) {
    void *memory = fault_now(ALLOC) ? NULL : realloc(old, size);
    fault.live += memory != NULL && old == NULL;
    return memory;
}

static void fault_free(void *memory) {
    fault.live -= memory != NULL;
    free(memory);
}

/* Closes in any case, as Linux does. */
static int fault_close(int fd) {
    int e = close(fd);
    return fault_now(CLOSE) ? -1 : e;
}

static ssize_t fault_sendfile(int fd, int in, off_t *offset, size_t len) {
    if (!fault.copies) return sendfile(fd, in, offset, len);
    errno = EINVAL;
    return -1;
}

static int fault_fcntl(int fd, int command, ...) {
    va_list args;
    va_start(args, command);
    int value = command == F_GETFL || command == F_GETFD ? 0 : va_arg(args, int);
    va_end(args);
    int e = fcntl(fd, command, value);
    return command == F_GETFL && fault.duplex && e >= 0 ? (e & ~O_ACCMODE) | O_RDWR : e;
}

/* After EINTR the connect goes on in the background. */
static int fault_connect(int fd, const struct sockaddr *a, socklen_t len) {
    int failed = fault_now(CONNECT);
    if (failed && fault.error != EINTR) return -1;
    int e = connect(fd, a, len);
    if (failed) errno = EINTR;
    return failed ? -1 : e;
}

static int fault_kind(long number) {
    switch (number) {
    case SYS_accept4:
        return ACCEPT;
    case SYS_recvmmsg:
        return RECVMMSG;
    case SYS_sendmmsg:
        return SENDMMSG;
    case SYS_ppoll:
        return PPOLL;
    case SYS_dup3:
        return DUP3;
    case SYS_pipe2:
        return PIPE2;
    case SYS_sched_getaffinity:
        return AFFINITY;
    case 441:
        return PWAIT2;
    case 452: /* fchmodat2 */
        return CHMOD;
    case 425:
        return URING_SETUP;
    case 426:
        return URING_ENTER;
    case SYS_ioctl:
        return PIDFD_INFO;
    case 424:
        return PIDFD_SIGNAL;
    case 434:
        return PIDFD_OPEN;
    case 436:
        return CLOSE_RANGE;
    default:
        return UNKNOWN;
    }
}

/* That the macros below are calls, whose result may be left unused. */
static int fault_int(int result) { return result; }
static long fault_long(long result) { return result; }
static ssize_t fault_size(ssize_t result) { return result; }

#define FAULTY_INT(kind, call)  fault_int(fault_now(kind) ? -1 : (call))
#define FAULTY_SIZE(kind, call) fault_size(fault_now(kind) ? -1 : (call))

#define read(...)          FAULTY_SIZE(READ, read(__VA_ARGS__))
#define write(...)         FAULTY_SIZE(WRITE, write(__VA_ARGS__))
#define recv(...)          FAULTY_SIZE(RECV, recv(__VA_ARGS__))
#define send(...)          FAULTY_SIZE(SEND, send(__VA_ARGS__))
#define sendmsg(...)       FAULTY_SIZE(SENDMSG, sendmsg(__VA_ARGS__))
#define recvmsg(...)       FAULTY_SIZE(RECVMSG, recvmsg(__VA_ARGS__))
#define writev(...)        FAULTY_SIZE(WRITEV, writev(__VA_ARGS__))
#define sendfile(...)      FAULTY_SIZE(SENDFILE, fault_sendfile(__VA_ARGS__))
#define pread(...)         FAULTY_SIZE(PREAD, pread(__VA_ARGS__))
#define epoll_create1(...) FAULTY_INT(EPOLL_CREATE, epoll_create1(__VA_ARGS__))
#define epoll_ctl(...)     FAULTY_INT(EPOLL_CTL, epoll_ctl(__VA_ARGS__))
#define epoll_wait(...)    FAULTY_INT(EPOLL_WAIT, epoll_wait(__VA_ARGS__))
#define kqueue()           FAULTY_INT(KQUEUE, kqueue())
#undef kevent
#define kevent(...)          FAULTY_INT(KEVENT, mended_kevent(__VA_ARGS__))
#define poll(...)            FAULTY_INT(POLL, poll(__VA_ARGS__))
#define pselect(...)         FAULTY_INT(PSELECT, pselect(__VA_ARGS__))
#define eventfd(...)         FAULTY_INT(EVENTFD, eventfd(__VA_ARGS__))
#define timerfd_create(...)  FAULTY_INT(TIMERFD_CREATE, timerfd_create(__VA_ARGS__))
#define timerfd_settime(...) FAULTY_INT(TIMERFD_SETTIME, timerfd_settime(__VA_ARGS__))
#define socket(...)          FAULTY_INT(SOCKET, socket(__VA_ARGS__))
#define bind(...)            FAULTY_INT(BIND, bind(__VA_ARGS__))
#define listen(...)          FAULTY_INT(LISTEN, listen(__VA_ARGS__))
#define getsockname(...)     FAULTY_INT(GETSOCKNAME, getsockname(__VA_ARGS__))
#define getpeername(...)     FAULTY_INT(GETPEERNAME, getpeername(__VA_ARGS__))
#define getsockopt(...)      FAULTY_INT(GETSOCKOPT, getsockopt(__VA_ARGS__))
#define setsockopt(...)      FAULTY_INT(SETSOCKOPT, setsockopt(__VA_ARGS__))
#define fcntl(...)           FAULTY_INT(FCNTL, fault_fcntl(__VA_ARGS__))
#define shutdown(...)        FAULTY_INT(SHUTDOWN, shutdown(__VA_ARGS__))
#define fstat(...)           FAULTY_INT(FSTAT, fstat(__VA_ARGS__))
#define lstat(...)           FAULTY_INT(LSTAT, lstat(__VA_ARGS__))
#define unlink(...)          FAULTY_INT(UNLINK, unlink(__VA_ARGS__))
#define chmod(...)           FAULTY_INT(CHMOD, chmod(__VA_ARGS__))
#define fstatat(...)         FAULTY_INT(LSTAT, fstatat(__VA_ARGS__))
#define unlinkat(...)        FAULTY_INT(UNLINK, unlinkat(__VA_ARGS__))
#define fchmod(...)          FAULTY_INT(CHMOD, fchmod(__VA_ARGS__))
#define open(...)            FAULTY_INT(OPEN, open(__VA_ARGS__))
#define openat(...)          FAULTY_INT(OPEN, openat(__VA_ARGS__))
#define sigaction(...)       FAULTY_INT(SIGACTION, sigaction(__VA_ARGS__))
#define pipe2(...)           FAULTY_INT(PIPE2, pipe2(__VA_ARGS__))
#define dup2(...)            FAULTY_INT(DUP2, dup2(__VA_ARGS__))
#define vfork()              (fault_now(VFORK) ? -1 : vfork()) /* whose caller must not return */
#define chdir(...)           FAULTY_INT(CHDIR, chdir(__VA_ARGS__))
#define setsid()             FAULTY_INT(SETSID, setsid())
#define execve(...)          FAULTY_INT(EXECVE, execve(__VA_ARGS__))
#define waitpid(...)         FAULTY_INT(WAITPID, waitpid(__VA_ARGS__))
#define waitid(...)          FAULTY_INT(WAITID, waitid(__VA_ARGS__))
#define mmap(...)            (fault_now(MMAP) ? MAP_FAILED : mmap(__VA_ARGS__))
#define close(fd)            fault_int(fault_close(fd))
#define connect(...)         fault_int(fault_connect(__VA_ARGS__))
#define pthread_mutex_init(...)                                                                    \
    fault_int(fault_now(MUTEX_INIT) ? ENOMEM : pthread_mutex_init(__VA_ARGS__))
#define pthread_cond_init(...)                                                                     \
    fault_int(fault_now(CONDITION_INIT) ? ENOMEM : pthread_cond_init(__VA_ARGS__))
#define pthread_create(...)                                                                        \
    fault_int(fault_now(THREAD_CREATE) ? EAGAIN : pthread_create(__VA_ARGS__))
#define syscall(number, ...)                                                                       \
    fault_long(fault_now(fault_kind(number)) ? -1 : syscall(number, __VA_ARGS__))

#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#define REACTOR_MALLOC(size)       fault_malloc(size)
#define REACTOR_REALLOC(old, size) fault_realloc(old, size)
#define REACTOR_FREE(memory)       fault_free(memory)
#include "../reactor.h"

#undef read
#undef write
#undef recv
#undef send
#undef sendmsg
#undef recvmsg
#undef writev
#undef sendfile
#undef pread
#undef epoll_create1
#undef epoll_ctl
#undef epoll_wait
#undef kqueue
#undef kevent
#undef poll
#undef pselect
#undef eventfd
#undef timerfd_create
#undef timerfd_settime
#undef socket
#undef bind
#undef listen
#undef getsockname
#undef getpeername
#undef getsockopt
#undef setsockopt
#undef fcntl
#undef shutdown
#undef fstat
#undef lstat
#undef unlink
#undef chmod
#undef fstatat
#undef unlinkat
#undef fchmod
#undef open
#undef openat
#undef sigaction
#undef close
#undef mmap
#undef pipe2
#undef dup2
#undef vfork
#undef chdir
#undef setsid
#undef execve
#undef waitpid
#undef waitid
#undef connect
#undef pthread_mutex_init
#undef pthread_cond_init
#undef pthread_create
#undef syscall

#include "harness.h"

/* ---- one run of a scenario ---- */

enum {
    DESCRIPTORS = 512,    /* looked at for leaks */
    ENOUGH = 6,           /* complaints after which a test ends */
    PATIENCE = 15,        /* turns under a lasting fault before it goes */
    PATTERN = 256 * 1024, /* bytes that are known */
    STUCK_MS = 3000,      /* and */
    STUCK_TURNS = 2000    /* of waiting for one thing; so a machine that stopped is not blamed */
};

static char pattern[PATTERN];

/* What happened; all zero before each run. */
static struct {
    reactor *r;
    int fds[64]; /* the test's own descriptors, closed at the end */
    int fd_count;
    int ending;                  /* destroy has begun */
    int made, opened, closed;    /* connections */
    int excused;                 /* those that were told of the fault */
    int aborted, detached, idle; /* calls and timeouts that explain a reason */
    int hoarding;                /* input is kept on purpose */
    int silent;                  /* a call said 0 and yet met the fault */
    int events, fired, tasks, signals, eofs, writables;
    int owned_made, owned_freed, files_made, files_done;
    int failed; /* has complained */
    int exits;  /* children told of */
    reactor_exit how;
    uint64_t ids[64];
    reactor_conn conn;
    reactor_listener listener;
    char expected[PATTERN * 2], got[PATTERN * 2];
    size_t expected_len, got_len;
} w;

static const char *mode_name(void) { return fault.lasting ? "and from then on" : "once"; }

static void describe(char *out, size_t size) {
    snprintf(out, size, "scenario %s, backend %s: %s fails at call %d, %s, with %s", fault.scenario,
             backend_under_test() ? backend_under_test() : "best", kind_names[fault.kind],
             fault.nth, mode_name(), fault.error ? strerror(fault.error) : "nothing");
}

static void complain(const char *format, ...) {
    char text[400], what[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    describe(what, sizeof what);
    print_error("%s (met %d times): %s\n", what, fault.hits, text);
    complaints++;
    w.failed = 1;
}

/* For a test that does not end or crashes: snprintf is not for signal handlers, but this process is
   about to end, and what it was doing is all that matters. */
static void last_words(int signum) {
    char what[400];
    size_t n;
    describe(what, sizeof what);
    n = strlen(what);
    if (write(2, "\n", 1) < 0 || write(2, what, n) < 0) _exit(98);
    if (signum == SIGALRM) time_is_up(signum);
    signal(signum, SIG_DFL);
    raise(signum);
}

/* The fault was met, this is its error, and somebody may hear of it. No kernel interrupts io_uring's
   trial when a loop is made, which does not wait: there it is a refusal like others. */
static int told(int e) {
    int hidden = fault.hidden && (w.r || fault.kind != URING_ENTER);
    return fault.hits > 0 && !hidden && e == -fault.error;
}

static int keep(int fd) {
    if (fd >= 0) w.fds[w.fd_count++] = fd;
    return fd;
}

/* The caller has it no more. */
static void forget(int fd) {
    for (int i = 0; i < w.fd_count; i++)
        if (w.fds[i] == fd) w.fds[i] = w.fds[--w.fd_count];
}

static void drop(int fd) {
    forget(fd);
    close(fd);
}

static void pair(int fd[2]) {
    make_pair(fd);
    keep(fd[0]);
    keep(fd[1]);
}

/* A call failed: it has to be because of the fault. A lasting one may make it fail again before it
   goes; then the call has to succeed. Returns 1 to make it again. */
static int again(const char *call, int e, int *tries) {
    if (!told(e)) {
        complain("%s gave %s", call, reactor_strerror(e));
        return 0;
    }
    int possible = fault.armed && fault.lasting;
    if (++*tries >= 2 && !possible) {
        complain("%s fails again, without a fault: %s", call, reactor_strerror(e));
        return 0;
    }
    if (*tries >= 2) lift();
    return 1;
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int tries_ = 0, e_;                                                                        \
        while ((e_ = (call)) < 0 && again(#call, e_, &tries_)) {                                   \
        }                                                                                          \
        if (e_ < 0) return;                                                                        \
    } while (0)

static int64_t waiting_since;

/* One turn of those in which a scenario waits for something. 0: it has waited too long. */
static int turn(const char *what, int n) {
    if (n == 0) waiting_since = clock_ns();
    if (n >= PATIENCE && fault.lasting) lift();
    if (n > STUCK_TURNS && clock_ns() - waiting_since > STUCK_MS * INT64_C(1000000)) {
        complain("never came: %s", what);
        return 0;
    }
    int e = reactor_poll(w.r, n < PATIENCE ? 1 : 5);
    if (e >= 0 || told(e)) return 1;
    complain("the turn gave %s", reactor_strerror(e));
    return 0;
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        int n_ = 0, met_;                                                                          \
        while (!(met_ = (condition)) && turn(#condition, n_)) n_++;                                \
        if (!met_) return;                                                                         \
    } while (0)

/* So many turns that do not wait, under the fault. */
static void glances(int n) {
    while (n-- > 0) {
        int e = reactor_poll(w.r, 0);
        if (e < 0 && !told(e)) complain("the turn gave %s", reactor_strerror(e));
    }
}

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            complain("line %d: %s", __LINE__, #condition);                                         \
            return;                                                                                \
        }                                                                                          \
    } while (0)

static void make_world(void) {
    reactor_options o;
    memset(&o, 0, sizeof o);
    o.backend = backend_under_test();
    o.batch = 64;
    o.read_buffer = 16 * 1024;
    TRY(reactor_create(&w.r, &o));
}

/* The loop, with nothing to do and no fault any more, sleeps. */
static void check_rest(void) {
    lift();
    for (int i = 0; i < 20; i++) {
        int64_t began = clock_ns();
        int e = reactor_poll_ns(w.r, 200000);
        if (e == 0 && clock_ns() - began >= 200000) return;
    }
    complain("the loop has nothing to do and does not sleep");
}

/* ---- callbacks that several scenarios use ---- */

static void on_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    int *count = (int *)user;
    char bytes[64];
    if (events & (unsigned)REACTOR_READ && read(fd, bytes, sizeof bytes) < 0 && errno != EAGAIN)
        complain("reading what was reported: %s", strerror(errno));
    if (events & (unsigned)REACTOR_ERROR && !fault.hits) complain("ERROR without a fault");
    ++*count;
    w.events++;
    (void)r;
}

static void on_timer(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    ++*(int *)user;
    w.fired++;
}

static void on_task(reactor *r, void *user) {
    (void)r;
    if (user && *(int *)user != w.tasks) complain("tasks in the wrong order");
    w.tasks++;
}

static void on_signal(reactor *r, int signum, void *user) {
    (void)r, (void)signum, (void)user;
    w.signals++;
}

static void on_free(void *data, size_t len, void *user) {
    (void)len, (void)user;
    w.owned_freed++;
    free(data);
}

static void on_done(reactor *r, reactor_conn c, int result, void *user) {
    (void)r, (void)c, (void)user;
    w.files_done++;
    if (result < 0 && !told(result) && !w.ending && !(w.aborted && result == -ECONNABORTED))
        complain("done got %s", reactor_strerror(result));
}

static void on_open(reactor *r, reactor_conn c, void *state) {
    (void)r, (void)state;
    w.opened++;
    w.conn = c;
}

/* Of accepted ones this is the first that is heard. */
static void on_accepted(reactor *r, reactor_conn c, void *state) {
    w.made++;
    on_open(r, c, state);
    int e = reactor_set_timeout(r, c, REACTOR_TIMEOUT_DEADLINE, 60000);
    if (e < 0 && !told(e)) complain("set_timeout gave %s", reactor_strerror(e));
}

static void on_eof(reactor *r, reactor_conn c, void *state) {
    (void)state;
    w.eofs++;
    if (reactor_close(r, c) < 0) complain("close failed");
}

static void on_writable(reactor *r, reactor_conn c, void *state) {
    (void)r, (void)c, (void)state;
    w.writables++;
}

static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
    (void)r, (void)state;
    for (int i = 0; i < w.closed && i < 64; i++)
        if (w.ids[i] == c.id) complain("on_close twice");
    if (w.closed < 64) w.ids[w.closed] = c.id;
    w.closed++;
    if (reason == 0 || (reason == REACTOR_DETACHED && w.detached) ||
        (reason == -ECANCELED && w.ending) || (reason == -ECONNABORTED && w.aborted) ||
        (reason == -ETIMEDOUT && w.idle) || (reason == -EMSGSIZE && w.hoarding))
        return;
    if (!told(reason)) complain("on_close got %s", reactor_strerror(reason));
    if (w.silent) complain("on_close got %s of a call that gave 0", reactor_strerror(reason));
    w.excused++;
}

/* An echo that consumes whole records only, so that input is kept as well. */
enum { RECORD = 3000 };

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    size_t take = len < RECORD ? 0 : len / RECORD * RECORD;
    if (!take) return 0;
    int e = reactor_write(r, c, data, take);
    if (e >= 0) return take;
    /* -EPIPE: an earlier one met the fault, what came in before is still delivered. */
    if (!told(e) && !(fault.hits && e == -EPIPE)) complain("write gave %s", reactor_strerror(e));
    w.aborted++;
    reactor_abort(r, c);
    return 0;
}

static const reactor_handler echo = {24,   on_accepted, on_data, on_eof,
                                     NULL, on_writable, NULL,    on_close};

/* For those that reactor_connect and reactor_attach make. */
static const reactor_handler plain = {24, on_open, NULL, on_eof, NULL, on_writable, NULL, on_close};

static reactor_conn_options conn_options(void) {
    reactor_conn_options o;
    memset(&o, 0, sizeof o);
    o.close_timeout_ms = 300;
    return o;
}

/* ---- the test's own client ---- */

typedef struct client {
    char address[REACTOR_ADDRESS_MAX];
    int fd, tries;
    size_t total, sent, got;
    int finished; /* everything came back, and the end of file */
} client;

/* address: "unix:PATH" or "127.0.0.1:PORT". */
static int dial(const char *address) {
    struct sockaddr_storage to;
    socklen_t len;
    memset(&to, 0, sizeof to);
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un un;
        memset(&un, 0, sizeof un);
        un.sun_family = AF_UNIX;
        snprintf(un.sun_path, sizeof un.sun_path, "%s", address + 5);
        memcpy(&to, &un, sizeof un);
        len = sizeof un;
    } else {
        struct sockaddr_in in;
        memset(&in, 0, sizeof in);
        in.sin_family = AF_INET;
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
        memcpy(&to, &in, sizeof in);
        len = sizeof in;
    }
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return keep(fd);
}

/* The connection was cut, refused or shed. With a fault about that may be; then it tries again. */
static void client_lost(client *c) {
    if (!fault.hits) complain("the client was cut off after %zu bytes", c->got);
    if (c->fd >= 0) drop(c->fd);
    c->fd = -1;
    c->sent = c->got = 0;
    if (++c->tries > 3) lift();
    if (c->tries > 10) complain("no client is served any more");
}

/* Sends and receives what goes without waiting. Returns whether it has finished. */
static int client_step(client *c) {
    char bytes[16 * 1024];
    ssize_t n = 0;
    if (c->finished || c->tries > 10) return 1;
    if (c->fd < 0) c->fd = dial(c->address);
    if (c->fd < 0) {
        client_lost(c);
        return 0;
    }
    while (c->sent < c->total &&
           (n = send(c->fd, pattern + c->sent, c->total - c->sent, MSG_NOSIGNAL)) > 0)
        c->sent += (size_t)n;
    if (n < 0 && errno != EAGAIN) {
        client_lost(c);
        return 0;
    }
    if (c->sent == c->total) shutdown(c->fd, SHUT_WR);
    while ((n = recv(c->fd, bytes, sizeof bytes, 0)) > 0) {
        if (c->got + (size_t)n > c->total || memcmp(bytes, pattern + c->got, (size_t)n) != 0)
            complain("the echo is not what was sent");
        c->got += (size_t)n;
    }
    if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return 0;
    if (n == 0 && c->got == c->total) {
        c->finished = 1;
        drop(c->fd);
        c->fd = -1;
        return 1;
    }
    client_lost(c);
    return 0;
}

static void client_init(client *c, size_t total) {
    memset(c, 0, sizeof *c);
    c->fd = -1;
    c->total = total;
    if (reactor_listener_address(w.r, w.listener, c->address, sizeof c->address) >= 0) return;
    if (fault.hits == 0) complain("no address");
    lift();
    reactor_listener_address(w.r, w.listener, c->address, sizeof c->address);
}

static void unix_path(char *out, size_t size) {
    snprintf(out, size, "/tmp/reactor-faults-%ld.sock", (long)getpid());
}

static void listen_unix(const reactor_listen_options *o) {
    char path[64], address[80];
    unix_path(path, sizeof path);
    snprintf(address, sizeof address, "unix:%s", path);
    TRY(reactor_listen(w.r, address, &echo, o, &w.listener));
}

/* ---- the scenarios ---- */

static void create_and_destroy(void) {
    reactor_options o;
    memset(&o, 0, sizeof o);
    /* Asked for nothing in particular, it takes the next backend and says why. */
    TRY(reactor_create(&w.r, &o));
    if (fault.hits && fault.kind == EPOLL_CREATE) {
        /* Once: it met the best of those that need it, and epoll may be the next. */
        REQUIRE(!fault.lasting || strcmp(reactor_backend(w.r), "epoll") != 0);
        REQUIRE(strstr(reactor_backend_reason(w.r), strerror(fault.error)) != NULL);
    }
    reactor_destroy(w.r);
    w.r = NULL;
    make_world();
}

/* Enough descriptors for every table to grow, watched, silenced, re-armed and removed. */
static void selector(void) {
    enum { MANY = 40 };
    int fd[MANY], counts[MANY + 2] = {0}, ends[2], n = 0;
    make_world();
    if (!w.r) return;
    for (int i = 0; i < MANY; i++) {
        fd[i] = keep(eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
        TRY(reactor_add(w.r, fd[i], REACTOR_READ, on_io, &counts[i]));
    }
    for (int i = 0; i < MANY; i++) UNTIL(counts[i] > 0);
    for (int i = 0; i < MANY; i++) {
        reactor_key key;
        REQUIRE(reactor_find(w.r, fd[i], &key) == 0 && key.events == REACTOR_READ);
        TRY(reactor_remove(w.r, fd[i]));
        REQUIRE(reactor_find(w.r, fd[i], NULL) == -ENOENT);
    }
    pair(ends);
    TRY(reactor_add(w.r, ends[0], 0, on_io, &n));
    TRY(reactor_modify(w.r, ends[0], REACTOR_WRITE));
    UNTIL(n > 0);
    TRY(reactor_modify(w.r, ends[0], (unsigned)REACTOR_READ | (unsigned)REACTOR_ONESHOT));
    n = 0;
    REQUIRE(write(ends[1], "x", 1) == 1);
    UNTIL(n > 0);
    n = 0;
    REQUIRE(write(ends[1], "y", 1) == 1);
    TRY(reactor_modify(w.r, ends[0], (unsigned)REACTOR_READ | (unsigned)REACTOR_EDGE));
    UNTIL(n > 0);
    TRY(reactor_modify(w.r, ends[0], 0));
    TRY(reactor_remove(w.r, ends[0]));
}

static void files_and_keys(void) {
    int counts[20] = {0}, fd[20];
    reactor_key keys[4];
    make_world();
    if (!w.r) return;
    for (int i = 0; i < 20; i++) { /* always ready: a list of its own on epoll */
        fd[i] = keep(open("/dev/null", O_RDWR | O_CLOEXEC));
        TRY(reactor_add(w.r, fd[i], REACTOR_WRITE, on_io, &counts[i]));
    }
    for (int i = 0; i < 20; i++) UNTIL(counts[i] > 0);
    for (int i = 0; i < 20; i++) TRY(reactor_remove(w.r, fd[i]));
    int ends[2], got = 0;
    pair(ends);
    TRY(reactor_add(w.r, ends[0], REACTOR_WRITE, NULL, NULL));
    for (int n = 0; n < 50 && got < 1; n++) {
        if (n > PATIENCE) lift();
        got = reactor_select(w.r, keys, 4, 5);
        if (got < 0 && !told(got)) complain("select gave %s", reactor_strerror(got));
    }
    REQUIRE(got == 1 && keys[0].fd == ends[0]);
    TRY(reactor_rewatch(w.r, ends[0], on_io, &counts[0]));
    counts[0] = 0;
    UNTIL(counts[0] > 0);
    TRY(reactor_remove(w.r, ends[0]));
}

/* So many that all memory of timers has to grow again. */
static void timers(void) {
    enum { MANY = 900 };
    static int counts[MANY + 1];
    reactor_timer t, every;
    memset(counts, 0, sizeof counts);
    make_world();
    if (!w.r) return;
    for (int i = 0; i < MANY; i++) TRY(reactor_after_ns(w.r, i % 7, on_timer, &counts[i], &t));
    TRY(reactor_every_ns(w.r, 1000, on_timer, &counts[MANY], &every));
    TRY(reactor_reset_ns(w.r, every, 2000));
    UNTIL(w.fired >= MANY + 2 && counts[MANY] >= 2);
    TRY(reactor_cancel(w.r, every));
    REQUIRE(reactor_cancel(w.r, every) == -EBADF);
    for (int i = 0; i < MANY; i++) REQUIRE(counts[i] == 1);
}

static void tasks(void) {
    enum { MANY = 100 };
    int order[MANY];
    make_world();
    if (!w.r) return;
    for (int i = 0; i < MANY; i++) {
        order[i] = i;
        TRY(reactor_post(w.r, on_task, &order[i]));
    }
    UNTIL(w.tasks == MANY);
    w.tasks = 0;
    for (int i = 0; i < MANY; i++) TRY(reactor_defer(w.r, on_task, &order[i]));
    UNTIL(w.tasks == MANY);
    w.tasks = 0;
    TRY(reactor_post(w.r, on_task, NULL));
    UNTIL(w.tasks == 1);
    reactor_stop(w.r);
    TRY(reactor_run(w.r));
    /* left for destroy to run */
    TRY(reactor_post(w.r, on_task, NULL));
}

static void on_stuck(reactor *r, reactor_timer t, void *user) {
    (void)t;
    if (++*(int *)user < STUCK_TURNS) return;
    complain("run does not end");
    reactor_stop(r);
}

/* run itself, which ends with the error of a wait that keeps failing. */
static void running(void) {
    static int ticks;
    int n = 0;
    reactor_timer stuck;
    ticks = 0;
    make_world();
    if (!w.r) return;
    TRY(reactor_every(w.r, 5, on_stuck, &ticks, &stuck));
    TRY(reactor_unref_timer(w.r, stuck));
    TRY(reactor_after(w.r, 1, on_timer, &n, NULL));
    TRY(reactor_run(w.r));
    REQUIRE(n == 1);
    TRY(reactor_post(w.r, on_task, NULL));
    TRY(reactor_run(w.r));
    REQUIRE(w.tasks == 1);
}

static void signals(void) {
    struct sigaction before, now;
    make_world();
    if (!w.r) return;
    sigaction(SIGUSR1, NULL, &before);
    TRY(reactor_signal(w.r, SIGUSR1, on_signal, NULL));
    raise(SIGUSR1);
    UNTIL(w.signals == 1);
    TRY(reactor_signal(w.r, SIGUSR2, on_signal, NULL));
    raise(SIGUSR1);
    raise(SIGUSR2);
    UNTIL(w.signals == 3);
    TRY(reactor_signal(w.r, SIGUSR1, NULL, NULL));
    TRY(reactor_signal(w.r, SIGUSR1, on_signal, NULL));
    TRY(reactor_signal(w.r, SIGUSR1, NULL, NULL));
    sigaction(SIGUSR1, NULL, &now);
    if (fault.kind != SIGACTION) REQUIRE(now.sa_handler == before.sa_handler);
}

/* ---- children ----

   What the new process does before it is a program is counted here as well, for it has this memory;
   where that is not so (emulators, the thread sanitizer) nobody would know that it met the fault. */

static void on_exit_told(reactor *r, int pid, const reactor_exit *how, void *user) {
    (void)r, (void)pid, (void)user;
    w.exits++;
    w.how = *how;
}

static int forks_share_memory(void) {
#ifdef __SANITIZE_THREAD__
    return 0;
#else
    return !emulated();
#endif
}

static const reactor_handler piped = {0, on_open, NULL, on_eof, NULL, NULL, NULL, on_close};

/* A program with three streams of which two are connections. What fails leaves no process, no
   descriptor and no callback; what was started is told of, whatever fails. */
static void children(void) {
    const char *const argv[] = {"sh", "-c", "read x; echo out; exit 5", NULL};
    const char *const environment[] = {"PATH=/no/such:/bin:/usr/bin", NULL};
    const int zero = 0;
    reactor_spawn_options o;
    reactor_conn_options c = conn_options();
    reactor_spawned child;
    while (waitpid(-1, NULL, WNOHANG) > 0) { /* of a run that ended early */
    }
    make_world();
    if (!w.r || !forks_share_memory()) return;
    memset(&o, 0, sizeof o);
    o.argv = argv;
    o.environment = environment;
    o.directory = "/";
    o.session = 1;
    o.files = &zero;
    o.file_count = 1;
    o.on_exit = on_exit_told;
    for (int i = 0; i < 2; i++) {
        o.streams[i].what = REACTOR_SPAWN_STREAM;
        o.streams[i].handler = &piped;
        o.streams[i].conn = &c;
    }
    o.streams[2].what = REACTOR_SPAWN_NULL;
    TRY(reactor_spawn(w.r, &o, &child));
    w.made += 2;
    TRY(reactor_child_kill(w.r, child.pid, 0, 600000));
    UNTIL(w.opened == 2 || w.excused);
    TRY(reactor_close(w.r, child.streams[0]));
    UNTIL(w.exits == 1 && w.closed == 2);
    REQUIRE(w.how.error == 0 && w.how.code == 5);
    REQUIRE(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

/* Watched, taken over by a status that somebody else has taken, killed. */
static void children_watched(void) {
    make_world();
    if (!w.r) return;
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (i < 2) _exit(i);
            for (;;) pause();
        }
        int e, tries = 0;
        while ((e = reactor_child(w.r, pid, on_exit_told, NULL)) < 0)
            if (!again("reactor_child", e, &tries)) break;
        if (e == 0 && i == 1) waitpid(pid, NULL, 0);
        tries = 0;
        while (e == 0 && i == 2 && (e = reactor_child_kill(w.r, pid, SIGTERM, 600000)) < 0) {
            if (!again("reactor_child_kill", e, &tries)) break;
            e = 0;
        }
        if (e < 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            return;
        }
        UNTIL(w.exits == i + 1);
        if (i != 1) REQUIRE(w.how.code == (i ? -1 : 0) && w.how.signum == (i ? SIGTERM : 0));
        REQUIRE(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    }
}

static void run_nothing(void *user) { (void)user; }

static void on_worked(reactor *r, int status, void *user) {
    (void)r, (void)user;
    if (status != 0 && !(status == -ECANCELED && w.ending)) complain("a job ended with %d", status);
    w.tasks++;
}

/* A call that says 0 is followed by its done, whatever happens to threads meanwhile. */
static void work(void) {
    enum { MANY = 10 };
    make_world();
    if (!w.r) return;
    for (int i = 0; i < MANY; i++) {
        TRY(reactor_work(w.r, run_nothing, on_worked, NULL, NULL));
        TRY(reactor_work_blocking(w.r, run_nothing, on_worked, NULL, NULL));
    }
    UNTIL(w.tasks == 2 * MANY);
    glances(3);
    REQUIRE(w.tasks == 2 * MANY);
    /* left for destroy to tell */
    TRY(reactor_work(w.r, run_nothing, on_worked, NULL, NULL));
}

/* A listener that failed leaves nothing behind: no path, no port, and a socket that was handed over
   as it was. */
static void listening(void) {
    char path[64], address[80], at[REACTOR_ADDRESS_MAX];
    struct stat st;
    reactor_listen_options o;
    int e, tries = 0;
    make_world();
    if (!w.r) return;
    memset(&o, 0, sizeof o);
    o.conn.keep_alive_s = 60;
    o.conn.user_timeout_ms = 5000;
    TRY(reactor_listen(w.r, "127.0.0.1:0", &echo, &o, &w.listener));
    TRY(reactor_listener_address(w.r, w.listener, at, sizeof at));
    TRY(reactor_listener_close(w.r, w.listener));
    TRY(reactor_listen(w.r, at, &echo, &o, &w.listener));
    TRY(reactor_listen(w.r, "*:0", &echo, NULL, NULL));

    unix_path(path, sizeof path);
    snprintf(address, sizeof address, "unix:%s", path);
    o.unix_mode = 0600;
    while ((e = reactor_listen(w.r, address, &echo, &o, &w.listener)) < 0) {
        if (lstat(path, &st) == 0) complain("a failed listen left its path behind");
        if (!again("listen on a path", e, &tries)) return;
    }
    REQUIRE(lstat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    TRY(reactor_listener_close(w.r, w.listener));
    if (lstat(path, &st) == 0 && !fault.hits) complain("a closed listener left its path behind");
    unlink(path);

    int fd = keep(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(listen(fd, 5) == 0);
    snprintf(address, sizeof address, "fd:%d", fd);
    TRY(reactor_listen(w.r, address, &echo, NULL, &w.listener));
    forget(fd);
    TRY(reactor_listener_pause(w.r, w.listener));
    TRY(reactor_listener_resume(w.r, w.listener));
}

/* A dead server's path is replaced. */
static void listening_again(void) {
    char path[64], address[80];
    struct sockaddr_un un;
    make_world();
    if (!w.r) return;
    unix_path(path, sizeof path);
    snprintf(address, sizeof address, "unix:%s", path);
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    memcpy(un.sun_path, path, strlen(path));
    int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(dead, (struct sockaddr *)&un, sizeof un) == 0);
    close(dead);
    int e, tries = 0;
    while ((e = reactor_listen(w.r, address, &echo, NULL, &w.listener)) < 0) {
        /* It could not be found out that nobody holds the path, or it could not be removed. */
        int busy = e == -EADDRINUSE && fault.hits &&
                   (fault.kind == LSTAT || fault.kind == UNLINK || fault.kind == CONNECT);
        if (!again("listen on a dead path", busy ? -fault.error : e, &tries)) break;
    }
    REQUIRE(e == 0);
    client c;
    client_init(&c, RECORD);
    UNTIL(client_step(&c));
}

/* high_water 0 leaves the mark above the read buffer: such a connection is served by the fast path. */
static void accept_and_echo_on(const char *address, size_t high_water) {
    reactor_listen_options o;
    client a, b;
    make_world();
    if (!w.r) return;
    memset(&o, 0, sizeof o);
    o.conn = conn_options();
    o.conn.high_water = high_water;
    if (address)
        TRY(reactor_listen(w.r, address, &echo, &o, &w.listener));
    else
        listen_unix(&o);
    if (w.failed) return;
    client_init(&a, RECORD * 12);
    client_init(&b, RECORD);
    UNTIL(client_step(&a) & client_step(&b));
    UNTIL(w.closed == w.made);
}

static void accept_and_echo(void) { accept_and_echo_on(NULL, 8 * 1024); }
static void accept_and_echo_tcp(void) { accept_and_echo_on("127.0.0.1:0", 8 * 1024); }
static void accept_and_echo_fast(void) { accept_and_echo_on("127.0.0.1:0", 0); }

/* More clients than the listener may have: it is silenced and armed again for each. */
static void listener_with_a_limit(void) {
    reactor_listen_options o;
    client c[3];
    make_world();
    if (!w.r) return;
    memset(&o, 0, sizeof o);
    o.conn = conn_options();
    o.max_connections = 1;
    listen_unix(&o);
    if (w.failed) return;
    for (int i = 0; i < 3; i++) client_init(&c[i], RECORD);
    UNTIL(client_step(&c[0]) & client_step(&c[1]) & client_step(&c[2]));
    UNTIL(w.closed == w.made);
}

/* Paused and resumed with nobody there: the change may be refused more than once, and no event
   reminds of it. */
static void listener_paused(void) {
    reactor_listen_options o;
    client a, b;
    make_world();
    if (!w.r) return;
    memset(&o, 0, sizeof o);
    o.conn = conn_options();
    listen_unix(&o);
    if (w.failed) return;
    TRY(reactor_listener_pause(w.r, w.listener));
    glances(PATIENCE);
    TRY(reactor_listener_resume(w.r, w.listener));
    glances(PATIENCE);
    lift();
    client_init(&a, RECORD);
    UNTIL(client_step(&a));
    TRY(reactor_listener_pause(w.r, w.listener));
    client_init(&b, RECORD); /* waits, and does not make the loop spin */
    b.fd = dial(b.address);
    REQUIRE(b.fd >= 0);
    glances(PATIENCE);
    int made = w.made;
    check_rest();
    REQUIRE(w.made == made || fault.hits);
    TRY(reactor_listener_resume(w.r, w.listener));
    UNTIL(client_step(&b));
    UNTIL(w.closed == w.made);
}

/* Silenced although ready, whatever the backend said to that; then wanted again. */
static void silenced(void) {
    int fd[2], n = 0;
    make_world();
    if (!w.r) return;
    pair(fd);
    TRY(reactor_add(w.r, fd[0], REACTOR_WRITE, on_io, &n));
    UNTIL(n > 0);
    TRY(reactor_modify(w.r, fd[0], 0));
    glances(PATIENCE);
    n = 0;
    check_rest();
    REQUIRE(n == 0);
    TRY(reactor_modify(w.r, fd[0], REACTOR_WRITE));
    glances(PATIENCE);
    lift();
    n = 0;
    UNTIL(n > 0);
    TRY(reactor_remove(w.r, fd[0]));
}

/* Attempts that met the fault may have got as far as the backlog: they end without a word. */
static int hello_came(int server, int *accepted) {
    char bytes[8];
    if (*accepted < 0) {
        *accepted = keep(accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (*accepted < 0) return 0;
    }
    ssize_t n = recv(*accepted, bytes, sizeof bytes, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n == 5 && memcmp(bytes, "hello", 5) == 0) return 1;
    if (n > 0 || !fault.hits) complain("hello did not come");
    drop(*accepted);
    *accepted = -1;
    return 0;
}

/* The first address refuses, the second is the one. Written before it is open. */
static void connecting(void) {
    char list[160];
    struct sockaddr_in in;
    socklen_t len = sizeof in;
    reactor_connect_options o;
    int dead, server, accepted = -1, e, tries = 0;
    make_world();
    if (!w.r) return;
    memset(&in, 0, sizeof in);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    dead = keep(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(dead, (struct sockaddr *)&in, sizeof in) == 0);
    REQUIRE(getsockname(dead, (struct sockaddr *)&in, &len) == 0);
    int dead_port = ntohs(in.sin_port);
    server = keep(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    REQUIRE(listen(server, 5) == 0);
    REQUIRE(getsockname(server, (struct sockaddr *)&in, &len) == 0);
    snprintf(list, sizeof list, "127.0.0.1:%d, 127.0.0.1:%d", dead_port, ntohs(in.sin_port));
    memset(&o, 0, sizeof o);
    o.conn = conn_options();
    o.local = "127.0.0.1:0";
    o.timeout_ms = 20000;
    do {
        int closed = w.closed;
        TRY(reactor_connect(w.r, list, &plain, &o, &w.conn));
        w.made++;
        TRY(reactor_write(w.r, w.conn, "hello", 5));
        UNTIL(w.opened > 0 || w.closed > closed);
        if (w.opened) break;
        /* It was told: once the fault has gone it is done again. */
        e = -fault.error;
    } while (again("a connect that was told of the fault", e, &tries));
    if (!w.opened) return;
    UNTIL(hello_came(server, &accepted) || w.closed == w.made);
    if (accepted >= 0) drop(accepted);
    if (!w.excused) REQUIRE(accepted >= 0);
    UNTIL(w.closed == w.made);
}

/* Attached, used and taken back. A failed attach leaves the descriptor as it was. */
static void attach_and_detach(void) {
    int fd[2], e, tries = 0;
    char bytes[16];
    size_t len;
    reactor_conn_options o = conn_options();
    make_world();
    if (!w.r) return;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
    keep(fd[0]);
    keep(fd[1]);
    while ((e = reactor_attach(w.r, fd[0], &plain, &o, &w.conn)) < 0) {
        int flags = fcntl(fd[0], F_GETFL);
        if (flags < 0 || flags & O_NONBLOCK) complain("a failed attach changed the descriptor");
        if (!again("attach", e, &tries)) return;
    }
    w.made++;
    forget(fd[0]);
    fcntl(fd[1], F_SETFL, O_NONBLOCK);
    UNTIL(w.opened == 1 || w.closed == 1);
    TRY(w.closed ? 0 : reactor_write(w.r, w.conn, "12345", 5));
    ssize_t n = -1;
    UNTIL((n = recv(fd[1], bytes, sizeof bytes, 0)) >= 0 || errno != EAGAIN || w.closed);
    if (w.closed) return;
    REQUIRE(n == 5);
    len = sizeof bytes;
    TRY(reactor_detach(w.r, w.conn, &fd[0], bytes, &len));
    w.detached = 1;
    keep(fd[0]);
    UNTIL(w.closed == 1);
    REQUIRE(send(fd[0], "x", 1, MSG_NOSIGNAL) == 1 && recv(fd[1], bytes, 1, 0) == 1);
}

static void attached_pipes(void) {
    int fd[2];
    reactor_conn in, out;
    reactor_conn_options o = conn_options();
    make_world();
    if (!w.r) return;
    REQUIRE(pipe2(fd, O_CLOEXEC) == 0);
    keep(fd[0]);
    keep(fd[1]);
    TRY(reactor_attach(w.r, fd[0], &plain, &o, &in));
    forget(fd[0]);
    w.made++;
    TRY(reactor_attach(w.r, fd[1], &plain, &o, &out));
    forget(fd[1]);
    w.made++;
    UNTIL(w.opened == 2 || w.excused);
    if (!w.excused) TRY(reactor_write(w.r, out, pattern, 100));
    TRY(reactor_close(w.r, out));
    UNTIL(w.closed == 2);
}

static void on_eof_stay(reactor *r, reactor_conn c, void *state) {
    (void)r, (void)c, (void)state;
    w.eofs++;
}

static const reactor_handler stays = {24,   on_open,     NULL, on_eof_stay,
                                      NULL, on_writable, NULL, on_close};

/* Where a pipe goes both ways, its reading end is over when the writer has gone, and closes by
   itself. */
static void attached_duplex_pipes(void) {
    int fd[2];
    reactor_conn in;
    reactor_conn_options o = conn_options();
    make_world();
    if (!w.r) return;
    fault.duplex = 1;
    REQUIRE(pipe2(fd, O_CLOEXEC) == 0);
    keep(fd[0]);
    keep(fd[1]);
    TRY(reactor_attach(w.r, fd[0], &stays, &o, &in));
    forget(fd[0]);
    w.made++;
    UNTIL(w.opened == 1 || w.excused);
    REQUIRE(w.excused || write(fd[1], pattern, 100) == 100);
    drop(fd[1]);
    UNTIL(w.closed == 1);
    REQUIRE(w.excused || w.eofs == 1);
}

/* ---- output of every kind ---- */

enum { COPY, PIECES, OWNED, SHARED, SHARED_COPY, FILE_PART, PUTS };

static int file = -1;

static int put_owned(size_t at, size_t len) {
    void *copy = malloc(len);
    memcpy(copy, pattern + at, len);
    w.owned_made++;
    return reactor_write_owned(w.r, w.conn, copy, len, on_free, NULL);
}

static int put_shared(size_t at, size_t len) {
    void *copy = malloc(len);
    memcpy(copy, pattern + at, len);
    reactor_buffer *b = reactor_buffer_wrap(copy, len, on_free, NULL);
    if (!b) {
        free(copy);
        return -ENOMEM;
    }
    w.owned_made++;
    int e = reactor_write_shared(w.r, w.conn, b);
    reactor_buffer_unref(b);
    return e;
}

static int put_shared_copy(size_t at, size_t len) {
    reactor_buffer *b = reactor_buffer_new(pattern + at, len);
    if (!b) return -ENOMEM;
    int e = reactor_write_shared(w.r, w.conn, b);
    reactor_buffer_unref(b);
    return e;
}

static int put_file(size_t at, size_t len) {
    int own = dup(file);
    int e = reactor_sendfile(w.r, w.conn, own, (int64_t)at, len == PATTERN - at ? -1 : (int64_t)len,
                             REACTOR_CLOSE_FILE, on_done, NULL);
    if (e < 0)
        close(own);
    else
        w.files_made++;
    return e;
}

static int put_once(int how, size_t at, size_t len) {
    const reactor_iovec v[3] = {
        {pattern + at, len / 2}, {NULL, 0}, {pattern + at + len / 2, len - len / 2}};
    switch (how) {
    case COPY:
        return reactor_write(w.r, w.conn, pattern + at, len);
    case PIECES:
        return reactor_writev(w.r, w.conn, v, 3);
    case OWNED:
        return put_owned(at, len);
    case SHARED:
        return put_shared(at, len);
    case SHARED_COPY:
        return put_shared_copy(at, len);
    default:
        return put_file(at, len);
    }
}

/* Written, or the connection has gone with the fault as its reason. */
static void put(int how, size_t at, size_t len) {
    int e, tries = 0;
    while ((e = put_once(how, at, len)) < 0) {
        if (e == -EPIPE || e == -EBADF) {
            if (!fault.hits) complain("put %d gave %s", how, reactor_strerror(e));
            return;
        }
        if (!again("put", e, &tries)) return;
    }
    memcpy(w.expected + w.expected_len, pattern + at, len);
    w.expected_len += len;
}

static void put_all(size_t len) {
    for (int how = 0; how < PUTS; how++) put(how, (size_t)how * 1000 + len % 97, len);
}

static void on_open_put(reactor *r, reactor_conn c, void *state) {
    on_open(r, c, state);
    put_all(700);
}

static const reactor_handler writer = {8,    on_open_put, NULL, on_eof,
                                       NULL, on_writable, NULL, on_close};

/* What the peer has got; whether that is the end. */
static int take(int fd) {
    ssize_t n;
    while ((n = recv(fd, w.got + w.got_len, sizeof w.got - w.got_len, 0)) > 0)
        w.got_len += (size_t)n;
    return n == 0 || errno != EAGAIN;
}

static void check_taken(void) {
    if (w.got_len > w.expected_len || memcmp(w.got, w.expected, w.got_len) != 0)
        complain("the peer got other bytes than were written");
    else if (w.got_len < w.expected_len && !w.excused && !w.aborted)
        complain("the peer got %zu of %zu bytes, and nobody was told", w.got_len, w.expected_len);
}

static void attach_writer(int fd[2], const reactor_handler *h) {
    int small = 4096;
    reactor_conn_options o = conn_options();
    o.high_water = 20000;
    setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    TRY(reactor_attach(w.r, fd[0], h, &o, &w.conn));
    w.made++;
    forget(fd[0]);
}

/* Before it is open, in its callback, and after, with a peer that reads only when all is written. */
static void writing(void) {
    int fd[2];
    make_world();
    if (!w.r) return;
    pair(fd);
    attach_writer(fd, &writer);
    if (!w.made) return;
    put_all(600);
    UNTIL(w.opened == 1 || w.closed == 1);
    put_all(9000);
    put(COPY, 0, 70000);
    put(FILE_PART, PATTERN - 5000, 5000);
    UNTIL(take(fd[1]) || (w.got_len >= w.expected_len && reactor_pending(w.r, w.conn) == 0));
    put(COPY, 0, 10);
    TRY(reactor_close(w.r, w.conn));
    UNTIL(take(fd[1]));
    UNTIL(w.closed == 1);
    check_taken();
}

/* As on a file system, and on systems, whose files cannot be sent without a copy. */
static void writing_by_copy(void) {
    fault.copies = 1;
    writing();
}

/* Half-closed by shutdown: the peer sees the end, or the connection ends with the reason. */
static void half_closing(void) {
    int fd[2];
    make_world();
    if (!w.r) return;
    pair(fd);
    attach_writer(fd, &plain);
    if (!w.made) return;
    UNTIL(w.opened == 1 || w.closed == 1);
    put(COPY, 0, 2000);
    TRY(w.closed ? 0 : reactor_shutdown(w.r, w.conn));
    UNTIL(take(fd[1]));
    shutdown(fd[1], SHUT_WR);
    UNTIL(w.closed == 1);
    check_taken();
}

/* Closed with input unread: it lingers. */
static size_t on_data_close(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)data, (void)state, (void)len;
    w.events++;
    int e = reactor_write(r, c, pattern, 50);
    if (e < 0 && !told(e)) complain("write gave %s", reactor_strerror(e));
    if (e >= 0) memcpy(w.expected, pattern, w.expected_len = 50);
    reactor_close(r, c);
    return 1;
}

static const reactor_handler closer = {8, on_open, on_data_close, NULL, NULL, NULL, NULL, on_close};

static void lingering(void) {
    int fd[2];
    make_world();
    if (!w.r) return;
    make_tcp_pair(fd);
    keep(fd[0]);
    keep(fd[1]);
    attach_writer(fd, &closer);
    if (!w.made) return;
    ssize_t n = send(fd[1], pattern, 40000, MSG_NOSIGNAL);
    REQUIRE(n > 20000);
    UNTIL(w.events > 0 || w.closed == 1);
    UNTIL(take(fd[1]));
    shutdown(fd[1], SHUT_WR);
    UNTIL(w.closed == 1);
    check_taken();
}

/* A handler that keeps its input to itself while its output is refused or stuck; then the output
   breaks. There is nothing left to wait for, so it ends, with that reason. */
static size_t on_data_hold(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)r, (void)c, (void)data, (void)len, (void)state;
    w.events++;
    if (!w.expected_len) put(COPY, 0, 60000);
    return 0;
}

static const reactor_handler holder = {8,    on_open,     on_data_hold, on_eof,
                                       NULL, on_writable, NULL,         on_close};

static void broken_while_full(void) {
    int fd[2], small = 4096;
    size_t sent = 0;
    ssize_t n;
    reactor_conn_options o = conn_options();
    make_world();
    if (!w.r) return;
    pair(fd);
    w.hoarding = 1;
    o.max_input = 4000;
    o.coupled = -1;
    setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    TRY(reactor_attach(w.r, fd[0], &holder, &o, &w.conn));
    w.made++;
    forget(fd[0]);
    while (sent < 8000 && (n = send(fd[1], pattern, 1000, MSG_NOSIGNAL)) > 0) sent += (size_t)n;
    UNTIL(w.events > 0 || w.closed == 1);
    /* Either all its output comes, or it ends. */
    UNTIL(take(fd[1]) || (w.expected_len && w.got_len == w.expected_len));
    TRY(reactor_abort(w.r, w.conn));
    w.aborted = 1;
    UNTIL(w.closed == 1);
    check_taken();
}

/* ---- time, nesting, ends ---- */

static int on_timeout(reactor *r, reactor_conn c, int which, void *state) {
    (void)r, (void)c, (void)which, (void)state;
    w.idle++;
    return 0;
}

static const reactor_handler idler = {8, on_open, NULL, NULL, NULL, NULL, on_timeout, on_close};

static void timeouts(void) {
    int fd[2], other[2];
    reactor_conn c;
    reactor_conn_options o = conn_options();
    make_world();
    if (!w.r) return;
    pair(fd);
    pair(other);
    TRY(reactor_attach(w.r, fd[0], &idler, &o, &c));
    w.made++;
    forget(fd[0]);
    UNTIL(w.opened == 1);
    int met = fault.hits;
    TRY(reactor_set_timeout(w.r, c, REACTOR_TIMEOUT_IDLE, 1));
    w.silent = met == 0 && fault.hits > 0 && reactor_state(w.r, c) != NULL && fault.armed == 1 &&
               !fault.lasting && fault.calls[ALLOC] == fault.nth;
    UNTIL(w.closed == 1);
    w.silent = 0;
    o.idle_timeout_ms = 1;
    w.opened = 0;
    TRY(reactor_attach(w.r, other[0], &idler, &o, &c));
    w.made++;
    forget(other[0]);
    UNTIL(w.closed == 2);
}

/* In a foreign loop, here poll(2). */
static int nested_ready(int fd) {
    struct pollfd p = {fd, POLLIN, 0};
    int n = poll(&p, 1, 10000);
    if (n <= 0) return 0;
    if (reactor_poll(w.r, 0) < 0) return -1;
    return 1;
}

#define NESTED_UNTIL(condition)                                                                    \
    do {                                                                                           \
        for (int n_ = 0; !(condition) && n_ < 100; n_++) {                                         \
            if (n_ > PATIENCE) lift();                                                             \
            if (nested_ready(outer)) continue;                                                     \
            complain("reactor_fd stays silent although due: %s", #condition);                      \
            return;                                                                                \
        }                                                                                          \
        REQUIRE(condition);                                                                        \
    } while (0)

static void nesting(void) {
    int outer = -1, n = 0, fired = 0, fd[2];
    make_world();
    if (!w.r) return;
    if (reactor_fd(w.r) == -ENOTSUP) return;
    TRY(outer = reactor_fd(w.r));
    pair(fd);
    TRY(reactor_add(w.r, fd[0], REACTOR_READ, on_io, &n));
    REQUIRE(write(fd[1], "x", 1) == 1);
    NESTED_UNTIL(n > 0);
    TRY(reactor_after(w.r, 1, on_timer, &fired, NULL));
    NESTED_UNTIL(fired == 1);
    TRY(reactor_post(w.r, on_task, NULL));
    NESTED_UNTIL(w.tasks == 1);
    /* Closed behind its back with a duplicate left: the set is built anew, inside the outer one. */
    n = 0;
    int copy = keep(dup(fd[0]));
    drop(fd[0]);
    TRY(reactor_remove(w.r, fd[0]));
    REQUIRE(write(fd[1], "y", 1) == 1);
    for (int i = 0; i < 2 * PATIENCE; i++) {
        struct pollfd p = {outer, POLLIN, 0};
        if (i == PATIENCE) lift();
        if (poll(&p, 1, 0) > 0) reactor_poll(w.r, 0);
    }
    REQUIRE(n == 0);
    TRY(reactor_add(w.r, copy, REACTOR_READ, on_io, &n));
    NESTED_UNTIL(n > 0);
    TRY(reactor_after(w.r, 1, on_timer, &fired, NULL));
    NESTED_UNTIL(fired == 2);
}

static void draining(void) {
    reactor_listen_options o;
    int idle, busy;
    make_world();
    if (!w.r) return;
    memset(&o, 0, sizeof o);
    o.conn = conn_options();
    listen_unix(&o);
    if (w.failed) return;
    client c;
    client_init(&c, RECORD);
    idle = dial(c.address);
    busy = dial(c.address);
    REQUIRE(idle >= 0 && busy >= 0);
    REQUIRE(send(busy, pattern, 10, MSG_NOSIGNAL) == 10);
    UNTIL(w.opened >= 1 || fault.hits);
    TRY(reactor_drain(w.r, 5));
    w.idle = 1; /* its deadline is a timeout, too */
    TRY(reactor_run(w.r));
    REQUIRE(w.closed == w.made);
}

/* ---- datagrams ---- */

static int got_messages, got_errors;
static reactor_datagram asker, answerer, talker;

static void on_datagram_closed(reactor *r, reactor_datagram d, int reason, void *state) {
    reactor_conn c = {d.id};
    on_close(r, c, reason, state);
}

/* What is lost by the fault is told; that nobody is there is what the scenario has made so. */
static void on_datagram_error(reactor *r, reactor_datagram d, int error, const reactor_peer *peer,
                              void *state) {
    (void)r, (void)d, (void)peer, (void)state;
    got_errors += error == -ECONNREFUSED;
    if (!told(error) && error != -ECONNREFUSED)
        complain("on_error got %s", reactor_strerror(error));
}

/* Back to whoever asks. */
static void on_question(reactor *r, reactor_datagram d, const reactor_message *m, void *state) {
    (void)state;
    int e = reactor_datagram_send(r, d, m->peer, m->data, m->len);
    if (e < 0 && !told(e)) complain("send gave %s", reactor_strerror(e));
}

/* The first of a batch pauses, so that the others have to be kept. */
static void on_answer(reactor *r, reactor_datagram d, const reactor_message *m, void *state) {
    (void)state;
    if (m->len != 100 && m->len != 50) complain("a datagram of %d bytes", (int)m->len);
    if (memcmp(m->data, pattern, m->len) != 0) complain("another datagram than was sent");
    if (++got_messages == 1 && reactor_datagram_pause(r, d) < 0) complain("pause failed");
}

static const reactor_datagram_handler answers = {24, on_question, on_datagram_error, NULL,
                                                 on_datagram_closed};
static const reactor_datagram_handler asks = {24, on_answer, on_datagram_error, NULL,
                                              on_datagram_closed};

/* Asks again, for what the fault has lost does not come: a run of one size, and others. */
static int is_answered(void) {
    if (w.closed) return 1;
    for (int i = 0; i < 5; i++) {
        int e = reactor_datagram_send(w.r, asker, NULL, pattern, i == 3 ? 50 : 100);
        if (e < 0 && !told(e)) complain("send gave %s", reactor_strerror(e));
    }
    return got_messages > 0;
}

static int is_refused(const reactor_peer *nobody) {
    if (w.closed) return 1;
    int e = reactor_datagram_send(w.r, talker, nobody, "x", 1);
    if (e < 0 && !told(e)) complain("send gave %s", reactor_strerror(e));
    return got_errors > 0;
}

static void datagrams(void) {
    char address[REACTOR_ADDRESS_MAX], path[80] = "unix:";
    reactor_datagram_options o;
    reactor_peer nobody;
    struct stat st;
    make_world();
    if (!w.r) return;
    got_messages = got_errors = 0;
    memset(&o, 0, sizeof o);
    TRY(reactor_datagram_open(w.r, "127.0.0.1:0", &answers, &o, &answerer));
    w.made++;
    TRY(reactor_datagram_address(w.r, answerer, address, sizeof address));
    o.connect = address;
    TRY(reactor_datagram_open(w.r, NULL, &asks, &o, &asker));
    w.made++;
    UNTIL(is_answered());
    if (w.closed) return;
    TRY(reactor_datagram_resume(w.r, asker));
    int before = got_messages;
    UNTIL(got_messages > before || (is_answered() && w.closed));
    if (w.closed) return;
    memset(&o, 0, sizeof o);
    TRY(reactor_datagram_open(w.r, "127.0.0.1:0", &asks, &o, &talker));
    w.made++;
    TRY(reactor_peer_parse("127.0.0.1:1", &nobody));
    UNTIL(is_refused(&nobody));
    if (w.closed) return;
    unix_path(path + 5, sizeof path - 5);
    o.unix_mode = 0600;
    TRY(reactor_datagram_open(w.r, path, &answers, &o, &talker));
    w.made++;
    REQUIRE(lstat(path + 5, &st) == 0);
    TRY(reactor_datagram_close(w.r, talker));
    UNTIL(w.closed);
    if (fault.kind != UNLINK && fault.kind != LSTAT) REQUIRE(lstat(path + 5, &st) < 0);
}

/* Everything there is, and then destroy, which always succeeds. */
static void destroying(void) {
    reactor_listen_options o;
    reactor_timer t;
    static int n;
    int fd[2];
    make_world();
    if (!w.r) return;
    memset(&o, 0, sizeof o);
    o.conn = conn_options();
    listen_unix(&o);
    if (w.failed) return;
    client c;
    client_init(&c, RECORD);
    int a = dial(c.address);
    REQUIRE(a >= 0 && send(a, pattern, 10, MSG_NOSIGNAL) == 10);
    UNTIL(w.opened > 0 || fault.hits);
    pair(fd);
    attach_writer(fd, &writer);
    if (w.failed) return;
    put_all(9000);
    TRY(reactor_after(w.r, 1000, on_timer, &n, &t));
    TRY(reactor_add(w.r, fd[1], REACTOR_READ, on_io, &n));
    TRY(reactor_signal(w.r, SIGUSR1, on_signal, NULL));
    TRY(reactor_connect(w.r, "127.0.0.1:1", &plain, NULL, NULL));
    w.made++;
    TRY(reactor_post(w.r, on_task, NULL));
    TRY(reactor_defer(w.r, on_task, NULL));
    w.ending = 1;
    reactor_destroy(w.r);
    w.r = NULL;
    REQUIRE(w.tasks == 2);
}

/* ---- running them ---- */

/* After whatever has happened the loop does its work, and sleeps when there is none. */
static void check_health(void) {
    int n = 0, fired = 0, before, fd[2];
    check_rest();
    before = w.tasks;
    pair(fd);
    TRY(reactor_add(w.r, fd[0], REACTOR_READ, on_io, &n));
    TRY(reactor_after(w.r, 0, on_timer, &fired, NULL));
    w.tasks = 0;
    TRY(reactor_post(w.r, on_task, NULL));
    REQUIRE(write(fd[1], "x", 1) == 1);
    UNTIL(n > 0 && fired && w.tasks > 0);
    TRY(reactor_remove(w.r, fd[0]));
    w.tasks = before;
    check_rest();
}

static int descriptors(void) {
    static struct pollfd p[DESCRIPTORS];
    int n = 0;
    for (int i = 0; i < DESCRIPTORS; i++) p[i].fd = i;
    settle_descriptors();
    if (poll(p, DESCRIPTORS, 0) < 0) return -1;
    for (int i = 0; i < DESCRIPTORS; i++) n += !(p[i].revents & POLLNVAL);
    return n;
}

typedef void scenario(void);

static void run_case(scenario *run) {
    char path[64];
    int before = descriptors();
    memset(&w, 0, offsetof(__typeof__(w), expected));
    w.expected_len = w.got_len = 0;
    memset(fault.calls, 0, sizeof fault.calls);
    fault.hits = fault.live = fault.copies = fault.duplex = 0;
    fault.armed = 1;
    run();
    lift();
    if (w.r && !w.failed) check_health();
    w.ending = 1;
    reactor_destroy(w.r);
    while (w.fd_count) close(w.fds[--w.fd_count]);
    unix_path(path, sizeof path);
    unlink(path);
    if (fault.live) complain("%d allocations were not freed", fault.live);
    if (descriptors() != before) complain("%d descriptors before, %d after", before, descriptors());
    if (w.closed != w.made) complain("%d connections, %d on_close", w.made, w.closed);
    if (w.owned_freed != w.owned_made)
        complain("%d buffers, %d freed", w.owned_made, w.owned_freed);
    if (w.files_done != w.files_made) complain("%d files, %d done", w.files_made, w.files_done);
}

/* One row of faults: at the first call, at the second ... until there is no such call. */
static int run_row(scenario *run, const struct fault_row *row, int lasting) {
    int cases = 0;
    fault.kind = row->kind;
    fault.error = row->error;
    fault.hidden = row->modes & HIDDEN;
    fault.lasting = lasting;
    for (fault.nth = 1; complaints < ENOUGH; fault.nth++, cases++) {
        run_case(run);
        if (!fault.hits) break;
    }
    return cases;
}

static void run_scenario(const char *name, scenario *run) {
    int used[KINDS], cases = 0;
    int64_t began = clock_ns();
    complaints = 0;
    fault.scenario = name;
    signal(SIGALRM, last_words);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    signal(SIGSEGV, last_words);
    signal(SIGBUS, last_words);
    signal(SIGABRT, last_words);
#endif
    fault.nth = 0;
    fault.error = fault.lasting = 0;
    fault.kind = ALLOC;
    run_case(run); /* first without a fault: which calls there are at all */
    memcpy(used, fault.calls, sizeof used);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].modes & LEVEL && backend_has_edges()) continue;
        if (!used[rows[i].kind]) continue;
        if (rows[i].modes & ONCE) cases += run_row(run, &rows[i], 0);
        if (rows[i].modes & LASTING) cases += run_row(run, &rows[i], 1);
    }
    print_message("%s: %d cases, %d ms\n", name, cases, (int)((clock_ns() - began) / 1000000));
    if (complaints) fail_msg("%s: %d complaints", name, complaints);
}

#define SCENARIO(f)                                                                                \
    static void test_##f(void **state) {                                                           \
        (void)state;                                                                               \
        run_scenario(#f, f);                                                                       \
    }
SCENARIO(create_and_destroy)
SCENARIO(selector)
SCENARIO(files_and_keys)
SCENARIO(timers)
SCENARIO(tasks)
SCENARIO(running)
SCENARIO(signals)
SCENARIO(work)
SCENARIO(children)
SCENARIO(children_watched)
SCENARIO(listening)
SCENARIO(listening_again)
SCENARIO(accept_and_echo)
SCENARIO(accept_and_echo_tcp)
SCENARIO(accept_and_echo_fast)
SCENARIO(listener_with_a_limit)
SCENARIO(listener_paused)
SCENARIO(silenced)
SCENARIO(connecting)
SCENARIO(attach_and_detach)
SCENARIO(attached_pipes)
SCENARIO(attached_duplex_pipes)
SCENARIO(writing)
SCENARIO(writing_by_copy)
SCENARIO(half_closing)
SCENARIO(lingering)
SCENARIO(broken_while_full)
SCENARIO(timeouts)
SCENARIO(nesting)
SCENARIO(draining)
SCENARIO(datagrams)
SCENARIO(destroying)

static int prepare(void **state) {
    FILE *f = tmpfile();
    (void)state;
    for (size_t i = 0; i < PATTERN; i++) pattern[i] = (char)(i * 31 + i / 251 + i / 65521);
    if (!f || fwrite(pattern, 1, PATTERN, f) != PATTERN || fflush(f) != 0) return -1;
    file = dup(fileno(f));
    fclose(f);
    return file < 0 ? -1 : 0;
}

static int tidy(void **state) {
    (void)state;
    return close(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_create_and_destroy),
        TEST(test_selector),
        TEST(test_files_and_keys),
        TEST(test_timers),
        TEST(test_tasks),
        TEST(test_running),
        TEST(test_signals),
        TEST(test_work),
        TEST(test_children),
        TEST(test_children_watched),
        TEST(test_listening),
        TEST(test_listening_again),
        TEST(test_accept_and_echo),
        TEST(test_accept_and_echo_tcp),
        TEST(test_accept_and_echo_fast),
        TEST(test_listener_with_a_limit),
        TEST(test_listener_paused),
        TEST(test_silenced),
        TEST(test_connecting),
        TEST(test_attach_and_detach),
        TEST(test_attached_pipes),
        TEST(test_attached_duplex_pipes),
        TEST(test_writing),
        TEST(test_writing_by_copy),
        TEST(test_half_closing),
        TEST(test_lingering),
        TEST(test_broken_while_full),
        TEST(test_timeouts),
        TEST(test_nesting),
        TEST(test_draining),
        TEST(test_datagrams),
        TEST(test_destroying),
    };
    return cmocka_run_group_tests_name("faults", tests, prepare, tidy);
}
