# GNU make. `make help` lists the targets. CC, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX and DESTDIR are the user's.
VERSION := 0.1.0

CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
PKG_CONFIG ?= pkg-config
# SANITIZE=address,undefined or SANITIZE=thread builds into a folder of its own.
BUILD ?= build$(if $(SANITIZE),/$(SANITIZE))

# Looked up when something is compiled, not before: `make run` installs the libraries first.
libraries := fcgi jansson libpq libcrypto libsystemd
library_cflags = $(eval library_cflags := $(shell $(PKG_CONFIG) --cflags $(libraries)))$(library_cflags)
library_libs = $(eval library_libs := $(shell $(PKG_CONFIG) --libs $(libraries)))$(library_libs)

warnings := -Wall -Wextra -Wshadow -Wconversion -Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes -Wvla
hardening := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer,-D_FORTIFY_SOURCE=2) \
    -fstack-protector-strong -fPIE
ours = -std=gnu17 -D_GNU_SOURCE -DRECEIPTD_VERSION='"$(VERSION)"' -pthread -MMD -MP -Ifcgi \
    $(warnings) $(hardening) $(library_cflags)
linking = -pthread -pie -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=$(SANITIZE))

modules := $(filter-out main,$(basename $(notdir $(wildcard fcgi/*.c))))
objects := $(modules:%=$(BUILD)/fcgi/%.o)
unit_tests := $(basename $(notdir $(wildcard tests/unit/test_*.c)))

.PHONY: all help install clean format run stop status psql test packages \
    check-unit check-sql check-e2e check-layers check-format check-warnings check-shell

all: $(BUILD)/receiptd
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

$(BUILD)/receiptd: $(BUILD)/fcgi/main.o $(objects)
	$(CC) $(linking) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(library_libs)

$(BUILD)/fcgi/%.o: fcgi/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ours) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

## make install        install the program below PREFIX (/usr/local) and DESTDIR
install: all
	install -D -m 755 $(BUILD)/receiptd $(DESTDIR)$(PREFIX)/bin/receiptd

## make test           install what is missing, build, run every test and check
test:
	@deploy/install-packages test
	@tests/run

## make check-unit     the unit tests (cmocka)
check-unit: $(unit_tests:%=$(BUILD)/unit/%)
	@tests/unit/run $^

$(BUILD)/unit/%: tests/unit/%.c $(objects) Makefile
	@mkdir -p $(@D)
	$(CC) $(ours) $(CPPFLAGS) $(CFLAGS) $(linking) $(LDFLAGS) -o $@ $< $(objects) $(library_libs) -lcmocka

## make check-sql      the tests of the schema (pgTAP), in a cluster of their own
check-sql:
	@tests/sql/run

## make check-e2e      the end-to-end tests through nginx and PostgreSQL
check-e2e: all
	@tests/e2e/run

## make check-layers   that modules only use what is below them
check-layers:
	@tests/check-layers

## make check-format   that C is formatted with clang-format
check-format:
	@clang-format --dry-run -Werror $$(find fcgi tests -name '*.[ch]')

## make check-warnings that gcc and clang have nothing to say
check-warnings:
	@for cc in gcc clang; do \
	    $(MAKE) --no-print-directory -s BUILD=$(BUILD)/$$cc CC=$$cc CFLAGS='-O2 -Werror' all \
	        $(unit_tests:%=$(BUILD)/'$$'cc/unit/%) || exit 1; \
	done

## make check-shell    that scripts are clean for shellcheck
check-shell:
	@tests/check-shell

## make format         format C in place
format:
	clang-format -i $$(find fcgi tests -name '*.[ch]')

## make clean          remove what was built; the local instance in var/ stays
clean:
	rm -rf build

-include $(wildcard $(BUILD)/fcgi/*.d $(BUILD)/unit/*.d)
