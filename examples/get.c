/* get: fetches a page over plain HTTP and writes it to standard output. A client by name: the name is
   looked up by threads, all its addresses are tried (IPv6 and IPv4 by turns, a slow one does not
   hold up the next), and each way in which it can fail is said in words.

   cc -o get examples/get.c -pthread
   ./get example.com:80 /index.html */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

typedef struct page {
    const char *host, *path;
    int body;   /* the head is over */
    int reason; /* of the connection's end; 1: none so far */
} page;

static void on_open(reactor *r, reactor_conn c, void *state) {
    const page *p = (const page *)reactor_user(r, c);
    char peer[REACTOR_ADDRESS_MAX];
    (void)state;
    if (reactor_peer_address(r, c, peer, sizeof peer) > 0) fprintf(stderr, "get: from %s\n", peer);
    const reactor_iovec request[] = {{"GET ", 4},
                                     {p->path, strlen(p->path)},
                                     {" HTTP/1.0\r\nHost: ", 17},
                                     {p->host, strlen(p->host)},
                                     {"\r\n\r\n", 4}};
    reactor_writev(r, c, request, 5);
}

/* HTTP/1.0: a head, an empty line, and the body, which ends with the connection. */
static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    page *p = (page *)reactor_user(r, c);
    const char *text = (const char *)data;
    size_t head = 0;
    (void)state;
    if (!p->body) {
        while (head + 4 <= len && memcmp(text + head, "\r\n\r\n", 4) != 0) head++;
        if (head + 4 > len) return 0; /* more is to come */
        fprintf(stderr, "get: %.*s\n", (int)strcspn(text, "\r"), text);
        p->body = 1;
        head += 4;
    }
    fwrite(text + head, 1, len - head, stdout);
    return len;
}

static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
    (void)state;
    ((page *)reactor_user(r, c))->reason = reason;
}

static const reactor_handler client = {
    .on_open = on_open, .on_data = on_data, .on_close = on_close};

int main(int argc, char **argv) {
    page p = {argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "/", 0, 1};
    reactor_connect_options o = {.conn = {.user = &p, .read_timeout_ms = 10000},
                                 .timeout_ms = 10000};
    reactor *r = NULL;
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_connect(r, p.host, &client, &o, NULL);
    if (e == 0) e = reactor_run(r);
    if (e == 0) e = p.reason;
    if (e == -ENXIO)
        fprintf(stderr, "get: %s: there is no such name\n", p.host);
    else if (e != 0)
        fprintf(stderr, "get: %s: %s\n", p.host, reactor_strerror(e));
    else if (!p.body)
        fprintf(stderr, "get: %s: no answer that is HTTP\n", p.host);
    reactor_destroy(r);
    return e != 0 || !p.body;
}
