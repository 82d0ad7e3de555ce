# Every habit has a target; `make help` lists them.

CARGO ?= cargo
GO ?= go
LIBRARY_EXTENSION := $(if $(filter Windows_NT,$(OS)),dll,$(if $(filter Darwin,$(shell uname -s)),dylib,so))
LIBRARY_PREFIX := $(if $(filter Windows_NT,$(OS)),,lib)
DEBUG_LIBRARY := $(CURDIR)/target/debug/$(LIBRARY_PREFIX)hnsw_toolbox.$(LIBRARY_EXTENSION)

.DEFAULT_GOAL := help
.PHONY: build build-release test test-rust test-go lint fmt bench interop help

build: ## Build the library, the command line and the dynamic library, for debugging
	$(CARGO) build --workspace --locked

build-release: ## The same, optimised
	$(CARGO) build --workspace --release --locked

test: test-rust test-go ## Run the Rust and the Go tests

test-rust:
	$(CARGO) test --workspace --locked

test-go: build
	cd go && HNSW_TOOLBOX_LIB=$(DEBUG_LIBRARY) $(GO) test ./...

lint: ## Check formatting and lints, of Rust and of Go
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet

fmt: ## Format the code
	$(CARGO) fmt --all

bench: build-release ## Measure extraction, beside the usual way and beside cp
	@echo "not here yet"

interop: build-release ## Let pyarrow, DuckDB and polars read what we write
	tests/interop/run target/release/hnsw-toolbox

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
