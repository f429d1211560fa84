/* The parser of static_server: every input of the corpus, cut at every byte, has one outcome; and
   what single inputs come to. */
/* backends: one */
#define FUZZ_HTTP_NO_MAIN
#include "fuzz_http.c"
#include "harness.h"

/* Outcome of the first head: its length, or minus the status. */
static int parse(const char *text) {
    http_head h;
    memset(&h, 0, sizeof h);
    return http_head_parse(&h, text, strlen(text));
}

static void the_corpus_cut_at_every_byte(void **state) {
    char name[600];
    int count = 0;
    (void)state;
    DIR *dir = opendir("tests/corpus/http");
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        size_t len;
        if (d->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "tests/corpus/http/%s", d->d_name);
        char *data = fuzz_load(name, &len);
        assert_non_null(data);
        if (fuzz_cut_everywhere(data, len) < 0) fail_msg("%s depends on how it is cut", name);
        free(data);
        count++;
    }
    closedir(dir);
    assert_true(count > 40);
}

/* Limits are places in the input: one byte decides, whether it comes alone or not. */
static void limits_to_the_byte(void **state) {
    static char text[HTTP_HEAD_MAX + 100];
    (void)state;
    for (int extra = -1; extra <= 1; extra++) {
        int n = HTTP_LINE_MAX + extra, tail = (int)strlen(" HTTP/1.0\r\n");
        memset(text, 'a', sizeof text);
        memcpy(text, "GET /", 5);
        memcpy(text + n - tail, " HTTP/1.0\r\n\r\n", 14);
        assert_int_equal(parse(text), extra <= 0 ? n + 2 : -414);
    }
    for (int extra = -1; extra <= 1; extra++) {
        int n = HTTP_HEAD_MAX + extra;
        memset(text, 'a', sizeof text);
        memcpy(text, "GET / HTTP/1.0\r\nX:", 18);
        memcpy(text + n - 4, "\r\n\r\n", 5);
        assert_int_equal(parse(text), extra <= 0 ? n : -431);
    }
}

static void dates_in_three_forms(void **state) {
    static const struct {
        const char *text;
        int64_t want;
    } all[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Thu, 29 Feb 2024 23:59:60 GMT", 1709251200},
        {"Friday, 01-Jan-75 00:00:00 GMT", 157766400}, /* 2075 would be more than 50 years on */
        {"sun, 06 Nov 1994 08:49:37 GMT", -1},
        {"Sun, 6 Nov 1994 08:49:37 GMT", -1},
        {"Sun, 06 Nov 1994 08:49:37 UTC", -1},
        {"Sun, 06 Nov 1994 24:00:00 GMT", -1},
        {"Sun, 30 Feb 2020 00:00:00 GMT", -1},
        {"Sun, 06 Nov 1994 08:49:37 GMT ", -1},
        {"Sun Nov 6 08:49:37 1994", -1},
        {"", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int ok;
        time_t got = date_parse(all[i].text, strlen(all[i].text), 1700000000, &ok);
        if ((ok ? (int64_t)got : -1) != all[i].want)
            fail_msg("%s is %lld", all[i].text, (long long)got);
    }
}

static int setup(void **state) {
    (void)state;
    http_tables();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_corpus_cut_at_every_byte),
        cmocka_unit_test(limits_to_the_byte),
        cmocka_unit_test(dates_in_three_forms),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
