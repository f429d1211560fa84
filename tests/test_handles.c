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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_handle_never_comes_back_to_life),
        TEST(a_slot_is_used_as_often_as_it_has_generations),
        TEST(watchers_outlive_slots),
        TEST(state_size_is_below_4_gib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
