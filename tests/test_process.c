/* What belongs to the whole process, or to two of them: the folder it is in, its umask, descriptors
   that it hands over, signals that several copies of the library watch, forks. */
#include "copy.h"
#include "stream_help.h"

#include <sched.h>
#include <sys/stat.h>

/* ldflags: tests/copy.c */

/* ---- unix paths ---- */

/* A folder of its own, with another one in it, and the one that the program was in before. */
typedef struct folders {
    char top[64], other[80], before[512];
} folders;

static folders make_folders(void) {
    folders f;
    assert_non_null(getcwd(f.before, sizeof f.before));
    snprintf(f.top, sizeof f.top, "/tmp/reactor-test-XXXXXX");
    assert_non_null(mkdtemp(f.top));
    snprintf(f.other, sizeof f.other, "%s/other", f.top);
    assert_return_code(mkdir(f.other, 0700), errno);
    return f;
}

static void leave_folders(const folders *f) {
    assert_return_code(chdir(f->before), errno);
    assert_int_equal(rmdir(f->other), 0);
    assert_int_equal(rmdir(f->top), 0);
}

static int exists(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0;
}

/* Listened on by its name, and closed from another folder, which has a file of that name. */
CASE(relative_path_is_removed_after_a_chdir_and_no_other_of_its_name) {
    const char *address[] = {"unix:s", "unix:./s", "unix:other/s"};
    for (size_t i = 0; i < COUNT(address); i++) {
        folders f = make_folders();
        const char *elsewhere = i < 2 ? f.other : f.top;
        char path[100];
        snprintf(path, sizeof path, "%s/s", i < 2 ? f.top : f.other);
        assert_return_code(chdir(f.top), errno);
        reactor *r = begin();
        assert_int_equal(reactor_listen(r, address[i], &null_handler, NULL, NULL), 0);
        assert_true(exists(path));
        assert_return_code(chdir(elsewhere), errno);
        if (!i) { /* a file; then a listener of the same loop */
            close(open("s", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
            assert_true(exists("s"));
        }
        end(r);
        assert_false(exists(path));
        assert_int_equal(unlink("s"), i ? -1 : 0);
        leave_folders(&f);
    }
}

/* The umask is neither in the way nor touched, and until the call returns the file is at no moment
   more open than asked. */
CASE(unix_mode_is_exact_under_any_umask) {
    const mode_t masks[] = {0, 022, 077, 0777};
    const unsigned modes[] = {0600, 0606, 0660, 0777};
    for (size_t i = 0; i < COUNT(masks); i++) {
        for (size_t k = 0; k < COUNT(modes); k++) {
            folders f = make_folders();
            reactor_listen_options o;
            struct stat st;
            assert_return_code(chdir(f.top), errno);
            mode_t before = umask(masks[i]);
            reactor *r = begin();
            memset(&o, 0, sizeof o);
            o.unix_mode = modes[k];
            assert_int_equal(reactor_listen(r, "unix:s", &null_handler, &o, NULL), 0);
            assert_int_equal(lstat("s", &st), 0);
            assert_int_equal(st.st_mode & 07777, modes[k]);
            end(r);
            assert_int_equal(umask(before), masks[i]);
            leave_folders(&f);
        }
    }
}

/* ---- descriptors handed over ---- */

/* Watched already, or with an option that the system refuses: the call fails, and all is as it was. */
CASE(handing_over_that_fails_changes_no_flag) {
    reactor_listen_options o;
    struct sockaddr_in a;
    char address[32];
    reactor *r = begin();
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(listen(fd, 4), errno);
    const int flags = fcntl(fd, F_GETFL), on_exec = fcntl(fd, F_GETFD);
    snprintf(address, sizeof address, "fd:%d", fd);
    assert_int_equal(reactor_add(r, fd, REACTOR_READ, NULL, NULL), 0);
    assert_int_equal(reactor_listen(r, address, &null_handler, NULL, NULL), -EEXIST);
    assert_int_equal(reactor_remove(r, fd), 0);
    memset(&o, 0, sizeof o);
    o.conn.keep_alive_s = INT32_MAX; /* more than TCP knows */
    int e = reactor_listen(r, address, &null_handler, &o, NULL);
    if (e < 0) {
        assert_int_equal(fcntl(fd, F_GETFL), flags);
        assert_int_equal(fcntl(fd, F_GETFD), on_exec);
        close(fd);
    }
    end(r);
}

/* ---- signals ---- */

static void on_signal(reactor *r, int signum, void *user) {
    (void)r, (void)signum;
    ++*(int *)user;
}

static int hears(reactor *r, const int *heard) {
    turns(r, 2);
    return *heard;
}

static volatile sig_atomic_t hosts;
static void host_handler(int signum) {
    (void)signum;
    hosts++;
}

static void (*handler_of(int signum))(int) {
    struct sigaction now;
    assert_return_code(sigaction(signum, NULL, &now), errno);
    return now.sa_handler;
}

/* Two copies begin and end in every order: whoever still watches hears it, and then what was there
   before is there again. */
CASE(two_copies_watch_one_signal) {
    for (int order = 0; order < 4; order++) {
        int heard = 0;
        hosts = 0;
        signal(SIGUSR1, host_handler);
        reactor *r = begin();
        copy *c = copy_open(backend_under_test());
        assert_non_null(c);
        if (order & 1) assert_int_equal(copy_watch(c, SIGUSR1, 1), 0);
        assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &heard), 0);
        if (!(order & 1)) assert_int_equal(copy_watch(c, SIGUSR1, 1), 0);
        raise(SIGUSR1);
        assert_int_equal(hears(r, &heard), 1);
        assert_int_equal(copy_heard(c), 1);
        if (order & 2) {
            assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
            raise(SIGUSR1);
            assert_int_equal(copy_heard(c), 2);
            copy_close(c);
        } else {
            copy_close(c);
            raise(SIGUSR1);
            assert_int_equal(hears(r, &heard), 2);
        }
        end(r);
        assert_int_equal(hosts, 0);
        assert_ptr_equal(handler_of(SIGUSR1), host_handler);
        raise(SIGUSR1);
        assert_int_equal(hosts, 1);
        signal(SIGUSR1, SIG_DFL);
    }
}

/* Of one that watches again, and of several signals at once. */
CASE(two_copies_watch_now_this_now_that) {
    const int signums[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGURG};
    int heard[4] = {0}, copied = 0;
    reactor *r = begin();
    copy *c = copy_open(backend_under_test());
    assert_non_null(c);
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 4; i++) {
            if (i % 2) assert_int_equal(copy_watch(c, signums[i], 1), 0);
            assert_int_equal(reactor_signal(r, signums[i], on_signal, &heard[i]), 0);
            if (!(i % 2)) assert_int_equal(copy_watch(c, signums[i], 1), 0);
            raise(signums[i]);
        }
        copied += 4;
        assert_int_equal(copy_heard(c), copied);
        for (int i = 0; i < 4; i++) assert_int_equal(hears(r, &heard[i]), round + 1);
        for (int i = 0; i < 4; i++) {
            if (round % 2) assert_int_equal(copy_watch(c, signums[i], 0), 0);
            assert_int_equal(reactor_signal(r, signums[i], NULL, NULL), 0);
            if (!(round % 2)) assert_int_equal(copy_watch(c, signums[i], 0), 0);
            assert_ptr_equal(handler_of(signums[i]), SIG_DFL);
        }
    }
    copy_close(c);
    end(r);
}

/* The program takes the signal from the first copy, and the second one from the program: with the
   first one's next watcher all of them hear it again, and what the program wanted is there at last. */
CASE(two_copies_meet_after_a_program_came_between) {
    for (int order = 0; order < 2; order++) {
        int heard = 0, later = 0;
        hosts = 0;
        reactor *r = make_loop(), *second = make_loop();
        copy *c = copy_open(backend_under_test());
        assert_non_null(c);
        assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &heard), 0);
        signal(SIGUSR1, host_handler);
        assert_int_equal(copy_watch(c, SIGUSR1, 1), 0);
        assert_int_equal(reactor_signal(second, SIGUSR1, on_signal, &later), 0);
        raise(SIGUSR1);
        assert_int_equal(hears(r, &heard), 1);
        assert_int_equal(hears(second, &later), 1);
        assert_int_equal(copy_heard(c), 1);
        if (order) copy_close(c);
        reactor_destroy(second);
        raise(SIGUSR1);
        assert_int_equal(hears(r, &heard), 2);
        reactor_destroy(r);
        if (!order) copy_close(c);
        assert_int_equal(hosts, 0);
        assert_ptr_equal(handler_of(SIGUSR1), host_handler);
        signal(SIGUSR1, SIG_DFL);
    }
}

/* A handler that the program installed since is left alone; and if that puts back what it found, when
   nobody watches any more, the signal reaches what was there before us. */
CASE(a_handler_put_back_late_passes_the_signal_on) {
    int heard = 0;
    struct sigaction ours;
    hosts = 0;
    signal(SIGUSR1, host_handler);
    reactor *r = begin();
    assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &heard), 0);
    assert_return_code(sigaction(SIGUSR1, NULL, &ours), errno);
    signal(SIGUSR1, SIG_IGN);
    assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
    assert_ptr_equal(handler_of(SIGUSR1), SIG_IGN);
    assert_return_code(sigaction(SIGUSR1, &ours, NULL), errno);
    raise(SIGUSR1);
    while (!hosts) poll(NULL, 0, 1);
    assert_int_equal(heard, 0);
    assert_ptr_equal(handler_of(SIGUSR1), host_handler);
    signal(SIGUSR1, SIG_DFL);
    end(r);
}

/* ---- signals while their watchers come and go ---- */

static int rain_stops; /* atomic */
static int rain_heard; /* atomic: by the program's handler or by a loop */

static void host_counts(int signum) {
    (void)signum;
    __atomic_add_fetch(&rain_heard, 1, __ATOMIC_SEQ_CST);
}
static void loop_counts(reactor *r, int signum, void *user) {
    (void)r, (void)user;
    host_counts(signum);
}

static void *raining(void *user) {
    (void)user;
    while (!__atomic_load_n(&rain_stops, __ATOMIC_SEQ_CST)) {
        kill(getpid(), SIGUSR1);
        sched_yield();
    }
    return NULL;
}

/* Nothing is called, nor looked at, that has gone; and in the end all is as it was. */
static void shower(reactor *r, copy *c) {
    pthread_t thread[2];
    __atomic_store_n(&rain_stops, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&rain_heard, 0, __ATOMIC_SEQ_CST);
    signal(SIGUSR1, host_counts);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, raining, NULL), 0);
    for (int i = 0; i < 1000 || !__atomic_load_n(&rain_heard, __ATOMIC_SEQ_CST); i++) {
        assert_int_equal(reactor_signal(r, SIGUSR1, loop_counts, NULL), 0);
        if (c && i % 3) assert_int_equal(copy_watch(c, SIGUSR1, 1), 0);
        reactor_poll(r, 0);
        if (c && i % 2) copy_watch(c, SIGUSR1, 0);
        assert_int_equal(reactor_signal(r, SIGUSR1, NULL, NULL), 0);
        if (c) copy_watch(c, SIGUSR1, 0);
        assert_ptr_equal(handler_of(SIGUSR1), host_counts);
    }
    __atomic_store_n(&rain_stops, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    signal(SIGUSR1, SIG_DFL);
}

CASE(watchers_come_and_go_in_the_rain) {
    reactor *r = begin();
    copy *c = copy_open(backend_under_test());
    assert_non_null(c);
    shower(r, NULL);
    shower(r, c);
    copy_close(c);
    end(r);
}

/* ---- forks ---- */

/* In a child there is no cmocka: what is wrong is printed, and ends the process. */
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

/* A loop with one of everything, and how often each was called. */
typedef struct everything {
    reactor *r;
    int level[2], edge[2], silent[2], file, nested, posted, tasks, ticks, heard, files, levels;
    int edges, rings;
    reactor_async bell;
    server s;
    probe p; /* of the connection that is there when it forks */
    int peer;
    folders f;
} everything;

static void on_post(reactor *r, void *user) {
    (void)r;
    ++*(int *)user;
}
static void on_tick(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    ++*(int *)user;
}
static void on_ring(reactor *r, reactor_async a, void *user) {
    (void)r, (void)a;
    ++*(int *)user;
}
static void on_ready(reactor *r, reactor_socket fd, unsigned events, void *user) {
    char bytes[16];
    (void)r, (void)events;
    while (read(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes) {
    }
    ++*(int *)user;
}

static int one_turn(reactor *r) { return reactor_poll(r, 1000) >= 0; }
#define TURN_UNTIL(e, condition)                                                                   \
    while (!(condition)) MUST(one_turn((e)->r))

static void make_everything(everything *e) {
    char address[160];
    memset(e, 0, sizeof *e);
    e->f = make_folders();
    e->r = begin();
    make_pair(e->level);
    make_pair(e->edge);
    make_pair(e->silent);
    assert_int_equal(reactor_add(e->r, e->level[0], REACTOR_READ, on_ready, &e->levels), 0);
    assert_int_equal(
        reactor_add(e->r, e->edge[0], REACTOR_READ | REACTOR_EDGE, on_ready, &e->edges), 0);
    assert_int_equal(reactor_add(e->r, e->silent[0], 0, on_ready, &e->levels), 0);
    e->file = pattern_file(10, 1, 0);
    assert_int_equal(reactor_add(e->r, e->file, REACTOR_READ | REACTOR_EDGE, on_ready, &e->files),
                     0);
    assert_int_equal(reactor_every(e->r, 5, on_tick, &e->ticks, NULL), 0);
    assert_int_equal(reactor_signal(e->r, SIGUSR1, on_signal, &e->heard), 0);
    assert_int_equal(reactor_async_open(e->r, on_ring, &e->rings, &e->bell), 0);
    snprintf(address, sizeof address, "unix:%s/s", e->f.top);
    assert_int_equal(reactor_listen(e->r, address, &null_handler, NULL, NULL), 0);
    e->s = serve(e->r, &e->p);
    e->peer = dial(e->s.address);
    UNTIL(e->r, e->p.opens);
    turns(e->r, 2);
}

static void leave_everything(everything *e) {
    int *pairs[] = {e->level, e->edge, e->silent};
    close(e->peer);
    UNTIL(e->r, e->p.closes);
    reactor_destroy(e->r);
    for (int i = 0; i < 3; i++) close(pairs[i][0]), close(pairs[i][1]);
    close(e->file);
    assert_int_equal(open_descriptors(), descriptors_before);
    leave_folders(&e->f);
}

static void *post_and_ring(void *user) {
    everything *e = (everything *)user;
    void *failed = reactor_post(e->r, on_post, &e->tasks) ? user : NULL;
    return reactor_async_send(e->r, e->bell) ? user : failed;
}

/* All that there is works, in whichever process calls it; peers are on the other side of sockets that
   parent and child have in common. */
static void all_works(everything *e) {
    pthread_t thread;
    void *failed = NULL;
    char byte = 0;
    const int levels = e->levels, edges = e->edges, ticks = e->ticks, heard = e->heard;
    const int tasks = e->tasks, rings = e->rings;
    const size_t in = e->p.in;
    MUST(write(e->level[1], "x", 1) == 1 && write(e->edge[1], "x", 1) == 1);
    TURN_UNTIL(e, e->levels > levels && e->edges > edges && e->ticks > ticks + 2);
    raise(SIGUSR1);
    TURN_UNTIL(e, e->heard == heard + 1);
    MUST(pthread_create(&thread, NULL, post_and_ring, e) == 0);
    TURN_UNTIL(e, e->tasks == tasks + 1 && e->rings == rings + 1);
    MUST(pthread_join(thread, &failed) == 0 && !failed);
    MUST(send(e->peer, "y", 1, MSG_NOSIGNAL) == 1);
    TURN_UNTIL(e, e->p.in == in + 1);
    MUST(reactor_write(e->r, e->p.conn, "z", 1) == 0);
    MUST(one_turn(e->r));
    while (recv(e->peer, &byte, 1, 0) < 0) MUST(one_turn(e->r));
    MUST(byte == 'z');
    const int opens = e->p.opens, second = dial(e->s.address);
    TURN_UNTIL(e, e->p.opens == opens + 1);
    close(second);
    const int closes = e->p.closes;
    TURN_UNTIL(e, e->p.closes > closes);
}

static int is_readable(int fd) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, 3000) == 1;
}

/* The child without reactor_fork is refused; with it has a loop of its own, of which the parent
   notices nothing; and both work. */
CASE(a_child_goes_on_with_the_loop) {
    if (libkqueue_cannot("be used in a child")) skip();
    for (int nested = 0; nested <= backend_nests(); nested++) {
        everything e;
        make_everything(&e);
        if (nested) assert_true(reactor_fd(e.r) >= 0);
        assert_int_equal(reactor_fork(e.r), 0); /* nothing to do */
        pid_t child = fork();
        if (child == 0) {
            reactor_key key;
            alarm(30);
            MUST(reactor_run(e.r) == -ECHILD && reactor_poll(e.r, 0) == -ECHILD);
            MUST(reactor_select(e.r, &key, 1, 0) == -ECHILD);
            MUST(reactor_fork(e.r) == 0 && reactor_fork(e.r) == 0);
            const reactor_conn c = e.p.conn;
            all_works(&e);
            e.p.conn = c;
            if (nested) {
                const int fd = reactor_fd(e.r);
                MUST(fd >= 0 && is_readable(fd)); /* the timer */
            }
            /* What it changes is its own. */
            MUST(reactor_remove(e.r, e.level[0]) == 0 && reactor_modify(e.r, e.edge[0], 0) == 0);
            MUST(reactor_modify(e.r, e.silent[0], REACTOR_WRITE) == 0);
            MUST(one_turn(e.r) && one_turn(e.r));
            _exit(0);
        }
        assert_int_equal(status_of(child), 0);
        const reactor_conn c = e.p.conn;
        all_works(&e);
        e.p.conn = c;
        leave_everything(&e);
    }
}

/* As daemon(3): the parent is gone, and at the end nothing is left, the unix path neither. */
CASE(a_daemon_goes_on_alone) {
    if (libkqueue_cannot("be used in a child")) skip();
    everything e;
    make_everything(&e);
    int done[2];
    assert_return_code(pipe(done), errno);
    pid_t middle = fork();
    if (middle == 0) {
        pid_t child = fork();
        if (child) _exit(child < 0 ? 71 : 0);
        char path[100];
        alarm(30);
        while (waitpid(middle, NULL, 0) >= 0) {
        }
        MUST(reactor_fork(e.r) == 0);
        all_works(&e);
        snprintf(path, sizeof path, "%s/s", e.f.top);
        MUST(exists(path));
        reactor_destroy(e.r);
        MUST(!exists(path));
        MUST(handler_of(SIGUSR1) == SIG_DFL);
        MUST(write(done[1], "k", 1) == 1);
        _exit(0);
    }
    assert_int_equal(status_of(middle), 0);
    close(done[1]);
    char said = 0;
    assert_int_equal(read(done[0], &said, 1), 1);
    assert_int_equal(said, 'k');
    close(done[0]);
    leave_everything(&e);
}

/* Inside a callback there is a turn to be finished, with what is the parent's. */
static void fork_in_turn(reactor *r, void *user) {
    pid_t *child = (pid_t *)user;
    *child = fork();
    if (*child) return;
    if (reactor_fork(r) != -EBUSY) _exit(70);
    _exit(0);
}

CASE(fork_in_a_callback_is_EBUSY) {
    reactor *r = begin();
    pid_t child = -1;
    assert_int_equal(reactor_fork(NULL), -EINVAL);
    assert_int_equal(reactor_defer(r, fork_in_turn, &child), 0);
    turns(r, 1);
    assert_int_equal(status_of(child), 0);
    end(r);
}

/* A child that destroys its copy in a callback has nothing of it any more when that call returns: no
   listener, no descriptor, no handler of a signal. */
typedef struct emigrant {
    pid_t child;
    int before; /* descriptors without the loop */
} emigrant;

static void emigrate(reactor *r, reactor_timer t, void *user) {
    emigrant *e = (emigrant *)user;
    (void)t;
    e->child = fork();
    if (e->child) return;
    reactor_destroy(r);
    MUST(open_descriptors() == e->before);
    MUST(handler_of(SIGUSR1) == SIG_DFL);
    MUST(reactor_post(r, on_post, NULL) == -ECANCELED);
    MUST(reactor_add(r, 0, REACTOR_READ, on_ready, NULL) <= 0);
    MUST(reactor_modify(r, 0, 0) <= 0);
    MUST(reactor_remove(r, 0) <= 0);
    reactor_wake(r);
    reactor_stop(r);
}

CASE(a_child_that_destroys_in_a_callback_has_nothing_left_at_once) {
    if (libkqueue_cannot("be used in a child")) skip();
    for (int nested = 0; nested <= backend_nests(); nested++) {
        emigrant e = {-1, open_descriptors()};
        folders f = make_folders();
        char address[160];
        int heard = 0;
        reactor *r = begin();
        probe p = {0};
        server s = serve(r, &p);
        snprintf(address, sizeof address, "unix:%s/s", f.top);
        assert_int_equal(reactor_listen(r, address, &null_handler, NULL, NULL), 0);
        assert_int_equal(reactor_signal(r, SIGUSR1, on_signal, &heard), 0);
        int peer = dial(s.address);
        UNTIL(r, p.opens);
        if (nested) assert_true(reactor_fd(r) >= 0);
        e.before++; /* the peer's */
        assert_int_equal(reactor_after(r, 1, emigrate, &e, NULL), 0);
        while (e.child < 0) reactor_poll(r, 1000);
        if (e.child == 0) _exit(0);
        assert_int_equal(status_of(e.child), 0);
        /* The parent has not noticed. */
        raise(SIGUSR1);
        assert_int_equal(hears(r, &heard), 1);
        assert_int_equal(p.closes, 0);
        assert_true(exists(address + 5));
        close(peer);
        UNTIL(r, p.closes);
        end(r);
        leave_folders(&f);
    }
}

/* Threads watch and leave signals all the time while the process forks: a loop made in a child never
   waits for them. */
static void *fidgeting(void *user) {
    reactor *r = (reactor *)user;
    while (!__atomic_load_n(&rain_stops, __ATOMIC_SEQ_CST)) {
        if (reactor_signal(r, SIGUSR2, loop_counts, NULL)) return user;
        kill(getpid(), SIGUSR2);
        reactor_poll(r, 0);
        if (reactor_signal(r, SIGUSR2, NULL, NULL)) return user;
    }
    return NULL;
}

static void in_the_child(reactor *inherited, int i) {
    int heard = 0;
    reactor_options options;
    reactor *r;
    memset(&options, 0, sizeof options);
    options.backend = backend_under_test();
    alarm(30);
    if (i % 2) reactor_destroy(inherited);
    MUST(reactor_create(&r, &options) == 0);
    MUST(reactor_signal(r, SIGUSR2, on_signal, &heard) == 0);
    raise(SIGUSR2);
    while (!heard) MUST(one_turn(r));
    MUST(reactor_signal(r, SIGUSR2, NULL, NULL) == 0);
    reactor_destroy(r);
    if (!(i % 2)) reactor_destroy(inherited);
    _exit(0);
}

CASE(a_childs_own_loop_waits_for_no_thread_of_the_parent) {
    if (libkqueue_cannot("be used in a child")) skip();
    pthread_t thread[2];
    reactor *r[2], *idle = begin();
    signal(SIGUSR2, SIG_IGN);
    __atomic_store_n(&rain_stops, 0, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++) {
        r[i] = make_loop();
        assert_int_equal(pthread_create(&thread[i], NULL, fidgeting, r[i]), 0);
    }
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0) in_the_child(idle, i);
        assert_int_equal(status_of(child), 0);
    }
    __atomic_store_n(&rain_stops, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(thread[i], &failed), 0);
        assert_null(failed);
        reactor_destroy(r[i]);
    }
    signal(SIGUSR2, SIG_DFL);
    end(idle);
}

/* ---- */

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(two_copies_watch_one_signal),
        TEST(two_copies_watch_now_this_now_that),
        TEST(two_copies_meet_after_a_program_came_between),
        TEST(a_handler_put_back_late_passes_the_signal_on),
        TEST(watchers_come_and_go_in_the_rain),
        TEST(a_child_goes_on_with_the_loop),
        TEST(a_daemon_goes_on_alone),
        TEST(fork_in_a_callback_is_EBUSY),
        TEST(a_child_that_destroys_in_a_callback_has_nothing_left_at_once),
        TEST(a_childs_own_loop_waits_for_no_thread_of_the_parent),
        TEST(relative_path_is_removed_after_a_chdir_and_no_other_of_its_name),
        TEST(unix_mode_is_exact_under_any_umask),
        TEST(handing_over_that_fails_changes_no_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
