/* files: the files of the current folder over HTTP, with connections that stay open. To be read
   before static_server, which does the same with everything that the Internet asks for.

   What to learn: one request an on_data, which is called again while it consumes something; a head
   that is written and a file that is queued behind it leave together; keep-alive costs nothing, it
   is only that nobody closes.

   cc -o files examples/files.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

/* A plain file below the current folder, or -1. ".." could lead out of it, and so could a link. */
static int open_file(const char *path, struct stat *info) {
    char name[1200];
    if (*path != '/' || strstr(path, "..") || strstr(path, "//")) return -1;
    snprintf(name, sizeof name, ".%s%s", path, path[strlen(path) - 1] == '/' ? "index.html" : "");
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0 || (fstat(fd, info) == 0 && S_ISREG(info->st_mode))) return fd;
    close(fd);
    return -1;
}

static void send_head(reactor *r, reactor_conn c, const char *status, long long length, int last) {
    char head[160];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %lld\r\n%s\r\n", status,
                     length, last ? "Connection: close\r\n" : "");
    if (reactor_write(r, c, head, (size_t)n) < 0) reactor_abort(r, c);
}

/* Answers one request. Not 0: the connection ends with that. */
static int serve(reactor *r, reactor_conn c, const char *head) {
    char method[8], path[1024], version[16];
    struct stat info;
    if (sscanf(head, "%7s %1023s %15s", method, path, version) != 3 ||
        strncmp(version, "HTTP/1.", 7) != 0 || strcasestr(head, "\ncontent-length:") ||
        strcasestr(head, "\ntransfer-encoding:")) {
        send_head(r, c, "400 Bad Request", 0, 1);
        return -1;
    }
    int last = !strcmp(version, "HTTP/1.0") || strcasestr(head, "\nconnection: close") != NULL;
    int is_head = strcmp(method, "HEAD") == 0;
    if (!is_head && strcmp(method, "GET") != 0) {
        send_head(r, c, "501 Not Implemented", 0, last);
        return last;
    }
    int fd = open_file(path, &info);
    send_head(r, c, fd < 0 ? "404 Not Found" : "200 OK", fd < 0 ? 0 : info.st_size, 0);
    if (fd >= 0 && (is_head || reactor_sendfile(r, c, fd, 0, info.st_size, REACTOR_CLOSE_FILE, NULL,
                                                NULL) < 0)) {
        close(fd);
        if (!is_head) reactor_abort(r, c); /* the head has promised what does not come */
    }
    return last;
}

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    char head[4096];
    const char *end = memmem(data, len, "\r\n\r\n", 4);
    (void)state;
    if (!end && len < sizeof head) return 0; /* the rest will come */
    size_t n = end ? (size_t)(end - (const char *)data) + 2 : len;
    if (n >= sizeof head || memchr(data, '\0', n)) {
        send_head(r, c, "400 Bad Request", 0, 1);
        reactor_close(r, c);
        return len;
    }
    memcpy(head, data, n);
    head[n] = '\0';
    if (serve(r, c, head) != 0) reactor_close(r, c);
    return n + 2;
}

static const reactor_handler handler = {.on_data = on_data};

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    reactor_drain(r, 1000);
}

int main(int argc, char **argv) {
    reactor *r;
    reactor_listener listener;
    reactor_listen_options options = {.conn.idle_timeout_ms = 60000};
    char address[REACTOR_ADDRESS_MAX];
    snprintf(address, sizeof address, "localhost:%s", argc > 1 ? argv[1] : "8080");
    int e = reactor_create(&r, NULL);
    if (e == 0) e = reactor_listen(r, address, &handler, &options, &listener);
    if (e == 0) e = reactor_signal(r, SIGTERM, on_signal, NULL);
    if (e == 0) {
        reactor_listener_address(r, listener, address, sizeof address);
        printf("listening on %s\n", address);
        fflush(stdout);
        e = reactor_run(r);
    }
    if (e < 0) fprintf(stderr, "files: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
