/* What belongs to the whole process, or to two of them: the folder it is in, its umask, descriptors
   that it hands over. */
#include "stream_help.h"

#include <sys/stat.h>

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

/* ---- */

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(relative_path_is_removed_after_a_chdir_and_no_other_of_its_name),
        TEST(unix_mode_is_exact_under_any_umask),
        TEST(handing_over_that_fails_changes_no_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
