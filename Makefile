# make demo     set up, build, and see it work on this machine's loopback
# make test     set up and run every test
# make lint     formatting, clippy, documentation
# make bench    the benchmarks of each stage
# make bench-peers   the sensor and replay against other programs: root, about fifteen minutes
# make soak     a long run under a steady load, told minute by minute (SECONDS=3600); not part of the tests
# make fuzz     every fuzz target for FUZZ_SECONDS each
# make install  program, unit, user, folders, kernel settings, configuration (DESTDIR, PREFIX, SYSCONFDIR)

CARGO ?= cargo
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
# The program that is installed.
BINARY ?= target/release/mirrortap
FUZZ_SECONDS ?= 60
SECONDS ?= 3600

LIB = $(PREFIX)/lib
SHARE = $(PREFIX)/share
CONFIG = $(SYSCONFDIR)/mirrortap/mirrortap.toml
DEMO_TARGET = target/demo
DEMO_BUILD = $(CARGO) build --release --locked --no-default-features --features pcap-filter --target-dir $(DEMO_TARGET)
SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock

.PHONY: all build demo test lint setup setup-build bench bench-peers soak fuzz install uninstall clean

all: build

build: target/release/mirrortap

target/release/mirrortap: $(SOURCES)
	@$(MAKE) --no-print-directory setup-build
	$(CARGO) build --release --locked
	@touch $@

# Without S3 and Parquet, which it does not show: they take as long to build as all the rest. Where everything is built, that is taken.
demo: setup-build
	@if [ -x target/release/mirrortap ]; then $(MAKE) --no-print-directory build; else $(DEMO_BUILD); fi
	@if [ -x target/release/mirrortap ]; then exec target/release/mirrortap demo; else exec $(DEMO_TARGET)/release/mirrortap demo; fi

test: setup
	scripts/test.sh

lint:
	scripts/lint.sh

setup:
	@scripts/setup.sh test

setup-build:
	@scripts/setup.sh build

bench: setup-build
	$(CARGO) bench

bench-peers: build
	benches/peers/offline.py
	benches/peers/live.py

soak: build
	scripts/soak.py --seconds $(SECONDS)

fuzz:
	@scripts/setup.sh fuzz
	scripts/fuzz.sh $(FUZZ_SECONDS)

# An existing configuration is left alone; the new one is put beside it. The service is neither enabled nor started.
install: $(BINARY)
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/mirrortap
	install -d $(DESTDIR)$(LIB)/systemd/system $(DESTDIR)$(SHARE)/man/man1
	sed -e 's|/usr/bin/|$(PREFIX)/bin/|; s|/usr/share/|$(SHARE)/|; s|/etc/mirrortap|$(SYSCONFDIR)/mirrortap|g' \
		systemd/mirrortap.service > $(DESTDIR)$(LIB)/systemd/system/mirrortap.service
	sed -e 's|/usr/share/|$(SHARE)/|' systemd/mirrortap.socket > $(DESTDIR)$(LIB)/systemd/system/mirrortap.socket
	install -D -m 644 systemd/mirrortap.sysusers $(DESTDIR)$(LIB)/sysusers.d/mirrortap.conf
	install -D -m 644 systemd/mirrortap.tmpfiles $(DESTDIR)$(LIB)/tmpfiles.d/mirrortap.conf
	install -D -m 644 systemd/60-mirrortap.sysctl.conf $(DESTDIR)$(LIB)/sysctl.d/60-mirrortap.conf
	install -D -m 644 -t $(DESTDIR)$(SHARE)/doc/mirrortap README.md LICENSE CHANGELOG.md docs/*.md
	$(BINARY) man > $(DESTDIR)$(SHARE)/man/man1/mirrortap.1
	install -d $(DESTDIR)$(SHARE)/bash-completion/completions
	$(BINARY) completions bash > $(DESTDIR)$(SHARE)/bash-completion/completions/mirrortap
	scripts/install-config.sh config/mirrortap.toml $(DESTDIR)$(CONFIG)
ifeq ($(DESTDIR),)
	scripts/after-install.sh
endif

# Captures and configuration stay.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/mirrortap $(DESTDIR)$(LIB)/systemd/system/mirrortap.service \
		$(DESTDIR)$(LIB)/systemd/system/mirrortap.socket $(DESTDIR)$(LIB)/sysusers.d/mirrortap.conf $(DESTDIR)$(LIB)/tmpfiles.d/mirrortap.conf \
		$(DESTDIR)$(LIB)/sysctl.d/60-mirrortap.conf $(DESTDIR)$(SHARE)/man/man1/mirrortap.1 \
		$(DESTDIR)$(SHARE)/bash-completion/completions/mirrortap
	rm -rf $(DESTDIR)$(SHARE)/doc/mirrortap

clean:
	$(CARGO) clean
