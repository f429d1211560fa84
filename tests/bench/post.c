/* Tasks given to a loop by another thread: reactor_post, and what the others need a queue for.

     post BURSTS ROUNDTRIPS ROUNDS CPU CPU

   The hand-written loop, libev and libuv get the same queue: an array below a mutex, swapped out
   whole by the loop, which is woken when the array was empty (eventfd, ev_async_send,
   uv_async_send). Nothing of it allocates once the array is large enough.

   Prints one line per implementation and round: name, then nanoseconds
   - per task of a burst of 10,000, from the first post to the end of the last task, the loop asleep
     at first and on the same CPU, where it runs when the burst is complete
   - the same, the loop on the other CPU, where it runs as soon as it is awake
   - of these, until the last post had returned
   - per task, posting 10,000 from the loop's own thread
   - per round trip between two loops on two CPUs that sleep until they are posted to. */
#define REACTOR_IMPLEMENTATION
#include "../../reactor.h"

#include "bench.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#ifdef HAVE_EV
#include <ev.h>
#endif
#ifdef HAVE_UV
#include <uv.h>
#endif

enum { BURST = 10000 };
#define PATIENCE INT64_C(20000000000)

typedef reactor_task_fn task_fn; /* one type for all; the others pass NULL for the loop */

struct implementation {
    const char *name;
    void *(*create)(void);
    void (*post)(void *loop, task_fn *fn, void *user);
    void (*run)(void *loop); /* until stopped by stop, called in a task */
    void (*stop)(void *loop);
    void (*destroy)(void *loop);
};

/* ---- the queue of those who have none ---- */

struct task {
    task_fn *fn;
    void *user;
};

struct queue {
    pthread_mutex_t lock;
    struct task *tasks, *spare;
    size_t count, cap, spare_cap;
};

/* 1: it was empty, the loop has to be woken. */
static int queue_put(struct queue *q, task_fn *fn, void *user) {
    pthread_mutex_lock(&q->lock);
    if (q->count == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 64;
        q->tasks = realloc(q->tasks, q->cap * sizeof *q->tasks);
        if (!q->tasks) die("realloc");
    }
    q->tasks[q->count].fn = fn;
    q->tasks[q->count].user = user;
    int first = q->count++ == 0;
    pthread_mutex_unlock(&q->lock);
    return first;
}

static void queue_run(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    struct task *tasks = q->tasks;
    size_t count = q->count, cap = q->cap;
    q->tasks = q->spare;
    q->cap = q->spare_cap;
    q->count = 0;
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < count; i++) tasks[i].fn(NULL, tasks[i].user);
    q->spare = tasks; /* only the loop's thread looks at these two */
    q->spare_cap = cap;
}

static void queue_init(struct queue *q) { pthread_mutex_init(&q->lock, NULL); }

static void queue_free(struct queue *q) {
    free(q->tasks);
    free(q->spare);
    pthread_mutex_destroy(&q->lock);
}

static void *made(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) die("calloc");
    return memory;
}

/* ---- hand-written ---- */

struct hand {
    struct queue queue;
    int set, event, stop;
};

static void *hand_create(void) {
    struct hand *h = made(sizeof *h);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET};
    queue_init(&h->queue);
    h->set = epoll_create1(EPOLL_CLOEXEC);
    h->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (epoll_ctl(h->set, EPOLL_CTL_ADD, h->event, &e) < 0) die("epoll_ctl");
    return h;
}

static void hand_post(void *loop, task_fn *fn, void *user) {
    struct hand *h = loop;
    uint64_t one = 1;
    if (queue_put(&h->queue, fn, user) && write(h->event, &one, sizeof one) < 0) die("eventfd");
}

/* Edge-triggered: the eventfd need not be read, its counter will not fill up in our days. */
static void hand_run(void *loop) {
    struct hand *h = loop;
    struct epoll_event e;
    for (h->stop = 0; !h->stop;)
        if (epoll_wait(h->set, &e, 1, -1) > 0) queue_run(&h->queue);
}

static void hand_stop(void *loop) { ((struct hand *)loop)->stop = 1; }

static void hand_destroy(void *loop) {
    struct hand *h = loop;
    queue_free(&h->queue);
    close(h->set);
    close(h->event);
    free(h);
}

/* ---- reactor.h ---- */

static void *r_create(void) {
    reactor *r;
    if (reactor_create(&r, NULL) < 0) die("reactor_create");
    reactor_ref(r);
    return r;
}

static void r_post(void *loop, task_fn *fn, void *user) {
    if (reactor_post(loop, fn, user) < 0) die("reactor_post");
}

static void r_run(void *loop) {
    if (reactor_run(loop) < 0) die("reactor_run");
}

static void r_stop(void *loop) { reactor_stop(loop); }
static void r_destroy(void *loop) { reactor_destroy(loop); }

/* ---- libev ---- */

#ifdef HAVE_EV
struct ev {
    struct queue queue;
    struct ev_loop *loop;
    ev_async async;
};

static void e_woken(struct ev_loop *loop, ev_async *async, int events) {
    (void)async;
    (void)events;
    queue_run(ev_userdata(loop));
}

static void *e_create(void) {
    struct ev *e = made(sizeof *e);
    queue_init(&e->queue);
    e->loop = ev_loop_new(EVBACKEND_EPOLL);
    if (!e->loop) die("ev_loop_new");
    ev_set_userdata(e->loop, &e->queue);
    ev_async_init(&e->async, e_woken);
    ev_async_start(e->loop, &e->async);
    return e;
}

static void e_post(void *loop, task_fn *fn, void *user) {
    struct ev *e = loop;
    if (queue_put(&e->queue, fn, user)) ev_async_send(e->loop, &e->async);
}

static void e_run(void *loop) { ev_run(((struct ev *)loop)->loop, 0); }
static void e_stop(void *loop) { ev_break(((struct ev *)loop)->loop, EVBREAK_ALL); }

static void e_destroy(void *loop) {
    struct ev *e = loop;
    ev_async_stop(e->loop, &e->async);
    ev_loop_destroy(e->loop);
    queue_free(&e->queue);
    free(e);
}
#endif

/* ---- libuv ---- */

#ifdef HAVE_UV
struct uv {
    struct queue queue;
    uv_loop_t loop;
    uv_async_t async;
};

static void u_woken(uv_async_t *async) { queue_run(async->data); }

static void *u_create(void) {
    struct uv *u = made(sizeof *u);
    queue_init(&u->queue);
    if (uv_loop_init(&u->loop) < 0) die("uv_loop_init");
    if (uv_async_init(&u->loop, &u->async, u_woken) < 0) die("uv_async_init");
    u->async.data = &u->queue;
    return u;
}

static void u_post(void *loop, task_fn *fn, void *user) {
    struct uv *u = loop;
    if (queue_put(&u->queue, fn, user)) uv_async_send(&u->async);
}

static void u_run(void *loop) { uv_run(&((struct uv *)loop)->loop, UV_RUN_DEFAULT); }
static void u_stop(void *loop) { uv_stop(&((struct uv *)loop)->loop); }

static void u_destroy(void *loop) {
    struct uv *u = loop;
    uv_close((uv_handle_t *)&u->async, NULL);
    uv_run(&u->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&u->loop) < 0) die("uv_loop_close");
    queue_free(&u->queue);
    free(u);
}
#endif

static const struct implementation implementations[] = {
    {"hand", hand_create, hand_post, hand_run, hand_stop, hand_destroy},
    {"reactor", r_create, r_post, r_run, r_stop, r_destroy},
#ifdef HAVE_EV
    {"ev", e_create, e_post, e_run, e_stop, e_destroy},
#endif
#ifdef HAVE_UV
    {"uv", u_create, u_post, u_run, u_stop, u_destroy},
#endif
};

/* ---- what is measured ---- */

static int cpus[2];

static void pin(int which) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpus[which], &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) die("sched_setaffinity");
}

/* Of this thread and those it makes. Batch: being woken does not preempt, so that a burst on one
   CPU is complete before it is run. */
static void schedule(int policy) {
    struct sched_param none = {0};
    if (sched_setscheduler(0, policy, &none) < 0) die("sched_setscheduler");
}

struct side {
    const struct implementation *with;
    void *loop;
    struct side *other;
    pthread_t thread;
    long left; /* round trips */
    int cpu;
};

static void *side_main(void *user) {
    struct side *s = user;
    pin(s->cpu);
    s->with->run(s->loop);
    return NULL;
}

static void side_start(struct side *s, const struct implementation *with, int cpu) {
    s->with = with;
    s->cpu = cpu;
    s->loop = with->create();
}

static void side_go(struct side *s) {
    if (pthread_create(&s->thread, NULL, side_main, s) != 0) die("pthread_create");
}

static void side_end(struct side *s) {
    pthread_join(s->thread, NULL);
    s->with->destroy(s->loop);
}

static void stop_task(reactor *r, void *user) {
    struct side *s = user;
    (void)r;
    s->with->stop(s->loop);
}

static long ran;

static void count_task(reactor *r, void *user) {
    (void)r;
    (void)user;
    ran++;
}

static void last_task(reactor *r, void *user) {
    (void)r;
    __atomic_store_n((int *)user, 1, __ATOMIC_RELEASE);
}

/* Asleep for sure: a loop that still spun down would not have to be woken. */
static void let_it_sleep(void) {
    struct timespec t = {0, 200000};
    nanosleep(&t, NULL);
}

/* Spins, for sleeping would add a wake-up of this thread to the measurement. */
static void await(const int *done, int yielding) {
    int64_t began = wall_ns();
    for (long n = 1; !__atomic_load_n(done, __ATOMIC_ACQUIRE); n++) {
        if (yielding) sched_yield();
        if (n % 65536 == 0 && wall_ns() - began > PATIENCE) {
            fprintf(stderr, "post: the last task of a burst is not run\n");
            exit(1);
        }
    }
}

/* Nanoseconds per task; of these, posting. */
static void burst(const struct implementation *with, int cpu, long bursts, double *all_out,
                  double *posting_out) {
    struct side s = {0};
    int64_t posting = 0, all = 0;
    schedule(cpus[0] == cpus[cpu] ? SCHED_BATCH : SCHED_OTHER);
    side_start(&s, with, cpu);
    side_go(&s);
    for (long i = -1; i < bursts; i++) { /* the first is for the memory */
        int done = 0;
        let_it_sleep();
        int64_t began = wall_ns();
        for (int n = 0; n < BURST - 1; n++) with->post(s.loop, count_task, NULL);
        with->post(s.loop, last_task, &done);
        int64_t posted = wall_ns();
        await(&done, cpus[0] == cpus[cpu]);
        if (i < 0) continue;
        posting += posted - began;
        all += wall_ns() - began;
    }
    with->post(s.loop, stop_task, &s);
    side_end(&s);
    schedule(SCHED_OTHER);
    *all_out = (double)all / (double)(bursts * BURST);
    *posting_out = (double)posting / (double)(bursts * BURST);
}

static double own_thread(const struct implementation *with, long bursts) {
    struct side s = {0};
    int64_t posting = 0;
    side_start(&s, with, 0);
    for (long i = -1; i < bursts; i++) {
        int64_t began = wall_ns();
        for (int n = 0; n < BURST - 1; n++) with->post(s.loop, count_task, NULL);
        with->post(s.loop, stop_task, &s);
        int64_t posted = wall_ns();
        with->run(s.loop);
        if (i >= 0) posting += posted - began;
    }
    with->destroy(s.loop);
    return (double)posting / (double)(bursts * BURST);
}

static void hop(reactor *r, void *user) {
    struct side *s = user;
    (void)r;
    if (--s->left < 0) {
        s->with->stop(s->loop);
        if (s->other->left >= 0) {
            s->other->left = 0;
            s->with->post(s->other->loop, hop, s->other);
        }
        return;
    }
    s->with->post(s->other->loop, hop, s->other);
}

static double round_trips(const struct implementation *with, long trips) {
    struct side a = {0}, b = {0};
    side_start(&a, with, 0);
    side_start(&b, with, 1);
    a.other = &b;
    b.other = &a;
    a.left = b.left = trips;
    side_go(&a);
    side_go(&b);
    let_it_sleep();
    int64_t began = wall_ns();
    with->post(a.loop, hop, &a);
    side_end(&a);
    int64_t took = wall_ns() - began;
    side_end(&b);
    return (double)took / (double)trips;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    cpus[0] = atoi(argv[4]);
    cpus[1] = atoi(argv[5]);
    pin(0);
    for (int round = 0; round < atoi(argv[3]); round++) {
        for (size_t k = 0; k < sizeof implementations / sizeof *implementations; k++) {
            const struct implementation *with = &implementations[k];
            long bursts = atol(argv[1]);
            double out[5];
            burst(with, 0, bursts, &out[0], &out[1]);
            burst(with, 1, bursts, &out[1], &out[2]);
            out[3] = own_thread(with, bursts);
            out[4] = round_trips(with, atol(argv[2]));
            printf("%s", with->name);
            for (int i = 0; i < 5; i++) printf(" %.1f", out[i]);
            printf("\n");
        }
    }
    return 0;
}
