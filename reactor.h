/* reactor.h 1.0.0 - an event loop in one header, for C and C++. MIT licence, at the end. */

/* ==== >> manual ==== */
/* Table of contents: grep '==== >> ' reactor.h

   QUICK START

   Copy this file into your project. In exactly one .c or .cpp file, before any other include::

        #define REACTOR_IMPLEMENTATION
        #include "reactor.h"

   and everywhere else only the #include. Link with -pthread (glibc from 2.34 on, musl and Windows do
   without). A server that sends back what it
   gets (run: echo 7000)::

        #define REACTOR_IMPLEMENTATION
        #include "reactor.h"

        static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
            (void)state;
            reactor_write(r, c, data, len);
            return len;
        }

        int main(void) {
            reactor *r;
            static reactor_handler echo;
            echo.on_data = on_data;
            if (reactor_create(&r, NULL) < 0) return 1;
            if (reactor_listen(r, "localhost:7000", &echo, NULL, NULL) < 0) return 1;
            return reactor_run(r) < 0;
        }

   The selector alone, as in Python's selectors: register, select, a key for each that is ready.
   Watchers with a callback are called instead (run: exits)::

        #define REACTOR_IMPLEMENTATION
        #include "reactor.h"

        int main(void) {
            reactor *r;
            reactor_key keys[16];
            int fd[2];
            if (pipe(fd) < 0 || reactor_create(&r, NULL) < 0) return 1;
            reactor_add(r, fd[0], REACTOR_READ, NULL, NULL);
            if (write(fd[1], "x", 1) != 1) return 1;
            int n = reactor_select(r, keys, 16, -1);
            for (int i = 0; i < n; i++)
                if (keys[i].fd == fd[0] && (keys[i].events & REACTOR_READ)) reactor_remove(r, fd[0]);
            reactor_destroy(r);
            return n == 1 ? 0 : 1;
        }

   Timers, signals, and work from other threads, all on the loop's thread (run: exits)::

        #define REACTOR_IMPLEMENTATION
        #include "reactor.h"

        static void on_tick(reactor *r, reactor_timer t, void *user) {
            (void)t;
            if (++*(int *)user == 3) reactor_stop(r);
        }
        static void on_term(reactor *r, int signum, void *user) {
            (void)signum;
            (void)user;
            reactor_drain(r, 1000);
        }

        int main(void) {
            reactor *r;
            int ticks = 0;
            if (reactor_create(&r, NULL) < 0) return 1;
            reactor_every(r, 10, on_tick, &ticks, NULL);
            reactor_signal(r, SIGTERM, on_term, NULL);
            reactor_run(r);
            reactor_destroy(r);
            return ticks == 3 ? 0 : 1;
        }

   BUILD AND MACROS

   For the file with the implementation, before the include:
     REACTOR_USE_IO_URING, REACTOR_USE_EPOLL, REACTOR_USE_KQUEUE, REACTOR_USE_POLL,
         REACTOR_USE_WINDOWS, REACTOR_USE_SELECT   backends to compile in, tried in this order when a
         loop is made. None: epoll and poll on Linux, kqueue and poll on the BSDs and macOS, windows
         and select on Windows, where those two are all there are.
     REACTOR_USE_ALL      all that the platform has.
     REACTOR_MALLOC(size) REACTOR_REALLOC(old, size) REACTOR_FREE(memory)   all three or none.
     REACTOR_ASSERT(condition)   for misuse that no correct program makes, such as a call from a
         thread that is not the loop's; nothing by default.
     REACTOR_NO_NET       leaves out addresses, streams and datagrams, REACTOR_NO_DATAGRAMS
         datagrams alone, REACTOR_NO_SIGNALS reactor_signal, REACTOR_NO_WORK reactor_work and what
         needs it, REACTOR_NO_CHILDREN child processes, REACTOR_NO_RESOLVE host names,
         REACTOR_NO_GROUPS reactor_group.
   For every file that includes it, and the same in all of them:
     REACTOR_STATIC       all functions static: several implementations in one program.
     REACTOR_API          your own linkage, such as __declspec(dllexport).
   No macro changes a struct: sizes and limits are fields of the options. C99 and C++11 suffice.
   Under -std=c99 (not gnu99) the implementation must come before every system header. gcc, clang
   and (on x86-64) tcc compile it, with glibc and musl; word size and byte order do not matter. On a
   32-bit system -D_FILE_OFFSET_BITS=64 lets reactor_sendfile go beyond 2 GiB.
   On Windows (7 SP1 and later) link with ws2_32, and with no thread library; gcc and clang compile
   it (mingw-w64), cl does not, which has no __atomic builtins. What differs there: see below.

   CONCEPTS

   One turn of the loop runs these steps, in this order:

        hooks         guests say when they want to be called again: reactor_before_wait
        wait          until a descriptor is ready, a timer is due or another thread calls
        descriptors   watchers are called; connections read, call on_data, and send its answer
        timers        those that are due
        tasks         posts of other threads, asyncs, then deferred tasks
        signals       those that came
        children      those that have ended
        streams       what callbacks wrote to other connections is sent; closing goes on
        keys          reactor_select returns what is ready

   No function blocks, and none calls your callbacks: they are called by the loop alone, in
   reactor_run, reactor_poll, reactor_select and reactor_destroy. Inside a callback you may call any
   function on any object, also close the connection you are in. Each step has a budget per turn,
   so that nobody can keep the others waiting; what is left over comes first in the next turn.

   A watcher is a descriptor of yours with an interest and a callback. What the library makes
   (timers, asyncs, listeners, connections) you name by handles. After the object is gone, calls with
   its handle return -EBADF. A handle is never reused for a new object.

   A handler describes a protocol and is shared by all its connections. Each connection has its own
   state: state_size zeroed bytes that stay where they are until on_close has returned.

   A connection lives like this; every connection ends in on_close, exactly once:

        connecting -> open -> [peer finished: on_eof] -> closing -> on_close
        connecting -> on_close      no address answered
        open       -> on_close      reset, timeout, reactor_abort, reactor_detach
        open       -> closing       reactor_close, on_eof is NULL, or both directions have ended
        closing    -> on_close      output is sent and the peer has finished, or time is up

   OWNERSHIP

     what                          whose, and until when
     handler, options.user         yours; until the last on_close of its connections
     other fields of options       copied by the call
     state                         the connection's; until on_close has returned
     data of on_data               the loop's; until on_data returns
     reactor_input                 the connection's; until the callback returns
     a message and its peer        the loop's; until on_message returns. The peer is a value: copy it
     data of reactor_write         copied by the call; that of reactor_datagram_send, too
     data of reactor_write_owned   the library's from the call on, also if it fails; ends in free_fn
     reactor_buffer                counted; who makes it owns one reference, each queue another
     a watched descriptor          yours, always; remove it before you close it
     an attached descriptor        the connection's, once reactor_attach has succeeded
     fd:N                          the library's, once the call it was given to has succeeded
     a file of reactor_sendfile    yours; with REACTOR_CLOSE_FILE the library's, if it succeeds
     user of a timer, task, async, look-up   yours; until it has been called, cancelled or closed
     user of a job                 the thread's until done is called, and then yours again
     addresses of reactor_resolve  the library's; until the callback returns
     options of reactor_spawn      yours; until it returns, but for handlers and user
     user of a child               yours; until its end was told, or reactor_child with no fn
     a connection that moves       the other loop's, from the end of the turn that called reactor_move
     the loop                      yours; reactor_destroy frees it and calls what is still owed
     a group and its loops         yours; reactor_group_destroy frees them; do not destroy one alone

   ERRORS

   A call returns 0 or more for success, and a negative errno for failure; reactor_strerror gives the
   text. A call that failed has changed nothing, also when memory or descriptors ran out. The
   library never prints, aborts or exits. What goes wrong later, without a call to return it from, is
   the reason that on_close gets, ERROR for a watcher, or what on_error gets of a datagram.

   THREADS

   A loop belongs to the thread that first runs it. Other threads may call reactor_post,
   reactor_async_send, reactor_wake and reactor_stop, signal handlers the last three. Join every
   thread that may call them before you destroy the loop. To use more CPUs run several loops, each
   on a thread of its own: see the chapter on many loops. With reuse_port several loops or processes
   listen on one port.

   reactor_post runs a function on the loop's thread, each post once. An async is a doorbell for
   threads that have a queue of their own: many sends are one call, without memory or a lock.

     called from              what may be called
     the loop's thread        everything
     other threads, jobs      reactor_post, reactor_async_send, reactor_wake, reactor_stop
     signal handlers          the last three of these
     a group's other threads  reactor_group_stop and reactor_group_drain, signal handlers the first

   WORK ON THREADS

   What would keep the loop from its other connections runs on a thread of a pool, as a job: work is
   called there, and then done on the loop, exactly once, also when the job is cancelled or the loop
   destroyed. There are two lanes, neither of which waits for the other:

     reactor_work             what computes: hashing, compressing, searching. As many threads as CPUs.
     reactor_work_blocking    what waits: files, reactor_resolve, the client library of a database. 16
                              threads, which sleep most of the time.

   A job's memory is its own. It holds the handle of the connection that it is for, which is stale if
   that has gone meanwhile; pause the connection if its next message has to wait for the answer::

        struct question {
            reactor_conn from;
            unsigned long number, divisor;
        };
        static void divide(void *user) {
            struct question *q = (struct question *)user;
            q->divisor = 2;
            while (q->number % q->divisor) q->divisor++;
        }
        static void on_divided(reactor *r, int status, void *user) {
            struct question *q = (struct question *)user;
            char text[32];
            int n = snprintf(text, sizeof text, "%lu\n", q->divisor);
            if (status == 0 && reactor_state(r, q->from)) {
                reactor_write(r, q->from, text, (size_t)n);
                reactor_resume(r, q->from);
            }
            free(q);
        }
        static int ask(reactor *r, reactor_conn c, unsigned long number) {
            struct question *q = (struct question *)malloc(sizeof *q);
            if (!q) return -ENOMEM;
            q->from = c;
            q->number = number;
            int e = reactor_work(r, divide, on_divided, q, NULL);
            if (e < 0) free(q);
            return e < 0 ? e : reactor_pause(r, c);
        }

   reactor_destroy takes back what has not begun and waits for what runs, for a thread cannot be
   stopped: work that may take for ever looks at a flag of yours now and then. The pool and the table
   of the signals watched are all the global state there is: loops on several threads share the pool,
   its threads start when they are needed and end when they are not, the last ones with the last loop
   that used them. A forked child has none of them, and begins anew.

   INPUT

   on_data returns how many bytes it has consumed. What it leaves is kept, and on_data is called
   again: at once if it consumed something, else when more has come. So a parser takes one message,
   and returns 0 until a line, a head or a frame is complete::

        static size_t on_line(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
            const char *end = (const char *)memchr(data, '\n', len);
            (void)state;
            if (!end) return 0;
            size_t line = (size_t)(end - (const char *)data) + 1;
            reactor_write(r, c, data, line);
            return line;
        }

   A loop that consumes all complete messages before it returns is faster: their answers then leave
   with one system call. The last line may have no newline: in on_eof, reactor_input shows what is
   left, to be used or to be refused.

   BACK-PRESSURE

   Output that the peer does not take is queued. Three marks, in the options, bound it:

        high_water   above it a write returns 1: stop producing until on_writable
        low_water    on_writable is called when the output has drained to it
        max_output   a write that would exceed it is refused whole: -ENOBUFS

   Above high_water nothing more is read from accepted and attached connections, so a peer that
   sends and never reads is made to wait, and a handler that only answers needs no code for this.
   A relay that couples two connections by hand sets coupled to -1 for both, or each could wait for
   the other. For a mark of your own there is reactor_notify_output.

   ENDS

   reactor_close sends what is queued, then FIN, and reads until the peer finishes too, so that the
   peer is not reset before it has read the answer. reactor_shutdown ends your direction only.
   reactor_abort resets. on_eof says that the peer has finished sending, which is not the end of the
   connection: you may still write. If on_eof is NULL the connection is closed. A reset is never told
   as an end of file: on_close has a negative reason then. What ends is told to the peer also while
   another process or descriptor holds the socket.

   DATAGRAMS

   reactor_datagram_open makes a socket for UDP (IPv4, IPv6, or both) or for unix datagrams. Its
   on_message gets each datagram with its peer, which is a value: answer it at once, or copy it and
   answer later. A server that sends back what it gets, and a client that asks it once (run: exits)::

        #define REACTOR_IMPLEMENTATION
        #include "reactor.h"

        static void on_question(reactor *r, reactor_datagram d, const reactor_message *m, void *state) {
            (void)state;
            reactor_datagram_send(r, d, m->peer, m->data, m->len);
        }
        static void on_answer(reactor *r, reactor_datagram d, const reactor_message *m, void *state) {
            (void)d, (void)m, (void)state;
            reactor_stop(r);
        }

        int main(void) {
            reactor *r;
            reactor_datagram server, client;
            reactor_datagram_handler serves = {0, on_question, NULL, NULL, NULL};
            reactor_datagram_handler asks = {0, on_answer, NULL, NULL, NULL};
            reactor_datagram_options o = {0};
            char address[REACTOR_ADDRESS_MAX];
            if (reactor_create(&r, NULL) < 0) return 1;
            if (reactor_datagram_open(r, "127.0.0.1:0", &serves, NULL, &server) < 0) return 1;
            reactor_datagram_address(r, server, address, sizeof address);
            o.connect = address;
            if (reactor_datagram_open(r, NULL, &asks, &o, &client) < 0) return 1;
            reactor_datagram_send(r, client, NULL, "hello", 5);
            reactor_run(r);
            reactor_destroy(r);
            return 0;
        }

   A socket with options.connect has one peer, and sends to NULL; for others reactor_peer_parse makes
   a peer of text.

   What a callback sends, and what a turn sends, leaves together; what has come is received
   together. On Linux that is one system call for up to 64 datagrams each way, and the kernel cuts
   and joins runs of one size (UDP_SEGMENT, UDP_GRO), which you do not notice: so send a file's pieces
   in one callback and of one size. When the system takes no more, datagrams wait in a queue whose
   marks are those of streams, and the option overflow says what happens at its end: refuse, for those
   who wait for on_writable; drop the newest or the oldest, for those to whom late is useless.
   Nothing makes the peer wait, for datagrams have no back-pressure: who sends faster than the
   other side reads loses some there, and nobody is told. A larger receive_buffer takes bursts.

   on_error hears what the network says of datagrams that were sent, and of whom. It is not the end
   of anything. A socket of every address ("*:53") answers from the address that was asked, for the
   peer remembers it (Linux). Sockets that several loops or processes open with reuse_port share
   the load: the system gives each peer to one of them. Groups are joined by the option groups or by
   reactor_datagram_join, with the interface in the text: "239.1.2.3%eth0".

   NAMES

   reactor_connect takes host names, and lists of them, without blocking the loop. A client by name,
   which says in words what went wrong::

        static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
            (void)r, (void)c, (void)state;
            if (reason == -ENXIO) puts("there is no such name");
            else if (reason < 0) puts(reactor_strerror(reason));
        }

        static int call(reactor *r) {
            static reactor_handler client;
            static reactor_connect_options o;
            client.on_close = on_close;
            o.timeout_ms = 5000;
            return reactor_connect(r, "example.com:80,backup.example.com:80", &client, &o, NULL);
        }

   Threads of the pool ask the system's resolver, for IPv6 and IPv4 apart. The first address is
   tried as soon as there is one, the next after attempt_delay_ms (250), the families by turns, and
   the first that answers is the connection. A server that cannot be reached over IPv6 costs a
   quarter of a second and not a minute; a DNS server that does not answer costs timeout_ms, and
   holds up neither the loop, nor the rest of the list, nor the end of the program. examples/get.c
   is a whole program.

   For anything else there is reactor_resolve. reactor_address_parse makes a struct sockaddr of what
   it finds, and of any address; reactor_address_format shows one, and reactor_socket_address those
   of a socket of your own.

   DRAINING AND HAND-OVER

   For an end without a lost request call reactor_drain when SIGTERM comes. It serves the peers that
   wait in the backlog, closes the listeners, answers requests that were already sent, closes what is
   idle, and stops the loop when all are gone or the deadline has passed. A handler that knows when it
   is busy has an on_drain. A successor takes over without a gap in one of two ways: it inherits the
   listening socket ("fd:3"), or both listen with reuse_port, the old process drains.

   reactor_detach takes a connection out of the loop with the input it has not consumed, for another
   loop (reactor_attach) or another library.

   PROCESSES

   After fork(2) the parent goes on. The child calls reactor_destroy on its copy, also inside a
   callback, and the parent does not notice; or, to go on with it as after daemon(3), reactor_fork.
   With exec nothing has to be done: every descriptor is close-on-exec. A child that was forked in a
   callback destroys its copy before it returns from it.

   CHILD PROCESSES

   reactor_spawn starts a program. Each of its three streams is this process's, nothing, a file, or a
   connection of the loop; on_exit hears how the program has ended, once. What cannot be started is
   an error of the call::

        static void on_exit(reactor *r, int pid, const reactor_exit *how, void *user) {
            (void)r, (void)pid;
            *(int *)user = how->code; // -1: a signal ended it, how->signum
        }
        static int sort_lines(reactor *r, const reactor_handler *lines, reactor_conn *input, int *code) {
            const char *const argv[] = {"sort", "-n", NULL};
            reactor_spawn_options o;
            reactor_spawned child;
            memset(&o, 0, sizeof o);
            o.argv = argv;
            o.streams[0].what = o.streams[1].what = REACTOR_SPAWN_STREAM;
            o.streams[0].handler = o.streams[1].handler = lines;
            o.on_exit = on_exit;
            o.user = code;
            int e = reactor_spawn(r, &o, &child);
            *input = child.streams[0]; // reactor_close ends the program's input
            return e;
        }

   The program gets no other descriptor of yours, and no signal's action or mask. A process that was
   started by other means is watched with reactor_child. Both keep the loop going until it has ended,
   leave no zombie, and touch neither your other children nor your handler of SIGCHLD. So do not wait
   for all (waitpid with -1) elsewhere: the status would be gone, and on_exit could only tell that the
   child has ended. reactor_child_kill sends a signal, and SIGKILL when a deadline has passed; with the
   option group it reaches what the program has started, too. The end of a stream is not the end of the
   program, nor the other way round: wait for both, on_close and on_exit, if both matter.

   MANY LOOPS

   One loop uses one CPU. For more make a group: a loop for each CPU on a thread of its own, all of
   which serve the same addresses. Make the group, have it listen, run it::

        static void serve(const reactor_handler *h) {
            reactor_group *g;
            if (reactor_group_create(&g, NULL) < 0) return;
            if (reactor_group_listen(g, "*:7000", h, NULL, NULL, 0) == 0) reactor_group_run(g);
            reactor_group_destroy(g);
        }

   A connection stays with the loop that has accepted it, and so its handler needs no locks for its
   state. What several loops share (a table of rooms, a cache) does: better let each loop have its
   own, and post what others have to know (reactor_post). on_start is the place to make what a loop
   has for itself. A connection can go to another loop by reactor_move, with its unread input, queue and
   state, so that all members of one room are served by one loop.

   OTHER LOOPS AND LIBRARIES

   A library that hands out descriptors is watched with reactor_set, which adds or changes and always
   tells the kernel anew: libraries close a socket and open the next one under the same number. Where
   a descriptor has several watchers that do not know of each other, as those of libdbus, each is a
   reactor_watch.

   A library with a loop or timers of its own is a guest. Its descriptors are watched, and a hook,
   reactor_before_wait, does what is due in it and tells how long the loop may sleep. The hook is
   needed beside the descriptors: a timer that the guest is given in one of your callbacks is nothing
   that a descriptor tells. All of libuv as a guest, watched by its one descriptor:

        static int64_t uv_hook(reactor *r, void *uv) {
            (void)r;
            uv_run((uv_loop_t *)uv, UV_RUN_NOWAIT);
            return uv_loop_alive((uv_loop_t *)uv) ? uv_backend_timeout((uv_loop_t *)uv) : -1;
        }
        static void uv_ready(reactor *r, reactor_socket fd, unsigned events, void *uv) {
            (void)r, (void)fd, (void)events, (void)uv; // the hook comes before the next wait
        }
        ...
        reactor_set(r, uv_backend_fd(uv), REACTOR_READ, uv_ready, uv);
        reactor_before_wait(r, uv_hook, uv);

   A program that only wants accepted sockets, for a library or a thread that serves them, takes
   reactor_accept: it has what reactor_listen knows of full tables of descriptors.

   The other way round, a program that has a loop watches reactor_fd and calls reactor_poll(r, 0);
   where that is -ENOTSUP it gives the loop a turn now and then, or a thread.

   BACKENDS

     name      where          waits cost by      reactor_fd   tested
     epoll     Linux          ready descriptors  yes          on Linux 6.18, glibc and musl
     io_uring  Linux 5.18     ready descriptors  yes          on Linux 6.18
     poll      every Unix     all descriptors    no           on Linux
     select    every Unix     the highest one    no           on Linux
     kqueue    BSDs, macOS    ready descriptors  yes          see below
     windows   Windows 7 on   ready sockets      no           under wine
     select    Windows        all sockets        no           under wine

   All report the same events and do the same with them: hundreds of scenarios, written and random,
   are played on each and their traces compared. What differs:
   - Only epoll, io_uring and kqueue have edges. Elsewhere EDGE behaves like level-triggered, so a
     watcher of both directions is called every turn while its socket has room. Ask for WRITE only
     while there is something to write.
   - The order in which one turn calls different descriptors, and in which pieces a stream's input
     comes.
   - On Linux an entry in a socket's error queue (SO_TIMESTAMPING, MSG_ZEROCOPY) is an ERROR: epoll
     and io_uring report it once, poll and select in every turn until you take it with
     recvmsg(MSG_ERRQUEUE). A connection leaves it there for you, and on these two is listened to
     only every 10 ms meanwhile, so its input comes up to that much later.
   - select cannot hear of an error or a hang-up of a descriptor that has input and is not watched
     for READ: a paused or half-closed connection hears of its reset in the next turn that something
     else causes.

   io_uring is epoll with a ring beside it: where a wait finds several TCP streams with input, all are
   read with one system call and answered with one more. One or two streams at work, messages above
   8 KB, watchers, and a loop with on_slow go as on epoll. If the ring is refused later, by a filter
   or for want of memory, streams go as on epoll, and reactor_backend_reason says why. The ring, some
   170 KB, comes with the first turn that has a use for it. After such a loop is destroyed the kernel
   interrupts once, within milliseconds, what its thread waits in (EINTR).

   kqueue. sendfile copies on NetBSD and OpenBSD. There is no user_timeout_ms. OpenBSD has one time
   for keep_alive_s, set by sysctl; there and on DragonFly "*" is IPv4 alone. macOS cannot watch
   /dev/tty, nor tell the end of a named pipe. Timers in reactor_fd have whole milliseconds. pipe(2)
   of FreeBSD, OpenBSD and DragonFly makes ends that go both ways, of which none ends alone:
   reactor_shutdown of one closes it, and that its reader has gone is on_eof to a writer that has
   nothing queued. What has run: the kernels of FreeBSD 15.1 and NetBSD 7.99 have run the tests in
   emulation, before what follows was mended: pipes that go both ways, peers that cannot be named any
   more, /dev/null, the ends of pipes, alarms due at once, the ends that poll(2) tells. Those are
   compiled for the BSDs, and all but the last run over an imitation on Linux. The headers of FreeBSD
   10.4 to 15.1, NetBSD 10, OpenBSD 7.6 and DragonFly 5.9 were compiled against before that; OpenBSD,
   DragonFly and macOS have not run it. NetBSD 8 is the oldest with what it needs (EV_RECEIPT,
   accept4). On Linux it takes libkqueue, which has no reactor_fd, goes on reporting what a duplicate
   holds open, and loses edges when more are ready than batch, and the error of a connect.

   Windows. A reactor_socket is a SOCKET and a reactor_file a HANDLE; only sockets can be watched or
   attached, anything else is -EBADF. A reset is HANGUP with ERROR, and ends a connection with
   -ECONNRESET, where others may say -EPIPE. That both directions have ended in order is told as the
   end of file that it is, not as HANGUP, and what you have shut down yourself is not told at all.
   Unix addresses are -EAFNOSUPPORT, reuse_port is -ENOTSUP, interfaces go by number ("%2"). A
   listener has its port to itself (SO_EXCLUSIVEADDRUSE); the next one may have to wait for the end of
   the last one's connections. reactor_sendfile reads and sends, which moves the HANDLE's position.
   reactor_signal knows SIGINT, which is Ctrl-C, and SIGTERM, which is Ctrl-Break and the closing of
   console, session (not for services) or system; after one of the latter three the program has some
   seconds to end by itself. Waits may be as coarse as the system's tick, 15 ms by default, but are
   never early; `windows` is finer on Windows 10. A timer that comes due while the machine sleeps
   fires within a minute of its waking up. Winsock is started by reactor_create and given back by
   reactor_destroy: call WSAStartup if you use sockets before or after. Your own calls on sockets, and
   SO_ERROR, have Winsock's codes, which reactor_strerror knows as well; this library's have those of
   errno.h. A watched socket that never was connected is silent; elsewhere it is HANGUP.

   GLOSSARY

     turn         one pass through the steps above
     watcher      a descriptor of yours, its interest and its callback
     interest     the events that a watcher asks for
     level, edge  reported as long as it is so; reported when it changes
     handle       slot and generation of an object; it goes stale with the object
     connection   a stream: a connected socket, a pipe's end or a terminal
     datagram     a message that arrives whole or not at all; also the socket that takes them
     dial         a reactor_connect under way
     cork         what a callback has written and the kernel has not been given yet
     queue        output that the kernel has not taken yet
     high, low water   marks on the queue, see back-pressure
     linger       FIN is sent, and input is read and dropped until the peer finishes
     drain        the orderly end of a whole loop

   FAQ

   May I call this from another thread? Only the calls in the table of the chapter on threads.
   Why does my handler lose the last line? It has no newline: see reactor_input.
   Why is my timer 2 ms late? A callback took so long, or the machine was busy. Ask on_slow.
   How do I resolve names? reactor_connect does it; for other uses there is reactor_resolve.
   Does it print, exit, or touch signals? Never. SIGPIPE is not raised by streams. What you write to a
   bare descriptor yourself is yours: use MSG_NOSIGNAL, or ignore SIGPIPE.
   What happens without descriptors or memory? The call says so, and nothing has changed. Listeners
   pause and go on by themselves.

   HOW TO ADD A BACKEND

   Write its section, between those of a worse and a better one, and name its macro in
   `config`, in the question whether any is defined (`make layers` tells if that is forgotten): no
   other line of code knows backends. Below banner and comment it says:

        #if defined(REACTOR_USE_MINE) && !defined(__linux__)
        #error "reactor.h: REACTOR_USE_MINE needs Linux"
        #elif defined(REACTOR_USE_MINE) || (defined(REACTOR_USE_ALL) && defined(__linux__))
        #include <sys/mine.h>
        ...
        static const reactor__core_backend reactor__mine_backend = {
            "mine", REACTOR__CORE_BEST, 0, reactor__mine_init, reactor__mine_fini,
            reactor__mine_set, reactor__mine_wait, NULL, NULL, NULL, NULL};
        #undef REACTOR__CORE_BEST
        #define REACTOR__CORE_BEST (&reactor__mine_backend)
        #endif

   What is watched are slots. reactor__core_at(core, index) has the descriptor (fd) and the interest
   that the backend was given (armed), both in bits of poll(2), see REACTOR__CORE_x. Slots move, so
   keep an index, never an address. *reactor__core_aux(core, index) is a number of the backend's. It
   is not zeroed: while a slot is not armed it holds what a former slot, or core, has left there, so
   `set` writes it when before is 0. core->data is the backend's too. All functions but wake are
   called by the loop's thread, and return 0 or -errno.

   A report says to which slot it belongs and of which generation (tag). reactor__core_report_slot
   fills in the slot's present generation, which is right if the kernel keeps nothing over a removal.
   A report that may come late, after its slot was removed and used again, must have the generation
   of its adding: give the kernel index and tag (the halves of reactor__core_id), and write both into
   core->reports[core->report_count++] when they come back. core drops a report whose generation is
   gone. If the kernel has room for one of the two only, look whether the slot still has the
   descriptor of the event, as in kqueue, or keep the memory until the end has come, as in windows.

   name     what the options call it; in capitals the end of its macro.
   worse    REACTOR__CORE_BEST, the best one above: it takes over if init fails.
   traits   0 will do. HAS_EDGES: EDGE is reported when something changes, not as long as it is so,
            with PRI and RDHUP; streams are then registered once and for all. HAS_ONESHOT: a report
            of ONESHOT has disarmed the descriptor; without it core gives it an interest of none.
            TELLS_PRIORITY, TELLS_FIN: watchers may ask for PRI, and for HANGUP, which takes a level
            of RDHUP; without these core refuses them. REPORTS_CLOSED: a descriptor that was closed
            without being removed may be reported while a duplicate is open; core then checks.
   init     finds out by trying, not by version, whether it works here. If not it leaves nothing
            behind, and its error is for reactor_backend_reason. core->batch is known. Another
            thread may run the loop.
   fini     follows an init that worked; slots may still be armed. core->child: this is a forked
            copy, and what it shares with the parent stays as it is. That holds for set, too.
   set      The interest goes from before to after.
            before 0 adds. It finds out at once what is wrong: -EBADF, -ERANGE, -ENOMEM; or -EPERM
            for a file without readiness. Such a file is core's then, on level backends as well: it
            counts as ready, with EDGE once for each time it is armed, and set is called for it
            again, with before 0, only when its interest is applied anew.
            after 0 removes, and cannot fail, because the descriptor may be closed already. closing:
            the caller closes it next, so a backend may skip the calls that its kernel saves it by
            forgetting closed descriptors. It may not skip its own memory, and reports of the slot
            that come later are dropped only if they have the generation of the adding.
            Other changes may be put off until wait by returning 1. If one then fails, call
            reactor__core_refused: it is set once more, and the second time its watcher gets ERROR.
            A change for a descriptor that is no longer open must be refused (fcntl tells). The same
            interest again means: report anew what is there.
            WATCHED is in every interest. Alone it is silence, also when the peer has gone. RDHUP
            without READ and WRITE waits for an error or a full hang-up, to be reported once. The
            peer's FIN it means only to HAS_EDGES and TELLS_FIN, because a level of it would spin
            beside WRITE.
   wait     reports at most core->limit times; who is left out comes first next time. A slot comes
            once, in any order, with what is true now: ERROR and HANGUP unasked, and nothing else
            that is not armed, which reactor__core_report_slot masks. (A kernel that writes reports
            itself has to leave that out, see epoll.) A level comes with every wait. If arming it
            again fails, call reactor__core_refused, unless the descriptor was closed without being
            removed: that is silent. timeout is in nanoseconds, 0, or -1 for ever; never return
            early, and be as fine as the system can. Return -EINTR after a signal, or with nothing
            to report yet, and it is called for the rest of the time. Do not wait after a refusal.
            Any other error ends the loop if it lasts. core->stale: a report came for a slot that
            was removed before this turn, see epoll.
   fd       a descriptor that is readable while wait would report, and stays the same. For
            reactor_fd; NULL, with alarm, if there is none.
   alarm    makes that readable from a time of the clock on; REACTOR__NEVER: not. It is called after
            every change outside a turn, so it also applies what set has put off.
   wake     has wait report READ of the slot core->waker, from any thread and from signal handlers;
            with 0 it takes that back. NULL: core watches a descriptor for it, like others.
   fork     for reactor_fork, in a child: exchanges what is shared with the parent, or was not
            inherited, for new objects that know all that is armed. If it fails it can be tried
            again. NULL: core calls init again, set for all that is armed, and fini, with
            core->child, for what the first init had made.

   core->transfer is no member, but init may set it: it does many receives or sends with one call,
   see reactor__core_transfer_fn. NULL: streams make a call for each.

   The tests find it by themselves, and so do the build tests and the bench; `make test
   BACKEND=mine` is it alone. test_selector and test_model tell first what is wrong, then
   test_stream and the differential suite. What it promises beyond the least, or does not, is entered
   by hand: edges and reactor_fd in tests/harness.h; PRIORITY and HANGUP in test_selector.c, which
   takes a backend that it does not know for one with both; system calls of its own in
   tests/test_faults.c, which has them fail; and for the user what is said of it above and in
   README.md (`make docs` misses its macro). */
#if defined(REACTOR_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1 /* before the first system header: see config */
#endif
#if defined(REACTOR_IMPLEMENTATION) && defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1 /* undoes what _POSIX_C_SOURCE hides */
#elif defined(REACTOR_IMPLEMENTATION) && defined(__NetBSD__) && !defined(_NETBSD_SOURCE)
#define _NETBSD_SOURCE 1
#elif defined(REACTOR_IMPLEMENTATION) && defined(__OpenBSD__) && !defined(_BSD_SOURCE)
#define _BSD_SOURCE 1
#endif

/* ==== >> api ==== */
/* Every public name, by subject: loop, descriptors, timers, signals and tasks, work, children,
   addresses and names, streams, starting programs, datagrams, groups, inside view. Two rules hold
   for all calls and are not repeated at each:

   - A call returns >= 0 for success and a negative errno for failure (reactor_strerror gives its
     text). A NULL loop, a NULL argument that is needed, or a number outside its stated range is
     -EINVAL; a handle that is stale, from another loop or of another kind is -EBADF; no memory is
     -ENOMEM. A call that failed has changed nothing.
   - A call is for the thread that runs the loop, inside and outside callbacks; those that other
     threads may make (reactor_post, reactor_async_send, reactor_wake, reactor_stop, and of groups
     reactor_group_stop and reactor_group_drain) say so. No call calls back: callbacks come
     from reactor_run, reactor_poll and reactor_select, and from reactor_destroy.

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

/* Has the compiler check the arguments of reactor_printf. */
#if defined(__GNUC__)
#define REACTOR_PRINTF_FORMAT __attribute__((format(printf, 3, 4)))
#else
#define REACTOR_PRINTF_FORMAT
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
typedef struct reactor_async {
    uint64_t id;
} reactor_async;
typedef struct reactor_watcher {
    uint64_t id;
} reactor_watcher;
typedef struct reactor_job {
    uint64_t id;
} reactor_job;
typedef struct reactor_datagram {
    uint64_t id;
} reactor_datagram;
typedef struct reactor_lookup {
    uint64_t id;
} reactor_lookup;

/* Text for a code that a call or on_close gave, negative or positive, on Windows Winsock's too;
   never NULL, never freed; on some systems good only until the thread's next call. 0 and 1 are
   REACTOR_ORDERLY and REACTOR_DETACHED, so pass -errno, not errno. Any thread. */
REACTOR_API const char *reactor_strerror(int error);

/* ---- loop ---- */

/* Told of each callback that ran for options.slow_ms or longer: what it was ("watcher", "timer",
   "task", "async", "signal", "work", "child", "resolve", "stream", "datagram", "hook") and how long, in
   nanoseconds. */
typedef void reactor_slow_fn(reactor *r, const char *what, int64_t ns, void *user);

typedef struct reactor_options {
    const char *backend; /* "epoll", "poll", "select", "windows" ...; NULL: the best there is */
    int batch;           /* events taken from the kernel at once; 256; 1..65536 */
    int accept_budget;   /* connections accepted per listener and turn; 64 */
    int timer_budget;    /* timers fired per turn; 4096 */
    int post_budget;     /* posts run per turn, and as many deferred tasks; 4096 */
    size_t read_budget;  /* bytes read per connection and turn, exceeded by one read_buffer at most;
                            256 KiB */
    size_t read_buffer;  /* the loop's one read buffer, bytes; 64 KiB; 1 KiB..1 GiB */
    int sigpipe_ignored; /* 1: the program ignores SIGPIPE, and will: reactor_sendfile and pipes
                            then save the two system calls that keep it from being raised */
    int64_t slow_ms;     /* with on_slow: a callback this long is reported; 100 */
    reactor_slow_fn *on_slow; /* NULL: callbacks are not timed, which costs nothing */
    void *slow_user;          /* handed to on_slow */
    int work_threads;     /* for reactor_work; as many as CPUs may be used, 2 at least; 1..1024. The
                             pool is the process's: what most its loops ask for holds */
    int blocking_threads; /* the same for reactor_work_blocking; 16; 1..1024 */
} reactor_options;

/* Makes a loop. *out is NULL on failure. -EINVAL: a field is out of range; -ENOTSUP: the backend
   named is unknown or not compiled in; otherwise what the system said when no backend could start
   (-EMFILE, -ENOMEM ...). Any thread may make it; it belongs to the one that first runs it.

   The loop's own descriptors are never 0, 1 or 2. If the program was started without one of these,
   it stays taken until reactor_destroy, by one that can be neither read nor written, so that no
   socket gets the number on which daemon(3) puts /dev/null and perror writes. */
REACTOR_API int reactor_create(reactor **out, const reactor_options *options);

/* Closes every connection (each on_close is called, reason -ECANCELED), runs the posts that are
   pending, takes back the jobs that have not begun, waits for those that are running, frees everything; descriptors that were only watched stay open, for they are the
   caller's. Always succeeds. NULL is allowed. Inside a callback it stops the loop, which is freed
   before reactor_run or reactor_poll returns. Join every thread that may post, send, wake or stop
   first, and have no signal handler do so any more. In a forked child it only closes the loop's
   descriptors and frees memory: no callbacks but those that free memory, nothing the parent
   could notice. */
REACTOR_API void reactor_destroy(reactor *r);

/* For a forked child that goes on with its copy of the loop, as after daemon(3): what the kernel has
   of the loop, and would be the parent's too, is made anew with all that is watched in it, signals
   included, and the loop belongs to the thread that runs it next. Everything else is as at the fork:
   timers, tasks, posts (but none that another thread was just posting), connections, listeners. Jobs
   that had not ended are told -ECANCELED here, and go on in the parent.
   Before it a child may only destroy the loop. Of a nested loop before that in which it is nested;
   reactor_fd may be another descriptor then. Sockets and unix paths belong to parent and child both:
   if the child is to go on, the parent ends by _exit, without reactor_destroy, reactor_drain or
   reactor_close, which would end connections for both and remove unix paths. The loop's descriptors
   must not have been closed in between. 0, also in the process that made the loop; -EBUSY: in a
   callback of the child; else what the system said (-EMFILE, -ENOMEM ...): it can be tried again, or
   the loop destroyed. */
REACTOR_API int reactor_fork(reactor *r);

/* Runs turns until reactor_stop (one made before the run counts) or until nothing is left that
   could wake it: no watcher with an interest, timer, listener, connection, task or reactor_ref.
   0: so it ended; -EBUSY: it is running already (this is one of its callbacks); -EPERM: another
   thread has run it before; -ECHILD: this is a forked child that has not called reactor_fork; else
   the error of a wait that keeps failing. */
REACTOR_API int reactor_run(reactor *r);

/* One turn: waits at most so long for something to do (-1: for ever, 0: not at all), also when the
   loop is empty, and runs what is ready. Returns how many callbacks it ran, -EINVAL if the time is
   below -1, or an error as reactor_run does. A stop ends the wait and is used up by it. */
REACTOR_API int reactor_poll(reactor *r, int64_t timeout_ms);
REACTOR_API int reactor_poll_ns(reactor *r, int64_t timeout_ns);

/* Ends reactor_run after the callback that is running; without one running, the next run returns
   at once. What that callback has written to other connections than its own leaves with the next
   turn or with reactor_destroy. Any thread, and signal handlers, but none any more once
   reactor_destroy is called. */
REACTOR_API void reactor_stop(reactor *r);

/* Ends one wait, so that a turn happens. Any thread, and signal handlers, as reactor_stop. */
REACTOR_API void reactor_wake(reactor *r);

/* Keep reactor_run going although nothing is watched, for what is to come from another thread.
   Counted; an unref without a ref is ignored. */
REACTOR_API void reactor_ref(reactor *r);
REACTOR_API void reactor_unref(reactor *r);

/* The loop's time: read at most once a turn, when somebody first needs it, never goes back, its zero
   means nothing. 0 for NULL. */
REACTOR_API int64_t reactor_now(const reactor *r);
REACTOR_API int64_t reactor_now_ns(const reactor *r);

/* Name of the backend in use, and why not a better one: "" when it is the best that was compiled
   in, else text such as "epoll: Operation not permitted", or "asked for by name". Owned by the
   loop. */
REACTOR_API const char *reactor_backend(const reactor *r);
REACTOR_API const char *reactor_backend_reason(const reactor *r);

/* Names of the backends compiled in, best first; NULL beyond the last. Any thread. */
REACTOR_API const char *reactor_backend_name(int index);

/* A descriptor that is readable whenever reactor_poll(r, 0) has something to do, be it a
   descriptor, a timer or a post: watch it for reading in another loop and call reactor_poll(r, 0).
   Level-triggered. Owned by the loop. -ENOTSUP on select, poll and Windows, where there is no such
   object; or what making it cost (-EMFILE, -ENOMEM). */
REACTOR_API int reactor_fd(reactor *r);

/* For a guest: a library with a loop or timers of its own, whose descriptors are watched here. fn is
   called before each wait, also before one that does not sleep, when all callbacks of the turn before
   have returned. So a guest that was given a timer or output in one of these shows it here before the
   loop sleeps. fn may call everything but reactor_run, reactor_poll and reactor_select, and returns in
   how many milliseconds at the latest it is to be called again: the wait ends then. 0: at once, in
   the next turn; -1: only when something else ends the wait. While its latest answer is not -1, and
   until its first call, a hook keeps reactor_run going, as a timer does; with -1 it does not. What
   the loop should do at once also where it is nested (reactor_fd) has to be told: a guest that is
   given something outside a turn needs a reactor_wake.

   Several hooks are called in the order of their registration. fn and user together name one:
   -EEXIST if both are registered already. */
typedef int64_t reactor_hook_fn(reactor *r, void *user);
REACTOR_API int reactor_before_wait(reactor *r, reactor_hook_fn *fn, void *user);

/* The hook is not called any more; it may take itself off. -ENOENT: there is none with both. */
REACTOR_API int reactor_unhook(reactor *r, reactor_hook_fn *fn, void *user);

/* ---- descriptors: the selector ---- */

/* Interest and report. The bits' values are those of poll(2) on Linux.
   READ     data, end of file, a connection to accept; also error and full hang-up.
   WRITE    room to write, a connect that has ended; also error and full hang-up.
   PRIORITY what select(2) has its third set for (POLLPRI): TCP's urgent data, until it is read with
            recv(MSG_OOB) or passed; Linux: a trigger of pressure stall information, a sysfs attribute
            that has changed (with ERROR, that is its way). Without READ and WRITE also error and full
            hang-up. -ENOTSUP on kqueue; `poll` has it there.
   ERROR    for information, with what is watched: SO_ERROR is set.
   HANGUP   for information, with READ or WRITE: both directions are closed. As an interest: the
            peer has closed, at least the direction in which it sends, told without READ although
            input may be left. A peer that has gone and one that only has no more to send look the
            same. Watched alone it also tells ERROR. -ENOTSUP on select, which has no such thing, on
            kqueue, on windows, and on poll where the system lacks POLLRDHUP (NetBSD, OpenBSD, macOS).
   EDGE     interest only: reported when it changes, at least once per change. Read or write until
            EAGAIN. Backends without edges report the level instead, every turn: see the manual.
   ONESHOT  interest only: after one report the watcher stays, silent, until reactor_modify. */
enum {
    REACTOR_READ = 0x01,
    REACTOR_PRIORITY = 0x02,
    REACTOR_WRITE = 0x04,
    REACTOR_ERROR = 0x08,
    REACTOR_HANGUP = 0x10,
    REACTOR_EDGE = 0x100,
    REACTOR_ONESHOT = 0x200
};

typedef void reactor_io_fn(reactor *r, reactor_socket fd, unsigned events, void *user);

/* Watches fd, which stays the caller's and as it is: set it non-blocking, accepted ones too, for a
   report may be out of date. It should be removed before it is closed: else it is silent, but while
   a duplicate is open a busy loop may call it some times before it notices. events: READ, WRITE,
   PRIORITY and HANGUP, or 0 to be silent for now, and EDGE or ONESHOT; anything else is -EINVAL, and
   -ENOTSUP what this backend cannot tell. fn NULL: it is pulled by
   reactor_select. A regular file is always ready. -EBADF: not open, or nothing that can be waited
   for (O_PATH); -EEXIST: watched already, or the loop's own; -ERANGE: beyond what this backend can
   hold (select, where the kernel limits its sets); -ENOSPC: the system's limit on watches. */
REACTOR_API int reactor_add(reactor *r, reactor_socket fd, unsigned events, reactor_io_fn *fn,
                            void *user);

/* Replaces the interest; re-arms EDGE and ONESHOT. The kernel hears of it before the next wait, once
   however often it was changed, and also if it is the same: if the number is another open file's by
   now, as after a library has opened its socket anew, that one is watched from then on. If the
   kernel refuses twice, the watcher is called with ERROR. -ENOENT: not watched; -EINVAL and -ENOTSUP
   as reactor_add. */
REACTOR_API int reactor_modify(reactor *r, reactor_socket fd, unsigned events);

/* Adds fd or, if it is watched already, replaces its interest, callback and user; whether it keeps
   reactor_run going stays. The kernel hears of it at once. This is what an adapter of a library
   needs that says which descriptors to watch (libcurl, c-ares, libpq): such a library does not say
   whether the number is still the same socket. events 0 keeps it, silent. Errors as reactor_add's,
   and then nothing has changed; but kqueue and Windows may refuse a change later, as that of
   reactor_modify. -EEXIST: it is the library's own. */
REACTOR_API int reactor_set(reactor *r, reactor_socket fd, unsigned events, reactor_io_fn *fn,
                            void *user);

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

/* Goes through all watchers: 1 and the next one in *out, as reactor_find would show it; 0 after the
   last. *cursor is 0 to begin with. Between two calls anything may be added and removed: who is
   watched all the time is shown once, who comes or goes meanwhile once or not at all. */
REACTOR_API int reactor_next(const reactor *r, uint32_t *cursor, reactor_key *out);

/* One turn that returns those ready whose fn is NULL, instead of calling back; the others are
   called as ever. Fills at most max keys (1..) and returns how many: 0 after the time (-1: for
   ever) or when the turn did something else. What does not fit is returned by the next call. The
   array is yours: of a watcher removed while you go through it the key is still there. Errors as
   reactor_poll. Only reactor_select arms such watchers: reactor_run and reactor_poll leave them
   alone. */
REACTOR_API int reactor_select(reactor *r, reactor_key *ready, int max, int64_t timeout_ms);

/* For a descriptor that several watch, who need not know of each other: a library that has a reader
   and a writer of its own (libdbus), two modules of a program. Each has a handle, interest, callback
   and user; one kernel registration has the interest of all. They see what the others cause: after
   one has read there may be nothing left for the next, so each has to expect EAGAIN. An edge or a
   change of any interest tells edges to all of them again.
   events as in reactor_add. ONESHOT is each one's own. EDGE holds while all that have an interest ask
   for it; else those that do are called as for a level, every turn. Called are those that were added
   last first; one that is added meanwhile waits for the next turn. Such a descriptor is watched by
   these calls alone: to reactor_modify, reactor_remove, reactor_rewatch and reactor_find it is not
   watched (-ENOENT), for reactor_add and reactor_set it is taken (-EEXIST). reactor_unref_fd and
   reactor_ref_fd act for all of them. Errors as reactor_add's, and no fn, which is -EINVAL: these are
   not for reactor_select. out must not be NULL. Each costs 48 bytes, and the descriptor one more. */
REACTOR_API int reactor_watch(reactor *r, reactor_socket fd, unsigned events, reactor_io_fn *fn,
                              void *user, reactor_watcher *out);

/* As reactor_modify. -EBADF: the handle is stale. */
REACTOR_API int reactor_watch_modify(reactor *r, reactor_watcher w, unsigned events);

/* Nothing more of it is called, and the others stay. fd may be closed already. -EBADF. */
REACTOR_API int reactor_unwatch(reactor *r, reactor_watcher w);

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

/* Calls fn once, no earlier than at a time of the loop's clock, which is the system's monotonic one
   (CLOCK_MONOTONIC; on Windows that of QueryPerformanceCounter) as reactor_now tells it, for what is
   due at a fixed time however late the call that sets it comes. A time that is over, a negative one
   too, is the next turn. Otherwise as reactor_after. */
REACTOR_API int reactor_at(reactor *r, int64_t at_ms, reactor_timer_fn *fn, void *user,
                           reactor_timer *out);
REACTOR_API int reactor_at_ns(reactor *r, int64_t at_ns, reactor_timer_fn *fn, void *user,
                              reactor_timer *out);

/* Calls fn every ms milliseconds from now. A call that is late does not move those after it; if more
   than one was missed, one more call stands for all the others. -EINVAL: not above 0, or no fn. */
REACTOR_API int reactor_every(reactor *r, int64_t ms, reactor_timer_fn *fn, void *user,
                              reactor_timer *out);
REACTOR_API int reactor_every_ns(reactor *r, int64_t ns, reactor_timer_fn *fn, void *user,
                                 reactor_timer *out);

/* Inside the callback of a repeating timer: how many calls are left out behind this one because the
   loop is late, 0 if it is not. Who counts time in steps does 1 + reactor_missed of them in each
   call, and has done all that are due once the call that makes up for the others has come. -EBADF:
   t is not the timer that is being called. */
REACTOR_API int64_t reactor_missed(const reactor *r, reactor_timer t);

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
   Several loops may watch one signal, also of several copies of this library in one program
   (REACTOR_STATIC in plug-ins), which may be unloaded in any order once their loops are destroyed (on
   Windows the copy that began last hears it alone). The program's own handler is not called
   meanwhile. fn NULL: stop watching, and when no loop watches it any more, put back the disposition
   that was there before; a handler that the program has installed since is left alone. A forked
   child hears nothing until it has called reactor_fork, and has the dispositions that were there
   before when it has destroyed its copies of the loops. Does not touch the signal mask nor keep the
   loop going. -EINVAL: no such signal, or one that cannot be caught (on Windows all but SIGINT
   and SIGTERM, which are the console's events); -ENOENT: fn NULL and not watched. Not for signals
   that are faults (SIGSEGV ...). */
REACTOR_API int reactor_signal(reactor *r, int signum, reactor_signal_fn *fn, void *user);

/* Calls fn once, after this turn's events, in order; a task deferred by a task waits for the next
   turn. Keeps the loop going until it has run. -ECANCELED: the loop is being destroyed. */
REACTOR_API int reactor_defer(reactor *r, reactor_task_fn *fn, void *user);

/* The same from any thread (not from signal handlers): each runs once, on the loop's thread, in
   order per thread. A burst costs one wake-up. Returning 0 it will run, at the latest in
   reactor_destroy. A thread that is going to post does not keep the loop going: reactor_ref before
   it starts, reactor_unref in its last task. Join every thread that may post before
   reactor_destroy, which frees what this looks at. -ECANCELED tells those that the loop's own end
   meets: a callback that reactor_destroy runs, and, after a reactor_destroy inside a callback,
   other threads until reactor_run returns: they have to be joined before that. */
REACTOR_API int reactor_post(reactor *r, reactor_task_fn *fn, void *user);

/* A doorbell: fn is called on the loop's thread after a reactor_async_send, once for all sends that
   came before the call. For threads that hand over work by a queue of their own: put it there, then
   send; fn empties the queue. It does not keep the loop going (see reactor_ref). out must not be
   NULL. -EINVAL: no fn; -ECANCELED: the loop is being destroyed. */
typedef void reactor_async_fn(reactor *r, reactor_async a, void *user);
REACTOR_API int reactor_async_open(reactor *r, reactor_async_fn *fn, void *user,
                                   reactor_async *out);

/* Any thread, and signal handlers. What the caller stored before is seen by fn. A send needs no
   memory and, unless the loop sleeps, no system call. -EBADF: closed. Sends that fn has not been
   called for when the loop is destroyed are forgotten. Join threads that may send before
   reactor_destroy, as for reactor_post. */
REACTOR_API int reactor_async_send(reactor *r, reactor_async a);

/* fn is not called any more, not even for what was sent before. Sends with this handle are -EBADF
   from here on, in other threads too. -EBADF: closed already. */
REACTOR_API int reactor_async_close(reactor *r, reactor_async a);

/* ---- work on threads ---- */

/* What a pool thread runs. It may call of this library what other threads may call (reactor_post,
   reactor_async_send, reactor_wake, reactor_stop), and returns: no pthread_exit, no exception. */
typedef void reactor_work_fn(void *user);

/* status: 0 if work has run, -ECANCELED if it has not and will not. */
typedef void reactor_work_done_fn(reactor *r, int status, void *user);

/* Calls work(user) on a thread of the pool and then done(r, status, user) on the loop, exactly once,
   in the order in which jobs ended; of jobs that reactor_destroy or reactor_job_cancel meets in time
   only done is called, with -ECANCELED. user must stay valid until done: memory of its own, never the
   state of a connection, which may be gone by then. Keep the connection's handle in it, and ask
   reactor_state in done: NULL tells that the connection has gone. A job keeps reactor_run and
   reactor_drain going. out may be NULL.

   The pool is one for the process, shared by its loops; a thread is started when a job finds none
   free, and ends after 10 s without one, or when the last loop that used the pool is destroyed, which
   joins it. Threads are called "reactor-work", block all signals but those of faults (SIGSEGV,
   SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS), and have the system's default stack (glibc 8 MiB, musl
   128 KiB, macOS 512 KiB), and affinity and priority of the thread that made them start.

   reactor_work is for what computes: it has options.work_threads. reactor_work_blocking is for what
   mostly waits, such as files and name look-ups: it has options.blocking_threads of its own, so none
   of it can hold up the others. Either lane is first in, first out.

   -EINVAL: no work or no done; -EAGAIN, or what else pthread_create says: the system gives no thread
   and the lane has none; -ENOMEM; -ECANCELED: the loop is being destroyed. */
REACTOR_API int reactor_work(reactor *r, reactor_work_fn *work, reactor_work_done_fn *done,
                             void *user, reactor_job *out);
REACTOR_API int reactor_work_blocking(reactor *r, reactor_work_fn *work, reactor_work_done_fn *done,
                                      void *user, reactor_job *out);

/* Takes a job back that has not begun: done comes with -ECANCELED, in the loop's next turn. -EBUSY:
   work is running or has run, and cannot be stopped: done comes with 0; -EALREADY: cancelled before;
   -EBADF: done has been called. */
REACTOR_API int reactor_job_cancel(reactor *r, reactor_job job);

/* ---- children ---- */

/* How a child process has ended. */
typedef struct reactor_exit {
    int error;  /* 0; -ECHILD: it has ended, and how is not known, see reactor_child */
    int code;   /* what it returned or gave to exit, 0..255, on Windows 32 bits; -1: it did not, or
                   that is not known */
    int signum; /* the signal that ended it; 0: none, or that is not known */
    int dumped; /* 1: and it left a core dump */
} reactor_exit;

typedef void reactor_child_fn(reactor *r, int pid, const reactor_exit *how, void *user);

/* Calls fn once, at the end of the turn in which the child process pid is seen to have ended, and
   takes its status from the system, so that no zombie stays; until then it keeps the loop going. It
   may have ended already. If pid is watched, another fn and user. fn NULL: stop watching, and the
   child is the caller's to wait for, unless its status has been taken: that is lost then.

   Nobody else is to wait for this child (waitpid(2), also with -1). The program's other children
   are not touched, and SIGCHLD neither. If somebody has waited for it all the same, or the system
   has done so because SIGCHLD is ignored, fn hears of the end with error -ECHILD; Linux 6.15 still
   knows how it ended. That it has ended says nothing of its output: what it wrote can be in the
   pipe still, and a process that it has started can hold that open. A forked child that goes on
   with the loop (reactor_fork) hears of error -ECHILD, for these are its parent's children.
   reactor_destroy lets them run on; fn is called there only for whom has ended and was waited for
   already.

   -ECHILD: no child of this process, or waited for already; on Windows every process that may be
   opened can be watched. -ENOENT: fn NULL, and not watched. -EINVAL: pid below 1. -ECANCELED: the
   loop is being destroyed. -EMFILE, -ENOMEM, -ENOSPC: Linux takes a descriptor for each child
   (pidfd_open(2)), BSDs and macOS one for all (EVFILT_PROC), Windows a wait of its thread pool.
   Where Linux refuses that (before 5.4, or in a sandbox) children are looked at every 20 ms. */
REACTOR_API int reactor_child(reactor *r, int pid, reactor_child_fn *fn, void *user);

/* Sends signum (0: none) to a watched child, and SIGKILL if it has not ended deadline_ms later; -1:
   no deadline, nor that of an earlier call any more. Never to another process that has got the
   number since. If reactor_spawn has made it the leader of a process group, the whole group gets
   the signal, as long as the leader lives. The deadline is forgotten with the child: by fn NULL, by
   reactor_destroy. One that has ended, and not been told of yet: 0. -ENOENT: not watched by this
   loop; -EINVAL: no such signal, or a deadline below -1; -EPERM: not allowed; -ECHILD: a forked
   child's copy of the loop. On Windows 9 (SIGKILL) and SIGTERM end the process at once
   (TerminateProcess), others are -ENOTSUP; SIGTERM to a group is Ctrl-Break. */
REACTOR_API int reactor_child_kill(reactor *r, int pid, int signum, int64_t deadline_ms);

/* ---- addresses ----

   Addresses are text:
     "127.0.0.1:7000"  "[::1]:7000"  "[fe80::1%eth0]:7000"
     "*:7000"            listen: every address of both families; connect: this machine
     "localhost:7000"    127.0.0.1
     "unix:/run/app.sock"  "unix:@name" (Linux's abstract names; Windows has neither)
     "fd:3"              listen: a listening socket that was handed over; connect: a connected one
     "example.com:443"   connect and reactor_resolve: a host name, which is looked up
   Port 0 listens on any free port; connecting to it is -EINVAL. Ports are numbers: names of services
   ("host:https") are -EINVAL, for not every machine has the file that knows them. reactor_connect
   takes a list, separated by commas with or without spaces; one that is refused refuses the list.

   A host name has letters, digits, '-', '.' and '_', and its last label is no number: "127.1:80" and
   "0x7f.1:80", which inet_aton(3) takes for 127.0.0.1, are -EINVAL. Other letters have to be written
   as an A-label ("xn--..."). Listening on a name is -ENOTSUP, and so is connecting from one: it may
   have several addresses, or another machine's. Where REACTOR_NO_RESOLVE or REACTOR_NO_WORK has left
   the look-ups out, all names are -ENOTSUP.

   A unix path that is too long is -ENAMETOOLONG; an fd that is no stream socket is -EINVAL or
   -ENOTSOCK; an interface that does not exist is -ENODEV; what is no address at all is -EINVAL. */

/* Bytes that hold any address as text, its end included. */
enum { REACTOR_ADDRESS_MAX = 128 };

/* Addresses as values, for calls of your own such as sendto(2). Any thread.

   parse writes to sa[size] the struct sockaddr_in, sockaddr_in6 or sockaddr_un that the text means,
   and returns its length, to be given to bind(2), connect(2) or sendto(2). sa may have any
   alignment; a struct sockaddr_storage is always large enough, else -ENOBUFS. The text is one of
   those above, as for listening: "*:7000" is [::]:7000 (with IPV6_V6ONLY off that takes IPv4, too),
   and the port may be 0. -EINVAL: no address, a list, or "fd:N"; -ENOTSUP: a host name, see
   reactor_resolve; -ENODEV: no such interface.

   format is the way back: it writes the text of a struct sockaddr of len bytes to out[size] and
   returns the text's length. An IPv4 address that is mapped into IPv6 is shown as IPv4. -ENOBUFS:
   size is too small (REACTOR_ADDRESS_MAX never is); -EAFNOSUPPORT: neither IPv4, IPv6 nor unix. */
REACTOR_API int reactor_address_parse(const char *text, void *sa, size_t size);
REACTOR_API int reactor_address_format(const void *sa, size_t len, char *out, size_t size);

/* The local address of any socket, and its peer's, as format writes it; that of an unnamed unix
   socket is "unix:". For a connection use reactor_local_address and reactor_peer_address: these
   know the peer also after a reset. Any thread. -ENOTCONN: no peer; -EBADF; -ENOTSOCK: a pipe;
   -ENOBUFS. */
REACTOR_API int reactor_socket_address(reactor_socket fd, char *out, size_t size);
REACTOR_API int reactor_socket_peer_address(reactor_socket fd, char *out, size_t size);

/* ---- names ---- */

/* What reactor_resolve has found. result is how many addresses there are, and addresses has them in
   the order in which to try them, as texts that reactor_connect and reactor_address_parse take, with
   the port; NULL is behind the last. They are the library's, until the callback returns. Or result is
   -errno, and addresses is NULL:
   -ENXIO      there is no such name, or it has no address
   -EAGAIN     temporary failure: no DNS server has answered in time, or SERVFAIL
   -EPROTO     a DNS server has refused for good, or its answer cannot be used
   -ENOMEM, -EMFILE ...   what the resolver met
   -ECANCELED  reactor_destroy was called */
typedef void reactor_resolve_fn(reactor *r, reactor_lookup l, int result,
                                const char *const *addresses, void *user);

/* Looks up the addresses of a "host:port" and calls fn once. It asks as getaddrinfo(3) does, so
   files such as /etc/hosts and /etc/resolv.conf (whose timeout and attempts say how long a dead DNS
   server is waited for), and the system's other ways to know names, count; it does not cache. The
   order is RFC 6724's within each family, and the families alternate, IPv6 first. What is an address
   already is its own answer, and port 0 is allowed; a list and "fd:N" are -EINVAL. reactor_connect
   looks up names by itself: this is for other uses, such as datagrams or addresses to be shown.

   A name takes two of options.blocking_threads until it is answered. It keeps reactor_run and
   reactor_drain going, but not reactor_destroy, nor the end of the process: a thread whose answer
   nobody wants any more is left to itself, and ends when the resolver gives up. *out, which may be
   NULL, is its handle, stale from fn on. -EAGAIN: no thread can be had; -ECANCELED: the loop is being
   destroyed; see addresses for what is wrong with the text. */
REACTOR_API int reactor_resolve(reactor *r, const char *address, reactor_resolve_fn *fn, void *user,
                                reactor_lookup *out);

/* fn is not called any more. -EBADF: it has been called, or cancelled. */
REACTOR_API int reactor_resolve_cancel(reactor *r, reactor_lookup l);

/* ---- streams ---- */

typedef struct reactor_buffer reactor_buffer;
typedef void reactor_free_fn(void *data, size_t len, void *user);
typedef void reactor_done_fn(reactor *r, reactor_conn c, int result, void *user);

/* Reasons and results that are not a negative errno. */
enum { REACTOR_ORDERLY = 0, REACTOR_DETACHED = 1 };

/* Which time has run out. */
enum {
    REACTOR_TIMEOUT_IDLE = 1,    /* no byte in either direction; one that only listens is READ */
    REACTOR_TIMEOUT_READ = 2,    /* reading, and nothing arrived */
    REACTOR_TIMEOUT_WRITE = 3,   /* output waiting, and the peer took none */
    REACTOR_TIMEOUT_DEADLINE = 4 /* since the connection opened, whatever it did */
};

/* What a protocol does. Static and const: shared by all its connections, kept by the caller as long
   as they live. Any member may be NULL. state is state_size zeroed bytes that stay where they are
   until on_close has returned; -EINVAL from 4 GiB on, less some hundred bytes. */
typedef struct reactor_handler {
    size_t state_size;
    /* Accepted, connected or attached; the first call there is. */
    void (*on_open)(reactor *r, reactor_conn c, void *state);
    /* Input. Returns how many bytes it consumed, from the front. If that is something but not all,
       on_data is called again with the rest, 64 times per turn at most, the others in the next. If
       it is 0, the same bytes are offered again only when more comes (in one piece with it), after
       reactor_resume, with another handler, when output has drained (see on_writable), and once
       before on_eof. data is good until the callback returns. NULL: input is discarded. */
    size_t (*on_data)(reactor *r, reactor_conn c, const void *data, size_t len, void *state);
    /* The peer has finished sending; writing to it is still possible. What on_data has left is
       there to be looked at, see reactor_input. NULL: reactor_close. */
    void (*on_eof)(reactor *r, reactor_conn c, void *state);
    /* reactor_drain has begun; what the system had of its input has been delivered. 1: busy, it will
       close itself. 0: idle, it is closed when its output is out and nothing has moved for a quarter
       of a second; a request that comes until then is delivered like any other. Asked once. NULL:
       busy while it has output queued or input unconsumed, then idle: a handler that answers later
       than in on_data needs an on_drain that returns 1 while it owes an answer. */
    int (*on_drain)(reactor *r, reactor_conn c, void *state);
    /* The output has drained to low water: once each time that it was above that when a write
       returned, be it 0 or 1, also if all of it left in the same turn. After -ENOBUFS it comes when
       the length refused would fit, too. Once a turn at most, and not if on_close comes first. */
    void (*on_writable)(reactor *r, reactor_conn c, void *state);
    /* A timeout of REACTOR_TIMEOUT_x ran out. 0: abort with -ETIMEDOUT, unless the callback has
       closed it; 1: start it again, unless it has set or closed something itself. NULL: 0. */
    int (*on_timeout)(reactor *r, reactor_conn c, int which, void *state);
    /* Exactly once, last, when the kernel and every free_fn are done with its buffers. reason: 0
       orderly, REACTOR_DETACHED, or why not: -ECONNRESET, -ETIMEDOUT (also of reactor_drain),
       -ECANCELED (destroyed), -ECONNABORTED (reactor_abort), -EMSGSIZE (max_input) ... A connect
       that fails gets only this. */
    void (*on_close)(reactor *r, reactor_conn c, int reason, void *state);
} reactor_handler;

/* Of every connection, however it was made. Counts are bytes unless named otherwise. -EINVAL: a
   negative number, or not low_water <= high_water <= max_output. The struct is copied; user and
   what it points at stay the caller's and must outlive the connection. */
typedef struct reactor_conn_options {
    void *user;               /* reactor_user gives it back */
    const char *name;         /* for reactor_dump; copied up to 31 bytes */
    size_t high_water;        /* output queued: a write returns 1 above it; 64 KiB, or max_output if
                                 that is less */
    size_t low_water;         /* on_writable at or below it; a quarter of high_water */
    size_t max_output;        /* a write that would exceed it is -ENOBUFS; the memory it takes, all
                                 included, is never twice as much (or above 32 KiB); 4 MiB,
                                 or high_water if that is more */
    size_t max_input;         /* unconsumed input kept; more ends it with -EMSGSIZE; 1 MiB */
    int coupled;              /* 1: stop reading while output is high; -1: read on, for a relay;
                                 0: accepted and attached ones stop, connected ones read on */
    int nagle;                /* 1: let TCP gather small writes (no TCP_NODELAY) */
    int keep_alive_s;         /* TCP keep-alive after so many idle seconds; 0 off */
    int user_timeout_ms;      /* TCP_USER_TIMEOUT, where the system has it; 0 its default */
    int64_t idle_timeout_ms;  /* see REACTOR_TIMEOUT_x; 0 off */
    int64_t read_timeout_ms;  /* 0 off */
    int64_t write_timeout_ms; /* 0 off */
    int64_t deadline_ms;      /* 0 off */
    int64_t close_timeout_ms; /* after close, while the peer takes no output; 10 s; then it is
                                 reset, -ETIMEDOUT. What TCP has been handed counts as taken
                                 once it is acknowledged, where the system tells (Linux) */
} reactor_conn_options;

typedef struct reactor_listen_options {
    reactor_conn_options conn; /* of each connection accepted; its name is the listener's too */
    int backlog;               /* as long as the system allows (SOMAXCONN and its limit) */
    int max_connections;       /* open at once from this listener; at it, accepting pauses; none */
    int reuse_port;            /* 1: SO_REUSEPORT, several processes or loops on one port, where
                                  the system has it */
    unsigned unix_mode;        /* permissions of the unix path, such as 0660, whatever the umask;
                                  0 as that says */
} reactor_listen_options;

typedef struct reactor_connect_options {
    reactor_conn_options conn;
    int64_t timeout_ms;       /* for the whole list, with its look-ups; 30 s */
    int64_t attempt_delay_ms; /* the next address is tried after so long; 250 */
    const char *local; /* to connect from, such as "127.0.0.9:0"; NULL: the system's choice */
} reactor_connect_options;

/* Accepts connections at address, each served by h, until closed. *out, which may be NULL, is its
   handle. -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE ...; see addresses. A unix path whose
   server is dead is replaced; the path is removed when the listener closes, if it still is the file
   that was made, and also after a chdir or chroot, for which its folder is kept open. What was
   handed over as fd:N is as it was if this fails. */
REACTOR_API int reactor_listen(reactor *r, const char *address, const reactor_handler *h,
                               const reactor_listen_options *o, reactor_listener *out);

/* The same without streams: fn is called with each connection's bare socket, which is non-blocking,
   close-on-exec and fn's own to close. peer is its peer's address as text, good until fn returns.
   What listeners take care of is taken care of: as many a turn as accept_budget allows; a table of
   descriptors that is full, where accept(2) would fail in every turn, only pauses it for a tenth of a
   second; errors that concern one connection do not end it; while the loop is drained those who wait
   are still accepted. fn may pause and close the listener. Of the options nagle, keep_alive_s,
   user_timeout_ms and name hold, and all but conn and max_connections (-EINVAL: nobody knows when
   fn's sockets close). Errors as reactor_listen's. */
typedef void reactor_accept_fn(reactor *r, reactor_listener l, reactor_socket fd, const char *peer,
                               void *user);
REACTOR_API int reactor_accept(reactor *r, const char *address, reactor_accept_fn *fn, void *user,
                               const reactor_listen_options *o, reactor_listener *out);

/* Stop accepting, new peers wait in the backlog; accept again; stop for good (connections that it
   accepted live on). A paused listener does not keep the loop going. While the loop is drained, a
   pause closes it. -EBADF, but closing a stale one is 0. */
REACTOR_API int reactor_listener_pause(reactor *r, reactor_listener l);
REACTOR_API int reactor_listener_resume(reactor *r, reactor_listener l);
REACTOR_API int reactor_listener_close(reactor *r, reactor_listener l);

/* Its socket, for socket options, questions, and to be handed over (fd:N): do not accept from it or
   close it. -1 (on Windows INVALID_SOCKET) if stale. */
REACTOR_API reactor_socket reactor_listener_socket(const reactor *r, reactor_listener l);

/* Its address, with the port it got, as text into out[size]. Returns the length; -ENOBUFS: size is
   too small (REACTOR_ADDRESS_MAX never is). */
REACTOR_API int reactor_listener_address(const reactor *r, reactor_listener l, char *out,
                                         size_t size);

/* Connects to one of the addresses, by Happy Eyeballs (RFC 8305). They are tried in the order given:
   the next attempt begins attempt_delay_ms after the last, or at once when one fails, and earlier
   ones stay under way; the first that connects is the connection, and all others are closed.

   Names are looked up as by reactor_resolve, all at once; all addresses of a name are tried, IPv6 and
   IPv4 alternately, from the first answer on (IPv4's waits 50 ms for IPv6's). A name without an
   answer after attempt_delay_ms keeps those behind it no longer, and its addresses come first when
   they arrive. timeout_ms includes all of that. Closing or aborting the connection gives the look-up
   up at once.

   A unix server whose backlog is full is tried again until timeout_ms is over, where the system tells
   it from one that refuses (Linux, EAGAIN). If none connects, on_close has the error of the last
   address or name that failed (-ENXIO: no such name, see reactor_resolve_fn), or -ETIMEDOUT. Returns
   at once: state and writes (queued) are good from here on, on_open or on_close tells the outcome.
   Only what is wrong with the arguments, or no memory or thread, is an error here. An fd:N is the
   connection's once on_open is called. */
REACTOR_API int reactor_connect(reactor *r, const char *addresses, const reactor_handler *h,
                                const reactor_connect_options *o, reactor_conn *out);

/* Makes a connection of a connected stream socket or a pipe's end, which it owns from success on
   and sets non-blocking. That belongs to the open file, which others may share: a terminal gets an
   open file of its own under the same number, where it can be opened; for pipes, and terminals where
   it cannot, what was switched on is switched off when the connection ends or is detached, but not
   if the process is killed meanwhile. A socket stays non-blocking. A terminal whose other side has
   gone (EIO) has ended, and so has one that is read in the background with SIGTTIN ignored.
   It can be read through 0, 1 and 2 alike: attach one of them for both directions, or reactor_pause
   the one for output, which else takes input away from the other. -EINVAL: what is neither a stream
   socket nor a pipe nor a terminal, such as a listening or datagram socket, a file or /dev/null,
   which a program may have been given as 0 or 1: read(2) and write(2) those plainly, they do not
   block; -EBADF; -ENOTCONN: a socket that is not connected; -EEXIST: it is watched. */
REACTOR_API int reactor_attach(reactor *r, reactor_socket fd, const reactor_handler *h,
                               const reactor_conn_options *o, reactor_conn *out);

/* The way back: *fd is the caller's again, on_close comes with REACTOR_DETACHED. Input received but
   not consumed is copied to input[*len], and *len set to how much that was. Inside on_data, what
   it was offered counts as consumed: copy what you need of it yourself. Output that the kernel
   takes now is sent first. -ENOBUFS: *len is too small, and now what it takes; -EBUSY: output is
   left, or files are queued; -ENOTCONN: not open, or closing. */
REACTOR_API int reactor_detach(reactor *r, reactor_conn c, reactor_socket *fd, void *input,
                               size_t *len);

/* Moves an open connection to another loop of this process, with its state (at the same address),
   the input it has not consumed, its queue and its options, at the end of this turn: until then no
   more input is delivered, but it can be written to; c is stale from there on. On the thread of `to`
   h (NULL: the handler that it has) is given the connection by on_open, under its new handle, and
   then what is left of the input. Timeouts start anew. user and what free_fn is called with must be
   good on both threads. If it ends before it has arrived, or cannot arrive for want of memory,
   descriptors or because `to` is being destroyed (-ECANCELED), on_close says so, there with a handle
   that names nothing if there was no place for it. A move does not keep `to` going: reactor_ref
   does, as for reactor_post. -EINVAL: to is r or NULL, or state_size of h is too large; -ENOTCONN:
   not open; -EALREADY: moving. */
REACTOR_API int reactor_move(reactor *r, reactor_conn c, reactor *to, const reactor_handler *h);

/* Its state and the user of its options; NULL if stale. In on_close it is not stale yet. */
REACTOR_API void *reactor_state(const reactor *r, reactor_conn c);
REACTOR_API void *reactor_user(const reactor *r, reactor_conn c);

/* Its options as they are now, with the defaults filled in and the times that reactor_set_timeout has
   set, for a connection that is to be handed on: reactor_detach, then reactor_attach elsewhere with
   these. out->name is good as long as the connection is. -EBADF. */
REACTOR_API int reactor_get_options(const reactor *r, reactor_conn c, reactor_conn_options *out);

/* Its socket, for socket options and questions only: do not read, write or close it. -1 (on Windows
   INVALID_SOCKET) if stale or not open. */
REACTOR_API reactor_socket reactor_conn_socket(const reactor *r, reactor_conn c);

/* As reactor_listener_address; the address of an unnamed unix socket is "unix:". The peer's is kept
   with the connection: it is good from on_open until on_close has returned, also of one that was
   reset before it was accepted. Of reactor_connect it is the address of the list that answered;
   0.0.0.0 and :: show whom the system has connected to. -ENOTCONN: not open yet, which a failed
   connect never is; the local address in on_close; the peer's if the socket was attached while it
   was connecting and nobody asked before the connection had ended. -ENOTSOCK: a pipe or terminal,
   in on_close -ENOTCONN. */
REACTOR_API int reactor_local_address(const reactor *r, reactor_conn c, char *out, size_t size);
REACTOR_API int reactor_peer_address(const reactor *r, reactor_conn c, char *out, size_t size);

/* Output, sent in the order of these calls. No write sends anything: what a callback writes to its
   own connection leaves when it returns, to others at the end of the turn, in one system call each;
   until then it is queued. So a connection that others write to needs a max_output above read_budget
   and read_buffer together, or one turn may fill it though its peer is fast. 0: accepted; 1:
   accepted, and now above high water (wait for on_writable); nothing accepted at all: -ENOBUFS
   above max_output for now (wait for on_writable), -EMSGSIZE longer than max_output and thus for
   ever, -ENOMEM, -EBADF stale or closing, -EPIPE after shutdown or when the peer is gone. Queued
   before the connection is open. */
REACTOR_API int reactor_write(reactor *r, reactor_conn c, const void *data, size_t len);

/* Several pieces, accepted whole or not at all. Like POSIX's struct iovec. -EINVAL: count < 0. */
typedef struct reactor_iovec {
    const void *data;
    size_t len;
} reactor_iovec;
REACTOR_API int reactor_writev(reactor *r, reactor_conn c, const reactor_iovec *v, int count);

/* reactor_write of what printf(3) would print, at most 4 KiB. -EMSGSIZE: it would be longer, and
   nothing is written; -EINVAL: printf refuses the format. Otherwise as reactor_write. */
REACTOR_API int reactor_printf(reactor *r, reactor_conn c, const char *format,
                               ...) REACTOR_PRINTF_FORMAT;

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
   do not count for the marks, but no more than 1,024 files can be queued (-ENOBUFS), and above 64
   the queue counts as high; returns as reactor_write does. done, which may be NULL, is called once:
   result 0 when the last byte was handed to the kernel, else why not. -EINVAL: a negative offset,
   a len below -1, or -1 of a pipe, socket or directory, unknown flags. A file that turns out
   shorter ends the connection with -EIO. With REACTOR_CLOSE_FILE the file is the connection's from
   success on and closed before done. */
enum { REACTOR_CLOSE_FILE = 1 };
REACTOR_API int reactor_sendfile(reactor *r, reactor_conn c, reactor_file file, int64_t offset,
                                 int64_t len, unsigned flags, reactor_done_fn *done, void *user);

/* Output accepted and not yet taken by the kernel, file bytes included; 0 if stale. */
REACTOR_API size_t reactor_pending(const reactor *r, reactor_conn c);

/* Calls on_writable, once, when no more than so many bytes of output are in memory (above 4 GiB
   counts as 4 GiB), at the end of this callback if it is so already; 0: when all output is out,
   files included. on_data is offered what it has left after that. Replaces what on_writable is due
   for until then, be it by low water or by an earlier call of this. -EPIPE: the peer is gone. */
REACTOR_API int reactor_notify_output(reactor *r, reactor_conn c, size_t at_or_below);

/* Input that on_data has not consumed (inside on_data: what it is offered), its length in *len; NULL
   and 0 if there is none or c is stale. Good until the callback returns, in on_eof and on_close too.
   Looking does not consume it; who is done with it just ends the connection, or sets another
   handler, to which it is offered. */
REACTOR_API const void *reactor_input(const reactor *r, reactor_conn c, size_t *len);

/* For on_data: the first line of data, which ends in LF or CR LF. Returns how many bytes it takes with
   its end, 0 if that has not come yet, and puts its length without it into *length. Any thread. */
REACTOR_API size_t reactor_line(const void *data, size_t len, size_t *length);

/* The user's own brake on input, apart from the coupling to the queue: while paused neither data
   nor end of file is delivered. A reset or a write that fails ends it all the same, and input that
   was not read is lost then; on select with input unread a reset shows in the loop's next turn, but
   does not cause one. Not counted. A resume also has what on_data has left offered again, paused or
   not: it is for a parser that waits for something else than input. */
REACTOR_API int reactor_pause(reactor *r, reactor_conn c);
REACTOR_API int reactor_resume(reactor *r, reactor_conn c);

/* Sets one of REACTOR_TIMEOUT_x and starts it now; 0 turns it off; the deadline too counts from
   now. -EINVAL: negative or unknown. */
REACTOR_API int reactor_set_timeout(reactor *r, reactor_conn c, int which, int64_t ms);

/* Another protocol from here on: unconsumed input is offered to it, and its on_eof is called if the
   peer has finished sending, also if that of the one before was; on_open is not. State is kept as
   it is. -EINVAL: its state_size is above that of the first handler. */
REACTOR_API int reactor_set_handler(reactor *r, reactor_conn c, const reactor_handler *h);

/* End of output: FIN after what is queued; input goes on. Twice is 0. A pipe that goes both ways, as
   pipe(2) makes them on FreeBSD, OpenBSD and DragonFly, has no such end: it is closed instead. */
REACTOR_API int reactor_shutdown(reactor *r, reactor_conn c);

/* No more callbacks but done and on_close. What is queued is sent first (one that is still
   connecting connects for that), then FIN. A TCP socket then lingers, for closing it while the
   peer's bytes arrive would reset the peer, which may lose the last bytes: input is discarded until
   the peer ends, too, or until it has got everything and has been silent for 2 seconds; after
   close_timeout_ms of lingering without progress it ends in any case. on_close comes then, and
   until then the connection keeps reactor_run going; its reason is 0 if all output has arrived. A
   unix socket lingers only if input came after the close or was left, a pipe never. The peer hears of
   the end also while a forked child or a duplicate holds the socket. Of a stale handle, or twice:
   0. */
REACTOR_API int reactor_close(reactor *r, reactor_conn c);

/* Gives up what is queued and resets (RST) the connection. reason -ECONNABORTED. Stale: 0. Linux and
   macOS tell the peer also while a forked child or a duplicate holds the socket; elsewhere it hears
   when the last of them has closed. What is no TCP ends as by close. The same goes for a timeout. */
REACTOR_API int reactor_abort(reactor *r, reactor_conn c);

/* Brings the loop to an end in which nobody loses anything, in at most so long (-1: no limit).
   - Listeners, paused ones too, accept the peers that wait already, and close when nobody waits any
     more. A unix path is removed at once. A socket that is shared with a successor (it was handed
     over as fd:N) is closed and not shut down: it goes on there. With reuse_port, on Linux, new
     peers find a successor's listener: a SYN that comes here is dropped for a quarter of a second
     before the close, and sent again by the peer. Elsewhere those are reset who connect in the
     moment of the close.
   - Each connection is given what the system has of its input, and then asked: see on_drain. Those
     accepted meanwhile are asked as well.
   - reactor_attach and reactor_connect go on, for what is under way may need them; theirs are asked
     once they are open. A connect under way without output queued ends with -ECANCELED. Nothing
     new can listen: -ECANCELED.
   - The loop stops when no listener and no connection is left, no reactor_ref holds it, and posts
     and deferred tasks have run; timers and watchers do not hold it, but are called until then.
   A connection that ends because it was quiet gets its FIN, and nobody waits for the peer's; others
   linger as after reactor_close. At the deadline listeners close, the connections left are aborted
   (one that lingers, and whose output has arrived, is orderly), and nothing holds the loop any
   more. Once it has been drained, or its time is over, connect and attach are -ECANCELED, too.
   -EALREADY: draining, the deadline is the earlier of the two from now on. */
REACTOR_API int reactor_drain(reactor *r, int64_t deadline_ms);

/* ---- datagrams ----

   UDP and unix datagram sockets. A datagram arrives whole or not at all, at most once or, over some
   networks, twice, and in any order: what the network does to it nobody is told of, but for the
   errors that on_error gets. The library adds batches: what is there is received with one system
   call, and what one callback or one turn sends leaves with one, consecutive datagrams of one
   size to one peer as one piece where the system can cut it (Linux, UDP_SEGMENT, udp(7)). */

/* Whom a datagram came from or goes to, and by which of this machine's addresses. A value: copy it
   to answer later. Zero it before you fill it in by hand: the padding of address counts. */
typedef struct reactor_peer {
    unsigned char local[16]; /* this machine's address that it came to, and is to be sent from, as
                                IPv6 (RFC 4291, 2.5.5.2: IPv4 as ::ffff:a.b.c.d); zeros: not known, or
                                the system's choice. See packet_info */
    uint32_t if_index;    /* number of the interface that it came by, 0: not known; of what is sent
                                it counts for multicast groups only, 0: the system's choice */
    uint32_t len;         /* bytes of address that count; 0: a unix socket without a name, which
                                cannot be answered */
    uint64_t address[16]; /* a struct sockaddr_in, sockaddr_in6 or sockaddr_un */
} reactor_peer;

/* Fills *out in, from "127.0.0.1:53", "[::1]:53", "localhost:53", "unix:/path"; errors as
   reactor_connect's, and -EINVAL for "fd:N". Any thread. */
REACTOR_API int reactor_peer_parse(const char *text, reactor_peer *out);

/* Its address as text, as reactor_listener_address does. Any thread. */
REACTOR_API int reactor_peer_format(const reactor_peer *peer, char *out, size_t size);

enum { REACTOR_TRUNCATED = 1 }; /* a message's flag: it was longer than max_size */

/* A datagram that came. All of it is good until the callback returns. */
typedef struct reactor_message {
    const void *data;
    size_t len;               /* bytes at data; 0 is a datagram like others */
    size_t size;              /* bytes that were sent: above len with REACTOR_TRUNCATED, where the
                                 system tells (Linux), else len */
    const reactor_peer *peer; /* who sent it */
    unsigned flags;           /* REACTOR_TRUNCATED or 0 */
} reactor_message;

/* What is done with datagrams. Static and const, shared, kept by the caller as long as any of its
   sockets lives; each member may be NULL. state is state_size zeroed bytes of each socket's own,
   at the same place until on_close has returned. */
typedef struct reactor_datagram_handler {
    size_t state_size;
    /* A datagram, one at a time, however many came with one system call. */
    void (*on_message)(reactor *r, reactor_datagram d, const reactor_message *m, void *state);
    /* The network, or the system, refused a datagram to peer: -ECONNREFUSED nobody listens there,
       -EHOSTUNREACH, -ENETUNREACH, -EMSGSIZE longer than the path takes, -EACCES, -ENOBUFS and
       -ENOMEM no room in the system, -EAGAIN a unix peer that does not read, -EINVAL an address of
       another family ... The datagram is lost, the socket goes on. Which of several it was is not
       known. Linux names the peer (IP_RECVERR of ip(7), which is switched on if this is not NULL);
       others tell such errors of connected sockets only. peer NULL: the one that it is connected
       to, or not known. */
    void (*on_error)(reactor *r, reactor_datagram d, int error, const reactor_peer *peer,
                     void *state);
    /* The queue has drained to low water: once after each run of sends that returned 1 or -ENOBUFS,
       then also with room for the longest that was refused. Once a turn at most, and not if on_close
       comes first. */
    void (*on_writable)(reactor *r, reactor_datagram d, void *state);
    /* Exactly once, last. reason: 0 after reactor_datagram_close, -ECANCELED by reactor_destroy,
       -ETIMEDOUT if the last datagrams could not be sent within a second of the close; else the
       error of a socket that does not receive any more. */
    void (*on_close)(reactor *r, reactor_datagram d, int reason, void *state);
} reactor_datagram_handler;

/* What becomes of a datagram for which the queue has no room. */
enum {
    REACTOR_REFUSE = 0,      /* -ENOBUFS, and on_writable when there is room */
    REACTOR_DROP_NEWEST = 1, /* it is dropped, and counted; the send returns 1 */
    REACTOR_DROP_OLDEST = 2  /* those that have waited longest are, until it fits */
};

/* 0 is the default everywhere. -EINVAL: a negative number where none is said to mean something, or
   not low_water <= high_water <= max_output. */
typedef struct reactor_datagram_options {
    void *user;          /* reactor_datagram_user gives it back */
    const char *name;    /* for reactor_dump; copied up to 31 bytes */
    const char *connect; /* the only peer: datagrams come from and go to this address alone */
    const char *groups;  /* multicast groups to join, a list separated by commas, see join */
    const char
        *multicast_interface; /* name or number of the interface that datagrams to groups leave
                                        by; NULL: by the routes */
    int multicast_ttl;        /* hops that they live, 1..255; 1: the local network */
    int multicast_loop;       /* whether members on this machine get them: 1 yes, -1 no; yes */
    int broadcast;            /* 1: may send to broadcast addresses (SO_BROADCAST) */
    int reuse_port;           /* 1: SO_REUSEPORT, the system spreads peers over several sockets */
    int reuse_address; /* 1: SO_REUSEADDR, for several members of a group on one port; of other
                           datagrams the last socket gets all, so another program can take them */
    int packet_info;   /* reactor_peer.local and if_index: 1 on, -1 off; on for sockets of every
                           address ("*:53"), so that answers come from the address that was asked.
                           Linux; elsewhere 1 is -ENOTSUP */
    int offload;       /* UDP_GRO and UDP_SEGMENT, where the system has them; -1 off */
    int overflow;      /* REACTOR_REFUSE ... */
    int read_budget;   /* datagrams received per turn, exceeded by one system call's at most; 256 */
    size_t max_size;   /* longest datagram that is received whole, bytes; 64 KiB; 16 MiB at most */
    size_t receive_buffer; /* SO_RCVBUF, bytes; the system's default. The system may give less */
    size_t send_buffer;    /* SO_SNDBUF, the same */
    size_t high_water;     /* output queued, each datagram's bytes and 64 more: a send returns 1
                              above it; 64 KiB, or max_output if that is less */
    size_t low_water;      /* on_writable at or below it; a quarter of high_water */
    size_t max_output;     /* what no more is queued than; 4 MiB, or high_water if that is more */
    unsigned unix_mode;    /* permissions of a unix path, as reactor_listen_options has it */
} reactor_datagram_options;

/* Opens a socket at address, where datagrams come in until it is closed: "*:5353", "127.0.0.1:0",
   "[::1]:0", "localhost:0", "unix:/path", "fd:3"; host names are refused. NULL, with
   options.connect: an address of the system's choice (of a unix socket a name on Linux; elsewhere
   none, so that it gets no answers). A unix path is replaced, kept and removed as by
   reactor_listen. An fd:N has to be a datagram socket (-EINVAL), is the library's from success on,
   and stays the caller's if this fails. Its error queue is the library's, too. *out, which may be
   NULL, is the handle. It keeps reactor_run going while it is not paused.
   -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE, -ENODEV no such interface, -EAFNOSUPPORT an
   address or a group of another family, -ENOTSUP an option that the system does not have.

   reactor_drain neither closes it nor waits for it, for it has no peers that could be told: it goes
   on until the loop stops. In a forked child reactor_fork takes it over with all the rest. */
REACTOR_API int reactor_datagram_open(reactor *r, const char *address,
                                      const reactor_datagram_handler *h,
                                      const reactor_datagram_options *o, reactor_datagram *out);

/* Sends a datagram of len bytes, which are copied, to peer, or NULL: to the one it is connected to.
   It is not sent yet when this returns: what a callback of this socket sends leaves when that
   has returned (at the latest: a batch of messages is answered at once), what others send at
   the end of the turn, in order. 0: accepted; 1: accepted, or dropped by overflow, and the queue is
   above high water; nothing accepted: -ENOBUFS the queue is full, -EMSGSIZE longer than the protocol
   (65,507 bytes over IPv4) or max_output allows, -EDESTADDRREQ neither peer nor connected, -EISCONN a
   peer although it is connected, -EAFNOSUPPORT the peer is of another family, -ENOMEM, -EBADF. What
   the system says to it later goes to on_error. */
REACTOR_API int reactor_datagram_send(reactor *r, reactor_datagram d, const reactor_peer *peer,
                                      const void *data, size_t len);

/* The end: nothing is called any more but on_close, from the loop. What is queued is sent first, if
   the system takes it within a second. Of a stale handle, or twice: 0. */
REACTOR_API int reactor_datagram_close(reactor *r, reactor_datagram d);

/* No on_message while paused: datagrams wait in the system, which drops those that come when its
   buffer is full (SO_RCVBUF). What was received with the same system call as the one in whose
   callback the pause began is kept. Not counted. -EBADF. */
REACTOR_API int reactor_datagram_pause(reactor *r, reactor_datagram d);
REACTOR_API int reactor_datagram_resume(reactor *r, reactor_datagram d);

/* Joins a multicast group, or leaves it: "239.1.2.3", "239.1.2.3%eth0", "ff02::fb%2"; without an
   interface the system chooses one, by its routes. -EINVAL: no group's address; -ENODEV: no such
   interface; -EAFNOSUPPORT: of another family; -EADDRINUSE: joined already, -EADDRNOTAVAIL: not
   joined; -ENOBUFS: the system's limit (igmp_max_memberships, 20). Closing leaves all groups. */
REACTOR_API int reactor_datagram_join(reactor *r, reactor_datagram d, const char *group);
REACTOR_API int reactor_datagram_leave(reactor *r, reactor_datagram d, const char *group);

/* Its state and the user of its options; NULL if stale. In on_close it is not stale yet. */
REACTOR_API void *reactor_datagram_state(const reactor *r, reactor_datagram d);
REACTOR_API void *reactor_datagram_user(const reactor *r, reactor_datagram d);

/* Its socket, for options and questions only. -1 (on Windows INVALID_SOCKET) if stale. */
REACTOR_API reactor_socket reactor_datagram_socket(const reactor *r, reactor_datagram d);

/* Its own address, as reactor_listener_address. */
REACTOR_API int reactor_datagram_address(const reactor *r, reactor_datagram d, char *out,
                                         size_t size);

/* Output queued, as high_water counts it; 0 if stale. */
REACTOR_API size_t reactor_datagram_pending(const reactor *r, reactor_datagram d);

/* ---- starting programs ---- */

/* What a stream of the new process is. */
enum {
    REACTOR_SPAWN_INHERIT = 0, /* this process's descriptor of the same number, or NULL if there is
                                  none or it is close-on-exec */
    REACTOR_SPAWN_NULL = 1,    /* /dev/null, NUL on Windows */
    REACTOR_SPAWN_FILE = 2,    /* file, which stays the caller's */
    REACTOR_SPAWN_STREAM = 3,  /* a pipe, whose other end is a connection here; on Windows a TCP
                                  connection of the loopback */
    REACTOR_SPAWN_OUTPUT = 4   /* for errors: where the output goes */
};
typedef struct reactor_spawn_stream {
    int what;                         /* REACTOR_SPAWN_x */
    reactor_file file;                /* of FILE */
    const reactor_handler *handler;   /* of STREAM, as reactor_attach takes it */
    const reactor_conn_options *conn; /* of STREAM; NULL: the defaults */
} reactor_spawn_stream;

/* Everything is used before the call returns, but for what reactor_attach says of handlers. */
typedef struct reactor_spawn_options {
    const char *file;        /* the program: a path if there is a slash in it, else looked for
                                       in the PATH of its environment; NULL: argv[0] */
    const char *const *argv; /* its arguments, its name first; ends with NULL */
    const char *const *environment; /* "NAME=value" ...; ends with NULL. NULL: this process's */
    const char *directory; /* where it begins, and what relative paths begin with; NULL: where
                                       this process is */
    reactor_spawn_stream streams[3]; /* input, output, errors: its descriptors 0, 1, 2 */
    const reactor_file *files;       /* of the caller's, to be its descriptors 3, 4 ...; not on
                                        Windows (-ENOTSUP) */
    int file_count;                  /* of these; 0 */
    int group;   /* 1: leader of a process group of its own: a terminal's Ctrl-C is not for it, and
                    reactor_child_kill reaches all of the group */
    int session; /* 1: leader of a session of its own, without a terminal, and so of a group; not on
                    Windows (-ENOTSUP) */
    reactor_child_fn *on_exit; /* called as that of reactor_child; NULL: nobody is told */
    void *user;                /* handed to on_exit */
} reactor_spawn_options;

typedef struct reactor_spawned {
    int pid;                 /* for reactor_child, reactor_child_kill */
    reactor_conn streams[3]; /* the connections of STREAM, else {0} */
} reactor_spawned;

/* Starts a program in a child process, which is watched as by reactor_child. Returns when the
   program has replaced this process's image, which takes as long as the system needs to open it, or
   why not: -ENOENT, -EACCES, -ENOEXEC ... of the program or its directory, -EAGAIN no more
   processes allowed, -EMFILE, -ENOMEM. Then nothing is left of it, and no callback comes.

   The program begins with every signal's default action and none blocked. It gets the descriptors
   named above and no others of this process, also not those that are not close-on-exec (on Linux
   before 5.9, and Windows, those are the only ones: there only inheritable handles of the streams
   are given). Input that is a STREAM is only written to, output and errors are only read; closing
   the connection to its input (reactor_close or reactor_shutdown) is the end of file there. A
   stream's end and on_exit come in any order, for a process that it has started may hold the stream
   open.

   -EINVAL: no argv, STREAM without a handler, OUTPUT for another than errors, a number out of
   range; -ENOTSUP: STREAM without the net (REACTOR_NO_NET); -EBADF: a file that is not open;
   -ECANCELED as reactor_child and reactor_attach. out may be NULL. macOS cannot make pipes that are
   close-on-exec from the start: a program that another thread starts by other means in that moment
   gets them, too. On Windows texts are UTF-8, the program is looked for as SearchPath does, with
   .exe added, its arguments are quoted as its C library reads them, and batch files are -ENOEXEC:
   their arguments could be commands. */
REACTOR_API int reactor_spawn(reactor *r, const reactor_spawn_options *o, reactor_spawned *out);

/* ---- groups: many loops ----

   A loop uses one CPU. A group is several, each on a thread of its own, that serve the same
   listeners. Where the system spreads the peers of a port over several sockets (SO_REUSEPORT: TCP on
   Linux and FreeBSD) each loop accepts for itself; elsewhere, and for unix sockets and fd:N, the
   first loop accepts and hands the sockets out in turn. Everything that belongs to a loop is to be
   called on its thread: what a connection needs of another loop it posts there (reactor_post), or
   goes there itself (reactor_move). Threads have their signals blocked: watch them in on_start of
   the loop with index 0, which runs on the thread that called reactor_group_run. */

typedef struct reactor_group reactor_group;

typedef struct reactor_group_options {
    int loops;            /* 0: as many as there are CPUs for this process; at most 1024 */
    reactor_options loop; /* of each loop */
    /* On the thread of each loop before it runs: make its timers, signals, objects of its own. A
       negative value ends the group with that error. NULL: nothing. */
    int (*on_start)(reactor *r, int index, void *user);
    /* The same after it has run, and also if on_start has failed. The loop is destroyed later, by
       reactor_group_destroy, on the thread that calls that, where what is left gets its on_close. */
    void (*on_end)(reactor *r, int index, void *user);
    void *user; /* of these two; the caller's until reactor_group_destroy */
} reactor_group_options;

/* Makes a group with its loops, which do not run yet. *out is NULL on failure: -EINVAL, -ENOMEM, or
   why a loop cannot be made, see reactor_create. Free it by reactor_group_destroy, also if
   reactor_group_run has failed. */
REACTOR_API int reactor_group_create(reactor_group **out, const reactor_group_options *options);

/* Before the group runs: all its loops listen there, as by reactor_listen; max_connections is shared
   out among them (where sockets are handed out it has to be 0: -EINVAL), reuse_port may be 0. The text of the address with the port that it got goes to
   bound[size], which may be NULL. Listeners close when the group is drained or destroyed. Errors as
   reactor_listen; -EBUSY: it runs. */
REACTOR_API int reactor_group_listen(reactor_group *g, const char *address,
                                     const reactor_handler *h, const reactor_listen_options *o,
                                     char *bound, size_t size);

/* Runs loop 0 on this thread and the others on threads of their own, until all have ended: by
   reactor_group_stop, reactor_group_drain, or an error in one of them, which stops all. 0, or the
   first error, be it that a thread cannot be started (-EAGAIN). Once only: -EALREADY. */
REACTOR_API int reactor_group_run(reactor_group *g);

/* reactor_stop of all its loops; reactor_drain of all, each with this deadline. Any thread; stop also
   in signal handlers. Drain: -ENOMEM, and then not all are drained: call it again. */
REACTOR_API void reactor_group_stop(reactor_group *g);
REACTOR_API int reactor_group_drain(reactor_group *g, int64_t deadline_ms);

/* How many loops it has, and one of them, NULL beyond the last. Any thread. */
REACTOR_API int reactor_group_count(const reactor_group *g);
REACTOR_API reactor *reactor_group_loop(const reactor_group *g, int index);

/* Destroys the loops, as reactor_destroy does, and frees the group. Not while it runs. NULL is
   allowed. */
REACTOR_API void reactor_group_destroy(reactor_group *g);

/* ---- inside view ---- */

typedef struct reactor_counters {
    uint64_t turns;         /* of the loop */
    uint64_t waits;         /* turns that could sleep */
    uint64_t events;        /* reports from the backend */
    uint64_t stale;         /* of those, for watchers that are gone */
    uint64_t callbacks;     /* of any kind */
    uint64_t timers_fired;  /* calls of timers, those of streams included */
    uint64_t posts;         /* run, and deferred tasks and doorbells called */
    uint64_t jobs_done;     /* jobs of work whose done was called */
    uint64_t accepts;       /* connections accepted */
    uint64_t accept_pauses; /* listeners paused for want of descriptors or memory, or because they
                               are reported and there is nobody, as after a shutdown elsewhere */
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
    size_t jobs;            /* now, of work: done is to come */
    size_t listeners;       /* now */
    size_t connections;     /* now */
    size_t queued;          /* now: bytes of output in memory, over all connections */
    size_t unread;          /* now: bytes of input kept unconsumed, over all connections */
    uint64_t datagrams_in;  /* delivered */
    uint64_t datagrams_out; /* taken by the system */
    uint64_t datagrams_dropped; /* by overflow, and received ones for which there was no memory */
    size_t datagram_sockets;    /* now */
    size_t children;            /* now: processes watched by reactor_child and reactor_spawn */
} reactor_counters;

/* Copies the counters. */
REACTOR_API int reactor_stats(const reactor *r, reactor_counters *out);

/* One line of text, without its newline, for the loop and for each live watcher, timer, listener,
   connection, signal and child; fn must not change the loop. */
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
/* This section decides everything that depends on the platform or on the user's macros: which
   backends are compiled in when none is asked for, the allocator, the assertion, the atomics. So
   no function below needs an #if in its body. Whether a backend exists on a platform, and what
   it includes, is decided in that backend's own section.

   The system's headers declare the calls used here only if the feature macros at the top of this
   file were defined before the first system header. glibc and musl declare them anyway, unless
   the compiler is given -std=c99 or the like. A check below then stops with one error that says
   what to do, where the compiler would report a hundred unknown names. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <winsock2.h>
#include <windows.h>
#include <ws2tcpip.h>
#include <mstcpip.h>
#include <winternl.h>
#if defined(_WIN32_WINNT) && _WIN32_WINNT < 0x0600
#error "reactor.h: _WIN32_WINNT hides what is needed here; 0x0601 or none"
#endif
#ifndef EHOSTDOWN
#define EHOSTDOWN 1064 /* unlike the others unknown to its errno.h */
#endif
#else
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* These names are visible only if the feature macros came in time. Each stands for one header. */
#if !defined(CLOCK_MONOTONIC) || !defined(SA_RESTART) ||                                           \
    (!defined(MSG_NOSIGNAL) && !defined(SO_NOSIGPIPE))
#error "reactor.h: under -std=cNN put REACTOR_IMPLEMENTATION before every system header"
#include "reactor.h: see the error above" /* no such file: the compiler stops here */
#elif (defined(__FreeBSD__) || defined(__DragonFly__)) && !defined(SO_REUSEPORT)
#error "reactor.h: no _POSIX_C_SOURCE or _XOPEN_SOURCE, which hide much of what is needed here"
#endif
#endif /* _WIN32 */

#if defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) ||                         \
    defined(__DragonFly__) || defined(__APPLE__)
#define REACTOR__BSD
#endif

/* The user asked for no backend. These are the defaults: the platform's best, and a second one
   for where a sandbox forbids the first. io_uring has to be asked for. No other line of code
   outside the backends' own sections names a backend. */
#if !defined(REACTOR_USE_ALL) && !defined(REACTOR_USE_SELECT) && !defined(REACTOR_USE_POLL) &&     \
    !defined(REACTOR_USE_EPOLL) && !defined(REACTOR_USE_KQUEUE) &&                                 \
    !defined(REACTOR_USE_WINDOWS) && !defined(REACTOR_USE_IO_URING)
#if defined(__linux__)
#define REACTOR_USE_EPOLL
#elif defined(REACTOR__BSD)
#define REACTOR_USE_KQUEUE
#endif
#if defined(_WIN32)
#define REACTOR_USE_WINDOWS
#define REACTOR_USE_SELECT
#else
#define REACTOR_USE_POLL
#endif
#endif

#ifdef __linux__
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#endif

/* All three or none: memory that one allocator has given out and another one takes back would
   crash far from the cause. */
#if defined(REACTOR_MALLOC) && defined(REACTOR_REALLOC) && defined(REACTOR_FREE)
#elif defined(REACTOR_MALLOC) || defined(REACTOR_REALLOC) || defined(REACTOR_FREE)
#error "reactor.h: define all of REACTOR_MALLOC, REACTOR_REALLOC and REACTOR_FREE, or none"
#else
#define REACTOR_MALLOC(size)       malloc(size)
#define REACTOR_REALLOC(old, size) realloc(old, size)
#define REACTOR_FREE(memory)       free(memory)
#endif

/* REACTOR_ASSERT is for misuse that no correct program makes and that no error code could help.
   By default it does nothing, for a library must not abort its host. sizeof compiles the
   condition without evaluating it, so the condition stays valid code and costs nothing. */
#ifndef REACTOR_ASSERT
#define REACTOR_ASSERT(condition) ((void)sizeof(condition))
#endif

/* REACTOR__CHECK states what holds between any two steps. The project's own tests define
   REACTOR__CHECKS and are aborted when a condition does not hold; elsewhere the check costs
   nothing. */
#ifdef REACTOR__CHECKS
#define REACTOR__CHECK(condition)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "reactor.h:%d: broken: %s\n", __LINE__, #condition);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#else
#define REACTOR__CHECK(condition) ((void)sizeof(condition))
#endif

/* What the compiler checks: a name for it, and a constant condition. static_assert is younger than
   C99, so an array of -1 elements stops the compiler. */
#define REACTOR__STATIC_CHECK(name, condition) typedef char reactor__##name[(condition) ? 1 : -1]

/* The atomics. PEEK and POKE are relaxed: the loop uses them for flags that it looks at often
   and that another thread or a signal handler sets before it wakes the loop. If the loop sees
   such a flag too late, it sees it in the next turn, which the wake-up causes. All other
   operations are sequentially consistent, so what they protect (see wake and signal) can be
   argued about in the order in which it is written. CAS works on uint32_t: if *p holds *old it
   stores v there, else it stores what it found into *old; it returns whether it has stored v. */
#if defined(__GNUC__)
/* some choices of sections do not use it */
#define REACTOR__OPTIONAL __attribute__((unused))
/* Runs once in a loop's life or after a failure: small code, apart from that which runs always. */
#define REACTOR__COLD           __attribute__((cold, noinline))
#define REACTOR__NOINLINE       __attribute__((noinline)) /* kept out of the fast path's code */
#define REACTOR__LIKELY(x)      __builtin_expect(!!(x), 1)
#define REACTOR__UNLIKELY(x)    __builtin_expect(!!(x), 0)
#define REACTOR__PREFETCH(p)    __builtin_prefetch(p, 1)
#define REACTOR__PEEK(p)        __atomic_load_n(p, __ATOMIC_RELAXED)
#define REACTOR__LOAD(p)        __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define REACTOR__POKE(p, v)     __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define REACTOR__STORE(p, v)    __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define REACTOR__EXCHANGE(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define REACTOR__ADD(p, v)      __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
#define REACTOR__CAS(p, old, v)                                                                    \
    __atomic_compare_exchange_n(p, old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define REACTOR__CAS_POINTER(p, old, v) REACTOR__CAS(p, old, v)
#if defined(__i386__) || defined(__x86_64__)
#define REACTOR__PAUSE() __builtin_ia32_pause()
#else
#define REACTOR__PAUSE() ((void)0)
#endif
#define REACTOR__CTZ64(x) ((unsigned)__builtin_ctzll(x)) /* both are undefined for 0 */
#define REACTOR__CLZ64(x) ((unsigned)__builtin_clzll(x))
#elif defined(__TINYC__) && defined(__x86_64__)
/* tcc has no atomic builtins, and its system's headers take its attributes away. It does have
   inline assembly and statement expressions. It emits accesses in the order of the source, and
   x86 keeps that order except for a load that follows a store; xchg and lock prefixes prevent
   that exception. */
#define REACTOR__OPTIONAL
#define REACTOR__COLD
#define REACTOR__NOINLINE
#define REACTOR__LIKELY(x)   (x)
#define REACTOR__UNLIKELY(x) (x)
#define REACTOR__PREFETCH(p) ((void)(p))
#define REACTOR__PEEK(p)     (*(volatile __typeof__(*(p)) *)(p))
#define REACTOR__LOAD(p)     REACTOR__PEEK(p)
#define REACTOR__POKE(p, v)  ((void)(REACTOR__PEEK(p) = (v)))
#define REACTOR__SWAP(what, p, v)                                                                  \
    __typeof__(*(p)) reactor__config_old = (v);                                                    \
    __asm__ volatile(what " %0, %1" : "+r"(reactor__config_old), "+m"(*(p)) : : "memory")
#define REACTOR__EXCHANGE(p, v)                                                                    \
    ({                                                                                             \
        REACTOR__SWAP("xchg", p, v);                                                               \
        reactor__config_old;                                                                       \
    })
#define REACTOR__STORE(p, v) ((void)REACTOR__EXCHANGE(p, v))
#define REACTOR__ADD(p, v)                                                                         \
    ({                                                                                             \
        REACTOR__SWAP("lock; xadd", p, v);                                                         \
        reactor__config_old + (v);                                                                 \
    })
#define REACTOR__CAS(p, old, v)         reactor__config_cas(p, old, v)
static int reactor__config_cas(uint32_t *p, uint32_t *old, uint32_t v) {
    uint32_t found = *old, expected = found;
    __asm__ volatile("lock; cmpxchgl %2, %1" : "+a"(found), "+m"(*p) : "r"(v) : "memory");
    *old = found;
    return found == expected;
}
#define REACTOR__CAS_POINTER(p, old, v) reactor__config_cas_pointer((void **)(p), (void **)(old), v)
static int reactor__config_cas_pointer(void **p, void **old, void *v) {
    void *found = *old, *expected = found;
    __asm__ volatile("lock; cmpxchgq %2, %1" : "+a"(found), "+m"(*p) : "r"(v) : "memory");
    *old = found;
    return found == expected;
}
#define REACTOR__PAUSE()                __asm__ volatile("pause")
#define REACTOR__CTZ64(x)               reactor__config_log2((x) & -(x))
#define REACTOR__CLZ64(x)               (63 - reactor__config_log2(x))
/* The position of the highest bit. x must not be 0. */
static unsigned reactor__config_log2(uint64_t x) {
    unsigned n = 0;
    for (; x > 1; x >>= 1) n++;
    return n;
}
#else
#error "reactor.h: this compiler lacks GCC's __atomic builtins"
#endif

/* ==== >> util ==== */
/* Small helpers that every section uses and that have nothing to do with events: zeroed memory,
   arrays that grow, sums of times that saturate, the clock, locks, and descriptors made
   non-blocking and close-on-exec. What differs between Windows, the BSDs and Linux has one name
   here and one function per system.

   Times are int64_t nanoseconds. INT64_MAX is "never", and all sums saturate there, so an
   enormous delay stays enormous instead of wrapping around into the past.

   Trap: poll(2) and select(2) differ between the systems in what they say of ends and errors;
   the functions below make all of them say what Linux says. */
#define REACTOR__NEW(type) ((type *)reactor__util_zeroed(sizeof(type)))
#define REACTOR__NEVER     INT64_MAX
#define REACTOR__NONE      UINT32_MAX /* no index */
#define REACTOR__MS        INT64_C(1000000)

/* Allocates zeroed memory. It cannot use calloc, because the user's three allocator macros do
   not include one. */
REACTOR__NOINLINE static void *reactor__util_zeroed(size_t size) {
    void *memory = REACTOR_MALLOC(size);
    if (memory) memset(memory, 0, size);
    return memory;
}

/* Enlarges array to at least need elements and updates *cap. Returns NULL without memory; array
   and *cap are unchanged then. It grows by a quarter, because doubling an array of ten thousand
   elements would waste more memory than it saves time. The capacity stays below REACTOR__NONE,
   so that no index equals that value. */
REACTOR__COLD static void *reactor__util_grown(void *array, uint32_t *cap, uint32_t need,
                                               size_t size) {
    uint64_t wanted = (uint64_t)*cap + *cap / 4 + 16;
    if (wanted < need) wanted = need;
    if (wanted > UINT32_MAX - 1) return NULL;
    if (wanted > SIZE_MAX / size) return NULL;
    void *grown = REACTOR_REALLOC(array, (size_t)wanted * size);
    if (grown) *cap = (uint32_t)wanted;
    return grown;
}

/* Adds two times; the sum saturates at REACTOR__NEVER. */
static int64_t reactor__util_add(int64_t a, int64_t b) { /* a >= 0, b >= 0 */
    return a > REACTOR__NEVER - b ? REACTOR__NEVER : a + b;
}

/* Converts milliseconds to nanoseconds; saturates at REACTOR__NEVER. */
static int64_t reactor__util_ms(int64_t ms) { /* ms >= 0 */
    return ms > REACTOR__NEVER / REACTOR__MS ? REACTOR__NEVER : ms * REACTOR__MS;
}

/* ---- what differs between the systems ---- */

#define REACTOR__UTIL_NO_SOCKET ((reactor_socket)-1)
#ifdef _WIN32

/* One piece of a gathered write, with the names that writev(2) uses. */
typedef struct reactor__util_piece {
    void *iov_base;
    size_t iov_len;
} reactor__util_piece;
typedef SRWLOCK reactor__util_lock;
typedef DWORD reactor__util_thread;

/* Each row maps a code of the system (Winsock's are above 10000) to the errno with the same
   meaning, and has a text where the C library has none for that errno. Rows of code 0 exist for
   their text only. A number that is not a socket gets the error that a closed descriptor gets:
   EBADF. */
static const struct reactor__util_row {
    int code, error;
    const char *text;
} reactor__util_table[] = {
    {0, ECANCELED, "Operation canceled"},
    {0, ECONNABORTED, "Software caused connection abort"},
    {0, ENETRESET, "Network dropped connection on reset"},
    {0, ENOTSUP, "Operation not supported"},
    {0, EPROTO, "Protocol error"},
    {0, EOVERFLOW, "Value too large for defined data type"},
    {ERROR_FILE_NOT_FOUND, ENOENT, NULL},
    {ERROR_PATH_NOT_FOUND, ENOENT, NULL},
    {ERROR_TOO_MANY_OPEN_FILES, EMFILE, NULL},
    {ERROR_ACCESS_DENIED, EACCES, NULL},
    {ERROR_INVALID_HANDLE, EBADF, NULL},
    {ERROR_NOT_ENOUGH_MEMORY, ENOMEM, NULL},
    {ERROR_OUTOFMEMORY, ENOMEM, NULL},
    {ERROR_SHARING_VIOLATION, EACCES, NULL},
    {ERROR_LOCK_VIOLATION, EACCES, NULL},
    {ERROR_NOT_SUPPORTED, ENOTSUP, NULL},
    {ERROR_NETNAME_DELETED, ECONNRESET, NULL},
    {ERROR_CALL_NOT_IMPLEMENTED, ENOSYS, NULL},
    {ERROR_INVALID_FUNCTION, ENOSYS, NULL},
    {ERROR_INVALID_PARAMETER, EINVAL, NULL},
    {ERROR_BROKEN_PIPE, EPIPE, NULL},
    {ERROR_NO_SYSTEM_RESOURCES, ENOMEM, NULL},
    {ERROR_NONPAGED_SYSTEM_RESOURCES, ENOMEM, NULL},
    {ERROR_PAGED_SYSTEM_RESOURCES, ENOMEM, NULL},
    {ERROR_WORKING_SET_QUOTA, ENOMEM, NULL},
    {ERROR_PAGEFILE_QUOTA, ENOMEM, NULL},
    {ERROR_COMMITMENT_LIMIT, ENOMEM, NULL},
    {ERROR_NOT_ENOUGH_QUOTA, ENOMEM, NULL},
    {ERROR_OPERATION_ABORTED, ECANCELED, NULL},
    {ERROR_CONNECTION_REFUSED, ECONNREFUSED, NULL},
    {ERROR_NETWORK_UNREACHABLE, ENETUNREACH, NULL},
    {ERROR_HOST_UNREACHABLE, EHOSTUNREACH, NULL},
    {ERROR_CONNECTION_ABORTED, ECONNRESET, NULL},
    {WSAEINTR, EINTR, NULL},
    {WSAEBADF, EBADF, NULL},
    {WSAEACCES, EACCES, NULL},
    {WSAEFAULT, EFAULT, NULL},
    {WSAEINVAL, EINVAL, NULL},
    {WSAEMFILE, EMFILE, NULL},
    {WSAEWOULDBLOCK, EAGAIN, NULL},
    {WSAEINPROGRESS, EINPROGRESS, "Operation now in progress"},
    {WSAEALREADY, EALREADY, "Operation already in progress"},
    {WSAENOTSOCK, EBADF, NULL},
    {WSAEDESTADDRREQ, EDESTADDRREQ, "Destination address required"},
    {WSAEMSGSIZE, EMSGSIZE, "Message too long"},
    {WSAEPROTOTYPE, EPROTOTYPE, "Protocol wrong type for socket"},
    {WSAENOPROTOOPT, ENOPROTOOPT, "Protocol not available"},
    {WSAEPROTONOSUPPORT, EPROTONOSUPPORT, "Protocol not supported"},
    {WSAESOCKTNOSUPPORT, EPROTONOSUPPORT, NULL},
    {WSAEOPNOTSUPP, EOPNOTSUPP, "Operation not supported"},
    {WSAEPFNOSUPPORT, EAFNOSUPPORT, NULL},
    {WSAEAFNOSUPPORT, EAFNOSUPPORT, "Address family not supported by protocol"},
    {WSAEADDRINUSE, EADDRINUSE, "Address already in use"},
    {WSAEADDRNOTAVAIL, EADDRNOTAVAIL, "Cannot assign requested address"},
    {WSAENETDOWN, ENETDOWN, "Network is down"},
    {WSAENETUNREACH, ENETUNREACH, "Network is unreachable"},
    {WSAENETRESET, ETIMEDOUT, NULL},     /* keep-alive got no answer */
    {WSAECONNABORTED, ECONNRESET, NULL}, /* what a send may say after a reset */
    {WSAECONNRESET, ECONNRESET, "Connection reset by peer"},
    {WSAENOBUFS, ENOBUFS, "No buffer space available"},
    {WSAEISCONN, EISCONN, "Transport endpoint is already connected"},
    {WSAENOTCONN, ENOTCONN, "Transport endpoint is not connected"},
    {WSAESHUTDOWN, EPIPE, NULL},
    {WSAETOOMANYREFS, ENOBUFS, NULL},
    {WSAETIMEDOUT, ETIMEDOUT, "Connection timed out"},
    {WSAECONNREFUSED, ECONNREFUSED, "Connection refused"},
    {WSAELOOP, ELOOP, "Too many levels of symbolic links"},
    {WSAENAMETOOLONG, ENAMETOOLONG, NULL},
    {WSAEHOSTDOWN, EHOSTDOWN, "Host is down"},
    {WSAEHOSTUNREACH, EHOSTUNREACH, "No route to host"},
    {WSAENOTEMPTY, ENOTEMPTY, NULL},
    {WSAEPROCLIM, EMFILE, NULL},
    {WSASYSNOTREADY, ENETDOWN, NULL},
    {WSAVERNOTSUPPORTED, ENOSYS, NULL},
    {WSANOTINITIALISED, ENETDOWN, NULL},
    {WSAEDISCON, ECONNRESET, NULL},
    {WSAECANCELLED, ECANCELED, NULL},
};

enum { REACTOR__UTIL_ROWS = (int)(sizeof reactor__util_table / sizeof *reactor__util_table) };

/* Maps a code of the system to 0 or a negative errno. A code that is not in the table becomes
   -EIO. */
static int reactor__util_code(int code) {
    for (int i = 0; code && i < REACTOR__UTIL_ROWS; i++)
        if (reactor__util_table[i].code == code) return -reactor__util_table[i].error;
    return code ? -EIO : 0;
}

/* The negative errno of the last system call that failed. Winsock and the rest of the system
   keep their last error in the same place. */
static int reactor__util_error(void) { return reactor__util_code((int)GetLastError()); }

/* Returns the text of an errno or of one of Winsock's codes, which SO_ERROR returns. The two
   cannot be confused, for the C library's numbers end far below 10000. */
static const char *reactor__util_text(int error) {
    if (error > WSABASEERR) error = -reactor__util_code(error);
    for (int i = 0; i < REACTOR__UTIL_ROWS; i++)
        if (reactor__util_table[i].error == error && reactor__util_table[i].text)
            return reactor__util_table[i].text;
    /* strerror has one buffer, which the next call would overwrite. volatile: some headers
       declare this list as an array of one element, and compilers would warn of every other
       index. */
    char **volatile list = _sys_errlist;
    return error < _sys_nerr ? list[error] : "unknown error";
}

/* Windows has no fork, so no process is ever a forked copy. */
static int reactor__util_pid(void) { return 1; }

/* The calling thread. */
static reactor__util_thread reactor__util_self(void) { return GetCurrentThreadId(); }

static int reactor__util_is_self(reactor__util_thread t) { return t == GetCurrentThreadId(); }

static int reactor__util_lock_init(reactor__util_lock *l) {
    InitializeSRWLock(l);
    return 0;
}

static void reactor__util_lock_fini(reactor__util_lock *l) { (void)l; }

static void reactor__util_enter(reactor__util_lock *l) { AcquireSRWLockExclusive(l); }

/* Takes the lock, and returns 0 if another thread holds it. Only a forked child needs that
   answer, and here is no fork, so this one may wait. */
static int reactor__util_try_enter(reactor__util_lock *l) {
    reactor__util_enter(l);
    return 1;
}

static void reactor__util_leave(reactor__util_lock *l) { ReleaseSRWLockExclusive(l); }

/* Sleeps for a millisecond, so that other threads can finish a few calls. */
REACTOR__OPTIONAL static void reactor__util_nap(void) { Sleep(1); }

/* The longest single wait for a timer. QueryPerformanceCounter goes on while the machine sleeps,
   waits do not (from Windows 8 on), so a wait is cut into pieces after which the clock is read
   again. */
#define REACTOR__UTIL_NAP (60 * INT64_C(1000000000))

/* The product of the count and a billion would overflow within minutes or days of uptime; so the
   seconds and their remainder are converted separately. */
REACTOR__NOINLINE static int64_t reactor__util_clock(void) {
    LARGE_INTEGER count, each;
    QueryPerformanceFrequency(&each);
    QueryPerformanceCounter(&count);
    int64_t f = each.QuadPart, c = count.QuadPart;
    return c / f * 1000000000 + c % f * 1000000000 / f;
}

REACTOR__OPTIONAL static int reactor__util_nonblock(reactor_socket fd) {
    u_long on = 1;
    return ioctlsocket(fd, (long)FIONBIO, &on) == SOCKET_ERROR ? reactor__util_error() : 0;
}

#define REACTOR__UTIL_NO_INHERIT 0x80 /* WSA_FLAG_NO_HANDLE_INHERIT, which not all headers have */

/* Child processes do not inherit the socket. */
REACTOR__OPTIONAL static int reactor__util_cloexec(reactor_socket fd) {
    BOOL done = SetHandleInformation((HANDLE)fd, HANDLE_FLAG_INHERIT, 0);
    return done ? 0 : reactor__util_error();
}

REACTOR__NOINLINE static void reactor__util_close(reactor_socket fd) { closesocket(fd); }

REACTOR__OPTIONAL static void reactor__util_close_file(reactor_file file) { CloseHandle(file); }

REACTOR__COLD static unsigned reactor__util_hold_standard(void) { return 0; }

REACTOR__COLD static void reactor__util_free_standard(unsigned held) { (void)held; }

/* Whether fd is an open socket. Only sockets can be watched here, and a closed one is reported
   as not being a socket. */
REACTOR__OPTIONAL static int reactor__util_is_open(reactor_socket fd) {
    int type, len = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, (char *)&type, &len) == 0) return 1;
    return WSAGetLastError() != WSAENOTSOCK;
}

/* Returns which of the events are there. Windows seldom gives a closed socket's number to a new
   socket, so this does not ask and answers "all". */
REACTOR__OPTIONAL static uint32_t reactor__util_ready(reactor_socket fd, unsigned events) {
    (void)fd, (void)events;
    return UINT32_MAX;
}

#else

typedef struct iovec reactor__util_piece;
typedef pthread_mutex_t reactor__util_lock;
typedef pthread_t reactor__util_thread;

/* The negative errno of the last system call that failed. */
REACTOR__OPTIONAL static int reactor__util_error(void) { return -errno; }

/* The negative errno of a code that came another way, such as SO_ERROR. */
REACTOR__OPTIONAL static int reactor__util_code(int error) { return -error; }

#ifdef REACTOR__BSD
/* On most of the BSDs strerror fills one buffer for all threads, so the texts are kept here. On
   some of them ENOTSUP equals EOPNOTSUPP: the first row of a number counts. */
static const struct {
    int error;
    const char *text;
} reactor__util_texts[] = {
    {EPERM, "Operation not permitted"},
    {ENOENT, "No such file or directory"},
    {EINTR, "Interrupted system call"},
    {EIO, "Input/output error"},
    {ENXIO, "No such device or address"},
    {EBADF, "Bad file descriptor"},
    {ENOMEM, "Cannot allocate memory"},
    {EACCES, "Permission denied"},
    {EFAULT, "Bad address"},
    {EBUSY, "Device busy"},
    {EEXIST, "File exists"},
    {ENODEV, "Operation not supported by device"},
    {ENOTDIR, "Not a directory"},
    {EISDIR, "Is a directory"},
    {EINVAL, "Invalid argument"},
    {ENFILE, "Too many open files in system"},
    {EMFILE, "Too many open files"},
    {EFBIG, "File too large"},
    {ENOSPC, "No space left on device"},
    {ESPIPE, "Illegal seek"},
    {EROFS, "Read-only file system"},
    {EPIPE, "Broken pipe"},
    {ERANGE, "Result too large"},
    {EAGAIN, "Resource temporarily unavailable"},
    {EINPROGRESS, "Operation now in progress"},
    {EALREADY, "Operation already in progress"},
    {ENOTSOCK, "Socket operation on non-socket"},
    {EDESTADDRREQ, "Destination address required"},
    {EMSGSIZE, "Message too long"},
    {EPROTOTYPE, "Protocol wrong type for socket"},
    {ENOPROTOOPT, "Protocol not available"},
    {EOPNOTSUPP, "Operation not supported"},
    {ENOTSUP, "Not supported"},
    {EAFNOSUPPORT, "Address family not supported by protocol family"},
    {EADDRINUSE, "Address already in use"},
    {EADDRNOTAVAIL, "Can't assign requested address"},
    {ENETDOWN, "Network is down"},
    {ENETUNREACH, "Network is unreachable"},
    {ECONNABORTED, "Software caused connection abort"},
    {ECONNRESET, "Connection reset by peer"},
    {ENOBUFS, "No buffer space available"},
    {EISCONN, "Socket is already connected"},
    {ENOTCONN, "Socket is not connected"},
    {ETIMEDOUT, "Operation timed out"},
    {ECONNREFUSED, "Connection refused"},
    {ELOOP, "Too many levels of symbolic links"},
    {ENAMETOOLONG, "File name too long"},
    {EHOSTDOWN, "Host is down"},
    {EHOSTUNREACH, "No route to host"},
    {ENOSYS, "Function not implemented"},
    {EOVERFLOW, "Value too large to be stored in data type"},
    {ECANCELED, "Operation canceled"},
    {EPROTO, "Protocol error"},
};

static const char *reactor__util_text(int error) {
    const int rows = (int)(sizeof reactor__util_texts / sizeof *reactor__util_texts);
    if (error == 0) return "No error";
    for (int i = 0; i < rows; i++)
        if (reactor__util_texts[i].error == error) return reactor__util_texts[i].text;
    return "unknown error";
}
#else
static const char *reactor__util_text(int error) { return strerror(error); }
#endif

/* Calls getpid every time: a process number kept in memory would be copied by fork, and wrong in
   the child. */
static int reactor__util_pid(void) { return (int)getpid(); }

static reactor__util_thread reactor__util_self(void) { return pthread_self(); }

static int reactor__util_is_self(reactor__util_thread t) {
    return pthread_equal(t, pthread_self());
}

static int reactor__util_lock_init(reactor__util_lock *l) { return -pthread_mutex_init(l, NULL); }

static void reactor__util_lock_fini(reactor__util_lock *l) { pthread_mutex_destroy(l); }

static void reactor__util_enter(reactor__util_lock *l) { pthread_mutex_lock(l); }

/* Takes the lock and returns 1, or returns 0 if somebody holds it. Only a forked child asks: the
   holder may be a thread of its parent, which does not exist in the child and never releases it. */
static int reactor__util_try_enter(reactor__util_lock *l) { return pthread_mutex_trylock(l) == 0; }

static void reactor__util_leave(reactor__util_lock *l) { pthread_mutex_unlock(l); }

/* Sleeps for a millisecond, so that other threads can finish a few calls. sched_yield would not
   let threads of a lower priority run. */
REACTOR__OPTIONAL static void reactor__util_nap(void) { poll(NULL, 0, 1); }

/* macOS derives CLOCK_MONOTONIC from the time of day: it goes on during sleep and has whole
   microseconds only. */
#ifdef __APPLE__
#define REACTOR__UTIL_CLOCK CLOCK_UPTIME_RAW
#else
#define REACTOR__UTIL_CLOCK CLOCK_MONOTONIC
#endif

/* The loop's clock. Setting the date does not move it. On Linux and macOS it stands still while
   the machine sleeps, so no connection times out for having slept. */
REACTOR__NOINLINE static int64_t reactor__util_clock(void) {
    struct timespec t;
    clock_gettime(REACTOR__UTIL_CLOCK, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Converts nanoseconds to a timespec. A 32-bit time_t cannot hold more than 68 years; then the
   result is shorter, which is allowed, for a wait may end early. */
REACTOR__OPTIONAL static struct timespec reactor__util_timespec(int64_t ns) { /* ns >= 0 */
    struct timespec t;
    int64_t seconds = ns / 1000000000;
    t.tv_sec = (time_t)seconds;
    t.tv_nsec = (long)(ns % 1000000000);
    if (t.tv_sec != seconds) t.tv_sec = INT32_MAX;
    return t;
}

/* Sets O_NONBLOCK. The flag belongs to the open file, so duplicates in other processes get it
   too. The file's other flags (O_APPEND) stay. */
REACTOR__OPTIONAL static int reactor__util_nonblock(reactor_socket fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    if (flags & O_NONBLOCK) return 0;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

REACTOR__OPTIONAL static int reactor__util_cloexec(reactor_socket fd) {
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

/* ---- what poll(2) said of a descriptor, as Linux would say it ---- */
#ifdef REACTOR__BSD
/* Whether a stream socket that was connected has lost its peer in both directions. Listeners and
   datagram sockets have no peer, so they have lost none: these answer 0. macOS does not know
   SO_ACCEPTCONN, and returns EINVAL where the others return ENOTCONN after a reset. */
REACTOR__OPTIONAL static int reactor__util_hung_up(reactor_socket fd) {
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa, size = sizeof(int);
    int type = 0, listens = 0;
    if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0) return 0;
    if (errno != ENOTCONN && errno != EINVAL) return 0;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM) return 0;
    size = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens;
}

/* Whether the socket has a pending error. It peeks with recv, because getsockopt(SO_ERROR) would
   clear the error. Unread input hides the error from this. */
REACTOR__OPTIONAL static int reactor__util_has_error(reactor_socket fd) {
    char byte;
    if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0) return 0;
    return errno != EAGAIN && errno != EINTR && errno != ENOTCONN && errno != ENOTSOCK &&
           errno != EINVAL && errno != EBADF;
}

/* macOS never sets POLLOUT beside POLLHUP, so a second poll asks for POLLOUT alone. */
REACTOR__OPTIONAL static unsigned reactor__util_room(const struct pollfd *p) {
    struct pollfd room;
    room.fd = p->fd;
    room.events = (short)(p->events & POLLOUT);
    room.revents = 0;
    return room.events && poll(&room, 1, 0) > 0 ? (unsigned)POLLOUT : 0;
}

/* Corrects what poll(2) has said to what Linux would say. FreeBSD and macOS set POLLHUP when
   only one direction has ended, and show no error; NetBSD never sets POLLHUP for a socket. So a
   socket that still has its peer has not hung up, whatever poll said; one that has lost it has.
   Pipes and terminals are left as poll said. */
REACTOR__OPTIONAL static unsigned reactor__util_polled(const struct pollfd *p) {
    const unsigned ends = (unsigned)POLLHUP | (unsigned)POLLIN;
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    unsigned said = (unsigned)p->revents;
    if (!(said & ends) || (said & POLLNVAL)) return said;
    if (getpeername(p->fd, (struct sockaddr *)&sa, &len) == 0) {
        if (!(said & POLLHUP)) return said;
        return (said & ~(unsigned)POLLHUP) | reactor__util_room(p);
    }
    if (errno == ENOTSOCK || !reactor__util_hung_up(p->fd)) return said;
    said |= POLLHUP;
    return reactor__util_has_error(p->fd) ? said | POLLERR : said;
}
#else
REACTOR__OPTIONAL static unsigned reactor__util_polled(const struct pollfd *p) {
    return (unsigned)p->revents;
}
#endif

/* The sets of select(2). The kernels named here accept sets of any length; elsewhere no
   descriptor may be FD_SETSIZE or above. */
#include <sys/select.h>
#if defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
#define REACTOR__UTIL_SET_LIMIT INT_MAX
#else
#define REACTOR__UTIL_SET_LIMIT FD_SETSIZE
#endif

/* The integer that the kernel's sets consist of. On big-endian machines its size decides which
   byte has a descriptor's bit. */
#if defined(__NetBSD__) || defined(__OpenBSD__) || defined(__APPLE__)
typedef uint32_t reactor__util_word;
#else
typedef unsigned long reactor__util_word;
#endif

#define REACTOR__UTIL_WORD_BITS ((int)(8 * sizeof(reactor__util_word)))

/* Whether fd is in the set. */
REACTOR__OPTIONAL static int reactor__util_has_bit(const reactor__util_word *set, int fd) {
    return (int)(set[fd / REACTOR__UTIL_WORD_BITS] >> (fd % REACTOR__UTIL_WORD_BITS) & 1);
}

/* Adds fd to the set, or takes it out. */
REACTOR__OPTIONAL static void reactor__util_put_bit(reactor__util_word *set, int fd, int on) {
    reactor__util_word bit = (reactor__util_word)1 << (fd % REACTOR__UTIL_WORD_BITS);
    reactor__util_word *word = &set[fd / REACTOR__UTIL_WORD_BITS];
    *word = on ? *word | bit : *word & ~bit;
}

/* pselect(2): returns how many bits are set, or -errno. macOS accepts no more than three years;
   a longer wait is shortened, for a wait may end early. */
REACTOR__OPTIONAL static int reactor__util_select(int top, reactor__util_word *in,
                                                  reactor__util_word *out,
                                                  reactor__util_word *priority, int64_t timeout) {
    const int64_t most = INT_MAX * REACTOR__MS;
    struct timespec t = reactor__util_timespec(timeout < 0 ? 0 : timeout < most ? timeout : most);
    int n = pselect(top, (fd_set *)(void *)in, (fd_set *)(void *)out, (fd_set *)(void *)priority,
                    timeout < 0 ? NULL : &t, NULL);
    return n < 0 ? -errno : n;
}

/* Moves a descriptor of the library's own above 2. Programs, daemon(3) and other libraries'
   error messages use 0, 1 and 2 for standard input, output and error, whatever is open there. */
REACTOR__OPTIONAL static int reactor__util_above(int fd) {
    if (fd < 0 || fd > 2) return fd;
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (higher < 0) return fd;
    close(fd);
    return higher;
}

#ifdef O_PATH
#define REACTOR__UTIL_USELESS O_PATH /* it can neither be read nor written nor waited for */
#else
#define REACTOR__UTIL_USELESS O_RDONLY
#endif

/* Occupies those of 0, 1 and 2 that are closed, so that none of the program's sockets gets such
   a number: daemon(3) would replace it by /dev/null, and perror would write into it. O_PATH
   makes the placeholder as useless as a closed descriptor. Returns as bits which numbers were
   occupied. */
REACTOR__COLD static unsigned reactor__util_hold_standard(void) {
    unsigned held = 0;
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        int got = open("/dev/null", REACTOR__UTIL_USELESS | O_CLOEXEC);
        if (got == fd) held |= 1u << fd;
        if (got >= 0 && got != fd) close(got);
    }
    return held;
}

/* Closes the placeholders that are still there. A program that has opened something else under
   such a number has not asked for close-on-exec together with a useless mode, which is how a
   placeholder is recognized. */
REACTOR__COLD static void reactor__util_free_standard(unsigned held) {
    for (int fd = 0; fd < 3; fd++) {
        if (!(held >> fd & 1) || fcntl(fd, F_GETFD) != FD_CLOEXEC) continue;
        int flags = fcntl(fd, F_GETFL);
        if ((flags & (O_ACCMODE | REACTOR__UTIL_USELESS)) == REACTOR__UTIL_USELESS) close(fd);
    }
}

/* Returns 0 if fd is open and can be waited for, else -EBADF. poll(2) answers both: it says
   POLLNVAL to what is closed, and to what cannot be waited for, such as O_PATH. If the limit of
   descriptors is 0, poll accepts not even one; fcntl then answers at least whether fd is open. */
REACTOR__OPTIONAL static int reactor__util_waitable(reactor_socket fd) {
    struct pollfd p;
    p.fd = fd;
    p.events = p.revents = 0;
    if (fd >= 0 && poll(&p, 1, 0) >= 0) return p.revents & POLLNVAL ? -EBADF : 0;
    return fcntl(fd, F_GETFD) < 0 ? -errno : 0;
}

REACTOR__OPTIONAL static int reactor__util_is_open(reactor_socket fd) {
    return fcntl(fd, F_GETFD) >= 0 || errno != EBADF;
}

/* The bits of poll(2) for an interest, and back. The peer's FIN is 0x2000, as on Linux; the others
   are the same everywhere. Where poll cannot be asked for a FIN nobody can watch for it. */
#ifdef POLLRDHUP
REACTOR__OPTIONAL static short reactor__util_asked(unsigned interest) {
    const unsigned fin = interest & 0x2000u ? (unsigned)POLLRDHUP : 0u;
    return (short)((interest & ~0x2000u) | fin);
}

REACTOR__OPTIONAL static unsigned reactor__util_told(const struct pollfd *p) {
    const unsigned said = reactor__util_polled(p), fin = (unsigned)POLLRDHUP;
    return (said & ~fin) | (said & fin ? 0x2000u : 0u);
}
#else
REACTOR__OPTIONAL static short reactor__util_asked(unsigned interest) {
    return (short)(interest & ~0x2000u);
}

REACTOR__OPTIONAL static unsigned reactor__util_told(const struct pollfd *p) {
    return reactor__util_polled(p);
}
#endif

/* Returns which of these events are there now, with errors and hang-ups. If poll(2) fails the
   answer is "all". */
REACTOR__OPTIONAL static uint32_t reactor__util_ready(reactor_socket fd, unsigned events) {
    struct pollfd p;
    p.fd = fd;
    p.events = reactor__util_asked(events);
    p.revents = 0;
    return poll(&p, 1, 0) < 0 ? UINT32_MAX : reactor__util_told(&p);
}

/* Closes once, whatever close returns: on EINTR Linux has closed the descriptor already, and
   closing it again could close one that another thread has just opened. */
REACTOR__NOINLINE static void reactor__util_close(reactor_socket fd) { close(fd); }

/* Replaces the open file under number by that of fd, which a system call has just returned (its
   failure is passed on). fd is closed; number becomes close-on-exec. */
REACTOR__OPTIONAL REACTOR__COLD static int reactor__util_replace(int number, int fd) {
    int e;
    if (fd < 0) return -errno;
    do e = dup2(fd, number) < 0 ? -errno : 0;
    while (e == -EINTR || e == -EBUSY);
    reactor__util_close(fd);
    return e == 0 ? reactor__util_cloexec(number) : e;
}

REACTOR__OPTIONAL static void reactor__util_close_file(reactor_file file) {
    reactor__util_close(file);
}

#endif

/* Converts a timeout for calls that take milliseconds: rounded up, so that no timer is early,
   and -1 for ever. */
REACTOR__OPTIONAL static int reactor__util_wait_ms(int64_t timeout) {
    if (timeout <= 0) return timeout < 0 ? -1 : 0;
    int64_t ms = timeout / REACTOR__MS + (timeout % REACTOR__MS != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
/* ==== >> core ==== */
/* The table of watched descriptors, and the way of a report from a backend to a callback.

   A slot stands for one watched thing. It holds the descriptor, the interest that the user
   wants, the interest that the backend was given (armed), and whom to call. A slot is named by
   its index and its generation; the kernel is given these two and never a pointer. A hash table
   finds the slot of a descriptor, because descriptors are not small numbers on every system.

   Adding and removing reach the backend at once, for their errors belong to the caller. A change
   of interest only marks the slot dirty and reaches the backend before the next wait, so changes
   that cancel out cost nothing. The reports of a wait are dispatched one by one, and each is
   checked only when its turn has come, because a callback before it may have removed or replaced
   its slot. */

/* Bits of interest besides the public ones; backends report the same bits. On Linux all of them
   have the kernel's values, so translating them is a mask. */
/* urgent data: a watcher's PRIORITY; to streams a hint */
#define REACTOR__CORE_PRI ((unsigned)REACTOR_PRIORITY)
/* the peer's FIN: reported for a watcher's HANGUP, and a hint to streams; wanted, which no watcher
   can, and alone it means: errors only */
#define REACTOR__CORE_RDHUP 0x2000u
/* in armed: the backend knows the descriptor, if only to be silent */
#define REACTOR__CORE_WATCHED 0x8000u
#define REACTOR__CORE_BOTH    ((unsigned)REACTOR_READ | (unsigned)REACTOR_WRITE)
#define REACTOR__CORE_INFO    ((unsigned)REACTOR_ERROR | (unsigned)REACTOR_HANGUP)
#define REACTOR__CORE_ONCE    ((unsigned)REACTOR_EDGE | (unsigned)REACTOR_ONESHOT)
/* what a watcher can wait for, and what reactor_add accepts */
#define REACTOR__CORE_EVENTS (REACTOR__CORE_BOTH | REACTOR__CORE_PRI | (unsigned)REACTOR_HANGUP)
#define REACTOR__CORE_USER   (REACTOR__CORE_EVENTS | REACTOR__CORE_ONCE)

/* What a slot is used for. A handle of one kind is refused where another kind is expected.

        FREE      -> WATCHER, MEMBER, INTERNAL, LISTENER, CONN    reserve
        any kind  -> FREE                                 release; its handle is stale from here on
        FREE      -> on the free list                     reuse; at once, or in flush if it is DIRTY

   A slot has a descriptor only between bind and unbind (BOUND). */
enum {
    REACTOR__CORE_FREE,
    REACTOR__CORE_WATCHER,  /* reactor_add, or all reactor_watch of a descriptor */
    REACTOR__CORE_MEMBER,   /* one reactor_watch: has fd, and is not BOUND to it */
    REACTOR__CORE_INTERNAL, /* the loop's own descriptors */
    REACTOR__CORE_LISTENER,
    REACTOR__CORE_CONN,
    REACTOR__CORE_DATAGRAM,
    REACTOR__CORE_LOOKUP /* reactor_resolve: never has a descriptor */
};

/* The flags of a slot, and who sets and clears them:

        BOUND        bind                               -> unbind
        DIRTY        touch                              -> flush, which takes it off the list
        REARM        modify, shot, postpone, refused    -> apply_wanted, apply_now, unbind
        FAILED       note_refusal, the first time       -> modify, or an apply that succeeds
        ERROR_PENDING   note_refusal, the second time   -> tell_error, apply_now
        ALWAYS       always_add                         -> always_remove
        UNREF, SELECT_ONLY   flag, for the user         -> flag */
enum {
    /* the backend has refused an interest twice: the watcher gets ERROR */
    REACTOR__CORE_ERROR_PENDING = 1,
    /* in the dirty list; one that is removed meanwhile is freed when it leaves that */
    REACTOR__CORE_DIRTY = 2,
    REACTOR__CORE_UNREF = 4,        /* does not keep the loop going */
    REACTOR__CORE_ALWAYS = 8,       /* a regular file or the like, which is always ready */
    REACTOR__CORE_BOUND = 16,       /* has a descriptor, and is in the map */
    REACTOR__CORE_SELECT_ONLY = 32, /* it has no callback: only reactor_select returns it */
    REACTOR__CORE_REARM = 64,       /* apply even an interest that has not changed */
    REACTOR__CORE_FAILED = 128      /* the backend has refused the last change once */
};

/* The part of a slot that dispatching an event reads: half a cache line. */
typedef struct reactor__core_slot {
    /* NULL: for reactor_select, or a descriptor that only has to end the wait */
    reactor_io_fn *fn;
    void *user;        /* argument of fn; for listeners and connections their struct */
    reactor_socket fd; /* while BOUND, else NO_SOCKET */
    /* generation, an even number; plus 1 if its reports are special: see update_tag */
    uint32_t tag;
    uint16_t wanted; /* interest as last asked for */
    uint16_t armed;  /* interest that the backend has; 0: the backend does not know the slot */
    /* the last 16 bits of the number of the turn in which it was reserved or released */
    uint16_t since;
    uint8_t flags; /* ERROR_PENDING ... FAILED */
    uint8_t kind;  /* FREE ... DATAGRAM */
} reactor__core_slot;

REACTOR__STATIC_CHECK(core_slot_is_small,
                      sizeof(reactor_socket) > sizeof(int) || sizeof(reactor__core_slot) <= 32);

/* The part of a slot that dispatching does not read. */
typedef struct reactor__core_link {
    uint32_t next; /* the next slot in the dirty list or in the free list */
    uint32_t aux;  /* the backend's; while ALWAYS, the place in the list of those */
} reactor__core_link;

typedef struct reactor__core reactor__core;

/* How the loop calls a watcher when callbacks are timed. */
typedef void reactor__core_slow_fn(reactor *r, const reactor__core_slot *slot, unsigned events);

/* A report: which events happened, and to which slot. It has the layout of epoll's events, so
   that the kernel writes reports straight to where dispatch reads them. The epoll section
   asserts that. */
typedef struct reactor__core_report {
    uint32_t events;
#if defined(__linux__) && !defined(__x86_64__) && !defined(__i386__)
    uint32_t unused; /* there the kernel aligns the rest to 8 bytes */
#endif
    uint32_t index, tag;
} reactor__core_report;

/* One of several receives or sends that a backend does with one system call. None of them waits. */
typedef struct reactor__core_transfer {
    char *data;
    reactor_socket fd;
    int32_t result; /* bytes, or -errno; -EINTR: it was not done */
    void *user;     /* the caller's */
    uint32_t len;   /* 0: leave it out */
} reactor__core_transfer;

/* A backend. The manual's chapter on adding one says what each member promises, and which may be
   NULL. */
typedef struct reactor__core_backend {
    const char *name;
    const struct reactor__core_backend *worse;
    unsigned traits;
    int (*init)(reactor__core *core);
    void (*fini)(reactor__core *core);
    int (*set)(reactor__core *core, uint32_t index, unsigned before, unsigned after, int closing);
    int (*wait)(reactor__core *core, int64_t timeout);
    int (*fd)(reactor__core *core);
    int (*alarm)(reactor__core *core, int64_t at);
    int (*wake)(const reactor__core *core, int on);
    int (*fork)(reactor__core *core);
} reactor__core_backend;

/* The best backend defined so far. Each backend's section takes it as its `worse` one and then
   makes itself the best; the loop starts with the last of them. */
#define REACTOR__CORE_BEST NULL

/* What a backend's init may store in core->transfer: a function that does all transfers of the
   list in order. When it returns the kernel holds none of their memory. For sends it returns 0
   if every one was taken whole. It may set core->transfer to NULL and fill in core->reason, if
   the system forbids it later. */
typedef int reactor__core_transfer_fn(reactor__core *core, reactor__core_transfer *list,
                                      uint32_t count, int sending);

/* The distance of two generations of a slot. Generations are even, so a slot has 2^31 of them;
   tests make the distance large, so that they are used up soon. */
#ifndef REACTOR__CORE_GENERATION
#define REACTOR__CORE_GENERATION 2u
#endif

/* for fewer transfers a system call each is cheaper than the common one */
enum { REACTOR__CORE_MANY = 3 };

enum {
    /* EDGE works: streams are registered once, for edges; without it for levels */
    REACTOR__CORE_HAS_EDGES = 1,
    /* the kernel disarms a ONESHOT descriptor when it reports it */
    REACTOR__CORE_HAS_ONESHOT = 2,
    REACTOR__CORE_REPORTS_CLOSED =
        4 /* it may report a closed descriptor while a duplicate is open: see verify */,
    REACTOR__CORE_TELLS_PRIORITY = 8, /* of watchers: PRI */
    REACTOR__CORE_TELLS_FIN = 16      /* and RDHUP, for HANGUP in the interest */
};

struct reactor__core {
    const reactor__core_backend *backend;
    void *data;                          /* the backend's */
    reactor__core_transfer_fn *transfer; /* NULL: each receive and each send makes a call */
    reactor *owner;                      /* passed to callbacks; core knows nothing else of it */

    /* NULL, or called before dispatch; takes reports of its own out of the list. */
    void (*before_dispatch)(reactor *owner);

    /* NULL, or (nested loops) called when something changes outside a turn. */
    void (*changed)(reactor__core *core);

    /* The slots, and one link for each. The arrays move when they grow: a pointer into them is not
       kept over a callback. */
    reactor__core_slot *slots;
    reactor__core_link *links;
    uint32_t count; /* how many slots have ever been used */
    uint32_t cap;
    uint32_t free_head;              /* the free list, linked by next, ends with NONE */
    uint32_t dirty_head, dirty_tail; /* the dirty list, in the order of the changes */
    uint32_t *map;                   /* finds the slot index of a descriptor; open addressing */
    uint32_t map_mask, map_used;     /* its size (a power of two) minus 1; entries in use */
    uint32_t seed; /* where generations start, so that those of other loops differ */

    /* Room for 2 batches and 2 more: the reports of refused interests, those of a wait, one file
       that is always ready, and the mark of the end. */
    reactor__core_report *reports;
    uint32_t report_count; /* not dispatched yet */
    uint32_t refusals;     /* of these, the first ones, which report refused interests */
    uint32_t batch;        /* options.batch: how many reports a wait may bring at most */
    uint32_t limit;        /* how many the next wait may bring */
    uint32_t left;         /* the slot to begin with, if a stop has left reports; else NONE */

    /* reactor_select and the watchers without a callback, which are armed for it alone. */
    uint32_t pulled; /* how many watchers are SELECT_ONLY */
    uint32_t kept;   /* reports kept for the end of its turn */
    uint32_t handed; /* the slot that it returned last */
    int pulling;     /* the last turn was its own, so these watchers are armed */

    /* Files that are always ready. */
    uint32_t *always;
    uint32_t always_count, always_cap;
    uint32_t always_at; /* the last one that was reported */

    /* Finding descriptors that were closed without being removed: see verify. */
    int stale;            /* a report came for a slot that was removed before this turn */
    uint32_t credit;      /* how many descriptors may be looked at */
    int64_t earned;       /* when credit was last counted */
    uint64_t verify_turn; /* the next turn for it; UINT64_MAX: the backend needs none of it */

    uint32_t active;   /* how many watchers, connections and listeners keep the loop running */
    uint32_t watchers; /* how many slots are of kind WATCHER */
    uint32_t waker;    /* the slot of the wake-up */
    int busy;          /* a turn is running */
    int child;         /* a forked copy: what it shares with the parent stays as it is */
    int stop;          /* atomic: the loop is to stop, and dispatch to return */
    unsigned special;  /* atomic: events that take the slow path; all bits: every report does */
    reactor__core_slow_fn *slow; /* NULL: callbacks are not timed */
    reactor_counters counters;
    char reason[160]; /* what reactor_backend_reason returns */
};

static reactor__core_slot *reactor__core_at(const reactor__core *core, uint32_t index) {
    return &core->slots[index];
}

/* A number that a backend may keep with a slot. bind does not reset it: the backend's `set`
   writes it when it adds the slot. */
REACTOR__OPTIONAL static uint32_t *reactor__core_aux(const reactor__core *core, uint32_t index) {
    return &core->links[index].aux;
}

/* The handle of a slot: generation and index. The kernel is given the same two and returns them
   in reports. */
REACTOR__OPTIONAL static uint64_t reactor__core_id(const reactor__core *core, uint32_t index) {
    return (uint64_t)(core->slots[index].tag & ~1u) << 32 | index;
}

/* Whether a tag, without its lowest bit, is the slot's present generation. Generations of slots
   are even, and a timer's are odd, so their handles never look alike. This leaves the lowest bit
   of a slot's tag free for update_tag. */
static int reactor__core_is(const reactor__core_slot *slot, uint32_t tag) {
    return (slot->tag & ~1u) == tag;
}

/* The slot of a handle; NULL if the handle is stale, belongs to another loop or has another
   kind. */
REACTOR__OPTIONAL static reactor__core_slot *reactor__core_resolve(const reactor__core *core,
                                                                   uint64_t id, int kind) {
    uint32_t index = (uint32_t)id;
    if (REACTOR__UNLIKELY(index >= core->count)) return NULL;
    reactor__core_slot *slot = &core->slots[index];
    if (REACTOR__UNLIKELY(!reactor__core_is(slot, (uint32_t)(id >> 32)))) return NULL;
    return slot->kind == kind ? slot : NULL;
}

/* ---- descriptor -> slot ---- */

/* Fibonacci hashing: it spreads consecutive numbers, which the system hands out as descriptors,
   over the whole table. */
static uint32_t reactor__core_hash(const reactor__core *core, reactor_socket fd) {
    uint64_t h = (uint64_t)fd * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(h >> 32) & core->map_mask;
}

/* The index of the slot that has this descriptor, or NONE. */
static uint32_t reactor__core_find(const reactor__core *core, reactor_socket fd) {
    if (!core->map) return REACTOR__NONE;
    uint32_t at = reactor__core_hash(core, fd);
    while (core->map[at] != REACTOR__NONE) {
        if (core->slots[core->map[at]].fd == fd) return core->map[at];
        at = (at + 1) & core->map_mask;
    }
    return REACTOR__NONE;
}

/* Enters a slot under its descriptor. There must be room. */
static void reactor__core_map_put(reactor__core *core, uint32_t index) {
    uint32_t at = reactor__core_hash(core, core->slots[index].fd);
    while (core->map[at] != REACTOR__NONE) at = (at + 1) & core->map_mask;
    core->map[at] = index;
}

/* Makes room for one more entry. The table is at most three quarters full, so a search always
   meets an empty entry and is short. */
static int reactor__core_map_reserve(reactor__core *core) {
    uint32_t size = core->map ? core->map_mask + 1 : 0;
    if ((core->map_used + 1) / 3 < size / 4) return 0;
    uint32_t larger = size ? size * 2 : 32;
    uint32_t *map = (uint32_t *)REACTOR_MALLOC((size_t)larger * sizeof *map);
    if (!map) return -ENOMEM;
    memset(map, 0xff, (size_t)larger * sizeof *map);
    uint32_t *old = core->map;
    core->map = map;
    core->map_mask = larger - 1;
    for (uint32_t i = 0; i < size; i++)
        if (old[i] != REACTOR__NONE) reactor__core_map_put(core, old[i]);
    REACTOR_FREE(old);
    return 0;
}

/* Removes a slot's entry. Entries behind it that a search could no longer reach move up into the
   hole (Knuth 6.4, algorithm R). Tombstones are not needed, so a long-lived table stays as fast
   as a new one. */
static void reactor__core_map_delete(reactor__core *core, uint32_t index) {
    uint32_t mask = core->map_mask;
    uint32_t hole = reactor__core_hash(core, core->slots[index].fd);
    while (core->map[hole] != index) hole = (hole + 1) & mask;
    for (uint32_t at = (hole + 1) & mask; core->map[at] != REACTOR__NONE; at = (at + 1) & mask) {
        uint32_t home = reactor__core_hash(core, core->slots[core->map[at]].fd);
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        core->map[hole] = core->map[at];
        hole = at;
    }
    core->map[hole] = REACTOR__NONE;
    core->map_used--;
}

/* ---- slots ---- */

/* Enlarges the table of slots. If the second array cannot grow, the first one is larger than cap
   says, which does no harm. */
REACTOR__COLD static int reactor__core_grow(reactor__core *core) {
    uint32_t cap = core->cap, same = cap;
    void *slots = reactor__util_grown(core->slots, &cap, core->count + 1, sizeof *core->slots);
    if (!slots) return -ENOMEM;
    core->slots = (reactor__core_slot *)slots;
    void *links = reactor__util_grown(core->links, &same, core->count + 1, sizeof *core->links);
    if (!links) return -ENOMEM;
    core->links = (reactor__core_link *)links;
    core->cap = cap;
    return 0;
}

/* The first generation of a slot. It differs between neighbours and between loops. It is never
   0, or a handle could be {0}, which means "none". */
static uint32_t reactor__core_first(const reactor__core *core, uint32_t index) {
    const uint32_t tag = core->seed + index * 0x9E3779B2u;
    return tag ? tag : 2;
}

/* Puts a released slot on the free list. A slot that has used up its generations stays off the
   list for good, which costs 40 bytes every 2^31 uses: otherwise an old handle would become
   valid again. */
static void reactor__core_reuse(reactor__core *core, uint32_t index) {
    const uint32_t used = core->slots[index].tag - reactor__core_first(core, index);
    if (used < REACTOR__CORE_GENERATION) {
        core->slots[index].tag |=
            1; /* a late report of its first life has this generation, but never this bit */
        return;
    }
    core->links[index].next = core->free_head;
    core->free_head = index;
}

/* Takes a slot, which has no descriptor yet. Returns its index, or -ENOMEM. */
static int64_t reactor__core_reserve(reactor__core *core, int kind, reactor_io_fn *fn, void *user) {
    uint32_t index = core->free_head;
    reactor__core_slot *slot;
    if (index != REACTOR__NONE) {
        slot = &core->slots[index];
        core->free_head = core->links[index].next;
    } else {
        if (core->count == core->cap && reactor__core_grow(core) < 0) return -ENOMEM;
        index = core->count++;
        slot = &core->slots[index];
        slot->tag = reactor__core_first(core, index);
    }
    slot->fn = fn;
    slot->user = user;
    slot->fd = REACTOR__UTIL_NO_SOCKET;
    slot->tag &= ~1u;
    slot->wanted = slot->armed = 0;
    slot->since = (uint16_t)core->counters.turns;
    slot->flags = 0;
    slot->kind = (uint8_t)kind;
    return index;
}

/* Whether this slot is a watcher that keeps reactor_run running. One with no interest can never
   be called; a SELECT_ONLY one is not called by reactor_run. Connections and listeners count
   themselves. */
static int reactor__core_is_active(const reactor__core_slot *slot) {
    return slot->kind == REACTOR__CORE_WATCHER && (slot->wanted & REACTOR__CORE_EVENTS) &&
           !(slot->flags & (REACTOR__CORE_UNREF | REACTOR__CORE_SELECT_ONLY));
}

/* Sets the lowest bit of the tag if dispatch must not simply call fn: there is no fn, the
   interest is ONESHOT or HANGUP (whose FIN core translates), or it has changed since the backend
   was given it. A report's tag has that bit clear, so one comparison in dispatch covers a stale
   generation and all of these. */
static void reactor__core_update_tag(reactor__core_slot *slot) {
    const unsigned rare = (unsigned)REACTOR_ONESHOT | (unsigned)REACTOR_HANGUP;
    int special =
        !slot->fn || (slot->wanted & rare) || slot->armed != (slot->wanted | REACTOR__CORE_WATCHED);
    slot->tag = (slot->tag & ~1u) | (unsigned)special;
}

/* want and flag are the only functions that change wanted, UNREF and SELECT_ONLY. The count of
   active watchers depends on these, so both take the slot out of the count and enter it again. */
static void reactor__core_want(reactor__core *core, reactor__core_slot *slot, unsigned wanted) {
    core->active -= (uint32_t)reactor__core_is_active(slot);
    slot->wanted = (uint16_t)wanted;
    reactor__core_update_tag(slot);
    core->active += (uint32_t)reactor__core_is_active(slot);
}

static void reactor__core_flag(reactor__core *core, reactor__core_slot *slot, int flag, int on) {
    core->active -= (uint32_t)reactor__core_is_active(slot);
    slot->flags = (uint8_t)(on ? slot->flags | flag : slot->flags & ~flag);
    core->active += (uint32_t)reactor__core_is_active(slot);
}

/* Checks the invariants of a slot: a descriptor belongs to a kind and is found by the map; only
   a slot with a descriptor is armed (the wake-up may be the backend's own); a file that is
   always ready stands where aux says; a free slot wants nothing. */
static void reactor__core_check(const reactor__core *core, uint32_t index) {
    const reactor__core_slot *slot = &core->slots[index];
    const int bound = (slot->flags & REACTOR__CORE_BOUND) != 0;
    REACTOR__CHECK(index < core->count);
    REACTOR__CHECK(!bound || slot->kind != REACTOR__CORE_FREE);
    REACTOR__CHECK(!bound || reactor__core_find(core, slot->fd) == index);
    REACTOR__CHECK(bound || !slot->armed || index == core->waker);
    REACTOR__CHECK(!(slot->flags & REACTOR__CORE_ALWAYS) || bound);
    REACTOR__CHECK(!(slot->flags & REACTOR__CORE_ALWAYS) ||
                   core->always[core->links[index].aux] == index);
    REACTOR__CHECK(slot->kind != REACTOR__CORE_FREE || !slot->wanted);
    (void)bound;
}

/* Marks the slot dirty: flush looks at it before the next wait. */
static void reactor__core_touch(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    reactor__core_check(core, index);
    if (!(slot->flags & REACTOR__CORE_DIRTY)) {
        slot->flags |= REACTOR__CORE_DIRTY;
        core->links[index].next = REACTOR__NONE;
        if (core->dirty_head == REACTOR__NONE)
            core->dirty_head = index;
        else
            core->links[core->dirty_tail].next = index;
        core->dirty_tail = index;
    }
    if (core->changed) core->changed(core);
}

/* Begins the slot's next generation. 0 is skipped, because a handle of it could be {0}. */
static void reactor__core_next_tag(reactor__core_slot *slot) {
    slot->tag = (slot->tag & ~1u) + REACTOR__CORE_GENERATION;
    if (!slot->tag) slot->tag = 2;
}

/* Frees a slot that has no descriptor any more. If it is still in the dirty list it goes to the
   free list only when flush meets it, because both lists use `next`. */
static void reactor__core_release(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    reactor__core_want(core, slot, 0);
    slot->kind = REACTOR__CORE_FREE;
    slot->since = (uint16_t)core->counters.turns;
    reactor__core_next_tag(slot);
    if (!(slot->flags & REACTOR__CORE_DIRTY)) reactor__core_reuse(core, index);
}

/* ---- files without readiness ---- */

/* Regular files and the like have no readiness: a backend that cannot watch them refuses them
   with EPERM. Then core alone has the slot (ALWAYS), reports it in every turn, and does not let
   the loop wait. aux is the slot's place in core->always. */
static int reactor__core_always_add(reactor__core *core, uint32_t index) {
    if (core->always_count == core->always_cap) {
        void *grown = reactor__util_grown(core->always, &core->always_cap, core->always_count + 1,
                                          sizeof *core->always);
        if (!grown) return -ENOMEM;
        core->always = (uint32_t *)grown;
    }
    core->slots[index].flags |= REACTOR__CORE_ALWAYS;
    core->links[index].aux = core->always_count;
    core->always[core->always_count++] = index;
    return 0;
}

/* The last one takes the place of the one that goes. */
static void reactor__core_always_remove(reactor__core *core, uint32_t index) {
    uint32_t last = core->always[--core->always_count];
    core->always[core->links[index].aux] = last;
    core->links[last].aux = core->links[index].aux;
    core->slots[index].flags &= (uint8_t)~REACTOR__CORE_ALWAYS;
}

/* ---- applying interests to the backend ----

   wanted is what the watcher asked for, armed what the backend has; a slot in which the two may
   differ is dirty. flush, before each wait, makes armed follow wanted, with one call of `set`
   for each dirty slot. A refused interest has no caller any more to which the error could be
   returned:

        none -> FAILED           refused once: applied again by the next flush [note_refusal]
        FAILED -> ERROR_PENDING  refused twice [note_refusal]
        ERROR_PENDING -> none    ERROR is reported, and it begins again [tell_error]; a descriptor
                                 that is closed is silenced, until the next reactor_modify
        FAILED -> none           modify, or an apply that succeeds */

/* The interest that the backend should have. A SELECT_ONLY slot is silent except in the turns of
   reactor_select. */
static unsigned reactor__core_target(const reactor__core *core, const reactor__core_slot *slot) {
    if ((slot->flags & REACTOR__CORE_SELECT_ONLY) && !core->pulling) return REACTOR__CORE_WATCHED;
    return slot->wanted | REACTOR__CORE_WATCHED;
}

/* Gives a reserved slot its descriptor and registers it with the backend. If this fails the slot
   stays reserved, without a descriptor. */
static int reactor__core_bind(reactor__core *core, uint32_t index, reactor_socket fd,
                              unsigned wanted) {
    reactor__core_slot *slot = &core->slots[index];
    if (reactor__core_find(core, fd) != REACTOR__NONE) return -EEXIST;
    if (reactor__core_map_reserve(core) < 0) return -ENOMEM;
    slot->fd = fd;
    /* target reads it; it is counted only below, where nothing can fail */
    slot->wanted = (uint16_t)wanted;
    unsigned target = reactor__core_target(core, slot);
    int e = core->backend->set(core, index, 0, target, 0);
    if (e == -EPERM) e = reactor__core_always_add(core, index);
    if (e < 0) {
        slot->fd = REACTOR__UTIL_NO_SOCKET;
        slot->wanted = 0;
        return e;
    }
    core->counters.changes++;
    slot->armed = (uint16_t)target;
    slot->flags |= REACTOR__CORE_BOUND;
    slot->wanted = 0;
    reactor__core_want(core, slot, wanted);
    reactor__core_map_put(core, index);
    core->map_used++;
    if (core->changed) core->changed(core);
    return 0;
}

/* Takes the descriptor away from the slot, which lives on until release. It cannot fail: what
   the backend says of a descriptor that was closed before does not matter. closing: the caller
   closes the descriptor next, so a backend whose kernel forgets closed descriptors may save a
   call. */
static void reactor__core_unbind(reactor__core *core, uint32_t index, int closing) {
    reactor__core_slot *slot = &core->slots[index];
    if (!(slot->flags & REACTOR__CORE_BOUND)) return;
    reactor__core_map_delete(core, index);
    if (slot->flags & REACTOR__CORE_ALWAYS)
        reactor__core_always_remove(core, index);
    else
        core->backend->set(core, index, slot->armed, 0, closing);
    if (!closing) core->counters.changes++;
    reactor__core_want(core, slot, 0);
    slot->flags &= (uint8_t) ~(REACTOR__CORE_BOUND | REACTOR__CORE_REARM | REACTOR__CORE_FAILED);
    slot->armed = 0;
    slot->fd = REACTOR__UTIL_NO_SOCKET;
}

/* Changes the interest. That of a watcher is applied even if it is the same: the number may be
   another open file's by now, and with EDGE or ONESHOT the same interest again means "from here
   on". Streams own their descriptors, which therefore never change behind the library's back. */
REACTOR__NOINLINE static void reactor__core_modify(reactor__core *core, uint32_t index,
                                                   unsigned wanted) {
    reactor__core_slot *slot = &core->slots[index];
    reactor__core_want(core, slot, wanted);
    slot->flags &= (uint8_t)~REACTOR__CORE_FAILED;
    if (slot->kind == REACTOR__CORE_WATCHER) slot->flags |= REACTOR__CORE_REARM;
    reactor__core_touch(core, index);
}

/* Backends call this inside wait. Events that are not armed are dropped, but errors and hang-ups
   stay. */
REACTOR__OPTIONAL static void reactor__core_report_slot(reactor__core *core, uint32_t index,
                                                        unsigned events) {
    reactor__core_report *report = &core->reports[core->report_count++];
    unsigned armed = core->slots[index].armed;
    if (armed & (unsigned)REACTOR_HANGUP) armed |= REACTOR__CORE_RDHUP;
    report->events = events & (armed | REACTOR__CORE_INFO);
    report->index = index;
    report->tag = core->slots[index].tag & ~1u;
}

/* Notes that the backend has refused the slot's interest: FAILED the first time, ERROR_PENDING
   the second time. */
static void reactor__core_note_refusal(reactor__core_slot *slot) {
    if (slot->flags & REACTOR__CORE_FAILED) slot->flags |= REACTOR__CORE_ERROR_PENDING;
    slot->flags ^= REACTOR__CORE_FAILED;
}

/* Marks the slot dirty without `changed`: a nested loop would flush at once, and so for ever. */
static void reactor__core_touch_again(reactor__core *core, uint32_t index) {
    void (*changed)(reactor__core *) = core->changed;
    core->changed = NULL;
    reactor__core_touch(core, index);
    core->changed = changed;
}

/* A backend that applies changes only inside wait calls this when one was refused. */
REACTOR__OPTIONAL static void reactor__core_refused(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    reactor__core_note_refusal(slot);
    slot->flags |= REACTOR__CORE_REARM;
    reactor__core_touch_again(core, index);
}

/* A backend calls this when it finds another open file under the watcher's number, or none. The
   watcher's reports have a new generation from here on, so that a report of the old file is
   known as stale. A stream's generation is its handle, and its descriptor is the library's own:
   it keeps both. */
REACTOR__OPTIONAL static void reactor__core_renew(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    if (slot->kind != REACTOR__CORE_WATCHER) return;
    const uint32_t used = slot->tag + REACTOR__CORE_GENERATION - reactor__core_first(core, index);
    /* its last generation, which only release may end */
    if (used < REACTOR__CORE_GENERATION) return;
    reactor__core_next_tag(slot);
    /* reports of the old file that came with this turn's wait are no surprise */
    slot->since = (uint16_t)core->counters.turns;
}

/* Gives the backend the interest `target`. What was a file without readiness is tried anew if
   REARM is set, for it may be something else by now; and anything else may have become such a
   file. */
static int reactor__core_apply(reactor__core *core, uint32_t index, unsigned target) {
    reactor__core_slot *slot = &core->slots[index];
    unsigned before = slot->armed;
    if (slot->flags & REACTOR__CORE_ALWAYS) {
        if (!(slot->flags & REACTOR__CORE_REARM)) return 0;
        reactor__core_always_remove(core, index);
        before = 0;
    }
    int e = core->backend->set(core, index, before, target, 0);
    core->counters.changes++;
    if (e == -EPERM) return reactor__core_always_add(core, index);
    /* cannot fail: the array has room for it */
    if (e < 0 && !before) reactor__core_always_add(core, index);
    return e;
}

/* Silences a slot whose descriptor was closed without reactor_remove, until it is modified or
   removed. armed is made to look up to date, so flush has nothing to apply. */
REACTOR__COLD static void reactor__core_silence(reactor__core *core, reactor__core_slot *slot) {
    const int always = slot->flags & REACTOR__CORE_ALWAYS;
    slot->armed = (uint16_t)(always ? REACTOR__CORE_WATCHED : reactor__core_target(core, slot));
    slot->flags &= (uint8_t)~REACTOR__CORE_REARM;
    reactor__core_update_tag(slot);
}

/* Reports ERROR to a watcher whose interest was refused twice. A closed descriptor is silenced
   then, for it would be refused for ever. Returns 1 if the interest is to be tried again. */
REACTOR__COLD static int reactor__core_tell_error(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    slot->flags &= (uint8_t)~REACTOR__CORE_ERROR_PENDING;
    reactor__core_report_slot(core, index, REACTOR_ERROR);
    if (reactor__util_is_open(slot->fd)) return 1;
    reactor__core_silence(core, slot);
    return 0;
}

/* Applies the wanted interest of one slot. A refused one is tried again in the next turn; after
   the second refusal the watcher gets ERROR, because there is no caller left to return an error
   to. Returns 1 if the slot has to be tried again. */
static int reactor__core_apply_wanted(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    unsigned target = reactor__core_target(core, slot);
    if (!(slot->flags & REACTOR__CORE_BOUND)) return 0;
    if (slot->flags & REACTOR__CORE_ERROR_PENDING) return reactor__core_tell_error(core, index);
    if (slot->armed == target && !(slot->flags & REACTOR__CORE_REARM)) return 0;
    int e = reactor__core_apply(core, index, target);
    if (e < 0) {
        reactor__core_note_refusal(slot);
        return 1;
    }
    slot->armed = (uint16_t)target;
    reactor__core_update_tag(slot);
    slot->flags &= (uint8_t)~REACTOR__CORE_REARM;
    if (e == 0) slot->flags &= (uint8_t)~REACTOR__CORE_FAILED;
    return 0;
}

/* Whether this slot has an ERROR to report and there is no room for it before the next dispatch. */
static int reactor__core_is_held_up(const reactor__core *core, uint32_t index) {
    const uint8_t flags = core->slots[index].flags;
    return (flags & REACTOR__CORE_ERROR_PENDING) && (flags & REACTOR__CORE_BOUND) &&
           core->report_count >= core->batch;
}

/* The number may belong to another open file than when the last wait ended, and not every
   backend notices. So the reports of that wait are cut down to what is true of the present file.
   said is -1 until the file has been asked, once. */
static void reactor__core_recheck(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    const uint32_t n = core->report_count > core->kept ? core->report_count : core->kept;
    int64_t said = -1;
    for (uint32_t i = 0; i < n; i++) {
        reactor__core_report *report = &core->reports[i];
        if (report->index != index || !reactor__core_is(slot, report->tag)) continue;
        const unsigned fin = slot->wanted & (unsigned)REACTOR_HANGUP ? REACTOR__CORE_RDHUP : 0u;
        const unsigned wanted = slot->wanted & (REACTOR__CORE_BOTH | REACTOR__CORE_PRI);
        if (said < 0) said = reactor__util_ready(slot->fd, wanted | fin);
        report->events &= (uint32_t)said;
        if (report->events) continue;
        report->tag = 0; /* no slot has this tag */
        slot->since = (uint16_t)core->counters.turns;
    }
}

/* Applies the wanted interest for a caller that gets the error. It looks whether the descriptor
   is open, because some backends would notice that only in the next wait. */
static int reactor__core_apply_now(reactor__core *core, uint32_t index) {
    reactor__core_slot *slot = &core->slots[index];
    const unsigned target = reactor__core_target(core, slot);
    if (!reactor__util_is_open(slot->fd)) return -EBADF;
    const int rearm = slot->flags & REACTOR__CORE_REARM;
    slot->flags |= REACTOR__CORE_REARM;
    int e = reactor__core_apply(core, index, target);
    if (e < 0) {
        if (!rearm) slot->flags &= (uint8_t)~REACTOR__CORE_REARM;
        return e;
    }
    slot->armed = (uint16_t)target;
    reactor__core_update_tag(slot);
    slot->flags &=
        (uint8_t) ~(REACTOR__CORE_REARM | REACTOR__CORE_FAILED | REACTOR__CORE_ERROR_PENDING);
    reactor__core_recheck(core, index);
    if (core->changed) core->changed(core);
    return 0;
}

/* Applies the interests of all dirty slots. The list is a queue: a slot to be tried again goes
   to its end, for the next turn; one whose ERROR has no room stays at its head with all behind
   it. So each has its turn, however many are refused for ever. */
static void reactor__core_flush(reactor__core *core) {
    uint32_t index = core->dirty_head, last = core->dirty_tail;
    core->dirty_head = core->dirty_tail = REACTOR__NONE;
    while (index != REACTOR__NONE && !reactor__core_is_held_up(core, index)) {
        reactor__core_slot *slot = &core->slots[index];
        uint32_t next = core->links[index].next;
        slot->flags &= (uint8_t)~REACTOR__CORE_DIRTY;
        if (slot->kind == REACTOR__CORE_FREE)
            reactor__core_reuse(core, index);
        else if (reactor__core_apply_wanted(core, index))
            reactor__core_touch_again(core, index);
        index = next;
    }
    if (index == REACTOR__NONE) return;
    if (core->dirty_head == REACTOR__NONE)
        core->dirty_tail = last;
    else
        core->links[last].next = core->dirty_head;
    core->dirty_head = index;
}

/* Arms the SELECT_ONLY watchers before a turn of reactor_select, and silences them before other
   turns, where a level that nobody can be given would end every wait. A program that alternates
   pays for applying them all. Kernels report in the order of arming: so it begins behind the
   slot that was returned last. */
static void reactor__core_pull(reactor__core *core, int on) {
    if (core->pulling == on) return;
    core->pulling = on;
    if (!core->pulled) return;
    for (uint32_t i = 0; i < core->count; i++) {
        uint32_t index = (core->handed + 1 + i) % core->count;
        if (core->slots[index].kind == REACTOR__CORE_WATCHER &&
            (core->slots[index].flags & REACTOR__CORE_SELECT_ONLY))
            reactor__core_touch(core, index);
    }
}

/* ---- reports ----

   Between the wait and a report's turn other callbacks run. They may have removed the report's
   slot, given it to something else or changed its interest. So nothing is decided before that
   turn: the generation then tells whether the slot is still the one reported, and the present
   interest which events are delivered. */

/* Reports the files that are always ready. If they are more than a batch they take turns. With
   EDGE such a file never changes, so it is reported once for each time it is armed: `armed` then
   becomes a value that no watcher can want, and any interest that the watcher is given differs
   from it and arms again. */
static void reactor__core_report_always(reactor__core *core) {
    uint32_t room = core->report_count < core->limit ? core->limit - core->report_count : 1;
    for (uint32_t i = 0; i < core->always_count && room > 0; i++) {
        core->always_at = core->always_at + 1 < core->always_count ? core->always_at + 1 : 0;
        uint32_t index = core->always[core->always_at];
        reactor__core_slot *slot = &core->slots[index];
        if (!(slot->armed & REACTOR__CORE_BOTH)) continue;
        reactor__core_report_slot(core, index, REACTOR__CORE_BOTH);
        room--;
        if (slot->wanted & (unsigned)REACTOR_EDGE)
            slot->armed = REACTOR__CORE_WATCHED | REACTOR__CORE_RDHUP;
    }
}

/* Whether a file that is always ready has something to report: then the loop must not wait. */
static int reactor__core_has_always(const reactor__core *core) {
    for (uint32_t i = 0; i < core->always_count; i++)
        if (core->slots[core->always[i]].armed & REACTOR__CORE_BOTH) return 1;
    return 0;
}

/* Some kernels (epoll) go on reporting a descriptor that its user has closed without removing
   it, as long as a duplicate is open. Its watcher must not be called, and a level that nobody
   can drain would spin. Asking for every report whether its descriptor is open would cost a
   system call each, so credit bounds it: one for each millisecond, 256 at most. Where reports
   are few, each of them is verified. Where credit has run out it is counted again every 64
   turns, and a closed descriptor that keeps coming back is found some milliseconds later. The
   report of a closed descriptor gets tag 0, which no slot has. */
enum { REACTOR__CORE_MOST_CREDIT = 256, REACTOR__CORE_LITTLE_CREDIT = 64 };

/* Counts credit for the milliseconds since it was last counted. */
static void reactor__core_earn(reactor__core *core) {
    const int64_t now = reactor__util_clock(), ms = (now - core->earned) / REACTOR__MS;
    if (ms <= 0) return;
    core->earned = now;
    core->credit = REACTOR__CORE_MOST_CREDIT;
    if (ms < REACTOR__CORE_MOST_CREDIT) core->credit = (uint32_t)ms;
}

/* Checks the reports of the last wait as far as credit goes. The first one checked differs from
   turn to turn, so that each has its turn. */
REACTOR__NOINLINE static void reactor__core_verify(reactor__core *core) {
    const uint32_t n = core->watchers ? core->report_count - core->refusals : 0;
    const uint32_t first = (uint32_t)core->counters.turns; /* begin elsewhere in every turn */
    for (uint32_t i = 0; i < n && core->credit; i++) {
        reactor__core_report *report = &core->reports[core->refusals + (first + i) % n];
        reactor__core_slot *slot = &core->slots[report->index];
        core->credit--;
        if (slot->kind != REACTOR__CORE_WATCHER || reactor__util_is_open(slot->fd)) continue;
        reactor__core_silence(core, slot);
        report->tag = 0;
    }
    if (core->credit && core->watchers) return;
    reactor__core_earn(core);
    if (!core->watchers || core->credit < REACTOR__CORE_LITTLE_CREDIT)
        core->verify_turn = core->counters.turns + 64;
}

/* One wait of the backend; its reports are added behind those of refused interests. */
static int reactor__core_wait(reactor__core *core, int64_t timeout) {
    if (core->always_count && reactor__core_has_always(core)) timeout = 0;
    core->refusals = core->report_count;
    int e = core->backend->wait(core, timeout);
    if (e == 0 && core->always_count) reactor__core_report_always(core);
    if (REACTOR__UNLIKELY(core->counters.turns >= core->verify_turn) && e == 0)
        reactor__core_verify(core);
    return e;
}

/* The events of a report that its watcher gets. Errors and hang-ups also set the events that it
   watches, so a handler that just reads or writes meets them there; PRIORITY only where there is
   neither of these, for there may be no urgent data. A FIN is a hang-up to who asks for that. */
static unsigned reactor__core_mask(unsigned events, unsigned wanted) {
    const unsigned hangup = wanted & (unsigned)REACTOR_HANGUP;
    unsigned seen = events & wanted;
    if (REACTOR__UNLIKELY(events & REACTOR__CORE_INFO)) {
        seen |= wanted & (REACTOR__CORE_BOTH | REACTOR__CORE_RDHUP);
        if (!(wanted & REACTOR__CORE_BOTH)) seen |= wanted & REACTOR__CORE_PRI;
        if (seen | hangup) seen |= events & REACTOR__CORE_INFO;
    }
    return events & REACTOR__CORE_RDHUP ? seen | hangup : seen;
}

/* A ONESHOT watcher was reported, and is silent until it is modified. If no event was for it
   after all (got is 0), a kernel that has disarmed it is asked to arm it again. */
static void reactor__core_shot(reactor__core *core, uint32_t index, unsigned got) {
    reactor__core_slot *slot = &core->slots[index];
    unsigned silent = slot->wanted & ~REACTOR__CORE_EVENTS;
    unsigned disarmed = core->backend->traits & (unsigned)REACTOR__CORE_HAS_ONESHOT;
    if (slot->flags & REACTOR__CORE_DIRTY) disarmed = 0; /* flush applies it anyway */
    if (got) reactor__core_want(core, slot, silent);
    if (disarmed && got)
        slot->armed = (uint16_t)(silent | REACTOR__CORE_WATCHED);
    else if (disarmed || got) {
        slot->flags |= REACTOR__CORE_REARM;
        reactor__core_touch(core, index);
    }
}

/* Asks again for a report that cannot be delivered now. A level comes by itself; an edge or a
   ONESHOT comes when it is armed anew. */
static void reactor__core_postpone(reactor__core *core, const reactor__core_report *report) {
    uint32_t index = report->index;
    reactor__core_slot *slot = &core->slots[index];
    if (!reactor__core_is(slot, report->tag) || !(slot->wanted & REACTOR__CORE_ONCE)) return;
    slot->flags |= REACTOR__CORE_REARM;
    reactor__core_touch(core, index);
}

/* A report came for a slot that is gone. If it went in this very turn that is normal. If not,
   the kernel reports something that can no longer be removed: see epoll. */
REACTOR__COLD static void reactor__core_gone(reactor__core *core, const reactor__core_slot *slot) {
    if (slot->since == (uint16_t)core->counters.turns) return;
    core->counters.stale++;
    core->stale = 1;
}

/* Sets or clears the stop; from any thread, and from signal handlers. dispatch looks at
   `special` alone: with all bits set every report takes the slow path, where the stop is seen. */
REACTOR__NOINLINE static void reactor__core_stop(reactor__core *core, int on) {
    REACTOR__STORE(&core->stop, on);
    REACTOR__STORE(&core->special, on || core->slow ? ~0u : REACTOR__CORE_INFO);
    if (!on && REACTOR__LOAD(&core->stop)) /* another thread has stopped it in between */
        REACTOR__STORE(&core->special, ~0u);
}

/* Handles a report that dispatch must not simply pass to fn. Returns 1 if fn is to be called
   after all. */
static int reactor__core_dispatch_slow(reactor__core *core, const reactor__core_report *report,
                                       unsigned got) {
    reactor__core_slot *slot = &core->slots[report->index];
    if (!reactor__core_is(slot, report->tag)) {
        reactor__core_gone(core, slot);
        return 0;
    }
    if (slot->flags & REACTOR__CORE_SELECT_ONLY) {
        /* Other turns silence it, but a hang-up is reported without being asked for. */
        if (core->pulling)
            core->reports[core->kept++] = *report;
        else if (slot->armed & REACTOR__CORE_EVENTS) /* its callback was taken away in this turn */
            reactor__core_postpone(core, report);
        return 0;
    }
    if (slot->wanted & (unsigned)REACTOR_ONESHOT) reactor__core_shot(core, report->index, got);
    return got && slot->fn;
}

/* The slow path of one report: returns 1 if a callback was called. */
REACTOR__NOINLINE static int reactor__core_dispatch_special(reactor__core *core,
                                                            const reactor__core_report *report) {
    const reactor__core_slot *slot = &core->slots[report->index];
    unsigned got = reactor__core_mask(report->events, slot->wanted);
    int odd = slot->tag != report->tag || !got;
    if (odd && !reactor__core_dispatch_slow(core, report, got)) return 0;
    slot = &core->slots[report->index];
    if (core->slow)
        core->slow(core->owner, slot, got);
    else
        slot->fn(core->owner, slot->fd, got, slot->user);
    return 1;
}

/* Orders reports by their slots, for qsort. */
static int reactor__core_compare(const void *a, const void *b) {
    const uint32_t x = ((const reactor__core_report *)a)->index;
    const uint32_t y = ((const reactor__core_report *)b)->index;
    return (x > y) - (x < y);
}

/* A watcher that stops the loop whenever it is called might be reported first in every turn. So
   after a stop the reports are sorted by slot, beginning behind the one that stopped, and the
   others come first. */
REACTOR__COLD static void reactor__core_resume(reactor__core *core) {
    const uint32_t n = core->report_count, left = core->left;
    for (uint32_t i = 0; i < n; i++) core->reports[i].index -= left;
    qsort(core->reports, n, sizeof *core->reports, reactor__core_compare);
    for (uint32_t i = 0; i < n; i++) core->reports[i].index += left;
}

/* Passes each report of the last wait to its watcher or module. Every event takes this way, so
   what is rare is found by two comparisons. `special` has bits for what needs the slow path in
   any report: a stop, timed callbacks, errors and hang-ups; one more report with such a bit
   marks the end of the list. A tag that differs means that the slot is gone, SELECT_ONLY,
   ONESHOT or changed in this turn. Callbacks are counted together at the end; modules subtract
   events that were no callback. What a stop leaves undone is asked for again, so nothing is
   lost. */
static void reactor__core_dispatch(reactor__core *core) {
    if (REACTOR__UNLIKELY(core->left != REACTOR__NONE))
        reactor__core_resume(core);
    else if (core->report_count >= REACTOR__CORE_MANY && core->before_dispatch)
        core->before_dispatch(core->owner);
    reactor__core_report *at = core->reports, *end = at + core->report_count;
    uint32_t skipped = 0; /* how many called no callback */
    core->counters.events += core->report_count;
    core->kept = 0;
    end->events = REACTOR__CORE_INFO;
    end->index = 0;
    for (;; at++) {
        const reactor__core_slot *slot = &core->slots[at->index];
        unsigned got = at->events;
        if (REACTOR__LIKELY(!(got & REACTOR__PEEK(&core->special)) && slot->tag == at->tag)) {
            slot->fn(core->owner, slot->fd, got, slot->user);
            continue;
        }
        if (at == end || REACTOR__PEEK(&core->stop)) break;
        skipped += !reactor__core_dispatch_special(core, at);
    }
    core->counters.callbacks += (uint64_t)(at - core->reports) - skipped;
    core->left = at == end ? REACTOR__NONE : at > core->reports ? at[-1].index + 1 : at->index;
    for (; at < end; at++) reactor__core_postpone(core, at);
    core->report_count = 0;
}

/* The end of a turn of reactor_select: fills in a key for each report whose watcher is still
   there. In any other turn the reports are asked for again. */
static int reactor__core_hand_out(reactor__core *core, reactor_key *keys, int max) {
    int count = 0;
    for (uint32_t i = 0; i < core->kept; i++) {
        const reactor__core_report *report = &core->reports[i];
        const reactor__core_slot *slot = &core->slots[report->index];
        if (!reactor__core_is(slot, report->tag)) continue;
        unsigned got = reactor__core_mask(report->events, slot->wanted);
        if (count == max || !(slot->flags & REACTOR__CORE_SELECT_ONLY)) {
            reactor__core_postpone(core, report);
            continue;
        }
        if (slot->wanted & (unsigned)REACTOR_ONESHOT) reactor__core_shot(core, report->index, got);
        if (!got) continue;
        core->handed = report->index;
        keys[count].fd = slot->fd;
        keys[count].events = got;
        keys[count].fn = NULL;
        keys[count++].user = slot->user;
    }
    core->kept = 0;
    return count;
}

/* ---- the backend of a loop that a forked child has abandoned ----

   Its members do nothing, because in a forked child nothing may reach what is shared with the
   parent. */

static void reactor__core_none_fini(reactor__core *core) { (void)core; }

static int reactor__core_none_set(reactor__core *core, uint32_t index, unsigned before,
                                  unsigned after, int closing) {
    (void)core, (void)index, (void)before, (void)after, (void)closing;
    return 0;
}

static int reactor__core_none_wait(reactor__core *core, int64_t timeout) {
    (void)core, (void)timeout;
    return 0;
}

/* ---- a forked child ---- */

/* The fork member of a backend whose kernel keeps nothing between two waits: there is nothing to
   do. */
REACTOR__OPTIONAL static int reactor__core_keep(reactor__core *core) {
    (void)core;
    return 0;
}

/* Registers all that is armed with a backend that has just begun. A descriptor that was closed
   without being removed is left out. */
REACTOR__COLD static int reactor__core_arm_all(reactor__core *core) {
    for (uint32_t i = 0; i < core->count; i++) {
        const reactor__core_slot *slot = &core->slots[i];
        if (!slot->armed || (slot->flags & REACTOR__CORE_ALWAYS)) continue;
        core->links[i].aux = 0;
        int e = core->backend->set(core, i, 0, slot->armed, 0);
        if (e < 0 && e != -EBADF && e != -EPERM) return e;
    }
    return 0;
}

/* Gives a forked child's backend kernel objects of its own. If that fails everything is as
   before. */
REACTOR__COLD static int reactor__core_fork(reactor__core *core) {
    reactor__core_transfer_fn *transfer = core->transfer;
    void *old = core->data;
    if (core->backend->fork) return core->backend->fork(core);
    int e = core->backend->init(core);
    if (e < 0) return e;
    void *fresh = core->data;
    e = reactor__core_arm_all(core);
    /* the old objects are the parent's too, and stay; a new one that failed is our own */
    core->child = e == 0;
    core->data = e < 0 ? fresh : old;
    core->backend->fini(core);
    core->child = 0;
    core->data = e < 0 ? old : fresh;
    /* streams prepare for transfers only once */
    if (e < 0 || !transfer) core->transfer = transfer;
    return e;
}

/* Closes the backend's descriptors and puts a backend in its place that does nothing. */
REACTOR__COLD static void reactor__core_abandon(reactor__core *core) {
    static const reactor__core_backend none = {"none",
                                               NULL,
                                               0,
                                               NULL,
                                               reactor__core_none_fini,
                                               reactor__core_none_set,
                                               reactor__core_none_wait,
                                               NULL,
                                               NULL,
                                               NULL,
                                               NULL};
    core->backend->fini(core);
    core->backend = &none;
    core->data = NULL;
    core->transfer = NULL;
    core->changed = NULL;
}

/* core is zeroed memory. After a failure reactor__core_fini frees what there is. */
REACTOR__COLD static int reactor__core_init(reactor__core *core, reactor *owner, uint32_t seed,
                                            uint32_t batch, reactor__core_slow_fn *slow) {
    core->owner = owner;
    core->seed = (seed & ~1u) + 2;
    if (!core->seed) core->seed = 2;
    core->batch = core->limit = batch;
    core->credit = REACTOR__CORE_MOST_CREDIT;
    core->verify_turn = UINT64_MAX;
    core->slow = slow;
    reactor__core_stop(core, 0);
    core->reports =
        (reactor__core_report *)REACTOR_MALLOC((2 * (size_t)batch + 2) * sizeof *core->reports);
    core->free_head = core->dirty_head = core->dirty_tail = core->left = REACTOR__NONE;
    return core->reports ? 0 : -ENOMEM;
}

REACTOR__COLD static void reactor__core_fini(reactor__core *core) {
    if (core->backend) core->backend->fini(core);
    REACTOR_FREE(core->slots);
    REACTOR_FREE(core->links);
    REACTOR_FREE(core->reports);
    REACTOR_FREE(core->map);
    REACTOR_FREE(core->always);
}
/* ==== >> select ==== */
/* pselect(2), which every Unix has. The sets of descriptors are the library's own, as long as
   the highest watched descriptor needs. So FD_SETSIZE does not limit kernels that take sets of
   any length (Linux, the BSDs); elsewhere adding a descriptor beyond it is -ERANGE, and nothing
   is written outside the sets.

   Traps. select reports errors and hang-ups as readability, so one poll(2) asks those it found
   what is true. One closed descriptor fails the whole call with EBADF: it is searched for and
   left out. A hang-up counts as readable and not as writable, so a watcher that waits to write,
   or for the end alone, must be in the first set too. If it turns out that there is only data,
   it would end every wait, so it leaves that set and is DEAF until it is modified: it no longer
   ends a wait, but poll asks about it whenever another descriptor does. */
#if (defined(REACTOR_USE_SELECT) || defined(REACTOR_USE_ALL)) && !defined(_WIN32)
/* The sets, all in one piece of memory. IN, OUT and PRIORITY hold the interest; the call overwrites
   the sets that it is given, so it gets copies, which end in NOW. */
enum {
    REACTOR__SELECT_IN,
    REACTOR__SELECT_OUT,
    REACTOR__SELECT_PRIORITY,
    REACTOR__SELECT_IN_NOW,
    REACTOR__SELECT_OUT_NOW,
    REACTOR__SELECT_PRIORITY_NOW,
    REACTOR__SELECT_DEAF,
    REACTOR__SELECT_SETS
};

typedef struct reactor__select {
    reactor__util_word *sets; /* SETS sets, one behind the other */
    int words;                /* how many words each set has */
    int top;                  /* the highest descriptor in any set, plus 1 */
    int at;                   /* the descriptor with which the next scan begins */
    int deaf;                 /* how many */
    struct pollfd *found;     /* room for a batch: what the scan has found, for poll */
} reactor__select;

static int reactor__select_init(reactor__core *core) {
    reactor__select *b = REACTOR__NEW(reactor__select);
    if (!b) return -ENOMEM;
    b->found = (struct pollfd *)REACTOR_MALLOC(core->batch * sizeof *b->found);
    if (!b->found) {
        REACTOR_FREE(b);
        return -ENOMEM;
    }
    core->data = b;
    return 0;
}

static void reactor__select_fini(reactor__core *core) {
    reactor__select *b = (reactor__select *)core->data;
    REACTOR_FREE(b->sets);
    REACTOR_FREE(b->found);
    REACTOR_FREE(b);
}

/* Whether a descriptor is in one of the sets. */
static int reactor__select_has(const reactor__select *b, int set, int fd) {
    return reactor__util_has_bit(b->sets + set * b->words, fd);
}

/* Adds a descriptor to one of the sets, or takes it out. */
static void reactor__select_put(reactor__select *b, int set, int fd, int on) {
    reactor__util_put_bit(b->sets + set * b->words, fd, on);
}

/* Makes a descriptor DEAF, or ends that. */
static void reactor__select_deafen(reactor__select *b, int fd, int on) {
    b->deaf += on - reactor__select_has(b, REACTOR__SELECT_DEAF, fd);
    reactor__select_put(b, REACTOR__SELECT_DEAF, fd, on);
}

/* Makes the sets long enough for fd. REALLOC does not help, because all sets but the first move
   within the memory. */
static int reactor__select_grow(reactor__select *b, int fd) {
    int words = b->words;
    if (fd / REACTOR__UTIL_WORD_BITS < words) return 0;
    words = (fd / REACTOR__UTIL_WORD_BITS + 1 + 31) / 32 * 32; /* FD_SETSIZE at a time */
    size_t row = (size_t)words * sizeof *b->sets;
    reactor__util_word *sets =
        (reactor__util_word *)reactor__util_zeroed(REACTOR__SELECT_SETS * row);
    if (!sets) return -ENOMEM;
    for (int set = 0; b->sets && set < REACTOR__SELECT_SETS; set++)
        memcpy(sets + set * words, b->sets + set * b->words, (size_t)b->words * sizeof *sets);
    REACTOR_FREE(b->sets);
    b->sets = sets;
    b->words = words;
    return 0;
}

/* Whether any set that outlives a call has the descriptor. */
static int reactor__select_knows(const reactor__select *b, int fd) {
    return reactor__select_has(b, REACTOR__SELECT_IN, fd) |
           reactor__select_has(b, REACTOR__SELECT_OUT, fd) |
           reactor__select_has(b, REACTOR__SELECT_PRIORITY, fd) |
           reactor__select_has(b, REACTOR__SELECT_DEAF, fd);
}

/* The kernel is given an interest with the next call, which is too late for an error of the
   caller's; so this looks whether the descriptor can be waited for. `top` is lowered again,
   because each wait costs by it. */
static int reactor__select_set(reactor__core *core, uint32_t index, unsigned before, unsigned after,
                               int closing) {
    reactor__select *b = (reactor__select *)core->data;
    int fd = reactor__core_at(core, index)->fd;
    (void)closing;
    int e = after ? reactor__util_waitable(fd) : 0;
    if (e < 0) return e;
    if (!before) {
        if (fd >= REACTOR__UTIL_SET_LIMIT) return -ERANGE;
        if (reactor__select_grow(b, fd) < 0) return -ENOMEM;
    }
    const unsigned any = REACTOR__CORE_BOTH | REACTOR__CORE_PRI | REACTOR__CORE_RDHUP;
    reactor__select_put(b, REACTOR__SELECT_IN, fd, (after & any) != 0);
    reactor__select_put(b, REACTOR__SELECT_OUT, fd, (after & (unsigned)REACTOR_WRITE) != 0);
    reactor__select_put(b, REACTOR__SELECT_PRIORITY, fd, (after & REACTOR__CORE_PRI) != 0);
    reactor__select_deafen(b, fd, 0);
    if (fd >= b->top) b->top = fd + 1;
    while (b->top > 0 && !reactor__select_knows(b, b->top - 1)) b->top--;
    return 0;
}

/* A watched descriptor was closed without being removed: all such leave the sets, silent until
   they are removed or modified. */
static void reactor__select_drop_closed(reactor__select *b) {
    for (int fd = 0; fd < b->top; fd++) {
        if (!reactor__select_knows(b, fd) || fcntl(fd, F_GETFD) >= 0) continue;
        reactor__select_put(b, REACTOR__SELECT_IN, fd, 0);
        reactor__select_put(b, REACTOR__SELECT_OUT, fd, 0);
        reactor__select_put(b, REACTOR__SELECT_PRIORITY, fd, 0);
    }
}

/* Collects into b->found what the call has left in its sets (total bits), and the DEAF ones, up
   to a batch. The scan begins where the last one ended; otherwise the lowest descriptors would
   be served first for ever. Returns how many were collected. */
static int reactor__select_collect(reactor__select *b, uint32_t batch, int total) {
    uint32_t n = 0;
    int fd = b->at < b->top ? b->at : 0;
    for (int scanned = 0; scanned < b->top && (total > 0 || b->deaf) && n < batch; scanned++) {
        int in = reactor__select_has(b, REACTOR__SELECT_IN_NOW, fd);
        int out = reactor__select_has(b, REACTOR__SELECT_OUT_NOW, fd);
        int priority = reactor__select_has(b, REACTOR__SELECT_PRIORITY_NOW, fd);
        if (in | out | priority | reactor__select_has(b, REACTOR__SELECT_DEAF, fd)) {
            total -= in + out + priority;
            b->found[n].fd = fd;
            b->found[n++].revents = 0;
        }
        fd = fd + 1 < b->top ? fd + 1 : 0;
    }
    b->at = fd;
    return (int)n;
}

/* poll refuses more descriptors than RLIMIT_NOFILE, which the program may have lowered beneath
   what is open. Then what select has said is used. It has reported errors and hang-ups as input,
   and a watcher that reads finds out. */
static void reactor__select_believe(reactor__select *b, int n) {
    for (int i = 0; i < n; i++) {
        const int fd = b->found[i].fd;
        int said = reactor__select_has(b, REACTOR__SELECT_IN_NOW, fd) ? POLLIN : 0;
        if (reactor__select_has(b, REACTOR__SELECT_OUT_NOW, fd)) said |= POLLOUT;
        if (reactor__select_has(b, REACTOR__SELECT_PRIORITY_NOW, fd)) said |= POLLPRI;
        b->found[i].revents = (short)(said & b->found[i].events);
    }
}

/* Asks poll what the n collected descriptors have, and reports it. Two kinds leave the first
   set, where they would end every wait for nothing: a watcher that waits for the end alone and
   has had it reported; and one that does not read, when there was nothing but input: that one is
   DEAF from then on. */
static int reactor__select_ask(reactor__core *core, reactor__select *b, int n) {
    const unsigned any = REACTOR__CORE_BOTH | REACTOR__CORE_PRI;
    for (int i = 0; i < n; i++) {
        uint32_t index = reactor__core_find(core, b->found[i].fd);
        b->found[i].events = (short)(reactor__core_at(core, index)->armed & any);
    }
    if (poll(b->found, (nfds_t)n, 0) < 0) {
        if (errno != EINVAL) return -errno;
        reactor__select_believe(b, n);
    }
    for (int i = 0; i < n; i++) {
        uint32_t index = reactor__core_find(core, b->found[i].fd);
        unsigned events = reactor__util_polled(&b->found[i]) & (any | REACTOR__CORE_INFO);
        if (events) reactor__core_report_slot(core, index, events);
        if (events ? b->found[i].events : b->found[i].events & POLLIN) continue;
        reactor__select_put(b, REACTOR__SELECT_IN, b->found[i].fd, 0);
        reactor__select_deafen(b, b->found[i].fd, !events);
    }
    return 0;
}

/* One pselect(2) on copies of the sets. */
static int reactor__select_call(reactor__select *b, int64_t timeout) {
    reactor__util_word *in = NULL, *out = NULL, *priority = NULL;
    if (b->sets) {
        in = b->sets + REACTOR__SELECT_IN_NOW * b->words;
        out = b->sets + REACTOR__SELECT_OUT_NOW * b->words;
        priority = b->sets + REACTOR__SELECT_PRIORITY_NOW * b->words;
        memcpy(in, b->sets, 3 * (size_t)b->words * sizeof *b->sets);
    }
    return reactor__util_select(b->top, in, out, priority, timeout);
}

static int reactor__select_wait(reactor__core *core, int64_t timeout) {
    reactor__select *b = (reactor__select *)core->data;
    int n = reactor__select_call(b, timeout);
    /* a descriptor that is closed anew every turn must not starve the others */
    if (n == -EBADF) {
        reactor__select_drop_closed(b);
        n = reactor__select_call(b, 0);
    }
    if (n == -EBADF) return 0; /* another one was closed meanwhile; the next turn finds it */
    if (n < 0 || (n == 0 && !b->deaf)) return n;
    return reactor__select_ask(core, b, reactor__select_collect(b, core->limit, n));
}

static const reactor__core_backend reactor__select_backend = {"select",
                                                              REACTOR__CORE_BEST,
                                                              REACTOR__CORE_TELLS_PRIORITY,
                                                              reactor__select_init,
                                                              reactor__select_fini,
                                                              reactor__select_set,
                                                              reactor__select_wait,
                                                              NULL,
                                                              NULL,
                                                              NULL,
                                                              reactor__core_keep};
#undef REACTOR__CORE_BEST
#define REACTOR__CORE_BEST (&reactor__select_backend)
#endif
/* ==== >> winselect ==== */
/* Windows' select, which shares no more than the name: its sets are counted arrays of sockets,
   so the library's own are as long as need be and FD_SETSIZE does not matter. What it finds is
   asked again with WSAPoll, which tells a reset from data. WSAPoll is not what waits, because it
   reports a peer's FIN unasked, on which a watcher that waits to write would spin.

   Traps. select fails if all sets are empty. It reports a failed connect in the third set alone,
   where urgent data shows too: so a socket that is not connected is in it, and leaves it when it
   is only urgent data. A socket that was closed fails the whole call. As in select, a watcher
   that waits to write, or for the end alone, is in the first set too, leaves it when there is
   only data or an end of file, and is then DEAF: asked about whenever another socket ends the
   wait. */
#if (defined(REACTOR_USE_SELECT) || defined(REACTOR_USE_ALL)) && defined(_WIN32)

/* The state of a socket, besides its interest. */
enum {
    REACTOR__WINSELECT_IN = 1, /* the last call found it in this set */
    REACTOR__WINSELECT_OUT = 2,
    REACTOR__WINSELECT_FAILED = 4,
    REACTOR__WINSELECT_FOUND = 7,
    REACTOR__WINSELECT_NO_IN = 8,      /* it is kept out of the first set */
    REACTOR__WINSELECT_NO_FAILED = 16, /* it is kept out of the third set */
    REACTOR__WINSELECT_CLOSED = 32,
    /* it left the first set, but may still have an error to report */
    REACTOR__WINSELECT_DEAF = 64
};

/* The layout of fd_set, for any number of sockets. */
typedef struct reactor__winselect_set {
    u_int count;
    SOCKET sockets[1];
} reactor__winselect_set;

typedef struct reactor__winselect {
    uint32_t *who; /* the slot of each socket */
    uint8_t *state;
    reactor__winselect_set *sets[3];
    WSAPOLLFD *found;
    uint32_t count, cap, at;
    uint32_t deaf; /* how many sockets are DEAF */
} reactor__winselect;

static int reactor__winselect_init(reactor__core *core) {
    reactor__winselect *b = REACTOR__NEW(reactor__winselect);
    if (!b) return -ENOMEM;
    b->found = (WSAPOLLFD *)REACTOR_MALLOC(core->batch * sizeof *b->found);
    if (!b->found) {
        REACTOR_FREE(b);
        return -ENOMEM;
    }
    core->data = b;
    return 0;
}

static void reactor__winselect_fini(reactor__core *core) {
    reactor__winselect *b = (reactor__winselect *)core->data;
    for (int k = 0; k < 3; k++) REACTOR_FREE(b->sets[k]);
    REACTOR_FREE(b->who);
    REACTOR_FREE(b->state);
    REACTOR_FREE(b->found);
    REACTOR_FREE(b);
}

/* Makes room for one more socket in all arrays. If one cannot grow, those before it are longer
   than needed, which does no harm. */
static int reactor__winselect_grow(reactor__winselect *b) {
    uint32_t cap = b->cap;
    if (b->count < b->cap) return 0;
    void *who = reactor__util_grown(b->who, &cap, b->count + 1, sizeof *b->who);
    if (!who) return -ENOMEM;
    b->who = (uint32_t *)who;
    void *state = REACTOR_REALLOC(b->state, cap);
    if (!state) return -ENOMEM;
    b->state = (uint8_t *)state;
    for (int k = 0; k < 3; k++) {
        void *set = REACTOR_REALLOC(b->sets[k], sizeof **b->sets + cap * sizeof(SOCKET));
        if (!set) return -ENOMEM;
        b->sets[k] = (reactor__winselect_set *)set;
    }
    b->cap = cap;
    return 0;
}

/* Makes a socket DEAF, or ends that. */
static void reactor__winselect_deafen(reactor__winselect *b, uint32_t at, int on) {
    if (b->state[at] & REACTOR__WINSELECT_DEAF) b->deaf--;
    b->state[at] &= (uint8_t)~REACTOR__WINSELECT_DEAF;
    if (!on) return;
    b->state[at] |= REACTOR__WINSELECT_DEAF;
    b->deaf++;
}

/* Whether fd is a socket, and open. */
static int reactor__winselect_is_socket(reactor_socket fd) {
    int type, len = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, (char *)&type, &len) == 0;
}

/* Whether the socket is connected, so that it cannot fail to become so. */
static int reactor__winselect_is_connected(reactor_socket fd) {
    struct sockaddr_storage peer;
    int len = sizeof peer;
    return getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

/* A socket's place in the arrays is its slot's aux. A closed socket is refused at once, for
   select would only notice in the next wait. */
static int reactor__winselect_set_interest(reactor__core *core, uint32_t index, unsigned before,
                                           unsigned after, int closing) {
    reactor__winselect *b = (reactor__winselect *)core->data;
    const reactor__core_slot *slot = reactor__core_at(core, index);
    uint32_t *aux = reactor__core_aux(core, index);
    (void)closing;
    if (before) reactor__winselect_deafen(b, *aux, 0);
    if (!after) {
        uint32_t last = --b->count;
        b->who[*aux] = b->who[last];
        b->state[*aux] = b->state[last];
        *reactor__core_aux(core, b->who[last]) = *aux;
        return 0;
    }
    if (!reactor__winselect_is_socket(slot->fd)) return -EBADF;
    if (!before) {
        if (reactor__winselect_grow(b) < 0) return -ENOMEM;
        *aux = b->count;
        b->who[b->count++] = index;
    }
    b->state[*aux] =
        reactor__winselect_is_connected(slot->fd) ? (uint8_t)REACTOR__WINSELECT_NO_FAILED : 0;
    return 0;
}

static void reactor__winselect_put(reactor__winselect_set *set, reactor_socket fd) {
    set->sockets[set->count++] = fd;
}

/* Fills the three sets from the interest and state of all sockets. */
static void reactor__winselect_fill(const reactor__core *core, reactor__winselect *b) {
    for (int k = 0; k < 3; k++) b->sets[k]->count = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        const reactor__core_slot *slot = reactor__core_at(core, b->who[i]);
        unsigned state = b->state[i] &= (uint8_t)~REACTOR__WINSELECT_FOUND;
        unsigned wanted =
            slot->armed & (REACTOR__CORE_BOTH | REACTOR__CORE_PRI | REACTOR__CORE_RDHUP);
        if (!wanted || (state & REACTOR__WINSELECT_CLOSED)) continue;
        if (!(state & REACTOR__WINSELECT_NO_IN)) reactor__winselect_put(b->sets[0], slot->fd);
        if (wanted & (unsigned)REACTOR_WRITE) reactor__winselect_put(b->sets[1], slot->fd);
        if ((wanted & REACTOR__CORE_PRI) ||
            ((wanted & REACTOR__CORE_BOTH) && !(state & REACTOR__WINSELECT_NO_FAILED)))
            reactor__winselect_put(b->sets[2], slot->fd);
    }
}

/* An empty set may not be passed; NULL may. */
static fd_set *reactor__winselect_arg(reactor__winselect_set *set) {
    return set->count ? (fd_set *)(void *)set : NULL;
}

/* One call of select, at most REACTOR__UTIL_NAP long. select needs at least one socket, so
   without any this sleeps; the loop's own wake-up socket is always there once the loop has
   started. */
static int reactor__winselect_call(const reactor__core *core, reactor__winselect *b,
                                   int64_t timeout) {
    struct timeval t;
    if (timeout < 0)
        timeout = 60 * REACTOR__UTIL_NAP;
    else if (timeout > REACTOR__UTIL_NAP)
        timeout = REACTOR__UTIL_NAP;
    reactor__winselect_fill(core, b);
    if (!b->sets[0]->count && !b->sets[1]->count && !b->sets[2]->count) {
        Sleep((DWORD)reactor__util_wait_ms(timeout));
        return 0;
    }
    int64_t us = (timeout + 999) / 1000; /* rounded up, so that no timer is early */
    t.tv_sec = (long)(us / 1000000);
    t.tv_usec = (long)(us % 1000000);
    int n = select(0, reactor__winselect_arg(b->sets[0]), reactor__winselect_arg(b->sets[1]),
                   reactor__winselect_arg(b->sets[2]), &t);
    return n == SOCKET_ERROR ? reactor__util_error() : n;
}

/* A watched socket was closed without being removed: it is left out until it is removed or
   modified. */
static void reactor__winselect_drop_closed(const reactor__core *core, reactor__winselect *b) {
    for (uint32_t i = 0; i < b->count; i++)
        if (!reactor__winselect_is_socket(reactor__core_at(core, b->who[i])->fd))
            b->state[i] |= REACTOR__WINSELECT_CLOSED;
}

/* Marks the sockets that select has left in its sets, then collects these and the DEAF ones for
   WSAPoll, up to a batch, beginning behind the one that was collected last. */
static uint32_t reactor__winselect_collect(const reactor__core *core, reactor__winselect *b) {
    uint32_t n = 0;
    for (unsigned k = 0; k < 3; k++)
        for (u_int i = 0; i < b->sets[k]->count; i++) {
            uint32_t index = reactor__core_find(core, b->sets[k]->sockets[i]);
            b->state[*reactor__core_aux(core, index)] |= (uint8_t)(1u << k);
        }
    for (uint32_t i = 0; i < b->count && n < core->limit; i++) {
        b->at = b->at + 1 < b->count ? b->at + 1 : 0;
        if (!(b->state[b->at] & (REACTOR__WINSELECT_FOUND | REACTOR__WINSELECT_DEAF))) continue;
        const reactor__core_slot *slot = reactor__core_at(core, b->who[b->at]);
        b->found[n].fd = slot->fd;
        b->found[n].events = POLLRDNORM; /* WSAPoll refuses to be asked for nothing */
        if (slot->armed & (unsigned)REACTOR_WRITE) b->found[n].events |= POLLWRNORM;
        b->found[n++].revents = 0;
    }
    return n;
}

/* Translates WSAPoll's answer. Its POLLHUP is a FIN, which is readable. */
static unsigned reactor__winselect_events(const WSAPOLLFD *p) {
    unsigned events = 0;
    if (p->revents & (POLLRDNORM | POLLHUP)) events |= (unsigned)REACTOR_READ;
    if (p->revents & POLLWRNORM) events |= (unsigned)REACTOR_WRITE;
    if (p->revents & POLLERR) events |= REACTOR__CORE_INFO;
    return events;
}

/* Asks WSAPoll what the n collected sockets have, reports it, and decides which sets they stay
   in. */
static int reactor__winselect_ask(reactor__core *core, reactor__winselect *b, uint32_t n) {
    if (n && WSAPoll(b->found, n, 0) == SOCKET_ERROR) return reactor__util_error();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = reactor__core_find(core, b->found[i].fd);
        const uint32_t at = *reactor__core_aux(core, index);
        const reactor__core_slot *slot = reactor__core_at(core, index);
        uint8_t *state = &b->state[at];
        unsigned events = reactor__winselect_events(&b->found[i]);
        if ((*state & REACTOR__WINSELECT_FAILED) && reactor__winselect_is_connected(slot->fd)) {
            *state |= REACTOR__WINSELECT_NO_FAILED;
            events |= REACTOR__CORE_PRI; /* which is what the third set tells of connected ones */
        } else if (*state & REACTOR__WINSELECT_FAILED) /* before 2020 WSAPoll does not report it */
            events |= REACTOR__CORE_BOTH | REACTOR__CORE_INFO;
        int told = (events & (slot->armed | REACTOR__CORE_INFO)) != 0;
        if (told) reactor__core_report_slot(core, index, events);
        /* It stays in the first set only for what its watcher reads; the end alone is reported
           once. */
        unsigned wanted = told ? REACTOR__CORE_EVENTS : (unsigned)REACTOR_READ;
        if (!(*state & (REACTOR__WINSELECT_IN | REACTOR__WINSELECT_DEAF)) || (slot->armed & wanted))
            continue;
        *state |= REACTOR__WINSELECT_NO_IN;
        reactor__winselect_deafen(b, at, !told);
    }
    return 0;
}

/* Waits. select may return before its time is over by the loop's clock; then it waits for the
   rest. */
static int reactor__winselect_wait(reactor__core *core, int64_t timeout) {
    reactor__winselect *b = (reactor__winselect *)core->data;
    uint32_t before = core->report_count;
    int64_t until = REACTOR__NEVER;
    if (timeout >= 0) until = timeout ? reactor__util_add(reactor__util_clock(), timeout) : 0;
    for (;;) {
        int n = reactor__winselect_call(core, b, timeout);
        if (n == -EBADF) {
            reactor__winselect_drop_closed(core, b);
            n = reactor__winselect_call(core, b, 0);
        }
        if (n == -EBADF) return 0; /* another one was closed meanwhile; the next turn finds it */
        if (n < 0) return n;
        int e =
            n || b->deaf ? reactor__winselect_ask(core, b, reactor__winselect_collect(core, b)) : 0;
        if (e < 0 || n || core->report_count > before || timeout == 0) return e;
        if (until == REACTOR__NEVER) continue;
        timeout = until - reactor__util_clock();
        if (timeout <= 0) return 0;
    }
}

static const reactor__core_backend reactor__winselect_backend = {"select",
                                                                 REACTOR__CORE_BEST,
                                                                 REACTOR__CORE_TELLS_PRIORITY,
                                                                 reactor__winselect_init,
                                                                 reactor__winselect_fini,
                                                                 reactor__winselect_set_interest,
                                                                 reactor__winselect_wait,
                                                                 NULL,
                                                                 NULL,
                                                                 NULL,
                                                                 NULL};
#undef REACTOR__CORE_BEST
#define REACTOR__CORE_BEST (&reactor__winselect_backend)
#endif
/* ==== >> windows ==== */
/* The interface beneath select and WSAPoll: an I/O control of Windows' socket driver,
   \Device\Afd, which asks for events of one socket and completes at a completion port when one
   of them is there. It is not documented, but libuv and Rust's mio rely on it. Only ready
   sockets cost, idle ones do not. Such a request is called a poll here.

   Traps. A poll completes once, and at once if its events are there already; asking again before
   the next wait makes a level of that. While it is pending its memory belongs to the kernel:
   whoever removes a socket cancels its poll and lets go of it, and the memory is used again when
   the completion has come. A pending poll that asks for less than is wanted now is cancelled and
   asked anew. The driver searches the polls of one open file one by one, so at most 32 of them
   share a file. */
#if defined(REACTOR_USE_WINDOWS) && !defined(_WIN32)
#error "reactor.h: REACTOR_USE_WINDOWS needs Windows"
#elif defined(REACTOR_USE_WINDOWS) || (defined(REACTOR_USE_ALL) && defined(_WIN32))

#define REACTOR__WINDOWS_POLL    0x12024u    /* the control's code */
#define REACTOR__WINDOWS_BASE    0x48000022u /* SIO_BASE_HANDLE, which not all headers have */
#define REACTOR__WINDOWS_BELOW   0x4800001Du /* SIO_BSP_HANDLE_POLL */
#define REACTOR__WINDOWS_PRECISE 2           /* CREATE_WAITABLE_TIMER_HIGH_RESOLUTION; Windows 10 */

/* The driver's events. */
enum {
    REACTOR__WINDOWS_RECEIVE = 0x01,
    REACTOR__WINDOWS_EXPEDITED = 0x02, /* urgent data */
    REACTOR__WINDOWS_SEND = 0x04,
    REACTOR__WINDOWS_DISCONNECT = 0x08, /* FIN */
    REACTOR__WINDOWS_ABORT = 0x10,      /* RST */
    REACTOR__WINDOWS_CLOSED = 0x20,     /* the socket was closed by this process */
    REACTOR__WINDOWS_ACCEPT = 0x80,
    REACTOR__WINDOWS_FAILED = 0x100, /* a connect failed */
    REACTOR__WINDOWS_GROUP = 32
};

/* The control's input and output. */
typedef struct reactor__windows_info {
    LARGE_INTEGER timeout;
    ULONG count;
    ULONG exclusive;
    HANDLE handle;
    ULONG events;
    LONG status;
} reactor__windows_info;

/* One poll, that is one watched socket.

        free -> listed    take, list: to be asked for
        listed -> pending   ask, called by update before a wait
        pending -> listed   ended: its completion came; to be asked for again
        pending -> cancelled -> listed   set, because more is wanted than was asked
        any -> let go of -> free   remove, drop; a pending one when its completion has come */
typedef struct reactor__windows_op {
    OVERLAPPED overlapped; /* must be first: the port returns its address */
    reactor__windows_info info;
    HANDLE device;
    HANDLE base; /* the driver's own socket, below what a firewall may have put on top */
    uint32_t number;
    uint32_t slot;  /* NONE: its socket was removed */
    uint32_t next;  /* the next one in the free list or in a queue */
    uint32_t asked; /* the events that a pending poll asks for */
    uint8_t pending, listed, told;
    uint8_t cancelled; /* it was cancelled in order to be asked anew */
    uint8_t changed;   /* the interest has changed since it was last asked for */
} reactor__windows_op;

REACTOR__STATIC_CHECK(windows_op_begins_with_overlapped,
                      offsetof(reactor__windows_op, overlapped) == 0);

/* Polls that share one open file of the driver. */
typedef struct reactor__windows_group {
    HANDLE device;
    reactor__windows_op ops[REACTOR__WINDOWS_GROUP];
} reactor__windows_group;

/* A queue of polls to be asked for. They are reported in the order in which they are asked for. */
typedef struct reactor__windows_queue {
    uint32_t head, tail;
} reactor__windows_queue;

typedef struct reactor__windows {
    HANDLE port;
    HANDLE timer;   /* NULL: the system has none of high resolution */
    HANDLE watched; /* the thread pool's registration for the timer; NULL: not yet */
    int rung;       /* atomic: a wake-up was sent, and has not been reported yet */
    reactor__windows_group **groups;
    uint32_t count, cap;         /* how many groups there are */
    uint32_t pending, cancelled; /* how many polls are pending, how many of them cancelled */
    uint32_t free_head;
    reactor__windows_queue todo; /* to be asked for before this wait */
    /* to be asked for before the next wait, for this wait has reported them */
    reactor__windows_queue later;
    OVERLAPPED_ENTRY *entries;
} reactor__windows;

/* The poll of a number. */
static reactor__windows_op *reactor__windows_at(const reactor__windows *b, uint32_t n) {
    return &b->groups[n / REACTOR__WINDOWS_GROUP]->ops[n % REACTOR__WINDOWS_GROUP];
}

typedef NTSTATUS(NTAPI *reactor__windows_create_fn)(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES,
                                                    PIO_STATUS_BLOCK, PLARGE_INTEGER, ULONG, ULONG,
                                                    ULONG, ULONG, PVOID, ULONG);

typedef ULONG(NTAPI *reactor__windows_code_fn)(NTSTATUS);

/* Opens the driver and connects the file with the completion port. The two functions of ntdll
   are looked up at run time, so that no program has to link with ntdll. */
static int reactor__windows_open(HANDLE port, HANDLE *out) {
    static WCHAR path[] = L"\\Device\\Afd\\reactor";
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK status;
    HMODULE ntdll = GetModuleHandleA("ntdll.dll");
    FARPROC found = ntdll ? GetProcAddress(ntdll, "NtCreateFile") : NULL;
    FARPROC meaning = ntdll ? GetProcAddress(ntdll, "RtlNtStatusToDosError") : NULL;
    if (!found || !meaning) return -ENOSYS;
    reactor__windows_create_fn create = (reactor__windows_create_fn)(void (*)(void))found;
    reactor__windows_code_fn code = (reactor__windows_code_fn)(void (*)(void))meaning;
    name.Buffer = path;
    name.Length = sizeof path - sizeof *path;
    name.MaximumLength = sizeof path;
    InitializeObjectAttributes(&attributes, &name, 0, NULL, NULL);
    NTSTATUS e = create(out, SYNCHRONIZE, &attributes, &status, NULL, 0,
                        FILE_SHARE_READ | FILE_SHARE_WRITE, FILE_OPEN, 0, NULL, 0);
    if (e != 0) return reactor__util_code((int)code(e));
    if (CreateIoCompletionPort(*out, port, 0, 0)) return 0;
    int r = reactor__util_error();
    CloseHandle(*out);
    return r;
}

/* Makes another group of polls and puts them on the free list. */
static int reactor__windows_grow(reactor__windows *b) {
    if (b->count == b->cap) {
        void *grown = reactor__util_grown(b->groups, &b->cap, b->count + 1, sizeof *b->groups);
        if (!grown) return -ENOMEM;
        b->groups = (reactor__windows_group **)grown;
    }
    reactor__windows_group *group = REACTOR__NEW(reactor__windows_group);
    if (!group) return -ENOMEM;
    int e = reactor__windows_open(b->port, &group->device);
    if (e < 0) {
        REACTOR_FREE(group);
        return e;
    }
    b->groups[b->count] = group;
    for (uint32_t i = REACTOR__WINDOWS_GROUP; i-- > 0;) {
        group->ops[i].device = group->device;
        group->ops[i].number = b->count * REACTOR__WINDOWS_GROUP + i;
        group->ops[i].slot = REACTOR__NONE;
        group->ops[i].next = b->free_head;
        b->free_head = group->ops[i].number;
    }
    b->count++;
    return 0;
}

/* Cancels all polls and waits for their completions, because until then the kernel writes to
   their memory. */
static void reactor__windows_fini(reactor__core *core) {
    reactor__windows *b = (reactor__windows *)core->data;
    ULONG n;
    for (uint32_t i = 0; i < b->count; i++) CancelIoEx(b->groups[i]->device, NULL);
    while (b->pending &&
           GetQueuedCompletionStatusEx(b->port, b->entries, core->batch, &n, 1000, FALSE))
        while (n-- > 0) b->pending -= b->entries[n].lpOverlapped != NULL;
    for (uint32_t i = 0; i < b->count; i++) {
        CloseHandle(b->groups[i]->device);
        /* if a completion does not come, losing the memory is better than freeing it */
        if (!b->pending) REACTOR_FREE(b->groups[i]);
    }
    /* waits until reactor__windows_ring has returned */
    if (b->watched) UnregisterWaitEx(b->watched, INVALID_HANDLE_VALUE);
    if (b->timer) CloseHandle(b->timer);
    CloseHandle(b->port);
    REACTOR_FREE(b->groups);
    REACTOR_FREE(b->entries);
    REACTOR_FREE(b);
}

static int reactor__windows_init(reactor__core *core) {
    reactor__windows *b = REACTOR__NEW(reactor__windows);
    if (!b) return -ENOMEM;
    b->free_head = b->todo.head = b->later.head = REACTOR__NONE;
    b->entries = (OVERLAPPED_ENTRY *)REACTOR_MALLOC(core->batch * sizeof *b->entries);
    /* No limit of threads: one that has run the loop counts until it waits elsewhere, and must
       not keep the thread that destroys the loop from getting completions. */
    b->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, INT_MAX);
    int e = b->port ? 0 : reactor__util_error();
    if (!b->entries) e = -ENOMEM;
    /* this also finds out whether the driver can be opened */
    if (e == 0) e = reactor__windows_grow(b);
    if (e == 0) {
        b->timer = CreateWaitableTimerExW(NULL, NULL, REACTOR__WINDOWS_PRECISE, TIMER_ALL_ACCESS);
        core->data = b;
        return 0;
    }
    if (b->port) CloseHandle(b->port);
    REACTOR_FREE(b->groups);
    REACTOR_FREE(b->entries);
    REACTOR_FREE(b);
    return e;
}

/* The driver's events for an interest. RDHUP alone is an interest in errors, which are reported
   once. */
static uint32_t reactor__windows_events(unsigned interest, int told) {
    const unsigned any = REACTOR__CORE_EVENTS | REACTOR__CORE_RDHUP;
    uint32_t events = 0;
    if (!(interest & any) || (told && !(interest & REACTOR__CORE_EVENTS))) return 0;
    if (interest & (unsigned)REACTOR_READ)
        events |= REACTOR__WINDOWS_RECEIVE | REACTOR__WINDOWS_ACCEPT | REACTOR__WINDOWS_DISCONNECT;
    if (interest & (unsigned)REACTOR_WRITE) events |= REACTOR__WINDOWS_SEND;
    if (interest & REACTOR__CORE_PRI) events |= REACTOR__WINDOWS_EXPEDITED;
    return events | REACTOR__WINDOWS_ABORT | REACTOR__WINDOWS_FAILED | REACTOR__WINDOWS_CLOSED;
}

/* Starts a poll. Its completion comes through the port, even if it completes at once. */
static int reactor__windows_ask(reactor__windows *b, reactor__windows_op *op, uint32_t events) {
    memset(&op->overlapped, 0, sizeof op->overlapped);
    op->info.timeout.QuadPart = INT64_MAX;
    op->info.count = 1;
    op->info.exclusive = 0;
    op->info.handle = op->base;
    op->info.events = events;
    op->info.status = 0;
    if (!DeviceIoControl(op->device, REACTOR__WINDOWS_POLL, &op->info, sizeof op->info, &op->info,
                         sizeof op->info, NULL, &op->overlapped) &&
        GetLastError() != ERROR_IO_PENDING)
        return reactor__util_error();
    op->asked = events;
    op->pending = 1;
    op->changed = 0;
    b->pending++;
    return 0;
}

/* Puts a poll at the end of a queue, unless it is in one. */
static void reactor__windows_list(const reactor__windows *b, reactor__windows_op *op,
                                  reactor__windows_queue *queue) {
    if (op->listed) return;
    op->listed = 1;
    op->next = REACTOR__NONE;
    if (queue->head == REACTOR__NONE)
        queue->head = op->number;
    else
        reactor__windows_at(b, queue->tail)->next = op->number;
    queue->tail = op->number;
}

/* Frees a poll whose socket was removed, unless it is pending or in a queue: then whoever takes
   it out of there frees it. */
static void reactor__windows_drop(reactor__windows *b, uint32_t n) {
    reactor__windows_op *op = reactor__windows_at(b, n);
    if (op->pending || op->listed) return;
    op->next = b->free_head;
    b->free_head = n;
}

/* Finds the driver's own socket. Some layers on top of it hide it, against Winsock's rules;
   these answer the query that WSAPoll makes with the socket of the layer below, which is asked
   in turn. */
static int reactor__windows_base(reactor_socket fd, SOCKET *base) {
    DWORD n;
    for (int layers = 0; layers < 16; layers++) {
        SOCKET below = fd;
        if (WSAIoctl(fd, REACTOR__WINDOWS_BASE, NULL, 0, base, sizeof *base, &n, NULL, NULL) == 0)
            return 0;
        int e = reactor__util_error();
        if (WSAIoctl(fd, REACTOR__WINDOWS_BELOW, NULL, 0, &below, sizeof below, &n, NULL, NULL) ||
            below == fd)
            return e;
        fd = below;
    }
    return -ELOOP;
}

/* Takes a poll for a socket and returns its number, or a negative errno. */
static int64_t reactor__windows_take(reactor__windows *b, reactor_socket fd) {
    SOCKET base;
    int type, len = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, (char *)&type, &len) != 0) return -EBADF;
    int e = reactor__windows_base(fd, &base);
    if (e == 0 && b->free_head == REACTOR__NONE) e = reactor__windows_grow(b);
    if (e < 0) return e;
    uint32_t at = b->free_head;
    reactor__windows_op *op = reactor__windows_at(b, at);
    b->free_head = op->next;
    op->base = (HANDLE)base;
    return at;
}

/* Lets go of a socket's poll. If that is pending it is cancelled, and freed by its completion. */
static void reactor__windows_remove(reactor__windows *b, uint32_t n) {
    reactor__windows_op *op = reactor__windows_at(b, n);
    op->slot = REACTOR__NONE;
    if (op->pending) CancelIoEx(op->device, &op->overlapped);
    reactor__windows_drop(b, n);
}

/* A slot's aux is the number of its poll. 1: what could not be checked here is found out in
   wait. */
static int reactor__windows_set(reactor__core *core, uint32_t index, unsigned before,
                                unsigned after, int closing) {
    reactor__windows *b = (reactor__windows *)core->data;
    const reactor__core_slot *slot = reactor__core_at(core, index);
    uint32_t *aux = reactor__core_aux(core, index);
    (void)closing;
    if (!after) {
        reactor__windows_remove(b, *aux);
        return 0;
    }
    if (!before) {
        int64_t n = reactor__windows_take(b, slot->fd);
        if (n < 0) return (int)n;
        *aux = (uint32_t)n;
        reactor__windows_at(b, *aux)->slot = index;
    }
    reactor__windows_op *op = reactor__windows_at(b, *aux);
    op->told = 0;
    op->changed = before != 0;
    if (!op->pending) {
        reactor__windows_list(b, op, &b->todo);
    } else if ((reactor__windows_events(after, 0) & ~op->asked) && !op->cancelled) {
        op->cancelled = 1;
        b->cancelled++;
        CancelIoEx(op->device, &op->overlapped);
    }
    return 1;
}

/* A poll has found its socket closed. The socket is silent until it is removed, but a change of
   its interest is refused. */
static void reactor__windows_closed(reactor__core *core, reactor__windows_op *op) {
    if (op->changed) reactor__core_refused(core, op->slot);
    op->changed = 0;
}

/* Starts the polls of a queue. Those for which there is no memory are tried again with the next
   call. */
static void reactor__windows_update(reactor__core *core, reactor__windows *b,
                                    reactor__windows_queue *queue) {
    uint32_t n = queue->head;
    queue->head = REACTOR__NONE;
    while (n != REACTOR__NONE) {
        reactor__windows_op *op = reactor__windows_at(b, n);
        uint32_t next = op->next;
        op->listed = 0;
        if (op->slot == REACTOR__NONE)
            reactor__windows_drop(b, n);
        else if (!op->pending) {
            uint32_t events =
                reactor__windows_events(reactor__core_at(core, op->slot)->armed, op->told);
            int e = events ? reactor__windows_ask(b, op, events) : 0;
            if (e == -ENOMEM || e == -ENOBUFS)
                reactor__windows_list(b, op, &b->todo);
            else if (e == -EBADF)
                reactor__windows_closed(core, op);
            else if (e < 0)
                reactor__core_refused(core, op->slot);
        }
        n = next;
    }
}

/* Translates the events of a completed poll and reports them. */
static void reactor__windows_report(reactor__core *core, reactor__windows_op *op) {
    const uint32_t got = op->info.events;
    unsigned events = 0;
    if (got & (REACTOR__WINDOWS_RECEIVE | REACTOR__WINDOWS_ACCEPT | REACTOR__WINDOWS_DISCONNECT))
        events |= (unsigned)REACTOR_READ;
    if (got & REACTOR__WINDOWS_SEND) events |= (unsigned)REACTOR_WRITE;
    if (got & REACTOR__WINDOWS_EXPEDITED) events |= REACTOR__CORE_PRI;
    if (got & (REACTOR__WINDOWS_ABORT | REACTOR__WINDOWS_FAILED))
        events |= REACTOR__CORE_BOTH | REACTOR__CORE_INFO;
    events &= reactor__core_at(core, op->slot)->armed | REACTOR__CORE_INFO;
    if (!events) return; /* less is wanted than was asked for */
    op->told = 1;
    reactor__core_report_slot(core, op->slot, events);
}

/* A poll's completion has come: reports what it found, and lists it to be asked for again. */
static void reactor__windows_ended(reactor__core *core, reactor__windows *b,
                                   reactor__windows_op *op) {
    const uint32_t dead = REACTOR__WINDOWS_ABORT | REACTOR__WINDOWS_FAILED;
    /* A poll may complete without events; then info.events still has those that were asked for. */
    int told = op->overlapped.Internal == 0 && op->info.count;
    /* A cancelled poll may have completed before; what it found is reported by the next one. */
    if (told && op->cancelled) told = (op->info.events & (dead | REACTOR__WINDOWS_CLOSED)) != 0;
    b->pending--;
    b->cancelled -= op->cancelled;
    op->pending = op->cancelled = 0;
    if (op->slot == REACTOR__NONE) {
        reactor__windows_drop(b, op->number);
        return;
    }
    const uint32_t before = core->report_count;
    if (told && (op->info.events & REACTOR__WINDOWS_CLOSED)) {
        reactor__windows_closed(core, op);
        return;
    }
    if (told) reactor__windows_report(core, op);
    reactor__windows_list(b, op, core->report_count > before ? &b->later : &b->todo);
}

/* Wakes the loop, from any thread, by a packet that is no poll's completion. rung tells such
   packets from the timer's, and from those that were taken back. */
static int reactor__windows_wake(const reactor__core *core, int on) {
    reactor__windows *b = (reactor__windows *)core->data;
    DWORD saved = GetLastError();
    REACTOR__STORE(&b->rung, on);
    int e = !on || PostQueuedCompletionStatus(b->port, 0, 0, NULL) ? 0 : reactor__util_error();
    SetLastError(saved);
    return e;
}

/* Handles one packet of the port: a completion, a wake-up or the timer. */
static void reactor__windows_packet(reactor__core *core, reactor__windows *b,
                                    const OVERLAPPED_ENTRY *entry) {
    if (entry->lpOverlapped)
        reactor__windows_ended(core, b, (reactor__windows_op *)(void *)entry->lpOverlapped);
    else if (REACTOR__EXCHANGE(&b->rung, 0))
        reactor__core_report_slot(core, core->waker, REACTOR_READ);
}

/* Runs in the thread pool when the timer goes off: its packet ends the wait. */
static VOID CALLBACK reactor__windows_ring(PVOID port, BOOLEAN timed_out) {
    (void)timed_out;
    PostQueuedCompletionStatus((HANDLE)port, 0, 0, NULL);
}

/* Sets the timer, and returns whether it is set. A timer of high resolution may not have a
   completion routine, so the thread pool waits for it. */
static int reactor__windows_set_timer(reactor__windows *b, int64_t timeout) {
    LARGE_INTEGER due;
    if (!b->timer || timeout <= 0) return 0;
    /* negative: from now on, in units of 100 ns */
    due.QuadPart = -(timeout / 100 + (timeout % 100 != 0));
    if (!b->watched && !RegisterWaitForSingleObject(&b->watched, b->timer, reactor__windows_ring,
                                                    b->port, INFINITE, WT_EXECUTEINWAITTHREAD)) {
        b->watched = NULL;
        return 0;
    }
    return SetWaitableTimer(b->timer, &due, 0, NULL, NULL, FALSE) != 0;
}

/* How long one call may wait. Not at all if core has a refusal to look at; only a short time
   while polls are cancelled, whose completions take no time to speak of, or could not be started
   for want of memory. */
static int64_t reactor__windows_patience(const reactor__core *core, const reactor__windows *b,
                                         int64_t timeout) {
    const int64_t soon = 10 * REACTOR__MS;
    if (core->dirty_head != REACTOR__NONE) return 0;
    if (timeout == 0) return b->cancelled ? soon : 0;
    if (timeout > REACTOR__UTIL_NAP) timeout = REACTOR__UTIL_NAP;
    return b->todo.head != REACTOR__NONE && (timeout < 0 || timeout > soon) ? soon : timeout;
}

/* One call of the port; returns how many packets came. The port counts time in ticks of 15 ms or
   so, so the timer ends the wait when its time has come. */
static int reactor__windows_call(reactor__core *core, reactor__windows *b, uint32_t room,
                                 int64_t timeout) {
    ULONG n = 0;
    reactor__windows_update(core, b, &b->todo);
    timeout = reactor__windows_patience(core, b, timeout);
    int ms = reactor__util_wait_ms(timeout);
    int timed = reactor__windows_set_timer(b, timeout);
    BOOL done = GetQueuedCompletionStatusEx(b->port, b->entries, room, &n,
                                            ms < 0 ? INFINITE : (DWORD)ms, FALSE);
    DWORD e = done ? 0 : GetLastError();
    if (timed) CancelWaitableTimer(b->timer);
    if (e) return e == WAIT_TIMEOUT ? 0 : reactor__util_code((int)e);
    for (ULONG i = 0; i < n; i++) reactor__windows_packet(core, b, &b->entries[i]);
    return (int)n;
}

/* Waits until there is something to report or the time is over by the loop's clock, for the port
   may return early. While cancelled polls have not been asked anew it takes up to four more
   glances. */
static int reactor__windows_wait(reactor__core *core, int64_t timeout) {
    reactor__windows *b = (reactor__windows *)core->data;
    const uint32_t before = core->report_count;
    int64_t until = timeout > 0 ? reactor__util_add(reactor__util_clock(), timeout) : 0;
    reactor__windows_update(core, b, &b->later);
    for (int glances = 0;;) {
        uint32_t told = core->report_count - before;
        if (told >= core->limit) return 0;
        int n = reactor__windows_call(core, b, core->limit - told, timeout);
        if (n < 0) return n;
        if (core->report_count > before || core->dirty_head != REACTOR__NONE) timeout = 0;
        if (timeout > 0 && until != REACTOR__NEVER) {
            timeout = until - reactor__util_clock();
            if (timeout < 0) timeout = 0;
        }
        if (timeout != 0) continue;
        int more = b->cancelled || b->todo.head != REACTOR__NONE;
        if (core->report_count == before && n) more = 1;
        if (!more || glances++ >= 4) return 0;
    }
}

static const reactor__core_backend reactor__windows_backend = {"windows",
                                                               REACTOR__CORE_BEST,
                                                               REACTOR__CORE_TELLS_PRIORITY,
                                                               reactor__windows_init,
                                                               reactor__windows_fini,
                                                               reactor__windows_set,
                                                               reactor__windows_wait,
                                                               NULL,
                                                               NULL,
                                                               reactor__windows_wake,
                                                               NULL};
#undef REACTOR__CORE_BEST
#define REACTOR__CORE_BEST (&reactor__windows_backend)
#endif
/* ==== >> poll ==== */
/* ppoll(2), or poll(2) where that is missing. The kernel is given a dense array; a slot's aux is
   its place there. When more descriptors are ready than a batch holds, the next scan begins
   where this one ended, so each has its turn.

   Traps. poll ignores entries with fd -1; watchers with no interest use that, because an entry
   without events would still report hang-ups, for ever. A descriptor that was closed without
   being removed is POLLNVAL in every call: its entry becomes -1 too, and so does that of a
   watcher whose only interest is the end, once that was reported. poll refuses more entries than
   RLIMIT_NOFILE: select takes over. */
#if defined(REACTOR_USE_POLL) && defined(_WIN32)
#error "reactor.h: REACTOR_USE_POLL needs poll(2); on Windows there are WINDOWS and SELECT"
#elif defined(REACTOR_USE_POLL) || (defined(REACTOR_USE_ALL) && !defined(_WIN32))

/* Interests and events are poll's own bits, here and where select and kqueue ask poll. */
REACTOR__STATIC_CHECK(poll_same_bits, (unsigned)POLLIN == (unsigned)REACTOR_READ &&
                                          (unsigned)POLLOUT == (unsigned)REACTOR_WRITE &&
                                          (unsigned)POLLERR == (unsigned)REACTOR_ERROR &&
                                          (unsigned)POLLHUP == (unsigned)REACTOR_HANGUP);

typedef struct reactor__poll {
    struct pollfd *fds; /* the array that the kernel is given */
    uint32_t *who;      /* the slot of each entry */
    uint32_t count, cap, at;
} reactor__poll;

#if defined(__linux__) && defined(SYS_ppoll)
/* Calls ppoll by its number, because <poll.h> declares it only with _GNU_SOURCE. The kernel's
   timespec has two longs. A filter or an old kernel may not know the call (ENOSYS). */
static int reactor__poll_call(struct pollfd *fds, uint32_t count, int64_t timeout) {
    long t[2];
    t[0] = (long)(timeout / 1000000000 < LONG_MAX ? timeout / 1000000000 : LONG_MAX);
    t[1] = (long)(timeout % 1000000000);
    int n = (int)syscall(SYS_ppoll, fds, (nfds_t)count, timeout < 0 ? NULL : t, NULL, (size_t)8);
    if (n >= 0 || errno != ENOSYS) return n;
    return poll(fds, (nfds_t)count, reactor__util_wait_ms(timeout));
}
#else
static int reactor__poll_call(struct pollfd *fds, uint32_t count, int64_t timeout) {
    return poll(fds, (nfds_t)count, reactor__util_wait_ms(timeout));
}
#endif

REACTOR__COLD static int reactor__poll_init(reactor__core *core) {
    core->data = REACTOR__NEW(reactor__poll);
    return core->data ? 0 : -ENOMEM;
}

REACTOR__COLD static void reactor__poll_fini(reactor__core *core) {
    reactor__poll *b = (reactor__poll *)core->data;
    REACTOR_FREE(b->fds);
    REACTOR_FREE(b->who);
    REACTOR_FREE(b);
}

/* Makes room for one more entry. cap is what both arrays hold: if the second cannot grow, the
   first has room to spare. */
REACTOR__COLD static int reactor__poll_grow(reactor__poll *b) {
    uint32_t cap = b->cap;
    if (b->count < b->cap) return 0;
    void *fds = reactor__util_grown(b->fds, &cap, b->count + 1, sizeof *b->fds);
    if (!fds) return -ENOMEM;
    b->fds = (struct pollfd *)fds;
    void *who = REACTOR_REALLOC(b->who, (size_t)cap * sizeof *b->who);
    if (!who) return -ENOMEM;
    b->who = (uint32_t *)who;
    b->cap = cap;
    return 0;
}

/* Removes an entry; the last one takes its place. */
static void reactor__poll_remove(reactor__core *core, reactor__poll *b, uint32_t place) {
    uint32_t last = --b->count;
    b->fds[place] = b->fds[last];
    b->who[place] = b->who[last];
    *reactor__core_aux(core, b->who[place]) = place;
}

/* The kernel would report a bad descriptor only in the next wait, too late for the caller, so
   this asks at once. */
static int reactor__poll_set(reactor__core *core, uint32_t index, unsigned before, unsigned after,
                             int closing) {
    reactor__poll *b = (reactor__poll *)core->data;
    const reactor__core_slot *slot = reactor__core_at(core, index);
    uint32_t *aux = reactor__core_aux(core, index);
    (void)closing;
    if (!after) {
        reactor__poll_remove(core, b, *aux);
        return 0;
    }
    int e = reactor__util_waitable(slot->fd);
    if (e < 0) return e;
    if (!before) {
        if (reactor__poll_grow(b) < 0) return -ENOMEM;
        *aux = b->count;
        b->who[b->count++] = index;
    }
    struct pollfd *p = &b->fds[*aux];
    const unsigned fin = after & (unsigned)REACTOR_HANGUP ? REACTOR__CORE_RDHUP : 0u;
    p->events = reactor__util_asked((after & (REACTOR__CORE_BOTH | REACTOR__CORE_PRI)) | fin);
    p->fd = after & (REACTOR__CORE_EVENTS | REACTOR__CORE_RDHUP) ? slot->fd : -1;
    p->revents = 0;
    return 0;
}

/* Fills in revents from what select has said, and returns how many entries have any. */
static int reactor__poll_note(const reactor__poll *b, const reactor__util_word *in,
                              const reactor__util_word *out, const reactor__util_word *priority) {
    int n = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        struct pollfd *p = &b->fds[i];
        if (p->fd < 0) continue;
        int said = reactor__util_has_bit(in, p->fd) ? POLLIN : 0;
        if (reactor__util_has_bit(out, p->fd)) said |= POLLOUT;
        if (reactor__util_has_bit(priority, p->fd)) said |= POLLPRI;
        p->revents = (short)said;
        n += said != 0;
    }
    return n;
}

/* select refuses to wait because of closed descriptors: marks these as poll would, POLLNVAL. */
REACTOR__COLD static int reactor__poll_note_closed(const reactor__poll *b) {
    int n = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        struct pollfd *p = &b->fds[i];
        const int closed = p->fd >= 0 && !reactor__util_is_open(p->fd);
        p->revents = closed ? POLLNVAL : 0;
        n += closed;
    }
    return n;
}

/* Waits with select(2) until poll(2) works again. poll refuses more entries than RLIMIT_NOFILE,
   which a program may have lowered beneath what is open, as sandboxes do; select does not.
   select reports hang-ups and errors as input or room, and their watchers find out by reading or
   writing; a watcher that waits for nothing but the end is not called meanwhile. */
REACTOR__NOINLINE static int reactor__poll_by_select(reactor__poll *b, int64_t timeout) {
    int top = 0;
    for (uint32_t i = 0; i < b->count; i++)
        if (b->fds[i].fd >= top) top = b->fds[i].fd + 1;
    if (top > REACTOR__UTIL_SET_LIMIT) return -EINVAL;
    const size_t words = (size_t)(top / REACTOR__UTIL_WORD_BITS + 1);
    reactor__util_word *in =
        (reactor__util_word *)reactor__util_zeroed(3 * words * sizeof(reactor__util_word));
    if (!in) return -ENOMEM;
    reactor__util_word *out = in + words, *priority = out + words;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct pollfd *p = &b->fds[i];
        if (p->fd < 0) continue;
        if (p->events & POLLIN) reactor__util_put_bit(in, p->fd, 1);
        if (p->events & POLLOUT) reactor__util_put_bit(out, p->fd, 1);
        if (p->events & POLLPRI) reactor__util_put_bit(priority, p->fd, 1);
    }
    int n = reactor__util_select(top, in, out, priority, timeout);
    if (n >= 0) n = reactor__poll_note(b, in, out, priority);
    if (n == -EBADF) n = reactor__poll_note_closed(b);
    REACTOR_FREE(in);
    return n;
}

/* The kernel returns how many entries have something (left), so the scan stops at the last of
   them. */
static int reactor__poll_wait(reactor__core *core, int64_t timeout) {
    reactor__poll *b = (reactor__poll *)core->data;
    int left = reactor__poll_call(b->fds, b->count, timeout);
    if (left < 0) left = errno == EINVAL ? reactor__poll_by_select(b, timeout) : -errno;
    if (left < 0) return left;
    uint32_t at = b->at, budget = core->limit;
    for (uint32_t i = 0; i < b->count && left > 0 && budget > 0; i++) {
        if (at >= b->count) at = 0;
        struct pollfd *p = &b->fds[at];
        const unsigned hints = REACTOR__CORE_PRI | REACTOR__CORE_RDHUP;
        unsigned events = reactor__util_told(p) & (REACTOR__CORE_BOTH | hints | REACTOR__CORE_INFO);
        if (p->revents) left--;
        if ((p->revents & POLLNVAL) || (events && !p->events)) p->fd = -1;
        if (events && !(p->revents & POLLNVAL)) {
            reactor__core_report_slot(core, b->who[at], events);
            budget--;
        }
        at++;
    }
    b->at = at;
    return 0;
}

#ifdef POLLRDHUP
enum { REACTOR__POLL_TRAITS = REACTOR__CORE_TELLS_PRIORITY | REACTOR__CORE_TELLS_FIN };
#else
enum { REACTOR__POLL_TRAITS = REACTOR__CORE_TELLS_PRIORITY };
#endif

static const reactor__core_backend reactor__poll_backend = {"poll",
                                                            REACTOR__CORE_BEST,
                                                            REACTOR__POLL_TRAITS,
                                                            reactor__poll_init,
                                                            reactor__poll_fini,
                                                            reactor__poll_set,
                                                            reactor__poll_wait,
                                                            NULL,
                                                            NULL,
                                                            NULL,
                                                            reactor__core_keep};
#undef REACTOR__CORE_BEST
#define REACTOR__CORE_BEST (&reactor__poll_backend)
#endif
/* ==== >> kqueue ==== */
/* kqueue(2) of the BSDs and macOS; on Linux over libkqueue, by which it is tested.

   Reading and writing are two filters of a descriptor, and their events are merged into one
   report. Changes are sent with the wait, in its one call. Errors of an addition are asked for
   at once (EV_RECEIPT); a change that is refused later makes the call return before it waits.

   Traps. EV_EOF tells neither a half-close from a hang-up nor an error on every system, so what
   has ended is asked with one poll(2). EV_CLEAR would report room with every acknowledgement, so
   streams use levels. A close removes the filters. A forked child has no kqueue, and the number
   may be another file's. libkqueue sees no close, takes locks where a signal may come, and
   cannot be polled: over it deletions are sent before the close, and neither wake nor fd is
   offered. */
#if defined(REACTOR_USE_KQUEUE) && !defined(REACTOR__BSD) && defined(__has_include)
#if !__has_include(<sys/event.h>)
#error "reactor.h: REACTOR_USE_KQUEUE needs a BSD or macOS, or the <sys/event.h> of libkqueue"
#undef REACTOR_USE_KQUEUE
#endif
#endif
#if defined(REACTOR_USE_KQUEUE) || (defined(REACTOR_USE_ALL) && defined(REACTOR__BSD))
#include <sys/event.h>

/* 1 if kqueue is the kernel's own, 0 over libkqueue. The tests' imitation of a kernel sets it
   itself. */
#if !defined(REACTOR__KQUEUE_NATIVE) && defined(REACTOR__BSD)
#define REACTOR__KQUEUE_NATIVE 1
#elif !defined(REACTOR__KQUEUE_NATIVE)
#define REACTOR__KQUEUE_NATIVE 0
#endif

enum { REACTOR__KQUEUE_CHANGES = 64, REACTOR__KQUEUE_EVENTS = 1024 };

/* the idents of the two EVFILT_USER filters */
enum { REACTOR__KQUEUE_WAKER = 0, REACTOR__KQUEUE_ALARM = 1 };

/* in a report, inside wait: EV_EOF came, and poll is to be asked */
#define REACTOR__KQUEUE_ENDED 0x10000u

typedef struct reactor__kqueue {
    int fd;
    uint16_t count; /* how many changes wait to be sent */
    uint16_t batch; /* how many events a wait may take */
    uint32_t told;  /* how many reports were there before this wait */
    int soon;       /* the alarm is the second EVFILT_USER, and set off, not a timer */
    int64_t at;     /* when the alarm goes off; NEVER: it is not set; -1: not known */
    struct kevent *events;
    struct pollfd *ended;
    struct kevent changes[REACTOR__KQUEUE_CHANGES]; /* to be sent with the next call */
} reactor__kqueue;

#if defined(__NetBSD__) && !defined(EVFILT_USER)
typedef intptr_t reactor__kqueue_udata; /* before NetBSD 10 */
#else
typedef void *reactor__kqueue_udata;
#endif

static const struct timespec reactor__kqueue_now = {0, 0};

/* Adds a change to those to be sent. udata is the slot's index plus 1, and comes back with
   events and refusals; 0 is for deletions, whose refusal concerns nobody. */
static struct kevent *reactor__kqueue_change(reactor__kqueue *b, uintptr_t ident, unsigned flags,
                                             uintptr_t udata) {
    struct kevent *k = &b->changes[b->count++];
    memset(k, 0, sizeof *k);
    k->ident = ident;
    k->flags = (unsigned short)flags;
    k->udata = (reactor__kqueue_udata)udata;
    return k;
}

/* The slot of an event or a refusal; NONE if that slot has another descriptor by now. */
static uint32_t reactor__kqueue_owner(const reactor__core *core, const struct kevent *e) {
    uint32_t index = (uint32_t)(uintptr_t)e->udata - 1;
    if (index >= core->count) return REACTOR__NONE;
    return reactor__core_at(core, index)->fd == (reactor_socket)e->ident ? index : REACTOR__NONE;
}

/* Whether an error means that a file has no readiness. Every system says it differently. */
static int reactor__kqueue_is_always(int e) {
    return e == -EPERM || e == -EINVAL || e == -ENODEV || e == -ENOTSUP || e == -EOPNOTSUPP;
}

/* Translates the refusal of a filter. NetBSD returns EBADF for a pipe without a reader, where
   others return EPIPE; and EINVAL for a pipe's other direction, in which nothing will ever
   happen, so that is no error. macOS returns EINVAL for /dev/tty too, which is not always ready. */
static int reactor__kqueue_meaning(const reactor__core_slot *slot, int e) {
    struct stat st;
    if (e == -EBADF && fcntl(slot->fd, F_GETFD) >= 0) return -EPIPE;
    if (e == -EINVAL && fstat(slot->fd, &st) == 0 && S_ISFIFO(st.st_mode)) return 0;
    return reactor__kqueue_is_always(e) && !isatty(slot->fd) ? -EPERM : e;
}

/* An addition was refused after set had returned: core applies it once more, then its watcher
   gets ERROR. Returns 1 for a pipe that nobody reads, which is a state and no refusal: see
   reactor__kqueue_unread. */
static int reactor__kqueue_refused(reactor__core *core, const struct kevent *e) {
    uint32_t index = reactor__kqueue_owner(core, e);
    if (index == REACTOR__NONE) return 0;
    int meaning = reactor__kqueue_meaning(reactor__core_at(core, index), -(int)e->data);
    if (meaning == -EPIPE) return 1;
    if (meaning < 0) reactor__core_refused(core, index);
    return 0;
}

/* Has the slot's filters added again with the next wait. */
static void reactor__kqueue_again(reactor__core *core, uint32_t index) {
    reactor__core_at(core, index)->flags |= REACTOR__CORE_REARM;
    reactor__core_touch_again(core, index);
}

/* Sends the changes without waiting. Each change gets a receipt in its own place (EV_RECEIPT);
   without receipts the call would return events as well. The refusals of the first `concern`
   changes are handed to core; the caller handles the others. */
static int reactor__kqueue_send(reactor__core *core, reactor__kqueue *b, uint16_t concern) {
    int n;
    for (uint16_t i = 0; i < b->count; i++) b->changes[i].flags |= EV_RECEIPT;
    do n = kevent(b->fd, b->changes, b->count, b->changes, b->count, &reactor__kqueue_now);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    for (int i = 0; i < n && i < concern; i++)
        if (b->changes[i].data && reactor__kqueue_refused(core, &b->changes[i]))
            reactor__core_refused(core, reactor__kqueue_owner(core, &b->changes[i]));
    b->count = 0;
    return 0;
}

/* Makes room for the four changes that one call may need at most. */
static int reactor__kqueue_room(reactor__core *core, reactor__kqueue *b) {
    if (b->count <= REACTOR__KQUEUE_CHANGES - 4) return 0;
    return reactor__kqueue_send(core, b, b->count);
}

/* Whether the end of a descriptor comes only by its reading filter: on NetBSD that alone reports
   that the reader of a pipe has gone, and nothing else ever comes of it. */
#if defined(__NetBSD__) || defined(REACTOR__KQUEUE_ENDS_BY_READING)
static int reactor__kqueue_ends_by_reading(const reactor__core_slot *slot) {
    struct stat st;
    return fstat(slot->fd, &st) == 0 && S_ISFIFO(st.st_mode);
}
#else
static int reactor__kqueue_ends_by_reading(const reactor__core_slot *slot) {
    (void)slot;
    return 0;
}
#endif

/* The filters that an interest needs. RDHUP alone hears of the peer's end by edges of the
   reading filter; data among these is dropped by core. */
static unsigned reactor__kqueue_meant(const reactor__core_slot *slot, unsigned interest) {
    const unsigned alone = interest & (REACTOR__CORE_BOTH | REACTOR__CORE_RDHUP);
    if ((alone & REACTOR__CORE_BOTH) == (unsigned)REACTOR_WRITE &&
        reactor__kqueue_ends_by_reading(slot))
        return interest | (unsigned)REACTOR_READ;
    if (alone != REACTOR__CORE_RDHUP) return interest;
    return interest | (unsigned)REACTOR_READ | (unsigned)REACTOR_EDGE;
}

/* Adds the changes that lead from one interest to another. */
static void reactor__kqueue_filters(reactor__core *core, reactor__kqueue *b, uint32_t index,
                                    unsigned before, unsigned after) {
    const reactor__core_slot *slot = reactor__core_at(core, index);
    /* a filter keeps the flags that it was added with */
    const unsigned edge = (unsigned)REACTOR_EDGE;
    before = reactor__kqueue_meant(slot, before);
    after = reactor__kqueue_meant(slot, after);
    const int anew = ((before ^ after) & edge) || (slot->flags & REACTOR__CORE_REARM);
    const unsigned add = (unsigned)EV_ADD | (after & edge ? (unsigned)EV_CLEAR : 0u);
    /* additions come last, because libkqueue mixes the flags of both filters */
    for (int adds = 0; adds < 2; adds++) {
        unsigned is = adds ? after : before, other = adds ? before : after;
        for (int writes = 0; writes < 2; writes++) {
            unsigned bit = writes ? (unsigned)REACTOR_WRITE : (unsigned)REACTOR_READ;
            if (!(is & bit) || ((other & bit) && !anew)) continue;
            struct kevent *k =
                reactor__kqueue_change(b, (uintptr_t)slot->fd, adds ? add : (unsigned)EV_DELETE,
                                       adds ? (uintptr_t)index + 1 : 0);
            k->filter = writes ? EVFILT_WRITE : EVFILT_READ;
        }
    }
}

/* FreeBSD 15 accepts /dev/null and never reports READ of it; other systems refuse it or report
   it. */
static int reactor__kqueue_is_null(const struct stat *st) {
    struct stat null;
    if (!S_ISCHR(st->st_mode) || stat("/dev/null", &null) < 0) return 0;
    return S_ISCHR(null.st_mode) && null.st_rdev == st->st_rdev;
}

/* Whether a descriptor is a file that is always ready: 1, 0 or -errno. Streams are known not to
   be, so only watchers are asked. */
static int reactor__kqueue_is_file(const reactor__core_slot *slot) {
    struct stat st;
    if (slot->kind != REACTOR__CORE_WATCHER) return 0;
    if (fstat(slot->fd, &st) < 0) return -errno;
    if (reactor__kqueue_is_null(&st)) return 1;
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode);
}

/* Adds a slot's filters and asks at once whether the kernel takes them. An interest of nothing
   is tried as READ and deleted again, to find out whether the descriptor can be watched at all. */
static int reactor__kqueue_add(reactor__core *core, uint32_t index, unsigned after) {
    reactor__kqueue *b = (reactor__kqueue *)core->data;
    const reactor__core_slot *slot = reactor__core_at(core, index);
    int e = reactor__kqueue_is_file(slot);
    if (e > 0) return -EPERM;
    if (e == 0) e = reactor__kqueue_room(core, b);
    if (e < 0) return e;
    const int silent = !(after & REACTOR__CORE_BOTH); /* interest of nothing: see above */
    const unsigned tried = silent ? (unsigned)REACTOR_READ : after;
    const uint16_t first = b->count;
    reactor__kqueue_filters(core, b, index, 0, tried);
    const uint16_t end = b->count;
    if (silent) reactor__kqueue_filters(core, b, index, tried, 0);
    e = reactor__kqueue_send(core, b, first);
    if (e < 0) {
        b->count = first;
        return e;
    }
    for (uint16_t i = first; i < end && e == 0; i++)
        e = reactor__kqueue_meaning(slot, -(int)b->changes[i].data);
    if (e == 0) return 0;
    if (e == -EPIPE) { /* a pipe that nobody reads: its watcher gets ERROR in the next wait */
        reactor__kqueue_again(core, index);
        return 0;
    }
    reactor__kqueue_filters(core, b, index, tried, 0);
    reactor__kqueue_send(core, b, 0);
    return e;
}

/* A forked child has no kqueue, and a kernel forgets what is closed: there is nothing to do for
   either. */
static int reactor__kqueue_set(reactor__core *core, uint32_t index, unsigned before, unsigned after,
                               int closing) {
    reactor__kqueue *b = (reactor__kqueue *)core->data;
    if (core->child || (closing && REACTOR__KQUEUE_NATIVE)) return 0;
    if (!before) return reactor__kqueue_add(core, index, after);
    int e = reactor__kqueue_room(core, b);
    if (e < 0) return e; /* also for a removal: reactor__kqueue_event makes up for a lost one */
    reactor__kqueue_filters(core, b, index, before, after);
    if (!after && !REACTOR__KQUEUE_NATIVE) reactor__kqueue_send(core, b, b->count);
    return 1;
}

/* ---- the wait ---- */

/* Finds or adds the report of this slot in this wait, and stores its place in aux. Both filters'
   events go there, and so does an error that core has reported of it. */
static void reactor__kqueue_place(reactor__core *core, const reactor__kqueue *b, uint32_t index) {
    uint32_t *aux = reactor__core_aux(core, index);
    if (*aux < core->report_count && core->reports[*aux].index == index) return;
    for (*aux = 0; *aux < b->told; ++*aux)
        if (core->reports[*aux].index == index) return;
    *aux = core->report_count;
    reactor__core_report_slot(core, index, 0);
}

/* Reports ERROR for a pipe's write end whose filter was refused because nobody reads, as after
   an event that was its filter's last (EV_ONESHOT). A level is reported in every turn, as poll
   does: the filter is added again and refused again, which costs no call of its own. */
static void reactor__kqueue_unread(reactor__core *core, reactor__kqueue *b, uint32_t index) {
    reactor__core_slot *slot = reactor__core_at(core, index);
    reactor__kqueue_place(core, b, index);
    core->reports[*reactor__core_aux(core, index)].events |=
        (unsigned)REACTOR_ERROR | (slot->armed & (unsigned)REACTOR_WRITE);
    if (!(slot->armed & (unsigned)REACTOR_EDGE)) reactor__kqueue_again(core, index);
}

/* Takes one event of a descriptor. An event of no slot, or one that is not armed, means that a
   deletion was lost (the call failed, or memory was short); it is sent again, or that event
   would end every wait. A filter whose last event this is (FreeBSD: the other end of a pipe is
   closed) is added again. */
static void reactor__kqueue_event(reactor__core *core, reactor__kqueue *b, const struct kevent *e) {
    uint32_t index = reactor__kqueue_owner(core, e);
    unsigned events = e->filter == EVFILT_WRITE ? (unsigned)REACTOR_WRITE : (unsigned)REACTOR_READ;
    if (index == REACTOR__NONE || !(reactor__kqueue_meant(reactor__core_at(core, index),
                                                          reactor__core_at(core, index)->armed) &
                                    events)) {
        if (b->count < REACTOR__KQUEUE_CHANGES)
            reactor__kqueue_change(b, e->ident, (unsigned)EV_DELETE, 0)->filter = e->filter;
        return;
    }
    if ((e->flags & EV_ONESHOT) && !(reactor__core_at(core, index)->armed & (unsigned)REACTOR_EDGE))
        reactor__kqueue_again(core, index);
    if (e->flags & EV_EOF) events |= REACTOR__KQUEUE_ENDED;
    if (e->fflags) events |= (unsigned)REACTOR_ERROR;
    reactor__kqueue_place(core, b, index);
    core->reports[*reactor__core_aux(core, index)].events |=
        events &
        (reactor__core_at(core, index)->armed | REACTOR__CORE_INFO | REACTOR__KQUEUE_ENDED);
}

/* Asks poll what the ends mean. What the event brought is kept, because poll does not show an
   error on every system, nor room beside an end on macOS. Of libkqueue's events only the error
   is kept. */
static void reactor__kqueue_ask(reactor__core *core, reactor__kqueue *b) {
    nfds_t n = 0;
    for (uint32_t i = 0; i < core->report_count; i++) {
        if (!(core->reports[i].events & REACTOR__KQUEUE_ENDED)) continue;
        const reactor__core_slot *slot = reactor__core_at(core, core->reports[i].index);
        b->ended[n].fd = slot->fd;
        b->ended[n].events = (short)(slot->armed & REACTOR__CORE_BOTH);
        b->ended[n++].revents = 0;
    }
    /* if poll fails, the next read or write finds out */
    const int asked = n && poll(b->ended, n, 0) >= 0;
    n = 0;
    for (uint32_t i = 0; i < core->report_count; i++) {
        reactor__core_report *report = &core->reports[i];
        if (!(report->events & REACTOR__KQUEUE_ENDED)) continue;
        const struct pollfd *p = &b->ended[n++];
        const unsigned said = reactor__util_polled(p) & (REACTOR__CORE_BOTH | REACTOR__CORE_INFO);
        report->events &= ~REACTOR__KQUEUE_ENDED;
        if (!asked || (p->revents & POLLNVAL)) continue; /* some systems cannot poll it */
        if (!REACTOR__KQUEUE_NATIVE) report->events &= (unsigned)REACTOR_ERROR;
        report->events |= said;
    }
}

/* Drops reports that have no events: of what is not armed, or ends of which poll knows nothing. */
static void reactor__kqueue_sift(reactor__core *core, const reactor__kqueue *b) {
    uint32_t kept = b->told;
    for (uint32_t i = b->told; i < core->report_count; i++)
        if (core->reports[i].events) core->reports[kept++] = core->reports[i];
    core->report_count = kept;
}

/* Takes the n events of a call; returns how many of them were refusals of changes. */
static int reactor__kqueue_take(reactor__core *core, reactor__kqueue *b, int n) {
    int refusals = 0;
    unsigned flags = 0;
    for (int i = 0; i < n; i++) {
        const struct kevent *e = &b->events[i];
        if (e->flags & EV_ERROR) {
            refusals++;
            if (e->data && reactor__kqueue_refused(core, e))
                reactor__kqueue_unread(core, b, reactor__kqueue_owner(core, e));
        } else if (e->filter == EVFILT_READ || e->filter == EVFILT_WRITE) {
            flags |= e->flags;
            reactor__kqueue_event(core, b, e);
        } else if (e->filter == EVFILT_TIMER || e->ident == REACTOR__KQUEUE_ALARM) {
            b->at = REACTOR__NEVER;
            b->soon = 0;
        } else
            reactor__core_report_slot(core, core->waker, REACTOR_READ);
    }
    if (flags & EV_EOF) reactor__kqueue_ask(core, b);
    reactor__kqueue_sift(core, b);
    return refusals;
}

/* kevent has failed. After EINTR the changes were applied; they are sent again, which does no
   harm. After another error nobody knows which ones were: all slots concerned are applied again,
   both filters deleted first, and the deletions of slots that are gone are kept. */
static int reactor__kqueue_failed(reactor__core *core, reactor__kqueue *b, int e) {
    const uint16_t count = b->count;
    if (e == -EINTR) return e;
    b->count = 0;
    for (uint16_t i = 0; i < count; i++) {
        const struct kevent *k = &b->changes[i];
        uint32_t index = reactor__core_find(core, (reactor_socket)k->ident);
        if (k->filter != EVFILT_READ && k->filter != EVFILT_WRITE) continue;
        if (index == REACTOR__NONE) {
            b->changes[b->count++] = *k;
            continue;
        }
        reactor__core_slot *slot = reactor__core_at(core, index);
        slot->armed |= (uint16_t)REACTOR__CORE_BOTH;
        reactor__core_update_tag(slot);
        slot->flags |= REACTOR__CORE_REARM;
        reactor__core_touch_again(core, index);
    }
    return e;
}

/* Kernels of the BSDs have refused more than this, some even less. */
static const struct timespec *reactor__kqueue_timeout(struct timespec *t, int64_t ns) {
    const int64_t most = INT_MAX * REACTOR__MS; /* 24 days */
    if (ns < 0) return NULL;
    if (ns > most) ns = most;
    t->tv_sec = (time_t)(ns / 1000000000);
    t->tv_nsec = (long)(ns % 1000000000);
    return t;
}

/* One wait: sends the changes and takes the events, in one call. */
static int reactor__kqueue_wait(reactor__core *core, int64_t timeout) {
    reactor__kqueue *b = (reactor__kqueue *)core->data;
    const uint16_t limit = core->limit < b->batch ? (uint16_t)core->limit : b->batch;
    struct timespec t;
    int n, refusals;
    b->told = core->report_count;
    const struct timespec *until = reactor__kqueue_timeout(&t, timeout);
    if (b->count > limit) { /* no room for as many refusals */
        int e = reactor__kqueue_send(core, b, b->count);
        if (e < 0) return reactor__kqueue_failed(core, b, e);
    }
    do { /* Again if it brought refusals alone, for then it has not waited. */
        n = kevent(b->fd, b->changes, b->count, b->events, limit, until);
        if (n < 0) return reactor__kqueue_failed(core, b, -errno);
        b->count = 0;
        refusals = reactor__kqueue_take(core, b, n);
        if (core->dirty_head != REACTOR__NONE || core->report_count > b->told)
            until = &reactor__kqueue_now;
    } while (n && n == refusals);
    return 0;
}

/* ---- being woken, being nested ---- */

#if REACTOR__KQUEUE_NATIVE && defined(EVFILT_USER)
/* Sends changes of EVFILT_USER. */
static int reactor__kqueue_user(const reactor__kqueue *b, struct kevent *k, uint16_t n) {
    for (uint16_t i = 0; i < n; i++) k[i].filter = EVFILT_USER;
    return kevent(b->fd, k, n, NULL, 0, NULL) < 0 ? -errno : 0;
}

/* Wakes the loop, or takes that back, from any thread and from signal handlers: it makes system
   calls and nothing else. Taking it back deletes and adds the filter, because EV_CLEAR in a
   change means different things on different systems. A wake-up that comes in between finds no
   filter (ENOENT): the loop is awake then, and looks. If adding had failed, the wake-up adds the
   filter again. */
static int reactor__kqueue_wake(const reactor__core *core, int on) {
    const reactor__kqueue *b = (const reactor__kqueue *)core->data;
    struct kevent k[3];
    memset(k, 0, sizeof k);
    k[0].flags = EV_DELETE;
    k[1].flags = EV_ADD | EV_CLEAR;
    k[2].fflags = NOTE_TRIGGER; /* FreeBSD ignores it in the change that adds */
    int saved = errno;
    int e = on ? reactor__kqueue_user(b, k + 2, 1) : reactor__kqueue_user(b, k, 2);
    if (e == -ENOENT && on) e = reactor__kqueue_user(b, k + 1, 2);
    errno = saved;
    return e;
}

/* Adds the filters of the wake-up, and of an alarm that is due at once, for which a timer would
   be a tick late. */
static int reactor__kqueue_wake_open(const reactor__kqueue *b) {
    struct kevent k[2];
    memset(k, 0, sizeof k);
    k[0].flags = k[1].flags = EV_ADD | EV_CLEAR;
    k[1].ident = REACTOR__KQUEUE_ALARM;
    return reactor__kqueue_user(b, k, 2);
}

/* Adds a change of the alarm's EVFILT_USER. */
static struct kevent *reactor__kqueue_alarm_change(reactor__core *core, unsigned flags) {
    reactor__kqueue *b = (reactor__kqueue *)core->data;
    struct kevent *k = reactor__kqueue_change(b, REACTOR__KQUEUE_ALARM, flags, 0);
    k->filter = EVFILT_USER;
    return k;
}

/* Takes back an alarm that was set off. It deletes and adds, as for a wake-up that is taken
   back. */
static void reactor__kqueue_calm(reactor__core *core) {
    reactor__kqueue_alarm_change(core, (unsigned)EV_DELETE);
    reactor__kqueue_alarm_change(core, (unsigned)(EV_ADD | EV_CLEAR));
}

/* Makes the kqueue readable at once. Returns 0 if the system has no EVFILT_USER. */
static int reactor__kqueue_set_off(reactor__core *core) {
    reactor__kqueue_alarm_change(core, 0)->fflags = NOTE_TRIGGER;
    return 1;
}
#define REACTOR__KQUEUE_WAKE reactor__kqueue_wake
#else
static int reactor__kqueue_wake_open(const reactor__kqueue *b) {
    (void)b;
    return 0;
}

static void reactor__kqueue_calm(reactor__core *core) { (void)core; }

static int reactor__kqueue_set_off(reactor__core *core) {
    (void)core;
    return 0;
}
#define REACTOR__KQUEUE_WAKE NULL /* OpenBSD had no EVFILT_USER for long: a pipe */
#endif

/* A kqueue is readable while it has events, so it is the descriptor for nesting itself. */
static int reactor__kqueue_fd(reactor__core *core) {
    return REACTOR__KQUEUE_NATIVE ? ((reactor__kqueue *)core->data)->fd : -ENOTSUP;
}

#ifdef __NetBSD__
#define REACTOR__KQUEUE_SOON 1 /* it refuses a timer of 0 */
#else
#define REACTOR__KQUEUE_SOON 0
#endif

/* Sets the alarm. If it is not known which kind is set (-1) both are taken back: four changes at
   most. */
static void reactor__kqueue_timer(reactor__core *core, reactor__kqueue *b, int64_t at) {
    if (b->soon || b->at < 0) reactor__kqueue_calm(core);
    if (!b->soon && b->at != REACTOR__NEVER)
        reactor__kqueue_change(b, 0, (unsigned)EV_DELETE, 0)->filter = EVFILT_TIMER;
    b->at = at;
    b->soon = 0;
    if (at == REACTOR__NEVER) return;
    int64_t left = at - reactor__util_clock();
    if (left <= 0) b->soon = reactor__kqueue_set_off(core);
    if (b->soon) return;
    struct kevent *k = reactor__kqueue_change(b, 0, (unsigned)(EV_ADD | EV_ONESHOT), 0);
    k->filter = EVFILT_TIMER;
    k->data = reactor__util_wait_ms(left > 0 ? left : REACTOR__KQUEUE_SOON);
}

/* Sets the alarm and sends the changes: an outer loop that waits for the descriptor sees only
   what the kernel knows. */
static int reactor__kqueue_alarm(reactor__core *core, int64_t at) {
    reactor__kqueue *b = (reactor__kqueue *)core->data;
    int e = reactor__kqueue_room(core, b);
    if (e == 0 && at != b->at) reactor__kqueue_timer(core, b, at);
    const uint16_t n = b->count;
    if (n && e == 0) e = reactor__kqueue_send(core, b, n);
    if (e < 0) {
        b->at = -1; /* not known */
        return reactor__kqueue_failed(core, b, e);
    }
    const short last = n ? (short)b->changes[n - 1].filter : (short)EVFILT_READ;
    if (at == REACTOR__NEVER || last == (short)EVFILT_READ || last == (short)EVFILT_WRITE) return 0;
    return -(int)b->changes[n - 1].data;
}

/* ---- init and fini ---- */

static void reactor__kqueue_free(reactor__kqueue *b) {
    REACTOR_FREE(b->events);
    REACTOR_FREE(b->ended);
    REACTOR_FREE(b);
}

/* Makes the kqueue and the wake-up's filters. */
static int reactor__kqueue_open(reactor__kqueue *b) {
    if (!b->events || !b->ended) return -ENOMEM;
    b->fd = REACTOR__KQUEUE_NATIVE ? reactor__util_above(kqueue()) : kqueue();
    if (b->fd < 0) return -errno;
    /* a forked child does not have it, but an exec without a fork keeps it */
    int e = reactor__util_cloexec(b->fd);
    if (e == 0) e = reactor__kqueue_wake_open(b);
    if (e < 0) reactor__util_close(b->fd);
    return e;
}

static int reactor__kqueue_init(reactor__core *core) {
    reactor__kqueue *b = REACTOR__NEW(reactor__kqueue);
    if (!b) return -ENOMEM;
    b->at = REACTOR__NEVER;
    b->batch = REACTOR__KQUEUE_EVENTS;
    if (core->batch < b->batch) b->batch = (uint16_t)core->batch;
    b->events = (struct kevent *)REACTOR_MALLOC(b->batch * sizeof *b->events);
    b->ended = (struct pollfd *)REACTOR_MALLOC(2 * core->batch * sizeof *b->ended);
    int e = reactor__kqueue_open(b);
    if (e < 0)
        reactor__kqueue_free(b);
    else
        core->data = b;
    return e;
}

static void reactor__kqueue_fini(reactor__core *core) {
    reactor__kqueue *b = (reactor__kqueue *)core->data;
    if (!core->child) reactor__util_close(b->fd);
    reactor__kqueue_free(b);
}

static const reactor__core_backend reactor__kqueue_backend = {"kqueue",
                                                              REACTOR__CORE_BEST,
                                                              0,
                                                              reactor__kqueue_init,
                                                              reactor__kqueue_fini,
                                                              reactor__kqueue_set,
                                                              reactor__kqueue_wait,
                                                              reactor__kqueue_fd,
                                                              reactor__kqueue_alarm,
                                                              REACTOR__KQUEUE_WAKE,
                                                              NULL};
#undef REACTOR__CORE_BEST
#define REACTOR__CORE_BEST (&reactor__kqueue_backend)
#endif
/* ==== >> epoll ==== */
/* Linux's epoll(7), with its three traps:

   It watches open files, not descriptors. A file that was duplicated, or inherited by a child,
   goes on being reported after its descriptor was closed, and can no longer be deleted from the
   set. Such a report names a slot or a generation that is gone, or core finds the slot's
   descriptor closed (verify); then the whole set is built anew. So an outer loop (reactor_fd) is
   given a second set around this one, which stays when this one is replaced.

   It reports errors and hang-ups unasked. With an interest of 0 a level would spin, so such a
   descriptor is registered for edges of nothing. And it refuses what is always ready (regular
   files, /dev/null) with EPERM: core reports those. */
#if defined(REACTOR_USE_EPOLL) && !defined(__linux__)
#error "reactor.h: REACTOR_USE_EPOLL needs Linux"
#elif defined(REACTOR_USE_EPOLL) || defined(REACTOR_USE_IO_URING) ||                               \
    (defined(REACTOR_USE_ALL) && defined(__linux__))
#include <sys/epoll.h>
#include <sys/timerfd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same number on every machine; since Linux 5.11 */
#endif

typedef struct reactor__epoll {
    int fd;
    int outer;  /* the second set, for reactor_fd; -1: not made yet */
    int timer;  /* its timerfd, which is in the set fd; -1: not made yet */
    int64_t at; /* when the timer goes off; NEVER: it is not set */
    int coarse; /* epoll_pwait2 is missing, or a filter forbids it */
} reactor__epoll;

/* The kernel writes its events into core's array of reports, so both have one layout. tcc cannot
   pack the header's struct, so there the two differ; the kernel knows only the packed one. */
#ifndef __TINYC__
REACTOR__STATIC_CHECK(epoll_same_layout,
                      sizeof(reactor__core_report) == sizeof(struct epoll_event) &&
                          offsetof(reactor__core_report, events) ==
                              offsetof(struct epoll_event, events) &&
                          offsetof(reactor__core_report, index) ==
                              offsetof(struct epoll_event, data));
#endif

/* Interests go to the kernel, and its events come back, without being translated. */
REACTOR__STATIC_CHECK(epoll_same_bits, (unsigned)EPOLLIN == (unsigned)REACTOR_READ &&
                                           (unsigned)EPOLLOUT == (unsigned)REACTOR_WRITE &&
                                           (unsigned)EPOLLERR == (unsigned)REACTOR_ERROR &&
                                           (unsigned)EPOLLHUP == (unsigned)REACTOR_HANGUP &&
                                           (unsigned)EPOLLPRI == REACTOR__CORE_PRI &&
                                           (unsigned)EPOLLRDHUP == REACTOR__CORE_RDHUP);

/* epoll_ctl(2), which carries index and generation instead of a pointer. */
static int reactor__epoll_ctl(int set, int what, int fd, unsigned events, uint32_t index,
                              uint32_t tag) {
    reactor__core_report e;
    memset(&e, 0, sizeof e);
    e.events = events;
    e.index = index;
    e.tag = tag;
    return epoll_ctl(set, what, fd, (struct epoll_event *)(void *)&e) < 0 ? -errno : 0;
}

/* Makes the set, in size bytes that become core->data. The memory begins with an epoll struct;
   io_uring's has more behind it. */
REACTOR__COLD static int reactor__epoll_make(reactor__core *core, size_t size) {
    reactor__epoll *b = (reactor__epoll *)reactor__util_zeroed(size);
    if (!b) return -ENOMEM;
    b->outer = b->timer = -1;
    b->fd = reactor__util_above(epoll_create1(EPOLL_CLOEXEC));
    if (b->fd < 0) {
        int e = -errno;
        REACTOR_FREE(b);
        return e;
    }
    core->data = b;
    return 0;
}

REACTOR__COLD static void reactor__epoll_fini(reactor__core *core) {
    reactor__epoll *b = (reactor__epoll *)core->data;
    reactor__util_close(b->fd);
    if (b->outer >= 0) reactor__util_close(b->outer);
    if (b->timer >= 0) reactor__util_close(b->timer);
    REACTOR_FREE(b);
}

/* Adds, modifies or deletes a slot in a set. MOD arms again whatever was armed before, so an
   edge that is still there is reported again. */
static int reactor__epoll_control(const reactor__core *core, int set, int what, uint32_t index,
                                  unsigned interest) {
    unsigned events = interest & (REACTOR__CORE_BOTH | REACTOR__CORE_PRI | REACTOR__CORE_RDHUP);
    if (interest & (unsigned)REACTOR_HANGUP) events |= REACTOR__CORE_RDHUP;
    if (interest & (unsigned)REACTOR_EDGE || !events) events |= (unsigned)EPOLLET;
    if (interest & (unsigned)REACTOR_ONESHOT) events |= (unsigned)EPOLLONESHOT;
    const reactor__core_slot *slot = reactor__core_at(core, index);
    return reactor__epoll_ctl(set, what, slot->fd, events, index, slot->tag & ~1u);
}

/* Applies an interest. A number that was registered may be another open file's by now: then MOD
   returns ENOENT, and it is added. */
static int reactor__epoll_set(reactor__core *core, uint32_t index, unsigned before, unsigned after,
                              int closing) {
    reactor__epoll *b = (reactor__epoll *)core->data;
    if (core->child) return 0; /* the set is the parent's too */
    if (!after) {
        if (!closing) reactor__epoll_control(core, b->fd, EPOLL_CTL_DEL, index, 0);
        /* closed before, so the kernel has forgotten it; or a duplicate is left: see wait */
        return 0;
    }
    if (before) {
        int known = reactor__epoll_control(core, b->fd, EPOLL_CTL_MOD, index, after);
        if (known != -ENOENT) return known;
        reactor__core_renew(core, index); /* the number is another open file's by now */
    }
    int e = reactor__epoll_control(core, b->fd, EPOLL_CTL_ADD, index, after);
    if (e == -EEXIST) /* the leftover of one that was closed, and then duplicated back */
        e = reactor__epoll_control(core, b->fd, EPOLL_CTL_MOD, index, after);
    return e;
}

/* Replaces the old set by another one, in the outer set too, and under the same number: a number
   that was closed a moment ago may be the lowest that is free, and the next one that the user
   gets. A forked child may hold the old set open, so it is deleted from the outer one
   explicitly. */
REACTOR__COLD static int reactor__epoll_replace(reactor__epoll *b, int fresh) {
    if (b->outer >= 0) {
        int e = reactor__epoll_ctl(b->outer, EPOLL_CTL_ADD, fresh, EPOLLIN, 0, 0);
        if (e < 0) return e;
        reactor__epoll_ctl(b->outer, EPOLL_CTL_DEL, b->fd, 0, 0, 0);
    }
    if (syscall(SYS_dup3, fresh, b->fd, O_CLOEXEC) < 0) {
        reactor__util_close(b->fd);
        b->fd = fresh;
        return 0;
    }
    if (b->outer >= 0 && reactor__epoll_ctl(b->outer, EPOLL_CTL_ADD, b->fd, EPOLLIN, 0, 0) == 0)
        reactor__epoll_ctl(b->outer, EPOLL_CTL_DEL, fresh, 0, 0, 0);
    reactor__util_close(fresh);
    return 0;
}

/* Makes a new set with all that is armed. Without descriptors or memory for it the old one
   stays, and the next stale report tries again. */
REACTOR__COLD static int reactor__epoll_rebuild(reactor__core *core) {
    reactor__epoll *b = (reactor__epoll *)core->data;
    core->stale = 0;
    int fresh = epoll_create1(EPOLL_CLOEXEC), e = 0;
    if (fresh < 0) return -errno;
    for (uint32_t i = 0; i < core->count && e == 0; i++) {
        const reactor__core_slot *slot = reactor__core_at(core, i);
        if (!slot->armed || (slot->flags & REACTOR__CORE_ALWAYS)) continue;
        e = reactor__epoll_control(core, fresh, EPOLL_CTL_ADD, i, slot->armed);
        /* it was closed: it is silent until it is removed or modified */
        if (e != -ENOMEM && e != -ENOSPC) e = 0;
    }
    if (e == 0) e = reactor__epoll_replace(b, fresh);
    if (e < 0)
        reactor__util_close(fresh);
    else
        core->counters.rebuilds++;
    return e;
}

/* A forked child shares set, timer and outer set with its parent, so a change in one would reach
   both. It gets new ones under the same numbers. */
REACTOR__COLD static int reactor__epoll_fork(reactor__core *core) {
    reactor__epoll *b = (reactor__epoll *)core->data;
    int e = 0;
    if (b->timer >= 0)
        e = reactor__util_replace(b->timer,
                                  timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    b->at = REACTOR__NEVER;
    if (e == 0 && b->outer >= 0) e = reactor__util_replace(b->outer, epoll_create1(EPOLL_CLOEXEC));
    return e == 0 ? reactor__epoll_rebuild(core) : e;
}

/* epoll_pwait2 takes nanoseconds. Where it is missing (ENOSYS) or a sandbox forbids it (EPERM),
   epoll_wait takes milliseconds, rounded up so that no timer is early. The choice is made once. */
static int reactor__epoll_call(reactor__epoll *b, struct epoll_event *events, int max,
                               int64_t timeout) {
    if (timeout > 0 && !b->coarse) {
        int64_t t[2]; /* the kernel's timespec has 64 bits each, on 32-bit machines too */
        t[0] = timeout / 1000000000;
        t[1] = timeout % 1000000000;
        int n = (int)syscall(SYS_epoll_pwait2, b->fd, events, max, t, NULL, (size_t)8);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) return n;
        b->coarse = 1;
    }
    return epoll_wait(b->fd, events, max, reactor__util_wait_ms(timeout));
}

/* Waits; the kernel writes the reports to where core reads them. */
static int reactor__epoll_wait(reactor__core *core, int64_t timeout) {
    reactor__epoll *b = (reactor__epoll *)core->data;
    if (REACTOR__UNLIKELY(core->stale) && reactor__epoll_rebuild(core) < 0 && timeout)
        reactor__util_nap(); /* what cannot be removed yet ends every wait, and would spin */
    struct epoll_event *events = (struct epoll_event *)(void *)(core->reports + core->report_count);
    int n = reactor__epoll_call(b, events, (int)core->limit, timeout);
    if (n < 0) return -errno;
    core->report_count += (uint32_t)n;
    return 0;
}

/* Makes the timer of a nested loop. It is one more descriptor in the set, with a slot that calls
   nobody. It is never read: setting it again makes it unreadable. */
REACTOR__COLD static int reactor__epoll_timer_open(reactor__core *core, reactor__epoll *b) {
    int fd = reactor__util_above(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    if (fd < 0) return -errno;
    int64_t index = reactor__core_reserve(core, REACTOR__CORE_INTERNAL, NULL, NULL);
    int e = index < 0 ? (int)index : reactor__core_bind(core, (uint32_t)index, fd, REACTOR_READ);
    if (e == 0) {
        b->timer = fd;
        b->at = REACTOR__NEVER;
        return 0;
    }
    if (index >= 0) reactor__core_release(core, (uint32_t)index);
    reactor__util_close(fd);
    return e;
}

/* Returns the outer set. It holds this set alone, so it is readable when this one has a report. */
REACTOR__COLD static int reactor__epoll_fd(reactor__core *core) {
    reactor__epoll *b = (reactor__epoll *)core->data;
    if (b->outer >= 0) return b->outer;
    int e = b->timer < 0 ? reactor__epoll_timer_open(core, b) : 0;
    if (e < 0) return e;
    int outer = reactor__util_above(epoll_create1(EPOLL_CLOEXEC));
    if (outer < 0) return -errno;
    e = reactor__epoll_ctl(outer, EPOLL_CTL_ADD, b->fd, EPOLLIN, 0, 0);
    if (e < 0) {
        reactor__util_close(outer);
        return e;
    }
    return b->outer = outer;
}

/* Sets the timer to an absolute time of the loop's clock, so no time is lost between reading the
   clock and setting it. */
static int reactor__epoll_alarm(reactor__core *core, int64_t at) {
    reactor__epoll *b = (reactor__epoll *)core->data;
    struct itimerspec t;
    /* once the time has passed it stays readable, for it is never read */
    if (at == b->at) return 0;
    memset(&t, 0, sizeof t);
    if (at != REACTOR__NEVER)
        t.it_value = reactor__util_timespec(at > 0 ? at : 1); /* zero would disarm it */
    if (timerfd_settime(b->timer, TFD_TIMER_ABSTIME, &t, NULL) < 0) return -errno;
    b->at = at;
    return 0;
}

#define REACTOR__EPOLL_TRAITS                                                                      \
    ((unsigned)REACTOR__CORE_HAS_EDGES | (unsigned)REACTOR__CORE_HAS_ONESHOT |                     \
     (unsigned)REACTOR__CORE_REPORTS_CLOSED | (unsigned)REACTOR__CORE_TELLS_PRIORITY |             \
     (unsigned)REACTOR__CORE_TELLS_FIN)

#if defined(REACTOR_USE_EPOLL) || defined(REACTOR_USE_ALL)
static int reactor__epoll_init(reactor__core *core) {
    return reactor__epoll_make(core, sizeof(reactor__epoll));
}

static const reactor__core_backend reactor__epoll_backend = {"epoll",
                                                             REACTOR__CORE_BEST,
                                                             REACTOR__EPOLL_TRAITS,
                                                             reactor__epoll_init,
                                                             reactor__epoll_fini,
                                                             reactor__epoll_set,
                                                             reactor__epoll_wait,
                                                             reactor__epoll_fd,
                                                             reactor__epoll_alarm,
                                                             NULL,
                                                             reactor__epoll_fork};
#undef REACTOR__CORE_BEST
#define REACTOR__CORE_BEST (&reactor__epoll_backend)
#endif
#endif
/* ==== >> io_uring ==== */
/* The epoll backend, with an io_uring(7) beside it that does the receives of a turn with one
   system call, and its sends with another. Readiness, edges, closing, nesting and forking are
   those of the epoll set: this section calls epoll's functions for them.

   Every request is a receive or a send with MSG_DONTWAIT, so it is over when the call that
   submits it returns. Between two calls the ring holds no file and no memory, and nothing has to
   be cancelled. So the ring can be given up at any moment; streams then make a call for each
   transfer.

   Trap. Some milliseconds after a ring is closed the kernel interrupts what the process waits in
   (EINTR). So the first transfer makes the ring, and only fini closes it. */
#if defined(REACTOR_USE_IO_URING) && !defined(__linux__)
#error "reactor.h: REACTOR_USE_IO_URING needs Linux"
#elif defined(REACTOR_USE_IO_URING) || (defined(REACTOR_USE_ALL) && defined(__linux__))

/* The kernel's interface is declared here, because a system's headers may be older than its
   kernel. */
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425 /* the same numbers on every machine */
#define SYS_io_uring_enter 426
#endif
#ifndef REACTOR__IO_URING_ENTRIES
#define REACTOR__IO_URING_ENTRIES 256 /* how many requests one call takes; tests make it 8 */
#endif

enum {
    REACTOR__IO_URING_SEND = 26, /* operations of a request */
    REACTOR__IO_URING_RECEIVE = 27,
    /* a request's flag: it completes visibly only if it fails */
    REACTOR__IO_URING_SILENT = 1 << 6,
    REACTOR__IO_URING_AT_ONCE = 0x4040, /* MSG_DONTWAIT and MSG_NOSIGNAL */
    /* MSG_WAITALL: a send of less than all counts as a failure */
    REACTOR__IO_URING_WHOLE = 0x100,
    /* setup's flag: a request that fails does not stop the rest */
    REACTOR__IO_URING_SUBMIT_ALL = 1 << 7,
    REACTOR__IO_URING_WIPE_ON_FORK = 18, /* advice for madvise */
    REACTOR__IO_URING_SQES = 0x10000000  /* the offset at which the requests are mapped */
};

/* A request, as the kernel lays it out (struct io_uring_sqe). */
typedef struct reactor__io_uring_request {
    uint8_t what, flags;
    uint16_t priority;
    int32_t fd;
    uint64_t offset, address;
    uint32_t len;
    uint32_t how; /* the MSG_x flags */
    uint64_t id;  /* the completion has the same */
    uint64_t unused[3];
} reactor__io_uring_request;

/* A completion (struct io_uring_cqe). */
typedef struct reactor__io_uring_completion {
    uint64_t id;
    int32_t result;
    uint32_t flags;
} reactor__io_uring_completion;

/* What setup takes and returns (struct io_uring_params). The second and third line are offsets
   into the mapped memory. */
typedef struct reactor__io_uring_params {
    uint32_t entries, completions, flags, cpu, idle, features, wq, reserved[3];
    uint32_t head, tail, mask, count, state, dropped, array, unused[3]; /* of the requests */
    uint32_t cq_head, cq_tail, cq_mask, cq_count, overflow, cqes, cq_flags, cq_unused[3];
} reactor__io_uring_params;

typedef struct reactor__io_uring {
    reactor__epoll epoll; /* must be first: core->data is an epoll struct to epoll's functions */
    int fd;               /* the ring's descriptor; -1: not made yet, or given up */
    int *ours;            /* its target is 0 in a forked child only */
    char *rings;
    size_t rings_size, requests_size;
    reactor__io_uring_request *requests;
    reactor__io_uring_completion *completions;
    uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask;
    uint32_t tail; /* the tail of the requests that were written */
} reactor__io_uring;

REACTOR__STATIC_CHECK(io_uring_request_is_the_kernels, sizeof(reactor__io_uring_request) == 64);
REACTOR__STATIC_CHECK(io_uring_completion_is_the_kernels,
                      sizeof(reactor__io_uring_completion) == 16);
REACTOR__STATIC_CHECK(io_uring_params_are_the_kernels, sizeof(reactor__io_uring_params) == 120);
REACTOR__STATIC_CHECK(io_uring_begins_with_epoll, offsetof(reactor__io_uring, epoll) == 0);

/* ---- the ring ---- */

/* Maps a page that the kernel clears in a forked child. The child shares the ring's memory with
   its parent and must not write to it; by this page it knows itself. */
REACTOR__COLD static int *reactor__io_uring_map_ours(void) {
    void *page =
        mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return NULL;
    if (madvise(page, sizeof(int), REACTOR__IO_URING_WIPE_ON_FORK) < 0) {
        munmap(page, sizeof(int));
        return NULL;
    }
    *(int *)page = 1;
    return (int *)page;
}

/* Unmaps and closes the ring. Whatever of it does not exist is left out. */
REACTOR__COLD static void reactor__io_uring_drop(reactor__io_uring *b) {
    if (b->requests) munmap(b->requests, b->requests_size);
    if (b->rings) munmap(b->rings, b->rings_size);
    if (b->ours) munmap(b->ours, sizeof(int));
    if (b->fd >= 0) reactor__util_close(b->fd);
    b->requests = NULL;
    b->rings = NULL;
    b->ours = NULL;
    b->fd = -1;
}

/* Maps the ring. The kernel's index array always names request i at place i. */
REACTOR__COLD static int reactor__io_uring_map(reactor__io_uring *b,
                                               const reactor__io_uring_params *p) {
    const int prot = PROT_READ | PROT_WRITE;
    size_t requests = p->array + p->entries * sizeof(uint32_t);
    size_t answers = p->cqes + p->completions * sizeof *b->completions;
    b->rings_size = requests > answers ? requests : answers;
    b->requests_size = p->entries * sizeof *b->requests;
    void *rings = mmap(NULL, b->rings_size, prot, MAP_SHARED, b->fd, 0);
    void *sqes = mmap(NULL, b->requests_size, prot, MAP_SHARED, b->fd, REACTOR__IO_URING_SQES);
    b->rings = rings == MAP_FAILED ? NULL : (char *)rings;
    b->requests = sqes == MAP_FAILED ? NULL : (reactor__io_uring_request *)sqes;
    b->ours = reactor__io_uring_map_ours();
    if (!b->rings || !b->requests || !b->ours) return -ENOMEM;
    b->completions = (reactor__io_uring_completion *)(void *)(b->rings + p->cqes);
    b->sq_head = (uint32_t *)(void *)(b->rings + p->head);
    b->sq_tail = (uint32_t *)(void *)(b->rings + p->tail);
    b->cq_head = (uint32_t *)(void *)(b->rings + p->cq_head);
    b->cq_tail = (uint32_t *)(void *)(b->rings + p->cq_tail);
    b->sq_mask = p->entries - 1;
    b->cq_mask = p->completions - 1;
    b->tail = 0;
    uint32_t *array = (uint32_t *)(void *)(b->rings + p->array);
    for (uint32_t i = 0; i < p->entries; i++) array[i] = i;
    return 0;
}

/* Makes the ring. Every thread may use it: a ring for a single thread (SINGLE_ISSUER) would save
   work on what completes later, and nothing does. SUBMIT_ALL needs Linux 5.18. */
REACTOR__COLD static int reactor__io_uring_open(reactor__io_uring *b) {
    reactor__io_uring_params p;
    memset(&p, 0, sizeof p);
    p.flags = REACTOR__IO_URING_SUBMIT_ALL;
    b->fd = (int)syscall(SYS_io_uring_setup, REACTOR__IO_URING_ENTRIES, &p);
    if (b->fd < 0) return -errno;
    int e = reactor__io_uring_map(b, &p);
    if (e < 0) reactor__io_uring_drop(b);
    return e;
}

/* ---- transferring ---- */

/* Writes requests for the transfers from `from` on, as many as the ring holds, and returns the
   first one that found no room. The ring is empty before, and it has twice as many completions
   as requests, so completions always have room. The fields that no request here uses stay 0. */
static uint32_t reactor__io_uring_fill(reactor__io_uring *b, reactor__core_transfer *list,
                                       uint32_t from, uint32_t count, int sending) {
    const uint8_t what = sending ? REACTOR__IO_URING_SEND : REACTOR__IO_URING_RECEIVE;
    const uint8_t flags = sending ? REACTOR__IO_URING_SILENT : 0;
    const uint32_t whole = sending ? REACTOR__IO_URING_WHOLE : 0;
    const uint32_t mask = b->sq_mask, end = count - from > mask ? from + mask + 1 : count;
    reactor__io_uring_request *requests = b->requests;
    uint32_t tail = b->tail;
    for (; from < end; from++) {
        const uint32_t len = list[from].len;
        if (sending) list[from].result = (int32_t)len;
        if (!len) continue;
        reactor__io_uring_request *q = &requests[tail++ & mask];
        q->what = what;
        q->flags = flags;
        q->fd = list[from].fd;
        q->address = (uint64_t)(uintptr_t)list[from].data;
        q->len = len;
        q->how = REACTOR__IO_URING_AT_ONCE | whole;
        q->id = from;
    }
    b->tail = tail;
    return from;
}

/* Submits the requests. Those that the kernel has not taken are taken back: they must not happen
   later. */
static int reactor__io_uring_submit(reactor__io_uring *b, reactor__core_transfer *list) {
    uint32_t left;
    int e = 0;
    REACTOR__STORE(b->sq_tail, b->tail);
    while (e == 0 && (left = b->tail - REACTOR__LOAD(b->sq_head)) > 0) {
        int n = (int)syscall(SYS_io_uring_enter, b->fd, left, 0, 0, NULL, (size_t)0);
        if (n <= 0) e = n < 0 ? -errno : -EAGAIN;
    }
    if (e == 0) return 0;
    for (; b->tail != REACTOR__LOAD(b->sq_head); b->tail--)
        list[b->requests[(b->tail - 1) & b->sq_mask].id].result = -EINTR;
    REACTOR__STORE(b->sq_tail, b->tail);
    return e;
}

/* Copies the results out of the completions, and returns how many there were. */
static uint32_t reactor__io_uring_results(const reactor__io_uring *b,
                                          reactor__core_transfer *list) {
    const reactor__io_uring_completion *completions = b->completions;
    const uint32_t first = *b->cq_head, tail = REACTOR__LOAD(b->cq_tail), mask = b->cq_mask;
    for (uint32_t head = first; head != tail; head++)
        list[completions[head & mask].id].result = completions[head & mask].result;
    REACTOR__STORE(b->cq_head, tail);
    return tail - first;
}

/* Does the transfers, as many at a time as the ring holds, unless e is an error already. After
   an error the rest gets -EINTR, "not done". Counts the completions. */
static int reactor__io_uring_move(reactor__io_uring *b, reactor__core_transfer *list,
                                  uint32_t count, int sending, int e, uint32_t *answers) {
    uint32_t at = 0;
    while (e == 0 && at < count) {
        at = reactor__io_uring_fill(b, list, at, count, sending);
        e = reactor__io_uring_submit(b, list);
        *answers += reactor__io_uring_results(b, list);
    }
    for (; at < count; at++) list[at].result = -EINTR;
    return e;
}

/* Ends the use of the ring for good; reactor_backend_reason says why. */
REACTOR__COLD static void reactor__io_uring_give_up(reactor__core *core, int e) {
    core->transfer = NULL;
    snprintf(core->reason, sizeof core->reason, "io_uring, for streams: %s",
             reactor__util_text(-e));
}

/* The transfer function of this backend. Some errors pass, as when memory is short; others last,
   as when the process has installed a filter, and end the use of the ring. */
static int reactor__io_uring_transfer(reactor__core *core, reactor__core_transfer *list,
                                      uint32_t count, int sending) {
    reactor__io_uring *b = (reactor__io_uring *)core->data;
    uint32_t answers = 0;
    int e = b->fd < 0 ? reactor__io_uring_open(b) : 0;
    int lasting = e < 0;
    if (e == 0 && !*b->ours) e = -ECHILD;
    e = reactor__io_uring_move(b, list, count, sending, e, &answers);
    lasting |= e < 0 && e != -EAGAIN && e != -EBUSY && e != -EINTR && e != -ENOMEM;
    if (lasting) reactor__io_uring_give_up(core, e);
    return e < 0 || answers > 0;
}

/* ---- beginning and end ---- */

/* Whether the kernel and its filters allow the two calls. Both are called with invalid arguments
   (no entries; no descriptor), because a real ring would cost memory, and its closing an
   interruption. */
REACTOR__COLD static int reactor__io_uring_try(void) {
    reactor__io_uring_params p;
    memset(&p, 0, sizeof p);
    if (syscall(SYS_io_uring_setup, 0, &p) < 0 && errno != EINVAL) return -errno;
    if (syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, (size_t)0) >= 0) return 0;
    return errno == EBADF || errno == EINTR ? 0 : -errno;
}

REACTOR__COLD static int reactor__io_uring_init(reactor__core *core) {
    int e = reactor__io_uring_try();
    if (e == 0) e = reactor__epoll_make(core, sizeof(reactor__io_uring));
    if (e < 0) return e;
    ((reactor__io_uring *)core->data)->fd = -1;
    core->transfer = reactor__io_uring_transfer;
    return 0;
}

REACTOR__COLD static void reactor__io_uring_fini(reactor__core *core) {
    core->transfer = NULL;
    reactor__io_uring_drop((reactor__io_uring *)core->data);
    reactor__epoll_fini(core);
}

/* A forked child makes a ring of its own when it needs one. */
REACTOR__COLD static int reactor__io_uring_fork(reactor__core *core) {
    reactor__io_uring_drop((reactor__io_uring *)core->data);
    core->transfer = reactor__io_uring_transfer;
    return reactor__epoll_fork(core);
}

static const reactor__core_backend reactor__io_uring_backend = {"io_uring",
                                                                REACTOR__CORE_BEST,
                                                                REACTOR__EPOLL_TRAITS,
                                                                reactor__io_uring_init,
                                                                reactor__io_uring_fini,
                                                                reactor__epoll_set,
                                                                reactor__epoll_wait,
                                                                reactor__epoll_fd,
                                                                reactor__epoll_alarm,
                                                                NULL,
                                                                reactor__io_uring_fork};
#undef REACTOR__CORE_BEST
#define REACTOR__CORE_BEST (&reactor__io_uring_backend)
#endif
/* ==== >> timer ==== */
/* Deadlines and nothing else: a hierarchical timer wheel with ticks of 1 ns and 11 levels of 64
   slots. A timer's level is that of the highest bit in which its deadline and cur differ, so its
   slot follows from these two alone. All timers of one deadline share one FIFO list at any
   moment, and moving a slot's list to lower levels keeps its order: equal deadlines fire in the
   order of their setting without sequence numbers or sorting. Setting and cancelling are O(1),
   where a heap would touch log n cache lines.

   Traps. cur may lag behind the caller's clock, but no slot holds a timer that cur has passed.
   All times and delays are >= 0, and now never goes back. A timer set for a time before cur
   counts as set for cur. FRESH and cancelled timers may still be linked in a list: whoever walks
   a list detaches these first. Spreading a slot takes a step per timer, at most 11 times in a
   timer's life. Memory is kept until fini. */
#define REACTOR__TIMER_LEVELS 11u
#define REACTOR__TIMER_SLOTS  (REACTOR__TIMER_LEVELS * 64u)
#define REACTOR__TIMER_LISTS  (REACTOR__TIMER_SLOTS + 64u)
#define REACTOR__TIMER_CHUNK  256u
#define REACTOR__TIMER_BATCH  64u
#define REACTOR__TIMER_FREE   3u /* levels of bits that find a free node */
/* slots with more timers than this are not searched for the exact deadline */
#define REACTOR__TIMER_SCAN 32u
/* below all times, so comparisons with it need no case of their own */
#define REACTOR__TIMER_UNKNOWN INT64_C(-1)

/* Three lists that are no slots. They count as a level above the highest, so linking and
   unlinking need not tell them apart.

        free node -> FRESH         set_fresh, inside a turn: the deadline is a delay until resolve
        free node -> slot          set, outside a turn (place)
        FRESH -> slot, PAST, ASLEEP   resolve (place): by the deadline, seen from cur
        slot -> lower slot, PAST   advance, when cur reaches the slot
        PAST -> DUE                ripen, up to the turn's budget
        DUE -> free node           pop, of a timer that fires once
        DUE -> slot, PAST, ASLEEP  pop, of a repeating one (place)
        any -> FRESH               reset_fresh; it stays linked until detach
        any -> slot, PAST, ASLEEP  reset (place)
        any -> gone -> free node   cancel, detach; its handle is stale at once */
#define REACTOR__TIMER_PAST (REACTOR__TIMER_SLOTS + 0u) /* deadline <= cur, not collected yet */
/* collected for this turn, to be popped */
#define REACTOR__TIMER_DUE    (REACTOR__TIMER_SLOTS + 1u)
#define REACTOR__TIMER_ASLEEP (REACTOR__TIMER_SLOTS + 2u) /* deadline is REACTOR__NEVER */

/* The bits of a tag below the generation. Only LIVE is also in the timer's handle, so that is
   never 0. */
#define REACTOR__TIMER_LIVE  1u
#define REACTOR__TIMER_UNREF 2u /* does not keep the loop going */
/* the library's own timer; the owner of the wheel looks at this */
#define REACTOR__TIMER_INTERNAL 4u
#define REACTOR__TIMER_FRESH    8u /* the deadline is a delay until resolve */
#define REACTOR__TIMER_BITS     15u

/* What setting and cancelling touch, of timers and of lists alike: a list is a circle through
   its head. A node has twelve bytes in one array, because with many timers these calls cost as
   many cache misses as there are lines touched, and the size of all that is touched decides
   about that. */
typedef struct reactor__timer_node {
    uint32_t next, prev; /* of a timer on no list: the timer itself */
    uint32_t tag;
} reactor__timer_node;

REACTOR__STATIC_CHECK(timer_node_is_small, sizeof(reactor__timer_node) == 12);
REACTOR__STATIC_CHECK(timer_levels_cover_all, REACTOR__TIMER_LEVELS * 6 >= 63);

/* What only firing needs, apart from the nodes. */
typedef struct reactor__timer_call {
    int64_t interval; /* 0: fires once */
    reactor_timer_fn *fn;
    void *user;
} reactor__timer_call;

typedef struct reactor__timer_wheel {
    reactor__timer_node *nodes;  /* the heads of the lists, then the timers */
    int64_t *deadlines;          /* the deadline of each node that is a timer */
    reactor__timer_call **calls; /* the call of each, in chunks, which growing does not copy */
    int64_t cur;                 /* the time from which slots are counted */
    int64_t soonest;     /* no slot holds an earlier deadline; UNKNOWN: it has to be searched for */
    uint32_t first;      /* the timer that has that deadline; NONE: not known which */
    uint32_t free_count; /* how many nodes are free, that is, have a bit in free_bits[0] */
    uint32_t cap, chunk_cap;
    uint32_t made; /* how many nodes were used at least once; those above are raw memory */
    uint32_t seed;
    uint32_t count;       /* how many timers there are */
    uint32_t unref_count; /* of these, how many are UNREF */
    uint32_t levels;      /* a bit for each level that holds any timer */
    uint32_t fresh_count;
    uint32_t gone_count;                  /* how many entries of gone are used */
    uint32_t detached;                    /* how many FRESH ones are known to be on no list */
    uint32_t fresh[REACTOR__TIMER_BATCH]; /* the FRESH ones, in the order of their setting */
    uint32_t gone[REACTOR__TIMER_BATCH];  /* cancelled ones that are still linked */
    uint64_t occupied[REACTOR__TIMER_LEVELS + 1];
    /* bits of the free nodes, see below; each level for cap nodes */
    uint64_t *free_bits[REACTOR__TIMER_FREE];
} reactor__timer_wheel;

/* Makes an empty wheel. The seed makes handles of different wheels differ; any value will do. */
REACTOR__COLD static int reactor__timer_init(reactor__timer_wheel *w, int64_t now, uint32_t seed) {
    memset(w, 0, sizeof *w);
    void *nodes = reactor__util_grown(NULL, &w->cap, REACTOR__TIMER_LISTS, sizeof *w->nodes);
    if (!nodes) return -ENOMEM;
    w->nodes = (reactor__timer_node *)nodes;
    for (uint32_t i = 0; i < REACTOR__TIMER_LISTS; i++) {
        w->nodes[i].next = w->nodes[i].prev = i;
        w->nodes[i].tag = 0;
    }
    w->made = REACTOR__TIMER_LISTS;
    w->cur = now;
    w->soonest = REACTOR__NEVER;
    w->first = REACTOR__NONE;
    w->seed = seed;
    return 0;
}

REACTOR__COLD static void reactor__timer_fini(reactor__timer_wheel *w) {
    for (uint32_t t = REACTOR__TIMER_LISTS; t < w->made; t += REACTOR__TIMER_CHUNK)
        REACTOR_FREE(w->calls[t / REACTOR__TIMER_CHUNK]);
    for (unsigned level = 0; level < REACTOR__TIMER_FREE; level++)
        REACTOR_FREE(w->free_bits[level]);
    REACTOR_FREE(w->calls);
    REACTOR_FREE(w->deadlines);
    REACTOR_FREE(w->nodes);
    memset(w, 0, sizeof *w);
}

/* The call of a timer. */
static reactor__timer_call *reactor__timer_call_of(const reactor__timer_wheel *w, uint32_t t) {
    return &w->calls[t / REACTOR__TIMER_CHUNK][t % REACTOR__TIMER_CHUNK];
}

/* The upper half of a timer's handle: the generation and LIVE. */
static uint32_t reactor__timer_life(uint32_t tag) {
    return tag & ~(REACTOR__TIMER_BITS - REACTOR__TIMER_LIVE);
}

/* The handle of a timer. */
static uint64_t reactor__timer_id(const reactor__timer_wheel *w, uint32_t t) {
    return (uint64_t)reactor__timer_life(w->nodes[t].tag) << 32 | t;
}

/* The timer of a handle; NONE if the handle is stale, of another loop, or forged. */
static inline uint32_t reactor__timer_find(const reactor__timer_wheel *w, uint64_t id) {
    uint32_t t = (uint32_t)(id & UINT32_MAX);
    if (REACTOR__UNLIKELY(t >= w->made || !(id >> 32 & REACTOR__TIMER_LIVE))) return REACTOR__NONE;
    return reactor__timer_life(w->nodes[t].tag) == id >> 32 ? t : REACTOR__NONE;
}

/* ---- lists ---- */

/* Whether a list is empty. */
static int reactor__timer_none(const reactor__timer_wheel *w, uint32_t list) {
    return w->nodes[list].next == list;
}

/* Checks the invariants of a timer that is on a list, and of its neighbours there. */
static void reactor__timer_check(const reactor__timer_wheel *w, uint32_t t) {
    const reactor__timer_node *node = &w->nodes[t];
    REACTOR__CHECK(t >= REACTOR__TIMER_LISTS && t < w->made);
    REACTOR__CHECK(w->nodes[node->next].prev == t && w->nodes[node->prev].next == t);
    REACTOR__CHECK(node->next != t);
    REACTOR__CHECK(w->count >= w->unref_count);
    REACTOR__CHECK(w->free_count + w->count <= w->made - REACTOR__TIMER_LISTS);
    REACTOR__CHECK(w->detached <= w->fresh_count && w->fresh_count <= REACTOR__TIMER_BATCH);
    (void)node;
}

/* Appends a timer to a list. Always at the tail, for this alone keeps equal deadlines in order. */
static inline void reactor__timer_append(reactor__timer_wheel *w, uint32_t t, uint32_t list) {
    reactor__timer_node *nodes = w->nodes;
    uint32_t tail = nodes[list].prev;
    nodes[t].next = list;
    nodes[t].prev = tail;
    nodes[tail].next = nodes[list].prev = t;
    if (tail != list) return;
    w->occupied[list / 64] |= UINT64_C(1) << list % 64;
    w->levels |= 1u << list / 64;
}

/* Notes that a list has become empty. */
REACTOR__NOINLINE static void reactor__timer_vacate(reactor__timer_wheel *w, uint32_t list) {
    w->occupied[list / 64] &= ~(UINT64_C(1) << list % 64);
    if (!w->occupied[list / 64]) w->levels &= ~(1u << list / 64);
    if (list < REACTOR__TIMER_SLOTS) w->soonest = REACTOR__TIMER_UNKNOWN;
}

/* Takes a timer off its list. */
static inline void reactor__timer_unlink(reactor__timer_wheel *w, uint32_t t) {
    reactor__timer_node *nodes = w->nodes;
    uint32_t next = nodes[t].next;
    uint32_t prev = nodes[t].prev;
    nodes[prev].next = next;
    nodes[next].prev = prev;
    if (t == w->first) w->soonest = REACTOR__TIMER_UNKNOWN;
    /* then both are the head of an empty list */
    if (next == prev) reactor__timer_vacate(w, next);
}

/* Empties a list, and returns its first timer, from which the others can be followed up to the
   head. */
static uint32_t reactor__timer_empty(reactor__timer_wheel *w, uint32_t list) {
    uint32_t t = w->nodes[list].next;
    w->nodes[list].next = w->nodes[list].prev = list;
    reactor__timer_vacate(w, list);
    return t;
}

/* Puts a timer on the list that its deadline belongs to, seen from cur. soonest may be UNKNOWN,
   which is below any deadline and so stays what it is. */
static void reactor__timer_place(reactor__timer_wheel *w, uint32_t t, int64_t deadline) {
    uint32_t list = REACTOR__TIMER_PAST;
    w->deadlines[t] = deadline;
    if (REACTOR__UNLIKELY(deadline == REACTOR__NEVER)) {
        list = REACTOR__TIMER_ASLEEP;
    } else if (REACTOR__LIKELY(deadline > w->cur)) {
        unsigned level = (63 - REACTOR__CLZ64((uint64_t)(deadline ^ w->cur))) / 6;
        list = level * 64 + (uint32_t)((uint64_t)deadline >> level * 6 & 63);
        if (deadline < w->soonest) {
            w->soonest = deadline;
            w->first = t;
        }
    }
    reactor__timer_append(w, t, list);
    reactor__timer_check(w, t);
}

/* ---- free nodes ----

   Each free node has a bit, and above these are bits for the words that have any. The lowest
   free node is taken first, so timers that are set one after another lie side by side, in
   whatever order their nodes were freed. A list of free nodes would return them in the order of
   their freeing: after some churn each new timer would cost three cache misses. */

/* How many words a level of the bits has. */
static uint32_t reactor__timer_words(uint32_t cap, unsigned level) {
    return (cap >> 6 * (level + 1)) + 1;
}

/* Makes room for the bits of cap nodes. Without memory some levels are larger than needed, which
   does no harm. */
REACTOR__COLD static int reactor__timer_free_grow(reactor__timer_wheel *w, uint32_t cap) {
    for (unsigned level = 0; level < REACTOR__TIMER_FREE; level++) {
        uint32_t before = w->free_bits[level] ? reactor__timer_words(w->cap, level) : 0;
        uint32_t words = reactor__timer_words(cap, level);
        void *grown = REACTOR_REALLOC(w->free_bits[level], words * sizeof(uint64_t));
        if (!grown) return -ENOMEM;
        w->free_bits[level] = (uint64_t *)grown;
        memset(w->free_bits[level] + before, 0, (words - before) * sizeof(uint64_t));
    }
    return 0;
}

/* Enters a free node. */
static inline void reactor__timer_free_put(reactor__timer_wheel *w, uint32_t t) {
    w->free_count++;
    for (unsigned level = 0; level < REACTOR__TIMER_FREE; level++, t /= 64) {
        uint64_t *word = &w->free_bits[level][t / 64], before = *word;
        *word = before | UINT64_C(1) << t % 64;
        if (before) return; /* the levels above know of this word already */
    }
}

/* Takes the lowest free node. There must be one. */
static inline uint32_t reactor__timer_free_take(reactor__timer_wheel *w) {
    uint32_t at = 0, t;
    w->free_count--;
    while (!w->free_bits[REACTOR__TIMER_FREE - 1][at]) at++;
    for (unsigned level = REACTOR__TIMER_FREE; level-- > 0;)
        at = at * 64 + REACTOR__CTZ64(w->free_bits[level][at]);
    t = at;
    for (unsigned level = 0; level < REACTOR__TIMER_FREE; level++, at /= 64) {
        uint64_t *word = &w->free_bits[level][at / 64];
        *word &= *word - 1;
        if (*word) break;
    }
    return t;
}

/* ---- nodes ---- */

/* Doubles the room for nodes: growing by less, setting a million timers would be mostly copying. */
REACTOR__COLD static int reactor__timer_widen(reactor__timer_wheel *w) {
    uint32_t need = 2 * w->made, cap = w->cap;
    if (need < w->made) return -ENOMEM;
    void *nodes = reactor__util_grown(w->nodes, &cap, need, sizeof *w->nodes);
    if (!nodes) return -ENOMEM;
    w->nodes = (reactor__timer_node *)nodes;
    cap = w->cap;
    void *deadlines = reactor__util_grown(w->deadlines, &cap, need, sizeof *w->deadlines);
    if (!deadlines) return -ENOMEM;
    w->deadlines = (int64_t *)deadlines;
    if (reactor__timer_free_grow(w, cap) < 0) return -ENOMEM;
    w->cap = cap;
    return 0;
}

/* Makes room for a chunk of timers from `made` on. Without memory nothing changes that shows.
   The memory is not zeroed, so what no timer has used need not become resident. */
REACTOR__COLD static int reactor__timer_grow(reactor__timer_wheel *w) {
    uint32_t chunk = w->made / REACTOR__TIMER_CHUNK;
    if (!w->deadlines || w->cap - w->made < REACTOR__TIMER_CHUNK) {
        int e = reactor__timer_widen(w);
        if (e < 0) return e;
    }
    if (chunk >= w->chunk_cap) {
        void *grown = reactor__util_grown(w->calls, &w->chunk_cap, chunk + 1, sizeof *w->calls);
        if (!grown) return -ENOMEM;
        w->calls = (reactor__timer_call **)grown;
    }
    void *calls = REACTOR_MALLOC(REACTOR__TIMER_CHUNK * sizeof(reactor__timer_call));
    if (!calls) return -ENOMEM;
    w->calls[chunk] = (reactor__timer_call *)calls;
    return 0;
}

/* Takes a node, whose tag no live timer has had; NONE without memory. */
static inline uint32_t reactor__timer_take(reactor__timer_wheel *w) {
    uint32_t t;
    if (w->free_count) return reactor__timer_free_take(w);
    if (w->made % REACTOR__TIMER_CHUNK == 0 && reactor__timer_grow(w) < 0) return REACTOR__NONE;
    t = w->made++;
    /* The first generation differs between neighbours, and leaves at least half of all
       generations. */
    w->nodes[t].tag = (w->seed + t * 0x9E3779B0u) & (UINT32_MAX / 2 - REACTOR__TIMER_BITS);
    return t;
}

/* Makes a timer, which is on no list yet; NONE without memory. */
static inline uint32_t reactor__timer_make(reactor__timer_wheel *w, int64_t interval,
                                           reactor_timer_fn *fn, void *user, unsigned flags,
                                           uint64_t *id) {
    uint32_t t = reactor__timer_take(w);
    if (t == REACTOR__NONE) return t;
    reactor__timer_call *call = reactor__timer_call_of(w, t);
    call->interval = interval;
    call->fn = fn;
    call->user = user;
    w->nodes[t].next = w->nodes[t].prev = t;
    w->nodes[t].tag |= REACTOR__TIMER_LIVE | flags;
    w->count++;
    if (flags & REACTOR__TIMER_UNREF) w->unref_count++;
    *id = reactor__timer_id(w, t);
    return t;
}

/* Ends a timer's generation: its handle is stale from here on. */
static inline void reactor__timer_retire(reactor__timer_wheel *w, uint32_t t) {
    uint32_t tag = w->nodes[t].tag;
    w->count--;
    if (REACTOR__UNLIKELY(tag & REACTOR__TIMER_UNREF)) w->unref_count--;
    w->nodes[t].tag = (tag | REACTOR__TIMER_BITS) + 1;
}

/* Frees the node of a retired timer that is on no list. A node that has used up its generations
   is not used again, which costs 44 bytes every 2^27 timers: no old handle ever becomes valid
   again. */
static inline void reactor__timer_free(reactor__timer_wheel *w, uint32_t t) {
    if (REACTOR__UNLIKELY(!w->nodes[t].tag)) return;
    reactor__timer_free_put(w, t);
}

/* ---- fresh timers ----

   Inside callbacks the loop's time is that of before them. A timer set there is FRESH: its
   deadline is a delay, and it waits until the loop reads the clock, so that a slow callback does
   not use up its delay. */

/* Begins to load the neighbours of n timers into the cache. */
static void reactor__timer_fetch(const reactor__timer_wheel *w, const uint32_t *t, uint32_t n) {
    for (; n > 0; n--, t++) {
        REACTOR__PREFETCH(&w->nodes[w->nodes[*t].next]);
        REACTOR__PREFETCH(&w->nodes[w->nodes[*t].prev]);
    }
}

/* Takes FRESH and cancelled timers off their lists. All together, because this touches their
   neighbours, which are seldom in the cache: so their cache misses overlap. Until then deadlines
   in a slot may be delays. */
REACTOR__NOINLINE static void reactor__timer_detach_some(reactor__timer_wheel *w) {
    reactor__timer_fetch(w, w->fresh + w->detached, w->fresh_count - w->detached);
    reactor__timer_fetch(w, w->gone, w->gone_count);
    for (; w->detached < w->fresh_count; w->detached++) {
        uint32_t t = w->fresh[w->detached];
        if (w->nodes[t].next == t) continue;
        reactor__timer_unlink(w, t);
        w->nodes[t].next = w->nodes[t].prev = t;
    }
    for (uint32_t i = 0; i < w->gone_count; i++) {
        uint32_t t = w->gone[i];
        if (w->nodes[t].next != t) reactor__timer_unlink(w, t);
        reactor__timer_free(w, t);
    }
    w->gone_count = 0;
}

/* Detaches, if there is anything to detach. */
static inline void reactor__timer_detach(reactor__timer_wheel *w) {
    if (w->detached != w->fresh_count || w->gone_count) reactor__timer_detach_some(w);
}

/* Takes a timer out of the FRESH ones, because it is set again or cancelled. */
REACTOR__NOINLINE static void reactor__timer_forget(reactor__timer_wheel *w, uint32_t t) {
    uint32_t i = 0;
    while (w->fresh[i] != t) i++;
    w->fresh_count--;
    if (i < w->detached) w->detached--;
    memmove(w->fresh + i, w->fresh + i + 1, (w->fresh_count - i) * sizeof *w->fresh);
    w->nodes[t].tag &= ~REACTOR__TIMER_FRESH;
}

/* Makes a timer FRESH. There must be room for it. */
static inline void reactor__timer_refresh(reactor__timer_wheel *w, uint32_t t, int64_t delay) {
    REACTOR_ASSERT(w->fresh_count < REACTOR__TIMER_BATCH);
    w->deadlines[t] = delay;
    w->nodes[t].tag |= REACTOR__TIMER_FRESH;
    w->fresh[w->fresh_count++] = t;
}

/* Whether the FRESH ones must be resolved before another one is set. */
static int reactor__timer_full(const reactor__timer_wheel *w) {
    return w->fresh_count == REACTOR__TIMER_BATCH;
}

/* Resolves all FRESH timers: each gets the deadline now plus its delay. */
static void reactor__timer_resolve(reactor__timer_wheel *w, int64_t now) {
    reactor__timer_detach(w);
    for (uint32_t i = 0; i < w->fresh_count; i++) {
        uint32_t t = w->fresh[i];
        w->nodes[t].tag &= ~REACTOR__TIMER_FRESH;
        reactor__timer_place(w, t, reactor__util_add(now, w->deadlines[t]));
    }
    w->fresh_count = w->detached = 0;
}

/* ---- setting ---- */

/* Sets a timer. interval 0: it fires once. id must not be NULL, and is left alone on -ENOMEM. */
static int reactor__timer_set(reactor__timer_wheel *w, int64_t deadline, int64_t interval,
                              reactor_timer_fn *fn, void *user, unsigned flags, uint64_t *id) {
    uint32_t t = reactor__timer_make(w, interval, fn, user, flags, id);
    if (t == REACTOR__NONE) return -ENOMEM;
    reactor__timer_place(w, t, deadline);
    return 0;
}

/* Sets a timer whose delay counts from the next resolve. */
static int reactor__timer_set_fresh(reactor__timer_wheel *w, int64_t delay, int64_t interval,
                                    reactor_timer_fn *fn, void *user, unsigned flags,
                                    uint64_t *id) {
    uint32_t t = reactor__timer_make(w, interval, fn, user, flags, id);
    if (t == REACTOR__NONE) return -ENOMEM;
    reactor__timer_refresh(w, t, delay);
    if (w->detached == w->fresh_count - 1) w->detached++;
    return 0;
}

/* Takes a timer off any list, PAST and DUE included: then it does not fire in this turn. */
static inline void reactor__timer_leave(reactor__timer_wheel *w, uint32_t t) {
    if (REACTOR__UNLIKELY(w->nodes[t].tag & REACTOR__TIMER_FRESH)) {
        reactor__timer_forget(w, t);
        if (w->nodes[t].next == t) return;
    }
    reactor__timer_unlink(w, t);
}

/* Sets the deadline of a timer anew. The later times of a repeating one move with it. */
static int reactor__timer_reset(reactor__timer_wheel *w, uint64_t id, int64_t deadline) {
    uint32_t t = reactor__timer_find(w, id);
    if (t == REACTOR__NONE) return -EBADF;
    reactor__timer_leave(w, t);
    reactor__timer_place(w, t, deadline);
    return 0;
}

/* Sets the delay of a timer anew, to count from the next resolve. */
static inline int reactor__timer_reset_fresh(reactor__timer_wheel *w, uint64_t id, int64_t delay) {
    uint32_t t = reactor__timer_find(w, id);
    if (t == REACTOR__NONE) return -EBADF;
    if (REACTOR__UNLIKELY(w->nodes[t].tag & REACTOR__TIMER_FRESH)) reactor__timer_forget(w, t);
    reactor__timer_refresh(w, t, delay);
    return 0;
}

/* Cancels a timer. It stays linked until detach, but its handle is stale. */
static int reactor__timer_cancel(reactor__timer_wheel *w, uint64_t id) {
    uint32_t t = reactor__timer_find(w, id);
    if (t == REACTOR__NONE) return -EBADF;
    if (REACTOR__UNLIKELY(w->nodes[t].tag & REACTOR__TIMER_FRESH)) reactor__timer_forget(w, t);
    if (REACTOR__UNLIKELY(w->gone_count == REACTOR__TIMER_BATCH)) reactor__timer_detach(w);
    reactor__timer_retire(w, t);
    w->gone[w->gone_count++] = t;
    return 0;
}

/* keep 0 makes the timer UNREF, anything else undoes that. */
static int reactor__timer_keep(reactor__timer_wheel *w, uint64_t id, int keep) {
    uint32_t t = reactor__timer_find(w, id);
    if (t == REACTOR__NONE) return -EBADF;
    uint32_t *tag = &w->nodes[t].tag;
    if (*tag & REACTOR__TIMER_UNREF) w->unref_count--;
    *tag &= ~REACTOR__TIMER_UNREF;
    if (!keep) *tag |= REACTOR__TIMER_UNREF;
    if (!keep) w->unref_count++;
    return 0;
}

/* ---- asking ---- */

/* Returns 0 and the timer's deadline; or 1 and its delay while it is FRESH; or -EBADF. */
static int reactor__timer_get(const reactor__timer_wheel *w, uint64_t id, int64_t *deadline) {
    uint32_t t = reactor__timer_find(w, id);
    if (t == REACTOR__NONE) return -EBADF;
    *deadline = w->deadlines[t];
    return (w->nodes[t].tag & REACTOR__TIMER_FRESH) != 0;
}

/* 0: it fires once; -EBADF. */
static int64_t reactor__timer_interval(const reactor__timer_wheel *w, uint64_t id) {
    uint32_t t = reactor__timer_find(w, id);
    return t == REACTOR__NONE ? -EBADF : reactor__timer_call_of(w, t)->interval;
}

/* Enumerates the timers: returns 1 for each, and 0 at the end. *cursor begins at 0. A FRESH
   timer has no deadline yet; cur plus its delay is returned as an estimate. */
static int reactor__timer_each(const reactor__timer_wheel *w, uint32_t *cursor, uint64_t *id,
                               int64_t *deadline, int64_t *interval, unsigned *flags) {
    while (*cursor < w->made) {
        uint32_t t = (*cursor)++;
        *flags = w->nodes[t].tag;
        if (!(*flags & REACTOR__TIMER_LIVE)) continue;
        *id = reactor__timer_id(w, t);
        *deadline = w->deadlines[t];
        if (*flags & REACTOR__TIMER_FRESH) *deadline = reactor__util_add(w->cur, *deadline);
        *interval = reactor__timer_call_of(w, t)->interval;
        return 1;
    }
    return 0;
}

/* The slot of the earliest timers. It is on the lowest level in use, because all of a level lies
   before all of the next. SLOTS or more if all slots are empty. */
static unsigned reactor__timer_first(const reactor__timer_wheel *w) {
    if (!w->levels) return REACTOR__TIMER_SLOTS;
    unsigned level = REACTOR__CTZ64(w->levels);
    return level * 64 + REACTOR__CTZ64(w->occupied[level]);
}

/* The first time that belongs to a slot; it has all higher bits of cur. */
static int64_t reactor__timer_start(const reactor__timer_wheel *w, unsigned slot) {
    unsigned shift = slot / 64 * 6;
    return (int64_t)((((uint64_t)w->cur >> shift & ~UINT64_C(63)) | slot % 64) << shift);
}

/* Searches for soonest again: the earliest deadline of the first slot, or the start of that slot
   if it has too many timers to look at. Then the caller wakes early, and collect spreads the
   slot. */
static void reactor__timer_search(reactor__timer_wheel *w) {
    unsigned slot = reactor__timer_first(w);
    w->soonest = REACTOR__NEVER;
    w->first = REACTOR__NONE;
    if (slot >= REACTOR__TIMER_SLOTS) return;
    uint32_t t = w->nodes[slot].next;
    for (unsigned i = 0; i < REACTOR__TIMER_SCAN && t != slot; i++, t = w->nodes[t].next) {
        if (w->deadlines[t] >= w->soonest) continue;
        w->soonest = w->deadlines[t];
        w->first = t;
    }
    if (t == slot) return;
    w->soonest = reactor__timer_start(w, slot);
    w->first = REACTOR__NONE;
}

/* The time to wait for: the earliest deadline, or a time before it but after cur; cur if any
   timer is due; REACTOR__NEVER if there is none. The caller resolves FRESH ones first. */
static int64_t reactor__timer_next(reactor__timer_wheel *w) {
    reactor__timer_detach(w);
    if (!reactor__timer_none(w, REACTOR__TIMER_PAST)) return w->cur;
    if (!reactor__timer_none(w, REACTOR__TIMER_DUE)) return w->cur;
    if (w->soonest == REACTOR__TIMER_UNKNOWN) reactor__timer_search(w);
    return w->soonest;
}

/* Whether no timer has a deadline to come, though some may be ASLEEP. Every turn asks this, so
   it looks at words of bits and not at lists. */
static inline int reactor__timer_is_idle(const reactor__timer_wheel *w) {
    const uint32_t lists = 1u << REACTOR__TIMER_LEVELS; /* the level of PAST, DUE and ASLEEP */
    const uint32_t changes = w->fresh_count | w->gone_count;
    if (!(w->levels | changes)) return 1;
    return w->levels == lists && !changes && !(w->occupied[REACTOR__TIMER_LEVELS] & 3);
}

/* ---- firing ---- */

/* Moves cur to soonest, which lies in the first slot, and spreads that slot over the levels
   below, which are empty. Afterwards soonest is known without a search, unless all timers went
   to PAST. */
static void reactor__timer_advance(reactor__timer_wheel *w) {
    unsigned slot = reactor__timer_first(w);
    w->cur = w->soonest;
    uint32_t t = reactor__timer_empty(w, slot);
    w->soonest = REACTOR__NEVER;
    while (t != slot) {
        uint32_t next = w->nodes[t].next;
        reactor__timer_place(w, t, w->deadlines[t]);
        t = next;
    }
    if (w->soonest == REACTOR__NEVER) w->soonest = REACTOR__TIMER_UNKNOWN;
}

/* Moves up to budget timers from PAST to DUE, in order, and returns how many. */
static int reactor__timer_ripen(reactor__timer_wheel *w, int budget) {
    int moved = 0;
    while (moved < budget && !reactor__timer_none(w, REACTOR__TIMER_PAST)) {
        uint32_t t = w->nodes[REACTOR__TIMER_PAST].next;
        reactor__timer_unlink(w, t);
        reactor__timer_append(w, t, REACTOR__TIMER_DUE);
        moved++;
    }
    return moved;
}

/* Moves up to budget timers with deadline <= now to DUE, and returns how many. It is called once
   per turn: what callbacks set after it is not in DUE and waits for the next turn. */
static int reactor__timer_collect(reactor__timer_wheel *w, int64_t now, int budget) {
    reactor__timer_detach(w);
    int moved = reactor__timer_ripen(w, budget);
    while (moved < budget) {
        if (w->soonest == REACTOR__TIMER_UNKNOWN) reactor__timer_search(w);
        if (w->soonest > now || w->soonest == REACTOR__NEVER) break;
        reactor__timer_advance(w);
        moved += reactor__timer_ripen(w, budget - moved);
    }
    /* Moving cur forward makes the slots of timers set from here on finer. It does not move into
       a slot: that would spread timers that may be cancelled before they are due. */
    unsigned slot = reactor__timer_first(w);
    if (now > w->cur && (slot >= REACTOR__TIMER_SLOTS || reactor__timer_start(w, slot) > now))
        w->cur = now;
    return moved;
}

/* The next deadline of a repeating timer. If it was missed already, the latest one that was: one
   missed call is made up, those before it are not. A deadline beyond all time puts the timer to
   sleep. */
static int64_t reactor__timer_grid(int64_t deadline, int64_t interval, int64_t now) {
    if (REACTOR__LIKELY(now - deadline < interval)) return reactor__util_add(deadline, interval);
    return now - (now - deadline) % interval;
}

/* Takes the first timer of DUE and returns 1, or 0 if there is none. If it fires once, *id is
   stale already. */
static int reactor__timer_pop(reactor__timer_wheel *w, int64_t now, reactor_timer_fn **fn,
                              void **user, uint64_t *id, int64_t *deadline, unsigned *flags) {
    reactor__timer_detach(w);
    uint32_t t = w->nodes[REACTOR__TIMER_DUE].next;
    if (t == REACTOR__TIMER_DUE) return 0;
    const reactor__timer_call *call = reactor__timer_call_of(w, t);
    *fn = call->fn;
    *user = call->user;
    *id = reactor__timer_id(w, t);
    *deadline = w->deadlines[t];
    *flags = w->nodes[t].tag;
    reactor__timer_unlink(w, t);
    if (call->interval == 0) {
        reactor__timer_retire(w, t);
        reactor__timer_free(w, t);
    } else
        reactor__timer_place(w, t, reactor__timer_grid(*deadline, call->interval, now));
    return 1;
}
/* ==== >> wake ==== */
/* How other threads and signal handlers reach the loop: a queue of tasks under a mutex,
   doorbells (asyncs) without one, and a descriptor (an eventfd, else a pipe) that ends the
   backend's wait.

   woken is 1 from a notification until the loop has looked; asleep is 1 while the loop may wait.
   Whoever notifies sets woken first and looks at asleep second; the loop sets asleep first and
   looks at woken second. So one of them sees the other. A busy loop is notified without a system
   call, a sleeping one with a single write. The loop clears woken before it takes the queue, so
   a post that comes too late for that batch notifies again. A full pipe or eventfd is as good as
   a written one: it is readable.

   Trap: signal handlers notify too, so it uses atomics and write(2) only (signal-safety(7)). */
typedef struct reactor__wake_task {
    reactor_task_fn *fn;
    void *user;
} reactor__wake_task;

/* A queue of tasks; `at` is the next one to run. */
typedef struct reactor__wake_queue {
    reactor__wake_task *tasks;
    uint32_t count, cap, at;
} reactor__wake_queue;

/* A doorbell (reactor_async). Its memory stays where it is as long as the loop lives, because
   other threads may look at it with a stale handle.

        closed -> open    async_open: the next generation, which is odd
        open -> SENT      wake_send, by one sender; the others find it SENT and have nothing to do
        SENT -> open      wake_ring, before its callback is called
        open -> closed    async_close: it goes to the free list
        SENT -> closed    async_close; wake_ring puts it on the free list */
typedef struct reactor__wake_async {
    uint32_t state;       /* atomic: generation (odd while open) times 2, plus SENT */
    uint32_t next;        /* the next one in the list of those sent or free: its index plus 1 */
    reactor_async_fn *fn; /* NULL: closed. Only the loop's thread looks at fn and user. */
    void *user;
} reactor__wake_async;

enum {
    REACTOR__WAKE_SENT = 1,
    REACTOR__WAKE_FIRST = 16, /* how many doorbells the first chunk holds */
    REACTOR__WAKE_CHUNKS = 24
};

/* The wake-up. Its states, by asleep and woken:

        awake (0, 0) -> asleep (1, 0)     fall_asleep, before a wait
        asleep (1, 0) -> awake (0, 0)     the wait has ended for another reason
        awake (0, 0) -> notified (0, 1)   notify: no system call, the loop looks before it waits
        asleep (1, 0) -> notified (0, 1)  notify: it writes, and the wait ends
        notified (0, 1) -> (1, 1)         fall_asleep returns 1: the loop does not wait
        notified -> awake (0, 0)          take_posts clears woken, then takes the queue */
typedef struct reactor__wake {
    /* NULL: a descriptor ends the wait; else this core's backend does */
    const reactor__core *core;
    reactor_socket in, out;  /* the read and the write end; one descriptor if it is an eventfd */
    int woken;               /* atomic: somebody has notified, and the loop has not looked since */
    int asleep;              /* atomic: the loop may be in a wait, which a notification must end */
    int closed;              /* under lock: posts are refused */
    reactor__util_lock lock; /* never held while a callback runs */
    reactor__wake_queue posted; /* under lock: filled by any thread, taken whole by the loop */
    uint64_t rounds;            /* under lock: how often the queue was taken */
    /* atomic; each chunk holds twice as many as the one before */
    reactor__wake_async *asyncs[REACTOR__WAKE_CHUNKS];
    uint32_t async_first; /* the first state of each; it differs from that of other loops */
    uint32_t async_count; /* how many were ever used */
    uint32_t async_free;  /* the first free one: its index plus 1; 0: none */
    uint32_t sent;        /* atomic: the same for those that are SENT, the last one first */
} reactor__wake;

#ifdef _WIN32
/* Winsock is started for as long as the loop lives. */
static int reactor__wake_begin(void) {
    WSADATA data;
    return reactor__util_code(WSAStartup(MAKEWORD(2, 2), &data));
}

static void reactor__wake_end(void) { WSACleanup(); }

/* Connects a datagram socket of the loopback address with itself: it receives what it sends, and
   nothing from anybody else. */
static int reactor__wake_loop_back(reactor_socket fd) {
    struct sockaddr_in a;
    int len = sizeof a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&a, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) != 0 ||
        connect(fd, (struct sockaddr *)&a, len) != 0)
        return reactor__util_error();
    return reactor__util_nonblock(fd);
}

/* OVERLAPPED, because for other sockets the system does one call after the other: a send would
   wait until a select on the same socket is over. */
REACTOR__COLD static int reactor__wake_open(reactor__wake *w) {
    const DWORD flags = WSA_FLAG_OVERLAPPED | REACTOR__UTIL_NO_INHERIT;
    w->in = w->out = WSASocketW(AF_INET, SOCK_DGRAM, 0, NULL, 0, flags);
    int e = w->in == REACTOR__UTIL_NO_SOCKET ? reactor__util_error() : reactor__util_cloexec(w->in);
    if (e == 0) e = reactor__wake_loop_back(w->in);
    if (e == 0 || w->in == REACTOR__UTIL_NO_SOCKET) return e;
    reactor__util_close(w->in);
    w->in = w->out = REACTOR__UTIL_NO_SOCKET;
    return e;
}

REACTOR__COLD static void reactor__wake_shut(reactor__wake *w) { reactor__util_close(w->in); }

REACTOR__COLD static int reactor__wake_reopen(reactor__wake *w) {
    (void)w;
    return 0;
}

/* Makes the socket readable. EAGAIN means that it is so already. The thread's error code is not
   ours to change. */
static int reactor__wake_write(reactor__wake *w) {
    DWORD saved = GetLastError();
    int e = send(w->out, "", 1, 0) < 0 ? reactor__util_error() : 0;
    SetLastError(saved);
    return e == -EAGAIN ? 0 : e;
}

static int reactor__wake_read(reactor__wake *w) {
    char byte[8];
    while (recv(w->in, byte, sizeof byte, 0) >= 0) {
    }
    return 0;
}

#else
static int reactor__wake_begin(void) { return 0; }

static void reactor__wake_end(void) {}

/* Makes a pipe. Both ends are non-blocking: a full one must not block who posts, nor an empty
   one the loop, which reads it empty. */
REACTOR__COLD static int reactor__wake_pipe(reactor__wake *w) {
    int ends[2];
    if (pipe(ends) < 0) return -errno;
    for (int i = 0; i < 2; i++) ends[i] = reactor__util_above(ends[i]);
    w->in = ends[0];
    w->out = ends[1];
    for (int i = 0; i < 2; i++) {
        int e = reactor__util_nonblock(ends[i]);
        if (e == 0) e = reactor__util_cloexec(ends[i]);
        if (e == 0) continue;
        reactor__util_close(ends[0]);
        reactor__util_close(ends[1]);
        return e;
    }
    return 0;
}

#ifdef __linux__
REACTOR__COLD static int reactor__wake_open(reactor__wake *w) {
    w->in = w->out = reactor__util_above(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (w->in >= 0) return 0;
    return errno == ENOSYS ? reactor__wake_pipe(w) : -errno;
}
#else
REACTOR__COLD static int reactor__wake_open(reactor__wake *w) { return reactor__wake_pipe(w); }
#endif

/* Makes the descriptor readable. EAGAIN means that it is so already. errno belongs to the code
   that a signal handler has interrupted. */
static int reactor__wake_write(reactor__wake *w) {
    uint64_t one = 1;
    int saved = errno, e;
    do e = write(w->out, &one, sizeof one) < 0 ? -errno : 0;
    while (e == -EINTR);
    errno = saved;
    return e == -EAGAIN ? 0 : e;
}

/* Reads until a read is short. An eventfd returns 8 bytes and is empty then. Neither an eventfd
   nor a pipe with an open write end ever ends: if this one does, somebody has put another file
   under its number. */
static int reactor__wake_read(reactor__wake *w) {
    uint64_t bytes[8];
    ssize_t n;
    do n = read(w->in, bytes, sizeof bytes);
    while (n == (ssize_t)sizeof bytes);
    return n == 0 || (n < 0 && errno == EBADF) ? -EBADF : 0;
}

REACTOR__COLD static void reactor__wake_shut(reactor__wake *w) {
    reactor__util_close(w->in);
    if (w->out != w->in) reactor__util_close(w->out);
}

/* Puts new files under the old numbers, so nobody who knows the numbers has to be given new
   ones. */
REACTOR__COLD static int reactor__wake_reopen(reactor__wake *w) {
    reactor__wake fresh;
    memset(&fresh, 0, sizeof fresh);
    int e = reactor__wake_open(&fresh);
    if (e < 0) return e;
    e = reactor__util_replace(w->in, fresh.in);
    if (fresh.out == fresh.in) return e;
    int other = reactor__util_replace(w->out, fresh.out);
    return e < 0 ? e : other;
}
#endif

REACTOR__COLD static int reactor__wake_init(reactor__wake *w, uint32_t seed) {
    w->in = w->out = REACTOR__UTIL_NO_SOCKET;
    w->async_first = seed & ~3u; /* closed, not sent */
    int e = reactor__wake_begin();
    return e < 0 ? e : reactor__util_lock_init(&w->lock);
}

/* child: in a forked copy a thread that does not exist here may hold the lock, so it is not
   destroyed. */
REACTOR__COLD static void reactor__wake_fini(reactor__wake *w, int child) {
    if (w->in != REACTOR__UTIL_NO_SOCKET) reactor__wake_shut(w);
    if (!child) reactor__util_lock_fini(&w->lock);
    for (int k = 0; k < REACTOR__WAKE_CHUNKS; k++) REACTOR_FREE(w->asyncs[k]);
    REACTOR_FREE(w->posted.tasks);
    reactor__wake_end();
}

/* In a forked child: closes the descriptors and refuses posts. woken stays set, so that nobody
   writes. The lock is a new one, because a thread of the parent may hold the old one. */
REACTOR__COLD static void reactor__wake_abandon(reactor__wake *w) {
    if (w->in != REACTOR__UTIL_NO_SOCKET) reactor__wake_shut(w);
    w->in = w->out = REACTOR__UTIL_NO_SOCKET;
    (void)reactor__util_lock_init(&w->lock);
    w->closed = 1;
    REACTOR__STORE(&w->woken, 1);
}

/* Notifies the loop, from any thread and from signal handlers. The first look keeps a burst of
   callers from fighting over the flag's cache line. If the loop cannot be woken, the next caller
   has to try again. */
static int reactor__wake_notify(reactor__wake *w) {
    if (REACTOR__LOAD(&w->woken) || REACTOR__EXCHANGE(&w->woken, 1)) return 0;
    /* the loop is awake, and looks before it waits */
    if (!REACTOR__EXCHANGE(&w->asleep, 0)) return 0;
    int e = w->core ? w->core->backend->wake(w->core, 1) : reactor__wake_write(w);
    if (e < 0) { /* in this order: whoever finds woken cleared must find asleep set */
        REACTOR__STORE(&w->asleep, 1);
        REACTOR__STORE(&w->woken, 0);
    }
    return e;
}

/* The loop calls this before a wait, and at the end of a turn if it is nested in another loop.
   Returns whether somebody has notified meanwhile: then it must not wait. */
static int reactor__wake_fall_asleep(reactor__wake *w) {
    REACTOR__STORE(&w->asleep, 1);
    return REACTOR__LOAD(&w->woken);
}

/* Takes back a notification that was written. One by the backend's own means is gone once it was
   reported (seen). */
static int reactor__wake_drop(reactor__wake *w, int seen) {
    if (!w->core) return reactor__wake_read(w);
    if (!seen) w->core->backend->wake(w->core, 0);
    return 0;
}

/* Adds a task. The queue doubles, because a burst grows it from nothing and each growth copies
   it. */
static int reactor__wake_push(reactor__wake_queue *q, reactor_task_fn *fn, void *user) {
    if (q->count == q->cap) {
        void *grown = reactor__util_grown(q->tasks, &q->cap, q->count * 2, sizeof *q->tasks);
        if (!grown) return -ENOMEM;
        q->tasks = (reactor__wake_task *)grown;
    }
    q->tasks[q->count].fn = fn;
    q->tasks[q->count++].user = user;
    return 0;
}

/* The loop could not be woken for a task: takes it out of the queue and returns error; or 0 if
   the loop has come by and taken it. The task may have moved forward, because others take theirs
   out too. */
REACTOR__COLD static int reactor__wake_unpost(reactor__wake *w, uint64_t round,
                                              const reactor__wake_task *task, int error) {
    reactor__util_enter(&w->lock);
    if (w->rounds == round) {
        reactor__wake_task *at = &w->posted.tasks[--w->posted.count], last = *at, next;
        for (; last.fn != task->fn || last.user != task->user; last = next) {
            next = *--at;
            *at = last;
        }
    } else
        error = 0;
    reactor__util_leave(&w->lock);
    return error;
}

/* Posts a task, from any thread. */
static int reactor__wake_post(reactor__wake *w, reactor_task_fn *fn, void *user) {
    const reactor__wake_task task = {fn, user};
    reactor__util_enter(&w->lock);
    int e = w->closed ? -ECANCELED : reactor__wake_push(&w->posted, fn, user);
    uint64_t round = w->rounds;
    reactor__util_leave(&w->lock);
    if (e < 0) return e;
    e = reactor__wake_notify(w);
    return e < 0 ? reactor__wake_unpost(w, round, &task, e) : 0;
}

/* ---- doorbells ---- */

/* The doorbell of an index; NULL if there never was one. The chunks hold 16, 32, 64, ...
   doorbells. */
static reactor__wake_async *reactor__wake_async_at(const reactor__wake *w, uint32_t index) {
    const uint64_t n = (uint64_t)index + REACTOR__WAKE_FIRST;
    const unsigned top = 63 - REACTOR__CLZ64(n), k = top - 4;
    if (k >= REACTOR__WAKE_CHUNKS) return NULL;
    reactor__wake_async *chunk = REACTOR__LOAD(&w->asyncs[k]);
    return chunk ? chunk + (n - (UINT64_C(1) << top)) : NULL;
}

/* The open doorbell of a handle, for the loop's thread; NULL if it is closed, stale or foreign. */
static reactor__wake_async *reactor__wake_async_find(const reactor__wake *w, uint64_t id) {
    reactor__wake_async *a = reactor__wake_async_at(w, (uint32_t)id);
    return a && a->fn && REACTOR__LOAD(&a->state) / 2 == id >> 32 ? a : NULL;
}

/* Makes room for one more doorbell, at async_count. */
REACTOR__COLD static int reactor__wake_async_grow(reactor__wake *w) {
    const uint64_t n = (uint64_t)w->async_count + REACTOR__WAKE_FIRST;
    const unsigned k = 63 - REACTOR__CLZ64(n) - 4;
    if (k >= REACTOR__WAKE_CHUNKS) return -ENOMEM;
    if (w->asyncs[k]) return 0;
    size_t size = ((size_t)REACTOR__WAKE_FIRST << k) * sizeof(reactor__wake_async);
    reactor__wake_async *chunk = (reactor__wake_async *)reactor__util_zeroed(size);
    if (!chunk) return -ENOMEM;
    for (uint32_t i = 0; i < (uint32_t)REACTOR__WAKE_FIRST << k; i++)
        chunk[i].state = w->async_first;
    REACTOR__STORE(&w->asyncs[k], chunk);
    return 0;
}

/* Opens a doorbell: a free one, or the next that was never used. */
REACTOR__COLD static int reactor__wake_async_open(reactor__wake *w, reactor_async_fn *fn,
                                                  void *user, uint64_t *id) {
    uint32_t index = w->async_free ? w->async_free - 1 : w->async_count;
    if (index == w->async_count && reactor__wake_async_grow(w) < 0) return -ENOMEM;
    reactor__wake_async *a = reactor__wake_async_at(w, index);
    if (index == w->async_count)
        w->async_count++;
    else
        w->async_free = a->next;
    a->fn = fn;
    a->user = user;
    const uint32_t state = REACTOR__LOAD(&a->state) + 2; /* the next generation, which is odd */
    REACTOR__STORE(&a->state, state);
    *id = (uint64_t)(state / 2) << 32 | index;
    return 0;
}

/* Puts a closed doorbell on the free list. One that has used up its generations is left out, for
   an old handle would become valid again. */
REACTOR__COLD static void reactor__wake_async_free(reactor__wake *w, uint32_t index) {
    reactor__wake_async *a = reactor__wake_async_at(w, index);
    if (REACTOR__LOAD(&a->state) == w->async_first) return;
    a->next = w->async_free;
    w->async_free = index + 1;
}

/* Closes a doorbell. One that is SENT is on the list of those sent, or on its way there, so it
   is freed when it is taken from that list. */
REACTOR__COLD static int reactor__wake_async_close(reactor__wake *w, uint64_t id) {
    reactor__wake_async *a = reactor__wake_async_find(w, id);
    if (!a) return -EBADF;
    a->fn = NULL;
    uint32_t state = (uint32_t)(id >> 32) * 2 + 2;
    if (!(REACTOR__EXCHANGE(&a->state, state) & REACTOR__WAKE_SENT))
        reactor__wake_async_free(w, (uint32_t)id);
    return 0;
}

/* Rings a doorbell, from any thread and from signal handlers. Looking at the state is a write of
   the same value: the loop clears SENT by another write after it, and so sees all that the
   caller has stored before, even if this call finds SENT set and has nothing to do. Only the one
   sender that sets SENT links it. */
static int reactor__wake_send(reactor__wake *w, uint64_t id) {
    const uint32_t open = (uint32_t)(id >> 32) * 2, index = (uint32_t)id;
    reactor__wake_async *a = reactor__wake_async_at(w, index);
    if (!a || !(open & 2)) return -EBADF;
    uint32_t state = REACTOR__ADD(&a->state, 0);
    if (state != open || !REACTOR__CAS(&a->state, &state, open | REACTOR__WAKE_SENT))
        return state == (open | REACTOR__WAKE_SENT) ? 0 : -EBADF;
    uint32_t first = REACTOR__LOAD(&w->sent);
    do a->next = first;
    while (!REACTOR__CAS(&w->sent, &first, index + 1));
    return reactor__wake_notify(w);
}

/* Takes the list of those sent, turns it into the order of sending, and appends it to *list. */
static void reactor__wake_take_sent(reactor__wake *w, uint32_t *list) {
    uint32_t sent = REACTOR__EXCHANGE(&w->sent, 0), turned = 0;
    while (sent) {
        reactor__wake_async *a = reactor__wake_async_at(w, sent - 1);
        uint32_t next = a->next;
        a->next = turned;
        turned = sent;
        sent = next;
    }
    while (*list) list = &reactor__wake_async_at(w, *list - 1)->next;
    *list = turned;
}

/* Takes the first doorbell off *list and returns it, or NULL if it was closed. A send from here
   on causes another call. */
static reactor__wake_async *reactor__wake_ring(reactor__wake *w, uint32_t *list, uint64_t *id) {
    const uint32_t index = *list - 1;
    reactor__wake_async *a = reactor__wake_async_at(w, index);
    *list = a->next;
    if (!a->fn) {
        reactor__wake_async_free(w, index);
        return NULL;
    }
    const uint32_t state = REACTOR__LOAD(&a->state) & ~(uint32_t)REACTOR__WAKE_SENT;
    REACTOR__EXCHANGE(&a->state, state);
    *id = (uint64_t)(state / 2) << 32 | index;
    return a;
}

/* ---- fork ---- */

/* In a forked child. A thread of the parent may have marked a doorbell as sent and not linked it
   yet, and does not exist here. So the lists are made anew; *rung has those that are marked. */
REACTOR__COLD static void reactor__wake_async_fork(reactor__wake *w, uint32_t *rung) {
    *rung = w->async_free = 0;
    REACTOR__STORE(&w->sent, 0);
    for (uint32_t index = w->async_count; index-- > 0;) {
        reactor__wake_async *a = reactor__wake_async_at(w, index);
        if (!a->fn) {
            reactor__wake_async_free(w, index);
        } else if (REACTOR__LOAD(&a->state) & REACTOR__WAKE_SENT) {
            a->next = *rung;
            *rung = index + 1;
        }
    }
}

/* In a forked child that goes on with its loop. If the lock is held, its holder is a thread of
   the parent in the middle of a post, and what was posted belongs to the parent alone. woken is
   set, so that the loop looks at what there is; rung is its list of doorbells. */
REACTOR__COLD static int reactor__wake_fork(reactor__wake *w, uint32_t *rung) {
    int e = w->in == REACTOR__UTIL_NO_SOCKET ? 0 : reactor__wake_reopen(w);
    if (e < 0) return e;
    if (reactor__util_try_enter(&w->lock)) {
        reactor__util_leave(&w->lock);
    } else {
        memset(&w->posted, 0, sizeof w->posted);
        e = reactor__util_lock_init(&w->lock);
    }
    reactor__wake_async_fork(w, rung);
    REACTOR__STORE(&w->asleep, 0);
    REACTOR__STORE(&w->woken, 1);
    return e;
}

/* ---- the end of posting, and taking ---- */

/* Refuses later posts. */
REACTOR__COLD static void reactor__wake_close(reactor__wake *w) {
    reactor__util_enter(&w->lock);
    w->closed = 1;
    reactor__util_leave(&w->lock);
}

/* Takes what was posted, and leaves *empty in its place. */
static void reactor__wake_take(reactor__wake *w, reactor__wake_queue *empty) {
    reactor__util_enter(&w->lock);
    reactor__wake_queue taken = w->posted;
    w->posted = *empty;
    w->rounds++;
    reactor__util_leave(&w->lock);
    *empty = taken;
}
/* ==== >> loop ==== */
/* Turns. A turn applies changed interests, waits, and then runs what is ready: descriptors,
   timers, posts, deferred tasks, and last the modules (signal, stream), which send what the
   turn's callbacks have written. Each of these has a budget; if one leaves something over, the
   next turn does not wait.

   The clock is read after the wait if timers have deadlines, else when somebody first asks for
   the time; and again before the next wait if a timer was set in the turn. Such a timer gets its
   deadline from the second reading, so setting it costs no system call and it still is not
   early.

   Callbacks of the user are called here and nowhere else: by the call_x functions below, and for
   plain watchers by reactor__core_dispatch. */

/* A section that takes part in the turns. The loop knows a module only by these functions, and
   by its word in `pending`, which says that it wants a turn at once. */
typedef struct reactor__loop_module {
    void (*turn)(reactor *r,
                 /* at the end of each turn, if its word in pending is set */
                 struct reactor__loop_module *module);
    void (*fini)(reactor *r, struct reactor__loop_module *module,
                 int child); /* ends everything, and frees the module itself */
    void (*dump)(const reactor *r, const struct reactor__loop_module *module, reactor_line_fn *fn,
                 void *user);
    void (*fork_cleanup)(reactor *r,
                         /* see reactor__loop_fork_cleanup */
                         struct reactor__loop_module *module);
    int (*forked)(reactor *r, struct reactor__loop_module *module); /* see reactor_fork */
} reactor__loop_module;

/* The modules, in the order of their turns; they end in the opposite order. */
enum {
    REACTOR__LOOP_SIGNAL,
    REACTOR__LOOP_WORK,
    REACTOR__LOOP_CHILD,
    REACTOR__LOOP_RESOLVE,
    REACTOR__LOOP_STREAM,
    REACTOR__LOOP_DATAGRAM,
    REACTOR__LOOP_MODULES
};

/* The phases of a turn after the events, in this order. */
enum {
    REACTOR__LOOP_FIRE,
    REACTOR__LOOP_TASKS,
    REACTOR__LOOP_FIRST_MODULE,
    REACTOR__LOOP_PHASES = REACTOR__LOOP_FIRST_MODULE + REACTOR__LOOP_MODULES
};

/* The states of a drain. CUT_OFF: the deadline has passed, so reactor_ref and tasks no longer
   hold the loop. DRAINED: the drain has stopped the loop. */
enum { REACTOR__LOOP_DRAINING = 1, REACTOR__LOOP_CUT_OFF, REACTOR__LOOP_DRAINED };

/* The begin and the end of a turn that took longer than a millisecond. */
enum { REACTOR__LOOP_LONG_TURNS = 16 };
typedef struct reactor__loop_long_turn {
    int64_t begin, end;
} reactor__loop_long_turn;

/* The stream's: the callback that is running, and what it writes. It is here and not in the
   stream's own struct because every message takes this way. See cork and callbacks there. */
enum { REACTOR__LOOP_CORKS = 16 }; /* pieces that a callback's output may have */
typedef struct reactor__loop_io_context {
    void *current;    /* the connection whose callback is running; NULL between callbacks */
    char *buffer;     /* what is received goes there, of one connection after another */
    size_t size;      /* of that */
    const char *data; /* the input that the connection's on_data was given to look at */
    size_t len;       /* of that; 0 in every other callback */
    int corks;        /* pieces below */
    reactor__util_piece cork[REACTOR__LOOP_CORKS];
} reactor__loop_io_context;

/* Of reactor_before_wait. */
typedef struct reactor__loop_hook {
    reactor_hook_fn *fn; /* NULL: was taken off while hooks were being called */
    void *user;
    int64_t at; /* when it wants to be called, by the clock; 0: at once; NEVER: it does not care */
} reactor__loop_hook;

/* The loop. Its states, by the fields running, core.stop and destroyed:

        idle -> running           loop_enter, by run, poll and select
        idle -> stopping          core_stop, by reactor_stop: the next run returns at once
        running -> stopping       core_stop: no more callbacks, the turn ends
        running -> destroyed      reactor_destroy in a callback, which stops it as well
        running, stopping -> idle loop_leave, which clears the stop
        destroyed -> freed        loop_leave calls loop_free
        idle -> freed             reactor_destroy calls loop_free */
struct reactor {
    reactor__core core;
    reactor__loop_io_context io;
    reactor__timer_wheel wheel;
    reactor__wake wake;
    reactor__wake_queue posted; /* posts that were taken from wake, and are being run */
    reactor__wake_queue due;    /* deferred tasks that are being run */
    /* deferred tasks that wait until `due` is empty; then the two are exchanged */
    reactor__wake_queue deferred;
    uint32_t rung; /* the list of doorbells to be called, see wake */
    reactor__loop_module
        *modules[REACTOR__LOOP_MODULES]; /* NULL: the program has not used it yet */
    /* atomic: the module wants a turn; a signal handler may set it */
    int pending[REACTOR__LOOP_MODULES];
    reactor_options options; /* with the defaults filled in */
    int64_t now; /* in nanoseconds; the time of this turn if timed is set, see loop_now */
    int timed;   /* the clock was read since the last wait */
    int quiet; /* after a turn of this run: nothing is left that a wait depends on, see loop_wait */
    /* somebody has put another file under the wake-up's number: no turn works any more */
    int lost;
    unsigned held; /* which of the numbers 0, 1 and 2 the library occupies, see hold_standard */
    uint32_t refs;
    uint32_t jobs; /* of work, whose done is to come */
    int noting;    /* the end of the turn that began at now has not been noted yet */
    int left;      /* the phase that a stop has left to the next turn; PHASES: none */
    int owned;     /* a thread has run it, namely owner */
    reactor__util_thread owner;
    int pid;       /* the process that made it; in a forked child getpid differs */
    int running;   /* inside reactor_run (2), or poll, select or destroy (1) */
    int destroyed; /* reactor_destroy was called in a callback */
    int child;     /* and that in a forked child */
    int closing;   /* listen, connect, attach and defer are refused */
    int draining;  /* REACTOR__LOOP_x, 0: not */
    /* a ring of the last long turns */
    reactor__loop_long_turn long_turns[REACTOR__LOOP_LONG_TURNS];
    uint32_t long_turn_count;
    int64_t longest;           /* the longest of those that have left the ring */
    uint64_t firing;           /* the timer whose callback runs; 0: none */
    reactor__loop_hook *hooks; /* in the order in which they are called */
    uint32_t hook_count, hook_cap;
    uint32_t member; /* the next of a shared descriptor's members to be called; NONE */
    int hooking;     /* hooks are being called: the array may grow, and must not shrink */
};

/* ---- callbacks ----

   One small function for each kind of callback. Only these and core's dispatch call the user
   (except free_fn, which must not call back). A callback may change everything, so a caller
   keeps nothing over it that the callback can free or move. */

/* Counts a callback, and starts the stopwatch if on_slow is set. */
static int64_t reactor__loop_begin(reactor *r) {
    r->core.counters.callbacks++;
    return REACTOR__UNLIKELY(r->options.on_slow != NULL) ? reactor__util_clock() : 0;
}

/* Ends a callback: reports it to on_slow if it took too long. */
static void reactor__loop_end(reactor *r, const char *what, int64_t begun) {
    if (REACTOR__LIKELY(!begun)) return;
    int64_t ns = reactor__util_clock() - begun;
    if (ns >= reactor__util_ms(r->options.slow_ms))
        r->options.on_slow(r, what, ns, r->options.slow_user);
}

/* dispatch calls this instead of fn when callbacks are timed. A stream's event is no callback:
   those that it leads to are timed one by one. The kind is read before the call, because slots
   move. */
static void reactor__loop_call_slow(reactor *r, const reactor__core_slot *slot, unsigned events) {
    int64_t begun = reactor__util_clock();
    int watcher = slot->kind == REACTOR__CORE_WATCHER;
    slot->fn(r, slot->fd, events, slot->user);
    if (watcher) reactor__loop_end(r, "watcher", begun);
}

/* One of several watchers. What all of them take is timed as one callback, by call_slow. */
static void reactor__loop_call_member(reactor *r, const reactor__core_slot *slot, unsigned events) {
    r->core.counters.callbacks++;
    slot->fn(r, slot->fd, events, slot->user);
}

/* Calls a timer. The library's own timers are neither counted nor timed; what they call is. */
static void reactor__loop_call_timer(reactor *r, reactor_timer_fn *fn, uint64_t id, void *user,
                                     unsigned flags) {
    reactor_timer t;
    t.id = id;
    if (flags & REACTOR__TIMER_INTERNAL) {
        fn(r, t, user);
        return;
    }
    int64_t begun = reactor__loop_begin(r);
    fn(r, t, user);
    reactor__loop_end(r, "timer", begun);
}

static void reactor__loop_call_task(reactor *r, const reactor__wake_task *task) {
    int64_t begun = reactor__loop_begin(r);
    task->fn(r, task->user);
    reactor__loop_end(r, "task", begun);
}

static void reactor__loop_call_async(reactor *r, const reactor__wake_async *a, uint64_t id) {
    reactor_async handle;
    handle.id = id;
    int64_t begun = reactor__loop_begin(r);
    a->fn(r, handle, a->user);
    reactor__loop_end(r, "async", begun);
}

REACTOR__OPTIONAL static void reactor__loop_call_worked(reactor *r, reactor_work_done_fn *done,
                                                        int status, void *user) {
    int64_t begun = reactor__loop_begin(r);
    r->core.counters.jobs_done++;
    done(r, status, user);
    reactor__loop_end(r, "work", begun);
}

/* A hook is not one of the callbacks that reactor_poll counts: it may have had nothing to do. */
static int64_t reactor__loop_call_hook(reactor *r, reactor_hook_fn *fn, void *user) {
    int64_t begun = reactor__loop_begin(r);
    r->core.counters.callbacks--;
    int64_t ms = fn(r, user);
    reactor__loop_end(r, "hook", begun);
    return ms;
}

REACTOR__OPTIONAL static void reactor__loop_call_resolved(reactor *r, reactor_resolve_fn *fn,
                                                          reactor_lookup l, int result,
                                                          const char *const *addresses,
                                                          void *user) {
    int64_t begun = reactor__loop_begin(r);
    fn(r, l, result, addresses, user);
    reactor__loop_end(r, "resolve", begun);
}

REACTOR__OPTIONAL static int reactor__loop_call_start(reactor *r, const reactor_group_options *o,
                                                      int index) {
    return o->on_start ? o->on_start(r, index, o->user) : 0;
}

REACTOR__OPTIONAL static void reactor__loop_call_end(reactor *r, const reactor_group_options *o,
                                                     int index) {
    if (o->on_end) o->on_end(r, index, o->user);
}

REACTOR__OPTIONAL static void reactor__loop_call_accept(reactor *r, reactor_accept_fn *fn,
                                                        reactor_listener l, reactor_socket fd,
                                                        const char *peer, void *user) {
    int64_t begun = reactor__loop_begin(r);
    fn(r, l, fd, peer, user);
    reactor__loop_end(r, "stream", begun);
}

REACTOR__OPTIONAL static void reactor__loop_call_signal(reactor *r, reactor_signal_fn *fn,
                                                        int signum, void *user) {
    int64_t begun = reactor__loop_begin(r);
    fn(r, signum, user);
    reactor__loop_end(r, "signal", begun);
}

REACTOR__OPTIONAL static void reactor__loop_call_child(reactor *r, reactor_child_fn *fn, int pid,
                                                       const reactor_exit *how, void *user) {
    int64_t begun = reactor__loop_begin(r);
    fn(r, pid, how, user);
    reactor__loop_end(r, "child", begun);
}

/* Calls on_data. Without one, input is consumed. A handler that claims more than it was shown has
   consumed all. */
REACTOR__OPTIONAL static size_t reactor__loop_call_data(reactor *r, const reactor_handler *h,
                                                        reactor_conn c, const void *data,
                                                        size_t len, void *state) {
    if (!h->on_data) return len;
    int64_t begun = reactor__loop_begin(r);
    size_t used = h->on_data(r, c, data, len, state);
    reactor__loop_end(r, "stream", begun);
    return used < len ? used : len;
}

/* The same without counting, for callbacks that are not timed; dispatch has counted the event.
   There is an on_data, and the caller checks that it consumed no more than it was shown. */
REACTOR__OPTIONAL static inline size_t
reactor__loop_call_data_fast(reactor *r, const reactor_handler *h, reactor_conn c, const void *data,
                             size_t len, void *state) {
    return h->on_data(r, c, data, len, state);
}

/* The common type of on_open, on_eof and on_writable. */
typedef void reactor__loop_event_fn(reactor *r, reactor_conn c, void *state);

REACTOR__OPTIONAL static void reactor__loop_call_event(reactor *r, reactor__loop_event_fn *fn,
                                                       reactor_conn c, void *state) {
    if (!fn) return;
    int64_t begun = reactor__loop_begin(r);
    fn(r, c, state);
    reactor__loop_end(r, "stream", begun);
}

REACTOR__OPTIONAL static int reactor__loop_call_timeout(reactor *r, const reactor_handler *h,
                                                        reactor_conn c, int which, void *state) {
    if (!h->on_timeout) return 0;
    int64_t begun = reactor__loop_begin(r);
    int again = h->on_timeout(r, c, which, state);
    reactor__loop_end(r, "stream", begun);
    return again;
}

REACTOR__OPTIONAL static int reactor__loop_call_drain(reactor *r, const reactor_handler *h,
                                                      reactor_conn c, void *state) {
    int64_t begun = reactor__loop_begin(r);
    int busy = h->on_drain(r, c, state);
    reactor__loop_end(r, "stream", begun);
    return busy;
}

REACTOR__OPTIONAL static void reactor__loop_call_done(reactor *r, reactor_done_fn *fn,
                                                      reactor_conn c, int result, void *user) {
    if (!fn) return;
    int64_t begun = reactor__loop_begin(r);
    fn(r, c, result, user);
    reactor__loop_end(r, "stream", begun);
}

REACTOR__OPTIONAL static void reactor__loop_call_close(reactor *r, const reactor_handler *h,
                                                       reactor_conn c, int reason, void *state) {
    if (!h->on_close) return;
    int64_t begun = reactor__loop_begin(r);
    h->on_close(r, c, reason, state);
    reactor__loop_end(r, "stream", begun);
}

REACTOR__OPTIONAL static inline void
reactor__loop_call_message(reactor *r, const reactor_datagram_handler *h, reactor_datagram d,
                           const reactor_message *m, void *state) {
    int64_t begun = reactor__loop_begin(r);
    h->on_message(r, d, m, state);
    reactor__loop_end(r, "datagram", begun);
}

REACTOR__OPTIONAL static void
reactor__loop_call_datagram_error(reactor *r, const reactor_datagram_handler *h, reactor_datagram d,
                                  int error, const reactor_peer *peer, void *state) {
    if (!h->on_error) return;
    int64_t begun = reactor__loop_begin(r);
    h->on_error(r, d, error, peer, state);
    reactor__loop_end(r, "datagram", begun);
}

REACTOR__OPTIONAL static void
reactor__loop_call_datagram_writable(reactor *r, const reactor_datagram_handler *h,
                                     reactor_datagram d, void *state) {
    if (!h->on_writable) return;
    int64_t begun = reactor__loop_begin(r);
    h->on_writable(r, d, state);
    reactor__loop_end(r, "datagram", begun);
}

REACTOR__OPTIONAL static void reactor__loop_call_datagram_close(reactor *r,
                                                                const reactor_datagram_handler *h,
                                                                reactor_datagram d, int reason,
                                                                void *state) {
    if (!h->on_close) return;
    int64_t begun = reactor__loop_begin(r);
    h->on_close(r, d, reason, state);
    reactor__loop_end(r, "datagram", begun);
}

/* ---- the turn ----

        hooks     reactor_before_wait's: guests say when they want to be called again
        flush     applies changed interests to the backend
        wait      as long as nothing is due; then the time is read
        dispatch  what is ready: watchers, and streams, which read, call and answer
        fire      timers that are due
        tasks     posts, doorbells, then deferred tasks
        modules   signals, then streams, which send what all these callbacks have written to other
                  connections than their own, with one call for each, and so come last
        hand out  the keys of reactor_select, for watchers that are still there

   A stop is looked at before each callback. What it leaves undone stays where it is (reports are
   asked for again), and the next turn begins with it. So a callback that stops the loop whenever
   it is called does not keep the others from being called. */

/* Whether any task waits: deferred ones, and posts and doorbells that were taken from wake. */
static int reactor__loop_has_tasks(const reactor *r) {
    return (r->deferred.count | r->due.count | r->posted.count | r->rung) != 0;
}

/* Checks the invariants of a loop, at the begin of a wait and at the end of a turn. */
static void reactor__loop_check(const reactor *r) {
    REACTOR__CHECK(r->running && r->core.busy);
    REACTOR__CHECK(r->left >= REACTOR__LOOP_FIRE && r->left <= REACTOR__LOOP_PHASES);
    REACTOR__CHECK(!r->destroyed || r->closing);
    REACTOR__CHECK(!r->child || r->destroyed);
    REACTOR__CHECK(!r->quiet || (reactor__timer_is_idle(&r->wheel) && !reactor__loop_has_tasks(r)));
    REACTOR__CHECK(r->posted.at <= r->posted.count && r->due.at <= r->due.count);
    REACTOR__CHECK(r->deferred.at == 0 && r->wake.posted.at == 0);
    REACTOR__CHECK(r->core.pulled <= r->core.watchers && !r->core.kept);
    (void)r;
}

/* Whether something waits that needs no event, so that the turn must not wait. */
static inline int reactor__loop_pending(const reactor *r) {
    int parts = REACTOR__PEEK(&r->pending[0]);
    for (int i = 1; i < REACTOR__LOOP_MODULES; i++) parts |= REACTOR__PEEK(&r->pending[i]);
    const uint32_t events = (uint32_t)REACTOR__PEEK(&r->core.stop) | r->core.report_count;
    return (events | (uint32_t)parts) != 0 || reactor__loop_has_tasks(r);
}

/* ---- hooks ----

   A wish is a deadline like a timer's, and counts in core.active as one that keeps the loop going;
   but it is the hook's again each time that it is asked, so it needs no place in the wheel. */

static void reactor__loop_wish(reactor *r, reactor__loop_hook *hook, int64_t at) {
    r->core.active -= hook->at != REACTOR__NEVER;
    r->core.active += at != REACTOR__NEVER;
    hook->at = at;
}

/* The earliest of all wishes. */
static int64_t reactor__loop_wished(const reactor *r) {
    int64_t at = REACTOR__NEVER;
    for (uint32_t i = 0; i < r->hook_count; i++)
        if (r->hooks[i].at < at) at = r->hooks[i].at;
    return at;
}

/* Takes out those that went while they were being called. */
static void reactor__loop_close_ranks(reactor *r) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->hook_count; i++)
        if (r->hooks[i].fn) r->hooks[kept++] = r->hooks[i];
    r->hook_count = kept;
}

static int reactor__loop_alive(const reactor *r);

/* Calls those that are there now: one that is added meanwhile has a wish for at once. Returns how
   long the wait may be: not at all if the hooks have ended the last thing that reactor_run goes on
   for. */
REACTOR__NOINLINE static int64_t reactor__loop_ask_hooks(reactor *r, int64_t timeout) {
    const uint32_t n = r->hook_count;
    r->quiet = 0; /* a hook may set timers and defer tasks after the turn has looked for such */
    r->hooking = 1;
    for (uint32_t i = 0; i < n && !REACTOR__PEEK(&r->core.stop); i++) {
        if (!r->hooks[i].fn) continue;
        int64_t ms = reactor__loop_call_hook(r, r->hooks[i].fn, r->hooks[i].user);
        int64_t at = ms < 0 ? REACTOR__NEVER : 0;
        if (ms > 0) at = reactor__util_add(reactor__util_clock(), reactor__util_ms(ms));
        if (r->hooks[i].fn) reactor__loop_wish(r, &r->hooks[i], at);
    }
    r->hooking = 0;
    reactor__loop_close_ranks(r);
    const int64_t at = reactor__loop_wished(r);
    if (at == REACTOR__NEVER) return r->running == 2 && !reactor__loop_alive(r) ? 0 : timeout;
    int64_t left = at ? at - reactor__util_clock() : 0;
    if (left < 0) left = 0;
    return timeout < 0 || left < timeout ? left : timeout;
}

/* For a loop that is nested in another one: makes its descriptor readable when something here
   falls due. The outer loop sees nothing else of this one, so every change outside a turn comes
   here at once: interests are applied, and the alarm is set to the first timer, or to the past
   if something waits that needs no event. */
static void reactor__loop_renest(reactor *r) {
    reactor__core_flush(&r->core);
    r->quiet = 0;
    reactor__timer_resolve(&r->wheel, reactor__util_clock());
    int64_t at = reactor__timer_next(&r->wheel), wished = reactor__loop_wished(r);
    if (wished < at) at = wished;
    if (r->core.dirty_head != REACTOR__NONE || reactor__loop_pending(r) ||
        reactor__wake_fall_asleep(&r->wake) ||
        (r->core.always_count && reactor__core_has_always(&r->core)))
        at = 0;
    /* If the alarm failed, or this very flush has had an interest refused: then the outer loop
       at least comes back at once, and it is tried again. */
    if (r->core.backend->alarm(&r->core, at) < 0 || (at && r->core.dirty_head != REACTOR__NONE))
        reactor__wake_notify(&r->wake);
}

/* Something has changed. Inside a turn nothing is done, because its end does it once for all
   changes. */
static void reactor__loop_changed(reactor__core *core) {
    if (!core->busy) reactor__loop_renest(core->owner);
}

/* Something has changed that is not a descriptor: a timer, a task, a module's word in pending. */
REACTOR__NOINLINE static void reactor__loop_touch(reactor *r) {
    if (REACTOR__UNLIKELY(r->core.changed != NULL)) reactor__loop_changed(&r->core);
}

/* Notes the end of a turn if it was a long one. Whoever notes when something happened inside a
   turn stores r->now, because that costs nothing; but it may have happened as late as the turn's
   end. The ends of long turns are remembered and others count as a millisecond, so no timeout is
   early. */
static void reactor__loop_note_long_turn(reactor *r, int64_t now) {
    r->noting = 0;
    if (now - r->now <= REACTOR__MS) return;
    reactor__loop_long_turn *span = &r->long_turns[r->long_turn_count++ % REACTOR__LOOP_LONG_TURNS];
    if (span->end - span->begin > r->longest) r->longest = span->end - span->begin;
    span->begin = r->now;
    span->end = now;
}

/* The latest moment for which a noted time may stand. */
REACTOR__OPTIONAL static int64_t reactor__loop_latest(const reactor *r, int64_t noted) {
    const uint32_t most = REACTOR__LOOP_LONG_TURNS;
    uint32_t n = r->long_turn_count < most ? r->long_turn_count : most;
    for (uint32_t i = 0; i < n; i++)
        if (r->long_turns[i].begin == noted) return r->long_turns[i].end;
    if (n == most && noted < r->long_turns[r->long_turn_count % n].begin)
        noted = reactor__util_add(noted, r->longest);
    return reactor__util_add(noted, REACTOR__MS);
}

/* Reads the clock. The loop's time never goes back. */
static void reactor__loop_read_clock(reactor *r) {
    int64_t now = reactor__util_clock();
    if (now > r->now) r->now = now;
    r->timed = r->noting = 1;
}

/* The turn's time. A turn does not read the clock unless timers have deadlines, because that
   takes as long as dispatching an event. Until it is read r->now is the time of an earlier turn,
   and only those may note it whose timeouts are timers already, for then it has been read. */
REACTOR__OPTIONAL static int64_t reactor__loop_now(reactor *r) {
    if (!r->timed) reactor__loop_read_clock(r);
    return r->now;
}

/* The time to note. Between turns that of the last turn would be too old. */
REACTOR__OPTIONAL static int64_t reactor__loop_time(reactor *r) {
    return r->core.busy ? reactor__loop_now(r) : reactor__util_clock();
}

/* How long the backend may wait if the caller's time ends at `until`. FRESH timers are resolved
   first, for the next deadline may be among them. The clock is read only if there is something
   to compare it with. Of the turn's readings this is the one from which timers set in callbacks
   count, and which ends the turn. */
static int64_t reactor__loop_timeout(reactor *r, int64_t until) {
    int64_t now = 0;
    if (r->wheel.fresh_count) {
        now = reactor__util_clock();
        reactor__timer_resolve(&r->wheel, now);
    }
    if (!reactor__timer_is_idle(&r->wheel)) {
        int64_t next = reactor__timer_next(&r->wheel);
        if (next < until) until = next;
    }
    if (until != REACTOR__NEVER) {
        if (!now) now = reactor__util_clock();
        if (r->noting) reactor__loop_note_long_turn(r, now);
        until = until > now ? until - now : 0;
    }
    if (reactor__loop_pending(r)) return 0;
    if (until == REACTOR__NEVER) return -1;
    return until;
}

/* Applies changed interests. One that was refused may have made a report, so the wait looks. */
REACTOR__NOINLINE static void reactor__loop_flush(reactor *r) {
    reactor__core_flush(&r->core);
    r->quiet = 0;
}

/* Waits. An interruption by a signal does not shorten the wait, because `until` is fixed before,
   and does not count as a failure. Other failures may pass, as when memory is short: 16 in a row
   are returned.

   quiet: the last turn of this reactor_run has found no timer, no task and nothing pending, and
   no code of the user has run since. So there is no need to look again, nor to read the clock.
   What another thread or a signal handler has set since then was followed by a notification,
   which fall_asleep sees. */
static int reactor__loop_wait(reactor *r, int64_t timeout) {
    int64_t until = timeout < 0 ? REACTOR__NEVER : timeout;
    if (timeout > 0) until = reactor__util_add(reactor__util_clock(), timeout);
    reactor__loop_check(r);
    for (int tries = 0;;) {
        if (r->core.dirty_head != REACTOR__NONE) reactor__loop_flush(r);
        int64_t wait = r->quiet ? -1 : reactor__loop_timeout(r, until);
        /* An interest that the backend has refused is to be applied again soon. */
        if (r->core.dirty_head != REACTOR__NONE && (wait < 0 || wait > REACTOR__MS))
            wait = REACTOR__MS;
        if (wait && reactor__wake_fall_asleep(&r->wake)) wait = 0;
        r->core.counters.waits += wait != 0;
        int e = reactor__core_wait(&r->core, wait);
        REACTOR__POKE(&r->wake.asleep, 0);
        if (e == 0) break;
        if (e != -EINTR && ++tries == 16) return e;
    }
    r->timed = r->noting = 0;
    if (!r->quiet && !reactor__timer_is_idle(&r->wheel)) reactor__loop_read_clock(r);
    return 0;
}

/* Calls the timers that are due. They are collected first, so what these callbacks set waits for
   the next turn. What a stop leaves stays in DUE, and comes first in the next turn. */
static void reactor__loop_fire(reactor *r) {
    reactor_timer_fn *fn;
    void *user;
    uint64_t id;
    int64_t deadline;
    unsigned flags;
    reactor__timer_collect(&r->wheel, r->now, r->options.timer_budget);
    while (!REACTOR__PEEK(&r->core.stop) &&
           reactor__timer_pop(&r->wheel, r->now, &fn, &user, &id, &deadline, &flags)) {
        reactor_counters *n = &r->core.counters;
        n->timers_fired++;
        n->lag_ns = r->now - deadline;
        if (n->lag_ns > n->max_lag_ns) n->max_lag_ns = n->lag_ns;
        r->firing = id;
        reactor__loop_call_timer(r, fn, id, user, flags);
    }
    r->firing = 0;
}

/* Runs the tasks of a queue as far as the budget goes. The queue's memory is kept for the next
   ones. */
static void reactor__loop_run_tasks(reactor *r, reactor__wake_queue *q, int budget) {
    for (; budget > 0 && q->at < q->count && !REACTOR__PEEK(&r->core.stop); budget--) {
        reactor__wake_task task = q->tasks[q->at++];
        r->core.counters.posts++;
        reactor__loop_call_task(r, &task);
    }
    if (q->at == q->count) q->at = q->count = 0;
}

/* The wake-up's watcher: reads the descriptor, which is done only here, when it is readable.
   What was posted may have been taken before, because `woken` shows it earlier. */
static void reactor__loop_woken(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd;
    (void)events;
    (void)user;
    r->core.counters.callbacks--;
    if (reactor__wake_drop(&r->wake, 1) < 0) r->lost = 1;
}

/* Takes posts and doorbells over from wake. Posts only if all earlier ones have been run,
   because those that the budget has left come first; woken stays set then. */
static void reactor__loop_take_posts(reactor *r) {
    if (!r->posted.count) {
        REACTOR__STORE(&r->wake.woken, 0);
        reactor__wake_take(&r->wake, &r->posted);
    }
    reactor__wake_take_sent(&r->wake, &r->rung);
}

/* Calls each doorbell once, for all that was sent before. */
static void reactor__loop_ring(reactor *r) {
    while (r->rung && !REACTOR__PEEK(&r->core.stop)) {
        uint64_t id;
        const reactor__wake_async *a = reactor__wake_ring(&r->wake, &r->rung, &id);
        if (!a) continue;
        r->core.counters.posts++;
        reactor__loop_call_async(r, a, id);
    }
}

/* Runs posts first, then doorbells, then what was deferred. Both queues are exchanged for empty
   ones before they are run, and only if those are empty; so a task that such a task defers or
   posts waits for the next turn. */
REACTOR__NOINLINE static void reactor__loop_tasks(reactor *r) {
    int budget = r->options.post_budget;
    if (r->child) return; /* a thread that does not exist here may hold the lock */
    if (REACTOR__PEEK(&r->wake.woken)) reactor__loop_take_posts(r);
    if (!r->due.count) {
        reactor__wake_queue q = r->deferred;
        r->deferred = r->due;
        r->due = q;
    }
    if (r->posted.count) reactor__loop_run_tasks(r, &r->posted, budget);
    if (r->rung) reactor__loop_ring(r);
    if (r->due.count) reactor__loop_run_tasks(r, &r->due, budget);
}

/* Runs one phase of the turn. */
static void reactor__loop_phase(reactor *r, int phase) {
    if (phase == REACTOR__LOOP_FIRE) {
        if (!reactor__timer_is_idle(&r->wheel)) reactor__loop_fire(r);
    } else if (phase == REACTOR__LOOP_TASKS) {
        if (reactor__loop_has_tasks(r) || REACTOR__PEEK(&r->wake.woken)) reactor__loop_tasks(r);
    } else {
        const int i = phase - REACTOR__LOOP_FIRST_MODULE;
        if (REACTOR__PEEK(&r->pending[i])) r->modules[i]->turn(r, r->modules[i]);
    }
}

/* Runs the phases from this one on. After a stop the modules still take their turn but call
   nobody: what waits for the turn's end, such as output to other connections, waits for the next
   turn or for destroy. */
static void reactor__loop_phases(reactor *r, int phase) {
    while (phase < REACTOR__LOOP_PHASES && !REACTOR__PEEK(&r->core.stop))
        reactor__loop_phase(r, phase++);
    r->left = phase;
    if (phase < REACTOR__LOOP_FIRST_MODULE) phase = REACTOR__LOOP_FIRST_MODULE;
    for (; phase < REACTOR__LOOP_PHASES; phase++) reactor__loop_phase(r, phase);
}

/* Whether something is to come that is neither a descriptor's nor a timer's. A post that was not
   taken yet counts; so does a reactor_wake, which is worth one turn. */
static int reactor__loop_has_work(const reactor *r) {
    return r->refs || r->jobs || reactor__loop_has_tasks(r) || REACTOR__LOAD(&r->wake.woken);
}

/* Stops, at a turn's end, a loop that has been drained. */
REACTOR__COLD static void reactor__loop_end_drain(reactor *r) {
    const reactor_counters *n = &r->core.counters;
    if (n->listeners || n->connections || r->draining == REACTOR__LOOP_DRAINED) return;
    if (r->draining == REACTOR__LOOP_DRAINING && reactor__loop_has_work(r)) return;
    r->draining = REACTOR__LOOP_DRAINED;
    reactor__core_stop(&r->core, 1);
}

/* The turn proper: waits, dispatches and runs the phases. */
static int reactor__loop_events(reactor *r, int64_t timeout) {
    if (REACTOR__UNLIKELY(r->hook_count)) timeout = reactor__loop_ask_hooks(r, timeout);
    int e = reactor__loop_wait(r, timeout);
    if (e < 0) return e;
    r->core.counters.turns++;
    reactor__core_dispatch(&r->core);
    if (REACTOR__UNLIKELY(r->lost)) return -EBADF;
    r->quiet = reactor__timer_is_idle(&r->wheel) && !REACTOR__PEEK(&r->wake.woken) &&
               !reactor__loop_pending(r);
    if (!r->quiet) reactor__loop_phases(r, REACTOR__LOOP_FIRE);
    return 0;
}

/* Runs the phases that a stop has left undone. Returns whether the turn goes on: not if they called
   anybody, because what these callbacks set or defer is for the next turn. */
REACTOR__NOINLINE static int reactor__loop_catch_up(reactor *r) {
    const uint64_t called = r->core.counters.callbacks;
    reactor__loop_phases(r, r->left);
    return r->core.counters.callbacks == called && !REACTOR__PEEK(&r->core.stop);
}

/* One turn. If a stop has left phases undone they come first; if they call anybody they are a
   turn of their own, because what they set or defer is for the next one. keys is NULL except for
   reactor_select, which takes at most max reports: nobody could be given the rest, and a level
   waits in the kernel at no cost. */
static int reactor__loop_turn(reactor *r, int64_t timeout, reactor_key *keys, int max) {
    int go_on = 1, e = 0;
    r->core.busy = 1;
    r->core.limit = keys && (uint32_t)max < r->core.batch ? (uint32_t)max : r->core.batch;
    if (REACTOR__UNLIKELY(r->left != REACTOR__LOOP_PHASES)) go_on = reactor__loop_catch_up(r);
    if (go_on) e = reactor__loop_events(r, timeout);
    if (e == 0 && r->core.kept) e = reactor__core_hand_out(&r->core, keys, max);
    if (REACTOR__UNLIKELY(r->draining)) reactor__loop_end_drain(r);
    reactor__loop_check(r);
    r->core.busy = 0;
    if (r->core.changed && !r->child) reactor__loop_renest(r);
    return e;
}

/* ---- run ---- */

/* Whether anything could still happen. A loop that drains is alive until the drain has stopped
   it. */
static int reactor__loop_alive(const reactor *r) {
    if (r->core.active || r->wheel.count > r->wheel.unref_count) return 1;
    if (r->draining && r->draining != REACTOR__LOOP_DRAINED) return 1;
    return reactor__loop_has_work(r);
}

/* Begins a run, poll or select; leave ends it. The first one makes the loop its thread's, which
   need not be the thread that made it. */
static int reactor__loop_enter(reactor *r, int pulling) {
    if (!r) return -EINVAL;
    if (r->running) return -EBUSY;
    if (r->pid != reactor__util_pid()) return -ECHILD;
    if (!r->owned) {
        r->owner = reactor__util_self();
        r->owned = 1;
    } else if (!reactor__util_is_self(r->owner))
        return -EPERM;
    r->running = 1;
    r->quiet = 0;
    reactor__core_pull(&r->core, pulling);
    return 0;
}

/* What REACTOR_ASSERT checks in every call that only the loop's thread may make. */
REACTOR__OPTIONAL static int reactor__loop_is_mine(const reactor *r) {
    return !r->owned || reactor__util_is_self(r->owner);
}

static void reactor__loop_free(reactor *r);

/* Ends a run, poll or select. The stop is cleared only here, so one made before the run counts.
   Its notification is taken back too, or it would end the next wait; but it may have been a
   post's as well, so posts are taken over. Last, the loop is freed if a callback has destroyed
   it. */
static void reactor__loop_leave(reactor *r) {
    if (REACTOR__PEEK(&r->core.stop) && !r->child) {
        if (REACTOR__PEEK(&r->wake.woken)) {
            reactor__wake_drop(&r->wake, 0);
            reactor__loop_take_posts(r);
        }
        reactor__core_stop(&r->core, 0);
    }
    r->running = 0;
    if (r->destroyed) reactor__loop_free(r);
}

REACTOR_API int reactor_run(reactor *r) {
    int e = reactor__loop_enter(r, 0);
    if (e < 0) return e;
    r->running = 2;
    while (e == 0 && !REACTOR__PEEK(&r->core.stop) && reactor__loop_alive(r))
        e = reactor__loop_turn(r, -1, NULL, 0);
    reactor__loop_leave(r);
    return e;
}

REACTOR_API int reactor_poll_ns(reactor *r, int64_t timeout_ns) {
    if (timeout_ns < -1) return -EINVAL;
    int e = reactor__loop_enter(r, 0);
    if (e < 0) return e;
    uint64_t before = r->core.counters.callbacks;
    e = reactor__loop_turn(r, timeout_ns, NULL, 0);
    uint64_t called = r->core.counters.callbacks - before;
    reactor__loop_leave(r);
    if (e < 0) return e;
    return called < INT_MAX ? (int)called : INT_MAX;
}

REACTOR_API int reactor_poll(reactor *r, int64_t timeout_ms) {
    if (timeout_ms < -1) return -EINVAL;
    return reactor_poll_ns(r, timeout_ms < 0 ? -1 : reactor__util_ms(timeout_ms));
}

REACTOR_API int reactor_select(reactor *r, reactor_key *ready, int max, int64_t timeout_ms) {
    if (!ready || max < 1 || timeout_ms < -1) return -EINVAL;
    int e = reactor__loop_enter(r, 1);
    if (e < 0) return e;
    e = reactor__loop_turn(r, timeout_ms < 0 ? -1 : reactor__util_ms(timeout_ms), ready, max);
    reactor__loop_leave(r);
    return e;
}

/* NULL if there is none. */
static reactor__loop_hook *reactor__loop_find_hook(const reactor *r, reactor_hook_fn *fn,
                                                   const void *user) {
    for (uint32_t i = 0; i < r->hook_count; i++)
        if (r->hooks[i].fn == fn && r->hooks[i].user == user) return &r->hooks[i];
    return NULL;
}

REACTOR_API int reactor_before_wait(reactor *r, reactor_hook_fn *fn, void *user) {
    if (!r || !fn) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (reactor__loop_find_hook(r, fn, user)) return -EEXIST;
    if (r->hook_count == r->hook_cap) {
        void *grown =
            reactor__util_grown(r->hooks, &r->hook_cap, r->hook_count + 1, sizeof *r->hooks);
        if (!grown) return -ENOMEM;
        r->hooks = (reactor__loop_hook *)grown;
    }
    reactor__loop_hook *hook = &r->hooks[r->hook_count++];
    hook->fn = fn;
    hook->user = user;
    hook->at = REACTOR__NEVER;
    reactor__loop_wish(r, hook, 0);
    reactor__loop_touch(r);
    return 0;
}

REACTOR_API int reactor_unhook(reactor *r, reactor_hook_fn *fn, void *user) {
    if (!r || !fn) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    reactor__loop_hook *hook = reactor__loop_find_hook(r, fn, user);
    if (!hook) return -ENOENT;
    reactor__loop_wish(r, hook, REACTOR__NEVER);
    hook->fn = NULL;
    if (!r->hooking) reactor__loop_close_ranks(r);
    return 0;
}

REACTOR_API void reactor_wake(reactor *r) {
    if (r) reactor__wake_notify(&r->wake);
}

/* Sets the stop first and wakes then: when a wait ends by it, the stop must be set. */
REACTOR_API void reactor_stop(reactor *r) {
    if (!r) return;
    reactor__core_stop(&r->core, 1);
    reactor__wake_notify(&r->wake);
}

REACTOR_API void reactor_ref(reactor *r) {
    if (r && r->refs < UINT32_MAX) r->refs++;
}

/* The last reference may have been all that held up a drain, which the end of a turn finds out. */
REACTOR_API void reactor_unref(reactor *r) {
    if (!r || !r->refs) return;
    r->refs--;
    if (r->draining && !r->core.busy) reactor__wake_notify(&r->wake);
}

/* The loop is const for the caller, but its owner, the only one who may call this, may have the
   time read. */
REACTOR_API int64_t reactor_now_ns(const reactor *r) {
    return r ? reactor__loop_now((reactor *)(uintptr_t)r) : 0;
}

REACTOR_API int64_t reactor_now(const reactor *r) { return reactor_now_ns(r) / REACTOR__MS; }

REACTOR_API const char *reactor_backend(const reactor *r) { return r ? r->core.backend->name : ""; }
REACTOR_API const char *reactor_backend_reason(const reactor *r) { return r ? r->core.reason : ""; }

/* From the first call on the loop counts as nested, which costs it a renest at each turn's end. */
REACTOR__COLD REACTOR_API int reactor_fd(reactor *r) {
    if (!r) return -EINVAL;
    if (!r->core.backend->fd) return -ENOTSUP;
    int fd = r->core.backend->fd(&r->core);
    if (fd < 0) return fd;
    r->core.changed = reactor__loop_changed;
    reactor__loop_touch(r);
    return fd;
}

/* ---- fork ---- */

/* Gives a nested loop its alarm again, or the descriptor for it. */
REACTOR__COLD static int reactor__loop_nest_again(reactor *r) {
    int fd = r->core.changed ? r->core.backend->fd(&r->core) : 0;
    return fd < 0 ? fd : 0;
}

/* pid is stored last: until then a child may destroy this loop and do nothing else with it. */
REACTOR__COLD REACTOR_API int reactor_fork(reactor *r) {
    if (!r) return -EINVAL;
    if (r->pid == reactor__util_pid()) return 0;
    if (r->running) return -EBUSY;
    int e = reactor__wake_fork(&r->wake, &r->rung);
    if (e == 0) e = reactor__core_fork(&r->core);
    if (e == 0) e = reactor__loop_nest_again(r);
    for (int i = 0; i < REACTOR__LOOP_MODULES && e == 0; i++)
        if (r->modules[i]) e = r->modules[i]->forked(r, r->modules[i]);
    if (e < 0) return e;
    r->owned = 0;
    REACTOR__STORE(&r->pid, reactor__util_pid());
    reactor__loop_touch(r);
    return 0;
}

/* ---- create and destroy ---- */

REACTOR__COLD REACTOR_API const char *reactor_backend_name(int index) {
    const reactor__core_backend *b = REACTOR__CORE_BEST;
    for (; b && index > 0; index--) b = b->worse;
    return b && index == 0 ? b->name : NULL;
}

/* Replaces 0 by the default, and refuses what is outside the range. */
REACTOR__COLD static int reactor__loop_default(int64_t *value, int64_t standard, int64_t min,
                                               int64_t max) {
    if (*value == 0) *value = standard;
    return *value < min || *value > max ? -EINVAL : 0;
}

/* Fills in the defaults and checks the ranges. All fields go through int64_t, so that one
   function can do it. `to` is zeroed memory. */
REACTOR__COLD static int reactor__loop_options(reactor_options *to, const reactor_options *given) {
    if (given) *to = *given;
    int64_t batch = to->batch, accepts = to->accept_budget, timers = to->timer_budget;
    int64_t posts = to->post_budget;
    uint64_t limit = INT64_MAX;
    if (to->read_budget > limit || to->read_buffer > limit) return -EINVAL;
    if (to->sigpipe_ignored < 0 || to->sigpipe_ignored > 1) return -EINVAL;
    if (to->work_threads < 0 || to->work_threads > 1024) return -EINVAL;
    if (to->blocking_threads < 0 || to->blocking_threads > 1024) return -EINVAL;
    int64_t budget = (int64_t)to->read_budget, buffer = (int64_t)to->read_buffer;
    if (reactor__loop_default(&batch, 256, 1, 65536) < 0 ||
        reactor__loop_default(&accepts, 64, 1, INT_MAX) < 0 ||
        reactor__loop_default(&timers, 4096, 1, INT_MAX) < 0 ||
        reactor__loop_default(&posts, 4096, 1, INT_MAX) < 0 ||
        reactor__loop_default(&budget, 256 * 1024, 1, INT64_MAX) < 0 ||
        reactor__loop_default(&buffer, 64 * 1024, 1024, 1024 * 1024 * 1024) < 0 ||
        reactor__loop_default(&to->slow_ms, 100, 1, INT64_MAX) < 0)
        return -EINVAL;
    to->batch = (int)batch;
    to->accept_budget = (int)accepts;
    to->timer_budget = (int)timers;
    to->post_budget = (int)posts;
    to->read_budget = (size_t)budget;
    to->read_buffer = (size_t)buffer;
    return 0;
}

/* Starts the best backend that works, and notes why the better ones did not. */
REACTOR__COLD static int reactor__loop_choose(reactor *r, const char *name) {
    char *reason = r->core.reason;
    const size_t size = sizeof r->core.reason;
    int e = -ENOTSUP;
    size_t used = 0;
    for (const reactor__core_backend *b = REACTOR__CORE_BEST; b; b = b->worse) {
        if (name && strcmp(name, b->name) != 0) continue;
        e = b->init(&r->core);
        if (e == 0) {
            r->core.backend = b;
            if (b->traits & (unsigned)REACTOR__CORE_REPORTS_CLOSED) r->core.verify_turn = 0;
            if (name && b != REACTOR__CORE_BEST) snprintf(reason, size, "asked for by name");
            return 0;
        }
        int n = snprintf(reason + used, size - used, "%s%s: %s", used ? "; " : "", b->name,
                         reactor_strerror(e));
        used += n > 0 ? (size_t)n : 0;
        if (used >= size) used = size - 1;
    }
    return e;
}

/* The seed of all generations. It differs between loops, so that one refuses another's handles. */
static uint32_t reactor__loop_seed(const reactor *r, int64_t now) {
    uint64_t h = ((uint64_t)(uintptr_t)r >> 4) ^ (uint64_t)now;
    return (uint32_t)(h * UINT64_C(0x9E3779B97F4A7C15) >> 33) | 1;
}

/* Prepares the wake-up: by the backend's own means, or with a descriptor that is watched. */
REACTOR__COLD static int reactor__loop_start_wake(reactor *r) {
    reactor__core *core = &r->core;
    int64_t slot = reactor__core_reserve(core, REACTOR__CORE_INTERNAL, reactor__loop_woken, NULL);
    if (slot < 0) return (int)slot;
    core->waker = (uint32_t)slot;
    if (core->backend->wake) {
        r->wake.core = core;
        reactor__core_at(core, core->waker)->armed = REACTOR_READ | REACTOR__CORE_WATCHED;
        reactor__core_want(core, reactor__core_at(core, core->waker), REACTOR_READ);
        return 0;
    }
    int e = reactor__wake_open(&r->wake);
    return e < 0 ? e : reactor__core_bind(core, core->waker, r->wake.in, REACTOR_READ);
}

/* The half of create that can fail: if it fails it undoes what it has done. */
REACTOR__COLD static int reactor__loop_start(reactor *r, const char *backend) {
    reactor__core *core = &r->core;
    uint32_t seed = reactor__loop_seed(r, r->now);
    int e = reactor__wake_init(&r->wake, seed);
    if (e < 0) return e;
    e = reactor__timer_init(&r->wheel, r->now, seed);
    if (e == 0)
        e = reactor__core_init(core, r, seed, (uint32_t)r->options.batch,
                               r->options.on_slow ? reactor__loop_call_slow : NULL);
    if (e == 0) e = reactor__loop_choose(r, backend);
    if (e == 0) e = reactor__loop_start_wake(r);
    if (e == 0) return 0;
    reactor__core_fini(core);
    reactor__timer_fini(&r->wheel);
    reactor__wake_fini(&r->wake, 0);
    return e;
}

REACTOR__COLD REACTOR_API int reactor_create(reactor **out, const reactor_options *options) {
    if (!out) return -EINVAL;
    *out = NULL;
    reactor *r = REACTOR__NEW(reactor);
    if (!r) return -ENOMEM;
    int e = reactor__loop_options(&r->options, options);
    if (e == 0) {
        reactor__loop_read_clock(r);
        r->pid = reactor__util_pid();
        r->left = REACTOR__LOOP_PHASES;
        r->member = REACTOR__NONE;
        r->held = reactor__util_hold_standard();
        e = reactor__loop_start(r, r->options.backend);
    }
    if (e < 0) {
        reactor__util_free_standard(r->held);
        REACTOR_FREE(r);
        return e;
    }
    r->options.backend = r->core.backend->name;
    *out = r;
    return 0;
}

/* Runs a whole queue at destroy. A task that stops the loop does not keep the others from
   running. No task can be added, because defer and post are refused by now, so this ends. */
REACTOR__COLD static void reactor__loop_finish(reactor *r, reactor__wake_queue *q) {
    while (q->count) {
        reactor__core_stop(&r->core, 0);
        reactor__loop_run_tasks(r, q, INT_MAX);
    }
}

/* Frees the loop, and runs before what was promised to run: what was posted or deferred, and
   every on_close. In a forked child nothing is called, because that is the parent's to do. Tasks
   come first, while there are connections to write to; streams before signals, for on_close may
   set one. `running` keeps all these callbacks from running or freeing the loop again. */
REACTOR__COLD static void reactor__loop_free(reactor *r) {
    const int child = reactor__util_pid() != r->pid;
    reactor__wake_queue rest;
    memset(&rest, 0, sizeof rest);
    r->running = r->closing = 1;
    r->core.changed = NULL;
    r->core.child = child;
    if (!child) {
        reactor__wake_close(&r->wake);
        reactor__wake_take(&r->wake, &rest);
        reactor__loop_finish(r, &r->posted);
        reactor__loop_finish(r, &rest);
        reactor__loop_finish(r, &r->due);
        reactor__loop_finish(r, &r->deferred);
    }
    for (int i = REACTOR__LOOP_MODULES - 1; i >= 0; i--)
        if (r->modules[i]) r->modules[i]->fini(r, r->modules[i], child);
    reactor__core_fini(&r->core);
    reactor__timer_fini(&r->wheel);
    reactor__wake_fini(&r->wake, child);
    reactor__util_free_standard(r->held);
    REACTOR_FREE(rest.tasks);
    REACTOR_FREE(r->posted.tasks);
    REACTOR_FREE(r->deferred.tasks);
    REACTOR_FREE(r->due.tasks);
    REACTOR_FREE(r->hooks);
    REACTOR_FREE(r);
}

/* A forked child has destroyed its copy of the loop in a callback. All that the kernel has of
   the loop is closed at once, because the child may go on for long before that callback returns,
   if it ever does; memory is freed when it returns. The rest of the turn, and calls on the loop,
   reach nothing that is shared with the parent. */
REACTOR__COLD static void reactor__loop_fork_cleanup(reactor *r) {
    r->child = r->core.child = 1;
    for (int i = 0; i < REACTOR__LOOP_MODULES; i++)
        if (r->modules[i]) r->modules[i]->fork_cleanup(r, r->modules[i]);
    reactor__core_abandon(&r->core);
    reactor__wake_abandon(&r->wake);
}

/* Inside a callback this does only what must hold from then on: no posts, nothing new.
   loop_leave does the rest. */
REACTOR__COLD REACTOR_API void reactor_destroy(reactor *r) {
    if (!r) return;
    if (!r->running) {
        reactor__loop_free(r);
        return;
    }
    r->destroyed = r->closing = 1;
    reactor__core_stop(&r->core, 1);
    if (reactor__util_pid() != r->pid)
        reactor__loop_fork_cleanup(r);
    else
        reactor__wake_close(&r->wake);
}

/* ---- descriptors ---- */

/* 0 if a watcher may ask for this. */
static int reactor__loop_check_interest(const reactor *r, unsigned events) {
    const unsigned traits = r->core.backend->traits;
    if (events & ~REACTOR__CORE_USER) return -EINVAL;
    if ((events & REACTOR__CORE_PRI) && !(traits & (unsigned)REACTOR__CORE_TELLS_PRIORITY))
        return -ENOTSUP;
    const int tells_fin = (traits & (unsigned)REACTOR__CORE_TELLS_FIN) != 0;
    return (events & (unsigned)REACTOR_HANGUP) && !tells_fin ? -ENOTSUP : 0;
}

/* The callback of a descriptor with several watchers, see below. */
static reactor_io_fn reactor__loop_share;

static int reactor__loop_is_shared(const reactor__core_slot *slot) {
    return slot->kind == REACTOR__CORE_WATCHER && slot->fn == reactor__loop_share;
}

/* Finds the user's watcher of a descriptor. Those of streams, of the loop itself and of
   reactor_watch count as not watched. */
REACTOR__NOINLINE static int reactor__loop_watcher(const reactor *r, reactor_socket fd,
                                                   uint32_t *index) {
    if (!r) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    *index = reactor__core_find(&r->core, fd);
    if (*index == REACTOR__NONE) return -ENOENT;
    const reactor__core_slot *slot = reactor__core_at(&r->core, *index);
    return slot->kind == REACTOR__CORE_WATCHER && !reactor__loop_is_shared(slot) ? 0 : -ENOENT;
}

/* Makes a watcher one for reactor_select alone, or one with a callback. */
static void reactor__loop_set_select_only(reactor *r, uint32_t index, int on) {
    reactor__core_slot *slot = reactor__core_at(&r->core, index);
    int was = (slot->flags & REACTOR__CORE_SELECT_ONLY) != 0;
    reactor__core_flag(&r->core, slot, REACTOR__CORE_SELECT_ONLY, on);
    r->core.pulled += (uint32_t)on - (uint32_t)was;
}

/* SELECT_ONLY is decided before the slot is bound, for bind tells the backend whether to be
   silent. */
REACTOR_API int reactor_add(reactor *r, reactor_socket fd, unsigned events, reactor_io_fn *fn,
                            void *user) {
    int e = r ? reactor__loop_check_interest(r, events) : -EINVAL;
    if (e < 0) return e;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (reactor__core_find(&r->core, fd) != REACTOR__NONE) return -EEXIST;
    int64_t index = reactor__core_reserve(&r->core, REACTOR__CORE_WATCHER, fn, user);
    if (index < 0) return (int)index;
    reactor__loop_set_select_only(r, (uint32_t)index, fn == NULL);
    e = reactor__core_bind(&r->core, (uint32_t)index, fd, events);
    if (e < 0) {
        reactor__loop_set_select_only(r, (uint32_t)index, 0);
        reactor__core_release(&r->core, (uint32_t)index);
        return e;
    }
    r->core.watchers++;
    return 0;
}

/* Changes a watcher, and applies its interest at once. If the backend refuses, everything is as
   before. The slot may stay in the dirty list: flush finds nothing to apply. */
static int reactor__loop_set_watcher(reactor *r, uint32_t index, unsigned events, reactor_io_fn *fn,
                                     void *user) {
    reactor__core_slot *slot = reactor__core_at(&r->core, index);
    const reactor__core_slot old = *slot;
    slot->fn = fn;
    slot->user = user;
    reactor__loop_set_select_only(r, index, fn == NULL);
    reactor__core_want(&r->core, slot, events);
    int e = reactor__core_apply_now(&r->core, index);
    if (e >= 0) return 0;
    slot->fn = old.fn;
    slot->user = old.user;
    reactor__loop_set_select_only(r, index, old.fn == NULL);
    reactor__core_want(&r->core, slot, old.wanted);
    return e;
}

REACTOR_API int reactor_set(reactor *r, reactor_socket fd, unsigned events, reactor_io_fn *fn,
                            void *user) {
    uint32_t index;
    int e = r ? reactor__loop_check_interest(r, events) : -EINVAL;
    if (e < 0) return e;
    if (reactor__loop_watcher(r, fd, &index) < 0) return reactor_add(r, fd, events, fn, user);
    return reactor__loop_set_watcher(r, index, events, fn, user);
}

REACTOR_API int reactor_modify(reactor *r, reactor_socket fd, unsigned events) {
    uint32_t index;
    int e = r ? reactor__loop_check_interest(r, events) : -EINVAL;
    if (e == 0) e = reactor__loop_watcher(r, fd, &index);
    if (e == 0) reactor__core_modify(&r->core, index, events);
    return e;
}

static void reactor__loop_remove(reactor *r, uint32_t index) {
    reactor__core_unbind(&r->core, index, 0);
    reactor__loop_set_select_only(r, index, 0);
    reactor__core_release(&r->core, index);
    r->core.watchers--;
}

REACTOR_API int reactor_remove(reactor *r, reactor_socket fd) {
    uint32_t index;
    int e = reactor__loop_watcher(r, fd, &index);
    if (e == 0) reactor__loop_remove(r, index);
    return e;
}

REACTOR_API int reactor_rewatch(reactor *r, reactor_socket fd, reactor_io_fn *fn, void *user) {
    uint32_t index;
    int e = reactor__loop_watcher(r, fd, &index);
    if (e < 0) return e;
    reactor__core_slot *slot = reactor__core_at(&r->core, index);
    slot->fn = fn;
    slot->user = user;
    reactor__core_want(&r->core, slot, slot->wanted); /* the tag tells whether there is an fn */
    reactor__loop_set_select_only(r, index, fn == NULL);
    reactor__core_touch(&r->core, index);
    return 0;
}

/* Whether it is one that a user has added, by either call. */
static int reactor__loop_is_watcher(const reactor__core_slot *slot) {
    if (slot->kind == REACTOR__CORE_MEMBER) return 1;
    return slot->kind == REACTOR__CORE_WATCHER && !reactor__loop_is_shared(slot);
}

static void reactor__loop_show(const reactor__core_slot *slot, reactor_key *out) {
    out->fd = slot->fd;
    out->events = slot->wanted & REACTOR__CORE_USER;
    out->fn = slot->fn;
    out->user = slot->user;
}

REACTOR_API int reactor_find(const reactor *r, reactor_socket fd, reactor_key *out) {
    uint32_t index;
    int e = reactor__loop_watcher(r, fd, &index);
    if (e == 0 && out) reactor__loop_show(reactor__core_at(&r->core, index), out);
    return e;
}

/* The cursor is an index of slots, which stay where they are as long as they are taken. */
REACTOR_API int reactor_next(const reactor *r, uint32_t *cursor, reactor_key *out) {
    if (!r || !cursor || !out) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    while (*cursor < r->core.count) {
        const reactor__core_slot *slot = reactor__core_at(&r->core, (*cursor)++);
        if (!reactor__loop_is_watcher(slot)) continue;
        reactor__loop_show(slot, out);
        return 1;
    }
    return 0;
}

static int reactor__loop_keep_fd(reactor *r, reactor_socket fd, int keep) {
    uint32_t index;
    int e = reactor__loop_watcher(r, fd, &index);
    if (e == -ENOENT && index != REACTOR__NONE)
        e = reactor__loop_is_shared(reactor__core_at(&r->core, index)) ? 0 : e;
    if (e == 0)
        reactor__core_flag(&r->core, reactor__core_at(&r->core, index), REACTOR__CORE_UNREF, !keep);
    return e;
}

REACTOR_API int reactor_ref_fd(reactor *r, reactor_socket fd) {
    return reactor__loop_keep_fd(r, fd, 1);
}
REACTOR_API int reactor_unref_fd(reactor *r, reactor_socket fd) {
    return reactor__loop_keep_fd(r, fd, 0);
}

/* ---- several watchers of one descriptor ----

   Each is a slot of the kind MEMBER, which gives it a handle, a callback and an interest, but
   has no descriptor for the backend. The members of a descriptor form a list, through aux, that
   begins in the user of the one slot which the backend knows: a watcher like any other, with the
   interest of all members, whose callback passes a report on. So core, backends and all other
   watchers know nothing of this, and no memory is needed but slots. */

/* The list that ends in no member is NONE, which is no index. */
static void *reactor__loop_list(uint32_t first) { return (void *)(uintptr_t)first; }
static uint32_t reactor__loop_first(const void *user) { return (uint32_t)(uintptr_t)user; }

/* The interest of all. A member that is silent has no say in whether edges will do. */
static unsigned reactor__loop_merged(const reactor *r, uint32_t first) {
    unsigned all = 0, edge = (unsigned)REACTOR_EDGE;
    for (uint32_t i = first; i != REACTOR__NONE; i = *reactor__core_aux(&r->core, i)) {
        const unsigned wanted = reactor__core_at(&r->core, i)->wanted & ~(unsigned)REACTOR_ONESHOT;
        if (!(wanted & ~(unsigned)REACTOR_EDGE)) continue;
        all |= wanted & ~(unsigned)REACTOR_EDGE;
        edge &= wanted;
    }
    return all ? all | edge : 0;
}

/* The interest of a member has changed: the backend hears of it before the next wait. */
static void reactor__loop_merge(reactor *r, reactor_socket fd) {
    const uint32_t index = reactor__core_find(&r->core, fd);
    const reactor__core_slot *slot = reactor__core_at(&r->core, index);
    reactor__core_modify(&r->core, index, reactor__loop_merged(r, reactor__loop_first(slot->user)));
}

/* Passes a report on. Callbacks may take away any member: r->member is what unwatch moves on if it
   is that one. New ones stand before those that are still to be called. After a stop the rest is
   asked for again, of which all may be told once more. */
static void reactor__loop_share(reactor *r, reactor_socket fd, unsigned events, void *user) {
    r->core.counters.callbacks--;
    r->member = reactor__loop_first(user);
    while (r->member != REACTOR__NONE && !REACTOR__PEEK(&r->core.stop)) {
        const uint32_t index = r->member;
        reactor__core_slot *slot = reactor__core_at(&r->core, index);
        const unsigned got = reactor__core_mask(events, slot->wanted);
        r->member = *reactor__core_aux(&r->core, index);
        if (!got) continue;
        if (slot->wanted & (unsigned)REACTOR_ONESHOT) {
            reactor__core_want(&r->core, slot, slot->wanted & REACTOR__CORE_ONCE);
            reactor__loop_merge(r, fd);
        }
        reactor__loop_call_member(r, reactor__core_at(&r->core, index), got);
    }
    if (r->member != REACTOR__NONE && !r->child) reactor__loop_merge(r, fd);
    r->member = REACTOR__NONE;
}

REACTOR_API int reactor_watch(reactor *r, reactor_socket fd, unsigned events, reactor_io_fn *fn,
                              void *user, reactor_watcher *out) {
    if (out) out->id = 0;
    if (!r || !fn || !out) return -EINVAL;
    int e = reactor__loop_check_interest(r, events);
    if (e < 0) return e;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    const uint32_t bound = reactor__core_find(&r->core, fd);
    const int shared = bound != REACTOR__NONE;
    if (shared && !reactor__loop_is_shared(reactor__core_at(&r->core, bound))) return -EEXIST;
    const int64_t index = reactor__core_reserve(&r->core, REACTOR__CORE_MEMBER, fn, user);
    if (index < 0) return (int)index;
    const uint32_t m = (uint32_t)index;
    reactor__core_slot *slot = reactor__core_at(&r->core, m);
    uint32_t rest = REACTOR__NONE;
    if (shared) rest = reactor__loop_first(reactor__core_at(&r->core, bound)->user);
    slot->fd = fd;
    reactor__core_want(&r->core, slot, events);
    *reactor__core_aux(&r->core, m) = rest;
    const unsigned all = reactor__loop_merged(r, m);
    void *list = reactor__loop_list(m);
    e = shared ? reactor__loop_set_watcher(r, bound, all, reactor__loop_share, list)
               : reactor_add(r, fd, all, reactor__loop_share, list);
    if (e < 0)
        reactor__core_release(&r->core, m);
    else
        out->id = reactor__core_id(&r->core, m);
    return e;
}

static reactor__core_slot *reactor__loop_member(const reactor *r, reactor_watcher w) {
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    return reactor__core_resolve(&r->core, w.id, REACTOR__CORE_MEMBER);
}

REACTOR_API int reactor_watch_modify(reactor *r, reactor_watcher w, unsigned events) {
    int e = r ? reactor__loop_check_interest(r, events) : -EINVAL;
    if (e < 0) return e;
    reactor__core_slot *slot = reactor__loop_member(r, w);
    if (!slot) return -EBADF;
    reactor__core_want(&r->core, slot, events);
    reactor__loop_merge(r, slot->fd);
    return 0;
}

/* What all want is told anew only if it is less than before: the descriptor may be closed, which
   the others have not done anything about yet. */
REACTOR_API int reactor_unwatch(reactor *r, reactor_watcher w) {
    if (!r) return -EINVAL;
    reactor__core_slot *slot = reactor__loop_member(r, w);
    if (!slot) return -EBADF;
    const uint32_t m = (uint32_t)w.id, next = *reactor__core_aux(&r->core, m);
    const uint32_t bound = reactor__core_find(&r->core, slot->fd);
    reactor__core_slot *whole = reactor__core_at(&r->core, bound);
    uint32_t at = reactor__loop_first(whole->user);
    if (at == m) {
        whole->user = reactor__loop_list(next);
    } else {
        while (*reactor__core_aux(&r->core, at) != m) at = *reactor__core_aux(&r->core, at);
        *reactor__core_aux(&r->core, at) = next;
    }
    if (r->member == m) r->member = next;
    reactor__core_release(&r->core, m);
    const uint32_t first = reactor__loop_first(whole->user);
    const unsigned all = reactor__loop_merged(r, first);
    if (first == REACTOR__NONE)
        reactor__loop_remove(r, bound);
    else if (all != whole->wanted)
        reactor__core_modify(&r->core, bound, all);
    return 0;
}

/* ---- timers ---- */

/* Resolves the FRESH timers early, because they are many. Otherwise the clock is read before the
   next wait, and delays count from there. While they are few they are still in the processor's
   cache. e is the error to return. */
REACTOR__NOINLINE static int reactor__loop_resolve(reactor *r, int e) {
    reactor__timer_resolve(&r->wheel, reactor__util_clock());
    return e;
}

/* Sets a timer outside a turn, where the loop's time is that of the last turn: so the clock is
   read. */
REACTOR__NOINLINE static int reactor__loop_set_now(reactor *r, int64_t delay, int64_t interval,
                                                   reactor_timer_fn *fn, void *user, unsigned flags,
                                                   uint64_t *id) {
    int64_t deadline = reactor__util_add(reactor__util_clock(), delay);
    int e = reactor__timer_set(&r->wheel, deadline, interval, fn, user, flags, id);
    reactor__loop_touch(r);
    return e;
}

/* Sets a timer, also for other sections. */
static int reactor__loop_set_timer(reactor *r, int64_t delay, int64_t interval,
                                   reactor_timer_fn *fn, void *user, unsigned flags, uint64_t *id) {
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (!r->core.busy) return reactor__loop_set_now(r, delay, interval, fn, user, flags, id);
    int e = reactor__timer_set_fresh(&r->wheel, delay, interval, fn, user, flags, id);
    return reactor__timer_full(&r->wheel) ? reactor__loop_resolve(r, e) : e;
}

REACTOR__NOINLINE static int reactor__loop_reset_now(reactor *r, uint64_t id, int64_t delay) {
    int e = reactor__timer_reset(&r->wheel, id, reactor__util_add(reactor__util_clock(), delay));
    reactor__loop_touch(r);
    return e;
}

/* Sets a timer's delay anew, also for other sections. */
static int reactor__loop_reset_timer(reactor *r, uint64_t id, int64_t delay) {
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (!r->core.busy) return reactor__loop_reset_now(r, id, delay);
    int e = reactor__timer_reset_fresh(&r->wheel, id, delay);
    return reactor__timer_full(&r->wheel) ? reactor__loop_resolve(r, e) : e;
}

/* Sets a timer of the user's. ns is negative for a delay that is refused. */
static int reactor__loop_new_timer(reactor *r, int64_t ns, int64_t interval, reactor_timer_fn *fn,
                                   void *user, reactor_timer *out) {
    uint64_t id = 0;
    if (out) out->id = 0;
    if (!r || !fn || ns < 0) return -EINVAL;
    int e = reactor__loop_set_timer(r, ns, interval, fn, user, 0, &id);
    if (out) out->id = id;
    return e;
}

REACTOR_API int reactor_after_ns(reactor *r, int64_t ns, reactor_timer_fn *fn, void *user,
                                 reactor_timer *out) {
    return reactor__loop_new_timer(r, ns, 0, fn, user, out);
}

REACTOR_API int reactor_after(reactor *r, int64_t ms, reactor_timer_fn *fn, void *user,
                              reactor_timer *out) {
    return reactor__loop_new_timer(r, ms < 0 ? -1 : reactor__util_ms(ms), 0, fn, user, out);
}

/* A fixed time needs no reading of the clock, so it is never fresh. */
REACTOR_API int reactor_at_ns(reactor *r, int64_t at_ns, reactor_timer_fn *fn, void *user,
                              reactor_timer *out) {
    uint64_t id = 0;
    if (out) out->id = 0;
    if (!r || !fn) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    int e = reactor__timer_set(&r->wheel, at_ns > 0 ? at_ns : 0, 0, fn, user, 0, &id);
    if (out) out->id = id;
    reactor__loop_touch(r);
    return e;
}

REACTOR_API int reactor_at(reactor *r, int64_t at_ms, reactor_timer_fn *fn, void *user,
                           reactor_timer *out) {
    return reactor_at_ns(r, at_ms > 0 ? reactor__util_ms(at_ms) : 0, fn, user, out);
}

REACTOR_API int reactor_every_ns(reactor *r, int64_t ns, reactor_timer_fn *fn, void *user,
                                 reactor_timer *out) {
    return reactor__loop_new_timer(r, ns > 0 ? ns : -1, ns, fn, user, out);
}

REACTOR_API int reactor_every(reactor *r, int64_t ms, reactor_timer_fn *fn, void *user,
                              reactor_timer *out) {
    return reactor_every_ns(r, ms > 0 ? reactor__util_ms(ms) : -1, fn, user, out);
}

REACTOR_API int reactor_reset_ns(reactor *r, reactor_timer t, int64_t ns) {
    return !r || ns < 0 ? -EINVAL : reactor__loop_reset_timer(r, t.id, ns);
}

REACTOR_API int reactor_reset(reactor *r, reactor_timer t, int64_t ms) {
    return reactor_reset_ns(r, t, ms < 0 ? -1 : reactor__util_ms(ms));
}

REACTOR_API int reactor_cancel(reactor *r, reactor_timer t) {
    return r ? reactor__timer_cancel(&r->wheel, t.id) : -EINVAL;
}

REACTOR_API int64_t reactor_remaining(const reactor *r, reactor_timer t) {
    int64_t deadline = 0;
    if (!r) return -EINVAL;
    int e = reactor__timer_get(&r->wheel, t.id, &deadline);
    if (e < 0) return e;
    int64_t left = e == 1 ? deadline : deadline - reactor__util_clock();
    return left <= 0 ? 0 : left / REACTOR__MS + (left % REACTOR__MS != 0);
}

/* The grid goes on with the latest call that is due, see reactor__timer_grid: those between that
   and the one of now are left out. */
REACTOR_API int64_t reactor_missed(const reactor *r, reactor_timer t) {
    if (!r) return -EINVAL;
    int64_t interval = reactor__timer_interval(&r->wheel, t.id);
    if (interval <= 0 || r->firing != t.id) return -EBADF;
    const int64_t late = r->core.counters.lag_ns;
    return late < interval ? 0 : late / interval - 1;
}

REACTOR_API int reactor_ref_timer(reactor *r, reactor_timer t) {
    return r ? reactor__timer_keep(&r->wheel, t.id, 1) : -EINVAL;
}
REACTOR_API int reactor_unref_timer(reactor *r, reactor_timer t) {
    return r ? reactor__timer_keep(&r->wheel, t.id, 0) : -EINVAL;
}

/* ---- tasks ---- */

REACTOR_API int reactor_defer(reactor *r, reactor_task_fn *fn, void *user) {
    if (!r || !fn) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (r->closing) return -ECANCELED;
    int e = reactor__wake_push(&r->deferred, fn, user);
    reactor__loop_touch(r);
    return e;
}

REACTOR_API int reactor_post(reactor *r, reactor_task_fn *fn, void *user) {
    return r && fn ? reactor__wake_post(&r->wake, fn, user) : -EINVAL;
}

REACTOR_API int reactor_async_open(reactor *r, reactor_async_fn *fn, void *user,
                                   reactor_async *out) {
    if (!r || !fn || !out) return -EINVAL;
    out->id = 0;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    return r->closing ? -ECANCELED : reactor__wake_async_open(&r->wake, fn, user, &out->id);
}

REACTOR_API int reactor_async_send(reactor *r, reactor_async a) {
    return r ? reactor__wake_send(&r->wake, a.id) : -EINVAL;
}

REACTOR_API int reactor_async_close(reactor *r, reactor_async a) {
    if (!r) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    return reactor__wake_async_close(&r->wake, a.id);
}

/* ---- inside view ---- */

REACTOR__COLD REACTOR_API const char *reactor_strerror(int error) {
    if (error == REACTOR_ORDERLY) return "orderly end";
    if (error == REACTOR_DETACHED) return "detached";
    if (error > 19999 || error < -19999) return "unknown error"; /* Winsock's are above 10000 */
    return reactor__util_text(error < 0 ? -error : error);
}

REACTOR__COLD REACTOR_API int reactor_stats(const reactor *r, reactor_counters *out) {
    if (!r || !out) return -EINVAL;
    *out = r->core.counters;
    out->watchers = r->core.watchers;
    out->timers = r->wheel.count;
    out->jobs = r->jobs;
    return 0;
}

REACTOR__COLD static void reactor__loop_dump_watchers(const reactor *r, reactor_line_fn *fn,
                                                      void *user) {
    char line[160];
    for (uint32_t i = 0; i < r->core.count; i++) {
        const reactor__core_slot *slot = reactor__core_at(&r->core, i);
        unsigned w = slot->wanted;
        if (!reactor__loop_is_watcher(slot)) continue;
        snprintf(line, sizeof line, "watcher fd=%lld interest=%s%s%s%s%s%s%s%s",
                 (long long)slot->fd, w & (unsigned)REACTOR_READ ? "R" : "",
                 w & (unsigned)REACTOR_WRITE ? "W" : "", w & REACTOR__CORE_PRI ? "P" : "",
                 w & (unsigned)REACTOR_HANGUP ? "H" : "", w & REACTOR__CORE_EVENTS ? "" : "none",
                 w & (unsigned)REACTOR_EDGE ? " edge" : "",
                 w & (unsigned)REACTOR_ONESHOT ? " oneshot" : "",
                 slot->flags & REACTOR__CORE_UNREF ? " unref" : "");
        fn(line, user);
    }
}

REACTOR__COLD static void reactor__loop_dump_timers(const reactor *r, reactor_line_fn *fn,
                                                    void *user) {
    char line[160];
    uint32_t cursor = 0;
    uint64_t id;
    int64_t deadline, interval, now = reactor__util_clock();
    unsigned flags;
    while (reactor__timer_each(&r->wheel, &cursor, &id, &deadline, &interval, &flags)) {
        if (flags & REACTOR__TIMER_INTERNAL) continue;
        snprintf(line, sizeof line, "timer id=%llx due_ms=%lld every_ms=%lld%s",
                 (unsigned long long)id, (long long)((deadline - now) / REACTOR__MS),
                 (long long)(interval / REACTOR__MS), flags & REACTOR__TIMER_UNREF ? " unref" : "");
        fn(line, user);
    }
}

REACTOR__COLD REACTOR_API int reactor_dump(const reactor *r, reactor_line_fn *fn, void *user) {
    char line[320];
    if (!r || !fn) return -EINVAL;
    snprintf(
        line, sizeof line, "loop backend=%s turns=%llu watchers=%u timers=%u refs=%u reason=%s",
        r->core.backend->name, (unsigned long long)r->core.counters.turns,
        (unsigned)r->core.watchers, (unsigned)r->wheel.count, (unsigned)r->refs, r->core.reason);
    fn(line, user);
    reactor__loop_dump_watchers(r, fn, user);
    reactor__loop_dump_timers(r, fn, user);
    for (int i = 0; i < REACTOR__LOOP_MODULES; i++)
        if (r->modules[i]) r->modules[i]->dump(r, r->modules[i], fn, user);
    return 0;
}
/* ==== >> signal ==== */
/* Signals delivered as callbacks of the loop. Dispositions belong to the process, and so does what
   is kept of a signal, its hub: the loops that watch it and what was there before. A program may
   hold several copies of this library (REACTOR_STATIC), which share the hubs.

   The handler may run in any thread at any time, so it does only what signal-safety(7) allows: it
   walks the hub's list, sets flags, and wakes the loops. Whoever unlinks a node waits until no
   handler is walking before it frees it; a handler that interrupts that very thread has ended by
   then. Lists are changed inside a gate and linked with atomic stores, so a walk always sees a
   list. A forked child inherits handlers, hubs and loops. It must not wake its parent's loops, nor
   wait for its parent's other threads. */
#ifndef REACTOR_NO_SIGNALS

#if defined(_SIG_MAXSIG)
#define REACTOR__SIGNAL_MAX (_SIG_MAXSIG + 1) /* FreeBSD, whose NSIG is that of old: 32 */
#elif defined(NSIG)
#define REACTOR__SIGNAL_MAX NSIG
#else
#define REACTOR__SIGNAL_MAX 65
#endif

#ifdef _WIN32
typedef char reactor__signal_before; /* nothing needs to be remembered */
typedef void reactor__signal_handler_fn(void);
#else
#include <sys/mman.h>
#ifndef MAP_ANON
#define MAP_ANON MAP_ANONYMOUS
#endif
typedef struct sigaction reactor__signal_before;
typedef void reactor__signal_handler_fn(int signum, siginfo_t *info, void *context);
#endif

/* A gate admits one thread at a time to change what is behind it, and lets that thread wait for the
   handlers that walk there. It is no mutex: a forked child would inherit one that was held by a
   thread that it does not have, and wait for it for ever. A gate notes the process along with the
   holder and with the walks, so a child recognizes both as its parent's.

        open -> held [signal_try_enter]   held -> open [signal_leave]
        held by a parent -> held [signal_try_enter, in the child] */
typedef struct reactor__signal_gate {
    int holder;  /* atomic: process of the thread inside; 0: nobody is */
    int pid;     /* atomic: process whose handlers are counted */
    int walkers; /* atomic: how many are walking */
} reactor__signal_gate;

/* A link is one loop's watch of one signal, in the part that every copy of the library sees. Copies
   may be of different versions: whoever changes this struct or the hub changes
   REACTOR__SIGNAL_MAGIC. */
typedef struct reactor__signal_link {
    struct reactor__signal_link *next;                          /* atomic */
    void (*notify)(struct reactor__signal_link *link, int pid); /* called by any copy's handler */
    reactor__signal_handler_fn *handler; /* of the copy that made it, and names that copy */
} reactor__signal_link;

/* A hub is what the process keeps of a watched signal. A copy's code, handler included, may be
   unloaded before another's: so a copy that finds the signal taken asks the handler that it finds
   for the hub, and a copy that leaves installs the handler of one that stays. The hub is mapped
   memory and not an allocator's, for the copy that made it may be gone when the last one frees it.

        none -> watched [signal_meet, with the first link]
        watched -> watched, of more or fewer links [signal_put_on, signal_take_off]
        watched -> left for another copy's hub [signal_join]
        watched -> none [signal_depart, when the last link is off; signal_hand_over has put the
        disposition back before] */
typedef struct reactor__signal_hub {
    reactor__signal_gate gate;
    reactor__signal_link *first;     /* atomic; changed inside the gate */
    reactor__signal_before previous; /* what was there before */
} reactor__signal_hub;

/* This copy's table: the hub of each signal that it watches. An entry's gate is always entered
   before the gate of its hub, so two threads cannot wait for each other. */
static struct reactor__signal_entry {
    reactor__signal_gate gate;
    reactor__signal_hub *hub;        /* atomic */
    reactor__signal_before previous; /* as when this copy took the signal over */
} reactor__signal_table[REACTOR__SIGNAL_MAX];

/* A node is the watch as its loop sees it.

        -> linked [signal_link_node]   linked, pending 0 -> 1 [signal_notify]   1 -> 0 [signal_turn]
        linked -> removed, fn NULL [reactor_signal, signal_fork_cleanup]
        removed -> freed [signal_sweep] */
typedef struct reactor__signal_node {
    reactor__signal_link link;              /* first */
    struct reactor__signal_node *next_here; /* of the same loop, which owns it */
    reactor *r;
    reactor_signal_fn *fn; /* NULL: removed, freed when nobody walks next_here */
    void *user;
    int signum;
    int pending; /* atomic: it came, and has not been told */
} reactor__signal_node;

typedef struct reactor__signal_module {
    reactor__loop_module module; /* first: the loop knows only this */
    reactor__signal_node *nodes;
    int walking; /* turn is going through nodes, calling back */
} reactor__signal_module;

/* ---- gates ---- */

/* Enters, or returns 0 if another thread of this process is inside. A holder of another process is
   a parent's thread that a fork has not brought along, so the gate is free; the walks that it
   counted do not exist here either. */
static int reactor__signal_try_enter(reactor__signal_gate *g) {
    const int pid = reactor__util_pid();
    if (REACTOR__EXCHANGE(&g->holder, pid) == pid) return 0;
    if (REACTOR__LOAD(&g->pid) == pid) return 1;
    REACTOR__STORE(&g->walkers, 0); /* before pid, with which handlers begin to count */
    REACTOR__STORE(&g->pid, pid);
    return 1;
}

/* Waits for the holder, who is a few calls away from leaving. It naps and does not spin, for the
   holder may be of lower priority. */
static void reactor__signal_enter(reactor__signal_gate *g) {
    while (!reactor__signal_try_enter(g)) reactor__util_nap();
}

static void reactor__signal_leave(reactor__signal_gate *g) { REACTOR__STORE(&g->holder, 0); }

/* A handler's way in, which never waits. Returns 0 if no thread of this process has passed the
   gate: what is behind it is a parent's, and the handler must not touch it. */
static int reactor__signal_begin_walk(reactor__signal_gate *g, int pid) {
    if (REACTOR__LOAD(&g->pid) != pid) return 0;
    REACTOR__ADD(&g->walkers, 1);
    return 1;
}

static void reactor__signal_end_walk(reactor__signal_gate *g) { REACTOR__ADD(&g->walkers, -1); }

/* A handler counts itself before it looks at a list, and what was on it has been taken off before
   this looks at the count: so one of the two sees the other. */
static void reactor__signal_await_walks(const reactor__signal_gate *g) {
    while (REACTOR__LOAD(&g->walkers)) reactor__util_nap();
}

/* ---- a hub's list ---- */

/* A handler may be walking at this moment; the one atomic store means that it sees the whole link
   or none of it. */
static void reactor__signal_put_on(reactor__signal_hub *hub, reactor__signal_link *link) {
    link->next = hub->first;
    REACTOR__STORE(&hub->first, link);
}

/* When this returns no handler can see the node, and its loop may free it. */
static void reactor__signal_take_off(reactor__signal_hub *hub, reactor__signal_link *link) {
    reactor__signal_link **at = &hub->first;
    while (*at != link) at = &(*at)->next;
    REACTOR__STORE(at, link->next);
    reactor__signal_await_walks(&hub->gate);
}

/* ---- what a handler does ---- */

/* A link's notify. It sets the node, then the module, then wakes the loop; turn looks in the
   opposite order. So whichever of them the loop sees, what belongs to it is there already. */
static void reactor__signal_notify(reactor__signal_link *link, int pid) {
    reactor__signal_node *node = (reactor__signal_node *)link;
    if (REACTOR__LOAD(&node->r->pid) != pid) return; /* its parent's */
    REACTOR__STORE(&node->pending, 1);
    REACTOR__STORE(&node->r->pending[REACTOR__LOOP_SIGNAL], 1);
    reactor__wake_notify(&node->r->wake);
}

/* Notifies every loop that watches the signal. Returns how many there are; -1: all that there is
   belongs to a parent of this process. The walk counted at the entry keeps the hub from being
   freed, that counted at the hub keeps the nodes. */
static int reactor__signal_deliver(int signum) {
    struct reactor__signal_entry *entry = &reactor__signal_table[signum];
    const int pid = reactor__util_pid();
    int n = 0;
    if (!reactor__signal_begin_walk(&entry->gate, pid)) return -1;
    reactor__signal_hub *hub = REACTOR__LOAD(&entry->hub);
    if (hub && !reactor__signal_begin_walk(&hub->gate, pid)) {
        n = -1;
    } else if (hub) {
        reactor__signal_link *link = REACTOR__LOAD(&hub->first);
        for (; link; link = REACTOR__LOAD(&link->next), n++) link->notify(link, pid);
        reactor__signal_end_walk(&hub->gate);
    }
    reactor__signal_end_walk(&entry->gate);
    return n;
}

/* ---- what differs between the systems ----

   meet        the signal's hub, entered; NULL: no memory.
   install     makes sure that the signal comes to a handler. -EAGAIN: join, and try again.
   join        moves this copy's watchers to the hub of the copy that has the signal.
   hand_over   before going is taken off the hub: if this copy has no other, the handler of one that
               has, or what was there before, takes the signal.
   restore     the same after it has been taken off.
   discard     nobody is left to need the hub. */

static reactor__signal_handler_fn *reactor__signal_handler_here(void);

/* Whether this copy watches the hub's signal; without one of its links, if that is not NULL. */
static int reactor__signal_is_watched_here(const reactor__signal_hub *hub,
                                           const reactor__signal_link *without) {
    for (const reactor__signal_link *link = hub->first; link; link = link->next)
        if (link != without && link->handler == reactor__signal_handler_here()) return 1;
    return 0;
}

#ifdef _WIN32
static reactor__signal_hub reactor__signal_hubs[REACTOR__SIGNAL_MAX];

static void reactor__signal_handler(void) {}

static reactor__signal_handler_fn *reactor__signal_handler_here(void) {
    return reactor__signal_handler;
}

/* Windows has no signals but the console's events, told on a thread of their own. When the handler
   of the last three returns, the process is ended: so it waits for the program to end by itself,
   for which the system gives it some seconds. From then on no handler can be removed, that would
   wait for this one: it stays, for the little that is left. Copies do not share: the one that began
   last is the one that hears. */
static int reactor__signal_ending;

static BOOL WINAPI reactor__signal_on_interrupt(DWORD event) {
    return event == CTRL_C_EVENT && reactor__signal_deliver(SIGINT) > 0;
}

/* A service, in session 0, hears of everybody's logging off, which is not its end. */
static int reactor__signal_is_end(DWORD event) {
    DWORD session;
    if (event != CTRL_LOGOFF_EVENT) return event != CTRL_C_EVENT;
    return !ProcessIdToSessionId(GetCurrentProcessId(), &session) || session != 0;
}

/* ending comes before the look at who watches, as unlinking comes before the look at ending. */
static BOOL WINAPI reactor__signal_on_end(DWORD event) {
    if (!reactor__signal_is_end(event)) return FALSE;
    REACTOR__ADD(&reactor__signal_ending, event != CTRL_BREAK_EVENT);
    if (reactor__signal_deliver(SIGTERM) <= 0) {
        REACTOR__ADD(&reactor__signal_ending, -(event != CTRL_BREAK_EVENT));
        return FALSE;
    }
    if (event != CTRL_BREAK_EVENT) Sleep(INFINITE);
    return TRUE;
}

static PHANDLER_ROUTINE reactor__signal_routine(int signum) {
    if (signum == SIGINT) return reactor__signal_on_interrupt;
    return signum == SIGTERM ? reactor__signal_on_end : NULL;
}

REACTOR__COLD static reactor__signal_hub *reactor__signal_meet(int signum) {
    reactor__signal_hub *hub = &reactor__signal_hubs[signum];
    reactor__signal_enter(&hub->gate);
    REACTOR__STORE(&reactor__signal_table[signum].hub, hub);
    return hub;
}

/* The link is on the list already: another one has had it installed. */
REACTOR__COLD static int reactor__signal_install(int signum, reactor__signal_hub *hub) {
    PHANDLER_ROUTINE routine = reactor__signal_routine(signum);
    if (!routine) return -EINVAL;
    if (hub->first->next) return 0;
    return SetConsoleCtrlHandler(routine, TRUE) ? 0 : reactor__util_error();
}

/* There is one hub for each. */
REACTOR__COLD static reactor__signal_hub *reactor__signal_join(int signum,
                                                               reactor__signal_hub *hub) {
    (void)signum;
    return hub;
}

REACTOR__COLD static void reactor__signal_hand_over(int signum, const reactor__signal_hub *hub,
                                                    const reactor__signal_link *going) {
    (void)signum, (void)hub, (void)going;
}

REACTOR__COLD static void reactor__signal_restore(int signum, const reactor__signal_hub *hub) {
    if (hub->first || REACTOR__LOAD(&reactor__signal_ending)) return;
    SetConsoleCtrlHandler(reactor__signal_routine(signum), FALSE);
}

static void reactor__signal_discard(reactor__signal_hub *hub) { (void)hub; }
#else

/* What one copy asks another's handler, by calling it for signal 0, which there is not. */
typedef struct reactor__signal_query {
    siginfo_t info; /* first: what a handler is given */
    uint64_t magic;
    int signum;
    int enter;                /* 0: it is not; it is to be entered; TRY: unless that would wait */
    reactor__signal_hub *hub; /* the answer; NULL: none */
} reactor__signal_query;

#define REACTOR__SIGNAL_MAGIC UINT64_C(0x726561637401)
#define REACTOR__SIGNAL_FLAGS (SA_RESTART | SA_ONSTACK | SA_SIGINFO)
enum { REACTOR__SIGNAL_LOOK, REACTOR__SIGNAL_ENTER, REACTOR__SIGNAL_TRY }; /* enter */

/* As a query wants it; 0: it would have to wait. */
static int reactor__signal_enter_as(reactor__signal_gate *g, int how) {
    if (how == REACTOR__SIGNAL_TRY) return reactor__signal_try_enter(g);
    if (how == REACTOR__SIGNAL_ENTER) reactor__signal_enter(g);
    return 1;
}

/* Entered inside the entry's gate, so that it still is this copy's then: a hub with a watcher is
   not discarded. */
static void reactor__signal_answer(reactor__signal_query *q) {
    if (q->magic != REACTOR__SIGNAL_MAGIC) return;
    struct reactor__signal_entry *entry = &reactor__signal_table[q->signum];
    if (!reactor__signal_enter_as(&entry->gate, q->enter)) return;
    q->hub = REACTOR__LOAD(&entry->hub);
    if (q->hub && !reactor__signal_enter_as(&q->hub->gate, q->enter)) q->hub = NULL;
    if (q->enter) reactor__signal_leave(&entry->gate);
}

static void reactor__signal_pass_on(int signum);

static void reactor__signal_handler(int signum, siginfo_t *info, void *context) {
    const int saved = errno;
    (void)context;
    if (signum == 0)
        reactor__signal_answer((reactor__signal_query *)(void *)info);
    else if (reactor__signal_deliver(signum) == 0)
        reactor__signal_pass_on(signum);
    errno = saved;
}

static reactor__signal_handler_fn *reactor__signal_handler_here(void) {
    return reactor__signal_handler;
}

/* The last watcher has gone since this handler began, and what was there before is there again: the
   signal is sent to that. Unless somebody has put this handler back, who had found it here: then it
   is taken away again, if nobody has begun to watch meanwhile. */
static void reactor__signal_pass_on(int signum) {
    struct reactor__signal_entry *entry = &reactor__signal_table[signum];
    struct sigaction now;
    if (sigaction(signum, NULL, &now) < 0) return;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == reactor__signal_handler) {
        sigaction(signum, &entry->previous, NULL);
        if (REACTOR__LOAD(&entry->hub)) sigaction(signum, &now, NULL);
    }
    kill(reactor__util_pid(), signum);
}

/* RESTART: the host's own blocking calls go on as if nothing had come. ONSTACK: it may have threads
   whose stacks are too small for a handler. Blocked meanwhile are five signals that nobody would
   block together, and that can wait for so long: by these, copies know each other's handlers. */
static struct sigaction reactor__signal_action(void) {
    const int mark[] = {SIGURG, SIGTTIN, SIGTTOU, SIGVTALRM, SIGPROF};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = reactor__signal_handler;
    action.sa_flags = REACTOR__SIGNAL_FLAGS;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 5; i++) sigaddset(&action.sa_mask, mark[i]);
    return action;
}

static int reactor__signal_is_copys(const struct sigaction *now) {
    const struct sigaction ours = reactor__signal_action();
    if ((now->sa_flags & REACTOR__SIGNAL_FLAGS) != REACTOR__SIGNAL_FLAGS) return 0;
    for (int i = 1; i < REACTOR__SIGNAL_MAX; i++)
        if ((sigismember(&now->sa_mask, i) == 1) != (sigismember(&ours.sa_mask, i) == 1)) return 0;
    return 1;
}

/* The hub of the copy whose handler this is; NULL: of none, or it does not watch the signal. */
static reactor__signal_hub *reactor__signal_ask(int signum, const struct sigaction *now,
                                                int enter) {
    reactor__signal_query q;
    if (!reactor__signal_is_copys(now)) return NULL;
    memset(&q, 0, sizeof q);
    q.magic = REACTOR__SIGNAL_MAGIC;
    q.signum = signum;
    q.enter = enter;
    now->sa_sigaction(0, &q.info, NULL);
    return q.hub;
}

REACTOR__COLD static reactor__signal_hub *reactor__signal_meet(int signum) {
    struct reactor__signal_entry *entry = &reactor__signal_table[signum];
    struct sigaction now;
    reactor__signal_hub *hub = entry->hub;
    if (hub) {
        reactor__signal_enter(&hub->gate);
        return hub;
    }
    if (sigaction(signum, NULL, &now) == 0 && now.sa_sigaction != reactor__signal_handler)
        hub = reactor__signal_ask(signum, &now, REACTOR__SIGNAL_ENTER);
    if (!hub) {
        void *page = mmap(NULL, sizeof *hub, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (page == MAP_FAILED) return NULL;
        hub = (reactor__signal_hub *)page;
        hub->previous = entry->previous; /* should our handler be there: see pass_on */
        reactor__signal_enter(&hub->gate);
    }
    REACTOR__STORE(&entry->hub, hub);
    return hub;
}

/* Takes the disposition over, unless a handler of the hub's copies has it: also from a host that
   has taken it meanwhile, for whoever watches a signal anew wants to hear it. -EAGAIN: another copy
   has it, with a hub of its own: it came first, or after such a host. */
REACTOR__COLD static int reactor__signal_install(int signum, reactor__signal_hub *hub) {
    const struct sigaction action = reactor__signal_action();
    struct sigaction now;
    if (sigaction(signum, NULL, &now) < 0) return -errno;
    if (reactor__signal_ask(signum, &now, REACTOR__SIGNAL_LOOK) == hub) return 0;
    if (sigaction(signum, &action, &now) < 0) return -errno;
    if (reactor__signal_ask(signum, &now, REACTOR__SIGNAL_LOOK)) {
        sigaction(signum, &now, NULL);
        return -EAGAIN;
    }
    hub->previous = reactor__signal_table[signum].previous = now;
    return 0;
}

/* Before it is taken off, so that whatever comes until then is this watcher's. Somebody else's
   handler is left alone. */
REACTOR__COLD static void reactor__signal_hand_over(int signum, const reactor__signal_hub *hub,
                                                    const reactor__signal_link *going) {
    struct sigaction now;
    const reactor__signal_link *heir = hub->first != going ? hub->first : going->next;
    if (reactor__signal_is_watched_here(hub, going)) return;
    if (sigaction(signum, NULL, &now) < 0 || now.sa_sigaction != reactor__signal_handler) return;
    if (heir) now.sa_sigaction = heir->handler;
    sigaction(signum, heir ? &now : &hub->previous, NULL);
}

REACTOR__COLD static void reactor__signal_restore(int signum, const reactor__signal_hub *hub) {
    (void)signum, (void)hub;
}

static void reactor__signal_discard(reactor__signal_hub *hub) { munmap(hub, sizeof *hub); }

static void reactor__signal_depart(int signum, reactor__signal_hub *hub);

/* This copy's watchers: from one hub, which it leaves, to the other. */
REACTOR__COLD static void reactor__signal_move(int signum, reactor__signal_hub *from,
                                               reactor__signal_hub *to) {
    for (reactor__signal_link *link = from->first, *next; link; link = next) {
        next = link->next;
        if (link->handler != reactor__signal_handler_here()) continue;
        reactor__signal_take_off(from, link);
        reactor__signal_put_on(to, link);
    }
    reactor__signal_depart(signum, from);
    REACTOR__STORE(&reactor__signal_table[signum].hub, to);
}

/* Returns the hub that this copy has then, entered as hub is. It is that itself if nobody else has
   the signal any more, or is about to change that: no gate is waited for, as two copies might be
   inside their own and wait for each other's. */
REACTOR__COLD static reactor__signal_hub *reactor__signal_join(int signum,
                                                               reactor__signal_hub *hub) {
    struct sigaction now;
    reactor__signal_hub *other = NULL;
    if (sigaction(signum, NULL, &now) < 0) return hub;
    if (reactor__signal_ask(signum, &now, REACTOR__SIGNAL_LOOK) == hub) return hub;
    if (now.sa_sigaction != reactor__signal_handler)
        other = reactor__signal_ask(signum, &now, REACTOR__SIGNAL_TRY);
    if (other)
        reactor__signal_move(signum, hub, other);
    else
        reactor__util_nap();
    return other ? other : hub;
}

#endif

/* ---- linking ---- */

/* Leaves the hub's gate. A copy without a watcher forgets the hub, and waits for its own handlers
   to have left it; whoever leaves it without any watcher frees it. */
REACTOR__COLD static void reactor__signal_depart(int signum, reactor__signal_hub *hub) {
    struct reactor__signal_entry *entry = &reactor__signal_table[signum];
    const int here = reactor__signal_is_watched_here(hub, NULL), empty = !hub->first;
    if (!here) REACTOR__STORE(&entry->hub, NULL);
    reactor__signal_leave(&hub->gate);
    if (here) return;
    reactor__signal_await_walks(&entry->gate);
    if (empty) reactor__signal_discard(hub);
}

/* Makes sure that the signal comes to this library, joining another copy's hub if that copy has the
   signal. Returns the hub that this copy has then, entered as hub is. */
REACTOR__COLD static reactor__signal_hub *reactor__signal_claim(int signum,
                                                                reactor__signal_hub *hub, int *e) {
    while ((*e = reactor__signal_install(signum, hub)) == -EAGAIN)
        hub = reactor__signal_join(signum, hub);
    return hub;
}

/* The link is on the list before the handler is installed, so the first signal that comes to the
   handler finds it. */
static int reactor__signal_link_node(reactor__signal_node *node) {
    struct reactor__signal_entry *entry = &reactor__signal_table[node->signum];
    int e = -ENOMEM;
    reactor__signal_enter(&entry->gate);
    reactor__signal_hub *hub = reactor__signal_meet(node->signum);
    if (hub) {
        reactor__signal_put_on(hub, &node->link);
        hub = reactor__signal_claim(node->signum, hub, &e);
        if (e < 0) reactor__signal_take_off(hub, &node->link);
        reactor__signal_depart(node->signum, hub);
    }
    reactor__signal_leave(&entry->gate);
    return e;
}

/* The disposition is handed over before the link is taken off: in between the signal still comes to
   this node, and afterwards to whoever is next. */
static void reactor__signal_unlink(reactor__signal_node *node) {
    struct reactor__signal_entry *entry = &reactor__signal_table[node->signum];
    reactor__signal_enter(&entry->gate);
    reactor__signal_hub *hub = entry->hub;
    reactor__signal_enter(&hub->gate);
    reactor__signal_hand_over(node->signum, hub, &node->link);
    reactor__signal_take_off(hub, &node->link);
    reactor__signal_restore(node->signum, hub);
    reactor__signal_depart(node->signum, hub);
    reactor__signal_leave(&entry->gate);
}

/* A fork's child makes its copy of the loop its own: hub and handler were inherited, but another
   thread of the parent may have been about to change them. */
REACTOR__COLD static int reactor__signal_adopt(reactor__signal_node *node) {
    struct reactor__signal_entry *entry = &reactor__signal_table[node->signum];
    int e;
    reactor__signal_enter(&entry->gate);
    reactor__signal_enter(&entry->hub->gate);
    reactor__signal_leave(&reactor__signal_claim(node->signum, entry->hub, &e)->gate);
    reactor__signal_leave(&entry->gate);
    return e;
}

/* Frees the nodes that were removed. Not while turn goes through the list, which would lose its
   place. */
REACTOR__COLD static void reactor__signal_sweep(reactor__signal_module *p) {
    reactor__signal_node **at = &p->nodes;
    while (*at) {
        reactor__signal_node *node = *at;
        if (node->fn) {
            at = &node->next_here;
            continue;
        }
        *at = node->next_here;
        REACTOR_FREE(node);
    }
}

/* Calls back for the signals that came. The module's pending is cleared before the nodes are looked
   at: a signal that comes after its node was passed sets it again, and has the next turn. */
static void reactor__signal_turn(reactor *r, reactor__loop_module *module) {
    reactor__signal_module *p = (reactor__signal_module *)module;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_SIGNAL], 0);
    p->walking = 1;
    for (reactor__signal_node *node = p->nodes; node; node = node->next_here) {
        if (REACTOR__PEEK(&r->core.stop)) {
            REACTOR__STORE(&r->pending[REACTOR__LOOP_SIGNAL], 1); /* the next run looks again */
            break;
        }
        if (REACTOR__EXCHANGE(&node->pending, 0) && node->fn)
            reactor__loop_call_signal(r, node->fn, node->signum, node->user);
    }
    p->walking = 0;
    reactor__signal_sweep(p);
}

/* Nothing of the loop hears signals any more; memory stays, for turn may be going through it. */
REACTOR__COLD static void reactor__signal_fork_cleanup(reactor *r, reactor__loop_module *module) {
    reactor__signal_module *p = (reactor__signal_module *)module;
    (void)r;
    for (reactor__signal_node *node = p->nodes; node; node = node->next_here) {
        if (node->fn) reactor__signal_unlink(node);
        node->fn = NULL;
    }
}

REACTOR__COLD static int reactor__signal_forked(reactor *r, reactor__loop_module *module) {
    int e = 0;
    (void)r;
    for (reactor__signal_node *node = ((reactor__signal_module *)module)->nodes; node && e == 0;
         node = node->next_here)
        if (node->fn) e = reactor__signal_adopt(node);
    return e;
}

REACTOR__COLD static void reactor__signal_fini(reactor *r, reactor__loop_module *module,
                                               int child) {
    reactor__signal_module *p = (reactor__signal_module *)module;
    (void)child;
    reactor__signal_fork_cleanup(r, module);
    reactor__signal_sweep(p);
    r->modules[REACTOR__LOOP_SIGNAL] = NULL;
    r->pending[REACTOR__LOOP_SIGNAL] = 0;
    REACTOR_FREE(p);
}

REACTOR__COLD static void reactor__signal_dump(const reactor *r, const reactor__loop_module *module,
                                               reactor_line_fn *fn, void *user) {
    const reactor__signal_module *p = (const reactor__signal_module *)module;
    char line[64];
    (void)r;
    for (const reactor__signal_node *node = p->nodes; node; node = node->next_here) {
        if (!node->fn) continue;
        snprintf(line, sizeof line, "signal number=%d", node->signum);
        fn(line, user);
    }
}

/* The module is made with the first signal, and before any node of its loop is linked: a handler
   may come by the node to the loop at once, and turn needs the module. */
static reactor__signal_module *reactor__signal_module_of(reactor *r) {
    reactor__signal_module *p = (reactor__signal_module *)r->modules[REACTOR__LOOP_SIGNAL];
    if (p) return p;
    p = REACTOR__NEW(reactor__signal_module);
    if (!p) return NULL;
    p->module.turn = reactor__signal_turn;
    p->module.fini = reactor__signal_fini;
    p->module.dump = reactor__signal_dump;
    p->module.fork_cleanup = reactor__signal_fork_cleanup;
    p->module.forked = reactor__signal_forked;
    r->modules[REACTOR__LOOP_SIGNAL] = &p->module;
    return p;
}

REACTOR__COLD static int reactor__signal_add(reactor *r, reactor__signal_module *p, int signum,
                                             reactor_signal_fn *fn, void *user) {
    reactor__signal_node *node = REACTOR__NEW(reactor__signal_node);
    if (!node) return -ENOMEM;
    node->r = r;
    node->fn = fn;
    node->user = user;
    node->signum = signum;
    node->link.notify = reactor__signal_notify;
    node->link.handler = reactor__signal_handler_here();
    int e = reactor__signal_link_node(node);
    if (e < 0) {
        REACTOR_FREE(node);
        return e;
    }
    node->next_here = p->nodes;
    p->nodes = node;
    return 0;
}

REACTOR__COLD REACTOR_API int reactor_signal(reactor *r, int signum, reactor_signal_fn *fn,
                                             void *user) {
    if (!r || signum <= 0 || signum >= REACTOR__SIGNAL_MAX) return -EINVAL;
    reactor__signal_module *p = reactor__signal_module_of(r);
    if (!p) return -ENOMEM;
    reactor__signal_node *node = p->nodes;
    while (node && (node->signum != signum || !node->fn)) node = node->next_here;
    if (!node) return fn ? reactor__signal_add(r, p, signum, fn, user) : -ENOENT;
    if (fn) { /* handlers look at neither, so this needs no lock */
        node->fn = fn;
        node->user = user;
        return 0;
    }
    reactor__signal_unlink(node);
    node->fn = NULL;
    if (!p->walking) reactor__signal_sweep(p);
    return 0;
}
#endif
/* ==== >> work ==== */
/* Jobs on threads. reactor__work_pool is one for the process: two lanes of jobs, each with a limit of
   threads, and a stack of idle threads, the last one to become idle on top, so that those not needed
   end. A loop pushes a job onto its lane's inbox, and takes the lock only to wake or start a thread. A
   thread takes its next job under the lock with which it puts back the last, and wakes the loop if
   that was the first to end since the loop looked: a burst makes no system call for each job. A
   thread's record is on its own stack, a job in a slot of its loop, where only pointers go around.

        FREE -> QUEUED [work_queue]   QUEUED -> RUNNING [work_take]   RUNNING -> ENDED [work_finish]
        QUEUED -> ENDED [work_withdraw]   ENDED -> FREE [work_tell]   RUNNING -> FREE [work_abandon]

   The lock guards the pool but for the inboxes, jobs but FREE ones, and each loop's list of ended. */
#ifndef REACTOR_NO_WORK
enum { REACTOR__WORK_SHORT, REACTOR__WORK_BLOCKING, REACTOR__WORK_LANES };
enum { REACTOR__WORK_FREE, REACTOR__WORK_QUEUED, REACTOR__WORK_RUNNING, REACTOR__WORK_ENDED };
enum {
    REACTOR__WORK_FIRST = 16, /* jobs in the first chunk */
    REACTOR__WORK_CHUNKS = 24,
    REACTOR__WORK_LINE = 64,   /* bytes of a cache line, or about so many */
    REACTOR__WORK_LINGER = 20, /* looks for another job before a sleep: half a microsecond */
    REACTOR__WORK_SPINS = 200  /* tries for a lock that is held for less than a sleep would take */
};

/* How long a thread waits for another job. Tests wait for less. */
#ifndef REACTOR__WORK_IDLE_MS
#define REACTOR__WORK_IDLE_MS 10000
#endif

struct reactor__work_module;
struct reactor__work_thread;

typedef struct reactor__work_job {
    struct reactor__work_job *next; /* in its lane, among those that ended, or free ones */
    union {
        struct reactor__work_job *before;    /* the same, unless it is RUNNING or FREE */
        struct reactor__work_thread *thread; /* RUNNING: by this one */
    } u;
    struct reactor__work_module *owner;
    reactor_work_fn *work;
    reactor_work_done_fn *done; /* the loop's thread alone; NULL: FREE, or abandoned */
    void *user;
    uint32_t tag, index; /* generation and place: the handle */
    int status;          /* ENDED: what done is told */
    uint8_t state, lane;
} reactor__work_job;

typedef struct reactor__work_list {
    reactor__work_job *first, *last;
} reactor__work_list;

/* What there is of a loop. */
typedef struct reactor__work_module {
    reactor__loop_module module; /* first: the loop knows only this */
    reactor *r;
    reactor__work_job *chunks[REACTOR__WORK_CHUNKS]; /* each twice as large as the last */
    void *memory[REACTOR__WORK_CHUNKS];              /* in which they lie */
    uint32_t count;                                  /* jobs ever used */
    reactor__work_job *spare;                        /* free ones */
    reactor__work_list due;                          /* ended ones, taken from ended */
    int joined;                                      /* the pool counts this loop */
    char apart[REACTOR__WORK_LINE];                  /* as in a lane */
    reactor__work_list ended;                        /* under lock, as are the next two */
    uint32_t running;
    int leaving; /* destroy waits for running to become 0 */
    int waking;  /* atomic: threads that are about to wake the loop */
} reactor__work_module;

/* ---- what differs between the systems ----

   A condition is waited for with the pool's lock held: 0 when the time has passed, REALTIME's
   where that is what a condition waits by: setting the date lets threads end earlier or later,
   no more. */
#ifdef _WIN32
#include <process.h>
typedef CONDITION_VARIABLE reactor__work_condition;
typedef HANDLE reactor__work_handle;

static int reactor__work_condition_init(reactor__work_condition *c) {
    InitializeConditionVariable(c);
    return 0;
}

static void reactor__work_condition_fini(reactor__work_condition *c) { (void)c; }
static void reactor__work_signal(reactor__work_condition *c) { WakeConditionVariable(c); }
static void reactor__work_broadcast(reactor__work_condition *c) { WakeAllConditionVariable(c); }

static int reactor__work_wait(reactor__work_condition *c, reactor__util_lock *lock, int ms) {
    return SleepConditionVariableSRW(c, lock, ms < 0 ? INFINITE : (DWORD)ms, 0) != 0;
}

/* What a thread begins with. It lives as long as the thread. */
typedef struct reactor__work_entry {
    void (*main)(void *argument);
    void *argument;
} reactor__work_entry;

static unsigned __stdcall reactor__work_begin(void *entry) {
    const reactor__work_entry *e = (const reactor__work_entry *)entry;
    e->main(e->argument);
    return 0;
}

/* The C library's way, which knows of its own data for each thread. The thread has a handle of its
   own to itself, so this one is not needed. */
static int reactor__work_launch(const reactor__work_entry *entry, reactor__work_handle *out) {
    uintptr_t thread = _beginthreadex(NULL, 0, reactor__work_begin, (void *)entry, 0, NULL);
    if (!thread) return -errno;
    if (out)
        *out = (HANDLE)thread;
    else
        CloseHandle((HANDLE)thread);
    return 0;
}

/* NULL: none can be had, and nobody waits for this thread's last instructions. */
static reactor__work_handle reactor__work_self(void) {
    HANDLE process = GetCurrentProcess(), self = NULL;
    DuplicateHandle(process, GetCurrentThread(), process, &self, SYNCHRONIZE, FALSE, 0);
    return self;
}

static void reactor__work_join_thread(reactor__work_handle thread) {
    if (!thread) return;
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

static void reactor__work_detach(void) {}

/* Windows 10 has names. */
static void reactor__work_set_name(void) {
    typedef HRESULT(WINAPI * set_name_fn)(HANDLE thread, const wchar_t *name);
    HMODULE kernel = GetModuleHandleA("kernel32.dll");
    FARPROC found = kernel ? GetProcAddress(kernel, "SetThreadDescription") : NULL;
    set_name_fn set_name;
    memcpy(&set_name, &found, sizeof set_name);
    if (set_name) set_name(GetCurrentThread(), L"reactor-work");
}

static int reactor__work_cpus(void) {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return (int)info.dwNumberOfProcessors;
}
#else
#if defined(__linux__)
#include <sys/prctl.h>
#elif defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__DragonFly__)
#include <pthread_np.h>
#endif
typedef pthread_cond_t reactor__work_condition;
typedef pthread_t reactor__work_handle;

static int reactor__work_condition_init(reactor__work_condition *c) {
    return -pthread_cond_init(c, NULL);
}

static void reactor__work_condition_fini(reactor__work_condition *c) { pthread_cond_destroy(c); }
static void reactor__work_signal(reactor__work_condition *c) { pthread_cond_signal(c); }
static void reactor__work_broadcast(reactor__work_condition *c) { pthread_cond_broadcast(c); }

static int reactor__work_wait(reactor__work_condition *c, reactor__util_lock *lock, int ms) {
    struct timespec until;
    if (ms < 0) return pthread_cond_wait(c, lock) == 0;
    clock_gettime(CLOCK_REALTIME, &until);
    const int64_t ns = until.tv_nsec + ms * REACTOR__MS;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    return pthread_cond_timedwait(c, lock, &until) == 0;
}

/* What a thread begins with. It lives as long as the thread. */
typedef struct reactor__work_entry {
    void (*main)(void *argument);
    void *argument;
} reactor__work_entry;

static void *reactor__work_begin(void *entry) {
    const reactor__work_entry *e = (const reactor__work_entry *)entry;
    e->main(e->argument);
    return NULL;
}

/* The thread inherits the mask. The host's signals are for the host's threads, but a fault is this
   thread's own: blocked, it would end the process past the host's handler. */
static int reactor__work_launch(const reactor__work_entry *entry, reactor__work_handle *out) {
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t set, before;
    pthread_t thread;
    sigfillset(&set);
    for (int i = 0; i < 6; i++) sigdelset(&set, faults[i]);
    pthread_sigmask(SIG_SETMASK, &set, &before);
    int e = pthread_create(&thread, NULL, reactor__work_begin, (void *)(uintptr_t)entry);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e == 0 && out) *out = thread;
    return -e;
}

static reactor__work_handle reactor__work_self(void) { return pthread_self(); }
static void reactor__work_join_thread(reactor__work_handle thread) { pthread_join(thread, NULL); }
static void reactor__work_detach(void) { pthread_detach(pthread_self()); }

#if defined(__linux__)
static void reactor__work_set_name(void) { prctl(PR_SET_NAME, "reactor-work", 0, 0, 0); }

/* Those of this thread, for its affinity is that of the threads it starts. glibc declares the call
   only for _GNU_SOURCE; the kernel returns how many bytes of its mask it has written. */
static int reactor__work_cpus(void) {
    unsigned long mask[64]; /* 4,096 CPUs, or 2,048 */
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int count = 0;
    for (long i = 0; i < bytes / (long)sizeof *mask; i++)
        for (unsigned long left = mask[i]; left; left &= left - 1) count++;
    return count > 0 ? count : (int)sysconf(_SC_NPROCESSORS_ONLN);
}
#else
#if defined(__APPLE__)
static void reactor__work_set_name(void) { pthread_setname_np("reactor-work"); }
#elif defined(__NetBSD__)
static void reactor__work_set_name(void) {
    pthread_setname_np(pthread_self(), "reactor-work", NULL);
}
#elif defined(REACTOR__BSD)
static void reactor__work_set_name(void) { pthread_set_name_np(pthread_self(), "reactor-work"); }
#else
static void reactor__work_set_name(void) {}
#endif
static int reactor__work_cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
#endif
#endif

/* ---- the pool ---- */

typedef struct reactor__work_thread {
    struct reactor__work_thread *next; /* among idle ones */
    reactor__work_condition woken_up;
    reactor__work_job *job;     /* running; NULL: abandoned, if there is a drop */
    reactor_work_fn *drop;      /* abandoned: frees user */
    reactor__work_module *wake; /* its loop has to be told that a job has ended */
    uint32_t era;
    int lane;
    int woken;     /* is idle no more */
    int can_sleep; /* has a condition */
} reactor__work_thread;

/* A loop's thread writes what is above apart, the pool's threads what is below: on one cache
   line each would slow the other down. */
typedef struct reactor__work_lane {
    reactor__work_job *inbox; /* atomic: those that came since jobs was looked at, the last first */
    uint32_t active;          /* atomic: threads that have been given this lane, limit at most */
    uint32_t limit;           /* atomic */
    char apart[REACTOR__WORK_LINE];
    reactor__work_list jobs; /* under the lock */
} reactor__work_lane;

/* The process's. A fork leaves a child without threads, and maybe with the lock held: pid tells,
   and the pool begins anew. */
static struct reactor__work_pool {
    int pid;     /* atomic: the process whose pool this is; 0: nobody's so far */
    int renewer; /* atomic: process of the thread that makes it anew; 0: none */
    reactor__util_lock lock;
    reactor__work_condition left; /* somebody waits for a job or a thread to end, or for ending */
    uint32_t loops;               /* that use it */
    uint32_t threads;             /* started, and not ended */
    uint32_t adrift;              /* of those, with an abandoned job */
    uint32_t era;                 /* one more with each end of the pool */
    int ending;                   /* the last loop has gone: threads end */
    int has_last;
    reactor__work_handle last;  /* a thread that has ended: the next one to end joins it */
    reactor__work_thread *idle; /* the last one to become so first */
    reactor__work_lane lanes[REACTOR__WORK_LANES];
} reactor__work_pool;

/* Rather a few more tries than a sleep: who holds the lock lets go within nanoseconds. */
static void reactor__work_enter(void) {
    for (int i = 0; i < REACTOR__WORK_SPINS; i++)
        if (reactor__util_try_enter(&reactor__work_pool.lock)) return;
    reactor__util_enter(&reactor__work_pool.lock);
}

static void reactor__work_leave(void) { reactor__util_leave(&reactor__work_pool.lock); }

static void reactor__work_put(reactor__work_list *list, reactor__work_job *job) {
    job->next = NULL;
    job->u.before = list->last;
    if (list->last)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

static void reactor__work_take_off(reactor__work_list *list, reactor__work_job *job) {
    if (job->u.before)
        job->u.before->next = job->next;
    else
        list->first = job->next;
    if (job->next)
        job->next->u.before = job->u.before;
    else
        list->last = job->u.before;
}

/* Moves the inbox's jobs to the lane's others, in the order in which they came. Whoever looks for a
   job under the lock does this first. */
static void reactor__work_collect(reactor__work_lane *lane) {
    reactor__work_job *job = REACTOR__EXCHANGE(&lane->inbox, NULL), *turned = NULL, *next;
    for (; job; job = next) {
        next = job->next;
        job->next = turned;
        turned = job;
    }
    for (; turned; turned = next) {
        next = turned->next;
        reactor__work_put(&lane->jobs, turned);
    }
}

/* ---- the threads ---- */

/* The job has ended. Only the first since the loop has looked needs to tell it. */
static void reactor__work_end(reactor__work_module *m, reactor__work_job *job, int status,
                              reactor__work_module **wake) {
    job->state = REACTOR__WORK_ENDED;
    job->status = status;
    if (!m->ended.first && wake) {
        *wake = m;
        REACTOR__ADD(&m->waking, 1);
    }
    reactor__work_put(&m->ended, job);
}

/* Without the lock, for it may be a system call. waking keeps the loop from being freed
   meanwhile. There is nobody to tell that it cannot be woken, so that is tried again, unless it
   looks anyway. */
static void reactor__work_wake(reactor__work_thread *t) {
    reactor__work_module *m = t->wake;
    t->wake = NULL;
    REACTOR__STORE(&m->r->pending[REACTOR__LOOP_WORK], 1);
    while (reactor__wake_notify(&m->r->wake) < 0 &&
           REACTOR__LOAD(&m->r->pending[REACTOR__LOOP_WORK]))
        reactor__util_nap();
    REACTOR__ADD(&m->waking, -1);
}

/* Puts back what it has run, abandoned or not. */
static void reactor__work_finish(reactor__work_thread *t, void *user) {
    reactor__work_job *job = t->job;
    reactor_work_fn *drop = t->drop;
    t->job = NULL;
    t->drop = NULL;
    if (job) {
        job->owner->running--;
        reactor__work_end(job->owner, job, 0, &t->wake);
        if (job->owner->leaving) reactor__work_broadcast(&reactor__work_pool.left);
        return;
    }
    reactor__work_leave();
    drop(user);
    reactor__work_enter();
    if (t->era == reactor__work_pool.era) reactor__work_pool.adrift--;
}

/* Sleeps until it is given a lane. 0: it was not, or the pool ends. Whoever puts a job into the
   inbox looks at active after that, and this looks at the inbox after it has changed active: one
   of the two sees the other. */
static int reactor__work_rest(reactor__work_thread *t) {
    struct reactor__work_pool *pool = &reactor__work_pool;
    reactor__work_thread **at = &pool->idle;
    reactor__work_lane *lane = &pool->lanes[t->lane];
    REACTOR__ADD(&lane->active, -1u);
    if (REACTOR__LOAD(&lane->inbox)) {
        REACTOR__ADD(&lane->active, 1);
        return 1;
    }
    if (pool->ending || !t->can_sleep) return 0;
    t->woken = 0;
    t->next = pool->idle;
    pool->idle = t;
    while (!t->woken && reactor__work_wait(&t->woken_up, &pool->lock, REACTOR__WORK_IDLE_MS)) {
    }
    if (t->woken) return !pool->ending;
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    return 0;
}

/* The first job of its lane. */
static int reactor__work_take(reactor__work_thread *t) {
    reactor__work_lane *lane = &reactor__work_pool.lanes[t->lane];
    if (!lane->jobs.first && REACTOR__PEEK(&lane->inbox)) reactor__work_collect(lane);
    reactor__work_job *job = lane->jobs.first;
    if (!job) return 0;
    reactor__work_take_off(&lane->jobs, job);
    job->state = REACTOR__WORK_RUNNING;
    job->u.thread = t;
    job->owner->running++;
    t->job = job;
    return 1;
}

/* For less time than a sleep and the waking from it would take: the next job may be on its way.
   Without the lock, and tells the last one's loop before. */
static void reactor__work_linger(reactor__work_thread *t) {
    const reactor__work_lane *lane = &reactor__work_pool.lanes[t->lane];
    reactor__work_leave();
    if (t->wake) reactor__work_wake(t);
    for (int i = 0; i < REACTOR__WORK_LINGER && !REACTOR__PEEK(&lane->inbox); i++) REACTOR__PAUSE();
    reactor__work_enter();
}

/* Takes a job of its lane, which it waits for. 0: the thread is to end. */
static int reactor__work_next(reactor__work_thread *t) {
    while (t->era == reactor__work_pool.era) {
        if (reactor__work_take(t)) return 1;
        reactor__work_linger(t);
        if (t->era != reactor__work_pool.era) return 0;
        if (reactor__work_take(t)) return 1;
        if (!reactor__work_rest(t)) return 0;
    }
    return 0;
}

/* The user's work is called here alone. The loop is told of the last job before that. */
static void reactor__work_run(reactor__work_thread *t) {
    reactor_work_fn *work = t->job->work;
    void *user = t->job->user;
    reactor__work_leave();
    if (t->wake) reactor__work_wake(t);
    work(user);
    reactor__work_enter();
    reactor__work_finish(t, user);
}

/* Each thread that ends joins the one that ended before, and the pool's end the last one: so at
   most one waits to be joined, and none is still on its way out when the last loop is destroyed.
   One that has outlived its pool, with an abandoned job, is on its own. */
static void reactor__work_retire(const reactor__work_thread *t) {
    struct reactor__work_pool *pool = &reactor__work_pool;
    const int mine = t->era == pool->era, joins = mine && pool->has_last;
    const reactor__work_handle last = pool->last;
    if (mine) {
        pool->last = reactor__work_self();
        pool->has_last = 1;
        pool->threads--;
        reactor__work_broadcast(&pool->left);
    } else
        reactor__work_detach();
    reactor__work_leave();
    if (joins) reactor__work_join_thread(last);
}

static void reactor__work_main(void *lane) {
    reactor__work_thread t;
    memset(&t, 0, sizeof t);
    t.lane = (int)(intptr_t)lane;
    t.can_sleep = reactor__work_condition_init(&t.woken_up) == 0;
    reactor__work_set_name();
    reactor__work_enter();
    t.era = reactor__work_pool.era;
    while (reactor__work_next(&t)) reactor__work_run(&t);
    if (t.can_sleep) reactor__work_condition_fini(&t.woken_up);
    reactor__work_retire(&t);
}

/* ---- begin and end of the pool ---- */

/* At the first use in this process. Of several threads one does it. */
static int reactor__work_renew(int pid) {
    struct reactor__work_pool *pool = &reactor__work_pool;
    int e = 0;
    while (REACTOR__EXCHANGE(&pool->renewer, pid) == pid) reactor__util_nap();
    if (REACTOR__LOAD(&pool->pid) != pid) {
        e = reactor__util_lock_init(&pool->lock);
        if (e == 0) e = reactor__work_condition_init(&pool->left);
        pool->loops = pool->threads = pool->adrift = 0;
        pool->ending = pool->has_last = 0;
        pool->idle = NULL;
        memset(pool->lanes, 0, sizeof pool->lanes);
        if (e == 0) REACTOR__STORE(&pool->pid, pid);
    }
    REACTOR__STORE(&pool->renewer, 0);
    return e;
}

static void reactor__work_raise_limit(int lane, int wanted) {
    reactor__work_lane *l = &reactor__work_pool.lanes[lane];
    if (l->limit < (uint32_t)wanted) REACTOR__STORE(&l->limit, (uint32_t)wanted);
}

/* Counts the loop among those that use the pool. */
static int reactor__work_join(reactor__work_module *m) {
    const reactor_options *o = &m->r->options;
    const int cpus = o->work_threads ? o->work_threads : reactor__work_cpus();
    if (REACTOR__LOAD(&reactor__work_pool.pid) != m->r->pid) {
        int e = reactor__work_renew(m->r->pid);
        if (e < 0) return e;
    }
    reactor__work_enter();
    while (reactor__work_pool.ending)
        reactor__work_wait(&reactor__work_pool.left, &reactor__work_pool.lock, -1);
    reactor__work_pool.loops++;
    reactor__work_raise_limit(REACTOR__WORK_SHORT, o->work_threads || cpus > 2 ? cpus : 2);
    reactor__work_raise_limit(REACTOR__WORK_BLOCKING,
                              o->blocking_threads ? o->blocking_threads : 16);
    reactor__work_leave();
    m->joined = 1;
    return 0;
}

/* Has the threads end, and waits for it, except for those that are with an abandoned job, which may
   never return: these the next pool knows nothing of. */
static void reactor__work_end_pool(void) {
    struct reactor__work_pool *pool = &reactor__work_pool;
    pool->ending = 1;
    for (reactor__work_thread *t = pool->idle; t; t = t->next) {
        t->woken = 1;
        reactor__work_signal(&t->woken_up);
    }
    pool->idle = NULL;
    while (pool->threads > pool->adrift) reactor__work_wait(&pool->left, &pool->lock, -1);
    const reactor__work_handle last = pool->last;
    const int joins = pool->has_last;
    pool->threads = pool->adrift = 0;
    pool->has_last = pool->ending = 0;
    pool->era++;
    memset(pool->lanes, 0, sizeof pool->lanes);
    reactor__work_broadcast(&pool->left);
    reactor__work_leave();
    if (joins) reactor__work_join_thread(last);
}

static void reactor__work_leave_pool(void) {
    reactor__work_enter();
    if (--reactor__work_pool.loops == 0)
        reactor__work_end_pool(); /* leaves */
    else
        reactor__work_leave();
}

/* ---- the loop's side ---- */

/* The place of a job in the chunks, which hold 16, 32, 64 ... */
static reactor__work_job *reactor__work_at(const reactor__work_module *m, uint32_t index) {
    const uint64_t n = (uint64_t)index + REACTOR__WORK_FIRST;
    const unsigned top = 63 - REACTOR__CLZ64(n);
    return m->chunks[top - 4] + (n - (UINT64_C(1) << top));
}

/* NULL if the handle is stale or foreign. */
static reactor__work_job *reactor__work_find(const reactor__work_module *m, uint64_t id) {
    if (!m || (uint32_t)id >= m->count) return NULL;
    reactor__work_job *job = reactor__work_at(m, (uint32_t)id);
    return job->done && job->tag == id >> 32 ? job : NULL;
}

/* One more chunk, whose jobs have a cache line each where pointers have 64 bits: they travel
   from one processor to another and back. */
static int reactor__work_grow(reactor__work_module *m, unsigned k) {
    const size_t size = ((size_t)REACTOR__WORK_FIRST << k) * sizeof(reactor__work_job);
    m->memory[k] = reactor__util_zeroed(size + REACTOR__WORK_LINE);
    if (!m->memory[k]) return -ENOMEM;
    const uintptr_t at = (uintptr_t)m->memory[k] + REACTOR__WORK_LINE - 1;
    m->chunks[k] = (reactor__work_job *)(at / REACTOR__WORK_LINE * REACTOR__WORK_LINE);
    return 0;
}

/* A free one, off the list of spare ones only when it is sure to be used. */
static reactor__work_job *reactor__work_reserve(reactor__work_module *m) {
    if (m->spare) return m->spare;
    const uint64_t n = (uint64_t)m->count + REACTOR__WORK_FIRST;
    const unsigned k = 63 - REACTOR__CLZ64(n) - 4;
    if (k >= REACTOR__WORK_CHUNKS) return NULL;
    if (!m->chunks[k] && reactor__work_grow(m, k) < 0) return NULL;
    reactor__work_job *job = reactor__work_at(m, m->count);
    job->index = m->count++;
    job->tag = m->r->core.seed | 1; /* handles of other loops differ */
    job->owner = m;
    return m->spare = job;
}

/* The slot is free again, and its handle stale. One that has used up its generations stays so. */
static void reactor__work_release(reactor__work_module *m, reactor__work_job *job) {
    job->state = REACTOR__WORK_FREE;
    job->done = NULL;
    job->tag += 2; /* odd, so never 0, which handles of nothing have */
    if (job->tag == (m->r->core.seed | 1)) return;
    job->next = m->spare;
    m->spare = job;
}

/* A thread for the lane: an idle one, or a new one. */
static int reactor__work_engage(int lane) {
    static const reactor__work_entry entries[REACTOR__WORK_LANES] = {
        {reactor__work_main, (void *)(intptr_t)REACTOR__WORK_SHORT},
        {reactor__work_main, (void *)(intptr_t)REACTOR__WORK_BLOCKING}};
    struct reactor__work_pool *pool = &reactor__work_pool;
    reactor__work_thread *t = pool->idle;
    if (t) {
        pool->idle = t->next;
        t->lane = lane;
        t->woken = 1;
        reactor__work_signal(&t->woken_up);
    } else {
        int e = reactor__work_launch(&entries[lane], NULL);
        if (e < 0) return e;
        pool->threads++;
    }
    REACTOR__ADD(&pool->lanes[lane].active, 1);
    return 0;
}

/* Under the lock: the lane has fewer threads than it may have. One that cannot be had is missed
   only if it has none, for any of its threads comes to all of its jobs. */
static int reactor__work_reinforce(reactor__work_job *job) {
    reactor__work_lane *lane = &reactor__work_pool.lanes[job->lane];
    if (lane->active == lane->limit) return 0;
    int e = reactor__work_engage(job->lane);
    if (e == 0 || lane->active) return 0;
    reactor__work_collect(lane);
    reactor__work_take_off(&lane->jobs, job);
    job->state = REACTOR__WORK_FREE;
    return e;
}

/* Takes the lock only if another thread may help. */
static int reactor__work_queue(reactor__work_job *job) {
    reactor__work_lane *lane = &reactor__work_pool.lanes[job->lane];
    job->state = REACTOR__WORK_QUEUED;
    job->next = REACTOR__LOAD(&lane->inbox);
    while (!REACTOR__CAS_POINTER(&lane->inbox, &job->next, job)) {
    }
    if (REACTOR__LOAD(&lane->active) == REACTOR__PEEK(&lane->limit)) return 0;
    reactor__work_enter();
    int e = reactor__work_reinforce(job);
    reactor__work_leave();
    return e;
}

/* Ends a QUEUED job. */
static void reactor__work_withdraw(reactor__work_module *m, reactor__work_job *job) {
    reactor__work_lane *lane = &reactor__work_pool.lanes[job->lane];
    reactor__work_collect(lane);
    reactor__work_take_off(&lane->jobs, job);
    reactor__work_end(m, job, -ECANCELED, NULL);
}

/* Calls done of the first one that is due. The slot is free before, for done may want one. */
static void reactor__work_tell(reactor__work_module *m) {
    reactor__work_job *job = m->due.first;
    reactor_work_done_fn *done = job->done;
    const int status = job->status;
    void *user = job->user;
    reactor__work_take_off(&m->due, job);
    reactor__work_release(m, job);
    if (!done) return; /* abandoned */
    m->r->jobs--;
    reactor__loop_call_worked(m->r, done, status, user);
}

static void reactor__work_take_ended(reactor__work_module *m) {
    reactor__work_enter();
    m->due = m->ended;
    m->ended.first = m->ended.last = NULL;
    reactor__work_leave();
}

/* pending is cleared before ended is taken, so a job that comes too late for this sets it again. It
   is not set by one that joins others that were left in ended. */
static void reactor__work_turn(reactor *r, reactor__loop_module *module) {
    reactor__work_module *m = (reactor__work_module *)module;
    const int left = m->due.first != NULL;
    if (r->child) return;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_WORK], 0);
    if (!left) reactor__work_take_ended(m);
    for (int budget = r->options.post_budget;
         budget > 0 && m->due.first && !REACTOR__PEEK(&r->core.stop); budget--)
        reactor__work_tell(m);
    if (left || m->due.first) REACTOR__STORE(&r->pending[REACTOR__LOOP_WORK], 1);
}

/* In destroy: withdraws what has not begun, and waits for the rest. */
static void reactor__work_settle(reactor__work_module *m) {
    reactor__work_enter();
    m->leaving = 1;
    for (uint32_t i = 0; i < m->count; i++) {
        reactor__work_job *job = reactor__work_at(m, i);
        if (job->state == REACTOR__WORK_QUEUED) reactor__work_withdraw(m, job);
    }
    while (m->running) reactor__work_wait(&reactor__work_pool.left, &reactor__work_pool.lock, -1);
    reactor__work_leave();
    while (REACTOR__LOAD(&m->waking)) {
        REACTOR__STORE(&m->r->pending[REACTOR__LOOP_WORK], 0); /* it need not try again */
        reactor__util_nap();
    }
}

/* Tells all that has ended; of those that were due first, for none has ended before them. */
static void reactor__work_tell_all(reactor__work_module *m) {
    while (m->due.first) reactor__work_tell(m);
    if (!m->joined) return;
    reactor__work_take_ended(m);
    while (m->due.first) reactor__work_tell(m);
}

static void reactor__work_fini(reactor *r, reactor__loop_module *module, int child) {
    reactor__work_module *m = (reactor__work_module *)module;
    const int joined = m->joined && !child;
    if (joined) reactor__work_settle(m);
    if (!child) reactor__work_tell_all(m);
    if (joined) reactor__work_leave_pool();
    r->modules[REACTOR__LOOP_WORK] = NULL;
    r->pending[REACTOR__LOOP_WORK] = 0;
    for (int k = 0; k < REACTOR__WORK_CHUNKS; k++) REACTOR_FREE(m->memory[k]);
    REACTOR_FREE(m);
}

/* turn does nothing in such a child, and fini frees memory alone. */
static void reactor__work_fork_cleanup(reactor *r, reactor__loop_module *module) {
    (void)r, (void)module;
}

/* Threads and pool are the parent's. What had ended at the fork has, also if it was not told
   yet; other jobs are cancelled here. A thread may have been in the middle of putting one into a
   list, so that is made anew. */
static int reactor__work_forked(reactor *r, reactor__loop_module *module) {
    reactor__work_module *m = (reactor__work_module *)module;
    memset(&m->ended, 0, sizeof m->ended);
    memset(&m->due, 0, sizeof m->due);
    for (uint32_t i = 0; i < m->count; i++) {
        reactor__work_job *job = reactor__work_at(m, i);
        if (job->state == REACTOR__WORK_FREE) continue;
        if (job->state != REACTOR__WORK_ENDED) job->status = -ECANCELED;
        job->state = REACTOR__WORK_ENDED;
        reactor__work_put(&m->due, job);
    }
    m->joined = m->leaving = m->waking = 0;
    m->running = 0;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_WORK], m->due.first != NULL);
    return 0;
}

static void reactor__work_dump(const reactor *r, const reactor__loop_module *module,
                               reactor_line_fn *fn, void *user) {
    const reactor__work_module *m = (const reactor__work_module *)module;
    static const char *const states[] = {"", "queued", "running", "ended"};
    char line[96];
    (void)r;
    for (uint32_t i = 0; i < m->count; i++) {
        const reactor__work_job *job = reactor__work_at(m, i);
        reactor__work_enter();
        const int state = job->state;
        reactor__work_leave();
        if (!job->done) continue;
        snprintf(line, sizeof line, "job id=%llx lane=%s state=%s",
                 (unsigned long long)((uint64_t)job->tag << 32 | i),
                 job->lane == REACTOR__WORK_SHORT ? "short" : "blocking", states[state]);
        fn(line, user);
    }
}

/* Made with the first job. */
static reactor__work_module *reactor__work_module_of(reactor *r) {
    reactor__work_module *m = (reactor__work_module *)r->modules[REACTOR__LOOP_WORK];
    if (m) return m;
    m = REACTOR__NEW(reactor__work_module);
    if (!m) return NULL;
    m->r = r;
    m->module.turn = reactor__work_turn;
    m->module.fini = reactor__work_fini;
    m->module.dump = reactor__work_dump;
    m->module.fork_cleanup = reactor__work_fork_cleanup;
    m->module.forked = reactor__work_forked;
    r->modules[REACTOR__LOOP_WORK] = &m->module;
    return m;
}

/* For sections below, too, which may abandon what they start. */
static int reactor__work_start(reactor *r, int lane, reactor_work_fn *work,
                               reactor_work_done_fn *done, void *user, uint64_t *id) {
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (r->closing) return -ECANCELED;
    reactor__work_module *m = reactor__work_module_of(r);
    reactor__work_job *job = m ? reactor__work_reserve(m) : NULL;
    if (!job) return -ENOMEM;
    int e = m->joined ? 0 : reactor__work_join(m);
    if (e < 0) return e;
    m->spare = job->next;
    job->lane = (uint8_t)lane;
    job->status = 0;
    job->work = work;
    job->user = user;
    *id = (uint64_t)job->tag << 32 | job->index;
    e = reactor__work_queue(job);
    if (e < 0) {
        job->next = m->spare;
        m->spare = job;
        return e;
    }
    job->done = done;
    r->jobs++;
    return 0;
}

/* Gives a job up: done is not called, and the loop does not wait for it, nor does destroy.
   drop(user) is called in its place, at once, or when work has returned, on that thread. For
   work whose memory is its own and that may take for ever. -EBADF. */
REACTOR__OPTIONAL static int reactor__work_abandon(reactor *r, uint64_t id, reactor_work_fn *drop) {
    reactor__work_module *m = (reactor__work_module *)r->modules[REACTOR__LOOP_WORK];
    reactor__work_job *job = reactor__work_find(m, id);
    if (!job) return -EBADF;
    void *user = job->user;
    reactor__work_enter();
    const int state = job->state;
    if (state == REACTOR__WORK_QUEUED) {
        reactor__work_collect(&reactor__work_pool.lanes[job->lane]);
        reactor__work_take_off(&reactor__work_pool.lanes[job->lane].jobs, job);
    } else if (state == REACTOR__WORK_RUNNING) {
        job->u.thread->job = NULL;
        job->u.thread->drop = drop;
        m->running--;
        reactor__work_pool.adrift++;
    }
    reactor__work_leave();
    r->jobs--;
    if (state == REACTOR__WORK_ENDED)
        job->done = NULL; /* turn finds it in its list */
    else
        reactor__work_release(m, job);
    if (state != REACTOR__WORK_RUNNING) drop(user);
    return 0;
}

static int reactor__work_new(reactor *r, int lane, reactor_work_fn *work,
                             reactor_work_done_fn *done, void *user, reactor_job *out) {
    uint64_t id = 0;
    if (out) out->id = 0;
    if (!r || !work || !done) return -EINVAL;
    int e = reactor__work_start(r, lane, work, done, user, &id);
    if (out && e == 0) out->id = id;
    return e;
}

REACTOR_API int reactor_work(reactor *r, reactor_work_fn *work, reactor_work_done_fn *done,
                             void *user, reactor_job *out) {
    return reactor__work_new(r, REACTOR__WORK_SHORT, work, done, user, out);
}

REACTOR_API int reactor_work_blocking(reactor *r, reactor_work_fn *work, reactor_work_done_fn *done,
                                      void *user, reactor_job *out) {
    return reactor__work_new(r, REACTOR__WORK_BLOCKING, work, done, user, out);
}

REACTOR_API int reactor_job_cancel(reactor *r, reactor_job handle) {
    if (!r) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    reactor__work_module *m = (reactor__work_module *)r->modules[REACTOR__LOOP_WORK];
    reactor__work_job *job = reactor__work_find(m, handle.id);
    if (!job) return -EBADF;
    reactor__work_enter();
    const int e = job->state == REACTOR__WORK_QUEUED ? 0 : job->status ? -EALREADY : -EBUSY;
    if (e == 0) reactor__work_withdraw(m, job);
    reactor__work_leave();
    if (e < 0) return e;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_WORK], 1);
    reactor__loop_touch(r);
    return 0;
}
#endif
/* ==== >> child ==== */
/* Child processes: their end is told as a callback of the loop, and they are sent signals. Starting
   them is section spawn's, below stream, for their streams may be connections.

   Each child is waited for by its own number, when the system says that it has ended: by a pidfd
   that is watched like any descriptor (Linux), by a kqueue that is (BSDs, macOS), by a wait of the
   thread pool (Windows). Nothing that belongs to the whole process is used: no waitpid(-1), which
   would take the status of the program's other children, and no handler of SIGCHLD, which is the
   program's. Where that is refused a timer looks at the child every 20 ms.

   Who has ended waits in a queue for the end of the turn: input that the turn has read comes
   first. */
#ifndef REACTOR_NO_CHILDREN

/* SIGKILL is 9 on all systems of POSIX. */
enum {
    REACTOR__CHILD_BUCKETS = 64, /* a thousand children: 16 in each */
    REACTOR__CHILD_LOOK_MS =
        20,                    /* between two looks at children that the system does not tell of */
    REACTOR__CHILD_SIGKILL = 9 /* SIGKILL, which Windows has no name for */
};

/* A watched child.

        -> NEW [child_new]
        NEW -> WATCHED [child_start, the system will tell]
        NEW -> POLLED [child_start, it will not]
        WATCHED -> POLLED [child_exited, told before the status can be had]
        NEW, WATCHED, POLLED -> ENDED [child_end, of child_add, child_look, child_forked]
        any -> freed [child_drop, of child_tell, reactor_child, child_fini] */
enum {
    REACTOR__CHILD_NEW,     /* known to nobody yet */
    REACTOR__CHILD_WATCHED, /* holds what child_sys_watch has taken */
    REACTOR__CHILD_POLLED,  /* the timer looks */
    REACTOR__CHILD_ENDED    /* its status has been taken; in the queue */
};

#ifdef _WIN32
typedef struct reactor__child_watch {
    HANDLE process;
    HANDLE wait;    /* NULL: none */
    int exited;     /* atomic: the wait is over */
    int terminated; /* with this signal, by child_sys_kill */
} reactor__child_watch;
#elif defined(__linux__)
typedef struct reactor__child_watch {
    uint32_t slot;
    int fd; /* the pidfd; 0, which the library's descriptors never are: none */
} reactor__child_watch;
#else
typedef struct reactor__child_watch {
    int none; /* the module has the kqueue */
} reactor__child_watch;
#endif

typedef struct reactor__child_node {
    struct reactor__child_node *next;  /* in its bucket */
    struct reactor__child_node *later; /* in the queue of those that have ended */
    reactor *r;
    reactor_child_fn *fn; /* NULL: nobody wants to know */
    void *user;
    uint64_t deadline; /* the timer of its SIGKILL; 0: none */
    int pid;
    int state;
    int group; /* it leads one */
    reactor_exit how;
    reactor__child_watch watch;
} reactor__child_node;

typedef struct reactor__child_module {
    reactor__loop_module module; /* first: the loop knows only this */
    reactor__child_node *buckets[REACTOR__CHILD_BUCKETS];
    reactor__child_node *ended, **ended_end; /* the queue */
    uint64_t timer;                          /* of looks; asleep while nobody is POLLED */
    uint32_t polled;
    int kq;        /* the kqueue; -1: none */
    uint32_t slot; /* of that */
} reactor__child_module;

/* NULL before the first child. */
static reactor__child_module *reactor__child_module_here(const reactor *r) {
    return (reactor__child_module *)r->modules[REACTOR__LOOP_CHILD];
}

/* The invariants of a node. Who has ended holds no timer, or a SIGKILL would come for whoever has
   the number next. */
static void reactor__child_check(const reactor__child_node *node) {
    REACTOR__CHECK(node->pid > 0 || node->state == REACTOR__CHILD_NEW);
    REACTOR__CHECK(node->state != REACTOR__CHILD_ENDED || !node->deadline);
    REACTOR__CHECK(node->state == REACTOR__CHILD_ENDED || !node->later);
    REACTOR__CHECK(!node->how.error || node->how.code == -1);
    REACTOR__CHECK(!node->how.dumped || node->how.signum);
    (void)node;
}

static void reactor__child_exited(reactor__child_node *node);

/* ---- what differs between the systems ----

   begin    what all children of the loop need; again is harmless.
   watch    has child_exited called when the child has ended. -ENOTSUP: this system cannot.
   unwatch  gives back what watch has taken, if it has. In a forked child too, where it must not
            disturb the parent.
   take     1: the child has ended, node->how says how, and the zombie is gone; 0: it runs;
            -ECHILD: it is nobody that this process could wait for.
   recall   after -ECHILD: puts into node->how what the system still knows.
   kill     sends a signal.
   collect  before the queue is looked at: the children whose end another thread has told.
   close    gives back what begin has taken. */

/* By its number, which no two children that are watched share: it is free when it was waited
   for. */
static reactor__child_node *reactor__child_find(const reactor__child_module *p, int pid) {
    reactor__child_node *node = p->buckets[(unsigned)pid % REACTOR__CHILD_BUCKETS];
    while (node && node->pid != pid) node = node->next;
    return node;
}

#ifdef _WIN32

static int reactor__child_sys_begin(reactor *r, reactor__child_module *p) {
    (void)r, (void)p;
    return 0;
}

/* On a thread of the pool. As a signal's: the node, the module, the wake-up; turn looks the other
   way around. */
static VOID CALLBACK reactor__child_sys_on_exit(PVOID user, BOOLEAN timed_out) {
    reactor__child_node *node = (reactor__child_node *)user;
    (void)timed_out;
    REACTOR__STORE(&node->watch.exited, 1);
    REACTOR__STORE(&node->r->pending[REACTOR__LOOP_CHILD], 1);
    reactor__wake_notify(&node->r->wake);
}

/* The handle keeps the number from being another process's. spawn has one already. */
static int reactor__child_sys_watch(reactor__child_module *p, reactor__child_node *node) {
    reactor__child_watch *w = &node->watch;
    const DWORD rights = SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION;
    (void)p;
    if (!w->process) w->process = OpenProcess(rights | PROCESS_TERMINATE, FALSE, (DWORD)node->pid);
    if (!w->process) w->process = OpenProcess(rights, FALSE, (DWORD)node->pid);
    if (!w->process)
        return GetLastError() == ERROR_INVALID_PARAMETER ? -ECHILD : reactor__util_error();
    if (RegisterWaitForSingleObject(&w->wait, w->process, reactor__child_sys_on_exit, node,
                                    INFINITE, WT_EXECUTEONLYONCE))
        return 0;
    int e = reactor__util_error();
    w->wait = NULL;
    return e < 0 ? e : -ENOMEM;
}

/* Waits for the callback if that is running just now, which it is for a few instructions. */
static void reactor__child_sys_unwatch(reactor__child_module *p, reactor__child_node *node) {
    reactor__child_watch *w = &node->watch;
    (void)p;
    if (w->wait) UnregisterWaitEx(w->wait, INVALID_HANDLE_VALUE);
    if (w->process) CloseHandle(w->process);
    memset(w, 0, sizeof *w);
}

/* Asked of the handle: 259, STILL_ACTIVE, is a code that a program may end with. */
static int reactor__child_sys_take(reactor__child_node *node) {
    DWORD code = 0;
    if (WaitForSingleObject(node->watch.process, 0) == WAIT_TIMEOUT) return 0;
    GetExitCodeProcess(node->watch.process, &code);
    node->how.signum = node->watch.terminated;
    node->how.code = node->watch.terminated ? -1 : (int)code;
    return 1;
}

static void reactor__child_sys_recall(reactor__child_node *node) { (void)node; }

/* There are no signals. A group has Ctrl-Break, which it may refuse to end by. */
static int reactor__child_sys_kill(reactor__child_node *node, int signum) {
    if (signum == SIGTERM && node->group)
        return GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, (DWORD)node->pid) ? 0
                                                                            : reactor__util_error();
    if (signum != SIGTERM && signum != REACTOR__CHILD_SIGKILL) return -ENOTSUP;
    if (TerminateProcess(node->watch.process, (UINT)(128 + signum))) {
        node->watch.terminated = signum;
        return 0;
    }
    const int e = reactor__util_error();
    if (WaitForSingleObject(node->watch.process, 0) == WAIT_OBJECT_0) return 0;
    return e == -EACCES ? -EPERM : e;
}

static int reactor__child_sys_knows(int signum) { return signum >= 0 && signum < 65; }

static void reactor__child_sys_collect(reactor__child_module *p) {
    for (int i = 0; i < REACTOR__CHILD_BUCKETS; i++)
        for (reactor__child_node *node = p->buckets[i]; node; node = node->next)
            if (REACTOR__EXCHANGE(&node->watch.exited, 0)) reactor__child_exited(node);
}

static void reactor__child_sys_close(reactor *r, reactor__child_module *p, int child) {
    (void)r, (void)p, (void)child;
}

#else
#include <sys/wait.h>

/* What wait(2) says of an end. The macros are asked, for systems differ in the numbers. */
static void reactor__child_set_status(reactor_exit *how, int status) {
    memset(how, 0, sizeof *how);
    how->code = -1;
    if (WIFEXITED(status)) {
        how->code = WEXITSTATUS(status);
    } else {
        how->signum = WTERMSIG(status);
        how->dumped = WCOREDUMP(status) != 0;
    }
}

/* Waits by the number, without blocking. Until a child is waited for nobody else can get its
   number, so this takes another's status only if somebody else has waited for it and a new child of
   this process has got the number since. Where there are pidfds even that is impossible. */
static int reactor__child_wait(reactor__child_node *node) {
    int status = 0;
    pid_t got;
    do got = waitpid((pid_t)node->pid, &status, WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -ECHILD;
    if (got > 0) reactor__child_set_status(&node->how, status);
    return got > 0;
}

/* Sends by the number, to one or to its group. A process that has ended and was not waited for
   takes any signal without effect; ESRCH means that somebody else has waited for it, which fn is
   about to hear. */
static int reactor__child_send(reactor__child_node *node, int signum) {
    if (kill((pid_t)(node->group ? -node->pid : node->pid), signum) == 0) return 0;
    return errno == ESRCH ? 0 : -errno;
}

#if defined(_SIG_MAXSIG)
#define REACTOR__CHILD_SIGNALS (_SIG_MAXSIG + 1) /* FreeBSD, whose NSIG is that of old: 32 */
#else
#define REACTOR__CHILD_SIGNALS NSIG
#endif

static int reactor__child_sys_knows(int signum) {
    return signum >= 0 && signum < REACTOR__CHILD_SIGNALS;
}

static void reactor__child_sys_collect(reactor__child_module *p) { (void)p; }

#ifdef __linux__

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same number everywhere; Linux 5.3 */
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424 /* Linux 5.1 */
#endif

/* An idtype of waitid(2), Linux 5.4; and of ioctl_pidfd(2) the call that tells how a process has
   ended although somebody else has waited for it, Linux 6.15. */
enum {
    REACTOR__CHILD_P_PIDFD = 3,
    REACTOR__CHILD_INFO_EXIT = 8 /* in mask: exit_code is there */
};
typedef struct reactor__child_info {
    uint64_t mask, cgroup;
    uint32_t ids[11]; /* pid, tgid, ppid, and users and groups */
    int32_t exit_code;
} reactor__child_info;
#define REACTOR__CHILD_GET_INFO _IOWR(0xFF, 11, reactor__child_info)

static int reactor__child_sys_begin(reactor *r, reactor__child_module *p) {
    (void)r, (void)p;
    return 0;
}

/* A pidfd becomes readable when its process has ended, and stays so. */
static void reactor__child_sys_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd, (void)events;
    r->core.counters.callbacks--; /* child_tell's is the one that counts */
    reactor__child_exited((reactor__child_node *)user);
}

/* Refusals that mean "no pidfd" have the timer look: ENOSYS of an old kernel, EPERM or ENOSYS of a
   sandbox, and ESRCH of a child that was waited for already, which take then finds out. Those that
   mean "not now", for want of descriptors or memory, are the caller's. pidfd_open(2) makes it
   close-on-exec. */
static int reactor__child_sys_watch(reactor__child_module *p, reactor__child_node *node) {
    reactor__child_watch *w = &node->watch;
    (void)p;
    const int fd = (int)syscall(SYS_pidfd_open, node->pid, 0);
    if (fd < 0) return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ENOTSUP;
    w->fd = reactor__util_above(fd);
    int64_t slot =
        reactor__core_reserve(&node->r->core, REACTOR__CORE_INTERNAL, reactor__child_sys_io, node);
    int e = slot < 0 ? (int)slot : 0;
    if (e == 0) {
        e = reactor__core_bind(&node->r->core, (uint32_t)slot, w->fd, REACTOR_READ);
        w->slot = (uint32_t)slot;
        if (e == 0) return 0;
        reactor__core_release(&node->r->core, (uint32_t)slot);
    }
    reactor__util_close(w->fd);
    w->fd = 0;
    return e;
}

static void reactor__child_sys_unwatch(reactor__child_module *p, reactor__child_node *node) {
    reactor__core *core = &node->r->core;
    (void)p;
    if (!node->watch.fd) return;
    reactor__core_unbind(core, node->watch.slot, 0);
    reactor__core_release(core, node->watch.slot);
    reactor__util_close(node->watch.fd);
    node->watch.fd = 0;
}

/* Waits by the pidfd, which never comes to mean another process. Linux 5.3 has pidfds and
   cannot wait by them (EINVAL). The status is put together as wait(2) would give it, for one
   reader of it. */
static int reactor__child_sys_take(reactor__child_node *node) {
    siginfo_t info;
    int e;
    if (!node->watch.fd) return reactor__child_wait(node);
    memset(&info, 0, sizeof info);
    do e = waitid((idtype_t)REACTOR__CHILD_P_PIDFD, (id_t)node->watch.fd, &info, WEXITED | WNOHANG);
    while (e < 0 && errno == EINTR);
    if (e < 0) return errno == EINVAL ? reactor__child_wait(node) : -ECHILD;
    if (!info.si_pid) return 0;
    reactor__child_set_status(&node->how, info.si_code == CLD_EXITED
                                              ? info.si_status << 8
                                              : info.si_status | (info.si_code == CLD_DUMPED) << 7);
    return 1;
}

/* ioctl(2) itself, whose number has another type in each C library. */
static void reactor__child_sys_recall(reactor__child_node *node) {
    reactor__child_info info;
    if (!node->watch.fd) return;
    memset(&info, 0, sizeof info);
    info.mask = REACTOR__CHILD_INFO_EXIT;
    if (syscall(SYS_ioctl, node->watch.fd, REACTOR__CHILD_GET_INFO, &info) < 0) return;
    if (info.mask & REACTOR__CHILD_INFO_EXIT) reactor__child_set_status(&node->how, info.exit_code);
}

/* pidfd_send_signal(2) cannot hit another process that has got the number since. It knows no groups
   before Linux 6.9, so for a group it only asks (signal 0) whether the leader still has the number;
   while it has, that of the group is not given to others either. */
static int reactor__child_sys_kill(reactor__child_node *node, int signum) {
    if (!node->watch.fd) return reactor__child_send(node, signum);
    if (syscall(SYS_pidfd_send_signal, node->watch.fd, node->group ? 0 : signum, NULL, 0) < 0)
        return errno == ESRCH ? 0 : -errno;
    return node->group ? reactor__child_send(node, signum) : 0;
}

static void reactor__child_sys_close(reactor *r, reactor__child_module *p, int child) {
    (void)r, (void)p, (void)child;
}

#else
#include <sys/event.h>

enum { REACTOR__CHILD_EVENTS = 32 };

/* The kqueue is readable: takes what it has. A child's number is its event's name. */
static void reactor__child_sys_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    reactor__child_module *p = (reactor__child_module *)user;
    const struct timespec now = {0, 0};
    struct kevent list[REACTOR__CHILD_EVENTS];
    int n;
    (void)events;
    r->core.counters.callbacks--; /* child_tell's is the one that counts */
    do {
        n = kevent(fd, NULL, 0, list, REACTOR__CHILD_EVENTS, &now);
        for (int i = 0; i < n; i++) {
            reactor__child_node *node = reactor__child_find(p, (int)list[i].ident);
            if (node && node->state == REACTOR__CHILD_WATCHED) reactor__child_exited(node);
        }
    } while (n == REACTOR__CHILD_EVENTS);
}

static int reactor__child_sys_begin(reactor *r, reactor__child_module *p) {
    if (p->kq >= 0) return 0;
    const int kq = reactor__util_above(kqueue());
    if (kq < 0) return -errno;
    int64_t slot =
        reactor__core_reserve(&r->core, REACTOR__CORE_INTERNAL, reactor__child_sys_io, p);
    int e = slot < 0 ? (int)slot : reactor__util_cloexec(kq);
    if (e == 0) e = reactor__core_bind(&r->core, (uint32_t)slot, kq, REACTOR_READ);
    if (e == 0) {
        p->kq = kq;
        p->slot = (uint32_t)slot;
        return 0;
    }
    if (slot >= 0) reactor__core_release(&r->core, (uint32_t)slot);
    reactor__util_close(kq);
    return e;
}

static int reactor__child_sys_event(const reactor__child_module *p, const reactor__child_node *node,
                                    unsigned flags) {
    const struct timespec now = {0, 0};
    struct kevent change;
    memset(&change, 0, sizeof change);
    change.ident = (uintptr_t)node->pid;
    change.filter = EVFILT_PROC;
    change.flags = (unsigned short)flags;
    change.fflags = NOTE_EXIT;
    return kevent(p->kq, &change, 1, NULL, 0, &now) < 0 ? -errno : 0;
}

/* Most say ESRCH of a zombie, which take finds. */
static int reactor__child_sys_watch(reactor__child_module *p, reactor__child_node *node) {
    int e = reactor__child_sys_event(p, node, EV_ADD | EV_ONESHOT);
    return e == -ENOMEM ? e : e < 0 ? -ENOTSUP : 0;
}

/* Of what has been told there is nothing to delete any more. */
static void reactor__child_sys_unwatch(reactor__child_module *p, reactor__child_node *node) {
    if (p->kq >= 0 && node->state == REACTOR__CHILD_WATCHED)
        (void)reactor__child_sys_event(p, node, EV_DELETE);
}

static int reactor__child_sys_take(reactor__child_node *node) { return reactor__child_wait(node); }

static void reactor__child_sys_recall(reactor__child_node *node) { (void)node; }

static int reactor__child_sys_kill(reactor__child_node *node, int signum) {
    return reactor__child_send(node, signum);
}

/* A forked child inherits no kqueue: its number may be somebody else's there. */
static void reactor__child_sys_close(reactor *r, reactor__child_module *p, int child) {
    if (p->kq < 0) return;
    reactor__core_unbind(&r->core, p->slot, 1);
    reactor__core_release(&r->core, p->slot);
    if (!child) reactor__util_close(p->kq);
    p->kq = -1;
}
#endif
#endif

/* ---- from its end to its callback ---- */

/* Changes who looks at a child. The timer is reset only when the first child comes to be looked at
   or the last one goes; while there is none it sleeps, and an idle loop does not wake. */
static void reactor__child_set_state(reactor__child_node *node, int state) {
    reactor__child_module *p = reactor__child_module_here(node->r);
    const uint32_t before = p->polled;
    p->polled -= node->state == REACTOR__CHILD_POLLED;
    p->polled += state == REACTOR__CHILD_POLLED;
    node->state = state;
    if (!before != !p->polled)
        reactor__loop_reset_timer(
            node->r, p->timer, p->polled ? REACTOR__CHILD_LOOK_MS * REACTOR__MS : REACTOR__NEVER);
}

/* Gives back what tells of its end, and takes its SIGKILL back: the number may be another process's
   from the moment on that it was waited for. */
static void reactor__child_release(reactor__child_node *node) {
    reactor__child_module *p = reactor__child_module_here(node->r);
    reactor__child_sys_unwatch(p, node);
    if (node->deadline) reactor__timer_cancel(&node->r->wheel, node->deadline);
    node->deadline = 0;
}

/* Its status is in how; the callback comes at the end of the turn. The queue keeps the order in
   which the ends were seen, and the callback is not called here, for this may be a call of the
   user's. */
static void reactor__child_end(reactor__child_node *node) {
    reactor__child_module *p = reactor__child_module_here(node->r);
    reactor__child_release(node);
    reactor__child_set_state(node, REACTOR__CHILD_ENDED);
    node->later = NULL;
    *p->ended_end = node;
    p->ended_end = &node->later;
    REACTOR__STORE(&node->r->pending[REACTOR__LOOP_CHILD], 1);
    reactor__loop_touch(node->r);
    reactor__child_check(node);
}

/* It has ended, and its status is somebody else's. */
static void reactor__child_lost(reactor__child_node *node) {
    memset(&node->how, 0, sizeof node->how);
    node->how.error = -ECHILD;
    node->how.code = -1;
    reactor__child_sys_recall(node);
}

/* Whether it has ended. */
static int reactor__child_look(reactor__child_node *node) {
    const int e = reactor__child_sys_take(node);
    if (e == 0) return 0;
    if (e < 0) reactor__child_lost(node);
    reactor__child_end(node);
    return 1;
}

/* The system says that it has ended. macOS says so some microseconds before the status can be had:
   the timer fetches it then, for waiting here would block the loop. */
static void reactor__child_exited(reactor__child_node *node) {
    if (reactor__child_look(node)) return;
    reactor__child_release(node);
    reactor__child_set_state(node, REACTOR__CHILD_POLLED);
}

/* The timer's look at all of whom the system does not tell. 20 ms are little beside what a program
   takes to start, and 50 looks a second at a hundred children are not to be seen in the processor's
   time. */
static void reactor__child_look_round(reactor *r, reactor_timer t, void *user) {
    const reactor__child_module *p = (const reactor__child_module *)user;
    (void)r, (void)t;
    for (int i = 0; i < REACTOR__CHILD_BUCKETS; i++)
        for (reactor__child_node *node = p->buckets[i]; node; node = node->next)
            if (node->state == REACTOR__CHILD_POLLED) (void)reactor__child_look(node);
}

/* Takes a node off all lists and frees it. The loop loses one reason to go on. */
static void reactor__child_drop(reactor__child_node *node) {
    reactor__child_module *p = reactor__child_module_here(node->r);
    reactor__child_node **at = &p->buckets[(unsigned)node->pid % REACTOR__CHILD_BUCKETS];
    reactor__child_check(node);
    while (*at != node) at = &(*at)->next;
    *at = node->next;
    if (node->state == REACTOR__CHILD_ENDED) {
        for (at = &p->ended; *at != node;) at = &(*at)->later;
        *at = node->later;
        if (!*at) p->ended_end = at;
    }
    reactor__child_release(node);
    reactor__child_set_state(node, REACTOR__CHILD_NEW);
    node->r->core.active--;
    node->r->core.counters.children--;
    REACTOR_FREE(node);
}

/* Nothing is kept of the child when its callback runs, which may watch a new one of that number. */
static void reactor__child_tell(reactor *r, reactor__child_node *node) {
    reactor_child_fn *fn = node->fn;
    void *user = node->user;
    const reactor_exit how = node->how;
    const int pid = node->pid;
    reactor__child_drop(node);
    if (fn) reactor__loop_call_child(r, fn, pid, &how, user);
}

/* Ends when the queue is empty: what a callback starts cannot have ended before the next wait, and
   a child that a callback hands over and that has ended long since is one more call. */
static void reactor__child_turn(reactor *r, reactor__loop_module *module) {
    reactor__child_module *p = (reactor__child_module *)module;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_CHILD], 0);
    reactor__child_sys_collect(p);
    while (p->ended && !REACTOR__PEEK(&r->core.stop)) reactor__child_tell(r, p->ended);
    if (p->ended) REACTOR__STORE(&r->pending[REACTOR__LOOP_CHILD], 1); /* after a stop */
}

/* ---- the end of the loop, and forks ---- */

/* A forked child has destroyed its copy in a callback: descriptors are closed at once, memory stays
   until that callback has returned. Nothing is sent to the children, which are the parent's. */
static void reactor__child_fork_cleanup(reactor *r, reactor__loop_module *module) {
    reactor__child_module *p = (reactor__child_module *)module;
    for (int i = 0; i < REACTOR__CHILD_BUCKETS; i++)
        for (reactor__child_node *node = p->buckets[i]; node; node = node->next)
            reactor__child_release(node);
    reactor__child_sys_close(r, p, 1);
}

/* The children are the parent's, and cannot be waited for here, nor killed: their deadlines go.
   What was known before the fork is told in both processes. */
static int reactor__child_forked(reactor *r, reactor__loop_module *module) {
    reactor__child_module *p = (reactor__child_module *)module;
    for (int i = 0; i < REACTOR__CHILD_BUCKETS; i++)
        for (reactor__child_node *node = p->buckets[i]; node; node = node->next) {
            if (node->state == REACTOR__CHILD_ENDED) continue;
            reactor__child_lost(node);
            reactor__child_end(node);
        }
    reactor__child_sys_close(r, p, 1);
    return 0;
}

/* Those that have ended are told of, for their status has been taken and nobody could find out any
   more; the others run on, and are the process's to wait for. A callback may not start or watch
   anything. */
static void reactor__child_fini(reactor *r, reactor__loop_module *module, int child) {
    reactor__child_module *p = (reactor__child_module *)module;
    while (p->ended && !child) reactor__child_tell(r, p->ended);
    for (int i = 0; i < REACTOR__CHILD_BUCKETS; i++)
        while (p->buckets[i]) reactor__child_drop(p->buckets[i]);
    reactor__child_sys_close(r, p, child);
    reactor__timer_cancel(&r->wheel, p->timer);
    r->modules[REACTOR__LOOP_CHILD] = NULL;
    r->pending[REACTOR__LOOP_CHILD] = 0;
    REACTOR_FREE(p);
}

static void reactor__child_dump(const reactor *r, const reactor__loop_module *module,
                                reactor_line_fn *fn, void *user) {
    const reactor__child_module *p = (const reactor__child_module *)module;
    char line[64];
    (void)r;
    for (int i = 0; i < REACTOR__CHILD_BUCKETS; i++)
        for (const reactor__child_node *node = p->buckets[i]; node; node = node->next) {
            snprintf(line, sizeof line, "child pid=%d%s", node->pid,
                     node->state == REACTOR__CHILD_ENDED ? " ended" : "");
            fn(line, user);
        }
}

/* ---- watching ---- */

/* Made with the first child, the timer for looks too: so that a child that has been started can
   always be looked at, whatever fails then. */
static int reactor__child_module_start(reactor *r) {
    const unsigned flags = REACTOR__TIMER_UNREF | REACTOR__TIMER_INTERNAL;
    if (r->modules[REACTOR__LOOP_CHILD]) return 0;
    reactor__child_module *p = REACTOR__NEW(reactor__child_module);
    if (!p) return -ENOMEM;
    int e = reactor__loop_set_timer(r, REACTOR__NEVER, REACTOR__CHILD_LOOK_MS * REACTOR__MS,
                                    reactor__child_look_round, p, flags, &p->timer);
    if (e < 0) {
        REACTOR_FREE(p);
        return e;
    }
    p->ended_end = &p->ended;
    p->kq = -1;
    p->module.turn = reactor__child_turn;
    p->module.fini = reactor__child_fini;
    p->module.dump = reactor__child_dump;
    p->module.fork_cleanup = reactor__child_fork_cleanup;
    p->module.forked = reactor__child_forked;
    r->modules[REACTOR__LOOP_CHILD] = &p->module;
    return 0;
}

/* Everything that can fail for want of memory or descriptors, made before there is a child:
   reactor_spawn could not take a child back that has begun to run. */
static int reactor__child_new(reactor *r, reactor_child_fn *fn, void *user,
                              reactor__child_node **out) {
    if (r->closing) return -ECANCELED;
    int e = reactor__child_module_start(r);
    if (e == 0) e = reactor__child_sys_begin(r, reactor__child_module_here(r));
    if (e < 0) return e;
    *out = REACTOR__NEW(reactor__child_node);
    if (!*out) return -ENOMEM;
    (*out)->r = r;
    (*out)->fn = fn;
    (*out)->user = user;
    return 0;
}

/* The node becomes that of pid, and counts as a reason to go on. If the system will not tell of its
   end the timer looks at it, whatever is returned: -ENOTSUP if that will always be so, else the
   error that reactor_child gives to its caller, and reactor_spawn, whose child runs already, does
   not. */
static int reactor__child_start(reactor__child_node *node, int pid) {
    reactor__child_module *p = reactor__child_module_here(node->r);
    reactor__child_node **bucket = &p->buckets[(unsigned)pid % REACTOR__CHILD_BUCKETS];
    node->pid = pid;
    node->next = *bucket;
    *bucket = node;
    node->r->core.active++;
    node->r->core.counters.children++;
    int e = reactor__child_sys_watch(p, node);
    reactor__child_set_state(node, e < 0 ? REACTOR__CHILD_POLLED : REACTOR__CHILD_WATCHED);
    return e;
}

/* Asks for the status at once: that tells a child from what is none, and finds one that has ended
   before. Its status is taken only when nothing can fail any more, or it would be lost. */
static int reactor__child_add(reactor *r, int pid, reactor_child_fn *fn, void *user) {
    reactor__child_node *node = NULL;
    int e = reactor__child_new(r, fn, user, &node);
    if (e < 0) return e;
    e = reactor__child_start(node, pid);
    if (e == -ENOTSUP) e = 0;
    if (e == 0) {
        const int ended = reactor__child_sys_take(node);
        if (ended > 0) reactor__child_end(node);
        if (ended >= 0) return 0;
        e = -ECHILD;
    }
    reactor__child_drop(node);
    return e;
}

REACTOR_API int reactor_child(reactor *r, int pid, reactor_child_fn *fn, void *user) {
    if (!r || pid < 1) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    const reactor__child_module *p = reactor__child_module_here(r);
    reactor__child_node *node = p ? reactor__child_find(p, pid) : NULL;
    if (!node) return fn ? reactor__child_add(r, pid, fn, user) : -ENOENT;
    if (!fn) {
        reactor__child_drop(node);
        return 0;
    }
    node->fn = fn;
    node->user = user;
    return 0;
}

/* ---- signals to children ---- */

/* Whoever may send one signal may send this one, as a rule: a refusal has nobody to be told to. */
static void reactor__child_time_is_up(reactor *r, reactor_timer t, void *user) {
    reactor__child_node *node = (reactor__child_node *)user;
    (void)r, (void)t;
    node->deadline = 0;
    (void)reactor__child_sys_kill(node, REACTOR__CHILD_SIGKILL);
}

/* The timer is made before the signal, which cannot be taken back, and a timer that was there is
   moved after it: so a call that failed has changed nothing. */
static int reactor__child_kill_node(reactor__child_node *node, int signum, int64_t deadline_ms) {
    const unsigned flags = REACTOR__TIMER_UNREF | REACTOR__TIMER_INTERNAL;
    const uint64_t before = node->deadline;
    reactor *r = node->r;
    int e = 0;
    if (deadline_ms >= 0 && !before)
        e = reactor__loop_set_timer(r, reactor__util_ms(deadline_ms), 0, reactor__child_time_is_up,
                                    node, flags, &node->deadline);
    if (e == 0 && signum) {
        e = reactor__child_sys_kill(node, signum);
        if (e < 0 && !before && node->deadline) {
            reactor__timer_cancel(&r->wheel, node->deadline);
            node->deadline = 0;
        }
    }
    if (e < 0 || !before) return e;
    if (deadline_ms >= 0)
        return reactor__loop_reset_timer(r, before, reactor__util_ms(deadline_ms));
    reactor__timer_cancel(&r->wheel, before);
    node->deadline = 0;
    return 0;
}

REACTOR_API int reactor_child_kill(reactor *r, int pid, int signum, int64_t deadline_ms) {
    if (!r || pid < 1 || !reactor__child_sys_knows(signum) || deadline_ms < -1) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    const reactor__child_module *p = reactor__child_module_here(r);
    reactor__child_node *node = p ? reactor__child_find(p, pid) : NULL;
    if (!node) return -ENOENT;
    if (r->pid != reactor__util_pid()) return -ECHILD;
    if (node->state == REACTOR__CHILD_ENDED) return 0;
    return reactor__child_kill_node(node, signum, deadline_ms);
}
#endif
/* ==== >> net ==== */
/* Sockets without a loop: addresses to text and back, listeners, accept, connect, and the calls
   that move bytes. Uses config and util. All functions return -errno, and none blocks.

   Three traps. SIGPIPE: only send and sendmsg have a flag against it, so write and sendfile run
   with the signal blocked in this thread, and one that they raised is consumed before the mask is
   restored (reactor__net_block). A unix path outlives its server: a listener replaces one only if
   no socket is bound to it (reactor__net_dead), and removes only the file that this process has
   made. Options are set on the listener, because accepted sockets inherit them: three calls less
   for each connection. A comma is never part of an address: it separates the addresses of a
   list. */
#ifndef REACTOR_NO_NET

#ifndef _WIN32
#include <arpa/inet.h>
#include <net/if.h>
#endif

#define REACTOR__NET_IOV_MAX 1024 /* readv(2): UIO_MAXIOV; the BSDs and macOS have the same */

/* One parsed address: sa and len, or fd, or a host name. sockaddr_storage holds every family
   (socket(7)), so a list of mixed families needs no memory for each. */
typedef struct reactor__net_address {
    struct sockaddr_storage sa;
    socklen_t len;
    reactor_socket fd; /* of "fd:N", else none */
    int any;           /* "*:port" to listen on: IPv6 that takes IPv4 as well */
    int named;         /* bytes of the host name in front of the text; sa has only the port then */
} reactor__net_address;

/* What is known of a connection's peer. It is kept with the connection, because getpeername fails
   once the connection has ended. Each idle connection pays for these 24 bytes; the name of a unix
   socket would need 108, and few peers have one, so it gets memory of its own. */
enum {
    REACTOR__NET_UNKNOWN,
    REACTOR__NET_IN4,     /* in the first four bytes of host */
    REACTOR__NET_IN6,     /* also an IPv4 address that is mapped into IPv6 */
    REACTOR__NET_UNNAMED, /* a unix socket without a name */
    REACTOR__NET_NAMED    /* text, allocated */
};
typedef struct reactor__net_kept {
    uint16_t kind, port; /* port, host: in network order */
    uint32_t scope;
    union {
        unsigned char host[16];
        char *text;
    } u;
} reactor__net_kept;

/* A listening socket and, if it has a unix path, what is needed to remove that. The path is kept as
   an open folder and a name in it, because the program may change its working directory or root
   meanwhile. Device, inode and process are kept because the name alone does not show whether the
   file is still ours: a successor may have replaced it, or this may be a forked child. */
typedef struct reactor__net_bound {
    reactor_socket fd;
    int given;  /* it came as fd:N */
    int folder; /* while there is a name; AT_FDCWD: it could not be opened, and name is a path */
    char *name; /* or NULL */
    dev_t dev;
    ino_t ino;
    int pid;
    int lingers; /* accepted sockets inherit an SO_LINGER with a time: close(2) of one may block */
} reactor__net_bound;

/* What reactor_attach was given. */
enum { REACTOR__NET_SOCKET = 1, REACTOR__NET_PIPE = 2, REACTOR__NET_TERMINAL = 3 };

/* How to write to a descriptor. */
enum {
    REACTOR__NET_IS_SOCKET = 1, /* not a pipe or terminal */
    REACTOR__NET_IGNORED = 2    /* the program ignores SIGPIPE: it need not be blocked */
};

/* Sets an option that is an int, which all used here are but SO_LINGER. */
REACTOR__NOINLINE static int reactor__net_set(reactor_socket fd, int level, int name, int value) {
    const char *v = (const char *)&value;
    return setsockopt(fd, level, name, v, sizeof value) < 0 ? reactor__util_error() : 0;
}

/* Reads an int of SOL_SOCKET. Also the cheapest test for -EBADF and -ENOTSOCK. */
REACTOR__NOINLINE static int reactor__net_get(reactor_socket fd, int name, int *value) {
    socklen_t len = sizeof *value;
    char *v = (char *)value;
    return getsockopt(fd, SOL_SOCKET, name, v, &len) < 0 ? reactor__util_error() : 0;
}

/* ---- what differs between the systems ----

                             Linux           BSDs, macOS         Windows
        SIGPIPE of sockets   MSG_NOSIGNAL    the same; macOS     there is none
                                             SO_NOSIGPIPE
        non-blocking and     by the call     by the call; macOS  after the call
        close-on-exec                        after it
        restart at once      REUSEADDR       REUSEADDR           without an option
        reuse_port           REUSEPORT       REUSEPORT(_LB)      -ENOTSUP
        abstract unix names  yes             no                  no unix addresses
        one socket for both  V6ONLY off      the same; OpenBSD,  V6ONLY off
        families                             DragonFly: none
        accepted inherit     all options     all; macOS: not     not documented
                                             keep-alive's time
        user_timeout_ms      yes             no                  no
        port chosen by       NO_PORT         no                  no
        connect, not bind
        sendfile             yes             macOS, FreeBSD,     a copy
                                             else a copy
        RST while others     AF_UNSPEC       macOS disconnectx,  no
        hold the socket                      else no
        unacknowledged       SIOCOUTQ        not known           not known

   The macros with 0 and 1, or with an option's name and 0 for "none", are asked in plain
   conditions, so that both branches are compiled everywhere. */
#ifdef _WIN32

#define REACTOR__NET_ABSTRACT     0
#define REACTOR__NET_NOSIGNAL     0
#define REACTOR__NET_USER_TIMEOUT 0
#define REACTOR__NET_NO_PORT      0
#ifndef IF_NAMESIZE
#define IF_NAMESIZE 256
#endif
#define REACTOR__NET_DUAL 1

static int reactor__net_sys_quiet(reactor_socket fd) { return (void)fd, 0; }
#elif defined(MSG_NOSIGNAL) && !defined(__APPLE__)
#define REACTOR__NET_NOSIGNAL MSG_NOSIGNAL
static int reactor__net_sys_quiet(reactor_socket fd) { return (void)fd, 0; }
#else
#define REACTOR__NET_NOSIGNAL 0
/* Keeps a socket from raising SIGPIPE. macOS has MSG_NOSIGNAL since 11, and an older one ignores an
   unknown flag: a program that was built on 11 may run there. So the option is set instead, on each
   socket. EINVAL: the peer of an accepted socket has gone already; the first read tells that. */
static int reactor__net_sys_quiet(reactor_socket fd) {
    int r = reactor__net_set(fd, SOL_SOCKET, SO_NOSIGPIPE, 1);
    return r == -EINVAL ? 0 : r;
}
#endif

/* Makes what socket or accept has returned non-blocking and close-on-exec. Not atomic: a fork and
   exec in another thread can inherit the descriptor before. */
REACTOR__OPTIONAL static int64_t reactor__net_sys_ready(reactor_socket fd) {
    if (fd == REACTOR__UTIL_NO_SOCKET) return reactor__util_error();
    int r = reactor__util_cloexec(fd);
    if (r == 0) r = reactor__util_nonblock(fd);
    if (r == 0) r = reactor__net_sys_quiet(fd);
    if (r < 0) reactor__util_close(fd);
    return r < 0 ? r : (int64_t)fd; /* Windows' handles have 32 bits at most */
}

#ifdef _WIN32
static int reactor__net_sys_drop_syn(reactor_socket fd, int on) {
    return (void)fd, (void)on, -ENOTSUP;
}

static int64_t reactor__net_sys_socket(int family, int type) {
    const DWORD flags = WSA_FLAG_OVERLAPPED | REACTOR__UTIL_NO_INHERIT;
    return reactor__net_sys_ready(WSASocketW(family, type, 0, NULL, 0, flags));
}

/* Winsock reports a peer that has gone from the backlog as a reset, which elsewhere is an abort. */
static int64_t reactor__net_sys_accept(reactor_socket listener, struct sockaddr *sa,
                                       socklen_t *len) {
    int64_t fd = reactor__net_sys_ready(accept(listener, sa, len));
    return fd == -ECONNRESET ? -ECONNABORTED : fd;
}

static int reactor__net_sys_is_tcp(reactor_socket fd) {
    WSAPROTOCOL_INFOW info;
    int len = sizeof info;
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &len) != 0) return -1;
    return info.iProtocol == IPPROTO_TCP;
}

/* Winsock takes lengths as ints: a longer transfer is cut, and the caller goes on with the rest. */
static int reactor__net_sys_size(size_t size) { return size < INT_MAX ? (int)size : INT_MAX; }

/* After a send that failed for want of memory: reports it as EAGAIN, so that it is tried again when
   there is room, for the connection itself is well. */
static void reactor__net_sys_unsent(void) {
    if (WSAGetLastError() == WSAENOBUFS) WSASetLastError(WSAEWOULDBLOCK);
}

/* Windows names an interface by its number. It also has names, but they are texts for people, with
   spaces in them. */
static int reactor__net_interface(const char *name, uint32_t *out) {
    return (void)name, (void)out, -ENODEV;
}

static const char *reactor__net_interface_name(uint32_t index, char *name) {
    return (void)index, (void)name, (const char *)NULL;
}

/* Windows' SO_REUSEADDR lets any program bind a port that is in use, and steal its peers, so the
   opposite is set. A restart during TIME_WAIT needs no option here. There is no SO_REUSEPORT. */
static int reactor__net_share(reactor_socket fd, int reuse_port) {
    return reuse_port ? -ENOTSUP : reactor__net_set(fd, SOL_SOCKET, (int)SO_EXCLUSIVEADDRUSE, 1);
}

/* By ioctl, because TCP_KEEPIDLE came with Windows 10 only. */
static int reactor__net_keep_alive(reactor_socket fd, int seconds) {
    const u_long most = ULONG_MAX / 1000;
    struct tcp_keepalive k;
    DWORD n;
    k.onoff = 1;
    k.keepalivetime = ((u_long)seconds < most ? (u_long)seconds : most) * 1000;
    k.keepaliveinterval = 1000;
    int r = WSAIoctl(fd, SIO_KEEPALIVE_VALS, &k, sizeof k, NULL, 0, &n, NULL, NULL);
    return r != 0 ? reactor__util_error() : 0;
}

/* 1: under way, which Winsock calls EWOULDBLOCK. */
static int reactor__net_sys_connect(reactor_socket fd, const struct sockaddr *sa, socklen_t len) {
    int r = connect(fd, sa, len) == 0 ? 0 : reactor__util_error();
    return r == -EAGAIN || r == -EINPROGRESS ? 1 : r;
}

/* 1: there is input; -1: none. Its end is not told: Winsock's getpeername names the peer also after
   the connection has ended, so nobody has to ask in this way whether there was one. */
static int reactor__net_sys_peek(reactor_socket fd) {
    u_long n = 0;
    return ioctlsocket(fd, (long)FIONREAD, &n) == 0 && n > 0 ? 1 : -1;
}

/* 1: no room to write, and no error; so also while a socket is connecting. */
static int reactor__net_is_full(reactor_socket fd) {
    WSAPOLLFD p;
    p.fd = fd;
    p.events = POLLWRNORM;
    p.revents = 0;
    return WSAPoll(&p, 1, 0) == 0;
}

#else

/* if_nametoindex opens a socket, which can fail for want of descriptors. Any other error means that
   there is no such interface; which errno that is differs between the systems. */
static int reactor__net_interface(const char *name, uint32_t *out) {
    *out = if_nametoindex(name);
    if (*out) return 0;
    return errno == EMFILE || errno == ENFILE ? -errno : -ENODEV;
}

static const char *reactor__net_interface_name(uint32_t index, char *name) {
    return if_indextoname(index, name);
}

#ifdef SO_REUSEPORT_LB
#define REACTOR__NET_REUSEPORT SO_REUSEPORT_LB /* FreeBSD: with REUSEPORT the last one gets all */
#else
#define REACTOR__NET_REUSEPORT SO_REUSEPORT
#endif

/* REUSEADDR: without it a restart within the minute of TIME_WAIT fails with EADDRINUSE (socket(7)).
   On Linux it does not let two listeners share a port; REUSEPORT does, for those who ask for it. */
static int reactor__net_share(reactor_socket fd, int reuse_port) {
    int r = reactor__net_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    return r == 0 && reuse_port ? reactor__net_set(fd, SOL_SOCKET, REACTOR__NET_REUSEPORT, 1) : r;
}

/* 1: under way. connect(2): after EINTR it goes on in the background, as after EINPROGRESS. EAGAIN
   is an error: a unix server's backlog is full, and no event tells when it has room again. */
static int reactor__net_sys_connect(reactor_socket fd, const struct sockaddr *sa, socklen_t len) {
    if (connect(fd, sa, len) == 0) return 0;
    return errno == EINPROGRESS || errno == EINTR ? 1 : -errno;
}

/* poll(2) of one descriptor, without waiting: what there is of events, and of POLLERR and POLLHUP.
   If poll fails it is POLLERR, so that nobody takes the failure for "nothing there" and waits. */
static unsigned reactor__net_sys_poll(reactor_socket fd, int events) {
    struct pollfd p;
    p.fd = fd;
    p.events = (short)events;
    p.revents = 0;
    return poll(&p, 1, 0) < 0 ? (unsigned)POLLERR : (unsigned)p.revents;
}

/* 1: there is input; 0: its end; -1: neither. Either means that the socket had a peer, also if
   getpeername cannot name it any more (a unix socket on a BSD; TCP where both ends were shut down).
   With a pending error the answer is -1, because on Linux this recv would take the error away from
   its reader. */
static int reactor__net_sys_peek(reactor_socket fd) {
    char byte;
    unsigned got = reactor__net_sys_poll(fd, POLLIN);
    if (!got || (got & (unsigned)POLLERR)) return -1;
    return (int)recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

/* 1: no room to write, and no error; so also while a socket is connecting. */
static int reactor__net_is_full(reactor_socket fd) {
    return reactor__net_sys_poll(fd, POLLOUT) == 0;
}

/* With both flags in the call itself no fork and exec elsewhere can inherit the descriptor. */
#ifdef SOCK_CLOEXEC
static int64_t reactor__net_sys_socket(int family, int type) {
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}
#else
static int64_t reactor__net_sys_socket(int family, int type) {
    return reactor__net_sys_ready(socket(family, type, 0));
}
#endif

#ifdef __linux__

#define REACTOR__NET_ABSTRACT     1 /* unix(7): names that are no paths */
#define REACTOR__NET_DUAL         1 /* one socket for both families */
#define REACTOR__NET_MORE         MSG_MORE
#define REACTOR__NET_KEEPIDLE     TCP_KEEPIDLE
#define REACTOR__NET_USER_TIMEOUT TCP_USER_TIMEOUT
/* For a listener that is about to close while other listeners share its port (reuse_port): has the
   kernel drop each SYN without ACK that comes to this one (socket(7), SO_ATTACH_FILTER). The peer
   sends it again a second later, when the kernel gives it to another listener, while handshakes
   under way are completed here. Without the filter a peer that connects between the last accept and
   the close is reset, unless net.ipv4.tcp_migrate_req is set (Linux 5.14). It is taken off before
   the close, because another process may hold this very socket. The program loads byte 13, TCP's
   flags, masks them, compares, and returns how many bytes to keep: none, or all. */
#ifdef SO_ATTACH_FILTER
static int reactor__net_sys_drop_syn(reactor_socket fd, int on) {
    static const struct {
        uint16_t code;
        uint8_t yes, no;
        uint32_t value;
    } filter[] = {
        {0x30, 0, 0, 13}, {0x54, 0, 0, 0x12}, {0x15, 0, 1, 2}, {6, 0, 0, 0}, {6, 0, 0, 0xffffffff}};
    struct {
        unsigned short count;
        void *code;
    } program;
    memset(&program, 0, sizeof program);
    program.count = 5;
    program.code = (void *)(uintptr_t)filter; /* not written to */
    return setsockopt(fd, SOL_SOCKET, on ? SO_ATTACH_FILTER : SO_DETACH_FILTER, &program,
                      sizeof program);
}
#else
static int reactor__net_sys_drop_syn(reactor_socket fd, int on) {
    return (void)fd, (void)on, -ENOTSUP;
}
#endif

#define REACTOR__NET_NO_PORT 24 /* ip(7): IP_BIND_ADDRESS_NO_PORT, newer than some headers */

/* By number, because accept4 is declared only under _GNU_SOURCE, which the program may have defined
   too late. ENOSYS: 32-bit x86 and s390x have it as a call of its own since Linux 4.3 only. */
static int64_t reactor__net_sys_accept(reactor_socket listener, struct sockaddr *sa,
                                       socklen_t *len) {
    long fd = syscall(SYS_accept4, listener, sa, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) return fd;
    return errno == ENOSYS ? reactor__net_sys_ready(accept(listener, sa, len)) : -errno;
}

/* Whether TCP's options apply: 1, 0, or -1 if the system does not say. 262 is IPPROTO_MPTCP, which
   has them, too. */
static int reactor__net_sys_is_tcp(reactor_socket fd) {
    int protocol = 0;
    socklen_t len = sizeof protocol;
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0) return -1;
    return protocol == IPPROTO_TCP || protocol == 262;
}

/* Given an offset, sendfile(2) does not move the file's own position, so that several connections
   may send one open file. */
static ssize_t reactor__net_sys_sendfile(reactor_socket fd, reactor_file file, off_t offset,
                                         size_t len) {
    ssize_t sent = sendfile(fd, file, &offset, len);
    return sent < 0 ? -errno : sent;
}

/* Consumes the SIGPIPE that is pending. signal(7): one that a call raised is pending for the
   calling thread, and sigtimedwait takes the thread's own before the process's. */
static void reactor__net_sys_take(const sigset_t *set) {
    struct timespec zero;
    memset(&zero, 0, sizeof zero);
    while (sigtimedwait(set, NULL, &zero) < 0 && errno == EINTR) {
    }
}

#else

static int reactor__net_sys_drop_syn(reactor_socket fd, int on) {
    return (void)fd, (void)on, -ENOTSUP;
}

#define REACTOR__NET_ABSTRACT     0
#define REACTOR__NET_MORE         0
#define REACTOR__NET_USER_TIMEOUT 0
#define REACTOR__NET_NO_PORT      0
#if defined(__OpenBSD__) || defined(__DragonFly__)
#define REACTOR__NET_DUAL 0 /* IPV6_V6ONLY is always on there, and may not be cleared */
#else
#define REACTOR__NET_DUAL 1
#endif
#if defined(TCP_KEEPIDLE)
#define REACTOR__NET_KEEPIDLE TCP_KEEPIDLE
#elif defined(TCP_KEEPALIVE)
#define REACTOR__NET_KEEPIDLE TCP_KEEPALIVE /* macOS's name for it */
#else
#define REACTOR__NET_KEEPIDLE 0 /* OpenBSD has one time for all */
#endif

#ifdef SOCK_CLOEXEC
static int64_t reactor__net_sys_accept(reactor_socket listener, struct sockaddr *sa,
                                       socklen_t *len) {
    int fd = accept4(listener, sa, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
#else
static int64_t reactor__net_sys_accept(reactor_socket listener, struct sockaddr *sa,
                                       socklen_t *len) {
    return reactor__net_sys_ready(accept(listener, sa, len));
}
#endif

/* Whether TCP's options apply: 1, 0, or -1 if the system does not say. macOS has no SO_PROTOCOL,
   so the family decides: a stream of IPv4 or IPv6 is TCP, unless somebody attaches SCTP. */
static int reactor__net_sys_is_tcp(reactor_socket fd) {
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0) return -1;
    return sa.ss_family == AF_INET || sa.ss_family == AF_INET6;
}

/* What a BSD's sendfile returns, in Linux's terms: it fails with EAGAIN or EINTR also when it has
   sent something. -ENOSYS has the caller copy, for outputs and files that sendfile cannot do. */
REACTOR__OPTIONAL static ssize_t reactor__net_sys_sent(int result, off_t sent) {
    if (result == 0) return (ssize_t)sent;
    if (sent > 0 && (errno == EAGAIN || errno == EINTR)) return (ssize_t)sent;
    return errno == ENOTSOCK || errno == ENOTSUP ? -ENOSYS : -errno;
}

/* macOS takes and returns the length in one variable, FreeBSD in two; NetBSD and OpenBSD have no
   sendfile. */
#if defined(__APPLE__)
static ssize_t reactor__net_sys_sendfile(reactor_socket fd, reactor_file file, off_t offset,
                                         size_t len) {
    off_t sent = len < INT_MAX ? (off_t)len : INT_MAX;
    int result = sendfile(file, fd, offset, &sent, NULL, 0);
    return reactor__net_sys_sent(result, sent);
}
#elif defined(__FreeBSD__) || defined(__DragonFly__)
static ssize_t reactor__net_sys_sendfile(reactor_socket fd, reactor_file file, off_t offset,
                                         size_t len) {
    off_t sent = 0;
    int result = sendfile(file, fd, offset, len, NULL, &sent, 0);
    return reactor__net_sys_sent(result, sent);
}
#else
static ssize_t reactor__net_sys_sendfile(reactor_socket fd, reactor_file file, off_t offset,
                                         size_t len) {
    return (void)fd, (void)file, (void)offset, (void)len, -ENOSYS;
}
#endif

/* Consumes the SIGPIPE that is pending. macOS has no sigtimedwait; sigwait returns at once for a
   signal that is pending, and only then it is called. */
static void reactor__net_sys_take(const sigset_t *set) {
    sigset_t pending;
    int number;
    if (sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1) sigwait(set, &number);
}

#endif

/* The two functions below give a unix path the mode that unix_mode asks for, which bind would cut
   by the umask. The path is not followed if it is a link: somebody may have put another file there
   since the bind. FOLDER opens a folder only to name files in it, which needs no right to read
   it. */
#ifdef __linux__
#ifdef O_PATH
#define REACTOR__NET_FOLDER O_PATH
#else
#define REACTOR__NET_FOLDER 010000000 /* O_PATH; some headers show it only under _GNU_SOURCE */
#endif

/* Before bind. unix(7) does not say so, but bind gives the file the socket's mode, less the umask:
   so the file never has more rights than asked for. If fchmod fails, bind uses the default mode,
   and sys_chmod corrects it. */
static void reactor__net_sys_born_with(int fd, mode_t mode) { (void)!fchmod(fd, mode); }

/* After bind, on the file that is ours. A descriptor of O_PATH keeps that file while it is compared
   and changed. fchmod refuses such a descriptor; /proc's link to it works, and so does fchmodat2
   (number 452, Linux 6.6) with AT_EMPTY_PATH (0x1000), where /proc is not mounted. */
static int reactor__net_sys_chmod(int folder, const char *name, const struct stat *ours,
                                  mode_t mode) {
    char path[40];
    struct stat st;
    int fd = openat(folder, name, REACTOR__NET_FOLDER | O_NOFOLLOW | O_CLOEXEC), r = 0;
    if (fd < 0) return -errno;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fstat(fd, &st) < 0)
        r = -errno;
    else if (st.st_dev != ours->st_dev || st.st_ino != ours->st_ino)
        r = -EADDRINUSE;
    else if (chmod(path, mode) < 0 && syscall(452, fd, "", mode, 0x1000) < 0)
        r = -errno;
    reactor__util_close(fd);
    return r;
}
#else
#ifdef O_SEARCH
#define REACTOR__NET_FOLDER O_SEARCH
#else
#define REACTOR__NET_FOLDER O_RDONLY
#endif
static void reactor__net_sys_born_with(int fd, mode_t mode) { (void)fd, (void)mode; }

/* A BSD has no way to keep the file between the comparison and the change, so only the name
   counts. */
static int reactor__net_sys_chmod(int folder, const char *name, const struct stat *ours,
                                  mode_t mode) {
    (void)ours;
    return fchmodat(folder, name, mode, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}
#endif

/* After how many idle seconds TCP sends its first probe. */
static int reactor__net_keep_alive(reactor_socket fd, int seconds) {
    if (REACTOR__NET_KEEPIDLE == 0) return 0;
    return reactor__net_set(fd, IPPROTO_TCP, REACTOR__NET_KEEPIDLE, seconds);
}

#endif /* _WIN32 */

/* ---- text to address ---- */

/* Reads decimal digits and accepts nothing else: no sign, no space, no leading zero. So a number
   has one spelling, and nobody reads 010 as eight. */
static int reactor__net_number(const char *text, size_t len, uint32_t max, uint32_t *out) {
    uint64_t value = 0;
    size_t i;
    if (len == 0 || len > 10 || (len > 1 && text[0] == '0')) return -EINVAL;
    for (i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return -EINVAL;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > max) return -EINVAL;
    *out = (uint32_t)value;
    return 0;
}

/* All structs are copied in and out: reading a sockaddr_storage as another type would break C's
   aliasing rules. */
static void reactor__net_put(reactor__net_address *out, const void *sa, size_t len) {
    memset(&out->sa, 0, sizeof out->sa);
    memcpy(&out->sa, sa, len);
    out->len = (socklen_t)len;
}

/* The struct is zeroed first: the BSDs have a length byte in front and Linux eight bytes of
   padding, which a comparison of two addresses must find equal. */
static int reactor__net_put4(reactor__net_address *out, struct in_addr host, uint16_t port) {
    struct sockaddr_in sa;
    memset(&sa, 0, sizeof sa);
    sa.sin_family = AF_INET;
    sa.sin_addr = host;
    sa.sin_port = htons(port);
    reactor__net_put(out, &sa, sizeof sa);
    return 0;
}

/* Without a flow label: RFC 6437 leaves it to the kernel. */
static int reactor__net_put6(reactor__net_address *out, const struct in6_addr *host, uint32_t scope,
                             uint16_t port) {
    struct sockaddr_in6 sa;
    memset(&sa, 0, sizeof sa);
    sa.sin6_family = AF_INET6;
    sa.sin6_addr = *host;
    sa.sin6_scope_id = scope;
    sa.sin6_port = htons(port);
    reactor__net_put(out, &sa, sizeof sa);
    return 0;
}

/* An IPv4 address given as a number in host order, such as INADDR_LOOPBACK. */
static int reactor__net_fixed4(reactor__net_address *out, uint32_t host, uint16_t port) {
    struct in_addr in;
    in.s_addr = htonl(host);
    return reactor__net_put4(out, in, port);
}

/* sockaddr_in and sockaddr_in6 have the port at the same place. */
static uint16_t reactor__net_port(const reactor__net_address *a) {
    struct sockaddr_in sa;
    memcpy(&sa, &a->sa, sizeof sa);
    return ntohs(sa.sin_port);
}

/* What follows the percent sign: "eth0" or "2" (RFC 4007, section 11). The length is checked here,
   because some C libraries cut a name that is too long and would find another interface. */
static int reactor__net_scope(const char *text, size_t len, uint32_t *out) {
    char name[IF_NAMESIZE];
    if (len == 0) return -EINVAL;
    if (reactor__net_number(text, len, UINT32_MAX, out) == 0) return 0;
    if (len >= sizeof name) return -ENODEV;
    memcpy(name, text, len);
    name[len] = '\0';
    return reactor__net_interface(name, out);
}

/* 1 if host is ::ffff:a.b.c.d, an IPv4 address mapped into IPv6 (RFC 4291, section 2.5.5.2). */
static int reactor__net_mapped(const struct in6_addr *host, struct in_addr *out) {
    static const unsigned char prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (memcmp(host->s6_addr, prefix, sizeof prefix) != 0) return 0;
    memcpy(out, host->s6_addr + sizeof prefix, sizeof *out);
    return 1;
}

/* Parses what stands between the brackets. A mapped address becomes IPv4, because the sockets made
   here are IPv6 only and could not use it. */
static int reactor__net_parse6(const char *text, size_t len, uint16_t port,
                               reactor__net_address *out) {
    char host[INET6_ADDRSTRLEN];
    struct in6_addr in6;
    struct in_addr in4;
    uint32_t scope = 0;
    /* inet_pton knows no scope, so the text is cut at it. */
    const char *percent = (const char *)memchr(text, '%', len);
    size_t n = percent ? (size_t)(percent - text) : len;
    if (n >= sizeof host) return -EINVAL;
    memcpy(host, text, n);
    host[n] = '\0';
    if (inet_pton(AF_INET6, host, &in6) != 1) return -EINVAL;
    if (percent) {
        int r = reactor__net_scope(percent + 1, len - n - 1, &scope);
        if (r < 0) return r;
    } else if (reactor__net_mapped(&in6, &in4)) {
        return reactor__net_put4(out, in4, port);
    }
    return reactor__net_put6(out, &in6, scope, port);
}

/* Whether a host's last label is a number, also one like 0x7f, with or without a final dot. Such a
   text is an IPv4 address gone wrong: no top-level domain is a number, and getaddrinfo would not
   ask for it but read it as inet_aton(3) does, which makes 127.0.0.1 of 127.1 and of 0x7f.1. */
static int reactor__net_ends_in_number(const char *text, size_t len) {
    static const char hex[] = "0123456789abcdefABCDEF";
    size_t n = 0, digits = 10;
    if (len > 0 && text[len - 1] == '.') len--;
    while (n < len && text[len - n - 1] != '.') n++;
    text += len - n;
    if (n >= 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        text += 2;
        n -= 2;
        digits = sizeof hex - 1;
    } else if (n == 0) {
        return 1; /* nothing between two dots is no label either */
    }
    while (n > 0 && memchr(hex, text[n - 1], digits)) n--;
    return n == 0;
}

/* Tells a host name (0) from nonsense (-EINVAL). The characters are those of RFC 1123, section 2.1,
   and the underscore, which container networks use. A name of other letters is written as its
   A-label ("xn--..."). A list and not isalnum, whose answer depends on the locale. */
static int reactor__net_check_name(const char *text, size_t len) {
    static const char allowed[] =
        "0123456789.-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t i;
    if (len == 0 || len > 254) return -EINVAL; /* RFC 1035, section 2.3.4: 253, and a final dot */
    if (text[0] == '.' || text[0] == '-') return -EINVAL;
    for (i = 0; i < len; i++)
        if (!memchr(allowed, text[i], sizeof allowed - 1)) return -EINVAL;
    return reactor__net_ends_in_number(text, len) ? -EINVAL : 0;
}

/* Parses what stands before the port. "*" is every address for a listener, and this machine for a
   client. inet_pton, because it takes exactly four decimal octets without leading zeros, unlike
   inet_aton. "localhost" is not looked up: RFC 6761, section 6.3, says what it is, and a hosts file
   may be absent or say otherwise. -ENOTSUP: a host name, of out->named bytes. */
static int reactor__net_parse_host(const char *text, size_t len, int passive, uint16_t port,
                                   reactor__net_address *out) {
    char host[INET_ADDRSTRLEN];
    struct in_addr in4;
    if (len == 1 && text[0] == '*' && passive) {
        struct in6_addr all;
        memset(&all, 0, sizeof all);
        out->any = 1;
        return reactor__net_put6(out, &all, 0, port);
    }
    if ((len == 1 && text[0] == '*') || (len == 9 && memcmp(text, "localhost", 9) == 0))
        return reactor__net_fixed4(out, INADDR_LOOPBACK, port);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']')
        return reactor__net_parse6(text + 1, len - 2, port, out);
    if (len < sizeof host) {
        memcpy(host, text, len);
        host[len] = '\0';
        if (inet_pton(AF_INET, host, &in4) == 1) return reactor__net_put4(out, in4, port);
    }
    int r = reactor__net_check_name(text, len);
    if (r < 0) return r;
    reactor__net_fixed4(out, INADDR_ANY, port);
    out->named = (int)len;
    return -ENOTSUP;
}

static int reactor__net_is_unix(const char *text, size_t len) {
    const size_t abstract = len > 0 && text[0] == '@'; /* 1 is also the length of its mark */
    if (len == abstract || memchr(text, ',', len)) return 0;
    return text[abstract] != ' ' && text[len - 1] != ' ';
}

#ifdef _WIN32
static int reactor__net_parse_unix(const char *text, size_t len, reactor__net_address *out) {
    (void)out;
    return reactor__net_is_unix(text, len) ? -EAFNOSUPPORT : -EINVAL;
}
#else
/* unix(7): a path ends with a zero byte, which the length counts if it fits; an abstract name
   begins with a zero byte, for which the text has '@', and ends where the length says. */
static int reactor__net_parse_unix(const char *text, size_t len, reactor__net_address *out) {
    struct sockaddr_un un;
    int abstract = len > 0 && text[0] == '@';
    if (!reactor__net_is_unix(text, len)) return -EINVAL;
    if (abstract && !REACTOR__NET_ABSTRACT) return -ENOTSUP;
    if (len >= sizeof un.sun_path) return -ENAMETOOLONG;
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    memcpy(un.sun_path, text, len);
    if (abstract) un.sun_path[0] = '\0';
    reactor__net_put(out, &un, offsetof(struct sockaddr_un, sun_path) + len + !abstract);
    return 0;
}
#endif

/* The number only. Whether it is open, and what it is, its user checks. */
static int reactor__net_parse_fd(const char *text, size_t len, reactor__net_address *out) {
    uint32_t fd;
    if (reactor__net_number(text, len, INT_MAX, &fd) < 0) return -EINVAL;
    out->fd = (reactor_socket)fd;
    return 0;
}

/* Parses one address of the formats that the API lists, for listening (passive) or for connecting.
   -ENOTSUP: a host name, whose length is out->named and whose port is in out->sa, or an abstract
   unix name on another system than Linux; -ENODEV: no such interface; -ENAMETOOLONG: a unix path
   that is too long; -EINVAL: anything else. */
static int reactor__net_parse(const char *text, size_t len, int passive,
                              reactor__net_address *out) {
    size_t colon = len;
    uint32_t port;
    memset(out, 0, sizeof *out);
    out->fd = REACTOR__UTIL_NO_SOCKET;
    /* The C library's functions would see only the part before a zero byte. */
    if (memchr(text, '\0', len)) return -EINVAL;
    if (len >= 5 && memcmp(text, "unix:", 5) == 0)
        return reactor__net_parse_unix(text + 5, len - 5, out);
    if (len >= 3 && memcmp(text, "fd:", 3) == 0)
        return reactor__net_parse_fd(text + 3, len - 3, out);
    /* The port follows the last colon: IPv6 addresses contain others. */
    while (colon > 0 && text[colon - 1] != ':') colon--;
    if (colon == 0) return -EINVAL;
    if (reactor__net_number(text + colon, len - colon, 65535, &port) < 0) return -EINVAL;
    if (port == 0 && !passive) return -EINVAL;
    return reactor__net_parse_host(text, colon - 1, passive, (uint16_t)port, out);
}

/* Takes the next item off the list, without the spaces next to its commas, and returns 1. Returns 0
   at the end, when *list is NULL, and -EINVAL for an empty item, so also for an empty list. */
static int reactor__net_next(const char **list, const char **item, size_t *len) {
    const char *at = *list, *comma;
    if (!at) return 0;
    comma = strchr(at, ',');
    *item = at;
    *len = comma ? (size_t)(comma - at) : strlen(at);
    *list = comma ? comma + 1 : NULL;
    while (*list && **list == ' ') ++*list;
    while (comma && *len > 0 && at[*len - 1] == ' ') --*len;
    return *len > 0 ? 1 : -EINVAL;
}

/* ---- address to text ---- */

/* snprintf returns the length that the whole text has: a text that was cut is -ENOBUFS. */
static int reactor__net_fits(int len, size_t size) {
    return len < 0 || (size_t)len >= size ? -ENOBUFS : len;
}

/* The functions below never ask a resolver for a host's name: that would block. */
static int reactor__net_format4(struct in_addr host, uint16_t port, char *out, size_t size) {
    char text[INET_ADDRSTRLEN];
    if (!inet_ntop(AF_INET, &host, text, sizeof text)) return reactor__util_error();
    return reactor__net_fits(snprintf(out, size, "%s:%u", text, (unsigned)port), size);
}

/* A mapped address is shown as IPv4: it comes from a listener on "*:port", whose peer used IPv4. */
static int reactor__net_format6(const struct sockaddr_in6 *sa, char *out, size_t size) {
    char text[INET6_ADDRSTRLEN], scope[IF_NAMESIZE + 16] = "";
    char name[IF_NAMESIZE];
    struct in_addr in4;
    unsigned port = ntohs(sa->sin6_port);
    if (reactor__net_mapped(&sa->sin6_addr, &in4))
        return reactor__net_format4(in4, (uint16_t)port, out, size);
    if (!inet_ntop(AF_INET6, &sa->sin6_addr, text, sizeof text)) return reactor__util_error();
    if (sa->sin6_scope_id && reactor__net_interface_name((uint32_t)sa->sin6_scope_id, name)) {
        snprintf(scope, sizeof scope, "%%%s", name);
    } else if (sa->sin6_scope_id) { /* the interface has gone, or this is Windows */
        snprintf(scope, sizeof scope, "%%%lu", (unsigned long)sa->sin6_scope_id);
    }
    return reactor__net_fits(snprintf(out, size, "[%s%s]:%u", text, scope, port), size);
}

#ifdef _WIN32
static int reactor__net_format_unix(const char *name, size_t n, char *out, size_t size) {
    return (void)name, (void)n, (void)out, (void)size, -EAFNOSUPPORT;
}
#else
/* name is a sockaddr_un of n bytes. The peer may have chosen it, so control characters, which could
   forge a line of a log or command a terminal, become '?'. Bytes above 127 stay in a path, where
   they are UTF-8; an abstract name is any bytes, so there they become '?', too. */
static int reactor__net_format_unix(const char *name, size_t n, char *out, size_t size) {
    const size_t head = offsetof(struct sockaddr_un, sun_path);
    name += head;
    n = n > head ? n - head : 0;
    int abstract = REACTOR__NET_ABSTRACT && n > 1 && name[0] == '\0';
    const char *end = abstract ? NULL : (const char *)memchr(name, '\0', n);
    size_t i, at = 5;
    if (end) n = (size_t)(end - name);
    if (size < at + n + 1) return -ENOBUFS;
    memcpy(out, "unix:", at);
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        int bad = c < 0x20 || c == 0x7f || (abstract && c > 0x7f);
        out[at + i] = bad ? '?' : name[i];
    }
    if (abstract) out[at] = '@'; /* instead of the zero byte */
    out[at + n] = '\0';
    return (int)(at + n);
}
#endif

/* Writes the text that reactor__net_parse would read as this address. Returns its length, -ENOBUFS,
   or -EAFNOSUPPORT for another family, or one that is cut short. */
static int reactor__net_format(const struct sockaddr *sa, socklen_t len, char *out, size_t size) {
    struct sockaddr_storage copy;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    /* accept(2) may return a len that is larger than what it was given room for. */
    size_t n = (size_t)len < sizeof copy ? (size_t)len : sizeof copy;
    memset(&copy, 0, sizeof copy);
    memcpy(&copy, sa, n);
    memcpy(&in4, &copy, sizeof in4);
    memcpy(&in6, &copy, sizeof in6);
    if (copy.ss_family == AF_INET && n >= sizeof in4)
        return reactor__net_format4(in4.sin_addr, ntohs(in4.sin_port), out, size);
    if (copy.ss_family == AF_INET6 && n >= sizeof in6) return reactor__net_format6(&in6, out, size);
    if (copy.ss_family != AF_UNIX) return -EAFNOSUPPORT;
    return reactor__net_format_unix((const char *)&copy, n, out, size);
}

/* -ENOTCONN also after a reset: TCP forgets the peer with the connection. macOS says EINVAL of a
   socket whose both directions have ended. */
static int reactor__net_peer(reactor_socket fd, reactor__net_address *peer) {
    peer->len = sizeof peer->sa;
    if (getpeername(fd, (struct sockaddr *)&peer->sa, &peer->len) >= 0) return 0;
    int e = reactor__util_error();
    peer->len = 0;
    return e == -EINVAL ? -ENOTCONN : e;
}

/* The text of a socket's own address, or its peer's. -ENOTCONN; -ENOTSOCK for a pipe. */
static int reactor__net_name(reactor_socket fd, int peer, char *out, size_t size) {
    reactor__net_address a;
    a.len = sizeof a.sa;
    int r = peer ? reactor__net_peer(fd, &a) : getsockname(fd, (struct sockaddr *)&a.sa, &a.len);
    if (r < 0) return peer ? r : reactor__util_error();
    return reactor__net_format((const struct sockaddr *)&a.sa, a.len, out, size);
}

static void reactor__net_forget(reactor__net_kept *k) {
    if (k->kind == REACTOR__NET_NAMED) REACTOR_FREE(k->u.text);
    k->kind = REACTOR__NET_UNKNOWN;
}

/* Keeps an address of another family than IPv4 and IPv6 as text. Without memory the peer stays
   UNKNOWN, as with a family that has no text: no connection is given up for that. */
static void reactor__net_keep_text(reactor__net_kept *k, const reactor__net_address *a) {
    char text[REACTOR_ADDRESS_MAX];
    int n = reactor__net_format((const struct sockaddr *)&a->sa, a->len, text, sizeof text);
    if (n < 0) return;
    if (strcmp(text, "unix:") == 0) {
        k->kind = REACTOR__NET_UNNAMED;
        return;
    }
    k->u.text = (char *)REACTOR_MALLOC((size_t)n + 1);
    if (!k->u.text) return;
    memcpy(k->u.text, text, (size_t)n + 1);
    k->kind = REACTOR__NET_NAMED;
}

/* Keeps a peer's address. 0.0.0.0 and :: stay UNKNOWN: one can connect to them, and the system
   chooses whom that reaches, so getpeername is asked later. So does an address of no length, which
   is what accept and getpeername give where they know none. */
static void reactor__net_keep(reactor__net_kept *k, const reactor__net_address *a) {
    static const unsigned char any[16] = {0};
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    reactor__net_forget(k);
    memset(k, 0, sizeof *k);
    if ((size_t)a->len < offsetof(struct sockaddr, sa_data)) return;
    if (a->sa.ss_family == AF_INET) {
        memcpy(&in4, &a->sa, sizeof in4);
        memcpy(k->u.host, &in4.sin_addr, sizeof in4.sin_addr);
        k->port = in4.sin_port;
        if (memcmp(k->u.host, any, sizeof any) != 0) k->kind = REACTOR__NET_IN4;
    } else if (a->sa.ss_family == AF_INET6) {
        memcpy(&in6, &a->sa, sizeof in6);
        memcpy(k->u.host, &in6.sin6_addr, sizeof k->u.host);
        k->port = in6.sin6_port;
        k->scope = (uint32_t)in6.sin6_scope_id;
        if (memcmp(k->u.host, any, sizeof any) != 0) k->kind = REACTOR__NET_IN6;
    } else {
        reactor__net_keep_text(k, a);
    }
}

/* Writes the text of a peer that was kept, as reactor__net_name would. */
REACTOR__COLD static int reactor__net_show(const reactor__net_kept *k, char *out, size_t size) {
    reactor__net_address a;
    struct in_addr in4;
    struct in6_addr in6;
    if (k->kind == REACTOR__NET_UNKNOWN) return -ENOTCONN;
    if (k->kind == REACTOR__NET_IN4) {
        memcpy(&in4, k->u.host, sizeof in4);
        reactor__net_put4(&a, in4, ntohs(k->port));
    } else if (k->kind == REACTOR__NET_IN6) {
        memcpy(&in6, k->u.host, sizeof in6);
        reactor__net_put6(&a, &in6, k->scope, ntohs(k->port));
    } else {
        const char *text = k->kind == REACTOR__NET_NAMED ? k->u.text : "unix:";
        return reactor__net_fits(snprintf(out, size, "%s", text), size);
    }
    return reactor__net_format((const struct sockaddr *)&a.sa, a.len, out, size);
}

/* ---- for programs: addresses as values ---- */

REACTOR_API int reactor_address_parse(const char *text, void *sa, size_t size) {
    reactor__net_address a;
    if (!text || !sa) return -EINVAL;
    int r = reactor__net_parse(text, strlen(text), 1, &a);
    if (r < 0) return r;
    if (a.fd != REACTOR__UTIL_NO_SOCKET || strchr(text, ',')) return -EINVAL;
    if (size < (size_t)a.len) return -ENOBUFS;
    memcpy(sa, &a.sa, (size_t)a.len);
    return (int)a.len;
}

REACTOR_API int reactor_address_format(const void *sa, size_t len, char *out, size_t size) {
    if (!sa || !out || len > sizeof(struct sockaddr_storage)) return -EINVAL;
    return reactor__net_format((const struct sockaddr *)sa, (socklen_t)len, out, size);
}

REACTOR_API int reactor_socket_address(reactor_socket fd, char *out, size_t size) {
    return out ? reactor__net_name(fd, 0, out, size) : -EINVAL;
}

REACTOR_API int reactor_socket_peer_address(reactor_socket fd, char *out, size_t size) {
    return out ? reactor__net_name(fd, 1, out, size) : -EINVAL;
}

/* ---- options and kinds ---- */

/* tcp(7). TCP_NODELAY is set both ways, because an attached socket may have it set otherwise. On is
   the default: streams gather the output of a turn themselves, so Nagle's algorithm would find
   nothing to gather and only wait for the peer's delayed acknowledgement, 40 ms and more. */
static int reactor__net_tune_tcp(reactor_socket fd, const reactor_conn_options *o) {
    int r;
    if (o->keep_alive_s < 0 || o->user_timeout_ms < 0) return -EINVAL;
    r = reactor__net_set(fd, IPPROTO_TCP, TCP_NODELAY, !o->nagle);
    if (r == 0 && o->keep_alive_s > 0) {
        r = reactor__net_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        if (r == 0) r = reactor__net_keep_alive(fd, o->keep_alive_s);
    }
    if (r == 0 && o->user_timeout_ms > 0 && REACTOR__NET_USER_TIMEOUT != 0)
        r = reactor__net_set(fd, IPPROTO_TCP, REACTOR__NET_USER_TIMEOUT, o->user_timeout_ms);
    return r;
}

/* Keeps a pipe from raising SIGPIPE. On macOS and NetBSD the signal goes to the process and not to
   the thread that wrote: blocked here, it would reach another thread. */
#ifdef F_SETNOSIGPIPE
static void reactor__net_mute(reactor_socket fd) { (void)fcntl(fd, F_SETNOSIGPIPE, 1); }
#else
static void reactor__net_mute(reactor_socket fd) { (void)fd; }
#endif

/* For a connected socket or a listener that was handed over. Only TCP has options to set. */
static int reactor__net_tune(reactor_socket fd, const reactor_conn_options *o) {
    int r = reactor__net_sys_quiet(fd);
    return r == 0 && reactor__net_sys_is_tcp(fd) > 0 ? reactor__net_tune_tcp(fd, o) : r;
}

static int reactor__net_connected(reactor_socket fd) {
    reactor__net_address peer;
    return reactor__net_peer(fd, &peer);
}

/* Checks that fd is a stream socket that listens, or one that does not. SOCK_SEQPACKET is refused:
   it accepts, too, but a short receive would cut its records. macOS does not say whether a socket
   listens (ENOPROTOOPT), so there one is believed to listen that has no peer. */
static int reactor__net_stream(reactor_socket fd, int listening) {
    int type = 0, accepts = 0;
    int r = reactor__net_get(fd, SO_TYPE, &type);
    if (r == 0) r = reactor__net_get(fd, SO_ACCEPTCONN, &accepts);
    if (r == -ENOPROTOOPT) {
        accepts = listening && reactor__net_connected(fd) < 0;
        r = 0;
    }
    if (r < 0) return r;
    return type == SOCK_STREAM && !accepts == !listening ? 0 : -EINVAL;
}

/* Whether the socket has a port, which a connect under way has given it. A unix socket has none,
   and a connect of one is never under way. Windows has no name for a socket that is not bound. */
static int reactor__net_is_bound(reactor_socket fd) {
    reactor__net_address a;
    a.len = sizeof a.sa;
    memset(&a.sa, 0, sizeof a.sa);
    if (getsockname(fd, (struct sockaddr *)&a.sa, &a.len) < 0) return 0;
    if (a.sa.ss_family == AF_INET || a.sa.ss_family == AF_INET6) return reactor__net_port(&a) != 0;
    return a.sa.ss_family != AF_UNIX;
}

/* Whether a stream socket is connected or connecting. To getpeername a socket that is connecting
   looks like one that never was. On Linux poll tells them apart: the first has no event, the second
   is a hang-up. A BSD and Windows have no event for either, so there a socket that is bound and
   does not connect is taken for one that does. */
static int reactor__net_kind_socket(reactor_socket fd, reactor__net_address *peer) {
    int r = reactor__net_stream(fd, 0);
    if (r < 0) return r;
    r = reactor__net_peer(fd, peer);
    if (r == 0) return REACTOR__NET_SOCKET;
    if (r != -ENOTCONN) return r;
    if (reactor__net_sys_peek(fd) >= 0) return REACTOR__NET_SOCKET;
    /* Connected sockets have returned above, so "full" can only mean that it is connecting. */
    if (!reactor__net_is_bound(fd)) return -ENOTCONN;
    return reactor__net_is_full(fd) ? REACTOR__NET_SOCKET : -ENOTCONN;
}

#ifdef _WIN32
/* How a connect ended, or why a connection did. Winsock's SO_ERROR does not have a reset, so a
   receive is tried, too. */
static int reactor__net_error(reactor_socket fd) {
    char byte;
    int error = 0;
    int r = reactor__net_get(fd, SO_ERROR, &error);
    if (r < 0 || error) return r < 0 ? r : reactor__util_code(error);
    r = recv(fd, &byte, 1, MSG_PEEK) < 0 ? reactor__util_error() : 0;
    return r == -EAGAIN ? 0 : r;
}

/* Why a connection ended that the backend has reported as dead: only a reset is reported so. */
static int reactor__net_death(reactor_socket fd) {
    int e = reactor__net_error(fd);
    return e < 0 ? e : -ECONNRESET;
}

/* 0: after a reset every receive fails here, so a receive that returns 0 has read the peer's
   FIN. */
static int reactor__net_cut_off(reactor_socket fd) { return (void)fd, 0; }

/* Pipes and terminals cannot be attached here, so the next three have nothing to do. */
static int reactor__net_blocks(reactor_socket fd) { return (void)fd, 0; }

static void reactor__net_make_block(reactor_socket fd) { (void)fd; }

static int reactor__net_reopen(reactor_socket fd) { return (void)fd, 0; }

static int reactor__net_is_same(reactor_socket a, reactor_socket b) { return a == b; }

/* Only sockets can be watched here, so all else is -EBADF, from the first getsockopt. */
static int reactor__net_kind(reactor_socket fd, reactor__net_address *peer) {
    peer->len = 0;
    return reactor__net_kind_socket(fd, peer);
}

static unsigned reactor__net_ways(reactor_socket fd) {
    return (void)fd, (unsigned)REACTOR_READ | (unsigned)REACTOR_WRITE;
}
#else
/* How a connect ended; reading it clears it. */
static int reactor__net_error(reactor_socket fd) {
    int error = 0;
    int r = reactor__net_get(fd, SO_ERROR, &error);
    return r < 0 ? r : reactor__util_code(error);
}

static int reactor__net_death(reactor_socket fd) { return reactor__net_error(fd); }

/* O_NONBLOCK belongs to the open file, which is shared by all who hold the pipe or terminal. So who
   switches it on for a connection remembers that it was off, and switches it off at the end. */
static int reactor__net_blocks(reactor_socket fd) {
    int mode = fcntl(fd, F_GETFL);
    return mode >= 0 && !(mode & O_NONBLOCK);
}

static void reactor__net_make_block(reactor_socket fd) {
    int mode = fcntl(fd, F_GETFL);
    if (mode >= 0) (void)fcntl(fd, F_SETFL, mode & ~O_NONBLOCK);
}

/* Whether fd is a pseudo-terminal's master, which has no name under which it could be opened again.
   By syscall, because ioctl's second argument is an int in one C library and a long in another. */
#ifdef TIOCGPTN
static int reactor__net_is_master(reactor_socket fd) {
    unsigned number = 0;
    return syscall(SYS_ioctl, fd, (unsigned long)TIOCGPTN, &number) == 0;
}
#else
static int reactor__net_is_master(reactor_socket fd) { return ptsname(fd) != NULL; }
#endif

/* Puts a new, non-blocking open file of the same terminal under the number fd, so that others who
   share the old one, such as standard output, go on blocking. 1 if that was possible. */
static int reactor__net_reopen(reactor_socket fd) {
    char name[128];
    int mode = fcntl(fd, F_GETFL), done = 0;
    if (mode < 0 || (mode & O_NONBLOCK) || reactor__net_is_master(fd)) return 0;
    if (ttyname_r(fd, name, sizeof name) != 0) return 0;
    int fresh = open(name, (mode & O_ACCMODE) | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fresh < 0) return 0;
    done = dup2(fresh, fd) >= 0;
    close(fresh);
    return done;
}

static int reactor__net_is_same(reactor_socket a, reactor_socket b) {
    struct stat x, y;
    if (fstat(a, &x) < 0 || fstat(b, &y) < 0) return 0;
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

#ifdef __linux__
/* Whether TCP has received the peer's FIN, of a socket that has no input left: 1 yes, 0 no, -errno
   not known. No option says so, but Linux 4.18 can map input into memory, and refuses that with EIO
   exactly when no more input can come. Nothing is mapped here, because there is no input. MPTCP and
   older kernels fail with another error. */
static int reactor__net_has_fin(reactor_socket fd) {
    const int zerocopy_receive = 35; /* tcp(7), newer than some headers */
    struct {
        uint64_t address;
        uint32_t length, skip;
    } map;
    socklen_t len = sizeof map;
    memset(&map, 0, sizeof map);
    if (getsockopt(fd, IPPROTO_TCP, zerocopy_receive, &map, &len) == 0) return 0;
    return errno == EIO ? 1 : -errno;
}
#else
static int reactor__net_has_fin(reactor_socket fd) {
    (void)fd;
    return -ENOSYS;
}
#endif

/* Whether poll reports HANGUP of a TCP socket only when both its directions have ended. macOS
   reports it at a half-close, NetBSD never. */
#if defined(__linux__) || defined(__FreeBSD__)
#define REACTOR__NET_HANGS_UP_LAST 1
#else
#define REACTOR__NET_HANGS_UP_LAST 0
#endif

/* Why TCP's receive returned 0 while this side has not ended its own output: 0 for the peer's FIN,
   or the reset that ended both directions. The kernel returns the error of a reset only once, to
   whoever comes first: a send (not on a BSD), or the program that read SO_ERROR. After that a
   receive returns 0, as if the peer had finished in order, and a cut-off message would look
   complete. If has_fin does not know, one more sign is left: Linux calls a reset that follows a FIN
   EPIPE. */
static int reactor__net_cut_off(reactor_socket fd) {
    if (!REACTOR__NET_HANGS_UP_LAST || !(reactor__net_sys_poll(fd, 0) & (unsigned)POLLHUP))
        return 0;
    int fin = reactor__net_has_fin(fd);
    if (fin >= 0) return fin ? 0 : -ECONNRESET;
    int e = reactor__net_error(fd);
    return e == -EPIPE ? 0 : e < 0 ? e : -ECONNRESET;
}

/* What reactor_attach was given: REACTOR__NET_x, or -EINVAL for what is no stream. *peer is a
   socket's peer, of length 0 if the system does not say. Of the character devices only terminals
   behave like a stream: /dev/null never blocks, and others have records. */
static int reactor__net_kind(reactor_socket fd, reactor__net_address *peer) {
    struct stat st;
    peer->len = 0;
    if (fstat(fd, &st) < 0) return -errno;
    if (S_ISSOCK(st.st_mode)) return reactor__net_kind_socket(fd, peer);
    if (S_ISFIFO(st.st_mode)) return REACTOR__NET_PIPE;
    return S_ISCHR(st.st_mode) && isatty(fd) ? REACTOR__NET_TERMINAL : -EINVAL;
}

/* Which way a pipe goes: READ, WRITE, or both, as all do that pipe(2) makes on FreeBSD, OpenBSD and
   DragonFly. If fcntl fails it is both, and the first read or write tells. */
static unsigned reactor__net_ways(reactor_socket fd) {
    int mode = fcntl(fd, F_GETFL);
    if (mode >= 0 && (mode & O_ACCMODE) == O_WRONLY) return (unsigned)REACTOR_WRITE;
    if (mode >= 0 && (mode & O_ACCMODE) == O_RDONLY) return (unsigned)REACTOR_READ;
    return (unsigned)REACTOR_READ | (unsigned)REACTOR_WRITE;
}
#endif

/* socket(7). SO_LINGER on, with a time of 0, has the last close drop what is queued and send
   RST. */
static void reactor__net_linger(reactor_socket fd, int on) {
    struct linger linger;
    memset(&linger, 0, sizeof linger);
    if (on) linger.l_onoff = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, (const char *)&linger, sizeof linger);
}

/* Whether close(2) of this socket may wait although it is non-blocking: SO_LINGER with a time. */
static int reactor__net_lingers(reactor_socket fd) {
    struct linger linger;
    socklen_t len = sizeof linger;
    memset(&linger, 0, sizeof linger);
    if (getsockopt(fd, SOL_SOCKET, SO_LINGER, (char *)&linger, &len) < 0) return 0;
    return linger.l_onoff && linger.l_linger;
}

/* Resets a TCP connection: on Linux and macOS at once, also while a forked child or a duplicate
   holds the socket. Elsewhere the last close of the socket resets it. shutdown would end it sooner,
   but with a FIN, and output that was cut off must not look complete. */
#if defined(__linux__)
/* connect(2): AF_UNSPEC dissolves the association, which for TCP is a reset. */
static void reactor__net_reset(reactor_socket fd) {
    struct sockaddr none;
    memset(&none, 0, sizeof none);
    none.sa_family = AF_UNSPEC;
    if (connect(fd, &none, sizeof none) < 0) reactor__net_linger(fd, 1);
}
#elif defined(SAE_ASSOCID_ANY)
static void reactor__net_reset(reactor_socket fd) {
    reactor__net_linger(fd, 1);
    (void)disconnectx(fd, SAE_ASSOCID_ANY, SAE_CONNID_ANY);
}
#else
static void reactor__net_reset(reactor_socket fd) { reactor__net_linger(fd, 1); }
#endif

/* How many bytes of TCP's output the peer has not acknowledged, of which FIN is one (tcp(7):
   SIOCOUTQ, of which TIOCOUTQ is another name). Where the system does not say, output counts as
   acknowledged as soon as the system has taken it. */
#ifdef __linux__
static uint32_t reactor__net_unacknowledged(reactor_socket fd) {
    int bytes = 0;
    return ioctl(fd, TIOCOUTQ, &bytes) < 0 || bytes < 0 ? 0 : (uint32_t)bytes;
}
#else
static uint32_t reactor__net_unacknowledged(reactor_socket fd) {
    (void)fd;
    return 0;
}
#endif

/* ---- listening ---- */

/* bind(2)'s errors are passed on as they are: -EADDRINUSE, -EADDRNOTAVAIL, -EACCES say what to
   do. */
REACTOR__NOINLINE static int reactor__net_bind(reactor_socket fd, const reactor__net_address *a) {
    return bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0 ? reactor__util_error() : 0;
}

/* listen(2): a backlog above /proc/sys/net/core/somaxconn is cut to it without an error. So the
   largest number stands for as much as the administrator allows. */
static int reactor__net_start(reactor_socket fd, const reactor_listen_options *o) {
    return listen(fd, o->backlog ? o->backlog : INT_MAX) < 0 ? reactor__util_error() : 0;
}

/* What is set between socket and bind. V6ONLY is set both ways, because its default is the
   administrator's choice (ipv6(7), bindv6only). */
static int reactor__net_prepare(reactor_socket fd, const reactor__net_address *a,
                                const reactor_listen_options *o) {
    int r = reactor__net_share(fd, o->reuse_port);
    if (r == 0 && a->any && !REACTOR__NET_DUAL) return -EAFNOSUPPORT;
    if (r == 0 && a->sa.ss_family == AF_INET6 && REACTOR__NET_DUAL)
        r = reactor__net_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !a->any);
    return r == 0 ? reactor__net_tune_tcp(fd, &o->conn) : r;
}

/* Makes a socket of IPv4 or IPv6 that listens. None of these calls waits. */
REACTOR__COLD static int reactor__net_listen_inet(const reactor__net_address *a,
                                                  const reactor_listen_options *o,
                                                  reactor__net_bound *out) {
    int64_t made = reactor__net_sys_socket(a->sa.ss_family, SOCK_STREAM);
    if (made < 0) return (int)made;
    reactor_socket fd = (reactor_socket)made;
    int r = reactor__net_prepare(fd, a, o);
    if (r == 0) r = reactor__net_bind(fd, a);
    if (r == 0) r = reactor__net_start(fd, o);
    if (r < 0)
        reactor__util_close(fd);
    else
        out->fd = fd;
    return r;
}

#ifdef _WIN32
/* Unix addresses are refused when they are parsed, so these have nothing to do. */
static const char *reactor__net_path(const reactor__net_address *a) {
    return (void)a, (const char *)NULL;
}

static void reactor__net_unlink(reactor__net_bound *b) { (void)b; }

REACTOR__COLD static int reactor__net_listen_unix(const reactor__net_address *a,
                                                  const reactor_listen_options *o,
                                                  reactor__net_bound *out) {
    return (void)a, (void)o, (void)out, -EAFNOSUPPORT;
}
#else
/* A unix address's path, or NULL for an abstract name, which vanishes with its socket and so needs
   nothing of what follows. */
static const char *reactor__net_path(const reactor__net_address *a) {
    const char *path = (const char *)&a->sa + offsetof(struct sockaddr_un, sun_path);
    return path[0] ? path : NULL;
}

/* 1 if a connect of this type is refused, so that no socket is bound to the path. After any other
   outcome, such as a full backlog (EAGAIN) or a lack of rights (EACCES), one may be. -EMFILE and
   the like: it is not known. */
static int reactor__net_refused(const reactor__net_address *a, int type) {
    int64_t made = reactor__net_sys_socket(AF_UNIX, type);
    if (made < 0) return (int)made;
    reactor_socket fd = (reactor_socket)made;
    int r;
    do r = connect(fd, (const struct sockaddr *)&a->sa, a->len);
    while (r < 0 && errno == EINTR);
    r = r < 0 && errno == ECONNREFUSED;
    reactor__util_close(fd);
    return r;
}

/* 1 if the path is a socket whose server has gone. It is tried with a datagram socket first: a
   living stream server fails that with EPROTOTYPE, even between its bind and its listen, when it
   refuses a stream socket as a dead one would, and no connection lands in its backlog. A stream
   socket is tried next, because gVisor refuses a datagram socket for any stream server
   (ECONNREFUSED). */
static int reactor__net_dead(const reactor__net_address *a) {
    struct stat st;
    int r;
    /* lstat: what a link leads to must not be removed. ENOENT: it has gone meanwhile, bind
       again. */
    if (lstat(reactor__net_path(a), &st) < 0) return errno == ENOENT ? 1 : -errno;
    if (!S_ISSOCK(st.st_mode)) return 0;
    r = reactor__net_refused(a, SOCK_DGRAM);
    return r > 0 ? reactor__net_refused(a, SOCK_STREAM) : r;
}

/* Binds, and replaces a path whose server has gone. If two servers replace the same path within the
   same microseconds both can succeed, and the later one has the path: no system call unlinks a path
   only if it still is the same file. */
REACTOR__COLD static int reactor__net_bind_path(reactor_socket fd, const reactor__net_address *a) {
    int dead, r = reactor__net_bind(fd, a);
    if (r != -EADDRINUSE || !reactor__net_path(a)) return r;
    dead = reactor__net_dead(a);
    if (dead <= 0) return dead < 0 ? dead : r;
    if (unlink(reactor__net_path(a)) < 0 && errno != ENOENT) return r;
    return reactor__net_bind(fd, a);
}

/* Remembers which file is ours, and gives it the rights that the umask took from it, before the
   socket listens, so that nobody can connect earlier. umask(2) is not used: it would change the
   mode of files that other threads create. */
REACTOR__COLD static int reactor__net_claim(reactor__net_bound *out, unsigned mode) {
    struct stat st;
    if (fstatat(out->folder, out->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        int r = -errno;
        unlinkat(out->folder, out->name, 0); /* made by the bind a moment ago */
        return r;
    }
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    out->pid = reactor__util_pid();
    if (!mode || (st.st_mode & 07777) == mode) return 0;
    return reactor__net_sys_chmod(out->folder, out->name, &st, (mode_t)mode);
}

/* Removes the path if it still is the file that this process has made, and frees what was kept of
   it. A forked child, and a server whose path was replaced, leave the file alone. The caller closes
   fd afterwards: while the socket holds its inode, no other file can have the same number. */
static void reactor__net_unlink(reactor__net_bound *b) {
    struct stat st;
    if (!b->name) return;
    if (b->pid == reactor__util_pid() &&
        fstatat(b->folder, b->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == b->dev &&
        st.st_ino == b->ino)
        unlinkat(b->folder, b->name, 0);
    if (b->folder != AT_FDCWD) reactor__util_close(b->folder);
    REACTOR_FREE(b->name);
    b->name = NULL;
}

/* The order matters: the mode is set before there is a file, where the system can do that, and what
   the umask took from it is given back before anyone can connect. */
REACTOR__COLD static int reactor__net_listen_bound(reactor_socket fd, const reactor__net_address *a,
                                                   const reactor_listen_options *o,
                                                   reactor__net_bound *out) {
    if (out->name && o->unix_mode) reactor__net_sys_born_with(fd, (mode_t)o->unix_mode);
    int r = reactor__net_bind_path(fd, a);
    if (r == 0 && out->name) r = reactor__net_claim(out, o->unix_mode);
    return r == 0 ? reactor__net_start(fd, o) : r;
}

/* Opens the folder of a path, its first len bytes, or the working directory if len is 0. *folder is
   AT_FDCWD if the folder may be searched and not opened: then the whole path is kept instead. */
static int reactor__net_open_folder(const char *path, size_t len, int *folder) {
    char text[sizeof(struct sockaddr_un)] = ".";
    if (len) memcpy(text, path, len);
    *folder = open(text, REACTOR__NET_FOLDER | O_DIRECTORY | O_CLOEXEC);
    if (*folder >= 0) return 0;
    *folder = AT_FDCWD;
    return errno == EACCES ? 0 : -errno;
}

/* Keeps folder and name of the path. This comes before bind: if memory or descriptors ran out after
   it, nobody would remove the path. */
static int reactor__net_keep_path(reactor__net_bound *out, const char *path) {
    const char *slash = strrchr(path, '/');
    const size_t head = slash ? (size_t)(slash - path) + 1 : 0;
    int r = reactor__net_open_folder(path, head, &out->folder);
    if (r < 0) return r;
    const char *name = out->folder == AT_FDCWD ? path : path + head;
    const size_t size = strlen(name) + 1;
    out->name = (char *)REACTOR_MALLOC(size);
    if (out->name)
        memcpy(out->name, name, size);
    else if (out->folder != AT_FDCWD)
        reactor__util_close(out->folder);
    return out->name ? 0 : -ENOMEM;
}

REACTOR__COLD static int reactor__net_listen_unix(const reactor__net_address *a,
                                                  const reactor_listen_options *o,
                                                  reactor__net_bound *out) {
    const char *path = reactor__net_path(a);
    int r = path ? reactor__net_keep_path(out, path) : 0;
    if (r < 0) return r;
    int64_t made = reactor__net_sys_socket(AF_UNIX, SOCK_STREAM);
    reactor_socket fd = (reactor_socket)made;
    r = made < 0 ? (int)made : reactor__net_listen_bound(fd, a, o, out);
    if (r < 0) {
        reactor__net_unlink(out); /* only frees while pid is 0: no file has been made yet */
        if (made >= 0) reactor__util_close(fd);
    } else {
        out->fd = fd;
    }
    return r;
}
#endif

/* Sets on a socket that was handed over what this section sets on those that it makes. The caller
   does this last, so that a call that fails has changed no flag of the program's socket. */
REACTOR__COLD static int reactor__net_own(reactor_socket fd, const reactor_conn_options *o) {
    int r = reactor__net_tune(fd, o);
    if (r == 0) r = reactor__util_cloexec(fd);
    return r == 0 ? reactor__util_nonblock(fd) : r;
}

REACTOR__COLD static int reactor__net_adopt(reactor_socket fd, const reactor_conn_options *o) {
    int r = reactor__net_stream(fd, 0);
    if (r == 0) r = reactor__net_connected(fd);
    return r == 0 ? reactor__net_own(fd, o) : r;
}

/* Makes a listening socket, or checks the one that came as "fd:N" (given). On success the caller
   owns out->fd and closes it; a given one only when nothing else can fail. -ENOTSUP: a host name,
   which may have several addresses, of which some are other machines'. */
REACTOR__COLD static int reactor__net_listen(const char *address, const reactor_listen_options *o,
                                             reactor__net_bound *out) {
    reactor__net_address a;
    int r;
    memset(out, 0, sizeof *out);
    out->fd = REACTOR__UTIL_NO_SOCKET;
    if (o->backlog < 0 || (o->unix_mode & ~07777u)) return -EINVAL;
    r = reactor__net_parse(address, strlen(address), 1, &a);
    if (r < 0) return r;
    if (a.fd != REACTOR__UTIL_NO_SOCKET) {
        r = reactor__net_stream(a.fd, 1);
        if (r == 0) out->fd = a.fd;
        out->given = 1;
        if (r == 0) out->lingers = reactor__net_lingers(a.fd);
        return r;
    }
    if (a.sa.ss_family == AF_UNIX) return reactor__net_listen_unix(&a, o, out);
    r = reactor__net_listen_inet(&a, o, out);
    /* This kernel has no IPv6, or it is switched off: IPv4 alone then. */
    if (a.any && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)) {
        reactor__net_fixed4(&a, INADDR_ANY, reactor__net_port(&a));
        r = reactor__net_listen_inet(&a, o, out);
    }
    return r;
}

/* What an accepted socket does not inherit from its listener. */
#ifdef _WIN32
/* Winsock does not document that TCP_NODELAY and the times of keep-alive are inherited. */
REACTOR__COLD static int reactor__net_inherit(reactor_socket fd, const reactor_conn_options *o) {
    return reactor__net_tune_tcp(fd, o);
}
#elif defined(__linux__)
REACTOR__COLD static int reactor__net_inherit(reactor_socket fd, const reactor_conn_options *o) {
    return (void)fd, (void)o, 0;
}
#else
/* On macOS keep-alive is inherited, but not its time. */
REACTOR__COLD static int reactor__net_inherit(reactor_socket fd, const reactor_conn_options *o) {
    return o->keep_alive_s > 0 ? reactor__net_keep_alive(fd, o->keep_alive_s) : 0;
}
#endif

/* Returns a new connection, non-blocking and close-on-exec, or -errno; -EINTR and -ECONNABORTED
   concern one attempt and not the listener. *from is the peer: if it has reset the connection while
   that was in the backlog, getpeername cannot name it any more. */
static int64_t reactor__net_accept(reactor_socket listener, const reactor_conn_options *o,
                                   reactor__net_address *from) {
    from->len = sizeof from->sa;
    int64_t fd = reactor__net_sys_accept(listener, (struct sockaddr *)&from->sa, &from->len);
    if (fd >= 0) (void)reactor__net_inherit((reactor_socket)fd, o);
    return fd;
}

/* ---- connecting ---- */

/* Binds to the address to connect from. With port 0 and IP_BIND_ADDRESS_NO_PORT (ip(7)) connect
   chooses the port, when the peer is known: a port need only be free for that peer. Chosen by bind
   it must be free for all, and some 28,000 connections use up net.ipv4.ip_local_port_range. A port
   that is given gets REUSEADDR, or it could not be used again for the minute of TIME_WAIT. */
static int reactor__net_bind_local(reactor_socket fd, const reactor__net_address *to,
                                   const char *local) {
    reactor__net_address a;
    int r = reactor__net_parse(local, strlen(local), 1, &a);
    if (r < 0) return r;
    if (a.fd != REACTOR__UTIL_NO_SOCKET) return -EINVAL;
    /* "*:5000" is any address of the family that the peer has. */
    if (a.any && to->sa.ss_family == AF_INET)
        reactor__net_fixed4(&a, INADDR_ANY, reactor__net_port(&a));
    if (a.sa.ss_family != to->sa.ss_family) return -EAFNOSUPPORT;
    if (a.sa.ss_family == AF_UNIX) /* a path would stay behind, and nobody remove it */
        return reactor__net_path(&a) ? -ENOTSUP : reactor__net_bind(fd, &a);
    if (reactor__net_port(&a)) {
        r = reactor__net_share(fd, 0);
    } else if (REACTOR__NET_NO_PORT != 0) {
        (void)reactor__net_set(fd, IPPROTO_IP, REACTOR__NET_NO_PORT, 1); /* Linux 4.2 */
    }
    return r == 0 ? reactor__net_bind(fd, &a) : r;
}

/* Begins to connect. 0: *fd is connected; 1: it is connecting, and when it is writable
   reactor__net_error has the outcome; -errno: *fd is none, nothing is left open, and an "fd:N"
   stays the program's. */
static int reactor__net_open(const reactor__net_address *a, const char *local,
                             const reactor_conn_options *o, reactor_socket *fd) {
    int r;
    *fd = REACTOR__UTIL_NO_SOCKET;
    if (a->fd != REACTOR__UTIL_NO_SOCKET) {
        r = local ? -EINVAL : reactor__net_adopt(a->fd, o);
        if (r == 0) *fd = a->fd;
        return r;
    }
    /* Options come before connect, because the user timeout also limits how long SYN is sent. */
    int64_t socket = reactor__net_sys_socket(a->sa.ss_family, SOCK_STREAM);
    if (socket < 0) return (int)socket;
    reactor_socket made = (reactor_socket)socket;
    r = a->sa.ss_family == AF_UNIX ? 0 : reactor__net_tune_tcp(made, o);
    if (r == 0 && local) r = reactor__net_bind_local(made, a, local);
    if (r == 0) r = reactor__net_sys_connect(made, (const struct sockaddr *)&a->sa, a->len);
    if (r < 0)
        reactor__util_close(made);
    else
        *fd = made;
    return r;
}

/* ---- moving bytes ---- */
#ifdef _WIN32
#define REACTOR__NET_SHUT_OUTPUT SD_SEND
#define REACTOR__NET_SHUT_BOTH   SD_BOTH
#else
#define REACTOR__NET_SHUT_OUTPUT SHUT_WR
#define REACTOR__NET_SHUT_BOTH   SHUT_RDWR
#endif

/* Ends the output: sends FIN. -ENOTCONN: the peer has gone. */
static int reactor__net_end(reactor_socket fd) {
    return shutdown(fd, REACTOR__NET_SHUT_OUTPUT) != 0 ? reactor__util_error() : 0;
}

/* Ends both directions, also for others who hold the socket. Its errors do not matter to a caller
   who closes the socket next. */
static void reactor__net_hang_up(reactor_socket fd) { (void)shutdown(fd, REACTOR__NET_SHUT_BOTH); }

#ifdef _WIN32
/* While a socket has any room at all Winsock takes a send of any size, into memory of the kernel
   that is never paged out, or fails if there is not enough. So a send is cut to 256 KiB, and to 64
   pieces, which is what a stream gathers. */
static ssize_t reactor__net_send(reactor_socket fd, unsigned how, const reactor__util_piece *v,
                                 int n, int more) {
    enum { MOST = 64 };
    WSABUF pieces[MOST];
    DWORD sent = 0, count = 0;
    size_t room = 256 * 1024;
    (void)how, (void)more;
    for (int i = 0; i < n && count < MOST && room; i++) {
        const size_t len = v[i].iov_len < room ? v[i].iov_len : room;
        pieces[count].buf = (char *)v[i].iov_base;
        pieces[count++].len = (ULONG)len;
        room -= len;
    }
    if (WSASend(fd, pieces, count, &sent, 0, NULL, NULL) == 0) return (ssize_t)sent;
    reactor__net_sys_unsent();
    return reactor__util_error();
}

/* See below for the two that streams use for every message. */
static inline ssize_t reactor__net_sys_send(reactor_socket fd, const reactor__util_piece *v,
                                            int flags) {
    int sent = send(fd, (const char *)v->iov_base, reactor__net_sys_size(v->iov_len), flags);
    if (sent < 0) reactor__net_sys_unsent();
    return sent;
}

static ssize_t reactor__net_recv(reactor_socket fd, void *buf, size_t size) {
    ssize_t got = recv(fd, (char *)buf, reactor__net_sys_size(size), 0);
    return got < 0 ? reactor__util_error() : got;
}

static int reactor__net_is_file(reactor_file file) {
    return file != NULL && file != INVALID_HANDLE_VALUE;
}

static int64_t reactor__net_file_left(reactor_file file, int64_t offset) {
    LARGE_INTEGER size;
    DWORD type = GetFileType(file);
    if (type == FILE_TYPE_PIPE || type == FILE_TYPE_CHAR) return -EINVAL;
    if (!GetFileSizeEx(file, &size)) return reactor__util_error();
    return size.QuadPart > offset ? size.QuadPart - offset : 0;
}

/* Reads a file at an offset; 0 at its end. If the program opened the file for overlapped use the
   read may be under way when ReadFile returns, and is waited for. It has an event of its own,
   because the program may wait for the file itself; the event's lowest bit keeps the result from a
   completion port that the program may have bound the file to. */
static ssize_t reactor__net_read_at(reactor_file file, int64_t offset, void *buf, size_t size) {
    OVERLAPPED at;
    DWORD got = 0;
    HANDLE event = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (!event) return reactor__util_error();
    memset(&at, 0, sizeof at);
    at.Offset = (DWORD)(uint64_t)offset;
    at.OffsetHigh = (DWORD)((uint64_t)offset >> 32);
    at.hEvent = (HANDLE)((uintptr_t)event | 1);
    BOOL done = ReadFile(file, buf, (DWORD)reactor__net_sys_size(size), &got, &at);
    if (!done && GetLastError() == ERROR_IO_PENDING)
        done = GetOverlappedResult(file, &at, &got, TRUE);
    int e = done ? 0 : GetLastError() == ERROR_HANDLE_EOF ? 0 : reactor__util_error();
    CloseHandle(event);
    return e < 0 ? e : (ssize_t)got;
}

/* Copies through scratch: TransmitFile does not say how much it has sent when it would block. What
   a short send has left is read again next time, from the system's cache. */
static ssize_t reactor__net_sendfile(reactor_socket fd, unsigned how, reactor_file file,
                                     int64_t offset, size_t len, void *scratch, size_t scratch_size,
                                     int *full) {
    reactor__util_piece v;
    if (len > scratch_size) len = scratch_size;
    ssize_t got = reactor__net_read_at(file, offset, scratch, len);
    *full = 0;
    if (got <= 0) return got;
    v.iov_base = scratch;
    v.iov_len = (size_t)got;
    ssize_t sent = reactor__net_send(fd, how, &v, 1, 0);
    *full = sent == -EAGAIN;
    return sent;
}
#else

/* What reactor__net_block found and reactor__net_unblock restores. */
typedef struct reactor__net_mask {
    sigset_t old;
    int pending; /* a SIGPIPE that another call raised was pending already */
    int none;    /* the program ignores SIGPIPE: nothing was blocked */
} reactor__net_mask;

/* Blocks SIGPIPE in this thread. One can be pending only if it was blocked before, or it would have
   been delivered; so sigpending is called only then. */
static void reactor__net_block(reactor__net_mask *m, unsigned how) {
    sigset_t set;
    m->none = (how & REACTOR__NET_IGNORED) != 0;
    if (m->none) return;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    m->pending = 0;
    pthread_sigmask(SIG_BLOCK, &set, &m->old);
    if (sigismember(&m->old, SIGPIPE) == 1 && sigpending(&set) == 0)
        m->pending = sigismember(&set, SIGPIPE) == 1;
}

/* Consumes the SIGPIPE that a result of -EPIPE has raised, and restores the mask. If one was
   pending before, both have become one, which belongs to the program and stays. A blocked signal is
   kept pending even if its disposition is to be ignored, so it is consumed in any case. */
static void reactor__net_unblock(const reactor__net_mask *m, ssize_t result) {
    sigset_t set;
    if (m->none) return;
    if (result == -EPIPE && !m->pending) {
        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        reactor__net_sys_take(&set);
    }
    pthread_sigmask(SIG_SETMASK, &m->old, NULL);
}

/* Writes to a pipe or terminal. writev has no MSG_NOSIGNAL (pwritev2's RWF_NOSIGNAL came with Linux
   6.18), so blocking the signal costs two more system calls. */
static ssize_t reactor__net_write(reactor_socket fd, unsigned how, const reactor__util_piece *v,
                                  int n) {
    reactor__net_mask mask;
    ssize_t sent;
    reactor__net_block(&mask, how);
    do sent = writev(fd, v, n);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) sent = -errno;
    reactor__net_unblock(&mask, sent);
    return sent;
}

/* Sends several pieces to a socket. n has 16 bits because msg_iovlen is a size_t in glibc and an
   int in musl, and both take those without a conversion that a compiler warns of. */
static ssize_t reactor__net_sendmsg(reactor_socket fd, const reactor__util_piece *v, uint16_t n,
                                    int flags) {
    struct msghdr m;
    ssize_t sent;
    memset(&m, 0, sizeof m);
    m.msg_iov = (reactor__util_piece *)v;
    m.msg_iovlen = n;
    do sent = sendmsg(fd, &m, flags);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* One send of one piece, and nothing else. After a failure the caller asks reactor__util_error. */
static inline ssize_t reactor__net_sys_send(reactor_socket fd, const reactor__util_piece *v,
                                            int flags) {
    return send(fd, v->iov_base, v->iov_len, flags);
}

/* Returns how many bytes of n >= 1 pieces the kernel has taken, or -errno. more: the caller sends
   the rest at once, so TCP may wait for a full segment. A single piece goes by send, which is
   cheaper than sendmsg. */
static ssize_t reactor__net_send(reactor_socket fd, unsigned how, const reactor__util_piece *v,
                                 int n, int more) {
    int flags = REACTOR__NET_NOSIGNAL | (more ? REACTOR__NET_MORE : 0);
    ssize_t sent;
    if (n > REACTOR__NET_IOV_MAX) n = REACTOR__NET_IOV_MAX;
    if (REACTOR__UNLIKELY(!(how & REACTOR__NET_IS_SOCKET)))
        return reactor__net_write(fd, how, v, n);
    if (n > 1) return reactor__net_sendmsg(fd, v, (uint16_t)n, flags);
    do sent = send(fd, v->iov_base, v->iov_len, flags);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* Returns how many bytes were read, 0 at the end of the stream, or -errno; after -EINTR the caller
   may try again. read(2), because recv(2) fails on a pipe, and glibc's takes more instructions. */
static inline ssize_t reactor__net_recv(reactor_socket fd, void *buf, size_t size) {
    ssize_t got = read(fd, buf, size);
    if (REACTOR__LIKELY(got > 0)) return got;
    return got < 0 ? -errno : 0;
}

/* Reads at most size bytes of a file from offset on: how many, 0 at its end, or -errno. */
static ssize_t reactor__net_read_at(reactor_file file, int64_t offset, void *buf, size_t size) {
    ssize_t got;
    do got = pread(file, buf, size, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/* Copies a piece of a file through buf. What a short send has left is read again next time, from
   the page cache. */
static ssize_t reactor__net_copyfile(reactor_socket fd, unsigned how, reactor_file file,
                                     off_t offset, void *buf, size_t size) {
    reactor__util_piece v;
    ssize_t got = reactor__net_read_at(file, offset, buf, size);
    if (got <= 0) return got;
    v.iov_base = buf;
    v.iov_len = (size_t)got;
    return reactor__net_send(fd, how, &v, 1, 0);
}

/* Sends as much of a file as the kernel takes, with SIGPIPE blocked once for all calls. A sendfile
   can be short for other reasons than a full socket, so after one poll is asked. Calling sendfile
   again until EAGAIN would send a few bytes each time that the peer has read some; waiting for
   POLLOUT sends them in pieces that are worth a system call. If poll says that the socket is full,
   an event will come when it is not, also on a backend with edges. */
static ssize_t reactor__net_pump(reactor_socket fd, unsigned how, reactor_file file, off_t at,
                                 size_t len, int *full) {
    reactor__net_mask mask;
    ssize_t sent;
    size_t total = 0;
    reactor__net_block(&mask, how);
    do {
        sent = reactor__net_sys_sendfile(fd, file, at + (off_t)total, len - total);
        if (sent > 0) total += (size_t)sent;
        if (sent > 0 && total < len) *full = reactor__net_is_full(fd);
    } while (sent == -EINTR || (sent > 0 && total < len && !*full));
    reactor__net_unblock(&mask, sent);
    if (sent == -EAGAIN) *full = 1;
    return total ? (ssize_t)total : sent;
}

static int reactor__net_is_file(reactor_file file) { return file >= 0; }

/* How many bytes a file has from offset on. Pipes, sockets and folders have no size. */
static int64_t reactor__net_file_left(reactor_file file, int64_t offset) {
    struct stat st;
    if (fstat(file, &st) < 0) return -errno;
    if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISDIR(st.st_mode)) return -EINVAL;
    return st.st_size > offset ? st.st_size - offset : 0;
}

/* Sends at most len (> 0) bytes of file from offset. Returns how many, 0 at its end, or -errno;
   *full is set if the kernel takes no more for now. sendfile(2) fails with EINVAL or ENOSYS for a
   pair of descriptors that it cannot do, and its manual page says to copy then: a file of /proc, or
   an output that was opened with O_APPEND. */
static ssize_t reactor__net_sendfile(reactor_socket fd, unsigned how, reactor_file file,
                                     int64_t offset, size_t len, void *scratch, size_t scratch_size,
                                     int *full) {
    off_t at = (off_t)offset;
    *full = 0;
    if (at != offset) return -EOVERFLOW; /* an off_t of 32 bits */
    ssize_t sent = reactor__net_pump(fd, how, file, at, len, full);
    if (sent != -EINVAL && sent != -ENOSYS && sent != -EOPNOTSUPP) return sent;
    if (scratch_size == 0) return sent;
    if (len > scratch_size) len = scratch_size;
    return reactor__net_copyfile(fd, how, file, at, scratch, len);
}
#endif
#endif /* REACTOR_NO_NET */
/* ==== >> resolve ==== */
/* Host names: the addresses that reactor_connect tries one by one, and reactor_resolve. Uses work,
   net and loop. A name is looked up by two queries, one for each family, and each is a job of the
   blocking lane that calls getaddrinfo(3). So a DNS server that does not answer for one family does
   not hold up the other (RFC 8305, section 3).

   A getaddrinfo that runs cannot be interrupted, and may take minutes. So a query is memory of its
   own, which belongs to its job until done is called. If nobody wants the answer any more the job
   is abandoned: its thread frees the query when getaddrinfo has returned, and neither
   reactor_destroy nor the end of the process waits for that. */
#ifndef REACTOR_NO_NET
#if defined(REACTOR_NO_WORK) && !defined(REACTOR_NO_RESOLVE)
#define REACTOR_NO_RESOLVE /* there are no threads that could wait for an answer */
#endif

/* Who is told that a query has been answered. */
typedef void reactor__resolve_answered_fn(reactor *r, void *user);
typedef struct reactor__resolve_asker {
    reactor__resolve_answered_fn *answered;
    void *user;
} reactor__resolve_asker;

typedef struct reactor__resolve_name reactor__resolve_name;

/* ---- names ----

        WAITING, 2 queries -> WAITING, 1 query -> ANSWERED     [resolve_done]
        WAITING, ANSWERED -> freed, its jobs abandoned         [resolve_name_free]

   Addresses are taken from a name as soon as one query is answered, by name_next. */
#ifndef REACTOR_NO_RESOLVE
#ifndef _WIN32
#include <netdb.h>
#endif

enum { REACTOR__RESOLVE_IPV6, REACTOR__RESOLVE_IPV4, REACTOR__RESOLVE_FAMILIES };

/* How long an answer with IPv4 addresses waits for IPv6's, if that comes later (RFC 8305, section
   8). A dual-stack host prefers IPv6 so, although the two answers may arrive in either order. */
#define REACTOR__RESOLVE_DELAY (50 * REACTOR__MS)

typedef struct reactor__resolve_query {
    reactor__resolve_name *name;
    uint64_t job;                /* its handle; 0: it has ended */
    int family;                  /* AF_INET6 or AF_INET */
    int error;                   /* 0, or -errno; the thread's until done is called, as is found */
    struct addrinfo *found;      /* the answer; freeaddrinfo(3) frees it */
    const struct addrinfo *next; /* the first that has not been taken */
    char port[8];
    char *host; /* behind this struct */
} reactor__resolve_query;

struct reactor__resolve_name {
    reactor__resolve_query *query[REACTOR__RESOLVE_FAMILIES];
    const reactor__resolve_asker *asker;
    int64_t patience; /* IPv4 waits for IPv6 until then, by the clock */
    int waiting;      /* queries without an answer */
    int turn;         /* the family that the next address is to be of */
};

/* What getaddrinfo said, as -errno. That there is no such name, and that it has no address of this
   family, mean the same to a client, and resolvers do not keep them apart reliably. EAI_AGAIN is no
   answer or SERVFAIL, EAI_FAIL an answer that cannot be used. */
#ifdef EAI_SYSTEM
static int reactor__resolve_code(int e, int error) {
    if (e == EAI_SYSTEM) return error ? -error : -EIO;
    return e == EAI_MEMORY ? -ENOMEM : e == EAI_AGAIN ? -EAGAIN : e == EAI_FAIL ? -EPROTO : -ENXIO;
}
#else
static int reactor__resolve_code(int e, int error) {
    (void)error;
    return e == EAI_MEMORY ? -ENOMEM : e == EAI_AGAIN ? -EAGAIN : e == EAI_FAIL ? -EPROTO : -ENXIO;
}
#endif

/* On a thread. Without AI_ADDRCONFIG, which finds no address at all where only the loopback is up;
   an address of a family that this machine does not have fails at once when it is tried. Winsock
   has to be up for this thread, too, for the loop may be destroyed meanwhile. */
static void reactor__resolve_work(void *user) {
    reactor__resolve_query *q = (reactor__resolve_query *)user;
    struct addrinfo hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = q->family;
    hints.ai_socktype = SOCK_STREAM; /* one entry for each address, not one for each protocol */
    hints.ai_flags = AI_NUMERICSERV;
    q->error = reactor__wake_begin();
    if (q->error < 0) return;
    int e = getaddrinfo(q->host, q->port, &hints, &q->found);
    if (e != 0) {
        q->error = reactor__resolve_code(e, errno);
        q->found = NULL;
    }
    reactor__wake_end();
}

/* Frees a query: on the loop's thread, or on that of a job that was abandoned. */
static void reactor__resolve_drop(void *user) {
    reactor__resolve_query *q = (reactor__resolve_query *)user;
    if (q->found) freeaddrinfo(q->found);
    REACTOR_FREE(q);
}

static void reactor__resolve_done(reactor *r, int status, void *user);

/* Starts a query's job. It may be asked for again, so what an earlier try has left is cleared. */
static int reactor__resolve_begin(reactor *r, reactor__resolve_query *q) {
    q->error = 0;
    q->found = NULL;
    return reactor__work_start(r, REACTOR__WORK_BLOCKING, reactor__resolve_work,
                               reactor__resolve_done, q, &q->job);
}

/* A query has an answer, or status is -ECANCELED: that is how work ends the jobs that were under
   way when the process forked, in a child that goes on with the loop. Their threads are the
   parent's, so the child asks anew. (A job that this section gives up is abandoned, and has no
   done.) */
static void reactor__resolve_done(reactor *r, int status, void *user) {
    reactor__resolve_query *q = (reactor__resolve_query *)user;
    reactor__resolve_name *name = q->name;
    r->core.counters.callbacks--; /* not the user's */
    q->job = 0;
    if (status < 0) {
        status = reactor__resolve_begin(r, q);
        if (status == 0) return;
        q->error = status;
    }
    q->next = q->found;
    name->waiting--;
    if (q->family == AF_INET)
        name->patience = reactor__util_add(reactor__util_clock(), REACTOR__RESOLVE_DELAY);
    name->asker->answered(r, name->asker->user);
}

/* Frees a name. A query whose job has not ended is left to it, and the thread frees it; but in a
   forked child that destroys its copy of the loop the pool is the parent's, and there is no
   thread. */
static void reactor__resolve_name_free(reactor *r, reactor__resolve_name *name) {
    if (!name) return;
    for (int i = 0; i < REACTOR__RESOLVE_FAMILIES; i++) {
        reactor__resolve_query *q = name->query[i];
        if (!q) continue;
        if (!q->job || r->core.child || reactor__work_abandon(r, q->job, reactor__resolve_drop) < 0)
            reactor__resolve_drop(q);
    }
    REACTOR_FREE(name);
}

/* One of a name's queries. Host and port become texts of its own, for the thread may outlive all
   else. */
static int reactor__resolve_query_new(reactor *r, reactor__resolve_name *name, int i,
                                      const char *host, const reactor__net_address *a) {
    const size_t len = (size_t)a->named;
    reactor__resolve_query *q = (reactor__resolve_query *)reactor__util_zeroed(sizeof *q + len + 1);
    if (!q) return -ENOMEM;
    q->name = name;
    q->family = i == REACTOR__RESOLVE_IPV6 ? AF_INET6 : AF_INET;
    q->host = (char *)(q + 1);
    memcpy(q->host, host, len);
    snprintf(q->port, sizeof q->port, "%u", (unsigned)reactor__net_port(a));
    int e = reactor__resolve_begin(r, q);
    if (e < 0) {
        REACTOR_FREE(q);
        return e;
    }
    name->query[i] = q;
    name->waiting++;
    return 0;
}

/* Begins to look up the name that net_parse has found in front of host. The asker, which has to
   stay where it is, is told after each answer, never before this has returned. */
static int reactor__resolve_name_new(reactor *r, const char *host, const reactor__net_address *a,
                                     const reactor__resolve_asker *asker,
                                     reactor__resolve_name **out) {
    reactor__resolve_name *name = REACTOR__NEW(reactor__resolve_name);
    int e = name ? 0 : -ENOMEM;
    for (int i = 0; e == 0 && i < REACTOR__RESOLVE_FAMILIES; i++)
        e = reactor__resolve_query_new(r, name, i, host, a);
    if (e < 0) {
        reactor__resolve_name_free(r, name);
        return e;
    }
    name->asker = asker;
    *out = name;
    return 0;
}

/* Takes the next address: 1. The families alternate, and IPv6 is first (RFC 8305, section 4);
   within a family getaddrinfo has sorted them. 0: none for now; an answer may bring more, and *when
   is lowered to the time at which IPv4 has waited long enough. -errno: no more, and why; -ENOTCONN
   if there were some. */
static int reactor__resolve_name_next(reactor__resolve_name *name, int64_t now,
                                      reactor__net_address *out, int64_t *when) {
    const reactor__resolve_query *six = name->query[REACTOR__RESOLVE_IPV6];
    const reactor__resolve_query *four = name->query[REACTOR__RESOLVE_IPV4];
    for (int k = 0; k < REACTOR__RESOLVE_FAMILIES; k++) {
        const int family = (name->turn + k) % REACTOR__RESOLVE_FAMILIES;
        reactor__resolve_query *q = name->query[family];
        if (!q->next) continue;
        if (q == four && six->job && now < name->patience) {
            if (name->patience < *when) *when = name->patience;
            return 0;
        }
        reactor__net_put(out, q->next->ai_addr, (size_t)q->next->ai_addrlen);
        q->next = q->next->ai_next;
        name->turn = 1 - family;
        return 1;
    }
    if (name->waiting) return 0;
    if (six->found || four->found) return -ENOTCONN;
    return four->error == -ENXIO ? six->error : four->error;
}
#else
/* Without threads every name is refused when it is begun, so the other two are never reached. */
static void reactor__resolve_name_free(reactor *r, reactor__resolve_name *name) {
    (void)r, (void)name;
}

static int reactor__resolve_name_new(reactor *r, const char *host, const reactor__net_address *a,
                                     const reactor__resolve_asker *asker,
                                     reactor__resolve_name **out) {
    return (void)r, (void)host, (void)a, (void)asker, (void)out, -ENOTSUP;
}

static int reactor__resolve_name_next(reactor__resolve_name *name, int64_t now,
                                      reactor__net_address *out, int64_t *when) {
    return (void)name, (void)now, (void)out, (void)when, -ENOTCONN;
}
#endif

/* ---- what reactor_connect is to try ----

   The addresses and names of its list, in their order. A name that has no answer when its turn
   comes is waited for as long as an address would be, attempt_delay_ms; then those behind it are
   tried, and its own come first again as soon as there are some. So a DNS server that does not
   answer keeps nobody from the rest of the list. */
typedef struct reactor__resolve_item {
    reactor__net_address a;      /* without a name */
    reactor__resolve_name *name; /* or NULL */
    int64_t until; /* those behind a name wait for it until then; 0: its turn has not come */
    int used;      /* nothing is left of it */
} reactor__resolve_item;

/* Connections call take and drop, which are list_next and list_free, through these pointers alone:
   so a linker that removes what nobody refers to (--gc-sections) removes this section from a
   program that has no reactor_connect. */
typedef struct reactor__resolve_list reactor__resolve_list;
struct reactor__resolve_list {
    int (*take)(reactor__resolve_list *list, int64_t now, int64_t delay, reactor__net_address *out,
                int *error, int64_t *when);
    void (*drop)(reactor *r, reactor__resolve_list *list);
    reactor__resolve_asker asker;
    int count;
    reactor__resolve_item *items; /* behind this struct */
};

/* Also gives up the look-ups that are under way. */
static void reactor__resolve_list_free(reactor *r, reactor__resolve_list *list) {
    for (int i = 0; i < list->count; i++) reactor__resolve_name_free(r, list->items[i].name);
    REACTOR_FREE(list);
}

/* Checks all items of a list before anything is begun, and counts them. -EINVAL: none. */
static int reactor__resolve_check(const char *text) {
    reactor__net_address a;
    const char *item;
    size_t len;
    int n = 0, e;
    while ((e = reactor__net_next(&text, &item, &len)) > 0) {
        e = reactor__net_parse(item, len, 0, &a);
        if (e < 0 && !a.named) return e;
        n++;
    }
    if (e < 0) return e;
    return n ? n : -EINVAL;
}

/* Takes the next address to try: 1. 0: none for now; after an answer, and at *when, there may be.
   -ENOTCONN: no more. A name without any address leaves its error in *error. */
static int reactor__resolve_list_next(reactor__resolve_list *list, int64_t now, int64_t delay,
                                      reactor__net_address *out, int *error, int64_t *when) {
    int waiting = 0;
    *when = REACTOR__NEVER;
    memset(out, 0, sizeof *out);
    out->fd = REACTOR__UTIL_NO_SOCKET;
    for (int i = 0; i < list->count; i++) {
        reactor__resolve_item *item = &list->items[i];
        if (item->used) continue;
        int e = item->name ? reactor__resolve_name_next(item->name, now, out, when) : 1;
        if (!item->name) *out = item->a;
        item->used = !item->name || e < 0;
        if (e > 0) return 1;
        if (e < 0 && e != -ENOTCONN) *error = e;
        if (e < 0) continue;
        waiting = 1;
        if (!item->until) item->until = reactor__util_add(now, delay);
        if (now >= item->until) continue;
        if (i + 1 < list->count && item->until < *when) *when = item->until;
        return 0;
    }
    return waiting ? 0 : -ENOTCONN;
}

/* Parses a list, and begins to look up all its names at once. The caller sets the asker. */
static int reactor__resolve_list_new(reactor *r, const char *text, reactor__resolve_list **out) {
    const char *item;
    size_t len;
    int count = reactor__resolve_check(text), e = 0;
    if (count < 0) return count;
    reactor__resolve_list *list = (reactor__resolve_list *)reactor__util_zeroed(
        sizeof *list + (size_t)count * sizeof *list->items);
    if (!list) return -ENOMEM;
    list->items = (reactor__resolve_item *)(void *)(list + 1);
    list->take = reactor__resolve_list_next;
    list->drop = reactor__resolve_list_free;
    while (e >= 0 && list->count < count && reactor__net_next(&text, &item, &len) > 0) {
        reactor__resolve_item *to = &list->items[list->count++];
        e = reactor__net_parse(item, len, 0, &to->a);
        if (to->a.named) e = reactor__resolve_name_new(r, item, &to->a, &list->asker, &to->name);
    }
    if (e < 0) {
        reactor__resolve_list_free(r, list);
        return e;
    }
    *out = list;
    return 0;
}

/* ---- reactor_resolve ---- */
#ifndef REACTOR_NO_RESOLVE

/* A look-up. Its handle is a slot of core, as a connection's. */
typedef struct reactor__resolve_lookup {
    struct reactor__resolve_lookup *next; /* among those that are ready */
    reactor__resolve_asker asker;
    uint64_t id;
    reactor_resolve_fn *fn; /* NULL: cancelled when it was ready */
    void *user;
    reactor__resolve_name *name;
    reactor__net_address a; /* without a name: the answer */
    int ready; /* in the module's list, which keeps its memory until turn has been there */
} reactor__resolve_lookup;

typedef struct reactor__resolve_module {
    reactor__loop_module module;           /* first: the loop knows only this */
    reactor__resolve_lookup *first, *last; /* those that are ready: called by turn */
} reactor__resolve_module;

/* Has the module's turn call it: what completes outside a turn, as an address does at once, must
   not call back before the program has returned to the loop. */
static void reactor__resolve_ready(reactor *r, reactor__resolve_lookup *l) {
    reactor__resolve_module *m = (reactor__resolve_module *)r->modules[REACTOR__LOOP_RESOLVE];
    l->ready = 1;
    if (m->first)
        m->last->next = l;
    else
        m->first = l;
    m->last = l;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_RESOLVE], 1);
    reactor__loop_touch(r);
}

/* Unlike a connect, which can begin with the first answer, it waits for both families. */
static void reactor__resolve_answered(reactor *r, void *user) {
    reactor__resolve_lookup *l = (reactor__resolve_lookup *)user;
    if (!l->name->waiting) reactor__resolve_ready(r, l);
}

/* How many addresses a name has. */
static size_t reactor__resolve_count(const reactor__resolve_name *name) {
    size_t n = 0;
    for (int i = 0; i < REACTOR__RESOLVE_FAMILIES; i++)
        for (const struct addrinfo *a = name->query[i]->found; a; a = a->ai_next) n++;
    return n;
}

/* What fn is given. Texts, for these are what all other calls take, and they need no header of the
   system. The addresses stand behind an array of pointers to them that ends with NULL; the caller
   frees that. *result is how many, or -errno. */
static char **reactor__resolve_texts(reactor__resolve_lookup *l, int *result) {
    int64_t when = 0;
    const size_t most = l->name ? reactor__resolve_count(l->name) : 1;
    char **texts =
        (char **)reactor__util_zeroed((most + 1) * sizeof *texts + most * REACTOR_ADDRESS_MAX);
    char *text = (char *)(texts + most + 1);
    size_t n = 0;
    int more = texts ? 1 : -ENOMEM;
    while (more > 0 && n < most) {
        if (l->name) more = reactor__resolve_name_next(l->name, REACTOR__NEVER, &l->a, &when);
        if (more > 0 && reactor__net_format((const struct sockaddr *)&l->a.sa, l->a.len, text,
                                            REACTOR_ADDRESS_MAX) > 0) {
            texts[n++] = text;
            text += REACTOR_ADDRESS_MAX;
        }
    }
    if (most == 0 && more > 0)
        more = reactor__resolve_name_next(l->name, REACTOR__NEVER, &l->a, &when);
    *result = n ? (int)n : more < 0 ? more : -ENXIO;
    return texts;
}

/* Ends a look-up, but for its memory: the handle is stale from here on, and nothing holds the
   loop. */
static void reactor__resolve_end(reactor *r, reactor__resolve_lookup *l) {
    reactor__core_release(&r->core, (uint32_t)l->id);
    r->core.active--;
    reactor__resolve_name_free(r, l->name);
    l->name = NULL;
}

/* Calls fn. It has been ended before, so that fn may begin the next one in its place, and finds the
   handle stale as after any other end. */
static void reactor__resolve_tell(reactor *r, reactor__resolve_lookup *l, int result,
                                  char **texts) {
    reactor_lookup handle;
    handle.id = l->id;
    reactor__resolve_end(r, l);
    reactor__loop_call_resolved(r, l->fn, handle, result,
                                result < 0 ? NULL : (const char *const *)texts, l->user);
    REACTOR_FREE(texts);
    REACTOR_FREE(l);
}

/* Takes the first one off the list of those that are ready. */
static reactor__resolve_lookup *reactor__resolve_pop(reactor__resolve_module *m) {
    reactor__resolve_lookup *l = m->first;
    if (l) m->first = l->next;
    return l;
}

/* Calls those that are ready. What these begin waits for the next turn at the earliest if the
   budget is used up; what a stop leaves stays in the list. One that was cancelled meanwhile is only
   freed. */
static void reactor__resolve_turn(reactor *r, reactor__loop_module *module) {
    reactor__resolve_module *m = (reactor__resolve_module *)module;
    if (r->child) return;
    for (int budget = r->options.post_budget;
         budget > 0 && m->first && !REACTOR__PEEK(&r->core.stop); budget--) {
        reactor__resolve_lookup *l = reactor__resolve_pop(m);
        int result = 0;
        if (l->fn) {
            char **texts = reactor__resolve_texts(l, &result);
            reactor__resolve_tell(r, l, result, texts);
        } else
            REACTOR_FREE(l);
    }
    REACTOR__STORE(&r->pending[REACTOR__LOOP_RESOLVE], m->first != NULL);
}

/* Tells all that are left that they are cancelled. The list of those that are ready is emptied
   first, so that a callback which cancels another one frees it at once. This comes before work's
   end, which would wait for the jobs that are abandoned here. */
static void reactor__resolve_fini(reactor *r, reactor__loop_module *module, int child) {
    reactor__resolve_module *m = (reactor__resolve_module *)module;
    reactor__resolve_lookup *l;
    while ((l = reactor__resolve_pop(m)) != NULL) {
        l->ready = 0;
        if (!l->fn) REACTOR_FREE(l);
    }
    for (uint32_t i = 0; i < r->core.count; i++) {
        const reactor__core_slot *slot = reactor__core_at(&r->core, i);
        if (slot->kind != REACTOR__CORE_LOOKUP) continue;
        l = (reactor__resolve_lookup *)slot->user;
        if (!child) {
            reactor__resolve_tell(r, l, -ECANCELED, NULL);
            continue;
        }
        reactor__resolve_end(r, l);
        REACTOR_FREE(l);
    }
    r->modules[REACTOR__LOOP_RESOLVE] = NULL;
    r->pending[REACTOR__LOOP_RESOLVE] = 0;
    REACTOR_FREE(m);
}

/* A line for each, with the name and how many of its two queries have no answer. */
static void reactor__resolve_dump(const reactor *r, const reactor__loop_module *module,
                                  reactor_line_fn *fn, void *user) {
    char line[320];
    (void)module;
    for (uint32_t i = 0; i < r->core.count; i++) {
        const reactor__core_slot *slot = reactor__core_at(&r->core, i);
        if (slot->kind != REACTOR__CORE_LOOKUP) continue;
        const reactor__resolve_lookup *l = (const reactor__resolve_lookup *)slot->user;
        snprintf(line, sizeof line, "lookup id=%llx name=%s waits=%d", (unsigned long long)l->id,
                 l->name ? l->name->query[0]->host : "-", l->name ? l->name->waiting : 0);
        fn(line, user);
    }
}

/* The jobs are work's: a child that destroys its copy of the loop has nothing to close here. */
static void reactor__resolve_fork_cleanup(reactor *r, reactor__loop_module *module) {
    (void)r, (void)module;
}

/* See resolve_done. */
static int reactor__resolve_forked(reactor *r, reactor__loop_module *module) {
    return (void)r, (void)module, 0;
}

/* Makes the module, with the first look-up: a loop that has none pays nothing for it. connect alone
   does not need it, for its names belong to its connection. */
static int reactor__resolve_start(reactor *r) {
    if (r->closing) return -ECANCELED;
    if (r->modules[REACTOR__LOOP_RESOLVE]) return 0;
    reactor__resolve_module *m = REACTOR__NEW(reactor__resolve_module);
    if (!m) return -ENOMEM;
    m->module.turn = reactor__resolve_turn;
    m->module.fini = reactor__resolve_fini;
    m->module.dump = reactor__resolve_dump;
    m->module.fork_cleanup = reactor__resolve_fork_cleanup;
    m->module.forked = reactor__resolve_forked;
    r->modules[REACTOR__LOOP_RESOLVE] = &m->module;
    return 0;
}

/* Gives it a handle, and begins. What is an address already is ready at once. The handle comes
   first, because a job that has been started cannot fail any more. */
static int reactor__resolve_lookup_begin(reactor *r, reactor__resolve_lookup *l,
                                         const char *address) {
    int64_t index = reactor__core_reserve(&r->core, REACTOR__CORE_LOOKUP, NULL, l);
    if (index < 0) return (int)index;
    int e = l->a.named ? reactor__resolve_name_new(r, address, &l->a, &l->asker, &l->name) : 0;
    if (e < 0) {
        reactor__core_release(&r->core, (uint32_t)index);
        return e;
    }
    l->id = reactor__core_id(&r->core, (uint32_t)index);
    r->core.active++;
    if (!l->name) reactor__resolve_ready(r, l);
    return 0;
}

/* The text is parsed as for listening, because a look-up is not for connecting alone: its port may
   be 0, and "*" is every address. */
REACTOR_API int reactor_resolve(reactor *r, const char *address, reactor_resolve_fn *fn, void *user,
                                reactor_lookup *out) {
    if (out) out->id = 0;
    if (!r || !address || !fn) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    reactor__resolve_lookup *l = REACTOR__NEW(reactor__resolve_lookup);
    if (!l) return -ENOMEM;
    int e = reactor__net_parse(address, strlen(address), 1, &l->a);
    if (e == -ENOTSUP && l->a.named) e = 0;
    if (e == 0 && l->a.fd != REACTOR__UTIL_NO_SOCKET) e = -EINVAL;
    if (e == 0) e = reactor__resolve_start(r);
    l->asker.answered = reactor__resolve_answered;
    l->asker.user = l;
    l->fn = fn;
    l->user = user;
    if (e == 0) e = reactor__resolve_lookup_begin(r, l, address);
    if (e < 0)
        REACTOR_FREE(l);
    else if (out)
        out->id = l->id;
    return e;
}

/* A look-up that is ready stays in the module's list, without fn, and turn frees it there: the list
   has one direction, and nobody waits for that memory. */
REACTOR_API int reactor_resolve_cancel(reactor *r, reactor_lookup handle) {
    if (!r) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    reactor__core_slot *slot = reactor__core_resolve(&r->core, handle.id, REACTOR__CORE_LOOKUP);
    if (!slot) return -EBADF;
    reactor__resolve_lookup *l = (reactor__resolve_lookup *)slot->user;
    reactor__resolve_end(r, l);
    l->fn = NULL;
    if (!l->ready) REACTOR_FREE(l);
    return 0;
}
#endif
#endif /* REACTOR_NO_NET */
/* ==== >> stream ==== */
/* Connections and listeners: bytes in order, queues with marks, timeouts, an orderly end.

   No call acts at once. It sets flags and schedules the connection, and at the end of the
   connection's own callback, or of the turn, reactor__stream_update looks at the flags and does
   what is due, in one order. So no callback runs inside a call, and what several calls ask for
   is done together. A connection's callbacks run between callback_begin and callback_end: what
   they write to their own connection is corked, and leaves with one system call. Bytes come in
   at one place and leave at one, where a filter would sit: see "the way of the bytes". */
#ifndef REACTOR_NO_NET

/* Where the backend has edges a connection is registered once, for everything. It remembers what
   was reported (READABLE, BLOCKED), and reads or writes when it may. Where there are only levels
   its interest follows the same two facts.

   Traps. A short read of TCP means that there is no more for now, which saves the read that
   would say EAGAIN; but not if urgent data or the peer's FIN was reported, at both of which a
   read stops early, and not for other kinds of descriptor, which may be short in the middle:
   these are read until EAGAIN. A read of 0 is the peer's FIN only if the kernel has no error
   left to tell (input_ended). Closing a TCP socket with input unread resets it, and the peer may
   lose output that it has not read yet: so a close sends FIN and waits for the peer's (linger). */

/* ---- a connection's life ----

        DIALING    made by reactor_connect. u.dial has the addresses that are left, and the attempts
                   under way; fd is that of the attempt that has the connection's own slot, or none
        attaching  made by reactor_attach, neither DIALING nor OPEN: it is registered, and opens at
                   the turn's end
        OPEN       connected or accepted; on_open was called. Each direction may end by itself:
                       input   ENDED: the FIN was read; EOF_DELIVERED: on_eof was called
                       output  SHUT: shutdown was asked for; FIN: it was sent, behind the queue
        CLOSING    closed by the user: no more callbacks. When the queue is out FIN is sent, and LINGER
                   set: input is discarded until the peer ends, too, or has all output and is silent
        BROKEN     the kernel refuses output. Input that is left is still delivered
        FAILED     finished by the next update, whatever is left
        DEAD       on_close is being called or was. The slot is freed then, and the memory when the
                   connection leaves the schedule

   CLOSING, BROKEN and FAILED come on top of one of the first three. The edges, and who makes
   them:

        none      -> OPEN        accept_connection     none     -> DIALING   reactor_connect
        none      -> attaching   reactor_attach        DIALING  -> OPEN      connected
        attaching -> OPEN        opened                DIALING  -> FAILED    dial_go, drain_all
        any       -> CLOSING     start_close           OPEN     -> BROKEN    break
        any       -> FAILED      fail                  CLOSING  -> LINGER    start_linger
        BROKEN, CLOSING, FAILED, and OPEN with FIN and EOF_DELIVERED -> DEAD   finish, by update_end

   reactor__stream_check has what always holds of these, and is called at every step of the
   tests.

   The connection owns fd (once attach has succeeded), its queue, u.dial or u.input, one timer
   and a reference to its policy. Its slot in core has it as user, and is named by its handle,
   id. The flags that are not of the list above tell what its update has to do, or may not. */

enum {
    /* states, see above */
    REACTOR__STREAM_OPEN = 1 << 0,
    REACTOR__STREAM_DIALING = 1 << 1, /* u is u.dial, else u.input */
    REACTOR__STREAM_CLOSING = 1 << 2,
    REACTOR__STREAM_BROKEN = 1 << 3, /* with the reason for on_close, as FAILED */
    REACTOR__STREAM_FAILED = 1 << 4,
    REACTOR__STREAM_DEAD = 1 << 5,
    /* its two directions */
    REACTOR__STREAM_ENDED = 1 << 6,
    REACTOR__STREAM_EOF_DELIVERED = 1 << 7,
    REACTOR__STREAM_SHUT = 1 << 8,
    REACTOR__STREAM_FIN = 1 << 9,
    REACTOR__STREAM_LINGER = 1 << 10,
    /* what the kernel is known to have */
    REACTOR__STREAM_READABLE = 1 << 11,      /* perhaps input */
    REACTOR__STREAM_MAY_HAVE_MORE = 1 << 12, /* FIN or urgent data, so that a read may be short */
    REACTOR__STREAM_BLOCKED = 1 << 13,       /* no room for output, until an event says so */
    /* input */
    REACTOR__STREAM_PAUSED = 1 << 14,  /* the user lets none in */
    REACTOR__STREAM_COUPLED = 1 << 15, /* none is let in while output is above high water */
    REACTOR__STREAM_THROTTLED =
        1 << 16,                    /* COUPLED: output was above, and is not at low water yet */
    REACTOR__STREAM_KEPT = 1 << 17, /* some was not consumed: u.input is not NULL */
    REACTOR__STREAM_REDELIVER = 1 << 18, /* KEPT: it is to be offered again without more of it */
    /* output */
    REACTOR__STREAM_LOADED = 1 << 19,           /* some is queued: tail is not NULL */
    REACTOR__STREAM_WRITABLE_PENDING = 1 << 20, /* on_writable is due when it has drained to mark */
    /* what it is */
    REACTOR__STREAM_PIPE = 1 << 21,           /* not a socket */
    REACTOR__STREAM_NOT_TCP = 1 << 22,        /* another kind of socket: it has no reset */
    REACTOR__STREAM_READ_TO_EAGAIN = 1 << 23, /* perhaps not TCP: a short read says nothing */
    REACTOR__STREAM_SPECIAL = 1 << 24,        /* its handler or options rule out the fast path */
    /* where it is */
    REACTOR__STREAM_SCHEDULED = 1 << 25, /* in the schedule, or in the next turn's */
    REACTOR__STREAM_BATCHED = 1 << 26,   /* in a batch, and has not been shown its input yet */
    REACTOR__STREAM_DRAIN = 1 << 27      /* reactor_drain: closes when it is idle, and quiet */
};

/* Flags of which the fast path need not know: the member rare has them. */
enum {
    REACTOR__STREAM_RARE_NEW_HANDLER = 1 << 0, /* set_handler: the new one has not been offered what
                                                   is KEPT yet */
    REACTOR__STREAM_RARE_LAST_LOOK = 1 << 1,   /* ENDED: what is KEPT was offered since */
    REACTOR__STREAM_RARE_NOTIFY = 1 << 2,      /* mark was set by reactor_notify_output */
    REACTOR__STREAM_RARE_ASKED = 1 << 3,       /* DRAIN: on_drain has answered 0 */
    REACTOR__STREAM_RARE_RESET = 1 << 4,       /* FAILED: the peer is to see a reset */
    REACTOR__STREAM_RARE_ACKNOWLEDGED = 1 << 5, /* LINGER: the peer has all output, and the FIN */
    REACTOR__STREAM_RARE_QUIET = 1 << 6,        /* CLOSING: nothing seems to be on its way */
    REACTOR__STREAM_RARE_WAITS = 1 << 7,        /* close(2) would block, by SO_LINGER */
    REACTOR__STREAM_RARE_DUPLEX = 1 << 8,       /* PIPE: both ways, so that neither ends alone */
    REACTOR__STREAM_RARE_WRITE_ONLY = 1 << 9,   /* PIPE: its write end */
    REACTOR__STREAM_RARE_BLOCKING = 1 << 10,    /* PIPE: attach has switched O_NONBLOCK on */
    REACTOR__STREAM_RARE_REOPENED = 1 << 11,    /* PIPE: a terminal, with an open file of its own */
    REACTOR__STREAM_RARE_MUTED = 1 << 12,       /* not listened to until its timer goes off */
    REACTOR__STREAM_RARE_MOVING = 1 << 13       /* reactor_move: policy->move */
};

/* How a connection fails, see reactor__stream_fail. */
enum { REACTOR__STREAM_PLAINLY, REACTOR__STREAM_WITH_RESET };

/* With none but these, and OPEN, a connection has nothing to update, and takes the fast path
   through an event. */
#define REACTOR__STREAM_FAST_OK                                                                    \
    ((unsigned)(REACTOR__STREAM_COUPLED | REACTOR__STREAM_READABLE | REACTOR__STREAM_SCHEDULED))
#define REACTOR__STREAM_NEEDS_UPDATE (~(REACTOR__STREAM_FAST_OK | (unsigned)REACTOR__STREAM_OPEN))

/* The streams' timers: no callbacks of the user, and they do not keep the loop going. */
#define REACTOR__STREAM_TIMER ((unsigned)REACTOR__TIMER_UNREF | (unsigned)REACTOR__TIMER_INTERNAL)

/* After one of these nothing may be asked of it any more. */
#define REACTOR__STREAM_GONE                                                                       \
    (REACTOR__STREAM_CLOSING | REACTOR__STREAM_FAILED | REACTOR__STREAM_DEAD)

#define REACTOR__STREAM_EDGES                                                                      \
    (REACTOR__CORE_BOTH | (unsigned)REACTOR_EDGE | REACTOR__CORE_RDHUP | REACTOR__CORE_PRI)

enum {
    REACTOR__STREAM_SMALL = 1024,      /* a queue's first piece of memory, header included */
    REACTOR__STREAM_CHUNK = 16 * 1024, /* those that follow */
    REACTOR__STREAM_SPARES = 64,       /* of either, kept for the next queue */
    REACTOR__STREAM_LEAST = 64,        /* bytes that a piece between other kinds has room for */
    REACTOR__STREAM_TINY = 256,        /* cheaper copied than referred to, where a queue holds: */
    REACTOR__STREAM_BACKLOG = 4096,
    REACTOR__STREAM_ECHO = 16 * 1024, /* the longest answer that takes the fast path */
    REACTOR__STREAM_REDELIVERIES =
        64,                         /* times that left input is offered per connection and turn */
    REACTOR__STREAM_GATHER = 64,    /* pieces sent with one call */
    REACTOR__STREAM_PRINTED = 4096, /* bytes of one reactor_printf: what a stack surely has */
    REACTOR__STREAM_STAGING = 64 * 1024, /* room for copies of what a callback writes */
    REACTOR__STREAM_FILES_LOW = 16,      /* the marks and the cap for queued files, whose bytes */
    REACTOR__STREAM_FILES_HIGH = 64,     /* do not count but whose number is a peer's to choose */
    REACTOR__STREAM_FILES_MAX = 1024,
    REACTOR__STREAM_JOIN = 256 * 1024, /* files up to here share a packet with what is before */
    REACTOR__STREAM_WRITES = 1 << 21,  /* bytes sent per connection and turn */
    REACTOR__STREAM_BATCH = 256,       /* connections read with one call, into so much: */
    REACTOR__STREAM_ARENA = 128 * 1024,
    REACTOR__STREAM_LARGE = 8192,    /* with messages above this a call for each is as good */
    REACTOR__STREAM_RETRY_MS = 100,  /* a listener without descriptors tries again */
    REACTOR__STREAM_GRACE_MS = 250,  /* a connection that a drain ends has been quiet so long */
    REACTOR__STREAM_WAITING = 65536, /* peers that a drained listener accepts at most */
    REACTOR__STREAM_MOST_VAIN =
        64, /* reports in a row of which nothing came before it waits, too */
    REACTOR__STREAM_SILENCE_MS = 2000, /* of a peer that has got everything: it is not waited for */
    REACTOR__STREAM_LOOK_MS = 250,     /* between two looks at whether it has */
    REACTOR__STREAM_MUTE_MS = 10       /* for so long one whose error is none is not listened to */
};

struct reactor_buffer {
    const void *data;
    size_t len;
    reactor_free_fn *free_fn;
    void *user;
    int refs; /* atomic */
};

/* The options of a listener's connections, shared by them; set_timeout makes a copy of its own. */
typedef struct reactor__stream_policy {
    reactor_conn_options o;
    uint64_t listener;                 /* its handle, 0: none */
    struct reactor__stream_move *move; /* of the only one that refers to it; or NULL */
    uint32_t refs;
    char name[32];
} reactor__stream_policy;

/* What a piece of output is: bytes copied behind its header; the user's, until free_fn; a buffer's,
   of which it holds a reference; of a file. */
enum { REACTOR__STREAM_DATA, REACTOR__STREAM_OWNED, REACTOR__STREAM_SHARED, REACTOR__STREAM_FILE };

/* A piece of output. */
typedef struct reactor__stream_node {
    struct reactor__stream_node *next; /* the last one's is the first */
    const char *data;                  /* not sent yet */
    size_t len;                        /* of that; of a FILE what is left of it */
    size_t size;                       /* DATA: bytes behind this header; else what it refers to */
    const void *origin;                /* OWNED: as handed over */
    void *user;
    union {
        reactor_free_fn *free_fn;
        reactor_buffer *buffer;
        reactor_done_fn *done;
    } u;
    int64_t offset; /* FILE: of what is left */
    reactor_file file;
    unsigned flags; /* FILE: REACTOR_CLOSE_FILE */
    int kind;
} reactor__stream_node;

/* Input that was not consumed; its bytes are behind it. */
typedef struct reactor__stream_input {
    size_t start, len, cap; /* bytes: consumed at the front, unconsumed, room in all */
} reactor__stream_input;

/* One address that is being tried. */
typedef struct reactor__stream_attempt {
    struct reactor__stream_attempt *next; /* of those under way */
    struct reactor__stream_conn *conn;    /* NULL: not in use */
    uint64_t id;                          /* its slot: the connection's, or one of its own */
    reactor_socket fd;       /* none: it waits for the server's backlog, until retry_at */
    int64_t retry_at, pause; /* by the clock; how long it waits, nanoseconds */
    int lent;                /* fd:N, which stays the caller's unless it wins */
    reactor__net_address to; /* the address; of length 0 if that is fd:N */
} reactor__stream_attempt;

/* A connect under way; the text of local is behind it. */
typedef struct reactor__stream_dial {
    reactor__resolve_list *list; /* addresses to try, names to look up */
    const char *local;           /* or NULL */
    int more;                    /* the list may have another address, now or later */
    int error;                   /* of the last one that failed */
    int64_t more_at;        /* the time at which to ask the list; NEVER: when a name is answered */
    int64_t deadline;       /* of the whole list, by the clock */
    int64_t next_at, delay; /* when the next attempt begins; how long after the last, nanoseconds */
    reactor__stream_attempt *under_way, *winner;
    reactor__stream_attempt own; /* the one that has the connection's slot: needs no memory */
} reactor__stream_dial;

/* Every byte here is paid for by each idle connection. state follows, aligned. */
typedef struct reactor__stream_conn {
    const reactor_handler *h; /* this and the next four are what every message touches */
    uint64_t id;              /* its handle */
    int64_t last_in;          /* as last_out */
    reactor_socket fd;        /* none: not dialed yet, detached, or finished */
    unsigned flags;
    reactor__stream_policy *policy;
    struct reactor__stream_conn *scheduled_next; /* while SCHEDULED */
    reactor__stream_node *tail;                  /* the queue is a ring: tail->next is its head */
    size_t queued, held;                         /* bytes of it in memory; what they take there */
    union {
        reactor__stream_input *input;
        reactor__stream_dial *dial;
    } u;
    uint64_t timer;           /* of all its timeouts; 0: none */
    int64_t last_out, opened; /* what these count from: nanoseconds, see loop_latest */
    uint32_t room;            /* bytes of state */
    unsigned rare;            /* REACTOR__STREAM_RARE_x: flags that only the slow path looks at */
    int16_t reason;           /* for on_close */
    uint16_t files;           /* queued */
    uint32_t mark; /* WRITABLE_PENDING: bytes to which queued has to drain; at most 4 GiB */
    uint32_t unacknowledged; /* LINGER: bytes at the latest look; 0: there was none */
    reactor__net_kept peer;  /* UNKNOWN: asked for when somebody wants it */
} reactor__stream_conn;

#define REACTOR__STREAM_HEAD ((sizeof(reactor__stream_conn) + 15) / 16 * 16)

/* Its size is kept in 32 bits, and with the head in front it must not overflow a size_t of as
   many. */
#define REACTOR__STREAM_STATE_MAX (UINT32_MAX - REACTOR__STREAM_HEAD)

/* Why a listener does not accept. */
enum {
    REACTOR__STREAM_BY_USER = 1,
    REACTOR__STREAM_FULL = 2,    /* max_connections */
    REACTOR__STREAM_STARVED = 4, /* of descriptors or memory: tries again */
    REACTOR__STREAM_VAIN = 8     /* reported, and there is nobody to accept: tries again */
};

typedef struct reactor__stream_listener {
    struct reactor__stream_listener *next, **at; /* at: what points at this one */
    const reactor_handler *h;
    reactor_accept_fn *fn; /* reactor_accept: gets the sockets; NULL: they are served by h */
    void *user;            /* fn's */
    reactor__stream_policy *policy; /* one reference; each of its connections has another */
    reactor__net_bound bound;
    uint64_t id;        /* its handle */
    uint64_t timer;     /* asleep unless it is STARVED: made in time, for then there is no memory */
    int count, max;     /* connections open; how many may be, 0: any number */
    int left;           /* how many a drain accepts before it closes the listener */
    int shared;         /* reuse_port: others may have listeners of their own for the port */
    int warded;         /* draining: new peers are turned to those */
    int64_t open_until; /* warded: for handshakes under way; 0: it may close */
    int vain;           /* reports in a row that came to nothing */
    unsigned stopped;   /* BY_USER, FULL, STARVED, VAIN; accepts while it is 0 */
    unsigned flags;     /* of its connections */
} reactor__stream_listener;

/* What was read with one call, then what is sent with one: see below. */
typedef struct reactor__stream_batch {
    reactor__core_transfer *end;       /* NULL: there is none */
    uint64_t answered;                 /* bytes of the answers so far */
    uint64_t in, out, events;          /* the counters when pays last looked at them */
    uint32_t usual;                    /* bytes for each event lately */
    uint32_t size;                     /* received at most for each */
    reactor__core_report *next, *kept; /* to go on with; the end of what is left for dispatch */
    reactor__core_transfer moves[REACTOR__STREAM_BATCH];
    char arena[REACTOR__STREAM_ARENA];
} reactor__stream_batch;

typedef struct reactor__stream_module {
    reactor__loop_module module;
    int *pending;                 /* the loop's word for this module */
    reactor__stream_batch *batch; /* NULL: none was worth it so far */
    char *staging;                /* copies of what is corked; scratch for files when nothing is */
    size_t staged;                /* bytes of that */
    unsigned edges;               /* the backend has them */
    reactor__stream_conn *scheduled_head,
        *scheduled_tail;         /* updated at the turn's end, in this order */
    reactor__stream_conn *again; /* to be scheduled in the next turn */
    reactor__stream_listener *listeners;
    reactor__stream_node *spares[3]; /* small, large, without bytes; see stream_class */
    int spare_count[3];
    int starved_count;    /* listeners that are STARVED */
    int64_t drained;      /* draining: since then, by the clock */
    int64_t grace;        /* for so long a connection is to have been quiet */
    uint64_t drain_timer; /* 0: no deadline */
} reactor__stream_module;

/* NULL as long as the program has not used a stream. */
static reactor__stream_module *reactor__stream_module_of(const reactor *r) {
    return (reactor__stream_module *)r->modules[REACTOR__LOOP_STREAM];
}

/* The handler's state, which follows the connection in its memory. */
static void *reactor__stream_state(reactor__stream_conn *c) {
    return (char *)c + REACTOR__STREAM_HEAD;
}

static reactor_conn reactor__stream_handle(const reactor__stream_conn *c) {
    reactor_conn handle;
    handle.id = c->id;
    return handle;
}

/* The connections, in the order of their slots: the next one from *at on, which moves behind it;
   NULL at the end. Slots may be freed and taken meanwhile. */
static reactor__stream_conn *reactor__stream_each(const reactor *r, uint32_t *at) {
    while (*at < r->core.count) {
        const reactor__core_slot *slot = reactor__core_at(&r->core, (*at)++);
        if (slot->kind == REACTOR__CORE_CONN) return (reactor__stream_conn *)slot->user;
    }
    return NULL;
}

/* Made by reactor_attach, and not opened yet. */
static int reactor__stream_is_attaching(const reactor__stream_conn *c) {
    return !(c->flags & (REACTOR__STREAM_OPEN | REACTOR__STREAM_DIALING));
}

/* ---- policies ----

   A connection's options. All that a listener accepts share one, for a copy each would be larger
   than the connection. It names the listener by handle, for that may be closed before its
   connections. */

/* Puts the defaults in. -EINVAL for marks and times that make no sense. */
static int reactor__stream_defaults(reactor_conn_options *o, int coupled) {
    size_t high = 64 * 1024, hard = 4 * 1024 * 1024;
    if (o->idle_timeout_ms < 0 || o->read_timeout_ms < 0 || o->write_timeout_ms < 0 ||
        o->deadline_ms < 0 || o->close_timeout_ms < 0 || o->keep_alive_s < 0 ||
        o->user_timeout_ms < 0 || o->coupled < -1 || o->coupled > 1)
        return -EINVAL;
    if (!o->max_output) o->max_output = o->high_water > hard ? o->high_water : hard;
    if (!o->high_water) o->high_water = high < o->max_output ? high : o->max_output;
    if (!o->low_water) o->low_water = o->high_water / 4;
    if (!o->max_input) o->max_input = 1024 * 1024;
    if (!o->close_timeout_ms) o->close_timeout_ms = 10000;
    if (!o->coupled) o->coupled = coupled;
    if (o->low_water > o->high_water || o->high_water > o->max_output) return -EINVAL;
    return 0;
}

/* Makes a policy of the user's options, with one reference. coupled is the default of that
   option. */
static int reactor__stream_policy_new(const reactor_conn_options *given, int coupled,
                                      reactor__stream_policy **out) {
    reactor__stream_policy *p = REACTOR__NEW(reactor__stream_policy);
    if (!p) return -ENOMEM;
    if (given) p->o = *given;
    int e = reactor__stream_defaults(&p->o, coupled);
    if (e < 0) {
        REACTOR_FREE(p);
        return e;
    }
    if (p->o.name) snprintf(p->name, sizeof p->name, "%s", p->o.name);
    p->refs = 1;
    *out = p;
    return 0;
}

/* Gives up one reference; the last one frees the policy. */
REACTOR__NOINLINE static void reactor__stream_policy_drop(reactor__stream_policy *p) {
    if (--p->refs > 0) return;
    REACTOR_FREE(p->move);
    REACTOR_FREE(p);
}

/* ---- the schedule ----

   Calls never act at once: they set flags and schedule the connection, which is updated at the
   end of the turn. While it is SCHEDULED its memory stays, because the list points at it: see
   finish. */

/* Has it stepped at the turn's end in any case: see reactor__stream_step. */
static void reactor__stream_step_later(reactor *r, reactor__stream_conn *c) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    if (c->flags & REACTOR__STREAM_SCHEDULED) return;
    c->flags |= REACTOR__STREAM_SCHEDULED;
    c->scheduled_next = NULL;
    if (p->scheduled_head)
        p->scheduled_tail->scheduled_next = c;
    else
        p->scheduled_head = c;
    p->scheduled_tail = c;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_STREAM], 1);
    reactor__loop_touch(r);
}

/* Not in its own callback, after which it is updated anyway. */
REACTOR__NOINLINE static void reactor__stream_schedule(reactor *r, reactor__stream_conn *c) {
    if (r->io.current != c) reactor__stream_step_later(r, c);
}

/* The same in the next turn, for one that has used up its budget in this. */
static void reactor__stream_again(reactor__stream_module *p, reactor__stream_conn *c) {
    if (c->flags & REACTOR__STREAM_SCHEDULED) return;
    c->flags |= REACTOR__STREAM_SCHEDULED;
    c->scheduled_next = p->again;
    p->again = c;
    REACTOR__STORE(p->pending, 1);
}

/* ---- output queue ----

   A ring of pieces, of which the connection has the last: one pointer for both ends. queued counts
   bytes in memory; those of files do not count, but the files do. held counts what the pieces take
   for it, with headers, room that is not used and bytes that are sent already: a peer that does not
   read could otherwise make a queue of tiny pieces many times larger than its bytes, which are what
   max_output counts. Pieces of the usual sizes are kept for the next queue, whosever it is. */

/* Whose list of spares a piece belongs to: 0 small, 1 large, 2 without bytes, -1 none. */
static int reactor__stream_class(int kind, size_t size) {
    if (kind != REACTOR__STREAM_DATA) return 2;
    if (size == REACTOR__STREAM_SMALL - sizeof(reactor__stream_node)) return 0;
    return size == REACTOR__STREAM_CHUNK - sizeof(reactor__stream_node) ? 1 : -1;
}

/* Memory for a piece with size bytes behind it: a spare one of that size if there is any. */
static reactor__stream_node *reactor__stream_chunk(reactor__stream_module *p, int kind,
                                                   size_t size) {
    int k = reactor__stream_class(kind, size);
    reactor__stream_node *n = k < 0 ? NULL : p->spares[k];
    if (!n) {
        if (size > SIZE_MAX - sizeof *n) return NULL;
        return (reactor__stream_node *)REACTOR_MALLOC(sizeof *n + size);
    }
    p->spares[k] = n->next;
    p->spare_count[k]--;
    return n;
}

/* With size bytes behind it. */
static reactor__stream_node *reactor__stream_node_new(reactor__stream_module *p, int kind,
                                                      size_t size) {
    reactor__stream_node *n = reactor__stream_chunk(p, kind, size);
    if (!n) return NULL;
    memset(n, 0, sizeof *n);
    n->kind = kind;
    n->size = size;
    n->data = (const char *)(n + 1);
    return n;
}

/* What a piece takes of its connection's memory. Files are not in memory, and few. */
static size_t reactor__stream_cost(const reactor__stream_node *n) {
    return n->kind == REACTOR__STREAM_FILE ? 0 : sizeof *n + n->size;
}

/* Whether a piece of size bytes keeps the queue within twice max_output; in an empty queue one of
   max_output does. */
static int reactor__stream_fits(const reactor__stream_conn *c, size_t size) {
    size_t most = c->policy->o.max_output;
    if (most < REACTOR__STREAM_CHUNK) most = REACTOR__STREAM_CHUNK;
    most = most > SIZE_MAX / 2 ? SIZE_MAX : 2 * most;
    size_t header = sizeof(reactor__stream_node), held = c->held;
    return held <= most && header <= most - held && size <= most - held - header;
}

/* A piece for len bytes to be copied behind last: small if it begins a queue, for thousands of
   connections may be written to in one turn; large if it follows another, for then there is more
   to come; not much larger than needed between pieces of other kinds, or if much of what the queue
   holds is not used already. */
static reactor__stream_node *reactor__stream_data_new(reactor__stream_module *p,
                                                      const reactor__stream_conn *c,
                                                      const reactor__stream_node *last,
                                                      size_t len) {
    const size_t small = REACTOR__STREAM_SMALL - sizeof *last;
    const size_t large = REACTOR__STREAM_CHUNK - sizeof *last;
    const size_t spare = c->queued / 2 + REACTOR__STREAM_CHUNK;
    size_t size = len < REACTOR__STREAM_LEAST ? (size_t)REACTOR__STREAM_LEAST : len;
    if (!last && len <= small)
        size = small;
    else if ((!last || last->kind == REACTOR__STREAM_DATA) && len <= large &&
             c->held <= c->queued + spare)
        size = large;
    return reactor__stream_node_new(p, REACTOR__STREAM_DATA,
                                    reactor__stream_fits(c, size) ? size : len);
}

/* Keeps the piece as a spare, or frees it if there are enough of its size, or it has an odd one. */
static void reactor__stream_node_free(reactor__stream_module *p, reactor__stream_node *n) {
    int k = reactor__stream_class(n->kind, n->size);
    if (k < 0 || !p || p->spare_count[k] == REACTOR__STREAM_SPARES) { /* no module: see move_lost */
        REACTOR_FREE(n);
        return;
    }
    n->next = p->spares[k];
    p->spares[k] = n;
    p->spare_count[k]++;
}

/* Puts a piece behind the queue. Its bytes are counted by account, if they are in memory. */
static void reactor__stream_push(reactor *r, reactor__stream_conn *c, reactor__stream_node *n) {
    if (c->tail) {
        n->next = c->tail->next;
        c->tail->next = n;
    } else {
        n->next = n;
        c->flags |= REACTOR__STREAM_LOADED;
        c->last_out = reactor__loop_time(r); /* the write timeout counts from here */
    }
    c->tail = n;
    c->held += reactor__stream_cost(n);
}

/* Changes how many bytes are queued, for this connection and for reactor_stats. */
static void reactor__stream_account(reactor *r, reactor__stream_conn *c, size_t more, size_t less) {
    c->queued = c->queued + more - less;
    r->core.counters.queued = r->core.counters.queued + more - less;
}

/* Takes the head off and lets go of it. The done callback of a file comes with result. */
static void reactor__stream_pop(reactor *r, reactor__stream_conn *c, int result, int silent) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    reactor__stream_node *n = c->tail->next;
    if (n == c->tail) {
        c->tail = NULL;
        c->flags &= ~(unsigned)REACTOR__STREAM_LOADED;
    } else {
        c->tail->next = n->next;
    }
    c->held -= reactor__stream_cost(n);
    if (n->kind == REACTOR__STREAM_FILE)
        c->files--;
    else
        reactor__stream_account(r, c, 0, n->len);
    switch (n->kind) {
    case REACTOR__STREAM_OWNED:
        if (n->u.free_fn) n->u.free_fn((void *)(uintptr_t)n->origin, n->size, n->user);
        break;
    case REACTOR__STREAM_SHARED:
        reactor_buffer_unref(n->u.buffer);
        break;
    case REACTOR__STREAM_FILE:
        if (n->flags & REACTOR_CLOSE_FILE) reactor__util_close_file(n->file);
        if (!silent)
            reactor__loop_call_done(r, n->u.done, reactor__stream_handle(c), result, n->user);
        break;
    default:
        break;
    }
    reactor__stream_node_free(p, n);
}

/* ---- cork ----

   What the running callback writes to its own connection, while nothing is queued there: pieces
   that leave with one call when it has returned (see callbacks). There is one cork for all, for
   callbacks do not nest. What does not fit goes to the queue, and everything corked before it. */

/* Adds len bytes to the cork; 0 if there is no room. Bytes of the input that the callback was given
   are only pointed at, for that stays until it has returned; others are copied to staging. */
static int reactor__stream_cork(reactor *r, const char *data, size_t len) {
    reactor__loop_io_context *io = &r->io;
    reactor__stream_module *p = reactor__stream_module_of(r);
    reactor__util_piece *next = &io->cork[io->corks];
    const int lent = (uintptr_t)data - (uintptr_t)io->data < io->len;
    if (io->corks == 0) p->staged = 0;
    if (io->corks == REACTOR__LOOP_CORKS) return 0;
    if (!lent) {
        if (len > REACTOR__STREAM_STAGING - p->staged) return 0;
        data = (const char *)memcpy(p->staging + p->staged, data, len);
        p->staged += len;
    }
    if (io->corks && (char *)next[-1].iov_base + next[-1].iov_len == data) {
        next[-1].iov_len += len;
        return 1;
    }
    next->iov_base = (void *)(uintptr_t)data;
    next->iov_len = len;
    io->corks++;
    return 1;
}

/* How many bytes staging has room for. An empty cork uses none of it, whatever staged says. */
static size_t reactor__stream_staging_left(const reactor *r) {
    return REACTOR__STREAM_STAGING - (r->io.corks ? reactor__stream_module_of(r)->staged : 0);
}

/* How many bytes are corked. */
static size_t reactor__stream_corked(const reactor *r) {
    size_t len = 0;
    for (int i = 0; i < r->io.corks; i++) len += r->io.cork[i].iov_len;
    return len;
}

/* Into the queue with what is corked, from byte sent on. All or nothing. */
static int reactor__stream_spill(reactor *r, reactor__stream_conn *c, size_t sent) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    const size_t corked = reactor__stream_corked(r);
    if (!corked) return 0;
    reactor__stream_node *n = reactor__stream_data_new(p, c, c->tail, corked - sent);
    if (!n) return -ENOMEM;
    char *to = (char *)(n + 1);
    for (int i = 0; i < r->io.corks; i++) {
        size_t len = r->io.cork[i].iov_len, skip = sent < len ? sent : len;
        memcpy(to + n->len, (char *)r->io.cork[i].iov_base + skip, len - skip);
        n->len += len - skip;
        sent -= skip;
    }
    reactor__stream_account(r, c, n->len, 0);
    reactor__stream_push(r, c, n);
    r->io.corks = 0;
    return 0;
}

/* ---- marks ----

   A write that leaves the output above low water makes WRITABLE_PENDING, the promise of one
   on_writable, and mark, the bytes to which the queue has to drain for it: low water; so few that a
   refused write would fit; or what reactor_notify_output says, which replaces either. update_marks
   keeps the promise, in the same turn if everything has left at once. */

/* Output that is in memory, the callback's own included. */
static size_t reactor__stream_pending_bytes(const reactor *r, const reactor__stream_conn *c) {
    return r->io.current == c ? c->queued + reactor__stream_corked(r) : c->queued;
}

/* Whether the queue is above its high-water mark. */
static int reactor__stream_is_high(const reactor__stream_conn *c) {
    return c->queued > c->policy->o.high_water || c->files > REACTOR__STREAM_FILES_HIGH;
}

/* A mark has 32 bits, to keep the connection small: more is as good as 4 GiB. */
static void reactor__stream_set_mark(reactor__stream_conn *c, size_t mark) {
    c->mark = mark < UINT32_MAX ? (uint32_t)mark : UINT32_MAX;
}

/* One that is owed already stays as it is. */
REACTOR__NOINLINE static void reactor__stream_owe(reactor__stream_conn *c) {
    if (c->flags & REACTOR__STREAM_WRITABLE_PENDING) return;
    c->flags |= REACTOR__STREAM_WRITABLE_PENDING;
    reactor__stream_set_mark(c, c->policy->o.low_water);
}

/* Refuses a write that fits once no more than room bytes are queued. Scheduled, because nothing
   else need happen before on_writable is due. */
REACTOR__NOINLINE static int reactor__stream_refuse(reactor *r, reactor__stream_conn *c,
                                                    size_t room) {
    reactor__stream_owe(c);
    if (room < c->mark) reactor__stream_set_mark(c, room);
    reactor__stream_schedule(r, c);
    return -ENOBUFS;
}

/* Refuses a write whose piece would take too much memory. There is more when the first of those
   that take any has gone. */
REACTOR__NOINLINE static int reactor__stream_refuse_piece(reactor *r, reactor__stream_conn *c) {
    const reactor__stream_node *n = c->tail->next;
    while (n->kind == REACTOR__STREAM_FILE) n = n->next;
    return reactor__stream_refuse(r, c, c->queued - n->len);
}

static reactor__core_transfer *reactor__stream_batched(const reactor__stream_module *p,
                                                       const reactor__stream_conn *c);

/* Bytes of an answer that waits for those of the rest of its batch. It is looked for only where it
   could be longer than room. */
static size_t reactor__stream_waiting_answer(const reactor *r, const reactor__stream_conn *c,
                                             size_t room) {
    const reactor__stream_module *p = reactor__stream_module_of(r);
    if (!p->batch || !p->batch->end || p->batch->size <= room) return 0;
    const reactor__core_transfer *m = reactor__stream_batched(p, c);
    return m && !(c->flags & REACTOR__STREAM_BATCHED) ? m->len : 0;
}

/* What an accepted write returns. */
static int reactor__stream_write_result(const reactor *r, reactor__stream_conn *c) {
    const size_t low = c->policy->o.low_water;
    size_t load = reactor__stream_pending_bytes(r, c);
    if (load <= low) load += reactor__stream_waiting_answer(r, c, low - load);
    if (REACTOR__LIKELY(load <= low && c->files <= REACTOR__STREAM_FILES_LOW)) return 0;
    reactor__stream_owe(c);
    return load > c->policy->o.high_water || c->files > REACTOR__STREAM_FILES_HIGH;
}

/* ---- ends ---- */

/* Finishes it at the next update. The first reason is the one that on_close is told. how: RESET,
   for a peer that must not take this for an orderly end. */
REACTOR__NOINLINE static void reactor__stream_fail(reactor__stream_conn *c, int reason, int how) {
    if (!(c->flags & (REACTOR__STREAM_FAILED | REACTOR__STREAM_BROKEN)))
        c->reason = (int16_t)reason;
    c->flags |= REACTOR__STREAM_FAILED;
    if (how == REACTOR__STREAM_WITH_RESET) c->rare |= REACTOR__STREAM_RARE_RESET;
}

/* Output is impossible: it is dropped, what is left of the input is delivered, then it ends.
   Taken for READABLE, as no event may have told of that input yet; and nobody is owed an
   on_writable to write in vain. */
static void reactor__stream_break(reactor *r, reactor__stream_conn *c, int reason) {
    if (c->flags & REACTOR__STREAM_BROKEN) return;
    if (!(c->flags & REACTOR__STREAM_FAILED)) c->reason = (int16_t)reason;
    c->flags |= (unsigned)REACTOR__STREAM_BROKEN | (unsigned)REACTOR__STREAM_READABLE;
    c->flags &= ~((unsigned)REACTOR__STREAM_BLOCKED | (unsigned)REACTOR__STREAM_WRITABLE_PENDING);
    while (c->tail) reactor__stream_pop(r, c, reason, 0);
}

/* Whether the connection can be reset, and the kernel can tell what was acknowledged. */
static int reactor__stream_is_tcp(const reactor__stream_conn *c) {
    return !(c->flags & (REACTOR__STREAM_PIPE | REACTOR__STREAM_NOT_TCP));
}

/* The flags that say what kind of socket this is. One that the system does not tell of is read
   as if it were not TCP, and ended as if it were, which is right for either. */
static unsigned reactor__stream_kind(reactor_socket fd) {
    int tcp = reactor__net_sys_is_tcp(fd);
    if (tcp > 0) return 0;
    unsigned flags = tcp == 0 ? REACTOR__STREAM_NOT_TCP : 0;
    return flags | (unsigned)REACTOR__STREAM_READ_TO_EAGAIN;
}

/* What the peer has not acknowledged, FIN included. Other kinds than TCP hand over what they
   take. */
static uint32_t reactor__stream_unacknowledged(const reactor__stream_conn *c) {
    return reactor__stream_is_tcp(c) ? reactor__net_unacknowledged(c->fd) : 0;
}

/* Whether it lingers for nothing but the peer's end: all output has arrived. The FIN may be on its
   way still. */
static int reactor__stream_is_delivered(const reactor__stream_conn *c) {
    return (c->flags & REACTOR__STREAM_LINGER) && reactor__stream_unacknowledged(c) <= 1;
}

/* Its time is over. Who has got everything is not reset on top of it. */
static void reactor__stream_expire(reactor__stream_conn *c) {
    if (reactor__stream_is_delivered(c))
        reactor__stream_fail(c, 0, REACTOR__STREAM_PLAINLY);
    else
        reactor__stream_fail(c, -ETIMEDOUT, REACTOR__STREAM_WITH_RESET);
}

/* ---- the way of the bytes ----

   Input has one entry and output one exit, whatever the backend, on the fast path and on the
   slow:

        kernel -> receive -> deliver -> on_data
        reactor_write and its like -> cork or queue -> transmit, at last transmit_end -> kernel

   No other function reads, calls on_data, sends or shuts down. There are three exceptions, of
   which a filtered connection (below) meets none but the last: a batch lets the backend receive
   and send for connections on the fast path; sendfile hands a file to the kernel, see send_file;
   input that nobody wants any more is thrown away as it comes from the kernel, see discard.

   A filter changes the bytes on their way, as TLS does. It would take the kernel's place in
   receive, transmit and transmit_end, by these rules:

   - The connection has SPECIAL, which keeps it off the fast path and out of batches, and
   READ_TO_EAGAIN: receive is called until it returns -EAGAIN. READABLE stays set until then,
   also over a pause or a budget that is used up, so what the filter has read from the kernel but
   not handed out needs no event of its own. - receive returns plain bytes. 0 is the end if the
   filter has verified it; -EAGAIN: it needs more from the peer; -EINTR: call again; any other
   -errno ends the connection with that reason, such as a FIN before the filter's own end. -
   transmit returns how many plain bytes the filter has taken for good, which may be ahead of
   what the kernel has taken. After fewer than all, or -EAGAIN, the connection is BLOCKED; the
   rest is offered again from the queue when there is room, beginning with the same byte. Any
   other -errno breaks the connection: input that is left is still delivered. - transmit_end is
   called when all output has been taken, by shutdown and by close. -EAGAIN: the filter has
   something left to send itself; it is called again at the next update, which an event leads to.
   On an end without one, such as a reset, nothing is called. - The filter may have to send in
   order to receive, and to receive in order to send. So an event of either kind has to set
   READABLE and clear BLOCKED (io_slow), and a backend with levels is asked for room while the
   filter has something to send (interest). - A handshake belongs before reactor__stream_opened,
   which is the one to call on_open, however the connection was made. reactor__stream_finish
   frees what a connection owns. A file is read by reactor__net_read_at and transmitted like
   memory (send_file). reactor_detach has to refuse. */

/* Notes that input has come: for reactor_stats and the timeouts. */
static inline void reactor__stream_count_input(reactor *r, reactor__stream_conn *c, size_t n) {
    r->core.counters.bytes_in += n;
    c->last_in = r->now;
}

/* The entry. Reads at most size bytes: returns how many, 0 at the end, -EAGAIN if none are there
   yet, -EINTR if it has to be called again, or the error that ends the input. A terminal fails
   with EIO when all others have closed it, which is its end. */
static inline ssize_t reactor__stream_receive(reactor *r, reactor__stream_conn *c, char *to,
                                              size_t size) {
    ssize_t n = reactor__net_recv(c->fd, to, size);
    if (REACTOR__LIKELY(n > 0)) {
        reactor__stream_count_input(r, c, (size_t)n);
        return n;
    }
    return n == -EIO && (c->flags & REACTOR__STREAM_PIPE) ? 0 : n;
}

/* Shows input to the handler, and returns how much of it that has consumed. What the handler
   wrote is corked or queued, for the caller to send, and until then the connection stays the
   current one: see delivered. fast: see reactor__loop_call_data_fast. */
static inline size_t reactor__stream_deliver(reactor *r, reactor__stream_conn *c, const char *data,
                                             size_t len, int fast) {
    const reactor_conn handle = reactor__stream_handle(c);
    void *state = reactor__stream_state(c);
    r->io.current = c;
    r->io.data = data;
    r->io.len = len;
    if (fast) return reactor__loop_call_data_fast(r, c->h, handle, data, len, state);
    c->rare &= ~(unsigned)REACTOR__STREAM_RARE_NEW_HANDLER;
    return reactor__loop_call_data(r, c->h, handle, data, len, state);
}

/* What net has to know of a descriptor that is sent to. */
static unsigned reactor__stream_how(const reactor *r, const reactor__stream_conn *c) {
    unsigned how = r->options.sigpipe_ignored ? REACTOR__NET_IGNORED : 0;
    return c->flags & REACTOR__STREAM_PIPE ? how : how | REACTOR__NET_IS_SOCKET;
}

/* The rest of transmit. sent is the result of a plain send that was tried, 0 if none was. */
REACTOR__NOINLINE static ssize_t reactor__stream_transmit_slow(reactor *r,
                                                               const reactor__stream_conn *c,
                                                               const reactor__util_piece *pieces,
                                                               int n, int more, ssize_t sent) {
    const int e = sent < 0 ? reactor__util_error() : -EINTR;
    if (e != -EINTR) return e;
    sent = reactor__net_send(c->fd, reactor__stream_how(r, c), pieces, n, more);
    if (sent > 0) r->core.counters.bytes_out += (size_t)sent;
    return sent;
}

/* Sends one piece by a socket, as most are. */
static inline ssize_t reactor__stream_transmit_one(reactor *r, const reactor__stream_conn *c,
                                                   const reactor__util_piece *piece) {
    ssize_t sent = reactor__net_sys_send(c->fd, piece, REACTOR__NET_NOSIGNAL);
    if (REACTOR__UNLIKELY(sent <= 0)) return reactor__stream_transmit_slow(r, c, piece, 1, 0, sent);
    r->core.counters.bytes_out += (size_t)sent;
    return sent;
}

/* The exit. Sends n >= 1 pieces: returns how many of their bytes were taken, or -errno. more:
   the caller goes on at once, so that TCP may wait for a full segment. The fast path, which is
   for plain sockets only, begins behind the choice that is made here. */
static ssize_t reactor__stream_transmit(reactor *r, const reactor__stream_conn *c,
                                        const reactor__util_piece *pieces, int n, int more) {
    if (n == 1 && !more && !(c->flags & REACTOR__STREAM_PIPE))
        return reactor__stream_transmit_one(r, c, pieces);
    return reactor__stream_transmit_slow(r, c, pieces, n, more, 0);
}

/* The end of all output: FIN. -ENOTCONN says that the peer has gone, and needs no FIN. */
static int reactor__stream_transmit_end(const reactor__stream_conn *c) {
    int e = reactor__net_end(c->fd);
    return e == -ENOTCONN ? 0 : e;
}

/* ---- sending ----

   BLOCKED means that the kernel took less than it was given and will tell when there is room: until
   then nobody tries. */

/* Notes that output has moved. Done callbacks, and those of timers, may have read the clock. */
static void reactor__stream_sent(reactor *r, reactor__stream_conn *c) {
    c->last_out = reactor__loop_now(r);
}

/* The kernel has taken n bytes of what is corked, but not all, or has refused it (-errno). */
REACTOR__NOINLINE static void reactor__stream_uncork_remainder(reactor *r, reactor__stream_conn *c,
                                                               ssize_t n) {
    if (n >= 0 || n == -EAGAIN) {
        c->flags |= REACTOR__STREAM_BLOCKED;
        n = reactor__stream_spill(r, c, n > 0 ? (size_t)n : 0);
        if (n < 0) reactor__stream_fail(c, (int)n, REACTOR__STREAM_WITH_RESET);
    } else
        reactor__stream_break(r, c, (int)n);
    r->io.corks = 0;
}

/* Sends what is corked; what the kernel does not take is queued. */
static void reactor__stream_uncork(reactor *r, reactor__stream_conn *c) {
    ssize_t n = reactor__stream_transmit(r, c, r->io.cork, r->io.corks, 0);
    if (n != (ssize_t)reactor__stream_corked(r)) reactor__stream_uncork_remainder(r, c, n);
    r->io.corks = 0;
    reactor__stream_sent(r, c);
}

/* Takes n bytes that were sent off the queue. */
static void reactor__stream_advance(reactor *r, reactor__stream_conn *c, size_t n) {
    while (n && c->tail) {
        reactor__stream_node *head = c->tail->next;
        size_t part = head->len < n ? head->len : n;
        head->data += part;
        head->len -= part;
        n -= part;
        reactor__stream_account(r, c, 0, part);
        if (!head->len) reactor__stream_pop(r, c, 0, 0);
    }
}

/* One call's worth of memory from the head on. Returns what was sent, *wanted what was offered. */
static ssize_t reactor__stream_send_memory(reactor *r, const reactor__stream_conn *c,
                                           size_t *wanted) {
    reactor__util_piece v[REACTOR__STREAM_GATHER];
    reactor__stream_node *n = c->tail->next;
    int count = 0;
    *wanted = 0;
    while (count < REACTOR__STREAM_GATHER && n->kind != REACTOR__STREAM_FILE) {
        v[count].iov_base = (void *)(uintptr_t)n->data;
        v[count++].iov_len = n->len;
        *wanted += n->len;
        n = n->next;
        if (n == c->tail->next) break;
    }
    /* A head waits for the first bytes of a small file, to leave in one packet with it. Before a
       large one it would shift every page of it across the segments, which costs far more. */
    int more = n->kind == REACTOR__STREAM_FILE && n != c->tail->next && n->len &&
               n->len <= REACTOR__STREAM_JOIN;
    return reactor__stream_transmit(r, c, v, count, more);
}

/* One call's worth of the file at the head. -EIO: it is shorter than it was said to be. */
static ssize_t reactor__stream_send_file(reactor *r, reactor__stream_conn *c) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    reactor__stream_node *n = c->tail->next;
    const size_t most = REACTOR__STREAM_WRITES;
    size_t len = n->len < most ? n->len : most;
    int full;
    ssize_t sent = reactor__net_sendfile(c->fd, reactor__stream_how(r, c), n->file, n->offset, len,
                                         p->staging, REACTOR__STREAM_STAGING, &full);
    if (full) c->flags |= REACTOR__STREAM_BLOCKED;
    if (sent == 0) return -EIO;
    if (sent < 0) return sent;
    n->offset += sent;
    n->len -= (size_t)sent;
    return sent;
}

/* Sends once from the head of the queue: bytes sent, or -errno. A short send of memory means that
   the kernel has enough and will tell; a short sendfile does not. */
static ssize_t reactor__stream_send_head(reactor *r, reactor__stream_conn *c) {
    reactor__stream_node *head = c->tail->next;
    size_t wanted = 0;
    ssize_t n = 0;
    if (head->kind == REACTOR__STREAM_FILE) {
        if (head->len) n = reactor__stream_send_file(r, c);
        if (n > 0) reactor__stream_sent(r, c);
        if (n >= 0 && !head->len) reactor__stream_pop(r, c, 0, 0);
        return n;
    }
    n = reactor__stream_send_memory(r, c, &wanted);
    if (n < 0) return n;
    if ((size_t)n < wanted) c->flags |= REACTOR__STREAM_BLOCKED;
    reactor__stream_sent(r, c);
    reactor__stream_advance(r, c, (size_t)n);
    return n;
}

/* Sends from the queue until it is empty, the kernel has enough, or the budget is used up, of which
   every piece costs something, so that done callbacks which add a piece each come to an end. */
static void reactor__stream_flush(reactor *r, reactor__stream_conn *c) {
    const unsigned stop = REACTOR__STREAM_BLOCKED | REACTOR__STREAM_FAILED;
    int64_t budget = REACTOR__STREAM_WRITES;
    while (c->tail && budget > 0 && !(c->flags & stop)) {
        int file = c->tail->next->kind == REACTOR__STREAM_FILE;
        ssize_t n = reactor__stream_send_head(r, c);
        if (n == -EAGAIN)
            c->flags |= REACTOR__STREAM_BLOCKED;
        else if (n < 0) {
            if (n == -EIO && file) reactor__stream_fail(c, (int)n, REACTOR__STREAM_WITH_RESET);
            reactor__stream_break(r, c, (int)n);
            return;
        }
        budget -= n + 1024;
    }
    if (c->tail && !(c->flags & stop)) reactor__stream_again(reactor__stream_module_of(r), c);
}

/* ---- callbacks ----

   Between callback_begin and callback_end the connection is the current one: its writes are
   corked, and it is not scheduled, for who calls callback_end updates it. callback_end sends,
   before anything else happens, what is corked and then what is queued, whose done callbacks may
   detach the connection. So where it was shown input, what it left of that is kept between these
   two; see delivered. */

/* Makes the connection the current one. What it is shown, if anything, is set by deliver. */
static void reactor__stream_callback_begin(reactor *r, reactor__stream_conn *c) {
    r->io.current = c;
    r->io.len = 0;
}

/* Sends what is corked, or drops it where nothing can be sent any more. */
static void reactor__stream_flush_cork(reactor *r, reactor__stream_conn *c) {
    const unsigned no = REACTOR__STREAM_FAILED | REACTOR__STREAM_BROKEN;
    r->io.current = NULL;
    if (c->flags & no) r->io.corks = 0;
    if (r->io.corks) reactor__stream_uncork(r, c);
}

/* Sends what the callback has written: what is corked, then what is queued. */
static void reactor__stream_callback_end(reactor *r, reactor__stream_conn *c) {
    reactor__stream_flush_cork(r, c);
    if (c->tail) reactor__stream_flush(r, c);
}

/* Whether its on_data is running. */
static int reactor__stream_is_shown(const reactor *r, const reactor__stream_conn *c) {
    return r->io.current == c && r->io.len;
}

/* Calls on_open, on_eof or on_writable; fn may be NULL. */
static void reactor__stream_event(reactor *r, reactor__stream_conn *c, reactor__loop_event_fn *fn) {
    reactor__stream_callback_begin(r, c);
    reactor__loop_call_event(r, fn, reactor__stream_handle(c), reactor__stream_state(c));
    reactor__stream_callback_end(r, c);
}

/* ---- receiving ----

   There is one read buffer for the whole loop; what a handler leaves of it is kept in u.input,
   and shown again from there, with what has come since behind it. REDELIVER: show it again
   though nothing has come, for something else has changed (resumed, low water, another handler). */

/* Whether more input is wanted: there is room for it, and nobody has asked to wait. */
static int reactor__stream_may_read(const reactor__stream_conn *c) {
    const unsigned no = REACTOR__STREAM_PAUSED | REACTOR__STREAM_THROTTLED | REACTOR__STREAM_ENDED |
                        REACTOR__STREAM_GONE;
    if ((c->flags & (no | (unsigned)REACTOR__STREAM_OPEN)) != (unsigned)REACTOR__STREAM_OPEN)
        return 0;
    if (c->tail && (c->flags & REACTOR__STREAM_COUPLED) && reactor__stream_is_high(c)) return 0;
    return !c->u.input || c->u.input->len < c->policy->o.max_input;
}

/* Memory for unconsumed input, twice as much each time up to max_input; what is there moves to the
   front. */
static int reactor__stream_make_room(reactor__stream_conn *c, size_t more) {
    reactor__stream_input *in = c->u.input;
    if (in && in->start) {
        memmove((char *)(in + 1), (char *)(in + 1) + in->start, in->len);
        in->start = 0;
    }
    size_t need = more + (in ? in->len : 0), cap = in ? in->cap : 1024 - sizeof *in;
    if (in && need <= cap) return 0;
    while (cap < need) cap = cap * 2 + sizeof *in;
    size_t most = c->policy->o.max_input > need ? c->policy->o.max_input : need;
    if (cap > most) cap = most;
    void *grown = REACTOR_REALLOC(in, sizeof *in + cap);
    if (!grown) return -ENOMEM;
    c->u.input = (reactor__stream_input *)grown;
    if (!in) c->u.input->start = c->u.input->len = 0;
    c->u.input->cap = cap;
    c->flags |= REACTOR__STREAM_KEPT;
    return 0;
}

/* Without memory the stream has a hole, so that nothing is left but to end it. */
static void reactor__stream_keep(reactor *r, reactor__stream_conn *c, const char *data,
                                 size_t len) {
    if (reactor__stream_make_room(c, len) < 0) {
        reactor__stream_fail(c, -ENOMEM, REACTOR__STREAM_WITH_RESET);
        return;
    }
    memcpy((char *)(c->u.input + 1) + c->u.input->len, data, len);
    c->u.input->len += len;
    r->core.counters.unread += len;
}

/* With the last byte goes the memory: an idle connection owns none. */
static void reactor__stream_consume(reactor *r, reactor__stream_conn *c, size_t used) {
    reactor__stream_input *in = c->u.input;
    in->start += used;
    in->len -= used;
    r->core.counters.unread -= used;
    if (in->len) return;
    c->u.input = NULL;
    c->flags &= ~(unsigned)REACTOR__STREAM_KEPT;
    REACTOR_FREE(in);
}

/* on_data has consumed used of len bytes. What is left is offered again at once if it has consumed
   something: the next message may be complete, too. If it has consumed nothing it waits for more,
   so that a resume of its own is no reason to offer the same again; but another handler that it
   has set has not seen them. */
static void reactor__stream_has_shown(reactor__stream_conn *c, size_t used, size_t len) {
    if (used && used < len)
        c->flags |= REACTOR__STREAM_REDELIVER;
    else if (!used && !(c->rare & REACTOR__STREAM_RARE_NEW_HANDLER))
        c->flags &= ~(unsigned)REACTOR__STREAM_REDELIVER;
}

/* A full measure of input is there, so nothing of it was consumed. If nothing hindered the handler
   it never will be; if something did, or its answer is not out yet, reading waits. */
static void reactor__stream_check_limit(reactor__stream_conn *c) {
    const unsigned hindered = REACTOR__STREAM_PAUSED | REACTOR__STREAM_THROTTLED;
    if (!c->u.input || c->u.input->len < c->policy->o.max_input) return;
    if (c->flags & (REACTOR__STREAM_GONE | REACTOR__STREAM_REDELIVER)) return;
    if (!(c->flags & (hindered | (unsigned)REACTOR__STREAM_WRITABLE_PENDING)) && !c->tail)
        reactor__stream_fail(c, -EMSGSIZE, REACTOR__STREAM_WITH_RESET);
}

/* on_data has returned, and used of the len bytes that it was given: what it wrote is sent, what it
   left is kept. Between the two the queue is not sent, see callbacks. */
static void reactor__stream_delivered(reactor *r, reactor__stream_conn *c, const char *data,
                                      size_t len, size_t used) {
    reactor__stream_has_shown(c, used, len);
    reactor__stream_flush_cork(r, c);
    if (c->flags & REACTOR__STREAM_KEPT)
        reactor__stream_consume(r, c, used); /* that was what it was given */
    else if (used < len && !(c->flags & REACTOR__STREAM_FAILED))
        reactor__stream_keep(r, c, data + used, len - used);
    if (c->flags & REACTOR__STREAM_FAILED) return;
    if (c->tail) reactor__stream_flush(r, c);
    reactor__stream_check_limit(c);
}

/* Offers the unconsumed input once more. */
static void reactor__stream_redeliver(reactor *r, reactor__stream_conn *c) {
    reactor__stream_input *in = c->u.input;
    c->flags &= ~(unsigned)REACTOR__STREAM_REDELIVER;
    c->rare &= ~(unsigned)REACTOR__STREAM_RARE_NEW_HANDLER;
    if (!in) return;
    if (c->flags & REACTOR__STREAM_ENDED) c->rare |= REACTOR__STREAM_RARE_LAST_LOOK;
    const char *data = (char *)(in + 1) + in->start;
    const size_t len = in->len;
    size_t used = reactor__stream_deliver(r, c, data, len, 0);
    reactor__stream_delivered(r, c, data, len, used);
}

/* The error that a reset has left no trace of: the kernel tells it once, and somebody else had it.
   0 for a connection that was not reset, and for other kinds than TCP, which keep it. */
static int reactor__stream_unseen_reset(const reactor__stream_conn *c) {
    int asks = reactor__stream_is_tcp(c) && !(c->flags & REACTOR__STREAM_FIN);
    return asks ? reactor__net_cut_off(c->fd) : 0;
}

/* The peer has finished. Of a pipe that goes both ways that is the end of both. */
static void reactor__stream_ended(reactor__stream_conn *c) {
    c->flags |= REACTOR__STREAM_ENDED;
    if (c->rare & (unsigned)REACTOR__STREAM_RARE_DUPLEX)
        c->flags |= REACTOR__STREAM_SHUT | REACTOR__STREAM_FIN;
}

/* A receive has said 0, whoever has made it. That is the peer's FIN, unless a send has failed
   before: then it is what the kernel says when it has told its error. After EPIPE it may be
   either. */
static void reactor__stream_input_ended(reactor__stream_conn *c) {
    int e = c->reason;
    if (!(c->flags & REACTOR__STREAM_BROKEN) || e == -EPIPE) e = reactor__stream_unseen_reset(c);
    if (e == 0) {
        reactor__stream_ended(c);
        return;
    }
    if (!(c->flags & REACTOR__STREAM_FAILED)) c->reason = (int16_t)e;
    reactor__stream_fail(c, e, REACTOR__STREAM_PLAINLY);
}

/* What receive has said instead of bytes. */
static void reactor__stream_not_received(reactor__stream_conn *c, int n) {
    if (n == -EINTR) {
        c->flags |= REACTOR__STREAM_READABLE; /* asked again by update */
        return;
    }
    c->flags &= ~((unsigned)REACTOR__STREAM_READABLE | (unsigned)REACTOR__STREAM_MAY_HAVE_MORE);
    if (n == 0)
        reactor__stream_input_ended(c);
    else if (n != -EAGAIN)
        reactor__stream_fail(c, n, REACTOR__STREAM_WITH_RESET);
}

/* Input has come: it is shown to the handler, together with what that has left before. */
static void reactor__stream_received(reactor *r, reactor__stream_conn *c, const char *data,
                                     size_t len) {
    if (c->flags & REACTOR__STREAM_KEPT) {
        reactor__stream_keep(r, c, data, len);
        if (!(c->flags & REACTOR__STREAM_FAILED)) reactor__stream_redeliver(r, c);
        return;
    }
    size_t used = reactor__stream_deliver(r, c, data, len, 0);
    reactor__stream_delivered(r, c, data, len, used);
}

/* What one event and the update that follows it may still do, so that no input and no handler makes
   a turn endless. */
typedef struct reactor__stream_budget {
    size_t bytes; /* to be read */
    int offers;   /* of input that was left, and of ends */
} reactor__stream_budget;

/* What one turn allows a connection. */
static reactor__stream_budget reactor__stream_full_budget(const reactor *r) {
    reactor__stream_budget budget = {r->options.read_budget, REACTOR__STREAM_REDELIVERIES};
    return budget;
}

/* Reads what there is, as far as the budget goes. The read buffer survives the handler's return,
   but not the flush of what it wrote, see callbacks. What on_data has left and is to be offered
   again comes before more input: update does that. */
static void reactor__stream_read(reactor *r, reactor__stream_conn *c,
                                 reactor__stream_budget *budget) {
    const unsigned more = REACTOR__STREAM_READ_TO_EAGAIN | REACTOR__STREAM_MAY_HAVE_MORE;
    while (reactor__stream_may_read(c) && !REACTOR__PEEK(&r->core.stop)) {
        size_t room = c->policy->o.max_input - (c->u.input ? c->u.input->len : 0);
        size_t size = r->io.size < room ? r->io.size : room;
        ssize_t n = reactor__stream_receive(r, c, r->io.buffer, size);
        if (n <= 0) {
            reactor__stream_not_received(c, (int)n);
            return;
        }
        if ((size_t)n < size && !(c->flags & more)) c->flags &= ~(unsigned)REACTOR__STREAM_READABLE;
        reactor__stream_received(r, c, r->io.buffer, (size_t)n);
        if (!(c->flags & REACTOR__STREAM_READABLE)) return;
        budget->bytes -= (size_t)n < budget->bytes ? (size_t)n : budget->bytes;
        if (!budget->bytes) break;
        if (c->flags & REACTOR__STREAM_REDELIVER) return;
    }
    if (reactor__stream_may_read(c)) reactor__stream_again(reactor__stream_module_of(r), c);
}

/* ---- timeouts ---- */

/* What reactor__stream_earliest says besides REACTOR_TIMEOUT_x: a drain may end it. */
enum { REACTOR__STREAM_QUIET = REACTOR_TIMEOUT_DEADLINE + 1 };

/* When a connection that is drained will have been quiet for long enough, if nothing moves until
   then. A peer that has just been answered, or has just connected, may have sent its next request
   before it could know of the end. It counts from the beginning of the drain on, for before that
   the times are noted only where somebody needs them. */
static int64_t reactor__stream_quiet_at(const reactor *r, const reactor__stream_conn *c) {
    const reactor__stream_module *p = reactor__stream_module_of(r);
    int64_t last = c->last_in > c->last_out ? c->last_in : c->last_out;
    if (last < p->drained) last = p->drained;
    return p->grace ? reactor__util_add(reactor__loop_latest(r, last), p->grace) : 0;
}

/* Whether a drain only waits for this connection's being quiet. */
static int reactor__stream_is_idle(const reactor__stream_conn *c) {
    if (!(c->flags & REACTOR__STREAM_DRAIN) || c->tail) return 0;
    if (c->h->on_drain) return (c->rare & REACTOR__STREAM_RARE_ASKED) != 0;
    return !c->u.input;
}

/* When one that is closing has to be looked at: when its output has not moved for the close
   timeout, or the peer of one that lingers has been silent. */
static int64_t reactor__stream_close_time(const reactor__stream_conn *c, int64_t in, int64_t out) {
    int64_t at = reactor__util_add(out, reactor__util_ms(c->policy->o.close_timeout_ms));
    if (!(c->flags & REACTOR__STREAM_LINGER)) return at;
    int64_t ms = REACTOR__STREAM_LOOK_MS;
    if (c->rare & REACTOR__STREAM_RARE_ACKNOWLEDGED) ms = REACTOR__STREAM_SILENCE_MS;
    int64_t silent = reactor__util_add(in, reactor__util_ms(ms));
    return silent < at ? silent : at;
}

/* The timeout that comes first, and when; REACTOR__NEVER if none is set. Connecting has a timer of
   its own for each attempt; once closing, only the close timeout counts, which has no number. Input
   that nobody lets in is not late, so the read timeout is off while reading is held. */
static int64_t reactor__stream_earliest(const reactor *r, const reactor__stream_conn *c,
                                        int *which) {
    const reactor_conn_options *o = &c->policy->o;
    int64_t at = REACTOR__NEVER, t;
    int64_t in = reactor__loop_latest(r, c->last_in), out = reactor__loop_latest(r, c->last_out);
    int64_t last = in > out ? in : out;
    const unsigned hold =
        REACTOR__STREAM_PAUSED | REACTOR__STREAM_THROTTLED | REACTOR__STREAM_ENDED;
    *which = 0;
    if (c->flags & REACTOR__STREAM_DIALING) return REACTOR__NEVER;
    if (c->flags & REACTOR__STREAM_GONE) return reactor__stream_close_time(c, in, out);
    if (o->idle_timeout_ms) {
        at = reactor__util_add(last, reactor__util_ms(o->idle_timeout_ms));
        *which = REACTOR_TIMEOUT_IDLE;
    }
    if (o->read_timeout_ms && !(c->flags & hold)) {
        t = reactor__util_add(in, reactor__util_ms(o->read_timeout_ms));
        if (t < at) at = t, *which = REACTOR_TIMEOUT_READ;
    }
    if (o->write_timeout_ms && c->tail) {
        t = reactor__util_add(out, reactor__util_ms(o->write_timeout_ms));
        if (t < at) at = t, *which = REACTOR_TIMEOUT_WRITE;
    }
    if (o->deadline_ms) {
        t = reactor__util_add(reactor__loop_latest(r, c->opened), reactor__util_ms(o->deadline_ms));
        if (t < at) at = t, *which = REACTOR_TIMEOUT_DEADLINE;
    }
    if (reactor__stream_is_idle(c)) {
        t = reactor__stream_quiet_at(r, c);
        if (t < at) at = t, *which = REACTOR__STREAM_QUIET;
    }
    return at;
}

static void reactor__stream_tick(reactor *r, reactor_timer t, void *user);

/* One timer serves all timeouts of a connection. Bytes that move only store the time; the timer
   goes off at the first moment that it could be needed, and looks. So an earlier one stays as it
   is. */
static void reactor__stream_arm(reactor *r, reactor__stream_conn *c) {
    int which;
    int64_t at = reactor__stream_earliest(r, c, &which), set = REACTOR__NEVER;
    if (c->rare & REACTOR__STREAM_RARE_MUTED) {
        int64_t over = reactor__util_add(r->now, reactor__util_ms(REACTOR__STREAM_MUTE_MS));
        if (over < at) at = over;
    }
    if (at == REACTOR__NEVER) return;
    if (c->timer && reactor__timer_get(&r->wheel, c->timer, &set) == 0) {
        if (set <= at) return;
        reactor__timer_cancel(&r->wheel, c->timer);
    }
    int e = reactor__timer_set(&r->wheel, at, 0, reactor__stream_tick, c, REACTOR__STREAM_TIMER,
                               &c->timer);
    reactor__loop_touch(r);
    if (e < 0) {
        c->timer = 0;
        reactor__stream_fail(c, e,
                             c->flags & REACTOR__STREAM_LINGER ? REACTOR__STREAM_PLAINLY
                                                               : REACTOR__STREAM_WITH_RESET);
    }
}

/* A timer that sleeps, so that arm, which has nobody to tell, needs no memory. While it connects
   the timer is the attempt's. */
static int reactor__stream_reserve_timer(reactor *r, reactor__stream_conn *c) {
    if (c->timer || (c->flags & REACTOR__STREAM_DIALING)) return 0;
    return reactor__timer_set(&r->wheel, REACTOR__NEVER, 0, reactor__stream_tick, c,
                              REACTOR__STREAM_TIMER, &c->timer);
}

/* A timeout that is answered with 1 starts again from now; of IDLE either direction will do. */
static void reactor__stream_restart(reactor *r, reactor__stream_conn *c, int which) {
    if (which == REACTOR_TIMEOUT_DEADLINE) c->opened = r->now;
    if (which == REACTOR_TIMEOUT_READ || which == REACTOR_TIMEOUT_IDLE) c->last_in = r->now;
    if (which == REACTOR_TIMEOUT_WRITE) c->last_out = reactor__loop_now(r);
}

static void reactor__stream_update(reactor *r, reactor__stream_conn *c);
static void reactor__stream_opened(reactor *r, reactor__stream_conn *c);

/* One that lingers: acknowledgements move its output as sending does, and the peer's silence counts
   from the look that has found all of them. */
static void reactor__stream_linger_tick(reactor *r, reactor__stream_conn *c) {
    const int64_t ms = reactor__util_ms(c->policy->o.close_timeout_ms);
    const uint32_t left = reactor__stream_unacknowledged(c), before = c->unacknowledged;
    const int over = (c->rare & REACTOR__STREAM_RARE_ACKNOWLEDGED) != 0;
    if (left < before) c->last_out = r->now;
    c->unacknowledged = left;
    c->last_in = r->now;
    if (!left) c->rare |= REACTOR__STREAM_RARE_ACKNOWLEDGED;
    if (over || reactor__util_add(c->last_out, ms) <= r->now) reactor__stream_expire(c);
}

/* It goes off early as a rule, for what has moved since only stored the time: then arm sets it
   to what is left. Timers come before the schedule in a turn, so this may come before the opening
   (ATTACHING). */
static void reactor__stream_tick(reactor *r, reactor_timer t, void *user) {
    reactor__stream_conn *c = (reactor__stream_conn *)user;
    int which;
    (void)t;
    c->timer = 0;
    c->rare &= ~(unsigned)REACTOR__STREAM_RARE_MUTED; /* update lets it be listened to again */
    if (reactor__stream_is_attaching(c)) {            /* nothing comes before on_open */
        reactor__stream_opened(r, c);
        return;
    }
    if (reactor__stream_earliest(r, c, &which) > r->now || which == REACTOR__STREAM_QUIET) {
        /* nothing has run out; update ends one that was quiet for a drain */
    } else if (c->flags & REACTOR__STREAM_LINGER) {
        reactor__stream_linger_tick(r, c);
    } else {
        int again = 0;
        if (which) {
            reactor__stream_callback_begin(r, c);
            again = reactor__loop_call_timeout(r, c->h, reactor__stream_handle(c), which,
                                               reactor__stream_state(c));
            reactor__stream_callback_end(r, c);
        }
        if (c->flags & REACTOR__STREAM_GONE && which) again = 1; /* it has closed itself */
        if (again)
            reactor__stream_restart(r, c, which);
        else
            reactor__stream_fail(c, -ETIMEDOUT, REACTOR__STREAM_WITH_RESET);
    }
    if (!(c->flags & REACTOR__STREAM_FAILED)) reactor__stream_arm(r, c);
    reactor__stream_update(r, c);
}

/* ---- the end of a connection ---- */

static void reactor__stream_release_slot(reactor *r, reactor__stream_policy *policy);
static void reactor__stream_dial_end(reactor *r, const reactor__stream_conn *c);

/* Frees the memory of a connection that is neither in core's table nor in the schedule. */
static void reactor__stream_free(reactor *r, reactor__stream_conn *c) {
    if (c->flags & REACTOR__STREAM_DIALING)
        REACTOR_FREE(c->u.dial);
    else if (c->u.input)
        reactor__stream_consume(r, c, c->u.input->len);
    reactor__stream_policy_drop(c->policy);
    reactor__net_forget(&c->peer);
    REACTOR_FREE(c);
}

/* Asks the system for a peer that is not known, when the connection opens, when the user asks, and
   before it lets go of the socket. As a rule it is known; not that of fd:N, 0.0.0.0 and ::, of a
   socket that was still connecting when it was attached, and a name without memory for it. */
static void reactor__stream_note_peer(reactor__stream_conn *c) {
    reactor__net_address peer;
    if (c->peer.kind != REACTOR__NET_UNKNOWN || (c->flags & REACTOR__STREAM_PIPE)) return;
    if (c->fd != REACTOR__UTIL_NO_SOCKET && reactor__net_peer(c->fd, &peer) == 0)
        reactor__net_keep(&c->peer, &peer);
}

/* Gives a pipe or terminal back as it was, for others may share its open file: unless another
   connection here does, which inherits the duty. A process that is killed leaves it
   non-blocking. */
static void reactor__stream_unblock(reactor *r, reactor__stream_conn *c, reactor_socket fd) {
    if (c->rare & (unsigned)REACTOR__STREAM_RARE_REOPENED) reactor__net_make_block(fd);
    if (!(c->rare & (unsigned)REACTOR__STREAM_RARE_BLOCKING)) return;
    c->rare &= ~(unsigned)REACTOR__STREAM_RARE_BLOCKING;
    reactor__stream_conn *other;
    for (uint32_t at = 0; (other = reactor__stream_each(r, &at)) != NULL;) {
        if (other == c || other->fd == REACTOR__UTIL_NO_SOCKET) continue;
        if (!(other->flags & REACTOR__STREAM_PIPE)) continue;
        if (!reactor__net_is_same(other->fd, fd)) continue;
        other->rare |= (unsigned)REACTOR__STREAM_RARE_BLOCKING;
        return;
    }
    reactor__net_make_block(fd);
}

/* Whether the peer must not take the end for an orderly one: the connection has failed, or output
   that was accepted is lost with it. */
static int reactor__stream_is_cut_off(const reactor__stream_conn *c) {
    if (!reactor__stream_is_tcp(c)) return 0;
    return c->tail || (c->flags & REACTOR__STREAM_BROKEN) || (c->rare & REACTOR__STREAM_RARE_RESET);
}

/* The descriptor is closed. While a forked child or a duplicate holds the socket close(2) ends
   nothing, so the peer is told before, unless it is certain that both FINs have been sent. A child
   tells nobody: the connection is its parent's. */
static void reactor__stream_close_socket(reactor__stream_conn *c, reactor_socket fd, int child) {
    const unsigned both = REACTOR__STREAM_FIN | REACTOR__STREAM_ENDED;
    if (child || (c->flags & REACTOR__STREAM_PIPE)) {
        /* there is nobody to be told, or no way */
    } else if (reactor__stream_is_cut_off(c)) {
        reactor__net_reset(fd);
    } else {
        if ((c->flags & both) != both) reactor__net_hang_up(fd);
        if (c->rare & REACTOR__STREAM_RARE_WAITS) reactor__net_linger(fd, 0);
    }
    reactor__util_close(fd);
}

/* Lets go of everything, then tells it. The descriptor is closed first, so that whoever is told may
   count on the peer's being told too; every free_fn and done comes before on_close; the handle is
   good until that returns. Then there is room for another (room), and memory is freed unless the
   schedule still points at it. child: of a fork, which must not disturb the parent: free_fn is
   all that is called. */
static void reactor__stream_finish(reactor *r, reactor__stream_conn *c, int child) {
    uint32_t index = (uint32_t)c->id;
    if (c->flags & REACTOR__STREAM_DIALING) reactor__stream_dial_end(r, c);
    reactor__stream_policy *policy = c->policy;
    reactor_socket fd = c->fd;
    child |= r->child;
    if (!child) reactor__stream_note_peer(c);
    c->flags |= REACTOR__STREAM_DEAD;
    if (c->timer) reactor__timer_cancel(&r->wheel, c->timer);
    reactor__core_unbind(&r->core, index, 1);
    c->fd = REACTOR__UTIL_NO_SOCKET;
    if (fd != REACTOR__UTIL_NO_SOCKET && !child) reactor__stream_unblock(r, c, fd);
    if (fd != REACTOR__UTIL_NO_SOCKET) reactor__stream_close_socket(c, fd, child);
    while (c->tail) reactor__stream_pop(r, c, c->reason < 0 ? c->reason : -ECANCELED, child);
    r->core.active--;
    r->core.counters.connections--;
    r->core.counters.closes++;
    if (!child)
        reactor__loop_call_close(r, c->h, reactor__stream_handle(c), c->reason,
                                 reactor__stream_state(c));
    reactor__core_release(&r->core, index);
    if (!child) reactor__stream_release_slot(r, policy);
    if (!(c->flags & REACTOR__STREAM_SCHEDULED)) reactor__stream_free(r, c);
}

/* Sends the FIN, once all output is out. Returns 1 if that has to wait, -1 if it failed, which
   would leave the peer waiting for ever: so the connection fails. */
static int reactor__stream_send_fin(reactor__stream_conn *c) {
    int e = reactor__stream_transmit_end(c);
    if (e == -EAGAIN) return 1;
    c->flags |= (unsigned)REACTOR__STREAM_SHUT | (unsigned)REACTOR__STREAM_FIN;
    if (e == 0) return 0;
    reactor__stream_fail(c, e, REACTOR__STREAM_WITH_RESET);
    return -1;
}

/* While it lingers, last_out is when the peer last acknowledged something, and last_in when that
   was last looked at; when it has acknowledged all, last_in is when it was last heard of. */
static void reactor__stream_start_linger(reactor *r, reactor__stream_conn *c) {
    c->flags |= (unsigned)REACTOR__STREAM_LINGER;
    c->last_in = c->last_out = reactor__loop_now(r);
    if (!reactor__stream_is_tcp(c) && !c->u.input) c->rare |= REACTOR__STREAM_RARE_QUIET;
    if (c->rare & REACTOR__STREAM_RARE_QUIET) c->flags |= REACTOR__STREAM_READABLE; /* to be sure */
}

/* Reads what nobody wants, until there is no more for now. Returns 1 when the peer has ended.
   One that resets instead has got everything, if it has acknowledged that. */
static int reactor__stream_discard(reactor *r, reactor__stream_conn *c) {
    size_t budget = r->options.read_budget;
    while (c->flags & REACTOR__STREAM_READABLE) {
        ssize_t n = reactor__net_recv(c->fd, r->io.buffer, r->io.size);
        if (n == -EINTR) continue;
        if (n == 0) c->flags |= REACTOR__STREAM_ENDED;
        if (n < 0 && n != -EAGAIN && !reactor__stream_is_delivered(c))
            reactor__stream_fail(c, (int)n, REACTOR__STREAM_PLAINLY);
        if (n <= 0) {
            c->flags &= ~(unsigned)REACTOR__STREAM_READABLE;
            return n != -EAGAIN;
        }
        /* Before that it is when the peer was last looked at, which its talking must not put
           off. */
        if (c->rare & REACTOR__STREAM_RARE_ACKNOWLEDGED) c->last_in = r->now;
        c->rare &= ~(unsigned)REACTOR__STREAM_RARE_QUIET;
        if ((size_t)n >= budget) {
            reactor__stream_again(reactor__stream_module_of(r), c);
            return 0;
        }
        budget -= (size_t)n;
    }
    return 0;
}

/* The output is out and nobody wants the input. But closing a TCP socket with input unread, or
   before more of it arrives, resets it, and the peer may lose what it has not read yet (RFC
   1122, 4.2.2.13). So FIN is sent and the input discarded until the peer has finished too. What
   a unix socket has taken is out of a reset's reach, so there only input that has come is a
   reason to wait. Returns 1 when there is nothing to wait for. */
static int reactor__stream_linger(reactor *r, reactor__stream_conn *c) {
    if (c->flags & REACTOR__STREAM_PIPE) return 1;
    int e = c->flags & REACTOR__STREAM_FIN ? 0 : reactor__stream_send_fin(c);
    if (e) return e < 0;
    if (c->flags & REACTOR__STREAM_ENDED) return 1;
    if (!(c->flags & REACTOR__STREAM_LINGER)) reactor__stream_start_linger(r, c);
    return reactor__stream_discard(r, c) || (c->rare & REACTOR__STREAM_RARE_QUIET);
}

/* ---- what always holds ---- */

/* A implies B: !A || B. */
static void reactor__stream_check(const reactor__stream_conn *c) {
    const unsigned f = c->flags, dialing = f & REACTOR__STREAM_DIALING;
    REACTOR__CHECK(!(f & REACTOR__STREAM_LOADED) == !c->tail);
    REACTOR__CHECK(c->tail || !c->queued);
    REACTOR__CHECK(c->tail || !c->files);
    REACTOR__CHECK(dialing || !(f & REACTOR__STREAM_KEPT) == !c->u.input);
    REACTOR__CHECK(dialing || !c->u.input || c->u.input->len > 0);
    REACTOR__CHECK(!(f & REACTOR__STREAM_FIN) || (f & REACTOR__STREAM_SHUT));
    REACTOR__CHECK(!(f & REACTOR__STREAM_EOF_DELIVERED) || (f & REACTOR__STREAM_ENDED));
    REACTOR__CHECK(!(f & REACTOR__STREAM_LINGER) || (f & REACTOR__STREAM_CLOSING));
    REACTOR__CHECK(!(c->rare & REACTOR__STREAM_RARE_RESET) || (f & REACTOR__STREAM_FAILED));
    REACTOR__CHECK(!(f & REACTOR__STREAM_THROTTLED) || (f & REACTOR__STREAM_COUPLED));
    REACTOR__CHECK(!(f & REACTOR__STREAM_DEAD) || c->fd == REACTOR__UTIL_NO_SOCKET);
    REACTOR__CHECK(!dialing || !(f & REACTOR__STREAM_OPEN));
    REACTOR__CHECK(!(c->rare & REACTOR__STREAM_RARE_MUTED) || c->timer ||
                   (f & (REACTOR__STREAM_FAILED | REACTOR__STREAM_DEAD)));
    (void)f, (void)dialing;
}

/* ---- updating ----

   The end of each callback, event, scheduling and timeout of an open connection: looks at all
   flags, in one order, whoever has set them. First what output tells (marks), then input (offered
   again, read, its end), then draining, and the end of all when nothing of this is left to do. */

/* The close timeout counts from here. */
static void reactor__stream_start_close(reactor *r, reactor__stream_conn *c) {
    if (c->flags & REACTOR__STREAM_GONE) return;
    c->flags &= ~(unsigned)REACTOR__STREAM_DRAIN;
    c->flags |= REACTOR__STREAM_CLOSING;
    c->last_out = reactor__loop_time(r);
}

/* Level backends are told what is of interest now; with edges everything is, always. RDHUP alone
   is an interest in errors and hang-ups: a peer that is gone is to be heard of while nothing is
   read. */
static void reactor__stream_interest(reactor *r, reactor__stream_conn *c) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    uint32_t index = (uint32_t)c->id;
    unsigned wanted = REACTOR__CORE_RDHUP;
    if (p->edges || c->fd == REACTOR__UTIL_NO_SOCKET || (c->flags & REACTOR__STREAM_DIALING))
        return;
    if (reactor__stream_may_read(c) || (c->flags & REACTOR__STREAM_LINGER)) wanted = REACTOR_READ;
    if (c->tail && (c->flags & REACTOR__STREAM_BLOCKED)) wanted |= (unsigned)REACTOR_WRITE;
    /* A pipe's write end has nothing to read, but its error is heard with READ. */
    if (c->rare & REACTOR__STREAM_RARE_WRITE_ONLY) wanted |= (unsigned)REACTOR_READ;
    if (c->rare & REACTOR__STREAM_RARE_MUTED) wanted = 0;
    if (reactor__core_at(&r->core, index)->wanted != wanted)
        reactor__core_modify(&r->core, index, wanted);
}

/* Whether output has drained as far as WRITABLE_PENDING says. */
static int reactor__stream_has_drained(const reactor__stream_conn *c) {
    if (c->queued > c->mark) return 0;
    if (!(c->rare & REACTOR__STREAM_RARE_NOTIFY)) return c->files <= REACTOR__STREAM_FILES_LOW;
    return c->mark || !c->files;
}

/* Output has drained to low water: reading goes on. THROTTLED is set above the one mark and cleared
   below the other, so that reading does not flutter. */
static void reactor__stream_update_throttle(reactor *r, reactor__stream_conn *c) {
    const reactor_conn_options *o = &c->policy->o;
    if ((c->flags & REACTOR__STREAM_COUPLED) && reactor__stream_is_high(c))
        c->flags |= REACTOR__STREAM_THROTTLED;
    /* Input at its limit is offered once more when nothing waits any longer: see check_limit. */
    if (!c->tail && c->u.input && c->u.input->len >= o->max_input)
        c->flags |= REACTOR__STREAM_REDELIVER;
    if (!(c->flags & REACTOR__STREAM_THROTTLED)) return;
    if (c->queued > o->low_water || c->files > REACTOR__STREAM_FILES_LOW) return;
    c->flags &= ~(unsigned)REACTOR__STREAM_THROTTLED;
    c->flags |= REACTOR__STREAM_REDELIVER;
    c->last_in = reactor__loop_time(r); /* the read timeout did not run meanwhile */
}

/* Output has drained to the mark: the handler is told, once a turn, and may go on with the input
   that it has left. Returns 1 if that has to be looked at. */
static int reactor__stream_update_marks(reactor *r, reactor__stream_conn *c, int told) {
    reactor__stream_update_throttle(r, c);
    if (!(c->flags & REACTOR__STREAM_WRITABLE_PENDING) || !reactor__stream_has_drained(c)) return 0;
    if (told) { /* a peer as fast as the handler would keep everybody else waiting */
        reactor__stream_again(reactor__stream_module_of(r), c);
        return 0;
    }
    c->flags &= ~(unsigned)REACTOR__STREAM_WRITABLE_PENDING;
    c->flags |= REACTOR__STREAM_REDELIVER;
    c->rare &= ~(unsigned)REACTOR__STREAM_RARE_NOTIFY;
    if (c->h->on_writable) reactor__stream_event(r, c, c->h->on_writable);
    return 1;
}

/* Takes one of the offers; 0: there are none left, the rest is for the next turn. */
static int reactor__stream_spend(reactor *r, reactor__stream_conn *c,
                                 reactor__stream_budget *budget) {
    if (budget->offers-- > 0) return 1;
    reactor__stream_again(reactor__stream_module_of(r), c);
    return 0;
}

/* Offers what was left, else reads. 1: that has to be looked at; 0: there was nothing to do; -1:
   the rest is for the next turn. */
static int reactor__stream_update_input(reactor *r, reactor__stream_conn *c,
                                        reactor__stream_budget *budget) {
    const unsigned held = REACTOR__STREAM_PAUSED | REACTOR__STREAM_THROTTLED | REACTOR__STREAM_GONE;
    if (!(c->flags & held) && (c->flags & REACTOR__STREAM_REDELIVER)) {
        if (!reactor__stream_spend(r, c, budget)) return -1;
        reactor__stream_redeliver(r, c);
        return 1;
    }
    if (!(c->flags & REACTOR__STREAM_READABLE) || (c->flags & REACTOR__STREAM_SCHEDULED) ||
        !reactor__stream_may_read(c))
        return 0;
    reactor__stream_read(r, c, budget);
    return 1;
}

/* The peer has finished sending. What was not consumed is offered once more first, when nothing
   keeps the handler from using it. Returns 1 if that has to be looked at. */
static int reactor__stream_update_eof(reactor *r, reactor__stream_conn *c,
                                      reactor__stream_budget *budget) {
    const unsigned done = REACTOR__STREAM_EOF_DELIVERED | REACTOR__STREAM_PAUSED;
    if (!(c->flags & REACTOR__STREAM_ENDED) || (c->flags & done)) return 0;
    /* A handler that waits for its output to drain has not had its last look at the input. */
    const unsigned waits = REACTOR__STREAM_THROTTLED | REACTOR__STREAM_WRITABLE_PENDING;
    if (c->u.input) {
        if (c->flags & waits) return 0;
        if (!(c->rare & REACTOR__STREAM_RARE_LAST_LOOK)) {
            c->flags |= REACTOR__STREAM_REDELIVER;
            return 1;
        }
    }
    if (!reactor__stream_spend(r, c, budget)) return 0;
    c->flags |= REACTOR__STREAM_EOF_DELIVERED;
    c->flags &= ~(unsigned)REACTOR__STREAM_REDELIVER;
    if (c->h->on_eof)
        reactor__stream_event(r, c, c->h->on_eof);
    else
        reactor__stream_start_close(r, c);
    return 1;
}

/* Asks the handler, once. What is still queued then leaves under the close timeout. */
static void reactor__stream_ask(reactor *r, reactor__stream_conn *c) {
    c->rare |= REACTOR__STREAM_RARE_ASKED;
    reactor__stream_callback_begin(r, c);
    int busy =
        reactor__loop_call_drain(r, c->h, reactor__stream_handle(c), reactor__stream_state(c));
    reactor__stream_callback_end(r, c);
    if (busy)
        c->flags &= ~(unsigned)REACTOR__STREAM_DRAIN;
    else if (c->tail)
        reactor__stream_start_close(r, c);
}

/* A drain ends it, for nothing has moved for long enough: nothing is on its way either. Peers
   that keep their end open for hours are not waited for. */
static void reactor__stream_end_quiet(reactor *r, reactor__stream_conn *c) {
    if (!reactor__stream_unacknowledged(c)) c->rare |= REACTOR__STREAM_RARE_QUIET;
    reactor__stream_start_close(r, c);
}

/* Draining: closed as soon as it is not busy, and has been quiet. What the kernel already has of
   its input comes before, also what came since the wait: a busy machine may have stopped the
   loop for longer than the quiet lasts. Returns 1 if the handler was asked. */
static int reactor__stream_update_drain(reactor *r, reactor__stream_conn *c) {
    if (!(c->flags & REACTOR__STREAM_DRAIN)) return 0;
    if ((c->flags & REACTOR__STREAM_READABLE) && reactor__stream_may_read(c)) return 0;
    if (c->h->on_drain && !(c->rare & REACTOR__STREAM_RARE_ASKED)) {
        reactor__stream_ask(r, c);
        return 1;
    }
    if (!reactor__stream_is_idle(c) || reactor__stream_quiet_at(r, c) > r->now) return 0;
    if (reactor__stream_may_read(c) && reactor__net_sys_peek(c->fd) > 0)
        reactor__stream_again(reactor__stream_module_of(r), c); /* the next wait reports it */
    else
        reactor__stream_end_quiet(r, c);
    return 0;
}

/* Tells the peer, once all is out, that no more comes. */
static int reactor__stream_update_shut(reactor__stream_conn *c) {
    const unsigned over = REACTOR__STREAM_FIN | REACTOR__STREAM_BROKEN | REACTOR__STREAM_GONE;
    if (!(c->flags & REACTOR__STREAM_SHUT) || (c->flags & over) || c->tail) return 0;
    if (!(c->flags & REACTOR__STREAM_PIPE)) return reactor__stream_send_fin(c);
    c->flags |= REACTOR__STREAM_FIN;
    /* Only its being closed tells the other end of a pipe that goes both ways. */
    if (c->rare & (unsigned)REACTOR__STREAM_RARE_DUPLEX)
        c->flags |= REACTOR__STREAM_ENDED | REACTOR__STREAM_EOF_DELIVERED;
    return 0;
}

/* Whether it has come to its end; reason says how. BROKEN: not before its input is read, unless it
   is closing or paused, for then nobody would read it. Else everything waits for the queue. */
static int reactor__stream_update_end(reactor *r, reactor__stream_conn *c) {
    if (c->flags & REACTOR__STREAM_FAILED) return 1;
    if (c->flags & REACTOR__STREAM_BROKEN) {
        const unsigned unwanted = REACTOR__STREAM_CLOSING | REACTOR__STREAM_PAUSED;
        if ((c->flags & REACTOR__STREAM_REDELIVER) && c->u.input && !(c->flags & unwanted))
            return 0;
        const unsigned over =
            REACTOR__STREAM_CLOSING | REACTOR__STREAM_ENDED | REACTOR__STREAM_PAUSED;
        return (c->flags & over) || !(c->flags & REACTOR__STREAM_READABLE);
    }
    if (c->tail) return 0;
    if (c->flags & REACTOR__STREAM_CLOSING) return reactor__stream_linger(r, c);
    if (reactor__stream_update_shut(c) < 0) return 1;
    /* Both directions have ended: nothing could ever happen on it. */
    const unsigned both = REACTOR__STREAM_FIN | REACTOR__STREAM_EOF_DELIVERED;
    return (c->flags & both) == both;
}

/* Does what the flags ask for, in this order, until nothing is left to do now. Every callback may
   have set or cleared any of them. */
static void reactor__stream_update_within(reactor *r, reactor__stream_conn *c,
                                          reactor__stream_budget *budget) {
    const unsigned shut = REACTOR__STREAM_GONE;
    int told = 0;
    for (int go = 1; go;) {
        reactor__stream_check(c);
        if (REACTOR__PEEK(&r->core.stop)) { /* no callback follows the one that stopped the loop */
            reactor__stream_schedule(r, c);
            return;
        }
        go = !(c->flags & shut) && reactor__stream_update_marks(r, c, told);
        told |= go;
        if (go) continue;
        go = reactor__stream_update_input(r, c, budget);
        if (go < 0) break;
        if (!go && !(c->flags & shut))
            go = reactor__stream_update_eof(r, c, budget) ||
                 (!(c->flags & shut) && reactor__stream_update_drain(r, c));
    }
    if (reactor__stream_update_end(r, c)) {
        reactor__stream_finish(r, c, 0);
        return;
    }
    reactor__stream_interest(r, c);
    if (c->policy->o.idle_timeout_ms || c->policy->o.read_timeout_ms ||
        c->policy->o.write_timeout_ms || c->policy->o.deadline_ms ||
        (c->flags & (shut | (unsigned)REACTOR__STREAM_DRAIN)))
        reactor__stream_arm(r, c);
    if (c->flags & REACTOR__STREAM_FAILED) reactor__stream_finish(r, c, 0); /* no timer for arm */
}

static void reactor__stream_update(reactor *r, reactor__stream_conn *c) {
    reactor__stream_budget budget = reactor__stream_full_budget(r);
    reactor__stream_update_within(r, c, &budget);
}

/* ---- events ---- */

/* An error or hang-up that no read will meet, the input having ended or being paused. */
static void reactor__stream_dead_peer(reactor *r, reactor__stream_conn *c) {
    const unsigned unread = REACTOR__STREAM_ENDED | REACTOR__STREAM_PAUSED;
    if (c->rare & REACTOR__STREAM_RARE_WRITE_ONLY)
        reactor__stream_fail(c, -EPIPE, REACTOR__STREAM_PLAINLY);
    const unsigned others = REACTOR__STREAM_PIPE | REACTOR__STREAM_LINGER; /* these read on */
    if (!(c->flags & unread) || (c->flags & others)) return;
    int e = reactor__net_death(c->fd);
    if (e == 0) e = reactor__stream_unseen_reset(c);
    if (e < 0) reactor__stream_break(r, c, e);
}

/* The connection is there. Also the first thing that an attached one hears. What was written while
   it was connecting leaves now; one that was closed meanwhile hears nothing, and opens for that
   only. An edge that told of an error before this will not come again. */
static void reactor__stream_opened(reactor *r, reactor__stream_conn *c) {
    c->flags |= REACTOR__STREAM_OPEN;
    reactor__stream_note_peer(c);
    c->last_in = c->last_out = c->opened = reactor__loop_now(r);
    if (!(c->flags & REACTOR__STREAM_GONE)) reactor__stream_event(r, c, c->h->on_open);
    if (c->tail && !(c->flags & (unsigned)(REACTOR__STREAM_BLOCKED | REACTOR__STREAM_FAILED)))
        reactor__stream_flush(r, c);
    if (c->flags & REACTOR__STREAM_MAY_HAVE_MORE) reactor__stream_dead_peer(r, c);
    reactor__stream_update(r, c);
}

/* What an event says of the input, which holds until it has been read: an edge comes once. */
static void reactor__stream_note_events(reactor__stream_conn *c, unsigned events) {
    if (events & (unsigned)REACTOR_READ) c->flags |= REACTOR__STREAM_READABLE;
    if (events & (REACTOR__CORE_RDHUP | REACTOR__CORE_PRI | REACTOR__CORE_INFO))
        c->flags |= REACTOR__STREAM_MAY_HAVE_MORE;
}

/* An error was reported, and nothing has come of it: neither bytes nor an end. On Linux that is an
   entry in the socket's error queue, such as a timestamp of something sent, which belongs to the
   user. Where there are no edges it is reported in every turn until the user has taken it, so the
   connection's timer paces that. Without memory for the timer it is reported unpaced. A hang-up
   does not get here again and again: a read finds the end, and who does not read is told once. */
static void reactor__stream_mute(reactor *r, reactor__stream_conn *c, unsigned events) {
    const unsigned ends = REACTOR__STREAM_FAILED | REACTOR__STREAM_BROKEN;
    if (reactor__stream_module_of(r)->edges || (c->flags & ends)) return;
    if (!(events & (unsigned)REACTOR_ERROR) || (events & (unsigned)REACTOR_HANGUP)) return;
    if (reactor__stream_reserve_timer(r, c) < 0) return;
    c->rare |= REACTOR__STREAM_RARE_MUTED;
    reactor__stream_arm(r, c);
}

/* An event that is out of the ordinary, or of a connection that has something to update. */
REACTOR__NOINLINE static void reactor__stream_io_slow(reactor *r, reactor__stream_conn *c,
                                                      unsigned events) {
    r->core.counters.callbacks--; /* an event is none; what it leads to counts itself */
    if (c->flags & REACTOR__STREAM_FAILED) return; /* scheduled, to be finished */
    const uint64_t before = r->core.counters.bytes_in + r->core.counters.bytes_out;
    reactor__stream_note_events(c, events);
    if (!(c->flags & REACTOR__STREAM_OPEN)) return; /* an attached one opens at the turn's end */
    /* What nobody waits for room for leaves at the turn's end, whether or not an edge tells of
       room. */
    if ((c->flags & REACTOR__STREAM_BLOCKED) && c->tail && (events & (unsigned)REACTOR_WRITE)) {
        c->flags &= ~(unsigned)REACTOR__STREAM_BLOCKED;
        reactor__stream_flush(r, c);
    }
    reactor__stream_budget budget = reactor__stream_full_budget(r);
    if ((events & (unsigned)REACTOR_READ) && !(c->flags & REACTOR__STREAM_SCHEDULED))
        reactor__stream_read(r, c, &budget);
    if (events & REACTOR__CORE_INFO) reactor__stream_dead_peer(r, c);
    if (r->core.counters.bytes_in + r->core.counters.bytes_out == before)
        reactor__stream_mute(r, c, events);
    if (!(c->flags & REACTOR__STREAM_SCHEDULED)) reactor__stream_update_within(r, c, &budget);
}

/* The fast path has received an end, an error, or a full buffer, behind which there may be more. */
REACTOR__NOINLINE static void reactor__stream_io_received(reactor *r, reactor__stream_conn *c,
                                                          ssize_t n) {
    r->core.counters.callbacks--; /* see io_slow */
    if (n > 0) {
        c->flags |= REACTOR__STREAM_READABLE;
        reactor__stream_received(r, c, r->io.buffer, (size_t)n);
    } else
        reactor__stream_not_received(c, (int)n);
    reactor__stream_update(r, c);
}

/* on_data has returned on the fast path, and something is not as simple as there. */
REACTOR__NOINLINE static void reactor__stream_io_delivered(reactor *r, reactor__stream_conn *c,
                                                           const char *data, size_t len,
                                                           size_t used) {
    if (used > len) used = len;
    reactor__stream_delivered(r, c, data, len, used);
    if (c->flags & REACTOR__STREAM_NEEDS_UPDATE) reactor__stream_update(r, c);
}

/* The kernel did not take all of the answer of the fast path. */
REACTOR__NOINLINE static void reactor__stream_io_sent(reactor *r, reactor__stream_conn *c,
                                                      ssize_t sent) {
    r->io.current = NULL;
    reactor__stream_uncork_remainder(r, c, sent);
    reactor__stream_update(r, c);
}

/* Whether there is nothing but input, and perhaps room, for an open connection that has nothing to
   update. */
static inline int reactor__stream_is_plain(unsigned flags, unsigned events) {
    return (flags & ~REACTOR__STREAM_FAST_OK) == (unsigned)REACTOR__STREAM_OPEN &&
           (events & ~(unsigned)REACTOR_WRITE) == (unsigned)REACTOR_READ;
}

/* Nearly every event of a busy server is input for a connection that has nothing to update:
   received, shown, and the answer sent, without a detour. What differs from that takes the slow
   path, which does the same by the rules. */
static void reactor__stream_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    reactor__stream_conn *c = (reactor__stream_conn *)user;
    reactor__loop_io_context *io = &r->io;
    (void)fd;
    if (REACTOR__UNLIKELY(!reactor__stream_is_plain(c->flags, events))) {
        reactor__stream_io_slow(r, c, events);
        return;
    }
    const ssize_t n = reactor__stream_receive(r, c, io->buffer, io->size);
    if (REACTOR__UNLIKELY(n <= 0 || (size_t)n == io->size)) {
        reactor__stream_io_received(r, c, n);
        return;
    }
    const size_t used = reactor__stream_deliver(r, c, io->buffer, (size_t)n, 1);
    if (REACTOR__UNLIKELY(used != (size_t)n || (c->flags & REACTOR__STREAM_NEEDS_UPDATE) ||
                          io->corks != 1)) {
        reactor__stream_io_delivered(r, c, io->buffer, (size_t)n, used);
        return;
    }
    const ssize_t sent = reactor__stream_transmit_one(r, c, io->cork);
    if (REACTOR__UNLIKELY(sent != (ssize_t)io->cork[0].iov_len)) {
        reactor__stream_io_sent(r, c, sent);
        return;
    }
    io->corks = 0;
    io->current = NULL;
}

/* ---- batches ----

   Where the backend does many transfers with one call, the reports of a wait come here before
   they are dispatched. Those that take the fast path (see reactor__stream_io) are taken out.
   Their connections are received for with one call, each is shown its input, and the answers are
   sent with one more. Until then nothing else is sent on any of them, nor is one freed, for only
   the connection that is being shown its input is updated. After a stop, what was not shown
   becomes kept input; detach takes its connection out.

   A few connections, and large messages, take the fast path after all: see reactor__stream_pays. */

/* Whether a batch pays in this turn, to judge by the bytes for each event since the last one. Large
   messages do not stay in the cache until they are answered; the fast path answers one before it
   receives the next. One turn of large ones is enough to stop, several of small ones to begin. */
static int reactor__stream_pays(const reactor *r, reactor__stream_batch *b) {
    const reactor_counters *n = &r->core.counters;
    const uint64_t in = n->bytes_in - b->in, out = n->bytes_out - b->out;
    const uint64_t events = n->events - b->events;
    const uint64_t usual = (in > out ? in : out) / (events ? events : 1);
    b->in = n->bytes_in;
    b->out = n->bytes_out;
    b->events = n->events;
    b->usual -= b->usual / 8;
    if (usual > b->usual)
        b->usual = usual > REACTOR__STREAM_LARGE ? 2 * REACTOR__STREAM_LARGE : (uint32_t)usual;
    return b->usual <= REACTOR__STREAM_LARGE;
}

/* The size of a piece of the arena: twice what is usual. Odd multiples of a cache line keep the
   pieces apart there. */
static uint32_t reactor__stream_stride(const reactor__stream_batch *b) {
    const uint32_t line = 64;
    return (2 * b->usual / line | 1) * line + 2 * line;
}

/* Whom to receive for, from the next report on, and where to. What is left for dispatch moves
   up. */
static uint32_t reactor__stream_gather(const reactor *r, reactor__stream_batch *b) {
    const reactor__core_slot *slots = r->core.slots;
    reactor__core_report *at = b->next, *kept = b->kept;
    const reactor__core_report *last = r->core.reports + r->core.report_count;
    const uint32_t stride = reactor__stream_stride(b), most = REACTOR__STREAM_BATCH;
    const size_t buffer = r->options.read_buffer;
    const uint32_t size = stride < buffer ? stride : (uint32_t)buffer;
    const uint32_t fit = REACTOR__STREAM_ARENA / stride;
    reactor__core_transfer *m = b->moves, *end = m + (fit < most ? fit : most);
    char *piece = b->arena;
    for (; at < last && m < end; at++) {
        const reactor__core_slot *slot = &slots[at->index];
        reactor__stream_conn *c = (reactor__stream_conn *)slot->user;
        const int ours = slot->fn == reactor__stream_io && slot->tag == at->tag;
        if (REACTOR__UNLIKELY(!ours || !reactor__stream_is_plain(c->flags, at->events))) {
            *kept++ = *at;
            continue;
        }
        c->flags |= REACTOR__STREAM_BATCHED;
        m->data = piece;
        m->fd = c->fd;
        m->user = c;
        m->len = size;
        m++;
        piece += stride;
    }
    b->next = at;
    b->kept = kept;
    b->size = size;
    return (uint32_t)(m - b->moves);
}

/* Too few for a batch: back to what dispatch gets, as reports of input. */
static void reactor__stream_scatter(reactor__stream_batch *b, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        reactor__stream_conn *c = (reactor__stream_conn *)b->moves[i].user;
        c->flags &= ~(unsigned)REACTOR__STREAM_BATCHED;
        b->kept->events = REACTOR_READ;
        b->kept->index = (uint32_t)c->id;
        b->kept++->tag = (uint32_t)(c->id >> 32);
    }
}

/* Input that cannot be shown now, or an end of it. What filled its piece or was not received at all
   may have left something, which update reads. */
static void reactor__stream_put_by(reactor *r, reactor__stream_conn *c,
                                   const reactor__core_transfer *m) {
    int32_t n = m->result;
    if (n <= 0) {
        reactor__stream_not_received(c, n);
        return;
    }
    if (n == (int32_t)reactor__stream_module_of(r)->batch->size)
        c->flags |= REACTOR__STREAM_READABLE;
    reactor__stream_count_input(r, c, (size_t)n);
    reactor__stream_keep(r, c, m->data, (size_t)n);
    c->flags |= REACTOR__STREAM_REDELIVER;
}

/* Takes one out of the batch that is not to be shown its input in this turn. */
static void reactor__stream_pass_by(reactor *r, reactor__stream_conn *c,
                                    const reactor__core_transfer *m) {
    c->flags &= ~(unsigned)REACTOR__STREAM_BATCHED;
    reactor__stream_put_by(r, c, m);
    reactor__stream_schedule(r, c);
}

/* What the kernel did not take of an answer goes before what has been queued since. */
static void reactor__stream_put_back(reactor *r, reactor__stream_conn *c, const char *data,
                                     size_t len) {
    reactor__stream_node *n = reactor__stream_data_new(reactor__stream_module_of(r), c, NULL, len);
    if (!n) {
        reactor__stream_fail(c, -ENOMEM, REACTOR__STREAM_WITH_RESET);
        return;
    }
    reactor__stream_node *last = c->tail;
    n->len = len;
    memcpy((char *)(n + 1), data, len);
    reactor__stream_push(r, c, n);
    if (last) c->tail = last; /* a ring: the new end is the old one's next, and so the head */
    reactor__stream_account(r, c, len, 0);
}

/* An answer of which the kernel has not taken all. Returns 1 if it was refused and something is
   queued behind it, which gives done callbacks: not yet. */
REACTOR__NOINLINE static int reactor__stream_answer_remainder(reactor *r,
                                                              const reactor__core_transfer *m) {
    const unsigned no = REACTOR__STREAM_FAILED | REACTOR__STREAM_BROKEN;
    reactor__stream_conn *c = (reactor__stream_conn *)m->user;
    int32_t n = m->result;
    if (!m->len || (c->flags & no)) return 0;
    reactor__stream_schedule(r, c);
    if (n >= 0 || n == -EAGAIN) {
        uint32_t sent = n > 0 ? (uint32_t)n : 0;
        c->flags |= REACTOR__STREAM_BLOCKED;
        if (sent) reactor__stream_sent(r, c);
        reactor__stream_put_back(r, c, m->data + sent, m->len - sent);
        return 0;
    }
    if (c->tail) return 1;
    reactor__stream_break(r, c, n);
    return 0;
}

/* Sends an answer by a call of its own; returns as rest does. */
static int reactor__stream_answer_one(reactor *r, reactor__core_transfer *m) {
    reactor__stream_conn *c = (reactor__stream_conn *)m->user;
    reactor__util_piece piece;
    if (!m->len) return 0;
    piece.iov_base = m->data;
    piece.iov_len = m->len;
    m->result = (int32_t)reactor__stream_transmit(r, c, &piece, 1, 0);
    if (m->result != (int32_t)m->len) return reactor__stream_answer_remainder(r, m);
    reactor__stream_sent(r, c);
    return 0;
}

/* Those that were refused with something queued behind them. A done callback may do anything to any
   connection, so it comes when of no other an answer waits. */
REACTOR__NOINLINE static void reactor__stream_answers_refused(reactor *r,
                                                              const reactor__core_transfer *m,
                                                              const reactor__core_transfer *end) {
    for (; m < end; m++) {
        if (!m->len || m->result >= 0 || m->result == -EAGAIN) continue;
        reactor__stream_conn *c = (reactor__stream_conn *)m->user;
        if (!(c->flags & REACTOR__STREAM_FAILED)) reactor__stream_break(r, c, m->result);
    }
}

/* Sends the answers. Those that the backend has not sent, which may have given up transfers by now,
   are sent one by one. */
static void reactor__stream_answer(reactor *r, reactor__stream_batch *b) {
    const reactor__core_transfer *end = b->end;
    const int plain = !r->core.transfer;
    int refused = 0;
    if (!end) return; /* a forked child has let go of it */
    b->end = NULL;
    if (!plain && !r->core.transfer(&r->core, b->moves, (uint32_t)(end - b->moves), 1)) {
        r->core.counters.bytes_out += b->answered;
        return;
    }
    for (reactor__core_transfer *m = b->moves; m < end; m++) {
        if (plain || m->result == -EINTR)
            refused |= reactor__stream_answer_one(r, m);
        else if (m->result == (int32_t)m->len)
            r->core.counters.bytes_out += m->len;
        else
            refused |= reactor__stream_answer_remainder(r, m);
    }
    if (refused) reactor__stream_answers_refused(r, b->moves, end);
}

/* What the batch has of this connection; NULL for nothing. */
static reactor__core_transfer *reactor__stream_batched(const reactor__stream_module *p,
                                                       const reactor__stream_conn *c) {
    reactor__stream_batch *b = p->batch;
    if (!b || !b->end) return NULL;
    for (reactor__core_transfer *m = b->moves; m < b->end; m++)
        if (m->user == c) return m;
    return NULL;
}

/* One that leaves the loop in mid-turn gets its input, and its peer the answer; not with files
   queued, for a call must not lead to done callbacks. */
static void reactor__stream_unbatch(reactor *r, reactor__stream_conn *c) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    reactor__core_transfer *m = reactor__stream_batched(p, c);
    if (!m) return;
    if (c->flags & REACTOR__STREAM_BATCHED) {
        reactor__stream_pass_by(r, c, m);
        m->len = 0;
    } else if (!c->files) {
        if (reactor__stream_answer_one(r, m)) reactor__stream_break(r, c, m->result);
        p->batch->answered -= m->len;
        m->len = 0;
    }
}

/* It was taken out, the loop was stopped, nothing was received, or there may be more, or the
   connection has something to update by now. What filled its piece is shown together with the rest,
   as if the piece had been larger. */
REACTOR__NOINLINE static void reactor__stream_show_slow(reactor *r, const reactor__stream_batch *b,
                                                        const reactor__core_transfer *m) {
    reactor__stream_conn *c = (reactor__stream_conn *)m->user;
    if (!(c->flags & REACTOR__STREAM_BATCHED)) return;
    if (REACTOR__PEEK(&r->core.stop)) {
        reactor__stream_pass_by(r, c, m);
        return;
    }
    c->flags &= ~(unsigned)REACTOR__STREAM_BATCHED;
    if (c->flags & REACTOR__STREAM_FAILED) return; /* scheduled, to be finished */
    reactor__stream_put_by(r, c, m);
    reactor__stream_budget budget = reactor__stream_full_budget(r);
    if (m->result == (int32_t)b->size) reactor__stream_read(r, c, &budget);
    reactor__stream_update_within(r, c, &budget);
}

/* Puts an answer that is not the input itself in the place of the input, to be sent with the
   others. Returns 0 if it is more than one piece, or too long. */
REACTOR__NOINLINE static int reactor__stream_hold_copy(reactor *r, const reactor__stream_batch *b,
                                                       reactor__core_transfer *m) {
    const reactor__util_piece *piece = r->io.cork;
    if (r->io.corks > 1 || (r->io.corks && piece->iov_len > b->size)) return 0;
    if (!r->io.corks) return 1;
    memmove(m->data, piece->iov_base, piece->iov_len);
    m->len = (uint32_t)piece->iov_len;
    return 1;
}

/* Keeps an answer for the call that sends all of them. */
static inline int reactor__stream_hold_answer(reactor *r, reactor__stream_batch *b,
                                              reactor__core_transfer *m) {
    if (REACTOR__LIKELY(r->io.corks == 1 && r->io.cork[0].iov_base == m->data))
        m->len = (uint32_t)r->io.cork[0].iov_len;
    else if (!reactor__stream_hold_copy(r, b, m))
        return 0;
    b->answered += m->len;
    r->io.corks = 0;
    return 1;
}

/* Shows each connection of the batch what was received for it: reactor__stream_io without its
   calls. */
static void reactor__stream_show_batch(reactor *r, reactor__stream_batch *b) {
    const uint32_t most = b->size - 1;
    for (reactor__core_transfer *m = b->moves; m < b->end; m++) {
        reactor__stream_conn *c = (reactor__stream_conn *)m->user;
        m->len = 0;
        if (REACTOR__UNLIKELY((c->flags & REACTOR__STREAM_NEEDS_UPDATE) !=
                                  REACTOR__STREAM_BATCHED ||
                              (uint32_t)m->result - 1 >= most || REACTOR__PEEK(&r->core.stop))) {
            reactor__stream_show_slow(r, b, m);
            continue;
        }
        const size_t n = (uint32_t)m->result;
        c->flags &= ~(unsigned)REACTOR__STREAM_BATCHED;
        reactor__stream_count_input(r, c, n);
        r->core.counters.callbacks++;
        const size_t used = reactor__stream_deliver(r, c, m->data, n, 1);
        if (REACTOR__UNLIKELY(used != n || (c->flags & REACTOR__STREAM_NEEDS_UPDATE) ||
                              !reactor__stream_hold_answer(r, b, m)))
            reactor__stream_io_delivered(r, c, m->data, n, used);
        else
            r->io.current = NULL;
    }
}

/* The memory for batches comes with the first. */
static reactor__stream_batch *reactor__stream_batch_of(reactor__stream_module *p) {
    if (p->batch) return p->batch;
    p->batch = (reactor__stream_batch *)REACTOR_MALLOC(sizeof *p->batch);
    if (p->batch) memset(p->batch, 0, offsetof(reactor__stream_batch, moves)); /* not the arena */
    return p->batch;
}

/* From dispatch, with the reports of a wait. */
static void reactor__stream_before_dispatch(reactor *r) {
    reactor__stream_batch *b = reactor__stream_batch_of(reactor__stream_module_of(r));
    reactor__core *core = &r->core;
    const reactor__core_report *end = core->reports + core->report_count;
    if (!b || !reactor__stream_pays(r, b)) return;
    b->next = b->kept = core->reports;
    while (b->next < end && core->transfer && !REACTOR__PEEK(&core->stop)) {
        uint32_t n = reactor__stream_gather(r, b);
        if (n < REACTOR__CORE_MANY) {
            reactor__stream_scatter(b, n);
            break;
        }
        b->end = b->moves + n;
        b->answered = 0;
        core->transfer(core, b->moves, n, 0);
        reactor__stream_show_batch(r, b);
        reactor__stream_answer(r, b);
    }
    uint32_t taken = (uint32_t)(b->next - b->kept);
    core->report_count -= taken;
    core->counters.events += taken;
    while (b->next < end) *b->kept++ = *b->next++;
}

/* ---- making connections ---- */

/* Told to end when it is not busy. READABLE has the input read that no report has told of yet. */
static void reactor__stream_mark_drained(reactor__stream_conn *c) {
    c->flags |= (unsigned)REACTOR__STREAM_DRAIN | (unsigned)REACTOR__STREAM_READABLE;
}

/* What disables the fast path, for it does not look at that: no on_data, callbacks that are timed,
   limits that one read or one answer could exceed. */
static int reactor__stream_is_special(const reactor *r, const reactor_handler *h,
                                      const reactor_conn_options *o) {
    return !h->on_data || r->options.on_slow || o->max_input < r->options.read_buffer ||
           o->low_water < REACTOR__STREAM_ECHO;
}

/* Counts as active from here on: connecting keeps the loop going, too. */
static reactor__stream_conn *reactor__stream_conn_new(reactor *r, const reactor_handler *h,
                                                      reactor__stream_policy *policy,
                                                      reactor_socket fd, unsigned flags) {
    size_t size =
        h->state_size ? REACTOR__STREAM_HEAD + h->state_size : sizeof(reactor__stream_conn);
    reactor__stream_conn *c = (reactor__stream_conn *)reactor__util_zeroed(size);
    if (!c) return NULL;
    int64_t index = reactor__core_reserve(&r->core, REACTOR__CORE_CONN, reactor__stream_io, c);
    if (index < 0) {
        REACTOR_FREE(c);
        return NULL;
    }
    c->h = h;
    c->room = (uint32_t)h->state_size;
    c->policy = policy;
    policy->refs++;
    c->id = reactor__core_id(&r->core, (uint32_t)index);
    c->fd = fd;
    c->flags = flags;
    if (reactor__stream_is_special(r, h, &policy->o)) c->flags |= REACTOR__STREAM_SPECIAL;
    if (policy->o.coupled > 0) c->flags |= REACTOR__STREAM_COUPLED;
    if (r->draining) reactor__stream_mark_drained(c);
    c->last_in = c->last_out = c->opened = reactor__loop_now(r);
    r->core.active++;
    r->core.counters.connections++;
    return c;
}

/* Undoes conn_new: nobody has heard of it. */
static void reactor__stream_conn_undo(reactor *r, reactor__stream_conn *c) {
    r->core.active--;
    r->core.counters.connections--;
    reactor__core_release(&r->core, (uint32_t)c->id);
    reactor__stream_free(r, c);
}

/* With edges for everything, once and for all; with levels for input, until update has found out
   what is of interest. */
static int reactor__stream_register(reactor *r, reactor__stream_conn *c) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    unsigned wanted = p->edges ? REACTOR__STREAM_EDGES : (unsigned)REACTOR_READ;
    return reactor__core_bind(&r->core, (uint32_t)c->id, c->fd, wanted);
}

static void reactor__stream_fini(reactor *r, reactor__loop_module *module, int child);
static void reactor__stream_turn(reactor *r, reactor__loop_module *module);
static void reactor__stream_dump(const reactor *r, const reactor__loop_module *module,
                                 reactor_line_fn *fn, void *user);

/* A forked child has destroyed its copy in a callback: what the rest of the turn might do to a
   connection is barred by its being at an end already, without a descriptor. Listeners lose theirs,
   too. */
REACTOR__COLD static void reactor__stream_fork_cleanup(reactor *r, reactor__loop_module *module) {
    reactor__stream_batch *b = ((reactor__stream_module *)module)->batch;
    if (b) b->end = NULL;
    reactor__stream_conn *c;
    for (uint32_t at = 0; (c = reactor__stream_each(r, &at)) != NULL;) {
        c->flags |= REACTOR__STREAM_FAILED;
        c->flags &= ~(unsigned)REACTOR__STREAM_BATCHED;
        if (c->flags & REACTOR__STREAM_DIALING) reactor__stream_dial_end(r, c);
        if (c->fd != REACTOR__UTIL_NO_SOCKET) reactor__util_close(c->fd);
        c->fd = REACTOR__UTIL_NO_SOCKET;
    }
    for (reactor__stream_listener *l = reactor__stream_module_of(r)->listeners; l; l = l->next) {
        reactor__net_unlink(&l->bound);
        reactor__util_close(l->bound.fd);
        l->bound.fd = REACTOR__UTIL_NO_SOCKET;
    }
}

/* A forked child makes its copy of the loop its own: paths are removed by either. */
REACTOR__COLD static int reactor__stream_forked(reactor *r, reactor__loop_module *module) {
    (void)module;
    for (reactor__stream_listener *l = reactor__stream_module_of(r)->listeners; l; l = l->next)
        l->bound.pid = reactor__util_pid();
    return 0;
}

/* What only programs with streams pay for: made with the first of them. */
REACTOR__COLD static int reactor__stream_start(reactor *r) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (r->closing || r->draining > REACTOR__LOOP_DRAINING) return -ECANCELED;
    if (p) return 0;
    p = REACTOR__NEW(reactor__stream_module);
    if (!p) return -ENOMEM;
    r->io.buffer = (char *)REACTOR_MALLOC(r->options.read_buffer);
    p->staging = (char *)REACTOR_MALLOC(REACTOR__STREAM_STAGING);
    if (!r->io.buffer || !p->staging) {
        REACTOR_FREE(r->io.buffer);
        REACTOR_FREE(p->staging);
        REACTOR_FREE(p);
        return -ENOMEM;
    }
    if (r->core.transfer) r->core.before_dispatch = reactor__stream_before_dispatch;
    r->io.size = r->options.read_buffer;
    p->module.turn = reactor__stream_turn;
    p->module.fini = reactor__stream_fini;
    p->module.dump = reactor__stream_dump;
    p->module.fork_cleanup = reactor__stream_fork_cleanup;
    p->module.forked = reactor__stream_forked;
    p->pending = &r->pending[REACTOR__LOOP_STREAM];
    p->edges = r->core.backend->traits & (unsigned)REACTOR__CORE_HAS_EDGES;
    r->modules[REACTOR__LOOP_STREAM] = &p->module;
    return 0;
}

/* ---- connecting ----

   Happy Eyeballs, RFC 8305 section 5. Each address that is tried is an attempt, with a
   descriptor and a slot; the first has the connection's slot, so that the usual list of one
   costs nothing more. An attempt that connects becomes the winner; what it needs is done at the
   end of the turn, for until then reports of this wait may come that are of others. All of it is
   driven by the schedule, events of the attempts (dial_io, attempt_io) and the connection's
   timer, never by the call itself. Where the addresses come from only the list knows
   (reactor__resolve_list_next): an answer to a name, or the end of a pause, has the dial ask it
   again. */

/* Connected: from here on it is like any other. */
static void reactor__stream_connected(reactor *r, reactor__stream_conn *c) {
    uint32_t index = (uint32_t)c->id;
    reactor__stream_dial_end(r, c);
    REACTOR_FREE(c->u.dial);
    c->u.input = NULL;
    c->flags &= ~(unsigned)REACTOR__STREAM_DIALING;
    if (c->timer) reactor__timer_cancel(&r->wheel, c->timer);
    c->timer = 0;
    c->flags |= reactor__stream_kind(c->fd);
    reactor__core_at(&r->core, index)->fn = reactor__stream_io;
    if (!reactor__stream_module_of(r)->edges) reactor__core_modify(&r->core, index, REACTOR_READ);
    r->core.counters.connects++;
    reactor__stream_opened(r, c);
}

static void reactor__stream_attempt_io(reactor *r, reactor_socket fd, unsigned events, void *user);

/* NULL without memory, which the first one does not need. */
static reactor__stream_attempt *reactor__stream_attempt_new(reactor *r, reactor__stream_conn *c) {
    reactor__stream_dial *d = c->u.dial;
    reactor__stream_attempt *a = &d->own;
    uint64_t id = c->id;
    if (a->conn) {
        a = REACTOR__NEW(reactor__stream_attempt);
        if (!a) return NULL;
        int64_t index =
            reactor__core_reserve(&r->core, REACTOR__CORE_INTERNAL, reactor__stream_attempt_io, a);
        if (index < 0) {
            REACTOR_FREE(a);
            return NULL;
        }
        id = reactor__core_id(&r->core, (uint32_t)index);
    }
    a->id = id;
    a->conn = c;
    a->fd = REACTOR__UTIL_NO_SOCKET;
    a->pause = 0;
    a->next = d->under_way;
    d->under_way = a;
    return a;
}

/* Takes an attempt off the list of those under way. */
static void reactor__stream_attempt_unlink(reactor__stream_dial *d,
                                           const reactor__stream_attempt *a) {
    reactor__stream_attempt **at = &d->under_way;
    while (*at != a) at = &(*at)->next;
    *at = a->next;
}

/* Gives an attempt up. Deleted in so many words, for the connection's slot lives on, and a
   duplicate of this descriptor in a child must not report to it. */
static void reactor__stream_attempt_end(reactor *r, reactor__stream_attempt *a) {
    reactor__stream_conn *c = a->conn;
    reactor__stream_dial *d = c->u.dial;
    reactor__stream_attempt_unlink(d, a);
    reactor__core_unbind(&r->core, (uint32_t)a->id, 0);
    if (a->fd != REACTOR__UTIL_NO_SOCKET && !a->lent) reactor__util_close(a->fd);
    if (a == &d->own) {
        a->conn = NULL;
        c->fd = REACTOR__UTIL_NO_SOCKET;
        return;
    }
    reactor__core_release(&r->core, (uint32_t)a->id);
    REACTOR_FREE(a);
}

static void reactor__stream_dial_end(reactor *r, const reactor__stream_conn *c) {
    reactor__stream_dial *d = c->u.dial;
    while (d->under_way) reactor__stream_attempt_end(r, d->under_way);
    if (d->list) d->list->drop(r, d->list);
    d->list = NULL;
}

/* What a connecting socket is watched for: room to write means that it is connected. */
static unsigned reactor__stream_dial_interest(const reactor *r) {
    return reactor__stream_module_of(r)->edges ? REACTOR__STREAM_EDGES : (unsigned)REACTOR_WRITE;
}

/* The server's backlog is full, and nothing tells when it is not: it is tried again, after a pause
   that grows from 1 ms to 50. */
static void reactor__stream_attempt_wait(reactor__stream_attempt *a) {
    a->pause = a->pause ? a->pause * 2 : REACTOR__MS;
    if (a->pause > 50 * REACTOR__MS) a->pause = 50 * REACTOR__MS;
    a->retry_at = reactor__util_add(reactor__util_clock(), a->pause);
}

/* Tries its address. Returns 0 if that has failed already, and a is gone. */
static int reactor__stream_attempt_start(reactor *r, reactor__stream_attempt *a) {
    reactor__stream_conn *c = a->conn;
    reactor__stream_dial *d = c->u.dial;
    const reactor__net_address *to = &a->to;
    int e = reactor__net_open(to, d->local, &c->policy->o, &a->fd);
    if (e == -EAGAIN && to->sa.ss_family == AF_UNIX) {
        reactor__stream_attempt_wait(a);
        return 1;
    }
    a->lent = e >= 0 && to->fd != REACTOR__UTIL_NO_SOCKET;
    if (a->lent && reactor__net_lingers(a->fd)) c->rare |= REACTOR__STREAM_RARE_WAITS;
    if (e == 0) d->winner = a;
    if (e >= 0)
        e = reactor__core_bind(&r->core, (uint32_t)a->id, a->fd, reactor__stream_dial_interest(r));
    if (e < 0) {
        d->winner = NULL;
        d->error = e;
        d->next_at = 0;
        reactor__stream_attempt_end(r, a);
        return 0;
    }
    if (a == &d->own) c->fd = a->fd;
    return 1;
}

/* Begins with the next address. Returns 0 if there is none for now, or no memory for it. */
static int reactor__stream_dial_begin(reactor *r, reactor__stream_conn *c, int64_t now) {
    reactor__stream_dial *d = c->u.dial;
    reactor__stream_attempt *a = reactor__stream_attempt_new(r, c);
    if (!a) {
        d->next_at = reactor__util_add(now, d->delay);
        return 0;
    }
    int e = d->list->take(d->list, now, d->delay, &a->to, &d->error, &d->more_at);
    d->more = e >= 0;
    if (e <= 0) {
        reactor__stream_attempt_end(r, a);
        return 0;
    }
    d->more_at = 0;
    d->next_at = reactor__util_add(now, d->delay);
    reactor__stream_attempt_start(r, a);
    return 1;
}

/* Whether the next address is due: nothing is under way, or the last attempt has had its time. */
static int64_t reactor__stream_dial_due(const reactor__stream_dial *d) {
    if (!d->more) return REACTOR__NEVER;
    return d->under_way && d->next_at > d->more_at ? d->next_at : d->more_at;
}

/* The list has been told an address, or that there is none. */
static void reactor__stream_dial_answered(reactor *r, void *user) {
    reactor__stream_conn *c = (reactor__stream_conn *)user;
    c->u.dial->more_at = 0;
    reactor__stream_schedule(r, c);
}

/* Those that wait for a backlog, and whose pause is over. */
REACTOR__COLD static void reactor__stream_dial_retry(reactor *r, const reactor__stream_dial *d,
                                                     int64_t now) {
    reactor__stream_attempt *next;
    for (reactor__stream_attempt *a = d->under_way; a && !d->winner; a = next) {
        next = a->next;
        if (a->fd == REACTOR__UTIL_NO_SOCKET && a->retry_at <= now)
            reactor__stream_attempt_start(r, a);
    }
}

/* The winner gets the connection's slot. If that fails, which takes a lack of memory, it has not
   won, and the rest of the list is tried. */
static void reactor__stream_dial_won(reactor *r, reactor__stream_conn *c) {
    reactor__stream_dial *d = c->u.dial;
    reactor__stream_attempt *a = d->winner;
    int e = 0;
    d->winner = NULL;
    if (a == &d->own) {
        reactor__stream_attempt_unlink(d, a);
        reactor__net_keep(&c->peer, &a->to);
        reactor__stream_connected(r, c);
        return;
    }
    if (d->own.conn) reactor__stream_attempt_end(r, &d->own);
    reactor__core_unbind(&r->core, (uint32_t)a->id, 0);
    e = reactor__core_bind(&r->core, (uint32_t)c->id, a->fd, reactor__stream_dial_interest(r));
    if (e == 0) {
        c->fd = a->fd;
        a->fd = REACTOR__UTIL_NO_SOCKET;
        reactor__net_keep(&c->peer, &a->to);
        reactor__stream_connected(r, c);
        return;
    }
    d->error = e;
    d->next_at = 0;
    reactor__stream_attempt_end(r, a);
    reactor__stream_schedule(r, c);
}

static void reactor__stream_dial_tick(reactor *r, reactor_timer t, void *user);

/* The timer: the end of all, the next address, or the next try at a full backlog. */
static int reactor__stream_dial_arm(reactor *r, reactor__stream_conn *c) {
    const reactor__stream_dial *d = c->u.dial;
    int64_t at = d->deadline, due = reactor__stream_dial_due(d);
    if (due < at) at = due;
    for (const reactor__stream_attempt *a = d->under_way; a; a = a->next)
        if (a->fd == REACTOR__UTIL_NO_SOCKET && a->retry_at < at) at = a->retry_at;
    if (c->timer) return reactor__timer_reset(&r->wheel, c->timer, at);
    return reactor__timer_set(&r->wheel, at, 0, reactor__stream_dial_tick, c, REACTOR__STREAM_TIMER,
                              &c->timer);
}

/* Does what is due: whatever has changed. With nothing under way and nothing left to try, the last
   error is the reason of the end. */
static void reactor__stream_dial_go(reactor *r, reactor__stream_conn *c) {
    reactor__stream_dial *d = c->u.dial;
    int64_t now = reactor__util_clock();
    int e = now >= d->deadline && !d->winner ? -ETIMEDOUT : 0;
    if (e == 0) {
        reactor__stream_dial_retry(r, d, now);
        while (!d->winner && reactor__stream_dial_due(d) <= now)
            if (!reactor__stream_dial_begin(r, c, now)) break;
        if (d->winner) {
            reactor__stream_dial_won(r, c);
            return;
        }
        e = d->under_way || d->more ? reactor__stream_dial_arm(r, c) : d->error;
    }
    if (e < 0) {
        reactor__stream_fail(c, e, REACTOR__STREAM_PLAINLY);
        reactor__stream_finish(r, c, 0);
    }
}

static void reactor__stream_dial_tick(reactor *r, reactor_timer t, void *user) {
    reactor__stream_conn *c = (reactor__stream_conn *)user;
    (void)t;
    c->timer = 0;
    if (c->flags & REACTOR__STREAM_FAILED) return; /* scheduled, to be finished */
    reactor__stream_dial_go(r, c);
}

/* Whatever is reported, SO_ERROR tells the outcome. Input may have come with it: see
   note_events. What
   follows, but for the usual case, is for the end of the turn. */
static void reactor__stream_attempt_event(reactor *r, reactor__stream_attempt *a, unsigned events) {
    reactor__stream_conn *c = a->conn;
    r->core.counters.callbacks--;                          /* see io_slow */
    if (!c || (c->flags & REACTOR__STREAM_FAILED)) return; /* scheduled, to be finished */
    reactor__stream_dial *d = c->u.dial;
    if (d->winner) return;
    int e = reactor__net_error(a->fd);
    if (e == 0) {
        d->winner = a;
        if (a == &d->own) {
            reactor__stream_note_events(c, events);
            reactor__stream_dial_won(r, c);
            return;
        }
    } else {
        d->error = e;
        d->next_at = 0;
        reactor__stream_attempt_end(r, a);
    }
    reactor__stream_schedule(r, c);
}

static void reactor__stream_attempt_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    (void)fd;
    reactor__stream_attempt_event(r, (reactor__stream_attempt *)user, events);
}

static void reactor__stream_dial_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    const reactor__stream_conn *c = (reactor__stream_conn *)user;
    (void)fd;
    reactor__stream_attempt_event(r, &c->u.dial->own, events);
}

/* What its turn in the schedule does to one that is connecting. close before it is open waits
   only for what was written to be sent. */
static void reactor__stream_dial_step(reactor *r, reactor__stream_conn *c) {
    if (c->flags & REACTOR__STREAM_FAILED || ((c->flags & REACTOR__STREAM_CLOSING) && !c->tail))
        reactor__stream_finish(r, c, 0);
    else
        reactor__stream_dial_go(r, c);
}

/* The text of local is copied, for it is read again at each attempt, long after the call. */
static reactor__stream_dial *reactor__stream_dial_new(const reactor_connect_options *o) {
    const size_t size = o->local ? strlen(o->local) + 1 : 0;
    reactor__stream_dial *d = (reactor__stream_dial *)reactor__util_zeroed(sizeof *d + size);
    if (!d) return NULL;
    if (o->local) d->local = (char *)memcpy(d + 1, o->local, size);
    d->more = 1;
    d->error = -ENOTCONN;
    d->deadline = reactor__util_add(reactor__util_clock(),
                                    reactor__util_ms(o->timeout_ms ? o->timeout_ms : 30000));
    d->delay = reactor__util_ms(o->attempt_delay_ms ? o->attempt_delay_ms : 250);
    return d;
}

REACTOR_API int reactor_connect(reactor *r, const char *addresses, const reactor_handler *h,
                                const reactor_connect_options *o, reactor_conn *out) {
    reactor__stream_policy *policy = NULL;
    reactor__net_address a;
    if (out) out->id = 0;
    reactor_connect_options none;
    memset(&none, 0, sizeof none);
    if (!o) o = &none;
    if (!r || !addresses || !h || h->state_size > REACTOR__STREAM_STATE_MAX) return -EINVAL;
    if (o->timeout_ms < 0 || o->attempt_delay_ms < 0) return -EINVAL;
    int e = reactor__resolve_check(addresses);
    if (e > 0) e = o->local ? reactor__net_parse(o->local, strlen(o->local), 1, &a) : 0;
    if (e == 0) e = reactor__stream_start(r);
    if (e == 0) e = reactor__stream_policy_new(&o->conn, -1, &policy);
    if (e != 0) return e;
    reactor__stream_dial *d = reactor__stream_dial_new(o);
    e = d ? reactor__resolve_list_new(r, addresses, &d->list) : -ENOMEM;
    reactor__stream_conn *c = e < 0
                                  ? NULL
                                  : reactor__stream_conn_new(r, h, policy, REACTOR__UTIL_NO_SOCKET,
                                                             REACTOR__STREAM_DIALING);
    reactor__stream_policy_drop(policy);
    if (!c) {
        if (d && d->list) d->list->drop(r, d->list);
        REACTOR_FREE(d);
        return e < 0 ? e : -ENOMEM;
    }
    d->list->asker.answered = reactor__stream_dial_answered;
    d->list->asker.user = c;
    c->u.dial = d;
    reactor__core_at(&r->core, (uint32_t)c->id)->fn = reactor__stream_dial_io;
    if (out) out->id = c->id;
    reactor__stream_schedule(r, c);
    return 0;
}

/* A pipe goes one way: its other direction has ended from the start. */
static unsigned reactor__stream_pipe_flags(reactor_socket fd) {
    unsigned ways = reactor__net_ways(fd), flags = REACTOR__STREAM_PIPE;
    if (!(ways & (unsigned)REACTOR_READ))
        flags |= REACTOR__STREAM_ENDED | REACTOR__STREAM_EOF_DELIVERED;
    if (!(ways & (unsigned)REACTOR_WRITE)) flags |= REACTOR__STREAM_SHUT | REACTOR__STREAM_FIN;
    return flags;
}

/* What the end of an attached socket needs to know of it. */
static void reactor__stream_attach_socket(reactor__stream_conn *c,
                                          const reactor__net_address *peer) {
    if (reactor__net_lingers(c->fd)) c->rare |= REACTOR__STREAM_RARE_WAITS;
    reactor__net_keep(&c->peer, peer);
}

REACTOR_API int reactor_attach(reactor *r, reactor_socket fd, const reactor_handler *h,
                               const reactor_conn_options *o, reactor_conn *out) {
    reactor__stream_policy *policy = NULL;
    reactor__net_address peer;
    if (out) out->id = 0;
    if (!r || !h || h->state_size > REACTOR__STREAM_STATE_MAX) return -EINVAL;
    int kind = reactor__net_kind(fd, &peer);
    if (kind < 0) return kind;
    if (reactor__core_find(&r->core, fd) != REACTOR__NONE) return -EEXIST;
    int e = reactor__stream_start(r);
    if (e == 0) e = reactor__stream_policy_new(o, 1, &policy);
    if (e < 0) return e;
    unsigned flags = 0;
    if (kind != REACTOR__NET_SOCKET) flags |= reactor__stream_pipe_flags(fd);
    flags |= kind == REACTOR__NET_SOCKET ? reactor__stream_kind(fd)
                                         : (unsigned)REACTOR__STREAM_READ_TO_EAGAIN;
    reactor__stream_conn *c = reactor__stream_conn_new(r, h, policy, fd, flags);
    reactor__stream_policy_drop(policy);
    if (!c) return -ENOMEM;
    if (flags & REACTOR__STREAM_ENDED) c->rare |= REACTOR__STREAM_RARE_WRITE_ONLY;
    if (kind == REACTOR__NET_PIPE &&
        !(flags & (unsigned)(REACTOR__STREAM_ENDED | REACTOR__STREAM_SHUT)))
        c->rare |= (unsigned)REACTOR__STREAM_RARE_DUPLEX;
    /* What changes the caller's descriptor comes last: most failures leave it as it was. A
       terminal's open file cannot be another's once it is registered. */
    if (kind == REACTOR__NET_TERMINAL && reactor__net_reopen(fd))
        c->rare |= (unsigned)REACTOR__STREAM_RARE_REOPENED;
    e = reactor__stream_register(r, c);
    if (e == 0 && kind == REACTOR__NET_SOCKET) e = reactor__net_tune(fd, &c->policy->o);
    if (e == 0) e = reactor__util_cloexec(fd);
    if (e == 0 && kind != REACTOR__NET_SOCKET && reactor__net_blocks(fd))
        c->rare |= (unsigned)REACTOR__STREAM_RARE_BLOCKING;
    if (e == 0) e = reactor__util_nonblock(fd);
    if (e == 0 && kind != REACTOR__NET_SOCKET) reactor__net_mute(fd);
    if (e < 0) {
        reactor__core_unbind(&r->core, (uint32_t)c->id, 0);
        if (kind != REACTOR__NET_SOCKET) reactor__stream_unblock(r, c, fd);
        reactor__stream_conn_undo(r, c);
        return e;
    }
    if (kind == REACTOR__NET_SOCKET) reactor__stream_attach_socket(c, &peer);
    if (out) out->id = c->id;
    reactor__stream_schedule(r, c);
    return 0;
}

#ifndef REACTOR_NO_CHILDREN
/* Takes back what was attached since the last callback, and closes it: nobody has heard of it. */
static void reactor__stream_unattach(reactor *r, reactor_conn conn) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    reactor__core_slot *slot = reactor__core_resolve(&r->core, conn.id, REACTOR__CORE_CONN);
    reactor__stream_conn *c = (reactor__stream_conn *)slot->user, *before = NULL;
    const reactor_socket fd = c->fd;
    for (reactor__stream_conn *at = p->scheduled_head; at != c; at = at->scheduled_next)
        before = at;
    if (before)
        before->scheduled_next = c->scheduled_next;
    else
        p->scheduled_head = c->scheduled_next;
    if (p->scheduled_tail == c) p->scheduled_tail = before;
    reactor__core_unbind(&r->core, (uint32_t)c->id, 0);
    reactor__stream_conn_undo(r, c);
    reactor__util_close(fd);
}
#endif

/* ---- listening ----

   A listener is a level on every backend. It accepts while stopped is 0, and else its interest
   is 0: the peers wait in the backlog, and nothing spins. The reasons come and go one by one:

        BY_USER   set    reactor_listener_pause         cleared  reactor_listener_resume, drain_listener
        FULL      set    accept_connection              cleared  release_slot
        STARVED   set    starve: no descriptor, no memory, or every accept failed
                                                        cleared  release_slot, retry
        VAIN      set    starve: in_vain, accept_some (EINVAL, by a shutdown elsewhere)
                                                        cleared  retry

   A drain (reactor_drain) accepts whoever waits, without an event: drain_listener begins it,
   leave_listeners goes on in every turn, and frees the listener when nobody waits. With others
   on its port (shared) it is warded first: until open_until new peers are turned to those, and
   the handshakes under way may end. A drained listener that is stopped waits until it is not. */

/* What always holds of a listener. */
static void reactor__stream_check_listener(const reactor *r, const reactor__stream_listener *l) {
    REACTOR__CHECK(*l->at == l);
    REACTOR__CHECK(l->timer != 0);
    REACTOR__CHECK(l->count >= 0);
    REACTOR__CHECK(!(l->stopped & REACTOR__STREAM_FULL) || l->max);
    REACTOR__CHECK(!(l->stopped & REACTOR__STREAM_STARVED) ||
                   reactor__stream_module_of(r)->starved_count > 0);
    REACTOR__CHECK(!l->warded || r->draining);
    REACTOR__CHECK(!l->open_until || l->warded);
    (void)r, (void)l;
}

REACTOR__NOINLINE static reactor__stream_listener *reactor__stream_listener_of(const reactor *r,
                                                                               uint64_t id) {
    reactor__core_slot *slot = reactor__core_resolve(&r->core, id, REACTOR__CORE_LISTENER);
    return slot ? (reactor__stream_listener *)slot->user : NULL;
}

/* One more, or one less, reason not to accept. */
REACTOR__COLD static void reactor__stream_stop_listener(reactor *r, reactor__stream_listener *l,
                                                        unsigned why, int on) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    unsigned before = l->stopped;
    reactor__stream_check_listener(r, l);
    l->stopped = on ? before | why : before & ~why;
    if ((before ^ l->stopped) & REACTOR__STREAM_STARVED) p->starved_count += on ? 1 : -1;
    if (!before == !l->stopped) return;
    reactor__core_modify(&r->core, (uint32_t)l->id, l->stopped ? 0 : (unsigned)REACTOR_READ);
    if (r->draining) REACTOR__STORE(&r->pending[REACTOR__LOOP_STREAM], 1); /* see leave_listeners */
}

REACTOR__COLD /* The listener's timer: the end of a pause, or of the time in which it was warded. */
    static void
    reactor__stream_retry(reactor *r, reactor_timer t, void *user) {
    reactor__stream_listener *l = (reactor__stream_listener *)user;
    uint64_t id = 0;
    (void)t;
    /* The timer that has just been freed is there to be had again. */
    reactor__timer_set(&r->wheel, REACTOR__NEVER, 0, reactor__stream_retry, l,
                       REACTOR__STREAM_TIMER, &id);
    l->timer = id;
    l->open_until = 0;
    if (r->draining) REACTOR__STORE(&r->pending[REACTOR__LOOP_STREAM], 1);
    reactor__stream_stop_listener(r, l, REACTOR__STREAM_STARVED | REACTOR__STREAM_VAIN, 0);
}

/* No descriptor or no memory for another connection: those there are go on, new ones wait in the
   backlog until one of ours closes, or a moment has passed, for it may be somebody else's that
   does. Accepting on and on would spin. So it would where there is nobody to accept (VAIN). */
REACTOR__COLD static void reactor__stream_starve(reactor *r, reactor__stream_listener *l,
                                                 unsigned why) {
    r->core.counters.accept_pauses++;
    reactor__timer_reset(
        &r->wheel, l->timer,
        reactor__util_add(reactor__util_clock(), reactor__util_ms(REACTOR__STREAM_RETRY_MS)));
    l->vain = 0;
    reactor__stream_stop_listener(r, l, why, 1);
}

/* It was reported, and nobody waits any more. As a rule another process that shares it was
   faster, which passes. A socket that another holder has shut down is reported for ever, as a
   hang-up; whatever else is reported again and again is no better. */
static void reactor__stream_in_vain(reactor *r, reactor__stream_listener *l, unsigned events) {
    if (l->vain >= ((events & (unsigned)REACTOR_HANGUP) ? 1 : REACTOR__STREAM_MOST_VAIN))
        reactor__stream_starve(r, l, REACTOR__STREAM_VAIN);
}

/* A connection has gone: there is room for another. */
static void reactor__stream_release_slot(reactor *r, reactor__stream_policy *policy) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    reactor__stream_listener *l = reactor__stream_listener_of(r, policy->listener);
    if (l && policy->listener) {
        l->count--;
        reactor__stream_stop_listener(r, l, REACTOR__STREAM_FULL, 0);
    }
    if (!p->starved_count) return;
    for (l = p->listeners; l; l = l->next)
        reactor__stream_stop_listener(r, l, REACTOR__STREAM_STARVED, 0);
}

/* The callback comes last: it may close or pause the listener. */
static int reactor__stream_hand_out(reactor *r, reactor__stream_listener *l, reactor_socket fd,
                                    const reactor__net_address *from) {
    char peer[REACTOR_ADDRESS_MAX];
    reactor_listener handle;
    handle.id = l->id;
    if (reactor__net_format((const struct sockaddr *)&from->sa, from->len, peer, sizeof peer) < 0)
        peer[0] = 0;
    r->core.counters.accepts++;
    if (r->draining) l->left--;
    reactor__loop_call_accept(r, l->fn, handle, fd, peer, l->user);
    return 0;
}

/* opened comes last: on_open may close or pause the listener. Of a failure the caller closes fd. */
static int reactor__stream_accept_connection(reactor *r, reactor__stream_listener *l,
                                             reactor_socket fd, const reactor__net_address *from) {
    if (l->fn) return reactor__stream_hand_out(r, l, fd, from);
    reactor__stream_conn *c = reactor__stream_conn_new(r, l->h, l->policy, fd, l->flags);
    if (!c) return -ENOMEM;
    reactor__net_keep(&c->peer, from);
    int e = reactor__stream_register(r, c);
    if (e < 0) {
        reactor__stream_conn_undo(r, c);
        return e;
    }
    if (l->bound.lingers) c->rare |= REACTOR__STREAM_RARE_WAITS;
    r->core.counters.accepts++;
    l->count++;
    if (r->draining) l->left--;
    if (l->max && l->count >= l->max) reactor__stream_stop_listener(r, l, REACTOR__STREAM_FULL, 1);
    reactor__stream_opened(r, c);
    return 0;
}

/* accept(2): what goes wrong with one connection, or is reported late by the network, concerns
   that one only; a filter's EPERM too, as long as it does not meet them all. */
static int reactor__stream_is_passing(int e) {
    switch (-e) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM:
        return 1;
    default:
        return 0;
    }
}

/* Accepts as many as the budget allows. Returns 0 when nobody waits, 1 if somebody may, -errno. */
static int reactor__stream_accept_some(reactor *r, reactor__stream_listener *l) {
    reactor__net_address from;
    uint64_t id = l->id;
    int failed = 0, most = r->options.accept_budget;
    for (int n = 0; n < most && !REACTOR__PEEK(&r->core.stop); n++) {
        int64_t made = reactor__net_accept(l->bound.fd, &l->policy->o, &from);
        l->vain = n == 0 && (made == -EAGAIN || made == -EWOULDBLOCK) ? l->vain + 1 : 0;
        if (made == -EAGAIN || made == -EWOULDBLOCK) return 0;
        if (made < 0 && reactor__stream_is_passing((int)made)) {
            failed++;
            continue;
        }
        int e = made < 0 ? (int)made
                         : reactor__stream_accept_connection(r, l, (reactor_socket)made, &from);
        if (e < 0) {
            if (made >= 0) reactor__util_close((reactor_socket)made);
            reactor__stream_starve(r, l,
                                   e == -EINVAL ? REACTOR__STREAM_VAIN : REACTOR__STREAM_STARVED);
            return e;
        }
        /* on_open may have closed or paused it */
        if (reactor__stream_listener_of(r, id) != l || l->stopped) return 1;
    }
    if (failed == most) reactor__stream_starve(r, l, REACTOR__STREAM_STARVED); /* as if for ever */
    return 1;
}

static void reactor__stream_accept(reactor *r, reactor_socket fd, unsigned events, void *user) {
    reactor__stream_listener *l = (reactor__stream_listener *)user;
    (void)fd;
    r->core.counters.callbacks--; /* see io_slow */
    if (reactor__stream_accept_some(r, l) == 0) reactor__stream_in_vain(r, l, events);
}

/* The connections live on, and with them their policy. The path is removed while fd still holds its
   inode. Deleted from the backend in so many words, for a process forked since may hold the socket
   open; but a child must not, to whom the backend is its parent's as well. */
REACTOR__COLD static void reactor__stream_listener_free(reactor *r, reactor__stream_listener *l,
                                                        int child) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    if (l->stopped & REACTOR__STREAM_STARVED) p->starved_count--;
    if (!(l->stopped & REACTOR__STREAM_BY_USER)) r->core.active--;
    reactor__timer_cancel(&r->wheel, l->timer);
    *l->at = l->next;
    if (l->next) l->next->at = l->at;
    if (l->warded && !child) (void)reactor__net_sys_drop_syn(l->bound.fd, 0);
    reactor__core_unbind(&r->core, (uint32_t)l->id, child);
    reactor__core_release(&r->core, (uint32_t)l->id);
    reactor__net_unlink(&l->bound);
    if (l->bound.fd != REACTOR__UTIL_NO_SOCKET) reactor__util_close(l->bound.fd);
    reactor__stream_policy_drop(l->policy);
    r->core.counters.listeners--;
    REACTOR_FREE(l);
}

REACTOR__COLD /* Closes all listeners. */
    static void
    reactor__stream_listeners_free(reactor *r, reactor__stream_module *p, int child) {
    reactor__stream_listener *next;
    for (reactor__stream_listener *l = p->listeners; l; l = next) {
        next = l->next;
        reactor__stream_listener_free(r, l, child);
    }
}

/* Makes everything but the socket; one that was handed over is changed last. */
REACTOR__COLD static int reactor__stream_listener_prepare(reactor *r, reactor__stream_listener *l,
                                                          const reactor_conn_options *o) {
    int64_t index =
        reactor__core_reserve(&r->core, REACTOR__CORE_LISTENER, reactor__stream_accept, l);
    if (index < 0) return (int)index;
    l->id = reactor__core_id(&r->core, (uint32_t)index);
    int e = reactor__timer_set(&r->wheel, REACTOR__NEVER, 0, reactor__stream_retry, l,
                               REACTOR__STREAM_TIMER, &l->timer);
    if (e == 0) e = reactor__core_bind(&r->core, (uint32_t)index, l->bound.fd, REACTOR_READ);
    if (e == 0 && l->bound.given) e = reactor__net_own(l->bound.fd, o);
    if (e == 0) return 0;
    reactor__core_unbind(&r->core, (uint32_t)index, 0);
    if (l->timer) reactor__timer_cancel(&r->wheel, l->timer);
    reactor__core_release(&r->core, (uint32_t)index);
    return e;
}

REACTOR__COLD /* Opens the socket and puts the listener into the list. After an error nothing is left of either. */
    static int
    reactor__stream_listen(reactor *r, const char *address, const reactor_listen_options *o,
                           reactor__stream_listener *l) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    int e = reactor__net_listen(address, o, &l->bound);
    if (e < 0) return e;
    e = reactor__stream_listener_prepare(r, l, &o->conn);
    if (e < 0) {
        reactor__net_unlink(&l->bound);
        if (!l->bound.given) reactor__util_close(l->bound.fd); /* else it is still the caller's */
        return e;
    }
    l->flags |= reactor__stream_kind(l->bound.fd);
    l->policy->listener = l->id;
    l->next = p->listeners;
    l->at = &p->listeners;
    if (l->next) l->next->at = &l->next;
    p->listeners = l;
    r->core.active++;
    r->core.counters.listeners++;
    return 0;
}

static int reactor__stream_new_listener(reactor *r, const char *address,
                                        const reactor__stream_listener *kind,
                                        const reactor_listen_options *o, reactor_listener *out) {
    reactor_listen_options none;
    if (o && (o->backlog < 0 || o->max_connections < 0)) return -EINVAL;
    memset(&none, 0, sizeof none);
    if (!o) o = &none;
    int e = r->draining ? -ECANCELED : reactor__stream_start(r);
    if (e < 0) return e;
    reactor__stream_listener *l = REACTOR__NEW(reactor__stream_listener);
    if (!l) return -ENOMEM;
    *l = *kind;
    l->max = o->max_connections;
    l->left = REACTOR__STREAM_WAITING;
    l->shared = o->reuse_port;
    if (o->backlog && o->backlog < l->left / 2) l->left = 2 * o->backlog;
    e = reactor__stream_policy_new(&o->conn, 1, &l->policy);
    if (e == 0) {
        e = reactor__stream_listen(r, address, o, l);
        if (e < 0) reactor__stream_policy_drop(l->policy);
    }
    if (e < 0) {
        REACTOR_FREE(l);
        return e;
    }
    if (out) out->id = l->id;
    return 0;
}

REACTOR__COLD REACTOR_API int reactor_listen(reactor *r, const char *address,
                                             const reactor_handler *h,
                                             const reactor_listen_options *o,
                                             reactor_listener *out) {
    reactor__stream_listener kind;
    if (out) out->id = 0;
    if (!r || !address || !h || h->state_size > REACTOR__STREAM_STATE_MAX) return -EINVAL;
    memset(&kind, 0, sizeof kind);
    kind.h = h;
    return reactor__stream_new_listener(r, address, &kind, o, out);
}

REACTOR_API int reactor_accept(reactor *r, const char *address, reactor_accept_fn *fn, void *user,
                               const reactor_listen_options *o, reactor_listener *out) {
    reactor__stream_listener kind;
    if (out) out->id = 0;
    if (!r || !address || !fn || (o && o->max_connections)) return -EINVAL;
    memset(&kind, 0, sizeof kind);
    kind.fn = fn;
    kind.user = user;
    return reactor__stream_new_listener(r, address, &kind, o, out);
}

/* Counts as active unless it is paused by the user; FULL and STARVED pass by themselves. */
static int reactor__stream_pause_listener(reactor *r, reactor_listener handle, int on) {
    if (!r) return -EINVAL;
    reactor__stream_listener *l = reactor__stream_listener_of(r, handle.id);
    if (!l) return -EBADF;
    if (r->draining) {
        if (on) reactor__stream_listener_free(r, l, 0);
        return 0;
    }
    int was = (l->stopped & REACTOR__STREAM_BY_USER) != 0;
    r->core.active += (uint32_t)was - (uint32_t)on;
    reactor__stream_stop_listener(r, l, REACTOR__STREAM_BY_USER, on);
    return 0;
}

REACTOR__COLD REACTOR_API int reactor_listener_pause(reactor *r, reactor_listener l) {
    return reactor__stream_pause_listener(r, l, 1);
}
REACTOR__COLD REACTOR_API int reactor_listener_resume(reactor *r, reactor_listener l) {
    return reactor__stream_pause_listener(r, l, 0);
}

REACTOR__COLD REACTOR_API int reactor_listener_close(reactor *r, reactor_listener handle) {
    if (!r) return -EINVAL;
    reactor__stream_listener *l = reactor__stream_listener_of(r, handle.id);
    if (l) reactor__stream_listener_free(r, l, 0);
    return 0;
}

REACTOR_API reactor_socket reactor_listener_socket(const reactor *r, reactor_listener handle) {
    reactor__stream_listener *l = r ? reactor__stream_listener_of(r, handle.id) : NULL;
    return l ? l->bound.fd : REACTOR__UTIL_NO_SOCKET;
}

REACTOR__COLD REACTOR_API int reactor_listener_address(const reactor *r, reactor_listener handle,
                                                       char *out, size_t size) {
    if (!r || !out) return -EINVAL;
    reactor__stream_listener *l = reactor__stream_listener_of(r, handle.id);
    return l ? reactor__net_name(l->bound.fd, 0, out, size) : -EBADF;
}

/* ---- writing ----

   Each write asks admit, then is corked (its own callback's) or queued, and returns verdict's
   answer. All or nothing: what may fail comes before anything has changed. */

/* The connection of a handle; NULL if the handle is stale. */
static reactor__stream_conn *reactor__stream_find(const reactor *r, reactor_conn handle) {
    reactor__core_slot *slot = reactor__core_resolve(&r->core, handle.id, REACTOR__CORE_CONN);
    return slot ? (reactor__stream_conn *)slot->user : NULL;
}

/* A connection that something may still be asked of. */
static int reactor__stream_live(const reactor *r, reactor_conn handle, reactor__stream_conn **out) {
    if (!r) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    *out = reactor__stream_find(r, handle);
    if (!*out || ((*out)->flags & REACTOR__STREAM_GONE)) return -EBADF;
    return 0;
}

/* Whether len more bytes stay within max_output. What was put back of an answer may have led
   above. */
static int reactor__stream_has_room(const reactor *r, const reactor__stream_conn *c, size_t len) {
    const size_t load = reactor__stream_pending_bytes(r, c), most = c->policy->o.max_output;
    return load <= most && len <= most - load;
}

/* A relay writes what it reads to another connection, whose output would leave at the turn's
   end. So that the input of one turn does not exceed a small max_output, what is queued there is
   sent as soon as it is full. Not with files queued, for a call must not lead to done callbacks,
   nor before an answer that waits for its batch. */
static void reactor__stream_send_early(reactor *r, reactor__stream_conn *c) {
    const unsigned no = REACTOR__STREAM_BLOCKED | REACTOR__STREAM_FAILED | REACTOR__STREAM_BROKEN;
    if (!r->io.current || r->io.current == c || !c->tail || c->files) return;
    if (!(c->flags & REACTOR__STREAM_OPEN) || (c->flags & no)) return;
    if (reactor__stream_batched(reactor__stream_module_of(r), c)) return;
    reactor__stream_flush(r, c);
}

/* Whether len more bytes may be written now. What can never fit is owed nothing. */
static int reactor__stream_check_write(reactor *r, reactor_conn handle, size_t len,
                                       reactor__stream_conn **out) {
    int e = reactor__stream_live(r, handle, out);
    if (REACTOR__UNLIKELY(e < 0)) return e;
    reactor__stream_conn *c = *out;
    if (c->flags & (REACTOR__STREAM_SHUT | REACTOR__STREAM_BROKEN)) return -EPIPE;
    if (REACTOR__LIKELY(reactor__stream_has_room(r, c, len))) return 0;
    const size_t most = c->policy->o.max_output;
    if (len > most) return -EMSGSIZE;
    reactor__stream_send_early(r, c);
    if (c->flags & REACTOR__STREAM_BROKEN) return -EPIPE;
    return reactor__stream_has_room(r, c, len) ? 0 : reactor__stream_refuse(r, c, most - len);
}

/* Everything from here on goes to the queue, behind what is corked. */
static int reactor__stream_to_queue(reactor *r, reactor__stream_conn *c) {
    if (r->io.current == c) return reactor__stream_spill(r, c, 0);
    reactor__stream_schedule(r, c);
    return 0;
}

/* Copies to the end of a piece that has room for it. */
static void reactor__stream_fill(reactor__stream_node *n, const char *data, size_t len) {
    if (len) memcpy((char *)(n + 1) + (n->data - (const char *)(n + 1)) + n->len, data, len);
    n->len += len;
}

/* Copies to the queue's end: what fits into its last piece, and one new piece for the rest, which
   is made first so that without memory nothing has changed. len is that of all. */
static int reactor__stream_append(reactor *r, reactor__stream_conn *c, const reactor_iovec *v,
                                  int count, size_t len) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    reactor__stream_node *last = c->tail, *n = NULL;
    size_t room = 0;
    if (!len) return 0;
    if (last && last->kind == REACTOR__STREAM_DATA)
        room = last->size - (size_t)(last->data - (const char *)(last + 1)) - last->len;
    if (room < len) {
        if (!reactor__stream_fits(c, len - room)) return reactor__stream_refuse_piece(r, c);
        n = reactor__stream_data_new(p, c, last, len - room);
        if (!n) return -ENOMEM;
    }
    for (int i = 0; i < count; i++) {
        const char *data = (const char *)v[i].data;
        size_t part = v[i].len < room ? v[i].len : room;
        if (part) reactor__stream_fill(last, data, part);
        if (v[i].len > part) reactor__stream_fill(n, data + part, v[i].len - part);
        room -= part;
    }
    if (n) reactor__stream_push(r, c, n);
    reactor__stream_account(r, c, len, 0);
    return 0;
}

/* Copies one piece to the queue's end. */
static int reactor__stream_append_one(reactor *r, reactor__stream_conn *c, const void *data,
                                      size_t len) {
    reactor_iovec v;
    v.data = data;
    v.len = len;
    return reactor__stream_append(r, c, &v, 1, len);
}

/* Whether a write is the first of a callback, of a connection that has nothing to update. Then
   it is known what the slow path would say: nothing is queued or corked, and so short an answer
   is below every mark, see is_special. */
static inline int reactor__stream_is_answer(const reactor *r, reactor_conn handle, size_t len) {
    const reactor__stream_conn *c = (const reactor__stream_conn *)r->io.current;
    return c && c->id == handle.id && len - 1 < REACTOR__STREAM_ECHO && !r->io.corks &&
           !(c->flags & REACTOR__STREAM_NEEDS_UPDATE);
}

/* Any other write, and an answer that is not a part of the input. */
REACTOR__NOINLINE static int reactor__stream_write(reactor *r, reactor_conn handle,
                                                   const void *data, size_t len) {
    reactor__stream_conn *c;
    if (r && data && reactor__stream_is_answer(r, handle, len)) {
        reactor__stream_cork(r, (const char *)data, len); /* staging is empty, so there is room */
        return 0;
    }
    int e = reactor__stream_check_write(r, handle, len, &c);
    if (e < 0) return e;
    if (!data && len) return -EINVAL;
    if (!len) return reactor__stream_write_result(r, c);
    if (r->io.current != c || c->tail || !reactor__stream_cork(r, (const char *)data, len)) {
        e = reactor__stream_to_queue(r, c);
        if (e == 0) e = reactor__stream_append_one(r, c, data, len);
        if (e < 0) return e;
    }
    return reactor__stream_write_result(r, c);
}

/* An answer that is the input itself, or a part of it, is only pointed at. */
REACTOR_API int reactor_write(reactor *r, reactor_conn handle, const void *data, size_t len) {
    if (REACTOR__UNLIKELY(!r || (uintptr_t)data - (uintptr_t)r->io.data >= r->io.len ||
                          !reactor__stream_is_answer(r, handle, len)))
        return reactor__stream_write(r, handle, data, len);
    r->io.cork[0].iov_base = (void *)(uintptr_t)data;
    r->io.cork[0].iov_len = len;
    r->io.corks = 1;
    return 0;
}

REACTOR_API int reactor_writev(reactor *r, reactor_conn handle, const reactor_iovec *v, int count) {
    reactor__stream_conn *c;
    size_t len = 0;
    if (count < 0 || (count && !v)) return -EINVAL;
    for (int i = 0; i < count; i++) {
        if (!v[i].data && v[i].len) return -EINVAL;
        if (v[i].len > SIZE_MAX - len) return -EMSGSIZE;
        len += v[i].len;
    }
    int e = reactor__stream_check_write(r, handle, len, &c);
    if (e < 0) return e;
    if (!len) return reactor__stream_write_result(r, c);
    if (r->io.current == c && !c->tail && count <= REACTOR__LOOP_CORKS - r->io.corks &&
        len <= reactor__stream_staging_left(r)) {
        for (int i = 0; i < count; i++)
            if (v[i].len) reactor__stream_cork(r, (const char *)v[i].data, v[i].len);
        return reactor__stream_write_result(r, c);
    }
    e = reactor__stream_to_queue(r, c);
    if (e == 0) e = reactor__stream_append(r, c, v, count, len);
    return e < 0 ? e : reactor__stream_write_result(r, c);
}

/* A node for memory that is not copied. */
static int reactor__stream_refer(reactor *r, reactor__stream_conn *c, int kind, const void *data,
                                 size_t len, reactor__stream_node **out) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    const size_t size = kind == REACTOR__STREAM_SHARED ? sizeof(reactor_buffer) + len : len;
    int e = reactor__stream_to_queue(r, c);
    if (e == 0 && kind != REACTOR__STREAM_FILE && !reactor__stream_fits(c, size))
        e = reactor__stream_refuse_piece(r, c);
    if (e < 0) return e;
    reactor__stream_node *n = reactor__stream_node_new(p, kind, 0);
    if (!n) return -ENOMEM;
    n->data = (const char *)data;
    n->len = len;
    n->size = size;
    n->origin = data;
    reactor__stream_push(r, c, n);
    if (kind == REACTOR__STREAM_FILE)
        c->files++;
    else
        reactor__stream_account(r, c, len, 0);
    *out = n;
    return 0;
}

/* Whether it is copied rather than referred to, which takes less memory. What joins such a queue
   need not be scheduled: who began it has done so. */
static int reactor__stream_is_tiny(const reactor__stream_conn *c, size_t len) {
    return !len || (len < REACTOR__STREAM_TINY && c->held >= REACTOR__STREAM_BACKLOG);
}

REACTOR_API int reactor_write_owned(reactor *r, reactor_conn handle, const void *data, size_t len,
                                    reactor_free_fn *free_fn, void *user) {
    reactor__stream_conn *c;
    reactor__stream_node *n;
    int e = reactor__stream_check_write(r, handle, len, &c);
    if (e == 0 && !data && len) e = -EINVAL;
    int copied = e == 0 && reactor__stream_is_tiny(c, len);
    if (copied)
        e = reactor__stream_append_one(r, c, data, len);
    else if (e == 0)
        e = reactor__stream_refer(r, c, REACTOR__STREAM_OWNED, data, len, &n);
    if (e < 0 || copied) {
        if (free_fn) free_fn((void *)(uintptr_t)data, len, user);
        return e < 0 ? e : reactor__stream_write_result(r, c);
    }
    n->u.free_fn = free_fn;
    n->user = user;
    return reactor__stream_write_result(r, c);
}

REACTOR_API reactor_buffer *reactor_buffer_wrap(const void *data, size_t len,
                                                reactor_free_fn *free_fn, void *user) {
    if (!data && len) return NULL;
    reactor_buffer *b = REACTOR__NEW(reactor_buffer);
    if (!b) return NULL;
    b->data = data;
    b->len = len;
    b->free_fn = free_fn;
    b->user = user;
    b->refs = 1;
    return b;
}

REACTOR_API reactor_buffer *reactor_buffer_new(const void *data, size_t len) {
    if ((!data && len) || len > SIZE_MAX - sizeof(reactor_buffer)) return NULL;
    reactor_buffer *b = (reactor_buffer *)REACTOR_MALLOC(sizeof *b + len);
    if (!b) return NULL;
    memset(b, 0, sizeof *b);
    if (len) memcpy(b + 1, data, len);
    b->data = b + 1;
    b->len = len;
    b->refs = 1;
    return b;
}

REACTOR_API reactor_buffer *reactor_buffer_ref(reactor_buffer *b) {
    if (b) REACTOR__ADD(&b->refs, 1);
    return b;
}

REACTOR_API void reactor_buffer_unref(reactor_buffer *b) {
    if (!b || REACTOR__ADD(&b->refs, -1) > 0) return;
    if (b->free_fn) b->free_fn((void *)(uintptr_t)b->data, b->len, b->user);
    REACTOR_FREE(b);
}

REACTOR_API int reactor_write_shared(reactor *r, reactor_conn handle, reactor_buffer *b) {
    reactor__stream_conn *c;
    reactor__stream_node *n;
    if (!b) return -EINVAL;
    int e = reactor__stream_check_write(r, handle, b->len, &c);
    if (e < 0) return e;
    if (reactor__stream_is_tiny(c, b->len)) {
        e = reactor__stream_append_one(r, c, b->data, b->len);
    } else {
        e = reactor__stream_refer(r, c, REACTOR__STREAM_SHARED, b->data, b->len, &n);
        if (e == 0) n->u.buffer = reactor_buffer_ref(b);
    }
    if (e < 0) return e;
    return reactor__stream_write_result(r, c);
}

REACTOR_API int reactor_sendfile(reactor *r, reactor_conn handle, reactor_file file, int64_t offset,
                                 int64_t len, unsigned flags, reactor_done_fn *done, void *user) {
    reactor__stream_conn *c;
    reactor__stream_node *n;
    if (offset < 0 || len < -1 || (flags & ~(unsigned)REACTOR_CLOSE_FILE)) return -EINVAL;
    int e = reactor__stream_check_write(r, handle, 0, &c);
    if (e < 0) return e;
    if (c->files >= REACTOR__STREAM_FILES_MAX) return reactor__stream_refuse(r, c, SIZE_MAX);
    if (!reactor__net_is_file(file)) return -EBADF;
    if (len < 0) len = reactor__net_file_left(file, offset);
    if (len < 0) return (int)len;
    if ((uint64_t)len > SIZE_MAX) return -EFBIG;
    e = reactor__stream_refer(r, c, REACTOR__STREAM_FILE, NULL, (size_t)len, &n);
    if (e < 0) return e;
    n->file = file;
    n->offset = offset;
    n->flags = flags;
    n->u.done = done;
    n->user = user;
    return reactor__stream_write_result(r, c);
}

REACTOR_API size_t reactor_pending(const reactor *r, reactor_conn handle) {
    reactor__stream_conn *c = r ? reactor__stream_find(r, handle) : NULL;
    if (!c) return 0;
    size_t total = reactor__stream_pending_bytes(r, c);
    total += reactor__stream_waiting_answer(r, c, 0);
    const reactor__stream_node *n = c->tail;
    for (int files = c->files; files > 0; n = n->next) {
        if (n->kind != REACTOR__STREAM_FILE) continue;
        total += n->len;
        files--;
    }
    return total;
}

/* ---- steering ----

   Calls set flags and schedule: what they lead to happens in update. */

REACTOR_API int reactor_pause(reactor *r, reactor_conn handle) {
    reactor__stream_conn *c;
    int e = reactor__stream_live(r, handle, &c);
    if (e < 0) return e;
    c->flags |= REACTOR__STREAM_PAUSED;
    reactor__stream_schedule(r, c);
    return 0;
}

REACTOR_API int reactor_resume(reactor *r, reactor_conn handle) {
    reactor__stream_conn *c;
    int e = reactor__stream_live(r, handle, &c);
    if (e < 0) return e;
    if (c->flags & REACTOR__STREAM_PAUSED)
        c->last_in = reactor__loop_time(r); /* the read timeout did not run meanwhile */
    else if (reactor__stream_is_shown(r, c) || !(c->flags & REACTOR__STREAM_KEPT))
        return 0;
    c->flags &= ~(unsigned)REACTOR__STREAM_PAUSED;
    c->flags |= REACTOR__STREAM_REDELIVER;
    reactor__stream_schedule(r, c);
    return 0;
}

REACTOR_API const void *reactor_input(const reactor *r, reactor_conn handle, size_t *len) {
    const reactor__stream_conn *c = r ? reactor__stream_find(r, handle) : NULL;
    const void *data = NULL;
    size_t n = 0;
    if (c && reactor__stream_is_shown(r, c)) {
        data = r->io.data;
        n = r->io.len;
    } else if (c && (c->flags & REACTOR__STREAM_KEPT) && c->reason != REACTOR_DETACHED) {
        data = (const char *)(c->u.input + 1) + c->u.input->start;
        n = c->u.input->len;
    }
    if (len) *len = n;
    return data;
}

REACTOR_API int reactor_notify_output(reactor *r, reactor_conn handle, size_t at_or_below) {
    reactor__stream_conn *c;
    int e = reactor__stream_live(r, handle, &c);
    if (e < 0) return e;
    if (c->flags & REACTOR__STREAM_BROKEN) return -EPIPE;
    c->flags |= REACTOR__STREAM_WRITABLE_PENDING;
    c->rare |= REACTOR__STREAM_RARE_NOTIFY;
    reactor__stream_set_mark(c, at_or_below);
    reactor__stream_schedule(r, c);
    return 0;
}

/* Its own copy of the options, if it shares them. */
static int reactor__stream_own_policy(reactor__stream_conn *c) {
    if (c->policy->refs == 1) return 0;
    reactor__stream_policy *own = REACTOR__NEW(reactor__stream_policy);
    if (!own) return -ENOMEM;
    *own = *c->policy;
    own->refs = 1;
    reactor__stream_policy_drop(c->policy);
    c->policy = own;
    return 0;
}

/* Everything that can fail comes first. It starts now, as if what it watches had just moved. */
REACTOR_API int reactor_set_timeout(reactor *r, reactor_conn handle, int which, int64_t ms) {
    reactor__stream_conn *c;
    if (ms < 0 || which < REACTOR_TIMEOUT_IDLE || which > REACTOR_TIMEOUT_DEADLINE) return -EINVAL;
    int e = reactor__stream_live(r, handle, &c);
    if (e == 0) e = reactor__stream_own_policy(c);
    if (e == 0) e = reactor__stream_reserve_timer(r, c);
    if (e < 0) return e;
    reactor_conn_options *o = &c->policy->o;
    switch (which) {
    case REACTOR_TIMEOUT_IDLE:
        o->idle_timeout_ms = ms;
        break;
    case REACTOR_TIMEOUT_READ:
        o->read_timeout_ms = ms;
        break;
    case REACTOR_TIMEOUT_WRITE:
        o->write_timeout_ms = ms;
        break;
    default:
        o->deadline_ms = ms;
        break;
    }
    /* A turn in which nobody has read the clock yet notes the time of an earlier one, which is
       stale for whom a timeout has just begun. */
    if (r->core.busy) (void)reactor__loop_now(r);
    int64_t now = reactor__util_clock();
    if (which == REACTOR_TIMEOUT_DEADLINE)
        c->opened = now;
    else if (which == REACTOR_TIMEOUT_WRITE)
        c->last_out = now;
    else
        c->last_in = now;
    reactor__stream_arm(r, c);
    reactor__stream_schedule(r, c);
    return 0;
}

/* Another handler is offered what is there anew, the end included. */
static void reactor__stream_change_handler(const reactor *r, reactor__stream_conn *c,
                                           const reactor_handler *h) {
    if (c->h != h) {
        c->rare |= REACTOR__STREAM_RARE_NEW_HANDLER;
        c->rare &= ~(unsigned)REACTOR__STREAM_RARE_LAST_LOOK;
        if (!(c->rare & REACTOR__STREAM_RARE_WRITE_ONLY))
            c->flags &= ~(unsigned)REACTOR__STREAM_EOF_DELIVERED;
    }
    c->h = h;
    if (reactor__stream_is_special(r, h, &c->policy->o)) c->flags |= REACTOR__STREAM_SPECIAL;
}

REACTOR_API int reactor_set_handler(reactor *r, reactor_conn handle, const reactor_handler *h) {
    reactor__stream_conn *c;
    if (!h) return -EINVAL;
    int e = reactor__stream_live(r, handle, &c);
    if (e < 0) return e;
    if (h->state_size > c->room) return -EINVAL;
    reactor__stream_change_handler(r, c, h);
    c->flags |= REACTOR__STREAM_REDELIVER;
    reactor__stream_schedule(r, c);
    return 0;
}

REACTOR_API int reactor_shutdown(reactor *r, reactor_conn handle) {
    reactor__stream_conn *c;
    int e = reactor__stream_live(r, handle, &c);
    if (e < 0) return e;
    c->flags |= REACTOR__STREAM_SHUT;
    reactor__stream_schedule(r, c);
    return 0;
}

REACTOR_API int reactor_close(reactor *r, reactor_conn handle) {
    reactor__stream_conn *c;
    if (!r) return -EINVAL;
    if (reactor__stream_live(r, handle, &c) < 0) return 0;
    reactor__stream_start_close(r, c);
    reactor__stream_schedule(r, c);
    return 0;
}

/* Not by live: it is for one that is closing, too. */
REACTOR_API int reactor_abort(reactor *r, reactor_conn handle) {
    reactor__stream_conn *c = r ? reactor__stream_find(r, handle) : NULL;
    if (!r) return -EINVAL;
    if (!c || (c->flags & (REACTOR__STREAM_DEAD | REACTOR__STREAM_FAILED))) return 0;
    reactor__stream_fail(c, -ECONNABORTED, REACTOR__STREAM_WITH_RESET);
    reactor__stream_schedule(r, c);
    return 0;
}

/* Sends what there is, before its turn. Files stay, for a call must not lead to done callbacks. */
static void reactor__stream_send_now(reactor *r, reactor__stream_conn *c) {
    const unsigned no = REACTOR__STREAM_BLOCKED | REACTOR__STREAM_FAILED | REACTOR__STREAM_BROKEN;
    reactor__stream_unbatch(r, c);
    if (c->files || !(c->flags & REACTOR__STREAM_OPEN) || (c->flags & no)) return;
    if (r->io.current == c && r->io.corks) reactor__stream_uncork(r, c);
    if (c->tail && !(c->flags & no)) reactor__stream_flush(r, c);
}

REACTOR_API int reactor_detach(reactor *r, reactor_conn handle, reactor_socket *fd, void *input,
                               size_t *len) {
    reactor__stream_conn *c = NULL;
    if (!fd || !len || (*len && !input)) return -EINVAL;
    int e = reactor__stream_live(r, handle, &c);
    if (e < 0) return e == -EBADF && c ? -ENOTCONN : e;
    reactor__stream_send_now(r, c);
    const unsigned no = REACTOR__STREAM_BROKEN | REACTOR__STREAM_FAILED;
    if (!(c->flags & REACTOR__STREAM_OPEN) || (c->flags & no)) return -ENOTCONN;
    const unsigned promised = REACTOR__STREAM_SHUT | REACTOR__STREAM_FIN;
    if (c->tail || reactor_pending(r, handle)) return -EBUSY;
    if ((c->flags & promised) == (unsigned)REACTOR__STREAM_SHUT) return -EBUSY;
    size_t room = *len, unread = c->u.input ? c->u.input->len : 0;
    const int shown = reactor__stream_is_shown(r, c);
    if (shown) unread = 0;
    *len = unread;
    if (unread > room) return -ENOBUFS;
    if (unread) memcpy(input, (char *)(c->u.input + 1) + c->u.input->start, unread);
    /* What on_data is looking at stays until it has returned. */
    if (c->u.input && !shown) reactor__stream_consume(r, c, c->u.input->len);
    reactor__core_unbind(&r->core, (uint32_t)c->id, 0);
    *fd = c->fd;
    reactor__stream_note_peer(c);
    reactor__stream_unblock(r, c, c->fd);
    c->fd = REACTOR__UTIL_NO_SOCKET;
    reactor__stream_fail(c, REACTOR_DETACHED, REACTOR__STREAM_PLAINLY);
    reactor__stream_schedule(r, c);
    return 0;
}

/* ---- what protocols of text need ---- */

REACTOR_API size_t reactor_line(const void *data, size_t len, size_t *length) {
    const char *text = (const char *)data;
    const char *end = len ? (const char *)memchr(text, '\n', len) : NULL;
    if (!end) return 0;
    const size_t n = (size_t)(end - text);
    if (length) *length = n && text[n - 1] == '\r' ? n - 1 : n;
    return n + 1;
}

REACTOR_API int reactor_printf(reactor *r, reactor_conn c, const char *format, ...) {
    char text[REACTOR__STREAM_PRINTED + 1];
    va_list arguments;
    if (!r || !format) return -EINVAL;
    va_start(arguments, format);
    const int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n < 0) return -EINVAL;
    return n > REACTOR__STREAM_PRINTED ? -EMSGSIZE : reactor_write(r, c, text, (size_t)n);
}

/* ---- moving to another loop ----

   A connection leaves at its step, when no callback of it is running and none of its bytes is in
   a cork or a batch: the kernel forgets it, the slot is freed, and its memory is posted to the
   other loop, which alone touches it from the post on. There it becomes one that is attaching,
   with a slot and a registration of its own: what the kernel has to say is said anew. */

typedef struct reactor__stream_move {
    reactor *to;
    const reactor_handler *h;
    reactor__stream_conn *conn;
    int paused; /* by the user; meanwhile it is paused in any case */
} reactor__stream_move;

/* What it has seen and promised goes with it; what it knows of its loop does not. */
#define REACTOR__STREAM_MOVES                                                                      \
    ((unsigned)(REACTOR__STREAM_ENDED | REACTOR__STREAM_EOF_DELIVERED | REACTOR__STREAM_SHUT |     \
                REACTOR__STREAM_FIN | REACTOR__STREAM_COUPLED | REACTOR__STREAM_THROTTLED |        \
                REACTOR__STREAM_KEPT | REACTOR__STREAM_LOADED | REACTOR__STREAM_WRITABLE_PENDING | \
                REACTOR__STREAM_PIPE | REACTOR__STREAM_NOT_TCP | REACTOR__STREAM_READ_TO_EAGAIN))
#define REACTOR__STREAM_RARE_MOVES                                                                 \
    ((unsigned)(REACTOR__STREAM_RARE_LAST_LOOK | REACTOR__STREAM_RARE_NOTIFY |                     \
                REACTOR__STREAM_RARE_DUPLEX | REACTOR__STREAM_RARE_WRITE_ONLY |                    \
                REACTOR__STREAM_RARE_BLOCKING | REACTOR__STREAM_RARE_REOPENED))

/* There is no slot for it here: it ends without ever having had one. */
static void reactor__stream_move_lost(reactor *to, reactor__stream_conn *c, int reason) {
    const reactor_conn none = {0};
    reactor_socket fd = c->fd;
    c->h = c->policy->move->h;
    c->flags |= REACTOR__STREAM_FAILED;
    c->fd = REACTOR__UTIL_NO_SOCKET;
    reactor__stream_unblock(to, c, fd);
    reactor__stream_close_socket(c, fd, 0);
    while (c->tail) reactor__stream_pop(to, c, reason, 0);
    to->core.counters.closes++;
    reactor__loop_call_close(to, c->h, none, reason, reactor__stream_state(c));
    reactor__stream_free(to, c);
}

/* The task that brings it. */
static void reactor__stream_move_in(reactor *to, void *user) {
    reactor__stream_move *m = (reactor__stream_move *)user;
    reactor__stream_conn *c = m->conn;
    int e = reactor__stream_start(to);
    int64_t index =
        e < 0 ? e : reactor__core_reserve(&to->core, REACTOR__CORE_CONN, reactor__stream_io, c);
    to->core.counters.queued += c->queued;
    if (c->u.input) to->core.counters.unread += c->u.input->len;
    if (index < 0) {
        reactor__stream_move_lost(to, c, (int)index);
        return;
    }
    c->id = reactor__core_id(&to->core, (uint32_t)index);
    if (m->paused) c->flags |= REACTOR__STREAM_PAUSED;
    if (c->u.input) c->flags |= REACTOR__STREAM_REDELIVER;
    reactor__stream_change_handler(to, c, m->h);
    if (to->draining) reactor__stream_mark_drained(c);
    to->core.active++;
    to->core.counters.connections++;
    c->policy->move = NULL;
    REACTOR_FREE(m);
    e = reactor__stream_register(to, c);
    if (e < 0) reactor__stream_fail(c, e, 0);
    reactor__stream_schedule(to, c);
}

static int reactor__stream_is_moving(const reactor__stream_conn *c) {
    const unsigned no = REACTOR__STREAM_GONE | (unsigned)REACTOR__STREAM_BROKEN;
    return (c->rare & REACTOR__STREAM_RARE_MOVING) && !(c->flags & no);
}

static void reactor__stream_move_out(reactor *r, reactor__stream_conn *c) {
    reactor__stream_move *m = c->policy->move;
    const uint32_t index = (uint32_t)c->id;
    reactor__stream_unbatch(r, c); /* which may fail it, or schedule it for another step */
    if (c->flags & REACTOR__STREAM_SCHEDULED) return;
    reactor__stream_note_peer(c);
    if (!reactor__stream_is_moving(c)) {
        reactor__stream_update(r, c);
        return;
    }
    if (c->timer) reactor__timer_cancel(&r->wheel, c->timer);
    c->timer = 0;
    reactor__core_unbind(&r->core, index, 0);
    reactor__stream_release_slot(r, c->policy);
    c->policy->listener = 0;
    c->flags &= REACTOR__STREAM_MOVES;
    c->rare &= REACTOR__STREAM_RARE_MOVES;
    r->core.counters.queued -= c->queued;
    if (c->u.input) r->core.counters.unread -= c->u.input->len;
    int e = reactor_post(m->to, reactor__stream_move_in, m);
    if (e == 0) { /* it is the other loop's: only the slot is looked at */
        r->core.active--;
        r->core.counters.connections--;
        reactor__core_release(&r->core, index);
        return;
    }
    r->core.counters.queued += c->queued;
    if (c->u.input) r->core.counters.unread += c->u.input->len;
    c->flags |= REACTOR__STREAM_OPEN;
    reactor__stream_fail(c, e, 0);
    reactor__stream_update(r, c);
}

REACTOR_API int reactor_move(reactor *r, reactor_conn handle, reactor *to,
                             const reactor_handler *h) {
    reactor__stream_conn *c = NULL;
    if (!to || to == r) return -EINVAL;
    int e = reactor__stream_live(r, handle, &c);
    if (e < 0) return e;
    const unsigned no = REACTOR__STREAM_BROKEN | REACTOR__STREAM_FAILED;
    if (h && h->state_size > c->room) return -EINVAL;
    if (!(c->flags & REACTOR__STREAM_OPEN) || (c->flags & no)) return -ENOTCONN;
    if (c->rare & REACTOR__STREAM_RARE_MOVING) return -EALREADY;
    e = reactor__stream_own_policy(c);
    reactor__stream_move *m = e < 0 ? NULL : REACTOR__NEW(reactor__stream_move);
    if (!m) return -ENOMEM;
    m->to = to;
    m->h = h ? h : c->h;
    m->conn = c;
    m->paused = (c->flags & REACTOR__STREAM_PAUSED) != 0;
    c->policy->move = m;
    c->rare |= REACTOR__STREAM_RARE_MOVING;
    c->flags |= REACTOR__STREAM_PAUSED;
    reactor__stream_step_later(r, c);
    return 0;
}

/* ---- draining ----

   Listeners come first: whoever has been told by the system that it is connected is accepted,
   and the listener closes when nobody waits any more. Only then are the connections told, in the
   order of their slots, as far as one turn can do both: those that end make their peers connect
   again, and that should reach a successor. Everybody gets DRAIN, is read until the kernel has
   no more input, and is asked (update_drain). The loop itself ends, see reactor__loop_end_drain. */

/* What a lack of passes by: the peers that wait are worth waiting for. Other errors are for
   good. */
static int reactor__stream_is_lacking(int e) {
    return e == -EMFILE || e == -ENFILE || e == -ENOMEM || e == -ENOBUFS;
}

/* Accepts from the listeners of a drained loop, and closes those that are at their end: nobody
   waits, or so many have come that they cannot all have been there when the drain began. One
   that is FULL or STARVED waits. on_open may close any listener. */
REACTOR__COLD static void reactor__stream_leave_listeners(reactor *r, reactor__stream_module *p) {
    reactor__stream_listener *l = p->listeners;
    while (l && !REACTOR__PEEK(&r->core.stop)) {
        if (l->stopped || l->open_until) {
            l = l->next;
            continue;
        }
        uint64_t id = l->id;
        int e = l->left > 0 ? reactor__stream_accept_some(r, l) : 0;
        if (reactor__stream_listener_of(r, id) == l) {
            if (e == 1 && !l->stopped) return; /* the budget is used up: see is_leaving */
            if (e == 0 || (e < 0 && !reactor__stream_is_lacking(e)))
                reactor__stream_listener_free(r, l, 0);
        }
        l = p->listeners;
    }
}

/* Whether a listener is left that has something to accept without an event. */
static int reactor__stream_is_leaving(const reactor *r, const reactor__stream_module *p) {
    const reactor__stream_listener *l = r->draining ? p->listeners : NULL;
    while (l && (l->stopped || l->open_until)) l = l->next;
    return l != NULL;
}

/* The deadline has passed: see cut_off_all. */
REACTOR__COLD static void reactor__stream_cut_off(reactor *r, reactor_timer t, void *user) {
    (void)t;
    (void)user;
    if (r->draining != REACTOR__LOOP_DRAINING) return;
    r->draining = REACTOR__LOOP_CUT_OFF;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_STREAM], 1);
}

/* At the end of the turn, in which those who are idle have got their end even if there was no time
   at all: whoever is still there is cut off. */
REACTOR__COLD static void reactor__stream_cut_off_all(reactor *r, reactor__stream_module *p) {
    reactor__stream_listeners_free(r, p, 0);
    reactor__stream_conn *c;
    for (uint32_t at = 0; (c = reactor__stream_each(r, &at)) != NULL;) {
        reactor__stream_expire(c);
        reactor__stream_schedule(r, c);
    }
}

/* No limit is the last moment but one: with a timer that has a deadline every turn reads the clock,
   by which the connections are quiet. */
REACTOR__COLD static int reactor__stream_set_deadline(reactor *r, int64_t ms) {
    reactor__stream_module *p = reactor__stream_module_of(r);
    int64_t old = REACTOR__NEVER;
    int64_t at =
        reactor__util_add(reactor__util_clock(), reactor__util_ms(ms < 0 ? INT64_MAX : ms));
    int e = 0;
    if (at == REACTOR__NEVER) at--;
    if (!p->drain_timer || reactor__timer_get(&r->wheel, p->drain_timer, &old) < 0)
        e = reactor__timer_set(&r->wheel, at, 0, reactor__stream_cut_off, NULL,
                               REACTOR__STREAM_TIMER, &p->drain_timer);
    else if (at < old)
        e = reactor__timer_reset(&r->wheel, p->drain_timer, at);
    reactor__loop_touch(r);
    return e;
}

/* Half of a short time is left for those who are busy. */
REACTOR__COLD static void reactor__stream_set_grace(reactor__stream_module *p, int64_t ms) {
    int64_t half = reactor__util_ms(ms) / 2;
    if (ms >= 0 && half < p->grace) p->grace = half;
}

/* A path goes at once, for nobody can connect any more then; of a shared port new peers are turned
   to the others, but not by a socket that was handed over: a successor may hold that very one. A
   pause ends: the peers that it keeps waiting would be reset. */
REACTOR__COLD static void reactor__stream_drain_listener(reactor *r, reactor__stream_listener *l) {
    const int64_t grace = reactor__stream_module_of(r)->grace;
    reactor__net_unlink(&l->bound);
    if (l->shared && !l->bound.given && grace && reactor__net_sys_drop_syn(l->bound.fd, 1) == 0) {
        l->warded = 1;
        l->open_until = reactor__util_add(reactor__util_clock(), grace);
        reactor__timer_reset(&r->wheel, l->timer, l->open_until);
    }
    if (l->stopped & REACTOR__STREAM_BY_USER) r->core.active++;
    reactor__stream_stop_listener(r, l, REACTOR__STREAM_BY_USER, 0);
}

/* begin: they have not been told yet. */
REACTOR__COLD static void reactor__stream_drain_all(reactor *r, int begin) {
    reactor__stream_conn *c;
    for (uint32_t at = 0; (c = reactor__stream_each(r, &at)) != NULL;) {
        if (begin) reactor__stream_mark_drained(c);
        if (begin && (c->flags & REACTOR__STREAM_DIALING) && !c->tail)
            reactor__stream_fail(c, -ECANCELED, REACTOR__STREAM_PLAINLY);
        reactor__stream_schedule(r, c);
    }
}

/* The deadline first: without memory for its timer nothing has begun. */
REACTOR__COLD REACTOR_API int reactor_drain(reactor *r, int64_t deadline_ms) {
    if (!r || deadline_ms < -1) return -EINVAL;
    int begin = !r->draining, e = begin ? reactor__stream_start(r) : 0;
    if (e == 0) e = reactor__stream_set_deadline(r, deadline_ms);
    if (e < 0) return e;
    reactor__stream_module *p = reactor__stream_module_of(r);
    if (begin) {
        r->draining = REACTOR__LOOP_DRAINING;
        p->drained = reactor__util_clock();
        p->grace = reactor__util_ms(REACTOR__STREAM_GRACE_MS);
    }
    reactor__stream_set_grace(p, deadline_ms);
    if (begin)
        for (reactor__stream_listener *l = p->listeners; l; l = l->next)
            reactor__stream_drain_listener(r, l);
    reactor__stream_drain_all(r, begin);
    REACTOR__STORE(&r->pending[REACTOR__LOOP_STREAM], 1);
    reactor__loop_touch(r);
    return begin ? 0 : -EALREADY;
}

/* ---- the part ---- */

/* What being scheduled comes to. */
static void reactor__stream_step(reactor *r, reactor__stream_conn *c) {
    c->flags &= ~(unsigned)REACTOR__STREAM_SCHEDULED;
    reactor__stream_check(c);
    if (c->flags & REACTOR__STREAM_DEAD) {
        reactor__stream_free(r, c);
    } else if (c->flags & REACTOR__STREAM_DIALING) {
        reactor__stream_dial_step(r, c);
    } else if (reactor__stream_is_attaching(c)) {
        reactor__stream_opened(r, c);
    } else if (reactor__stream_is_moving(c)) {
        reactor__stream_move_out(r, c);
    } else {
        const unsigned not_now = REACTOR__STREAM_BLOCKED | REACTOR__STREAM_FAILED;
        if (c->tail && !(c->flags & not_now)) reactor__stream_flush(r, c);
        reactor__stream_update_shut(c); /* before input that some backends know of already */
        reactor__stream_update(r, c);
    }
}

/* Those that were scheduled, in their order. They may schedule each other: a few rounds are done
   at once, so that a relayed message leaves in the turn in which it came; the rest is for the
   next turn. */
static void reactor__stream_turn(reactor *r, reactor__loop_module *module) {
    reactor__stream_module *p = (reactor__stream_module *)module;
    if (r->draining) reactor__stream_leave_listeners(r, p);
    for (int round = 0; round < 4 && p->scheduled_head; round++) {
        const reactor__stream_conn *last = p->scheduled_tail;
        for (int more = 1; more && !REACTOR__PEEK(&r->core.stop);) {
            reactor__stream_conn *c = p->scheduled_head;
            p->scheduled_head = c->scheduled_next;
            more = c != last;
            reactor__stream_step(r, c);
        }
    }
    while (p->again) {
        reactor__stream_conn *c = p->again;
        p->again = c->scheduled_next;
        c->flags &= ~(unsigned)REACTOR__STREAM_SCHEDULED;
        reactor__stream_schedule(r, c);
    }
    if (r->draining == REACTOR__LOOP_CUT_OFF) reactor__stream_cut_off_all(r, p);
    REACTOR__STORE(&r->pending[REACTOR__LOOP_STREAM],
                   p->scheduled_head || reactor__stream_is_leaving(r, p));
}

/* Takes everybody off the lists, and frees those that were only waiting for that. */
static void reactor__stream_unschedule(reactor *r, reactor__stream_module *p) {
    for (int list = 0; list < 2; list++) {
        reactor__stream_conn *c = list ? p->again : p->scheduled_head;
        while (c) {
            reactor__stream_conn *next = c->scheduled_next;
            c->flags &= ~(unsigned)REACTOR__STREAM_SCHEDULED;
            if (c->flags & REACTOR__STREAM_DEAD) reactor__stream_free(r, c);
            c = next;
        }
    }
    p->scheduled_head = p->again = NULL;
}

REACTOR__COLD static void reactor__stream_fini(reactor *r, reactor__loop_module *module,
                                               int child) {
    reactor__stream_module *p = (reactor__stream_module *)module;
    reactor__stream_listeners_free(r, p, child);
    reactor__stream_unschedule(r, p);
    reactor__stream_conn *c;
    for (uint32_t at = 0; (c = reactor__stream_each(r, &at)) != NULL;) {
        const unsigned not_now =
            REACTOR__STREAM_BLOCKED | REACTOR__STREAM_FAILED | REACTOR__STREAM_DIALING;
        /* What the last callbacks wrote gets its one chance to leave. */
        if (c->tail && !child && !(c->flags & not_now)) reactor__stream_flush(r, c);
        /* What lingers is out, and the kernel goes on with it. */
        if (!c->reason && !(c->flags & REACTOR__STREAM_LINGER)) c->reason = -ECANCELED;
        reactor__stream_unschedule(
            r, p); /* the flush may have scheduled it; finish may schedule others */
        reactor__stream_finish(r, c, child);
        reactor__stream_unschedule(r, p);
    }
    for (int k = 0; k < 3; k++) {
        while (p->spares[k]) {
            reactor__stream_node *n = p->spares[k];
            p->spares[k] = n->next;
            REACTOR_FREE(n);
        }
    }
    if (p->drain_timer) reactor__timer_cancel(&r->wheel, p->drain_timer);
    r->modules[REACTOR__LOOP_STREAM] = NULL;
    r->pending[REACTOR__LOOP_STREAM] = 0;
    r->core.before_dispatch = NULL;
    REACTOR_FREE(r->io.buffer);
    REACTOR_FREE(p->staging);
    REACTOR_FREE(p->batch);
    REACTOR_FREE(p);
}

/* ---- looking ---- */

REACTOR_API void *reactor_state(const reactor *r, reactor_conn handle) {
    reactor__stream_conn *c = r ? reactor__stream_find(r, handle) : NULL;
    return c ? reactor__stream_state(c) : NULL;
}

REACTOR_API void *reactor_user(const reactor *r, reactor_conn handle) {
    reactor__stream_conn *c = r ? reactor__stream_find(r, handle) : NULL;
    return c ? c->policy->o.user : NULL;
}

REACTOR_API int reactor_get_options(const reactor *r, reactor_conn handle,
                                    reactor_conn_options *out) {
    if (!r || !out) return -EINVAL;
    const reactor__stream_conn *c = reactor__stream_find(r, handle);
    if (!c) return -EBADF;
    *out = c->policy->o;
    out->name = c->policy->name[0] ? c->policy->name : NULL;
    return 0;
}

REACTOR_API reactor_socket reactor_conn_socket(const reactor *r, reactor_conn handle) {
    reactor__stream_conn *c = r ? reactor__stream_find(r, handle) : NULL;
    return c && (c->flags & REACTOR__STREAM_OPEN) ? c->fd : REACTOR__UTIL_NO_SOCKET;
}

/* One end's address, from what is remembered if possible, else from the system. */
static int reactor__stream_address(const reactor *r, reactor_conn handle, int peer, char *out,
                                   size_t size) {
    if (!r || !out) return -EINVAL;
    reactor__stream_conn *c = reactor__stream_find(r, handle);
    if (!c) return -EBADF;
    if (peer) reactor__stream_note_peer(c);
    if (peer && c->peer.kind != REACTOR__NET_UNKNOWN) return reactor__net_show(&c->peer, out, size);
    if ((c->flags & REACTOR__STREAM_DIALING) || c->fd == REACTOR__UTIL_NO_SOCKET) return -ENOTCONN;
    return reactor__net_name(c->fd, peer, out, size);
}

REACTOR_API int reactor_local_address(const reactor *r, reactor_conn c, char *out, size_t size) {
    return reactor__stream_address(r, c, 0, out, size);
}
REACTOR_API int reactor_peer_address(const reactor *r, reactor_conn c, char *out, size_t size) {
    return reactor__stream_address(r, c, 1, out, size);
}

REACTOR__COLD /* What reactor_dump calls the state. */
    static const char *
    reactor__stream_phase(unsigned flags) {
    if (flags & REACTOR__STREAM_DIALING) return "connecting";
    if (flags & REACTOR__STREAM_GONE) return "closing";
    if (flags & REACTOR__STREAM_PAUSED) return "paused";
    if (flags & REACTOR__STREAM_THROTTLED) return "throttled";
    return flags & REACTOR__STREAM_EOF_DELIVERED ? "half-closed" : "open";
}

REACTOR__COLD /* One line for each connection, which programs may parse: its fields stay in this order. */
    static void
    reactor__stream_dump_conn(const reactor *r, const reactor__stream_conn *c, reactor_line_fn *fn,
                              void *user) {
    char line[160 + REACTOR_ADDRESS_MAX], peer[REACTOR_ADDRESS_MAX] = "-";
    if (reactor_peer_address(r, reactor__stream_handle(c), peer, sizeof peer) < 0)
        snprintf(peer, sizeof peer, "-");
    snprintf(line, sizeof line, "conn id=%llx name=%s fd=%lld %s unread=%llu queued=%llu peer=%s",
             (unsigned long long)c->id, c->policy->name, (long long)c->fd,
             reactor__stream_phase(c->flags),
             (unsigned long long)(!(c->flags & REACTOR__STREAM_DIALING) && c->u.input
                                      ? c->u.input->len
                                      : 0),
             (unsigned long long)reactor_pending(r, reactor__stream_handle(c)), peer);
    fn(line, user);
}

REACTOR__COLD static void reactor__stream_dump(const reactor *r, const reactor__loop_module *module,
                                               reactor_line_fn *fn, void *user) {
    const reactor__stream_module *p = (const reactor__stream_module *)module;
    char line[160 + REACTOR_ADDRESS_MAX], address[REACTOR_ADDRESS_MAX];
    for (const reactor__stream_listener *l = p->listeners; l; l = l->next) {
        if (reactor__net_name(l->bound.fd, 0, address, sizeof address) < 0) address[0] = 0;
        snprintf(line, sizeof line,
                 "listener id=%llx name=%s fd=%lld address=%s connections=%d%s%s%s",
                 (unsigned long long)l->id, l->policy->name, (long long)l->bound.fd, address,
                 l->count, l->stopped & REACTOR__STREAM_BY_USER ? " paused" : "",
                 l->stopped & REACTOR__STREAM_FULL ? " full" : "",
                 l->stopped & REACTOR__STREAM_STARVED ? " short" : "");
        fn(line, user);
    }
    for (uint32_t i = 0; i < r->core.count; i++) {
        const reactor__core_slot *slot = reactor__core_at(&r->core, i);
        if (slot->kind == REACTOR__CORE_CONN)
            reactor__stream_dump_conn(r, (const reactor__stream_conn *)slot->user, fn, user);
    }
}
#endif /* REACTOR_NO_NET */
/* ==== >> spawn ==== */
/* Programs started in child processes, whose streams may be connections. Uses child, and stream
   where there is one; for that it stands below it.

   All that can fail on this side, the connections too, is made before there is a process; from then
   on only the program itself can fail to start, and is waited for here. The new process shares this
   one's memory until it has another program (vfork(2): a fork would copy the tables of all its
   pages), so it makes only system calls, with what has been prepared for it, and with all signals
   blocked: a handler of the program would run in this memory. What goes wrong comes back by memory
   or, where vfork is a fork (valgrind, thread sanitizer, emulators), through a pipe that a started
   program closes. */
#ifndef REACTOR_NO_CHILDREN

/* A start under way: what was made for it so far, so that all of it can be undone. */
typedef struct reactor__spawn_launch {
    reactor *r;
    const reactor_spawn_options *o;
    reactor__child_node *node;
    reactor_file given[3]; /* what the process gets for its streams */
    int made[3];           /* and was opened for that: it is closed here afterwards */
    reactor_conn conns[3];
} reactor__spawn_launch;

/* ---- what differs between the systems ----

   check    what this system cannot do: -ENOTSUP.
   null     opens what neither gives nor takes anything.
   own      this process's descriptor of that number; what null opens if there is none to be given.
   is_open  whether a file of the caller's can be given.
   pair     connects the end that the process gets with one for here.
   start    starts the process; its number, or why not.
   close    of what the process got. */

#ifdef _WIN32

/* A process has three standard handles and no other numbers; there are no sessions without a
   terminal. */
static int reactor__spawn_sys_check(const reactor_spawn_options *o) {
    return o->file_count || o->session ? -ENOTSUP : 0;
}

static int reactor__spawn_sys_null(int number, reactor_file *out) {
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE;
    *out = CreateFileW(L"NUL", number ? GENERIC_WRITE : GENERIC_READ, share, NULL, OPEN_EXISTING, 0,
                       NULL);
    return *out == INVALID_HANDLE_VALUE ? reactor__util_error() : 0;
}

static void reactor__spawn_sys_close(reactor_file file, int stream) {
    if (stream)
        reactor__util_close((reactor_socket)file);
    else
        CloseHandle(file);
}

/* A program without a console and without redirection has none of them. */
static int reactor__spawn_sys_own(int number, reactor_file *out) {
    const DWORD names[] = {STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE};
    *out = GetStdHandle(names[number]);
    return *out && *out != INVALID_HANDLE_VALUE;
}

/* Also of a console's handle, which is none of the kernel's before Windows 8. */
static int reactor__spawn_sys_is_open(reactor_file file) {
    DWORD flags;
    return GetHandleInformation(file, &flags) ? 0 : -EBADF;
}

#ifndef REACTOR_NO_NET
/* Sockets are inheritable unless that is refused: by the flag, and where Windows is too old to know
   it (before 7 SP1) by hand. */
static int reactor__spawn_loopback(reactor_socket *fd, DWORD flags) {
    *fd = WSASocketW(AF_INET, SOCK_STREAM, 0, NULL, 0, flags | REACTOR__UTIL_NO_INHERIT);
    return *fd == REACTOR__UTIL_NO_SOCKET ? reactor__util_error() : reactor__util_cloexec(*fd);
}

/* The backends watch sockets alone, so the two ends are a connection of the loopback. Whoever else
   connects to its port in this moment is sent away. */
static int reactor__spawn_connect(reactor_socket listener, reactor_socket theirs,
                                  reactor_socket *ours) {
    struct sockaddr_in a, b;
    int len = sizeof a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&a, len) != 0 || listen(listener, 8) != 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) != 0 ||
        connect(theirs, (struct sockaddr *)&a, len) != 0 ||
        getsockname(theirs, (struct sockaddr *)&a, &len) != 0)
        return reactor__util_error();
    for (;;) {
        len = sizeof b;
        *ours = accept(listener, (struct sockaddr *)&b, &len);
        if (*ours == REACTOR__UTIL_NO_SOCKET) return reactor__util_error();
        if (b.sin_port == a.sin_port && b.sin_addr.s_addr == a.sin_addr.s_addr) break;
        reactor__util_close(*ours);
    }
    return reactor__util_cloexec(*ours);
}

/* The process's end is not OVERLAPPED, as programs read and write their streams like files. */
static int reactor__spawn_sys_pair(int number, reactor_socket *ours, reactor_file *given) {
    reactor_socket listener, theirs = REACTOR__UTIL_NO_SOCKET;
    (void)number;
    *ours = REACTOR__UTIL_NO_SOCKET;
    int e = reactor__spawn_loopback(&listener, WSA_FLAG_OVERLAPPED);
    if (e == 0) e = reactor__spawn_loopback(&theirs, 0);
    if (e == 0) e = reactor__spawn_connect(listener, theirs, ours);
    if (listener != REACTOR__UTIL_NO_SOCKET) reactor__util_close(listener);
    *given = (reactor_file)theirs;
    if (e == 0) return 0;
    if (theirs != REACTOR__UTIL_NO_SOCKET) reactor__util_close(theirs);
    if (*ours != REACTOR__UTIL_NO_SOCKET) reactor__util_close(*ours);
    return e;
}
#endif

/* Texts are UTF-8 here and UTF-16 there. size counts the end, so a list of texts can be one. */
static int reactor__spawn_wide(const char *text, size_t size, WCHAR **out) {
    *out = NULL;
    if (size > 1024 * 1024) return -E2BIG;
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, (int)size, NULL, 0);
    if (n <= 0) return -EINVAL;
    *out = (WCHAR *)REACTOR_MALLOC((size_t)n * sizeof(WCHAR));
    if (!*out) return -ENOMEM;
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, (int)size, *out, n);
    return 0;
}

/* An argument as the C library of the program will read it (CommandLineToArgvW): backslashes stand
   for themselves, but before a quote they are read in pairs. Returns the end. */
static char *reactor__spawn_quote(char *to, const char *argument) {
    if (*argument && !strpbrk(argument, " \t\n\v\"")) {
        size_t len = strlen(argument);
        memcpy(to, argument, len);
        return to + len;
    }
    *to++ = '"';
    for (const char *at = argument;; at++) {
        size_t slashes = 0;
        for (; *at == '\\'; at++) slashes++;
        if (!*at || *at == '"') slashes *= 2;
        if (*at == '"') slashes++;
        memset(to, '\\', slashes);
        to += slashes;
        if (!*at) break;
        *to++ = *at;
    }
    *to++ = '"';
    return to;
}

/* The arguments as one text, which is all that the system hands on. */
static int reactor__spawn_command(const char *const *argv, WCHAR **out) {
    size_t size = 1;
    for (int i = 0; argv[i]; i++) size += 2 * strlen(argv[i]) + 3;
    char *text = (char *)REACTOR_MALLOC(size), *at = text;
    if (!text) return -ENOMEM;
    for (int i = 0; argv[i]; i++) {
        if (i) *at++ = ' ';
        at = reactor__spawn_quote(at, argv[i]);
    }
    *at++ = '\0';
    int e = reactor__spawn_wide(text, (size_t)(at - text), out);
    REACTOR_FREE(text);
    return e;
}

/* One text after the other; an empty one ends them. NULL: as this process's. */
static int reactor__spawn_block(const char *const *environment, WCHAR **out) {
    size_t size = 2, len;
    *out = NULL;
    if (!environment) return 0;
    for (int i = 0; environment[i]; i++) size += strlen(environment[i]) + 1;
    char *text = (char *)reactor__util_zeroed(size), *at = text;
    if (!text) return -ENOMEM;
    for (int i = 0; environment[i]; i++, at += len)
        memcpy(at, environment[i], len = strlen(environment[i]) + 1);
    int e = reactor__spawn_wide(text, (size_t)(at - text) + 2 - (at > text), out);
    REACTOR_FREE(text);
    return e;
}

/* Where the program is. cmd.exe reads the arguments of a batch file by rules of its own, by which
   they could be commands: such a file is no program. */
static int reactor__spawn_search(const char *file, WCHAR **out) {
    WCHAR *name;
    *out = NULL;
    int e = reactor__spawn_wide(file, strlen(file) + 1, &name);
    if (e < 0) return e;
    DWORD n = SearchPathW(NULL, name, L".exe", 0, NULL, NULL);
    if (n) *out = (WCHAR *)REACTOR_MALLOC(((size_t)n + 1) * sizeof(WCHAR));
    if (n && !*out) e = -ENOMEM;
    if (*out) n = SearchPathW(NULL, name, L".exe", n, *out, NULL);
    if (e == 0 && !n) e = -ENOENT;
    REACTOR_FREE(name);
    if (e == 0 && n > 4 &&
        (CompareStringW(LOCALE_INVARIANT, NORM_IGNORECASE, *out + n - 4, 4, L".bat", 4) == 2 ||
         CompareStringW(LOCALE_INVARIANT, NORM_IGNORECASE, *out + n - 4, 4, L".cmd", 4) == 2))
        e = -ENOEXEC;
    return e;
}

/* Before Windows 8 a console's handles are none of the kernel's, and go to every process. */
static int reactor__spawn_is_console(HANDLE h) { return ((uintptr_t)h & 3) == 3; }

typedef struct reactor__spawn_handles {
    HANDLE all[3], list[3]; /* list: of the kernel's, each once */
    DWORD count;
} reactor__spawn_handles;

/* The process has copies of its own by then. */
static void reactor__spawn_drop_handles(const reactor__spawn_handles *h) {
    for (DWORD i = 0; i < h->count; i++) CloseHandle(h->list[i]);
}

/* Copies that can be inherited: only these are. */
static int reactor__spawn_copy_handles(const reactor__spawn_launch *l, reactor__spawn_handles *h) {
    const HANDLE self = GetCurrentProcess();
    memset(h, 0, sizeof *h);
    for (int i = 0; i < 3; i++) {
        h->all[i] = l->given[i];
        if (reactor__spawn_is_console(l->given[i])) continue;
        if (!DuplicateHandle(self, l->given[i], self, &h->all[i], 0, TRUE, DUPLICATE_SAME_ACCESS)) {
            int e = reactor__util_error();
            reactor__spawn_drop_handles(h);
            return e;
        }
        h->list[h->count++] = h->all[i];
    }
    return 0;
}

/* The last step. HANDLE_LIST keeps everything else from being inherited, whatever other threads
   make inheritable. */
static int reactor__spawn_create(const reactor__spawn_launch *l, WCHAR *file, WCHAR *command,
                                 WCHAR *block, WCHAR *directory, reactor__spawn_handles *h) {
    STARTUPINFOEXW start;
    PROCESS_INFORMATION info;
    SIZE_T size = 0;
    DWORD flags = EXTENDED_STARTUPINFO_PRESENT | CREATE_UNICODE_ENVIRONMENT;
    if (l->o->group) flags |= CREATE_NEW_PROCESS_GROUP;
    memset(&start, 0, sizeof start);
    start.StartupInfo.cb = sizeof start;
    start.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    start.StartupInfo.hStdInput = h->all[0];
    start.StartupInfo.hStdOutput = h->all[1];
    start.StartupInfo.hStdError = h->all[2];
    InitializeProcThreadAttributeList(NULL, 1, 0, &size);
    start.lpAttributeList = (LPPROC_THREAD_ATTRIBUTE_LIST)REACTOR_MALLOC(size);
    if (!start.lpAttributeList) return -ENOMEM;
    int e = InitializeProcThreadAttributeList(start.lpAttributeList, 1, 0, &size) ? 0 : -ENOMEM;
    if (e == 0) {
        if ((h->count &&
             !UpdateProcThreadAttribute(start.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST,
                                        h->list, h->count * sizeof(HANDLE), NULL, NULL)) ||
            !CreateProcessW(file, command, NULL, NULL, TRUE, flags, block, directory,
                            &start.StartupInfo, &info))
            e = reactor__util_error();
        DeleteProcThreadAttributeList(start.lpAttributeList);
    }
    REACTOR_FREE(start.lpAttributeList);
    if (e < 0) return e;
    CloseHandle(info.hThread);
    l->node->watch.process = info.hProcess;
    return (int)info.dwProcessId;
}

/* Turns all texts into the system's, and looks the program up, before anything is made inheritable:
   what is, is so for as short a time as possible. */
static int reactor__spawn_sys_start(const reactor__spawn_launch *l) {
    const reactor_spawn_options *o = l->o;
    WCHAR *file = NULL, *command = NULL, *block = NULL, *directory = NULL;
    reactor__spawn_handles handles;
    int e = reactor__spawn_search(o->file ? o->file : o->argv[0], &file);
    if (e == 0) e = reactor__spawn_command(o->argv, &command);
    if (e == 0) e = reactor__spawn_block(o->environment, &block);
    if (e == 0 && o->directory)
        e = reactor__spawn_wide(o->directory, strlen(o->directory) + 1, &directory);
    if (e == 0) e = reactor__spawn_copy_handles(l, &handles);
    if (e == 0) {
        e = reactor__spawn_create(l, file, command, block, directory, &handles);
        reactor__spawn_drop_handles(&handles);
    }
    REACTOR_FREE(file);
    REACTOR_FREE(command);
    REACTOR_FREE(block);
    REACTOR_FREE(directory);
    return e;
}

#else

#ifdef __APPLE__
#include <crt_externs.h>
#define REACTOR__SPAWN_ENVIRONMENT (*_NSGetEnviron()) /* libraries have no environ there */
#else
/* Not every system declares it, and glibc does only for _GNU_SOURCE. */
#ifdef __cplusplus
extern "C" {
#endif
extern char **environ;
#ifdef __cplusplus
}
#endif
#define REACTOR__SPAWN_ENVIRONMENT environ
#endif

/* macOS and an analyzer advise against vfork. */
#if defined(__APPLE__) || defined(__clang_analyzer__)
#define REACTOR__SPAWN_FORK fork
#else
#define REACTOR__SPAWN_FORK vfork
#endif

/* All that the new process needs, for it can neither allocate nor look anything up. With vfork it
   writes here, too: files is overwritten, shared and error are its answer. They are volatile, for
   the compiler does not see who writes them. */
typedef struct reactor__spawn_plan {
    const char *file, *directory;
    const char *const *argv, *const *environment;
    const char *path; /* the list of folders to look in; NULL: file is a path */
    char *candidate;  /* room for each that is tried */
    int *files;       /* what becomes 0, 1, 2 ... */
    int count;        /* of these */
    int group, session;
    int report;          /* the pipe */
    volatile int shared; /* set by the new process: it has this memory */
    volatile int error;  /* and then, why it failed */
} reactor__spawn_plan;

/* Nothing is missing here. */
static int reactor__spawn_sys_check(const reactor_spawn_options *o) {
    (void)o;
    return 0;
}

/* Above 2, as all descriptors of the library: if 0 is not open here, /dev/null would get that
   number, and be taken for the program's own standard input. */
static int reactor__spawn_sys_null(int number, reactor_file *out) {
    *out = reactor__util_above(open("/dev/null", (number ? O_WRONLY : O_RDONLY) | O_CLOEXEC));
    return *out < 0 ? -errno : 0;
}

static void reactor__spawn_sys_close(reactor_file file, int stream) {
    (void)stream;
    reactor__util_close(file);
}

/* What is close-on-exec is not meant to be given, such as what holds the place of a number that was
   not open. */
static int reactor__spawn_sys_own(int number, reactor_file *out) {
    *out = number;
    return fcntl(number, F_GETFD) == 0;
}

/* Asked before there is a process, so that the caller hears EBADF of the file and not of a dup2 in
   between. */
static int reactor__spawn_sys_is_open(reactor_file file) {
    return fcntl(file, F_GETFD) < 0 ? -errno : 0;
}

/* Both ends close-on-exec. Until the flag is set here another thread may start a program by other
   means, which then holds the pipe open: hence pipe2(2) wherever there is one. */
#ifdef __APPLE__
static int reactor__spawn_pipe(int ends[2]) {
    if (pipe(ends) < 0) return -errno;
    for (int i = 0; i < 2; i++) {
        int e = reactor__util_cloexec(ends[i]);
        if (e == 0) continue;
        reactor__util_close(ends[0]);
        reactor__util_close(ends[1]);
        return e;
    }
    return 0;
}
#elif defined(__linux__)
/* glibc declares pipe2 only for _GNU_SOURCE. */
static int reactor__spawn_pipe(int ends[2]) {
    return syscall(SYS_pipe2, ends, O_CLOEXEC) < 0 ? -errno : 0;
}
#else
static int reactor__spawn_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0; }
#endif

#ifndef REACTOR_NO_NET
/* A pipe and not a pair of sockets, for programs expect one: /dev/stdout of a socket cannot be
   opened, and some choose their buffering by it. The end that is given stays blocking, as programs
   want it: O_NONBLOCK, which reactor_attach sets, is of one end alone. */
static int reactor__spawn_sys_pair(int number, reactor_socket *ours, reactor_file *given) {
    int ends[2];
    int e = reactor__spawn_pipe(ends);
    if (e < 0) return e;
    *ours = reactor__util_above(ends[number == 0]);
    *given = reactor__util_above(ends[number != 0]);
    return 0;
}
#endif

/* ---- in the new process ----

   Nothing here may allocate, lock, or call what does. */

/* Closes all descriptors from first on. Those of the library are close-on-exec anyway; this is for
   those of the program and its other libraries that are not. */
#ifdef __linux__
#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9, before which nothing does it */
#endif
static void reactor__spawn_close_from(int first) {
    (void)syscall(SYS_close_range, (unsigned)first, UINT_MAX, 0);
}
#elif defined(__APPLE__)
static void reactor__spawn_close_from(int first) {
    for (int fd = first, end = getdtablesize(); fd < end; fd++) close(fd);
}
#else
static void reactor__spawn_close_from(int first) { closefrom(first); }
#endif

/* What is to get a number is first moved above all numbers that are to be given: so none takes the
   place of another that is still needed. The report is moved to the first place above them, so that
   everything else above can be closed in one go. dup2(2) clears close-on-exec, and so it is cleared
   by hand of what already has its number. */
static int reactor__spawn_place(reactor__spawn_plan *plan) {
    for (int i = 0; i < plan->count; i++) {
        int *file = &plan->files[i];
        if (*file == i || *file > plan->count) continue;
        *file = fcntl(*file, F_DUPFD_CLOEXEC, plan->count + 1);
        if (*file < 0) return errno;
    }
    if (plan->report != plan->count) {
        if (dup2(plan->report, plan->count) < 0) return errno;
        plan->report = plan->count;
        if (fcntl(plan->report, F_SETFD, FD_CLOEXEC) < 0) return errno;
    }
    for (int i = 0; i < plan->count; i++) {
        const int file = plan->files[i];
        if (file == i ? fcntl(i, F_SETFD, 0) < 0 : dup2(file, i) < 0) return errno;
    }
    reactor__spawn_close_from(plan->count + 1);
    return 0;
}

/* execve(2) resets handlers only: what is ignored or blocked here would be so in the program, which
   then writes into broken pipes for ever or cannot be ended by SIGTERM. Some numbers are refused
   (SIGKILL, and what the C library keeps for itself). The mask comes last: a signal that was sent
   to the process meanwhile meets the default action, as it would in the program. */
static void reactor__spawn_reset_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int i = 1; i < REACTOR__CHILD_SIGNALS; i++) (void)sigaction(i, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Returns only if it failed. The casts are of POSIX's making: execve changes neither text. */
static int reactor__spawn_try(const reactor__spawn_plan *plan, const char *path) {
    execve(path, (char *const *)(uintptr_t)plan->argv, (char *const *)(uintptr_t)plan->environment);
    return errno;
}

/* As execvp(3): the next folder is tried if there is no such file in one, or none that may be run;
   that is told only if no other is found. An empty folder is the current one. */
static int reactor__spawn_exec(const reactor__spawn_plan *plan) {
    int denied = 0;
    if (!plan->path) return reactor__spawn_try(plan, plan->file);
    for (const char *at = plan->path, *end;; at = end + 1) {
        end = strchr(at, ':');
        const size_t len = end ? (size_t)(end - at) : strlen(at);
        char *to = plan->candidate;
        memcpy(to, at, len);
        to += len;
        if (len) *to++ = '/';
        memcpy(to, plan->file, strlen(plan->file) + 1);
        const int e = reactor__spawn_try(plan, plan->candidate);
        if (e == EACCES) denied = 1;
        if (e != EACCES && e != ENOENT && e != ENOTDIR && e != ENAMETOOLONG && e != ELOOP) return e;
        if (!end) return denied ? EACCES : ENOENT;
    }
}

/* What the new process does, up to its end. Not inlined: its caller's variables are the parent's,
   too, and must keep their values. A session is made before the folder is changed, and the signals
   are reset last, so that whatever fails is reported. _exit and not exit: the parent's buffers and
   its functions for the end are the parent's. */
REACTOR__NOINLINE static void reactor__spawn_child(reactor__spawn_plan *plan) {
    plan->shared = 1;
    int e = reactor__spawn_place(plan);
    if (e == 0 && plan->session && setsid() < 0) e = errno;
    if (e == 0 && plan->group && !plan->session && setpgid(0, 0) < 0) e = errno;
    if (e == 0 && plan->directory && chdir(plan->directory) < 0) e = errno;
    reactor__spawn_reset_signals();
    if (e == 0) e = reactor__spawn_exec(plan);
    plan->error = e;
    while (write(plan->report, &e, sizeof e) < 0 && errno == EINTR) {
    }
    _exit(127);
}

/* ---- in this one ---- */

/* Signals are blocked over the fork: a handler of the program that ran in the new process would run
   in this one's memory. The mask of this thread is as before when it returns. Not inlined, for a
   function that calls vfork must not go on in its caller's frame. */
REACTOR__NOINLINE static int reactor__spawn_fork(reactor__spawn_plan *plan) {
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return -EAGAIN;
    const pid_t pid = REACTOR__SPAWN_FORK();
    if (pid == 0) reactor__spawn_child(plan);
    const int result = pid < 0 ? -errno : (int)pid;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

/* Why the process could not become the program, or 0. With shared memory that is known by now, for
   vfork returns when the process has become the program or ended; and it must not be read from the
   pipe, which a process that another thread has forked meanwhile may hold open. */
static int reactor__spawn_outcome(const reactor__spawn_plan *plan, int pipe_end) {
    int error = 0;
    ssize_t n;
    if (plan->shared) return plan->error;
    do n = read(pipe_end, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof error ? error : n < 0 ? errno : 0;
}

/* What failed is waited for here, for nobody else knows of it. A host's handler of SIGCHLD that
   waits for all may be faster; then there is nothing left to do. */
static int reactor__spawn_run(reactor__spawn_plan *plan) {
    int ends[2];
    int e = reactor__spawn_pipe(ends);
    if (e < 0) return e;
    plan->report = ends[1];
    const int pid = reactor__spawn_fork(plan);
    reactor__util_close(ends[1]);
    e = pid < 0 ? 0 : reactor__spawn_outcome(plan, ends[0]);
    reactor__util_close(ends[0]);
    if (!e) return pid;
    while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) {
    }
    return -e;
}

/* PATH of the environment that the program is given: it finds the programs that it starts itself in
   the same place. Without one, what execvp(3) takes. */
static const char *reactor__spawn_path(const char *const *environment) {
    for (; *environment; environment++)
        if (strncmp(*environment, "PATH=", 5) == 0) return *environment + 5;
    return "/usr/local/bin:/bin:/usr/bin";
}

/* Everything that the new process needs is prepared here, in one piece of memory: the numbers of
   its files, and room for each path that it tries. */
static int reactor__spawn_sys_start(const reactor__spawn_launch *l) {
    const reactor_spawn_options *o = l->o;
    reactor__spawn_plan plan;
    memset(&plan, 0, sizeof plan);
    plan.file = o->file ? o->file : o->argv[0];
    plan.argv = o->argv;
    plan.environment = o->environment ? o->environment
                                      : (const char *const *)(uintptr_t)REACTOR__SPAWN_ENVIRONMENT;
    plan.directory = o->directory;
    plan.group = o->group;
    plan.session = o->session;
    plan.count = 3 + o->file_count;
    if (*plan.file && !strchr(plan.file, '/')) plan.path = reactor__spawn_path(plan.environment);
    const size_t texts = plan.path ? strlen(plan.path) + strlen(plan.file) + 2 : 0;
    plan.files = (int *)REACTOR_MALLOC((size_t)plan.count * sizeof *plan.files + texts);
    if (!plan.files) return -ENOMEM;
    plan.candidate = (char *)(plan.files + plan.count);
    for (int i = 0; i < plan.count; i++) plan.files[i] = i < 3 ? l->given[i] : o->files[i - 3];
    const int pid = reactor__spawn_run(&plan);
    REACTOR_FREE(plan.files);
    return pid;
}
#endif

/* ---- the streams ---- */

#ifndef REACTOR_NO_NET
/* The connection is made before there is a process: what fails here leaves nothing to be ended. */
static int reactor__spawn_stream(reactor__spawn_launch *l, int i) {
    const reactor_spawn_stream *s = &l->o->streams[i];
    reactor_socket ours;
    int e = reactor__spawn_sys_pair(i, &ours, &l->given[i]);
    if (e < 0) return e;
    l->made[i] = 1;
    e = reactor_attach(l->r, ours, s->handler, s->conn, &l->conns[i]);
    if (e < 0) reactor__util_close(ours);
    return e;
}

/* Nobody has heard of the connections yet, so they go without an on_close. */
static void reactor__spawn_discard(reactor__spawn_launch *l) {
    for (int i = 0; i < 3; i++)
        if (l->conns[i].id) reactor__stream_unattach(l->r, l->conns[i]);
}
#else
static int reactor__spawn_stream(reactor__spawn_launch *l, int i) {
    (void)l, (void)i;
    return -ENOTSUP;
}

static void reactor__spawn_discard(reactor__spawn_launch *l) { (void)l; }
#endif

/* Finds or makes what the process gets as its descriptor i. What was made is closed here when the
   process has it; what is the caller's stays open. */
static int reactor__spawn_open(reactor__spawn_launch *l, int i) {
    const reactor_spawn_stream *s = &l->o->streams[i];
    if (s->what == REACTOR_SPAWN_STREAM) return reactor__spawn_stream(l, i);
    if (s->what == REACTOR_SPAWN_OUTPUT) l->given[i] = l->given[1];
    if (s->what == REACTOR_SPAWN_OUTPUT) return 0;
    if (s->what == REACTOR_SPAWN_FILE) {
        l->given[i] = s->file;
        return reactor__spawn_sys_is_open(s->file);
    }
    if (s->what == REACTOR_SPAWN_INHERIT && reactor__spawn_sys_own(i, &l->given[i])) return 0;
    int e = reactor__spawn_sys_null(i, &l->given[i]);
    l->made[i] = e == 0;
    return e;
}

/* 1,024 files are more than any program is given, and keep the sums of numbers far from
   overflowing. */
static int reactor__spawn_check(const reactor_spawn_options *o) {
    if (!o->argv || !o->argv[0] || o->file_count < 0 || (o->file_count && !o->files))
        return -EINVAL;
    if (o->file_count > 1024 || (o->group & ~1) || (o->session & ~1)) return -EINVAL;
    for (int i = 0; i < 3; i++) {
        const reactor_spawn_stream *s = &o->streams[i];
        if (s->what < REACTOR_SPAWN_INHERIT || s->what > REACTOR_SPAWN_OUTPUT) return -EINVAL;
        if (s->what == REACTOR_SPAWN_OUTPUT && i != 2) return -EINVAL;
        if (s->what == REACTOR_SPAWN_STREAM && !s->handler) return -EINVAL;
    }
    for (int i = 0; i < o->file_count; i++) {
        int e = reactor__spawn_sys_is_open(o->files[i]);
        if (e < 0) return e;
    }
    return reactor__spawn_sys_check(o);
}

/* Opens the streams, starts the process, and closes what only the process needs: of a pipe whose
   given end stayed open here, the other end would never end. Once the process is there nothing
   fails any more: if the system will not tell of its end, the timer of section child looks. */
static int reactor__spawn_launch_all(reactor__spawn_launch *l) {
    int e = 0;
    for (int i = 0; i < 3 && e == 0; i++) e = reactor__spawn_open(l, i);
    const int pid = e < 0 ? e : reactor__spawn_sys_start(l);
    for (int i = 0; i < 3; i++)
        if (l->made[i])
            reactor__spawn_sys_close(l->given[i], l->o->streams[i].what == REACTOR_SPAWN_STREAM);
    if (pid < 0) {
        reactor__spawn_discard(l);
        REACTOR_FREE(l->node);
        return pid;
    }
    l->node->group = l->o->group || l->o->session;
    (void)reactor__child_start(l->node, pid);
    return pid;
}

REACTOR_API int reactor_spawn(reactor *r, const reactor_spawn_options *o, reactor_spawned *out) {
    reactor__spawn_launch l;
    memset(&l, 0, sizeof l);
    if (out) memset(out, 0, sizeof *out);
    if (!r || !o) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    int e = reactor__spawn_check(o);
    if (e == 0) e = reactor__child_new(r, o->on_exit, o->user, &l.node);
    if (e < 0) return e;
    l.r = r;
    l.o = o;
    e = reactor__spawn_launch_all(&l);
    if (e < 0) return e;
    if (out) {
        out->pid = e;
        memcpy(out->streams, l.conns, sizeof l.conns);
    }
    return 0;
}
#endif
/* ==== >> datagram ==== */
/* UDP and unix datagram sockets: received in batches, sent in batches, a bounded queue between.

   A socket is a level on every backend, WRITE being of interest only while the kernel takes no more:
   a level needs no look at an empty socket to see that it is empty. One receive brings up to BATCH
   datagrams into the loop's one buffer, and by UDP_GRO each of these may be several. Sends go to the
   queue, where datagrams to one peer lie side by side, so that a run of one size is a single piece
   of memory for UDP_SEGMENT; the queue leaves at the end of the callback or the turn.

   Traps. A stop or a pause may come in the middle of a batch: the rest is kept (in). An error that
   send or receive reports may be the network's word on an earlier datagram, and this one is not
   sent then. A unix peer that does not read fills nobody's buffer but its own, and its room is not
   told to others. Memory of a socket stays until the end of the turn: see finish. */
#if !defined(REACTOR_NO_NET) && !defined(REACTOR_NO_DATAGRAMS)

/* ---- a socket's life ----

        OPEN      from reactor_datagram_open on; PAUSED and BLOCKED come and go, each for one
                  direction
        CLOSING   nothing is called any more but on_close; what is queued leaves, until close_by
        gone      on_close has been called, the memory is freed

   The edges, and who makes them:

        OPEN -> CLOSING     reactor_datagram_close; fail, when receiving is over; fini
        CLOSING -> gone     finish, by step at the end of a turn, or by fini

   Callbacks run inside io (an event) and inside step (the end of a turn), and a socket is freed by
   step and fini alone. So whoever runs below io may go on using it after any callback, and has
   only to look whether it is CLOSING by now, or whether the loop has been stopped. */
enum {
    REACTOR__DATAGRAM_CONNECTED = 1,
    REACTOR__DATAGRAM_UNIX = 2,
    REACTOR__DATAGRAM_MAPPED = 4,         /* IPv6 that takes IPv4, too: as ::ffff:a.b.c.d */
    REACTOR__DATAGRAM_INFO = 8,           /* peers have local addresses */
    REACTOR__DATAGRAM_SEGMENTS = 16,      /* the system cuts what is sent (UDP_SEGMENT) */
    REACTOR__DATAGRAM_COALESCES = 32,     /* and joins what is received (UDP_GRO) */
    REACTOR__DATAGRAM_QUEUES_ERRORS = 64, /* the network's, with their peers (IP_RECVERR) */
    REACTOR__DATAGRAM_PAUSED = 128,
    REACTOR__DATAGRAM_BLOCKED = 256,   /* the kernel takes no more for now */
    REACTOR__DATAGRAM_SCHEDULED = 512, /* in the module's list: has a turn at the turn's end */
    REACTOR__DATAGRAM_OWES_WRITABLE = 1024,
    REACTOR__DATAGRAM_RETRIED = 2048,  /* the datagram in front has been refused once */
    REACTOR__DATAGRAM_CLOSING = 4096,  /* nothing is called any more but on_close */
    REACTOR__DATAGRAM_ACTIVE = 8192,   /* counted in core.active */
    REACTOR__DATAGRAM_BY_TIMER = 16384 /* BLOCKED, and not told when that is over */
};

enum {
    REACTOR__DATAGRAM_BLOCK =
        64 * 1024,                /* bytes that a piece of the queue has room for, at least */
    REACTOR__DATAGRAM_SPARES = 4, /* of these, kept for the next queue */
    REACTOR__DATAGRAM_COST = 64,  /* what a datagram counts beside its bytes */
    REACTOR__DATAGRAM_FLUSH = 64 * 1024, /* queued by a batch of messages: more is sent at once */
    REACTOR__DATAGRAM_MOST4 = 65507,     /* 65,535 less the headers of IPv4 and UDP */
    REACTOR__DATAGRAM_MOST6 = 65527,     /* 65,535 less UDP's: IPv6 counts without its own */
    REACTOR__DATAGRAM_TRAIN = 65487,     /* bytes in one piece: 65,535 less IPv6's and UDP's */
    REACTOR__DATAGRAM_CARS = 64,         /* datagrams in it: UDP_MAX_SEGMENTS of Linux up to 6.8 */
    REACTOR__DATAGRAM_LARGEST = 16 * 1024 * 1024, /* of max_size */
    REACTOR__DATAGRAM_VAIN = 16,         /* failures in a row after which a socket is given up */
    REACTOR__DATAGRAM_ROUNDS = 4,        /* through the schedule, per turn */
    REACTOR__DATAGRAM_PATIENCE_MS = 100, /* with a unix peer that does not read */
    REACTOR__DATAGRAM_CLOSE_MS = 1000    /* for what is queued at a close */
};

/* A piece of the queue: count items from its end backwards, and from its front on what they refer
   to, used bytes: peers, and the datagrams' own bytes. */
typedef struct reactor__datagram_block {
    struct reactor__datagram_block *next;
    uint32_t cap, used;
    uint32_t count, first; /* items; of them, gone */
    uint32_t peer;         /* of the latest: where it is; NONE: there is none */
    uint32_t unused;
} reactor__datagram_block;

typedef struct reactor__datagram_item {
    uint32_t at, len; /* its bytes */
    uint32_t size;    /* of what was received: as it was sent */
    uint32_t peer;    /* where that is; NONE: the connected one */
} reactor__datagram_item;

typedef struct reactor__datagram_queue {
    reactor__datagram_block *head, *tail;
    size_t bytes; /* with COST for each */
    size_t count;
} reactor__datagram_queue;

/* What one header of a send stands for: a datagram, or several of one size to one peer. */
typedef struct reactor__datagram_train {
    const char *data;
    const reactor_peer *to; /* NULL: the connected one; only len bytes of its address are there */
    uint32_t len, segment;  /* bytes of all, of each; the last may be shorter */
    uint32_t count;
    int info; /* to.local counts */
} reactor__datagram_train;

/* What one header of a receive has brought. */
typedef struct reactor__datagram_got {
    uint32_t len;     /* bytes in the buffer */
    uint32_t size;    /* as it was sent; UINT32_MAX: longer, and nobody knows how much */
    uint32_t segment; /* bytes of each, if these are several; else 0 */
} reactor__datagram_got;

/* A socket. state follows, aligned. */
typedef struct reactor__datagram_socket {
    struct reactor__datagram_socket *next, **at; /* of all; at: what points at this one */
    struct reactor__datagram_socket *scheduled_next;
    const reactor_datagram_handler *h;
    uint64_t id; /* its handle */
    reactor__net_bound bound;
    unsigned flags;
    int family;
    int reason;   /* for on_close */
    int failures; /* reports in a row of which nothing came */
    reactor__datagram_queue out, in;
    size_t high_water, low_water, max_output;
    size_t owed;                 /* the longest that was refused, with COST */
    uint32_t max_size, capacity; /* of what is received; room for one receive */
    uint32_t segment_most;       /* the longest that the system is asked to cut to; 0: none */
    int overflow, read_budget;
    uint64_t timer;        /* of a retry or a close; 0: none */
    int64_t close_by;      /* CLOSING: until then what is queued may leave, by the clock */
    int64_t blocked_since; /* BY_TIMER: by the clock; 0: not */
    int64_t pause;         /* before the next try, nanoseconds */
    uint64_t stuck;        /* the peer that was given up last, as a hash; 0: none */
    void *user;
    char name[32];
} reactor__datagram_socket;

#define REACTOR__DATAGRAM_HEAD ((sizeof(reactor__datagram_socket) + 15) / 16 * 16)
#define REACTOR__DATAGRAM_PEER offsetof(reactor_peer, address) /* bytes before the address */

/* ---- what differs between the systems ---- */
#ifdef __linux__

#define REACTOR__DATAGRAM_BATCH 64 /* datagrams, or trains, with one system call */

/* Newer than some headers, or hidden without _GNU_SOURCE. udp(7), ip(7), ipv6(7). */
enum {
    REACTOR__DATAGRAM_SOL_UDP = 17,
    REACTOR__DATAGRAM_UDP_SEGMENT = 103, /* Linux 4.18 */
    REACTOR__DATAGRAM_UDP_GRO = 104,     /* Linux 5.0 */
    REACTOR__DATAGRAM_IP_PKTINFO = 8,
    REACTOR__DATAGRAM_IP_RECVERR = 11,
    REACTOR__DATAGRAM_IPV6_RECVERR = 25,
    REACTOR__DATAGRAM_IPV6_RECVPKTINFO = 49,
    REACTOR__DATAGRAM_IPV6_PKTINFO = 50,
    REACTOR__DATAGRAM_ERRQUEUE = 0x2000,
    REACTOR__DATAGRAM_CONTROL = 128 /* bytes: two kinds of packet info and a segment's size */
};

/* struct mmsghdr, which is hidden likewise. */
typedef struct reactor__datagram_header {
    struct msghdr m;
    unsigned len;
} reactor__datagram_header;

typedef struct reactor__datagram_ends { /* of receiving, and of sending */
    reactor__datagram_header headers[REACTOR__DATAGRAM_BATCH];
    reactor__util_piece pieces[REACTOR__DATAGRAM_BATCH];
    uint64_t control[REACTOR__DATAGRAM_BATCH][REACTOR__DATAGRAM_CONTROL / 8];
} reactor__datagram_ends;

typedef struct reactor__datagram_sys {
    reactor__datagram_ends in, out;
    uint32_t capacity; /* that the headers of in are made for */
    uint32_t used;     /* headers of in that the kernel has written to */
    int single;        /* this kernel or sandbox lacks the calls for many */
} reactor__datagram_sys;

#else

#define REACTOR__DATAGRAM_BATCH 1

typedef struct reactor__datagram_sys {
    int unused;
} reactor__datagram_sys;

#endif

typedef struct reactor__datagram_module {
    reactor__loop_module module;
    reactor__datagram_socket *sockets;
    reactor__datagram_socket *scheduled_head, *scheduled_tail;
    reactor__datagram_socket *current; /* its callback is running: it is flushed after that */
    reactor__datagram_block *spares;
    int spare_count;
    char *buffer; /* what is received */
    size_t size;
    reactor__datagram_got got[REACTOR__DATAGRAM_BATCH];
    reactor_peer peers[REACTOR__DATAGRAM_BATCH];
    reactor__datagram_train trains[REACTOR__DATAGRAM_BATCH];
    reactor__datagram_sys sys;
} reactor__datagram_module;

/* Bytes from one datagram's place in the buffer to the next's. Places a power of two apart would
   share few of the processor's cache lines: so they are not. */
static size_t reactor__datagram_stride(const reactor__datagram_socket *d) {
    return ((size_t)d->capacity + 63) / 64 * 64 + 3 * 64;
}

/* How many places there are. */
static uint32_t reactor__datagram_places(const reactor__datagram_module *p,
                                         const reactor__datagram_socket *d) {
    const size_t n = p->size / reactor__datagram_stride(d);
    return n < REACTOR__DATAGRAM_BATCH ? (uint32_t)n : REACTOR__DATAGRAM_BATCH;
}

#ifdef __linux__

/* ---- Linux: control messages ---- */

/* The next one. Not CMSG_NXTHDR, which compilers warn of with some C libraries. */
static const struct cmsghdr *reactor__datagram_sys_next(const struct msghdr *m,
                                                        const struct cmsghdr *c) {
    const size_t step = ((size_t)c->cmsg_len + sizeof(size_t) - 1) & ~(sizeof(size_t) - 1);
    const size_t left =
        (size_t)m->msg_controllen - (size_t)((const char *)c - (const char *)m->msg_control);
    if (c->cmsg_len < sizeof *c || step > left || left - step < sizeof *c) return NULL;
    return (const struct cmsghdr *)(const void *)((const char *)c + step);
}

/* The first control message, or NULL. The kernel sets the length to what it has written. */
static const struct cmsghdr *reactor__datagram_sys_first(const struct msghdr *m) {
    if ((size_t)m->msg_controllen < sizeof(struct cmsghdr)) return NULL;
    return (const struct cmsghdr *)m->msg_control;
}

static const unsigned char reactor__datagram_mapped[12] = {0, 0, 0, 0, 0,    0,
                                                           0, 0, 0, 0, 0xff, 0xff};

/* IP_PKTINFO: interface, the address to answer from, the one in the header, which may be a group's.
   IPV6_PKTINFO: address, interface; of IPv4 the other one says more. */
static void reactor__datagram_sys_look(const struct cmsghdr *c, reactor__datagram_got *got,
                                       reactor_peer *peer) {
    const unsigned char *data = (const unsigned char *)(c + 1);
    if (c->cmsg_level == REACTOR__DATAGRAM_SOL_UDP && c->cmsg_type == REACTOR__DATAGRAM_UDP_GRO) {
        int size;
        memcpy(&size, data, sizeof size);
        if (size > 0) got->segment = (uint32_t)size;
    } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == REACTOR__DATAGRAM_IP_PKTINFO) {
        memcpy(&peer->if_index, data, 4);
        memcpy(peer->local, reactor__datagram_mapped, 12);
        memcpy(peer->local + 12, data + 4, 4);
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == REACTOR__DATAGRAM_IPV6_PKTINFO &&
               memcmp(data, reactor__datagram_mapped, 12) != 0) {
        memcpy(peer->local, data, 16);
        memcpy(&peer->if_index, data + 16, 4);
    }
}

/* Appends a control message. The header's room is known to suffice: CONTROL counts all kinds. */
static void reactor__datagram_sys_put(struct msghdr *m, int level, int type, const void *data,
                                      size_t len) {
    struct cmsghdr *c = (struct cmsghdr *)(void *)((char *)m->msg_control + m->msg_controllen);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = (socklen_t)CMSG_LEN(len);
    memcpy(c + 1, data, len);
    m->msg_controllen += (socklen_t)CMSG_SPACE(len);
}

/* Of inet, as all with packet info are. */
static int reactor__datagram_is_group(const reactor_peer *to) {
    struct sockaddr_in6 in6;
    struct sockaddr_in in4;
    memcpy(&in4, to->address, sizeof in4);
    if (in4.sin_family == AF_INET) return (ntohl(in4.sin_addr.s_addr) >> 28) == 14;
    memcpy(&in6, to->address, sizeof in6);
    return in6.sin6_addr.s6_addr[0] == 0xff;
}

/* From the address that the datagram answered came to, unless that is a group's, which nobody sends
   from. An interface is only named for groups: to others the routes may lead by another one. */
static void reactor__datagram_sys_put_info(struct msghdr *m, const reactor_peer *to) {
    unsigned char info[20];
    const uint32_t if_index = reactor__datagram_is_group(to) ? to->if_index : 0;
    const int mapped = memcmp(to->local, reactor__datagram_mapped, 12) == 0;
    memset(info, 0, sizeof info);
    if (mapped) {
        memcpy(info, &if_index, 4);
        memcpy(info + 4, to->local + 12, 4);
        reactor__datagram_sys_put(m, IPPROTO_IP, REACTOR__DATAGRAM_IP_PKTINFO, info, 12);
        return;
    }
    if (to->local[0] != 0xff) memcpy(info, to->local, 16);
    memcpy(info + 16, &if_index, 4);
    reactor__datagram_sys_put(m, IPPROTO_IPV6, REACTOR__DATAGRAM_IPV6_PKTINFO, info, 20);
}

/* ---- Linux: receiving ---- */

/* The buffer has moved. */
static void reactor__datagram_sys_forget(reactor__datagram_module *p) { p->sys.capacity = 0; }

/* Makes the headers point at their places in the buffer. That differs only between sockets of a
   different max_size, so most receives find it done. */
static void reactor__datagram_sys_aim(reactor__datagram_module *p,
                                      const reactor__datagram_socket *d) {
    reactor__datagram_ends *in = &p->sys.in;
    const size_t stride = reactor__datagram_stride(d);
    const uint32_t n = reactor__datagram_places(p, d);
    for (uint32_t i = 0; i < n; i++) {
        struct msghdr *m = &in->headers[i].m;
        in->pieces[i].iov_base = p->buffer + i * stride;
        in->pieces[i].iov_len = d->capacity;
        m->msg_name = p->peers[i].address;
        m->msg_iov = &in->pieces[i];
        m->msg_iovlen = 1;
        m->msg_control = in->control[i];
    }
    p->sys.capacity = d->capacity;
    p->sys.used = n;
}

/* What the kernel has written to is made ready again, and nothing else. */
static void reactor__datagram_sys_ready(reactor__datagram_module *p) {
    for (uint32_t i = 0; i < p->sys.used; i++) {
        struct msghdr *m = &p->sys.in.headers[i].m;
        m->msg_namelen = sizeof p->peers[i].address;
        m->msg_controllen = REACTOR__DATAGRAM_CONTROL;
        m->msg_flags = 0;
    }
    p->sys.used = 0;
}

/* recvmmsg(2) by number, for headers hide it. Without it, one. */
static int reactor__datagram_sys_call(reactor__datagram_module *p, reactor_socket fd, uint32_t n) {
    reactor__datagram_header *h = p->sys.in.headers;
    const int flags = MSG_DONTWAIT | MSG_TRUNC;
    if (!p->sys.single) {
        long got = syscall(SYS_recvmmsg, fd, h, n, flags, NULL);
        if (got >= 0 || errno != ENOSYS) return got < 0 ? -errno : (int)got;
        p->sys.single = 1;
    }
    ssize_t got = recvmsg(fd, &h->m, flags);
    if (got < 0) return -errno;
    h->len = (unsigned)got;
    return 1;
}

/* How many came, or -errno. With MSG_TRUNC the length told is that which was sent. */
static int reactor__datagram_sys_receive(reactor__datagram_module *p,
                                         const reactor__datagram_socket *d, uint32_t most) {
    if (p->sys.capacity != d->capacity) reactor__datagram_sys_aim(p, d);
    reactor__datagram_sys_ready(p);
    int n = reactor__datagram_sys_call(p, d->bound.fd, most);
    for (int i = 0; i < n; i++) {
        const reactor__datagram_header *h = &p->sys.in.headers[i];
        reactor__datagram_got *got = &p->got[i];
        got->size = h->len;
        got->len = h->len < d->capacity ? h->len : d->capacity;
        got->segment = 0;
        memset(&p->peers[i], 0, REACTOR__DATAGRAM_PEER);
        p->peers[i].len = (uint32_t)h->m.msg_namelen;
        for (const struct cmsghdr *c = reactor__datagram_sys_first(&h->m); c;
             c = reactor__datagram_sys_next(&h->m, c))
            reactor__datagram_sys_look(c, got, &p->peers[i]);
    }
    if (n > 0) p->sys.used = (uint32_t)n;
    return n;
}

/* How many datagrams a receive asks for. If it brings fewer, the socket is empty: the look that
   would be needed to see that is saved. */
static int reactor__datagram_sys_asks(const reactor__datagram_module *p, uint32_t most) {
    return p->sys.single ? 1 : (int)most;
}

/* ---- Linux: sending ---- */

/* Makes header i from train t. Every field is written, because trains differ from send to send. The
   size of a segment is told only of several: with one the kernel would do its checks in vain. */
static void reactor__datagram_sys_load(reactor__datagram_ends *out, uint32_t i,
                                       const reactor__datagram_train *t) {
    struct msghdr *m = &out->headers[i].m;
    const uint16_t segment = (uint16_t)t->segment;
    memset(m, 0, sizeof *m);
    out->pieces[i].iov_base = (void *)(uintptr_t)t->data;
    out->pieces[i].iov_len = t->len;
    m->msg_iov = &out->pieces[i];
    m->msg_iovlen = 1;
    m->msg_control = out->control[i];
    if (t->to) {
        m->msg_name = (void *)(uintptr_t)t->to->address;
        m->msg_namelen = (socklen_t)t->to->len;
        if (t->info) reactor__datagram_sys_put_info(m, t->to);
    }
    if (t->count > 1)
        reactor__datagram_sys_put(m, REACTOR__DATAGRAM_SOL_UDP, REACTOR__DATAGRAM_UDP_SEGMENT,
                                  &segment, sizeof segment);
    if (!m->msg_controllen) m->msg_control = NULL;
}

/* How many of p->trains have been taken, from the first on, or the error of the first. */
static int reactor__datagram_sys_send(reactor__datagram_module *p, reactor_socket fd, uint32_t n) {
    reactor__datagram_ends *out = &p->sys.out;
    for (uint32_t i = 0; i < n; i++) reactor__datagram_sys_load(out, i, &p->trains[i]);
    const int flags = MSG_DONTWAIT | REACTOR__NET_NOSIGNAL;
    if (n > 1 && !p->sys.single) {
        long sent = syscall(SYS_sendmmsg, fd, out->headers, n, flags);
        if (sent >= 0 || errno != ENOSYS) return sent < 0 ? -errno : (int)sent;
        p->sys.single = 1;
    }
    return sendmsg(fd, &out->headers[0].m, flags) < 0 ? -errno : 1;
}

/* ---- Linux: options and errors ---- */

/* Kernels that do not know UDP_SEGMENT overlook it in a send, and would send one long datagram: so
   they are asked here. Everything here may be missing. */
static void reactor__datagram_sys_offload(reactor__datagram_socket *d) {
    const reactor_socket fd = d->bound.fd;
    if (reactor__net_set(fd, REACTOR__DATAGRAM_SOL_UDP, REACTOR__DATAGRAM_UDP_SEGMENT, 0) == 0) {
        d->flags |= REACTOR__DATAGRAM_SEGMENTS;
        d->segment_most = REACTOR__DATAGRAM_TRAIN;
    }
    if (reactor__net_set(fd, REACTOR__DATAGRAM_SOL_UDP, REACTOR__DATAGRAM_UDP_GRO, 1) == 0)
        d->flags |= REACTOR__DATAGRAM_COALESCES;
}

/* Both families' options are set on a socket for both. */
static int reactor__datagram_sys_set_both(const reactor__datagram_socket *d, int ip, int ipv6) {
    const reactor_socket fd = d->bound.fd;
    int e = 0;
    if (d->family == AF_INET6) e = reactor__net_set(fd, IPPROTO_IPV6, ipv6, 1);
    if (e == 0 && (d->family == AF_INET || (d->flags & REACTOR__DATAGRAM_MAPPED)))
        e = reactor__net_set(fd, IPPROTO_IP, ip, 1);
    return e;
}

/* Has each datagram tell by which interface and to which address it came. */
static int reactor__datagram_sys_info(reactor__datagram_socket *d) {
    d->flags |= REACTOR__DATAGRAM_INFO;
    return reactor__datagram_sys_set_both(d, REACTOR__DATAGRAM_IP_PKTINFO,
                                          REACTOR__DATAGRAM_IPV6_RECVPKTINFO);
}

/* Has the system keep errors in a queue, each with the peer that it is about. Without that an
   unconnected socket hears of none. */
static int reactor__datagram_sys_errors(reactor__datagram_socket *d) {
    d->flags |= REACTOR__DATAGRAM_QUEUES_ERRORS;
    return reactor__datagram_sys_set_both(d, REACTOR__DATAGRAM_IP_RECVERR,
                                          REACTOR__DATAGRAM_IPV6_RECVERR);
}

/* struct sock_extended_err begins with the errno and who says so: 1 this machine, 2 ICMP, 3 ICMPv6.
   Others, such as timestamps, are no errors. */
static int reactor__datagram_sys_error_of(const struct msghdr *m) {
    for (const struct cmsghdr *c = reactor__datagram_sys_first(m); c;
         c = reactor__datagram_sys_next(m, c)) {
        const int ours =
            (c->cmsg_level == IPPROTO_IP && c->cmsg_type == REACTOR__DATAGRAM_IP_RECVERR) ||
            (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == REACTOR__DATAGRAM_IPV6_RECVERR);
        const unsigned char *data = (const unsigned char *)(c + 1);
        uint32_t error;
        if (!ours) continue;
        memcpy(&error, data, sizeof error);
        return data[4] >= 1 && data[4] <= 3 ? (int)error : 0;
    }
    return 0;
}

/* Takes one entry of the error queue: its error, 0 if it is none, or -EAGAIN and the like. */
static int reactor__datagram_sys_take_error(const reactor__datagram_socket *d, reactor_peer *peer) {
    uint64_t control[64];
    struct msghdr m;
    reactor__util_piece none;
    memset(&m, 0, sizeof m);
    memset(peer, 0, sizeof *peer);
    none.iov_base = control;
    none.iov_len = 0;
    m.msg_iov = &none;
    m.msg_iovlen = 1;
    m.msg_name = peer->address;
    m.msg_namelen = sizeof peer->address;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    if (!(d->flags & REACTOR__DATAGRAM_QUEUES_ERRORS)) return -EAGAIN;
    if (recvmsg(d->bound.fd, &m, REACTOR__DATAGRAM_ERRQUEUE | (int)MSG_DONTWAIT) < 0) return -errno;
    peer->len = (uint32_t)m.msg_namelen;
    return reactor__datagram_sys_error_of(&m);
}

#else /* not Linux */

static void reactor__datagram_sys_forget(reactor__datagram_module *p) { (void)p; }

#ifdef _WIN32
/* A datagram that is too long fails, with its beginning in the buffer. */
static int reactor__datagram_sys_receive(reactor__datagram_module *p,
                                         const reactor__datagram_socket *d, uint32_t most) {
    int len = sizeof p->peers[0].address, e = 0;
    (void)most;
    memset(&p->peers[0], 0, REACTOR__DATAGRAM_PEER);
    int n = recvfrom(d->bound.fd, p->buffer, (int)d->capacity, 0,
                     (struct sockaddr *)(void *)p->peers[0].address, &len);
    if (n == SOCKET_ERROR) e = reactor__util_error();
    /* What ICMP says of an earlier datagram (Winsock: WSAECONNRESET of a datagram socket). */
    if (e == -ECONNRESET) return -ECONNREFUSED;
    if (e < 0 && e != -EMSGSIZE) return e;
    p->got[0].len = e ? d->capacity : (uint32_t)n;
    p->got[0].size = e ? UINT32_MAX : (uint32_t)n;
    p->got[0].segment = 0;
    p->peers[0].len = (uint32_t)len;
    return 1;
}

static int reactor__datagram_sys_send(reactor__datagram_module *p, reactor_socket fd, uint32_t n) {
    const reactor__datagram_train *t = &p->trains[0];
    const struct sockaddr *to =
        t->to ? (const struct sockaddr *)(const void *)t->to->address : NULL;
    (void)n;
    if (sendto(fd, t->data, (int)t->len, 0, to, to ? (int)t->to->len : 0) != SOCKET_ERROR) return 1;
    reactor__net_sys_unsent();
    int e = reactor__util_error();
    return e == -ECONNRESET ? -ECONNREFUSED : e;
}

/* An ICMP error would fail the receives of a socket that is not connected, and not say of whom. */
static void reactor__datagram_sys_offload(reactor__datagram_socket *d) {
    const DWORD udp_connreset = 0x9800000C; /* SIO_UDP_CONNRESET, which not all headers have */
    BOOL on = (d->flags & REACTOR__DATAGRAM_CONNECTED) != 0;
    DWORD n = 0;
    (void)WSAIoctl(d->bound.fd, udp_connreset, &on, sizeof on, NULL, 0, &n, NULL, NULL);
}
#else
static int reactor__datagram_sys_receive(reactor__datagram_module *p,
                                         const reactor__datagram_socket *d, uint32_t most) {
    struct msghdr m;
    reactor__util_piece piece;
    (void)most;
    memset(&m, 0, sizeof m);
    memset(&p->peers[0], 0, REACTOR__DATAGRAM_PEER);
    piece.iov_base = p->buffer;
    piece.iov_len = d->capacity;
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    m.msg_name = p->peers[0].address;
    m.msg_namelen = sizeof p->peers[0].address;
    ssize_t n = recvmsg(d->bound.fd, &m, 0);
    if (n < 0) return -errno;
    p->got[0].len = (uint32_t)n;
    p->got[0].size = m.msg_flags & MSG_TRUNC ? UINT32_MAX : (uint32_t)n;
    p->got[0].segment = 0;
    p->peers[0].len = (uint32_t)m.msg_namelen;
    return 1;
}

static int reactor__datagram_sys_send(reactor__datagram_module *p, reactor_socket fd, uint32_t n) {
    const reactor__datagram_train *t = &p->trains[0];
    const struct sockaddr *to =
        t->to ? (const struct sockaddr *)(const void *)t->to->address : NULL;
    (void)n;
    ssize_t sent =
        sendto(fd, t->data, t->len, REACTOR__NET_NOSIGNAL, to, to ? (socklen_t)t->to->len : 0);
    return sent < 0 ? -errno : 1;
}

/* Nothing to ask for: no system but Linux cuts or joins datagrams for a program. */
static void reactor__datagram_sys_offload(reactor__datagram_socket *d) { (void)d; }
#endif

/* One at a time, until the system says EAGAIN: FreeBSD's recvmmsg is a loop of the C library,
   and saves no system call. */
static int reactor__datagram_sys_asks(const reactor__datagram_module *p, uint32_t most) {
    (void)p, (void)most;
    return 1;
}

/* Each of them has its own way to tell the address that a datagram came to; none is used here,
   which reactor_datagram_options says. */
static int reactor__datagram_sys_info(reactor__datagram_socket *d) {
    (void)d;
    return -ENOTSUP;
}

/* Without an error queue the errors of a connected socket come from its calls. */
static int reactor__datagram_sys_errors(reactor__datagram_socket *d) {
    (void)d;
    return 0;
}

static int reactor__datagram_sys_take_error(const reactor__datagram_socket *d, reactor_peer *peer) {
    (void)d, (void)peer;
    return -EAGAIN;
}
#endif

/* ---- queues ---- */

/* A queue is a list of blocks. A block holds the datagrams' bytes without anything between them,
   so that a run to one peer is one piece of memory, and grows from both ends: bytes from the
   front, items from the back. A peer is written once for all datagrams in a row that have it,
   and items tell by its place whether theirs are the same. The same list serves received
   datagrams that have to be kept. */

static reactor__datagram_module *reactor__datagram_module_of(const reactor *r) {
    return (reactor__datagram_module *)r->modules[REACTOR__LOOP_DATAGRAM];
}

static reactor_datagram reactor__datagram_handle(const reactor__datagram_socket *d) {
    reactor_datagram handle;
    handle.id = d->id;
    return handle;
}

static void *reactor__datagram_state(reactor__datagram_socket *d) {
    return (char *)d + REACTOR__DATAGRAM_HEAD;
}

static char *reactor__datagram_bytes(reactor__datagram_block *b) { return (char *)(b + 1); }

/* Item number i counts from the block's end, where it is aligned. */
static reactor__datagram_item *reactor__datagram_item_at(reactor__datagram_block *b, uint32_t i) {
    return (reactor__datagram_item *)(void *)(reactor__datagram_bytes(b) + b->cap) - 1 - i;
}

/* NULL: it is the connected one's. */
static const reactor_peer *reactor__datagram_peer_at(reactor__datagram_block *b, uint32_t at) {
    return at == REACTOR__NONE ? NULL
                               : (const reactor_peer *)(void *)(reactor__datagram_bytes(b) + at);
}

/* Makes a block empty; its memory stays. */
static void reactor__datagram_block_clear(reactor__datagram_block *b) {
    b->next = NULL;
    b->used = b->count = b->first = 0;
    b->peer = REACTOR__NONE;
}

/* A spare block, or a new one of at least need bytes; NULL without memory. Most sends of a busy
   loop find a spare, so a turn allocates nothing. */
static reactor__datagram_block *reactor__datagram_block_new(reactor__datagram_module *p,
                                                            size_t need) {
    reactor__datagram_block *b = p->spares;
    size_t cap = REACTOR__DATAGRAM_BLOCK + 1024; /* a datagram of 64 KiB and its peer fit in */
    if (need <= cap && b) {
        p->spares = b->next;
        p->spare_count--;
    } else {
        if (need > cap) cap = (need + 15) / 16 * 16;
        b = (reactor__datagram_block *)REACTOR_MALLOC(sizeof *b + cap);
        if (!b) return NULL;
        b->cap = (uint32_t)cap;
    }
    reactor__datagram_block_clear(b);
    return b;
}

static void reactor__datagram_block_free(reactor__datagram_module *p, reactor__datagram_block *b) {
    if (b->cap != REACTOR__DATAGRAM_BLOCK + 1024 || p->spare_count == REACTOR__DATAGRAM_SPARES) {
        REACTOR_FREE(b);
        return;
    }
    b->next = p->spares;
    p->spares = b;
    p->spare_count++;
}

/* Bytes that a peer's record takes; only what counts of its address is kept. */
static size_t reactor__datagram_peer_size(const reactor_peer *peer) {
    return peer ? REACTOR__DATAGRAM_PEER + peer->len : 0;
}

/* Whether the latest datagram in b has the same peer, whose record then serves both. */
static int reactor__datagram_same_peer(reactor__datagram_block *b, const reactor_peer *peer) {
    const reactor_peer *last = reactor__datagram_peer_at(b, b->peer);
    return last && last->len == peer->len &&
           memcmp(last, peer, reactor__datagram_peer_size(peer)) == 0;
}

/* Where peer's record is, which is written if need be. There is room. */
static uint32_t reactor__datagram_put_peer(reactor__datagram_block *b, const reactor_peer *peer) {
    if (!peer) return REACTOR__NONE;
    if (reactor__datagram_same_peer(b, peer)) return b->peer;
    b->peer = (b->used + 7) / 8 * 8;
    memcpy(reactor__datagram_bytes(b) + b->peer, peer, reactor__datagram_peer_size(peer));
    b->used = b->peer + (uint32_t)reactor__datagram_peer_size(peer);
    return b->peer;
}

/* At the end of the queue, or -ENOMEM. Datagrams to one peer lie side by side in a block. */
static int reactor__datagram_push(reactor__datagram_module *p, reactor__datagram_queue *q,
                                  const reactor_peer *peer, const void *data, uint32_t len,
                                  uint32_t size) {
    reactor__datagram_block *b = q->tail;
    const size_t need =
        len + sizeof(reactor__datagram_item) + 8 + reactor__datagram_peer_size(peer);
    if (!b || b->cap - b->used - b->count * sizeof(reactor__datagram_item) < need) {
        b = reactor__datagram_block_new(p, need);
        if (!b) return -ENOMEM;
        if (q->tail)
            q->tail->next = b;
        else
            q->head = b;
        q->tail = b;
    }
    const uint32_t at = reactor__datagram_put_peer(b, peer);
    reactor__datagram_item *item = reactor__datagram_item_at(b, b->count++);
    item->at = b->used;
    item->len = len;
    item->size = size;
    item->peer = at;
    if (len) memcpy(reactor__datagram_bytes(b) + b->used, data, len);
    b->used += len;
    q->bytes += len + REACTOR__DATAGRAM_COST;
    q->count++;
    return 0;
}

/* Takes count datagrams off the front, all of them in the first block. */
static void reactor__datagram_pop(reactor__datagram_module *p, reactor__datagram_queue *q,
                                  uint32_t count) {
    reactor__datagram_block *b = q->head;
    q->count -= count;
    for (; count > 0; count--)
        q->bytes -= reactor__datagram_item_at(b, b->first++)->len + REACTOR__DATAGRAM_COST;
    if (b->first < b->count) return;
    q->head = b->next;
    if (!q->head) q->tail = NULL;
    reactor__datagram_block_free(p, b);
}

/* Drops everything, for a socket that ends. */
static void reactor__datagram_clear(reactor__datagram_module *p, reactor__datagram_queue *q) {
    while (q->head) reactor__datagram_pop(p, q, q->head->count - q->head->first);
}

/* What holds of a socket between any two steps. */
static void reactor__datagram_check(const reactor__datagram_socket *d) {
    REACTOR__CHECK(!d->out.head == !d->out.count && !d->in.head == !d->in.count);
    REACTOR__CHECK(d->out.bytes >= d->out.count * REACTOR__DATAGRAM_COST);
    REACTOR__CHECK(d->out.bytes <= d->max_output);
    REACTOR__CHECK(!d->out.head || d->out.head->first < d->out.head->count);
    REACTOR__CHECK(!(d->flags & REACTOR__DATAGRAM_BY_TIMER) ||
                   (d->flags & REACTOR__DATAGRAM_BLOCKED));
    REACTOR__CHECK(!(d->flags & REACTOR__DATAGRAM_BY_TIMER) || d->timer);
    REACTOR__CHECK(d->capacity >= d->max_size);
    (void)d;
}

/* ---- the schedule ---- */

/* After a stop nobody is called: what is left waits for the next turn. */
static int reactor__datagram_stopped(const reactor *r) { return REACTOR__PEEK(&r->core.stop); }

/* Has a turn at the end of this one. Not in its own callback, after which it has one anyway. */
static void reactor__datagram_schedule(reactor *r, reactor__datagram_socket *d) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    if ((d->flags & REACTOR__DATAGRAM_SCHEDULED) || p->current == d) return;
    d->flags |= REACTOR__DATAGRAM_SCHEDULED;
    d->scheduled_next = NULL;
    if (p->scheduled_head)
        p->scheduled_tail->scheduled_next = d;
    else
        p->scheduled_head = d;
    p->scheduled_tail = d;
    REACTOR__STORE(&r->pending[REACTOR__LOOP_DATAGRAM], 1);
    reactor__loop_touch(r);
}

/* Makes interest, and whether it keeps the loop going, follow the flags. */
static void reactor__datagram_update(reactor *r, reactor__datagram_socket *d) {
    const unsigned f = d->flags;
    const int active = !(f & REACTOR__DATAGRAM_PAUSED) || d->out.head || d->in.head ||
                       (f & REACTOR__DATAGRAM_CLOSING);
    unsigned wanted = 0;
    if (!(f & (REACTOR__DATAGRAM_PAUSED | REACTOR__DATAGRAM_CLOSING))) wanted |= REACTOR_READ;
    if ((f & REACTOR__DATAGRAM_BLOCKED) && !(f & REACTOR__DATAGRAM_BY_TIMER))
        wanted |= REACTOR_WRITE;
    if (d->bound.fd != REACTOR__UTIL_NO_SOCKET &&
        reactor__core_at(&r->core, (uint32_t)d->id)->wanted != wanted)
        reactor__core_modify(&r->core, (uint32_t)d->id, wanted);
    if (active == ((f & REACTOR__DATAGRAM_ACTIVE) != 0)) return;
    d->flags ^= REACTOR__DATAGRAM_ACTIVE;
    r->core.active += active ? 1 : UINT32_MAX;
}

/* The socket cannot go on: on_close gets e. */
static void reactor__datagram_fail(reactor *r, reactor__datagram_socket *d, int e) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    if (d->flags & REACTOR__DATAGRAM_CLOSING) return;
    d->flags |= REACTOR__DATAGRAM_CLOSING;
    d->reason = e;
    reactor__datagram_clear(p, &d->out);
    reactor__datagram_schedule(r, d);
}

/* ---- errors ---- */

/* Calls on_error, unless the socket is closing. */
static void reactor__datagram_tell(reactor *r, reactor__datagram_socket *d, int e,
                                   const reactor_peer *peer) {
    if (d->flags & REACTOR__DATAGRAM_CLOSING) return;
    reactor__loop_call_datagram_error(r, d->h, reactor__datagram_handle(d), e, peer,
                                      reactor__datagram_state(d));
}

/* What the system has in its error queue. How many entries there were, for those that are no errors
   were what was reported, too. A queue that cannot be read is not waited for: see failures. */
static int reactor__datagram_read_errors(reactor *r, reactor__datagram_socket *d) {
    reactor_peer peer;
    int n = 0;
    while (n < REACTOR__DATAGRAM_BATCH && !(d->flags & REACTOR__DATAGRAM_CLOSING) &&
           !reactor__datagram_stopped(r)) {
        int e = reactor__datagram_sys_take_error(d, &peer);
        if (e == -EINTR) continue;
        if (e < 0) break;
        n++;
        if (e > 0) reactor__datagram_tell(r, d, -e, &peer);
    }
    return n;
}

/* ---- sending ---- */

/* How many datagrams from item i of b on can leave as one: those of one size to one peer, and a
   shorter one behind them. */
static uint32_t reactor__datagram_couple(const reactor__datagram_socket *d,
                                         reactor__datagram_block *b, uint32_t i, uint32_t *len) {
    const reactor__datagram_item *first = reactor__datagram_item_at(b, i), *last = first;
    uint32_t n = 1, total = first->len;
    if (!first->len || first->len > d->segment_most) {
        *len = total;
        return 1;
    }
    while (i + n < b->count && n < REACTOR__DATAGRAM_CARS && last->len == first->len) {
        const reactor__datagram_item *next = reactor__datagram_item_at(b, i + n);
        if (next->peer != first->peer || next->at != first->at + total || !next->len ||
            next->len > first->len || total + next->len > REACTOR__DATAGRAM_TRAIN)
            break;
        total += next->len;
        last = next;
        n++;
    }
    *len = total;
    return n;
}

/* Fills p->trains from the queue's first block; how many. */
static uint32_t reactor__datagram_gather(reactor__datagram_module *p,
                                         const reactor__datagram_socket *d) {
    static const unsigned char unknown[16] = {0};
    reactor__datagram_block *b = d->out.head;
    uint32_t n = 0;
    for (uint32_t i = b->first; i < b->count && n < REACTOR__DATAGRAM_BATCH; n++) {
        const reactor__datagram_item *item = reactor__datagram_item_at(b, i);
        reactor__datagram_train *t = &p->trains[n];
        t->data = reactor__datagram_bytes(b) + item->at;
        t->to = reactor__datagram_peer_at(b, item->peer);
        t->segment = item->len;
        t->count = reactor__datagram_couple(d, b, i, &t->len);
        t->info = t->to && (d->flags & REACTOR__DATAGRAM_INFO) &&
                  (t->to->if_index || memcmp(t->to->local, unknown, sizeof unknown) != 0);
        i += t->count;
    }
    return n;
}

/* A retry or the end of a close is due: step, at the end of this turn, finds out which. */
static void reactor__datagram_tick(reactor *r, reactor_timer t, void *user) {
    reactor__datagram_socket *d = (reactor__datagram_socket *)user;
    (void)t;
    d->timer = 0;
    d->flags &= ~(unsigned)(REACTOR__DATAGRAM_BLOCKED | REACTOR__DATAGRAM_BY_TIMER);
    reactor__datagram_schedule(r, d);
}

/* Has it scheduled so many nanoseconds from now; -ENOMEM. */
static int reactor__datagram_wait(reactor *r, reactor__datagram_socket *d, int64_t ns) {
    const unsigned flags = REACTOR__TIMER_UNREF | REACTOR__TIMER_INTERNAL;
    const int64_t at = reactor__util_add(reactor__util_clock(), ns);
    if (d->timer) return reactor__timer_reset(&r->wheel, d->timer, at);
    return reactor__timer_set(&r->wheel, at, 0, reactor__datagram_tick, d, flags, &d->timer);
}

/* FNV-1a, of a peer's address. */
static uint64_t reactor__datagram_hash(const reactor_peer *peer) {
    const unsigned char *at = (const unsigned char *)peer->address;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < peer->len; i++) h = (h ^ at[i]) * UINT64_C(0x100000001b3);
    return h ? h : 1;
}

/* The peer of a unix socket has no room, and nothing tells when it has: it is tried again, after
   1 ms and up to 10, for PATIENCE_MS in all. Then the datagram is given up, and the following
   ones to the same peer at once, for a peer that does not read must not hold up the others.
   Returns 0 to give it up. */
static int reactor__datagram_is_patient(reactor *r, reactor__datagram_socket *d,
                                        const reactor_peer *to) {
    const int64_t now = reactor__util_clock();
    const uint64_t who = to ? reactor__datagram_hash(to) : 1;
    if (d->stuck == who) return 0;
    if (!d->blocked_since) {
        d->blocked_since = now;
        d->pause = 0;
    }
    if (now - d->blocked_since >= REACTOR__DATAGRAM_PATIENCE_MS * REACTOR__MS) {
        d->stuck = who;
        return 0;
    }
    d->pause = d->pause ? d->pause * 2 : REACTOR__MS;
    if (d->pause > 10 * REACTOR__MS) d->pause = 10 * REACTOR__MS;
    return reactor__datagram_wait(r, d, d->pause) == 0;
}

/* Whether there was no room, which is waited for: by the socket's own word, but of a unix peer that
   may be any only a connected Linux socket gives it. The BSDs call that ENOBUFS. */
static int reactor__datagram_blocks(reactor *r, reactor__datagram_socket *d, int e,
                                    const reactor_peer *to) {
    const int is_unix = (d->flags & REACTOR__DATAGRAM_UNIX) != 0;
    if (e != -EAGAIN && !(e == -ENOBUFS && is_unix)) return 0;
    if (is_unix && (to || e == -ENOBUFS)) {
        if (!reactor__datagram_is_patient(r, d, to)) return 0;
        d->flags |= REACTOR__DATAGRAM_BY_TIMER;
    }
    d->flags |= REACTOR__DATAGRAM_BLOCKED;
    return 1;
}

/* An error may be the network's word on an earlier datagram, which the system tells at the next
   call, whatever that is; then this one has not been sent. With an error queue that tells; else
   ECONNREFUSED is never about the datagram itself, but of unix sockets. Returns 1 if so. */
static int reactor__datagram_is_earlier(reactor *r, reactor__datagram_socket *d, int e) {
    if (d->flags & (REACTOR__DATAGRAM_RETRIED | REACTOR__DATAGRAM_UNIX)) return 0;
    if (reactor__datagram_read_errors(r, d) > 0) return 1;
    if (e != -ECONNREFUSED) return 0;
    reactor__datagram_tell(r, d, e, NULL);
    return 1;
}

/* Whether a train was refused for being one: its datagrams are longer than the path takes without
   cutting them again, or the device cannot. Such ones go one by one from here on. */
static int reactor__datagram_uncouples(reactor__datagram_socket *d,
                                       const reactor__datagram_train *t, int e) {
    if (t->count == 1 || (e != -EINVAL && e != -EMSGSIZE && e != -EIO && e != -EOPNOTSUPP))
        return 0;
    d->segment_most = e == -EINVAL || e == -EMSGSIZE ? t->segment - 1 : 0;
    return 1;
}

/* The system refused the first train. Waits, tries again, or gives its first datagram up: returns
   how many have left the queue. Nothing is touched after a callback. */
static int reactor__datagram_refused(reactor *r, reactor__datagram_socket *d, int e) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    const reactor__datagram_train t = p->trains[0];
    reactor_peer peer;
    if (e == -EINTR || reactor__datagram_blocks(r, d, e, t.to)) return 0;
    if (reactor__datagram_is_earlier(r, d, e)) {
        d->flags |= REACTOR__DATAGRAM_RETRIED;
        return 0;
    }
    if (reactor__datagram_uncouples(d, &t, e)) return 0;
    if (t.to) { /* its memory goes with the datagram */
        memset(&peer, 0, sizeof peer);
        memcpy(&peer, t.to, reactor__datagram_peer_size(t.to));
    }
    d->flags &= ~(unsigned)REACTOR__DATAGRAM_RETRIED;
    d->blocked_since = 0;
    reactor__datagram_pop(p, &d->out, 1);
    reactor__datagram_tell(r, d, e, t.to ? &peer : NULL);
    return 1;
}

/* So many trains have been taken. Returns how many datagrams that are. */
static uint32_t reactor__datagram_sent(reactor *r, reactor__datagram_socket *d, int trains) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    uint32_t count = 0;
    for (int i = 0; i < trains; i++) count += p->trains[i].count;
    if (d->stuck && p->trains[0].to && reactor__datagram_hash(p->trains[0].to) == d->stuck)
        d->stuck = 0;
    d->flags &= ~(unsigned)REACTOR__DATAGRAM_RETRIED;
    d->blocked_since = 0;
    r->core.counters.datagrams_out += count;
    reactor__datagram_pop(p, &d->out, count);
    return count;
}

/* Sends what is queued, until the kernel takes no more; what callbacks queue meanwhile is for the
   next time, so that this ends. */
static void reactor__datagram_flush(reactor *r, reactor__datagram_socket *d) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    int64_t left = (int64_t)d->out.count;
    while (left > 0 && d->out.head && !(d->flags & REACTOR__DATAGRAM_BLOCKED) &&
           !reactor__datagram_stopped(r)) {
        int n = reactor__datagram_sys_send(p, d->bound.fd, reactor__datagram_gather(p, d));
        if (n > 0)
            left -= reactor__datagram_sent(r, d, n);
        else
            left -= reactor__datagram_refused(r, d, n);
    }
}

/* Whether an on_writable is due. */
static int reactor__datagram_is_writable(const reactor__datagram_socket *d) {
    const unsigned due = d->flags & (REACTOR__DATAGRAM_OWES_WRITABLE | REACTOR__DATAGRAM_CLOSING);
    return due == (unsigned)REACTOR__DATAGRAM_OWES_WRITABLE && d->out.bytes <= d->low_water &&
           d->owed <= d->max_output - d->out.bytes;
}

/* What follows a flush: on_writable, and what is left for the turn's end, or for later. */
static void reactor__datagram_settle(reactor *r, reactor__datagram_socket *d) {
    if (!reactor__datagram_stopped(r) && reactor__datagram_is_writable(d)) {
        d->flags &= ~(unsigned)REACTOR__DATAGRAM_OWES_WRITABLE;
        d->owed = 0;
        reactor__loop_call_datagram_writable(r, d->h, reactor__datagram_handle(d),
                                             reactor__datagram_state(d));
    }
    const unsigned out = d->out.head != NULL && !(d->flags & REACTOR__DATAGRAM_BLOCKED);
    const unsigned in = d->in.head != NULL && !(d->flags & REACTOR__DATAGRAM_PAUSED);
    if (out || in || (d->flags & REACTOR__DATAGRAM_CLOSING) || reactor__datagram_is_writable(d))
        reactor__datagram_schedule(r, d);
    reactor__datagram_update(r, d);
}

/* ---- receiving ---- */

/* Whether the next datagram may be given to its callback. */
static int reactor__datagram_listens(const reactor *r, const reactor__datagram_socket *d) {
    return !(d->flags & (REACTOR__DATAGRAM_PAUSED | REACTOR__DATAGRAM_CLOSING)) &&
           !reactor__datagram_stopped(r);
}

/* Calls on_message with one datagram. A datagram is cut to max_size here and not only by the
   kernel, because a joined one had room for 64 KiB. Answers that have grown long are sent
   between two messages: a batch of 64 large ones would otherwise fill the queue by itself. */
static void reactor__datagram_deliver(reactor *r, reactor__datagram_socket *d, const char *data,
                                      uint32_t len, uint32_t size, const reactor_peer *peer) {
    reactor_message m;
    m.data = data;
    m.len = len < d->max_size ? len : d->max_size;
    m.flags = size > m.len ? REACTOR_TRUNCATED : 0;
    m.size = size == UINT32_MAX ? m.len : size;
    m.peer = peer;
    r->core.counters.datagrams_in++;
    if (d->h->on_message)
        reactor__loop_call_message(r, d->h, reactor__datagram_handle(d), &m,
                                   reactor__datagram_state(d));
    if (d->out.bytes > REACTOR__DATAGRAM_FLUSH) reactor__datagram_flush(r, d);
    reactor__datagram_check(d);
}

/* A pause or a stop came before its turn. Without memory it is as if the network had lost it, and
   told. */
static void reactor__datagram_keep(reactor *r, reactor__datagram_socket *d, const char *data,
                                   uint32_t len, uint32_t size, const reactor_peer *peer) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    if (d->flags & REACTOR__DATAGRAM_CLOSING) return;
    if (reactor__datagram_push(p, &d->in, peer, data, len, size) < 0)
        r->core.counters.datagrams_dropped++;
}

/* What one place in the buffer holds: one datagram, or several. Returns how many. */
static int reactor__datagram_split(reactor *r, reactor__datagram_socket *d, const char *data,
                                   const reactor__datagram_got *got, const reactor_peer *peer) {
    const uint32_t step = got->segment && got->segment < got->len ? got->segment : got->len;
    uint32_t at = 0;
    int n = 0;
    do {
        const uint32_t left = got->len - at, len = left < step ? left : step;
        const uint32_t size = step < got->len ? len : got->size;
        if (reactor__datagram_listens(r, d))
            reactor__datagram_deliver(r, d, data + at, len, size, peer);
        else
            reactor__datagram_keep(r, d, data + at, len, size, peer);
        at += len;
        n++;
    } while (at < got->len);
    return n;
}

/* A receive failed. Returns 1 to try again: an error that has been told is over. */
static int reactor__datagram_missed(reactor *r, reactor__datagram_socket *d, int e, int *failures) {
    if (e == -EINTR) return 1;
    if (++*failures >= REACTOR__DATAGRAM_VAIN) {
        reactor__datagram_fail(r, d, e);
        return 0;
    }
    if (reactor__datagram_read_errors(r, d) == 0 && !reactor__datagram_stopped(r))
        reactor__datagram_tell(r, d, e, NULL);
    return reactor__datagram_listens(r, d);
}

/* Receives what there is, within the budget. Returns how many, and errors. */
static int reactor__datagram_receive(reactor *r, reactor__datagram_socket *d) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    const int asked = reactor__datagram_sys_asks(p, reactor__datagram_places(p, d));
    int total = 0, failures = 0, n;
    do {
        n = reactor__datagram_sys_receive(p, d, (uint32_t)asked);
        if (n == -EAGAIN) break;
        if (n < 0) {
            total++;
            if (!reactor__datagram_missed(r, d, n, &failures)) break;
            n = asked;
            continue;
        }
        failures = 0;
        for (int i = 0; i < n; i++)
            total +=
                reactor__datagram_split(r, d, p->buffer + (size_t)i * reactor__datagram_stride(d),
                                        &p->got[i], &p->peers[i]);
        reactor__datagram_flush(r, d);
    } while (n == asked && total < d->read_budget && reactor__datagram_listens(r, d));
    return total;
}

/* What a pause or a stop had left comes before anything newer. */
static void reactor__datagram_replay(reactor *r, reactor__datagram_socket *d) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    for (int n = 0; d->in.head && n < d->read_budget && reactor__datagram_listens(r, d); n++) {
        reactor__datagram_block *b = d->in.head;
        const reactor__datagram_item *item = reactor__datagram_item_at(b, b->first);
        reactor_peer peer;
        memset(&peer, 0, sizeof peer);
        const reactor_peer *kept = reactor__datagram_peer_at(b, item->peer);
        memcpy(&peer, kept, reactor__datagram_peer_size(kept));
        reactor__datagram_deliver(r, d, reactor__datagram_bytes(b) + item->at, item->len,
                                  item->size, &peer);
        if (d->in.head == b) reactor__datagram_pop(p, &d->in, 1); /* fini has not been here */
    }
}

/* ERROR is a level: as long as the queue has entries, or SO_ERROR is set. An ERROR that brings
   nothing again and again would spin. An empty socket that was reported does not count: a
   datagram with a wrong checksum is found out, and dropped, by the receive. */
static void reactor__datagram_look(reactor *r, reactor__datagram_socket *d, unsigned events) {
    const int error = (events & (unsigned)REACTOR_ERROR) != 0;
    int got = error ? reactor__datagram_read_errors(r, d) : 0;
    if (reactor__datagram_listens(r, d) && !d->in.head) {
        got += reactor__datagram_receive(r, d);
        if (!got) got = reactor__datagram_read_errors(r, d); /* select(2) tells no ERROR */
    } else if (error && d->bound.fd != REACTOR__UTIL_NO_SOCKET) {
        int code = 0, e = reactor__net_get(d->bound.fd, SO_ERROR, &code);
        if (e == 0) e = reactor__util_code(code);
        if (e < 0 && !got++) reactor__datagram_tell(r, d, e, NULL);
    }
    d->failures = error && !got ? d->failures + 1 : 0;
    if (d->failures == REACTOR__DATAGRAM_VAIN) reactor__datagram_fail(r, d, -EIO);
}

/* An event. What the callbacks send to this socket stays in its queue until all of them are
   through, and leaves together. WRITE is told only to a BLOCKED socket, and means that it may
   try again. */
static void reactor__datagram_io(reactor *r, reactor_socket fd, unsigned events, void *user) {
    reactor__datagram_socket *d = (reactor__datagram_socket *)user;
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    (void)fd;
    r->core.counters.callbacks--; /* the event is none: those that it leads to are counted */
    p->current = d;
    if (events & (unsigned)REACTOR_WRITE)
        d->flags &= ~(unsigned)(REACTOR__DATAGRAM_BLOCKED | REACTOR__DATAGRAM_BY_TIMER);
    if (d->in.head) reactor__datagram_replay(r, d);
    if (events & (REACTOR_READ | (unsigned)REACTOR_ERROR)) reactor__datagram_look(r, d, events);
    reactor__datagram_flush(r, d);
    p->current = NULL;
    reactor__datagram_settle(r, d);
}

/* ---- the end ---- */

/* Lets go of everything, then tells it; the handle is good until on_close has returned. child: of a
   fork, which must not disturb the parent, and tells nobody. */
static void reactor__datagram_finish(reactor *r, reactor__datagram_socket *d, int child) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    const uint32_t index = (uint32_t)d->id;
    d->flags |= REACTOR__DATAGRAM_CLOSING;
    if (d->timer) reactor__timer_cancel(&r->wheel, d->timer);
    reactor__core_unbind(&r->core, index, child);
    reactor__net_unlink(&d->bound);
    if (d->bound.fd != REACTOR__UTIL_NO_SOCKET) reactor__util_close(d->bound.fd);
    d->bound.fd = REACTOR__UTIL_NO_SOCKET;
    *d->at = d->next;
    if (d->next) d->next->at = d->at;
    reactor__datagram_clear(p, &d->out);
    reactor__datagram_clear(p, &d->in);
    if (d->flags & REACTOR__DATAGRAM_ACTIVE) r->core.active--;
    r->core.counters.datagram_sockets--;
    if (!child)
        reactor__loop_call_datagram_close(r, d->h, reactor__datagram_handle(d), d->reason,
                                          reactor__datagram_state(d));
    reactor__core_release(&r->core, index);
    REACTOR_FREE(d);
}

/* One that is closing: whether it is over. What is queued has its time, and the kernel's word or
   the timer has it looked at again. */
static int reactor__datagram_is_over(reactor *r, reactor__datagram_socket *d) {
    if (!d->out.head || d->reason || d->bound.fd == REACTOR__UTIL_NO_SOCKET) return 1;
    const int64_t left = d->close_by - reactor__util_clock();
    if (left <= 0) d->reason = -ETIMEDOUT;
    if (left > 0 && !d->timer) d->reason = reactor__datagram_wait(r, d, left);
    return d->reason != 0;
}

/* ---- the module ---- */

/* What being scheduled comes to. */
static void reactor__datagram_step(reactor *r, reactor__datagram_socket *d) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    d->flags &= ~(unsigned)REACTOR__DATAGRAM_SCHEDULED;
    reactor__datagram_check(d);
    p->current = d;
    if (d->in.head) reactor__datagram_replay(r, d);
    reactor__datagram_flush(r, d);
    p->current = NULL;
    if (!(d->flags & REACTOR__DATAGRAM_CLOSING) || reactor__datagram_stopped(r))
        reactor__datagram_settle(r, d);
    else if (reactor__datagram_is_over(r, d))
        reactor__datagram_finish(r, d, 0);
    else
        reactor__datagram_update(r, d);
}

/* Those that are scheduled, in their order; they may schedule each other, so a few rounds. */
static void reactor__datagram_turn(reactor *r, reactor__loop_module *module) {
    reactor__datagram_module *p = (reactor__datagram_module *)module;
    for (int round = 0; round < REACTOR__DATAGRAM_ROUNDS && p->scheduled_head; round++) {
        const reactor__datagram_socket *last = p->scheduled_tail;
        for (int more = 1; more && !reactor__datagram_stopped(r);) {
            reactor__datagram_socket *d = p->scheduled_head;
            p->scheduled_head = d->scheduled_next;
            more = d != last;
            reactor__datagram_step(r, d);
        }
    }
    REACTOR__STORE(&r->pending[REACTOR__LOOP_DATAGRAM], p->scheduled_head != NULL);
}

/* What the last callbacks sent gets its one chance to leave; nobody is told of errors any more. */
static void reactor__datagram_fini(reactor *r, reactor__loop_module *module, int child) {
    reactor__datagram_module *p = (reactor__datagram_module *)module;
    for (reactor__datagram_socket *d; (d = p->sockets) != NULL;) {
        reactor__core_stop(&r->core, 0); /* what is stopped sends nothing */
        if (!(d->flags & REACTOR__DATAGRAM_CLOSING) && !d->reason) d->reason = -ECANCELED;
        d->flags |= REACTOR__DATAGRAM_CLOSING;
        if (!child) reactor__datagram_flush(r, d);
        reactor__datagram_finish(r, d, child);
    }
    while (p->spares) {
        reactor__datagram_block *b = p->spares;
        p->spares = b->next;
        REACTOR_FREE(b);
    }
    r->modules[REACTOR__LOOP_DATAGRAM] = NULL;
    r->pending[REACTOR__LOOP_DATAGRAM] = 0;
    REACTOR_FREE(p->buffer);
    REACTOR_FREE(p);
}

/* A line for each socket, for reactor_dump. */
static void reactor__datagram_dump(const reactor *r, const reactor__loop_module *module,
                                   reactor_line_fn *fn, void *user) {
    const reactor__datagram_module *p = (const reactor__datagram_module *)module;
    char line[160 + REACTOR_ADDRESS_MAX], address[REACTOR_ADDRESS_MAX];
    (void)r;
    for (const reactor__datagram_socket *d = p->sockets; d; d = d->next) {
        if (reactor__net_name(d->bound.fd, 0, address, sizeof address) < 0) address[0] = 0;
        snprintf(line, sizeof line, "datagram id=%llx name=%s fd=%lld address=%s queued=%llu%s%s%s",
                 (unsigned long long)d->id, d->name, (long long)d->bound.fd, address,
                 (unsigned long long)d->out.bytes,
                 d->flags & REACTOR__DATAGRAM_PAUSED ? " paused" : "",
                 d->flags & REACTOR__DATAGRAM_BLOCKED ? " blocked" : "",
                 d->flags & REACTOR__DATAGRAM_CLOSING ? " closing" : "");
        fn(line, user);
    }
}

/* A forked child has destroyed its copy in a callback: nothing that is shared is touched again. */
static void reactor__datagram_fork_cleanup(reactor *r, reactor__loop_module *module) {
    (void)r;
    for (reactor__datagram_socket *d = ((reactor__datagram_module *)module)->sockets; d;
         d = d->next) {
        d->flags |= REACTOR__DATAGRAM_CLOSING;
        reactor__net_unlink(&d->bound);
        if (d->bound.fd != REACTOR__UTIL_NO_SOCKET) reactor__util_close(d->bound.fd);
        d->bound.fd = REACTOR__UTIL_NO_SOCKET;
    }
}

/* Paths are removed by either from here on, as those of listeners are. */
static int reactor__datagram_forked(reactor *r, reactor__loop_module *module) {
    (void)r;
    for (reactor__datagram_socket *d = ((reactor__datagram_module *)module)->sockets; d;
         d = d->next)
        d->bound.pid = reactor__util_pid();
    return 0;
}

/* What only programs with datagrams pay for. */
static int reactor__datagram_start(reactor *r) {
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    if (r->closing || r->draining > REACTOR__LOOP_DRAINING) return -ECANCELED;
    if (reactor__datagram_module_of(r)) return 0;
    reactor__datagram_module *p = REACTOR__NEW(reactor__datagram_module);
    if (!p) return -ENOMEM;
    p->module.turn = reactor__datagram_turn;
    p->module.fini = reactor__datagram_fini;
    p->module.dump = reactor__datagram_dump;
    p->module.fork_cleanup = reactor__datagram_fork_cleanup;
    p->module.forked = reactor__datagram_forked;
    r->modules[REACTOR__LOOP_DATAGRAM] = &p->module;
    return 0;
}

/* Room for a batch of datagrams of the usual length, or one of the longest. The system gives memory
   to what is written to, so small datagrams take a page each. */
static int reactor__datagram_reserve(reactor__datagram_module *p,
                                     const reactor__datagram_socket *d) {
    reactor__datagram_socket usual;
    usual.capacity = REACTOR__DATAGRAM_BLOCK;
    size_t size = REACTOR__DATAGRAM_BATCH * reactor__datagram_stride(&usual);
    if (size < reactor__datagram_stride(d)) size = reactor__datagram_stride(d);
    if (size <= p->size) return 0;
    char *buffer = (char *)REACTOR_MALLOC(size);
    if (!buffer) return -ENOMEM;
    REACTOR_FREE(p->buffer);
    p->buffer = buffer;
    p->size = size;
    reactor__datagram_sys_forget(p);
    return 0;
}

/* ---- options ---- */

/* In the order of the systems' manuals: what takes a struct. */
static int reactor__datagram_set(reactor_socket fd, int level, int name, const void *value,
                                 size_t size) {
    const char *v = (const char *)value;
    return setsockopt(fd, level, name, v, (socklen_t)size) < 0 ? reactor__util_error() : 0;
}

#if defined(__linux__) || defined(__FreeBSD__) || defined(__APPLE__)
/* ip(7): ip_mreqn, which takes the interface's number. */
static int reactor__datagram_membership(reactor_socket fd, int name, struct in_addr group,
                                        uint32_t if_index) {
    struct ip_mreqn m;
    memset(&m, 0, sizeof m);
    m.imr_multiaddr = group;
    m.imr_ifindex = (int)if_index;
    return reactor__datagram_set(fd, IPPROTO_IP, name, &m, sizeof m);
}

/* Has multicast leave by this interface. */
static int reactor__datagram_leave_by4(reactor_socket fd, uint32_t if_index) {
    struct in_addr none;
    none.s_addr = 0;
    return reactor__datagram_membership(fd, IP_MULTICAST_IF, none, if_index);
}
#else
/* Windows and the other BSDs take 0.0.0.0/8 for the number of an interface. */
static int reactor__datagram_membership(reactor_socket fd, int name, struct in_addr group,
                                        uint32_t if_index) {
    struct ip_mreq m;
    memset(&m, 0, sizeof m);
    m.imr_multiaddr = group;
    m.imr_interface.s_addr = htonl(if_index);
    return reactor__datagram_set(fd, IPPROTO_IP, name, &m, sizeof m);
}

static int reactor__datagram_leave_by4(reactor_socket fd, uint32_t if_index) {
    struct in_addr m;
    m.s_addr = htonl(if_index);
    return reactor__datagram_set(fd, IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof m);
}
#endif

#ifdef _WIN32
typedef int reactor__datagram_small; /* what IP_MULTICAST_TTL and LOOP take */

/* Without EXCLUSIVEADDRUSE any other program could take the port over, by SO_REUSEADDR of its
   own. */
static int reactor__datagram_share(reactor_socket fd, const reactor_datagram_options *o) {
    if (o->reuse_port) return -ENOTSUP;
    return reactor__net_set(fd, SOL_SOCKET,
                            o->reuse_address ? SO_REUSEADDR : (int)SO_EXCLUSIVEADDRUSE, 1);
}

/* Unix addresses are refused by the parser already. */
static int reactor__datagram_bind_unix(reactor__datagram_socket *d, const reactor__net_address *a,
                                       unsigned mode) {
    (void)d, (void)a, (void)mode;
    return -EAFNOSUPPORT;
}

static int reactor__datagram_name_unix(reactor_socket fd) {
    (void)fd;
    return -EAFNOSUPPORT;
}
#else
typedef unsigned char reactor__datagram_small; /* all the BSDs take; Linux takes both */

/* Neither by default: with REUSEADDR Linux lets any other socket take the port's datagrams. */
static int reactor__datagram_share(reactor_socket fd, const reactor_datagram_options *o) {
    int e = o->reuse_address ? reactor__net_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) : 0;
    return e == 0 && o->reuse_port ? reactor__net_set(fd, SOL_SOCKET, REACTOR__NET_REUSEPORT, 1)
                                   : e;
}

/* As a listener's path. */
static int reactor__datagram_bind_unix(reactor__datagram_socket *d, const reactor__net_address *a,
                                       unsigned mode) {
    const char *path = reactor__net_path(a);
    int e = path ? reactor__net_keep_path(&d->bound, path) : 0;
    if (e < 0) return e;
    if (path && mode) reactor__net_sys_born_with(d->bound.fd, (mode_t)mode);
    e = reactor__net_bind_path(d->bound.fd, a);
    return e == 0 && path ? reactor__net_claim(&d->bound, mode) : e;
}

/* unix(7): bound to a family alone, it is given an abstract name. */
static int reactor__datagram_name_unix(reactor_socket fd) {
    struct sockaddr sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_family = AF_UNIX;
    if (!REACTOR__NET_ABSTRACT) return 0;
    return bind(fd, &sa, offsetof(struct sockaddr, sa_data)) < 0 ? -errno : 0;
}
#endif

/* A group as text: its address, as IPv6 if so; the interface's number, 0: none was named. */
typedef struct reactor__datagram_group {
    int family;
    struct in_addr in4;
    struct in6_addr in6;
    uint32_t if_index;
} reactor__datagram_group;

/* Reads a group, with or without IPv6's brackets: there is no port that they would set apart.
   What is not a group's address is refused here, for the systems' errors differ. */
static int reactor__datagram_parse_group(const char *text, size_t len,
                                         reactor__datagram_group *out) {
    char host[INET6_ADDRSTRLEN];
    memset(out, 0, sizeof *out);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') text++, len -= 2;
    const char *percent = (const char *)memchr(text, '%', len);
    const size_t n = percent ? (size_t)(percent - text) : len;
    if (n >= sizeof host) return -EINVAL;
    memcpy(host, text, n);
    host[n] = '\0';
    if (inet_pton(AF_INET, host, &out->in4) == 1)
        out->family = AF_INET;
    else if (inet_pton(AF_INET6, host, &out->in6) == 1)
        out->family = AF_INET6;
    else
        return -EINVAL;
    if (out->family == AF_INET ? (ntohl(out->in4.s_addr) >> 28) != 14 : out->in6.s6_addr[0] != 0xff)
        return -EINVAL;
    return percent ? reactor__net_scope(percent + 1, len - n - 1, &out->if_index) : 0;
}

/* Joins or leaves. A socket for both families joins groups of either, each by its own option. */
static int reactor__datagram_member(const reactor__datagram_socket *d, const char *text, size_t len,
                                    int join) {
    reactor__datagram_group g;
    struct ipv6_mreq m;
    int e = reactor__datagram_parse_group(text, len, &g);
    if (e < 0) return e;
    if (g.family != d->family && !(g.family == AF_INET && (d->flags & REACTOR__DATAGRAM_MAPPED)))
        return -EAFNOSUPPORT;
    if (g.family == AF_INET)
        return reactor__datagram_membership(
            d->bound.fd, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, g.in4, g.if_index);
    memset(&m, 0, sizeof m);
    m.ipv6mr_multiaddr = g.in6;
    m.ipv6mr_interface = g.if_index;
    return reactor__datagram_set(d->bound.fd, IPPROTO_IPV6,
                                 join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &m, sizeof m);
}

/* Joins a list of groups; the first that fails ends the open, and the close leaves the others. */
static int reactor__datagram_join_all(const reactor__datagram_socket *d, const char *list) {
    const char *item;
    size_t len;
    int e;
    while ((e = reactor__net_next(&list, &item, &len)) > 0) {
        e = reactor__datagram_member(d, item, len, 1);
        if (e < 0) return e;
    }
    return e;
}

/* How datagrams to groups leave. A socket for both families has both options. */
static int reactor__datagram_tune_groups(const reactor__datagram_socket *d,
                                         const reactor_datagram_options *o) {
    const reactor_socket fd = d->bound.fd;
    const int in6 = d->family == AF_INET6;
    const int in4 = d->family == AF_INET || (d->flags & REACTOR__DATAGRAM_MAPPED);
    const reactor__datagram_small ttl = (reactor__datagram_small)o->multicast_ttl;
    const reactor__datagram_small loop = (reactor__datagram_small)(o->multicast_loop > 0);
    const char *name = o->multicast_interface;
    uint32_t index = 0;
    int e = name ? reactor__net_scope(name, strlen(name), &index) : 0;
    if (e == 0 && index && in4) e = reactor__datagram_leave_by4(fd, index);
    if (e == 0 && index && in6)
        e = reactor__net_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)index);
    if (e == 0 && ttl && in4)
        e = reactor__datagram_set(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl);
    if (e == 0 && ttl && in6)
        e = reactor__net_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, o->multicast_ttl);
    if (e == 0 && o->multicast_loop && in4)
        e = reactor__datagram_set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof loop);
    if (e == 0 && o->multicast_loop && in6)
        e = reactor__net_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, o->multicast_loop > 0);
    return e;
}

/* The numbers that make no sense, and the defaults of the others. */
static int reactor__datagram_defaults(reactor_datagram_options *o) {
    const size_t high = 64 * 1024, hard = 4 * 1024 * 1024;
    if (o->multicast_ttl < 0 || o->multicast_ttl > 255 || o->multicast_loop < -1 ||
        o->multicast_loop > 1 || o->packet_info < -1 || o->packet_info > 1 || o->offload < -1 ||
        o->offload > 0 || o->overflow < REACTOR_REFUSE || o->overflow > REACTOR_DROP_OLDEST ||
        o->read_budget < 0 || o->receive_buffer > INT_MAX || o->send_buffer > INT_MAX ||
        o->max_size > REACTOR__DATAGRAM_LARGEST || (o->unix_mode & ~07777u))
        return -EINVAL;
    if (!o->read_budget) o->read_budget = 256;
    if (!o->max_size) o->max_size = 64 * 1024;
    if (!o->max_output) o->max_output = o->high_water > hard ? o->high_water : hard;
    if (!o->high_water) o->high_water = high < o->max_output ? high : o->max_output;
    if (!o->low_water) o->low_water = o->high_water / 4;
    return o->low_water <= o->high_water && o->high_water <= o->max_output ? 0 : -EINVAL;
}

/* ---- opening ---- */

/* Copied out, because a sockaddr may not be read through the type of peer.address. */
static int reactor__datagram_family_of(const reactor_peer *peer) {
    struct sockaddr sa;
    memcpy(&sa, peer->address, sizeof sa);
    return sa.sa_family;
}

/* To a socket that is IPv6 and takes IPv4, too, a peer of IPv4 has another name. */
static int reactor__datagram_map(const reactor__datagram_socket *d, const reactor_peer *peer,
                                 reactor_peer *out) {
    struct sockaddr_in in4;
    reactor__net_address a;
    struct in6_addr host;
    if (reactor__datagram_family_of(peer) != AF_INET || !(d->flags & REACTOR__DATAGRAM_MAPPED))
        return -EAFNOSUPPORT;
    memcpy(&in4, peer->address, sizeof in4);
    memset(&host, 0, sizeof host);
    host.s6_addr[10] = host.s6_addr[11] = 0xff;
    memcpy(host.s6_addr + 12, &in4.sin_addr, 4);
    reactor__net_put6(&a, &host, 0, ntohs(in4.sin_port));
    *out = *peer;
    memcpy(out->address, &a.sa, sizeof out->address);
    out->len = (uint32_t)a.len;
    return 0;
}

/* A parsed address as a peer, with nothing known but the address. */
static void reactor__datagram_to_peer(const reactor__net_address *a, reactor_peer *out) {
    memset(out, 0, sizeof *out);
    out->len = (uint32_t)a->len;
    memcpy(out->address, &a->sa, sizeof out->address); /* RFC 3493, 3.10: no family has more */
}

/* connect(2) of a datagram socket is over at once, and may be made again. */
static int reactor__datagram_connect(reactor__datagram_socket *d, const reactor__net_address *to) {
    reactor_peer peer, mapped;
    const reactor_peer *at = &peer;
    int e = 0;
    reactor__datagram_to_peer(to, &peer);
    if (reactor__datagram_family_of(&peer) != d->family) {
        e = reactor__datagram_map(d, &peer, &mapped);
        at = &mapped;
    }
    if (e < 0) return e;
    const struct sockaddr *sa = (const struct sockaddr *)(const void *)at->address;
    do e = connect(d->bound.fd, sa, (socklen_t)at->len) < 0 ? reactor__util_error() : 0;
    while (e == -EINTR);
    if (e == 0) d->flags |= REACTOR__DATAGRAM_CONNECTED;
    return e;
}

/* A socket at a, or, if that is NULL, for to. */
static int reactor__datagram_make(reactor__datagram_socket *d, const reactor__net_address *a,
                                  const reactor__net_address *to,
                                  const reactor_datagram_options *o) {
    const int family = a ? a->sa.ss_family : to->sa.ss_family;
    int64_t made = reactor__net_sys_socket(family, SOCK_DGRAM);
    if (made < 0) return (int)made;
    const reactor_socket fd = d->bound.fd = (reactor_socket)made;
    d->family = family;
    if (family == AF_UNIX) {
        d->flags |= REACTOR__DATAGRAM_UNIX;
        return a ? reactor__datagram_bind_unix(d, a, o->unix_mode)
                 : reactor__datagram_name_unix(fd);
    }
    if (a && a->any && family == AF_INET6 && !REACTOR__NET_DUAL) return -EAFNOSUPPORT;
    if (a && a->any && family == AF_INET6) d->flags |= REACTOR__DATAGRAM_MAPPED;
    int e = reactor__datagram_share(fd, o);
    if (e == 0 && family == AF_INET6 && REACTOR__NET_DUAL)
        e = reactor__net_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !(d->flags & REACTOR__DATAGRAM_MAPPED));
    return e == 0 && a ? reactor__net_bind(fd, a) : e;
}

/* What a socket that was handed over is. */
static int reactor__datagram_adopt(reactor__datagram_socket *d, reactor_socket fd) {
    reactor__net_address a;
    int type = 0, alone = 1;
    socklen_t len = sizeof alone;
    int e = reactor__net_get(fd, SO_TYPE, &type);
    if (e < 0) return e;
    if (type != SOCK_DGRAM) return -EINVAL;
    memset(&a, 0, sizeof a);
    a.len = sizeof a.sa;
    if (getsockname(fd, (struct sockaddr *)&a.sa, &a.len) < 0) return reactor__util_error();
    d->family = a.sa.ss_family;
    if (d->family == AF_UNIX) d->flags |= REACTOR__DATAGRAM_UNIX;
    if (d->family == AF_INET6 &&
        getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, (char *)&alone, &len) == 0 && !alone)
        d->flags |= REACTOR__DATAGRAM_MAPPED;
    if (reactor__net_peer(fd, &a) == 0) d->flags |= REACTOR__DATAGRAM_CONNECTED;
    d->bound.fd = fd;
    d->bound.given = 1;
    return 0;
}

/* Closes what a try has left; one that was handed over stays the caller's. */
static void reactor__datagram_undo(reactor__datagram_socket *d) {
    reactor__net_unlink(&d->bound);
    if (d->bound.fd != REACTOR__UTIL_NO_SOCKET && !d->bound.given) reactor__util_close(d->bound.fd);
    d->bound.fd = REACTOR__UTIL_NO_SOCKET;
    d->flags = 0;
}

/* A kernel without IPv6, or one that has it switched off, has IPv4 for "*". */
static int reactor__datagram_make_any(reactor__datagram_socket *d, reactor__net_address *a,
                                      const reactor__net_address *to,
                                      const reactor_datagram_options *o) {
    int e = reactor__datagram_make(d, a, to, o);
    if (!a || !a->any || (e != -EAFNOSUPPORT && e != -EADDRNOTAVAIL)) return e;
    reactor__datagram_undo(d);
    reactor__net_fixed4(a, INADDR_ANY, reactor__net_port(a));
    return reactor__datagram_make(d, a, to, o);
}

/* Whether its own address is that of every interface, so that the system would choose by routes
   from which of them it answers. */
static int reactor__datagram_is_any(const reactor__datagram_socket *d) {
    static const unsigned char any[16] = {0};
    struct sockaddr_storage sa;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    socklen_t len = sizeof sa;
    memset(&sa, 0, sizeof sa);
    if (getsockname(d->bound.fd, (struct sockaddr *)&sa, &len) < 0) return 0;
    memcpy(&in4, &sa, sizeof in4);
    memcpy(&in6, &sa, sizeof in6);
    if (sa.ss_family == AF_INET) return in4.sin_addr.s_addr == 0;
    return sa.ss_family == AF_INET6 && memcmp(&in6.sin6_addr, any, sizeof any) == 0;
}

/* Everything after bind. What the system may lack comes without an error unless it was asked
   for. */
static int reactor__datagram_tune(reactor__datagram_socket *d, const reactor__net_address *to,
                                  const reactor_datagram_options *o) {
    const reactor_socket fd = d->bound.fd;
    const int inet = !(d->flags & REACTOR__DATAGRAM_UNIX);
    int e = 0;
    if (o->receive_buffer) e = reactor__net_set(fd, SOL_SOCKET, SO_RCVBUF, (int)o->receive_buffer);
    if (e == 0 && o->send_buffer)
        e = reactor__net_set(fd, SOL_SOCKET, SO_SNDBUF, (int)o->send_buffer);
    if (e == 0 && o->broadcast) e = reactor__net_set(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (e == 0 && inet) e = reactor__datagram_tune_groups(d, o);
    if (e == 0 && o->groups) e = reactor__datagram_join_all(d, o->groups);
    if (e == 0 && to) e = reactor__datagram_connect(d, to);
    if (e == 0 && inet && d->h->on_error) e = reactor__datagram_sys_errors(d);
    if (e == 0 && o->packet_info == 1) e = inet ? reactor__datagram_sys_info(d) : -ENOTSUP;
    if (e == 0 && o->packet_info == 0 && inet && !(d->flags & REACTOR__DATAGRAM_CONNECTED) &&
        reactor__datagram_is_any(d)) {
        e = reactor__datagram_sys_info(d);
        if (e == -ENOTSUP) e = 0;
    }
    if (e == 0 && inet && o->offload == 0) reactor__datagram_sys_offload(d);
    d->capacity = d->max_size;
    if ((d->flags & REACTOR__DATAGRAM_COALESCES) && d->capacity < REACTOR__DATAGRAM_BLOCK)
        d->capacity = REACTOR__DATAGRAM_BLOCK;
    return e == 0 ? reactor__net_sys_quiet(fd) : e;
}

/* From addresses to a socket that is ready. */
static int reactor__datagram_prepare(reactor__datagram_socket *d, const char *address,
                                     const reactor_datagram_options *o) {
    reactor__net_address a, to;
    memset(&a, 0, sizeof a);
    memset(&to, 0, sizeof to);
    int e = address ? reactor__net_parse(address, strlen(address), 1, &a) : 0;
    if (e == 0 && o->connect) e = reactor__net_parse(o->connect, strlen(o->connect), 0, &to);
    if (e == 0 && o->connect && to.fd != REACTOR__UTIL_NO_SOCKET) e = -EINVAL;
    if (e < 0) return e;
    const reactor__net_address *peer = o->connect ? &to : NULL;
    if (address && a.fd != REACTOR__UTIL_NO_SOCKET)
        e = reactor__datagram_adopt(d, a.fd);
    else
        e = reactor__datagram_make_any(d, address ? &a : NULL, peer, o);
    return e == 0 ? reactor__datagram_tune(d, peer, o) : e;
}

/* A slot, and what may fail with it; one that was handed over is changed last. */
static int reactor__datagram_register(reactor *r, reactor__datagram_socket *d) {
    int64_t index =
        reactor__core_reserve(&r->core, REACTOR__CORE_DATAGRAM, reactor__datagram_io, d);
    if (index < 0) return (int)index;
    d->id = reactor__core_id(&r->core, (uint32_t)index);
    int e = reactor__datagram_reserve(reactor__datagram_module_of(r), d);
    if (e == 0) e = reactor__core_bind(&r->core, (uint32_t)index, d->bound.fd, REACTOR_READ);
    if (e == 0 && d->bound.given) e = reactor__util_cloexec(d->bound.fd);
    if (e == 0 && d->bound.given) e = reactor__util_nonblock(d->bound.fd);
    if (e == 0) return 0;
    reactor__core_unbind(&r->core, (uint32_t)index, 0);
    reactor__core_release(&r->core, (uint32_t)index);
    return e;
}

/* What does not need the socket. */
static void reactor__datagram_fill(reactor__datagram_socket *d, const reactor_datagram_handler *h,
                                   const reactor_datagram_options *o) {
    d->h = h;
    d->bound.fd = REACTOR__UTIL_NO_SOCKET;
    d->high_water = o->high_water;
    d->low_water = o->low_water;
    d->max_output = o->max_output;
    d->max_size = (uint32_t)o->max_size;
    d->overflow = o->overflow;
    d->read_budget = o->read_budget;
    d->user = o->user;
    if (o->name) snprintf(d->name, sizeof d->name, "%s", o->name);
}

/* From here on the socket is one of the loop's. Nothing can fail any more. */
static void reactor__datagram_link(reactor *r, reactor__datagram_socket *d) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    d->next = p->sockets;
    d->at = &p->sockets;
    if (d->next) d->next->at = &d->next;
    p->sockets = d;
    d->flags |= REACTOR__DATAGRAM_ACTIVE;
    r->core.active++;
    r->core.counters.datagram_sockets++;
}

/* The order is: what is wrong with the arguments, then memory, then the socket, and last what
   changes a socket that was handed over. So a failure leaves nothing behind. */
REACTOR_API int reactor_datagram_open(reactor *r, const char *address,
                                      const reactor_datagram_handler *h,
                                      const reactor_datagram_options *o, reactor_datagram *out) {
    reactor_datagram_options options;
    if (out) out->id = 0;
    memset(&options, 0, sizeof options);
    if (o) options = *o;
    if (!r || !h || (!address && !options.connect)) return -EINVAL;
    if (h->state_size > UINT32_MAX - REACTOR__DATAGRAM_HEAD) return -EINVAL;
    int e = reactor__datagram_defaults(&options);
    if (e == 0) e = reactor__datagram_start(r);
    if (e < 0) return e;
    reactor__datagram_socket *d =
        (reactor__datagram_socket *)reactor__util_zeroed(REACTOR__DATAGRAM_HEAD + h->state_size);
    if (!d) return -ENOMEM;
    reactor__datagram_fill(d, h, &options);
    e = reactor__datagram_prepare(d, address, &options);
    if (e == 0) e = reactor__datagram_register(r, d);
    if (e < 0) {
        reactor__datagram_undo(d);
        REACTOR_FREE(d);
        return e;
    }
    reactor__datagram_link(r, d);
    if (out) out->id = d->id;
    return 0;
}

/* ---- calls ---- */

/* The socket of a handle, closing or not; NULL if the handle is stale. */
static reactor__datagram_socket *reactor__datagram_find(const reactor *r, reactor_datagram handle) {
    reactor__core_slot *slot = reactor__core_resolve(&r->core, handle.id, REACTOR__CORE_DATAGRAM);
    return slot ? (reactor__datagram_socket *)slot->user : NULL;
}

/* One that is not closing. */
static int reactor__datagram_live(const reactor *r, reactor_datagram handle,
                                  reactor__datagram_socket **out) {
    if (!r) return -EINVAL;
    REACTOR_ASSERT(reactor__loop_is_mine(r));
    *out = reactor__datagram_find(r, handle);
    return *out && !((*out)->flags & REACTOR__DATAGRAM_CLOSING) ? 0 : -EBADF;
}

/* What no system takes is refused at the call, where the caller still knows what it was. */
static size_t reactor__datagram_longest(const reactor__datagram_socket *d) {
    if (d->family == AF_INET) return REACTOR__DATAGRAM_MOST4;
    if (d->family == AF_INET6) return REACTOR__DATAGRAM_MOST6;
    return REACTOR__DATAGRAM_LARGEST; /* the kernel's limit is SO_SNDBUF, and told by on_error */
}

/* Whether peer can be sent to; *peer becomes what the system takes. */
static int reactor__datagram_check_peer(const reactor__datagram_socket *d,
                                        const reactor_peer **peer, reactor_peer *mapped) {
    const reactor_peer *to = *peer;
    if (!to) return d->flags & REACTOR__DATAGRAM_CONNECTED ? 0 : -EDESTADDRREQ;
    if (d->flags & REACTOR__DATAGRAM_CONNECTED) return -EISCONN;
    if (!to->len) return -EDESTADDRREQ;
    const int family = reactor__datagram_family_of(to);
    if (to->len > sizeof to->address ||
        (family == AF_INET && to->len < sizeof(struct sockaddr_in)) ||
        (family == AF_INET6 && to->len < sizeof(struct sockaddr_in6)))
        return -EINVAL;
    if (REACTOR__LIKELY(family == d->family)) return 0;
    *peer = mapped;
    return reactor__datagram_map(d, to, mapped);
}

/* The queue has no room for cost more. Returns 0 if there is by now, else what send returns. */
static int reactor__datagram_overflow(reactor *r, reactor__datagram_socket *d, size_t cost) {
    reactor__datagram_module *p = reactor__datagram_module_of(r);
    if (d->overflow == REACTOR_DROP_OLDEST) {
        while (d->out.head && cost > d->max_output - d->out.bytes) {
            r->core.counters.datagrams_dropped++;
            d->flags &= ~(unsigned)REACTOR__DATAGRAM_RETRIED;
            reactor__datagram_pop(p, &d->out, 1);
        }
        return 0;
    }
    d->flags |= REACTOR__DATAGRAM_OWES_WRITABLE;
    if (d->overflow == REACTOR_DROP_NEWEST) {
        r->core.counters.datagrams_dropped++;
        return 1;
    }
    if (cost > d->owed) d->owed = cost;
    return -ENOBUFS;
}

/* Only puts the datagram into the queue, and has the socket scheduled if no callback of its own is
   running, after which the queue is sent anyway. All checks come before anything has changed. */
REACTOR_API int reactor_datagram_send(reactor *r, reactor_datagram handle, const reactor_peer *peer,
                                      const void *data, size_t len) {
    reactor__datagram_socket *d;
    reactor_peer mapped;
    int e = reactor__datagram_live(r, handle, &d);
    if (e < 0) return e;
    if (!data && len) return -EINVAL;
    e = reactor__datagram_check_peer(d, &peer, &mapped);
    if (e < 0) return e;
    if (len > reactor__datagram_longest(d)) return -EMSGSIZE;
    const size_t cost = len + REACTOR__DATAGRAM_COST;
    if (cost > d->max_output) return -EMSGSIZE;
    if (REACTOR__UNLIKELY(cost > d->max_output - d->out.bytes)) {
        e = reactor__datagram_overflow(r, d, cost);
        if (e != 0) {
            reactor__datagram_schedule(r, d); /* on_writable may be due at the end of this turn */
            return e;
        }
    }
    e = reactor__datagram_push(reactor__datagram_module_of(r), &d->out, peer, data, (uint32_t)len,
                               (uint32_t)len);
    if (e < 0) return e;
    reactor__datagram_schedule(r, d);
    if (d->out.bytes <= d->high_water) return 0;
    d->flags |= REACTOR__DATAGRAM_OWES_WRITABLE;
    return 1;
}

/* The end itself is step's, at the end of this turn: the caller may be one of its callbacks, and
   the message that it looks at must stay until it returns. */
REACTOR_API int reactor_datagram_close(reactor *r, reactor_datagram handle) {
    reactor__datagram_socket *d;
    if (!r) return -EINVAL;
    if (reactor__datagram_live(r, handle, &d) < 0) return 0;
    d->flags |= REACTOR__DATAGRAM_CLOSING;
    d->close_by =
        reactor__util_add(reactor__util_clock(), reactor__util_ms(REACTOR__DATAGRAM_CLOSE_MS));
    reactor__datagram_update(r, d);
    reactor__datagram_schedule(r, d);
    return 0;
}

REACTOR_API int reactor_datagram_pause(reactor *r, reactor_datagram handle) {
    reactor__datagram_socket *d;
    int e = reactor__datagram_live(r, handle, &d);
    if (e < 0) return e;
    d->flags |= REACTOR__DATAGRAM_PAUSED;
    reactor__datagram_update(r, d);
    return 0;
}

/* What a pause in the middle of a batch had kept is delivered by step, not by this call. */
REACTOR_API int reactor_datagram_resume(reactor *r, reactor_datagram handle) {
    reactor__datagram_socket *d;
    int e = reactor__datagram_live(r, handle, &d);
    if (e < 0) return e;
    d->flags &= ~(unsigned)REACTOR__DATAGRAM_PAUSED;
    if (d->in.head) reactor__datagram_schedule(r, d);
    reactor__datagram_update(r, d);
    return 0;
}

REACTOR_API int reactor_datagram_join(reactor *r, reactor_datagram handle, const char *group) {
    reactor__datagram_socket *d;
    int e = group ? reactor__datagram_live(r, handle, &d) : -EINVAL;
    return e < 0 ? e : reactor__datagram_member(d, group, strlen(group), 1);
}

REACTOR_API int reactor_datagram_leave(reactor *r, reactor_datagram handle, const char *group) {
    reactor__datagram_socket *d;
    int e = group ? reactor__datagram_live(r, handle, &d) : -EINVAL;
    return e < 0 ? e : reactor__datagram_member(d, group, strlen(group), 0);
}

REACTOR_API void *reactor_datagram_state(const reactor *r, reactor_datagram handle) {
    reactor__datagram_socket *d = r ? reactor__datagram_find(r, handle) : NULL;
    return d ? reactor__datagram_state(d) : NULL;
}

REACTOR_API void *reactor_datagram_user(const reactor *r, reactor_datagram handle) {
    const reactor__datagram_socket *d = r ? reactor__datagram_find(r, handle) : NULL;
    return d ? d->user : NULL;
}

REACTOR_API reactor_socket reactor_datagram_socket(const reactor *r, reactor_datagram handle) {
    const reactor__datagram_socket *d = r ? reactor__datagram_find(r, handle) : NULL;
    return d ? d->bound.fd : REACTOR__UTIL_NO_SOCKET;
}

REACTOR_API int reactor_datagram_address(const reactor *r, reactor_datagram handle, char *out,
                                         size_t size) {
    if (!r || !out) return -EINVAL;
    const reactor__datagram_socket *d = reactor__datagram_find(r, handle);
    if (!d) return -EBADF;
    if (d->bound.fd == REACTOR__UTIL_NO_SOCKET) return -ENOTCONN; /* in on_close */
    return reactor__net_name(d->bound.fd, 0, out, size);
}

REACTOR_API size_t reactor_datagram_pending(const reactor *r, reactor_datagram handle) {
    const reactor__datagram_socket *d = r ? reactor__datagram_find(r, handle) : NULL;
    return d ? d->out.bytes : 0;
}

/* For sending, so without "*" as every address, and without port 0. */
REACTOR_API int reactor_peer_parse(const char *text, reactor_peer *out) {
    reactor__net_address a;
    if (!text || !out) return -EINVAL;
    int e = reactor__net_parse(text, strlen(text), 0, &a);
    if (e < 0) return e;
    if (a.fd != REACTOR__UTIL_NO_SOCKET) return -EINVAL;
    reactor__datagram_to_peer(&a, out);
    return 0;
}

/* A unix peer without a name has no address at all, which the formatter would not take. */
REACTOR_API int reactor_peer_format(const reactor_peer *peer, char *out, size_t size) {
    if (!peer || !out || peer->len > sizeof peer->address) return -EINVAL;
    if (!peer->len) return reactor__net_fits(snprintf(out, size, "unix:"), size);
    return reactor__net_format((const struct sockaddr *)(const void *)peer->address,
                               (socklen_t)peer->len, out, size);
}
#endif /* REACTOR_NO_DATAGRAMS */

/* ==== >> group ==== */
/* Several loops on threads of their own that serve the same listeners.

   A member is a loop and its thread. Members share nothing but the group's `error`, which the first
   that fails sets. Each is held by a reference (reactor_ref), so that a loop without a connection
   waits for one; a drain gives it back, or it would last until its deadline.

   A listener of the group is one of each loop's with SO_REUSEPORT, where the kernel spreads peers.
   Loops that all watch one socket (EPOLLEXCLUSIVE) see nearly all connections go to one of them, so
   elsewhere loop 0 accepts bare sockets, and posts each to the next loop in turn.

        NEW -> RUNNING [group_run]   RUNNING -> ENDED [group_run]
        NEW, ENDED -> freed [group_destroy] */
#if !defined(REACTOR_NO_NET) && !defined(REACTOR_NO_WORK) && !defined(REACTOR_NO_GROUPS)

enum { REACTOR__GROUP_MOST = 1024 };
enum { REACTOR__GROUP_NEW, REACTOR__GROUP_RUNNING, REACTOR__GROUP_ENDED };

typedef struct reactor__group_member {
    reactor_group *group;
    reactor *loop;
    reactor__work_entry entry;
    reactor__work_handle thread; /* of all but the first */
    int index;
} reactor__group_member;

/* A listener whose sockets are handed out. */
typedef struct reactor__group_source {
    struct reactor__group_source *next;
    reactor_group *group;
    const reactor_handler *h;
    reactor_conn_options conn;
    int turn; /* the member that gets the next one */
} reactor__group_source;

struct reactor_group {
    reactor_group_options options;
    reactor__group_source *sources;
    int count;
    int state; /* atomic */
    int error; /* atomic: the first one */
    reactor__group_member members[1];
};

/* A socket on its way to a member. */
typedef struct reactor__group_parcel {
    const reactor__group_source *source;
    reactor_socket fd;
} reactor__group_parcel;

REACTOR_API int reactor_group_count(const reactor_group *g) { return g ? g->count : 0; }

REACTOR_API reactor *reactor_group_loop(const reactor_group *g, int index) {
    return g && index >= 0 && index < g->count ? g->members[index].loop : NULL;
}

REACTOR_API void reactor_group_stop(reactor_group *g) {
    for (int i = 0; g && i < g->count; i++) reactor_stop(g->members[i].loop);
}

/* ---- making and ending ---- */

REACTOR_API void reactor_group_destroy(reactor_group *g) {
    if (!g || REACTOR__LOAD(&g->state) == REACTOR__GROUP_RUNNING) return;
    for (int i = 0; i < g->count; i++) reactor_destroy(g->members[i].loop);
    while (g->sources) {
        reactor__group_source *source = g->sources;
        g->sources = source->next;
        REACTOR_FREE(source);
    }
    REACTOR_FREE(g);
}

REACTOR_API int reactor_group_create(reactor_group **out, const reactor_group_options *options) {
    if (!out) return -EINVAL;
    *out = NULL;
    int count = options ? options->loops : 0;
    if (count < 0 || count > REACTOR__GROUP_MOST) return -EINVAL;
    if (count == 0) count = reactor__work_cpus();
    if (count < 1) count = 1;
    size_t size = sizeof(reactor_group) + (size_t)count * sizeof(reactor__group_member);
    reactor_group *g = (reactor_group *)reactor__util_zeroed(size);
    if (!g) return -ENOMEM;
    if (options) g->options = *options;
    for (int e; g->count < count; g->count++) {
        reactor__group_member *m = &g->members[g->count];
        e = reactor_create(&m->loop, &g->options.loop);
        if (e < 0) {
            reactor_group_destroy(g);
            return e;
        }
        m->group = g;
        m->index = g->count;
        reactor_ref(m->loop);
    }
    *out = g;
    return 0;
}

/* ---- listening ---- */

static void reactor__group_take(reactor *r, void *user) {
    reactor__group_parcel *parcel = (reactor__group_parcel *)user;
    const reactor__group_source *source = parcel->source;
    if (reactor_attach(r, parcel->fd, source->h, &source->conn, NULL) < 0)
        reactor__util_close(parcel->fd);
    REACTOR_FREE(parcel);
}

/* Loop 0 has accepted one. What cannot be handed out is closed, as accept does without memory. */
static void reactor__group_accepted(reactor *r, reactor_listener l, reactor_socket fd,
                                    const char *peer, void *user) {
    reactor__group_source *source = (reactor__group_source *)user;
    reactor__group_member *m = &source->group->members[source->turn];
    reactor__group_parcel *parcel = REACTOR__NEW(reactor__group_parcel);
    (void)r, (void)l, (void)peer;
    source->turn = (source->turn + 1) % source->group->count;
    if (parcel) {
        parcel->source = source;
        parcel->fd = fd;
        if (reactor_post(m->loop, reactor__group_take, parcel) == 0) return;
    }
    REACTOR_FREE(parcel);
    reactor__util_close(fd);
}

static int reactor__group_hand_out(reactor_group *g, const char *address, const reactor_handler *h,
                                   const reactor_listen_options *o, reactor_listener *out) {
    reactor__group_source *source = REACTOR__NEW(reactor__group_source);
    if (!source) return -ENOMEM;
    source->group = g;
    source->h = h;
    source->conn = o->conn;
    int e = reactor_accept(g->members[0].loop, address, reactor__group_accepted, source, o, out);
    if (e < 0) {
        REACTOR_FREE(source);
        return e;
    }
    source->next = g->sources;
    g->sources = source;
    return 0;
}

/* Whether the system spreads what comes to this address over sockets. */
#if defined(__linux__) || defined(__FreeBSD__)
static int reactor__group_is_spread(const char *address) {
    return strncmp(address, "unix:", 5) != 0 && strncmp(address, "fd:", 3) != 0;
}
#else
static int reactor__group_is_spread(const char *address) {
    (void)address;
    return 0;
}
#endif

/* The first loop's listener has the address; the others join it at the port that it got. */
static int reactor__group_join(reactor_group *g, const char *address, const reactor_handler *h,
                               const reactor_listen_options *o) {
    reactor_listener opened[REACTOR__GROUP_MOST];
    for (int i = 1; i < g->count; i++) {
        int e = reactor_listen(g->members[i].loop, address, h, o, &opened[i]);
        if (e == 0) continue;
        while (--i > 0) reactor_listener_close(g->members[i].loop, opened[i]);
        return e;
    }
    return 0;
}

/* What was asked for, with the port that the first loop got; both families have got the same. */
static void reactor__group_name(const char *address, const char *got, char *out, size_t size) {
    const char *colon = strrchr(address, ':');
    const int host = colon ? (int)(colon - address) : (int)strlen(address);
    snprintf(out, size, "%.*s%s", host, address, strrchr(got, ':'));
}

REACTOR_API int reactor_group_listen(reactor_group *g, const char *address,
                                     const reactor_handler *h, const reactor_listen_options *o,
                                     char *bound, size_t size) {
    reactor_listen_options options;
    reactor_listener first;
    char got[REACTOR_ADDRESS_MAX], same[2 * REACTOR_ADDRESS_MAX];
    if (!g || !address || !h) return -EINVAL;
    if (REACTOR__LOAD(&g->state) != REACTOR__GROUP_NEW) return -EBUSY;
    memset(&options, 0, sizeof options);
    if (o) options = *o;
    const int spread = g->count == 1 || reactor__group_is_spread(address);
    options.reuse_port = spread && g->count > 1;
    if (options.max_connections > 0 && spread)
        options.max_connections = (options.max_connections + g->count - 1) / g->count;
    reactor *r = g->members[0].loop;
    int e = spread ? reactor_listen(r, address, h, &options, &first)
                   : reactor__group_hand_out(g, address, h, &options, &first);
    if (e < 0) return e;
    int n = reactor_listener_address(r, first, got, sizeof got);
    if (n >= 0 && bound && (size_t)n >= size) n = -ENOBUFS;
    if (n >= 0 && spread && g->count > 1) {
        reactor__group_name(address, got, same, sizeof same);
        e = reactor__group_join(g, same, h, &options);
        if (e < 0) n = e;
    }
    if (n < 0) {
        reactor_listener_close(r, first);
        return n;
    }
    if (bound) memcpy(bound, got, (size_t)n + 1);
    return 0;
}

/* ---- running ---- */

static void reactor__group_fail(reactor_group *g, int error) {
    int none = 0;
    REACTOR__CAS(&g->error, &none, error);
    reactor_group_stop(g);
}

static void reactor__group_main(void *member) {
    reactor__group_member *m = (reactor__group_member *)member;
    reactor_group *g = m->group;
    int e = reactor__loop_call_start(m->loop, &g->options, m->index);
    if (e >= 0) e = reactor_run(m->loop);
    reactor__loop_call_end(m->loop, &g->options, m->index);
    if (e < 0) reactor__group_fail(g, e);
}

REACTOR_API int reactor_group_run(reactor_group *g) {
    int fresh = REACTOR__GROUP_NEW, begun = 1;
    if (!g) return -EINVAL;
    if (!REACTOR__CAS(&g->state, &fresh, REACTOR__GROUP_RUNNING)) return -EALREADY;
    for (; begun < g->count; begun++) {
        reactor__group_member *m = &g->members[begun];
        m->entry.main = reactor__group_main;
        m->entry.argument = m;
        int e = reactor__work_launch(&m->entry, &m->thread);
        if (e == 0) continue;
        reactor__group_fail(g, e);
        break;
    }
    if (begun == g->count) reactor__group_main(&g->members[0]);
    while (--begun > 0) reactor__work_join_thread(g->members[begun].thread);
    REACTOR__STORE(&g->state, REACTOR__GROUP_ENDED);
    return REACTOR__LOAD(&g->error);
}

/* A task of each loop: user is the deadline. */
static void reactor__group_drain_one(reactor *r, void *user) {
    int64_t *deadline = (int64_t *)user;
    if (reactor_drain(r, *deadline) == 0) reactor_unref(r);
    REACTOR_FREE(deadline);
}

REACTOR_API int reactor_group_drain(reactor_group *g, int64_t deadline_ms) {
    if (!g || deadline_ms < -1) return -EINVAL;
    for (int i = 0; i < g->count; i++) {
        int64_t *deadline = REACTOR__NEW(int64_t);
        if (!deadline) return -ENOMEM;
        *deadline = deadline_ms;
        int e = reactor_post(g->members[i].loop, reactor__group_drain_one, deadline);
        if (e == 0) continue;
        REACTOR_FREE(deadline);
        if (e != -ECANCELED) return e;
    }
    return 0;
}
#endif /* REACTOR_NO_GROUPS */
#endif /* REACTOR_IMPLEMENTATION_INCLUDED */
#endif /* REACTOR_IMPLEMENTATION */

/* ==== >> licence ==== */
/* MIT License

   Copyright (c) 2026 the reactor.h authors

   Permission is hereby granted, free of charge, to any person obtaining a copy
   of this software and associated documentation files (the "Software"), to deal
   in the Software without restriction, including without limitation the rights
   to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
   copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in all
   copies or substantial portions of the Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
   IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
   FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
   AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
   LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
   SOFTWARE. */
