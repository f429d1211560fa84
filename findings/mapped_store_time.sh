#!/bin/sh
# Subject:   tmpfs on Linux, times of files that are stored to through a shared mapping.
# Version:   Linux 6.18.
# Behaviour: POSIX (mmap) has the time of modification marked for update between a store to a shared
#            mapping and the next msync. tmpfs does so for the first store to a page alone: it has
#            no writeback that would write-protect the page again, so no later store faults, and
#            neither msync(MS_SYNC) nor fsync nor munmap moves the time. ext4, which writes the page
#            back with msync, moves it with the next store. Whoever keeps content by a file's times
#            (caches, make, rsync, backups) never sees such a change.
# Output:    tmpfs: the second store is in the file, its time is still that of before
# Source:    mmap(3p) and msync(3p), "st_mtime"; kernel: mm/memory.c, fault_dirty_shared_page (it
#            calls file_update_time only in a fault), mm/shmem.c (no page_mkwrite).
CC=${CC:-cc}
shm=/dev/shm
[ "$(uname -s)" = Linux ] && [ -d $shm ] && [ -w $shm ] && df -T $shm 2>/dev/null | grep -q tmpfs || exit 77
command -v "$CC" >/dev/null || exit 77
tmp=$(mktemp -d) || exit 77
file=$(mktemp $shm/mapped.XXXXXX) || exit 77
trap 'rm -rf "$tmp" "$file"' EXIT
cat >"$tmp/a.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
    struct stat st;
    char now[4];
    int fd = argc > 1 ? open(argv[1], O_RDWR) : -1;
    if (fd < 0 || write(fd, "AAAA", 4) != 4) return 77;
    char *m = (char *)mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED) return 77;
    m[0] = 'B';
    msync(m, 4, MS_SYNC);
    fsync(fd);
    futimens(fd, old);
    m[1] = 'C';
    msync(m, 4, MS_SYNC);
    fsync(fd);
    munmap(m, 4);
    if (pread(fd, now, 4, 0) != 4 || now[1] != 'C') return 77;
    fstat(fd, &st);
    printf("tmpfs: the second store is in the file, its time is %s\n",
           st.st_mtime == 1000000000 ? "still that of before" : "the store's");
    return st.st_mtime != 1000000000;
}
C
"$CC" "$tmp/a.c" -o "$tmp/a" || exit 77
"$tmp/a" "$file"
