/* Stands in for cmocka where there is none to link with: cross compilers, musl, Windows. The part of
   it that the tests here use, with the same names and the same words in its output; give
   -Itests/portable, and do not link with -lcmocka. `make test` uses the real one.

   Nothing but the C library, no allocation, and one test source per program, for all is static.
   Unlike cmocka it does not catch signals: a test that crashes ends the program. */
#ifndef PORTABLE_CMOCKA_H
#define PORTABLE_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __GNUC__
#define CMOCKA__HELPER static __attribute__((unused))
#define CMOCKA__ENDS   __attribute__((noreturn))
#else
#define CMOCKA__HELPER static
#define CMOCKA__ENDS
#endif

typedef struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    int (*setup)(void **state);
    int (*teardown)(void **state);
} CMUnitTest;

#define cmocka_unit_test(f)                                                                        \
    { #f, f, NULL, NULL }
#define cmocka_unit_test_setup_teardown(f, begins, ends)                                           \
    { #f, f, begins, ends }
#define cmocka_run_group_tests_name(name, tests, up, end)                                          \
    cmocka__run(name, tests, sizeof(tests) / sizeof *(tests), up, end)
#define cmocka_run_group_tests(tests, up, end) cmocka_run_group_tests_name(#tests, tests, up, end)

#define fail()             cmocka__fail(__FILE__, __LINE__)
#define fail_msg(...)      cmocka__fail_because(__FILE__, __LINE__, __VA_ARGS__)
#define skip()             cmocka__leave(CMOCKA__SKIPPED)
#define assert_true(c)     cmocka__true((c) ? 1 : 0, #c, __FILE__, __LINE__)
#define assert_false(c)    cmocka__true((c) ? 0 : 1, "not " #c, __FILE__, __LINE__)
#define assert_null(p)     cmocka__true((p) == NULL, #p " == NULL", __FILE__, __LINE__)
#define assert_non_null(p) cmocka__true((p) != NULL, #p " != NULL", __FILE__, __LINE__)
#define assert_int_equal(a, b)                                                                     \
    cmocka__equal((uintmax_t)(a), (uintmax_t)(b), #a, #b, __FILE__, __LINE__)
#define assert_ptr_equal(a, b)                                                                     \
    cmocka__equal((uintptr_t)(a), (uintptr_t)(b), #a, #b, __FILE__, __LINE__)
#define assert_in_range(a, min, max)                                                               \
    cmocka__range((uintmax_t)(a), (uintmax_t)(min), (uintmax_t)(max), #a, __FILE__, __LINE__)
#define assert_return_code(rc, error)                                                              \
    cmocka__code((intmax_t)(rc), (int)(error), #rc, __FILE__, __LINE__)
#define assert_string_equal(a, b)       cmocka__string(a, b, 1, __FILE__, __LINE__)
#define assert_string_not_equal(a, b)   cmocka__string(a, b, 0, __FILE__, __LINE__)
#define assert_memory_equal(a, b, size) cmocka__memory(a, b, size, __FILE__, __LINE__)

enum { CMOCKA__PASSED, CMOCKA__FAILED, CMOCKA__SKIPPED };

static jmp_buf cmocka__end; /* of the test that is running */
static int cmocka__how;     /* it ended */

CMOCKA__HELPER void print_message(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    fflush(stdout);
}
#define print_error print_message

CMOCKA__ENDS CMOCKA__HELPER void cmocka__leave(int how) {
    cmocka__how = how;
    longjmp(cmocka__end, 1);
}

CMOCKA__ENDS CMOCKA__HELPER void cmocka__fail(const char *source, int line) {
    print_error("%s:%d: error: Failure!\n", source, line);
    cmocka__leave(CMOCKA__FAILED);
}

CMOCKA__ENDS CMOCKA__HELPER void cmocka__fail_because(const char *source, int line,
                                                      const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("ERROR: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    cmocka__fail(source, line);
}

CMOCKA__HELPER void cmocka__true(int holds, const char *what, const char *source, int line) {
    if (!holds) cmocka__fail_because(source, line, "%s does not hold", what);
}

CMOCKA__HELPER void cmocka__equal(uintmax_t a, uintmax_t b, const char *a_text, const char *b_text,
                                  const char *source, int line) {
    if (a != b)
        cmocka__fail_because(source, line, "%s != %s: %lld (%#llx) != %lld (%#llx)", a_text, b_text,
                             (long long)a, (unsigned long long)a, (long long)b,
                             (unsigned long long)b);
}

CMOCKA__HELPER void cmocka__range(uintmax_t a, uintmax_t min, uintmax_t max, const char *text,
                                  const char *source, int line) {
    if (a < min || a > max)
        cmocka__fail_because(source, line, "%s: %llu is not within %llu..%llu", text,
                             (unsigned long long)a, (unsigned long long)min,
                             (unsigned long long)max);
}

CMOCKA__HELPER void cmocka__code(intmax_t rc, int error, const char *text, const char *source,
                                 int line) {
    if (rc < 0)
        cmocka__fail_because(source, line, "%s < 0: %lld, %s", text, (long long)rc,
                             strerror(error));
}

CMOCKA__HELPER void cmocka__string(const char *a, const char *b, int same, const char *source,
                                   int line) {
    if ((strcmp(a, b) == 0) != same)
        cmocka__fail_because(source, line, "\"%s\" %s \"%s\"", a, same ? "!=" : "==", b);
}

CMOCKA__HELPER void cmocka__memory(const void *a, const void *b, size_t size, const char *source,
                                   int line) {
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
    for (size_t i = 0; i < size; i++)
        if (x[i] != y[i])
            cmocka__fail_because(source, line, "byte %lu of %lu: %#x != %#x", (unsigned long)i,
                                 (unsigned long)size, x[i], y[i]);
}

/* Each part has its own landing place, so that a teardown may fail as well. */
CMOCKA__HELPER int cmocka__run_one(const CMUnitTest *t) {
    static void *state;
    state = NULL;
    cmocka__how = CMOCKA__PASSED;
    if (setjmp(cmocka__end) == 0) {
        if (t->setup && t->setup(&state)) cmocka__leave(CMOCKA__FAILED);
        t->test(&state);
    }
    if (setjmp(cmocka__end) == 0)
        if (t->teardown && t->teardown(&state)) cmocka__leave(CMOCKA__FAILED);
    return cmocka__how;
}

CMOCKA__HELPER int cmocka__run(const char *name, const CMUnitTest *tests, size_t count,
                               int (*setup)(void **), int (*teardown)(void **)) {
    static const char *const words[] = {"      OK", " FAILED ", " SKIPPED"};
    int sums[3] = {0, 0, 0};
    void *state = NULL;
    print_message("[==========] Running %lu test(s) (%s).\n", (unsigned long)count, name);
    if (setup && setup(&state)) return (int)count;
    for (size_t i = 0; i < count; i++) {
        print_message("[ RUN      ] %s\n", tests[i].name);
        int how = cmocka__run_one(&tests[i]);
        sums[how]++;
        print_message("[ %s ] %s\n", words[how], tests[i].name);
    }
    if (teardown && teardown(&state)) sums[CMOCKA__FAILED]++;
    print_message("[  PASSED  ] %d test(s), %d failed, %d skipped.\n", sums[CMOCKA__PASSED],
                  sums[CMOCKA__FAILED], sums[CMOCKA__SKIPPED]);
    return sums[CMOCKA__FAILED];
}

#endif
