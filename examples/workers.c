/* workers: computes on threads. Answers each line with a number made of it at some length; a line
   "file NAME" with one made of that file, which has to be in the folder where workers was started.

   What to learn: what takes longer than a callback should goes to reactor_work, what waits for a disk
   to reactor_work_blocking, so that a slow disk keeps no computation waiting. A job has memory of its
   own, with the connection's handle in it, for the connection may be gone when it is done: then
   reactor_state is NULL, and the answer is dropped. While a job is under way its connection is
   paused: answers stay in order, and a client that sends faster than we compute is made to wait.

   cc -O2 -o workers examples/workers.c -pthread; ./workers 7000; nc -C localhost 7000 */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

enum { LONGEST = 64 * 1024 }; /* bytes of a line */

static long rounds = 1000000; /* how often a line is gone over: some milliseconds for a short one */

/* A connection's state. */
typedef struct client {
    int busy;     /* a job is under way, and we are paused */
    int draining; /* the server ends: close when all that has come is answered */
    int ended;    /* the client has sent all */
} client;

/* A job's own memory: what it works on, and for whom. */
typedef struct job {
    reactor_conn conn;
    uint64_t number;
    int failed; /* errno */
    size_t len;
    char line[]; /* with a 0 at its end */
} job;

static uint64_t mix(uint64_t h, const char *data, size_t len) { /* FNV-1a */
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)data[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* On a thread of the pool: it knows of nothing but its job. */
static void compute(void *user) {
    job *j = user;
    j->number = UINT64_C(0xcbf29ce484222325);
    for (long i = 0; i < rounds; i++) j->number = mix(j->number, j->line, j->len);
}

static void compute_file(void *user) {
    job *j = user;
    char data[16384];
    size_t n;
    FILE *f = fopen(j->line, "rb");
    j->number = UINT64_C(0xcbf29ce484222325);
    while (f && (n = fread(data, 1, sizeof data, f)) > 0) j->number = mix(j->number, data, n);
    if (!f || ferror(f)) j->failed = errno;
    if (f) fclose(f);
}

static void answer(reactor *r, reactor_conn c, const job *j) {
    char text[128];
    int n = j->failed ? snprintf(text, sizeof text, "error: %s\n", reactor_strerror(-j->failed))
                      : snprintf(text, sizeof text, "%016llx\n", (unsigned long long)j->number);
    reactor_write(r, c, text, (size_t)n);
}

/* Whether there is a line left that is complete. */
static int has_line(reactor *r, reactor_conn c) {
    size_t len;
    const char *data = reactor_input(r, c, &len);
    return len > 0 && memchr(data, '\n', len) != NULL;
}

/* On the loop again, exactly once for each job, also when the loop is destroyed. */
static void on_done(reactor *r, int status, void *user) {
    job *j = user;
    client *who = reactor_state(r, j->conn);
    if (who && status == 0) {
        who->busy = 0;
        answer(r, j->conn, j);
        if (who->ended || (who->draining && !has_line(r, j->conn)))
            reactor_close(r, j->conn);
        else
            reactor_resume(r, j->conn); /* on_data is given the next line */
    }
    free(j);
}

/* Pauses the connection until the job is done. What cannot be begun is answered at once. */
static void begin(reactor *r, reactor_conn c, client *who, const char *line, size_t len) {
    job *j = calloc(1, sizeof *j + len + 1), none = {.failed = ENOMEM};
    int file = len > 5 && memcmp(line, "file ", 5) == 0, e = -ENOMEM;
    if (len > 0 && line[len - 1] == '\r') len--;
    if (j) {
        j->conn = c;
        j->len = file ? len - 5 : len;
        memcpy(j->line, file ? line + 5 : line, j->len);
        if (file && strchr(j->line, '/'))
            e = -EACCES;
        else
            e = (file ? reactor_work_blocking : reactor_work)(r, file ? compute_file : compute,
                                                              on_done, j, NULL);
    }
    if (e == 0) {
        who->busy = 1;
        reactor_pause(r, c);
        return;
    }
    free(j);
    none.failed = -e;
    answer(r, c, &none);
}

/* One line; there is no other call before the job is done. */
static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    const char *end = memchr(data, '\n', len);
    if (!end) return 0;
    begin(r, c, state, data, (size_t)(end - (const char *)data));
    return (size_t)(end - (const char *)data) + 1;
}

/* Not while paused: so no job is under way. */
static void on_eof(reactor *r, reactor_conn c, void *state) {
    client *who = state;
    size_t len;
    const char *last = reactor_input(r, c, &len);
    who->ended = 1;
    if (len > 0) begin(r, c, who, last, len);
    if (!who->busy) reactor_close(r, c);
}

static int on_drain(reactor *r, reactor_conn c, void *state) {
    client *who = state;
    (void)r, (void)c;
    who->draining = 1;
    return who->busy;
}

static const reactor_handler handler = {
    .state_size = sizeof(client), .on_data = on_data, .on_eof = on_eof, .on_drain = on_drain};

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    reactor_drain(r, 5000);
}

int main(int argc, char **argv) {
    reactor *r;
    reactor_listener listener;
    reactor_listen_options options = {.conn.max_input = LONGEST};
    char address[REACTOR_ADDRESS_MAX];
    snprintf(address, sizeof address, "localhost:%s", argc > 1 ? argv[1] : "7000");
    if (argc > 2) rounds = strtol(argv[2], NULL, 10);
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_listen(r, address, &handler, &options, &listener);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    if (e == 0) {
        reactor_listener_address(r, listener, address, sizeof address);
        printf("listening on %s\n", address);
        fflush(stdout);
        e = reactor_run(r);
    }
    if (e < 0) fprintf(stderr, "workers: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
