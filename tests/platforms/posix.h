/* What the header uses of POSIX, as the BSDs and macOS declare it; each of their files here brings
   what differs, and then includes this one. They stand for all of a system's headers, so that what
   is compiled only there is known to compile (tests/build/run.sh); nothing of it is ever run. */
#ifndef POSIX_H
#define POSIX_H

#include "types.h"

typedef int64_t off_t;
typedef long ssize_t;
typedef long time_t;
typedef int pid_t;
typedef unsigned socklen_t;
typedef unsigned char sa_family_t;
typedef unsigned in_addr_t;
typedef unsigned short in_port_t;

/* errno.h */
int *errno_of_this_thread(void);
#define errno        (*errno_of_this_thread())
#define EPERM        1
#define ENOENT       2
#define ESRCH        3
#define EINTR        4
#define EIO          5
#define ENXIO        6
#define EBADF        9
#define ENOMEM       12
#define EACCES       13
#define ECHILD       10
#define EBUSY        16
#define EEXIST       17
#define ENODEV       19
#define EINVAL       22
#define ENFILE       23
#define EMFILE       24
#define EFBIG        27
#define ENOSPC       28
#define EFAULT       14
#define ENOTDIR      20
#define EISDIR       21
#define ESPIPE       29
#define EROFS        30
#define ELOOP        62
#define EPIPE        32
#define ERANGE       34
#define EAGAIN       35
#define EWOULDBLOCK  EAGAIN
#define EINPROGRESS  36
#define EALREADY     37
#define ENOTSOCK     38
#define EDESTADDRREQ 39
#define EMSGSIZE     40
#define EPROTOTYPE   41
#define ENOPROTOOPT  42

#define EAFNOSUPPORT  47
#define EADDRINUSE    48
#define EADDRNOTAVAIL 49
#define ENETDOWN      50
#define ENETUNREACH   51
#define ECONNABORTED  53
#define ECONNRESET    54
#define ENOBUFS       55
#define EISCONN       56
#define ENOTCONN      57
#define ETIMEDOUT     60
#define ECONNREFUSED  61
#define ENAMETOOLONG  63
#define EHOSTDOWN     64
#define EHOSTUNREACH  65
#define ENOSYS        78

/* limits.h */
#define INT_MAX  2147483647
#define UINT_MAX 4294967295u
#define LONG_MAX __LONG_MAX__

/* stdarg.h, stdio.h, stdlib.h, string.h */
typedef __builtin_va_list va_list;
#define va_start(list, last) __builtin_va_start(list, last)
#define va_end(list)         __builtin_va_end(list)
int vsnprintf(char *text, size_t size, const char *format, va_list values);
int snprintf(char *text, size_t size, const char *format, ...);
void *malloc(size_t size);
void *realloc(void *old, size_t size);
void qsort(void *list, size_t count, size_t size, int (*compare)(const void *, const void *));
void free(void *memory);
void *memchr(const void *data, int c, size_t len);
int memcmp(const void *a, const void *b, size_t len);
void *memcpy(void *to, const void *from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int c, size_t len);
char *strchr(const char *text, int c);
char *strrchr(const char *text, int c);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t len);
char *strerror(int error);
size_t strlen(const char *text);

/* time.h */
struct timespec {
    time_t tv_sec;
    long tv_nsec;
};
int clock_gettime(clockid_t id, struct timespec *t);
#ifdef __APPLE__
#define CLOCK_REALTIME CLOCK_REALTIME_VALUE
#else
#define CLOCK_REALTIME 0
#endif

/* fcntl.h, unistd.h, sys/uio.h */
#define F_GETFD             1
#define F_SETFD             2
#define F_GETFL             3
#define F_SETFL             4
#define FD_CLOEXEC          1
#define F_DUPFD_CLOEXEC     17
#define O_NOCTTY            0x8000
#define O_ACCMODE           3
#define O_RDONLY            0
#define O_WRONLY            1
#define O_RDWR              2
#define O_NONBLOCK          4
#define O_CLOEXEC           8
#define O_DIRECTORY         16
#define AT_FDCWD            (-100)
#define AT_SYMLINK_NOFOLLOW 2
struct iovec {
    void *iov_base;
    size_t iov_len;
};
int open(const char *path, int flags, ...);
int fchmodat(int folder, const char *path, mode_t mode, int flags);
int unlinkat(int folder, const char *path, int flags);
int dup2(int fd, int number);
int close(int fd);
int fcntl(int fd, int what, ...);
int ioctl(int fd, unsigned long what, ...);
int isatty(int fd);
int ttyname_r(int fd, char *name, size_t size);
char *ptsname(int fd);
int pipe(int ends[2]);
int unlink(const char *path);
int chdir(const char *path);
int execve(const char *path, char *const *argv, char *const *environment);
void _exit(int code) __attribute__((noreturn));
pid_t getpid(void);
int setpgid(pid_t who, pid_t group);
pid_t setsid(void);
#ifdef __APPLE__
int getdtablesize(void);
pid_t fork(void);
char ***_NSGetEnviron(void); /* crt_externs.h */
#else
#ifdef __OpenBSD__
int closefrom(int fd);
#elif defined(__NetBSD__)
int closefrom(int fd);
#else
void closefrom(int fd);
#endif
int pipe2(int ends[2], int flags);
pid_t vfork(void);
#endif
long sysconf(int name);
ssize_t pread(int fd, void *data, size_t len, off_t offset);
ssize_t read(int fd, void *data, size_t len);
ssize_t write(int fd, const void *data, size_t len);
ssize_t writev(int fd, const struct iovec *v, int count);

/* sys/stat.h */
#define S_IFMT      0170000
#define S_ISBLK(m)  (((m)&S_IFMT) == 0060000)
#define S_ISCHR(m)  (((m)&S_IFMT) == 0020000)
#define S_ISDIR(m)  (((m)&S_IFMT) == 0040000)
#define S_ISFIFO(m) (((m)&S_IFMT) == 0010000)
#define S_ISREG(m)  (((m)&S_IFMT) == 0100000)
#define S_ISSOCK(m) (((m)&S_IFMT) == 0140000)
struct stat {
    dev_t st_dev;
    ino_t st_ino;
    mode_t st_mode;
    off_t st_size;
    dev_t st_rdev;
#ifdef __APPLE__
    struct timespec st_mtimespec, st_ctimespec;
#else
    struct timespec st_mtim, st_ctim;
#endif
};
int stat(const char *path, struct stat *st);
int fstat(int fd, struct stat *out);
int lstat(const char *path, struct stat *out);
int fstatat(int folder, const char *path, struct stat *out, int flags);

/* sys/wait.h */
#define WNOHANG        1
#define WIFEXITED(s)   (((s)&0177) == 0)
#define WEXITSTATUS(s) ((s) >> 8 & 0xff)
#define WTERMSIG(s)    ((s)&0177)
#define WCOREDUMP(s)   ((s)&0200)
pid_t waitpid(pid_t who, int *status, int how);

/* sys/mman.h */
#define PROT_READ   1
#define PROT_WRITE  2
#define MAP_PRIVATE 2
#define MAP_ANON    4
#define MAP_FAILED  ((void *)-1)
void *mmap(void *at, size_t len, int access, int flags, int fd, off_t offset);
int munmap(void *at, size_t len);

/* poll.h, sys/select.h */
#define POLLIN   1
#define POLLPRI  2
#define POLLOUT  4
#define POLLERR  8
#define POLLHUP  16
#define POLLNVAL 32
struct pollfd {
    int fd;
    short events, revents;
};
int poll(struct pollfd *fds, nfds_t count, int timeout);
#define FD_SETSIZE 1024
typedef struct fd_set {
    unsigned long bits[FD_SETSIZE / 8 / sizeof(long)];
} fd_set;
int pselect(int count, fd_set *in, fd_set *out, fd_set *other, const struct timespec *timeout,
            const sigset_t *mask);

/* signal.h, pthread.h */
#define SIGILL      4
#define SIGTRAP     5
#define SIGFPE      8
#define SIGBUS      10
#define SIGSEGV     11
#define SIGSYS      12
#define SIGPIPE     13
#define SIGTERM     15
#define SIG_BLOCK   1
#define SIG_SETMASK 3
#define SA_ONSTACK  1
#define SA_RESTART  2
#define SA_SIGINFO  4
#define SIGURG      16
#define SIGTTIN     21
#define SIGTTOU     22
#define SIGVTALRM   26
#define SIGPROF     27
#define SIG_DFL     ((void (*)(int))0)
#define SIG_IGN     ((void (*)(int))1)
typedef struct siginfo {
    int si_signo;
} siginfo_t;
struct sigaction {
    union {
        void (*sa_handler)(int signum);
        void (*sa_sigaction)(int signum, siginfo_t *info, void *context);
    };
    sigset_t sa_mask;
    int sa_flags;
};
int sigaction(int signum, const struct sigaction *action, struct sigaction *old);
int sigaddset(sigset_t *set, int signum);
int sigdelset(sigset_t *set, int signum);
int kill(pid_t who, int signum);
int sigemptyset(sigset_t *set);
int sigfillset(sigset_t *set);
int sigprocmask(int how, const sigset_t *set, sigset_t *old);
int sigismember(const sigset_t *set, int signum);
int sigpending(sigset_t *set);
int sigwait(const sigset_t *set, int *signum);
typedef struct pthread *pthread_t;
typedef struct pthread_cond {
    long opaque[8];
} pthread_cond_t;
int pthread_cond_init(pthread_cond_t *cond, const void *attributes);
int pthread_cond_destroy(pthread_cond_t *cond);
int pthread_cond_signal(pthread_cond_t *cond);
int pthread_cond_broadcast(pthread_cond_t *cond);
int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until);
int pthread_create(pthread_t *out, const void *attributes, void *(*fn)(void *), void *user);
int pthread_detach(pthread_t t);
int pthread_join(pthread_t t, void **result);
int pthread_equal(pthread_t a, pthread_t b);
int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes);
int pthread_mutex_destroy(pthread_mutex_t *mutex);
int pthread_mutex_lock(pthread_mutex_t *mutex);
int pthread_mutex_trylock(pthread_mutex_t *mutex);
int pthread_mutex_unlock(pthread_mutex_t *mutex);
pthread_t pthread_self(void);
int pthread_sigmask(int how, const sigset_t *set, sigset_t *old);

/* sys/socket.h, sys/un.h, netinet/in.h, netinet/tcp.h, arpa/inet.h, net/if.h */
#define AF_UNIX       1
#define AF_INET       2
#define SOCK_STREAM   1
#define SOCK_DGRAM    2
#define SHUT_RD       0
#define SHUT_WR       1
#define SHUT_RDWR     2
#define SOL_SOCKET    0xffff
#define SO_ACCEPTCONN 0x0002
#define SO_REUSEADDR  0x0004
#define SO_KEEPALIVE  0x0008
#define SO_LINGER     0x0080
#define SO_BROADCAST  0x0020
#define SO_SNDBUF     0x1001
#define SO_RCVBUF     0x1002
#define SO_ERROR      0x1007
#define SO_TYPE       0x1008
#define MSG_PEEK      2
#define MSG_TRUNC     0x0010
#define MSG_DONTWAIT  0x0080
#define IPPROTO_IP    0
#define IPPROTO_TCP   6
#define IPPROTO_IPV6  41
#define IPV6_V6ONLY   27

#define IPV6_MULTICAST_IF   9
#define IPV6_MULTICAST_HOPS 10
#define IPV6_MULTICAST_LOOP 11
#define IPV6_JOIN_GROUP     12
#define IPV6_LEAVE_GROUP    13
#define IP_MULTICAST_IF     9
#define IP_MULTICAST_TTL    10
#define IP_MULTICAST_LOOP   11
#define IP_ADD_MEMBERSHIP   12
#define IP_DROP_MEMBERSHIP  13

#define TCP_NODELAY      1
#define INADDR_ANY       0u
#define INADDR_LOOPBACK  0x7f000001u
#define INET_ADDRSTRLEN  16
#define INET6_ADDRSTRLEN 46
#define IF_NAMESIZE      16
/* Hidden by the one macro, and shown again by a system's own, which FreeBSD has not. */
#if !defined(_POSIX_C_SOURCE) || defined(_DARWIN_C_SOURCE) || defined(_NETBSD_SOURCE) ||           \
    defined(_BSD_SOURCE)
#define SO_REUSEPORT 0x0200
#endif
struct sockaddr {
    unsigned char sa_len;
    sa_family_t sa_family;
    char sa_data[14];
};
struct sockaddr_storage {
    unsigned char ss_len;
    sa_family_t ss_family;
    char padding[6];
    int64_t align;
    char rest[112];
};
struct sockaddr_un {
    unsigned char sun_len;
    sa_family_t sun_family;
    char sun_path[104];
};
struct in_addr {
    in_addr_t s_addr;
};
struct in6_addr {
    unsigned char s6_addr[16];
};
struct sockaddr_in {
    unsigned char sin_len;
    sa_family_t sin_family;
    in_port_t sin_port;
    struct in_addr sin_addr;
    char sin_zero[8];
};
struct sockaddr_in6 {
    unsigned char sin6_len;
    sa_family_t sin6_family;
    in_port_t sin6_port;
    uint32_t sin6_flowinfo;
    struct in6_addr sin6_addr;
    uint32_t sin6_scope_id;
};
struct ip_mreq {
    struct in_addr imr_multiaddr, imr_interface;
};
#if defined(__FreeBSD__) || defined(__APPLE__)
struct ip_mreqn {
    struct in_addr imr_multiaddr, imr_address;
    int imr_ifindex;
};
#endif
struct ipv6_mreq {
    struct in6_addr ipv6mr_multiaddr;
    unsigned ipv6mr_interface;
};
struct linger {
    int l_onoff, l_linger;
};
struct msghdr {
    void *msg_name;
    socklen_t msg_namelen;
    struct iovec *msg_iov;
    int msg_iovlen;
    void *msg_control;
    socklen_t msg_controllen;
    int msg_flags;
};
int accept(int fd, struct sockaddr *sa, socklen_t *len);
int bind(int fd, const struct sockaddr *sa, socklen_t len);
int connect(int fd, const struct sockaddr *sa, socklen_t len);
int getpeername(int fd, struct sockaddr *sa, socklen_t *len);
int getsockname(int fd, struct sockaddr *sa, socklen_t *len);
int getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int listen(int fd, int backlog);
int setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int shutdown(int fd, int how);
int socket(int family, int type, int protocol);
ssize_t recv(int fd, void *data, size_t len, int flags);
ssize_t recvmsg(int fd, struct msghdr *message, int flags);
ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
               socklen_t to_len);
ssize_t send(int fd, const void *data, size_t len, int flags);
ssize_t sendmsg(int fd, const struct msghdr *message, int flags);
uint16_t htons(uint16_t x);
uint16_t ntohs(uint16_t x);
uint32_t htonl(uint32_t x);
uint32_t ntohl(uint32_t x);
const char *inet_ntop(int family, const void *address, char *text, socklen_t size);
int inet_pton(int family, const char *text, void *address);
char *if_indextoname(unsigned index, char *name);

/* netdb.h: the BSDs' order, and FreeBSD's numbers. */
struct addrinfo {
    int ai_flags, ai_family, ai_socktype, ai_protocol;
    socklen_t ai_addrlen;
    char *ai_canonname;
    struct sockaddr *ai_addr;
    struct addrinfo *ai_next;
};
#define AI_NUMERICSERV 8
#define EAI_AGAIN      2
#define EAI_FAIL       4
#define EAI_MEMORY     6
#define EAI_SYSTEM     11
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found);
void freeaddrinfo(struct addrinfo *found);
unsigned if_nametoindex(const char *name);

#ifdef PROGRAMS
#include "programs.h"
#endif

#endif
