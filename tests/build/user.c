/* A program as a user would write it, and the body of most build tests: C99 and C++11, nothing but
   the standard library besides the header. The flags that run.sh gives decide whether it brings
   the implementation (REACTOR_IMPLEMENTATION), in which order it includes (LAST, TWICE), what it
   may use (WITHOUT_NET) and what its entry is called (ENTRY).

   Prints the backend and returns 0 if a timer, a post and, over the loopback, an echo have come. */
#ifdef COUNTED
#include "counted.h"
#endif
#ifndef LAST
#include "reactor.h"
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#if defined(LAST) || defined(TWICE)
#include "reactor.h"
#endif
#ifdef TWICE
#include "reactor.h"
#endif

#ifndef ENTRY
#define ENTRY main
#endif
#ifdef __cplusplus
extern "C"
#endif
    int
    ENTRY(void);

typedef struct outcome {
    int timers;
    int posts;
    int echoes;
} outcome;

static void on_timer(reactor *r, reactor_timer t, void *user) {
    (void)r;
    (void)t;
    ((outcome *)user)->timers++;
}

static void on_post(reactor *r, void *user) {
    (void)r;
    ((outcome *)user)->posts++;
}

#ifndef WITHOUT_NET
static size_t server_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    return reactor_write(r, c, data, len) < 0 ? 0 : len;
}

static size_t client_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    (void)state;
    if (len < 4) return 0;
    if (memcmp(data, "ping", 4) == 0) ((outcome *)reactor_user(r, c))->echoes++;
    reactor_close(r, c);
    return len;
}

static int talk(reactor *r, outcome *o) {
    static reactor_handler server, client;
    reactor_connect_options options;
    reactor_listener l;
    reactor_conn c;
    char address[REACTOR_ADDRESS_MAX];
    memset(&options, 0, sizeof options);
    options.conn.user = o;
    server.on_data = server_data;
    client.on_data = client_data;
    if (reactor_listen(r, "127.0.0.1:0", &server, NULL, &l) < 0) return -1;
    if (reactor_listener_address(r, l, address, sizeof address) < 0) return -1;
    if (reactor_connect(r, address, &client, &options, &c) < 0) return -1;
    return reactor_write(r, c, "ping", 4);
}
#endif

int ENTRY(void) {
    outcome o = {0, 0, 0};
    reactor *r = NULL;
    int turns;
    int e = reactor_create(&r, NULL);
    if (e < 0) {
        printf("create: %s\n", reactor_strerror(e));
        return 1;
    }
    puts(reactor_backend(r));
    if (reactor_after(r, 1, on_timer, &o, NULL) < 0) return 2;
    if (reactor_post(r, on_post, &o) < 0) return 3;
#ifdef WITHOUT_NET
    o.echoes = 1;
#else
    if (talk(r, &o) < 0) return 4;
#endif
    for (turns = 0; turns < 1000 && (!o.timers || !o.posts || !o.echoes); turns++)
        if (reactor_poll(r, 1000) < 0) return 5;
    reactor_destroy(r);
#ifdef COUNTED
    if (counted_total == 0 || counted_live != 0) {
        printf("%ld allocations, %ld never freed\n", counted_total, counted_live);
        return 6;
    }
#endif
    return o.timers == 1 && o.posts == 1 && o.echoes == 1 ? 0 : 7;
}
