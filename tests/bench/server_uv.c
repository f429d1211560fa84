/* Echo on libuv's streams, the fastest way it offers: one read buffer, uv_try_write, and a write
   request only for what the peer does not take at once. */
#include "bench.h"

#include <uv.h>

struct rest {
    uv_write_t request;
    char data[];
};

static char buffer[65536];

static void on_closed(uv_handle_t *handle) { free(handle); }

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, sizeof buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *in);

static void on_written(uv_write_t *request, int status) {
    uv_stream_t *stream = request->handle;
    free(request);
    if (status == 0) uv_read_start(stream, on_alloc, on_read);
}

static void write_rest(uv_stream_t *stream, const char *data, size_t len) {
    struct rest *rest = malloc(sizeof *rest + len);
    if (!rest) die("malloc");
    memcpy(rest->data, data, len);
    uv_buf_t out = uv_buf_init(rest->data, (unsigned)len);
    uv_read_stop(stream);
    uv_write(&rest->request, stream, &out, 1, on_written);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *in) {
    if (n == 0) return;
    if (n < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    uv_buf_t out = uv_buf_init(in->base, (unsigned)n);
    int sent = uv_try_write(stream, &out, 1);
    if (sent == n) return;
    if (sent < 0) sent = 0; /* EAGAIN; an error comes back from the write */
    write_rest(stream, in->base + sent, (size_t)(n - sent));
}

static void on_connection(uv_stream_t *listener, int status) {
    uv_tcp_t *tcp = malloc(sizeof *tcp);
    if (status < 0 || !tcp) die("connection");
    uv_tcp_init(listener->loop, tcp);
    if (uv_accept(listener, (uv_stream_t *)tcp) < 0) die("uv_accept");
    uv_tcp_nodelay(tcp, 1);
    uv_read_start((uv_stream_t *)tcp, on_alloc, on_read);
}

int main(void) {
    uv_tcp_t listener;
    int fd = listen_anywhere();
    uv_loop_t *loop = uv_default_loop();
    raise_limit();
    uv_tcp_init(loop, &listener);
    if (uv_tcp_open(&listener, fd) < 0) die("uv_tcp_open");
    if (uv_listen((uv_stream_t *)&listener, 4096, on_connection) < 0) die("uv_listen");
    announce(local_port(fd));
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}
