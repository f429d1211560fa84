/* As much of POSIX as the tests use, for their build on Windows: `make windows`. Descriptors are
   sockets' and files' handles in an int, which 64-bit Windows allows. What Windows has no notion of,
   such as fork or a signal of one's own, skips the test that asks for it. */
#ifndef TESTS_WIN32_POSIX_H
#define TESTS_WIN32_POSIX_H

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#define NOGDI /* its ERROR is not ours */
#define NOMINMAX
#include <winsock2.h>
#include <windows.h>
#include <ws2tcpip.h>

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

/* What ends a test that asks for what there is not. */
#ifndef POSIX_MISSING
#include "../portable/cmocka.h"
#define POSIX_MISSING() skip()
#endif

#define POSIX static __attribute__((unused))

/* ---- what does not exist ---- */

/* Ends the test as skipped; an int for wherever one is needed. */
POSIX int posix_missing(void) {
    POSIX_MISSING();
    return -1;
}

/* The same, using what the call is given. */
__attribute__((noinline)) POSIX int posix_missing_with(int n, ...) {
    (void)n;
    return posix_missing();
}

#undef raise
#undef pthread_sigmask
#define fork()               posix_missing()
#define waitpid(...)         posix_missing_with(0, __VA_ARGS__)
#define kill(...)            posix_missing_with(0, __VA_ARGS__)
#define raise(...)           posix_missing_with(0, __VA_ARGS__)
#define pthread_kill(...)    posix_missing_with(0, __VA_ARGS__)
#define dup2(...)            posix_missing_with(0, __VA_ARGS__)
#define dup(...)             posix_missing_with(0, __VA_ARGS__)
#define getrlimit(...)       posix_missing_with(0, __VA_ARGS__)
#define setrlimit(...)       posix_missing_with(0, __VA_ARGS__)
#define sigaction(...)       posix_missing_with(0, __VA_ARGS__)
#define pthread_sigmask(...) posix_missing_with(0, __VA_ARGS__)
#define sigemptyset(...)     posix_missing_with(0, __VA_ARGS__)
#define sigaddset(...)       posix_missing_with(0, __VA_ARGS__)
#define sigismember(...)     posix_missing_with(0, __VA_ARGS__)
#define sigpending(...)      posix_missing_with(0, __VA_ARGS__)
#define sigtimedwait(...)    posix_missing_with(0, __VA_ARGS__)
#define eventfd(...)         posix_missing_with(0, __VA_ARGS__)
#define pwrite(...)          posix_pwrite(__VA_ARGS__)
#define SIGUSR1              posix_missing()
#define SIGUSR2              posix_missing()
#define SIGPIPE              posix_missing()
#define SIGHUP               posix_missing()
#define SIGCHLD              posix_missing()
#define SIGKILL              9
#define SIGSTOP              19
#define SIGWINCH             posix_missing()
#define SIGALRM              14
#define SIG_BLOCK            0
#define SIG_SETMASK          2
#define SIG_UNBLOCK          1
#define SA_RESTART           1
#define SA_SIGINFO           2
#define SA_ONSTACK           4
#define SA_NODEFER           8
#define EFD_NONBLOCK         0
#define EFD_CLOEXEC          0
#define RLIM_INFINITY        0
#define WNOHANG              1
#define SIGRTMIN             posix_missing()
#define SIGRTMAX             posix_missing()
#undef TCP_KEEPIDLE
#define TCP_KEEPIDLE        posix_missing()
#define TCP_USER_TIMEOUT    posix_missing()
#define syscall(...)        posix_missing_with(0, __VA_ARGS__)
#define pipe2(...)          posix_missing_with(0, __VA_ARGS__)
#define mkfifo(...)         posix_missing_with(0, __VA_ARGS__)
#define dirfd(...)          posix_missing_with(0, __VA_ARGS__)
#define lstat(...)          posix_missing_with(0, __VA_ARGS__)
#define mkdtemp(...)        ((char *)(intptr_t)posix_missing_with(0, __VA_ARGS__))
#define if_indextoname(...) posix_missing_with(0, __VA_ARGS__)
#define S_ISSOCK(...)       posix_missing_with(0, __VA_ARGS__)
#undef IF_NAMESIZE
#define IF_NAMESIZE        16
#define posix_openpt(...)  posix_missing_with(0, __VA_ARGS__)
#define grantpt(...)       posix_missing_with(0, __VA_ARGS__)
#define unlockpt(...)      posix_missing_with(0, __VA_ARGS__)
#define ptsname(...)       ((char *)(intptr_t)posix_missing_with(0, __VA_ARGS__))
#define O_NOCTTY           0
#define SO_SNDBUFFORCE     0x7fff /* none */
#define eventfd_write(...) posix_missing_with(0, __VA_ARGS__)
#undef far
#undef near
#define RLIMIT_NOFILE  7
#define WIFEXITED(s)   ((s) == 0)
#define WEXITSTATUS(s) (s)
#define WIFSIGNALED(s) ((s) != 0)
#define WTERMSIG(s)    (s)

typedef int posix_mask;
#define sigset_t posix_mask
typedef unsigned long rlim_t;
struct rlimit {
    rlim_t rlim_cur, rlim_max;
};
typedef struct siginfo {
    int si_signo;
} siginfo_t;
struct sigaction {
    void (*sa_handler)(int);
    void (*sa_sigaction)(int, siginfo_t *, void *);
    sigset_t sa_mask;
    int sa_flags;
};

/* What a pair of unix sockets does and one of TCP, which make_pair gives here, does not; and so on. */
#define IGNORE_SIGPIPE         ((void)0)
#define NEEDS_UNIX_PAIRS       posix_missing()
#define NEEDS_FILES_TO_WATCH   posix_missing()
#define NEEDS_REUSE_PORT       posix_missing()
#define NEEDS_MODES_TO_ASK     posix_missing()
#define NEEDS_INTERFACE_NAMES  posix_missing()
#define PAIRS_HANG_UP          0
#define PAIRS_SETTLE_MS        50 /* they are of TCP */
#define SOCKETS_DUP            0
#define KINDS_TO_WATCH         2
#define RESETS_SET_SO_ERROR    0
#define FILES_KEEP_THEIR_PLACE 0
#define BACKENDS_AT_LEAST      1
#define SETTLE_MS              500 /* more than an acknowledgement is held back: 200 */

/* A unix address is none here; the structure is for what handles it. */
struct sockaddr_un {
    unsigned short sun_family;
    char sun_path[108];
};
struct iovec {
    void *iov_base;
    size_t iov_len;
};
struct msghdr {
    void *msg_name;
    int msg_namelen;
    struct iovec *msg_iov;
    size_t msg_iovlen;
    void *msg_control;
    size_t msg_controllen;
    int msg_flags;
};

/* ---- errors ---- */

POSIX int posix_fail(void) {
    static const int codes[][2] = {{WSAEWOULDBLOCK, EAGAIN},
                                   {WSAENOTSOCK, EBADF},
                                   {WSAECONNRESET, ECONNRESET},
                                   {WSAECONNABORTED, ECONNABORTED},
                                   {WSAECONNREFUSED, ECONNREFUSED},
                                   {WSAENOTCONN, ENOTCONN},
                                   {WSAESHUTDOWN, EPIPE},
                                   {WSAEADDRINUSE, EADDRINUSE},
                                   {WSAEINVAL, EINVAL},
                                   {ERROR_INVALID_HANDLE, EBADF},
                                   {ERROR_FILE_NOT_FOUND, ENOENT},
                                   {ERROR_PATH_NOT_FOUND, ENOENT},
                                   {WSAEAFNOSUPPORT, EAFNOSUPPORT}};
    int code = (int)GetLastError();
    errno = EIO;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i][0] == code) errno = codes[i][1];
    return -1;
}

/* ---- descriptors ---- */

#define SOCK_NONBLOCK   0x1000
#define SOCK_CLOEXEC    0x2000
#define MSG_NOSIGNAL    0
#define MSG_DONTWAIT    0
#define F_GETFD         1
#define F_SETFD         2
#define F_GETFL         3
#define F_SETFL         4
#define F_DUPFD_CLOEXEC 5
#define FD_CLOEXEC      1
#define POLLRDHUP       POLLHUP /* asked for or not */
#define O_NONBLOCK      0x10000
#define O_CLOEXEC       0
#define SHUT_RD         SD_RECEIVE
#define SHUT_WR         SD_SEND
#define SHUT_RDWR       SD_BOTH

POSIX SOCKET posix_socket_of(int fd) { return (SOCKET)(intptr_t)fd; }
POSIX HANDLE posix_handle_of(int fd) { return (HANDLE)(intptr_t)fd; }

POSIX int posix_is_socket(int fd) {
    int type, len = sizeof type;
    return fd > 0 && fd % 4 == 0 &&
           getsockopt(posix_socket_of(fd), SOL_SOCKET, SO_TYPE, (char *)&type, &len) == 0;
}

POSIX int posix_made(SOCKET s, int flags) {
    u_long on = 1;
    if (s == INVALID_SOCKET) return posix_fail();
    SetHandleInformation((HANDLE)s, HANDLE_FLAG_INHERIT, 0);
    if (flags & SOCK_NONBLOCK) ioctlsocket(s, (long)FIONBIO, &on);
    return (int)s;
}

POSIX int posix_socket(int family, int type, int protocol) {
    if (family == AF_UNIX) return posix_missing();
    return posix_made(socket(family, type & 0xfff, protocol), type);
}

POSIX int posix_accept(int fd, struct sockaddr *a, socklen_t *len) {
    return posix_made(accept(posix_socket_of(fd), a, len), 0);
}

POSIX int posix_result(int r) { return r == SOCKET_ERROR ? posix_fail() : r; }

POSIX int posix_connect(int fd, const struct sockaddr *a, socklen_t len) {
    int r = posix_result(connect(posix_socket_of(fd), a, len));
    if (r < 0 && errno == EAGAIN) errno = EINPROGRESS;
    return r;
}

POSIX int posix_bind(int fd, const struct sockaddr *a, socklen_t len) {
    return posix_result(bind(posix_socket_of(fd), a, len));
}

POSIX int posix_listen(int fd, int backlog) {
    return posix_result(listen(posix_socket_of(fd), backlog));
}

POSIX int posix_shutdown(int fd, int how) {
    return posix_result(shutdown(posix_socket_of(fd), how));
}

POSIX int posix_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    return posix_result(setsockopt(posix_socket_of(fd), level, name, (const char *)value, len));
}

POSIX int posix_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    memset(value, 0, (size_t)*len); /* it may fill a byte of it only */
    return posix_result(getsockopt(posix_socket_of(fd), level, name, (char *)value, len));
}

POSIX ssize_t posix_send(int fd, const void *data, size_t len, int flags) {
    return posix_result(send(posix_socket_of(fd), (const char *)data, (int)len, flags));
}

POSIX ssize_t posix_recv(int fd, void *data, size_t len, int flags) {
    return posix_result(recv(posix_socket_of(fd), (char *)data, (int)len, flags));
}

POSIX ssize_t posix_write(int fd, const void *data, size_t len) {
    DWORD done = 0;
    if (fd >= 0 && fd <= 2) return _write(fd, data, (unsigned)len);
    if (posix_is_socket(fd)) return posix_send(fd, data, len, 0);
    return WriteFile(posix_handle_of(fd), data, (DWORD)len, &done, NULL) ? (ssize_t)done
                                                                         : posix_fail();
}

POSIX ssize_t posix_read(int fd, void *data, size_t len) {
    DWORD done = 0;
    if (posix_is_socket(fd)) return posix_recv(fd, data, len, 0);
    return ReadFile(posix_handle_of(fd), data, (DWORD)len, &done, NULL) ? (ssize_t)done
                                                                        : posix_fail();
}

POSIX int posix_close(int fd) {
    if (posix_is_socket(fd)) return posix_result(closesocket(posix_socket_of(fd)));
    if (fd < 0 || GetFileType(posix_handle_of(fd)) != FILE_TYPE_DISK) {
        errno = EBADF;
        return -1;
    }
    return CloseHandle(posix_handle_of(fd)) ? 0 : posix_fail();
}

POSIX int posix_fcntl(int fd, int what, ...) {
    va_list more;
    va_start(more, what);
    int flags = what == F_SETFL ? va_arg(more, int) : 0;
    va_end(more);
    u_long on = (flags & O_NONBLOCK) != 0;
    DWORD handed = 0;
    if (what == F_DUPFD_CLOEXEC) return posix_missing();
    if (!posix_is_socket(fd)) {
        errno = EBADF;
        return fd > 0 && GetFileType(posix_handle_of(fd)) == FILE_TYPE_DISK ? 0 : -1;
    }
    if (what == F_SETFL) return posix_result(ioctlsocket(posix_socket_of(fd), (long)FIONBIO, &on));
    if (what == F_GETFL) return O_NONBLOCK; /* it cannot be asked */
    if (what == F_GETFD && GetHandleInformation(posix_handle_of(fd), &handed))
        return handed & HANDLE_FLAG_INHERIT ? 0 : FD_CLOEXEC;
    return 0;
}

POSIX int posix_ioctl(int fd, long what, int *n) {
    u_long value = (u_long)*n;
    int r = posix_result(ioctlsocket(posix_socket_of(fd), what, &value));
    *n = (int)value;
    return r;
}

POSIX int posix_open(const char *path, int flags, ...) {
    DWORD how = (flags & (O_WRONLY | O_RDWR)) ? GENERIC_READ | GENERIC_WRITE : GENERIC_READ;
    if (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc", 5) == 0) return posix_missing();
    HANDLE h = CreateFileA(path, how, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                           flags & O_CREAT ? CREATE_ALWAYS : OPEN_EXISTING, 0, NULL);
    return h == INVALID_HANDLE_VALUE ? posix_fail() : (int)(intptr_t)h;
}

/* It is gone when it is closed. */
POSIX int posix_mkstemp(char *path) {
    char directory[MAX_PATH], name[MAX_PATH];
    (void)path;
    if (!GetTempPathA(sizeof directory, directory) || !GetTempFileNameA(directory, "rea", 0, name))
        return posix_fail();
    HANDLE h = CreateFileA(name, GENERIC_READ | GENERIC_WRITE | DELETE,
                           FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                           CREATE_ALWAYS, FILE_FLAG_DELETE_ON_CLOSE, NULL);
    return h == INVALID_HANDLE_VALUE ? posix_fail() : (int)(intptr_t)h;
}

POSIX int posix_unlink(const char *path) { return DeleteFileA(path) ? 0 : posix_fail(); }

POSIX int64_t posix_lseek(int fd, int64_t offset, int whence) {
    LARGE_INTEGER to, at;
    to.QuadPart = offset;
    return SetFilePointerEx(posix_handle_of(fd), to, &at, (DWORD)whence) ? at.QuadPart
                                                                         : posix_fail();
}

POSIX int posix_ftruncate(int fd, int64_t size) {
    int64_t at = posix_lseek(fd, 0, SEEK_CUR);
    if (posix_lseek(fd, size, SEEK_SET) < 0 || !SetEndOfFile(posix_handle_of(fd)))
        return posix_fail();
    return posix_lseek(fd, at, SEEK_SET) < 0 ? -1 : 0;
}

POSIX ssize_t posix_pwrite(int fd, const void *data, size_t len, int64_t offset) {
    return posix_lseek(fd, offset, SEEK_SET) < 0 ? -1 : posix_write(fd, data, len);
}

/* The end of input is POLLHUP alone here, urgent data is POLLRDBAND, and POLLPRI an error. */
POSIX int posix_poll(struct pollfd *p, unsigned n, int timeout) {
    struct pollfd q[64];
    if (n > 64) return posix_missing();
    if (n == 0) Sleep((DWORD)timeout);
    if (n == 0) return 0;
    for (unsigned i = 0; i < n; i++) {
        q[i] = p[i];
        q[i].events = (short)((p[i].events & POLLRDNORM ? POLLRDNORM : 0) |
                              (p[i].events & POLLWRNORM ? POLLWRNORM : 0) |
                              (p[i].events & POLLPRI ? POLLRDBAND : 0));
    }
    int r = posix_result(WSAPoll(q, n, timeout));
    for (unsigned i = 0; i < n; i++) {
        p[i].revents = (short)(q[i].revents & ~POLLRDBAND);
        if (q[i].revents & POLLRDBAND) p[i].revents |= POLLPRI;
        if (q[i].revents & POLLHUP) p[i].revents |= (short)(p[i].events & POLLRDNORM);
    }
    return r;
}

POSIX char *posix_strsep(char **rest, const char *ends) {
    char *word = *rest;
    if (!word) return NULL;
    char *end = word + strcspn(word, ends);
    *rest = *end ? end + 1 : NULL;
    *end = 0;
    return word;
}

POSIX int posix_socketpair(int family, int type, int protocol, int fd[2]) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    const int size = 128 * 1024; /* small and fixed, as a unix pair's */
    (void)family, (void)protocol;
    int listener = posix_socket(AF_INET, SOCK_STREAM, 0), on = 1;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd[0] = posix_socket(AF_INET, SOCK_STREAM, 0);
    posix_setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    posix_setsockopt(fd[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    posix_setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (posix_bind(listener, (struct sockaddr *)&a, len) < 0 || posix_listen(listener, 1) < 0 ||
        getsockname(posix_socket_of(listener), (struct sockaddr *)&a, &len) != 0 ||
        posix_connect(fd[0], (struct sockaddr *)&a, len) < 0)
        return -1;
    fd[1] = posix_accept(listener, NULL, NULL);
    posix_close(listener);
    for (int i = 0; i < 2; i++) {
        posix_setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        posix_setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (type & SOCK_NONBLOCK) posix_fcntl(fd[i], F_SETFL, O_NONBLOCK);
    }
    return fd[1] < 0 ? -1 : 0;
}

#define socket(f, t, p)           posix_socket(f, t, p)
#define accept(f, a, l)           posix_accept(f, a, l)
#define connect(f, a, l)          posix_connect(f, a, l)
#define bind(f, a, l)             posix_bind(f, a, l)
#define listen(f, n)              posix_listen(f, n)
#define shutdown(f, h)            posix_shutdown(f, h)
#define setsockopt(f, l, n, v, s) posix_setsockopt(f, l, n, v, s)
#define getsockopt(f, l, n, v, s) posix_getsockopt(f, l, n, v, s)
#define getsockname(f, a, l)      posix_result(getsockname(posix_socket_of(f), a, l))
#define getpeername(f, a, l)      posix_result(getpeername(posix_socket_of(f), a, l))
#define send(f, d, l, g)          posix_send(f, d, l, g)
#define recv(f, d, l, g)          posix_recv(f, d, l, g)
#define read(f, d, l)             posix_read(f, d, l)
#define write(f, d, l)            posix_write(f, d, l)
#define close(f)                  posix_close(f)
#define fcntl(...)                posix_fcntl(__VA_ARGS__)
#define ioctl(f, what, n)         posix_ioctl(f, (long)(what), n)
#define open(...)                 posix_open(__VA_ARGS__)
#define mkstemp(p)                posix_mkstemp(p)
#define unlink(p)                 posix_unlink(p)
#define lseek(f, o, w)            posix_lseek(f, o, w)
#define ftruncate(f, s)           posix_ftruncate(f, s)
#define poll(p, n, t)             posix_poll(p, n, t)
#define strsep(r, e)              posix_strsep(r, e)
#define pipe(f)                   posix_missing_with(0, f)
#define socketpair(f, t, p, s)    posix_socketpair(f, t, p, s)
#define reactor_sendfile(r, c, f, ...)                                                             \
    reactor_sendfile(r, c, (reactor_file)(intptr_t)(f), __VA_ARGS__)

/* ---- time and threads ---- */

#ifndef CLOCK_MONOTONIC
#define CLOCK_MONOTONIC 1
#endif

POSIX int posix_clock(struct timespec *t) {
    LARGE_INTEGER each, count;
    QueryPerformanceFrequency(&each);
    QueryPerformanceCounter(&count);
    t->tv_sec = (time_t)(count.QuadPart / each.QuadPart);
    t->tv_nsec = (long)(count.QuadPart % each.QuadPart * 1000000000 / each.QuadPart);
    return 0;
}

/* Of a wait: Windows' select has the system's tick. */
POSIX int posix_resolution(struct timespec *t) {
    const char *backend = getenv("REACTOR_TEST_BACKEND");
    t->tv_sec = 0;
    t->tv_nsec = backend && strcmp(backend, "select") == 0 ? 15000000 : 1000;
    return 0;
}

POSIX int posix_nap(const struct timespec *t) {
    Sleep((DWORD)(t->tv_sec * 1000 + (t->tv_nsec + 999999) / 1000000));
    return 0;
}

POSIX VOID CALLBACK posix_time_is_up(PVOID user, BOOLEAN fired) {
    static const char text[] = "\nTIME LIMIT: the test above did not end\n";
    (void)user, (void)fired;
    _write(2, text, sizeof text - 1);
    TerminateProcess(GetCurrentProcess(), 99);
}

/* A test's time limit; 0 takes it back. */
POSIX unsigned posix_alarm(unsigned seconds) {
    static HANDLE timer;
    if (timer) DeleteTimerQueueTimer(NULL, timer, INVALID_HANDLE_VALUE);
    timer = NULL;
    if (seconds)
        CreateTimerQueueTimer(&timer, NULL, posix_time_is_up, NULL, seconds * 1000, 0,
                              WT_EXECUTEONLYONCE);
    return 0;
}

typedef struct posix_thread {
    HANDLE handle;
    void *(*run)(void *);
    void *user, *result;
} posix_thread, *posix_thread_handle;

POSIX DWORD WINAPI posix_thread_main(LPVOID user) {
    posix_thread *t = (posix_thread *)user;
    t->result = t->run(t->user);
    return 0;
}

POSIX int posix_thread_create(posix_thread **out, void *(*run)(void *), void *user) {
    posix_thread *t = (posix_thread *)calloc(1, sizeof *t);
    if (!t) return ENOMEM;
    t->run = run;
    t->user = user;
    *out = t;
    t->handle = CreateThread(NULL, 0, posix_thread_main, t, 0, NULL);
    return t->handle ? 0 : EAGAIN;
}

POSIX int posix_thread_join(posix_thread *t, void **result) {
    WaitForSingleObject(t->handle, INFINITE);
    CloseHandle(t->handle);
    if (result) *result = t->result;
    free(t);
    return 0;
}

#define pthread_t                  posix_thread_handle
#define pthread_create(t, a, f, u) posix_thread_create(t, f, u)
#define pthread_join(t, r)         posix_thread_join(t, r)
#define pthread_self()             ((posix_thread *)NULL)
#define pthread_equal(a, b)        ((a) == (b))
#define sched_yield()              Sleep(0)
#define clock_getres(c, t)         posix_resolution(t)
#define clock_gettime(c, t)        posix_clock(t)
#define nanosleep(t, left)         posix_nap(t)
#define usleep(us)                 Sleep((DWORD)((us) + 999) / 1000)
#define alarm(s)                   posix_alarm(s)

/* Sockets are used before a loop is made. */
__attribute__((constructor)) static void posix_start(void) {
    WSADATA data;
    WSAStartup(MAKEWORD(2, 2), &data);
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stderr, NULL, _IONBF, 0);
}

#endif
