/* Handles and slots, with few generations: what takes 2^31 uses of one slot otherwise. The
   implementation is compiled into this file for that. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "libkqueue.h"
#define REACTOR__CORE_GENERATION 0x10000000u /* 16 of them */
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#include "../reactor.h"

#include "stream_help.h"

enum { GENERATIONS = 16, USES = 100 };

static void on_ring(reactor *r, reactor_async a, void *user) {
    (void)r, (void)a;
    ++*(int *)user;
}

/* Listeners come and go: of the first hundred handles none is ever that of another one. */
CASE(a_handle_never_comes_back_to_life) {
    reactor *r = begin();
    reactor_listener l[USES];
    for (int i = 0; i < USES; i++) {
        assert_int_equal(reactor_listen(r, "127.0.0.1:0", &null_handler, NULL, &l[i]), 0);
        for (int k = 0; k < i; k++) {
            assert_true(l[k].id != l[i].id);
            assert_int_equal(reactor_listener_pause(r, l[k]), -EBADF);
        }
        assert_int_equal(reactor_listener_close(r, l[i]), 0);
        if (i % 2) turns(r, 1);
    }
    end(r);
}

/* A slot is left for good when its generations are used up and not before. */
CASE(a_slot_is_used_as_often_as_it_has_generations) {
    reactor *r = begin();
    reactor_listener l;
    uint32_t index = 0;
    int uses = 0, slots = 0;
    for (int i = 0; i < USES; i++) {
        assert_int_equal(reactor_listen(r, "127.0.0.1:0", &null_handler, NULL, &l), 0);
        if (i && (uint32_t)l.id == index) {
            uses++;
        } else {
            if (slots++) assert_int_equal(uses, GENERATIONS);
            uses = 1;
            index = (uint32_t)l.id;
        }
        assert_int_equal(reactor_listener_close(r, l), 0);
        turns(r, 1);
    }
    assert_true(slots >= USES / GENERATIONS);
    end(r);
}

/* Nothing is called for what a retired slot was, and what is watched goes on. */
CASE(watchers_outlive_slots) {
    reactor *r = begin();
    int fd[2], seen = 0;
    make_pair(fd);
    assert_int_equal(write(fd[1], "x", 1), 1);
    for (int i = 0; i < USES; i++) {
        assert_int_equal(reactor_add(r, fd[0], REACTOR_READ, NULL, NULL), 0);
        reactor_key key;
        assert_int_equal(reactor_select(r, &key, 1, 1000), 1);
        seen += key.fd == fd[0];
        assert_int_equal(reactor_modify(r, fd[0], 0), 0);
        assert_int_equal(reactor_remove(r, fd[0]), 0); /* dirty: freed at the next flush */
    }
    assert_int_equal(seen, USES);
    close(fd[0]), close(fd[1]);
    end(r);
}

/* A state that with its head would not fit in 32 bits is no state. */
CASE(state_size_is_below_4_gib) {
    reactor *r = begin();
    reactor_handler h;
    int fd[2];
    memset(&h, 0, sizeof h);
    make_tcp_pair(fd);
    for (uint32_t less = 0; less < 64; less += 8) {
        h.state_size = UINT32_MAX - less;
        assert_int_equal(reactor_attach(r, fd[0], &h, NULL, NULL), -EINVAL);
        assert_int_equal(reactor_listen(r, "127.0.0.1:0", &h, NULL, NULL), -EINVAL);
        assert_int_equal(reactor_connect(r, "127.0.0.1:1", &h, NULL, NULL), -EINVAL);
    }
    close(fd[0]), close(fd[1]);
    end(r);
}

/* One place, of which all but the last two generations are taken from it. */
CASE(a_doorbell_that_has_used_up_its_generations_is_left_for_good) {
    reactor *r = begin();
    reactor_async a[3];
    int rings = 0;
    assert_int_equal(reactor_async_open(r, on_ring, &rings, &a[0]), 0);
    assert_int_equal(reactor_async_close(r, a[0]), 0);
    reactor__wake_async_at(&r->wake, (uint32_t)a[0].id)->state = r->wake.async_first - 8;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reactor_async_open(r, on_ring, &rings, &a[i]), 0);
        assert_int_equal((uint32_t)a[i].id, i < 2 ? 0 : 1);
        assert_int_equal(reactor_async_send(r, a[i]), 0);
        assert_int_equal(reactor_poll(r, 0), 1);
        assert_int_equal(reactor_async_close(r, a[i]), 0);
        for (int k = 0; k <= i; k++) assert_int_equal(reactor_async_send(r, a[k]), -EBADF);
    }
    assert_int_equal(rings, 3);
    end(r);
}

#ifndef _WIN32
/* At the fork a thread of the parent has marked the doorbell, and has not come to linking it. */
CASE(a_doorbell_that_was_being_sent_at_a_fork_rings_in_the_child) {
    if (libkqueue_cannot("be used in a child")) skip();
    reactor *r = begin();
    reactor_async a[4];
    int rings = 0, status = -1;
    for (int i = 0; i < 4; i++) assert_int_equal(reactor_async_open(r, on_ring, &rings, &a[i]), 0);
    assert_int_equal(reactor_async_send(r, a[1]), 0);
    assert_int_equal(reactor_async_send(r, a[2]), 0);
    assert_int_equal(reactor_async_close(r, a[2]), 0);
    reactor__wake_async_at(&r->wake, (uint32_t)a[0].id)->state |= REACTOR__WAKE_SENT;
    pid_t child = fork();
    if (child == 0) {
        alarm(30);
        int good = reactor_fork(r) == 0 && reactor_async_send(r, a[0]) == 0;
        good = good && reactor_poll(r, 0) == 2 && rings == 2; /* 0 and 1 */
        for (int i = 0; i < 4 && good; i++) {
            int open = reactor_async_send(r, a[i]) == 0;
            good = open == (i != 2) && reactor_poll(r, 0) == open;
        }
        _exit(good && reactor_async_open(r, on_ring, &rings, &a[2]) == 0 ? 0 : 1);
    }
    assert_return_code(child, errno);
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    assert_int_equal(status, 0);
    end(r);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_handle_never_comes_back_to_life),
        TEST(a_slot_is_used_as_often_as_it_has_generations),
        TEST(watchers_outlive_slots),
        TEST(state_size_is_below_4_gib),
        TEST(a_doorbell_that_has_used_up_its_generations_is_left_for_good),
#ifndef _WIN32
        TEST(a_doorbell_that_was_being_sent_at_a_fork_rings_in_the_child),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
