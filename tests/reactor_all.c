/* The implementation under test, with every backend that this platform has. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* before any header of the system */
#endif
#include "libkqueue.h"
#define REACTOR_IMPLEMENTATION
#ifdef _WIN32
#define REACTOR_USE_WINDOWS
#else
#define REACTOR_USE_IO_URING
#define REACTOR_USE_EPOLL
#define REACTOR_USE_POLL
#endif
#define REACTOR_USE_SELECT
#include "../reactor.h"
