/* selector_client: sends what is typed to a server, and shows what it answers: two descriptors at
   once with reactor_select. To be tried with selector_echo.

   What to learn: whoever waits for a person and a server at the same time can block on neither.
   Standard input is registered like the socket, whatever it is. At its end the server is told, and
   what it still has to say is read.

   cc -o selector_client examples/selector_client.c -pthread
   ./selector_client 7000 */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

static reactor *r;
static int fd; /* the server */
static char typed[4096];
static size_t len, sent; /* of typed */

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
    return reactor_add(r, fd, REACTOR_READ, NULL, NULL);
}

/* Sends what there is to be sent, and has the server, or else standard input, watched for more. */
static int send_some(void) {
    ssize_t n = send(fd, typed + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return -errno;
    if (n > 0) sent += (size_t)n;
    reactor_modify(r, STDIN_FILENO, sent < len ? 0 : REACTOR_READ);
    return reactor_modify(r, fd, sent < len ? REACTOR_READ | REACTOR_WRITE : REACTOR_READ);
}

static int read_typed(void) {
    ssize_t n = read(STDIN_FILENO, typed, sizeof typed);
    if (n < 0 && errno == EINTR) return 0;
    if (n <= 0) { /* an end, or a terminal that has gone */
        reactor_remove(r, STDIN_FILENO);
        return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
    }
    sent = 0;
    len = (size_t)n;
    return send_some();
}

/* 1: that was the end. */
static int show_answer(void) {
    char text[4096];
    ssize_t n = recv(fd, text, sizeof text, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    fwrite(text, 1, (size_t)n, stdout);
    fflush(stdout);
    return n == 0;
}

int main(int argc, char **argv) {
    reactor_key keys[2];
    int e = reactor_create(&r, NULL), ended = 0;
    if (e == 0) e = connect_to(argc > 1 ? atoi(argv[1]) : 7000);
    if (e == 0) e = reactor_add(r, STDIN_FILENO, REACTOR_READ, NULL, NULL);
    while (e >= 0 && !ended) {
        int n = e = reactor_select(r, keys, 2, -1);
        for (int i = 0; e >= 0 && i < n; i++) {
            if (keys[i].fd == STDIN_FILENO)
                e = read_typed();
            else if (keys[i].events & REACTOR_WRITE)
                e = send_some();
            if (e >= 0 && keys[i].fd == fd && (keys[i].events & REACTOR_READ))
                e = ended = show_answer();
        }
    }
    if (e < 0) fprintf(stderr, "selector_client: %s\n", reactor_strerror(e));
    reactor_destroy(r);
    return e < 0;
}
