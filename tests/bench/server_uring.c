/* What io_uring itself gives: an echo server on a hand-written ring, without any library. Accepts
   and receives are armed once and go on (multishot); input comes in buffers that the kernel takes
   from a ring of them; an answer is sent from the buffer it came in, which is given back when the
   answer is out. All that a turn asks for goes with the wait for the next one: one call. */
#include "bench.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef BUFFERS
enum { BUFFERS = 1024, BUFFER_SIZE = 16384 };
#endif
enum { ENTRIES = 4096, GROUP = 1 };
enum {
    ACCEPT = 1,
    RECV,
    SEND,
    CLOSE
}; /* low byte of user_data; then 24 bits of buffer, 32 of fd */

static int ring, listener;
static unsigned *sq_head, *sq_tail, *sq_flags, *cq_head, *cq_tail;
static unsigned sq_mask, cq_mask, tail;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static struct io_uring_buf_ring *buffers;
static char *memory;
static unsigned short buffer_tail;

static void enter(unsigned wait) {
    unsigned count = tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE);
    __atomic_store_n(sq_tail, tail, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, count, wait, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
        errno != EINTR && errno != EBUSY)
        die("io_uring_enter");
}

static inline struct io_uring_sqe *ask(int op, int fd, uint64_t id) {
    while (UNLIKELY(tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE) > sq_mask)) enter(0);
    struct io_uring_sqe *s = &sqes[tail++ & sq_mask];
    memset(s, 0, sizeof *s);
    s->opcode = (uint8_t)op;
    s->fd = fd;
    s->user_data = id;
    return s;
}

static uint64_t id_of(int kind, int fd, unsigned buffer) {
    return (uint64_t)kind | (uint64_t)buffer << 8 | (uint64_t)(unsigned)fd << 32;
}

static void arm_accept(void) {
    struct io_uring_sqe *s = ask(IORING_OP_ACCEPT, listener, ACCEPT);
    s->ioprio = IORING_ACCEPT_MULTISHOT;
    s->accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
}

static void arm_receive(int fd) {
    struct io_uring_sqe *s = ask(IORING_OP_RECV, fd, id_of(RECV, fd, 0));
    s->ioprio = IORING_RECV_MULTISHOT;
    s->flags = IOSQE_BUFFER_SELECT;
    s->buf_group = GROUP;
}

static inline void give_back(unsigned id) {
    struct io_uring_buf *b = &buffers->bufs[buffer_tail++ & (BUFFERS - 1)];
    b->addr = (uintptr_t)(memory + (size_t)id * BUFFER_SIZE);
    b->len = BUFFER_SIZE;
    b->bid = (uint16_t)id;
    __atomic_store_n(&buffers->tail, buffer_tail, __ATOMIC_RELEASE);
}

static void close_later(int fd) { ask(IORING_OP_CLOSE, fd, CLOSE); }

static inline void received(struct io_uring_cqe *c) {
    int fd = (int)(c->user_data >> 32);
    if (c->res > 0) {
        unsigned id = c->flags >> IORING_CQE_BUFFER_SHIFT;
        struct io_uring_sqe *s = ask(IORING_OP_SEND, fd, id_of(SEND, fd, id));
        s->addr = (uintptr_t)(memory + (size_t)id * BUFFER_SIZE);
        s->len = (uint32_t)c->res;
        s->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    }
    if (UNLIKELY(!(c->flags & IORING_CQE_F_MORE))) {
        if (c->res > 0 || c->res == -ENOBUFS)
            arm_receive(fd);
        else
            close_later(fd);
    }
}

static void answer(struct io_uring_cqe *c) {
    switch (c->user_data & 0xff) {
    case ACCEPT:
        if (c->res >= 0) {
            no_delay(c->res);
            arm_receive(c->res);
        }
        if (!(c->flags & IORING_CQE_F_MORE)) arm_accept();
        break;
    case RECV:
        received(c);
        break;
    case SEND:
        give_back((unsigned)(c->user_data >> 8) & 0xffffff);
        break;
    default:
        break;
    }
}

static void *map(size_t size, uint64_t offset) {
    void *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, (off_t)offset);
    if (p == MAP_FAILED) die("mmap");
    return p;
}

static void *pages(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap");
    return p;
}

static void make_buffers(void) {
    buffers = pages(BUFFERS * sizeof(struct io_uring_buf));
    memory = pages((size_t)BUFFERS * BUFFER_SIZE);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)buffers, .ring_entries = BUFFERS, .bgid = GROUP};
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &reg, 1) < 0)
        die("io_uring_register");
    for (unsigned i = 0; i < BUFFERS; i++) give_back(i);
}

static void make_ring(void) {
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
                                .cq_entries = 4 * ENTRIES};
    ring = (int)syscall(SYS_io_uring_setup, ENTRIES, &p);
    if (ring < 0) die("io_uring_setup");
    size_t sq = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t cq = p.cq_off.cqes + p.cq_entries * sizeof *cqes;
    char *m = map(sq > cq ? sq : cq, IORING_OFF_SQ_RING);
    sqes = map(p.sq_entries * sizeof *sqes, IORING_OFF_SQES);
    sq_head = (unsigned *)(m + p.sq_off.head);
    sq_tail = (unsigned *)(m + p.sq_off.tail);
    sq_flags = (unsigned *)(m + p.sq_off.flags);
    cq_head = (unsigned *)(m + p.cq_off.head);
    cq_tail = (unsigned *)(m + p.cq_off.tail);
    sq_mask = p.sq_entries - 1;
    cq_mask = p.cq_entries - 1;
    cqes = (struct io_uring_cqe *)(m + p.cq_off.cqes);
    unsigned *array = (unsigned *)(m + p.sq_off.array);
    for (unsigned i = 0; i < p.sq_entries; i++) array[i] = i;
    tail = *sq_tail;
}

int main(void) {
    listener = listen_anywhere();
    raise_limit();
    make_ring();
    make_buffers();
    announce(local_port(listener));
    arm_accept();
    for (;;) {
        enter(1);
        unsigned head = *cq_head, end = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
        while (head != end) answer(&cqes[head++ & cq_mask]);
        __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
    }
}
