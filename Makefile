# make help lists the targets. Everything is built in $(B); nothing else is written to.
# Worth setting: CC=clang, BACKEND=poll (one backend only), TESTS="test_timer ..." (some programs
# only), PREFIX= and DESTDIR= (install).

CC      ?= cc
LINK    ?= $(CC)
B       ?= build
OPT     ?= -O2 -g
WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
STD      = -std=gnu11
# The kqueue backend is tested on Linux over libkqueue, where these tell how to use it:
# KQUEUE_CFLAGS=-I/its/include KQUEUE_LIBS=/its/libkqueue.a
export KQUEUE_CFLAGS KQUEUE_LIBS
KQUEUE   = $(if $(KQUEUE_CFLAGS)$(KQUEUE_LIBS),-DREACTOR_TEST_KQUEUE $(KQUEUE_CFLAGS))
# SAN is what a sanitizer run adds to everything.
ALL_CFLAGS = $(STD) $(OPT) $(WARN) $(SAN) -pthread $(KQUEUE) $(CPPFLAGS) $(CFLAGS)
DEPS     = -MMD -MP -MF $@.d -MT $@
FUZZ_SECONDS ?= 60
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
CMOCKA  ?= -lcmocka
IMPLEMENTATION ?= tests/reactor_all.c
PREFIX  ?= /usr/local
PACKAGES = gcc g++ libc6-dev libcmocka-dev clang libclang-rt-dev clang-format musl-tools python3 \
  curl lftp
PACKAGES_ALL = chromium tcc gcc-i686-linux-gnu gcc-arm-linux-gnueabihf gcc-s390x-linux-gnu \
  libc6-dev-i386-cross libc6-dev-armhf-cross libc6-dev-s390x-cross qemu-user cppcheck mingw-w64 wine \
  wine64 valgrind strace wrk nghttp2-client nginx-light lighttpd libuv1-dev libev-dev libevent-dev \
  afl++ netcat-openbsd

VERSION  = $(shell sed -n 's/.*REACTOR_VERSION_TEXT *"\([^"]*\)".*/\1/p' reactor.h)
EXAMPLES = $(patsubst examples/%.c,$(B)/%,$(wildcard examples/*.c))
TEST_SOURCES = $(if $(TESTS),$(filter-out $(SCRIPTS:.py=.c),$(TESTS:%=tests/%.c)),\
  $(wildcard tests/test_*.c))
PROGRAMS = $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SOURCES))
SCRIPTS  = $(if $(TESTS),$(wildcard $(TESTS:%=tests/%.py)),$(wildcard tests/test_*.py))
FORMATTED = reactor.h $(wildcard examples/*.[ch] tests/*.[ch] tests/*/*.[ch])

all: $(EXAMPLES) ## build the examples (the default)

run: ## build and start the file server, with its sample site; PORT=8080
	@echo '#include <stdio.h>' | $(CC) -xc -fsyntax-only - 2>/dev/null || \
	  { echo "run: $(CC) does not compile C here; on Debian and Ubuntu: sudo apt-get install gcc libc6-dev"; exit 1; }
	@$(MAKE) --no-print-directory $(B)/static_server
	@if command -v python3 >/dev/null; then $(MAKE) --no-print-directory site; else rm -rf $(B)/site; \
	  cp -R examples/site $(B)/site; echo "run: without the manual's pages, which python3 makes"; fi
	@echo "run: http://127.0.0.1:$(or $(PORT),8080)/ in a browser; Ctrl-C ends it"; \
	  exec $(B)/static_server --root $(B)/site --port $(or $(PORT),8080)

site: ## make pages of manual and functions, and put them beside the sample site
	@command -v python3 >/dev/null || \
	  { echo "site: python3 is not installed; on Debian and Ubuntu: sudo apt-get install python3"; exit 1; }
	@python3 -B tests/site.py $(B)/site

examples: ## list the examples, each with what it is
	@for e in examples/*.c; do sed -n '1s|^/\* ||p' $$e; done

setup: ## install what the tests need from Debian's packages, if anything is missing
	@$(call installed,$(PACKAGES))

setup-all: ## and what portability, windows and bench need
	@$(call installed,$(PACKAGES) $(PACKAGES_ALL))

installed = missing=; for p in $(1); do \
  dpkg-query -W -f='$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || \
  missing="$$missing $$p"; \
  done; \
  [ -n "$$missing" ] || { echo "$@: everything is there"; exit 0; }; \
  echo "$@: installing$$missing"; \
  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq update && \
  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing

# The programs are built by a make of their own, so that -j holds for it and for nothing else.
test: ## every test on every backend, and the build tests
	@$(MAKE) --no-print-directory -j$(JOBS) programs
	@tests/run.py --build $(B) --backend "$(BACKEND)" $(PROGRAMS) $(SCRIPTS) \
	  $(if $(TESTS),,tests/build/run.sh)

test-quick: ## behaviour tests only, without the build tests
	@$(MAKE) --no-print-directory -j$(JOBS) programs
	@tests/run.py --build $(B) --backend "$(BACKEND)" $(PROGRAMS) $(SCRIPTS)

test-build: ## build tests only: compilers, standards, macros, symbols
	@tests/run.py --build $(B) tests/build/run.sh

portability: ## tests and analyzers with every compiler, machine and kernel; PARTS="tcc s390x"
	@B=$(B) tests/portability.py $(PARTS)

asan: ## behaviour tests under the address sanitizer, leaks included
	@$(call sanitized,-fsanitize=address)

ubsan: ## behaviour tests under the undefined behaviour sanitizer
	@$(call sanitized,-fsanitize=undefined -fno-sanitize-recover=all)

tsan: ## behaviour tests under the thread sanitizer
	@$(call sanitized,-fsanitize=thread)

sanitized = $(MAKE) --no-print-directory test-quick B=$(B)/$@ \
  OPT="-O1 -g -fno-omit-frame-pointer" SAN="$(1)"

# 64 and 32 bit. The tests left out speak POSIX: processes and signals (test_process, test_restart),
# faults and a random world made of POSIX calls (test_faults, test_stress), other systems' backends.
WIN_EXAMPLES = hello echo_server proxy chat_server raw_echo static_server supervisor udp_echo workers
WIN_TESTS    = $(if $(TESTS),$(TESTS),test_selector test_timer test_tasks test_loop test_promises test_stream \
  test_stream_end test_flow test_drain test_handles test_connect test_address test_model test_limits \
  test_findings test_guests test_accept test_console test_refused test_processes test_names test_datagram \
  test_pool)
WIN_SCRIPTS  = $(if $(TESTS),,tests/test_differential.py tests/win32/test_servers.py \
  tests/test_static.py)
WIN_CC       = $(1)-w64-mingw32-gcc $(STD) $(OPT) $(WARN)
# The tests hold sockets in ints.
WIN_LOOSE    = -Wno-conversion -Wno-sign-compare -Itests/portable
WIN_LIBS     = -lws2_32 -Wl,--stack,8388608

windows: ## build header, examples and tests for Windows, with mingw-w64
	@for a in x86_64 i686; do \
	  command -v $$a-w64-mingw32-gcc >/dev/null || \
	    { echo "windows: $$a-w64-mingw32-gcc is not installed, skipped"; continue; }; \
	  $(MAKE) --no-print-directory -j$(JOBS) windows-$$a || exit 1; \
	done

windows-%:
	@mkdir -p $(B)/windows-$*
	@set -e; d=$(B)/windows-$*; cc="$(call WIN_CC,$*)"; \
	for e in $(WIN_EXAMPLES); do echo "cc  $$d/$$e.exe"; $$cc examples/$$e.c -o $$d/$$e.exe $(WIN_LIBS); done; \
	$$cc -c tests/reactor_all.c -o $$d/reactor_all.o; \
	rm -f $$d/reactor_all.a; $*-w64-mingw32-ar rcs $$d/reactor_all.a $$d/reactor_all.o; \
	$$cc -DREACTOR_NO_NET -DREACTOR_NO_SIGNALS -DREACTOR_NO_WORK -c tests/reactor_all.c -o $$d/reactor_small.o; \
	! command -v $*-w64-mingw32-g++ >/dev/null || \
	  $*-w64-mingw32-g++ -std=c++11 $(WARN) -c -x c++ tests/reactor_all.c -o $$d/reactor_cpp.o; \
	$$cc tests/backends.c $$d/reactor_all.o -o $$d/backends.exe $(WIN_LIBS); \
	for t in $(WIN_TESTS) $(if $(TESTS),,differential); do echo "cc  $$d/$$t.exe"; f=tests/$$t.c; [ -f $$f ] || f=tests/win32/$$t.c; \
	  $$cc $(WIN_LOOSE) $$f $$d/reactor_all.a -o $$d/$$t.exe $(WIN_LIBS); done

test-windows: windows $(B)/tests/differential ## run those under wine, and say what wine cannot show
	@command -v wine >/dev/null || { echo "test-windows: wine is not installed, skipped"; exit 0; }; \
	status=0; for a in x86_64 i686; do \
	  [ -f $(B)/windows-$$a/backends.exe ] || continue; \
	  echo "$$a:"; REACTOR_TEST_BUILD=$(B) REACTOR_TEST_COUNT=30 \
	  tests/win32/run.py $(B)/windows-$$a $(WIN_TESTS:%=%.exe) $(WIN_SCRIPTS) || status=1; \
	done; exit $$status

differential: ## scenarios on every backend, traces compared; SEED= and N= random ones
	@$(MAKE) --no-print-directory -j$(JOBS) $(B)/tests/differential
	@REACTOR_TEST_BUILD=$(B) REACTOR_TEST_BACKEND=$(BACKEND) tests/test_differential.py \
	  --seed $(or $(SEED),$(shell date +%s)) --count $(or $(N),1000)

bench: ## measure, beside a hand-written loop and other libraries
	@tests/bench/run.sh

# Findings stay in $(B)/fuzz; each is repeated by running $(B)/fuzz_http with its file.
fuzz: $(B)/fuzz_http ## fuzz the HTTP parser for FUZZ_SECONDS (60) with libFuzzer, and AFL++ if installed
	@mkdir -p $(B)/fuzz/found && cd $(B)/fuzz && cp $(CURDIR)/tests/corpus/http/* found && \
	  clang -g -O1 -fsanitize=fuzzer,address,undefined -DFUZZ_HTTP_LIBFUZZER -pthread \
	    $(CURDIR)/tests/fuzz_http.c -o lib && \
	  ./lib -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0 found
	@command -v afl-clang-fast >/dev/null || { echo "fuzz: AFL++ is not installed, skipped"; exit 0; }; \
	  afl-clang-fast -g -O1 -pthread tests/fuzz_http.c -o $(B)/fuzz/afl && \
	  AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 afl-fuzz \
	    -V $(FUZZ_SECONDS) -i tests/corpus/http -o $(B)/fuzz/afl-out -- $(B)/fuzz/afl @@ \
	    > $(B)/fuzz/afl.log && \
	  grep -E "execs_done|saved_(crashes|hangs)|corpus_count" $(B)/fuzz/afl-out/default/fuzzer_stats && \
	  grep -q "saved_crashes *: 0" $(B)/fuzz/afl-out/default/fuzzer_stats

$(B)/fuzz_http: tests/fuzz_http.c $(B)/flags | $(B)/tests
	$(QUIET)$(CC) $(ALL_CFLAGS) $(DEPS) $< -o $@ $(LDFLAGS)

format: ## format the sources
	clang-format -i $(FORMATTED)

format-check: ## fail if a source is not formatted
	@clang-format --dry-run -Werror $(FORMATTED) && echo "format: $(words $(FORMATTED)) files"

layers: ## check that the header keeps to its layers
	@tests/layers.py --self-test
	@tests/layers.py reactor.h

docs: ## compile and run what README.md and the header's manual show
	@tests/snippets.py

toc: ## print the header's sections, with line numbers
	@sed -n '/^\/\* ==== >> /{=;s/.*>> \(.*\) ====.*/\1/p;}' reactor.h | paste - -

install: ## install header and pkg-config file; PREFIX= and DESTDIR= say where
	install -d "$(DESTDIR)$(PREFIX)/include" "$(DESTDIR)$(PREFIX)/lib/pkgconfig"
	install -m 644 reactor.h "$(DESTDIR)$(PREFIX)/include/reactor.h"
	printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' '' 'Name: reactor' \
	  'Description: an event loop in one header' 'Version: $(VERSION)' \
	  'Cflags: -I$${includedir}' 'Libs: -pthread' > "$(DESTDIR)$(PREFIX)/lib/pkgconfig/reactor.pc"

uninstall: ## remove what install put there
	rm -f "$(DESTDIR)$(PREFIX)/include/reactor.h" "$(DESTDIR)$(PREFIX)/lib/pkgconfig/reactor.pc"

clean: ## remove everything built
	rm -rf $(B)

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

programs: $(EXAMPLES:$(B)/%=$(B)/tests/%) $(PROGRAMS) $(B)/tests/backends $(B)/tests/differential

# Another compiler or other flags: everything anew. So it is when a header has changed and the
# compiler does not tell who reads it.
FLAGS_NOW = $(CC) $(LINK) $(ALL_CFLAGS) $(LDFLAGS) $(KQUEUE_LIBS) \
  $(if $(DEPS),,$(shell cat reactor.h tests/*.h tests/*/*.h | cksum))
$(B)/flags: FORCE | $(B)/tests
	@echo '$(FLAGS_NOW)' | cmp -s - $@ || echo '$(FLAGS_NOW)' > $@
FORCE:

$(B)/%: examples/%.c $(B)/flags | $(B)/tests
	$(QUIET)$(CC) $(ALL_CFLAGS) $(DEPS) $< -o $@ $(LDFLAGS)

# Those that are tested have every backend, and share one object: see tests/example.h.
$(B)/tests/%: examples/%.c tests/example.h $(B)/tests/reactor_all.a $(B)/flags | $(B)/tests
	$(QUIET)$(CC) $(ALL_CFLAGS) -include tests/example.h $(DEPS) $< $(B)/tests/reactor_all.a \
	  -o $@ $(LDFLAGS) $(KQUEUE_LIBS)

$(B)/tests/reactor_all.o: $(IMPLEMENTATION) $(B)/flags | $(B)/tests
	$(QUIET)$(CC) $(ALL_CFLAGS) $(DEPS) -c $< -o $@

$(B)/tests/libkqueue.o: tests/libkqueue.c $(B)/flags | $(B)/tests
	$(QUIET)$(CC) $(ALL_CFLAGS) $(DEPS) -c $< -o $@

# An archive, so that a test which brings an implementation of its own does not get this one too.
$(B)/tests/reactor_all.a: $(B)/tests/reactor_all.o $(B)/tests/libkqueue.o
	$(QUIET)rm -f $@ && ar rcs $@ $^

# A test that needs more of the linker says so itself: a comment that begins a line,
# "ldflags: -Wl,--wrap=malloc".
$(B)/tests/%: tests/%.c $(B)/tests/reactor_all.a $(B)/flags | $(B)/tests
	$(QUIET)$(CC) $(ALL_CFLAGS) $(DEPS) -c $< -o $@.o
	@$(LINK) $(ALL_CFLAGS) $@.o $(B)/tests/reactor_all.a -o $@ $(LDFLAGS) \
	  $(CMOCKA) $(KQUEUE_LIBS) \
	  $$(awk 'sub(/^\/\* ldflags:/, "") { on = 1 } on { end = sub(/\*\/.*/, ""); print; if (end) exit }' $<)

$(B)/tests:
	@mkdir -p $@

QUIET = @$(if $(V),,echo "cc  $@"; )

.DELETE_ON_ERROR:
.PHONY: all run site examples setup setup-all test test-quick test-build portability windows test-windows asan ubsan \
  tsan differential bench fuzz format format-check layers docs toc install uninstall clean help \
  programs FORCE
-include $(wildcard $(B)/*.d $(B)/tests/*.d)
