/* prefork: a pool of processes. Each line of a client is given to one of some workers, processes that
   were forked before; what the worker makes of it, capitals, is the answer. "pid" is answered with
   the worker's number, "sleep MS" takes so long, and "crash" is a worker's end.

   What to learn: a worker is a connection, over one end of a socketpair (reactor_attach). When it
   ends, on_close tells the client whose line it had that this has failed, and forks another one, in
   the callback: the child destroys its copy of the loop, which the parent does not notice, and never
   returns. For code that may crash, leak or hang, or that no thread may run twice at once; for
   anything else threads cost less (see workers.c).

   cc -O2 -o prefork examples/prefork.c -pthread; ./prefork 7000 4; nc -C localhost 7000 */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

#include <ctype.h>
#include <sys/wait.h>

enum { LONGEST = 4096, MOST = 64, AGAIN_MS = 200 };

/* A client's state. It waits in a queue, paused, if no worker is free. */
typedef struct client {
    reactor_conn conn;
    struct worker *has;  /* it is this client's: reserved, or at work */
    int working;         /* it has been given a line, which is not answered */
    int waits;           /* in the queue */
    int draining;        /* close when all that has come is answered */
    struct client *next; /* in the queue */
} client;

typedef struct worker {
    reactor_conn conn;
    pid_t pid;        /* 0: there is none */
    int answers;      /* that it has given */
    reactor_conn who; /* whose it is; the client may have gone */
} worker;

static struct pool {
    worker workers[MOST];
    int count, clients, draining;
    client *first, *last; /* who waits for a worker */
} pool;

/* ---- the worker's process ---- */

static void put_all(int fd, const char *data, size_t len) {
    for (ssize_t n; len > 0; data += n, len -= (size_t)n)
        if ((n = write(fd, data, len)) <= 0) _exit(1);
}

/* What a line asks for; len is without its end. */
static void work_on(int fd, char *line, size_t len) {
    char text[32];
    if (strcmp(line, "crash") == 0) kill(getpid(), SIGKILL);
    if (strncmp(line, "sleep ", 6) == 0) poll(NULL, 0, (int)strtol(line + 6, NULL, 10));
    for (size_t i = 0; i < len; i++) line[i] = (char)toupper((unsigned char)line[i]);
    int n = strcmp(line, "PID") == 0 ? snprintf(text, sizeof text, "%d", (int)getpid()) : 0;
    put_all(fd, n > 0 ? text : line, n > 0 ? (size_t)n : len);
    put_all(fd, "\n", 1);
}

/* A line is answered before the next one comes. Ends when the parent does, or closes its end. */
static void worker_main(int fd) {
    static char line[LONGEST + 1];
    size_t len = 0;
    for (ssize_t n; (n = read(fd, line + len, sizeof line - len)) > 0;) {
        char *end = memchr(line + len, '\n', (size_t)n);
        len += (size_t)n;
        if (!end) continue;
        *end = 0;
        work_on(fd, line, (size_t)(end - line));
        len = 0;
    }
    _exit(0);
}

/* ---- workers ---- */

static const reactor_handler worker_handler;
static void start_worker(reactor *r, worker *w);

static void on_again(reactor *r, reactor_timer t, void *user) {
    (void)t;
    if (!pool.draining) start_worker(r, user);
}

/* The child has the parent's descriptors: the loop's go with its copy, also those of clients and of
   other workers. So the parent's end of a pair is the parent's alone, and its end is told. */
static pid_t fork_worker(reactor *r, int ends[2]) {
    pid_t pid = fork();
    if (pid != 0) return pid;
    close(ends[0]);
    signal(SIGINT, SIG_IGN); /* of a terminal: ending is the parent's to do */
    reactor_destroy(r);
    worker_main(ends[1]);
    return 0;
}

/* What fails is tried again soon; until then there is one fewer. */
static void start_worker(reactor *r, worker *w) {
    int ends[2];
    memset(w, 0, sizeof *w);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0) {
        reactor_conn_options options = {.user = w};
        fcntl(ends[0], F_SETFD, FD_CLOEXEC);
        pid_t pid = fork_worker(r, ends);
        close(ends[1]);
        if (pid > 0 && reactor_attach(r, ends[0], &worker_handler, &options, &w->conn) == 0) {
            w->pid = pid;
            return;
        }
        close(ends[0]);
        if (pid > 0) waitpid(pid, NULL, 0); /* it has seen the end of file */
    }
    reactor_after(r, AGAIN_MS, on_again, w, NULL);
}

static client *client_of(reactor *r, reactor_conn c) { return reactor_state(r, c); }

/* A worker is free: it is reserved for who has waited longest, whose on_data then finds it. */
static void offer(reactor *r, worker *w) {
    client *who = pool.first;
    w->who.id = 0;
    if (!who) return;
    pool.first = who->next;
    if (!pool.first) pool.last = NULL;
    who->waits = 0;
    who->has = w;
    w->who = who->conn;
    reactor_resume(r, who->conn);
}

/* Answered, well or not: goes on with the client's next line. */
static void finish(reactor *r, client *who, const char *text, size_t len) {
    size_t left;
    who->has = NULL;
    who->working = 0;
    reactor_write(r, who->conn, text, len);
    const char *input = reactor_input(r, who->conn, &left);
    if (who->draining && !(left && memchr(input, '\n', left)))
        reactor_close(r, who->conn);
    else
        reactor_resume(r, who->conn);
}

static size_t worker_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    worker *w = reactor_user(r, c);
    const char *end = memchr(data, '\n', len);
    (void)state;
    if (!end) return 0;
    size_t used = (size_t)(end - (const char *)data) + 1;
    client *who = client_of(r, w->who); /* NULL: the client has gone, and nobody wants it */
    w->answers++;
    if (who) finish(r, who, data, used);
    offer(r, w);
    return used;
}

/* The worker has ended, or it is told to by a drain. */
static void worker_close(reactor *r, reactor_conn c, int reason, void *state) {
    worker *w = reactor_user(r, c);
    client *who = client_of(r, w->who);
    char text[80];
    int status = 0, early = w->answers == 0 && !who;
    (void)reason, (void)state;
    kill(w->pid,
         SIGKILL); /* should it have closed its end only; a process that has ended hears nothing */
    waitpid(w->pid, &status, 0);
    w->pid = 0;
    if (who && who->working) {
        int n = snprintf(text, sizeof text, "failed: the worker ended with %s %d\n",
                         WIFSIGNALED(status) ? "signal" : "status",
                         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        finish(r, who, text, (size_t)n);
    } else if (who)
        who->has = NULL; /* its line has not been given away: on_data looks for another worker */
    if (pool.draining) return;
    if (early) { /* it may be that none can start */
        reactor_after(r, AGAIN_MS, on_again, w, NULL);
        return;
    }
    start_worker(r, w);
    if (w->pid) offer(r, w);
}

/* They go when the last client has gone. */
static int worker_drain(reactor *r, reactor_conn c, void *state) {
    (void)r, (void)c, (void)state;
    return 1;
}

static const reactor_handler worker_handler = {
    .on_data = worker_data, .on_drain = worker_drain, .on_close = worker_close};

static void close_workers(reactor *r) {
    for (int i = 0; i < pool.count; i++)
        if (pool.workers[i].pid) reactor_close(r, pool.workers[i].conn);
}

/* ---- clients ---- */

static worker *free_worker(void) {
    for (int i = 0; i < pool.count; i++)
        if (pool.workers[i].pid && !pool.workers[i].who.id) return &pool.workers[i];
    return NULL;
}

static void wait_for_worker(reactor *r, client *who) {
    reactor_pause(r, who->conn);
    if (who->waits) return;
    who->waits = 1;
    who->next = NULL;
    *(pool.last ? &pool.last->next : &pool.first) = who;
    pool.last = who;
}

static void on_open(reactor *r, reactor_conn c, void *state) {
    (void)r;
    ((client *)state)->conn = c;
    pool.clients++;
}

/* Gives the line to a worker, and reads no further before it is answered. If none is free, the line
   is left where it is. */
static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    client *who = state;
    const char *end = memchr(data, '\n', len);
    if (!end) return 0;
    size_t used = (size_t)(end - (const char *)data) + 1;
    if (!who->has && (who->has = free_worker()) != NULL) who->has->who = c;
    if (!who->has) {
        wait_for_worker(r, who);
        return 0;
    }
    who->working = 1;
    reactor_pause(r, c);
    if (reactor_write(r, who->has->conn, data, used) < 0) reactor_abort(r, who->has->conn);
    return used;
}

static int on_drain(reactor *r, reactor_conn c, void *state) {
    client *who = state;
    (void)r, (void)c;
    who->draining = 1;
    return who->working || who->waits || who->has;
}

/* A worker that is at work for it goes on, and its answer finds nobody. */
static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
    client *who = state, **at = &pool.first;
    (void)c, (void)reason;
    if (who->waits) {
        pool.last = NULL;
        for (client *each = pool.first; each; each = each->next)
            if (each != who) pool.last = each;
        while (*at != who) at = &(*at)->next;
        *at = who->next;
    }
    if (who->has && !who->working) offer(r, who->has);
    if (--pool.clients == 0 && pool.draining) close_workers(r);
}

static const reactor_handler client_handler = {.state_size = sizeof(client),
                                               .on_open = on_open,
                                               .on_data = on_data,
                                               .on_drain = on_drain,
                                               .on_close = on_close};

/* ---- the program ---- */

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    pool.draining = 1;
    reactor_drain(r, 5000);
    if (!pool.clients) close_workers(r);
}

int main(int argc, char **argv) {
    reactor *r;
    reactor_listener listener;
    reactor_listen_options options = {.conn.max_input = LONGEST};
    char address[REACTOR_ADDRESS_MAX];
    snprintf(address, sizeof address, "localhost:%s", argc > 1 ? argv[1] : "7000");
    pool.count = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 4;
    if (pool.count < 1 || pool.count > MOST) pool.count = 4;
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_listen(r, address, &client_handler, &options, &listener);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    if (e == 0) {
        for (int i = 0; i < pool.count; i++) start_worker(r, &pool.workers[i]);
        reactor_listener_address(r, listener, address, sizeof address);
        printf("listening on %s\n", address);
        fflush(stdout);
        e = reactor_run(r);
    }
    if (e < 0) fprintf(stderr, "prefork: %s\n", reactor_strerror(e));
    pool.draining = 1;
    reactor_destroy(r);
    return e < 0;
}
