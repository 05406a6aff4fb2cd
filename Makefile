# One command for each thing that is done with a checkout. `make` alone lists them.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# Where the demo leaves its files, and how long it runs.
DEMO_DIR ?= $(TARGET_DIR)/demo
DEMO_SECONDS ?= 20
export DEMO_DIR DEMO_SECONDS

.DEFAULT_GOAL := help
.PHONY: help prerequisites build install uninstall demo test test-kernel test-all check fmt clippy docs \
	deny bench clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | \
		while IFS='	' read -r name what; do printf '  make %-14s %s\n' "$$name" "$$what"; done

prerequisites: ## Install the outside tools that the demo and the tests use (apt, as root)
	@scripts/prerequisites demo
	@scripts/prerequisites test

build: ## Build the release binary
	@$(CARGO) build --release --package tapline

# Where `make install` puts things. DESTDIR is put in front, as packagers want it.
PREFIX ?= /usr/local
PROGRAM := $(TARGET_DIR)/release/tapline
BIN := $(DESTDIR)$(PREFIX)/bin
SHARE := $(DESTDIR)$(PREFIX)/share
UNITS := $(DESTDIR)$(PREFIX)/lib/systemd/system

# Builds nothing: it is run as root, who may have no cargo.
install: ## Install program, manual pages, completions, units (after build; PREFIX, DESTDIR)
	@[ -x $(PROGRAM) ] || { echo "there is no $(PROGRAM): run make build first" >&2; exit 1; }
	@install -D -m 755 $(PROGRAM) $(BIN)/tapline
	@install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions \
		$(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	@$(PROGRAM) man $(SHARE)/man/man1
	@$(PROGRAM) completions bash >$(SHARE)/bash-completion/completions/tapline
	@$(PROGRAM) completions zsh >$(SHARE)/zsh/site-functions/_tapline
	@$(PROGRAM) completions fish >$(SHARE)/fish/vendor_completions.d/tapline.fish
	@for unit in packaging/systemd/*.service; do \
		[ ! -e "$$unit" ] || { install -d $(UNITS) && \
		sed 's|/usr/bin/tapline|$(PREFIX)/bin/tapline|' "$$unit" >$(UNITS)/$${unit##*/}; } || exit 1; \
	done

uninstall: ## Remove what install has installed
	@rm -f $(BIN)/tapline $(SHARE)/man/man1/tapline.1 $(SHARE)/man/man1/tapline-*.1 \
		$(SHARE)/bash-completion/completions/tapline $(SHARE)/zsh/site-functions/_tapline \
		$(SHARE)/fish/vendor_completions.d/tapline.fish $(UNITS)/tapline-*.service

demo: ## Run the whole scene in network namespaces (root; DEMO_SECONDS, DEMO_DIR)
	@scripts/prerequisites demo
	@$(CARGO) build --release --package tapline --package s3-server
	@$(CARGO) run --release --quiet --package tapline -- demo

# A job in the background begins with SIGINT ignored, and so would the programs under test.
TESTS_ENV := env --default-signal=INT
TESTS := $(TESTS_ENV) $(CARGO) test --workspace

# Without root nothing is installed: then the tests run all the same, and each says what it skips.
# The tidy tests come last, so that the run closes on a line that counts tests.
test: ## Run all tests (those that need root or an outside tool say when they are skipped)
	@scripts/prerequisites test || [ "$$(id -u)" != 0 ]
	@$(TESTS) --exclude tidy
	@$(TESTS) --test tidy

# What the guest is booted from. CI insists on it; elsewhere the tests say what they skip.
GUEST ?= $(TARGET_DIR)/guest

test-kernel: ## Compare tunnels with those of Debian's kernel, which is booted in QEMU (root)
	@scripts/prerequisites kernel || [ "$$(id -u)" != 0 ]
	@scripts/guest $(GUEST) || [ "$(CI)" != true ]
	@TAPLINE_GUEST=$(abspath $(GUEST)) $(TESTS_ENV) $(CARGO) test --package tapline --test kernel_tunnels -- --nocapture

test-all: test test-kernel ## Run all tests, also those that boot a kernel of their own

check: fmt clippy docs deny test ## Run what CI runs: format, clippy, docs, tests, tidy

fmt:
	@$(CARGO) fmt --all --check

clippy:
	@$(CARGO) clippy --workspace --all-targets -- --deny warnings

docs:
	@RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps

# The bans are also a tidy test, so cargo-deny is used where it is, not asked for.
deny:
	@! command -v cargo-deny >/dev/null || $(CARGO) deny check bans licenses sources

bench: ## Measure, with a table of results (root; BENCH_ARGS)
	@$(CARGO) run --release --package bench -- $(BENCH_ARGS)

clean: ## Remove what was built, and the demo's files
	@$(CARGO) clean
