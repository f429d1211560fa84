/* The implementation under test, with every backend that this platform has. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* before any header of the system */
#endif
#include "libkqueue.h"
#define REACTOR__CHECKS /* what the header checks of itself between any two steps */
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_ALL
#include "../reactor.h"
