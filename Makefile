# `make help` lists the targets. The six on top are for every day.

CARGO ?= cargo
GO ?= go
# ffi/README.md says how the library's versions are named. Windows has no links.
ifeq ($(OS),Windows_NT)
LIBRARY := hnsw_toolbox.dll
EXE := .exe
SONAME = $(LIBRARY)
VERSIONED = $(LIBRARY)
else ifeq ($(shell uname -s),Darwin)
LIBRARY := libhnsw_toolbox.dylib
SONAME = libhnsw_toolbox.$(ABI).dylib
VERSIONED = libhnsw_toolbox.$(ABI).$(VERSION).dylib
else
LIBRARY := libhnsw_toolbox.so
SONAME = $(LIBRARY).$(ABI)
VERSIONED = $(SONAME).$(VERSION)
endif
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
ABI := $(shell sed -n 's/^\#define HNSW_TOOLBOX_ABI_VERSION //p' ffi/include/hnsw_toolbox.h)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
PEERS := benches/peers/Cargo.toml
GRAPHS := benches/graphs/Cargo.toml
INTERFACE := tests/interface/Cargo.toml

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
BASH_COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions
FISH_COMPLETIONS ?= $(PREFIX)/share/fish/vendor_completions.d
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/site-functions
# release or debug
PROFILE ?= release
BUILT := target/$(PROFILE)
BUILD := $(if $(filter debug,$(PROFILE)),build,build-release)

FUZZ_TARGETS := level0 io_modes persist store pickle round_trip build_index search c_abi
TARGET ?= level0
SECONDS ?= 60
CARGO_FUZZ := 0.13.2
FUZZ := RUSTC_BOOTSTRAP=1 $(CARGO) fuzz
# Freed memory kept to detect its use. The default, 256 MB, would not fit the caches of a processor.
FUZZ_ASAN := quarantine_size_mb=16
# These targets run safe Rust only, which cannot use the stack of a function that has returned.
$(foreach target,level0 pickle,$(eval FUZZ_ASAN_$(target) := :detect_stack_use_after_return=0))
FUZZ_BUILD := --codegen-units 16
# Bytes of an input, well above the largest seed; seconds of a run; MiB in total and in one allocation.
FUZZ_LIMITS := -max_len=16384 -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=256

.DEFAULT_GOAL := help
.PHONY: build build-release test test-all test-root sweep kills test-rust test-go test-go-race test-c lint lint-rust lint-go fmt api header package msrv bench \
	install install-lib uninstall archive sbom test-install \
	bench-peers bench-search bench-order bench-export bench-repair bench-report lint-forge lint-words cross-check \
	cargo-fuzz fuzz fuzz-smoke interop interop-chroma deny help

# The features and the profile of tests, because cargo would otherwise compile the library and 26 of its
# dependencies a second time.
build: ## Build the library, the program and the dynamic library, as tests use them
	$(CARGO) build --workspace --profile test --locked --lib --bins --test exports

test: test-rust test-go ## Run the Rust and the Go tests

lint: lint-rust api header lint-go lint-forge lint-words ## Check formatting, lints, the public API, the C header, workflows, charts and words

fmt: ## Format the code
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path $(PEERS)
	$(CARGO) fmt --manifest-path $(GRAPHS)
	$(CARGO) fmt --manifest-path $(INTERFACE)
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml
	gofmt -w *.go go

fuzz: cargo-fuzz ## Fuzz one target of fuzz/fuzz_targets: make fuzz TARGET=level0 SECONDS=60
	mkdir -p fuzz/corpus/$(TARGET) fuzz/regressions/$(TARGET)
	ASAN_OPTIONS=$(FUZZ_ASAN)$(FUZZ_ASAN_$(TARGET)):$$ASAN_OPTIONS $(FUZZ) run $(FUZZ_BUILD) $(TARGET) fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) fuzz/regressions/$(TARGET) -- \
		$(FUZZ_LIMITS) -max_total_time=$(SECONDS) -print_final_stats=1 $(addprefix -seed=,$(SEED)) \
		$(addprefix -dict=,$(wildcard fuzz/dictionaries/$(TARGET).dict))

install: install-lib ## Install everything: make install PREFIX=/usr/local DESTDIR=
	install -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(MANDIR)/man1" "$(DESTDIR)$(BASH_COMPLETIONS)" \
		"$(DESTDIR)$(FISH_COMPLETIONS)" "$(DESTDIR)$(ZSH_COMPLETIONS)"
	install -m 755 $(BUILT)/hnsw-toolbox$(EXE) "$(DESTDIR)$(BINDIR)"
	$(BUILT)/hnsw-toolbox man "$(DESTDIR)$(MANDIR)/man1"
	$(BUILT)/hnsw-toolbox completions bash >"$(DESTDIR)$(BASH_COMPLETIONS)/hnsw-toolbox"
	$(BUILT)/hnsw-toolbox completions fish >"$(DESTDIR)$(FISH_COMPLETIONS)/hnsw-toolbox.fish"
	$(BUILT)/hnsw-toolbox completions zsh >"$(DESTDIR)$(ZSH_COMPLETIONS)/_hnsw-toolbox"

# ---- For releases, benchmarks and .ci/run ----

build-release: ## Build the library, the program and the dynamic library, optimised
	$(CARGO) build --workspace --release --locked

test-rust:
	$(CARGO) test --workspace --locked

# Only the tests of the libraries and of the command line have more cases than `make test` runs.
test-all: ## Run the Rust tests on all of their cases: make test runs a sample
	$(CARGO) test --workspace --locked --lib --test integration -- --include-ignored --skip as_root

test-root: ## Run the Rust tests that mount file systems and change owners, as root
	$(CARGO) test --package hnsw-toolbox --locked --lib as_root -- --ignored

sweep: ## Damage every page of a real database in five ways, and print the unnoticed ones: half an hour
	HNSW_TOOLBOX_SWEEP=1 $(CARGO) test --locked --test integration persist::pages -- --nocapture

test-go: build
	HNSW_TOOLBOX_LIB=$(CURDIR)/target/debug/$(LIBRARY) $(GO) test -count=1 ./...

test-go-race: build
	HNSW_TOOLBOX_LIB=$(CURDIR)/target/debug/$(LIBRARY) CGO_ENABLED=1 $(GO) test -race -count=1 ./...

test-c: build ## Run the C programs, under valgrind
	ffi/c/check.sh target/debug valgrind

# The pkg-config file takes the prefix from its own path, so that an installed tree can be moved. It
# cannot if LIBDIR is not PREFIX/lib.
ifeq ($(LIBDIR),$(PREFIX)/lib)
PC_PREFIX = $${pcfiledir}/../..
PC_LIBDIR = $${prefix}/lib
else
PC_PREFIX = $(PREFIX)
PC_LIBDIR = $(LIBDIR)
endif
ifeq ($(INCLUDEDIR),$(PREFIX)/include)
PC_INCLUDEDIR = $${prefix}/include
else
PC_INCLUDEDIR = $(INCLUDEDIR)
endif

install-lib: $(BUILD) ## Install the dynamic library, its header and its pkg-config file
	install -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(INCLUDEDIR)"
	install -m 755 $(BUILT)/$(LIBRARY) "$(DESTDIR)$(LIBDIR)/$(VERSIONED)"
ifneq ($(VERSIONED),$(LIBRARY))
	ln -sf $(VERSIONED) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/$(LIBRARY)"
endif
	install -m 644 ffi/include/hnsw_toolbox.h "$(DESTDIR)$(INCLUDEDIR)"
	sed -e 's|@PREFIX@|$(PC_PREFIX)|' -e 's|@LIBDIR@|$(PC_LIBDIR)|' \
		-e 's|@INCLUDEDIR@|$(PC_INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		ffi/hnsw-toolbox.pc.in >"$(DESTDIR)$(LIBDIR)/pkgconfig/hnsw-toolbox.pc"

uninstall: ## Remove the installed files: takes the variables of install
	rm -f "$(DESTDIR)$(BINDIR)/hnsw-toolbox$(EXE)" "$(DESTDIR)$(MANDIR)"/man1/hnsw-toolbox*.1 \
		"$(DESTDIR)$(BASH_COMPLETIONS)/hnsw-toolbox" \
		"$(DESTDIR)$(FISH_COMPLETIONS)/hnsw-toolbox.fish" \
		"$(DESTDIR)$(ZSH_COMPLETIONS)/_hnsw-toolbox" \
		"$(DESTDIR)$(LIBDIR)/$(VERSIONED)" "$(DESTDIR)$(LIBDIR)/$(SONAME)" \
		"$(DESTDIR)$(LIBDIR)/$(LIBRARY)" "$(DESTDIR)$(LIBDIR)/pkgconfig/hnsw-toolbox.pc" \
		"$(DESTDIR)$(INCLUDEDIR)/hnsw_toolbox.h"

TARGET_NAME ?= $(shell rustc -vV | sed -n 's/^host: //p')
ARCHIVE = hnsw-toolbox-$(VERSION)-$(TARGET_NAME)

archive: ## Pack the installed files for a release: target/archives/hnsw-toolbox-VERSION-TARGET.tar.gz
	rm -rf target/archives/$(ARCHIVE)
	$(MAKE) install DESTDIR=target/archives/$(ARCHIVE) PREFIX=
	install -m 644 CHANGELOG.md LICENSE-APACHE LICENSE-MIT README.md target/archives/$(ARCHIVE)
	tar -czf target/archives/$(ARCHIVE).tar.gz -C target/archives $(ARCHIVE)

CYCLONEDX := 0.5.9

sbom: ## List the crates in the program and the library, as CycloneDX: target/sbom
	$(CARGO) cyclonedx --version 2>/dev/null | grep -q '$(CYCLONEDX)' || \
		$(CARGO) install --locked --quiet --version $(CYCLONEDX) cargo-cyclonedx
	$(CARGO) cyclonedx --format json
	mkdir -p target/sbom
	mv cli/hnsw-toolbox-cli.cdx.json ffi/hnsw-toolbox-ffi.cdx.json target/sbom
	rm hnsw-toolbox.cdx.json

test-install: ## Install into a scratch directory, and run a C and a Go program against it: PROFILE=debug
	ffi/c/check-install.sh $(PROFILE)

lint-rust:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --package hnsw-toolbox --locked -- -D warnings
	$(CARGO) clippy --package hnsw-toolbox --no-default-features --locked -- -D warnings
	for manifest in $(PEERS) $(GRAPHS) $(INTERFACE); do \
		$(CARGO) fmt --manifest-path $$manifest --check && \
		$(CARGO) clippy --manifest-path $$manifest --all-targets --target-dir target/peers --locked -- \
			-D warnings || exit 1; \
	done
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	CUSTOM_LIBFUZZER_PATH=./unused $(CARGO) clippy --manifest-path fuzz/Cargo.toml \
		--target-dir target/fuzz --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet

lint-go:
	test -z "$$(gofmt -l *.go go | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	for os in linux darwin windows; do \
		CGO_ENABLED=0 GOOS=$$os $(GO) build ./... || exit 1; done

lint-forge:
	$(GO) run $(ACTIONLINT) .github/workflows/*.yml
	python3 benches/report.py --check

lint-words:
	.ci/words

CROSS := x86_64-pc-windows-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin

# Only Rust is checked. `true` stands in for the C compilers of other targets.
cross-check: ## Check the Rust code for Windows, macOS and 64-bit ARM
	rustup target add $(CROSS)
	for target in $(CROSS); do \
		env CC_$$(echo $$target | tr - _)=true AR_$$(echo $$target | tr - _)=true RUSTFLAGS="-D warnings" \
			$(CARGO) check --workspace --locked --target $$target --target-dir target/cross || exit 1; \
	done

api: ## Check the list of the public Rust API; record it with make api UPDATE=1
	RUSTDOC=$(CURDIR)/.ci/rustdoc $(CARGO) rustdoc --package hnsw-toolbox --lib --locked --quiet -- \
		-Z unstable-options --output-format json
	UPDATE_API=$(UPDATE) $(CARGO) test --quiet --manifest-path $(INTERFACE) --target-dir target/peers --locked \
		--test public_api

header: ## Check the C header; generate it with make header UPDATE=1
	UPDATE_HEADER=$(UPDATE) $(CARGO) test --quiet --manifest-path $(INTERFACE) --target-dir target/peers --locked \
		--test c_header

package: ## Check which files are published, and build from them; record them with make package UPDATE=1
	UPDATE=$(UPDATE) VERIFY=$(VERIFY) .ci/package

msrv: ## Check that the oldest Rust which Cargo.toml allows is enough
	.ci/msrv

bench: build-release ## Measure extraction, compared with arrow-rs and cp
	$(CARGO) build --release --locked --manifest-path $(PEERS) --target-dir target/peers
	target/peers/release/bench_extract --memory 100000,1000000

bench-repair: build-release ## Measure what repair keeps of an index's recall, its time compared with cp -r, and its memory
	python3 benches/repair/repair.py recall
	python3 benches/repair/repair.py cost
	python3 benches/repair/store.py

bench-import: build-release ## Measure importing a Parquet file, compared with Chroma's add, and its memory
	python3 benches/import/import.py

bench-peers: ## Measure building, compared with hnsw_rs, fast-hnsw, hnswlib, faiss, usearch and VSAG
	python3 benches/graphs/graphs.py

bench-order: build-release ## Measure what the order of rows, equal rows and hard ones do to a graph
	python3 benches/graphs/order.py
	python3 benches/graphs/order.py --hard

bench-search: ## Measure searching, compared with hnswlib and fast-hnsw
	python3 benches/graphs/graphs.py --search --sizes 100000x384,1000000x96

bench-export: build-release ## Measure exporting collections, next to Chroma's get() and to cp
	tests/interop/venv
	$${CARGO_TARGET_DIR:-target}/interop-venv/bin/python benches/export/bench_export.py target/release/hnsw-toolbox

bench-report: ## Write the tables and draw the charts of the documentation from benches/results.json
	python3 benches/report.py

cargo-fuzz:
	$(CARGO) fuzz --version 2>/dev/null | grep -qx 'cargo-fuzz $(CARGO_FUZZ)' || \
		$(CARGO) install --locked --quiet --version $(CARGO_FUZZ) cargo-fuzz

kills: ## Kill a repair in place 300 times: its name must hold a complete store
	KILLS=300 $(CARGO) test --locked -p hnsw-toolbox-cli --test integration -- --nocapture killed_repair_in_place

# From the same seed each time, because a change is judged by the tests that it breaks. `make fuzz` and the
# nightly run explore. Two targets at a time: each runs on one core.
# The target store runs in the nightly workflow only: a run takes a second.
fuzz-smoke: cargo-fuzz ## Fuzz each target for 15 seconds
	$(FUZZ) build $(FUZZ_BUILD)
	printf '%s\n' $(filter-out store,$(FUZZ_TARGETS)) | xargs -P 2 -I TARGET_NAME $(MAKE) fuzz TARGET=TARGET_NAME SECONDS=15 SEED=1

interop: build ## Let pyarrow, pandas, DuckDB and polars read what we write, and compare exports with Chroma
	tests/interop/run target/debug/hnsw-toolbox target/debug/$(LIBRARY)

CHROMA := 0.4.24 0.5.23 0.6.3 1.0.20 1.5.9

interop-chroma: build ## Let releases of Chroma load and work on with what repair writes: CHROMA="0.6.3 1.5.9" FAULTS="none segment-lost"
	FAULTS='$(FAULTS)' tests/interop/chroma/run target/debug/hnsw-toolbox $(CHROMA)

deny: ## Check the dependencies: licences, duplicates, sources, known vulnerabilities
	.ci/deny

help: ## List the targets: the everyday ones above the line
	@awk -F ':.*## ' '/^# ----/ { print "" } /^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
