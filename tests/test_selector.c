/* Watching descriptors: the laws on callbacks and events, the errors, and the pull interface. */
#include "recorder.h"

#ifndef _WIN32
#include <sys/eventfd.h>
#endif
#if defined(__O_PATH) && !defined(O_PATH)
#define O_PATH __O_PATH
#endif

static int closed_number(void) {
    int fd = dup(0);
    assert_return_code(fd, errno);
    close(fd);
    return fd;
}

/* What one turn tells a watcher that is there for only that turn. */
static unsigned told(reactor *r, int fd, unsigned interest) {
    record seen = {0};
    assert_int_equal(reactor_add(r, fd, interest, on_io, &seen), 0);
    int n = reactor_poll(r, 0);
    assert_int_equal(n, seen.calls);
    if (seen.calls > 1) fail_msg("called %d times in one turn", seen.calls);
    assert_int_equal(reactor_remove(r, fd), 0);
    return seen.last;
}

#define assert_told(r, fd, interest, expected)                                                     \
    assert_int_equal(told(r, fd, interest), (unsigned)(expected))

/* ---- errors, law 6 and the API's general rules ---- */

CASE(law6_add_refuses_what_is_no_descriptor) {
    reactor *r = make_loop();
    int closed = closed_number();
    assert_int_equal(reactor_add(r, -1, READ, on_io, NULL), -EBADF);
    assert_int_equal(reactor_add(r, -2, 0, on_io, NULL), -EBADF);
    assert_int_equal(reactor_add(r, INT32_MIN, READ, on_io, NULL), -EBADF);
    assert_int_equal(reactor_add(r, closed, READ, on_io, NULL), -EBADF);
    assert_int_equal(reactor_add(r, closed, 0, on_io, NULL), -EBADF);
    assert_int_equal(reactor_add(r, closed, READ, NULL, NULL), -EBADF);
    assert_int_equal(reactor_add(r, INT32_MAX, READ, on_io, NULL), -EBADF);
    assert_int_equal(reactor_add(r, INT32_MAX - 1, 0, on_io, NULL), -EBADF);
    assert_int_equal(counters(r).watchers, 0);
    assert_int_equal(reactor_find(r, closed, NULL), -ENOENT);
    assert_silent(r);
    reactor_destroy(r);
}

CASE(law6_add_refuses_twice_and_keeps_the_first) {
    reactor *r = make_loop();
    record first = {0}, second = {0};
    reactor_key k;
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &first), 0);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &second), -EEXIST);
    assert_int_equal(reactor_add(r, fd[0], READ, NULL, NULL), -EEXIST);
    assert_int_equal(reactor_find(r, fd[0], &k), 0);
    assert_int_equal(k.events, READ);
    assert_ptr_equal(k.user, &first);
    put(fd[1]);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 0);
    assert_int_equal(counters(r).watchers, 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law6_unknown_descriptors_are_enoent) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    int numbers[] = {fd[0], closed_number(), -1, INT32_MIN, INT32_MAX, 100000};
    reactor_key k;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int n = numbers[i];
        assert_int_equal(reactor_modify(r, n, READ), -ENOENT);
        assert_int_equal(reactor_remove(r, n), -ENOENT);
        assert_int_equal(reactor_rewatch(r, n, on_io, NULL), -ENOENT);
        assert_int_equal(reactor_find(r, n, &k), -ENOENT);
        assert_int_equal(reactor_find(r, n, NULL), -ENOENT);
        assert_int_equal(reactor_ref_fd(r, n), -ENOENT);
        assert_int_equal(reactor_unref_fd(r, n), -ENOENT);
    }
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, NULL), 0);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_int_equal(reactor_remove(r, fd[0]), -ENOENT);
    assert_int_equal(reactor_modify(r, fd[0], READ), -ENOENT);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law6_null_loop_and_unknown_bits_are_einval) {
    static const unsigned bad[] = {0x20,  0x40,        0x80,         ERROR,        0x2000,
                                   0x400, 0x80000000u, READ | ERROR, WRITE | 0x20, UINT32_MAX};
    reactor *r = make_loop();
    reactor_key k;
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(NULL, fd[0], READ, on_io, NULL), -EINVAL);
    assert_int_equal(reactor_modify(NULL, fd[0], READ), -EINVAL);
    assert_int_equal(reactor_remove(NULL, fd[0]), -EINVAL);
    assert_int_equal(reactor_rewatch(NULL, fd[0], on_io, NULL), -EINVAL);
    assert_int_equal(reactor_find(NULL, fd[0], &k), -EINVAL);
    assert_int_equal(reactor_ref_fd(NULL, fd[0]), -EINVAL);
    assert_int_equal(reactor_unref_fd(NULL, fd[0]), -EINVAL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(reactor_add(r, fd[0], bad[i], on_io, NULL), -EINVAL);
    assert_int_equal(reactor_find(r, fd[0], NULL), -ENOENT);
    assert_int_equal(reactor_add(r, fd[0], READ | EDGE, on_io, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(reactor_modify(r, fd[0], bad[i]), -EINVAL);
    assert_int_equal(reactor_find(r, fd[0], &k), 0);
    assert_int_equal(k.events, READ | EDGE);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(find_shows_the_key_as_it_is_now) {
    reactor *r = make_loop();
    record one = {0}, two = {0};
    reactor_key k;
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ | ONESHOT, on_io, &one), 0);
    assert_int_equal(reactor_find(r, fd[0], NULL), 0);
    assert_int_equal(reactor_find(r, fd[0], &k), 0);
    assert_int_equal(k.fd, fd[0]);
    assert_int_equal(k.events, READ | ONESHOT);
    assert_true(k.fn == on_io);
    assert_ptr_equal(k.user, &one);
    assert_int_equal(reactor_modify(r, fd[0], WRITE | EDGE), 0);
    assert_int_equal(reactor_rewatch(r, fd[0], NULL, &two), 0);
    assert_int_equal(reactor_find(r, fd[0], &k), 0);
    assert_int_equal(k.events, WRITE | EDGE);
    assert_true(k.fn == NULL);
    assert_ptr_equal(k.user, &two);
    assert_int_equal(reactor_modify(r, fd[0], 0), 0);
    assert_int_equal(reactor_find(r, fd[0], &k), 0);
    assert_int_equal(k.events, 0);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(rewatch_changes_who_is_called) {
    reactor *r = make_loop();
    record one = {0}, two = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &one), 0);
    turns(r, 1);
    assert_int_equal(reactor_rewatch(r, fd[0], on_io, &two), 0);
    turns(r, 1);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.calls, 1);
    assert_int_equal(two.last, READ);
    reactor_destroy(r);
    close_pair(fd);
}

/* ---- law 4: the same events everywhere ---- */

CASE(law4_socket_data_and_room) {
    reactor *r = make_loop();
    for (int tcp = 0; tcp < 2; tcp++) {
        int fd[2];
        (tcp ? make_tcp_pair : make_pair)(fd);
        assert_told(r, fd[0], READ, 0);
        assert_told(r, fd[0], WRITE, WRITE);
        assert_told(r, fd[0], READ | WRITE, WRITE);
        put(fd[1]);
        await(fd[0], POLLIN);
        assert_told(r, fd[0], READ, READ);
        assert_told(r, fd[0], WRITE, WRITE);
        assert_told(r, fd[0], READ | WRITE, READ | WRITE);
        assert_told(r, fd[0], 0, 0);
        drain(fd[0]);
        assert_told(r, fd[0], READ, 0);
        fill(fd[0]);
        assert_told(r, fd[0], WRITE, 0);
        assert_told(r, fd[0], READ | WRITE, 0);
        close_pair(fd);
    }
    reactor_destroy(r);
}

CASE(law4_level_is_told_until_it_is_gone) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    assert_silent(r);
    put(fd[1]);
    assert_int_equal(turns(r, 7), 7);
    assert_int_equal(seen.calls, 7);
    assert_int_equal(seen.all, READ);
    drain(fd[0]);
    assert_silent(r);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law4_fin_reaches_readers_and_no_blocked_writer) {
    reactor *r = make_loop();
    for (int tcp = 0; tcp < 2; tcp++) {
        record writer = {0};
        int fd[2];
        (tcp ? make_tcp_pair : make_pair)(fd);
        fill(fd[0]);
        assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &writer), 0);
        assert_return_code(shutdown(fd[1], SHUT_WR), errno);
        await(fd[0], POLLIN);
        assert_silent(r);
        assert_int_equal(writer.calls, 0);
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        assert_told(r, fd[0], READ, READ);
        assert_told(r, fd[0], READ | WRITE, READ);
        close_pair(fd);
    }
    reactor_destroy(r);
}

/* Nor does the loop spin: the kernel may tell of the FIN unasked. */
CASE(law4_writer_that_a_fin_does_not_wake_hears_of_room) {
    static const unsigned how[] = {0, EDGE, ONESHOT};
    reactor *r = make_loop();
    for (int i = 0; i < 3; i++) {
        record writer = {0};
        int fd[2];
        make_tcp_pair(fd);
        fill(fd[0]);
        assert_return_code(shutdown(fd[1], SHUT_WR), errno);
        await(fd[0], POLLIN);
        assert_int_equal(reactor_add(r, fd[0], WRITE | how[i], on_io, &writer), 0);
        for (int round = 0; round < 2; round++) {
            assert_silent(r);
            while (!writer.calls) {
                drain(fd[1]);
                assert_true(reactor_poll(r, 1) >= 0);
            }
            assert_int_equal(writer.all, WRITE);
            if (how[i] != EDGE) assert_int_equal(turns(r, 5), how[i] ? 0 : 5);
            fill(fd[0]);
            writer.calls = 0;
            assert_int_equal(reactor_modify(r, fd[0], WRITE | how[i]), 0);
        }
        assert_int_equal(writer.calls, 0);
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        close_pair(fd);
    }
    reactor_destroy(r);
}

CASE(law4_half_closed_peer_is_not_dead) {
    reactor *r = make_loop();
    for (int tcp = 0; tcp < 2; tcp++) {
        char c;
        int fd[2];
        (tcp ? make_tcp_pair : make_pair)(fd);
        assert_return_code(shutdown(fd[1], SHUT_WR), errno);
        await(fd[0], POLLIN);
        assert_told(r, fd[0], READ | WRITE, READ | WRITE);
        assert_told(r, fd[0], WRITE, WRITE);
        put(fd[0]);
        await(fd[1], POLLIN);
        assert_told(r, fd[1], READ, READ);
        assert_int_equal(read(fd[1], &c, 1), 1);
        assert_told(r, fd[1], READ, 0);
        close_pair(fd);
    }
    reactor_destroy(r);
}

CASE(law4_data_comes_before_end_of_file) {
    reactor *r = make_loop();
    for (int tcp = 0; tcp < 2; tcp++) {
        char data[8];
        int fd[2];
        (tcp ? make_tcp_pair : make_pair)(fd);
        put(fd[1]);
        close(fd[1]);
        await(fd[0], POLLIN);
        assert_int_equal(told(r, fd[0], READ) & READ, READ);
        assert_int_equal(read(fd[0], data, sizeof data), 1);
        await(fd[0], POLLIN);
        assert_int_equal(told(r, fd[0], READ) & READ, READ);
        assert_int_equal(read(fd[0], data, sizeof data), 0);
        close(fd[0]);
    }
    reactor_destroy(r);
}

CASE(law4_full_hangup_reaches_either_direction) {
    NEEDS_UNIX_PAIRS;
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    close(fd[1]);
    assert_told(r, fd[0], READ, READ | HANGUP);
    assert_told(r, fd[0], WRITE, WRITE | HANGUP);
    assert_told(r, fd[0], READ | WRITE, READ | WRITE | HANGUP);
    close(fd[0]);

    make_tcp_pair(fd);
    close(fd[1]);
    assert_return_code(shutdown(fd[0], SHUT_WR), errno);
    await(fd[0], POLLHUP);
    assert_told(r, fd[0], READ, READ | HANGUP);
    assert_told(r, fd[0], WRITE, WRITE | HANGUP);
    close(fd[0]);
    reactor_destroy(r);
}

CASE(law4_full_hangup_wakes_a_writer_without_room) {
    NEEDS_UNIX_PAIRS;
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    fill(fd[0]);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &seen), 0);
    assert_silent(r);
    assert_return_code(shutdown(fd[1], SHUT_RDWR), errno);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, WRITE | HANGUP);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law4_reset_reaches_either_direction) {
    reactor *r = make_loop();
    for (int full = 0; full < 2; full++) {
        int fd[2], error = 0;
        socklen_t len = sizeof error;
        make_tcp_pair(fd);
        if (full) fill(fd[0]);
        close_with_reset(fd[1]);
        await(fd[0], POLLERR | POLLHUP);
        assert_told(r, fd[0], READ, READ | ERROR | HANGUP);
        assert_told(r, fd[0], WRITE, WRITE | ERROR | HANGUP);
        assert_told(r, fd[0], READ | WRITE, READ | WRITE | ERROR | HANGUP);
        assert_told(r, fd[0], READ | EDGE, READ | ERROR | HANGUP);
        assert_return_code(getsockopt(fd[0], SOL_SOCKET, SO_ERROR, &error, &len), errno);
        if (RESETS_SET_SO_ERROR)
            assert_int_equal(error, ECONNRESET); /* the loop has not used it up */
        close(fd[0]);
    }
    reactor_destroy(r);
}

CASE(law4_failed_connect_reaches_either_direction) {
    static const unsigned interests[] = {READ, WRITE, READ | WRITE};
    reactor *r = make_loop();
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* bound, and does not listen */
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(deaf, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(getsockname(deaf, (struct sockaddr *)&a, &len), errno);
    for (int i = 0; i < 3; i++) {
        record seen = {0};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), -1);
        assert_int_equal(reactor_add(r, fd, interests[i], on_io, &seen), 0);
        while (!seen.calls) assert_true(reactor_poll(r, -1) >= 0);
        assert_int_equal(seen.last & interests[i], interests[i]);
        assert_int_equal(reactor_remove(r, fd), 0);
        close(fd);
    }
    close(deaf);
    reactor_destroy(r);
}

CASE(law4_connection_to_accept_is_read) {
    reactor *r = make_loop();
    record seen = {0};
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(listener, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(listen(listener, 5), errno);
    assert_return_code(getsockname(listener, (struct sockaddr *)&a, &len), errno);
    assert_int_equal(reactor_add(r, listener, READ, on_io, &seen), 0);
    assert_silent(r);
    assert_true(connect(client, (struct sockaddr *)&a, sizeof a) == 0 || errno == EINPROGRESS);
    await(client, POLLOUT);
    assert_int_equal(turns(r, 2), 2);
    assert_int_equal(seen.all, READ);
    assert_int_equal(reactor_remove(r, listener), 0);
    assert_told(r, client, WRITE, WRITE);
    reactor_destroy(r);
    close(client);
    close(listener);
}

CASE(law4_pipes_at_both_ends) {
    reactor *r = make_loop();
    int fd[2];
    make_pipe(fd);
    assert_told(r, fd[0], READ, 0);
    assert_told(r, fd[1], WRITE, WRITE);
    put(fd[1]);
    assert_told(r, fd[0], READ, READ);
    close(fd[1]);
    assert_told(r, fd[0], READ, READ | HANGUP);
    drain(fd[0]);
    assert_told(r, fd[0], READ, READ | HANGUP);
    close(fd[0]);

    make_pipe(fd);
    close(fd[0]);
    assert_told(r, fd[1], WRITE, WRITE | ERROR);
    close(fd[1]);

    record seen = {0};
    make_pipe(fd);
    fill(fd[1]);
    assert_int_equal(reactor_add(r, fd[1], WRITE, on_io, &seen), 0);
    assert_silent(r);
    close(fd[0]);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, WRITE | ERROR);
    reactor_destroy(r);
    close(fd[1]);
}

CASE(law4_the_unwatched_direction_is_not_told) {
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_told(r, fd[0], WRITE, WRITE);
    fill(fd[0]);
    assert_told(r, fd[0], WRITE, 0);
    assert_told(r, fd[0], READ, READ);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law4_eventfd) {
    reactor *r = make_loop();
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_return_code(fd, errno);
    assert_told(r, fd, READ, 0);
    assert_told(r, fd, READ | WRITE, WRITE);
    assert_return_code(eventfd_write(fd, UINT64_MAX - 1), errno);
    assert_told(r, fd, READ | WRITE, READ);
    assert_told(r, fd, WRITE, 0);
    close(fd);
    reactor_destroy(r);
}

/* ---- law 6: what is always ready ---- */

static int regular_file(void) {
    NEEDS_FILES_TO_WATCH;
    char name[] = "/tmp/reactor-test-XXXXXX";
    int fd = mkstemp(name);
    assert_return_code(fd, errno);
    unlink(name);
    return fd;
}

static int dev_null(void) { return open("/dev/null", O_RDWR | O_CLOEXEC); }

CASE(law6_regular_files_and_dev_null_are_always_ready) {
    reactor *r = make_loop();
    int fd[] = {regular_file(), dev_null()};
    for (int i = 0; i < 2; i++) {
        assert_told(r, fd[i], READ, READ);
        assert_told(r, fd[i], WRITE, WRITE);
        assert_told(r, fd[i], READ | WRITE, READ | WRITE);
        assert_told(r, fd[i], 0, 0);
    }
    record seen[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) assert_int_equal(reactor_add(r, fd[i], READ, on_io, &seen[i]), 0);
    assert_int_equal(reactor_poll(r, -1), 2); /* does not wait */
    assert_int_equal(turns(r, 5), 10);
    assert_int_equal(seen[0].calls, 6);
    assert_int_equal(seen[1].calls, 6);
    for (int i = 0; i < 2; i++) assert_int_equal(reactor_modify(r, fd[i], 0), 0);
    assert_silent(r);
    for (int i = 0; i < 2; i++) assert_int_equal(reactor_modify(r, fd[i], WRITE), 0);
    assert_int_equal(turns(r, 1), 2);
    assert_int_equal(seen[0].last, WRITE);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law6_regular_files_and_dev_null_once_and_at_edges) {
    reactor *r = make_loop();
    for (int null = 0; null < 2; null++) {
        record once = {0}, edge = {0};
        int (*open_one)(void) = null ? dev_null : regular_file, fd[] = {open_one(), open_one()};
        assert_int_equal(reactor_add(r, fd[0], READ | ONESHOT, on_io, &once), 0);
        assert_int_equal(reactor_add(r, fd[1], READ | EDGE, on_io, &edge), 0);
        turns(r, 5);
        assert_int_equal(once.calls, 1);
        assert_int_equal(edge.calls, backend_has_edges() ? 1 : 5); /* nothing there ever changes */
        assert_int_equal(reactor_modify(r, fd[0], READ | ONESHOT), 0);
        assert_int_equal(reactor_modify(r, fd[1], READ | EDGE), 0);
        int before = edge.calls;
        turns(r, 5);
        assert_int_equal(once.calls, 2);
        assert_true(edge.calls > before);
        for (int i = 0; i < 2; i++) assert_int_equal(reactor_remove(r, fd[i]), 0);
        close_pair(fd);
    }
    reactor_destroy(r);
}

/* user: the two files. */
static int files_called;
static void silence_the_other_file(reactor *r, reactor_socket fd, unsigned events, void *user) {
    const int *files = user;
    assert_int_equal(events, READ);
    assert_int_equal(reactor_modify(r, fd == files[0] ? files[1] : files[0], 0), 0);
    files_called++;
}

CASE(law6_regular_file_is_silenced_in_the_turn_in_which_it_is_ready) {
    static const unsigned how[] = {0, EDGE, ONESHOT, EDGE | ONESHOT};
    for (int i = 0; i < 4; i++) {
        reactor *r = make_loop();
        int fd[] = {regular_file(), regular_file()};
        files_called = 0;
        for (int k = 0; k < 2; k++)
            assert_int_equal(reactor_add(r, fd[k], READ | how[i], silence_the_other_file, fd), 0);
        assert_int_equal(reactor_poll(r, 0), 1);
        assert_int_equal(files_called, 1);
        reactor_destroy(r);
        close_pair(fd);
    }
}

static void stop_once(reactor *r, reactor_socket fd, unsigned events, void *user) {
    record *seen = user;
    on_io(r, fd, events, user);
    if (seen->number == fd && seen->calls == 1) reactor_stop(r);
}

CASE(law6_regular_files_at_edges_lose_none_to_a_stop_or_a_full_array) {
    reactor *r = make_loop();
    record seen[3] = {{0}, {0}, {0}};
    reactor_key k[1];
    int fd[3], keys[3] = {0, 0, 0};
    for (int i = 0; i < 3; i++) {
        fd[i] = regular_file();
        assert_int_equal(reactor_add(r, fd[i], READ | EDGE, stop_once, &seen[i]), 0);
    }
    for (int i = 0; i < 6; i++) assert_true(reactor_poll(r, 0) >= 0); /* each stops it once */
    for (int i = 0; i < 3; i++) assert_true(seen[i].calls >= 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reactor_rewatch(r, fd[i], NULL, &keys[i]), 0);
        assert_int_equal(reactor_modify(r, fd[i], READ | EDGE), 0);
    }
    for (int i = 0; i < 6; i++) {
        int n = reactor_select(r, k, 1, 0);
        assert_true(n >= 0);
        if (n) ++*(int *)k[0].user;
    }
    for (int i = 0; i < 3; i++) assert_true(keys[i] >= 1);
    reactor_destroy(r);
    for (int i = 0; i < 3; i++) close(fd[i]);
}

CASE(law6_regular_file_starves_nobody) {
    reactor_options o = {.batch = 1};
    reactor *r = make_loop_with(&o);
    record file[3] = {{0}, {0}, {0}}, other = {0};
    int fd[2], files[3];
    make_pair(fd);
    put(fd[1]);
    for (int i = 0; i < 3; i++) {
        files[i] = regular_file();
        assert_int_equal(reactor_add(r, files[i], READ, on_io, &file[i]), 0);
    }
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &other), 0);
    turns(r, 40);
    assert_true(other.calls >= 5);
    for (int i = 0; i < 3; i++) assert_true(file[i].calls >= 5);
    reactor_destroy(r);
    for (int i = 0; i < 3; i++) close(files[i]);
    close_pair(fd);
}

CASE(law6_removed_file_is_forgotten) {
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    int file = regular_file(), fd[2];
    assert_int_equal(reactor_add(r, file, READ, on_io, &seen), 0);
    turns(r, 1);
    assert_int_equal(reactor_remove(r, file), 0);
    assert_silent(r);
    assert_int_equal(seen.calls, 1);
    make_pair(fd);
    assert_return_code(dup2(fd[0], file), errno); /* the number is a socket now */
    assert_int_equal(reactor_add(r, file, READ, on_io, &next), 0);
    assert_silent(r);
    put(fd[1]);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(next.last, READ);
    reactor_destroy(r);
    close(file);
    close_pair(fd);
}

/* ---- law 5: silence, edges, once ---- */

CASE(law5_no_interest_is_silent_whatever_happens) {
    reactor *r = make_loop();
    record seen = {0};
    int gone[2], reset[2], data[2], reader[2], writer[2];
    make_pair(gone);
    make_tcp_pair(reset);
    make_pair(data);
    make_pipe(reader);
    make_pipe(writer);
    int watched[] = {gone[0], reset[0], data[0], reader[0], writer[1]};
    for (int i = 0; i < 5; i++) assert_int_equal(reactor_add(r, watched[i], 0, on_io, &seen), 0);
    assert_silent(r);
    close(gone[1]);
    close_with_reset(reset[1]);
    await(reset[0], POLLERR | POLLHUP);
    put(data[1]);
    close(reader[1]);
    close(writer[0]);
    assert_silent(r);
    assert_int_equal(seen.calls, 0);
    for (int i = 0; i < 5; i++) assert_int_equal(reactor_modify(r, watched[i], READ), 0);
    assert_int_equal(turns(r, 1), 5);
    for (int i = 0; i < 5; i++) assert_int_equal(reactor_modify(r, watched[i], 0), 0);
    assert_silent(r);
    reactor_destroy(r);
    for (int i = 0; i < 5; i++) close(watched[i]);
    close(data[1]);
}

/* A kernel that was asked for more may still tell of it, and of nothing else. */
CASE(law5_interest_given_up_while_it_is_waited_for_is_not_told) {
    static const unsigned left[] = {READ, WRITE, 0};
    reactor *r = make_loop();
    for (int i = 0; i < 3; i++) {
        record seen = {0};
        int fd[2];
        make_tcp_pair(fd);
        fill(fd[0]);
        assert_int_equal(reactor_add(r, fd[0], READ | WRITE, on_io, &seen), 0);
        assert_silent(r);
        assert_int_equal(reactor_modify(r, fd[0], left[i]), 0);
        assert_silent(r);
        if (left[i] == WRITE)
            put(fd[1]);
        else
            while (!(ask(fd[0], POLLOUT) & POLLOUT)) drain(fd[1]);
        await(fd[0], left[i] == WRITE ? POLLIN : POLLOUT);
        for (int k = 0; k < 20; k++) assert_int_equal(reactor_poll(r, 1), 0);
        assert_int_equal(seen.calls, 0);
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        close_pair(fd);
    }
    reactor_destroy(r);
}

CASE(law5_oob_data_neither_wakes_nor_spins) {
    static const unsigned interests[] = {READ, 0, READ | EDGE, WRITE};
    for (size_t i = 0; i < sizeof interests / sizeof *interests; i++) {
        reactor *r = make_loop();
        record seen = {0};
        int fd[2];
        make_tcp_pair(fd);
        if (interests[i] & WRITE) fill(fd[0]);
        assert_int_equal(reactor_add(r, fd[0], interests[i], on_io, &seen), 0);
        turns(r, 1);
        assert_int_equal(send(fd[1], "!", 1, MSG_OOB), 1);
        await(fd[0], POLLPRI);
        assert_silent(r);
        assert_int_equal(seen.calls, 0);
        if (interests[i] & READ) { /* and it hides nothing */
            put(fd[1]);
            await(fd[0], POLLIN);
            turns(r, 1);
            assert_int_equal(seen.calls, 1);
            assert_int_equal(seen.last, READ);
        }
        reactor_destroy(r);
        close_pair(fd);
    }
}

CASE(law5_edge_is_told_at_least_once_per_edge) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2], before;
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ | EDGE, on_io, &seen), 0);
    turns(r, 3); /* ready when it was added */
    assert_true(seen.calls >= 1);
    for (int i = 0; i < 10; i++) {
        before = seen.calls;
        put(fd[1]); /* an edge, whether or not the last was drained */
        turns(r, 3);
        assert_true(seen.calls > before);
        assert_int_equal(seen.all, READ);
        if (i & 1) drain(fd[0]);
    }
    drain(fd[0]);
    turns(r, 1);
    assert_silent(r);
    fill(fd[0]);
    assert_int_equal(reactor_modify(r, fd[0], READ | WRITE | EDGE), 0);
    assert_silent(r);
    drain(fd[1]);
    turns(r, 3);
    assert_int_equal(seen.last, WRITE);
    before = seen.calls;
    close(fd[1]);
    turns(r, 3);
    assert_true(seen.calls > before);
    assert_int_equal(seen.last & ~(unsigned)HANGUP, READ | WRITE);
    if (PAIRS_HANG_UP) assert_true(seen.last & HANGUP);
    reactor_destroy(r);
    close(fd[0]);
}

CASE(law5_edge_is_told_once_where_there_are_edges) {
    if (!backend_has_edges()) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ | WRITE | EDGE, on_io, &seen), 0);
    assert_int_equal(turns(r, 10), 1);
    put(fd[1]);
    assert_int_equal(turns(r, 10), 1);
    assert_int_equal(seen.last & READ, READ);
    assert_silent(r);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law5_modify_rearms_edge_with_the_same_mask) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ | EDGE, on_io, &seen), 0);
    turns(r, 2);
    for (int i = 0; i < 5; i++) {
        int before = seen.calls;
        assert_int_equal(reactor_modify(r, fd[0], READ | EDGE), 0);
        turns(r, 2);
        assert_true(seen.calls > before);
    }
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law5_modify_from_edge_to_level_and_back) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ | EDGE, on_io, &seen), 0);
    turns(r, 3);
    assert_int_equal(reactor_modify(r, fd[0], READ), 0);
    seen.calls = 0;
    turns(r, 3);
    assert_int_equal(seen.calls, 3);
    assert_int_equal(reactor_modify(r, fd[0], READ | EDGE), 0);
    seen.calls = 0;
    turns(r, 3);
    if (backend_has_edges())
        assert_int_equal(seen.calls, 1);
    else
        assert_true(seen.calls >= 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law5_oneshot_is_told_once_until_modified) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ | ONESHOT, on_io, &seen), 0);
    assert_silent(r);
    put(fd[1]);
    assert_int_equal(turns(r, 5), 1);
    assert_silent(r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reactor_modify(r, fd[0], READ | ONESHOT), 0);
        assert_int_equal(turns(r, 5), 1);
    }
    assert_int_equal(seen.all, READ);
    close(fd[1]); /* a hang-up does not break the silence */
    assert_silent(r);
    assert_int_equal(reactor_find(r, fd[0], NULL), 0);
    assert_int_equal(reactor_modify(r, fd[0], WRITE | ONESHOT), 0);
    assert_int_equal(turns(r, 5), 1);
    assert_int_equal(seen.last & (READ | WRITE), WRITE);
    assert_int_equal(reactor_modify(r, fd[0], READ), 0); /* and it is ordinary again */
    assert_int_equal(turns(r, 5), 5);
    reactor_destroy(r);
    close(fd[0]);
}

static void rearm(reactor *r, reactor_socket fd, unsigned events, void *user) {
    on_io(r, fd, events, user);
    assert_int_equal(reactor_modify(r, fd, READ | ONESHOT), 0);
}

CASE(law5_oneshot_rearmed_in_its_own_callback) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ | ONESHOT, rearm, &seen), 0);
    assert_int_equal(turns(r, 5), 5);
    assert_int_equal(reactor_rewatch(r, fd[0], on_io, &seen), 0);
    assert_int_equal(turns(r, 5), 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law5_oneshot_of_both_directions_is_one_report) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ | WRITE | ONESHOT, on_io, &seen), 0);
    assert_int_equal(turns(r, 5), 1);
    assert_int_equal(seen.last, READ | WRITE);
    reactor_destroy(r);
    close_pair(fd);
}

/* ---- laws 1 and 2: anything may be done in a callback ---- */

static void remove_all(crowd *c, member *m) {
    (void)m;
    for (int i = 0; i < c->n; i++) assert_int_equal(reactor_remove(c->r, c->m[i].fd), 0);
}

CASE(law2_removed_in_the_same_batch_is_not_called) {
    reactor *r = make_loop();
    crowd c;
    crowd_make(&c, r, 20, READ, on_member);
    c.first = remove_all;
    assert_int_equal(turns(r, 1), 1);
    assert_silent(r);
    assert_int_equal(c.calls, 1);
    assert_int_equal(counters(r).watchers, 0);
    crowd_close(&c);
    reactor_destroy(r);
}

static void close_all(crowd *c, member *m) {
    remove_all(c, m);
    for (int i = 0; i < c->n; i++) close(c->m[i].fd);
}

CASE(law2_closed_in_the_same_batch_is_not_called) {
    reactor *r = make_loop();
    crowd c;
    crowd_make(&c, r, 20, READ, on_member);
    c.first = close_all;
    assert_int_equal(turns(r, 1), 1);
    assert_silent(r);
    for (int i = 0; i < c.n; i++) close(c.m[i].peer);
    reactor_destroy(r);
}

static void remove_self(reactor *r, reactor_socket fd, unsigned events, void *user) {
    on_member(r, fd, events, user);
    assert_int_equal(reactor_remove(r, fd), 0);
    assert_int_equal(reactor_remove(r, fd), -ENOENT);
}

CASE(law1_callback_removes_itself) {
    reactor *r = make_loop();
    crowd c;
    crowd_make(&c, r, 20, READ, remove_self);
    assert_int_equal(turns(r, 1), 20);
    assert_silent(r);
    assert_int_equal(crowd_most(&c), 1);
    crowd_close(&c);
    reactor_destroy(r);
}

static void remove_and_add_self(reactor *r, reactor_socket fd, unsigned events, void *user) {
    on_member(r, fd, events, user);
    assert_int_equal(reactor_remove(r, fd), 0);
    assert_int_equal(reactor_add(r, fd, READ, remove_and_add_self, user), 0);
}

CASE(law1_callback_removes_and_adds_itself) {
    reactor *r = make_loop();
    crowd c;
    crowd_make(&c, r, 10, READ, remove_and_add_self);
    for (int i = 0; i < 5; i++) assert_int_equal(turns(r, 1), 10); /* once each turn, no more */
    assert_int_equal(crowd_least(&c), 5);
    crowd_close(&c);
    reactor_destroy(r);
}

/* All others' numbers get another description that is not ready, watched by another callback. */
static record reopened;
static int reopened_peer[CROWD_MAX];
static void reopen_others(crowd *c, member *m) {
    for (int i = 0; i < c->n; i++) {
        int fd[2], number = c->m[i].fd;
        if (&c->m[i] == m) continue;
        assert_int_equal(reactor_remove(c->r, number), 0);
        close(number);
        make_pair(fd);
        if (fd[0] != number) {
            assert_return_code(dup2(fd[0], number), errno);
            close(fd[0]);
        }
        reopened_peer[i] = fd[1];
        assert_int_equal(reactor_add(c->r, number, READ, on_io, &reopened), 0);
    }
}

CASE(law2_reused_number_gets_none_of_its_predecessors_events) {
    reactor *r = make_loop();
    crowd c;
    reopened = (record){0};
    memset(reopened_peer, 0, sizeof reopened_peer);
    crowd_make(&c, r, 20, READ, on_member);
    c.first = reopen_others;
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(turns(r, 5), 5); /* the first one, which is still ready */
    assert_int_equal(reopened.calls, 0);
    for (int i = 0; i < c.n; i++)
        if (reopened_peer[i]) put(reopened_peer[i]);
    assert_int_equal(turns(r, 1), 20);
    assert_int_equal(reopened.calls, 19);
    for (int i = 0; i < c.n; i++)
        if (reopened_peer[i]) close(reopened_peer[i]);
    crowd_close(&c);
    reactor_destroy(r);
}

static void silence_others(crowd *c, member *m) {
    for (int i = 0; i < c->n; i++)
        if (&c->m[i] != m) assert_int_equal(reactor_modify(c->r, c->m[i].fd, i % 2 ? 0 : WRITE), 0);
}

CASE(law2_interest_given_up_in_the_same_batch_is_not_told) {
    reactor *r = make_loop();
    crowd c;
    crowd_make(&c, r, 20, READ, on_member);
    c.first = silence_others;
    turns(r, 1);
    for (int i = 0; i < c.n; i++)
        if (c.m[i].calls && c.m[i].last == READ) assert_int_equal(c.m[i].calls, 1);
    int readers = 0;
    for (int i = 0; i < c.n; i++) readers += c.m[i].last == READ;
    assert_int_equal(readers, 1);
    turns(r, 2);
    for (int i = 1; i < c.n; i += 2)
        if (c.m[i].last != READ) assert_int_equal(c.m[i].calls, 0);
    for (int i = 0; i < c.n; i += 2)
        if (c.m[i].last != READ) assert_int_equal(c.m[i].last, WRITE);
    crowd_close(&c);
    reactor_destroy(r);
}

static record rewatched;
static void rewatch_others(crowd *c, member *m) {
    for (int i = 0; i < c->n; i++)
        if (&c->m[i] != m)
            assert_int_equal(reactor_rewatch(c->r, c->m[i].fd, on_io, &rewatched), 0);
}

CASE(law1_rewatched_in_the_same_batch) {
    reactor *r = make_loop();
    crowd c;
    rewatched = (record){0};
    crowd_make(&c, r, 20, READ, on_member);
    c.first = rewatch_others;
    assert_int_equal(turns(r, 1), 20);
    assert_int_equal(c.calls, 1);
    assert_int_equal(rewatched.calls, 19);
    crowd_close(&c);
    reactor_destroy(r);
}

static record added;
static int added_fd[2];
static void add_another(crowd *c, member *m) {
    (void)m;
    make_pair(added_fd);
    put(added_fd[1]);
    assert_int_equal(reactor_add(c->r, added_fd[0], READ, on_io, &added), 0);
    assert_int_equal(added.calls, 0);
}

CASE(law1_add_does_not_call_back) {
    reactor *r = make_loop();
    crowd c;
    added = (record){0};
    crowd_make(&c, r, 3, READ, on_member);
    c.first = add_another;
    turns(r, 1);
    turns(r, 1);
    assert_true(added.calls >= 1);
    assert_int_equal(added.last, READ);
    crowd_close(&c);
    reactor_destroy(r);
    close_pair(added_fd);
}

/* Adds so many that whatever holds the watchers has to move while one of them is called. */
static int grown[400][2];
static void add_many(crowd *c, member *m) {
    (void)m;
    for (int i = 0; i < 400; i++) {
        make_pipe(grown[i]);
        assert_int_equal(reactor_add(c->r, grown[i][1], WRITE, on_io, &added), 0);
    }
}

CASE(law1_callback_adds_hundreds) {
    reactor *r = make_loop();
    crowd c;
    added = (record){0};
    crowd_make(&c, r, 20, READ, on_member);
    c.first = add_many;
    turns(r, 1);
    assert_int_equal(crowd_least(&c), 1);
    turns(r, 4);
    assert_true(added.calls >= 400);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(reactor_remove(r, grown[i][1]), 0);
        close_pair(grown[i]);
    }
    crowd_close(&c);
    reactor_destroy(r);
}

/* ---- law 6: closed, reused and duplicated descriptors ---- */

CASE(law6_remove_of_a_closed_descriptor_succeeds) {
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    int fd[2], other[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    close(fd[0]);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_int_equal(reactor_remove(r, fd[0]), -ENOENT);
    assert_silent(r);
    make_pair(other);
    assert_int_equal(other[0], fd[0]);
    assert_int_equal(reactor_add(r, other[0], READ, on_io, &next), 0);
    assert_silent(r);
    put(other[1]);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(next.last, READ);
    reactor_destroy(r);
    close_pair(other);
    close(fd[1]);
}

CASE(law6_remove_after_the_number_was_reused) {
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    int fd[2], other[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    close(fd[0]);
    make_pair(other);
    assert_int_equal(other[0], fd[0]);
    assert_int_equal(reactor_add(r, other[0], READ, on_io, &next), -EEXIST);
    assert_int_equal(reactor_remove(r, other[0]), 0);
    assert_silent(r);
    assert_int_equal(reactor_add(r, other[0], READ, on_io, &next), 0);
    assert_silent(r);
    put(other[1]);
    assert_int_equal(turns(r, 3), 3);
    assert_int_equal(next.calls, 3);
    assert_int_equal(seen.calls, 1);
    reactor_destroy(r);
    close_pair(other);
    close(fd[1]);
}

CASE(law6_modify_after_close_is_no_failure_of_the_loop) {
    reactor *r = make_loop();
    record seen = {0}, other = {0};
    int fd[2], live[2];
    make_pair(fd);
    make_pair(live);
    put(live[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    assert_int_equal(reactor_add(r, live[0], READ, on_io, &other), 0);
    turns(r, 1);
    close(fd[0]);
    int e = reactor_modify(r, fd[0], READ | WRITE);
    assert_true(e == 0 || e == -EBADF);
    turns(r, 10);
    assert_true(other.calls >= 10); /* one turn may pass in finding out */
    assert_int_equal(seen.all & ~(unsigned)(READ | WRITE | ERROR | HANGUP), 0);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    drain(live[0]);
    assert_silent(r);
    reactor_destroy(r);
    close(fd[1]);
    close_pair(live);
}

CASE(law6_closed_without_remove_hurts_no_other) {
    reactor *r = make_loop();
    record seen = {0}, other = {0};
    int fd[2], live[2];
    make_pair(fd);
    make_pair(live);
    put(live[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    assert_int_equal(reactor_add(r, live[0], READ, on_io, &other), 0);
    turns(r, 1);
    close(fd[0]);
    turns(r, 10);
    assert_true(other.calls >= 10); /* one turn may pass in finding out */
    drain(live[0]);
    assert_silent(r);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_silent(r);
    reactor_destroy(r);
    close(fd[1]);
    close_pair(live);
}

CASE(law6_duplicate_left_open_causes_neither_events_nor_a_spin) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    static const unsigned interests[] = {READ, READ | WRITE, READ | EDGE, READ | ONESHOT};
    for (size_t i = 0; i < sizeof interests / sizeof *interests; i++) {
        reactor *r = make_loop();
        record seen = {0}, other = {0};
        int fd[2], live[2];
        make_pair(fd);
        make_pair(live);
        assert_int_equal(reactor_add(r, fd[0], interests[i], on_io, &seen), 0);
        assert_int_equal(reactor_add(r, live[0], READ, on_io, &other), 0);
        turns(r, 1);
        int twin = dup(fd[0]), before = seen.calls;
        put(fd[1]);
        close(fd[0]);
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        assert_silent(r);
        put(fd[1]);
        assert_silent(r);
        assert_int_equal(seen.calls, before);
        put(live[1]); /* what the set was rebuilt of is complete */
        assert_int_equal(turns(r, 3), 3);
        assert_int_equal(other.calls, 3);
        close(fd[1]);
        drain(live[0]);
        assert_silent(r);
        close(twin);
        reactor_destroy(r);
        close_pair(live);
    }
}

CASE(law6_duplicate_left_open_does_not_speak_for_the_next_of_its_number) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    int fd[2], other[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    int twin = dup(fd[0]), number = fd[0];
    close(fd[0]);
    assert_int_equal(reactor_remove(r, number), 0);
    make_pair(other);
    assert_int_equal(other[0], number);
    assert_int_equal(reactor_add(r, number, READ, on_io, &next), 0);
    put(fd[1]);
    assert_silent(r);
    assert_int_equal(next.calls, 0);
    put(other[1]);
    assert_int_equal(turns(r, 3), 3);
    assert_int_equal(next.calls, 3);
    reactor_destroy(r);
    close(twin);
    close(fd[1]);
    close_pair(other);
}

/* The kernel may know the pair of number and description still. */
CASE(law6_duplicated_back_to_its_old_number) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    int twin = dup(fd[0]);
    close(fd[0]);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    assert_int_equal(dup2(twin, fd[0]), fd[0]);
    assert_int_equal(reactor_add(r, fd[0], READ | WRITE, on_io, &next), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(next.last, WRITE);
    assert_int_equal(reactor_modify(r, fd[0], READ), 0);
    assert_silent(r);
    put(fd[1]);
    assert_int_equal(turns(r, 2), 2);
    assert_int_equal(next.last, READ);
    assert_int_equal(seen.calls, 0);
    reactor_destroy(r);
    close(twin);
    close_pair(fd);
}

#ifndef _WIN32
/* Not even once: it is neither removed nor drained, and its number is nobody's. */
CASE(law6_closed_unremoved_is_not_called_while_a_duplicate_is_open) {
    static const unsigned interests[] = {READ, READ | WRITE, READ | EDGE, READ | ONESHOT};
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    for (size_t i = 0; i < 2 * sizeof interests / sizeof *interests; i++) {
        reactor *r = make_loop();
        record seen = {0}, next = {0};
        int fd[2], other[2];
        make_pair(fd);
        int twin = dup(fd[0]);
        put(fd[1]);
        assert_int_equal(reactor_add(r, fd[0], interests[i / 2], on_io, &seen), 0);
        if (i & 1) turns(r, 1); /* it has been reported before */
        seen.calls = 0;
        put(fd[1]);
        close(fd[0]);
        assert_silent(r);
        assert_int_equal(seen.calls, 0);
        make_pair(other);
        assert_int_equal(other[0], fd[0]);
        assert_int_equal(reactor_set(r, other[0], READ, on_io, &next), 0);
        put(fd[1]);
        assert_silent(r);
        put(other[1]);
        assert_int_equal(turns(r, 2), 2);
        assert_int_equal(next.calls, 2);
        reactor_destroy(r);
        close(twin);
        close(fd[1]);
        close_pair(other);
    }
}

/* So many reports that only some of them can be verified. */
CASE(law6_closed_unremoved_falls_silent_under_load) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record seen = {0};
    crowd busy;
    int fd[2];
    make_pair(fd);
    crowd_make(&busy, r, 8, READ, on_member);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    put(fd[1]);
    turns(r, 400);
    int twin = dup(fd[0]);
    close(fd[0]);
    for (int quiet = 0, before; quiet < 1000; quiet = seen.calls == before ? quiet + 1 : 0) {
        before = seen.calls;
        turns(r, 1);
    }
    crowd_close(&busy);
    reactor_destroy(r);
    close(twin);
    close(fd[1]);
}

CASE(law6_regular_file_closed_unremoved_is_silent) {
    NEEDS_FILES_TO_WATCH;
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record seen = {0};
    FILE *f = tmpfile();
    assert_non_null(f);
    int number = dup(fileno(f));
    assert_int_equal(reactor_add(r, number, READ, on_io, &seen), 0);
    assert_int_equal(turns(r, 2), 2);
    close(number);
    assert_silent(r);
    assert_int_equal(reactor_remove(r, number), 0);
    reactor_destroy(r);
    fclose(f);
}
#endif

/* ---- numbers that mean another file ---- */

/* Closes it, and opens another pair that gets its number. */
static void reopen(int fd[2]) {
    int number = fd[0];
    close_pair(fd);
    make_pair(fd);
    if (fd[0] == number) return;
    assert_int_equal(fd[1], number);
    fd[1] = fd[0];
    fd[0] = number;
}

CASE(law6_modify_watches_what_is_open_now) {
    static const unsigned to[] = {READ, READ | WRITE, READ | EDGE, READ | ONESHOT, 0};
    static const unsigned from[] = {READ, 0};
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    for (size_t i = 0; i < 4 * sizeof to / sizeof *to; i++) {
        const unsigned interest = to[i / 4];
        reactor *r = make_loop();
        record seen = {0};
        int fd[2];
        make_pair(fd);
        assert_int_equal(reactor_add(r, fd[0], from[i & 1], on_io, &seen), 0);
        turns(r, 1);
        reopen(fd);
        if (i & 2) assert_int_equal(turns(r, 1), 0); /* it finds the number closed, or not */
        put(fd[1]);
        assert_int_equal(reactor_modify(r, fd[0], interest), 0);
        turns(r, 2);
        assert_int_equal(seen.last, interest & (READ | WRITE));
        assert_int_equal(seen.calls > 0, interest != 0);
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        assert_silent(r);
        reactor_destroy(r);
        close_pair(fd);
    }
}

CASE(law6_modify_tells_once_that_it_is_closed_and_then_is_silent) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    close(fd[0]);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(reactor_modify(r, fd[0], READ), 0);
        while (seen.calls < i) assert_true(reactor_poll(r, 1000) >= 0);
        assert_true(seen.last & ERROR);
        assert_silent(r);
        assert_int_equal(seen.calls, i);
    }
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    reactor_destroy(r);
    close(fd[1]);
}

#ifndef _WIN32
/* The old socket lives on elsewhere, and goes on reporting where a close is not the end of it. */
CASE(law6_modify_is_rid_of_what_a_duplicate_holds) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2], next[2];
    make_pair(fd);
    make_pair(next);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    int twin = dup(fd[0]);
    assert_int_equal(dup2(next[0], fd[0]), fd[0]);
    assert_int_equal(reactor_modify(r, fd[0], READ), 0);
    turns(r, 1);
    put(fd[1]);
    assert_silent(r);
    assert_int_equal(seen.calls, 0);
    put(next[1]);
    assert_int_equal(turns(r, 3), 3);
    assert_int_equal(seen.last, READ);
    reactor_destroy(r);
    close(twin);
    close_pair(fd);
    close_pair(next);
}

/* A socket in place of a regular file, and a regular file in place of a socket. */
CASE(law6_modify_finds_a_file_that_is_always_ready_and_one_that_is_not) {
    NEEDS_FILES_TO_WATCH;
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    FILE *f = tmpfile();
    assert_non_null(f);
    make_pair(fd);
    int number = dup(fileno(f));
    assert_int_equal(reactor_add(r, number, READ, on_io, &seen), 0);
    assert_int_equal(turns(r, 2), 2);
    assert_int_equal(dup2(fd[0], number), number);
    assert_int_equal(reactor_modify(r, number, READ), 0);
    assert_silent(r);
    put(fd[1]);
    assert_int_equal(turns(r, 2), 2);
    assert_int_equal(dup2(fileno(f), number), number);
    assert_int_equal(reactor_modify(r, number, READ), 0);
    drain(fd[0]);
    assert_int_equal(turns(r, 2), 2);
    assert_int_equal(reactor_remove(r, number), 0);
    assert_silent(r);
    reactor_destroy(r);
    close(number);
    close_pair(fd);
    fclose(f);
}
#endif

CASE(set_adds_changes_and_tells_anew) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    record first = {0}, second = {0};
    reactor_key k;
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_set(NULL, fd[0], READ, on_io, NULL), -EINVAL);
    assert_int_equal(reactor_set(r, fd[0], READ | ERROR, on_io, NULL), -EINVAL);
    assert_int_equal(reactor_set(r, fd[0], READ, on_io, &first), 0);
    assert_int_equal(counters(r).watchers, 1);
    put(fd[1]);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(reactor_set(r, fd[0], 0, on_io, &first), 0);
    assert_silent(r);
    assert_int_equal(reactor_set(r, fd[0], WRITE, on_io, &second), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.last, WRITE);
    reopen(fd);
    put(fd[1]);
    assert_int_equal(reactor_set(r, fd[0], WRITE, on_io, &second), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(second.last, WRITE);
    assert_int_equal(reactor_set(r, fd[0], READ, NULL, &first), 0); /* for reactor_select */
    assert_silent(r);
    assert_int_equal(reactor_select(r, &k, 1, 1000), 1);
    assert_ptr_equal(k.user, &first);
    assert_int_equal(reactor_set(r, fd[0], READ, on_io, &second), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(counters(r).watchers, 1);
    reactor_destroy(r);
    close_pair(fd);
}

#ifndef _WIN32
/* As a library does that has opened its sockets anew, and tells its adapter in the same turn. */
static void reopen_and_set_others(crowd *c, member *m) {
    for (int i = 0; i < c->n; i++) {
        int fd[2], number = c->m[i].fd;
        if (&c->m[i] == m) continue;
        close(number);
        make_pair(fd);
        if (fd[0] != number) {
            assert_return_code(dup2(fd[0], number), errno);
            close(fd[0]);
        }
        reopened_peer[i] = fd[1];
        assert_int_equal(reactor_set(c->r, number, READ, on_io, &reopened), 0);
    }
}

CASE(law2_set_of_another_file_gets_none_of_its_predecessors_events) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    reactor *r = make_loop();
    crowd c;
    reopened = (record){0};
    memset(reopened_peer, 0, sizeof reopened_peer);
    crowd_make(&c, r, 20, READ, on_member);
    c.first = reopen_and_set_others;
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(turns(r, 5), 5); /* the first one, which is still ready */
    assert_int_equal(reopened.calls, 0);
    for (int i = 0; i < c.n; i++)
        if (reopened_peer[i]) put(reopened_peer[i]);
    assert_int_equal(turns(r, 1), 20);
    assert_int_equal(reopened.calls, 19);
    for (int i = 0; i < c.n; i++)
        if (reopened_peer[i]) close(reopened_peer[i]);
    crowd_close(&c);
    reactor_destroy(r);
}

/* Of the same file nothing is put off: who sets the others in each turn keeps none from its turn. */
static void set_others(crowd *c, member *m) {
    for (int i = 0; i < c->n; i++)
        if (&c->m[i] != m)
            assert_int_equal(reactor_set(c->r, c->m[i].fd, READ, on_io, &reopened), 0);
}

CASE(set_of_the_same_file_is_told_in_the_same_turn) {
    reactor *r = make_loop();
    crowd c;
    reopened = (record){0};
    crowd_make(&c, r, 20, READ, on_member);
    c.first = set_others;
    assert_int_equal(turns(r, 1), 20);
    assert_int_equal(reopened.calls, 19);
    crowd_close(&c);
    reactor_destroy(r);
}
#endif

CASE(set_of_a_closed_one_is_refused_and_changes_nothing) {
    reactor *r = make_loop();
    record seen = {0};
    reactor_key k;
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_set(r, closed_number(), READ, on_io, &seen), -EBADF);
    assert_int_equal(counters(r).watchers, 0);
    assert_int_equal(reactor_set(r, fd[0], READ, on_io, &seen), 0);
    close(fd[0]);
    assert_int_equal(reactor_set(r, fd[0], WRITE, NULL, NULL), -EBADF);
    assert_int_equal(reactor_find(r, fd[0], &k), 0);
    assert_int_equal(k.events, READ);
    assert_ptr_equal(k.user, &seen);
    assert_silent(r);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    reactor_destroy(r);
    close(fd[1]);
}

/* Open, but nothing that can be waited for: it is refused beside others, who do not notice. */
CASE(law6_add_refuses_what_cannot_be_waited_for) {
#ifdef O_PATH
    if (libkqueue_cannot("tell such a descriptor")) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2], path = open("/", O_PATH | O_CLOEXEC);
    assert_return_code(path, errno);
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    assert_int_equal(reactor_add(r, path, READ, on_io, &seen), -EBADF);
    assert_int_equal(reactor_set(r, path, 0, on_io, &seen), -EBADF);
    assert_silent(r);
    put(fd[1]);
    assert_int_equal(turns(r, 1), 1);
    reactor_destroy(r);
    close(path);
    close_pair(fd);
#else
    skip();
#endif
}

CASE(law6_many_duplicates_left_open) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    enum { N = 40 };
    reactor_options o = {.batch = 4}; /* more stale reports than a batch holds */
    reactor *r = make_loop_with(&o);
    record seen = {0}, other = {0};
    int fd[N][2], twin[N], live[2];
    make_pair(live);
    assert_int_equal(reactor_add(r, live[0], READ, on_io, &other), 0);
    for (int i = 0; i < N; i++) {
        make_pair(fd[i]);
        assert_int_equal(reactor_add(r, fd[i][0], READ, on_io, &seen), 0);
    }
    turns(r, 1);
    for (int i = 0; i < N; i++) {
        twin[i] = dup(fd[i][0]);
        put(fd[i][1]);
        close(fd[i][0]);
        assert_int_equal(reactor_remove(r, fd[i][0]), 0);
    }
    put(live[1]);
    int called = turns(r, 60);
    assert_int_equal(called, other.calls);
    assert_true(called >= 20);
    drain(live[0]);
    turns(r, 60);
    assert_silent(r);
    assert_int_equal(seen.calls, 0);
    reactor_destroy(r);
    for (int i = 0; i < N; i++) close(twin[i]), close(fd[i][1]);
    close_pair(live);
}

CASE(law6_both_of_two_duplicates_watched) {
    reactor *r = make_loop();
    record one = {0}, two = {0};
    int fd[2];
    make_pair(fd);
    int twin = dup(fd[0]);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &one), 0);
    assert_int_equal(reactor_add(r, twin, READ, on_io, &two), 0);
    put(fd[1]);
    assert_int_equal(turns(r, 1), 2);
    assert_int_equal(reactor_remove(r, fd[0]), 0);
    close(fd[0]);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(two.calls, 2);
    drain(twin);
    assert_silent(r);
    reactor_destroy(r);
    close(twin);
    close(fd[1]);
}

/* ---- law 7: high numbers ---- */

/* The highest descriptor number this process may have, at most so much. */
static int raise_limit(int wanted) {
    struct rlimit l;
    assert_return_code(getrlimit(RLIMIT_NOFILE, &l), errno);
    l.rlim_cur = l.rlim_max;
    assert_return_code(setrlimit(RLIMIT_NOFILE, &l), errno);
    if (emulated() && on_backend("select")) return FD_SETSIZE - 1; /* where qemu's sets end */
    return l.rlim_cur == RLIM_INFINITY || l.rlim_cur > (rlim_t)wanted ? wanted
                                                                      : (int)l.rlim_cur - 1;
}

CASE(law7_numbers_around_every_boundary_of_a_set) {
    static const int wanted[] = {61,   63,   64,   65,   127,  128,  511,  512,
                                 1022, 1023, 1024, 1025, 2047, 2048, 4999, 5000};
    enum { N = sizeof wanted / sizeof *wanted };
    int highest = raise_limit(5000);
    if (highest < 1025) skip();
    reactor *r = make_loop();
    record seen[N];
    int peer[N], n = 0;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < N && wanted[i] <= highest; i++, n++) {
        int fd[2];
        make_pair(fd);
        assert_return_code(dup2(fd[0], wanted[i]), errno);
        if (fd[0] != wanted[i]) close(fd[0]);
        peer[i] = fd[1];
        assert_int_equal(reactor_add(r, wanted[i], READ, on_io, &seen[i]), 0);
    }
    assert_silent(r);
    for (int i = n - 1; i >= 0; i--) { /* each alone, and no other */
        put(peer[i]);
        assert_int_equal(turns(r, 1), 1);
        assert_int_equal(seen[i].calls, 1);
        assert_int_equal(seen[i].number, wanted[i]);
        drain(wanted[i]);
    }
    for (int i = 0; i < n; i++) put(peer[i]);
    assert_int_equal(turns(r, 1), n);
    for (int i = n - 1; i > 0; i--) { /* the highest goes, the set may shrink */
        assert_int_equal(reactor_remove(r, wanted[i]), 0);
        close(wanted[i]);
        close(peer[i]);
        assert_int_equal(turns(r, 1), i);
    }
    reactor_destroy(r);
    close(wanted[0]);
    close(peer[0]);
}

CASE(law7_high_number_alone_and_removed_closed) {
    if (libkqueue_cannot(SEE_A_CLOSE)) skip();
    int highest = raise_limit(5000);
    if (highest < 1025) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    for (int i = 0; i < 5; i++) {
        assert_return_code(dup2(fd[0], highest), errno);
        assert_int_equal(reactor_add(r, highest, READ | WRITE, on_io, &seen), 0);
        assert_int_equal(turns(r, 1), 1);
        assert_int_equal(seen.last, WRITE);
        assert_int_equal(reactor_modify(r, highest, READ), 0);
        close(highest);
        assert_int_equal(reactor_remove(r, highest), 0);
        assert_silent(r);
    }
    reactor_destroy(r);
    close_pair(fd);
}

/* ---- law 8: batches, changes ---- */

CASE(law8_more_ready_than_a_batch_are_served_in_turn) {
    static const unsigned interests[] = {READ, READ | EDGE, READ | WRITE};
    for (int k = 0; k < 3; k++) {
        reactor_options o = {.batch = 4};
        reactor *r = make_loop_with(&o);
        crowd c;
        crowd_make(&c, r, 50, interests[k], on_member);
        turns(r, 26); /* 13 batches; twice that leaves an implementation its freedom */
        assert_true(crowd_least(&c) >= 1);
        if (!(interests[k] & EDGE)) {
            turns(r, 200);
            if (crowd_most(&c) > 2 * crowd_least(&c) + 2)
                fail_msg("one was called %d times, another %d", crowd_most(&c), crowd_least(&c));
        }
        crowd_close(&c);
        reactor_destroy(r);
    }
}

CASE(law8_batch_of_one) {
    reactor_options o = {.batch = 1};
    reactor *r = make_loop_with(&o);
    crowd c;
    crowd_make(&c, r, 10, READ | ONESHOT, on_member);
    turns(r, 20);
    assert_int_equal(crowd_least(&c), 1);
    assert_int_equal(crowd_most(&c), 1);
    crowd_close(&c);
    reactor_destroy(r);
}

CASE(law8_newcomers_do_not_starve_the_old) {
    reactor_options o = {.batch = 4};
    reactor *r = make_loop_with(&o);
    crowd old, young;
    crowd_make(&old, r, 10, READ, on_member);
    turns(r, 3);
    crowd_make(&young, r, 40, READ, on_member);
    int before = crowd_most(&old);
    turns(r, 200);
    assert_true(crowd_least(&old) >= before + 5);
    assert_true(crowd_least(&young) >= 5);
    crowd_close(&old);
    crowd_close(&young);
    reactor_destroy(r);
}

CASE(law8_changes_within_a_turn_cost_at_most_one) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    turns(r, 1);
    uint64_t before = counters(r).changes;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(reactor_modify(r, fd[0], READ | WRITE), 0);
        assert_int_equal(reactor_modify(r, fd[0], READ), 0);
    }
    turns(r, 1);
    assert_true(counters(r).changes <= before + 1); /* back where it was, and told all the same */
    assert_int_equal(seen.calls, 0);
    before = counters(r).changes;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(reactor_modify(r, fd[0], i % 2 ? READ | WRITE : 0), 0);
    assert_int_equal(turns(r, 1), 1);
    assert_int_equal(seen.last, WRITE);
    assert_true(counters(r).changes <= before + 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(law8_modified_then_removed_then_added) {
    reactor *r = make_loop();
    record seen = {0}, next = {0};
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(reactor_modify(r, fd[0], WRITE), 0); /* pending when it goes */
        assert_int_equal(reactor_remove(r, fd[0]), 0);
        assert_int_equal(reactor_add(r, fd[0], READ, on_io, &next), 0);
        assert_int_equal(turns(r, 2), 0);
    }
    assert_int_equal(reactor_modify(r, fd[0], READ | WRITE), 0);
    assert_int_equal(turns(r, 2), 2);
    assert_int_equal(seen.calls, 0);
    reactor_destroy(r);
    close_pair(fd);
}

/* ---- pull ---- */

CASE(select_returns_keys_of_those_without_a_callback) {
    reactor *r = make_loop();
    record pushed = {0};
    reactor_key k[8];
    int a[2], b[2], tag = 0;
    make_pair(a);
    make_pair(b);
    assert_int_equal(reactor_add(r, a[0], READ | WRITE, NULL, &tag), 0);
    assert_int_equal(reactor_add(r, b[0], READ, on_io, &pushed), 0);
    memset(k, 0xff, sizeof k);
    assert_int_equal(reactor_select(r, k, 8, 0), 1);
    assert_int_equal(k[0].fd, a[0]);
    assert_int_equal(k[0].events, WRITE);
    assert_true(k[0].fn == NULL);
    assert_ptr_equal(k[0].user, &tag);
    assert_true(k[1].fd == (reactor_socket)-1); /* not written */
    put(a[1]);
    put(b[1]);
    assert_int_equal(reactor_select(r, k, 8, -1), 1);
    assert_int_equal(k[0].events, READ | WRITE);
    assert_int_equal(pushed.calls, 1);
    assert_int_equal(reactor_modify(r, a[0], 0), 0);
    assert_int_equal(reactor_select(r, k, 8, 0), 0);
    assert_int_equal(pushed.calls, 2);
    assert_int_equal(reactor_select(r, k, 8, -1), 0); /* the turn did something else */
    assert_int_equal(pushed.calls, 3);
    reactor_destroy(r);
    close_pair(a);
    close_pair(b);
}

CASE(select_tells_hangup_and_error_too) {
    NEEDS_UNIX_PAIRS;
    reactor *r = make_loop();
    reactor_key k[4];
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, NULL, NULL), 0);
    close(fd[1]);
    assert_int_equal(reactor_select(r, k, 4, 0), 1);
    assert_int_equal(k[0].events, READ | HANGUP);
    reactor_destroy(r);
    close(fd[0]);
}

CASE(select_refuses_bad_arguments) {
    reactor *r = make_loop();
    reactor_key k[2];
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, NULL, NULL), 0);
    assert_int_equal(reactor_select(NULL, k, 2, 0), -EINVAL);
    assert_int_equal(reactor_select(r, NULL, 2, 0), -EINVAL);
    assert_int_equal(reactor_select(r, k, 0, 0), -EINVAL);
    assert_int_equal(reactor_select(r, k, -1, 0), -EINVAL);
    assert_int_equal(reactor_select(r, k, INT32_MIN, 0), -EINVAL);
    assert_int_equal(reactor_select(r, k, 2, -2), -EINVAL);
    assert_int_equal(reactor_select(r, k, 2, INT64_MIN), -EINVAL);
    assert_int_equal(reactor_select(r, k, 2, 0), 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(select_alone_arms_them) {
    reactor *r = make_loop();
    reactor_key k[4];
    int fd[2], file = regular_file();
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, NULL, NULL), 0);
    assert_int_equal(reactor_add(r, file, READ, NULL, NULL), 0);
    assert_silent(r);
    assert_int_equal(reactor_select(r, k, 4, 0), 2);
    assert_silent(r);
    assert_int_equal(reactor_select(r, k, 4, -1), 2);
    reactor_destroy(r);
    close_pair(fd);
    close(file);
}

CASE(law5_pulled_ones_do_not_spin_in_a_poll_whatever_happens) {
    static const unsigned interests[] = {READ, READ | EDGE, READ | ONESHOT, READ | WRITE | EDGE};
    for (size_t i = 0; i < sizeof interests / sizeof *interests; i++) {
        reactor *r = make_loop();
        reactor_key k[4];
        int fd[2], reset[2];
        make_pair(fd);
        make_tcp_pair(reset);
        assert_int_equal(reactor_add(r, fd[0], interests[i], NULL, NULL), 0);
        assert_int_equal(reactor_add(r, reset[0], interests[i], NULL, NULL), 0);
        reactor_select(r, k, 4, 0);
        turns(r, 1);
        put(fd[1]);
        close(fd[1]);
        close_with_reset(reset[1]);
        await(reset[0], POLLERR | POLLHUP);
        assert_silent(r);
        assert_int_equal(reactor_select(r, k, 4, 0), 2); /* and nothing was lost */
        assert_int_equal(k[0].events & READ, READ);
        assert_int_equal(k[1].events & READ, READ);
        assert_silent(r);
        reactor_destroy(r);
        close(fd[0]);
        close(reset[0]);
    }
}

static int key_index(const crowd *c, const reactor_key *k) {
    for (int i = 0; i < c->n; i++)
        if (c->m[i].fd == k->fd) {
            assert_ptr_equal(k->user, &c->m[i]);
            return i;
        }
    fail_msg("a key of nobody: %d", k->fd);
    return -1;
}

CASE(select_returns_what_did_not_fit_in_the_next_call) {
    reactor *r = make_loop();
    reactor_key k[10];
    crowd c;
    crowd_make(&c, r, 10, READ | ONESHOT, NULL);
    static const int expected[] = {3, 3, 3, 1, 0};
    for (int call = 0; call < 5; call++) {
        int n = reactor_select(r, k, 3, 0);
        assert_int_equal(n, expected[call]);
        for (int i = 0; i < n; i++) c.m[key_index(&c, &k[i])].calls++;
    }
    assert_int_equal(crowd_least(&c), 1);
    assert_int_equal(crowd_most(&c), 1);
    crowd_close(&c);

    crowd_make(&c, r, 10, READ, NULL); /* level: still all of them within four calls */
    for (int call = 0; call < 4; call++) {
        int n = reactor_select(r, k, 3, 0);
        assert_true(n >= 1 && n <= 3);
        for (int i = 0; i < n; i++) c.m[key_index(&c, &k[i])].calls++;
    }
    assert_int_equal(crowd_least(&c), 1);
    crowd_close(&c);
    reactor_destroy(r);
}

CASE(select_goes_on_behind_its_last_key_after_other_turns) {
    reactor *r = make_loop();
    reactor_key k[3];
    crowd c;
    crowd_make(&c, r, 10, READ, NULL);
    for (int call = 0; call < 4; call++) {
        assert_int_equal(reactor_poll(r, 0), 0);
        int n = reactor_select(r, k, 3, 0);
        assert_int_equal(n, 3);
        for (int i = 0; i < n; i++) c.m[key_index(&c, &k[i])].calls++;
    }
    assert_int_equal(crowd_least(&c), 1);
    crowd_close(&c);
    reactor_destroy(r);
}

CASE(select_does_not_wait_while_something_did_not_fit) {
    reactor *r = make_loop();
    reactor_key k[2];
    crowd c;
    crowd_make(&c, r, 5, READ | ONESHOT, NULL);
    assert_int_equal(reactor_select(r, k, 2, -1), 2);
    assert_int_equal(reactor_select(r, k, 2, -1), 2);
    assert_int_equal(reactor_select(r, k, 2, -1), 1);
    assert_int_equal(reactor_select(r, k, 2, 0), 0);
    crowd_close(&c);
    reactor_destroy(r);
}

CASE(law2_select_drops_what_was_removed_before_the_next_call) {
    reactor *r = make_loop();
    reactor_key k[16], first;
    crowd c;
    crowd_make(&c, r, 10, READ, NULL);
    assert_int_equal(reactor_select(r, &first, 1, 0), 1);
    int kept = key_index(&c, &first);
    for (int i = 0; i < c.n; i++)
        if (i != kept)
            assert_int_equal(i % 2 ? reactor_remove(r, c.m[i].fd) : reactor_modify(r, c.m[i].fd, 0),
                             0);
    int n = reactor_select(r, k, 16, 0);
    for (int i = 0; i < n; i++) assert_int_equal(k[i].fd, first.fd);
    assert_int_equal(reactor_select(r, k, 16, 0), 1);
    assert_int_equal(k[0].fd, first.fd);
    crowd_close(&c);
    reactor_destroy(r);
}

static int pulled_fd;
static void remove_pulled(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd, (void)events, (void)user;
    reactor_remove(r, pulled_fd);
}
static void remove_pulled_late(reactor *r, void *user) {
    (void)user;
    reactor_remove(r, pulled_fd);
}
static int idle_pair[2];
static void replace_pulled_late(reactor *r, void *user) {
    reactor_remove(r, pulled_fd);
    reactor_add(r, idle_pair[0], READ | WRITE, NULL, user); /* in its place */
    fill(idle_pair[0]);
}
static void silence_pulled(reactor *r, reactor_timer t, void *user) {
    (void)t, (void)user;
    reactor_modify(r, pulled_fd, 0);
}

/* Its key may have been on the way already, and its user pointer may be freed by now. */
CASE(law2_select_drops_what_a_callback_of_its_turn_removed) {
    for (int how = 0; how < 4; how++) {
        reactor *r = make_loop();
        reactor_key k[4];
        int pulled[2], one[2], two[2];
        make_pair(one);
        make_pair(pulled);
        make_pair(two);
        make_pair(idle_pair);
        pulled_fd = pulled[0];
        /* One before and one after it, in whatever order a backend reports. */
        if (how == 0) assert_int_equal(reactor_add(r, one[0], WRITE, remove_pulled, NULL), 0);
        assert_int_equal(reactor_add(r, pulled[0], WRITE, NULL, NULL), 0);
        if (how == 0) assert_int_equal(reactor_add(r, two[0], WRITE, remove_pulled, NULL), 0);
        if (how == 1) assert_int_equal(reactor_defer(r, remove_pulled_late, NULL), 0);
        if (how == 2) assert_int_equal(reactor_after(r, 0, silence_pulled, NULL, NULL), 0);
        if (how == 3) assert_int_equal(reactor_defer(r, replace_pulled_late, NULL), 0);
        for (int i = 0; i < 3; i++) assert_int_equal(reactor_select(r, k, 4, 0), 0);
        assert_int_equal(reactor_find(r, pulled[0], NULL), how == 2 ? 0 : -ENOENT);
        reactor_destroy(r);
        close_pair(idle_pair);
        close_pair(pulled);
        close_pair(one);
        close_pair(two);
    }
}

CASE(select_keeps_what_did_not_fit_over_a_poll) {
    reactor *r = make_loop();
    reactor_key k[16];
    crowd c;
    crowd_make(&c, r, 6, READ | ONESHOT, NULL);
    assert_int_equal(reactor_select(r, k, 2, 0), 2);
    assert_int_equal(turns(r, 3), 0);
    assert_int_equal(reactor_select(r, k, 16, 0), 4);
    assert_int_equal(reactor_select(r, k, 16, 0), 0);
    crowd_close(&c);
    reactor_destroy(r);
}

CASE(select_with_more_ready_than_a_batch) {
    reactor_options o = {.batch = 4};
    reactor *r = make_loop_with(&o);
    reactor_key k[64];
    crowd pulled, pushed;
    crowd_make(&pulled, r, 30, READ, NULL);
    crowd_make(&pushed, r, 20, READ, on_member);
    for (int call = 0; call < 60; call++) {
        int n = reactor_select(r, k, 64, 0);
        assert_true(n >= 0 && n <= 64);
        for (int i = 0; i < n; i++) {
            member *m = k[i].user;
            assert_int_equal(m->fd, k[i].fd);
            assert_ptr_equal(m->of, &pulled);
            m->calls++;
        }
    }
    assert_true(crowd_least(&pulled) >= 1);
    assert_true(crowd_least(&pushed) >= 1);
    crowd_close(&pulled);
    crowd_close(&pushed);
    reactor_destroy(r);
}

CASE(select_runs_timers_and_tasks) {
    reactor *r = make_loop();
    record timer = {0}, task = {0};
    reactor_key k[2];
    assert_int_equal(reactor_after(r, 0, on_timer, &timer, NULL), 0);
    assert_int_equal(reactor_post(r, on_task, &task), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(reactor_select(r, k, 2, 0), 0);
    assert_int_equal(timer.calls, 1);
    assert_int_equal(task.calls, 1);
    reactor_destroy(r);
}

CASE(select_between_push_and_pull) {
    reactor *r = make_loop();
    record seen = {0};
    reactor_key k[2];
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    assert_int_equal(reactor_select(r, k, 2, 0), 0);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(reactor_rewatch(r, fd[0], NULL, &seen), 0);
    assert_int_equal(turns(r, 3), 0);
    assert_int_equal(reactor_select(r, k, 2, 0), 1);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(reactor_rewatch(r, fd[0], on_io, &seen), 0);
    assert_int_equal(turns(r, 3), 3);
    assert_int_equal(reactor_select(r, k, 2, 0), 0);
    assert_int_equal(seen.calls, 5);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(select_oneshot_and_edge) {
    reactor *r = make_loop();
    reactor_key k[4];
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(r, fd[0], READ | ONESHOT, NULL, NULL), 0);
    assert_int_equal(reactor_select(r, k, 4, 0), 1);
    assert_int_equal(reactor_select(r, k, 4, 0), 0);
    assert_int_equal(reactor_modify(r, fd[0], READ | ONESHOT), 0);
    assert_int_equal(reactor_select(r, k, 4, 0), 1);
    assert_int_equal(reactor_modify(r, fd[0], READ | EDGE), 0);
    assert_int_equal(reactor_select(r, k, 4, 0), 1);
    drain(fd[0]);
    reactor_select(r, k, 4, 0);
    assert_int_equal(reactor_select(r, k, 4, 0), 0);
    put(fd[1]);
    assert_int_equal(reactor_select(r, k, 4, 0), 1);
    assert_int_equal(k[0].events, READ);
    reactor_destroy(r);
    close_pair(fd);
}

static void pull_others(crowd *c, member *m) {
    for (int i = 0; i < c->n; i++)
        if (&c->m[i] != m) assert_int_equal(reactor_rewatch(c->r, c->m[i].fd, NULL, &c->m[i]), 0);
}

CASE(select_loses_no_edge_of_what_became_pulled_in_the_same_turn) {
    static const unsigned interests[] = {READ, READ | EDGE, READ | ONESHOT};
    for (int k = 0; k < 3; k++) {
        reactor *r = make_loop();
        reactor_key keys[16];
        crowd c;
        crowd_make(&c, r, 10, interests[k], on_member);
        c.first = pull_others;
        assert_int_equal(turns(r, 1), 1);
        assert_int_equal(c.calls, 1);
        assert_int_equal(reactor_select(r, keys, 16, 0), 9);
        crowd_close(&c);
        reactor_destroy(r);
    }
}

CASE(select_loses_no_edge_to_a_poll) {
    reactor *r = make_loop();
    reactor_key k[4];
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ | EDGE, NULL, NULL), 0);
    assert_int_equal(reactor_select(r, k, 4, 0), 0);
    put(fd[1]);
    assert_int_equal(turns(r, 3), 0); /* sees the edge, which is not its own */
    assert_int_equal(reactor_select(r, k, 4, 0), 1);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(watchers_of_two_loops_on_one_descriptor) {
    reactor *a = make_loop(), *b = make_loop();
    record one = {0}, two = {0};
    int fd[2];
    make_pair(fd);
    put(fd[1]);
    assert_int_equal(reactor_add(a, fd[0], READ, on_io, &one), 0);
    assert_int_equal(reactor_add(b, fd[0], READ, on_io, &two), 0);
    assert_int_equal(turns(a, 2), 2);
    assert_int_equal(turns(b, 2), 2);
    assert_int_equal(reactor_remove(a, fd[0]), 0);
    assert_int_equal(turns(b, 2), 2);
    reactor_destroy(a);
    assert_int_equal(turns(b, 2), 2);
    reactor_destroy(b);
    close_pair(fd);
}

CASE(destroy_leaves_watched_descriptors_open) {
    int before = open_descriptors();
    reactor *r = make_loop();
    int fd[2];
    make_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], READ, on_io, NULL), 0);
    reactor_destroy(r);
    assert_int_equal(open_descriptors(), before + 2);
    put(fd[0]);
    close_pair(fd);
}

#ifndef _WIN32
/* ---- what else happens to a process ---- */

/* One turn may pass in finding out that something was closed. */
static int next_calls(reactor *r) {
    int e = reactor_poll(r, 10000);
    return e ? e : reactor_poll(r, 10000);
}

/* In a child, for there is no way back. Returns which step was wrong, or 0. */
static int works_under_a_lowered_limit(rlim_t limit) {
    enum { N = 20 };
    struct rlimit l = {limit, limit};
    record seen[N] = {{0}};
    int fd[N][2];
    reactor *r = make_loop();
    for (int i = 0; i < N; i++) {
        make_pair(fd[i]);
        if (reactor_add(r, fd[i][0], i % 2 ? READ : READ | WRITE, on_io, &seen[i]) < 0) return 1;
    }
    if (reactor_poll(r, 0) < 0 || setrlimit(RLIMIT_NOFILE, &l) < 0) return 2;
    for (int i = 0; i < N; i++)
        if (reactor_modify(r, fd[i][0], READ) < 0) return 3;
    if (reactor_poll(r, 5) != 0) return 4;
    for (int i = 0; i < N; i++) {
        put(fd[i][1]);
        if (next_calls(r) != 1 || seen[i].last != READ) return 5;
        if (reactor_modify(r, fd[i][0], WRITE) < 0 || next_calls(r) != 1) return 6;
        if (seen[i].last != WRITE) return 7;
        if (i == 10) close(fd[i][0]); /* unremoved: the others do not notice */
        if (i != 10 && reactor_modify(r, fd[i][0], 0) < 0) return 8;
    }
    if (reactor_poll(r, 5) < 0) return 9;
    reactor_destroy(r);
    return 0;
}

CASE(limit_lowered_beneath_what_is_watched_stops_nothing) {
    if (libkqueue_cannot("do without poll")) skip();
    if (emulated()) skip(); /* which needs descriptors of its own */
    static const rlim_t limits[] = {8, 1, 0};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        int status = 0;
        pid_t child = fork();
        assert_return_code(child, errno);
        if (child == 0) _exit(works_under_a_lowered_limit(limits[i]));
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

/* Without standard streams, and then daemon(3), which opens /dev/null for them. */
static int works_without_standard_streams(void) {
    record seen = {0};
    int fd[2];
    for (int i = 0; i < 3; i++) close(i);
    reactor *r = make_loop();
    make_pair(fd);
    if (fd[0] < 3 || fd[1] < 3) return 1;
    if (reactor_add(r, fd[0], READ, on_io, &seen) < 0) return 2;
    if (reactor_add(r, 0, READ, on_io, &seen) == 0 && on_backend("epoll")) return 3;
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) != 0) return 4;
    put(fd[1]);
    if (reactor_poll(r, 10000) != 1 || seen.number != fd[0]) return 5;
    drain(fd[0]);
    reactor_wake(r);
    if (reactor_poll(r, 10000) != 0) return 6;
    reactor_destroy(r);
    if (fcntl(0, F_GETFD) < 0) return 7; /* that one is not the library's */
    if (fcntl(1, F_GETFD) >= 0 || fcntl(2, F_GETFD) >= 0) return 8;
    return 0;
}

CASE(numbers_of_standard_streams_are_left_to_them) {
    if (libkqueue_cannot("do without them")) skip();
    int status = 0;
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) _exit(works_without_standard_streams());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

/* ---- PRIORITY, and HANGUP as an interest ---- */

enum { PRIORITY = REACTOR_PRIORITY };

static int tells_priority(void) { return !on_backend("kqueue"); }

/* epoll and io_uring, and poll where it has POLLRDHUP. */
static int tells_hangup(void) {
#if defined(__linux__)
    return !on_backend("select") && !on_backend("kqueue");
#else
    return 0;
#endif
}

static void urge(int fd) {
    assert_int_equal(send(fd, "!", 1, MSG_OOB), 1);
    loopback_settles();
}

CASE(priority_is_urgent_data_and_nothing_else) {
    if (!tells_priority()) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    char byte;
    make_tcp_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], PRIORITY, on_io, &seen), 0);
    assert_silent(r);
    assert_int_equal(send(fd[1], "data", 4, 0), 4);
    loopback_settles();
    assert_silent(r);
    urge(fd[1]);
    while (!seen.calls) assert_true(reactor_poll(r, -1) >= 0);
    assert_int_equal(seen.last, PRIORITY);
    turns(r, 3); /* a level */
    assert_true(seen.calls >= 4);
    assert_int_equal(seen.all, PRIORITY);
    assert_int_equal(recv(fd[0], &byte, 1, MSG_OOB), 1);
    assert_int_equal(byte, '!');
    turns(r, 1);
    assert_silent(r); /* although there is data */
    assert_int_equal(reactor_modify(r, fd[0], READ), 0);
    seen.all = 0;
    turns(r, 2);
    assert_int_equal(seen.all, READ);
    urge(fd[1]);
    turns(r, 2);
    assert_int_equal(seen.all, READ); /* it is not asked for any more */
    assert_int_equal(reactor_modify(r, fd[0], READ | WRITE | PRIORITY), 0);
    turns(r, 1);
    assert_int_equal(seen.last, READ | WRITE | PRIORITY);
    assert_int_equal(reactor_modify(r, fd[0], PRIORITY | ONESHOT), 0);
    int calls = seen.calls;
    turns(r, 3);
    assert_int_equal(seen.calls, calls + 1);
    assert_int_equal(seen.last, PRIORITY);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(priority_alone_keeps_the_loop_going_and_hears_of_a_reset) {
    if (!tells_priority()) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_tcp_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], PRIORITY, on_io, &seen), 0);
    assert_int_equal(reactor_after(r, 1, stop_on_timer, NULL, NULL), 0);
    assert_int_equal(reactor_run(r), 0); /* ended by the stop, or the time limit ends it */
    struct linger reset = {1, 0};
    setsockopt(fd[1], SOL_SOCKET, SO_LINGER, (void *)&reset, sizeof reset);
    close(fd[1]);
    while (!seen.calls) assert_true(reactor_poll(r, -1) >= 0);
    assert_true(seen.last & PRIORITY);
    assert_true(seen.last & (ERROR | HANGUP));
    assert_int_equal(seen.last & (READ | WRITE), 0);
    reactor_destroy(r);
    close(fd[0]);
}

CASE(priority_can_be_selected) {
    if (!tells_priority()) skip();
    reactor *r = make_loop();
    reactor_key key;
    int fd[2];
    make_tcp_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], PRIORITY, NULL, NULL), 0);
    assert_int_equal(reactor_select(r, &key, 1, 0), 0);
    urge(fd[1]);
    while (reactor_select(r, &key, 1, 1000) == 0) continue;
    assert_int_equal(key.events, PRIORITY);
    assert_int_equal(turns(r, 2), 0); /* not for these */
    assert_int_equal(reactor_find(r, fd[0], &key), 0);
    assert_int_equal(key.events, PRIORITY);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(hangup_alone_is_told_of_the_peers_end_without_reading) {
    if (!tells_hangup()) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    char sink[16];
    make_tcp_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], HANGUP, on_io, &seen), 0);
    assert_silent(r);
    assert_int_equal(send(fd[1], "data", 4, 0), 4);
    loopback_settles();
    assert_silent(r);
    shutdown(fd[1], SHUT_WR);
    while (!seen.calls) assert_true(reactor_poll(r, -1) >= 0);
    assert_int_equal(seen.last, HANGUP);
    turns(r, 3); /* a level */
    assert_true(seen.calls >= 4);
    assert_int_equal(seen.all, HANGUP);
    assert_int_equal(reactor_modify(r, fd[0], READ | HANGUP), 0);
    turns(r, 1);
    assert_int_equal(seen.last, READ | HANGUP);
    assert_int_equal(recv(fd[0], sink, sizeof sink, 0), 4); /* nothing is lost */
    assert_int_equal(reactor_modify(r, fd[0], READ), 0);
    turns(r, 1);
    assert_int_equal(seen.last, READ);
    assert_int_equal(reactor_modify(r, fd[0], HANGUP | ONESHOT), 0);
    int calls = seen.calls;
    turns(r, 3);
    assert_int_equal(seen.calls, calls + 1);
    assert_silent(r);
    reactor_destroy(r);
    close_pair(fd);
}

CASE(hangup_does_not_wake_a_blocked_writer) {
    if (!tells_hangup()) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_tcp_pair(fd);
    fill(fd[0]);
    assert_int_equal(reactor_add(r, fd[0], WRITE, on_io, &seen), 0);
    assert_silent(r);
    shutdown(fd[1], SHUT_WR);
    loopback_settles();
    assert_silent(r);
    assert_int_equal(reactor_modify(r, fd[0], WRITE | HANGUP), 0);
    while (!seen.calls) assert_true(reactor_poll(r, -1) >= 0);
    assert_int_equal(seen.all, HANGUP); /* there is no room */
    reactor_destroy(r);
    close_pair(fd);
}

CASE(hangup_alone_is_told_of_a_reset) {
    if (!tells_hangup()) skip();
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_tcp_pair(fd);
    assert_int_equal(reactor_add(r, fd[0], HANGUP, on_io, &seen), 0);
    struct linger reset = {1, 0};
    setsockopt(fd[1], SOL_SOCKET, SO_LINGER, (void *)&reset, sizeof reset);
    close(fd[1]);
    while (!seen.calls) assert_true(reactor_poll(r, -1) >= 0);
    assert_int_equal(seen.last & ~(unsigned)ERROR, HANGUP);
    reactor_destroy(r);
    close(fd[0]);
}

CASE(what_a_backend_cannot_tell_is_enotsup) {
    reactor *r = make_loop();
    record seen = {0};
    int fd[2];
    make_tcp_pair(fd);
    int e = tells_hangup() ? 0 : -ENOTSUP;
    assert_int_equal(reactor_set(r, fd[0], READ | HANGUP, on_io, &seen), e);
    if (e < 0) assert_int_equal(reactor_add(r, fd[0], READ, on_io, &seen), 0);
    assert_int_equal(reactor_modify(r, fd[0], HANGUP), e);
    e = tells_priority() ? 0 : -ENOTSUP;
    assert_int_equal(reactor_add(r, fd[1], PRIORITY, on_io, &seen), e);
    assert_int_equal(reactor_set(r, fd[1], PRIORITY, on_io, &seen), e);
    reactor_destroy(r);
    close_pair(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(law6_add_refuses_what_is_no_descriptor),
        TEST(law6_add_refuses_twice_and_keeps_the_first),
        TEST(law6_unknown_descriptors_are_enoent),
        TEST(law6_null_loop_and_unknown_bits_are_einval),
        TEST(find_shows_the_key_as_it_is_now),
        TEST(rewatch_changes_who_is_called),
        TEST(law4_socket_data_and_room),
        TEST(law4_level_is_told_until_it_is_gone),
        TEST(law4_fin_reaches_readers_and_no_blocked_writer),
        TEST(law4_writer_that_a_fin_does_not_wake_hears_of_room),
        TEST(law4_half_closed_peer_is_not_dead),
        TEST(law4_data_comes_before_end_of_file),
        TEST(law4_full_hangup_reaches_either_direction),
        TEST(law4_full_hangup_wakes_a_writer_without_room),
        TEST(law4_reset_reaches_either_direction),
        TEST(law4_failed_connect_reaches_either_direction),
        TEST(law4_connection_to_accept_is_read),
        TEST(law4_pipes_at_both_ends),
        TEST(law4_the_unwatched_direction_is_not_told),
        TEST(law4_eventfd),
        TEST(law6_regular_files_and_dev_null_are_always_ready),
        TEST(law6_regular_files_and_dev_null_once_and_at_edges),
        TEST(law6_regular_file_is_silenced_in_the_turn_in_which_it_is_ready),
        TEST(law6_regular_files_at_edges_lose_none_to_a_stop_or_a_full_array),
        TEST(law6_regular_file_starves_nobody),
        TEST(law6_removed_file_is_forgotten),
        TEST(law5_no_interest_is_silent_whatever_happens),
        TEST(law5_interest_given_up_while_it_is_waited_for_is_not_told),
        TEST(law5_oob_data_neither_wakes_nor_spins),
        TEST(law5_edge_is_told_at_least_once_per_edge),
        TEST(law5_edge_is_told_once_where_there_are_edges),
        TEST(law5_modify_rearms_edge_with_the_same_mask),
        TEST(law5_modify_from_edge_to_level_and_back),
        TEST(law5_oneshot_is_told_once_until_modified),
        TEST(law5_oneshot_rearmed_in_its_own_callback),
        TEST(law5_oneshot_of_both_directions_is_one_report),
        TEST(law2_removed_in_the_same_batch_is_not_called),
        TEST(law2_closed_in_the_same_batch_is_not_called),
        TEST(law1_callback_removes_itself),
        TEST(law1_callback_removes_and_adds_itself),
        TEST(law2_reused_number_gets_none_of_its_predecessors_events),
        TEST(law2_interest_given_up_in_the_same_batch_is_not_told),
        TEST(law1_rewatched_in_the_same_batch),
        TEST(law1_add_does_not_call_back),
        TEST(law1_callback_adds_hundreds),
        TEST(law6_remove_of_a_closed_descriptor_succeeds),
        TEST(law6_remove_after_the_number_was_reused),
        TEST(law6_modify_after_close_is_no_failure_of_the_loop),
        TEST(law6_closed_without_remove_hurts_no_other),
        TEST(law6_duplicate_left_open_causes_neither_events_nor_a_spin),
        TEST(law6_duplicate_left_open_does_not_speak_for_the_next_of_its_number),
        TEST(law6_duplicated_back_to_its_old_number),
#ifndef _WIN32
        TEST(law6_closed_unremoved_is_not_called_while_a_duplicate_is_open),
        TEST(law6_closed_unremoved_falls_silent_under_load),
        TEST(law6_regular_file_closed_unremoved_is_silent),
#endif
        TEST(law6_modify_watches_what_is_open_now),
        TEST(law6_modify_tells_once_that_it_is_closed_and_then_is_silent),
#ifndef _WIN32
        TEST(law6_modify_is_rid_of_what_a_duplicate_holds),
        TEST(law6_modify_finds_a_file_that_is_always_ready_and_one_that_is_not),
#endif
        TEST(set_adds_changes_and_tells_anew),
#ifndef _WIN32
        TEST(law2_set_of_another_file_gets_none_of_its_predecessors_events),
        TEST(set_of_the_same_file_is_told_in_the_same_turn),
#endif
        TEST(set_of_a_closed_one_is_refused_and_changes_nothing),
        TEST(law6_add_refuses_what_cannot_be_waited_for),
        TEST(law6_many_duplicates_left_open),
        TEST(law6_both_of_two_duplicates_watched),
        TEST(law7_numbers_around_every_boundary_of_a_set),
        TEST(law7_high_number_alone_and_removed_closed),
        TEST(law8_more_ready_than_a_batch_are_served_in_turn),
        TEST(law8_batch_of_one),
        TEST(law8_newcomers_do_not_starve_the_old),
        TEST(law8_changes_within_a_turn_cost_at_most_one),
        TEST(law8_modified_then_removed_then_added),
        TEST(select_returns_keys_of_those_without_a_callback),
        TEST(select_tells_hangup_and_error_too),
        TEST(select_refuses_bad_arguments),
        TEST(select_alone_arms_them),
        TEST(law5_pulled_ones_do_not_spin_in_a_poll_whatever_happens),
        TEST(select_returns_what_did_not_fit_in_the_next_call),
        TEST(select_goes_on_behind_its_last_key_after_other_turns),
        TEST(select_does_not_wait_while_something_did_not_fit),
        TEST(law2_select_drops_what_was_removed_before_the_next_call),
        TEST(law2_select_drops_what_a_callback_of_its_turn_removed),
        TEST(select_keeps_what_did_not_fit_over_a_poll),
        TEST(select_with_more_ready_than_a_batch),
        TEST(select_runs_timers_and_tasks),
        TEST(select_between_push_and_pull),
        TEST(select_oneshot_and_edge),
        TEST(select_loses_no_edge_of_what_became_pulled_in_the_same_turn),
        TEST(select_loses_no_edge_to_a_poll),
        TEST(watchers_of_two_loops_on_one_descriptor),
        TEST(destroy_leaves_watched_descriptors_open),
#ifndef _WIN32
        TEST(limit_lowered_beneath_what_is_watched_stops_nothing),
        TEST(numbers_of_standard_streams_are_left_to_them),
#endif
        TEST(priority_is_urgent_data_and_nothing_else),
        TEST(priority_alone_keeps_the_loop_going_and_hears_of_a_reset),
        TEST(priority_can_be_selected),
        TEST(hangup_alone_is_told_of_the_peers_end_without_reading),
        TEST(hangup_does_not_wake_a_blocked_writer),
        TEST(hangup_alone_is_told_of_a_reset),
        TEST(what_a_backend_cannot_tell_is_enotsup),
    };
    return cmocka_run_group_tests_name("selector", tests, NULL, NULL);
}
