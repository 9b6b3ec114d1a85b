# Everything from a bare Debian/Ubuntu with Python 3.11: `make demo`, `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
export UNDERTONE_DATA ?= $(abspath ../shared/data)
export UNDERTONE_MODELS ?= $(abspath ../shared/models)

.PHONY: demo demo-live test lint fuzz bench train install install-dev clean

demo: install  ## Replay a conversation of a minute through the whole live path
	$(BIN)/undertone replay deploy/demo/conversation.opus --transcript deploy/demo/conversation.stm --speed 4

demo-live: install  ## The same through a (virtual) microphone; words by ASR
	deploy/install-system-packages.sh --all
	PATH="$(abspath $(BIN)):$$PATH" deploy/virtual-microphone.sh deploy/demo/live.sh

test: install-dev  ## Every test
	$(BIN)/pytest

lint: install-dev  ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: install-dev  ## A hundred thousand bad inputs; the results in runs/fuzz
	$(BIN)/python -m tests.fuzz --inputs 100000
	$(BIN)/python -m tests.fuzz --inputs 20000 --guided --out runs/fuzz/guided

bench: install-dev  ## Measure everything, and write deploy/BENCHMARKS.md anew
	mkdir -p deploy/benchmarks
	$(BIN)/undertone bench all deploy/benchmarks/results.json
	$(BIN)/undertone bench report deploy/benchmarks/results.json --out deploy

train: install-dev  ## Train the shipped checkpoint `meld` anew, in runs/meld
	$(BIN)/undertone train --config meld --out runs/meld

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

# torch first and alone: asked for together with others, pip takes a build with several GB of CUDA packages.
$(VENV)/installed: pyproject.toml constraints.txt
	PYTHON=$(PYTHON) deploy/install-system-packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q torch==2.13.0
	$(PIP) install -q -c constraints.txt -e '.[prosody,serve,export]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	deploy/install-system-packages.sh --all
	$(PIP) install -q -c constraints.txt -e '.[prosody,serve,export,train,bench,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
