/* reactor.h - an event loop in one header */
#if defined(REACTOR_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif
/* ==== >> api ==== */
/* Every public name, in the order of the manual: loop, descriptors, timers, signals and tasks,
   addresses, streams, inside view. Two rules hold for all calls and are not repeated at each:

   - A call returns >= 0 for success and a negative errno for failure (reactor_strerror gives its
     text). A NULL loop, a NULL argument that is needed, or a number outside its stated range is
     -EINVAL; a handle that is stale, from another loop or of another kind is -EBADF; no memory is
     -ENOMEM. A call that failed has changed nothing.
   - A call is for the thread that runs the loop, inside and outside callbacks; the three that
     other threads may make (reactor_post, reactor_wake, reactor_stop) say so. No call calls back:
     callbacks come from reactor_run, reactor_poll and reactor_select, and from reactor_destroy.

   Times are milliseconds, in calls ending in _ns nanoseconds, of the monotonic clock. An options
   struct may be NULL or zeroed: 0 in a field always means the default that its comment gives. */
#ifndef REACTOR_H_INCLUDED
#define REACTOR_H_INCLUDED

#include <stddef.h>
#include <stdint.h>

#define REACTOR_VERSION      10000 /* major * 10000 + minor * 100 + patch */
#define REACTOR_VERSION_TEXT "1.0.0"

#ifndef REACTOR_API
#ifdef REACTOR_STATIC
#if defined(__GNUC__)
#define REACTOR_API static __attribute__((unused))
#else
#define REACTOR_API static
#endif
#else
#define REACTOR_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What the system calls a socket and an open file. Windows' sockets are not small integers, so
   nothing here assumes that they are. */
#ifdef _WIN32
typedef uintptr_t reactor_socket; /* SOCKET */
typedef void *reactor_file;       /* HANDLE */
#else
typedef int reactor_socket;
typedef int reactor_file;
#endif

typedef struct reactor reactor;

/* What the library makes has a handle: slot and generation. {0} is none. A handle outlives its
   object safely: it turns stale and is refused with -EBADF, also when the slot is used again. */
typedef struct reactor_timer {
    uint64_t id;
} reactor_timer;
typedef struct reactor_conn {
    uint64_t id;
} reactor_conn;
typedef struct reactor_listener {
    uint64_t id;
} reactor_listener;

/* Text for a code that a call or on_close gave, negative or positive; never NULL, never freed,
   good until the process ends. Any thread. */
REACTOR_API const char *reactor_strerror(int error);

/* ---- loop ---- */

/* Told of each callback that ran for options.slow_ms or longer: what it was ("watcher", "timer",
   "task", "signal", "stream") and how long, in nanoseconds. */
typedef void reactor_slow_fn(reactor *r, const char *what, int64_t ns, void *user);

typedef struct reactor_options {
    const char *backend;      /* "epoll", "poll", "select" ...; NULL: the best that works */
    int batch;                /* events taken from the kernel at once; 256; 1..65536 */
    int accept_budget;        /* connections accepted per listener and turn; 64 */
    int timer_budget;         /* timers fired per turn; 4096 */
    int post_budget;          /* posts, and deferred tasks, run per turn; 4096 */
    size_t read_budget;       /* bytes read per connection and turn; 256 KiB */
    size_t read_buffer;       /* the loop's one read buffer, bytes; 64 KiB; 1 KiB..1 GiB */
    int64_t slow_ms;          /* with on_slow: a callback this long is reported; 100 */
    reactor_slow_fn *on_slow; /* NULL: callbacks are not timed, which costs nothing */
    void *slow_user;          /* handed to on_slow */
} reactor_options;

/* Makes a loop. *out is NULL on failure. -EINVAL: a field is out of range; -ENOTSUP: the backend
   named is unknown or not compiled in; otherwise what the system said when no backend could start
   (-EMFILE, -ENOMEM ...). Any thread may make it; it belongs to the one that first runs it. */
REACTOR_API int reactor_create(reactor **out, const reactor_options *options);

/* Closes every connection (each on_close is called, reason -ECANCELED), runs the posts that are
   pending, frees everything; descriptors that were only watched stay open, for they are the
   caller's. Always succeeds. NULL is allowed. Inside a callback it stops the loop, which is freed
   before reactor_run or reactor_poll returns. In a forked child it only closes the loop's
   descriptors and frees memory: no callbacks but those that free memory, nothing the parent
   could notice. */
REACTOR_API void reactor_destroy(reactor *r);

/* Runs turns until reactor_stop (one made before the run counts) or until nothing is left that
   could wake it: no watcher with an interest, timer, listener, connection, task or reactor_ref.
   0: so it ended; -EBUSY: it is running already (this is one of its callbacks); -EPERM: another
   thread has run it before; else the error of a wait that keeps failing. */
REACTOR_API int reactor_run(reactor *r);

/* One turn: waits at most so long for something to do (-1: for ever, 0: not at all), also when the
   loop is empty, and runs what is ready. Returns how many callbacks it ran, -EINVAL if the time is
   below -1, or an error as reactor_run does. A stop ends the wait and is used up by it. */
REACTOR_API int reactor_poll(reactor *r, int64_t timeout_ms);
REACTOR_API int reactor_poll_ns(reactor *r, int64_t timeout_ns);

/* Ends reactor_run after the callback that is running; without one running, the next run returns
   at once. Any thread, and signal handlers. */
REACTOR_API void reactor_stop(reactor *r);

/* Ends one wait, so that a turn happens. Any thread, and signal handlers. */
REACTOR_API void reactor_wake(reactor *r);

/* Keep reactor_run going although nothing is watched, for what is to come from another thread.
   Counted; an unref without a ref is ignored. */
REACTOR_API void reactor_ref(reactor *r);
REACTOR_API void reactor_unref(reactor *r);

/* The loop's time: read once a turn, never goes back, its zero means nothing. 0 for NULL. */
REACTOR_API int64_t reactor_now(const reactor *r);
REACTOR_API int64_t reactor_now_ns(const reactor *r);

/* Name of the backend in use, and why not a better one: "" when it is the best that was compiled
   in, else text such as "epoll: Operation not permitted". Owned by the loop. */
REACTOR_API const char *reactor_backend(const reactor *r);
REACTOR_API const char *reactor_backend_reason(const reactor *r);

/* Names of the backends compiled in, best first; NULL beyond the last. Any thread. */
REACTOR_API const char *reactor_backend_name(int index);

/* A descriptor that is readable whenever reactor_poll(r, 0) has something to do, be it a
   descriptor, a timer or a post: watch it for reading in another loop and call reactor_poll(r, 0).
   Level-triggered. Owned by the loop. -ENOTSUP on select and poll, which are no kernel objects;
   or what making it cost (-EMFILE, -ENOMEM). */
REACTOR_API int reactor_fd(reactor *r);

/* ---- descriptors: the selector ---- */

/* Interest and report. The bits' values are those of poll(2) on Linux.
   READ     data, end of file, a connection to accept; also error and full hang-up.
   WRITE    room to write, a connect that has ended; also error and full hang-up.
   ERROR    for information, with READ or WRITE: SO_ERROR is set.
   HANGUP   for information, with READ or WRITE: both directions are closed.
   EDGE     interest only: reported when it changes, at least once per change. Read or write until
            EAGAIN. Backends without edges report the level instead.
   ONESHOT  interest only: after one report the watcher stays, silent, until reactor_modify. */
enum {
    REACTOR_READ = 0x01,
    REACTOR_WRITE = 0x04,
    REACTOR_ERROR = 0x08,
    REACTOR_HANGUP = 0x10,
    REACTOR_EDGE = 0x100,
    REACTOR_ONESHOT = 0x200
};

typedef void reactor_io_fn(reactor *r, reactor_socket fd, unsigned events, void *user);

/* Watches fd, which stays the caller's and should be removed before it is closed. events: READ and
   WRITE, or 0 to be silent for now, and EDGE or ONESHOT; anything else is -EINVAL. fn NULL: it is
   pulled by reactor_select. A regular file is always ready. -EBADF: not open; -EEXIST: watched
   already; -ERANGE: beyond what this backend can hold (select, where the kernel limits its sets);
   -ENOSPC: the system's limit on watches. */
REACTOR_API int reactor_add(reactor *r, reactor_socket fd, unsigned events, reactor_io_fn *fn,
                            void *user);

/* Replaces the interest; re-arms EDGE and ONESHOT even if it is the same. Told to the kernel before
   the next wait, so changing it back and forth is free. Should the kernel then refuse, it is tried
   again and at last reported as ERROR. -ENOENT: not watched; -EINVAL as reactor_add. */
REACTOR_API int reactor_modify(reactor *r, reactor_socket fd, unsigned events);

/* Stops watching: nothing more of it is called, not even what this turn has already taken. fd may
   be closed already. -ENOENT: not watched. */
REACTOR_API int reactor_remove(reactor *r, reactor_socket fd);

/* Another callback for the same interest. -ENOENT. */
REACTOR_API int reactor_rewatch(reactor *r, reactor_socket fd, reactor_io_fn *fn, void *user);

/* A watcher as reactor_find and reactor_select show it. */
typedef struct reactor_key {
    reactor_socket fd;
    unsigned events; /* find: the interest; select: what is ready */
    reactor_io_fn *fn;
    void *user;
} reactor_key;

/* Looks fd up. out may be NULL. -ENOENT: not watched. */
REACTOR_API int reactor_find(const reactor *r, reactor_socket fd, reactor_key *out);

/* One turn that returns those ready whose fn is NULL, instead of calling back; the others are
   called as ever. Fills at most max keys (1..) and returns how many: 0 after the time (-1: for
   ever) or when the turn did something else. What does not fit is returned by the next call.
   Errors as reactor_poll. Only reactor_select arms such watchers: reactor_run and reactor_poll
   leave them alone. */
REACTOR_API int reactor_select(reactor *r, reactor_key *ready, int max, int64_t timeout_ms);

/* Whether a watcher keeps reactor_run going: it does until unref_fd. Not counted. -ENOENT. */
REACTOR_API int reactor_ref_fd(reactor *r, reactor_socket fd);
REACTOR_API int reactor_unref_fd(reactor *r, reactor_socket fd);

/* ---- timers ---- */

typedef void reactor_timer_fn(reactor *r, reactor_timer t, void *user);

/* Calls fn once, no earlier than so long from now; one set inside a callback counts from that
   callback's return at the latest. 0 is the next turn; INT64_MAX is never. out may be NULL. The
   handle is stale once fn is called. -EINVAL: negative, or no fn. O(1), like the three below. */
REACTOR_API int reactor_after(reactor *r, int64_t ms, reactor_timer_fn *fn, void *user,
                              reactor_timer *out);
REACTOR_API int reactor_after_ns(reactor *r, int64_t ns, reactor_timer_fn *fn, void *user,
                                 reactor_timer *out);

/* Calls fn at every multiple of so long from now, on that grid however late a call was; of calls
   that were missed it makes up one. -EINVAL: not above 0, or no fn. */
REACTOR_API int reactor_every(reactor *r, int64_t ms, reactor_timer_fn *fn, void *user,
                              reactor_timer *out);
REACTOR_API int reactor_every_ns(reactor *r, int64_t ns, reactor_timer_fn *fn, void *user,
                                 reactor_timer *out);

/* Sets the next call to so long from now; of a repeating timer also the grid, whose step stays.
   -EBADF: fired, cancelled, unknown; -EINVAL: negative. */
REACTOR_API int reactor_reset(reactor *r, reactor_timer t, int64_t ms);
REACTOR_API int reactor_reset_ns(reactor *r, reactor_timer t, int64_t ns);

/* Nothing more of it is called, not even if it was due this turn. -EBADF: fired, cancelled... */
REACTOR_API int reactor_cancel(reactor *r, reactor_timer t);

/* Time until the next call, rounded up to milliseconds, 0 if it is due; -EBADF. */
REACTOR_API int64_t reactor_remaining(const reactor *r, reactor_timer t);

/* Whether a timer keeps reactor_run going: it does until unref_timer. Not counted. -EBADF. */
REACTOR_API int reactor_ref_timer(reactor *r, reactor_timer t);
REACTOR_API int reactor_unref_timer(reactor *r, reactor_timer t);

/* ---- signals and tasks ---- */

typedef void reactor_signal_fn(reactor *r, int signum, void *user);
typedef void reactor_task_fn(reactor *r, void *user);

/* Calls fn, from the loop, after the signal came; several that came before the call are one call.
   Several loops may watch one signal. fn NULL: stop watching, and when no loop watches it any
   more, put back the disposition that was there before. Does not touch the signal mask nor keep
   the loop going. -EINVAL: no such signal, or one that cannot be caught; -ENOENT: fn NULL and not
   watched. Not for signals that are faults (SIGSEGV ...). */
REACTOR_API int reactor_signal(reactor *r, int signum, reactor_signal_fn *fn, void *user);

/* Calls fn once, after this turn's events, in order; a task deferred by a task waits for the next
   turn. Keeps the loop going until it has run. */
REACTOR_API int reactor_defer(reactor *r, reactor_task_fn *fn, void *user);

/* The same from any thread (not from signal handlers): each runs once, on the loop's thread, in
   order per thread. A burst costs one wake-up. Returning 0 it will run, at the latest in
   reactor_destroy. -ECANCELED: the loop is being destroyed. */
REACTOR_API int reactor_post(reactor *r, reactor_task_fn *fn, void *user);

/* ---- addresses ----

   Addresses are text:
     "127.0.0.1:7000"  "[::1]:7000"  "[fe80::1%eth0]:7000"
     "*:7000"            listen: every address of both families; connect: this machine
     "localhost:7000"    127.0.0.1
     "unix:/run/app.sock"  "unix:@name" (Linux's abstract names)
     "fd:3"              listen: a listening socket that was handed over; connect: a connected one
   Port 0 listens on any free port. reactor_connect takes a list, separated by commas. Other host
   names are -ENOTSUP, for resolving them could block; what is no address at all is -EINVAL. */

/* Bytes that hold any address as text, its end included. */
enum { REACTOR_ADDRESS_MAX = 128 };

/* ---- streams ---- */

typedef struct reactor_buffer reactor_buffer;
typedef void reactor_free_fn(void *data, size_t len, void *user);
typedef void reactor_done_fn(reactor *r, reactor_conn c, int result, void *user);

/* Reasons and results that are not a negative errno. */
enum { REACTOR_ORDERLY = 0, REACTOR_DETACHED = 1 };

/* Which time has run out. */
enum {
    REACTOR_TIMEOUT_IDLE = 1,    /* no byte in either direction */
    REACTOR_TIMEOUT_READ = 2,    /* reading, and nothing arrived */
    REACTOR_TIMEOUT_WRITE = 3,   /* output waiting, and the peer took none */
    REACTOR_TIMEOUT_DEADLINE = 4 /* since the connection opened, whatever it did */
};

/* What a protocol does. Static and const: shared by all its connections, kept by the caller as long
   as they live. Any member may be NULL. state is state_size zeroed bytes that stay where they are
   until on_close has returned. */
typedef struct reactor_handler {
    size_t state_size;
    /* Accepted, connected or attached; the first call there is. */
    void (*on_open)(reactor *r, reactor_conn c, void *state);
    /* Input. Returns how many bytes it consumed, from the front; the rest is offered again, in one
       piece with what follows it, when more comes, after reactor_resume, when output has drained
       to low water, and once before on_eof. data is good until the callback returns. NULL: input
       is discarded. */
    size_t (*on_data)(reactor *r, reactor_conn c, const void *data, size_t len, void *state);
    /* The peer has finished sending; writing to it is still possible. NULL: reactor_close. */
    void (*on_eof)(reactor *r, reactor_conn c, void *state);
    /* reactor_drain has begun. 1: busy, it will close itself; 0: close it when its output is out.
       NULL: busy while it has output queued or input unconsumed. */
    int (*on_drain)(reactor *r, reactor_conn c, void *state);
    /* The output has drained to low water; exactly once after each run of writes of which one gave
       1 or -ENOBUFS. */
    void (*on_writable)(reactor *r, reactor_conn c, void *state);
    /* A timeout of REACTOR_TIMEOUT_x ran out. 0: abort with -ETIMEDOUT; 1: start it again, unless
       the callback has set or closed something itself. NULL: 0. */
    int (*on_timeout)(reactor *r, reactor_conn c, int which, void *state);
    /* Exactly once, last, when the kernel and every free_fn are done with its buffers. reason: 0
       orderly, REACTOR_DETACHED, or why not: -ECONNRESET, -ETIMEDOUT, -ECANCELED (destroyed),
       -ECONNABORTED (reactor_abort), -EMSGSIZE (max_input) ... A connect that fails gets only
       this. */
    void (*on_close)(reactor *r, reactor_conn c, int reason, void *state);
} reactor_handler;

/* Of every connection, however it was made. Counts are bytes unless named otherwise. The struct is
   copied; user and what it points at stay the caller's and must outlive the
   connection. */
typedef struct reactor_conn_options {
    void *user;               /* reactor_user gives it back */
    const char *name;         /* for reactor_dump; copied up to 31 bytes */
    size_t high_water;        /* output queued: a write returns 1 above it; 64 KiB */
    size_t low_water;         /* on_writable at or below it; a quarter of high_water */
    size_t max_output;        /* a write that would exceed it is -ENOBUFS; 4 MiB */
    size_t max_input;         /* unconsumed input kept; more ends it with -EMSGSIZE; 1 MiB */
    int coupled;              /* stop reading above high_water; 1 yes, -1 no; 0: accepted ones do */
    int nagle;                /* 1: let TCP gather small writes (no TCP_NODELAY) */
    int keep_alive_s;         /* TCP keep-alive after so many idle seconds; 0 off */
    int user_timeout_ms;      /* TCP_USER_TIMEOUT, where the system has it; 0 its default */
    int64_t idle_timeout_ms;  /* see REACTOR_TIMEOUT_x; 0 off */
    int64_t read_timeout_ms;  /* 0 off */
    int64_t write_timeout_ms; /* 0 off */
    int64_t deadline_ms;      /* 0 off */
    int64_t close_timeout_ms; /* after close, without progress; 10 s; then -ETIMEDOUT */
} reactor_conn_options;

typedef struct reactor_listen_options {
    reactor_conn_options conn; /* of each connection accepted; its name is the listener's too */
    int backlog;               /* as long as the system allows (SOMAXCONN and its limit) */
    int max_connections;       /* open at once from this listener; at it, accepting pauses; none */
    int reuse_port;            /* 1: SO_REUSEPORT, several processes or loops on one port */
    unsigned unix_mode;        /* permissions of the unix path, such as 0660; 0 as umask says */
} reactor_listen_options;

typedef struct reactor_connect_options {
    reactor_conn_options conn;
    int64_t timeout_ms; /* for the whole list, each address has its share; 30 s */
    const char *local;  /* address to connect from; NULL: the system's choice */
} reactor_connect_options;

/* Accepts connections at address, each served by h, until closed. *out, which may be NULL, is its
   handle. -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE ...; see addresses. A unix path whose
   server is dead is replaced; the path is removed when the listener closes. */
REACTOR_API int reactor_listen(reactor *r, const char *address, const reactor_handler *h,
                               const reactor_listen_options *o, reactor_listener *out);

/* Stop accepting, new peers wait in the backlog; accept again; stop for good (connections that it
   accepted live on). A paused listener does not keep the loop going. -EBADF, but closing a stale
   one is 0. */
REACTOR_API int reactor_listener_pause(reactor *r, reactor_listener l);
REACTOR_API int reactor_listener_resume(reactor *r, reactor_listener l);
REACTOR_API int reactor_listener_close(reactor *r, reactor_listener l);

/* Its address, with the port it got, as text into out[size]. Returns the length; -ENOBUFS: size is
   too small (REACTOR_ADDRESS_MAX never is). */
REACTOR_API int reactor_listener_address(const reactor *r, reactor_listener l, char *out,
                                         size_t size);

/* Connects to the first of the addresses that answers. Returns at once: state and writes (queued)
   are good from here on, on_open or on_close tells the outcome. Only what is wrong with the
   arguments, or no memory, is an error here. */
REACTOR_API int reactor_connect(reactor *r, const char *addresses, const reactor_handler *h,
                                const reactor_connect_options *o, reactor_conn *out);

/* Makes a connection of a connected stream socket or a pipe's end, which it owns from success on
   and sets non-blocking. -EINVAL: a listening or datagram socket, a regular file; -EBADF;
   -EEXIST: it is watched. */
REACTOR_API int reactor_attach(reactor *r, reactor_socket fd, const reactor_handler *h,
                               const reactor_conn_options *o, reactor_conn *out);

/* The way back: *fd is the caller's again, on_close comes with REACTOR_DETACHED. Input received but
   not consumed is copied to input[*len], and *len set to how much that was. Inside on_data, what
   it was offered counts as consumed. -ENOBUFS: *len is too small, and now what it takes; -EBUSY:
   output is queued; -ENOTCONN: not open, or closing. */
REACTOR_API int reactor_detach(reactor *r, reactor_conn c, reactor_socket *fd, void *input,
                               size_t *len);

/* Its state and the user of its options; NULL if stale. In on_close it is not stale yet. */
REACTOR_API void *reactor_state(const reactor *r, reactor_conn c);
REACTOR_API void *reactor_user(const reactor *r, reactor_conn c);

/* Its socket, for socket options and questions only: do not read, write or close it. Negative if
   stale or not open. */
REACTOR_API reactor_socket reactor_conn_socket(const reactor *r, reactor_conn c);

/* As reactor_listener_address; -ENOTCONN: not open yet or any more. The address of an unnamed unix
   socket is "unix:". */
REACTOR_API int reactor_local_address(const reactor *r, reactor_conn c, char *out, size_t size);
REACTOR_API int reactor_peer_address(const reactor *r, reactor_conn c, char *out, size_t size);

/* Output, sent in the order of these calls; what one callback writes leaves in one system call.
   0: accepted; 1: accepted, and now above high water (wait for on_writable); nothing accepted at
   all: -ENOBUFS above max_output, -EBADF stale or closing, -EPIPE after shutdown or when the peer
   is gone. Queued before the connection is open. */
REACTOR_API int reactor_write(reactor *r, reactor_conn c, const void *data, size_t len);

/* Several pieces, accepted whole or not at all. Like POSIX's struct iovec. -EINVAL: count < 0. */
typedef struct reactor_iovec {
    const void *data;
    size_t len;
} reactor_iovec;
REACTOR_API int reactor_writev(reactor *r, reactor_conn c, const reactor_iovec *v, int count);

/* Without a copy: free_fn(data, len, user) is called when it is sent or given up, and also, before
   this returns, when it was refused. It must not call the reactor. NULL: static data. */
REACTOR_API int reactor_write_owned(reactor *r, reactor_conn c, const void *data, size_t len,
                                    reactor_free_fn *free_fn, void *user);

/* One piece of memory for many connections. new copies data, wrap takes it (free_fn as above);
   both return NULL without memory (wrap leaves data to the caller) and give one reference. A
   connection takes a reference of its own if the write is accepted. The count is atomic: any
   thread may ref and unref. NULL is allowed in unref. */
REACTOR_API reactor_buffer *reactor_buffer_new(const void *data, size_t len);
REACTOR_API reactor_buffer *reactor_buffer_wrap(const void *data, size_t len,
                                                reactor_free_fn *free_fn, void *user);
REACTOR_API reactor_buffer *reactor_buffer_ref(reactor_buffer *b);
REACTOR_API void reactor_buffer_unref(reactor_buffer *b);
REACTOR_API int reactor_write_shared(reactor *r, reactor_conn c, reactor_buffer *b);

/* len bytes of file from offset, in the order of the output; len -1: to its end as it is now. They
   do not count for the marks. done, which may be NULL, is called once: result 0 when the last byte
   was handed to the kernel, else why not. -EINVAL: offset < 0, len < -1, unknown flags. A file
   that turns out shorter ends the connection with -EIO. With REACTOR_CLOSE_FILE the file is the
   connection's from success on and closed before done. */
enum { REACTOR_CLOSE_FILE = 1 };
REACTOR_API int reactor_sendfile(reactor *r, reactor_conn c, reactor_file file, int64_t offset,
                                 int64_t len, unsigned flags, reactor_done_fn *done, void *user);

/* Output accepted and not yet taken by the kernel, file bytes included; 0 if stale. */
REACTOR_API size_t reactor_pending(const reactor *r, reactor_conn c);

/* The user's own brake on input, apart from the coupling to the queue: while paused neither data
   nor end of file is delivered. Not counted. */
REACTOR_API int reactor_pause(reactor *r, reactor_conn c);
REACTOR_API int reactor_resume(reactor *r, reactor_conn c);

/* Sets one of REACTOR_TIMEOUT_x and starts it now; 0 turns it off; the deadline too counts from
   now. -EINVAL: negative or unknown. */
REACTOR_API int reactor_set_timeout(reactor *r, reactor_conn c, int which, int64_t ms);

/* Another protocol from here on: unconsumed input is offered to it, its on_open is not called.
   State is kept as it is. -EINVAL: its state_size is above that of the first handler. */
REACTOR_API int reactor_set_handler(reactor *r, reactor_conn c, const reactor_handler *h);

/* End of output: FIN after what is queued; input goes on. Twice is 0. */
REACTOR_API int reactor_shutdown(reactor *r, reactor_conn c);

/* No more callbacks but done and on_close. What is queued is sent first, then FIN; if input is
   unread the socket lingers and discards it, so that the peer is not reset before it got the last
   bytes. Of a stale handle, or twice: 0. */
REACTOR_API int reactor_close(reactor *r, reactor_conn c);

/* Gives up what is queued and resets (RST) the connection. reason -ECONNABORTED. Stale: 0. */
REACTOR_API int reactor_abort(reactor *r, reactor_conn c);

/* Closes all listeners, gives connections that are not busy (see on_drain) their end of file, lets
   the others finish for at most so long (-1: for ever), aborts those left, stops the loop. Nothing
   new can listen, connect or attach meanwhile: -ECANCELED. -EALREADY: draining, the deadline is
   the earlier of the two from now on. */
REACTOR_API int reactor_drain(reactor *r, int64_t deadline_ms);

/* ---- inside view ---- */

typedef struct reactor_counters {
    uint64_t turns;         /* of the loop */
    uint64_t waits;         /* turns that could sleep */
    uint64_t events;        /* reports from the backend */
    uint64_t stale;         /* of those, for watchers that are gone */
    uint64_t callbacks;     /* of any kind */
    uint64_t timers_fired;  /* calls of timers, those of streams included */
    uint64_t posts;         /* and deferred tasks run */
    uint64_t accepts;       /* connections accepted */
    uint64_t accept_pauses; /* listeners paused for want of descriptors or memory */
    uint64_t connects;      /* opened by reactor_connect */
    uint64_t closes;        /* connections ended, for whatever reason */
    uint64_t bytes_in;      /* from peers of streams */
    uint64_t bytes_out;     /* and to them */
    uint64_t changes;       /* of interest, told to the backend */
    uint64_t rebuilds;      /* of epoll's set, to be rid of stale reports */
    int64_t lag_ns;         /* how late the latest timer fired */
    int64_t max_lag_ns;     /* and the latest ever */
    size_t watchers;        /* now: descriptors watched by reactor_add */
    size_t timers;          /* now, those of streams included */
    size_t listeners;       /* now */
    size_t connections;     /* now */
    size_t queued;          /* now: bytes of output in memory, over all connections */
    size_t unread;          /* now: bytes of input kept unconsumed, over all connections */
} reactor_counters;

/* Copies the counters. */
REACTOR_API int reactor_stats(const reactor *r, reactor_counters *out);

/* One line of text, without its newline, for the loop and for each live watcher, timer, listener,
   connection and signal; fn must not change the loop. */
typedef void reactor_line_fn(const char *line, void *user);
REACTOR_API int reactor_dump(const reactor *r, reactor_line_fn *fn, void *user);

#ifdef __cplusplus
}
#endif
#endif /* REACTOR_H_INCLUDED */
#ifdef REACTOR_IMPLEMENTATION
#ifndef REACTOR_IMPLEMENTATION_INCLUDED
#define REACTOR_IMPLEMENTATION_INCLUDED

/* ==== >> config ==== */
/* Decides everything that depends on the platform or on the user's macros, so that no function
   below needs an #if in its body: which backends are compiled in (REACTOR_USE_x, see the manual),
   the allocator, the assertion, the atomics. A backend asked for that the platform lacks is an
   #error here and nowhere else.

   The system's headers show the calls used here only if the feature macros at the top of this file
   came before the first of them. glibc and musl do so anyway unless -std=c99 and the like; then
   the check below tells what to do instead of a hundred unknown names. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if !defined(CLOCK_MONOTONIC) || !defined(SA_RESTART) || !defined(MSG_NOSIGNAL)
#error "reactor.h: under -std=cNN put REACTOR_IMPLEMENTATION before every system header"
#endif

#if !defined(REACTOR_USE_SELECT) && !defined(REACTOR_USE_POLL) && !defined(REACTOR_USE_EPOLL)
#if defined(__linux__)
#define REACTOR_USE_EPOLL
#endif
#define REACTOR_USE_POLL
#endif

#ifdef REACTOR_USE_EPOLL
#ifndef __linux__
#error "reactor.h: REACTOR_USE_EPOLL needs Linux"
#endif
#endif

#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#endif
#ifdef REACTOR_USE_SELECT
#include <sys/select.h>
#endif

#if defined(REACTOR_MALLOC) && defined(REACTOR_REALLOC) && defined(REACTOR_FREE)
#elif defined(REACTOR_MALLOC) || defined(REACTOR_REALLOC) || defined(REACTOR_FREE)
#error "reactor.h: define all of REACTOR_MALLOC, REACTOR_REALLOC and REACTOR_FREE, or none"
#else
#define REACTOR_MALLOC(size)       malloc(size)
#define REACTOR_REALLOC(old, size) realloc(old, size)
#define REACTOR_FREE(memory)       free(memory)
#endif

/* For misuse that no correct program makes. Silent unless the user wants otherwise: a library does
   not abort its host. */
#ifndef REACTOR_ASSERT
#define REACTOR_ASSERT(condition) ((void)sizeof(condition))
#endif

#if defined(__GNUC__)
#define REACTOR__LIKELY(x)      __builtin_expect(!!(x), 1)
#define REACTOR__UNLIKELY(x)    __builtin_expect(!!(x), 0)
#define REACTOR__LOAD(p)        __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define REACTOR__STORE(p, v)    __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define REACTOR__EXCHANGE(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define REACTOR__ADD(p, v)      __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
#define REACTOR__CTZ64(x)       ((unsigned)__builtin_ctzll(x))
#define REACTOR__CLZ64(x)       ((unsigned)__builtin_clzll(x))
#else
#error "reactor.h: this compiler lacks GCC's __atomic builtins"
#endif

/* Neither C++ nor -Wconversion likes what C allows: every allocation is cast to its type. */
#define REACTOR__NEW(type) ((type *)reactor__util_zeroed(sizeof(type)))

/* ==== >> util ==== */
/* What every section needs and no system call names: zeroed memory, arrays that grow, saturating
   time, the clock, descriptors made non-blocking and close-on-exec.

   Times are int64_t nanoseconds. INT64_MAX is "never", and all sums saturate there, so that an
   enormous delay stays enormous instead of wrapping into the past. */
#define REACTOR__NEVER INT64_MAX
#define REACTOR__NONE  UINT32_MAX /* no index */
#define REACTOR__MS    INT64_C(1000000)

static void *reactor__util_zeroed(size_t size) {
    void *memory = REACTOR_MALLOC(size);
    if (memory) memset(memory, 0, size);
    return memory;
}

/* A larger copy of array for at least need elements, *cap updated; NULL and nothing changed without
   memory. Grows by a quarter: at ten thousand elements doubling would waste more than it saves. */
static void *reactor__util_grown(void *array, uint32_t *cap, uint32_t need, size_t size) {
    uint64_t wanted = (uint64_t)*cap + *cap / 4 + 16;
    if (wanted < need) wanted = need;
    if (wanted > UINT32_MAX - 1) return NULL;
    if (wanted > SIZE_MAX / size) return NULL;
    void *grown = REACTOR_REALLOC(array, (size_t)wanted * size);
    if (grown) *cap = (uint32_t)wanted;
    return grown;
}

static int64_t reactor__util_add(int64_t a, int64_t b) { /* a >= 0, b >= 0 */
    return a > REACTOR__NEVER - b ? REACTOR__NEVER : a + b;
}

static int64_t reactor__util_ms(int64_t ms) { /* to nanoseconds; ms >= 0 */
    return ms > REACTOR__NEVER / REACTOR__MS ? REACTOR__NEVER : ms * REACTOR__MS;
}

static int64_t reactor__util_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int reactor__util_nonblock(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    if (flags & O_NONBLOCK) return 0;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static int reactor__util_cloexec(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0; }

/* Linux closes the descriptor also when close says EINTR; calling it again could close another
   thread's. */
static void reactor__util_close(int fd) {
    int saved = errno;
    close(fd);
    errno = saved;
}
#endif /* REACTOR_IMPLEMENTATION_INCLUDED */
#endif /* REACTOR_IMPLEMENTATION */
