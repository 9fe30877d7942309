# `make` alone lists the targets. Everything is set up in .venv on first use; pip's own settings (PIP_*) are honoured.

PYTHON ?= python3
# TORCH_INDEX=URL takes torch from another package index: PyTorch's CPU-only one saves some 3 GB of GPU libraries on Linux.
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find rust -type f)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/built ## train by fast and NeuMF on synthetic data, serve both from Rust, compare with torch, write a report
	$(BIN)/neuralcf demo --out build/demo

.PHONY: test
test: ## run every test, Rust and Python
	cargo test --release --quiet
	$(MAKE) --no-print-directory $(VENV)/built
	$(BIN)/python -m pytest --quiet

.PHONY: test-convert
test-convert: $(VENV)/built ## train by other libraries, convert, compare scores and lists; installs them in build/convert
	tests/convert/run.sh $(PYTHON)

.PHONY: test-scale
test-scale: $(VENV)/built ## run the tests with torchrun, and beside a local Spark and Ray, which need Java 17 or newer
	tests/scale/run.sh $(PYTHON)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet tests/scale/test_torchrun.py

.PHONY: test-checked
test-checked: ## run the Rust tests with overflow checks and debug assertions
	cargo test --quiet

# SECONDS for each of the two targets of fuzz/.
SECONDS := 600

.PHONY: fuzz
fuzz: $(VENV)/built ## run the fuzz tests for longer, then the coverage-guided targets of fuzz/ (SECONDS=600 each)
	NEURALCF_FUZZ=100000 $(BIN)/python -m pytest --quiet tests/python/core/test_fuzz.py tests/python/core/test_fuzz_files.py
	fuzz/run.sh $(SECONDS)

.PHONY: torture
torture: $(VENV)/built ## damage a million files, and make every call fail that can, counting (half an hour)
	NEURALCF_FLIPS=1000000 NEURALCF_FAILING_CALLS=1 NEURALCF_KILLS=300 $(BIN)/python -m pytest --quiet \
		tests/python/format/test_integrity.py tests/python/format/test_save.py \
		tests/python/core/test_failing_calls.py tests/python/core/test_memory.py

.PHONY: test-aarch64
test-aarch64: ## run the Rust tests on an emulated 64-bit ARM processor (needs cross-setup)
	tools/emulate.sh aarch64

.PHONY: test-old-cpu
test-old-cpu: $(VENV)/built ## run the tests of the core on an emulated x86 processor without AVX (needs cross-setup)
	tools/emulate.sh old-cpu $(BIN)/python

.PHONY: cross-setup
cross-setup: ## install, as root, the emulators and the ARM tools, from Debian's packages
	tools/emulate.sh setup

.PHONY: check-windows
check-windows: ## check that the core and the binding compile for Windows
	rustup target add x86_64-pc-windows-gnu
	cargo clippy --quiet --workspace --target x86_64-pc-windows-gnu -- -D warnings

.PHONY: lint
lint: $(VENV)/built ## check format, types, docs, the stub, licences and workflows
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --document-private-items
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_wrap.py
	$(BIN)/python tools/crates.py --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest neuralcf._core
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

# The site's tools have an environment of their own; without the package itself, since the reference is read from sources.
.PHONY: site
site: ## build the documentation site, links checked, in build/site/html
	test -x build/site-tools/bin/zensical || $(PYTHON) -m venv build/site-tools
	build/site-tools/bin/pip install --quiet zensical mkdocstrings-python
	build/site-tools/bin/python tools/site.py build/site

.PHONY: bench
bench: $(VENV)/built ## run all benchmarks except the peers (see benches/README.md)
	cargo bench --profile wheel
	$(BIN)/python -m pytest benches
	$(BIN)/python -m benches.core.fork_memory
	$(BIN)/python -m benches.core.scaling
	$(BIN)/python -m benches.data.bench_read

.PHONY: bench-peers
bench-peers: $(VENV)/built ## compare with torch, ONNX Runtime and OpenVINO; keep figures and a plot in build/peers
	$(BIN)/pip install --quiet 'neuralcf[peers]'
	$(BIN)/python -m benches.peers.run --record build/peers

.PHONY: bench-dots
bench-dots: $(VENV)/built ## compare dot products with faiss, usearch, implicit and torch; keep figures and a plot in build/peers
	$(BIN)/pip install --quiet 'neuralcf[peers]'
	$(BIN)/python -m benches.peers.dots --record build/peers

.PHONY: bench-index
bench-index: $(VENV)/built ## draw recall against time beside hnswlib, faiss and usearch; keep figures and a plot in build/peers (an hour)
	$(BIN)/pip install --quiet 'neuralcf[peers]'
	$(BIN)/python -m benches.index.curves --record build/peers

.PHONY: bench-quality
bench-quality: $(VENV)/built ## rank beside baselines, implicit's ALS and LightGCN; keep a table in build/quality (hours, resumable)
	$(BIN)/pip install --quiet 'neuralcf[quality]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benches.quality --out build/quality

.PHONY: format
format: $(VENV)/built ## format all code
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

.PHONY: wheel
wheel: $(VENV)/tools ## build a wheel into dist/
	$(BIN)/maturin build --profile wheel --out dist

.PHONY: wheels
wheels: ## build what is published into dist/: the sdist, and wheels for old Linux, x86-64 and ARM (zig from PyPI)
	tools/wheels.sh $(PYTHON)

.PHONY: test-wheels
test-wheels: ## audit what `make wheels` built, build it again, run it with an old glibc and on emulated ARM (root on Debian)
	tests/wheels/run.sh $(PYTHON)

.PHONY: clean
clean: ## remove what the targets made
	rm -rf $(VENV) target build dist python/neuralcf/*.so

$(VENV)/built: $(VENV)/tools $(RUST_SOURCES)
ifneq ($(TORCH_INDEX),)
	$(BIN)/pip install --quiet --index-url $(TORCH_INDEX) torch
endif
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet --extras train,plot,serve,test,lint
	@touch $@

$(VENV)/tools:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet maturin
	@touch $@
