#!/bin/bash
# Does the header compile, link and run wherever it promises to, and does it keep its hands to
# itself? Compilers, language standards, macros, symbols. Says how far it is, and ends with the sums.
# A test that has passed is not run again before one of its inputs changes: REACTOR_TEST_ANEW=1 runs
# them all. Nothing here fails for being slow: the limits are for programs that hang.
# shellcheck disable=SC2086 # the lists of flags are meant to be split
set -u
cd "$(dirname "$0")/../.." || exit 1
here=tests/build
work=${REACTOR_TEST_BUILD:-build}/build-tests
kept=${REACTOR_TEST_BUILD:-build}/build-tests-kept
rm -rf "$work"
[ -z "${REACTOR_TEST_ANEW:-}" ] || rm -rf "$kept"
mkdir -p "$work" "$kept"
hang=600 # seconds after which a program of milliseconds hangs
jobs_max=$(nproc 2>/dev/null || echo 2)
count=0
running=0
skipped=0
reused=0
began=$SECONDS
shown=$SECONDS
expected=$(cat "$kept/count" 2>/dev/null || echo 250)

WARN="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
C_WARN="$WARN -Wsign-conversion"
IMPL=-DREACTOR_IMPLEMENTATION
ALL=-DREACTOR_USE_ALL
# Those that work here; in capitals, as in their macros.
BACKENDS=$(gcc tests/backends.c tests/reactor_all.c -o "$work/backends" -pthread &&
    "$work/backends" | grep -v ' ' | tr '[:lower:]' '[:upper:]')

# Everything that any of the tests reads: the sources, this script, the compilers, the kernel's word on
# what works here.
inputs() {
    cat reactor.h Makefile $here/* tests/platforms/* tests/backends.c tests/reactor_all.c \
        tests/libkqueue.h
    for tool in gcc g++ clang clang++ musl-gcc; do $tool --version 2>/dev/null | head -1; done
    echo "$BACKENDS $(uname -rm)"
}
INPUTS=$(inputs | sha256sum)

progress() { # at most every ten seconds
    [ $((SECONDS - shown)) -ge 10 ] || return 0
    shown=$SECONDS
    echo "progress: build tests: $count of about $expected, $((SECONDS - began)) s"
}

# check NAME COMMAND...: a test, run in the background. It passes if the command succeeds.
check() {
    local name=$1 n key
    shift
    count=$((count + 1))
    n=$(printf %03d $count)
    key=$kept/$(echo "$INPUTS $name $*" | sha256sum | cut -c1-32)
    if [ -e "$key" ]; then
        touch "$key"
        reused=$((reused + 1))
        return 0
    fi
    echo "$name" >"$work/$n.name"
    if [ $running -ge "$jobs_max" ]; then
        wait -n
        running=$((running - 1))
    fi
    progress
    { "$@" >"$work/$n.out" 2>&1; status=$?; [ $status -ne 0 ] || touch "$key"; echo $status >"$work/$n.status"; } &
    running=$((running + 1))
}

have() {
    command -v "$1" >/dev/null && return 0
    echo "skipped: $1 is not installed"
    skipped=$((skipped + 1))
    return 1
}

language() { # flags for a source that is C, of the compiler's own language
    case $1 in *++) echo "-x c++ $WARN" ;; *) echo "$C_WARN" ;; esac
}

# builds COMPILER FLAGS...: user.c alone becomes a program that runs. Its output is the backend.
builds() {
    local out
    out=$(mktemp "$work/program.XXXXXX")
    # shellcheck disable=SC2046
    "$1" $(language "$1") -I. "${@:2}" $here/user.c -o "$out" -pthread && timeout $hang "$out"
}

# compiles COMPILER FLAGS...: user.c, without the implementation, has no warning.
compiles() {
    # shellcheck disable=SC2046
    "$1" $(language "$1") -I. "${@:2}" -fsyntax-only $here/user.c
}

builds_as() { # BACKEND COMPILER FLAGS...
    local said
    said=$(builds "${@:2}") || { echo "$said"; return 1; }
    [ "$said" = "$1" ] || { echo "runs on $said, not on $1"; return 1; }
}

# Refused with one clear #error from the header, in front of everything else.
refuses() { # WORDS COMPILER FLAGS...
    local said
    if said=$("$2" -I. "${@:3}" -c $here/user.c -o /dev/null 2>&1); then
        echo "compiled, but should not"
        return 1
    fi
    grep -m1 'error' <<<"$said" | grep -q "error.*reactor\.h: .*$1" || { head -5 <<<"$said"; return 1; }
    local n
    n=$(grep -c 'error:' <<<"$said")
    [ "$n" -le 20 ] || { echo "$n errors, where one says it all"; head -8 <<<"$said"; return 1; }
}

linked() { # COMPILER of the implementation, COMPILER of the user
    local d
    d=$(mktemp -d "$work/linked.XXXXXX")
    # shellcheck disable=SC2046
    "$1" $(language "$1") -fno-exceptions -I. -c tests/reactor_all.c -o "$d/a.o" &&
        "$2" $(language "$2") -I. -c $here/user.c -o "$d/b.o" &&
        "$2" "$d/b.o" "$d/a.o" -o "$d/program" -pthread && timeout $hang "$d/program"
}

static_twice() { # COMPILER
    local d
    d=$(mktemp -d "$work/static.XXXXXX")
    for entry in first second; do
        # shellcheck disable=SC2046
        "$1" $(language "$1") -I. $IMPL -DREACTOR_STATIC -DENTRY=$entry -c $here/user.c \
            -o "$d/$entry.o" || return 1
        if nm -g --defined-only "$d/$entry.o" | grep reactor_; then
            echo "exported although static"
            return 1
        fi
    done
    gcc $C_WARN $here/two.c "$d/first.o" "$d/second.o" -o "$d/program" -pthread &&
        timeout $hang "$d/program"
}

declared_before() { # the declarations first, the implementation by a second include further down
    local d
    d=$(mktemp -d "$work/before.XXXXXX")
    printf '%s\n' '#include "reactor.h"' '#include <stdio.h>' "#define REACTOR_IMPLEMENTATION" \
        '#include "reactor.h"' '#include "reactor.h"' >"$d/all.c"
    "$1" $C_WARN -I. "${@:2}" -c "$d/all.c" -o "$d/all.o" &&
        "$1" $C_WARN -I. "${@:2}" $here/user.c "$d/all.o" -o "$d/program" -pthread &&
        timeout $hang "$d/program"
}

# No pic, so that constant tables of pointers do not look writable.
object() { # FLAGS...: prints the path of an object file with the implementation
    local out
    out=$(mktemp "$work/object.XXXXXX")
    gcc -O2 -fno-pic -fno-pie -U_FORTIFY_SOURCE -fno-stack-protector -I. $IMPL "$@" -x c -c reactor.h \
        -o "$out" && echo "$out"
}

none() { # WHAT LINES: fails if there are any
    [ -z "$2" ] && return 0
    echo "$1:"
        echo "$2"
    return 1
}

exports() {
    local o declared
    o=$(object $ALL) || return 1
    nm -g --defined-only "$o" | awk '{print $3}' | sort >"$work/exported"
    none "exported, but not public" "$(grep -v '^reactor_[a-z]' "$work/exported")" || return 1
    declared=$(sed -n '/>> api ====/,/>> config ====/p' reactor.h | tr '\n' ' ' |
        grep -o 'REACTOR_API [^;(]*(' | grep -o 'reactor_[a-z0-9_]* *($' | tr -d ' (' | sort)
    none "declared and exported differ" "$(diff <(echo "$declared") "$work/exported")"
}

needs_only_libc() {
    local o
    o=$(mktemp "$work/pic.XXXXXX")
    gcc -O2 -fPIC -I. $IMPL $ALL -x c -c reactor.h -o "$o" &&
        gcc -shared -nostdlib -Wl,-z,defs "$o" -o "$o.so" -lc -lpthread
}

# kill is there to hand a signal on that came when nobody watched it any more, and for children; _exit
# ends a child that could not become the program it was started for.
# getaddrinfo may read the environment, for names, on a thread of its own.
keeps_quiet() { # nothing that prints, ends the program or reads its environment
    local o
    o=$(object $ALL) || return 1
    none "calls" "$(nm -u "$o" | awk '{print $2}' | grep -xE \
        'v?f?printf|d?printf|puts|fputs|putchar|putc|fputc|fwrite|perror|psignal|syslog|std(out|err)|abort|exit|_Exit|quick_exit|raise|getenv|secure_getenv|setenv|__assert_fail|system|popen|gethostby.*')"
}

has_no_state() { # but the table of signals and the pool of threads
    local o
    o=$(object "$@") || return 1
    none "writable" "$(nm "$o" | awk '$2 ~ /^[bBdDC]$/ {print $3}' | grep -v '^reactor__signal_\|^reactor__work_pool')"
}

has_no_state_at_all() {
    local o
    o=$(object "$@") || return 1
    none "writable" "$(nm "$o" | awk '$2 ~ /^[bBdDC]$/ {print $3}')"
}

allocates_by_macro() {
    local o
    o=$(object $ALL -include $here/counted.h) || return 1
    none "calls" "$(nm -u "$o" | awk '{print $2}' |
        grep -xE 'malloc|calloc|realloc|reallocarray|free|strdup|strndup|v?asprintf|posix_memalign|aligned_alloc')" ||
        return 1
    gcc $C_WARN -I. $IMPL -DCOUNTED $here/user.c $here/counted.c -o "$o.program" -pthread &&
        timeout $hang "$o.program"
}

# Left out means left out: smaller, and without the calls that only that part makes.
leaves_out() { # MACRO CALLS
    local whole part
    whole=$(object $ALL -Wall -Wextra -Werror) || return 1
    part=$(object $ALL -Wall -Wextra -Werror -D$1) || return 1
    none "still calls" "$(nm -u "$part" | awk '{print $2}' | grep -xE "$2")" || return 1
    [ "$(text_size "$part")" -lt "$(text_size "$whole")" ] || { echo "not smaller"; return 1; }
}

text_size() { size "$1" | awk 'NR == 2 {print $1}'; }

# What the macros must not change: the declarations, to the letter, and the size of every struct.
SETTINGS=("" "$ALL" "-DREACTOR_USE_SELECT" "-DREACTOR_NO_NET" "-DREACTOR_NO_SIGNALS"
    "-DREACTOR_NO_WORK" "-DREACTOR_NO_DATAGRAMS" "-DREACTOR_NO_RESOLVE" "-DREACTOR_NO_GROUPS"
    "-DREACTOR_NO_CHILDREN"
    "-DREACTOR_STATIC" "-include $here/counted.h" "-D_GNU_SOURCE -DNDEBUG" "-O2 -fPIC")

same_declarations() {
    local given
    for given in "${SETTINGS[@]}"; do
                gcc -E -P $given -I. -x c reactor.h | sed -n '/typedef struct reactor reactor/,$p' |
            sed 's/static __attribute__((unused)) //; s/extern //' >"$work/declared.now"
        [ -s "$work/declared.now" ] || { echo "no declarations with: $given"; return 1; }
        [ -f "$work/declared.first" ] || cp "$work/declared.now" "$work/declared.first"
        diff "$work/declared.first" "$work/declared.now" || { echo "with: $given"; return 1; }
    done
}

same_sizes() {
    local given compiler now first=
    {
        echo '#include "reactor.h"'
        echo '#include <stdio.h>'
        echo 'int main(void) {'
        sed -n '/>> config ====/q; s/^} \(reactor_[a-z_]*\);$/\1/p' reactor.h |
            sed 's/.*/    printf("%s %u\\n", "&", (unsigned)sizeof(&));/'
        echo '    return 0;'
        echo '}'
    } >"$work/sizes.c"
    for compiler in gcc g++; do
        for given in "${SETTINGS[@]}"; do
            # shellcheck disable=SC2046
            $compiler -x $([ $compiler = gcc ] && echo c || echo c++) -I. $IMPL $given \
                "$work/sizes.c" -o "$work/sizes" -x none \
                $(case $given in *counted*) echo "-x c $here/counted.c" ;; esac) -pthread || return 1
            now=$("$work/sizes")
            [ -n "$first" ] || first=$now
            [ "$now" = "$first" ] || {
                echo "$compiler $given:"
                diff <(echo "$first") <(echo "$now")
                return 1
            }
        done
    done
}

installs() {
    local d said
    d=$(mktemp -d "$PWD/$work/install.XXXXXX")
    make -s install DESTDIR="$d" PREFIX=/opt/there >/dev/null || return 1
    cmp reactor.h "$d/opt/there/include/reactor.h" || return 1
    said=$(sed -n 's/^Version: //p' "$d/opt/there/lib/pkgconfig/reactor.pc")
    grep -q "REACTOR_VERSION_TEXT *\"$said\"" reactor.h || { echo "version: $said"; return 1; }
    grep -q '^prefix=/opt/there$' "$d/opt/there/lib/pkgconfig/reactor.pc" || return 1
    make -s uninstall DESTDIR="$d" PREFIX=/opt/there >/dev/null || return 1
    none "left behind" "$(find "$d" -type f)"
}

# What is compiled elsewhere only: against declarations that stand for a system's headers, each of
# which is made to include them. Compiled, not run.
system_headers() { # SYSTEM
    local d=$work/platforms/$1 name
    for name in $(sed -n 's/^#include <\(.*\)>.*/\1/p' reactor.h examples/*.c | sort -u); do
        mkdir -p "$d/$(dirname "$name")"
        echo "#include \"$PWD/tests/platforms/$1.h\"" >"$d/$name"
    done
}

compiles_for() { # SYSTEM MACRO COMPILER FLAGS...
    local d=$work/platforms/$1
    # shellcheck disable=SC2046
    "$3" -nostdinc -ffreestanding -U__linux__ -U__linux -U__gnu_linux__ -Ulinux -U__GLIBC__ -D"$2" \
        -isystem "$d" $([[ $3 == *++ ]] && echo "-x c++ $WARN" || echo "-x c $C_WARN") $IMPL "${@:4}" \
        -fsyntax-only reactor.h
}

# The examples use more of a system than the header: tests/platforms/programs.h.
example_compiles_for() { # EXAMPLE SYSTEM MACRO COMPILER FLAGS...
    # shellcheck disable=SC2046
    "$4" -nostdinc -ffreestanding -U__linux__ -U__linux -U__gnu_linux__ -Ulinux -U__GLIBC__ -D"$3" \
        -DPROGRAMS -isystem "$work/platforms/$2" -x c $WARN -std=gnu11 "${@:5}" \
        -fsyntax-only "examples/$1.c"
}

hides_from() { # SYSTEM MACRO COMPILER FLAGS...: what the macro hides there is said in one line
    compiles_for "$@" -D_POSIX_C_SOURCE=200809L 2>&1 | grep -m1 'error' | grep 'no _POSIX_C_SOURCE'
}

makes_run() { # builds one server, says where it is and how to end it; and what to do without a compiler
    local d url said
    d=$(mktemp -d "$PWD/$work/run.XXXXXX")
    said=$(make -s run CC=no-such-compiler B="$d" 2>/dev/null)
    if [ "$(wc -l <<<"$said")" != 1 ] || ! grep -q 'apt-get install gcc' <<<"$said"; then
        echo "without a compiler: $said"
        return 1
    fi
    make -s run OPT=-O0 B="$d" PORT=0 >"$d.out" 2>&1 &
    for _ in $(seq 3000); do
        url=$(sed -n 's/^listening on \(http:.*\)$/\1/p' "$d.out")
        [ -n "$url" ] && break
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    said=$(python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).status)' "$url")
    kill $!
    wait $!
    [ "$said" = 200 ] && grep -q 'Ctrl-C' "$d.out" || { cat "$d.out"; return 1; }
    none "built beside it" "$(ls "$d" | grep -v '^static_server$\|^static_server.d$\|^flags$\|^tests$\|^site$')"
}

version_agrees() {
    printf '%s\n' '#include "reactor.h"' '#include <stdio.h>' 'int main(void) { return' \
        'printf("%d.%d.%d", REACTOR_VERSION / 10000, REACTOR_VERSION / 100 % 100,' \
        'REACTOR_VERSION % 100) < 0; }' >"$work/version.c"
    gcc -I. "$work/version.c" -o "$work/version" || return 1
    grep -q "REACTOR_VERSION_TEXT *\"$("$work/version")\"" reactor.h
}

# --- the tests ---

for cc in gcc clang musl-gcc; do
    have $cc || continue
    for std in c99 c11 c17 gnu99 gnu11 gnu17; do
        check "$cc $std, implementation" builds $cc -std=$std $IMPL $ALL
        check "$cc $std, user, included last" compiles $cc -std=$std -DLAST
    done
    check "$cc c99 -O2" builds $cc -std=c99 -O2 $IMPL $ALL
    check "$cc gnu17 -O2" builds $cc -std=gnu17 -O2 $IMPL $ALL
    for std in gnu99 gnu17; do
        check "$cc $std, implementation after the system's headers" builds $cc -std=$std $IMPL -DLAST
        check "$cc $std, declarations, then the implementation" declared_before $cc -std=$std
    done
    check "$cc, included three times" builds $cc -std=gnu11 $IMPL -DTWICE
    check "$cc c99, user, included first" compiles $cc -std=c99
    check "$cc c99, user, included three times" compiles $cc -std=c99 -DTWICE
    check "$cc, static in two files" static_twice $cc
    check "$cc c99, implementation after the system's headers is refused" \
        refuses "REACTOR_IMPLEMENTATION before" $cc -std=c99 $IMPL -DLAST
done

for cc in g++ clang++; do
    have $cc || continue
    for std in c++11 c++17 gnu++11 gnu++17; do
        check "$cc $std, implementation" builds $cc -std=$std $IMPL $ALL
        check "$cc $std, user, included last" compiles $cc -std=$std -DLAST
    done
    check "$cc c++11 -O2" builds $cc -std=c++11 -O2 $IMPL $ALL
    check "$cc c++20" builds $cc -std=c++20 $IMPL
    check "$cc, implementation after the system's headers" builds $cc -std=c++11 $IMPL -DLAST
    check "$cc, included three times" builds $cc -std=c++11 $IMPL -DTWICE
    check "$cc, static in two files" static_twice $cc
done

check "implementation in C, user in C++" linked gcc g++
check "implementation in C++, user in C, no library of C++" linked g++ gcc
check "hidden symbols by REACTOR_API" builds gcc $IMPL \
    '-DREACTOR_API=extern __attribute__((visibility("hidden")))'
check "user, stricter warnings" compiles gcc -std=c99 -Wundef -Wstrict-prototypes -Wcast-qual \
    -Wmissing-prototypes -Wredundant-decls -Wold-style-definition -Wwrite-strings -Wc++-compat

for one in $BACKENDS; do
    check "$one alone" builds_as "${one,,}" gcc -O2 $IMPL "-DREACTOR_USE_$one"
    check "$one alone, static" builds_as "${one,,}" gcc $IMPL "-DREACTOR_USE_$one" -DREACTOR_STATIC
done
check "default backends" builds gcc $IMPL
for without in NET SIGNALS WORK DATAGRAMS RESOLVE CHILDREN "NET -DREACTOR_NO_SIGNALS" \
    "NET -DREACTOR_NO_SIGNALS -DREACTOR_NO_WORK -DREACTOR_NO_CHILDREN"; do
    user=
    [[ $without == *NET* ]] && user=-DWITHOUT_NET
    for cc in gcc g++; do
        check "$cc, REACTOR_NO_${without/-D/}" builds $cc -O2 $IMPL -DREACTOR_NO_$without $user
    done
done
check "REACTOR_NO_NET leaves the network out" \
    leaves_out REACTOR_NO_NET 'socket|bind|listen|accept4?|connect|send(msg|to|file)?|recv(msg|from)?'
check "REACTOR_NO_DATAGRAMS leaves the datagrams out" \
    leaves_out REACTOR_NO_DATAGRAMS 'recv(msg|from)|sendto'
check "REACTOR_NO_SIGNALS leaves the signals out" \
    leaves_out "REACTOR_NO_SIGNALS -DREACTOR_NO_CHILDREN" 'sigaction|signal'
check "REACTOR_NO_CHILDREN leaves processes out" \
    leaves_out REACTOR_NO_CHILDREN 'v?fork|exec.*|waitpid|waitid|_exit|setsid|chdir'
check "REACTOR_NO_WORK leaves the threads out" leaves_out REACTOR_NO_WORK 'pthread_(create|cond_.*|join)|prctl'

check "REACTOR_NO_RESOLVE leaves the resolver out" leaves_out REACTOR_NO_RESOLVE '(get|free)addrinfo'

check "kqueue without its header is refused" refuses REACTOR_USE_KQUEUE gcc $IMPL -DREACTOR_USE_KQUEUE
check "Windows is refused here" refuses REACTOR_USE_WINDOWS gcc $IMPL -DREACTOR_USE_WINDOWS
check "kqueue without its header, beside epoll, is refused" \
    refuses REACTOR_USE_KQUEUE gcc $IMPL -DREACTOR_USE_EPOLL -DREACTOR_USE_KQUEUE
check "REACTOR_MALLOC alone is refused" refuses REACTOR_FREE gcc $IMPL "-DREACTOR_MALLOC=malloc"
check "REACTOR_FREE missing is refused" refuses REACTOR_FREE gcc $IMPL "-DREACTOR_MALLOC=malloc" \
    "-DREACTOR_REALLOC=realloc"
check "REACTOR_MALLOC missing is refused" refuses REACTOR_MALLOC gcc $IMPL "-DREACTOR_FREE=free" \
    "-DREACTOR_REALLOC=realloc"
check "REACTOR_ASSERT of one's own" builds gcc -O2 $IMPL $ALL "-DREACTOR_ASSERT(x)=((x)?(void)0:abort())"

for system in "freebsd __FreeBSD__=14" "macos __APPLE__=1" "netbsd __NetBSD__=1" \
    "openbsd __OpenBSD__=1" "dragonfly __DragonFly__=1"; do
    system_headers "${system% *}"
    for cc in "gcc -std=c99" "gcc -std=c99 -m32" "clang -std=c99" "g++ -std=c++11"; do
        have ${cc%% *} || continue
        [[ $cc == *-m32 && $(uname -m) != x86_64 ]] && continue
        check "$system, $cc" compiles_for $system $cc
        check "$system, $cc, every backend" compiles_for $system $cc $ALL
        if [[ $system == freebsd* || $system == dragonfly* ]]; then
            check "$system, $cc, _POSIX_C_SOURCE is refused" hides_from $system $cc
        else
            check "$system, $cc, _POSIX_C_SOURCE" compiles_for $system $cc -D_POSIX_C_SOURCE=200809L
        fi
    done
    for example in hello echo_server proxy chat_server static_server supervisor udp_echo; do
        check "$system, $example" example_compiles_for $example $system gcc
    done
done

check "exports what it declares, and nothing else" exports
check "needs nothing but libc" needs_only_libc
check "prints nothing, ends nothing, reads no environment" keeps_quiet
check "no state but the signal table and the pool" has_no_state $ALL
check "no state at all without signals and work" has_no_state_at_all $ALL -DREACTOR_NO_SIGNALS \
    -DREACTOR_NO_WORK
check "allocates by the macros only, and frees all" allocates_by_macro
check "macros change no declaration" same_declarations
check "macros change no struct" same_sizes
check "make install and uninstall" installs
check "make run" makes_run
check "version number and text agree" version_agrees

wait
failed=0
for status in "$work"/*.status; do
    [ -e "$status" ] || continue # all were kept
    [ "$(cat "$status")" = 0 ] && continue
    failed=$((failed + 1))
    echo "failed: $(cat "${status%.status}.name")"
    # The first few tell; the rest is mostly the same again.
    if [ $failed -le 8 ]; then head -40 "${status%.status}.out" | sed 's/^/    /'; fi
done

# For information; machines differ.
now=$(date +%s%N)
small=$(object -Os) &&
    echo "compile -Os: $((($(date +%s%N) - now) / 1000000)) ms, code: $(text_size "$small") bytes," \
        "$(text_size "$(object -Os -DREACTOR_NO_NET)") without net"
echo "$count build tests in $((SECONDS - began)) s, $reused of them kept from an earlier run"
echo "$count" >"$kept/count"
find "$kept" -type f -mtime +7 -delete
rm -rf "$work"
echo "$((count - failed)) passed, $failed failed$([ $skipped -gt 0 ] && echo ", $skipped skipped")"
[ $failed -eq 0 ]
