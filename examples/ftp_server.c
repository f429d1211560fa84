/* ftp_server: the files of one folder over FTP (RFC 959, 1123, 2428, 3659), to read for everybody,
   to change for one user who has a password.

   It shows a protocol with two connections, of which one is made on demand: a data connection is
   accepted by a listener of its own (PASV, EPSV) or connected to the client (PORT, EPRT). Files
   leave by reactor_sendfile, listings as fast as the client takes them, and what is uploaded is
   written as it comes. While a transfer runs, the commands behind it wait unconsumed, but ABOR.

   It never leaves its folder: paths are walked component by component without following links. It
   never connects to anybody but the client, and takes no data connection from anybody else.

   cc -O2 -o ftp_server examples/ftp_server.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

#include <dirent.h>
#include <stdarg.h>
#include <strings.h>

static const char usage[] =
    "usage: ftp_server [--root FOLDER] [--host ADDRESS] [--port N] [--writer NAME]\n"
    "                  [--max-sessions N] [--idle-timeout SECONDS] [--backend NAME] [--help]\n"
    "  --root          the folder to serve, .\n"
    "  --host          address to listen on, 127.0.0.1 (* is every address)\n"
    "  --port          2121; 0 takes any free one\n"
    "  --writer        a user who may change files; the password is in FTP_PASSWORD\n"
    "  --max-sessions  clients at once, 200\n"
    "  --idle-timeout  seconds without a command or a transfer, 300\n"
    "  --backend       one that is compiled in; the best that works\n";

enum {
    PATH_BYTES = 1024,       /* of a path inside the folder, its end included */
    LINE_BYTES = 2048,       /* of a command */
    PIECE_BYTES = 16 * 1024, /* read of a file or made of a listing at once */
    LOGIN_TRIES = 3,
    DATA_MS = 30 * 1000, /* a data connection has to come, and to move, within so long */
    DRAIN_MS = 2000
};

enum transfer { NOTHING, RETRIEVE, STORE, LIST, NAMES };

/* One client. Sessions are in a table that lives as long as the server: a data connection may end
   after the session that it was made for, and then finds that the session is another's. */
struct session {
    struct server *server;
    struct session *next_free;
    reactor_conn control;             /* {0}: this place is free */
    reactor_conn data;                /* {0}: none */
    reactor_listener passive;         /* {0}: none */
    reactor_timer waits;              /* for the data connection of a transfer that was asked for */
    char active[REACTOR_ADDRESS_MAX]; /* to be connected to, or "" */
    char user[64], cwd[PATH_BYTES], from[PATH_BYTES]; /* from: of RNFR, or "" */
    int tries, logged_in, may_write, only_epsv;
    int ended; /* the client says no more; what it has asked for is still done */
    int binary;
    int64_t rest; /* where the next transfer begins */
    enum transfer transfer;
    int data_open, began, result; /* of the transfer; result: 0 or what went wrong, negative */
    int after_cr;                 /* ASCII upload: the last byte was CR, and is not written yet */
    int file;                     /* of a transfer, -1: none */
    DIR *folder;
};

struct server {
    reactor *r;
    int root; /* the folder */
    const char *writer, *password;
    int64_t idle_ms;
    struct session *sessions, *free;
};

/* ---- replies ---- */

static void end_session(struct session *s) { reactor_close(s->server->r, s->control); }

static void send_text(struct session *s, const char *text, size_t len) {
    int e = reactor_write(s->server->r, s->control, text, len);
    if (e < 0) reactor_abort(s->server->r, s->control); /* asks on, and does not read */
}

/* One line of a reply. A CR or LF in it, from a path, would begin another one. */
__attribute__((format(printf, 2, 3))) static void reply(struct session *s, const char *format,
                                                        ...) {
    char line[PATH_BYTES * 2 + 64];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line - 2, format, arguments);
    va_end(arguments);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof line - 2 ? (size_t)n : sizeof line - 3;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < ' ') line[i] = '?';
    memcpy(line + len, "\r\n", 2);
    send_text(s, line, len + 2);
}

static void reply_errno(struct session *s, int error) {
    int passing = error == ENOSPC || error == EMFILE || error == ENFILE || error == ENOMEM;
    reply(s, "%d %s.", passing ? 452 : 550, reactor_strerror(-error));
}

/* ---- paths ---- */

/* The path that a client means, from the root on: "/", or "/a/b". "." and ".." are resolved in the
   text, so they never reach the system. */
static int resolve(const struct session *s, const char *given, char *out) {
    size_t len = 0;
    char path[2 * PATH_BYTES + 2];
    int n = snprintf(path, sizeof path, "%s/%s", *given == '/' ? "" : s->cwd, given);
    if (n < 0 || (size_t)n >= sizeof path) return -ENAMETOOLONG;
    for (char *rest = path, *part; (part = strtok_r(rest, "/", &rest)) != NULL;) {
        size_t more = strlen(part);
        if (strcmp(part, ".") == 0) continue;
        if (strcmp(part, "..") == 0) {
            while (len > 0 && out[--len] != '/')
                ;
            continue;
        }
        if (len + more + 2 > PATH_BYTES) return -ENAMETOOLONG;
        out[len++] = '/';
        memcpy(out + len, part, more);
        len += more;
    }
    if (len == 0) out[len++] = '/';
    out[len] = '\0';
    return 0;
}

/* The folder that a resolved path is in, opened, and the last component. A link on the way is
   ENOTDIR, for it may lead outside; nobody can put one there in between, for each step begins at
   the folder that the last one has opened. */
static int open_parent(const struct server *server, const char *path, char *name) {
    int at = openat(server->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (path++; at >= 0; path = strchr(path, '/') + 1) {
        size_t len = strcspn(path, "/");
        if (len > 255) {
            close(at);
            return -ENAMETOOLONG;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        if (!path[len]) break;
        int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int e = errno;
        close(at);
        at = next;
        errno = e;
    }
    if (at >= 0 && !*name) memcpy(name, ".", 2);
    return at < 0 ? -errno : at;
}

/* An open file, or -errno. Non-blocking, so that a named pipe does not stop the server; what is
   neither file nor folder is refused. */
static int open_path(const struct server *server, const char *path, int flags, struct stat *info) {
    char name[256];
    int at = open_parent(server, path, name);
    if (at < 0) return at;
    int fd = openat(at, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    int e = fd < 0 ? -errno : 0;
    close(at);
    if (e == 0 && fstat(fd, info) < 0) e = -errno;
    if (e == 0 && !S_ISREG(info->st_mode) && !S_ISDIR(info->st_mode)) e = -EACCES;
    if (e < 0 && fd >= 0) close(fd);
    return e < 0 ? e : fd;
}

static int open_file(const struct server *server, const char *path, int flags, struct stat *info) {
    int fd = open_path(server, path, flags, info);
    if (fd >= 0 && !S_ISREG(info->st_mode)) {
        close(fd);
        return -EISDIR;
    }
    return fd;
}

/* ---- data connections ---- */

static const reactor_handler data_handler;

/* The part of an address before its port. */
static size_t host_length(const char *address) {
    const char *colon = strrchr(address, ':');
    return colon ? (size_t)(colon - address) : strlen(address);
}

static int is_same_host(const char *a, const char *b) {
    size_t len = host_length(a);
    return len == host_length(b) && memcmp(a, b, len) == 0;
}

static void close_files(struct session *s) {
    if (s->file >= 0) close(s->file);
    if (s->folder) closedir(s->folder);
    s->file = -1;
    s->folder = NULL;
}

/* No data connection, no way to one. */
static void forget_data(struct session *s) {
    reactor_conn data = s->data;
    s->data.id = 0;
    s->data_open = 0;
    s->active[0] = '\0';
    reactor_abort(s->server->r, data);
    reactor_listener_close(s->server->r, s->passive);
    s->passive.id = 0;
}

/* The transfer is over; what the client has sent meanwhile is offered again. */
static void end_transfer(struct session *s, const char *text) {
    if (s->transfer == NOTHING) return;
    close_files(s);
    s->transfer = NOTHING;
    s->rest = 0;
    reactor_cancel(s->server->r, s->waits);
    forget_data(s);
    reply(s, "%s", text);
    reactor_set_timeout(s->server->r, s->control, REACTOR_TIMEOUT_IDLE, s->server->idle_ms);
    if (s->ended)
        end_session(s);
    else
        reactor_resume(s->server->r, s->control);
}

/* The next entry of a folder as ls -l shows it. Left out are hidden ones, as ls does, and names that a
   line cannot hold. */
static int list_entry(const struct session *s, char *out, size_t size) {
    struct dirent *entry;
    struct stat info;
    struct tm when;
    char date[16];
    do {
        errno = 0;
        entry = readdir(s->folder);
        if (!entry) return errno ? -errno : 0;
    } while (entry->d_name[0] == '.' || strpbrk(entry->d_name, "\r\n"));
    if (s->transfer == NAMES) return snprintf(out, size, "%s\r\n", entry->d_name);
    if (fstatat(dirfd(s->folder), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return list_entry(s, out, size); /* gone meanwhile */
    int recent = time(NULL) - info.st_mtime < 180 * 24 * 3600;
    if (!gmtime_r(&info.st_mtime, &when)) memset(&when, 0, sizeof when);
    strftime(date, sizeof date, recent ? "%b %e %H:%M" : "%b %e  %Y", &when);
    return snprintf(out, size, "%c%s 1 ftp ftp %12lld %s %s\r\n",
                    S_ISDIR(info.st_mode)   ? 'd'
                    : S_ISLNK(info.st_mode) ? 'l'
                                            : '-',
                    info.st_mode & S_IXUSR ? "r-xr-xr-x" : "r--r--r--", (long long)info.st_size,
                    date, entry->d_name);
}

/* The next piece of a listing. 0: that was all. */
static int make_listing(const struct session *s, char *out) {
    size_t len = 0;
    while (len < PIECE_BYTES - 1024) {
        int n = list_entry(s, out + len, PIECE_BYTES - len);
        if (n <= 0) return n < 0 ? n : (int)len;
        len += (size_t)n;
    }
    return (int)len;
}

/* The next piece of a file with the line ends of the network. */
static int make_ascii(struct session *s, char *out) {
    char in[PIECE_BYTES / 2];
    ssize_t n = read(s->file, in, sizeof in);
    size_t len = 0;
    for (ssize_t i = 0; i < n; i++) {
        if (in[i] == '\n') out[len++] = '\r';
        out[len++] = in[i];
    }
    return n < 0 ? -errno : (int)len;
}

/* Writes until the client's high water, or to the end. */
static void produce(struct session *s) {
    reactor *r = s->server->r;
    char piece[PIECE_BYTES];
    int full = 0;
    while (full == 0) {
        int n = s->transfer == RETRIEVE ? make_ascii(s, piece) : make_listing(s, piece);
        if (n < 0) s->result = n;
        if (n <= 0) {
            if (n < 0)
                reactor_abort(r, s->data);
            else
                reactor_close(r, s->data);
            return;
        }
        full = reactor_write(r, s->data, piece, (size_t)n);
    }
    if (full < 0) reactor_abort(r, s->data);
}

/* There are a command and a connection. */
static void begin_transfer(struct session *s) {
    reactor *r = s->server->r;
    reactor_cancel(r, s->waits);
    s->began = 1;
    if (s->transfer == STORE) {
        reactor_resume(r, s->data);
        return;
    }
    if (s->transfer != RETRIEVE || !s->binary) {
        produce(s);
        return;
    }
    int e = reactor_sendfile(r, s->data, s->file, s->rest, -1, REACTOR_CLOSE_FILE, NULL, NULL);
    if (e >= 0) s->file = -1;
    if (e < 0)
        reactor_abort(r, s->data);
    else
        reactor_close(r, s->data);
}

static void on_data_open(reactor *r, reactor_conn c, void *state) {
    struct session *s = reactor_user(r, c);
    char client[REACTOR_ADDRESS_MAX], peer[REACTOR_ADDRESS_MAX];
    (void)state;
    if (s->data.id != c.id) { /* by the listener; a second one, or somebody else's, is not wanted */
        if (s->data.id || reactor_peer_address(r, s->control, client, sizeof client) < 0 ||
            reactor_peer_address(r, c, peer, sizeof peer) < 0 || !is_same_host(client, peer)) {
            reactor_abort(r, c);
            return;
        }
        s->data = c;
        reactor_listener_close(r, s->passive);
        s->passive.id = 0;
    }
    s->data_open = 1;
    reactor_pause(r, c); /* until it is said what for */
    if (s->transfer != NOTHING) begin_transfer(s);
}

static int write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Without the CR of each CR LF, also where they come in two pieces. */
static int write_ascii(struct session *s, const char *data, size_t len) {
    char out[PIECE_BYTES + 1];
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s->after_cr && data[i] != '\n') out[n++] = '\r';
        s->after_cr = data[i] == '\r';
        if (!s->after_cr) out[n++] = data[i];
    }
    return write_all(s->file, out, n);
}

static size_t on_data_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    struct session *s = reactor_user(r, c);
    (void)state;
    if (s->transfer != STORE) return len; /* the client has nothing to say here */
    if (!s->binary && len > PIECE_BYTES / 2) len = PIECE_BYTES / 2;
    int e = s->binary ? write_all(s->file, data, len) : write_ascii(s, data, len);
    if (e < 0) {
        s->result = e;
        reactor_abort(r, c);
    }
    return len;
}

static void on_data_eof(reactor *r, reactor_conn c, void *state) {
    struct session *s = reactor_user(r, c);
    (void)state;
    if (s->transfer != STORE) return;
    if (s->after_cr) s->result = write_all(s->file, "\r", 1);
    if (close(s->file) < 0) s->result = -errno; /* a quota may be told as late as this */
    s->file = -1;
    reactor_close(r, c);
}

static void on_data_writable(reactor *r, reactor_conn c, void *state) {
    struct session *s = reactor_user(r, c);
    (void)state;
    if (s->began && s->transfer != STORE && (s->file >= 0 || s->folder)) produce(s);
}

static void on_data_close(reactor *r, reactor_conn c, int reason, void *state) {
    struct session *s = reactor_user(r, c);
    (void)r, (void)state;
    if (s->data.id != c.id) return; /* not the session's any more */
    s->data.id = 0;
    s->data_open = 0;
    if (s->transfer == NOTHING) return;
    if (!s->began) {
        end_transfer(s, "425 Cannot open the data connection.");
    } else if (s->result < 0) {
        int e = s->result;
        end_transfer(s, e == -ENOSPC || e == -EDQUOT ? "452 No space left." : "451 File error.");
    } else {
        end_transfer(s, reason == 0 ? "226 Done." : "426 The data connection broke.");
    }
}

static const reactor_handler data_handler = {0,    on_data_open,     on_data_data, on_data_eof,
                                             NULL, on_data_writable, NULL,         on_data_close};

static void on_no_data(reactor *r, reactor_timer t, void *user) {
    (void)r, (void)t;
    end_transfer(user, "425 No data connection came.");
}

static int data_is_coming(const struct session *s) {
    return s->data.id || s->passive.id || s->active[0];
}

/* Connects to the client, whose address was checked by PORT or EPRT. */
static int connect_data(struct session *s) {
    char local[REACTOR_ADDRESS_MAX];
    reactor_connect_options options = {0};
    int n = reactor_local_address(s->server->r, s->control, local, sizeof local);
    if (n < 0) return n;
    memcpy(local + host_length(local), ":0", 3);
    options.local = local;
    options.timeout_ms = DATA_MS;
    options.conn.user = s;
    options.conn.idle_timeout_ms = DATA_MS;
    return reactor_connect(s->server->r, s->active, &data_handler, &options, &s->data);
}

/* The command is good: its transfer begins when there is a data connection. */
static void start_transfer(struct session *s, enum transfer what, const char *text) {
    reactor *r = s->server->r;
    s->transfer = what;
    s->began = s->result = s->after_cr = 0;
    reactor_set_timeout(r, s->control, REACTOR_TIMEOUT_IDLE, 0); /* the data connection has one */
    reply(s, "150 %s", text);
    int e = reactor_after(r, DATA_MS, on_no_data, s, &s->waits);
    if (e == 0 && s->active[0]) e = connect_data(s);
    if (e < 0)
        end_transfer(s, "425 Cannot open the data connection.");
    else if (s->data_open)
        begin_transfer(s);
}

/* ---- commands ---- */

static void do_user(struct session *s, const char *argument) {
    snprintf(s->user, sizeof s->user, "%s", argument);
    s->logged_in = s->may_write = 0;
    reply(s, "331 Password, please.");
}

/* Takes equally long wherever the first difference is. */
static int is_password(const struct session *s, const char *given) {
    const char *right = s->server->password;
    size_t len = strlen(right), differs = strlen(given) ^ len;
    for (size_t i = 0; i < len; i++) differs |= (size_t)(right[i] ^ given[differs ? 0 : i]);
    return differs == 0;
}

static void do_pass(struct session *s, const char *argument) {
    const struct server *server = s->server;
    int anonymous = strcasecmp(s->user, "anonymous") == 0 || strcasecmp(s->user, "ftp") == 0;
    int writer = server->writer && strcmp(s->user, server->writer) == 0 && is_password(s, argument);
    if (!s->user[0]) {
        reply(s, "503 USER first.");
    } else if (anonymous || writer) {
        s->logged_in = 1;
        s->may_write = writer;
        reply(s, "230 %s.", writer ? "Logged in" : "Logged in, to read");
    } else {
        reply(s, "530 Wrong name or password.");
        if (++s->tries >= LOGIN_TRIES) end_session(s);
    }
}

static void do_syst(struct session *s, const char *argument) {
    (void)argument;
    reply(s, "215 UNIX Type: L8");
}

static void do_feat(struct session *s, const char *argument) {
    static const char text[] =
        "211-Features:\r\n EPRT\r\n EPSV\r\n MDTM\r\n REST STREAM\r\n SIZE\r\n"
        " TVFS\r\n UTF8\r\n211 End\r\n";
    (void)argument;
    send_text(s, text, sizeof text - 1);
}

static void do_opts(struct session *s, const char *argument) {
    if (strcasecmp(argument, "UTF8 ON") == 0)
        reply(s, "200 It is.");
    else
        reply(s, "501 No such option.");
}

static void do_noop(struct session *s, const char *argument) {
    (void)argument;
    reply(s, "200 Fine.");
}

static void do_allo(struct session *s, const char *argument) {
    (void)argument;
    reply(s, "202 Not needed.");
}

/* In a reply's path a quote is doubled. */
static void reply_path(struct session *s, const char *code, const char *path, const char *more) {
    char quoted[2 * PATH_BYTES];
    size_t n = 0;
    for (; *path && n < sizeof quoted - 2; path++) {
        if (*path == '"') quoted[n++] = '"';
        quoted[n++] = *path;
    }
    quoted[n] = '\0';
    reply(s, "%s \"%s\"%s", code, quoted, more);
}

static void do_pwd(struct session *s, const char *argument) {
    (void)argument;
    reply_path(s, "257", s->cwd, " is the current folder.");
}

static void do_cwd(struct session *s, const char *argument) {
    char path[PATH_BYTES];
    struct stat info;
    int e = resolve(s, argument, path);
    if (e == 0) e = open_path(s->server, path, O_RDONLY | O_DIRECTORY, &info);
    if (e < 0) {
        reply_errno(s, -e);
        return;
    }
    close(e);
    memcpy(s->cwd, path, sizeof path);
    reply_path(s, "250", s->cwd, " is the current folder.");
}

static void do_cdup(struct session *s, const char *argument) {
    (void)argument;
    do_cwd(s, "..");
}

static void do_type(struct session *s, const char *argument) {
    int binary = strcasecmp(argument, "I") == 0 || strcasecmp(argument, "L 8") == 0;
    int ascii = strcasecmp(argument, "A") == 0 || strcasecmp(argument, "A N") == 0;
    if (binary || ascii) s->binary = binary;
    reply(s, binary ? "200 Type is I." : ascii ? "200 Type is A." : "504 Types are A and I.");
}

static void do_mode(struct session *s, const char *argument) {
    reply(s, strcasecmp(argument, "S") == 0 ? "200 Mode is S." : "504 There is mode S only.");
}

static void do_stru(struct session *s, const char *argument) {
    reply(s, strcasecmp(argument, "F") == 0 ? "200 Structure is F."
                                            : "504 There is structure F only.");
}

/* Listens where the control connection is, for one data connection of this session. */
static int listen_data(struct session *s, char *address, size_t size) {
    reactor *r = s->server->r;
    reactor_listen_options options = {0};
    forget_data(s);
    options.conn.user = s;
    options.conn.idle_timeout_ms = DATA_MS;
    options.max_connections = 1;
    int e = reactor_local_address(r, s->control, address, size);
    if (e < 0) return e;
    memcpy(address + host_length(address), ":0", 3);
    e = reactor_listen(r, address, &data_handler, &options, &s->passive);
    return e < 0 ? e : reactor_listener_address(r, s->passive, address, size);
}

static void do_pasv(struct session *s, const char *argument) {
    char address[REACTOR_ADDRESS_MAX];
    unsigned h[4], port;
    (void)argument;
    if (s->only_epsv) {
        reply(s, "501 EPSV ALL was said.");
    } else if (listen_data(s, address, sizeof address) < 0) {
        reply(s, "425 Cannot listen.");
    } else if (sscanf(address, "%u.%u.%u.%u:%u", &h[0], &h[1], &h[2], &h[3], &port) != 5) {
        forget_data(s);
        reply(s, "522 Not over IPv6: use EPSV.");
    } else {
        reply(s, "227 Entering passive mode (%u,%u,%u,%u,%u,%u).", h[0], h[1], h[2], h[3],
              port / 256, port % 256);
    }
}

static void do_epsv(struct session *s, const char *argument) {
    char address[REACTOR_ADDRESS_MAX];
    if (strcasecmp(argument, "ALL") == 0) {
        s->only_epsv = 1;
        reply(s, "200 Fine.");
    } else if (listen_data(s, address, sizeof address) < 0) {
        reply(s, "425 Cannot listen.");
    } else {
        reply(s, "229 Entering extended passive mode (|||%s|)", strrchr(address, ':') + 1);
    }
}

/* Only the client itself, and no port that a service of its machine may have. */
static void take_active(struct session *s, const char *address, unsigned port) {
    char client[REACTOR_ADDRESS_MAX];
    forget_data(s);
    if (port < 1024 || port > 65535 ||
        reactor_peer_address(s->server->r, s->control, client, sizeof client) < 0 ||
        !is_same_host(client, address)) {
        reply(s, "500 That is not where you are.");
        return;
    }
    snprintf(s->active, sizeof s->active, "%s", address);
    reply(s, "200 Fine.");
}

static void do_port(struct session *s, const char *argument) {
    char address[64], end;
    unsigned n[6];
    int numbers = sscanf(argument, "%3u,%3u,%3u,%3u,%3u,%3u%c", &n[0], &n[1], &n[2], &n[3], &n[4],
                         &n[5], &end);
    if (s->only_epsv || numbers != 6 || n[4] > 255 || n[5] > 255) {
        reply(s, "501 Not understood.");
        return;
    }
    snprintf(address, sizeof address, "%u.%u.%u.%u:%u", n[0], n[1], n[2], n[3], n[4] * 256 + n[5]);
    take_active(s, address, n[4] * 256 + n[5]);
}

static void do_eprt(struct session *s, const char *argument) {
    char bar, host[64], address[80];
    unsigned family, port;
    if (s->only_epsv ||
        sscanf(argument, "%c%1u%*c%63[0-9a-fA-F:.]%*c%5u", &bar, &family, host, &port) != 4) {
        reply(s, "501 Not understood.");
    } else if (family != 1 && family != 2) {
        reply(s, "522 Families are (1,2).");
    } else {
        snprintf(address, sizeof address, family == 1 ? "%s:%u" : "[%s]:%u", host, port);
        take_active(s, address, port);
    }
}

/* Refuses a transfer for which no data connection was asked. */
static int may_transfer(struct session *s) {
    if (!data_is_coming(s)) reply(s, "425 PASV, EPSV, PORT or EPRT first.");
    return data_is_coming(s);
}

static void list(struct session *s, const char *argument, enum transfer what) {
    char path[PATH_BYTES];
    struct stat info;
    if (argument[0] == '-') argument += strcspn(argument, " "); /* options of ls */
    argument += strspn(argument, " ");
    if (!may_transfer(s)) return;
    int e = resolve(s, argument, path);
    int fd = e < 0 ? e : open_path(s->server, path, O_RDONLY | O_DIRECTORY, &info);
    if (fd >= 0 && !(s->folder = fdopendir(fd))) {
        close(fd);
        fd = -ENOMEM;
    }
    if (fd < 0)
        reply_errno(s, -fd);
    else
        start_transfer(s, what, "Here it comes.");
}

static void do_list(struct session *s, const char *argument) { list(s, argument, LIST); }
static void do_nlst(struct session *s, const char *argument) { list(s, argument, NAMES); }

static int stat_path(const struct session *s, const char *argument, struct stat *info) {
    char path[PATH_BYTES];
    int e = resolve(s, argument, path);
    int fd = e < 0 ? e : open_file(s->server, path, O_RDONLY, info);
    if (fd >= 0) close(fd);
    return fd < 0 ? fd : 0;
}

static void do_size(struct session *s, const char *argument) {
    struct stat info;
    int e = stat_path(s, argument, &info);
    if (e < 0)
        reply_errno(s, -e);
    else if (!s->binary)
        reply(s, "550 Known for TYPE I only.");
    else
        reply(s, "213 %lld", (long long)info.st_size);
}

static void do_mdtm(struct session *s, const char *argument) {
    struct stat info;
    struct tm when;
    char text[32];
    int e = stat_path(s, argument, &info);
    if (e < 0 || !gmtime_r(&info.st_mtime, &when)) {
        reply_errno(s, e < 0 ? -e : ERANGE);
        return;
    }
    strftime(text, sizeof text, "%Y%m%d%H%M%S", &when);
    reply(s, "213 %s", text);
}

static void do_rest(struct session *s, const char *argument) {
    char *end;
    errno = 0;
    long long at = strtoll(argument, &end, 10);
    if (*argument < '0' || *argument > '9' || *end || errno) {
        reply(s, "501 Not a number.");
    } else if (!s->binary && at > 0) {
        reply(s, "504 With TYPE I only."); /* an offset in text is nobody's */
    } else {
        s->rest = at;
        reply(s, "350 Begins at %lld.", at);
    }
}

static void do_retr(struct session *s, const char *argument) {
    char path[PATH_BYTES];
    struct stat info;
    if (!may_transfer(s)) return;
    int e = resolve(s, argument, path);
    int fd = e < 0 ? e : open_file(s->server, path, O_RDONLY, &info);
    if (fd >= 0 && s->rest > info.st_size) {
        close(fd);
        fd = -EINVAL;
    }
    if (fd < 0) {
        reply_errno(s, -fd);
        return;
    }
    s->file = fd;
    start_transfer(s, RETRIEVE, "Here it comes.");
}

static void store(struct session *s, const char *argument, int append) {
    char path[PATH_BYTES];
    struct stat info;
    int flags = O_WRONLY | O_CREAT | (append ? O_APPEND : s->rest ? 0 : O_TRUNC);
    if (!may_transfer(s)) return;
    int e = resolve(s, argument, path);
    int fd = e < 0 ? e : open_file(s->server, path, flags, &info);
    if (fd >= 0 && !append && (s->rest > info.st_size || lseek(fd, s->rest, SEEK_SET) < 0)) {
        close(fd);
        fd = -EINVAL;
    }
    if (fd < 0) {
        reply_errno(s, -fd);
        return;
    }
    s->file = fd;
    start_transfer(s, STORE, "Send it.");
}

static void do_stor(struct session *s, const char *argument) { store(s, argument, 0); }
static void do_appe(struct session *s, const char *argument) { store(s, argument, 1); }

/* What changes one name: 0, or -errno. */
static int remove_file(int at, const char *name) { return unlinkat(at, name, 0) < 0 ? -errno : 0; }
static int remove_folder(int at, const char *name) {
    return unlinkat(at, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}
static int make_folder(int at, const char *name) {
    return mkdirat(at, name, 0777) < 0 ? -errno : 0;
}
static int look_up(int at, const char *name) {
    struct stat info;
    return fstatat(at, name, &info, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int change(const struct session *s, const char *argument, char *path,
                  int (*how)(int at, const char *name)) {
    char name[256];
    int e = resolve(s, argument, path);
    int at = e < 0 ? e : open_parent(s->server, path, name);
    if (at < 0) return at;
    e = how(at, name);
    close(at);
    return e;
}

static void reply_change(struct session *s, int e) {
    if (e < 0)
        reply_errno(s, -e);
    else
        reply(s, "250 Done.");
}

static void do_dele(struct session *s, const char *argument) {
    char path[PATH_BYTES];
    reply_change(s, change(s, argument, path, remove_file));
}

static void do_rmd(struct session *s, const char *argument) {
    char path[PATH_BYTES];
    reply_change(s, change(s, argument, path, remove_folder));
}

static void do_mkd(struct session *s, const char *argument) {
    char path[PATH_BYTES];
    int e = change(s, argument, path, make_folder);
    if (e < 0)
        reply_errno(s, -e);
    else
        reply_path(s, "257", path, " is there.");
}

static void do_rnfr(struct session *s, const char *argument) {
    int e = change(s, argument, s->from, look_up);
    if (e < 0) {
        s->from[0] = '\0';
        reply_errno(s, -e);
    } else {
        reply(s, "350 To which name?");
    }
}

static void do_rnto(struct session *s, const char *argument) {
    char path[PATH_BYTES], old[256], new[256];
    if (!s->from[0]) {
        reply(s, "503 RNFR first.");
        return;
    }
    int e = resolve(s, argument, path);
    int to = e < 0 ? e : open_parent(s->server, path, new);
    int from = to < 0 ? to : open_parent(s->server, s->from, old);
    e = from < 0 ? from : renameat(from, old, to, new) < 0 ? -errno : 0;
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    s->from[0] = '\0';
    reply_change(s, e);
}

static void do_abor(struct session *s, const char *argument) {
    (void)argument;
    end_transfer(s, "426 Given up.");
    forget_data(s);
    reply(s, "226 Nothing is under way.");
}

static void do_quit(struct session *s, const char *argument) {
    (void)argument;
    reply(s, "221 Goodbye.");
    end_session(s);
}

enum { NEEDS_LOGIN = 1, NEEDS_WRITER = 2, NEEDS_ARGUMENT = 4 };

static const struct command {
    const char *name;
    void (*run)(struct session *s, const char *argument);
    int needs;
} commands[] = {
    {"USER", do_user, NEEDS_ARGUMENT},
    {"PASS", do_pass, 0},
    {"SYST", do_syst, 0},
    {"FEAT", do_feat, 0},
    {"OPTS", do_opts, NEEDS_ARGUMENT},
    {"NOOP", do_noop, 0},
    {"QUIT", do_quit, 0},
    {"ABOR", do_abor, 0},
    {"ALLO", do_allo, NEEDS_LOGIN},
    {"PWD", do_pwd, NEEDS_LOGIN},
    {"XPWD", do_pwd, NEEDS_LOGIN},
    {"CWD", do_cwd, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"CDUP", do_cdup, NEEDS_LOGIN},
    {"TYPE", do_type, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"MODE", do_mode, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"STRU", do_stru, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"PASV", do_pasv, NEEDS_LOGIN},
    {"EPSV", do_epsv, NEEDS_LOGIN},
    {"PORT", do_port, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"EPRT", do_eprt, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"LIST", do_list, NEEDS_LOGIN},
    {"NLST", do_nlst, NEEDS_LOGIN},
    {"SIZE", do_size, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"MDTM", do_mdtm, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"REST", do_rest, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"RETR", do_retr, NEEDS_LOGIN | NEEDS_ARGUMENT},
    {"STOR", do_stor, NEEDS_LOGIN | NEEDS_WRITER | NEEDS_ARGUMENT},
    {"APPE", do_appe, NEEDS_LOGIN | NEEDS_WRITER | NEEDS_ARGUMENT},
    {"DELE", do_dele, NEEDS_LOGIN | NEEDS_WRITER | NEEDS_ARGUMENT},
    {"MKD", do_mkd, NEEDS_LOGIN | NEEDS_WRITER | NEEDS_ARGUMENT},
    {"RMD", do_rmd, NEEDS_LOGIN | NEEDS_WRITER | NEEDS_ARGUMENT},
    {"RNFR", do_rnfr, NEEDS_LOGIN | NEEDS_WRITER | NEEDS_ARGUMENT},
    {"RNTO", do_rnto, NEEDS_LOGIN | NEEDS_WRITER | NEEDS_ARGUMENT},
};

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcasecmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static void run_command(struct session *s, char *line) {
    char *argument = line + strcspn(line, " ");
    if (*argument) *argument++ = '\0';
    const struct command *command = find_command(line);
    if (!command)
        reply(s, "502 No such command.");
    else if ((command->needs & NEEDS_LOGIN) && !s->logged_in)
        reply(s, "530 USER and PASS first.");
    else if ((command->needs & NEEDS_WRITER) && !s->may_write)
        reply(s, "550 You may read only.");
    else if ((command->needs & NEEDS_ARGUMENT) && !*argument)
        reply(s, "501 Of what?");
    else
        command->run(s, argument);
}

/* ---- control connections ---- */

/* Telnet's interrupt, which clients send before ABOR (RFC 959, 4.1.3), is no part of a line. */
static size_t skip_telnet(const char *data, size_t len) {
    size_t n = 0;
    while (n + 1 < len && (unsigned char)data[n] == 255) n += 2;
    return n;
}

/* One line at a time. While a transfer runs all but ABOR wait; the end of the transfer has them
   offered again. */
static size_t on_line(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    struct session *s = *(struct session **)state;
    size_t skipped = skip_telnet(data, len);
    const char *text = (const char *)data + skipped, *end = memchr(text, '\n', len - skipped);
    char line[LINE_BYTES];
    if (!end && len < LINE_BYTES) return 0;
    size_t n = end ? (size_t)(end - text) : len;
    if (n >= LINE_BYTES) {
        reply(s, "500 Too long.");
        reactor_close(r, c);
        return len;
    }
    memcpy(line, text, n);
    line[n > 0 && line[n - 1] == '\r' ? n - 1 : n] = '\0';
    if (s->transfer != NOTHING && strcasecmp(line, "ABOR") != 0) return 0;
    if (memchr(line, '\0', n - (n > 0 && text[n - 1] == '\r')))
        reply(s, "501 Not understood.");
    else
        run_command(s, line);
    return skipped + n + 1;
}

static void on_open(reactor *r, reactor_conn c, void *state) {
    struct server *server = reactor_user(r, c);
    struct session *s = server->free;
    int on = 1;
    if (!s) { /* max_connections counts those, too, of which only the socket is left */
        static const char full[] = "421 Too many are here.\r\n";
        reactor_write(r, c, full, sizeof full - 1);
        reactor_close(r, c);
        return;
    }
    server->free = s->next_free;
    memset(s, 0, sizeof *s);
    s->server = server;
    s->control = c;
    /* Clients send the last byte of ABOR as urgent data, and it belongs into the line. */
    setsockopt(reactor_conn_socket(r, c), SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    s->file = -1;
    s->cwd[0] = '/';
    *(struct session **)state = s;
    reply(s, "220 Hello.");
}

/* Replies that are still on their way reach a client that has only finished sending; a transfer that
   it has asked for is done before. */
static void on_eof(reactor *r, reactor_conn c, void *state) {
    struct session *s = *(struct session **)state;
    if (!s || s->transfer == NOTHING)
        reactor_close(r, c);
    else
        s->ended = 1;
}

static int on_drain(reactor *r, reactor_conn c, void *state) {
    struct session *s = *(struct session **)state;
    (void)r, (void)c;
    return s && s->transfer != NOTHING;
}

static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
    struct session *s = *(struct session **)state;
    (void)r, (void)c, (void)reason;
    if (!s) return;
    close_files(s);
    s->transfer = NOTHING;
    reactor_cancel(r, s->waits);
    forget_data(s);
    s->control.id = 0;
    s->next_free = s->server->free;
    s->server->free = s;
}

static const reactor_handler control_handler = {
    sizeof(struct session *), on_open, on_line, on_eof, on_drain, NULL, NULL, on_close};

/* ---- the program ---- */

static void on_signal(reactor *r, int signum, void *user) {
    (void)signum, (void)user;
    reactor_drain(r, DRAIN_MS);
}

static int bad_usage(const char *what, const char *value) {
    fprintf(stderr, "ftp_server: %s %s\n%s", what, value, usage);
    return 2;
}

static int fail(struct server *server, const char *what, int error) {
    fprintf(stderr, "ftp_server: %s: %s\n", what, reactor_strerror(error));
    reactor_destroy(server->r);
    free(server->sessions);
    return 1;
}

static int number(const char *text, long max, long *out) {
    char *end;
    if (!text || *text < '0' || *text > '9') return -1;
    errno = 0;
    *out = strtol(text, &end, 10);
    return errno || *end || *out > max ? -1 : 0;
}

static int serve(struct server *server, const char *host, long port, long count,
                 const reactor_options *options) {
    char address[REACTOR_ADDRESS_MAX + 32];
    reactor_listen_options listen = {0};
    reactor_listener listener;
    server->sessions = calloc((size_t)count, sizeof *server->sessions);
    if (!server->sessions) return fail(server, "cannot start", -ENOMEM);
    for (long i = count - 1; i >= 0; i--) {
        server->sessions[i].next_free = server->free;
        server->free = &server->sessions[i];
    }
    int e = reactor_create(&server->r, options);
    if (e == -ENOTSUP) return bad_usage("no such backend:", options->backend);
    if (e < 0) return fail(server, "cannot start", e);
    listen.conn.user = server;
    listen.conn.max_input = 2 * LINE_BYTES;
    listen.conn.idle_timeout_ms = server->idle_ms;
    listen.max_connections = (int)count;
    snprintf(address, sizeof address,
             strchr(host, ':') && *host != '[' ? "[%.128s]:%ld" : "%.128s:%ld", host, port);
    e = reactor_listen(server->r, address, &control_handler, &listen, &listener);
    if (e < 0) return fail(server, address, e);
    if ((e = reactor_signal(server->r, SIGTERM, on_signal, NULL)) < 0 ||
        (e = reactor_signal(server->r, SIGINT, on_signal, NULL)) < 0)
        return fail(server, "signals", e);
    reactor_listener_address(server->r, listener, address, sizeof address);
    printf("listening on %s\n", address);
    fflush(stdout);
    e = reactor_run(server->r);
    if (e < 0) return fail(server, "stopped", e);
    reactor_destroy(server->r);
    free(server->sessions);
    return 0;
}

int main(int argc, char **argv) {
    static struct server server;
    const char *host = "127.0.0.1", *root = ".";
    long port = 2121, idle = 300, count = 200;
    reactor_options options = {0};
    for (int i = 1; i < argc; i += 2) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(flag, "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        int known = 1, bad = value == NULL;
        if (strcmp(flag, "--root") == 0)
            root = value;
        else if (strcmp(flag, "--host") == 0)
            host = value;
        else if (strcmp(flag, "--port") == 0)
            bad |= number(value, 65535, &port) < 0;
        else if (strcmp(flag, "--writer") == 0)
            server.writer = value;
        else if (strcmp(flag, "--max-sessions") == 0)
            bad |= number(value, 100000, &count) < 0 || count < 1;
        else if (strcmp(flag, "--idle-timeout") == 0)
            bad |= number(value, 1000000, &idle) < 0;
        else if (strcmp(flag, "--backend") == 0)
            options.backend = value;
        else
            known = 0;
        if (!known) return bad_usage("unknown option", flag);
        if (bad) return bad_usage("no good value for", flag);
    }
    server.password = getenv("FTP_PASSWORD");
    if (server.writer && (!server.password || !*server.password))
        return bad_usage("no FTP_PASSWORD for", server.writer);
    server.idle_ms = idle * 1000;
    server.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (server.root < 0) return fail(&server, root, -errno);
    signal(SIGPIPE, SIG_IGN);
    int status = serve(&server, host, port, count, &options);
    close(server.root);
    return status;
}
