/* A DNS server for tests, and a place where it is the one that is asked: a network and a view of
   files of this process's own (Linux namespaces), with the loopback up, 127.0.0.1 in resolv.conf, and
   a hosts file. The server is a thread that answers as its table says: late, twice, never, with an
   error, or over TCP alone. What it has been asked is counted. */
#ifndef DNS_HELP_H
#define DNS_HELP_H

#include "stream_help.h"

#ifdef __linux__
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>

enum { DNS_A = 1, DNS_AAAA = 28 };
enum { DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5 };
enum { DNS_NEVER = -1, DNS_GATE = -2 }; /* delays: not at all; while dns.gate is 0 */

/* What is known of a name. Addresses are separated by spaces. */
typedef struct dns_entry {
    const char *name, *a, *aaaa; /* NULL: none */
    int delay_a, delay_aaaa;     /* milliseconds, or NEVER, GATE */
    int code;                    /* an error instead of an answer */
    int truncated;               /* over UDP: ask again by TCP */
} dns_entry;

typedef struct dns_question {
    unsigned char packet[512];
    size_t len;
    int stream; /* a TCP connection that it came by, else -1 */
    struct sockaddr_in from;
    const dns_entry *entry;
    int type;
    int64_t due;
} dns_question;

/* In memory that forked children share, so that they see what the server has been asked. */
static struct dns_server {
    const dns_entry *table;
    int udp, tcp, quit[2];
    pthread_t thread;
    volatile int gate;                /* atomic */
    volatile int asked_a, asked_aaaa; /* atomic: questions, repeated ones too */
    volatile int answered;
    volatile int streams; /* asked over TCP */
    dns_question waiting[256];
    int count;
} * dns_shared;
#define dns (*dns_shared)

/* ---- the place ---- */

static int write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (!f) return -1;
    int ok = fputs(text, f) >= 0;
    return fclose(f) == 0 && ok ? 0 : -1;
}

static int cover(const char *path, const char *text) {
    char mine[] = "/tmp/reactor-test-XXXXXX";
    int fd = mkstemp(mine);
    if (fd < 0) return -1;
    close(fd);
    fchmod(fd, 0644);
    int e = write_file(mine, text);
    if (e == 0) e = mount(mine, path, NULL, MS_BIND, NULL);
    unlink(mine);
    return e;
}

static int loopback_up(void) {
    struct ifreq i;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(&i, 0, sizeof i);
    memcpy(i.ifr_name, "lo", 3);
    int e = ioctl(fd, SIOCGIFFLAGS, &i);
    i.ifr_flags |= IFF_UP;
    if (e == 0) e = ioctl(fd, SIOCSIFFLAGS, &i);
    close(fd);
    return e;
}

/* Gives the loopback another address; 0 if it has it. */
static int loopback_has(const char *text) {
    struct {
        struct in6_addr address;
        uint32_t bits;
        int index;
    } a;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(&a, 0, sizeof a);
    inet_pton(AF_INET6, text, &a.address);
    a.bits = 128;
    a.index = (int)if_nametoindex("lo");
    int e = fd < 0 ? -1 : ioctl(fd, SIOCSIFADDR, &a);
    if (e < 0 && errno == EEXIST) e = 0;
    if (fd >= 0) close(fd);
    return e;
}

/* As root in the namespaces that it makes, for mount and port 53. */
static int become_root(void) {
    char map[64];
    const unsigned uid = (unsigned)geteuid(), gid = (unsigned)getegid();
    if (unshare(CLONE_NEWUSER) < 0) return -1;
    (void)write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", uid);
    if (write_file("/proc/self/uid_map", map) < 0) return -1;
    snprintf(map, sizeof map, "0 %u 1", gid);
    return write_file("/proc/self/gid_map", map);
}

/* Before there is any thread. NULL, or why there can be no such place. */
static const char *dns_place(void) {
    if (emulated()) return "qemu-user has no namespaces of its own";
    if (geteuid() != 0 && become_root() < 0) return "user namespaces are not permitted";
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) return "namespaces are not permitted";
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        cover("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:2\n") < 0 ||
        cover("/etc/hosts", "127.0.0.1 localhost\n127.0.0.9 hosted.test\n") < 0)
        return "files in /etc cannot be covered";
    (void)cover("/etc/nsswitch.conf", "hosts: files dns\n"); /* musl has none */
    return loopback_up() < 0 ? "the loopback cannot be brought up" : NULL;
}

/* ---- the server ---- */

static size_t dns_put(unsigned char *out, size_t at, unsigned value, int bytes) {
    while (bytes-- > 0) out[at++] = (unsigned char)(value >> (8 * bytes));
    return at;
}

/* One address record, its name being a pointer to the question's. */
static size_t dns_record(unsigned char *out, size_t at, int type, const char *text, size_t n) {
    char one[64];
    snprintf(one, sizeof one, "%.*s", (int)n, text);
    const int bytes = type == DNS_A ? 4 : 16;
    at = dns_put(out, at, 0xc00c, 2);
    at = dns_put(out, at, (unsigned)type, 2);
    at = dns_put(out, at, 1, 2);  /* IN */
    at = dns_put(out, at, 60, 4); /* seconds to keep it */
    at = dns_put(out, at, (unsigned)bytes, 2);
    assert_int_equal(inet_pton(type == DNS_A ? AF_INET : AF_INET6, one, out + at), 1);
    return at + (size_t)bytes;
}

static void dns_answer(const dns_question *q) {
    unsigned char out[8192];
    const dns_entry *e = q->entry;
    const char *list = !e || e->code         ? NULL
                       : q->type == DNS_A    ? e->a
                       : q->type == DNS_AAAA ? e->aaaa
                                             : NULL;
    unsigned n = 0, code = !e ? DNS_NXDOMAIN : (unsigned)e->code;
    size_t at = 2 + q->len;
    const int cut = list && e->truncated && q->stream < 0;
    memcpy(out + 2, q->packet, q->len);
    for (; list && *list && !cut; list += strspn(list, " "), n++) {
        size_t len = strcspn(list, " ");
        at = dns_record(out, at, q->type, list, len);
        list += len;
    }
    dns_put(out, 4, 0x8180u | code | (cut ? 0x0200u : 0), 2);
    dns_put(out, 8, n, 2);
    dns_put(out, 10, 0, 4); /* nothing else, such as EDNS's */
    dns_put(out, 0, (unsigned)(at - 2), 2);
    if (q->stream >= 0)
        (void)!send(q->stream, out, at, MSG_NOSIGNAL);
    else
        (void)!sendto(dns.udp, out + 2, at - 2, 0, (const struct sockaddr *)&q->from,
                      sizeof q->from);
    __atomic_add_fetch(&dns.answered, 1, __ATOMIC_SEQ_CST);
}

/* Reads the question: who is asked for, and what. */
static void dns_read(dns_question *q) {
    char name[256] = "";
    size_t at = 12, n = 0;
    while (at < q->len && q->packet[at]) {
        size_t len = q->packet[at++];
        for (size_t i = 0; i < len && at < q->len && n < sizeof name - 2; i++)
            name[n++] = (char)q->packet[at++];
        name[n++] = '.';
    }
    if (n) name[n - 1] = 0;
    q->type = at + 2 < q->len ? q->packet[at + 2] : 0;
    q->len = at + 5; /* what follows the question is not sent back */
    for (q->entry = dns.table; q->entry && q->entry->name; q->entry++)
        if (strcasecmp(q->entry->name, name) == 0) break;
    if (q->entry && !q->entry->name) q->entry = NULL;
    int delay = !q->entry ? 0 : q->type == DNS_A ? q->entry->delay_a : q->entry->delay_aaaa;
    q->due = delay < 0 ? delay : clock_ns() + delay * INT64_C(1000000);
    __atomic_add_fetch(q->type == DNS_A ? &dns.asked_a : &dns.asked_aaaa, 1, __ATOMIC_SEQ_CST);
}

static void dns_take(dns_question *q) {
    dns_read(q);
    if (q->due != DNS_NEVER && dns.count < (int)COUNT(dns.waiting)) dns.waiting[dns.count++] = *q;
}

static void dns_take_datagram(void) {
    dns_question q;
    memset(&q, 0, sizeof q);
    socklen_t len = sizeof q.from;
    ssize_t n = recvfrom(dns.udp, q.packet, sizeof q.packet, 0, (struct sockaddr *)&q.from, &len);
    q.len = n < 17 ? 0 : (size_t)n;
    q.stream = -1;
    if (q.len) dns_take(&q);
}

/* A connection has its questions one after the other, each with its length in front; it is read
   here until it ends. */
static void dns_take_stream(void) {
    int fd = accept(dns.tcp, NULL, NULL);
    unsigned char head[2];
    while (fd >= 0 && recv(fd, head, 2, MSG_WAITALL) == 2) {
        dns_question q;
        memset(&q, 0, sizeof q);
        q.len = (size_t)head[0] << 8 | head[1];
        q.stream = fd;
        if (q.len < 17 || q.len > sizeof q.packet) break;
        if (recv(fd, q.packet, q.len, MSG_WAITALL) != (ssize_t)q.len) break;
        __atomic_add_fetch(&dns.streams, 1, __ATOMIC_SEQ_CST);
        dns_read(&q);
        dns_answer(&q);
    }
    if (fd >= 0) close(fd);
}

static void *dns_run(void *unused) {
    struct pollfd p[3] = {{dns.udp, POLLIN, 0}, {dns.tcp, POLLIN, 0}, {dns.quit[0], POLLIN, 0}};
    while (!(p[2].revents & POLLIN)) {
        int64_t now = clock_ns();
        for (int i = dns.count; i-- > 0;) {
            const dns_question q = dns.waiting[i];
            if (q.due == DNS_GATE ? !__atomic_load_n(&dns.gate, __ATOMIC_SEQ_CST) : q.due > now)
                continue;
            dns.waiting[i] = dns.waiting[--dns.count];
            dns_answer(&q);
        }
        poll(p, 3, dns.count ? 2 : -1);
        if (p[0].revents & POLLIN) dns_take_datagram();
        if (p[1].revents & POLLIN) dns_take_stream();
    }
    return unused;
}

static int dns_socket(int type) {
    struct sockaddr_in a;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons(53);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof a), errno);
    return fd;
}

/* A server that knows what the table says, which ends with an entry without a name. */
static void dns_begin(const dns_entry *table) {
    if (!dns_shared)
        dns_shared =
            mmap(NULL, sizeof dns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(dns_shared != MAP_FAILED);
    memset(&dns, 0, sizeof dns);
    dns.table = table;
    dns.udp = dns_socket(SOCK_DGRAM);
    dns.tcp = dns_socket(SOCK_STREAM);
    assert_return_code(listen(dns.tcp, 16), errno);
    assert_return_code(pipe(dns.quit), errno);
    assert_int_equal(pthread_create(&dns.thread, NULL, dns_run, NULL), 0);
}

static void dns_end(void) {
    assert_int_equal(write(dns.quit[1], "q", 1), 1);
    pthread_join(dns.thread, NULL);
    close(dns.udp), close(dns.tcp), close(dns.quit[0]), close(dns.quit[1]);
}
#endif
#endif
