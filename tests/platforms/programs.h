/* What the examples use of a system beyond what the header does. It is declared for them alone
   (-DPROGRAMS, tests/build/run.sh), so that the header cannot come to need it unnoticed. Values are
   FreeBSD's, for nothing of it is ever run. */
#ifndef PROGRAMS_H
#define PROGRAMS_H

/* errno.h, limits.h */
#define EISDIR   21
#define ENOTDIR  20
#define EPERM    1
#define PIPE_BUF 512

/* stdio.h, stdlib.h, inttypes.h */
typedef struct FILE {
    int number;
} FILE;
extern FILE standard_streams[3];
#define stdin  (&standard_streams[0])
#define stdout (&standard_streams[1])
#define stderr (&standard_streams[2])
int fflush(FILE *f);
int fprintf(FILE *f, const char *format, ...);
int fputs(const char *text, FILE *f);
int printf(const char *format, ...);
void *calloc(size_t count, size_t size);
double strtod(const char *text, char **end);
long strtol(const char *text, char **end, int base);
#if __SIZEOF_LONG__ == 8
#define PRIu64 "lu"
#else
#define PRIu64 "llu"
#endif

/* string.h, strings.h */
char *strdup(const char *text);
char *strrchr(const char *text, int c);
int strcasecmp(const char *a, const char *b);
int strncasecmp(const char *a, const char *b, size_t len);
size_t strcspn(const char *text, const char *set);
size_t strspn(const char *text, const char *set);

/* time.h */
struct tm {
    int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday, tm_yday, tm_isdst;
    long tm_gmtoff;
    char *tm_zone;
};
struct tm *gmtime_r(const time_t *t, struct tm *out);
struct tm *localtime(const time_t *t);
struct tm *localtime_r(const time_t *t, struct tm *out);
size_t strftime(char *text, size_t size, const char *format, const struct tm *t);
time_t time(time_t *out);
time_t timegm(struct tm *t);

/* fcntl.h, sys/stat.h, dirent.h. O_PATH is not everywhere, and O_SEARCH is each system's own. */
#define O_NOCTTY            0x8000
#define O_APPEND            0x0008
#define O_CREAT             0x0200
#define O_NOFOLLOW          0x0100
#define O_DIRECTORY         0x00020000
#define O_CLOEXEC           0x00100000
#define AT_SYMLINK_NOFOLLOW 0x0200
#define S_ISLNK(m)          (((m)&S_IFMT) == 0120000)
struct dirent {
    ino_t d_fileno;
    char d_name[256];
};
typedef struct DIR DIR;
DIR *fdopendir(int fd);
int closedir(DIR *dir);
int dirfd(DIR *dir);
struct dirent *readdir(DIR *dir);
int fstatat(int dir, const char *path, struct stat *out, int flags);
int open(const char *path, int flags, ...);
int openat(int dir, const char *path, int flags, ...);

/* signal.h, sys/resource.h */
#define SIGHUP      1
#define SIGINT      2
#define SIGXFSZ     25
#define SIGUSR1     30
#define SIG_IGN     ((void (*)(int))1)
#define SIG_UNBLOCK 2
void (*signal(int signum, void (*handler)(int)))(int);
#define RLIMIT_NOFILE 8
typedef uint64_t rlim_t;
struct rlimit {
    rlim_t rlim_cur, rlim_max;
};
int getrlimit(int what, struct rlimit *out);
int setrlimit(int what, const struct rlimit *value);

#endif
