/* supervisor: keeps a command running. What it writes is passed on, line by line, with the time; when
   it ends it is started again, later each time; SIGTERM or Ctrl-C ends it in order.

   What to learn: the end of a program (on_exit) and the end of its output (on_eof) are two events, in
   any order. A group of its own keeps the terminal's Ctrl-C from the command, which the supervisor
   ends itself, with all that it has started: SIGTERM first, SIGKILL when it does not listen.

   cc -o supervisor examples/supervisor.c -pthread
   ./supervisor [--delay MS] [--patience MS] COMMAND [ARGUMENT ...] */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LONGEST_LINE = 64 * 1024, LONGEST_DELAY_MS = 30 * 1000, STEADY_MS = 10 * 1000 };

typedef struct supervisor {
    const char *const *command;
    int64_t delay_ms, first_delay_ms, patience_ms;
    int64_t began_ms;
    int pid; /* 0: it does not run */
    int stopping;
    reactor_timer restart;
} supervisor;

static void say(const char *text, size_t len) {
    char stamp[32];
    time_t now = time(NULL);
    strftime(stamp, sizeof stamp, "%H:%M:%S", localtime(&now));
    printf("%s %.*s\n", stamp, (int)len, text);
    fflush(stdout);
}

/* ---- its output ---- */

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    const char *line = data, *end = line + len, *newline;
    (void)r, (void)c, (void)state;
    while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        say(line, (size_t)(newline - line));
        line = newline + 1;
    }
    if (end - line >= LONGEST_LINE) { /* passed on in pieces */
        say(line, (size_t)(end - line));
        line = end;
    }
    return (size_t)(line - (const char *)data);
}

static void on_eof(reactor *r, reactor_conn c, void *state) {
    size_t len;
    const char *last = reactor_input(r, c, &len);
    (void)state;
    if (len > 0) say(last, len);
    reactor_close(r, c);
}

static const reactor_handler output = {.on_data = on_data, .on_eof = on_eof};

/* ---- its runs ---- */

static void start(reactor *r, supervisor *s);

static void on_restart(reactor *r, reactor_timer t, void *user) {
    (void)t;
    start(r, user);
}

/* A command that ran well for a while is not punished for its predecessors. */
static void start_later(reactor *r, supervisor *s) {
    if (reactor_now(r) - s->began_ms >= STEADY_MS) s->delay_ms = s->first_delay_ms;
    reactor_after(r, s->delay_ms, on_restart, s, &s->restart);
    s->delay_ms = s->delay_ms < LONGEST_DELAY_MS / 2 ? s->delay_ms * 2 : LONGEST_DELAY_MS;
}

static void on_exit_of_it(reactor *r, int pid, const reactor_exit *how, void *user) {
    supervisor *s = user;
    char text[80];
    int n = how->error ? snprintf(text, sizeof text, "-- %d ended", pid)
            : how->signum
                ? snprintf(text, sizeof text, "-- %d ended by signal %d", pid, how->signum)
                : snprintf(text, sizeof text, "-- %d ended with %d", pid, how->code);
    say(text, (size_t)n);
    s->pid = 0;
    if (s->stopping)
        reactor_drain(r, 1000); /* its last lines may be in the pipe still */
    else
        start_later(r, s);
}

static void start(reactor *r, supervisor *s) {
    reactor_conn_options o = {.max_input = LONGEST_LINE * 2};
    reactor_spawn_options program = {
        .argv = s->command,
        .streams = {{.what = REACTOR_SPAWN_NULL},
                    {.what = REACTOR_SPAWN_STREAM, .handler = &output, .conn = &o},
                    {.what = REACTOR_SPAWN_OUTPUT}},
        .group = 1,
        .on_exit = on_exit_of_it,
        .user = s,
    };
    reactor_spawned child;
    char text[200];
    s->began_ms = reactor_now(r);
    int e = reactor_spawn(r, &program, &child);
    if (e == 0) {
        s->pid = child.pid;
        return;
    }
    int n = snprintf(text, sizeof text, "-- %.100s: %s", s->command[0], reactor_strerror(e));
    say(text, (size_t)n);
    start_later(r, s);
}

static void on_signal(reactor *r, int signum, void *user) {
    supervisor *s = user;
    (void)signum;
    s->stopping = 1;
    reactor_cancel(r, s->restart);
    if (s->pid)
        reactor_child_kill(r, s->pid, SIGTERM, s->patience_ms);
    else
        reactor_stop(r);
}

int main(int argc, char **argv) {
    supervisor s = {.first_delay_ms = 100, .patience_ms = 5000};
    reactor *r;
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        int64_t *value = strcmp(argv[at], "--delay") == 0      ? &s.first_delay_ms
                         : strcmp(argv[at], "--patience") == 0 ? &s.patience_ms
                                                               : NULL;
        if (!value || (*value = strtol(argv[at + 1], NULL, 10)) < 0) break;
    }
    if (at >= argc || strncmp(argv[at], "--", 2) == 0) {
        fprintf(stderr, "usage: supervisor [--delay MS] [--patience MS] COMMAND [ARGUMENT ...]\n");
        return 2;
    }
    s.command = (const char *const *)(argv + at);
    s.delay_ms = s.first_delay_ms;
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, &s);
    if (e == 0) e = reactor_signal(r, SIGINT, on_signal, &s);
    if (e == 0) {
        start(r, &s);
        e = reactor_run(r);
    }
    if (e < 0) fprintf(stderr, "supervisor: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
