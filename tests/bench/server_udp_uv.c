/* Echo of datagrams on libuv, sent by uv_udp_try_send, received one by one, or, with MANY, by
   recvmmsg. */
#include "bench.h"

#include <uv.h>

#ifdef MANY
static char buffer[20 * 65536]; /* libuv cuts it into pieces of 64 KiB */
#else
static char buffer[65536];
#endif

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, sizeof buffer);
}

static void on_message(uv_udp_t *udp, ssize_t n, const uv_buf_t *in, const struct sockaddr *from,
                       unsigned flags) {
    (void)flags;
    if (n < 0) die("uv_udp_recv");
    if (!from) return;
    uv_buf_t out = uv_buf_init(in->base, (unsigned)n);
    uv_udp_try_send(udp, &out, 1, from);
}

int main(void) {
    uv_udp_t udp;
    int fd = datagram_anywhere();
    uv_loop_t *loop = uv_default_loop();
#ifdef MANY
    uv_udp_init_ex(loop, &udp, AF_UNSPEC | UV_UDP_RECVMMSG);
#else
    uv_udp_init(loop, &udp);
#endif
    if (uv_udp_open(&udp, fd) < 0) die("uv_udp_open");
    if (uv_udp_recv_start(&udp, on_alloc, on_message) < 0) die("uv_udp_recv_start");
    announce(local_port(fd));
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}
