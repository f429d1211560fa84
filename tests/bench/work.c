/* Jobs on threads: reactor_work beside uv_queue_work.

     work BURSTS SINGLES ROUNDS

   Both pools have as many threads as there are CPUs, 2 at least (UV_THREADPOOL_SIZE, work_threads).
   libuv's requests are an array that is there before; reactor.h keeps jobs itself.

   Prints one line per implementation and round: name, then nanoseconds
   - of CPU, of all threads, per job of a burst of 10,000 empty ones, from the first call to the last
     done
   - of time, the same
   - of CPU per single job, each begun when the last one is done, loop and pool asleep in between
   - of time, the same. */
#define REACTOR_IMPLEMENTATION
#include "../../reactor.h"

#include "bench.h"

#include <sched.h>
#ifdef HAVE_UV
#include <uv.h>
#endif

enum { BURST = 10000 };

static void nothing(void *user) { (void)user; }

static int threads(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0) die("sched_getaffinity");
    return CPU_COUNT(&set) > 2 ? CPU_COUNT(&set) : 2;
}

struct implementation {
    const char *name;
    void (*create)(void);
    void (*begin)(int slot); /* a job that does nothing, and then calls finished */
    void (*run)(void);       /* until nothing is left to do */
    void (*destroy)(void);
};

static const struct implementation *with;
static long left; /* single jobs */

/* Of a burst all have begun, and left is 0. */
static void finished(void) {
    if (left > 0 && left--) with->begin(0);
}

/* ---- reactor.h ---- */

static reactor *loop;

static void r_done(reactor *r, int status, void *user) {
    (void)r, (void)status, (void)user;
    finished();
}

static void r_create(void) {
    reactor_options o = {0};
    o.work_threads = threads();
    if (reactor_create(&loop, &o) < 0) die("reactor_create");
}

static void r_begin(int slot) {
    (void)slot;
    if (reactor_work(loop, nothing, r_done, NULL, NULL) < 0) die("reactor_work");
}

static void r_run(void) {
    if (reactor_run(loop) < 0) die("reactor_run");
}

static void r_destroy(void) { reactor_destroy(loop); }

/* ---- libuv ---- */

#ifdef HAVE_UV
static uv_loop_t uv;
static uv_work_t requests[BURST];

static void u_nothing(uv_work_t *request) { (void)request; }

static void u_done(uv_work_t *request, int status) {
    (void)request, (void)status;
    finished();
}

static void u_create(void) {
    char text[16];
    snprintf(text, sizeof text, "%d", threads());
    setenv("UV_THREADPOOL_SIZE", text, 1);
    if (uv_loop_init(&uv) < 0) die("uv_loop_init");
}

static void u_begin(int slot) {
    if (uv_queue_work(&uv, &requests[slot], u_nothing, u_done) < 0) die("uv_queue_work");
}

static void u_run(void) { uv_run(&uv, UV_RUN_DEFAULT); }

static void u_destroy(void) {
    if (uv_loop_close(&uv) < 0) die("uv_loop_close");
}
#endif

static const struct implementation implementations[] = {
    {"reactor", r_create, r_begin, r_run, r_destroy},
#ifdef HAVE_UV
    {"uv", u_create, u_begin, u_run, u_destroy},
#endif
};

/* ---- what is measured ---- */

static int64_t cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

/* Time and CPU time, added up. */
static void bursts(long count, double *cpu, double *wall) {
    int64_t cpu_began = 0, wall_began = 0;
    for (long i = -1; i < count; i++) { /* the first is for threads and memory */
        if (i == 0) cpu_began = cpu_ns(), wall_began = wall_ns();
        for (int n = 0; n < BURST; n++) with->begin(n);
        with->run();
    }
    *cpu = (double)(cpu_ns() - cpu_began) / (double)(count * BURST);
    *wall = (double)(wall_ns() - wall_began) / (double)(count * BURST);
}

static void singles(long count, double *cpu, double *wall) {
    int64_t cpu_began = cpu_ns(), wall_began = wall_ns();
    left = count - 1;
    with->begin(0);
    with->run();
    *cpu = (double)(cpu_ns() - cpu_began) / (double)count;
    *wall = (double)(wall_ns() - wall_began) / (double)count;
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) return 2;
    for (int round = 0; round < atoi(argv[3]); round++) {
        for (size_t k = 0; k < sizeof implementations / sizeof *implementations; k++) {
            double out[4] = {0};
            with = &implementations[k];
            if (argc == 5 && strcmp(argv[4], with->name) != 0) continue;
            with->create();
            if (atol(argv[1])) bursts(atol(argv[1]), &out[0], &out[1]);
            if (atol(argv[2])) singles(atol(argv[2]), &out[2], &out[3]);
            with->destroy();
            printf("%s %.1f %.1f %.1f %.1f\n", with->name, out[0], out[1], out[2], out[3]);
        }
    }
    return 0;
}
