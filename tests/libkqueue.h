/* libkqueue, over which the kqueue backend is tested on Linux, is not quite a kernel's kqueue. This
   stands between the two and mends what can be mended, so that the library is tested as it is on a
   BSD:

   - refusals of changes come back at once, alone, and are not lost when the wait times out;
   - looking at an error does not take it: libkqueue asks for SO_ERROR, which clears it.

   What cannot be mended is said by libkqueue_cannot in the test concerned. To be included before an
   implementation of reactor.h; the functions are in libkqueue.c. */
#ifndef LIBKQUEUE_H
#define LIBKQUEUE_H

#ifdef REACTOR_TEST_KQUEUE
#include <sys/event.h>
#include <time.h>

int mended_kevent(int kq, const struct kevent *changes, int n, struct kevent *events, int max,
                  const struct timespec *timeout);
#define kevent(...) mended_kevent(__VA_ARGS__)
#define REACTOR_USE_KQUEUE
#endif

#endif
