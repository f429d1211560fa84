/* raw_echo.h: an echo connection on a bare descriptor, for the servers whose loop only tells that
   it is ready: the hand-written one, reactor.h's watcher, libev, libevent's event. They differ in
   nothing but the loop. One read buffer for all; what the peer does not take at once is kept. */
#ifndef RAW_ECHO_H
#define RAW_ECHO_H

#include "bench.h"

struct conn {
    int fd;
    int blocked;    /* waits for room to write, and does not read meanwhile */
    size_t at, len; /* of what is waiting */
    char *rest;     /* that; NULL: nothing, so not blocked */
};

enum echo_result { ECHO_GOES_ON, ECHO_BLOCKED, ECHO_ENDED };

static char echo_buffer[65536];

static inline struct conn *echo_accept(int listener, size_t size) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return NULL;
    no_delay(fd);
    struct conn *c = calloc(1, size);
    if (!c) die("calloc");
    c->fd = fd;
    return c;
}

static inline void echo_close(struct conn *c) {
    close(c->fd);
    free(c->rest);
    free(c);
}

static __attribute__((noinline, cold)) enum echo_result echo_keep(struct conn *c, const char *data,
                                                                  size_t len, ssize_t sent) {
    if (sent < 0 && errno != EAGAIN) return ECHO_ENDED;
    if (sent < 0) sent = 0;
    c->at = 0;
    c->len = len - (size_t)sent;
    c->rest = malloc(c->len);
    if (!c->rest) die("malloc");
    memcpy(c->rest, data + sent, c->len);
    return ECHO_BLOCKED;
}

/* One read and one write: all that level-triggering needs. */
static inline enum echo_result echo_once(struct conn *c) {
    ssize_t n = read(c->fd, echo_buffer, sizeof echo_buffer);
    if (UNLIKELY(n <= 0)) return n < 0 && errno == EAGAIN ? ECHO_GOES_ON : ECHO_ENDED;
    ssize_t sent = send(c->fd, echo_buffer, (size_t)n, MSG_NOSIGNAL);
    if (UNLIKELY(sent != n)) return echo_keep(c, echo_buffer, (size_t)n, sent);
    return ECHO_GOES_ON;
}

/* For edges. A read that does not fill the buffer has taken everything, unless an end of file is
   announced that will not be announced again: then more is set. */
static inline enum echo_result echo_all(struct conn *c, int more) {
    for (;;) {
        ssize_t n = read(c->fd, echo_buffer, sizeof echo_buffer);
        if (UNLIKELY(n <= 0)) return n < 0 && errno == EAGAIN ? ECHO_GOES_ON : ECHO_ENDED;
        ssize_t sent = send(c->fd, echo_buffer, (size_t)n, MSG_NOSIGNAL);
        if (UNLIKELY(sent != n)) return echo_keep(c, echo_buffer, (size_t)n, sent);
        if ((size_t)n < sizeof echo_buffer && !more) return ECHO_GOES_ON;
    }
}

static __attribute__((noinline, cold)) enum echo_result echo_output(struct conn *c) {
    ssize_t sent = send(c->fd, c->rest + c->at, c->len - c->at, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? ECHO_BLOCKED : ECHO_ENDED;
    c->at += (size_t)sent;
    if (c->at < c->len) return ECHO_BLOCKED;
    free(c->rest);
    c->rest = NULL;
    return echo_all(c, 1);
}

/* What a server does when a connection is ready is: if (!echo_quickly(c, &result)) settle. */
static inline int echo_quickly(struct conn *c, enum echo_result *result) {
    if (UNLIKELY(c->rest != NULL)) {
        *result = echo_output(c);
        return 0;
    }
    *result = echo_once(c);
    return *result == ECHO_GOES_ON;
}

#endif
