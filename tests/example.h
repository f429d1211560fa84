/* Included before everything else into each example that the tests build. The program then gets its
   reactor from the tests' reactor_all.o, which has every backend and is compiled once, and takes the
   one that REACTOR_TEST_BACKEND names, unless it asks for one itself. */
#define _GNU_SOURCE 1
#ifndef _FILE_OFFSET_BITS /* as in reactor_all.c, for the two share structs of the system */
#define _FILE_OFFSET_BITS 64
#endif
#ifndef _TIME_BITS
#define _TIME_BITS 64
#endif
#define REACTOR_IMPLEMENTATION_INCLUDED

#include "../reactor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
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
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#endif

static int example_create(reactor **out, const reactor_options *options) {
    reactor_options own = {0};
    if (options) own = *options;
    const char *name = getenv("REACTOR_TEST_BACKEND");
    if (!own.backend && name && *name) own.backend = name;
    return reactor_create(out, &own);
}
#define reactor_create example_create
