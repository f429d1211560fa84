/* chat_server: rooms in which everybody reads what anybody types, over nc, telnet or a script.

   It shows state of each connection and of the whole server, one buffer shared by thousands of
   connections, work deferred to the end of a turn, members that do not read (dropped at a cap) and
   that do not stop (read more slowly), timeouts, and a drain that says goodbye.

   cc -O2 -o chat_server examples/chat_server.c -pthread */
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <strings.h>

#ifdef __MINGW_PRINTF_FORMAT /* there are two printfs */
#define PRINTF_LIKE __attribute__((format(__MINGW_PRINTF_FORMAT, 2, 3)))
#else
#define PRINTF_LIKE __attribute__((format(printf, 2, 3)))
#endif

static const char usage[] =
    "usage: chat_server [--host ADDRESS] [--port N] [--rate LINES] [--max-behind KIB]\n"
    "                   [--idle-timeout SECONDS] [--keep-alive SECONDS]\n"
    "                   [--max-connections N] [--backend NAME] [--help]\n"
    "  --host          address to listen on, 127.0.0.1 (* is every address)\n"
    "  --port          7000; 0 takes any free one\n"
    "  --rate          lines a second that are read from one member, 5000; 0 is no limit\n"
    "  --max-behind    output that may wait for one member, 1024 KiB; more drops the member\n"
    "  --idle-timeout  seconds that a member may send nothing; 0, the default, is for ever\n"
    "  --keep-alive    seconds until a silent peer is probed by TCP; 0, the default, is never\n"
    "  --backend       one that is compiled in; the best that works\n";

enum {
    NAME_BYTES = 20,                 /* of a nick or a room's name */
    LINE_BYTES = 1024,               /* of a line that a member sends, without its end */
    TEXT_BYTES = 3 * LINE_BYTES + 1, /* of the same made clean: one broken byte becomes three */
    SAID_BYTES = TEXT_BYTES + 128,   /* with the names and words around it */
    OUTBOX_BYTES = 32 * 1024,
    SMALL_BYTES = 256,       /* less is not worth a piece of its own in a long queue */
    HIGH_WATER = 64 * 1024,  /* output of a member above which his lines wait */
    SPARE_BYTES = 64 * 1024, /* above --max-behind, for the last words to a slow member */
    LIST_NAMES = 10000,      /* that /who and /rooms show */
    BURST_MS = 100,          /* of --rate, taken at once */
    REST_MS = 20,            /* the least that a fast member waits */
    DRAIN_MS = 700
};

/* ---- what there is ---- */

/* What has a unique name: a member or a room, which begin with it. */
struct named {
    struct named *next; /* in the same slot of its table */
    uint64_t hash;
    char name[NAME_BYTES + 1];
};

struct table {
    struct named **slots;
    size_t mask, count;
    uint64_t seed;
};

struct room {
    struct named named;
    struct chat *chat;
    struct member *first, *last; /* in the order of their coming */
    size_t count;
};

/* The state of a connection. The reactor makes and frees it. */
struct member {
    struct named named;
    struct chat *chat;
    reactor_conn conn;
    struct room *room; /* NULL once he has left for good */
    struct member *prev, *next;
    struct member *next_slow;
    size_t behind; /* his output is at most this, while it is above high water */
    size_t since;  /* what is before this in the outbox he has, or is not for him */
    char *partial; /* a line whose end has not come yet, NULL while there is none */
    uint16_t partial_len;
    uint16_t inside;      /* bytes of a telnet subnegotiation so far */
    unsigned char telnet; /* where in a command his input is */
    char skipping;        /* the rest of a line that was too long */
    char full;            /* his output is above high water: his lines wait for on_writable */
    char resting;         /* he was too fast: his lines wait for the timer */
    char closing;         /* nothing more is said to him or heard from him */
    int64_t paid;         /* the time up to which his lines have used up his rate */
    reactor_timer rest;
    const char *why_slow;
};

/* The server. What is said in a room is gathered in the outbox, and becomes one buffer at the end
   of the turn: however many lines came in that turn, a room of thousands costs one write each. */
struct chat {
    reactor *r;
    struct table nicks, rooms;
    struct room *lobby;
    uint64_t guests; /* that ever came */
    long rate, idle;
    size_t max_behind;
    int scheduled, draining;
    struct member *slow; /* told and closed, and still to be taken off the lists */
    struct room *outbox_room;
    size_t outbox_len, line_len;
    char outbox[OUTBOX_BYTES];
    char line[LINE_BYTES]; /* of the member whose input is being read */
};

/* ---- names ---- */
/* A hash of names without regard to case, so that Bob and bob are not two people. Its chains go
   through the named things themselves, so that adding one never fails; if there is no memory for
   more slots, chains grow instead. */

static uint64_t hash_of(const struct table *t, const char *name) {
    uint64_t h = t->seed; /* which nobody outside knows: FNV-1a */
    for (; *name; name++) {
        unsigned c = (unsigned char)*name;
        h = (h ^ (c >= 'A' && c <= 'Z' ? c + 32 : c)) * UINT64_C(0x100000001b3);
    }
    return h ^ h >> 32;
}

static int table_init(struct table *t) {
    t->mask = 63;
    t->slots = calloc(t->mask + 1, sizeof *t->slots);
    t->seed = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)time(NULL) << 20 ^ (uintptr_t)t->slots;
    return t->slots ? 0 : -ENOMEM;
}

static struct named *table_find(const struct table *t, const char *name) {
    uint64_t hash = hash_of(t, name);
    struct named *n = t->slots[hash & t->mask];
    while (n && (n->hash != hash || strcasecmp(n->name, name) != 0)) n = n->next;
    return n;
}

static void table_grow(struct table *t) {
    size_t mask = t->mask * 2 + 1;
    struct named **slots = calloc(mask + 1, sizeof *slots);
    if (!slots) return;
    for (size_t i = 0; i <= t->mask; i++) {
        for (struct named *n = t->slots[i], *next; n; n = next) {
            next = n->next;
            n->next = slots[n->hash & mask];
            slots[n->hash & mask] = n;
        }
    }
    free(t->slots);
    t->slots = slots;
    t->mask = mask;
}

static void table_add(struct table *t, struct named *n, const char *name) {
    if (t->count++ > t->mask) table_grow(t);
    snprintf(n->name, sizeof n->name, "%s", name);
    n->hash = hash_of(t, name);
    n->next = t->slots[n->hash & t->mask];
    t->slots[n->hash & t->mask] = n;
}

static void table_remove(struct table *t, struct named *n) {
    struct named **at = &t->slots[n->hash & t->mask];
    while (*at != n) at = &(*at)->next;
    *at = n->next;
    t->count--;
}

static int name_is_good(const char *name) {
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return len > 0 && len <= NAME_BYTES && !name[len];
}

static const char name_rule[] = "a name has 1 to 20 letters (a to z), digits, _ or -";

/* ---- saying ---- */
/* say() is for a room, reply() for one member. What one member sees is in the order in which it was
   said, rooms and replies together: a reply first hands him what the outbox has for him. */

static int schedule(struct chat *s);

/* Too far behind, or no memory to tell him more: nobody may miss a line and not know it. He is told
   after all that waits for him, and closed; reset, if not even that can be said. finish_turn takes him off the lists, for whoever called
   this may be walking through one. */
static void give_up(struct member *m, const char *why) {
    struct chat *s = m->chat;
    char text[128];
    int len = snprintf(text, sizeof text, "*** you are dropped: %s\n", why);
    m->closing = 1;
    m->why_slow = why;
    m->next_slow = s->slow;
    s->slow = m;
    if (reactor_write(s->r, m->conn, text, (size_t)len) < 0) reactor_abort(s->r, m->conn);
    reactor_close(s->r, m->conn);
    schedule(s);
}

/* What a write of len bytes to him has returned. A peer that is gone needs nothing here: on_close
   will come. reactor_pending looks at all that is queued: it is asked only once as much was written
   as may wait, not with every line to every member who is slow. */
static void judge(struct member *m, int result, size_t len) {
    struct chat *s = m->chat;
    if (result == 0 || result == -EPIPE || result == -EBADF || m->closing) return;
    if (result == 1) {
        m->behind = m->full ? m->behind + len : HIGH_WATER + len;
        m->full = 1;
        if (m->behind > s->max_behind) m->behind = reactor_pending(s->r, m->conn);
        if (m->behind <= s->max_behind) return;
    }
    give_up(m, result == -ENOMEM ? "out of memory" : "too far behind");
}

/* His part of the outbox, if he cannot wait for the end of the turn. */
static void catch_up(struct member *m) {
    struct chat *s = m->chat;
    size_t from = m->since;
    if (m->closing || m->room != s->outbox_room || from == s->outbox_len) return;
    size_t len = s->outbox_len - from;
    m->since = s->outbox_len;
    judge(m, reactor_write(s->r, m->conn, s->outbox + from, len), len);
}

/* The outbox to all in its room, as one buffer that all their connections refer to. Who came in the
   middle of it gets a copy of his part; who is slow gets one of a short line, because each piece of
   a queue costs some 100 bytes, and many short ones would cost more than what may wait for him. */
static void flush(struct chat *s) {
    size_t len = s->outbox_len;
    if (!len) return;
    reactor_buffer *shared = reactor_buffer_new(s->outbox, len);
    for (struct member *m = s->outbox_room->first; m; m = m->next) {
        size_t from = m->since;
        m->since = 0;
        if (m->closing || from == len) continue;
        if (shared && from == 0 && !(m->full && len < SMALL_BYTES))
            judge(m, reactor_write_shared(s->r, m->conn, shared), len);
        else
            judge(m, reactor_write(s->r, m->conn, s->outbox + from, len - from), len - from);
    }
    reactor_buffer_unref(shared);
    s->outbox_room = NULL;
    s->outbox_len = 0;
}

static void leave(struct member *m, const char *why);

static void finish_turn(reactor *r, void *user) {
    struct chat *s = user;
    (void)r;
    s->scheduled = 0;
    flush(s);
    while (s->slow) {
        struct member *m = s->slow;
        s->slow = m->next_slow;
        leave(m, m->why_slow);
    }
}

/* Runs finish_turn after this turn's events. Without memory for that, say() does not wait, and
   those who are slow leave their lists when they are closed. */
static int schedule(struct chat *s) {
    if (!s->scheduled) s->scheduled = reactor_defer(s->r, finish_turn, s) == 0;
    return s->scheduled;
}

PRINTF_LIKE static void say(struct room *room, const char *format, ...) {
    struct chat *s = room->chat;
    va_list values;
    if (!room->count || s->draining) return;
    if (s->outbox_room != room || OUTBOX_BYTES - s->outbox_len < SAID_BYTES) flush(s);
    s->outbox_room = room;
    va_start(values, format);
    s->outbox_len += (size_t)vsnprintf(s->outbox + s->outbox_len, SAID_BYTES, format, values);
    va_end(values);
    s->outbox[s->outbox_len++] = '\n';
    if (!schedule(s)) flush(s);
}

PRINTF_LIKE static void reply(struct member *m, const char *format, ...) {
    char text[SAID_BYTES];
    va_list values;
    catch_up(m);
    if (m->closing) return;
    va_start(values, format);
    int len = vsnprintf(text, sizeof text - 1, format, values);
    va_end(values);
    text[len++] = '\n';
    judge(m, reactor_write(m->chat->r, m->conn, text, (size_t)len), (size_t)len);
}

/* A list of any length, as lines of some 400 bytes. */
struct list {
    struct member *to;
    const char *head;
    size_t len, names;
    char text[400];
};

static void list_end(struct list *l) {
    if (l->len) reply(l->to, "*** %s:%.*s", l->head, (int)l->len, l->text);
    l->len = 0;
}

/* in: how many are in that room, -1 for a member. */
static void list_add(struct list *l, const char *name, long in) {
    if (++l->names > LIST_NAMES) return;
    if (sizeof l->text - l->len < NAME_BYTES + 32) list_end(l);
    size_t room = sizeof l->text - l->len;
    l->len += (size_t)(in < 0 ? snprintf(l->text + l->len, room, " %s", name)
                              : snprintf(l->text + l->len, room, " %s(%ld)", name, in));
}

/* ---- rooms ---- */

static struct room *room_open(struct chat *s, const char *name) {
    struct room *room = (struct room *)table_find(&s->rooms, name);
    if (room) return room;
    room = calloc(1, sizeof *room);
    if (!room) return NULL;
    room->chat = s;
    table_add(&s->rooms, &room->named, name);
    return room;
}

/* All but the lobby last as long as somebody is in them. */
static void room_release(struct room *room) {
    struct chat *s = room->chat;
    if (room->count || room == s->lobby) return;
    if (s->outbox_room == room) s->outbox_room = NULL, s->outbox_len = 0;
    table_remove(&s->rooms, &room->named);
    free(room);
}

static void room_enter(struct room *room, struct member *m) {
    struct chat *s = room->chat;
    say(room, "*** %s has joined %s", m->named.name, room->named.name);
    m->room = room;
    m->since = s->outbox_room == room ? s->outbox_len : 0;
    m->prev = room->last;
    m->next = NULL;
    *(m->prev ? &m->prev->next : &room->first) = m;
    room->last = m;
    room->count++;
}

static void room_exit(struct member *m, const char *why) {
    struct room *room = m->room;
    catch_up(m);
    *(m->prev ? &m->prev->next : &room->first) = m->next;
    *(m->next ? &m->next->prev : &room->last) = m->prev;
    room->count--;
    m->room = NULL;
    m->since = 0;
    if (why && *why)
        say(room, "*** %s has left %s (%s)", m->named.name, room->named.name, why);
    else
        say(room, "*** %s has left %s", m->named.name, room->named.name);
    room_release(room);
}

/* For good: his name is free. The connection may live on until it has sent what waits. */
static void leave(struct member *m, const char *why) {
    if (!m->room) return;
    room_exit(m, why);
    table_remove(&m->chat->nicks, &m->named);
}

/* Of his own will, or because his time is up. */
static void dismiss(struct member *m, const char *why, const char *last_words) {
    reply(m, "*** %s, goodbye", last_words);
    leave(m, why);
    m->closing = 1;
    reactor_close(m->chat->r, m->conn);
}

/* ---- commands ---- */

/* Cuts the first word off the text. */
static char *word_of(char **text) {
    char *word = *text + strspn(*text, " ");
    char *end = word + strcspn(word, " ");
    *text = end + strspn(end, " ");
    *end = 0;
    return word;
}

static void do_nick(struct member *m, char *text) {
    struct table *nicks = &m->chat->nicks;
    const char *name = word_of(&text);
    char old[NAME_BYTES + 1];
    if (!name_is_good(name) || *text) {
        reply(m, "*** /nick NAME: %s", name_rule);
        return;
    }
    struct named *holder = table_find(nicks, name);
    if (holder && holder != &m->named) {
        reply(m, "*** %s is taken", name);
        return;
    }
    memcpy(old, m->named.name, sizeof old);
    table_remove(nicks, &m->named);
    table_add(nicks, &m->named, name);
    say(m->room, "*** %s is now %s", old, name);
}

static void do_who(struct member *m, char *text) {
    struct list list = {.to = m, .head = m->room->named.name};
    (void)text;
    for (struct member *i = m->room->first; i && list.names <= LIST_NAMES; i = i->next)
        if (!i->closing) list_add(&list, i->named.name, -1);
    list_end(&list);
    reply(m, "*** %zu in %s%s", m->room->count, list.head, list.names > LIST_NAMES ? ", ..." : "");
}

static void do_msg(struct member *m, char *text) {
    const char *name = word_of(&text);
    if (!*name || !*text) {
        reply(m, "*** /msg NAME TEXT: for that member only, in whatever room");
        return;
    }
    struct member *to = (struct member *)table_find(&m->chat->nicks, name);
    if (to) reply(to, "[%s] %s", m->named.name, text);
    if (to && !to->closing)
        reply(m, "[to %s] %s", to->named.name, text);
    else
        reply(m, "*** nobody here is called %s", name);
}

static void do_me(struct member *m, char *text) {
    if (*text)
        say(m->room, "* %s %s", m->named.name, text);
    else
        reply(m, "*** /me TEXT: as in /me smiles");
}

static void do_join(struct member *m, char *text) {
    const char *name = word_of(&text);
    if (*name == '#') name++;
    if (!name_is_good(name) || *text) {
        reply(m, "*** /join ROOM: %s", name_rule);
        return;
    }
    struct room *room = room_open(m->chat, name);
    if (!room) {
        reply(m, "*** out of memory");
        return;
    }
    if (room == m->room) {
        reply(m, "*** you are in %s already", room->named.name);
        return;
    }
    room_exit(m, NULL);
    room_enter(room, m);
    reply(m, "*** you are in %s, with %zu others", room->named.name, room->count - 1);
}

static void do_rooms(struct member *m, char *text) {
    const struct table *rooms = &m->chat->rooms;
    struct list list = {.to = m, .head = "rooms"};
    (void)text;
    for (size_t i = 0; i <= rooms->mask && list.names <= LIST_NAMES; i++)
        for (const struct named *n = rooms->slots[i]; n; n = n->next)
            list_add(&list, n->name, (long)((const struct room *)n)->count);
    list_end(&list);
    reply(m, "*** %zu rooms%s", rooms->count, list.names > LIST_NAMES ? ", ..." : "");
}

static void do_quit(struct member *m, char *text) { dismiss(m, text, "you have left"); }

static void do_help(struct member *m, char *text);

static const struct command {
    const char *name;
    void (*run)(struct member *m, char *text);
    const char *usage;
} commands[] = {
    {"/nick", do_nick, "/nick NAME       take another name"},
    {"/who", do_who, "/who             list who is in your room"},
    {"/msg", do_msg, "/msg NAME TEXT   say something to one member only"},
    {"/me", do_me, "/me TEXT         say what you do"},
    {"/join", do_join, "/join ROOM       go to another room, made if there is none"},
    {"/rooms", do_rooms, "/rooms           list the rooms, with how many are in each"},
    {"/quit", do_quit, "/quit [TEXT]     leave, with last words"},
    {"/help", do_help, "/help            this list"},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void do_help(struct member *m, char *text) {
    (void)text;
    for (int i = 0; i < COMMANDS; i++) reply(m, "*** %s", commands[i].usage);
    reply(m, "*** any other line is said to your room; // at its start says /");
}

static void run_command(struct member *m, char *text) {
    const char *name = word_of(&text);
    for (int i = 0; i < COMMANDS; i++) {
        if (strcasecmp(name, commands[i].name) != 0) continue;
        commands[i].run(m, text);
        return;
    }
    reply(m, "*** there is no %s; /help lists what there is", name);
}

/* ---- input: text ---- */

/* Length of the UTF-8 character at p, or, negative, of what is broken there and becomes one
   U+FFFD: as much as could have begun a character (Unicode, chapter 3, "maximal subpart"). */
static int utf8_length(const unsigned char *p, size_t left) {
    unsigned char lead = p[0], low = 0x80, high = 0xBF;
    int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return -1;
    if (lead == 0xE0) low = 0xA0;  /* shorter forms */
    if (lead == 0xED) high = 0x9F; /* surrogates */
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F; /* beyond U+10FFFF */
    for (int i = 1; i <= more; i++) {
        if ((size_t)i >= left || p[i] < low || p[i] > high) return -i;
        low = 0x80;
        high = 0xBF;
    }
    return more + 1;
}

/* A line as others may see it, out[TEXT_BYTES]: no control characters (a tab becomes a space), not
   even those that are U+0080 to U+009F, and nothing but good UTF-8. */
static void make_clean(const char *line, size_t len, char *out) {
    const unsigned char *p = (const unsigned char *)line;
    while (len) {
        int n = utf8_length(p, len);
        size_t used = (size_t)(n < 0 ? -n : n);
        int control = *p < 0x20 || *p == 0x7F || (n == 2 && p[0] == 0xC2 && p[1] < 0xA0);
        if (n < 0) {
            memcpy(out, "\xEF\xBF\xBD", 3);
            out += 3;
        } else if (*p == '\t') {
            *out++ = ' ';
        } else if (!control) {
            memcpy(out, p, used);
            out += used;
        }
        p += used;
        len -= used;
    }
    *out = 0;
}

static void handle_line(struct member *m) {
    struct chat *s = m->chat;
    char text[TEXT_BYTES];
    make_clean(s->line, s->line_len, text);
    s->line_len = 0;
    m->skipping = 0;
    if (!*text) return;
    if (text[0] == '/' && text[1] != '/')
        run_command(m, text);
    else
        say(m->room, "<%s> %s", m->named.name, text + (text[0] == '/'));
}

/* ---- input: bytes ---- */

/* A byte of text. Returns 1 at the end of a line. */
static int take_byte(struct member *m, unsigned char byte) {
    struct chat *s = m->chat;
    if (byte == '\n') return 1;
    if (byte == '\r' || m->skipping) return 0;
    if (s->line_len < LINE_BYTES) {
        s->line[s->line_len++] = (char)byte;
        return 0;
    }
    s->line_len = 0;
    m->skipping = 1;
    reply(m, "*** a line may have %d bytes: this one was not sent", LINE_BYTES);
    return 0;
}

/* Telnet (RFC 854). PLAIN is text; WILL to DONT, the verb that came, wait for their option. */
enum {
    PLAIN = 0,
    COMMAND = 1,        /* after IAC */
    INSIDE = 2,         /* a subnegotiation */
    INSIDE_COMMAND = 3, /* IAC in one */
    INSIDE_BYTES = 64,
    END = 240, /* the first of the commands, and end of a subnegotiation */
    BEGIN = 250,
    WILL = 251,
    WONT = 252,
    DO = 253,
    DONT = 254,
    IAC = 255
};

/* Every offer and request is refused, and at once: until it hears that, a telnet in which Ctrl-C
   was pressed shows nothing any more. */
static void refuse_option(struct member *m, unsigned char verb, unsigned char option) {
    const unsigned char answer[] = {IAC, verb == DO ? WONT : DONT, option};
    if (verb != DO && verb != WILL) return;
    judge(m, reactor_write(m->chat->r, m->conn, answer, sizeof answer), sizeof answer);
}

/* A byte as it came. Returns 1 at the end of a line. No telnet sends a line end as an option, nor
   soon in a subnegotiation that it was not asked for; a client that only sends broken text shall
   not stay mute after it. */
static int take_input(struct member *m, unsigned char byte) {
    unsigned char was = m->telnet;
    if (was == PLAIN && byte != IAC) return take_byte(m, byte);
    m->telnet = PLAIN;
    switch (was) {
    case PLAIN:
        m->telnet = COMMAND;
        return 0;
    case COMMAND:
        m->inside = 0;
        if (byte == BEGIN) m->telnet = INSIDE;
        if (byte >= WILL && byte <= DONT) m->telnet = byte;
        if (byte >= END && byte < IAC) return 0;
        take_byte(m, IAC); /* escaped by another one, or no telnet at all */
        return byte == IAC ? 0 : take_byte(m, byte);
    case INSIDE:
        if (byte == '\n' && m->inside >= INSIDE_BYTES) return take_byte(m, byte);
        m->inside = (uint16_t)(m->inside < INSIDE_BYTES ? m->inside + 1 : m->inside);
        m->telnet = byte == IAC ? INSIDE_COMMAND : INSIDE;
        return 0;
    case INSIDE_COMMAND:
        if (byte != END) m->telnet = INSIDE;
        return 0;
    default:
        if (byte == '\n') return take_byte(m, byte);
        refuse_option(m, was, byte);
        return 0;
    }
}

/* A line is put together in the one buffer that the server has for it. Only what is left unfinished
   when the input ends moves to memory of the member's own. */
static void take_up_line(struct member *m) {
    struct chat *s = m->chat;
    s->line_len = m->partial_len;
    if (m->partial) memcpy(s->line, m->partial, s->line_len);
    free(m->partial);
    m->partial = NULL;
    m->partial_len = 0;
}

static void put_line_away(struct member *m) {
    struct chat *s = m->chat;
    if (!s->line_len || m->closing) return;
    m->partial = malloc(s->line_len);
    if (!m->partial) {
        give_up(m, "out of memory");
        return;
    }
    memcpy(m->partial, s->line, s->line_len);
    m->partial_len = (uint16_t)s->line_len;
}

/* ---- input: how fast ---- */

static void on_rested(reactor *r, reactor_timer t, void *user) {
    struct member *m = user;
    (void)t;
    m->resting = 0;
    m->rest.id = 0;
    reactor_resume(r, m->conn);
}

/* Every line uses up its share of a second, some of them in advance. Who has gone too far is not
   read for a while: what he has sent already waits here, what he sends next in his own computer.
   Nothing is lost. */
static void charge_line(struct member *m) {
    struct chat *s = m->chat;
    const int64_t ms = 1000000, burst = BURST_MS * ms, rest = REST_MS * ms;
    if (!s->rate) return;
    int64_t now = reactor_now_ns(s->r), cost = 1000 * ms / s->rate;
    if (m->paid < now - burst) m->paid = now - burst;
    m->paid += cost;
    int64_t wait = m->paid - now;
    if (wait <= 0 || m->closing) return;
    if (reactor_after_ns(s->r, wait < rest ? rest : wait, on_rested, m, &m->rest) < 0) return;
    m->resting = 1;
    reactor_pause(s->r, m->conn);
}

/* ---- connections ---- */

static void on_open(reactor *r, reactor_conn c, void *state) {
    struct member *m = state;
    struct chat *s = reactor_user(r, c);
    char name[NAME_BYTES + 1];
    m->chat = s;
    m->conn = c;
    do /* somebody may have called himself so */
        snprintf(name, sizeof name, "guest%" PRIu64, ++s->guests % 1000000000000);
    while (table_find(&s->nicks, name));
    table_add(&s->nicks, &m->named, name);
    room_enter(s->lobby, m);
    reply(m, "*** welcome, you are %s, in %s with %zu others; /help lists the commands", name,
          s->lobby->named.name, s->lobby->count - 1);
}

/* What is not consumed is offered again: after on_rested, or when his output has drained. */
static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    struct member *m = state;
    const unsigned char *bytes = data;
    size_t used = 0;
    (void)r;
    (void)c;
    take_up_line(m);
    while (used < len && !m->closing && !m->full && !m->resting) {
        if (!take_input(m, bytes[used++])) continue;
        handle_line(m);
        charge_line(m);
    }
    put_line_away(m);
    return m->closing ? len : used;
}

/* Whoever has finished sending has left: `printf 'hello' | nc -N` says a last line without end. */
static void on_eof(reactor *r, reactor_conn c, void *state) {
    struct member *m = state;
    (void)r;
    (void)c;
    take_up_line(m);
    if (m->chat->line_len) handle_line(m);
    if (!m->closing) dismiss(m, NULL, "end of your input");
}

static void on_writable(reactor *r, reactor_conn c, void *state) {
    (void)r;
    (void)c;
    ((struct member *)state)->full = 0;
}

static int on_timeout(reactor *r, reactor_conn c, int which, void *state) {
    struct member *m = state;
    char words[64];
    (void)r;
    (void)c;
    (void)which;
    snprintf(words, sizeof words, "nothing came from you for %ld seconds", m->chat->idle);
    dismiss(m, "idle", words);
    return 1;
}

static int on_drain(reactor *r, reactor_conn c, void *state) {
    static const char goodbye[] = "*** the server is going down, goodbye\n";
    struct member *m = state;
    if (!m->closing) reactor_write_owned(r, c, goodbye, sizeof goodbye - 1, NULL, NULL);
    m->closing = 1;
    return 0;
}

static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
    struct member *m = state;
    struct member **at = &m->chat->slow;
    (void)c;
    if (m->resting) reactor_cancel(r, m->rest);
    while (*at && *at != m) at = &(*at)->next_slow;
    if (*at) *at = m->next_slow;
    m->closing = 1;
    leave(m, m->why_slow ? m->why_slow : reason < 0 ? reactor_strerror(reason) : NULL);
    free(m->partial);
}

static const reactor_handler handler = {
    .state_size = sizeof(struct member),
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drain = on_drain,
    .on_writable = on_writable,
    .on_timeout = on_timeout,
    .on_close = on_close,
};

/* ---- the program ---- */

struct settings {
    const char *host, *backend;
    long port, rate, max_behind, idle, keep_alive, max_connections;
};

static void on_signal(reactor *r, int signum, void *user) {
    struct chat *s = user;
    (void)signum;
    flush(s);
    s->draining = 1; /* nobody needs to be told that everybody leaves */
    int e = reactor_drain(r, DRAIN_MS);
    if (e < 0 && e != -EALREADY) reactor_stop(r);
}

#ifdef _WIN32
/* Sockets are not numbered as standard streams are, and no parent decides about signals. */
static const int endings[] = {SIGINT, SIGTERM};
static int open_standard_streams(void) { return 0; }
static int is_ignored(int signum) {
    (void)signum;
    return 0;
}
static void unblock(int signum) { (void)signum; }
#else
static const int endings[] = {SIGINT, SIGTERM, SIGHUP};

/* A server may be started without standard streams; its sockets must not take their places. */
static int open_standard_streams(void) {
    for (int fd = 0; fd <= 2; fd++) /* all below are open: the next file gets this number */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return -1;
    return 0;
}

/* What the parent ignores stays ignored, as a script's shell has SIGINT for what it runs in the
   background, and nohup has SIGHUP. SIGTERM is for nobody but this process, and always heard. */
static int is_ignored(int signum) {
    struct sigaction now;
    return signum != SIGTERM && sigaction(signum, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* A parent that had it blocked has passed that on, too. */
static void unblock(int signum) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signum);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}
#endif

/* Watches the signals that end the server. */
static int watch_endings(reactor *r, void *user) {
    int e = 0;
    for (size_t i = 0; e == 0 && i < sizeof endings / sizeof *endings; i++) {
        if (is_ignored(endings[i])) continue;
        e = reactor_signal(r, endings[i], on_signal, user);
        unblock(endings[i]);
    }
    return e;
}

static int bad_usage(const char *what, const char *value) {
    fprintf(stderr, "chat_server: %s %s\n%s", what, value, usage);
    return 2;
}

static int number(const char *text, long min, long max, long *out) {
    char *end;
    if (*text < '0' || *text > '9') return -1;
    errno = 0;
    *out = strtol(text, &end, 10);
    return errno || *end || *out < min || *out > max ? -1 : 0;
}

/* Returns -1 to go on, or what to exit with. */
static int parse(int argc, char **argv, struct settings *o) {
    const struct flag {
        const char *name, **text;
        long *number, min, max;
    } flags[] = {
        {"--host", &o->host, NULL, 0, 0},
        {"--backend", &o->backend, NULL, 0, 0},
        {"--port", NULL, &o->port, 0, 65535},
        {"--rate", NULL, &o->rate, 0, 1000000},
        {"--max-behind", NULL, &o->max_behind, 256, 1000000}, /* /who and /rooms must fit */
        {"--idle-timeout", NULL, &o->idle, 0, 1000000},
        {"--keep-alive", NULL, &o->keep_alive, 0, 32767},
        {"--max-connections", NULL, &o->max_connections, 0, 1000000},
    };
    const int count = sizeof flags / sizeof flags[0];
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        int f = 0;
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        while (f < count && strcmp(argv[i], flags[f].name) != 0) f++;
        if (f == count) return bad_usage("unknown option", argv[i]);
        if (!value ||
            (flags[f].number && number(value, flags[f].min, flags[f].max, flags[f].number) < 0))
            return bad_usage("no good value for", argv[i]);
        if (flags[f].text) *flags[f].text = value;
    }
    return -1;
}

static int fail(const char *what, int error) {
    fprintf(stderr, "chat_server: %s: %s\n", what, reactor_strerror(error));
    return 1;
}

/* Writes the address into text[], as it was asked for and then as it came to be. */
static int start(struct chat *s, const struct settings *o, char *text, size_t size) {
    reactor_listen_options listen = {0};
    reactor_listener listener;
    listen.conn.user = s;
    listen.conn.high_water = HIGH_WATER;
    listen.conn.max_output = s->max_behind + SPARE_BYTES;
    listen.conn.read_timeout_ms = o->idle * 1000;
    listen.conn.keep_alive_s = (int)o->keep_alive;
    listen.max_connections = (int)o->max_connections;
    snprintf(text, size, strchr(o->host, ':') && *o->host != '[' ? "[%.128s]:%ld" : "%.128s:%ld",
             o->host, o->port);
    int e = reactor_listen(s->r, text, &handler, &listen, &listener);
    if (e == 0) e = watch_endings(s->r, s);
    if (e == 0) reactor_listener_address(s->r, listener, text, size);
    return e;
}

static int serve(struct chat *s, const struct settings *o) {
    char address[REACTOR_ADDRESS_MAX + 32];
    int e = start(s, o, address, sizeof address);
    if (e < 0) return fail(address, e);
    const char *reason = reactor_backend_reason(s->r);
    printf("listening on %s\nbackend %s%s%s%s\n", address, reactor_backend(s->r),
           *reason ? " (" : "", reason, *reason ? ")" : "");
    fflush(stdout);
    e = reactor_run(s->r);
    return e < 0 ? fail("stopped", e) : 0;
}

int main(int argc, char **argv) {
    static struct chat chat;
    struct settings o = {.host = "127.0.0.1", .port = 7000, .rate = 5000, .max_behind = 1024};
    reactor_options options = {0};

    if (open_standard_streams() < 0) return 1;
    int status = parse(argc, argv, &o);
    if (status >= 0) return status;
    chat.rate = o.rate;
    chat.idle = o.idle;
    chat.max_behind = (size_t)o.max_behind * 1024;
    options.backend = o.backend;
    int e = reactor_create(&chat.r, &options);
    if (e == -ENOTSUP) return bad_usage("no such backend:", o.backend);
    if (e == 0 && (table_init(&chat.nicks) < 0 || table_init(&chat.rooms) < 0)) e = -ENOMEM;
    if (e == 0 && !(chat.lobby = room_open(&chat, "lobby"))) e = -ENOMEM;
    status = e < 0 ? fail("cannot start", e) : serve(&chat, &o);
    chat.draining = 1;
    reactor_destroy(chat.r);
    free(chat.lobby);
    free(chat.nicks.slots);
    free(chat.rooms.slots);
    return status;
}
