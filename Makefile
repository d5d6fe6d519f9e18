# What a person types. Every target sets up .venv first when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GEN := .venv-gen
GEN_READY := $(GEN)/.ready

# annoy comes as source only and compiles for the CPU it finds. These flags make what any x86-64 CPU
# since 2009 runs; the wheel cache does not know flags, so it is left out.
ifeq ($(shell uname -m),x86_64)
MARCH := ,-march=x86-64-v2
endif
ANNOY_FLAGS := -D_CRT_SECURE_NO_WARNINGS,-fpermissive,-O3,-ffast-math,-fno-associative-math,-DANNOYLIB_MULTITHREADED_BUILD,-std=c++14$(MARCH)

.PHONY: help setup demo test fuzz soak check format protos bench bench-overload bench-large clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 16

setup: $(READY)  ## Set up .venv with everything for development

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	ANNOY_COMPILER_ARGS="$(ANNOY_FLAGS)" $(BIN)/python -m pip install --quiet --no-cache-dir --constraint constraints.txt annoy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)  ## Train on sample events, start the server, ask it through the SDK
	$(BIN)/python scripts/demo.py

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest

CALLS ?= 100000
fuzz: $(READY)  ## Make CALLS=100000 hostile calls to a server; SEED=N makes those of another run again
	PYTHONPATH=tests/fuzz $(BIN)/python -m fuzzing --calls $(CALLS) $(if $(SEED),--seed $(SEED))

MINUTES ?= 10
soak: $(READY)  ## Serve for MINUTES=10 under load while things go wrong, and print what the server holds
	PYTHONPATH=tests/soak $(BIN)/python -m soaking --minutes $(MINUTES)

check: $(READY) $(GEN_READY)  ## Check format, lint, types, walls, protos, generated code and docs/api.md
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos
	scripts/generate-protos.sh --check

format: $(READY)  ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

protos: $(GEN_READY)  ## Generate the Python code of the protos and docs/api.md anew
	scripts/generate-protos.sh

# Generated code must import under old and new protobuf, so its generator is old and lives apart.
$(GEN_READY): scripts/generate-protos.txt
	test -x $(GEN)/bin/python || $(PYTHON) -m venv $(GEN)
	$(GEN)/bin/python -m pip install --quiet --requirement scripts/generate-protos.txt
	touch $@

bench: $(READY)  ## Print CPU time per call of the server beside the sum of its parts
	$(BIN)/python benchmarks/bench.py

bench-overload: $(READY)  ## Print what a server does when it is offered twice as much as it can do
	$(BIN)/python benchmarks/overload.py

bench-large: $(READY)  ## Print how fast a server of 1,000,000 users and 200,000 items is ready, and its memory
	$(BIN)/python benchmarks/large.py

clean:  ## Remove what was built, not what was trained
	rm -rf $(VENV) $(GEN) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
