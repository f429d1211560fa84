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

/* ---- */

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(two_copies_watch_one_signal),
        TEST(two_copies_watch_now_this_now_that),
        TEST(a_handler_put_back_late_passes_the_signal_on),
        TEST(watchers_come_and_go_in_the_rain),
        TEST(relative_path_is_removed_after_a_chdir_and_no_other_of_its_name),
        TEST(unix_mode_is_exact_under_any_umask),
        TEST(handing_over_that_fails_changes_no_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
