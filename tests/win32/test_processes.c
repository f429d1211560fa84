/* Child processes on Windows: started with quoted arguments, an environment, a directory and streams
   that are connections of the loopback; watched by a wait; ended. The program starts itself again.
   Built and run for Windows only. */
#include "../stream_help.h"

static char self[MAX_PATH];

/* ---- the program that is started ---- */

static int act(int argc, char **argv) {
    char buffer[4096];
    DWORD n = 0;
    HANDLE in = GetStdHandle(STD_INPUT_HANDLE), out = GetStdHandle(STD_OUTPUT_HANDLE);
    if (strcmp(argv[1], "--exit") == 0) return atoi(argv[2]);
    if (strcmp(argv[1], "--sleep") == 0) Sleep(60000);
    if (strcmp(argv[1], "--echo") == 0) {
        while (ReadFile(in, buffer, sizeof buffer, &n, NULL) && n > 0)
            WriteFile(out, buffer, n, &n, NULL);
    } else if (strcmp(argv[1], "--arguments") == 0) {
        for (int i = 2; i < argc; i++) {
            WriteFile(out, argv[i], (DWORD)strlen(argv[i]), &n, NULL);
            WriteFile(out, "|", 1, &n, NULL);
        }
    } else if (strcmp(argv[1], "--where") == 0) {
        DWORD len = GetEnvironmentVariableA("REACTOR_TEST_A", buffer, 100);
        buffer[len++] = '|';
        len += GetCurrentDirectoryA(1000, buffer + len);
        WriteFile(out, buffer, len, &n, NULL);
        WriteFile(GetStdHandle(STD_ERROR_HANDLE), "!", 1, &n, NULL);
    }
    return 0;
}

/* ---- the tests ---- */

typedef struct told {
    int calls, opens, closes, pid;
    reactor_exit how;
    size_t len;
    char text[65536];
} told;

static void on_told(reactor *r, int pid, const reactor_exit *how, void *user) {
    told *t = (told *)user;
    (void)r;
    t->calls++;
    t->pid = pid;
    t->how = *how;
}
static size_t collect(reactor *r, reactor_conn c, const void *data, size_t len, void *state) {
    told *t = (told *)reactor_user(r, c);
    (void)state;
    assert_true(t->len + len < sizeof t->text);
    memcpy(t->text + t->len, data, len);
    t->len += len;
    t->text[t->len] = '\0';
    return len;
}
static void closed(reactor *r, reactor_conn c, int reason, void *state) {
    (void)reason, (void)state;
    ((told *)reactor_user(r, c))->closes++;
}
static const reactor_handler handler = {0, NULL, collect, NULL, NULL, NULL, NULL, closed};

static reactor_spawn_options options(const char *const *argv, told *t, reactor_conn_options *c) {
    reactor_spawn_options o;
    memset(&o, 0, sizeof o);
    memset(t, 0, sizeof *t);
    memset(c, 0, sizeof *c);
    c->user = t;
    o.file = self;
    o.argv = argv;
    o.on_exit = on_told;
    o.user = t;
    for (int i = 0; i < 3; i++) {
        o.streams[i].what = REACTOR_SPAWN_NULL;
        o.streams[i].handler = &handler;
        o.streams[i].conn = c;
    }
    return o;
}

static told t;
static reactor_conn_options conn;
static reactor_spawned child;

CASE(exit_codes_are_told) {
    const int codes[] = {0, 7, 259, 100000};
    reactor *r = begin();
    for (int i = 0; i < 4; i++) {
        char code[16];
        const char *const argv[] = {"x", "--exit", code, NULL};
        snprintf(code, sizeof code, "%d", codes[i]);
        reactor_spawn_options o = options(argv, &t, &conn);
        assert_int_equal(reactor_spawn(r, &o, &child), 0);
        assert_int_equal(reactor_run(r), 0);
        assert_int_equal(t.calls, 1);
        assert_int_equal(t.pid, child.pid);
        assert_int_equal(t.how.code, codes[i]);
        assert_int_equal(t.how.error | t.how.signum, 0);
    }
    end(r);
}

CASE(arguments_are_quoted) {
    const char *const argv[] = {"x",        "--arguments", "",       "a b",  "\"q\"", "back\\slash",
                                "end\\ \\", "\\\"",        "\\\\\"", "a\tb", "*",     NULL};
    reactor *r = begin();
    reactor_spawn_options o = options(argv, &t, &conn);
    o.streams[1].what = REACTOR_SPAWN_STREAM;
    assert_int_equal(reactor_spawn(r, &o, &child), 0);
    UNTIL(r, t.calls && t.closes);
    assert_string_equal(t.text, "|a b|\"q\"|back\\slash|end\\ \\|\\\"|\\\\\"|a\tb|*|");
    end(r);
}

CASE(streams_are_connections) {
    const char *const argv[] = {"x", "--echo", NULL};
    reactor *r = begin();
    reactor_spawn_options o = options(argv, &t, &conn);
    char *data = pattern_new(50000, 3, 0);
    o.streams[0].what = o.streams[1].what = REACTOR_SPAWN_STREAM;
    assert_int_equal(reactor_spawn(r, &o, &child), 0);
    assert_true(reactor_write(r, child.streams[0], data, 50000) >= 0);
    assert_int_equal(reactor_close(r, child.streams[0]), 0);
    UNTIL(r, t.calls && t.closes == 2);
    assert_int_equal(t.len, 50000);
    assert_memory_equal(t.text, data, 50000);
    assert_int_equal(t.how.code, 0);
    free(data);
    end(r);
}

CASE(environment_directory_and_merged_errors) {
    const char *const argv[] = {"x", "--where", NULL};
    char root[300];
    const char *const environment[] = {"REACTOR_TEST_A=one two", root, NULL};
    reactor *r = begin();
    snprintf(root, sizeof root, "SystemRoot=%s", getenv("SystemRoot"));
    reactor_spawn_options o = options(argv, &t, &conn);
    o.environment = environment;
    o.directory = "C:\\";
    o.streams[1].what = REACTOR_SPAWN_STREAM;
    o.streams[2].what = REACTOR_SPAWN_OUTPUT;
    assert_int_equal(reactor_spawn(r, &o, &child), 0);
    UNTIL(r, t.calls && t.closes);
    assert_string_equal(t.text, "one two|C:\\!");
    end(r);
}

CASE(kill_ends_at_once_and_by_a_deadline) {
    const char *const argv[] = {"x", "--sleep", NULL};
    reactor *r = begin();
    for (int i = 0; i < 2; i++) {
        reactor_spawn_options o = options(argv, &t, &conn);
        assert_int_equal(reactor_spawn(r, &o, &child), 0);
        assert_int_equal(reactor_child_kill(r, child.pid, SIGINT, -1), -ENOTSUP);
        assert_int_equal(reactor_child_kill(r, child.pid, i ? 0 : SIGTERM, i ? 20 : -1), 0);
        assert_int_equal(reactor_run(r), 0);
        assert_int_equal(t.calls, 1);
        assert_int_equal(t.how.code, -1);
        assert_int_equal(t.how.signum, i ? 9 : SIGTERM);
    }
    end(r);
}

CASE(what_cannot_be_started_is_told) {
    const char *const argv[] = {"x", "--exit", "0", NULL};
    const reactor_file file = NULL;
    char path[MAX_PATH], folder[MAX_PATH];
    reactor *r = begin();
    reactor_spawn_options o = options(argv, &t, &conn);
    o.streams[0].what = o.streams[1].what = REACTOR_SPAWN_STREAM;
    o.file = "C:\\no\\such\\program.exe";
    assert_int_equal(reactor_spawn(r, &o, &child), -ENOENT);
    o.file = "no-such-program";
    assert_int_equal(reactor_spawn(r, &o, &child), -ENOENT);
    GetTempPathA(sizeof folder, folder);
    snprintf(path, sizeof path, "%sreactor-test.bat", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    o.file = path;
    assert_int_equal(reactor_spawn(r, &o, &child), -ENOEXEC);
    remove(path);
    o.file = self;
    o.session = 1;
    assert_int_equal(reactor_spawn(r, &o, &child), -ENOTSUP);
    o.session = 0;
    o.file_count = 1;
    o.files = &file;
    assert_true(reactor_spawn(r, &o, &child) < 0);
    turns(r, 3);
    assert_int_equal(t.calls + t.closes, 0);
    assert_int_equal(counters(r).connections, 0);
    end(r);
}

static volatile int other_calls;
static void on_other(reactor *r, int pid, const reactor_exit *how, void *user) {
    (void)r, (void)pid, (void)user;
    assert_int_equal(how->code, 3);
    other_calls++;
}

/* Started by other means; one that nobody watches any more; many; none at all. */
CASE(processes_are_watched_by_their_number) {
    reactor *r = begin();
    other_calls = 0;
    for (int i = 0; i < 10; i++) {
        const intptr_t process = _spawnl(_P_NOWAIT, self, "x", "--exit", "3", NULL);
        assert_true(process != -1);
        const int pid = (int)GetProcessId((HANDLE)process);
        assert_int_equal(reactor_child(r, pid, on_other, NULL), 0);
        if (i % 2) assert_int_equal(reactor_child(r, pid, NULL, NULL), 0);
        CloseHandle((HANDLE)process);
    }
    assert_int_equal(reactor_run(r), 0);
    assert_int_equal(other_calls, 5);
    assert_int_equal(reactor_child(r, 0x7ffffffc, on_other, NULL), -ECHILD);
    end(r);
}

CASE(destroy_lets_processes_run_on) {
    const char *const argv[] = {"x", "--sleep", NULL};
    reactor *r = begin();
    reactor_spawn_options o = options(argv, &t, &conn);
    assert_int_equal(reactor_spawn(r, &o, &child), 0);
    end(r);
    HANDLE process = OpenProcess(SYNCHRONIZE | PROCESS_TERMINATE, FALSE, (DWORD)child.pid);
    assert_non_null(process);
    assert_int_equal(WaitForSingleObject(process, 0), WAIT_TIMEOUT);
    TerminateProcess(process, 0);
    CloseHandle(process);
    assert_int_equal(t.calls, 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && strncmp(argv[1], "--", 2) == 0) return act(argc, argv);
    GetModuleFileNameA(NULL, self, sizeof self);
    const struct CMUnitTest tests[] = {
        TEST(exit_codes_are_told),
        TEST(arguments_are_quoted),
        TEST(streams_are_connections),
        TEST(environment_directory_and_merged_errors),
        TEST(kill_ends_at_once_and_by_a_deadline),
        TEST(what_cannot_be_started_is_told),
        TEST(processes_are_watched_by_their_number),
        TEST(destroy_lets_processes_run_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
