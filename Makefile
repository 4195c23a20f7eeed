# GNU make. `make help` lists the targets. CC, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX and DESTDIR are the user's;
# V=1 shows whole commands.
VERSION := 0.1.0

CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
PKG_CONFIG ?= pkg-config
# SANITIZE=address,undefined or SANITIZE=thread builds into a folder of its own.
BUILD ?= build$(if $(SANITIZE),/$(SANITIZE))

# Looked up when something is compiled, not before: `make run` installs the libraries first.
libraries := fcgi jansson libpq libssl libcrypto libsystemd zlib libzstd
library_cflags = $(eval library_cflags := $(shell $(PKG_CONFIG) --cflags $(libraries)))$(library_cflags)
library_libs = $(eval library_libs := $(shell $(PKG_CONFIG) --libs $(libraries)))$(library_libs)

warnings := -Wall -Wextra -Wshadow -Wconversion -Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wenum-conversion
hardening := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer,-D_FORTIFY_SOURCE=2) \
    -fstack-protector-strong -fstack-clash-protection -fPIE $(if $(filter x86_64,$(shell uname -m)),-fcf-protection)
ours = -std=gnu17 -D_GNU_SOURCE -DRECEIPTD_VERSION='"$(VERSION)"' -pthread -MMD -MP -Ifcgi \
    $(warnings) $(hardening) $(library_cflags)
linking = -pthread -fPIE -pie -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=$(SANITIZE))

modules := $(filter-out main,$(basename $(notdir $(wildcard fcgi/*.c))))
objects := $(modules:%=$(BUILD)/fcgi/%.o)
unit_tests := $(basename $(notdir $(wildcard tests/unit/test_*.c)))
fuzzers := $(basename $(notdir $(wildcard tests/fuzz/fuzz_*.c)))

# In front of a command: says what it makes instead of the command itself.
quietly = $(if $(V),,@echo '$(1) $@';)

.PHONY: all help receiptd.sql install man package check-package clean format run stop status psql test packages check coverage \
    check-unit unit-tests check-sql check-e2e check-layers check-format check-warnings check-shell check-alerts check-citus \
    check-static check-debian check-postgresql check-postgresql-here check-systems check-faults check-cluster check-failover chaos soak check-fuzz fuzz fuzzers bench bench-scale

all: $(BUILD)/receiptd $(BUILD)/receiptd.sql
	@:

help:
	@sed -n 's/^## //p' Makefile

## make run            install what is missing, build, start a local instance and send it a receipt (PORT=8443)
run: packages
	@$(MAKE) --no-print-directory all
	@deploy/local run

## make stop           end the local instance
## make status         what of it runs, and how many receipts it holds
## make psql           psql on its database, as the administrator
stop status psql:
	@deploy/local $@

packages:
	@deploy/install-packages run

## make receiptd.sql   the schema in one script for psql, in build/: for those without sqitch
receiptd.sql: $(BUILD)/receiptd.sql
	@:

$(BUILD)/receiptd.sql: deploy/make-sql sql/sqitch.plan $(wildcard sql/deploy/*.sql sql/verify/*.sql) Makefile
	@mkdir -p $(@D)
	$(call quietly,SQL) deploy/make-sql >$@.new && mv $@.new $@

# All modules but main. What a program defines itself takes the place of a module of the same names: a test's own store.
library := $(BUILD)/libreceiptd.a
$(library): $(objects)
	@rm -f $@
	$(call quietly,AR) $(AR) rcs $@ $^

$(BUILD)/receiptd: $(BUILD)/fcgi/main.o $(library)
	$(call quietly,LD) $(CC) $(linking) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(library_libs)

$(BUILD)/fcgi/%.o: fcgi/%.c Makefile
	@mkdir -p $(@D)
	$(call quietly,CC) $(CC) $(ours) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

## make install        install all that the package has, below PREFIX (/usr/local), SYSCONFDIR (/etc) and DESTDIR
install: all man
	install -D -m 755 $(BUILD)/receiptd $(DESTDIR)$(PREFIX)/bin/receiptd
	for page in $(pages); do \
	    install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit; done
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/share/receiptd/nginx
	for unit in deploy/systemd/receiptd*.service deploy/systemd/receiptd*.timer deploy/systemd/receiptd@.socket \
	    deploy/systemd/receiptd.target; do \
	    sed 's,/usr/bin/receiptd,$(PREFIX)/bin/receiptd,; s,/usr/share/receiptd,$(PREFIX)/share/receiptd,' $$unit >$(DESTDIR)$(UNITDIR)/$${unit##*/} || exit; done
	install -D -m 644 deploy/systemd/receiptd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/receiptd.conf
	install -D -m 644 deploy/systemd/receiptd.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/receiptd.conf
	install -m 644 $(filter-out nginx/health-allow.conf,$(wildcard nginx/*.conf)) $(DESTDIR)$(PREFIX)/share/receiptd/nginx
	cd sql && find . -type f ! -name '*.md' -exec install -D -m 644 {} $(abspath $(or $(DESTDIR),/))$(PREFIX)/share/receiptd/sql/{} \;
	install -m 644 $(BUILD)/receiptd.sql $(DESTDIR)$(PREFIX)/share/receiptd/sql/
	install -m 644 deploy/sample.json deploy/purge.sql $(DESTDIR)$(PREFIX)/share/receiptd/
	for folder in alerts grafana; do \
	    [ ! -d deploy/$$folder ] || { install -d $(DESTDIR)$(PREFIX)/share/receiptd/$$folder && \
	        install -m 644 deploy/$$folder/* $(DESTDIR)$(PREFIX)/share/receiptd/$$folder; } || exit; done
	deploy/install-documents $(abspath $(or $(DESTDIR),/))$(PREFIX)/share/doc/receiptd
	@# What an operator has changed stays.
	install -d $(DESTDIR)$(SYSCONFDIR)/receiptd
	for file in deploy/systemd/receiptd.env deploy/systemd/purge.env deploy/systemd/keys deploy/systemd/pgpass nginx/health-allow.conf; do \
	    [ -e $(DESTDIR)$(SYSCONFDIR)/receiptd/$${file##*/} ] || \
	        install -m 600 $$file $(DESTDIR)$(SYSCONFDIR)/receiptd/$${file##*/} || exit; done
	cd $(DESTDIR)$(SYSCONFDIR)/receiptd && chmod 644 receiptd.env purge.env health-allow.conf

# The man pages, by scdoc (Debian: scdoc).
pages := $(BUILD)/man/receiptd.8 $(BUILD)/man/receiptd.env.5
man: $(pages)
	@:

$(BUILD)/man/%: man/%.scd deploy/systemd/receiptd.env man/variables Makefile
	@mkdir -p $(@D)
	awk -f man/variables deploy/systemd/receiptd.env | sed -e '/^@VARIABLES@$$/ { r /dev/stdin' -e 'd }' $< | scdoc >$@

## make package        build the Debian package into build/package (debhelper)
package:
	@deploy/install-packages package
	@deploy/package $(BUILD)/package

## make check-package  that the package is reproducible and hardened, and that lintian has nothing to say
check-package:
	@deploy/install-packages check-package
	@tests/check-package

## make test           install what is missing, build, run every test and check
test:
	@deploy/install-packages test
	@tests/run

## make check          what takes about a minute, two at a time: for the loop while changing something
check:
	@tests/run sql static unit shell layers format

## make coverage       which lines and branches of fcgi/ the unit and end-to-end tests reach (gcov)
coverage:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/coverage CFLAGS='-Og -g --coverage' all unit-tests
	@tests/coverage $(BUILD)/coverage $(unit_tests:%=$(BUILD)/coverage/unit/%)

## make check-unit     the unit tests (cmocka)
check-unit: unit-tests
	@tests/unit/run $(unit_tests:%=$(BUILD)/unit/%)

unit-tests: $(unit_tests:%=$(BUILD)/unit/%)
	@:

$(BUILD)/unit/test_receipt_json: ours += -DMALFORMED_BODIES='"$(CURDIR)/tests/malformed.txt"'
$(BUILD)/unit/test_memory_max: ours += -DUNIT_FILE='"$(CURDIR)/deploy/systemd/receiptd@.service"'
$(BUILD)/unit/%: tests/unit/%.c $(library) Makefile
	@mkdir -p $(@D)
	$(call quietly,CC) $(CC) $(ours) $(CPPFLAGS) $(CFLAGS) $(linking) $(LDFLAGS) -o $@ $< $(library) $(library_libs) \
	    -lcmocka

## make check-sql      the tests of the schema (pgTAP), in a cluster of their own
check-sql: $(BUILD)/print_statements
	@PRINT_STATEMENTS=$(abspath $<) tests/sql/run

$(BUILD)/print_statements: tests/sql/print_statements.c $(library) Makefile
	$(call quietly,CC) $(CC) $(ours) $(CPPFLAGS) $(CFLAGS) $(linking) $(LDFLAGS) -o $@ $< $(library) $(library_libs)

## make check-e2e      the end-to-end tests through nginx and PostgreSQL
check-e2e: all
	@tests/e2e/run

## make check-faults   the same with every fault that can be caused: what was told has to be stored
check-faults: all
	@tests/faults/run

## make chaos          faults at random for SECS=300 seconds; SEED= as it was printed draws the same ones
chaos: all
	@tests/faults/chaos

## make soak           DELIVERIES=1000000 to one worker: memory and descriptors must not grow
soak: all
	@tests/faults/soak

## make check-citus   that the worker runs on Citus, where that is installed
check-citus: all
	@tests/citus/run

## make check-cluster  failovers of a Patroni cluster under load, hosts being network namespaces (CASES=...); needs root
check-cluster: all
	@deploy/install-packages cluster
	@tests/cluster/run $(CASES)

## make check-failover one of them without Patroni, in less than a minute; needs root
check-failover: all
	@tests/cluster/run short

## make check-fuzz     hostile input, made by libFuzzer, for decoding and for storing
## make fuzz           the same for SECS=600 seconds; SEED= as it was printed begins with the same input
check-fuzz: SECS = 10
fuzz: SECS = 600
check-fuzz fuzz: all
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang SANITIZE=fuzzer-no-link,address,undefined \
	    CFLAGS='-O1 -g' fuzzers
	@tests/fuzz/run $(SECS) $(fuzzers:%=$(BUILD)/fuzz/%)

fuzzers: $(fuzzers:%=$(BUILD)/%)
	@:

$(BUILD)/fuzz_%: tests/fuzz/fuzz_%.c $(library) Makefile
	$(call quietly,CC) $(CC) $(ours) $(CPPFLAGS) $(CFLAGS) $(linking) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< $(library) \
	    $(library_libs)

## make check-layers   that modules only use what is below them
check-layers:
	@tests/check-layers

## make check-format   that C is formatted with clang-format
check-format:
	@passed=0 failed=0 files=; \
	if tests/knows-tool clang-format; then files=$$(find fcgi tests -name '*.[ch]'); fi; \
	for file in $$files; do \
	    if clang-format --dry-run -Werror $$file; then passed=$$((passed + 1)); else failed=$$((failed + 1)); fi; \
	done; \
	echo "format: $$passed passed, $$failed failed"; [ $$failed = 0 ]

## make check-warnings that gcc and clang have nothing to say
check-warnings:
	@passed=0 failed=0; \
	for cc in gcc clang; do \
	    tests/knows-tool $$cc || continue; \
	    if $(MAKE) --no-print-directory --keep-going BUILD=$(BUILD)/$$cc CC=$$cc CFLAGS='-O2 -Werror' all unit-tests; \
	    then passed=$$((passed + 1)); else failed=$$((failed + 1)); fi; \
	done; \
	echo "warnings: $$passed passed, $$failed failed"; [ $$failed = 0 ]

## make check-alerts   Prometheus' rules, with a test for each alert, and the dashboard
check-alerts:
	@tests/check-alerts

## make check-shell    that scripts are clean for shellcheck
check-shell:
	@tests/check-shell

## make check-static   that clang-tidy, cppcheck and gcc's analyzer have nothing to say
check-static:
	@tests/check-static

## make check-debian   make run and make test in a fresh Debian, SUITE=trixie (or TARGETS=check-package); needs root
check-debian:
	@tests/check-debian $(SUITE)

## make check-postgresql  the schema and what depends on it, on PostgreSQL 17, SUITE=trixie, or 18, SUITE=forky; needs root
check-postgresql: SUITE = trixie
check-postgresql:
	@tests/check-postgresql $(SUITE)

# What check-postgresql makes in that Debian.
check-postgresql-here:
	@deploy/install-packages test
	@ls /usr/lib/postgresql
	@status=0; \
	$(MAKE) --no-print-directory check-sql || status=1; \
	$(MAKE) --no-print-directory all && tests/e2e/run $(addprefix tests/e2e/,managed.bats stored.bats rejected.bats doctor.bats) || status=1; \
	exit $$status

## make check-systems  the package as a service on a Debian that is booted for that, SUITE=bookworm; needs root
check-systems:
	@tests/systems $(SUITE)

# The whole worker, with storing replaced by nothing.
$(BUILD)/receiptd-noop: tests/bench/store_none.c $(BUILD)/fcgi/main.o $(library) Makefile
	$(call quietly,CC) $(CC) $(ours) $(CPPFLAGS) $(CFLAGS) $(linking) $(LDFLAGS) -o $@ $(filter %.c %.o %.a,$^) \
	    $(library_libs)

## make bench          measure against pgbench and a worker that stores nothing (ROUNDS=3 SECS=4), and what answers at PEER=URL
bench: all $(BUILD)/receiptd-noop
	@tests/bench/run

## make bench-scale    measure in a table that grows to ROWS=50000000
bench-scale: all
	@tests/bench/scale

## make format         format C in place
format:
	clang-format -i $$(find fcgi tests -name '*.[ch]')

## make clean          remove what was built; the local instance in var/ stays
clean:
	rm -rf build

-include $(wildcard $(BUILD)/*.d $(BUILD)/fcgi/*.d $(BUILD)/unit/*.d)
