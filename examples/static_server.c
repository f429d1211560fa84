/* static_server: serves the files of one directory over HTTP/1.1 (RFC 9110, RFC 9112).

   It shows a protocol on reactor.h that is more than an echo: input that stays unconsumed until a
   request is whole, answers from memory and by reactor_sendfile in one ordered queue, pausing a
   peer that asks faster than it reads, time limits of its own, an end in stages, and draining.

   cc -O2 -o static_server examples/static_server.c -pthread
   x86_64-w64-mingw32-gcc -O2 -o static_server.exe examples/static_server.c -lws2_32 */
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64 /* large files on 32-bit systems too, and dates after 2038 */
#endif
#ifndef _TIME_BITS
#define _TIME_BITS 64
#endif
#define REACTOR_IMPLEMENTATION
#include "../reactor.h"

#include <strings.h>

/* ==== >> parser ==== */
/* A request's head and body, from bytes. It knows nothing of files or connections, allocates
   nothing, and may be given its input in pieces of any size: the result is the same.

   The head is looked at in place. http_head_parse is called with all that has come of it, from its
   first byte on, and looks at each byte once, however often it is called; what it finds are
   offsets. The body is decoded as it comes and thrown away, for no method served here uses one.

   Whatever could be read in two ways is refused, for that is what request smuggling lives on (RFC
   9112, section 11.2). A line ends in CRLF; one that ends in LF alone is accepted, as section 2.2
   allows, if all lines of that head do, so that a head typed into nc works and a stray LF inside a
   proxy's request does not pass. */
enum {
    HTTP_LINE_MAX = 8192,      /* of the request line; RFC 9112, 3 asks for 8000 at least */
    HTTP_HEAD_MAX = 32 * 1024, /* all of the head; offsets fit in 16 bits */
    HTTP_FIELDS_MAX = 100,
    HTTP_KNOWN_MAX = 48,     /* of those, fields that mean something here */
    HTTP_EMPTY_MAX = 8,      /* empty lines before a request */
    HTTP_METHOD_MAX = 32,    /* longer than any there is */
    HTTP_BODY_MAX = 1 << 20, /* content that is read to find the next request */
    HTTP_DIGITS_MAX = 32,    /* of a chunk's size, zeros in front included */
    HTTP_EXTRA_MAX = 8192    /* chunk extensions, and as much for trailers */
};

typedef enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_OPTIONS,
    HTTP_OTHER, /* known, not allowed here */
    HTTP_UNKNOWN
} http_method;

typedef enum http_form { HTTP_ORIGIN, HTTP_ABSOLUTE, HTTP_ASTERISK, HTTP_AUTHORITY } http_form;

typedef enum http_name {
    HTTP_NAME_NONE,
    HTTP_ACCEPT_ENCODING,
    HTTP_CONNECTION,
    HTTP_CONTENT_LENGTH,
    HTTP_EXPECT,
    HTTP_HOST,
    HTTP_IF_MATCH,
    HTTP_IF_MODIFIED_SINCE,
    HTTP_IF_NONE_MATCH,
    HTTP_IF_RANGE,
    HTTP_IF_UNMODIFIED_SINCE,
    HTTP_RANGE,
    HTTP_TRANSFER_ENCODING
} http_name;

/* Head flags. */
enum {
    HTTP_BARE_LF = 1,       /* its lines end in LF alone */
    HTTP_HAS_LENGTH = 2,    /* Content-Length */
    HTTP_HAS_CODING = 4,    /* Transfer-Encoding */
    HTTP_CHUNKED = 8,       /* its last coding, so far */
    HTTP_CODED = 16,        /* another coding as well */
    HTTP_MISCODED = 32,     /* chunked was not the last, or was there twice */
    HTTP_CLOSE = 64,        /* Connection: close */
    HTTP_KEEP = 128,        /* Connection: keep-alive */
    HTTP_CONTINUE = 256,    /* Expect: 100-continue */
    HTTP_UNMET = 512,       /* Expect: anything else */
    HTTP_MISDIRECTED = 1024 /* an absolute target of another scheme */
};

typedef struct http_field {
    uint16_t name; /* http_name */
    uint16_t at, len;
} http_field;

typedef struct http_slice {
    const char *data;
    size_t len;
} http_slice;

typedef struct http_head {
    uint32_t line;    /* the line to be read begins here */
    uint32_t scanned; /* and has no LF before this */
    uint32_t start;   /* the request line began here */
    uint16_t line_len;
    uint16_t method_len;
    uint16_t path, path_len;   /* path_len 0: "/" */
    uint16_t query, query_len; /* with its question mark */
    uint16_t fields, known;
    uint16_t flags;
    uint8_t empty;  /* empty lines before the request line */
    uint8_t inside; /* the request line is done */
    uint8_t minor;  /* HTTP/1.minor */
    uint8_t method, form, hosts;
    uint64_t length; /* Content-Length */
    http_field field[HTTP_KNOWN_MAX];
} http_head;

/* What a byte may be part of. */
enum {
    HTTP_TOKEN = 1, /* RFC 9110, 5.6.2: tchar */
    HTTP_VALUE = 2, /* RFC 9110, 5.5: field-vchar, SP and HTAB */
    HTTP_PATH = 4,  /* RFC 3986: pchar but for %, and "/" */
    HTTP_QUERY = 8, /* that, and "?" */
    HTTP_REGNAME = 16,
    HTTP_DIGIT = 32,
    HTTP_HEX = 64,
    HTTP_ALPHA = 128,
    HTTP_PLAIN = 256, /* in the path of a link that is made here */
    HTTP_MARKUP = 512 /* not itself in a page, or the text's end */
};
static uint16_t http_class[256];

static void http_mark(const char *bytes, unsigned bits) {
    for (; *bytes; bytes++)
        http_class[(unsigned char)*bytes] = (uint16_t)(http_class[(unsigned char)*bytes] | bits);
}

/* Browsers follow the URL Standard, which leaves some bytes bare that RFC 3986 wants encoded: a
   link to "a[1].png" is to work, so those are let through, in paths and in queries. */
static void http_tables(void) {
    const char *alpha = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const unsigned uri = HTTP_PATH | HTTP_QUERY;
    for (int c = 0x20; c < 256; c++)
        if (c != 0x7f) http_class[c] |= HTTP_VALUE;
    http_class['\t'] |= HTTP_VALUE;
    http_mark(alpha, HTTP_ALPHA | HTTP_TOKEN | HTTP_REGNAME | uri);
    http_mark("0123456789", HTTP_DIGIT | HTTP_HEX | HTTP_TOKEN | HTTP_REGNAME | uri);
    http_mark("abcdefABCDEF", HTTP_HEX);
    http_mark("!#$%&'*+-.^_`|~", HTTP_TOKEN);
    http_mark("-._~!$&'()*+,;=", HTTP_REGNAME | uri);
    http_mark(":@/", uri);
    http_mark("[]|^", uri);
    http_mark("?{}`\\", HTTP_QUERY);
    http_mark(alpha, HTTP_PLAIN);
    http_mark("0123456789-._~!$()*+,=/@", HTTP_PLAIN); /* without what quotes, separates, or is & */
    for (int c = 0; c < 0x20; c++) http_class[c] |= HTTP_MARKUP;
    http_mark("<>&\"\x7f", HTTP_MARKUP);
}

static int http_is(char c, unsigned bits) { return (http_class[(unsigned char)c] & bits) != 0; }

/* How many bytes from the front are of the class. */
static size_t http_span(const char *s, size_t n, unsigned bits) {
    size_t i = 0;
    while (i < n && http_is(s[i], bits)) i++;
    return i;
}

static int http_equal(const char *s, size_t n, const char *word) {
    return strlen(word) == n && strncasecmp(s, word, n) == 0;
}

static int http_hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return (c | 0x20) - 'a' + 10;
}

/* Bytes of the class and well-formed percent-encodings, nothing else. */
static int http_encoded(const char *s, size_t n, unsigned bits) {
    for (size_t i = 0; i < n; i++) {
        if (http_is(s[i], bits)) continue;
        if (s[i] != '%' || n - i < 3 || !http_is(s[i + 1], HTTP_HEX) ||
            !http_is(s[i + 2], HTTP_HEX))
            return 0;
        i += 2;
    }
    return 1;
}

/* The inside of "[...]": an IPv6 address, or RFC 3986's form for those to come. */
static int http_literal(const char *s, size_t n) {
    char text[INET6_ADDRSTRLEN + 16];
    struct in6_addr a;
    if (n > 2 && (s[0] | 0x20) == 'v') {
        size_t hex = http_span(s + 1, n - 1, HTTP_HEX), at = hex + 2;
        if (!hex || at >= n || s[at - 1] != '.') return 0;
        for (; at < n; at++)
            if (!http_is(s[at], HTTP_REGNAME) && s[at] != ':') return 0;
        return 1;
    }
    if (n >= sizeof text) return 0;
    memcpy(text, s, n);
    text[n] = 0;
    return inet_pton(AF_INET6, text, &a) == 1;
}

/* uri-host [ ":" port ], RFC 9110, 7.2. User information has no place in it (4.2.4). */
static int http_authority(const char *s, size_t n, size_t *host_len) {
    size_t at = 0;
    if (n && s[0] == '[') {
        const char *end = (const char *)memchr(s, ']', n);
        if (!end || !http_literal(s + 1, (size_t)(end - s) - 1)) return 0;
        at = (size_t)(end - s) + 1;
    } else {
        while (at < n && s[at] != ':') at++;
        if (!http_encoded(s, at, HTTP_REGNAME)) return 0;
    }
    *host_len = at;
    if (at == n) return 1;
    return s[at] == ':' && http_span(s + at + 1, n - at - 1, HTTP_DIGIT) == n - at - 1;
}

/* ---- the request line ---- */

static http_method http_method_of(const char *s, size_t n) {
    static const char *const others[] = {"POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"};
    if (n == 3 && memcmp(s, "GET", 3) == 0) return HTTP_GET;
    if (n == 4 && memcmp(s, "HEAD", 4) == 0) return HTTP_HEAD;
    if (n == 7 && memcmp(s, "OPTIONS", 7) == 0) return HTTP_OPTIONS;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strlen(others[i]) == n && memcmp(s, others[i], n) == 0) return HTTP_OTHER;
    return HTTP_UNKNOWN;
}

/* absolute-path [ "?" query ], at offset at. Empty is "/" (RFC 9110, 4.2.3). */
static int http_path_query(http_head *h, const char *data, size_t at, size_t n) {
    const char *mark = n ? (const char *)memchr(data + at, '?', n) : NULL;
    size_t path = mark ? (size_t)(mark - (data + at)) : n;
    if (!http_encoded(data + at, path, HTTP_PATH)) return -400;
    if (!http_encoded(data + at + path, n - path, HTTP_QUERY)) return -400;
    h->path = (uint16_t)at;
    h->path_len = (uint16_t)path;
    h->query = (uint16_t)(at + path);
    h->query_len = (uint16_t)(n - path);
    return 0;
}

/* Absolute-form, RFC 9112, 3.2.2: its host counts, not the Host field's, and there is one site. A
   request for an "https" resource has to be refused on a connection that is not secured (RFC 9110,
   7.4), other schemes are even less ours: 421, when the rest of the head is known to be good. */
static int http_absolute(http_head *h, const char *data, size_t at, size_t n) {
    const char *s = data + at;
    size_t scheme = 0, host, end;
    while (scheme < n && (http_is(s[scheme], HTTP_ALPHA | HTTP_DIGIT) || strchr("+-.", s[scheme])))
        scheme++;
    if (!scheme || !http_is(s[0], HTTP_ALPHA) || scheme == n || s[scheme] != ':') return -400;
    h->form = HTTP_ABSOLUTE;
    if (!http_equal(s, scheme, "http")) {
        h->flags |= HTTP_MISDIRECTED;
        return http_path_query(h, data, at + scheme + 1, n - scheme - 1);
    }
    if (n < scheme + 3 || memcmp(s + scheme, "://", 3) != 0) return -400;
    for (end = scheme + 3; end < n && s[end] != '/' && s[end] != '?';) end++;
    if (!http_authority(s + scheme + 3, end - scheme - 3, &host) || !host) return -400;
    return http_path_query(h, data, at + end, n - end);
}

/* RFC 9112, 3.2: which form goes with which method. */
static int http_target(http_head *h, const char *data, size_t at, size_t n, int connect) {
    size_t host;
    if (connect) {
        h->form = HTTP_AUTHORITY;
        return http_authority(data + at, n, &host) && host && host < n ? 0 : -400;
    }
    if (data[at] == '/') return http_path_query(h, data, at, n);
    if (n == 1 && data[at] == '*') {
        h->form = HTTP_ASTERISK;
        return h->method == HTTP_OPTIONS ? 0 : -400;
    }
    return http_absolute(h, data, at, n);
}

/* method SP request-target SP HTTP-version, RFC 9112, 3, and not a space more. The version decides
   first: what another major version's line means is not known. */
static int http_request_line(http_head *h, const char *data, size_t at, size_t n) {
    const char *s = data + at;
    size_t method = http_span(s, n, HTTP_TOKEN);
    if (!method || method == n || s[method] != ' ') return -400;
    size_t target = method + 1;
    const char *space = (const char *)memchr(s + target, ' ', n - target);
    if (!space || space == s + target) return -400;
    size_t target_len = (size_t)(space - s) - target;
    const char *v = space + 1;
    if (n - (size_t)(v - s) != 8 || memcmp(v, "HTTP/", 5) != 0 || !http_is(v[5], HTTP_DIGIT) ||
        v[6] != '.' || !http_is(v[7], HTTP_DIGIT))
        return -400;
    if (v[5] != '1') return -505;
    h->minor = (uint8_t)(v[7] - '0');
    h->start = (uint32_t)at;
    h->line_len = (uint16_t)n;
    h->method_len = (uint16_t)method;
    h->method = (uint8_t)http_method_of(s, method);
    return http_target(h, data, at + target, target_len,
                       method == 7 && memcmp(s, "CONNECT", 7) == 0);
}

/* A request line without an end: a method longer than any (501) or too long a target (414), RFC
   9112, 3. */
static int http_line_too_long(const char *s, size_t n) {
    return http_span(s, n < HTTP_METHOD_MAX ? n : HTTP_METHOD_MAX, HTTP_TOKEN) == HTTP_METHOD_MAX
               ? -501
               : -414;
}

/* ---- fields ---- */

static http_name http_name_of(const char *s, size_t n) {
    static const struct {
        const char *text;
        http_name name;
    } known[] = {
        {"accept-encoding", HTTP_ACCEPT_ENCODING},
        {"connection", HTTP_CONNECTION},
        {"content-length", HTTP_CONTENT_LENGTH},
        {"expect", HTTP_EXPECT},
        {"host", HTTP_HOST},
        {"if-match", HTTP_IF_MATCH},
        {"if-modified-since", HTTP_IF_MODIFIED_SINCE},
        {"if-none-match", HTTP_IF_NONE_MATCH},
        {"if-range", HTTP_IF_RANGE},
        {"if-unmodified-since", HTTP_IF_UNMODIFIED_SINCE},
        {"range", HTTP_RANGE},
        {"transfer-encoding", HTTP_TRANSFER_ENCODING},
    };
    if (!strchr("acehirtACEHIRT", s[0])) return HTTP_NAME_NONE;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((s[0] | 0x20) == known[i].text[0] && http_equal(s, n, known[i].text))
            return known[i].name;
    return HTTP_NAME_NONE;
}

/* The next element of a comma-separated list, without the white space around it. Empty ones are
   skipped, RFC 9110, 5.6.1.2; commas inside quotes do not separate. */
static int http_next(http_slice *list, http_slice *item) {
    const char *s = list->data, *end = s + list->len;
    while (s < end && (*s == ',' || *s == ' ' || *s == '\t')) s++;
    const char *from = s;
    for (int quoted = 0; s < end && (quoted || *s != ','); s++) {
        if (quoted && *s == '\\' && s + 1 < end)
            s++;
        else if (*s == '"')
            quoted = !quoted;
    }
    list->data = s;
    list->len = (size_t)(end - s);
    while (s > from && (s[-1] == ' ' || s[-1] == '\t')) s--;
    item->data = from;
    item->len = (size_t)(s - from);
    return s > from;
}

/* RFC 9112, 6.3, 5: a second length, be it the same, is one too many. */
static int http_content_length(http_head *h, http_slice v) {
    if ((h->flags & HTTP_HAS_LENGTH) || !v.len) return -400;
    h->flags |= HTTP_HAS_LENGTH;
    for (size_t i = 0; i < v.len; i++) {
        if (!http_is(v.data[i], HTTP_DIGIT)) return -400;
        if (h->length > UINT64_MAX / 10 - 1) h->length = UINT64_MAX / 10 - 1;
        h->length = h->length * 10 + (uint64_t)(v.data[i] - '0');
    }
    return 0;
}

static int http_transfer_encoding(http_head *h, http_slice v) {
    http_slice item;
    h->flags |= HTTP_HAS_CODING;
    while (http_next(&v, &item)) {
        if (h->flags & HTTP_CHUNKED) h->flags |= HTTP_MISCODED;
        if (http_equal(item.data, item.len, "chunked"))
            h->flags |= HTTP_CHUNKED;
        else
            h->flags |= HTTP_CODED;
    }
    return 0;
}

static int http_connection(http_head *h, http_slice v) {
    http_slice item;
    while (http_next(&v, &item)) {
        if (http_equal(item.data, item.len, "close")) h->flags |= HTTP_CLOSE;
        if (http_equal(item.data, item.len, "keep-alive")) h->flags |= HTTP_KEEP;
    }
    return 0;
}

static int http_expect(http_head *h, http_slice v) {
    http_slice item;
    while (http_next(&v, &item))
        h->flags |= http_equal(item.data, item.len, "100-continue") ? HTTP_CONTINUE : HTTP_UNMET;
    return 0;
}

/* What concerns framing is read now, the rest is kept for whoever answers. */
static int http_known(http_head *h, const char *data, http_name name, http_slice v) {
    size_t host;
    if (name == HTTP_CONTENT_LENGTH) return http_content_length(h, v);
    if (name == HTTP_TRANSFER_ENCODING) return http_transfer_encoding(h, v);
    if (name == HTTP_CONNECTION) return http_connection(h, v);
    if (name == HTTP_EXPECT) return http_expect(h, v);
    if (name == HTTP_HOST) {
        h->hosts = (uint8_t)(h->hosts + 1);
        return http_authority(v.data, v.len, &host) ? 0 : -400;
    }
    if (h->known == HTTP_KNOWN_MAX) return -431;
    http_field *f = &h->field[h->known++];
    f->name = (uint16_t)name;
    f->at = (uint16_t)(v.data - data);
    f->len = (uint16_t)v.len;
    return 0;
}

/* field-name ":" OWS field-value OWS, RFC 9112, 5. Space before the colon and a line that begins
   with one (5.1, 5.2) fail as not being part of a name. */
static int http_field_line(http_head *h, const char *data, size_t at, size_t n) {
    const char *s = data + at;
    size_t name = http_span(s, n, HTTP_TOKEN), from = name + 1;
    if (!name || name == n || s[name] != ':') return -400;
    if (http_span(s + from, n - from, HTTP_VALUE) != n - from) return -400;
    if (h->fields++ == HTTP_FIELDS_MAX) return -431;
    http_name id = http_name_of(s, name);
    if (id == HTTP_NAME_NONE) return 0;
    while (from < n && (s[from] == ' ' || s[from] == '\t')) from++;
    while (n > from && (s[n - 1] == ' ' || s[n - 1] == '\t')) n--;
    http_slice v = {s + from, n - from};
    return http_known(h, data, id, v);
}

/* ---- the whole head ---- */

/* RFC 9112, 3.2 for Host; 6.1 and 6.3 for the rest: with both framings, with codings of which
   chunked is not the last, or with a coding in HTTP/1.0, where the body ends is anybody's guess. */
static int http_head_check(const http_head *h) {
    if (h->hosts > 1 || (h->hosts == 0 && h->minor > 0)) return -400;
    if (!(h->flags & HTTP_HAS_CODING)) return 0;
    if (h->minor == 0 || (h->flags & (HTTP_HAS_LENGTH | HTTP_MISCODED))) return -400;
    if (!(h->flags & HTTP_CHUNKED)) return -400;
    return h->flags & HTTP_CODED ? -501 : 0;
}

/* A line of n bytes without its end. 1: that was the head's last. */
static int http_line(http_head *h, const char *data, size_t at, size_t n) {
    int bare = !(n && data[at + n - 1] == '\r');
    if (!bare) n--;
    if (!h->inside) {
        if (n == 0) return h->empty++ == HTTP_EMPTY_MAX ? -400 : 0; /* RFC 9112, 2.2 */
        h->inside = 1;
        if (bare) h->flags |= HTTP_BARE_LF;
        return http_request_line(h, data, at, n);
    }
    if (bare != !!(h->flags & HTTP_BARE_LF)) return -400;
    if (n) return http_field_line(h, data, at, n);
    int e = http_head_check(h);
    return e < 0 ? e : 1;
}

/* data: what has come of the head, from its first byte. 0: not whole yet; above 0: its length, an
   empty line included; below 0: minus the status to refuse it with. h is zeroed before the first
   call. Every limit is a place in the input, so that it does not matter how that was cut. */
static int http_head_parse(http_head *h, const char *data, size_t len) {
    for (;;) {
        size_t limit = h->inside ? HTTP_HEAD_MAX : h->line + HTTP_LINE_MAX;
        size_t end = len < limit ? len : limit;
        if (!h->inside && h->line < len && data[h->line] != '\r' && data[h->line] != '\n' &&
            !http_is(data[h->line], HTTP_TOKEN))
            return -400; /* at once: a TLS client, say, would wait for us as long as we for it */
        const char *lf = end > h->scanned
                             ? (const char *)memchr(data + h->scanned, '\n', end - h->scanned)
                             : NULL;
        if (!lf) {
            h->scanned = (uint32_t)end;
            if (end < limit) return 0;
            return h->inside ? -431 : http_line_too_long(data + h->line, end - h->line);
        }
        size_t at = h->line;
        h->line = h->scanned = (uint32_t)(lf - data) + 1;
        int e = http_line(h, data, at, (size_t)(lf - data) - at);
        if (e) return e < 0 ? e : (int)h->line;
    }
}

/* The field's value if it was there exactly once. */
static int http_single(const http_head *h, const char *data, http_name name, http_slice *out) {
    int count = 0;
    for (int i = 0; i < h->known; i++) {
        if (h->field[i].name != name) continue;
        out->data = data + h->field[i].at;
        out->len = h->field[i].len;
        count++;
    }
    return count == 1;
}

static int http_has(const http_head *h, http_name name) {
    for (int i = 0; i < h->known; i++)
        if (h->field[i].name == name) return 1;
    return 0;
}

/* RFC 9112, 9.3. */
static int http_persists(const http_head *h) {
    if (h->flags & HTTP_CLOSE) return 0;
    return h->minor > 0 || (h->flags & HTTP_KEEP);
}

/* ---- the body ---- */

enum {
    HTTP_BODY_BYTES, /* as many as Content-Length said */
    HTTP_BODY_SIZE_FIRST,
    HTTP_BODY_SIZE,
    HTTP_BODY_SPACE, /* before an extension */
    HTTP_BODY_EXTENSION,
    HTTP_BODY_SIZE_LF,
    HTTP_BODY_CHUNK,
    HTTP_BODY_CHUNK_CR,
    HTTP_BODY_CHUNK_LF,
    HTTP_BODY_LINE, /* of the trailer section */
    HTTP_BODY_NAME,
    HTTP_BODY_VALUE,
    HTTP_BODY_VALUE_LF,
    HTTP_BODY_LAST_LF,
    HTTP_BODY_DONE
};

typedef struct http_body {
    uint64_t left;   /* of the body, of the chunk; of a chunk's size what was read so far */
    uint64_t total;  /* content so far */
    uint32_t digits; /* of a chunk's size */
    uint32_t extra;  /* bytes of extensions */
    uint32_t trailer;
    uint32_t state;
} http_body;

/* Whether a body follows the head. -413: one longer than is worth reading to get past it. */
static int http_body_begin(const http_head *h, http_body *b) {
    memset(b, 0, sizeof *b);
    if (h->flags & HTTP_CHUNKED) {
        b->state = HTTP_BODY_SIZE_FIRST;
        return 1;
    }
    b->left = h->length;
    return h->length > HTTP_BODY_MAX ? -413 : h->length > 0;
}

/* After the size: an extension, or the end of the line. */
static int http_after_size(http_body *b, char c) {
    if (c == ';')
        b->state = HTTP_BODY_EXTENSION;
    else if (c == '\r' && b->state == HTTP_BODY_SIZE)
        b->state = HTTP_BODY_SIZE_LF;
    else if (c == ' ' || c == '\t')
        b->state = HTTP_BODY_SPACE;
    else
        return -400;
    if (c != '\r' && ++b->extra > HTTP_EXTRA_MAX) return -413;
    return 0;
}

/* chunk-size [ chunk-ext ] CRLF, RFC 9112, 7.1. Extensions are skipped; none may hide a CR or LF. */
static int http_size_byte(http_body *b, char c) {
    switch (b->state) {
    case HTTP_BODY_SIZE_FIRST:
    case HTTP_BODY_SIZE:
        if (!http_is(c, HTTP_HEX)) return b->state == HTTP_BODY_SIZE ? http_after_size(b, c) : -400;
        b->digits = b->state == HTTP_BODY_SIZE ? b->digits + 1 : 1;
        b->state = HTTP_BODY_SIZE;
        b->left = b->left * 16 + (uint64_t)http_hex(c);
        if (b->digits > HTTP_DIGITS_MAX) return -400;
        return b->left > HTTP_BODY_MAX - b->total ? -413 : 0;
    case HTTP_BODY_SPACE:
        return http_after_size(b, c);
    case HTTP_BODY_EXTENSION:
        if (c == '\r')
            b->state = HTTP_BODY_SIZE_LF;
        else if (!http_is(c, HTTP_VALUE))
            return -400;
        return ++b->extra > HTTP_EXTRA_MAX ? -413 : 0;
    default:
        if (c != '\n') return -400;
        b->total += b->left;
        b->state = b->left ? HTTP_BODY_CHUNK : HTTP_BODY_LINE;
        return 0;
    }
}

/* The trailer section, RFC 9112, 7.1.2: field lines like the head's, and of no consequence. */
static int http_trailer_byte(http_body *b, char c) {
    if (++b->trailer > HTTP_EXTRA_MAX) return -431;
    switch (b->state) {
    case HTTP_BODY_LINE:
        b->state = c == '\r' ? HTTP_BODY_LAST_LF : HTTP_BODY_NAME;
        return c == '\r' || http_is(c, HTTP_TOKEN) ? 0 : -400;
    case HTTP_BODY_NAME:
        if (c == ':') b->state = HTTP_BODY_VALUE;
        return c == ':' || http_is(c, HTTP_TOKEN) ? 0 : -400;
    case HTTP_BODY_VALUE:
        if (c == '\r') b->state = HTTP_BODY_VALUE_LF;
        return c == '\r' || http_is(c, HTTP_VALUE) ? 0 : -400;
    case HTTP_BODY_VALUE_LF:
        b->state = HTTP_BODY_LINE;
        return c == '\n' ? 0 : -400;
    default:
        b->state = HTTP_BODY_DONE;
        return c == '\n' ? 0 : -400;
    }
}

static int http_body_byte(http_body *b, char c) {
    if (b->state == HTTP_BODY_CHUNK_CR) {
        b->state = HTTP_BODY_CHUNK_LF;
        return c == '\r' ? 0 : -400;
    }
    if (b->state == HTTP_BODY_CHUNK_LF) {
        b->state = HTTP_BODY_SIZE_FIRST;
        return c == '\n' ? 0 : -400;
    }
    return b->state < HTTP_BODY_CHUNK ? http_size_byte(b, c) : http_trailer_byte(b, c);
}

/* The next bytes of the body; *used says how many were its. 0: there is more to come; 1: that was
   all; below 0: minus the status to refuse it with. */
static int http_body_parse(http_body *b, const char *data, size_t len, size_t *used) {
    size_t i = 0;
    int e = 0;
    while (i < len && e == 0 && b->state != HTTP_BODY_DONE) {
        if (b->state != HTTP_BODY_BYTES && b->state != HTTP_BODY_CHUNK) {
            e = http_body_byte(b, data[i++]);
            continue;
        }
        size_t part = len - i < b->left ? len - i : (size_t)b->left;
        b->left -= part;
        i += part;
        if (b->left) break;
        b->state = b->state == HTTP_BODY_BYTES ? HTTP_BODY_DONE : HTTP_BODY_CHUNK_CR;
    }
    *used = i;
    return e < 0 ? e : b->state == HTTP_BODY_DONE;
}

/* ==== >> platform ==== */
/* What the rest asks of the system: the calendar, files below the root, an output for the log, the
   process. Names are UTF-8, with a slash between their segments, "" is the root itself, and they
   have no segment that is empty or made of dots: path_plain sees to that. Errors are -errno.

   On Linux a name is opened by openat2 with RESOLVE_BENEATH, so that a symbolic link may lead about
   within the root and not out of it; where that call is missing or forbidden, and on other systems,
   by a walk that follows no link at all. What it stands for is asked first (by a descriptor of
   O_PATH, or by fstatat), so that FIFOs and devices are recognised without being touched.

   On Windows two things stand between a name and a file.
   - What has a meaning to the system beyond being a name is refused before it is asked: the
     backslash (a separator, so "..\x", UNC, "\\?\"), the colon (drives, streams as in
     "x::$DATA"), wildcards, control characters, a dot or a space at the end (thrown away),
     devices with or without extension (NUL.txt), and what is no UTF-8. The path that is opened
     begins with "\\?\", which spares it Windows' own reading of names, of "..", of devices.
   - What has been opened is asked for its final name, which has to be the root's and the name asked
     for, to the letter. So whatever else leads to a file is refused, and by the open handle, after
     which nothing can be exchanged any more: symbolic links and junctions, even within the root;
     short names, by which GIT~1 would be .git, whose dot hides it; another case, which would give
     one file many addresses.
   A link is followed once before it is refused; who may not make links in the root cannot use that.
   A file that is open cannot be replaced there, nor its directories renamed, so none is kept open
   for later requests. Some file systems note when a file is written only once its writer closes
   it: what is overwritten in place, and becomes no longer, may be seen only then. */
enum { SYS_PATH_MAX = 4096 };

typedef struct sys_time {
    int64_t sec;
    long nsec;
} sys_time;

/* What changes when a file does. */
typedef struct file_stamp {
    uint64_t dev, ino;
    int64_t size;
    sys_time mtime, ctime;
} file_stamp;

enum { SYS_FILE, SYS_DIRECTORY, SYS_OTHER }; /* what a name stands for */

#ifdef _WIN32
#include <process.h>
#include <shellapi.h>
#define SYS_NO_FILE INVALID_HANDLE_VALUE

/* What the system said last. */
static int sys_error(void) {
    switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_INVALID_NAME:
    case ERROR_BAD_PATHNAME:
    case ERROR_FILENAME_EXCED_RANGE:
    case ERROR_DIRECTORY:
    case ERROR_DELETE_PENDING:
    case ERROR_BAD_NETPATH:
    case ERROR_BAD_NET_NAME:
    case ERROR_CANT_RESOLVE_FILENAME: /* links in a circle */
        return -ENOENT;
    case ERROR_CANT_ACCESS_FILE: /* a link of a kind unknown */
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION:
    case ERROR_LOCK_VIOLATION:
        return -EACCES;
    case ERROR_TOO_MANY_OPEN_FILES:
        return -EMFILE;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_NO_SYSTEM_RESOURCES:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

/* ---- time ---- */

static sys_time sys_time_of(int64_t ticks) { /* of 100 ns, since 1601 */
    sys_time t = {ticks / 10000000 - INT64_C(11644473600), (long)(ticks % 10000000) * 100};
    return t;
}

static sys_time sys_now(void) {
    FILETIME t;
    GetSystemTimeAsFileTime(&t);
    return sys_time_of((int64_t)((uint64_t)t.dwHighDateTime << 32 | t.dwLowDateTime));
}

/* Not before 1970. */
static int sys_calendar(int64_t t, struct tm *tm) {
    __time64_t seconds = t;
    return _gmtime64_s(tm, &seconds) ? -EOVERFLOW : 0;
}

/* The other way, -1 before 1970; a day that its month has not becomes another one in tm. */
static int64_t sys_seconds(struct tm *tm) { return _mkgmtime64(tm); }

/* Local time as a log has it, with its distance from GMT. */
static int sys_log_time(int64_t t, char *out, size_t size) {
    __time64_t seconds = t;
    struct tm tm, same;
    if (_localtime64_s(&tm, &seconds)) return -EOVERFLOW;
    same = tm;
    int east = (int)(_mkgmtime64(&same) - t) / 60;
    size_t n = strftime(out, size, "%d/%b/%Y:%H:%M:%S", &tm);
    snprintf(out + n, size - n, " %c%02d%02d", east < 0 ? '-' : '+', abs(east) / 60,
             abs(east) % 60);
    return n ? 0 : -EOVERFLOW;
}

/* ---- names ---- */

enum { SYS_ROOT_MAX = 2048, SYS_FULL_MAX = SYS_ROOT_MAX + SYS_PATH_MAX };

typedef struct sys_root {
    wchar_t given[SYS_ROOT_MAX]; /* its path, from \\?\ on, without a backslash at the end */
    wchar_t final[SYS_ROOT_MAX]; /* and where that leads to now */
} sys_root;

/* Whether the segment is a device's name, up to a dot and without spaces before that. */
static int sys_is_device(const wchar_t *s, size_t n) {
    static const wchar_t *const names[] = {L"CON",     L"PRN",    L"AUX",  L"NUL", L"CONIN$",
                                           L"CONOUT$", L"CLOCK$", L"COM#", L"LPT#"};
    size_t base = 0;
    while (base < n && s[base] != '.') base++;
    while (base && s[base - 1] == ' ') base--;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = wcslen(names[i]), plain = len - (names[i][len - 1] == '#');
        if (base != len || _wcsnicmp(s, names[i], plain) != 0) continue;
        if (plain == len || wcschr(L"0123456789\xb9\xb2\xb3", s[plain])) return 1;
    }
    return 0;
}

static int sys_is_plain(const wchar_t *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] < 0x20 || wcschr(L"\"*:<>?\\|", s[i])) return 0;
    return n && s[n - 1] != '.' && s[n - 1] != ' ' && !sys_is_device(s, n);
}

/* The whole path of a name below prefix. */
static int sys_full(const wchar_t *prefix, const char *name, wchar_t out[SYS_FULL_MAX]) {
    size_t at = wcslen(prefix);
    memcpy(out, prefix, at * sizeof *out);
    out[at++] = '\\';
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name, -1, out + at,
                             (int)(SYS_FULL_MAX - at)))
        return -ENOENT;
    for (wchar_t *s = out + at; *s;) {
        size_t n = wcscspn(s, L"/");
        if (!sys_is_plain(s, n)) return -ENOENT;
        s += n;
        if (*s) *s++ = '\\';
    }
    return 0;
}

static void sys_strip(wchar_t *path) {
    size_t n = wcslen(path);
    if (n && path[n - 1] == '\\') path[n - 1] = 0;
}

static int sys_final(HANDLE h, wchar_t *out, DWORD size) {
    DWORD n = GetFinalPathNameByHandleW(h, out, size, FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
    if (n >= size) return -ENAMETOOLONG;
    sys_strip(out);
    return n ? 0 : sys_error();
}

/* BACKUP_SEMANTICS: also a directory. Nobody is kept from writing, renaming or removing it. */
static HANDLE sys_open_full(const wchar_t *path, DWORD access) {
    return CreateFileW(path, access, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                       OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
}

/* ---- files ---- */

static void sys_close(HANDLE h) { CloseHandle(h); }

static int sys_look(HANDLE h, file_stamp *out, DWORD *attributes) {
    BY_HANDLE_FILE_INFORMATION i;
    FILE_BASIC_INFO b;
    if (!GetFileInformationByHandle(h, &i)) return sys_error();
    if (!GetFileInformationByHandleEx(h, FileBasicInfo, &b, sizeof b)) return sys_error();
    int64_t changed = b.ChangeTime.QuadPart; /* which FAT does not have */
    out->dev = i.dwVolumeSerialNumber;
    out->ino = (uint64_t)i.nFileIndexHigh << 32 | i.nFileIndexLow;
    out->size = (int64_t)((uint64_t)i.nFileSizeHigh << 32 | i.nFileSizeLow);
    out->mtime = sys_time_of(b.LastWriteTime.QuadPart);
    out->ctime = changed ? sys_time_of(changed) : out->mtime;
    *attributes = b.FileAttributes;
    return 0;
}

static int sys_stamp(HANDLE h, file_stamp *out) {
    DWORD attributes;
    return sys_look(h, out, &attributes);
}

/* Of what a name stands for now. That it is still within the root is not asked: who compares the
   stamp with that of a file opened before knows. */
static int sys_stamp_by_name(const sys_root *root, const char *name, file_stamp *out) {
    wchar_t full[SYS_FULL_MAX];
    int e = sys_full(root->given, name, full);
    if (e < 0) return e;
    HANDLE h = sys_open_full(full, FILE_READ_ATTRIBUTES);
    if (h == SYS_NO_FILE) return sys_error();
    e = sys_stamp(h, out);
    CloseHandle(h);
    return e;
}

/* Bytes from an offset on, 0 at the end. */
static int64_t sys_read(HANDLE h, char *to, size_t size, int64_t offset) {
    OVERLAPPED at;
    DWORD n = 0;
    memset(&at, 0, sizeof at);
    at.Offset = (DWORD)(uint64_t)offset;
    at.OffsetHigh = (DWORD)((uint64_t)offset >> 32);
    if (ReadFile(h, to, (DWORD)size, &n, &at)) return n;
    return GetLastError() == ERROR_HANDLE_EOF ? 0 : sys_error();
}

/* The root may have been replaced, as when a link to the current release is turned over. */
static int sys_root_check(sys_root *root) {
    wchar_t full[SYS_FULL_MAX];
    file_stamp stamp;
    DWORD attributes = 0;
    sys_full(root->given, "", full);
    HANDLE h = sys_open_full(full, FILE_READ_ATTRIBUTES);
    if (h == SYS_NO_FILE) return sys_error();
    int e = sys_look(h, &stamp, &attributes);
    if (e == 0 && !(attributes & FILE_ATTRIBUTE_DIRECTORY)) e = -ENOTDIR;
    if (e == 0) e = sys_final(h, root->final, SYS_ROOT_MAX);
    CloseHandle(h);
    return e;
}

/* Whatever the path is taken to mean is decided here, once. */
static int sys_root_open(sys_root *root, const char *path) {
    wchar_t text[SYS_ROOT_MAX], whole[SYS_ROOT_MAX - 8];
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, text, SYS_ROOT_MAX))
        return -ENOENT;
    DWORD n = GetFullPathNameW(text, SYS_ROOT_MAX - 8, whole, NULL);
    if (n == 0 || n >= SYS_ROOT_MAX - 8) return n ? -ENAMETOOLONG : sys_error();
    int share = wcsncmp(whole, L"\\\\", 2) == 0;
    int ready = wcsncmp(whole, L"\\\\?\\", 4) == 0 || wcsncmp(whole, L"\\\\.\\", 4) == 0;
    wcscpy(root->given, ready ? L"" : share ? L"\\\\?\\UNC" : L"\\\\?\\");
    wcscat(root->given, whole + (share && !ready));
    sys_strip(root->given);
    return sys_root_check(root);
}

static void sys_root_close(sys_root *root) { (void)root; }

/* A handle to what has that name and no other. */
static int sys_open_beneath(const sys_root *root, const char *name, HANDLE *out) {
    wchar_t full[SYS_FULL_MAX], final[SYS_FULL_MAX];
    int e = sys_full(root->final, name, full);
    if (e < 0) return e;
    HANDLE h = sys_open_full(full, GENERIC_READ);
    if (h == SYS_NO_FILE) return sys_error();
    sys_strip(full);
    e = GetFileType(h) == FILE_TYPE_DISK ? sys_final(h, final, SYS_FULL_MAX) : -EACCES;
    if (e == 0 && wcscmp(full, final) != 0) e = -ENOENT;
    if (e < 0) CloseHandle(h);
    *out = h;
    return e;
}

/* What the name stands for; if it is a file, it is opened for reading. */
static int sys_open(sys_root *root, const char *name, HANDLE *fd, file_stamp *stamp) {
    DWORD attributes = 0;
    HANDLE h;
    int e = sys_open_beneath(root, name, &h);
    if (e < 0) return e;
    e = sys_look(h, stamp, &attributes);
    if (e == 0 && !(attributes & FILE_ATTRIBUTE_DIRECTORY)) {
        *fd = h;
        return SYS_FILE;
    }
    CloseHandle(h);
    return e < 0 ? e : SYS_DIRECTORY;
}

/* ---- directories ---- */

typedef struct sys_list {
    HANDLE dir;
    const FILE_ID_BOTH_DIR_INFO *at; /* the present entry, NULL before the first */
    char name[3 * MAX_PATH + 1];     /* its name; "" if that is no UTF-16 */
    union {
        FILE_ID_BOTH_DIR_INFO first;
        char bytes[16 * 1024];
    } batch;
} sys_list;

static int sys_list_open(sys_list *l, sys_root *root, const char *path) {
    l->at = NULL;
    return sys_open_beneath(root, path, &l->dir);
}

static void sys_list_close(sys_list *l) { CloseHandle(l->dir); }

/* 0 at the end. */
static int sys_list_next(sys_list *l) {
    if (l->at && l->at->NextEntryOffset)
        l->at = (const FILE_ID_BOTH_DIR_INFO *)((const char *)l->at + l->at->NextEntryOffset);
    else if (GetFileInformationByHandleEx(l->dir, FileIdBothDirectoryInfo, &l->batch,
                                          sizeof l->batch))
        l->at = &l->batch.first;
    else
        return 0;
    int n = WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, l->at->FileName,
                                (int)(l->at->FileNameLength / sizeof(wchar_t)), l->name,
                                (int)sizeof l->name - 1, NULL, NULL);
    l->name[n] = 0;
    return 1;
}

/* Whether the present entry may be served: files and directories (size -1), but no links, whose
   tags have a bit to say so. */
static int sys_list_stat(const sys_list *l, int64_t *size) {
    DWORD attributes = l->at->FileAttributes;
    int link = (attributes & FILE_ATTRIBUTE_REPARSE_POINT) && (l->at->EaSize & 0x20000000);
    *size = attributes & FILE_ATTRIBUTE_DIRECTORY ? -1 : l->at->EndOfFile.QuadPart;
    return *l->name && !link &&
           sys_is_plain(l->at->FileName, l->at->FileNameLength / sizeof(wchar_t));
}

/* ---- the log's output ---- */

typedef struct sys_out {
    HANDLE fd;
    int regular; /* a file, which never makes one wait */
} sys_out;

/* path NULL: standard output. What was open before is closed once the new one is there. */
static int sys_out_open(sys_out *o, const char *path) {
    DWORD none = PIPE_READMODE_BYTE | PIPE_NOWAIT;
    wchar_t text[SYS_ROOT_MAX];
    HANDLE h = GetStdHandle(STD_OUTPUT_HANDLE);
    if (path && !MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, text, SYS_ROOT_MAX))
        return -ENOENT;
    if (path)
        h = CreateFileW(text, FILE_APPEND_DATA,
                        FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_ALWAYS,
                        FILE_ATTRIBUTE_NORMAL, NULL);
    if (path && h == SYS_NO_FILE) return sys_error();
    if (path && o->fd) CloseHandle(o->fd);
    o->fd = h;
    o->regular = GetFileType(h) == FILE_TYPE_DISK;
    if (GetFileType(h) == FILE_TYPE_PIPE) SetNamedPipeHandleState(h, &none, NULL, NULL);
    return 0;
}

/* Bytes taken; 0: none for now, nor within that time; below 0: the error. Some consoles take no
   more than that at once. */
static int64_t sys_out_write(sys_out *o, const char *data, size_t len, int wait_ms) {
    DWORD n = 0, most = len < 32768 ? (DWORD)len : 32768;
    BOOL good = WriteFile(o->fd, data, most, &n, NULL);
    if (good && n == 0 && wait_ms) {
        Sleep((DWORD)wait_ms);
        good = WriteFile(o->fd, data, most, &n, NULL);
    }
    if (good) return n;
    return GetLastError() == ERROR_DISK_FULL ? -ENOSPC : sys_error();
}

/* ---- the process ---- */

#define SYS_HELP_REOPEN ""
#define SYS_HELP_NOTES                                                                             \
    "On Windows no signal reopens the log; text being selected in a console that the log goes "    \
    "to\n"                                                                                         \
    "makes everybody wait. Files are served by their long names in the right case, and not by\n"   \
    "links, but for the root itself. Ctrl-C and Ctrl-Break end the server when all are served.\n"
enum { SYS_REOPEN = 0 };
static const int sys_endings[] = {SIGINT, SIGTERM};
enum { SYS_KEEP_OPEN = 0 };

/* The arguments as UTF-8, which main's are not. */
static int sys_prepare(char ***argv) {
    int count = 0;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &count);
    char **out = wide ? (char **)calloc((size_t)count + 1, sizeof *out) : NULL;
    for (int i = 0; out && i < count; i++) {
        int n = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        out[i] = (char *)malloc((size_t)n + 1);
        if (!out[i]) return -ENOMEM;
        WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, out[i], n, NULL, NULL);
    }
    LocalFree(wide);
    if (!out) return -ENOMEM;
    *argv = out;
    SetErrorMode(SEM_FAILCRITICALERRORS); /* no dialogue for a drive that is empty */
    return 0;
}

/* How many files may be open at once for the answers of one callback. */
static int sys_files_max(void) { return 64; }

static int sys_signal_ignored(int signum) {
    (void)signum;
    return 0;
}

/* Ctrl-C and Ctrl-Break that come too late are taken by the C library. */
static void sys_signal_block(int signum, int block) {
    if (block) signal(signum, SIG_IGN);
}
#else

#include <dirent.h>
#include <poll.h>
#include <sys/resource.h>
#if defined(__linux__) && __has_include(<linux/openat2.h>)
#include <linux/openat2.h>
#endif
#define SYS_NO_FILE (-1)

/* What the system said last, never 0. */
static int sys_error(void) {
    int e = errno;
    return e > 0 ? -e : -EIO;
}

/* ---- time ---- */

static sys_time sys_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    sys_time now = {t.tv_sec, t.tv_nsec};
    return now;
}

static int sys_calendar(int64_t t, struct tm *tm) {
    time_t seconds = (time_t)t;
    return gmtime_r(&seconds, tm) ? 0 : -EOVERFLOW;
}

/* The other way; a day that its month has not becomes another one in tm. */
static int64_t sys_seconds(struct tm *tm) { return timegm(tm); }

/* Local time as a log has it, with its distance from GMT. */
static int sys_log_time(int64_t t, char *out, size_t size) {
    time_t seconds = (time_t)t;
    struct tm tm;
    if (!localtime_r(&seconds, &tm)) return -EOVERFLOW;
    return strftime(out, size, "%d/%b/%Y:%H:%M:%S %z", &tm) ? 0 : -EOVERFLOW;
}

/* ---- files ---- */

typedef struct sys_root {
    const char *path;
    size_t path_len;
    int fd;
    int no_openat2; /* it was tried */
    dev_t dev;
    ino_t ino;
} sys_root;

#ifdef __APPLE__
#define st_mtim st_mtimespec
#define st_ctim st_ctimespec
#endif

static sys_time sys_time_of(struct timespec t) {
    sys_time out = {t.tv_sec, t.tv_nsec};
    return out;
}

static file_stamp sys_stamp_of(const struct stat *st) {
    file_stamp s = {(uint64_t)st->st_dev, (uint64_t)st->st_ino, (int64_t)st->st_size,
                    sys_time_of(st->st_mtim), sys_time_of(st->st_ctim)};
    return s;
}

static void sys_close(int fd) { close(fd); }

static int sys_stamp(int fd, file_stamp *out) {
    struct stat st;
    if (fstat(fd, &st) < 0) return sys_error();
    *out = sys_stamp_of(&st);
    return 0;
}

/* Of what a name stands for now. That it is still within the root is not asked: who compares the
   stamp with that of a file opened before knows. */
static int sys_stamp_by_name(const sys_root *root, const char *name, file_stamp *out) {
    char full[2 * SYS_PATH_MAX];
    struct stat st;
    size_t n = strlen(name) + 1; /* snprintf would be dearer than all the rest */
    if (root->path_len + 1 + n > sizeof full) return -ENAMETOOLONG;
    memcpy(full, root->path, root->path_len);
    full[root->path_len] = '/';
    memcpy(full + root->path_len + 1, name, n);
    if (stat(full, &st) < 0) return sys_error();
    *out = sys_stamp_of(&st);
    return 0;
}

/* Bytes from an offset on, 0 at the end. */
static int64_t sys_read(int fd, char *to, size_t size, int64_t offset) {
    ssize_t n;
    do n = pread(fd, to, size, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? sys_error() : n;
}

/* How a directory is opened that is only gone through. Where the system has nothing better, it must
   be readable for that. */
#if defined(O_PATH)
enum { SYS_THROUGH = O_PATH | O_DIRECTORY };
#elif defined(O_SEARCH)
enum { SYS_THROUGH = O_SEARCH | O_DIRECTORY };
#else
enum { SYS_THROUGH = O_RDONLY | O_DIRECTORY };
#endif

/* Segment by segment, following no symbolic link, to the directory that has the last one: that one
   is copied to last. Returns root itself or a descriptor to be closed, or -1 and errno. */
static int sys_walk(int root, const char *name, char last[256]) {
    int at = root;
    for (;;) {
        size_t n = strcspn(name, "/");
        int end = name[n] == 0, fd = -1;
        if (n < 256) {
            memcpy(last, *name ? name : ".", n + !n);
            last[n + !n] = 0;
            if (end) return at;
            fd = openat(at, last, SYS_THROUGH | O_NOFOLLOW | O_CLOEXEC);
        } else
            errno = ENAMETOOLONG;
        int saved = errno;
        if (at != root) close(at);
        errno = saved;
        if (fd < 0) return fd;
        at = fd;
        name += n + 1;
    }
}

static int sys_walk_open(int root, const char *name, int flags) {
    char last[256];
    int at = sys_walk(root, name, last);
    if (at < 0) return -1;
    int fd = openat(at, last, flags | O_NOFOLLOW | O_CLOEXEC);
    int saved = errno;
    if (at != root) close(at);
    errno = saved;
    return fd;
}

/* What the name stands for, which may be a link. */
static int sys_walk_stat(int root, const char *name, struct stat *st) {
    char last[256];
    int at = sys_walk(root, name, last);
    if (at < 0) return -1;
    int e = fstatat(at, last, st, AT_SYMLINK_NOFOLLOW);
    int saved = errno;
    if (at != root) close(at);
    errno = saved;
    return e;
}

/* A descriptor, or -1 and errno. */
#if defined(__linux__) && defined(SYS_openat2) && defined(RESOLVE_BENEATH) && defined(O_PATH)
static int sys_openat2(sys_root *root, const char *name, int flags) {
    struct open_how how;
    memset(&how, 0, sizeof how);
    how.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    long fd = -1;
    errno = EAGAIN; /* is what it says when something was renamed meanwhile */
    for (int tries = 0; fd < 0 && errno == EAGAIN && tries < 4; tries++)
        fd = syscall(SYS_openat2, root->fd, *name ? name : ".", &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* an old kernel; a container's filter */
        root->no_openat2 = 1;
    return (int)fd;
}

static int sys_open_path(sys_root *root, const char *name) {
    return sys_openat2(root, name, O_PATH);
}
#else
static int sys_openat2(sys_root *root, const char *name, int flags) {
    (void)name, (void)flags;
    root->no_openat2 = 1;
    return -1;
}

static int sys_open_path(sys_root *root, const char *name) { return sys_openat2(root, name, 0); }
#endif

static int sys_open_beneath(sys_root *root, const char *name, int flags) {
    int fd = root->no_openat2 ? -1 : sys_openat2(root, name, flags);
    if (fd >= 0) return fd;
    if (!root->no_openat2 && errno != EAGAIN) return -1;
    return sys_walk_open(root->fd, name, flags);
}

/* What the name stands for, without touching it. 0, or -1 and errno. */
static int sys_stat_beneath(sys_root *root, const char *name, struct stat *st) {
    int fd = root->no_openat2 ? -1 : sys_open_path(root, name);
    if (fd >= 0) {
        int e = fstat(fd, st);
        close(fd);
        return e;
    }
    if (!root->no_openat2 && errno != EAGAIN) return -1;
    return sys_walk_stat(root->fd, name, st);
}

/* The root may have been replaced, as when a link to the current release is turned over. */
static int sys_root_check(sys_root *root) {
    struct stat st;
    if (stat(root->path, &st) < 0) return sys_error();
    if (root->fd >= 0 && st.st_dev == root->dev && st.st_ino == root->ino) return 0;
    int fd = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return sys_error();
    if (fstat(fd, &st) == 0) {
        root->dev = st.st_dev;
        root->ino = st.st_ino;
    }
    if (root->fd >= 0) close(root->fd);
    root->fd = fd;
    return 0;
}

static int sys_root_open(sys_root *root, const char *path) {
    root->path = path;
    root->path_len = strlen(path);
    root->fd = -1;
    return sys_root_check(root);
}

static void sys_root_close(sys_root *root) {
    if (root->fd >= 0) close(root->fd);
}

/* Opens for reading what was found to be a regular file, and makes sure that it is that one. */
static int sys_open_regular(sys_root *root, const char *name, const struct stat *found, int *out) {
    struct stat st;
    int fd = sys_open_beneath(root, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return sys_error();
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == found->st_ino &&
        st.st_dev == found->st_dev) {
        *out = fd;
        return SYS_FILE;
    }
    close(fd);
    return -ENOENT;
}

/* What the name stands for; if it is a file, it is opened for reading. */
static int sys_open(sys_root *root, const char *name, int *fd, file_stamp *stamp) {
    struct stat st;
    if (sys_stat_beneath(root, name, &st) < 0) return sys_error();
    if (S_ISDIR(st.st_mode)) return SYS_DIRECTORY;
    if (S_ISLNK(st.st_mode)) return -ENOENT; /* the walk does not follow it */
    if (!S_ISREG(st.st_mode)) return SYS_OTHER;
    *stamp = sys_stamp_of(&st);
    return sys_open_regular(root, name, &st, fd);
}

/* ---- directories ---- */

typedef struct sys_list {
    sys_root *root;
    const char *path; /* below the root */
    DIR *dir;
    const char *name; /* of the present entry */
} sys_list;

static int sys_list_open(sys_list *l, sys_root *root, const char *path) {
    int fd = sys_open_beneath(root, path, O_RDONLY | O_DIRECTORY);
    l->root = root;
    l->path = path;
    l->dir = fd < 0 ? NULL : fdopendir(fd);
    if (l->dir) return 0;
    int e = sys_error();
    if (fd >= 0) close(fd);
    return e;
}

static void sys_list_close(sys_list *l) { closedir(l->dir); }

/* 0 at the end. */
static int sys_list_next(sys_list *l) {
    const struct dirent *d = readdir(l->dir);
    if (d) l->name = d->d_name;
    return d != NULL;
}

/* Whether the present entry may be served: files and directories (size -1), also by a link that
   stays inside. */
static int sys_list_stat(const sys_list *l, int64_t *size) {
    char full[SYS_PATH_MAX + 300];
    struct stat st;
    if (fstatat(dirfd(l->dir), l->name, &st, AT_SYMLINK_NOFOLLOW) < 0) return 0;
    if (S_ISLNK(st.st_mode)) {
        snprintf(full, sizeof full, "%s%s%s", l->path, *l->path ? "/" : "", l->name);
        if (sys_stat_beneath(l->root, full, &st) < 0) return 0;
    }
    *size = S_ISDIR(st.st_mode) ? -1 : (int64_t)st.st_size;
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
}

/* ---- the log's output ---- */

typedef struct sys_out {
    int fd;
    int regular; /* a file, which never makes one wait */
} sys_out;

/* path NULL: standard output. What was open before is closed once the new one is there. */
static int sys_out_open(sys_out *o, const char *path) {
    struct stat st;
    int fd = 1;
    if (path) fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0644);
    if (path && fd < 0) /* a log that may only be written, or a socket */
        fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return sys_error();
    if (path && o->fd > 2) close(o->fd);
    o->fd = fd;
    o->regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    return 0;
}

/* How much may be written at once: whole lines, for a pipe as many as it takes in one piece. */
static size_t sys_out_portion(const sys_out *o, const char *data, size_t len) {
    if (o->regular || len <= PIPE_BUF) return len;
    size_t n = PIPE_BUF;
    while (n && data[n - 1] != '\n') n--;
    return n ? n : PIPE_BUF;
}

/* Bytes taken; 0: none for now, nor within that time; below 0: the error. */
static int64_t sys_out_write(sys_out *o, const char *data, size_t len, int wait_ms) {
    struct pollfd p = {o->fd, POLLOUT, 0};
    ssize_t n;
    if (!o->regular && poll(&p, 1, wait_ms) <= 0) return 0;
    do n = write(o->fd, data, sys_out_portion(o, data, len));
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return 0;
    return n < 0 ? sys_error() : n;
}

/* ---- the process ---- */

#define SYS_HELP_REOPEN "; SIGUSR1 reopens"
#define SYS_HELP_NOTES                                                                             \
    "SIGTERM, SIGINT (Ctrl-C) and SIGHUP end the server when all are served, at the latest "       \
    "after\n"                                                                                      \
    "three seconds; the second one ends it at once. Where the system has no openat2 (Linux 5.6)\n" \
    "no symbolic link below the root is followed.\n"
enum { SYS_REOPEN = SIGUSR1 }; /* the signal that asks for another log */
static const int sys_endings[] = {SIGINT, SIGTERM, SIGHUP};
enum { SYS_KEEP_OPEN = 1 }; /* files may stay open between requests */

/* A server may be started without standard streams; its sockets must not take their places. */
static int sys_prepare(char ***argv) {
    (void)argv;
    for (int fd = 0; fd <= 2; fd++) /* all below are open: the next file gets this number */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return -EBADF;
    signal(SIGPIPE, SIG_IGN); /* of a log's pipe; and sendfile is cheaper without a guard */
    signal(SIGXFSZ, SIG_IGN); /* of a log that becomes too large: write says so as well */
    return 0;
}

static int sys_signal_ignored(int signum) {
    struct sigaction now;
    return sigaction(signum, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

static void sys_signal_block(int signum, int block) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signum);
    sigprocmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* As many descriptors as are allowed. Returns how many of them may be kept open for files. */
static int sys_files_max(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return 64;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return 64;
    return limit.rlim_cur / 8 < 1024 ? (int)(limit.rlim_cur / 8) + 1 : 1024;
}
#endif

/* ==== >> dates and types ==== */
/* Dates in the one form that is sent and the three that have to be understood (RFC 9110, 5.6.7);
   media types by the file name's extension. */
static const char date_days[7][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};
static const char date_months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

enum { DATE_LEN = 29 };

static void date_format(char out[DATE_LEN + 1], int64_t t) {
    struct tm tm;
    if (sys_calendar(t, &tm) < 0 || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
        sys_calendar(0, &tm);
    char text[80];
    snprintf(text, sizeof text, "%.3s, %02d %s %04d %02d:%02d:%02d GMT", date_days[tm.tm_wday],
             tm.tm_mday, date_months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
             tm.tm_sec);
    memcpy(out, text, DATE_LEN);
    out[DATE_LEN] = 0;
}

/* Reads what the pattern says: D and a digit count, M a month, a name of a day, other bytes are
   themselves. A space before the single digit of a day stands for 0 (asctime). */
typedef struct date_text {
    const char *s;
    size_t len;
    int ok;
} date_text;

static int date_number(date_text *d, size_t digits) {
    int n = 0;
    if (d->len < digits) return d->ok = 0;
    for (size_t i = 0; i < digits; i++) {
        if (!http_is(d->s[i], HTTP_DIGIT)) return d->ok = 0;
        n = n * 10 + (d->s[i] - '0');
    }
    d->s += digits;
    d->len -= digits;
    return n;
}

static void date_word(date_text *d, const char *word) {
    size_t n = strlen(word);
    if (d->len < n || memcmp(d->s, word, n) != 0) {
        d->ok = 0;
        return;
    }
    d->s += n;
    d->len -= n;
}

static int date_month(date_text *d) {
    for (int i = 0; i < 12 && d->len >= 3; i++)
        if (memcmp(d->s, date_months[i], 3) == 0) {
            d->s += 3;
            d->len -= 3;
            return i;
        }
    return d->ok = 0;
}

/* hh:mm:ss; the 60th second is a leap second's. */
static void date_clock(date_text *d, struct tm *tm) {
    tm->tm_hour = date_number(d, 2);
    date_word(d, ":");
    tm->tm_min = date_number(d, 2);
    date_word(d, ":");
    tm->tm_sec = date_number(d, 2);
    if (tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60) d->ok = 0;
}

/* Sun, 06 Nov 1994 08:49:37 GMT, and Sunday, 06-Nov-94 08:49:37 GMT. A year of two digits is the
   latest with those digits that is not more than 50 years ahead. */
static void date_fixed(date_text *d, struct tm *tm, int full, int64_t now) {
    const char *gap = full ? "-" : " ";
    struct tm today;
    date_word(d, ", ");
    tm->tm_mday = date_number(d, 2);
    date_word(d, gap);
    tm->tm_mon = date_month(d);
    date_word(d, gap);
    int year = date_number(d, full ? 2 : 4);
    if (full && sys_calendar(now, &today) == 0) {
        int most = today.tm_year + 1900 + 50;
        year += most / 100 * 100;
        if (year > most) year -= 100;
    }
    tm->tm_year = year - 1900;
    date_word(d, " ");
    date_clock(d, tm);
    date_word(d, " GMT");
}

/* Sun Nov  6 08:49:37 1994 */
static void date_asctime(date_text *d, struct tm *tm) {
    date_word(d, " ");
    tm->tm_mon = date_month(d);
    date_word(d, " ");
    if (d->len && *d->s == ' ') {
        date_word(d, " ");
        tm->tm_mday = date_number(d, 1);
    } else
        tm->tm_mday = date_number(d, 2);
    date_word(d, " ");
    date_clock(d, tm);
    date_word(d, " ");
    tm->tm_year = date_number(d, 4) - 1900;
}

/* Seconds since 1970, or 0 in *ok if it is no HTTP-date, which is case-sensitive. */
static int64_t date_parse(const char *s, size_t len, int64_t now, int *ok) {
    struct tm tm;
    date_text d = {s, len, 1};
    int day = 0, full;
    memset(&tm, 0, sizeof tm);
    *ok = 0;
    while (day < 7 && (len < 3 || memcmp(s, date_days[day], 3) != 0)) day++;
    if (day == 7) return 0;
    size_t name = strlen(date_days[day]);
    full = len > name && memcmp(s, date_days[day], name) == 0;
    d.s += full ? name : 3;
    d.len -= full ? name : 3;
    if (!full && d.len && *d.s == ' ')
        date_asctime(&d, &tm);
    else
        date_fixed(&d, &tm, full, now);
    int leap = tm.tm_sec == 60;
    tm.tm_sec -= leap;
    struct tm same = tm;
    int64_t t = sys_seconds(&same) + leap;
    if (!d.ok || d.len || same.tm_mday != tm.tm_mday) return 0; /* 31 Feb has become another day */
    *ok = 1;
    return t;
}

/* Text types get the charset added. */
static const struct {
    const char *extension, *type;
} types[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"apng", "image/apng"},
    {"atom", "application/atom+xml"},
    {"avi", "video/x-msvideo"},
    {"avif", "image/avif"},
    {"bin", "application/octet-stream"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", "text/plain"},
    {"cjs", "text/javascript"},
    {"conf", "text/plain"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"eot", "application/vnd.ms-fontobject"},
    {"epub", "application/epub+zip"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"h", "text/plain"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar"},
    {"jar", "application/java-archive"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"jsonld", "application/ld+json"},
    {"jxl", "image/jxl"},
    {"log", "text/plain"},
    {"m4a", "audio/mp4"},
    {"m4v", "video/mp4"},
    {"map", "application/json"},
    {"md", "text/markdown"},
    {"mid", "audio/midi"},
    {"mjs", "text/javascript"},
    {"mkv", "video/matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"odp", "application/vnd.oasis.opendocument.presentation"},
    {"ods", "application/vnd.oasis.opendocument.spreadsheet"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"opus", "audio/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"ps", "application/postscript"},
    {"rss", "application/rss+xml"},
    {"rtf", "application/rtf"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain"},
    {"vtt", "text/vtt"},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "application/xml"},
    {"xz", "application/x-xz"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};

static const char *type_of(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && dot > name && i < sizeof types / sizeof *types; i++)
        if (strcasecmp(dot + 1, types[i].extension) == 0) return types[i].type;
    return "application/octet-stream";
}

/* ---- text ---- */

/* Text that is put together in memory of a fixed size; more than fits is left out, and full is
   set. */
typedef struct text_out {
    char *data;
    size_t len, size;
    int full;
} text_out;

static void text_bytes(text_out *t, const char *s, size_t n) {
    if (n > t->size - t->len) {
        t->full = 1;
        return;
    }
    memcpy(t->data + t->len, s, n);
    t->len += n;
}

static void text_put(text_out *t, const char *s) { text_bytes(t, s, strlen(s)); }

static void text_number(text_out *t, uint64_t n) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    text_bytes(t, digits + at, sizeof digits - at);
}

/* name: value CRLF */
static void text_field(text_out *t, const char *name, const char *value) {
    text_put(t, name);
    text_put(t, ": ");
    text_put(t, value);
    text_put(t, "\r\n");
}

/* As part of a path in a URL: what is not plain is percent-encoded. */
static void text_url(text_out *t, const char *s, size_t n) {
    static const char hex[] = "0123456789ABCDEF";
    if (3 * n > t->size - t->len) {
        t->full = 1;
        return;
    }
    char *to = t->data + t->len;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (http_class[c] & HTTP_PLAIN) {
            *to++ = s[i];
            continue;
        }
        *to++ = '%';
        *to++ = hex[c >> 4];
        *to++ = hex[c & 15];
    }
    t->len = (size_t)(to - t->data);
}

/* As text of an HTML page. */
static void text_html(text_out *t, const char *s) {
    for (;;) {
        size_t plain = 0;
        while (!(http_class[(unsigned char)s[plain]] & HTTP_MARKUP)) plain++;
        text_bytes(t, s, plain);
        s += plain;
        if (!*s) return;
        if (*s == '<')
            text_put(t, "&lt;");
        else if (*s == '>')
            text_put(t, "&gt;");
        else if (*s == '&')
            text_put(t, "&amp;");
        else
            text_put(t, *s == '"' ? "&quot;" : "?");
        s++;
    }
}

/* ==== >> paths and files ==== */
/* From a request's path to an open file, and never outside the root.

   A path is decoded once and made plain: no empty segment, no "." and no "..", before any file is
   asked for. How it is then opened beneath the root is the platform's.

   Files are cached: what the head says of one, and its content if that is small, or else a
   descriptor. What is cached is proven fresh by one stat of its path for every request (the
   requests of one on_data share it: all of them had come before): device, inode, size and both
   times are as they were when it was read. A file that changed less than two seconds before it was
   read could change again without moving the clock of its file system, so its content is not used
   a second time. stat goes by the path and so sees what watches (inotify) do not: hard links,
   mounts, another machine's changes. What it does not see are stores through a shared mapping, by
   which the times of a file need not move: so content is believed for two seconds at most, and then
   read anew. The content of larger files is never kept: sendfile takes it from where it is. Their
   descriptors are closed some seconds after they were last used: until then a file that is deleted
   has its space, and what it is on cannot be unmounted.

   The entity tag is made of the size and the time of modification, so that a chmod, a hard link or
   a rename does not make anybody fetch again what is the same. What may change within one tick of
   its clock has something more: small files have a sum of their content in it, large ones that were
   just modified a tag that is weak, and another one than they have later. (Of a large file that is
   stored to through a mapping the tag is the same as long as its time is: nothing tells.) */
enum {
    FILE_SMALL = 32 * 1024,        /* content kept in memory */
    FILE_COPY = 16 * 1024,         /* content that is copied next to its head */
    FILE_BYTES = 64 * 1024 * 1024, /* of content in all */
    FILE_COUNT = 4096,             /* files known at once */
    FILE_BUCKETS = 8192,           /* a power of 2 */
    FILE_SETTLED_NS = 2000000000,  /* as coarse as any file system's clock */
    FILE_SWEEP_MS = 2000,          /* content is believed so long, an unused descriptor twice */
    FILE_PATH_MAX = SYS_PATH_MAX,
    FILE_FIELDS_MAX = 1536 /* of head kept with a file */
};

typedef enum file_coding { FILE_PLAIN, FILE_GZIP, FILE_BROTLI } file_coding;
static const char *const file_suffix[] = {"", ".gz", ".br"};
static const char *const file_coding_name[] = {"", "gzip", "br"};

typedef struct file {
    struct file *bucket;
    struct file *older, *newer; /* in the order in which they came */
    char *path;                 /* below the root, with the coding's suffix */
    reactor_file fd;            /* SYS_NO_FILE: its content is in memory, or it does not exist */
    uint32_t hash;
    int refs;      /* the table's, and one for each answer that is being sent from fd */
    int used;      /* since it was last looked at for eviction */
    int settled;   /* the stamp proves the content, until the next sweep */
    int missing;   /* there is no such file */
    int coding;    /* file_coding */
    int weak;      /* its entity tag */
    uint64_t seen; /* it was fresh at this on_data */
    file_stamp stamp;
    const char *type;
    char etag[72];
    char *memory;           /* fields CRLF content; fields alone if fd is open */
    reactor_buffer *shared; /* the content, if it is too large to copy */
    size_t fields_len;      /* of those, without the empty line */
} file;

typedef struct server {
    reactor *r;
    const char *index, *charset, *cache_control;
    int list;
    int draining;
    sys_root root;
    /* files */
    file *buckets[FILE_BUCKETS];
    file *oldest, *newest;
    int count, open_count, open_max; /* of the table's own */
    size_t bytes;
    uint64_t epoch;       /* counts calls of on_data */
    uint64_t swept_epoch; /* at the last sweep */
    int sweeping;         /* its timer is set */
    /* time */
    int64_t now;
    long now_ns;
    char date[DATE_LEN + 1];
    char ok_head[96]; /* status line and Date of a 200 */
    size_t ok_head_len;
    /* requests under way */
    http_head scratch;
    struct pending *spare;
    int spares;
    uint64_t boundary; /* of multipart answers */
    struct conn_list *requests, *lingering, *waiting;
    int turn_ends;      /* on_turn_end will be called */
    int worked;         /* this turn has had its piece of heavy work */
    struct page *pages; /* listings that somebody has */
    size_t page_bytes;
    struct log *log;
} server;

static int page_sweep(server *s);

static int file_same_time(sys_time a, sys_time b) { return a.sec == b.sec && a.nsec == b.nsec; }

static int file_same(const file_stamp *a, const file_stamp *b) {
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           file_same_time(a->mtime, b->mtime) && file_same_time(a->ctime, b->ctime);
}

/* ---- paths ---- */

/* A request's path, made plain. */
typedef struct path {
    char text[FILE_PATH_MAX]; /* "" is the root */
    size_t len;
    int directory; /* it ended in a slash, or in a segment of dots */
} path;

/* One segment, decoded once: what is still encoded then is part of the name. -404: a name with a
   slash in it, which no file has. */
static int path_segment(path *p, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%') {
            c = (char)(http_hex(s[i + 1]) * 16 + http_hex(s[i + 2]));
            i += 2;
        }
        if (c == 0) return -400;
        if (c == '/') return -404;
        if (p->len == sizeof p->text - 8) return -404; /* room for a suffix */
        p->text[p->len++] = c;
    }
    return 0;
}

/* RFC 3986, 5.2.4, but that climbing above the root is refused. */
static int path_dots(path *p, size_t from) {
    size_t n = p->len - from;
    const char *s = p->text + from;
    p->directory = n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.');
    if (!p->directory) return 0;
    p->len = from ? from - 1 : 0;
    if (n < 2) return 0;
    if (!from) return -400;
    while (p->len && p->text[p->len - 1] != '/') p->len--;
    if (p->len) p->len--;
    return 0;
}

/* Names that begin with a dot are not for everybody, but for what RFC 8615 puts there. */
static int path_hidden(const path *p) {
    static const char known[] = ".well-known";
    const size_t n = sizeof known - 1;
    size_t at = 0;
    if (p->len >= n && memcmp(p->text, known, n) == 0 && (p->len == n || p->text[n] == '/')) at = n;
    if (at == 0 && p->text[0] == '.') return 1;
    for (; at + 1 < p->len; at++)
        if (p->text[at] == '/' && p->text[at + 1] == '.') return 1;
    return 0;
}

static int path_plain(path *p, const char *s, size_t n) {
    p->len = 0;
    p->directory = 1;
    for (size_t i = 0; i < n;) {
        const char *slash = (const char *)memchr(s + i, '/', n - i);
        size_t end = slash ? (size_t)(slash - s) : n;
        size_t from = p->len ? p->len + 1 : 0;
        if (from && from < sizeof p->text - 8) p->text[p->len++] = '/';
        int e = path_segment(p, s + i, end - i);
        if (e == 0) e = path_dots(p, from);
        if (e < 0) return e;
        if (slash && end + 1 == n) p->directory = 1;
        i = end + 1;
    }
    p->text[p->len] = 0;
    return path_hidden(p) ? -404 : 0;
}

/* ---- opening ---- */

/* What the system says of a path, as a status. */
static int file_status(int error) {
    switch (error) {
    case EACCES:
    case EPERM:
        return -403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return -503;
    case EIO:
        return -500;
    default:
        return -404;
    }
}

/* 0 and an open file with its stamp, 1 a directory, or a refusal. */
static int file_open(server *s, const char *name, reactor_file *fd, file_stamp *stamp) {
    if (sys_root_check(&s->root) < 0) return -404;
    int found = sys_open(&s->root, name, fd, stamp);
    if (found < 0) return file_status(-found);
    return found == SYS_OTHER ? -403 : found == SYS_DIRECTORY;
}

/* ---- the table ---- */

static uint32_t file_hash(const char *name, int coding) {
    uint32_t h = 2166136261u + (uint32_t)coding;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h ^ h >> 15;
}

static void file_unref(file *f) {
    if (--f->refs) return;
    if (f->fd != SYS_NO_FILE) sys_close(f->fd);
    reactor_buffer_unref(f->shared);
    if (!f->shared) free(f->memory);
    free(f->path);
    free(f);
}

/* A buffer of the reactor's may outlive the file. */
static void file_free_memory(void *data, size_t len, void *user) {
    (void)data;
    (void)len;
    free(user);
}

static size_t file_weight(const file *f) {
    return f->fd == SYS_NO_FILE && !f->missing ? (size_t)f->stamp.size : 0;
}

static void file_remove(server *s, file *f) {
    file **at = &s->buckets[f->hash % FILE_BUCKETS];
    while (*at != f) at = &(*at)->bucket;
    *at = f->bucket;
    if (f->older)
        f->older->newer = f->newer;
    else
        s->oldest = f->newer;
    if (f->newer)
        f->newer->older = f->older;
    else
        s->newest = f->older;
    s->count--;
    s->bytes -= file_weight(f);
    if (f->fd != SYS_NO_FILE) s->open_count--;
    file_unref(f);
}

static void file_append(server *s, file *f) {
    f->older = s->newest;
    f->newer = NULL;
    if (s->newest)
        s->newest->newer = f;
    else
        s->oldest = f;
    s->newest = f;
}

/* Makes room: the oldest goes, but one that was used meanwhile has another round. */
static void file_evict(server *s) {
    while (s->oldest &&
           (s->count > FILE_COUNT || s->bytes > FILE_BYTES || s->open_count > s->open_max)) {
        file *f = s->oldest;
        if (!f->used) {
            file_remove(s, f);
            continue;
        }
        f->used = 0;
        s->oldest = f->newer;
        if (s->oldest) s->oldest->older = NULL;
        file_append(s, f);
    }
}

/* Closes what was not used since the last sweep; content has to be proven anew, by reading it. Goes
   on while anything is left for it to do: an idle server sleeps. */
static void file_sweep(reactor *r, reactor_timer t, void *user) {
    server *s = (server *)user;
    int again = 0;
    (void)t;
    for (file *f = s->oldest, *newer; f; f = newer) {
        newer = f->newer;
        if (f->fd == SYS_NO_FILE)
            f->settled = f->missing;
        else if (f->seen <= s->swept_epoch)
            file_remove(s, f);
        else
            again = 1;
    }
    again |= page_sweep(s);
    s->swept_epoch = s->epoch;
    s->sweeping = again && reactor_after(r, FILE_SWEEP_MS, file_sweep, s, NULL) == 0;
}

static void file_sweep_later(server *s) {
    if (!s->sweeping) s->sweeping = reactor_after(s->r, FILE_SWEEP_MS, file_sweep, s, NULL) == 0;
}

/* Lets go of the files that are open. Those being sent are closed when they have been. */
static void file_release(server *s) {
    for (file *f = s->newest, *older; f && s->open_count; f = older) {
        older = f->older;
        if (f->fd != SYS_NO_FILE) file_remove(s, f);
    }
}

static void file_insert(server *s, file *f) {
    file **bucket = &s->buckets[f->hash % FILE_BUCKETS];
    f->bucket = *bucket;
    *bucket = f;
    file_append(s, f);
    s->count++;
    s->bytes += file_weight(f);
    if (f->fd != SYS_NO_FILE) s->open_count++;
    f->used = 1;
    if (!f->missing) file_sweep_later(s);
}

static file *file_find(server *s, const char *name, int coding, uint32_t hash) {
    file *f = s->buckets[hash % FILE_BUCKETS];
    while (f && (f->hash != hash || f->coding != coding || strcmp(f->path, name) != 0))
        f = f->bucket;
    return f;
}

/* ---- reading ---- */

/* A sum that tells contents apart which are not made to have the same. */
static uint64_t file_sum(const char *data, size_t len) {
    uint64_t sum = len, word;
    for (size_t i = 0; i < len; i += sizeof word) {
        word = 0;
        memcpy(&word, data + i, len - i < sizeof word ? len - i : sizeof word);
        sum = (sum ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        sum ^= sum >> 29;
    }
    return sum;
}

/* content NULL: it is not known. */
static void file_etag(const server *s, file *f, const char *content) {
    char more[24] = "";
    int64_t modified = f->stamp.mtime.sec * 1000000000 + f->stamp.mtime.nsec;
    f->weak = !content && modified >= s->now * 1000000000 + s->now_ns - FILE_SETTLED_NS;
    if (content)
        snprintf(more, sizeof more, "-%llx",
                 (unsigned long long)file_sum(content, (size_t)f->stamp.size));
    snprintf(f->etag, sizeof f->etag, "%s\"%llx-%llx.%lx%s%s%s%s\"", f->weak ? "W/" : "",
             (unsigned long long)f->stamp.size, (unsigned long long)f->stamp.mtime.sec,
             (unsigned long)f->stamp.mtime.nsec, more, f->weak ? "-new" : "", f->coding ? "-" : "",
             file_coding_name[f->coding]);
}

/* The head fields that every answer with this file's content has. */
static void file_fields(server *s, file *f, const char *type_name, const char *content,
                        text_out *t) {
    char date[DATE_LEN + 1];
    f->type = type_of(type_name);
    file_etag(s, f, content);
    text_put(t, "Content-Type: ");
    text_put(t, f->type);
    if (strncmp(f->type, "text/", 5) == 0 && *s->charset) {
        text_put(t, "; charset=");
        text_put(t, s->charset);
    }
    text_put(t, "\r\nContent-Length: ");
    text_number(t, (uint64_t)f->stamp.size);
    text_put(t, "\r\n");
    /* RFC 9110, 8.8.2.1: never later than Date. */
    date_format(date, f->stamp.mtime.sec < s->now ? f->stamp.mtime.sec : s->now);
    text_field(t, "Last-Modified", date);
    text_field(t, "ETag", f->etag);
    text_put(t, "Accept-Ranges: bytes\r\nVary: Accept-Encoding\r\n");
    if (f->coding) text_field(t, "Content-Encoding", file_coding_name[f->coding]);
    if (*s->cache_control) text_field(t, "Cache-Control", s->cache_control);
    text_put(t, "X-Content-Type-Options: nosniff\r\n");
}

/* All of the content, or -1 if the file is not as long as its stamp says. */
static int file_read(reactor_file fd, char *to, size_t size) {
    size_t at = 0;
    while (at < size) {
        int64_t n = sys_read(fd, to + at, size - at, (int64_t)at);
        if (n <= 0) return -1;
        at += (size_t)n;
    }
    return 0;
}

/* Fields, an empty line and the content in one piece of memory, so that the usual answer is two
   writes. The stamp is taken before and after: if it is the same, and old enough, it stands for
   these bytes. */
static int file_load_small(server *s, file *f, reactor_file fd, const char *type_name) {
    for (int tries = 0; tries < 4; tries++) {
        file_stamp after = f->stamp;
        size_t size = (size_t)f->stamp.size;
        char *memory = (char *)malloc(FILE_FIELDS_MAX + 2 + size);
        if (!memory) return -503;
        char *content = memory + FILE_FIELDS_MAX + 2;
        text_out t = {memory, 0, FILE_FIELDS_MAX, 0};
        int e = file_read(fd, content, size);
        if (e == 0) file_fields(s, f, type_name, content, &t);
        if (t.full) e = -1;
        memcpy(memory + t.len, "\r\n", 2);
        memmove(memory + t.len + 2, content, size);
        if (sys_stamp(fd, &after) < 0) e = -1;
        if (e == 0 && file_same(&after, &f->stamp)) {
            f->memory = memory;
            f->fields_len = t.len;
            return 0;
        }
        free(memory);
        f->stamp = after;
        if (after.size > FILE_SMALL) break;
    }
    return 1; /* it changes all the time: send it from where it is */
}

static int file_load_large(server *s, file *f, const char *type_name) {
    f->memory = (char *)malloc(FILE_FIELDS_MAX);
    if (!f->memory) return -503;
    text_out t = {f->memory, 0, FILE_FIELDS_MAX, 0};
    file_fields(s, f, type_name, NULL, &t);
    f->fields_len = t.len;
    return t.full ? -500 : 0;
}

static int file_is_settled(const server *s, const file_stamp *stamp) {
    int64_t changed = stamp->ctime.sec * 1000000000 + stamp->ctime.nsec;
    int64_t now = s->now * 1000000000 + s->now_ns;
    return changed < now - FILE_SETTLED_NS && stamp->mtime.sec < s->now;
}

/* Fills f from a descriptor that is the file's from here on. */
static int file_load(server *s, file *f, reactor_file fd, const char *type_name) {
    int e = 1;
    f->settled = file_is_settled(s, &f->stamp);
    if (f->stamp.size <= FILE_SMALL) e = file_load_small(s, f, fd, type_name);
    if (e < 0) {
        sys_close(fd);
        return e;
    }
    if (e == 0) {
        sys_close(fd);
        if (f->stamp.size <= FILE_COPY) return 0;
        f->shared = reactor_buffer_wrap(f->memory + f->fields_len + 2, (size_t)f->stamp.size,
                                        file_free_memory, f->memory);
        return f->shared ? 0 : -503;
    }
    f->fd = fd;
    e = file_load_large(s, f, type_name);
    f->settled = !f->weak; /* its content is not kept, but its tag will be another */
    return e;
}

static file *file_new(const char *name, int coding, uint32_t hash) {
    file *f = (file *)calloc(1, sizeof *f);
    if (!f) return NULL;
    f->path = strdup(name);
    f->fd = SYS_NO_FILE;
    f->coding = coding;
    f->hash = hash;
    f->refs = 1;
    if (f->path) return f;
    free(f);
    return NULL;
}

/* A file that is not in the table, or no longer as it was. Files that a coding's suffix leads to
   are remembered when they are missing too, for most are. */
static int file_make(server *s, const char *name, int coding, uint32_t hash, file **out) {
    file_stamp stamp;
    reactor_file fd = SYS_NO_FILE;
    int e = file_open(s, name, &fd, &stamp);
    if (e == -503 && s->oldest) { /* perhaps our own descriptors are those that are missing */
        int most = s->open_max;
        s->open_max = 0;
        file_evict(s);
        s->open_max = most;
        e = file_open(s, name, &fd, &stamp);
    }
    if (e && !(e == -404 && coding)) return e;
    file *f = file_new(name, coding, hash);
    if (!f) {
        if (e == 0) sys_close(fd);
        return -503;
    }
    if (e == 0) {
        char type_name[FILE_PATH_MAX];
        snprintf(type_name, sizeof type_name, "%.*s",
                 (int)(strlen(name) - strlen(file_suffix[coding])), name);
        f->stamp = stamp;
        e = file_load(s, f, fd, type_name);
        if (e < 0) {
            file_unref(f);
            return e;
        }
    } else
        f->missing = f->settled = 1;
    file_insert(s, f);
    file_evict(s);
    *out = f;
    return 0;
}

/* Whether what is known of a file is still so. */
static int file_fresh(server *s, file *f) {
    file_stamp now = {0, 0, 0, {0, 0}, {0, 0}};
    if (f->seen == s->epoch) return 1;
    if (!f->settled) return 0;
    int e = sys_stamp_by_name(&s->root, f->path, &now);
    if (e < 0) return f->missing && (e == -ENOENT || e == -ENOTDIR);
    return !f->missing && file_same(&now, &f->stamp);
}

/* The file of that name (with its coding's suffix), as it is now: 0 and the file; 1: a directory;
   below 0: minus the status. Good until the end of the callback, unless it is given a reference. */
static int file_get(server *s, const char *name, int coding, file **out) {
    uint32_t hash = file_hash(name, coding);
    file *f = file_find(s, name, coding, hash);
    if (f && !file_fresh(s, f)) {
        file_remove(s, f);
        f = NULL;
    }
    int e = f ? 0 : file_make(s, name, coding, hash, &f);
    if (e) return e;
    f->seen = s->epoch;
    f->used = 1;
    *out = f;
    return f->missing ? -404 : 0;
}

/* ==== >> conditions and ranges ==== */
/* RFC 9110, sections 13 (preconditions and their order), 14 (ranges) and 12.5.3 (codings). */

/* One entity-tag of a list, or "*". Returns 0 at the end, -1 for what is none. */
static int etag_next(http_slice *list, http_slice *tag, int *weak) {
    http_slice item;
    if (!http_next(list, &item)) return 0;
    *weak = item.len > 2 && item.data[0] == 'W' && item.data[1] == '/';
    tag->data = item.data + (*weak ? 2 : 0);
    tag->len = item.len - (*weak ? 2u : 0);
    return tag->len >= 2 && tag->data[0] == '"' && tag->data[tag->len - 1] == '"' ? 1 : -1;
}

static int etag_is_weak(const char *etag) { return etag[0] == 'W'; }

/* Whether a list of all fields of that name has the tag. The strong comparison needs both to be
   strong (8.8.3.2), the other one does not ask. etag NULL: nothing but "*" matches. */
static int etag_listed(const http_head *h, const char *data, http_name name, const char *etag,
                       int strong) {
    http_slice tag;
    int weak;
    int never = !etag || (strong && etag_is_weak(etag));
    if (etag && etag_is_weak(etag)) etag += 2;
    for (int i = 0; i < h->known; i++) {
        if (h->field[i].name != name) continue;
        http_slice list = {data + h->field[i].at, h->field[i].len};
        if (list.len == 1 && list.data[0] == '*') return 1;
        for (int e; (e = etag_next(&list, &tag, &weak)) != 0;)
            if (e > 0 && !never && strlen(etag) == tag.len &&
                memcmp(etag, tag.data, tag.len) == 0 && !(strong && weak))
                return 1;
    }
    return 0;
}

/* The one date of a field; a field that is repeated or no date is ignored (13.1.3, 13.1.4). */
static int condition_date(const server *s, const http_head *h, const char *data, http_name name,
                          int64_t *out) {
    http_slice v;
    int ok;
    if (!http_single(h, data, name, &v)) return 0;
    *out = date_parse(v.data, v.len, s->now, &ok);
    return ok;
}

/* 13.2.2. etag and mtime of what would be sent; etag NULL: it has none, and no date. Returns 200 to
   go on, 304 or 412. */
static int condition_status(const server *s, const http_head *h, const char *data, const char *etag,
                            int64_t mtime) {
    int64_t date;
    if (h->known == 0) return 200;
    if (http_has(h, HTTP_IF_MATCH)) {
        if (!etag_listed(h, data, HTTP_IF_MATCH, etag, 1)) return 412;
    } else if (etag && condition_date(s, h, data, HTTP_IF_UNMODIFIED_SINCE, &date) && mtime > date)
        return 412;
    if (http_has(h, HTTP_IF_NONE_MATCH))
        return etag_listed(h, data, HTTP_IF_NONE_MATCH, etag, 0) ? 304 : 200;
    if (etag && condition_date(s, h, data, HTTP_IF_MODIFIED_SINCE, &date) && mtime <= date)
        return 304;
    return 200;
}

/* 13.1.5: whether the part asked for belongs to what the client has. A tag has to be strong: what
   begins with W/, theirs or ours, is not compared. A date is good enough only if
   it is exact and a second has passed since, for else the file may have changed again within it
   (8.8.2.2). */
static int condition_if_range(const server *s, const http_head *h, const char *data,
                              const file *f) {
    http_slice v;
    int ok;
    if (!http_has(h, HTTP_IF_RANGE)) return 1;
    if (!http_single(h, data, HTTP_IF_RANGE, &v)) return 0;
    if (v.len && v.data[0] == '"')
        return strlen(f->etag) == v.len && memcmp(f->etag, v.data, v.len) == 0;
    int64_t date = date_parse(v.data, v.len, s->now, &ok);
    return ok && date == f->stamp.mtime.sec && date < s->now;
}

/* ---- ranges ---- */

enum { RANGE_MAX = 16 };

typedef struct range {
    int64_t from, to; /* the last byte, included */
} range;

/* Digits, saturating. *at moves behind them; -1 if there are none. */
static int64_t range_number(const char *s, size_t n, size_t *at) {
    int64_t v = 0;
    size_t from = *at;
    for (; *at < n && http_is(s[*at], HTTP_DIGIT); (*at)++)
        v = v > (INT64_MAX - 9) / 10 ? INT64_MAX : v * 10 + (s[*at] - '0');
    return *at == from ? -1 : v;
}

/* One range-spec of a file of that size. 1: satisfiable, 0: not, -1: no range at all. */
static int range_spec(http_slice v, int64_t size, range *out) {
    size_t at = 0;
    int64_t from = range_number(v.data, v.len, &at);
    if (at == v.len || v.data[at] != '-') return -1;
    at++;
    int64_t to = range_number(v.data, v.len, &at);
    if (at != v.len || (from < 0 && to < 0) || (from >= 0 && to >= 0 && to < from)) return -1;
    if (from < 0) { /* the last so many */
        if (to == 0) return 0;
        from = to < size ? size - to : 0;
        to = size - 1;
    }
    if (from >= size) return size == 0 && v.data[0] == '-' ? -1 : 0;
    out->from = from;
    out->to = to < 0 || to >= size ? size - 1 : to;
    return 1;
}

/* Adds a range; those that overlap or touch become one (15.3.7.2), in the place of the first. */
static int range_add(range *list, int count, range add) {
    for (int i = 0; i < count;) {
        range *have = &list[i];
        if (add.from > have->to + 1 || have->from > add.to + 1) {
            i++;
            continue;
        }
        if (have->from < add.from) add.from = have->from;
        if (have->to > add.to) add.to = have->to;
        memmove(have, have + 1, (size_t)(count - i - 1) * sizeof *have);
        count--;
        i = 0;
    }
    list[count] = add;
    return count + 1;
}

/* Ranges of a file. Above 0: so many; 0: send all of it, for there is no Range that is understood
   (14.2) or it asks for too many; -416. */
static int range_list(const http_head *h, const char *data, int64_t size, range list[RANGE_MAX]) {
    http_slice v, item;
    int count = 0, specs = 0;
    if (!http_single(h, data, HTTP_RANGE, &v)) return 0;
    if (v.len < 6 || strncasecmp(v.data, "bytes=", 6) != 0) return 0;
    v.data += 6;
    v.len -= 6;
    while (http_next(&v, &item)) {
        range one = {0, 0};
        int e = range_spec(item, size, &one);
        if (e < 0 || ++specs > RANGE_MAX) return 0;
        if (e > 0) count = range_add(list, count, one);
    }
    if (!specs) return 0;
    return count ? count : -416;
}

/* ---- codings ---- */

/* A quality in thousandths: "q=0.5". -1 if it is none. */
static int quality(http_slice v) {
    size_t at = 2;
    int q, scale = 100;
    if (v.len < 3 || (v.data[0] | 0x20) != 'q' || v.data[1] != '=') return -1;
    if (v.data[at] != '0' && v.data[at] != '1') return -1;
    q = (v.data[at++] - '0') * 1000;
    if (at < v.len && v.data[at++] != '.') return -1;
    for (; at < v.len && scale; at++, scale /= 10) {
        if (!http_is(v.data[at], HTTP_DIGIT)) return -1;
        q += (v.data[at] - '0') * scale;
    }
    return at < v.len || q > 1000 ? -1 : q;
}

/* coding [ OWS ";" OWS weight ] */
static int coding_item(http_slice v, http_slice *name) {
    const char *semicolon = (const char *)memchr(v.data, ';', v.len);
    *name = v;
    if (!semicolon) return 1000;
    name->len = (size_t)(semicolon - v.data);
    while (name->len && http_is(name->data[name->len - 1], HTTP_VALUE) &&
           (name->data[name->len - 1] == ' ' || name->data[name->len - 1] == '\t'))
        name->len--;
    http_slice weight = {semicolon + 1, v.len - (size_t)(semicolon + 1 - v.data)};
    while (weight.len && (*weight.data == ' ' || *weight.data == '\t')) {
        weight.data++;
        weight.len--;
    }
    int q = quality(weight);
    return q < 0 ? 0 : q;
}

/* What the client thinks of each coding: its quality, 0 not acceptable. Without the field it gets
   the plain file. */
static void coding_qualities(const http_head *h, const char *data, int q[3]) {
    int any = -1, set[3] = {-1, -1, -1};
    for (int i = 0; i < h->known; i++) {
        if (h->field[i].name != HTTP_ACCEPT_ENCODING) continue;
        http_slice list = {data + h->field[i].at, h->field[i].len}, item, name;
        while (http_next(&list, &item)) {
            int value = coding_item(item, &name);
            if (http_equal(name.data, name.len, "*")) any = value;
            if (http_equal(name.data, name.len, "identity")) set[FILE_PLAIN] = value;
            if (http_equal(name.data, name.len, "br")) set[FILE_BROTLI] = value;
            if (http_equal(name.data, name.len, "gzip") ||
                http_equal(name.data, name.len, "x-gzip"))
                set[FILE_GZIP] = value;
        }
    }
    for (int i = 0; i < 3; i++) q[i] = set[i] >= 0 ? set[i] : any >= 0 ? any : 0;
    /* The plain file is acceptable unless refused, and the last choice unless ranked. */
    if (set[FILE_PLAIN] < 0 && any != 0) q[FILE_PLAIN] = 1;
}

/* ==== >> responses ==== */
/* Everything that is sent. An answer is a head put together on the stack, or the one kept with the
   file, and a content that is in memory, in a shared buffer, or still in its file; the writes of
   one on_data leave together. */
enum { CONN_FILES_MAX = 8 }; /* answers from descriptors that one connection may have waiting */

/* A connection's state; what an idle one costs. */
typedef struct conn {
    reactor_conn id;
    struct pending *pending;  /* a request that is not whole yet */
    struct conn *next, *prev; /* in a conn_list */
    struct conn_list *list;
    int64_t since;  /* when it came there */
    char *peer;     /* for the log */
    uint16_t files; /* being sent */
    uint8_t held;   /* its pending request is whole and waits for a turn that has time for it */
    uint8_t ended;  /* the last answer is written: what comes is thrown away */
    uint8_t paused;
    uint8_t behind; /* whole requests may be waiting unread */
    uint8_t eof;    /* nothing more will come */
} conn;

/* One request being answered. */
typedef struct exchange {
    server *s;
    conn *k;
    const http_head *h; /* NULL: it was not understood */
    const char *data;   /* its head's text */
    size_t data_len;
    int more;  /* there is further input behind it */
    int keep;  /* the connection goes on */
    int later; /* it was not answered: there has been enough work in this turn */
    int stop;  /* answer no more for now: output is above high water, or broken */
    int status;
    uint64_t length; /* of the content */
    text_out head;
} exchange;

static void log_answer(exchange *x);
static int conn_waits(const conn *k);
static int turn_end_later(server *s);

static const char *status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } all[] = {
        {200, "200 OK"},
        {206, "206 Partial Content"},
        {301, "301 Moved Permanently"},
        {304, "304 Not Modified"},
        {400, "400 Bad Request"},
        {403, "403 Forbidden"},
        {404, "404 Not Found"},
        {405, "405 Method Not Allowed"},
        {406, "406 Not Acceptable"},
        {408, "408 Request Timeout"},
        {412, "412 Precondition Failed"},
        {413, "413 Content Too Large"},
        {414, "414 URI Too Long"},
        {416, "416 Range Not Satisfiable"},
        {417, "417 Expectation Failed"},
        {421, "421 Misdirected Request"},
        {431, "431 Request Header Fields Too Large"},
        {500, "500 Internal Server Error"},
        {501, "501 Not Implemented"},
        {503, "503 Service Unavailable"},
        {505, "505 HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].status == status) return all[i].text;
    return "500 Internal Server Error";
}

/* Above high water the rest waits until the client has read; that it is refused at all means
   that the connection is gone, or that there is no memory. */
static void send_verdict(exchange *x, int e) {
    if (e != 0) x->stop = 1;
    if (e < 0) {
        x->keep = 0;
        reactor_abort(x->s->r, x->k->id);
    }
}

static void send_bytes(exchange *x, const char *data, size_t len) {
    if (len) send_verdict(x, reactor_write(x->s->r, x->k->id, data, len));
}

static void send_text(exchange *x, const char *s) { send_bytes(x, s, strlen(s)); }

static void on_sent(reactor *r, reactor_conn c, int result, void *user) {
    conn *k = (conn *)reactor_state(r, c);
    (void)result; /* if it is not 0 the connection is being closed: on_close will say why */
    file_unref((file *)user);
    if (!k) return;
    k->files--;
    if (!k->paused || k->files > CONN_FILES_MAX / 2) return;
    k->paused = 0;
    if (!conn_waits(k)) reactor_resume(r, c);
}

/* Part of a file's content. The reactor ends the connection should the file have become shorter, so
   that nobody takes what was sent for all of it. */
static void send_content(exchange *x, file *f, int64_t from, int64_t len) {
    reactor *r = x->s->r;
    if (x->h->method == HTTP_HEAD || len == 0) return;
    if (f->fd == SYS_NO_FILE && f->shared && len == f->stamp.size) {
        send_verdict(x, reactor_write_shared(r, x->k->id, f->shared));
    } else if (f->fd == SYS_NO_FILE) {
        send_bytes(x, f->memory + f->fields_len + 2 + from, (size_t)len);
    } else {
        int e = reactor_sendfile(r, x->k->id, f->fd, from, len, 0, on_sent, f);
        send_verdict(x, e);
        if (e < 0) return;
        f->refs++;
        x->k->files++;
    }
}

/* ---- heads ---- */

enum { HEAD_SIZE = 24 * 1024 }; /* a Location is the longest thing there is */

/* Status line, Date and what is the same for all. An answer's version is ours (RFC 9110, 2.5). */
static void head_begin(exchange *x, char *memory, int status) {
    text_out head = {memory, 0, HEAD_SIZE, 0};
    x->head = head;
    x->status = status;
    text_put(&x->head, "HTTP/1.1 ");
    text_put(&x->head, status_text(status));
    text_put(&x->head, "\r\n");
    text_field(&x->head, "Date", x->s->date);
}

static void head_length(exchange *x, uint64_t length) {
    text_put(&x->head, "Content-Length: ");
    text_number(&x->head, length);
    text_put(&x->head, "\r\n");
    x->length = length;
}

/* What the connection does next, RFC 9112, 9.3 and 9.6. */
static const char *head_end(const exchange *x) {
    if (!x->keep) return "Connection: close\r\n\r\n";
    return x->h->minor == 0 ? "Connection: keep-alive\r\n\r\n" : "\r\n";
}

static void head_send(exchange *x) {
    text_put(&x->head, head_end(x));
    send_bytes(x, x->head.data, x->head.len);
}

/* An answer that is not a file: a line of text that says what the status says. */
static void send_status(exchange *x, int status, const char *name, const char *value) {
    char memory[HEAD_SIZE];
    const char *what = status_text(status);
    head_begin(x, memory, status);
    if (name) text_field(&x->head, name, value);
    text_put(&x->head, "Content-Type: text/plain; charset=utf-8\r\n"
                       "X-Content-Type-Options: nosniff\r\n");
    head_length(x, strlen(what) + 1);
    head_send(x);
    if (x->h && x->h->method == HTTP_HEAD) return;
    send_text(x, what);
    send_text(x, "\n");
}

/* RFC 9110, 15.4.2. The location is a path, put together from what was decoded and made plain: it
   begins with one slash, so that it cannot name another host. */
static void send_redirect(exchange *x, const path *p) {
    char location[HEAD_SIZE - 1024];
    text_out t = {location, 0, sizeof location - 1, 0};
    text_put(&t, "/");
    text_url(&t, p->text, p->len);
    text_put(&t, "/");
    text_bytes(&t, x->data + x->h->query, x->h->query_len);
    location[t.len] = 0;
    if (t.full)
        send_status(x, 414, NULL, NULL);
    else
        send_status(x, 301, "Location", location);
}

/* 9.3.7; the asterisk asks about the server, other targets get the same, for all are alike. */
static void send_options(exchange *x) {
    char memory[HEAD_SIZE];
    head_begin(x, memory, 200);
    text_field(&x->head, "Allow", "GET, HEAD, OPTIONS");
    text_field(&x->head, "Accept-Ranges", "bytes");
    head_length(x, 0);
    head_send(x);
}

/* ---- files ---- */

/* What 206 and 304 have to repeat of the 200 (15.3.7, 15.4.5). */
static void head_validators(exchange *x, const file *f) {
    text_field(&x->head, "ETag", f->etag);
    text_field(&x->head, "Vary", "Accept-Encoding");
    if (*x->s->cache_control) text_field(&x->head, "Cache-Control", x->s->cache_control);
}

static void head_type(text_out *t, const server *s, const file *f) {
    text_put(t, "Content-Type: ");
    text_put(t, f->type);
    if (strncmp(f->type, "text/", 5) == 0 && *s->charset) {
        text_put(t, "; charset=");
        text_put(t, s->charset);
    }
    text_put(t, "\r\n");
}

/* To who sent If-Range only what is needed: it has the rest (15.3.7). */
static void head_partial(exchange *x, const file *f) {
    char date[DATE_LEN + 1];
    head_validators(x, f);
    text_put(&x->head, "Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n");
    if (http_has(x->h, HTTP_IF_RANGE)) return;
    date_format(date, f->stamp.mtime.sec < x->s->now ? f->stamp.mtime.sec : x->s->now);
    text_field(&x->head, "Last-Modified", date);
    if (f->coding) text_field(&x->head, "Content-Encoding", file_coding_name[f->coding]);
}

static void text_range(text_out *t, const range *one, int64_t size) {
    text_put(t, "Content-Range: bytes ");
    text_number(t, (uint64_t)one->from);
    text_put(t, "-");
    text_number(t, (uint64_t)one->to);
    text_put(t, "/");
    text_number(t, (uint64_t)size);
    text_put(t, "\r\n");
}

static void send_part(exchange *x, file *f, const range *one) {
    char memory[HEAD_SIZE];
    head_begin(x, memory, 206);
    if (!http_has(x->h, HTTP_IF_RANGE)) head_type(&x->head, x->s, f);
    text_range(&x->head, one, f->stamp.size);
    head_length(x, (uint64_t)(one->to - one->from + 1));
    head_partial(x, f);
    head_send(x);
    send_content(x, f, one->from, one->to - one->from + 1);
}

/* What stands before a part of several, RFC 9110, 14.6. */
static void text_part(text_out *t, const server *s, const file *f, const range *one,
                      const char *boundary, int first) {
    t->len = 0;
    text_put(t, first ? "--" : "\r\n--");
    text_put(t, boundary);
    text_put(t, "\r\n");
    head_type(t, s, f);
    text_range(t, one, f->stamp.size);
    text_put(t, "\r\n");
}

/* The length is known before the first byte leaves. The boundary is random and used once, so that
   no file can have it inside. */
static void send_parts(exchange *x, file *f, const range *list, int count) {
    char memory[HEAD_SIZE], part[1024], boundary[40];
    text_out t = {part, 0, sizeof part, 0};
    uint64_t length = 0;
    x->s->boundary = x->s->boundary * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    snprintf(boundary, sizeof boundary, "reactor-%016llx", (unsigned long long)x->s->boundary);
    for (int i = 0; i < count; i++) {
        text_part(&t, x->s, f, &list[i], boundary, i == 0);
        length += t.len + (uint64_t)(list[i].to - list[i].from + 1);
    }
    head_begin(x, memory, 206);
    text_put(&x->head, "Content-Type: multipart/byteranges; boundary=");
    text_put(&x->head, boundary);
    text_put(&x->head, "\r\n");
    head_length(x, length + strlen(boundary) + 8); /* CRLF -- boundary -- CRLF */
    head_partial(x, f);
    head_send(x);
    for (int i = 0; i < count; i++) {
        text_part(&t, x->s, f, &list[i], boundary, i == 0);
        send_bytes(x, part, t.len);
        send_content(x, f, list[i].from, list[i].to - list[i].from + 1);
    }
    snprintf(part, sizeof part, "\r\n--%s--\r\n", boundary);
    send_text(x, part);
}

/* 14.4: the size, so that the client can ask better. */
static void send_unsatisfiable(exchange *x, const file *f) {
    char size[40];
    snprintf(size, sizeof size, "bytes */%lld", (long long)f->stamp.size);
    send_status(x, 416, "Content-Range", size);
}

static void send_not_modified(exchange *x, const file *f) {
    char memory[HEAD_SIZE];
    head_begin(x, memory, 304);
    if (f) head_validators(x, f);
    head_send(x);
}

/* The usual answer: what is kept with the file, behind the line of the day. */
static void send_whole(exchange *x, file *f) {
    const char *end = head_end(x);
    size_t len = f->fields_len;
    int here = f->fd == SYS_NO_FILE && !f->shared && x->h->method != HTTP_HEAD;
    x->status = 200;
    x->length = (uint64_t)f->stamp.size;
    send_bytes(x, x->s->ok_head, x->s->ok_head_len);
    if (*end == '\r' && f->fd == SYS_NO_FILE) {
        send_bytes(x, f->memory, len + 2 + (here ? (size_t)f->stamp.size : 0));
        if (!here) send_content(x, f, 0, f->stamp.size);
        return;
    }
    send_bytes(x, f->memory, len);
    send_text(x, end);
    send_content(x, f, 0, f->stamp.size);
}

static void send_file(exchange *x, file *f) {
    range list[RANGE_MAX];
    int status = condition_status(x->s, x->h, x->data, f->etag, f->stamp.mtime.sec);
    int count = 0;
    if (status == 412)
        send_status(x, 412, NULL, NULL);
    else if (status == 304)
        send_not_modified(x, f);
    else {
        if (x->h->known && x->h->method == HTTP_GET && /* 14.2: a Range is for GET alone */
            condition_if_range(x->s, x->h, x->data, f))
            count = range_list(x->h, x->data, f->stamp.size, list);
        if (count < 0)
            send_unsatisfiable(x, f);
        else if (count == 0)
            send_whole(x, f);
        else if (count == 1)
            send_part(x, f, list);
        else
            send_parts(x, f, list, count);
    }
}

/* ---- codings ---- */

/* A compressed file beside the plain one stands for it if the client likes that at least as well,
   and if it is not older (in whole seconds, which is all that archives keep). */
static file *coded_file(exchange *x, path *p, const file *plain, const int q[3]) {
    static const int order[] = {FILE_BROTLI, FILE_GZIP};
    file *best = NULL, *f;
    for (int i = 0; i < 2; i++) {
        int coding = order[i];
        if (q[coding] == 0 || q[coding] < q[FILE_PLAIN]) continue;
        if (best && q[coding] <= q[best->coding]) continue;
        memcpy(p->text + p->len, file_suffix[coding], strlen(file_suffix[coding]) + 1);
        int e = file_get(x->s, p->text, coding, &f);
        p->text[p->len] = 0;
        if (e || f->stamp.mtime.sec < plain->stamp.mtime.sec) continue;
        if (best) file_unref(best);
        best = f;
        best->refs++;
    }
    return best;
}

static void send_negotiated(exchange *x, path *p, file *f) {
    int q[3];
    file *coded = NULL;
    f->refs++; /* the table may let go of it when others are looked up */
    if (http_has(x->h, HTTP_ACCEPT_ENCODING)) {
        coding_qualities(x->h, x->data, q);
        coded = coded_file(x, p, f, q);
        if (!coded && q[FILE_PLAIN] == 0) {
            send_status(x, 406, "Vary", "Accept-Encoding");
            file_unref(f);
            return;
        }
    }
    send_file(x, coded ? coded : f);
    if (coded) file_unref(coded);
    file_unref(f);
}

/* ---- listings ---- */

/* A listing is the one answer that costs milliseconds for a line of request. So a turn makes one at
   most, whoever asks (see "fairness" below), and what was made is shared: by the requests of one
   on_data, and by those of the next quarter of a second if the directory is as it was (a size in it
   may be that old). A page that comes out as one which somebody is still being sent is that one, so
   that many who do not read hold one page together. All pages together have a limit, too. */
enum {
    LIST_MAX = 2000,
    LIST_LOOK = 10000,
    LIST_NAMES = 512 * 1024,
    LIST_BYTES = 1 << 20,
    LIST_ROW = 64, /* beside what its name becomes, nine times as long at most */
    PAGE_MS = 250,
    PAGE_BYTES = 16 << 20
};

typedef struct list_entry {
    const char *name;
    int64_t size; /* -1: a directory */
} list_entry;

typedef struct listing {
    int count;
    int more; /* the directory has further entries */
    size_t len;
    list_entry entries[LIST_MAX];
    char names[LIST_NAMES];
} listing;

/* A listing that somebody has: the table below, connections. */
typedef struct page {
    server *s;
    struct page *next;
    char *path;
    file_stamp stamp; /* of the directory, before it was read */
    int settled;      /* which proves its entries */
    int kept;         /* the table has a reference */
    int64_t made;
    uint64_t seen; /* it was fresh at this on_data */
    reactor_buffer *buffer;
    const char *data;
    size_t len;
} page;

static int list_compare(const void *a, const void *b) {
    const list_entry *x = (const list_entry *)a, *y = (const list_entry *)b;
    if ((x->size < 0) != (y->size < 0)) return x->size < 0 ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int list_read(server *s, const path *p, listing *l) {
    sys_list dir;
    int64_t size;
    int seen = 0, e = sys_list_open(&dir, &s->root, p->text);
    if (e < 0) return file_status(-e);
    while (!l->more && sys_list_next(&dir)) {
        size_t n = strlen(dir.name) + 1;
        l->more = seen++ == LIST_LOOK; /* everybody waits for this */
        if (dir.name[0] == '.' || !sys_list_stat(&dir, &size)) continue;
        l->more |= l->count == LIST_MAX || n > LIST_NAMES - l->len;
        if (l->more) continue;
        list_entry *entry = &l->entries[l->count++];
        entry->name = (const char *)memcpy(l->names + l->len, dir.name, n);
        entry->size = size;
        l->len += n;
    }
    sys_list_close(&dir);
    qsort(l->entries, (size_t)l->count, sizeof *l->entries, list_compare);
    return 0;
}

static void list_row(text_out *t, const list_entry *e, size_t name_len) {
    const char *slash = e->size < 0 ? "/" : "";
    text_put(t, "<tr><td><a href=\"./");
    text_url(t, e->name, name_len);
    text_put(t, slash);
    text_put(t, "\">");
    text_html(t, e->name);
    text_put(t, slash);
    text_put(t, "</a></td><td>");
    if (e->size >= 0) text_number(t, (uint64_t)e->size);
    text_put(t, "</td></tr>\n");
}

static void list_text(text_out *t, const path *p, const listing *l) {
    static const char end[] = "</table>\n</html>\n",
                      more[] = "</table>\n<p>and more</p>\n</html>\n";
    int i = 0;
    text_put(t, "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<title>/");
    text_html(t, p->text);
    text_put(t, "</title>\n<style>body{font:16px sans-serif;margin:2em}td{padding:.1em 1em .1em 0}"
                "td+td{text-align:right}</style>\n<h1>/");
    text_html(t, p->text);
    text_put(t, "</h1>\n<table>\n");
    if (p->len) text_put(t, "<tr><td><a href=\"../\">../</a></td><td></td></tr>\n");
    for (; i < l->count; i++) {
        size_t n = strlen(l->entries[i].name);
        if (t->size - t->len < 9 * n + LIST_ROW + sizeof more) break;
        list_row(t, &l->entries[i], n);
    }
    text_put(t, l->more || i < l->count ? more : end);
}

/* ---- pages ---- */

/* Nobody has it any more. */
static void page_free(void *data, size_t len, void *user) {
    page *g = (page *)user, **at = &g->s->pages;
    while (*at != g) at = &(*at)->next;
    *at = g->next;
    g->s->page_bytes -= len;
    free(g->path);
    free(g);
    free(data);
}

/* The table lets go of it; those whom it is being sent to have it still. */
static void page_drop(page *g) {
    if (!g->kept) return;
    g->kept = 0;
    reactor_buffer_unref(g->buffer);
}

/* All of name, those not seen since epoch, or all that there are (name NULL, epoch the highest). */
static void page_drop_all(server *s, const char *name, uint64_t epoch) {
    for (page *g = s->pages, *next; g; g = next) {
        next = g->next;
        if (name ? strcmp(g->path, name) == 0 : g->seen <= epoch) page_drop(g);
    }
}

/* Returns whether some are left to be looked at again. */
static int page_sweep(server *s) {
    page_drop_all(s, NULL, s->swept_epoch);
    for (page *g = s->pages; g; g = g->next)
        if (g->kept) return 1;
    return 0;
}

/* One that is still true. */
static page *page_find(server *s, const char *name) {
    file_stamp now;
    page *g = s->pages;
    while (g && !(g->kept && strcmp(g->path, name) == 0)) g = g->next;
    if (!g || g->seen == s->epoch) return g;
    if (!g->settled || reactor_now(s->r) - g->made >= PAGE_MS) return NULL;
    if (sys_stamp_by_name(&s->root, name, &now) < 0 || !file_same(&now, &g->stamp)) return NULL;
    return g;
}

/* One that somebody has, with the same text. */
static page *page_same(server *s, const char *name, const text_out *t) {
    page *g = s->pages;
    while (g && !(g->len == t->len && strcmp(g->path, name) == 0 &&
                  memcmp(g->data, t->data, t->len) == 0))
        g = g->next;
    return g;
}

/* Takes the text's memory if it succeeds. */
static page *page_new(server *s, const char *name, text_out *t) {
    page *g = (page *)calloc(1, sizeof *g);
    if (!g) return NULL;
    char *less = (char *)realloc(t->data, t->len);
    if (less) t->data = less;
    g->path = strdup(name);
    if (g->path) g->buffer = reactor_buffer_wrap(t->data, t->len, page_free, g);
    if (!g->buffer) {
        free(g->path);
        free(g);
        return NULL;
    }
    g->s = s;
    g->data = t->data;
    g->len = t->len;
    g->kept = 1;
    g->next = s->pages;
    s->pages = g;
    s->page_bytes += g->len;
    return g;
}

/* Of a text that is ready, and whose memory it takes: one that is the same, or a new one. */
static int page_of(server *s, const char *name, text_out *t, page **out) {
    page *g = page_same(s, name, t);
    if (g) {
        free(t->data);
        if (!g->kept) reactor_buffer_ref(g->buffer);
        g->kept = 1;
    } else {
        page_drop_all(s, name, 0);
        if (s->page_bytes + t->len > PAGE_BYTES) page_drop_all(s, NULL, UINT64_MAX);
        if (s->page_bytes + t->len <= PAGE_BYTES) g = page_new(s, name, t);
        if (!g) free(t->data);
    }
    *out = g;
    return g ? 0 : -503;
}

/* Reads the directory. */
static int page_make(server *s, const path *p, page **out) {
    file_stamp stamp;
    if (sys_stamp_by_name(&s->root, p->text, &stamp) < 0) return -404;
    listing *l = (listing *)malloc(sizeof *l);
    text_out t = {(char *)malloc(LIST_BYTES), 0, LIST_BYTES, 0};
    if (l) l->count = l->more = 0, l->len = 0;
    int e = l && t.data ? list_read(s, p, l) : -503;
    if (e == 0) list_text(&t, p, l);
    free(l);
    if (e < 0) {
        free(t.data);
        return e;
    }
    e = page_of(s, p->text, &t, out);
    if (e < 0) return e;
    (*out)->stamp = stamp;
    (*out)->settled = file_is_settled(s, &stamp);
    (*out)->made = reactor_now(s->r);
    file_sweep_later(s);
    return 0;
}

static void send_page(exchange *x, const page *g) {
    char memory[HEAD_SIZE];
    head_begin(x, memory, 200);
    text_put(&x->head, "Content-Type: text/html; charset=utf-8\r\n"
                       "X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n");
    head_length(x, g->len);
    head_send(x);
    if (x->h->method == HTTP_HEAD) return;
    send_verdict(x, reactor_write_shared(x->s->r, x->k->id, g->buffer));
}

/* A directory has no validators; "*" matches it all the same (13.1.1). */
static void send_listing(exchange *x, const path *p) {
    server *s = x->s;
    int e = 0, status = condition_status(s, x->h, x->data, NULL, 0);
    if (status == 412) {
        send_status(x, 412, NULL, NULL);
        return;
    }
    if (status == 304) {
        send_not_modified(x, NULL);
        return;
    }
    page *g = page_find(s, p->text);
    x->later = !g && s->worked;
    if (x->later) return;
    if (!g) {
        s->worked = turn_end_later(s);
        e = page_make(s, p, &g);
    }
    if (e < 0) {
        send_status(x, -e, NULL, NULL);
        return;
    }
    g->seen = s->epoch;
    send_page(x, g);
}

/* ---- which answer ---- */

/* A directory's path that ends in a slash: its index, or else its listing. */
static void answer_directory(exchange *x, path *p) {
    file_stamp stamp;
    path index;
    file *f;
    reactor_file fd = SYS_NO_FILE;
    int n = snprintf(index.text, sizeof index.text - 8, "%s%s%s", p->text, p->len ? "/" : "",
                     x->s->index);
    int fits = n > 0 && (size_t)n < sizeof index.text - 8;
    index.len = fits ? (size_t)n : 0;
    int e = fits ? file_get(x->s, index.text, FILE_PLAIN, &f) : -404;
    if (e == 0) {
        send_negotiated(x, &index, f);
        return;
    }
    if (e == 1 || e == -404) e = file_open(x->s, p->text, &fd, &stamp);
    if (fd != SYS_NO_FILE) sys_close(fd);
    if (e == 1 && x->s->list)
        send_listing(x, p);
    else
        send_status(x, e == 1 ? 403 : e == 0 ? 404 : -e, NULL, NULL);
}

static void answer_path(exchange *x) {
    path p;
    file *f;
    int e = path_plain(&p, x->data + x->h->path, x->h->path_len);
    if (e < 0) {
        send_status(x, -e, NULL, NULL);
    } else if (p.directory) {
        answer_directory(x, &p);
    } else {
        e = file_get(x->s, p.text, FILE_PLAIN, &f);
        if (e == 0)
            send_negotiated(x, &p, f);
        else if (e == 1)
            send_redirect(x, &p);
        else
            send_status(x, -e, NULL, NULL);
    }
}

/* A request that is whole. */
static void answer(exchange *x) {
    const http_head *h = x->h;
    /* Draining, the last of those that have come says that the connection ends (RFC 9112, 9.6). */
    x->keep = http_persists(h) && (!x->s->draining || x->more);
    if (h->flags & HTTP_MISDIRECTED)
        send_status(x, 421, NULL, NULL);
    else if (h->method == HTTP_UNKNOWN)
        send_status(x, 501, NULL, NULL);
    else if (h->method == HTTP_OTHER)
        send_status(x, 405, "Allow", "GET, HEAD, OPTIONS");
    else if (h->method == HTTP_OPTIONS)
        send_options(x);
    else
        answer_path(x);
    if (!x->later) log_answer(x);
}

/* ==== >> connection ==== */
/* Requests out of the input, one after the other, and the time limits.

   A head that is not whole stays unconsumed: the reactor keeps it and offers it again together with
   what follows. Only then is there a struct pending, with what the parser knows so far; it holds a
   copy of the head while a body is read. An idle connection has neither.

   Time limits. The reactor's idle timeout ends connections that ask for nothing, its write timeout
   those that do not read. A request has to be whole some time after its first byte, however busily
   it trickles: since that time is the same for all, the connections it runs for stand in a queue in
   the order in which it will run out, with one timer for all of them.

   Fairness. One on_data answers so many requests; who has more is paused until the next turn, so
   that all others are served in between. Of what costs milliseconds a turn does one piece, whoever
   asks: a request that would need a second one is held, its connection paused, and they are
   answered one a turn in the order in which they came. */
enum { PENDING_SPARE = 64, LINGER_MS = 5000, CONN_STEPS = 64 };

typedef struct pending {
    struct pending *next; /* when it is spare */
    http_head head;
    http_body body;
    char *copy; /* of the head's text: a body is being read */
    size_t copy_len;
} pending;

/* Connections by the time that runs out for them. */
typedef struct conn_list {
    server *s;
    conn *first, *last;
    int64_t ms;
    int armed;
    void (*expired)(server *s, conn *k); /* NULL: there is no limit */
} conn_list;

static void list_timer(reactor *r, reactor_timer t, void *user);

static void list_arm(conn_list *l) {
    if (l->armed || !l->first || !l->expired) return;
    int64_t left = l->first->since + l->ms - reactor_now(l->s->r);
    l->armed = reactor_after(l->s->r, left > 0 ? left : 1, list_timer, l, NULL) == 0;
}

static void list_leave(conn *k) {
    conn_list *l = k->list;
    if (!l) return;
    if (k->prev)
        k->prev->next = k->next;
    else
        l->first = k->next;
    if (k->next)
        k->next->prev = k->prev;
    else
        l->last = k->prev;
    k->list = NULL;
    k->next = k->prev = NULL;
}

static void list_enter(conn_list *l, conn *k) {
    list_leave(k);
    k->list = l;
    k->since = reactor_now(l->s->r);
    k->prev = l->last;
    if (l->last)
        l->last->next = k;
    else
        l->first = k;
    l->last = k;
    list_arm(l);
}

static void list_timer(reactor *r, reactor_timer t, void *user) {
    conn_list *l = (conn_list *)user;
    (void)t;
    l->armed = 0;
    while (l->first && l->first->since + l->ms <= reactor_now(r)) {
        conn *k = l->first;
        list_leave(k);
        l->expired(l->s, k);
    }
    list_arm(l);
}

/* ---- requests that are not whole ---- */

static void pending_free(server *s, conn *k) {
    pending *p = k->pending;
    if (k->list == s->requests) list_leave(k);
    if (!p) return;
    k->pending = NULL;
    k->held = 0;
    free(p->copy);
    p->copy = NULL;
    if (s->spares == PENDING_SPARE) {
        free(p);
        return;
    }
    p->next = s->spare;
    s->spare = p;
    s->spares++;
}

static pending *pending_new(server *s, conn *k) {
    pending *p = s->spare;
    if (p) {
        s->spare = p->next;
        s->spares--;
    } else
        p = (pending *)malloc(sizeof *p);
    if (!p) return NULL;
    p->copy = NULL;
    k->pending = p;
    list_enter(s->requests, k);
    return p;
}

/* Nothing of it has come but empty lines. */
static int pending_is_blank(const pending *p) {
    const http_head *h = &p->head;
    return !p->copy && !h->inside && h->scanned == h->line && h->line;
}

/* ---- the time ---- */

/* The time is looked at when something has come, not all the time: an idle server sleeps. */
static void server_tick(server *s) {
    sys_time t = sys_now();
    s->epoch++;
    s->now_ns = t.nsec;
    if (s->now == t.sec && *s->date) return;
    s->now = t.sec;
    date_format(s->date, t.sec);
    text_out head = {s->ok_head, 0, sizeof s->ok_head, 0};
    text_put(&head, "HTTP/1.1 200 OK\r\n");
    text_field(&head, "Date", s->date);
    s->ok_head_len = head.len;
}

/* ---- ends ---- */

/* The end in stages, RFC 9112, 9.6: FIN after the answer, but what the client goes on sending is
   read and thrown away for a while, since closing would reset it and it might lose the answer. */
static void conn_end(server *s, conn *k) {
    k->ended = 1;
    pending_free(s, k);
    reactor_shutdown(s->r, k->id);
    list_enter(s->lingering, k);
}

/* An answer to what is not, or not wholly, a request. What follows it cannot be understood. */
static void conn_refuse(server *s, conn *k, const http_head *h, const char *data, size_t len,
                        int status) {
    exchange x;
    memset(&x, 0, sizeof x);
    x.s = s;
    x.k = k;
    x.h = h && h->line_len ? h : NULL;
    x.data = data;
    x.data_len = len;
    if (status == 405)
        send_status(&x, status, "Allow", "GET, HEAD, OPTIONS");
    else
        send_status(&x, status, NULL, NULL);
    log_answer(&x);
    conn_end(s, k);
}

/* A request did not get whole in time. Empty lines alone are not the beginning of one. */
static void request_expired(server *s, conn *k) {
    pending *p = k->pending;
    server_tick(s);
    if (pending_is_blank(p))
        reactor_close(s->r, k->id);
    else
        conn_refuse(s, k, p->copy ? &p->head : NULL, p->copy, p->copy_len, 408);
}

/* Enough has been thrown away, unless the answer is still on its way. */
static void linger_expired(server *s, conn *k) {
    if (reactor_pending(s->r, k->id))
        list_enter(s->lingering, k);
    else
        reactor_abort(s->r, k->id);
}

/* ---- input ---- */

/* Pauses a connection until the next turn. 0: no memory, it goes on. */
static int conn_wait(server *s, conn *k) {
    if (!turn_end_later(s)) return 0;
    list_enter(s->waiting, k);
    reactor_pause(s->r, k->id);
    return 1;
}

static int conn_waits(const conn *k) { return k->list && k->list == k->list->s->waiting; }

/* Keeps a whole request for a turn that has time for it. */
static int conn_hold(server *s, conn *k, const http_head *h, const char *data, size_t len) {
    pending *p = k->pending ? k->pending : pending_new(s, k);
    if (p && h != &p->head) p->head = *h;
    if (p && !p->copy) {
        p->copy = (char *)malloc(len);
        if (p->copy) memcpy(p->copy, data, len);
        p->copy_len = len;
    }
    k->held = p && p->copy && conn_wait(s, k);
    if (!k->held) conn_refuse(s, k, h, data, len, 503);
    return 1;
}

/* The request is whole: answers it, and ends the connection if that was the last. more: there is
   further input. Returns whether to go on later. */
static int conn_answer(server *s, conn *k, const http_head *h, const char *data, size_t len,
                       int more) {
    exchange x;
    memset(&x, 0, sizeof x);
    x.s = s;
    x.k = k;
    x.h = h;
    x.data = data;
    x.data_len = len;
    x.more = more;
    answer(&x);
    if (x.later) return conn_hold(s, k, h, data, len);
    pending_free(s, k);
    if (!x.keep) {
        k->ended = 1;
        reactor_close(s->r, k->id);
    } else if (k->files >= CONN_FILES_MAX) {
        k->paused = 1;
        reactor_pause(s->r, k->id);
        return 1;
    }
    return x.stop;
}

/* Keeps the head while its body is read. */
static int body_wait(server *s, conn *k, const http_head *h, const http_body *b, const char *data,
                     size_t len) {
    pending *p = k->pending;
    if (!p) {
        p = pending_new(s, k);
        if (p) p->head = *h;
    } else
        list_enter(s->requests, k); /* the body has a time of its own */
    if (!p || !(p->copy = (char *)malloc(len))) return -503;
    memcpy(p->copy, data, len);
    p->copy_len = len;
    p->body = *b;
    if (!(h->flags & HTTP_CONTINUE) || h->minor == 0) return 0;
    /* RFC 9110, 10.1.1: not before it is known that the body is wanted. */
    int e = reactor_write(s->r, k->id, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    return e < 0 ? -503 : 0;
}

/* What is refused before the body is sent, since the client waits to hear whether to send it
   (10.1.1), or because it cannot be waited for. */
static int body_refusal(const http_head *h, int body) {
    if (body < 0) return body;
    if (h->minor == 0) return 0; /* 10.1.1: Expect is not for HTTP/1.0 */
    if (h->flags & HTTP_UNMET) return -417;
    if (!body || !(h->flags & HTTP_CONTINUE)) return 0;
    if (h->flags & HTTP_MISDIRECTED) return -421;
    if (h->method == HTTP_UNKNOWN) return -501;
    return h->method == HTTP_OTHER ? -405 : 0;
}

/* A head is whole, its length is n. Returns what was used of the input; *stop: answer no more. */
static size_t conn_request(server *s, conn *k, const http_head *h, const char *data, size_t len,
                           size_t n, int *stop) {
    http_body b;
    size_t used = 0;
    int body = http_body_begin(h, &b), e = body_refusal(h, body);
    if (e == 0 && body) {
        e = http_body_parse(&b, data + n, len - n, &used);
        if (e == 0) {
            e = body_wait(s, k, h, &b, data, n);
            if (e == 0) return n + used;
        }
    }
    if (e < 0) {
        conn_refuse(s, k, h, data, n, -e);
        return len;
    }
    *stop = conn_answer(s, k, h, data, n, n + used < len);
    return n + used;
}

/* More of a body. */
static size_t conn_body(server *s, conn *k, const char *data, size_t len, int *stop) {
    pending *p = k->pending;
    size_t used = 0;
    int e = http_body_parse(&p->body, data, len, &used);
    if (e == 1)
        *stop = conn_answer(s, k, &p->head, p->copy, p->copy_len, used < len);
    else if (e < 0) {
        conn_refuse(s, k, &p->head, p->copy, p->copy_len, -e);
        return len;
    }
    return used;
}

/* One step. Returns what it used of the input, 0 if it needs more than there is. */
static size_t conn_step(server *s, conn *k, const char *data, size_t len, int *stop) {
    pending *p = k->pending;
    if (p && p->copy) return conn_body(s, k, data, len, stop);
    http_head *h = p ? &p->head : &s->scratch;
    if (!p) memset(h, 0, offsetof(http_head, field));
    int n = http_head_parse(h, data, len);
    if (n > 0) return conn_request(s, k, h, data, len, (size_t)n, stop);
    if (n == 0 && !p) {
        p = pending_new(s, k);
        if (p) p->head = *h;
        n = p ? 0 : -503;
    }
    if (n == 0) return 0;
    conn_refuse(s, k, h, data, len, -n);
    return len;
}

/* ---- the handler ---- */

static void on_open(reactor *r, reactor_conn c, void *state) {
    server *s = (server *)reactor_user(r, c);
    conn *k = (conn *)state;
    char address[REACTOR_ADDRESS_MAX];
    k->id = c;
    if (!s->log || reactor_peer_address(r, c, address, sizeof address) < 0) return;
    char *colon = strrchr(address, ':'), *host = address;
    if (colon) *colon = 0; /* the log has room for the host alone */
    if (*host == '[' && colon) {
        host++;
        colon[-1] = 0;
    }
    k->peer = strdup(host);
}

/* All is answered that came before the end. Part of a request will never be whole. */
static void conn_eof(server *s, conn *k) {
    const pending *p = k->pending;
    if (p && !k->ended && (p->copy || p->head.inside || p->head.scanned > p->head.line)) {
        server_tick(s);
        conn_refuse(s, k, p->copy ? &p->head : NULL, p->copy, p->copy_len, 400);
    }
    reactor_close(s->r, k->id);
}

/* What was there has been looked at. behind: but for some that may be whole requests. */
static void conn_looked(server *s, conn *k, int behind) {
    k->behind = (uint8_t)behind;
    if (!SYS_KEEP_OPEN) file_release(s);
    if (behind || k->held || k->ended) return;
    if (k->eof)
        conn_eof(s, k);
    else if (s->draining && k->pending && pending_is_blank(k->pending))
        reactor_close(s->r, k->id);
}

static size_t on_data(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    server *s = (server *)reactor_user(r, c);
    conn *k = (conn *)state;
    size_t used = 0;
    int stop = 0;
    server_tick(s);
    for (int left = CONN_STEPS; used < len && !stop && !k->ended; left--) {
        if (left == 0 && conn_wait(s, k)) break;
        size_t n = conn_step(s, k, (const char *)data + used, len - used, &stop);
        if (n == 0) break;
        used += n;
    }
    conn_looked(s, k, used < len && (stop || conn_waits(k)));
    return k->ended ? len : used;
}

/* What waited goes on: all that were there, and of what is much work one piece. */
static void turn_goes_on(server *s) {
    conn *last = s->waiting->last, *next;
    for (conn *k = s->waiting->first; k; k = next) {
        next = k == last ? NULL : k->next;
        if (k->held && s->worked) continue;
        list_leave(k);
        if (k->held) {
            pending *p = k->pending;
            server_tick(s);
            conn_answer(s, k, &p->head, p->copy, p->copy_len, k->behind);
            conn_looked(s, k, k->behind);
        }
        if (!k->paused) reactor_resume(s->r, k->id);
    }
}

/* Runs before the streams of the next turn. */
static void on_turn_end(reactor *r, void *user) {
    server *s = (server *)user;
    (void)r;
    s->turn_ends = 0;
    do { /* at once, if there is no memory to put off the rest */
        s->worked = 0;
        turn_goes_on(s);
    } while (s->waiting->first && !turn_end_later(s));
}

/* 0: no memory. */
static int turn_end_later(server *s) {
    if (!s->turn_ends) s->turn_ends = reactor_defer(s->r, on_turn_end, s) == 0;
    return s->turn_ends;
}

/* The client has finished sending, which is no reason not to answer what it did send: what is still
   behind is offered again when there is room for its answers. */
static void on_eof(reactor *r, reactor_conn c, void *state) {
    conn *k = (conn *)state;
    k->eof = 1;
    if (!k->behind && !k->held) conn_eof((server *)reactor_user(r, c), k);
}

static int on_drain(reactor *r, reactor_conn c, void *state) {
    const conn *k = (const conn *)state;
    (void)r;
    (void)c;
    return !k->ended && (k->behind || (k->pending && !pending_is_blank(k->pending)));
}

/* A request that trickles is request_expired's; an answer on its way, the write timeout's. */
static int on_timeout(reactor *r, reactor_conn c, int which, void *state) {
    const conn *k = (const conn *)state;
    if (which != REACTOR_TIMEOUT_IDLE) return 0;
    if (!k->pending && !k->ended && !reactor_pending(r, c)) reactor_close(r, c);
    return 1;
}

static void on_close(reactor *r, reactor_conn c, int reason, void *state) {
    conn *k = (conn *)state;
    (void)reason;
    pending_free((server *)reactor_user(r, c), k);
    list_leave(k);
    free(k->peer);
}

static const reactor_handler http_handler = {sizeof(conn), on_open, on_data,    on_eof,
                                             on_drain,     NULL,    on_timeout, on_close};

/* ==== >> log ==== */
/* The access log in the common format, one line for each answer. Lines are collected and written
   once a second or when there are many, whole ones only. Nobody waits for a log: into a pipe or a
   terminal goes only what it takes now, in pieces that it takes as one. While nothing moves, or the
   log cannot be written (the disk is full, the file as large as the process may make it, a pipe's
   reader gone; said on stderr once), lines wait in the buffer, for another file may take its place
   or make room; when that is full, new ones are dropped, and how many is said on stderr. */
enum { LOG_SIZE = 256 * 1024, LOG_LINE_MAX = 2048, LOG_FLUSH_MS = 1000 };

typedef struct log {
    server *s;
    const char *path; /* NULL: standard output */
    sys_out out;
    int armed;
    int error; /* of the last write, which was told */
    uint64_t lost;
    int64_t stamp_at;
    size_t len;
    char stamp[48];
    char buffer[LOG_SIZE];
} log;

static void log_lost(log *l) {
    if (l->lost)
        fprintf(stderr, "static_server: %llu log lines lost\n", (unsigned long long)l->lost);
    l->lost = 0;
}

/* Writes what can be written without waiting longer than that. */
static void log_flush(log *l, int wait_ms) {
    while (l->len) {
        int64_t n = sys_out_write(&l->out, l->buffer, l->len, wait_ms);
        if (n < 0 && l->error != (int)n)
            fprintf(stderr, "static_server: the access log cannot be written: %s\n",
                    reactor_strerror((int)n));
        if (n) l->error = n < 0 ? (int)n : 0;
        if (n <= 0) return;
        l->len -= (size_t)n;
        memmove(l->buffer, l->buffer + n, l->len);
    }
    log_lost(l);
}

/* The last chance of what is in the buffer. */
static void log_end(log *l) {
    log_flush(l, 200);
    for (size_t i = 0; i < l->len; i++) l->lost += l->buffer[i] == '\n';
    log_lost(l);
}

static void log_timer(reactor *r, reactor_timer t, void *user) {
    log *l = (log *)user;
    (void)t;
    l->armed = 0;
    log_flush(l, 0);
    if (l->len) l->armed = reactor_after(r, LOG_FLUSH_MS, log_timer, l, NULL) == 0;
}

/* Bytes of the request as they may stand in a line. */
static void log_escape(text_out *t, const char *s, size_t n) {
    char code[5];
    for (size_t i = 0; i < n && t->size - t->len > 256; i++) {
        if (s[i] >= 0x20 && s[i] < 0x7f && s[i] != '"' && s[i] != '\\') {
            text_bytes(t, &s[i], 1);
            continue;
        }
        snprintf(code, sizeof code, "\\x%02x", (unsigned)(unsigned char)s[i]);
        text_bytes(t, code, 4);
    }
}

static const char *log_stamp(log *l) {
    if (l->stamp_at == l->s->now && *l->stamp) return l->stamp;
    l->stamp_at = l->s->now;
    if (sys_log_time(l->stamp_at, l->stamp, sizeof l->stamp) < 0) memcpy(l->stamp, "-", 2);
    return l->stamp;
}

/* host - - [time] "request line" status bytes */
static void log_answer(exchange *x) {
    log *l = x->s->log;
    char memory[LOG_LINE_MAX];
    text_out t = {memory, 0, sizeof memory, 0};
    int empty = x->status == 304 || (x->h && x->h->method == HTTP_HEAD);
    if (!l) return;
    text_put(&t, x->k->peer ? x->k->peer : "-");
    text_put(&t, " - - [");
    text_put(&t, log_stamp(l));
    text_put(&t, "] \"");
    if (x->h && x->data)
        log_escape(&t, x->data + x->h->start, x->h->line_len);
    else
        text_put(&t, "-");
    text_put(&t, "\" ");
    text_number(&t, (uint64_t)x->status);
    text_put(&t, " ");
    text_number(&t, empty ? 0 : x->length);
    text_put(&t, "\n");
    if (t.len > LOG_SIZE - l->len && !l->error) log_flush(l, 0); /* else once a second will do */
    if (t.len > LOG_SIZE - l->len) {
        l->lost++;
        return;
    }
    memcpy(l->buffer + l->len, t.data, t.len);
    l->len += t.len;
    if (l->out.regular && l->len > LOG_SIZE / 2 && !l->error) log_flush(l, 0);
    if (!l->armed) l->armed = reactor_after(x->s->r, LOG_FLUSH_MS, log_timer, l, NULL) == 0;
}

/* ==== >> options and main ==== */
/* The fuzzer and other programs that include this file bring a main of their own. */
#ifndef STATIC_SERVER_NO_MAIN
static const char usage[] =
    "usage: static_server --root DIR [options]\n"
    "  --root DIR             what is served\n"
    "  --host ADDRESS         to listen on, 127.0.0.1 (* is every address)\n"
    "  --port N               8080; 0 takes any free one\n"
    "  --index NAME           what is sent for a directory, index.html\n"
    "  --list                 list directories that have no index\n"
    "  --access-log [FILE]    common log format, to standard output without FILE" SYS_HELP_REOPEN
    "\n"
    "  --charset NAME         of text, utf-8; none leaves it out\n"
    "  --cache-control TEXT   sent with files\n"
    "  --header-timeout S     for a whole request since its first byte, 15\n"
    "  --idle-timeout S       between requests, 15\n"
    "  --send-timeout S       for a client that does not read, 15\n"
    "  --max-connections N    no limit\n"
    "  --backend NAME         one that is compiled in; the best that works\n"
    "  --help\n"
    "Files are served as they are now; only stores through a shared mapping, which do not move a\n"
    "file's times, may be seen two seconds late, and a size in a listing a quarter of "
    "one.\n" SYS_HELP_NOTES;

typedef struct settings {
    const char *root, *host, *index, *charset, *cache_control, *log, *backend;
    long port, max;
    int64_t header_ms, idle_ms, send_ms;
    int list, access_log, help;
} settings;

static int bad_usage(const char *what, const char *value) {
    fprintf(stderr, "static_server: %s %s (see --help)\n", what, value);
    return 2;
}

static int number(const char *value, long max, long *out) {
    char *end;
    if (*value < '0' || *value > '9') return -1;
    errno = 0;
    *out = strtol(value, &end, 10);
    return errno || *end || *out > max ? -1 : 0;
}

/* Seconds, also 0.5. */
static int seconds(const char *value, int64_t *ms) {
    size_t n = strspn(value, "0123456789.");
    char *end;
    double v = strtod(value, &end);
    if (n == 0 || value[n] || *end || v < 0.001 || v > 1000000) return -1;
    *ms = (int64_t)(v * 1000 + 0.5);
    return 0;
}

/* Something that goes into a header field. */
static int plain(const char *value, unsigned class) {
    return http_span(value, strlen(value), class) == strlen(value) && strlen(value) < 512 ? 0 : -1;
}

/* 1: it is a flag of ours and its value is good, -1: is not good, 0: no such flag. */
static int set_value(settings *o, const char *flag, const char *value) {
    int e = 0;
    if (strcmp(flag, "--root") == 0)
        o->root = value;
    else if (strcmp(flag, "--host") == 0)
        o->host = value;
    else if (strcmp(flag, "--backend") == 0)
        o->backend = value;
    else if (strcmp(flag, "--index") == 0)
        e = (o->index = value) && *value && !strchr(value, '/') ? 0 : -1;
    else if (strcmp(flag, "--charset") == 0)
        e = value ? plain(o->charset = value, HTTP_TOKEN) : 0;
    else if (strcmp(flag, "--cache-control") == 0)
        e = value ? plain(o->cache_control = value, HTTP_VALUE) : 0;
    else if (strcmp(flag, "--port") == 0)
        e = value ? number(value, 65535, &o->port) : 0;
    else if (strcmp(flag, "--max-connections") == 0)
        e = value ? number(value, 1000000, &o->max) : 0;
    else if (strcmp(flag, "--header-timeout") == 0)
        e = value ? seconds(value, &o->header_ms) : 0;
    else if (strcmp(flag, "--idle-timeout") == 0)
        e = value ? seconds(value, &o->idle_ms) : 0;
    else if (strcmp(flag, "--send-timeout") == 0)
        e = value ? seconds(value, &o->send_ms) : 0;
    else
        return 0;
    return value && *value && e == 0 ? 1 : -1;
}

static int parse_options(settings *o, char **argv) {
    for (int i = 1; argv[i]; i++) {
        const char *flag = argv[i], *value = argv[i + 1];
        if (strcmp(flag, "--help") == 0) {
            o->help = 1;
            return 0;
        }
        if (strcmp(flag, "--list") == 0) {
            o->list = 1;
            continue;
        }
        if (strcmp(flag, "--access-log") == 0) {
            o->access_log = 1;
            if (!value || strncmp(value, "--", 2) == 0) continue;
            if (!*value) return bad_usage("no good value for", flag);
            o->log = strcmp(value, "-") == 0 ? NULL : value;
            i++;
            continue;
        }
        int known = set_value(o, flag, value);
        if (known == 0) return bad_usage("unknown option", flag);
        if (known < 0) return bad_usage("no good value for", flag);
        i++;
    }
    return o->root ? 0 : bad_usage("needs", "--root");
}

static int fail(const char *what, int error) {
    fprintf(stderr, "static_server: %s: %s\n", what, reactor_strerror(error));
    return 1;
}

/* The first asks everybody to come to an end, the second does not wait for them. */
static void on_signal(reactor *r, int signum, void *user) {
    server *s = (server *)user;
    (void)signum;
    reactor_drain(r, s->draining ? 0 : 2800);
    s->draining = 1;
}

static void on_reopen(reactor *r, int signum, void *user) {
    server *s = (server *)user;
    (void)r;
    (void)signum;
    if (!s->log || !s->log->path) return;
    log_flush(s->log, 0);
    int e = sys_out_open(&s->log->out, s->log->path);
    if (e < 0) fprintf(stderr, "static_server: %s: %s\n", s->log->path, reactor_strerror(e));
    log_flush(s->log, 0);
}

static int listen_on(server *s, const settings *o, char *address, size_t size) {
    reactor_listen_options listen;
    reactor_listener listener;
    memset(&listen, 0, sizeof listen);
    listen.conn.user = s;
    listen.conn.max_input = 2 * HTTP_HEAD_MAX;
    listen.conn.idle_timeout_ms = o->idle_ms;
    listen.conn.write_timeout_ms = o->send_ms;
    listen.conn.close_timeout_ms = o->send_ms;
    listen.max_connections = (int)o->max;
    snprintf(address, size, strchr(o->host, ':') && *o->host != '[' ? "[%.128s]:%ld" : "%.128s:%ld",
             o->host, o->port);
    int e = reactor_listen(s->r, address, &http_handler, &listen, &listener);
    if (e < 0) return e;
    reactor_listener_address(s->r, listener, address, size);
    return 0;
}

/* What the parent ignores stays ignored, as a script's shell has SIGINT for what it runs in the
   background, and nohup has SIGHUP. SIGTERM is for nobody but this process, and always heard; so is
   the signal that reopens the log, also without one, for whoever rotates logs sends it to all. */
static int watch_signals(server *s) {
    int e = 0;
    for (size_t i = 0; e == 0 && i < sizeof sys_endings / sizeof *sys_endings; i++) {
        int signum = sys_endings[i];
        if (signum != SIGTERM && sys_signal_ignored(signum)) continue;
        e = reactor_signal(s->r, signum, on_signal, s);
        sys_signal_block(signum, 0); /* the parent may have passed that on, too */
    }
    if (e < 0 || SYS_REOPEN == 0) return e;
    e = reactor_signal(s->r, SYS_REOPEN, on_reopen, s);
    sys_signal_block(SYS_REOPEN, 0);
    return e;
}

static int serve(server *s, const settings *o) {
    char address[REACTOR_ADDRESS_MAX + 32];
    int e = listen_on(s, o, address, sizeof address);
    if (e < 0) return fail(address, e);
    e = watch_signals(s);
    if (e < 0) return fail("signals", e);
    printf("listening on http://%s\nbackend %s%s%s\n", address, reactor_backend(s->r),
           *reactor_backend_reason(s->r) ? ", not better because " : "",
           reactor_backend_reason(s->r));
    fflush(stdout);
    e = reactor_run(s->r);
    return e < 0 ? fail("stopped", e) : 0;
}

static int prepare(server *s, const settings *o) {
    static log access_log;
    reactor_options options;
    s->open_max = sys_files_max();
    s->index = o->index;
    s->charset = strcmp(o->charset, "none") == 0 ? "" : o->charset;
    s->cache_control = o->cache_control;
    s->list = o->list;
    int e = sys_root_open(&s->root, o->root);
    if (e < 0) return fail(o->root, e);
    server_tick(s);
    s->boundary = (uint64_t)s->now_ns * UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)getpid() << 40;
    if (o->access_log) {
        access_log.s = s;
        access_log.path = o->log;
        e = sys_out_open(&access_log.out, o->log);
        if (e < 0) return fail(o->log, e);
        s->log = &access_log;
    }
    memset(&options, 0, sizeof options);
    options.backend = o->backend;
    options.sigpipe_ignored = 1;
    e = reactor_create(&s->r, &options);
    if (e == -ENOTSUP) return bad_usage("no such backend:", o->backend);
    return e < 0 ? fail("cannot start", e) : 0;
}

static void cleanup(server *s) {
    /* A signal that comes so late changes nothing, neither the exit status. */
    for (size_t i = 0; i < sizeof sys_endings / sizeof *sys_endings; i++)
        sys_signal_block(sys_endings[i], 1);
    if (SYS_REOPEN) sys_signal_block(SYS_REOPEN, 1);
    reactor_destroy(s->r);
    if (s->log) log_end(s->log);
    page_drop_all(s, NULL, UINT64_MAX);
    for (file *f = s->oldest, *newer; f; f = newer) {
        newer = f->newer;
        file_remove(s, f);
    }
    while (s->spare) {
        pending *p = s->spare;
        s->spare = p->next;
        free(p);
    }
    sys_root_close(&s->root);
}

int main(int argc, char **argv) {
    static server s;
    settings o = {NULL, "127.0.0.1", "index.html", "utf-8", "", NULL, NULL, 8080,
                  0,    15000,       15000,        15000,   0,  0,    0};
    static conn_list requests = {&s, NULL, NULL, 0, 0, request_expired};
    static conn_list lingering = {&s, NULL, NULL, LINGER_MS, 0, linger_expired};
    static conn_list waiting = {&s, NULL, NULL, 0, 0, NULL};
    if (sys_prepare(&argv) < 0) return 1;
    http_tables();
    (void)argc;
    int e = parse_options(&o, argv);
    if (e) return e;
    if (o.help) {
        fputs(usage, stdout);
        return 0;
    }
    requests.ms = o.header_ms;
    s.requests = &requests;
    s.lingering = &lingering;
    s.waiting = &waiting;
    e = prepare(&s, &o);
    if (e == 0) e = serve(&s, &o);
    cleanup(&s);
    return e;
}
#endif
