/* Another copy of the library, static, as a plug-in would bring its own: test_process links it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "libkqueue.h"
#define REACTOR_STATIC
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#include "../reactor.h"

#include "copy.h"

struct copy {
    reactor *r;
    int heard;
};

static void copy_on_signal(reactor *r, int signum, void *user) {
    (void)r, (void)signum;
    ++*(int *)user;
}

copy *copy_open(const char *backend) {
    reactor_options options;
    copy *c = (copy *)calloc(1, sizeof *c);
    memset(&options, 0, sizeof options);
    options.backend = backend;
    if (c && reactor_create(&c->r, &options) == 0) return c;
    free(c);
    return NULL;
}

int copy_watch(copy *c, int signum, int on) {
    return reactor_signal(c->r, signum, on ? copy_on_signal : NULL, &c->heard);
}

int copy_heard(copy *c) {
    reactor_poll(c->r, 0);
    reactor_poll(c->r, 0);
    return c->heard;
}

void copy_close(copy *c) {
    reactor_destroy(c->r);
    free(c);
}
