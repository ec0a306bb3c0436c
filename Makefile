# `make demo` and `make test` do all set-up themselves (tests/setup.sh says what it installs); `make` lists the others.

# Builds take tens of minutes the first time: one target folder, outside the checkout, serves every clone.
CARGO_TARGET_DIR ?= $(HOME)/.samlora-target
override CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
DEMO ?= $(CARGO_TARGET_DIR)/demo
PORT ?= 8080
BACKBONE ?= vit_b
SIZE ?= 256
DEVICE ?= cpu
THREADS ?= 2

# Trained packages (www/demo/MODEL_CARD.md says on what); `samlora demo` makes one more for drawn scenes.
DEMO_MODELS := $(sort $(dir $(wildcard www/demo/models/*/samlora.json)))
SAMLORA := $(CARGO_TARGET_DIR)/debug/samlora
LOGS := $(CARGO_TARGET_DIR)/logs
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
export CARGO_TARGET_DIR

# Real imagery beside the checkout, where there is some (tests/README.md).
ifndef SAMLORA_DATA
ifneq ($(wildcard ../shared/data/README.md),)
export SAMLORA_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: help
help: ## list these targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "Builds go to $(CARGO_TARGET_DIR) (CARGO_TARGET_DIR)."

.PHONY: demo demo-build
demo: demo-build ## build everything, then serve the page with its places, models and pictures
	@echo "The demo is served at the first address below; Ctrl-C ends it."
	@exec "$(SAMLORA)" serve $(addprefix --model ,$(DEMO_MODELS)) --model "$(DEMO)/package" \
	  --www www/dist --port $(PORT)

demo-build: ## the same without serving
	@tests/setup.sh demo
	cargo build --locked
	cd www && node build.mjs
	"$(SAMLORA)" demo --out "$(DEMO)"
	@rm -rf www/dist/samples && cp -R "$(DEMO)/samples" www/dist/samples
	@www/demo/samples.sh www/dist/samples

.PHONY: test setup format types docs deny lint cuda native web
test: setup format types docs deny lint cuda native wasm web ## every check, cheapest first
	@echo; echo "What each check said last:"
	@grep -hE '^(test result|test [^ ]+ \.\.\. FAILED)' $(LOGS)/native.log
	@grep -hE 'wasm and glue' $(LOGS)/wasm.log
	@grep -hE '^(# |ℹ )(tests|pass|fail|skipped)|^[# ]*left out' $(LOGS)/web.log
	@grep -hE '^left out' $(LOGS)/native.log $(LOGS)/docs.log $(LOGS)/deny.log | sort -u || true
	@echo "format, types and lint: clean"

setup:
	@tests/setup.sh test
	@mkdir -p $(LOGS)

format:
	cargo fmt --check

types:
	cd www && npm run --silent types

# mdBook and cargo-deny: those on PATH, else what tests/setup.sh installed. Where there is neither, the check is left out, and
# with CI set that is a failure.
TOOLS := PATH="$(PATH):$(CARGO_TARGET_DIR)/tools/venv/bin"
left_out = { echo "left out: $(1)" | tee $(LOGS)/$@.log; [ -z "$${CI:-}" ]; }

docs: ## the manual (docs/src) as a book, in docs/book
	@tests/setup.sh tools
	@mkdir -p $(LOGS)
	@export $(TOOLS); if command -v mdbook >/dev/null; then mdbook build docs 2>&1 | tee $(LOGS)/docs.log; \
	  if grep -qE 'WARN|ERROR' $(LOGS)/docs.log; then exit 1; fi; \
	else $(call left_out,the manual as a book (cargo install mdbook)); fi

# Without advisories, whose database is a git repository: .github/workflows/ci.yml asks it.
deny: ## licences, bans and sources of all crates (deny.toml)
	@tests/setup.sh tools
	@mkdir -p $(LOGS)
	@export $(TOOLS); if command -v cargo-deny >/dev/null; then \
	  cargo-deny --locked check --hide-inclusion-graph licenses bans sources 2>&1 | tee $(LOGS)/deny.log; \
	else $(call left_out,the check of dependencies (cargo install cargo-deny)); fi

# In a folder of its own: clippy shares nothing with a build, and so neither waits for the other.
lint: ## clippy, and the linter and formatter of the browser's code (mended by `npm run format` in www)
	cd www && npm run --silent lint
	cargo clippy --locked --all-targets --target-dir "$(CARGO_TARGET_DIR)/lint" -- -D warnings

# burn's CUDA compiler downloads LLVM when it is built, except for docs.rs; a check needs none of it. In a folder of its
# own, because the variable makes other crates compile anew.
cuda: ## compile the CUDA device (a check: nothing is linked or run)
	DOCS_RS=1 cargo check --locked --features cuda --target-dir "$(CARGO_TARGET_DIR)/cuda"

# A missing GPU is a failure where Mesa's software driver is installed, and left out elsewhere; with CI set, nothing is left
# out for want of a GPU or of Python.
native: ## cargo test
	@mkdir -p $(LOGS)
	@if [ -n "$${CI:-}" ] || compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null || \
	  compgen -G '/etc/vulkan/icd.d/lvp_icd*.json' >/dev/null; then export SAMLORA_REQUIRE_GPU=1; fi; \
	python="$(CARGO_TARGET_DIR)/venv/bin/python"; \
	if [ -x "$$python" ]; then export SAMLORA_PYTHON="$${SAMLORA_PYTHON:-$$python}"; fi; \
	if [ -n "$${CI:-}" ] && [ -z "$${SAMLORA_PYTHON:-}" ]; then \
	  echo "with CI set, SAMLORA_PYTHON must name a Python: $$python, which 'make setup' installs, is not there" >&2; exit 1; fi; \
	set -x; cargo test --locked --no-fail-fast -- --show-output 2>&1 | tee $(LOGS)/native.log

.PHONY: wasm
wasm: ## build the browser package and the page, and print their sizes
	@tests/setup.sh demo
	@mkdir -p $(LOGS)
	cd www && node build.mjs 2>&1 | tee $(LOGS)/wasm.log

web: ## the browser's tests, of what `make wasm` and `make native` built
	@mkdir -p $(LOGS)
	@if [ -n "$${CHROMIUM:-}" ] || command -v chromium google-chrome >/dev/null; \
	then set -x; cd www && npm test 2>&1 | tee $(LOGS)/web.log; \
	else echo "left out: the browser's tests, there is no Chromium" | tee $(LOGS)/web.log; fi

.PHONY: bench peers web-bench train-peers full-size demo-model clean
bench: ## time encoder, decoder and tile (BACKBONE=vit_b SIZE=256 DEVICE=cpu THREADS=2)
	@cargo build --locked --quiet
	@"$(SAMLORA)" bench --backbone $(BACKBONE) --size $(SIZE) --device $(DEVICE) --threads $(THREADS)

peers: ## the same encoder in PyTorch and onnxruntime (tests/peers/README.md; downloads 640 MB once)
	@cargo build --locked --quiet
	@python3 tests/peers/encoder.py --samlora "$(SAMLORA)" \
	  --backbone $(BACKBONE) --size $(SIZE) --threads $(THREADS) --rounds 3

# Of what `make wasm` built.
web-bench: ## this package beside onnxruntime-web in one page (BACKBONE=vit_b SIZE=256 THREADS=2; www/bench/README.md)
	@cargo build --locked --quiet
	@node www/bench/run.mjs --samlora "$(SAMLORA)" --backbone $(BACKBONE) --size $(SIZE) --threads $(THREADS)

train-peers: ## the same LoRA training step in PyTorch and here (BACKBONE=vit_b THREADS=2; tests/peers/README.md)
	@cargo build --locked --quiet
	@python3 tests/peers/train_step.py --samlora "$(SAMLORA)" --backbone $(BACKBONE) --size 448 --threads $(THREADS)

full-size: ## export ViT-B, ViT-L and ViT-H with random weights in every scheme; sizes, times, memory, errors
	@cargo build --locked --quiet
	@SAMLORA="$(SAMLORA)" bash tests/full_size.sh

demo-model: ## train the demonstration models again (needs SAMLORA_DATA and ENCODER; ten minutes on two cores)
	@cargo build --locked --quiet
	@SAMLORA="$(SAMLORA)" OUT="$(CARGO_TARGET_DIR)/demo-model" bash tests/train_demo.sh

clean: ## remove what was built of this project; its dependencies stay built
	cargo clean -p samlora
	rm -rf docs/book www/dist www/wasm www/node_modules "$(DEMO)" "$(LOGS)"
