/* The implementation under test, with every backend that this platform has. */
#define REACTOR_IMPLEMENTATION
#define REACTOR_USE_EPOLL
#define REACTOR_USE_POLL
#define REACTOR_USE_SELECT
#include "../reactor.h"
