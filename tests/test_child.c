/* Child processes: told once, whoever started them and however they end; started with what was asked
   for and nothing else; ended in order or by force. Children here are shells, so that what they see
   is what any program sees. REACTOR_TEST_MANY=1 runs the long ones in full: 1,000 children at once,
   20,000 in a row. */
#include "stream_help.h"

#include <limits.h>

#ifdef __linux__
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#define MUST(what)                                                                                 \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what);                                     \
            _exit(70);                                                                             \
        }                                                                                          \
    } while (0)

static int status_of(pid_t child) {
    int status = -1;
    assert_return_code(child, errno);
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return status;
}

static int long_run(void) { return getenv("REACTOR_TEST_MANY") != NULL; }

/* Nobody is left to be waited for. */
static void assert_no_zombie(void) {
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* ---- what is told ---- */

typedef struct told {
    int calls, pid;
    reactor_exit how;
} told;

static void on_exit_told(reactor *r, int pid, const reactor_exit *how, void *user) {
    told *t = (told *)user;
    (void)r;
    t->calls++;
    t->pid = pid;
    t->how = *how;
}

static void assert_how(const told *t, int error, int code, int signum) {
    assert_int_equal(t->calls, 1);
    assert_int_equal(t->how.error, error);
    assert_int_equal(t->how.code, code);
    assert_int_equal(t->how.signum, signum);
}

/* Linux tells from 6.15 on how a child ended that somebody else has waited for. */
static void assert_how_or_lost(const told *t, int code, int signum) {
    if (t->how.error)
        assert_how(t, -ECHILD, -1, 0);
    else
        assert_how(t, 0, code, signum);
}

/* ---- output ---- */

typedef struct collected {
    char *text;
    size_t len;
    int opens, eofs, closes, reason;
} collected;

static collected *of(const reactor *r, reactor_conn c) { return (collected *)reactor_user(r, c); }

static void collect_open(reactor *r, reactor_conn c, void *state) {
    (void)state;
    of(r, c)->opens++;
}
static size_t collect_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    collected *o = of(r, c);
    (void)state;
    o->text = (char *)realloc(o->text, o->len + len + 1);
    assert_non_null(o->text);
    memcpy(o->text + o->len, data, len);
    o->len += len;
    o->text[o->len] = '\0';
    return len;
}
static void collect_eof(reactor *r, reactor_conn c, void *state) {
    (void)state;
    of(r, c)->eofs++;
    reactor_close(r, c);
}
static void collect_close(reactor *r, reactor_conn c, int reason, void *state) {
    (void)state;
    of(r, c)->closes++;
    of(r, c)->reason = reason;
}
static const reactor_handler collector = {0,    collect_open, collect_data, collect_eof,
                                          NULL, NULL,         NULL,         collect_close};

/* ---- starting ---- */

typedef struct start {
    reactor_spawn_options o;
    reactor_conn_options conn[3];
    collected got[3];
    told end;
    reactor_spawned out;
    const char *argv[4];
} start;

/* A shell with this script. */
static start *script(start *s, const char *text) {
    memset(s, 0, sizeof *s);
    s->argv[0] = "sh";
    s->argv[1] = "-c";
    s->argv[2] = text;
    s->o.argv = s->argv;
    s->o.on_exit = on_exit_told;
    s->o.user = &s->end;
    for (int i = 0; i < 3; i++) {
        s->conn[i].user = &s->got[i];
        s->o.streams[i].handler = &collector;
        s->o.streams[i].conn = &s->conn[i];
    }
    return s;
}

static void streams(start *s, int in, int out, int errors) {
    s->o.streams[0].what = in;
    s->o.streams[1].what = out;
    s->o.streams[2].what = errors;
}

static void go(reactor *r, start *s) {
    const int e = reactor_spawn(r, &s->o, &s->out);
    if (e < 0) fail_msg("reactor_spawn: %s", reactor_strerror(e));
    assert_true(s->out.pid > 0);
}

static void finished(start *s) {
    for (int i = 0; i < 3; i++) free(s->got[i].text);
}

/* Runs it to its end, and returns what it wrote to its output; the caller's to free. */
static char *output_of(reactor *r, start *s) {
    s->o.streams[1].what = REACTOR_SPAWN_STREAM;
    if (!s->o.streams[2].what) s->o.streams[2].what = REACTOR_SPAWN_OUTPUT;
    go(r, s);
    UNTIL(r, s->end.calls && s->got[1].closes);
    assert_int_equal(s->end.pid, s->out.pid);
    assert_int_equal(s->got[1].reason, 0);
    char *text = s->got[1].text ? s->got[1].text : (char *)calloc(1, 1);
    s->got[1].text = NULL;
    return text;
}

static void assert_output(reactor *r, start *s, const char *expected) {
    char *text = output_of(r, s);
    assert_string_equal(text, expected);
    assert_how(&s->end, 0, 0, 0);
    free(text);
}

/* A child of fork(2), which ends when its pipe does, with this code. */
static pid_t forked(int code, int *gate) {
    int fd[2];
    assert_return_code(pipe(fd), errno);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(fd[1]);
        while (read(fd[0], &byte, 1) < 0) {
        }
        _exit(code);
    }
    assert_return_code(pid, errno);
    close(fd[0]);
    fcntl(fd[1], F_SETFD, FD_CLOEXEC);
    *gate = fd[1];
    return pid;
}

/* ---- watching ---- */

CASE(an_end_is_told_once_with_code_or_signal) {
    const int codes[] = {0, 7, 255}, signums[] = {SIGTERM, SIGKILL, SIGABRT};
    reactor *r = begin();
    for (int i = 0; i < 3; i++) {
        told t = {0};
        int gate;
        pid_t pid = forked(codes[i], &gate);
        assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
        assert_int_equal(counters(r).children, 1);
        turns(r, 3);
        assert_int_equal(t.calls, 0);
        close(gate);
        assert_int_equal(reactor_run(r), 0); /* it keeps the loop going, and nothing else does */
        assert_how(&t, 0, codes[i], 0);
        assert_int_equal(t.pid, pid);
        assert_int_equal(counters(r).children, 0);
        memset(&t, 0, sizeof t);
        pid = forked(0, &gate);
        assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
        kill(pid, signums[i]);
        assert_int_equal(reactor_run(r), 0);
        assert_how(&t, 0, -1, signums[i]);
        close(gate);
        assert_int_equal(reactor_child(r, pid, NULL, NULL), -ENOENT);
    }
    assert_no_zombie();
    end(r);
}

CASE(one_that_has_ended_already_is_told) {
    reactor *r = begin();
    told t = {0};
    siginfo_t info;
    int gate;
    pid_t pid = forked(3, &gate);
    close(gate);
    assert_return_code(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), errno);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    assert_int_equal(t.calls, 0); /* no call calls back */
    assert_int_equal(reactor_run(r), 0);
    assert_how(&t, 0, 3, 0);
    assert_no_zombie();
    end(r);
}

CASE(who_is_no_child_is_ECHILD) {
    reactor *r = begin();
    told t = {0};
    int gate;
    pid_t pid = forked(0, &gate);
    close(gate);
    status_of(pid);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), -ECHILD);
    assert_int_equal(reactor_child(r, getppid(), on_exit_told, &t), -ECHILD);
    assert_int_equal(reactor_child(r, getpid(), on_exit_told, &t), -ECHILD);
    assert_int_equal(reactor_child(r, 0, on_exit_told, &t), -EINVAL);
    assert_int_equal(reactor_child(r, -1, on_exit_told, &t), -EINVAL);
    assert_int_equal(reactor_child(NULL, 1, on_exit_told, &t), -EINVAL);
    assert_int_equal(reactor_child(r, 1, NULL, NULL), -ENOENT);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(t.calls, 0);
    end(r);
}

static volatile sig_atomic_t hosts;
static void host_handler(int signum) {
    (void)signum;
    hosts++;
}

/* The host waits for its own children by itself, and its handler of SIGCHLD stays. */
CASE(the_hosts_other_children_and_its_handler_are_its_own) {
    reactor *r = begin();
    told t = {0};
    int gate, others;
    struct sigaction mine, now;
    hosts = 0;
    memset(&mine, 0, sizeof mine);
    mine.sa_handler = host_handler;
    mine.sa_flags = SA_RESTART;
    assert_return_code(sigaction(SIGCHLD, &mine, NULL), errno);
    pid_t pid = forked(1, &gate), other = forked(2, &others);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    assert_return_code(sigaction(SIGCHLD, NULL, &now), errno);
    assert_true(now.sa_handler == host_handler);
    close(others);
    close(gate);
    UNTIL(r, t.calls);
    turns(r, 5);
    assert_how(&t, 0, 1, 0);
    assert_true(hosts >= 1);
    assert_int_equal(WEXITSTATUS(status_of(other)), 2);
    signal(SIGCHLD, SIG_DFL);
    assert_no_zombie();
    end(r);
}

CASE(ignored_SIGCHLD_tells_the_end_all_the_same) {
    reactor *r = begin();
    told t = {0};
    start s;
    int gate;
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = forked(5, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    close(gate);
    assert_int_equal(reactor_run(r), 0);
    assert_how_or_lost(&t, 5, 0);
    script(&s, "exit 6");
    go(r, &s);
    assert_int_equal(reactor_run(r), 0);
    assert_how_or_lost(&s.end, 6, 0);
    s.argv[0] = "/no/such/program";
    assert_int_equal(reactor_spawn(r, &s.o, NULL), -ENOENT);
    signal(SIGCHLD, SIG_DFL);
    assert_no_zombie();
    end(r);
}

CASE(a_status_that_somebody_else_has_taken) {
    reactor *r = begin();
    told t = {0};
    int gate;
    pid_t pid = forked(5, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    close(gate);
    status_of(pid);
    assert_int_equal(reactor_run(r), 0);
    assert_how_or_lost(&t, 5, 0);
    end(r);
}

CASE(another_callback_and_none) {
    reactor *r = begin();
    told first = {0}, second = {0};
    int gate;
    pid_t pid = forked(4, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &first), 0);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &second), 0);
    close(gate);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(first.calls, 0);
    assert_how(&second, 0, 4, 0);
    pid = forked(9, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &first), 0);
    assert_int_equal(reactor_child_kill(r, pid, 0, 0), 0); /* forgotten with it */
    assert_int_equal(reactor_child(r, pid, NULL, NULL), 0);
    assert_int_equal(reactor_run(r), 0); /* nothing keeps it going */
    turns(r, 3);
    close(gate);
    assert_int_equal(WEXITSTATUS(status_of(pid)), 9);
    turns(r, 3);
    assert_int_equal(first.calls, 0);
    end(r);
}

/* ---- from inside callbacks ---- */

typedef struct chain {
    start s[3];
    int begun, ended, stops;
} chain;

static void on_exit_again(reactor *r, int pid, const reactor_exit *how, void *user) {
    chain *c = (chain *)user;
    (void)pid;
    assert_int_equal(how->code, c->ended++);
    if (c->begun < 3) {
        start *s = &c->s[c->begun];
        script(s, c->begun == 1 ? "exit 1" : "exit 2");
        s->o.on_exit = on_exit_again;
        s->o.user = c;
        go(r, s);
        c->begun++;
    }
    if (c->stops) reactor_stop(r);
}

CASE(a_child_ends_and_the_next_begins) {
    reactor *r = begin();
    chain c;
    memset(&c, 0, sizeof c);
    script(&c.s[0], "exit 0");
    c.s[0].o.on_exit = on_exit_again;
    c.s[0].o.user = &c;
    c.begun = 1;
    go(r, &c.s[0]);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(c.ended, 3);
    assert_no_zombie();
    end(r);
}

static void on_exit_stop(reactor *r, int pid, const reactor_exit *how, void *user) {
    (void)pid, (void)how;
    ++*(int *)user;
    reactor_stop(r);
}

/* What a stop leaves is told by the next run, and keeps it going. */
CASE(a_stop_between_two_that_have_ended) {
    reactor *r = begin();
    int calls = 0, gate[4];
    pid_t pid[4];
    siginfo_t info;
    for (int i = 0; i < 4; i++) {
        pid[i] = forked(0, &gate[i]);
        assert_int_equal(reactor_child(r, pid[i], on_exit_stop, &calls), 0);
    }
    for (int i = 3; i >= 0; i--) { /* those after it hold its gate, too */
        close(gate[i]);
        assert_return_code(waitid(P_PID, (id_t)pid[i], &info, WEXITED | WNOWAIT), errno);
    }
    for (int i = 1; i <= 4; i++) {
        assert_int_equal(reactor_run(r), 0);
        assert_int_equal(calls, i);
    }
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(calls, 4);
    assert_no_zombie();
    end(r);
}

static void on_exit_destroy(reactor *r, int pid, const reactor_exit *how, void *user) {
    (void)pid, (void)how;
    ++*(int *)user;
    reactor_destroy(r);
}

/* Of two that have ended, the first one's callback destroys the loop: the second is told then. */
CASE(destroyed_by_the_first_of_two) {
    int calls = 0, gate[2];
    told t = {0};
    reactor *r = begin();
    siginfo_t info;
    pid_t pid[2];
    for (int i = 0; i < 2; i++) {
        pid[i] = forked(i, &gate[i]);
        close(gate[i]);
        assert_return_code(waitid(P_PID, (id_t)pid[i], &info, WEXITED | WNOWAIT), errno);
    }
    assert_int_equal(reactor_child(r, pid[0], on_exit_destroy, &calls), 0);
    assert_int_equal(reactor_child(r, pid[1], on_exit_told, &t), 0);
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(calls, 1);
    assert_how(&t, 0, 1, 0);
    assert_int_equal(open_descriptors(), descriptors_before);
    assert_no_zombie();
}

/* The children run on, and nobody is told. */
CASE(destroy_lets_children_run_on) {
    reactor *r = begin();
    told t = {0};
    start s;
    int gate;
    pid_t pid = forked(8, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    assert_int_equal(reactor_child_kill(r, pid, 0, 1), 0);
    script(&s, "exec sleep 1000");
    streams(&s, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM);
    go(r, &s);
    reactor_destroy(r);
    close(gate);
    assert_int_equal(WEXITSTATUS(status_of(pid)), 8);
    assert_int_equal(t.calls, 0);
    assert_int_equal(s.end.calls, 0);
    for (int i = 0; i < 3; i++) assert_int_equal(s.got[i].reason, -ECANCELED);
    assert_int_equal(kill(s.out.pid, SIGKILL), 0);
    assert_int_equal(WTERMSIG(status_of(s.out.pid)), SIGKILL);
    assert_int_equal(open_descriptors(), descriptors_before);
    assert_no_zombie();
}

static void refused_by_now(reactor *r, reactor_conn c, int reason, void *state) {
    start *s = (start *)reactor_user(r, c);
    (void)reason, (void)state;
    s->got[0].closes++;
    assert_int_equal(reactor_spawn(r, &s->o, NULL), -ECANCELED);
    assert_int_equal(reactor_child(r, getppid(), on_exit_told, s), -ECANCELED);
}

CASE(nothing_begins_while_the_loop_is_destroyed) {
    static const reactor_handler h = {0, NULL, NULL, NULL, NULL, NULL, NULL, refused_by_now};
    reactor *r = begin();
    reactor_conn_options o;
    start s;
    int fd[2];
    script(&s, "exit 0");
    memset(&o, 0, sizeof o);
    o.user = &s;
    make_pair(fd);
    assert_int_equal(reactor_attach(r, fd[0], &h, &o, NULL), 0);
    reactor_destroy(r);
    close(fd[1]);
    assert_int_equal(s.got[0].closes, 1);
    assert_int_equal(open_descriptors(), descriptors_before);
}

/* An outer loop hears of a child's end. */
CASE(a_nested_loop_hears_of_it) {
    if (!backend_nests()) skip();
    reactor *r = begin();
    told t = {0};
    int gate;
    struct pollfd p = {reactor_fd(r), POLLIN, 0};
    pid_t pid = forked(0, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    turns(r, 2);
    assert_int_equal(poll(&p, 1, 0), 0);
    close(gate);
    assert_int_equal(poll(&p, 1, 20000), 1);
    while (!t.calls) turns(r, 1);
    assert_how(&t, 0, 0, 0);
    siginfo_t info;
    pid = forked(1, &gate);
    close(gate);
    assert_return_code(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), errno);
    memset(&t, 0, sizeof t);
    turns(r, 2);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0); /* outside a turn */
    assert_int_equal(poll(&p, 1, 20000), 1);
    turns(r, 1);
    assert_how(&t, 0, 1, 0);
    end(r);
}

static void count_line(const char *line, void *user) {
    if (strncmp(line, "child pid=", 10) == 0) ++*(int *)user;
}

CASE(dump_names_children) {
    reactor *r = begin();
    told t = {0};
    int gate, lines = 0;
    pid_t pid = forked(0, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    assert_int_equal(reactor_dump(r, count_line, &lines), 0);
    assert_int_equal(lines, 1);
    close(gate);
    assert_int_equal(reactor_run(r), 0);
    end(r);
}

/* ---- forks ---- */

/* The parent's children are not the child's: its copy of the loop hears so, and takes no SIGKILL
   along. */
CASE(a_fork_hears_that_they_are_not_its_own) {
    if (libkqueue_cannot("be used in a child")) skip();
    reactor *r = begin();
    told t = {0};
    int gate;
    pid_t pid = forked(3, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    assert_int_equal(reactor_child_kill(r, pid, 0, 60000), 0);
    turns(r, 1);
    pid_t child = fork();
    if (child == 0) {
        alarm(30);
        close(gate);
        MUST(reactor_child_kill(r, pid, SIGKILL, -1) == -ECHILD);
        MUST(reactor_fork(r) == 0);
        MUST(reactor_run(r) == 0);
        MUST(t.calls == 1 && t.how.error == -ECHILD && t.how.code == -1 && t.pid == pid);
        MUST(reactor_child(r, pid, on_exit_told, &t) == -ECHILD);
        start s; /* its own are its own */
        script(&s, "exit 4");
        MUST(reactor_spawn(r, &s.o, &s.out) == 0 && reactor_run(r) == 0);
        MUST(s.end.calls == 1 && s.end.how.code == 4);
        reactor_destroy(r);
        _exit(0);
    }
    assert_int_equal(status_of(child), 0);
    turns(r, 2);
    assert_int_equal(t.calls, 0);
    close(gate);
    assert_int_equal(reactor_run(r), 0);
    assert_how(&t, 0, 3, 0);
    end(r);
}

typedef struct emigrant {
    pid_t child, watched;
    int before;
} emigrant;

static void emigrate(reactor *r, reactor_timer t, void *user) {
    emigrant *e = (emigrant *)user;
    (void)t;
    e->child = fork();
    if (e->child) return;
    reactor_destroy(r);
    MUST(open_descriptors() == e->before);
    MUST(reactor_child_kill(r, e->watched, SIGKILL, -1) < 0);
    MUST(reactor_child(r, getppid(), on_exit_told, NULL) == -ECANCELED);
}

CASE(a_fork_that_destroys_its_copy_in_a_callback) {
    if (libkqueue_cannot("be used in a child")) skip();
    emigrant e = {-1, 0, 0};
    told t = {0};
    int gate;
    e.before = open_descriptors() + 1; /* the gate */
    reactor *r = begin();
    e.watched = forked(2, &gate);
    assert_int_equal(reactor_child(r, e.watched, on_exit_told, &t), 0);
    assert_int_equal(reactor_child_kill(r, e.watched, 0, 60000), 0);
    assert_int_equal(reactor_after(r, 1, emigrate, &e, NULL), 0);
    while (e.child < 0) reactor_poll(r, 1000);
    if (e.child == 0) _exit(0);
    assert_int_equal(status_of(e.child), 0);
    pid_t child = fork(); /* and outside one */
    if (child == 0) {
        close(gate);
        reactor_destroy(r);
        _exit(0);
    }
    assert_int_equal(status_of(child), 0);
    close(gate);
    assert_int_equal(reactor_run(r), 0);
    assert_how(&t, 0, 2, 0);
    end(r);
}

/* ---- signals and deadlines ---- */

CASE(kill_sends_and_the_deadline_ends) {
    reactor *r = begin();
    start s;
    script(&s, "trap 'exit 5' TERM; echo; while :; do sleep 0.01; done");
    streams(&s, 0, REACTOR_SPAWN_STREAM, 0);
    go(r, &s);
    UNTIL(r, s.got[1].len);
    assert_int_equal(reactor_child_kill(r, s.out.pid, SIGTERM, 60000), 0);
    UNTIL(r, s.end.calls && s.got[1].closes);
    assert_how(&s.end, 0, 5, 0);
    finished(&s);
    assert_int_equal(reactor_child_kill(r, s.out.pid, SIGTERM, -1), -ENOENT);

    script(&s, "trap '' TERM; echo; while :; do sleep 0.01; done");
    streams(&s, 0, REACTOR_SPAWN_STREAM, 0);
    go(r, &s);
    UNTIL(r, s.got[1].len);
    const int64_t begun = clock_ns();
    assert_int_equal(reactor_child_kill(r, s.out.pid, SIGTERM, 60000), 0);
    assert_int_equal(reactor_child_kill(r, s.out.pid, 0, 30), 0); /* the last word counts */
    UNTIL(r, s.end.calls && s.got[1].closes);
    assert_how(&s.end, 0, -1, SIGKILL);
    assert_true(clock_ns() - begun >= 30 * INT64_C(1000000));
    finished(&s);
    assert_no_zombie();
    end(r);
}

CASE(a_deadline_is_taken_back) {
    reactor *r = begin();
    told t = {0};
    int gate;
    pid_t pid = forked(6, &gate);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    assert_int_equal(reactor_child_kill(r, pid, 0, 20), 0);
    assert_int_equal(reactor_child_kill(r, pid, 0, -1), 0);
    pass(r, 40);
    assert_int_equal(t.calls, 0);
    close(gate);
    assert_int_equal(reactor_run(r), 0);
    assert_how(&t, 0, 6, 0);
    end(r);
}

CASE(kill_refuses_what_is_wrong) {
    reactor *r = begin();
    told t = {0};
    int gate;
    siginfo_t info;
    pid_t pid = forked(6, &gate);
    assert_int_equal(reactor_child_kill(r, pid, SIGTERM, -1), -ENOENT);
    assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    assert_int_equal(reactor_child_kill(r, pid, -1, -1), -EINVAL);
    assert_int_equal(reactor_child_kill(r, pid, 100000, -1), -EINVAL);
    assert_int_equal(reactor_child_kill(r, pid, SIGTERM, -2), -EINVAL);
    assert_int_equal(reactor_child_kill(r, 0, SIGTERM, 0), -EINVAL);
    assert_int_equal(reactor_child_kill(NULL, pid, SIGTERM, 0), -EINVAL);
    close(gate);
    assert_return_code(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), errno);
    assert_int_equal(reactor_child_kill(r, pid, SIGTERM, -1), 0); /* it has ended */
    assert_int_equal(reactor_run(r), 0);
    assert_how(&t, 0, 6, 0);
    end(r);
}

/* A shell's own children get the signal too. */
CASE(a_group_is_killed_as_one) {
    for (int session = 0; session < 2; session++) {
        reactor *r = begin();
        start s;
        script(&s, "sleep 1000 & sleep 1000 & echo; wait");
        streams(&s, 0, REACTOR_SPAWN_STREAM, 0);
        s.o.group = !session;
        s.o.session = session;
        go(r, &s);
        UNTIL(r, s.got[1].len);
        assert_int_equal(getpgid(s.out.pid), s.out.pid);
        assert_int_equal(getsid(s.out.pid) == s.out.pid, session);
        assert_int_equal(reactor_child_kill(r, s.out.pid, SIGTERM, 60000), 0);
        /* The pipe ends when all three have. */
        UNTIL(r, s.end.calls && s.got[1].closes);
        assert_how(&s.end, 0, -1, SIGTERM);
        finished(&s);
        end(r);
    }
}

/* ---- starting ---- */

CASE(arguments_environment_and_directory_are_as_given) {
    const char *const environment[] = {"A=1", "B=with space", "PATH=/usr/bin:/bin", NULL};
    const char *const odd[] = {"printf", "%s|", "", "a b", "\"q\" \\", "$HOME *", "\xff\n", NULL};
    char real[PATH_MAX], expected[PATH_MAX + 40];
    reactor *r = begin();
    start s;
    script(&s, "");
    s.o.argv = odd;
    assert_output(r, &s, "|a b|\"q\" \\|$HOME *|\xff\n|");
    script(&s, "echo $A $B; pwd; echo $0");
    s.o.environment = environment;
    s.o.directory = "/tmp";
    assert_non_null(realpath("/tmp", real));
    snprintf(expected, sizeof expected, "1 with space\n%s\nsh\n", real);
    assert_output(r, &s, expected);
    script(&s, "echo $0"); /* a name of its own */
    s.o.file = "/bin/sh";
    s.argv[0] = "other";
    assert_output(r, &s, "other\n");
    assert_return_code(setenv("REACTOR_TEST_INHERITED", "yes", 1), errno);
    script(&s, "echo $REACTOR_TEST_INHERITED");
    assert_output(r, &s, "yes\n");
    unsetenv("REACTOR_TEST_INHERITED");
    assert_no_zombie();
    end(r);
}

/* A folder with a program in it that says which one it is, and one that may not be run. */
static void make_program(const char *folder, const char *name, const char *says, int mode) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\necho %s\n", says);
    fclose(f);
    assert_return_code(chmod(path, (mode_t)mode), errno);
}

CASE(the_program_is_looked_for_in_its_own_path) {
    char top[] = "/tmp/reactor-test-XXXXXX", a[100], b[100], path[400];
    const char *environment[] = {path, NULL};
    reactor *r = begin();
    start s;
    assert_non_null(mkdtemp(top));
    snprintf(a, sizeof a, "%s/a", top);
    snprintf(b, sizeof b, "%s/b", top);
    assert_return_code(mkdir(a, 0700), errno);
    assert_return_code(mkdir(b, 0700), errno);
    make_program(a, "first", "a", 0700);
    make_program(b, "first", "b", 0700);
    make_program(a, "denied", "a", 0600);
    make_program(b, "denied", "b", 0700);
    make_program(a, "never", "a", 0600);
    snprintf(path, sizeof path, "PATH=/no/such:%s/a/first:%s:%s", top, a, b);
    script(&s, "");
    s.o.environment = environment;
    s.argv[1] = NULL;
    s.argv[0] = "first";
    assert_output(r, &s, "a\n");
    script(&s, "");
    s.o.environment = environment;
    s.argv[1] = NULL;
    s.argv[0] = "denied";
    assert_output(r, &s, "b\n");
    s.argv[0] = "never";
    assert_int_equal(reactor_spawn(r, &s.o, NULL), -EACCES);
    s.argv[0] = "nowhere";
    assert_int_equal(reactor_spawn(r, &s.o, NULL), -ENOENT);
    script(&s, ""); /* an empty folder is where it begins, and so does a relative path */
    snprintf(path, sizeof path, "PATH=");
    s.o.environment = environment;
    s.o.directory = b;
    s.argv[1] = NULL;
    s.argv[0] = "first";
    assert_output(r, &s, "b\n");
    script(&s, "");
    s.o.directory = b;
    s.argv[1] = NULL;
    s.argv[0] = "../a/first";
    assert_output(r, &s, "a\n");
    snprintf(path, sizeof path, "rm -r %s", top);
    assert_int_equal(system(path), 0);
    assert_no_zombie();
    end(r);
}

/* A megabyte there and back: both ways at once, with the coupling of streams. */
CASE(streams_are_connections) {
    enum { LEN = 1024 * 1024 };
    reactor *r = begin();
    start s;
    char *data = pattern_new(LEN, 5, 0);
    script(&s, "cat; echo end >&2");
    streams(&s, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM);
    go(r, &s);
    assert_true(reactor_write(r, s.out.streams[0], data, LEN) >= 0);
    assert_int_equal(reactor_shutdown(r, s.out.streams[0]), 0);
    UNTIL(r, s.end.calls && s.got[1].closes && s.got[2].closes);
    reactor_close(r, s.out.streams[0]);
    UNTIL(r, s.got[0].closes);
    assert_how(&s.end, 0, 0, 0);
    assert_int_equal(s.got[1].len, LEN);
    assert_memory_equal(s.got[1].text, data, LEN);
    assert_string_equal(s.got[2].text, "end\n");
    for (int i = 0; i < 3; i++) assert_int_equal(s.got[i].opens, 1);
    assert_int_equal(s.got[0].eofs, 0);
    free(data);
    finished(&s);
    assert_no_zombie();
    end(r);
}

CASE(null_file_inherited_merged) {
    char text[200], path[] = "/tmp/reactor-test-XXXXXX";
    reactor *r = begin();
    start s;
    script(&s, "wc -c; echo lost >&2"); /* NULL */
    streams(&s, REACTOR_SPAWN_NULL, 0, REACTOR_SPAWN_NULL);
    char *got = output_of(r, &s);
    assert_int_equal(atoi(got), 0);
    free(got);
    script(&s, "echo one; echo two >&2; echo three"); /* OUTPUT: in order */
    streams(&s, REACTOR_SPAWN_NULL, 0, REACTOR_SPAWN_OUTPUT);
    assert_output(r, &s, "one\ntwo\nthree\n");
    int file = mkstemp(path); /* FILE, for two; its open file is the caller's still */
    assert_return_code(file, errno);
    unlink(path);
    script(&s, "echo out; echo err >&2");
    streams(&s, 0, REACTOR_SPAWN_FILE, REACTOR_SPAWN_FILE);
    s.o.streams[1].file = s.o.streams[2].file = file;
    go(r, &s);
    UNTIL(r, s.end.calls);
    memset(text, 0, sizeof text);
    assert_int_equal(pread(file, text, sizeof text, 0), 8);
    assert_string_equal(text, "out\nerr\n");
    assert_return_code(ftruncate(file, 0), errno);
    assert_return_code(lseek(file, 0, SEEK_SET), errno);
    int kept = dup(1); /* INHERIT: that of this process, here the file */
    assert_return_code(dup2(file, 1), errno);
    script(&s, "echo inherited");
    go(r, &s);
    UNTIL(r, s.end.calls);
    assert_return_code(dup2(kept, 1), errno);
    close(kept);
    assert_true(pread(file, text, sizeof text, 0) > 0);
    assert_non_null(strstr(text, "inherited\n"));
    close(file);
    s.o.streams[1].what = REACTOR_SPAWN_FILE;
    s.o.streams[1].file = file;
    assert_int_equal(reactor_spawn(r, &s.o, NULL), -EBADF);
    assert_no_zombie();
    end(r);
}

/* Files that are 0, 1 and 2 here, and change places there. */
CASE(files_change_places) {
    int kept[3], in[2], pipes[2];
    char got[64];
    reactor *r = begin();
    start s;
    assert_return_code(pipe(in), errno);
    assert_return_code(pipe(pipes), errno);
    assert_int_equal(write(in[1], "text", 4), 4);
    close(in[1]);
    for (int i = 0; i < 3; i++) kept[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
    fflush(stdout);
    dup2(pipes[1], 0); /* 0 is where output goes, 1 is nothing, 2 is the input */
    dup2(in[0], 2);
    script(&s, "cat; cat <&3; echo 4 >&4");
    streams(&s, REACTOR_SPAWN_FILE, REACTOR_SPAWN_FILE, REACTOR_SPAWN_OUTPUT);
    s.o.streams[0].file = 2;
    s.o.streams[1].file = 0;
    const int given[] = {2, 0};
    s.o.files = given;
    s.o.file_count = 2;
    const int e = reactor_spawn(r, &s.o, &s.out);
    for (int i = 0; i < 3; i++) {
        dup2(kept[i], i);
        close(kept[i]);
    }
    assert_int_equal(e, 0);
    close(pipes[1]);
    close(in[0]);
    UNTIL(r, s.end.calls);
    assert_how(&s.end, 0, 0, 0);
    assert_int_equal(read(pipes[0], got, sizeof got), 6);
    assert_memory_equal(got, "text4\n", 6);
    close(pipes[0]);
    end(r);
}

/* What is not named is not given, close-on-exec or not; and no number below 3 is closed. */
CASE(no_descriptor_leaks_into_the_program) {
    if (old_kernel()) skip(); /* no close_range */
    reactor *r = begin();
    start s;
    int open_one = open("/dev/null", O_RDONLY), high = fcntl(open_one, F_DUPFD, 200);
    int others[2];
    make_pair(others);
    script(&s, "for i in 0 1 2 3 4 5 6 7 8 9; do [ ! -e /dev/fd/$i ] || echo $i; done;"
               " [ ! -e /dev/fd/200 ] || echo 200");
    char *text = output_of(r, &s);
    /* The shell's own, by which it reads or lists, is above 9 or is not there while it looks. */
    assert_string_equal(text, "0\n1\n2\n");
    free(text);
    script(
        &s,
        "exec 2>/dev/null; for i in 0 1 2 3 4 5 6 7 8 9; do [ ! -e /dev/fd/$i ] || echo $i; done");
    s.o.files = &high;
    s.o.file_count = 1;
    assert_output(r, &s, "0\n1\n2\n3\n");
    int kept[3];
    for (int i = 0; i < 3; i++) kept[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
    fflush(stdout);
    close(0); /* none to inherit: NULL */
    close(2);
    script(&s, "[ -e /dev/fd/0 ] && [ -e /dev/fd/2 ] && wc -c");
    streams(&s, 0, REACTOR_SPAWN_STREAM, 0);
    const int e = reactor_spawn(r, &s.o, &s.out);
    for (int i = 0; i < 3; i++) {
        dup2(kept[i], i);
        close(kept[i]);
    }
    assert_int_equal(e, 0);
    UNTIL(r, s.end.calls && s.got[1].closes);
    assert_how(&s.end, 0, 0, 0);
    finished(&s);
    close(open_one), close(high), close(others[0]), close(others[1]);
    end(r);
}

/* A program that inherits an ignored SIGPIPE or a blocked SIGTERM misbehaves in ways that are hard to
   find. */
CASE(signals_begin_as_for_any_program) {
    reactor *r = begin();
    start s;
    sigset_t some, before;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &some, &before), 0);
    script(&s, "kill -PIPE $$; exit 3");
    go(r, &s);
    UNTIL(r, s.end.calls);
    assert_how(&s.end, 0, -1, SIGPIPE);
    script(&s, "kill -TERM $$; exit 3");
    go(r, &s);
    UNTIL(r, s.end.calls);
    assert_how(&s.end, 0, -1, SIGTERM);
    script(&s, "kill -USR1 $$; exit 3");
    go(r, &s);
    UNTIL(r, s.end.calls);
    assert_how(&s.end, 0, -1, SIGUSR1);
    sigset_t now; /* here all is as it was */
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, &now), 0);
    assert_int_equal(sigismember(&now, SIGTERM), 1);
    assert_int_equal(sigismember(&now, SIGINT), sigismember(&before, SIGINT));
    assert_true(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
    end(r);
}

/* ---- what fails ---- */

/* Nothing of it is left, and nobody hears of it. */
static void assert_fails(reactor *r, start *s, int error) {
    const int before = open_descriptors();
    const reactor_counters c = counters(r);
    streams(s, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM);
    memset(&s->out, 0x55, sizeof s->out);
    assert_int_equal(reactor_spawn(r, &s->o, &s->out), error);
    assert_int_equal(s->out.pid, 0);
    for (int i = 0; i < 3; i++) assert_true(s->out.streams[i].id == 0);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(counters(r).connections, c.connections);
    assert_int_equal(counters(r).children, c.children);
    turns(r, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(s->got[i].opens + s->got[i].closes, 0);
    assert_int_equal(s->end.calls, 0);
    assert_no_zombie();
}

static void as_program(start *s, const char *name) {
    script(s, "");
    s->argv[0] = name;
    s->argv[1] = NULL;
}

CASE(exec_failures_are_the_calls_own) {
    char path[] = "/tmp/reactor-test-XXXXXX", *text = (char *)malloc(8 * MIB);
    reactor *r = begin();
    start s;
    int file = mkstemp(path);
    assert_return_code(file, errno);
    assert_int_equal(write(file,
                           "\x7f"
                           "ELF no",
                           7),
                     7);
    as_program(&s, "/no/such/program");
    assert_fails(r, &s, -ENOENT);
    as_program(&s, "no-such-program");
    assert_fails(r, &s, -ENOENT);
    as_program(&s, "");
    assert_fails(r, &s, -ENOENT);
    as_program(&s, "/tmp");
    assert_fails(r, &s, -EACCES);
    as_program(&s, path);
    assert_fails(r, &s, -EACCES);
    assert_return_code(fchmod(file, 0700), errno);
    close(file);
    as_program(&s, path);
    assert_fails(r, &s, -ENOEXEC);
    as_program(&s, "/etc/passwd/x");
    assert_fails(r, &s, -ENOTDIR);
    script(&s, "exit 0");
    s.o.directory = "/no/such/folder";
    assert_fails(r, &s, -ENOENT);
    s.o.directory = "/etc/passwd";
    assert_fails(r, &s, -ENOTDIR);
    assert_non_null(text);
    memset(text, 'x', 8 * MIB - 1);
    text[8 * MIB - 1] = '\0';
    script(&s, text);
    assert_fails(r, &s, -E2BIG);
    free(text);
    unlink(path);
    end(r);
}

CASE(bad_options_are_refused) {
    const char *const nothing[] = {NULL};
    const int closed = 900;
    reactor *r = begin();
    start s;
    assert_int_equal(reactor_spawn(r, NULL, NULL), -EINVAL);
    script(&s, "");
    assert_int_equal(reactor_spawn(NULL, &s.o, NULL), -EINVAL);
    s.o.argv = NULL;
    assert_fails(r, &s, -EINVAL);
    s.o.argv = nothing;
    assert_fails(r, &s, -EINVAL);
    s.o.argv = s.argv;
    s.o.group = 2;
    assert_fails(r, &s, -EINVAL);
    s.o.group = 0;
    s.o.session = -1;
    assert_fails(r, &s, -EINVAL);
    s.o.session = 0;
    s.o.file_count = -1;
    assert_fails(r, &s, -EINVAL);
    s.o.file_count = 1;
    assert_fails(r, &s, -EINVAL);
    s.o.files = &closed;
    assert_fails(r, &s, -EBADF);
    s.o.file_count = 0;
    s.o.streams[1].handler = NULL;
    assert_fails(r, &s, -EINVAL);
    s.o.streams[1].handler = &collector;
    s.conn[2].low_water = 10;
    s.conn[2].high_water = 5;
    assert_fails(r, &s, -EINVAL); /* of reactor_attach, with two streams made */
    streams(&s, REACTOR_SPAWN_OUTPUT, 0, 0);
    assert_int_equal(reactor_spawn(r, &s.o, NULL), -EINVAL);
    streams(&s, 0, 5, 0);
    assert_int_equal(reactor_spawn(r, &s.o, NULL), -EINVAL);
    streams(&s, -1, 0, 0);
    assert_int_equal(reactor_spawn(r, &s.o, NULL), -EINVAL);
    end(r);
}

/* With room for so many descriptors and no more it works or says EMFILE; then again with one more. */
CASE(descriptors_run_out_at_every_point) {
    struct rlimit before, few;
    reactor *r = begin();
    start s;
    int worked = 0;
    script(&s, "exit 0"); /* whatever the loop opens once */
    go(r, &s);
    UNTIL(r, s.end.calls);
    assert_return_code(getrlimit(RLIMIT_NOFILE, &before), errno);
    few = before;
    for (int room = 0; room < 40 && worked < 3; room++) {
        script(&s, "exit 0");
        streams(&s, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM);
        int lowest = dup(0); /* the limit is one of numbers */
        close(lowest);
        few.rlim_cur = (rlim_t)(lowest + room);
        const int open_before = open_descriptors();
        assert_return_code(setrlimit(RLIMIT_NOFILE, &few), errno);
        const int e = reactor_spawn(r, &s.o, &s.out);
        assert_return_code(setrlimit(RLIMIT_NOFILE, &before), errno);
        if (e == 0) {
            worked++;
            reactor_close(r, s.out.streams[0]);
            UNTIL(r, s.end.calls && s.got[0].closes && s.got[1].closes && s.got[2].closes);
            assert_how(&s.end, 0, 0, 0);
        } else {
            assert_int_equal(e, -EMFILE);
        }
        turns(r, 2);
        assert_int_equal(open_descriptors(), open_before);
        assert_no_zombie();
    }
    assert_int_equal(worked, 3);
    int gate; /* reactor_child alone */
    told t = {0};
    pid_t pid = forked(1, &gate);
    int lowest = dup(0);
    close(lowest);
    few.rlim_cur = (rlim_t)lowest;
    assert_return_code(setrlimit(RLIMIT_NOFILE, &few), errno);
    const int e = reactor_child(r, pid, on_exit_told, &t);
    assert_return_code(setrlimit(RLIMIT_NOFILE, &before), errno);
    assert_true(e == -EMFILE || e == 0); /* 0: where children are only looked at */
    if (e < 0) assert_int_equal(reactor_child(r, pid, on_exit_told, &t), 0);
    close(gate);
    assert_int_equal(reactor_run(r), 0);
    assert_how(&t, 0, 1, 0);
    end(r);
}

/* In a process of its own, which has no rights to be beyond the limit. */
CASE(no_more_processes_is_EAGAIN) {
    if (emulated()) skip();
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {1, 1};
        start s;
        reactor_options options;
        reactor *r;
        alarm(30);
        if (getuid() == 0 && setuid(54321) < 0) _exit(77);
        memset(&options, 0, sizeof options);
        options.backend = backend_under_test();
        MUST(reactor_create(&r, &options) == 0);
        MUST(setrlimit(RLIMIT_NPROC, &none) == 0);
        script(&s, "exit 0");
        streams(&s, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM);
        const int before = open_descriptors();
        MUST(reactor_spawn(r, &s.o, &s.out) == -EAGAIN);
        MUST(open_descriptors() == before && reactor_run(r) == 0 && !s.got[1].opens);
        reactor_destroy(r);
        _exit(0);
    }
    const int status = status_of(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip();
    assert_int_equal(status, 0);
}

/* The system refuses pidfds, as before Linux 5.3 and in some sandboxes: the timer looks. */
#if defined(__linux__) && defined(SECCOMP_RET_ERRNO) && defined(__NR_pidfd_open)
static int refuse_pidfds(void) {
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {COUNT(f), f};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return 0;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == 0;
}
#else
static int refuse_pidfds(void) { return 0; }
#endif

CASE(without_pidfds_children_are_looked_at) {
    pid_t pid = fork();
    if (pid == 0) {
        reactor_options options;
        reactor *r;
        told t = {0}, late = {0};
        start s;
        int gate;
        alarm(30);
        if (emulated() || !refuse_pidfds()) _exit(77);
        memset(&options, 0, sizeof options);
        options.backend = backend_under_test();
        MUST(reactor_create(&r, &options) == 0);
        pid_t first = forked(3, &gate);
        MUST(reactor_child(r, getppid(), on_exit_told, &t) == -ECHILD);
        MUST(reactor_child(r, first, on_exit_told, &t) == 0);
        script(&s, "exit 4");
        MUST(reactor_spawn(r, &s.o, &s.out) == 0);
        while (!s.end.calls) MUST(reactor_poll(r, 1000) >= 0);
        MUST(s.end.how.code == 4 && !t.calls);
        close(gate);
        MUST(reactor_run(r) == 0);
        MUST(t.calls == 1 && t.how.code == 3);
        script(&s, "exec sleep 1000"); /* killed by its number */
        MUST(reactor_spawn(r, &s.o, &s.out) == 0);
        MUST(reactor_child_kill(r, s.out.pid, SIGTERM, -1) == 0);
        MUST(reactor_run(r) == 0 && s.end.how.signum == SIGTERM);
        first = forked(3, &gate); /* somebody else waits */
        MUST(reactor_child(r, first, on_exit_told, &late) == 0);
        close(gate);
        MUST(waitpid(first, NULL, 0) == first);
        MUST(reactor_run(r) == 0 && late.how.error == -ECHILD);
        /* With nobody to look at, the loop sleeps. */
        reactor_counters c, d;
        MUST(reactor_stats(r, &c) == 0 && reactor_poll(r, 60) == 0 && reactor_stats(r, &d) == 0);
        MUST(c.timers_fired == d.timers_fired);
        reactor_destroy(r);
        MUST(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
        _exit(0);
    }
    const int status = status_of(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip();
    assert_int_equal(status, 0);
}

/* ---- many ---- */

/* The end is told although somebody whom the child started holds the pipes. */
CASE(grandchildren_hold_the_pipes) {
    reactor *r = begin();
    start s;
    /* A background job of a shell reads from /dev/null unless told otherwise. */
    script(&s, "exec 3<&0; echo $$; (read x; echo late) <&3 & exit 2");
    streams(&s, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM);
    go(r, &s);
    UNTIL(r, s.end.calls && s.got[1].len);
    turns(r, 10);
    assert_how(&s.end, 0, 2, 0);
    assert_int_equal(s.got[1].closes, 0);
    assert_int_equal(reactor_write(r, s.out.streams[0], "go\n", 3), 0);
    assert_int_equal(reactor_close(r, s.out.streams[0]), 0);
    UNTIL(r, s.got[0].closes && s.got[1].closes && s.got[2].closes);
    assert_non_null(strstr(s.got[1].text, "late\n"));
    finished(&s);
    assert_no_zombie();
    end(r);
}

CASE(many_at_once) {
    const int many = long_run() ? 1000 : 100;
    reactor *r = begin();
    start *s = (start *)calloc((size_t)many, sizeof *s);
    struct rlimit before, more;
    int ended = 0;
    assert_return_code(getrlimit(RLIMIT_NOFILE, &before), errno);
    more = before;
    more.rlim_cur = before.rlim_max < 8192 ? before.rlim_max : 8192;
    assert_return_code(setrlimit(RLIMIT_NOFILE, &more), errno);
    assert_non_null(s);
    for (int i = 0; i < many; i++) {
        script(&s[i], "cat; exit 1");
        streams(&s[i], REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, 0);
        go(r, &s[i]);
        assert_int_equal(reactor_write(r, s[i].out.streams[0], &i, sizeof i), 0);
    }
    assert_int_equal(counters(r).children, many);
    for (int i = 0; i < many; i++) assert_int_equal(reactor_close(r, s[i].out.streams[0]), 0);
    while (ended < many) {
        UNTIL(r, s[ended].end.calls && s[ended].got[1].closes);
        ended++;
    }
    for (int i = 0; i < many; i++) {
        assert_how(&s[i].end, 0, 1, 0);
        assert_int_equal(s[i].end.pid, s[i].out.pid);
        assert_int_equal(s[i].got[1].len, sizeof i);
        assert_memory_equal(s[i].got[1].text, &i, sizeof i);
        finished(&s[i]);
    }
    free(s);
    assert_no_zombie();
    end(r);
    assert_return_code(setrlimit(RLIMIT_NOFILE, &before), errno);
}

CASE(many_in_a_row) {
    const int many = long_run() ? 20000 : 100;
    reactor *r = begin();
    for (int i = 0; i < many; i++) {
        start s;
        script(&s, NULL);
        s.argv[0] = i % 2 ? "/bin/true" : "/bin/false";
        s.argv[1] = NULL;
        go(r, &s);
        assert_int_equal(reactor_run(r), 0);
        assert_how(&s.end, 0, !(i % 2), 0);
    }
    assert_int_equal(counters(r).children, 0);
    assert_no_zombie();
    end(r);
}

/* Two loops, each on a thread of its own, start programs at the same time: no pipe of one is held
   open by a program of the other, so each ends. */
static int starting_done;
static void *starting(void *user) {
    reactor_options options;
    reactor *r;
    (void)user;
    memset(&options, 0, sizeof options);
    options.backend = backend_under_test();
    if (reactor_create(&r, &options) < 0) return NULL;
    int right = 0;
    for (int i = 0; i < 20; i++) {
        start s;
        script(&s, "cat");
        streams(&s, REACTOR_SPAWN_STREAM, REACTOR_SPAWN_STREAM, 0);
        if (reactor_spawn(r, &s.o, &s.out) < 0) break;
        reactor_write(r, s.out.streams[0], "x", 1);
        reactor_close(r, s.out.streams[0]);
        if (reactor_run(r) < 0) break;
        right += s.end.how.code == 0 && s.got[1].len == 1 && s.got[1].closes == 1;
        finished(&s);
    }
    reactor_destroy(r);
    return right == 20 ? &starting_done : NULL;
}

CASE(two_threads_start_programs) {
    if (libkqueue_cannot("be used by two threads at once")) skip();
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, starting, NULL), 0);
    for (int i = 0; i < 2; i++) {
        void *right = NULL;
        assert_int_equal(pthread_join(thread[i], &right), 0);
        assert_non_null(right);
    }
    assert_no_zombie();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_end_is_told_once_with_code_or_signal),
        TEST(one_that_has_ended_already_is_told),
        TEST(who_is_no_child_is_ECHILD),
        TEST(the_hosts_other_children_and_its_handler_are_its_own),
        TEST(ignored_SIGCHLD_tells_the_end_all_the_same),
        TEST(a_status_that_somebody_else_has_taken),
        TEST(another_callback_and_none),
        TEST(a_child_ends_and_the_next_begins),
        TEST(a_stop_between_two_that_have_ended),
        TEST(destroyed_by_the_first_of_two),
        TEST(destroy_lets_children_run_on),
        TEST(nothing_begins_while_the_loop_is_destroyed),
        TEST(a_nested_loop_hears_of_it),
        TEST(dump_names_children),
        TEST(a_fork_hears_that_they_are_not_its_own),
        TEST(a_fork_that_destroys_its_copy_in_a_callback),
        TEST(kill_sends_and_the_deadline_ends),
        TEST(a_deadline_is_taken_back),
        TEST(kill_refuses_what_is_wrong),
        TEST(a_group_is_killed_as_one),
        TEST(arguments_environment_and_directory_are_as_given),
        TEST(the_program_is_looked_for_in_its_own_path),
        TEST(streams_are_connections),
        TEST(null_file_inherited_merged),
        TEST(files_change_places),
        TEST(no_descriptor_leaks_into_the_program),
        TEST(signals_begin_as_for_any_program),
        TEST(exec_failures_are_the_calls_own),
        TEST(bad_options_are_refused),
        TEST(descriptors_run_out_at_every_point),
        TEST(no_more_processes_is_EAGAIN),
        TEST(without_pidfds_children_are_looked_at),
        TEST(grandchildren_hold_the_pipes),
        TEST(many_at_once),
        TEST(many_in_a_row),
        TEST(two_threads_start_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
