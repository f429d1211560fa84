/* Fuzzes what static_server does with bytes from strangers before any file is touched: the parser,
   paths, dates, ranges, codings, entity-tags. Whatever the input, it must end the same way however
   it was cut, and what comes out must be within bounds.

   make fuzz runs it under libFuzzer and AFL++. By itself it runs each file given once, cut at every
   byte; tests/test_http.c includes this file and does the same as part of the tests. */
#define STATIC_SERVER_NO_MAIN
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"
#include "../examples/static_server.c"

/* One connection's input, as the parser sees it. */
typedef struct fuzz_run {
    const char *data;
    size_t at;    /* the message begins here; in a body, the next byte */
    size_t head;  /* where the head of the body being read began */
    int body;     /* in one */
    int ended;    /* refused */
    int started;  /* h is in use */
    uint64_t sum; /* of everything that came out */
    http_head h;
    http_body b;
} fuzz_run;

static void fuzz_require(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "fuzz_http: %s\n", what);
    abort();
}

static void fuzz_mix(fuzz_run *f, uint64_t v) {
    f->sum = (f->sum ^ v) * UINT64_C(1099511628211);
    f->sum ^= f->sum >> 29;
}

static void fuzz_path(fuzz_run *f, const char *s, size_t n) {
    path p;
    int e = path_plain(&p, s, n);
    fuzz_mix(f, (uint64_t)(e + 1000));
    if (e < 0) return;
    fuzz_require(p.len < sizeof p.text && strlen(p.text) == p.len, "a path with a NUL");
    fuzz_require(p.text[0] != '/' && !strstr(p.text, "//"), "an empty segment");
    fuzz_require(!p.len || p.text[p.len - 1] != '/', "a slash at the end");
    char bound[FILE_PATH_MAX + 8];
    snprintf(bound, sizeof bound, "/%s/", p.text);
    fuzz_require(!strstr(bound, "/../") && !strstr(bound, "/./"), "a segment of dots");
    const char *dot = strstr(bound, "/.");
    fuzz_require(!dot || strncmp(bound, "/.well-known/", 13) == 0, "a hidden name");
    fuzz_require(!dot || !strstr(dot + 2, "/."), "a hidden name further down");
    for (size_t i = 0; i < p.len; i++) fuzz_mix(f, (unsigned char)p.text[i]);
}

static void fuzz_ranges(fuzz_run *f, const char *data) {
    static const int64_t sizes[] = {0, 1, 10, 1000, INT64_MAX / 2};
    range list[RANGE_MAX];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int n = range_list(&f->h, data, sizes[i], list);
        fuzz_mix(f, (uint64_t)(n + 1000));
        for (int a = 0; a < n; a++) {
            fuzz_require(list[a].from >= 0 && list[a].from <= list[a].to, "a range backwards");
            fuzz_require(list[a].to < sizes[i], "a range beyond the end");
            for (int b = 0; b < a; b++)
                fuzz_require(list[a].to + 1 < list[b].from || list[b].to + 1 < list[a].from,
                             "ranges that overlap");
        }
    }
}

static void fuzz_fields(fuzz_run *f, const char *data) {
    static server s;
    static file known;
    int q[3], ok;
    http_slice v;
    s.now = 1000000000;
    snprintf(known.etag, sizeof known.etag, "\"a\"");
    coding_qualities(&f->h, data, q);
    for (int i = 0; i < 3; i++) {
        fuzz_require(q[i] >= 0 && q[i] <= 1000, "a quality out of range");
        fuzz_mix(f, (uint64_t)q[i]);
    }
    fuzz_mix(f, (uint64_t)condition_status(&s, &f->h, data, known.etag, 784111777));
    fuzz_mix(f, (uint64_t)condition_status(&s, &f->h, data, NULL, 0));
    fuzz_mix(f, (uint64_t)condition_if_range(&s, &f->h, data, &known));
    if (http_single(&f->h, data, HTTP_IF_MODIFIED_SINCE, &v))
        fuzz_mix(f, (uint64_t)date_parse(v.data, v.len, s.now, &ok));
    fuzz_ranges(f, data);
}

/* A head is whole: what it says goes into the sum. */
static void fuzz_head(fuzz_run *f, size_t n) {
    const char *data = f->data + f->at;
    const http_head *h = &f->h;
    fuzz_require(n <= HTTP_HEAD_MAX, "a head that is too long");
    fuzz_require((size_t)h->start + h->line_len <= n, "a request line outside the head");
    fuzz_require((size_t)h->path + h->path_len <= n, "a path outside the head");
    fuzz_require((size_t)h->query + h->query_len <= n, "a query outside the head");
    fuzz_mix(f, n);
    fuzz_mix(f, (uint64_t)h->method << 16 | (uint64_t)h->form << 8 | h->minor);
    fuzz_mix(f, (uint64_t)h->flags << 32 | h->fields);
    fuzz_mix(f, h->length);
    for (int i = 0; i < h->known; i++) {
        fuzz_require((size_t)h->field[i].at + h->field[i].len <= n, "a field outside the head");
        fuzz_mix(f, (uint64_t)h->field[i].name << 32 | h->field[i].at);
        fuzz_mix(f, h->field[i].len);
    }
    fuzz_path(f, data + h->path, h->path_len);
    fuzz_fields(f, data);
}

/* Goes as far as the first so many bytes allow. */
static void fuzz_feed(fuzz_run *f, size_t len) {
    while (!f->ended) {
        if (f->body) {
            size_t used = 0;
            int e = http_body_parse(&f->b, f->data + f->at, len - f->at, &used);
            fuzz_require(used <= len - f->at, "more used than there is");
            f->at += used;
            if (e == 0) return;
            fuzz_mix(f, (uint64_t)(e + 1000));
            fuzz_mix(f, f->b.total);
            f->body = 0;
            f->ended = e < 0;
            continue;
        }
        if (f->at == len) return;
        if (!f->started) memset(&f->h, 0, sizeof f->h);
        f->started = 1;
        int n = http_head_parse(&f->h, f->data + f->at, len - f->at);
        fuzz_require(n <= 0 || (size_t)n <= len - f->at, "a head longer than the input");
        if (n == 0) return;
        f->started = 0;
        fuzz_mix(f, (uint64_t)(n + 1000));
        if (n > 0) fuzz_head(f, (size_t)n);
        int body = n > 0 ? http_body_begin(&f->h, &f->b) : n;
        fuzz_mix(f, (uint64_t)(body + 1000));
        f->ended = body < 0;
        f->body = body > 0;
        if (n > 0) f->at += (size_t)n;
    }
}

/* What comes of an input that arrives in pieces of so many bytes, the first one of its own. Offsets
   into what has not come yet would be found by the address sanitizer: the copy ends there. */
static uint64_t fuzz_sum(const char *data, size_t len, size_t first, size_t step) {
    static fuzz_run f;
    memset(&f, 0, sizeof f);
    f.sum = UINT64_C(14695981039346656037);
    f.data = data;
    for (size_t at = first; at < len; at += step) fuzz_feed(&f, at);
    fuzz_feed(&f, len);
    fuzz_mix(&f, f.at);
    fuzz_mix(&f, (uint64_t)f.ended);
    return f.sum;
}

/* Every cut in two, and byte by byte. */
static int fuzz_cut_everywhere(const char *data, size_t len) {
    uint64_t whole = fuzz_sum(data, len, len, 1);
    for (size_t at = 0; at < len; at++)
        if (fuzz_sum(data, len, at, len) != whole) return -1;
    return fuzz_sum(data, len, 0, 1) == whole ? 0 : -1;
}

/* The whole of a file; the caller frees it. */
static char *fuzz_load(const char *name, size_t *len) {
    FILE *in = fopen(name, "rb");
    char *data = in ? (char *)malloc(1 << 20) : NULL;
    *len = data ? fread(data, 1, 1 << 20, in) : 0;
    if (in) fclose(in);
    return data;
}

#ifdef FUZZ_HTTP_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    const char *data = (const char *)bytes;
    int ok;
    if (!http_class['a']) http_tables();
    uint64_t whole = fuzz_sum(data, len, len, 1);
    fuzz_require(len > 2000 || fuzz_sum(data, len, 0, 1) == whole, "cut into bytes it differs");
    fuzz_require(fuzz_sum(data, len, len / 2, 7) == whole, "cut in places it differs");
    date_parse(data, len, 1000000000, &ok);
    return 0;
}
#elif !defined(FUZZ_HTTP_NO_MAIN)
int main(int argc, char **argv) {
    http_tables();
    for (int i = 1; i < argc; i++) {
        size_t len;
        char *data = fuzz_load(argv[i], &len);
        if (data && fuzz_cut_everywhere(data, len) < 0) fuzz_require(0, argv[i]);
        free(data);
    }
    return 0;
}
#endif
