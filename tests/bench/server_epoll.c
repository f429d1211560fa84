/* The measure of all: an echo server on a hand-written epoll loop, with nothing in it that this
   server does not need. Edge-triggered for both directions, registered once: the kernel then
   need not look at a connection again after having reported it. With -DLEVEL it is level-triggered,
   as the loops are that promise no edges. */
#include "raw_echo.h"

#include <sys/epoll.h>

#ifdef LEVEL
enum { LISTENING = EPOLLIN, READING = EPOLLIN, WRITING = EPOLLOUT };
#else
enum { LISTENING = EPOLLIN, READING = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (int)EPOLLET };
#endif

static int set;

static void watch(int operation, int fd, uint32_t events, struct conn *c) {
    struct epoll_event e = {.events = events, .data = {.ptr = c}};
    if (epoll_ctl(set, operation, fd, &e) < 0) die("epoll_ctl");
}

static void accept_all(int listener) {
    struct conn *c;
    while ((c = echo_accept(listener, sizeof *c)))
        watch(EPOLL_CTL_ADD, c->fd, (uint32_t)READING, c);
}

#ifdef LEVEL
static __attribute__((noinline, cold)) void settle(struct conn *c, enum echo_result result) {
    if (result == ECHO_ENDED) {
        echo_close(c);
        return;
    }
    if ((int)result == c->blocked) return;
    c->blocked = (int)result;
    watch(EPOLL_CTL_MOD, c->fd, result == ECHO_BLOCKED ? WRITING : READING, c);
}

static inline void serve(struct conn *c, uint32_t events) {
    enum echo_result result;
    (void)events;
    if (!echo_quickly(c, &result)) settle(c, result);
}
#else
static inline void serve(struct conn *c, uint32_t events) {
    enum echo_result result =
        UNLIKELY(c->rest != NULL) ? echo_output(c) : echo_all(c, (events & EPOLLRDHUP) != 0);
    if (UNLIKELY(result == ECHO_ENDED)) echo_close(c);
}
#endif

int main(void) {
    struct epoll_event events[256];
    int listener = listen_anywhere();
    raise_limit();
    set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0) die("epoll_create1");
    watch(EPOLL_CTL_ADD, listener, LISTENING, NULL);
    announce(local_port(listener));
    for (;;) {
        int n = epoll_wait(set, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c)
                serve(c, events[i].events);
            else
                accept_all(listener);
        }
    }
}
