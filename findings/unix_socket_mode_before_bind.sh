#!/bin/sh
# Subject:   fchmod(2) of a unix socket that is not bound yet, on Linux.
# Version:   Linux 6.18.
# Behaviour: fchmod on the socket's descriptor succeeds and changes no file that can be seen. bind(2)
#            then makes the path with that mode, less the umask, instead of 0777 less the umask. So a
#            socket can be as closed as it should be from its first moment on, without touching the
#            umask, which is the whole process's, and without a chmod of a name that somebody may
#            have replaced. What the umask takes away comes back by no such means.
# Output:    fchmod 0660, umask 0: the path has 0660
#            fchmod 0666, umask 022: the path has 0644
# Source:    unix(7) says only that bind obeys the umask; kernel: net/unix/af_unix.c, unix_bind_bsd
#            (mode = S_IFSOCK | (SOCK_INODE(sock)->i_mode & ~current_umask())).
CC=${CC:-cc}
[ "$(uname -s)" = Linux ] || exit 77
command -v "$CC" >/dev/null || exit 77
tmp=$(mktemp -d) || exit 77
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/a.c" <<'C'
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int mode_of(const char *path, mode_t mode, mode_t mask) {
    struct sockaddr_un a;
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof a.sun_path) return -1;
    strcpy(a.sun_path, path);
    umask(mask);
    if (fd < 0 || fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        stat(path, &st) < 0)
        return -1;
    printf("fchmod 0%o, umask 0%.0o: the path has 0%o\n", (unsigned)mode, (unsigned)mask,
           (unsigned)(st.st_mode & 07777));
    close(fd);
    unlink(path);
    return (int)(st.st_mode & 07777);
}

int main(int argc, char **argv) {
    if (argc < 2) return 77;
    int exact = mode_of(argv[1], 0660, 0), masked = mode_of(argv[1], 0666, 022);
    if (exact < 0 || masked < 0) return 77;
    return exact != 0660 || masked != 0644;
}
C
"$CC" "$tmp/a.c" -o "$tmp/a" || exit 77
"$tmp/a" "$tmp/socket"
