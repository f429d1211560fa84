/* Echo of datagrams by hand: epoll, recvmmsg, sendmmsg. */
#include "bench.h"

#include <sys/epoll.h>

enum { BATCH = 64, SIZE = 2048 };

static struct mmsghdr headers[BATCH];
static struct iovec pieces[BATCH];
static struct sockaddr_in peers[BATCH];
static char data[BATCH][SIZE];

static void echo(int fd) {
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){data[i], SIZE};
        headers[i].msg_hdr = (struct msghdr){.msg_name = &peers[i],
                                             .msg_namelen = sizeof peers[i],
                                             .msg_iov = &pieces[i],
                                             .msg_iovlen = 1};
    }
    int n = recvmmsg(fd, headers, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) pieces[i].iov_len = headers[i].msg_len;
    for (int sent = 0; sent < n;) {
        int k = sendmmsg(fd, headers + sent, (unsigned)(n - sent), MSG_DONTWAIT);
        if (k < 0) return;
        sent += k;
    }
}

int main(void) {
    int fd = datagram_anywhere(), set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN};
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll");
    announce(local_port(fd));
    for (;;)
        if (epoll_wait(set, &e, 1, -1) == 1) echo(fd);
}
