/* The implementation as on a kernel that lacks what came late: the library's own calls of those fail
   with ENOSYS, the tests' do not. epoll goes only when old_kernel_epoll is 0, timerfd only when
   old_kernel_timerfd is; nothing takes the place of either. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

extern int old_kernel_epoll, old_kernel_timerfd;
int old_kernel_epoll = 1, old_kernel_timerfd = 1;

static int old_kernel_lacks(void) {
    errno = ENOSYS;
    return -1;
}
static int old_kernel_eventfd(unsigned count, int flags) {
    (void)count, (void)flags;
    return old_kernel_lacks();
}
static ssize_t old_kernel_sendfile(int fd, int file, off_t *offset, size_t len) {
    (void)fd, (void)file, (void)offset, (void)len;
    return old_kernel_lacks();
}

#define epoll_create1(flags) (old_kernel_epoll ? epoll_create1(flags) : old_kernel_lacks())
#define timerfd_create(clock, flags)                                                               \
    (old_kernel_timerfd ? timerfd_create(clock, flags) : old_kernel_lacks())
#define eventfd  old_kernel_eventfd
#define sendfile old_kernel_sendfile
#undef SYS_accept4
#undef SYS_ppoll
#undef SYS_epoll_pwait2
#define SYS_accept4      100001 /* no kernel's number: ENOSYS */
#define SYS_ppoll        100002
#define SYS_epoll_pwait2 100003
#undef SYS_io_uring_setup
#define SYS_io_uring_setup 100004
#undef SYS_pidfd_open
#define SYS_pidfd_open 100005
#undef SYS_close_range
#define SYS_close_range 100006

#include "../reactor_all.c"
